package oidcauth_test

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// S09, BCL-24, issue 5 done when 3: who logs in again in the second of the logout is signed in, by one more trip to the
// provider and no error page. The second request asks for what the first did.
func TestWhoLogsInAgainAtOnceIsSignedIn(t *testing.T) {
	for name, mode := range map[string]func(*oidcauth.Options){"query": nil, "form_post": formPost} {
		t.Run(name, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				first := p.login()
				q.told(t, "alice", "")
				p.op.EditIDToken(func(claims map[string]any) { claims["org_id"] = "org_1" })
				began, before := time.Now(), p.op.Count("authorize")
				b := p.op.NewBrowser(p.handler)
				page := b.Get("/auth/login?" + url.Values{
					"returnTo": {"/there?a=b"}, "max_age": {"600"}, "organization": {"org_1"}, "audience": {"api"}, "scope": {"extra"},
				}.Encode())
				if page.StatusCode != http.StatusOK || page.URL.RequestURI() != "/there?a=b" || page.Body != "alice" {
					t.Errorf("the login ends at %s with %d %q: %s", page.URL, page.StatusCode, page.Body, p.logs)
				}
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("it takes %v", took)
				}
				for _, r := range page.History {
					if r.StatusCode >= 400 {
						t.Errorf("%s is answered with %d", r.URL, r.StatusCode)
					}
				}
				asked := p.op.Requests("authorize")[before:]
				if len(asked) != 2 {
					t.Fatalf("the provider is asked %d times", len(asked))
				}
				for _, param := range []string{"max_age", "organization", "audience", "resource", "scope", "redirect_uri", "response_mode"} {
					if one, other := asked[0].Form.Get(param), asked[1].Form.Get(param); one != other {
						t.Errorf("%s is %q, and then %q", param, one, other)
					}
				}
				for _, param := range []string{"state", "nonce", "code_challenge"} { // OIDC-02: nothing is used twice
					if asked[0].Form.Get(param) == asked[1].Form.Get(param) {
						t.Errorf("%s is used twice", param)
					}
				}
				standing(t, cookieOf(b), "alice", p, q)
				standing(t, first, nobody, p, q)
				if n := slices.Index(p.logs.names(), "login.failed"); n >= 0 {
					t.Error("the login is told of as failed")
				}
				p.settle(t)
				if n := p.op.ActiveRefreshTokens("alice"); p.stored() > 0 && n != 1 || n == 0 {
					t.Errorf("%d refresh tokens are left", n) // S44: that of the first try is none
				}
				left := slices.DeleteFunc(b.Cookies("/auth/callback"), func(c *http.Cookie) bool { return !isLogin(c) })
				if len(left) > 0 {
					t.Errorf("%d cookies of logins are left", len(left))
				}
			}, func(o *oidcauth.Options) {
				o.AllowedAudiences, o.AllowedScopes = []string{"api"}, []string{"extra"}
				if mode != nil {
					mode(o)
				}
			})
		})
	}
}

// S09: a login is started over once. If it was in vain the user is told what happened, and nothing is left of it (S44).
func TestALoginIsStartedOverOnce(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		q.told(t, "alice", "")
		second := time.Now().Unix()
		p.op.EditIDToken(func(claims map[string]any) { claims["iat"] = second })
		b, page := startLogin(p)
		checkRevokedLogin(t, <-page)
		if n := p.op.Count("authorize"); n != 2 {
			t.Errorf("the provider was asked %d times", n)
		}
		checkNothingLeft(t, cookieOf(b), p, q)
		var failed int
		for _, e := range p.logs.all() {
			if e.Name == "login.failed" {
				failed++
			}
			if e.Name == "session.created" {
				t.Error("a session is told of")
			}
		}
		if failed != 1 {
			t.Errorf("%d logins are told of as failed", failed)
		}
	})
}

// S09: who is sent back for another reason than a tie is not sent to the provider again: nothing would be different there.
func TestOnlyATieIsStartedOver(t *testing.T) {
	for _, named := range []string{"the sid", "the subject, a second later"} {
		t.Run(named, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				p.op.Change(func(k *oidcauthtest.Knobs) { k.SID = "the only one" })
				if named == "the sid" {
					q.told(t, "", "the only one")
				} else {
					token := p.op.LogoutToken("alice", "", func(_, c map[string]any) { c["iat"] = time.Now().Unix() + 1 })
					if status := q.backchannel(token); status != http.StatusOK {
						t.Fatalf("the token is answered with %d", status)
					}
				}
				b, page := startLogin(p)
				checkRevokedLogin(t, <-page)
				if n := p.op.Count("authorize"); n != 1 {
					t.Errorf("the provider was asked %d times", n)
				}
				checkNothingLeft(t, cookieOf(b), p, q)
			})
		})
	}
}

// S24, S09: whoever repeats the callback's request while the login is about to be started over is no worse off than who waits.
func TestARepeatedCallbackIsStartedOverToo(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		q.told(t, "alice", "")
		b := p.op.NewBrowser(p.handler).NoRedirects()
		callback := b.Get(b.Get("/auth/login?returnTo=/there").Location()).Location()
		done := make(chan *oidcauthtest.Response)
		go func() { done <- b.Get(callback) }()
		synctest.Wait() // it waits for the next second
		again := b.Get(callback)
		<-done
		if again.StatusCode != http.StatusFound {
			t.Fatalf("the repetition is answered with %d %q", again.StatusCode, errorCode(again))
		}
		page := b.Get(b.Get(again.Location()).Location())
		standing(t, cookieOf(b), "alice", p, q)
		if page.StatusCode != http.StatusFound || page.Header.Get("Location") != "/there" {
			t.Errorf("it ends with %d at %s", page.StatusCode, page.Header.Get("Location"))
		}
	})
}

// S09: a login that must not show the user anything does not do so when it is started over.
func TestASilentLoginIsStartedOverSilently(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		q.told(t, "alice", "")
		p.op.NewBrowser(p.handler).Get("/auth/login?prompt=none")
		for _, asked := range p.op.Requests("authorize") {
			if got := asked.Form.Get("prompt"); got != "none" {
				t.Errorf("prompt is %q", got)
			}
		}
	})
}

// S09: RevokeSessions ends the sessions whose login is about to end as well. From where the user is known that is certain.
func TestRevokeSessionsWhileALoginIsUnderWay(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		release := p.op.HoldAnswer("userinfo")
		b, page := startLogin(p)
		synctest.Wait()
		time.Sleep(2 * time.Second)
		if err := q.RevokeSessions(t.Context(), p.op.Issuer(), "alice"); err != nil {
			t.Fatal(err)
		}
		release()
		checkRevokedLogin(t, <-page)
		checkNothingLeft(t, cookieOf(b), p, q)
	}, func(o *oidcauth.Options) { o.FetchUserInfo = true })
}

// S10, issue 5 done when 5: eras hold while secrets are rotated step by step, two instances being at different steps.
func TestErasSurviveTheRotationOfSecrets(t *testing.T) {
	everyMode(t, func(t *testing.T, p, _ *process) {
		old, fresh := p.op.Options().Secrets[0], rand.Text()+rand.Text()
		steps := [][]string{{old}, {old, fresh}, {fresh, old}, {fresh}}
		edit := func(secrets []string) func(*oidcauth.Options) {
			return func(o *oidcauth.Options) { o.Secrets = secrets }
		}
		mode := p.mode()
		var dead []string // cookies
		for step := range len(steps) - 1 {
			one, other := p.another(mode, edit(steps[step])), p.another(mode, edit(steps[step+1]))
			for _, at := range [][]*process{{one, other}, {other, one}} {
				early, late := at[0].login(), at[1].login()
				if step == 2 { // what only the new secret seals, the old instances cannot open: and there is none any more
					at = []*process{other, other}
				}
				standing(t, early, "alice", at...)
				standing(t, late, "alice", at...)
				if err := at[0].RevokeSessions(t.Context(), p.op.Issuer(), "alice"); err != nil {
					t.Fatal(err)
				}
				dead = append(dead, early, late)
				for _, cookie := range dead {
					standing(t, cookie, nobody, one, other)
				}
				again := at[1].login() // in the same second
				standing(t, again, "alice", at...)
				dead = append(dead, again)
				if err := at[1].RevokeSessions(t.Context(), p.op.Issuer(), "alice"); err != nil {
					t.Fatal(err)
				}
				standing(t, again, nobody, one, other)
			}
			one.settle(t)
			other.settle(t)
		}
	})
}

// S08: what has been ended stays so, however AbsoluteTimeout is changed between two starts, or not.
func TestAnotherAbsoluteTimeoutRevivesNobody(t *testing.T) {
	lasting := func(d time.Duration) func(*oidcauth.Options) {
		return func(o *oidcauth.Options) { o.AbsoluteTimeout, o.IdleTimeout = d, -1 }
	}
	logout := wayOut{name: "a logout"}
	for _, end := range append(waysOut, logout) {
		for name, timeouts := range map[string][2]time.Duration{
			"raised":  {time.Hour, 72 * time.Hour},
			"lowered": {72 * time.Hour, time.Hour},
			"left":    {72 * time.Hour, 72 * time.Hour}, // S08, S37: noted for as long as the session could live
		} {
			t.Run(end.name+", "+name, func(t *testing.T) {
				everyMode(t, func(t *testing.T, p, _ *process) {
					mode := p.mode()
					for _, wait := range []time.Duration{time.Minute, 30 * time.Minute, 3 * time.Hour, 20 * time.Hour, 70 * time.Hour} {
						before, since := p.another(mode, lasting(timeouts[0])), p.another(mode, lasting(timeouts[1]))
						cookie := before.login()
						time.Sleep(time.Minute)
						if end.do == nil {
							since.logout(cookie)
						} else {
							end.do(t, since)
						}
						time.Sleep(wait) // nobody asks meanwhile: a copy lies somewhere
						restarted := p.another(mode, lasting(timeouts[1]))
						standing(t, cookie, nobody, since, restarted)
						for _, one := range []*process{before, since, restarted} {
							one.settle(t)
						}
					}
				})
			})
		}
	}
}

// mode is that of a process in [everyMode], for another of the same application.
func (p *process) mode() func(*oidcauth.Options) {
	before := p.stored()
	if p.login(); p.stored() > before {
		return func(*oidcauth.Options) {}
	}
	return inCookies
}

// S37: a token that names a session and a user ends that session only if it is that user's, whatever else has been said about
// either before or after.
func TestASessionEndsOnlyForItsOwnSubject(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		cookie, bob := p.login(), p.cookies(t, oidcauthtest.User{Subject: "bob"})
		sid := p.op.SIDs("alice")[0]
		for range 2 {
			for _, subject := range []string{"bob", "Alice", "alice ", "carol"} {
				p.told(t, subject, sid)
				standing(t, cookie, "alice", p, q)
			}
		}
		standing(t, bob, "bob", p, q) // it names his sessions no more than hers
		q.told(t, "alice", sid)
		standing(t, cookie, nobody, p, q)
		for _, subject := range []string{"bob", "carol"} {
			q.told(t, subject, sid)
		}
		standing(t, cookie, nobody, p, q)
	})
}

// BCL-15: two issuers that give their users and sessions the same names are two.
func TestIssuersShareNoLogouts(t *testing.T) {
	everyMode(t, func(t *testing.T, p, _ *process) {
		other := oidcauthtest.NewProvider(t, func(o *oidcauth.Options) {
			o.Issuer, o.Secrets = "https://other.test/", p.op.Options().Secrets
		})
		for _, op := range []*oidcauthtest.Provider{p.op, other} {
			op.Change(func(k *oidcauthtest.Knobs) { k.SID = "1" })
		}
		cookie := p.login()
		q := newProcessAt(t, other, p.shelf, p.mode())
		defer q.settle(t)
		theirs := q.login()
		q.told(t, "alice", "1")
		q.told(t, "alice", "")
		standing(t, theirs, nobody, q)
		standing(t, cookie, "alice", p)
	})
}

// BCL-15, FCL-02: the tenants of one provider are issuers of their own, and share its keys.
func TestTenantsShareNoLogouts(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		tenant := contoso
		p.op.EditMetadata(func(m map[string]any) { m["issuer"] = manyTenants })
		p.op.EditIDToken(func(c map[string]any) { c["iss"], c["tid"] = issuerOf(tenant), tenant })
		p.op.Change(func(k *oidcauthtest.Knobs) {
			k.SID = "1"
			k.EditCallback = func(q url.Values) { q.Set("iss", issuerOf(tenant)) }
			k.EditLogoutToken = func(_, c map[string]any) { c["iss"], c["tid"] = issuerOf(tenant), tenant }
		})
		signIn := func(of string) string {
			tenant = of
			return p.login()
		}
		for _, tell := range []func(of string){
			func(of string) { tenant = of; q.told(t, "alice", "1") },
			func(of string) { tenant = of; q.told(t, "", "1") },
			func(of string) { tenant = of; q.told(t, "alice", "") },
			func(of string) {
				if resp := q.frame(frameOf(issuerOf(of), "1")); resp.StatusCode != http.StatusOK {
					t.Errorf("the frame is answered with %d", resp.StatusCode)
				}
			},
			func(of string) {
				if err := q.RevokeSessions(t.Context(), issuerOf(of), "alice"); err != nil {
					t.Error(err)
				}
			},
		} {
			theirs, ours := signIn(fabrikam), signIn(contoso)
			tell(fabrikam)
			standing(t, theirs, nobody, p, q)
			standing(t, ours, "alice", p, q)
			tell(contoso)
			standing(t, ours, nobody, p, q)
			time.Sleep(2 * time.Minute)
		}
		ours := signIn(contoso)
		tenant = personal // which is not allowed
		checkRefusal(t, q.tellToken(p.op.LogoutToken("alice", "1")))
		q.frame(frameOf(issuerOf(personal), "1"))
		q.frame(frameOf(manyTenants, "1"))
		standing(t, ours, "alice", p, q)
	}, framed, func(o *oidcauth.Options) {
		o.Issuer, o.AllowedTenants = manyTenants, []string{contoso, fabrikam}
		o.DiscoveryURL = "https://op.test/.well-known/openid-configuration"
	})
}
