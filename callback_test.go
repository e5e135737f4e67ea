package oidcauth_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// returned starts a login and signs in at the provider. It returns the callback's URL, to which the browser has not gone yet.
func (a *app) returned(t testing.TB, path string) string {
	t.Helper()
	_, target := a.started(t, path)
	r := a.browser.NoRedirects().Get(target.String())
	if !strings.HasPrefix(r.Location(), "https://app.test/auth/callback?") {
		t.Fatalf("the provider answered %d: %s", r.StatusCode, r.Body)
	}
	return r.Location()
}

// edited is a URL with another query.
func edited(target string, edit func(url.Values)) string {
	u, err := url.Parse(target)
	if err != nil {
		return err.Error()
	}
	query := u.Query()
	edit(query)
	u.RawQuery = query.Encode()
	return u.String()
}

// A wire answers requests for one path of the provider itself, with 200.
type wire struct {
	http.RoundTripper
	path, contentType, body string
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path != w.path {
		return w.RoundTripper.RoundTrip(r)
	}
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {w.contentType}},
		Body: io.NopCloser(strings.NewReader(w.body)), Request: r,
	}, nil
}

// wired makes an option of a wire.
func wired(path, contentType, body string) func(*oidcauth.Options) {
	return func(o *oidcauth.Options) {
		o.FetchUserInfo = true
		o.HTTPClient = &http.Client{Transport: &wire{o.HTTPClient.Transport, path, contentType, body}}
	}
}

// sendsNoIss takes RFC 9207 out of the provider's metadata.
func sendsNoIss(a *app) {
	a.op.Change(func(k *oidcauthtest.Knobs) {
		k.EditMetadata = func(m map[string]any) { delete(m, "authorization_response_iss_parameter_supported") }
	})
}

// A failedLogin is one way for a login to fail.
type failedLogin struct {
	name     string
	edit     func(*oidcauth.Options) // nil: nothing
	change   func(*app)              // nil: nothing
	start    string                  // "": /auth/login
	callback func(url.Values)        // edits the callback's query; nil: nothing
	status   int
	code     string
	mismatch bool // the state matches no login, so that the login under way is left alone
}

func knob(f func(*oidcauthtest.Knobs)) func(*app) { return func(a *app) { a.op.Change(f) } }

func failing(endpoint string, status int, code string) func(*app) {
	return func(a *app) { a.op.Fail(endpoint, status, code, -1) }
}

func setting(name, value string) func(url.Values) { return func(q url.Values) { q.Set(name, value) } }

func adding(name, value string) func(url.Values) { return func(q url.Values) { q.Add(name, value) } }

func userInfo(o *oidcauth.Options) { o.FetchUserInfo = true }

// stray is a response whose state matches no login, spoiled one that has another fault, failed what happens later, and denied
// a genuine login that is not the one that was asked for.
func stray(name string, callback func(url.Values)) failedLogin {
	return failedLogin{name: name, callback: callback, status: 400, code: "invalid_state", mismatch: true}
}

func spoiled(name, code string, callback func(url.Values)) failedLogin {
	return failedLogin{name: name, callback: callback, status: 400, code: code}
}

func failed(name string, status int, code string, edit func(*oidcauth.Options), change func(*app)) failedLogin {
	return failedLogin{name: name, status: status, code: code, edit: edit, change: change}
}

// The failures of the authorization response (behaviour.md 3): nothing of it is exchanged.
var failedResponses = []failedLogin{
	stray("no state", func(q url.Values) { q.Del("state") }),
	stray("no parameters", func(q url.Values) { clear(q) }),
	stray("an empty state", setting("state", "")),
	stray("an unknown state", setting("state", strings.Repeat("A", 43))),
	// OIDC-07, lesson 26
	stray("state twice", func(q url.Values) { q.Add("state", q.Get("state")) }),
	stray("code twice", adding("code", "x")),
	stray("iss twice", func(q url.Values) { q.Add("iss", q.Get("iss")) }),
	stray("error twice", func(q url.Values) { q["error"] = []string{"a", "b"} }),
	stray("code and error", setting("error", "access_denied")),
	stray("a response in a JWT", setting("response", "x.y.z")),
	spoiled("neither code nor error", "invalid_response", func(q url.Values) { q.Del("code") }),
	spoiled("an empty code", "invalid_response", setting("code", "")),
	// ISS-01 to ISS-03, before the provider's error (OIDC-06)
	spoiled("iss of another", "invalid_issuer", setting("iss", "https://evil.test/")),
	spoiled("iss without its slash", "invalid_issuer", setting("iss", "https://op.test")),
	spoiled("iss encoded twice", "invalid_issuer", setting("iss", "https%3A%2F%2Fop.test%2F")),
	spoiled("an empty iss", "invalid_issuer", setting("iss", "")),
	spoiled("no iss although the provider sends it", "invalid_issuer", func(q url.Values) { q.Del("iss") }),
	{
		name: "iss of another from a provider that sends none", status: 400, code: "invalid_issuer", change: sendsNoIss,
		callback: setting("iss", "https://evil.test/"),
	},
	{name: "an error with the iss of another", status: 400, code: "invalid_issuer", callback: func(q url.Values) {
		q.Del("code")
		q.Set("error", "access_denied")
		q.Set("iss", "https://evil.test/")
	}},
	{name: "an error with another state", status: 400, code: "invalid_state", mismatch: true, callback: func(q url.Values) {
		q.Del("code")
		q.Set("error", "access_denied")
		q.Set("state", "x")
	}},
}

// The provider's own errors, whatever they are called (OIDC-05, OIDC-06).
func providerErrors() []failedLogin {
	var rows []failedLogin
	for _, code := range []string{
		"access_denied", "login_required", "interaction_required", "consent_required", "account_selection_required", "invalid_scope",
		"invalid_request", "temporarily_unavailable", "something_new",
		"server_error", "unauthenticated", "forbidden", "session_too_large", "exchange_failed", // which are ours as well
	} {
		rows = append(rows, failedLogin{
			name: "the provider's " + code, change: knob(func(k *oidcauthtest.Knobs) { k.AuthorizeError = code }), status: 400, code: code,
		})
	}
	for _, code := range []string{"<script>", "a b", "a\r\nb", "ä", strings.Repeat("a", 65)} {
		rows = append(rows, failedLogin{
			name: fmt.Sprintf("an error called %.8q", code), status: 400, code: "invalid_response",
			change: knob(func(k *oidcauthtest.Knobs) { k.AuthorizeError = code }),
		})
	}
	// Several providers that send iss leave it out of errors: nothing is exchanged then (ISS-02).
	return append(rows, failedLogin{
		name: "an error without iss", status: 400, code: "access_denied", callback: func(q url.Values) { q.Del("iss") },
		change: knob(func(k *oidcauthtest.Knobs) { k.AuthorizeError = "access_denied" }),
	})
}

// The failures of the exchange and what follows.
func failedExchanges() []failedLogin {
	rows := []failedLogin{
		// OIDC-10
		failed("the code is refused", 502, "exchange_failed", nil, failing("token", 400, "invalid_grant")),
		failed("the client is refused", 502, "exchange_failed", nil, failing("token", 401, "invalid_client")),
		failed("the token endpoint is gone", 502, "exchange_failed", nil, failing("token", 404, "")),
		failed("the token endpoint redirects", 502, "exchange_failed", nil, failing("token", 307, "")),
		failed("another type of token", 502, "exchange_failed", nil, misbehaving("token-type-mac")),
		{name: "no type of token", status: 502, code: "exchange_failed", change: knob(func(k *oidcauthtest.Knobs) {
			k.EditTokens = func(r map[string]any) { delete(r, "token_type") }
		})},
		{name: "no access token", status: 502, code: "exchange_failed", change: knob(func(k *oidcauthtest.Knobs) {
			k.EditTokens = func(r map[string]any) { delete(r, "access_token") }
		})},
		{name: "an error with status 200", status: 502, code: "exchange_failed", change: knob(func(k *oidcauthtest.Knobs) {
			k.OmitRefreshToken = true
			k.EditTokens = func(r map[string]any) { r["error"] = "invalid_grant" }
		})},
		failed("a page in place of tokens", 502, "exchange_failed", wired("/token", "text/html", "<html>"), nil),
		failed("a list in place of tokens", 502, "exchange_failed", wired("/token", "application/json", "[]"), nil),

		failed("no connection to the token endpoint", 503, "provider_unavailable", nil, failing("token", 0, "")),
		failed("the token endpoint fails", 503, "provider_unavailable", nil, failing("token", 500, "")),
		failed("the token endpoint is overloaded", 503, "provider_unavailable", nil, failing("token", 429, "")),
		failed("no connection to the keys", 503, "provider_unavailable", nil, failing("jwks", 0, "")),
		failed("the keys fail", 503, "provider_unavailable", nil, failing("jwks", 500, "")),
		failed("userinfo fails", 503, "provider_unavailable", userInfo, failing("userinfo", 500, "")),

		failed("userinfo of another", 502, "invalid_userinfo", userInfo, misbehaving("userinfo-invalid-sub")),
		{name: "userinfo of nobody", edit: userInfo, status: 502, code: "invalid_userinfo", change: knob(func(k *oidcauthtest.Knobs) {
			k.EditUserInfo = func(c map[string]any) { delete(c, "sub") }
		})},
		failed("userinfo does not accept the token", 502, "invalid_userinfo", userInfo, failing("userinfo", 401, "")),
		failed("userinfo is a list", 502, "invalid_userinfo", wired("/userinfo", "application/json", `[{"sub":"alice"}]`), nil), // lesson 31
		failed("userinfo is null", 502, "invalid_userinfo", wired("/userinfo", "application/json", "null"), nil),
		failed("userinfo is a page", 502, "invalid_userinfo", wired("/userinfo", "text/html", "<html>"), nil),
		failed("userinfo has sub twice", 502, "invalid_userinfo", wired("/userinfo", "application/json", `{"sub":"bob","sub":"alice"}`), nil),

		{name: "BeforeSave says no", edit: func(o *oidcauth.Options) {
			o.BeforeSave = func(context.Context, *oidcauth.Session) error { return errors.New("not you") }
		}, status: 403, code: "login_denied"},
		denied("another organization", "/auth/login?organization=org_1", claiming("org_id", "org_2")),
		denied("an authentication that is too old", "/auth/login?max_age=60", ago("auth_time", time.Hour)),
		denied("a method that is too weak", "/sign-in", claiming("acr", "weak")),
		failed("a session that is over", 403, "login_denied", nil, ago("session_expiry", time.Minute)),
		failed("a session that does not fit", 500, "session_too_large", nil, claiming("groups", noise(30_000))),
		{name: "OnLogin fails", edit: func(o *oidcauth.Options) {
			o.OnLogin = func(http.ResponseWriter, *http.Request, *oidcauth.Session, string) error { return errors.New("no") }
		}, status: 500, code: "server_error"},
	}
	for _, name := range []string{
		"invalid-iss", "missing-sub", "invalid-aud", "missing-aud", "missing-iat", "missing-exp", "expired", "nonce-invalid", "missing-nonce",
		"secondary-aud", "invalid-azp", "idtoken-sig-none", "invalid-sig-rs256", "alternate-alg", "typ-of-another", "at-hash-invalid",
		"missing-id-token",
	} {
		rows = append(rows, failedLogin{name: "ID token: " + name, change: misbehaving(name), status: 502, code: "invalid_id_token"})
	}
	return rows
}

func denied(name, start string, change func(*app)) failedLogin {
	return failedLogin{name: name, start: start, change: change, status: 403, code: "login_denied"}
}

// claiming sets a claim of the ID token, ago one that is a time.
func claiming(name string, value any) func(*app) {
	return knob(func(k *oidcauthtest.Knobs) { k.EditIDToken = func(c map[string]any) { c[name] = value } })
}

// answering sets a member of the token response.
func answering(name string, value any) func(*app) {
	return knob(func(k *oidcauthtest.Knobs) { k.EditTokens = func(r map[string]any) { r[name] = value } })
}

func ago(name string, d time.Duration) func(*app) {
	return knob(func(k *oidcauthtest.Knobs) {
		k.EditIDToken = func(c map[string]any) { c[name] = time.Now().Add(-d).Unix() }
	})
}

func TestCallbackFailures(t *testing.T) { // behaviour.md 3; OIDC-06, S44, HYG-03, HYG-05
	t.Parallel()
	for _, row := range slices.Concat(failedResponses, providerErrors(), failedExchanges()) {
		for kind, visit := range map[string]func(*oidcauthtest.Browser, string) *oidcauthtest.Response{
			"page": (*oidcauthtest.Browser).Get, "JSON": (*oidcauthtest.Browser).Fetch,
		} {
			t.Run(row.name+" as "+kind, func(t *testing.T) {
				t.Parallel()
				a := newApp(t, func(o *oidcauth.Options) {
					if row.edit != nil {
						row.edit(o)
					}
				})
				a.signInBy(&oidcauth.LoginOptions{RequireACR: []string{"strong"}})
				if row.change != nil {
					row.change(a)
				}
				start := row.start
				if start == "" {
					start = "/auth/login"
				}
				genuine := a.returned(t, start)
				target := genuine
				if row.callback != nil {
					target = edited(target, row.callback)
				}
				got := visit(a.browser.NoRedirects(), target)
				row.check(t, a, got, kind)
				a.keepsSecrets(t, got, genuine, target)
				a.settle(t)
				if n := a.op.ActiveRefreshTokens(""); n > 0 {
					t.Errorf("%d refresh tokens are left", n) // S44
				}
			})
		}
	}
}

// check asserts what the answer to a failed login says and does.
func (row *failedLogin) check(t *testing.T, a *app, got *oidcauthtest.Response, kind string) {
	t.Helper()
	if got.StatusCode != row.status || errorCode(got) != row.code {
		t.Errorf("answered %d %q, want %d %q\n%s", got.StatusCode, errorCode(got), row.status, row.code, a.logs)
	}
	contentType := "text/html; charset=utf-8"
	if kind == "JSON" {
		contentType = "application/json"
		var body map[string]string
		if err := json.Unmarshal([]byte(got.Body), &body); err != nil || len(body) != 2 || body["error_description"] == "" {
			t.Errorf("the body is %s, want error and error_description", got.Body)
		}
	}
	for name, want := range map[string]string{
		"Content-Type": contentType, "Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff",
		"Referrer-Policy": "no-referrer",
	} {
		if v := got.Header.Get(name); v != want {
			t.Errorf("%s is %q, want %q", name, v, want)
		}
	}
	if policy := got.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") ||
		!strings.Contains(policy, "frame-ancestors 'none'") {
		t.Errorf("Content-Security-Policy is %q", policy) // BCP-11
	}
	if (got.Header.Get("Retry-After") != "") != (row.status == http.StatusServiceUnavailable) {
		t.Errorf("Retry-After is %q", got.Header.Get("Retry-After"))
	}
	ended := slices.ContainsFunc(got.Cookies(), func(c *http.Cookie) bool { return isLogin(c) && c.MaxAge < 0 })
	if ended == row.mismatch {
		t.Errorf("login cookie deleted: %t, want %t", ended, !row.mismatch)
	}
	if setsSession(got) {
		t.Error("a session cookie was set")
	}
	if who := a.browser.Get("/").Body; who != nobody {
		t.Errorf("signed in as %q", who)
	}
	if names := a.logs.names(); names[len(names)-1] != "login.failed" {
		t.Errorf("the events are %q", names)
	}
	if n := a.op.Count("token"); n > 1 || n == 1 && row.status == 400 {
		t.Errorf("%d token requests", n)
	}
}

// keepsSecrets asserts that nothing secret of a login got into the log, an event or the answer (HYG-05, PKCE-02), and no cause
// into the answer. The callbacks are the URLs that were, or could have been, asked for.
func (a *app) keepsSecrets(t *testing.T, got *oidcauthtest.Response, callbacks ...string) {
	t.Helper()
	secrets := []string{a.op.Options().ClientSecret, a.op.Options().Secrets[0]}
	for _, callback := range callbacks {
		u, err := url.Parse(callback)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, u.Query().Get("state"), u.Query().Get("code"))
	}
	for _, sent := range a.op.Requests("authorize") {
		secrets = append(secrets, sent.Form.Get("nonce"))
	}
	for _, sent := range a.op.Requests("token") {
		secrets = append(secrets, sent.Form.Get("code_verifier"))
	}
	text := a.logs.String() + got.Body
	for _, e := range a.logs.all() {
		text += fmt.Sprintf("%+v %#v", e, e.Err)
		failure, ok := errors.AsType[*oidcauth.Error](e.Err)
		if ok && failure.Err != nil && strings.Contains(got.Body, failure.Err.Error()) {
			t.Errorf("the answer shows the cause: %s", got.Body)
		}
	}
	for _, secret := range secrets {
		if len(secret) > 8 && strings.Contains(text, secret) {
			t.Errorf("log, events or answer have a secret: %s", text)
		}
	}
}

func TestOnErrorKnowsWhereTheLoginWasToEnd(t *testing.T) {
	t.Parallel()
	var got *oidcauth.Error
	a := newApp(t, func(o *oidcauth.Options) {
		o.OnError = func(w http.ResponseWriter, _ *http.Request, e *oidcauth.Error) {
			got = e
			w.WriteHeader(http.StatusTeapot)
		}
	})
	a.op.Change(func(k *oidcauthtest.Knobs) { k.AuthorizeError = "login_required" })
	r := a.browser.Get("/auth/login?returnTo=/a?b")
	if r.StatusCode != http.StatusTeapot || !strings.Contains(r.Header.Get("Cache-Control"), "no-store") {
		t.Errorf("answered %d with Cache-Control %q", r.StatusCode, r.Header.Get("Cache-Control"))
	}
	if got == nil || got.ReturnTo != "/a?b" || got.Route != "callback" || got.Status != 400 || got.Code != "login_required" ||
		got.Public == "" {
		t.Fatalf("OnError got %+v", got)
	}
	refused, ok := errors.AsType[*oidcauth.ProviderError](got)
	if !ok || refused.Code != "login_required" || !errors.Is(got, oidcauth.ErrLoginRequired) { // OIDC-05
		t.Errorf("the cause is %v", got.Err)
	}
	down := newApp(t, func(o *oidcauth.Options) {
		o.OnError = func(_ http.ResponseWriter, _ *http.Request, e *oidcauth.Error) { got = e }
	})
	down.op.Fail("discovery", 0, "", 1)
	if down.browser.Get("/auth/login?returnTo=https://evil.test/"); got.ReturnTo != "/" || !errors.Is(got, oidcauth.ErrUnavailable) {
		t.Errorf("OnError got %+v, want a place that is ours", got)
	}
	a.browser.Get("/auth/callback?state=x&code=y")
	if got.ReturnTo != "" || !errors.Is(got, oidcauth.ErrInvalidState) {
		t.Errorf("without a login OnError got %+v", got)
	}
}

func TestEveryFailureOfALoginKnowsWhereItWasToEnd(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, start string
		edit        func(*oidcauth.Options)
		change      func(*app)
		status      int
	}{
		{"the provider is down at the start", "/auth/login?returnTo=/account", nil, failing("discovery", 0, ""), 503},
		{"the provider is down at a guard", "/account", nil, failing("discovery", 500, ""), 503},
		{"the provider is down at the callback", "/auth/login?returnTo=/account", nil, failing("token", 500, ""), 503},
		{"a token is wrong", "/account", nil, misbehaving("expired"), 502},
		{"a hook fails", "/account", func(o *oidcauth.Options) {
			o.OnLogin = func(http.ResponseWriter, *http.Request, *oidcauth.Session, string) error { return errors.New("no") }
		}, func(*app) {}, 500},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t, func(o *oidcauth.Options) {
				if tt.edit != nil {
					tt.edit(o)
				}
			})
			tt.change(a)
			page := a.browser.Get(tt.start)
			if page.StatusCode != tt.status || !strings.Contains(page.Body, `href="/auth/login?returnTo=%2Faccount"`) {
				t.Errorf("answered %d, and the page leads nowhere: %s", page.StatusCode, page.Body)
			}
		})
	}
}

func TestTheErrorPageLeadsOn(t *testing.T) { // S32
	t.Parallel()
	a := newApp(t)
	a.op.Misbehave("expired")
	// The query may be a secret: it stays in the sealed cookie and out of every URL (S33).
	if page := a.browser.Get("/auth/login?returnTo=/a?b%26c"); !strings.Contains(page.Body, `href="/auth/login?returnTo=%2Fa"`) {
		t.Errorf("the page does not lead to the same login again: %s", page.Body)
	}
	a.op.Change(func(k *oidcauthtest.Knobs) { k.EditIDToken = nil })
	a.browser.SignIn(oidcauthtest.User{Subject: "eve", Claims: map[string]any{"name": "<b>Eve & Co"}})
	for _, query := range []string{"", "?state=x", "?state=x&code=y", "?error=access_denied&state=x", "?state=x&state=x"} {
		page := a.browser.NoRedirects().Get("/auth/callback" + query)
		if page.StatusCode != 400 || !strings.Contains(page.Body, "Continue as &lt;b&gt;Eve &amp; Co") ||
			!strings.Contains(page.Body, `href="/auth/login"`) {
			t.Errorf("%q with a session: %d, and the page is %s", query, page.StatusCode, page.Body)
		}
		if len(page.Cookies()) > 0 || a.browser.Get("/").Body != "eve" {
			t.Errorf("%q changed the session", query)
		}
	}
}

func TestSessionTooLargeNamesTheRemedy(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	claiming("groups", noise(30_000))(a)
	page := a.browser.Get("/auth/login")
	if page.StatusCode != 500 || !strings.Contains(a.logs.String(), "DropIDToken") || strings.Contains(page.Body, "DropIDToken") {
		t.Errorf("answered %d, and the log is %s", page.StatusCode, a.logs)
	}
}

func TestCallbackMethods(t *testing.T) { // OIDC-08, S24, BCP-09, lesson 46
	t.Parallel()
	a := newApp(t)
	callback := a.returned(t, "/auth/login")
	for _, method := range []string{"HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO"} {
		r, err := http.NewRequestWithContext(t.Context(), method, callback, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		got := a.browser.NoRedirects().Do(r)
		if got.StatusCode != http.StatusMethodNotAllowed || got.Header.Get("Allow") != "GET" || len(got.Cookies()) > 0 {
			t.Errorf("%s: %d, Allow %q, %d cookies", method, got.StatusCode, got.Header.Get("Allow"), len(got.Cookies()))
		}
	}
	for name, value := range map[string]string{"Sec-Purpose": "prefetch;prerender", "Purpose": "prefetch", "X-Moz": "prefetch"} {
		r := a.browser.Request(http.MethodGet, callback)
		r.Header.Set(name, value)
		if got := a.browser.NoRedirects().Do(r); got.StatusCode != http.StatusServiceUnavailable || len(got.Cookies()) > 0 {
			t.Errorf("%s: %d with %d cookies", name, got.StatusCode, len(got.Cookies()))
		}
	}
	a.asked(t, "token", 0)
	if got := a.browser.NoRedirects().Get(callback); got.StatusCode != http.StatusFound || got.Location() != "https://app.test/" {
		t.Errorf("GET: %d to %s, want that nothing was spent", got.StatusCode, got.Location())
	}
}

func TestUnusualAnswersThatAreAccepted(t *testing.T) { // OIDC-10, ISS-02, lesson 31
	t.Parallel()
	tests := map[string]func(*app){
		"token_type in other letters": answering("token_type", "bEaReR"),
		"no expires_in":               knob(func(k *oidcauthtest.Knobs) { k.OmitExpiresIn = true }),
		"expires_in as text":          answering("expires_in", "3600"),
		"expires_in for ever":         answering("expires_in", 1e18),
		"no refresh token":            knob(func(k *oidcauthtest.Knobs) { k.OmitRefreshToken = true }),
		"odd refresh tokens":          knob(func(k *oidcauthtest.Knobs) { k.OddRefreshTokens = true }), // lesson 8
		"unknown members":             answering("x", []any{nil}),
		"exp for ever":                claiming("exp", uint64(9_007_199_254_740_992)),
		"exp beyond int64":            claiming("exp", 1e30),
		"session_expiry for ever":     claiming("session_expiry", 1e30),
		"no sid":                      knob(func(k *oidcauthtest.Knobs) { k.SID = "-" }),
		"a subject of 255 characters": claiming("sub", strings.Repeat("s", 255)),
		"no iss from a provider that sends none": knob(func(k *oidcauthtest.Knobs) {
			k.EditMetadata = func(m map[string]any) { delete(m, "authorization_response_iss_parameter_supported") }
			k.EditCallback = func(q url.Values) { q.Del("iss") }
		}),
		"further parameters": knob(func(k *oidcauthtest.Knobs) {
			k.EditCallback = func(q url.Values) { q.Set("session_state", "x"); q.Set("scope", "openid"); q.Set("error", "") }
		}),
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t)
			change(a)
			a.browser.SignIn(oidcauthtest.Alice)
			s, err := a.GetSession(a.browser.Request(http.MethodGet, "/"))
			if err != nil {
				t.Fatal(err)
			}
			if left := time.Until(s.ExpiresAt); left > 24*time.Hour || left < 23*time.Hour {
				t.Errorf("the session lasts %v, want the idle time", left)
			}
		})
	}
}

func TestWhatWasAskedForIsCheckedWhateverTheBrowserSent(t *testing.T) { // OIDC-23, lesson 25, S47
	t.Parallel()
	const old, recent = time.Hour, 20 * time.Second
	unknown := claiming("auth_time", nil)
	member := func(name string, value any) func(*app) { return claiming(name, value) }
	tests := []struct {
		name   string
		link   string
		ago    time.Duration // since the authentication
		change func(*app)
		denied bool
	}{
		{"max_age with an older authentication", "max_age=60", old, nil, true},
		{"max_age with a newer one", "max_age=7200", old, nil, false},
		{"prompt=login with an older authentication", "prompt=login", old, nil, true},
		{"prompt=login among others with an older authentication", "prompt=consent+login", old, nil, true},
		{"prompt=login with one of 20 s before, within the leeway", "prompt=login", recent, nil, false},
		{"prompt=login with a new one", "prompt=login", 0, nil, false},
		{"prompt=login where the provider does not say", "prompt=login", old, unknown, false},
		{"prompt=consent with an older authentication", "prompt=consent", old, nil, false},

		{"an organization by id", "organization=org_1", recent, member("org_id", "org_1"), false},
		{"another id", "organization=org_1", recent, member("org_id", "org_2"), true},
		{"an id in other letters", "organization=org_a", recent, member("org_id", "org_A"), true},
		{"an id where the token has a name", "organization=org_1", recent, member("org_name", "org_1"), true},
		{"an id that is no text", "organization=org_1", recent, member("org_id", []string{"org_1"}), true},
		{"no organization where one was asked for", "organization=org_1", recent, nil, true},
		{"an organization by name in other letters", "organization=Acme", recent, member("org_name", "aCME"), false},
		{"another name", "organization=acme", recent, member("org_name", "acme2"), true},
		{"a name where the token has an id", "organization=acme", recent, member("org_id", "acme"), true},
		{"an organization where none was asked for", "", recent, member("org_id", "org_1"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t)
			user := oidcauthtest.Alice
			if tt.ago > 0 {
				user.At = time.Now().Add(-tt.ago)
			}
			a.op.SetUser(user)
			if tt.change != nil {
				tt.change(a)
			}
			_, target := a.started(t, "/auth/login?"+tt.link)
			stripped := edited(target.String(), func(q url.Values) {
				q.Del("max_age")
				q.Del("prompt")
				q.Del("organization")
			})
			page := a.browser.Get(stripped)
			if denied := page.StatusCode == 403 && errorCode(page) == "login_denied"; denied != tt.denied || !denied && page.Body != "alice" {
				t.Errorf("answered %d %q, want denied: %t", page.StatusCode, errorCode(page), tt.denied)
			}
		})
	}
	t.Run("an organization of the options", func(t *testing.T) {
		t.Parallel()
		a := newApp(t, func(o *oidcauth.Options) { o.AuthParams = map[string]string{"organization": "org_1"} })
		if page := a.browser.Get("/auth/login"); errorCode(page) != "login_denied" {
			t.Errorf("without one: %d", page.StatusCode)
		}
		claiming("org_id", "org_1")(a)
		a.browser.SignIn(oidcauthtest.Alice)
	})
}

func TestFifteenMinutesForALogin(t *testing.T) { // OIDC-02
	t.Parallel()
	for _, tt := range []struct {
		after time.Duration
		code  string
	}{{14*time.Minute + 59*time.Second, ""}, {15*time.Minute + time.Second, "invalid_state"}} {
		t.Run(tt.after.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t)
				_, target := a.started(t, "/auth/login")
				cookie := a.browser.Request(http.MethodGet, "/auth/callback").Header.Get("Cookie")
				time.Sleep(tt.after)
				if kept := len(a.browser.Cookies("/")) > 0; kept != (tt.code == "") {
					t.Errorf("the browser kept the cookie: %t", kept)
				}
				// Whatever the browser did, the cookie itself knows.
				r := a.browser.Clone().NoRedirects().Get(target.String())
				forged := a.op.NewBrowser(a.handler)
				callback, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.Location(), http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				callback.Header.Set("Cookie", cookie)
				callback.Header.Set("Sec-Fetch-Mode", "navigate")
				got := forged.NoRedirects().Do(callback)
				if errorCode(got) != tt.code || setsSession(got) != (tt.code == "") {
					t.Errorf("answered %d %q, want %q", got.StatusCode, errorCode(got), tt.code)
				}
			})
		})
	}
}

func TestSessionExpiryIsACeiling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t, func(o *oidcauth.Options) { o.IdleTimeout = -1 })
		claiming("session_expiry", time.Now().Add(time.Hour).Unix())(a)
		page := a.browser.SignIn(oidcauthtest.Alice)
		callback := page.History[len(page.History)-1]
		for _, c := range callback.Cookies() {
			if isSession(c) && (c.MaxAge > 3630 || c.MaxAge < 3600) {
				t.Errorf("Max-Age is %d, want an hour and the leeway", c.MaxAge)
			}
		}
		r := a.browser.Request(http.MethodGet, "/")
		time.Sleep(time.Hour + 29*time.Second)
		if _, err := a.GetSession(r); err != nil {
			t.Errorf("within the leeway: %v", err)
		}
		time.Sleep(2 * time.Second)
		if _, err := a.GetSession(r); !errors.Is(err, oidcauth.ErrNoSession) {
			t.Errorf("after it: %v, want ErrNoSession", err)
		}
		if who := a.browser.Get("/").Body; who != nobody {
			t.Errorf("the browser is signed in as %q", who)
		}
	})
}

func TestAnotherProcessWhoseProviderIsDown(t *testing.T) { // THR-07
	t.Parallel()
	a := newApp(t)
	callback := a.returned(t, "/auth/login")
	other := newAppAt(t, a.op)
	a.browser.Host("https://app.test", other.handler)
	a.op.Fail("discovery", 0, "", 1)
	if r := a.browser.Get(callback); r.StatusCode != 503 || errorCode(r) != "provider_unavailable" || setsSession(r) {
		t.Errorf("answered %d %q", r.StatusCode, errorCode(r))
	}
	// and one whose provider is up ends the login
	a = newApp(t)
	callback = a.returned(t, "/auth/login")
	a.browser.Host("https://app.test", newAppAt(t, a.op).handler)
	if page := a.browser.Get(callback); page.Body != "alice" {
		t.Errorf("in another process the login ended with %d %q", page.StatusCode, page.Body)
	}
}
