package oidcauth_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// onceBefore lets do happen once, right before a call of a method: another process is always a little faster.
func (p *process) onceBefore(method string, do func(key string)) {
	var done atomic.Bool // a sync.Once would wait for itself where do calls the method, too
	p.faults.Before(func(m, key string) {
		if m == method && done.CompareAndSwap(false, true) {
			do(key)
		}
	})
}

// onceBeforeSaving lets do happen once, right before a session that is in the store is saved.
func (p *process) onceBeforeSaving(do func()) {
	var done atomic.Bool
	p.faults.Before(func(method, key string) {
		if _, there := p.shelf.all()[key]; there && method == "Set" && done.CompareAndSwap(false, true) {
			do()
		}
	})
}

// valuesOf is what another process finds under some keys.
func (p *process) valuesOf(cookie string, keys ...string) string {
	p.t.Helper()
	s, text := sessionOf(p.t, p.another().app, cookie), ""
	for _, key := range keys {
		text += key + "=" + value(p.t, s, key) + " "
	}
	return text
}

// Issue 4, done when 5: what has been deleted does not come back, whatever was about to be saved.
func TestNothingBringsADeletedSessionBack(t *testing.T) {
	t.Parallel()
	document := metadata("same-origin", "navigate", "document")
	for _, end := range []struct {
		name string
		by   func(p, q *process, cookie string)
	}{
		{"a logout at another process", func(_, q *process, cookie string) {
			ask(q.handler, "GET", "/auth/logout", append(document, "Cookie", cookie)...)
		}},
		{"a logout at this process", func(p, _ *process, cookie string) {
			ask(p.handler, "GET", "/auth/logout", append(document, "Cookie", cookie)...)
		}},
		{"a login at another process", func(_, q *process, _ string) { q.browser.SignIn(oidcauthtest.Alice) }},
	} {
		for _, save := range []struct {
			name, path string
			status     int
		}{
			{"extended", "/account", 200},
			{"given a value", "/set?cart=full", 401},
			{"about to be refreshed", "/token?force", 401}, // before it is claimed
			{"refreshed", "/token?force", 401},
		} {
			t.Run(end.name+", while it is "+save.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					p := newProcess(t)
					q := p.another()
					q.browser.SignIn(oidcauthtest.Alice)
					cookie := q.browser.Request("GET", "/").Header.Get("Cookie")
					before, _ := p.shelf.only(t)
					time.Sleep(20 * time.Minute)
					if save.name == "about to be refreshed" {
						p.onceBefore("Set", func(string) { end.by(p, q, cookie) })
					} else {
						p.onceBeforeSaving(func() { end.by(p, q, cookie) })
					}
					resp := p.get(save.path, cookie)
					p.settle(t)
					q.settle(t)
					if grants := p.op.Grants(); (grants == 1) != (save.name == "refreshed") {
						t.Errorf("%d grants", grants)
					}
					if resp.StatusCode != save.status {
						t.Errorf("the answer is %d", resp.StatusCode)
					}
					if _, there := p.shelf.all()[before]; there {
						t.Error("the session is back in the store")
					}
					for name, one := range map[string]*process{"this": p, "the other": q, "a third": p.another()} {
						if who := one.who(cookie); who != nobody {
							t.Errorf("%s process finds the session of %q", name, who)
						}
					}
					want := 0
					if end.name == "a login at another process" {
						want = 1 // the new one's; of the session before the refresh token stays, but for one that nobody knows
						if save.name != "refreshed" {
							want = 2
						}
					}
					if n := p.op.ActiveRefreshTokens("alice"); n != want {
						t.Errorf("%d refresh tokens are left, want %d", n, want)
					}
				})
			})
		}
	}
}

// Issue 4, done when 5; lesson 24.
func TestAHundredUpdatesOverSeveralProcessesLoseNothing(t *testing.T) {
	t.Parallel()
	const n = 100
	patient := func(o *oidcauth.Options) { o.StoreTimeout = time.Minute } // all wait for the last, on whatever machine
	p := newProcess(t, patient)
	processes := []*process{p, p.another(patient), p.another(patient), p.another(patient)}
	cookie := p.login()
	var edits, saves atomic.Int64
	var loaded sync.WaitGroup
	loaded.Add(n)
	for _, one := range processes {
		one.faults.Before(func(method, _ string) {
			if method == "Set" && saves.Add(1) <= n {
				loaded.Done()
				loaded.Wait() // until all have read the same version, of which one can be saved
			}
		})
		one.page("/count", func(w http.ResponseWriter, r *http.Request) {
			if err := one.UpdateSession(w, r, func(s *oidcauth.Session) error {
				edits.Add(1)
				var count int
				if _, err := s.Value("count", &count); err != nil {
					return err
				}
				return errors.Join(s.SetValue("count", count+1), s.SetValue(r.URL.Query().Get("key"), true))
			}); err != nil {
				t.Error(err)
			}
		})
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { processes[i%len(processes)].get(fmt.Sprintf("/count?key=%d", i), cookie) })
	}
	wg.Wait()
	s := sessionOf(t, p.another().app, cookie)
	if got := value(t, s, "count"); got != fmt.Sprint(n) {
		t.Errorf("the count is %s", got)
	}
	for i := range n {
		if value(t, s, fmt.Sprint(i)) != "true" {
			t.Errorf("value %d is lost", i)
		}
	}
	if edits.Load() < 2*n-1 {
		t.Errorf("%d edits: they were not at the same time", edits.Load())
	}
}

// Lesson 24: a value, a refresh and an extension at the same time, in whatever order they reach the store.
func TestUpdatesRefreshesAndRollsKeepWhatTheOthersSaved(t *testing.T) {
	t.Parallel()
	steps := map[string]string{"a value": "/set?mine=1", "a refresh": "/token?force", "an extension": "/account"}
	for first, path := range steps {
		for second, other := range map[string]string{"a value": "/set?yours=2", "an extension": "/account"} {
			t.Run(second+" right before "+first, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					p := newProcess(t)
					q := p.another()
					cookie := p.login()
					p.get("/set?old=0", cookie)
					time.Sleep(20 * time.Minute)
					p.onceBeforeSaving(func() {
						q.get(other, cookie)
						q.settle(t)
					})
					resp := p.get(path, cookie)
					p.settle(t)
					if resp.StatusCode != http.StatusOK {
						t.Errorf("the answer is %d", resp.StatusCode)
					}
					want := map[bool]string{true: "1", false: ""}[first == "a value"]
					wantOther := map[bool]string{true: "2", false: ""}[second == "a value"]
					if got := p.valuesOf(cookie, "old", "mine", "yours"); got != "old=0 mine="+want+" yours="+wantOther+" " {
						t.Errorf("the values are %s", got)
					}
					if first == "a refresh" {
						if got, _ := q.token("", cookie); got != body(resp) {
							t.Error("another process does not have the newest token")
						}
						q.token("?force", cookie)
						q.want(2)
					}
					q.settle(t)
				})
			})
		}
	}
}

// A refresh sees a value that another process saved while the provider was asked.
func TestARefreshKeepsAValueThatWasSavedMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		cookie := p.login()
		release := p.op.Hold("token")
		answer := make(chan *http.Response)
		go func() { answer <- p.get("/token?force", cookie) }()
		synctest.Wait()
		p.another().get("/set?cart=full", cookie)
		p.get("/set?list=long", cookie)
		release()
		newest := body(<-answer)
		p.settle(t)
		if got := p.valuesOf(cookie, "cart", "list"); got != "cart=full list=long " {
			t.Errorf("the values are %s", got)
		}
		if got, _ := p.another().token("", cookie); got != newest {
			t.Error("another process does not have the newest token")
		}
		p.want(1)
	})
}

// Sessions in a store are saved at once: also late, bare, and more than once in a request, and no cookie is set.
func TestUpdateSessionSavesAtOnce(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	for name, around := range places(p.app) {
		cookie := p.login()
		resp := ask(around(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var wg sync.WaitGroup
			for _, key := range []string{"a", "b", "c"} {
				wg.Go(func() {
					if err := p.UpdateSession(w, r, set(key, 1)); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				})
			}
			wg.Wait()
			if got := p.valuesOf(cookie, "a", "b", "c"); got != "a=1 b=1 c=1 " {
				t.Errorf("%s: before the answer another process sees %s", name, got)
			}
			w.WriteHeader(http.StatusOK)
			if err := p.UpdateSession(w, r, set("late", 1)); err != nil {
				t.Errorf("%s: late: %v", name, err)
			}
			if s, err := p.GetSession(r); err != nil || value(t, s, "late") != "1" || value(t, s, "a") != "1" {
				t.Errorf("%s: the same request does not see it: %v", name, err)
			}
		})), "GET", "/", "Cookie", cookie)
		if len(resp.Cookies()) > 0 || p.valuesOf(cookie, "late") != "late=1 " {
			t.Errorf("%s: %d cookies, %s", name, len(resp.Cookies()), p.valuesOf(cookie, "late"))
		}
	}
}

// What edit refuses, or does not find, is not saved.
func TestAnUpdateThatFailsSavesNothing(t *testing.T) {
	t.Parallel()
	no := errors.New("no")
	for name, tt := range map[string]struct {
		edit func(*oidcauth.Session) error
		is   error
	}{
		"edit refuses": {func(s *oidcauth.Session) error { return errors.Join(s.SetValue("cart", 1), no) }, no},
		"edit changes the user": {func(s *oidcauth.Session) error {
			s.Subject = "root"
			return s.SetValue("cart", 1)
		}, nil},
		"the value is too large": {set("cart", noise(2<<20)), nil},
	} {
		p := newProcess(t)
		cookie := p.login()
		p.page("/edit", func(w http.ResponseWriter, r *http.Request) {
			if err := p.UpdateSession(w, r, tt.edit); err == nil || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%s: %v", name, err)
			}
			s, err := p.GetSession(r)
			if err != nil || s.Subject != "alice" || value(t, s, "cart") != "" {
				t.Errorf("%s: the same request sees it: %v", name, err)
			}
		})
		if got := p.calls(func() { p.get("/edit", cookie) }); got.Sets != 0 {
			t.Errorf("%s: %+v", name, got)
		}
		if got := p.valuesOf(cookie, "cart"); got != "cart= " {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// S23: what was logged out in this request is not saved by it any more.
func TestAfterALogoutARequestSavesNothing(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	for name, around := range places(p.app) {
		cookie := p.login()
		ask(around(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := p.Logout(w, r, nil); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := p.UpdateSession(w, r, set("cart", 1)); !errors.Is(err, oidcauth.ErrNoSession) {
				t.Errorf("%s: UpdateSession: %v", name, err)
			}
			if _, err := p.AccessToken(w, r, nil); !errors.Is(err, oidcauth.ErrNoSession) {
				t.Errorf("%s: AccessToken: %v", name, err)
			}
		})), "GET", "/", "Cookie", cookie)
		p.settle(t)
		if left := len(p.shelf.all()); left != 0 || p.who(cookie) != nobody {
			t.Errorf("%s: %d sessions are left", name, left)
		}
	}
}

// A store on which nothing can ever be saved is one that is down, and not an endless loop.
func TestAStoreThatAlwaysConflictsIsDown(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	cookie := p.login()
	p.faults.Before(func(method, key string) {
		if method == "Set" { // somebody else is always faster
			p.shelf.put(t, key, p.shelf.all()[key])
		}
	})
	if resp := p.get("/set?cart=full", cookie); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the answer is %d: %s", resp.StatusCode, body(resp))
	}
	p.settle(t)
}

// S02, S03: values and tokens in one request, in any order and place, before and after the header, end up in the store.
func TestValuesAndTokensInOneRequest(t *testing.T) {
	t.Parallel()
	update := func(g *rig, w http.ResponseWriter, r *http.Request) error {
		return g.UpdateSession(w, r, set("cart", "full"))
	}
	token := func(g *rig, w http.ResponseWriter, r *http.Request) error {
		_, err := g.AccessToken(w, r, &oidcauth.TokenOptions{ForceRefresh: true})
		return err
	}
	begin := func(_ *rig, w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(http.StatusOK); return nil }
	for name, steps := range map[string][]step{
		"the value first": {update, token}, "the token first": {token, update}, "the value between": {token, update, token},
		"after the header": {begin, update, token}, "around the header": {token, begin, update, token},
	} {
		for _, way := range []string{"below Wrap", "below a guard", "bare"} {
			t.Run(name+" "+way, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					p := newProcess(t)
					cookie, grants := p.login(), 0
					time.Sleep(time.Hour)
					resp := ask(p.ways(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						for i, step := range steps {
							if err := step(p.rig, w, r); err != nil {
								t.Errorf("step %d: %v", i, err)
							}
						}
						grants = p.op.Grants()
					}))[way], "GET", "/", "Cookie", cookie)
					p.settle(t)
					if got := p.valuesOf(cookie, "cart"); got != "cart=full " || len(resp.Cookies()) > 0 || grants == 0 {
						t.Errorf("%s after %d grants, %d cookies", got, grants, len(resp.Cookies()))
					}
					q := p.another()
					q.token("?force", cookie)
					q.want(grants + 1)
					q.settle(t)
				})
			})
		}
	}
}
