package oidcauth

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oidcauth/oidcauth/internal/answer"
	"github.com/oidcauth/oidcauth/internal/caching"
	"github.com/oidcauth/oidcauth/internal/check"
	"github.com/oidcauth/oidcauth/internal/cookie"
	"github.com/oidcauth/oidcauth/internal/fetch"
	"github.com/oidcauth/oidcauth/internal/idp"
	"github.com/oidcauth/oidcauth/internal/login"
	"github.com/oidcauth/oidcauth/internal/params"
)

// AudienceParam is the name of the request parameter that carries an audience.
type AudienceParam string

// The parameters that providers take an audience in.
const (
	ParamResource AudienceParam = "resource" // RFC 8707
	ParamAudience AudienceParam = "audience" // Auth0
)

// Routes are the paths of the auth routes below BaseURL's path. Empty is the default, "-" switches a route off.
type Routes struct {
	Login     string // /auth/login
	Callback  string // /auth/callback: the redirect URI to register with the provider
	Logout    string // /auth/logout
	LoggedOut string // /auth/logged-out: register it as a post-logout URL to use returnTo at logout
	Profile   string // /auth/profile
	// AccessToken is /auth/access-token: scripts of the application get an access token here, and so does a script that
	// was injected into it. Switch it off where [Client.Proxy] or [Client.HTTPClient] will do.
	AccessToken string
}

// named lists the routes in the order of their fields.
func (r Routes) named() []struct{ name, path string } {
	return []struct{ name, path string }{
		{"Login", r.Login},
		{"Callback", r.Callback},
		{"Logout", r.Logout},
		{"LoggedOut", r.LoggedOut},
		{"Profile", r.Profile},
		{"AccessToken", r.AccessToken},
	}
}

// A route answers one path. Its handler either answers or returns an error and has written nothing.
type route struct {
	name    string
	methods []string
	handle  func(http.ResponseWriter, *http.Request) error
}

// newRoutes returns the route table by the path that requests arrive with.
func (c *Client) newRoutes() map[string]route {
	table := map[string]route{
		c.opts.Routes.Login:     {"login", []string{"GET"}, c.handleLogin},
		c.opts.Routes.Callback:  {"callback", []string{"GET"}, c.handleCallback},
		c.opts.Routes.Logout:    {"logout", []string{"GET", "POST"}, c.handleLogout},
		c.opts.Routes.LoggedOut: {"logged-out", []string{"GET"}, c.handleLoggedOut},
		c.opts.Routes.Profile:   {"profile", []string{"GET", "HEAD"}, c.handleProfile},

		c.opts.Routes.AccessToken: {"access-token", []string{"GET"}, c.handleAccessToken},
	}
	routes := map[string]route{}
	for path, rt := range table {
		switch {
		case path == "-":
		case c.opts.PrefixStripped:
			routes[path] = rt
		default:
			routes[c.basePath+path] = rt
		}
	}
	return routes
}

// serve answers r if it is for one of the routes.
func (c *Client) serve(w http.ResponseWriter, r *http.Request) bool {
	rt, ok := c.routes[strings.TrimSuffix(r.URL.Path, "/")]
	if !ok {
		return false
	}
	caching.Protect(w.Header())
	err := error(refuse("method_not_allowed", nil))
	if slices.Contains(rt.methods, r.Method) {
		err = rt.handle(w, r)
	} else {
		w.Header().Set("Allow", strings.Join(rt.methods, ", "))
	}
	if err != nil {
		c.fail(w, r, rt.name, err)
	}
	return true
}

// isRoute reports whether a decoded path, as a browser would ask for it, is one of the routes.
func (c *Client) isRoute(path string) bool {
	for _, route := range c.opts.Routes.named() {
		if route.path != "-" && strings.TrimSuffix(path, "/") == c.basePath+route.path {
			return true
		}
	}
	return false
}

// routeURL is the path of a route, base path included, or "" if the route is switched off.
func (c *Client) routeURL(path, param, value string) string {
	if path == "-" {
		return ""
	}
	u := url.URL{Path: c.basePath + path}
	if value != "" {
		u.RawQuery = url.Values{param: {value}}.Encode()
	}
	return u.String()
}

// LoginURL returns the login route's path, base path included, for links in templates. After the login the browser goes
// to returnTo, or to DefaultReturnTo if that is empty or not ours. It is "" if the route is switched off.
func (c *Client) LoginURL(returnTo string) string {
	return c.routeURL(c.opts.Routes.Login, "returnTo", returnTo)
}

// LoginOptions are what one login asks for beyond [Options]. The zero value asks for nothing.
type LoginOptions struct {
	// ReturnTo is where the browser goes after the login: a local path, or a URL of an allowed origin.
	ReturnTo string
	// RequireACR makes the login fail unless the ID token's acr is one of these (OpenID Connect Core 2).
	RequireACR []string
	// Scopes are asked for beside Options.Scopes.
	Scopes []string
	// Params are further parameters of the authorization request, such as prompt or screen_hint. They cannot name one
	// that the library sets itself.
	Params map[string]string
}

func (o LoginOptions) clone() LoginOptions {
	o.RequireACR, o.Scopes, o.Params = slices.Clone(o.RequireACR), slices.Clone(o.Scopes), maps.Clone(o.Params)
	return o
}

// Login writes the redirect to the provider; o may be nil. If it returns an error nothing was written: pass it to
// [Client.Error].
func (c *Client) Login(w http.ResponseWriter, r *http.Request, o *LoginOptions) error {
	if o == nil {
		o = &LoginOptions{}
	}
	if err := checkLoginOptions(o); err != nil {
		return fmt.Errorf("oidcauth: login: %w", err)
	}
	return c.startLogin(w, r, "login", o.clone(), false)
}

// checkLoginOptions refuses what would break the authentication request, be it from code or from a link.
func checkLoginOptions(o *LoginOptions) error {
	return cmp.Or(check.Scopes(o.Scopes), idp.CheckParams(o.Params))
}

// linkParams are the parameters that a login link may carry to the provider.
var linkParams = []string{
	"screen_hint", "prompt", "login_hint", "connection", "organization", "invitation",
	"ui_locales", "max_age", "acr_values", "display",
}

// handleLogin starts the login that a link asks for.
func (c *Client) handleLogin(w http.ResponseWriter, r *http.Request) error {
	if fetch.IsPrefetch(r) {
		w.WriteHeader(http.StatusNoContent) // a browser that only prepares must not start a login (lesson 11)
		return nil
	}
	if !fetch.IsTopLevel(r) {
		// In a frame the login would evict the one that the user is just doing (S19); a script cannot follow it.
		return refuse("navigation_required", nil)
	}
	query, err := params.Parse(r.URL.RawQuery)
	if err != nil {
		return refuse("invalid_request", err)
	}
	o := LoginOptions{ReturnTo: query["returnTo"], Params: map[string]string{}}
	for _, name := range slices.Concat(linkParams, c.opts.AllowedLoginParams) {
		if value := query[name]; value != "" {
			o.Params[name] = value
		}
	}
	// S14: what a link asks for beyond the configuration is what the configuration lists.
	if audience := query["audience"]; audience != "" && slices.Contains(c.opts.AllowedAudiences, audience) {
		o.Params[string(c.opts.AudienceParam)] = audience
	}
	for scope := range strings.FieldsSeq(query["scope"]) {
		if slices.Contains(c.opts.AllowedScopes, scope) {
			o.Scopes = append(o.Scopes, scope)
		}
	}
	if err := checkLoginOptions(&o); err != nil {
		return refuse("invalid_request", err)
	}
	return c.startLogin(w, r, "login", o, false)
}

// startLogin writes the redirect to the provider.
func (c *Client) startLogin(w http.ResponseWriter, r *http.Request, route string, o LoginOptions, again bool) error {
	metadata, err := c.provider.Metadata(r.Context())
	if err != nil {
		e := classify(loginError("invalid_metadata", err))
		e.ReturnTo = c.returnTo.Resolve(o.ReturnTo) // the page offers to try again
		return e
	}
	tx := login.New(c.returnTo.Resolve(o.ReturnTo))
	tx.ACR = o.RequireACR
	if again {
		tx.Again = login.PageID(r.URL.Path)
	}
	target, err := c.authorizationURL(metadata, tx, &o)
	if err != nil {
		return err
	}
	err = c.cookies.Logins.Set(w.Header(), r.Header, tx.State, tx.Encode())
	if errors.Is(err, cookie.ErrTooLarge) { // better back at the start page than not signed in (S19)
		tx.ReturnTo = c.returnTo.Resolve("")
		err = c.cookies.Logins.Set(w.Header(), r.Header, tx.State, tx.Encode())
	}
	if err != nil {
		return refuse("invalid_request", err)
	}
	c.event(r.Context(), "login.started", route, nil, nil)
	caching.Redirect(w, r, target)
	return nil
}

// authorizationURL builds the authentication request and notes in tx what it asks for.
func (c *Client) authorizationURL(metadata *idp.Metadata, tx *login.Transaction, o *LoginOptions) (string, error) {
	extra := map[string]string{string(c.opts.AudienceParam): c.opts.Audience}
	maps.Copy(extra, c.opts.AuthParams)
	maps.Copy(extra, o.Params)
	extra["acr_values"] = cmp.Or(strings.Join(o.RequireACR, " "), extra["acr_values"])
	if age := extra["max_age"]; age != "" {
		seconds, err := strconv.ParseInt(age, 10, 32)
		if err != nil || seconds < 0 {
			return "", errors.New("oidcauth: max_age is not a number of seconds")
		}
		tx.MaxAge = &seconds
	}
	tx.Scope, tx.Audience = metadata.Scope(c.opts.Scopes, o.Scopes), extra[string(c.opts.AudienceParam)]
	tx.Organization = extra["organization"]
	tx.Fresh = slices.Contains(strings.Fields(extra["prompt"]), "login")
	return metadata.AuthorizationURL(idp.AuthRequest{
		ClientID: c.opts.ClientID, RedirectURI: c.absolute(c.opts.Routes.Callback), Scope: tx.Scope,
		State: tx.State, Nonce: tx.Nonce, Verifier: tx.Verifier, Extra: extra,
	})
}

// absolute is the URL of a route as the provider knows it. It comes from BaseURL and never from a request (OIDC-01).
func (c *Client) absolute(path string) string {
	return c.base.Scheme + "://" + c.base.Host + c.base.EscapedPath() + path
}

// handleCallback ends a login: the provider sent the browser back with a code, or with an error.
func (c *Client) handleCallback(w http.ResponseWriter, r *http.Request) error {
	if fetch.IsPrefetch(r) {
		w.WriteHeader(http.StatusNoContent) // nothing is spent on what may never be shown (S24)
		return nil
	}
	query, err := params.Parse(r.URL.RawQuery)
	if err != nil || query["response"] != "" || query["code"] != "" && query["error"] != "" {
		return c.loginFailed(r, nil, refuse("invalid_state", cmp.Or(err, ErrInvalidState)))
	}
	tx, err := c.findLogin(r, query["state"])
	if err != nil {
		return c.loginFailed(r, nil, err)
	}
	c.cookies.Logins.Delete(w.Header(), tx.State)
	// The login is finished even if the browser hangs up: a repetition of the request waits for its outcome (S24).
	detached := r.WithContext(context.WithoutCancel(r.Context()))
	wait, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	finish := func() (*Session, error) { return c.finishLogin(detached, tx, query) }
	s, first, err := c.callbacks.Do(wait, tx.State, r.URL.RawQuery, finish)
	if err == nil {
		err = c.completeLogin(w, r, s, c.returnTo.Resolve(tx.ReturnTo), first) // checked again (BCP-01)
	} else if !first {
		err = refuse("invalid_state", errors.Join(ErrInvalidState, err))
	}
	if err != nil {
		err = c.loginFailed(r, tx, err)
	}
	return err
}

// completeLogin answers the callback with the new session. A hook that fails leaves none, a panic neither.
func (c *Client) completeLogin(w http.ResponseWriter, r *http.Request, s *Session, target string, first bool) error {
	if s == nil || !first && c.opts.OnLogin != nil { // too late for the session, or for the hook, which is asked once
		caching.Redirect(w, r, target)
		return nil
	}
	old, _ := c.open(r) // as the browser has it
	v, w, r, outermost := c.enter(w, r)
	err := v.set(s, saved) // also over a session that a guard around this route has loaded
	defer func() {
		if err != nil {
			if errors.Is(v.set(nil, rolls), ErrNoSession) { // the hook has logged out, and that stays
				c.cookies.Sessions.Clear(w.Header(), r.Header)
			}
			c.retire(r.Context(), s)
		}
	}()
	switch {
	case err != nil:
	case c.opts.OnLogin == nil:
		caching.Redirect(w, r, target)
	default:
		err = errors.New("OnLogin panicked") // stays only if it does
		err = c.opts.OnLogin(w, r, s, target)
	}
	if outermost && err == nil {
		v.writeHeader(http.StatusOK) // if the handler wrote nothing
	}
	if first && err == nil {
		if old != nil {
			// A slow answer of the session before must not bring it back. Its refresh token stays: revoking it may end
			// the new one's grant as well.
			c.ledger.End(old.sealed.Identity.ID)
		}
		c.event(r.Context(), "session.created", "callback", s, nil)
	}
	return err
}

// findLogin returns the login that state belongs to. It is one that this browser started (OIDC-02, BCP-02).
func (c *Client) findLogin(r *http.Request, state string) (*login.Transaction, error) {
	if payload, ok := c.cookies.Logins.Get(r.Header, state); ok {
		if tx, ok := login.Decode(payload, state); ok {
			return tx, nil
		}
	}
	return nil, refuse("invalid_state", ErrInvalidState)
}

// loginFailed notes a failed login. The error page offers to start again where the user wanted to go.
func (c *Client) loginFailed(r *http.Request, tx *login.Transaction, err error) error {
	c.event(r.Context(), "login.failed", "callback", nil, err)
	e := classify(err)
	if tx != nil {
		e.ReturnTo = tx.ReturnTo
	}
	return e
}

// finishLogin turns the provider's answer into a session that is sealed and not yet sent. It is run once for each
// login.
func (c *Client) finishLogin(r *http.Request, tx *login.Transaction, query map[string]string) (*Session, error) {
	metadata, err := c.provider.Metadata(r.Context())
	if err != nil {
		return nil, loginError("invalid_metadata", err)
	}
	// RFC 9207 2.4. Several providers leave iss out of errors although they advertise it: nothing is exchanged then.
	iss, sent := query["iss"]
	if sent && iss != c.opts.Issuer || !sent && metadata.IssParameterSupported && query["error"] == "" {
		return nil, refuse("invalid_issuer", errors.New("iss in the authorization response is not the issuer"))
	}
	if code := query["error"]; code != "" {
		return nil, refusedLogin(code, query["error_description"])
	}
	if query["code"] == "" {
		return nil, refuse("invalid_response", errors.New("no code in the authorization response"))
	}
	tokens, err := c.provider.Exchange(r.Context(), query["code"], tx.Verifier, c.absolute(c.opts.Routes.Callback))
	var s *Session
	defer func() {
		if s == nil && tokens != nil {
			c.revoke(r.Context(), tokens.RefreshToken) // after an error or a panic nobody will ever use it (S44)
		}
	}()
	if err != nil {
		return nil, loginError("exchange_failed", err)
	}
	s, err = c.establish(r, tx, tokens)
	return s, err
}

// refusedLogin is the answer to an error response of the authorization endpoint. Its texts may be anybody's.
func refusedLogin(code, description string) error {
	if !errorCode.MatchString(code) {
		code = "invalid_response"
	}
	// The ledger keeps the error for a while: anybody's text is cut, and copied out of the request that it came in.
	code, description = strings.Clone(code), strings.Clone(description[:min(len(description), 512)])
	var cause error = &ProviderError{Code: code, Description: description}
	if answer.NeedsInteraction(code) {
		cause = fmt.Errorf("%w: %w", ErrLoginRequired, cause)
	}
	e := refuse(code, cause)
	if e.Status != http.StatusBadRequest { // a code of ours, with words of ours that blame somebody else
		e.Status, e.Public = answer.Of("")
	}
	return e
}

var errorCode = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// loginError is the answer when the provider cannot be reached, or answers with something unusable.
func loginError(code string, err error) error {
	err = providerError(err)
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return refuse(code, err)
}

// establish verifies what the token endpoint returned and makes the session of it.
func (c *Client) establish(r *http.Request, tx *login.Transaction, tokens *idp.Tokens) (*Session, error) {
	expect := idp.Expect{Nonce: tx.Nonce, AccessToken: tokens.AccessToken, ACR: tx.ACR, Organization: tx.Organization}
	if tx.MaxAge != nil {
		// Counted from the start of this login: signing in at the provider may take its time.
		expect.HasMaxAge = true
		expect.MaxAge = time.Duration(*tx.MaxAge)*time.Second + time.Since(time.Unix(tx.Started, 0))
	}
	id, err := c.provider.VerifyIDToken(r.Context(), tokens.IDToken, expect)
	if refused, ok := errors.AsType[*idp.TokenError](err); ok && refused.Denied() {
		return nil, refuse("login_denied", err)
	}
	if err != nil {
		return nil, loginError("invalid_id_token", err)
	}
	if tx.StaleAuthentication(id.AuthTime, 30*time.Second) {
		return nil, refuse("login_denied", errors.New("prompt=login brought an older authentication"))
	}
	sealed := &cookie.Tokens{
		IDToken: tokens.IDToken, Claims: id.Payload, Refresh: tokens.RefreshToken, Values: map[string][]byte{},
		Access: []cookie.AccessToken{{
			Token: tokens.AccessToken, Type: tokens.TokenType, Audience: tx.Audience,
			Scope: tokens.Scope, Requested: tx.Scope, Expiry: cookie.Unix(tokens.Expiry), Issued: time.Now().Unix(),
		}},
	}
	if c.opts.DropIDToken {
		sealed.IDToken = ""
	}
	if c.opts.FetchUserInfo {
		if sealed.UserInfo, err = c.provider.UserInfo(r.Context(), tokens.AccessToken, id.Subject); err != nil {
			return nil, loginError("invalid_userinfo", err)
		}
	}
	now := time.Now()
	end := now.Add(c.opts.AbsoluteTimeout)
	if ceiling := id.SessionExpiry.Add(30 * time.Second); !id.SessionExpiry.IsZero() && ceiling.Before(end) {
		end = ceiling
	}
	if !now.Before(end) {
		return nil, refuse("login_denied", errors.New("session_expiry of the ID token has passed"))
	}
	identity := cookie.Identity{
		Subject: id.Subject, SID: id.SID, Created: now.Unix(), Seen: now.Unix(), End: end.Unix(),
		Began: id.IssuedAt.Unix(), TokenExpiry: cookie.Unix(tokens.Expiry), Generation: 1,
	}
	_, _ = rand.Read(identity.ID[:]) // a new login is a new session (THR-11)
	return c.newLogin(r, tx, c.newSession(cookie.Session{Identity: identity}), sealed)
}

// newLogin lets the application see the session before anybody else does, and seals it.
func (c *Client) newLogin(r *http.Request, tx *login.Transaction, s *Session, tokens *cookie.Tokens) (*Session, error) {
	if old, err := c.load(r); err == nil && old.Subject == s.Subject && old.Issuer == s.Issuer {
		if kept, err := old.secrets(); err == nil {
			maps.Copy(tokens.Values, kept.Values) // values survive a new login of the same user, never of another (S38)
		}
	}
	delete(tokens.Values, againKey)
	if tx.Again != "" {
		mark, _ := json.Marshal(login.Again{Page: tx.Again, At: s.CreatedAt.Unix()}) // always encodes
		tokens.Values[againKey] = mark
	}
	s, err := c.draft(s.sealed, tokens, false, func(draft *Session) error {
		if err := c.beforeSave(r.Context())(draft); err != nil {
			return refuse("login_denied", err)
		}
		return nil
	})
	if errors.Is(err, cookie.ErrTooLarge) {
		err = refuse("session_too_large", fmt.Errorf("%w; ask for fewer claims, or set DropIDToken", err))
	}
	return s, err
}
