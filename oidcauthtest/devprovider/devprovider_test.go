package devprovider_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest/devprovider"
)

const app = "http://127.0.0.1:3000"

func listen(t *testing.T, o devprovider.Options) *devprovider.Provider {
	t.Helper()
	if o.BaseURL == "" {
		o.BaseURL = app
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	p, err := devprovider.Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return p
}

// A browser talks to one provider. It keeps cookies and follows no redirect.
type browser struct {
	t      *testing.T
	issuer string
	client *http.Client
}

func newBrowser(t *testing.T, p *devprovider.Provider) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t, p.Options().Issuer, &http.Client{
		Jar:           jar,
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

type page struct {
	status   int
	header   http.Header
	body     string
	location *url.URL // where it redirects to, nil if it does not
}

func (b *browser) do(req *http.Request) page {
	b.t.Helper()
	resp, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	location, _ := resp.Location()
	return page{resp.StatusCode, resp.Header, string(body), location}
}

func (b *browser) request(method, path string, form url.Values) *http.Request {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.issuer+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return req
}

func (b *browser) get(path string) page { return b.do(b.request(http.MethodGet, path, nil)) }

func (b *browser) post(path string, f form) page {
	return b.do(b.request(http.MethodPost, path, f.values()))
}
func (b *browser) authorize(more ...string) page { return b.get(authorize(more...)) }
func (b *browser) signIn(user, password string) page {
	return b.post(authorize(), form{"do": "signin", "user": user, "password": password})
}

type form map[string]string

func (f form) values() url.Values {
	v := url.Values{}
	for name, value := range f {
		v.Set(name, value)
	}
	return v
}

// authorize is the path of an authorization request with further parameters, given as names and values. An empty value
// removes one.
func authorize(more ...string) string {
	q := form{
		"client_id": "development", "response_type": "code", "scope": "openid profile",
		"redirect_uri": app + "/auth/callback",
		"state":        "the-state", "nonce": "the-nonce", "code_challenge_method": "S256",
		"code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", // RFC 7636 appendix B
	}
	for pair := range slices.Chunk(more, 2) {
		q[pair[0]] = pair[1]
	}
	maps.DeleteFunc(q, func(_, value string) bool { return value == "" })
	return "/authorize?" + q.values().Encode()
}

// wantCallback wants a redirect to the application with a code, or with an error code if one is given.
func wantCallback(t *testing.T, p page, errorCode string) {
	t.Helper()
	if p.location == nil || !strings.HasPrefix(p.location.String(), app+"/auth/callback?") {
		t.Fatalf("status %d and no redirect to the application:\n%s", p.status, p.body)
	}
	q := p.location.Query()
	if got := q.Get("error"); got != errorCode || q.Has("code") == (errorCode != "") {
		t.Errorf("error %q, want %q: %s", got, errorCode, p.location)
	}
	if q.Get("state") != "the-state" || !q.Has("iss") {
		t.Errorf("state or iss is wrong: %s", p.location)
	}
}

// wantForm wants a page that has all of the words.
func wantForm(t *testing.T, p page, words ...string) {
	t.Helper()
	if p.location != nil {
		t.Fatalf("a redirect to %s instead of a page", p.location)
	}
	for _, word := range slices.Concat(words, []string{"DEVELOPMENT PROVIDER"}) {
		if !strings.Contains(p.body, word) {
			t.Errorf("%q is not on the page:\n%s", word, p.body)
		}
	}
}

// S17
func TestListensOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	p := listen(t, devprovider.Options{})
	issuer, err := url.Parse(p.Options().Issuer)
	if err != nil || net.ParseIP(issuer.Hostname()) == nil || !net.ParseIP(issuer.Hostname()).IsLoopback() {
		t.Errorf("issuer %q is not a loopback address", p.Options().Issuer)
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		ip, _, err := net.ParseCIDR(address.String())
		if err != nil || ip.IsLoopback() || ip.To4() == nil {
			continue
		}
		if conn, err := net.Dial("tcp", net.JoinHostPort(ip.String(), issuer.Port())); err == nil {
			conn.Close()
			t.Errorf("it answers at %v", ip)
		}
	}
}

// S17: behind a public application it would sign in anybody.
func TestRefusesApplicationsElsewhere(t *testing.T) {
	t.Parallel()
	for _, target := range []string{
		"https://app.example.com", "http://192.0.2.1:3000", "http://127.0.0.1.example.com", "http://localhost.example.com",
		"http://0.0.0.0:3000", "//localhost", "localhost:3000", "http://127.0.0.1@example.com/", "",
	} {
		for name, o := range map[string]devprovider.Options{
			"BaseURL":        {BaseURL: target},
			"RedirectURIs":   {BaseURL: app, RedirectURIs: []string{target}},
			"PostLogoutURLs": {BaseURL: app, PostLogoutURLs: []string{target}},
		} {
			if p, err := devprovider.Listen(o); err == nil {
				p.Close()
				t.Errorf("%s %q is accepted", name, target)
			}
		}
	}
	for _, base := range []string{"http://127.0.0.1:3000", "http://localhost:3000/", "https://localhost", "http://[::1]/a"} {
		if _, err := oidcauth.New(listen(t, devprovider.Options{BaseURL: base}).Options()); err != nil {
			t.Errorf("BaseURL %q: %v", base, err)
		}
	}
}

// S17: a name that somebody made point here is another site's way in.
func TestAnswersNoOtherHost(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, listen(t, devprovider.Options{}))
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(b.issuer, "http://"))
	for _, host := range []string{"localhost:" + port, "127.0.0.2:" + port, "127.0.0.1:1", "127.0.0.1", "app.example.com"} {
		for _, path := range []string{authorize(), "/jwks", "/style.css", "/.well-known/openid-configuration"} {
			req := b.request(http.MethodGet, path, nil)
			req.Host = host
			if got := b.do(req); got.status != http.StatusMisdirectedRequest {
				t.Errorf("Host %s, %s: status %d", host, path, got.status)
			}
		}
	}
}

// S17: nothing of one start is worth anything in the next.
func TestEachStartHasItsOwnSecrets(t *testing.T) {
	t.Parallel()
	first, second := listen(t, devprovider.Options{}), listen(t, devprovider.Options{})
	one, two := newBrowser(t, first).get("/jwks"), newBrowser(t, second).get("/jwks")
	modulus := regexp.MustCompile(`"n":"[^"]+"`)
	if a, b := modulus.FindString(one.body), modulus.FindString(two.body); a == "" || a == b {
		t.Errorf("the RSA keys are %q and %q", a, b)
	}
	if first.Options().ClientSecret == second.Options().ClientSecret {
		t.Error("the client secrets are equal")
	}
	if a, b := first.Options().Secrets[0], first.Options().Secrets[0]; len(a) < 32 || a == b {
		t.Error("two calls of Options give the same session secret, or a short one")
	}

	b := newBrowser(t, first)
	wantCallback(t, b.signIn("ada", "password"), "")
	b.issuer = second.Options().Issuer
	wantCallback(t, b.authorize("prompt", "none"), "login_required")
}

func TestLogNamesTheDevelopmentProvider(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	p := listen(t, devprovider.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if !strings.Contains(log.String(), "DEVELOPMENT PROVIDER") || !strings.Contains(log.String(), p.Options().Issuer) {
		t.Errorf("log %q", &log)
	}
	if strings.Contains(log.String(), p.Options().ClientSecret) {
		t.Error("the client secret is in the log")
	}
}

func TestMetadataOffersWhatTheLibraryUses(t *testing.T) {
	t.Parallel()
	p := listen(t, devprovider.Options{})
	metadata := newBrowser(t, p).get("/.well-known/openid-configuration").body
	for _, name := range []string{
		"end_session_endpoint", "revocation_endpoint", "authorization_response_iss_parameter_supported",
		`"code_challenge_methods_supported":["S256"]`,
	} {
		if !strings.Contains(metadata, name) {
			t.Errorf("%s is not in the metadata %s", name, metadata)
		}
	}
	client, err := oidcauth.New(p.Options())
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Discover(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCloseEndsTheListener(t *testing.T) {
	t.Parallel()
	p, err := devprovider.Listen(devprovider.Options{BaseURL: app, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", strings.TrimPrefix(p.Options().Issuer, "http://")); err == nil {
		conn.Close()
		t.Error("it still answers")
	}
}

func TestAccessTokensAreForAnAPIAndDoNotLast(t *testing.T) {
	t.Parallel()
	p := listen(t, devprovider.Options{AccessTokenLifetime: 30 * time.Second})
	b := newBrowser(t, p)
	target := authorize("resource", "https://api.example.com")
	callback := b.post(target, form{"do": "signin", "user": "ada", "password": "password"})
	wantCallback(t, callback, "")
	answer := b.post("/token", form{
		"grant_type": "authorization_code", "code": callback.location.Query().Get("code"),
		"redirect_uri":  app + "/auth/callback",
		"code_verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", // RFC 7636 appendix B
		"client_id":     "development", "client_secret": p.Options().ClientSecret,
	})
	var tokens struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	if err := json.Unmarshal([]byte(answer.body), &tokens); err != nil || tokens.ExpiresIn != 30 {
		t.Errorf("the token lasts for %d s, want 30: %v", tokens.ExpiresIn, err)
	}
	subject, audience, ok := p.AccessToken(tokens.AccessToken)
	if subject != "ada" || audience != "https://api.example.com" || !ok {
		t.Errorf("the token is of %q for %q, good: %t", subject, audience, ok)
	}
	subject, audience, ok = listen(t, devprovider.Options{}).AccessToken(tokens.AccessToken)
	if subject+audience != "" || ok {
		t.Errorf("another provider says that the token is of %q for %q, good: %t", subject, audience, ok)
	}
}

// Whoever imports the package does not link testing, which registers flags.
func TestImportsNoTesting(t *testing.T) {
	t.Parallel()
	command := exec.CommandContext(t.Context(), "go", "list", "-deps", ".")
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	if deps := strings.Fields(string(out)); slices.Contains(deps, "testing") || !slices.Contains(deps, "net/http") {
		t.Errorf("testing is among %d dependencies, or net/http is not", len(deps))
	}
}
