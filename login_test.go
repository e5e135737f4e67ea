package oidcauth_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// started starts a login and returns the authentication request, which it asserts to be one.
func (a *app) started(t testing.TB, path string) (*oidcauthtest.Response, *url.URL) {
	t.Helper()
	r := a.browser.NoRedirects().Get(path)
	target, err := url.Parse(r.Location())
	if err != nil || r.StatusCode != http.StatusFound || target.Host != "op.test" {
		t.Fatalf("%s: %d to %q %q, want a redirect to the provider", path, r.StatusCode, r.Location(), errorCode(r))
	}
	return r, target
}

// ours are the parameters of every authentication request.
var ours = []string{
	"client_id", "code_challenge", "code_challenge_method", "nonce", "redirect_uri", "response_type", "scope", "state",
}

func TestLoginRedirectsToTheProvider(t *testing.T) { // OIDC-01, OIDC-03, PKCE-01
	t.Parallel()
	a := newApp(t)
	r, target := a.started(t, "/auth/login?returnTo=/secret-place")
	query := target.Query()
	if got := slices.Sorted(maps.Keys(query)); !slices.Equal(got, ours) {
		t.Errorf("the parameters are %q, want %q", got, ours)
	}
	for name, want := range map[string]string{
		"client_id": "test-client", "response_type": "code", "redirect_uri": "https://app.test/auth/callback",
		"scope": "openid profile email offline_access", "code_challenge_method": "S256",
	} {
		if got := query.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	random := regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`) // 256 bits, and CS-10's longest nonce
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		if !random.MatchString(query.Get(name)) {
			t.Errorf("%s is %q, want 256 bits of base64url", name, query.Get(name))
		}
	}
	cookies := r.Cookies()
	if len(cookies) != 1 {
		t.Fatalf("%d cookies are set, want that of the login", len(cookies))
	}
	c := cookies[0]
	if !strings.HasPrefix(c.Name, "__Host-login-") || c.Path != "/" || c.Domain != "" || !c.Secure || !c.HttpOnly ||
		c.SameSite != http.SameSiteLaxMode || c.MaxAge != 900 {
		t.Errorf("the cookie is %s; Path=%s; Domain=%s; Secure=%t; HttpOnly=%t; SameSite=%d; Max-Age=%d",
			c.Name, c.Path, c.Domain, c.Secure, c.HttpOnly, c.SameSite, c.MaxAge)
	}
	for place, text := range map[string]string{"the URL": target.String(), "the cookie": c.Name + c.Value, "the body": r.Body} {
		if strings.Contains(text, "secret-place") {
			t.Errorf("%s shows returnTo", place)
		}
		if place != "the URL" && (strings.Contains(text, query.Get("state")) || strings.Contains(text, query.Get("nonce"))) {
			t.Errorf("%s shows state or nonce", place)
		}
	}
	if h := r.Header; !strings.Contains(h.Get("Cache-Control"), "no-store") || h.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("Cache-Control %q, Referrer-Policy %q", h.Get("Cache-Control"), h.Get("Referrer-Policy"))
	}
}

func TestEveryLoginHasItsOwnSecrets(t *testing.T) { // OIDC-02, OIDC-03, PKCE-01, PKCE-02
	t.Parallel()
	a := newApp(t)
	seen := map[string]bool{}
	for range 20 {
		start, target := a.started(t, "/auth/login")
		a.browser.Get(target.String())
		sent := a.op.Requests("token")
		verifier := sent[len(sent)-1].Form.Get("code_verifier")
		if !regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`).MatchString(verifier) {
			t.Fatal("the verifier is not one of RFC 7636")
		}
		sum := sha256.Sum256([]byte(verifier))
		query := target.Query()
		if query.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) {
			t.Error("the challenge is not the verifier's hash")
		}
		if strings.Contains(target.String()+start.Header.Get("Set-Cookie")+a.logs.String(), verifier) {
			t.Error("the verifier shows in the URL, the cookie or the log")
		}
		for _, secret := range []string{query.Get("state"), query.Get("nonce"), verifier} {
			if seen[secret] {
				t.Error("a secret was used twice")
			}
			seen[secret] = true
		}
	}
}

func TestPKCEIsNeverLeftOut(t *testing.T) { // PKCE-01, DISC-06
	t.Parallel()
	tests := []struct {
		name    string
		methods any // code_challenge_methods_supported; nil: absent
		refused bool
	}{
		{"a provider that lists S256", []string{"plain", "S256"}, false},
		{"a provider that says nothing of PKCE", nil, false},
		{"a provider that lists plain alone", []string{"plain"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t)
			a.op.Change(func(k *oidcauthtest.Knobs) {
				k.EditMetadata = func(m map[string]any) {
					m["code_challenge_methods_supported"] = tt.methods
					if tt.methods == nil {
						delete(m, "code_challenge_methods_supported")
					}
				}
			})
			if !tt.refused {
				if _, target := a.started(t, "/auth/login"); target.Query().Get("code_challenge_method") != "S256" {
					t.Error("no S256 challenge was sent")
				}
				return
			}
			r := a.browser.Get("/auth/login")
			if r.StatusCode != http.StatusBadGateway || errorCode(r) != "invalid_metadata" || len(r.Cookies()) > 0 {
				t.Errorf("%d %q with %d cookies, want 502 invalid_metadata without", r.StatusCode, errorCode(r), len(r.Cookies()))
			}
		})
	}
}

func TestWhatALinkMayAskFor(t *testing.T) { // OIDC-04, S14, lesson 30
	t.Parallel()
	const scope = "openid profile email offline_access"
	type options = oidcauth.Options
	tests := []struct {
		name string
		edit func(*options)
		link string // query
		want url.Values
	}{
		{"nothing", nil, "", url.Values{}},
		{
			"the standard parameters are forwarded", nil,
			"screen_hint=signup&prompt=login&login_hint=a%40b.test&connection=c&organization=o&invitation=i&ui_locales=de&" +
				"max_age=60&acr_values=x+y&display=page",
			url.Values{
				"screen_hint": {"signup"}, "prompt": {"login"}, "login_hint": {"a@b.test"}, "connection": {"c"}, "organization": {"o"},
				"invitation": {"i"}, "ui_locales": {"de"}, "max_age": {"60"}, "acr_values": {"x y"}, "display": {"page"},
			},
		},
		{"empty ones are not", nil, "prompt=&login_hint=", url.Values{}},
		{
			"what the library sets cannot be set", nil,
			"client_id=x&redirect_uri=https%3A%2F%2Fevil.test%2F&response_type=token&state=x&nonce=x&code_challenge=x&" +
				"code_challenge_method=plain&response_mode=fragment&request=x&request_uri=x&dpop_jkt=x",
			url.Values{},
		},
		{"others are ignored", nil, "foo=bar&id_token_hint=x&claims=x&registration=x&resource=x", url.Values{}},
		{"unless they are allowed", func(o *options) { o.AllowedLoginParams = []string{"foo"} }, "foo=bar&bar=foo", url.Values{"foo": {"bar"}}},

		{"an audience is ignored", nil, "audience=https%3A%2F%2Fother.test", url.Values{}},
		{
			"an audience that is not listed leaves the configured one",
			func(o *options) { o.Audience, o.AllowedAudiences = "api", []string{"listed"} }, "audience=other",
			url.Values{"resource": {"api"}},
		},
		{
			"an audience that is listed replaces it",
			func(o *options) { o.Audience, o.AllowedAudiences = "api", []string{"listed"} }, "audience=listed",
			url.Values{"resource": {"listed"}},
		},
		{
			"the audience goes where it is configured to",
			func(o *options) { o.Audience, o.AudienceParam = "api", oidcauth.ParamAudience }, "",
			url.Values{"audience": {"api"}},
		},
		{"resource is no way around it", func(o *options) { o.Audience = "api" }, "resource=other", url.Values{"resource": {"api"}}},
		{"scopes are ignored", nil, "scope=admin", url.Values{}},
		{
			"scopes that are listed are added, and none is removed",
			func(o *options) { o.AllowedScopes = []string{"read", "write"} }, "scope=write+admin",
			url.Values{"scope": {scope + " write"}},
		},

		{
			"parameters of the options are sent", func(o *options) { o.AuthParams = map[string]string{"prompt": "consent"} }, "",
			url.Values{"prompt": {"consent"}},
		},
		{
			"a link may change those that it may set",
			func(o *options) {
				o.AuthParams = map[string]string{"prompt": "consent", "ui_locales": "de", "foo": "1"}
			},
			"ui_locales=fr&foo=2",
			url.Values{"prompt": {"consent"}, "ui_locales": {"fr"}, "foo": {"1"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t, func(o *options) {
				if tt.edit != nil {
					tt.edit(o)
				}
			})
			_, target := a.started(t, "/auth/login?"+tt.link)
			got, want := target.Query(), maps.Clone(tt.want)
			if want["scope"] == nil {
				want["scope"] = []string{scope}
			}
			for _, name := range ours {
				if name == "scope" {
					continue
				}
				if v := got.Get(name); v == "x" || v == "token" || v == "plain" || strings.Contains(v, "evil") {
					t.Errorf("%s was set by the link", name)
				}
				got.Del(name)
			}
			if got.Encode() != want.Encode() {
				t.Errorf("asked for %v, want %v", got, want)
			}
		})
	}
}

func TestLinksThatAreRefused(t *testing.T) { // OIDC-05, OIDC-07, lesson 26
	t.Parallel()
	a := newApp(t, func(o *oidcauth.Options) { o.AllowedScopes = []string{"read"} })
	for name, query := range map[string]string{
		"returnTo twice":                   "returnTo=/a&returnTo=/b",
		"a parameter twice":                "prompt=login&prompt=login",
		"an unknown parameter twice":       "foo=1&foo=2",
		"prompt none with another":         "prompt=none+login",
		"max_age in letters":               "max_age=abc",
		"max_age below zero":               "max_age=-1",
		"max_age with a sign":              "max_age=%2B1",
		"max_age with a fraction":          "max_age=1.5",
		"max_age with an exponent":         "max_age=1e3",
		"max_age with a space":             "max_age=+1",
		"max_age in other digits":          "max_age=%D9%A1",
		"max_age that overflows":           "max_age=99999999999999999999",
		"a value that is too long":         "login_hint=" + strings.Repeat("a", 5000),
		"a broken escape":                  "returnTo=%zz",
		"a semicolon":                      "a=1;b=2",
		"more than anybody reads":          "foo=" + strings.Repeat("a", 100_000),
		"more parameters than anybody has": strings.Repeat("a&", 40_000),
	} {
		t.Run(name, func(t *testing.T) {
			r := a.browser.NoRedirects().Get("/auth/login?" + query)
			if r.StatusCode != http.StatusBadRequest || errorCode(r) != "invalid_request" || len(r.Cookies()) > 0 {
				t.Errorf("%d %q with %d cookies, want 400 invalid_request without", r.StatusCode, errorCode(r), len(r.Cookies()))
			}
		})
	}
	for _, query := range []string{"max_age=0", "max_age=3600", "prompt=none", "prompt=login+consent"} {
		a.started(t, "/auth/login?"+query)
	}
}

func TestTheProvidersQueryIsKept(t *testing.T) { // OIDC-09
	t.Parallel()
	a := newApp(t)
	a.op.Change(func(k *oidcauthtest.Knobs) {
		k.EditMetadata = func(m map[string]any) {
			m["authorization_endpoint"] = fmt.Sprint(m["authorization_endpoint"], "?tenant=1&prompt=none&state=fixed")
		}
	})
	_, target := a.started(t, "/auth/login?prompt=login")
	query := target.Query()
	if query.Get("tenant") != "1" || !slices.Equal(query["prompt"], []string{"login"}) || len(query["state"]) != 1 || query.Get("state") == "fixed" {
		t.Errorf("the query is %q", target.RawQuery)
	}
	if page := a.browser.SignIn(oidcauthtest.Alice); page.Body != "alice" {
		t.Errorf("the login ended with %q", page.Body)
	}
}

func TestOfflineAccessIsDroppedOnlyIfTheProviderHasNone(t *testing.T) { // S47
	t.Parallel()
	tests := []struct {
		name      string
		supported any // scopes_supported; nil: absent
		want      string
	}{
		{"no list", nil, "openid profile email offline_access"},
		{"a list with it", []string{"openid", "offline_access"}, "openid profile email offline_access"},
		{"a list without it", []string{"openid", "profile"}, "openid profile email"},
		{"an empty list", []string{}, "openid profile email"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t)
			a.op.Change(func(k *oidcauthtest.Knobs) {
				k.EditMetadata = func(m map[string]any) {
					if m["scopes_supported"] = tt.supported; tt.supported == nil {
						delete(m, "scopes_supported")
					}
				}
			})
			if _, target := a.started(t, "/auth/login"); target.Query().Get("scope") != tt.want {
				t.Errorf("asked for %q, want %q", target.Query().Get("scope"), tt.want)
			}
		})
	}
}

func TestOnlyANavigationOfATabStartsALogin(t *testing.T) { // S19, S24, lessons 11 and 28
	t.Parallel()
	a := newApp(t)
	tests := []struct {
		name   string
		method string
		header map[string]string
		status int
		code   string
	}{
		{"HEAD", "HEAD", nil, 405, ""},
		{"POST", "POST", nil, 405, "method_not_allowed"},
		{"a prefetch", "GET", map[string]string{"Sec-Purpose": "prefetch", "Sec-Fetch-Mode": "navigate"}, 503, ""},
		{"a prerender", "GET", map[string]string{"Sec-Purpose": "prefetch;prerender", "Sec-Fetch-Mode": "navigate"}, 503, ""},
		{"an older prefetch", "GET", map[string]string{"Purpose": "prefetch", "Sec-Fetch-Mode": "navigate"}, 503, ""},
		{"a prefetch of old Firefox", "GET", map[string]string{"X-Moz": "prefetch", "Sec-Fetch-Mode": "navigate"}, 503, ""},
		{"a frame", "GET", map[string]string{"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 400, "navigation_required"},
		{"an old frame", "GET", map[string]string{"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "frame"}, 400, "navigation_required"},
		{"an object", "GET", map[string]string{"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "object"}, 400, "navigation_required"},
		{"an image", "GET", map[string]string{"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 400, "navigation_required"},
		{"a script's fetch", "GET", map[string]string{"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}, 400, "navigation_required"},
		{"a fetch of the same origin", "GET", map[string]string{"Sec-Fetch-Mode": "same-origin", "Sec-Fetch-Dest": "empty"}, 400, "navigation_required"},
		{"a WebSocket", "GET", map[string]string{"Sec-Fetch-Mode": "websocket", "Sec-Fetch-Dest": "websocket"}, 400, "navigation_required"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, "/auth/login", http.NoBody)
			for name, value := range tt.header {
				r.Header.Set(name, value)
			}
			got := a.browser.NoRedirects().Do(r)
			if got.StatusCode != tt.status || errorCode(got) != tt.code || len(got.Cookies()) > 0 {
				t.Errorf("%d %q with %d cookies, want %d %q without", got.StatusCode, errorCode(got), len(got.Cookies()), tt.status, tt.code)
			}
			if allow := got.Header.Get("Allow"); tt.status == 405 && allow != "GET" {
				t.Errorf("Allow is %q", allow)
			}
			if tt.code != "navigation_required" {
				return
			}
			var body map[string]string
			if err := json.Unmarshal([]byte(got.Body), &body); err != nil || body["login_url"] != "/auth/login" || body["error_description"] == "" {
				t.Errorf("the body is %q, want JSON that says where to navigate", got.Body)
			}
		})
	}
	if n := a.op.Count("discovery"); n > 0 {
		t.Errorf("the provider was asked %d times", n) // THR-44
	}
	t.Run("a client without Fetch metadata", func(t *testing.T) {
		w := httptest.NewRecorder()
		a.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/auth/login", http.NoBody))
		if w.Code != http.StatusFound {
			t.Errorf("%d, want a redirect", w.Code)
		}
	})
	t.Run("another site's link", func(t *testing.T) {
		if r := a.browser.From("https://other.test").NoRedirects().Get("/auth/login"); r.StatusCode != http.StatusFound {
			t.Errorf("%d, want a redirect", r.StatusCode)
		}
	})
}

func TestLoginCookiesAreFewAndSmall(t *testing.T) { // S19, lesson 11
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		a.browser.SignIn(oidcauthtest.Alice)
		// The worst that a link can do: a target of 1 KiB and everything that is remembered.
		long := "/" + strings.Repeat("a", 1023)
		var last *url.URL
		for range 100 {
			time.Sleep(time.Second)
			_, last = a.started(t, "/auth/login?organization="+strings.Repeat("o", 200)+"&max_age=999999999&returnTo="+long)
			size := 0
			for _, c := range a.browser.Cookies("/") {
				if isLogin(c) {
					size += len(c.Name) + len(c.Value)
				}
			}
			if size > 4096 || size == 0 {
				t.Fatalf("the cookies of logins take %d octets", size)
			}
		}
		a.op.Change(func(k *oidcauthtest.Knobs) {
			k.EditIDToken = func(c map[string]any) { c["org_name"] = strings.Repeat("o", 200) }
		})
		if page := a.browser.Get(last.String()); page.StatusCode != http.StatusOK || page.URL.Path != long {
			t.Errorf("the last login ended with %d at a path of %d octets", page.StatusCode, len(page.URL.Path))
		}
	})
}

func TestAWordyLinkEndsAtTheStartPage(t *testing.T) { // S19
	t.Parallel()
	a := newApp(t)
	organization := strings.Repeat("o", 1500)
	claiming("org_name", organization)(a)
	page := a.browser.Get("/auth/login?organization=" + organization + "&returnTo=/" + strings.Repeat("a", 1000))
	if page.URL.Path != "/" || page.Body != "alice" {
		t.Errorf("ended at a path of %d octets with %d %q, want the start page", len(page.URL.Path), page.StatusCode, errorCode(page))
	}
}

func TestFiveLoginsAtATime(t *testing.T) { // S19, lesson 12
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		var starts []string
		for i := range 7 {
			_, target := a.started(t, fmt.Sprintf("/auth/login?returnTo=/%d", i))
			starts = append(starts, target.String())
			time.Sleep(time.Second)
		}
		for i, start := range starts {
			page := a.browser.Get(start)
			switch {
			case i < 2 && errorCode(page) != "invalid_state":
				t.Errorf("login %d ended with %d, want the two oldest to be gone", i, page.StatusCode)
			case i >= 2 && page.URL.Path != fmt.Sprintf("/%d", i):
				t.Errorf("login %d ended at %s with %d", i, page.URL.Path, page.StatusCode)
			}
		}
	})
}

func TestWhereALoginEnds(t *testing.T) { // BCP-01, THR-01, THR-04, S19, S33
	t.Parallel()
	tests := []struct{ name, returnTo, want string }{
		{"nowhere in particular", "", "https://app.test/start"},
		{"a path", "/account", "https://app.test/account"},
		{"a path with a query", "/a?b=c&d=%2F", "https://app.test/a?b=c&d=%2F"},
		{"a URL of the application", "https://app.test/a", "https://app.test/a"},
		{"a URL of an allowed origin", "https://www.test/a", "https://www.test/a"},
		{"too long a query", "/a?" + strings.Repeat("b", 1024), "https://app.test/a"},
		{"too long a path", "/" + strings.Repeat("b", 1025), "https://app.test/start"},
		{"another site", "https://evil.test/", "https://app.test/start"},
		{"another site without a scheme", "//evil.test/", "https://app.test/start"},
		{"another site by a backslash", `/\evil.test/`, "https://app.test/start"},
		{"another site by a tab", "/\t/evil.test/", "https://app.test/start"},
		{"another site by a user name", "https://app.test@evil.test/", "https://app.test/start"},
		{"another site by a suffix", "https://app.test.evil.test/", "https://app.test/start"},
		{"plain http", "http://app.test/", "https://app.test/start"},
		{"a script", "javascript:alert(1)", "https://app.test/start"},
		{"a header", "/a\r\nSet-Cookie: b=c", "https://app.test/start"},
		{"the logout", "/auth/logout", "https://app.test/start"},
		{"the logout, encoded", "/%61uth/logou%74", "https://app.test/start"},
		{"the logout, encoded twice", "/%2561uth/logout", "https://app.test/start"},
		{"the login", "/auth/login/?returnTo=/a", "https://app.test/start"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t, func(o *oidcauth.Options) {
				o.DefaultReturnTo, o.AllowedReturnOrigins = "/start", []string{"https://www.test"}
			})
			a.browser.Host("https://www.test", http.NotFoundHandler())
			page := a.browser.Get("/auth/login?" + url.Values{"returnTo": {tt.returnTo}}.Encode())
			if page.URL.String() != tt.want {
				t.Errorf("ended at %s, want %s", page.URL, tt.want)
			}
			if len(a.logs.names()) != 2 || a.logs.names()[1] != "session.created" {
				t.Errorf("the events are %q", a.logs.names())
			}
		})
	}
}

func TestLoginFromCode(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		options *oidcauth.LoginOptions
		want    url.Values
		ends    string
	}{
		{"nothing", nil, url.Values{"scope": {"openid"}}, "/"},
		{"a place", &oidcauth.LoginOptions{ReturnTo: "/a?b"}, url.Values{"scope": {"openid"}}, "/a?b"},
		{"a place that is not ours", &oidcauth.LoginOptions{ReturnTo: "https://evil.test/"}, url.Values{"scope": {"openid"}}, "/"},
		{"scopes beside the configured ones", &oidcauth.LoginOptions{Scopes: []string{"read", "openid"}}, url.Values{"scope": {"openid read"}}, "/"},
		{
			"parameters", &oidcauth.LoginOptions{Params: map[string]string{"prompt": "login", "any": "thing", "resource": "api"}},
			url.Values{"scope": {"openid"}, "prompt": {"login"}, "any": {"thing"}, "resource": {"api"}},
			"/",
		},
		{
			"a method", &oidcauth.LoginOptions{RequireACR: []string{"a", "b"}, Params: map[string]string{"acr_values": "c"}},
			url.Values{"scope": {"openid"}, "acr_values": {"a b"}},
			"/",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t, func(o *oidcauth.Options) { o.Scopes = []string{"openid"} })
			a.op.Change(func(k *oidcauthtest.Knobs) { k.EditIDToken = func(c map[string]any) { c["acr"] = "b" } })
			a.signInBy(tt.options)
			_, target := a.started(t, "/sign-in")
			got := target.Query()
			for _, name := range ours {
				if name != "scope" {
					got.Del(name)
				}
			}
			if got.Encode() != tt.want.Encode() {
				t.Errorf("asked for %v, want %v", got, tt.want)
			}
			if page := a.browser.Get(target.String()); page.URL.RequestURI() != tt.ends || page.Body != "alice" {
				t.Errorf("ended at %s as %q, want %s as alice", page.URL, page.Body, tt.ends)
			}
		})
	}
}

func TestLoginFromCodeThatIsRefused(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	params := func(name, value string) *oidcauth.LoginOptions {
		return &oidcauth.LoginOptions{Params: map[string]string{name: value}}
	}
	tests := map[string]*oidcauth.LoginOptions{
		"a scope with a space":     {Scopes: []string{"a b"}},
		"a scope with a quote":     {Scopes: []string{`a"b`}},
		"an empty scope":           {Scopes: []string{""}},
		"an empty name":            params("", "x"),
		"max_age in letters":       params("max_age", "soon"),
		"prompt none with another": params("prompt", "none login"),
	}
	for _, name := range append(ours, "response_mode", "request", "request_uri", "dpop_jkt") {
		tests[name] = params(name, "x")
	}
	for name, o := range tests {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			err := a.Login(w, a.browser.Request(http.MethodGet, "/"), o)
			if err == nil || len(w.Header()) > 0 || w.Body.Len() > 0 {
				t.Errorf("error %v with the header %v, want an error and nothing written", err, w.Header())
			}
		})
	}
	t.Run("the provider is down", func(t *testing.T) {
		a.op.Fail("discovery", http.StatusServiceUnavailable, "", 1)
		w := httptest.NewRecorder()
		err := a.Login(w, a.browser.Request(http.MethodGet, "/"), nil)
		if !errors.Is(err, oidcauth.ErrUnavailable) || len(w.Header()) > 0 {
			t.Errorf("error %v with the header %v, want ErrUnavailable and nothing written", err, w.Header())
		}
	})
}

func TestEventsOfALogin(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.browser.Get("/account") // the guard starts one
	a.browser.SignIn(oidcauthtest.User{Subject: "bob"})
	a.op.Misbehave("expired")
	a.browser.Get("/auth/login")
	events := a.logs.all()
	want := []oidcauth.Event{
		{Name: "login.started", Route: "guard"},
		{Name: "session.created", Route: "callback", Subject: "alice"},
		{Name: "login.started", Route: "login"},
		{Name: "session.created", Route: "callback", Subject: "bob"},
		{Name: "login.started", Route: "login"},
		{Name: "login.failed", Route: "callback"},
	}
	if len(events) != len(want) {
		t.Fatalf("the events are %q", a.logs.names())
	}
	for i, got := range events {
		if got.Name != want[i].Name || got.Route != want[i].Route || got.Subject != want[i].Subject || got.Issuer != a.op.Issuer() {
			t.Errorf("event %d is %q at %q of %q by %q, want %v", i, got.Name, got.Route, got.Subject, got.Issuer, want[i])
		}
		if (got.SessionID != "") != (got.Subject != "") || (got.Err != nil) != (got.Name == "login.failed") {
			t.Errorf("%s has the session %q and the error %v", got.Name, got.SessionID, got.Err)
		}
	}
	if refused, ok := errors.AsType[*oidcauth.Error](events[5].Err); !ok || refused.Code != "invalid_id_token" {
		t.Errorf("the failure is %v", events[5].Err)
	}
}

func TestAHookThatPanicsEndsNoLogin(t *testing.T) { // S46
	t.Parallel()
	a := newApp(t, func(o *oidcauth.Options) { o.OnEvent = func(context.Context, oidcauth.Event) { panic("hook") } })
	if page := a.browser.SignIn(oidcauthtest.Alice); page.Body != "alice" {
		t.Errorf("ended with %q", page.Body)
	}
	if !strings.Contains(a.logs.String(), "OnEvent panicked") {
		t.Error("the log does not say so")
	}
}

func TestLoginBelowABasePath(t *testing.T) { // S43
	t.Parallel()
	for _, stripped := range []bool{false, true} {
		t.Run(fmt.Sprintf("stripped %t", stripped), func(t *testing.T) {
			t.Parallel()
			a := newApp(t, func(o *oidcauth.Options) { o.BaseURL, o.PrefixStripped = "https://app.test/shop/", stripped })
			a.op.Register([]string{"https://app.test/shop/auth/callback"}, nil)
			if stripped {
				a.browser.Host("https://app.test", http.StripPrefix("/shop", a.handler))
			}
			start, target := a.started(t, "/shop/auth/login")
			if got := target.Query().Get("redirect_uri"); got != "https://app.test/shop/auth/callback" {
				t.Errorf("redirect_uri is %q", got)
			}
			page := a.browser.Get(target.String())
			if page.URL.Path != "/shop/" || page.Body != "alice" {
				t.Errorf("ended at %s as %q, want /shop/ as alice", page.URL.Path, page.Body)
			}
			for _, c := range append(start.Cookies(), a.browser.Cookies("/")...) {
				if c.Path != "/" || !strings.HasPrefix(c.Name, "__Host-") || !strings.Contains(c.Name, "shop") {
					t.Errorf("the cookie %s has the path %s", c.Name, c.Path)
				}
			}
			if got := a.LoginURL("/shop/a?b"); got != "/shop/auth/login?returnTo=%2Fshop%2Fa%3Fb" {
				t.Errorf("LoginURL is %q", got)
			}
			if page := a.browser.Get("/shop/auth/login?returnTo=/shop/auth/logout"); page.URL.Path != "/shop/" {
				t.Errorf("ended at %s, want /shop/", page.URL.Path)
			}
			if r := a.browser.NoRedirects().Get("/auth/login"); !stripped && r.StatusCode != http.StatusOK {
				t.Errorf("/auth/login is answered with %d, want the application's page", r.StatusCode)
			}
		})
	}
}

func TestForgedHeadersChangeNothing(t *testing.T) { // OIDC-01, BCP-10
	t.Parallel()
	a := newApp(t)
	want := a.browser.NoRedirects().Get("/auth/login")
	r := a.browser.Request(http.MethodGet, "/auth/login")
	r.Host = "evil.test"
	for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Server", "X-Original-Host", "X-Host", "X-Forwarded-Prefix"} {
		r.Header.Set(name, "evil.test")
	}
	r.Header.Set("X-Forwarded-Proto", "http")
	r.Header.Set("X-Original-URL", "/evil")
	r.Header.Set("X-Rewrite-URL", "/evil")
	r.Header.Set("Forwarded", "host=evil.test;proto=http")
	w := httptest.NewRecorder()
	a.handler.ServeHTTP(w, r)
	got := w.Result()
	random := regexp.MustCompile(`(state|nonce|code_challenge)=[^&]*`)
	if g, w := random.ReplaceAllString(got.Header.Get("Location"), ""), random.ReplaceAllString(want.Location(), ""); g != w || got.StatusCode != 302 {
		t.Errorf("%d to %s, want 302 to %s", got.StatusCode, g, w)
	}
	value := regexp.MustCompile(`(login-[^=]{6})[^;]*`) // the client's part of the name, and the attributes
	if g, w := value.ReplaceAllString(got.Header.Get("Set-Cookie"), "$1"), value.ReplaceAllString(want.Header.Get("Set-Cookie"), "$1"); g != w {
		t.Errorf("the cookie is %q, want %q", g, w)
	}
}

func TestLoginWhileTheProviderIsDown(t *testing.T) { // DISC-07, lesson 23
	t.Parallel()
	for name, status := range map[string]int{"no connection": 0, "error": 500, "overload": 429} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t)
				a.op.Fail("discovery", status, "", -1)
				for range 10 {
					r := a.browser.Get("/auth/login?returnTo=/a")
					if r.StatusCode != http.StatusServiceUnavailable || errorCode(r) != "provider_unavailable" ||
						r.Header.Get("Retry-After") == "" || len(r.Cookies()) > 0 {
						t.Errorf("%d %q, Retry-After %q", r.StatusCode, errorCode(r), r.Header.Get("Retry-After"))
					}
					if guarded := a.browser.Get("/account"); guarded.StatusCode != http.StatusServiceUnavailable {
						t.Errorf("the guard answered %d", guarded.StatusCode)
					}
				}
				if public := a.browser.Get("/"); public.StatusCode != http.StatusOK {
					t.Errorf("a public page answered %d", public.StatusCode)
				}
				if n := a.op.Count("discovery"); n != 1 {
					t.Errorf("the provider was asked %d times at once", n)
				}
				a.op.Fail("discovery", 0, "", 0)
				time.Sleep(2 * time.Second)
				if page := a.browser.SignIn(oidcauthtest.Alice); page.Body != "alice" {
					t.Errorf("later the login ended with %q", page.Body)
				}
				a.op.Fail("discovery", status, "", -1)
				time.Sleep(2 * time.Hour) // what is known is used while there is nothing newer
				if page := a.browser.SignIn(oidcauthtest.Alice); page.Body != "alice" {
					t.Errorf("with old metadata the login ended with %q", page.Body)
				}
			})
		})
	}
}

func TestLoginURL(t *testing.T) {
	t.Parallel()
	if got := newApp(t).LoginURL(""); got != "/auth/login" {
		t.Errorf("got %q", got)
	}
	if got := newApp(t).LoginURL("/a?b=c&d#e\"<"); got != "/auth/login?returnTo=%2Fa%3Fb%3Dc%26d%23e%22%3C" {
		t.Errorf("got %q", got)
	}
	off := newApp(t, func(o *oidcauth.Options) { o.Routes.Login = "-" })
	if got := off.LoginURL("/a"); got != "" {
		t.Errorf("got %q for a route that is off", got)
	}
	if r := off.browser.NoRedirects().Get("/auth/login"); r.StatusCode != http.StatusOK {
		t.Errorf("a route that is off answers %d, want the application's page", r.StatusCode)
	}
	if page := off.browser.Get("/account"); page.Body != "alice" {
		t.Errorf("a guard ended with %q although logins from code and guards go on", page.Body)
	}
	moved := newApp(t, func(o *oidcauth.Options) { o.Routes.Login = "/sign/in" })
	if _, target := moved.started(t, moved.LoginURL("/a")); target.Path != "/authorize" {
		t.Errorf("a route that was moved leads to %s", target.Path)
	}
}

// S15: an attacker's connection would sign the user in as somebody else, without a click.
func TestALinkOfAnotherSiteDoesNotChooseTheAccount(t *testing.T) {
	t.Parallel()
	const link = "/auth/login?connection=c&organization=o&invitation=i&login_hint=h"
	all := []string{"connection", "organization", "invitation"}
	for name, tt := range map[string]struct {
		from    string
		allowed []string
		want    []string
	}{
		"typed in":                    {"", nil, all},
		"from a page of ours":         {"https://app.test", nil, all},
		"from a sibling":              {"https://www.app.test", nil, nil},
		"from another site":           {"https://evil.test", nil, nil},
		"from another site, with one": {"https://mail.test", []string{"invitation"}, []string{"invitation"}},
	} {
		a := newApp(t, func(o *oidcauth.Options) { o.AllowedLoginParams = tt.allowed })
		b := a.browser
		if tt.from != "" {
			b = b.From(tt.from)
		}
		target, err := url.Parse(b.NoRedirects().Get(link).Header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		if target.Query().Get("login_hint") != "h" {
			t.Errorf("%s: the hint is gone", name)
		}
		for _, param := range all {
			want := slices.Contains(tt.want, param) || strings.HasPrefix(tt.from, "https://www.") // of the same site
			if target.Query().Has(param) != want {
				t.Errorf("%s: %s is sent: %t, want %t", name, param, target.Query().Has(param), want)
			}
		}
	}
}
