package check_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/check"
)

// judge compares an error with the words that it must have; none means that there must be no error.
func judge(t *testing.T, value string, err error, words string) {
	t.Helper()
	switch {
	case words == "" && err != nil:
		t.Errorf("%q: %v, want it accepted", value, err)
	case words != "" && err == nil:
		t.Errorf("%q: accepted, want an error with %q", value, words)
	case words != "" && !strings.Contains(err.Error(), words):
		t.Errorf("%q: %v, want an error with %q", value, err, words)
	}
}

const (
	notAbsolute = "is not an absolute URL"
	badHost     = "has a host or port that browsers write differently"
	plainHTTP   = "is plain http"
	badPath     = "has empty or dotted path segments"
	extras      = "has user information, a query or a fragment"
	badByte     = "has a space or a backslash"
)

// S17, S43, behaviour 4: https, and http where nobody else can listen.
func TestURL(t *testing.T) {
	t.Parallel()
	for raw, words := range map[string]string{
		"https://app.example.com":             "",
		"https://app.example.com/":            "",
		"https://App.example.com:8443/a/b":    "",
		"https://op.example/realms/my%20club": "",
		"https://op.example/realms/f(o)o":     "",
		"https://xn--bcher-kva.example":       "",
		"https://under_score.example":         "",
		"https://192.0.2.1":                   "",
		"https://[2001:db8::1]:8443":          "",

		"http://localhost:8080":      "",
		"http://LOCALHOST":           "",
		"http://127.0.0.1":           "",
		"http://127.8.8.8/app":       "",
		"http://[::1]:3000":          "",
		"http://app.example.com":     plainHTTP,
		"http://localhost.evil.test": plainHTTP,
		"http://evil-localhost":      plainHTTP,
		"http://127.0.0.1.evil.test": plainHTTP,
		"http://0.0.0.0":             plainHTTP,
		"http://192.168.0.1":         plainHTTP,

		"":                      "is empty",
		"app.example.com":       notAbsolute,
		"/app":                  notAbsolute,
		"//app.example.com":     "has the scheme",
		"https:app.example.com": notAbsolute,
		"https:///app":          notAbsolute,
		"https://:443":          notAbsolute,
		" https://a.example":    notAbsolute,
		"https://a.example\n":   notAbsolute,
		"https://a.example:x":   notAbsolute,
		"https://a b.example":   notAbsolute,
		`https://a.example\b`:   notAbsolute,

		"ftp://a.example":   `has the scheme "ftp"`,
		"javascript://x/":   `has the scheme "javascript"`,
		"HTTPS://a.example": "has capital letters in its scheme", // secure or not goes by "https:"
		"Http://localhost":  "has capital letters in its scheme",

		"https://user@a.example":  extras,
		"https://u:p@a.example":   extras,
		"https://@a.example":      extras,
		"https://a.example?":      extras,
		"https://a.example/?x=1":  extras,
		"https://a.example#":      extras,
		"https://a.example/#part": extras,

		"https://bücher.example":      badHost,
		"https://b%C3%BCcher.example": badHost,
		"https://a.example:":          badHost,
		"https://a.example:0443":      badHost,
		"https://a.example:0":         "has a port that does not exist",
		"https://a.example:65536":     "has a port that does not exist",
		"https://a.example,b.example": badHost,
		"https://a.example;x":         badHost,
		"https://[fe80::1%25eth0]":    badHost,

		"https://a.example//":          badPath,
		"https://a.example//app":       badPath,
		"https://a.example/app//":      badPath,
		"https://a.example/a//b":       badPath,
		"https://a.example/.":          badPath,
		"https://a.example/..":         badPath,
		"https://a.example/a/./b":      badPath,
		"https://a.example/a/../b":     badPath,
		"https://a.example/%2e%2e/b":   badPath,
		"https://a.example/a%2F..%2Fb": badPath,

		"https://a.example/my app": badByte,
		"https://a.example/ ":      badByte,
		`https://a.example/a\b`:    badByte,
	} {
		judge(t, raw, check.URL(raw, false), words)
	}
}

func TestURLOnATestNetworkMayBePlainHTTP(t *testing.T) {
	t.Parallel()
	for raw, words := range map[string]string{
		"http://app.example.com":  "",
		"https://app.example.com": "",
		"http://a.example/../b":   badPath,
		"http://u@a.example":      extras,
		"ftp://a.example":         "has the scheme",
	} {
		judge(t, raw, check.URL(raw, true), words)
	}
}

// Whoever pastes a URL with credentials does not find them in a log.
func TestURLErrorsKeepCredentialsToThemselves(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"https://user:canary@a.example", "http://user:canary@a.example/../x", "https://a.example/?client_secret=canary",
		"https://a.example/#canary", "https://user:canary@a b", "ftp://user:canary@a.example",
	} {
		if err := check.URL(raw, false); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: got %v", raw, err)
		}
	}
}

// An origin is compared byte for byte with what browsers send (S30).
func TestOrigin(t *testing.T) {
	t.Parallel()
	for raw, words := range map[string]string{
		"https://app.example.com":      "",
		"https://app.example.com:8443": "",
		"http://localhost:3000":        "",
		"https://[::1]":                "",
		"https://app.example.com/":     "has a path",
		"https://app.example.com/app":  "has a path",
		"https://App.example.com":      `use "https://app.example.com"`,
		"https://app.example.com:443":  `use "https://app.example.com"`,
		"http://localhost:80":          `use "http://localhost"`,
		"http://app.example.com":       plainHTTP,
		"https://*.example.com":        badHost,
		"*":                            notAbsolute,
		"null":                         notAbsolute,
		"":                             "is empty",
	} {
		judge(t, raw, check.Origin(raw, false), words)
	}
}

func TestCanonicalOrigin(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"https://App.Example.com/path?q#f": "https://app.example.com",
		"https://a.example:443":            "https://a.example",
		"https://a.example:8443":           "https://a.example:8443",
		"https://a.example:80":             "https://a.example:80",
		"http://a.example:80":              "http://a.example",
		"http://a.example:443":             "http://a.example:443",
		"https://[::1]:443":                "https://[::1]",
		"https://u:p@a.example":            "https://a.example",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := check.CanonicalOrigin(u); got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
}

// S17, S43
func TestLoopback(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost": true, "LocalHost": true, "127.0.0.1": true, "127.255.0.9": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, "localhost.example": false, "app.localhost": false, "0.0.0.0": false, "::": false, "10.0.0.1": false,
		"128.0.0.1": false, "127.0.0.1.example": false, "127.1": false, "::2": false,
	} {
		if got := check.Loopback(host); got != want {
			t.Errorf("%q: %v, want %v", host, got, want)
		}
	}
}

func TestDomain(t *testing.T) {
	t.Parallel()
	const bad = "is not a host name"
	for s, words := range map[string]string{
		"tenant.eu.auth0.com": "", "login.example.com": "", "a-b.example": "", "x.xn--p1ai": "",
		"": bad, "tenant": bad, "localhost": bad, "Tenant.auth0.com": bad, "https://tenant.auth0.com": bad,
		"tenant.auth0.com/": bad, "tenant.auth0.com:443": bad, "tenant..auth0.com": bad, ".auth0.com": bad, "auth0.com.": bad,
		"-a.auth0.com": bad, "a-.auth0.com": bad, "a.com-": bad, "127.0.0.1": bad, "a.example?x": bad, "a.example#x": bad,
		"u@a.example": bad, "a.example\n": bad, " a.example": bad, "bücher.example": bad,
	} {
		judge(t, s, check.Domain(s), words)
	}
}

// S45: what somebody typed can be guessed.
func TestSecret(t *testing.T) {
	t.Parallel()
	const placeholder, short = "is a placeholder or repeats itself", "at least 32 are needed"
	for s, words := range map[string]string{
		"Qm7vX2pL9sTz4KdR8wNc3HyB6fJg1VaU":                                 "", // 32 bytes
		"6f1ed002ab5595859014ebf0951522d9c8a7b6e5f4d3c2b1a09f8e7d6c5b4a3f": "",
		"\x00\xff\x80\x81\x82\x83\x84\x85\x86\x87abcdefghijklmnopqrstuv":   "", // bytes of any kind

		"":                                 short,
		"Qm7vX2pL9sTz4KdR8wNc3HyB6fJg1Va":  short, // 31 bytes
		"change-me":                        short,
		strings.Repeat("a", 64):            placeholder,
		strings.Repeat("abc", 20):          placeholder,
		"aaaaaaaaaaaaaaaaaaaaaaaaabbcdefg": placeholder, // seven different ones
		strings.Repeat("Qm7vX2pL9s", 4):    placeholder,

		"0123456789abcdef0123456789abcdef-x":                        placeholder,
		"0123456789ABCDEF0123456789ABCDEFx":                         placeholder,
		"a randomly-generated string stored in the env":             placeholder,
		"use [openssl rand -hex 32] to generate a 32 bytes value":   placeholder,
		"$(openssl rand -hex 32) and something else":                placeholder,
		"complex_password_at_least_32_characters_long":              placeholder,
		"please-change-me-0123456789-qwertzuiop":                    placeholder,
		"CHANGEME-qwertzuiopasdfghjklyxcvbnm":                       placeholder,
		"change-this-in-production-qwertzuiop":                      placeholder,
		"replace_me_qwertzuiopasdfghjklyxcvbn":                      placeholder,
		"your-secret-key-here-and-some-more-of-it":                  placeholder,
		"your_session_secret_goes_into_this_place":                  placeholder,
		"keyboard cat walks over the keys at night":                 placeholder,
		"my placeholder of a secret, 32 bytes long":                 placeholder,
		"the-session-secret-of-my-application-1":                    placeholder,
		"random-generated-qwertzuiopasdfghjklyxcv":                  placeholder,
		"LONG_RANDOM_VALUE_FOR_SIGNING_COOKIES":                     placeholder,
		"supersecretqwertzuiopasdfghjklyxcvbnm1":                    placeholder,
		strings.Repeat("\x80\x81\x82", 11):                          placeholder,
		strings.Repeat("Qm7vX2pL9sTz4KdR8wNc3HyB6fJg1VaU", 2):       placeholder,
		strings.Repeat("\xfe\xff", 16) + "\x80\x81\x82\x83\x84\x85": "", // no text at all
	} {
		err := check.Secret(s)
		judge(t, s, err, words)
		if err != nil && s != "" && strings.Contains(err.Error(), s) {
			t.Errorf("the error tells the secret: %v", err)
		}
	}
}

// OIDC-17
func TestSigningAlg(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		alg    string
		secret int // bytes of the client secret
		words  string
	}{
		{"RS256", 0, ""},
		{"RS384", 0, ""},
		{"RS512", 0, ""},
		{"PS256", 0, ""},
		{"PS384", 0, ""},
		{"PS512", 0, ""},
		{"ES256", 0, ""},
		{"ES384", 0, ""},
		{"ES512", 0, ""},
		{"EdDSA", 0, ""},
		{"HS256", 32, ""},
		{"HS384", 48, ""},
		{"HS512", 64, ""},
		{"HS256", 31, "needs a ClientSecret of at least 32 bytes"},
		{"HS384", 47, "needs a ClientSecret of at least 48 bytes"},
		{"HS512", 63, "needs a ClientSecret of at least 64 bytes"},
		{"HS256", 0, "needs a ClientSecret of at least 32 bytes"}, // a public client has none
		{"none", 64, "is not supported"},
		{"None", 64, "is not supported"},
		{"rs256", 64, "is not supported"},
		{"RS1", 64, "is not supported"},
		{"ES256K", 64, "is not supported"},
		{"RSA-OAEP", 64, "is not supported"},
		{"", 64, "is not supported"},
	} {
		judge(t, tt.alg, check.SigningAlg(tt.alg, strings.Repeat("s", tt.secret)), tt.words)
	}
}

func TestOneOf(t *testing.T) {
	t.Parallel()
	judge(t, "b", check.OneOf("b", "a", "b"), "")
	judge(t, "c", check.OneOf("c", "a", "b"), `"c" is unknown; use one of ["a" "b"]`)
	judge(t, "", check.OneOf("", "a", "b"), "is unknown")
}

// RFC 6749 3.3
func TestScope(t *testing.T) {
	t.Parallel()
	const bad = "is not one scope"
	for s, words := range map[string]string{
		"openid": "", "https://api.example/read:all": "", "a!#[]~": "",
		"": bad, "openid profile": bad, " openid": bad, "a\tb": bad, "a\nb": bad, `a"b`: bad, `a\b`: bad, "é": bad,
		"a\x7f": bad, "a\x00": bad,
	} {
		judge(t, s, check.Scope(s), words)
	}
}

func TestRoutePath(t *testing.T) {
	t.Parallel()
	const bad = "is not a plain absolute path"
	for s, words := range map[string]string{
		"/login": "", "/auth/login": "", "/a/.well-known": "", "/a~b_c-d.e": "",
		"": bad, "/": bad, "login": bad, "/login/": bad, "//login": bad, "/a//b": bad, "/a/./b": bad, "/a/../b": bad,
		"/..": bad, "/.": bad,
		"/a b": bad, "/a?b": bad, "/a#b": bad, "/a%2Fb": bad, `/a\b`: bad, "/{id}": bad, "/a;b": bad, "/é": bad, "/a\n": bad,
		"https://a.example/login": bad, "GET /login": bad,
	} {
		judge(t, s, check.RoutePath(s), words)
	}
}

// S43: browsers drop such cookies without a word, so that every login would seem to fail.
func TestCookieName(t *testing.T) {
	t.Parallel()
	const chars, domain, plain = "has characters", "excludes a Domain", "browsers refuse the prefix"
	for _, tt := range []struct {
		name              string
		secure, hasDomain bool
		words             string
	}{
		{"", true, false, ""}, // the default
		{"", false, true, ""},
		{"session", false, false, ""},
		{"__Host-session", true, false, ""},
		{"__Secure-session", true, true, ""},
		{"__Http-session", true, true, ""},
		{"__session", false, false, ""}, // no prefix that browsers know
		{"a!#$%&'*+-.^_`|~z", true, false, ""},
		{"__Host-session", true, true, domain},
		{"__HOST-session", true, true, domain},
		{"__Host-Http-session", true, true, domain},
		{"__Host-session", false, false, plain},
		{"__host-session", false, false, plain},
		{"__Secure-session", false, false, plain},
		{"__secure-session", false, true, plain},
		{"__Http-session", false, false, plain},
		{"a b", true, false, chars},
		{"a=b", true, false, chars},
		{"a;b", true, false, chars},
		{"a,b", true, false, chars},
		{"a\r\nb", true, false, chars},
		{`"a"`, true, false, chars},
		{"a/b", true, false, chars},
		{"é", true, false, chars},
	} {
		judge(t, tt.name, check.CookieName(tt.name, tt.secure, tt.hasDomain), tt.words)
	}
}

// S43
func TestCookieDomain(t *testing.T) {
	t.Parallel()
	const bad = "is not BaseURL's host or a parent of it"
	for _, tt := range []struct{ domain, host, words string }{
		{"", "app.example.com", ""},
		{"app.example.com", "app.example.com", ""},
		{"example.com", "app.example.com", ""},
		{"example.com", "App.Example.com", ""},
		{"localhost", "localhost", ""},
		{"127.0.0.1", "127.0.0.1", ""},
		{".example.com", "app.example.com", bad},
		{".app.example.com", ".app.example.com.", bad},
		{"other.example.com", "app.example.com", bad},
		{"sub.app.example.com", "app.example.com", bad},
		{"ample.com", "app.example.com", bad},
		{"com", "app.example.com", bad}, // every .com site would be sent it
		{"0.0.1", "127.0.0.1", bad},     // an address has no parents
		{"Example.com", "app.example.com", bad},
		{"example.com; Path=/", "app.example.com", bad},
		{"*.example.com", "app.example.com", bad},
	} {
		judge(t, tt.domain, check.CookieDomain(tt.domain, tt.host), tt.words)
	}
}

// What is accepted stays what it is when paths are added to it, and browsers see the same host in it.
func FuzzURL(f *testing.F) {
	for _, raw := range []string{
		"https://app.example.com", "http://localhost:8080/a/", "https://a.example//", "https://[::1]:443/a%20b", "HTTPS://A",
		"https://u@a#",
		`https://a\@b`, "https://a%2eb", "https://a:00443", "https://bücher.example/é",
	} {
		f.Add(raw, false)
		f.Add(raw, true)
	}
	f.Fuzz(func(t *testing.T, raw string, allowHTTP bool) {
		if check.Origin(raw, allowHTTP) == nil && check.URL(raw, allowHTTP) != nil {
			t.Fatal("an origin that is no URL")
		}
		if check.URL(raw, allowHTTP) != nil {
			return
		}
		scheme, rest, ok := strings.Cut(raw, "://")
		if !ok || scheme != "https" && scheme != "http" || strings.ContainsAny(rest, `?#\ `) {
			t.Fatalf("accepted %q", raw)
		}
		host, path, _ := strings.Cut(rest, "/")
		for _, char := range []byte(host) {
			if char < '-' || char > 'z' || char == '@' {
				t.Fatalf("accepted the host %q", host)
			}
		}
		if path != "" {
			path = "/" + strings.TrimSuffix(path, "/")
		}
		u, err := url.Parse(scheme + "://" + host + path + "/auth/login")
		if err != nil || u.Host != host || !strings.HasSuffix(u.Path, "/auth/login") || strings.ContainsAny(u.Path, "\r\n") ||
			strings.Contains(u.Path, "//") || strings.Contains(u.Path, "/../") {
			t.Fatalf("%q becomes %v, %v", raw, u, err)
		}
		if scheme == "http" && !allowHTTP && !check.Loopback(u.Hostname()) {
			t.Fatalf("accepted %q", raw)
		}
	})
}
