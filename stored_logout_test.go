package oidcauth_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
)

// clears reports whether an answer deletes the session's cookie and sets none: the store knows that it has ended.
func clears(h http.Header) bool {
	lines := sessionLines(h)
	sets := slices.ContainsFunc(lines, func(line string) bool { return !strings.Contains(line, "Max-Age=0") })
	return len(lines) > 0 && !sets && len(endedLines(h)) == 0
}

// logout is what the logout route answers to a script of ours.
func (p *process) logout(cookie string) *http.Response {
	return ask(p.handler, "POST", "/auth/logout", byScript(cookie)...)
}

// Issue 4: a logout at one process is one at all, at once and for every copy of the cookie.
func TestALogoutEndsTheSessionEverywhere(t *testing.T) {
	t.Parallel()
	for name, logout := range map[string]func(p *process, cookie string) *http.Response{
		"the route": (*process).logout,
		"Logout, below Wrap": func(p *process, cookie string) *http.Response {
			return ask(p.handler, "GET", "/leave", "Cookie", cookie)
		},
		"Logout, bare": func(p *process, cookie string) *http.Response {
			return ask(p.mux, "GET", "/leave", "Cookie", cookie)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProcess(t)
			p.page("/leave", func(w http.ResponseWriter, r *http.Request) {
				if err := p.Logout(w, r, nil); err != nil {
					t.Error(err)
				}
			})
			q := p.another()
			cookie, another := p.login(), p.login()
			q.token("?force", cookie) // so that p has tokens of which one is spent
			resp := logout(p, cookie)
			if !clears(resp.Header) || resp.StatusCode/100 != 3 || !strings.Contains(resp.Header.Get("Location"), "id_token_hint=") {
				t.Errorf("status %d to %s", resp.StatusCode, resp.Header.Get("Location"))
			}
			p.settle(t)
			if n := p.op.ActiveRefreshTokens("alice"); n != 1 {
				t.Errorf("%d refresh tokens are left, want the other session's", n)
			}
			p.shelf.only(t)
			for at, one := range map[string]*process{"this": p, "another": q, "a new": p.another()} {
				if who := one.who(cookie); who != nobody {
					t.Errorf("%s process: the page says %q", at, who)
				}
				if resp := one.get("/token", cookie); resp.StatusCode != http.StatusUnauthorized || len(resp.Cookies()) > 0 {
					t.Errorf("%s process: /token answers %d", at, resp.StatusCode)
				}
				if who := one.who(another); who != "alice" {
					t.Errorf("%s process: the user's other session is of %q", at, who)
				}
			}
		})
	}
}

// S36: the browser is logged out, and told what could not be done; copies of the cookie are dead in this process.
func TestALogoutWhileTheStoreIsDown(t *testing.T) {
	t.Parallel()
	for outage, down := range outages {
		for _, tt := range []struct {
			methods    []string
			calls      int  // that fail
			incomplete bool // the store has the session still
		}{
			{nil, 3, true},
			{[]string{"Get"}, 2, false}, // it has deleted it, whatever it was
			{[]string{"Set"}, 1, false}, // likewise
			{[]string{"Delete"}, 1, false},
			{[]string{"Get", "Set"}, 2, false},
			{[]string{"Get", "Delete"}, 3, true},
			{[]string{"Set", "Delete"}, 2, true},
		} {
			t.Run("it "+outage+" "+strings.Join(tt.methods, ""), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					p := newProcess(t)
					q := p.another()
					cookie := p.login()
					down.begin(p.faults, tt.methods...)
					began := time.Now()
					resp := p.logout(cookie)
					if took, want := time.Since(began), time.Duration(tt.calls)*down.takes; took != want {
						t.Errorf("it took %v, want %v", took, want)
					}
					text := body(resp)
					if !clears(resp.Header) || (resp.StatusCode == 503) != tt.incomplete ||
						strings.Contains(text, "logout_incomplete") != tt.incomplete {
						t.Errorf("status %d, the cookie is cleared: %v: %s", resp.StatusCode, clears(resp.Header), text)
					}
					p.faults.Heal()
					time.Sleep(time.Second)
					if who := p.who(cookie); who != nobody {
						t.Errorf("this process takes the cookie as that of %q", who)
					}
					for _, path := range []string{"/account", "/token?force", "/set?cart=1", tokenRoute} {
						if resp := ask(p.handler, "GET", path, byScript(cookie)...); resp.StatusCode != 401 || len(resp.Cookies()) > 0 {
							t.Errorf("%s answers %d", path, resp.StatusCode)
						}
					}
					want := map[bool]string{true: "alice", false: nobody}[tt.incomplete]
					if who := q.who(cookie); who != want {
						t.Errorf("another process takes the cookie as that of %q, want %q", who, want)
					}
					if resp := p.logout(cookie); resp.StatusCode == 503 || !clears(resp.Header) { // from another tab, or of a copy
						t.Errorf("once more: status %d", resp.StatusCode)
					}
					if left := len(p.shelf.all()); left != 0 || q.who(cookie) != nobody {
						t.Errorf("after one more logout %d sessions are left", left)
					}
					p.settle(t)
				})
			})
		}
	}
}

// S44: this process knows the tokens of a session that it has refreshed, whether or not the store does its part.
func TestALogoutRevokesWhatThisProcessKnows(t *testing.T) {
	t.Parallel()
	for _, methods := range [][]string{{"Delete"}, {"Get"}, {"Get", "Delete"}, {"Set"}, nil} {
		synctest.Test(t, func(t *testing.T) {
			p := newProcess(t)
			cookie := p.login()
			p.token("?force", cookie)
			p.faults.Fail(errDown, methods...)
			p.logout(cookie)
			p.settle(t)
			if n := p.op.ActiveRefreshTokens("alice"); n != 0 {
				t.Errorf("without %q: %d refresh tokens are left", methods, n)
			}
		})
	}
}

// The same of a process that knows nothing of the session, once the store answers.
func TestALogoutRevokesWhatTheStoreKnows(t *testing.T) {
	t.Parallel()
	for _, failures := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			p := newProcess(t)
			cookie := p.login()
			p.token("?force", cookie)
			q := p.another()
			q.faults.FailNext(failures, errDown, "Get")
			resp := q.logout(cookie)
			if target := resp.Header.Get("Location"); resp.StatusCode/100 != 3 || !strings.Contains(target, "id_token_hint=") {
				t.Errorf("after %d failures: status %d to %s", failures, resp.StatusCode, target)
			}
			q.settle(t)
			if n := p.op.ActiveRefreshTokens("alice"); n != 0 || len(p.shelf.all()) != 0 {
				t.Errorf("after %d failures: %d refresh tokens and %d sessions are left", failures, n, len(p.shelf.all()))
			}
			p.settle(t)
		})
	}
}

// A logout is told what became of it also from code, and ends the session all the same.
func TestLogoutFromCodeSaysThatItIsIncomplete(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	cookie := p.login()
	p.faults.Fail(errDown)
	resp := ask(p.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := p.Logout(w, r, &oidcauth.LogoutOptions{Local: true})
		if err == nil {
			t.Error("no error")
			return
		}
		if s, err := p.GetSession(r); err == nil {
			t.Errorf("afterwards there is a session: %v", s)
		}
		p.Error(w, r, err)
	})), "GET", "/", "Cookie", cookie)
	if !clears(resp.Header) || resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("status %d, the cookie is cleared: %v", resp.StatusCode, clears(resp.Header))
	}
}

// A slow page neither keeps a session that was logged out meanwhile, nor hands out what it holds.
func TestASlowPageDoesNotOutliveTheLogout(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"at this process", "at another"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newProcess(t)
				q := p
				if where == "at another" {
					q = p.another()
				}
				cookie := p.login()
				time.Sleep(time.Hour) // the page's answer is to extend the session, and its token has expired
				release := make(chan struct{})
				p.page("/slow", func(w http.ResponseWriter, r *http.Request) {
					if _, err := p.GetSession(r); err != nil {
						t.Error(err)
					}
					<-release
					if _, err := p.AccessToken(w, r, nil); err == nil {
						t.Error("it gets a token")
					}
					if err := p.UpdateSession(w, r, set("cart", 1)); err == nil {
						t.Error("it saves a value")
					}
				})
				page := make(chan *http.Response)
				go func() { page <- p.get("/slow", cookie) }()
				synctest.Wait()
				q.logout(cookie)
				close(release)
				if slow := <-page; setsCookie(slow) {
					t.Error("the page sets the cookie")
				}
				p.settle(t)
				q.settle(t)
				if n := p.op.ActiveRefreshTokens("alice"); n != 0 || len(p.shelf.all()) != 0 || p.who(cookie) != nobody {
					t.Errorf("%d refresh tokens and %d sessions are left, and the page says %q", n, len(p.shelf.all()), p.who(cookie))
				}
			})
		})
	}
}

func setsCookie(resp *http.Response) bool {
	return slices.ContainsFunc(resp.Cookies(), func(c *http.Cookie) bool { return isSession(c) && c.MaxAge >= 0 })
}
