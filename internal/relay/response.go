package relay

import (
	"net/http"
	"strings"
)

// Clean makes a response header of the upstream's safe to send from our origin: nothing in it acts on more than this
// one response, its body cannot run as a page, and a server in front of ours takes no orders from it (S13, THR-51,
// THR-61). status is the response's; for 101 the headers of a WebSocket stay. Caching is left to the caller, as are
// Location and Content-Location, for which there is [Location].
func Clean(h http.Header, status int) {
	for name := range h {
		if !passes(name, status) {
			delete(h, name)
		}
	}
	// Without one the server in front of the browser, which is ours, would guess (net/http.DetectContentType).
	switch status {
	case http.StatusSwitchingProtocols: // what else they name is for servers between us and the browser
		h.Set("Connection", "Upgrade")
		h.Set("Upgrade", "websocket")
	case http.StatusNoContent, http.StatusNotModified: // without a body
	default:
		if len(h["Content-Type"]) == 0 {
			h.Set("Content-Type", "application/octet-stream")
		}
	}
	// Firefox takes Set-Cookie from the headers of its parts (nsMultiMixedConv).
	if strings.Contains(strings.ToLower(strings.Join(h["Content-Type"], ",")), "multipart/x-mixed-replace") {
		h.Set("Content-Type", "application/octet-stream")
	}
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
}

// passes reports whether a header may reach the browser. net/http writes names as they stand in the map, so that they
// are compared in all their spellings. A name with a colon would be a trailer (http.TrailerPrefix).
func passes(name string, status int) bool {
	n := normal(name)
	switch n {
	case "connection", "upgrade", "sec-websocket-accept", "sec-websocket-protocol", "sec-websocket-extensions":
		return status == http.StatusSwitchingProtocols
	case "location", "content-location", "content-type":
		return name == canonical(name) && n == strings.ToLower(name) // as the caller, and Clean, look for them
	}
	return isToken(name) && !actsOnOrigin(n) && !isPolicy(n) && !steersServer(n)
}

// actsOnOrigin tells of a normalised name by which a response changes what the browser keeps for the whole origin, or
// makes it send something, or gives it or others credentials.
func actsOnOrigin(name string) bool {
	switch name {
	case "clear-site-data", "refresh",
		"strict-transport-security", "expect-ct", "alt-svc", "alternate-protocol", // for the whole host
		"www-authenticate", "authentication-info", "authentication-control", "optional-www-authenticate",
		"authorization",
		"link", "link-template", "speculation-rules", "use-as-dictionary", "origin-trial", "x-dns-prefetch-control",
		"accept-ch", "accept-ch-lifetime", "critical-ch",
		"set-login", "activate-storage-access",
		"report-to", "reporting-endpoints", "nel", "x-xss-protection", // reports go wherever they say
		"sourcemap", "x-sourcemap", "observe-browsing-topics", "supports-loading-mode":
		return true
	}
	return hasPrefix(name,
		"set-cookie", "proxy-auth", "public-key-pins", "service-worker-",
		"sec-", "secure-session-", // sessions bound to the device: a cookie that renews itself
		"attribution-reporting-", "ad-auction-", "shared-storage-",
	)
}

// isPolicy tells of a normalised name by which a response says who may use it how: that is ours to say.
func isPolicy(name string) bool {
	switch name {
	case "timing-allow-origin", "x-permitted-cross-domain-policies", "x-frame-options", "x-ua-compatible",
		"x-content-type-options", "referrer-policy", "origin-agent-cluster", "document-isolation-policy",
		"feature-policy", "require-document-policy":
		return true
	}
	return hasPrefix(name,
		"access-control-", "cross-origin-", "content-security-policy", "x-content-security-policy", "x-webkit-csp",
		"permissions-policy", "document-policy", "integrity-policy",
	)
}

// steersServer tells of a normalised name that is for the connection (RFC 9110 7.6.1) or for a server in front of ours,
// which may serve a file of its own for it, ask another host, or cache.
func steersServer(name string) bool {
	switch name {
	case "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "http2-settings",
		"x-lighttpd-send-file", "x-lighttpd-send-tempfile", "cache-tag", "cache-tags", "xkey", "x-do-esi":
		return true
	}
	return strings.HasSuffix(name, "cdn-cache-control") || hasPrefix(name,
		"x-accel-", "x-sendfile", "x-litespeed-", "x-reproxy-", "x-appengine-", "x-envoy-", "x-middleware-", "fly-",
		"surrogate-", "edge-", "netlify-",
	)
}
