package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/oidcauth/oidcauth/internal/returnto"
)

// The policy of the corpus in internal/returnto/testdata.
var (
	returnOrigins = []string{"https://rp.example", "https://spa.example", "http://localhost:3000"}
	authRoutes    = []string{"/auth/login", "/auth/callback", "/auth/logout"}
)

func newReturnPolicy(tb testing.TB) *returnto.Policy {
	tb.Helper()
	p, err := returnto.New(returnto.Options{
		BaseURL:     returnOrigins[0],
		Origins:     returnOrigins[1:],
		IsAuthRoute: func(path string) bool { return slices.Contains(authRoutes, path) },
		Default:     "/default",
	})
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// readTargets returns the corpus: requirement C2 and what S33 adds to it.
func readTargets(tb testing.TB) []string {
	tb.Helper()
	f, err := os.Open("../internal/returnto/testdata/corpus.txt")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	var targets []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		_, rest, _ := strings.Cut(lines.Text(), " ")
		if lines.Text() == "" || lines.Text()[0] == '#' {
			continue
		}
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			tb.Fatalf("%s: %v", lines.Text(), err)
		}
		target, _ := strconv.Unquote(quoted)
		targets = append(targets, target)
	}
	if len(targets) < 100 {
		tb.Fatalf("%d targets, want at least 100", len(targets))
	}
	return targets
}

// locations returns what the policy may send for target, as it is and as http.Redirect writes it.
func locations(p *returnto.Policy, target string) []string {
	sent := []string{p.Resolve(target)}
	if got, ok := p.Check(target); ok {
		sent = append(sent, got)
	}
	for _, s := range slices.Clone(sent) {
		w := httptest.NewRecorder()
		http.Redirect(w, httptest.NewRequest("GET", "/auth/callback", nil), s, http.StatusFound)
		sent = append(sent, w.Header().Get("Location"))
	}
	return sent
}

// assertOurs checks where a URL parser says that location leads.
func assertOurs(t *testing.T, target, location, origin, path string) {
	t.Helper()
	if !slices.Contains(returnOrigins, origin) {
		t.Errorf("target %q: %q leads to origin %q", target, location, origin)
	}
	for range 3 {
		if slices.Contains(authRoutes, strings.TrimRight(path, "/")) {
			t.Errorf("target %q: %q leads to auth route %q", target, location, path)
		}
		path = percentDecode(path)
	}
}

// percentDecode decodes as the WHATWG URL standard does: what is no escape stays.
func percentDecode(s string) string {
	var b strings.Builder
	for ; s != ""; s = s[1:] {
		if s[0] == '%' && len(s) > 2 {
			if n, err := strconv.ParseUint(s[1:3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				s = s[2:]
				continue
			}
		}
		b.WriteByte(s[0])
	}
	return b.String()
}

// THR-01: the corpus through the URL parser of a real browser.
func TestReturnToInChromium(t *testing.T) {
	ctx := newChromium(t)
	p := newReturnPolicy(t)

	type link struct{ target, location string }
	var links []link
	var urls []string
	targets := readTargets(t)
	for _, target := range targets {
		for _, location := range locations(p, target) {
			links = append(links, link{target, location})
			urls = append(urls, location)
		}
	}
	for i, got := range resolveInChromium(t, ctx, urls) {
		assertOurs(t, links[i].target, links[i].location, got.Origin, got.Pathname)
	}

	// Where the raw targets lead shows that the browser is the adversary it is taken for.
	hostile := 0
	for _, got := range resolveInChromium(t, ctx, targets) {
		if strings.HasPrefix(got.Origin, "https://evil") {
			hostile++
		}
	}
	if hostile < 15 {
		t.Errorf("chromium takes %d raw targets to evil hosts, want at least 15", hostile)
	}
}

type resolution struct {
	Origin   string `json:"origin"`
	Pathname string `json:"pathname"`
}

// resolveInChromium resolves each of urls as a Location header of the callback would be.
func resolveInChromium(t *testing.T, ctx context.Context, urls []string) []resolution {
	t.Helper()
	argument, err := json.Marshal([]any{urls, returnOrigins[0] + "/auth/callback"})
	if err != nil {
		t.Fatal(err)
	}
	const resolve = `(urls, base) => urls.map(u => {
		try {
			const {origin, pathname} = new URL(u, base)
			return {origin, pathname}
		} catch (e) {
			return {origin: "invalid", pathname: ""}
		}
	})`
	script := "(" + resolve + ")(..." + string(argument) + ")"
	resolved, err := chromedp.Run(ctx, chromedp.Evaluate[[]resolution](script))
	if err != nil {
		t.Fatal(err)
	}
	if len(resolved) != len(urls) {
		t.Fatalf("%d answers for %d URLs", len(resolved), len(urls))
	}
	return resolved
}
