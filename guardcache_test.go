package oidcauth_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// A sharedCache is the eager kind of cache in front of an application: it stores whatever RFC 9111 and RFC 9213 let it store,
// also without an explicit lifetime (RFC 9111 4.2.2), and does not look at cookies where Vary does not tell it to.
type sharedCache struct {
	next   http.Handler
	stored []storedResponse
}

type storedResponse struct {
	path, cookie string
	vary         bool // on Cookie
	header       http.Header
	body         string
}

func (c *sharedCache) get(path, cookie string) (header http.Header, text string) {
	for _, s := range c.stored {
		if s.path == path && (!s.vary || s.cookie == cookie) {
			return s.header, s.body
		}
	}
	resp := ask(c.next, "GET", path, append(metadata("none", "navigate", "document"), "Cookie", cookie)...)
	text = body(resp)
	if resp.StatusCode == http.StatusOK && mayStore(resp.Header) {
		vary := strings.Contains(strings.Join(resp.Header["Vary"], ","), "Cookie")
		c.stored = append(c.stored, storedResponse{path, cookie, vary, resp.Header, text})
	}
	return resp.Header, text
}

// mayStore reports whether a shared cache may store a response for all users.
func mayStore(h http.Header) bool {
	for _, name := range []string{"Surrogate-Control", "Cdn-Cache-Control", "Cloudflare-Cdn-Cache-Control"} {
		if v := h.Get(name); v != "" {
			return !strings.Contains(v, "no-store") // its targeted field takes the place of Cache-Control (RFC 9213 2.2)
		}
	}
	for directive := range strings.SplitSeq(strings.Join(h["Cache-Control"], ","), ",") {
		// private="name" keeps only the named field out of the cache.
		if d := strings.ToLower(strings.TrimSpace(directive)); d == "private" || d == "no-store" {
			return false
		}
	}
	return true
}

// S12, HYG-01, THR-18, THR-60: whatever the handler says, no cache shows one user's page to another.
func TestASharedCacheNeverGetsAGuardedPage(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	alice := a.cookies(t, oidcauthtest.Alice)
	bob := a.cookies(t, oidcauthtest.User{Subject: "bob"})
	says := func(fields ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for pair := range slices.Chunk(fields, 2) {
				w.Header().Add(pair[0], pair[1])
			}
			a.mux.ServeHTTP(w, r)
		}
	}
	replaces := func(name, value string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.Header().Set(name, value); a.mux.ServeHTTP(w, r) }
	}
	clears := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { clear(w.Header()); a.mux.ServeHTTP(w, r) })
	files := fstest.MapFS{"page": {Data: []byte("a file"), ModTime: time.Unix(1, 0)}}
	for _, tt := range []struct {
		name    string
		handler http.Handler
		control string // Cache-Control in the end
	}{
		{"nothing", a.mux, "private, no-store"},
		{"what http.FileServer says", http.FileServerFS(files), "private, no-store"},
		{"an ETag and Last-Modified", says("ETag", `"1"`, "Last-Modified", "Thu, 01 Jan 2015 00:00:00 GMT"), "private, no-store"},
		{"public", replaces("Cache-Control", "public"), "private, no-store"},
		{"public and a lifetime", replaces("Cache-Control", "public, max-age=60, s-maxage=600"), "private, max-age=60"},
		{"Public in capitals", replaces("Cache-Control", "PUBLIC, S-MaxAge=600"), "private, no-store"},
		{"public in a second line", says("Cache-Control", "public, s-maxage=60"), "private, no-store"},
		{"a lifetime alone", replaces("Cache-Control", "max-age=60"), "private, max-age=60"},
		{"private for one field alone", replaces("Cache-Control", `private="X-Name", max-age=60`), "private, no-store"},
		{"private and a lifetime", replaces("Cache-Control", "private, max-age=60"), "private, max-age=60"},
		{"no-cache", replaces("Cache-Control", "no-cache"), "private, no-cache"},
		{"an empty Cache-Control", replaces("Cache-Control", ""), "private, no-store"},
		{"Expires", says("Expires", "Thu, 01 Jan 2099 00:00:00 GMT"), "private, no-store"},
		{"a lifetime for CDNs", says("CDN-Cache-Control", "max-age=600"), "private, no-store"},
		{"a lifetime for one CDN", says("Cloudflare-CDN-Cache-Control", "max-age=600"), "private, no-store"},
		{"a lifetime for surrogates", says("Surrogate-Control", "max-age=600"), "private, no-store"},
		{"another Vary", replaces("Vary", "Accept-Encoding"), "private, no-store"},
		{"no headers of ours", clears, "private, no-store"},
		{"a flush before all", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "public")
			_ = http.NewResponseController(w).Flush()
			a.mux.ServeHTTP(w, r)
		}), "private, no-store"},
		{"public, by io.Copy", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "public")
			_, _ = io.Copy(w, strings.NewReader("copied for "+value(t, sessionOf(t, a, r.Header.Get("Cookie")), "none")))
		}), "private, no-store"},
	} {
		for place, guard := range map[string]http.Handler{
			"RequireAuth": a.RequireAuth(tt.handler), "RequireAuthAPI in Wrap": a.Wrap(a.RequireAuthAPI(tt.handler)),
		} {
			cache := &sharedCache{next: guard}
			first, _ := cache.get("/page", alice)
			if _, text := cache.get("/page", bob); text == "alice" {
				t.Errorf("%s says %s: bob gets the page of alice", place, tt.name)
			}
			if len(cache.stored) > 0 {
				t.Errorf("%s says %s: a shared cache stores the page with %q", place, tt.name, first["Cache-Control"])
			}
			if got := strings.Join(first["Cache-Control"], " & "); got != tt.control {
				t.Errorf("%s says %s: Cache-Control is %q, want %q", place, tt.name, got, tt.control)
			}
			vary := strings.Join(first["Vary"], ", ")
			if !strings.Contains(vary, "Cookie") || tt.name == "another Vary" && !strings.Contains(vary, "Accept-Encoding") {
				t.Errorf("%s says %s: Vary is %q", place, tt.name, vary)
			}
		}
	}
}

// behaviour.md 5: middleware below a guard may look at the headers too.
func TestAGuardSetsItsHeadersBeforeTheHandlerRuns(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	ask(a.RequireAuth(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if got := w.Header(); got.Get("Cache-Control") != "private, no-store" || got.Get("Vary") != "Cookie" {
			t.Errorf("the handler finds %v", got)
		}
	})), "GET", "/", "Cookie", a.cookies(t, oidcauthtest.Alice))
}
