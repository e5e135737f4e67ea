package idp

import (
	"errors"
	"fmt"
)

// ErrUnreachable means that the provider could not be reached, did not answer in time, or answered 5xx or 429. Trying
// again later may help.
var ErrUnreachable = errors.New("provider unreachable")

// An Error is an error response of the token or revocation endpoint (RFC 6749 5.2, RFC 7009 2.2.1).
type Error struct {
	Code        string
	Description string `json:"-"` // the provider's words, which may repeat what an attacker sent
	Status      int    // of HTTP
	// Raw has the members beside error, error_description and error_uri. It may hold secrets.
	Raw map[string]any `json:"-"`
}

// Error prints code and status alone.
func (e *Error) Error() string {
	s := fmt.Sprintf("provider answered %.64q with status %d", e.Code, e.Status)
	if e.Code == "invalid_client" {
		s += ": check the client secret, and whether AuthStyle is the method registered for this client"
	}
	return s
}

// GoString is Error, so that %#v does not print Raw.
func (e *Error) GoString() string { return e.Error() }

// A TokenError says which check an ID token failed.
type TokenError struct {
	// Check is the name of the check: missing, size, malformed, duplicate, alg, type, crit, signature, issuer,
	// audience, azp, subject, expired, not_before, issued_at, nonce, at_hash, auth_time, acr, organization or tenant.
	Check string
	// Reason is for a log. It has no nonce and no token in it.
	Reason string
}

// Error names the check and the reason.
func (e *TokenError) Error() string { return "id token refused (" + e.Check + "): " + e.Reason }

// Denied says whether the token is genuine but the login is not the one that was asked for: too long ago, with too
// weak a method, for another organization, or by a user of a tenant that is not allowed.
func (e *TokenError) Denied() bool {
	return e.Check == "auth_time" || e.Check == "acr" || e.Check == "organization" || e.Check == "tenant"
}

func refuse(check, format string, args ...any) error {
	return &TokenError{Check: check, Reason: fmt.Sprintf(format, args...)}
}

// A UserInfoError says why an answer of the UserInfo endpoint was refused.
type UserInfoError struct {
	Status int // of HTTP; 0 if no answer was had
	Reason string
}

// Error gives the reason.
func (e *UserInfoError) Error() string { return "userinfo refused: " + e.Reason }
