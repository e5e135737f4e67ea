package oidcauth_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// bothModes runs a module of the suite with sessions in a store, and with sessions in cookies beside a RevocationStore.
func bothModes(t *testing.T, module string, test func(t *testing.T, edit func(*oidcauth.Options))) {
	t.Run(module, func(t *testing.T) {
		t.Parallel()
		for name, mode := range map[string]func(*oidcauth.Options){
			"in the store": func(o *oidcauth.Options) { o.Store = oidcauth.NewMemoryStore(0) },
			"in cookies":   func(o *oidcauth.Options) { o.RevocationStore = oidcauth.NewMemoryStore(0) },
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, mode)
			})
		}
	})
}

// newLogoutModule returns an application whose provider tells it of logouts. Two browsers are signed in with one sid, which has
// what a sid may have in it: the second shows what a logout token has done.
func newLogoutModule(t *testing.T, edit ...func(*oidcauth.Options)) (a *app, second *oidcauthtest.Browser) {
	t.Helper()
	a = newModule(t, edit...)
	a.op.Serve("app.test", a.handler)
	a.op.Change(func(k *oidcauthtest.Knobs) { k.SID = `a sid: {"x"} <&> %20+/=?#;,` })
	second = a.op.NewBrowser(a.handler)
	a.browser.SignIn(oidcauthtest.Alice)
	second.SignIn(oidcauthtest.Alice)
	return a, second
}

// signsOut logs out at the provider, as every module of the plans does, and asserts that the browser comes back.
func (a *app) signsOut(t *testing.T) {
	t.Helper()
	page := a.browser.Post("/auth/logout", url.Values{})
	if page.URL.Host != "app.test" || page.StatusCode != http.StatusOK || page.Body != nobody {
		t.Errorf("landed at %s with %d %q", page.URL, page.StatusCode, page.Body)
	}
	for _, r := range page.History {
		if r.StatusCode >= 400 {
			t.Errorf("on the way %s answers %d", r.URL, r.StatusCode)
		}
	}
	a.asked(t, "end_session", 1)
	sent := a.op.Requests("end_session")[0].Form
	if sent.Get("id_token_hint") == "" || sent.Get("post_logout_redirect_uri") != "https://app.test" {
		t.Error("id_token_hint or post_logout_redirect_uri is not what it has to be")
	}
	a.asked(t, "", 0) // CS-04
}

// oidcc-client-back-channel-logout-rp-basic: while the logout's request is open at the provider, that posts a logout token. It
// has no typ, claims that nobody knows, and lies beside a parameter that nobody knows.
func TestConformanceBackchannelLogoutRP(t *testing.T) {
	t.Parallel()
	const prefix = "oidcc-client-test-rp-"
	for _, tt := range []struct {
		module string
		status int
	}{
		{"oidcc-client-test-rp-backchannel-rpinitlogout", http.StatusOK},
		{"oidcc-client-test-rp-backchannel-rpinitlogout-alg-none", http.StatusBadRequest},
		{"oidcc-client-test-rp-backchannel-rpinitlogout-no-event", http.StatusBadRequest},
		{"oidcc-client-test-rp-backchannel-rpinitlogout-with-nonce", http.StatusBadRequest},
		{"oidcc-client-test-rp-backchannel-rpinitlogout-wrong-alg", http.StatusBadRequest},
		{"oidcc-client-test-rp-backchannel-rpinitlogout-wrong-aud", http.StatusBadRequest},
		{"oidcc-client-test-rp-backchannel-rpinitlogout-wrong-event", http.StatusBadRequest},
		{"oidcc-client-test-rp-backchannel-rpinitlogout-wrong-iss", http.StatusBadRequest},
	} {
		bothModes(t, tt.module, func(t *testing.T, edit func(*oidcauth.Options)) {
			a, second := newLogoutModule(t, edit)
			a.op.Change(func(k *oidcauthtest.Knobs) { k.BackchannelLogoutURI = "https://app.test/auth/backchannel-logout" })
			misbehaviour, want := "backchannel-rpinitlogout", nobody
			if tt.status != http.StatusOK {
				misbehaviour, want = "backchannel"+strings.TrimPrefix(tt.module, prefix+"backchannel-rpinitlogout"), "alice"
			}
			a.op.Misbehave(misbehaviour)
			a.signsOut(t)
			answers := a.op.LogoutAnswers()
			if len(answers) != 1 {
				t.Fatalf("%d logout tokens were answered, want one", len(answers))
			}
			r := answers[0]
			if r.StatusCode != tt.status || !strings.Contains(r.Header.Get("Cache-Control"), "no-store") {
				t.Errorf("the answer is %d, Cache-Control %q, want %d", r.StatusCode, r.Header.Get("Cache-Control"), tt.status)
			}
			if len(r.Cookies()) > 0 || tt.status == http.StatusOK && r.Body != "" {
				t.Errorf("it has %d cookies and the body %q", len(r.Cookies()), r.Body)
			}
			if who := second.Get("/").Body; who != want { // what the suite cannot see
				t.Errorf("the other session of that sid is of %q, want %q: %s", who, want, a.logs)
			}
		})
	}
}

// The plan has no module for it, but every module's token comes when the session is gone already: at an application that none
// is left of the token's sessions, too.
func TestConformanceALogoutTokenForASessionThatIsGone(t *testing.T) {
	t.Parallel()
	bothModes(t, "gone", func(t *testing.T, edit func(*oidcauth.Options)) {
		a := newModule(t, edit)
		a.op.Serve("app.test", a.handler)
		a.op.Misbehave("backchannel-rpinitlogout")
		a.op.Change(func(k *oidcauthtest.Knobs) { k.BackchannelLogoutURI = "https://app.test/auth/backchannel-logout" })
		a.browser.SignIn(oidcauthtest.Alice)
		a.signsOut(t)
		if answers := a.op.LogoutAnswers(); len(answers) != 1 || answers[0].StatusCode != http.StatusOK {
			t.Errorf("the answers are %v", answers)
		}
	})
}

// The module of oidcc-client-front-channel-logout-rp-basic: the page of the provider has a frame with iss and sid, and goes on
// when that has loaded.
func TestConformanceFrontchannelLogoutRP(t *testing.T) {
	t.Parallel()
	bothModes(t, "oidcc-client-test-rp-frontchannel-rpinitlogout", func(t *testing.T, edit func(*oidcauth.Options)) {
		a, second := newLogoutModule(t, edit, framed)
		const sid = "sid-of-letters" // nothing in the frame's URL is escaped
		a.op.Change(func(k *oidcauthtest.Knobs) {
			k.FrontchannelLogoutURI, k.SID = "https://app.test"+frontchannelPath, sid
		})
		a.browser.SignIn(oidcauthtest.Alice)
		second.SignIn(oidcauthtest.Alice)
		a.signsOut(t)
		r := httptest.NewRequest(http.MethodGet, a.op.FrontchannelLogoutURL(sid), http.NoBody)
		r.Header.Set("Sec-Fetch-Mode", "navigate")
		r.Header.Set("Sec-Fetch-Dest", "iframe")
		frame := a.browser.From(a.op.Issuer()).Do(r)
		if frame.StatusCode != http.StatusOK || !strings.Contains(frame.Header.Get("Cache-Control"), "no-store") {
			t.Errorf("the frame is answered with %d, Cache-Control %q", frame.StatusCode, frame.Header.Get("Cache-Control"))
		}
		if who := second.Get("/").Body; who != nobody {
			t.Errorf("the other session of that sid is of %q: %s", who, a.logs)
		}
	})
}
