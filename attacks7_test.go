package oidcauth_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// S05, S02: an audience is refused with invalid_grant, the login's own tokens are refreshed to find out what that means, and
// what they bring cannot be saved at once. As long as that is so no other process spends what is spent.
func TestAProbeThatCannotBeSavedKeepsTheOthersWaiting(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		cookie := p.login()
		time.Sleep(2 * time.Hour)
		p.op.Fail("token", http.StatusBadRequest, "invalid_grant", 1)
		const save = 4 // after the claim, and the two times that a request leaves
		p.stumble(save, "Set", func(f *oidcauthtest.FaultyStore, method string) {
			f.FailNext(2, errDown, method) // that, and what the response has saved beside it
		})
		first := body(p.get("/token?audience=https://other.test", cookie))
		second := q.get("/token", cookie)
		if _, _, _, ok := p.op.AccessToken(body(second)); !ok {
			t.Errorf("the other process answers %d; the first said %q", second.StatusCode, first)
		}
		p.unpunished()
		standing(t, cookie, "alice", p, q)
	})
}

// S23: the store ends a session and says that it has not. When RevokeSession is tried again the refresh token goes, too.
func TestARevokedSessionLeavesNoRefreshTokenAfterAStumble(t *testing.T) {
	for kind, stumble := range stumbles {
		t.Run("Set "+kind, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				cookie := p.login()
				s := sessionOf(t, p.app, cookie)
				time.Sleep(2 * time.Hour)
				p.token("", cookie) // now the store has the newest in either mode
				p.settle(t)
				stumble(q.faults, "Set")
				if err := q.RevokeSession(t.Context(), s.Issuer, s.Subject, s.Handle); err != nil {
					q.faults.Heal()
					time.Sleep(2 * time.Second)
					if err = q.RevokeSession(t.Context(), s.Issuer, s.Subject, s.Handle); err != nil {
						t.Error(err)
					}
				}
				q.settle(t)
				if n := p.op.ActiveRefreshTokens("alice"); n != 0 {
					t.Errorf("%d refresh tokens are left", n)
				}
				standing(t, cookie, nobody, p, q)
			})
		})
	}
}

// S07, S23, BCL-23: the user's sessions are ended while a grant is under way, and the store stumbles when its result is saved.
// Whatever comes of that, no refresh token is left alive of a session that nobody can use.
func TestAStumbleDoesNotHideALogoutFromARefresh(t *testing.T) {
	for method, calls := range map[string]int{"Get": 4, "Set": 3} {
		for kind, stumble := range stumbles {
			t.Run(method+" "+kind, func(t *testing.T) {
				everyMode(t, func(t *testing.T, p, q *process) {
					for n := range calls {
						cookie := p.login()
						time.Sleep(2 * time.Hour)
						release := p.op.HoldAnswer("token")
						answer := make(chan *http.Response, 1)
						go func() { answer <- p.get("/token", cookie) }()
						synctest.Wait()
						time.Sleep(2 * time.Second)
						if err := q.RevokeSessions(t.Context(), p.op.Issuer(), "alice"); err != nil {
							t.Error(err)
						}
						p.stumble(n+1, method, stumble)
						release()
						resp := <-answer
						time.Sleep(2 * time.Minute)
						p.faults.Before(nil)
						p.faults.Heal()
						p.settle(t)
						q.settle(t)
						if left := p.op.ActiveRefreshTokens("alice"); left != 0 {
							t.Fatalf("call %d: the refresh is answered with %d, and %d refresh tokens are left", n, resp.StatusCode, left)
						}
						standing(t, cookie, nobody, p, q)
					}
				})
			})
		}
	}
}

// S09, S37: that a token with a sid is to end all sessions of its user takes nothing from what it does to that one, whose
// login another host of the provider may have dated half a minute later.
func TestAllSessionsIncludesTheOneNamed(t *testing.T) {
	for name, all := range map[string]bool{"that one alone": false, "all": true} {
		t.Run(name, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				cookie := p.login()
				token := p.op.LogoutToken("alice", newestSID(p.op), func(_, claims map[string]any) {
					claims["iat"] = time.Now().Add(-30 * time.Second).Unix()
				})
				if status := q.backchannel(token); status != http.StatusOK {
					t.Errorf("the token is answered with %d", status)
				}
				standing(t, cookie, nobody, p, q)
			}, func(o *oidcauth.Options) { o.BackchannelLogoutAllSessions = all })
		})
	}
}

// S15: and then there is nothing that Alice's session could be given up for.
func TestAnEndedOfferTakesNothingAway(t *testing.T) {
	for _, way := range []string{"a logout token", "RevokeSessions", "stay"} {
		t.Run(way, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				for _, b := range offerEnds(t, way, p, q) {
					standing(t, cookieOf(b), "alice", p, q)
				}
			})
		})
	}
}
