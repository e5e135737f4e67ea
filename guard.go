package oidcauth

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/oidcauth/oidcauth/internal/fetch"
)

// RequireAuth lets only requests with a session through. Others are sent to the login if they are navigations of a
// browser tab, and get 401 with a JSON body otherwise. It also refuses cross-origin requests with unsafe methods and
// WebSocket handshakes from other origins (403), and keeps responses out of shared caches. [SessionFromContext] gives
// next the session. The auth routes are served as by [Client.Wrap], so that a guard may stand around everything.
func (c *Client) RequireAuth(next http.Handler) http.Handler {
	return c.RequireAuthWith(RequireOptions{})(next)
}

// RequireAuthAPI is [Client.RequireAuth] for requests made by programs: without a session the answer is always 401.
func (c *Client) RequireAuthAPI(next http.Handler) http.Handler {
	return c.RequireAuthWith(RequireOptions{API: true})(next)
}

// RequireOptions say what [Client.RequireAuthWith] asks of a request. The zero value is [Client.RequireAuth].
type RequireOptions struct {
	// API answers 401 where a page would be sent to the login.
	API bool
	// FreshFor refreshes the login's access token before the handler runs if less than this is left of it (but not of more
	// than half its lifetime): for handlers that stream, since nothing can be refreshed once the header is out. While the
	// provider cannot be reached a token that is still valid will do. 0 leaves it to the handler.
	FreshFor time.Duration
	// Check may refuse a session: with ErrLoginRequired the user logs in again, an *Error says itself how it is
	// answered, any other is 403, and so is ErrLoginRequired on a page that asked for a login in the last five minutes.
	Check func(*http.Request, *Session) error
	// Login is how the login is started. Its ReturnTo is ignored: the user comes back to where they were.
	Login *LoginOptions
}

// RequireAuthWith is [Client.RequireAuth] with options. It panics if o is contradictory, as ServeMux does for a bad
// pattern.
func (c *Client) RequireAuthWith(o RequireOptions) func(http.Handler) http.Handler {
	if o.FreshFor < 0 {
		panic("oidcauth: RequireOptions: FreshFor is negative")
	}
	if o.API && o.Login != nil {
		panic("oidcauth: RequireOptions: an API guard starts no login; remove API or Login")
	}
	options := LoginOptions{}
	if o.Login != nil {
		options = o.Login.clone()
	}
	if err := checkLoginOptions(&options); err != nil {
		panic("oidcauth: RequireOptions: " + err.Error())
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c.serve(w, r) { // a guard around everything must not stand before the callback
				return
			}
			v, w, r, first := c.enter(w, r)
			v.guard(w.Header())
			s, err := c.admit(r, v, &o)
			if err != nil {
				c.turnAway(w, r, err, o.API, options)
			} else {
				next.ServeHTTP(w, r.WithContext(ContextWithSession(r.Context(), s)))
			}
			if first {
				v.writeHeader(http.StatusOK)
			}
		})
	}
}

// admit decides whether a guard lets r through: origin first, then session, then the application's own check.
func (c *Client) admit(r *http.Request, v *visit, o *RequireOptions) (*Session, error) {
	if err := c.checkOrigin(r); err != nil {
		return nil, err
	}
	s, err := v.load()
	if err == nil && o.FreshFor > 0 {
		h := holder{request: r, visit: v}
		if _, err = h.first(&TokenOptions{}, max(o.FreshFor, c.opts.TokenRefreshBuffer)); err == nil {
			s, err = v.load()
		}
	}
	if err != nil || o.Check == nil {
		return s, err
	}
	if err = o.Check(r, s); err == nil || errors.Is(err, ErrLoginRequired) {
		return s, err
	}
	if _, ok := errors.AsType[*Error](err); !ok {
		err = refuse("forbidden", err)
	}
	return nil, err
}

// checkOrigin refuses what another origin's page makes a browser send: unsafe methods, and WebSocket handshakes, which
// are GETs that no other check sees (S30).
func (c *Client) checkOrigin(r *http.Request) error {
	if c.opts.InsecureDisableCSRFProtection {
		return nil
	}
	err, from := c.crossOrigin.Check(r), r.Header.Get("Origin")
	if err == nil && fetch.IsWebSocket(r) && from != c.origin && !slices.Contains(c.opts.TrustedOrigins, from) {
		err = errors.New("WebSocket handshake from another origin")
	}
	if err != nil {
		err = refuse("cross_origin_request", err)
	}
	return err
}

// turnAway answers a request that a guard does not let through.
func (c *Client) turnAway(w http.ResponseWriter, r *http.Request, err error, api bool, o LoginOptions) {
	_, says := errors.AsType[*Error](err) // says itself how it is answered, whatever its cause is
	again := errors.Is(err, ErrLoginRequired)
	if api || says || !fetch.StartsLogin(r) || !again && !errors.Is(err, ErrNoSession) {
		c.fail(w, r, "guard", err)
		return
	}
	if target := fetch.Page(r, c.origin, c.basePath, c.opts.PrefixStripped); c.hops(r) && c.returnTo.Resolve(target) == target {
		hop(w, target)
		return
	}
	if s, _ := c.GetSession(r); again && s != nil && s.askedAgain(r) {
		err = refuse("login_denied", fmt.Errorf("a new login brought no better session: %w", err))
	} else {
		o.ReturnTo = fetch.Page(r, c.origin, c.basePath, c.opts.PrefixStripped)
		err = c.startLogin(w, r, "guard", o, again)
	}
	if err != nil {
		c.fail(w, r, "guard", err)
	}
}
