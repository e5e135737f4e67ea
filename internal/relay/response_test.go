package relay_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/relay"
)

// ours are set on every response.
var ours = header(
	"Content-Security-Policy", "sandbox; default-src 'none'; frame-ancestors 'none'",
	"Cross-Origin-Resource-Policy", "same-origin", "Referrer-Policy", "no-referrer",
	"X-Content-Type-Options", "nosniff", "Content-Type", "application/octet-stream", // for want of a type
)

// dropped are the names of headers by which an upstream could do harm.
var dropped = []string{
	// cookies and storage of the origin (THR-51)
	"Set-Cookie", "Set-Cookie2", "Clear-Site-Data", "Set-Login", "Activate-Storage-Access", "Shared-Storage-Write",
	"Secure-Session-Registration", "Sec-Session-Registration", "Sec-Session-Challenge",
	// the whole host: transport and certificates
	"Strict-Transport-Security", "Expect-CT", "Public-Key-Pins", "Public-Key-Pins-Report-Only", "Alt-Svc",
	"Alternate-Protocol",
	// passwords: a prompt on our origin, and a token that comes back
	"WWW-Authenticate", "Proxy-Authenticate", "Authentication-Info", "Proxy-Authentication-Info", "Authorization",
	"Optional-WWW-Authenticate", "Authentication-Control",
	// scripts and navigation
	"Service-Worker-Allowed", "Refresh", "Link", "Link-Template", "Speculation-Rules", "Origin-Trial", "SourceMap",
	"X-SourceMap", "Use-As-Dictionary", "Supports-Loading-Mode", "X-DNS-Prefetch-Control",
	// what others learn of our visitors
	"Report-To", "NEL", "Reporting-Endpoints", "Timing-Allow-Origin", "Accept-CH", "Accept-CH-Lifetime", "Critical-CH",
	"Attribution-Reporting-Register-Source", "Observe-Browsing-Topics", "Ad-Auction-Signals", "X-XSS-Protection",
	// CORS (THR-61)
	"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Expose-Headers",
	"Access-Control-Max-Age", "X-Permitted-Cross-Domain-Policies",
	// policies
	"Content-Security-Policy-Report-Only", "X-Content-Security-Policy", "X-WebKit-CSP", "Permissions-Policy",
	"Feature-Policy", "Document-Isolation-Policy", "Require-Document-Policy", "Document-Policy",
	"Integrity-Policy", "Cross-Origin-Opener-Policy",
	"Cross-Origin-Embedder-Policy-Report-Only", "Origin-Agent-Cluster", "X-Frame-Options", "X-UA-Compatible",
	// servers in front of ours
	"X-Accel-Redirect", "X-Accel-Expires", "X-Accel-Buffering", "X-Sendfile", "X-Lighttpd-Send-File",
	"X-Lighttpd-Send-Tempfile",
	"X-Do-ESI", "Cache-Tags",
	"X-LiteSpeed-Location", "X-Reproxy-URL", "X-AppEngine-BlobKey", "X-Middleware-Rewrite", "Fly-Replay",
	"X-Envoy-Immediate-Health-Check-Fail", "Surrogate-Control", "Surrogate-Key", "CDN-Cache-Control",
	"Cloudflare-CDN-Cache-Control", "Edge-Control", "Cache-Tag", "xkey", "Netlify-Vary",
	// the connection
	"Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "HTTP2-Settings",
	"Sec-WebSocket-Accept",
}

// S13 [P1], THR-51, THR-61
func TestCleanDrops(t *testing.T) {
	t.Parallel()
	for _, name := range dropped {
		for _, spelling := range []string{
			http.CanonicalHeaderKey(name), name, strings.ToLower(name), strings.ToUpper(name),
			strings.ReplaceAll(name, "-", "_"), strings.ToLower(strings.ReplaceAll(name, "-", "_")),
			http.TrailerPrefix + name,
		} {
			h := http.Header{spelling: {"x"}}
			if relay.Clean(h, http.StatusOK); !equal(h, ours) {
				t.Errorf("%s: %v", spelling, h)
			}
		}
	}
	for _, name := range []string{
		"location", "LOCATION", "content-type", "Content_Type", "Content_location", "content-security-policy",
		"Content_Security_Policy", "x-content-type-options", "referrer_policy", "", "a b", "a:b", "a\r\nb", "Ä",
	} {
		h := http.Header{name: {"x"}}
		if relay.Clean(h, http.StatusOK); !equal(h, ours) {
			t.Errorf("%q: %v", name, h)
		}
	}
}

func TestCleanLeavesTheApplicationItsHeaders(t *testing.T) {
	t.Parallel()
	h := header(
		"Content-Type", "application/json", "Content-Length", "2", "Content-Encoding", "br", "Content-Language", "de",
		"Content-Disposition", "attachment", "Content-Range", "bytes 0-1/2", "Accept-Ranges", "bytes", "ETag", `"1"`,
		"Last-Modified", "x", "Vary", "Accept", "Cache-Control", "private", "Retry-After", "1", "RateLimit", "x",
		"RateLimit-Remaining", "1", "X-RateLimit-Limit", "1", "X-Total-Count", "7", "Location", "/x", "Allow", "GET",
		"Content-Location", "/x", "Deprecation", "@1", "Sunset", "x", "Server-Timing", "db;dur=1", "X-Request-Id", "r",
		"Preference-Applied", "x", "Traceparent", "x", "Date", "x", "Server", "x", "Link-Count", "1", "Edges", "2",
	)
	want := h.Clone()
	for name, values := range ours {
		want[name] = values
	}
	want.Set("Content-Type", "application/json")
	if relay.Clean(h, http.StatusOK); !equal(h, want) {
		t.Errorf("%v, want %v", h, want)
	}
}

// S13: nothing of a policy of the upstream's stays beside ours, since browsers enforce several together.
func TestCleanReplacesPolicies(t *testing.T) {
	t.Parallel()
	h := header("Content-Security-Policy", "report-uri https://evil.example", "Content-Security-Policy", "x",
		"X-Content-Type-Options", "x", "Referrer-Policy", "unsafe-url", "Cross-Origin-Resource-Policy", "cross-origin")
	if relay.Clean(h, http.StatusOK); !equal(h, ours) {
		t.Errorf("%v", h)
	}
	h["Referrer-Policy"][0] = "changed"
	other := http.Header{}
	if relay.Clean(other, http.StatusOK); !equal(other, ours) {
		t.Errorf("the values are shared: %v", other)
	}
}

// The parts of one have headers of their own.
func TestCleanMakesNoStreamOfParts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ said, want string }{
		{"multipart/x-mixed-replace; boundary=x", "application/octet-stream"},
		{"Multipart/X-Mixed-Replace;boundary=x", "application/octet-stream"},
		{"text/plain, multipart/x-mixed-replace", "application/octet-stream"},
		{"multipart/form-data; boundary=x", "multipart/form-data; boundary=x"},
		{"text/html", "text/html"},
	} {
		h := header("Content-Type", tt.said)
		if relay.Clean(h, http.StatusOK); h.Get("Content-Type") != tt.want {
			t.Errorf("%s: %s", tt.said, h.Get("Content-Type"))
		}
	}
}

func TestCleanLeavesAHandshakeItsHeaders(t *testing.T) {
	t.Parallel()
	handshake := header("Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Accept", "x",
		"Sec-WebSocket-Protocol", "v1", "Sec-WebSocket-Extensions", "permessage-deflate")
	h := handshake.Clone()
	h.Set("Set-Cookie", "a=b")
	h.Set("Sec-Session-Registration", "x")
	relay.Clean(h, http.StatusSwitchingProtocols)
	for name := range h {
		if ours.Get(name) == "" && handshake.Get(name) == "" {
			t.Errorf("%s passes", name)
		}
	}
	if len(h) != len(ours)-1+len(handshake) { // it has no body, and no type
		t.Errorf("%v", h)
	}
	if relay.Clean(h, http.StatusOK); !equal(h, ours) {
		t.Errorf("not a handshake: %v", h)
	}
}

// THR-55: no spelling of a dangerous name reaches the browser.
func FuzzClean(f *testing.F) {
	f.Add("Set_Cookie", "a=b", 200)
	f.Add("set-cookie", "a=b", 101)
	f.Add("Trailer:Set-Cookie", "a=b", 200)
	f.Add("Content-Type", "multipart/x-mixed-replace", 200)
	f.Add("X-Total-Count", "1", 200)
	f.Fuzz(func(t *testing.T, name, value string, status int) {
		h := http.Header{name: {value}, http.CanonicalHeaderKey(name): {value}}
		relay.Clean(h, status)
		for passed := range h {
			bad := slices.ContainsFunc(dropped, func(d string) bool { return normalise(d) == normalise(passed) })
			if bad && status != http.StatusSwitchingProtocols || strings.Contains(normalise(passed), "COOKIE2") ||
				normalise(passed) == "SET_COOKIE" || strings.ContainsAny(passed, ": \r\n") {
				t.Errorf("%q reaches the browser", passed)
			}
		}
		for name, values := range ours {
			if name != "Content-Type" && !slices.Equal(h[name], values) {
				t.Errorf("%s: %q", name, h[name])
			}
		}
	})
}
