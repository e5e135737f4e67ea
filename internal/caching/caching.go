// Package caching decides what caches may do with a response that belongs to one user (RFC 9111, RFC 9213).
package caching

import (
	"net/http"
	"strings"
)

// Forbid makes no-store win over whatever a handler said, in the headers of CDNs too (RFC 9213, S12).
func Forbid(h http.Header) {
	h.Set("Cache-Control", "private, no-store")
	h.Del("Expires")
	h.Del("Pragma")
	dropCDNHeaders(h)
}

// Restrict leaves a handler behind a guard the choice between no-store and a private cache.
func Restrict(h http.Header) {
	VaryCookie(h)
	dropCDNHeaders(h)
	if v := h["Cache-Control"]; len(v) == 1 && v[0] == "private, no-store" {
		return
	}
	var kept []string
	private := false
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		directive = strings.TrimSpace(directive)
		name, _, _ := strings.Cut(strings.ToLower(directive), "=")
		switch name {
		case "", "public", "s-maxage":
			continue
		}
		private = private || strings.EqualFold(directive, "private") || strings.EqualFold(directive, "no-store")
		kept = append(kept, directive)
	}
	switch {
	case len(kept) == 0:
		kept = []string{"private", "no-store"}
	case !private:
		kept = append([]string{"private"}, kept...)
	}
	h.Set("Cache-Control", strings.Join(kept, ", "))
}

func dropCDNHeaders(h http.Header) {
	for name := range h {
		if name == "Surrogate-Control" || strings.HasSuffix(strings.ToLower(name), "cdn-cache-control") {
			delete(h, name)
		}
	}
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
