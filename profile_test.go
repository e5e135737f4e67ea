package oidcauth_test

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// profile decodes the answer of the profile route, which it asserts to be claims.
func profile(t testing.TB, r *oidcauthtest.Response) map[string]any {
	t.Helper()
	var claims map[string]any
	if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("status %d, %s: %s", r.StatusCode, r.Header.Get("Content-Type"), r.Body)
	}
	if err := json.Unmarshal([]byte(r.Body), &claims); err != nil {
		t.Fatalf("%s: %v", r.Body, err)
	}
	return claims
}

func TestTheProfileIsTheUsersClaims(t *testing.T) { // behaviour.md 6
	t.Parallel()
	a := newApp(t)
	protocol := []string{
		"iss", "aud", "exp", "iat", "nbf", "nonce", "at_hash", "c_hash", "azp", "auth_time", "acr", "amr", "sid", "jti", "session_expiry",
	}
	a.op.EditIDToken(func(c map[string]any) {
		for name, value := range map[string]any{
			"nbf": c["iat"], "azp": c["aud"], "acr": "1", "amr": []string{"pwd"}, "jti": "j", "c_hash": "h",
			"session_expiry": time.Now().Add(time.Hour).Unix(),
		} {
			c[name] = value
		}
		for _, name := range protocol { // or the test would show nothing
			if c[name] == nil {
				t.Errorf("the ID token has no %s", name)
			}
		}
		c["https://app.test/roles"], c["big"] = []any{"admin"}, json.Number("12345678901234567890")
	})
	a.browser.SignIn(oidcauthtest.Alice)
	before := len(a.op.Requests())
	r := a.browser.Fetch("/auth/profile")
	claims := profile(t, r)
	want := []string{"big", "email", "https://app.test/roles", "name", "sub"}
	if got := slices.Sorted(maps.Keys(claims)); !slices.Equal(got, want) || claims["sub"] != "alice" {
		t.Errorf("the claims are %v, want %q", claims, want)
	}
	if !strings.Contains(r.Body, "12345678901234567890") {
		t.Errorf("a number lost digits: %s", r.Body)
	}
	if len(a.op.Requests()) != before {
		t.Error("the provider was asked")
	}
	for name, want := range map[string]string{
		"Cache-Control": "private, no-store", "Vary": "Cookie", "X-Content-Type-Options": "nosniff",
		"Cross-Origin-Resource-Policy": "same-origin",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestWhoGetsTheProfile(t *testing.T) { // S29, lesson 28
	t.Parallel()
	a := newApp(t)
	cookie := a.cookies(t, oidcauthtest.Alice)
	for _, tt := range []struct {
		name, method, site, mode, cookie string
		status                           int
		code                             string
	}{
		{"a script of ours", "GET", "same-origin", "cors", cookie, 200, ""},
		{"a typed address", "GET", "none", "navigate", cookie, 200, ""},
		{"a client without Fetch metadata", "GET", "", "", cookie, 200, ""},
		{"HEAD", "HEAD", "same-origin", "cors", cookie, 200, ""},
		{"a script of another site", "GET", "cross-site", "cors", cookie, 403, "cross_origin_request"},
		{"a script element of another site", "GET", "cross-site", "no-cors", cookie, 403, "cross_origin_request"},
		{"a link on another site", "GET", "cross-site", "navigate", cookie, 403, "cross_origin_request"},
		{"a script of a sibling", "GET", "same-site", "cors", cookie, 403, "cross_origin_request"},
		{"HEAD by another site", "HEAD", "cross-site", "cors", cookie, 403, ""},
		{"nobody", "GET", "same-origin", "cors", "", 401, "unauthenticated"},
		{"nobody by a typed address", "GET", "none", "navigate", "", 401, "unauthenticated"},
		{"nobody with HEAD", "HEAD", "same-origin", "cors", "", 401, ""},
		{"a broken cookie", "GET", "same-origin", "cors", cookie[:len(cookie)-9] + "AAAAAAAAA", 401, "unauthenticated"},
		{"POST", "POST", "same-origin", "cors", cookie, 405, "method_not_allowed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := a.browserless(t, tt.method, "/auth/profile", "Cookie", tt.cookie, "Sec-Fetch-Site", tt.site, "Sec-Fetch-Mode", tt.mode)
			if r.StatusCode != tt.status || tt.code != "" && errorCode(r) != tt.code {
				t.Errorf("status %d %q, want %d %q", r.StatusCode, errorCode(r), tt.status, tt.code)
			}
			if strings.Contains(r.Body, "alice") != (tt.status == 200 && tt.method == "GET") {
				t.Errorf("the body is %q", r.Body)
			}
			switch tt.status {
			case 401:
				if got := r.Header.Get("WWW-Authenticate"); got != "Cookie" {
					t.Errorf("WWW-Authenticate is %q", got)
				}
				if tt.method == "GET" && !strings.Contains(r.Body, `"login_url":"/auth/login"`) {
					t.Errorf("no login_url: %s", r.Body)
				}
			case 405:
				if got := r.Header.Get("Allow"); got != "GET, HEAD" {
					t.Errorf("Allow is %q", got)
				}
			}
			if got := r.Header.Get("Cache-Control"); got != "private, no-store" {
				t.Errorf("Cache-Control is %q", got)
			}
		})
	}
}

// browserless sends one request with just these headers, and answers as a server does: without a body to HEAD.
func (a *app) browserless(t testing.TB, method, target string, header ...string) *oidcauthtest.Response {
	t.Helper()
	resp := ask(a.handler, method, target, header...)
	r := &oidcauthtest.Response{StatusCode: resp.StatusCode, Header: resp.Header, Body: body(resp)}
	if method == http.MethodHead {
		r.Body = ""
	}
	return r
}

func TestNoContentProfile(t *testing.T) {
	t.Parallel()
	a := newApp(t, func(o *oidcauth.Options) { o.NoContentProfile = true })
	for _, method := range []string{"GET", "HEAD"} {
		if r := a.browserless(t, method, "/auth/profile"); r.StatusCode != http.StatusNoContent || r.Body != "" ||
			r.Header.Get("Cache-Control") != "private, no-store" {
			t.Errorf("%s: status %d, %q, body %q", method, r.StatusCode, r.Header.Get("Cache-Control"), r.Body)
		}
	}
	if r := a.browserless(t, "GET", "/auth/profile", "Sec-Fetch-Site", "cross-site"); r.StatusCode != http.StatusForbidden {
		t.Errorf("another site: status %d, want 403", r.StatusCode)
	}
	a.browser.SignIn(oidcauthtest.Alice)
	if got := profile(t, a.browser.Fetch("/auth/profile")); got["sub"] != "alice" {
		t.Errorf("with a session: %v", got)
	}
}

func TestProfileClaimsReplacesTheAnswer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		claims func(*oidcauth.Session) (any, error)
		status int
		body   string
	}{
		{
			"with a struct", func(s *oidcauth.Session) (any, error) {
				return struct{ ID string }{s.Subject}, nil
			}, 200, `{"ID":"alice"}`,
		},
		{"with nothing", func(*oidcauth.Session) (any, error) { return nil, nil }, 200, "null"},
		{"with an error", func(*oidcauth.Session) (any, error) { return nil, errors.New("canary") }, 500, "server_error"},
		{"with what is no JSON", func(*oidcauth.Session) (any, error) { return make(chan int), nil }, 500, `{"error":"server_error"}`},
		{
			"with an answer of its own", func(*oidcauth.Session) (any, error) {
				return nil, &oidcauth.Error{Status: 403, Code: "suspended", Public: "You are suspended.", Err: errors.New("canary")}
			}, 403, `"suspended"`,
		},
		{"with no session left", func(*oidcauth.Session) (any, error) { return nil, oidcauth.ErrNoSession }, 401, "unauthenticated"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t, func(o *oidcauth.Options) { o.ProfileClaims = tt.claims })
			a.browser.SignIn(oidcauthtest.Alice)
			r := a.browser.Fetch("/auth/profile")
			if r.StatusCode != tt.status || !strings.Contains(r.Body, tt.body) || strings.Contains(r.Body, "canary") {
				t.Errorf("status %d: %s, want %d: %s", r.StatusCode, r.Body, tt.status, tt.body)
			}
		})
	}
}

func TestTheProfileRollsNothing(t *testing.T) { // behaviour.md 6
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		a.browser.SignIn(oidcauthtest.Alice)
		time.Sleep(23 * time.Hour)
		if r := a.browser.Fetch("/auth/profile"); r.StatusCode != 200 || len(r.Cookies()) > 0 {
			t.Errorf("status %d with cookies %v", r.StatusCode, r.Cookies())
		}
		time.Sleep(time.Hour)
		if r := a.browser.Fetch("/auth/profile"); r.StatusCode != 401 {
			t.Errorf("after the idle time: status %d, want 401", r.StatusCode)
		}
	})
}

func TestUserInfoAddsClaimsAndReplacesNoneOfTheToken(t *testing.T) { // OIDC-32, OIDC-33, OIDC-34
	t.Parallel()
	for _, signed := range []bool{false, true} {
		a := newApp(t, func(o *oidcauth.Options) {
			o.FetchUserInfo = true
			if signed {
				o.UserInfoSigningAlg = "RS256"
			}
		})
		a.op.Change(func(k *oidcauthtest.Knobs) {
			k.SID, k.SignUserInfo = "sid-1", signed
			k.EditIDToken = func(c map[string]any) { c["acr"] = "low" }
			k.EditUserInfo = func(c map[string]any) {
				maps.Copy(c, map[string]any{
					"exp": 1 << 40, "sid": "forged", "auth_time": 1, "acr": "high", "Acr": "high", "SUB": "mallory", "nonce": "x",
					"name": "Alice of UserInfo", "nickname": "ally", "email": nil,
				})
				if !signed {
					c["iss"], c["aud"] = "https://evil.test/", "evil"
				}
			}
		})
		a.browser.SignIn(oidcauthtest.Alice)
		claims := profile(t, a.browser.Fetch("/auth/profile"))
		want := map[string]any{"sub": "alice", "name": "Alice of UserInfo", "nickname": "ally", "email": "alice@example.com"}
		if !maps.Equal(claims, want) {
			t.Errorf("signed %v: the profile is %v, want %v", signed, claims, want)
		}
		s, err := a.GetSession(a.browser.Request("GET", "/"))
		if err != nil {
			t.Fatal(err)
		}
		var token struct {
			Iss, Sub, Aud, SID, ACR string
			Exp                     int64
		}
		if err := s.Claims(&token); err != nil {
			t.Fatal(err)
		}
		if s.Subject != "alice" || s.SID != "sid-1" || token.Sub != "alice" || token.SID != "sid-1" || token.ACR != "low" ||
			token.Iss != "https://op.test/" || token.Aud != "test-client" || token.Exp == 1<<40 {
			t.Errorf("signed %v: the session is %v with %+v", signed, s, token)
		}
	}
}

func TestWithoutFetchUserInfoNobodyAsksIt(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.browser.SignIn(oidcauthtest.Alice)
	if n := a.op.Count("userinfo"); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestUserInfoThatCannotBeUsedEndsTheLogin(t *testing.T) { // OIDC-32, OIDC-33, OIDC-35, S44
	t.Parallel()
	answers := func(f func(c map[string]any)) func(*oidcauthtest.Provider) {
		return func(p *oidcauthtest.Provider) { p.Change(func(k *oidcauthtest.Knobs) { k.EditUserInfo = f }) }
	}
	for _, tt := range []struct {
		name   string
		change func(*oidcauthtest.Provider)
		alg    string
		status int
		code   string
	}{
		{"another subject", func(p *oidcauthtest.Provider) { p.Misbehave("userinfo-invalid-sub") }, "", 502, "invalid_userinfo"},
		{"no subject", func(p *oidcauthtest.Provider) { p.Misbehave("userinfo-missing-sub") }, "", 502, "invalid_userinfo"},
		{"a subject that is a list", answers(func(c map[string]any) { c["sub"] = []string{"alice"} }), "", 502, "invalid_userinfo"},
		{"a subject in another case", answers(func(c map[string]any) { c["sub"] = "Alice" }), "", 502, "invalid_userinfo"},
		{"401", func(p *oidcauthtest.Provider) { p.Fail("userinfo", 401, "invalid_token", -1) }, "", 502, "invalid_userinfo"},
		{"403", func(p *oidcauthtest.Provider) { p.Fail("userinfo", 403, "insufficient_scope", -1) }, "", 502, "invalid_userinfo"},
		{"503", func(p *oidcauthtest.Provider) { p.Fail("userinfo", 503, "", -1) }, "", 503, "provider_unavailable"},
		{"no answer", func(p *oidcauthtest.Provider) { p.Fail("userinfo", 0, "", -1) }, "", 503, "provider_unavailable"},
		{"unsigned where a signature was registered", func(*oidcauthtest.Provider) {}, "RS256", 502, "invalid_userinfo"},
		{
			"signed with another algorithm than registered",
			func(p *oidcauthtest.Provider) { p.Change(func(k *oidcauthtest.Knobs) { k.SignUserInfo = true }) }, "ES256", 502, "invalid_userinfo",
		},
		{
			"no such endpoint",
			func(p *oidcauthtest.Provider) {
				p.EditMetadata(func(m map[string]any) { delete(m, "userinfo_endpoint") })
			}, "", 502, "invalid_userinfo",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t, func(o *oidcauth.Options) { o.FetchUserInfo, o.UserInfoSigningAlg = true, tt.alg })
			tt.change(a.op)
			var access string
			a.op.EditTokenResponse(func(r map[string]any) { access = r["access_token"].(string) })
			r := a.browser.Get("/auth/login")
			if r.StatusCode != tt.status || errorCode(r) != tt.code || setsSession(r) {
				t.Errorf("status %d %q, want %d %q without a session", r.StatusCode, errorCode(r), tt.status, tt.code)
			}
			if got := a.browser.Fetch("/auth/profile"); got.StatusCode != 401 {
				t.Errorf("the profile answers %d", got.StatusCode)
			}
			a.settle(t)
			if n := a.op.ActiveRefreshTokens(""); n != 0 { // S44
				t.Errorf("%d refresh tokens are left alive", n)
			}
			if log := a.logs.String(); strings.Contains(log, access) || !strings.Contains(log, "userinfo") && tt.status == 502 {
				t.Errorf("the log is\n%s", log)
			}
		})
	}
}
