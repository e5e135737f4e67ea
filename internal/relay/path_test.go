package relay_test

import (
	"errors"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/relay"
)

const prefix = "/api/"

// requested returns the URL that a server would hand to a handler for a request line with this path.
func requested(t testing.TB, requestURI string) *url.URL {
	t.Helper()
	u, err := url.ParseRequestURI(requestURI)
	if err != nil {
		return &url.URL{Path: "/"} // no server accepts this
	}
	return u
}

// THR-50, S13, lesson 37: what passes goes upstream as it came.
func TestPathPasses(t *testing.T) {
	t.Parallel()
	for _, rest := range []string{
		"",
		"users",
		"users/",
		"users/1/orders",
		"v1.2/report.final.pdf",
		".well-known/jwks.json",
		"..hidden/a..b/c..",
		"~user/-/_/!$&'()*+,:@",
		"users/a=.",
		"a;v=1",
		"a;v=1.0;w=.5/b",
		"users/1;",
		"a%3Bv=1",
		"caf%C3%A9",
		"caf%c3%a9",
		"two%20words",
		"urn%3Aid%3a1",
		"100%25",
		"100%25/x",
		"100%25%20off",
		"100%2525",
		"%F0%9F%98%80",
		"%3Fq",
		"%23fragment",
		"%7B%7D%7C",
		"A%EF%BC%8FB",        // a full-width slash in a name
		"%EF%BC%91%EF%BC%8E", // "1." in full-width characters
	} {
		got, err := relay.Path(requested(t, prefix+rest), prefix)
		if err != nil || got != rest {
			t.Errorf("%s: %q, %v", rest, got, err)
		}
	}
}

// What url.URL would encode anew, and decode an encoded slash on the way.
func TestPathIsEncodedWhereItMust(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ rest, want string }{
		{"a|b", "a%7Cb"},
		{"a^b`c/{id}", "a%5Eb%60c/%7Bid%7D"},
		{"a|b/100%25/caf%c3%a9", "a%7Cb/100%25/caf%c3%a9"},
		{"café", "caf%C3%A9"},
		{"[1]", "[1]"},
	} {
		got, err := relay.Path(requested(t, prefix+tt.rest), prefix)
		if err != nil || got != tt.want {
			t.Errorf("%s: %q, %v, want %q", tt.rest, got, err, tt.want)
		}
	}
}

// THR-50, S13, lesson 37
func TestPathRefuses(t *testing.T) {
	t.Parallel()
	for name, rests := range map[string][]string{
		"dot segments": {
			"..", ".", "../admin", "a/../../admin", "./a", "a/.", "a/..", "a/./b", "a/../", "...", "a/..../b",
		},
		"dots and spaces, which Windows cuts off": {"..%20", "a/.%20./b", "%20../x"},
		"encoded dots": {
			"%2e%2e/admin", "%2E%2E/admin", ".%2e/admin", "%2e./admin", "%2e", "a%2eb", "a/%2e%2e", "%2e%2e%2fadmin",
		},
		"encoded slashes": {"..%2fadmin", "..%2Fadmin", "a%2fb", "%2fetc", "a%2F", "a|b%2f..%2fc"},
		"backslashes":     {`..\admin`, `a\b`, "..%5cadmin", "a%5Cb", "%5c", `\..\admin`},
		"empty segments":  {"/", "//", "/admin", "a//b", "a//", "//evil.example/x", "users///"},
		"control characters": {
			"a%00", "%00", "a%00.json", "a%0d%0aHost:%20x", "a%0A", "%09", "%1f", "%7F", "a%C2%85b",
		},
		"matrix parameters": {
			"..;/admin", ".;x/admin", "..%3f", "a/..%3Fx", "..%23/b", ".%3f", "..%253fx", "..;x=1/a", "a;b=../c", "a;../c", "a;b=.", ";", ";v=1", "a/;x/b", "..;",
		},
		"encoded semicolons": {"..%3b/admin", "..%3Bx", "%3b", "%3bx/a", "a%3b../c", "..%253b/x"},
		"malformed UTF-8": {
			"%c0%ae%c0%ae/admin", "%c0%af", "%e0%80%ae", "%fe", "%ff", "caf%e9", "%ed%a0%80", "%c1%9c",
		},
		"encoded twice": {
			"%252e%252e/admin", "..%252fadmin", "a%252Fb", "a%255cb", "a%2500", "%250d%250a", "%25c0%25ae",
		},
		"encoded three times": {"%25252e%25252e/x", "..%25252fx", "%25255c", "%252500"},
		"encoded more often": {
			"%2525252e", "%252525252e", "%2525252541", "%25252525", strings.Repeat("%25", 3) + "252525252e",
		},
		"escapes in pieces": {"%25%32%65", "%25%32e", "%2%35%32e", "%252%65", "%25%35c", "%2525%32%65%2525%32e"},
		"full-width dots": {
			"%EF%BC%8E%EF%BC%8E", "%EF%BC%8E./x", "%E2%80%A5/x", "%E2%80%A6", "%EF%BC%8E%EF%BC%8E%EF%BC%8Fadmin",
			"a%EF%BC%8F..", "..%E2%88%95x", "..%EF%BC%BCx", "..%E2%81%84x", "..%EF%BC%9Bx", "%EF%B9%92%EF%B9%92",
			"%25EF%25BC%258E%25EF%25BC%258E",
		},
	} {
		for _, rest := range rests {
			u, err := url.ParseRequestURI(prefix + rest)
			if err != nil {
				// A server would have refused it; a caller that made its URL otherwise is refused here.
				u = &url.URL{Path: prefix + rest}
			}
			if got, err := relay.Path(u, prefix); !errors.Is(err, relay.ErrUnsafe) {
				t.Errorf("%s: %s: %q, %v", name, rest, got, err)
			}
		}
	}
	for b := range 0x20 {
		raw := prefix + "a%" + strings.ToUpper(url.PathEscape(string(rune(b)))[1:])
		if got, err := relay.Path(requested(t, raw), prefix); !errors.Is(err, relay.ErrUnsafe) {
			t.Errorf("%s: %q, %v", raw, got, err)
		}
	}
}

func TestPathOutsideThePrefix(t *testing.T) {
	t.Parallel()
	for _, p := range []string{
		"/", "/api", "/apis/x", "/API/x", "/%61pi/x", "/api%2fx", "//api/x", "/x/api/y", "/../api/x", "*",
	} {
		if got, err := relay.Path(requested(t, p), prefix); !errors.Is(err, relay.ErrOutside) {
			t.Errorf("%s: %q, %v", p, got, err)
		}
	}
}

// Middleware may have changed the path, but not what it was made from.
func TestPathOfAChangedURL(t *testing.T) {
	t.Parallel()
	u := &url.URL{Path: "/api/a/b", RawPath: "/other/a%20b"}
	if got, err := relay.Path(u, prefix); err != nil || got != "a/b" {
		t.Errorf("%q, %v", got, err)
	}
	r, err := http.NewRequest(http.MethodGet, "https://app.example.com/base/api/a%3Ab|c", nil)
	if err != nil {
		t.Fatal(err)
	}
	http.StripPrefix("/base", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if got, err := relay.Path(r.URL, prefix); err != nil || got != "a%3Ab%7Cc" {
			t.Errorf("%q, %v", got, err)
		}
	})).ServeHTTP(nil, r)
}

// A path that takes long to judge is refused, not decoded to its end.
func TestPathOfAMegabyte(t *testing.T) {
	t.Parallel()
	u := requested(t, prefix+"%"+strings.Repeat("25", 1<<19))
	if _, err := relay.Path(u, prefix); !errors.Is(err, relay.ErrUnsafe) {
		t.Error(err)
	}
}

// BFF-07, THR-57: host and scheme are the target's, whatever the path.
func TestTarget(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ target, rest, want string }{
		{"https://api.example.com", "", "https://api.example.com/"},
		{"https://api.example.com", "users", "https://api.example.com/users"},
		{"https://api.example.com/", "users/", "https://api.example.com/users/"},
		{"https://api.example.com/v1", "users", "https://api.example.com/v1/users"},
		{"https://api.example.com/v1/", "", "https://api.example.com/v1/"},
		{"https://api.example.com/a%2Fb/", "x%3Ay", "https://api.example.com/a%2Fb/x%3Ay"},
		{"http://127.0.0.1:8080/v1/?key=1#x", "caf%c3%a9", "http://127.0.0.1:8080/v1/caf%c3%a9"},
		{"https://user:password@api.example.com/v1/", "a;v=1", "https://api.example.com/v1/a;v=1"},
		{"https://api.example.com/v1/", "evil.example:443@x", "https://api.example.com/v1/evil.example:443@x"},
		{"https://api.example.com/", "*", "https://api.example.com/*"},
	} {
		target, err := url.Parse(tt.target)
		if err != nil {
			t.Fatal(err)
		}
		before := *target
		got, err := relay.Target(target, tt.rest)
		if err != nil || got.String() != tt.want {
			t.Errorf("%s + %s: %v, %v, want %s", tt.target, tt.rest, got, err, tt.want)
		}
		if *target != before {
			t.Errorf("%s was changed", tt.target)
		}
	}
}

func TestTargetRefuses(t *testing.T) {
	t.Parallel()
	target := &url.URL{Scheme: "https", Host: "api.example.com", Path: "/v1/"}
	for _, rest := range []string{"a b", "a|b", "%", "%zz", "a%2", "a?b", "a#b", "é", "a\nb", "\x00"} {
		got, err := relay.Target(target, rest)
		if err == nil {
			t.Errorf("%q: %s", rest, got)
		} else if strings.Contains(err.Error(), rest) && len(rest) > 1 {
			t.Errorf("%q is quoted", rest)
		}
	}
}

// THR-50: an accepted path, decoded as often as anybody may, stays below the prefix, and has as many segments as it
// had when it was judged.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{
		"users/1", "%2e%2e/admin", "..%2fadmin", "%252e%252e/x", "..;/x", "a;b=../c", "//x", "%c0%ae", `..\x`, "%00",
		"100%25", "a|b%2f..", "%25%32%65", "caf%C3%A9", "%EF%BC%8E%EF%BC%8E/x", "a/b/", "%25252525", "a%3Bv=1",
	} {
		f.Add(seed)
	}
	target := &url.URL{Scheme: "https", Host: "api.example.com", Path: "/v1/"}
	f.Fuzz(func(t *testing.T, sent string) {
		u := requested(t, prefix+sent)
		rest, err := relay.Path(u, prefix)
		if err != nil {
			return
		}
		if again, err := relay.Path(requested(t, prefix+rest), prefix); err != nil || again != rest {
			t.Errorf("%q became %q, and that %q, %v", sent, rest, again, err)
		}
		out, err := relay.Target(target, rest)
		if err != nil || out.EscapedPath() != "/v1/"+rest || out.Host != target.Host {
			t.Errorf("%q: %v, %v", rest, out, err)
		}
		segments := strings.Count(rest, "/")
		for p, depth := rest, 0; depth < 6; depth++ {
			if strings.Count(p, "/") != segments || strings.ContainsAny(p, "\\\x00\r\n") {
				t.Errorf("%q decoded %d times is %q", rest, depth, p)
			}
			if clean := path.Clean("/v1/" + p); p != "" && clean != strings.TrimSuffix("/v1/"+p, "/") {
				t.Errorf("%q decoded %d times is %q, which means %q", rest, depth, p, clean)
			}
			decoded, err := url.PathUnescape(p)
			if err != nil {
				break
			}
			p = decoded
		}
	})
}
