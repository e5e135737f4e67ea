package oidcauthtest_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// newBrowser returns a browser for which h is the application at https://app.test.
func newBrowser(tb testing.TB, h http.Handler) *oidcauthtest.Browser {
	tb.Helper()
	return oidcauthtest.NewProvider(tb).NewBrowser(h)
}

// sent returns the cookies that the browser would send to a URL, as a Cookie field.
func sent(b *oidcauthtest.Browser, target string) string {
	var pairs []string
	for _, c := range b.Cookies(target) {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	return strings.Join(pairs, "; ")
}

// set stores a cookie as the page at target does with a Set-Cookie field, and returns why it is dropped.
func set(t *testing.T, b *oidcauthtest.Browser, target, line string) error {
	t.Helper()
	c, err := http.ParseSetCookie(line)
	if err != nil {
		t.Fatalf("test cookie: %v", err)
	}
	return b.SetCookie(target, c)
}

func TestJarSendsACookieOnlyWhereItBelongs(t *testing.T) {
	t.Parallel()
	const home = "https://app.test/"
	longPath := strings.Repeat("x", 1024)
	tests := []struct {
		name, from, line string
		to               string
		want             bool
	}{
		{"its host", home, "a=1", home, true},
		{"host-only: not a subdomain", home, "a=1", "https://sub.app.test/", false},
		{"host-only: not the parent", "https://sub.app.test/", "a=1", home, false},
		{"host-only: not a host that ends alike", home, "a=1", "https://myapp.test/", false},
		{"another port is the same host", home, "a=1", "https://app.test:8443/", true},
		{"names of hosts have no case", "https://APP.test/", "a=1", home, true},
		{"Domain: subdomain", home, "a=1; Domain=app.test", "https://sub.app.test/", true},
		{"Domain: itself", home, "a=1; Domain=app.test", home, true},
		{"Domain: set by a subdomain", "https://evil.app.test/", "a=1; Domain=app.test", home, true},
		{"Domain: leading dot and case do not count", home, "a=1; Domain=.APP.test", "https://sub.app.test/", true},
		{"Domain: too long is none", home, "a=1; Domain=" + strings.Repeat("x.", 512) + "test", home, true},
		{"Domain: not a host that ends alike", home, "a=1; Domain=app.test", "https://myapp.test/", false},

		{"Path: itself", home, "a=1; Path=/x", "https://app.test/x", true},
		{"Path: below", home, "a=1; Path=/x", "https://app.test/x/y?z", true},
		{"Path: below one with a slash", home, "a=1; Path=/x/", "https://app.test/x/y", true},
		{"Path: not beside", home, "a=1; Path=/x", "https://app.test/xy", false},
		{"Path: not above", home, "a=1; Path=/x", home, false},
		{"Path: one with a slash is not the page without", home, "a=1; Path=/x/", "https://app.test/x", false},
		{"Path: has case", home, "a=1; Path=/x", "https://app.test/X", false},
		{"Path: default is the directory", "https://app.test/x/y", "a=1", "https://app.test/x/z", true},
		{"Path: default is not above the directory", "https://app.test/x/y", "a=1", home, false},
		{"Path: relative is the default", "https://app.test/x/y", "a=1; Path=z", "https://app.test/x", true},
		{"Path: too long is the default", "https://app.test/x/y", "a=1; Path=/" + longPath, "https://app.test/x", true},
		{"Path: a URL without one has the root's", "https://app.test", "a=1; Path=/", "https://app.test", true},

		{"Secure: https", home, "a=1; Secure", home, true},
		{"Secure: not http", home, "a=1; Secure", "http://app.test/", false},
		{"Secure: http on this machine", "http://localhost:8080/", "a=1; Secure", "http://localhost/", true},
		{"Secure: http on a name of this machine", "http://x.localhost/", "a=1; Secure", "http://x.localhost/", true},
		{"Secure: http on a loopback address", "http://127.0.0.1:8080/", "a=1; Secure", "http://127.0.0.1/", true},
		{"without Secure: http and https", "http://app.test/", "a=1", home, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBrowser(t, nil)
			if err := set(t, b, tt.from, tt.line); err != nil {
				t.Fatalf("dropped: %v", err)
			}
			if got := sent(b, tt.to) == "a=1"; got != tt.want {
				t.Errorf("%s from %s: sent to %s: %t, want %t", tt.line, tt.from, tt.to, got, tt.want)
			}
		})
	}
}

func TestJarDropsWhatBrowsersDrop(t *testing.T) {
	t.Parallel()
	const home = "https://app.test/"
	tests := []struct {
		name, from, line string
		kept             bool
	}{
		// S43: the prefixes are enforced, whatever their case.
		{"__Host- as it must be", home, "__Host-a=1; Secure; Path=/", true},
		{"__Host- without Secure", home, "__Host-a=1; Path=/", false},
		{"__Host- without Path", home, "__Host-a=1; Secure", false},
		{"__Host- with another Path", home, "__Host-a=1; Secure; Path=/x", false},
		{"__Host- with Domain", home, "__Host-a=1; Secure; Path=/; Domain=app.test", false},
		{"__host- with Domain", home, "__host-a=1; Secure; Path=/; Domain=app.test", false},
		{"__Host- over http", "http://app.test/", "__Host-a=1; Secure; Path=/", false},
		{"__Secure- as it must be", home, "__Secure-a=1; Secure; Domain=app.test", true},
		{"__Secure- without Secure", home, "__Secure-a=1", false},
		{"__SECURE- without Secure", home, "__SECURE-a=1", false},

		{"Secure over http", "http://app.test/", "a=1; Secure", false},
		{"Secure over http from an address that is not here", "http://10.0.0.1/", "a=1; Secure", false},
		{"SameSite=None without Secure", home, "a=1; SameSite=None", false},
		{"SameSite=None with Secure", home, "a=1; SameSite=None; Secure", true},
		{"Partitioned without Secure", home, "a=1; Partitioned", false},

		{"Domain of another site", home, "a=1; Domain=op.test", false},
		{"Domain of a subdomain", home, "a=1; Domain=sub.app.test", false},
		{"Domain that ends alike", home, "a=1; Domain=pp.test", false},
		{"Domain that is a public suffix", home, "a=1; Domain=test", false},
		{"Domain of an address's part", "https://10.0.0.1/", "a=1; Domain=0.0.1", false},

		// CKE-01
		{"4096 octets", home, "a=" + strings.Repeat("x", 4095), true},
		{"4097 octets", home, "a=" + strings.Repeat("x", 4096), false},
		{"4097 octets with a long name", home, strings.Repeat("n", 4096) + "=x", false},
		{"attributes do not count", home, "a=" + strings.Repeat("x", 4095) + "; Path=/; HttpOnly", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBrowser(t, nil)
			err := set(t, b, tt.from, tt.line)
			if kept := len(b.Cookies(tt.from)) == 1; kept != tt.kept || kept != (err == nil) {
				t.Errorf("kept: %t, want %t (error: %v)", kept, tt.kept, err)
			}
		})
	}
}

func TestJarReplacesOnlyTheSameCookie(t *testing.T) {
	t.Parallel()
	const page = "https://sub.app.test/x/y"
	tests := []struct {
		name  string
		lines []string
		want  string
	}{
		{"same name", []string{"a=1; Path=/", "a=2; Path=/"}, "a=2"},
		{"names have case (CKE-04)", []string{"a=1; Path=/", "A=2; Path=/"}, "a=1; A=2"},
		{"longer paths first", []string{"a=1; Path=/", "b=2; Path=/x", "c=3; Path=/x/"}, "c=3; b=2; a=1"},
		{"older first", []string{"b=1; Path=/", "a=2; Path=/"}, "b=1; a=2"},
		{"a new value keeps its place", []string{"b=1; Path=/", "a=2; Path=/", "b=3; Path=/"}, "b=3; a=2"},
		{"another Path", []string{"a=1; Path=/", "a=2; Path=/x"}, "a=2; a=1"},
		{"another Domain", []string{"a=1; Path=/; Domain=app.test", "a=2; Path=/; Domain=sub.app.test"}, "a=1; a=2"},
		{"host-only and not", []string{"a=1; Path=/", "a=2; Path=/; Domain=sub.app.test"}, "a=1; a=2"},
		{"deleted", []string{"a=1; Path=/", "a=; Path=/; Max-Age=0"}, ""},
		{"not deleted with another Path (CKE-07)", []string{"a=1; Path=/", "a=; Path=/x; Max-Age=0"}, "a=1"},
		{"not deleted with a Domain (CKE-07)", []string{"a=1; Path=/", "a=; Path=/; Max-Age=0; Domain=app.test"}, "a=1"},
		{"deleted by date", []string{"a=1; Path=/", "a=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT"}, ""},
		{"quotes belong to the value", []string{`a="1"; Path=/`}, `a="1"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBrowser(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Set-Cookie"] = slices.Clone(tt.lines)
			}))
			b.Host(page, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/x/y" {
					w.Header()["Set-Cookie"] = slices.Clone(tt.lines)
				}
				fmt.Fprint(w, r.Header.Get("Cookie"))
			}))
			b.Get(page)
			if got := b.Get("https://sub.app.test/x/z").Body; got != tt.want {
				t.Errorf("after %q: Cookie %q, want %q", tt.lines, got, tt.want)
			}
		})
	}
}

func TestHTTPCannotShadowASecureCookie(t *testing.T) {
	t.Parallel()
	// RFC 6265bis 5.7: whoever controls the network controls http, and could put a cookie in front of a Secure one.
	tests := []struct {
		name, secureAt, secure string
		httpAt, line           string
		kept                   bool
	}{
		{"the same", appSite, "a=good; Path=/; Secure", httpSite, "a=evil; Path=/", false},
		{"deleting", appSite, "a=good; Path=/; Secure", httpSite, "a=; Path=/; Max-Age=0", false},
		{"longer path", appSite, "a=good; Path=/; Secure", httpSite, "a=evil; Path=/x", false},
		{"with a Domain", appSite, "a=good; Path=/; Secure", httpSite, "a=evil; Path=/; Domain=app.test", false},
		{"of a subdomain", appSite, "a=good; Secure; Domain=app.test", "http://sub.app.test", "a=evil; Path=/", false},
		{"of the domain above", subSite, "a=good; Path=/; Secure", httpSite, "a=evil; Path=/; Domain=app.test", false},
		{"shorter path comes later", appSite, "a=good; Path=/x; Secure", httpSite, "a=plain; Path=/", true},
		{"another name", appSite, "a=good; Path=/; Secure", httpSite, "b=plain; Path=/", true},
		{"another host", appSite, "a=good; Path=/; Secure", "http://op.test", "a=plain; Path=/", true},
		{"not Secure", appSite, "a=good; Path=/", httpSite, "a=plain; Path=/", true},
		{"https may", appSite, "a=good; Path=/; Secure", appSite, "a=plain; Path=/", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBrowser(t, nil)
			if err := set(t, b, tt.secureAt, tt.secure); err != nil {
				t.Fatal(err)
			}
			err := set(t, b, tt.httpAt, tt.line)
			got := sent(b, tt.secureAt+"/x")
			if (err == nil) != tt.kept || !tt.kept && got != "a=good" {
				t.Errorf("error %v, then Cookie %q; want kept: %t", err, got, tt.kept)
			}
		})
	}
}

func TestCookiesExpire(t *testing.T) {
	tests := []struct {
		name, attribute string
		lives           time.Duration
	}{
		{"Max-Age", "; Max-Age=3600", time.Hour},
		{"Expires", "; Expires=Sat, 01 Jan 2000 02:00:00 GMT", 2 * time.Hour}, // a bubble's clock starts at 2000-01-01
		{"Max-Age wins", "; Expires=Sat, 01 Jan 2000 02:00:00 GMT; Max-Age=60", time.Minute},
		{"Max-Age is capped at 400 days (CKE-05)", "; Max-Age=9999999999", 400 * 24 * time.Hour},
		{"Expires is capped at 400 days (CKE-05)", "; Expires=Fri, 01 Jan 2100 00:00:00 GMT", 400 * 24 * time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBrowser(t, nil)
				if err := set(t, b, "/", "a=1"+tt.attribute); err != nil {
					t.Fatal(err)
				}
				time.Sleep(tt.lives - time.Second)
				if got := sent(b, "/"); got != "a=1" {
					t.Errorf("a second before its end: Cookie %q, want a=1", got)
				}
				b.Restart()
				time.Sleep(time.Second)
				if got := sent(b, "/"); got != "" {
					t.Errorf("at its end: Cookie %q, want none", got)
				}
			})
		})
	}
}

func TestRestartDropsCookiesWithoutExpiry(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, nil)
	for _, line := range []string{"transient=1", "kept=1; Max-Age=60"} {
		if err := set(t, b, "/", line); err != nil {
			t.Fatal(err)
		}
	}
	b.Restart()
	if got := sent(b, "/"); got != "kept=1" {
		t.Errorf("after a restart: Cookie %q, want kept=1", got)
	}
}

func TestSameSite(t *testing.T) {
	t.Parallel()
	const all, lax, none = "strict lax unset none", "lax unset none", "none"
	const back = opSite + "/?to=" + appSite + "/"
	tests := []struct {
		name string
		do   func(*oidcauthtest.Browser) *oidcauthtest.Response
		want string
	}{
		{"address bar", get("/"), all},
		{"own link", from(appSite, get("/")), all},
		{"own form", post("/"), all},
		{"own script", fetch("/"), all},
		{"subdomain's link", from(subSite, get("/")), all},
		{"subdomain's script", from(subSite, fetch("/")), all},
		{"the same host's link without https", from(httpSite, get("/")), lax}, // sites have schemes
		{"another site's link", from(evilSite, get("/")), lax},                // RFC 6265bis 5.6.7.1, 8.8.2
		{"another site's form", from(evilSite, post("/")), none},              // RFC 6265bis 8.8.6, FPM-02, FPM-03
		{"another site's script", from(evilSite, fetch("/")), none},
		{"another site's frame", from(evilSite, frame("/")), none},
		// Lesson 21: a login begun here comes back by the other site's redirect.
		{"redirect back by another site", get(back), lax},
		{"own link that comes back by another site", from(appSite, get(back)), lax},
		{"another site's link, redirected here", from(evilSite, get("/?to=/")), lax},
		{"another site's form, kept a POST", from(evilSite, post("/?status=307&to=/")), none},
		{"another site's form, turned into a GET", from(evilSite, post("/?to=/")), lax},
		// RFC 6265bis 5.2: what another site began stays its own through all redirects (FPM-05, FPM-06).
		{"another site's form, seen to", from(evilSite, post("/?status=303&to=/")), lax},
		{"another site's form, redirected twice", from(evilSite, post("/?status=303&to=/%3Fto=/")), lax},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBrowser(t, redirector(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, r.Header.Get("Cookie"))
			}))
			b.Host(opSite, redirector(nil))
			lines := []string{"strict=; SameSite=Strict", "lax=; SameSite=Lax", "unset=", "none=; Secure; SameSite=None"}
			for _, line := range lines {
				if err := set(t, b, "/", line); err != nil {
					t.Fatal(err)
				}
			}
			got := strings.ReplaceAll(strings.ReplaceAll(tt.do(b).Body, "=", ""), ";", "")
			if got != tt.want {
				t.Errorf("sent %q, want %q", got, tt.want)
			}
		})
	}
}

func TestOtherSitesFramesAndScriptsSetOnlySameSiteNone(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		do   func(*oidcauthtest.Browser) *oidcauthtest.Response
		want string
	}{
		{"link", from(evilSite, get("/")), "lax unset none"},
		{"form", from(evilSite, post("/")), "lax unset none"},
		{"frame", from(evilSite, frame("/")), "none"}, // S19
		{"script", from(evilSite, fetch("/")), "none"},
		{"own frame", from(appSite, frame("/")), "lax unset none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBrowser(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Set-Cookie"] = []string{"lax=; SameSite=Lax", "unset=", "none=; Secure; SameSite=None"}
			}))
			tt.do(b)
			got := strings.ReplaceAll(strings.ReplaceAll(sent(b, "/"), "=", ""), ";", "")
			if got != tt.want {
				t.Errorf("kept %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCloneHasCookiesOfItsOwn(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, nil)
	if err := set(t, b, "/", "a=1"); err != nil {
		t.Fatal(err)
	}
	thief := b.Clone()
	if err := set(t, b, "/", "a=; Max-Age=0"); err != nil {
		t.Fatal(err)
	}
	if got := sent(thief, "/"); got != "a=1" {
		t.Errorf("the copy's Cookie %q, want a=1", got)
	}
	if err := set(t, b.From(evilSite).NoRedirects(), "/", "b=2"); err != nil {
		t.Fatal(err)
	}
	if got := sent(b, "/"); got != "b=2" {
		t.Errorf("Cookie %q, want b=2: From and NoRedirects are the same browser", got)
	}
}

func TestCookiesShowsAttributes(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, nil)
	for _, line := range []string{
		"__Host-a=1; Path=/; HttpOnly; Secure; SameSite=Strict",
		"b=2; Path=/; Domain=app.test; SameSite=Lax",
	} {
		if err := set(t, b, "/", line); err != nil {
			t.Fatal(err)
		}
		got := b.Cookies("/")
		if line != got[len(got)-1].String() {
			t.Errorf("set %q, got %q", line, got[len(got)-1])
		}
	}
}
