package relay_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/relay"
)

// header makes one as net/http's server would, from name, value, name, value …
func header(fields ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(fields); i += 2 {
		h.Add(fields[i], fields[i+1])
	}
	return h
}

func equal(a, b http.Header) bool { return maps.EqualFunc(a, b, slices.Equal) }

// reserved are names that nobody may configure, and that never go upstream.
var reserved = []string{
	// THR-51, THR-52: credentials
	"Cookie", "Cookie2", "Cookies", "Authorization", "Proxy-Authorization", "DPoP", "X-Authorization", "Proxy",
	// THR-54: forwarded addresses, other URLs and methods
	"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix", "X-Forwarded",
	"X-Forwarded-Access-Token", "X-Real-IP", "X-Client-IP", "X-Cluster-Client-IP", "True-Client-IP", "Client-IP",
	"CF-Connecting-IP", "Fastly-Client-IP", "X-Original-URL", "X-Original-Host", "X-Rewrite-URL", "X-Host",
	"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method", "X-Real-Port", "X-URL-Scheme", "Fly-Client-IP", "X-ARR-SSL",
	"X-Azure-ClientIP", "X-Method-Override", "Front-End-Https", "X-Scheme",
	// THR-55: identity
	"X-Forwarded-User", "X-Forwarded-Email", "Remote-User", "Remote-Groups", "X-Remote-User", "X-Auth-Request-User",
	"X-Amzn-Oidc-Data", "X-Goog-Authenticated-User-Email", "X-Goog-IAP-JWT-Assertion", "X-MS-Client-Principal",
	"X-MS-Token-AAD-Access-Token", "SSL-Client-Cert", "X-SSL-Client-Verify", "Client-Cert", "Client-Cert-Chain",
	"X-Client-Cert", "X-Middleware-Subrequest", "X-Appengine-User-Email", "X-User", "X-WebAuth-User", "X-ID-Token",
	"X-Access-Token", "X-Authenticated-User", "X-Vouch-User", "X-Authentik-Username", "X-Pomerium-Claim-Email",
	"X-Envoy-Original-Path", "From",
	// the connection and the message's frame, THR-53, THR-63
	"Connection", "Proxy-Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "HTTP2-Settings",
	"Host", "Content-Length", "Expect", "Via", "Early-Data", "Max-Forwards", "Alt-Used",
	// what browsers say of themselves, and what commands servers
	"Sec-Fetch-Site", "Sec-WebSocket-Key", "Sec-CH-UA", "Access-Control-Request-Method", "X-Accel-Mapping",
	"X-Sendfile-Type", "Scope",
}

func TestForwardPassesWhatDescribesTheRequest(t *testing.T) {
	t.Parallel()
	in := header(
		"Accept", "application/json", "Accept", "text/plain", "Accept-Encoding", "br", "Accept-Language", "de",
		"Cache-Control", "no-cache", "Content-Type", "application/json", "Content-Encoding", "gzip",
		"If-None-Match", `"1"`, "If-Range", `"1"`, "Range", "bytes=0-1", "Last-Event-ID", "7",
		"Prefer", "return=minimal", "Idempotency-Key", "k", "User-Agent", "test", "Traceparent", "00-1-2-3",
		"Tracestate", "a=b",
		"X-Request-ID", "r",
	)
	got := relay.Forward(in, nil)
	if !equal(got, in) {
		t.Errorf("%v, want %v", got, in)
	}
	got["Accept"][0] = "changed" // never a slice of the client's
	if in.Get("Accept") != "application/json" {
		t.Error("the values are shared")
	}
}

// THR-51 to THR-55, lesson 37
func TestForwardLeavesAllElseBehind(t *testing.T) {
	t.Parallel()
	in := header("Accept-Encoding", "br", "X-Unknown", "x", "X_Request_Id", "x", "Content_Type", "x", "Origin", "x",
		"Referer", "x", "X-Requested-With", "x", "Content-Range", "x")
	for _, name := range []string{"accept", "ACCEPT", "Accept ", ":protocol"} {
		in[name] = []string{"x"}
	}
	for _, name := range reserved {
		in.Set(name, "x")
		in.Set(strings.ReplaceAll(name, "-", "_"), "x")
		in[strings.ToLower(name)] = []string{"x"}
	}
	if got := relay.Forward(in, []string{"X-Tenant"}); !equal(got, header("Accept-Encoding", "br")) {
		t.Errorf("%v", got)
	}
}

func TestForwardOfConfiguredNames(t *testing.T) {
	t.Parallel()
	in := header("Accept-Encoding", "br", "X-Tenant", "a", "X-Tenant", "b", "X_Tenant", "c", "Api-Version", "2")
	got := relay.Forward(in, []string{"x-tenant", "X-Other"})
	if want := header("Accept-Encoding", "br", "X-Tenant", "a", "X-Tenant", "b"); !equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// The transport would ask for gzip itself, and unpack it.
func TestForwardAlwaysSaysAnEncoding(t *testing.T) {
	t.Parallel()
	for _, in := range []http.Header{
		nil, header("Accept", "*/*"), header("Accept-Encoding", ""),
		header("Accept-Encoding", "", "Accept-Encoding", "gzip"),
	} {
		if got := relay.Forward(in, nil)["Accept-Encoding"]; !slices.Equal(got, []string{"identity"}) {
			t.Errorf("%v: %q", in, got)
		}
	}
}

func TestCheckForward(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"X-Tenant", "x-tenant", "Api-Version", "X-Api-Key", "Accept", "Tus-Resumable", "Origin", "X-CSRF-Token", "a",
	} {
		if err := relay.CheckForward(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{
		"", " ", "X Tenant", "X-Tenant:", ":authority", "X-Tenant\r\nCookie", "X-Ténant", "X_Tenant", "_",
		`"x"`, "a,b", "a/b",
	} {
		if relay.CheckForward(name) == nil {
			t.Errorf("%q passes", name)
		}
	}
	for _, name := range reserved {
		for _, spelling := range []string{
			name, strings.ToLower(name), strings.ToUpper(name), strings.ReplaceAll(name, "-", "_"),
		} {
			if relay.CheckForward(spelling) == nil {
				t.Errorf("%q passes", spelling)
			}
		}
	}
}

// normalise is how CGI and WSGI read a name.
func normalise(name string) string { return strings.ReplaceAll(strings.ToUpper(name), "-", "_") }

func isReserved(name string) bool {
	return slices.ContainsFunc(reserved, func(r string) bool { return normalise(r) == normalise(name) })
}

// THR-55: whatever is configured and sent, no reserved name goes upstream in any spelling.
func FuzzForward(f *testing.F) {
	f.Add("X_Forwarded_User", "a", "X-Forwarded-User")
	f.Add("cookie", "a", "COOKIE")
	f.Add("x-tenant", "a", "X-Tenant")
	f.Add("Accept-Encoding", "", "Sec_Fetch_Site")
	f.Fuzz(func(t *testing.T, name, value, extra string) {
		var configured []string
		if relay.CheckForward(extra) == nil {
			configured = []string{extra}
		}
		in := header(name, value, extra, value)
		in[name] = []string{value}
		out := relay.Forward(in, configured)
		for sent := range out {
			if isReserved(sent) || strings.Contains(sent, "_") {
				t.Errorf("%q goes upstream", sent)
			}
		}
		if out.Get("Accept-Encoding") == "" {
			t.Error("no encoding")
		}
	})
}
