package oidcauthtest

import (
	"cmp"
	"crypto/rand"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest/internal/op"
)

// A User is who signs in at a [Provider]. With the zero value nobody does: the provider answers access_denied, or
// login_required to prompt=none.
type User struct {
	Subject string
	Claims  map[string]any // of ID token and UserInfo, beside the protocol's own, which they cannot replace
	// At is when the user signed in at the provider (auth_time). Zero: at the login.
	At time.Time
}

// Alice is who signs in unless a test says otherwise.
var Alice = User{Subject: "alice", Claims: map[string]any{"name": "Alice Example", "email": "alice@example.com"}}

// A Provider is an OpenID provider in memory: discovery, keys, authorization (which approves at once), tokens,
// UserInfo, end of session and revocation. It checks what a client sends: PKCE, redirect URI, client authentication,
// codes used twice. It opens no socket, starts no goroutine, follows the time of a testing/synctest bubble, and is safe
// for concurrent use. Make one with [NewProvider].
type Provider struct {
	tb      testing.TB
	op      *op.Provider
	options oidcauth.Options
	issuer  string
	host    string // of the issuer
	apis    sites

	mu      sync.Mutex
	answers []*Response // to logout tokens
}

// NewProvider returns a provider with one registered client: the application that [Provider.Options] describes. It is
// at https://app.test and the issuer is https://op.test/. Each edit may change these options; the provider then knows
// the client as edited, with its issuer, id and secret, or without one, the redirect URI and the post-logout URLs.
func NewProvider(tb testing.TB, edit ...func(*oidcauth.Options)) *Provider {
	tb.Helper()
	p := &Provider{tb: tb}
	p.options = oidcauth.Options{
		Issuer: "https://op.test/", ClientID: "test-client", BaseURL: "https://app.test",
		ClientSecret: "the+client secret:of/tests%20" + rand.Text(), // has to be form-encoded in a header (RFC 6749 2.3.1)
		Secrets:      []string{rand.Text() + rand.Text()}, HTTPClient: p.HTTPClient(),
	}
	for _, f := range edit {
		f(&p.options)
	}
	config := p.client()
	config.SendLogoutToken = p.sendLogoutToken
	var err error
	if p.op, err = op.New(config); err != nil {
		tb.Fatalf("provider: %v", err)
	}
	if u, err := url.Parse(config.Issuer); err == nil { // as op.New has seen
		p.issuer, p.host = config.Issuer, u.Host
	}
	if algs := p.options.IDTokenSigningAlgs; len(algs) > 0 {
		p.Change(func(k *Knobs) { k.SigningAlg = algs[0] })
	}
	p.SetUser(Alice)
	return p
}

// client is what the provider has to know of the application.
func (p *Provider) client() op.Config {
	o := &p.options
	base := strings.TrimSuffix(o.BaseURL, "/")
	config := op.Config{
		Issuer: o.Issuer, ClientID: o.ClientID, ClientSecret: o.ClientSecret, CheckHints: true,
		RedirectURIs:   []string{base + cmp.Or(o.Routes.Callback, "/auth/callback")},
		PostLogoutURIs: []string{base, base + "/", base + cmp.Or(o.Routes.LoggedOut, "/auth/logged-out")},
	}
	if o.Issuer == "" {
		config.Issuer = "https://" + o.Domain + "/"
	}
	if o.PostLogoutURL != "" {
		config.PostLogoutURIs = append(config.PostLogoutURIs, o.PostLogoutURL)
	}
	for _, target := range o.AllowedLogoutURLs {
		if !strings.HasSuffix(target, "*") { // providers compare exactly: what a pattern stands for is for Register
			config.PostLogoutURIs = append(config.PostLogoutURIs, target)
		}
	}
	return config
}

// Issuer returns the provider's issuer identifier.
func (p *Provider) Issuer() string { return p.issuer }

// Options returns the options of the application that is registered with the provider, the same in each call.
func (p *Provider) Options() oidcauth.Options {
	o := p.options
	o.Secrets = slices.Clone(o.Secrets)
	return o
}

// Handler answers the provider's endpoints.
func (p *Provider) Handler() http.Handler { return p.op }

// HTTPClient returns a client that reaches the provider and what [Provider.Serve] has added, and nobody else, without a
// socket.
func (p *Provider) HTTPClient() *http.Client {
	return &http.Client{Transport: roundTripFunc(func(req *http.Request) (*http.Response, error) {
		if req.URL.Host == p.host {
			return exchange(p.tb, p.op, req)
		}
		return exchange(p.tb, p.apis.get(originOf(req.URL)), req)
	})}
}

// Register allows further redirect URIs and post-logout URLs.
func (p *Provider) Register(redirectURIs, postLogoutURIs []string) {
	p.op.Register(redirectURIs, postLogoutURIs)
}

// SetUser says who signs in from now on.
func (p *Provider) SetUser(u User) {
	p.op.SetUser(op.Login{Subject: u.Subject, Claims: maps.Clone(u.Claims), At: u.At})
}

// Fail lets the next times requests to an endpoint fail with a status, and an OAuth error code if code is not empty,
// after the failures of earlier calls. Status 0 closes the connection without an answer. A negative times is for good,
// and 0 ends all failing. Endpoints are named as in [Request].
func (p *Provider) Fail(endpoint string, status int, code string, times int) {
	p.tb.Helper()
	p.known(endpoint)
	p.op.Fail(endpoint, status, code, times)
}

// FailWith is [Provider.Fail] with a whole JSON body, such as {"error": "invalid_grant", "suberror":
// "consent_required"}. The calls of both are one sequence, with those of [Provider.FailAfter].
func (p *Provider) FailWith(endpoint string, status int, body map[string]any, times int) {
	p.tb.Helper()
	p.known(endpoint)
	p.op.FailWith(endpoint, status, body, times)
}

// FailAfter is [Provider.Fail] for requests that are carried out all the same: a code is used up, a refresh token
// rotated, and the client learns nothing of it. Status 0 is a connection that breaks before the answer arrives.
func (p *Provider) FailAfter(endpoint string, status, times int) {
	p.tb.Helper()
	p.known(endpoint)
	p.op.FailAfter(endpoint, status, times)
}

// Delay lets an endpoint take so long before it does anything, or until its client gives up. In a testing/synctest
// bubble that takes no time.
func (p *Provider) Delay(endpoint string, d time.Duration) {
	p.tb.Helper()
	p.known(endpoint)
	p.op.Delay(endpoint, d)
}

// Hold lets requests that arrive at an endpoint from now on wait there, until release is called or their client gives
// up. [Provider.Requests] has them while they wait. In a testing/synctest bubble, call both inside of it.
func (p *Provider) Hold(endpoint string) (release func()) {
	p.tb.Helper()
	p.known(endpoint)
	return p.op.Hold(endpoint)
}

// HoldAnswer is [Provider.Hold] for requests that are carried out: a refresh token is rotated, and its client waits for
// the answer. With [Provider.FailAfter], that failure is what waits.
func (p *Provider) HoldAnswer(endpoint string) (release func()) {
	p.tb.Helper()
	p.known(endpoint)
	return p.op.HoldAnswer(endpoint)
}

// RotateKeys replaces the signing keys. The old ones are gone at once.
func (p *Provider) RotateKeys() {
	p.tb.Helper()
	if err := p.op.RotateKeys(); err != nil {
		p.tb.Fatalf("rotate keys: %v", err)
	}
}

// Requests returns what the provider was asked, oldest first; with names, only of those endpoints.
func (p *Provider) Requests(endpoints ...string) []Request {
	p.tb.Helper()
	p.known(endpoints...)
	var requests []Request
	for _, r := range p.op.Requests() {
		if len(endpoints) == 0 || slices.Contains(endpoints, r.Endpoint) {
			requests = append(requests, Request(r))
		}
	}
	return requests
}

// Count is the number of requests to an endpoint.
func (p *Provider) Count(endpoint string) int {
	p.tb.Helper()
	return len(p.Requests(endpoint))
}

// ActiveRefreshTokens counts the refresh tokens that still work, of one subject or with "" of all.
func (p *Provider) ActiveRefreshTokens(subject string) int { return p.op.ActiveRefreshTokens(subject) }

// Grants is the number of refreshes that succeeded since the start, those whose answer [Provider.FailAfter] lost
// included.
func (p *Provider) Grants() int { return p.op.Grants() }

// Reuses is how often a client used a refresh token again that was used up, for which the provider revoked all that
// came of the login. What [Knobs.ReuseOverlap] allows is not counted.
func (p *Provider) Reuses() int { return p.op.Reuses() }

// known stops a test that misspells an endpoint: it would count nothing, and pass.
func (p *Provider) known(endpoints ...string) {
	p.tb.Helper()
	for _, endpoint := range endpoints {
		if endpoint != "" && !slices.Contains(op.Endpoints(), endpoint) {
			p.tb.Fatalf("no endpoint is called %q, they are %q", endpoint, op.Endpoints())
		}
	}
}
