package oidcauth_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// A page that is asked for once in 70 minutes refreshes each time, and keeps the session alive all the same.
func TestAStoredSessionThatIsRefreshedByEachRequestIsExtended(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		cookie := p.login()
		for range 40 {
			time.Sleep(70 * time.Minute)
			p.token("", cookie)
			p.settle(t)
		}
	})
}

// S05: what the store could not take is saved by the next request, and not only the first time.
func TestTokensThatCouldNotBeSavedAreSavedByTheNextRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		cookie := p.login()
		for range 3 {
			p.faults.Fail(errDown, "Set")
			newest, _ := p.token("?force", cookie)
			p.settle(t)
			p.faults.Heal()
			p.get("/account", cookie)
			p.settle(t)
			if got, _ := p.another().token("", cookie); got != newest {
				t.Error("another process does not get the newest token")
			}
			time.Sleep(time.Minute)
			p.token("?force", cookie) // and this one is saved at once
		}
		p.want(6)
		p.settle(t)
	})
}

// A provider that replaces the refresh token and gives no usable access token: what replaced it is not lost.
func TestAReplacedRefreshTokenIsSavedAlsoIfTheRefreshFails(t *testing.T) {
	t.Parallel()
	for _, before := range []string{"the first refresh", "a later refresh"} {
		t.Run(before, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newProcess(t)
				cookie := p.login()
				if before == "a later refresh" {
					p.token("?force", cookie)
				}
				time.Sleep(time.Minute)
				p.op.Change(func(k *oidcauthtest.Knobs) { k.EditTokens = func(m map[string]any) { m["expires_in"] = 0 } })
				p.get("/token?force", cookie)
				p.get("/account", cookie)
				p.settle(t)
				p.op.Change(func(k *oidcauthtest.Knobs) { *k = oidcauthtest.Knobs{} })
				q := p.another()
				q.token("?force", cookie)
				q.unpunished()
				q.settle(t)
			})
		})
	}
}

// S23: a session that another process ended while its tokens were being refreshed. The browser has a new one by then.
func TestARefreshThatComesTooLateLeavesTheCookieOfTheNextLoginAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		cookie := p.login()
		time.Sleep(time.Hour)
		release := p.op.Hold("token")
		answer := make(chan *http.Response)
		go func() { answer <- p.get("/token", cookie) }()
		synctest.Wait()
		for key := range p.shelf.all() { // as a login, or a logout, at another process does
			if err := p.shelf.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
		release()
		resp := <-answer
		p.settle(t)
		if n := p.op.ActiveRefreshTokens("alice"); n != 0 {
			t.Errorf("%d refresh tokens are left", n)
		}
		if resp.StatusCode != http.StatusUnauthorized || len(p.shelf.all()) != 0 {
			t.Errorf("status %d, %d sessions in the store", resp.StatusCode, len(p.shelf.all()))
		}
		if lines := sessionLines(resp.Header); lines != nil {
			t.Error("the answer deletes a cookie that may be the next session's")
		}
	})
}

// Issue 4: one process after another has the newest tokens, and no refresh token is spent twice.
func TestProcessesTakeTurnsInRefreshing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		fleet := []*process{p, p.another(), p.another()}
		cookie := p.login()
		for i := range 9 {
			time.Sleep(time.Hour)
			newest, next := fleet[i%3].token("", cookie)
			if next != cookie {
				t.Error("a cookie is set")
			}
			for _, one := range fleet {
				if got, _ := one.token("", cookie); got != newest {
					t.Errorf("refresh %d: a process hands out another token", i)
				}
				one.settle(t)
			}
			p.want(i + 1)
		}
	})
}

// Issue 2, done when 1, with sessions in a store: lessons 1 to 3.
func TestACrowdWithAStoreCausesOneGrant(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		cookie := p.login()
		time.Sleep(time.Hour)
		p.op.Delay("token", 12*time.Second)
		answers := p.crowd(200, "", cookie, func(i int) context.Context {
			ctx, cancel := context.WithCancel(t.Context())
			if i%2 == 0 {
				time.AfterFunc(time.Second, cancel)
			}
			t.Cleanup(cancel)
			return ctx
		})
		p.settle(t)
		p.want(1)
		newest, _ := p.another().token("", cookie)
		for i, resp := range answers {
			if i%2 == 1 && (body(resp) != newest || len(resp.Cookies()) > 0) {
				t.Fatalf("answer %d: status %d, %d cookies", i, resp.StatusCode, len(resp.Cookies()))
			}
		}
	})
}

// refusedLate makes another process refresh the session while this one is about to, and the provider refuse this one's
// refresh token as spent. It returns this one's answer, and the token that the other one got.
func (p *process) refusedLate(cookie string, before func()) (resp *http.Response, theirs string) {
	p.t.Helper()
	p.page("/late", func(w http.ResponseWriter, r *http.Request) {
		if _, err := p.GetSession(r); err != nil {
			p.t.Error(err)
		}
		q := p.another()
		theirs, _ = q.token("?force", cookie)
		q.settle(p.t)
		p.op.Fail("token", http.StatusBadRequest, "invalid_grant", 1)
		before()
		token, err := p.AccessToken(w, r, &oidcauth.TokenOptions{ForceRefresh: true})
		if err != nil {
			p.Error(w, r, err)
			return
		}
		_, _ = w.Write([]byte(token.AccessToken))
	})
	resp = p.get("/late", cookie)
	p.settle(p.t)
	return resp, theirs
}

// Lesson 5: after a failure look once more, another process may have won.
func TestWhoComesSecondGetsTheWinnersToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		cookie := p.login()
		resp, theirs := p.refusedLate(cookie, func() {})
		if got := body(resp); got != theirs || len(resp.Cookies()) > 0 {
			t.Errorf("the answer is %d with %d cookies, the winner's token: %v", resp.StatusCode, len(resp.Cookies()), got == theirs)
		}
		p.token("?force", cookie)
		p.want(2)
		p.settle(t)
	})
}

// The same a moment earlier: the provider has answered the winner, who has not saved it yet.
func TestWhoComesSecondWaitsForTheWinnerToSave(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		q := p.another()
		cookie := p.login()
		q.faults.Before(func(method, _ string) {
			if method == "Set" {
				time.Sleep(500 * time.Millisecond)
			}
		})
		winner := make(chan string)
		go func() { winner <- body(q.get("/token?force", cookie)) }()
		synctest.Wait()
		p.op.Fail("token", http.StatusBadRequest, "invalid_grant", 1)
		resp := p.get("/token?force", cookie)
		if got := body(resp); got != <-winner || len(resp.Cookies()) > 0 {
			t.Errorf("the answer is %d, with %d cookies", resp.StatusCode, len(resp.Cookies()))
		}
		p.settle(t)
		q.settle(t)
		q.token("?force", cookie)
		q.want(2)
		q.settle(t)
	})
}

// Lesson 5: as long as nobody can look, nobody knows that the session is over.
func TestWhoComesSecondAndCannotLookEndsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		cookie := p.login()
		resp, theirs := p.refusedLate(cookie, func() { p.faults.Fail(errDown, "Get") })
		if resp.StatusCode == http.StatusUnauthorized || len(resp.Cookies()) > 0 {
			t.Errorf("the answer is %d, with %d cookies", resp.StatusCode, len(resp.Cookies()))
		}
		p.faults.Heal()
		time.Sleep(time.Second)
		for _, one := range []*process{p, p.another()} {
			if got, _ := one.token("", cookie); got != theirs {
				t.Error("afterwards the winner's token is gone")
			}
		}
		p.settle(t)
	})
}

// Two processes at the same moment, at a provider that forgives it: both answer, and one set of tokens is kept.
func TestTwoProcessesRefreshAtTheSameMoment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		p.op.Change(func(k *oidcauthtest.Knobs) { k.ReuseOverlap = time.Minute })
		q := p.another()
		cookie := p.login()
		release := p.op.Hold("token")
		answers := make(chan *http.Response, 2)
		for _, one := range []*process{p, q} {
			go func() { answers <- one.get("/token?force", cookie) }()
		}
		synctest.Wait()
		release()
		for range 2 {
			resp := <-answers
			if _, _, _, ok := p.op.AccessToken(body(resp)); !ok {
				t.Errorf("an answer is %d", resp.StatusCode)
			}
		}
		for i, one := range []*process{p, q, p.another(), p, q} {
			time.Sleep(time.Minute)
			one.token("?force", cookie)
			one.settle(t)
			p.want(3 + i)
		}
	})
}

// RFT-05, S16: what the provider has ended is ended in the store, for all processes.
func TestARefreshThatEndsTheSessionDeletesIt(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*process){
		"it is refused": func(p *process) { p.op.Fail("token", http.StatusBadRequest, "invalid_grant", 1) },
		"it is of somebody else": func(p *process) {
			p.op.EditIDToken(func(c map[string]any) { c["sub"] = "mallory" })
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newProcess(t)
			cookie := p.login()
			time.Sleep(time.Hour)
			fail(p)
			resp := ask(p.handler, "GET", "/token", byScript(cookie)...)
			p.settle(t)
			if resp.StatusCode != http.StatusUnauthorized || !clears(resp.Header) || len(p.shelf.all()) != 0 {
				t.Errorf("%s: the answer is %d, and %d sessions are left", name, resp.StatusCode, len(p.shelf.all()))
			}
			for _, one := range []*process{p, p.another()} {
				if who := one.who(cookie); who != nobody {
					t.Errorf("%s: the page says %q", name, who)
				}
			}
		})
	}
}

// S05: an outage of the provider, or an answer that says nothing, ends nothing.
func TestARefreshThatFailsLeavesTheStoredSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		cookie := p.login()
		for _, status := range []int{500, 503, 429} {
			p.op.Fail("token", status, "temporarily_unavailable", 1)
			if got := p.calls(func() { p.get("/token?force", cookie) }); got.Sets+got.Deletes > 0 {
				t.Errorf("after a %d the store is changed: %+v", status, got)
			}
			time.Sleep(time.Minute)
			p.token("?force", cookie)
		}
		p.want(3)
		p.settle(t)
	})
}

// HTTPClient and TokenSource go on after the header is out, since what a refresh brings can still be kept.
func TestRefreshesAfterTheHeaderIsOut(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"", "Set"} {
		synctest.Test(t, func(t *testing.T) {
			p := newProcess(t)
			p.op.Serve("api.test", p.op.NewAPI("https://op.test/api"))
			cookie := p.login()
			newest := ""
			p.page("/stream", func(w http.ResponseWriter, r *http.Request) {
				client, err := p.HTTPClient(w, r, nil, theAPI)
				source, sourceErr := p.TokenSource(w, r, nil)
				if err != nil || sourceErr != nil {
					t.Error(err, sourceErr)
					return
				}
				w.(http.Flusher).Flush()
				if fault != "" {
					p.faults.Fail(errDown, fault)
				}
				for range 3 {
					time.Sleep(time.Hour)
					resp, err := get(client, r, theAPI)
					if err != nil || resp.StatusCode != http.StatusOK {
						t.Errorf("at %s: %v", clock(), err)
					}
					token, err := source.Token()
					if err != nil {
						t.Error(err)
						return
					}
					newest = token.AccessToken
				}
			})
			p.get("/stream", cookie)
			p.settle(t)
			p.want(3)
			p.faults.Heal()
			p.get("/", cookie)
			p.settle(t)
			if got, _ := p.another().token("", cookie); got != newest {
				t.Errorf("with faults of %q another process does not have the newest token", fault)
			}
		})
	}
}

// What BeforeSave sets at a refresh is in the store for all.
func TestBeforeSaveAtARefreshInAStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t, func(o *oidcauth.Options) {
			o.BeforeSave = func(_ context.Context, s *oidcauth.Session) error {
				var c struct{ Name string }
				return errors.Join(s.Claims(&c), s.SetValue("name", c.Name))
			}
		})
		cookie := p.login()
		p.get("/set?cart=full", cookie)
		p.op.EditIDToken(func(c map[string]any) { c["name"] = "Alice Cooper" })
		p.token("?force", cookie)
		if got := p.valuesOf(cookie, "name", "cart"); got != "name=Alice Cooper cart=full " {
			t.Errorf("another process sees %s", got)
		}
		p.settle(t)
	})
}
