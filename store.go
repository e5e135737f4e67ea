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
	s, err := c.unseal(r.Header)
	if err != nil {
		return id, false
	}
	return s.sealed.Identity.ID, true
}

// fetch gets a session from the store.
func (c *Client) fetch(ctx context.Context, id ledger.ID) (*Session, error) {
	return c.fetchAt(ctx, c.cookies.Sessions.Key(cookie.Handle(id)))
}

// fetchAt gets the session at key from the store.
func (c *Client) fetchAt(ctx context.Context, key string) (*Session, error) {
	data, version, ok, err := c.store.Get(ctx, key)
	if err != nil {
		return nil, storeError(err)
	}
	var sealed cookie.Session
	if !ok || !c.cookies.Sessions.OpenEntry(key, data, &sealed) || !c.alive(&sealed.Identity) {
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
	var tags []string
	for kind, value := range s.tagged() {
		of := c.cookies.Tags.Of(kind, value)
		if len(of) == 0 {
			return nil, errors.New("oidcauth: save session: no key to name it with")
		}
		tags = append(tags, of[0])
	}
	version, err := c.store.Set(ctx, c.cookies.Sessions.Key(s.Handle), data, id.Ends(c.opts.IdleTimeout), s.version, tags)
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

// tagged is what a session is found by, by the kind of tag.
func (s *Session) tagged() map[string]string {
	by := map[string]string{bySubject: s.Issuer + " " + s.Subject}
	if s.SID != "" {
		by[bySID] = s.Issuer + " " + s.SID
	}
	return by
}

// The kinds of tags, which marks share.
const (
	bySubject = "subject"
	bySID     = "sid"
)

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
