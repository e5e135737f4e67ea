package oidcauth_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// The tests of this file are named after the modules of the OpenID Foundation's conformance suite for clients. Each asserts
// what its module does, and the error page and the missing session, which the suite cannot see. The provider is in memory.

// newModule returns a new application at a provider that answers as the suite's does in every module (CS-01): with UserInfo,
// no expires_in (CS-12), at_hash (CS-13), all algorithms in its metadata, and no endpoint that is not needed (CS-04).
func newModule(t *testing.T, edit ...func(*oidcauth.Options)) *app {
	t.Helper()
	fetch := func(o *oidcauth.Options) { o.FetchUserInfo = true } // CS-02
	a := newApp(t, append([]func(*oidcauth.Options){fetch}, edit...)...)
	a.op.Change(func(k *oidcauthtest.Knobs) {
		k.OmitExpiresIn, k.OmitRefreshToken = true, true
		k.EditCallback = func(q url.Values) { q.Del("iss") }
		k.EditMetadata = func(m map[string]any) {
			delete(m, "revocation_endpoint")
			delete(m, "authorization_response_iss_parameter_supported")
			m["id_token_signing_alg_values_supported"] = []string{"none", "RS256", "RS512", "PS256", "ES256", "EdDSA", "HS256"}
		}
	})
	return a
}

// misbehaving returns a change of the provider by the name of a module.
func misbehaving(name string) func(*app) { return func(a *app) { a.op.Misbehave(name) } }

// accepts logs in and asserts a session that cost one request to each endpoint, and that nothing is asked afterwards (CS-03).
func (a *app) accepts(t *testing.T) {
	t.Helper()
	if page := a.browser.SignIn(oidcauthtest.Alice); page.StatusCode != http.StatusOK || page.Body != "alice" {
		t.Errorf("after the login: %d %q, want 200 and alice", page.StatusCode, page.Body)
	}
	for _, path := range []string{"/account", "/auth/profile", "/"} {
		if r := a.browser.Get(path); r.StatusCode != http.StatusOK {
			t.Errorf("%s: %d, want 200", path, r.StatusCode)
		}
	}
	for _, endpoint := range []string{"discovery", "authorize", "token", "jwks", "userinfo"} {
		if got := a.op.Count(endpoint); got != 1 {
			t.Errorf("%d requests to %s, want 1", got, endpoint)
		}
	}
	if all := a.op.Requests(); len(all) != 5 {
		t.Errorf("%d requests in all, want 5", len(all))
	}
}

// refuses logs in and asserts an error page, no session, and how often UserInfo was asked.
func (a *app) refuses(t *testing.T, start string, status int, code string, userinfo int) {
	t.Helper()
	page := a.browser.Get(start)
	if page.StatusCode != status || errorCode(page) != code {
		t.Errorf("the login ended with %d %q, want %d %q", page.StatusCode, errorCode(page), status, code)
	}
	if got := a.op.Count("userinfo"); got != userinfo {
		t.Errorf("%d requests to userinfo, want %d", got, userinfo) // CS-05
	}
	if got := a.op.Count("token"); got > 1 {
		t.Errorf("%d requests to token, want at most 1", got) // CS-06
	}
	if a.op.Count("") > 0 || a.op.Count("revoke") > 0 {
		t.Error("an endpoint was called that the metadata does not name") // CS-04
	}
	if slices.ContainsFunc(append(page.History, page), setsSession) {
		t.Error("a session cookie was set")
	}
	if who := a.browser.Get("/").Body; who != nobody {
		t.Errorf("signed in as %q", who)
	}
}

// oidcc-client-basic-certification-test-plan
func TestConformanceBasicRP(t *testing.T) {
	t.Parallel()
	basicModules(t)
}

// oidcc-client-formpost-basic-certification-test-plan: the same modules, and one of the comprehensive plan.
func TestConformanceFormPostRP(t *testing.T) {
	t.Parallel()
	posted := func(o *oidcauth.Options) { o.ResponseMode = oidcauth.ResponseFormPost }
	basicModules(t, posted)
	t.Run("oidcc-client-test-form-post-error", func(t *testing.T) {
		t.Parallel()
		a := newModule(t, posted)
		a.op.Change(func(k *oidcauthtest.Knobs) { k.AuthorizeError = "login_required" })
		a.refuses(t, "/auth/login?max_age=0&prompt=none", http.StatusBadRequest, "login_required", 0)
	})
}

func basicModules(t *testing.T, edit ...func(*oidcauth.Options)) {
	t.Helper()
	tests := []struct {
		module   string
		change   func(*app)
		code     string // "": the login has to be accepted
		userinfo int    // requests, where it is refused
	}{
		// CS-14: keys of every kind beside the one that signs, some with its id (OIDC-27, OIDC-29)
		{"oidcc-client-test", misbehaving("decoy-keys"), "", 1},
		{"oidcc-client-test-invalid-iss", misbehaving("invalid-iss"), "invalid_id_token", 0},
		{"oidcc-client-test-missing-sub", misbehaving("missing-sub"), "invalid_id_token", 0},
		{"oidcc-client-test-invalid-aud", misbehaving("invalid-aud"), "invalid_id_token", 0},
		{"oidcc-client-test-missing-iat", misbehaving("missing-iat"), "invalid_id_token", 0},
		{"oidcc-client-test-kid-absent-single-jwks", misbehaving("kid-absent-single-jwks"), "", 1},
		{"oidcc-client-test-kid-absent-multiple-jwks", misbehaving("kid-absent-multiple-jwks"), "", 1}, // the suite lets us choose
		{"oidcc-client-test-idtoken-sig-rs256", onlyRS256, "", 1},
		{"oidcc-client-test-idtoken-sig-none", misbehaving("idtoken-sig-none"), "invalid_id_token", 0},
		{"oidcc-client-test-invalid-sig-rs256", misbehaving("invalid-sig-rs256"), "invalid_id_token", 0},
		{"oidcc-client-test-userinfo-invalid-sub", misbehaving("userinfo-invalid-sub"), "invalid_userinfo", 1},
		{"oidcc-client-test-nonce-invalid", misbehaving("nonce-invalid"), "invalid_id_token", 0},
	}
	for _, tt := range tests {
		t.Run(tt.module, func(t *testing.T) {
			t.Parallel()
			a := newModule(t, edit...)
			tt.change(a)
			if tt.code == "" {
				a.accepts(t)
			} else {
				a.refuses(t, "/auth/login", http.StatusBadGateway, tt.code, tt.userinfo)
			}
		})
	}
	t.Run("oidcc-client-test-scope-userinfo-claims", func(t *testing.T) {
		t.Parallel()
		a := newModule(t, edit...)
		a.op.Change(func(k *oidcauthtest.Knobs) { k.ClaimsByScope = true })
		a.accepts(t)
		scope := strings.Fields(a.op.Requests("authorize")[0].Form.Get("scope"))
		if !slices.Contains(scope, "openid") || !slices.Contains(scope, "profile") || !slices.Contains(scope, "email") {
			t.Errorf("scope is %q", scope)
		}
		if profile := a.browser.Get("/auth/profile").Body; !strings.Contains(profile, "alice@example.com") {
			t.Errorf("the profile is %s, want it with the claims of userinfo", profile)
		}
	})
	t.Run("oidcc-client-test-client-secret-basic", func(t *testing.T) {
		t.Parallel()
		a := newModule(t, edit...)
		a.accepts(t)
		o, sent := a.op.Options(), a.op.Requests("token")[0]
		want := url.QueryEscape(o.ClientID) + ":" + url.QueryEscape(o.ClientSecret) // CS-07, RFC 6749 2.3.1
		if got := sent.Header.Get("Authorization"); got != "Basic "+base64.StdEncoding.EncodeToString([]byte(want)) {
			t.Error("the client is not authenticated by the Authorization header, form-encoded")
		}
		if sent.Form.Has("client_secret") || sent.Form.Has("client_id") {
			t.Error("the client is authenticated in the form as well")
		}
	})
}

func onlyRS256(a *app) {
	a.op.Change(func(k *oidcauthtest.Knobs) {
		k.EditMetadata = func(m map[string]any) {
			delete(m, "revocation_endpoint")
			m["id_token_signing_alg_values_supported"] = []string{"RS256"}
		}
		k.EditCallback = nil
	})
}

// oidcc-client-config-certification-test-plan
func TestConformanceConfigRP(t *testing.T) {
	t.Parallel()
	t.Run("oidcc-client-test-discovery-openid-config", func(t *testing.T) {
		t.Parallel()
		a := newModule(t)
		if err := a.Discover(t.Context()); err != nil {
			t.Fatal(err)
		}
		all := a.op.Requests()
		if len(all) != 1 || all[0].Method != http.MethodGet || all[0].URL.Path != "/.well-known/openid-configuration" {
			t.Errorf("asked for %v, want the metadata and nothing else", all) // DISC-02
		}
	})
	t.Run("oidcc-client-test-discovery-jwks-uri-keys", func(t *testing.T) {
		t.Parallel()
		a := newModule(t)
		a.op.Change(func(k *oidcauthtest.Knobs) {
			k.JWKSPath = "/jwks/of-this-run"
		})
		a.accepts(t)
		var order []string
		for _, r := range a.op.Requests() {
			order = append(order, r.Endpoint)
		}
		if want := []string{"discovery", "authorize", "token", "jwks", "userinfo"}; !slices.Equal(order, want) {
			t.Errorf("asked in the order %v, want %v", order, want)
		}
		if got := a.op.Requests("jwks")[0].URL.Path; got != "/jwks/of-this-run" {
			t.Errorf("the keys were fetched from %q and not from jwks_uri", got)
		}
	})
	t.Run("oidcc-client-test-discovery-issuer-mismatch", func(t *testing.T) {
		t.Parallel()
		a := newModule(t)
		a.op.Misbehave("discovery-issuer-mismatch")
		if err := a.Discover(t.Context()); err == nil || !strings.Contains(err.Error(), "INVALID") {
			t.Errorf("Discover: %v, want an error that names both issuers", err) // DISC-03
		}
		a.refuses(t, "/auth/login", http.StatusBadGateway, "invalid_metadata", 0)
		if a.op.Count("authorize") > 0 {
			t.Error("the browser was sent to the authorization endpoint")
		}
	})
	t.Run("oidcc-client-test-idtoken-sig-none", func(t *testing.T) {
		t.Parallel()
		a := newModule(t)
		a.op.Misbehave("idtoken-sig-none")
		a.refuses(t, "/auth/login", http.StatusBadGateway, "invalid_id_token", 0)
	})
	t.Run("oidcc-client-test-signing-key-rotation-just-before-signing", func(t *testing.T) {
		t.Parallel()
		a := newModule(t)
		a.browser.SignIn(oidcauthtest.Alice) // the old keys are known
		a.op.Change(func(k *oidcauthtest.Knobs) { k.RotateKeysBeforeSigning = true })
		a.browser.SignIn(oidcauthtest.Alice)
		a.asked(t, "jwks", 2)
		a.asked(t, "userinfo", 2)
	})
	t.Run("oidcc-client-test-signing-key-rotation", func(t *testing.T) {
		t.Parallel()
		a := newModule(t)
		a.browser.SignIn(oidcauthtest.Alice)
		a.op.Change(func(k *oidcauthtest.Knobs) {
			k.EditCallback = func(q url.Values) { q.Del("iss"); a.op.RotateKeys() }
		})
		if page := a.browser.SignIn(oidcauthtest.Alice); page.Body != "alice" {
			t.Errorf("after the second login: %q, want alice", page.Body)
		}
		a.asked(t, "jwks", 2)
		a.asked(t, "userinfo", 2)
	})
}

// asked asserts how often an endpoint was asked.
func (a *app) asked(t *testing.T, endpoint string, want int) {
	t.Helper()
	if got := a.op.Count(endpoint); got != want {
		t.Errorf("%d requests to %s, want %d", got, endpoint, want)
	}
}

// oidcc-client-rp-initiated-logout-rp-basic
func TestConformanceRPInitiatedLogoutRP(t *testing.T) {
	t.Parallel()
	tests := []struct{ module, misbehaviour, lands string }{
		{"oidcc-client-test-rp-init-logout", "", "/bye"},
		// A state that is not ours names no place to go to (RIL-04): the user lands where every logout ends.
		{"oidcc-client-test-rp-init-logout-other-state", "logout-other-state", "/"},
		{"oidcc-client-test-rp-init-logout-no-state", "logout-no-state", "/"},
	}
	for _, tt := range tests {
		t.Run(tt.module, func(t *testing.T) {
			t.Parallel()
			a := newModule(t)
			var idToken any
			a.op.Change(func(k *oidcauthtest.Knobs) { k.EditTokens = func(r map[string]any) { idToken = r["id_token"] } })
			a.browser.SignIn(oidcauthtest.Alice)
			if tt.misbehaviour != "" {
				a.op.Misbehave(tt.misbehaviour)
			}
			page := a.browser.Post("/auth/logout", url.Values{"returnTo": {"/bye"}})
			if page.StatusCode != http.StatusOK || page.URL.Path != tt.lands || page.Body != nobody {
				t.Errorf("landed at %s with %d %q, want %s, 200 and nobody", page.URL.Path, page.StatusCode, page.Body, tt.lands)
			}
			a.asked(t, "end_session", 1)
			sent := a.op.Requests("end_session")[0].Form
			if sent.Get("id_token_hint") != idToken || sent.Get("state") == "" || sent.Get("client_id") == "" {
				t.Error("id_token_hint, state or client_id is not what it has to be")
			}
			if got := sent.Get("post_logout_redirect_uri"); got != "https://app.test/auth/logged-out" {
				t.Errorf("post_logout_redirect_uri is %q, which is not registered", got)
			}
		})
	}
}

// What the suite leaves unchecked of a login (requirements.md A3). The callback's own parameters, error responses and cookies
// are in callback_test.go.
func TestConformanceWhatTheSuiteLeavesUnchecked(t *testing.T) {
	t.Parallel()
	set := func(name string, value any) func(*app) {
		return func(a *app) {
			a.op.Change(func(k *oidcauthtest.Knobs) { k.EditIDToken = func(claims map[string]any) { claims[name] = value } })
		}
	}
	ago := func(name string, d time.Duration) func(*app) { // counted from the login: parallel tests wait for each other
		return func(a *app) { set(name, time.Now().Add(-d).Unix())(a) }
	}
	trusting := func(o *oidcauth.Options) {
		o.TrustedAudiences = func(audience string) bool { return audience == "another" }
	}
	withMAC := func(o *oidcauth.Options) { o.IDTokenSigningAlgs = []string{"HS256"} }
	tests := []struct {
		name   string
		edit   func(*oidcauth.Options)
		change func(*app)
		start  string // path; "": /auth/login
		status int    // 0: accepted
		code   string
	}{
		// OIDC-13, OIDC-14
		{"azp of another client is refused", nil, misbehaving("invalid-azp"), "", 502, "invalid_id_token"},
		{"azp of this client is accepted", nil, set("azp", "test-client"), "", 0, ""},
		{"a second audience is refused", nil, misbehaving("secondary-aud"), "", 502, "invalid_id_token"},
		{"a second audience that is trusted is accepted", trusting, misbehaving("secondary-aud"), "", 0, ""},
		{"a trusted audience alone is refused", trusting, set("aud", "another"), "", 502, "invalid_id_token"},
		{"an audience that is no string is refused", nil, set("aud", []any{"test-client", 1}), "", 502, "invalid_id_token"},
		{"aud as an array of one is accepted", nil, set("aud", []string{"test-client"}), "", 0, ""},
		{"no audience is refused", nil, misbehaving("missing-aud"), "", 502, "invalid_id_token"},
		// OIDC-18 to OIDC-20: 30 s of leeway
		{"exp 20 s ago is accepted", nil, ago("exp", 20*time.Second), "", 0, ""},
		{"exp 40 s ago is refused", nil, ago("exp", 40*time.Second), "", 502, "invalid_id_token"},
		{"no exp is refused", nil, misbehaving("missing-exp"), "", 502, "invalid_id_token"},
		{"exp as text is refused", nil, set("exp", "9999999999"), "", 502, "invalid_id_token"},
		{"iat 20 s ahead is accepted", nil, ago("iat", -20*time.Second), "", 0, ""},
		{"iat 2 min ahead is refused", nil, ago("iat", -2*time.Minute), "", 502, "invalid_id_token"},
		{"iat 9 min ago is accepted", nil, ago("iat", 9*time.Minute), "", 0, ""},
		{"iat 11 min ago is refused", nil, ago("iat", 11*time.Minute), "", 502, "invalid_id_token"},
		{"nbf 20 s ahead is accepted", nil, ago("nbf", -20*time.Second), "", 0, ""},
		{"nbf 61 s ahead is refused", nil, ago("nbf", -61*time.Second), "", 502, "invalid_id_token"},
		// OIDC-21, OIDC-22, OIDC-25
		{"no nonce is refused", nil, misbehaving("missing-nonce"), "", 502, "invalid_id_token"},
		{"an at_hash of another token is refused", nil, misbehaving("at-hash-invalid"), "", 502, "invalid_id_token"},
		{"a subject of 256 characters is refused", nil, set("sub", strings.Repeat("s", 256)), "", 502, "invalid_id_token"},
		// OIDC-15, OIDC-16, OIDC-17, OIDC-30
		{"ES256 with a published key is refused when RS256 is pinned", nil, misbehaving("alternate-alg"), "", 502, "invalid_id_token"},
		{"an access token's type is refused", nil, misbehaving("typ-of-another"), "", 502, "invalid_id_token"},
		{"HS256 with the client secret is accepted when configured", withMAC, signedWithSecret(""), "", 0, ""},
		{"HS256 with another secret is refused", withMAC, signedWithSecret("x"), "", 502, "invalid_id_token"},
		{"HS256 with the client secret is refused when RS256 is pinned", nil, signedWithSecret(""), "", 502, "invalid_id_token"},
		// OIDC-23: what was asked for is what is checked
		{"max_age=0 without auth_time is refused", nil, set("auth_time", nil), "/auth/login?max_age=0", 403, "login_denied"},
		{"max_age=600 with an authentication of 9 min ago is accepted", nil, ago("auth_time", 9*time.Minute), "/auth/login?max_age=600", 0, ""},
		{"max_age=600 with one of 11 min ago is denied", nil, ago("auth_time", 11*time.Minute), "/auth/login?max_age=600", 403, "login_denied"},
		{"max_age=0 with one of 1 min ago is denied", nil, ago("auth_time", time.Minute), "/auth/login?max_age=0", 403, "login_denied"},
		{"auth_time ahead is denied", nil, ago("auth_time", -2*time.Minute), "/auth/login?max_age=600", 403, "login_denied"},
		{"an old authentication is accepted where nobody asked", nil, ago("auth_time", 99*time.Hour), "", 0, ""},
		// OIDC-24
		{"acr that was required is accepted", nil, set("acr", "strong"), "/sign-in", 0, ""},
		{"another acr is denied", nil, set("acr", "weak"), "/sign-in", 403, "login_denied"},
		{"no acr where one was required is denied", nil, func(*app) {}, "/sign-in", 403, "login_denied"},
		{"a link's acr_values are voluntary", nil, func(*app) {}, "/auth/login?acr_values=strong", 0, ""},
		// the authorization response
		{"a state of another login is refused", nil, misbehaving("invalid-state"), "", 400, "invalid_state"},
		{"no state is refused", nil, misbehaving("missing-state"), "", 400, "invalid_state"},
		{"a doubled code is refused", nil, misbehaving("doubled-code"), "", 400, "invalid_state"},
		{"iss of another provider is refused", nil, misbehaving("invalid-authorization-response-iss"), "", 400, "invalid_issuer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newModule(t, func(o *oidcauth.Options) {
				if tt.edit != nil {
					tt.edit(o)
				}
			})
			a.signInBy(&oidcauth.LoginOptions{RequireACR: []string{"strong", "stronger"}})
			tt.change(a)
			start := tt.start
			if start == "" {
				start = "/auth/login"
			}
			if tt.status != 0 {
				a.refuses(t, start, tt.status, tt.code, 0)
				return
			}
			if page := a.browser.Get(start); page.StatusCode != 200 || page.Body != "alice" {
				t.Errorf("the login ended with %d %q, want 200 and alice\n%s", page.StatusCode, errorCode(page), a.logs)
			}
			a.asked(t, "userinfo", 1)
		})
	}
}

// signedWithSecret lets the provider sign ID tokens with the client secret, and a suffix, by HS256 (Core 10.1).
func signedWithSecret(suffix string) func(*app) {
	return func(a *app) {
		secret := a.op.Options().ClientSecret + suffix
		a.op.Change(func(k *oidcauthtest.Knobs) {
			k.MangleIDToken = func(jwt string) string {
				payload := strings.Split(jwt, ".")[1]
				signed := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + payload
				mac := hmac.New(sha256.New, []byte(secret))
				mac.Write([]byte(signed))
				return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
			}
		})
	}
}

func TestConformanceCookiesAndCaching(t *testing.T) {
	t.Parallel()
	a := newModule(t)
	page := a.browser.SignIn(oidcauthtest.Alice)
	for _, r := range page.History {
		if r.URL.Host != "app.test" {
			continue
		}
		h := r.Header
		if cc := h.Get("Cache-Control"); !strings.Contains(cc, "no-store") || !strings.Contains(cc, "private") { // HYG-01
			t.Errorf("%s: Cache-Control is %q", r.URL.Path, cc)
		}
		if h.Get("Referrer-Policy") != "no-referrer" || h.Get("X-Content-Type-Options") != "nosniff" { // BCP-07, HYG-03
			t.Errorf("%s: Referrer-Policy %q, X-Content-Type-Options %q", r.URL.Path, h.Get("Referrer-Policy"), h.Get("X-Content-Type-Options"))
		}
		for _, c := range r.Cookies() {
			if !strings.HasPrefix(c.Name, "__Host-") || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
				t.Errorf("%s sets %s with Path %q, Domain %q, HttpOnly %t, Secure %t, SameSite %d",
					r.URL.Path, c.Name, c.Path, c.Domain, c.HttpOnly, c.Secure, c.SameSite)
			}
		}
	}
	if q := page.URL.RawQuery; q != "" {
		t.Errorf("the page where the login ends has the query %q", q) // BCP-08
	}
}
