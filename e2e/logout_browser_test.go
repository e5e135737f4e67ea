package e2e

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/oidcauth/oidcauth"
)

// cookieModes are the two ways in which the session's cookie can come along with a link of another site, and the window
// that each is looked at in.
var cookieModes = []struct {
	name     string
	sameSite http.SameSite
	size     int // of sizes
}{{"Lax", http.SameSiteLaxMode, 0}, {"Strict", http.SameSiteStrictMode, 1}}

// inCookieModes runs a test for each of them, with an application whose user is signed in.
func inCookieModes(t *testing.T, test func(t *testing.T, a *certifiedApp, p page, look func(name string))) {
	t.Parallel()
	for _, mode := range cookieModes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			a := newCertifiedApp(t, func(o *oidcauth.Options) { o.Cookie.SameSite = mode.sameSite })
			p, size := page{t, newChromium(t)}, sizes[mode.size]
			run(p, "size", chromedp.EmulateViewport(size.width, size.height))
			p.blockThirdParties()
			p.open(a.address + "/account/")
			p.signIn("password")
			p.see("ada@example.com")
			test(t, a, p, func(name string) { t.Helper(); p.fits(); p.shot(name + "-" + mode.name + "-" + size.name) })
		})
	}
}

const asksLogout = "Another site asks to sign you out here."

// signOuts are what pages try, and what the browser then asks the logout route for: site, mode and destination. LOGOUT
// becomes its URL. What the user sees of it is empty for what happens behind a page.
var signOuts = []struct{ name, where, markup, asked, sees string }{
	{"link to prefetch", "ours", `<link rel="prefetch" href="LOGOUT">`, "same-origin no-cors empty", ""},
	{"rule to prefetch", "ours", rule("prefetch", "LOGOUT"), "none navigate document", ""},
	{"rule to prerender", "ours", rule("prerender", "LOGOUT"), "none navigate document", ""},
	{"picture", "ours", `<img src="LOGOUT">`, "same-origin no-cors image", ""},
	{"frame", "ours", `<iframe src="LOGOUT"></iframe>`, "same-origin navigate iframe", ""},

	{"link to prefetch", "same site", `<link rel="prefetch" href="LOGOUT">`, "same-site no-cors empty", ""},
	{"picture", "same site", `<img src="LOGOUT">`, "same-site no-cors image", ""},
	{"frame", "same site", `<iframe src="LOGOUT"></iframe>`, "same-site navigate iframe", ""},
	{"fetch", "same site", fetchesLogout, "same-site no-cors empty", ""},
	{"form", "same site", postsLogout, "same-site navigate document", "cross_origin_request"},
	{"link", "same site", `<a id="go" href="LOGOUT">a link</a>`, "same-site navigate document", asksLogout},

	{"link to prefetch", "another site", `<link rel="prefetch" href="LOGOUT">`, "cross-site no-cors empty", ""},
	{"picture", "another site", `<img src="LOGOUT">`, "cross-site no-cors image", ""},
	{"frame", "another site", `<iframe src="LOGOUT"></iframe>`, "cross-site navigate iframe", ""},
	{"fetch", "another site", fetchesLogout, "cross-site no-cors empty", ""},
	{"form", "another site", postsLogout, "cross-site navigate document", "cross_origin_request"},
	{"link", "another site", `<a id="go" href="LOGOUT">a link</a>`, "cross-site navigate document", asksLogout},
	{"script that goes there", "another site", goesToLogout, "cross-site navigate document", asksLogout},
	{"script that opens it", "another site", opensLogout, "cross-site navigate document", asksLogout},
}

const (
	fetchesLogout = `<script>fetch("LOGOUT", {mode: "no-cors", credentials: "include"})</script>`
	postsLogout   = `<form action="LOGOUT" method="post"><button id="go">a form</button></form>`
	goesToLogout  = `<button id="go" onclick="location = 'LOGOUT'">a button</button>`
	opensLogout   = `<button id="go" onclick="window.open('LOGOUT', '_self')">a button</button>`
)

// S26, RIL-03: only the user ends a session, and by another page's link only after a question.
func TestSignOutsThatNobodyAskedFor(t *testing.T) {
	inCookieModes(t, func(t *testing.T, a *certifiedApp, p page, look func(string)) {
		for _, tt := range signOuts {
			t.Run(tt.where+": "+tt.name, func(t *testing.T) {
				p := page{t, p.ctx}
				a.watch.forget()
				markup := strings.ReplaceAll(tt.markup, "LOGOUT", a.address+"/auth/logout")
				if tt.where == "ours" {
					a.watch.shows(markup)
					p.open(a.address + "/page")
				} else {
					p.open(elsewhere(t, tt.where == "same site", markup))
				}
				if tt.sees != "" {
					p.follow("go")
					p.see(tt.sees)
				}
				for _, v := range a.watch.await(t, "/auth/logout", 1, true) {
					if asked := strings.Join([]string{v.site, v.mode, v.dest}, " "); asked != tt.asked {
						t.Errorf("the browser asked as %s, want %s: not what this row is about", asked, tt.asked)
					}
					if v.status >= 300 && v.status < 400 || v.sets != "" {
						t.Errorf("%s: a redirect, or cookies", v)
					}
					if v.purpose == "" && (v.status == http.StatusForbidden) == (tt.sees == asksLogout) {
						t.Errorf("%s: want 403 for what cannot ask the user", v)
					}
				}
				p.open(a.address + "/account/")
				p.see("ada@example.com")
				a.provider.want("afterwards", map[string]int{"authorization_code": 1, "live": 1, "logout": 0})
			})
		}
	})
}

// S26, S27: the question does what its two answers say.
func TestTheQuestionBeforeALogout(t *testing.T) {
	inCookieModes(t, func(t *testing.T, a *certifiedApp, p page, look func(string)) {
		for i, sameSite := range []bool{true, false} {
			other := elsewhere(t, sameSite, `<a id="go" href="`+a.address+`/auth/logout">a link</a>`)
			ask := func() { t.Helper(); p.open(other); p.follow("go"); p.see(asksLogout) }
			ask()
			look("logout-question")
			p.click("nav > a")
			p.see("Our home page")
			p.open(a.address + "/account/")
			p.see("ada@example.com")
			a.provider.want("after staying", map[string]int{"live": 1, "logout": i})

			ask()
			p.click("form button")
			p.see("Sign out here, too?")
			a.wantSignedOut(p)
			p.click(`button[value="yes"]`)
			p.see("Our home page")
			p.open(a.address + "/account/")
			p.signIn("password") // the provider knows nobody any more
			p.see("ada@example.com")
		}
		a.provider.want("after two logouts", map[string]int{"authorization_code": 3, "live": 1, "logout": 2})
	})
}

// wantSignedOut asks, as a script of the application, whether there is a session.
func (a *certifiedApp) wantSignedOut(p page) {
	p.t.Helper()
	tab := p.anotherTab()
	tab.open(a.address + "/")
	if got := tab.script(`return (await fetch("/token")).status`); got != "401" {
		p.t.Errorf("the application answers %s, want 401 for nobody", got)
	}
}

// S26: what is the application's own signs out without a question, also where it has been prepared before.
func TestTheApplicationsOwnLogout(t *testing.T) {
	inCookieModes(t, func(t *testing.T, a *certifiedApp, p page, look func(string)) {
		link := `<a id="go" href="/auth/logout">Sign out</a>`
		own := map[string]string{
			"link": link,
			"form": `<form action="/auth/logout" method="post"><button id="go">Sign out</button></form>`,
		}
		for how, markup := range preparations("/auth/logout") {
			own["link with a "+how] = link + markup
		}
		logouts := 0
		for name, markup := range own {
			t.Run(name, func(t *testing.T) {
				p := page{t, p.ctx}
				a.watch.forget()
				a.watch.shows(markup)
				p.open(a.address + "/page")
				if strings.HasPrefix(name, "link with") {
					a.watch.await(t, "/auth/logout", 1, true)
				}
				p.follow("go")
				p.see("Sign out here, too?")
				a.wantSignedOut(p)
				p.click(`button[value="yes"]`)
				p.see("Our home page")
				logouts++
				a.provider.want("afterwards", map[string]int{"live": 0, "logout": logouts})
				p.open(a.address + "/account/")
				p.signIn("password")
				p.see("ada@example.com")
			})
		}
	})
}

// S28, RIL-04, RIL-05: wherever a logout is to end, the provider is sent a URL that it knows, and the user arrives.
// It compares URLs exactly, and knows one.
func TestWhereALogoutEndsInChromium(t *testing.T) {
	t.Parallel()
	const home, loggedOut = "", "/auth/logged-out"
	back := func(o *oidcauth.Options) { o.PostLogoutURL = o.BaseURL + loggedOut } // for providers that know but one
	for _, tt := range []struct {
		name    string
		options func(*oidcauth.Options)
		knows   string // of the application
		link    string
		between func(a *certifiedApp, p page) // while the user is at the provider
		ends    string
	}{
		{"at a page of ours", back, loggedOut, "?returnTo=/?bye=1", nil, "/?bye=1"},
		{"at a page of ours, with a Strict cookie", func(o *oidcauth.Options) {
			back(o)
			o.Cookie.SameSite = http.SameSiteStrictMode
		}, loggedOut, "?returnTo=/?bye=1", nil, "/?bye=1"},
		{"at no page in particular", back, loggedOut, "", nil, "/"},
		{"not at another site", back, loggedOut, "?returnTo=https://evil.example/", nil, "/"},
		{"not where another state says", back, loggedOut, "?returnTo=/?bye=1", func(a *certifiedApp, p page) {
			for _, query := range []string{"", "?state=wrong", "?state=wrong&returnTo=https://evil.example/"} {
				p.open(a.address + loggedOut + query)
				p.see("Our home page")
				if where := p.where(); where != a.address+"/" {
					p.t.Errorf("without the state the logout ends at %s", where)
				}
				run(p, "back to the provider", chromedp.NavigateBack())
				p.see("Sign out here, too?")
			}
		}, "/?bye=1"},
		{"at the start page, if the cookie is lost", back, loggedOut, "?returnTo=/?bye=1", func(a *certifiedApp, p page) {
			p.dropCookies(a.address + loggedOut)
		}, "/"},
		{"at the start page, the only one registered", nil, home, "", nil, "/"},
		{"at the start page, and not at another site", nil, home, "?returnTo=https://evil.example/", nil, "/"},
		{"at the start page, for want of a way back", func(o *oidcauth.Options) {
			o.Routes.LoggedOut = "-"
		}, home, "?returnTo=/?bye=1", nil, "/"},
		{"at a page that is allowed and registered", func(o *oidcauth.Options) {
			o.AllowedLogoutURLs = []string{o.BaseURL + "/?allowed=1"}
		}, "/?allowed=1", "?returnTo=BASE/?allowed=1", nil, "/?allowed=1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, p := newCertifiedAppWith(t, tt.knows, tt.options), page{t, newChromium(t)}
			p.open(a.address + "/account/")
			p.signIn("password")
			p.see("ada@example.com")
			a.watch.shows(`<a id="go" href="/auth/logout` + strings.Replace(tt.link, "BASE", a.address, 1) + `">Sign out</a>`)
			p.open(a.address + "/page")
			p.follow("go")
			p.see("Sign out here, too?")
			if tt.between != nil {
				tt.between(a, p)
			}
			p.click(`button[value="yes"]`)
			p.see("Our home page")
			// Without a way back the provider's state arrives where the user does.
			if where := lastState.ReplaceAllString(p.where(), ""); where != a.address+tt.ends {
				t.Errorf("the logout ended at %s, want %s", where, tt.ends)
			}
			a.provider.want("afterwards", map[string]int{"live": 0, "logout": 1})
		})
	}
}

// lastState is a state at the end of a URL.
var lastState = regexp.MustCompile(`[?&]state=[\w-]+$`)

// S28: an application without returnTo has not registered the way back, and no link of another site makes it need that.
func TestAnotherSitesLogoutLinkStrandsNobody(t *testing.T) {
	inCookieModes(t, func(t *testing.T, a *certifiedApp, p page, look func(string)) {
		p.open(elsewhere(t, false, `<a id="go" href="`+a.address+`/auth/logout?returnTo=/?bye">a link</a>`))
		p.follow("go")
		p.see(asksLogout)
		p.click("form button")
		p.see("Sign out here, too?")
		p.click(`button[value="yes"]`)
		p.see("Our home page")
		a.provider.want("afterwards", map[string]int{"live": 0, "logout": 1})
	})
}
