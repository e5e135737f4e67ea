package op_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"
)

// aborted reports whether the provider closes the connection.
func aborted(do func()) (yes bool) {
	defer func() {
		if cause := recover(); cause != nil {
			err, ok := cause.(error)
			yes = ok && errors.Is(err, http.ErrAbortHandler)
		}
	}()
	do()
	return false
}

func TestALostAnswerHasTakenEffect(t *testing.T) { // S05: the unknown outcome
	t.Parallel()
	p := newProvider(t)
	token := login(t, p)["refresh_token"]
	p.FailAfter("token", 0, 1)
	if !aborted(func() { refresh(p, token) }) {
		t.Error("there was an answer")
	}
	if p.Grants() != 1 || p.ActiveRefreshTokens("alice") != 1 {
		t.Errorf("%d grants, %d active", p.Grants(), p.ActiveRefreshTokens("alice"))
	}
	if resp := refresh(p, token); resp.StatusCode != 400 || p.Reuses() != 1 {
		t.Errorf("the same token again: status %d, %d reuses, want 400 and 1", resp.StatusCode, p.Reuses())
	}

	code := authorize(t, p, nil).Get("code")
	p.FailAfter("token", 504, 1)
	resp := do(p, "POST", "/token", exchange(code, nil), client)
	if body := object(t, resp); resp.StatusCode != 504 || body["access_token"] != nil || body["error"] != nil {
		t.Errorf("another status: %d %v", resp.StatusCode, body)
	}
	if resp := do(p, "POST", "/token", exchange(code, nil), client); resp.StatusCode != 400 {
		t.Errorf("the same code again: status %d", resp.StatusCode)
	}
}

func TestAFailureBeforehandHasNoEffect(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	token := login(t, p)["refresh_token"]
	p.Fail("token", 0, "", 1)
	if !aborted(func() { refresh(p, token) }) || p.Grants() != 0 {
		t.Errorf("%d grants, want none", p.Grants())
	}
	if resp := refresh(p, token); resp.StatusCode != 200 {
		t.Errorf("then status %d", resp.StatusCode)
	}
}

func TestFailuresAreOneSequence(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	token := login(t, p)["refresh_token"]
	body := map[string]any{"error": "invalid_grant", "suberror": "consent_required"} // S16, Entra
	p.FailWith("token", 400, body, 2)
	p.Fail("token", 503, "server_error", 1)
	p.FailWith("token", 403, map[string]any{"error": "mfa_required", "mfa_token": "m"}, 1) // Auth0
	body["suberror"] = "changed later"
	for i, want := range []struct {
		status int
		error  any
		name   string
		value  any
	}{
		{400, "invalid_grant", "suberror", "consent_required"},
		{400, "invalid_grant", "suberror", "consent_required"},
		{503, "server_error", "suberror", nil},
		{403, "mfa_required", "mfa_token", "m"},
	} {
		resp := refresh(p, token)
		if got := object(t, resp); resp.StatusCode != want.status || got["error"] != want.error ||
			got[want.name] != want.value {
			t.Errorf("%d: status %d %v, want %v", i, resp.StatusCode, got, want)
		}
	}
	if resp := refresh(p, token); resp.StatusCode != 200 {
		t.Errorf("afterwards: status %d", resp.StatusCode)
	}
	for name, end := range map[string]func(){
		"Fail":      func() { p.Fail("jwks", 0, "", 0) },
		"FailWith":  func() { p.FailWith("jwks", 0, nil, 0) },
		"FailAfter": func() { p.FailAfter("jwks", 0, 0) },
	} {
		p.FailAfter("jwks", 500, -1)
		p.FailWith("jwks", 500, nil, -1)
		if end(); do(p, "GET", "/jwks", nil).StatusCode != 200 {
			t.Errorf("%s with 0 times does not end the failures", name)
		}
	}
}

func TestHeldRequestsWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		first, second := p.Hold("jwks"), p.Hold("jwks")
		done := 0
		start := func(ctx context.Context) {
			go func() {
				do(p, "GET", "/jwks", nil, func(r *http.Request) { *r = *r.WithContext(ctx) })
				done++
			}()
			synctest.Wait()
		}
		start(t.Context())
		time.Sleep(time.Hour)
		if do(p, "GET", "/userinfo", nil).StatusCode != 401 || done != 0 || len(p.Requests()) != 2 {
			t.Errorf("%d answers to %d requests, want one, of another endpoint, to 2", done+1, len(p.Requests()))
		}
		first()
		first() // once more does nothing
		if synctest.Wait(); done != 0 {
			t.Error("one release ended both holds")
		}
		gone, cancel := context.WithCancel(t.Context())
		start(gone)
		cancel()
		if synctest.Wait(); done != 1 {
			t.Errorf("%d requests ended, want the one whose client is gone", done)
		}
		second()
		if synctest.Wait(); done != 2 {
			t.Errorf("%d requests ended after the release, want 2", done)
		}
		if start(t.Context()); done != 3 {
			t.Error("a later request is held")
		}
	})
}

func hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func TestTheAPITellsWhatItLearned(t *testing.T) { // RFC 6750 3
	t.Parallel()
	const invalid = `Bearer error="invalid_token"`
	tests := []struct {
		name   string
		header func(token string) []string
		status int
		want   string // challenge
	}{
		{"good", func(token string) []string { return []string{"Bearer " + token} }, 200, ""},
		{"other case", func(token string) []string { return []string{"bearer " + token} }, 200, ""},
		{"none", func(string) []string { return nil }, 401, "Bearer"},
		{"empty", func(string) []string { return []string{"Bearer "} }, 401, "Bearer"},
		{"other scheme", func(token string) []string { return []string{"Basic " + token} }, 401, "Bearer"},
		{"two", func(token string) []string { return []string{"Bearer " + token, "Bearer " + token} }, 401, "Bearer"},
		{"unknown", func(token string) []string { return []string{"Bearer " + token + "x"} }, 401, invalid},
	}
	for _, tt := range tests {
		p := newProvider(t)
		token := loginFor(t, p, set("audience", "a"))["access_token"].(string)
		send := func(audience string) *http.Response {
			return do(p.NewAPI(audience), "GET", "/", nil, func(r *http.Request) {
				r.Header["Authorization"] = tt.header(token)
			})
		}
		resp := send("a")
		if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != tt.status || got != tt.want {
			t.Errorf("%s: status %d, challenge %q, want %d, %q", tt.name, resp.StatusCode, got, tt.status, tt.want)
		}
		if got := object(t, resp); tt.status == 200 && (got["sub"] != "alice" || got["aud"] != "a" ||
			got["scope"] != "openid offline_access" || got["token_hash"] != hash(token)) {
			t.Errorf("%s: %v", tt.name, got)
		}
		if resp := send("b"); resp.StatusCode != 401 {
			t.Errorf("%s, at another audience: status %d", tt.name, resp.StatusCode)
		}
		do(p, "POST", "/revoke", url.Values{"token": {token}}, client)
		if resp := send("a"); resp.StatusCode != 401 {
			t.Errorf("%s, after it was revoked: status %d", tt.name, resp.StatusCode)
		}
	}
}
