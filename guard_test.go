package oidcauth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// A kind is a way in which requests are made: with the headers that browsers of today, older ones and programs send.
type kind struct {
	name, method string
	header       []string
	answer       int // of a guard without a session
}

const html = "text/html,application/xhtml+xml,*/*;q=0.8"

// metadata is what a browser says of a request.
func metadata(site, mode, dest string, more ...string) []string {
	accept := "*/*"
	if mode == "navigate" {
		accept = html
	}
	return append([]string{"Sec-Fetch-Site", site, "Sec-Fetch-Mode", mode, "Sec-Fetch-Dest", dest, "Accept", accept}, more...)
}

// socket is what a browser says of a WebSocket handshake.
func socket(site, origin string) []string {
	return metadata(site, "websocket", "websocket", "Upgrade", "websocket", "Origin", origin)
}

var kinds = []kind{
	{"a typed address", "GET", metadata("none", "navigate", "document"), 302},
	{"a link on a page of ours", "GET", metadata("same-origin", "navigate", "document"), 302},
	{"a link on another site", "GET", metadata("cross-site", "navigate", "document"), 302},
	{"an older browser's navigation", "GET", []string{"Accept", html}, 302},
	{"a form", "POST", metadata("same-origin", "navigate", "document", "Origin", "https://app.test"), 303},
	{"an older browser's form", "POST", []string{"Accept", html, "Origin", "https://app.test"}, 303},
	{"a script's fetch", "GET", metadata("same-origin", "cors", "empty"), 401},
	{"a script's fetch that wants a page", "GET", metadata("same-origin", "cors", "empty", "Accept", html), 401},
	{"a script's POST", "POST", metadata("same-origin", "cors", "empty", "Origin", "https://app.test"), 401},
	{"an image", "GET", metadata("same-origin", "no-cors", "image"), 401},
	{"an older browser's XMLHttpRequest", "GET", []string{"Accept", "application/json"}, 401},
	{"an older browser's XMLHttpRequest for a page", "GET", []string{"Accept", html, "X-Requested-With", "XMLHttpRequest"}, 401},
	{"an older browser's event stream", "GET", []string{"Accept", "text/event-stream"}, 401}, // lesson 38
	{"curl", "GET", []string{"Accept", "*/*"}, 401},
	{"a request with no header at all", "GET", nil, 401},
	{"HEAD of an address", "HEAD", metadata("none", "navigate", "document"), 401},
	{"HEAD of an older browser", "HEAD", []string{"Accept", html}, 401},
	{"a prefetch", "GET", metadata("same-origin", "navigate", "document", "Sec-Purpose", "prefetch"), 401},
	{"a prerender", "GET", metadata("same-origin", "navigate", "document", "Sec-Purpose", "prefetch;prerender"), 401},
	{"an older prefetch", "GET", []string{"Accept", html, "Purpose", "prefetch"}, 401},
	{"an older prefetch of Firefox", "GET", []string{"Accept", html, "X-Moz", "prefetch"}, 401},
	{"a frame", "GET", metadata("same-origin", "navigate", "iframe"), 401},
	{"another site's frame", "GET", metadata("cross-site", "navigate", "iframe"), 401},
	{"a WebSocket of ours", "GET", socket("same-origin", "https://app.test"), 401},
	{"a WebSocket of another site", "GET", socket("cross-site", "https://evil.test"), 403},
	{"another site's form", "POST", metadata("cross-site", "navigate", "document", "Origin", "https://evil.test"), 403},
	{"a sibling's script", "POST", metadata("same-site", "cors", "empty", "Origin", "https://blog.app.test"), 403},
}

// behaviour.md 5 and 1; lessons 11 and 28, THR-44, THR-62.
func TestGuardsAnswerByKindOfRequestAndSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		expired := a.cookies(t, oidcauthtest.Alice)
		time.Sleep(day)
		sessions := map[string]string{
			"no": "", "an expired": expired, "a broken": "__Host-session=broken.session",
			"a valid": a.cookies(t, oidcauthtest.Alice),
		}
		guards := map[string]func(http.Handler) http.Handler{
			"RequireAuth": a.RequireAuth, "RequireAuthAPI": a.RequireAuthAPI,
			"RequireAuthWith": a.RequireAuthWith(oidcauth.RequireOptions{}),
		}
		for guard, around := range guards {
			h := around(a.mux)
			for session, cookie := range sessions {
				for _, kind := range kinds {
					want := kind.answer
					switch {
					case want != 403 && session == "a valid":
						want = 200
					case want < 400 && guard == "RequireAuthAPI":
						want = 401
					}
					resp := ask(h, kind.method, "/page", append(kind.header, "Cookie", cookie)...)
					if resp.StatusCode != want {
						t.Errorf("%s answers %s with %s session: %d, want %d", guard, kind.name, session, resp.StatusCode, want)
					}
					checkAnswer(t, kind, resp)
				}
			}
		}
	})
}

// checkAnswer holds the answers of a guard to what is promised of all of their status.
func checkAnswer(t *testing.T, kind kind, resp *http.Response) {
	t.Helper()
	text, location := body(resp), resp.Header.Get("Location")
	switch resp.StatusCode {
	case 200:
		if kind.method != "HEAD" && text != "alice" {
			t.Errorf("%s: the page says %q", kind.name, text)
		}
	case 302, 303:
		if !strings.HasPrefix(location, "https://op.test/authorize?") || len(resp.Header["Set-Cookie"]) != 1 {
			t.Errorf("%s: sent to %.40s with %d cookies", kind.name, location, len(resp.Header["Set-Cookie"]))
		}
	case 401:
		var answer struct {
			Error    string `json:"error"`
			LoginURL string `json:"login_url"`
		}
		if resp.Header.Get("WWW-Authenticate") != "Cookie" || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: a 401 with %q and %q", kind.name, resp.Header.Get("WWW-Authenticate"), resp.Header.Get("Content-Type"))
			return
		}
		err := json.Unmarshal([]byte(text), &answer)
		if err != nil || answer.Error != "unauthenticated" || answer.LoginURL != "/auth/login" {
			t.Errorf("%s: the 401 says %s", kind.name, text)
		}
	}
	if resp.StatusCode >= 400 && (location != "" || len(resp.Header["Set-Cookie"]) > 0) {
		t.Errorf("%s: a %d with a redirect or a cookie", kind.name, resp.StatusCode)
	}
	vary := strings.Join(resp.Header["Vary"], ",")
	if got := resp.Header.Get("Cache-Control"); got != "private, no-store" || !strings.Contains(vary, "Cookie") {
		t.Errorf("%s: a %d with Cache-Control %q and Vary %q", kind.name, resp.StatusCode, got, resp.Header["Vary"])
	}
}

// behaviour.md 5.
func TestACheckDecidesAboutASession(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	cookie := a.cookies(t, oidcauthtest.Alice)
	navigation, fetch := metadata("none", "navigate", "document"), metadata("same-origin", "cors", "empty")
	unpaid := &oidcauth.Error{Status: 402, Code: "unpaid", Public: "Please pay.", Err: errors.New("secret-reason")}
	unsure := &oidcauth.Error{Status: 402, Code: "unpaid", Err: oidcauth.ErrLoginRequired}
	for _, tt := range []struct {
		name       string
		err        error
		page, call int
		code       string
	}{
		{"lets through", nil, 200, 200, ""},
		{"refuses", errors.New("not an editor, says secret-reason"), 403, 403, "forbidden"},
		{"has no session of its own", oidcauth.ErrNoSession, 403, 403, "forbidden"},
		{"wants a new login", oidcauth.ErrLoginRequired, 302, 401, "login_required"},
		{"wants a new login and says why", fmt.Errorf("secret-reason: %w", oidcauth.ErrLoginRequired), 302, 401, "login_required"},
		{"brings its own answer with such a cause", unsure, 402, 402, "unpaid"},
		{"brings its own answer", unpaid, 402, 402, "unpaid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			check := func(_ *http.Request, s *oidcauth.Session) error {
				if s.Subject != "alice" {
					t.Errorf("Check sees the session of %s", s.Subject)
				}
				return tt.err
			}
			page := a.RequireAuthWith(oidcauth.RequireOptions{Check: check})(a.mux)
			api := a.RequireAuthWith(oidcauth.RequireOptions{Check: check, API: true})(a.mux)
			for name, got := range map[string]*http.Response{
				"a navigation":             ask(page, "GET", "/", append(navigation, "Cookie", cookie)...),
				"a fetch":                  ask(page, "GET", "/", append(fetch, "Cookie", cookie)...),
				"a navigation to an API":   ask(api, "GET", "/", append(navigation, "Cookie", cookie)...),
				"a fetch through two ones": ask(a.RequireAuth(page), "GET", "/", append(fetch, "Cookie", cookie)...),
			} {
				want := tt.call
				if name == "a navigation" {
					want = tt.page
				}
				text := body(got)
				if got.StatusCode != want || want >= 400 && !strings.Contains(text, tt.code) {
					t.Errorf("%s: %d %s, want %d %s", name, got.StatusCode, text, want, tt.code)
				}
				if strings.Contains(text, "secret-reason") {
					t.Errorf("%s: the cause is shown", name)
				}
			}
		})
	}
	never := a.RequireAuthWith(oidcauth.RequireOptions{Check: func(*http.Request, *oidcauth.Session) error {
		t.Error("Check is asked about a request without a session, or from another site")
		return nil
	}})(a.mux)
	ask(never, "GET", "/")
	ask(never, "POST", "/", append(metadata("cross-site", "cors", "empty", "Origin", "https://evil.test"), "Cookie", cookie)...)
}

// behaviour.md 5: a second login that brings no better session is a 403 and no circle. Lesson 20.
func TestACheckThatIsNeverSatisfiedDoesNotGoInCircles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		guard := a.RequireAuthWith(oidcauth.RequireOptions{
			Check: func(*http.Request, *oidcauth.Session) error { return oidcauth.ErrLoginRequired },
		})
		a.mux.Handle("/admin/", guard(a.mux))
		logins := func() int { return a.op.Count("token") }
		for _, step := range []struct {
			name   string
			target string
			after  time.Duration
			logins int
		}{
			{"the first visit", "/admin/users?page=2", 0, 2}, // without a session, then because of the Check
			{"a reload", "/admin/users?page=2", time.Minute, 2},
			{"a fetch-like reload of another page of it", "/admin/users", time.Minute, 2},
			{"a page beside it", "/admin/rights", 0, 3},
			{"a reload just before five minutes", "/admin/rights", 5*time.Minute - time.Second, 3},
			{"a reload after five minutes", "/admin/rights", time.Second, 4},
		} {
			time.Sleep(step.after)
			resp := a.browser.Get(step.target)
			if resp.StatusCode != 403 || errorCode(resp) != "login_denied" || logins() != step.logins {
				t.Errorf("%s: %d %s after %d logins, want %d", step.name, resp.StatusCode, errorCode(resp), logins(), step.logins)
			}
			if got := resp.URL.RequestURI(); got != step.target {
				t.Errorf("%s ends at %s", step.name, got)
			}
		}
	})
}

// behaviour.md 5, THR-02: back to where the user was, by a way that shows in no URL.
func TestAGuardBringsTheUserBack(t *testing.T) {
	t.Parallel()
	none := func(*oidcauth.Options) {}
	under := func(o *oidcauth.Options) { o.BaseURL = "https://app.test/app" }
	stripped := func(o *oidcauth.Options) { o.BaseURL, o.PrefixStripped = "https://app.test/app", true }
	whole := func(a *app) http.Handler { return a.Wrap(a.RequireAuth(a.mux)) }
	inner := func(a *app) http.Handler { return a.Wrap(http.StripPrefix("/admin", a.RequireAuth(a.mux))) }
	outer := func(a *app) http.Handler { return http.StripPrefix("/app", whole(a)) }
	for _, tt := range []struct {
		name, target, referer string // with a referer it is a form post
		edit                  func(*oidcauth.Options)
		serve                 func(*app) http.Handler
		want                  string
	}{
		{"to path and query", "/reports/7?year=2026&q=a%2Fb", "", none, whole, "/reports/7?year=2026&q=a%2Fb"},
		{"to an escaped path", "/files/a%20b/%C3%A9%2F", "", none, whole, "/files/a%20b/%C3%A9%2F"},
		{"below a base path", "/app/reports?x=1", "", under, whole, "/app/reports?x=1"},
		{"with what an inner StripPrefix took away", "/admin/users?x=1", "", none, inner, "/admin/users?x=1"},
		{"with what an outer StripPrefix took away", "/app/users?x=1", "", stripped, outer, "/app/users?x=1"},
		{"from a form to the page that it was on", "/save?step=2", "https://app.test/edit?id=7", none, whole, "/edit?id=7"},
		{"from a form below a base path", "/app/save", "https://app.test/app/edit?id=7", under, whole, "/app/edit?id=7"},
		{"from a form on another site to the default", "/save", "https://evil.test/edit", none, whole, "/"},
		{"from a form that hides its page to the default", "/save", "-", none, whole, "/"},
		{"from a form whose page is no URL to the default", "/save", "https://app.test/%zz", none, whole, "/"},
		{"not to another host with two slashes", "//evil.test/x", "", none, whole, "/"},
		{"not to another host with three slashes", "///evil.test/x", "", none, whole, "/"},
		{"not to another host with a backslash", `/\evil.test/x`, "", none, whole, "/"},
		{"not to another host with an escaped backslash", "/%5Cevil.test/x", "", none, whole, "/"},
		{"not to another host from a form", "/save", "https://app.test//evil.test/x", none, whole, "/"},
		{"not to the logout from a form", "/save", "https://app.test/auth/logout", none, whole, "/"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t, tt.edit)
			a.op.Register([]string{"https://app.test/app/auth/callback"}, nil)
			a.browser.Host("https://app.test", tt.serve(a))
			r := httptest.NewRequest("GET", "/", nil)
			if tt.referer != "" {
				r = httptest.NewRequest("POST", "/", nil)
				r.Header.Set("Referer", tt.referer)
			}
			r.URL, _ = url.Parse("https://app.test" + tt.target)
			r.Header.Set("Sec-Fetch-Mode", "navigate")
			end := a.browser.Do(r)
			if got := end.URL.RequestURI(); got != tt.want || end.URL.Host != "app.test" {
				t.Errorf("the login ends at %s, want %s", end.URL, tt.want)
			}
			if len(end.History) < 3 || !strings.HasPrefix(end.History[1].URL.String(), "https://op.test/authorize?") {
				t.Fatalf("the guard answered %d and sent the browser on %d times", end.StatusCode, len(end.History))
			}
			for _, step := range end.History[1 : len(end.History)-1] { // at the provider and at the callback
				for _, part := range []string{"report", "files", "users", "edit", "save", "evil", "returnTo"} {
					if strings.Contains(step.URL.String(), part) {
						t.Errorf("%q shows in %s", part, step.URL)
					}
				}
			}
		})
	}
}

// CSRF-01, CSRF-02, CSRF-04, S30, THR-58: what another origin's page makes a browser send is refused, with any session.
func TestGuardsRefuseOtherOrigins(t *testing.T) {
	t.Parallel()
	type row struct {
		name         string
		site, origin string // Sec-Fetch-Site and Origin
		want         int
	}
	trusting := func(o *oidcauth.Options) { o.TrustedOrigins = []string{"https://partner.test"} }
	reckless := func(o *oidcauth.Options) { o.InsecureDisableCSRFProtection = true }
	// Without Fetch metadata the standard library compares Origin's host with Host (plain http, and browsers before 2023).
	unsafe := []row{
		{"of our origin", "same-origin", "https://app.test", 200},
		{"of our origin without Origin", "same-origin", "", 200},
		{"of the user", "none", "", 200},
		{"of a sibling", "same-site", "https://blog.app.test", 403},
		{"of another site", "cross-site", "https://evil.test", 403},
		{"of another site without Origin", "cross-site", "", 403},
		{"of an opaque origin", "cross-site", "null", 403},
		{"of a trusted origin", "cross-site", "https://partner.test", 403},
		{"of our origin in an older browser", "", "https://app.test", 200},
		{"of another in an older browser", "", "https://evil.test", 403},
		{"of a sibling in an older browser", "", "https://blog.app.test", 403},
		{"of our host on another port", "", "https://app.test:8443", 403},
		{"of an opaque origin in an older browser", "", "null", 403},
		{"of what is no URL", "", "https://%", 403},
		{"of a program", "", "", 200},
		{"of a value that is no site", "strange", "", 403},
	}
	sockets := []row{
		{"of our origin", "same-origin", "https://app.test", 200},
		{"without Origin", "same-origin", "", 403},
		{"of an opaque origin", "cross-site", "null", 403},
		{"of a sibling", "same-site", "https://blog.app.test", 403},
		{"of our host without https", "", "http://app.test", 403},
		{"of our host on another port", "same-site", "https://app.test:8443", 403},
		{"of a host that begins like ours", "cross-site", "https://app.test.evil.test", 403},
		{"of a host that ends like ours", "cross-site", "https://evil-app.test", 403},
		{"of a program without Origin", "", "", 403},
		{"of a trusted origin", "cross-site", "https://partner.test", 403},
		{"of our origin in an older browser", "", "https://app.test", 200},
	}
	for _, client := range []struct {
		name string
		edit func(*oidcauth.Options)
	}{{"by default", func(*oidcauth.Options) {}}, {"with TrustedOrigins", trusting}, {"with InsecureDisableCSRFProtection", reckless}} {
		a := newApp(t, client.edit)
		cookie := a.cookies(t, oidcauthtest.Alice)
		check := func(kind string, rows []row, method string, header ...string) {
			for _, tt := range rows {
				want := tt.want
				switch {
				case client.name == "with TrustedOrigins" && tt.origin == "https://partner.test", strings.Contains(client.name, "Disable"):
					want = 200
				}
				for name, guard := range map[string]func(http.Handler) http.Handler{"RequireAuth": a.RequireAuth, "RequireAuthAPI": a.RequireAuthAPI} {
					all := append(header, "Sec-Fetch-Site", tt.site, "Origin", tt.origin, "Cookie", cookie)
					resp := ask(guard(a.mux), method, "/", all...)
					if resp.StatusCode != want || want == 403 && !strings.Contains(body(resp), "cross_origin_request") {
						t.Errorf("%s %s answers a %s %s: %d, want %d", name, client.name, kind, tt.name, resp.StatusCode, want)
					}
				}
			}
		}
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "QUERY"} {
			check(method, unsafe, method)
		}
		check("WebSocket", sockets, "GET", "Upgrade", "websocket", "Connection", "Upgrade")
		check("WebSocket in capitals", sockets, "GET", "Upgrade", "WebSocket")
		check("WebSocket by Fetch metadata", sockets, "GET", "Sec-Fetch-Mode", "websocket")
		for _, method := range []string{"GET", "HEAD", "OPTIONS"} { // they change nothing
			if resp := ask(a.RequireAuth(a.mux), method, "/", "Sec-Fetch-Site", "cross-site", "Cookie", cookie); resp.StatusCode != 200 {
				t.Errorf("%s from another site: %d", method, resp.StatusCode)
			}
		}
	}
}

// behaviour.md 1 and 5: Error answers as routes and guards do.
func TestErrorAnswersEachKindOfError(t *testing.T) {
	t.Parallel()
	wrap := func(err error) error { return fmt.Errorf("secret-reason: %w", err) }
	for _, tt := range []struct {
		name       string
		err        error
		page, call int
		code       string
	}{
		{"no session", oidcauth.ErrNoSession, 302, 401, "unauthenticated"},
		{"no session, wrapped", wrap(oidcauth.ErrNoSession), 302, 401, "unauthenticated"},
		{"a login that is needed", wrap(oidcauth.ErrLoginRequired), 302, 401, "login_required"},
		{"an outage", wrap(oidcauth.ErrUnavailable), 503, 503, "provider_unavailable"},
		{"an answer", wrap(&oidcauth.Error{Status: 409, Code: "taken", Public: "Taken."}), 409, 409, "taken"},
		{"an answer with such a cause", &oidcauth.Error{Status: 409, Code: "taken", Err: oidcauth.ErrNoSession}, 409, 409, "taken"},
		{"a header that is out", oidcauth.ErrHeaderWritten, 500, 500, "server_error"},
		{"anything else", errors.New("secret-reason"), 500, 500, "server_error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t)
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.Error(w, r, tt.err) })
			page := ask(h, "GET", "/", metadata("none", "navigate", "document")...)
			call := ask(h, "GET", "/", metadata("same-origin", "cors", "empty")...)
			text := body(call)
			if page.StatusCode != tt.page || call.StatusCode != tt.call || !strings.Contains(text, `"error":"`+tt.code+`"`) {
				t.Errorf("a navigation: %d, want %d", page.StatusCode, tt.page)
				t.Errorf("a fetch: %d %s, want %d %s", call.StatusCode, text, tt.call, tt.code)
			}
			if strings.Contains(text+body(page), "secret-reason") {
				t.Error("the cause is shown")
			}
			if tt.call >= 500 && !strings.Contains(a.logs.String(), tt.err.Error()) && !errors.Is(tt.err, oidcauth.ErrHeaderWritten) {
				t.Errorf("the log has no cause: %s", a.logs)
			}
			if tt.call == 503 && call.Header.Get("Retry-After") == "" {
				t.Error("503 without Retry-After")
			}
			if got := call.Header.Get("Cache-Control"); got != "private, no-store" {
				t.Errorf("Cache-Control is %q", got)
			}
		})
	}
}

// behaviour.md 1.
func TestHandlerServesTheRoutesAlone(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"", "/app"} {
		a := newApp(t, func(o *oidcauth.Options) { o.BaseURL += base })
		mux := http.NewServeMux()
		mux.Handle(base+"/auth/", a.Client.Handler())
		mux.HandleFunc("GET "+base+"/{$}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
		for _, tt := range []struct {
			name, method, path string
			want               int
			allow              string
		}{
			{"login", "GET", "/auth/login", 302, ""},
			{"one trailing slash", "GET", "/auth/login/", 302, ""},
			{"login by HEAD", "HEAD", "/auth/login", 405, "GET"},
			{"login by POST", "POST", "/auth/login", 405, "GET"},
			{"callback without parameters", "GET", "/auth/callback", 400, ""},
			{"callback by HEAD", "HEAD", "/auth/callback", 405, "GET"},
			{"callback by POST", "POST", "/auth/callback", 405, "GET"},
			{"profile", "GET", "/auth/profile", 401, ""},
			{"profile by HEAD", "HEAD", "/auth/profile", 401, ""},
			{"profile by DELETE", "DELETE", "/auth/profile", 405, "GET, HEAD"},
			{"logout", "GET", "/auth/logout", 302, ""},
			{"logout by POST", "POST", "/auth/logout", 303, ""},
			{"logout by HEAD", "HEAD", "/auth/logout", 405, "GET, POST"},
			{"logout by PUT", "PUT", "/auth/logout", 405, "GET, POST"},
			{"logged out", "GET", "/auth/logged-out", 302, ""},
			{"logged out by OPTIONS", "OPTIONS", "/auth/logged-out", 405, "GET"},
			{"an unknown path", "GET", "/auth/other", 404, ""},
			{"a path below a route", "GET", "/auth/login/x", 404, ""},
			{"another case", "GET", "/auth/Login", 404, ""},
			{"two trailing slashes", "GET", "/auth/login//", 307, ""}, // ServeMux cleans
			{"the prefix", "GET", "/auth/", 404, ""},
			{"the home page", "GET", "/", 418, ""},
		} {
			resp := ask(mux, tt.method, base+tt.path, metadata("none", "navigate", "document")...)
			if resp.StatusCode != tt.want || resp.Header.Get("Allow") != tt.allow {
				t.Errorf("%s below %q: %d with Allow %q, want %d", tt.name, base, resp.StatusCode, resp.Header.Get("Allow"), tt.want)
			}
		}
		if base != "" {
			if got := ask(a.Client.Handler(), "GET", "/auth/login").StatusCode; got != 404 {
				t.Errorf("outside the base path the login answers %d", got)
			}
		}
	}
}
