package oidcauth_test

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// S03: a refresh is to come and will write the cookie. It rolls the session, too.
func TestARollWaitsForTheRefreshThatIsDue(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		after time.Duration // the login; the session was used 45 minutes after it
		rolls bool
	}{
		{"the token is good", 59*time.Minute + 45*time.Second, true},
		{"the token is due", 59*time.Minute + 55*time.Second, false},
		{"the token has expired", 61 * time.Minute, false},
		{"nobody has asked for tokens for long", 75 * time.Minute, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				cookie := g.login()
				time.Sleep(45 * time.Minute)
				cookie = kept(g.get("/", cookie).Header)
				if cookie == "" {
					t.Fatal("no roll after 45 minutes")
				}
				time.Sleep(tt.after - 45*time.Minute)
				if rolls := kept(g.get("/", cookie).Header) != ""; rolls != tt.rolls {
					t.Errorf("rolls: %v", rolls)
				}
				_, next := g.token("?force", cookie)
				s := sessionOf(t, g.app, next)
				if used := time.Since(s.LastSeenAt); used > time.Second {
					t.Errorf("after the refresh the session was used %v ago", used)
				}
				g.want(1)
				g.settle(t)
			})
		})
	}
}

// S03: what declines to extend the session still brings the tokens that others got.
func TestShouldRollDoesNotKeepTheNewestTokensBack(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, method string
		header       []string
		sets         bool
	}{
		{"a page", "GET", nil, true},
		{"HEAD", "HEAD", nil, true},
		{"a prefetch", "GET", []string{"Sec-Purpose", "prefetch"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, func(o *oidcauth.Options) { o.ShouldRoll = func(*http.Request) bool { return false } })
				old := g.login()
				began := time.Now()
				time.Sleep(40 * time.Minute)
				if kept(g.get("/", old).Header) != "" {
					t.Fatal("rolled all the same")
				}
				g.token("?force", old)
				resp := ask(g.handler, tt.method, "/", append([]string{"Cookie", old}, tt.header...)...)
				next := kept(resp.Header)
				if (next != "") != tt.sets {
					t.Fatalf("brings the newest tokens: %v", next != "")
				}
				if seen := sessionOf(t, g.app, next).LastSeenAt; !seen.Equal(began.Truncate(time.Second)) {
					t.Errorf("the session's idle time was extended to %v", seen)
				}
				g.newestIn(next)
				g.settle(t)
			})
		})
	}
}

// S12: a cache would keep a 304's cookie. The next answer brings it.
func TestA304BringsNoTokens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		old := g.login()
		g.page("/cached", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) })
		g.token("?force", old)
		if got := g.get("/cached", old).Header["Set-Cookie"]; got != nil {
			t.Errorf("%d cookies", len(got))
		}
		g.newestIn(kept(g.get("/", old).Header))
		g.settle(t)
	})
}

// slow is a transport on which the answers of the token endpoint take long, after it has carried out what it was asked.
type slow struct {
	next http.RoundTripper
	by   time.Duration
}

func (s *slow) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := s.next.RoundTrip(r)
	if r.URL.Path == "/token" {
		time.Sleep(s.by)
	}
	return resp, err
}

// S23: a refresh is under way at logout. What it brings is revoked, and no straggler gets it.
func TestLogoutDuringARefresh(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		before, after time.Duration // the provider carries it out
	}{
		{"that the provider has not carried out yet", 3 * time.Second, 0},
		{"that the provider has carried out", 0, 3 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				transport := &slow{}
				g := newRig(t, func(o *oidcauth.Options) {
					transport.next = o.HTTPClient.Transport
					o.HTTPClient = &http.Client{Transport: transport}
				})
				var issued []string
				g.op.EditTokenResponse(func(m map[string]any) { issued = append(issued, m["refresh_token"].(string)) })
				cookie := g.login()
				time.Sleep(time.Hour)
				g.op.Delay("token", tt.before)
				transport.by = tt.after
				// The logout's own revocation is lost: providers need not end a family for a token that is used up.
				g.op.Fail("revoke", 503, "", 1)
				answer := make(chan *http.Response)
				go func() { answer <- g.get("/token", cookie) }()
				time.Sleep(time.Second)
				if resp := g.get("/auth/logout", cookie); resp.Header.Get("Location") == "" {
					t.Errorf("the logout answers %d", resp.StatusCode)
				}
				resp := <-answer
				if resp.StatusCode != http.StatusUnauthorized || kept(resp.Header) != "" {
					t.Errorf("the request under way: status %d, a cookie: %v", resp.StatusCode, kept(resp.Header) != "")
				}
				g.settle(t)
				if n := g.op.ActiveRefreshTokens("alice"); n != 0 {
					t.Errorf("%d refresh tokens still work", n)
				}
				revoked := g.revoked()
				if len(issued) != 2 || !slices.Contains(revoked, issued[1]) {
					t.Errorf("of %d refresh tokens the newest is not among the %d revoked", len(issued), len(revoked))
				}
				for _, path := range []string{"/token", "/token?force", "/auth/profile"} {
					if resp := g.get(path, cookie); resp.StatusCode != http.StatusUnauthorized || kept(resp.Header) != "" {
						t.Errorf("a straggler at %s: status %d", path, resp.StatusCode)
					}
				}
				g.want(1)
			})
		})
	}
}

// revoked lists the tokens that were to be revoked.
func (g *rig) revoked() []string {
	var tokens []string
	for _, r := range g.op.Requests("revoke") {
		tokens = append(tokens, r.Form.Get("token"))
	}
	return tokens
}

// S23: whatever cookie asks for it, the newest refresh token is revoked, and no cookie of the session is good any more.
func TestLogoutWithAnOldCookieRevokesTheNewestToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		var issued []string
		g.op.EditTokenResponse(func(m map[string]any) { issued = append(issued, m["refresh_token"].(string)) })
		first := g.login()
		_, second := g.token("?force", first)
		_, third := g.token("?force", second)
		g.get("/auth/logout", first)
		g.settle(t)
		if got := g.revoked(); len(issued) != 3 || !slices.Equal(got, issued[2:]) {
			t.Errorf("%d tokens revoked, and not the newest of %d alone", len(got), len(issued))
		}
		for i, cookie := range []string{first, second, third} {
			for _, path := range []string{"/token", "/token?force", "/auth/profile"} {
				if resp := g.get(path, cookie); resp.StatusCode != http.StatusUnauthorized || kept(resp.Header) != "" {
					t.Errorf("the cookie of generation %d at %s: status %d", i, path, resp.StatusCode)
				}
			}
		}
		g.want(2)
	})
}

// S23: a refresh ends between the moment when the logout looks at the session and that when it ends it.
func TestLogoutRevokesWhatCameWhileItBegan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var hook func(oidcauth.Event)
		g := newRig(t, func(o *oidcauth.Options) {
			o.OnEvent = func(_ context.Context, e oidcauth.Event) {
				if f := hook; f != nil && e.Name == "session.joined" {
					hook = nil
					f(e)
				}
			}
		})
		var issued []string
		g.op.EditTokenResponse(func(m map[string]any) { issued = append(issued, m["refresh_token"].(string)) })
		first := g.login()
		_, second := g.token("?force", first)
		synctest.Wait() // for the events so far
		hook = func(oidcauth.Event) { g.token("?force", second) }
		g.get("/auth/logout", first)
		g.settle(t)
		if got := g.revoked(); len(issued) != 3 || !slices.Equal(got, issued[2:]) {
			t.Errorf("%d tokens revoked, and not the newest of %d alone", len(got), len(issued))
		}
		g.want(2)
	})
}

// S23: who comes with tokens more than three refreshes or ten minutes old is reported: a tab that slept, or a thief.
func TestOldGenerationsAreReported(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		rotations int
		later     time.Duration
		want      string
	}{
		{"nothing newer", 0, time.Hour / 2, ""},
		{"one behind", 1, 0, "session.joined"},
		{"three behind", 3, 10 * time.Minute, "session.joined"},
		{"four behind", 4, 0, "session.stale_generation"},
		{"one behind, and more than ten minutes", 1, 10*time.Minute + time.Second, "session.stale_generation"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				old := g.login()
				cookie := old
				for range tt.rotations {
					_, cookie = g.token("?force", cookie)
				}
				time.Sleep(tt.later)
				synctest.Wait() // for the events of the refreshes
				before := len(g.logs.all())
				g.get("/", cookie)
				if got := g.logs.names()[before:]; len(got) != 0 {
					t.Errorf("the newest cookie raises %q", got)
				}
				g.get("/", old)
				events := g.logs.all()[before:]
				if tt.want == "" {
					if len(events) != 0 {
						t.Errorf("events %q", g.logs.names()[before:])
					}
				} else if len(events) == 0 || !slices.ContainsFunc(events, func(e oidcauth.Event) bool {
					return e.Name == tt.want && e.Subject == "alice" && (e.Err != nil) == (tt.want == "session.stale_generation")
				}) || slices.ContainsFunc(events, func(e oidcauth.Event) bool { return e.Name != tt.want }) {
					t.Errorf("events %q, want %q", g.logs.names()[before:], tt.want)
				} else if len(events) != 1 {
					t.Errorf("one request raises it %d times", len(events))
				}
				g.settle(t)
			})
		})
	}
}

// S03, S23: a session that the provider has ended stays ended, for stragglers of any generation.
func TestARevokedFamilyEndsTheSessionOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		first := g.login()
		_, second := g.token("?force", first)
		time.Sleep(time.Hour)
		g.op.Fail("token", 400, "invalid_grant", 1)
		g.op.Delay("token", time.Second) // so that all wait for it
		before := g.op.Count("token")
		answers := g.crowd(50, "", second, g.patient)
		for _, resp := range answers {
			cleared := len(sessionLines(resp.Header)) > 0 && kept(resp.Header) == ""
			if resp.StatusCode != http.StatusUnauthorized || !cleared {
				t.Fatalf("status %d, cookie cleared: %v", resp.StatusCode, cleared)
			}
		}
		time.Sleep(time.Minute)
		for _, cookie := range []string{first, second} {
			if resp := g.get("/token", cookie); resp.StatusCode != http.StatusUnauthorized || kept(resp.Header) != "" {
				t.Errorf("a straggler: status %d", resp.StatusCode)
			}
		}
		if n := g.op.Count("token") - before; n != 1 {
			t.Errorf("%d requests with a dead refresh token", n)
		}
		g.op.Delay("token", 0)
		fresh := g.cookies(t, oidcauthtest.Alice) // a new login is another session
		g.token("", fresh)
		g.settle(t)
	})
}
