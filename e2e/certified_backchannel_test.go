package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/oidcauth/oidcauth"
)

// providerLogouts are the ways in which the session that a device has at the provider ends, and all that hangs on it.
var providerLogouts = []struct {
	name string
	do   func(p *pair, d *device, user string)
}{
	{"by the application", func(p *pair, d *device, _ string) {
		d.confirm(d.open(p.address + "/auth/logout?instance=2")) // which ends the session here, first
	}},
	{"by another application", func(p *pair, d *device, _ string) {
		d.wantAccount(d.open(p.other.address + "/account/")) // with no question
		d.confirm(d.open(p.other.address + "/auth/logout"))
	}},
	{"at the provider", func(p *pair, d *device, _ string) {
		d.confirm(d.open(p.provider.Issuer + "/session/end"))
	}},
	{"by an administrator", func(p *pair, _ *device, user string) { p.provider.do("/end-session", user) }},
}

// confirm says yes to the provider's question.
func (d *device) confirm(page answer) {
	d.t.Helper()
	if !strings.Contains(page.body, "Sign out here, too?") {
		d.t.Fatalf("%s: no question, but %d at %s:\n%s", d.name, page.status, page.url, page.body)
	}
	if page = d.submit(page, "logout", "yes"); page.status != http.StatusOK {
		d.t.Errorf("%s: the logout ended with %d at %s:\n%s", d.name, page.status, page.url, page.body)
	}
}

// BCL-15, BCL-21: a logout at the provider ends in both instances the session that it is about, or all of the user, and
// no other. All have streams open.
func TestCertifiedBackchannelLogout(t *testing.T) {
	t.Parallel()
	for _, mode := range endingModes {
		for _, tt := range []struct {
			name           string
			bySID, offline bool
			tokens         int // which the provider is to send
		}{
			{"one session", true, true, 2*len(providerLogouts) + 1},
			{"one session, and no offline_access", true, false, 2*len(providerLogouts) + 1},
			{"all of the user", false, true, len(providerLogouts) + 1},
		} {
			t.Run(mode.name+", "+tt.name, func(t *testing.T) {
				t.Parallel()
				p := newPair(t, mode.set, tt.bySID, func(o *oidcauth.Options) {
					if !tt.offline {
						o.Scopes = []string{"openid", "profile", "email"}
					}
				})
				bob := p.sign(t, "bob", "bob")
				bob.listen(p)
				for i, logout := range providerLogouts {
					user := fmt.Sprintf("ada%d", i)
					laptop, phone := p.sign(t, logout.name+": laptop", user), p.sign(t, logout.name+": phone", user)
					laptop.listen(p)
					phone.listen(p)

					logout.do(p, laptop, user)
					p.want(laptop, http.StatusUnauthorized)
					laptop.signInAs(p, user) // perhaps in the second of the logout
					laptop.wantSilence()
					if tt.bySID {
						p.want(phone, http.StatusOK)
						phone.wantStreams()
						p.provider.do("/end-session", user) // the older one
						p.want(laptop, http.StatusOK)
					}
					phone.wantSilence() // with no request that could tell an instance
					p.want(phone, http.StatusUnauthorized)
					p.want(bob, http.StatusOK)
					bob.wantStreams()
				}
				p.provider.do("/end-session", "bob")
				bob.wantSilence()
				p.want(bob, http.StatusUnauthorized)
				p.wantTold(tt.tokens)
				live := 0
				if tt.offline { // each laptop has signed in again
					live = len(providerLogouts)
				}
				// What an ended session had is revoked, although with offline_access the provider keeps it (BCL-20).
				p.provider.awaitLive(live)
			})
		}
	}
}

// wantTold finds that the provider has sent the application so many logout tokens, and was answered 200 each time.
func (p *pair) wantTold(n int) {
	p.t.Helper()
	ours := slices.DeleteFunc(p.provider.deliveries(), func(d delivery) bool { return d.To != p.address+tellsLogout })
	for _, d := range ours {
		if d.Status != http.StatusOK {
			p.t.Errorf("the provider is answered %d, want 200", d.Status)
		}
	}
	if len(ours) != n {
		p.t.Errorf("the provider has sent %d logout tokens, want %d", len(ours), n)
	}
	p.provider.want("after all logouts", map[string]int{"not told": 0})
}

// The provider's own logout tokens in other hands: BCL-05, BCL-06, BCL-14, THR-34.
func TestCertifiedLogoutTokenMisused(t *testing.T) {
	t.Parallel()
	for _, mode := range endingModes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, mode.set, false, nil)
			ada := p.sign(t, "ada", "ada")
			ada.wantAccount(ada.open(p.other.address + "/account/"))
			for _, rotated := range []bool{false, true} { // then the token has a key that the application has not seen
				if rotated {
					p.provider.do("/rotate-keys", "")
				}
				p.provider.do("/end-session", "ada")
				p.want(ada, http.StatusUnauthorized)
				ada.signInAs(p, "ada")
			}
			ended := p.revoked()
			if ended != 2 {
				t.Errorf("%d events say that sessions have ended, want 2", ended)
			}

			deliveries := p.provider.deliveries()
			tokenFor := func(a *certifiedApp) string {
				i := slices.IndexFunc(deliveries, func(d delivery) bool { return d.To == a.address+tellsLogout })
				if i < 0 {
					t.Fatalf("the provider has told nobody at %s", a.address)
				}
				return deliveries[i].Token
			}
			token := tokenFor(p.certifiedApp)
			for range 3 {
				if status := p.post(token); status != http.StatusOK {
					t.Errorf("the token again: status %d, want 200", status)
				}
			}
			for i := range len(token) - 1 { // of the last character not all bits count
				if status := p.post(token[:i] + flip(token[i]) + token[i+1:]); status != http.StatusBadRequest {
					t.Errorf("the token with another character at %d: status %d, want 400", i, status)
				}
			}
			for name, wrong := range map[string]string{
				"that of another application": tokenFor(p.other),
				"an access token":             ada.fetch(p.address + "/token?audience=" + ordersAPI).body,
				"half a token":                token[:len(token)/2],
			} {
				if status := p.post(wrong); status != http.StatusBadRequest {
					t.Errorf("%s: status %d, want 400", name, status)
				}
			}
			p.want(ada, http.StatusOK)
			if again := p.revoked(); again != ended {
				t.Errorf("%d logouts have come of it", again-ended)
			}
		})
	}
}

// flip returns another character of a token.
func flip(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

// A page that is open when its user signs out elsewhere learns of it, and the next click leads to a login.
func TestALogoutElsewhereInChromium(t *testing.T) {
	t.Parallel()
	for i, config := range twoSites {
		mode := endingModes[i%2]
		t.Run(config.name+", "+mode.name, func(t *testing.T) {
			t.Parallel()
			bySID := i < 2
			a := newPair(t, mode.set, bySID, config.options)
			b, size := page{t, newChromium(t)}, sizes[i%len(sizes)]
			run(b, "size", chromedp.EmulateViewport(size.width, size.height))
			b.blockThirdParties()
			b.open(a.address + "/live")
			b.signIn("password")
			b.see("own: begun")
			b.see("api: begun")
			phone := a.sign(t, "phone", "ada")
			if bySID {
				a.provider.do("/end-session", "ada") // by a page that the provider shows on the phone
			} else {
				phone.confirm(phone.open(a.address + "/auth/logout"))
			}
			b.see("own: " + sessionOver)
			b.see("own: closed") // and not opened again
			b.see("api: closed")
			b.fits()
			b.shot(fmt.Sprintf("logout-elsewhere-%d-%s", i+1, size.name))
			a.watch.forget()
			b.follow("go")
			if bySID {
				b.signIn("password")
			} // otherwise the provider still knows this browser
			b.see("ada@example.com")
			if where := b.where(); where != a.address+"/account/?next" {
				t.Errorf("the click ended at %s", where)
			}
			if n := len(a.watch.all("/auth/callback")); n == 0 {
				t.Error("the click led to no login")
			}
			b.noCode()
			if bySID {
				a.want(phone, http.StatusOK)
			} else {
				a.want(phone, http.StatusUnauthorized)
			}
		})
	}
}
