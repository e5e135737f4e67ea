package oidcauth_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// lives are how long sessions last, by what.
var lives = []struct {
	name     string
	edit     func(*oidcauth.Options)
	limit    time.Duration // what the provider says, 0: nothing
	idle     time.Duration // when it ends unused
	absolute time.Duration // when it ends used
	maxAge   int           // of the cookie, in seconds
}{
	{"by default", nil, 0, 24 * time.Hour, 72 * time.Hour, 72 * 3600},
	{"without an idle end", func(o *oidcauth.Options) { o.IdleTimeout = -1 }, 0, 72 * time.Hour, 72 * time.Hour, 72 * 3600},
	{"with lifetimes of its own", func(o *oidcauth.Options) {
		o.IdleTimeout, o.AbsoluteTimeout = 10*time.Minute, time.Hour
	}, 0, 10 * time.Minute, time.Hour, 3600},
	{"limited by the provider", nil, 6 * time.Hour, 6*time.Hour + 30*time.Second, 6*time.Hour + 30*time.Second, 6*3600 + 30},
	{"of the browser's session", func(o *oidcauth.Options) { o.Cookie.Transient = true }, 0, 24 * time.Hour, 72 * time.Hour, 0},
}

// Behaviour 4: the store keeps a session until its idle end, the cookie lasts until its absolute end, and a store that
// keeps it too long changes nothing.
func TestTheEndsOfAStoredSession(t *testing.T) {
	t.Parallel()
	for _, life := range lives {
		for _, used := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, used: %v", life.name, used), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var edit []func(*oidcauth.Options)
					if life.edit != nil {
						edit = append(edit, life.edit)
					}
					p := newProcess(t, edit...)
					began := time.Now()
					if life.limit > 0 {
						p.op.EditIDToken(func(c map[string]any) { c["session_expiry"] = began.Add(life.limit).Unix() })
					}
					p.browser.SignIn(oidcauthtest.Alice)
					c := p.browser.Cookies("/")[0]
					if ends := time.Until(c.Expires); c.Expires.IsZero() != (life.maxAge == 0) ||
						life.maxAge > 0 && ends != time.Duration(life.maxAge)*time.Second {
						t.Errorf("the cookie ends after %v", ends)
					}
					cookie, end := c.Name+"="+c.Value, life.idle
					if used {
						end = life.absolute
						p.useUntil(cookie, began.Add(end-time.Second), life.idle/3)
					}
					key, it := p.shelf.only(t)
					if s := sessionOf(t, p.app, cookie); !it.expires.Equal(s.ExpiresAt) || s.ExpiresAt.Sub(began) != end {
						t.Errorf("the store keeps it for %v, it ends after %v, want %v", it.expires.Sub(began), s.ExpiresAt.Sub(began), end)
					}
					it.expires = began.Add(1000 * time.Hour)
					p.shelf.put(t, key, it)
					time.Sleep(time.Until(began.Add(end - time.Second)))
					sessionOf(t, p.app, cookie)
					time.Sleep(time.Second)
					if who := p.who(cookie); who != nobody {
						t.Errorf("at its end the page says %q", who)
					}
					p.settle(t)
				})
			})
		}
	}
}

// useUntil asks for a page again and again, the last time at end.
func (p *process) useUntil(cookie string, end time.Time, every time.Duration) {
	p.t.Helper()
	for time.Now().Before(end) {
		time.Sleep(min(every, time.Until(end)))
		if resp := p.get("/", cookie); body(resp) != "alice" || len(resp.Cookies()) > 0 {
			p.t.Fatalf("at %s the session has ended, or a cookie is set", clock())
		}
		p.settle(p.t)
	}
}

// A session that no cookies would hold: its cookie is small, and it is refreshed and given values like any other.
func TestALargeSessionInAStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t, userInfo)
		user, history := withNote("alice", 30_000), noise(100_000)
		p.op.Change(func(k *oidcauthtest.Knobs) { k.EditUserInfo = func(c map[string]any) { c["history"] = history } })
		cookie := p.cookies(t, user)
		if len(cookie) > 100 {
			t.Errorf("the cookie has %d characters", len(cookie))
		}
		p.get("/set?cart="+noise(50_000), cookie)
		newest, _ := p.token("?force", cookie)
		p.settle(t)
		q := p.another()
		for name, want := range map[string]any{"note": user.Claims["note"], "history": history} {
			if got := claimOf(t, sessionOf(t, q.app, cookie), name); got != want {
				t.Errorf("%d characters of %s come back", len(fmt.Sprint(got)), name)
			}
		}
		if got := value(t, sessionOf(t, q.app, cookie), "cart"); len(got) != 50_000 {
			t.Errorf("%d characters of the value come back", len(got))
		}
		if got, _ := q.token("", cookie); got != newest {
			t.Error("another process does not have the newest token")
		}
		resp := q.logout(cookie)
		if hint := resp.Header.Get("Location"); strings.Contains(hint, "id_token_hint") && len(hint) > 10_000 {
			t.Errorf("the logout URL has %d characters", len(hint))
		}
		q.settle(t)
	})
}

// S24: whoever reloads while the login is finished is signed in, whatever cookie the browser had before.
func TestARepeatedCallbackInAStore(t *testing.T) {
	t.Parallel()
	for _, before := range []string{"nobody", "a session", "a session that has ended"} {
		for _, hangs := range []bool{true, false} {
			t.Run(fmt.Sprintf("after %s, the first hangs up: %v", before, hangs), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					p := newProcess(t)
					if before != "nobody" {
						p.browser.SignIn(oidcauthtest.Alice)
					}
					if before == "a session that has ended" {
						p.another().logout(p.browser.Request("GET", "/").Header.Get("Cookie"))
					}
					p.op.SetUser(oidcauthtest.Alice)
					path := p.returned(t, "/auth/login?returnTo=/account")
					cookies := p.browser.Request("GET", path).Header.Get("Cookie")
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					callback := func(ctx context.Context) chan *http.Response {
						answer := make(chan *http.Response, 1)
						r := httptest.NewRequestWithContext(ctx, "GET", path, http.NoBody)
						r.Host = "app.test"
						r.Header.Set("Cookie", cookies)
						go func() { answer <- answerTo(p.handler, r) }()
						synctest.Wait()
						return answer
					}
					release := p.op.Hold("token")
					first := callback(ctx)
					second := callback(t.Context())
					if hangs {
						cancel()
					}
					release()
					<-first
					resp := <-second
					p.settle(t)
					if who := p.who(kept(resp.Header)); who != "alice" || resp.StatusCode/100 != 3 {
						t.Errorf("the second answer is %d, and then the page says %q", resp.StatusCode, who)
					}
					if left := len(p.shelf.all()); left != 1 {
						t.Errorf("%d sessions are left", left)
					}
				})
			})
		}
	}
}
