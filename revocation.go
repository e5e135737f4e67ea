package oidcauth

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oidcauth/oidcauth/internal/cookie"
	"github.com/oidcauth/oidcauth/internal/ledger"
	"github.com/oidcauth/oidcauth/internal/revocation"
	"github.com/oidcauth/oidcauth/internal/storage"
)

// The hosts of a provider may disagree about the time by this when one of them ends a session that another has begun. It
// does no harm: a later session has another sid (S09).
const sidLeeway = time.Minute

// noteLife is how long it is noted that something has ended: longer than a session can live, the login's time and
// differences between clocks included (S08, S37).
func (c *Client) noteLife() time.Duration { return c.opts.AbsoluteTimeout + time.Hour }

// markNames are the names of a mark, one for each secret. They are none of a session's tags.
func (c *Client) markNames(kind, value string) []string {
	return c.cookies.Tags.Of("ended "+kind, value)
}

// noteError is how it is answered that a mark cannot be read or written: as a failure of the store, whatever the reason.
func noteError(err error) error {
	if !errors.Is(err, storage.ErrUnavailable) && !errors.Is(err, context.Canceled) {
		err = fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	return storeError(err)
}

const maxOwners = 16

// A record is what the RevocationStore has about a session that is in a cookie: that it has ended, or its newest tokens.
// The zero value is nothing.
type record struct {
	version int64
	ended   bool
	owners  []string // whose session it is, or whose has ended: issuer and subject; none: anybody's
	id      ledger.ID
	state   ledger.State[*granted]
}

var errRecord = fmt.Errorf(
	"%w: what is noted about a session cannot be read; is a secret missing from Secrets?", storage.ErrUnavailable)

// record reads what is noted about the session with a handle.
func (c *Client) record(ctx context.Context, handle string) (rec record, err error) {
	key := c.cookies.Records.Key(handle)
	data, version, ok, err := c.shared.Get(ctx, key)
	if err != nil || !ok {
		return rec, err
	}
	rec.version = version
	if plain, ok := c.cookies.Vault.Open(key, data); ok {
		rec.ended = true
		if len(plain) > 0 {
			rec.owners = strings.Split(string(plain), "\n")
		}
		return rec, nil
	}
	var sealed cookie.Session
	if !c.cookies.Records.OpenEntry(key, data, &sealed) {
		return rec, errRecord
	}
	tokens, err := c.cookies.Records.Tokens(&sealed)
	if err != nil {
		return rec, errRecord
	}
	g := &granted{Tokens: *tokens, changes: readChanges(tokens.Values), kept: true, end: sealed.Identity.End}
	g.Values = nil
	rec.owners, rec.id = []string{c.newSession(sealed).owner()}, sealed.Identity.ID
	rec.state = ledger.State[*granted]{Generation: sealed.Identity.Generation, Tokens: g}
	return rec, nil
}

// owner names whose session it is.
func (s *Session) owner() string { return s.Issuer + " " + s.Subject }

// of reports whether a record is about a session of owner. Only who can write to the store, or has the handle of another
// user's session, could make it another's, and that says nothing (S02).
func (rec *record) of(owner string) bool {
	return rec.version != 0 && (rec.ended && len(rec.owners) == 0 || slices.Contains(rec.owners, owner))
}

// noteEnd notes that the session with a handle has ended, if it is one of owner, or with "" whosever it is. It returns what
// was noted before. A store of sessions forgets it.
func (c *Client) noteEnd(ctx context.Context, handle, owner string) (rec record, err error) {
	key := c.entryKey(handle)
	for range maxConflicts {
		switch rec, err = c.entry(ctx, handle); {
		case err != nil && c.store != nil && owner == "":
			return record{}, c.store.Delete(ctx, key) // which may still do
		case err != nil && !errors.Is(err, errRecord):
			return record{}, err
		case rec.version == 0 && c.store != nil, rec.ended && (len(rec.owners) == 0 || owner != "" && rec.of(owner)):
			return record{}, nil
		case rec.version != 0 && !rec.ended && owner != "" && !rec.of(owner):
			return record{}, nil // that user has no such session
		}
		owners := []string{owner}
		if owner != "" && rec.ended { // of whom one has the session, and the others only its handle
			owners = append(rec.owners, owner)
		}
		if len(owners) > maxOwners {
			return record{}, errors.New("oidcauth: too many users have tried to end one session by its handle")
		}
		data, err := c.cookies.Vault.Seal(0, key, []byte(strings.Join(owners, "\n")))
		if err != nil {
			return record{}, err
		}
		version, err := c.shared.Set(ctx, key, data, time.Now().Add(c.noteLife()), rec.version, nil)
		switch {
		case err != nil && c.store != nil && owner == "":
			return rec, c.store.Delete(ctx, key) // what is saved in between fails its condition, or has not been yet
		case err != nil:
			return rec, err // it may have been noted all the same
		case version == 0:
			continue // what another process has saved just now ends, too
		case c.store != nil:
			_ = c.store.Delete(ctx, key) // nobody can have saved it since, and what is there runs out
		}
		return rec, nil
	}
	return record{}, fmt.Errorf("%w: %w", storage.ErrUnavailable, errConflict)
}

// entryKey is where the store has a session, or what is noted about one.
func (c *Client) entryKey(handle string) string {
	if c.store != nil {
		return c.cookies.Sessions.Key(handle)
	}
	return c.cookies.Records.Key(handle)
}

// entry is record, for a store of sessions as well.
func (c *Client) entry(ctx context.Context, handle string) (rec record, err error) {
	if c.store == nil {
		return c.record(ctx, handle)
	}
	s, err := c.fetchAt(ctx, c.entryKey(handle))
	if errors.Is(err, ErrNoSession) {
		return rec, nil
	}
	if err != nil {
		return rec, err
	}
	g, err := c.granted(s)
	if err != nil {
		g = &granted{} // it is ended although its tokens do not open
	}
	return record{
		version: s.version, owners: []string{s.owner()}, id: s.sealed.Identity.ID,
		state: ledger.State[*granted]{Generation: s.sealed.Identity.Generation, Tokens: g},
	}, nil
}

// end ends a session, in this process and for all that share a store with it. It returns the newest tokens that are known.
// An error says that others may go on.
func (c *Client) end(ctx context.Context, id ledger.ID) (ledger.State[*granted], bool, error) {
	state, known := c.ledger.End(id)
	if c.shared == nil {
		return state, known, nil
	}
	theirs, err := c.noteEnd(context.WithoutCancel(ctx), cookie.Handle(id), "")
	if theirs.state.Generation > state.Generation {
		state, known = theirs.state, true
	}
	if err != nil {
		c.log(ctx, slog.LevelError, "end of a session not saved", err)
	}
	return state, known, storeError(err)
}

// publish notes the newest tokens of a session that is in a cookie. The error is errConflict if others have got newer
// ones, ErrNoSession if it has ended: a mark may have been made since the request looked, and nobody might come again for what
// was just noted.
func (c *Client) publish(ctx context.Context, s *Session, state ledger.State[*granted]) error {
	err := c.setRecord(ctx, s, state)
	if err != nil && !errors.Is(err, errConflict) {
		return err
	}
	revoked, _, markErr := c.revoked(ctx, s)
	if markErr == nil && revoked {
		_, _, _ = c.end(ctx, s.sealed.Identity.ID) // what goes wrong is logged
		return ErrNoSession
	}
	return cmp.Or(markErr, err) // who tries again looks again
}

func (c *Client) setRecord(ctx context.Context, s *Session, state ledger.State[*granted]) error {
	sealed, g := s.sealed, state.Tokens
	id := &sealed.Identity
	id.Generation, id.TokenExpiry = state.Generation, g.Access[0].Expiry
	if g.end > 0 {
		id.End = min(id.End, g.end)
	}
	tokens := g.Tokens
	tokens.Values = writeChanges(g.changes)
	err := c.cookies.Records.SetTokens(&sealed, &tokens)
	var data []byte
	if err == nil {
		data, err = c.cookies.Records.SealEntry(&sealed)
	}
	if err != nil {
		return fmt.Errorf("oidcauth: note a refresh: %w", err)
	}
	for range maxConflicts {
		rec, err := c.record(ctx, s.Handle)
		switch {
		case err != nil:
			return storeError(err)
		case rec.ended && rec.of(s.owner()):
			return ErrNoSession
		case rec.of(s.owner()) && rec.state.Generation >= state.Generation:
			return errConflict
		}
		expires := time.Unix(id.End, 0).Add(time.Hour)
		version, err := c.shared.Set(ctx, c.cookies.Records.Key(s.Handle), data, expires, rec.version, nil)
		if err != nil || version != 0 {
			return storeError(err)
		}
	}
	return storeError(fmt.Errorf("%w: %w", storage.ErrUnavailable, errConflict))
}

// republish notes tokens that nobody but this process knows, beside the request.
func (c *Client) republish(ctx context.Context, s *Session) {
	id := s.sealed.Identity.ID
	state, known, err := c.ledger.Newest(id, 0)
	if err != nil || !known {
		return
	}
	if _, busy := c.rolling.LoadOrStore(id, nil); busy {
		return
	}
	detached := context.WithoutCancel(ctx)
	c.background(func() {
		defer c.rolling.Delete(id)
		err := c.publish(detached, s, state)
		if errors.Is(err, ErrNoSession) {
			c.revoke(detached, state.Tokens.Refresh)
		} else if err != nil && !errors.Is(err, errConflict) {
			c.log(detached, slog.LevelWarn, "refreshed session not saved yet", err)
		}
	})
}

// standing asks the RevocationStore whether a session that is in a cookie goes on, and takes over what other processes have
// got for it. A look-up that is not older than RevocationCache will do, but for who wants to know it now.
func (c *Client) standing(ctx context.Context, s *Session, now bool) error {
	id := s.sealed.Identity.ID
	if _, _, err := c.ledger.Newest(id, s.sealed.Identity.Generation); err != nil {
		return ErrNoSession
	}
	if !now && c.opts.RevocationCache > 0 && c.ledger.Checked(id, c.opts.RevocationCache) {
		return nil
	}
	asked := time.Now()
	var rec record
	var recErr error
	var group sync.WaitGroup
	group.Go(func() { rec, recErr = c.record(ctx, s.Handle) })
	revoked, _, err := c.revoked(ctx, s)
	group.Wait()
	if err = errors.Join(err, recErr); err != nil {
		return storeError(err)
	}
	switch {
	case rec.ended && rec.of(s.owner()):
		state, known := c.ledger.End(id)
		if tokens, err := s.secrets(); err == nil && len(rec.owners) > 0 && !known { // by its handle: nobody had its tokens
			c.revoke(ctx, tokens.Refresh)
		} else if known && len(rec.owners) > 0 {
			c.revoke(ctx, state.Tokens.Refresh)
		}
		return ErrNoSession
	case rec.of(s.owner()) && rec.state.Generation >= s.sealed.Identity.Generation:
		c.ledger.Adopt(id, rec.state) // of the cookie's own generation it has what BeforeSave changed
	}
	if revoked {
		_, _ = c.retire(ctx, s) // nobody will ever use its refresh token; what goes wrong is logged
		return ErrNoSession
	}
	if c.opts.RevocationCache > 0 {
		c.ledger.Check(id, asked)
	}
	return nil
}

// era is what a session has to have of the marks of its user, so that RevokeSessions ends those from before alone (S09).
func (c *Client) era(ctx context.Context, issuer, subject string) (string, error) {
	if c.marks == nil {
		return "", nil
	}
	mark, err := c.marks.Read(ctx, bySubject, issuer+" "+subject)
	if err != nil {
		return "", noteError(err)
	}
	return mark.Era, nil
}

// revoked reports whether a session has been ended by a mark. A tie says that this is only since a login token was issued
// in the very second in which the user's sessions were ended: which came first nobody knows.
func (c *Client) revoked(ctx context.Context, s *Session) (revoked, tie bool, err error) {
	var ofSID revocation.Mark
	var sidErr error
	var group sync.WaitGroup
	if s.SID != "" {
		group.Go(func() { ofSID, sidErr = c.marks.Read(ctx, bySID, s.tagged()[bySID]) })
	}
	ofSubject, err := c.marks.Read(ctx, bySubject, s.owner())
	group.Wait()
	if err = errors.Join(err, sidErr); err != nil {
		return false, false, noteError(err)
	}
	id := &s.sealed.Identity
	bySession := ofSID.Ends(s.Subject, "", id.Began, sidLeeway)
	revoked = bySession || ofSubject.Ends(s.Subject, id.Era, id.Began, 0)
	before := ofSubject.Ends(s.Subject, id.Era, id.Began+1, 0)
	return revoked, revoked && !bySession && !before, nil
}

// writeChanges and readChanges keep in a record which values BeforeSave has changed, and with which generation: that comes
// first, and then a 1 and the value, or a 0 for one that it has deleted.
func writeChanges(changes map[string]change) map[string][]byte {
	values := map[string][]byte{}
	for key, c := range changes {
		b := binary.AppendUvarint(nil, c.generation)
		if c.value == nil {
			b = append(b, 0)
		} else {
			b = append(append(b, 1), c.value...)
		}
		values[key] = b
	}
	return values
}

func readChanges(values map[string][]byte) map[string]change {
	var changes map[string]change
	for key, b := range values {
		generation, n := binary.Uvarint(b)
		if n <= 0 || n == len(b) {
			continue
		}
		c := change{generation: generation}
		if b[n] == 1 {
			c.value = bytes.Clone(b[n+1:])
			if c.value == nil {
				c.value = []byte{}
			}
		}
		if changes == nil {
			changes = map[string]change{}
		}
		changes[key] = c
	}
	return changes
}
