package oidcauth_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// inTime runs f with an application whose time passes at once, and waits for what it has left under way.
func inTime(t *testing.T, o oidcauth.ProxyOptions, f func(t *testing.T, b *bff)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBFF(t, o)
		f(t, b)
		b.settle(t)
	})
}

// tokens lists the credentials that reached the API, in order.
func (b *bff) tokens() (list []string) {
	for _, r := range b.api.requests() {
		list = append(list, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	}
	return list
}

// refusing answers 401 with invalid_token to the tokens for which refused says so.
func refusing(refused func(token string) bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if refused(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="x", error="invalid_token"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
}

func TestProxyRefreshesBeforeTheRequestGoesUp(t *testing.T) {
	inTime(t, oidcauth.ProxyOptions{}, func(t *testing.T, b *bff) {
		for name, h := range map[string]http.Handler{
			"below Wrap": b.handler, "alone": b.proxy, "below a guard": b.RequireAuth(b.proxy),
		} {
			b.cookie = b.cookies(t, oidcauthtest.Alice)
			time.Sleep(2 * time.Hour)
			grants := b.op.Grants()
			resp := answerTo(h, b.request("POST", "/api/x", "content"))
			token := strings.TrimPrefix(b.api.last(t).Header.Get("Authorization"), "Bearer ")
			if _, _, _, live := b.op.AccessToken(token); resp.StatusCode != 200 || !live || b.op.Grants() != grants+1 {
				t.Errorf("%s: %d, the API got a live token: %t, %d grants", name, resp.StatusCode, live, b.op.Grants()-grants)
			}
			if b.cookie = kept(resp.Header); b.cookie == "" {
				t.Fatalf("%s: the new session is lost", name)
			}
			// Another process has only the cookie.
			another := newAppAt(t, b.op)
			proxy, err := another.Proxy(oidcauth.ProxyOptions{Prefix: "/api/", Target: "https://api.test/v1/"})
			if err != nil {
				t.Fatal(err)
			}
			if resp := answerTo(proxy, b.request("GET", "/api/x", "")); resp.StatusCode != 200 || b.op.Grants() != grants+1 {
				t.Errorf("%s: with the new cookie: %d, %d grants", name, resp.StatusCode, b.op.Grants()-grants)
			}
		}
	})
}

// S12: a cache would add the cookie of a 304 to the answer that it has stored. The next answer carries it.
func TestProxySetsNoCookieWithNotModified(t *testing.T) {
	inTime(t, oidcauth.ProxyOptions{}, func(t *testing.T, b *bff) {
		time.Sleep(2 * time.Hour)
		b.api.answer = apiSays(304, "", "Etag", `"1"`)
		resp := b.call("GET", "/api/x", "", "If-None-Match", `"1"`)
		if resp.StatusCode != 304 || resp.Header["Set-Cookie"] != nil || b.op.Grants() != 1 {
			t.Errorf("%d, cookies %d, %d grants", resp.StatusCode, len(resp.Header["Set-Cookie"]), b.op.Grants())
		}
		b.api.answer = nil
		if resp := b.call("GET", "/api/x", ""); kept(resp.Header) == "" || b.op.Grants() != 1 {
			t.Errorf("the next answer: %d, %d grants", resp.StatusCode, b.op.Grants())
		}
	})
}

// THR-59, HTTPClient's rule: one refresh and one more try, for bodies that are still there.
func TestProxyTriesAgainAfterInvalidToken(t *testing.T) {
	for name, tt := range map[string]struct {
		size  int
		again bool
	}{
		"no body": {0, true}, "one byte": {1, true}, "a MiB": {1 << 20, true}, "a byte more": {1<<20 + 1, false},
		"5 MiB": {5 << 20, false},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, oidcauth.ProxyOptions{}, func(t *testing.T, b *bff) {
				time.Sleep(time.Minute)
				first := ""
				b.api.answer = refusing(func(token string) bool { first = firstOf(first, token); return token == first })
				content := strings.Repeat("0123456789abcdef", tt.size/16+1)[:tt.size]
				resp := b.call("PUT", "/api/x?a=%zz", content, "Content-Type", "text/plain", "Scope", "")
				if again := len(b.api.requests()) == 2 && resp.StatusCode == 200; again != tt.again {
					t.Fatalf("tried again %t: %d requests, %d", again, len(b.api.requests()), resp.StatusCode)
				}
				for i, got := range b.api.requests() {
					if got.body != content || got.Method != "PUT" || got.RequestURI != "/v1/x?a=%zz" ||
						got.ContentLength != int64(tt.size) || got.Header.Get("Content-Type") != "text/plain" {
						t.Errorf("try %d: %s %s with %d of %d bytes", i, got.Method, got.RequestURI, len(got.body), len(content))
					}
				}
				if tt.again && (kept(resp.Header) == "" || b.op.Grants() != 1) {
					t.Errorf("%d grants, cookies %d", b.op.Grants(), len(sessionLines(resp.Header)))
				}
				if !tt.again && (resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") != "" || b.op.Grants() != 0) {
					t.Errorf("%d %v, %d grants", resp.StatusCode, resp.Header, b.op.Grants())
				}
			})
		})
	}
}

func firstOf(first, next string) string {
	if first == "" {
		return next
	}
	return first
}

// The API's 401 goes to the page where another token would not help, or cannot be had.
func TestProxyPassesRefusalsOn(t *testing.T) {
	for name, tt := range map[string]struct {
		age       time.Duration
		challenge string
		setUp     func(*bff)
		tries     int
	}{
		"younger than 30 s":       {29 * time.Second, `Bearer error="invalid_token"`, nil, 1},
		"another error":           {time.Minute, `Bearer error="insufficient_scope"`, nil, 1},
		"another scheme":          {time.Minute, `Basic error="invalid_token"`, nil, 1},
		"no challenge":            {time.Minute, "", nil, 1},
		"the new one refused too": {time.Minute, `Bearer error="invalid_token"`, nil, 2},
		"provider down": {
			time.Minute, `Bearer error="invalid_token"`, func(b *bff) { b.op.Fail("token", 503, "", -1) }, 1,
		},
		"provider refuses": {
			time.Minute, `Bearer error="invalid_token"`, func(b *bff) { b.op.Fail("token", 400, "invalid_request", -1) }, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, oidcauth.ProxyOptions{}, func(t *testing.T, b *bff) {
				time.Sleep(tt.age)
				if tt.setUp != nil {
					tt.setUp(b)
				}
				b.api.answer = apiSays(401, `{"error":"no"}`, "WWW-Authenticate", tt.challenge, "X-Error", "1")
				resp := b.call("POST", "/api/x", "content")
				if text := body(resp); resp.StatusCode != 401 || text != `{"error":"no"}` || resp.Header.Get("X-Error") != "1" {
					t.Errorf("%d %q", resp.StatusCode, text)
				}
				if n := len(b.api.requests()); n != tt.tries {
					t.Errorf("%d tries", n)
				}
			})
		})
	}
}

// S39: an API with a wrong clock does not drain the provider.
func TestProxyToAnAPIThatRefusesEverything(t *testing.T) {
	inTime(t, oidcauth.ProxyOptions{}, func(t *testing.T, b *bff) {
		b.api.answer = refusing(func(string) bool { return true })
		const minutes = 30
		for range 1000 {
			time.Sleep(minutes * time.Minute / 1000)
			if resp := b.call("GET", "/api/x", ""); resp.StatusCode != 401 {
				t.Fatalf("%d", resp.StatusCode)
			}
		}
		// Two at once, then one in five minutes.
		if n := b.op.Grants(); n < 2 || n > 2+minutes/5 {
			t.Errorf("%d grants in %d minutes", n, minutes)
		}
	})
}

// Lesson 1: whoever comes with the old token gets the new one.
func TestProxyRequestsShareOneRefresh(t *testing.T) {
	for name, tt := range map[string]struct {
		age     time.Duration
		refuses bool
	}{"expired": {2 * time.Hour, false}, "refused": {time.Minute, true}} {
		t.Run(name, func(t *testing.T) {
			inTime(t, oidcauth.ProxyOptions{}, func(t *testing.T, b *bff) {
				b.call("GET", "/api/x", "")
				old := b.tokens()[0]
				time.Sleep(tt.age)
				b.api.answer = refusing(func(token string) bool { return tt.refuses && token == old })
				release := b.op.Hold("token")
				var wg sync.WaitGroup
				for range 20 {
					wg.Go(func() {
						if resp := b.call("POST", "/api/x", "content"); resp.StatusCode != 200 || kept(resp.Header) == "" {
							t.Errorf("%d, cookies %d", resp.StatusCode, len(sessionLines(resp.Header)))
						}
					})
				}
				synctest.Wait()
				release()
				wg.Wait()
				if b.op.Grants() != 1 || b.op.Reuses() != 0 {
					t.Errorf("%d grants, %d reuses", b.op.Grants(), b.op.Reuses())
				}
				tokens := slices.DeleteFunc(b.tokens(), func(token string) bool { return token == old })
				slices.Sort(tokens)
				if n := len(tokens); n != 20 || len(slices.Compact(tokens)) != 1 {
					t.Errorf("%d requests with new tokens, of %d kinds", n, len(slices.Compact(tokens)))
				}
			})
		})
	}
}

// S16, S05: what an expired token and a provider that does not help come to.
func TestProxyWhenThereIsNoNewToken(t *testing.T) {
	for name, tt := range map[string]struct {
		audience string
		setUp    func(*bff)
		status   int
		code     string
		ended    bool
	}{
		"provider down":        {"", func(b *bff) { b.op.Fail("token", 503, "", -1) }, 503, "provider_unavailable", false},
		"provider unreachable": {"", func(b *bff) { b.op.Fail("token", 0, "", -1) }, 503, "provider_unavailable", false},
		"provider too slow":    {"", func(b *bff) { b.op.Delay("token", time.Hour) }, 503, "provider_unavailable", false},
		"our mistake": {
			"", func(b *bff) { b.op.Fail("token", 401, "invalid_client", -1) }, 502, "refresh_failed", false,
		},
		"session over": {
			"", func(b *bff) { b.op.Fail("token", 400, "invalid_grant", -1) }, 401, "login_required", true,
		},
		"consent missing": {
			"https://other.test/", func(b *bff) {
				b.op.FailWith("token", 400, map[string]any{"error": "invalid_grant", "suberror": "consent_required"}, -1)
			}, 401, "login_required", false,
		},
		"second factor": {"", func(b *bff) { b.op.Fail("token", 403, "mfa_required", -1) }, 403, "mfa_required", false},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, oidcauth.ProxyOptions{Audience: tt.audience}, func(t *testing.T, b *bff) {
				time.Sleep(2 * time.Hour)
				tt.setUp(b)
				resp := b.call("GET", "/api/x", "")
				code, login := jsonError(t, resp)
				if resp.StatusCode != tt.status || code != tt.code || (login == "") == (tt.status == 401) {
					t.Errorf("%d %s, login at %q", resp.StatusCode, code, login)
				}
				if (resp.Header.Get("Retry-After") != "") != (tt.status == 503) {
					t.Errorf("Retry-After %q", resp.Header.Get("Retry-After"))
				}
				cleared := slices.ContainsFunc(resp.Cookies(), func(c *http.Cookie) bool { return isSession(c) && c.MaxAge < 0 })
				if cleared != tt.ended || len(b.api.requests()) > 0 {
					t.Errorf("cookie cleared %t, %d requests reached the API", cleared, len(b.api.requests()))
				}
				asked := b.op.Count("token")
				b.op.Fail("token", 0, "", 0)
				b.op.Delay("token", 0)
				time.Sleep(time.Minute)
				want := 200
				if tt.ended { // in this process, also for a copy of the cookie
					want = 401
				}
				if resp := b.call("GET", "/api/x", ""); resp.StatusCode != want || tt.ended && b.op.Count("token") > asked {
					t.Errorf("a minute later: %d", resp.StatusCode)
				}
			})
		})
	}
}

func TestProxyWithoutARefreshToken(t *testing.T) {
	inTime(t, oidcauth.ProxyOptions{}, func(t *testing.T, b *bff) {
		b.op.Change(func(k *oidcauthtest.Knobs) { k.OmitRefreshToken = true })
		b.cookie = b.cookies(t, oidcauthtest.Alice)
		if resp := b.call("GET", "/api/x", ""); resp.StatusCode != 200 {
			t.Errorf("while the token is valid: %d", resp.StatusCode)
		}
		time.Sleep(2 * time.Hour)
		resp := b.call("GET", "/api/x", "")
		if code, _ := jsonError(t, resp); resp.StatusCode != 401 || code != "login_required" {
			t.Errorf("%d %s", resp.StatusCode, code)
		}
	})
}

// A token with a few seconds left will do while there is no better one.
func TestProxyUsesUpATokenWhileTheProviderIsDown(t *testing.T) {
	inTime(t, oidcauth.ProxyOptions{}, func(t *testing.T, b *bff) {
		time.Sleep(time.Hour - 5*time.Second)
		b.op.Fail("token", 503, "", -1)
		if resp := b.call("GET", "/api/x", ""); resp.StatusCode != 200 {
			t.Errorf("%d", resp.StatusCode)
		}
	})
}

// RFT: the answer of a refresh is kept although who asked for it has gone; and no one is blamed.
func TestProxyRefreshOutlivesTheClient(t *testing.T) {
	inTime(t, oidcauth.ProxyOptions{}, func(t *testing.T, b *bff) {
		time.Sleep(2 * time.Hour)
		release := b.op.Hold("token")
		ctx, hangUp := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { answerTo(b.handler, b.request("GET", "/api/x", "").WithContext(ctx)) })
		synctest.Wait()
		hangUp()
		wg.Wait()
		release()
		synctest.Wait()
		if resp := b.call("GET", "/api/x", ""); resp.StatusCode != 200 || b.op.Grants() != 1 || b.op.Reuses() != 0 {
			t.Errorf("%d, %d grants, %d reuses", resp.StatusCode, b.op.Grants(), b.op.Reuses())
		}
		if logs := b.logs.String(); strings.Contains(logs, "level=ERROR") || strings.Contains(logs, "level=WARN") {
			t.Error(logs)
		}
		if n := len(b.api.requests()); n != 1 {
			t.Errorf("%d requests reached the API", n)
		}
	})
}

// A page that is closed while the API thinks is no failure, and the API learns of it.
func TestProxyClientHangsUp(t *testing.T) {
	inTime(t, oidcauth.ProxyOptions{}, func(t *testing.T, b *bff) {
		told := false
		b.api.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done(); told = true }
		ctx, hangUp := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { answerTo(b.handler, b.request("GET", "/api/x", "").WithContext(ctx)) })
		synctest.Wait()
		hangUp()
		wg.Wait()
		if logs := b.logs.String(); !told || strings.Contains(logs, "level=ERROR") || strings.Contains(logs, "level=WARN") {
			t.Errorf("the API was told: %t\n%s", told, logs)
		}
	})
}

// [Client.Proxy]: 504 where the API takes longer than a minute to begin its answer.
func TestProxyToAnAPIThatNeverAnswers(t *testing.T) {
	inTime(t, oidcauth.ProxyOptions{}, func(t *testing.T, b *bff) {
		b.api.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		resp := answerTo(b.handler, b.request("GET", "/api/x", "").WithContext(ctx))
		if resp.StatusCode != 504 || time.Since(start) > 2*time.Minute {
			t.Errorf("%d after %v", resp.StatusCode, time.Since(start))
		}
	})
}

// failingTransport fails for the API and passes on what is for others.
type failingTransport struct {
	next http.RoundTripper
	err  error
}

func (f failingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == "api.test" {
		return nil, f.err
	}
	return f.next.RoundTrip(r)
}

type timeoutError struct{ error }

func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return false }

func TestProxyAnswersForAnAPIThatDoesNot(t *testing.T) {
	t.Parallel()
	secret := errors.New("dial tcp 10.1.2.3:443: connect: connection refused")
	for _, tt := range []struct {
		err    error
		status int
		code   string
	}{
		{secret, 502, "upstream_unavailable"},
		{&net.OpError{Op: "dial", Err: secret}, 502, "upstream_unavailable"},
		{io.ErrUnexpectedEOF, 502, "upstream_unavailable"},
		{timeoutError{secret}, 504, "upstream_timeout"},
		{fmt.Errorf("wrapped: %w", timeoutError{secret}), 504, "upstream_timeout"},
	} {
		b := newBFF(t, oidcauth.ProxyOptions{}, func(o *oidcauth.Options) {
			o.HTTPClient = &http.Client{Transport: failingTransport{o.HTTPClient.Transport, tt.err}}
		})
		resp := b.call("POST", "/api/x", "content")
		code, _ := jsonError(t, resp)
		if resp.StatusCode != tt.status || code != tt.code || resp.Header.Get("Cache-Control") != "private, no-store" {
			t.Errorf("%v: %d %s %v", tt.err, resp.StatusCode, code, resp.Header)
		}
		if logs := b.logs.String(); !strings.Contains(logs, tt.code) || strings.Contains(logs, b.cookie) {
			t.Errorf("%v: the log says %s", tt.err, logs)
		}
	}
}
