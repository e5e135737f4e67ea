package oidcauth_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// S47: a ticket of which one character is wrong is nobody's concern but ours.
func TestATicketThatWasChangedCostsNothing(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	cookie := p.login()
	name, ticket, _ := strings.Cut(cookie, "=")
	other := func(c byte) string { return map[bool]string{true: "B", false: "A"}[c == 'A'] }
	forged := []string{"", "=", ticket + "A", ticket + "=", ticket[:53], ticket[:43], ticket + ticket, strings.Repeat("A", 4000)}
	for i := range ticket {
		forged = append(forged, ticket[:i]+other(ticket[i])+ticket[i+1:])
	}
	before := p.faults.Calls()
	for _, value := range forged {
		if who := p.who(name + "=" + value); who != nobody {
			t.Errorf("with %d characters the page says %q", len(value), who)
		}
	}
	if got := p.faults.Calls(); got != before {
		t.Errorf("the store was asked: %+v", got)
	}
	if who := p.who(cookie); who != "alice" {
		t.Errorf("the ticket itself is of %q", who)
	}
}

// S43, THR-10: which of two is the user's own, nobody can tell; junk beside it, or the same twice, does no harm.
func TestTwoTicketsInOneRequest(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	alice, bobs := p.login(), p.cookies(t, bob)
	ended := p.login()
	p.logout(ended)
	for name, tt := range map[string]struct{ cookie, want string }{
		"of two users":             {alice + "; " + bobs, nobody},
		"of two users, reversed":   {bobs + "; " + alice, nobody},
		"of which one has ended":   {ended + "; " + alice, nobody},
		"the same twice":           {alice + "; " + alice, "alice"},
		"and junk":                 {alice + "; __Host-session=junk", "alice"},
		"and junk first":           {"__Host-session=" + strings.Repeat("A", 54) + "; " + alice, "alice"},
		"and one of another name":  {alice + "; __Host-sessions=" + valueOf(bobs), "alice"},
		"and one of a later chunk": {alice + "; __Host-session.1=" + valueOf(bobs), "alice"},
	} {
		if who := p.who(tt.cookie); who != tt.want {
			t.Errorf("two tickets %s: the page says %q, want %q", name, who, tt.want)
		}
	}
}

// A request that a handler makes from its own, with another cookie, is another visitor's.
func TestARequestMadeFromAnotherHasItsOwnSession(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	alice, bobs := p.login(), p.cookies(t, bob)
	for name, around := range places(p.app) {
		resp := ask(around(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			inner := r.Clone(r.Context())
			inner.Header.Set("Cookie", bobs)
			if s, err := p.GetSession(inner); err != nil || s.Subject != "bob" {
				t.Errorf("%s: %v, %v", name, s, err)
			}
			if err := p.UpdateSession(w, inner, set("owner", "bob")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if token, err := p.AccessToken(w, inner, nil); err != nil {
				t.Errorf("%s: %v", name, err)
			} else if subject, _, _, _ := p.op.AccessToken(token.AccessToken); subject != "bob" {
				t.Errorf("%s: the token is of %q", name, subject)
			}
			if s, err := p.GetSession(r); err != nil || s.Subject != "alice" || value(t, s, "owner") != "" {
				t.Errorf("%s: its own: %v, %v", name, s, err)
			}
		})), "GET", "/", "Cookie", alice)
		if len(resp.Cookies()) > 0 {
			t.Errorf("%s: %d cookies are set", name, len(resp.Cookies()))
		}
	}
	if got := p.valuesOf(alice, "owner") + p.valuesOf(bobs, "owner"); got != "owner= owner=bob " {
		t.Errorf("the owners are %s", got)
	}
}

// A store that is full turns newcomers away, and keeps whom it has.
func TestAFullStoreTurnsNewcomersAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t, func(o *oidcauth.Options) { o.Store = oidcauth.NewMemoryStore(2) })
		cookie, other := p.login(), p.login()
		time.Sleep(20 * time.Minute) // what is noted of the logins is gone
		p.op.SetUser(bob)
		page := p.browser.From("https://app.test").Get("/auth/login")
		if page.StatusCode != http.StatusServiceUnavailable || errorCode(page) != "store_unavailable" {
			t.Errorf("a newcomer gets %d %q", page.StatusCode, errorCode(page))
		}
		p.get("/set?cart=full", cookie)
		for _, one := range []string{cookie, other} {
			p.token("?force", one)
		}
		p.want(2)
		p.settle(t)
		if s := sessionOf(t, p.app, cookie); time.Since(s.LastSeenAt) > time.Minute || value(t, s, "cart") != "full" {
			t.Errorf("last seen %v ago, with the value %q", time.Since(s.LastSeenAt), value(t, s, "cart"))
		}
		p.logout(cookie)
		p.settle(t)
		time.Sleep(time.Minute) // the claims are gone
		if page := p.browser.From("https://app.test").Get("/auth/login"); page.Body != "bob" {
			t.Errorf("when there is room the newcomer gets %d", page.StatusCode)
		}
	})
}

// S23, S44: tokens that the store never saw, of a session that another process has ended meanwhile.
func TestTokensThatWereNeverSavedEndWithTheirSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		cookie := p.login()
		p.op.Change(func(k *oidcauthtest.Knobs) { k.ReuseOverlap = time.Hour })
		p.duringGrant("/token?force", cookie, func() { p.faults.Fail(errDown, "Set") })
		p.want(1)
		p.settle(t)
		p.faults.Heal()
		p.another().logout(cookie)
		if who := p.who(cookie); who != nobody {
			t.Errorf("the page says %q", who)
		}
		if resp := p.get("/token?force", cookie); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("/token answers %d", resp.StatusCode)
		}
		p.settle(t)
		if left := len(p.shelf.all()); left != 0 {
			t.Errorf("%d sessions are left", left)
		}
	})
}
