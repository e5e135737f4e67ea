package idp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// protocol are the claims that say something about the ID token and nothing about the user.
var protocol = map[string]bool{
	"iss": true, "aud": true, "exp": true, "iat": true, "nbf": true, "nonce": true, "at_hash": true, "c_hash": true,
	"azp":       true,
	"auth_time": true, "acr": true, "amr": true, "sid": true, "jti": true, "session_expiry": true,
}

// UserClaims drops the claims about the ID token from claims, and returns them.
func UserClaims(claims map[string]json.RawMessage) map[string]json.RawMessage {
	maps.DeleteFunc(claims, func(name string, _ json.RawMessage) bool { return protocol[name] })
	return claims
}

// JoinClaims adds the claims of UserInfo, if there are any, to those of the ID token. They never replace the subject or
// a claim about the token (OIDC-34), in whatever case they are written. A claim that is null is none.
func JoinClaims(idToken, userInfo []byte) ([]byte, error) {
	if len(idToken) == 0 {
		idToken = []byte("{}")
	}
	if len(userInfo) == 0 {
		return idToken, nil
	}
	all, more := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if err := errors.Join(json.Unmarshal(idToken, &all), json.Unmarshal(userInfo, &more)); err != nil {
		return nil, err
	}
	if all == nil {
		return nil, errors.New("the claims of the ID token are null")
	}
	for name, value := range more {
		if string(value) != "null" && !aboutToken(name) {
			all[name] = value
		}
	}
	return json.Marshal(all)
}

// aboutToken reports whether encoding/json takes name for the subject or a protocol claim when it fills in a struct: it
// matches fields in any case, the long s for an s included, and lets the last member win.
func aboutToken(name string) bool {
	if strings.EqualFold(name, "sub") {
		return true
	}
	for claim := range protocol {
		if strings.EqualFold(name, claim) {
			return true
		}
	}
	return false
}

// OlderUserInfo returns what UserInfo said at the login without the claims that a newer ID token has, which would
// otherwise be hidden by it (see [JoinClaims]). What is no JSON object is returned as it is.
func OlderUserInfo(userInfo, newer []byte) []byte {
	older, err := parseObject(userInfo)
	claims, newErr := parseObject(newer)
	if len(userInfo) == 0 || err != nil || newErr != nil {
		return userInfo
	}
	maps.DeleteFunc(older, func(name string, _ json.RawMessage) bool { return claims.has(name) })
	left, err := json.Marshal(older)
	if err != nil {
		return userInfo
	}
	return left
}

// loginClaims say how and when the user signed in, which no refresh changes (S31, RFT-03).
var loginClaims = []string{"auth_time", "acr", "amr", "sid"}

// RefreshClaims returns what the claims of a session become by a refresh. Login are the session's claims so far, and
// refreshed those of the verified new ID token, perhaps with UserInfo joined to them. The new ones replace the old,
// except that
//   - auth_time, acr, amr and sid, in whatever case they are written, stay as in login, or stay away,
//   - the nonce stays if refreshed has another one, and
//   - what login says about the user stays if refreshed says nothing about the user but the subject.
//
// A claim that is null is none. If nothing had to be kept refreshed itself is returned, byte for byte: callers must not
// change it. Changed says whether claims about the user have other values than in login. Odd names those of auth_time
// and nonce, in this order, that are in both with different values.
//
// Claims that are not a JSON object, that have a member twice or are of another subject are an error.
func RefreshClaims(login, refreshed []byte) (claims []byte, changed bool, odd []string, err error) {
	old, err := parseObject(login)
	if err != nil {
		return nil, false, nil, fmt.Errorf("the claims of the login are %w", err)
	}
	all, err := parseObject(refreshed)
	if err != nil {
		return nil, false, nil, fmt.Errorf("the refreshed claims are %w", err)
	}
	if !all.has("sub") || !sameValue(old, all, "sub") {
		return nil, false, nil, errors.New("the refreshed claims are of another subject")
	}
	for _, name := range []string{"auth_time", "nonce"} {
		if old.has(name) && all.has(name) && !sameValue(old, all, name) {
			odd = append(odd, name)
		}
	}
	claims = refreshed
	if keep(old, all) {
		claims, err = json.Marshal(all)
	}
	return claims, userChanged(old, all), odd, err
}

// keep puts the claims of old that outlive a refresh into all, and reports whether that changed anything.
func keep(old, all object) (kept bool) {
	short := isShort(all)
	for name := range old {
		stays := ofLogin(name) || name == "nonce" && all.has(name) || short && !aboutToken(name)
		if stays && old.has(name) && !sameValue(old, all, name) {
			all[name], kept = old[name], true
		}
	}
	for name := range all {
		if ofLogin(name) && !old.has(name) {
			delete(all, name)
			kept = true
		}
	}
	return kept
}

// isShort reports whether claims say nothing about the user but the subject.
func isShort(claims object) bool {
	for name := range claims {
		if claims.has(name) && !aboutToken(name) {
			return false
		}
	}
	return true
}

// ofLogin reports whether name may be read as one of loginClaims.
func ofLogin(name string) bool {
	return slices.ContainsFunc(loginClaims, func(claim string) bool { return strings.EqualFold(name, claim) })
}

// userChanged reports whether a claim about the user differs.
func userChanged(old, all object) bool {
	for _, o := range []object{old, all} {
		for name := range o {
			if !aboutToken(name) && !sameValue(old, all, name) {
				return true
			}
		}
	}
	return false
}

// sameValue compares a member by value. Numbers keep their digits, because rounded ones would hide a change.
func sameValue(a, b object, name string) bool {
	if !a.has(name) || !b.has(name) {
		return a.has(name) == b.has(name)
	}
	return bytes.Equal(a[name], b[name]) || reflect.DeepEqual(value(a[name]), value(b[name]))
}

// value decodes JSON that is known to be valid.
func value(raw json.RawMessage) (v any) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if dec.Decode(&v) != nil {
		return nil
	}
	return v
}
