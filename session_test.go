package oidcauth_test

import (
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

const day = 24 * time.Hour

// behaviour.md 4; CKE-07, CKE-09, S43. The browser refuses what its rules forbid, so that it only ends signed in, and after
// the logout signed out, if name and attributes fit together.
func TestTheSessionCookieIsNamedAndConfinedByBaseURL(t *testing.T) {
	t.Parallel()
	none := func(*oidcauth.Options) {}
	domain := func(o *oidcauth.Options) { o.Cookie.Domain = "app.test" }
	crossSite := func(o *oidcauth.Options) {
		o.Cookie.SameSite, o.InsecureCrossSiteSession = http.SameSiteNoneMode, true
	}
	const usual, plain = "Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Lax", "Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"
	const shared = "Path=/; Domain=app.test; Max-Age=86400; HttpOnly; Secure; SameSite=Lax"
	for _, tt := range []struct {
		name, base string
		edit       func(*oidcauth.Options)
		want       string
	}{
		{"over https", "https://app.test", none, "__Host-session; " + usual},
		{"on this machine without https", "http://localhost:8080", none, "session; " + plain},
		{"on this machine by address", "http://127.0.0.1:8080", none, "session; " + plain},
		{"over http on purpose", "http://app.test", func(o *oidcauth.Options) { o.InsecureAllowHTTP = true }, "session; " + plain},
		{"with a Domain", "https://www.app.test", domain, "__Secure-session; " + shared},
		{"with a base path", "https://app.test/app", none, "__Host-session-app; " + usual},
		{"with a deep base path", "https://app.test/a/b", none, "__Host-session-a_b; " + usual},
		{"with base path and Domain", "https://www.app.test/app", domain, "__Secure-session-app; " + shared},
		{"with a base path on this machine", "http://localhost:8080/app", none, "session-app; " + plain},
		{
			"with a name of its own", "https://app.test",
			func(o *oidcauth.Options) { o.Cookie.Name = "my-session" }, "my-session; " + usual,
		},
		{
			"partitioned", "https://app.test",
			func(o *oidcauth.Options) { o.Cookie.Partitioned = true }, "__Host-session; " + usual + "; Partitioned",
		},
		{
			"transient", "https://app.test",
			func(o *oidcauth.Options) { o.Cookie.Transient = true }, "__Host-session; Path=/; HttpOnly; Secure; SameSite=Lax",
		},
		{
			"cross-site on purpose", "https://app.test",
			crossSite, "__Host-session; Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=None",
		},
		{
			"with more than the 400 days that browsers grant", "https://app.test",
			func(o *oidcauth.Options) { o.IdleTimeout, o.AbsoluteTimeout = -1, 1000*day },
			"__Host-session; Path=/; Max-Age=34560000; HttpOnly; Secure; SameSite=Lax",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t, func(o *oidcauth.Options) { o.BaseURL = tt.base }, tt.edit)
				a.op.Register([]string{tt.base + "/auth/callback"}, []string{tt.base})
				a.browser.Host(tt.base, a.handler)
				resp := a.browser.Get(tt.base + "/auth/login")
				if resp.Body != "alice" {
					t.Fatalf("after the login the page says %q", resp.Body)
				}
				lines := sessionLines(resp.History[len(resp.History)-1].Header)
				if len(lines) != 1 {
					t.Fatalf("session cookies set: %d", len(lines))
				}
				name, rest, _ := strings.Cut(lines[0], "=")
				_, attributes, _ := strings.Cut(rest, ";")
				if got := name + ";" + attributes; got != tt.want {
					t.Errorf("got  %s\nwant %s", got, tt.want)
				}
				// What says that the session has ended is confined likewise, but for its longest life (S21).
				want, err := http.ParseSetCookie(lines[0])
				lines = endedLines(a.browser.NoRedirects().Post(tt.base+"/auth/logout", nil).Header)
				if err != nil || len(lines) != 1 {
					t.Fatalf("the logout sets %q, %v", lines, err)
				}
				got, err := http.ParseSetCookie(lines[0])
				if err != nil {
					t.Fatal(err)
				}
				want.Name, want.MaxAge = name+".ended", max(want.MaxAge, 3*24*3600)
				want.Value, want.Raw = got.Value, got.Raw
				if !reflect.DeepEqual(got, want) || got.Value == "" {
					t.Errorf("the logout sets\n%v, want\n%v", got, want)
				}
				if left := a.browser.Cookies(tt.base); len(left) != 1 || !isEnded(left[0]) {
					t.Errorf("after the logout the browser has %d cookies, the first %s", len(left), left[0].Name)
				}
			})
		})
	}
}

// CKE-05, CVE-2025-46344: the end is sealed in the cookie, and a browser that keeps a cookie longer has nothing. Lesson 13.
func TestASessionIsDeadExactlyAtItsEnd(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name           string
		idle, absolute time.Duration
		ceiling        time.Duration // session_expiry of the ID token, from the login
		end            time.Duration
	}{
		{name: "by default a day after its last use", end: day},
		{name: "after IdleTimeout", idle: time.Hour, end: time.Hour},
		{name: "by default three days after the login without IdleTimeout", idle: -1, end: 3 * day},
		{name: "after AbsoluteTimeout", absolute: 2 * time.Hour, end: 2 * time.Hour},
		{name: "at the provider's ceiling and its leeway", ceiling: time.Hour, end: time.Hour + 30*time.Second},
		{name: "before the provider's ceiling", idle: -1, ceiling: 100 * day, end: 3 * day},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t, func(o *oidcauth.Options) { o.IdleTimeout, o.AbsoluteTimeout = tt.idle, tt.absolute })
				if tt.ceiling > 0 {
					end := time.Now().Add(tt.ceiling).Unix()
					a.op.Change(func(k *oidcauthtest.Knobs) {
						k.EditIDToken = func(claims map[string]any) { claims["session_expiry"] = end }
					})
				}
				cookie, began := a.cookies(t, oidcauthtest.Alice), time.Now()
				if got := sessionOf(t, a, cookie).ExpiresAt.Sub(began); got != tt.end {
					t.Errorf("ExpiresAt is %v after the login, want %v", got, tt.end)
				}
				api := a.RequireAuthAPI(a.mux)
				time.Sleep(tt.end - time.Second)
				if got := body(ask(api, "GET", "/", "Cookie", cookie)); got != "alice" {
					t.Errorf("a second before the end the page says %q", got)
				}
				time.Sleep(time.Second)
				for name, resp := range map[string]*http.Response{
					"a guard":     ask(api, "GET", "/", "Cookie", cookie),
					"the profile": ask(a.handler, "GET", "/auth/profile", "Cookie", cookie),
				} {
					if resp.StatusCode != http.StatusUnauthorized {
						t.Errorf("at the end %s answers %d", name, resp.StatusCode)
					}
				}
				resp := ask(a.handler, "GET", "/", "Cookie", cookie)
				if body(resp) != nobody || len(sessionLines(resp.Header)) > 0 {
					t.Error("at the end Wrap still finds a session, or revives it")
				}
			})
		})
	}
}

// sessionOf opens a Cookie field without rolling it.
func sessionOf(t testing.TB, a *app, cookie string) *oidcauth.Session {
	t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Cookie", cookie)
	s, err := a.GetSession(r)
	if err != nil {
		t.Fatalf("GetSession: %v", err)
	}
	return s
}

// THR-27: clocks of two processes differ by a little; a session from farther in the future has an end that cannot be trusted.
func TestASessionFromTheFutureIsNone(t *testing.T) {
	t.Parallel()
	secret := rand.Text() + rand.Text()
	for ahead, want := range map[time.Duration]string{time.Minute: "alice", time.Minute + time.Second: nobody} {
		cookie := ""
		for _, sleep := range []time.Duration{ahead, 0} { // the clock of a bubble begins where the last one's did
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t, func(o *oidcauth.Options) { o.Secrets = []string{secret} })
				time.Sleep(sleep)
				if cookie == "" {
					cookie = a.cookies(t, oidcauthtest.Alice)
				} else if got := body(ask(a.handler, "GET", "/", "Cookie", cookie)); got != want {
					t.Errorf("the page says %q to a session that begins in %v", got, ahead)
				}
			})
		}
	}
}

func TestUseExtendsASessionToItsAbsoluteEndAndNoFurther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		a.op.Change(func(k *oidcauthtest.Knobs) { k.OmitRefreshToken = true }) // of others the next test tells
		cookie := a.cookies(t, oidcauthtest.Alice)
		first := sessionOf(t, a, cookie)
		original := cookie
		for range 5 {
			time.Sleep(12 * time.Hour)
			resp := ask(a.handler, "GET", "/", "Cookie", cookie)
			if body(resp) != "alice" {
				t.Fatalf("used every 12 hours, the session ended after %v", time.Since(first.CreatedAt))
			}
			cookie = kept(resp.Header)
		}
		rolled := sessionOf(t, a, cookie)
		seen := rolled.LastSeenAt.Sub(first.CreatedAt)
		if rolled.Handle != first.Handle || !rolled.CreatedAt.Equal(first.CreatedAt) || seen != 60*time.Hour {
			t.Errorf("rolling changed more than the last use: %v, created %v, seen %v", rolled, rolled.CreatedAt, rolled.LastSeenAt)
		}
		if got := rolled.ExpiresAt.Sub(first.CreatedAt); got != 3*day {
			t.Errorf("it ends %v after the login", got)
		}
		if body(ask(a.handler, "GET", "/", "Cookie", original)) != nobody {
			t.Error("a copy from before the rolls is alive past its idle end")
		}
		time.Sleep(12*time.Hour - time.Second)
		resp := ask(a.handler, "GET", "/", "Cookie", cookie)
		if body(resp) != "alice" || !strings.Contains(sessionLines(resp.Header)[0], "; Max-Age=1;") {
			t.Errorf("in its last second: %q", sessionLines(resp.Header))
		}
		time.Sleep(time.Second)
		if body(ask(a.handler, "GET", "/", "Cookie", kept(resp.Header))) != nobody {
			t.Error("rolling went past the absolute end")
		}
	})
}

// S21: without a store, a session with a refresh token is extended only while less than the idle time has passed since the
// provider gave its newest access token. So a logout, which revokes the refresh token, ends copies of the cookie, too.
func TestUseAloneExtendsNoSessionThatCanBeRefreshed(t *testing.T) {
	t.Parallel()
	const logout = "logout"
	for _, tt := range []struct {
		name string
		does map[time.Duration]string // by the time since the login; in between a page is asked for every half hour
		end  time.Duration
	}{
		{"never refreshed", nil, 47*time.Hour + 30*time.Minute},
		{"refreshed once", map[time.Duration]string{10 * time.Hour: "?force"}, 57*time.Hour + 30*time.Minute},
		{"refreshed when its token had expired", map[time.Duration]string{10 * time.Hour: ""}, 57*time.Hour + 30*time.Minute},
		{"refreshed when it was extended no more", map[time.Duration]string{47 * time.Hour: "?force"}, 3 * day},
		{
			"refreshed again and again",
			map[time.Duration]string{20 * time.Hour: "?force", 40 * time.Hour: "?force", 60 * time.Hour: "?force"},
			3 * day,
		},
		{
			"a copy of what was logged out elsewhere",
			map[time.Duration]string{10 * time.Hour: "?force", 11 * time.Hour: logout},
			57*time.Hour + 30*time.Minute,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				cookie, began, who := g.login(), time.Now(), "alice"
				for who == "alice" && time.Since(began) <= 3*day {
					time.Sleep(30 * time.Minute)
					switch query, ok := tt.does[time.Since(began)]; {
					case !ok:
						resp := g.get("/", cookie)
						who, cookie = body(resp), after(cookie, resp.Header)
					case query == logout:
						there := newRigAt(t, g.op)
						ask(there.handler, "POST", "/auth/logout", byScript(cookie)...)
						there.settle(t)
					default:
						_, cookie = g.token(query, cookie)
					}
				}
				if got := time.Since(began); got != tt.end {
					t.Errorf("it ends after %v, want %v", got, tt.end)
				}
				g.settle(t)
			})
		})
	}
}

// behaviour.md 4: at most once a minute and after 1 % of the idle time, and only where somebody is there.
func TestASessionRollsWhen(t *testing.T) {
	t.Parallel()
	wrapped := func(a *app) http.Handler { return a.handler }
	guarded := func(a *app) http.Handler { return a.RequireAuth(a.mux) }
	both := func(a *app) http.Handler { return a.Wrap(a.RequireAuth(a.mux)) }
	silent := func(a *app) http.Handler {
		return a.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	}
	bare := func(a *app) http.Handler { return a.mux }
	none := func(*oidcauth.Options) {}
	idle := func(d time.Duration) func(*oidcauth.Options) {
		return func(o *oidcauth.Options) { o.IdleTimeout = d }
	}
	should := func(answer bool) func(*oidcauth.Options) {
		return func(o *oidcauth.Options) { o.ShouldRoll = func(*http.Request) bool { return answer } }
	}
	for _, tt := range []struct {
		name   string
		edit   func(*oidcauth.Options)
		after  time.Duration
		where  func(*app) http.Handler
		method string
		path   string
		header []string
		want   bool
	}{
		{"not before 1 % of a day", none, 14*time.Minute + 23*time.Second, wrapped, "GET", "/", nil, false},
		{"after 1 % of a day", none, 14*time.Minute + 24*time.Second, wrapped, "GET", "/", nil, true},
		{"not within a minute", idle(time.Hour), 59 * time.Second, wrapped, "GET", "/", nil, false},
		{"after a minute", idle(time.Hour), time.Minute, wrapped, "GET", "/", nil, true},
		{"not before a quarter of two minutes", idle(2 * time.Minute), 29 * time.Second, wrapped, "GET", "/", nil, false},
		{"after a quarter of two minutes", idle(2 * time.Minute), 30 * time.Second, wrapped, "GET", "/", nil, true},
		{"never without an idle timeout", idle(-1), 2 * day, wrapped, "GET", "/", nil, false},
		{"by a guard alone", none, time.Hour, guarded, "GET", "/", nil, true},
		{"once below Wrap and a guard", none, time.Hour, both, "GET", "/", nil, true},
		{"for a handler that writes nothing", none, time.Hour, silent, "GET", "/", nil, true},
		{"not by GetSession alone", none, time.Hour, bare, "GET", "/", nil, false},
		{"by a form", none, time.Hour, wrapped, "POST", "/", nil, true},
		{"not by HEAD", none, time.Hour, wrapped, "HEAD", "/", nil, false},
		{"not by HEAD through a guard", none, time.Hour, guarded, "HEAD", "/", nil, false},
		{"not by a prefetch", none, time.Hour, wrapped, "GET", "/", []string{"Sec-Purpose", "prefetch"}, false},
		{"not by a prerender", none, time.Hour, wrapped, "GET", "/", []string{"Sec-Purpose", "prefetch;prerender"}, false},
		{"not by an older prefetch", none, time.Hour, wrapped, "GET", "/", []string{"Purpose", "prefetch"}, false},
		{"not by an older prefetch of Firefox", none, time.Hour, guarded, "GET", "/", []string{"X-Moz", "prefetch"}, false},
		{"not by the profile", none, time.Hour, wrapped, "GET", "/auth/profile", nil, false},
		{"not where ShouldRoll declines", should(false), time.Hour, wrapped, "GET", "/", nil, false},
		{"where ShouldRoll agrees", should(true), time.Hour, wrapped, "GET", "/", nil, true},
		{"not because ShouldRoll agrees", should(true), time.Minute, wrapped, "GET", "/", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t, tt.edit)
				cookie := a.cookies(t, oidcauthtest.Alice)
				time.Sleep(tt.after)
				resp := ask(tt.where(a), tt.method, tt.path, append(tt.header, "Cookie", cookie)...)
				lines := sessionLines(resp.Header)
				if resp.StatusCode != http.StatusOK || len(lines) > 1 || len(lines) == 1 != tt.want {
					t.Fatalf("status %d with %d session cookies", resp.StatusCode, len(lines))
				}
				if tt.want && !sessionOf(t, a, kept(resp.Header)).LastSeenAt.Equal(time.Now()) {
					t.Error("the new cookie does not know of this use")
				}
			})
		})
	}
}

// CKE-06, S45, lesson 17.
func TestRotatingSecretsSealsAgainOnUseAndLogsNobodyOut(t *testing.T) {
	t.Parallel()
	for _, idle := range []time.Duration{day, -1} {
		t.Run(idle.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				op, before, after := oidcauthtest.NewProvider(t), rand.Text()+rand.Text(), rand.Text()+rand.Text()
				with := func(secrets ...string) *app {
					return newAppAt(t, op, func(o *oidcauth.Options) { o.Secrets, o.IdleTimeout = secrets, idle })
				}
				first, appended, moved, last := with(before), with(before, after), with(after, before), with(after)
				cookie := first.cookies(t, oidcauthtest.Alice)
				created := sessionOf(t, first, cookie)
				if body(ask(last.handler, "GET", "/", "Cookie", cookie)) != nobody {
					t.Error("a secret that is not listed opens the session")
				}
				for name, resp := range map[string]*http.Response{
					"a HEAD":     ask(moved.handler, "HEAD", "/", "Cookie", cookie),
					"GetSession": ask(moved.mux, "GET", "/", "Cookie", cookie),
					"a process that knows the new secret only as second": ask(appended.handler, "GET", "/", "Cookie", cookie),
				} {
					if len(resp.Header["Set-Cookie"]) > 0 {
						t.Errorf("%s seals again", name)
					}
				}
				time.Sleep(time.Second) // no roll is due
				resp := ask(moved.handler, "GET", "/", "Cookie", cookie)
				if got := body(resp); got != "alice" || len(sessionLines(resp.Header)) != 1 {
					t.Fatalf("on use: %q, %d session cookies", got, len(sessionLines(resp.Header)))
				}
				cookie = kept(resp.Header)
				if body(ask(first.handler, "GET", "/", "Cookie", cookie)) != nobody {
					t.Error("the new cookie is sealed with the old secret")
				}
				for _, a := range []*app{appended, moved, last} {
					var claims struct{ Email string }
					s := sessionOf(t, a, cookie)
					if err := s.Claims(&claims); err != nil || claims.Email != "alice@example.com" {
						t.Errorf("claims after sealing again: %v, %v", claims, err)
					}
					if s.Handle != created.Handle || !s.CreatedAt.Equal(created.CreatedAt) {
						t.Errorf("sealing again made another session: %v for %v", s, created)
					}
				}
				if again := ask(moved.handler, "GET", "/", "Cookie", cookie); len(again.Header["Set-Cookie"]) > 0 {
					t.Error("what the first secret sealed is sealed again")
				}
				time.Sleep(map[bool]time.Duration{true: day, false: 3*day - time.Second}[idle > 0])
				if body(ask(last.handler, "GET", "/", "Cookie", cookie)) != nobody {
					t.Error("sealing again moved the end")
				}
			})
		})
	}
}

// The same of one that use does not extend any more: it lives for up to one idle time yet, under the new secret, too.
func TestASessionThatIsExtendedNoMoreIsSealedAgain(t *testing.T) { // S21, S45
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		op, before, after := oidcauthtest.NewProvider(t), rand.Text()+rand.Text(), rand.Text()+rand.Text()
		first, last := newAppAt(t, op, secretsAre(before)), newAppAt(t, op, secretsAre(after))
		moved := newAppAt(t, op, secretsAre(after, before))
		cookie := first.cookies(t, oidcauthtest.Alice)
		time.Sleep(20 * time.Hour)
		cookie = kept(ask(first.handler, "GET", "/", "Cookie", cookie).Header)
		end := sessionOf(t, first, cookie).ExpiresAt
		time.Sleep(10 * time.Hour)
		if resp := ask(first.handler, "GET", "/", "Cookie", cookie); body(resp) != "alice" || kept(resp.Header) != "" {
			t.Fatal("it is extended still")
		}
		cookie = kept(ask(moved.handler, "GET", "/", "Cookie", cookie).Header)
		if s := sessionOf(t, last, cookie); !s.ExpiresAt.Equal(end) || s.Subject != "alice" {
			t.Errorf("sealed again it ends %v later", s.ExpiresAt.Sub(end))
		}
		if resp := ask(moved.handler, "GET", "/", "Cookie", cookie); body(resp) != "alice" || kept(resp.Header) != "" {
			t.Error("what the first secret sealed is sealed again")
		}
	})
}
