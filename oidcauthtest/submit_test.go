package oidcauthtest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/oidcauthtest"
)

func TestSubmitSendsTheFormOfAButton(t *testing.T) {
	t.Parallel()
	const press = "<button>Go</button></form>"
	const boxes = `<input type=checkbox name=a checked><input type=checkbox name=b>` +
		`<input type=radio name=c value=1><input type=radio name=c value=2 checked>`
	tests := []struct {
		name, page string
		want       string
	}{
		{
			"hidden fields", `<form method="post" action="/x"><input type="hidden" name="b" value="1&amp;2">` +
				`<input name=a value='"'>` + press, "POST /x b=1%262&a=%22",
		},
		{"action of its own page", `<form method="POST"><input name=a>` + press, "POST /dir/page?q a="},
		{"relative action", `<form action="x">` + press, "GET /dir/x"},
		{"GET replaces the query", `<form action="/x?y=1"><input name=a value=1>` + press, "GET /x?a=1"},
		{
			"the button's own value", `<form action="/x" method="post"><button name="do" value="in">In</button>` +
				`<button name="do" value="out">Go</button></form>`, "POST /x do=out",
		},
		{"markup in a button", `<form action="/x"><button> <b>G</b>o` + "\n</button></form>", "GET /x"},
		{"a button that is an input", `<form action="/x"><input type=submit name=a value=Go></form>`, "GET /x?a=Go"},
		{
			"the button's own target", `<form action="/x"><button formaction="/y" formmethod="post">Go</button></form>`,
			"POST /y ",
		},
		{"the second form", `<form action="/x"><button>Stop</button></form><form action="/y">` + press, "GET /y"},
		{"a form in a form is none", `<form action="/x"><form action="/y"><input name=a>` + press, "GET /x?a="},
		{"checked boxes alone", `<form action="/x">` + boxes + press, "GET /x?a=on&c=2"},
		{"text", `<form action="/x"><textarea name=a><b>&amp;</textarea>` + press, "GET /x?a=%3Cb%3E%26"},
		{"nothing disabled", `<form action="/x"><input name=a disabled>` + press, "GET /x"},
		{"nothing without a name", `<form action="/x"><input value=1><button value=2>Go</button></form>`, "GET /x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBrowser(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Sec-Fetch-Site") == "none" {
					html(200, tt.page)(w, r)
					return
				}
				body := make([]byte, r.ContentLength)
				_, _ = r.Body.Read(body)
				fmt.Fprint(w, r.Method, " ", r.URL.RequestURI())
				if r.Method == http.MethodPost {
					fmt.Fprint(w, " ", string(body))
				}
			}))
			got := b.Submit(b.Get("/dir/page?q"), "Go")
			if strings.TrimSuffix(got.Body, "?") != tt.want {
				t.Errorf("sent %q, want %q", got.Body, tt.want)
			}
		})
	}
}

func TestSubmitIsARequestOfThePage(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, policy, page, action string
		want                       string // Origin, Sec-Fetch-Site and Sec-Fetch-User
		cookies                    string
	}{
		{"own page", "", appSite, appSite, appSite + " same-origin ?1", "strict lax unset none"},
		{"own page that sends no referrer", "no-referrer", appSite, appSite, "null same-origin ?1", "strict lax unset none"},
		{"own page by same-origin", "same-origin", appSite, appSite, appSite + " same-origin ?1", "strict lax unset none"},
		{"another site's page", "", evilSite, appSite, evilSite + " cross-site ?1", "none"},
		{"another by same-origin", "same-origin", evilSite, appSite, "null cross-site ?1", "none"},
		{"the last policy known", "origin, no-referrer, x", evilSite, appSite, "null cross-site ?1", "none"},
		{"without https", "", appSite, "http://localhost", "null cross-site ?1", ""},
		{"without https, by policy", "unsafe-url", appSite, "http://localhost", appSite + " cross-site ?1", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pages := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/form" {
					w.Header().Set("Referrer-Policy", tt.policy)
					html(200, `<form method="post" action="`+tt.action+`/x"><button>Go</button></form>`)(w, r)
				}
			})
			b := jarred(t, newBrowser(t, pages))
			b.Host(evilSite, pages)
			b.Host("http://localhost", pages)
			got := b.Submit(b.Get(tt.page+"/form"), "Go")
			h := got.Request.Header
			sent := h.Get("Origin") + " " + h.Get("Sec-Fetch-Site") + " " + h.Get("Sec-Fetch-User")
			if sent != tt.want || cookieNames(got) != tt.cookies {
				t.Errorf("sent %q with the cookies %q, want %q with %q", sent, cookieNames(got), tt.want, tt.cookies)
			}
		})
	}
}

func TestSubmitStopsTheTest(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ page, want string }{
		"no such button":        {`<form><button>Stop</button></form>`, "0 buttons"},
		"a button of no form":   {`<button>Go</button>`, "0 buttons"},
		"an input of no form":   {`<input type="submit" value="Go"><input type="file" name="a">`, "0 buttons"},
		"a button that resets":  {`<form><button type="reset">Go</button></form>`, "0 buttons"},
		"a button for scripts":  {`<form><button type="button">Go</button></form>`, "0 buttons"},
		"a disabled button":     {`<form><button disabled>Go</button></form>`, "0 buttons"},
		"two buttons":           {`<form><button>Go</button></form><form><button>Go</button></form>`, "2 buttons"},
		"a select element":      {`<form><select name="a"></select><button>Go</button></form>`, "with a select element"},
		"files":                 {`<form><input type="file" name="a"><button>Go</button></form>`, "with files"},
		"another encoding":      {`<form enctype="text/plain"><button>Go</button></form>`, "enctype=text/plain"},
		"a dialog":              {`<form method="dialog"><button>Go</button></form>`, "method=dialog"},
		"a script as an action": {`<form action="javascript:x"><button>Go</button></form>`, "cannot go to"},
	} {
		f := &failures{TB: t}
		b := newBrowser(f, html(200, tt.page))
		if !stopped(func() { b.Submit(b.Get("/"), "Go") }) {
			t.Errorf("%s: the test goes on", name)
		}
		f.expect(t, tt.want)
	}
	f := &failures{TB: t}
	b := newBrowser(f, nil)
	nowhere := &oidcauthtest.Response{Body: "<form><button>Go</button></form>"}
	nowhere.Header = http.Header{"Content-Type": {"text/html"}}
	if !stopped(func() { b.Submit(nowhere, "Go") }) {
		t.Error("no page: the test goes on")
	}
	f.expect(t, "the browser shows no page")
}

func TestTheLibrarysQuestionIsAnsweredByItsButton(t *testing.T) { // RIL-03, S26
	t.Parallel()
	client, p := oidcauthtest.NewClient(t)
	b := p.NewBrowser(client.Handler())
	b.SignIn(oidcauthtest.Alice)
	question := b.From(evilSite).Get("/auth/logout")
	if len(b.Cookies("/")) == 0 {
		t.Fatal("signed out without an answer")
	}
	if got := b.Submit(question, "Sign out"); hasSession(b.Cookies("/")) {
		t.Errorf("still signed in, at %s with status %d", got.URL, got.StatusCode)
	}
}
