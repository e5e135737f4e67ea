package oidcauthtest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// status is of the answer that the provider's HTTPClient gets, 0 for none.
func status(t *testing.T, p *oidcauthtest.Provider, target string) int {
	t.Helper()
	resp, err := p.HTTPClient().Get(target)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func TestServedHostsAreReached(t *testing.T) {
	t.Parallel()
	teapot := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }
	p := oidcauthtest.NewProvider(t)
	client := p.HTTPClient() // from before
	p.Serve("api.test", p.NewAPI("a"))
	p.Serve("API.test:8443", http.HandlerFunc(teapot))
	p.Serve("http://api.internal:8080", http.HandlerFunc(teapot))
	p.Serve("op.test", http.HandlerFunc(teapot))
	for target, want := range map[string]int{
		"https://api.test/x":            401,
		"https://API.test:443/":         401,
		"https://api.test:8443/":        418,
		"http://api.internal:8080/":     418,
		"https://op.test/jwks":          200, // remains the provider's
		"http://api.test/":              0,
		"https://api.test:8444/":        0,
		"https://x.api.test/":           0,
		"https://api.internal:8080/":    0,
		"http://api.internal/":          0,
		"https://api.test.evil.test/":   0,
		"https://api.test@evil.test/":   0,
		"https://api.test:443@evil.com": 0,
	} {
		if got := status(t, p, target); got != want {
			t.Errorf("%s: status %d, want %d", target, got, want)
		}
	}
	resp, err := client.Get("https://api.test")
	if err != nil || resp.StatusCode != 401 {
		t.Errorf("an earlier client: %v, %v", resp, err)
	}
	p.Serve("api.test", http.HandlerFunc(teapot))
	if got := status(t, p, "https://api.test"); got != 418 {
		t.Errorf("after it was replaced: status %d", got)
	}
}

func TestServeWantsAHost(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"", "api.test/v1", "https://", "https://api.test/", "a b", "/"} {
		f := &failures{TB: t}
		p := oidcauthtest.NewProvider(f)
		if !stopped(func() { p.Serve(host, p.NewAPI("a")) }) {
			t.Errorf("%q is served", host)
		}
		f.expect(t, "neither a host nor an origin")
	}
}

func TestTheAPITakesTheLoginsToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, p := oidcauthtest.NewClient(t)
		p.Change(func(k *oidcauthtest.Knobs) { k.AccessTokenLifetime = time.Minute })
		var token string
		p.EditTokenResponse(func(r map[string]any) { token = r["access_token"].(string) })
		p.NewBrowser(client.Wrap(newMux(client))).SignIn(oidcauthtest.Alice)
		const audience = "https://op.test/api"
		subject, got, scope, ok := p.AccessToken(token)
		if !ok || subject != "alice" || got != audience || !strings.Contains(scope, "openid") {
			t.Errorf("the token is %s's for %s with %s: %v", subject, got, scope, ok)
		}
		p.Serve("api.test", p.NewAPI(audience))
		call := func() *http.Response {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.test/", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+token)
			resp, err := p.HTTPClient().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			return resp
		}
		resp := call()
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 200 || !strings.Contains(string(body), `"sub":"alice"`) ||
			strings.Contains(string(body), token) {
			t.Errorf("status %d: %s", resp.StatusCode, body)
		}
		time.Sleep(time.Minute)
		if resp := call(); resp.StatusCode != 401 ||
			resp.Header.Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
			t.Errorf("after a minute: status %d, %v", resp.StatusCode, resp.Header)
		}
		if _, _, _, ok := p.AccessToken(token); ok {
			t.Error("the expired token is live")
		}
	})
}

func TestDisturbancesOfTheTokenEndpoint(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, p := oidcauthtest.NewClient(t, quiet)
		b := p.NewBrowser(client.Wrap(newMux(client)))
		p.FailAfter("token", 0, 1) // S05
		p.FailWith("token", 400, map[string]any{"error": "invalid_grant", "suberror": "consent_required"}, 1)
		for i, want := range []int{503, 502} {
			if got := b.Get("/auth/login"); got.StatusCode != want {
				t.Errorf("login %d: status %d, want %d", i, got.StatusCode, want)
			}
		}
		release := p.Hold("token")
		before := p.Count("token")
		done := make(chan int, 1)
		go func() { done <- b.Get("/auth/login").StatusCode }()
		synctest.Wait()
		if p.Count("token") != before+1 || len(done) != 0 {
			t.Errorf("%d requests while they are held, want %d", p.Count("token"), before+1)
		}
		release()
		if got := <-done; got != 200 {
			t.Errorf("after the release: status %d", got)
		}
		if p.Grants() != 0 || p.Reuses() != 0 {
			t.Errorf("%d grants and %d reuses of refresh tokens, want none", p.Grants(), p.Reuses())
		}
	})
}
