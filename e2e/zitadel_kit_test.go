package e2e

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/oidcauth/oidcauth"
)

// Nothing listens at these addresses: requests go from one handler to the other, so that the tests' clock rules both.
const (
	zitadelIssuer  = "https://zitadel.example"
	zitadelAddress = "https://app.example"
	zitadelClient  = "our app:1" // the form encoding of RFC 6749 2.3.1 is there for this, and for the secret
	zitadelSecret  = "s3cret: 100% +/&= and long enough"
)

// A zitadelProvider is the example provider of zitadel/oidc (Apache 2.0) in this process. It is the example's storage,
// with what the example has no setting for.
type zitadelProvider struct {
	*storage.Storage
	router http.Handler

	mu      sync.Mutex // held while a request is served: the example does not lock all that it shares
	keys    []*storage.Storage
	kept    bool              // keys that sign no more are still published
	denies  error             // the answer to every authorization request
	authAge time.Duration     // how long ago users are said to have given their password
	asked   *oidc.AuthRequest // the last one
	issued  []string
	counts  map[string]int
	clients map[string]*storage.Client
}

func newZitadel(clients ...*storage.Client) *zitadelProvider {
	p := &zitadelProvider{counts: map[string]int{}, clients: map[string]*storage.Client{}}
	for _, c := range clients {
		p.clients[c.GetID()] = c
	}
	p.rotate(false)
	p.Storage = p.keys[0]
	p.router = exampleop.SetupServer(zitadelIssuer, p, nil, false)
	return p
}

// ServeHTTP is the provider.
func (p *zitadelProvider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.router.ServeHTTP(w, r)
}

// rotate makes another key the one that signs. The others are published still if they are kept.
func (p *zitadelProvider) rotate(kept bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	another := storage.NewStorageWithClients(storage.NewUserStore(zitadelIssuer), p.clients) // each makes a key
	p.keys, p.kept = append([]*storage.Storage{another}, p.keys...), kept
}

// SigningKey is the newest key.
func (p *zitadelProvider) SigningKey(ctx context.Context) (op.SigningKey, error) {
	return p.keys[0].SigningKey(ctx)
}

// KeySet is what the provider publishes.
func (p *zitadelProvider) KeySet(ctx context.Context) (published []op.Key, err error) {
	for i, owner := range p.keys {
		if i > 0 && !p.kept {
			break
		}
		keys, err := owner.KeySet(ctx)
		if err != nil {
			return nil, err
		}
		published = append(published, keys...)
	}
	return published, nil
}

// CreateAuthRequest may deny what the example's page has no button for.
func (p *zitadelProvider) CreateAuthRequest(
	ctx context.Context, r *oidc.AuthRequest, user string,
) (op.AuthRequest, error) {
	p.asked = r
	if p.denies != nil {
		return nil, p.denies
	}
	return p.Storage.CreateAuthRequest(ctx, r, user)
}

// agedRequest is a login of a user who had given the password before.
type agedRequest struct {
	*storage.AuthRequest
	age time.Duration
}

// GetAuthTime becomes the claim auth_time.
func (r agedRequest) GetAuthTime() time.Time { return r.AuthRequest.GetAuthTime().Add(-r.age) }

// AuthRequestByCode is how the token endpoint finds a login.
func (p *zitadelProvider) AuthRequestByCode(ctx context.Context, code string) (op.AuthRequest, error) {
	r, err := p.Storage.AuthRequestByCode(ctx, code)
	if own, ok := r.(*storage.AuthRequest); ok {
		return agedRequest{own, p.authAge}, err
	}
	return r, err
}

// CreateAccessAndRefreshTokens counts logins and refreshes, and notes the refresh tokens.
func (p *zitadelProvider) CreateAccessAndRefreshTokens(
	ctx context.Context, r op.TokenRequest, used string,
) (access, refresh string, expiry time.Time, err error) {
	if aged, ok := r.(agedRequest); ok {
		r = aged.AuthRequest // the storage knows its own type alone
	}
	access, refresh, expiry, err = p.Storage.CreateAccessAndRefreshTokens(ctx, r, used)
	switch {
	case err != nil:
		p.counts["refused"]++
	case used == "":
		p.counts["login"]++
	default:
		p.counts["refresh"]++
	}
	p.issued = append(p.issued, refresh)
	return access, refresh, expiry, err
}

// TokenRequestByRefreshToken counts refresh tokens that are used when they are no more.
func (p *zitadelProvider) TokenRequestByRefreshToken(
	ctx context.Context, token string,
) (op.RefreshTokenRequest, error) {
	r, err := p.Storage.TokenRequestByRefreshToken(ctx, token)
	if err != nil {
		p.counts["refused"]++
	}
	return r, err
}

// TerminateSession counts logouts, by user.
func (p *zitadelProvider) TerminateSession(ctx context.Context, user, client string) error {
	p.counts["logout of "+cmp.Or(user, "nobody")]++
	return p.Storage.TerminateSession(ctx, user, client)
}

// GetClientByClientID adds where the example lets no client go after a logout.
func (p *zitadelProvider) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := p.Storage.GetClientByClientID(ctx, id)
	if err != nil {
		return nil, err
	}
	return zitadelRegistration{c}, nil
}

type zitadelRegistration struct{ op.Client }

// PostLogoutRedirectURIs are the application's.
func (zitadelRegistration) PostLogoutRedirectURIs() []string {
	return []string{zitadelAddress, zitadelAddress + "/auth/logged-out"}
}

// want compares what has been counted: "login", "refresh", "refused" refreshes, "logout of" a user, and refresh
// tokens "live".
func (p *zitadelProvider) want(t *testing.T, when string, want map[string]int) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts["live"] = 0
	for _, token := range p.issued {
		if _, err := p.Storage.TokenRequestByRefreshToken(t.Context(), token); err == nil {
			p.counts["live"]++
		}
	}
	for what, n := range want {
		if p.counts[what] != n {
			t.Errorf("%s: %d × %s at the provider, want %d (of %v)", when, p.counts[what], what, n, p.counts)
		}
	}
}

// A wire takes requests to handlers by their host.
type wire map[string]http.Handler

// RoundTrip hands a server its own copy of the request.
func (n wire) RoundTrip(r *http.Request) (*http.Response, error) {
	handler, ok := n[r.URL.Host]
	if !ok {
		return nil, fmt.Errorf("there is no %s on this wire", r.URL.Host)
	}
	served := r.Clone(r.Context())
	served.Host, served.RequestURI = r.URL.Host, r.URL.RequestURI()
	served.URL = &url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	if served.Body = r.Body; r.Body == nil {
		served.Body = http.NoBody
	}
	defer served.Body.Close()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, served)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// A zitadelApp is the same application, with its users at the example provider.
type zitadelApp struct {
	*certifiedApp
	provider *zitadelProvider
	net      wire
}

// newZitadelApp starts provider and application in a bubble of synctest. Change may be nil.
func newZitadelApp(t *testing.T, change ...func(*oidcauth.Options)) *zitadelApp {
	t.Helper()
	callback := zitadelAddress + "/auth/callback"
	web := storage.WebClient(zitadelClient, zitadelSecret, callback)
	a := &zitadelApp{
		certifiedApp: &certifiedApp{t: t, address: zitadelAddress},
		provider:     newZitadel(web, storage.NativeClient("public", callback)),
	}
	a.net = wire{"zitadel.example": a.provider}
	o := oidcauth.Options{
		Issuer: zitadelIssuer, ClientID: zitadelClient, ClientSecret: zitadelSecret, BaseURL: zitadelAddress,
		Secrets:    []string{"a secret of the tests, 32 bytes long or more"},
		HTTPClient: &http.Client{Transport: a.net},
		OnEvent:    func(_ context.Context, e oidcauth.Event) { a.note(e.Err) },
		Logger:     slog.New(slog.DiscardHandler),
	}
	for _, change := range change {
		if change != nil {
			change(&o)
		}
	}
	client, err := oidcauth.New(o)
	if err != nil {
		t.Fatal(err)
	}
	a.client = client
	a.net["app.example"] = a.handler()
	return a
}

// visitor is a new browser in the network.
func (a *zitadelApp) visitor() zitadelVisitor {
	a.t.Helper()
	v := newVisitor(a.t)
	v.client.Transport = a.net
	return zitadelVisitor{v}
}

// token asks the application for an access token with certain cookies, from any goroutine.
func (a *zitadelApp) token(cookies string) (status int, token string) {
	r := httptest.NewRequest(http.MethodGet, zitadelAddress+"/token", nil)
	r.Header.Set("Cookie", cookies)
	w := httptest.NewRecorder()
	a.net["app.example"].ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// accepts says whether the provider answers to an access token.
func (a *zitadelApp) accepts(token string) bool {
	r := httptest.NewRequest(http.MethodGet, zitadelIssuer+"/userinfo", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	a.provider.ServeHTTP(w, r)
	return w.Code == http.StatusOK
}

// A zitadelVisitor is a visitor who knows the example's login page.
type zitadelVisitor struct{ *visitor }

// enter gives a password.
func (v zitadelVisitor) enter(page answer, password string) answer {
	v.t.Helper()
	if !page.asks() {
		v.t.Fatalf("no question for the password, but %d at %s:\n%s", page.status, page.url, page.body)
	}
	return v.submit(page, "username", "test-user@zitadel.example", "password", password)
}

// signIn opens a page that needs a user, and gives the password.
func (v zitadelVisitor) signIn(target string) answer {
	v.t.Helper()
	page := v.enter(v.open(target), "verysecure")
	v.wantAccount(page)
	return page
}
