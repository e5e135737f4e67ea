package oidcauth_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// A wayOut ends sessions of Alice from elsewhere, at a process: at least the one of her last login.
type wayOut struct {
	name string
	do   func(t *testing.T, at *process)
}

var waysOut = []wayOut{
	{"a sid", func(t *testing.T, at *process) { at.told(t, "", newestSID(at.op)) }},
	{"a sid and its subject", func(t *testing.T, at *process) { at.told(t, "alice", newestSID(at.op)) }},
	{"a subject", func(t *testing.T, at *process) { at.told(t, "alice", "") }},
	{"RevokeSessions", func(t *testing.T, at *process) {
		if err := at.RevokeSessions(t.Context(), at.op.Issuer(), "alice"); err != nil {
			t.Errorf("RevokeSessions: %v", err)
		}
	}},
}

// newestSID is that of Alice's last login, of which the application may not know yet.
func newestSID(op *oidcauthtest.Provider) string {
	sids := op.SIDs("alice")
	return sids[len(sids)-1]
}

// told brings a new logout token to a process, which has to accept it.
func (p *process) told(t *testing.T, subject, sid string) {
	t.Helper()
	if status := p.backchannel(p.op.LogoutToken(subject, sid)); status != http.StatusOK {
		t.Errorf("the token is answered with %d: %s", status, p.logs)
	}
}

// A savePause is what happens while BeforeSave runs, in tests that share their options: by the application's secret.
type savePause struct{ hooks sync.Map }

func (s *savePause) option(o *oidcauth.Options) {
	secret := o.Secrets[0]
	o.BeforeSave = func(context.Context, *oidcauth.Session) error {
		if do, ok := s.hooks.Load(secret); ok {
			do.(func())()
		}
		return nil
	}
}

func (s *savePause) at(p *process, do func()) { s.hooks.Store(p.op.Options().Secrets[0], do) }

// atEach runs a race for n = 0, 1, …: each time it is given a function that has to be called as the hook of a store, and that
// calls do before the nth call of it. It ends when there are no n calls.
func atEach(least int, t *testing.T, race func(n int, hook func(do func()) func(method, key string))) {
	t.Helper()
	for n, reached := 0, true; reached && n < 50; n++ {
		reached = false
		race(n, func(do func()) func(method, key string) {
			var mu sync.Mutex
			calls := 0
			return func(string, string) {
				mu.Lock()
				calls++
				now := calls == n+1
				reached = reached || now
				mu.Unlock()
				if now {
					do()
				}
			}
		})
		if !reached && n < least {
			t.Errorf("there are %d calls only", n)
		}
	}
}

// startLogin lets a new browser of Alice sign in at p beside the test.
func startLogin(p *process) (b *oidcauthtest.Browser, page chan *oidcauthtest.Response) {
	b, page = p.op.NewBrowser(p.handler), make(chan *oidcauthtest.Response, 1)
	go func() { page <- b.Get("/auth/login?returnTo=/there") }()
	return b, page
}

// cookieOf is the Cookie field of a browser's requests.
func cookieOf(b *oidcauthtest.Browser) string {
	return b.Request(http.MethodGet, "/").Header.Get("Cookie")
}

// checkRevokedLogin fails unless a login ended with the page that says what happened.
func checkRevokedLogin(t *testing.T, page *oidcauthtest.Response) {
	t.Helper()
	if page.StatusCode != http.StatusUnauthorized || errorCode(page) != "session_revoked" || setsSession(page) {
		t.Errorf("the login ends at %s with %d %q, want the page of 401 session_revoked", page.URL, page.StatusCode, errorCode(page))
	}
	if !strings.Contains(page.Body, `href="/auth/login?returnTo=%2Fthere"`) {
		t.Errorf("the page offers no way on: %s", page.Body)
	}
}

// checkNothingLeft fails unless nobody is signed in with a cookie, no session is in the store, and no refresh token at the
// provider (S44).
func checkNothingLeft(t *testing.T, cookie string, p, q *process) {
	t.Helper()
	standing(t, cookie, nobody, p, q)
	p.settle(t)
	q.settle(t)
	time.Sleep(2 * time.Second) // who logs in after this does so in another second
	if n := p.stored(); n > 0 {
		t.Errorf("%d sessions are in the store", n)
	}
	if n := p.op.ActiveRefreshTokens("alice"); n != 0 {
		t.Errorf("%d refresh tokens are left", n)
	}
}

// S07, BCL-22: a logout that comes while the login is at the provider wins.
func TestALogoutTokenOvertakesItsLogin(t *testing.T) {
	for _, end := range waysOut[:3] {
		for _, endpoint := range []string{"token", "userinfo"} {
			t.Run(end.name+" during "+endpoint, func(t *testing.T) {
				everyMode(t, func(t *testing.T, p, q *process) {
					for _, at := range []*process{q, p} {
						release := p.op.HoldAnswer(endpoint)
						b, page := startLogin(p)
						synctest.Wait()
						time.Sleep(2 * time.Second)
						end.do(t, at)
						release()
						checkRevokedLogin(t, <-page)
						checkNothingLeft(t, cookieOf(b), p, q)
					}
				}, func(o *oidcauth.Options) { o.FetchUserInfo = true })
			})
		}
	}
}

// S07, BCL-22, issue 5 done when 3: a logout that comes while BeforeSave runs, or anywhere after it, wins.
func TestALogoutOvertakesALoginThatIsBeingSaved(t *testing.T) {
	for _, end := range waysOut {
		for name, moment := range map[string]bool{"during BeforeSave": true, "at a call of the store after it": false} {
			t.Run(end.name+" "+name, func(t *testing.T) {
				var saving savePause
				everyMode(t, func(t *testing.T, p, q *process) {
					for _, at := range []*process{p, q} {
						if moment {
							saving.at(p, func() {
								time.Sleep(2 * time.Second)
								end.do(t, at)
							})
							b, page := startLogin(p)
							checkRevokedLogin(t, <-page)
							checkNothingLeft(t, cookieOf(b), p, q)
							continue
						}
						atEach(1, t, func(_ int, hook func(func()) func(method, key string)) {
							ended := false
							saving.at(p, func() {
								time.Sleep(2 * time.Second)
								p.faults.Before(hook(func() { ended = true; end.do(t, at) }))
							})
							b, page := startLogin(p)
							last := <-page
							p.faults.Before(nil)
							if !ended { // there are not so many calls
								end.do(t, at)
							} else if last.StatusCode != http.StatusOK {
								checkRevokedLogin(t, last)
							}
							checkNothingLeft(t, cookieOf(b), p, q)
						})
					}
				}, saving.option)
			})
		}
	}
}

// S07, issue 5 done when 3: the login is saved while the logout is half done, between mark and delete for example.
func TestALoginOvertakesItsLogout(t *testing.T) {
	for _, end := range waysOut {
		t.Run(end.name, func(t *testing.T) {
			var saving savePause
			everyMode(t, func(t *testing.T, p, q *process) {
				atEach(3, t, func(_ int, hook func(func()) func(method, key string)) {
					release, page := make(chan struct{}), make(chan *oidcauthtest.Response, 1)
					saving.at(p, func() { <-release })
					b, done := startLogin(p)
					synctest.Wait()
					time.Sleep(2 * time.Second)
					finish := sync.OnceFunc(func() {
						close(release)
						page <- <-done
					})
					q.faults.Before(hook(finish))
					end.do(t, q)
					q.faults.Before(nil)
					finish()
					if last := <-page; last.StatusCode != http.StatusOK {
						checkRevokedLogin(t, last)
					}
					checkNothingLeft(t, cookieOf(b), p, q)
				})
			}, saving.option)
		})
	}
}

// S24, S07: a browser that repeats the callback's request at another process gets the session that there is, and none that has
// ended since.
func TestARepeatedCallbackRevivesNoSession(t *testing.T) {
	for _, end := range append(waysOut, wayOut{"a logout", nil}) {
		t.Run(end.name, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				b := p.op.NewBrowser(p.handler).NoRedirects()
				callback := b.Get(b.Get("/auth/login?returnTo=/there").Location()).Location()
				before := cookieOf(b)
				repeat := func(at *process) string {
					return kept(ask(at.handler, "GET", strings.TrimPrefix(callback, "https://app.test"), "Cookie", before).Header)
				}
				first, again := repeat(p), repeat(q)
				standing(t, first, "alice", p, q)
				standing(t, again, "alice", p, q)
				time.Sleep(2 * time.Second)
				if end.do == nil {
					p.logout(first)
				} else {
					end.do(t, p)
				}
				for _, at := range []*process{q, p} {
					standing(t, again, nobody, p, q)
					standing(t, repeat(at), nobody, p, q)
				}
				checkNothingLeft(t, first, p, q)
			})
		})
	}
}

// S07: the hook that is told of a new session may see it end.
func TestALogoutDuringOnLogin(t *testing.T) {
	for _, end := range waysOut {
		t.Run(end.name, func(t *testing.T) {
			var logins sync.Map
			everyMode(t, func(t *testing.T, p, q *process) {
				logins.Store(p.op.Options().Secrets[0], func() {
					time.Sleep(2 * time.Second)
					end.do(t, q)
				})
				b, page := startLogin(p)
				<-page
				checkNothingLeft(t, cookieOf(b), p, q)
			}, func(o *oidcauth.Options) {
				secret := o.Secrets[0]
				o.OnLogin = func(w http.ResponseWriter, r *http.Request, _ *oidcauth.Session, returnTo string) error {
					do, _ := logins.Load(secret)
					do.(func())()
					http.Redirect(w, r, returnTo, http.StatusFound)
					return nil
				}
			})
		})
	}
}

// BCL-23, S23: a refresh that is under way when the session ends brings it nothing: no session, no access token for who still
// waits, and no refresh token that works, although nobody may come with the cookie again.
func TestALogoutWhileARefreshIsUnderWay(t *testing.T) {
	for _, end := range waysOut {
		t.Run(end.name, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				for _, at := range []*process{p, q} {
					cookie := p.login()
					time.Sleep(61 * time.Minute)
					release, done := p.op.HoldAnswer("token"), make(chan *http.Response)
					go func() { done <- p.get("/token", cookie) }()
					synctest.Wait()
					end.do(t, at)
					release()
					resp := <-done
					if resp.StatusCode != http.StatusUnauthorized || setsSessionLine(resp) {
						t.Errorf("who waits is answered with %d, session set: %t", resp.StatusCode, setsSessionLine(resp))
					}
					p.settle(t)
					if n := p.op.ActiveRefreshTokens("alice"); n != 0 {
						t.Errorf("%d refresh tokens are left", n)
					}
					standing(t, after(cookie, resp.Header), nobody, p, q)
					checkNothingLeft(t, cookie, p, q)
				}
			})
		})
	}
}

// BCL-23: the same at each call of the store that the refresh makes, and at each that the logout makes.
func TestALogoutBetweenTheStepsOfARefresh(t *testing.T) {
	for _, end := range waysOut {
		for _, inRefresh := range []bool{true, false} {
			name := " at a call of the refresh"
			if !inRefresh {
				name = " lets the refresh pass"
			}
			t.Run(end.name+name, func(t *testing.T) {
				everyMode(t, func(t *testing.T, p, q *process) {
					atEach(3, t, func(_ int, hook func(func()) func(method, key string)) {
						cookie, last := p.login(), make(chan *http.Response, 1)
						time.Sleep(61 * time.Minute)
						refresh := func() { last <- p.get("/token", cookie) }
						if inRefresh {
							ended := false
							p.faults.Before(hook(func() { ended = true; end.do(t, q) }))
							refresh()
							p.faults.Before(nil)
							if !ended {
								end.do(t, q)
							}
						} else {
							refreshed := false
							q.faults.Before(hook(func() { refreshed = true; refresh() }))
							end.do(t, q)
							q.faults.Before(nil)
							if !refreshed {
								refresh()
							}
						}
						standing(t, after(cookie, (<-last).Header), nobody, p, q)
						checkNothingLeft(t, cookie, p, q)
					})
				})
			})
		}
	}
}

// S09: what was refreshed since then began when it was logged in, and is ended by an older logout all the same. With
// offline_access the provider would go on refreshing it.
func TestARefreshDoesNotReviveASession(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, p *process, issued time.Time){
		"a sid": func(t *testing.T, p *process, issued time.Time) {
			p.toldLate(t, "", newestSID(p.op), issued)
		},
		"a subject": func(t *testing.T, p *process, issued time.Time) { p.toldLate(t, "alice", "", issued) },
		"RevokeSessions": func(t *testing.T, p *process, _ time.Time) {
			if err := p.RevokeSessions(t.Context(), p.op.Issuer(), "alice"); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				cookie := p.login()
				time.Sleep(30 * time.Minute)
				issued := time.Now()
				time.Sleep(31 * time.Minute)
				_, cookie = p.token("", cookie) // whose ID token is of now
				end(t, q, issued)
				standing(t, cookie, nobody, p, q)
				for _, one := range []*process{p, q} {
					if resp := one.get("/token?force", cookie); resp.StatusCode != http.StatusUnauthorized || setsSessionLine(resp) {
						t.Errorf("a refresh after that is answered with %d", resp.StatusCode)
					}
				}
				p.want(1)
				checkNothingLeft(t, cookie, p, q)
			})
		})
	}
}

// setsSessionLine reports whether an answer sets a session cookie, and does not just delete it.
func setsSessionLine(resp *http.Response) bool {
	lines := sessionLines(resp.Header)
	return len(lines) > 0 && !strings.Contains(lines[0], "Max-Age=0")
}

// toldLate brings a logout token that was issued some time ago.
func (p *process) toldLate(t *testing.T, subject, sid string, issued time.Time) {
	t.Helper()
	token := p.op.LogoutToken(subject, sid, func(_, claims map[string]any) { claims["iat"] = issued.Unix() })
	if status := p.backchannel(token); status != http.StatusOK {
		t.Errorf("the token is answered with %d: %s", status, p.logs)
	}
}

// Lessons 32 and 33, S09: a token that arrives late ends what had begun when it was issued, all of it, and nothing that has
// begun since.
func TestALateLogoutTokenSparesLaterLogins(t *testing.T) {
	for _, named := range []string{"a sid", "a subject", "both"} {
		t.Run(named, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				first, second := p.login(), q.login()
				sid, subject := p.op.SIDs("alice")[0], "alice"
				time.Sleep(10 * time.Second)
				issued, want := time.Now(), nobody
				if named == "a sid" {
					subject = ""
				}
				if named == "a subject" {
					sid = ""
				} else {
					want = "alice" // of the other session
				}
				time.Sleep(time.Second)
				third := p.login()
				time.Sleep(time.Minute)
				q.toldLate(t, subject, sid, issued)
				standing(t, first, nobody, p, q)
				standing(t, second, want, p, q)
				standing(t, third, "alice", p, q)
				time.Sleep(20 * time.Hour) // killing what has expired, or is gone, takes nothing else along
				standing(t, third, "alice", p, q)
				q.told(t, "alice", "")
				standing(t, third, nobody, p, q)
			})
		})
	}
}

// S09: the nodes of a provider may disagree about the time by a minute when they end a session by its sid, and by nothing when
// they end a subject's: there, the time alone says which sessions are meant.
func TestWhatAProvidersNodesMayDisagreeBy(t *testing.T) {
	for _, tt := range []struct {
		named string
		ago   time.Duration // of the token, counted from the login
		want  string
	}{
		{"a sid", 0, nobody},
		{"a sid", time.Minute, nobody},
		{"a sid", 61 * time.Second, "alice"},
		{"a subject", 0, nobody},
		{"a subject", time.Second, "alice"},
	} {
		t.Run(tt.named+" "+tt.ago.String(), func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				cookie := p.login()
				sid, subject := newestSID(p.op), ""
				if tt.named == "a subject" {
					sid, subject = "", "alice"
				}
				q.toldLate(t, subject, sid, time.Now().Add(-tt.ago))
				standing(t, cookie, tt.want, p, q)
			})
		})
	}
}

// S09: RevokeSessions asks no clock. Sessions of a provider whose clock is two minutes off end all the same, and later logins
// live.
func TestRevokeSessionsDoesNotAskTheClock(t *testing.T) {
	for _, off := range []time.Duration{-2 * time.Minute, 2 * time.Minute} {
		t.Run(off.String(), func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				p.op.EditIDToken(func(claims map[string]any) {
					for _, name := range []string{"iat", "exp"} {
						claims[name] = claims[name].(int64) + int64(off/time.Second)
					}
				})
				first, second := p.login(), q.login()
				for range 3 {
					if err := q.RevokeSessions(t.Context(), p.op.Issuer(), "alice"); err != nil {
						t.Fatal(err)
					}
					standing(t, first, nobody, p, q)
					standing(t, second, nobody, p, q)
					first = p.login() // at once
					time.Sleep(time.Second)
					second = q.login()
					standing(t, first, "alice", p, q)
					standing(t, second, "alice", p, q)
				}
			}, func(o *oidcauth.Options) { o.ClockSkew = 3 * time.Minute })
		})
	}
}
