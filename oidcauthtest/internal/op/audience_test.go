package op_test

import (
	"net/url"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth/oidcauthtest/internal/op"
)

// loginFor is a login with an edited authorization request.
func loginFor(t *testing.T, p *op.Provider, edit func(url.Values)) map[string]any {
	t.Helper()
	return object(t, do(p, "POST", "/token", exchange(authorize(t, p, edit).Get("code"), nil), client))
}

// refreshWith is a refresh with further parameters, name by name and value by value.
func refreshWith(t *testing.T, p *op.Provider, token any, params ...string) map[string]any {
	t.Helper()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token.(string)}}
	for pair := range slices.Chunk(params, 2) {
		form.Set(pair[0], pair[1])
	}
	return object(t, do(p, "POST", "/token", form, client))
}

// tokenFor is what an access token is for, or "" if it is no good.
func tokenFor(p *op.Provider, token any) string {
	subject, audience, scope, ok := p.AccessToken(token.(string))
	if !ok {
		return ""
	}
	return subject + " at " + audience + " for " + scope
}

func TestAccessTokensAreForAnAudience(t *testing.T) { // RFC 8707
	t.Parallel()
	const own, scope = "alice at https://op.test/api", " for openid offline_access"
	both := func(v url.Values) { v.Set("audience", "a"); v.Set("resource", "r") }
	tests := []struct {
		name    string
		login   func(url.Values)
		refresh []string
		want    [2]string // after login and refresh
	}{
		{"none", nil, nil, [2]string{own + scope, own + scope}},
		{"of the login", set("audience", "a"), nil, [2]string{"alice at a" + scope, "alice at a" + scope}},
		{"of the login, as a resource", set("resource", "r"), nil, [2]string{"alice at r" + scope, "alice at r" + scope}},
		{"both", both, nil, [2]string{"alice at r" + scope, "alice at r" + scope}},
		{
			"of the refresh", set("audience", "a"),
			[]string{"audience", "b", "scope", "read write"},
			[2]string{"alice at a" + scope, "alice at b for read write"},
		},
		{
			"of the refresh, as a resource", nil,
			[]string{"resource", "r", "scope", "read"},
			[2]string{own + scope, "alice at r for read"},
		},
		{
			"of the refresh, without scope", nil,
			[]string{"audience", "b"},
			[2]string{own + scope, "alice at b" + scope},
		},
		{
			"of the login again", set("audience", "a"),
			[]string{"audience", "a", "scope", "openid"},
			[2]string{"alice at a" + scope, "alice at a for openid"},
		},
	}
	for _, tt := range tests {
		for _, jwt := range []bool{false, true} {
			p := newProvider(t)
			p.Change(func(k *op.Knobs) { k.JWTAccessTokens = jwt })
			first := loginFor(t, p, tt.login)
			second := refreshWith(t, p, first["refresh_token"], tt.refresh...)
			got := [2]string{tokenFor(p, first["access_token"]), tokenFor(p, second["access_token"])}
			if got != tt.want {
				t.Errorf("%s, JWT %v: got %q, want %q", tt.name, jwt, got, tt.want)
			}
			third := refreshWith(t, p, second["refresh_token"]) // one refresh does not change the next
			if got := tokenFor(p, third["access_token"]); got != tt.want[0] {
				t.Errorf("%s, JWT %v: then got %q, want %q", tt.name, jwt, got, tt.want[0])
			}
		}
	}
}

func TestAccessTokensMayBeJWTs(t *testing.T) { // RFC 9068 2
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		p.Change(func(k *op.Knobs) {
			k.JWTAccessTokens, k.SigningAlg, k.AccessTokenLifetime = true, "ES256", time.Minute
			k.EditIDToken = func(c map[string]any) { c["sub"] = "other" } // nothing of it is for access tokens
			k.EditHeader = func(h map[string]any) { h["typ"] = "other" }
		})
		token := loginFor(t, p, set("audience", "https://api.test/"))["access_token"]
		jws := parse(t, token)
		header := jws.Signatures[0].Header
		if n := len(verifies(jws, keySet(t, p, "/jwks"))); n != 1 || header.Algorithm != "RS256" ||
			header.ExtraHeaders["typ"] != "at+jwt" {
			t.Errorf("verified by %d keys, header %v", n, header)
		}
		claims, now := claimsOf(t, token), float64(time.Now().Unix())
		for name, want := range map[string]any{
			"iss": "https://op.test/", "sub": "alice", "aud": "https://api.test/", "client_id": "client",
			"scope": "openid offline_access", "iat": now, "exp": now + 60,
		} {
			if claims[name] != want {
				t.Errorf("%s: %v, want %v", name, claims[name], want)
			}
		}
		other := claimsOf(t, loginFor(t, p, nil)["access_token"])
		if claims["jti"] == "" || claims["jti"] == other["jti"] || len(claims) != 8 {
			t.Errorf("claims %v", claims)
		}
	})
}

func TestAccessTokensEnd(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*op.Provider, map[string]any){
		"expired": func(*op.Provider, map[string]any) { time.Sleep(time.Hour) },
		"revoked": func(p *op.Provider, tokens map[string]any) {
			do(p, "POST", "/revoke", url.Values{"token": {tokens["access_token"].(string)}}, client)
		},
		"revoked with the refresh token": func(p *op.Provider, tokens map[string]any) {
			do(p, "POST", "/revoke", url.Values{"token": {tokens["refresh_token"].(string)}}, client)
		},
		"reuse of the refresh token": func(p *op.Provider, tokens map[string]any) {
			refresh(p, tokens["refresh_token"])
			refresh(p, tokens["refresh_token"])
		},
	}
	for name, end := range tests {
		for _, jwt := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider(t)
				p.Change(func(k *op.Knobs) { k.JWTAccessTokens = jwt })
				tokens := login(t, p)
				time.Sleep(time.Hour - 1)
				if tokenFor(p, tokens["access_token"]) == "" {
					t.Errorf("%s, JWT %v: ended too early", name, jwt)
				}
				end(p, tokens)
				if got := tokenFor(p, tokens["access_token"]); got != "" {
					t.Errorf("%s, JWT %v: still good: %s", name, jwt, got)
				}
			})
		}
	}
	if got := tokenFor(newProvider(t), ""); got != "" {
		t.Errorf("no token is %s", got)
	}
}

func TestARefreshForWhatIsNotAllowed(t *testing.T) { // S16, lesson 43
	t.Parallel()
	some := func(k *op.Knobs) { k.Audiences = []string{"b"} }
	none := func(k *op.Knobs) { k.Audiences = []string{} }
	narrow := func(k *op.Knobs) { k.AudienceScope = "read" }
	consume := func(k *op.Knobs) { k.Audiences, k.ConsumeOnRefusal = []string{}, true }
	keep := func(k *op.Knobs) { consume(k); k.KeepRefreshTokens = true }
	audience := func(name, scope string) []string { return []string{"audience", name, "scope", scope} }
	tests := []struct {
		name     string
		change   func(*op.Knobs)
		params   []string
		want     any // the error, or nil
		scope    any
		consumed bool
	}{
		{"any", nil, audience("c", "x"), nil, "x", false},
		{"listed", some, audience("b", "x"), nil, "x", false},
		{"unlisted", some, audience("c", "x"), "invalid_target", nil, false},
		{"unlisted resource", some, []string{"resource", "c"}, "invalid_target", nil, false},
		{"none listed", none, audience("b", "x"), "invalid_target", nil, false},
		{"own, none listed", none, audience("a", "openid"), nil, "openid", false},
		{"own, without a name", none, nil, nil, "openid offline_access", false},
		{"own, more scope", nil, audience("a", "openid x"), "invalid_scope", nil, false},
		{"own, without a name, more scope", nil, []string{"scope", "openid x"}, "invalid_scope", nil, false},
		{"denied scope", nil, audience("c", "x denied:y"), "invalid_scope", nil, false},
		{"scope that only contains the word", nil, audience("c", "x:denied:y"), nil, "x:denied:y", false},
		{"other scope than asked", narrow, audience("c", "read write"), nil, "read", false},
		{"own scope as asked", narrow, audience("a", "openid"), nil, "openid", false},
		{"unlisted, consumes", consume, audience("c", "x"), "invalid_target", nil, true},
		{"more scope, consumes", consume, audience("a", "openid x"), "invalid_scope", nil, true},
		{"unlisted, no rotation", keep, audience("c", "x"), "invalid_target", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newProvider(t)
			if tt.change != nil {
				p.Change(tt.change)
			}
			token := loginFor(t, p, set("audience", "a"))["refresh_token"]
			got := refreshWith(t, p, token, tt.params...)
			if got["error"] != tt.want || got["scope"] != tt.scope {
				t.Errorf("got %v, want error %v, scope %v", got, tt.want, tt.scope)
			}
			grants := 0
			if tt.want == nil {
				grants = 1
			}
			if p.Grants() != grants || p.Reuses() != 0 {
				t.Errorf("%d grants and %d reuses, want %d and 0", p.Grants(), p.Reuses(), grants)
			}
			if tt.want == nil {
				return
			}
			if worked := refresh(p, token).StatusCode == 200; worked == tt.consumed || (p.Reuses() == 1) != tt.consumed {
				t.Errorf("then the token worked: %v, %d reuses; want it consumed: %v", worked, p.Reuses(), tt.consumed)
			}
		})
	}
}

func TestGrantsAndReusesAreCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		p.Change(func(k *op.Knobs) { k.ReuseOverlap = 30 * time.Second })
		first := login(t, p)["refresh_token"]
		steps := []struct {
			name           string
			do             func()
			grants, reuses int
		}{
			{"login", func() {}, 0, 0},
			{"unknown token", func() { refresh(p, "x") }, 0, 0},
			{"refresh", func() { refresh(p, first) }, 1, 0},
			{"within the overlap", func() { refresh(p, first) }, 2, 0},
			{"after it", func() { time.Sleep(31 * time.Second); refresh(p, first) }, 2, 1},
			{"again", func() { refresh(p, first) }, 2, 2},
		}
		for _, step := range steps {
			if step.do(); p.Grants() != step.grants || p.Reuses() != step.reuses {
				t.Errorf("%s: %d grants and %d reuses, want %d and %d", step.name, p.Grants(), p.Reuses(), step.grants,
					step.reuses)
			}
		}
		other := login(t, p)["refresh_token"]
		do(p, "POST", "/revoke", url.Values{"token": {other.(string)}}, client)
		if refresh(p, other).StatusCode != 400 || p.Reuses() != 2 || p.Grants() != 2 {
			t.Errorf("a revoked token: %d grants and %d reuses, want 2 and 2", p.Grants(), p.Reuses())
		}
	})
}
