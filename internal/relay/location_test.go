package relay_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/relay"
)

func parse(t testing.TB, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// S13: the API's own links go on working.
func TestLocationMapsBackUnderThePrefix(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ target, value, want string }{
		{"https://api.example.com/v1/", "https://api.example.com/v1/users/7", "/api/users/7"},
		{"https://api.example.com/v1", "https://api.example.com/v1/users/7", "/api/users/7"},
		{"https://api.example.com/v1/", "https://api.example.com:443/v1/", "/api/"},
		{"https://api.example.com:443/v1/", "https://API.example.com/v1/x", "/api/x"},
		{"https://api.example.com/v1/", "HTTPS://api.example.com/v1/x", "/api/x"},
		{"https://api.example.com/v1/", "//api.example.com/v1/x", "/api/x"},
		{"https://api.example.com/v1/", "/v1/users/7", "/api/users/7"},
		{"https://api.example.com/v1/", "7", "/api/users/7"},
		{"https://api.example.com/v1/", "./7", "/api/users/7"},
		{"https://api.example.com/v1/", "../jobs/1", "/api/jobs/1"},
		{"https://api.example.com/v1/", "?page=2&q=a;b", "/api/users/?page=2&q=a;b"},
		{"https://api.example.com/v1/", "#top", "/api/users/?page=1#top"},
		{"https://api.example.com/v1/", "7?", "/api/users/7?"},
		{"https://api.example.com/v1/", "/v1/x?to=https://evil.example/#a?b", "/api/x?to=https://evil.example/#a?b"},
		{"https://api.example.com/v1/", "/v1/caf%c3%a9/a%3Ab;v=1", "/api/caf%c3%a9/a%3Ab;v=1"},
		{"https://api.example.com/v1/", "/v1/a|b", "/api/a%7Cb"},
		{"https://api.example.com/v1/", "/v1/café", "/api/caf%C3%A9"},
		{"https://api.example.com/v1/", "/v1/a b", "/api/a%20b"},
		{"https://api.example.com", "/v1/x", "/api/v1/x"},
		{"http://127.0.0.1:8080", "http://127.0.0.1:8080/x", "/api/x"},
		{"http://127.0.0.1:80", "http://127.0.0.1/x", "/api/x"},
	} {
		target := parse(t, tt.target)
		request := target.ResolveReference(&url.URL{Path: "/v1/users/", RawQuery: "page=1"})
		got, ok := relay.Location(tt.value, request, target, prefix)
		if !ok || got != tt.want {
			t.Errorf("%s at %s: %q, %v, want %q", tt.value, tt.target, got, ok, tt.want)
		}
	}
}

// S13: an upstream sends nobody elsewhere in our name.
func TestLocationRefuses(t *testing.T) {
	t.Parallel()
	target := parse(t, "https://api.example.com/v1/")
	request := parse(t, "https://api.example.com/v1/users/?page=1")
	for name, values := range map[string][]string{
		"nothing": {"", " "},
		"another host": {
			"https://evil.example/v1/x", "//evil.example/v1/x", "https://api.example.com.evil.example/v1/x",
		},
		"another scheme": {
			"http://api.example.com/v1/x", "javascript:alert(1)", "data:text/html,x", "mailto:a@b",
			"ftp://api.example.com/v1/",
		},
		"another port": {"https://api.example.com:8443/v1/x", "//api.example.com:80/v1/x"},
		"a user": {
			"https://evil@api.example.com/v1/x", "https://api.example.com@evil.example/v1/x",
			"//u:p@api.example.com/v1/x",
		},
		"no host": {"https:/v1/x", "https:v1/x", "https:///v1/x", "https:"},
		"another path": {
			"/", "/v1", "/v2/x", "/V1/x", "/%761/x", "../../v2/x", "../..", "/v1/../v2", "https://api.example.com",
		},
		"slashes": {"//", "///evil.example", "/v1//evil.example", "/v1/x//", "////v1/x"},
		"backslashes": {
			`/v1/\evil.example`, `\\evil.example`, `/\evil.example/v1/`, `/v1\x`, "/v1/%5Cevil.example",
		},
		"encoded paths": {
			"/v1/%2e%2e/admin", "/v1/..%2fadmin", "/v1/a|b%2f..", "/v1/%252e%252e/x", "/v1/%00", "/v1/..;/x",
			"%2e%2e/x",
		},
		"malformed": {"/v1/%", "/v1/%zz", "/v1/x\r\nSet-Cookie: a=b", "/v1/\x00", "https://[::1/v1/", ":/v1/"},
	} {
		for _, value := range values {
			if got, ok := relay.Location(value, request, target, prefix); ok || got != "" {
				t.Errorf("%s: %q: %q", name, value, got)
			}
		}
	}
}

func FuzzLocation(f *testing.F) {
	for _, seed := range []string{
		"https://api.example.com/v1/users", "//evil.example", "../x", "?a=b", "#c", `/v1/\x`, "/v1/%2e%2e/x",
		"https:/v1/x", "/v1/a|b%2f..", "/v1//x", "javascript:alert(1)", "/v1/..;/x", "/v1/%252e%252e/",
		"//api.example.com/v1/\t", "///v1/x",
	} {
		f.Add(seed)
	}
	target := &url.URL{Scheme: "https", Host: "api.example.com", Path: "/v1/"}
	request := &url.URL{Scheme: "https", Host: "api.example.com", Path: "/v1/users/1", RawQuery: "page=1"}
	page := &url.URL{Scheme: "https", Host: "app.example.com", Path: "/account"}
	f.Fuzz(func(t *testing.T, value string) {
		got, ok := relay.Location(value, request, target, prefix)
		if !ok {
			return
		}
		u, err := page.Parse(got)
		if err != nil {
			t.Fatalf("%q became %q: %v", value, got, err)
		}
		p, _, _ := strings.Cut(got, "?")
		p, _, _ = strings.Cut(p, "#")
		if u.Host != page.Host || u.Scheme != page.Scheme || u.User != nil || !strings.HasPrefix(u.Path, prefix) ||
			u.EscapedPath() != p || strings.ContainsAny(p, "\\ ") || strings.Contains(p, "//") {
			t.Errorf("%q became %q: %v", value, got, u)
		}
		for i := range len(got) {
			if got[i] < ' ' || got[i] == 0x7f {
				t.Errorf("%q became %q", value, got)
			}
		}
	})
}
