package idp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"
)

var errDuplicate = errors.New("a member occurs twice")

// object is a JSON object by exact member names. Decoding into a struct would match them in any case and let the last
// of several win, so that two readers of one token could see two issuers (THR-32).
type object map[string]json.RawMessage

func parseObject(data []byte) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	o := object{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, errors.New("not valid JSON")
		}
		name, ok := token.(string)
		if !ok {
			return nil, errors.New("not valid JSON")
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, errors.New("not valid JSON")
		}
		if _, twice := o[name]; twice {
			return nil, errDuplicate
		}
		o[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, errors.New("not valid JSON")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return o, nil
}

// has says whether the member is there. A null is as good as none.
func (o object) has(name string) bool {
	v, ok := o[name]
	return ok && string(v) != "null"
}

// text returns a string member, "" if it is absent.
func (o object) text(name string) (string, error) {
	var s string
	if !o.has(name) {
		return "", nil
	}
	if err := json.Unmarshal(o[name], &s); err != nil {
		return "", fmt.Errorf("%s is not a string", name)
	}
	return s, nil
}

// texts returns a member that is an array of strings, nil if it is absent.
func (o object) texts(name string) ([]string, error) {
	if !o.has(name) {
		return nil, nil
	}
	// Pointers, because a null among strings would otherwise read as an empty one.
	var list []*string
	if err := json.Unmarshal(o[name], &list); err != nil {
		return nil, fmt.Errorf("%s is not an array of strings", name)
	}
	out := make([]string, 0, len(list))
	for _, s := range list {
		if s == nil {
			return nil, fmt.Errorf("%s is not an array of strings", name)
		}
		out = append(out, *s)
	}
	return out, nil
}

// truth returns a boolean member, false if it is absent.
func (o object) truth(name string) (bool, error) {
	var b bool
	if !o.has(name) {
		return false, nil
	}
	if err := json.Unmarshal(o[name], &b); err != nil {
		return false, fmt.Errorf("%s is not true or false", name)
	}
	return b, nil
}

// maxSeconds is the end of the year 9999: later times are cut to it, so that no arithmetic overflows.
const maxSeconds = 253402300799

// seconds returns a member that is a JSON number of seconds, cut to [0, maxSeconds]. ok is false if it is absent.
func (o object) seconds(name string) (s int64, ok bool, err error) {
	if !o.has(name) {
		return 0, false, nil
	}
	var n json.Number
	raw := o[name]
	// json.Number takes quoted numbers as well: a NumericDate is never quoted (RFC 7519 2).
	if raw[0] == '"' || json.Unmarshal(raw, &n) != nil {
		return 0, false, fmt.Errorf("%s is not a number", name)
	}
	s, err = cutSeconds(n.String())
	if err != nil {
		return 0, false, fmt.Errorf("%s is not a number", name)
	}
	return s, true, nil
}

func cutSeconds(n string) (int64, error) {
	f, err := strconv.ParseFloat(n, 64)
	if err != nil && !math.IsInf(f, 0) {
		return 0, err
	}
	return int64(min(max(f, 0), maxSeconds)), nil
}

// date returns a NumericDate (RFC 7519 2), the zero time if it is absent.
func (o object) date(name string) (time.Time, error) {
	s, ok, err := o.seconds(name)
	if err != nil || !ok {
		return time.Time{}, err
	}
	return time.Unix(s, 0), nil
}
