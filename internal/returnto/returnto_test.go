package returnto_test

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/returnto"
)

// The policy of testdata/corpus.txt.
var (
	corpusOrigins = []string{"https://rp.example", "https://spa.example", "http://localhost:3000"}
	corpusRoutes  = []string{"/auth/login", "/auth/callback", "/auth/logout"}
)

func isCorpusRoute(path string) bool { return slices.Contains(corpusRoutes, path) }

func corpusPolicy(tb testing.TB) *returnto.Policy {
	tb.Helper()
	p, err := returnto.New(returnto.Options{
		BaseURL:     corpusOrigins[0],
		Origins:     corpusOrigins[1:],
		IsAuthRoute: isCorpusRoute,
		Default:     "/default",
	})
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

type corpusRow struct {
	line    int
	target  string
	allowed bool
	why     string
}

func readCorpus(tb testing.TB) []corpusRow {
	tb.Helper()
	f, err := os.Open("testdata/corpus.txt")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	var rows []corpusRow
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		if lines.Text() == "" || lines.Text()[0] == '#' {
			continue
		}
		verdict, rest, _ := strings.Cut(lines.Text(), " ")
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil || verdict != "allowed" && verdict != "refused" {
			tb.Fatalf("corpus.txt:%d: want allowed or refused, a quoted string and a reason", n)
		}
		target, _ := strconv.Unquote(quoted)
		why := strings.TrimSpace(rest[len(quoted):])
		rows = append(rows, corpusRow{n, target, verdict == "allowed", why})
	}
	if err := lines.Err(); err != nil {
		tb.Fatal(err)
	}
	return rows
}

// THR-01, THR-02, THR-04, BCP-01, RIL-05, S33. Lesson 29.
func TestCorpusVerdictsHold(t *testing.T) {
	t.Parallel()
	p := corpusPolicy(t)
	for _, row := range readCorpus(t) {
		got, ok := p.Check(row.target)
		if ok != row.allowed {
			t.Errorf("corpus.txt:%d: Check(%q) = %t, want %t: %s", row.line, row.target, ok, row.allowed, row.why)
			continue
		}
		want, resolved := "", "/default"
		if row.allowed {
			want, resolved = row.target, row.target
		}
		if got != want {
			t.Errorf("corpus.txt:%d: Check(%q) = %q, want the same bytes or none", row.line, row.target, got)
		}
		if got := p.Resolve(row.target); got != resolved {
			t.Errorf("corpus.txt:%d: Resolve(%q) = %q, want %q", row.line, row.target, got, resolved)
		}
	}
}

func TestCorpusStaysOursInBrowserAndMux(t *testing.T) {
	t.Parallel()
	p := corpusPolicy(t)
	for _, row := range readCorpus(t) {
		assertOurs(t, p, row.target)
	}
}

// S33: "every accepted value is requested from the mux and must not reach an auth route" is part of it.
func FuzzCheck(f *testing.F) {
	p := corpusPolicy(f)
	for _, row := range readCorpus(f) {
		f.Add(row.target)
		f.Add("https://rp.example" + row.target)
	}
	f.Add("/ok?" + strings.Repeat("x", 1<<10))
	f.Fuzz(func(t *testing.T, target string) { assertOurs(t, p, target) })
}

// assertOurs checks, by means independent of the package, all that may be sent for target: as it is, and as
// http.Redirect writes it.
func assertOurs(t *testing.T, p *returnto.Policy, target string) {
	t.Helper()
	sent := []string{p.Resolve(target)}
	if got, ok := p.Check(target); ok {
		sent = append(sent, got)
	}
	for _, s := range sent {
		w := httptest.NewRecorder()
		http.Redirect(w, httptest.NewRequest("GET", "/auth/callback", nil), s, http.StatusFound)
		location := w.Header().Get("Location")
		if location != s {
			t.Errorf("target %q: http.Redirect sends %q for %q, want the bytes checked", target, location, s)
		}
		for _, s := range []string{s, location} {
			assertBrowserStays(t, target, s)
		}
		assertMissesAuthRoutes(t, target, s)
	}
}

func assertBrowserStays(t *testing.T, target, sent string) {
	t.Helper()
	origin, path := browse(corpusOrigins[0], sent)
	if !slices.Contains(corpusOrigins, origin) {
		t.Errorf("target %q: %q leads a browser to origin %q", target, sent, origin)
	}
	for range 3 {
		if isCorpusRoute(strings.TrimRight(path, "/")) {
			t.Errorf("target %q: %q leads to auth route %q", target, sent, path)
		}
		path = percentDecode(path)
	}
}

// assertMissesAuthRoutes asks a ServeMux for sent and follows the redirects it makes to clean a path.
func assertMissesAuthRoutes(t *testing.T, target, sent string) {
	t.Helper()
	mux := http.NewServeMux()
	for _, route := range corpusRoutes {
		mux.HandleFunc(route, func(http.ResponseWriter, *http.Request) {
			t.Errorf("target %q: ServeMux routes %q to %s", target, sent, route)
		})
		mux.HandleFunc(route+"/{$}", func(http.ResponseWriter, *http.Request) {
			t.Errorf("target %q: ServeMux routes %q to %s/", target, sent, route)
		})
	}
	for range 3 {
		r, err := http.NewRequest("GET", sent, nil)
		if err != nil {
			t.Errorf("target %q: no server can be asked for %q: %v", target, sent, err)
			return
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		sent = w.Header().Get("Location")
		if sent == "" {
			return
		}
	}
}

// S19
func TestTargetOverOneKiBFallsBackToItsPathThenToTheDefault(t *testing.T) {
	t.Parallel()
	p := corpusPolicy(t)
	pad := func(s string, n int) string { return s + strings.Repeat("x", n-len(s)) }
	for _, tt := range []struct{ name, target, want string }{
		{"exactly one KiB", pad("/a?", 1024), pad("/a?", 1024)},
		{"long query", pad("/a?", 1025), "/a"},
		{"long fragment", pad("/a#", 1025), "/a"},
		{"long query after a short fragment", pad("/a#b?", 1025), "/a"},
		{"long query, absolute URL", pad("https://spa.example/a?", 5000), "https://spa.example/a"},
		{"long query behind a path that is not ours", pad("//evil.example/?", 1025), "/default"},
		{"long query behind a foreign origin", pad("https://evil.example/?", 1025), "/default"},
		{"long query behind an auth route", pad("/auth/logout?", 1025), "/default"},
		{"long path", pad("/a", 1025), "/default"},
		{"long path and query", pad("/a", 1025) + "?b", "/default"},
	} {
		if got := p.Resolve(tt.target); got != tt.want {
			t.Errorf("%s: Resolve = %q, want %q", tt.name, got, tt.want)
		}
		if _, ok := p.Check(tt.target); ok != (len(tt.target) <= 1024) {
			t.Errorf("%s: Check accepts %d bytes: %t", tt.name, len(tt.target), ok)
		}
	}
}

func TestDefaultStandsBelowTheBasePath(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ base, def, want string }{
		{"https://rp.example", "", "/"},
		{"https://rp.example", "/", "/"},
		{"https://rp.example/", "/home?a=b", "/home?a=b"},
		{"https://rp.example/base", "", "/base/"},
		{"https://rp.example/base/", "/home", "/base/home"},
		{"http://127.0.0.1:8080", "", "/"},
		{"http://[::1]:8080", "", "/"},
	} {
		p, err := returnto.New(returnto.Options{BaseURL: tt.base, Default: tt.def})
		if err != nil {
			t.Errorf("New(%q, %q): %v", tt.base, tt.def, err)
			continue
		}
		if got := p.Resolve("//evil.example"); got != tt.want {
			t.Errorf("base %q, default %q: %q, want %q", tt.base, tt.def, got, tt.want)
		}
	}
}

func TestLocalPathsCountFromTheRootOfTheOrigin(t *testing.T) {
	t.Parallel()
	p, err := returnto.New(returnto.Options{BaseURL: "https://rp.example/base"})
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/base/account", "/elsewhere", "https://rp.example/elsewhere"} {
		if got := p.Resolve(target); got != target {
			t.Errorf("Resolve(%q) = %q", target, got)
		}
	}
}

func TestAuthRouteMayBeTheRoot(t *testing.T) {
	t.Parallel()
	p, err := returnto.New(returnto.Options{
		BaseURL:     "https://rp.example",
		IsAuthRoute: func(path string) bool { return path == "/" },
		Default:     "/home",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/", "/?code=x", "https://rp.example", "https://rp.example?code=x"} {
		if got := p.Resolve(target); got != "/home" {
			t.Errorf("Resolve(%q) = %q, want /home", target, got)
		}
	}
}

// S33
func TestAuthRouteIsAskedForWithThePathDecodedOnceAndTwice(t *testing.T) {
	t.Parallel()
	var asked []string
	p, err := returnto.New(returnto.Options{
		BaseURL:     "https://rp.example/base",
		IsAuthRoute: func(path string) bool { asked = append(asked, path); return false },
	})
	if err != nil {
		t.Fatal(err)
	}
	asked = nil // of the default
	p.Check("/base/%2541/?x=%2542#%2543")
	if want := []string{"/base/%41", "/base/A"}; !slices.Equal(asked, want) {
		t.Errorf("asked for %q, want %q", asked, want)
	}
}

func TestZeroPolicyRefusesAbsoluteURLs(t *testing.T) {
	t.Parallel()
	var p returnto.Policy
	for _, target := range []string{"https://rp.example/", "", "//evil.example"} {
		if got, ok := p.Check(target); ok || got != "" {
			t.Errorf("Check(%q) = %q, %t", target, got, ok)
		}
	}
}

func TestNewRefusesAndNamesTheRemedy(t *testing.T) {
	t.Parallel()
	isAuth := func(path string) bool { return path == "/auth/login" || path == "/base/auth/login" }
	base := func(s string) returnto.Options { return returnto.Options{BaseURL: s, IsAuthRoute: isAuth} }
	origin := func(s string) returnto.Options {
		return returnto.Options{BaseURL: "https://rp.example", Origins: []string{s}}
	}
	def := func(s string) returnto.Options {
		return returnto.Options{BaseURL: "https://rp.example/base", Default: s, IsAuthRoute: isAuth}
	}
	for _, tt := range []struct {
		name    string
		options returnto.Options
		want    string // in the error
	}{
		{"no base URL", base(""), "base URL: must be like"},
		{"base URL without scheme", base("rp.example"), "base URL: must be like"},
		{"base URL without host", base("https://"), "base URL: must be like"},
		{"base URL without host but a path", base("https:///base"), `base URL: "https://" is no origin`},
		{"base URL is a path", base("/base"), "base URL: must be like"},
		{"base URL with query", base("https://rp.example/base?x"), "without query"},
		{"base URL with fragment", base("https://rp.example/base#x"), "without query"},
		{"base URL in plain http", base("http://rp.example"), "loopback"},
		{"base URL with dot segment", base("https://rp.example/a/.."), "clean local path"},
		{"origin in plain http", origin("http://spa.example"), `"http://spa.example" must begin with "https://"`}, // S33
		{"origin in another scheme", origin("ftp://spa.example"), `must begin with "https://"`},
		{"origin that is a wildcard", origin("https://*.example"), "write the host"},
		{"origin with path", origin("https://spa.example/app"), "without a path"},
		{"origin with trailing slash", origin("https://spa.example/"), "without a path or trailing slash"},
		{"origin with query", origin("https://spa.example?x"), "alone"},
		{"origin in capitals", origin("https://SPA.example"), "lower case"},
		{"origin with scheme in capitals", origin("HTTPS://spa.example"), "lower case"},
		{"origin with default port", origin("https://spa.example:443"), "default port"},
		{"origin with default port of http", origin("http://localhost:80"), "default port"},
		{"origin with empty port", origin("https://spa.example:"), "default port"},
		{"origin with port 0", origin("https://spa.example:0"), "default port"},
		{"origin with padded port", origin("https://spa.example:08443"), "default port"},
		{"origin with port out of range", origin("https://spa.example:70000"), "default port"},
		{"origin not in punycode", origin("https://sp\u00e4.example"), "punycode"},
		{"origin with long IPv6", origin("https://[0:0:0:0:0:0:0:1]"), "write the host"},
		{"origin with IPv6 zone", origin("https://[fe80::1%25eth0]"), "alone"},
		{"origin that is empty", origin(""), "is no origin"},
		{"origin that is null", origin("null"), "is no origin"},
		{"default that is empty after a base path", def("evil"), `default "evil"`},
		{"default on another host", def("//evil.example"), `default "//evil.example"`},
		{"default absolute", def("https://rp.example/"), `default "https://rp.example/"`},
		{"default with dot segment", def("/../x"), `default "/../x"`},
		{"default that is an auth route", def("/auth/login"), "auth route"}, // THR-04
		{"default too long", def("/" + strings.Repeat("x", 1024)), "1024 bytes"},
	} {
		p, err := returnto.New(tt.options)
		if err == nil || p != nil {
			t.Errorf("%s: accepted", tt.name)
		} else if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %q, want %q in it", tt.name, err, tt.want)
		}
	}
}

func TestNewJoinsAllMistakesAndPrintsNoPassword(t *testing.T) {
	t.Parallel()
	_, err := returnto.New(returnto.Options{
		BaseURL: "https://user:hunter2@rp.example",
		Origins: []string{"http://one.example", "https://spa.example", "https://two.example/"},
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"user name or password", "one.example", "two.example"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q, want %q in it", err, want)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %q prints the password", err)
	}
}

func TestAllowHTTPAdmitsPlainHTTP(t *testing.T) {
	t.Parallel()
	p, err := returnto.New(returnto.Options{
		BaseURL: "http://rp.internal:8080", Origins: []string{"http://spa.internal"}, AllowHTTP: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"http://rp.internal:8080/a", "http://spa.internal/a"} {
		if got := p.Resolve(target); got != target {
			t.Errorf("Resolve(%q) = %q", target, got)
		}
	}
}

func TestPolicyKeepsItsOwnCopyOfTheOrigins(t *testing.T) {
	t.Parallel()
	origins := append(make([]string, 0, 2), "https://spa.example") // with room, which append would use
	p, err := returnto.New(returnto.Options{BaseURL: "https://rp.example", Origins: origins})
	if err != nil {
		t.Fatal(err)
	}
	origins[0] = "https://evil.example"
	if _, ok := p.Check("https://evil.example/"); ok {
		t.Error("changing the caller's slice changed the policy")
	}
}
