package oidcauth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/oidcauth/oidcauth/internal/caching"
	"github.com/oidcauth/oidcauth/internal/cookie"
	"github.com/oidcauth/oidcauth/internal/idp"
	"github.com/oidcauth/oidcauth/internal/ledger"
	"github.com/oidcauth/oidcauth/internal/login"
	"github.com/oidcauth/oidcauth/internal/page"
)

// CookieOptions are the session cookie's name and attributes. It is HttpOnly in any case, and Secure unless BaseURL is
// plain http. The zero value is __Host-session (session over plain http) with SameSite=Lax.
type CookieOptions struct {
	// Name replaces the default name, which carries BaseURL's path. Two Clients on one host need two names.
	Name string
	// Domain shares the cookie with subdomains. It gives up the __Host- prefix, and with it the protection from cookies
	// that another subdomain plants.
	Domain string
	// SameSite is Lax by default. None needs InsecureCrossSiteSession. Strict hides the session from all that begins on
	// another site: a link from there, and the way back from the provider, take one step more on a page of ours, and values
	// of a session do not survive a new login.
	SameSite http.SameSite
	// Transient ends the cookie with the browser session; Partitioned binds it to the embedding site (CHIPS).
	Transient, Partitioned bool
}

// A Session is one user's sign-in. It is read-only except inside [Client.UpdateSession] and [Options.BeforeSave], and
// may be read from several goroutines. The identity of a user is Issuer and Subject together, never an e-mail address.
// The zero Session has no claims.
type Session struct {
	Issuer, Subject string
	SID             string // the provider's session id, if it gave one
	Handle          string // names the session, in logs for example, without being usable as one
	CreatedAt       time.Time
	LastSeenAt      time.Time // as far as the cookie tells, which is seldom renewed
	ExpiresAt       time.Time // when it ends if it is not used
	*payload
}

// payload is what a Session does not show.
type payload struct {
	session Session // here to save an allocation
	sealed  cookie.Session
	unsaved bool  // tokens are newer than what is sealed in sealed
	kept    bool  // but the store has them
	version int64 // in the store
	edit    bool  // SetValue is allowed
	open    func(*cookie.Session) (*cookie.Tokens, error)
	once    sync.Once
	tokens  *cookie.Tokens
	err     error
}

// newSession shows what is sealed in sealed.
func (c *Client) newSession(sealed cookie.Session) *Session {
	p := &payload{sealed: sealed, open: c.cookies.Sessions.Tokens}
	s, id := &p.session, &p.sealed.Identity
	s.payload, s.Subject, s.SID = p, id.Subject, id.SID
	s.Issuer, _ = c.provider.IssuerOf(id.Tenant)
	s.Handle = cookie.Handle(id.ID)
	s.CreatedAt, s.LastSeenAt = time.Unix(id.Created, 0), time.Unix(id.Seen, 0)
	s.ExpiresAt = id.Ends(c.opts.IdleTimeout)
	return s
}

// NewSession returns a session with the given claims, for tests of handlers; see [ContextWithSession]. Its identity is
// taken from the claims iss, sub and sid. It has no tokens and cannot be saved.
func NewSession(claims map[string]any) *Session {
	text := func(name string) string { s, _ := claims[name].(string); return s }
	encoded, err := json.Marshal(claims)
	open := func(*cookie.Session) (*cookie.Tokens, error) { return &cookie.Tokens{Claims: encoded}, err }
	now := time.Now().Truncate(time.Second)
	return &Session{
		Issuer: text("iss"), Subject: text("sub"), SID: text("sid"), Handle: "test",
		CreatedAt: now, LastSeenAt: now, ExpiresAt: now.Add(24 * time.Hour),
		payload: &payload{open: open},
	}
}

// unwritten says whether s has tokens that are nowhere but in this process.
func (s *Session) unwritten() bool { return s.unsaved && !s.kept }

// secrets opens what is sealed beside the identity. It is done once, and only for those who ask.
func (s *Session) secrets() (*cookie.Tokens, error) {
	if s == nil || s.payload == nil {
		return &cookie.Tokens{}, nil
	}
	s.once.Do(func() { s.tokens, s.err = s.open(&s.sealed) })
	if s.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoSession, s.err) // half a cookie is none, and no fault of ours
	}
	return s.tokens, nil
}

// newest returns s with the newest tokens that this process knows of its session, which may be s itself. Nothing is told
// of the generation that is the request's own doing.
func (c *Client) newest(ctx context.Context, s *Session, own uint64) (*Session, error) {
	id := s.sealed.Identity
	state, newer, err := c.ledger.Newest(id.ID, id.Generation)
	if err != nil {
		return nil, ErrNoSession
	}
	if !newer {
		return s, nil
	}
	next, err := c.following(s, state)
	if err != nil {
		return nil, err
	}
	g, now := state.Tokens, time.Now()
	if !now.Before(next.sealed.Identity.Ends(c.opts.IdleTimeout)) {
		return nil, ErrNoSession
	}
	if state.Generation == own {
		return next, nil
	}
	if behind := state.Generation - id.Generation; behind > 3 || now.Sub(g.Issued()) > 10*time.Minute {
		// A tab that slept, or a copy of the cookie: the provider never sees that tokens are used twice (S23).
		c.event(ctx, "session.stale_generation", "", next, fmt.Errorf("oidcauth: tokens %d generations behind", behind))
	} else {
		c.event(ctx, "session.joined", "", next, nil)
	}
	return next, nil
}

// following returns s with the tokens of a later generation.
func (c *Client) following(s *Session, state ledger.State[*granted]) (*Session, error) {
	g := state.Tokens
	tokens, err := g.over(s)
	if err != nil {
		return nil, err
	}
	sealed := s.sealed
	sealed.Identity.Generation, sealed.Identity.TokenExpiry = state.Generation, g.Access[0].Expiry
	if g.end > 0 {
		sealed.Identity.End = min(sealed.Identity.End, g.end)
	}
	next := c.newSession(sealed)
	next.unsaved, next.kept, next.version = true, g.kept, s.version
	next.once.Do(func() { next.tokens = tokens })
	return next, nil
}

// granted returns the tokens of s as its requests share them, with what this process remembers of them.
func (c *Client) granted(s *Session) (*granted, error) {
	id := &s.sealed.Identity
	if state, _, err := c.ledger.Newest(id.ID, id.Generation); err == nil && state.Generation == id.Generation {
		return state.Tokens, nil
	}
	t, err := s.secrets()
	if err != nil {
		return nil, err
	}
	g := &granted{Tokens: *t}
	g.Values = nil
	return g, nil
}

// Claims decodes the claims of the ID token, and of UserInfo where it was fetched, into v, as json.Unmarshal does.
// UserInfo never replaces a claim about the token itself (OIDC-34).
func (s *Session) Claims(v any) error {
	t, err := s.secrets()
	if err != nil {
		return fmt.Errorf("oidcauth: open claims: %w", err)
	}
	claims, err := idp.JoinClaims(t.Claims, t.UserInfo)
	if err != nil {
		return fmt.Errorf("oidcauth: join claims: %w", err)
	}
	return json.Unmarshal(claims, v)
}

// Value decodes the application value stored under key into v and reports whether there is one. In a cookie, values are
// the browser's to keep: an old cookie brings old values back, so rights and counters belong in a database.
func (s *Session) Value(key string, v any) (bool, error) {
	t, err := s.secrets()
	if err != nil {
		return false, fmt.Errorf("oidcauth: open session values: %w", err)
	}
	if data, ok := t.Values[key]; ok {
		return true, json.Unmarshal(data, v)
	}
	return false, nil
}

// SetValue stores v, encoded as JSON, under key; a nil v removes it. It is an error outside [Client.UpdateSession] and
// [Options.BeforeSave].
func (s *Session) SetValue(key string, v any) error {
	if s == nil || s.payload == nil || !s.edit {
		return errors.New("oidcauth: a session is read-only here; set values inside UpdateSession or BeforeSave")
	}
	if v == nil {
		delete(s.tokens.Values, key)
		return nil
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("oidcauth: encode session value %q: %w", key, err)
	}
	s.tokens.Values[key] = data
	return nil
}

const againKey = "oidcauth:again" // of a login.Again among the values

// askedAgain reports whether a guard at r's path has asked for a new login lately and this session is the outcome.
// Without that a refusal would send the browser in circles.
func (s *Session) askedAgain(r *http.Request) bool {
	var mark login.Again
	ok, err := s.Value(againKey, &mark)
	return err != nil || ok && mark.Covers(login.PageID(r.URL.Path))
}

// Format prints issuer, subject and handle: no token and no claim, whatever the verb.
func (s Session) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "oidcauth.Session{Issuer:%q, Subject:%q, Handle:%q}", s.Issuer, s.Subject, s.Handle)
}

// LogValue logs no secret.
func (s Session) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(s)) }

// displayName is what a page of ours calls the user.
func (s *Session) displayName() string {
	var claims struct{ Name, Email string }
	_ = s.Claims(&claims) // without claims the subject will do
	return cmp.Or(claims.Name, claims.Email, s.Subject)
}

// maxAge is the Max-Age of a session's cookie in seconds, 0 for one that ends with the browser.
func (c *Client) maxAge(id *cookie.Identity) int {
	end := id.Ends(c.opts.IdleTimeout)
	switch {
	case c.opts.Cookie.Transient:
		return 0
	case c.store != nil:
		end = time.Unix(id.End, 0) // the idle time is the store's business
	}
	return max(1, int(time.Until(end)/time.Second))
}

// open opens the session of r's cookie, or the one that it is a ticket for, as it is. A broken, foreign or expired cookie
// is no session, and neither is one that has been ended, as far as a store can tell.
func (c *Client) open(r *http.Request) (*Session, error) {
	if c.store != nil {
		if id, _, ok := c.cookies.Sessions.Ticket(r.Header); ok {
			return c.fetch(r.Context(), id)
		}
		return nil, ErrNoSession
	}
	s, err := c.unseal(r.Header)
	if err == nil && c.shared != nil {
		err = c.standing(r.Context(), s, false)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// unseal opens the session that is in the cookies of a request with the header h.
func (c *Client) unseal(h http.Header) (*Session, error) {
	var sealed cookie.Session
	if !c.cookies.Sessions.Load(h, &sealed) || !c.alive(&sealed.Identity) ||
		c.shared == nil && c.cookies.Ended.Has(h, sealed.Identity.ID) {
		return nil, ErrNoSession
	}
	return c.newSession(sealed), nil
}

// endedHere reports whether r has the cookie of a session that was ended in its browser, where no store knows that.
func (c *Client) endedHere(r *http.Request) bool {
	var sealed cookie.Session
	return c.shared == nil && c.cookies.Ended.Present(r.Header) && c.cookies.Sessions.Load(r.Header, &sealed) &&
		c.cookies.Ended.Has(r.Header, sealed.Identity.ID)
}

// present is the session that the browser has, which is about to be replaced, or nil. The error is that nobody can tell.
func (c *Client) present(r *http.Request) (*Session, error) {
	s, err := c.open(r)
	if errors.Is(err, ErrNoSession) {
		err = nil
	}
	return s, err
}

// alive says whether a session is still one. One from the future is forged or of a broken clock; processes may be a little
// apart. A shorter AbsoluteTimeout is for the sessions that there are, too: what has ended is noted for no longer (S08).
func (c *Client) alive(id *cookie.Identity) bool {
	now := time.Now()
	id.End = min(id.End, time.Unix(id.Created, 0).Add(c.opts.AbsoluteTimeout).Unix())
	_, known := c.provider.IssuerOf(id.Tenant)
	return known && now.Before(id.Ends(c.opts.IdleTimeout)) && !time.Unix(id.Created, 0).After(now.Add(time.Minute))
}

// load opens the session of r's cookie, with the newest tokens that this process knows of.
func (c *Client) load(r *http.Request) (*Session, error) {
	s, err := c.open(r)
	if err != nil {
		return nil, err
	}
	return c.newest(r.Context(), s, 0)
}

type (
	visitKey   struct{ client *Client } // a key for each Client: one never sees what another loaded (S01)
	sessionKey struct{}
)

// GetSession returns the session of r. Below [Client.Wrap] or a guard it is loaded once a request; elsewhere each call
// loads it. It sees only what c itself loaded. The errors are [ErrNoSession], and [ErrUnavailable] if a store cannot tell.
func (c *Client) GetSession(r *http.Request) (*Session, error) {
	if v := c.visit(r); v != nil {
		return v.load()
	}
	return c.load(r)
}

// SessionFromContext returns the session that the innermost guard around the handler let through. Where no guard
// stands, use [Client.GetSession].
func SessionFromContext(ctx context.Context) (*Session, bool) {
	s, ok := ctx.Value(sessionKey{}).(*Session)
	return s, ok
}

// ContextWithSession returns a context in which [SessionFromContext] finds s, for tests of handlers. No guard and no
// method of a [Client] accepts it.
func ContextWithSession(ctx context.Context, s *Session) context.Context {
	return context.WithValue(ctx, sessionKey{}, s)
}

// handleProfile answers with the user's claims. It asks nobody and rolls nothing.
func (c *Client) handleProfile(w http.ResponseWriter, r *http.Request) error {
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		return refuse("cross_origin_request", nil)
	}
	s, err := c.load(r)
	if errors.Is(err, ErrNoSession) && c.opts.NoContentProfile {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err != nil {
		return err
	}
	answer, err := c.opts.ProfileClaims(s)
	if err != nil {
		return err
	}
	page.JSON(w, http.StatusOK, answer)
	return nil
}

// userClaims are the claims about the user, without the protocol's own.
func userClaims(s *Session) (any, error) {
	var claims map[string]json.RawMessage
	err := s.Claims(&claims)
	return idp.UserClaims(claims), err
}

// UpdateSession runs edit on a copy of r's session and saves it; [Session.SetValue] is what edit may call. Below
// [Client.Wrap] or a guard the cookie is set when the header is written, GetSession sees the change at once, and once
// the header is out the error is [ErrHeaderWritten]. Elsewhere it must be called before the body is written. When
// several requests update a session at the same time, the last answer to reach the browser wins. A response with status
// 304 carries no cookie.
func (c *Client) UpdateSession(w http.ResponseWriter, r *http.Request, edit func(*Session) error) error {
	v, bare := c.visitOf(w, r)
	s, err := v.load()
	switch {
	case err != nil:
	case c.store == nil:
		s, err = c.edited(s, edit)
	default:
		s, err = c.update(r.Context(), s, func(s *Session) (*Session, error) { return c.edited(s, edit) })
		return v.replace(s, err)
	}
	switch {
	case err != nil:
		return err
	case bare:
		return c.writeSession(w.Header(), r, s)
	}
	return v.set(s, saved)
}

// edited returns a copy of s after edit, with its values sealed anew.
func (c *Client) edited(s *Session, edit func(*Session) error) (*Session, error) {
	t, err := s.secrets()
	if err != nil {
		return nil, fmt.Errorf("oidcauth: open session: %w", err)
	}
	copied := *t
	copied.Values = maps.Clone(t.Values)
	if copied.Values == nil {
		copied.Values = map[string][]byte{}
	}
	next, err := c.draft(s.sealed, &copied, s.unsaved, edit)
	if err == nil {
		next.version = s.version
	}
	return next, err
}

// draft runs edit on a session of its own and seals the outcome, as seal does.
func (c *Client) draft(
	sealed cookie.Session, tokens *cookie.Tokens, hint bool, edit func(*Session) error,
) (*Session, error) {
	s := c.newSession(sealed)
	s.once.Do(func() { s.tokens = tokens })
	before := *s
	s.edit = true
	err := edit(s)
	s.edit = false
	if err != nil {
		return nil, err
	}
	if *s != before {
		return nil, errors.New("oidcauth: only values of a session can be changed, with SetValue")
	}
	if s.sealed, err = c.seal(s.sealed, tokens, hint); err != nil {
		return nil, err
	}
	return s, nil
}

// beforeSave calls the hook, which may take ten seconds.
func (c *Client) beforeSave(ctx context.Context) func(*Session) error {
	return func(s *Session) error {
		if c.opts.BeforeSave == nil {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return c.opts.BeforeSave(ctx, s)
	}
}

// seal puts tokens into sealed. What can be had again makes room if need be: the tokens of further audiences and, if
// hint says so, the ID token, which is no more than a hint at logout (S05).
func (c *Client) seal(sealed cookie.Session, tokens *cookie.Tokens, hint bool) (cookie.Session, error) {
	err := c.cookies.Sessions.SetTokens(&sealed, tokens)
	for errors.Is(err, cookie.ErrTooLarge) {
		switch {
		case len(tokens.Access) > 1:
			tokens.Access = tokens.Access[:len(tokens.Access)-1]
		case hint && tokens.IDToken != "":
			tokens.IDToken = ""
		default:
			return sealed, fmt.Errorf("oidcauth: save session: %w", err)
		}
		err = c.cookies.Sessions.SetTokens(&sealed, tokens)
	}
	return sealed, err
}

// sealed is s with its tokens sealed.
func (c *Client) sealed(s *Session) (cookie.Session, error) {
	if !s.unsaved {
		return s.sealed, nil
	}
	tokens := *s.tokens
	return c.seal(s.sealed, &tokens, true)
}

// writeSession sets the session cookie on a response whose header can still be changed.
func (c *Client) writeSession(h http.Header, r *http.Request, s *Session) error {
	sealed, err := c.sealed(s)
	switch {
	case err != nil:
	case c.store != nil:
		err = c.cookies.Sessions.WriteTicket(h, r.Header, sealed.Identity.ID, c.maxAge(&sealed.Identity))
	default:
		err = c.cookies.Sessions.Write(h, r.Header, &sealed, c.maxAge(&sealed.Identity))
	}
	if err != nil {
		return fmt.Errorf("oidcauth: save session: %w", err)
	}
	caching.Forbid(h)
	return nil
}
