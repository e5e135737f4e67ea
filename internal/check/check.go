// Package check says what is wrong with a value of a configuration, and what to do about it. Its errors are written to
// follow the name of a field.
package check

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	authority   = regexp.MustCompile(`^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[1-9][0-9]*)?$`) // host and port
	domain      = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]([a-z0-9-]*[a-z0-9])?$`)
	routePath   = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)+$`)
	cookieName  = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+^_`|~.-]+$") // RFC 6265 4.1.1
	method      = regexp.MustCompile("^[A-Z0-9!#$%&'*+^_`|~.-]+$")    // RFC 9110 9.1, in capitals as all known ones are
	scope       = regexp.MustCompile(`^[\x21\x23-\x5B\x5D-\x7E]+$`)   // RFC 6749 3.3
	placeholder = regexp.MustCompile(`random(ly)?[-_ ]generated|long[-_, ]+random|at[-_ ]least|` +
		`(change|replace)[-_ ]?(me|this)|placeholder|your[-_ ]|super[-_ ]?secret|` +
		`keyboard cat|openssl rand|session[-_ ]secret|0123456789abcdef0123`)
	asymmetric = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
	macBits    = map[string]int{"HS256": 256, "HS384": 384, "HS512": 512}
)

// URL checks an absolute URL that stands for an origin or a place below it: https, or http on loopback or if allowHTTP.
func URL(raw string, allowHTTP bool) error {
	u, err := url.Parse(raw)
	switch {
	case raw == "":
		return errors.New("is empty; set it to an absolute URL such as https://app.example.com")
	case err != nil || u.Hostname() == "":
		return errors.New("is not an absolute URL such as https://app.example.com")
	case u.User != nil || strings.ContainsAny(raw, "?#"):
		return errors.New("has user information, a query or a fragment; remove it")
	case u.Port() != "" && !validPort(u.Port()):
		return fmt.Errorf("%q has a port that does not exist", raw)
	case !authority.MatchString(u.Host):
		return fmt.Errorf("%q has a host or port that browsers write differently; use ASCII (xn--) letters", raw)
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("has the scheme %q; use https", u.Scheme)
	case !strings.HasPrefix(raw, u.Scheme):
		return fmt.Errorf("%q has capital letters in its scheme; use %s", raw, u.Scheme)
	case u.Scheme == "http" && !Loopback(u.Hostname()) && !allowHTTP:
		return fmt.Errorf("%q is plain http; use https, or set InsecureAllowHTTP for a test network", raw)
	case strings.Contains(u.Path, "//") || path.Clean("/"+u.Path) != "/"+strings.Trim(u.Path, "/"):
		return fmt.Errorf("%q has empty or dotted path segments; remove them", raw)
	case strings.ContainsAny(raw, ` \`):
		return fmt.Errorf("%q has a space or a backslash; remove it", raw)
	}
	return nil
}

func validPort(s string) bool {
	port, err := strconv.ParseUint(s, 10, 16)
	return err == nil && port > 0
}

// Origin checks a URL of scheme, host and port alone.
func Origin(raw string, allowHTTP bool) error {
	if err := URL(raw, allowHTTP); err != nil {
		return err
	}
	u, err := url.Parse(raw)
	if err != nil || u.Path != "" {
		return fmt.Errorf("%q has a path; an origin is scheme, host and port", raw)
	}
	if canonical := CanonicalOrigin(u); raw != canonical { // it is compared with what browsers send, byte for byte
		return fmt.Errorf("%q is written differently by browsers; use %q", raw, canonical)
	}
	return nil
}

// CanonicalOrigin is the ASCII origin of u as browsers send it: without the default port (RFC 6454 6.2).
func CanonicalOrigin(u *url.URL) string {
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	return u.Scheme + "://" + host
}

// Loopback reports whether host is this machine: localhost, 127.0.0.0/8 or ::1.
func Loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback()
}

// Domain checks a plain host name, as Auth0 gives its tenants.
func Domain(s string) error {
	if !domain.MatchString(s) {
		return fmt.Errorf("%q is not a host name such as tenant.eu.auth0.com, without scheme, port and path", s)
	}
	return nil
}

// Secret checks a sealing secret. Keys are derived with HKDF, which is no password hash: what somebody typed can be
// guessed (S45).
func Secret(s string) error {
	distinct := map[byte]bool{}
	for _, char := range []byte(s) {
		distinct[char] = true
	}
	switch {
	case len(s) < 32:
		return fmt.Errorf(`has %d bytes, at least 32 are needed; make one with "openssl rand -hex 32"`, len(s))
	case placeholder.MatchString(strings.ToLower(s)) || len(distinct) < 8 || strings.Contains((s + s)[1:2*len(s)-1], s):
		return errors.New(`is a placeholder or repeats itself; make a random one with "openssl rand -hex 32"`)
	}
	return nil
}

// SigningAlg checks a JWS algorithm. The key of an HMAC is the client secret, which has to be as long as the hash
// (OIDC-17).
func SigningAlg(alg, clientSecret string) error {
	bits, mac := macBits[alg]
	switch {
	case mac && len(clientSecret)*8 < bits:
		return fmt.Errorf("%s needs a ClientSecret of at least %d bytes", alg, bits/8)
	case !mac && !slices.Contains(asymmetric, alg):
		return fmt.Errorf("%q is not supported; use one of %s", alg, strings.Join(asymmetric, " "))
	}
	return nil
}

// OneOf checks a value that has few choices.
func OneOf[T ~string](value T, choices ...T) error {
	if !slices.Contains(choices, value) {
		return fmt.Errorf("%q is unknown; use one of %q", value, choices)
	}
	return nil
}

// Scope checks one scope token.
func Scope(s string) error {
	if !scope.MatchString(s) {
		return fmt.Errorf("%q is not one scope; give each its own element", s)
	}
	return nil
}

// Scopes checks a list of them.
func Scopes(list []string) error {
	for _, s := range list {
		if err := Scope(s); err != nil {
			return err
		}
	}
	return nil
}

// RoutePath checks the path of a route.
func RoutePath(s string) error {
	if !routePath.MatchString(s) || path.Clean(s) != s {
		return fmt.Errorf("%q is not a plain absolute path without a trailing slash", s)
	}
	return nil
}

// ProxyPrefix checks the path that a proxy is mounted at.
func ProxyPrefix(s string) error {
	if trimmed := strings.TrimSuffix(s, "/"); trimmed == s || !routePath.MatchString(trimmed) || path.Clean(trimmed) != trimmed {
		return fmt.Errorf(`%q is not a plain absolute path with a slash at its end, such as "/api/"`, s)
	}
	return nil
}

// ProxyMethod checks the name of a method that a proxy passes on.
func ProxyMethod(s string) error {
	if s == http.MethodConnect || s == http.MethodTrace || !method.MatchString(s) {
		return fmt.Errorf("%q is not a method to pass on; CONNECT and TRACE never are", s)
	}
	return nil
}

// CookieName checks the name of a cookie against the rules of its prefix, which browsers see in any case (RFC 6265bis
// 4.1.3 and 5.4).
func CookieName(name string, secure, hasDomain bool) error {
	lower := strings.ToLower(name)
	host := strings.HasPrefix(lower, "__host-")
	prefixed := host || strings.HasPrefix(lower, "__secure-") || strings.HasPrefix(lower, "__http-")
	switch {
	case name != "" && !cookieName.MatchString(name):
		return fmt.Errorf("%q has characters that a cookie name cannot have", name)
	case host && hasDomain:
		return errors.New("the prefix __Host- excludes a Domain; use __Secure- or no Domain")
	case prefixed && !secure:
		return fmt.Errorf("browsers refuse the prefix of %q over plain http", name)
	}
	return nil
}

// CookieDomain checks that browsers accept a cookie for the domain d from host. It does not know public suffixes.
func CookieDomain(d, host string) error {
	host = strings.ToLower(host)
	_, notIP := netip.ParseAddr(host)
	if d != "" && d != host && (notIP == nil || !strings.Contains(d, ".") || !strings.HasSuffix(host, "."+d)) {
		return fmt.Errorf("%q is not BaseURL's host or a parent of it; write it in lower case without a leading dot", d)
	}
	return nil
}
