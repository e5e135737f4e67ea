package oidcauth_test

import (
	"go/ast"
	"net/http"
	"net/url"
	"strconv"
	"testing"

	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// The modules of the plans of the OpenID Foundation's suite that the library is to pass.
func TestEveryModuleOfTheSuiteIsATestByName(t *testing.T) {
	t.Parallel()
	named := map[string]bool{}
	for _, f := range sources(t) {
		if !f.isTest() || f.path == "conformance_rows_test.go" {
			continue
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok {
				text, _ := strconv.Unquote(lit.Value) // numbers are no names
				named[text] = true
			}
			return true
		})
	}
	for _, module := range []string{
		// Basic RP, and Form Post RP, which has the same and one more
		"oidcc-client-test",
		"oidcc-client-test-invalid-iss",
		"oidcc-client-test-missing-sub",
		"oidcc-client-test-invalid-aud",
		"oidcc-client-test-missing-iat",
		"oidcc-client-test-kid-absent-single-jwks",
		"oidcc-client-test-kid-absent-multiple-jwks",
		"oidcc-client-test-idtoken-sig-rs256",
		"oidcc-client-test-idtoken-sig-none",
		"oidcc-client-test-invalid-sig-rs256",
		"oidcc-client-test-userinfo-invalid-sub",
		"oidcc-client-test-nonce-invalid",
		"oidcc-client-test-scope-userinfo-claims",
		"oidcc-client-test-client-secret-basic",
		"oidcc-client-test-form-post-error",
		// Config RP
		"oidcc-client-test-discovery-openid-config",
		"oidcc-client-test-discovery-jwks-uri-keys",
		"oidcc-client-test-discovery-issuer-mismatch",
		"oidcc-client-test-signing-key-rotation-just-before-signing",
		"oidcc-client-test-signing-key-rotation",
		// refresh tokens
		"oidcc-client-test-refresh-token",
		"oidcc-client-test-refresh-token-invalid-issuer",
		"oidcc-client-test-refresh-token-invalid-sub",
		// RP-Initiated Logout RP and 3rd Party-Init RP
		"oidcc-client-test-rp-init-logout",
		"oidcc-client-test-rp-init-logout-other-state",
		"oidcc-client-test-rp-init-logout-no-state",
		"oidcc-client-test-3rd-party-init-login",
		// Back-Channel RP and Front-Channel RP
		"oidcc-client-test-rp-backchannel-rpinitlogout",
		"oidcc-client-test-rp-backchannel-rpinitlogout-alg-none",
		"oidcc-client-test-rp-backchannel-rpinitlogout-no-event",
		"oidcc-client-test-rp-backchannel-rpinitlogout-with-nonce",
		"oidcc-client-test-rp-backchannel-rpinitlogout-wrong-alg",
		"oidcc-client-test-rp-backchannel-rpinitlogout-wrong-aud",
		"oidcc-client-test-rp-backchannel-rpinitlogout-wrong-event",
		"oidcc-client-test-rp-backchannel-rpinitlogout-wrong-iss",
		"oidcc-client-test-rp-frontchannel-rpinitlogout",
	} {
		if !named[module] {
			t.Errorf("%s is no test", module)
		}
	}
}

// oidcc-client-test-form-post-error: the request is one that has to fail, and the error comes in a form, not in a URL.
func TestConformanceErrorByFormPost(t *testing.T) {
	t.Parallel()
	a := newModule(t, formPost)
	a.op.Change(func(k *oidcauthtest.Knobs) { k.AuthorizeError = "login_required" })
	page := a.browser.Get("/auth/login?max_age=0&prompt=none")
	if page.Request.Method != http.MethodPost || page.URL.RequestURI() != "/auth/callback" {
		t.Errorf("the answer comes by %s %s, want POST /auth/callback", page.Request.Method, page.URL.Path)
	}
	if page.StatusCode != http.StatusBadRequest || errorCode(page) != "login_required" {
		t.Errorf("the login ends with %d %q, want 400 login_required", page.StatusCode, errorCode(page))
	}
	sent := a.op.Requests("authorize")[0].Form
	if sent.Get("max_age") != "0" || sent.Get("prompt") != "none" || sent.Get("response_mode") != "form_post" {
		t.Errorf("the provider is sent max_age %q, prompt %q and response_mode %q",
			sent.Get("max_age"), sent.Get("prompt"), sent.Get("response_mode"))
	}
	a.asked(t, "token", 0)
}

// oidcc-client-rp-initiated-logout-rp-basic, by an application that names no page to return to: the provider sends the
// browser, and whatever state it likes, to the application's own page.
func TestConformanceRPInitiatedLogoutToTheStartPage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ module, misbehaviour, suffix string }{
		{"oidcc-client-test-rp-init-logout", "", ""},
		{"oidcc-client-test-rp-init-logout-other-state", "logout-other-state", "_INVALID"},
		{"oidcc-client-test-rp-init-logout-no-state", "logout-no-state", ""},
	} {
		t.Run(tt.module, func(t *testing.T) {
			t.Parallel()
			a := newModule(t)
			a.browser.SignIn(oidcauthtest.Alice)
			if tt.misbehaviour != "" {
				a.op.Misbehave(tt.misbehaviour)
			}
			page := a.browser.Post("/auth/logout", url.Values{})
			sent := a.op.Requests("end_session")[0].Form
			if sent.Get("state") == "" || sent.Get("id_token_hint") == "" {
				t.Error("state or id_token_hint is missing")
			}
			if got := sent.Get("post_logout_redirect_uri"); got != "https://app.test" {
				t.Errorf("post_logout_redirect_uri is %q, which is not registered", got)
			}
			if page.URL.Host != "app.test" || page.URL.Path != "/" || page.StatusCode != http.StatusOK || page.Body != nobody {
				t.Errorf("landed at %s%s with %d %q", page.URL.Host, page.URL.Path, page.StatusCode, page.Body)
			}
			want := sent.Get("state") + tt.suffix
			if tt.misbehaviour == "logout-no-state" {
				want = ""
			}
			if got := page.URL.Query().Get("state"); got != want {
				t.Errorf("the provider came back with the state %q, want %q", got, want)
			}
			a.asked(t, "end_session", 1)
			a.asked(t, "", 0) // CS-04
		})
	}
}

// oidcc-client-test-3rd-party-init-login-test-plan: the login begins at the registered URL, by a link or a form of another
// site, and is one like any other (CS-03).
func TestConformance3rdPartyInitFromAnotherSite(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			a := newModule(t, initiated)
			portal, form := a.browser.From("https://portal.test"), url.Values{"iss": {a.op.Issuer()}}
			var page *oidcauthtest.Response
			if method == http.MethodGet {
				page = portal.Get("/auth/start?" + form.Encode())
			} else {
				page = portal.Post("/auth/start", form)
			}
			if page.Body != "alice" || len(page.History) == 0 || page.History[0].URL.Path != "/auth/start" {
				t.Errorf("the login ends at %s with %d %q", page.URL, page.StatusCode, page.Body)
			}
			for _, endpoint := range []string{"discovery", "authorize", "token", "jwks", "userinfo"} {
				a.asked(t, endpoint, 1)
			}
			if all := a.op.Requests(); len(all) != 5 {
				t.Errorf("%d requests in all, want 5", len(all))
			}
		})
	}
}
