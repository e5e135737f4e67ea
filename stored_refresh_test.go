package oidcauth_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

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
