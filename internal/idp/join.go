package idp

import (
	"encoding/json"
	"errors"
	"maps"
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
