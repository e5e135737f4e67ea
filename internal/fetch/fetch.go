// Package fetch tells what kind of request a browser is making, by Fetch metadata (W3C) and for older clients by
// Accept.
package fetch

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// IsTopLevel reports whether r may be a navigation of a browser tab: not a frame, an image or a script's fetch.
func IsTopLevel(r *http.Request) bool {
	mode, dest := r.Header.Get("Sec-Fetch-Mode"), r.Header.Get("Sec-Fetch-Dest")
	return (mode == "" || mode == "navigate") && (dest == "" || dest == "document")
}

// IsOurSite reports whether the browser says that a page of r's own site made it. An address that was typed does not
// count, since a link in a mail program looks the same, nor does a request without Fetch metadata.
func IsOurSite(r *http.Request) bool {
	site := r.Header["Sec-Fetch-Site"]
	return len(site) == 1 && (site[0] == "same-origin" || site[0] == "same-site")
}

// IsCrossSite reports whether the browser says that another site made r.
func IsCrossSite(r *http.Request) bool { return r.Header.Get("Sec-Fetch-Site") == "cross-site" }

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

// Allowed is what a route takes for a request of our own pages beside fetch and XMLHttpRequest. The zero value is
// nothing.
type Allowed struct {
	// Destinations are values of Sec-Fetch-Dest beside "empty" that passed [CheckDestination].
	Destinations []string
	// Origin says that without Fetch metadata an Origin of ours will do. Without it X-Requested-With is needed, which
	// another origin cannot send without our consent.
	Origin bool
	// WebSocket allows handshakes. They need our Origin, with Fetch metadata too.
	WebSocket bool
}

// IsSameOrigin reports whether a script of a page of origin, in the form in which browsers write it, made r, so that
// nobody else can cause or read the answer (BFF-06, S13, S29). Methods make no difference. A navigation is never one,
// not even by a link of ours, for what it opens would be shown or run on our origin.
func IsSameOrigin(r *http.Request, origin string, allowed Allowed) bool {
	for _, name := range []string{
		"Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Origin", "X-Requested-With",
	} {
		if len(r.Header[name]) > 1 {
			return false // some server before us may have looked at another one
		}
	}
	if r.Header.Get("Ping-To") != "" || strings.HasPrefix(strings.ToLower(r.Header.Get("Content-Type")), "text/ping") {
		return false // by a link, without a script (HTML, hyperlink auditing)
	}
	site, from := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
	switch {
	case site != "" && site != "same-origin":
		return false
	case IsWebSocket(r):
		return allowed.WebSocket && isSocket(r) && from == origin
	case !isScript(r, allowed.Destinations):
		return false
	case site != "":
		return true
	case from != "" && from != origin:
		return false
	}
	return r.Header.Get("X-Requested-With") != "" || allowed.Origin && from != ""
}

// isSocket reports whether Fetch metadata, if there is any, is that of a handshake. Browsers differ in what they call
// its destination.
func isSocket(r *http.Request) bool {
	mode, dest := r.Header.Get("Sec-Fetch-Mode"), r.Header.Get("Sec-Fetch-Dest")
	return (mode == "" || mode == "websocket") && (dest == "" || dest == "empty" || dest == "websocket")
}

// isScript reports whether Fetch metadata, if there is any, is that of a script's request, or of a subresource among
// destinations.
func isScript(r *http.Request, destinations []string) bool {
	switch r.Header.Get("Sec-Fetch-Mode") {
	case "", "cors", "no-cors", "same-origin":
		dest := r.Header.Get("Sec-Fetch-Dest")
		return dest == "" || dest == "empty" || slices.Contains(destinations, dest)
	}
	return false
}

// CheckDestination reports what is wrong with a value for [Allowed].Destinations: it must be of those whose content
// neither runs on our origin nor changes how a page looks.
func CheckDestination(dest string) error {
	switch dest {
	case "audio", "empty", "font", "image", "track", "video":
		return nil
	}
	return fmt.Errorf(`destination %q: choose among "audio", "font", "image", "track" and "video"`, dest)
}

// Page is the local URL that r asked for, or for a form post the page that the form was on, if it is of origin.
// basePath is put in front where requests arrive stripped of it. Nobody has checked the result.
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
