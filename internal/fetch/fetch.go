// Package fetch tells what kind of request a browser is making, by Fetch metadata (W3C) and for older clients by Accept.
package fetch

import (
	"net/http"
	"strings"
)

// IsTopLevel reports whether r may be a navigation of a browser tab: not a frame, an image or a script's fetch.
func IsTopLevel(r *http.Request) bool {
	mode, dest := r.Header.Get("Sec-Fetch-Mode"), r.Header.Get("Sec-Fetch-Dest")
	return (mode == "" || mode == "navigate") && (dest == "" || dest == "document")
}

// StartsLogin reports whether r is a navigation that may be answered with a redirect to the provider. A HEAD, a prefetch or
// a script's request never starts a login (lessons 11 and 28).
func StartsLogin(r *http.Request) bool {
	return r.Method != http.MethodHead && !IsPrefetch(r) && !IsWebSocket(r) && IsTopLevel(r) && WantsPage(r)
}

// WantsPage reports whether an error is for a person's eyes: a navigation by Fetch metadata, without it an Accept of HTML.
func WantsPage(r *http.Request) bool {
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode == "navigate"
	}
	return strings.Contains(r.Header.Get("Accept"), "text/html") && r.Header.Get("X-Requested-With") == ""
}

// IsPrefetch reports whether the browser only prepares for a navigation that may never come.
func IsPrefetch(r *http.Request) bool {
	for _, name := range []string{"Sec-Purpose", "Purpose", "X-Moz"} {
		if v := r.Header.Get(name); strings.Contains(v, "prefetch") || strings.Contains(v, "prerender") {
			return true
		}
	}
	return false
}

// IsWebSocket reports whether r is, or claims to be, a WebSocket handshake.
func IsWebSocket(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Mode") == "websocket" || strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}
