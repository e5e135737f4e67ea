package idp

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	maxLogoutToken = 16 << 10
	maxLogoutID    = 256
	maxSID         = 1024
	// maxLogoutLife is how far ahead an exp may be: its jti has to be remembered for so long. Providers should not ask
	// for more than two minutes (Back-Channel Logout 4).
	maxLogoutLife = time.Hour
	// logoutTimeout is how long a provider that waits for our answer is itself waited for. Some wait for 2.5 s.
	logoutTimeout = 2 * time.Second

	logoutEvent = "http://schemas.openid.net/event/backchannel-logout"
)

// ExpectLogout is what is demanded of a logout token. The zero value demands an exp, and accepts the types that
// [Provider.VerifyLogoutToken] names.
type ExpectLogout struct {
	// MaxAge accepts tokens without exp whose iat is at most this old. 0 or less refuses them, and more than an hour is
	// an hour.
	MaxAge time.Duration
	// RequireTyp refuses tokens that are not typed as logout tokens, which older providers send.
	RequireTyp bool
}

// A LogoutToken is a verified logout token. Subject or SID may be empty, but not both.
type LogoutToken struct {
	Issuer, Tenant string // as in [IDToken]
	Subject, SID   string // whose sessions have ended, and which of them
	ID             string // the jti, which occurs once for an issuer
	IssuedAt       time.Time
	Expires        time.Time // when ID may be forgotten: the token is not accepted from then on
}

// VerifyLogoutToken verifies a logout token (OpenID Connect Back-Channel Logout 1.0 2.6) up to what needs a memory:
// whether its ID has been seen before is for the caller to find out. Anybody may have sent it, so that a token that is
// not well-formed, or claims to be of an issuer that is not configured, causes no request, and others cause few (S39).
// Its typ is logout+jwt, JWT or missing.
//
// An error that has a *TokenError in it means that the token is wrong; to the names of checks it adds sid, jti and
// events. Every other one means that the provider's keys or metadata could not be had within two seconds: it is
// ErrUnreachable, the context's, that of [Config.Validate], or says what is wrong with the document.
func (p *Provider) VerifyLogoutToken(ctx context.Context, raw string, e ExpectLogout) (*LogoutToken, error) {
	if p.cfgErr != nil {
		return nil, p.cfgErr
	}
	t, err := p.verifyLogoutToken(ctx, raw, e)
	if refused, ok := errors.AsType[*TokenError](err); ok {
		return nil, logoutTokenError{refused}
	}
	return t, err
}

// logoutTokenError is a *TokenError that does not speak of an ID token.
type logoutTokenError struct{ refused *TokenError }

func (e logoutTokenError) Error() string {
	return "logout token refused (" + e.refused.Check + "): " + e.refused.Reason
}

func (e logoutTokenError) Unwrap() error { return e.refused }

func (p *Provider) verifyLogoutToken(ctx context.Context, raw string, e ExpectLogout) (*LogoutToken, error) {
	switch {
	case raw == "":
		return nil, refuse("missing", "there is none")
	case len(raw) > maxLogoutToken:
		return nil, refuse("size", "it is longer than %d bytes", maxLogoutToken)
	}
	h, err := readHeader(raw, p.cfg.SigningAlgs)
	if err == nil {
		err = checkLogoutType(h.typ, e.RequireTyp)
	}
	if err == nil {
		err = p.checkClaimedIssuer(raw)
	}
	if err != nil {
		return nil, err
	}
	c, err := p.openLogoutToken(ctx, raw, h)
	if err != nil {
		return nil, err
	}
	return p.checkLogoutClaims(c, h, e)
}

// checkLogoutType refuses other kinds of tokens (RFC 8725 3.11). Media types may lack their application/ (RFC 7515
// 4.1.9), and are written in any case.
func checkLogoutType(typ string, required bool) error {
	accepted := []string{"logout+jwt", "application/logout+jwt"}
	if !required {
		accepted = append(accepted, "JWT", "")
	}
	if !slices.ContainsFunc(accepted, func(a string) bool { return strings.EqualFold(a, typ) }) {
		return refuse("type", "it is typed as %.64q and not as %q", typ, accepted[0])
	}
	return nil
}

// checkClaimedIssuer refuses a token of which nothing is verified yet if it does not even claim to be of this provider:
// nobody shall be asked about it (BCL-27).
func (p *Provider) checkClaimedIssuer(raw string) error {
	parts := strings.Split(raw, ".") // three, as readHeader has seen
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		_, err = base64.RawURLEncoding.DecodeString(parts[2])
	}
	if err != nil {
		return refuse("malformed", "it is not base64url")
	}
	c, err := parseClaims(payload)
	if err != nil {
		return err
	}
	return p.checkTenantIssuer(c, &IDToken{})
}

// checkTenantIssuer checks who has issued a token, with AllowedTenants its tenant too.
func (p *Provider) checkTenantIssuer(c object, t *IDToken) error {
	if err := p.checkIssuer(c, t); err != nil {
		return err
	}
	return p.checkTenant(c, t)
}

// openLogoutToken verifies the signature and returns the claims, which are still to be checked.
func (p *Provider) openLogoutToken(ctx context.Context, raw string, h header) (object, error) {
	// A fetch that takes longer goes on, and serves the next token.
	short, cancel := context.WithTimeout(ctx, logoutTimeout)
	defer cancel()
	m, err := p.Metadata(short)
	if old, _, _ := p.metadata.lookup(); err != nil && old != nil {
		m, err = old, nil // while the new one does not come
	}
	var payload []byte
	if err == nil {
		payload, err = p.verifySignature(short, m.JWKSURI, fromElsewhere, raw, h)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		// Not wrapped: the deadline is none of the caller's.
		return nil, fmt.Errorf("%w within %s: %v", ErrUnreachable, logoutTimeout, err)
	case err != nil:
		return nil, err
	}
	return parseClaims(payload)
}

func (p *Provider) checkLogoutClaims(c object, h header, e ExpectLogout) (*LogoutToken, error) {
	var t LogoutToken
	var id IDToken
	for _, err := range []error{
		p.checkTenantIssuer(c, &id),
		p.checkAudience(c, h),
		p.checkLogoutTimes(c, e.MaxAge, &t),
		checkLogoutID(c, &t),
		p.checkWhom(c, &id),
		checkEvents(c),
		checkNoNonce(c),
	} {
		if err != nil {
			return nil, err
		}
	}
	t.Issuer, t.Tenant, t.Subject, t.SID = id.Issuer, id.Tenant, id.Subject, id.SID
	return &t, nil
}

// checkLogoutTimes checks iat, nbf and exp, or the age of a token without exp if one is given.
func (p *Provider) checkLogoutTimes(c object, maxAge time.Duration, t *LogoutToken) (err error) {
	now, leeway := time.Now(), p.cfg.ClockSkew
	if t.IssuedAt, err = p.issuedAt(c); err != nil {
		return err
	}
	if err := p.checkNotBefore(c); err != nil {
		return err
	}
	exp, err := c.date("exp")
	switch {
	case err != nil:
		return refuse("expired", "%v", err)
	case exp.IsZero() && maxAge <= 0:
		return refuse("expired", "exp is missing: see LogoutTokenMaxAge")
	case exp.IsZero():
		exp = t.IssuedAt.Add(min(maxAge, maxLogoutLife))
	case exp.After(now.Add(maxLogoutLife)):
		return refuse("expired", "exp is %s ahead, and %s are allowed", since(exp, now), maxLogoutLife)
	}
	t.Expires = exp.Add(leeway)
	if !now.Before(t.Expires) {
		return refuse("expired", "it expired %s ago, and %s are allowed: %s", since(now, exp), leeway, checkClock)
	}
	return nil
}

func checkLogoutID(c object, t *LogoutToken) (err error) {
	t.ID, err = c.text("jti")
	switch {
	case err != nil:
		return refuse("jti", "%v", err)
	case t.ID == "":
		return refuse("jti", "jti is missing")
	case len(t.ID) > maxLogoutID:
		return refuse("jti", "jti is longer than %d bytes", maxLogoutID)
	}
	return nil
}

// checkWhom reads whose sessions have ended. A sub is held to what it is held to in an ID token; any text is a sid.
func (p *Provider) checkWhom(c object, t *IDToken) (err error) {
	if !c.has("sub") && !c.has("sid") {
		return refuse("subject", "sub and sid are missing")
	}
	if c.has("sub") {
		if err := p.checkSubject(c, t); err != nil {
			return err
		}
	}
	t.SID, err = c.text("sid")
	switch {
	case err != nil:
		return refuse("sid", "%v", err)
	case t.SID == "" && c.has("sid"):
		return refuse("sid", "sid is empty")
	case len(t.SID) > maxSID:
		return refuse("sid", "sid is longer than %d bytes", maxSID)
	}
	return nil
}

// checkEvents looks for the event that makes a token a logout token (2.4). Others may be there too.
func checkEvents(c object) error {
	events, err := parseObject(c["events"])
	if err != nil {
		return refuse("events", "events is missing or not an object without duplicate members")
	}
	if _, err := parseObject(events[logoutEvent]); err != nil {
		return refuse("events", "the member %s of events is missing or not an object", logoutEvent)
	}
	return nil
}

// checkNoNonce refuses what could be an ID token (2.4): here a null is not as good as none.
func checkNoNonce(c object) error {
	if _, found := c["nonce"]; found {
		return refuse("nonce", "it has a nonce, as ID tokens do")
	}
	return nil
}
