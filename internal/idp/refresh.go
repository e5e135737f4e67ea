package idp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// ErrUnverified means that a refreshed ID token was not verified, and that nothing says it is wrong: its keys could not
// be had just now, or its times are odd. The claims of before stay, and so do the new tokens (S05).
var ErrUnverified = errors.New("refreshed id token not verified")

// A RefreshRequest asks for new tokens (RFC 6749 6). The zero value is refused: there is no token in it. It does not
// print the token.
type RefreshRequest struct {
	RefreshToken string // sent byte for byte
	Scope        string // empty: that of the grant
	// AudienceParam is how the provider wants to be told Audience: "resource" (RFC 8707) or "audience".
	AudienceParam string
	Audience      string // of the access token; empty: that of the grant
}

// Format keeps the token out of what is printed.
func (r RefreshRequest) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "idp.RefreshRequest{Scope: %q, %s: %q, …}", r.Scope, r.AudienceParam, r.Audience)
}

func (r RefreshRequest) form() (url.Values, error) {
	if r.RefreshToken == "" {
		return nil, errors.New("there is no refresh token")
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {r.RefreshToken}}
	if r.Scope != "" {
		form.Set("scope", r.Scope)
	}
	if r.Audience != "" {
		// Any other name might replace one of the members above.
		if r.AudienceParam != "resource" && r.AudienceParam != "audience" {
			return nil, fmt.Errorf("an audience is sent as resource or audience and not as %q", r.AudienceParam)
		}
		form.Set(r.AudienceParam, r.Audience)
	}
	return form, nil
}

// Refresh redeems a refresh token. It is sent once: whether one that got no answer was used is not known, and a second
// use may cost the whole grant. An answer without a refresh token leaves the old one in use. The ID token, if there is
// one, is for [Provider.VerifyRefreshed].
//
// The errors are those of [Provider.Exchange], or one that says what is wrong with r. The tokens that are returned
// along with an error may have a new refresh token, which is to be kept: the old one may be worth nothing any more.
func (p *Provider) Refresh(ctx context.Context, r RefreshRequest) (*Tokens, error) {
	form, err := r.form()
	if err != nil {
		return nil, err
	}
	return p.grant(ctx, form)
}

// ExpectRefreshed is what a refreshed ID token must fit. The zero value matches no token: a subject is required.
type ExpectRefreshed struct {
	Subject     string // of the login
	Issuer      string // of the login; empty: Config.Issuer, which with AllowedTenants matches no token
	AccessToken string // that came with the ID token, for at_hash
}

// VerifyRefreshed verifies the ID token of a refresh (Core 12.2): signature, issuer, audience and subject.
// Its authentication is not compared with the login's: [RefreshClaims] keeps the latter.
//
// An error that is a *TokenError means that the token is wrong, and the session must end. Every other one is
// ErrUnverified, with its cause if that is ErrUnreachable or the context's: the provider's keys or metadata could not
// be had, the token is signed by a key that is newer than those, or its times or at_hash are odd.
func (p *Provider) VerifyRefreshed(ctx context.Context, raw string, e ExpectRefreshed) (*IDToken, error) {
	o, err := p.open(ctx, raw)
	if err != nil {
		return nil, unlessWrong(err)
	}
	t := IDToken{Payload: o.payload}
	for _, err := range []error{
		p.checkIssuer(o.claims, &t),
		p.checkAudience(o.claims, o.header),
		p.checkSubject(o.claims, &t),
		checkSameSubject(t.Subject, e.Subject),
		checkSameIssuer(t.Issuer, cmp.Or(e.Issuer, p.cfg.Issuer)),
		p.checkTenant(o.claims, &t),
	} {
		if err != nil {
			return nil, err
		}
	}
	// Providers backdate, repeat and omit these, which is no reason to end a session.
	for _, err := range []error{
		p.checkTimes(o.claims, &t), readSession(o.claims, &t), checkAccessToken(o.claims, o.header, e.AccessToken),
	} {
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrUnverified, err)
		}
	}
	if o.strict != nil {
		return nil, o.strict
	}
	return &t, nil
}

// checkSameSubject compares a subject, which is not empty, with that of the login. None matches no token.
func checkSameSubject(got, login string) error {
	if got != login {
		return refuse("subject", "sub is not that of the login")
	}
	return nil
}

// checkSameIssuer compares an issuer, which is one of the provider's, with that of the login: subjects of two tenants
// are two users even if they are called the same.
func checkSameIssuer(got, login string) error {
	if got != login {
		return refuse("issuer", "iss is %.256q and not %.256q, that of the login", got, login)
	}
	return nil
}

// unlessWrong makes an error ErrUnverified if it does not say that the token is wrong.
func unlessWrong(err error) error {
	if _, ok := errors.AsType[lagging](err); ok {
		return fmt.Errorf("%w: the provider's keys may be older than it: %v", ErrUnverified, err)
	}
	if _, ok := errors.AsType[*TokenError](err); ok {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnverified, err)
}

// ErrorKind is what an error response to a refresh means for the session (S16).
type ErrorKind int

const (
	// Refused, the zero value, says nothing about the session: client, request or provider are at fault.
	Refused ErrorKind = iota
	// Ended means that the refresh token is of no use any more, if what was asked for is what the login asked for: for
	// another audience or scope some providers say the same and mean the audience.
	Ended
	// Interaction means that the user must sign in or consent again. The refresh token may still be good.
	Interaction
	// MFA means that the user must sign in again with a second factor. The refresh token may still be good.
	MFA
)

// interactions are the values of error (Core 3.1.2.6), and of Entra's suberror, that only the user can do something
// about.
var interactions = map[string]bool{
	"interaction_required": true, "consent_required": true, "login_required": true, "account_selection_required": true,
	"access_denied": true,

	"basic_action": true, "additional_action": true, "message_only": true, "user_password_expired": true,
	"protection_policy_required": true, "device_authentication_failed": true,
}

// Kind classifies an error response to a refresh by its code and by Entra's suberror, never by its description. A
// status that means that the provider is away is Refused, whatever the code.
func (e *Error) Kind() ErrorKind {
	const mfa = "mfa_required"
	suberror, _ := e.Raw["suberror"].(string)
	switch {
	case e.Status >= 500 || e.Status == http.StatusTooManyRequests:
		return Refused
	case e.Code == mfa || suberror == mfa:
		return MFA
	case interactions[e.Code] || interactions[suberror]:
		return Interaction
	case e.Code == "invalid_grant":
		return Ended
	}
	return Refused
}
