package oidcauth_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// rawRequest is a request that no client of ours would send: nothing in it is cleaned or checked.
func rawRequest(method, target, query, body string, header ...string) *http.Request {
	r := &http.Request{
		Method: method, Host: "app.test", URL: &url.URL{Path: target, RawQuery: query}, RequestURI: target + "?" + query,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)),
	}
	for pair := range slices.Chunk(header, 2) {
		r.Header.Add(pair[0], pair[1])
	}
	return r
}

var routePaths = []string{"/auth/login", "/auth/callback", "/auth/logout", "/auth/logged-out", "/auth/profile", "/auth/access-token", "/auth/landing"}

// underWay returns an application, the Cookie field of its browser with a session, a login and a logout under way, and that
// login's authentication request.
func underWay(t testing.TB) (a *app, cookie string, login *url.URL) {
	t.Helper()
	a = newApp(t)
	a.browser.SignIn(oidcauthtest.Alice)
	a.browser.NoRedirects().Get("/auth/logout?returnTo=/bye")
	a.browser.SignIn(oidcauthtest.Alice)
	_, login = a.started(t, "/auth/login?returnTo=/there")
	return a, a.browser.Request("GET", "/").Header.Get("Cookie"), login
}

// checkLocation fails unless a browser that is sent to target from https://app.test stays there or goes to the provider.
func checkLocation(t testing.TB, target string) {
	t.Helper()
	if strings.ContainsFunc(target, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }) {
		t.Errorf("browsers do not read %q as it is written", target)
	}
	if strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "//") {
		return
	}
	for _, origin := range []string{"https://app.test", "https://op.test"} {
		rest, ok := strings.CutPrefix(target, origin)
		if ok && (rest == "" || strings.ContainsAny(rest[:1], "/?#")) {
			return
		}
	}
	t.Errorf("Location %q leads elsewhere", target)
}

func FuzzRoutes(f *testing.F) {
	for _, route := range routePaths {
		f.Add("GET", route, "", uint(1<<20), "", "", "", "", "", "")
		f.Add("POST", route, "a=b", uint(1<<20), "", "same-origin", "navigate", "document", "application/x-www-form-urlencoded", "returnTo=/a")
		f.Add("GET", route, "returnTo=//evil.test&state=x&code=y", uint(200), "; session=x", "cross-site", "navigate", "document", "", "")
		f.Add("GET", route, "state=STATE&error=access_denied&iss=https://op.test/", uint(1<<20), "", "cross-site", "navigate", "document", "", "")
		f.Add("GET", route, "state=STATE&code=x&iss=https://op.test/", uint(1<<20), "", "none", "", "", "", "")
		f.Add("GET", route, "state=STATE&error=server_error&iss=https%3A%2F%2Fop.test%2F", uint(1<<20), "", "", "", "", "", "")
		f.Add("POST", route, "returnTo=x", uint(90), "", "none", "cors", "empty", "application/json", `{"a":1}`)
		f.Add("HEAD", route+"/", "%zz;\x00=\xff", uint(3), "__Host-session=\x00; =; ;;", "same-site", "websocket", "iframe", "text/html; q=", "\xff")
		f.Add("GET", route, "prompt=none+login&max_age=1h&acr_values=a&scope=x+y&audience=z", uint(7), "", "", "", "", "", "")
		f.Add("BREW", strings.ToUpper(route), "a=1&a=2", uint(0), "", "\n", "navigate", "document", "multipart/form-data; boundary=x", "--x")
	}
	statuses := map[string][]int{
		"/auth/login": {302, 204, 400, 405}, "/auth/callback": {204, 302, 400, 405, 502}, "/auth/logout": {200, 204, 302, 303, 400, 403, 405},
		"/auth/logged-out": {302, 405}, "/auth/profile": {200, 401, 403, 405},
		"/auth/access-token": {200, 204, 400, 401, 403, 405},
		"/auth/landing":      {200, 405},
	}
	f.Fuzz(func(t *testing.T, method, target, query string, cut uint, extra, site, mode, dest, mediaType, body string) {
		a, cookie, login := underWay(t)
		query = strings.ReplaceAll(query, "STATE", login.Query().Get("state"))
		header := []string{
			"Cookie", cookie[:min(cut, uint(len(cookie)))] + extra, "Sec-Fetch-Site", site, "Sec-Fetch-Mode", mode, "Sec-Fetch-Dest", dest,
			"Content-Type", mediaType, "Accept", "text/html",
		}
		w := httptest.NewRecorder()
		a.handler.ServeHTTP(w, rawRequest(method, target, query, body, header...))
		r := w.Result()
		known, isRoute := statuses[strings.TrimSuffix(target, "/")]
		if isRoute && !slices.Contains(known, r.StatusCode) {
			t.Errorf("%s %s answers %d, documented are %d", method, target, r.StatusCode, known)
		}
		for _, line := range sessionLines(r.Header) {
			if !strings.Contains(line, "Max-Age=0") {
				t.Errorf("%s %s sets a session", method, target)
			}
		}
		if isRoute && !strings.Contains(r.Header.Get("Cache-Control"), "no-store") {
			t.Errorf("%s %s may be stored", method, target)
		}
		if where := r.Header.Get("Location"); where != "" || r.StatusCode/100 == 3 {
			checkLocation(t, where)
		}
	})
}

// BCL-29, lesson 26: whatever is posted to the back-channel route, it neither fails nor ends a session, unless it is a form with
// one good token: TOKEN stands for that, SIGNED for another token of the provider's, and ID for an ID token.
func FuzzBackchannelLogout(f *testing.F) {
	for _, text := range []string{
		"logout_token=TOKEN", "logout_token=TOKEN&a=b", "logout_token=TOKEN&logout_token=x", "logout_token=ID", "logout_token=SIGNED",
		"logout_token=TOKEN%00", "logout_token=TOKEN%0A", "logout_token=x.TOKEN", "logout_token=TOKEN.x.x", "logout_token=TOKE", "%zz", ";", "\x00\xff",
		"logout_token=eyJhbGciOiJub25lIn0.e30.", "logout_token=..", "logout_token=a.b.c", "LOGOUT_TOKEN=TOKEN", "logout_token[]=TOKEN", "=TOKEN", "TOKEN", "",
		`{"logout_token":"TOKEN"}`, "logout_token=" + strings.Repeat("a", 17<<10), "a=" + strings.Repeat("&", 65<<10) + "&logout_token=TOKEN",
	} {
		f.Add(text, formType, "", false)
		f.Add(text, formType+"; charset=utf-8", "logout_token=TOKEN", true)
		f.Add(text, "text/plain", text, true)
		f.Add(text, "multipart/form-data; boundary=x", text, false)
	}
	f.Fuzz(func(t *testing.T, text, mediaType, query string, stored bool) {
		mode := inCookies
		if stored {
			mode = func(*oidcauth.Options) {}
		}
		p := newProcess(t, mode)
		var idToken string
		p.op.Change(func(k *oidcauthtest.Knobs) {
			k.EditTokens = func(r map[string]any) { idToken, _ = r["id_token"].(string) }
		})
		cookie := p.login()
		token := p.op.LogoutToken("alice", newestSID(p.op))
		wrong := p.op.LogoutToken("alice", "", func(_, claims map[string]any) { claims["nonce"] = nil })
		fill := strings.NewReplacer("TOKEN", token, "SIGNED", wrong, "ID", idToken)
		text, query = fill.Replace(text), fill.Replace(query)
		resp := p.tell(query, text, "Content-Type", mediaType)
		form, err := url.ParseQuery(text)
		good := err == nil && slices.Equal(form["logout_token"], []string{token}) && len(text) <= 64<<10
		switch who := p.who(cookie); {
		case resp.StatusCode == http.StatusOK && good && who == nobody && len(resp.Header["Set-Cookie"]) == 0:
		case resp.StatusCode == http.StatusBadRequest && who == "alice":
			checkRefusal(t, resp)
		default:
			t.Errorf("the answer is %d, and then the session is of %q", resp.StatusCode, who)
		}
		p.settle(t)
	})
}

// badInputs has what each route answers: login, callback, logout, logged-out and profile, in this order. Where that is no
// 4xx the input does not matter to the route.
var badInputs = []struct {
	name, method, query, mediaType, body string
	want                                 [5]int
}{
	{name: "nothing", method: "GET", want: [5]int{302, 400, 302, 302, 200}}, // only the callback needs something
	{name: "empty parameters", method: "GET", query: "state=&code=&returnTo=&max_age=&error=", want: [5]int{302, 400, 302, 302, 200}},
	{name: "a parameter twice", method: "GET", query: "returnTo=/a&returnTo=/b&state=a&state=b", want: [5]int{400, 400, 400, 302, 200}},
	{name: "a strange parameter twice", method: "GET", query: "zzz=1&zzz=1", want: [5]int{400, 400, 400, 302, 200}},
	{name: "a bad escape", method: "GET", query: "returnTo=%zz", want: [5]int{400, 400, 400, 302, 200}},
	{name: "a semicolon", method: "GET", query: "returnTo=/a;state=b", want: [5]int{400, 400, 400, 302, 200}},
	{
		name: "a huge query", method: "GET", query: "returnTo=/" + strings.Repeat("a", 1<<20), want: [5]int{400, 400, 400, 302, 200},
	},
	{name: "very many parameters", method: "GET", query: strings.Repeat("a&", 40<<10), want: [5]int{400, 400, 400, 302, 200}},
	{name: "binary", method: "GET", query: "returnTo=%00%ff%fe&state=%00&code=%ff", want: [5]int{302, 400, 302, 302, 200}},
	{name: "raw binary", method: "GET", query: "\x00\xff=\xfe", want: [5]int{302, 400, 302, 302, 200}},
	{name: "a state that is nobody's", method: "GET", query: "state=" + strings.Repeat("A", 43) + "&code=x", want: [5]int{302, 400, 302, 302, 200}},
	{name: "an error without a login", method: "GET", query: "error=access_denied&state=x", want: [5]int{302, 400, 302, 302, 200}},
	{name: "code and error", method: "GET", query: "code=a&error=b&state=STATE", want: [5]int{302, 400, 302, 302, 200}},
	{name: "a JARM response", method: "GET", query: "response=a.b.c&state=STATE", want: [5]int{302, 400, 302, 302, 200}},
	{name: "an age that is none", method: "GET", query: "max_age=1e9", want: [5]int{400, 400, 302, 302, 200}},
	{name: "prompts that exclude each other", method: "GET", query: "prompt=none+login", want: [5]int{400, 400, 302, 302, 200}},
	{name: "HEAD", method: "HEAD", want: [5]int{405, 405, 405, 405, 200}},
	{name: "POST", method: "POST", query: "returnTo=/a&returnTo=/b", want: [5]int{405, 405, 400, 405, 405}},
	{name: "PUT", method: "PUT", want: [5]int{405, 405, 405, 405, 405}},
	{name: "PATCH", method: "PATCH", want: [5]int{405, 405, 405, 405, 405}},
	{name: "DELETE", method: "DELETE", want: [5]int{405, 405, 405, 405, 405}},
	{name: "OPTIONS", method: "OPTIONS", want: [5]int{405, 405, 405, 405, 405}},
	{name: "TRACE", method: "TRACE", want: [5]int{405, 405, 405, 405, 405}},
	{name: "CONNECT", method: "CONNECT", want: [5]int{405, 405, 405, 405, 405}},
	{name: "a method in lower case", method: "get", want: [5]int{405, 405, 405, 405, 405}},
	{name: "a method that is none", method: "G\x00T", want: [5]int{405, 405, 405, 405, 405}},
	{name: "JSON", method: "POST", mediaType: "application/json", body: "{}", want: [5]int{405, 405, 400, 405, 405}},
	{name: "a multipart form", method: "POST", mediaType: "multipart/form-data; boundary=x", body: "--x--", want: [5]int{405, 405, 400, 405, 405}},
	{name: "a type that is none", method: "POST", mediaType: ";;=", want: [5]int{405, 405, 400, 405, 405}},
	{name: "a huge form", method: "POST", body: "a=" + strings.Repeat("a", 1<<20), want: [5]int{405, 405, 400, 405, 405}},
	{name: "a form with a field twice", method: "POST", body: "returnTo=/a&returnTo=/b", want: [5]int{405, 405, 400, 405, 405}},
	{name: "a field in form and query", method: "POST", query: "returnTo=/a", body: "returnTo=/b", want: [5]int{405, 405, 400, 405, 405}},
	{name: "a binary form", method: "POST", body: "%zz\x00\xff", want: [5]int{405, 405, 400, 405, 405}},
}

func TestBadInputIsRefusedAndNothingIsLost(t *testing.T) { // HYG-05, lessons 26 and 28
	t.Parallel()
	a, cookie, login := underWay(t)
	for _, tt := range badInputs {
		for i, route := range routePaths[:5] { // the access-token route has a table of its own
			w, sent := httptest.NewRecorder(), cookie
			if route == "/auth/logout" && tt.want[i] < 400 {
				sent = a.cookies(t, oidcauthtest.Alice) // a logout ends all copies of a cookie
			}
			r := rawRequest(tt.method, route, strings.ReplaceAll(tt.query, "STATE", login.Query().Get("state")), tt.body, "Cookie", sent)
			if tt.mediaType != "" {
				r.Header.Set("Content-Type", tt.mediaType)
			}
			a.handler.ServeHTTP(w, r)
			got := w.Result()
			want := tt.want[i]
			if got.StatusCode != want {
				t.Errorf("%s at %s: status %d, want %d", tt.name, route, got.StatusCode, want)
			}
			if where := got.Header.Get("Location"); where != "" {
				checkLocation(t, where)
			}
			if got.StatusCode/100 != 4 {
				continue
			}
			if lines := got.Header["Set-Cookie"]; len(lines) > 0 {
				t.Errorf("%s at %s: %d cookies are changed", tt.name, route, len(lines))
			}
			text := body(got)
			if tt.method != "HEAD" && (!strings.Contains(text, `"error":"`) || !strings.Contains(text, `"error_description":"`)) {
				t.Errorf("%s at %s: no clear answer: %s", tt.name, route, text)
			}
			if tt.want[i] == 405 && got.Header.Get("Allow") == "" {
				t.Errorf("%s at %s: no Allow", tt.name, route)
			}
		}
	}
	if got := body(ask(a.handler, "GET", "/", "Cookie", cookie)); got != "alice" {
		t.Errorf("afterwards %q is signed in", got)
	}
	// The login under way, whose state all of this was thrown at, ends well.
	if end := a.browser.Get(login.String()); end.URL.String() != "https://app.test/there" || end.Body != "alice" {
		t.Errorf("the login under way ends at %s with %d", end.URL, end.StatusCode)
	}
}

func FuzzReturnToEndToEnd(f *testing.F) {
	for _, target := range []string{
		"/", "/a?b=c#d", "//evil.test", `/\evil.test`, `\\evil.test`, "/\t/evil.test", "https://evil.test", "https://app.test@evil.test",
		"https://app.test.evil.test", "https:evil.test", "https:/evil.test", "javascript:alert(1)", "/auth/login", "/auth/%6cogout", "/a/../auth/login",
		"/%2e%2e//evil.test", "/.//evil.test", "https://app.test", "https://app.test:443/a", "https://APP.test/", "https://app.test//evil.test", "/a\r\nSet-Cookie: x=y",
		"/ä", "/%00", "/a b", "http://app.test/", "?a", "#a", "a", "", strings.Repeat("/a", 600), "/auth/login/", "/auth//login", "/AUTH/login", "/auth/login;x",
	} {
		f.Add(target)
	}
	f.Fuzz(func(t *testing.T, returnTo string) {
		a := newApp(t)
		b := a.browser.NoRedirects()
		start := b.Get("/auth/login?" + url.Values{"returnTo": {returnTo}}.Encode())
		if start.StatusCode == http.StatusBadRequest && len(returnTo) > 60<<10/3 {
			return // too long a query
		}
		back := b.Get(start.Location())
		end := b.Get(back.Location())
		if end.StatusCode != http.StatusFound || !setsSession(end) {
			t.Fatalf("the login with returnTo %q ends with status %d", returnTo, end.StatusCode)
		}
		where := end.Header.Get("Location")
		checkLocation(t, where)
		u, err := url.Parse(where)
		if err != nil || u.Host != "" && (u.Host != "app.test" || u.Scheme != "https") || u.User != nil {
			t.Fatalf("returnTo %q ends at %q", returnTo, where)
		}
		if slices.Contains(routePaths, path.Clean(u.Path)) { // S33
			t.Errorf("returnTo %q leads back to a route: %q", returnTo, where)
		}
	})
}

var lineBreak = regexp.MustCompile(`[\r\n]`)

func FuzzOptionsURLs(f *testing.F) {
	right := []string{"https://op.test/", "", "https://app.test/app", "/home", "https://www.test", "https://www.test/bye", "https://www.test/*", "/in"}
	add := func(v []string) { f.Add(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]) }
	add(right)
	for i := range right {
		for _, odd := range []string{
			"", "/", "//", "https://", "https://[", "https://[::1]:99999", "http://localhost", "https://a.test/%2e%2e/", "https://a.test:0", "https://a.test/\r\n",
			"HTTPS://A.TEST", "https://ä.test", "https://u:p@a.test", "*", "-", "/a//b", "/a/./b", "https://a.test/a?b#c", "a\x00b", "javascript:alert(1)", "https://*/*",
		} {
			row := slices.Clone(right)
			row[i] = odd
			add(row)
		}
	}
	f.Fuzz(func(t *testing.T, issuer, domain, base, home, origin, after, pattern, route string) {
		o := rightOptions()
		o.Issuer, o.Domain, o.BaseURL, o.DefaultReturnTo, o.PostLogoutURL = issuer, domain, base, home, after
		o.AllowedReturnOrigins, o.TrustedOrigins, o.AllowedLogoutURLs = []string{origin}, []string{origin}, []string{pattern}
		o.Routes.Login = route
		o.HTTPClient = &http.Client{Transport: neverAsked{t}}
		client, err := oidcauth.New(o)
		if err != nil {
			checkMistakes(t, client, err)
			return
		}
		u, parseErr := url.Parse(base)
		loopback := regexp.MustCompile(`^(?i:localhost|127\.[0-9.]+|::1|[0:]+:0*1|::ffff:127\.[0-9.]+|::ffff:7f[0-9a-f]{2}:[0-9a-f]+)$`)
		if parseErr != nil || u.Hostname() == "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback.MatchString(u.Hostname())) {
			t.Fatalf("BaseURL %q is accepted", base)
		}
		if is, err := url.Parse(issuer); err == nil && loopback.MatchString(is.Hostname()) && !loopback.MatchString(u.Hostname()) { // S17
			t.Errorf("issuer %q is accepted with BaseURL %q", issuer, base)
		}
		login := client.LoginURL("/a")
		if route == "-" {
			if login != "" {
				t.Errorf("a route that is switched off has the URL %q", login)
			}
			return
		}
		if !strings.HasPrefix(login, "/") || strings.HasPrefix(login, "//") || lineBreak.MatchString(login) {
			t.Fatalf("the login is at %q", login)
		}
		where, err := url.Parse(login)
		if err != nil {
			t.Fatalf("the login is at %q: %v", login, err)
		}
		w := httptest.NewRecorder()
		client.Handler().ServeHTTP(w, rawRequest("PUT", where.Path, where.RawQuery, ""))
		if w.Code != http.StatusMethodNotAllowed {
			t.Errorf("BaseURL %q and route %q: the login at %q answers %d", base, route, login, w.Code)
		}
	})
}

// checkMistakes fails unless err joins mistakes, each of a field and on one line, and there is no client.
func checkMistakes(t testing.TB, client *oidcauth.Client, err error) {
	t.Helper()
	mistakes := configErrors(err)
	if client != nil || len(mistakes) == 0 {
		t.Fatalf("New returned %v and %v", client, err)
	}
	for _, m := range mistakes {
		if m.Field == "" || m.Reason == "" || !errors.Is(err, m) {
			t.Errorf("a mistake is %q %q", m.Field, m.Reason)
		}
	}
}
