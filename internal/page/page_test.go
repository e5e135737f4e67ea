package page_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/caching"
	"github.com/oidcauth/oidcauth/internal/page"
)

// show answers with p as the library's routes do.
func show(p page.Page) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	caching.Protect(w.Header())
	page.Write(w, http.StatusBadRequest, p)
	return w
}

var (
	message = page.Page{
		Title: "Sign-in problem", Text: "Please try again.", Code: "invalid_state",
		Links: []page.Link{{Text: "Try again", URL: "/auth/login"}},
	}
	question = page.Page{
		Title: "Sign out?", Text: "Another site asks.",
		Form:  &page.Form{Action: "/auth/logout", Button: "Sign out", Fields: map[string]string{"returnTo": "/bye"}},
		Links: []page.Link{{Text: "Stay", URL: "/"}},
	}
)

// directives takes a Content-Security-Policy apart.
func directives(t *testing.T, h http.Header) map[string]string {
	t.Helper()
	found := map[string]string{}
	for part := range strings.SplitSeq(h.Get("Content-Security-Policy"), ";") {
		name, sources, _ := strings.Cut(strings.TrimSpace(part), " ")
		if _, twice := found[name]; twice || name == "" {
			t.Errorf("the policy is malformed: %q", h["Content-Security-Policy"])
		}
		found[name] = sources
	}
	return found
}

// HYG-01, HYG-03, BCP-11, S12, S27
func TestHeadersOfAPage(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		page     page.Page
		referrer string
	}{
		"message":  {message, "no-referrer"},
		"question": {question, "same-origin"}, // no-referrer would make Origin null, and our own check refuses it
	} {
		w := show(tt.page)
		for field, want := range map[string]string{
			"Content-Type":                 "text/html; charset=utf-8",
			"Cache-Control":                "private, no-store",
			"Vary":                         "Cookie",
			"X-Content-Type-Options":       "nosniff",
			"X-Frame-Options":              "DENY",
			"Referrer-Policy":              tt.referrer,
			"Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := w.Result().Header.Values(field); !slices.Equal(got, []string{want}) {
				t.Errorf("%s: %s: %q, want %q", name, field, got, want)
			}
		}
		if w.Code != http.StatusBadRequest {
			t.Errorf("%s: status %d", name, w.Code)
		}
	}
}

// HYG-03, BCP-11: nothing is loaded, framed or run. The style sheet is admitted by its hash.
func TestPolicyOfAPage(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]page.Page{"message": message, "question": question} {
		w := show(p)
		got := directives(t, w.Result().Header)
		_, rest, _ := strings.Cut(w.Body.String(), "<style>")
		sheet, _, ok := strings.Cut(rest, "</style>")
		sum := sha256.Sum256([]byte(sheet))
		want := map[string]string{
			"default-src": "'none'", "frame-ancestors": "'none'", "base-uri": "'none'",
			"style-src": "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'",
		}
		if p.Form == nil {
			want["form-action"] = "'none'"
		}
		// With a form there is none: Chromium holds the redirect to the provider against it, and the button does nothing.
		for directive := range want {
			if got[directive] != want[directive] {
				t.Errorf("%s: %s %s, want %s", name, directive, got[directive], want[directive])
			}
		}
		if len(got) != len(want) || !ok {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
		for _, part := range []string{" style=", "<script", "<link", "<img", "url(", "@import", "://"} {
			if strings.Contains(w.Body.String(), part) {
				t.Errorf("%s: the page has %q, which its policy does not admit", name, part)
			}
		}
	}
}

// HYG-03: answers for programs.
func TestHeadersOfJSON(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	caching.Protect(w.Header())
	body := map[string]string{"error": "unauthenticated", "error_description": "<script>&\u2028"}
	page.JSON(w, http.StatusUnauthorized, body)
	for field, want := range map[string]string{
		"Content-Type":            "application/json",
		"Cache-Control":           "private, no-store",
		"Vary":                    "Cookie",
		"X-Content-Type-Options":  "nosniff",
		"Referrer-Policy":         "no-referrer",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
	} {
		if got := w.Result().Header.Values(field); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q, want %q", field, got, want)
		}
	}
	const want = `{"error":"unauthenticated","error_description":"\u003cscript\u003e\u0026\u2028"}` + "\n"
	if w.Code != http.StatusUnauthorized || w.Body.String() != want {
		t.Errorf("got %d %s, want %s", w.Code, w.Body, want)
	}
}

// A hook may return anything: an answer that cannot be written is no 200 without a body.
func TestJSONOfWhatCannotBeEncoded(t *testing.T) {
	t.Parallel()
	for _, v := range []any{
		func() {}, math.NaN(), make(chan int), json.RawMessage("{"), map[string]any{"a": math.Inf(1)},
	} {
		w := httptest.NewRecorder()
		page.JSON(w, http.StatusOK, v)
		if w.Code != http.StatusInternalServerError || w.Body.String() != `{"error":"server_error"}`+"\n" {
			t.Errorf("%T: got %d %q", v, w.Code, w.Body)
		}
	}
}

func TestWhatAPageShows(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		page      page.Page
		has, lack []string
	}{
		"message": {
			message,
			[]string{
				"<title>Sign-in problem</title>", "<h1>Sign-in problem</h1>", "<p>Please try again.</p>",
				"<small>Code: invalid_state</small>",
				`<a href="/auth/login">Try again</a>`, `<html lang="en">`, `<meta name="robots" content="noindex">`,
			},
			[]string{"<form", "<input", "<button"},
		},
		"question": {
			question,
			[]string{
				`<form method="post" action="/auth/logout">`, `<input type="hidden" name="returnTo" value="/bye">`,
				"<button>Sign out</button>",
				`<a href="/">Stay</a>`,
			},
			[]string{"<small"},
		},
		"nothing": {page.Page{}, []string{"<h1></h1>"}, []string{"<form", "<a ", "<small"}},
	} {
		body := show(tt.page).Body.String()
		for _, part := range tt.has {
			if !strings.Contains(body, part) {
				t.Errorf("%s: %q is missing", name, part)
			}
		}
		for _, part := range tt.lack {
			if strings.Contains(body, part) {
				t.Errorf("%s: %q is there", name, part)
			}
		}
	}
}

var (
	tag   = regexp.MustCompile(`<[^>]*>`)
	value = regexp.MustCompile(`"[^"]*"`)
)

// skeleton is a document without texts and attribute values.
func skeleton(doc string) []string {
	tags := tag.FindAllString(doc, -1)
	for i := range tags {
		tags[i] = value.ReplaceAllString(tags[i], `""`)
	}
	return tags
}

// HYG-03: whatever the texts are, the document keeps its shape.
func TestTextsAreEscaped(t *testing.T) {
	t.Parallel()
	filled := func(s string) page.Page {
		return page.Page{
			Title: s, Text: s, Code: s, Links: []page.Link{{Text: s, URL: s}},
			Form: &page.Form{Action: s, Button: s, Fields: map[string]string{"name": s, s: "value"}},
		}
	}
	want := skeleton(show(filled("harmless")).Body.String())
	for _, s := range []string{
		"<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "'><svg/onload=alert(1)>",
		`" autofocus onfocus="alert(1)`, "</title><script>",
		"</style><b>", "<!--", "-->", "{{.Title}}", "&lt;script&gt;<b>", "\x00<b>", "` onmouseover=alert(1) `",
		"a onclick=alert(1) b", "\xff\"<b>",
		"javascript:alert(1)//\">", "<a href=x>", "]]><b>", "\u2028<b>", "+ADw-script+AD4-<b>",
	} {
		if got := skeleton(show(filled(s)).Body.String()); !slices.Equal(got, want) {
			t.Errorf("%q changes the page:\n%q\n%q", s, got, want)
		}
	}
}

// Callers check URLs; that a scheme runs a script is caught here all the same.
func TestLinksRunNothing(t *testing.T) {
	t.Parallel()
	for _, target := range []string{
		"javascript:alert(1)", "JavaScript:alert(1)", " javascript:alert(1)", "java\nscript:alert(1)",
		"data:text/html,<script>alert(1)</script>", "vbscript:x",
	} {
		body := show(page.Page{Links: []page.Link{{Text: "x", URL: target}}, Form: &page.Form{Action: target}}).Body.String()
		_, rest, _ := strings.Cut(strings.ToLower(body), "</style>")
		if strings.Contains(rest, "script:") || strings.Contains(rest, "data:") {
			t.Errorf("%q is in the page", target)
		}
	}
}
