// Package fetch tells what kind of request a browser is making, by Fetch metadata (W3C) and for older clients by
// Accept.
package fetch

import (
	"net/http"
	"net/url"
	"strings"
)

// IsTopLevel reports whether r may be a navigation of a browser tab: not a frame, an image or a script's fetch.
func IsTopLevel(r *http.Request) bool {
	mode, dest := r.Header.Get("Sec-Fetch-Mode"), r.Header.Get("Sec-Fetch-Dest")
	return (mode == "" || mode == "navigate") && (dest == "" || dest == "document")
}

// StartsLogin reports whether r is a navigation that may be answered with a redirect to the provider. A HEAD, a
// prefetch or a script's request never starts a login (lessons 11 and 28).
func StartsLogin(r *http.Request) bool {
	navigates := r.Method == http.MethodGet || r.Method == http.MethodPost // links and forms know no other methods
	return navigates && !IsPrefetch(r) && !IsWebSocket(r) && IsTopLevel(r) && WantsPage(r)
}

// WantsPage reports whether an error is for a person's eyes: a navigation of a tab by Fetch metadata, without it an
// Accept of HTML. A frame shows no page of ours.
func WantsPage(r *http.Request) bool {
	if r.Header.Get("Sec-Fetch-Mode") != "" {
		return IsTopLevel(r)
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

// IsWebSocket reports whether r is, or claims to be, a WebSocket handshake. Servers look for the word in a list of
// protocols, on as many lines as there are (RFC 9110 7.8).
func IsWebSocket(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Mode") == "websocket" ||
		strings.Contains(strings.ToLower(strings.Join(r.Header.Values("Upgrade"), ",")), "websocket")
}

// Page is the local URL that r asked for, or for a form post the page that the form was on, if it is of origin. basePath
// is put in front where requests arrive stripped of it. Nobody has checked the result.
func Page(r *http.Request, origin, basePath string, stripped bool) string {
	if r.Method != http.MethodGet {
		from, ours := strings.CutPrefix(r.Referer(), origin+"/")
		if !ours {
			return ""
		}
		return "/" + from
	}
	if stripped {
		return basePath + r.URL.RequestURI()
	}
	if asked, err := url.ParseRequestURI(r.RequestURI); err == nil {
		return asked.RequestURI() // still with what an inner http.StripPrefix took away
	}
	return r.URL.RequestURI()
}
