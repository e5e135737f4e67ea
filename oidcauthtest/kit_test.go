package oidcauthtest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// account greets the user.
func account(w http.ResponseWriter, r *http.Request) {
	s, ok := oidcauth.SessionFromContext(r.Context())
	if !ok {
		http.Error(w, "no session", http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, "hello %s", s.Subject)
}

func newMux(client *oidcauth.Client) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("GET /account", client.RequireAuth(http.HandlerFunc(account)))
	return mux
}

func TestHandlerUnderTenLines(t *testing.T) {
	client, provider := oidcauthtest.NewClient(t)
	b := provider.NewBrowser(client.Wrap(newMux(client)))
	b.SignIn(oidcauthtest.User{Subject: "alice"})
	if got := b.Get("/account"); got.StatusCode != 200 || got.Body != "hello alice" {
		t.Errorf("status %d: %s", got.StatusCode, got.Body)
	}
}

func TestSignedInRequest(t *testing.T) {
	t.Parallel()
	client, provider := oidcauthtest.NewClient(t)
	r := provider.SignedIn(client, http.MethodGet, "/account", oidcauthtest.User{Subject: "bob"})
	w := httptest.NewRecorder()
	newMux(client).ServeHTTP(w, r)
	if w.Code != 200 || w.Body.String() != "hello bob" {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

func TestGuardsLeadToTheLoginAndBack(t *testing.T) {
	t.Parallel()
	client, provider := oidcauthtest.NewClient(t)
	b := provider.NewBrowser(client.Wrap(newMux(client)))
	if got := b.Get("/account"); got.Body != "hello "+oidcauthtest.Alice.Subject || got.URL.Path != "/account" {
		t.Errorf("status %d at %s: %s", got.StatusCode, got.URL, got.Body)
	}
	b.SignOut()
	if got := b.NoRedirects().Get("/account"); got.StatusCode != 302 || !strings.HasPrefix(got.Location(), "https://op.test/authorize?") {
		t.Errorf("after the logout: status %d, location %s", got.StatusCode, got.Location())
	}
}

func TestSessionsEndInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, provider := oidcauthtest.NewClient(t)
		b := provider.NewBrowser(client.Wrap(newMux(client)))
		b.SignIn(oidcauthtest.Alice)
		time.Sleep(25 * time.Hour)
		if got := b.NoRedirects().Get("/account"); got.StatusCode != 302 {
			t.Errorf("status %d after 25 hours, want 302", got.StatusCode)
		}
	})
}

// A1, Basic, Config and RP-Initiated Logout: what a client has to accept, although it is unusual. Everything else it refuses.
var harmless = []string{
	"kid-absent-single-jwks", "decoy-keys", // accepted
	"kid-absent-multiple-jwks",              // either way
	"logout-other-state", "logout-no-state", // not of the login
	"userinfo-invalid-sub", // only where UserInfo is asked
}

func TestMisbehaviourIsNoticed(t *testing.T) { // OIDC-10 to OIDC-31, ISS-01 to ISS-03, DISC-03
	t.Parallel()
	for _, name := range oidcauthtest.Misbehaviours() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, provider := oidcauthtest.NewClient(t)
			provider.Misbehave(name)
			b := provider.NewBrowser(client.Wrap(newMux(client)))
			got := b.Get("/auth/login")
			signedIn := slices.ContainsFunc(b.Cookies("/"), func(c *http.Cookie) bool { return c.Name == "__Host-session" })
			if want := slices.Contains(harmless, name); signedIn != want {
				t.Errorf("signed in: %v, want %v; status %d: %s", signedIn, want, got.StatusCode, got.Body)
			}
		})
	}
}

func TestUserInfoOfSomebodyElseIsNoticed(t *testing.T) { // OIDC-32
	t.Parallel()
	client, provider := oidcauthtest.NewClient(t, func(o *oidcauth.Options) { o.FetchUserInfo = true })
	b := provider.NewBrowser(client.Wrap(newMux(client)))
	provider.Misbehave("userinfo-invalid-sub")
	if got := b.Get("/auth/login"); got.StatusCode != 502 || provider.Count("userinfo") != 1 {
		t.Errorf("status %d after %d requests for UserInfo, want 502 after 1", got.StatusCode, provider.Count("userinfo"))
	}
}

func TestTokensOfAFailedCallbackAreRevoked(t *testing.T) { // S44
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, provider := oidcauthtest.NewClient(t)
		provider.Misbehave("nonce-invalid")
		provider.NewBrowser(client.Wrap(newMux(client))).Get("/auth/login")
		if err := client.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := provider.ActiveRefreshTokens(""); n != 0 || provider.Count("revoke") != 1 {
			t.Errorf("%d active refresh tokens after %d revocations, want 0 after 1", n, provider.Count("revoke"))
		}
	})
}

func TestFailingAndSlowEndpoints(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, provider := oidcauthtest.NewClient(t)
		b := provider.NewBrowser(client.Wrap(newMux(client)))
		provider.Fail("token", 503, "", 1)
		if got := b.Get("/auth/login"); got.StatusCode != 503 {
			t.Errorf("with a failing token endpoint: status %d, want 503", got.StatusCode)
		}
		b.SignIn(oidcauthtest.Alice) // it failed once
		provider.Delay("token", time.Minute)
		start := time.Now()
		if got := b.Get("/auth/login"); got.StatusCode != 503 {
			t.Errorf("with a slow token endpoint: status %d, want 503", got.StatusCode)
		}
		if took := time.Since(start); took != 30*time.Second { // S05
			t.Errorf("gave up after %v, want 30s", took)
		}
	})
}

func TestKeysRotate(t *testing.T) { // OIDC-28
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, provider := oidcauthtest.NewClient(t)
		b := provider.NewBrowser(client.Wrap(newMux(client)))
		b.SignIn(oidcauthtest.Alice)
		provider.RotateKeys()
		time.Sleep(time.Hour)
		b.SignIn(oidcauthtest.User{Subject: "bob"})
		if n := provider.Count("jwks"); n != 2 {
			t.Errorf("%d requests for keys, want 2", n)
		}
	})
}
