package oidcauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/oidcauth/oidcauth/internal/cookie"
	"github.com/oidcauth/oidcauth/internal/ledger"
	"github.com/oidcauth/oidcauth/internal/storage"
)

// A SessionStore keeps what a [Client] puts beside the cookies: opaque, sealed values. Only standard types cross it, so that
// a store imports nothing of this module. Keys and tags are 43 characters of A–Z a–z 0–9 - _.
//
// Implementations are safe for concurrent use, copy data in and out, honour ctx and treat a value that has expired as
// absent. Expiry must not come early, and a value must not be evicted before it. The clock of the store may differ from
// the caller's: what counts is how long expires is from now. For one key all operations take effect in one order, which every
// caller sees (a replica that lags does not do).
//
// oidcauthtest.TestSessionStore is this contract as a test.
type SessionStore interface {
	// Get returns the value at key and its version. ok is false if there is none.
	Get(ctx context.Context, key string) (data []byte, version int64, ok bool, err error)
	// Set stores data under key if the version there is still old, where 0 means that key must be absent, and returns the
	// new version, which is never 0 and never one that key had before. 0 without an error means that old was not current.
	// Each tag must name key before data can be read and at least until expires; a tag may outlive its key.
	Set(ctx context.Context, key string, data []byte, expires time.Time, old int64, tags []string) (version int64, err error)
	// Delete removes key. An absent key is not an error.
	Delete(ctx context.Context, key string) error
}

// A SessionIndex is a [SessionStore] that finds values by their tags.
type SessionIndex interface {
	// Tagged returns the keys under tag. Some may be gone. A Set that returned before Tagged was called is seen.
	Tagged(ctx context.Context, tag string) (keys []string, err error)
}

// maxConflicts is how often a session is saved in vain before the store is taken for broken: of those who try at the same
// time one succeeds.
const maxConflicts = 1000

// errConflict says that another request has saved the session first.
var errConflict = errors.New("oidcauth: another request has saved the session")

// storeError is how a failure of the store is answered.
func storeError(err error) error {
	if errors.Is(err, storage.ErrUnavailable) {
		return refuse("store_unavailable", fmt.Errorf("%w: %w", ErrUnavailable, err))
	}
	return err
}

// sessionID returns the id of the session that r's cookie is for, which may have ended. A store is not asked.
func (c *Client) sessionID(r *http.Request) (id ledger.ID, ok bool) {
	if c.store != nil {
		id, _, ok = c.cookies.Sessions.Ticket(r.Header)
		return id, ok
	}
	s, err := c.open(r)
	if err != nil {
		return id, false
	}
	return s.sealed.Identity.ID, true
}

// fetch gets a session from the store.
func (c *Client) fetch(ctx context.Context, id ledger.ID) (*Session, error) {
	data, version, ok, err := c.store.Get(ctx, c.cookies.Sessions.Key(id))
	if err != nil {
		return nil, storeError(err)
	}
	var sealed cookie.Session
	if !ok || !c.cookies.Sessions.OpenEntry(id, data, &sealed) || !c.alive(&sealed.Identity) {
		return nil, ErrNoSession
	}
	s := c.newSession(sealed)
	s.version = version
	return s, nil
}

// save puts s into the store, if nobody has since s was fetched, and returns it as it is there. What was deleted since
// then stays so.
func (c *Client) save(ctx context.Context, s *Session) (*Session, error) {
	if s.version == 0 {
		return nil, errConflict // it would come back to life
	}
	return c.put(ctx, s)
}

// put is save for a new session, too.
func (c *Client) put(ctx context.Context, s *Session) (*Session, error) {
	sealed, err := c.sealed(s)
	if err != nil {
		return nil, err
	}
	data, err := c.cookies.Sessions.SealEntry(&sealed)
	if err != nil {
		return nil, fmt.Errorf("oidcauth: save session: %w", err)
	}
	id := &sealed.Identity
	tags := []string{c.cookies.Tags.Of("subject", s.Issuer+" "+id.Subject)[0]}
	if id.SID != "" {
		tags = append(tags, c.cookies.Tags.Of("sid", s.Issuer+" "+id.SID)[0])
	}
	version, err := c.store.Set(ctx, c.cookies.Sessions.Key(id.ID), data, id.Ends(c.opts.IdleTimeout), s.version, tags)
	switch {
	case err != nil:
		return nil, storeError(err)
	case version == 0:
		return nil, errConflict
	}
	next := c.newSession(sealed)
	next.version = version
	return next, nil
}

// update saves what change makes of a session, as often as others save it first.
func (c *Client) update(ctx context.Context, s *Session, change func(*Session) (*Session, error)) (*Session, error) {
	for range maxConflicts {
		next, err := change(s)
		if err != nil {
			return nil, err
		}
		if next, err = c.save(ctx, next); !errors.Is(err, errConflict) {
			return next, err
		}
		if s, err = c.fetch(ctx, s.sealed.Identity.ID); err != nil {
			return nil, err
		}
		if s, err = c.newest(ctx, s, 0); err != nil {
			return nil, err
		}
	}
	return nil, storeError(fmt.Errorf("%w: %w", storage.ErrUnavailable, errConflict))
}

// keep saves in the store what a grant brought, before anybody is told (S05). While that cannot be reached this process
// remembers it, and the next request tries again.
func (a *attempt) keep(next *granted) (*granted, error) {
	if a.store == nil {
		return next, nil
	}
	saved := *next
	saved.kept = true
	state := ledger.State[*granted]{Generation: a.state.Generation + 1, Tokens: &saved}
	_, err := a.update(a.ctx, a.session, func(s *Session) (*Session, error) {
		if s.sealed.Identity.Generation >= state.Generation {
			return nil, errConflict
		}
		return a.following(s, state)
	})
	switch {
	case err == nil:
		return &saved, nil
	case errors.Is(err, ErrNoSession): // it was ended by another process
		a.revoke(a.ctx, next.Refresh)
		return nil, err
	case errors.Is(err, errConflict):
		if theirs, err := a.theirs(); err == nil && theirs != nil {
			return theirs, nil
		}
	}
	a.log(a.ctx, slog.LevelError, "refreshed session not saved yet", err)
	return next, nil
}

// theirs are the tokens that another process has got for the session meanwhile, or nil (lesson 5). The error is that the
// store cannot say.
func (a *attempt) theirs() (*granted, error) {
	if a.store == nil {
		return nil, nil
	}
	s, err := a.fetch(a.ctx, a.session.sealed.Identity.ID)
	if errors.Is(err, ErrNoSession) || err == nil && s.sealed.Identity.Generation <= a.state.Generation {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	t, err := s.secrets()
	if err != nil {
		return nil, err
	}
	g := &granted{Tokens: *t, kept: true}
	g.Values = nil
	return g, nil
}

// lost says what it means that the refresh token is none any more: another process may have been faster, and be about to
// save what it got.
func (a *attempt) lost() (theirs *granted, err error) {
	if theirs, err = a.theirs(); theirs == nil && err == nil && a.store != nil {
		time.Sleep(time.Second)
		theirs, err = a.theirs()
	}
	return theirs, err
}

// forget deletes a session that the provider has ended.
func (a *attempt) forget() {
	if a.store == nil {
		return
	}
	if err := a.store.Delete(a.ctx, a.cookies.Sessions.Key(a.session.sealed.Identity.ID)); err != nil {
		a.log(a.ctx, slog.LevelError, "session not deleted from the store", err)
	}
}

// roll extends the idle time of a session in the store, beside the request: its answer does not depend on it. Whoever has
// done so before, or has logged out, wins.
func (c *Client) roll(ctx context.Context, s *Session) {
	id := s.sealed.Identity.ID
	if _, busy := c.rolling.LoadOrStore(id, nil); busy {
		return
	}
	detached := context.WithoutCancel(ctx)
	c.background(func() {
		defer c.rolling.Delete(id)
		_, err := c.update(detached, s, func(s *Session) (*Session, error) {
			if !s.unwritten() && !s.sealed.Stale && !s.sealed.Identity.Due(c.opts.IdleTimeout) {
				return nil, errConflict
			}
			return c.rolled(s), nil
		})
		switch {
		case errors.Is(err, ErrNoSession) && s.unwritten():
			c.revoke(detached, s.tokens.Refresh) // nobody will ever use it (S23)
		case err != nil && !errors.Is(err, errConflict) && !errors.Is(err, ErrNoSession):
			c.log(detached, slog.LevelWarn, "session not extended", err)
		}
	})
}

// end ends a session in this process and in the store, if there is one. It returns the newest tokens that the process knew.
func (c *Client) end(ctx context.Context, id ledger.ID) (ledger.State[*granted], bool, error) {
	state, known := c.ledger.End(id)
	if c.store == nil {
		return state, known, nil
	}
	err := c.store.Delete(context.WithoutCancel(ctx), c.cookies.Sessions.Key(id))
	if err != nil {
		c.log(ctx, slog.LevelError, "session not deleted from the store", err)
	}
	return state, known, storeError(err)
}
