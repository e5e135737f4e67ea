package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// anotherTab opens a tab of the same browser.
func (p page) anotherTab() page {
	p.t.Helper()
	ctx, cancel := chromedp.NewContext(p.ctx)
	p.t.Cleanup(cancel)
	// The tab lives as long as the context of its first action.
	if _, err := chromedp.Run(ctx, chromedp.Navigate("about:blank")); err != nil {
		p.t.Fatal(err)
	}
	return page{p.t, ctx}
}

// blockThirdParties blocks the cookies of frames of other sites, in this tab.
func (p page) blockThirdParties() {
	p.t.Helper()
	run(p, "block third-party cookies", func(ctx context.Context, t *chromedp.Target) (cdp.Empty, error) {
		params := network.SetCookieControlsParams{EnableThirdPartyCookieRestriction: true}
		return cdp.Call(ctx, t, network.SetCookieControls, params)
	})
}

// TestCertifiedInChromium: to the browser the application at 127.0.0.1 and the provider at localhost are two sites, so
// that each step between them is a cross-site one.
func TestCertifiedInChromium(t *testing.T) {
	for i, config := range slices.Concat(certifiedConfigs, certifiedInBrowser) {
		t.Run(config.name, func(t *testing.T) {
			a, p := newCertifiedApp(t, config.options), page{t, newChromium(t)}
			second, size := p.anotherTab(), sizes[i%len(sizes)]
			for _, tab := range []page{p, second} {
				run(tab, "size", chromedp.EmulateViewport(size.width, size.height))
				tab.blockThirdParties()
			}
			look := func(p page, name string) {
				p.t.Helper()
				p.fits()
				p.shot(fmt.Sprintf("certified-%d-%s-%s", i+1, size.name, name))
			}

			p.open(a.address + "/account/?tab=1")
			p.see("Password")
			look(p, "1-provider")
			p.signIn("wrong")
			p.see("That password is wrong.")
			a.shortTokens(func() { p.signIn("password"); p.see("ada@example.com") })
			look(p, "2-account")
			if where := p.where(); where != a.address+"/account/?tab=1" {
				t.Errorf("the login ended at %s", where)
			}
			if got := p.script("return document.cookie"); got != "" {
				t.Errorf("a script can read the cookie %s", got)
			}

			second.open(a.address + "/account/?tab=2")
			second.see("ada@example.com") // with no question
			fetchTokens := `const one = () => fetch("/token").then((r) => r.text())
				const all = await Promise.all(Array.from({length: 20}, one))
				return new Set(all).size + " " + all[0]`
			count, token, _ := strings.Cut(p.script(fetchTokens), " ")
			if report := a.provider.look(token); count != "1" || report.Sub != "ada" {
				t.Errorf("%s tokens, and the provider says of the first: %+v", count, report)
			}
			if got := second.script(fetchTokens); got != "1 "+token {
				t.Error("the second tab gets another token than the first")
			}
			a.provider.want("after both tabs", map[string]int{
				"authorization_code": 1, "refresh_token": 1, "reuse": 0, "live": 1,
			})

			second.click(`a[href="/auth/logout"]`)
			second.see("Sign out here, too?")
			look(second, "3-logout")
			second.click(`button[value="yes"]`)
			second.see("Our home page")
			a.provider.want("after the logout", map[string]int{"logout": 1, "live": 0})
			p.open(a.address + "/account/?tab=1")
			p.see("Password") // the first tab is signed out, and at the provider, too
			p.click(`button[value="cancel"]`)
			p.see("cancelled")
			look(p, "4-cancelled")
			p.click(`nav a[href^="/auth/login"]`) // try again
			p.see("Password")

			second.open(a.address + "/account/?tab=2")
			second.see("Password") // two logins at once
			second.signIn("password")
			second.see("ada@example.com")
			p.signIn("password")
			p.see("ada@example.com")
			one, two := p.where(), second.where() // trying again forgets the query (S33)
			if one != a.address+"/account/" || two != a.address+"/account/?tab=2" {
				t.Errorf("two logins at once ended at %s and %s", one, two)
			}
			a.provider.want("after three logins", map[string]int{
				"authorization_code": 3, "invalid_grant": 0, "reuse": 0,
			})
		})
	}
}

// The journey above is worth what blockThirdParties does: a frame of another site keeps no cookie but one of this page.
func TestThirdPartyCookiesAreBlocked(t *testing.T) {
	framed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, `<script>document.cookie = "third=1; SameSite=None; Secure"
			document.cookie = "ours=1; SameSite=None; Secure; Partitioned"
			parent.postMessage("the frame has <" + document.cookie + ">", "*")</script>`)
	}))
	defer framed.Close()
	framing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<body><script>onmessage = (e) => { document.body.append(e.data) }</script>
			<iframe src="%s"></iframe>`, framed.URL)
	}))
	defer framing.Close()
	p := page{t, newChromium(t)}
	p.blockThirdParties()
	p.open(strings.Replace(framing.URL, "127.0.0.1", "localhost", 1))
	p.see("the frame has <ours=1>")
}
