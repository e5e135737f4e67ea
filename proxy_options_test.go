package oidcauth_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth"
)

// One round of fixing instead of five: each mistake is a *ConfigError with the field and what to do.
func TestProxyOptionsAreChecked(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	good := oidcauth.ProxyOptions{Prefix: "/api/", Target: "https://api.test/v1/"}
	edited := func(edit func(*oidcauth.ProxyOptions)) oidcauth.ProxyOptions {
		o := good
		edit(&o)
		return o
	}

	for field, values := range map[string][]string{
		"Prefix": {
			"", "/", "api/", "/api", "//api/", "/api//", "/a/../b/", "/./", "/api/?x/", "/a%2fb/", "/a b/", "/api/{id}/",
			"/{rest...}",
			`/a\b/`, "https://app.test/api/",
		},
		"Target": {
			"", "api.test", "/v1/", "//api.test/", "http://api.test/", "ftp://api.test/", "https:///v1/",
			"https://api.test/?x=1",
			"https://api.test/?", "https://api.test/#x", "https://user:pass@api.test/", "https://api.test/a/../b/",
			"https://api.test//v1/", "https://api.test:0/", "https://api.test:99999/", `https://api.test\@evil.test/`,
		},
		"Scopes":        {"", "a b", "a\"b", "ä", "a\nb"},
		"AllowedScopes": {"", "a b", "a\\b"},
		"Methods":       {"", "CONNECT", "TRACE", "get", "GE T", "GET\r\nX: y"},
		"ForwardHeaders": {
			"", "Cookie", "cookie", "Authorization", "Proxy-Authorization", "DPoP", "Host", "Connection", "Upgrade", "Te",
			"Trailer",
			"Transfer-Encoding", "Content-Length", "Expect", "X-Forwarded-For", "X-Forwarded-User", "Forwarded", "X-Real-IP",
			"X-Original-URL", "X-HTTP-Method-Override", "X_Tenant", "Sec-Fetch-Site", "Scope", "X Y", "X:", "Proxy",
			"Remote-User",
		},
		"Destinations": {
			"", "document", "iframe", "frame", "object", "embed", "script", "style", "worker",
			"serviceworker", "IMAGE",
		},
	} {
		for _, value := range values {
			o := edited(func(o *oidcauth.ProxyOptions) {
				switch field {
				case "Prefix":
					o.Prefix = value
				case "Target":
					o.Target = value
				case "Scopes":
					o.Scopes = []string{value}
				case "AllowedScopes":
					o.AllowedScopes = []string{value}
				case "Methods":
					o.Methods = []string{"GET", value}
				case "ForwardHeaders":
					o.ForwardHeaders = []string{value}
				case "Destinations":
					o.Destinations = []string{value}
				}
			})
			handler, err := a.Proxy(o)
			bad, ok := errors.AsType[*oidcauth.ConfigError](err)
			if !ok || handler != nil || bad.Field != "ProxyOptions."+field || bad.Reason == "" {
				t.Errorf("%s %q: %v", field, value, err)
			}
		}
	}
	_, err := a.Proxy(oidcauth.ProxyOptions{Methods: []string{"TRACE"}, Destinations: []string{"script"}})
	for _, field := range []string{"Prefix", "Target", "Methods", "Destinations"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("of several mistakes %s is not named: %v", field, err)
		}
	}
	for _, target := range []string{
		"http://localhost:8080", "http://127.0.0.1:8080/v1", "http://[::1]:8080/",
		"https://api.test:8443",
	} {
		if _, err := a.Proxy(edited(func(o *oidcauth.ProxyOptions) { o.Target = target })); err != nil {
			t.Errorf("%s: %v", target, err)
		}
	}
}

// The caller goes on changing its slices.
func TestProxyKeepsItsOwnOptions(t *testing.T) {
	t.Parallel()
	o := oidcauth.ProxyOptions{
		Audience: "https://api.test/",
		Methods:  []string{"GET"}, ForwardHeaders: []string{"X-A"}, Scopes: []string{"read"}, AllowedScopes: []string{"read"},
		Destinations: []string{"image"},
	}
	b := newBFF(t, o)
	o.Methods[0], o.ForwardHeaders[0], o.Scopes[0], o.AllowedScopes[0], o.Destinations[0] = "PUT", "Cookie", "x", "x",
		"script"
	b.call("GET", "/api/x", "", "X-A", "1", "Scope", "read")
	if h := b.api.last(t).Header; h.Get("X-A") != "1" || h.Get("Cookie") != "" {
		t.Errorf("the API got %v", h)
	}
	if resp := b.call("GET", "/api/x", "", "Sec-Fetch-Dest", "script", "Sec-Fetch-Mode",
		"no-cors"); resp.StatusCode != 403 {
		t.Errorf("a script: %d", resp.StatusCode)
	}
}
