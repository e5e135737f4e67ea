package oidcauth_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// secretsAre sets the list of secrets.
func secretsAre(secrets ...string) func(*oidcauth.Options) {
	return func(o *oidcauth.Options) { o.Secrets = secrets }
}

// S10, lesson 17, CKE-05: secrets are rotated step by step, while half of the processes are one step behind.
func TestRotatingSecretsLogsNobodyOutOfTheStore(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"the process behind", "the process ahead"} {
		t.Run(first+" is asked first", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a, b := noise(40), noise(40)
				steps := [][]string{{a}, {a, b}, {b, a}, {b}}
				p := newProcess(t, secretsAre(a))
				behind, grants := p, 0
				users := map[string]string{}   // cookies of sessions by the process that they began at
				users["the first"] = p.login() // which is never refreshed: what sealed its tokens is to be replaced all the same
				p.get("/set?cart=full", users["the first"])
				for i, secrets := range steps[1:] {
					ahead := p.another(secretsAre(secrets...))
					users[fmt.Sprintf("step %d behind", i)] = behind.login()
					users[fmt.Sprintf("step %d ahead", i)] = ahead.login()
					pair := []*process{behind, ahead}
					if first == "the process ahead" {
						pair = []*process{ahead, behind}
					}
					for name := range users {
						for range 2 {
							for _, one := range pair {
								grants += useEvery(t, one, users, name)
							}
						}
						grants += useEvery(t, ahead, users, name) // soon there are no others
					}
					p.want(grants)
					behind = ahead
				}
				checkResealed(t, p, behind, users["the first"])
			})
		})
	}
}

// useEvery does what requests of a session do, and keeps the cookie that comes back. It returns the number of grants.
func useEvery(t *testing.T, p *process, users map[string]string, name string) int {
	t.Helper()
	time.Sleep(time.Minute)
	resp := p.get("/account", users[name])
	if who := body(resp); who != "alice" {
		t.Fatalf("at %s the session of %s is of %q", clock(), name, who)
	}
	users[name] = after(users[name], resp.Header)
	p.settle(t)
	if name == "the first" {
		return 0
	}
	_, users[name] = p.token("?force", users[name])
	p.settle(t)
	return 1
}

// checkResealed checks that all that the store has of a session is of the last step.
func checkResealed(t *testing.T, p, last *process, cookie string) {
	t.Helper()
	if got := value(t, sessionOf(t, last.app, cookie), "cart"); got != "full" {
		t.Errorf("the value is %q", got)
	}
	before := p.shelf.all()
	last.login()
	var latest []string // tags of a new session, of which one is the user's
	for key, it := range p.shelf.all() {
		if _, known := before[key]; !known {
			latest = it.tags
		}
	}
	for key, it := range before {
		if !slices.ContainsFunc(it.tags, func(tag string) bool { return slices.Contains(latest, tag) }) {
			t.Errorf("the entry %s… has not the tag of the first secret", key[:4])
		}
	}
}

// A secret that leaked is replaced: nothing of it opens.
func TestReplacingTheSecretEndsAllSessions(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	cookie := p.login()
	q := p.another(secretsAre(noise(40)))
	if got := q.calls(func() { q.get("/", cookie) }); got != (oidcauthtest.StoreCalls{}) || q.who(cookie) != nobody {
		t.Errorf("the page says %q, after %+v", q.who(cookie), got)
	}
}

// The ticket is re-issued once, by an answer to a request that asks, and unlike a session's cookie not for use.
func TestATicketIsReissuedUnderTheFirstSecret(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := noise(40), noise(40)
		p := newProcess(t, secretsAre(a))
		cookie := p.login()
		q := p.another(secretsAre(b, a))
		time.Sleep(time.Hour)
		if resp := q.get("/public", cookie); len(resp.Cookies()) > 0 {
			t.Error("a page that does not ask sets the cookie")
		}
		resp := q.get("/", cookie)
		q.settle(t)
		next := kept(resp.Header)
		if next == "" || next == cookie {
			t.Fatal("the page that asks does not set another cookie")
		}
		line, caching := sessionLines(resp.Header)[0], resp.Header.Get("Cache-Control")
		if !strings.Contains(line, fmt.Sprintf("Max-Age=%d", 71*3600)) || !strings.Contains(caching, "no-store") {
			t.Errorf("its attributes: %s", strings.TrimPrefix(line, next))
		}
		for range 3 {
			if resp := q.get("/", next); body(resp) != "alice" || len(resp.Cookies()) > 0 {
				t.Errorf("%d cookies are set once more", len(resp.Cookies()))
			}
			q.settle(t)
			time.Sleep(40 * time.Minute) // it is as seldom as the idle time is extended
			if resp := q.get("/", cookie); body(resp) != "alice" || kept(resp.Header) != next {
				t.Error("who comes with the old cookie does not get the same new one")
			}
		}
		if who := p.another(secretsAre(b)).who(next); who != "alice" {
			t.Errorf("without the old secret the page says %q", who)
		}
		if resp := q.logout(cookie); !clears(resp.Header) || q.who(next) != nobody {
			t.Errorf("a logout with the old cookie answers %d, and then the page says %q", resp.StatusCode, q.who(next))
		}
		q.settle(t)
	})
}

// Issue 4, done when 2: also while half of the processes are at another step each request does not cost a write.
func TestProcessesAtDifferentStepsDoNotFightOverASession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := noise(40), noise(40)
		p := newProcess(t, secretsAre(a, b))
		q := p.another(secretsAre(b, a))
		cookie, writes := p.login(), 0
		for range 10 {
			for _, one := range []*process{p, q} {
				time.Sleep(3 * time.Second)
				writes += one.calls(func() { cookie = after(cookie, one.get("/account", cookie).Header) }).Sets
			}
		}
		if writes > 2 {
			t.Errorf("20 requests within a minute cost %d writes", writes)
		}
	})
}
