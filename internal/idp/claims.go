package idp

import (
	"errors"
	"slices"
	"strings"
	"time"
)

// checkClaims makes the checks of Core 3.1.3.7 over exact claim names. go-oidc has made some of them, but knows no
// azp, leeway or trusted audiences, takes names in any case, and accepts Google's issuer without its scheme.
func (p *Provider) checkClaims(c object, h header, e Expect) (*IDToken, error) {
	var t IDToken
	for _, err := range []error{
		p.checkIssuer(c, &t),
		p.checkAudience(c, h),
		p.checkSubject(c, &t),
		p.checkTimes(c, &t),
		checkNonce(c, e),
		checkAccessToken(c, h, e.AccessToken),
		readSession(c, &t),
	} {
		if err != nil {
			return nil, err
		}
	}
	// Last, so that a login is only called the wrong one once the token is known to be right.
	for _, err := range []error{
		p.checkTenant(c, &t), p.checkAuthTime(e, t.AuthTime), checkACR(c, e), checkOrganization(c, e),
	} {
		if err != nil {
			return nil, err
		}
	}
	return &t, nil
}

func (p *Provider) checkIssuer(c object, t *IDToken) (err error) {
	want, err := p.issuerOf(c)
	if err != nil {
		return err
	}
	t.Issuer, err = c.text("iss")
	if err != nil || t.Issuer != want {
		return refuse("issuer", "iss is %.256q and not %q: %s", t.Issuer, want, issuerRemedy(t.Issuer))
	}
	return nil
}

// audiences returns aud, a string or an array of strings (RFC 7519 4.1.3).
func audiences(c object) ([]string, error) {
	if one, err := c.text("aud"); err == nil && one != "" {
		return []string{one}, nil
	}
	return c.texts("aud")
}

func (p *Provider) checkAudience(c object, h header) error {
	list, err := audiences(c)
	if err != nil {
		return refuse("audience", "aud is neither a string nor an array of strings")
	}
	if !slices.Contains(list, p.cfg.ClientID) {
		return refuse("audience", "aud is %.256q, without the client id %q", list, p.cfg.ClientID)
	}
	for _, a := range list {
		if a != p.cfg.ClientID && (p.cfg.TrustedAudience == nil || !p.cfg.TrustedAudience(a)) {
			return refuse("audience", "aud has %.256q, which is not trusted", a)
		}
	}
	if macSize(h.alg) > 0 && len(list) > 1 {
		// Core 3.1.3.7 (8): each of them would have to share the secret.
		return refuse("audience", "it has several audiences and is signed with %s", h.alg)
	}
	azp, err := c.text("azp")
	if err != nil || c.has("azp") && azp != p.cfg.ClientID && (azp == "" || !slices.Contains(p.cfg.AuthorizedParties, azp)) {
		return refuse("azp", "azp is %.256q and neither the client id %q nor in AuthorizedParties", azp, p.cfg.ClientID)
	}
	return nil
}

func (p *Provider) checkSubject(c object, t *IDToken) (err error) {
	t.Subject, err = c.text("sub")
	switch {
	case err != nil:
		return refuse("subject", "%v", err)
	case t.Subject == "":
		return refuse("subject", "sub is missing")
	case len(t.Subject) > p.cfg.MaxSubjectLength:
		return refuse("subject", "sub is longer than %d characters; see MaxSubjectLength", p.cfg.MaxSubjectLength)
	case strings.ContainsFunc(t.Subject, func(r rune) bool { return r < ' ' || r > '~' }):
		return refuse("subject", "sub has characters that are not printable ASCII")
	}
	return nil
}

func (p *Provider) checkTimes(c object, t *IDToken) error {
	now, leeway, maxAge := time.Now(), p.cfg.ClockSkew, p.cfg.MaxIDTokenAge
	exp, err := c.date("exp")
	switch {
	case err != nil:
		return refuse("expired", "%v", err)
	case exp.IsZero():
		return refuse("expired", "exp is missing")
	case !now.Before(exp.Add(leeway)):
		return refuse("expired", "it expired %s ago, and %s are allowed: %s", since(now, exp), leeway, checkClock)
	}
	if err := p.checkNotBefore(c); err != nil {
		return err
	}
	t.IssuedAt, err = p.issuedAt(c)
	switch {
	case err != nil:
		return err
	case maxAge > 0 && now.Sub(t.IssuedAt) > maxAge:
		return refuse("issued_at", "iat is %s old, and %s are allowed: %s, or raise MaxIDTokenAge",
			since(now, t.IssuedAt), maxAge, checkClock)
	}
	return nil
}

// checkNotBefore refuses a token that is not valid yet, if it says so.
func (p *Provider) checkNotBefore(c object) error {
	now, leeway := time.Now(), p.cfg.ClockSkew
	nbf, err := c.date("nbf")
	switch {
	case err != nil:
		return refuse("not_before", "%v", err)
	case nbf.After(now.Add(leeway)):
		return refuse("not_before", "nbf is %s ahead, and %s are allowed: %s", since(nbf, now), leeway, checkClock)
	}
	return nil
}

// issuedAt returns when a token was issued, which is not in the future.
func (p *Provider) issuedAt(c object) (time.Time, error) {
	now, leeway := time.Now(), p.cfg.ClockSkew
	iat, err := c.date("iat")
	switch {
	case err != nil:
		return iat, refuse("issued_at", "%v", err)
	case iat.IsZero():
		return iat, refuse("issued_at", "iat is missing")
	case iat.After(now.Add(leeway)):
		return iat, refuse("issued_at", "iat is %s ahead, and %s are allowed: %s", since(iat, now), leeway, checkClock)
	}
	return iat, nil
}

// since returns the time from b to a for a message.
func since(a, b time.Time) time.Duration { return a.Sub(b).Round(time.Second) }

func checkNonce(c object, e Expect) error {
	nonce, err := c.text("nonce")
	// An empty expectation is a mistake of ours, and must not match a token without a nonce.
	if err != nil || e.Nonce == "" || !equal(nonce, e.Nonce) {
		return refuse("nonce", "its nonce is not the one sent")
	}
	return nil
}

// checkAccessToken compares at_hash if the token has one (Core 3.1.3.8). What cannot be compared is refused (OIDC-25).
func checkAccessToken(c object, h header, accessToken string) error {
	got, err := c.text("at_hash")
	if err == nil && !c.has("at_hash") {
		return nil
	}
	want, known := halfHash(h.alg, accessToken)
	if err != nil || !known || !equal(got, want) {
		return refuse("at_hash", "at_hash does not fit the access token")
	}
	return nil
}

// readSession reads what the session is made of beside issuer and subject.
func readSession(c object, t *IDToken) error {
	var errSID, errAuth, errEnd error
	t.SID, errSID = c.text("sid")
	t.AuthTime, errAuth = c.date("auth_time")
	t.SessionExpiry, errEnd = c.date("session_expiry")
	if err := errors.Join(errSID, errAuth, errEnd); err != nil {
		return refuse("malformed", "%v", err)
	}
	return nil
}

func (p *Provider) checkAuthTime(e Expect, at time.Time) error {
	if !e.HasMaxAge {
		return nil
	}
	now, leeway := time.Now(), p.cfg.ClockSkew
	switch {
	case at.IsZero():
		return refuse("auth_time", "max_age was sent but auth_time is missing")
	case at.After(now.Add(leeway)):
		return refuse("auth_time", "auth_time is %s ahead, and %s are allowed: %s", since(at, now), leeway, checkClock)
	case now.Sub(at)-leeway > e.MaxAge:
		return refuse("auth_time", "auth_time is %s ago, and max_age was %s", since(now, at), e.MaxAge)
	}
	return nil
}

func checkACR(c object, e Expect) error {
	if len(e.ACR) == 0 {
		return nil
	}
	acr, err := c.text("acr")
	if err != nil || acr == "" || !slices.Contains(e.ACR, acr) {
		return refuse("acr", "acr is %.64q and not one of %q", acr, e.ACR)
	}
	return nil
}

// checkOrganization compares Auth0's org_id or, for an organization asked for by name, org_name in lower case.
func checkOrganization(c object, e Expect) error {
	if e.Organization == "" {
		return nil
	}
	claim, want := "org_name", strings.ToLower(e.Organization)
	if strings.HasPrefix(e.Organization, "org_") {
		claim, want = "org_id", e.Organization
	}
	got, err := c.text(claim)
	if claim == "org_name" {
		got = strings.ToLower(got)
	}
	if err != nil || got != want {
		return refuse("organization", "%s is %.64q and not %q", claim, got, want)
	}
	return nil
}
