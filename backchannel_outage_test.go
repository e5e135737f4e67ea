package oidcauth_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// BCL-14, S37, lesson 34: a token that comes again, here or at another process, is answered as it was the first time, and
// does nothing, for as long as it would be accepted.
func TestALogoutTokenWorksOnce(t *testing.T) {
	aged := func(o *oidcauth.Options) { o.LogoutTokenMaxAge = 3 * time.Minute }
	for _, tt := range []struct {
		name  string
		edit  func(header, claims map[string]any)
		valid time.Duration // with the 30 s that clocks may differ by
	}{
		{"with exp", func(_, _ map[string]any) {}, 150 * time.Second},
		{"without", func(_, claims map[string]any) { delete(claims, "exp") }, 210 * time.Second},
		{"with the longest exp", func(_, claims map[string]any) {
			claims["exp"] = time.Now().Add(time.Hour).Unix()
		}, 60*time.Minute + 30*time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				cookie := p.login()
				token := p.op.LogoutToken("alice", p.op.SIDs("alice")[0], tt.edit)
				if status := p.backchannel(token); status != http.StatusOK {
					t.Fatalf("the token is answered with %d: %s", status, p.logs)
				}
				standing(t, cookie, nobody, p, q)
				events := len(p.logs.names()) + len(q.logs.names())
				for _, one := range []*process{p, q} {
					calls := one.calls(func() {
						if status := one.backchannel(token); status != http.StatusOK {
							t.Errorf("again it is answered with %d", status)
						}
					})
					if want := (oidcauthtest.StoreCalls{Gets: 1}); calls != want {
						t.Errorf("again it costs %+v, want one look-up", calls)
					}
				}
				if n := len(p.logs.names()) + len(q.logs.names()); n != events {
					t.Errorf("again it is told of in %d events", n-events)
				}
				time.Sleep(tt.valid - time.Second)
				if calls := q.calls(func() { q.backchannel(token) }); calls.Sets > 0 {
					t.Errorf("a second before it expires it is carried out again: %+v", calls)
				}
				time.Sleep(time.Second)
				if status := q.backchannel(token); status != http.StatusBadRequest {
					t.Errorf("after that it is answered with %d", status)
				}
			}, aged)
		})
	}
}

// BCL-14: the jti is the issuer's; two tokens that differ in nothing else are two.
func TestTwoLogoutTokensAreTwo(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		p.backchannel(p.op.LogoutToken("alice", "", func(_, c map[string]any) { c["jti"] = "1" }))
		time.Sleep(2 * time.Second)
		cookie := p.login()
		p.backchannel(p.op.LogoutToken("alice", "", func(_, c map[string]any) { c["jti"] = "1" }))
		standing(t, cookie, "alice", p, q) // it has been seen, whatever else it says
		p.backchannel(p.op.LogoutToken("alice", "", func(_, c map[string]any) { c["jti"] = "2" }))
		standing(t, cookie, nobody, p, q)
	})
}

// BCL-14: the same token at two processes at once, ten times each.
func TestALogoutTokenThatComesToAllAtOnce(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		first, second := p.login(), q.login()
		token := p.op.LogoutToken("alice", p.op.SIDs("alice")[0])
		var group sync.WaitGroup
		for i := range 20 {
			group.Go(func() {
				if status := []*process{p, q}[i%2].backchannel(token); status != http.StatusOK {
					t.Errorf("it is answered with %d", status)
				}
			})
		}
		group.Wait()
		standing(t, first, nobody, p, q)
		standing(t, second, "alice", p, q)
	})
}

// stored is how many sessions are in the store.
func (p *process) stored() int { return len(p.shelf.all()) }

// faults are the ways in which one call of a store goes wrong.
var faults = map[string]func(f *oidcauthtest.FaultyStore){
	"fails":               func(f *oidcauthtest.FaultyStore) { f.FailNext(1, errDown) },
	"hangs":               func(f *oidcauthtest.FaultyStore) { f.FailNext(1, nil) },
	"works, and says no":  func(f *oidcauthtest.FaultyStore) { f.LoseAnswers(1, errDown) },
	"works, and is quiet": func(f *oidcauthtest.FaultyStore) { f.LoseAnswers(1, nil) },
}

// atCall lets the store go wrong at its nth call from now on, counted from 0.
func (p *process) atCall(n int, wrong func(f *oidcauthtest.FaultyStore)) {
	var mu sync.Mutex
	calls := 0
	if n == 0 {
		wrong(p.faults)
	}
	p.faults.Before(func(_, _ string) {
		mu.Lock()
		defer mu.Unlock()
		if calls++; calls == n {
			wrong(p.faults) // which the call under way sees no more
		}
	})
}

// BCL-14, BCL-18: whichever call of the store goes wrong, and however, the provider is told so, and that it has to try again.
// The same token works then.
func TestALogoutThatTheStoreSpoilsCanBeRepeated(t *testing.T) {
	for _, named := range []string{"a sid", "a subject"} {
		for kind, wrong := range faults {
			t.Run(named+", a call "+kind, func(t *testing.T) {
				everyMode(t, func(t *testing.T, p, q *process) {
					for n, refused := 0, 0; n < 50; n++ {
						first, second := p.login(), q.login()
						sids := p.op.SIDs("alice")
						token := p.op.LogoutToken("alice", sids[len(sids)-1])
						if named == "a subject" {
							token = p.op.LogoutToken("alice", "")
						}
						before := p.faults.Calls()
						p.atCall(n, wrong)
						began := time.Now()
						resp := p.tellToken(token)
						calls := p.faults.Calls()
						p.faults.Heal()
						p.faults.Before(nil)
						if took := time.Since(began); took > 2*time.Second {
							t.Errorf("at call %d the answer takes %v", n, took)
						}
						made := calls.Gets + calls.Sets + calls.Deletes + calls.Tagged - before.Gets - before.Sets - before.Deletes - before.Tagged
						if n >= made { // nothing has gone wrong: there are not so many calls
							if resp.StatusCode != http.StatusOK {
								t.Errorf("without a fault the answer is %d", resp.StatusCode)
							}
							if refused < 4 {
								t.Errorf("%d of %d calls were answered with 400", refused, n)
							}
							return
						}
						if resp.StatusCode == http.StatusOK { // what could not be read was deleted
							standing(t, second, nobody, p, q)
						} else {
							checkRefusal(t, resp)
							refused++
						}
						if told := strings.Count(p.logs.String(), `msg="oidcauth: logout token not carried out"`); told != refused {
							t.Errorf("at call %d nobody is told: %s", n, p.logs)
						}
						for _, one := range []*process{q, p} { // the provider tries again, and once more
							if status := one.backchannel(token); status != http.StatusOK {
								t.Errorf("after call %d the repetition is answered with %d", n, status)
							}
							standing(t, second, nobody, p, q)
						}
						want := "alice"
						if named == "a subject" {
							want = nobody
						}
						standing(t, first, want, p, q)
						time.Sleep(2 * time.Second) // logins of the same second would be another matter
					}
				})
			})
		}
	}
}

// BCL-14: a provider that waits no longer has begun something that is finished all the same, from the mark on. What is cut off
// before it is not remembered.
func TestAProviderThatHangsUp(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		n := 0
		atEach(3, t, func(_ int, hook func(func()) func(method, key string)) {
			cookie := p.login()
			token := p.op.LogoutToken("", newestSID(p.op))
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			q.faults.Before(hook(leave))
			form := url.Values{"logout_token": {token}}.Encode()
			r := rawRequest("POST", backchannelPath, "", form, "Content-Type", formType)
			answerTo(q.handler, r.WithContext(ctx))
			q.faults.Before(nil)
			if n++; n > 1 { // the first call is the look at what has been seen
				standing(t, cookie, nobody, p, q)
			}
			if status := p.backchannel(token); status != http.StatusOK {
				t.Errorf("after call %d the repetition is answered with %d", n, status)
			}
			standing(t, cookie, nobody, p, q)
		})
	})
}

// S02, S08: a mark that somebody has damaged, or that no secret opens any more, is no licence: who it may be about waits until
// it is replaced, by the next logout token or by RevokeSessions.
func TestAMarkThatCannotBeReadIsReplaced(t *testing.T) {
	for _, end := range waysOut[2:] {
		t.Run(end.name, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				p.told(t, "alice", "")
				time.Sleep(2 * time.Second)
				for key, it := range p.shelf.everything() {
					if len(it.tags) == 0 && len(it.data) > 0 {
						it.data = []byte("damaged")
						p.shelf.put(t, key, it)
					}
				}
				b := p.op.NewBrowser(p.handler)
				if page := b.Get("/auth/login"); page.StatusCode != http.StatusServiceUnavailable || setsSession(page) {
					t.Errorf("a login ends with %d", page.StatusCode)
				}
				end.do(t, q)
				time.Sleep(2 * time.Second)
				standing(t, p.login(), "alice", p, q)
			})
		})
	}
}

// BCL-18: nothing of what has gone wrong is said to who asks, nor by an application that answers errors itself.
func TestAnApplicationAnswersRefusedLogoutTokens(t *testing.T) {
	var told []*oidcauth.Error
	own := func(o *oidcauth.Options) {
		o.OnError = func(w http.ResponseWriter, _ *http.Request, e *oidcauth.Error) {
			told = append(told, e)
			w.WriteHeader(e.Status)
		}
	}
	p := newProcess(t, own)
	checkQuiet(t, p.tellToken("x"))
	p.faults.Fail(errDown)
	resp := p.tellToken(p.op.LogoutToken("alice", ""))
	checkQuiet(t, resp)
	if resp.StatusCode != http.StatusBadRequest || len(told) != 2 {
		t.Fatalf("status %d, %d errors", resp.StatusCode, len(told))
	}
	for _, e := range told {
		if e.Route != "backchannel-logout" || e.Code != "invalid_request" || e.Status != 400 || e.Err == nil {
			t.Errorf("OnError is told %q %d %q %v", e.Route, e.Status, e.Code, e.Err)
		}
	}
}

// BCL-26: a provider that cannot be reached, or does not answer, is no reason to let anybody wait. The token works when it is
// back.
func TestALogoutTokenWhileTheProviderIsAway(t *testing.T) {
	for name, away := range map[string]func(op *oidcauthtest.Provider) (back func()){
		"the keys cannot be had": func(op *oidcauthtest.Provider) func() {
			op.Fail("jwks", 0, "", -1)
			return func() { op.Fail("jwks", 0, "", 0) }
		},
		"the keys do not come":     func(op *oidcauthtest.Provider) func() { return op.Hold("jwks") },
		"the metadata do not come": func(op *oidcauthtest.Provider) func() { return op.Hold("discovery") },
		"the metadata are an error": func(op *oidcauthtest.Provider) func() {
			op.Fail("discovery", 500, "", -1)
			return func() { op.Fail("discovery", 0, "", 0) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				cookie := p.login()
				token := p.op.LogoutToken("alice", "", func(_, c map[string]any) { c["exp"] = time.Now().Add(30 * time.Minute).Unix() })
				back := away(p.op)
				began := time.Now()
				checkRefusal(t, q.tellToken(token)) // it has asked the provider nothing yet
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("the answer takes %v", took)
				}
				standing(t, cookie, "alice", p, q)
				back()
				time.Sleep(10 * time.Minute)
				if status := q.backchannel(token); status != http.StatusOK {
					t.Errorf("later the answer is %d: %s", status, q.logs)
				}
				standing(t, cookie, nobody, p, q)
			})
		})
	}
}

// BCL-26, lesson 36, issue 5 done when 2: ten thousand tokens with ids of keys that nobody has cost one fetch for each
// cool-down, and who is right is heard among them.
func TestUnknownKeysDoNotHammerTheProvider(t *testing.T) {
	everyMode(t, func(t *testing.T, p, _ *process) {
		cookie := p.login()
		good := p.op.LogoutToken("alice", "")
		_, rest, _ := strings.Cut(good, ".")
		before := p.op.Count("jwks")
		for i := range 10_000 {
			header, _ := json.Marshal(map[string]any{"alg": "RS256", "kid": fmt.Sprint("unknown-", i)}) // always encodes
			resp := p.tellToken(base64.RawURLEncoding.EncodeToString(header) + "." + rest)
			if resp.StatusCode != http.StatusBadRequest {
				t.Fatalf("the answer is %d", resp.StatusCode)
			}
		}
		if n := p.op.Count("jwks") - before; n > 1 {
			t.Errorf("the keys were fetched %d times", n)
		}
		standing(t, cookie, "alice", p)
		if status := p.backchannel(good); status != http.StatusOK {
			t.Errorf("a good token is answered with %d", status)
		}
		standing(t, cookie, nobody, p)
	})
}

// BCL-27: what is signed by one provider is nothing to an application of another, whoever it claims to be of, and nobody is
// asked about it.
func TestALogoutTokenOfAnotherProvider(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		other := oidcauthtest.NewProvider(t, func(o *oidcauth.Options) { o.Issuer = "https://other.test/" })
		cookie := p.login()
		sid := p.op.SIDs("alice")[0]
		before := len(p.op.Requests())
		claimed := func(_, claims map[string]any) { claims["iss"] = p.op.Issuer() }
		checkRefusal(t, p.tellToken(other.LogoutToken("alice", sid)))
		checkRefusal(t, p.tellToken(other.LogoutToken("alice", sid, claimed)))
		asked := p.op.Requests()[before:]
		if len(asked) > 1 || len(asked) == 1 && asked[0].Endpoint != "jwks" || len(other.Requests()) > 0 {
			t.Errorf("asked were %v and %v", asked, other.Requests())
		}
		standing(t, cookie, "alice", p, q)
	})
}

// BCL-20, S44: the refresh token of a session that ends is revoked: at once where a store has it, and with the next request
// where the browser has.
func TestABackchannelLogoutRevokesRefreshTokens(t *testing.T) {
	for name, token := range map[string]func(op *oidcauthtest.Provider) string{
		"a sid":     func(op *oidcauthtest.Provider) string { return op.LogoutToken("", op.SIDs("alice")[0]) },
		"a subject": func(op *oidcauthtest.Provider) string { return op.LogoutToken("alice", "") },
	} {
		t.Run(name, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				cookie := p.login()
				p.token("?force", cookie)
				inStore := p.stored() > 0
				q.backchannel(token(p.op))
				q.settle(t)
				if n := p.stored(); n > 0 {
					t.Errorf("%d sessions are in the store", n)
				}
				if left := p.op.ActiveRefreshTokens("alice"); inStore && left != 0 {
					t.Errorf("%d refresh tokens are left", left)
				}
				standing(t, cookie, nobody, p)
				p.settle(t)
				if left := p.op.ActiveRefreshTokens("alice"); left != 0 {
					t.Errorf("%d refresh tokens are left after the next request", left)
				}
			})
		})
	}
}

// BCL-21, lesson 39: what a handler streams under UntilLogout ends within the check interval after its session, and no other
// stream does. All other streams, those of proxies included, have tests of their own.
func TestALogoutTokenEndsStreams(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		p.page("/stream", func(w http.ResponseWriter, r *http.Request) {
			ctx := p.UntilLogout(r)
			<-ctx.Done()
			fmt.Fprint(w, context.Cause(ctx))
		})
		stream := func(cookie string) (ended chan string, stop func()) {
			ctx, stop := context.WithCancel(t.Context())
			ended = make(chan string, 1)
			go func() {
				r := httptest.NewRequestWithContext(ctx, "GET", "/stream", http.NoBody)
				r.Header.Set("Cookie", cookie)
				ended <- body(answerTo(p.handler, r))
			}()
			return ended, stop
		}
		first, _ := stream(p.login())
		other, stop := stream(p.login())
		time.Sleep(time.Minute)
		q.told(t, "", p.op.SIDs("alice")[0])
		began := time.Now()
		if cause := <-first; cause != oidcauth.ErrNoSession.Error() || time.Since(began) > 5*time.Second {
			t.Errorf("after %v the stream ends with %q", time.Since(began), cause)
		}
		time.Sleep(time.Minute)
		select {
		case cause := <-other:
			t.Errorf("another session's stream ends with %q", cause)
		default:
		}
		stop()
		<-other
	})
}

// BCL-28, lesson 35: the provider sends its token while it answers the browser that logs out here. Whatever the logout is
// just doing, the answer does not wait for it.
func TestALogoutTokenInTheMidstOfALogout(t *testing.T) {
	for _, method := range []string{"Get", "Set", "Delete"} {
		t.Run(method, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				cookie := p.login()
				token := p.op.LogoutToken("alice", p.op.SIDs("alice")[0])
				again := p.op.LogoutToken("alice", "")
				p.onceBefore(method, func(string) {
					for _, one := range []*process{p, q} {
						began := time.Now()
						if a, b := one.backchannel(token), one.backchannel(again); a != http.StatusOK || b != http.StatusOK {
							t.Errorf("the tokens are answered with %d and %d", a, b)
						}
						if took := time.Since(began); took > 0 {
							t.Errorf("they wait for %v", took)
						}
					}
				})
				if resp := p.logout(cookie); resp.StatusCode/100 != 3 {
					t.Errorf("the logout is answered with %d", resp.StatusCode)
				}
				standing(t, cookie, nobody, p, q)
				p.settle(t)
				if n := p.op.ActiveRefreshTokens("alice"); n != 0 {
					t.Errorf("%d refresh tokens are left", n)
				}
			})
		})
	}
}

// What the application is told: each session that was found and ended, or whom the token is about.
func TestEventsOfABackchannelLogout(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		p.login()
		p.login()
		inStore := p.stored() > 0
		q.backchannel(p.op.LogoutToken("alice", ""))
		q.backchannel(p.op.LogoutToken("alice", "")) // another, for sessions that there are no more
		var handles, whole int
		for _, e := range q.logs.all() {
			if e.Name != "session.revoked" || e.Route != "backchannel-logout" || e.Err != nil ||
				e.Subject != "alice" || e.Issuer != p.op.Issuer() {
				t.Errorf("the event is %+v", e)
			}
			if e.SessionID == "" {
				whole++
			} else {
				handles++
			}
		}
		if inStore && (handles != 2 || whole != 0) || !inStore && (handles != 0 || whole != 2) {
			t.Errorf("%d sessions and %d users were told of", handles, whole)
		}
	})
}
