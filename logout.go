package oidcauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/oidcauth/oidcauth/internal/caching"
	"github.com/oidcauth/oidcauth/internal/cookie"
	"github.com/oidcauth/oidcauth/internal/fetch"
	"github.com/oidcauth/oidcauth/internal/idp"
	"github.com/oidcauth/oidcauth/internal/ledger"
	"github.com/oidcauth/oidcauth/internal/login"
	"github.com/oidcauth/oidcauth/internal/page"
	"github.com/oidcauth/oidcauth/internal/params"
	"github.com/oidcauth/oidcauth/internal/returnto"
)

// LogoutStrategy says whose logout follows the local one.
type LogoutStrategy string

// The strategies of [Options.LogoutStrategy].
const (
	LogoutAuto LogoutStrategy = "auto" // end_session_endpoint, else Auth0's /v2/logout with Domain, else local only
	LogoutOIDC LogoutStrategy = "oidc" // end_session_endpoint (RP-Initiated Logout 1.0); its absence is an error
	LogoutV2   LogoutStrategy = "v2"   // Auth0's /v2/logout
)

// LogoutURLParams are what a provider's logout URL may need. Empty fields are unknown or switched off.
type LogoutURLParams struct {
	ClientID, PostLogoutURL, LogoutHint, State string
	IDTokenHint                                string `json:"-"`
	uiLocales                                  string
	Federated                                  bool
}

// Format prints no secret, whatever the verb.
func (p LogoutURLParams) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "oidcauth.LogoutURLParams{ClientID:%q, PostLogoutURL:%q}", p.ClientID, p.PostLogoutURL)
}

// LogValue logs no secret.
func (p LogoutURLParams) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(p)) }

// LogoutOptions say how [Client.Logout] ends a session. The zero value ends it here and at the provider.
type LogoutOptions struct {
	// ReturnTo is where the browser goes afterwards: a target as for login, or one of AllowedLogoutURLs.
	ReturnTo string
	// Local leaves the user signed in at the provider.
	Local bool
}

// LogoutURL returns the logout route's path, base path included, for links in templates. It is "" if the route is
// switched off.
func (c *Client) LogoutURL(returnTo string) string {
	return c.routeURL(c.opts.Routes.Logout, "returnTo", returnTo)
}

// Logout ends the session of r, here first and then at the provider, revokes its refresh token (RFC 7009) and writes
// the redirect; o may be nil. If it returns an error the session is gone all the same, and nothing was written but
// headers: pass the error to [Client.Error]. Only after [ErrHeaderWritten] the cookie is still there, and this process
// takes it no more. Without a session the redirect has no hints.
func (c *Client) Logout(w http.ResponseWriter, r *http.Request, o *LogoutOptions) error {
	if o == nil {
		o = &LogoutOptions{}
	}
	return c.endSession(w, r, logoutRequest{returnTo: o.ReturnTo, local: o.Local})
}

// logoutRequest is what one logout asks for.
type logoutRequest struct {
	returnTo, state, uiLocales, hint, idToken string
	federated, local                          bool
}

// handleLogout ends the session for a request that comes from the user, and asks first where that is not sure (S26).
func (c *Client) handleLogout(w http.ResponseWriter, r *http.Request) error {
	if declined(w, r) {
		return nil
	}
	query, err := params.Read(w, r)
	if err != nil {
		return refuse("invalid_request", err)
	}
	if r.Method == http.MethodPost {
		if err := c.crossOrigin.Check(r); err != nil {
			return refuse("cross_origin_request", err)
		}
	} else if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		dest := r.Header.Get("Sec-Fetch-Dest")
		ours := (site == "same-origin" || site == "none") && (dest == "document" || dest == "empty" || dest == "")
		switch {
		case ours:
		case !fetch.IsTopLevel(r):
			return refuse("cross_origin_request", nil)
		case !c.opts.LogoutWithoutConfirmation:
			c.confirmLogout(w, r, query)
			return nil
		}
	}
	federated, ok := query["federated"]
	return c.endSession(w, r, logoutRequest{
		returnTo: query["returnTo"], state: query["state"], uiLocales: query["ui_locales"],
		hint: query["logout_hint"], federated: ok && federated != "false",
	})
}

// confirmLogout asks before another site's link signs the user out.
func (c *Client) confirmLogout(w http.ResponseWriter, r *http.Request, query map[string]string) {
	fields := map[string]string{}
	for _, name := range []string{"returnTo", "state", "federated", "ui_locales", "logout_hint"} {
		if name == "returnTo" && fetch.IsCrossSite(r) {
			continue // which the application may never have registered the way back for
		}
		if value, ok := query[name]; ok {
			fields[name] = value
		}
	}
	page.Write(w, http.StatusOK, page.Page{
		Title: "Sign out?",
		Text:  "Another site asks to sign you out here.",
		Form:  &page.Form{Action: c.LogoutURL(""), Button: "Sign out", Fields: fields},
		Links: []page.Link{{Text: "Stay signed in", URL: c.returnTo.Resolve("")}},
	})
}

// endSession ends the local session whatever the provider does, and then redirects (RIL-02).
func (c *Client) endSession(w http.ResponseWriter, r *http.Request, o logoutRequest) error {
	s, err := c.GetSession(r) // no session is no reason not to log out at the provider
	if errors.Is(err, ErrNoSession) {
		err = nil
		if v := c.visit(r); v != nil {
			s = v.known() // RevokeSessions in the same request has ended it, but the provider has not
		}
	}
	if err != nil && c.store == nil {
		s, _ = c.unseal(r.Header) // the store cannot tell whether it has ended; now it has
	}
	tokens := &cookie.Tokens{}
	id, known := c.sessionID(r)
	if s != nil {
		id, known = s.sealed.Identity.ID, true
		tokens, err = c.retire(r.Context(), s)
	} else if known {
		var state ledger.State[*granted]
		var newest bool
		if state, newest, err = c.end(r.Context(), id); newest { // although the store could not say what it is
			tokens = &state.Tokens.Tokens
			c.revoke(r.Context(), tokens.Refresh)
		}
	}
	if v := c.visit(r); v == nil {
		c.clearSession(w.Header(), r)
	} else if setErr := v.set(nil, cleared); setErr != nil {
		return setErr
	}
	if known && c.shared == nil { // nobody but this browser remembers it for longer than this process (S21)
		c.cookies.Ended.Set(w.Header(), r.Header, id, int(c.opts.AbsoluteTimeout/time.Second))
	}
	c.cookies.Logins.Clear(w.Header(), r.Header) // a login under way must not bring the session back
	c.cookies.Offers.Clear(w.Header(), r.Header)
	c.cookies.Offered.Clear(w.Header(), r.Header)
	caching.Forbid(w.Header())
	if s != nil {
		c.event(r.Context(), "session.ended", "logout", s, nil)
	}
	if err != nil {
		return refuse("logout_incomplete", err)
	}
	o.idToken = tokens.IDToken
	target, err := c.logoutTarget(w, r, s, o)
	if err != nil {
		return err
	}
	caching.Redirect(w, r, target)
	return nil
}

// logoutTarget is where the browser goes to end the provider's session, or after a local logout.
func (c *Client) logoutTarget(w http.ResponseWriter, r *http.Request, s *Session, o logoutRequest) (string, error) {
	state, after := cmp.Or(o.state, login.Random()), c.opts.PostLogoutURL
	local, waits := after, false // waits: the browser comes back to the logged-out route first
	if o.returnTo != "" {
		if slices.ContainsFunc(c.opts.AllowedLogoutURLs, func(p string) bool { return returnto.Match(p, o.returnTo) }) {
			local, after = o.returnTo, o.returnTo
		} else if checked, ok := c.returnTo.Check(o.returnTo); ok {
			local, waits = checked, c.opts.Routes.LoggedOut != "-"
		}
	}
	if o.local {
		return local, nil
	}
	metadata, err := c.provider.Metadata(r.Context())
	if err != nil {
		c.log(r.Context(), slog.LevelWarn, "logged out locally only", err)
		return local, nil
	}
	strategy := c.opts.LogoutStrategy
	switch {
	case strategy != LogoutAuto:
	case metadata.EndSessionEndpoint != "":
		strategy = LogoutOIDC
	case c.opts.Domain != "":
		strategy = LogoutV2
	case c.opts.LogoutURL == nil:
		return local, nil
	}
	if waits {
		state = login.Random() // ours finds the cookie
		// Providers compare this URL exactly, so that returnTo cannot be part of it (S28).
		if err := c.cookies.Logouts.Set(w.Header(), r.Header, state, []byte(local)); err == nil {
			after = c.absolute(c.opts.Routes.LoggedOut)
			if strategy == LogoutV2 {
				after += "?state=" + state // it carries no state of its own, and compares URLs without their query
			}
		}
	}
	p := LogoutURLParams{
		ClientID: c.opts.ClientID, PostLogoutURL: after, State: state, Federated: o.federated,
		LogoutHint: o.hint, uiLocales: o.uiLocales,
	}
	if !c.opts.OmitIDTokenHint {
		p.IDTokenHint = o.idToken
	}
	switch {
	case s != nil && c.opts.LogoutHint != nil:
		p.LogoutHint = c.opts.LogoutHint(s)
	case s != nil && c.opts.Domain != "":
		p.LogoutHint = cmp.Or(s.SID, p.LogoutHint)
	}
	return c.providerLogoutURL(metadata, strategy, p)
}

// providerLogoutURL builds the URL that ends the provider's session.
func (c *Client) providerLogoutURL(m *idp.Metadata, strategy LogoutStrategy, p LogoutURLParams) (string, error) {
	if c.opts.LogoutURL != nil {
		target, err := c.opts.LogoutURL(p)
		if err != nil || target == "" {
			return "", refuse("logout_failed", cmp.Or(err, errors.New("LogoutURL returned no URL")))
		}
		return target, nil
	}
	if strategy == LogoutV2 {
		return idp.V2LogoutURL(c.opts.Issuer, p.ClientID, p.PostLogoutURL, p.Federated), nil
	}
	if m.EndSessionEndpoint == "" {
		return "", refuse("logout_not_supported", errors.New("no end_session_endpoint; use LogoutAuto or LogoutURL"))
	}
	return m.EndSessionURL(map[string]string{
		"client_id": p.ClientID, "post_logout_redirect_uri": p.PostLogoutURL, "state": p.State,
		"logout_hint": p.LogoutHint, "ui_locales": p.uiLocales, "id_token_hint": p.IDTokenHint,
	}, p.Federated && c.opts.Domain != "")
}

// handleLoggedOut is where the provider sends the browser after a logout that named a place to go. A wrong state, or
// none, is harmless: the browser goes where every logout ends (RIL-04).
func (c *Client) handleLoggedOut(w http.ResponseWriter, r *http.Request) error {
	target := c.opts.PostLogoutURL
	if u, err := url.Parse(target); err != nil || c.isRoute(u.Path) {
		target = c.returnTo.Resolve("") // never back to here
	}
	if query, err := params.Parse(r.URL.RawQuery); err == nil {
		if payload, ok := c.cookies.Logouts.Get(r.Header, query["state"]); ok {
			c.cookies.Logouts.Delete(w.Header(), query["state"])
			target = c.returnTo.Resolve(string(payload))
		}
	}
	caching.Redirect(w, r, target)
	return nil
}

// UntilLogout returns r's context, which is cancelled with [ErrNoSession] as its cause when r's session ends: for handlers
// that stream. No store says so by itself: it is looked at every [Options.StreamCheckInterval], and with neither Store nor
// RevocationStore only logouts in this process are seen. The context is cancelled with [ErrUnavailable] as cause when the
// store cannot tell for a minute, and is cancelled already if there is no session, or no telling.
func (c *Client) UntilLogout(r *http.Request) context.Context {
	s, err := c.GetSession(r)
	ctx, cancel := context.WithCancelCause(r.Context())
	if err != nil {
		cancel(err)
		return ctx
	}
	c.watch(ctx, s, cancel)
	return ctx
}

// watch calls cancel when s ends, and looks until ctx does.
func (c *Client) watch(ctx context.Context, s *Session, cancel context.CancelCauseFunc) {
	var (
		mu     sync.Mutex
		timer  *time.Timer
		outage time.Time // when it began
	)
	look := func() {
		err := c.going(ctx, s)
		switch {
		case err == nil:
			outage = time.Time{}
		case errors.Is(err, ErrNoSession), !outage.IsZero() && time.Since(outage) > time.Minute:
			cancel(err)
		case outage.IsZero():
			outage = time.Now()
		}
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() == nil {
			timer.Reset(c.opts.StreamCheckInterval)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(c.opts.StreamCheckInterval, look)
	context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		timer.Stop()
	})
}

// going says whether a session that was loaded some time ago goes on.
func (c *Client) going(ctx context.Context, s *Session) (err error) {
	switch id := &s.sealed.Identity; {
	case c.store != nil:
		s, err = c.fetch(ctx, id.ID)
	case !time.Now().Before(time.Unix(id.End, 0)): // other requests may have extended the idle time
		err = ErrNoSession
	case c.shared != nil:
		err = c.standing(ctx, s, true)
	}
	if err != nil {
		return err
	}
	state, newer, err := c.ledger.Newest(s.sealed.Identity.ID, s.sealed.Identity.Generation)
	if err != nil || newer && state.Tokens.end > 0 && time.Now().Unix() >= state.Tokens.end {
		return ErrNoSession
	}
	return nil
}

// retire ends a session, so that no straggler revives it (S23), revokes its newest refresh token and returns its newest
// tokens. An error says that the store still has it.
func (c *Client) retire(ctx context.Context, s *Session) (*cookie.Tokens, error) {
	tokens := &cookie.Tokens{}
	if opened, err := s.secrets(); err == nil { // a session whose tokens do not open is ended all the same
		tokens = opened
	}
	state, ok, err := c.end(ctx, s.sealed.Identity.ID)
	if ok && state.Generation >= s.sealed.Identity.Generation {
		tokens = &state.Tokens.Tokens
	}
	c.revoke(ctx, tokens.Refresh)
	return tokens, err
}

// maxTasks is how many revocations and grants run beside requests.
const maxTasks = 1000

// revoke ends a refresh token at the provider, in the background: nobody waits for it, and failure changes nothing
// here.
func (c *Client) revoke(ctx context.Context, refreshToken string) {
	if refreshToken == "" || c.opts.SkipRevocation {
		return
	}
	c.background(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if err := c.provider.Revoke(ctx, refreshToken, "refresh_token"); err != nil {
			c.log(ctx, slog.LevelWarn, "refresh token not revoked", err)
		}
	})
}

// background runs what Close waits for.
func (c *Client) background(task func()) {
	if !c.tasks.TryAcquire(1) { // Close is waiting already, or very much is under way
		task()
		return
	}
	go func() { defer c.tasks.Release(1); task() }()
}
