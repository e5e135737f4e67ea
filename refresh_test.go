package oidcauth_test

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// A rig is an application whose page /token answers with an access token: the one for "audience" and "scope" of the
// query, and with "force" another one. Its provider rotates refresh tokens and punishes their reuse.
type rig struct {
	*app
	t testing.TB
}

func newRig(t testing.TB, edit ...func(*oidcauth.Options)) *rig {
	t.Helper()
	return newRigAt(t, oidcauthtest.NewProvider(t), edit...)
}

func newRigAt(t testing.TB, op *oidcauthtest.Provider, edit ...func(*oidcauth.Options)) *rig {
	t.Helper()
	g := &rig{newAppAt(t, op, edit...), t}
	g.mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		token, err := g.AccessToken(w, r, &oidcauth.TokenOptions{
			Audience: q.Get("audience"), Scopes: strings.Fields(q.Get("scope")), ForceRefresh: q.Has("force"),
		})
		if err != nil {
			g.Error(w, r, err)
			return
		}
		_, _ = w.Write([]byte(token.AccessToken))
	})
	return g
}

// login signs Alice in and returns the cookies of her browser.
func (g *rig) login() string { g.t.Helper(); return g.cookies(g.t, oidcauthtest.Alice) }

// A step is something that a handler does with its request.
type step func(*rig, http.ResponseWriter, *http.Request) error

// get asks for a path with cookies.
func (g *rig) get(path, cookie string) *http.Response {
	return ask(g.handler, "GET", path, "Cookie", cookie)
}

// token asks for an access token that the provider takes, and returns it with the cookies that the browser has then.
func (g *rig) token(query, cookie string) (token, next string) {
	g.t.Helper()
	resp := g.get("/token"+query, cookie)
	token = body(resp)
	if resp.StatusCode != http.StatusOK {
		g.t.Errorf("at %s /token%s answers %d: %s", clock(), query, resp.StatusCode, token)
		return "", cookie
	}
	if _, _, _, ok := g.op.AccessToken(token); !ok {
		g.t.Errorf("at %s /token%s answers with a token that the provider refuses", clock(), query)
	}
	return token, after(cookie, resp.Header)
}

// after is what a browser with cookies has after a response.
func after(cookie string, h http.Header) string {
	if next := kept(h); next != "" {
		return next
	}
	return cookie
}

// clock is the time in a bubble, which begins at midnight.
func clock() string { return time.Now().UTC().Format("15:04:05") }

// want checks how many grants the provider has given, and that no refresh token was ever used twice.
func (g *rig) want(grants int) {
	g.t.Helper()
	if got := g.op.Grants(); got != grants {
		g.t.Errorf("at %s the provider has given %d grants, want %d", clock(), got, grants)
	}
	g.unpunished()
}

func (g *rig) unpunished() {
	g.t.Helper()
	if n := g.op.Reuses(); n != 0 {
		g.t.Errorf("at %s %d refresh tokens were used twice, and the login's family is revoked", clock(), n)
	}
}

// alive checks that the session behind cookies can be refreshed still.
func (g *rig) alive(cookie string) {
	g.t.Helper()
	before := g.op.Grants()
	time.Sleep(61 * time.Minute)
	g.token("", cookie)
	g.want(before + 1)
}

// newestIn checks by another process, which remembers nothing, that cookies have the tokens of the last grant.
func (g *rig) newestIn(cookie string) {
	g.t.Helper()
	other := newRigAt(g.t, g.op)
	before := g.op.Grants()
	other.token("?force", cookie)
	other.want(before + 1)
	other.settle(g.t)
}

// crowd lets n requests for /token arrive at the same moment, each with its own context, and returns their answers.
func (g *rig) crowd(n int, query, cookie string, ctx func(i int) context.Context) []*http.Response {
	answers := make([]*http.Response, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			r := httptest.NewRequestWithContext(ctx(i), "GET", "/token"+query, http.NoBody)
			r.Host = "app.test"
			r.Header.Set("Cookie", cookie)
			answers[i] = answerTo(g.handler, r)
		})
	}
	wg.Wait()
	return answers
}

func (g *rig) patient(int) context.Context { return g.t.Context() }

// RFT-01, RFT-02, RFT-04, lessons 4, 8 and 9: what token responses may lack or have.
func TestOddTokenResponses(t *testing.T) {
	t.Parallel()
	without := func(name string) func(*oidcauthtest.Knobs) {
		return func(k *oidcauthtest.Knobs) { k.EditTokens = func(m map[string]any) { delete(m, name) } }
	}
	for _, tt := range []struct {
		name string
		edit func(*oidcauthtest.Knobs)
	}{
		{"refresh tokens with spaces and signs", func(k *oidcauthtest.Knobs) { k.OddRefreshTokens = true }},
		{"no refresh token: the old one stays", func(k *oidcauthtest.Knobs) { k.KeepRefreshTokens = true }},
		{"an empty refresh token: the old one stays", func(k *oidcauthtest.Knobs) {
			k.KeepRefreshTokens, k.EditTokens = true, func(m map[string]any) { m["refresh_token"] = "" }
		}},
		{"no ID token: the claims stay", without("id_token")},
		{"no scope: it is what was asked for", without("scope")},
		{"no expires_in", func(k *oidcauthtest.Knobs) { k.OmitExpiresIn = true }},
		{"expires_in as text", func(k *oidcauthtest.Knobs) {
			k.EditTokens = func(m map[string]any) { m["expires_in"] = "3600" }
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				g.op.Change(func(k *oidcauthtest.Knobs) { k.OddRefreshTokens = true })
				cookie := g.login()
				g.op.Change(func(k *oidcauthtest.Knobs) { *k = oidcauthtest.Knobs{} })
				g.op.Change(tt.edit)
				seen := map[string]bool{}
				for i := range 4 {
					var token string
					if token, cookie = g.token("?force", cookie); seen[token] {
						t.Error("the same token again")
					}
					seen[token] = true
					g.want(i + 1)
				}
				if got := body(g.get("/account", cookie)); got != "alice" {
					t.Errorf("the page says %q", got)
				}
				if got := claimOf(t, sessionOf(t, g.app, cookie), "email"); got != "alice@example.com" {
					t.Errorf("the e-mail address is %q", got)
				}
				g.newestIn(cookie)
				g.settle(t)
			})
		})
	}
}

func claimOf(t testing.TB, s *oidcauth.Session, name string) any {
	t.Helper()
	var claims map[string]any
	if err := s.Claims(&claims); err != nil {
		t.Error(err)
	}
	return claims[name]
}

// Lesson 9: a token of which nobody says how long it lasts is served until somebody says that it does not.
func TestATokenWithoutExpiryIsServedUntilItIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.op.Change(func(k *oidcauthtest.Knobs) { k.OmitExpiresIn, k.AccessTokenLifetime = true, 100*time.Hour })
		cookie := g.login()
		old, _ := g.token("", cookie)
		time.Sleep(10 * time.Hour)
		if got, _ := g.token("", cookie); got != old {
			t.Error("another token")
		}
		g.want(0)
		if got, _ := g.token("?force", cookie); got == old {
			t.Error("the refused token again")
		}
		g.want(1)
		g.settle(t)
	})
}

// Outside Wrap each call sets the cookie: the last one has what all of them got.
func TestBareCallsForSeveralTokensEndInTheNewestCookie(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"below Wrap", "below a guard", "bare"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				cookie := g.login()
				h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					for _, audience := range []string{"https://a.test", "https://b.test", "https://c.test"} {
						if _, err := g.AccessToken(w, r, &oidcauth.TokenOptions{Audience: audience}); err != nil {
							t.Error(err)
						}
					}
				})
				next := kept(ask(g.ways(h)[way], "GET", "/", "Cookie", cookie).Header)
				g.want(3)
				g.newestIn(next)
				g.settle(t)
			})
		})
	}
}

// S02, S03: both in one request, whichever comes first, end in one cookie.
func TestUpdateSessionAndAccessTokenInOneRequest(t *testing.T) {
	t.Parallel()
	update := func(g *rig, w http.ResponseWriter, r *http.Request) error {
		return g.UpdateSession(w, r, set("cart", "full"))
	}
	token := func(g *rig, w http.ResponseWriter, r *http.Request) error {
		_, err := g.AccessToken(w, r, nil)
		return err
	}
	for name, steps := range map[string][]step{
		"update first": {update, token}, "token first": {token, update}, "update between": {token, update, token},
	} {
		for _, way := range []string{"below Wrap", "below a guard", "bare"} {
			t.Run(name+" "+way, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					g := newRig(t)
					cookie := g.login()
					time.Sleep(time.Hour)
					h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						for _, step := range steps {
							if err := step(g, w, r); err != nil {
								t.Error(err)
							}
						}
					})
					next := kept(ask(g.ways(h)[way], "GET", "/", "Cookie", cookie).Header)
					g.want(1)
					if got := value(t, sessionOf(t, g.app, next), "cart"); got != "full" {
						t.Errorf("the cart is %q", got)
					}
					g.newestIn(next)
					g.settle(t)
				})
			})
		}
	}
}

// S01: two clients below one another, each with a session and a provider's tokens of its own.
func TestTwoClientsRefreshTheirOwnTokens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		secret := rand.Text() + rand.Text()
		named := func(name string) func(*oidcauth.Options) {
			return func(o *oidcauth.Options) { o.Cookie.Name, o.Secrets = "__Host-session-"+name, []string{secret} }
		}
		customers := newRig(t, named("customers"))
		staff := newRig(t, named("staff"))
		one, two := customers.login(), staff.cookies(t, oidcauthtest.User{Subject: "root"})
		time.Sleep(time.Hour)
		page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for g, want := range map[*rig]string{customers: "alice", staff: "root"} {
				token, err := g.AccessToken(w, r, nil)
				if err != nil {
					t.Error(err)
					continue
				}
				if subject, _, _, ok := g.op.AccessToken(token.AccessToken); !ok || subject != want {
					t.Errorf("%s's client hands out a token of %q", want, subject)
				}
			}
		})
		h := customers.Wrap(staff.Wrap(page))
		resp := ask(h, "GET", "/", "Cookie", one+"; "+two)
		for _, name := range []string{"__Host-session-customers", "__Host-session-staff"} {
			if n := strings.Count(strings.Join(sessionLines(resp.Header), "\n"), name+"="); n != 1 {
				t.Errorf("%s is set %d times", name, n)
			}
		}
		customers.want(1)
		staff.want(1)
		ask(h, "GET", "/", "Cookie", kept(resp.Header))
		customers.want(1)
		customers.settle(t)
		staff.settle(t)
	})
}

// S01: the other's session is none, and its refresh token is not spent.
func TestNoClientHandsOutAnothersTokens(t *testing.T) {
	t.Parallel()
	for name, pair := range neighbours(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			customers, staff := pair[0], pair[1]
			cookie := customers.cookies(t, oidcauthtest.User{Subject: "mallory"})
			for _, outer := range layers {
				h := outer.around(customers, outer.around(staff, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					o := &oidcauth.TokenOptions{ForceRefresh: true}
					if token, err := staff.AccessToken(w, r, o); token != nil || err == nil {
						t.Errorf("%s: the staff's client hands out a token: %v", outer.name, err)
					}
					if _, err := customers.AccessToken(w, r, nil); err != nil {
						t.Errorf("%s: the customers' client: %v", outer.name, err)
					}
				})))
				ask(h, "GET", "/", "Cookie", cookie)
			}
			if n := staff.op.Grants(); n != 0 {
				t.Errorf("%d grants", n)
			}
			customers.settle(t)
		})
	}
}
