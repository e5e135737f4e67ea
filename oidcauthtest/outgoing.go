package oidcauthtest

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// An outgoing is a request on its way through redirects.
type outgoing struct {
	method    string
	url       *url.URL
	header    http.Header // what the caller set; the browser's own headers are added at each step
	body      []byte
	initiator *url.URL   // the page that asks; nil: the address bar
	policy    string     // Referrer-Policy of that page; "": browsers' default
	around    *url.URL   // the page that a frame is in; nil: no frame
	alone     bool       // nobody clicked: the page did it by itself
	visited   []*url.URL // the URLs that redirected
}

// begin is a navigation that the page at r, which o has asked for, makes in its own tab or frame.
func (o *outgoing) begin(r *Response, s submission) *outgoing {
	next := &outgoing{
		method: s.method, url: s.url, header: http.Header{"Sec-Fetch-Mode": {"navigate"}}, body: s.body,
		initiator: r.URL, policy: referrerPolicy(r.Header), around: o.around,
	}
	if o.around != nil {
		next.header["Sec-Fetch-Dest"] = o.header["Sec-Fetch-Dest"]
	}
	if s.method == http.MethodPost {
		next.header.Set("Content-Type", formType)
	}
	return next
}

// mode is Sec-Fetch-Mode.
func (o *outgoing) mode() string { return cmp.Or(o.header.Get("Sec-Fetch-Mode"), "cors") }

func (o *outgoing) navigates() bool { return o.mode() == "navigate" }

// framed reports whether it is the navigation of a frame and not of a tab.
func (o *outgoing) framed() bool {
	return o.navigates() && cmp.Or(o.header.Get("Sec-Fetch-Dest"), "document") != "document"
}

// urls are those so far, the current one last.
func (o *outgoing) urls() []*url.URL { return append(slices.Clone(o.visited), o.url) }

// redirect is the request that follows (Fetch standard, HTTP-redirect fetch).
func (o *outgoing) redirect(status int, target *url.URL) *outgoing {
	next := *o
	next.url, next.visited = target, o.urls()
	if status == http.StatusSeeOther && !isSafe(o.method) || status <= http.StatusFound && o.method == http.MethodPost {
		next.method, next.body, next.header = http.MethodGet, nil, o.header.Clone()
		next.header.Del("Content-Type")
	}
	return &next
}

// trip is the request for the SameSite rules (RFC 6265bis 5.2). What another site began stays its own through all
// redirects. A redirect through another site taints it too, also if the user typed the address: browsers differ there,
// and an application has to work with the strict ones.
func (o *outgoing) trip() trip {
	t := trip{sameSite: true, topLevel: o.navigates() && !o.framed(), safe: isSafe(o.method)}
	for _, u := range append([]*url.URL{o.initiator, o.around}, o.visited...) {
		t.sameSite = t.sameSite && (u == nil || siteOf(u) == siteOf(o.url))
	}
	return t
}

// fetchSite is Sec-Fetch-Site: how the page that asks relates to the farthest of the URLs so far.
func (o *outgoing) fetchSite() string {
	if o.initiator == nil {
		return "none"
	}
	site := "same-origin"
	for _, u := range o.urls() {
		switch {
		case sameOrigin(u, o.initiator):
		case siteOf(u) != siteOf(o.initiator):
			return "cross-site"
		default:
			site = "same-site"
		}
	}
	return site
}

// origin is the Origin field, or "" where browsers send none.
func (o *outgoing) origin() string {
	if o.initiator == nil || isSafe(o.method) && (o.mode() != "cors" || o.fetchSite() == "same-origin") {
		return ""
	}
	urls := o.urls()
	for i, u := range urls[1:] {
		if !sameOrigin(urls[i], o.initiator) && !sameOrigin(urls[i], u) {
			return "null" // another origin redirected to a third
		}
	}
	if o.mode() != "cors" && o.hidesOrigin() {
		return "null"
	}
	return originOf(o.initiator)
}

// hidesOrigin reports whether the page's Referrer-Policy keeps its origin from the target (Fetch standard, append a
// request Origin header).
func (o *outgoing) hidesOrigin() bool {
	switch o.policy {
	case "no-referrer":
		return true
	case "same-origin":
		return !sameOrigin(o.initiator, o.url)
	case "origin", "origin-when-cross-origin", "unsafe-url":
		return false
	}
	return o.initiator.Scheme == "https" && o.url.Scheme != "https"
}

// referrerPolicy is the last policy in h that browsers know, or "".
func referrerPolicy(h http.Header) string {
	known := []string{
		"no-referrer", "no-referrer-when-downgrade", "same-origin", "origin", "strict-origin",
		"origin-when-cross-origin", "strict-origin-when-cross-origin", "unsafe-url",
	}
	policy := ""
	for word := range strings.SplitSeq(strings.Join(h.Values("Referrer-Policy"), ","), ",") {
		if word = strings.ToLower(strings.TrimSpace(word)); slices.Contains(known, word) {
			policy = word
		}
	}
	return policy
}
