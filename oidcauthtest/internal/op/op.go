// Package op is a small OpenID provider for tests and for the development provider. It is strict about what a client
// sends, and can be told to answer in every wrong way that a client must notice.
package op

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config is what a [Provider] knows from the start. Issuer, ClientID and RedirectURIs are required.
type Config struct {
	Issuer, ClientID string
	ClientSecret     string // empty: a public client, which must not send one
	// RedirectURIs and PostLogoutURIs are compared exactly.
	RedirectURIs, PostLogoutURIs []string
	// Authenticate decides who the user of an authorization request is. It returns an error code for the application
	// instead, or answers itself and returns false. Nil: the user of SetUser, at once.
	Authenticate func(http.ResponseWriter, *http.Request) (login Login, errorCode string, ok bool)
	// Keys sign the tokens. The zero value is a fixed key for tests.
	Keys Keys
	// CheckHints refuses an id_token_hint that this Provider did not issue.
	CheckHints bool
	// SendLogoutToken brings a logout token to the application, and returns when that has answered. Nil: none is sent.
	SendLogoutToken func(ctx context.Context, uri, token string)
}

// A Login is one authentication of a user at the provider.
type Login struct {
	Subject string
	Claims  map[string]any // further claims of ID token and UserInfo
	At      time.Time      // auth_time; zero: now
}

// Knobs change how the provider behaves. The zero value is a provider without surprises. Package oidcauthtest has the
// same struct for its users, with what each field means.
type Knobs struct {
	AccessTokenLifetime, IDTokenLifetime time.Duration
	OmitExpiresIn                        bool
	OmitRefreshToken, KeepRefreshTokens  bool
	ReuseOverlap                         time.Duration
	OddRefreshTokens                     bool
	ClientAuth                           string
	SID                                  string
	OddSIDs                              bool
	ClaimsByScope                        bool
	JWTAccessTokens                      bool
	Audiences                            []string
	AudienceScope                        string
	ConsumeOnRefusal                     bool

	SigningAlg, SigningKey  string
	NoKeyIDs                int
	DecoyKeys               bool
	RotateKeysBeforeSigning bool
	JWKSPath                string
	SignUserInfo            bool

	AuthorizeError string
	NullOrigin     bool
	EditMetadata   func(metadata map[string]any)
	EditCallback   func(query url.Values)
	EditTokens     func(response map[string]any)
	EditIDToken    func(claims map[string]any)
	EditHeader     func(header map[string]any)
	MangleIDToken  func(jwt string) string
	EditUserInfo   func(claims map[string]any)
	EditLogout     func(query url.Values)

	BackchannelLogoutURI  string
	FrontchannelLogoutURI string
	EditLogoutToken       func(header, claims map[string]any)
}

// A Request is one request that the provider received, as oidcauthtest.Request describes it.
type Request struct {
	Endpoint string
	Method   string
	URL      *url.URL
	Form     url.Values
	Header   http.Header
}

// A Provider is the handler of all endpoints. Make it with [New]; it is safe for concurrent use.
type Provider struct {
	config Config
	path   string // of the issuer, without trailing slash

	mu       sync.Mutex // never held while a hook of Knobs runs, so that those may ask the Provider
	knobs    Knobs
	user     Login
	keys     Keys
	requests []Request
	failures map[string][]failure
	delays   map[string]time.Duration
	holds    map[string][]chan struct{}
	answers  map[string][]chan struct{} // holds of answers
	logins   []*grant                   // oldest first
	codes    map[string]*grant
	access   map[string]accessToken
	refresh  map[string]*grant
	idTokens map[string]*grant // issued: what an id_token_hint may be
	decoys   []Keys            // made when first needed, then the same for ever
	grants   int               // refreshes that succeeded
	reuses   int               // refreshes with a token that was used up
}

type failure struct {
	status int // 0: no answer at all
	body   map[string]any
	after  bool // the request is carried out, and only its answer is lost
	times  int  // left; negative: for good
}

// New returns a provider. It fails if the issuer is no URL.
func New(c Config) (*Provider, error) {
	issuer, err := url.Parse(c.Issuer)
	if err != nil || issuer.Host == "" {
		return nil, fmt.Errorf("issuer %q is not an absolute URL", c.Issuer)
	}
	keys := c.Keys
	if keys.signer == nil {
		if keys, err = testKeySet(0); err != nil {
			return nil, err
		}
	}
	return &Provider{
		config: c, path: strings.TrimSuffix(issuer.Path, "/"), keys: keys, failures: map[string][]failure{},
		delays: map[string]time.Duration{}, holds: map[string][]chan struct{}{}, answers: map[string][]chan struct{}{},
		codes: map[string]*grant{}, access: map[string]accessToken{}, refresh: map[string]*grant{},
		idTokens: map[string]*grant{},
	}, nil
}

// SetUser says who signs in next where Authenticate is nil. Without a subject nobody does.
func (p *Provider) SetUser(l Login) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.Claims = maps.Clone(l.Claims)
	p.user = l
}

// Change changes the knobs. f must not call the Provider.
func (p *Provider) Change(f func(*Knobs)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.knobs)
}

// Register allows further redirect URIs and post-logout URLs.
func (p *Provider) Register(redirectURIs, postLogoutURIs []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.config.RedirectURIs = slices.Concat(p.config.RedirectURIs, redirectURIs)
	p.config.PostLogoutURIs = slices.Concat(p.config.PostLogoutURIs, postLogoutURIs)
}

// Fail lets the next times requests to an endpoint, after those of earlier calls, fail with an HTTP status, and an
// OAuth error code if code is not empty. Status 0 closes the connection. A negative times is for good, 0 ends all
// failing.
func (p *Provider) Fail(endpoint string, status int, code string, times int) {
	body := map[string]any{"error": code, "error_description": "the test wants this to fail"}
	p.fail(endpoint, failure{status: status, body: body, times: times})
}

// FailWith is Fail with a whole body.
func (p *Provider) FailWith(endpoint string, status int, body map[string]any, times int) {
	p.fail(endpoint, failure{status: status, body: maps.Clone(body), times: times})
}

// FailAfter is Fail for requests that are carried out, and then get another answer than theirs.
func (p *Provider) FailAfter(endpoint string, status, times int) {
	body := map[string]any{"error_description": "the test wants this answer to be lost"}
	p.fail(endpoint, failure{status: status, body: body, after: true, times: times})
}

func (p *Provider) fail(endpoint string, f failure) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.times == 0 {
		delete(p.failures, endpoint)
		return
	}
	p.failures[endpoint] = append(p.failures[endpoint], f)
}

// Hold lets the requests that arrive at an endpoint wait until release is called, but not longer than their clients do.
func (p *Provider) Hold(endpoint string) (release func()) { return p.hold(p.holds, endpoint) }

// HoldAnswer is Hold for requests that have been carried out.
func (p *Provider) HoldAnswer(endpoint string) (release func()) { return p.hold(p.answers, endpoint) }

func (p *Provider) hold(holds map[string][]chan struct{}, endpoint string) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := make(chan struct{})
	holds[endpoint] = append(holds[endpoint], held)
	return sync.OnceFunc(func() { close(held) }) // from then on it holds nobody
}

// Delay lets an endpoint wait before it does anything, but not longer than its client does.
func (p *Provider) Delay(endpoint string, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delays[endpoint] = d
}

// Requests returns a copy of the log, oldest first.
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

// Grants counts the refreshes that succeeded, also those whose answer was lost.
func (p *Provider) Grants() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.grants
}

// Reuses counts the refreshes that were refused because their token had been used up.
func (p *Provider) Reuses() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reuses
}

// Endpoints are the names of the endpoints.
func Endpoints() []string {
	return []string{"discovery", "jwks", "authorize", "token", "userinfo", "end_session", "revoke", "v2/logout"}
}

// endpoint is the name of what answers at path, or "".
func (p *Provider) endpoint(path string) string {
	k, _ := p.now()
	path, below := strings.CutPrefix(path, p.path)
	switch {
	case !below:
		return ""
	case path == "/.well-known/openid-configuration":
		return "discovery"
	case path == k.jwksPath():
		return "jwks"
	}
	name := strings.TrimPrefix(path, "/")
	if name == path || name == "discovery" || name == "jwks" || !slices.Contains(Endpoints(), name) {
		return ""
	}
	return name
}

func (k *Knobs) jwksPath() string {
	if k.JWKSPath == "" {
		return "/jwks"
	}
	return k.JWKSPath
}

// ServeHTTP answers the request for one of the endpoints.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	_ = r.ParseForm() // what is missing from it is refused below
	name := p.endpoint(r.URL.Path)
	trouble := p.note(name, r)
	if !trouble.wait(r.Context()) {
		return // the client is gone
	}
	fail, own := trouble.fail, kept{header: w.Header().Clone()}
	if fail == nil || fail.after {
		p.serve(&own, r, name)
	}
	switch {
	case !wait(r.Context(), trouble.answers):
	case fail == nil:
		own.send(w)
	case fail.status == 0:
		panic(http.ErrAbortHandler) // how a handler says that it closes the connection
	default:
		answer(w, fail.status, fail.body)
	}
}

// kept is an answer that may have to wait, or that nobody gets.
type kept struct {
	header http.Header
	status int // 0: none yet
	body   bytes.Buffer
}

func (k *kept) Header() http.Header { return k.header }

func (k *kept) WriteHeader(status int) { k.status = cmp.Or(k.status, status) }

func (k *kept) Write(b []byte) (int, error) {
	k.WriteHeader(http.StatusOK)
	return k.body.Write(b)
}

func (k *kept) send(w http.ResponseWriter) {
	maps.Copy(w.Header(), k.header)
	w.WriteHeader(cmp.Or(k.status, http.StatusOK))
	_, _ = w.Write(k.body.Bytes()) // an error means that the client is gone
}

// serve answers the request for an endpoint.
func (p *Provider) serve(w http.ResponseWriter, r *http.Request, name string) {
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
		p.endSession(w, r)
	case "v2/logout":
		p.v2Logout(w, r)
	case "revoke":
		p.revoke(w, r)
	default:
		http.NotFound(w, r)
	}
}

// A trouble is what is to go wrong with one request.
type trouble struct {
	delay          time.Duration
	holds, answers []chan struct{}
	fail           *failure // nil: nothing does
}

// note logs a request and says what is to go wrong with it.
func (p *Provider) note(endpoint string, r *http.Request) trouble {
	p.mu.Lock()
	defer p.mu.Unlock()
	target := *r.URL
	p.requests = append(p.requests, Request{endpoint, r.Method, &target, maps.Clone(r.Form), r.Header.Clone()})
	t := trouble{delay: p.delays[endpoint], holds: p.holds[endpoint], answers: p.answers[endpoint]}
	queue := p.failures[endpoint]
	if len(queue) == 0 {
		return t
	}
	fail := queue[0]
	if queue[0].times--; queue[0].times == 0 {
		p.failures[endpoint] = queue[1:]
	}
	t.fail = &fail
	return t
}

// wait lets the delay pass and all holds end, and reports false if ctx ends meanwhile.
func (t trouble) wait(ctx context.Context) bool {
	if t.delay > 0 {
		timer := time.NewTimer(t.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return false
		}
	}
	return wait(ctx, t.holds)
}

// wait lets all holds end, and reports false if ctx ends meanwhile.
func wait(ctx context.Context, holds []chan struct{}) bool {
	for _, held := range holds {
		select {
		case <-held:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (p *Provider) now() (Knobs, Keys) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.knobs, p.keys
}

// discovery is the metadata (OpenID Connect Discovery 1.0 section 3).
func (p *Provider) discovery(w http.ResponseWriter) {
	k, _ := p.now()
	base := strings.TrimSuffix(p.config.Issuer, "/")
	metadata := map[string]any{
		"issuer": p.config.Issuer, "authorization_endpoint": base + "/authorize", "token_endpoint": base + "/token",
		"jwks_uri": base + k.jwksPath(), "userinfo_endpoint": base + "/userinfo",
		"end_session_endpoint": base + "/end_session",
		"revocation_endpoint":  base + "/revoke", "response_types_supported": []string{"code"},
		"response_modes_supported": responseModes(),
		"grant_types_supported":    []string{"authorization_code", "refresh_token"},
		"subject_types_supported":  []string{"public"}, "code_challenge_methods_supported": []string{"S256"},
		// More than any one client is registered for, as in the conformance suite: a client must not take its pick from here.
		"id_token_signing_alg_values_supported": []string{
			"RS256", "RS384", "RS512", "PS256", "ES256", "EdDSA",
			"HS256", "none",
		},
		"token_endpoint_auth_methods_supported":          p.authMethods(&k),
		"authorization_response_iss_parameter_supported": true,
		"scopes_supported":                               []string{"openid", "profile", "email", "offline_access"},
	}
	maps.Copy(metadata, k.logouts())
	if k.EditMetadata != nil {
		k.EditMetadata(metadata)
	}
	answer(w, http.StatusOK, metadata)
}

func (p *Provider) authMethods(k *Knobs) []string {
	switch {
	case p.config.ClientSecret == "":
		return []string{"none"}
	case k.ClientAuth != "":
		return []string{k.ClientAuth}
	}
	return []string{"client_secret_basic", "client_secret_post"}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // an error means that the client is gone
}

func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
