package idp

import (
	"encoding/json"
	"errors"
	"maps"
)

// protocol are the claims that say something about the ID token and nothing about the user.
var protocol = map[string]bool{
	"iss": true, "aud": true, "exp": true, "iat": true, "nbf": true, "nonce": true, "at_hash": true, "c_hash": true, "azp": true,
	"auth_time": true, "acr": true, "amr": true, "sid": true, "jti": true, "session_expiry": true,
}

// ProtocolClaim reports whether the claim is about the ID token rather than about the user.
func ProtocolClaim(name string) bool { return protocol[name] }

// JoinClaims adds the claims of UserInfo, if there are any, to those of the ID token. They never replace the subject or a
// claim about the token (OIDC-34).
func JoinClaims(idToken, userInfo []byte) ([]byte, error) {
	if len(idToken) == 0 {
		idToken = []byte("{}")
	}
	if len(userInfo) == 0 {
		return idToken, nil
	}
	var all, more map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(idToken, &all), json.Unmarshal(userInfo, &more)); err != nil {
		return nil, err
	}
	maps.DeleteFunc(more, func(name string, _ json.RawMessage) bool { return protocol[name] || name == "sub" })
	maps.Copy(all, more)
	return json.Marshal(all)
}
