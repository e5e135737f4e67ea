package oidcauth_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// Issue 2, done when 1. RFT-06, lessons 1, 2 and 3: whoever hangs up, and however slow the provider is.
func TestTwoHundredRequestsWithOneExpiredTokenCauseOneGrant(t *testing.T) {
	t.Parallel()
	const n = 200
	nobody := func(int) bool { return false }
	for _, tt := range []struct {
		name   string
		delay  time.Duration
		hangUp func(i int) bool // a second after the request
	}{
		{"at once", 0, nobody},
		{"at a 3-second token endpoint", 3 * time.Second, nobody},
		{"at a 12-second token endpoint", 12 * time.Second, nobody},
		{"of which half hang up", 3 * time.Second, func(i int) bool { return i%2 == 0 }},
		{"of which the first hangs up", 12 * time.Second, func(i int) bool { return i == 0 }},
		{"who all hang up", 3 * time.Second, func(int) bool { return true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				cookie := g.login()
				old, _ := g.token("", cookie)
				time.Sleep(time.Hour)
				g.op.Delay("token", tt.delay)
				answers := g.crowd(n, "", cookie, func(i int) context.Context {
					if !tt.hangUp(i) {
						return t.Context()
					}
					ctx, cancel := context.WithCancel(t.Context())
					time.AfterFunc(time.Second, cancel)
					return ctx
				})
				g.settle(t) // the grant goes on when all are gone
				g.want(1)
				newest, fresh := g.token("", cookie)
				if newest == old {
					t.Error("the next request gets the expired token")
				}
				for i, resp := range answers {
					if tt.hangUp(i) {
						continue
					}
					if got := body(resp); resp.StatusCode != http.StatusOK || got != newest {
						t.Fatalf("answer %d: status %d, the newest token: %v", i, resp.StatusCode, got == newest)
					}
					if kept(resp.Header) == "" {
						t.Fatalf("answer %d brings no cookie", i)
					}
				}
				g.want(1)
				g.op.Delay("token", 0)
				g.alive(fresh)
				g.alive(cookie) // a straggler
				g.settle(t)
			})
		})
	}
}

// Issue 2, done when 1. S02, S03, lesson 1.
func TestAStragglerGetsTheNewestTokensHoweverLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		old := g.login()
		time.Sleep(time.Hour)
		first, cookie := g.token("", old)
		check := func(when, want string) {
			t.Helper()
			before := g.op.Grants()
			resp := g.get("/token", old)
			if got := body(resp); got != want {
				t.Errorf("%s: status %d, not the newest token", when, resp.StatusCode)
			}
			g.want(before)
			if kept(resp.Header) == "" {
				t.Errorf("%s: the straggler does not get the newest cookie", when)
			}
		}
		time.Sleep(time.Second)
		check("a second later", first)
		time.Sleep(5 * time.Minute)
		check("five minutes later", first)
		second, cookie := g.token("?force", cookie)
		check("one more rotation later", second)
		third, _ := g.token("?force", cookie)
		check("two more rotations later", third)
		g.want(3)
		g.alive(old)
		_, fresh := g.token("", old)
		g.newestIn(fresh)
		g.settle(t)
	})
}

// S03, L6: a tunnel, a closed lid. The answer with the new tokens never arrives.
func TestABrowserThatLostTheAnswerComesBackWithTheOldCookie(t *testing.T) {
	t.Parallel()
	for _, later := range []time.Duration{time.Minute, time.Hour, 6 * time.Hour} {
		t.Run("after "+later.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				old := g.login()
				time.Sleep(time.Hour)
				g.token("", old) // lost
				time.Sleep(later)
				_, fresh := g.token("", old)
				g.unpunished()
				if fresh == old {
					t.Error("the browser does not get the newest cookie")
				}
				g.newestIn(fresh)
				g.settle(t)
			})
		})
	}
}

// S03: a page that takes long must not put the tokens back that it began with.
func TestASlowPageDoesNotUndoARefresh(t *testing.T) {
	t.Parallel()
	roll := func(g *rig, w http.ResponseWriter, r *http.Request) error {
		_, err := g.GetSession(r)
		return err
	}
	update := func(g *rig, w http.ResponseWriter, r *http.Request) error {
		return g.UpdateSession(w, r, set("cart", "full"))
	}
	token := func(g *rig, w http.ResponseWriter, r *http.Request) error {
		_, err := g.AccessToken(w, r, nil)
		return err
	}
	nothing := func(*rig, http.ResponseWriter, *http.Request) error { return nil }
	both := func(f, next step) step {
		return func(g *rig, w http.ResponseWriter, r *http.Request) error {
			if err := f(g, w, r); err != nil {
				return err
			}
			return next(g, w, r)
		}
	}
	for _, tt := range []struct {
		name          string
		before, after step          // of the page, which waits in between
		wait          time.Duration // from the login
		early         bool          // the header goes out before it waits
		sealed        bool          // by an older secret
		cart          bool
	}{
		{name: "that rolls", before: roll, after: nothing, wait: 40 * time.Minute},
		{name: "that neither rolls nor asks", before: nothing, after: nothing, wait: time.Minute},
		{name: "that rolled and sent its header before", before: roll, after: nothing, wait: 40 * time.Minute, early: true},
		{name: "that seals anew what an older secret sealed", before: roll, after: nothing, wait: time.Minute, sealed: true},
		{name: "that sealed anew early", before: roll, after: nothing, wait: time.Minute, sealed: true, early: true},
		{name: "that updates the session first", before: update, after: nothing, wait: time.Minute, cart: true},
		{name: "that updated before it waited", before: update, after: nothing, wait: time.Minute, early: true, cart: true},
		{name: "that updates the session last", before: roll, after: update, wait: time.Minute, cart: true},
		{name: "that updates first and rolls", before: update, after: nothing, wait: 40 * time.Minute, cart: true},
		{name: "that gets a token first", before: token, after: nothing, wait: time.Minute},
		{name: "that gets a token first and last", before: token, after: token, wait: time.Minute},
		{name: "that gets a token and updates", before: both(token, update), after: token, wait: time.Minute, cart: true},
		{name: "that updates and gets a token", before: both(update, token), after: token, wait: time.Minute, cart: true},
	} {
		for _, last := range []string{"page", "refresh"} {
			t.Run(tt.name+", the answer of the "+last+" last", func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					op := oidcauthtest.NewProvider(t)
					g := newRigAt(t, op)
					cookie := g.login()
					g.settle(t)
					if tt.sealed {
						g = newRigAt(t, op, func(o *oidcauth.Options) { o.Secrets = append([]string{noise(32)}, o.Secrets...) })
					}
					release := make(chan struct{})
					g.mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
						if err := tt.before(g, w, r); err != nil {
							t.Error(err)
						}
						if tt.early {
							w.WriteHeader(http.StatusOK)
						}
						<-release
						if err := tt.after(g, w, r); err != nil {
							t.Error(err)
						}
					})
					time.Sleep(tt.wait)
					page := make(chan *http.Response)
					go func() { page <- g.get("/slow", cookie) }()
					synctest.Wait()
					refresh := g.get("/token?force", cookie)
					g.want(1)
					close(release)
					slow := <-page
					jar := after(after(cookie, refresh.Header), slow.Header)
					if last == "refresh" {
						jar = after(after(cookie, slow.Header), refresh.Header)
					}
					g.want(1)
					if got := value(t, sessionOf(t, g.app, after(cookie, slow.Header)), "cart"); (got == "full") != tt.cart {
						t.Errorf("the page's answer says that the cart is %q", got)
					}
					if !tt.early && slow.Header["Set-Cookie"] == nil {
						t.Error("the page's answer does not bring the newer tokens")
					}
					g.alive(jar)
					_, fresh := g.token("", jar)
					g.settle(t)
					if !tt.sealed {
						g.newestIn(fresh)
					}
				})
			})
		}
	}
}

// S03: what a slow page sends has the newest tokens in it, and not only the hope that this process remembers.
func TestASlowPageSendsTheNewestTokens(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"rolling", "updating"} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				cookie := g.login()
				release := make(chan struct{})
				g.mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
					if page == "updating" {
						if err := g.UpdateSession(w, r, set("cart", "full")); err != nil {
							t.Error(err)
						}
					}
					<-release
				})
				time.Sleep(40 * time.Minute)
				slow := make(chan *http.Response)
				go func() { slow <- g.get("/slow", cookie) }()
				synctest.Wait()
				_, next := g.token("?force", cookie)
				g.token("?force", next)
				close(release)
				g.newestIn(kept((<-slow).Header))
				g.settle(t)
			})
		})
	}
}

// S02, L2 and L3: a provider that does not rotate. No token is handed out that has expired or was refused.
func TestWithoutRotationNoStaleTokenIsHandedOut(t *testing.T) {
	t.Parallel()
	still := func(g *rig, lifetime time.Duration) string {
		g.op.Change(func(k *oidcauthtest.Knobs) { k.KeepRefreshTokens, k.AccessTokenLifetime = true, lifetime })
		return g.login()
	}
	t.Run("tokens of 20 seconds", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t)
			cookie := still(g, 20*time.Second)
			first, _ := g.token("", cookie)
			time.Sleep(25 * time.Second)
			if second, _ := g.token("", cookie); second == first {
				t.Error("at t=25 the token of t=0 is handed out")
			}
			for range 100 {
				time.Sleep(time.Second)
				g.token("", cookie) // never one that the provider refuses
			}
			g.want(1 + 10) // one whenever 10 s are left
			g.settle(t)
		})
	})
	t.Run("refused tokens", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t)
			cookie, seen := still(g, time.Hour), map[string]bool{}
			first, _ := g.token("", cookie)
			seen[first] = true
			for i := range 3 {
				var next string
				if next, cookie = g.token("?force", cookie); seen[next] {
					t.Errorf("ForceRefresh %d brings a token that was refused", i)
				}
				seen[next] = true
				g.want(i + 1)
			}
			g.settle(t)
		})
	})
	t.Run("a token that the same request was given", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t)
			cookie := still(g, time.Hour)
			g.token("?force", cookie) // which the next request with the old cookie adopts
			g.mux.HandleFunc("/retry", func(w http.ResponseWriter, r *http.Request) {
				first, err := g.AccessToken(w, r, nil)
				if err != nil {
					t.Error(err)
				}
				second, err := g.AccessToken(w, r, &oidcauth.TokenOptions{ForceRefresh: true})
				if err != nil || second.AccessToken == first.AccessToken {
					t.Errorf("the refused token again, or an error: %v", err)
				}
			})
			g.get("/retry", cookie)
			g.want(2)
			g.settle(t)
		})
	})
	t.Run("two hundred ForceRefresh at the same time", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t)
			cookie := still(g, time.Hour)
			old, _ := g.token("", cookie)
			answers := g.crowd(200, "?force", cookie, g.patient)
			newest, _ := g.token("", cookie)
			for _, resp := range answers {
				if got := body(resp); got == old || got != newest {
					t.Fatalf("status %d, the old token: %v", resp.StatusCode, got == old)
				}
			}
			g.want(1)
			g.settle(t)
		})
	})
}

// S02, L4: whatever overlap the provider allows, it never gets to see an older refresh token.
func TestCookiesOfTheFirstGenerationAreReplayedAfterThreeRotations(t *testing.T) {
	t.Parallel()
	for _, overlap := range []time.Duration{0, 30 * time.Second, time.Minute} {
		t.Run(fmt.Sprintf("with an overlap of %v", overlap), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				g.op.Change(func(k *oidcauthtest.Knobs) {
					k.ReuseOverlap, k.AccessTokenLifetime = overlap, 5*time.Minute
				})
				first := g.login()
				cookie, newest := first, ""
				for range 3 {
					newest, cookie = g.token("?force", cookie)
				}
				for range 5 {
					time.Sleep(20 * time.Second)
					if got, _ := g.token("", first); got != newest {
						t.Error("a replayed cookie gets an older token")
					}
				}
				g.want(3)
				time.Sleep(10 * time.Minute)
				g.token("", first)
				g.token("", cookie)
				g.want(4)
				g.settle(t)
			})
		})
	}
}

// Issue 2, done when 2; S02, L1: one refresh token serves all audiences, and each gets its own token.
func TestFiveAudiencesOnOneCookieEachGetTheirOwnToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		cookie := g.login()
		g.op.Delay("token", time.Second)
		began := time.Now()
		audiences := []string{"https://a.test", "https://b.test", "https://c.test", "https://d.test", "https://e.test"}
		check := func() {
			t.Helper()
			answers := make([][]*http.Response, len(audiences))
			var wg sync.WaitGroup
			for i, audience := range audiences {
				wg.Go(func() { answers[i] = g.crowd(20, "?audience="+audience, cookie, g.patient) })
			}
			wg.Wait()
			for i, want := range audiences {
				for _, resp := range answers[i] {
					if _, got, _, ok := g.op.AccessToken(body(resp)); !ok || got != want {
						t.Fatalf("status %d; asked for %s and got a token for %q", resp.StatusCode, want, got)
					}
				}
			}
			g.want(len(audiences))
		}
		check()
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("five grants of a second took %v: want one at a time, and none twice", took)
		}
		check() // stragglers all, and all are served
		if _, got, _, _ := g.op.AccessToken(body(g.get("/token", cookie))); slices.Contains(audiences, got) {
			t.Errorf("the login's own token is now for %q", got)
		}
		g.settle(t)
	})
}

// Of eight tokens the one goes that was got least recently, and never the login's.
func TestASessionKeepsEightTokens(t *testing.T) {
	t.Parallel()
	api := func(i int) string { return fmt.Sprintf("?audience=https://%c.test", 'a'+i) }
	for _, tt := range []struct {
		name    string
		renewed int // before the ninth comes
		goes    int
	}{
		{"the first got goes", -1, 0},
		{"one that was refreshed stays", 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				cookie := g.login()
				own, _ := g.token("", cookie)
				tokens := map[int]string{}
				for i := range 7 {
					tokens[i], cookie = g.token(api(i), cookie)
				}
				g.want(7)
				if tt.renewed >= 0 {
					tokens[tt.renewed], cookie = g.token(api(tt.renewed)+"&force", cookie)
				}
				tokens[7], cookie = g.token(api(7), cookie)
				before := g.op.Grants()
				for i := range 8 {
					if i == tt.goes {
						continue
					}
					if got, _ := g.token(api(i), cookie); got != tokens[i] {
						t.Errorf("the token for %c is gone", 'a'+i)
					}
				}
				if got, _ := g.token("", cookie); got != own {
					t.Error("the login's own token is gone")
				}
				g.want(before)
				g.token(api(tt.goes), cookie)
				g.want(before + 1)
				g.settle(t)
			})
		})
	}
}
