package oidcauth_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

func initiated(o *oidcauth.Options) { o.Routes.InitiateLogin = "/auth/start" }

// OIDC-36, OpenID Connect Core 4.
func TestAnotherSiteStartsALogin(t *testing.T) {
	t.Parallel()
	const issuer = "https://op.test/"
	long := strings.Repeat("x", 3000)
	for name, tt := range map[string]struct {
		form   url.Values
		ends   string // on which page, signed in
		code   string // or the error
		status int
	}{
		"the issuer alone":        {form: url.Values{"iss": {issuer}}, ends: "/"},
		"a hint":                  {form: url.Values{"iss": {issuer}, "login_hint": {"alice@example.com"}}, ends: "/"},
		"a target":                {form: url.Values{"iss": {issuer}, "target_link_uri": {"https://app.test/account?x=1"}}, ends: "/account?x=1"},
		"a target elsewhere":      {form: url.Values{"iss": {issuer}, "target_link_uri": {"https://evil.test/"}}, ends: "/"},
		"a target that backs off": {form: url.Values{"iss": {issuer}, "target_link_uri": {`https://app.test\@evil.test/`}}, ends: "/"},
		"a route as target":       {form: url.Values{"iss": {issuer}, "target_link_uri": {"/auth/logout"}}, ends: "/"},
		"what a link may not ask": {form: url.Values{"iss": {issuer}, "scope": {"admin"}, "prompt": {"none"}, "redirect_uri": {"x"}}, ends: "/"},
		"no issuer":               {form: url.Values{}, status: 400, code: "invalid_issuer"},
		"another issuer":          {form: url.Values{"iss": {"https://evil.test/"}}, status: 400, code: "invalid_issuer"},
		"without the slash":       {form: url.Values{"iss": {"https://op.test"}}, status: 400, code: "invalid_issuer"},
		"two issuers":             {form: url.Values{"iss": {issuer, issuer}}, status: 400, code: "invalid_request"},
		"a long hint":             {form: url.Values{"iss": {issuer}, "login_hint": {long}}, status: 400, code: "invalid_request"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			a := newApp(t, initiated)
			from := a.browser.From("https://portal.test")
			var page *oidcauthtest.Response
			if method == http.MethodGet {
				page = from.Get("/auth/start?" + tt.form.Encode())
			} else {
				page = from.Post("/auth/start", tt.form)
			}
			if tt.code != "" {
				if page.StatusCode != tt.status || errorCode(page) != tt.code || len(a.op.Requests()) > 0 {
					t.Errorf("%s %s: %d %q after %d requests", method, name, page.StatusCode, errorCode(page), len(a.op.Requests()))
				}
				continue
			}
			if page.Body != "alice" || page.URL.RequestURI() != tt.ends || page.URL.Host != "app.test" {
				t.Errorf("%s %s: it ends at %s with %q", method, name, page.URL, page.Body)
				continue
			}
			sent := a.op.Requests("authorize")[0].Form
			if sent.Get("login_hint") != tt.form.Get("login_hint") || sent.Has("prompt") || sent.Get("scope") != "openid profile email offline_access" {
				t.Errorf("%s %s: the provider is sent %v", method, name, sent)
			}
		}
	}
}

func TestWhatMayNotStartALogin(t *testing.T) { // lesson 11, S19
	t.Parallel()
	a := newApp(t, initiated)
	for name, tt := range map[string]struct {
		header []string
		status int
	}{
		"a prefetch": {[]string{"Sec-Purpose", "prefetch"}, 503},
		"a frame":    {[]string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, 400},
		"a script":   {[]string{"Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}, 400},
	} {
		resp := ask(a.handler, http.MethodGet, "/auth/start?iss=https://op.test/", tt.header...)
		if resp.StatusCode != tt.status || len(resp.Cookies()) > 0 {
			t.Errorf("%s: %d with %d cookies", name, resp.StatusCode, len(resp.Cookies()))
		}
		if policy := resp.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "frame-ancestors 'none'") {
			t.Errorf("%s: the policy is %q", name, policy)
		}
	}
	off := newApp(t)
	if resp := ask(off.Handler(), http.MethodGet, "/auth/start?iss=https://op.test/"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("it is on by default: %d", resp.StatusCode)
	}
}

// oidcc-client-test-3rd-party-init-login-test-plan
func TestConformance3rdPartyInitRP(t *testing.T) {
	t.Parallel()
	t.Run("oidcc-client-test-3rd-party-init-login", func(t *testing.T) {
		t.Parallel()
		a := newModule(t, initiated)
		page := a.browser.Get("/auth/start?iss=" + url.QueryEscape(a.op.Issuer()))
		if page.StatusCode != http.StatusOK || page.Body != "alice" {
			t.Errorf("the login ends with %d %q", page.StatusCode, page.Body)
		}
		a.asked(t, "userinfo", 1)
	})
}
