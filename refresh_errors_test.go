package oidcauth_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// A wiretap is the network between an application and its provider. It can disturb refreshes in ways that a provider cannot,
// and counts them all.
type wiretap struct {
	next http.RoundTripper

	mu      sync.Mutex
	disturb disturbance // nil: nothing is
	where   func(audience string) bool
	asked   []string // the audiences of the refreshes so far, "" for the login's own
}

// A disturbance answers a refresh in the provider's place. It may ask next.
type disturbance func(next http.RoundTripper, r *http.Request) (*http.Response, error)

// RoundTrip implements [http.RoundTripper].
func (w *wiretap) RoundTrip(r *http.Request) (*http.Response, error) {
	form, ok := refreshForm(r)
	if !ok {
		return w.next.RoundTrip(r)
	}
	audience := form.Get("resource")
	w.mu.Lock()
	w.asked = append(w.asked, audience)
	disturb := w.disturb
	if disturb != nil && !w.where(audience) {
		disturb = nil
	}
	w.mu.Unlock()
	if disturb == nil {
		return w.next.RoundTrip(r)
	}
	return disturb(w.next, r)
}

// refreshForm returns the form of r if it is a refresh.
func refreshForm(r *http.Request) (url.Values, bool) {
	if r.GetBody == nil || !strings.HasSuffix(r.URL.Path, "/token") {
		return nil, false
	}
	body, err := r.GetBody()
	if err != nil {
		return nil, false
	}
	text, _ := io.ReadAll(body) // from memory
	form, err := url.ParseQuery(string(text))
	return form, err == nil && form.Get("grant_type") == "refresh_token"
}

// breakFor disturbs the refreshes for audiences from now on; none is all of them.
func (w *wiretap) breakFor(d disturbance, audiences ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.disturb = d
	w.where = func(audience string) bool { return len(audiences) == 0 || slices.Contains(audiences, audience) }
}

func (w *wiretap) mend() { w.breakFor(nil) }

// count is the number of refreshes for an audience so far.
func (w *wiretap) count(audience string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.asked {
		if a == audience {
			n++
		}
	}
	return n
}

// rawAnswer is a disturbance with a status and a body.
func rawAnswer(status int, contentType, body string) disturbance {
	return func(_ http.RoundTripper, r *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(strings.NewReader(body)), Request: r,
		}, nil
	}
}

// oauthError is an OAuth error response (RFC 6749 5.2), with further members: names and values by turns.
func oauthError(status int, code string, more ...string) disturbance {
	members := map[string]any{"error": code, "error_description": "canary of the description"}
	for pair := range slices.Chunk(more, 2) {
		members[pair[0]] = pair[1]
	}
	body, _ := json.Marshal(members) // strings
	return rawAnswer(status, "application/json", string(body))
}

// rewritten lets the provider carry the refresh out and changes its answer.
func rewritten(f func(answer map[string]any)) disturbance {
	return func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		members := map[string]any{}
		if err := json.NewDecoder(resp.Body).Decode(&members); err != nil {
			return nil, err
		}
		f(members)
		body, err := json.Marshal(members)
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		return resp, err
	}
}

// neverAnswers is a provider that never answers.
func neverAnswers(_ http.RoundTripper, r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// breaksOff is a connection that breaks off.
func breaksOff(http.RoundTripper, *http.Request) (*http.Response, error) {
	return nil, io.ErrUnexpectedEOF
}

// A tokenApp is an application whose page /token answers with the access token that its query asks for.
type tokenApp struct {
	*app
	wire *wiretap
	mu   sync.Mutex
	last error // of the last answer
}

// newTokenApp returns an application whose access tokens live for a minute, with Alice signed in.
func newTokenApp(t testing.TB, edit ...func(*oidcauth.Options)) *tokenApp {
	t.Helper()
	return newTokenAppAt(t, oidcauthtest.NewProvider(t), edit...)
}

// newTokenAppAt is [newTokenApp] with a provider that there is already.
func newTokenAppAt(t testing.TB, op *oidcauthtest.Provider, edit ...func(*oidcauth.Options)) *tokenApp {
	t.Helper()
	a := &tokenApp{wire: &wiretap{}}
	wired := func(o *oidcauth.Options) {
		a.wire.next = o.HTTPClient.Transport
		o.HTTPClient = &http.Client{Transport: a.wire}
	}
	a.app = newAppAt(t, op, append([]func(*oidcauth.Options){wired}, edit...)...)
	a.op.Change(func(k *oidcauthtest.Knobs) { k.AccessTokenLifetime = time.Minute })
	a.mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		token, err := a.AccessToken(w, r, &oidcauth.TokenOptions{
			Audience: r.FormValue("audience"), ForceRefresh: r.FormValue("force") != "",
		})
		a.mu.Lock()
		a.last = err
		a.mu.Unlock()
		if err != nil {
			a.Error(w, r, err)
			return
		}
		_, _ = w.Write([]byte(token.AccessToken))
	})
	a.browser.SignIn(oidcauthtest.Alice)
	return a
}

// token fetches /token, and returns the answer and the error that it comes from.
func (a *tokenApp) token(b *oidcauthtest.Browser, audience string) (*oidcauthtest.Response, error) {
	resp := b.Fetch("/token?" + url.Values{"audience": {audience}}.Encode())
	a.mu.Lock()
	defer a.mu.Unlock()
	return resp, a.last
}

// deletesSession reports whether a response deletes the session cookie.
func deletesSession(r *oidcauthtest.Response) bool {
	return slices.ContainsFunc(r.Cookies(), func(c *http.Cookie) bool { return isSession(c) && c.MaxAge < 0 })
}

// A meaning is what a failed refresh means for who asked and for the session.
type meaning struct {
	name   string
	is     error // what the error is, nil for none of the sentinels
	status int   // of the answer by Client.Error
	code   string
	ended  bool // the session is over and its cookie deleted
	served bool // what is left of the old token is handed out
}

var (
	meansEnd     = meaning{"ends the session", oidcauth.ErrLoginRequired, 401, "login_required", true, false}
	meansLogin   = meaning{"asks for a login", oidcauth.ErrLoginRequired, 401, "login_required", false, false}
	meansMFA     = meaning{"asks for a second factor", oidcauth.ErrMFARequired, 403, "mfa_required", false, false}
	meansRefusal = meaning{"is refused", nil, 502, "refresh_failed", false, true}
	meansGarbage = meaning{"is unusable", nil, 502, "refresh_failed", false, true}
	meansOutage  = meaning{"is an outage", oidcauth.ErrUnavailable, 503, "provider_unavailable", false, true}
)

// A refusal is one way in which a refresh fails.
type refusal struct {
	name       string
	answer     disturbance
	provider   string  // code of the ProviderError, "" for none
	own, other meaning // to a refresh for the login's audience, and for another
}

// entra is an error of Microsoft's, who say in suberror what invalid_grant is about.
func entra(suberror string) disturbance {
	return oauthError(400, "invalid_grant", "suberror", suberror)
}

// S16, RFT-05: what each failure means is decided by code and suberror, never by a description.
var refusals = []refusal{
	{"invalid_grant", oauthError(400, "invalid_grant"), "invalid_grant", meansEnd, meansRefusal},
	{"invalid_grant with bad_token", entra("bad_token"), "invalid_grant", meansEnd, meansRefusal},
	{"invalid_grant with token_expired", entra("token_expired"), "invalid_grant", meansEnd, meansRefusal},
	{"invalid_grant with client_mismatch", entra("client_mismatch"), "invalid_grant", meansEnd, meansRefusal},
	{"invalid_grant with a suberror nobody knows", entra("new"), "invalid_grant", meansEnd, meansRefusal},
	{
		"invalid_grant with a suberror that is no text",
		rawAnswer(400, "application/json", `{"error":"invalid_grant","suberror":1}`), "invalid_grant", meansEnd, meansRefusal,
	},
	{"invalid_grant with status 401", oauthError(401, "invalid_grant"), "invalid_grant", meansEnd, meansRefusal},
	{"invalid_grant with status 200", oauthError(200, "invalid_grant"), "invalid_grant", meansEnd, meansRefusal},
	{"invalid_grant with consent_required", entra("consent_required"), "invalid_grant", meansLogin, meansLogin},
	{"invalid_grant with interaction_required", entra("interaction_required"), "invalid_grant", meansLogin, meansLogin},
	{"invalid_grant with login_required", entra("login_required"), "invalid_grant", meansLogin, meansLogin},
	{"invalid_grant with basic_action", entra("basic_action"), "invalid_grant", meansLogin, meansLogin},
	{"invalid_grant with additional_action", entra("additional_action"), "invalid_grant", meansLogin, meansLogin},
	{"invalid_grant with message_only", entra("message_only"), "invalid_grant", meansLogin, meansLogin},
	{"invalid_grant with user_password_expired", entra("user_password_expired"), "invalid_grant", meansLogin, meansLogin},
	{"invalid_grant with protection_policy_required", entra("protection_policy_required"), "invalid_grant", meansLogin, meansLogin},
	{"invalid_grant with device_authentication_failed", entra("device_authentication_failed"), "invalid_grant", meansLogin, meansLogin},
	{"invalid_grant with access_denied", entra("access_denied"), "invalid_grant", meansLogin, meansLogin},
	{"invalid_grant with mfa_required", entra("mfa_required"), "invalid_grant", meansMFA, meansMFA},
	{"interaction_required", oauthError(400, "interaction_required"), "interaction_required", meansLogin, meansLogin},
	{"consent_required", oauthError(400, "consent_required"), "consent_required", meansLogin, meansLogin},
	{"login_required", oauthError(400, "login_required"), "login_required", meansLogin, meansLogin},
	{"account_selection_required", oauthError(400, "account_selection_required"), "account_selection_required", meansLogin, meansLogin},
	{"access_denied", oauthError(403, "access_denied"), "access_denied", meansLogin, meansLogin},
	{"mfa_required", oauthError(403, "mfa_required", "mfa_token", "canary of the mfa token"), "mfa_required", meansMFA, meansMFA},
	{"invalid_client", oauthError(401, "invalid_client"), "invalid_client", meansRefusal, meansRefusal},
	{"unauthorized_client", oauthError(400, "unauthorized_client"), "unauthorized_client", meansRefusal, meansRefusal},
	{"unsupported_grant_type", oauthError(400, "unsupported_grant_type"), "unsupported_grant_type", meansRefusal, meansRefusal},
	{"invalid_request", oauthError(400, "invalid_request"), "invalid_request", meansRefusal, meansRefusal},
	{"invalid_scope", oauthError(400, "invalid_scope"), "invalid_scope", meansRefusal, meansRefusal},
	{"invalid_target", oauthError(400, "invalid_target"), "invalid_target", meansRefusal, meansRefusal},
	{"a code nobody knows", oauthError(400, "too_many_moons"), "too_many_moons", meansRefusal, meansRefusal},
	{
		"a description that lies",
		rawAnswer(400, "application/json", `{"error":"x","error_description":"invalid_grant"}`), "x", meansRefusal, meansRefusal,
	},

	{"500", rawAnswer(500, "text/plain", "canary"), "", meansOutage, meansOutage},
	{"500 with an OAuth error", oauthError(500, "invalid_grant"), "", meansOutage, meansOutage},
	{"502 with a page", rawAnswer(502, "text/html", "<html>canary</html>"), "", meansOutage, meansOutage},
	{"503", rawAnswer(503, "", ""), "", meansOutage, meansOutage},
	{"503 with an OAuth error", oauthError(503, "temporarily_unavailable"), "", meansOutage, meansOutage},
	{"429", rawAnswer(429, "application/json", "{}"), "", meansOutage, meansOutage},
	{"429 with an OAuth error", oauthError(429, "invalid_grant"), "", meansOutage, meansOutage},
	{"no answer", neverAnswers, "", meansOutage, meansOutage},
	{"a connection that breaks off", breaksOff, "", meansOutage, meansOutage},

	{"400 with a page", rawAnswer(400, "text/html", "<html>canary</html>"), "", meansGarbage, meansGarbage},
	{"200 with garbage", rawAnswer(200, "application/json", "canary"), "", meansGarbage, meansGarbage},
	{"200 with a page", rawAnswer(200, "text/html", "<html>canary</html>"), "", meansGarbage, meansGarbage},
	{"200 with too much", rawAnswer(200, "application/json", `{"x":"`+strings.Repeat("x", 8<<20)+`"}`), "", meansGarbage, meansGarbage},
	{"302", rawAnswer(302, "", ""), "", meansGarbage, meansGarbage},
	{
		"200 with a refresh token but no access token",
		rewritten(func(a map[string]any) { delete(a, "access_token") }), "", meansGarbage, meansGarbage,
	},
	{
		"200 with a token bound to a key that we have not", // RFC 9449
		rewritten(func(a map[string]any) { a["token_type"] = "DPoP" }), "", meansGarbage, meansGarbage,
	},
	{
		"200 with an access token that is no text",
		rewritten(func(a map[string]any) { a["access_token"] = 1 }), "", meansGarbage, meansGarbage,
	},
}

func TestWhatAFailedRefreshMeans(t *testing.T) { // S05, S16, RFT-05
	t.Parallel()
	const other = "https://other.test"
	for _, tt := range refusals {
		for _, valid := range []bool{true, false} {
			left, age := "an expired token", 70*time.Second
			if valid {
				left, age = "five seconds left", 55*time.Second
			}
			t.Run(fmt.Sprintf("%s for the login's audience %s, %s", tt.name, tt.own.name, left), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { checkFailure(t, &tt, tt.own, "", age, valid) })
			})
			t.Run(fmt.Sprintf("%s for another audience %s, %s", tt.name, tt.other.name, left), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { checkFailure(t, &tt, tt.other, other, age, valid) })
			})
		}
	}
}

// checkFailure lets refreshes for audience fail for a minute when its token is that old, and asserts what it means, that the
// provider is not hammered, and that all is well afterwards.
func checkFailure(t *testing.T, tt *refusal, want meaning, audience string, age time.Duration, valid bool) {
	t.Helper()
	a := newTokenApp(t)
	defer a.settle(t)
	first, _ := a.token(a.browser, audience)
	time.Sleep(age)
	a.wire.breakFor(tt.answer, audience)
	old, begun := a.browser.Clone(), time.Now()
	before := a.wire.count(audience)
	resp, err := a.token(a.browser, audience)
	switch {
	case valid && want.served && tt.answer != nil && time.Since(begun) < 5*time.Second:
		if err != nil || resp.Body != first.Body {
			t.Errorf("with 5 s left: %d, %v, want the token at hand", resp.StatusCode, err)
		}
		time.Sleep(6 * time.Second)
		resp, err = a.token(a.browser, audience)
		want.expect(t, tt.provider, resp, err)
	default:
		want.expect(t, tt.provider, resp, err)
	}
	if deletesSession(resp) != want.ended {
		t.Errorf("the cookie is deleted: %t, want %t", deletesSession(resp), want.ended)
	}
	if a.wire.count(audience) == before {
		t.Fatal("the provider was not asked")
	}

	// 1, 2, 4 … 30 s of back-off: five more in the minute that follows, fewer if each takes 30 s itself.
	for start := time.Now(); time.Since(start) < time.Minute; time.Sleep(time.Second) {
		resp, err = a.token(a.browser, audience)
		if want.ended {
			if !errors.Is(err, oidcauth.ErrNoSession) {
				t.Fatalf("after the session's end: %v", err)
			}
			continue
		}
		want.expect(t, tt.provider, resp, err)
	}
	if n, most := a.wire.count(audience)-before, 7; n > most || want.ended && n != 1 {
		t.Errorf("%d refreshes within a minute, want at most %d, and 1 if the session has ended", n, most)
	}

	a.wire.mend()
	time.Sleep(31 * time.Second)
	resp, err = a.token(a.browser, audience)
	if want.ended {
		if resp.StatusCode != 401 || errorCode(resp) != "unauthenticated" {
			t.Errorf("later: %d %s, want no session", resp.StatusCode, errorCode(resp))
		}
		if _, err := a.token(old, audience); !errors.Is(err, oidcauth.ErrNoSession) {
			t.Errorf("with the cookie of before: %v, want no session", err)
		}
		a.browser.SignIn(oidcauthtest.Alice)
		resp, err = a.token(a.browser, audience)
	}
	subject, _, _, live := a.op.AccessToken(resp.Body)
	if err != nil || subject != "alice" || !live {
		t.Errorf("when the provider is well again: %d, %v; the token is %q's, live: %t", resp.StatusCode, err, subject, live)
	}
	if a.op.Reuses() > 0 {
		t.Error("a refresh token was used twice")
	}
	if strings.Contains(a.logs.String(), "canary") {
		t.Errorf("the log has the provider's words:\n%s", a.logs)
	}
}

// expect asserts that an answer and its error mean m.
func (m *meaning) expect(t *testing.T, provider string, resp *oidcauthtest.Response, err error) {
	t.Helper()
	if err == nil || m.is != nil && !errors.Is(err, m.is) {
		t.Errorf("the error is %v, want %v", err, m.is)
	}
	for _, other := range []error{
		oidcauth.ErrNoSession, oidcauth.ErrLoginRequired, oidcauth.ErrMFARequired, oidcauth.ErrUnavailable, oidcauth.ErrHeaderWritten,
	} {
		if !errors.Is(other, m.is) && errors.Is(err, other) {
			t.Errorf("the error is %v too: %v", other, err)
		}
	}
	code := ""
	if e, ok := errors.AsType[*oidcauth.ProviderError](err); ok {
		code = e.Code
	}
	if code != provider {
		t.Errorf("the provider's code is %q, want %q: %v", code, provider, err)
	}
	if resp.StatusCode != m.status || errorCode(resp) != m.code {
		t.Errorf("answered with %d %q, want %d %q", resp.StatusCode, errorCode(resp), m.status, m.code)
	}
	if strings.Contains(fmt.Sprintf("%v %+v %s", err, err, resp.Body), "canary") {
		t.Errorf("the error or the answer has the provider's words: %v, %s", err, resp.Body)
	}
}

// S16: for another audience some providers say invalid_grant of the audience, and some of the refresh token. A refresh for
// the login's own tells which, at most once a minute.
func TestWhoseGrantIsInvalidIsFoundOut(t *testing.T) {
	t.Parallel()
	const other = "https://other.test"
	everything := []string{"", other}
	tests := []struct {
		name   string
		own    disturbance // nil: the login's own is refreshed
		ended  bool
		probes int // in the first minute; 1 at most
	}{
		{"the audience's", nil, false, 1},
		{"the session's", oauthError(400, "invalid_grant"), true, 1},
		{"unknown during an outage", rawAnswer(503, "", ""), false, 1},
		{"unknown, while the client is refused", oauthError(401, "invalid_client"), false, 1},
		{"unknown, while the user is to sign in", oauthError(400, "interaction_required"), false, 1},
		{"unknown, while the answer is garbage", rawAnswer(200, "application/json", "garbage"), false, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newTokenApp(t)
				defer a.settle(t)
				time.Sleep(2 * time.Minute)
				a.wire.breakFor(func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
					form, _ := refreshForm(r)
					switch {
					case form.Get("resource") == other:
						return oauthError(400, "invalid_grant")(next, r)
					case tt.own != nil:
						return tt.own(next, r)
					}
					return next.RoundTrip(r)
				}, everything...)
				first, err := a.token(a.browser, other)
				want := meansRefusal
				if tt.ended {
					want = meansEnd
				}
				want.expect(t, "invalid_grant", first, err)
				if deletesSession(first) != tt.ended {
					t.Errorf("the cookie is deleted: %t, want %t", deletesSession(first), tt.ended)
				}
				for range 59 {
					time.Sleep(time.Second)
					_, _ = a.token(a.browser, other)
				}
				if n := a.wire.count(""); n > tt.probes || n == 0 {
					t.Errorf("%d refreshes for the login's own audience within a minute, want %d", n, tt.probes)
				}
				a.wire.mend()
				time.Sleep(31 * time.Second)
				if resp, err := a.token(a.browser, other); (err == nil) == tt.ended {
					t.Errorf("when the provider is well again: %d, %v", resp.StatusCode, err)
				}
			})
		})
	}
}

// S16: one page that asks for an audience without consent does not harm the others.
func TestAnAudienceThatFailsDoesNotHarmTheOthers(t *testing.T) {
	t.Parallel()
	const other, third = "https://other.test", "https://third.test"
	for _, tt := range refusals {
		if tt.other.code == meansOutage.code || tt.provider == "" {
			continue // an outage is everybody's, and so is an answer that says nothing about the audience
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newTokenApp(t)
				defer a.settle(t)
				a.wire.breakFor(tt.answer, other)
				for range 45 {
					time.Sleep(4 * time.Second)
					if _, err := a.token(a.browser, other); err == nil {
						t.Fatal("a token for the audience that is to fail")
					}
					for _, audience := range []string{"", third} {
						resp, err := a.token(a.browser, audience)
						if _, got, _, live := a.op.AccessToken(resp.Body); err != nil || !live || audience != "" && got != audience {
							t.Fatalf("%q: %d, %v; the token is for %q, live: %t", audience, resp.StatusCode, err, got, live)
						}
					}
				}
			})
		})
	}
}

// A rotated refresh token counts even if the rest of the answer is meansGarbage, in this process and in the cookie.
func TestTheRefreshTokenOfAnUnusableAnswerIsKept(t *testing.T) { // S05, RFT-02
	t.Parallel()
	for _, elsewhere := range []bool{false, true} {
		t.Run(fmt.Sprintf("asked for in another process: %t", elsewhere), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newTokenApp(t)
				defer a.settle(t)
				time.Sleep(70 * time.Second)
				a.wire.breakFor(rewritten(func(m map[string]any) { delete(m, "access_token") }))
				if _, err := a.token(a.browser, ""); err == nil {
					t.Fatal("a token out of nothing")
				}
				a.wire.mend()
				time.Sleep(40 * time.Second)
				cookie := a.browser.Request(http.MethodGet, "/").Header.Get("Cookie")
				asked := a.app
				if elsewhere {
					asked = newAppAt(t, a.op)
				}
				r := a.browser.Request(http.MethodGet, "/")
				r.Header.Set("Cookie", cookie)
				token, err := asked.AccessToken(httptest.NewRecorder(), r, nil)
				if err != nil || a.op.Reuses() > 0 {
					t.Fatalf("%v, with %d reuses", err, a.op.Reuses())
				}
				if _, _, _, live := a.op.AccessToken(token.AccessToken); !live {
					t.Error("the token is not live")
				}
			})
		})
	}
}

// auth0.md, S16: what the provider adds to an error is there for the application, and in no text.
func TestTheProvidersFurtherMembersAreKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newTokenApp(t)
		defer a.settle(t)
		time.Sleep(70 * time.Second)
		a.wire.breakFor(oauthError(403, "mfa_required", "mfa_token", "canary"))
		_, err := a.token(a.browser, "")
		e, ok := errors.AsType[*oidcauth.ProviderError](err)
		if !ok || !errors.Is(err, oidcauth.ErrMFARequired) || e.Raw["mfa_token"] != "canary" || e.Code != "mfa_required" {
			t.Fatalf("the error is %v, want mfa_required with the mfa_token", err)
		}
		if e.Description != "canary of the description" {
			t.Errorf("the description is %q", e.Description)
		}
	})
}

func TestEventsOfAFailedRefresh(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		answer disturbance
		want   []string
	}{
		{"that ends the session", oauthError(400, "invalid_grant"), []string{"refresh.failed", "session.ended"}},
		{"that asks for a login", oauthError(400, "login_required"), []string{"refresh.failed"}},
		{"of an outage", rawAnswer(503, "", ""), []string{"refresh.failed"}},
		{"that goes well", nil, []string{"session.refreshed"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newTokenApp(t)
				defer a.settle(t)
				time.Sleep(70 * time.Second)
				a.wire.breakFor(tt.answer)
				before := len(a.logs.names())
				_, _ = a.token(a.browser, "")
				a.settle(t) // events follow the answer
				got := slices.DeleteFunc(a.logs.names()[before:], func(name string) bool { return name == "session.joined" })
				if !slices.Equal(got, tt.want) {
					t.Errorf("the events are %q, want %q", got, tt.want)
				}
				for _, e := range a.logs.all()[before:] {
					if e.Subject != "alice" || e.SessionID == "" || (e.Err != nil) != (e.Name == "refresh.failed") {
						t.Errorf("%s names %q, %q, error %v", e.Name, e.Subject, e.SessionID, e.Err)
					}
				}
			})
		})
	}
}
