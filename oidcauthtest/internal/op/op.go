// Package op is a small OpenID provider for tests and for the development provider. It is strict about what a client sends,
// and can be told to answer in every wrong way that a client must notice.
package op

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config is what a [Provider] knows from the start. Issuer, ClientID, ClientSecret and RedirectURIs are required.
type Config struct {
	Issuer, ClientID, ClientSecret string
	// RedirectURIs and PostLogoutURIs are compared exactly.
	RedirectURIs, PostLogoutURIs []string
	// Authenticate decides who the user of an authorization request is. It returns an error code for the application
	// instead, or answers itself and returns false. Nil: the user of SetUser, at once.
	Authenticate func(http.ResponseWriter, *http.Request) (login Login, errorCode string, ok bool)
	// Keys sign the tokens. The zero value is a fixed key for tests.
	Keys Keys
}

// A Login is one authentication of a user at the provider.
type Login struct {
	Subject string
	Claims  map[string]any // further claims of ID token and UserInfo
	At      time.Time      // auth_time; zero: now
}

// Knobs change how the provider behaves. The zero value is a provider without surprises.
type Knobs struct {
	AccessTokenLifetime time.Duration // default 1 h
	IDTokenLifetime     time.Duration // default 5 min
	OmitExpiresIn       bool          // no expires_in in token responses
	OmitRefreshToken    bool
	KeepRefreshTokens   bool          // no rotation
	ReuseOverlap        time.Duration // how long the rotated refresh token before the newest still works; reuse later revokes the family
	OddRefreshTokens    bool          // any printable ASCII, spaces included
	SigningAlg          string        // of ID tokens; default RS256
	DecoyKeys           bool          // the key set has keys of every kind beside the signing one
	AtHash              bool          // at_hash in ID tokens
	SID                 string        // of the ID token; default one for each login, "-": none
	SignUserInfo        bool

	AuthorizeError string // the authorization endpoint answers with this error
	EditCallback   func(url.Values)
	EditIDToken    func(claims map[string]any)
	EditHeader     func(header map[string]any) // of the ID token
	EditTokens     func(response map[string]any)
	EditMetadata   func(metadata map[string]any)
	EditUserInfo   func(claims map[string]any)
	EditLogout     func(url.Values) // the query of the post-logout redirect
	MangleIDToken  func(jwt string) string
	NoKeyIDs       int // 0: key ids as usual; else the key set has so many keys without ids, and tokens have none
}

// A Request is one request that the provider received.
type Request struct {
	Endpoint string // discovery, jwks, authorize, token, userinfo, end_session, revoke, v2/logout or ""
	Method   string
	URL      *url.URL
	Form     url.Values
	Header   http.Header
}

// Provider is the handler of all endpoints. It is safe for concurrent use.
type Provider struct {
	config Config

	mu       sync.Mutex
	knobs    Knobs
	user     Login
	keys     Keys
	requests []Request
	failures map[string][]failure
	delays   map[string]time.Duration
	codes    map[string]*grant
	access   map[string]*grant
	refresh  map[string]*grant
}

type failure struct {
	status int
	code   string
}

// grant is what one login gave the client.
type grant struct {
	login                            Login
	nonce, challenge, scope, sid     string
	redirectURI, audience, codeAudit string
	newest, previous                 string // refresh tokens
	rotated                          time.Time
	used, revoked                    bool
	maxAge                           bool
}

// New returns a provider.
func New(c Config) (*Provider, error) {
	keys := c.Keys
	if keys.signer == nil {
		var err error
		if keys, err = TestKeys(); err != nil {
			return nil, err
		}
	}
	return &Provider{
		config: c, keys: keys, failures: map[string][]failure{}, delays: map[string]time.Duration{},
		codes: map[string]*grant{}, access: map[string]*grant{}, refresh: map[string]*grant{},
	}, nil
}

// SetUser says who signs in next where Authenticate is nil.
func (p *Provider) SetUser(l Login) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.user = l
}

// Change changes the knobs.
func (p *Provider) Change(f func(*Knobs)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.knobs)
}

// Fail lets the next times requests to an endpoint fail with an HTTP status, and an OAuth error code if code is not empty.
func (p *Provider) Fail(endpoint string, status int, code string, times int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range times {
		p.failures[endpoint] = append(p.failures[endpoint], failure{status, code})
	}
}

// Delay lets an endpoint wait before it does anything.
func (p *Provider) Delay(endpoint string, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delays[endpoint] = d
}

// Requests returns a copy of the log.
func (p *Provider) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// ActiveRefreshTokens counts the refresh tokens of a subject that still work; an empty subject means everybody's.
func (p *Provider) ActiveRefreshTokens(subject string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for token, g := range p.refresh {
		if !g.revoked && token == g.newest && (subject == "" || g.login.Subject == subject) {
			n++
		}
	}
	return n
}

var endpoints = map[string]string{
	"/.well-known/openid-configuration": "discovery",
	"/jwks":                             "jwks",
	"/authorize":                        "authorize",
	"/token":                            "token",
	"/userinfo":                         "userinfo",
	"/end_session":                      "end_session",
	"/revoke":                           "revoke",
	"/v2/logout":                        "v2/logout",
}

// ServeHTTP answers the request for one of the endpoints.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	_ = r.ParseForm() // what is missing from it is refused below
	issuer, _ := url.Parse(p.config.Issuer)
	name := endpoints[strings.TrimPrefix(r.URL.Path, strings.TrimSuffix(issuer.Path, "/"))]
	p.mu.Lock()
	p.requests = append(p.requests, Request{name, r.Method, r.URL, maps.Clone(r.Form), r.Header.Clone()})
	delay, fail := p.delays[name], failure{}
	if queue := p.failures[name]; len(queue) > 0 {
		fail, p.failures[name] = queue[0], queue[1:]
	}
	p.mu.Unlock()
	if delay > 0 {
		time.Sleep(delay)
	}
	if fail.status != 0 {
		answer(w, fail.status, map[string]any{"error": fail.code, "error_description": "the test wants this to fail"})
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	switch name {
	case "discovery":
		p.discovery(w)
	case "jwks":
		p.jwks(w)
	case "authorize":
		p.authorize(w, r)
	case "token":
		p.token(w, r)
	case "userinfo":
		p.userInfo(w, r)
	case "end_session":
		p.logout(w, r, "post_logout_redirect_uri")
	case "v2/logout":
		p.logout(w, r, "returnTo")
	case "revoke":
		p.revoke(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (p *Provider) now() (Knobs, Keys) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.knobs, p.keys
}

func (p *Provider) discovery(w http.ResponseWriter) {
	knobs, _ := p.now()
	base := strings.TrimSuffix(p.config.Issuer, "/")
	metadata := map[string]any{
		"issuer": p.config.Issuer, "authorization_endpoint": base + "/authorize", "token_endpoint": base + "/token",
		"jwks_uri": base + "/jwks", "userinfo_endpoint": base + "/userinfo", "end_session_endpoint": base + "/end_session",
		"revocation_endpoint": base + "/revoke", "response_types_supported": []string{"code"},
		"subject_types_supported": []string{"public"}, "code_challenge_methods_supported": []string{"S256"},
		"id_token_signing_alg_values_supported":          []string{"RS256", "ES256", "EdDSA", "none"},
		"token_endpoint_auth_methods_supported":          []string{"client_secret_basic", "client_secret_post"},
		"authorization_response_iss_parameter_supported": true,
		"scopes_supported":                               []string{"openid", "profile", "email", "offline_access"},
	}
	if knobs.EditMetadata != nil {
		knobs.EditMetadata(metadata)
	}
	answer(w, http.StatusOK, metadata)
}

// authorize answers an authentication request (OpenID Connect Core 3.1.2).
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	knobs, _ := p.now()
	q := r.URL.Query()
	for name, values := range q {
		if len(values) > 1 {
			http.Error(w, "parameter "+name+" occurs twice", http.StatusBadRequest)
			return
		}
	}
	redirectURI := q.Get("redirect_uri")
	if q.Get("client_id") != p.config.ClientID || !p.registered(redirectURI, false) {
		http.Error(w, "unknown client_id, or redirect_uri that is not registered", http.StatusBadRequest)
		return
	}
	response := url.Values{"state": {q.Get("state")}, "iss": {p.config.Issuer}}
	scopes := strings.Fields(q.Get("scope"))
	switch {
	case knobs.AuthorizeError != "":
		response.Set("error", knobs.AuthorizeError)
	case q.Get("response_type") != "code" || !slices.Contains(scopes, "openid"):
		response.Set("error", "invalid_request")
	case q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43:
		response.Set("error", "invalid_request")
	default:
		login, code, ok := p.authenticate(w, r)
		if !ok {
			return
		}
		if code != "" {
			response.Set("error", code)
			break
		}
		response.Set("code", p.newCode(login, q))
	}
	if knobs.EditCallback != nil {
		knobs.EditCallback(response)
	}
	sep := "?"
	if strings.Contains(redirectURI, "?") {
		sep = "&"
	}
	w.Header().Set("Location", redirectURI+sep+response.Encode())
	w.WriteHeader(http.StatusFound)
}

func (p *Provider) authenticate(w http.ResponseWriter, r *http.Request) (Login, string, bool) {
	if p.config.Authenticate != nil {
		return p.config.Authenticate(w, r)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.user, "", true
}

func (p *Provider) newCode(l Login, q url.Values) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.At.IsZero() {
		l.At = time.Now()
	}
	g := &grant{
		login: l, nonce: q.Get("nonce"), challenge: q.Get("code_challenge"), scope: q.Get("scope"), redirectURI: q.Get("redirect_uri"),
		audience: q.Get("audience") + q.Get("resource"), sid: random(), maxAge: q.Get("max_age") != "",
	}
	if p.knobs.SID != "" {
		g.sid = strings.TrimPrefix(p.knobs.SID, "-")
	}
	code := "code-" + random()
	p.codes[code] = g
	return code
}

// logout ends a session that this provider does not have, and sends the browser back to a registered URL.
func (p *Provider) logout(w http.ResponseWriter, r *http.Request, param string) {
	knobs, _ := p.now()
	target := r.Form.Get(param)
	compared, _, _ := strings.Cut(target, "?")
	if param == "post_logout_redirect_uri" {
		compared = target
	}
	if target == "" {
		answer(w, http.StatusOK, map[string]any{"signed_out": true})
		return
	}
	if r.Form.Get("client_id") != p.config.ClientID || !p.registered(compared, true) {
		http.Error(w, "unknown client_id, or post-logout URL that is not registered", http.StatusBadRequest)
		return
	}
	u, err := url.Parse(target)
	if err != nil {
		http.Error(w, "bad URL", http.StatusBadRequest)
		return
	}
	query := u.Query()
	if state := r.Form.Get("state"); state != "" {
		query.Set("state", state)
	}
	if knobs.EditLogout != nil {
		knobs.EditLogout(query)
	}
	u.RawQuery = query.Encode()
	w.Header().Set("Location", u.String())
	w.WriteHeader(http.StatusFound)
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// Register allows further redirect URIs and post-logout URLs.
func (p *Provider) Register(redirectURIs, postLogoutURIs []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.config.RedirectURIs = slices.Concat(p.config.RedirectURIs, redirectURIs)
	p.config.PostLogoutURIs = slices.Concat(p.config.PostLogoutURIs, postLogoutURIs)
}

func (p *Provider) registered(uri string, logout bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if logout {
		return slices.Contains(p.config.PostLogoutURIs, uri)
	}
	return slices.Contains(p.config.RedirectURIs, uri)
}
