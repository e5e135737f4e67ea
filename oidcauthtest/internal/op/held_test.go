package op_test

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/oidcauth/oidcauth/oidcauthtest/internal/op"
)

func TestHeldAnswersHaveTakenEffect(t *testing.T) { // S05: the provider has rotated, and the client does not know yet
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		token := login(t, p)["refresh_token"]
		release := p.HoldAnswer("token")
		var got *http.Response
		go func() { got = refresh(p, token) }()
		if synctest.Wait(); got != nil || p.Grants() != 1 {
			t.Errorf("answered: %v, after %d grants, want no answer after 1", got != nil, p.Grants())
		}
		if resp := do(p, "GET", "/jwks", nil); resp.StatusCode != 200 {
			t.Errorf("another endpoint: status %d", resp.StatusCode)
		}
		release()
		release() // once more does nothing
		if synctest.Wait(); got == nil || got.StatusCode != 200 || got.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("after the release: %v", got)
		}
		if resp := refresh(p, object(t, got)["refresh_token"]); resp.StatusCode != 200 { // it would wait for ever
			t.Errorf("a later refresh: status %d", resp.StatusCode)
		}
	})
}

func TestAHeldAnswerEndsWithItsClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		token := login(t, p)["refresh_token"]
		defer p.HoldAnswer("token")()
		ctx, cancel := context.WithCancel(t.Context())
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token.(string)}}
		var got *http.Response
		go func() {
			got = do(p, "POST", "/token", form, client, func(r *http.Request) { *r = *r.WithContext(ctx) })
		}()
		if synctest.Wait(); got != nil {
			t.Error("the answer does not wait")
		}
		cancel()
		if synctest.Wait(); got == nil || got.ContentLength > 0 || p.Grants() != 1 {
			t.Errorf("ended with %v after %d grants, want no tokens after 1", got, p.Grants())
		}
	})
}

func TestFailuresAreHeldAsWell(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fail   func(*op.Provider)
		grants int
	}{
		"instead of a refresh": {func(p *op.Provider) { p.Fail("token", 503, "server_error", 1) }, 0},
		"after it":             {func(p *op.Provider) { p.FailAfter("token", 503, 1) }, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newProvider(t)
			token := login(t, p)["refresh_token"]
			tt.fail(p)
			release := p.HoldAnswer("token")
			var statuses []int
			go func() { statuses = append(statuses, refresh(p, token).StatusCode) }()
			if synctest.Wait(); len(statuses) > 0 || p.Grants() != tt.grants {
				t.Errorf("%s: answered %v after %d grants, want no answer after %d", name, statuses, p.Grants(), tt.grants)
			}
			release()
			if synctest.Wait(); !slices.Equal(statuses, []int{503}) {
				t.Errorf("%s: answered %v, want 503", name, statuses)
			}
		})
	}
}

// A handler in front of the provider may have set headers, and cookies are added to those.
func TestHeadersFromOutsideStay(t *testing.T) {
	t.Parallel()
	p, err := op.New(op.Config{
		Issuer: "https://op.test/", ClientID: "client", ClientSecret: secret, RedirectURIs: []string{callback},
		Authenticate: func(w http.ResponseWriter, _ *http.Request) (op.Login, string, bool) {
			http.SetCookie(w, &http.Cookie{Name: "inner", Value: "1"})
			w.WriteHeader(http.StatusTeapot)
			w.WriteHeader(http.StatusOK) // too late
			return op.Login{}, "", false
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	outer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "outer", Value: "1"})
		w.Header().Set("X-Frame-Options", "DENY")
		p.ServeHTTP(w, r)
	})
	resp := do(outer, "GET", "/authorize?"+authorization(nil).Encode(), nil)
	var names []string
	for _, c := range resp.Cookies() {
		names = append(names, c.Name)
	}
	if resp.StatusCode != http.StatusTeapot || resp.Header.Get("X-Frame-Options") != "DENY" ||
		!slices.Equal(names, []string{"outer", "inner"}) {
		t.Errorf("status %d with the cookies %q: %v", resp.StatusCode, names, resp.Header)
	}
}
