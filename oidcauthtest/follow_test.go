package oidcauthtest_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// everyMode are cookies of every SameSite mode. Their names are what arrives.
var everyMode = []string{
	"strict=; Path=/; Secure; SameSite=Strict", "lax=; Path=/; SameSite=Lax", "unset=; Path=/",
	"none=; Path=/; Secure; SameSite=None",
}

// jarred gives the browser the cookies of everyMode.
func jarred(t *testing.T, b *oidcauthtest.Browser) *oidcauthtest.Browser {
	t.Helper()
	for _, line := range everyMode {
		if err := set(t, b, "/", line); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// cookieNames are those that r was asked with.
func cookieNames(r *oidcauthtest.Response) string {
	return strings.NewReplacer("=", "", ";", "").Replace(r.Request.Header.Get("Cookie"))
}

// steps are the requests that led to r, that to r last.
func steps(r *oidcauthtest.Response) []*oidcauthtest.Response {
	return append(slices.Clone(r.History), r)
}

// html answers with a page.
func html(status int, page string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(status)
		fmt.Fprint(w, page)
	}
}

// signIn is an authorization request of no library.
const signIn = opSite + "/authorize?client_id=test-client&response_type=code&scope=openid&state=s%22%3E%26&nonce=n" +
	"&redirect_uri=https%3A%2F%2Fapp.test%2Fauth%2Fcallback&code_challenge_method=S256" +
	"&code_challenge=0123456789012345678901234567890123456789012"

func TestAFormPostComesAsBrowsersSendIt(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		change     func(*oidcauthtest.Knobs)
		origin     string
		wantFields []string
	}{
		{"a code", func(*oidcauthtest.Knobs) {}, opSite, []string{"code", "iss", "state"}},
		{
			"an error", func(k *oidcauthtest.Knobs) { k.AuthorizeError = "server_error" }, opSite,
			[]string{"error", "iss", "state"},
		},
		{
			"without an origin", func(k *oidcauthtest.Knobs) { k.NullOrigin = true }, "null",
			[]string{"code", "iss", "state"},
		},
		{
			"edited", func(k *oidcauthtest.Knobs) { k.EditCallback = func(v url.Values) { v.Del("iss") } }, opSite,
			[]string{"code", "state"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var posted url.Values
			p := oidcauthtest.NewProvider(t)
			p.Change(tt.change)
			b := jarred(t, p.NewBrowser(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/auth/callback" {
					_ = r.ParseForm()
					posted = r.PostForm
					http.Redirect(w, r, "/home", http.StatusSeeOther)
				}
			})))
			end := b.From(appSite).Get(signIn + "&response_mode=form_post")
			if len(end.History) != 2 {
				t.Fatalf("came to %s after %d steps, want the page and the callback", end.URL, len(end.History))
			}
			var names []string
			for name := range posted {
				names = append(names, name)
			}
			if slices.Sort(names); !slices.Equal(names, tt.wantFields) || posted.Get("state") != `s">&` {
				t.Errorf("posted %q, want %q and the state as it was", posted, tt.wantFields)
			}
			r := end.History[1].Request
			got := []string{r.Method}
			for _, name := range []string{"Origin", "Content-Type", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest"} {
				got = append(got, r.Header.Get(name))
			}
			want := []string{"POST", tt.origin, "application/x-www-form-urlencoded", "cross-site", "navigate", "document"}
			if !slices.Equal(got, want) || r.Header.Get("Sec-Fetch-User") != "" {
				t.Errorf("the callback got %q, user %q, want %q", got, r.Header.Get("Sec-Fetch-User"), want)
			}
			// RFC 6265bis 5.6.7.1, 8.8.6: another site's POST has no Lax cookies (FPM-02).
			if got := cookieNames(end.History[1]); got != "none" {
				t.Errorf("the callback got the cookies %q, want none alone", got)
			}
			// RFC 6265bis 5.2, 8.8.2: the GET of the 303 has, and still no Strict ones (FPM-06).
			if got := cookieNames(end); end.Request.Method != "GET" || got != "lax unset none" {
				t.Errorf("after the callback: %s with the cookies %q, want all but the strict one", end.Request.Method, got)
			}
		})
	}
}

func TestSignInThroughAFormPostCallback(t *testing.T) {
	t.Parallel()
	p := oidcauthtest.NewProvider(t)
	session := &http.Cookie{Name: "__Host-session", Value: "s", Path: "/", Secure: true}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /auth/login", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, signIn+"&response_mode=form_post", http.StatusFound)
	})
	mux.HandleFunc("POST /auth/callback", answer(session, "/"))
	if got := p.NewBrowser(mux).SignIn(oidcauthtest.Alice); got.URL.String() != appSite+"/" || got.StatusCode != 200 {
		t.Errorf("signed in at %s with status %d, want the application", got.URL, got.StatusCode)
	}
}

func TestPagesGoOnByThemselves(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, header, page string
		want               string
	}{
		{"Refresh", "0; url=/next?a=1", "", "GET /next?a=1"},
		{"Refresh that waits", "1; url=/next", "", ""},
		{"Refresh of less than a second", "0.5; url=/next", "", "GET /next"},
		{"Refresh that begins with a point", ".5;url=/next", "", "GET /next"},
		{"Refresh in capitals", "00;URL=/next", "", "GET /next"},
		{"Refresh in quotes", `0; url='/next' x`, "", "GET /next"},
		{"Refresh with a comma", "0, /next", "", "GET /next"},
		{"Refresh with a space", "0 /next", "", "GET /next"},
		{"Refresh to what begins as url does", "0; urls/next", "", "GET /urls/next"},
		{"Refresh without a number", "url=/next", "", ""},
		{"Refresh with something else", "0x; url=/next", "", ""},
		{"meta", "", `<meta http-equiv="refresh" content="0;url=/next?a=1&amp;b=2&copy=3">`, "GET /next?a=1&b=2&copy=3"},
		{"meta in another notation", "", "<META content=0;URL=/next\nHTTP-EQUIV = 'Refresh' />", "GET /next"},
		{"meta that waits", "", `<meta http-equiv="refresh" content="5;url=/next">`, ""},
		{"another meta", "", `<meta http-equiv="x-refresh" content="0;url=/next">`, ""},
		{"two metas", "", `<meta http-equiv=refresh content=0;/next><meta http-equiv=refresh content=0;/x>`, "GET /next"},
		{"header before meta", "0; /next", `<meta http-equiv="refresh" content="0;url=/x">`, "GET /next"},
		{"meta in a comment", "", `<!-- > <meta http-equiv="refresh" content="0;url=/next"> -->`, ""},
		{"meta for those without scripts", "", `<noscript><meta http-equiv=refresh content=0;/next></noscript>`, ""},
		{"meta as text", "", `&lt;meta http-equiv="refresh" content="0;url=/next">`, ""},
		{"meta as a value", "", `<p title='<meta http-equiv="refresh" content="0;url=/next">'>`, ""},
		{"meta in a script", "", `<script>"<meta http-equiv=refresh content=0;/next>"</script >`, ""},
		{"onload", "", `<body onload="document.forms[0].submit()"><form method=post action=/next>`, "POST /next"},
		{"javascript: onload", "", `<body onload="javascript:document.forms[0].submit();"><form action=/next>`, "GET /next?"},
		{"a script", "", `<form action=/next></form><script> window.document.forms[0].submit() </script>`, "GET /next?"},
		{"a script that does more", "", `<form action=/next></form><script>if (x) document.forms[0].submit()</script>`, ""},
		{"a script that goes on", "", `<form action=/next></form><script>document.forms[0].submit();x()</script>`, ""},
		{"a script in a comment", "", `<form action=/next></form><!--<script>document.forms[0].submit()</script>-->`, ""},
		{"onload without a form", "", `<body onload="document.forms[0].submit()">`, ""},
		{"only a form", "", `<form method="post" action="/next"><button>Go</button></form>`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBrowser(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/" {
					return
				}
				if tt.header != "" {
					w.Header().Set("Refresh", tt.header)
				}
				html(http.StatusOK, tt.page)(w, r)
			}))
			end, want := b.Get("/"), []string{"GET /"}
			if tt.want != "" {
				want = append(want, tt.want)
			}
			var got []string
			for _, step := range steps(end) {
				got = append(got, step.Request.Method+" "+step.URL.RequestURI())
			}
			if strings.Join(got, ", ") != strings.TrimSuffix(strings.Join(want, ", "), "?") {
				t.Errorf("visited %q, want %q", got, want)
			}
		})
	}
}

func TestOnlyPagesGoOn(t *testing.T) {
	t.Parallel()
	refresh := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				w.Header().Set("Refresh", "0; url=/next")
				w.WriteHeader(status)
			}
		}
	}
	meta := func(kind string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", kind)
			if r.URL.Path == "/" {
				fmt.Fprint(w, `<meta http-equiv="refresh" content="0;url=/next">`)
			}
		}
	}
	stay := func(b *oidcauthtest.Browser) *oidcauthtest.Response { return b.NoRedirects().Get("/") }
	tests := []struct {
		name string
		h    http.HandlerFunc
		do   visit
		want string
	}{
		{"a page", refresh(200), get("/"), "/next"},
		{"an error page", refresh(401), get("/"), "/next"},
		{"the answer to a form", refresh(200), post("/"), "/next"},
		{"a page in a frame", refresh(200), frame("/"), "/next"},
		{"no content", refresh(204), get("/"), "/"},
		{"what a script got", refresh(200), fetch("/"), "/"},
		{"for a browser that stays", refresh(200), stay, "/"},
		{"meta in XHTML", meta("application/xhtml+xml"), get("/"), "/next"},
		{"meta in text", meta("text/plain"), get("/"), "/"},
		{"meta in JSON", meta("application/json"), get("/"), "/"},
		{"meta of no type", meta("?"), get("/"), "/"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.do(newBrowser(t, tt.h)).URL.Path; got != tt.want {
				t.Errorf("the browser is at %s, want %s", got, tt.want)
			}
		})
	}
}

// RFC 6265bis 5.2, 8.8.2, FPM-06, S42: what the application's own page begins is of the same site again, however the
// browser came to that page.
func TestARefreshIsANavigationOfItsPage(t *testing.T) {
	t.Parallel()
	const all, lax, none = "strict lax unset none", "lax unset none", "none"
	tests := []struct {
		name       string
		do         visit
		at, landed string // the cookies before and after the refresh
		site       string
	}{
		{"address bar", get("/land"), all, all, "same-origin"},
		{"another site's link", from(evilSite, get("/land")), lax, all, "same-origin"},
		{"another site's form", from(evilSite, post("/land")), none, all, "same-origin"},
		{"another site's redirect", from(appSite, get(opSite+"/?to="+appSite+"/land")), lax, all, "same-origin"},
		{"another site's link, redirected", from(evilSite, get("/?to=/land")), lax, all, "same-origin"},
		{"in another site's frame", from(evilSite, frame("/land")), none, none, "same-origin"},
		{"from another site's page", get(opSite + "/land"), "", lax, "cross-site"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pages := redirector(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/land" {
					w.Header().Set("Refresh", "0; url="+appSite+"/home")
				}
			})
			b := jarred(t, newBrowser(t, pages))
			b.Host(opSite, pages)
			end := tt.do(b)
			if len(end.History) == 0 || end.URL.String() != appSite+"/home" {
				t.Fatalf("the browser is at %s, want /home", end.URL)
			}
			if got := cookieNames(end.History[len(end.History)-1]); got != tt.at {
				t.Errorf("cookies of the page %q, want %q", got, tt.at)
			}
			if got := cookieNames(end); got != tt.landed {
				t.Errorf("cookies of what follows %q, want %q", got, tt.landed)
			}
			h := end.Request.Header
			if h.Get("Sec-Fetch-Site") != tt.site || h.Get("Sec-Fetch-Mode") != "navigate" || h.Get("Sec-Fetch-User") != "" {
				t.Errorf("sent %v, want a navigation of %s without the user", h, tt.site)
			}
			if want := end.History[0].Request.Header.Get("Sec-Fetch-Dest"); h.Get("Sec-Fetch-Dest") != want {
				t.Errorf("Sec-Fetch-Dest %q, want %q as before", h.Get("Sec-Fetch-Dest"), want)
			}
		})
	}
}

func TestPagesGoOnTwentyTimes(t *testing.T) {
	t.Parallel()
	loops := map[string]http.HandlerFunc{
		"reload": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Refresh", "0") },
		"form":   html(200, `<body onload="document.forms[0].submit()"><form method="post">`),
		"meta and redirect": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/a" {
				http.Redirect(w, r, "/", http.StatusFound)
				return
			}
			html(200, `<meta http-equiv="refresh" content="0;url=/a">`)(w, r)
		},
	}
	for name, h := range loops {
		f := &failures{TB: t}
		got := newBrowser(f, h).Get("/dir/page?q")
		if len(got.History) != 20 {
			t.Errorf("%s: %d steps, want 20", name, len(got.History))
		}
		if want := "/dir/page?q"; name == "reload" && got.URL.RequestURI() != want {
			t.Errorf("reloading came to %s, want %s", got.URL, want)
		}
		f.expect(t, "over 20 redirects")
	}
}

func TestAPageThatLeadsNowhereFails(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{
		"refresh": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Refresh", "0; url=javascript:alert(1)") },
		"form":    html(200, `<body onload="document.forms[0].submit()"><form action="data:,x">`),
		"files":   html(200, `<body onload="document.forms[0].submit()"><form><input type="file" name="f">`),
	} {
		f := &failures{TB: t}
		newBrowser(f, h).Get("/?secret=1")
		f.expect(t, "https://app.test/ leads nowhere")
		if strings.Contains(strings.Join(f.list, ""), "secret") {
			t.Errorf("%s: the failure tells the query: %q", name, f.list)
		}
	}
}

func TestALinkOfAnotherSiteLeadsToTheLogin(t *testing.T) {
	t.Parallel()
	client, p := oidcauthtest.NewClient(t)
	got := p.NewBrowser(client.Handler()).From(evilSite).NoRedirects().Get("/auth/login")
	h := got.Request.Header
	kind := h.Get("Sec-Fetch-Site") + " " + h.Get("Sec-Fetch-Mode") + " " + h.Get("Sec-Fetch-Dest")
	if kind != "cross-site navigate document" || h.Get("Origin") != "" {
		t.Errorf("sent %q with Origin %q", kind, h.Get("Origin"))
	}
}

func FuzzPage(f *testing.F) {
	f.Add("0; url=/x", `<meta http-equiv=refresh content="0;url=/y">`)
	f.Add("", `<body onload="document.forms[0].submit()"><form method=post action="/x"><input name=a value="&quot;">`)
	f.Add("", `<form><button name=a>Go</button><textarea name=b></textarea><!-- <select> --></form>`)
	f.Add("0;'", "<script><noscript></script <a b='")
	f.Add("", "<!--><!--->< </ <a/=x =y z==")
	f.Fuzz(func(t *testing.T, header, page string) {
		quiet := &failures{TB: t} // what a browser cannot do fails; the properties are below
		asked := 0
		b := newBrowser(quiet, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked++
			w.Header().Set("Refresh", header)
			html(200, page)(w, r)
		}))
		first := b.NoRedirects().Get("/")
		end := b.Get("/")
		if asked > 22 || len(end.History) > 20 {
			t.Errorf("%d requests", asked)
		}
		for _, step := range steps(end) {
			if step.URL.Host == "" || step.URL.Scheme != "https" && step.URL.Scheme != "http" {
				t.Errorf("the browser went to %q", step.URL)
			}
		}
		stopped(func() { b.NoRedirects().Submit(first, "Go") })
		for _, failure := range quiet.list {
			if strings.Contains(failure, "panicked") {
				t.Error(strconv.Quote(failure))
			}
		}
	})
}
