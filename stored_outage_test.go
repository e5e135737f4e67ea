package oidcauth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

var errDown = errors.New("connection refused")

// outages are the ways in which a store is down, and how long a call of it takes then.
var outages = map[string]struct {
	begin func(f *oidcauthtest.FaultyStore, methods ...string)
	takes time.Duration
}{
	"refuses": {func(f *oidcauthtest.FaultyStore, methods ...string) { f.Fail(errDown, methods...) }, 0},
	"hangs":   {(*oidcauthtest.FaultyStore).Hang, 2 * time.Second},
}

// S36, lesson 23: public pages survive, and what needs the session says 503. Nobody is logged out by it, silently or not.
func TestAStoreThatIsDownLogsNobodyOut(t *testing.T) {
	t.Parallel()
	document := metadata("same-origin", "navigate", "document")
	for outage, down := range outages {
		for _, tt := range []struct {
			name, path string
			header     []string
			calls      int // of the store
			status     int
		}{
			{"a public page", "/public", document, 0, 200},
			{"a page behind a guard", "/account", document, 1, 503},
			{"a script's request behind a guard", "/account", byScript(""), 1, 503},
			{"the profile", "/auth/profile", nil, 1, 503},
			{"the access token for a script", tokenRoute, byScript(""), 1, 503},
			{"an access token", "/token", nil, 1, 503},
			{"a value", "/set?cart=1", nil, 1, 503},
			{"the start of a login", "/auth/login", document, 0, 302},
		} {
			t.Run("it "+outage+", "+tt.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					p := newProcess(t)
					cookie := p.login()
					down.begin(p.faults)
					began := time.Now()
					resp := ask(p.handler, "GET", tt.path, append([]string{"Cookie", cookie}, tt.header...)...)
					if took, want := time.Since(began), down.takes*time.Duration(tt.calls); took != want {
						t.Errorf("it took %v, want %v", took, want)
					}
					if resp.StatusCode != tt.status || len(sessionLines(resp.Header)) > 0 {
						t.Errorf("status %d, session cookies %d", resp.StatusCode, len(sessionLines(resp.Header)))
					}
					if text := body(resp); tt.status == 503 &&
						(!strings.Contains(text, "store_unavailable") || resp.Header.Get("Retry-After") == "") {
						t.Errorf("Retry-After is %q: %s", resp.Header.Get("Retry-After"), text)
					}
					p.faults.Heal()
					time.Sleep(time.Second)
					if who := p.who(cookie); who != "alice" {
						t.Errorf("afterwards the page says %q", who)
					}
					p.settle(t)
				})
			})
		}
	}
}

// S36: application code can tell an outage from nobody, wherever it stands.
func TestAnOutageIsNoMissingSession(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	cookie := p.login()
	checks := map[string]func(w http.ResponseWriter, r *http.Request) error{
		"GetSession": func(_ http.ResponseWriter, r *http.Request) error { _, err := p.GetSession(r); return err },
		"GetSession once more": func(_ http.ResponseWriter, r *http.Request) error {
			_, _ = p.GetSession(r)
			_, err := p.GetSession(r)
			return err
		},
		"UpdateSession": func(w http.ResponseWriter, r *http.Request) error { return p.UpdateSession(w, r, set("cart", 1)) },
		"AccessToken":   func(w http.ResponseWriter, r *http.Request) error { _, err := p.AccessToken(w, r, nil); return err },
		"TokenSource":   func(w http.ResponseWriter, r *http.Request) error { _, err := p.TokenSource(w, r, nil); return err },
		"HTTPClient": func(w http.ResponseWriter, r *http.Request) error {
			_, err := p.HTTPClient(w, r, nil, theAPI)
			return err
		},
	}
	for name, check := range checks {
		for place, around := range map[string]func(http.Handler) http.Handler{
			"below Wrap": p.Wrap, "bare": func(h http.Handler) http.Handler { return h },
		} {
			p.faults.Fail(errDown)
			ask(around(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				err := check(w, r)
				if !errors.Is(err, oidcauth.ErrUnavailable) || !errors.Is(err, errDown) || errors.Is(err, oidcauth.ErrNoSession) {
					t.Errorf("%s %s: %v", name, place, err)
				}
				if s, ok := oidcauth.SessionFromContext(r.Context()); ok {
					t.Errorf("%s %s: SessionFromContext has %v", name, place, s)
				}
			})), "GET", "/", "Cookie", cookie)
			p.faults.Heal()
			p.get("/", cookie) // so that no three failures follow one another
		}
	}
}

// S36: after three failures in a row nobody waits, for a second; then one try tells.
func TestAfterThreeFailuresNobodyWaitsForASecond(t *testing.T) {
	t.Parallel()
	for _, timeout := range []time.Duration{0, 300 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			p := newProcess(t, func(o *oidcauth.Options) { o.StoreTimeout = timeout })
			cookie := p.login()
			p.faults.Hang()
			try := func(status int, took time.Duration) {
				t.Helper()
				began := time.Now()
				resp := p.get("/account", cookie)
				if got := time.Since(began); got != took || resp.StatusCode != status {
					t.Errorf("at %s: status %d after %v, want %d after %v", clock(), resp.StatusCode, got, status, took)
				}
			}
			full := max(timeout, 300*time.Millisecond)
			if timeout == 0 {
				full = 2 * time.Second
			}
			for range 3 {
				try(503, full)
			}
			calls := p.faults.Calls().Gets
			for range 9 {
				try(503, 0)
				time.Sleep(100 * time.Millisecond)
			}
			if got := p.faults.Calls().Gets; got != calls {
				t.Errorf("the store is asked %d times meanwhile", got-calls)
			}
			time.Sleep(100 * time.Millisecond)
			try(503, full)
			try(503, 0)
			p.faults.Heal()
			try(503, 0) // nobody has asked yet
			time.Sleep(time.Second)
			try(200, 0)
			p.faults.FailNext(2, errDown) // the count has begun anew
			try(503, 0)
			try(503, 0)
			try(200, 0)
			p.settle(t)
		})
	}
}

// S36: whoever gives up says nothing about the store, and is not told that it is down.
func TestRequestsThatGiveUpAreNoFailureOfTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		cookie := p.login()
		p.faults.Hang("Get")
		for range 10 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(100*time.Millisecond, cancel)
			r := httptest.NewRequestWithContext(ctx, "GET", "/", http.NoBody)
			r.Header.Set("Cookie", cookie)
			if _, err := p.GetSession(r); !errors.Is(err, context.Canceled) || errors.Is(err, oidcauth.ErrNoSession) {
				t.Errorf("%v", err)
			}
		}
		p.faults.Heal()
		if who := p.who(cookie); who != "alice" {
			t.Errorf("then the page says %q", who)
		}
		p.settle(t)
	})
}

// A server, or a middleware, that gives each request less time than StoreTimeout: it is the store's fault all the same.
func TestARequestWithADeadlineIsAnswered503(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		cookie := p.login()
		p.faults.Hang("Get")
		for _, took := range []time.Duration{time.Second, time.Second, time.Second, 0} { // then it is known to be down
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			r := httptest.NewRequestWithContext(ctx, "GET", "/account", http.NoBody)
			r.Header.Set("Cookie", cookie)
			began := time.Now()
			resp := answerTo(p.handler, r)
			if resp.StatusCode != http.StatusServiceUnavailable || len(resp.Cookies()) > 0 || time.Since(began) != took {
				t.Errorf("status %d after %v: %s", resp.StatusCode, time.Since(began), body(resp))
			}
		}
	})
}

// S36, S44: a login that cannot be kept is none, and leaves nothing at the provider.
func TestALoginWhileTheStoreIsDownFails(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*oidcauthtest.FaultyStore){
		"it refuses to save": func(f *oidcauthtest.FaultyStore) { f.Fail(errDown, "Set") },
		"it refuses all":     func(f *oidcauthtest.FaultyStore) { f.Fail(errDown) },
		"it hangs":           func(f *oidcauthtest.FaultyStore) { f.Hang("Set") },
		"the answer is lost": func(f *oidcauthtest.FaultyStore) { f.LoseAnswers(-1, errDown, "Set") },
		"the answer is late": func(f *oidcauthtest.FaultyStore) { f.LoseAnswers(-1, nil, "Set") },
	} {
		for _, mode := range cookieModes {
			t.Run(name+"/"+mode.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					p := newProcess(t, mode.edit...)
					begin(p.faults)
					p.op.SetUser(oidcauthtest.Alice)
					page := p.browser.From("https://app.test").Get("/auth/login?returnTo=/account")
					if page.StatusCode != 503 || errorCode(page) != "store_unavailable" || page.Header.Get("Retry-After") == "" {
						t.Errorf("status %d, %q", page.StatusCode, errorCode(page))
					}
					p.settle(t)
					if n := p.op.ActiveRefreshTokens("alice"); n != 0 {
						t.Errorf("%d refresh tokens are left", n)
					}
					if left := p.browser.Cookies("/"); len(left) > 0 {
						t.Errorf("%s is left", left[0].Name)
					}
					if got := p.logs.names(); !slices.Equal(got, []string{"login.started", "login.failed"}) {
						t.Errorf("the events are %q", got)
					}
					p.faults.Heal()
					again := strings.Contains(page.Body, p.LoginURL("/account"))
					page = p.browser.From("https://app.test").Get(p.LoginURL("/account"))
					if !again || page.Body != "alice" || page.URL.Path != "/account" {
						t.Errorf("linked: %v, and tried again it ends at %s with %q", again, page.URL, page.Body)
					}
					p.settle(t)
				})
			})
		}
	}
}

// A page does not wait for the idle time to be extended, and does not fail with it.
func TestAPageIsAnsweredAlthoughTheSessionCannotBeExtended(t *testing.T) {
	t.Parallel()
	for outage, down := range outages {
		synctest.Test(t, func(t *testing.T) {
			p := newProcess(t)
			cookie := p.login()
			time.Sleep(20 * time.Minute)
			down.begin(p.faults, "Set")
			for range 3 {
				began := time.Now()
				if who := p.who(cookie); who != "alice" || time.Since(began) != 0 {
					t.Errorf("it %s: the page says %q after %v", outage, who, time.Since(began))
				}
			}
			p.settle(t)
			if !strings.Contains(p.logs.String(), "session not extended") {
				t.Errorf("it %s: nothing is logged", outage)
			}
			p.faults.Heal()
			p.get("/", cookie)
			p.settle(t)
			if s := sessionOf(t, p.app, cookie); time.Since(s.LastSeenAt) > time.Minute {
				t.Errorf("it %s: afterwards the session was last seen %v ago", outage, time.Since(s.LastSeenAt))
			}
		})
	}
}

// A store with a bug is a store that is down: its panic neither logs anybody out nor loses tokens.
func TestAStoreThatPanicsLosesNothing(t *testing.T) {
	t.Parallel()
	breaks := func(p *process, method string) {
		p.faults.Before(func(m, _ string) {
			if m == method {
				panic("a bug in the store")
			}
		})
	}
	t.Run("when a session is extended", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := newProcess(t)
			cookie := p.login()
			time.Sleep(20 * time.Minute)
			breaks(p, "Set")
			p.get("/", cookie)
			p.settle(t)
			p.faults.Before(nil)
			if got := p.calls(func() { p.get("/", cookie) }); got.Sets != 1 {
				t.Errorf("the next request: %+v", got)
			}
		})
	})
	t.Run("when tokens are saved", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := newProcess(t)
			cookie := p.login()
			p.duringGrant("/token?force", cookie, func() { breaks(p, "Set") })
			p.want(1)
			p.settle(t)
			p.faults.Before(nil)
			time.Sleep(time.Minute)
			p.token("?force", cookie) // gets the one that the process remembers, which the store then has too
			p.want(1)
			p.settle(t)
			p.token("?force", cookie)
			p.want(2)
			p.settle(t)
		})
	})
	t.Run("when a refresh is claimed", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := newProcess(t)
			cookie := p.login()
			breaks(p, "Set")
			if resp := p.get("/token?force", cookie); resp.StatusCode != http.StatusServiceUnavailable || len(resp.Cookies()) > 0 {
				t.Errorf("the answer is %d, with %d cookies", resp.StatusCode, len(resp.Cookies()))
			}
			p.settle(t)
			p.want(0)
			p.faults.Before(nil)
			time.Sleep(time.Minute)
			p.token("?force", cookie)
			p.want(1)
			p.settle(t)
		})
	})
	t.Run("when a session is read", func(t *testing.T) {
		t.Parallel()
		p := newProcess(t)
		cookie := p.login()
		breaks(p, "Get")
		ask(p.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			func() {
				defer func() { _ = recover() }() // a middleware's
				_, _ = p.GetSession(r)
			}()
			if _, err := p.GetSession(r); errors.Is(err, oidcauth.ErrNoSession) {
				t.Error("the session is none")
			}
		})), "GET", "/", "Cookie", cookie)
	})
}

// What is logged and told names no cookie, key or tag.
func TestAnOutageIsToldWithoutNames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		cookie := p.login()
		p.token("?force", cookie)
		names := []string{valueOf(cookie), valueOf(cookie)[:43]}
		for key, it := range p.shelf.everything() { // of the session and its claim
			names = append(append(names, key), it.tags...)
		}
		p.faults.Fail(errDown)
		p.get("/account", cookie)
		p.get("/auth/logout", cookie)
		p.settle(t)
		told := p.logs.String()
		for _, e := range p.logs.all() {
			told += fmt.Sprintf("%+v\n", e)
		}
		for _, name := range names {
			if strings.Contains(told, name) {
				t.Error("a name in the store, or the session's cookie, is told")
			}
		}
		if !strings.Contains(told, errDown.Error()) {
			t.Errorf("the cause is not: %s", told)
		}
	})
}

// A slow visitor must not stop everybody else: a request whose time was up before it asked says nothing about the store.
func TestRequestsWhoseTimeIsUpAreNoFailureOfTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		cookie := p.login()
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			r := httptest.NewRequestWithContext(ctx, "GET", "/", http.NoBody)
			r.Header.Set("Cookie", cookie)
			time.Sleep(2 * time.Second) // as long as it takes to read its body
			if _, err := p.GetSession(r); err == nil || errors.Is(err, oidcauth.ErrNoSession) {
				t.Errorf("%v", err)
			}
		}
		if resp := p.get("/account", cookie); resp.StatusCode != http.StatusOK {
			t.Errorf("the next visitor gets %d", resp.StatusCode)
		}
		p.settle(t)
	})
}
