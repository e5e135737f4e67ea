package oidcauth

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

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

// ResponseMode says how the provider's answer to a login comes to the callback route.
type ResponseMode string

// The response modes. With form_post neither code nor state is in a URL, a log or the browser's history (OAuth 2.0 Form
// Post Response Mode). The login's cookie is then SameSite=None, and Secure on loopback hosts too, where Safari drops it.
// The session's cookie does not come along, so that values of a session do not survive a new login.
const (
	ResponseQuery    ResponseMode = "query"
	ResponseFormPost ResponseMode = "form_post"
)

// Routes are the paths of the auth routes below BaseURL's path. Empty is the default, "-" switches a route off.
type Routes struct {
	Login     string // /auth/login
	Callback  string // /auth/callback: the redirect URI to register with the provider
	Logout    string // /auth/logout
	LoggedOut string // /auth/logged-out: register it as a post-logout URL to use returnTo at logout
	// Landing is /auth/landing: where a login ends for a moment whose session cookie is SameSite=Strict, and where the user is
	// asked before a login that began elsewhere, by a link in a mail perhaps, takes another user's session away.
	Landing string
	Profile string // /auth/profile
	// AccessToken is /auth/access-token: scripts of the application get an access token here, and so does a script that
	// was injected into it. Switch it off where [Client.Proxy] or [Client.HTTPClient] will do.
	AccessToken string
	// InitiateLogin is where other sites, such as the provider's list of applications, send the browser to sign in (OpenID
	// Connect Core 4). It is off until it is set. Register it as initiate_login_uri.
	InitiateLogin string
	// BackchannelLogout is where the provider says that a session has ended (OpenID Connect Back-Channel Logout 1.0): register
	// it as backchannel_logout_uri. It is /auth/backchannel-logout with a RevocationStore, or a Store that is a [SessionIndex],
	// and off without.
	BackchannelLogout string
	// FrontchannelLogout is the same by way of a frame in the user's browser (OpenID Connect Front-Channel Logout 1.0), which
	// ends the session by its iss and sid, without its cookie. Whoever learns a sid can end that session, and not every browser
	// loads the frame: prefer the other. It is off until it is set, and needs the same.
	FrontchannelLogout string
}

// named lists the routes in the order of their fields.
func (r Routes) named() []struct{ name, path string } {
	return []struct{ name, path string }{
		{"Login", r.Login},
		{"Callback", r.Callback},
		{"Logout", r.Logout},
		{"LoggedOut", r.LoggedOut},
		{"Landing", r.Landing},
		{"Profile", r.Profile},
		{"AccessToken", r.AccessToken},
		{"InitiateLogin", r.InitiateLogin},
		{"BackchannelLogout", r.BackchannelLogout},
		{"FrontchannelLogout", r.FrontchannelLogout},
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
	callback := []string{"GET"}
	if c.opts.ResponseMode == ResponseFormPost {
		callback = []string{"POST", "GET"} // some providers redirect with errors all the same
	}
	table := map[string]route{
		c.opts.Routes.Login:     {"login", []string{"GET"}, c.handleLogin},
		c.opts.Routes.Callback:  {"callback", callback, c.handleCallback},
		c.opts.Routes.Logout:    {"logout", []string{"GET", "POST"}, c.handleLogout},
		c.opts.Routes.LoggedOut: {"logged-out", []string{"GET"}, c.handleLoggedOut},
		c.opts.Routes.Landing:   {"landing", []string{"GET", "POST"}, c.handleLanding},
		c.opts.Routes.Profile:   {"profile", []string{"GET", "HEAD"}, c.handleProfile},

		c.opts.Routes.AccessToken:   {"access-token", []string{"GET"}, c.handleAccessToken},
		c.opts.Routes.InitiateLogin: {"initiate-login", []string{"GET", "POST"}, c.handleInitiateLogin},

		c.opts.Routes.BackchannelLogout:  {"backchannel-logout", []string{"POST"}, c.handleBackchannelLogout},
		c.opts.Routes.FrontchannelLogout: {"frontchannel-logout", []string{"GET"}, c.handleFrontchannelLogout},
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

// declined answers a browser that only prepares for a navigation which may never come: nothing is done for it. Only an
// error makes it ask again when the user does come; Chromium takes a 204 for the answer, and a click then does nothing.
func declined(w http.ResponseWriter, r *http.Request) bool {
	if !fetch.IsPrefetch(r) {
		return false
	}
	w.WriteHeader(http.StatusServiceUnavailable)
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

// choosesAccount reports whether a parameter can bring the user in as somebody else without a question: by a connection or an
// organization that belongs to an attacker. A link of another site must not do that (S15).
func choosesAccount(name string) bool {
	return name == "connection" || name == "organization" || name == "invitation"
}

// handleLogin starts the login that a link asks for.
func (c *Client) handleLogin(w http.ResponseWriter, r *http.Request) error {
	if declined(w, r) {
		return nil // a browser that only prepares must not start a login (lesson 11)
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
		if elsewhere := r.Header.Get("Sec-Fetch-Site"); elsewhere == "cross-site" && choosesAccount(name) &&
			!slices.Contains(c.opts.AllowedLoginParams, name) {
			continue
		}
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

// handleInitiateLogin starts the login that another site asks for (OIDC-36). Nobody is asked anything for an issuer that is
// not ours, and what is asked for is no more than a link to the login route could.
func (c *Client) handleInitiateLogin(w http.ResponseWriter, r *http.Request) error {
	if declined(w, r) {
		return nil
	}
	if !fetch.IsTopLevel(r) {
		return refuse("navigation_required", nil)
	}
	query, err := params.Read(w, r)
	if err != nil {
		return refuse("invalid_request", err)
	}
	if !c.provider.IsIssuer(query["iss"]) {
		return refuse("invalid_issuer", errors.New("iss of a third-party login is not the issuer"))
	}
	o := LoginOptions{ReturnTo: query["target_link_uri"], Params: map[string]string{"login_hint": query["login_hint"]}}
	if err := checkLoginOptions(&o); err != nil {
		return refuse("invalid_request", err)
	}
	return c.startLogin(w, r, "initiate-login", o, false)
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
	// What leads to a guard chooses no account, and would not need a login if somebody was signed in.
	tx.Elsewhere = !fetch.IsOurSite(r) && (route != "guard" || again)
	if id, ok := c.sessionID(r); ok {
		tx.Replaces = id[:] // the callback may not see its cookie (S25)
	}
	if again {
		tx.Again = login.PageID(r.URL.Path)
	}
	return c.sendLogin(w, r, route, metadata, tx, &o)
}

// sendLogin writes the redirect to the provider for tx, and remembers tx in a cookie.
func (c *Client) sendLogin(
	w http.ResponseWriter, r *http.Request, route string, metadata *idp.Metadata, tx *login.Transaction, o *LoginOptions,
) error {
	tx.ACR = o.RequireACR
	target, err := c.authorizationURL(metadata, tx, o)
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
	tx.Silent = extra["prompt"] == "none"
	return metadata.AuthorizationURL(idp.AuthRequest{
		ClientID: c.opts.ClientID, RedirectURI: c.absolute(c.opts.Routes.Callback), Scope: tx.Scope,
		State: tx.State, Nonce: tx.Nonce, Verifier: tx.Verifier, Extra: extra, FormPost: c.opts.ResponseMode == ResponseFormPost,
		ACR: o.RequireACR,
	})
}

// absolute is the URL of a route as the provider knows it. It comes from BaseURL and never from a request (OIDC-01).
func (c *Client) absolute(path string) string {
	return c.base.Scheme + "://" + c.base.Host + c.base.EscapedPath() + path
}
