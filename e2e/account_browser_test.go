package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// signInAs gives the name of a user to the certified provider, and the password.
func (p page) signInAs(user string) {
	p.t.Helper()
	run(p, "password field", chromedp.WaitVisible("#password"))
	p.script(`document.getElementById("login").value = "` + user + `"`)
	p.signIn("password")
}

// wantAccount waits for the account page of a user, and looks for what the session remembers and what it must not.
func (p page) wantAccount(user, note, never string) {
	p.t.Helper()
	p.see(user + "@example.com")
	if text := p.text("body"); !strings.Contains(text, note) || never != "" && strings.Contains(text, never) {
		p.t.Errorf("want the note %q, and never %q, on the page:\n%s", note, never, text)
	}
}

// live is how many refresh tokens would still bring tokens.
func (p *certifiedProvider) live() int {
	p.t.Helper()
	var counts map[string]int
	p.ask("/counts", "", &counts)
	return counts["live"]
}

// awaitLive waits until n refresh tokens are live: they are revoked while nobody waits.
func (p *certifiedProvider) awaitLive(n int) {
	p.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		live := p.live()
		if live == n {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%d refresh tokens are live, want %d", live, n)
		}
	}
}

// S15, CSRF-05: another site can have somebody signed in, since the provider may ask for no password or be the other
// site's own. It does not take the session of another user away without a question.
func TestAnotherAccountInChromium(t *testing.T) {
	t.Parallel()
	for i, config := range twoSites {
		t.Run(config.name, func(t *testing.T) {
			t.Parallel()
			a, p := newCertifiedApp(t, config.options), page{t, newChromium(t)}
			size := sizes[i%len(sizes)]
			run(p, "size", chromedp.EmulateViewport(size.width, size.height))
			p.blockThirdParties()
			attack := elsewhere(t, false, `<a id="go" href="`+a.address+`/auth/login?returnTo=/account/?elsewhere">a link</a>`)
			link := func() { t.Helper(); p.open(attack); p.follow("go") }
			asked := func() {
				t.Helper()
				p.see("Change accounts?")
				p.noCode()
				other := p.anotherTab()
				other.open(a.address + "/account/")
				other.wantAccount("ada", "for ada alone", "")
			}

			link() // to nobody's loss
			p.signInAs("ada")
			p.wantAccount("ada", "", "")
			if where := p.where(); where != a.address+"/account/?elsewhere" {
				t.Errorf("the login ended at %s", where)
			}
			link() // of the same user
			p.wantAccount("ada", "", "")
			a.provider.want("after two logins of one user", map[string]int{"authorization_code": 2, "password": 1})
			before := a.provider.live()
			p.open(a.address + "/note/for ada alone")
			p.wantAccount("ada", "for ada alone", "")

			p.dropCookies(a.provider.Issuer) // now it is the other site's turn to choose who signs in there
			link()
			p.signInAs("bob")
			asked()
			p.fits()
			p.shot("another-account-" + strings.ReplaceAll(strings.ReplaceAll(config.name, ",", ""), " ", "-") + "-" + size.name)
			run(p, "reload", chromedp.Reload())
			asked()
			p.click("nav > a")
			p.see("Our home page")
			p.open(a.address + "/account/")
			p.wantAccount("ada", "for ada alone", "")
			a.provider.awaitLive(before) // those of the login that was declined are revoked

			link()
			asked()
			p.click("form button")
			p.wantAccount("bob", "", "for ada alone")
			if where := p.where(); where != a.address+"/account/?elsewhere" {
				t.Errorf("the change ended at %s", where)
			}
			p.open(a.address + "/account/")
			p.wantAccount("bob", "", "for ada alone") // and not only on the first page

			p.open(a.address + "/note/for bob alone")
			p.wantAccount("bob", "for bob alone", "")
			p.dropCookies(a.provider.Issuer)
			a.watch.shows(`<a id="go" href="/auth/login?returnTo=/account/?ours">Change accounts</a>`)
			p.open(a.address + "/page")
			p.follow("go") // what the user asks the application for needs no question
			p.signInAs("ada")
			p.wantAccount("ada", "", "alone")
			if where := p.where(); where != a.address+"/account/?ours" {
				t.Errorf("our own change ended at %s", where)
			}
		})
	}
}
