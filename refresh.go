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
	cookie.Tokens                   // without values, which each request has of its own
	changes       map[string]change // of values, by BeforeSave
	kept          bool              // the store has them
	end           int64             // of the session, 0 if no refresh has said so
	refused       map[string]int    // by audience: how many tokens in a row an API has refused
	probed        time.Time         // when the login's own was last tried for want of better knowledge; for grants alone
}

// change is a value that BeforeSave set at a refresh, nil if it deleted it.
type change struct {
	value      []byte
	generation uint64 // that the refresh began
}

// over returns the tokens of g with the values of s, and what has been changed of these since the tokens of s.
func (g *granted) over(s *Session) (*cookie.Tokens, error) {
	own, err := s.secrets()
	if err != nil {
		return nil, err
	}
	changes := map[string][]byte{}
	for key, c := range g.changes {
		if c.generation > s.sealed.Identity.Generation {
			changes[key] = c.value
		}
	}
	tokens := g.Tokens
	tokens.Values = cookie.Change(own.Values, changes)
	return &tokens, nil
}

// tooYoung says whether a is so new that another one would be refused as well: less than 30 seconds old, or after two
// refusals in a row less than five minutes (S39).
func (g *granted) tooYoung(a *cookie.AccessToken) bool {
	wait := 30 * time.Second
	if g.refused[a.Audience] >= 2 {
		wait = 5 * time.Minute
	}
	age := time.Since(time.Unix(a.Issued, 0))
	return 0 <= age && age < wait // a clock that was set back must not keep it young
}

// errOver says of an ErrLoginRequired that the session has ended with it.
var errOver = errors.New("the session has ended")

var errNothingValid = errors.New("the provider gave an access token that has expired already")

// over is the error of a session that cannot go on.
func over(cause error) error { return fmt.Errorf("%w: %w: %w", ErrLoginRequired, errOver, cause) }

// An attempt is one use of a session's refresh token. It runs once for all requests that wait, and after they have gone.
type attempt struct {
	*Client
	ctx     context.Context
	session *Session // of the request that began it
	state   ledger.State[*granted]
	want    want
	refused bool // an API has refused the token at hand
	events  []func()
}

// tell notes an event for when the outcome is saved: no hook must stand between a grant and that.
func (a *attempt) tell(name string, err error) {
	a.events = append(a.events, func() { a.event(a.ctx, name, "", a.session, err) })
}

// run spends the refresh token and says what came of it.
func (a *attempt) run() (result ledger.Result[*granted]) {
	defer func() {
		result.After = func() {
			for _, tell := range a.events {
				tell()
			}
		}
	}()
	next, err := a.refresh()
	result = ledger.Result[*granted]{Tokens: next, Changed: next != nil, Err: err}
	if err == nil {
		a.tell("session.refreshed", nil)
		return result
	}
	e, answered := errors.AsType[*idp.Error](err)
	switch {
	case errors.Is(err, errOver), errors.Is(err, ErrNoSession):
		result.Dead = true
	case errors.Is(err, cookie.ErrTooLarge):
		result.Err = refuse("session_too_large", err)
	case answered && !errors.Is(err, idp.ErrUnreachable):
		told := len(a.events)
		if result = a.answered(e); result.Dead && len(a.events) > told {
			return result // the probe has told all
		}
	default: // perhaps it has been carried out: the session stays, and it is tried again later (S05)
		result.Outage, result.Err = next == nil, loginError("refresh_failed", err)
	}
	a.tell("refresh.failed", result.Err)
	if result.Dead {
		a.forget()
		a.tell("session.ended", nil)
	}
	return result
}

// answered says what an error response means (S16).
func (a *attempt) answered(e *idp.Error) ledger.Result[*granted] {
	err, g := providerError(e), a.state.Tokens
	switch e.Kind() {
	case idp.Ended:
		theirs, lookErr := a.lost()
		if theirs != nil || lookErr != nil {
			return ledger.Result[*granted]{Tokens: theirs, Changed: theirs != nil, Err: lookErr, Outage: lookErr != nil}
		}
		if a.want.own {
			return ledger.Result[*granted]{Dead: true, Err: over(err)}
		}
		if time.Since(g.Issued()) < time.Minute || time.Since(g.probed) < time.Minute {
			break
		}
		g.probed = time.Now()
		// Of this audience alone, or of all? The login's own tells.
		probe := *a
		probe.want, probe.refused = a.want.loginsOwn(g.Access), false
		own := probe.run()
		if a.events = probe.events; own.Dead || own.Changed {
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

// refresh asks the provider for the tokens that follow. With an error it returns tokens only if the provider has
// replaced the refresh token all the same.
func (a *attempt) refresh() (*granted, error) {
	g, w := a.state.Tokens, a.want
	request := idp.RefreshRequest{
		RefreshToken: g.Refresh, Scope: w.Scope, AudienceParam: string(a.opts.AudienceParam), Audience: w.Audience,
	}
	if w.own {
		request.Scope = "" // which means what was granted at the login (RFC 6749 6)
	}
	t, err := a.provider.Refresh(a.ctx, request)
	if err != nil && (t == nil || t.RefreshToken == "") {
		return nil, err
	}
	kept := *g // but for what is spent (RFT-02)
	kept.kept = false
	kept.Refresh = cmp.Or(t.RefreshToken, g.Refresh)
	if err != nil {
		return &kept, err
	}
	access := cookie.AccessToken{
		Token: t.AccessToken, Type: t.TokenType, Audience: w.Audience, Scope: t.Scope, Requested: w.Scope,
		Expiry: cookie.Unix(t.Expiry), Issued: time.Now().Unix(),
	}
	next := kept
	next.Access = cookie.Renew(g.Access, access)
	next.refused = map[string]int{}
	maps.Copy(next.refused, g.refused)
	next.refused[w.Audience]++
	if !a.refused {
		delete(next.refused, w.Audience)
	}
	if err := a.takeClaims(&next, t); err != nil {
		a.revoke(a.ctx, next.Refresh)
		return nil, err
	}
	if !access.Lasts(0) {
		return &next, errNothingValid
	}
	tokens, err := next.over(a.session)
	if err == nil {
		_, err = a.seal(a.session.sealed, tokens, true)
	}
	if err != nil {
		return &kept, err // what fits no cookie would be lost with this process
	}
	return a.keep(&next)
}

// takeClaims takes over the claims of a refreshed ID token (OpenID Connect Core 12.2). What is wrong in it ends the
// session; what cannot be checked now, or is only odd, leaves the claims as they were (RFT-03, S05).
func (a *attempt) takeClaims(next *granted, t *idp.Tokens) (err error) {
	if t.IDToken == "" {
		return nil // RFT-04
	}
	err = over(errors.New("a hook panicked")) // stays if one does: what is spent cannot be had back
	defer func() { _ = recover() }()
	id, verifyErr := a.provider.VerifyRefreshed(a.ctx, t.IDToken, idp.ExpectRefreshed{
		Issuer: a.session.Issuer, Subject: a.session.Subject, AccessToken: t.AccessToken,
	})
	if errors.Is(verifyErr, idp.ErrUnverified) {
		a.tell("refresh.mismatch", verifyErr)
		return nil
	}
	if verifyErr != nil {
		return over(verifyErr)
	}
	claims, changed, odd, claimsErr := idp.RefreshClaims(next.Claims, id.Payload)
	if claimsErr != nil {
		return over(claimsErr)
	}
	if len(odd) > 0 {
		a.tell("refresh.mismatch", fmt.Errorf("the refreshed ID token has another %s", strings.Join(odd, ", ")))
	}
	next.Claims, next.UserInfo = claims, idp.OlderUserInfo(next.UserInfo, id.Payload)
	if next.IDToken = t.IDToken; a.opts.DropIDToken {
		next.IDToken = ""
	}
	if latest, ok := ceiling(id); ok {
		if end := latest.Unix(); next.end == 0 || end < next.end {
			next.end = end
		}
		if !time.Now().Before(latest) {
			return over(errors.New("session_expiry has passed"))
		}
	}
	if !changed || a.opts.BeforeSave == nil {
		return nil
	}
	return a.askBeforeSave(next)
}

// askBeforeSave lets the application see claims that have changed. What it sets is for every request of the session.
func (a *attempt) askBeforeSave(next *granted) error {
	tokens, err := next.over(a.session)
	if err != nil {
		return err
	}
	before := maps.Clone(tokens.Values)
	_, err = a.draft(a.session.sealed, tokens, true, a.beforeSave(a.ctx))
	if err != nil && !errors.Is(err, cookie.ErrTooLarge) {
		return over(fmt.Errorf("BeforeSave: %w", err))
	}
	next.changes = maps.Clone(next.changes)
	if next.changes == nil {
		next.changes = map[string]change{}
	}
	for key, value := range cookie.Changes(before, tokens.Values) {
		next.changes[key] = change{value, a.state.Generation + 1}
	}
	return nil
}
