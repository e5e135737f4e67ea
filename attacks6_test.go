package oidcauth_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// offerEnds lets the session that a browser of Alice is offered end, in some way at q, and gives the answer at both processes
// that was right before, each with a copy of the browser.
func offerEnds(t *testing.T, way string, p, q *process) (answered []*oidcauthtest.Browser) {
	t.Helper()
	p.browser.SignIn(oidcauthtest.Alice)
	p.op.SetUser(bob)
	question := p.browser.From("https://evil.test").Get("/auth/login?returnTo=/there")
	if !asks(question) {
		t.Fatalf("there is no question at %s", question.URL)
	}
	copied := p.browser.Clone()
	time.Sleep(2 * time.Second)
	switch way {
	case "a logout token":
		sids := p.op.SIDs("bob")
		q.told(t, "bob", sids[len(sids)-1])
	case "RevokeSessions":
		if err := q.RevokeSessions(t.Context(), p.op.Issuer(), "bob"); err != nil {
			t.Error(err)
		}
	default:
		p.stay(t, question)
	}
	for _, at := range []*process{p, q} {
		b := copied.Clone()
		b.Host("https://app.test", at.handler)
		b.Submit(question, changeToBob)
		answered = append(answered, b)
	}
	p.settle(t)
	q.settle(t)
	return answered
}

// S15, S07: a session that waits for the answer whether accounts are to be changed can be ended like any other.
func TestASessionThatIsOfferedCanBeEnded(t *testing.T) {
	for _, way := range []string{"a logout token", "RevokeSessions", "stay"} {
		t.Run(way, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				for _, b := range offerEnds(t, way, p, q) {
					if who := b.Get("/").Body; who == "bob" {
						t.Error("the answer signs bob in")
					}
				}
				if n := p.op.ActiveRefreshTokens("bob"); n != 0 {
					t.Errorf("%d refresh tokens of bob are left", n)
				}
			})
		})
	}
}

// THR-11, S08, S25: a copy of the cookie from before a new login is dead at every process, however the callback comes.
func TestANewLoginEndsTheSessionBeforeInAllProcesses(t *testing.T) {
	for _, kind := range cookieModes {
		t.Run(kind.name, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				p.browser.SignIn(oidcauthtest.Alice)
				copied := p.browser.Clone()
				standing(t, cookieOf(copied), "alice", p, q)
				p.browser.Host("https://app.test", q.handler)
				p.browser.SignIn(oidcauthtest.Alice)
				q.settle(t)
				standing(t, cookieOf(copied), nobody, q, p)
				standing(t, cookieOf(p.browser), "alice", p, q)
			}, kind.edit...)
		})
	}
}

// S20, S23: RevocationCache lets a page be shown for some seconds after the logout, and nothing else: no refresh brings
// tokens to a session that has ended elsewhere, and none of its refresh tokens is left.
func TestARevocationCacheRefreshesNothing(t *testing.T) {
	for _, end := range waysOut {
		t.Run(end.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cached := func(o *oidcauth.Options) { o.RevocationCache = 30 * time.Second }
				p := newHybrid(t, cached)
				q := p.alike(cached)
				cookie := p.login()
				time.Sleep(2 * time.Hour)
				standing(t, cookie, "alice", p) // and for 30 seconds more
				end.do(t, q)
				if resp := p.get("/token", cookie); resp.StatusCode != http.StatusUnauthorized {
					t.Errorf("a refresh is answered with %d", resp.StatusCode)
				}
				standing(t, cookie, nobody, p, q)
				p.settle(t)
				q.settle(t)
				if n := p.op.ActiveRefreshTokens("alice"); n != 0 {
					t.Errorf("%d refresh tokens are left", n)
				}
			})
		})
	}
}

// S47: who is not signed in can fill neither the store nor what a process remembers of logins, whatever he sends.
func TestStrangersLeaveNothingInTheStore(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		for range 50 {
			back := p.comesBack(t)
			back.target = edited(back.target, setting("code", noise(20)))
			back.to(t.Context(), q)
		}
		for range 50 {
			q.backchannel(unsigned(p.op.LogoutToken("alice", noise(20))))
			q.get("/auth/frontchannel-logout?iss=https%3A%2F%2Fop.test%2F&sid="+noise(20), "")
			q.get("/auth/logout", "__Host-session="+noise(54))
			q.get("/token", "__Host-session="+noise(54))
		}
		q.settle(t)
		if n := len(p.shelf.everything()); n != 0 {
			t.Errorf("%d values are in the store", n)
		}
	}, func(o *oidcauth.Options) { o.Routes.FrontchannelLogout = "/auth/frontchannel-logout" })
}
