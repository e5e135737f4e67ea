package e2e

import (
	"net/http"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/oidcauth/oidcauth"
)

// S24: while the provider is slow the user asks again, in each way that browsers have. The code is spent once.
func TestASlowCallbackThatIsAskedForAgain(t *testing.T) {
	for _, mode := range cookieModes {
		t.Run(mode.name, func(t *testing.T) {
			way := &gate{}
			a := newCertifiedApp(t, func(o *oidcauth.Options) {
				o.Cookie.SameSite, o.HTTPClient = mode.sameSite, &http.Client{Transport: way}
			})
			p := page{t, newChromium(t)}
			second := p.anotherTab()
			p.open(a.address + "/account/?tab=1")
			way.hold()
			p.signIn("password")
			callback := a.address + a.watch.await(t, "/auth/callback", 1, false)[0].uri
			begin(p, chromedp.Navigate(callback)) // in the place of the first request
			a.watch.await(t, "/auth/callback", 2, false)
			second.bypassCache() // which would let a second request for a URL wait for the first one's answer
			begin(second, chromedp.Navigate(callback))
			a.watch.await(t, "/auth/callback", 3, false)
			way.release()
			for _, tab := range []page{p, second} {
				tab.see("ada@example.com")
				if where := tab.where(); where != a.address+"/account/?tab=1" {
					t.Errorf("a tab ended at %s", where)
				}
				tab.noCode()
			}
			a.provider.want("afterwards", map[string]int{
				"authorization_code": 1, "invalid_grant": 0, "revoked": 0, "live": 1,
			})
			if report := a.provider.look(p.script(`return (await fetch("/token")).text()`)); report.Sub != "ada" {
				t.Errorf("the provider says of the access token: %+v", report)
			}
		})
	}
}

// S24: what is prepared and may never be shown spends nothing, and starts nothing. The click that follows does.
func TestPreparingForALogin(t *testing.T) {
	t.Parallel()
	for _, mode := range cookieModes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			a := newCertifiedApp(t, func(o *oidcauth.Options) { o.Cookie.SameSite = mode.sameSite })
			browser, codes := newChromium(t), 0
			for _, link := range []struct {
				name, path, url string
				asks            bool // the provider, for the password
			}{
				{"callback", "/auth/callback", divertedCallback, false},
				{"login", "/auth/login", "/auth/login?returnTo=/account/?tab=1", true},
				{"page for users", "/account/", "/account/?tab=1", true},
			} {
				for how, markup := range preparations(link.url) {
					t.Run(link.name+", by a "+how, func(t *testing.T) {
						p := page{t, browser}
						p.dropAllCookies()
						a.watch.forget()
						a.watch.shows(markup + `<a id="go" href="` + link.url + `">a link</a>`)
						if link.asks {
							p.open(a.address + "/page")
						} else {
							a.watch.divert()
							p.open(a.address + "/account/?tab=1")
							p.signIn("password")
							p.see("A page with")
						}
						for _, v := range a.watch.await(t, link.path, 1, true) {
							if v.purpose == "" || v.sets != "" || v.status >= 300 && v.status < 400 {
								t.Errorf("%s: want no cookies and no redirect for something that is prepared", v)
							}
						}
						a.provider.want("after preparing", map[string]int{"authorization_code": codes})
						p.follow("go")
						if link.asks {
							p.signIn("password")
						}
						p.see("ada@example.com")
						if where := p.where(); where != a.address+"/account/?tab=1" {
							t.Errorf("the login ended at %s", where)
						}
						p.noCode()
						codes++
						a.provider.want("afterwards", map[string]int{
							"authorization_code": codes, "invalid_grant": 0, "revoked": 0,
						})
					})
				}
			}
		})
	}
}
