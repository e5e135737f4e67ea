package oidcauth_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// cookieModes are the ways in which a callback does, or does not, get the session's cookie.
var cookieModes = []struct {
	name string
	edit []func(*oidcauth.Options)
}{
	{"Lax, query", nil},
	{"Lax, form_post", []func(*oidcauth.Options){formPost}},
	{"Strict, query", []func(*oidcauth.Options){strict}},
	{"Strict, form_post", []func(*oidcauth.Options){strict, formPost}},
}

const changeToBob, stayAsAlice = "Change to bob", "Stay signed in as Alice Example"

// asks reports whether a page is the question whose session it is to be.
func asks(r *oidcauthtest.Response) bool {
	return r.StatusCode == http.StatusOK && strings.Contains(r.Body, changeToBob) && strings.Contains(r.Body, stayAsAlice)
}

var keepLink = regexp.MustCompile(`href="([^"]*keep=1[^"]*)"`)

// stay follows the link of the question that changes nothing.
func (a *app) stay(t *testing.T, page *oidcauthtest.Response) *oidcauthtest.Response {
	t.Helper()
	found := keepLink.FindStringSubmatch(page.Body)
	if found == nil {
		t.Fatalf("no link to stay: %s", page.Body)
	}
	return a.browser.From("https://app.test").Get(strings.ReplaceAll(found[1], "&amp;", "&"))
}

// S15: whoever signs another user in from elsewhere, the user is asked first.
func TestALoginFromElsewhereDoesNotReplaceAnotherUsersSession(t *testing.T) {
	t.Parallel()
	for _, mode := range cookieModes {
		for name, tt := range map[string]struct {
			from  string
			start func(*app) *oidcauthtest.Response
			asks  bool
		}{
			"a link of another site":               {"https://evil.test", nil, true},
			"a typed address, or a link in a mail": {"", nil, true},
			"a link of ours":                       {"https://app.test", nil, false},
			"a link of a sibling":                  {"https://www.app.test", nil, false},
			"a browser without Fetch metadata": {"", func(a *app) *oidcauthtest.Response {
				a.browser.Host("https://app.test", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					r.Header.Del("Sec-Fetch-Site")
					r.Header.Del("Sec-Fetch-Mode")
					r.Header.Del("Sec-Fetch-Dest")
					a.handler.ServeHTTP(w, r)
				}))
				return a.browser.From("https://app.test").Get("/auth/login?returnTo=/there")
			}, true},
			"another site's initiated login": {"https://evil.test", func(a *app) *oidcauthtest.Response {
				return a.browser.From("https://evil.test").Post("/auth/start", url.Values{
					"iss": {a.op.Issuer()}, "login_hint": {"bob"}, "target_link_uri": {"https://app.test/there"},
				})
			}, true},
		} {
			t.Run(mode.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				a := newApp(t, append(mode.edit, func(o *oidcauth.Options) { o.Routes.InitiateLogin = "/auth/start" })...)
				a.browser.SignIn(oidcauthtest.Alice)
				copied := a.browser.Clone()
				a.op.SetUser(bob)
				b := a.browser
				if tt.from != "" {
					b = b.From(tt.from)
				}
				if tt.start == nil {
					tt.start = func(*app) *oidcauthtest.Response { return b.Get("/auth/login?returnTo=/there&connection=evil") }
				}
				page := tt.start(a)
				if asks(page) != tt.asks || !tt.asks && page.URL.Path != "/there" {
					t.Fatalf("it ends at %s: %s", page.URL, page.Body)
				}
				if !tt.asks {
					return
				}
				if strings.Contains(page.URL.String(), "there") || !strings.Contains(page.Header.Get("Cache-Control"), "no-store") {
					t.Errorf("the question at %s may be stored: %v", page.URL, page.Header)
				}
				if who := a.browser.Get("/").Body; who != "alice" {
					t.Fatalf("before the answer the session is of %s", who)
				}
				if page = a.browser.Submit(page, changeToBob); page.URL.Path != "/there" || page.Body != "bob" {
					t.Errorf("the answer ends at %s with %q", page.URL, page.Body)
				}
				if who := copied.Get("/").Body; who != nobody { // S25
					t.Errorf("a copy of the session before is still of %s", who)
				}
				for _, c := range a.browser.Cookies("/auth/landing") {
					if strings.Contains(c.Name, "offer") {
						t.Errorf("%s is left", c.Name)
					}
				}
			})
		}
	}
}

func TestWhoStaysKeepsTheSession(t *testing.T) { // S15
	t.Parallel()
	for _, mode := range cookieModes {
		a := newApp(t, mode.edit...)
		a.browser.SignIn(oidcauthtest.Alice)
		a.op.SetUser(bob)
		page := a.browser.From("https://evil.test").Get("/auth/login?returnTo=/there")
		late := a.browser.Clone()
		if page := a.stay(t, page); page.URL.Path != "/" || page.Body != "alice" { // not where the other site wanted
			t.Errorf("%s: it ends at %s with %q", mode.name, page.URL, page.Body)
		}
		a.settle(t)
		if bobs, alices := a.op.ActiveRefreshTokens("bob"), a.op.ActiveRefreshTokens("alice"); bobs != 0 || alices != 1 {
			t.Errorf("%s: %d refresh tokens of bob are left, and %d of alice", mode.name, bobs, alices)
		}
		if page := late.Submit(page, changeToBob); page.Body != "alice" { // another tab
			t.Errorf("%s: what was declined still signs %s in", mode.name, page.Body)
		}
		if got := a.logs.names(); !slices.Equal(got, []string{"login.started", "session.created", "login.started", "login.failed"}) {
			t.Errorf("%s: the events are %q", mode.name, got)
		}
	}
}

// Nobody else's session is at stake: no question.
func TestWhoIsNotAsked(t *testing.T) {
	t.Parallel()
	for _, mode := range cookieModes {
		a := newApp(t, mode.edit...)
		a.op.SetUser(bob)
		from := a.browser.From("https://news.test")
		if page := from.Get("/auth/login?returnTo=/there"); page.Body != "bob" || page.URL.Path != "/there" {
			t.Errorf("%s: without a session it ends at %s with %q", mode.name, page.URL, page.Body)
		}
		if page := from.Get("/auth/login?returnTo=/account"); page.Body != "bob" || page.URL.Path != "/account" {
			t.Errorf("%s: the same user again: %s with %q", mode.name, page.URL, page.Body)
		}
		for _, step := range from.Get("/auth/login?returnTo=/there").History {
			if strings.Contains(step.URL.String(), "/auth/landing") && strings.Contains(step.URL.RawQuery, "there") {
				t.Errorf("%s: %s", mode.name, step.URL)
			}
		}
	}
}

// The session at stake is the one that there is at the end, not at the start.
func TestASessionThatBeganMeanwhileIsNotReplacedEither(t *testing.T) {
	t.Parallel()
	for _, mode := range cookieModes {
		a := newApp(t, mode.edit...)
		a.op.SetUser(bob)
		from := a.browser.From("https://evil.test").NoRedirects()
		waits := from.Get("/auth/login").Header.Get("Location") // a tab in the background
		a.browser.SignIn(oidcauthtest.Alice)
		a.op.SetUser(bob)
		if page := a.browser.From("https://evil.test").Get(waits); !asks(page) {
			t.Errorf("%s: it ends at %s with %q", mode.name, page.URL, page.Body)
		}
		if who := a.browser.Get("/").Body; who != "alice" {
			t.Errorf("%s: the session is of %s", mode.name, who)
		}
	}
}

func TestValuesDoNotChangeAccounts(t *testing.T) { // S38
	t.Parallel()
	a := newApp(t)
	a.mux.HandleFunc("POST /cart", func(w http.ResponseWriter, r *http.Request) {
		if err := a.UpdateSession(w, r, func(s *oidcauth.Session) error { return s.SetValue("cart", "alice's") }); err != nil {
			t.Error(err)
		}
	})
	a.mux.HandleFunc("GET /cart", func(w http.ResponseWriter, r *http.Request) {
		s, _ := a.GetSession(r)
		var cart string
		_, _ = s.Value("cart", &cart)
		fmt.Fprint(w, cart)
	})
	a.browser.SignIn(oidcauthtest.Alice)
	a.browser.From("https://app.test").Post("/cart", nil)
	a.op.SetUser(bob)
	page := a.browser.From("https://evil.test").Get("/auth/login")
	if cart := a.browser.Get("/cart").Body; cart != "alice's" {
		t.Fatalf("before the answer the cart is %q", cart)
	}
	a.browser.Submit(page, changeToBob)
	if cart := a.browser.Get("/cart").Body; cart != "" {
		t.Errorf("bob has %q", cart)
	}
}

// What is offered is no session, and not for long, and not for others.
func TestAnOfferOpensNothingByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		a.browser.SignIn(oidcauthtest.Alice)
		a.op.SetUser(bob)
		page := a.browser.From("https://evil.test").Get("/auth/login?returnTo=/there")
		if !asks(page) {
			t.Fatalf("no question: %s", page.Body)
		}
		var offered string
		for _, c := range a.browser.Cookies("/") {
			if strings.HasSuffix(c.Name, "offered") {
				offered = c.Value
			}
		}
		if offered == "" {
			t.Fatal("nothing is offered")
		}
		thief := a.op.NewBrowser(a.handler)
		if err := thief.SetCookie("/", &http.Cookie{Name: "__Host-session", Value: offered, Path: "/", Secure: true}); err != nil {
			t.Fatal(err)
		}
		if who := thief.Get("/").Body; who != nobody { // S11
			t.Errorf("as a session it is of %s", who)
		}
		id := page.URL.Query().Get("id")
		for name, resp := range map[string]*oidcauthtest.Response{
			"by another site's form": a.browser.Clone().From("https://evil.test").Post("/auth/landing", url.Values{"id": {id}}),
			"in another browser":     a.op.NewBrowser(a.handler).Post("/auth/landing", url.Values{"id": {id}}),
			"without its id":         a.browser.Clone().Post("/auth/landing", url.Values{}),
			"twice":                  a.browser.Clone().Post("/auth/landing", url.Values{"id": {id, id}}),
		} {
			if setsSession(resp) || resp.Body == "bob" {
				t.Errorf("%s: signed in with %d", name, resp.StatusCode)
			}
		}
		prefetch := a.browser.From("https://app.test").Request(http.MethodGet, keepLink.FindStringSubmatch(page.Body)[1])
		prefetch.Header.Set("Sec-Purpose", "prefetch")
		if resp := a.browser.Do(prefetch); resp.StatusCode != http.StatusServiceUnavailable || len(resp.Cookies()) > 0 {
			t.Errorf("a prefetch: %d", resp.StatusCode)
		}
		left, late := a.browser.Clone(), a.browser.Clone()
		if page := a.browser.Clone().Submit(page, changeToBob); page.Body != "bob" {
			t.Fatalf("in time: %q", page.Body)
		}
		signedOut := a.browser.Clone()
		signedOut.SignOut()
		if who := signedOut.Submit(page, changeToBob).Body; who == "bob" {
			t.Error("after a logout it signs in")
		}
		// Bob is signed in, signs out, and somebody has kept a copy of the offer.
		left.Submit(page, changeToBob)
		left.SignOut()
		if who := late.Clone().Submit(page, changeToBob).Body; who == "bob" {
			t.Error("a copy of the offer brings the session back after its logout")
		}
		a.settle(t)
	})
}

func TestAnOfferEndsAfterTenMinutes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		a.browser.SignIn(oidcauthtest.Alice)
		a.op.SetUser(bob)
		page := a.browser.From("https://evil.test").Get("/auth/login")
		copied := a.op.NewBrowser(a.handler) // which keeps cookies as long as it likes
		for _, c := range a.browser.Cookies("/") {
			c.MaxAge, c.Expires = 0, time.Time{}
			if err := copied.SetCookie("/", c); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10*time.Minute + time.Second)
		if who := copied.From("https://app.test").Post("/auth/landing", url.Values{"id": {page.URL.Query().Get("id")}}).Body; who != "alice" {
			t.Errorf("after ten minutes it signs %s in", who)
		}
	})
}

// Without the page that asks nothing is replaced, and nothing is left of the login.
func TestWithoutALandingTheLoginFails(t *testing.T) {
	t.Parallel()
	a := newApp(t, func(o *oidcauth.Options) { o.Routes.Landing = "-" })
	a.browser.SignIn(oidcauthtest.Alice)
	a.op.SetUser(bob)
	page := a.browser.From("https://evil.test").Get("/auth/login")
	if page.StatusCode != http.StatusForbidden || errorCode(page) != "login_denied" || a.browser.Get("/").Body != "alice" {
		t.Errorf("%d %q, and the session is of %s", page.StatusCode, errorCode(page), a.browser.Get("/").Body)
	}
	a.settle(t)
	if n := a.op.ActiveRefreshTokens("bob"); n != 0 { // S44
		t.Errorf("%d refresh tokens are left", n)
	}
}

// The hook sees the login when it is one.
func TestOnLoginIsAskedAfterTheUser(t *testing.T) {
	t.Parallel()
	for _, mode := range cookieModes {
		var asked []string
		a := newApp(t, append(mode.edit, func(o *oidcauth.Options) {
			o.OnLogin = func(w http.ResponseWriter, r *http.Request, s *oidcauth.Session, returnTo string) error {
				asked = append(asked, s.Subject+" "+returnTo)
				http.Redirect(w, r, "/welcome", http.StatusSeeOther)
				return nil
			}
			o.BeforeSave = func(_ context.Context, s *oidcauth.Session) error { return s.SetValue("seen", true) }
		})...)
		a.mux.HandleFunc("/welcome", func(w http.ResponseWriter, r *http.Request) {
			s, err := a.GetSession(r)
			if err != nil {
				fmt.Fprint(w, nobody)
				return
			}
			var seen bool
			_, _ = s.Value("seen", &seen)
			fmt.Fprint(w, s.Subject, seen)
		})
		a.browser.SignIn(oidcauthtest.Alice)
		a.op.SetUser(bob)
		page := a.browser.From("https://evil.test").Get("/auth/login?returnTo=/there")
		if len(asked) != 1 {
			t.Errorf("%s: before the answer the hook was asked for %q", mode.name, asked)
		}
		page = a.browser.Submit(page, changeToBob)
		if page.Body != "bobtrue" || !slices.Equal(asked, []string{"alice /", "bob /there"}) {
			t.Errorf("%s: it ends at %s with %q, the hook was asked for %q", mode.name, page.URL, page.Body, asked)
		}
	}
}
