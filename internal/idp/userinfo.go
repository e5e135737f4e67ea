package idp

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
)

// UserInfo returns the claims of the UserInfo endpoint (Core 5.3) as a JSON object without duplicate members. Its sub
// is present and equal to subject, which is that of the verified ID token.
//
// The errors are *UserInfoError, ErrUnreachable, the context's, or those of [Provider.Metadata].
func (p *Provider) UserInfo(ctx context.Context, accessToken, subject string) ([]byte, error) {
	m, err := p.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	if m.UserInfoEndpoint == "" {
		return nil, &UserInfoError{Reason: "the provider's metadata has no userinfo_endpoint"}
	}
	a, err := p.askUserInfo(ctx, m.UserInfoEndpoint, accessToken)
	if err != nil {
		return nil, err
	}
	claims, err := p.readUserInfo(ctx, m, a, subject)
	if refused, ok := errors.AsType[*TokenError](err); ok {
		// Not an ID token, and callers must not take it for one.
		return nil, &UserInfoError{a.status, "its JWT: " + refused.Reason}
	}
	return claims, err
}

func (p *Provider) askUserInfo(ctx context.Context, target, accessToken string) (*answer, error) {
	const what = "userinfo endpoint"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	req.Header.Set("Authorization", "Bearer "+accessToken)
	req.Header.Set("Accept", "application/json, application/jwt")
	a, err := p.call(req, what, callTimeout, maxUserInfo)
	switch {
	case errors.Is(err, ErrUnreachable) || ctx.Err() != nil:
		return nil, err
	case err != nil:
		return nil, &UserInfoError{Reason: err.Error()}
	case a.unreachable():
		return nil, fmt.Errorf("%s: %w: status %d", what, ErrUnreachable, a.status)
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		// RFC 6750 3: WWW-Authenticate has details, but in words of the provider's that may repeat the token.
		return nil, &UserInfoError{a.status, fmt.Sprintf("the access token was not accepted (status %d): "+
			"check its audience and scopes", a.status)}
	case a.status != http.StatusOK:
		return nil, &UserInfoError{a.status, fmt.Sprintf("status %d", a.status)}
	}
	return a, nil
}

func (p *Provider) readUserInfo(ctx context.Context, m *Metadata, a *answer, subject string) ([]byte, error) {
	kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	isJWT := kind == "application/jwt"
	if !isJWT && p.cfg.UserInfoSigningAlg != "" {
		return nil, &UserInfoError{a.status, "it is not signed, although a signing algorithm is configured"}
	}
	claims := a.body
	if isJWT {
		payload, err := p.openUserInfo(ctx, m, string(a.body))
		if err != nil {
			return nil, err
		}
		claims = payload
	}
	c, err := parseObject(claims)
	if err != nil {
		return nil, &UserInfoError{a.status, "it is unusable: " + err.Error()}
	}
	if isJWT {
		if err := p.checkUserInfoParties(c); err != nil {
			return nil, err
		}
	}
	// Core 5.3.2: without this a swapped access token would bring another user's claims.
	if sub, err := c.text("sub"); err != nil || sub == "" || sub != subject {
		return nil, &UserInfoError{a.status, "its sub is not that of the id token"}
	}
	return claims, nil
}

// openUserInfo verifies the signature of a signed answer (Core 5.3.4).
func (p *Provider) openUserInfo(ctx context.Context, m *Metadata, raw string) ([]byte, error) {
	h, err := parseHeader(raw, p.cfg.userInfoAlgs())
	if err != nil {
		return nil, err
	}
	return p.verifySignature(ctx, m.JWKSURI, fromElsewhere, raw, h)
}

func (p *Provider) checkUserInfoParties(c object) error {
	var t IDToken
	if err := p.checkIssuer(c, &t); err != nil {
		return err
	}
	if err := p.checkTenant(c, &t); err != nil {
		return err
	}
	if aud, err := audiences(c); err != nil || !slices.Contains(aud, p.cfg.ClientID) {
		return refuse("audience", "aud is %.256q, without the client id %q", aud, p.cfg.ClientID)
	}
	return nil
}
