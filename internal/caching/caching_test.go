package caching_test

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/caching"
)

const noStore = "private, no-store"

// S12, HYG-01
func TestForbid(t *testing.T) {
	t.Parallel()
	h := http.Header{
		"Cache-Control":                {"public, max-age=60", "s-maxage=600"},
		"cache-control":                {"public"},
		"Expires":                      {"Thu, 01 Jan 2099 00:00:00 GMT"},
		"Pragma":                       {"public"},
		"Surrogate-Control":            {"max-age=60"},
		"Cdn-Cache-Control":            {"max-age=60"},
		"CDN-Cache-Control":            {"max-age=60"},
		"Cloudflare-Cdn-Cache-Control": {"max-age=60"},
		"X-Accel-Expires":              {"60"},
		"Content-Type":                 {"text/plain"},
		"Vary":                         {"Accept"},
		"Last-Modified":                {"Thu, 01 Jan 2026 00:00:00 GMT"},
	}
	caching.Forbid(h)
	want := http.Header{
		"Cache-Control": {noStore}, "Content-Type": {"text/plain"}, "Vary": {"Accept"},
		"Last-Modified": {"Thu, 01 Jan 2026 00:00:00 GMT"},
	}
	if !maps.EqualFunc(h, want, slices.Equal) {
		t.Errorf("got %v, want %v", h, want)
	}
	empty := http.Header{}
	if caching.Forbid(empty); empty.Get("Cache-Control") != noStore {
		t.Errorf("got %v", empty)
	}
}

// S12: behind a guard a handler may weaken no-store to a private cache, and no further.
func TestRestrictCacheControl(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ said, want string }{
		{noStore, noStore}, // what the guard has set
		{"", noStore},
		{" , ,", noStore},

		// What a handler may choose.
		{"private", "private"},
		{"private, max-age=60", "private, max-age=60"},
		{"private,, max-age=60,", "private, max-age=60"},
		{"max-age=60, private", "private, max-age=60"},
		{"no-cache", "private, no-cache"},
		{"no-store", "private, no-store"},
		{"max-age=60", "private, max-age=60"},
		{"max-age=60, must-revalidate, immutable", "private, max-age=60, must-revalidate, immutable"},
		{"private,max-age=0,  no-cache", "private, max-age=0, no-cache"},
		{"PRIVATE, Max-Age=60", "private, Max-Age=60"},
		{"some-extension=token", "private, some-extension=token"},

		// What it may not.
		{"public", noStore},
		{"Public", noStore},
		{"public, max-age=60", "private, max-age=60"},
		{"public, private", "private"},
		{"public, no-store", "private, no-store"},
		{"public=1, max-age=60", "private, max-age=60"},
		{"s-maxage=60", noStore},
		{"S-MaxAge=60, max-age=5", "private, max-age=5"},
		{"private, s-maxage=60", "private"},
		{"must-understand, no-store", "private, no-store"}, // takes no-store back (RFC 9111 5.2.2.3)
		{"Must-Understand, no-store, max-age=60", "private, no-store, max-age=60"},
		{"private=set-cookie, max-age=60", "private, max-age=60"}, // about one header field only
		{"private=x", noStore},

		// What caches may read each in its own way.
		{`private="set-cookie, x-user", max-age=60`, noStore},
		{`no-cache="set-cookie"`, noStore},
		{`x="a, private, b", max-age=60`, noStore}, // the only private is inside the string
		{`x="a, max-age=60`, noStore},
		{`x="\", private, "`, noStore},
		{"s-maxage =60", noStore},
		{"max-age= 60", noStore},
		{"public;max-age=60", noStore},
		{"public max-age=60", noStore},
		{"max-age=60; public", noStore},
		{"max-age", "private, max-age"},
		{"max-age=", noStore},
		{"=60", noStore},
		{"max-age=60, no-\u017ftore", noStore}, // a long s, which folds to s
		{"\u00a0public", noStore},
		{"\u00a0max-age=60", noStore}, // a space to Go, but to no cache
		{"max-age=60\r\npublic", noStore},
		{"max-age=60\x00", noStore},
	} {
		h := http.Header{"Cache-Control": {tt.said}}
		caching.Restrict(h)
		if got := h["Cache-Control"]; len(got) != 1 || got[0] != tt.want {
			t.Errorf("%q: got %q, want %q", tt.said, got, tt.want)
		}
	}
}

// S12: what is said on several lines, under other names, or not at all.
func TestRestrictOtherHeaders(t *testing.T) {
	t.Parallel()
	vary := []string{"Cookie"}
	for name, tt := range map[string]struct{ said, want http.Header }{
		"nothing": {http.Header{}, http.Header{"Cache-Control": {noStore}, "Vary": vary}},
		"the date alone, which caches go by": {
			http.Header{"Last-Modified": {"Thu, 01 Jan 2026 00:00:00 GMT"}},
			http.Header{"Last-Modified": {"Thu, 01 Jan 2026 00:00:00 GMT"}, "Cache-Control": {noStore}, "Vary": vary},
		},
		"several lines": {
			http.Header{"Cache-Control": {"private", "max-age=60, s-maxage=60", "public"}},
			http.Header{"Cache-Control": {"private, max-age=60"}, "Vary": vary},
		},
		"no-store among lines": {
			http.Header{"Cache-Control": {noStore, "public, max-age=60"}},
			http.Header{"Cache-Control": {"private, no-store, max-age=60"}, "Vary": vary},
		},
		"another spelling beside the guard's": {
			http.Header{"Cache-Control": {noStore}, "cache-control": {"public, max-age=60"}, "CACHE-CONTROL": {"public"}},
			http.Header{"Cache-Control": {noStore}, "Vary": vary},
		},
		"another spelling alone": {
			http.Header{"cache-control": {"public, max-age=60"}},
			http.Header{"Cache-Control": {noStore}, "Vary": vary},
		},
		"headers for CDNs and proxies": { // RFC 9213 and what came before it
			http.Header{
				"Cache-Control":     {"private"},
				"Cdn-Cache-Control": {"max-age=60"}, "CDN-Cache-Control": {"max-age=60"}, "cdn-cache-control": {"max-age=60"},
				"Cloudflare-Cdn-Cache-Control": {"max-age=60"}, "Vercel-CDN-Cache-Control": {"max-age=60"},
				"Surrogate-Control": {"max-age=60"}, "surrogate-control": {"max-age=60"},
				"X-Accel-Expires": {"60"}, "Edge-Control": {"max-age=60"}, "X-LiteSpeed-Cache-Control": {"public"},
			},
			http.Header{"Cache-Control": {"private"}, "Vary": vary},
		},
		"headers that only look like it": {
			http.Header{"Cache-Control": {"private"}, "Cdn-Loop": {"x"}, "Surrogate-Key": {"x"}, "Content-Type": {"text/html"}},
			http.Header{
				"Cache-Control": {"private"}, "Cdn-Loop": {"x"}, "Surrogate-Key": {"x"}, "Content-Type": {"text/html"},
				"Vary": vary,
			},
		},
	} {
		caching.Restrict(tt.said)
		if !maps.EqualFunc(tt.said, tt.want, slices.Equal) {
			t.Errorf("%s: got %v, want %v", name, tt.said, tt.want)
		}
	}
}

// HYG-01: content that depends on the session says so, once.
func TestVaryCookie(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ said, want []string }{
		{nil, []string{"Cookie"}},
		{[]string{"Accept"}, []string{"Accept", "Cookie"}},
		{[]string{"Accept, cookie"}, []string{"Accept, cookie"}},
		{[]string{"Accept", "Origin,Cookie ,Accept"}, []string{"Accept", "Origin,Cookie ,Accept"}},
		{[]string{"*"}, []string{"*"}},
		{[]string{"X-Cookie, Cookie2, Set-Cookie"}, []string{"X-Cookie, Cookie2, Set-Cookie", "Cookie"}},
		{[]string{"Accept*"}, []string{"Accept*", "Cookie"}},
	} {
		h := http.Header{}
		if tt.said != nil {
			h["Vary"] = tt.said
		}
		caching.VaryCookie(h)
		if caching.VaryCookie(h); !slices.Equal(h["Vary"], tt.want) {
			t.Errorf("%q: got %q, want %q", tt.said, h["Vary"], tt.want)
		}
	}
}

// HYG-01, HYG-03, S12: what an outer handler has said of caching gives way.
func TestProtectWins(t *testing.T) {
	t.Parallel()
	h := http.Header{
		"Cache-Control": {"public, max-age=60"}, "Cdn-Cache-Control": {"max-age=60"}, "Surrogate-Control": {"max-age=60"},
		"Expires":                 {"0"},
		"Content-Security-Policy": {"default-src *"}, "Referrer-Policy": {"unsafe-url"}, "Vary": {"Accept-Encoding"},
	}
	caching.Protect(h)
	caching.Protect(h) // once at the route and once at its error
	want := http.Header{
		"Cache-Control": {"private, no-store"}, "Content-Security-Policy": {"default-src 'none'; frame-ancestors 'none'"},
		"Referrer-Policy": {"no-referrer"}, "Vary": {"Accept-Encoding", "Cookie"}, "X-Content-Type-Options": {"nosniff"},
		"Cross-Origin-Resource-Policy": {"same-origin"},
	}
	for name := range want {
		if !slices.Equal(h[name], want[name]) {
			t.Errorf("%s: %q, want %q", name, h[name], want[name])
		}
	}
	if len(h) != len(want) {
		t.Errorf("got %v, want %v", h, want)
	}
}

// performance.md: a guarded request whose handler says nothing of caching costs nothing here.
func TestRestrictAllocatesNothingInTheUsualCase(t *testing.T) {
	h := http.Header{"Cache-Control": {noStore}, "Vary": {"Cookie"}, "Content-Type": {"text/html"}, "Etag": {`"x"`}}
	if got := testing.AllocsPerRun(100, func() { caching.Restrict(h) }); got > 0 {
		t.Errorf("%v allocations", got)
	}
}

// reads is what a cache finds in a Cache-Control field: one that knows quoted strings, or one that splits at every
// comma.
func reads(field string, quotes bool) (directives []string) {
	var word strings.Builder
	quoted, escaped := false, false
	for _, char := range []byte(field + ",") {
		switch {
		case quotes && quoted && !escaped && char == '\\':
			escaped = true
			continue
		case quotes && !escaped && char == '"':
			quoted = !quoted
		case char == ',' && !quoted:
			directives = append(directives, strings.ToLower(strings.TrimSpace(word.String())))
			word.Reset()
			continue
		}
		escaped = false
		word.WriteByte(char)
	}
	return directives
}

var fieldName = regexp.MustCompile("^[0-9A-Za-z!#$%&'*+.^_`|~-]+$") // RFC 9110 5.1

// S12: whatever a handler says, no shared cache stores the response, however it reads the field.
func FuzzRestrict(f *testing.F) {
	for _, said := range []string{
		"public", "private=\"a, b\", s-maxage=1", `x="a, private`, "must-understand, no-store", "no-\u017ftore",
		"s-maxage =1", "PUBLIC;a", `a="\",public`,
	} {
		f.Add(said, "max-age=60", "X-CDN-Cache-Control")
	}
	f.Fuzz(func(t *testing.T, said, more, name string) {
		h := http.Header{"Cache-Control": {said, more}, "cache-control": {said}, name: {said}}
		caching.Restrict(h)
		for name, values := range h {
			if !fieldName.MatchString(name) {
				continue // net/http does not write it
			}
			twice := strings.EqualFold(name, "Cache-Control") && (name != "Cache-Control" || len(values) != 1)
			if twice || strings.HasSuffix(strings.ToLower(name), "-cdn-cache-control") {
				t.Fatalf("%q: %q is left", name, values)
			}
		}
		field := h.Get("Cache-Control")
		for _, quotes := range []bool{false, true} {
			directives := reads(field, quotes)
			if !slices.Contains(directives, "private") && !slices.Contains(directives, "no-store") {
				t.Fatalf("%q, %q: got %q, which shared caches may store", said, more, field)
			}
			for _, d := range directives {
				switch d, _, _ = strings.Cut(d, "="); strings.TrimSpace(d) {
				case "public", "s-maxage", "must-understand":
					t.Fatalf("%q, %q: got %q", said, more, field)
				}
			}
		}
		if strings.ContainsAny(field, "\"\r\n\x00") {
			t.Fatalf("%q, %q: got %q", said, more, field)
		}
	})
}
