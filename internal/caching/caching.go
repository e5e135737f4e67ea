// Package caching decides what caches may do with a response that belongs to one user (RFC 9111, RFC 9213). Its
// functions are not safe for concurrent use of one header.
package caching

import (
	"net/http"
	"regexp"
	"strings"
)

// noStore is for what no cache may keep. Either word would do for a cache that obeys RFC 9111; some know only one.
const noStore = "private, no-store"

// directive is one that every cache reads alike. A quoted string may hide a comma, and thereby words, from some of
// them.
var directive = regexp.MustCompile("^[0-9A-Za-z!#$%&'*+.^_`|~-]+(=[0-9A-Za-z!#$%&'*+.^_`|~-]+)?$") // RFC 9111 5.2

// Forbid makes no-store win over whatever a handler said, in the headers of CDNs too (RFC 9213, S12).
func Forbid(h http.Header) {
	h.Set("Cache-Control", noStore)
	h.Del("Expires")
	h.Del("Pragma")
	dropOverrides(h)
}

// Restrict leaves a handler behind a guard the choice between no-store and a private cache. What it said for shared
// caches is dropped, and what not all caches would read alike, or nothing at all, is as good as no-store.
func Restrict(h http.Header) {
	VaryCookie(h)
	dropOverrides(h)
	// The usual case, without work: the handler left in place what the guard had set.
	if v := h["Cache-Control"]; len(v) == 1 && v[0] == noStore {
		return
	}
	h.Set("Cache-Control", restrict(strings.Join(h["Cache-Control"], ",")))
}

func restrict(said string) string {
	kept, private := []string{"private"}, false
	for d := range strings.SplitSeq(said, ",") {
		d = strings.Trim(d, " \t")
		name, value, _ := strings.Cut(strings.ToLower(d), "=")
		switch {
		case d == "":
		case !directive.MatchString(d):
			return noStore
		case name == "private":
			// With a value it is about single header fields only (RFC 9111 5.2.2.7).
			private = private || value == ""
		case name == "public", name == "s-maxage":
		case name == "must-understand":
			// It takes back no-store from a cache that knows the status (RFC 9111 5.2.2.3).
		default:
			kept = append(kept, d)
		}
	}
	if len(kept) == 1 && !private {
		return noStore
	}
	return strings.Join(kept, ", ")
}

// dropOverrides removes the headers by which some cache is told something else than by Cache-Control.
func dropOverrides(h http.Header) {
	for name := range h {
		if overrides(name) {
			delete(h, name)
		}
	}
}

func overrides(name string) bool {
	canonical := http.CanonicalHeaderKey(name)
	switch canonical {
	case "Cache-Control":
		return name != canonical // Header's methods do not find it, but net/http writes it
	case "Surrogate-Control", "Edge-Control", "X-Accel-Expires", "X-Litespeed-Cache-Control":
		return true
	}
	return strings.HasSuffix(canonical, "Cdn-Cache-Control") // RFC 9213 2.2
}

// VaryCookie says that the response depends on the cookie.
func VaryCookie(h http.Header) {
	for _, line := range h["Vary"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name == "*" || strings.EqualFold(name, "Cookie") {
				return
			}
		}
	}
	h.Add("Vary", "Cookie")
}

// Protect keeps a response of ours out of every cache, and its text from being taken for something else (HYG-01,
// HYG-03, S12).
func Protect(h http.Header) {
	Forbid(h)
	VaryCookie(h)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// Redirect sends the browser on, with a method that never repeats a body (RFC 9700 4.12). target is checked and absolute or
// rooted; http.Redirect would clean it, and what was checked is to be what is sent.
func Redirect(w http.ResponseWriter, r *http.Request, target string) {
	status := http.StatusFound
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		status = http.StatusSeeOther
	}
	Forbid(w.Header())
	w.Header().Set("Location", target)
	w.WriteHeader(status)
}
