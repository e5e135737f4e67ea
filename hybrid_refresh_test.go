package oidcauth_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// A mode is how processes share a store: for sessions, or for what is noted about sessions in cookies.
type mode []func(*oidcauth.Options)

// and returns the options of a process in a mode, after edit.
func (m mode) and(edit ...func(*oidcauth.Options)) []func(*oidcauth.Options) {
	return slices.Concat(m, edit)
}

// inModes runs a test in a bubble for each mode: as [everyMode], for processes that differ.
func inModes(t *testing.T, test func(t *testing.T, m mode)) {
	t.Parallel()
	for name, m := range map[string]mode{"in the store": nil, "in cookies": {inCookies}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, m) })
		})
	}
}

// stumbles are the ways in which one call of a store goes wrong.
var stumbles = map[string]func(f *oidcauthtest.FaultyStore, method string){
	"fails":                    func(f *oidcauthtest.FaultyStore, m string) { f.FailNext(1, errDown, m) },
	"is carried out and fails": func(f *oidcauthtest.FaultyStore, m string) { f.LoseAnswers(1, errDown, m) },
	"hangs":                    func(f *oidcauthtest.FaultyStore, m string) { f.FailNext(1, nil, m) },
	"is carried out and hangs": func(f *oidcauthtest.FaultyStore, m string) { f.LoseAnswers(1, nil, m) },
}

// stumble lets the nth call of a method from now on, counted from 1, go wrong.
func (p *process) stumble(n int, method string, how func(f *oidcauthtest.FaultyStore, method string)) {
	var mu sync.Mutex
	count := 1
	next := func() {
		if count == n {
			how(p.faults, method)
		}
		count++
	}
	next()
	p.faults.Before(func(m, _ string) { // a call's fault is settled before this runs
		mu.Lock()
		defer mu.Unlock()
		if m == method {
			next()
		}
	})
}

// S05, S06: one call of the store goes wrong at one process while two refresh the session. It is refreshed once, nobody is
// logged out, and no refresh token is spent twice.
func TestAStoreThatStumblesDuringARefresh(t *testing.T) {
	for method, calls := range map[string]int{"Get": 6, "Set": 5} {
		for how, stumble := range stumbles {
			for n := 1; n <= calls; n++ {
				t.Run(fmt.Sprintf("%s %d %s", method, n, how), func(t *testing.T) {
					everyMode(t, func(t *testing.T, p, q *process) {
						cookie := p.login()
						time.Sleep(61 * time.Minute)
						p.op.Delay("token", 3*time.Second)
						p.stumble(n, method, stumble)
						answers := make(chan *http.Response, 11)
						go func() { answers <- p.get("/token", cookie) }()
						synctest.Wait()
						for range 10 {
							go func() { answers <- q.get("/token", cookie) }()
						}
						for range 11 {
							if resp := <-answers; resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
								t.Errorf("an answer is %d: %s", resp.StatusCode, body(resp))
							}
						}
						p.faults.Before(nil)
						p.faults.Heal()
						time.Sleep(time.Minute)
						first, _ := p.token("", cookie)
						if second, _ := q.token("", cookie); second != first {
							t.Error("the processes do not have the same token")
						}
						p.want(1)
					})
				})
			}
		}
	}
}

// A nap is where a process falls asleep during a refresh, as a virtual machine that is moved does: its own requests go on
// when it wakes up, and what it asked of others in the meantime has timed out.
type nap struct {
	name   string
	where  string        // "request": before it leaves; "hook": in BeforeSave; "1" to "4": before that Set of the store
	waits  time.Duration // how long another process then waits for its token
	itself int           // how the sleeper's own request is answered
	grants int
}

var naps = []nap{
	{"before it has a claim", "1", 0, 503, 1}, // the store's call has timed out
	{"with a claim", "2", 5 * time.Second, 200, 1},
	{"before the request leaves", "request", 40 * time.Second, 200, 1},
	{"with the answer", "hook", 40 * time.Second, 200, 2},
	{"with the claim still to be given back", "4", 0, 200, 1},
}

// sleeper are options by which a process falls asleep for as long as *d says, once, if it is to do so where it says.
func sleeper(where string, d *time.Duration) func(*oidcauth.Options) {
	sleep := func(here string) {
		if asleep := *d; here == where && asleep > 0 {
			*d = 0
			time.Sleep(asleep)
		}
	}
	return func(o *oidcauth.Options) {
		next := o.HTTPClient.Transport
		o.HTTPClient = &http.Client{Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/token") {
				sleep("request")
			}
			if r.Context().Err() != nil {
				return nil, context.Cause(r.Context()) // as a real transport does
			}
			return next.RoundTrip(r)
		})}
		o.BeforeSave = func(context.Context, *oidcauth.Session) error { sleep("hook"); return nil }
	}
}

// S05, S06, issue 5 done when 1: a process that sleeps for ten minutes, or for good, keeps the others waiting for as long
// as its claim holds, and finds out when it wakes up before it sends anything.
func TestAProcessThatSleepsDuringARefresh(t *testing.T) {
	for _, n := range naps {
		t.Run(n.name, func(t *testing.T) {
			inModes(t, func(t *testing.T, m mode) {
				var asleep time.Duration
				p := newProcess(t, m...)
				q, sleepy := p.another(m...), p.another(m.and(sleeper(n.where, &asleep))...)
				p.op.Change(func(k *oidcauthtest.Knobs) {
					if n.grants > 1 {
						k.ReuseOverlap = time.Minute
					}
					k.EditIDToken = func(c map[string]any) { c["name"] = fmt.Sprint("Alice at ", clock()) } // so that the hook is asked
				})
				cookie := p.login()
				time.Sleep(61 * time.Minute)
				asleep = 10 * time.Minute
				var sets atomic.Int32
				sleepy.faults.Before(func(method, _ string) {
					if method == "Set" && n.where == fmt.Sprint(sets.Add(1)) {
						time.Sleep(10 * time.Minute)
					}
				})
				late := make(chan *http.Response, 1)
				go func() { late <- sleepy.get("/token", cookie) }()
				synctest.Wait()
				began := time.Now()
				token, _ := q.token("", cookie)
				if took := time.Since(began); took < n.waits || took > n.waits+time.Second {
					t.Errorf("another process waits %v for its token, want %v", took, n.waits)
				}
				resp := <-late
				if slept := time.Since(began); slept < 10*time.Minute {
					t.Errorf("the sleeper is back after %v", slept)
				}
				if resp.StatusCode != n.itself || n.itself == http.StatusOK && body(resp) != token {
					t.Errorf("the sleeper's request is answered with %d, or not with the others' token", resp.StatusCode)
				}
				for _, one := range []*process{p, q, sleepy} {
					if got, _ := one.token("", cookie); got != token {
						t.Error("a process has another token")
					}
					one.settle(t)
				}
				p.want(n.grants)
				p.alive(cookie)
			})
		})
	}
}

// S05: the provider takes the refresh token no more. Each waiting request of each process is sent to the login once, and
// the provider is not asked by every process.
func TestARefreshTokenThatIsNoneIsNoneForAllProcesses(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		cookie := p.login()
		time.Sleep(61 * time.Minute)
		p.op.Delay("token", 3*time.Second)
		p.op.Fail("token", http.StatusBadRequest, "invalid_grant", -1)
		before := p.op.Count("token")
		for i, resp := range fleetCrowd([]*process{p, q}, 20, "", cookie) {
			if text := body(resp); resp.StatusCode != http.StatusUnauthorized || !strings.Contains(text, "login_required") {
				t.Errorf("answer %d is %d: %s", i, resp.StatusCode, text)
			}
		}
		if n := p.op.Count("token") - before; n < 1 || n > 2 {
			t.Errorf("the provider was asked %d times", n)
		}
		standing(t, cookie, nobody, p, q, p.another())
		p.unpunished()
	})
}

// fleetCrowd lets n requests for /token arrive at each process at the same moment.
func fleetCrowd(fleet []*process, n int, query, cookie string) (answers []*http.Response) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, one := range fleet {
		wg.Go(func() {
			got := one.crowd(n, query, cookie, one.patient)
			mu.Lock()
			defer mu.Unlock()
			answers = append(answers, got...)
		})
	}
	wg.Wait()
	return answers
}

// S05: what one process has found out about a provider in trouble the others believe for a second.
func TestProcessesShareAnOutageOfTheProvider(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		cookie := p.login()
		time.Sleep(61 * time.Minute)
		p.op.Fail("token", http.StatusServiceUnavailable, "", -1)
		before := p.op.Count("token")
		for i, resp := range fleetCrowd([]*process{p, q}, 20, "", cookie) {
			if resp.StatusCode != http.StatusServiceUnavailable || clears(resp.Header) {
				t.Errorf("answer %d is %d, with %d cookies", i, resp.StatusCode, len(resp.Cookies()))
			}
		}
		time.Sleep(900 * time.Millisecond)
		fleetCrowd([]*process{q}, 20, "", cookie)
		if n := p.op.Count("token") - before; n != 1 {
			t.Errorf("within a second the provider was asked %d times", n)
		}
		p.op.Fail("token", 0, "", 0)
		time.Sleep(4 * time.Second)
		token, _ := q.token("", cookie)
		if got, _ := p.token("", cookie); got != token {
			t.Error("afterwards the processes have two tokens")
		}
		p.want(1)
		standing(t, cookie, "alice", p, q)
	})
}

// S02: one grant for each audience, in turns, whatever process asks, and nobody gets the token of another audience.
func TestAudiencesTakeTurnsAcrossProcesses(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		cookie := p.login()
		p.op.Delay("token", time.Second)
		var mu sync.Mutex
		tokens := map[string]map[string]bool{}
		var wg sync.WaitGroup
		for i := range 5 {
			audience := fmt.Sprintf("https://api%d.test", i)
			tokens[audience] = map[string]bool{}
			wg.Go(func() {
				for _, resp := range fleetCrowd([]*process{p, q}, 20, "?audience="+audience, cookie) {
					token := body(resp)
					if _, of, _, ok := p.op.AccessToken(token); !ok || of != audience {
						t.Errorf("asked for %s, the answer is %d for %q", audience, resp.StatusCode, of)
					}
					mu.Lock()
					tokens[audience][token] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for audience, of := range tokens {
			if len(of) != 1 {
				t.Errorf("%d tokens for %s", len(of), audience)
			}
		}
		p.want(5)
		p.alive(cookie)
	})
}

// S23: a logout while a grant is under way leaves no refresh token at the provider, and no session: whether the provider
// hears of it before it rotates the token, or has done so already and its answer is on the way.
func TestALogoutDuringARefreshLeavesNoToken(t *testing.T) {
	for _, where := range []string{"at the process that refreshes", "at another"} {
		for name, hold := range map[string]func(*oidcauthtest.Provider) func(){
			"before the token is rotated": func(op *oidcauthtest.Provider) func() { return op.Hold("token") },
			"after the token is rotated":  func(op *oidcauthtest.Provider) func() { return op.HoldAnswer("token") },
		} {
			t.Run(where+", "+name, func(t *testing.T) {
				everyMode(t, func(t *testing.T, p, q *process) {
					at := map[string]*process{"at another": q, "at the process that refreshes": p}[where]
					cookie := p.login()
					time.Sleep(61 * time.Minute)
					release := hold(p.op)
					answers := make(chan *http.Response, 2)
					for _, one := range []*process{p, q} {
						go func() { answers <- one.get("/token", cookie) }()
						synctest.Wait()
					}
					p.op.Fail("revoke", http.StatusServiceUnavailable, "", 1) // what the logout revokes is not enough
					if resp := at.logout(cookie); resp.StatusCode/100 != 3 || !clears(resp.Header) {
						t.Errorf("the logout answers %d", resp.StatusCode)
					}
					time.Sleep(3 * time.Second)
					release()
					for range 2 {
						if resp := <-answers; resp.StatusCode != http.StatusUnauthorized || setsCookie(resp) {
							t.Errorf("an answer is %d, with %d cookies", resp.StatusCode, len(resp.Cookies()))
						}
					}
					p.settle(t)
					q.settle(t)
					if n := p.op.ActiveRefreshTokens("alice"); n != 0 {
						t.Errorf("%d refresh tokens of hers are left", n)
					}
					standing(t, cookie, nobody, p, q, p.another())
					for i, one := range []*process{p, q} {
						if resp := one.get("/token", cookie); resp.StatusCode != http.StatusUnauthorized {
							t.Errorf("a straggler at process %d gets %d", i, resp.StatusCode)
						}
					}
				})
			})
		}
	}
}

// S23: a logout with a cookie that is two generations behind revokes the newest refresh token, whoever has got it, and also
// where a process believes what it was told some seconds ago.
func TestALogoutWithAnOldCookieRevokesTheNewestToken(t *testing.T) {
	cached := func(o *oidcauth.Options) { o.RevocationCache = 30 * time.Second }
	everyModeOf(t, 3, func(t *testing.T, all []*process) {
		p, q, r := all[0], all[1], all[2]
		old := p.login()
		standing(t, old, "alice", r)
		_, next := q.token("?force", old)
		q.token("?force", next)
		for _, one := range all {
			one.settle(t)
		}
		if resp := r.logout(old); !strings.Contains(resp.Header.Get("Location"), "id_token_hint=") {
			t.Errorf("the logout answers %d to %s", resp.StatusCode, resp.Header.Get("Location"))
		}
		r.settle(t)
		if n := p.op.ActiveRefreshTokens("alice"); n != 0 {
			t.Errorf("%d refresh tokens of hers are left", n)
		}
		p.unpunished()
		time.Sleep(31 * time.Second)
		standing(t, next, nobody, all...)
	}, cached)
}

// S05: an outage of the store at one process that begins in the middle of a refresh, and is over before the claim is. The
// others wait for it, and the refresh token is spent once.
func TestAnOutageOfTheStoreDuringARefresh(t *testing.T) {
	for _, lasts := range []time.Duration{time.Second, 10 * time.Second, 20 * time.Second} {
		for set := 1; set <= 4; set++ {
			for outage, down := range outages {
				t.Run(fmt.Sprintf("it %s for %v from Set %d", outage, lasts, set), func(t *testing.T) {
					inModes(t, func(t *testing.T, m mode) {
						p := newProcess(t, m...)
						q := p.another(m...)
						cookie := p.login()
						time.Sleep(61 * time.Minute)
						p.op.Delay("token", time.Second)
						p.stumble(set, "Set", func(f *oidcauthtest.FaultyStore, _ string) {
							down.begin(f)
							time.AfterFunc(lasts, f.Heal)
						})
						mine := make(chan *http.Response, 1)
						go func() { mine <- p.get("/token", cookie) }()
						synctest.Wait()
						answers := q.crowd(10, "", cookie, q.patient)
						for i, resp := range answers {
							if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
								t.Errorf("answer %d is %d", i, resp.StatusCode)
							}
						}
						if resp := <-mine; resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
							t.Errorf("the answer of the process without a store is %d", resp.StatusCode)
						}
						p.faults.Before(nil)
						time.Sleep(time.Minute)
						first, _ := p.token("", cookie)
						if second, _ := q.token("", cookie); second != first {
							t.Error("the processes do not have the same token")
						}
						p.want(1)
						p.settle(t)
						q.settle(t)
					})
				})
			}
		}
	}
}

// A save that fails once and is made good a moment later keeps nobody from the next refresh for longer than that.
func TestAFailedSaveDoesNotHoldUpTheNextRefresh(t *testing.T) {
	for _, at := range []string{"this process", "another"} {
		t.Run(at, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				cookie := p.login()
				p.stumble(3, "Set", stumbles["fails"])
				_, next := p.token("?force", cookie)
				time.Sleep(2 * time.Second)
				one := map[string]*process{"this process": p, "another": q}[at]
				began := time.Now()
				one.token("?audience=https://api.test", next)
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("the next refresh takes %v", took)
				}
				p.want(2)
			})
		})
	}
}

// Tokens are refreshed after the header is out, since what a refresh brings is kept beside the cookie.
func TestRefreshesAfterTheHeaderIsOutInEveryMode(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		cookie, newest := p.login(), ""
		p.page("/stream", func(w http.ResponseWriter, r *http.Request) {
			source, err := p.TokenSource(w, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			w.(http.Flusher).Flush()
			for range 3 {
				time.Sleep(time.Hour)
				token, err := source.Token()
				if err != nil {
					t.Errorf("at %s: %v", clock(), err)
					return
				}
				newest = token.AccessToken
			}
		})
		p.get("/stream", cookie)
		p.want(3)
		if got, _ := q.token("", cookie); got != newest {
			t.Error("another process does not have the newest token")
		}
		time.Sleep(61 * time.Minute)
		q.token("", cookie)
		p.want(4)
	})
}

// S16: the provider refuses one audience as if the session was over. It is not, for no process.
func TestAnAudienceThatIsRefusedEndsNothing(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		cookie := p.login()
		time.Sleep(61 * time.Minute)
		p.op.Fail("token", http.StatusBadRequest, "invalid_grant", 1)
		resp := p.get("/token?audience=https://api.test", cookie)
		if text := body(resp); resp.StatusCode < 400 || strings.Contains(text, "login_required") || clears(resp.Header) {
			t.Errorf("the answer is %d: %s", resp.StatusCode, text)
		}
		token, _ := q.token("", cookie)
		if got, _ := p.token("", cookie); got != token {
			t.Error("the processes do not have the same token")
		}
		p.want(1)
		p.alive(cookie)
		standing(t, cookie, "alice", p, q)
	})
}
