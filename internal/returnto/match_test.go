package returnto_test

import (
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/returnto"
)

const (
	exact  = "https://x.example/bye"
	prefix = "https://x.example/app/*"
	host   = "https://x.example/*"
)

type matchRow struct {
	pattern, target string
	want            bool
}

func testMatch(t *testing.T, rows []matchRow) {
	t.Helper()
	t.Parallel()
	for _, row := range rows {
		if got := returnto.Match(row.pattern, row.target); got != row.want {
			t.Errorf("Match(%q, %q) = %t", row.pattern, row.target, got)
		}
	}
}

func TestMatchComparesOriginThenSegments(t *testing.T) {
	testMatch(t, []matchRow{
		{exact, "https://x.example/bye", true},
		{exact, "https://x.example/bye/", false},
		{exact, "https://x.example/bye?a=b", false},
		{exact, "https://x.example/by%65", false},
		{exact, "https://x.example", false},
		{exact, "https://X.example/bye", false},
		{exact, "http://x.example/bye", false},
		{exact, "/bye", false},
		{exact, "", false},
		{"https://x.example", "https://x.example", true},
		{"https://x.example", "https://x.example/", false},
		{"https://x.example/bye?a=b", "https://x.example/bye?a=b", true},

		{prefix, "https://x.example/app/", true},
		{prefix, "https://x.example/app/bye", true},
		{prefix, "https://x.example/app/bye/now?a=b#c", true},
		{prefix, "https://x.example/%61pp/bye", true},
		{prefix, "https://x.example/app/a%2Fb", true},
		{"https://x.example/caf%C3%A9/*", "https://x.example/caf%c3%a9/bye", true},
		{prefix, "https://x.example/app", false},
		{prefix, "https://x.example/app?/", false},
		{prefix, "https://x.example/app#/bye", false},
		{prefix, "https://x.example/apple/bye", false},
		{prefix, "https://x.example/application", false},
		{prefix, "https://x.example/APP/bye", false},
		{prefix, "https://x.example/bye?/app/bye", false},
		{"https://x.example/a%3F/*", "https://x.example/a%3f/bye", true},
		{"https://x.example/a%3F/*", "https://x.example/a?/bye", false},
		{prefix, "https://x.example/a/app/bye", false},
		{prefix, "http://x.example/app/bye", false},
		{prefix, "https://x.example:8443/app/bye", false},
		{prefix, "https://x.example.evil/app/bye", false},
		{prefix, "https://x.example@evil.example/app/bye", false},
		{prefix, "https://evil.example/app/bye", false},
		{prefix, "//x.example/app/bye", false},
		{prefix, "/app/bye", false},

		{host, "https://x.example/", true},
		{host, "https://x.example/a/b", true},
		{host, "https://x.example", true},
		{host, "https://x.example.evil/", false},
		{host, "https://x.example:443/", false},
	})
}

// S33, item 3: encoded or not, once and twice.
func TestMatchRefusesPathsThatMayLeaveThePrefix(t *testing.T) {
	testMatch(t, []matchRow{
		{prefix, "https://x.example/app/../admin", false},
		{prefix, "https://x.example/app/%2e%2e/admin", false},
		{prefix, "https://x.example/app/.%2E/admin", false},
		{prefix, "https://x.example/app/%252e%252e/admin", false},
		{prefix, "https://x.example/app/..%2fadmin", false},
		{prefix, "https://x.example/app/x%2f..%2f..%2fadmin", false},
		{prefix, "https://x.example/app/./bye", false},
		{prefix, "https://x.example/app/%2e/bye", false},
		{prefix, "https://x.example/app/..", false},
		{prefix, `https://x.example/app/..\admin`, false},
		{prefix, `https://x.example/app\bye`, false},
		{prefix, "https://x.example/app/%5cadmin", false},
		{prefix, "https://x.example/app/%255cadmin", false},
		{prefix, "https://x.example/app/\t../admin", false},
		{prefix, "https://x.example/app/%0d%0a", false},
		{prefix, "https://x.example/app/%00", false},
		{prefix, "https://x.example/app//bye", false},
		{prefix, "https://x.example/app%2fbye", false},
		{prefix, "https://x.example/app%2fbye/x", false},
		{prefix, "https://x.example/app/caf\u00e9", false},
	})
}

func TestMatchTakesNothingElseForAPattern(t *testing.T) {
	testMatch(t, []matchRow{
		{"https://*.example/*", "https://x.example/bye", false},
		{"https://x.example*", "https://x.example.evil", false},
		{"https://x.example/app*", "https://x.example/apple", false},
		{"https://x.example/*/bye", "https://x.example/app/bye", false},
		{"https://x.example/app?/*", "https://x.example/app?/bye", false},
		{"https://x.example/app/../*", "https://x.example/bye", false},
		{"https://x.example/app/../bye", "https://x.example/app/../bye", false},
		{"*", "https://x.example/bye", false},
		{"/*", "/bye", false},
		{"", "", false},
		{"javascript:alert(1)", "javascript:alert(1)", false},
		{"javascript://x.example/*", "javascript://x.example/%0aalert(1)", false},
	})
}

func TestCheckPatternNamesTheRemedy(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern   string
		allowHTTP bool
		want      string // in the error; empty: accepted
	}{
		{"https://x.example/bye", false, ""},
		{"https://x.example/*", false, ""},
		{"https://x.example", false, ""},
		{"http://localhost:3000/*", false, ""},
		{"http://x.example/bye", true, ""},
		{"http://x.example/bye", false, "https://"},
		{"/bye", false, "absolute URL"},
		{"com.example.app:/bye", false, "absolute URL"},
		{"https://x.example/app?/*", false, "must end a path"},
		{"https://x.example/app/%2e%2e/*", false, "segments"},
		{"https://x.example:443/*", false, "default port"},
		{"https://user:hunter2@x.example/*", false, "user name or password"},
		{"https://user:hunter2 x@x.example/*", false, "user name or password"},
	} {
		err := returnto.CheckPattern(tt.pattern, tt.allowHTTP)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("CheckPattern(%q): %v", tt.pattern, err)
		case tt.want != "" && err == nil:
			t.Errorf("CheckPattern(%q): accepted", tt.pattern)
		case tt.want != "" && !strings.Contains(err.Error(), tt.want):
			t.Errorf("CheckPattern(%q): %q, want %q in it", tt.pattern, err, tt.want)
		case tt.want != "" && strings.Contains(err.Error(), "hunter2"):
			t.Errorf("CheckPattern(%q) prints the password", tt.pattern)
		}
	}
}

// A target that matches a prefix stays below it in a browser.
func FuzzMatch(f *testing.F) {
	const origin, below = "https://x.example", "/app/"
	for _, row := range readCorpus(f) {
		f.Add(origin + below + row.target)
		f.Add(row.target)
	}
	f.Fuzz(func(t *testing.T, target string) {
		if !returnto.Match(prefix, target) {
			return
		}
		gotOrigin, path := browse("https://rp.example", target)
		for range 3 {
			if gotOrigin != origin || !strings.HasPrefix(percentDecode(path), below) || strings.Contains(path, "/../") {
				t.Errorf("%q leads a browser to %q %q", target, gotOrigin, path)
			}
			path = percentDecode(path)
		}
	})
}
