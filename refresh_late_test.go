package oidcauth_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// page lets f answer a path.
func (g *rig) page(path string, f func(w http.ResponseWriter, r *http.Request)) {
	g.mux.HandleFunc(path, f)
}

// S04, W1: what puts the header out, and what does not. No refresh token is spent that no cookie could carry.
func TestNothingIsRefreshedOnceTheHeaderIsOut(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		begin  func(http.ResponseWriter)
		grants int
	}{
		{"nothing is written", func(http.ResponseWriter) {}, 1},
		{"early hints", func(w http.ResponseWriter) { w.WriteHeader(http.StatusEarlyHints) }, 1},
		{"WriteHeader", func(w http.ResponseWriter) { w.WriteHeader(http.StatusOK) }, 0},
		{"Write", func(w http.ResponseWriter) { _, _ = w.Write([]byte("data: 1\n\n")) }, 0},
		{"WriteString", func(w http.ResponseWriter) { _, _ = io.WriteString(w, "data: 1\n\n") }, 0},
		{"Copy", func(w http.ResponseWriter) { _, _ = io.Copy(w, strings.NewReader("data: 1\n\n")) }, 0},
		{"Flush", func(w http.ResponseWriter) { w.(http.Flusher).Flush() }, 0},
		{"a ResponseController's Flush", func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }, 0},
	} {
		for name, around := range map[string]func(*rig, http.Handler) http.Handler{
			"Wrap":        func(g *rig, h http.Handler) http.Handler { return g.Wrap(h) },
			"RequireAuth": func(g *rig, h http.Handler) http.Handler { return g.RequireAuth(h) },
		} {
			t.Run(tt.name+" below "+name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					g := newRig(t)
					cookie := g.login()
					time.Sleep(time.Hour)
					h := around(g, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						tt.begin(w)
						_, err := g.AccessToken(w, r, nil)
						if late := errors.Is(err, oidcauth.ErrHeaderWritten); late != (tt.grants == 0) {
							t.Errorf("AccessToken: %v", err)
						}
						_, err = g.TokenSource(w, r, nil)
						if late := errors.Is(err, oidcauth.ErrHeaderWritten); late != (tt.grants == 0) {
							t.Errorf("TokenSource: %v", err)
						}
						_, err = g.HTTPClient(w, r, nil, "https://api.test")
						if late := errors.Is(err, oidcauth.ErrHeaderWritten); late != (tt.grants == 0) {
							t.Errorf("HTTPClient: %v", err)
						}
					}))
					resp := ask(h, "GET", "/stream", "Cookie", cookie)
					g.want(tt.grants)
					g.token("", after(cookie, resp.Header))
					g.want(1) // the next request
					g.settle(t)
				})
			})
		}
	}
}

// S04: a stream gets what there is.
func TestAStreamIsServedWhatIsAtHand(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		wait    time.Duration // from the login
		force   bool
		refresh bool // another request refreshes
		served  bool
	}{
		{"a valid token", time.Minute, false, false, true},
		{"a token that is due but valid", time.Hour - 5*time.Second, false, false, true},
		{"no expired token", time.Hour, false, false, false},
		{"what another request has got", time.Hour, false, true, true},
		{"not a token that was refused", time.Minute, true, false, false},
		{"for a refused one what another request has got", time.Minute, true, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				cookie := g.login()
				time.Sleep(tt.wait)
				release, grants := make(chan struct{}), 0
				g.page("/stream", func(w http.ResponseWriter, r *http.Request) {
					w.(http.Flusher).Flush()
					<-release
					token, err := g.AccessToken(w, r, &oidcauth.TokenOptions{ForceRefresh: tt.force})
					if !tt.served {
						if !errors.Is(err, oidcauth.ErrHeaderWritten) {
							t.Errorf("got a token or another error: %v", err)
						}
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					if _, _, _, ok := g.op.AccessToken(token.AccessToken); !ok {
						t.Error("the provider refuses the token")
					}
				})
				done := make(chan *http.Response)
				go func() { done <- g.get("/stream", cookie) }()
				synctest.Wait()
				if tt.refresh {
					g.token("?force", cookie)
					grants++
				}
				close(release)
				<-done
				g.want(grants)
				g.settle(t)
			})
		})
	}
}

// S04: a refresh that another request began is waited for, although the stream may begin none.
func TestAStreamWaitsForAGrantUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		cookie := g.login()
		time.Sleep(time.Hour)
		g.op.Delay("token", 3*time.Second)
		g.page("/stream", func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			time.Sleep(time.Second)
			if _, err := g.AccessToken(w, r, nil); err != nil {
				t.Error(err)
			}
		})
		var wg sync.WaitGroup
		wg.Go(func() { g.get("/stream", cookie) })
		wg.Go(func() { g.token("", cookie) })
		wg.Wait()
		g.want(1)
		g.settle(t)
	})
}

// watched is a ResponseWriter whose header is looked at when the handler is long gone, as a server does: under -race a
// write to it then is found.
type watched struct{ *httptest.ResponseRecorder }

// serve answers a request as a server does: its context ends with it.
func (g *rig) serve(h http.Handler, path, cookie string) (w watched, before http.Header) {
	ctx, cancel := context.WithCancel(g.t.Context())
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, "GET", path, http.NoBody)
	r.Host = "app.test"
	r.Header.Set("Cookie", cookie)
	w = watched{httptest.NewRecorder()}
	h.ServeHTTP(w, r)
	return w, w.Header().Clone()
}

// ways are those to get at tokens, with and without Wrap around.
func (g *rig) ways(h http.Handler) map[string]http.Handler {
	return map[string]http.Handler{"below Wrap": g.Wrap(h), "below a guard": g.RequireAuthAPI(h), "bare": h}
}

// S04: goroutines of a request may go on using a TokenSource and an HTTPClient, and those that outlive it get an error.
func TestTokensEndWithTheirRequest(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"below Wrap", "below a guard", "bare"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				g.op.Serve("api.test", g.op.NewAPI("https://op.test/api"))
				cookie := g.login()
				time.Sleep(time.Hour)
				end, calls := make(chan struct{}), sync.WaitGroup{}
				h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					source, err := g.TokenSource(w, r, nil)
					if err != nil {
						t.Error(err)
						return
					}
					client, err := g.HTTPClient(w, r, nil, "https://api.test")
					if err != nil {
						t.Error(err)
						return
					}
					use := func() error { _, err := source.Token(); return err }
					call := func() error {
						resp, err := client.Get("https://api.test/")
						if err == nil && resp.StatusCode != http.StatusOK {
							err = errors.New(resp.Status)
						}
						return err
					}
					var during sync.WaitGroup
					for _, f := range []func() error{use, call} {
						for range 4 {
							during.Go(func() {
								if err := f(); err != nil {
									t.Errorf("during the request: %v", err)
								}
							})
							calls.Go(func() {
								<-end
								for range 3 {
									if err := f(); !errors.Is(err, context.Canceled) {
										t.Errorf("after the request: %v", err)
									}
									time.Sleep(time.Hour)
								}
							})
						}
					}
					during.Wait()
					_, _ = w.Write([]byte("done"))
				})
				w, before := g.serve(g.ways(h)[way], "/", cookie)
				g.want(1)
				close(end)
				calls.Wait()
				if !maps.EqualFunc(before, w.Header(), slices.Equal) {
					t.Error("the header changed after the request")
				}
				g.want(1)
				g.token("", after(cookie, w.Result().Header))
				g.settle(t)
			})
		})
	}
}

// S04: a goroutine that goes on while the handler returns and the header is written. For -race, and because the tokens
// are there for the next request whoever was faster.
func TestATokenSourceRacesWithTheEndOfItsRequest(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"below Wrap", "below a guard", "bare"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				g.op.Change(func(k *oidcauthtest.Knobs) { k.AccessTokenLifetime = 20 * time.Second })
				cookie := g.login()
				for range 20 {
					time.Sleep(15 * time.Second)
					var late sync.WaitGroup
					h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						source, err := g.TokenSource(w, r, nil)
						if err != nil {
							t.Error(err)
							return
						}
						for range 3 {
							late.Go(func() {
								for range 10 {
									_, _ = source.Token()
									_, _ = g.GetSession(r)
								}
							})
						}
						w.Header().Set("X-Late", "1")
						_, _ = w.Write([]byte("done"))
					})
					w, _ := g.serve(g.ways(h)[way], "/", cookie)
					late.Wait()
					cookie = after(cookie, w.Result().Header)
				}
				g.want(20)
				g.alive(cookie)
				g.settle(t)
			})
		})
	}
}

// S04: a long request. Its source refreshes for as long as the cookie can be set, and then serves what others got.
func TestATokenSourceOfALongRequest(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"below Wrap", "below a guard", "bare"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				cookie := g.login()
				time.Sleep(time.Hour)
				bare := way == "bare"
				h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					source, err := g.TokenSource(w, r, nil)
					if err != nil {
						t.Error(err)
						return
					}
					g.want(1)
					time.Sleep(time.Hour)
					grants := 2
					_, err = source.Token()
					if bare {
						grants = 1
					}
					if errors.Is(err, oidcauth.ErrHeaderWritten) != bare {
						t.Errorf("before the header, an hour later: %v", err)
					}
					g.want(grants)
					w.(http.Flusher).Flush()
					time.Sleep(time.Hour)
					if _, err = source.Token(); !errors.Is(err, oidcauth.ErrHeaderWritten) {
						t.Errorf("after the header, two hours later: %v", err)
					}
					g.want(grants)
					g.token("", cookie) // another request
					if _, err = source.Token(); err != nil {
						t.Errorf("after another request's refresh: %v", err)
					}
					g.want(grants + 1)
				})
				g.serve(g.ways(h)[way], "/", cookie)
				g.alive(cookie)
				g.settle(t)
			})
		})
	}
}

// Outside Wrap and the guards the cookie is set at once, with the tokens in it.
func TestBareUseSetsTheCookieAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		cookie := g.login()
		time.Sleep(time.Hour)
		var tokens []*oauth2.Token
		resp := ask(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for range 2 {
				token, err := g.AccessToken(w, r, nil)
				if err != nil || kept(w.Header()) == "" {
					t.Fatalf("%v, and %d cookies", err, len(w.Header()["Set-Cookie"]))
				}
				tokens = append(tokens, token)
			}
		}), "GET", "/", "Cookie", cookie)
		if tokens[0].AccessToken != tokens[1].AccessToken || len(sessionLines(resp.Header)) != 1 {
			t.Errorf("two calls: %d cookies, or two tokens", len(sessionLines(resp.Header)))
		}
		g.want(1)
		g.newestIn(kept(resp.Header))
		g.settle(t)
	})
}

// RequireOptions.FreshFor: for handlers that stream.
func TestFreshForRefreshesBeforeTheHandler(t *testing.T) {
	t.Parallel()
	const redirect, denied = http.StatusFound, http.StatusUnauthorized
	down := func(g *rig) { g.op.Fail("token", 503, "", -1) }
	gone := func(g *rig) { g.op.Fail("token", 0, "", -1) }
	up := func(*rig) {}
	for _, tt := range []struct {
		name     string
		lifetime time.Duration
		wait     time.Duration
		trouble  func(*rig)
		without  bool // a refresh token
		page     int  // status for a navigation
		api      int  // status for RequireOptions.API
		grants   int  // of each
	}{
		{"enough is left", time.Hour, 50 * time.Minute, up, false, 200, 200, 0},
		{"too little is left", time.Hour, 56 * time.Minute, up, false, 200, 200, 1},
		{"expired", time.Hour, 61 * time.Minute, up, false, 200, 200, 1},
		{"too little is left, and the provider is down", time.Hour, 56 * time.Minute, down, false, 200, 200, 0},
		{"too little is left, and the provider does not answer", time.Hour, 56 * time.Minute, gone, false, 200, 200, 0},
		{"expired, and the provider is down", time.Hour, 61 * time.Minute, down, false, 503, 503, 0},
		{"expired, and the provider does not answer", time.Hour, 61 * time.Minute, gone, false, 503, 503, 0},
		{"too little is left, without a refresh token", time.Hour, 56 * time.Minute, up, true, 200, 200, 0},
		{"expired, without a refresh token", time.Hour, 61 * time.Minute, up, true, redirect, denied, 0},
		{"a short-lived token has more than half left", time.Minute, 20 * time.Second, up, false, 200, 200, 0},
		{"a short-lived token has less than half left", time.Minute, 40 * time.Second, up, false, 200, 200, 1},
		{"a short-lived token without a refresh token", time.Minute, 40 * time.Second, up, true, 200, 200, 0},
	} {
		for _, api := range []bool{false, true} {
			t.Run(tt.name+map[bool]string{false: ", a page", true: ", an API"}[api], func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					g := newRig(t)
					g.op.Change(func(k *oidcauthtest.Knobs) {
						k.AccessTokenLifetime, k.OmitRefreshToken = tt.lifetime, tt.without
					})
					cookie, want := g.login(), tt.page
					if api {
						want = tt.api
					}
					guard := g.RequireAuthWith(oidcauth.RequireOptions{API: api, FreshFor: 5 * time.Minute})
					h := guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						w.(http.Flusher).Flush()
						if _, err := g.AccessToken(w, r, nil); err != nil {
							t.Errorf("in the stream: %v", err)
						}
					}))
					time.Sleep(tt.wait)
					tt.trouble(g)
					resp := ask(h, "GET", "/stream", "Cookie", cookie, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document")
					if resp.StatusCode != want {
						t.Errorf("status %d, want %d: %s", resp.StatusCode, want, errorCodeOf(resp))
					}
					g.want(tt.grants)
					if tt.grants > 0 {
						g.newestIn(kept(resp.Header))
					}
					g.settle(t)
				})
			})
		}
	}
}

// errorCodeOf returns the body of an answer in short, for messages.
func errorCodeOf(resp *http.Response) string {
	text := body(resp)
	return text[:min(len(text), 200)]
}

// FreshFor with tokens that never are: the user gets a page, whatever it says, and no circle.
func TestFreshForNeverSendsTheBrowserInCircles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		edit   func(*oidcauthtest.Knobs)
		status int
	}{
		{"tokens of two seconds", func(k *oidcauthtest.Knobs) { k.AccessTokenLifetime = 2 * time.Second }, 200},
		{"tokens of two seconds without a refresh token", func(k *oidcauthtest.Knobs) {
			k.AccessTokenLifetime, k.OmitRefreshToken = 2*time.Second, true
		}, 200},
		{"dead tokens without a refresh token", func(k *oidcauthtest.Knobs) {
			k.OmitRefreshToken, k.EditTokens = true, func(m map[string]any) { m["expires_in"] = 0 }
		}, 403},
		{"dead tokens", func(k *oidcauthtest.Knobs) {
			k.EditTokens = func(m map[string]any) { m["expires_in"] = 0 }
		}, 502},
		{"tokens that do not say how long they last", func(k *oidcauthtest.Knobs) {
			k.OmitRefreshToken, k.OmitExpiresIn = true, true
		}, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				g.op.Change(tt.edit)
				guard := g.RequireAuthWith(oidcauth.RequireOptions{FreshFor: 5 * time.Minute})
				g.mux.Handle("/stream", guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if _, err := g.AccessToken(w, r, nil); err != nil {
						t.Errorf("in the handler: %v", err)
					}
				})))
				for range 3 {
					if resp := g.browser.Get("/stream"); resp.StatusCode != tt.status {
						t.Errorf("at %s: status %d %s, want %d", clock(), resp.StatusCode, errorCode(resp), tt.status)
					}
					time.Sleep(time.Second / 2)
				}
				g.unpunished()
				g.settle(t)
			})
		})
	}
}
