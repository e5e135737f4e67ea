package oidcauth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/oidcauth/oidcauth/internal/caching"
	"github.com/oidcauth/oidcauth/internal/cookie"
	"github.com/oidcauth/oidcauth/internal/fetch"
	"github.com/oidcauth/oidcauth/internal/lateheader"
)

// A visit is what one Client knows of one request below Wrap or a guard: its session, and what becomes of the session's
// cookie when the response header is written, which is as late as possible so that nothing older overwrites something
// newer.
type visit struct {
	client  *Client
	request *http.Request
	header  http.Header // of the response

	once sync.Once // opens the session
	err  error     // why that failed, if not for want of one

	mu      sync.Mutex
	came    *Session          // as the request's cookie has it
	session *Session          // nil: none
	found   *Session          // what load has returned last
	handed  map[string]string // the last access token handed out, by what it is for
	granted uint64            // the generation that a grant of this request began
	fate    fate
	guarded bool
	out     bool // the header is written
}

type fate byte

const (
	rolls   fate = iota // extended if due
	adopts              // written if there are newer tokens than its own
	saved               // written, by UpdateSession
	cleared             // deleted, by Logout
)

func (c *Client) visit(r *http.Request) *visit {
	v, _ := r.Context().Value(visitKey{c}).(*visit)
	if v != nil && !c.cookies.Sessions.Same(v.request.Header, r.Header) {
		return nil // another request, made with this one's context
	}
	return v
}

// enter returns r's visit and what to go on with. True says that the visit begins here: a handler that wrote nothing
// leaves it to the caller to call writeHeader.
func (c *Client) enter(w http.ResponseWriter, r *http.Request) (*visit, http.ResponseWriter, *http.Request, bool) {
	if v := c.visit(r); v != nil {
		return v, w, r, false
	}
	v := c.newVisit(w, r)
	return v, lateheader.Wrap(w, v.writeHeader), r.WithContext(context.WithValue(r.Context(), visitKey{c}, v)), true
}

// visitOf returns r's visit or, outside Wrap and the guards, a bare one: it knows what has been set in w already, and its
// writeHeader is the caller's to call, at once.
func (c *Client) visitOf(w http.ResponseWriter, r *http.Request) (v *visit, bare bool) {
	if v := c.visit(r); v != nil {
		return v, false
	}
	v = c.newVisit(w, r)
	v.fate = adopts
	if s := c.setIn(w.Header()); s != nil {
		v.once.Do(func() {}) // there is no other
		v.came, v.session = s, s
	}
	return v, true
}

// setIn returns the session that a response with the header h sets, or nil.
func (c *Client) setIn(h http.Header) *Session {
	r := &http.Request{Header: c.cookies.Sessions.Sent(h)}
	if c.store != nil {
		s, _ := c.open(r) // the error is that there is none
		return s
	}
	s, _ := c.unseal(r.Header)
	return s
}

func (c *Client) newVisit(w http.ResponseWriter, r *http.Request) *visit {
	v := &visit{client: c, request: r, header: w.Header()}
	if c.shared == nil {
		_ = v.look() // which costs little; its error is that there is none
	}
	return v
}

// look opens the session. A store is only asked if somebody wants to know, and once.
func (v *visit) look() error {
	v.once.Do(func() {
		s, err := v.client.open(v.request)
		if errors.Is(err, ErrNoSession) {
			return
		}
		v.err = err
		v.mu.Lock()
		defer v.mu.Unlock()
		v.came, v.session = s, s
	})
	return v.err
}

// load returns the session with its newest tokens.
func (v *visit) load() (*Session, error) {
	if err := v.look(); err != nil {
		return nil, err
	}
	v.mu.Lock()
	s, own := v.session, v.granted
	v.mu.Unlock()
	if s == nil {
		return nil, ErrNoSession
	}
	next, err := v.client.newest(v.request.Context(), s, own) // which may call a hook
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.session == s {
		v.session = next
	}
	if err == nil {
		v.found = next
	}
	return next, err
}

// known returns the session that this request has had, although it may have ended it since, or nil.
func (v *visit) known() *Session {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.found
}

// arrived returns the session as the request's cookie has it, or as it was made in this request.
func (v *visit) arrived() *Session {
	_ = v.look() // whoever needs it has loaded the session
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.came
}

// granting notes that a grant of this request began a generation of tokens.
func (v *visit) granting(generation uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.granted = generation
}

// open says whether what changes can still be kept: in a cookie while it can be set, elsewhere until the session ends.
func (v *visit) open() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return (!v.out || v.client.shared != nil) && v.fate != cleared
}

// replace takes a session that has been saved in the store, unless err says that it has not.
func (v *visit) replace(s *Session, err error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case err != nil:
		return err
	case v.fate == cleared:
		return ErrNoSession
	}
	v.session = s
	return nil
}

// handOut notes which token the request got last for key, and returns the one before.
func (v *visit) handOut(key, token string) (before string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	before = v.handed[key]
	if token != "" {
		if v.handed == nil {
			v.handed = map[string]string{}
		}
		v.handed[key] = token
	}
	return before
}

// set decides what becomes of the cookie. What was logged out stays out.
func (v *visit) set(s *Session, f fate) error {
	v.once.Do(func() {}) // nobody needs to know any more what there was
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.out:
		return ErrHeaderWritten
	case v.fate == cleared && f != cleared:
		return ErrNoSession
	}
	if s != nil && (v.came == nil || v.came.sealed.Identity.ID != s.sealed.Identity.ID) {
		v.came = s // a new login
	}
	v.session, v.fate = s, f
	return nil
}

// guard keeps the response out of shared caches, also if the handler sets headers of its own (S12).
func (v *visit) guard(h http.Header) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.guarded = true
	h.Set("Cache-Control", "private, no-store")
	caching.VaryCookie(h)
}

// writeHeader is called when the response header is about to be written, with the status it will have.
func (v *visit) writeHeader(status int) {
	if status < 200 && status != http.StatusSwitchingProtocols {
		return // informational; the header proper is still to come
	}
	v.mu.Lock()
	first, fate, s, own, guarded := !v.out, v.fate, v.session, v.granted, v.guarded
	v.out = true
	v.mu.Unlock()
	if !first {
		return
	}
	if status != http.StatusNotModified { // a cache would add a 304's cookie to the response that it has stored (S12)
		v.client.settle(v.header, v.request, s, own, fate)
	}
	if guarded {
		caching.Restrict(v.header)
	}
}

// settle writes what is to become of r's session cookie into the response header h. It never carries older tokens than
// this process knows of, however long the response took (S03).
func (c *Client) settle(h http.Header, r *http.Request, s *Session, own uint64, fate fate) {
	if fate == cleared {
		c.clearSession(h, r)
		return
	}
	if s != nil && fate != saved && c.store != nil {
		c.settleStored(h, r, s, own, fate)
		return
	}
	if s != nil && fate == rolls && slices.ContainsFunc(h["Set-Cookie"], c.cookies.Sessions.Owned) {
		s, fate = c.setIn(h), adopts // a handler with a copy of the request has decided already
	}
	if s == nil {
		if fate == rolls && c.endedHere(r) && !slices.ContainsFunc(h["Set-Cookie"], c.cookies.Sessions.Owned) {
			c.clearSession(h, r) // a slow answer has brought it back (S21)
		}
		return
	}
	s, err := c.newest(r.Context(), s, own)
	if err != nil {
		return // ended meanwhile; deleting the cookie might meet the one of a new login
	}
	if s.unwritten() && c.shared != nil {
		c.republish(r.Context(), s)
	}
	due := fate != adopts && c.rollDue(r, &s.sealed)
	if !due && fate != saved && !s.unsaved {
		return
	}
	if due && c.mayRoll(s) {
		s = c.rolled(s)
	} else if due && fate != saved && !s.unsaved && !s.sealed.Stale {
		return
	}
	if err := c.writeSession(h, r, s); err != nil {
		c.log(r.Context(), slog.LevelError, "session cookie not written", err)
	}
}

// settleStored saves in the store what is due, beside the request. A cookie is set only if an older secret made it.
func (c *Client) settleStored(h http.Header, r *http.Request, s *Session, own uint64, fate fate) {
	s, err := c.newest(r.Context(), s, own)
	if err != nil {
		return
	}
	due := fate != adopts && c.rollDue(r, &s.sealed)
	if due || s.unwritten() {
		c.roll(r.Context(), s)
	}
	if _, stale, ok := c.cookies.Sessions.Ticket(r.Header); due && ok && stale && !slices.ContainsFunc(h["Set-Cookie"], c.cookies.Sessions.Owned) {
		if err := c.writeSession(h, r, s); err != nil {
			c.log(r.Context(), slog.LevelError, "session cookie not written", err)
		}
	}
}

// rolled returns a copy of s that was used now.
func (c *Client) rolled(s *Session) *Session {
	sealed := s.sealed
	sealed.Identity.Seen = time.Now().Unix()
	next := c.newSession(sealed)
	next.version = s.version
	if s.unsaved { // or else nobody has opened them, or is just doing it
		next.unsaved, next.tokens = true, s.tokens
	}
	return next
}

// mayRoll says whether a session may be extended. Where nothing but its cookie says that it lives, only what the provider
// still refreshes lives on for longer than one idle time, so that revoking the refresh token at logout ends copies too (S21).
func (c *Client) mayRoll(s *Session) bool {
	if c.shared != nil || c.opts.IdleTimeout < 0 {
		return true
	}
	t, err := s.secrets()
	return err == nil && (t.Refresh == "" || time.Since(t.Issued()) < c.opts.IdleTimeout)
}

func (c *Client) clearSession(h http.Header, r *http.Request) {
	c.cookies.Sessions.Clear(h, r.Header)
	caching.Forbid(h)
}

// rollDue says whether the response to r extends the session's idle time. What an older secret sealed is due at once.
func (c *Client) rollDue(r *http.Request, sealed *cookie.Session) bool {
	if r.Method == http.MethodHead || fetch.IsPrefetch(r) {
		return false
	}
	id, idle := &sealed.Identity, c.opts.IdleTimeout
	if expiry := time.Unix(id.TokenExpiry, 0); id.TokenExpiry != 0 && time.Until(expiry) < c.opts.TokenRefreshBuffer {
		// A refresh is to come and will write the cookie, and a roll would only compete with it (S03). It waits twice as
		// long, and no longer: an application that never asks for tokens must not lose its sessions over this.
		idle *= 2
	}
	// Processes that are at different steps of changing secrets must not take turns at sealing what is in a store.
	stale := sealed.Stale && (c.store == nil || time.Since(time.Unix(id.Seen, 0)) >= time.Minute)
	due := stale || id.Due(idle)
	return due && (c.opts.ShouldRoll == nil || c.opts.ShouldRoll(r))
}
