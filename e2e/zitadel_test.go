package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"golang.org/x/oauth2"

	"github.com/oidcauth/oidcauth"
)

// What this provider cannot do, so that other tests have to show it:
//   - It keeps no session of its own: it asks for the password at each login, says login_required to prompt=none even
//     after one, heeds no max_age, and sends neither sid nor acr nor iss. Its end_session deletes the user's tokens of
//     the client.
//   - It detects no reuse: a refresh token that comes back is invalid_grant, and the newest one lives on.
//   - It has no APIs: resource and audience are ignored, all access tokens are opaque and for the client.
//   - Its login page has no way to cancel, and it has one key: the denial and the second key are the kit's.
//   - With form_post errors come in the query all the same, where a code would be refused.
//   - It pushes no authorization requests, knows no DPoP, and sends no back-channel logout.

// zitadelConfigs are the ways in which applications differ that the whole journey is walked with.
var zitadelConfigs = []struct {
	name, user string // as the account page shows it
	options    func(*oidcauth.Options)
}{
	{"code in the query", "id1, , ", nil}, // the name is not in the ID token (Core 5.4)
	{"form post", "id1, , ", func(o *oidcauth.Options) { o.ResponseMode = oidcauth.ResponseFormPost }},
	{"secret in the form", "id1, , ", func(o *oidcauth.Options) { o.AuthStyle = oauth2.AuthStyleInParams }},
	{"no secret", "id1, , ", func(o *oidcauth.Options) {
		o.ClientID, o.ClientSecret, o.PublicClient = "public", "", true
	}},
	{"claims from UserInfo", "id1, Test User, test-user@zitadel.ch", func(o *oidcauth.Options) {
		o.FetchUserInfo, o.DropIDToken = true, true
	}},
}

// inZitadelBubbles runs the test of each row with a clock of its own, and at the same time.
func inZitadelBubbles(t *testing.T, test func(t *testing.T, a *zitadelApp, user string)) {
	t.Parallel()
	for _, config := range zitadelConfigs {
		t.Run(config.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, newZitadelApp(t, config.options), config.user) })
		})
	}
}

func TestZitadelSignIn(t *testing.T) { // lesson 44
	inZitadelBubbles(t, func(t *testing.T, a *zitadelApp, user string) {
		if err := a.client.Discover(t.Context()); err != nil {
			t.Fatalf("discovery: %v", err)
		}
		v := a.visitor()
		page := v.open(a.address + "/account/?tab=1")
		if page.url.Host != "zitadel.example" {
			t.Fatalf("the login stands at %s and not at the provider", page.url)
		}
		page = v.enter(page, "wrong")
		if !strings.Contains(page.body, "username or password wrong") {
			t.Errorf("%d at %s, want another try:\n%s", page.status, page.url, page.body)
		}
		if page := v.fetch(a.address + "/token"); page.status != http.StatusUnauthorized {
			t.Errorf("a session after a wrong password: status %d", page.status)
		}
		page = v.enter(page, "verysecure")
		v.wantAccount(page)
		if got := page.url.String(); got != a.address+"/account/?tab=1" {
			t.Errorf("the login ended at %s", got)
		}
		if !strings.Contains(page.body, "<p>"+user+"<p>") {
			t.Errorf("the page does not show %q:\n%s", user, page.body)
		}
		if page := v.fetch(a.address + "/token"); page.status != http.StatusOK || !a.accepts(page.body) {
			t.Errorf("status %d, the provider accepts the token: %t", page.status, a.accepts(page.body))
		}
		a.provider.want(t, "after the login", map[string]int{"login": 1, "refresh": 0, "refused": 0, "live": 1})
	})
}

func TestZitadelRefreshOverRotation(t *testing.T) { // RFT-01
	inZitadelBubbles(t, func(t *testing.T, a *zitadelApp, user string) {
		v := a.visitor()
		v.signIn(a.address + "/account/")
		first := v.fetch(a.address + "/token").body
		time.Sleep(6 * time.Minute) // the provider's access tokens live for five
		if a.accepts(first) {
			t.Fatal("the first access token has not expired, and so this test cannot fail")
		}
		cookies := v.cookies(a.address)

		const requests = 200
		tokens := make([]string, requests)
		var all sync.WaitGroup
		for i := range tokens {
			all.Go(func() {
				status := 0
				if status, tokens[i] = a.token(cookies); status != http.StatusOK {
					t.Errorf("request %d: status %d: %s", i, status, tokens[i])
				}
			})
		}
		all.Wait()
		for i, token := range tokens {
			if token != tokens[0] {
				t.Errorf("request %d got another token than the first", i)
			}
		}
		if !a.accepts(tokens[0]) {
			t.Error("the provider does not accept the new token")
		}
		once := map[string]int{"login": 1, "refresh": 1, "refused": 0, "live": 1}
		a.provider.want(t, "after 200 requests at once", once)

		// The cookie of before is still what a slow tab sends.
		time.Sleep(time.Minute)
		if status, token := a.token(cookies); status != http.StatusOK || token != tokens[0] {
			t.Errorf("late request: status %d, the token of the others: %t", status, token == tokens[0])
		}
		a.provider.want(t, "after a late request", once)
		if page := v.open(a.address + "/account/"); !strings.Contains(page.body, "<p>"+user+"<p>") {
			t.Errorf("after the refresh the page does not show %q:\n%s", user, page.body)
		}
	})
}

// A new access token ends the one before it at this provider, long before it expires: that is why all get the same.
func TestZitadelForcedRefreshEndsTheTokenBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newZitadelApp(t)
		v := a.visitor()
		v.signIn(a.address + "/account/")
		before := v.cookies(a.address)
		_, first := a.token(before)
		second := v.fetch(a.address + "/token?another").body
		if a.accepts(first) || !a.accepts(second) {
			t.Errorf("accepted: the first token %t, the second %t", a.accepts(first), a.accepts(second))
		}
		if status, token := a.token(before); status != http.StatusOK || token != second {
			t.Errorf("a request with the cookie of before: status %d, the second token: %t", status, token == second)
		}
		a.provider.want(t, "afterwards", map[string]int{"refresh": 1, "refused": 0, "live": 1})
	})
}

func TestZitadelTwoLoginsAtOnce(t *testing.T) { // lesson 12
	inZitadelBubbles(t, func(t *testing.T, a *zitadelApp, _ string) {
		v := a.visitor()
		first, second := v.open(a.address+"/account/?tab=1"), v.open(a.address+"/account/?tab=2")
		for _, tt := range []struct {
			page answer
			tab  string
		}{{second, "tab=2"}, {first, "tab=1"}} {
			page := v.enter(tt.page, "verysecure")
			v.wantAccount(page)
			if page.url.RawQuery != tt.tab {
				t.Errorf("the login of %s ended at %s", tt.tab, page.url)
			}
		}
		if page := v.fetch(a.address + "/token"); page.status != http.StatusOK || !a.accepts(page.body) {
			t.Errorf("the session of the last login: status %d:\n%s", page.status, page.body)
		}
		a.provider.want(t, "after both", map[string]int{"login": 2, "refused": 0})
	})
}

func TestZitadelStepToAnotherTab(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newZitadelApp(t)
		v := a.visitor()
		waiting := v.open(a.address + "/account/?tab=1") // stays at the provider's question
		v.signIn(a.address + "/account/?tab=2")
		v.wantAccount(v.open(a.address + "/account/?tab=3")) // nobody asks again
		time.Sleep(6 * time.Minute)

		slept := v.cookies(a.address) // of a request that one tab has begun
		fresh := v.fetch(a.address + "/token").body
		if status, token := a.token(slept); status != http.StatusOK || token != fresh {
			t.Errorf("the tab that slept: status %d, the token of the other: %t", status, token == fresh)
		}
		a.provider.want(t, "after both tabs", map[string]int{"login": 1, "refresh": 1, "refused": 0})

		page := v.enter(waiting, "verysecure")
		v.wantAccount(page)
		if page.url.RawQuery != "tab=1" {
			t.Errorf("the login of the first tab ended at %s", page.url)
		}
		if page := a.visitor().open(a.address + "/account/"); !page.asks() {
			t.Errorf("another browser is not asked: %d at %s", page.status, page.url)
		}
	})
}

func TestZitadelLogout(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options func(*oidcauth.Options)
		after   time.Duration
		query   string
		ends    string // where
		user    string // whom the provider logs out
		live    int    // refresh tokens
	}{
		{"at once", nil, 0, "", "/", "id1", 0},
		{"and back to a page", nil, 0, "?returnTo=/account/", "/login/username", "id1", 0},
		{"with an ID token that has expired", nil, 2 * time.Hour, "", "/", "id1", 0},
		{"revocation alone", func(o *oidcauth.Options) { o.DropIDToken = true }, 0, "", "/", "nobody", 0},
		{"the provider's logout alone", func(o *oidcauth.Options) { o.SkipRevocation = true }, 0, "", "/", "id1", 0},
		{"neither", func(o *oidcauth.Options) { o.DropIDToken, o.SkipRevocation = true, true }, 0, "", "/", "nobody", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newZitadelApp(t, tt.options)
				v := a.visitor()
				v.signIn(a.address + "/account/")
				time.Sleep(tt.after)
				old := v.cookies(a.address)
				page := v.open(a.address + "/auth/logout" + tt.query)
				if err := a.client.Close(t.Context()); err != nil { // waits for the revocation
					t.Fatal(err)
				}
				if page.status != http.StatusOK || page.url.Path != tt.ends && page.url.Path+"/" != tt.ends {
					t.Errorf("the logout ended at %s with %d:\n%s", page.url, page.status, page.body)
				}
				a.provider.want(t, "after the logout", map[string]int{"logout of " + tt.user: 1, "live": tt.live, "refused": 0})
				if status, _ := a.token(old); status != http.StatusUnauthorized {
					t.Errorf("the cookie of before: status %d, want 401", status)
				}
				if page := v.open(a.address + "/account/"); !page.asks() {
					t.Errorf("the next visit is not asked for the password: %d at %s", page.status, page.url)
				}
			})
		})
	}
}

// The provider's logout is of the user, and not of one browser: the others find out when they refresh.
func TestZitadelLogoutInAnotherBrowser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newZitadelApp(t)
		here, there := a.visitor(), a.visitor()
		here.signIn(a.address + "/account/")
		there.signIn(a.address + "/account/")
		there.open(a.address + "/auth/logout")
		synctest.Wait()
		a.provider.want(t, "after the logout", map[string]int{"logout of id1": 1, "live": 0})
		here.wantAccount(here.open(a.address + "/account/"))

		time.Sleep(6 * time.Minute)
		if page := here.fetch(a.address + "/token"); page.status != http.StatusUnauthorized {
			t.Errorf("refresh: status %d, want 401:\n%s", page.status, page.body)
		}
		if err := a.cause(); !errors.Is(err, oidcauth.ErrLoginRequired) {
			t.Errorf("the error is %v, want ErrLoginRequired", err)
		}
		here.signIn(a.address + "/account/")
		if page := here.fetch(a.address + "/token"); page.status != http.StatusOK {
			t.Errorf("after the new login: status %d:\n%s", page.status, page.body)
		}
	})
}

// What a login asks for reaches the provider.
func TestZitadelLoginParameters(t *testing.T) {
	for _, tt := range []struct{ query, prompt, maxAge, hint string }{
		{"", "", "<nil>", ""},
		{"max_age=600", "", "600", ""},
		{"max_age=0", "", "0", ""},
		{"prompt=login", "login", "0", ""}, // the provider adds the 0
		{"prompt=consent", "consent", "<nil>", ""},
		{"login_hint=a%2Bb%26c@example.com", "", "<nil>", "a+b&c@example.com"},
	} {
		t.Run(cmp.Or(tt.query, "nothing"), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newZitadelApp(t)
				v := a.visitor()
				page := v.open(a.address + "/auth/login?returnTo=/account/&" + tt.query)
				got, maxAge := a.provider.asked, "<nil>"
				if got.MaxAge != nil {
					maxAge = fmt.Sprint(*got.MaxAge)
				}
				if got.Prompt.String() != tt.prompt || maxAge != tt.maxAge || got.LoginHint != tt.hint {
					t.Errorf("the provider is asked for prompt %q, max_age %s, login_hint %q", got.Prompt, maxAge, got.LoginHint)
				}
				time.Sleep(5 * time.Minute) // max_age is of the password, and not of the click
				v.wantAccount(v.enter(page, "verysecure"))
			})
		})
	}
}

func TestZitadelRefusals(t *testing.T) {
	denied := oidc.ErrAccessDenied().WithDescription("Not today.")
	for _, tt := range []struct {
		name, query string
		denies      error
		authAge     time.Duration // on the provider's word, after the password
		status      int
		code        string
		again       bool // only another login helps
	}{
		{"prompt=none", "prompt=none", nil, 0, 400, "login_required", true},
		{"access denied", "", denied, 0, 400, "access_denied", false},
		{"max_age is not heeded", "max_age=60", nil, 5 * time.Minute, 403, "login_denied", false}, // lesson 25
		{"prompt=login is not heeded", "prompt=login", nil, 5 * time.Minute, 403, "login_denied", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newZitadelApp(t)
				a.provider.denies, a.provider.authAge = tt.denies, tt.authAge
				v := a.visitor()
				page := v.open(a.address + "/auth/login?returnTo=/account/&" + tt.query)
				if tt.authAge > 0 {
					page = v.enter(page, "verysecure")
				}
				if page.status != tt.status || page.url.Path != "/auth/callback" {
					t.Errorf("status %d at %s, want %d at the callback:\n%s", page.status, page.url, tt.status, page.body)
				}
				err := a.cause()
				e, _ := errors.AsType[*oidcauth.Error](err)
				if e == nil || e.Code != tt.code || errors.Is(err, oidcauth.ErrLoginRequired) != tt.again {
					t.Errorf("the error is %v, want %s; only another login helps: %t", err, tt.code, tt.again)
				}
				if page := v.fetch(a.address + "/token"); page.status != http.StatusUnauthorized {
					t.Errorf("a session after a login that was refused: status %d", page.status)
				}
				synctest.Wait()
				a.provider.want(t, "afterwards", map[string]int{"live": 0}) // S44
				a.provider.denies = nil
				v.signIn(a.address + "/account/")
			})
		})
	}
}

func TestZitadelKeyRotation(t *testing.T) {
	for _, tt := range []struct {
		name   string
		kept   bool // the old key is published still
		fresh  bool // a refresh has brought an ID token of the new key
		status int  // of the logout, which sends the ID token back
	}{
		{"the old key stays for a while", true, false, http.StatusOK},
		{"the old key goes at once", false, false, http.StatusBadRequest},
		{"the old key goes, and the session has been refreshed", false, true, http.StatusOK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newZitadelApp(t)
				v := a.visitor()
				v.signIn(a.address + "/account/")
				a.provider.rotate(tt.kept)
				a.visitor().signIn(a.address + "/account/")
				if tt.fresh {
					time.Sleep(6 * time.Minute)
					if page := v.fetch(a.address + "/token"); page.status != http.StatusOK {
						t.Errorf("refresh: status %d:\n%s", page.status, page.body)
					}
				}
				if err := a.cause(); err != nil {
					t.Error(err)
				}
				old := v.cookies(a.address)
				if page := v.open(a.address + "/auth/logout"); page.status != tt.status {
					t.Errorf("the logout ended at %s with %d, want %d:\n%s", page.url, page.status, tt.status, page.body)
				}
				if status, _ := a.token(old); status != http.StatusUnauthorized {
					t.Errorf("the session here has not ended: status %d", status)
				}
			})
		})
	}
}

func TestZitadelWrongClientSecret(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newZitadelApp(t, func(o *oidcauth.Options) { o.ClientSecret += "?" })
		v := a.visitor()
		page := v.enter(v.open(a.address+"/account/"), "verysecure")
		if page.status != http.StatusBadGateway {
			t.Errorf("status %d, want 502:\n%s", page.status, page.body)
		}
		err := a.cause()
		e, _ := errors.AsType[*oidcauth.Error](err)
		refused, _ := errors.AsType[*oidcauth.ProviderError](err)
		if e == nil || e.Code != "exchange_failed" || refused == nil || refused.Code != "invalid_client" {
			t.Errorf("the error is %v, want exchange_failed because of invalid_client", err)
		}
		if page := v.fetch(a.address + "/token"); page.status != http.StatusUnauthorized {
			t.Errorf("status %d, want 401 for nobody", page.status)
		}
	})
}

// This provider posts codes and puts errors into the query. They are taken there, and codes are not (FPM-01).
func TestZitadelRefusalOfAFormPost(t *testing.T) {
	formPost := func(o *oidcauth.Options) { o.ResponseMode = oidcauth.ResponseFormPost }
	for _, tt := range []struct {
		name, query string
		denies      error
		code        string
		again       bool // only another login helps
	}{
		{"access denied", "", oidc.ErrAccessDenied(), "access_denied", false},
		{"prompt=none", "prompt=none", nil, "login_required", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newZitadelApp(t, formPost)
				a.provider.denies = tt.denies
				v := a.visitor()
				page := v.open(a.address + "/auth/login?returnTo=/account/&" + tt.query)
				if page.url.Query().Get("error") != tt.code || page.status != http.StatusBadRequest {
					t.Errorf("status %d at %s, want 400 for %s in the query:\n%s", page.status, page.url, tt.code, page.body)
				}
				err := a.cause()
				e, _ := errors.AsType[*oidcauth.Error](err)
				if e == nil || e.Code != tt.code || errors.Is(err, oidcauth.ErrLoginRequired) != tt.again {
					t.Errorf("the error is %v, want %s; only another login helps: %t", err, tt.code, tt.again)
				}
				if page := v.fetch(a.address + "/token"); page.status != http.StatusUnauthorized {
					t.Errorf("a session after a login that was refused: status %d", page.status)
				}
				again := v.open(page.url.String())
				if again.status != http.StatusBadRequest || !strings.Contains(again.body, "invalid_state") {
					t.Errorf("the same once more: status %d, want 400 for a login that is over:\n%s", again.status, again.body)
				}
				a.provider.denies = nil
				v.signIn(a.address + "/account/")
			})
		})
	}
	t.Run("a code in the query", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			a := newZitadelApp(t, formPost)
			v := a.visitor()
			v.keepsForms = true
			form := v.enter(v.open(a.address+"/account/"), "verysecure")
			action, fields := v.form(form)
			page := v.open(action + "?" + fields.Encode())
			if fields.Get("code") == "" || page.status != http.StatusMethodNotAllowed {
				t.Errorf("status %d, want 405 for a code in the query:\n%s", page.status, page.body)
			}
			if page := v.fetch(a.address + "/token"); page.status != http.StatusUnauthorized {
				t.Errorf("a session after a code in the query: status %d", page.status)
			}
			v.wantAccount(v.submit(form)) // the login is not over yet
			a.provider.want(t, "afterwards", map[string]int{"login": 1, "live": 1})
		})
	})
}
