// Package params reads the parameters of a request in which none may occur twice (RFC 6749 3.1).
package params

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
)

// MaxSize is how many bytes a query may have, and a form.
const MaxSize = 64 << 10

// ErrMediaType is returned for a body that is no form, ErrTooLarge for one over MaxSize.
var (
	ErrMediaType = errors.New("the body is not application/x-www-form-urlencoded")
	ErrTooLarge  = errors.New("too many parameters")
)

// Parse returns the parameters of a query or form. Its errors quote nothing of raw, which may hold a code.
func Parse(raw string) (map[string]string, error) {
	if len(raw) > MaxSize {
		return nil, ErrTooLarge
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, errors.New("malformed parameters")
	}
	single := make(map[string]string, len(values))
	for name, v := range values {
		if len(v) > 1 {
			return nil, fmt.Errorf("a parameter occurs %d times", len(v))
		}
		single[name] = v[0]
	}
	return single, nil
}

// Read returns the parameters of r's query, and for a POST of its form too. A body without a type is taken for a form.
func Read(w http.ResponseWriter, r *http.Request) (map[string]string, error) {
	query, err := Parse(r.URL.RawQuery)
	if err != nil || r.Method != http.MethodPost {
		return query, err
	}
	body, err := readForm(w, r, cmp.Or(r.Header.Get("Content-Type"), urlencoded))
	if err != nil {
		return nil, err
	}
	form, err := Parse(body)
	if err != nil {
		return nil, err
	}
	for name, value := range form {
		if _, twice := query[name]; twice {
			return nil, errors.New("a parameter occurs in the query and in the body")
		}
		query[name] = value
	}
	return query, nil
}

// Member returns the one member of r's form with that name. Others are not looked at, and neither is the query.
func Member(w http.ResponseWriter, r *http.Request, name string) (string, error) {
	body, err := readForm(w, r, r.Header.Get("Content-Type"))
	if err != nil {
		return "", err
	}
	form, err := url.ParseQuery(body)
	if err != nil {
		return "", errors.New("malformed parameters")
	}
	if n := len(form[name]); n != 1 {
		return "", fmt.Errorf("%s occurs %d times", name, n)
	}
	return form[name][0], nil
}

const urlencoded = "application/x-www-form-urlencoded"

func readForm(w http.ResponseWriter, r *http.Request, contentType string) (string, error) {
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil || mediaType != urlencoded {
		return "", ErrMediaType
	}
	if r.Body == nil { // only in requests that no server made
		return "", nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxSize))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return "", ErrTooLarge
	}
	if err != nil {
		return "", fmt.Errorf("read the body: %w", err)
	}
	return string(body), nil
}
