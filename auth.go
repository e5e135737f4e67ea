// Package oidcauth gives a web application sign-in with any OpenID Connect provider.
//
// A [Client] serves the routes of login, callback, logout, profile and access token, keeps the session in an encrypted
// cookie (a very large one in up to five), keeps its tokens fresh and protects handlers:
//
//	client, err := oidcauth.New(oidcauth.Options{
//		Issuer:       "https://tenant.example.com/",
//		ClientID:     os.Getenv("OIDC_CLIENT_ID"),
//		ClientSecret: os.Getenv("OIDC_CLIENT_SECRET"),
//		BaseURL:      "https://app.example.com",
//		Secrets:      []string{os.Getenv("SESSION_SECRET")},
//	})
//	if err != nil {
//		log.Fatal(err)
//	}
//
//	mux := http.NewServeMux()
//	mux.HandleFunc("GET /{$}", home)
//	mux.Handle("GET /account", client.RequireAuth(http.HandlerFunc(account)))
//	mux.Handle("/api/", client.RequireAuthAPI(api))
//	log.Fatal(http.ListenAndServe(":8080", client.Wrap(mux)))
//
// The browser holds the sealed cookie, in which it can use no token; its scripts may ask for an access token, unless
// Routes.AccessToken is switched off, and never for a refresh token. Every login uses the authorization code flow with
// PKCE, state and nonce (OpenID Connect Core 3.1, RFC 7636), and every ID token's signature is verified.
package oidcauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/oidcauth/oidcauth/internal/answer"
	"github.com/oidcauth/oidcauth/internal/caching"
	"github.com/oidcauth/oidcauth/internal/check"
	"github.com/oidcauth/oidcauth/internal/cookie"
	"github.com/oidcauth/oidcauth/internal/fetch"
	"github.com/oidcauth/oidcauth/internal/idp"
	"github.com/oidcauth/oidcauth/internal/ledger"
	"github.com/oidcauth/oidcauth/internal/login"
	"github.com/oidcauth/oidcauth/internal/page"
	"github.com/oidcauth/oidcauth/internal/returnto"
	"github.com/oidcauth/oidcauth/internal/revocation"
	"github.com/oidcauth/oidcauth/internal/storage"
)

// A Client signs users in for one application at one provider. Make it with [New]; it is safe for concurrent use. Two
// Clients see each other's sessions only if issuer, client id, base URL, cookie name and secrets are all the same.
type Client struct {
	opts        Options // validated, with defaults, never changed
	base        *url.URL
	basePath    string // of BaseURL, without trailing slash: "" or "/app"
	origin      string // of BaseURL
	routes      map[string]route
	provider    *idp.Provider
	cookies     cookie.Set
	returnTo    *returnto.Policy
	crossOrigin *http.CrossOriginProtection
	callbacks   ledger.Once[*Session] // by state
	ledger      *ledger.Ledger[*granted]
	transport   http.RoundTripper   // to APIs
	tasks       *semaphore.Weighted // revocations and grants under way
	shared      *storage.Guarded    // with other processes: sessions, or what is noted about them; nil: nothing
	store       *storage.Guarded    // the same, nil if sessions are in the cookie
	marks       *revocation.Registry
	rolling     sync.Map // ids of sessions that are being saved in the store, or noted
}

// New checks o as a whole and returns every mistake in it as joined [*ConfigError] values. It does no I/O and starts no
// goroutine: the provider's metadata is fetched when it is first needed, or by [Client.Discover].
func New(o Options) (*Client, error) {
	o = o.withDefaults()
	err := o.validate()
	base, parseErr := url.Parse(strings.TrimSuffix(o.BaseURL, "/"))
	if parseErr != nil {
		return nil, err // says the same, with the field's name
	}
	c := &Client{
		opts: o, base: base, basePath: base.Path, origin: check.CanonicalOrigin(base),
		tasks: semaphore.NewWeighted(maxTasks), crossOrigin: http.NewCrossOriginProtection(),
	}
	for _, trusted := range append(o.TrustedOrigins, c.origin) {
		_ = c.crossOrigin.AddTrustedOrigin(trusted) // validate has said what is wrong with it
	}
	c.routes = c.newRoutes()
	rules := returnto.Options{
		BaseURL: o.BaseURL, AllowHTTP: o.InsecureAllowHTTP, IsAuthRoute: c.isRoute, Default: o.DefaultReturnTo,
	}
	if _, bad := returnto.New(rules); bad != nil && check.URL(o.BaseURL, o.InsecureAllowHTTP) == nil {
		err = errors.Join(err, &ConfigError{"DefaultReturnTo", bad.Error()})
	}
	if err != nil {
		return nil, err
	}
	rules.Origins = o.AllowedReturnOrigins
	if c.returnTo, err = returnto.New(rules); err != nil {
		return nil, &ConfigError{"AllowedReturnOrigins", err.Error()}
	}
	c.provider = idp.New(idp.Config{
		Issuer: o.Issuer, DiscoveryURL: o.DiscoveryURL, ClockSkew: o.ClockSkew, MaxIDTokenAge: o.MaxIDTokenAge,
		AllowedTenants: o.AllowedTenants, AuthorizedParties: o.AuthorizedParties, MaxSubjectLength: o.MaxSubjectLength,
		AllowMissingTokenType: o.AllowMissingTokenType,
		ClientID:              o.ClientID, ClientSecret: o.ClientSecret, AuthStyle: o.AuthStyle,
		Public: o.PublicClient, SigningAlgs: o.IDTokenSigningAlgs, UserInfoSigningAlg: o.UserInfoSigningAlg,
		TrustedAudience: o.TrustedAudiences, AllowHTTP: o.InsecureAllowHTTP, HTTPClient: o.HTTPClient,
	})
	c.ledger = &ledger.Ledger[*granted]{
		Go:   c.background,
		Late: func(ctx context.Context, g *granted) { c.revoke(ctx, g.Refresh) }, // S23
	}
	if c.transport = idp.DefaultTransport(64); o.HTTPClient != nil {
		c.transport = cmp.Or(o.HTTPClient.Transport, http.DefaultTransport)
	}
	switch {
	case o.Store != nil:
		c.shared = storage.Guard(o.Store, o.StoreTimeout, 1)
		c.store = c.shared
	case o.RevocationStore != nil:
		c.shared = storage.Guard(o.RevocationStore, o.StoreTimeout, 1+2*len(o.Secrets))
	}
	c.cookies = cookie.NewSet(cookie.SetOptions{
		Session: cookie.Attributes{
			Name: o.Cookie.Name, Domain: o.Cookie.Domain, SameSite: o.Cookie.SameSite,
			Secure: base.Scheme == "https", Partitioned: o.Cookie.Partitioned,
		},
		BasePath: c.basePath, Issuer: o.Issuer, ClientID: o.ClientID, BaseURL: base.String(), Secrets: o.Secrets,
		SessionCodecs: o.SessionCodecs, LoginCodecs: o.LoginCodecs,
		LoginTTL: login.Lifetime, LogoutTTL: 10 * time.Minute, OfferTTL: offerLifetime, Stored: o.Store != nil,
		CrossSiteLogins: o.ResponseMode == ResponseFormPost,
	})
	if o.cannotRevoke() == nil {
		c.marks = &revocation.Registry{
			Store: c.shared, Names: c.markNames, Seal: c.cookies.Vault.Seal, Open: c.cookies.Vault.Open, Life: c.noteLife(),
		}
	}
	return c, nil
}

// Format prints issuer, client id and base URL: no secret, whatever the verb.
func (c *Client) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "oidcauth.Client{%v}", c.opts) }

// Discover fetches the provider's metadata, so that a wrong issuer shows at start-up and the first login is faster. It
// may be left out: metadata is fetched when needed, kept for an hour, and used for up to a day while
// newer cannot be had.
func (c *Client) Discover(ctx context.Context) error {
	_, err := c.provider.Metadata(ctx)
	return providerError(err)
}

// Close waits for refreshes and revocations under way, until ctx ends. Call it after the server's Shutdown.
func (c *Client) Close(ctx context.Context) error {
	if c.tasks.TryAcquire(maxTasks) || c.tasks.Acquire(ctx, maxTasks) == nil {
		c.tasks.Release(maxTasks)
		return nil
	}
	return fmt.Errorf("oidcauth: close: %w", context.Cause(ctx))
}

// Handler serves the auth routes alone; anything else is 404. Mount it without a method, since its routes differ in
// theirs: mux.Handle("/auth/", client.Handler()). Beside it the home page is "GET /{$}".
func (c *Client) Handler() http.Handler {
	return c.Wrap(http.NotFoundHandler())
}

// Wrap serves the auth routes and passes every other request to next, with its session loaded and, when due, its idle
// time extended. A request without a session cookie is passed on as it is.
func (c *Client) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.serve(w, r) {
			return
		}
		if c.visit(r) != nil || !c.cookies.Sessions.Present(r.Header) {
			next.ServeHTTP(w, r)
			return
		}
		v, w, r, _ := c.enter(w, r)
		next.ServeHTTP(w, r)
		v.writeHeader(http.StatusOK) // if the handler wrote nothing
	})
}

// Error answers err as the routes and guards do: [ErrNoSession] and [ErrLoginRequired] start a login for a navigation
// and are 401 with a JSON body otherwise, [ErrUnavailable] is 503, and an [*Error] says itself what it is. Anything
// else is 500, with the text in the log only. Nothing may have been written yet. To a client that went away it is 503.
func (c *Client) Error(w http.ResponseWriter, r *http.Request, err error) {
	c.turnAway(w, r, err, false, LoginOptions{})
}

// Sentinel errors, for errors.Is.
var (
	// ErrNoSession says that the request has no session that is still valid.
	ErrNoSession = errors.New("oidcauth: no session")
	// ErrLoginRequired says that only a new login helps, whether or not there is a session.
	ErrLoginRequired = errors.New("oidcauth: login required")
	// ErrMFARequired says that the provider gives the token only after a login with a second factor.
	ErrMFARequired = errors.New("oidcauth: multi-factor authentication required")
	// ErrInvalidState says that a callback belongs to no login that this browser started.
	ErrInvalidState = errors.New("oidcauth: invalid state")
	// ErrUnavailable says that the provider, or the store, cannot be reached at the moment.
	ErrUnavailable = errors.New("oidcauth: unavailable")
	// ErrHeaderWritten says that a cookie would have to be set after the response header was sent.
	ErrHeaderWritten = errors.New("oidcauth: response header already written")
)

// An Error is an answer to a request: what the user sees, and apart from it the cause, which is for the log.
type Error struct {
	Route    string // login, callback, logout, …, or guard
	Status   int    // of the response
	Code     string // for programs, such as invalid_state
	Public   string // for the user: plain text
	ReturnTo string `json:"-"` // where the login under way was to end, if known
	Err      error  `json:"-"` // the cause: never shown to a browser
}

// Error includes the cause.
func (e *Error) Error() string {
	text := strings.TrimPrefix(e.Route+": "+e.Code, ": ")
	if e.Err != nil {
		text += ": " + strings.TrimPrefix(e.Err.Error(), "oidcauth: ")
	}
	return "oidcauth: " + text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// A ProviderError is an error response of the provider (RFC 6749 4.1.2.1 and 5.2). Description is the provider's text,
// or, at the callback, anybody's: show it escaped or not at all. Error does not print it.
type ProviderError struct {
	Code        string
	Description string         `json:"-"`
	Raw         map[string]any `json:"-"` // further members of the response, nil if there are none
}

// Error names the code alone.
func (e *ProviderError) Error() string { return "oidcauth: the provider answered " + e.Code }

// Format prints the code alone, whatever the verb.
func (e ProviderError) Format(f fmt.State, _ rune) { fmt.Fprint(f, e.Error()) }

// providerError translates an error of the provider's side to the package's own types.
func providerError(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, idp.ErrUnreachable) { // first: an error response with a 5xx is one too
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if e, ok := errors.AsType[*idp.Error](err); ok {
		return fmt.Errorf("%w: %w", &ProviderError{Code: e.Code, Description: e.Description, Raw: e.Raw}, err)
	}
	return fmt.Errorf("oidcauth: %w", err)
}

// fail answers err. It is the one place where an error becomes a response, a log line and a call of OnError.
func (c *Client) fail(w http.ResponseWriter, r *http.Request, routeName string, err error) {
	if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		w.WriteHeader(http.StatusServiceUnavailable) // for a client that closed only its half
		return
	}
	e := classify(err)
	e.Route = cmp.Or(e.Route, routeName)
	if e.Status >= 500 {
		c.log(r.Context(), slog.LevelError, "request failed", e)
	} else if e.Err != nil {
		c.log(r.Context(), slog.LevelInfo, "request refused", e)
	}
	caching.Protect(w.Header())
	switch e.Status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Cookie") // a challenge is a must (RFC 9110 11.6.1), and none fits
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "5")
	}
	if c.opts.OnError != nil {
		c.opts.OnError(w, r, e)
		return
	}
	// A 401 is for programs, since in a tab the login starts, but at the end of one.
	if fetch.WantsPage(r) && (e.Status != http.StatusUnauthorized || e.Code == "session_revoked") {
		c.errorPage(w, r, e)
		return
	}
	body := map[string]string{"error": e.Code, "error_description": e.Public}
	if url := c.LoginURL(""); url != "" && (e.Status == http.StatusUnauthorized || e.Code == "navigation_required") {
		body["login_url"] = url
	}
	page.JSON(w, e.Status, body)
}

// refuse is the answer with a code of ours.
func refuse(code string, cause error) *Error {
	status, text := answer.Of(code)
	return &Error{Status: status, Code: code, Public: text, Err: cause}
}

// classify gives err its answer.
func classify(err error) *Error {
	if known, ok := errors.AsType[*Error](err); ok {
		copied := *known
		return &copied
	}
	switch {
	case errors.Is(err, ErrNoSession):
		return refuse("unauthenticated", nil)
	case errors.Is(err, ErrLoginRequired):
		e := refuse("login_required", nil)
		e.Status = http.StatusUnauthorized // of a session, where the callback's answer of that name blames the request
		return e
	case errors.Is(err, ErrMFARequired):
		return refuse("mfa_required", err)
	case errors.Is(err, ErrUnavailable), errors.Is(err, context.DeadlineExceeded): // of a middleware, before ours
		return refuse("provider_unavailable", err)
	}
	if _, ok := errors.AsType[*ProviderError](err); ok {
		return refuse("refresh_failed", err)
	}
	return refuse("server_error", err)
}

// log writes one line without secrets: no error of ours has any in its text.
func (c *Client) log(ctx context.Context, level slog.Level, text string, err error) {
	c.opts.Logger.LogAttrs(ctx, level, "oidcauth: "+text, slog.String("error", err.Error()))
}

// errorPage shows an error to a person, with the way on that there is.
func (c *Client) errorPage(w http.ResponseWriter, r *http.Request, e *Error) {
	p := page.Page{Title: "Sign-in problem", Text: e.Public, Code: e.Code}
	ofLogin := e.Route == "login" || e.Route == "callback" || e.Status == http.StatusServiceUnavailable
	if ofLogin && c.opts.Routes.Login != "-" {
		returnTo, _, _ := strings.Cut(e.ReturnTo, "?") // a query stays in the sealed cookie and in no URL (S33)
		p.Links = append(p.Links, page.Link{Text: "Try again", URL: c.LoginURL(returnTo)})
	}
	home := page.Link{Text: "Back to the start page", URL: c.returnTo.Resolve("")}
	if e.Status != http.StatusServiceUnavailable { // a store that is down would only take its time once more
		if s, err := c.GetSession(r); err == nil {
			home.Text = "Continue as " + s.displayName()
		}
	}
	p.Links = append(p.Links, home)
	page.Write(w, e.Status, p)
}

// An Event tells what happened to a login or a session. Names and fields are stable.
//
//	login.started             a login was sent to the provider
//	login.failed              a callback ended in an error (Err)
//	session.created           a login ended well
//	session.ended             a session was logged out, or the provider takes its refresh token no more
//	session.revoked           a session, or all of a user without SessionID, were ended from elsewhere: by a logout token, or
//	                          by RevokeSession or RevokeSessions
//	session.refreshed         new tokens were got
//	session.joined            a request got tokens that another request's refresh had brought
//	session.stale_generation  the same, more than three refreshes or ten minutes late: a tab that slept, or a stolen cookie
//	refresh.failed            no new tokens were got (Err)
//	refresh.mismatch          a refreshed ID token says something odd, or cannot be checked now (Err)
type Event struct {
	Name, Route, Issuer, Subject string
	SessionID                    string // the session's Handle
	Err                          error
}

// event tells OnEvent. A hook that panics must not take a login down, nor one that waits for the request's end.
func (c *Client) event(ctx context.Context, name, route string, s *Session, err error) {
	if c.opts.OnEvent == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			c.log(ctx, slog.LevelError, "OnEvent panicked", errors.New(name))
		}
	}()
	e := Event{Name: name, Route: route, Issuer: c.opts.Issuer, Err: err}
	if s != nil {
		e.Issuer, e.Subject, e.SessionID = s.Issuer, s.Subject, s.Handle
	}
	c.opts.OnEvent(context.WithoutCancel(ctx), e)
}
