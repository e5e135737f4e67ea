package op_test

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/oidcauthtest/internal/op"
)

var input = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// formPosted returns the page for response_mode=form_post, and what its form holds.
func formPosted(t *testing.T, p http.Handler, edit func(url.Values)) (*http.Response, url.Values) {
	t.Helper()
	resp := do(p, "GET", "/authorize?"+authorization(func(v url.Values) {
		v.Set("response_mode", "form_post")
		if edit != nil {
			edit(v)
		}
	}).Encode(), nil)
	page := text(t, resp)
	kind := resp.Header.Get("Content-Type")
	if resp.StatusCode != 200 || kind != "text/html; charset=utf-8" || resp.Header.Get("Location") != "" ||
		!strings.Contains(page, `<form method="post" action="`+callback+`">`) ||
		!strings.Contains(page, `onload="document.forms[0].submit()"`) {
		t.Fatalf("status %d, type %q, want a page that posts to the callback:\n%s", resp.StatusCode, kind, page)
	}
	form := url.Values{}
	for _, found := range input.FindAllStringSubmatch(page, -1) {
		form.Add(html.UnescapeString(found[1]), html.UnescapeString(found[2]))
	}
	return resp, form
}

func TestAResponseIsPostedByAForm(t *testing.T) { // FPM-01, Form Post Response Mode 2
	t.Parallel()
	p := newProvider(t)
	resp, form := formPosted(t, p, nil)
	if form.Get("state") != "s" || form.Get("iss") != "https://op.test/" || len(form) != 3 {
		t.Errorf("the form has %v, want code, state and iss", form)
	}
	if got := resp.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q, want no-store", got)
	}
	if got := do(p, "POST", "/token", exchange(form.Get("code"), nil), client); got.StatusCode != 200 {
		t.Errorf("its code: status %d, want tokens", got.StatusCode)
	}
}

func TestAnErrorIsPostedByAForm(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, want string
		edit       func(url.Values)
		change     func(*op.Knobs)
	}{
		{"of the request", "invalid_scope", set("scope", "email"), func(*op.Knobs) {}},
		{"of the provider", "server_error", nil, func(k *op.Knobs) { k.AuthorizeError = "server_error" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newProvider(t)
			p.Change(tt.change)
			_, form := formPosted(t, p, tt.edit)
			if form.Get("error") != tt.want || form.Has("code") || form.Get("state") != "s" {
				t.Errorf("the form has %v, want %s and no code", form, tt.want)
			}
		})
	}
}

func TestWhatAFormPostsIsEditedAndEscaped(t *testing.T) {
	t.Parallel()
	const markup = `"><script>alert('&amp;')</script>`
	p := newProvider(t)
	p.Change(func(k *op.Knobs) {
		k.EditCallback = func(v url.Values) { v.Set(markup, markup); v.Add("state", "t"); v.Del("iss") }
	})
	_, form := formPosted(t, p, set("state", markup))
	if got := form.Get(markup); got != markup {
		t.Errorf("edited to %q, want %q", got, markup)
	}
	if want := []string{markup, "t"}; !slices.Equal(form["state"], want) || form.Has("iss") {
		t.Errorf("the form has %v, want states %q and no iss", form, want)
	}
}

func TestAFormPostGoesOnlyToARegisteredURI(t *testing.T) {
	t.Parallel()
	q := authorization(set("redirect_uri", "https://evil.test/"))
	q.Set("response_mode", "form_post")
	if resp := do(newProvider(t), "GET", "/authorize?"+q.Encode(), nil); resp.StatusCode != 400 ||
		strings.Contains(text(t, resp), "<form") {
		t.Errorf("status %d, want 400 without a form", resp.StatusCode)
	}
}

func TestAFormPostMayHideItsOrigin(t *testing.T) { // FPM-04
	t.Parallel()
	p := newProvider(t)
	for hidden, want := range map[bool]string{false: "", true: "no-referrer"} {
		p.Change(func(k *op.Knobs) { k.NullOrigin = hidden })
		if resp, _ := formPosted(t, p, nil); resp.Header.Get("Referrer-Policy") != want {
			t.Errorf("hidden %t: Referrer-Policy %q, want %q", hidden, resp.Header.Get("Referrer-Policy"), want)
		}
	}
}

func TestTheModesOfAResponse(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	metadata := object(t, do(p, "GET", "/.well-known/openid-configuration", nil))
	if got := fmt.Sprint(metadata["response_modes_supported"]); got != "[query form_post]" {
		t.Errorf("response_modes_supported %s", got)
	}
	if q := authorize(t, p, set("response_mode", "query")); !q.Has("code") {
		t.Errorf("response_mode=query brings %v, want a code", q)
	}
}

func text(t *testing.T, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
