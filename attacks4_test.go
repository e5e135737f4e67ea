package oidcauth_test

import (
	"context"
	"net/http"
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

// RFT-05, lesson 5: what a provider says about tokens that another process has replaced meanwhile is no news about the
// newer ones, whose owner waits for the same grant.
func TestAFailureOfOlderTokensDoesNotEndNewerOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		here := newTokenApp(t)
		defer here.settle(t)
		cookie := here.browser.Request("GET", "/").Header.Get("Cookie")
		there := newRigAt(t, here.op) // another process
		answer := make(chan struct{})
		here.wire.breakFor(func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
			<-answer // the token is used up, and this provider leaves it at that
			return oauthError(400, "invalid_grant")(next, r)
		})
		ended := make(chan *http.Response)
		go func() { ended <- ask(here.handler, "GET", "/token?force=1", "Cookie", cookie) }()
		synctest.Wait()
		_, newer := there.token("?force", cookie)
		go func() { ended <- ask(here.handler, "GET", "/token?force=1", "Cookie", newer) }()
		synctest.Wait()
		here.wire.mend()
		close(answer)
		for range 2 {
			for _, line := range sessionLines((<-ended).Header) {
				if strings.Contains(line, "=;") {
					t.Error("the cookie of a session that is alive is deleted")
				}
			}
		}
		if resp := ask(here.handler, "GET", "/token?force=1", "Cookie", newer); resp.StatusCode != http.StatusOK {
			t.Errorf("with the newer tokens: status %d", resp.StatusCode)
		}
		there.settle(t)
	})
}

// S03, S38, behaviour.md 4: a login ends the session that this browser had. A slow answer to that one does not bring it
// back over the new one, be it rolled or refreshed.
func TestASlowAnswerOfTheSessionBeforeDoesNotReplaceALogin(t *testing.T) {
	t.Parallel()
	for path, page := range map[string]step{
		"a refresh": func(g *rig, w http.ResponseWriter, r *http.Request) error {
			_, err := g.AccessToken(w, r, &oidcauth.TokenOptions{ForceRefresh: true})
			return err
		},
		"an update": func(g *rig, w http.ResponseWriter, r *http.Request) error { return g.UpdateSession(w, r, theme) },
		"a roll":    func(*rig, http.ResponseWriter, *http.Request) error { return nil },
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t)
				defer g.settle(t)
				proceed := make(chan struct{})
				g.page("/slow", func(w http.ResponseWriter, r *http.Request) {
					err := page(g, w, r)
					<-proceed
					if err != nil {
						g.Error(w, r, err)
					}
				})
				g.browser.SignIn(oidcauthtest.Alice)
				time.Sleep(20 * time.Minute)
				cookie := g.browser.Request("GET", "/").Header.Get("Cookie")
				slow := make(chan *http.Response)
				go func() { slow <- g.get("/slow", cookie) }()
				synctest.Wait()
				g.browser.SignIn(bob)
				close(proceed)
				if lines := sessionLines((<-slow).Header); len(lines) != 0 {
					t.Error("the slow answer replaces Bob's session by Alice's")
				}
			})
		})
	}
}

// S16, S23: a refresh of the session before fails when the user has signed in anew. That login stays.
func TestAFailureOfTheSessionBeforeDoesNotDeleteALogin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newTokenApp(t)
		defer a.settle(t)
		cookie := a.browser.Request("GET", "/").Header.Get("Cookie")
		proceed := make(chan struct{})
		a.wire.breakFor(func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
			<-proceed
			return oauthError(400, "invalid_grant")(next, r)
		})
		slow := make(chan *http.Response)
		go func() { slow <- ask(a.handler, "GET", "/token?force=1", "Cookie", cookie) }()
		synctest.Wait()
		a.browser.SignIn(bob)
		close(proceed)
		if lines := sessionLines((<-slow).Header); len(lines) != 0 {
			t.Error("the answer to the session before deletes the cookie of the new one")
		}
	})
}

// S16: to find out what an invalid_grant means the login's own tokens are refreshed. That rolls no value back.
func TestFindingOutWhoseGrantIsInvalidKeepsValues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &hook{do: func(s *oidcauth.Session) error { return s.SetValue("plan", "free") }}
		a := newValuesApp(t, h.option)
		defer a.settle(t)
		a.rename("Alice Renamed")
		a.refresh(t, a.browser) // BeforeSave sets plan
		a.browser.Fetch("/set?key=plan&value=paid")
		time.Sleep(70 * time.Second)
		a.wire.breakFor(oauthError(400, "invalid_grant"), "https://other.test")
		_, _ = a.token(a.browser, "https://other.test")
		if got := a.value(a.browser, "plan"); got != "paid" {
			t.Errorf("the plan is %q, want the one that was set last", got)
		}
	})
}

// A session may be read from several goroutines, also while the answer extends it. For the race detector.
func TestASessionIsReadWhileItRolls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		defer a.settle(t)
		cookie := a.cookies(t, oidcauthtest.Alice)
		a.mux.HandleFunc("/read", func(w http.ResponseWriter, r *http.Request) {
			s, _ := a.GetSession(r)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() { _ = s.Claims(&struct{}{}) })
			}
			w.WriteHeader(http.StatusOK)
			wg.Wait()
		})
		time.Sleep(20 * time.Minute)
		if resp := ask(a.handler, "GET", "/read", "Cookie", cookie); kept(resp.Header) == "" {
			t.Error("it was not rolled")
		}
	})
}

// S02: a token that the cookie has no room for is in this process alone. It can be refused all the same.
func TestATokenThatIsNotInTheCookieCanBeForced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newTokenApp(t)
		defer a.settle(t)
		a.wire.breakFor(rewritten(func(m map[string]any) {
			m["access_token"] = m["access_token"].(string) + strings.Repeat("x", 15_000+a.op.Grants())
		}), "https://big.test")
		first, err := a.token(a.browser, "https://big.test")
		if err != nil {
			t.Fatal(err)
		}
		kept, _ := a.token(a.browser, "https://big.test")
		if kept.Body != first.Body {
			t.Fatal("it is not kept here")
		}
		if forced := a.browser.Fetch("/token?force=1&audience=https%3A%2F%2Fbig.test"); forced.Body == first.Body {
			t.Error("ForceRefresh returns the same token")
		}
	})
}

// S05: the ID token made room for a refresh. It makes room as well when the same request saves a value.
func TestAValueIsSavedAfterATokenHasGrown(t *testing.T) {
	t.Parallel()
	for grown := 12_000; grown < 20_000; grown += 250 {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t)
			defer g.settle(t)
			var refreshed, updated error
			g.page("/both", func(w http.ResponseWriter, r *http.Request) {
				_, refreshed = g.AccessToken(w, r, &oidcauth.TokenOptions{ForceRefresh: true})
				updated = g.UpdateSession(w, r, func(s *oidcauth.Session) error { return s.SetValue("a", nil) })
			})
			cookie := g.login()
			g.op.EditTokenResponse(func(m map[string]any) {
				m["access_token"] = m["access_token"].(string) + strings.Repeat("x", grown)
			})
			g.get("/both", cookie)
			if refreshed == nil && updated != nil {
				t.Errorf("a token of %d octets was taken, and then nothing can be updated: %v", grown, updated)
			}
		})
	}
}

// S39: a token that has expired when it comes is no reason to ask for the next one with every request.
func TestTokensThatHaveExpiredAlreadyCauseNoStorm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newTokenApp(t)
		defer a.settle(t)
		time.Sleep(70 * time.Second)
		a.wire.breakFor(rewritten(func(m map[string]any) { m["expires_in"] = 0 }))
		for range 100 {
			_, _ = a.token(a.browser, "")
		}
		if n := a.op.Grants(); n > 2 {
			t.Errorf("%d grants in no time", n)
		}
	})
}

// S05, S39: scopes in another order or twice are the same scopes, and get the same error.
func TestAFailureIsRememberedHoweverItsScopesAreWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newTokenApp(t, func(o *oidcauth.Options) { o.AllowedScopes = []string{"a", "b"} })
		defer a.settle(t)
		cookie := a.browser.Request("GET", "/").Header.Get("Cookie")
		a.wire.breakFor(oauthError(400, "invalid_scope"))
		for i := range 50 {
			scope := url.QueryEscape(strings.Repeat("a ", i) + "b")
			ask(a.handler, "GET", "/auth/access-token?scope="+scope, byScript(cookie)...)
		}
		if n := a.wire.count(""); n > 2 {
			t.Errorf("%d refreshes in no time", n)
		}
	})
}

// S03: an update that is answered after another request's refresh keeps its value, also where BeforeSave once set it.
func TestAnUpdateDuringARefreshIsNotLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &hook{do: func(s *oidcauth.Session) error { return s.SetValue("plan", "free") }}
		a := newValuesApp(t, h.option)
		defer a.settle(t)
		proceed := make(chan struct{})
		a.mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
			if err := a.UpdateSession(w, r, func(s *oidcauth.Session) error { return s.SetValue("plan", "paid") }); err != nil {
				t.Error(err)
			}
			<-proceed
		})
		a.rename("Alice Renamed")
		a.refresh(t, a.browser) // BeforeSave sets plan
		time.Sleep(70 * time.Second)
		cookie := a.browser.Request("GET", "/").Header.Get("Cookie")
		slow := make(chan *http.Response)
		go func() { slow <- ask(a.handler, "GET", "/slow", "Cookie", cookie) }()
		synctest.Wait()
		if _, err := a.token(a.browser, ""); err != nil { // no claim has changed
			t.Fatal(err)
		}
		close(proceed)
		last := kept((<-slow).Header)
		if got := body(ask(a.handler, "GET", "/value?key=plan", "Cookie", last)); got != "paid" {
			t.Errorf("the plan is %q, want the one that was set last", got)
		}
	})
}

// S46: an event says what happened, once.
func TestEventsOfARefreshAreTrue(t *testing.T) {
	t.Parallel()
	t.Run("nobody joined", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			a := newTokenApp(t)
			defer a.settle(t)
			time.Sleep(70 * time.Second)
			before := len(a.logs.names())
			_, _ = a.token(a.browser, "")
			a.settle(t) // events follow the answer
			if got := a.logs.names()[before:]; !slices.Equal(got, []string{"session.refreshed"}) {
				t.Errorf("one request that refreshes for itself: %q", got)
			}
		})
	})
	t.Run("one end", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			a := newTokenApp(t)
			defer a.settle(t)
			time.Sleep(70 * time.Second)
			a.wire.breakFor(oauthError(400, "invalid_grant"))
			before := len(a.logs.names())
			_, _ = a.token(a.browser, "https://other.test")
			a.settle(t)
			n := 0
			for _, name := range a.logs.names()[before:] {
				if name == "session.ended" {
					n++
				}
			}
			if n != 1 {
				t.Errorf("the session ended %d times", n)
			}
		})
	})
}

// HYG-05: a hook that hangs does not hang a session, and all of its requests, until the process is restarted.
func TestAHookThatHangsDoesNotHangTheSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &hook{}
		a := newValuesApp(t, func(o *oidcauth.Options) {
			h.option(o)
			next := o.BeforeSave
			o.BeforeSave = func(ctx context.Context, s *oidcauth.Session) error {
				if h.calls == 1 { // the refresh after the login
					h.calls++
					select {
					case <-ctx.Done(): // a database that does not answer
						return ctx.Err()
					case <-time.After(24 * time.Hour):
						t.Error("the hook's context never ends")
						return nil
					}
				}
				return next(ctx, s)
			}
		})
		a.rename("Alice Renamed")
		time.Sleep(70 * time.Second)
		_, _ = a.token(a.browser, "")
		a.settle(t)
	})
}

// Bare use: each call builds on what this response sets already.
func TestBareUpdatesAddUp(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	defer g.settle(t)
	cookie := g.login()
	for name, force := range map[string]bool{"without a refresh": false, "with a refresh between": true} {
		bare := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			set := func(key string) {
				if err := g.UpdateSession(w, r, func(s *oidcauth.Session) error { return s.SetValue(key, "x") }); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			set("a")
			if _, err := g.AccessToken(w, r, &oidcauth.TokenOptions{ForceRefresh: force}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			set("b")
		})
		next := kept(ask(bare, "GET", "/", "Cookie", cookie).Header)
		s := sessionOf(t, g.app, next)
		for _, key := range []string{"a", "b"} {
			var v string
			if ok, _ := s.Value(key, &v); !ok {
				t.Errorf("%s: %s is lost", name, key)
			}
		}
	}
}

// S03: a handler whose middleware has replaced the request's context updates bare, and then the visit refreshes.
func TestARefreshAfterABareUpdateIsWritten(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	defer g.settle(t)
	cookie := g.login()
	g.page("/mixed", func(w http.ResponseWriter, r *http.Request) {
		if err := g.UpdateSession(w, r.WithContext(context.Background()), theme); err != nil {
			t.Error(err)
		}
		if _, err := g.AccessToken(w, r, &oidcauth.TokenOptions{ForceRefresh: true}); err != nil {
			t.Error(err)
		}
	})
	next := kept(g.get("/mixed", cookie).Header)
	g.newestIn(next)
	if ok, _ := sessionOf(t, g.app, next).Value("theme", new(string)); !ok {
		t.Error("the update is lost")
	}
}

// S03: a refresh inside of an update is neither undone by it nor undoes it.
func TestARefreshInsideOfAnUpdate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		defer g.settle(t)
		g.page("/nested", func(w http.ResponseWriter, r *http.Request) {
			err := g.UpdateSession(w, r, func(s *oidcauth.Session) error {
				if _, err := g.AccessToken(w, r, &oidcauth.TokenOptions{ForceRefresh: true}); err != nil {
					t.Error(err)
				}
				return theme(s)
			})
			if err != nil {
				t.Error(err)
			}
		})
		next := kept(g.get("/nested", g.login()).Header)
		if ok, _ := sessionOf(t, g.app, next).Value("theme", new(string)); !ok {
			t.Error("the update is lost")
		}
		g.newestIn(next)
	})
}

// S01, S38: OnLogin gets the token of who has just signed in, not of who was before, and its refresh is kept.
func TestTokensInOnLoginAreOfTheNewSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g *rig
		g = newRig(t, func(o *oidcauth.Options) {
			o.OnLogin = func(w http.ResponseWriter, r *http.Request, s *oidcauth.Session, target string) error {
				token, err := g.AccessToken(w, r, &oidcauth.TokenOptions{ForceRefresh: true})
				if err != nil {
					return err
				}
				if subject, _, _, _ := g.op.AccessToken(token.AccessToken); subject != s.Subject {
					t.Errorf("%s gets the token of %s", s.Subject, subject)
				}
				http.Redirect(w, r, target, http.StatusSeeOther)
				return nil
			}
		})
		defer g.settle(t)
		g.browser.SignIn(oidcauthtest.Alice)
		g.browser.SignIn(bob)
		g.want(2)
		g.newestIn(g.browser.Request("GET", "/").Header.Get("Cookie"))
	})
}
