package relay

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Forward returns the headers of in that go upstream: those that describe the request itself, and extra, names that
// passed [CheckForward]. Names are matched in the one spelling that net/http gives them, so that X_Request_Id stays
// behind (THR-55). Credentials, cookies and everything about the connection or the client's address are never among
// them (THR-51, THR-52, THR-54).
//
// With ReverseProxy, in is that of ProxyRequest.Out, from which what Connection names is gone.
func Forward(in http.Header, extra []string) http.Header {
	out := make(http.Header, len(in))
	for name, values := range in {
		if isForwarded(name) || slices.ContainsFunc(extra, func(e string) bool { return canonical(e) == name }) {
			out[name] = slices.Clone(values)
		}
	}
	// Without one, even if it is only empty, net/http's transport asks for gzip and changes the response.
	if out.Get("Accept-Encoding") == "" {
		out.Set("Accept-Encoding", "identity")
	}
	return out
}

func canonical(name string) string { return http.CanonicalHeaderKey(name) }

// isForwarded tells of a name in canonical form.
func isForwarded(name string) bool {
	switch name {
	case "Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language", "User-Agent",
		"Cache-Control", "Pragma", "Range",
		"If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since",
		// Not Content-Range: few servers expect a PUT of a part, and some take it for the whole (RFC 9110 14.5).
		"Content-Digest", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type", "Repr-Digest",
		"Idempotency-Key", "Last-Event-Id", "Prefer",
		"Traceparent", "Tracestate", "X-Correlation-Id", "X-Request-Id":
		return true
	}
	return false
}

// CheckForward reports what is wrong with a header name that the configuration wants to forward: it must be a name, and
// not one that carries credentials, tells the upstream who is asking or what, or belongs to the connection.
func CheckForward(name string) error {
	switch {
	case !isToken(name):
		return fmt.Errorf("%q is no header name", name)
	case strings.Contains(name, "_"):
		return fmt.Errorf("%q: write header names with hyphens: many servers take an underscore for one", name)
	case isReserved(normal(name)):
		return fmt.Errorf("%q must not be forwarded: by it, clients pose as others or change the connection", name)
	case normal(name) == "scope":
		return errors.New(`"scope" must not be forwarded: the proxy itself reads it`)
	}
	return nil
}

// isReserved tells of a normalised name.
func isReserved(name string) bool {
	switch name {
	case "authorization", "x-authorization", // credentials
		// About the connection (RFC 9110 7.6.1) or the message's frame.
		"connection", "content-length", "expect", "host", "http2-settings", "keep-alive", "te", "trailer",
		"transfer-encoding", "upgrade", "via", "max-forwards", "early-data", "alt-used",
		// Another method or URL than the one that was checked.
		"x-http-method", "x-http-method-override", "x-method", "x-method-override", "x-rewrite-url", "x-host",
		// The client's address, and the scheme.
		"forwarded", "client-ip", "true-client-ip", "x-client-ip", "x-cluster-client-ip", "x-real-ip", "x-real-port",
		"fastly-client-ip", "fly-client-ip", "front-end-https", "x-scheme", "x-url-scheme",
		// Who is asking.
		"from", "x-user", "x-webauth-user", "x-id-token", "x-access-token":
		return true
	}
	return hasPrefix(name,
		"cookie", "dpop", "proxy", // "Proxy" alone becomes HTTP_PROXY in CGI programs
		"sec-", "access-control-",
		"x-forwarded", "x-original", "x-envoy-", "x-appengine-", "x-middleware-", "cf-", "x-azure-", "x-arr-",
		"x-accel-", "x-sendfile", // by which Rack lets the front server choose files
		"remote-", "x-remote-", "x-auth-request", "x-authenticated-", "x-amzn-", "x-goog-", "x-ms-client-",
		"x-ms-token-", "ssl-", "x-ssl-", "client-cert", "x-client-cert", "x-vouch-", "x-authentik-", "x-pomerium-",
	)
}
