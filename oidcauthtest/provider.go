package oidcauthtest

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest/internal/op"
)

// A User is who signs in at a [Provider].
type User struct {
	Subject string
	Claims  map[string]any // of ID token and UserInfo, beside the protocol's own
	// At is when the user signed in at the provider (auth_time). Zero: at the login.
	At time.Time
}

// Alice is who signs in unless a test says otherwise.
var Alice = User{Subject: "alice", Claims: map[string]any{"name": "Alice Example", "email": "alice@example.com"}}

// Knobs change how a [Provider] behaves. The zero value is a correct provider that rotates refresh tokens and punishes the
// reuse of one by revoking all that came of the same login.
type Knobs = op.Knobs

// A Request is one that a [Provider] received.
type Request = op.Request

// A Provider is an OpenID provider in memory: discovery, keys, authorization (which approves at once), tokens, UserInfo,
// end of session and revocation. It checks what a client sends: PKCE, redirect URI, client authentication, codes used twice.
// It opens no socket, starts no goroutine, follows the time of a testing/synctest bubble, and is safe for concurrent use.
type Provider struct {
	tb     testing.TB
	op     *op.Provider
	config op.Config
	secret string
}

// The addresses of provider and application.
const (
	issuer  = "https://op.test/"
	baseURL = "https://app.test"
)

// NewProvider returns a provider with one registered client, the one that [Provider.Options] describes.
func NewProvider(tb testing.TB) *Provider {
	tb.Helper()
	config := op.Config{
		Issuer: issuer, ClientID: "test-client", ClientSecret: "the+client secret:of/tests%20" + rand.Text(),
		RedirectURIs:   []string{baseURL + "/auth/callback"},
		PostLogoutURIs: []string{baseURL, baseURL + "/", baseURL + "/auth/logged-out"},
	}
	core, err := op.New(config)
	if err != nil {
		tb.Fatalf("provider: %v", err)
	}
	p := &Provider{tb: tb, op: core, config: config, secret: rand.Text() + rand.Text()}
	p.SetUser(Alice)
	return p
}

// Issuer returns the provider's issuer identifier.
func (p *Provider) Issuer() string { return p.config.Issuer }

// Options returns options of an application at https://app.test that is registered with the provider.
func (p *Provider) Options() oidcauth.Options {
	return oidcauth.Options{
		Issuer: p.config.Issuer, ClientID: p.config.ClientID, ClientSecret: p.config.ClientSecret,
		BaseURL: baseURL, Secrets: []string{p.secret}, HTTPClient: p.HTTPClient(),
	}
}

// Handler answers the provider's endpoints.
func (p *Provider) Handler() http.Handler { return p.op }

// HTTPClient returns a client that reaches the provider, and nobody else, without a socket.
func (p *Provider) HTTPClient() *http.Client {
	return &http.Client{Transport: roundTripper(p.tb, func(host string) http.Handler {
		if host != "op.test" {
			return nil
		}
		return p.op
	})}
}

// Register allows further redirect URIs and post-logout URLs.
func (p *Provider) Register(redirectURIs, postLogoutURIs []string) {
	p.op.Register(redirectURIs, postLogoutURIs)
}

// SetUser says who signs in from now on.
func (p *Provider) SetUser(u User) {
	p.op.SetUser(op.Login{Subject: u.Subject, Claims: u.Claims, At: u.At})
}

// Change changes the provider's behaviour from now on.
func (p *Provider) Change(f func(*Knobs)) { p.op.Change(f) }

// Misbehave makes the provider wrong in one way. The names are those of the modules of the OpenID Foundation's conformance
// suite for clients without their prefix, such as "invalid-iss", and some more; see [Misbehaviours].
func (p *Provider) Misbehave(name string) {
	p.tb.Helper()
	change, ok := misbehaviours[name]
	if !ok {
		p.tb.Fatalf("no misbehaviour is called %q", name)
	}
	p.op.Change(change)
}

// Fail lets the next times requests to an endpoint (discovery, jwks, token, userinfo, revoke, …) fail with a status, and an
// OAuth error code if code is not empty.
func (p *Provider) Fail(endpoint string, status int, code string, times int) {
	p.op.Fail(endpoint, status, code, times)
}

// Delay lets an endpoint take so long.
func (p *Provider) Delay(endpoint string, d time.Duration) { p.op.Delay(endpoint, d) }

// RotateKeys replaces the signing keys. The old ones are gone at once.
func (p *Provider) RotateKeys() {
	p.tb.Helper()
	if err := p.op.RotateKeys(); err != nil {
		p.tb.Fatalf("rotate keys: %v", err)
	}
}

// Requests returns what the provider was asked, oldest first; with names, only of those endpoints.
func (p *Provider) Requests(endpoints ...string) []Request {
	return slices.DeleteFunc(p.op.Requests(), func(r Request) bool {
		return len(endpoints) > 0 && !slices.Contains(endpoints, r.Endpoint)
	})
}

// Count is the number of requests to an endpoint.
func (p *Provider) Count(endpoint string) int { return len(p.Requests(endpoint)) }

// ActiveRefreshTokens counts the refresh tokens that still work, of one subject or with "" of all.
func (p *Provider) ActiveRefreshTokens(subject string) int { return p.op.ActiveRefreshTokens(subject) }

// Misbehaviours are the names that [Provider.Misbehave] knows.
func Misbehaviours() []string {
	var names []string
	for name := range misbehaviours {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func claim(name string, value any) func(*Knobs) {
	return func(k *Knobs) { k.EditIDToken = func(claims map[string]any) { claims[name] = value } }
}

func without(name string) func(*Knobs) {
	return func(k *Knobs) { k.EditIDToken = func(claims map[string]any) { delete(claims, name) } }
}

func appended(name, suffix string) func(*Knobs) {
	return func(k *Knobs) {
		k.EditIDToken = func(claims map[string]any) { claims[name] = fmt.Sprint(claims[name], suffix) }
	}
}

func callback(edit func(url.Values)) func(*Knobs) {
	return func(k *Knobs) { k.EditCallback = edit }
}

var misbehaviours = map[string]func(*Knobs){
	// of the ID token
	"invalid-iss":       appended("iss", "1"),
	"missing-sub":       without("sub"),
	"invalid-aud":       appended("aud", "1"),
	"missing-aud":       without("aud"),
	"missing-iat":       without("iat"),
	"missing-exp":       without("exp"),
	"expired":           claim("exp", 1),
	"nonce-invalid":     appended("nonce", "1"),
	"missing-nonce":     without("nonce"),
	"secondary-aud":     func(k *Knobs) { k.EditIDToken = func(c map[string]any) { c["aud"] = []any{c["aud"], "another"} } },
	"invalid-azp":       claim("azp", "another"),
	"idtoken-sig-none":  func(k *Knobs) { k.EditHeader = func(h map[string]any) { h["alg"] = "none"; delete(h, "kid") } },
	"invalid-sig-rs256": func(k *Knobs) { k.MangleIDToken = flipSignature },
	"alternate-alg":     func(k *Knobs) { k.SigningAlg = "ES256" },
	"typ-of-another":    func(k *Knobs) { k.EditHeader = func(h map[string]any) { h["typ"] = "at+jwt" } },
	"at-hash-invalid":   claim("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"),
	"missing-id-token":  func(k *Knobs) { k.EditTokens = func(r map[string]any) { delete(r, "id_token") } },
	// of keys
	"kid-absent-single-jwks":   func(k *Knobs) { k.NoKeyIDs = 1 },
	"kid-absent-multiple-jwks": func(k *Knobs) { k.NoKeyIDs = 3 },
	"decoy-keys":               func(k *Knobs) { k.DecoyKeys = true },
	// of other endpoints
	"userinfo-invalid-sub":      func(k *Knobs) { k.EditUserInfo = func(c map[string]any) { c["sub"] = fmt.Sprint(c["sub"], "invalid") } },
	"discovery-issuer-mismatch": func(k *Knobs) { k.EditMetadata = func(m map[string]any) { m["issuer"] = issuer + "INVALID" } },
	"token-type-mac":            func(k *Knobs) { k.EditTokens = func(r map[string]any) { r["token_type"] = "mac" } },
	// of the authorization response
	"invalid-authorization-response-iss": callback(func(q url.Values) { q.Set("iss", "https://evil.test/") }),
	"remove-authorization-response-iss":  callback(func(q url.Values) { q.Del("iss") }),
	"invalid-state":                      callback(func(q url.Values) { q.Set("state", q.Get("state")+"1") }),
	"missing-state":                      callback(func(q url.Values) { q.Del("state") }),
	"missing-code":                       callback(func(q url.Values) { q.Del("code") }),
	"doubled-state":                      callback(func(q url.Values) { q.Add("state", q.Get("state")) }),
	"doubled-code":                       callback(func(q url.Values) { q.Add("code", q.Get("code")) }),
	"doubled-iss":                        callback(func(q url.Values) { q.Add("iss", q.Get("iss")) }),
	"code-and-error":                     callback(func(q url.Values) { q.Set("error", "access_denied") }),
	// of the post-logout redirect
	"logout-other-state": func(k *Knobs) { k.EditLogout = func(q url.Values) { q.Set("state", q.Get("state")+"_INVALID") } },
	"logout-no-state":    func(k *Knobs) { k.EditLogout = func(q url.Values) { q.Del("state") } },
}

// flipSignature changes one bit in the middle of a JWT's signature.
func flipSignature(jwt string) string {
	at := strings.LastIndexByte(jwt, '.') + 20
	swapped := byte('A')
	if jwt[at] == 'A' {
		swapped = 'B'
	}
	return jwt[:at] + string(swapped) + jwt[at+1:]
}
