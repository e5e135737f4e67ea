package e2e

import (
	"context"
	"encoding/json"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
)

// certifiedConfigs are the ways in which applications differ that the whole journey is walked with. Source is where the
// user's name comes from.
var certifiedConfigs = []certifiedRow{
	{"code in the query", "id_token", nil},
	{"login for an API", "id_token", func(o *oidcauth.Options) { o.Audience = ordersAPI }},
	{"claims from UserInfo", "userinfo", func(o *oidcauth.Options) { o.FetchUserInfo, o.DropIDToken = true, true }},
	{"form post", "id_token", func(o *oidcauth.Options) { o.ResponseMode = oidcauth.ResponseFormPost }},
}

// certifiedInBrowser are further ones that need a browser's cookies: net/http/cookiejar knows no SameSite.
var certifiedInBrowser = []certifiedRow{
	{"Strict cookie", "id_token", func(o *oidcauth.Options) { o.Cookie.SameSite = http.SameSiteStrictMode }},
	{"Strict cookie, form post", "id_token", func(o *oidcauth.Options) {
		o.Cookie.SameSite, o.ResponseMode = http.SameSiteStrictMode, oidcauth.ResponseFormPost
	}},
}

type certifiedRow struct {
	name, source string
	options      func(*oidcauth.Options)
}

// The APIs that the provider knows (RFC 8707): one is sent JWTs, the other opaque tokens.
const (
	ordersAPI  = "https://orders.example"
	billingAPI = "https://billing.example"
)

// The credentials have what the form encoding of RFC 6749 2.3.1 is there for.
const (
	certifiedClientID = "our app:1"
	certifiedSecret   = "s3cret: 100% +/&= and long enough"
)

// A certifiedProvider is npm oidc-provider in a process of its own.
type certifiedProvider struct {
	t        *testing.T
	settings map[string]any
	cmd      *exec.Cmd
	ended    func()
	Issuer   string
	Admin    string
	Port     int
}

// startCertified starts the provider for an application at base, to which logouts may come back at one URL, and for
// other clients. Change, which may be nil, may change the application's metadata. Without its packages the test is
// skipped; with CI set it fails.
func startCertified(
	t *testing.T, base, afterLogout string, change func(client map[string]any), others ...any,
) *certifiedProvider {
	t.Helper()
	if _, err := os.Stat("certified/node_modules"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("run npm ci in e2e/certified: these tests must not be skipped where CI is set")
		}
		t.Skip("the provider is not installed: run npm ci in e2e/certified")
	}
	api := func(scope, format string) map[string]any {
		return map[string]any{"scope": scope, "accessTokenFormat": format}
	}
	client := registration(certifiedClientID, base, afterLogout)
	if change != nil {
		change(client)
	}
	p := &certifiedProvider{t: t, settings: map[string]any{
		"port":         0,
		"tokenSeconds": 3600,
		"apis":         map[string]any{ordersAPI: api("orders", "jwt"), billingAPI: api("billing", "opaque")},
		"clients":      append([]any{client}, others...),
	}}
	p.start()
	t.Cleanup(func() { p.kill() })
	return p
}

// registration is the metadata of a client at base (RFC 7591 2).
func registration(id, base, afterLogout string) map[string]any {
	return map[string]any{
		"client_id": id, "client_secret": certifiedSecret,
		"token_endpoint_auth_method": "client_secret_basic",
		"grant_types":                []string{"authorization_code", "refresh_token"},
		"redirect_uris":              []string{base + "/auth/callback"},
		"post_logout_redirect_uris":  []string{afterLogout},
	}
}

// warnings are what the provider has to say of an older Node.
var warnings = regexp.MustCompile(`(?m)^oidc-provider WARNING: .*\n?`)

func (p *certifiedProvider) start() {
	p.t.Helper()
	node, err := filepath.Abs("certified/node_modules/.bin/node") // newer than the machine's may be
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := os.Stat(node); err != nil {
		node = "node"
	}
	settings, err := json.Marshal(p.settings)
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd = exec.Command(node, "server.mjs")
	p.cmd.Dir = "certified"
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "SETTINGS=" + string(settings)}
	var said strings.Builder
	p.cmd.Stderr = &said
	stdin, err := p.cmd.StdinPipe() // it ends with the tests, however they end
	if err != nil {
		p.t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("start the provider: %v", err)
	}
	p.ended = sync.OnceFunc(func() {
		_ = stdin.Close()
		err := p.cmd.Wait()
		if err != nil || warnings.ReplaceAllString(said.String(), "") != "" {
			p.t.Errorf("the provider ended with %v and said\n%s", err, said.String())
		}
	})
	if err := json.NewDecoder(stdout).Decode(p); err != nil {
		p.ended()
		p.t.Fatalf("the provider prints no addresses: %v", err)
	}
}

// kill ends the process, and all that it knows is gone. It may be started again at the same address.
func (p *certifiedProvider) kill() {
	p.ended()
	p.settings["port"] = p.Port
}

// ask uses the tests' own door to the provider.
func (p *certifiedProvider) ask(what, body string, answer any) {
	p.t.Helper()
	resp, err := http.Post(p.Admin+what, "text/plain", strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
}

func (p *certifiedProvider) do(what, body string) { p.t.Helper(); p.ask(what, body, &struct{}{}) }

// want compares what the provider has counted: grants by type, errors by code, and "reuse" of refresh tokens, "revoked"
// grants, "logout"s, applications "told" of them or "not told", "password"s tried and refresh tokens "live".
func (p *certifiedProvider) want(when string, want map[string]int) {
	p.t.Helper()
	var counts map[string]int
	p.ask("/counts", "", &counts)
	for what, n := range want {
		if counts[what] != n {
			p.t.Errorf("%s: %d × %s at the provider, want %d (of %v)", when, counts[what], what, n, counts)
		}
	}
}

// A tokenReport is what an API finds out about an access token.
type tokenReport struct{ Sub, Aud, Scope, Format, Error string }

func (p *certifiedProvider) look(token string) (report tokenReport) {
	p.t.Helper()
	p.ask("/look", token, &report)
	return report
}

// A certifiedApp is an application of ours that signs its users in at the certified provider.
type certifiedApp struct {
	t        *testing.T
	address  string
	provider *certifiedProvider
	client   *oidcauth.Client
	watch    watch

	mu     sync.Mutex
	failed error // what went wrong last
}

// newCertifiedApp starts a provider and an application. Change may be nil.
func newCertifiedApp(t *testing.T, change ...func(*oidcauth.Options)) *certifiedApp {
	t.Helper()
	return newCertifiedAppWith(t, "", change...)
}

// newCertifiedAppWith registers another path of the application than its root for logouts to come back to.
func newCertifiedAppWith(t *testing.T, afterLogout string, change ...func(*oidcauth.Options)) *certifiedApp {
	t.Helper()
	a := &certifiedApp{t: t}
	server := httptest.NewUnstartedServer(nil)
	t.Cleanup(server.Close)
	a.address = "http://" + server.Listener.Addr().String()
	a.provider = startCertified(t, a.address, a.address+afterLogout, nil)
	a.client = a.newClient(change...)
	server.Config.Handler = a.watch.front(a.handler())
	server.Start()
	return a
}

func (a *certifiedApp) newClient(change ...func(*oidcauth.Options)) *oidcauth.Client {
	a.t.Helper()
	o := oidcauth.Options{
		Issuer: a.provider.Issuer, ClientID: certifiedClientID, ClientSecret: certifiedSecret, BaseURL: a.address,
		Secrets:        []string{"a secret of the tests, 32 bytes long or more"},
		Scopes:         []string{"openid", "profile", "email", "offline_access", "orders", "billing"},
		AudienceScopes: map[string][]string{ordersAPI: {"orders"}, billingAPI: {"billing"}},
		// Core 11: without it the provider gives no refresh token. A link that sets prompt has to say consent, too.
		AuthParams: map[string]string{"prompt": "consent"},
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
		a.t.Fatal(err)
	}
	return client
}

func (a *certifiedApp) host() string { return strings.TrimPrefix(a.address, "http://") }

func (a *certifiedApp) handler() http.Handler { return a.client.Wrap(a.pages()) }

// pages are the application: a page for everybody, one for users, and one that shows an access token.
func (a *certifiedApp) pages() *http.ServeMux {
	mux := http.NewServeMux()
	write := func(w http.ResponseWriter, text string) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, `<!doctype html><html lang="en"><title>Ours</title>
			<meta name="viewport" content="width=device-width">
			<style>body { font: 18px/1.5 sans-serif; margin: 2em }</style>`+text)
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { write(w, "<h1>Our home page</h1>") })
	mux.Handle("GET /account/", a.client.RequireAuth(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := oidcauth.SessionFromContext(r.Context())
		var user struct{ Name, Email string }
		if err := s.Claims(&user); err != nil {
			a.client.Error(w, r, err)
			return
		}
		var note string
		if _, err := s.Value("note", &note); err != nil {
			a.client.Error(w, r, err)
			return
		}
		who := html.EscapeString(s.Subject + ", " + user.Name + ", " + user.Email)
		write(w, "<h1>Account</h1><p>"+who+`<p><a href="/auth/logout">Sign out</a><p>`+html.EscapeString(note))
	})))
	mux.Handle("GET /note/{note}", a.client.RequireAuth(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		note := func(s *oidcauth.Session) error { return s.SetValue("note", r.PathValue("note")) }
		if err := a.client.UpdateSession(w, r, note); err != nil {
			a.client.Error(w, r, err)
			return
		}
		http.Redirect(w, r, "/account/", http.StatusSeeOther)
	})))
	mux.Handle("GET /token", a.client.RequireAuthAPI(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		token, err := a.client.AccessToken(w, r, &oidcauth.TokenOptions{
			Audience: query.Get("audience"), ForceRefresh: query.Has("another"),
		})
		if err != nil {
			a.note(err) // the event may come later than the answer
			a.client.Error(w, r, err)
			return
		}
		_, _ = io.WriteString(w, token.AccessToken)
	})))
	return mux
}

// note keeps an error, if it is one, for cause.
func (a *certifiedApp) note(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.failed = err
	}
}

// cause returns what went wrong last, and forgets it.
func (a *certifiedApp) cause() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.failed
	a.failed = nil
	return err
}

// shortTokens lets the next access token, which get is to bring, live for a second, and waits until it has expired.
func (a *certifiedApp) shortTokens(get func()) {
	a.t.Helper()
	a.provider.do("/token-seconds", "1")
	get()
	a.provider.do("/token-seconds", "3600")
	time.Sleep(1100 * time.Millisecond) // a process of its own has no other clock
}

// token asks the application for an access token with certain cookies, from any goroutine.
func (a *certifiedApp) token(cookies string) (status int, token string, err error) {
	req, err := http.NewRequest(http.MethodGet, a.address+"/token", nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Cookie", cookies)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}
