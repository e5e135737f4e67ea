package oidcauth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// newHybrid returns a process whose sessions are in cookies, with a RevocationStore.
func newHybrid(t testing.TB, edit ...func(*oidcauth.Options)) *process {
	t.Helper()
	return newProcess(t, slices.Concat([]func(*oidcauth.Options){inCookies}, edit)...)
}

// alike returns another process of the same kind.
func (p *process) alike(edit ...func(*oidcauth.Options)) *process {
	p.t.Helper()
	return p.another(slices.Concat([]func(*oidcauth.Options){inCookies}, edit)...)
}

// S20: what a request costs where sessions are in cookies: one look-up if somebody asks for the session, and nothing else.
// It reads what is noted about the session, its sid and its subject, these under the name of each secret.
func TestWhatARequestCostsInHybridMode(t *testing.T) {
	t.Parallel()
	type calls = oidcauthtest.StoreCalls
	document := metadata("same-origin", "navigate", "document")
	lookUp := calls{Gets: 3}
	for _, tt := range []struct {
		name, path string
		want       calls
		method     string
		header     []string
		cookie     func(string) string // nil: the session's
	}{
		{name: "a page that does not ask", path: "/public"},
		{name: "a page that asks, of nobody", path: "/", cookie: func(string) string { return "" }},
		{
			name: "a page that asks, with junk", path: "/",
			cookie: func(string) string { return "__Host-session=" + strings.Repeat("A", 540) },
		},
		{
			name: "a page that asks, with a cookie that somebody changed", path: "/account",
			cookie: func(c string) string { return strings.Replace(c, c[20:30], "0123456789", 1) },
		},
		{name: "a page that asks", path: "/", want: lookUp},
		{name: "a guard and a page", path: "/account", want: lookUp},
		{name: "a guard, and everything twice", path: "/busy", want: lookUp},
		{name: "a HEAD request", path: "/account", method: "HEAD", want: lookUp},
		{name: "a prefetch", path: "/account", header: []string{"Sec-Purpose", "prefetch"}, want: lookUp},
		{name: "a page that has not changed", path: "/unchanged", want: lookUp},
		{name: "the profile", path: "/auth/profile", want: lookUp},
		{name: "the access token for a script", path: tokenRoute, header: byScript(""), want: lookUp},
		{name: "a value", path: "/set?cart=1", want: lookUp},
		{name: "the start of a login", path: "/auth/login", header: document},
		{name: "a callback out of the blue", path: "/auth/callback?state=x&code=y"},
		{name: "a logout", path: "/auth/logout", header: document, want: calls{Gets: 4, Sets: 1}},
		{name: "a logout of nobody", path: "/auth/logout", cookie: func(string) string { return "" }},
		{name: "a prefetch of the logout", path: "/auth/logout", header: []string{"Sec-Purpose", "prefetch"}},
	} {
		for _, when := range []time.Duration{0, 20 * time.Minute} { // then the session is to be extended, in the cookie
			t.Run(fmt.Sprintf("%s after %v", tt.name, when), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					p := newHybrid(t)
					p.busy()
					cookie := p.login()
					if tt.cookie != nil {
						cookie = tt.cookie(cookie)
					}
					time.Sleep(when)
					got := p.calls(func() {
						ask(p.handler, max(tt.method, "GET"), tt.path, append([]string{"Cookie", cookie}, tt.header...)...)
					})
					if got != tt.want {
						t.Errorf("%+v, want %+v", got, tt.want)
					}
				})
			})
		}
	}
}

// S20: one look-up takes the time of one call, whatever it reads.
func TestALookUpIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		sid     string
		secrets int
		gets    int
	}{
		{"with a sid", "", 1, 3},
		{"without a sid", "-", 1, 2},
		{"with a sid, under two secrets", "", 2, 5},
		{"without a sid, under two secrets", "-", 2, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newHybrid(t, secretsAre([]string{firstSecret, secondSecret}[:tt.secrets]...))
				p.op.Change(func(k *oidcauthtest.Knobs) { k.SID = tt.sid })
				cookie := p.login()
				p.faults.Before(func(string, string) { time.Sleep(time.Second) })
				began := time.Now()
				got := p.calls(func() { p.get("/account", cookie) })
				if took := time.Since(began); got != (oidcauthtest.StoreCalls{Gets: tt.gets}) || took != time.Second {
					t.Errorf("%+v in %v, want %d Gets at the same time", got, took, tt.gets)
				}
			})
		})
	}
}

// S20, S36: while the store is down nobody can tell whether a session goes on: what asks for it is 503, never 200, and no
// cookie is cleared.
func TestARevocationStoreThatIsDown(t *testing.T) {
	t.Parallel()
	document := metadata("same-origin", "navigate", "document")
	for outage, down := range outages {
		for _, tt := range []struct {
			path   string
			header []string
			status int
		}{
			{"/public", document, 200},
			{"/account", document, 503},
			{"/account", byScript(""), 503},
			{"/auth/profile", nil, 503},
			{tokenRoute, byScript(""), 503},
			{"/token", nil, 503},
			{"/set?cart=1", nil, 503},
			{"/auth/login", document, 302},
		} {
			t.Run(fmt.Sprintf("it %s, %s", outage, tt.path), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					p := newHybrid(t)
					cookie := p.login()
					time.Sleep(20 * time.Minute) // its idle time is to be extended
					down.begin(p.faults)
					began := time.Now()
					resp := ask(p.handler, "GET", tt.path, append([]string{"Cookie", cookie}, tt.header...)...)
					took, want := time.Since(began), down.takes
					if tt.status != 503 {
						want = 0
					}
					if resp.StatusCode != tt.status || len(sessionLines(resp.Header)) > 0 || took != want {
						t.Errorf("status %d, session cookies %d, after %v", resp.StatusCode, len(sessionLines(resp.Header)), took)
					}
					p.faults.Heal()
					time.Sleep(time.Second)
					standing(t, cookie, "alice", p, p.alike())
					p.settle(t)
				})
			})
		}
	}
}

// S36: a logout while the store is down clears the cookie, says that it is incomplete, and this process remembers. What the
// cookie itself has is revoked at the provider.
func TestALogoutWhileTheRevocationStoreIsDown(t *testing.T) {
	t.Parallel()
	for outage, down := range outages {
		for _, methods := range [][]string{nil, {"Get"}, {"Set"}} {
			t.Run("it "+outage+" "+strings.Join(methods, ""), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					p := newHybrid(t)
					q := p.alike()
					cookie := p.login()
					down.begin(p.faults, methods...)
					resp := p.logout(cookie)
					if text := body(resp); !clears(resp.Header) || resp.StatusCode != 503 || !strings.Contains(text, "logout_incomplete") {
						t.Errorf("status %d, the cookie is cleared: %v: %s", resp.StatusCode, clears(resp.Header), text)
					}
					p.settle(t)
					if n := p.op.ActiveRefreshTokens("alice"); n != 0 {
						t.Errorf("%d refresh tokens of hers are left", n)
					}
					p.faults.Heal()
					time.Sleep(time.Second)
					standing(t, cookie, nobody, p)
					standing(t, cookie, "alice", q) // who is told that copies may live on
					if resp := p.logout(cookie); resp.StatusCode/100 != 3 {
						t.Errorf("once more: status %d", resp.StatusCode)
					}
					standing(t, cookie, nobody, p, q)
					p.settle(t)
				})
			})
		}
	}
}

// S20: a look-up may be as old as RevocationCache, and by so much a logout elsewhere is late, however busy the session is.
func TestRevocationCache(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newHybrid(t, func(o *oidcauth.Options) { o.RevocationCache = 10 * time.Second })
		q := p.alike()
		for _, seconds := range []int{0, 1, 5, 9, 10} {
			cookie := p.login()
			time.Sleep(11 * time.Second)
			logout := time.Now().Add(time.Duration(seconds)*time.Second + 500*time.Millisecond)
			busy := p.calls(func() {
				for range 100 {
					standing(t, cookie, "alice", p)
				}
			})
			if busy.Gets != 3 {
				t.Errorf("100 requests in a second cost %d Gets", busy.Gets)
			}
			for time.Now().Before(logout) {
				standing(t, cookie, "alice", p)
				time.Sleep(100 * time.Millisecond)
			}
			q.logout(cookie)
			for p.who(cookie) != nobody {
				if late := time.Since(logout); late > 10*time.Second {
					t.Fatalf("a logout %d s after the first look-up is %v late", seconds, late)
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
		here := p.login()
		standing(t, here, "alice", p)
		p.logout(here)
		standing(t, here, nobody, p) // at this process it is at once
		p.settle(t)
	})
}

// S20: what a store that evicts costs. A record of the newest tokens that is gone does no harm while the cookie has them; a
// mark that is gone brings the session back at the processes that have not met it. Therefore noeviction.
func TestAStoreThatEvicts(t *testing.T) {
	t.Parallel()
	evict := func(t *testing.T, p *process) {
		for key := range p.shelf.everything() {
			if err := p.shelf.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		p := newHybrid(t)
		q := p.alike()
		cookie := p.login()
		_, cookie = p.token("?force", cookie)
		p.settle(t)
		evict(t, p)
		standing(t, cookie, "alice", p, q)
		time.Sleep(time.Minute)
		_, cookie = q.token("?force", cookie)
		p.want(2)
		p.logout(cookie)
		standing(t, cookie, nobody, p, q)
		evict(t, p)
		standing(t, cookie, nobody, p, q)
		standing(t, cookie, "alice", p.alike())
		p.settle(t)
		q.settle(t)
	})
}

// S08: the longest life that a session may have where a store notes that it has ended: ten years, after which it would not.
func TestTheLongestLifeCanBeEnded(t *testing.T) {
	const longest = 10 * 365 * 24 * time.Hour
	everyMode(t, func(t *testing.T, p, q *process) {
		cookie, other := p.login(), p.login()
		time.Sleep(longest - time.Hour)
		standing(t, cookie, "alice", p, q)
		p.logout(cookie)
		standing(t, cookie, nobody, p, q)
		if err := p.RevokeSessions(t.Context(), p.op.Issuer(), "alice"); err != nil {
			t.Error(err)
		}
		standing(t, other, nobody, p, q)
	}, func(o *oidcauth.Options) { o.AbsoluteTimeout, o.IdleTimeout = longest, -1 })
}

// What BeforeSave makes of a session at a refresh in one process is seen by the others, also by who still comes with the
// cookie from before: values that it has set, and that it has deleted.
func TestWhatBeforeSaveChangesIsSeenByOtherProcesses(t *testing.T) {
	inModes(t, func(t *testing.T, m mode) {
		p := newProcess(t, m.and(namesAtRefresh)...)
		r := p.another(m.and(namesAtRefresh)...)
		all := []*process{p, r, p.another(m.and(namesAtRefresh)...)}
		old := p.login()
		old = after(old, p.get("/set?cart=full&admin=yes", old).Header)
		check := func(when, cookie string, want ...string) {
			t.Helper()
			for i, one := range all {
				s, got := sessionOf(t, one.app, cookie), []string{}
				for _, key := range []string{"name", "cart", "admin"} {
					got = append(got, value(t, s, key))
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s process %d sees %q, want %q", when, i, got, want)
				}
			}
		}
		check("at first", old, "Alice Example", "full", "yes")
		p.op.EditIDToken(func(c map[string]any) { c["name"] = "Alice Cooper" })
		_, next := p.token("?force", old)
		for _, cookie := range []string{old, next} {
			check("after a refresh", cookie, "Alice Cooper", "full", "")
		}
		time.Sleep(time.Minute)
		_, newest := r.token("?force", next) // which changes nothing more
		for _, cookie := range []string{newest, next, old} {
			check("after two refreshes", cookie, "Alice Cooper", "full", "")
		}
		time.Sleep(time.Minute)
		_, newest = p.another(m.and(namesAtRefresh)...).token("?force", newest) // by a process that has only the cookie to go by
		for _, cookie := range []string{newest, next, old} {
			check("after a refresh by a new process", cookie, "Alice Cooper", "full", "")
		}
		for _, one := range all {
			one.settle(t)
		}
	})
}

// namesAtRefresh notes the user's name, and withdraws what the user was given by hand when it changes.
func namesAtRefresh(o *oidcauth.Options) {
	o.BeforeSave = func(_ context.Context, s *oidcauth.Session) error {
		var c struct{ Name string }
		if err := s.Claims(&c); err != nil {
			return err
		}
		if c.Name == "Alice Cooper" {
			return errors.Join(s.SetValue("name", c.Name), s.SetValue("admin", nil))
		}
		return s.SetValue("name", c.Name)
	}
}

// Client.RevokeSession revokes the refresh token, whoever has got it: at once if a store has it. That of a session which
// was never refreshed may be in its cookie alone, and is revoked when that comes the next time, as after a logout token.
func TestTheRefreshTokenOfARevokedSession(t *testing.T) {
	for _, refreshed := range []bool{false, true} {
		t.Run(fmt.Sprintf("refreshed: %v", refreshed), func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				cookie := p.login()
				handle := sessionOf(t, p.app, cookie).Handle
				if refreshed {
					p.token("?force", cookie)
				}
				if err := q.RevokeSession(t.Context(), p.op.Issuer(), "alice", handle); err != nil {
					t.Fatal(err)
				}
				if !refreshed {
					standing(t, cookie, nobody, p, q)
				}
				p.settle(t)
				q.settle(t)
				if n := p.op.ActiveRefreshTokens("alice"); n != 0 {
					t.Errorf("%d refresh tokens of hers are left", n)
				}
				standing(t, cookie, nobody, p, q)
			})
		})
	}
}

// S36: three look-ups in a row have to fail before nobody asks for a second, and not three calls of one: a connection that
// broke is one visitor's bad luck.
func TestOneFailedLookUpStopsNobodyElse(t *testing.T) {
	everyMode(t, func(t *testing.T, p, _ *process) {
		cookie, other := p.login(), p.login()
		p.faults.Fail(errDown)
		if resp := p.get("/account", cookie); resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("while the store is down the answer is %d", resp.StatusCode)
		}
		p.faults.Heal()
		if resp := p.get("/account", other); resp.StatusCode != http.StatusOK {
			t.Errorf("the next visitor gets %d, although the store is there again", resp.StatusCode)
		}
	})
}

// A Store that finds no sessions by user does everything else: one grant for all processes, logout, and RevokeSession.
func TestAStoreWithoutAnIndexDoesTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hide := func(o *oidcauth.Options) { o.Store = hiding{o.Store} }
		p := newProcess(t, hide)
		q := p.another(hide)
		first, second, third := p.login(), p.login(), p.login()
		time.Sleep(61 * time.Minute)
		p.op.Delay("token", 2*time.Second)
		fleetCrowd([]*process{p, q}, 5, "", first)
		p.want(1)
		q.logout(first)
		standing(t, first, nobody, p, q)
		if err := q.RevokeSession(t.Context(), p.op.Issuer(), "alice", sessionOf(t, p.app, second).Handle); err != nil {
			t.Error(err)
		}
		standing(t, second, nobody, p, q)
		if err := q.RevokeSessions(t.Context(), p.op.Issuer(), "alice"); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("RevokeSessions: %v", err)
		}
		standing(t, third, "alice", p, q)
		p.settle(t)
		q.settle(t)
	})
}
