package oidcauth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
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

// duringGrant lets do happen while a request has the provider asked for tokens, in a bubble, and returns its answer.
func (p *process) duringGrant(path, cookie string, do func()) *http.Response {
	p.t.Helper()
	release := p.op.Hold("token")
	answer, asked := make(chan *http.Response), p.op.Count("token")
	go func() { answer <- p.get(path, cookie) }()
	synctest.Wait()
	if n := p.op.Count("token") - asked; n != 1 {
		p.t.Errorf("at %s the provider was asked %d times, want once", clock(), n)
	}
	do()
	release()
	return <-answer
}

// S05, S06: what no other process can know of is not begun, and the token at hand serves meanwhile.
func TestWithoutAClaimNothingIsSpent(t *testing.T) {
	t.Parallel()
	for outage, down := range outages {
		for _, methods := range [][]string{{"Set"}, {"Get", "Set"}} {
			synctest.Test(t, func(t *testing.T) {
				p := newProcess(t, func(o *oidcauth.Options) { o.TokenRefreshBuffer = 5 * time.Minute })
				cookie := p.login()
				first, _ := p.token("", cookie)
				p.page("/late", func(w http.ResponseWriter, r *http.Request) {
					if _, err := p.GetSession(r); err != nil {
						t.Error(err)
					}
					down.begin(p.faults, methods...)
					_, err := p.AccessToken(w, r, &oidcauth.TokenOptions{ForceRefresh: true})
					if !errors.Is(err, oidcauth.ErrUnavailable) || errors.Is(err, oidcauth.ErrNoSession) {
						t.Errorf("%s, without %q: %v", outage, methods, err)
					}
					p.Error(w, r, err)
				})
				resp := p.get("/late", cookie)
				if code, _ := jsonError(t, resp); resp.StatusCode != 503 || code != "store_unavailable" || len(resp.Cookies()) > 0 {
					t.Errorf("%s, without %q: status %d %s", outage, methods, resp.StatusCode, code)
				}
				p.faults.Heal()
				down.begin(p.faults, "Set")
				time.Sleep(56 * time.Minute) // it is to be replaced
				if got, _ := p.token("", cookie); got != first {
					t.Errorf("%s: a token that is valid still is not handed out", outage)
				}
				if n := p.op.Count("token"); n != 1 {
					t.Errorf("%s, without %q: after the login the provider was asked %d times", outage, methods, n-1)
				}
				p.faults.Heal()
				time.Sleep(time.Minute)
				if got, _ := p.token("", cookie); got == first {
					t.Errorf("%s: afterwards nothing is refreshed", outage)
				}
				p.want(1)
				p.settle(t)
			})
		}
	}
}

// S05: what the store could not take is saved by the next request, and not only the first time.
func TestTokensThatCouldNotBeSavedAreSavedByTheNextRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		cookie := p.login()
		for range 3 {
			newest := body(p.duringGrant("/token?force", cookie, func() { p.faults.Fail(errDown, "Set") }))
			if got, _ := p.token("", cookie); got != newest {
				t.Error("the next request of this process does not get the newest token")
			}
			p.settle(t)
			if got, _ := p.another().token("", cookie); got == newest {
				t.Error("another process has what could not be saved")
			}
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

// mute is a store in which one key cannot be written for a while, like a shard that is down.
type mute struct {
	oidcauth.SessionStore
	key  string
	down atomic.Bool
}

func (m *mute) Set(
	ctx context.Context, key string, data []byte, expires time.Time, old int64, tags []string,
) (int64, error) {
	if key == m.key && m.down.Load() {
		return 0, errDown
	}
	return m.SessionStore.Set(ctx, key, data, expires, old, tags)
}

// S05: until then no other process begins with what is spent, but waits.
func TestTokensThatCouldNotBeSavedKeepTheOthersWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		cookie := p.login()
		key, _ := p.shelf.only(t)
		store := &mute{SessionStore: p.shelf, key: key}
		q := p.another(func(o *oidcauth.Options) { o.Store = store })
		store.down.Store(true)
		newest, _ := q.token("?force", cookie)
		answer := make(chan string)
		go func() { answer <- body(p.get("/token?force", cookie)) }()
		time.Sleep(10 * time.Second)
		p.want(1)
		store.down.Store(false)
		q.get("/account", cookie)
		q.settle(t)
		if got := <-answer; got != newest {
			t.Error("another process does not get the newest token")
		}
		p.want(1)
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

// Issue 5: whoever was faster has saved what it got when the claim is free. Then the provider is not asked.
func TestWhoComesSecondAdoptsWhatTheWinnerSaved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		cookie, theirs := p.login(), ""
		p.page("/late", func(w http.ResponseWriter, r *http.Request) {
			if _, err := p.GetSession(r); err != nil {
				t.Error(err)
			}
			q := p.another()
			theirs, _ = q.token("?force", cookie)
			q.settle(t)
			token, err := p.AccessToken(w, r, &oidcauth.TokenOptions{ForceRefresh: true})
			if err != nil {
				p.Error(w, r, err)
				return
			}
			_, _ = w.Write([]byte(token.AccessToken))
		})
		resp := p.get("/late", cookie)
		if got := body(resp); got != theirs || len(resp.Cookies()) > 0 {
			t.Errorf("the answer is %d with %d cookies, the winner's token: %v", resp.StatusCode, len(resp.Cookies()), got == theirs)
		}
		p.want(1)
		p.token("?force", cookie)
		p.want(2)
		p.settle(t)
	})
}

// refusedLate makes the provider refuse this process's refresh token as spent, although the claim was free. Another process
// has spent it, which lost its claim or is of a version that makes none, and what it got is in the store by then. It returns
// this one's answer, and the token that the other one got.
func (p *process) refusedLate(cookie string, before func()) (resp *http.Response, theirs string) {
	p.t.Helper()
	key, old := p.shelf.only(p.t)
	q := p.another()
	theirs, _ = q.token("?force", cookie)
	q.settle(p.t)
	_, newer := p.shelf.only(p.t)
	p.shelf.put(p.t, key, old) // it is not saved yet
	p.op.Fail("token", http.StatusBadRequest, "invalid_grant", 1)
	resp = p.duringGrant("/token?force", cookie, func() {
		p.shelf.put(p.t, key, newer)
		before()
	})
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

// The same a moment earlier: the provider has answered the winner, who has not saved it yet. Its claim says so; where that
// was lost, the provider does.
func TestWhoComesSecondWaitsForTheWinnerToSave(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprintf("its claim was lost: %v", lost), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newProcess(t)
				q := p.another()
				cookie := p.login()
				session, _ := p.shelf.only(t)
				q.faults.Before(func(method, key string) {
					if method == "Set" && key == session {
						time.Sleep(500 * time.Millisecond)
					}
				})
				winner := make(chan string)
				go func() { winner <- body(q.get("/token?force", cookie)) }()
				synctest.Wait()
				q.want(1)
				asked := p.op.Count("token")
				if lost {
					p.shelf.lose(t)
					p.op.Fail("token", http.StatusBadRequest, "invalid_grant", 1)
				}
				began := time.Now()
				resp := p.get("/token?force", cookie)
				took := time.Since(began)
				if got := body(resp); got != <-winner || len(resp.Cookies()) > 0 {
					t.Errorf("the answer is %d, with %d cookies", resp.StatusCode, len(resp.Cookies()))
				}
				if n := p.op.Count("token") - asked; (n > 0) != lost || took < 500*time.Millisecond || took > time.Second {
					t.Errorf("it asked the provider %d times, and took %v", n, took)
				}
				p.settle(t)
				q.settle(t)
				q.token("?force", cookie)
				q.want(2)
				q.settle(t)
			})
		})
	}
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

// Issue 5: two processes at the same moment, at a provider that punishes it. One of them asks, and both have its answer.
func TestTwoProcessesRefreshAtTheSameMoment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		q := p.another()
		cookie := p.login()
		release := p.op.Hold("token")
		answers := make(chan *http.Response, 2)
		for _, one := range []*process{p, q} {
			go func() { answers <- one.get("/token?force", cookie) }()
		}
		time.Sleep(time.Second) // by which both have looked at the claim
		if n := p.op.Count("token"); n != 2 {
			t.Errorf("after the login the provider is asked %d times", n-1)
		}
		release()
		first, second := <-answers, <-answers
		newest := body(first)
		if _, _, _, ok := p.op.AccessToken(newest); !ok || body(second) != newest {
			t.Errorf("the answers are %d and %d", first.StatusCode, second.StatusCode)
		}
		p.want(1)
		for i, one := range []*process{p, q, p.another(), p, q} {
			time.Sleep(time.Minute)
			one.token("?force", cookie)
			one.settle(t)
			p.want(2 + i)
		}
	})
}

// RFT-05, S16: what the provider has ended is ended in the store, for all processes, and who waits for it elsewhere is told why.
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
			release := p.op.Hold("token")
			answers := make(chan *http.Response, 2)
			for _, one := range []*process{p, p.another()} {
				go func() { answers <- ask(one.handler, "GET", "/token", byScript(cookie)...) }()
			}
			time.Sleep(time.Second) // by which both have looked at the claim
			release()
			for range 2 {
				resp := <-answers
				if code, _ := jsonError(t, resp); resp.StatusCode != 401 || code != "login_required" || !clears(resp.Header) {
					t.Errorf("%s: an answer is %d %s", name, resp.StatusCode, code)
				}
			}
			p.settle(t)
			if left := len(p.shelf.all()); left != 0 {
				t.Errorf("%s: %d sessions are left", name, left)
			}
			asked := p.op.Count("token")
			if asked != 2 {
				t.Errorf("%s: after the login the provider was asked %d times, want once", name, asked-1)
			}
			for _, one := range []*process{p, p.another()} {
				if who := one.who(cookie); who != nobody {
					t.Errorf("%s: the page says %q", name, who)
				}
				if resp := one.get("/token?force", cookie); resp.StatusCode != http.StatusUnauthorized {
					t.Errorf("%s: /token answers %d", name, resp.StatusCode)
				}
			}
			if n := p.op.Count("token") - asked; n != 0 {
				t.Errorf("%s: the provider is asked %d times more", name, n)
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
			key, _ := p.shelf.only(t)
			_, version, _, _ := p.shelf.Get(t.Context(), key)
			values := len(p.shelf.everything())
			got := p.calls(func() { p.get("/token?force", cookie) })
			if _, now, _, _ := p.shelf.Get(t.Context(), key); now != version || got.Deletes > 0 {
				t.Errorf("after a %d the session in the store is changed: %+v", status, got)
			}
			// What is new is the claim, which is made, sent and given back with a word on the failure.
			if more := len(p.shelf.everything()) - values; got.Sets > 4 || more > 1 {
				t.Errorf("after a %d there are %d values more: %+v", status, more, got)
			}
			time.Sleep(time.Minute)
			p.token("?force", cookie)
		}
		p.want(3)
		p.settle(t)
	})
}

// HTTPClient and TokenSource go on after the header is out, since what a refresh brings can still be kept. This process
// remembers what the store does not take.
func TestRefreshesAfterTheHeaderIsOut(t *testing.T) {
	t.Parallel()
	for name, duringGrant := range map[string]func(*process){
		"": func(*process) {}, "nothing can be saved": func(p *process) { p.faults.Fail(errDown, "Set") },
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newProcess(t)
			p.op.Serve("api.test", p.op.NewAPI("https://op.test/api"))
			cookie := p.login()
			p.op.EditTokenResponse(func(map[string]any) { duringGrant(p) })
			newest := p.stream(cookie, func(err error) {
				if err != nil {
					t.Errorf("%s: at %s: %v", name, clock(), err)
				}
			})
			p.want(3)
			p.faults.Heal()
			p.get("/", cookie)
			p.settle(t)
			if got, _ := p.another().token("", cookie); got != newest {
				t.Errorf("%s: another process does not have the newest token", name)
			}
		})
	}
}

// The same while no claim can be made: the provider is not asked.
func TestRefreshesAfterTheHeaderIsOutNeedAClaim(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		p.op.Serve("api.test", p.op.NewAPI("https://op.test/api"))
		cookie := p.login()
		p.stream(cookie, func(err error) {
			if !errors.Is(err, oidcauth.ErrUnavailable) {
				t.Errorf("at %s: %v", clock(), err)
			}
		}, "Set")
		if n := p.op.Count("token"); n != 1 {
			t.Errorf("after the login the provider is asked %d times", n-1)
		}
		time.Sleep(time.Minute)
		p.token("", cookie)
		p.want(1)
		p.settle(t)
	})
}

// stream is a request that calls an API by HTTPClient, and asks a TokenSource, an hour after its header, and twice more. It
// tells how each went, and returns the last token. Before each the store works, but for faults.
func (p *process) stream(cookie string, told func(error), faults ...string) (newest string) {
	p.t.Helper()
	p.page("/stream", func(w http.ResponseWriter, r *http.Request) {
		client, err := p.HTTPClient(w, r, nil, theAPI)
		source, sourceErr := p.TokenSource(w, r, nil)
		if err != nil || sourceErr != nil {
			p.t.Error(err, sourceErr)
			return
		}
		w.(http.Flusher).Flush()
		for range 3 {
			time.Sleep(time.Hour)
			p.faults.Heal()
			if len(faults) > 0 {
				p.faults.Fail(errDown, faults...)
			}
			resp, err := get(client, r, theAPI)
			if told(err); err == nil && resp.StatusCode != http.StatusOK {
				p.t.Errorf("at %s the API answers %d", clock(), resp.StatusCode)
			}
			token, err := source.Token()
			if told(err); err == nil {
				newest = token.AccessToken
			}
		}
	})
	p.get("/stream", cookie)
	p.settle(p.t)
	p.faults.Heal()
	return newest
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
