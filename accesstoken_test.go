package oidcauth_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

const tokenRoute = "/auth/access-token"

// byScript are headers of a request that a script of ours makes, with a session.
func byScript(cookie string) []string {
	return []string{"Cookie", cookie, "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}
}

// tokenOf decodes what the access-token route answers.
func tokenOf(t testing.TB, text string) (answer struct {
	Token     string `json:"token"`
	Type      string `json:"token_type"`
	Scope     string `json:"scope"`
	ExpiresAt int64  `json:"expires_at"`
	ExpiresIn int64  `json:"expires_in"`
},
) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatalf("the answer is no JSON: %v", err)
	}
	return answer
}

// S29: by Fetch metadata a script of our origin and nobody else; without it only what another origin cannot send.
func TestWhoGetsAnAccessToken(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	cookie := a.cookies(t, oidcauthtest.Alice)
	const xhr, html = "XMLHttpRequest", "text/html"
	const us, sibling = "https://app.test", "https://blog.app.test"
	tests := []struct {
		name                           string
		site, mode, dest, origin, with string // Sec-Fetch-Site, -Mode, -Dest, Origin, X-Requested-With
		ok                             bool
	}{
		{"a script of ours", "same-origin", "cors", "empty", "", "", true},
		{"a script of ours with Origin", "same-origin", "cors", "empty", us, "", true},
		{"a script of ours in mode same-origin", "same-origin", "same-origin", "empty", "", "", true},
		{"a script of ours in mode no-cors", "same-origin", "no-cors", "empty", "", "", true},
		{"a script of ours that names itself", "same-origin", "cors", "empty", "", xhr, true},
		{"a script of another site", "cross-site", "cors", "empty", "https://evil.test", "", false},
		{"a script of another site with our header", "cross-site", "cors", "empty", "https://evil.test", xhr, false},
		{"a script of another site in mode no-cors", "cross-site", "no-cors", "empty", "", "", false},
		{"a script of a sibling", "same-site", "cors", "empty", sibling, "", false},
		{"a script of a sibling with our header", "same-site", "cors", "empty", sibling, xhr, false},
		{"a script that claims our Origin from a sibling", "same-site", "cors", "empty", us, xhr, false},
		{"a script element of ours", "same-origin", "no-cors", "script", "", "", false},
		{"a script element of another site", "cross-site", "no-cors", "script", "", "", false},
		{"a style sheet of ours", "same-origin", "no-cors", "style", "", "", false},
		{"an image of ours", "same-origin", "no-cors", "image", "", "", false},
		{"an object of ours", "same-origin", "no-cors", "object", "", "", false},
		{"a worker of ours", "same-origin", "same-origin", "worker", "", "", false},
		{"a frame of ours", "same-origin", "navigate", "iframe", "", "", false},
		{"a link of ours", "same-origin", "navigate", "document", "", "", false},
		{"a link of another site", "cross-site", "navigate", "document", "", "", false},
		{"a typed address", "none", "navigate", "document", "", "", false},
		{"an extension", "none", "cors", "empty", "", "", false},
		{"an extension with our header", "none", "cors", "empty", "", xhr, false},
		{"a WebSocket handshake of ours", "same-origin", "websocket", "empty", us, "", false},
		{"a navigation that claims to be empty", "same-origin", "navigate", "empty", "", "", false},
		{"site in capitals", "Same-Origin", "cors", "empty", "", "", false},
		{"a client without Fetch metadata", "", "", "", "", "", false},
		{"the same with our header", "", "", "", "", xhr, true},
		{"the same with our header and Origin", "", "", "", us, xhr, true},
		{"the same with our Origin alone", "", "", "", us, "", false},
		{"the same with our header and a sibling's Origin", "", "", "", sibling, xhr, false},
		{"the same with our header and our host by http", "", "", "", "http://app.test", xhr, false},
		{"the same with our header and another port", "", "", "", "https://app.test:8443", xhr, false},
		{"the same with our header and an opaque origin", "", "", "", "null", xhr, false},
		{"mode alone, a navigation", "", "navigate", "", "", xhr, false},
		{"destination alone, a document", "", "", "document", "", xhr, false},
	}
	for _, tt := range tests {
		for _, accept := range []string{"*/*", html} {
			t.Run(tt.name+", "+accept, func(t *testing.T) {
				t.Parallel()
				r := a.browserless(t, http.MethodGet, tokenRoute, "Cookie", cookie, "Accept", accept, "Sec-Fetch-Site", tt.site,
					"Sec-Fetch-Mode", tt.mode, "Sec-Fetch-Dest", tt.dest, "Origin", tt.origin, "X-Requested-With", tt.with)
				if tt.ok {
					if got := tokenOf(t, r.Body); r.StatusCode != http.StatusOK || got.Token == "" {
						t.Errorf("status %d %s, want a token", r.StatusCode, errorCode(r))
					}
				} else if r.StatusCode != http.StatusForbidden || errorCode(r) != "cross_origin_request" {
					t.Errorf("status %d %q, want 403 cross_origin_request", r.StatusCode, errorCode(r))
				}
				if strings.Contains(r.Body, "at-") != tt.ok {
					t.Error("the body has a token, or has none, against the status")
				}
				if got := r.Header.Get("Cache-Control"); !strings.Contains(got, "no-store") {
					t.Errorf("Cache-Control is %q", got)
				}
				if acao := r.Header.Get("Access-Control-Allow-Origin"); acao != "" {
					t.Errorf("Access-Control-Allow-Origin is %q", acao)
				}
			})
		}
	}
}

// A header that is there twice is one that somebody smuggled in: some server before us may have looked at the other one.
func TestDoubledHeadersGetNoAccessToken(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	cookie := a.cookies(t, oidcauthtest.Alice)
	for _, again := range [][2]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Mode", "navigate"}, {"Sec-Fetch-Dest", "document"},
	} {
		if r := a.browserless(t, "GET", tokenRoute, append(byScript(cookie), again[:]...)...); r.StatusCode != 403 {
			t.Errorf("%s twice: status %d", again[0], r.StatusCode)
		}
	}
	r := a.browserless(t, "GET", tokenRoute, "Cookie", cookie, "X-Requested-With", "x",
		"Origin", "https://app.test", "Origin", "https://evil.test")
	if r.StatusCode != 403 {
		t.Errorf("Origin twice: status %d", r.StatusCode)
	}
}

// A page of a sibling origin that the application's CORS settings let read everything: the cookies go with its requests
// because it is of the same site, and only our answer protects the token. Over http there is no Fetch metadata.
func TestASiblingOriginGetsNoAccessToken(t *testing.T) { // S29
	t.Parallel()
	for _, scheme := range []string{"https", "http"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			base, sibling := scheme+"://app.test", scheme+"://blog.app.test"
			a := newApp(t, func(o *oidcauth.Options) { o.BaseURL, o.InsecureAllowHTTP = base, true })
			a.op.Register([]string{base + "/auth/callback"}, nil)
			open := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Access-Control-Allow-Origin", sibling)
				w.Header().Set("Access-Control-Allow-Credentials", "true")
				a.handler.ServeHTTP(w, r)
			})
			b := a.op.NewBrowser(open)
			b.Host(base, open)
			b.Get(base + "/auth/login")
			r := b.From(sibling).Fetch(base + tokenRoute)
			if r.Request.Header.Get("Cookie") == "" || (r.Request.Header.Get("Sec-Fetch-Site") == "") != (scheme == "http") {
				t.Fatal("the request is not the one that is meant")
			}
			if r.StatusCode != 403 || strings.Contains(r.Body, "at-") {
				t.Errorf("status %d: %s", r.StatusCode, r.Body)
			}
			own := httptest.NewRequest(http.MethodGet, base+tokenRoute, http.NoBody)
			own.Header.Set("X-Requested-With", "fetch")
			if r := b.Do(own); r.StatusCode != 200 {
				t.Errorf("our own page: status %d %s", r.StatusCode, errorCode(r))
			}
		})
	}
}

func TestMethodsAndPrefetchesOfTheAccessTokenRoute(t *testing.T) { // behaviour.md 1 and 7
	t.Parallel()
	a := newApp(t)
	cookie := a.cookies(t, oidcauthtest.Alice)
	for _, method := range []string{"HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"} {
		r := a.browserless(t, method, tokenRoute, byScript(cookie)...)
		if r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") != "GET" || strings.Contains(r.Body, "at-") {
			t.Errorf("%s: status %d, Allow %q", method, r.StatusCode, r.Header.Get("Allow"))
		}
	}
	for name, value := range map[string]string{"Sec-Purpose": "prefetch", "Purpose": "prefetch", "X-Moz": "prefetch"} {
		r := a.browserless(t, "GET", tokenRoute, append(byScript(cookie), name, value)...)
		if r.StatusCode != http.StatusServiceUnavailable || r.Body != "" || len(r.Cookies()) > 0 {
			t.Errorf("%s: %s: status %d, body %q", name, value, r.StatusCode, r.Body)
		}
	}
	for _, path := range []string{tokenRoute + "/", tokenRoute} {
		if r := a.browserless(t, "GET", path, byScript(cookie)...); r.StatusCode != 200 {
			t.Errorf("%s: status %d", path, r.StatusCode)
		}
	}
	for _, path := range []string{tokenRoute + "//", "/Auth/access-token", tokenRoute + "/x"} {
		if r := a.browserless(t, "GET", path, byScript(cookie)...); strings.Contains(r.Body, "at-") {
			t.Errorf("%s is answered with a token", path)
		}
	}
}

// behaviour.md 7: the members, their names and types, to the letter.
func TestTheAccessTokensJSON(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		knobs   func(*oidcauthtest.Knobs)
		members []string
	}{
		{"with an expiry", func(*oidcauthtest.Knobs) {}, []string{"expires_at", "expires_in", "scope", "token", "token_type"}},
		{"without", func(k *oidcauthtest.Knobs) { k.OmitExpiresIn = true }, []string{"scope", "token", "token_type"}},
		{"with a type in odd letters", func(k *oidcauthtest.Knobs) {
			k.EditTokens = func(r map[string]any) { r["token_type"] = "bEARER" }
		}, []string{"expires_at", "expires_in", "scope", "token", "token_type"}},
		{"without a scope in the provider's answer", func(k *oidcauthtest.Knobs) {
			k.EditTokens = func(r map[string]any) { delete(r, "scope") }
		}, []string{"expires_at", "expires_in", "scope", "token", "token_type"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t)
				a.op.Change(tt.knobs)
				a.browser.SignIn(oidcauthtest.Alice)
				issued := time.Now()
				time.Sleep(10 * time.Minute)
				before := len(a.op.Requests())
				r := a.browser.Fetch(tokenRoute)
				var members map[string]any
				if err := json.Unmarshal([]byte(r.Body), &members); err != nil || r.Header.Get("Content-Type") != "application/json" {
					t.Fatalf("%d %s: %v", r.StatusCode, r.Header.Get("Content-Type"), err)
				}
				if got := slices.Sorted(maps.Keys(members)); !slices.Equal(got, tt.members) {
					t.Errorf("the members are %q, want %q", got, tt.members)
				}
				got := tokenOf(t, r.Body)
				if subject, _, _, live := a.op.AccessToken(got.Token); subject != "alice" || !live || got.Type != "Bearer" {
					t.Errorf("a token of type %q, of %q, live: %t", got.Type, subject, live)
				}
				if got.Scope != "openid profile email offline_access" {
					t.Errorf("the scope is %q", got.Scope)
				}
				if slices.Contains(tt.members, "expires_at") && (got.ExpiresAt != issued.Unix()+3600 || got.ExpiresIn != 3000) {
					t.Errorf("expires_at %d, expires_in %d after ten minutes of an hour", got.ExpiresAt-issued.Unix(), got.ExpiresIn)
				}
				if strings.Contains(r.Body, `"rt-`) || len(a.op.Requests()) != before || len(r.Cookies()) > 0 {
					t.Errorf("a refresh token in the answer, or a question to the provider, or a cookie %v", r.Cookies())
				}
				for name, want := range map[string]string{
					"Cache-Control": "private, no-store", "Vary": "Cookie", "X-Content-Type-Options": "nosniff",
				} {
					if got := r.Header.Get(name); got != want {
						t.Errorf("%s is %q, want %q", name, got, want)
					}
				}
			})
		})
	}
}

// A refresh that the route needs goes into the cookie of its answer.
func TestTheAccessTokenRouteRefreshes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newTokenApp(t)
		defer a.settle(t)
		first := tokenOf(t, a.browser.Fetch(tokenRoute).Body)
		for _, tt := range []struct {
			age    time.Duration
			grants int
		}{{49 * time.Second, 0}, {2 * time.Second, 1}, {30 * time.Second, 1}, {30 * time.Second, 2}, {time.Hour, 3}} {
			time.Sleep(tt.age)
			before := a.op.Grants()
			r := a.browser.Fetch(tokenRoute)
			got := tokenOf(t, r.Body)
			if a.op.Grants() != tt.grants {
				t.Errorf("%v later: %d grants, want %d", tt.age, a.op.Grants(), tt.grants)
			}
			if renewed := a.op.Grants() > before; setsSession(r) != renewed || renewed && got.ExpiresIn != 60 {
				t.Errorf("%v later: sets the cookie: %t, expires in %d", tt.age, setsSession(r), got.ExpiresIn)
			}
			if got.ExpiresIn <= 10 {
				t.Errorf("%v later: a token with %d s left", tt.age, got.ExpiresIn)
			}
		}
		if last := tokenOf(t, a.browser.Fetch(tokenRoute).Body); last.Token == first.Token || a.op.Reuses() > 0 {
			t.Errorf("the same token, or %d reuses", a.op.Reuses())
		}
		r := a.browser.Fetch(tokenRoute + "?force=1&ForceRefresh=true&refresh=true")
		if r.StatusCode != 200 || a.op.Grants() != 3 {
			t.Errorf("a script can force a refresh: %d, %d grants", r.StatusCode, a.op.Grants())
		}
	})
}

// behaviour.md 7, the table of failures.
func TestFailuresOfTheAccessTokenRoute(t *testing.T) {
	t.Parallel()
	wait := func(d time.Duration) func(*tokenApp) { return func(*tokenApp) { time.Sleep(d) } }
	says := func(d disturbance) func(*tokenApp) {
		return func(a *tokenApp) { time.Sleep(70 * time.Second); a.wire.breakFor(d) }
	}
	loggedOut := func(a *tokenApp) {
		stolen := a.browser.Clone()
		a.browser.SignOut()
		*a.browser = *stolen
	}
	fresh := func(d disturbance) func(*tokenApp) { return func(a *tokenApp) { a.wire.breakFor(d) } }
	tests := []struct {
		name   string
		change func(*tokenApp)
		query  string
		status int
		code   string
		login  bool // the answer names the login's URL
	}{
		{"no session", func(a *tokenApp) { a.browser.SignOut() }, "", 401, "unauthenticated", true},
		{"a session that was logged out", loggedOut, "", 401, "unauthenticated", true},
		{"a session that is too old", wait(73 * time.Hour), "", 401, "unauthenticated", true},
		{"invalid_grant", says(oauthError(400, "invalid_grant")), "", 401, "login_required", true},
		{"the user is to sign in", says(oauthError(400, "interaction_required")), "", 401, "login_required", true},
		{"a second factor", says(oauthError(403, "mfa_required")), "", 403, "mfa_required", false},
		{"an outage", says(rawAnswer(503, "", "")), "", 503, "provider_unavailable", false},
		{"an outage with a token that is good", fresh(rawAnswer(503, "", "")), "", 200, "", false},
		{"a refusal", says(oauthError(401, "invalid_client")), "", 502, "refresh_failed", false},
		{"an audience that is not allowed", func(*tokenApp) {}, "?audience=https://evil.test", 400, "invalid_target", false},
		{"an audience with another end", func(*tokenApp) {}, "?audience=https://api.test/", 400, "invalid_target", false},
		{"an audience in capitals", func(*tokenApp) {}, "?audience=HTTPS://API.TEST", 400, "invalid_target", false},
		{"an audience that is allowed", func(*tokenApp) {}, "?audience=https://api.test", 200, "", false},
		{"the login's audience", func(*tokenApp) {}, "?audience=", 200, "", false},
		{"two audiences", func(*tokenApp) {}, "?audience=https://api.test&audience=https://evil.test", 400, "invalid_request", false},
		{"a scope that is not allowed", func(*tokenApp) {}, "?audience=https://api.test&scope=admin", 400, "invalid_scope", false},
		{"a scope beside one that is allowed", func(*tokenApp) {}, "?audience=https://api.test&scope=read+admin", 400, "invalid_scope", false},
		{"a scope that is allowed", func(*tokenApp) {}, "?audience=https://api.test&scope=read", 200, "", false},
		{"a scope of the login", func(*tokenApp) {}, "?scope=openid+email", 200, "", false},
		{"two scopes", func(*tokenApp) {}, "?scope=read&scope=write", 400, "invalid_request", false},
		{"a resource", func(*tokenApp) {}, "?resource=https://evil.test", 200, "", false}, // is not one of ours
		{"a query that is none", func(*tokenApp) {}, "?scope=%zz", 400, "invalid_request", false},
		{"the provider knows no such audience", func(a *tokenApp) {
			a.op.Change(func(k *oidcauthtest.Knobs) { k.Audiences = []string{} })
		}, "?audience=https://api.test", 502, "refresh_failed", false},
		{"invalid_grant for another audience", fresh(oauthError(400, "invalid_grant")), "?audience=https://api.test", 502, "refresh_failed", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newTokenApp(t, func(o *oidcauth.Options) {
					o.AllowedAudiences, o.AllowedScopes = []string{"https://api.test"}, []string{"read", "write"}
				})
				defer a.settle(t)
				tt.change(a)
				r := a.browser.Fetch(tokenRoute + tt.query)
				if r.StatusCode != tt.status || errorCode(r) != tt.code {
					t.Fatalf("answered with %d %q, want %d %q", r.StatusCode, errorCode(r), tt.status, tt.code)
				}
				if tt.status == 200 {
					_, audience, scope, live := a.op.AccessToken(tokenOf(t, r.Body).Token)
					ours := strings.Contains(tt.query, "api.test")
					if !live || ours != (audience == "https://api.test") || strings.Contains(scope, "admin") {
						t.Errorf("a token for %q with %q, live: %t", audience, scope, live)
					}
					return
				}
				if strings.Contains(r.Body, "at-") || strings.Contains(r.Body, "canary") {
					t.Errorf("the body is %s", r.Body)
				}
				if strings.Contains(r.Body, `"login_url":"/auth/login"`) != tt.login {
					t.Errorf("the body is %s, with login_url: %t", r.Body, tt.login)
				}
				challenge, retry := r.Header.Get("WWW-Authenticate"), r.Header.Get("Retry-After")
				if (challenge == "Cookie") != (tt.status == 401) || (retry != "") != (tt.status == 503) {
					t.Errorf("WWW-Authenticate %q, Retry-After %q", challenge, retry)
				}
				if got := r.Header.Get("Cache-Control"); !strings.Contains(got, "no-store") {
					t.Errorf("Cache-Control is %q", got)
				}
				if tt.code == "invalid_target" && a.wire.count("https://evil.test") > 0 {
					t.Error("the provider was asked") // S16: an open list is a logout button
				}
			})
		})
	}
}

func TestAnExpiredTokenWithoutARefreshToken(t *testing.T) { // behaviour.md 7
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		a.op.Change(func(k *oidcauthtest.Knobs) { k.OmitRefreshToken, k.AccessTokenLifetime = true, time.Minute })
		a.browser.SignIn(oidcauthtest.Alice)
		for _, tt := range []struct {
			wait   time.Duration
			status int
		}{{0, 200}, {55 * time.Second, 200}, {6 * time.Second, 401}} {
			time.Sleep(tt.wait)
			r := a.browser.Fetch(tokenRoute)
			if r.StatusCode != tt.status || tt.status == 401 && errorCode(r) != "login_required" {
				t.Errorf("status %d %q, want %d", r.StatusCode, errorCode(r), tt.status)
			}
			if deletesSession(r) || a.browser.Get("/").Body != "alice" {
				t.Error("the session is over")
			}
		}
		if a.op.Count("token") != 1 {
			t.Errorf("the provider was asked %d times", a.op.Count("token")-1)
		}
	})
}

// A moved or switched-off route, and all ways to mount it.
func TestWhereTheAccessTokenRouteIs(t *testing.T) {
	t.Parallel()
	none := func(*oidcauth.Options) {}
	at := func(path string) func(*oidcauth.Options) {
		return func(o *oidcauth.Options) { o.Routes.AccessToken = path }
	}
	below := func(o *oidcauth.Options) { o.BaseURL = "https://app.test/x" }
	stripped := func(o *oidcauth.Options) { o.BaseURL, o.PrefixStripped = "https://app.test/x", true }
	wrap := func(a *app) http.Handler { return a.handler }
	alone := func(a *app) http.Handler { return a.Handler() }
	tests := []struct {
		name  string
		edit  func(*oidcauth.Options)
		mount func(*app) http.Handler
		path  string
		ok    bool
	}{
		{"below Wrap", none, wrap, tokenRoute, true},
		{"by Handler", none, alone, tokenRoute, true},
		{"by Handler in a mux", none, func(a *app) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("/auth/", a.Handler())
			return mux
		}, tokenRoute, true},
		{"below a guard", none, func(a *app) http.Handler { return a.RequireAuth(http.NotFoundHandler()) }, tokenRoute, true},
		{"below an API guard in Wrap", none, func(a *app) http.Handler { return a.Wrap(a.RequireAuthAPI(a.mux)) }, tokenRoute, true},
		{"by Handler below a guard", none, func(a *app) http.Handler { return a.RequireAuthAPI(a.Handler()) }, tokenRoute, true},
		{"moved", at("/api/token"), wrap, "/api/token", true},
		{"moved away", at("/api/token"), wrap, tokenRoute, false},
		{"switched off", at("-"), wrap, tokenRoute, false},
		{"switched off, by Handler", at("-"), alone, tokenRoute, false},
		{"with a base path", below, wrap, "/x" + tokenRoute, true},
		{"with a base path, outside of it", below, wrap, tokenRoute, false},
		{"with a base path that is stripped", stripped, func(a *app) http.Handler {
			return http.StripPrefix("/x", a.handler)
		}, "/x" + tokenRoute, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t, tt.edit)
				defer a.settle(t)
				a.op.Change(func(k *oidcauthtest.Knobs) { k.AccessTokenLifetime = time.Minute })
				a.op.Register([]string{"https://app.test/x/auth/callback"}, nil)
				b := a.op.NewBrowser(tt.mount(a))
				b.Get(a.LoginURL("/auth/profile"))
				time.Sleep(2 * time.Minute)
				r := b.Fetch(tt.path)
				if got := r.StatusCode == 200 && strings.Contains(r.Body, "at-"); got != tt.ok {
					t.Errorf("status %d, want a token: %t", r.StatusCode, tt.ok)
				}
				if setsSession(r) != tt.ok || len(sessionLines(r.Header)) > 1 || (a.op.Grants() == 1) != tt.ok {
					t.Errorf("%d session cookies, %d grants", len(sessionLines(r.Header)), a.op.Grants())
				}
				if tt.ok && !strings.Contains(r.Header.Get("Cache-Control"), "no-store") {
					t.Errorf("Cache-Control is %q", r.Header.Get("Cache-Control"))
				}
			})
		})
	}
}

// S01: another Client's cookie brings no token, whatever the two have in common.
func TestAForeignCookieGetsNoAccessToken(t *testing.T) {
	t.Parallel()
	for name, pair := range neighbours(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			customers, staff := pair[0], pair[1]
			cookie := customers.cookies(t, oidcauthtest.Alice)
			if r := customers.browserless(t, "GET", tokenRoute, byScript(cookie)...); r.StatusCode != 200 {
				t.Fatalf("their own: status %d", r.StatusCode)
			}
			for name, h := range map[string]http.Handler{"Wrap": staff.handler, "Handler": staff.Handler()} {
				for _, path := range []string{tokenRoute, "/staff" + tokenRoute} {
					if resp := ask(h, "GET", path, byScript(cookie)...); strings.Contains(body(resp), "at-") || len(resp.Cookies()) > 0 {
						t.Errorf("%s, %s: a token or a cookie for another client's session", name, path)
					}
				}
			}
		})
	}
}

// S16, RFC 8707: the page that asks for an audience gets that audience's token, and the login's stays as it is.
func TestTheAccessTokenRouteKeepsAudiencesApart(t *testing.T) {
	t.Parallel()
	a := newApp(t, func(o *oidcauth.Options) {
		o.Audience, o.AllowedAudiences = "https://own.test", []string{"https://a.test", "https://b.test"}
		o.AudienceScopes = map[string][]string{"https://a.test": {"read:a"}}
		o.AllowedScopes = []string{"write:a"}
	})
	a.browser.SignIn(oidcauthtest.Alice)
	for range 2 { // the second time from the session
		for _, tt := range []struct{ audience, scope, granted string }{
			{"", "", "openid profile email offline_access"},
			{"https://own.test", "", "openid profile email offline_access"},
			{"https://a.test", "", "read:a"},
			{"https://a.test", "write:a", "write:a"},
			{"https://b.test", "", "openid profile email offline_access"},
		} {
			r := a.browser.Fetch(tokenRoute + "?" + url.Values{"audience": {tt.audience}, "scope": {tt.scope}}.Encode())
			got := tokenOf(t, r.Body)
			want := tt.audience
			if want == "" {
				want = "https://own.test"
			}
			_, audience, scope, live := a.op.AccessToken(got.Token)
			if !live || audience != want || scope != tt.granted || got.Scope != scope {
				t.Errorf("%q %q: a token for %q with %q, called %q, live: %t", tt.audience, tt.scope, audience, scope, got.Scope, live)
			}
		}
	}
	if a.op.Grants() != 3 {
		t.Errorf("%d grants for three further tokens", a.op.Grants())
	}
	a.settle(t)
}
