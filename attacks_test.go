package oidcauth_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// Each test here is an attack, or a mishap, that once succeeded.

var bob = oidcauthtest.User{Subject: "bob"}

// theme sets a value of a session.
func theme(s *oidcauth.Session) error { return s.SetValue("theme", "dark") }

// themePage says which theme the session of a request has.
func (a *app) themePage(w http.ResponseWriter, r *http.Request) {
	var value string
	if s, err := a.GetSession(r); err == nil {
		_, err = s.Value("theme", &value)
		value = strings.TrimSpace(fmt.Sprint(s.Subject, " ", value))
		if err != nil {
			value = err.Error()
		}
	}
	_, _ = w.Write([]byte(value))
}

// comeBack signs a user in at the provider. It returns the callback, to which the browser has not gone yet, with the
// cookies for it.
func (a *app) comeBack(t *testing.T, user oidcauthtest.User) (callback, cookies string) {
	t.Helper()
	a.op.SetUser(user)
	callback = a.returned(t, "/auth/login")
	return callback, a.browser.Request(http.MethodGet, callback).Header.Get("Cookie")
}

func TestUpdateSessionInOnLoginIsOfTheNewSession(t *testing.T) { // S38
	t.Parallel()
	var client *oidcauth.Client
	a := newApp(t, func(o *oidcauth.Options) {
		o.OnLogin = func(w http.ResponseWriter, r *http.Request, s *oidcauth.Session, returnTo string) error {
			if seen, err := client.GetSession(r); err != nil || seen.Handle != s.Handle {
				t.Errorf("in the login of %s GetSession returns %v, %v", s.Subject, seen, err)
			}
			if err := client.UpdateSession(w, r, theme); err != nil {
				t.Errorf("in the login of %s: %v", s.Subject, err)
			}
			http.Redirect(w, r, returnTo, http.StatusFound)
			return nil
		}
	})
	client = a.Client
	a.mux.HandleFunc("/theme", a.themePage)
	for _, user := range []oidcauthtest.User{oidcauthtest.Alice, bob} {
		a.browser.SignIn(user)
		if got, want := a.browser.Get("/theme").Body, user.Subject+" dark"; got != want {
			t.Errorf("the session is %q, want %q", got, want)
		}
	}
}

func TestAGuardAroundTheRoutesDoesNotOverwriteALogin(t *testing.T) { // S38, THR-11
	t.Parallel()
	tests := []struct {
		name   string
		base   string
		around func(a *app, h http.Handler) http.Handler
	}{
		{"a guard around everything", "", func(a *app, h http.Handler) http.Handler { return a.RequireAuth(h) }},
		{"Wrap around a stripped prefix", "/base", func(a *app, h http.Handler) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("/base/auth/", http.StripPrefix("/base", a.Handler()))
			mux.Handle("/", a.mux)
			return a.Wrap(mux)
		}},
		{"a guard around a stripped prefix", "/base", func(a *app, h http.Handler) http.Handler {
			return a.RequireAuth(http.StripPrefix("/base", h))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				op := oidcauthtest.NewProvider(t, func(o *oidcauth.Options) {
					o.BaseURL += tt.base
					o.PrefixStripped = tt.base != ""
					o.IdleTimeout = 30 * time.Minute
				})
				a := newAppAt(t, op)
				h := http.StripPrefix(tt.base, a.handler)
				b := op.NewBrowser(h)
				b.SignIn(oidcauthtest.Alice)
				b.Host("https://app.test", tt.around(a, a.handler))
				op.SetUser(bob)
				r := b.From("https://app.test").NoRedirects().Get(tt.base + "/auth/login")
				time.Sleep(2 * time.Minute) // bob types his password, and alice's session is due to be extended
				if page := b.Get(r.Location()); page.StatusCode != http.StatusOK {
					t.Errorf("the login ended at %s with %d", page.URL, page.StatusCode)
				}
				if who := b.Get(tt.base + "/").Body; who != "bob" {
					t.Errorf("bob signed in, and the session is of %q", who)
				}
			})
		})
	}
}

func TestAGuardAroundEverythingDoesNotLoop(t *testing.T) { // OIDC-02
	t.Parallel()
	for name, guard := range map[string]func(*app) http.Handler{
		"around Wrap":         func(a *app) http.Handler { return a.RequireAuth(a.handler) },
		"around the mux":      func(a *app) http.Handler { return a.RequireAuth(a.mux) },
		"with options":        func(a *app) http.Handler { return a.RequireAuthWith(oidcauth.RequireOptions{})(a.mux) },
		"inside and outside":  func(a *app) http.Handler { return a.RequireAuth(a.Wrap(a.RequireAuth(a.mux))) },
		"of programs, around": func(a *app) http.Handler { return a.RequireAuthAPI(a.mux) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t)
			b := a.op.NewBrowser(guard(a))
			a.op.SetUser(oidcauthtest.Alice)
			first := "/account"
			if strings.HasPrefix(name, "of programs") {
				first = "/auth/login?returnTo=/account"
			}
			page := b.Get(first)
			if page.StatusCode != http.StatusOK || page.Body != "alice" || page.URL.Path != "/account" {
				t.Errorf("answered %d %q at %s", page.StatusCode, page.Body, page.URL.Path)
			}
			if n := a.op.Count("authorize"); n != 1 {
				t.Errorf("%d logins, want 1", n)
			}
		})
	}
}

// TestFailedCallbacksDoNotFillMemory is not parallel: it looks at the heap.
func TestFailedCallbacksDoNotFillMemory(t *testing.T) { // S24
	a := newApp(t, func(o *oidcauth.Options) {
		o.Logger, o.OnEvent = slog.New(slog.DiscardHandler), nil
		o.OnError = func(w http.ResponseWriter, _ *http.Request, e *oidcauth.Error) { w.WriteHeader(e.Status) }
	})
	long := strings.Repeat("x", 60_000)
	fail := func(t *testing.T, query string) {
		t.Helper()
		r := ask(a.handler, "GET", "/auth/login")
		target, err := r.Location()
		if err != nil {
			t.Fatal(err)
		}
		pair, _, _ := strings.Cut(r.Header.Get("Set-Cookie"), ";")
		query += "&state=" + target.Query().Get("state")
		if r = ask(a.handler, "GET", "/auth/callback?"+query, "Cookie", pair); r.StatusCode != http.StatusBadRequest {
			t.Fatalf("answered %d, want 400", r.StatusCode)
		}
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what the first one put off
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for name, query := range map[string]string{
		"a long description":            "error=access_denied&error_description=" + long,
		"a long description in escapes": "error=access_denied&error_description=" + strings.Repeat("%C3%A4", 10_000),
		"a code of somebody's making":   "error=x&other=" + long,
		"a code in escapes":             "error=%78y&other=" + long,
		"a code that is none":           "error=" + long,
		"another issuer":                "code=x&iss=" + long,
		"no code":                       "iss=" + url.QueryEscape(a.op.Issuer()) + "&other=" + long,
	} {
		t.Run(name, func(t *testing.T) {
			const n, most = 100, 4 << 10
			fail(t, query)
			before := heap()
			for range n {
				fail(t, query)
			}
			if each := (heap() - before) / n; each > most {
				t.Errorf("each failed callback keeps %d bytes, want at most %d", each, most)
			}
		})
	}
	runtime.KeepAlive(a)
}

func TestAHookThatPanicsLeavesNoSession(t *testing.T) { // S38, S44
	t.Parallel()
	boom := errors.New("a hook of the application")
	hooks := map[string]func(*oidcauth.Options){
		"OnLogin": func(o *oidcauth.Options) {
			o.OnLogin = func(http.ResponseWriter, *http.Request, *oidcauth.Session, string) error { panic(boom) }
		},
		"BeforeSave": func(o *oidcauth.Options) {
			o.BeforeSave = func(context.Context, *oidcauth.Session) error { panic(boom) }
		},
	}
	for name, hook := range hooks {
		for _, guarded := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, below a guard: %t", name, guarded), func(t *testing.T) {
				t.Parallel()
				a := newApp(t, hook)
				h := a.handler
				if guarded {
					h = a.RequireAuth(h)
				}
				recovering := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					defer func() {
						if p := recover(); p != boom {
							t.Errorf("recovered %v", p)
						}
						w.WriteHeader(http.StatusInternalServerError)
					}()
					h.ServeHTTP(w, r)
				})
				callback, cookie := a.comeBack(t, oidcauthtest.Alice)
				r := ask(recovering, "GET", callback, "Cookie", cookie)
				a.settle(t)
				if session := kept(r.Header) != ""; session || r.StatusCode != http.StatusInternalServerError {
					t.Errorf("answered %d, with a session: %t", r.StatusCode, session)
				}
				if n := a.op.ActiveRefreshTokens(""); n != 0 || a.op.Count("token") != 1 {
					t.Errorf("%d refresh tokens are left of %d logins", n, a.op.Count("token"))
				}
			})
		}
	}
}

func TestARefusalIsNever200(t *testing.T) { // HYG-05
	t.Parallel()
	a, fresh := newApp(t), newApp(t) // fresh has not asked the provider for anything yet
	session := a.cookies(t, oidcauthtest.Alice)
	unsure := func(*http.Request, *oidcauth.Session) error { return fmt.Errorf("database: %w", context.Canceled) }
	tests := []struct {
		name, target string
		handler      http.Handler
	}{
		{"a guard for programs", "/page", a.RequireAuthWith(oidcauth.RequireOptions{API: true, Check: unsure})(a.mux)},
		{"a guard for pages", "/page", a.RequireAuthWith(oidcauth.RequireOptions{Check: unsure})(a.mux)},
		{"the login route", "/auth/login", fresh.handler},
		{"Error", "/page", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a.Error(w, r, fmt.Errorf("database: %w", r.Context().Err()))
		})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // a client that has closed its half of the connection is still there to read
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, tt.target, http.NoBody)
			r.Header.Set("Cookie", session)
			if status := answerTo(tt.handler, r).StatusCode; status < 400 {
				t.Errorf("answered %d", status)
			}
		})
	}
}

func TestPagesWithManyAmpersandsCanBeLoggedInFrom(t *testing.T) { // S19
	t.Parallel()
	tests := []struct{ name, page, back string }{
		{"50 parameters", "/account?" + strings.Repeat("a=1&", 50), ""},
		{"250 parameters", "/account?" + strings.Repeat("a=1&", 250), ""},
		{"500 less-than signs", "/account?q=" + strings.Repeat("<", 500), ""},
		{"more than is remembered", "/account?" + strings.Repeat("a=1&", 1000), "/account"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t)
			a.op.SetUser(oidcauthtest.Alice)
			want := cmp.Or(tt.back, tt.page)
			if page := a.browser.Get(tt.page); page.Body != "alice" || page.URL.RequestURI() != want {
				t.Errorf("ended at %s with %d %.80q", page.URL.RequestURI(), page.StatusCode, page.Body)
			}
		})
	}
	t.Run("a page that has no room beside the scopes", func(t *testing.T) {
		t.Parallel()
		a := newApp(t)
		a.op.SetUser(oidcauthtest.Alice)
		a.signInBy(&oidcauth.LoginOptions{
			ReturnTo: "/account?" + strings.Repeat("a", 1000), Scopes: []string{strings.Repeat("s", 1500)},
		})
		if page := a.browser.Get("/sign-in"); page.Body != "alice" || page.URL.RequestURI() != "/" {
			t.Errorf("ended at %s with %d %.80q", page.URL.RequestURI(), page.StatusCode, page.Body)
		}
	})
}
