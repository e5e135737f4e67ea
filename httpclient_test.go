package oidcauth_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

const theAPI = "https://api.test"

// newClientApp returns a [tokenApp] whose page /call hands the client for origins to a test.
func newClientApp(t testing.TB, call func(*http.Client, *http.Request) error, origins ...string) *tokenApp {
	t.Helper()
	a := newTokenApp(t)
	a.op.Change(func(k *oidcauthtest.Knobs) { k.AccessTokenLifetime = time.Hour })
	a.browser.SignIn(oidcauthtest.Alice)
	a.mux.HandleFunc("/call", func(w http.ResponseWriter, r *http.Request) {
		client, err := a.HTTPClient(w, r, nil, origins...)
		if err == nil {
			err = call(client, r)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.last = err; err != nil {
			a.Error(w, r, err)
		}
	})
	return a
}

// call fetches /call and returns its error.
func (a *tokenApp) call() error {
	a.browser.Fetch("/call")
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// get sends a request with the incoming one's context, and closes the body of its answer.
func get(client *http.Client, r *http.Request, target string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, target, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err == nil {
		err = resp.Body.Close()
	}
	return resp, err
}

// unwilling is an API that takes no token, and counts the requests.
func unwilling(calls *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
}

// S39: an API that takes no token (its clock is wrong, or the audience) does not drain the provider's rate limit.
func TestAnAPIThatAlwaysRefusesCausesNoStorm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		status := 0
		a := newClientApp(t, func(client *http.Client, r *http.Request) error {
			resp, err := get(client, r, theAPI)
			if err == nil {
				status = resp.StatusCode
			}
			return err
		}, theAPI)
		defer a.settle(t)
		a.op.Serve("api.test", unwilling(&calls))
		var grants []time.Duration // when, from the start
		for start := time.Now(); len(grants) < 100 && time.Since(start) < 10*time.Minute; time.Sleep(600 * time.Millisecond) {
			before := a.op.Count("token")
			if err := a.call(); err != nil || status != http.StatusUnauthorized {
				t.Fatalf("%v, %d; want the API's 401 passed on", err, status)
			}
			for range a.op.Count("token") - before {
				grants = append(grants, time.Since(start))
			}
		}
		if len(grants) == 0 || calls.Load() < 1000 {
			t.Fatalf("%d calls and %d grants show nothing", calls.Load(), len(grants))
		}
		for i, at := range grants {
			if i >= 2 && at-grants[i-1] < 5*time.Minute {
				t.Errorf("after two refused tokens in a row the next is got after %v: %v", at-grants[i-1], grants)
			}
			if i >= 2 && at-grants[i-2] < time.Minute {
				t.Errorf("three grants within a minute: %v", grants)
			}
		}
		if len(grants) > 4 {
			t.Errorf("%d grants in ten minutes: %v", len(grants), grants)
		}

		a.op.Serve("api.test", a.op.NewAPI("https://op.test/api"))
		if err := a.call(); err != nil || status != http.StatusOK {
			t.Errorf("when the API is well again: %v, %d", err, status)
		}
		if a.op.Reuses() > 0 {
			t.Error("a refresh token was used twice")
		}
	})
}

// behaviour.md 8: one forced refresh and one more try, if the token is not new and the body can be had again.
func TestARefusedTokenIsReplacedOnce(t *testing.T) {
	t.Parallel()
	replayable := func() io.Reader { return strings.NewReader("body") }
	once := func() io.Reader { return io.MultiReader(strings.NewReader("body")) }
	challenge := func(value string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", value)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	tests := []struct {
		name    string
		age     time.Duration // of the token
		body    func() io.Reader
		refuses http.HandlerFunc // the first token
		want    int
		calls   int
	}{
		{"without a body", time.Minute, nil, challenge(`Bearer error="invalid_token"`), 200, 2},
		{"with a body that can be had again", time.Minute, replayable, challenge(`Bearer realm="x", error="invalid_token"`), 200, 2},
		{"with a body that cannot", time.Minute, once, challenge(`Bearer error="invalid_token"`), 401, 1},
		{"with a token of 29 seconds", 29 * time.Second, nil, challenge(`Bearer error="invalid_token"`), 401, 1},
		{"with a token of 31 seconds", 31 * time.Second, nil, challenge(`Bearer error="invalid_token"`), 200, 2},
		{"for want of scope", time.Minute, nil, challenge(`Bearer error="insufficient_scope"`), 401, 1},
		{"without a reason", time.Minute, nil, challenge("Bearer"), 401, 1},
		{"with another scheme", time.Minute, nil, challenge(`Basic error="invalid_token"`), 401, 1},
		{"with 403", time.Minute, nil, status(403), 403, 1},
		{"with 500", time.Minute, nil, status(500), 500, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var seen, bodies []string
				got := 0
				a := newClientApp(t, func(client *http.Client, r *http.Request) error {
					var body io.Reader
					if tt.body != nil {
						body = tt.body()
					}
					req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, theAPI+"/x", body)
					if err != nil {
						return err
					}
					req.Header.Set("Authorization", "Bearer of the caller")
					resp, err := client.Do(req)
					if err != nil {
						return err
					}
					got = resp.StatusCode
					if req.Header.Get("Authorization") != "Bearer of the caller" {
						t.Error("the caller's request was changed")
					}
					return resp.Body.Close()
				}, theAPI)
				defer a.settle(t)
				a.op.Serve("api.test", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					text, _ := io.ReadAll(r.Body)
					seen, bodies = append(seen, r.Header.Get("Authorization")), append(bodies, string(text))
					if seen[len(seen)-1] == seen[0] {
						tt.refuses(w, r)
					}
				}))
				time.Sleep(tt.age)
				if err := a.call(); err != nil || got != tt.want || len(seen) != tt.calls {
					t.Fatalf("%v, status %d after %d calls, want %d after %d", err, got, len(seen), tt.want, tt.calls)
				}
				if a.op.Grants() != tt.calls-1 {
					t.Errorf("%d grants", a.op.Grants())
				}
				for i, authorization := range seen {
					token := strings.TrimPrefix(authorization, "Bearer ")
					if subject, _, _, live := a.op.AccessToken(token); subject != "alice" || !live {
						t.Errorf("call %d came with %q's token, live: %t", i, subject, live)
					}
					if tt.body != nil && bodies[i] != "body" {
						t.Errorf("call %d came with the body %q", i, bodies[i])
					}
				}
			})
		})
	}
}

// behaviour.md 8, THR-47: the token goes to the origins that were named, written in whatever way, and nowhere else.
func TestOnlyNamedOriginsSeeTheToken(t *testing.T) {
	t.Parallel()
	tests := []struct {
		target string
		token  bool
	}{
		{"https://api.test", true},
		{"https://api.test/", true},
		{"https://api.test:443/x", true},
		{"https://API.TEST/x", true},
		{"https://user:password@api.test/x", true},
		{"https://api.test:8443/", false},
		{"http://api.test/", false},
		{"https://sub.api.test/", false},
		{"https://test/", false},
		{"https://api.test.evil.test/", false},
		{"https://api.test@evil.test/", false},
		{"https://evil.test/https://api.test/", false},
		{"https://evil.test/#https://api.test/", false},
		{"https://api.test./", false},
		// redirects
		{"https://api.test/to?https://api.test/x", true},
		{"https://api.test/to?https://evil.test/", false},
		{"https://evil.test/to?https://api.test/x", false},
		{"https://api.test/to?https://evil.test/to?https://api.test/x", false}, // and back: CVE-2025-4673
		{"https://api.test/to?https://api.test:8443/", false},
		{"https://api.test/to?https://sub.api.test/", false},
	}
	for _, tt := range tests {
		t.Run(tt.target, func(t *testing.T) {
			t.Parallel()
			var last *http.Request
			echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/to" {
					http.Redirect(w, r, r.URL.RawQuery, http.StatusTemporaryRedirect)
					return
				}
				last = r
			})
			a := newClientApp(t, func(client *http.Client, r *http.Request) error {
				_, err := get(client, r, tt.target)
				return err
			}, theAPI)
			for _, host := range []string{
				"api.test", "api.test:8443", "http://api.test", "sub.api.test", "test", "api.test.evil.test", "evil.test", "api.test.",
			} {
				a.op.Serve(host, echo)
			}
			if err := a.call(); err != nil || last == nil {
				t.Fatalf("nobody was asked: %v", err)
			}
			got := last.Header.Get("Authorization")
			if strings.HasPrefix(got, "Bearer at-") != tt.token {
				t.Errorf("the last request has a token: %t, want %t", got != "", tt.token)
			}
			if last.Header.Get("Cookie") != "" {
				t.Error("a cookie went along")
			}
		})
	}
}

func TestOriginsThatHTTPClientRefuses(t *testing.T) {
	t.Parallel()
	for _, origins := range [][]string{
		nil,
		{""},
		{"*"},
		{"api.test"},
		{"https://*.test"},
		{"https://api.test/"},
		{"https://api.test/path"},
		{"https://api.test?q"},
		{"https://user:canary@api.test"},
		{"ftp://api.test"},
		{"https://"},
		{"//api.test"},
		{"https://api.test:0"},
		{"https://api.test:99999"},
		{"null"},
		{"https://ápi.test"},
		{theAPI, "*"},
		{"https://api.test#f"},
		{"javascript:alert(1)"},
	} {
		t.Run(fmt.Sprint(origins), func(t *testing.T) {
			t.Parallel()
			a := newClientApp(t, func(*http.Client, *http.Request) error { return nil }, origins...)
			err := a.call()
			if err == nil || !strings.Contains(err.Error(), "HTTPClient") || strings.Contains(err.Error(), "canary") {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// The errors of AccessToken are HTTPClient's too, before any client is handed out.
func TestHTTPClientNeedsASession(t *testing.T) {
	t.Parallel()
	a := newClientApp(t, func(*http.Client, *http.Request) error { return errors.New("called") }, theAPI)
	a.browser.SignOut()
	if err := a.call(); !errors.Is(err, oidcauth.ErrNoSession) {
		t.Errorf("the error is %v, want no session", err)
	}
}

// RFT-06, S01: whoever asks at the same time, everybody's requests carry their own token.
func TestAThousandUsersKeepTheirTokensApart(t *testing.T) {
	t.Parallel()
	users := 1000
	if testing.Short() {
		users = 100
	}
	quick := func(o *oidcauth.Options) { o.IDTokenSigningAlgs = []string{"ES256"} }
	a := newAppAt(t, oidcauthtest.NewProvider(t, quick))
	a.op.Serve("api.test", a.op.NewAPI("https://op.test/api"))
	a.mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		force := r.FormValue("force") != ""
		client, err := a.HTTPClient(w, r, &oidcauth.TokenOptions{ForceRefresh: force}, theAPI)
		if err != nil {
			a.Error(w, r, err)
			return
		}
		req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, theAPI, http.NoBody)
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
		_, _ = io.Copy(w, resp.Body) // an error means that the client is gone
	})
	names, cookies := make([]string, users), make([]string, users)
	for i := range users {
		names[i] = fmt.Sprintf("user-%d", i)
		cookies[i] = a.cookies(t, oidcauthtest.User{Subject: names[i]})
	}
	var wg sync.WaitGroup
	for i := range users {
		for _, target := range []string{"/echo", "/echo?force=1", "/echo"} {
			wg.Go(func() {
				resp := ask(a.handler, http.MethodGet, target, "Cookie", cookies[i])
				var answer struct{ Sub string }
				text := body(resp)
				if json.Unmarshal([]byte(text), &answer) != nil || resp.StatusCode != 200 || answer.Sub != names[i] {
					t.Errorf("%s got %d %q", names[i], resp.StatusCode, text)
				}
			})
		}
	}
	wg.Wait()
	if a.op.Reuses() > 0 {
		t.Errorf("%d refresh tokens were used twice", a.op.Reuses())
	}
	a.settle(t)
}

// design.md 3: what carries tokens does not print them, and what is handed out has no refresh token and no ID token.
func TestNothingThatCarriesTokensPrintsThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var secrets []string
		texts := map[string]string{} // printed while the request lasts, as the tokens can be had then
		a := newTokenApp(t)
		defer a.settle(t)
		a.op.EditTokenResponse(func(r map[string]any) {
			for _, name := range []string{"access_token", "refresh_token", "id_token"} {
				secrets = append(secrets, r[name].(string))
			}
		})
		a.browser.SignIn(oidcauthtest.Alice)
		o := &oidcauth.TokenOptions{Audience: "https://api.test", Scopes: []string{"read"}}
		a.mux.HandleFunc("/things", func(w http.ResponseWriter, r *http.Request) {
			client, err := a.HTTPClient(w, r, o, theAPI)
			source, err2 := a.TokenSource(w, r, o)
			token, err3 := a.AccessToken(w, r, o)
			if err := errors.Join(err, err2, err3); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"refresh_token", "id_token", "access_token", "scope"} {
				if token.Extra(name) != nil {
					t.Errorf("the token has %s in it", name)
				}
			}
			if token.RefreshToken != "" || token.Type() != "Bearer" {
				t.Error("the token has a refresh token, or another type")
			}
			handed, err := source.Token()
			if err != nil || handed.RefreshToken != "" || handed == token {
				t.Errorf("the source's token: %v", err)
			}
			s, err := a.GetSession(r)
			if err != nil {
				t.Fatal(err)
			}
			_, refusal := a.AccessToken(w, r, &oidcauth.TokenOptions{Audience: "https://refused.test"})
			for name, thing := range map[string]any{
				"client": client, "client by value": *client, "transport": client.Transport, "source": source, "options": o,
				"options by value": *o, "session": s, "library": a.Client, "error": refusal,
				"token without its own": withoutAccess(token),
			} {
				for how, text := range printed(thing) {
					texts[name+" by "+how] = text
				}
			}
		})
		a.wire.breakFor(oauthError(403, "mfa_required", "mfa_token", "canary of the mfa token"), "https://refused.test")
		a.browser.Fetch("/things")
		if len(texts) < 50 || len(secrets) < 6 {
			t.Fatalf("%d texts and %d secrets show nothing", len(texts), len(secrets))
		}
		secrets = append(secrets, "canary", a.op.Options().ClientSecret, a.op.Options().Secrets[0])
		for how, text := range texts {
			for i, secret := range secrets {
				if strings.Contains(text, secret) {
					t.Errorf("%s has secret %d: %.200s", how, i, text)
				}
			}
		}
		for i, secret := range secrets {
			if strings.Contains(a.logs.String(), secret) {
				t.Errorf("the log has secret %d", i)
			}
		}
	})
}

// withoutAccess is a token that may be printed, if it has nothing else in it.
func withoutAccess(token *oauth2.Token) *oauth2.Token {
	copied := *token
	copied.AccessToken = "-"
	return &copied
}

// printed is v in every way in which programs print.
func printed(v any) map[string]string {
	texts := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		texts[verb] = fmt.Sprintf(verb, v)
	}
	if text, err := json.Marshal(v); err == nil {
		texts["JSON"] = string(text)
	}
	var buf bytes.Buffer
	slog.New(slog.NewTextHandler(&buf, nil)).Info("x", "v", v)
	slog.New(slog.NewJSONHandler(&buf, nil)).Info("x", "v", v)
	texts["slog"] = buf.String()
	return texts
}
