package oidcauth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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

// A tracer is a RoundTripper of the application that panics at one of the provider's endpoints.
type tracer struct {
	http.RoundTripper
	path string
}

func (tr tracer) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.Contains(r.URL.Path, tr.path) {
		panic("assignment to entry in nil map")
	}
	return tr.RoundTripper.RoundTrip(r)
}

// Some of these calls run in goroutines that net/http does not watch: a panic there ends the process.
func TestAPanickingTransportIsAnError(t *testing.T) { // HYG-05
	t.Parallel()
	for _, tt := range []struct {
		path   string
		status int // of the login
	}{
		{"/.well-known/", http.StatusBadGateway},
		{"/jwks", http.StatusBadGateway},
		{"/revoke", http.StatusOK},
	} {
		t.Run(tt.path, func(t *testing.T) {
			t.Parallel()
			a := newApp(t, func(o *oidcauth.Options) {
				client := *o.HTTPClient
				client.Transport = tracer{client.Transport, tt.path}
				o.HTTPClient = &client
			})
			a.op.SetUser(oidcauthtest.Alice)
			if r := a.browser.Get("/auth/login"); r.StatusCode != tt.status {
				t.Errorf("the login is answered %d, want %d", r.StatusCode, tt.status)
			}
			if tt.status == http.StatusOK {
				a.browser.SignOut()
			}
			if who := a.browser.Get("/").Body; who != nobody {
				t.Errorf("the session is of %q", who)
			}
			a.settle(t)
		})
	}
}

func TestAGrantThatCannotBeUsedIsRevoked(t *testing.T) { // S44
	t.Parallel()
	for name, edit := range map[string]func(map[string]any){
		"a token type that is not ours": func(m map[string]any) { m["token_type"] = "mac" },
		"no access token":               func(m map[string]any) { delete(m, "access_token") },
		"an access token that is none":  func(m map[string]any) { m["access_token"] = 1 },
		"a lifetime that is none":       func(m map[string]any) { m["expires_in"] = "soon" },
		"no ID token":                   func(m map[string]any) { delete(m, "id_token") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t)
			a.op.EditTokenResponse(edit)
			a.op.SetUser(oidcauthtest.Alice)
			if r := a.browser.Get("/auth/login"); r.StatusCode != http.StatusBadGateway || setsSession(r) {
				t.Errorf("answered %d %q", r.StatusCode, errorCode(r))
			}
			a.settle(t)
			if n := a.op.ActiveRefreshTokens(""); n != 0 || a.op.Count("token") != 1 || a.op.Count("revoke") != 1 {
				t.Errorf("%d refresh tokens are left, %d were revoked", n, a.op.Count("revoke"))
			}
		})
	}
}

// A spoken error is one whose text would be among its JSON.
type spoken struct{ Text string }

func (e spoken) Error() string { return e.Text }

func TestEventsAndErrorsAsJSONHaveNoForeignText(t *testing.T) { // THR-05, S33
	t.Parallel()
	const canary = "CANARY"
	a := newApp(t, func(o *oidcauth.Options) {
		o.OnError = func(w http.ResponseWriter, _ *http.Request, e *oidcauth.Error) {
			w.WriteHeader(e.Status)
			_ = json.NewEncoder(w).Encode(e)
		}
	})
	a.op.EditTokenResponse(func(m map[string]any) {
		m["error"], m["error_description"], m["mfa_token"] = "mfa_required", canary, canary
	})
	callback, cookie := a.comeBack(t, oidcauthtest.Alice)
	foreign, foreignCookie := a.comeBack(t, oidcauthtest.Alice)
	foreign = edited(foreign, func(q url.Values) {
		q.Del("code")
		q.Set("error", "access_denied")
		q.Set("error_description", canary)
	})
	answers := []string{
		body(ask(a.handler, "GET", callback, "Cookie", cookie)),
		body(ask(a.handler, "GET", foreign, "Cookie", foreignCookie)),
	}
	for i, code := range []string{"exchange_failed", "access_denied"} {
		if !strings.Contains(answers[i], code) || strings.Contains(answers[i], canary) {
			t.Errorf("the error is %s", answers[i])
		}
	}
	for _, e := range []oidcauth.Error{{Err: spoken{canary}}, {ReturnTo: "/?reset_token=" + canary}} {
		if encoded, err := json.Marshal(e); err != nil || strings.Contains(string(encoded), canary) {
			t.Errorf("an error is encoded as %s (%v)", encoded, err)
		}
	}
	var events bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&events, nil))
	for _, e := range a.logs.all() {
		log.Info("audit", "event", e)
	}
	if s := events.String(); strings.Count(s, "login.failed") != 2 || strings.Contains(s, canary) {
		t.Errorf("the events are %s", s)
	}
}

func TestAProviderErrorPrintsItsCodeAlone(t *testing.T) { // THR-05
	t.Parallel()
	const canary = "CANARY"
	e := &oidcauth.ProviderError{Code: "the_code", Description: canary, Raw: map[string]any{"mfa_token": canary}}
	values := []any{
		e, *e,
		[]oidcauth.ProviderError{*e},
		struct{ Err error }{e},
		struct{ Value oidcauth.ProviderError }{*e},
		oidcauth.Error{Err: e},
		&oidcauth.Error{Err: e},
		oidcauth.Event{Err: e},
		&oidcauth.Event{Err: e},
	}
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, canary) {
				t.Errorf("%s of a %T prints %s", verb, v, s)
			}
		}
		if s, err := json.Marshal(v); strings.Contains(string(s), canary) {
			t.Errorf("a %T is encoded as %s (%v)", v, s, err)
		}
	}
}

func TestCloseWhileTokensAreRevoked(t *testing.T) { // RIL-07
	t.Parallel()
	t.Run("by many at once", func(t *testing.T) { // for the race detector
		t.Parallel()
		a := newApp(t)
		var signedIn []string
		for range 10 {
			signedIn = append(signedIn, a.cookies(t, oidcauthtest.Alice))
		}
		var all sync.WaitGroup
		for _, cookie := range signedIn {
			all.Go(func() { ask(a.handler, "POST", "/auth/logout", "Cookie", cookie) })
			all.Go(func() { a.settle(t) })
		}
		all.Wait()
		a.settle(t)
		if n := a.op.ActiveRefreshTokens(""); n != 0 || a.op.Count("revoke") != len(signedIn) {
			t.Errorf("%d refresh tokens are left after %d revocations", n, a.op.Count("revoke"))
		}
	})
	t.Run("with nothing under way it never fails", func(t *testing.T) {
		t.Parallel()
		a := newApp(t)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for range 100 {
			if err := a.Close(ended); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("it waits no longer than it is told to, and later again", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			a := newApp(t)
			a.browser.SignIn(oidcauthtest.Alice)
			a.op.Delay("revoke", time.Second)
			a.browser.SignOut()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if err := a.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Close returns %v", err)
			}
			a.settle(t)
			if n := a.op.ActiveRefreshTokens(""); n != 0 {
				t.Errorf("%d refresh tokens are left", n)
			}
		})
	})
	t.Run("a logout while it waits is revoked too", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			a := newApp(t)
			first, second := a.cookies(t, oidcauthtest.Alice), a.cookies(t, bob)
			a.op.Delay("revoke", time.Second)
			ask(a.handler, "POST", "/auth/logout", "Cookie", first)
			closed := make(chan error)
			go func() { closed <- a.Close(t.Context()) }()
			synctest.Wait()
			ask(a.handler, "POST", "/auth/logout", "Cookie", second)
			if err := <-closed; err != nil {
				t.Errorf("Close returns %v", err)
			}
			if n := a.op.ActiveRefreshTokens(""); n != 0 {
				t.Errorf("%d refresh tokens are left", n)
			}
		})
	})
}

func TestAUsedStateIsUsed(t *testing.T) { // S24, OIDC-02
	t.Parallel()
	for name, edit := range map[string]func(url.Values){
		"with another code":      func(q url.Values) { q.Set("code", "junk") },
		"with another issuer":    func(q url.Values) { q.Set("iss", "https://evil.test/") },
		"with a further one":     func(q url.Values) { q.Set("x", "1") },
		"with an error":          func(q url.Values) { q.Del("code"); q.Set("error", "access_denied") },
		"with neither of either": func(q url.Values) { q.Del("code") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t)
			callback, cookie := a.comeBack(t, oidcauthtest.Alice)
			first := ask(a.handler, "GET", callback, "Cookie", cookie)
			if kept(first.Header) == "" {
				t.Fatalf("the login is answered %d without a session", first.StatusCode)
			}
			again := ask(a.handler, "GET", edited(callback, edit), "Cookie", cookie)
			if session := kept(again.Header) != ""; session || again.StatusCode != http.StatusBadRequest {
				t.Errorf("answered %d, with a session: %t", again.StatusCode, session)
			}
			if n := a.op.Count("token"); n != 1 {
				t.Errorf("%d codes were exchanged, want 1", n)
			}
			if n := a.op.ActiveRefreshTokens(""); n != 1 {
				t.Errorf("the session of the first has %d refresh tokens", n)
			}
		})
	}
}

func TestARequestMadeWithAnothersContextHasItsOwnSession(t *testing.T) { // S01
	t.Parallel()
	a := newApp(t)
	alices, bobs := a.cookies(t, oidcauthtest.Alice), a.cookies(t, bob)
	for name, tt := range map[string]struct {
		cookie, want string
		status       int
	}{
		"no cookie":                        {"", "", http.StatusUnauthorized},
		"another's cookie":                 {bobs, "bob", http.StatusOK},
		"the same cookie":                  {alices, "alice", http.StatusOK},
		"a cookie that is not a session's": {"locale=en", "", http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outer := a.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				inner := httptest.NewRequestWithContext(r.Context(), http.MethodGet, "/account", http.NoBody)
				inner.Header.Set("Cookie", tt.cookie)
				resp := answerTo(a.mux, inner)
				if text := body(resp); resp.StatusCode != tt.status || tt.want != "" && text != tt.want {
					t.Errorf("answered %d %q, want %d %q", resp.StatusCode, text, tt.status, tt.want)
				}
			}))
			ask(outer, "GET", "/batch", "Cookie", alices)
		})
	}
}

// Middleware below Wrap that hands on a changed copy of the request must not bring an old session back.
func TestMiddlewareThatAddsACookieChangesNothing(t *testing.T) { // S22
	t.Parallel()
	add := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r = r.Clone(r.Context())
			r.AddCookie(&http.Cookie{Name: "locale", Value: "en"})
			h.ServeHTTP(w, r)
		})
	}
	for _, guarded := range []bool{false, true} {
		t.Run(fmt.Sprintf("with a guard inside: %t", guarded), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t)
				pages := http.NewServeMux()
				pages.HandleFunc("/update", func(w http.ResponseWriter, r *http.Request) {
					if err := a.UpdateSession(w, r, theme); err != nil {
						t.Errorf("UpdateSession: %v", err)
					}
				})
				pages.HandleFunc("/logout", func(w http.ResponseWriter, r *http.Request) {
					if err := a.Logout(w, r, &oidcauth.LogoutOptions{Local: true}); err != nil {
						t.Errorf("Logout: %v", err)
					}
				})
				pages.HandleFunc("/theme", a.themePage)
				h := http.Handler(pages)
				if guarded {
					h = a.RequireAuth(h)
				}
				b := a.op.NewBrowser(a.Wrap(add(h)))
				b.SignIn(oidcauthtest.Alice)
				time.Sleep(20 * time.Minute) // the session is due to be extended
				b.Get("/update")
				if got := b.Get("/theme").Body; got != "alice dark" {
					t.Errorf("after the update the session is %q", got)
				}
				time.Sleep(20 * time.Minute)
				b.NoRedirects().Get("/logout")
				if slices.ContainsFunc(a.afterLogout(t, b), isSession) {
					t.Error("the logout left the session")
				}
			})
		})
	}
}

func TestTryAgainLeavesTheQueryOut(t *testing.T) { // S33
	t.Parallel()
	a := newApp(t)
	a.op.Change(func(k *oidcauthtest.Knobs) { k.AuthorizeError = "access_denied" })
	page := a.browser.Get("/account?reset_token=SECRET")
	if !strings.Contains(page.Body, `href="/auth/login?returnTo=%2Faccount"`) || strings.Contains(page.Body, "SECRET") {
		t.Errorf("answered %d %s", page.StatusCode, page.Body)
	}
}

func TestALogoutAfterTheHeaderStillRevokes(t *testing.T) { // RIL-07
	t.Parallel()
	a := newApp(t)
	a.mux.HandleFunc("/bye", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("bye"))
		if err := a.Logout(w, r, nil); !errors.Is(err, oidcauth.ErrHeaderWritten) {
			t.Errorf("Logout returns %v", err)
		}
	})
	a.browser.SignIn(oidcauthtest.Alice)
	a.browser.Get("/bye")
	a.settle(t)
	if n := a.op.ActiveRefreshTokens(""); n != 0 {
		t.Errorf("%d refresh tokens are left", n)
	}
}

// A logout inside OnLogin holds even if its error, for want of a provider's logout URL, ends the login.
func TestALogoutInAFailingOnLoginStaysOne(t *testing.T) { // RIL-02
	t.Parallel()
	var client *oidcauth.Client
	refuse := false
	a := newApp(t, func(o *oidcauth.Options) {
		o.LogoutURL = func(oidcauth.LogoutURLParams) (string, error) { return "", errors.New("not today") }
		o.OnLogin = func(w http.ResponseWriter, r *http.Request, _ *oidcauth.Session, returnTo string) error {
			if refuse {
				return client.Logout(w, r, nil)
			}
			http.Redirect(w, r, returnTo, http.StatusFound)
			return nil
		}
	})
	client = a.Client
	a.browser.SignIn(oidcauthtest.Alice)
	refuse = true
	a.op.SetUser(bob)
	if r := a.browser.From("https://app.test").Get("/auth/login"); errorCode(r) != "logout_failed" {
		t.Errorf("answered %d %q", r.StatusCode, errorCode(r))
	}
	if who := a.browser.Get("/").Body; who != nobody {
		t.Errorf("the session is of %q", who)
	}
}

func TestNoSessionHasNoValues(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*oidcauth.Session{"nil": nil, "zero": {}, "of a test": oidcauth.NewSession(nil)} {
		var value any
		if err := s.SetValue("theme", "dark"); err == nil {
			t.Errorf("%s: SetValue returns no error", name)
		}
		if ok, err := s.Value("theme", &value); ok || err != nil {
			t.Errorf("%s: Value returns %t, %v", name, ok, err)
		}
	}
}
