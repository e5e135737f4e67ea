package oidcauth_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// A pair are two processes that share secrets and nothing else: sessions are in cookies, and no store knows which have
// ended. /slow is answered by the second one, when it is released; all else by the first, or by the second with ?second.
type pair struct {
	first, second *rig
	handler       http.Handler
	arrived       chan struct{}
	release       chan struct{}
}

// slowAnswers are the ways in which a slow answer sets the session's cookie.
var slowAnswers = []string{"extends the session", "saves a value"}

func newPair(t testing.TB, slow string, edit ...func(*oidcauth.Options)) *pair {
	t.Helper()
	p := &pair{first: newRig(t, edit...), arrived: make(chan struct{}, 9), release: make(chan struct{})}
	p.second = newRigAt(t, p.first.op, edit...)
	p.second.page("/slow", func(w http.ResponseWriter, r *http.Request) {
		if _, err := p.second.GetSession(r); err != nil {
			t.Errorf("the slow page has no session: %v", err)
		}
		p.arrived <- struct{}{}
		<-p.release
		if slow == "saves a value" {
			if err := p.second.UpdateSession(w, r, set("cart", 1)); err != nil {
				t.Errorf("the slow page: %v", err)
			}
		}
	})
	p.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" || r.URL.Query().Has("second") {
			p.second.handler.ServeHTTP(w, r)
		} else {
			p.first.handler.ServeHTTP(w, r)
		}
	})
	return p
}

func (p *pair) settle(t testing.TB) {
	p.first.settle(t)
	p.second.settle(t)
}

// hasSession reports whether a browser has a session's cookie.
func hasSession(b *oidcauthtest.Browser) bool { return slices.ContainsFunc(b.Cookies("/"), isSession) }

// S21, W2: an answer that was under way at the logout brings the session's cookie back, and it is dead and deleted, at a
// process too that knows nothing of the logout. The next login is not hurt.
func TestASlowAnswerDoesNotBringTheSessionBack(t *testing.T) {
	t.Parallel()
	for _, slow := range slowAnswers {
		t.Run(slow, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, slow)
				b := p.first.op.NewBrowser(p.handler)
				b.SignIn(oidcauthtest.Alice)
				time.Sleep(20 * time.Minute)
				answer := make(chan *oidcauthtest.Response, 1)
				go func() { answer <- b.Get("/slow") }()
				<-p.arrived
				b.Post("/auth/logout", nil)
				close(p.release)
				if resp := <-answer; !setsSession(resp) || !hasSession(b) {
					t.Fatal("the slow answer does not bring the cookie back: this test tests nothing")
				}
				for _, path := range []string{"/?second", "/"} {
					if page := b.Get(path); page.Body != nobody {
						t.Errorf("%s says %q", path, page.Body)
					}
					if hasSession(b) {
						t.Errorf("after %s the browser has the session's cookie still", path)
					}
				}
				b.SignIn(oidcauthtest.Alice)
				for range 5 {
					time.Sleep(20 * time.Minute)
					for _, path := range []string{"/account", "/account?second"} {
						if page := b.Get(path); page.Body != "alice" {
							t.Errorf("after the next login %s says %q", path, page.Body)
						}
					}
				}
				p.settle(t)
			})
		})
	}
}

// The same over the wire, with the cookie jar of net/http.
func TestASlowAnswerOverTheWireDoesNotBringTheSessionBack(t *testing.T) {
	t.Parallel()
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, "saves a value")
			server := httptest.NewUnstartedServer(p.handler)
			server.EnableHTTP2 = proto == "HTTP/2.0"
			server.StartTLS()
			t.Cleanup(server.Close)
			client := server.Client()
			client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			if transport, ok := client.Transport.(*http.Transport); ok && !server.EnableHTTP2 {
				transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
			}
			jar, err := cookiejar.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			client.Jar = jar
			at := &url.URL{Scheme: "https", Host: "app.test", Path: "/"} // the jar goes by the Host field
			b := p.first.op.NewBrowser(p.handler)
			b.SignIn(oidcauthtest.Alice)
			for _, c := range b.Cookies("/") {
				jar.SetCookies(at, []*http.Cookie{{Name: c.Name, Value: c.Value, Path: "/", Secure: true}})
			}
			send := func(method, path string) string {
				r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, http.NoBody)
				if err != nil {
					t.Error(err)
					return ""
				}
				r.Host = "app.test"
				resp, err := client.Do(r)
				if err != nil {
					t.Error(err)
					return ""
				}
				defer resp.Body.Close()
				if resp.Proto != proto {
					t.Errorf("it is %s", resp.Proto)
				}
				text, _ := io.ReadAll(resp.Body)
				return string(text)
			}
			signedIn := func() bool { return slices.ContainsFunc(jar.Cookies(at), isSession) }
			if who := send("GET", "/"); who != "alice" {
				t.Fatalf("before the logout the page says %q", who)
			}
			done := make(chan struct{})
			go func() { send("GET", "/slow"); close(done) }()
			<-p.arrived
			send("POST", "/auth/logout")
			if signedIn() {
				t.Error("the logout leaves the cookie")
			}
			close(p.release)
			if <-done; !signedIn() {
				t.Fatal("the slow answer does not bring the cookie back: this test tests nothing")
			}
			if who := send("GET", "/?second"); who != nobody || signedIn() {
				t.Errorf("then the page says %q, and the cookie is there: %v", who, signedIn())
			}
			p.settle(t)
		})
	}
}

// S21: on a shared machine one logout follows another while an answer is still under way.
func TestASlowAnswerOfTheSessionBeforeTheLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, "saves a value")
		b := p.first.op.NewBrowser(p.handler)
		b.SignIn(oidcauthtest.Alice)
		answer := make(chan *oidcauthtest.Response, 1)
		go func() { answer <- b.Get("/slow") }()
		<-p.arrived
		b.Post("/auth/logout", nil)
		b.SignIn(bob)
		b.Post("/auth/logout", nil)
		close(p.release)
		if resp := <-answer; !setsSession(resp) {
			t.Fatal("the slow answer does not bring the cookie back: this test tests nothing")
		}
		if page := b.Get("/?second"); page.Body != nobody {
			t.Errorf("after two logouts the page says %q", page.Body)
		}
		p.settle(t)
	})
}

// S21, THR-17: the copy of a cookie whose session was logged out dies within two idle times of its last refresh, at a
// process that knows nothing of the logout and although it is used every minute: its refresh token is revoked, and nothing
// else extends it.
func TestACopiedCookieDiesWithinTwoIdleTimes(t *testing.T) {
	t.Parallel()
	const idle = 8 * time.Hour
	for _, tt := range []struct {
		name   string
		logout time.Duration // after the login
	}{
		{"logged out at once", 0},
		{"logged out after seven hours", 7 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, "", func(o *oidcauth.Options) { o.IdleTimeout = idle })
				cookie, begun := p.first.login(), time.Now() // whose tokens nobody refreshes
				copied := cookie
				use := func() bool {
					time.Sleep(time.Minute)
					resp := p.second.get("/account", copied)
					copied = after(copied, resp.Header)
					return body(resp) == "alice"
				}
				for range tt.logout / time.Minute {
					if !use() {
						t.Fatalf("at %s the session is dead before the logout", clock())
					}
				}
				ask(p.first.handler, "POST", "/auth/logout", byScript(cookie)...)
				p.first.settle(t)
				for use() && time.Since(begun) < 4*idle {
					continue
				}
				if lived := time.Since(begun); lived > 2*idle+time.Minute {
					t.Errorf("the copy lives for %v, with an idle time of %v", lived, idle)
				}
				p.settle(t)
			})
		})
	}
}

// S21 the other way round: what there is to go by extends a session that is used, up to its absolute end.
func TestASessionInACookieThatIsUsedLivesOn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, path string
		knobs      oidcauthtest.Knobs
	}{
		{"its tokens are refreshed", "/token", oidcauthtest.Knobs{}},
		{"there is no refresh token", "/account", oidcauthtest.Knobs{OmitRefreshToken: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, "", func(o *oidcauth.Options) { o.IdleTimeout = 2 * time.Hour })
				p.first.op.Change(func(k *oidcauthtest.Knobs) { *k = tt.knobs })
				cookie := p.first.login()
				for time.Since(sessionOf(t, p.first.app, cookie).CreatedAt) < 71*time.Hour {
					time.Sleep(10 * time.Minute)
					resp := p.first.get(tt.path, cookie)
					if cookie = after(cookie, resp.Header); resp.StatusCode != http.StatusOK {
						t.Fatalf("at %s the answer is %d", clock(), resp.StatusCode)
					}
				}
				time.Sleep(time.Hour)
				if who := body(p.first.get("/", cookie)); who != nobody {
					t.Errorf("after 72 hours the page says %q", who)
				}
				p.settle(t)
			})
		})
	}
}

// Lesson 17: whatever decides how long a session lives, its cookie is sealed anew when secrets are rotated.
func TestACookieIsResealedAlsoIfItIsNotExtended(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, secretsAre(firstSecret), func(o *oidcauth.Options) { o.IdleTimeout = -1 })
		cookie := g.login()
		time.Sleep(time.Hour)
		next := newRigAt(t, g.op, secretsAre(secondSecret, firstSecret), func(o *oidcauth.Options) { o.IdleTimeout = -1 })
		cookie = after(cookie, next.get("/account", cookie).Header)
		last := newRigAt(t, g.op, secretsAre(secondSecret), func(o *oidcauth.Options) { o.IdleTimeout = -1 })
		if who := body(last.get("/", cookie)); who != "alice" {
			t.Errorf("without the old secret the page says %q", who)
		}
	})
}

// S21: where a store knows what has ended, no cookie has to say so.
func TestOnlyBrowsersThatAloneKnowAreMarked(t *testing.T) {
	everyMode(t, func(t *testing.T, p, _ *process) {
		if resp := p.logout(p.login()); !clears(resp.Header) || len(endedLines(resp.Header)) > 0 {
			t.Errorf("the logout sets %d cookies that say what has ended", len(endedLines(resp.Header)))
		}
	})
	t.Run("in cookies alone", func(t *testing.T) {
		t.Parallel()
		g := newRig(t)
		resp := ask(g.handler, "POST", "/auth/logout", byScript(g.login())...)
		lines := endedLines(resp.Header)
		if len(lines) != 1 || setsCookie(resp) {
			t.Fatalf("the logout sets %d cookies that say what has ended", len(lines))
		}
		for _, part := range []string{
			"__Host-session.ended=", "; Path=/", "; HttpOnly", "; Secure", "; SameSite=Lax", "; Max-Age=259200",
		} {
			if !strings.Contains(lines[0], part) {
				t.Errorf("%q is not in its attributes", part)
			}
		}
		if lines = endedLines(ask(g.handler, "POST", "/auth/logout", byScript("")...).Header); len(lines) > 0 {
			t.Error("the logout of nobody sets one, too")
		}
		g.settle(t)
	})
}
