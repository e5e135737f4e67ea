package oidcauth_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// S05, RFT-05, lesson 7: a provider in trouble ends no session. The old token is served while it is valid, and then the
// answer is 503; when the provider is back, so are the tokens.
func TestAProviderInTroubleEndsNoSession(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		trouble func(*oidcauthtest.Provider)
		takes   time.Duration
	}{
		{"it answers 503", func(p *oidcauthtest.Provider) { p.Fail("token", 503, "", -1) }, 0},
		{"it answers 500 and invalid_grant", func(p *oidcauthtest.Provider) { p.Fail("token", 500, "invalid_grant", -1) }, 0},
		{"it answers 429", func(p *oidcauthtest.Provider) { p.Fail("token", 429, "", -1) }, 0},
		{"it closes the connection", func(p *oidcauthtest.Provider) { p.Fail("token", 0, "", -1) }, 0},
		{"it takes five minutes", func(p *oidcauthtest.Provider) { p.Delay("token", 5*time.Minute) }, 30 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, func(o *oidcauth.Options) {
					o.TokenRefreshBuffer, o.IdleTimeout = 5*time.Minute, -1 // nothing rolls
				})
				cookie := g.login()
				old, _ := g.token("", cookie)
				time.Sleep(56 * time.Minute)
				tt.trouble(g.op)
				began := time.Now()
				if got, next := g.token("", cookie); got != old || next != cookie {
					t.Error("not the old token and the old cookie")
				}
				if took := time.Since(began); took != tt.takes {
					t.Errorf("the answer took %v, want %v", took, tt.takes)
				}
				time.Sleep(5 * time.Minute)
				resp := g.get("/token", cookie)
				lines := sessionLines(resp.Header)
				if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || len(lines) != 0 {
					t.Errorf("with an expired token: status %d and %d cookies", resp.StatusCode, len(lines))
				}
				if got := body(g.get("/account", cookie)); got != "alice" {
					t.Errorf("the session is gone: %q", got)
				}
				g.op.Fail("token", 0, "", 0)
				g.op.Delay("token", 0)
				time.Sleep(time.Minute)
				g.token("", cookie)
				g.want(1)
				g.settle(t)
			})
		})
	}
}

// S05: after a grant of which nothing was heard it is tried again later. With an overlap it succeeds; without one the
// provider takes it for a theft, and there is one clean end.
func TestAGrantWhoseAnswerWasLostIsTriedAgainLater(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		overlap time.Duration
		status  int // of the failure, 0 for a connection that breaks
		ends    bool
	}{
		{"a broken connection, with an overlap", 30 * time.Second, 0, false},
		{"a 502 from a proxy, with an overlap", 30 * time.Second, 502, false},
		{"a broken connection, without an overlap", 0, 0, true},
		{"a 502 from a proxy, without an overlap", 0, 502, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				g.op.Change(func(k *oidcauthtest.Knobs) { k.ReuseOverlap = tt.overlap })
				cookie := g.login()
				time.Sleep(time.Hour - 5*time.Second)
				g.op.FailAfter("token", tt.status, 1)
				valid, _ := g.token("", cookie) // 5 s are left of it
				before := g.op.Count("token")
				if again, _ := g.token("", cookie); again != valid || g.op.Count("token") != before {
					t.Error("tried again at once, or another token")
				}
				time.Sleep(time.Second)
				resp := g.get("/token", cookie)
				if g.op.Count("token") != before+1 {
					t.Errorf("%d requests a second later", g.op.Count("token")-before)
				}
				if tt.ends {
					if resp.StatusCode != http.StatusUnauthorized {
						t.Errorf("status %d", resp.StatusCode)
					}
					if next := g.get("/account", cookie); body(next) == "alice" {
						t.Error("the session goes on with a dead refresh token")
					}
				} else {
					if got := body(resp); got == valid || resp.StatusCode != http.StatusOK {
						t.Errorf("status %d, or the old token", resp.StatusCode)
					}
					g.unpunished()
					g.alive(cookie)
				}
				g.settle(t)
			})
		})
	}
}

// S05: 1, 2, 4 up to 30 seconds, for all requests of the session together, and never twice in one.
func TestAFailingProviderIsAskedAgainEverMoreSeldom(t *testing.T) {
	t.Parallel()
	for _, audience := range []string{"", "?audience=https://api.test"} {
		t.Run("audience"+audience, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				cookie := g.login()
				time.Sleep(time.Hour)
				g.op.Fail("token", 503, "", -1)
				began, before, tries := time.Now(), g.op.Count("token"), []int(nil)
				for second := range 300 {
					for _, resp := range g.crowd(3, audience, cookie, g.patient) {
						if resp.StatusCode != http.StatusServiceUnavailable {
							t.Fatalf("at %v: status %d", time.Since(began), resp.StatusCode)
						}
					}
					if n := g.op.Count("token"); n != before {
						if n > before+1 {
							t.Errorf("at second %d: %d requests at once", second, n-before)
						}
						before, tries = n, append(tries, second)
					}
					time.Sleep(time.Second)
				}
				if want := []int{0, 1, 3, 7, 15, 31, 61, 91, 121, 151, 181, 211, 241, 271}; !slices.Equal(tries, want) {
					t.Errorf("asked at %v, want %v", tries, want)
				}
				g.op.Fail("token", 0, "", 0)
				time.Sleep(time.Second)
				g.token("", cookie)
				g.op.Fail("token", 503, "", 1) // and the wait begins anew
				g.get("/token?force", cookie)
				time.Sleep(time.Second)
				g.want(1)
				g.settle(t)
			})
		})
	}
}

// S05: a deploy. The answer that was under way has the new cookie, with which the next process goes on.
func TestCloseWaitsForAGrantUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		cookie := g.login()
		time.Sleep(time.Hour)
		g.op.Delay("token", 3*time.Second)
		began, answer := time.Now(), make(chan *http.Response, 1)
		go func() { answer <- g.get("/token", cookie) }()
		time.Sleep(time.Second)
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.Close(impatient); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close before its time: %v", err)
		}
		g.settle(t)
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("Close returned after %v, the grant takes 3s", took)
		}
		g.want(1)
		resp := <-answer
		g.op.Delay("token", 0)
		g.newestIn(kept(resp.Header))
		g.token("", cookie) // after Close a request is served as before
	})
}

// S05: room is made from what can be had again: tokens for further audiences, then the ID token.
func TestATokenThatHasGrownMakesRoomForItself(t *testing.T) {
	t.Parallel()
	const audience = "?audience=https://api.test"
	for _, tt := range []struct {
		name          string
		size, further int // of the new token, and of one for another audience
		hint, more    bool
	}{
		{"it fits", 2000, 2000, true, true},
		{"without the other audience", 6000, 9500, true, false},
		{"without the other audience and the ID token", 14_725, 500, false, false}, // its signature takes 400,
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				cookie := g.login()
				grow := func(size int) string {
					token := noise(size)
					g.op.Change(func(k *oidcauthtest.Knobs) {
						k.EditTokens = func(m map[string]any) { m["access_token"] = token }
						k.EditIDToken = func(claims map[string]any) { delete(claims, "at_hash") }
					})
					return token
				}
				grow(tt.further)
				resp := g.get("/token"+audience, cookie)
				cookie = after(cookie, resp.Header)
				big := grow(tt.size)
				resp = g.get("/token?force", cookie)
				if got := body(resp); got != big || kept(resp.Header) == "" {
					t.Fatalf("status %d, %d cookies", resp.StatusCode, len(sessionLines(resp.Header)))
				}
				cookie = kept(resp.Header)
				// Another process sees what is in the cookie.
				other := newRigAt(t, g.op)
				if got := body(other.get("/token", cookie)); got != big {
					t.Error("the cookie has another token")
				}
				before := g.op.Count("token")
				other.get("/token"+audience, cookie)
				if more := g.op.Count("token") == before; more != tt.more {
					t.Errorf("the other audience's token is in the cookie: %v", more)
				}
				other.settle(t)
				other = newRigAt(t, g.op) // the grant has brought the last one an ID token again
				location := other.get("/auth/logout", cookie).Header.Get("Location")
				if hint := strings.Contains(location, "id_token_hint"); hint != tt.hint {
					t.Errorf("the ID token is in the cookie: %v", hint)
				}
				g.settle(t)
				other.settle(t)
			})
		})
	}
}

// S05: what does not fit at all is an error, and nothing is lost: the next token is had with the newest refresh token.
func TestATokenThatDoesNotFitCostsNoSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		cookie := g.login()
		g.op.EditTokenResponse(func(m map[string]any) { m["access_token"] = noise(20_000) })
		time.Sleep(time.Hour)
		for range 3 {
			resp := g.get("/token", cookie)
			if text := body(resp); resp.StatusCode != 500 || !strings.Contains(text, "session_too_large") {
				t.Errorf("status %d: %.100s", resp.StatusCode, text)
			}
			cookie = after(cookie, resp.Header)
		}
		g.want(1) // not one for each request
		if got := body(g.get("/account", cookie)); got != "alice" {
			t.Errorf("the session is gone: %q", got)
		}
		g.op.Change(func(k *oidcauthtest.Knobs) { k.EditTokens = nil })
		old := cookie
		time.Sleep(time.Hour)
		g.token("", old)
		g.want(2)
		g.settle(t)
	})
}

// The same, and the process ends before a token fits again: the refresh token that came along is in the cookie.
func TestTheRefreshTokenBesideATokenThatDoesNotFitIsInTheCookie(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		cookie := g.login()
		time.Sleep(time.Hour)
		g.op.EditTokenResponse(func(m map[string]any) { m["access_token"] = noise(20_000) })
		cookie = after(cookie, g.get("/token", cookie).Header)
		cookie = after(cookie, g.get("/", cookie).Header)
		g.op.Change(func(k *oidcauthtest.Knobs) { k.EditTokens = nil })
		g.newestIn(cookie)
		g.settle(t)
	})
}
