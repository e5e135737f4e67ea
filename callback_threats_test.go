package oidcauth_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// visitAll opens a URL in n tabs at once.
func visitAll(b *oidcauthtest.Browser, target string, n int) []*oidcauthtest.Response {
	got := make([]*oidcauthtest.Response, n)
	var tabs sync.WaitGroup
	for i := range got {
		tabs.Go(func() { got[i] = b.NoRedirects().Get(target) })
	}
	tabs.Wait()
	return got
}

func TestTwentyCallbacksAtOnceSpendTheCodeOnce(t *testing.T) { // S24
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		callback := a.returned(t, "/auth/login?returnTo=/a")
		a.op.Delay("token", 3*time.Second)
		for i, r := range visitAll(a.browser, callback, 20) {
			if r.StatusCode != http.StatusFound || r.Location() != "https://app.test/a" || !setsSession(r) {
				t.Errorf("tab %d: %d to %q, session %t", i, r.StatusCode, r.Location(), setsSession(r))
			}
		}
		a.asked(t, "token", 1)
		if n := a.op.ActiveRefreshTokens("alice"); n != 1 {
			t.Errorf("%d refresh tokens work, want 1", n)
		}
		if who := a.browser.Get("/").Body; who != "alice" {
			t.Errorf("signed in as %q", who)
		}
		created := slices.DeleteFunc(a.logs.names(), func(name string) bool { return name != "session.created" })
		if len(created) != 1 {
			t.Errorf("%d sessions were created", len(created))
		}
	})
}

func TestTwentyCallbacksAtOnceThatFail(t *testing.T) { // S24, S44
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		a.op.Misbehave("expired")
		callback := a.returned(t, "/auth/login")
		a.op.Delay("token", 3*time.Second)
		codes := map[string]int{}
		for _, r := range visitAll(a.browser, callback, 20) {
			codes[errorCode(r)]++
			if setsSession(r) {
				t.Error("a session was set")
			}
		}
		if codes["invalid_id_token"] != 1 || codes["invalid_state"] != 19 {
			t.Errorf("the answers are %v", codes)
		}
		a.asked(t, "token", 1)
		a.settle(t)
		if n := a.op.ActiveRefreshTokens(""); n > 0 {
			t.Errorf("%d refresh tokens are left", n)
		}
	})
}

func TestAReloadAfterTheBrowserHungUp(t *testing.T) { // S24, lesson 3
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		callback := a.returned(t, "/auth/login?returnTo=/a")
		a.op.Delay("token", 2*time.Second)
		ctx, hangUp := context.WithCancel(t.Context())
		first := httptest.NewRecorder()
		var tab sync.WaitGroup
		tab.Go(func() { a.handler.ServeHTTP(first, a.browser.Request(http.MethodGet, callback).WithContext(ctx)) })
		synctest.Wait()
		hangUp()
		r := a.browser.NoRedirects().Get(callback)
		tab.Wait()
		if r.StatusCode != http.StatusFound || r.Location() != "https://app.test/a" || !setsSession(r) {
			t.Errorf("the reload: %d to %q, session %t", r.StatusCode, r.Location(), setsSession(r))
		}
		a.asked(t, "token", 1)
		if a.op.ActiveRefreshTokens("alice") != 1 || a.browser.Get("/").Body != "alice" {
			t.Error("the user is not signed in with working tokens")
		}
	})
}

func TestACallbackIsNoSessionForLater(t *testing.T) { // OIDC-02, THR-12, S24
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		callback := a.returned(t, "/auth/login?returnTo=/a")
		before := a.browser.Clone() // whose login cookie nothing deletes
		a.browser.Get(callback)
		if r := a.browser.NoRedirects().Get(callback); errorCode(r) != "invalid_state" {
			t.Errorf("repeated without the login's cookie: %d", r.StatusCode)
		}
		another := edited(callback, setting("code", "another"))
		if r := before.Clone().NoRedirects().Get(another); errorCode(r) != "invalid_state" || setsSession(r) {
			t.Errorf("with it and another code: %d, session %t", r.StatusCode, setsSession(r))
		}
		time.Sleep(2 * time.Minute)
		if r := before.NoRedirects().Get(callback); setsSession(r) {
			t.Errorf("repeated with it: %d and a session", r.StatusCode)
		}
		a.asked(t, "token", 1)
		if n := a.op.ActiveRefreshTokens("alice"); n != 1 {
			t.Errorf("%d refresh tokens work, want 1", n)
		}
	})
}

func TestTwoTabs(t *testing.T) { // lesson 12
	t.Parallel()
	a := newApp(t)
	first, second := a.returned(t, "/auth/login?returnTo=/1"), a.returned(t, "/auth/login?returnTo=/2")
	for callback, want := range map[string]string{second: "/2", first: "/1"} {
		if page := a.browser.Get(callback); page.URL.Path != want || page.Body != "alice" {
			t.Errorf("the tab of %s ended at %s as %q", want, page.URL, page.Body)
		}
	}
	if cookies := a.browser.Cookies("/"); slices.ContainsFunc(cookies, isLogin) {
		t.Error("the cookie of a login is left")
	}
}

func TestLoginCSRF(t *testing.T) { // THR-12, BCP-02, OIDC-02
	t.Parallel()
	// The victim opens what the attacker's provider account was sent back to.
	newVictim := func(t *testing.T) (a *app, victim *oidcauthtest.Browser, attackers string) {
		t.Helper()
		a = newApp(t)
		a.op.SetUser(oidcauthtest.User{Subject: "mallory"})
		attackers = a.returned(t, "/auth/login?returnTo=/attackers")
		a.op.SetUser(oidcauthtest.Alice)
		return a, a.op.NewBrowser(a.handler), attackers
	}
	refused := func(t *testing.T, a *app, r *oidcauthtest.Response) {
		t.Helper()
		if r.StatusCode != http.StatusBadRequest || errorCode(r) != "invalid_state" || setsSession(r) {
			t.Errorf("answered %d %q", r.StatusCode, errorCode(r))
		}
		if a.op.ActiveRefreshTokens("mallory") > 0 {
			t.Error("the attacker's code was exchanged")
		}
	}
	t.Run("into a browser that started no login", func(t *testing.T) {
		t.Parallel()
		a, victim, attackers := newVictim(t)
		refused(t, a, victim.From("https://evil.test").Get(attackers))
	})
	t.Run("into a browser that is just logging in", func(t *testing.T) {
		t.Parallel()
		a, victim, attackers := newVictim(t)
		a.browser = victim
		own := a.returned(t, "/auth/login?returnTo=/own")
		refused(t, a, victim.From("https://evil.test").Get(attackers))
		if page := victim.Get(own); page.URL.Path != "/own" || page.Body != "alice" {
			t.Errorf("the victim's own login ended at %s as %q", page.URL, page.Body)
		}
	})
	t.Run("into a browser that is signed in", func(t *testing.T) {
		t.Parallel()
		a, victim, attackers := newVictim(t)
		victim.SignIn(oidcauthtest.Alice)
		refused(t, a, victim.From("https://evil.test").Get(attackers))
		if who := victim.Get("/").Body; who != "alice" {
			t.Errorf("signed in as %q", who)
		}
	})
	t.Run("with the attacker's code and the victim's state", func(t *testing.T) { // THR-15, PKCE-01
		t.Parallel()
		a, victim, attackers := newVictim(t)
		a.browser = victim
		u, err := url.Parse(attackers)
		if err != nil {
			t.Fatal(err)
		}
		r := victim.Get(edited(a.returned(t, "/auth/login"), setting("code", u.Query().Get("code"))))
		if errorCode(r) != "exchange_failed" || setsSession(r) || victim.Get("/").Body != nobody {
			t.Errorf("answered %d %q", r.StatusCode, errorCode(r))
		}
	})
	t.Run("with the attacker's ID token for the victim's code", func(t *testing.T) { // THR-15, OIDC-21
		t.Parallel()
		a, victim, _ := newVictim(t)
		a.browser = victim
		var stolen any
		a.op.Change(func(k *oidcauthtest.Knobs) { k.EditTokens = func(r map[string]any) { stolen = r["id_token"] } })
		a.op.NewBrowser(a.handler).SignIn(oidcauthtest.User{Subject: "mallory"})
		a.op.SetUser(oidcauthtest.Alice)
		a.op.Change(func(k *oidcauthtest.Knobs) { k.EditTokens = func(r map[string]any) { r["id_token"] = stolen } })
		if r := victim.Get(a.returned(t, "/auth/login")); errorCode(r) != "invalid_id_token" || victim.Get("/").Body != nobody {
			t.Errorf("answered %d %q", r.StatusCode, errorCode(r))
		}
	})
	t.Run("with the attacker's login cookie under the victim's name", func(t *testing.T) { // THR-03
		t.Parallel()
		a, victim, attackers := newVictim(t)
		mallorys := a.browser.Cookies("/")[0]
		a.browser = victim
		own := a.returned(t, "/auth/login")
		planted := *victim.Cookies("/")[0]
		planted.Value = mallorys.Value
		if err := victim.SetCookie("/", &planted); err != nil {
			t.Fatal(err)
		}
		refused(t, a, victim.Get(attackers))
		refused(t, a, victim.Get(own))
	})
	t.Run("with an empty state", func(t *testing.T) { // lesson 27
		t.Parallel()
		a, victim, attackers := newVictim(t)
		empty := edited(attackers, setting("state", ""))
		refused(t, a, victim.Get(empty))
		a.browser = victim
		a.returned(t, "/auth/login")
		for _, c := range victim.Cookies("/") {
			c.Value = ""
			if err := victim.SetCookie("/", c); err != nil {
				t.Fatal(err)
			}
		}
		refused(t, a, victim.Get(empty))
		refused(t, a, victim.Get(edited(attackers, func(q url.Values) { q.Del("state") })))
	})
}

func TestALoginCookieThatWasChangedIsNone(t *testing.T) { // THR-03, OIDC-02
	t.Parallel()
	a := newApp(t)
	callback := a.returned(t, "/auth/login")
	genuine := *a.browser.Cookies("/")[0]
	for i := 0; i < len(genuine.Value); i += 7 {
		changed := genuine
		flipped := byte('A')
		if changed.Value[i] == 'A' {
			flipped = 'B'
		}
		changed.Value = changed.Value[:i] + string(flipped) + changed.Value[i+1:]
		b := a.browser.Clone()
		if err := b.SetCookie("/", &changed); err != nil {
			t.Fatal(err)
		}
		if r := b.NoRedirects().Get(callback); errorCode(r) != "invalid_state" {
			t.Errorf("octet %d changed: %d %q", i, r.StatusCode, errorCode(r))
		}
	}
	if page := a.browser.Get(callback); page.Body != "alice" {
		t.Errorf("the genuine one: %d %q", page.StatusCode, page.Body)
	}
}

func TestAnotherApplicationsLoginIsNone(t *testing.T) { // ISS-05, THR-13, lesson 16
	t.Parallel()
	edits := map[string]func(*oidcauth.Options){
		"another client id": func(o *oidcauth.Options) { o.ClientID = "another" },
		"another issuer":    func(o *oidcauth.Options) { o.Issuer = "https://op.test/other/" },
		"another secret":    func(o *oidcauth.Options) { o.Secrets = []string{strings.Repeat("k3Yq8Zr1", 3) + noise(26)} },
	}
	for name, edit := range edits {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t)
			callback := a.returned(t, "/auth/login")
			other := newAppAt(t, a.op, edit)
			a.browser.Host("https://app.test", other.handler)
			if r := a.browser.Get(callback); r.StatusCode != 400 || errorCode(r) != "invalid_state" {
				t.Errorf("answered %d %q", r.StatusCode, errorCode(r))
			}
			a.asked(t, "token", 0)
		})
	}
}

func TestEveryLoginIsANewSession(t *testing.T) { // THR-11, S38, lesson 20
	t.Parallel()
	a := newApp(t)
	a.mux.HandleFunc("/set", func(w http.ResponseWriter, r *http.Request) {
		err := a.UpdateSession(w, r, func(s *oidcauth.Session) error { return s.SetValue("cart", r.URL.RawQuery) })
		if err != nil {
			t.Error(err)
		}
	})
	current := func(b *oidcauthtest.Browser) (handle, cart string) {
		t.Helper()
		s, err := a.GetSession(b.Request(http.MethodGet, "/"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Value("cart", &cart); err != nil {
			t.Fatal(err)
		}
		return s.Handle, cart
	}
	bob := oidcauthtest.User{Subject: "bob"}
	attacker := a.op.NewBrowser(a.handler)
	attacker.SignIn(bob)
	attacker.Get("/set?planted")

	for _, c := range attacker.Cookies("/") { // the victim's browser has the attacker's session
		if err := a.browser.SetCookie("/", c); err != nil {
			t.Fatal(err)
		}
	}
	planted, _ := current(attacker)
	a.browser.SignIn(oidcauthtest.Alice)
	first, cart := current(a.browser)
	if first == planted || cart != "" {
		t.Errorf("after a login over another's session its id is kept: %t, and the cart is %q", first == planted, cart)
	}
	a.browser.Get("/set?alices")
	a.browser.SignIn(oidcauthtest.Alice)
	second, cart := current(a.browser)
	if second == first || cart != "alices" {
		t.Errorf("after a login of the same user the id is kept: %t, and the cart is %q", second == first, cart)
	}
	a.browser.SignIn(bob)
	if _, cart := current(a.browser); cart != "" {
		t.Errorf("after another user's login the cart is %q", cart)
	}
	a.browser.SignIn(oidcauthtest.Alice)
	if _, cart := current(a.browser); cart != "" {
		t.Errorf("after the first user's third login the cart is %q", cart)
	}
}

func TestBeforeSave(t *testing.T) { // S38, S44
	t.Parallel()
	type session = oidcauth.Session
	tests := []struct {
		name   string
		hook   func(*session) error
		status int
		code   string
	}{
		{"sets a value", func(s *session) error { return s.SetValue("role", "admin") }, 200, ""},
		{"reads the claims", func(s *session) error {
			var claims struct{ Email string }
			if err := s.Claims(&claims); err != nil || claims.Email != "alice@example.com" || s.Subject != "alice" || s.Handle == "" {
				return fmt.Errorf("claims %v, error %w", claims, err)
			}
			return s.SetValue("role", "admin")
		}, 200, ""},
		{"refuses", func(*session) error { return errors.New("secret reason") }, 403, "login_denied"},
		{"refuses with an answer of its own", func(*session) error { return &oidcauth.Error{Status: 418, Code: "teapot"} }, 403, "login_denied"},
		{"changes the subject", func(s *session) error { s.Subject = "root"; return nil }, 500, "server_error"},
		{"changes the issuer", func(s *session) error { s.Issuer = "https://evil.test/"; return nil }, 500, "server_error"},
		{"prolongs the session", func(s *session) error { s.ExpiresAt = s.ExpiresAt.AddDate(1, 0, 0); return nil }, 500, "server_error"},
		{"stores too much", func(s *session) error { return s.SetValue("role", noise(30_000)) }, 500, "session_too_large"},
		{"stores what is no JSON", func(s *session) error { return s.SetValue("role", func() {}) }, 403, "login_denied"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var kept *session
			a := newApp(t, func(o *oidcauth.Options) {
				o.BeforeSave = func(_ context.Context, s *session) error { kept = s; return tt.hook(s) }
			})
			page := a.browser.Get("/auth/login")
			if page.StatusCode != tt.status || errorCode(page) != tt.code || strings.Contains(page.Body, "secret reason") {
				t.Errorf("answered %d %q, want %d %q", page.StatusCode, errorCode(page), tt.status, tt.code)
			}
			if err := kept.SetValue("role", "late"); err == nil {
				t.Error("the session can be changed after the hook")
			}
			a.settle(t)
			if tt.status != 200 {
				if n := a.op.ActiveRefreshTokens(""); n > 0 || a.browser.Get("/").Body != nobody {
					t.Errorf("there is a session, or one of %d refresh tokens", n)
				}
				return
			}
			s, err := a.GetSession(a.browser.Request(http.MethodGet, "/"))
			if err != nil {
				t.Fatal(err)
			}
			var role string
			if ok, err := s.Value("role", &role); !ok || err != nil || role != "admin" {
				t.Errorf("the value is %q (%v)", role, err)
			}
		})
	}
}

func TestOnLogin(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		answer  func(http.ResponseWriter) error
		status  int
		code    string
		session bool
	}{
		{"answers itself", func(w http.ResponseWriter) error { _, err := io.WriteString(w, "welcome"); return err }, 200, "", true},
		{"fails", func(http.ResponseWriter) error { return errors.New("no") }, 500, "server_error", false},
		{"refuses", func(http.ResponseWriter) error {
			return &oidcauth.Error{Status: http.StatusForbidden, Code: "login_denied", Public: "not today"}
		}, 403, "login_denied", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t, func(o *oidcauth.Options) {
				o.OnLogin = func(w http.ResponseWriter, _ *http.Request, s *oidcauth.Session, returnTo string) error {
					if s.Subject != "alice" || returnTo != "/" {
						t.Errorf("OnLogin got %q and %q", s.Subject, returnTo)
					}
					return tt.answer(w)
				}
			})
			page := a.browser.Get("/auth/login?returnTo=https://evil.test/")
			if page.StatusCode != tt.status || errorCode(page) != tt.code || page.URL.Path != "/auth/callback" {
				t.Errorf("answered %d %q at %s, want %d %q", page.StatusCode, errorCode(page), page.URL, tt.status, tt.code)
			}
			if signedIn := a.browser.Get("/").Body == "alice"; signedIn != tt.session || setsSession(page) != tt.session {
				t.Errorf("signed in: %t, want %t", signedIn, tt.session)
			}
			a.settle(t)
			if n := a.op.ActiveRefreshTokens(""); (n == 1) != tt.session {
				t.Errorf("%d refresh tokens are left", n)
			}
		})
	}
}

func TestAHookThatPanicsLeavesNothing(t *testing.T) { // S44, THR-07
	t.Parallel()
	for name, edit := range map[string]func(*oidcauth.Options){
		"BeforeSave": func(o *oidcauth.Options) {
			o.BeforeSave = func(context.Context, *oidcauth.Session) error { panic(http.ErrAbortHandler) }
		},
		"OnLogin": func(o *oidcauth.Options) {
			o.OnLogin = func(http.ResponseWriter, *http.Request, *oidcauth.Session, string) error { panic(http.ErrAbortHandler) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t, edit)
				r := a.browser.Request(http.MethodGet, a.returned(t, "/auth/login"))
				begun := time.Now()
				for range 2 {
					w := httptest.NewRecorder()
					func() {
						defer func() { _ = recover() }()
						a.handler.ServeHTTP(w, r)
					}()
					if kept(w.Header()) != "" {
						t.Error("a session cookie is set")
					}
				}
				if waited := time.Since(begun); waited > 0 {
					t.Errorf("the second request waited %v for an outcome that never comes", waited)
				}
				a.settle(t)
				a.asked(t, "token", 1)
				if n := a.op.ActiveRefreshTokens(""); n > 0 {
					t.Errorf("%d refresh tokens are left", n)
				}
			})
		})
	}
}

func TestOnLoginThatFailsBelowAGuardLeavesTheOldSession(t *testing.T) { // S32
	t.Parallel()
	a := newApp(t, func(o *oidcauth.Options) {
		o.BaseURL, o.PrefixStripped = "https://app.test/shop", true
		o.OnLogin = func(w http.ResponseWriter, r *http.Request, s *oidcauth.Session, returnTo string) error {
			if s.Subject == "bob" {
				return errors.New("no")
			}
			http.Redirect(w, r, returnTo, http.StatusFound)
			return nil
		}
	})
	a.op.Register([]string{"https://app.test/shop/auth/callback"}, nil)
	a.browser.Host("https://app.test", http.StripPrefix("/shop", a.handler))
	if page := a.browser.Get("/shop/auth/login"); page.Body != "alice" {
		t.Fatalf("the login ended with %d %q", page.StatusCode, page.Body)
	}
	a.browser.Host("https://app.test", a.RequireAuth(http.StripPrefix("/shop", a.handler)))
	a.op.SetUser(oidcauthtest.User{Subject: "bob"})
	if page := a.browser.From("https://app.test").Get("/shop/auth/login"); page.StatusCode != 500 || setsSession(page) {
		t.Errorf("the second login ended with %d, session %t", page.StatusCode, setsSession(page))
	}
	if who := a.browser.Get("/shop/").Body; who != "alice" {
		t.Errorf("signed in as %q", who)
	}
}

func TestSkipRevocationLeavesTheTokens(t *testing.T) {
	t.Parallel()
	a := newApp(t, func(o *oidcauth.Options) {
		o.SkipRevocation = true
		o.BeforeSave = func(context.Context, *oidcauth.Session) error { return errors.New("no") }
	})
	a.browser.Get("/auth/login")
	a.settle(t)
	a.asked(t, "revoke", 0)
}

// What somebody may want to see run on our page (THR-05).
var scripts = []string{
	`<script>alert(1)</script>`, `"><script>alert(1)</script>`, `'><img src=x onerror=alert(1)>`, `</small><svg onload=alert(1)>`,
	`javascript:alert(1)`, `{{.Code}}`, `<!--`, `]]>`, "\r\nSet-Cookie: a=b", "\r\n\r\n<script>alert(1)</script>", "\x00<b>", `&lt;script&gt;`,
	`%3Cscript%3E`, "\u2028<script>", `</title><script>alert(1)</script>`, `" onmouseover="alert(1)`,
}

func TestNothingOfTheQueryIsShown(t *testing.T) { // THR-05, OIDC-06
	t.Parallel()
	a := newApp(t)
	innocent := a.browser.NoRedirects().Get("/auth/callback?state=x").Body
	for _, script := range scripts {
		for _, name := range []string{"state", "code", "iss", "error", "error_description", "error_uri", "returnTo", "x"} {
			query := url.Values{"state": {"x"}, name: {script}}.Encode()
			r := a.browser.NoRedirects().Get("/auth/callback?" + query)
			if r.Body != innocent || r.StatusCode != 400 || len(r.Cookies()) > 0 {
				t.Errorf("%s=%q is shown: %d %s", name, script, r.StatusCode, r.Body)
			}
		}
	}
	for _, script := range scripts { // with a state that is right
		login := "/auth/login?" + url.Values{"returnTo": {"/a?" + script}}.Encode()
		callback := edited(a.returned(t, login), func(q url.Values) {
			q.Del("code")
			q.Set("error", "access_denied")
			q.Set("error_description", script+"described")
			q.Set("error_uri", "https://evil.test/"+script)
		})
		r := a.browser.NoRedirects().Get(callback)
		if errorCode(r) != "access_denied" {
			t.Errorf("%q: %d %q", script, r.StatusCode, errorCode(r))
		}
		for _, bad := range []string{"described", "evil.test", "<script", "<svg", "<img", "onerror=", `" on`, "javascript:"} {
			if strings.Contains(r.Body, bad) {
				t.Errorf("%q: the page has %q: %s", script, bad, r.Body)
			}
		}
		if slices.ContainsFunc(r.Cookies(), func(c *http.Cookie) bool { return c.Name == "a" }) {
			t.Errorf("%q became a header", script)
		}
	}
}

// FuzzCallback sends any query to the callback of a browser whose login is under way; STATE stands for its state (THR-06).
// None may panic, be answered with a session, or blame us.
func FuzzCallback(f *testing.F) {
	for _, query := range []string{
		"", "&", "=", "state", "state=", "state=STATE", "state=STATE&code=", "state=STATE&code=x", "state=STATE&code=x&iss=https%3A%2F%2Fop.test%2F",
		"state=STATE&error=", "state=STATE&error=access_denied", "state=STATE&error=\x00", "state=STATE&error=server_error&error_description=<b>",
		"state=STATE&state=STATE", "code=%zz", "state=%00", "state=STATE;code=x", "%", "state=STATE&response=x", "a[]=1&a[b]=2",
		"state=" + strings.Repeat("S", 70_000), "state=STATE&code=" + strings.Repeat("c", 5000), strings.Repeat("a=b&", 20_000), "state=\xff\xfe",
	} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		a := newApp(t)
		_, target := a.started(t, "/auth/login")
		r := a.browser.Request(http.MethodGet, "/auth/callback")
		r.URL.RawQuery = strings.ReplaceAll(query, "STATE", target.Query().Get("state"))
		w := httptest.NewRecorder()
		a.handler.ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest && w.Code != http.StatusBadGateway {
			t.Errorf("answered %d", w.Code)
		}
		for _, line := range w.Header()["Set-Cookie"] {
			if strings.Contains(line, "session") {
				t.Errorf("a session cookie is set: %s", line)
			}
		}
	})
}
