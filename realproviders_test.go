package oidcauth_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// DISC-03: metadata that is elsewhere is believed if it names the issuer.
func TestMetadataMayBeElsewhere(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		edit func(map[string]any)
		want int
	}{
		"of the issuer":  {nil, 200},
		"of another one": {func(m map[string]any) { m["issuer"] = "https://op.test" }, 502},
	} {
		a := newApp(t, func(o *oidcauth.Options) {
			o.DiscoveryURL = "https://meta.test/tenant/.well-known/openid-configuration"
		})
		a.op.Serve("meta.test", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/tenant/.well-known/openid-configuration" {
				http.NotFound(w, r)
				return
			}
			r.URL.Path, r.Host = "/.well-known/openid-configuration", "op.test"
			a.op.Handler().ServeHTTP(w, r)
		}))
		if tt.edit != nil {
			a.op.EditMetadata(tt.edit)
		}
		if page := a.browser.Get("/auth/login"); page.StatusCode != tt.want || (page.Body == "alice") != (tt.want == 200) {
			t.Errorf("%s: the login ends with %d %q", name, page.StatusCode, errorCode(page))
		}
	}
}

// OIDC-18 to OIDC-20, to the second.
func TestClocksMayBeApartAsFarAsConfigured(t *testing.T) {
	t.Parallel()
	skew := func(d time.Duration) func(*oidcauth.Options) { return func(o *oidcauth.Options) { o.ClockSkew = d } }
	age := func(d time.Duration) func(*oidcauth.Options) {
		return func(o *oidcauth.Options) { o.MaxIDTokenAge = d }
	}
	for _, tt := range []struct {
		name  string
		edit  func(*oidcauth.Options)
		claim string
		is    time.Duration // from now
		right bool
	}{
		{"half a minute by default", skew(0), "exp", -29 * time.Second, true},
		{"and no more", skew(0), "exp", -30 * time.Second, false},
		{"five minutes", skew(5 * time.Minute), "exp", -299 * time.Second, true},
		{"and no more", skew(5 * time.Minute), "exp", -300 * time.Second, false},
		{"ahead", skew(5 * time.Minute), "iat", 300 * time.Second, true},
		{"and no more", skew(5 * time.Minute), "iat", 301 * time.Second, false},
		{"ten minutes old by default", age(0), "iat", -10 * time.Minute, true},
		{"and no more", age(0), "iat", -10*time.Minute - time.Second, false},
		{"an hour old", age(time.Hour), "iat", -time.Hour, true},
		{"and no more", age(time.Hour), "iat", -time.Hour - time.Second, false},
		{"however old", age(-1), "iat", -1000 * time.Hour, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := newApp(t, tt.edit)
			a.op.EditIDToken(func(c map[string]any) { c[tt.claim] = time.Now().Add(tt.is).Unix() })
			page := a.browser.Get("/auth/login")
			if (page.Body == "alice") != tt.right || !tt.right && errorCode(page) != "invalid_id_token" {
				t.Errorf("%s: %s of %v: %d %q", tt.name, tt.claim, tt.is, page.StatusCode, errorCode(page))
			}
			a.settle(t)
		})
	}
}

// prompt=login is met by an authentication of the clock's skew before.
func TestPromptLoginAllowsForTheSkew(t *testing.T) {
	t.Parallel()
	for skew, right := range map[time.Duration]bool{time.Minute: false, 2 * time.Minute: true} {
		synctest.Test(t, func(t *testing.T) {
			a := newApp(t, func(o *oidcauth.Options) { o.ClockSkew = skew })
			a.op.SetUser(oidcauthtest.User{Subject: "alice", At: time.Now().Add(-90 * time.Second)})
			if page := a.browser.Get("/auth/login?prompt=login"); (page.Body == "alice") != right {
				t.Errorf("with %v: %d %q", skew, page.StatusCode, errorCode(page))
			}
			a.settle(t)
		})
	}
}
