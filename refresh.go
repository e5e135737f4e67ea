package oidcauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"time"

	"github.com/oidcauth/oidcauth/internal/cookie"
	"github.com/oidcauth/oidcauth/internal/idp"
	"github.com/oidcauth/oidcauth/internal/ledger"
	"github.com/oidcauth/oidcauth/internal/storage"
)

// granted are the tokens of a session since its last grant, which its requests share. They are never changed.
type granted struct {
	cookie.Tokens                   // without values, which each request has of its own
	changes       map[string]change // of values, by BeforeSave
	kept          bool              // the store has them
	generation    uint64            // if another process has got them; 0: this one
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
	claim   *ledger.Claim
	unsaved bool // what was granted is not in the store yet
	events  []func()
}

// tell notes an event for when the outcome is saved: no hook must stand between a grant and that.
func (a *attempt) tell(name string, err error) {
	a.events = append(a.events, func() { a.event(a.ctx, name, "", a.session, err) })
}

// alone runs while no other process spends the refresh token, or takes what another has got.
func (a *attempt) alone() (result ledger.Result[*granted]) {
	if a.shared == nil {
		return a.run()
	}
	look := func(context.Context) (bool, error) {
		theirs, err := a.theirs()
		result = taken(theirs)
		return theirs != nil, err
	}
	spend := func(claim *ledger.Claim) ledger.Outcome {
		a.claim = claim
		switch result = a.run(); {
		case errors.Is(result.Err, ledger.ErrLost):
			return ledger.Lost
		case a.unsaved:
			return ledger.Unsaved
		case result.Dead && !errors.Is(result.Err, ErrNoSession):
			return ledger.Dead
		case result.Outage:
			return ledger.Failed
		}
		return ledger.Done
	}
	key := a.cookies.Vault.Name("claim", a.session.Handle)
	switch err := ledger.Alone(a.ctx, a.shared, key, a.state.Generation, look, spend); {
	case err == nil:
	case errors.Is(err, ErrNoSession):
		result = ledger.Result[*granted]{Dead: true, Err: err}
	case errors.Is(err, ledger.ErrSpent):
		result = ledger.Result[*granted]{Dead: true, Err: over(err)}
	case errors.Is(err, storage.ErrUnavailable):
		result = ledger.Result[*granted]{Outage: true, Err: storeError(err)}
	default:
		result = ledger.Result[*granted]{Outage: true, Err: fmt.Errorf("%w: %w", ErrUnavailable, err)}
	}
	if result.Dead && !errors.Is(result.Err, ErrNoSession) { // after the claim says so: who waits is told why
		a.forget()
	}
	return result
}

// taken is the result when another process was faster.
func taken(theirs *granted) ledger.Result[*granted] {
	if theirs == nil {
		return ledger.Result[*granted]{}
	}
	return ledger.Result[*granted]{Tokens: theirs, Changed: true, Generation: theirs.generation}
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
	switch {
	case err == nil && next.generation > 0:
		return taken(next)
	case err == nil:
		a.tell("session.refreshed", nil)
		return result
	case errors.Is(err, ledger.ErrLost):
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
		if theirs, _ := a.theirs(); theirs != nil && next == nil {
			return taken(theirs) // this process has slept, and another has taken over
		}
		result.Outage, result.Err = next == nil, loginError("refresh_failed", err)
	}
	a.tell("refresh.failed", result.Err)
	if result.Dead {
		a.tell("session.ended", nil)
	}
	return result
}

// answered says what an error response means (S16).
func (a *attempt) answered(e *idp.Error) ledger.Result[*granted] {
	err, g := providerError(e), a.state.Tokens
	switch e.Kind() {
	case idp.Ended:
		switch theirs, lookErr := a.lost(); {
		case theirs != nil:
			return taken(theirs)
		case errors.Is(lookErr, ErrNoSession):
			return ledger.Result[*granted]{Dead: true, Err: lookErr}
		case lookErr != nil:
			return ledger.Result[*granted]{Outage: true, Err: lookErr}
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
		a.unsaved = probe.unsaved
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

// refresh gets the tokens that follow and saves them. With an error it returns tokens only if the provider has replaced the
// refresh token all the same.
func (a *attempt) refresh() (*granted, error) {
	next, err := a.ask()
	if next == nil {
		return nil, err
	}
	saved, keepErr := a.keep(next)
	if keepErr != nil || saved.generation > 0 {
		return saved, keepErr // ended, or another process was faster
	}
	return saved, err
}

// ask asks the provider for the tokens that follow.
func (a *attempt) ask() (*granted, error) {
	g, w := a.state.Tokens, a.want
	request := idp.RefreshRequest{
		RefreshToken: g.Refresh, Scope: w.Scope, AudienceParam: string(a.opts.AudienceParam), Audience: w.Audience,
	}
	if w.own {
		request.Scope = "" // which means what was granted at the login (RFC 6749 6)
	}
	ctx, cancel, err := a.claim.Send(a.ctx)
	if err != nil {
		return nil, storeError(err)
	}
	t, err := a.provider.Refresh(ctx, request)
	if ctx.Err() != nil && err != nil && t == nil { // it was the provider who took too long
		err = fmt.Errorf("token endpoint: %w: %v", idp.ErrUnreachable, err)
	}
	cancel()
	a.claim.Extend(a.ctx, settleTime)
	if err != nil && (t == nil || t.RefreshToken == "") {
		return nil, err
	}
	kept := *g // but for what is spent (RFT-02)
	kept.kept, kept.generation = false, 0
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
	return &next, nil
}

// settleTime is how long it may take to verify and save what a grant has brought.
const settleTime = 25 * time.Second

// keep saves where other processes see it what a grant brought, before anybody is told (S05). While that cannot be reached
// this process remembers it and tries again, for as long as its claim keeps the others from spending what is spent.
func (a *attempt) keep(next *granted) (*granted, error) {
	if a.shared == nil {
		return next, nil
	}
	saved := *next
	saved.kept = true
	switch err := a.save(&saved); {
	case err == nil:
		return &saved, nil
	case errors.Is(err, ErrNoSession): // it was ended by another process
		a.revoke(a.ctx, next.Refresh)
		return nil, err
	case errors.Is(err, errConflict):
		if theirs, err := a.theirs(); err == nil && theirs != nil {
			return theirs, nil
		}
	default:
		a.log(a.ctx, slog.LevelError, "refreshed session not saved yet", err)
		a.unsaved = true
		a.background(func() {
			defer a.claim.Release(a.ctx)
			a.keepTrying(&saved)
		})
	}
	return next, nil
}

// keepTrying saves tokens as soon as the store can be reached again.
func (a *attempt) keepTrying(g *granted) {
	for end := time.Now().Add(ledger.GrantTimeout + 2*ledger.Lease); time.Now().Before(end); {
		time.Sleep(500 * time.Millisecond)
		switch err := a.save(g); {
		case errors.Is(err, ErrNoSession):
			a.revoke(a.ctx, g.Refresh)
			return
		case err == nil, errors.Is(err, errConflict):
			return
		}
	}
}

// save saves tokens unless somebody has saved newer ones, or ended the session.
func (a *attempt) save(g *granted) error {
	state := ledger.State[*granted]{Generation: a.state.Generation + 1, Tokens: g}
	if a.store == nil {
		return a.publish(a.ctx, a.session, state)
	}
	_, err := a.update(a.ctx, a.session, func(s *Session) (*Session, error) {
		if s.sealed.Identity.Generation >= state.Generation {
			return nil, errConflict
		}
		return a.following(s, state)
	})
	return err
}

// theirs are the tokens that another process has got for the session meanwhile, or nil (lesson 5). The error is
// ErrNoSession if the session has ended, or that nobody can tell.
func (a *attempt) theirs() (*granted, error) {
	switch {
	case a.shared == nil:
		return nil, nil
	case a.store == nil:
		rec, err := a.record(a.ctx, a.session.Handle)
		switch {
		case err != nil:
			return nil, storeError(err)
		case !rec.of(a.session.owner()):
			return nil, nil
		case rec.ended:
			return nil, ErrNoSession
		}
		return a.newer(rec.state), nil
	}
	s, err := a.fetch(a.ctx, a.session.sealed.Identity.ID)
	if err != nil {
		return nil, err
	}
	t, err := s.secrets()
	if err != nil {
		return nil, err
	}
	g := &granted{Tokens: *t, kept: true}
	g.Values = nil
	return a.newer(ledger.State[*granted]{Generation: s.sealed.Identity.Generation, Tokens: g}), nil
}

// newer returns the tokens of another process if they are newer than those that the attempt is to spend.
func (a *attempt) newer(state ledger.State[*granted]) *granted {
	if state.Generation <= a.state.Generation {
		return nil
	}
	theirs := *state.Tokens
	theirs.generation = state.Generation
	return &theirs
}

// lost says what it means that the refresh token is none any more: another process may have been faster, and be about to
// save what it got.
func (a *attempt) lost() (theirs *granted, err error) {
	if theirs, err = a.theirs(); theirs == nil && err == nil && a.shared != nil {
		time.Sleep(time.Second)
		theirs, err = a.theirs()
	}
	return theirs, err
}

// forget ends a session that the provider has ended.
func (a *attempt) forget() {
	if a.shared == nil {
		return
	}
	if _, err := a.noteEnd(a.ctx, a.session.Handle, ""); err != nil {
		a.log(a.ctx, slog.LevelError, "end of a session not saved", err)
	}
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
