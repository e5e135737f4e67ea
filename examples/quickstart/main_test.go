package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
)

var complete = map[string]string{
	"OIDC_ISSUER":        "https://op.example.com",
	"OIDC_CLIENT_ID":     "quickstart",
	"OIDC_CLIENT_SECRET": "a client secret",
	"APP_BASE_URL":       "https://app.example.com",
	"SESSION_SECRET":     "Qm7vX2pL9sTz4KdR8wNc3HyB6fJg1VaU",
}

// setenv makes the variables the only ones about sign-in, until the test ends.
func setenv(t *testing.T, variables map[string]string) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); configured([]string{entry}) {
			t.Setenv(name, "")
			os.Unsetenv(name) // Setenv restores it
		}
	}
	for name, value := range variables {
		t.Setenv(name, value)
	}
}

func without(variables map[string]string, left string) map[string]string {
	rest := map[string]string{}
	for name, value := range variables {
		if name != left {
			rest[name] = value
		}
	}
	return rest
}

// S17: a mistyped variable in a deployment must not bring up a site where anybody signs in as anybody.
func TestPartialEnvironmentIsAnError(t *testing.T) {
	field := map[string]string{
		"OIDC_ISSUER": "Issuer", "OIDC_CLIENT_ID": "ClientID", "OIDC_CLIENT_SECRET": "ClientSecret",
		"APP_BASE_URL": "BaseURL", "SESSION_SECRET": "Secrets",
	}
	for missing := range complete {
		t.Run("without "+missing, func(t *testing.T) {
			setenv(t, without(complete, missing))
			wantStartError(t, field[missing]+":", missing)
		})
	}
	alone := map[string]string{
		"APP_BASE_URL": "https://app.example.com", "SESSION_SECRET": complete["SESSION_SECRET"],
		"OIDC_ISSUER": "https://op.example.com", "AUTH0_DOMAIN": "tenant.eu.auth0.com", "OIDC_ISUER": "mistyped",
		"AUTH0_CLIENT_ID": "", // set and empty is set
	}
	for name, value := range alone {
		t.Run(name+" alone", func(t *testing.T) {
			setenv(t, map[string]string{name: value})
			wantStartError(t, "ClientID:", "OIDC_CLIENT_ID")
		})
	}
}

// wantStartError wants run to end at once, with an error that has all of the words.
func wantStartError(t *testing.T, words ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // if it starts after all, it ends
	err := run(ctx, "127.0.0.1:0", inCookies, io.Discard)
	if err == nil {
		t.Fatal("it started")
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not name %q: %v", word, err)
		}
	}
}

func TestCompleteEnvironmentStarts(t *testing.T) {
	auth0 := map[string]string{
		"AUTH0_DOMAIN": "tenant.eu.auth0.com", "AUTH0_CLIENT_ID": "quickstart", "AUTH0_CLIENT_SECRET": "a client secret",
		"APP_BASE_URL": "https://app.example.com", "AUTH0_SECRET": complete["SESSION_SECRET"],
	}
	for name, variables := range map[string]map[string]string{"OIDC": complete, "AUTH0": auth0} {
		t.Run(name, func(t *testing.T) {
			setenv(t, variables)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			var out strings.Builder
			if err := run(ctx, "127.0.0.1:0", "memory", &out); err != nil {
				t.Fatal(err)
			}
			if got, want := out.String(), "Open https://app.example.com\n"; got != want {
				t.Errorf("printed %q, want %q", got, want)
			}
		})
	}
}

// S17
func TestListensOnLoopbackOnly(t *testing.T) {
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "app.example.com:80", "127.0.0.1", ""} {
		if l, err := listen(addr, true); err == nil {
			l.Close()
			t.Errorf("it listens on %q", addr)
		}
	}
	l, err := listen("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if ip := l.Addr().(*net.TCPAddr).IP; !ip.IsLoopback() {
		t.Errorf("it listens on %v", ip)
	}

	another, err := listen(l.Addr().String(), true)
	if err != nil {
		t.Fatalf("a taken port is not replaced: %v", err)
	}
	defer another.Close()
	if ip := another.Addr().(*net.TCPAddr).IP; !ip.IsLoopback() {
		t.Errorf("the replacement is on %v", ip)
	}
	if third, err := listen(l.Addr().String(), false); err == nil {
		third.Close()
		t.Error("a taken port is replaced although the provider knows it")
	}
}

// start runs the quickstart with its own provider until the test ends and returns its address. Its sessions are in
// cookies.
func start(t *testing.T) *url.URL {
	t.Helper()
	return startWith(t, inCookies)
}

// startWith is start with another -store.
func startWith(t *testing.T, store string) *url.URL {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, "127.0.0.1:0", store, in); in.Close() }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the end: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("no address printed: %v", err)
	}
	base, err := url.Parse(strings.TrimPrefix(strings.TrimSpace(line), "Open "))
	if err != nil {
		t.Fatal(err)
	}
	return base
}

// browser is an HTTP client that keeps cookies and says that it wants pages.
type browser struct {
	*http.Client
	t *testing.T
}

func newBrowser(t *testing.T) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{&http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}, t}
}

// page gets a page, or posts a form to it, and follows redirects.
func (b *browser) page(target string, form url.Values) (*http.Response, string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, target, nil)
	if form != nil {
		req, err = http.NewRequestWithContext(b.t.Context(), http.MethodPost, target, strings.NewReader(form.Encode()))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	resp, err := b.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp, string(body)
}

func (b *browser) wantPage(target string, form url.Values, status int, words ...string) *http.Response {
	b.t.Helper()
	resp, body := b.page(target, form)
	if resp.StatusCode != status {
		b.t.Errorf("%s: status %d, want %d", target, resp.StatusCode, status)
	}
	for _, word := range words {
		if !strings.Contains(body, word) {
			b.t.Errorf("%s: no %q on the page:\n%s", target, word, body)
		}
	}
	return resp
}

var ada = url.Values{"do": {"signin"}, "user": {"ada"}, "password": {"password"}}

func TestSignInAndOut(t *testing.T) {
	setenv(t, nil)
	base := start(t).String()
	b := newBrowser(t)
	b.wantPage(base+"/", nil, 200, "Sign in", "Sign up")
	b.wantPage(base+"/api", nil, 200, "/api/me")
	b.wantPage(base+"/api/me", nil, 401, "unauthenticated")
	b.wantPage(base+"/style.css", nil, 200, "prefers-color-scheme")
	b.wantPage(base+"/api.js", nil, 200, "fetch(")
	b.wantPage(base+"/auth/callback?code=made-up&state=made-up", nil, 400, "invalid_state")

	resp := b.wantPage(base+"/account", nil, 200, "DEVELOPMENT PROVIDER", "Ada Lovelace")
	resp = b.wantPage(resp.Request.URL.String(), ada, 200,
		"Ada Lovelace", "ada@example.com", "/avatar/ada", "Your session")
	if got := resp.Request.URL.String(); got != base+"/account" {
		t.Errorf("the sign-in ended at %s", got)
	}
	b.wantPage(base+"/", nil, 200, "Hello, Ada Lovelace", "Sign out")
	b.wantPage(base+"/api/me", nil, 200, `"email":"ada@example.com"`)

	b.wantPage(base+"/auth/logout", url.Values{}, 200, "Sign in", "Sign up")
	b.wantPage(base+"/api/me", nil, 401, "unauthenticated")
	b.wantPage(base+"/account", nil, 200, "DEVELOPMENT PROVIDER")
}

func TestSignUp(t *testing.T) {
	setenv(t, nil)
	base := start(t).String()
	b := newBrowser(t)
	_, home := b.page(base+"/", nil)
	link := regexp.MustCompile(`href="([^"]*screen_hint=signup)"`).FindStringSubmatch(home)
	if link == nil {
		t.Fatalf("no link to sign up:\n%s", home)
	}
	resp := b.wantPage(base+strings.ReplaceAll(link[1], "&amp;", "&"), nil, 200, "Sign up", "E-mail")
	mary := url.Values{"do": {"signup"}, "name": {"Mary Shelley"}, "email": {"mary@example.com"}}
	b.wantPage(resp.Request.URL.String(), mary, 200, "Mary Shelley", "mary@example.com", "Your session")
}

func TestCancelShowsTheErrorPage(t *testing.T) {
	setenv(t, nil)
	base := start(t).String()
	b := newBrowser(t)
	resp := b.wantPage(base+"/account", nil, 200, "DEVELOPMENT PROVIDER")
	b.wantPage(resp.Request.URL.String(), url.Values{"do": {"cancel"}}, 400, "access_denied", "Try again")
}

// S17: whoever has seen the source, or an earlier run, knows no secret of this one.
func TestSessionEndsWithTheProcess(t *testing.T) {
	setenv(t, nil)
	first := start(t)
	b := newBrowser(t)
	resp := b.wantPage(first.String()+"/account", nil, 200, "DEVELOPMENT PROVIDER")
	b.wantPage(resp.Request.URL.String(), ada, 200, "Your session")
	b.wantPage(first.String()+"/api/me", nil, 200, "ada")
	kept := b.Jar.Cookies(first)

	second := start(t)
	b = newBrowser(t)
	b.Jar.SetCookies(second, kept)
	b.wantPage(second.String()+"/api/me", nil, 401, "unauthenticated")
}

func TestErrorsHoldNoSecret(t *testing.T) {
	setenv(t, without(complete, "OIDC_ISSUER"))
	err := run(t.Context(), "127.0.0.1:0", inCookies, io.Discard)
	if err == nil {
		t.Fatal("it started")
	}
	for _, name := range []string{"SESSION_SECRET", "OIDC_CLIENT_SECRET"} {
		if strings.Contains(err.Error(), complete[name]) {
			t.Errorf("the error holds the value of %s: %v", name, err)
		}
	}
}
