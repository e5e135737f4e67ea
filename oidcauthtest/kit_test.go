package oidcauthtest_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

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

func TestHandlerUnderTenLines(t *testing.T) { // lesson 42
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
	got := b.NoRedirects().Get("/account")
	if got.StatusCode != 302 || !strings.HasPrefix(got.Location(), "https://op.test/authorize?") {
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

// A1, Basic and Config, and A3: what a client must not accept.
func TestMisbehaviourIsNoticed(t *testing.T) { // OIDC-10 to OIDC-31, ISS-01 to ISS-03, DISC-03
	t.Parallel()
	for _, name := range oidcauthtest.Misbehaviours() {
		kind, _, _ := strings.Cut(name, "-")
		if kind == "logout" || kind == "refresh" { // not of a login
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, provider := oidcauthtest.NewClient(t, quiet, withUserInfo)
			provider.Misbehave(name)
			b := provider.NewBrowser(client.Wrap(newMux(client)))
			got := b.Get("/auth/login")
			if got.StatusCode < 400 || slices.ContainsFunc(b.Cookies("/"), isSession) {
				t.Errorf("status %d with cookies %v, want an error and no session", got.StatusCode, b.Cookies("/"))
			}
			if n := provider.Count("userinfo"); kind != "userinfo" && n != 0 { // CS-05
				t.Errorf("%d requests for UserInfo, want none", n)
			}
		})
	}
}

// A1, Basic, Config and refresh: what is unusual and has to be accepted.
func TestRightfulBehaviourIsAccepted(t *testing.T) {
	t.Parallel()
	for _, name := range oidcauthtest.RightfulBehaviours() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, provider := oidcauthtest.NewClient(t, quiet, withUserInfo, func(o *oidcauth.Options) {
				if name == "client-secret-post" {
					o.AuthStyle = oauth2.AuthStyleInParams
				}
			})
			provider.Misbehave(name)
			b := provider.NewBrowser(client.Wrap(newMux(client)))
			got := b.Get("/auth/login")
			if got.StatusCode != 200 || !slices.ContainsFunc(b.Cookies("/"), isSession) {
				t.Errorf("status %d with cookies %v, want a session", got.StatusCode, b.Cookies("/"))
			}
			if n := provider.Count("userinfo"); n != 1 { // CS-02, CS-03
				t.Errorf("%d requests for UserInfo, want 1", n)
			}
		})
	}
}

func TestLogoutWithAnotherStateIsHarmless(t *testing.T) { // A1, RP-Initiated Logout; RIL-04
	t.Parallel()
	for _, name := range []string{"logout-other-state", "logout-no-state"} {
		client, provider := oidcauthtest.NewClient(t)
		b := provider.NewBrowser(client.Wrap(newMux(client)))
		b.SignIn(oidcauthtest.Alice)
		provider.Misbehave(name)
		got := b.Get("/auth/logout?returnTo=%2Fbye")
		if got.StatusCode != 200 || got.URL.Path != "/" || slices.ContainsFunc(b.Cookies("/"), isSession) {
			t.Errorf("%s: status %d at %s, want the start page", name, got.StatusCode, got.URL)
		}
	}
}

func quiet(o *oidcauth.Options) { o.Logger = slog.New(slog.DiscardHandler) }

func withUserInfo(o *oidcauth.Options) { o.FetchUserInfo = true }

func isSession(c *http.Cookie) bool { return c.Name == "__Host-session" }

func TestUserInfoOfSomebodyElseIsNoticed(t *testing.T) { // OIDC-32
	t.Parallel()
	client, provider := oidcauthtest.NewClient(t, quiet, withUserInfo)
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
