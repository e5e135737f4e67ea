package op_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/oidcauth/oidcauth/oidcauthtest/internal/op"
)

const (
	callback = "https://app.test/auth/callback"
	verifier = "0123456789012345678901234567890123456789012"
	secret   = "se:cr+et% of 32 bytes or more, for HS256"
)

func newProvider(t *testing.T) *op.Provider {
	t.Helper()
	p, err := op.New(op.Config{
		Issuer: "https://op.test/", ClientID: "client", ClientSecret: secret,
		RedirectURIs: []string{callback}, PostLogoutURIs: []string{"https://app.test", "https://app.test/"}, CheckHints: true,
		Authenticate: func(http.ResponseWriter, *http.Request) (op.Login, string, bool) {
			return op.Login{Subject: "alice", Claims: map[string]any{"email": "a@example.com"}}, "", true
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// do sends a request with a form, or without one if it is nil.
func do(p http.Handler, method, target string, form url.Values, edit ...func(*http.Request)) *http.Response {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r := httptest.NewRequest(method, "https://op.test"+target, body)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, f := range edit {
		f(r)
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Result()
}

func basic(id, secret string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret)) }
}

var client = basic("client", secret)

func bearer(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

func object(t *testing.T, resp *http.Response) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		t.Fatalf("status %d: %v", resp.StatusCode, err)
	}
	return v
}

func authorization(edit func(url.Values)) url.Values {
	q := url.Values{
		"client_id": {"client"}, "redirect_uri": {callback}, "response_type": {"code"}, "state": {"s"}, "nonce": {"n"},
		"scope": {"openid offline_access"}, "code_challenge_method": {"S256"},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)},
	}
	if edit != nil {
		edit(q)
	}
	return q
}

// authorize returns the query that the browser brings back.
func authorize(t *testing.T, p http.Handler, edit func(url.Values)) url.Values {
	t.Helper()
	resp := do(p, "GET", "/authorize?"+authorization(edit).Encode(), nil)
	u, err := resp.Location()
	if err != nil || !strings.HasPrefix(u.String(), callback+"?") {
		t.Fatalf("authorize: status %d, location %v", resp.StatusCode, u)
	}
	return u.Query()
}

func exchange(code string, edit func(url.Values)) url.Values {
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {callback},
		"code_verifier": {verifier},
	}
	if edit != nil {
		edit(form)
	}
	return form
}

// login returns the answer of the token endpoint.
func login(t *testing.T, p http.Handler) map[string]any {
	t.Helper()
	resp := do(p, "POST", "/token", exchange(authorize(t, p, nil).Get("code"), nil), client)
	if resp.StatusCode != 200 {
		t.Fatalf("token: status %d: %v", resp.StatusCode, object(t, resp))
	}
	return object(t, resp)
}

func refresh(p http.Handler, token any) *http.Response {
	return do(p, "POST", "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token.(string)}}, client)
}

func set(name, value string) func(url.Values) { return func(v url.Values) { v.Set(name, value) } }
func del(name string) func(url.Values)        { return func(v url.Values) { v.Del(name) } }
func twice(name string) func(url.Values)      { return func(v url.Values) { v.Add(name, v.Get(name)) } }

func claimsOf(t *testing.T, token any) map[string]any {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token.(string), ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(raw, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestNothingIsSentToAnUnknownClient(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	for name, edit := range map[string]func(url.Values){
		"other client":                  set("client_id", "other"),
		"other redirect URI":            set("redirect_uri", callback+"/"),
		"no redirect URI":               del("redirect_uri"),
		"redirect URI with other query": set("redirect_uri", callback+"?a=b"),
		"state twice":                   twice("state"),
	} {
		resp := do(p, "GET", "/authorize?"+authorization(edit).Encode(), nil)
		if resp.StatusCode != 400 || resp.Header.Get("Location") != "" {
			t.Errorf("%s: status %d, location %q, want 400 and none", name, resp.StatusCode, resp.Header.Get("Location"))
		}
	}
}

func TestAWrongAuthorizationRequestIsAnsweredWithAnErrorAndNoCode(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, want string
		edit       func(url.Values)
	}{
		{"no PKCE", "invalid_request", func(v url.Values) { v.Del("code_challenge"); v.Del("code_challenge_method") }},
		{"plain PKCE", "invalid_request", set("code_challenge_method", "plain")},
		{"challenge that is no digest", "invalid_request", set("code_challenge", strings.Repeat("!", 43))},
		{"implicit flow", "unsupported_response_type", set("response_type", "token")},
		{"no openid", "invalid_scope", set("scope", "email")}, // CS-08
		{"openid as part of a scope", "invalid_scope", set("scope", "openidx")},
		{"request object", "request_not_supported", set("request", "x")},
		{"request URI", "request_uri_not_supported", set("request_uri", "https://x.test")},
		{"max_age that is no number", "invalid_request", set("max_age", "-1")},
		{"none with other prompts", "invalid_request", set("prompt", "none login")}, // OIDC-05
		{"fragment", "invalid_request", set("response_mode", "fragment")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			q := authorize(t, newProvider(t), tt.edit)
			if q.Get("error") != tt.want || q.Has("code") || q.Get("state") != "s" || q.Get("iss") != "https://op.test/" {
				t.Errorf("got %v, want error %s with state and iss", q, tt.want)
			}
		})
	}
}

func TestTokenEndpointRefuses(t *testing.T) {
	t.Parallel()
	none := func(*http.Request) {}
	tests := []struct {
		name   string
		edit   func(url.Values)
		auth   func(*http.Request)
		status int
		want   string
	}{
		{"verifier of another", set("code_verifier", strings.Repeat("x", 43)), client, 400, "invalid_grant"},
		{"no verifier", del("code_verifier"), client, 400, "invalid_grant"},
		{"other redirect URI", set("redirect_uri", callback+"?"), client, 400, "invalid_grant"},
		{"no redirect URI", del("redirect_uri"), client, 400, "invalid_grant"},
		{"unknown code", set("code", "x"), client, 400, "invalid_grant"},
		{"code twice in the form", twice("code"), client, 400, "invalid_request"},
		{"other grant", set("grant_type", "password"), client, 400, "unsupported_grant_type"},
		{"wrong secret", nil, basic("client", "x"), 401, "invalid_client"},
		{"other client", nil, basic("other", secret), 401, "invalid_client"},
		{"client_id that contradicts the header", set("client_id", "other"), client, 401, "invalid_client"},
		// CS-07
		{
			"secret without form encoding", nil, func(r *http.Request) { r.SetBasicAuth("client", secret) }, 401,
			"invalid_client",
		},
		{"no credential", set("client_id", "client"), none, 401, "invalid_client"},
		{"two credentials", set("client_secret", secret), client, 400, "invalid_request"}, // RFC 6749 2.3
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newProvider(t)
			resp := do(p, "POST", "/token", exchange(authorize(t, p, nil).Get("code"), tt.edit), tt.auth)
			body := object(t, resp)
			if resp.StatusCode != tt.status || body["error"] != tt.want || body["access_token"] != nil {
				t.Errorf("status %d, %v, want %d %s", resp.StatusCode, body, tt.status, tt.want)
			}
		})
	}
}

func TestTheClientAuthenticatesInHeaderOrForm(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	form := exchange(authorize(t, p, nil).Get("code"), func(v url.Values) {
		v.Set("client_id", "client")
		v.Set("client_secret", secret)
	})
	if resp := do(p, "POST", "/token", form); resp.StatusCode != 200 {
		t.Errorf("form: status %d: %v", resp.StatusCode, object(t, resp))
	}
	login(t, p) // header
}

func TestTokenEndpointAnswersPostOnly(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	query := exchange(authorize(t, p, nil).Get("code"), nil).Encode()
	if resp := do(p, "GET", "/token?"+query, nil, client); resp.StatusCode != 405 || resp.Header.Get("Allow") != "POST" {
		t.Errorf("GET: status %d, Allow %q, want 405 and POST", resp.StatusCode, resp.Header.Get("Allow"))
	}
}

func TestACodeWorksOnce(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	code := authorize(t, p, nil).Get("code")
	first := object(t, do(p, "POST", "/token", exchange(code, nil), client))
	if n := p.ActiveRefreshTokens("alice"); n != 1 {
		t.Fatalf("%d active refresh tokens after the first use, want 1", n)
	}
	resp := do(p, "POST", "/token", exchange(code, nil), client)
	if resp.StatusCode != 400 || object(t, resp)["error"] != "invalid_grant" {
		t.Errorf("second use: status %d, want 400 invalid_grant", resp.StatusCode)
	}
	// RFC 6749 4.1.2: what the first use brought is revoked.
	if n := p.ActiveRefreshTokens("alice"); n != 0 {
		t.Errorf("%d active refresh tokens after the second use, want 0", n)
	}
	if resp := refresh(p, first["refresh_token"]); resp.StatusCode != 400 {
		t.Errorf("refresh after the second use: status %d, want 400", resp.StatusCode)
	}
	if resp := do(p, "GET", "/userinfo", nil, bearer(first["access_token"].(string))); resp.StatusCode != 401 {
		t.Errorf("userinfo after the second use: status %d, want 401", resp.StatusCode)
	}
}

func TestACodeExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		code := authorize(t, p, nil).Get("code")
		time.Sleep(10 * time.Minute) // RFC 6749 4.1.2: the most a code should live
		if resp := do(p, "POST", "/token", exchange(code, nil), client); resp.StatusCode != 400 {
			t.Errorf("status %d after ten minutes, want 400", resp.StatusCode)
		}
	})
}

func TestTheIDTokenSaysWhatWasAsked(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	claims := claimsOf(t, login(t, p)["id_token"])
	for name, want := range map[string]any{
		"iss": "https://op.test/", "sub": "alice", "aud": "client", "nonce": "n", "email": "a@example.com",
	} {
		if claims[name] != want {
			t.Errorf("%s is %v, want %v", name, claims[name], want)
		}
	}
	if claims["at_hash"] == nil { // CS-13
		t.Error("there is no at_hash")
	}
}

func TestUserInfoIsForTheBearer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		access := login(t, p)["access_token"].(string)
		for name, resp := range map[string]*http.Response{
			"no token":       do(p, "GET", "/userinfo", nil),
			"another token":  do(p, "GET", "/userinfo", nil, bearer("x")),
			"another scheme": do(p, "GET", "/userinfo", nil, func(r *http.Request) { r.SetBasicAuth("x", access) }),
			// beside the header: CS-11
			"token in the query": do(p, "GET", "/userinfo?access_token="+access, nil, bearer(access)),
		} {
			if resp.StatusCode != 401 && resp.StatusCode != 400 {
				t.Errorf("%s: status %d", name, resp.StatusCode)
			}
		}
		if claims := object(t, do(p, "GET", "/userinfo", nil, bearer(access))); claims["sub"] != "alice" ||
			claims["email"] != "a@example.com" {
			t.Errorf("got %v", claims)
		}
		time.Sleep(time.Hour)
		if resp := do(p, "GET", "/userinfo", nil, bearer(access)); resp.StatusCode != 401 ||
			resp.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("an expired token: status %d, WWW-Authenticate %q", resp.StatusCode, resp.Header.Get("WWW-Authenticate"))
		}
	})
}

func TestLogoutRedirectsOnlyToRegisteredURLs(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	hint := login(t, p)["id_token"].(string)
	logout := func(edit ...func(url.Values)) url.Values {
		q := url.Values{
			"client_id": {"client"}, "id_token_hint": {hint}, "post_logout_redirect_uri": {"https://app.test"},
			"state": {"st"},
		}
		for _, f := range edit {
			f(q)
		}
		return q
	}
	tests := []struct {
		name, target string
		status       int
		location     string
	}{
		{"registered", "/end_session?" + logout().Encode(), 302, "https://app.test?state=st"},
		{
			"with slash", "/end_session?" + logout(set("post_logout_redirect_uri", "https://app.test/")).Encode(), 302,
			"https://app.test/?state=st",
		},
		// RP-Initiated Logout 2
		{"the hint names the client", "/end_session?" + logout(del("client_id")).Encode(), 302, "https://app.test?state=st"},
		{"no state", "/end_session?" + logout(del("state")).Encode(), 302, "https://app.test"},
		{"nowhere to go", "/end_session?" + logout(del("post_logout_redirect_uri")).Encode(), 200, ""},
		{"other host", "/end_session?" + logout(set("post_logout_redirect_uri", "https://evil.test")).Encode(), 400, ""},
		{"other path", "/end_session?" + logout(set("post_logout_redirect_uri", "https://app.test/x")).Encode(), 400, ""},
		{"other query", "/end_session?" + logout(set("post_logout_redirect_uri", "https://app.test/?x")).Encode(), 400, ""},
		// A1, RP-initiated logout
		{"foreign hint", "/end_session?" + logout(set("id_token_hint", "a.b.c")).Encode(), 400, ""},
		{"other client", "/end_session?" + logout(set("client_id", "other")).Encode(), 400, ""},
		{"state twice", "/end_session?" + logout(twice("state")).Encode(), 400, ""},
		{"nobody named", "/end_session?" + logout(del("client_id"), del("id_token_hint")).Encode(), 400, ""},
		{
			"v2", "/v2/logout?client_id=client&returnTo=https%3A%2F%2Fapp.test%2F%3Fstate%3Dst", 302,
			"https://app.test/?state=st",
		},
		{"v2, other host", "/v2/logout?client_id=client&returnTo=https%3A%2F%2Fevil.test", 400, ""},
		{"v2, other client", "/v2/logout?client_id=other&returnTo=https%3A%2F%2Fapp.test", 400, ""},
	}
	for _, tt := range tests {
		resp := do(p, "GET", tt.target, nil)
		if got := resp.Header.Get("Location"); resp.StatusCode != tt.status || got != tt.location {
			t.Errorf("%s: status %d, location %q, want %d %q", tt.name, resp.StatusCode, got, tt.status, tt.location)
		}
	}
}

func TestMetadataNamesWhatIsThere(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	metadata := object(t, do(p, "GET", "/.well-known/openid-configuration", nil))
	for _, name := range []string{
		"authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint", "end_session_endpoint",
		"revocation_endpoint",
	} {
		path := strings.TrimPrefix(metadata[name].(string), "https://op.test")
		if resp := do(p, "GET", path, nil); resp.StatusCode == 404 {
			t.Errorf("%s: nothing is at %s", name, path)
		}
	}
	if metadata["issuer"] != "https://op.test/" || metadata["authorization_response_iss_parameter_supported"] != true {
		t.Errorf("metadata %v", metadata)
	}
}

func TestAnIssuerMayHaveAPath(t *testing.T) {
	t.Parallel()
	p, err := op.New(op.Config{
		Issuer: "https://op.test/tenant", ClientID: "client", ClientSecret: "secret", RedirectURIs: []string{callback},
		Authenticate: func(http.ResponseWriter, *http.Request) (op.Login, string, bool) {
			return op.Login{Subject: "a"}, "", true
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	metadata := object(t, do(p, "GET", "/tenant/.well-known/openid-configuration", nil))
	if metadata["token_endpoint"] != "https://op.test/tenant/token" {
		t.Errorf("token endpoint %v", metadata["token_endpoint"])
	}
	for _, path := range []string{"/.well-known/openid-configuration", "/tenanttoken", "/token"} {
		if resp := do(p, "GET", path, nil); resp.StatusCode != 404 {
			t.Errorf("%s: status %d, want 404", path, resp.StatusCode)
		}
	}
}

func TestADelayedRequestEndsWithItsClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		code := authorize(t, p, nil).Get("code")
		p.Delay("token", time.Hour)
		start := time.Now()
		do(p, "POST", "/token", exchange(code, nil), client, func(r *http.Request) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			t.Cleanup(cancel)
			*r = *r.WithContext(ctx)
		})
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %v, want 1s: the client gave up", took)
		}
	})
}

func TestNobodySignedIn(t *testing.T) {
	t.Parallel()
	p, err := op.New(op.Config{
		Issuer: "https://op.test/", ClientID: "client", ClientSecret: "x",
		RedirectURIs: []string{callback},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := authorize(t, p, set("prompt", "none")).Get("error"); got != "login_required" {
		t.Errorf("prompt=none: error %q, want login_required", got)
	}
	if got := authorize(t, p, nil).Get("error"); got != "access_denied" {
		t.Errorf("error %q, want access_denied", got)
	}
}

func TestHooksMayAskTheProvider(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.Change(func(k *op.Knobs) {
		k.EditIDToken = func(claims map[string]any) { claims["n"] = len(p.Requests()) }
		k.EditTokens = func(map[string]any) { p.ActiveRefreshTokens("alice") }
		k.EditUserInfo = func(map[string]any) { p.Requests() }
	})
	done := make(chan bool)
	go func() {
		defer close(done)
		do(p, "GET", "/userinfo", nil, bearer(login(t, p)["access_token"].(string)))
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("deadlock")
	}
}

func TestKeySetWithDecoysIsStable(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	for _, change := range []func(*op.Knobs){
		func(k *op.Knobs) { k.DecoyKeys = true },
		func(k *op.Knobs) { k.DecoyKeys, k.NoKeyIDs = false, 3 },
	} {
		p.Change(change)
		first, _ := io.ReadAll(do(p, "GET", "/jwks", nil).Body)
		second, _ := io.ReadAll(do(p, "GET", "/jwks", nil).Body)
		if string(first) != string(second) {
			t.Error("two requests for the key set bring different keys")
		}
	}
}
