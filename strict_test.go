package oidcauth_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

func strict(o *oidcauth.Options) { o.Cookie.SameSite = http.SameSiteStrictMode }

// visits counts the steps of a visit at a path.
func visits(page *oidcauthtest.Response, path string) (n int) {
	for _, step := range append(slices.Clone(page.History), page) {
		if step.URL.Path == path {
			n++
		}
	}
	return n
}

// S42, FPM-06, lesson 21: the first page after a login sees the session.
func TestALoginWithAStrictCookieEndsOnThePageThatWasAskedFor(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*oidcauth.Options){"query": func(*oidcauth.Options) {}, "form_post": formPost} {
		a := newApp(t, strict, edit)
		page := a.browser.Get("/account?tab=2&x=%2F")
		if page.URL.String() != "https://app.test/account?tab=2&x=%2F" || page.Body != "alice" || visits(page, "/auth/landing") != 1 {
			t.Errorf("%s: the login ends at %s with %q", name, page.URL, page.Body)
		}
		if visits(page, "/account") != 2 { // asked for, and after the login
			t.Errorf("%s: the page was asked for %d times", name, visits(page, "/account"))
		}
		for i, step := range page.History {
			if step.URL.Path == "/auth/landing" {
				if step.URL.Query().Has("code") || strings.Contains(step.URL.RawQuery, "account") {
					t.Errorf("%s: the landing's URL is %s", name, step.URL)
				}
				if len(step.Cookies()) != 1 || step.Cookies()[0].MaxAge >= 0 || !strings.Contains(step.Body, `href="/account?tab=2&amp;x=%2F"`) {
					t.Errorf("%s: the landing keeps its cookie, or has no link: %s", name, step.Body)
				}
				for _, c := range page.History[i-1].Cookies() {
					if isSession(c) && c.SameSite != http.SameSiteStrictMode {
						t.Errorf("%s: the session's cookie is SameSite %v", name, c.SameSite)
					}
				}
			}
		}
	}
}

// A link of another site brings no Strict cookie: who is signed in must not be sent to the provider for that.
func TestALinkOfAnotherSiteFindsAStrictSession(t *testing.T) {
	t.Parallel()
	a := newApp(t, strict)
	a.browser.SignIn(oidcauthtest.Alice)
	before := a.op.Count("authorize")
	from := a.browser.From("https://news.test")
	page := from.Get("/account?tab=2")
	if page.Body != "alice" || page.URL.RequestURI() != "/account?tab=2" || len(page.History) != 1 || a.op.Count("authorize") != before {
		t.Errorf("it ends at %s with %q after %d steps", page.URL, page.Body, len(page.History))
	}
	if got := page.History[0].Header.Get("Cache-Control"); got != "private, no-store" {
		t.Errorf("the step may be stored: %q", got)
	}
	// A script, a form and an API guard take no step.
	if resp := from.Fetch("/account"); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a script of another site: %d", resp.StatusCode)
	}
	if resp := from.Post("/account", url.Values{}); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a form of another site: %d", resp.StatusCode)
	}
	api := newAppAt(t, a.op, strict)
	api.mux.Handle("/api", api.RequireAuthAPI(http.NotFoundHandler()))
	if resp := api.browser.From("https://news.test").Get("/api"); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("an API guard: %d", resp.StatusCode)
	}
}

// Without a session the step is made once, and then the login begins.
func TestALinkOfAnotherSiteLeadsToTheLoginOnce(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*oidcauth.Options){"Strict": strict, "Lax": func(*oidcauth.Options) {}} {
		a := newApp(t, edit)
		page := a.browser.From("https://news.test").Get("/account")
		if page.Body != "alice" || a.op.Count("authorize") != 1 || len(page.History) > 7 {
			t.Errorf("%s: it ends at %s with %q after %d steps", name, page.URL, page.Body, len(page.History))
		}
	}
	a := newApp(t, strict)
	a.op.SetUser(oidcauthtest.User{}) // nobody signs in
	page := a.browser.From("https://news.test").Get("/account")
	if errorCode(page) != "access_denied" || a.op.Count("authorize") != 1 {
		t.Errorf("it ends with %d %q", page.StatusCode, errorCode(page))
	}
}

func TestTheLandingIsForTheBrowserThatSignedInAndForAMinute(t *testing.T) { // S42
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, strict)
		page := a.browser.Get("/account?tab=2")
		i := slices.IndexFunc(page.History, func(r *oidcauthtest.Response) bool { return r.URL.Path == "/auth/landing" })
		landing := page.History[i].URL.RequestURI()
		ends := func(b *oidcauthtest.Browser, target string) string { return b.Get(target).URL.RequestURI() }
		if got := ends(a.browser, landing); got != "/" { // a reload
			t.Errorf("a reload ends at %s", got)
		}
		if got := ends(a.browser, "/auth/landing"); got != "/" {
			t.Errorf("without an id it ends at %s", got)
		}
		if got := ends(a.browser, "/auth/landing?id=x&id=y"); got != "/" {
			t.Errorf("with two ids it ends at %s", got)
		}
		// The step before the landing, whose cookie then waits.
		b := a.op.NewBrowser(a.handler)
		step := b.NoRedirects().Get("/account?tab=3")
		for step.URL.Path != "/auth/callback" {
			step = b.From("https://op.test").NoRedirects().Get(step.Header.Get("Location"))
		}
		landing = step.Header.Get("Location")
		if got := ends(a.op.NewBrowser(a.handler), landing); got != "/" {
			t.Errorf("in another browser it ends at %s", got)
		}
		late := b.Clone()
		if got := ends(b, landing); got != "/account?tab=3" {
			t.Errorf("in time it ends at %s", got)
		}
		time.Sleep(61 * time.Second)
		if got := ends(late, landing); got != "/" {
			t.Errorf("after a minute it ends at %s", got)
		}
	})
}
