package oidcauth_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

func formPost(o *oidcauth.Options) { o.ResponseMode = oidcauth.ResponseFormPost }

// posting starts a login and returns the fields that the provider's page is about to post.
func (a *app) posting(t *testing.T, start string) url.Values {
	t.Helper()
	var fields url.Values
	a.op.Change(func(k *oidcauthtest.Knobs) {
		k.EditCallback = func(q url.Values) { fields = url.Values(http.Header(q).Clone()) }
	})
	defer a.op.Change(func(k *oidcauthtest.Knobs) { k.EditCallback = nil })
	first := a.browser.From("https://app.test").NoRedirects().Get(start)
	if page := a.browser.NoRedirects().Get(first.Header.Get("Location")); page.StatusCode != http.StatusOK {
		t.Fatalf("the provider answers %d", page.StatusCode)
	}
	return fields
}

// FPM-01 to FPM-05, OAuth 2.0 Form Post Response Mode.
func TestALoginByFormPost(t *testing.T) {
	t.Parallel()
	a := newApp(t, formPost)
	page := a.browser.Get("/account?tab=2")
	if page.URL.String() != "https://app.test/account?tab=2" || page.Body != "alice" {
		t.Fatalf("the login ends at %s with %d %q", page.URL, page.StatusCode, page.Body)
	}
	if mode := a.op.Requests("authorize")[0].Form.Get("response_mode"); mode != "form_post" {
		t.Errorf("response_mode is %q", mode)
	}
	i := slices.IndexFunc(page.History, func(r *oidcauthtest.Response) bool { return r.URL.Path == "/auth/callback" })
	if i < 0 || page.History[i].StatusCode != http.StatusSeeOther { // FPM-05
		t.Fatalf("no callback, or not a 303: %d", i)
	}
	for _, step := range page.History {
		if strings.Contains(step.URL.String(), "code=") {
			t.Errorf("the code is in a URL: %s", step.URL.Path)
		}
	}
	for _, c := range page.History[i].Cookies() { // FPM-02: only the login's is for other sites
		if isSession(c) && (c.SameSite != http.SameSiteLaxMode || !c.Secure) {
			t.Errorf("the session's cookie: %v", c.SameSite)
		}
	}
	login := page.History[0].Cookies()[0]
	if login.SameSite != http.SameSiteNoneMode || !login.Secure || !login.HttpOnly || !strings.HasPrefix(login.Name, "__Host-login-") {
		t.Errorf("the login's cookie is %s with SameSite %v", login.Name, login.SameSite) // FPM-03: explicit
	}
}

func TestWhatIsNoFormPostIsRefused(t *testing.T) { // FPM-01, FPM-04
	t.Parallel()
	const form = "application/x-www-form-urlencoded"
	for name, tt := range map[string]struct {
		method, query, mediaType string
		edit                     func(url.Values)
		origin                   string
		status                   int
		code                     string
	}{
		"from the provider's page":      {status: 303, origin: "https://op.test"},
		"from a page without an origin": {status: 303, origin: "null"},
		"with a charset":                {status: 303, mediaType: form + "; charset=utf-8"},
		"by GET":                        {method: "GET", status: 405, code: "method_not_allowed"},
		"with something in the query":   {query: "?x=1", status: 400, code: "invalid_state"},
		"as JSON":                       {mediaType: "application/json", status: 400, code: "invalid_state"},
		"as multipart":                  {mediaType: "multipart/form-data; boundary=x", status: 400, code: "invalid_state"},
		"without a state":               {edit: func(q url.Values) { q.Del("state") }, status: 400, code: "invalid_state"},
		"with another state":            {edit: func(q url.Values) { q.Set("state", strings.Repeat("A", 43)) }, status: 400, code: "invalid_state"},
		"with two states":               {edit: func(q url.Values) { q.Add("state", "x") }, status: 400, code: "invalid_state"},
		"with a huge field":             {edit: func(q url.Values) { q.Set("x", strings.Repeat("x", 64<<10)) }, status: 400, code: "invalid_state"},
		"with another issuer":           {edit: func(q url.Values) { q.Set("iss", "https://evil.test/") }, status: 400, code: "invalid_issuer"},
		"with an error": {edit: func(q url.Values) {
			q.Del("code")
			q.Set("error", "access_denied")
		}, status: 400, code: "access_denied"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t, formPost)
			fields := a.posting(t, "/auth/login?returnTo=/there")
			if tt.edit != nil {
				tt.edit(fields)
			}
			method := tt.method
			if method == "" {
				method = http.MethodPost
			}
			r, err := http.NewRequestWithContext(t.Context(), method, "/auth/callback"+tt.query, strings.NewReader(fields.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Sec-Fetch-Mode", "navigate")
			r.Header.Set("Content-Type", form)
			if tt.mediaType != "" {
				r.Header.Set("Content-Type", tt.mediaType)
			}
			if tt.origin != "" {
				r.Header.Set("Origin", tt.origin)
			}
			resp := a.browser.From("https://op.test").NoRedirects().Do(r)
			if resp.StatusCode != tt.status || errorCode(resp) != tt.code || setsSession(resp) != (tt.status == 303) {
				t.Errorf("%d %q, session %t, want %d %q", resp.StatusCode, errorCode(resp), setsSession(resp), tt.status, tt.code)
			}
			if tt.status == 303 && resp.Header.Get("Location") != "/there" {
				t.Errorf("it ends at %q", resp.Header.Get("Location"))
			}
		})
	}
}

// Some providers answer with errors by a redirect all the same. A code never comes that way.
func TestAnErrorMayComeByGET(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		edit   func(url.Values)
		status int
		code   string
	}{
		"an error":                  {func(q url.Values) { q.Del("code") }, 400, "access_denied"},
		"an error of another login": {func(q url.Values) { q.Del("code"); q.Set("state", strings.Repeat("A", 43)) }, 400, "invalid_state"},
		"an error and a code":       {func(url.Values) {}, 400, "invalid_state"},
		"a code":                    {func(q url.Values) { q.Del("error") }, 405, "method_not_allowed"},
		"neither":                   {func(q url.Values) { q.Del("error"); q.Del("code") }, 405, "method_not_allowed"},
	} {
		a := newApp(t, formPost)
		fields := a.posting(t, "/auth/login?returnTo=/there")
		fields.Set("error", "access_denied")
		tt.edit(fields)
		resp := a.browser.From("https://op.test").NoRedirects().Get("/auth/callback?" + fields.Encode())
		if resp.StatusCode != tt.status || errorCode(resp) != tt.code || setsSession(resp) || a.op.Count("token") != 0 {
			t.Errorf("%s: %d %q after %d exchanges", name, resp.StatusCode, errorCode(resp), a.op.Count("token"))
		}
	}
}

// S24: the same post twice is one exchange; another one with the same state is none.
func TestTheSamePostTwiceIsOneLogin(t *testing.T) {
	t.Parallel()
	a := newApp(t, formPost)
	fields := a.posting(t, "/auth/login")
	from := a.browser.From("https://op.test").NoRedirects()
	again := from.Clone()
	if resp := from.Post("/auth/callback", fields); resp.StatusCode != http.StatusSeeOther {
		t.Fatalf("%d %q", resp.StatusCode, errorCode(resp))
	}
	if resp := again.Clone().Post("/auth/callback", fields); resp.StatusCode != http.StatusSeeOther || a.op.Count("token") != 1 {
		t.Errorf("the same again: %d after %d exchanges", resp.StatusCode, a.op.Count("token"))
	}
	fields.Set("code", "another")
	if resp := again.Post("/auth/callback", fields); errorCode(resp) != "invalid_state" || a.op.Count("token") != 1 {
		t.Errorf("another code: %q after %d exchanges", errorCode(resp), a.op.Count("token"))
	}
}

// In another browser the post finds no login: login CSRF (THR-12).
func TestAPostIntoAnotherBrowserIsRefused(t *testing.T) {
	t.Parallel()
	a := newApp(t, formPost)
	fields := a.posting(t, "/auth/login")
	victim := a.op.NewBrowser(a.handler)
	if resp := victim.From("https://op.test").Post("/auth/callback", fields); errorCode(resp) != "invalid_state" || setsSession(resp) {
		t.Errorf("%d %q", resp.StatusCode, errorCode(resp))
	}
}

// S25: the callback does not see the session's cookie, and ends it all the same.
func TestALoginEndsTheSessionThatThereWasAtItsStart(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*oidcauth.Options){"form_post": formPost, "query": func(*oidcauth.Options) {}} {
		a := newApp(t, edit)
		a.browser.SignIn(oidcauthtest.Alice)
		thief := a.browser.Clone()
		a.browser.SignIn(oidcauthtest.User{Subject: "bob"})
		if who := thief.Get("/").Body; who != nobody {
			t.Errorf("%s: a copy of the session before is still %s", name, who)
		}
		if who := a.browser.Get("/").Body; who != "bob" {
			t.Errorf("%s: signed in is %s", name, who)
		}
	}
}

func TestFormPostNeedsASecureCookie(t *testing.T) {
	t.Parallel()
	for base, field := range map[string]string{
		"https://app.example.com": "", "http://localhost:3000": "", "http://127.0.0.1:3000": "", "http://app.example.com": "ResponseMode",
	} {
		o := rightOptions()
		o.BaseURL, o.InsecureAllowHTTP, o.ResponseMode = base, true, oidcauth.ResponseFormPost
		_, err := oidcauth.New(o)
		if got := err != nil && strings.Contains(err.Error(), "oidcauth: "+field+": "); got != (field != "") || field == "" && err != nil {
			t.Errorf("%s: %v", base, err)
		}
	}
	o := rightOptions()
	o.ResponseMode = "fragment"
	if _, err := oidcauth.New(o); err == nil || !strings.Contains(err.Error(), "ResponseMode") {
		t.Errorf("an unknown mode: %v", err)
	}
}
