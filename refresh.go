package oidcauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/oidcauth/oidcauth/internal/cookie"
	"github.com/oidcauth/oidcauth/internal/idp"
	"github.com/oidcauth/oidcauth/internal/ledger"
)

// granted are the tokens of a session since its last grant, which its requests share. They are never changed.
type granted struct {
	cookie.Tokens                // of Values those that BeforeSave set at a refresh, nil ones to be deleted
	end           int64          // of the session, 0 if no refresh has said so
	refused       map[string]int // by audience: how many tokens in a row an API has refused
	probed        time.Time      // when the login's own was last tried for want of better knowledge; for grants alone
}

// tooYoung says whether a is so new that another one would be refused as well: less than 30 seconds old, or after two
// refusals in a row less than five minutes (S39).
func (g *granted) tooYoung(a *cookie.AccessToken) bool {
	wait := 30 * time.Second
	if g.refused[a.Audience] >= 2 {
		wait = 5 * time.Minute
	}
	return time.Since(time.Unix(a.Issued, 0)) < wait
}

// errOver says of an ErrLoginRequired that the session has ended with it.
var errOver = errors.New("the session has ended")

// grant spends the refresh token of g. It runs once for all requests that wait, and after they have gone.
func (c *Client) grant(ctx context.Context, s *Session, g *granted, w want, refused bool) ledger.Result[*granted] {
	next, err := c.refresh(ctx, s, g, w, refused)
	result := ledger.Result[*granted]{Tokens: next, Changed: next != nil, Err: err}
	if err == nil {
		c.event(ctx, "session.refreshed", "", s, nil)
		return result
	}
	e, answered := errors.AsType[*idp.Error](err)
	switch {
	case errors.Is(err, errOver):
		result.Dead = true
	case errors.Is(err, cookie.ErrTooLarge):
		result.Err = refuse("session_too_large", err)
	case answered && !errors.Is(err, idp.ErrUnreachable):
		result = c.refused(ctx, s, g, w, e)
	default: // perhaps it has been carried out: the session stays, and it is tried again later (S05)
		result.Outage, result.Err = next == nil, loginError("refresh_failed", err)
	}
	c.event(ctx, "refresh.failed", "", s, result.Err)
	if result.Dead {
		c.event(ctx, "session.ended", "", s, nil)
	}
	return result
}

// refused says what an error response means (S16).
func (c *Client) refused(ctx context.Context, s *Session, g *granted, w want, e *idp.Error) ledger.Result[*granted] {
	err := providerError(e)
	switch e.Kind() {
	case idp.Ended:
		if w.own {
			return ledger.Result[*granted]{Dead: true, Err: fmt.Errorf("%w: %w: %w", ErrLoginRequired, errOver, err)}
		}
		if time.Since(g.Issued()) < time.Minute || time.Since(g.probed) < time.Minute {
			break
		}
		g.probed = time.Now()
		// Of this audience alone, or of all? The login's own tells.
		if own := c.grant(ctx, s, g, c.want(g.Access, &TokenOptions{}, 0), false); own.Dead || own.Changed {
			own.Err = cmp.Or(own.Err, err)
			return own
		}
	case idp.Interaction:
		err = fmt.Errorf("%w: %w", ErrLoginRequired, err)
	case idp.MFA:
		err = fmt.Errorf("%w: %w", ErrMFARequired, err)
	}
	return ledger.Result[*granted]{Err: err}
}

// refresh asks the provider for the tokens that follow those of g. With an error it returns tokens only if the provider
// has replaced the refresh token all the same.
func (c *Client) refresh(ctx context.Context, s *Session, g *granted, w want, refused bool) (*granted, error) {
	request := idp.RefreshRequest{
		RefreshToken: g.Refresh, Scope: w.Scope, AudienceParam: string(c.opts.AudienceParam), Audience: w.Audience,
	}
	if w.own {
		request.Scope = "" // which means what was granted at the login (RFC 6749 6)
	}
	t, err := c.provider.Refresh(ctx, request)
	if err != nil && (t == nil || t.RefreshToken == "") {
		return nil, err
	}
	next := *g
	next.Refresh = cmp.Or(t.RefreshToken, g.Refresh) // RFT-02
	if err != nil {
		return &next, err
	}
	if w.current { // what s has of these values is what was set last
		own, err := s.secrets()
		if err != nil {
			return nil, err
		}
		next.Values = map[string][]byte{}
		for key := range g.Values {
			next.Values[key] = own.Values[key]
		}
	}
	next.refused = map[string]int{}
	maps.Copy(next.refused, g.refused)
	next.refused[w.Audience]++
	if !refused {
		delete(next.refused, w.Audience)
	}
	next.Access = cookie.Renew(g.Access, cookie.AccessToken{
		Token: t.AccessToken, Type: t.TokenType, Audience: w.Audience, Scope: t.Scope, Requested: w.Scope,
		Expiry: cookie.Unix(t.Expiry), Issued: time.Now().Unix(),
	})
	if err := c.refreshClaims(ctx, s, &next, t); err != nil {
		c.revoke(ctx, next.Refresh)
		return nil, err
	}
	if err := c.fits(s, &next); err != nil {
		kept := *g // but for what is spent
		kept.Refresh = next.Refresh
		return &kept, err
	}
	return &next, nil
}

// refreshClaims takes over the claims of a refreshed ID token (OpenID Connect Core 12.2). What is wrong in it ends the
// session; what cannot be checked now, or is only odd, leaves the claims as they were (RFT-03, S05).
func (c *Client) refreshClaims(ctx context.Context, s *Session, next *granted, t *idp.Tokens) (err error) {
	if t.IDToken == "" {
		return nil // RFT-04
	}
	defer func() {
		if recover() != nil { // the old refresh token is spent, so there is no way back
			err = fmt.Errorf("%w: %w: a hook panicked", ErrLoginRequired, errOver)
		}
	}()
	id, err := c.provider.VerifyRefreshed(ctx, t.IDToken, idp.ExpectRefreshed{Subject: s.Subject, AccessToken: t.AccessToken})
	if errors.Is(err, idp.ErrUnverified) {
		c.event(ctx, "refresh.mismatch", "", s, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w: %w", ErrLoginRequired, errOver, err)
	}
	claims, changed, odd, err := idp.RefreshClaims(next.Claims, id.Payload)
	if err != nil {
		return fmt.Errorf("%w: %w: %w", ErrLoginRequired, errOver, err)
	}
	if len(odd) > 0 {
		c.event(ctx, "refresh.mismatch", "", s, fmt.Errorf("the refreshed ID token has another %s", strings.Join(odd, ", ")))
	}
	next.Claims, next.UserInfo = claims, idp.OlderUserInfo(next.UserInfo, id.Payload)
	if next.IDToken = t.IDToken; c.opts.DropIDToken {
		next.IDToken = ""
	}
	if !id.SessionExpiry.IsZero() {
		end := id.SessionExpiry.Add(30 * time.Second).Unix()
		if next.end == 0 || end < next.end {
			next.end = end
		}
		if time.Now().Unix() >= end {
			return fmt.Errorf("%w: %w: session_expiry has passed", ErrLoginRequired, errOver)
		}
	}
	if !changed || c.opts.BeforeSave == nil {
		return nil
	}
	return c.beforeSave(ctx, s, next)
}

// beforeSave lets the application see claims that have changed. What it sets is for every request of the session.
func (c *Client) beforeSave(ctx context.Context, s *Session, next *granted) error {
	tokens, err := next.over(s)
	if err != nil {
		return err
	}
	before := maps.Clone(tokens.Values)
	_, err = c.draft(s.sealed, tokens, func(d *Session) error { return c.opts.BeforeSave(ctx, d) })
	if err != nil && !errors.Is(err, cookie.ErrTooLarge) {
		return fmt.Errorf("%w: %w: BeforeSave: %w", ErrLoginRequired, errOver, err)
	}
	next.Values = cookie.Changes(next.Values, before, tokens.Values)
	return nil
}

// over returns the tokens of g with the values of s, and over them those of g.
func (g *granted) over(s *Session) (*cookie.Tokens, error) {
	own, err := s.secrets()
	if err != nil {
		return nil, err
	}
	tokens := g.Tokens
	tokens.Values = cookie.Change(own.Values, g.Values)
	return &tokens, nil
}

// fits says whether the cookie takes g.
func (c *Client) fits(s *Session, g *granted) error {
	tokens, err := g.over(s)
	if err != nil {
		return err
	}
	_, err = c.seal(s.sealed, tokens, true)
	return err
}
