package oidcauth_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// newRefreshModule returns an application at a provider that answers as the suite's does in the refresh modules: with a
// refresh token of printable ASCII, and without expires_in (CS-12), so that only a forced refresh happens. Its page /again
// forces one and asks UserInfo with the new token. The answers of the token endpoint are in the second result.
func newRefreshModule(t *testing.T) (*app, *[]map[string]any) {
	t.Helper()
	a := newModule(t)
	answers := &[]map[string]any{}
	a.op.Misbehave("refresh-token")
	a.op.Change(func(k *oidcauthtest.Knobs) {
		k.OmitRefreshToken = false
		k.EditTokens = func(r map[string]any) { *answers = append(*answers, r) }
	})
	a.mux.HandleFunc("/again", func(w http.ResponseWriter, r *http.Request) {
		client, err := a.HTTPClient(w, r, &oidcauth.TokenOptions{ForceRefresh: true}, "https://op.test")
		if err != nil {
			a.Error(w, r, err)
			return
		}
		req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, "https://op.test/userinfo", http.NoBody)
		if err != nil {
			a.Error(w, r, err)
			return
		}
		resp, err := client.Do(req)
		if err != nil {
			a.Error(w, r, err)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body) // an error means that the client is gone
	})
	a.browser.SignIn(oidcauthtest.Alice)
	return a, answers
}

// oidcc-client-refreshtoken-test-plan
func TestConformanceRefreshTokenRP(t *testing.T) {
	t.Parallel()
	t.Run("oidcc-client-test-refresh-token", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			a, answers := newRefreshModule(t)
			defer a.settle(t)
			for round := range 3 { // each with the token of the one before
				time.Sleep(5 * time.Second)
				page := a.browser.Fetch("/again")
				if page.StatusCode != http.StatusOK || !strings.Contains(page.Body, "alice@example.com") {
					t.Fatalf("UserInfo with the new token: %d %s", page.StatusCode, page.Body)
				}
				before, after := (*answers)[round], (*answers)[round+1]
				checkRefreshRequest(t, a, round, before["refresh_token"])
				if before["refresh_token"] == after["refresh_token"] || before["access_token"] == after["access_token"] {
					t.Error("the provider rotated nothing, and the test shows nothing")
				}
				sent := a.op.Requests("userinfo")
				if got := sent[len(sent)-1].Header.Get("Authorization"); got != "Bearer "+after["access_token"].(string) {
					t.Error("UserInfo was asked with another token than the new one")
				}
			}
			a.asked(t, "token", 4)
			a.asked(t, "userinfo", 4) // one of the login
			if a.op.Count("") > 0 || a.op.Count("revoke") > 0 || a.op.Reuses() > 0 {
				t.Error("an endpoint was called that the metadata does not name, or a refresh token twice") // CS-04
			}
			if who := a.browser.Get("/").Body; who != "alice" {
				t.Errorf("signed in as %q", who)
			}
		})
	})
	for _, module := range []string{"oidcc-client-test-refresh-token-invalid-issuer", "oidcc-client-test-refresh-token-invalid-sub"} {
		t.Run(module, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a, _ := newRefreshModule(t)
				defer a.settle(t)
				a.op.Misbehave(strings.TrimPrefix(module, "oidcc-client-test-"))
				userinfo := a.op.Count("userinfo")
				page := a.browser.Fetch("/again")
				if page.StatusCode != http.StatusUnauthorized || errorCode(page) != "login_required" {
					t.Errorf("the refresh ended with %d %q, want 401 login_required", page.StatusCode, errorCode(page))
				}
				time.Sleep(6 * time.Second) // as long as the suite waits
				a.asked(t, "userinfo", userinfo)
				a.asked(t, "token", 2)
				if a.op.Count("") > 0 {
					t.Error("an endpoint was called that the metadata does not name") // CS-04
				}
				if who := a.browser.Get("/").Body; who != nobody || setsSession(page) {
					t.Errorf("signed in as %q", who) // RFT-03
				}
			})
		})
	}
}

// checkRefreshRequest asserts what was sent in a round: the exact token, the client's authentication, and no wider scope.
func checkRefreshRequest(t *testing.T, a *app, round int, token any) {
	t.Helper()
	sent := a.op.Requests("token")[round+1]
	if got := sent.Form.Get("refresh_token"); got != token { // RFT-01, lesson 8
		t.Errorf("the refresh token arrived as %q", strings.ToValidUTF8(got, "?"))
	}
	if sent.Form.Get("grant_type") != "refresh_token" || sent.Form.Has("scope") || sent.Form.Has("client_secret") {
		t.Error("the form is not that of a refresh of a client that authenticates in the header")
	}
	if !strings.HasPrefix(sent.Header.Get("Authorization"), "Basic ") {
		t.Error("the client is not authenticated")
	}
	if got := sent.Header.Get("Content-Type"); got != "application/x-www-form-urlencoded" {
		t.Errorf("Content-Type is %q", got)
	}
}
