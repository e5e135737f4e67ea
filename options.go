package oidcauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/securecookie"
	"golang.org/x/oauth2"

	"github.com/oidcauth/oidcauth/internal/check"
	"github.com/oidcauth/oidcauth/internal/cookie"
	"github.com/oidcauth/oidcauth/internal/env"
	"github.com/oidcauth/oidcauth/internal/idp"
	"github.com/oidcauth/oidcauth/internal/returnto"
)

// Options configures a [Client]. Issuer (or Domain), ClientID, BaseURL, Secrets and a client credential are required;
// the zero value of every other field is the secure choice. [New] copies what it is given and checks it as a whole.
type Options struct {
	_ [0]func() // keyed literals only, so that fields can be added

	// Issuer is the provider's issuer identifier, byte for byte as in its metadata: Auth0's ends in a slash, the ones
	// of Okta, Entra and Google do not. Domain is Auth0's short form: "tenant.eu.auth0.com" for
	// "https://tenant.eu.auth0.com/". Set one of the two.
	Issuer, Domain string
	// DiscoveryURL is where the provider's metadata is, if not at Issuer + "/.well-known/openid-configuration" (Azure AD B2C,
	// Keycloak behind two host names). The metadata must name Issuer all the same.
	DiscoveryURL string
	// AllowedTenants are the ids of the tenants of Entra ID whose users may sign in; "*" alone allows all, personal accounts
	// included. Issuer is then "https://login.microsoftonline.com/{tenantid}/v2.0", as it stands in the metadata of common,
	// and a session's Issuer that of its tenant.
	AllowedTenants []string
	ClientID       string // the application's identifier at the provider
	// BaseURL is where browsers find the application, such as "https://app.example.com". A path in it is the base path
	// of all routes. URLs and cookie attributes come from it and never from a request's headers.
	BaseURL string
	// Secrets seal the cookies: at least 32 random bytes each, as from "openssl rand -hex 32". The first seals, all
	// open. To rotate, append the new one everywhere, then move it to the front, then drop the old one after
	// AbsoluteTimeout. A secret that leaked is replaced, not rotated: whoever has it can forge sessions for as long as
	// it is listed.
	Secrets []string

	// ClientSecret authenticates the application to the provider. Set either it or PublicClient, which says that there
	// is no credential.
	ClientSecret string
	PublicClient bool
	// AuthStyle says how ClientSecret is sent. The zero value is the Authorization header, or the form where the
	// provider's metadata offers only that; with Domain it is the form.
	AuthStyle oauth2.AuthStyle

	// Scopes are asked for at each login; "openid" is always among them. Default: openid profile email offline_access,
	// without offline_access where the provider says that it has no such scope.
	Scopes     []string
	AuthParams map[string]string // sent with every authorization request; none that the library sets itself
	// AllowedLoginParams are query parameters of the login route to forward beside the standard ones. From other sites,
	// such as webmail with an invitation, connection, organization and invitation are only forwarded if they are named here.
	AllowedLoginParams []string
	// Audience is the API that the login's access token is for. AllowedAudiences and AllowedScopes are what a login
	// link, or a script that asks the access-token route, may ask for beside it, or beyond Scopes: nothing by default.
	Audience           string
	AllowedAudiences   []string
	AllowedScopes      []string
	ResponseMode       ResponseMode               // how the provider sends the browser back; default [ResponseQuery]
	AudienceParam      AudienceParam              // default resource (RFC 8707), with Domain audience (Auth0)
	AudienceScopes     map[string][]string        // scopes of the tokens for further audiences; see [TokenOptions]
	TrustedAudiences   func(audience string) bool // accepted beside ClientID in an ID token; nil: none
	AuthorizedParties  []string                   // accepted beside ClientID as azp of an ID token
	IDTokenSigningAlgs []string                   // of ID tokens; default RS256; HMAC needs ClientSecret
	// MaxSubjectLength is how long a subject may be: default 255 (OpenID Connect Core 2), at most 1,024.
	MaxSubjectLength int
	// AllowMissingTokenType takes token responses without token_type for Bearer (RFC 6749 5.1 wants it).
	AllowMissingTokenType bool
	// ClockSkew is how far the clocks of provider and application may be apart: default 30 s, at most 5 min.
	// MaxIDTokenAge is how long ago an ID token may have been issued at its login: default 10 min, negative for no limit.
	// Entra ID dates its tokens back by 5 min, so that a host without NTP may need more.
	ClockSkew, MaxIDTokenAge time.Duration
	// FetchUserInfo adds the claims of the UserInfo endpoint at login. UserInfoSigningAlg is the application's
	// registered userinfo_signed_response_alg; when set, an unsigned answer is refused.
	FetchUserInfo      bool
	UserInfoSigningAlg string

	Routes               Routes   // moves routes, or switches them off
	PrefixStripped       bool     // requests arrive without BaseURL's path: behind http.StripPrefix, or a proxy like it
	DefaultReturnTo      string   // where a login ends that named no place of ours; default "/", below BaseURL's path
	AllowedReturnOrigins []string // origins beside BaseURL's that a login may end at, such as "https://www.example.com"

	PostLogoutURL string // where the provider sends the browser after logout: register it; default BaseURL as written
	// AllowedLogoutURLs are further targets that may be sent to the provider as they are: exact URLs, or prefixes that
	// end in "/*". Those have to be registered too.
	AllowedLogoutURLs []string
	LogoutStrategy    LogoutStrategy        // whose logout follows the local one; default [LogoutAuto]
	LogoutHint        func(*Session) string // the logout_hint; default: the sid for Auth0, else the link's
	// LogoutURL builds the provider's logout URL where it has a shape of its own, such as Cognito's. It replaces
	// LogoutStrategy.
	LogoutURL                 func(LogoutURLParams) (string, error)
	OmitIDTokenHint           bool // leave the ID token out of the logout URL
	LogoutWithoutConfirmation bool // let a link on another site end the session without asking the user
	// SkipRevocation leaves the refresh token alive at logout and after a login that failed late. Whoever holds a copy
	// can go on using it.
	SkipRevocation   bool
	NoContentProfile bool // answer 204 instead of 401 on the profile route without a session

	// Store keeps the sessions, tokens and all, and the cookie only names one of them. Nil keeps them in the cookie.
	Store SessionStore
	// RevocationStore makes logout final, and refresh single across processes, while sessions stay in the cookie. Each
	// request that asks for its session is one look-up in it, of three values that are read at the same time. It excludes Store.
	RevocationStore SessionStore
	// RevocationCache is how old such a look-up may be, and so how late a logout may reach other processes: default 0, at most
	// 30 s.
	RevocationCache time.Duration
	StoreTimeout    time.Duration // how long one call of either store may take: default 2 s
	// StreamCheckInterval is how often [Client.UntilLogout] and the connections of [Client.Proxy] look whether their session
	// has ended: default 5 s.
	StreamCheckInterval time.Duration
	// LogoutTokenMaxAge accepts logout tokens without exp (Hydra, LemonLDAP, old versions of Keycloak and authentik) that were
	// issued no longer ago than this, at most 5 min. 0 is for tokens with exp (OpenID Connect Back-Channel Logout 1.0 2.4).
	LogoutTokenMaxAge time.Duration
	// BackchannelLogoutAllSessions ends all sessions of the user that a logout token names, also where it names one session:
	// Keycloak sends no more when all are ended.
	BackchannelLogoutAllSessions bool
	RequireLogoutTyp             bool // refuse logout tokens whose typ is not logout+jwt, as older providers send them

	Cookie CookieOptions // the session cookie's name and attributes
	// SessionCodecs and LoginCodecs replace the built-in sealing of session and login cookies. The first seals, all
	// open. New refuses a codec that does not encrypt, or that opens a value under another name.
	SessionCodecs, LoginCodecs []securecookie.Codec
	// IdleTimeout ends a session that was not used for so long. Default 24 h; negative: never.
	// AbsoluteTimeout ends it in any case. Default 72 h.
	IdleTimeout, AbsoluteTimeout time.Duration
	// TokenRefreshBuffer is how much of an access token's lifetime has to be left when it is handed out. Default 10 s.
	TokenRefreshBuffer time.Duration
	// DropIDToken does not keep the ID token's signature, so that it cannot be sent as id_token_hint at logout. Its
	// claims stay.
	DropIDToken bool

	ShouldRoll    func(r *http.Request) bool  // may decline to extend the idle time
	ProfileClaims func(*Session) (any, error) // default: all claims but the protocol's own
	// BeforeSave may set values of a session that is about to be saved, at login and after a refresh that changed the
	// user's claims, or refuse it with an error: the login then ends as login_denied, and a session that was refreshed is
	// over. Its context ends after ten seconds.
	BeforeSave func(context.Context, *Session) error
	// OnLogin replaces the redirect that ends a login; returnTo is checked already. An error, before anything is
	// written, leaves no session and is answered like a route's own.
	OnLogin func(w http.ResponseWriter, r *http.Request, s *Session, returnTo string) error
	OnError func(http.ResponseWriter, *http.Request, *Error) // replaces each error response, Client.Error's too
	OnEvent func(context.Context, Event)                     // for audit and metrics; should be quick

	// HTTPClient is used for the provider and never changed; redirects are not followed, and each call has a deadline:
	// 10 s, and 30 s at the token endpoint. Default: one with TLS 1.2 or newer.
	HTTPClient *http.Client
	Logger     *slog.Logger // one line per failure, without secrets; default slog.Default()

	TrustedOrigins                []string // may send unsafe requests and open WebSockets through the guards
	InsecureAllowHTTP             bool     // plain http for BaseURL and Issuer on other hosts than loopback
	InsecureDisableCSRFProtection bool     // no cross-origin check in the guards
	InsecureCrossSiteSession      bool     // a session cookie with SameSite=None
}

// Format prints issuer, client id and base URL: no secret, whatever the verb.
func (o Options) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "oidcauth.Options{Issuer:%q, ClientID:%q, BaseURL:%q}", o.Issuer+o.Domain, o.ClientID, o.BaseURL)
}

// LogValue logs no secret.
func (o Options) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(o)) }

// A ConfigError says what is wrong with one field of [Options] and what to do about it. [New] joins all it finds.
type ConfigError struct{ Field, Reason string }

// Error names the field and what to do.
func (e *ConfigError) Error() string { return "oidcauth: " + e.Field + ": " + e.Reason }

// mistakes collects what is wrong with some Options.
type mistakes []error

func (m *mistakes) add(field, format string, args ...any) {
	m.check(field, fmt.Errorf(format, args...))
}

// check adds err, if there is one, to what is wrong with field.
func (m *mistakes) check(field string, err error) {
	if err != nil {
		*m = append(*m, &ConfigError{Field: field, Reason: err.Error()})
	}
}

// withDefaults returns a deep copy of o in which every default is filled in.
func (o Options) withDefaults() Options {
	if o.Issuer == "" && o.Domain != "" {
		o.Issuer = "https://" + o.Domain + "/"
	}
	if o.AuthStyle == oauth2.AuthStyleAutoDetect && o.Domain != "" {
		// Auth0 lists both styles, accepts the one set for the application, and sets the form for new ones.
		o.AuthStyle = oauth2.AuthStyleInParams
	}
	if o.AudienceParam == "" {
		o.AudienceParam = ParamResource
		if o.Domain != "" {
			o.AudienceParam = ParamAudience
		}
	}
	o.ResponseMode = cmp.Or(o.ResponseMode, ResponseQuery)
	for _, list := range []*[]string{
		&o.Secrets, &o.Scopes, &o.AllowedLoginParams, &o.AllowedAudiences, &o.AllowedScopes, &o.IDTokenSigningAlgs,
		&o.AllowedReturnOrigins, &o.AllowedLogoutURLs, &o.TrustedOrigins, &o.AllowedTenants, &o.AuthorizedParties,
	} {
		*list = slices.Clone(*list)
	}
	o.AuthParams, o.AudienceScopes = maps.Clone(o.AuthParams), maps.Clone(o.AudienceScopes)
	for audience, scopes := range o.AudienceScopes {
		o.AudienceScopes[audience] = slices.Clone(scopes)
	}
	o.SessionCodecs, o.LoginCodecs = slices.Clone(o.SessionCodecs), slices.Clone(o.LoginCodecs)
	o.StoreTimeout = cmp.Or(o.StoreTimeout, 2*time.Second)
	o.StreamCheckInterval = cmp.Or(o.StreamCheckInterval, 5*time.Second)
	if len(o.Scopes) == 0 {
		o.Scopes = []string{"openid", "profile", "email", "offline_access"}
	}
	if !slices.Contains(o.Scopes, "openid") { // OpenID Connect Core 3.1.2.1
		o.Scopes = slices.Insert(o.Scopes, 0, "openid")
	}
	if len(o.IDTokenSigningAlgs) == 0 {
		o.IDTokenSigningAlgs = []string{"RS256"}
	}
	for route, path := range map[*string]string{
		&o.Routes.Login: "/auth/login", &o.Routes.Callback: "/auth/callback", &o.Routes.Logout: "/auth/logout",
		&o.Routes.LoggedOut: "/auth/logged-out", &o.Routes.Landing: "/auth/landing", &o.Routes.Profile: "/auth/profile",
		&o.Routes.AccessToken: "/auth/access-token",
	} {
		*route = cmp.Or(*route, path)
	}
	o.Routes.InitiateLogin = cmp.Or(o.Routes.InitiateLogin, "-")
	o.Routes.FrontchannelLogout = cmp.Or(o.Routes.FrontchannelLogout, "-")
	if o.Routes.BackchannelLogout == "" {
		o.Routes.BackchannelLogout = "-"
		if o.cannotRevoke() == nil {
			o.Routes.BackchannelLogout = "/auth/backchannel-logout"
		}
	}
	o.DefaultReturnTo = cmp.Or(o.DefaultReturnTo, "/")
	o.PostLogoutURL = cmp.Or(o.PostLogoutURL, o.BaseURL)
	o.LogoutStrategy = cmp.Or(o.LogoutStrategy, LogoutAuto)
	if o.Cookie.SameSite == 0 || o.Cookie.SameSite == http.SameSiteDefaultMode {
		o.Cookie.SameSite = http.SameSiteLaxMode
	}
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 24*time.Hour)
	o.AbsoluteTimeout = cmp.Or(o.AbsoluteTimeout, 72*time.Hour)
	o.ClockSkew, o.MaxIDTokenAge = cmp.Or(o.ClockSkew, 30*time.Second), cmp.Or(o.MaxIDTokenAge, 10*time.Minute)
	o.TokenRefreshBuffer = cmp.Or(o.TokenRefreshBuffer, 10*time.Second)
	if o.ProfileClaims == nil {
		o.ProfileClaims = userClaims
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// validate returns every mistake in o, whose defaults are filled in.
func (o *Options) validate() error {
	var m mistakes
	o.validateProvider(&m)
	o.validateLogin(&m)
	o.validateURLs(&m)
	o.validateSession(&m)
	o.validateStores(&m)
	return errors.Join(m...)
}

func (o *Options) validateProvider(m *mistakes) {
	switch {
	case o.Issuer == "":
		m.add("Issuer", "is empty; set it to the provider's issuer URL, or set Domain for Auth0")
	case o.Domain == "":
		m.check("Issuer", check.URL(o.Issuer, o.InsecureAllowHTTP))
	case o.Issuer != "https://"+o.Domain+"/":
		m.add("Domain", "is set beside another Issuer; set one of the two")
	default:
		m.check("Domain", check.Domain(o.Domain))
	}
	if o.DiscoveryURL != "" {
		address, _, _ := strings.Cut(o.DiscoveryURL, "?") // B2C names its user flow in a query
		m.check("DiscoveryURL", check.URL(address, o.InsecureAllowHTTP))
	}
	if o.ClockSkew < 0 || o.ClockSkew > 5*time.Minute {
		m.add("ClockSkew", "%v is not between 0 and 5 minutes; synchronise the clock (NTP)", o.ClockSkew)
	}
	m.check("AllowedTenants", idp.CheckTenants(o.Issuer, o.AllowedTenants))
	if o.MaxSubjectLength < 0 || o.MaxSubjectLength > 1024 {
		m.add("MaxSubjectLength", "%d is not between 1 and 1,024", o.MaxSubjectLength)
	}
	if o.ClientID == "" {
		m.add("ClientID", "is empty; copy it from the application's page at the provider")
	}
	switch {
	case o.ClientSecret == "" && !o.PublicClient:
		m.add("ClientSecret", "is empty; set it, or set PublicClient if the provider gave the application none")
	case o.ClientSecret != "" && o.PublicClient:
		m.add("PublicClient", "is set beside ClientSecret; set one of the two")
	}
	m.check("AudienceParam", check.OneOf(o.AudienceParam, ParamResource, ParamAudience))
	for _, alg := range o.IDTokenSigningAlgs {
		m.check("IDTokenSigningAlgs", check.SigningAlg(alg, o.ClientSecret))
	}
	if o.UserInfoSigningAlg != "" {
		m.check("UserInfoSigningAlg", check.SigningAlg(o.UserInfoSigningAlg, o.ClientSecret))
	}
}

func (o *Options) validateLogin(m *mistakes) {
	m.check("AuthParams", idp.CheckParams(o.AuthParams))
	m.check("ResponseMode", check.OneOf(o.ResponseMode, ResponseQuery, ResponseFormPost))
	if base, err := url.Parse(o.BaseURL); err == nil && o.ResponseMode == ResponseFormPost &&
		base.Scheme != "https" && !check.Loopback(base.Hostname()) {
		m.add("ResponseMode", "form_post needs https: its login cookie comes back from another site")
	}
	for _, name := range o.AllowedLoginParams {
		if name == "" || idp.ReservedParam(name) || name == "audience" || name == "resource" || name == "returnTo" {
			m.add("AllowedLoginParams", "%q cannot come from a link; see AllowedAudiences and AllowedScopes", name)
		}
	}
	for field, scopes := range map[string][]string{"Scopes": o.Scopes, "AllowedScopes": o.AllowedScopes} {
		for _, scope := range scopes {
			m.check(field, check.Scope(scope))
		}
	}
	for audience, scopes := range o.AudienceScopes {
		m.check(fmt.Sprintf("AudienceScopes[%q]", audience), check.Scopes(scopes))
	}
}

// validateURLs checks everything that says where the application is and where browsers may be sent.
func (o *Options) validateURLs(m *mistakes) {
	m.check("BaseURL", check.URL(o.BaseURL, o.InsecureAllowHTTP))
	base, baseErr := url.Parse(o.BaseURL)
	issuer, issuerErr := url.Parse(o.Issuer)
	if baseErr == nil && issuerErr == nil && check.Loopback(issuer.Hostname()) && !check.Loopback(base.Hostname()) {
		// A development provider signs in anyone: it must never end up behind a public application (S17).
		m.add("Issuer", "is on this machine but BaseURL is not; set the real provider")
	}
	for _, origin := range o.TrustedOrigins {
		m.check("TrustedOrigins", check.Origin(origin, o.InsecureAllowHTTP))
	}
	for _, origin := range o.AllowedReturnOrigins {
		m.check("AllowedReturnOrigins", check.Origin(origin, o.InsecureAllowHTTP))
	}
	if o.PostLogoutURL != o.BaseURL {
		m.check("PostLogoutURL", check.URL(o.PostLogoutURL, o.InsecureAllowHTTP))
	}
	for _, pattern := range o.AllowedLogoutURLs {
		m.check("AllowedLogoutURLs", returnto.CheckPattern(pattern, o.InsecureAllowHTTP))
	}
	m.check("LogoutStrategy", check.OneOf(o.LogoutStrategy, LogoutAuto, LogoutOIDC, LogoutV2))
	if o.Routes.Callback == "-" {
		m.add("Routes.Callback", "cannot be switched off: no login would end")
	}
	for i, route := range o.Routes.named() {
		for _, other := range o.Routes.named()[:i] {
			if route.path == other.path && route.path != "-" {
				m.add("Routes."+route.name, "%q is the path of Routes.%s too", route.path, other.name)
			}
		}
		if route.path != "-" {
			m.check("Routes."+route.name, check.RoutePath(route.path))
		}
	}
}

func (o *Options) validateSession(m *mistakes) {
	if len(o.Secrets) == 0 {
		m.add("Secrets", `is empty; set it to one secret from "openssl rand -hex 32", the same in every process`)
	}
	for i, secret := range o.Secrets {
		m.check(fmt.Sprintf("Secrets[%d]", i), check.Secret(secret))
		if slices.Contains(o.Secrets[:i], secret) {
			m.add(fmt.Sprintf("Secrets[%d]", i), "is there twice")
		}
	}
	secure := strings.HasPrefix(o.BaseURL, "https:")
	m.check("Cookie.Name", check.CookieName(o.Cookie.Name, secure, o.Cookie.Domain != ""))
	if base, err := url.Parse(o.BaseURL); err == nil {
		m.check("Cookie.Domain", check.CookieDomain(o.Cookie.Domain, base.Hostname()))
	}
	switch {
	case o.Cookie.SameSite == http.SameSiteStrictMode && o.Routes.Landing == "-":
		m.add("Cookie.SameSite", "Strict needs Routes.Landing: without it every login seems to fail") // lesson 21
	case o.Cookie.SameSite == http.SameSiteNoneMode && !(secure && o.InsecureCrossSiteSession):
		m.add("Cookie.SameSite", "None needs https and InsecureCrossSiteSession: other sites can act with it")
	}
	if o.Cookie.Partitioned && !secure {
		m.add("Cookie.Partitioned", "needs https")
	}
	if o.AbsoluteTimeout < time.Minute {
		m.add("AbsoluteTimeout", "%v is too short; a session lasts at least a minute", o.AbsoluteTimeout)
	}
	if o.IdleTimeout > 0 && o.IdleTimeout < time.Second {
		m.add("IdleTimeout", "%v is too short; negative means no idle timeout", o.IdleTimeout)
	}
	if o.TokenRefreshBuffer < 0 {
		m.add("TokenRefreshBuffer", "%v is negative", o.TokenRefreshBuffer)
	}
	for _, codec := range o.SessionCodecs {
		m.check("SessionCodecs", cookie.CheckCodec(codec))
	}
	for _, codec := range o.LoginCodecs {
		m.check("LoginCodecs", cookie.CheckCodec(codec))
	}
}

// cannotRevoke says why no session can be ended from elsewhere, if none can.
func (o *Options) cannotRevoke() error {
	if o.RevocationStore != nil {
		return nil
	}
	if o.Store == nil {
		return errors.New("sessions are in the cookie alone; set RevocationStore, or Store")
	}
	if _, ok := o.Store.(SessionIndex); !ok {
		return fmt.Errorf("the Store, a %T, finds no sessions by user; give it the method Tagged of SessionIndex, "+
			"or let what wraps a store with it pass it on", o.Store)
	}
	return nil
}

const longestLife = 10 * 365 * 24 * time.Hour

func (o *Options) validateStores(m *mistakes) {
	for field, store := range map[string]SessionStore{"Store": o.Store, "RevocationStore": o.RevocationStore} {
		if v := reflect.ValueOf(store); v.IsValid() && v.Kind() == reflect.Pointer && v.IsNil() {
			m.add(field, "is a nil %T; make one, or leave the field out to keep sessions in the cookie", store)
		}
	}
	if o.Store != nil && o.RevocationStore != nil {
		m.add("RevocationStore", "is set beside Store, a %T, which ends sessions itself; set one of the two", o.Store)
	}
	for field, path := range map[string]string{
		"Routes.BackchannelLogout": o.Routes.BackchannelLogout, "Routes.FrontchannelLogout": o.Routes.FrontchannelLogout,
	} {
		if err := o.cannotRevoke(); err != nil && path != "-" { // to answer that a session has ended would be a lie
			m.add(field, "can end no session: %w", err)
		}
	}
	if o.AbsoluteTimeout > longestLife && (o.Store != nil || o.RevocationStore != nil) {
		m.add("AbsoluteTimeout", "%v is too long: that a session has ended is noted for as long; 10 years will do", o.AbsoluteTimeout)
	}
	if o.StoreTimeout < 0 {
		m.add("StoreTimeout", "%v is negative; leave it out for 2 s", o.StoreTimeout)
	}
	if o.RevocationCache < 0 || o.RevocationCache > 30*time.Second {
		m.add("RevocationCache", "%v is not between 0 and 30 s, which is how long a logout would take", o.RevocationCache)
	}
	if o.StreamCheckInterval < 0 {
		m.add("StreamCheckInterval", "%v is negative; leave it out for 5 s", o.StreamCheckInterval)
	}
	if o.LogoutTokenMaxAge < 0 || o.LogoutTokenMaxAge > 5*time.Minute {
		m.add("LogoutTokenMaxAge", "%v is not between 0 and 5 min", o.LogoutTokenMaxAge)
	}
}

// OptionsFromEnv reads OIDC_ISSUER or AUTH0_DOMAIN, OIDC_CLIENT_ID or AUTH0_CLIENT_ID, OIDC_CLIENT_SECRET or
// AUTH0_CLIENT_SECRET, SESSION_SECRET or AUTH0_SECRET (several separated by commas), APP_BASE_URL, AUTH0_SCOPE,
// AUTH0_AUDIENCE, AUTH0_COOKIE_DOMAIN, AUTH0_COOKIE_TRANSIENT, _SAME_SITE and _SECURE. Two names of one thing with
// different values are an error, and so is a variable that would weaken the session: that takes a field in code. Other
// OIDC_ and AUTH0_ variables are logged by name. What is missing is for [New] to say.
func OptionsFromEnv() (Options, error) {
	e := env.Load()
	o := Options{
		Issuer: e.Issuer, Domain: e.Domain, ClientID: e.ClientID, ClientSecret: e.ClientSecret, BaseURL: e.BaseURL,
		Secrets: e.Secrets, Scopes: e.Scopes, Audience: e.Audience,
		Cookie: CookieOptions{Domain: e.CookieDomain, Transient: e.Transient, SameSite: e.SameSite},
	}
	for _, name := range e.Unread {
		slog.Warn("oidcauth: environment variable is not read", "name", name)
	}
	var m mistakes
	for _, err := range e.Errs {
		m.check("environment", err)
	}
	return o, errors.Join(m...)
}
