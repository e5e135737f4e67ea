package e2e

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/oidcauth/oidcauth"
)

func TestCertifiedSignIn(t *testing.T) {
	t.Parallel()
	for _, config := range certifiedConfigs {
		t.Run(config.name, func(t *testing.T) {
			t.Parallel()
			a := newCertifiedApp(t, config.options)
			if err := a.client.Discover(t.Context()); err != nil {
				t.Fatalf("discovery: %v", err)
			}
			v := newVisitor(t)
			page := v.open(a.address + "/account/?tab=1")
			if page.url.Hostname() != "localhost" {
				t.Fatalf("the login stands at %s and not at the provider", page.url)
			}
			page = v.enter(page, "wrong")
			if !strings.Contains(page.body, "That password is wrong.") {
				t.Errorf("%d at %s, want another try:\n%s", page.status, page.url, page.body)
			}
			page = v.enter(page, "password")
			v.wantAccount(page)
			if got := page.url.String(); got != a.address+"/account/?tab=1" {
				t.Errorf("the login ended at %s", got)
			}
			if !strings.Contains(page.body, "ada, ada of the "+config.source+", ada@example.com") {
				t.Errorf("the claims are not the provider's:\n%s", page.body)
			}
			token := v.fetch(a.address + "/token").body
			if report := a.provider.look(token); report.Sub != "ada" || report.Error != "" {
				t.Errorf("the provider says of the access token: %+v", report)
			}
			a.provider.want("after the login", map[string]int{
				"password": 2, "authorization_code": 1, "refresh_token": 0, "live": 1, "invalid_grant": 0,
			})
		})
	}
}

// Refresh tokens rotate, and one that comes back costs the whole grant.
func TestCertifiedRefreshOverRotation(t *testing.T) { // RFT-01
	t.Parallel()
	for _, config := range certifiedConfigs {
		t.Run(config.name, func(t *testing.T) {
			t.Parallel()
			a, v := newCertifiedApp(t, config.options), newVisitor(t)
			a.shortTokens(func() { v.signIn(a.address + "/account/") })
			cookies := v.cookies(a.address)

			const requests = 200
			tokens := make([]string, requests)
			var all sync.WaitGroup
			for i := range tokens {
				all.Go(func() {
					status, token, err := a.token(cookies)
					if err != nil || status != http.StatusOK {
						t.Errorf("request %d: status %d, %v", i, status, err)
						return
					}
					tokens[i] = token
				})
			}
			all.Wait()
			for i, token := range tokens {
				if token != tokens[0] {
					t.Errorf("request %d got another token than the first", i)
				}
			}
			once := map[string]int{"authorization_code": 1, "refresh_token": 1, "reuse": 0, "revoked": 0, "live": 1}
			a.provider.want("after 200 requests at once", once)
			if report := a.provider.look(tokens[0]); report.Sub != "ada" {
				t.Errorf("the provider says of the new token: %+v", report)
			}
			// The cookie of before is still what a slow tab sends.
			if status, token, err := a.token(cookies); err != nil || status != http.StatusOK || token != tokens[0] {
				t.Errorf("late request: status %d, %v, the token of the others: %t", status, err, token == tokens[0])
			}
			a.provider.want("after a late request", once)
			v.fetch(a.address + "/token") // brings the cookie up to date, without which the newest token is another one
			if page := v.fetch(a.address + "/token?another"); page.status != http.StatusOK || page.body == tokens[0] {
				t.Errorf("another token: status %d, the same: %t", page.status, page.body == tokens[0])
			}
			a.provider.want("after a second refresh", map[string]int{
				"refresh_token": 2, "reuse": 0, "revoked": 0, "live": 1,
			})
		})
	}
}

func TestCertifiedTwoLoginsAtOnce(t *testing.T) { // lesson 12
	t.Parallel()
	a, v := newCertifiedApp(t), newVisitor(t)
	first, second := v.open(a.address+"/account/?tab=1"), v.open(a.address+"/account/?tab=2")
	for _, tt := range []struct {
		page answer
		tab  string
	}{{second, "tab=2"}, {first, "tab=1"}} {
		page := v.enter(tt.page, "password")
		v.wantAccount(page)
		if page.url.RawQuery != tt.tab {
			t.Errorf("the login of %s ended at %s", tt.tab, page.url)
		}
	}
	a.provider.want("after both", map[string]int{"password": 2, "authorization_code": 2, "invalid_grant": 0})
	if status, _, err := a.token(v.cookies(a.address)); err != nil || status != http.StatusOK {
		t.Errorf("the session of the last login: status %d, %v", status, err)
	}
}

func TestCertifiedStepToAnotherTab(t *testing.T) {
	t.Parallel()
	a, v := newCertifiedApp(t), newVisitor(t)
	waiting := v.open(a.address + "/account/?tab=1") // stays at the provider's question
	a.shortTokens(func() { v.signIn(a.address + "/account/?tab=2") })
	v.wantAccount(v.open(a.address + "/account/?tab=3")) // nobody asks again

	slept := v.cookies(a.address) // of a request that one tab has begun
	fresh := v.fetch(a.address + "/token")
	if status, token, err := a.token(slept); err != nil || status != http.StatusOK || token != fresh.body {
		t.Errorf("the tab that slept: status %d, %v, the token of the other: %t", status, err, token == fresh.body)
	}
	a.provider.want("after both tabs", map[string]int{"refresh_token": 1, "reuse": 0, "authorization_code": 1})

	page := v.enter(waiting, "password")
	v.wantAccount(page)
	if page.url.RawQuery != "tab=1" {
		t.Errorf("the login of the first tab ended at %s", page.url)
	}
	stranger := newVisitor(t)
	page = stranger.open(a.address + "/account/")
	if !page.asks() {
		t.Errorf("another browser is not asked: %d at %s", page.status, page.url)
	}
}

func TestCertifiedLogout(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		options func(*oidcauth.Options)
		confirm bool // the question of the provider
		asked   bool // at the next login
		live    int  // refresh tokens
	}{
		{"at the provider, too", nil, true, true, 0},
		{"without an ID token", func(o *oidcauth.Options) { o.DropIDToken = true }, true, true, 0},
		{"and the user stays at the provider", nil, false, false, 0},
		{"without revocation", func(o *oidcauth.Options) { o.SkipRevocation = true }, true, true, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, v := newCertifiedApp(t, tt.options), newVisitor(t)
			v.signIn(a.address + "/account/")
			old := v.cookies(a.address)
			page := v.open(a.address + "/auth/logout")
			if page.url.Hostname() != "localhost" || !strings.Contains(page.body, "Sign out here, too?") {
				t.Fatalf("the logout stands at %s: %d\n%s", page.url, page.status, page.body)
			}
			if err := a.client.Close(t.Context()); err != nil { // waits for the revocation
				t.Fatal(err)
			}
			a.provider.want("after the logout here", map[string]int{"live": tt.live, "logout": 0})
			if status, _, err := a.token(old); err != nil || status != http.StatusUnauthorized {
				t.Errorf("the cookie of before: status %d, %v, want 401", status, err)
			}
			if tt.confirm {
				page = v.submit(page, "logout", "yes")
				if page.url.Host != a.host() || !strings.Contains(page.body, "Our home page") {
					t.Errorf("the logout ended at %s with %d:\n%s", page.url, page.status, page.body)
				}
				a.provider.want("after the logout there", map[string]int{"live": tt.live, "logout": 1})
			}
			if page := v.open(a.address + "/account/"); page.asks() != tt.asked {
				t.Errorf("the next login asks for the password: %t, at %s", page.asks(), page.url)
			}
		})
	}
}

// What a login asks for reaches the provider, and its refusals arrive.
func TestCertifiedLoginParameters(t *testing.T) {
	t.Parallel()
	a := newCertifiedApp(t)
	for _, tt := range []struct {
		name, query string
		before      bool // signed in at the provider
		asks        bool
		status      int
		code        string
	}{
		{"max_age that has passed", "max_age=0", true, true, 200, ""},
		{"max_age that has not", "max_age=3600", true, false, 200, ""},
		{"prompt=login", "prompt=login", true, true, 200, ""},
		{"prompt=login consent", "prompt=login+consent", true, true, 200, ""},
		{"prompt=none for a user", "prompt=none", true, false, 200, ""},
		{"prompt=none for nobody", "prompt=none", false, false, 400, "login_required"},
		{"prompt=none and max_age that has passed", "prompt=none&max_age=0", true, false, 400, "login_required"},
		{"a user who is signed in", "", true, false, 200, ""},
		{"a user who is not", "", false, true, 200, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newVisitor(t)
			if tt.before {
				v.signIn(a.address + "/account/")
			}
			page := v.open(a.address + "/auth/login?returnTo=/account/?new&" + tt.query)
			if page.asks() != tt.asks {
				t.Fatalf("the provider asks: %t, at %s", page.asks(), page.url)
			}
			if tt.asks {
				page = v.enter(page, "password")
			}
			if page.status != tt.status {
				t.Errorf("status %d at %s, want %d:\n%s", page.status, page.url, tt.status, page.body)
			}
			if tt.code == "" {
				v.wantAccount(page)
				return
			}
			err := a.cause()
			e, ok := errors.AsType[*oidcauth.Error](err)
			if !ok || e.Code != tt.code || !errors.Is(err, oidcauth.ErrLoginRequired) {
				t.Errorf("the error is %v, want %s", err, tt.code)
			}
		})
	}
}

func TestCertifiedCancel(t *testing.T) {
	t.Parallel()
	a, v := newCertifiedApp(t), newVisitor(t)
	page := v.submit(v.open(a.address+"/account/"), "do", "cancel")
	if page.status != http.StatusBadRequest || !strings.Contains(page.body, "cancelled") {
		t.Errorf("status %d, want 400 and a word of the cancelled login:\n%s", page.status, page.body)
	}
	refused, ok := errors.AsType[*oidcauth.ProviderError](a.cause())
	if !ok || refused.Code != "access_denied" || refused.Description != "The user cancelled." {
		t.Errorf("the error is %+v, want the provider's access_denied", refused)
	}
	if page := v.fetch(a.address + "/token"); page.status != http.StatusUnauthorized {
		t.Errorf("a session after a login that was cancelled: status %d", page.status)
	}
	v.signIn(a.address + "/account/")
}

// One rotating refresh token brings the tokens of both APIs and the login's own (RFC 8707 2.2).
func TestCertifiedTwoAPIs(t *testing.T) {
	t.Parallel()
	a, v := newCertifiedApp(t), newVisitor(t)
	v.signIn(a.address + "/account/")
	for range 2 {
		for _, want := range []tokenReport{
			{Sub: "ada", Aud: ordersAPI, Scope: "orders", Format: "jwt"},
			{Sub: "ada", Aud: billingAPI, Scope: "billing", Format: "opaque"},
		} {
			page := v.fetch(a.address + "/token?audience=" + want.Aud)
			if got := a.provider.look(page.body); page.status != http.StatusOK || got != want {
				t.Errorf("status %d, the token is %+v, want %+v", page.status, got, want)
			}
		}
	}
	if report := a.provider.look(v.fetch(a.address + "/token").body); report.Aud != "" {
		t.Errorf("the login's own token is for %q", report.Aud)
	}
	a.provider.want("after both APIs twice", map[string]int{"refresh_token": 2, "reuse": 0, "live": 1})
}

// The login asked for one API alone. Where only the API is refused, and not a scope, this provider rotates the refresh
// token first and does not say which is the new one: the next refresh is a second use, and costs the grant (lesson 43).
func TestCertifiedAnotherAPIThanGranted(t *testing.T) { // S16
	t.Parallel()
	for _, tt := range []struct {
		name, code string
		scopes     map[string][]string
		status     int // of the login's own token afterwards
		live       int
	}{
		{"a scope is refused", "invalid_scope", map[string][]string{billingAPI: {"billing"}}, 200, 1},
		{"the API is refused", "invalid_target", nil, 401, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := newVisitor(t)
			a := newCertifiedApp(t, func(o *oidcauth.Options) { o.Audience, o.AudienceScopes = ordersAPI, tt.scopes })
			a.shortTokens(func() { v.signIn(a.address + "/account/") })
			page := v.fetch(a.address + "/token?audience=" + billingAPI)
			refused, ok := errors.AsType[*oidcauth.ProviderError](a.cause())
			if page.status != http.StatusBadGateway || !ok || refused.Code != tt.code {
				t.Errorf("status %d, want 502; the error is %v, want %s:\n%s", page.status, refused, tt.code, page.body)
			}
			if page := v.fetch(a.address + "/token"); page.status != tt.status {
				t.Errorf("the login's own token: status %d, want %d:\n%s", page.status, tt.status, page.body)
			}
			a.provider.want("after both", map[string]int{tt.code: 1, "live": tt.live})
		})
	}
}

func TestCertifiedWrongClientSecret(t *testing.T) {
	t.Parallel()
	a, v := newCertifiedApp(t, func(o *oidcauth.Options) { o.ClientSecret += "?" }), newVisitor(t)
	page := v.enter(v.open(a.address+"/account/"), "password")
	if page.status != http.StatusBadGateway {
		t.Errorf("status %d, want 502:\n%s", page.status, page.body)
	}
	err := a.cause()
	e, _ := errors.AsType[*oidcauth.Error](err)
	refused, _ := errors.AsType[*oidcauth.ProviderError](err)
	if e == nil || e.Code != "exchange_failed" || refused == nil || refused.Code != "invalid_client" {
		t.Errorf("the error is %v, want exchange_failed because of invalid_client", err)
	}
	if page := v.fetch(a.address + "/token"); page.status != http.StatusUnauthorized {
		t.Errorf("status %d, want 401 for nobody", page.status)
	}
	a.provider.want("afterwards", map[string]int{"authorization_code": 0, "invalid_client": 1})
}

func TestCertifiedKeyRotation(t *testing.T) {
	t.Parallel()
	a, v := newCertifiedApp(t), newVisitor(t)
	a.shortTokens(func() { v.signIn(a.address + "/account/") })
	a.provider.do("/rotate-keys", "")
	if page := v.fetch(a.address + "/token"); page.status != http.StatusOK { // with an ID token of the new key
		t.Errorf("refresh: status %d:\n%s", page.status, page.body)
	}
	newVisitor(t).signIn(a.address + "/account/")
	page := v.submit(v.open(a.address+"/auth/logout"), "logout", "yes") // with an ID token of the old key
	if page.url.Host != a.host() {
		t.Errorf("the logout ended at %s: %d\n%s", page.url, page.status, page.body)
	}
	if err := a.cause(); err != nil {
		t.Error(err)
	}
}

func TestCertifiedOutage(t *testing.T) {
	t.Parallel()
	a, v := newCertifiedApp(t), newVisitor(t)
	unavailable := func(what string, page answer) {
		t.Helper()
		if page.status != http.StatusServiceUnavailable || page.header.Get("Retry-After") == "" {
			t.Errorf("%s: status %d, want 503 with Retry-After:\n%s", what, page.status, page.body)
		}
	}
	down, up := func() { a.provider.do("/close", "") }, func() { a.provider.do("/open", "") }

	down()
	unavailable("login", v.open(a.address+"/account/"))
	up()
	a.shortTokens(func() { v.enter(v.patiently(a.address+"/account/"), "password") })
	down()
	unavailable("refresh", v.fetch(a.address+"/token"))
	v.wantAccount(v.open(a.address + "/account/")) // pages that need no token go on
	up()
	if page := v.patiently(a.address + "/token"); page.status != http.StatusOK {
		t.Errorf("refresh after the outage: status %d:\n%s", page.status, page.body)
	}
	a.provider.want("after the outage", map[string]int{
		"authorization_code": 1, "refresh_token": 1, "reuse": 0, "revoked": 0,
	})
}

func TestCertifiedProviderThatForgetsEverything(t *testing.T) {
	t.Parallel()
	a, v := newCertifiedApp(t), newVisitor(t)
	a.shortTokens(func() { v.signIn(a.address + "/account/") })
	a.provider.kill()
	a.provider.start() // at the same address, with other keys and no grants
	if page := v.fetch(a.address + "/token"); page.status != http.StatusUnauthorized {
		t.Errorf("refresh: status %d, want 401:\n%s", page.status, page.body)
	}
	if err := a.cause(); !errors.Is(err, oidcauth.ErrLoginRequired) {
		t.Errorf("the error is %v, want ErrLoginRequired", err)
	}
	v.signIn(a.address + "/account/")
	if page := v.fetch(a.address + "/token"); page.status != http.StatusOK {
		t.Errorf("after the new login: status %d:\n%s", page.status, page.body)
	}
}
