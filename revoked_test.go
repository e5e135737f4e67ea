package oidcauth_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// inCookies leaves the sessions of a [process] in cookies: its store is the RevocationStore.
func inCookies(o *oidcauth.Options) { o.Store, o.RevocationStore = nil, o.Store }

// everyMode runs a test in a bubble with two processes of one application: once with sessions in the store, and once with
// sessions in cookies and a RevocationStore.
func everyMode(t *testing.T, test func(t *testing.T, p, q *process), edit ...func(*oidcauth.Options)) {
	everyModeOf(t, 2, func(t *testing.T, all []*process) { test(t, all[0], all[1]) }, edit...)
}

// everyModeOf is [everyMode] with n processes.
func everyModeOf(t *testing.T, n int, test func(t *testing.T, all []*process), edit ...func(*oidcauth.Options)) {
	t.Parallel()
	for name, mode := range map[string][]func(*oidcauth.Options){"in the store": nil, "in cookies": {inCookies}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				all := []*process{newProcess(t, append(mode, edit...)...)}
				for len(all) < n {
					all = append(all, all[0].another(append(mode, edit...)...))
				}
				test(t, all)
				for _, one := range all {
					one.settle(t)
				}
			})
		})
	}
}

// backchannel sends a logout token to a process and returns the status of the answer.
func (p *process) backchannel(token string) int {
	p.t.Helper()
	r := p.op.NewBrowser(p.handler).Request("POST", "/auth/backchannel-logout")
	r.Header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	form := url.Values{"logout_token": {token}}.Encode()
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(form)), int64(len(form))
	resp := answerTo(p.handler, r)
	if got := resp.Header.Get("Cache-Control"); !strings.Contains(got, "no-store") {
		p.t.Errorf("Cache-Control is %q", got) // BCL-19
	}
	return resp.StatusCode
}

// standing checks at every process who the page says that a browser with cookies is.
func standing(t *testing.T, cookie, want string, processes ...*process) {
	t.Helper()
	for i, one := range processes {
		if got := one.who(cookie); got != want {
			t.Errorf("at %s process %d sees %q, want %q", clock(), i, got, want)
		}
	}
}

// THR-17, S08, issue 5 done when 4: a cookie that was copied before the logout is dead after it, without a sid too.
func TestACopiedCookieIsDeadAfterTheLogout(t *testing.T) {
	for _, sid := range []string{"-", ""} {
		t.Run(fmt.Sprintf("sid %q", sid), func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				p.op.Change(func(k *oidcauthtest.Knobs) { k.SID = sid })
				cookie, other := p.login(), p.login()
				standing(t, cookie, "alice", p, q)
				q.logout(cookie)
				standing(t, cookie, nobody, p, q)
				standing(t, other, "alice", p, q)
			})
		})
	}
}

// S08: after a local logout the provider signs the user in again with the same sid.
func TestALocalLogoutDoesNotLockTheUserOut(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		p.op.Change(func(k *oidcauthtest.Knobs) { k.SID = "the only one" })
		p.page("/leave", func(w http.ResponseWriter, r *http.Request) {
			if err := p.Logout(w, r, &oidcauth.LogoutOptions{Local: true}); err != nil {
				p.Error(w, r, err)
			}
		})
		cookie := p.login()
		p.get("/leave", cookie)
		standing(t, cookie, nobody, p, q)
		standing(t, p.login(), "alice", p, q)
	})
}

// BCL-15, BCL-16: a token with a sid ends that session, one with a subject alone all that began before, and both what
// both name.
func TestALogoutTokenEndsWhatItNames(t *testing.T) {
	for _, tt := range []struct {
		name    string
		token   func(op *oidcauthtest.Provider, sids []string) string
		first   string // who the first session of Alice is afterwards
		second  string
		options func(*oidcauth.Options)
	}{
		{"a sid", func(op *oidcauthtest.Provider, sids []string) string {
			return op.LogoutToken("", sids[0])
		}, nobody, "alice", nil},
		{"a sid and its subject", func(op *oidcauthtest.Provider, sids []string) string {
			return op.LogoutToken("alice", sids[0])
		}, nobody, "alice", nil},
		{"a sid and another subject", func(op *oidcauthtest.Provider, sids []string) string {
			return op.LogoutToken("bob", sids[0])
		}, "alice", "alice", nil},
		{"a subject", func(op *oidcauthtest.Provider, _ []string) string {
			return op.LogoutToken("alice", "")
		}, nobody, nobody, nil},
		{"a sid that nobody has", func(op *oidcauthtest.Provider, _ []string) string {
			return op.LogoutToken("alice", "unknown")
		}, "alice", "alice", nil},
		{"a sid, for all sessions", func(op *oidcauthtest.Provider, sids []string) string {
			return op.LogoutToken("alice", sids[0])
		}, nobody, nobody, func(o *oidcauth.Options) { o.BackchannelLogoutAllSessions = true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			edit := []func(*oidcauth.Options){}
			if tt.options != nil {
				edit = append(edit, tt.options)
			}
			everyMode(t, func(t *testing.T, p, q *process) {
				first, second := p.login(), q.login()
				bob := p.cookies(t, oidcauthtest.User{Subject: "bob"})
				token := tt.token(p.op, p.op.SIDs("alice"))
				if status := q.backchannel(token); status != http.StatusOK {
					t.Fatalf("the token is answered with %d: %s", status, q.logs)
				}
				standing(t, first, tt.first, p, q)
				standing(t, second, tt.second, p, q)
				standing(t, bob, "bob", p, q)
				if status := p.backchannel(token); status != http.StatusOK { // S37
					t.Errorf("again it is answered with %d", status)
				}
			}, edit...)
		})
	}
}

// Issue 5, done when 6: log out everywhere.
func TestLogOutEverywhere(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		first, second := p.login(), q.login()
		bob := p.cookies(t, oidcauthtest.User{Subject: "bob"})
		if err := p.RevokeSessions(t.Context(), p.op.Issuer(), "alice"); err != nil {
			t.Fatal(err)
		}
		standing(t, first, nobody, p, q)
		standing(t, second, nobody, p, q)
		standing(t, bob, "bob", p, q)
		third := p.login() // in the same second
		standing(t, third, "alice", p, q)
		if err := q.RevokeSessions(t.Context(), p.op.Issuer(), "alice"); err != nil {
			t.Fatal(err)
		}
		standing(t, third, nobody, p, q)
		p.settle(t)
		q.settle(t)
		if n := p.op.ActiveRefreshTokens("alice"); n != 0 {
			t.Errorf("%d refresh tokens of hers are left", n)
		}
	})
}

func TestOneSessionIsRevokedByItsHandle(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		var handle string
		p.page("/handle", func(w http.ResponseWriter, r *http.Request) {
			if s, err := p.GetSession(r); err == nil {
				handle = s.Handle
			}
		})
		first, second := p.login(), p.login()
		p.get("/handle", first)
		for _, user := range []string{"bob", "carol", "bob"} { // who may have read the handle in a log
			if err := q.RevokeSession(t.Context(), p.op.Issuer(), user, handle); err != nil {
				t.Fatal(err)
			}
			standing(t, first, "alice", p, q)
		}
		if err := q.RevokeSession(t.Context(), p.op.Issuer(), "alice", handle); err != nil {
			t.Fatal(err)
		}
		standing(t, first, nobody, p, q)
		standing(t, second, "alice", p, q)
		if err := q.RevokeSession(t.Context(), p.op.Issuer(), "bob", handle); err != nil {
			t.Fatal(err)
		}
		standing(t, first, nobody, p, q)
	})
}

// Issue 5, done when 1, as far as memory goes: whatever the mode, several processes spend one refresh token once.
func TestFourProcessesRefreshOnce(t *testing.T) {
	everyModeOf(t, 4, func(t *testing.T, all []*process) {
		p := all[0]
		p.op.Delay("token", 12*time.Second)
		cookie := p.login()
		for round := range 3 {
			time.Sleep(61 * time.Minute)
			tokens := map[string]int{}
			var mu sync.Mutex
			var wg sync.WaitGroup
			for _, one := range all {
				wg.Go(func() {
					for _, resp := range one.crowd(50, "", cookie, one.patient) {
						mu.Lock()
						tokens[fmt.Sprint(resp.StatusCode, " ", body(resp))]++
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			if len(tokens) != 1 {
				t.Errorf("the answers are %v", tokens)
			}
			p.want(round + 1)
		}
	})
}
