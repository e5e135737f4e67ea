package oidcauth_test

import (
	"context"
	"errors"
	escaping "html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// auth0 makes the provider one of Auth0's, known by its domain.
func auth0(o *oidcauth.Options) { o.Issuer, o.Domain = "", "op.test" }

// noEndSession is a provider without RP-initiated logout.
func noEndSession(m map[string]any) { delete(m, "end_session_endpoint") }

// endsSession reports whether a response deletes the session cookie.
func endsSession(h http.Header) bool {
	return slices.ContainsFunc(sessionLines(h), func(line string) bool { return strings.Contains(line, "Max-Age=0") })
}

// outcome says in a word what a request to the logout route did.
func outcome(r *http.Response) string {
	switch {
	case r.StatusCode == http.StatusServiceUnavailable && len(r.Header["Set-Cookie"]) == 0:
		return "nothing"
	case r.StatusCode == http.StatusForbidden && len(r.Header["Set-Cookie"]) == 0:
		return "refused"
	case r.StatusCode == http.StatusMethodNotAllowed && len(r.Header["Set-Cookie"]) == 0:
		return "405"
	case r.StatusCode == http.StatusOK && len(r.Header["Set-Cookie"]) == 0 && strings.Contains(body(r), `<form method="post"`):
		return "asked"
	case (r.StatusCode == http.StatusFound || r.StatusCode == http.StatusSeeOther) && endsSession(r.Header):
		return "ended"
	}
	return "neither of these: " + r.Status
}

// logoutOutcomes has what a GET does by site, mode and destination of its Fetch metadata; "-" is no such field.
const logoutOutcomes = `
site        mode      -        document  empty    iframe   frame    image    script   worker
-           -         ended    ended     ended    ended    ended    ended    ended    ended
none        -         ended    ended     ended    refused  refused  refused  refused  refused
none        navigate  ended    ended     ended    refused  refused  refused  refused  refused
same-origin -         ended    ended     ended    refused  refused  refused  refused  refused
same-origin navigate  ended    ended     ended    refused  refused  refused  refused  refused
same-origin cors      ended    ended     ended    refused  refused  refused  refused  refused
same-origin no-cors   ended    ended     ended    refused  refused  refused  refused  refused
same-site   -         asked    asked     refused  refused  refused  refused  refused  refused
same-site   navigate  asked    asked     refused  refused  refused  refused  refused  refused
same-site   cors      refused  refused   refused  refused  refused  refused  refused  refused
same-site   no-cors   refused  refused   refused  refused  refused  refused  refused  refused
cross-site  -         asked    asked     refused  refused  refused  refused  refused  refused
cross-site  navigate  asked    asked     refused  refused  refused  refused  refused  refused
cross-site  cors      refused  refused   refused  refused  refused  refused  refused  refused
cross-site  no-cors   refused  refused   refused  refused  refused  refused  refused  refused
another     navigate  asked    asked     refused  refused  refused  refused  refused  refused`

func TestOnlyTheUserEndsASessionByALink(t *testing.T) { // S26, RIL-03
	t.Parallel()
	a := newApp(t)
	cookie := a.cookies(t, oidcauthtest.Alice)
	rows := strings.Split(strings.TrimSpace(logoutOutcomes), "\n")
	dests := strings.Fields(rows[0])[2:]
	field := func(s string) string { return strings.TrimPrefix(s, "-") }
	for _, row := range rows[1:] {
		cells := strings.Fields(row)
		site, mode := cells[0], cells[1]
		for i, want := range cells[2:] {
			metadata := []string{
				"Cookie", cookie, "Sec-Fetch-Site", field(site), "Sec-Fetch-Mode", field(mode), "Sec-Fetch-Dest", field(dests[i]),
			}
			if got := outcome(ask(a.handler, "GET", "/auth/logout", metadata...)); got != want {
				t.Errorf("GET from site %s, mode %s, destination %s: %s, want %s", site, mode, dests[i], got, want)
			}
			for _, purpose := range [][]string{
				{"Sec-Purpose", "prefetch"}, {"Sec-Purpose", "prefetch;prerender"}, {"Purpose", "prefetch"}, {"X-Moz", "prefetch"},
			} {
				r := ask(a.handler, "GET", "/auth/logout", slices.Concat(metadata, purpose)...)
				if got := outcome(r); got != "nothing" {
					t.Errorf("prefetch from site %s, mode %s, destination %s: %s, want nothing", site, mode, dests[i], got)
				}
			}
		}
	}
}

func TestOnlyOurOwnFormEndsASession(t *testing.T) { // S26, S27, RIL-03
	t.Parallel()
	a := newApp(t, func(o *oidcauth.Options) { o.TrustedOrigins = []string{"https://portal.test"} })
	cookie := a.cookies(t, oidcauthtest.Alice)
	for _, tt := range []struct{ name, method, site, origin, want string }{
		{"a form of ours", "POST", "same-origin", "https://app.test", "ended"},
		{"a browser without Fetch metadata on a page of ours", "POST", "", "https://app.test", "ended"},
		{"a client that is no browser", "POST", "", "", "ended"},
		{"a form of a trusted origin", "POST", "cross-site", "https://portal.test", "ended"},
		{"a form of another site", "POST", "cross-site", "https://evil.test", "refused"},
		{"a form of a sibling", "POST", "same-site", "https://b.app.test", "refused"},
		{"a form of another site without Fetch metadata", "POST", "", "https://evil.test", "refused"},
		{"a form whose page hides its origin", "POST", "", "null", "refused"},
		{"HEAD", "HEAD", "", "", "405"},
		{"DELETE", "DELETE", "same-origin", "https://app.test", "405"},
		{"OPTIONS", "OPTIONS", "", "", "405"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := ask(a.handler, tt.method, "/auth/logout", "Cookie", cookie, "Sec-Fetch-Site", tt.site, "Origin", tt.origin)
			if got := outcome(r); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if tt.want == "405" && r.Header.Get("Allow") != "GET, POST" {
				t.Errorf("Allow is %q", r.Header.Get("Allow"))
			}
			if tt.want == "ended" && r.StatusCode != http.StatusSeeOther { // RFC 9700 4.12
				t.Errorf("status %d, want 303", r.StatusCode)
			}
		})
	}
}

func TestLogoutWithoutConfirmationIsForNavigationsAlone(t *testing.T) { // S26
	t.Parallel()
	a := newApp(t, func(o *oidcauth.Options) { o.LogoutWithoutConfirmation = true })
	cookie := a.cookies(t, oidcauthtest.Alice)
	for dest, want := range map[string]string{"document": "ended", "iframe": "refused", "image": "refused"} {
		for _, site := range []string{"cross-site", "same-site"} {
			r := ask(a.handler, "GET", "/auth/logout", "Cookie", cookie,
				"Sec-Fetch-Site", site, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", dest)
			if got := outcome(r); got != want {
				t.Errorf("%s from %s: %s, want %s", dest, site, got, want)
			}
		}
	}
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

func TestTheQuestionBeforeALogoutPostsBack(t *testing.T) { // S26, S27
	t.Parallel()
	a := newApp(t)
	a.browser.SignIn(oidcauthtest.Alice)
	asked := url.Values{"returnTo": {`/bye?a="><script>`}, "ui_locales": {"de"}, "logout_hint": {"h"}, "federated": {""}, "other": {"x"}}
	// S28: the application may not have registered the way back that another site makes it need.
	if page := a.browser.From("https://evil.test").Get("/auth/logout?" + asked.Encode()); strings.Contains(page.Body, "returnTo") {
		t.Errorf("another site chooses where the logout ends:\n%s", page.Body)
	}
	page := a.browser.From("https://www.app.test").Get("/auth/logout?" + asked.Encode())
	if page.StatusCode != http.StatusOK || len(page.Cookies()) > 0 || strings.Contains(page.Body, "<script") {
		t.Fatalf("status %d with cookies %v:\n%s", page.StatusCode, page.Cookies(), page.Body)
	}
	if got := a.browser.Get("/").Body; got != "alice" {
		t.Errorf("before the answer %q is signed in", got)
	}
	// no-referrer would make the form's Origin null, and form-action would stop the redirect to the provider.
	policy := page.Header.Get("Content-Security-Policy")
	if got := page.Header.Get("Referrer-Policy"); got != "same-origin" {
		t.Errorf("Referrer-Policy is %q, want same-origin", got)
	}
	if strings.Contains(policy, "form-action") || !strings.Contains(policy, "default-src 'none'") ||
		!strings.Contains(policy, "frame-ancestors 'none'") {
		t.Errorf("Content-Security-Policy is %q", policy)
	}
	if !strings.Contains(page.Body, `<form method="post" action="/auth/logout">`) || !strings.Contains(page.Body, `href="/">Stay signed in`) {
		t.Errorf("the page has no form, or no way back:\n%s", page.Body)
	}
	form := url.Values{}
	for _, field := range hiddenField.FindAllStringSubmatch(page.Body, -1) {
		form.Set(escaping.UnescapeString(field[1]), escaping.UnescapeString(field[2]))
	}
	asked.Del("other")
	if form.Encode() != asked.Encode() {
		t.Errorf("the form carries %q, want %q", form, asked)
	}

	form.Set("returnTo", "/bye")
	end := a.browser.Post("/auth/logout", form)
	if end.URL.Path != "/bye" || end.Body != nobody {
		t.Errorf("the form leads to %s, where %q is signed in", end.URL, end.Body)
	}
	if q := lastQuery(t, a.op, "end_session"); q.Get("ui_locales") != "de" || q.Get("logout_hint") != "h" {
		t.Errorf("the provider was asked %v", q)
	}
}

// lastQuery is what an endpoint was asked last.
func lastQuery(t testing.TB, op *oidcauthtest.Provider, endpoint string) url.Values {
	t.Helper()
	all := op.Requests(endpoint)
	if len(all) == 0 {
		t.Fatalf("%s was not asked", endpoint)
	}
	return all[len(all)-1].URL.Query()
}

func TestTheStrategyDecidesWhereALogoutLeads(t *testing.T) { // RIL-01, RIL-02
	t.Parallel()
	const endSession, v2, local = "https://op.test/end_session", "https://op.test/v2/logout", "https://app.test/"
	for _, tt := range []struct {
		name     string
		strategy oidcauth.LogoutStrategy
		endpoint bool
		domain   bool
		want     string // "": 500 logout_not_supported
	}{
		{"auto with an endpoint", oidcauth.LogoutAuto, true, false, endSession},
		{"auto with Auth0's endpoint", oidcauth.LogoutAuto, true, true, endSession},
		{"auto with Auth0 without endpoint", oidcauth.LogoutAuto, false, true, v2},
		{"auto without endpoint", oidcauth.LogoutAuto, false, false, local},
		{"the default without endpoint", "", false, false, local},
		{"oidc with an endpoint", oidcauth.LogoutOIDC, true, false, endSession},
		{"oidc with Auth0's endpoint", oidcauth.LogoutOIDC, true, true, endSession},
		{"oidc without endpoint", oidcauth.LogoutOIDC, false, false, ""},
		{"oidc with Auth0 without endpoint", oidcauth.LogoutOIDC, false, true, ""},
		{"v2 with an endpoint", oidcauth.LogoutV2, true, false, v2},
		{"v2 without endpoint", oidcauth.LogoutV2, false, true, v2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var edits []func(*oidcauth.Options)
			if tt.domain {
				edits = append(edits, auth0)
			}
			op := oidcauthtest.NewProvider(t, edits...)
			if !tt.endpoint {
				op.EditMetadata(noEndSession)
			}
			a := newAppAt(t, op, func(o *oidcauth.Options) { o.LogoutStrategy = tt.strategy })
			a.browser.SignIn(oidcauthtest.Alice)
			r := a.browser.NoRedirects().Post("/auth/logout", nil)
			target, _, _ := strings.Cut(r.Location(), "?")
			if target != tt.want {
				t.Errorf("leads to %q, want %q", target, tt.want)
			}
			if tt.want == "" && (r.StatusCode != http.StatusInternalServerError || errorCode(r) != "logout_not_supported") {
				t.Errorf("status %d %q, want 500 logout_not_supported", r.StatusCode, errorCode(r))
			}
			if got := a.browser.Get("/").Body; got != nobody || !endsSession(r.Header) {
				t.Errorf("%q is still signed in", got)
			}
			if tt.want == "" {
				return
			}
			end, _, _ := strings.Cut(a.browser.Post("/auth/logout", nil).URL.String(), "?state=") // some send it back
			if end != local {
				t.Errorf("ends at %s, want %s", end, local)
			}
		})
	}
}

func TestTheLogoutRequest(t *testing.T) { // RIL-01, RIL-06
	t.Parallel()
	sid := func(o *oidcauth.Options) {
		o.LogoutHint = func(s *oidcauth.Session) string { return "hint-of-" + s.Subject }
	}
	large := oidcauthtest.User{Subject: "alice", Claims: map[string]any{"groups": strings.Repeat("0123456789abcdef", 384)}}
	for _, tt := range []struct {
		name     string
		auth0    bool
		user     oidcauthtest.User
		edit     func(*oidcauth.Options)
		metadata func(map[string]any)
		query    string
		nobody   bool   // no session
		want     string // the parameters beside client_id, post_logout_redirect_uri and state; … is the ID token
	}{
		{name: "without anything", want: "id_token_hint=…"},
		{name: "with OmitIDTokenHint", edit: func(o *oidcauth.Options) { o.OmitIDTokenHint = true }},
		{name: "with DropIDToken", edit: func(o *oidcauth.Options) { o.DropIDToken = true }},
		{name: "with an ID token of 8 KiB", user: large},
		{name: "with LogoutHint", edit: sid, want: "id_token_hint=…&logout_hint=hint-of-alice"},
		{name: "with an ID token of 8 KiB and LogoutHint", user: large, edit: sid, want: "logout_hint=hint-of-alice"},
		{name: "with a hint in the link", query: "logout_hint=l", want: "id_token_hint=…&logout_hint=l"},
		{name: "with LogoutHint and a hint in the link", edit: sid, query: "logout_hint=l", want: "id_token_hint=…&logout_hint=hint-of-alice"},
		{name: "of Auth0", auth0: true, want: "id_token_hint=…&logout_hint=sid-1"},
		{name: "of Auth0, federated", auth0: true, query: "federated", want: "federated=&id_token_hint=…&logout_hint=sid-1"},
		{name: "of Auth0, federated=true", auth0: true, query: "federated=true", want: "federated=&id_token_hint=…&logout_hint=sid-1"},
		{name: "of Auth0, federated=false", auth0: true, query: "federated=false", want: "id_token_hint=…&logout_hint=sid-1"},
		{name: "federated elsewhere", query: "federated", want: "id_token_hint=…"},
		{name: "with a language", query: "ui_locales=de", want: "id_token_hint=…&ui_locales=de"},
		{name: "with what nobody knows", query: "id_token_hint=x&client_id=y&z=1&post_logout_redirect_uri=https://evil.test", want: "id_token_hint=…"},
		{
			name: "at an endpoint with a query",
			metadata: func(m map[string]any) {
				m["end_session_endpoint"] = "https://op.test/end_session?p=policy&client_id=no"
			},
			want: "id_token_hint=…&p=policy",
		},
		{name: "without a session", nobody: true},
		{name: "without a session, with LogoutHint", nobody: true, edit: sid},
		{name: "of Auth0 without a session", nobody: true, auth0: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var edits []func(*oidcauth.Options)
			if tt.auth0 {
				edits = append(edits, auth0)
			}
			op := oidcauthtest.NewProvider(t, edits...)
			token := ""
			op.Change(func(k *oidcauthtest.Knobs) {
				k.SID, k.MangleIDToken = "sid-1", func(jwt string) string { token = jwt; return jwt }
			})
			if tt.metadata != nil {
				op.EditMetadata(tt.metadata)
			}
			var own []func(*oidcauth.Options)
			if tt.edit != nil {
				own = append(own, tt.edit)
			}
			a := newAppAt(t, op, own...)
			if user := tt.user; !tt.nobody {
				if user.Subject == "" {
					user = oidcauthtest.Alice
				}
				a.browser.SignIn(user)
			}
			r := a.browser.NoRedirects().Get("/auth/logout?" + tt.query)
			target, err := url.Parse(r.Location())
			if err != nil || target.Path != "/end_session" || len(target.String()) > 6<<10 {
				t.Fatalf("%d to %q (%d bytes)", r.StatusCode, target.Path, len(target.String()))
			}
			q := target.Query()
			if q.Get("client_id") != "test-client" || len(q["client_id"]) != 1 || q.Get("post_logout_redirect_uri") != "https://app.test" ||
				len(q.Get("state")) != 43 {
				t.Errorf("the request is %q", q)
			}
			q.Del("client_id")
			q.Del("post_logout_redirect_uri")
			q.Del("state")
			want, _ := url.ParseQuery(strings.ReplaceAll(tt.want, "…", token))
			if q.Encode() != want.Encode() {
				t.Errorf("the further parameters are %q, want %q", q, want)
			}
		})
	}
}

func TestTheV2LogoutRequest(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"":                "client_id=test-client&returnTo=https%3A%2F%2Fapp.test",
		"federated":       "client_id=test-client&federated=&returnTo=https%3A%2F%2Fapp.test",
		"federated=false": "client_id=test-client&returnTo=https%3A%2F%2Fapp.test",
	} {
		a := newApp(t, func(o *oidcauth.Options) { o.LogoutStrategy = oidcauth.LogoutV2 })
		a.browser.SignIn(oidcauthtest.Alice)
		r := a.browser.NoRedirects().Get("/auth/logout?" + query)
		if got := r.Location(); got != "https://op.test/v2/logout?"+want {
			t.Errorf("%q: %q, want %q", query, got, want)
		}
	}
}

func TestWhereALogoutEnds(t *testing.T) { // RIL-04, RIL-05, S28
	t.Parallel()
	allowed := func(o *oidcauth.Options) {
		o.AllowedLogoutURLs = []string{"https://www.test/bye", "https://shop.test/out/*"}
	}
	const start, landing = "https://app.test/", "https://app.test/auth/logged-out"
	for _, tt := range []struct {
		name     string
		edit     func(*oidcauth.Options)
		returnTo string
		sent     string // post_logout_redirect_uri
		want     string
	}{
		{"nowhere named", nil, "", "https://app.test", start},
		{"a path", nil, "/bye?a=b#c", landing, "https://app.test/bye?a=b#c"},
		{"a URL of ours", nil, "https://app.test/bye", landing, "https://app.test/bye"},
		{"another host", nil, "https://evil.test/", "https://app.test", start},
		{"another host without scheme", nil, "//evil.test/", "https://app.test", start},
		{"another host with a backslash", nil, `/\evil.test/`, "https://app.test", start},
		{"another host with a tab", nil, "/\t/evil.test/", "https://app.test", start},
		{"another host by dots", nil, "/.//evil.test/", "https://app.test", start},
		{"a script", nil, "javascript:alert(1)", "https://app.test", start},
		{"a login", nil, "/auth/login", "https://app.test", start},
		{"a login, written otherwise", nil, "/a/../auth/%6cogin/", "https://app.test", start},
		{"a URL of AllowedLogoutURLs", allowed, "https://www.test/bye", "https://www.test/bye", "https://www.test/bye"},
		{"one that only begins so", allowed, "https://www.test/bye/bye", "https://app.test", start},
		{"one below a prefix", allowed, "https://shop.test/out/a?b=c", "https://shop.test/out/a?b=c", "https://shop.test/out/a?b=c"},
		{"one that climbs out of a prefix", allowed, "https://shop.test/out/../in", "https://app.test", start},
		{"one beside a prefix", allowed, "https://shop.test/outer", "https://app.test", start},
		{
			"an origin for logins", func(o *oidcauth.Options) { o.AllowedReturnOrigins = []string{"https://www.test"} },
			"https://www.test/a", landing, "https://www.test/a",
		},
		{"a path, without the route", func(o *oidcauth.Options) { o.Routes.LoggedOut = "-" }, "/bye", "https://app.test", start},
		{
			"nowhere named, with PostLogoutURL", func(o *oidcauth.Options) { o.PostLogoutURL = "https://www.test/hello" },
			"", "https://www.test/hello", "https://www.test/hello",
		},
		{
			"a path, with PostLogoutURL", func(o *oidcauth.Options) { o.PostLogoutURL = "https://www.test/hello" },
			"/bye", landing, "https://app.test/bye",
		},
	} {
		for _, strategy := range []oidcauth.LogoutStrategy{oidcauth.LogoutOIDC, oidcauth.LogoutV2} {
			t.Run(tt.name+" by "+string(strategy), func(t *testing.T) {
				t.Parallel()
				op := oidcauthtest.NewProvider(t)
				op.Register(nil, []string{
					"https://www.test/bye", "https://www.test/hello", "https://shop.test/out/a", "https://shop.test/out/a?b=c",
				})
				a := newAppAt(t, op, func(o *oidcauth.Options) {
					o.LogoutStrategy = strategy
					if tt.edit != nil {
						tt.edit(o)
					}
				})
				a.browser.Host("https://www.test", http.NotFoundHandler())
				a.browser.Host("https://shop.test", http.NotFoundHandler())
				a.browser.SignIn(oidcauthtest.Alice)
				end := a.browser.Get("/auth/logout?" + url.Values{"returnTo": {tt.returnTo}}.Encode())
				endpoint, param := "end_session", "post_logout_redirect_uri"
				if strategy == oidcauth.LogoutV2 {
					endpoint, param = "v2/logout", "returnTo"
				}
				sent := lastQuery(t, a.op, endpoint).Get(param)
				if strategy == oidcauth.LogoutV2 && tt.sent == landing { // it carries no state of its own
					sent, _, _ = strings.Cut(sent, "?state=")
				}
				if sent != tt.sent {
					t.Errorf("the provider is asked for %q, want %q", sent, tt.sent)
				}
				got := *end.URL
				if query := got.Query(); tt.sent != landing && query.Has("state") {
					query.Del("state") // the provider's, which nobody reads there
					got.RawQuery = query.Encode()
				}
				if got.String() != tt.want {
					t.Errorf("ends at %s, want %s", got.String(), tt.want)
				}
				if c := a.afterLogout(t, a.browser); len(c) > 0 {
					t.Errorf("cookies are left: %v", c)
				}
			})
		}
	}
}

func TestAStateThatIsNotOursLeadsNowhereElse(t *testing.T) { // RIL-04
	t.Parallel()
	for _, name := range []string{"logout-other-state", "logout-no-state"} {
		for _, strategy := range []oidcauth.LogoutStrategy{oidcauth.LogoutOIDC, oidcauth.LogoutV2} {
			t.Run(name+" by "+string(strategy), func(t *testing.T) {
				t.Parallel()
				a := newApp(t, func(o *oidcauth.Options) { o.LogoutStrategy = strategy })
				a.op.Misbehave(name)
				a.browser.SignIn(oidcauthtest.Alice)
				if end := a.browser.Get("/auth/logout?returnTo=/bye"); end.URL.String() != "https://app.test/" || end.Body != nobody {
					t.Errorf("ends at %s, where %q is signed in", end.URL, end.Body)
				}
			})
		}
	}
}

func TestALogoutIsAwaitedOnceAndForTenMinutes(t *testing.T) { // RIL-04, S28
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		leave := func(returnTo string) string { // stops before the landing
			r := a.browser.NoRedirects().Get("/auth/logout?returnTo=" + returnTo)
			target, _ := url.Parse(r.Location())
			return "/auth/logged-out?state=" + target.Query().Get("state")
		}
		first, second := leave("/first"), leave("/second")
		land := func(path string) string { return a.browser.NoRedirects().Get(path).Location() }
		if got := land(second); got != "https://app.test/second" {
			t.Errorf("the second of two logouts ends at %s", got)
		}
		if got := land(first); got != "https://app.test/first" {
			t.Errorf("the first of two logouts ends at %s", got)
		}
		if got := land(first); got != "https://app.test/" {
			t.Errorf("a state used twice leads to %s", got)
		}
		late := leave("/late")
		stolen := a.op.NewBrowser(a.handler)
		if got := stolen.NoRedirects().Get(late).Location(); got != "https://app.test/" {
			t.Errorf("another browser with the state is led to %s", got)
		}
		keeps := a.browser.Request("GET", late)
		time.Sleep(10*time.Minute - time.Second)
		if got := answerTo(a.handler, keeps.Clone(t.Context())).Header.Get("Location"); got != "/late" {
			t.Errorf("just before ten minutes it leads to %q", got)
		}
		time.Sleep(2 * time.Second)
		if got := answerTo(a.handler, keeps).Header.Get("Location"); got != "https://app.test" {
			t.Errorf("after ten minutes it leads to %q", got) // also if the cookie was kept
		}
	})
}

func TestTheLandingNeverLeadsToItself(t *testing.T) { // S28
	t.Parallel()
	a := newApp(t, func(o *oidcauth.Options) { o.PostLogoutURL = "https://app.test/auth/logged-out" })
	a.browser.SignIn(oidcauthtest.Alice)
	for path, want := range map[string]string{
		"/auth/logged-out":            "https://app.test/",
		"/auth/logged-out?state=x":    "https://app.test/",
		"/auth/logout":                "https://app.test/",
		"/auth/logout?returnTo=/bye":  "https://app.test/bye",
		"/auth/logged-out?state=%zz":  "https://app.test/",
		"/auth/logged-out?state=&a=b": "https://app.test/",
	} {
		if end := a.browser.Get(path); end.URL.String() != want {
			t.Errorf("%s ends at %s, want %s", path, end.URL, want)
		}
	}
}

func TestLogoutURLsOfTheirOwnShape(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []bool{true, false} {
		var got oidcauth.LogoutURLParams
		a := newApp(t, func(o *oidcauth.Options) {
			o.LogoutURL = func(p oidcauth.LogoutURLParams) (string, error) {
				got = p
				return "https://op.test/v2/logout?client_id=" + p.ClientID + "&returnTo=" + url.QueryEscape(p.PostLogoutURL), nil
			}
		})
		if !endpoint {
			a.op.EditMetadata(noEndSession)
		}
		a.browser.SignIn(oidcauthtest.Alice)
		a.browser.NoRedirects().Get("/auth/logout?returnTo=/bye&federated&logout_hint=h")
		if got.ClientID != "test-client" || got.PostLogoutURL != "https://app.test/auth/logged-out" || got.LogoutHint != "h" ||
			!got.Federated || len(got.State) != 43 || strings.Count(got.IDTokenHint, ".") != 2 {
			t.Errorf("with endpoint %v the function gets %+v, or not all of it", endpoint, got)
		}
		if end := a.browser.Get("/auth/logout"); end.URL.String() != "https://app.test/" {
			t.Errorf("ends at %s", end.URL)
		}
	}
}

func TestALogoutURLThatFailsKeepsNobodySignedIn(t *testing.T) { // RIL-02
	t.Parallel()
	for name, f := range map[string]func(oidcauth.LogoutURLParams) (string, error){
		"with an error": func(oidcauth.LogoutURLParams) (string, error) { return "https://op.test/x", errors.New("canary") },
		"with no URL":   func(oidcauth.LogoutURLParams) (string, error) { return "", nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t, func(o *oidcauth.Options) { o.LogoutURL = f })
			a.browser.SignIn(oidcauthtest.Alice)
			r := a.browser.Post("/auth/logout", nil)
			if r.StatusCode != http.StatusInternalServerError || errorCode(r) != "logout_failed" || strings.Contains(r.Body, "canary") {
				t.Errorf("status %d %q:\n%s", r.StatusCode, errorCode(r), r.Body)
			}
			if got := a.browser.Get("/").Body; got != nobody {
				t.Errorf("%q is still signed in", got)
			}
		})
	}
}

func TestLogoutWhileTheProviderIsDown(t *testing.T) { // RIL-02
	t.Parallel()
	for returnTo, want := range map[string]string{
		"": "https://app.test", "/bye": "/bye", "https://evil.test/": "https://app.test",
		"https://www.test/bye": "https://www.test/bye",
	} {
		first := newApp(t)
		cookie := first.cookies(t, oidcauthtest.Alice)
		first.op.Fail("discovery", 503, "", -1)
		first.op.Fail("revoke", 0, "", -1)
		a := newAppAt(t, first.op, func(o *oidcauth.Options) { o.AllowedLogoutURLs = []string{"https://www.test/*"} }) // a process just started
		r := ask(a.handler, "POST", "/auth/logout?"+url.Values{"returnTo": {returnTo}}.Encode(), "Cookie", cookie)
		if got := r.Header.Get("Location"); r.StatusCode != http.StatusSeeOther || got != want || !endsSession(r.Header) {
			t.Errorf("%q: status %d to %q, want a logout to %q", returnTo, r.StatusCode, got, want)
		}
		a.settle(t)
		if log := a.logs.String(); !strings.Contains(log, "logged out locally only") {
			t.Errorf("the log says nothing of it:\n%s", log)
		}
	}
}

// RIL-08, S12, S21: nothing of ours is left but what tells, where no store does, that this session has ended: to all
// processes, for as long as it could have lived, and about no other.
func TestALogoutLeavesNoCookie(t *testing.T) {
	t.Parallel()
	short := func(o *oidcauth.Options) { o.AbsoluteTimeout = 5 * time.Hour }
	a := newApp(t, short)
	other := a.cookies(t, oidcauthtest.Alice)
	if lines := endedLines(a.browser.NoRedirects().Post("/auth/logout", nil).Header); len(lines) > 0 {
		t.Errorf("without a session %q is set", lines)
	}
	a.browser.SignIn(oidcauthtest.User{Subject: "alice", Claims: map[string]any{"groups": incompressible(6000)}})
	for range 3 {
		a.started(t, "/auth/login") // never finished
	}
	before := a.browser.Clone()
	sessions, logins := 0, 0
	for _, c := range before.Cookies("/") {
		if isSession(c) {
			sessions++
		}
		if isLogin(c) {
			logins++
		}
	}
	if sessions < 2 || logins != 3 {
		t.Fatalf("%d cookies of the session and %d logins, want several and 3", sessions, logins)
	}
	came := a.browser.Request("GET", "/").Header.Get("Cookie")
	r := a.browser.NoRedirects().Post("/auth/logout", nil)
	if left := a.afterLogout(t, a.browser); len(left) > 0 {
		t.Errorf("%d cookies are left: %v", len(left), left)
	}
	lines := endedLines(r.Header)
	if len(lines) != 1 || !endedCookie.MatchString(lines[0]) {
		t.Fatalf("set is %q, want one that matches %v", lines, endedCookie)
	}
	ended, _, _ := strings.Cut(lines[0], ";")
	b := newAppAt(t, a.op, short) // another process
	for cookie, want := range map[string]string{came: "alice", came + "; " + ended: nobody, other + "; " + ended: "alice"} {
		if got := body(ask(b.handler, "GET", "/", "Cookie", cookie)); got != want {
			t.Errorf("with %d cookies another process says %q, want %q", strings.Count(cookie, "; ")+1, got, want)
		}
	}
	if got := r.Header.Get("Cache-Control"); !strings.Contains(got, "no-store") {
		t.Errorf("Cache-Control is %q", got)
	}
	if got := a.browser.Get("/account"); got.StatusCode != http.StatusOK || len(got.History) == 0 {
		t.Errorf("status %d at %s, want a new login", got.StatusCode, got.URL)
	}
}

var endedCookie = regexp.MustCompile(
	`^__Host-session\.ended=[A-Za-z0-9_-]{16}; Path=/; Max-Age=18000; HttpOnly; Secure; SameSite=Lax$`)

// incompressible returns n bytes of text that deflate makes no shorter than three quarters.
func incompressible(n int) string {
	const digits = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	var b strings.Builder
	for x := uint64(88172645463325252); b.Len() < n; { // xorshift: the same in each run
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b.WriteByte(digits[x%64])
	}
	return b.String()
}

func TestTheRefreshTokenIsRevoked(t *testing.T) { // RIL-07
	t.Parallel()
	for _, tt := range []struct {
		name  string
		edit  func(*oidcauth.Options)
		knobs func(*oidcauthtest.Provider)
		calls int
		left  int
	}{
		{"once", nil, func(*oidcauthtest.Provider) {}, 1, 0},
		{"and failure changes nothing", nil, func(p *oidcauthtest.Provider) { p.Fail("revoke", 500, "server_error", -1) }, 1, 1},
		{"and silence changes nothing", nil, func(p *oidcauthtest.Provider) { p.Fail("revoke", 0, "", -1) }, 1, 1},
		{"not with SkipRevocation", func(o *oidcauth.Options) { o.SkipRevocation = true }, func(*oidcauthtest.Provider) {}, 0, 1},
		{
			"not if there is none", nil,
			func(p *oidcauthtest.Provider) { p.Change(func(k *oidcauthtest.Knobs) { k.OmitRefreshToken = true }) }, 0, 0,
		},
		{
			"not without an endpoint", nil,
			func(p *oidcauthtest.Provider) {
				p.EditMetadata(func(m map[string]any) { delete(m, "revocation_endpoint") })
			}, 0, 1,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			op := oidcauthtest.NewProvider(t)
			tt.knobs(op)
			var edits []func(*oidcauth.Options)
			if tt.edit != nil {
				edits = append(edits, tt.edit)
			}
			a := newAppAt(t, op, edits...)
			a.browser.SignIn(oidcauthtest.Alice)
			if r := a.browser.NoRedirects().Post("/auth/logout", nil); r.StatusCode != http.StatusSeeOther || !endsSession(r.Header) {
				t.Errorf("status %d, want a logout", r.StatusCode)
			}
			a.settle(t)
			calls := op.Requests("revoke")
			if len(calls) != tt.calls || op.ActiveRefreshTokens("") != tt.left {
				t.Errorf("%d calls and %d tokens left, want %d and %d", len(calls), op.ActiveRefreshTokens(""), tt.calls, tt.left)
			}
			if len(calls) == 1 && calls[0].Form.Get("token_type_hint") != "refresh_token" { // RFC 7009 2.1
				t.Errorf("the hint is %q", calls[0].Form.Get("token_type_hint"))
			}
		})
	}
}

func TestNobodyWaitsForTheRevocation(t *testing.T) { // RIL-07
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		a.browser.SignIn(oidcauthtest.Alice)
		a.op.Delay("revoke", time.Hour)
		r := a.browser.Request("POST", "/auth/logout")
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		answerTo(a.handler, r.WithContext(ctx))
		cancel() // the request is over
		if took := time.Since(start); took != 0 {
			t.Errorf("the logout took %v", took)
		}
		synctest.Wait()
		if n := a.op.Count("revoke"); n != 1 {
			t.Fatalf("%d revocations under way, want 1", n)
		}
		short, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := a.Close(short); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("Close with a second returned %v after %v", err, time.Since(start))
		}
		a.settle(t)
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("Close returned after %v, want the 2 s that a revocation may take", took)
		}
		if err := a.Close(t.Context()); err != nil {
			t.Errorf("Close with nothing under way: %v", err)
		}
	})
}

func TestLogoutFromCode(t *testing.T) { // RIL-02
	t.Parallel()
	for _, tt := range []struct {
		name    string
		options *oidcauth.LogoutOptions
		method  string
		want    string
	}{
		{"without options", nil, "POST", "https://op.test/end_session"},
		{"to a path", &oidcauth.LogoutOptions{ReturnTo: "/bye"}, "GET", "https://op.test/end_session"},
		{"here alone", &oidcauth.LogoutOptions{Local: true}, "POST", "https://app.test/"},
		{"here alone, to a path", &oidcauth.LogoutOptions{Local: true, ReturnTo: "/bye"}, "GET", "https://app.test/bye"},
		{"here alone, to another site", &oidcauth.LogoutOptions{Local: true, ReturnTo: "//evil.test"}, "GET", "https://app.test/"},
	} {
		for _, guarded := range []bool{true, false} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				a := newApp(t)
				handler := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if err := a.Logout(w, r, tt.options); err != nil {
						a.Error(w, r, err)
					}
				}))
				if guarded {
					handler = a.RequireAuth(handler)
				}
				a.mux.Handle("/leave", handler)
				a.browser.SignIn(oidcauthtest.Alice)
				asked := len(a.op.Requests())
				step := a.browser.NoRedirects().Get
				if tt.method == "POST" {
					step = func(path string) *oidcauthtest.Response { return a.browser.NoRedirects().Post(path, nil) }
				}
				r := step("/leave")
				status := map[string]int{"GET": http.StatusFound, "POST": http.StatusSeeOther}[tt.method]
				got, _, _ := strings.Cut(r.Location(), "?")
				if r.StatusCode != status || got != tt.want {
					t.Errorf("status %d to %s, want %d to %s", r.StatusCode, got, status, tt.want)
				}
				if cc := r.Header.Get("Cache-Control"); !strings.Contains(cc, "no-store") {
					t.Errorf("Cache-Control is %q", cc)
				}
				a.settle(t)
				if extra := len(a.op.Requests()) - asked; extra != 1 || a.op.Count("revoke") != 1 {
					t.Errorf("%d requests to the provider, want the revocation alone", extra)
				}
				if name := a.browser.Get("/").Body; name != nobody {
					t.Errorf("%q is still signed in", name)
				}
			})
		}
	}
}

func TestLogoutFromCodeThatFailsEndsTheSessionAllTheSame(t *testing.T) { // RIL-02
	t.Parallel()
	a := newApp(t, func(o *oidcauth.Options) { o.LogoutStrategy = oidcauth.LogoutOIDC })
	a.op.EditMetadata(noEndSession)
	cookie := a.cookies(t, oidcauthtest.Alice)
	r := httptest.NewRequest("POST", "/leave", http.NoBody)
	r.Header.Set("Cookie", cookie)
	w := httptest.NewRecorder()
	err := a.Logout(w, r, nil)
	e, ok := errors.AsType[*oidcauth.Error](err)
	if !ok || e.Code != "logout_not_supported" || e.Status != http.StatusInternalServerError {
		t.Fatalf("the error is %v", err)
	}
	if w.Body.Len() > 0 || w.Header().Get("Location") != "" {
		t.Error("something was written beside headers")
	}
	a.Error(w, r, err)
	if got := w.Result(); got.StatusCode != http.StatusInternalServerError || !endsSession(got.Header) {
		t.Errorf("status %d with %q", got.StatusCode, sessionLines(got.Header))
	}
}

func TestEventsOfALogout(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.browser.SignIn(oidcauthtest.Alice)
	s, err := a.GetSession(a.browser.Request("GET", "/"))
	if err != nil {
		t.Fatal(err)
	}
	before := len(a.logs.all())
	a.browser.SignOut()
	a.browser.Get("/auth/logout") // without a session nothing ends
	got := a.logs.all()[before:]
	want := oidcauth.Event{Name: "session.ended", Issuer: "https://op.test/", Subject: "alice", SessionID: s.Handle, Route: "logout"}
	if len(got) != 1 || got[0] != want {
		t.Errorf("the events are %+v, want %+v alone", got, want)
	}
}

func TestLogoutURL(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ base, route, returnTo, want string }{
		{"https://app.test", "", "", "/auth/logout"},
		{"https://app.test", "", "/a?b=c&d", "/auth/logout?returnTo=%2Fa%3Fb%3Dc%26d"},
		{"https://app.test/app", "", "", "/app/auth/logout"},
		{"https://app.test/app/", "/out", "/x", "/app/out?returnTo=%2Fx"},
		{"https://app.test", "-", "/x", ""},
	} {
		client, _ := oidcauthtest.NewClient(t, func(o *oidcauth.Options) { o.BaseURL, o.Routes.Logout = tt.base, tt.route })
		if got := client.LogoutURL(tt.returnTo); got != tt.want {
			t.Errorf("%s with route %q: %q, want %q", tt.base, tt.route, got, tt.want)
		}
	}
}
