package idp_test

import (
	"crypto/sha256"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/idp"
)

// ours are the parameters that nobody sets from outside (OIDC-04, lesson 30).
var ours = []string{
	"client_id", "redirect_uri", "response_type", "response_mode", "state", "nonce", "code_challenge",
	"code_challenge_method", "request",
	"request_uri", "dpop_jkt", "scope",
}

// OIDC-04
func TestReservedParams(t *testing.T) {
	t.Parallel()
	for _, name := range ours {
		if !idp.ReservedParam(name) {
			t.Errorf("%s can be set from outside", name)
		}
		if err := idp.CheckParams(map[string]string{name: "x"}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	for _, name := range []string{
		"login_hint", "prompt", "ui_locales", "acr_values", "max_age", "display", "connection", "organization", "invitation",
		"screen_hint", "audience",
		"resource", "id_token_hint", "claims", "State", "",
	} {
		if idp.ReservedParam(name) {
			t.Errorf("%q cannot be set from outside", name)
		}
	}
}

// Behaviour 2, lesson 26
func TestCheckParams(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 2048)
	for _, tt := range []struct{ name, value, words string }{
		{"login_hint", "alice@example.com", ""},
		{"login_hint", long, ""},
		{"ui_locales", "", ""},
		{"max_age", "0", ""},
		{"max_age", "86400", ""},
		{"max_age", "", ""},
		{"prompt", "none", ""},
		{"prompt", "login consent", ""},
		{"prompt", "select_account", ""},
		{"login_hint", long + "x", `"login_hint" is too long`},
		{"", "x", `"" is set by the library`},
		{"nonce", "", `"nonce" is set by the library`},
		{"max_age", "-1", "max_age is not a number of seconds"},
		{"max_age", "1.5", "max_age is not a number of seconds"},
		{"max_age", "1e3", "max_age is not a number of seconds"},
		{"max_age", " 1", "max_age is not a number of seconds"},
		{"max_age", "1\n", "max_age is not a number of seconds"},
		{"max_age", "0x10", "max_age is not a number of seconds"},
		{"max_age", "٣", "max_age is not a number of seconds"},
		{"max_age", "1234567890", "max_age is not a number of seconds"}, // over nine digits
		{"prompt", "none login", "prompt none excludes other values"},
		{"prompt", "login  none", "prompt none excludes other values"},
		{"prompt", "none none", "prompt none excludes other values"},
	} {
		err := idp.CheckParams(map[string]string{tt.name: tt.value})
		switch {
		case tt.words == "" && err != nil:
			t.Errorf("%s=%.40s: %v", tt.name, tt.value, err)
		case tt.words != "" && (err == nil || !strings.Contains(err.Error(), tt.words)):
			t.Errorf("%s=%.40s: got %v, want an error with %q", tt.name, tt.value, err, tt.words)
		}
	}
	if err := idp.CheckParams(nil); err != nil {
		t.Errorf("no parameters: %v", err)
	}
	if err := idp.CheckParams(map[string]string{"login_hint": "x", "prompt": "login", "state": "x"}); err == nil {
		t.Error("one reserved parameter among others is accepted")
	}
}

func authRequest(extra map[string]string) idp.AuthRequest {
	return idp.AuthRequest{
		ClientID: "client", RedirectURI: "https://app.example.com/auth/callback?x=1&y=2", Scope: "openid profile",
		State: "the state", Nonce: "the nonce",
		Verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", Extra: extra,
	}
}

// authorize is the request of the tests, in the query's own order.
const authorize = "client_id=client&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM" + // RFC 7636 B
	"&code_challenge_method=S256&nonce=the+nonce" +
	"&redirect_uri=https%3A%2F%2Fapp.example.com%2Fauth%2Fcallback%3Fx%3D1%26y%3D2" +
	"&response_type=code&scope=openid+profile&state=the+state"

// OIDC-01, OIDC-04, OIDC-09, lesson 30
func TestAuthorizationURL(t *testing.T) {
	t.Parallel()
	hostile := map[string]string{"login_hint": "alice"}
	for _, name := range ours {
		hostile[name] = "evil"
	}
	for name, tt := range map[string]struct {
		endpoint string
		extra    map[string]string
		want     string
	}{
		"plain": {"https://op.example/authorize", nil, "https://op.example/authorize?" + authorize},
		"further parameters": {
			"https://op.example/authorize",
			map[string]string{"acr_values": "a b", "audience": "https://api.example?a=b&c"},
			"https://op.example/authorize?acr_values=a+b&audience=https%3A%2F%2Fapi.example%3Fa%3Db%26c&" + authorize,
		},
		"empty ones are left out": {
			"https://op.example/authorize", map[string]string{"audience": ""}, "https://op.example/authorize?" + authorize,
		},
		"reserved ones are ours": {
			"https://op.example/authorize", hostile,
			"https://op.example/authorize?" + strings.Replace(authorize, "&nonce", "&login_hint=alice&nonce", 1),
		},
		"a query is kept": {
			"https://op.example/authorize?tenant=1", nil, "https://op.example/authorize?tenant=1&" + authorize,
		},
		"a query is kept to the byte": {
			"https://op.example/a?p=B2C_1&z=%7e+%20&a=1;b=2&p=x&flag&%zz", nil,
			"https://op.example/a?p=B2C_1&z=%7e+%20&a=1;b=2&p=x&flag&%zz&" + authorize,
		},
		"an empty query": {"https://op.example/authorize?", nil, "https://op.example/authorize?" + authorize},
		"what is in both is sent once": {
			"https://op.example/a?scope=x&nonce&st%61te=y&tenant=1&response_type=token", nil,
			"https://op.example/a?tenant=1&" + authorize,
		},
		"a further one replaces as well": {
			"https://op.example/a?prompt=login",
			map[string]string{"prompt": "none"},
			"https://op.example/a?" + strings.Replace(authorize, "&redirect", "&prompt=none&redirect", 1),
		},
		"path, port and escapes stay": {
			"https://op.example:8443/realms/my%20club/auth", nil, "https://op.example:8443/realms/my%20club/auth?" + authorize,
		},
	} {
		m := idp.Metadata{AuthorizationEndpoint: tt.endpoint}
		if got, err := m.AuthorizationURL(authRequest(tt.extra)); err != nil || got != tt.want {
			t.Errorf("%s: got  %s, %v\nwant %s", name, got, err, tt.want)
		}
	}
}

// PKCE: the challenge is of the verifier, which does not travel (RFC 7636 4.2).
func TestVerifierStaysHere(t *testing.T) {
	t.Parallel()
	m := idp.Metadata{AuthorizationEndpoint: "https://op.example/authorize"}
	r := authRequest(nil)
	r.Verifier = "another verifier of forty-three characters, canary"
	got := must(url.Parse(must(m.AuthorizationURL(r))))
	sum := sha256.Sum256([]byte(r.Verifier))
	if got.Query().Get("code_challenge") != b64(sum[:]) || strings.Contains(got.String(), "canary") {
		t.Errorf("got %s", got)
	}
}

func TestEndpointThatIsNoURL(t *testing.T) {
	t.Parallel()
	m := idp.Metadata{AuthorizationEndpoint: "https://op.example/%zz", EndSessionEndpoint: "https://op.example/%zz"}
	_, err := m.AuthorizationURL(authRequest(nil))
	wantError(t, err, "authorization endpoint")
	_, err = m.EndSessionURL(map[string]string{"client_id": "client"}, false)
	wantError(t, err, "end session endpoint")
}

// Behaviour 2, S47
func TestScope(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		supported []string
		lists     [][]string
		want      string
	}{
		"one list":                   {nil, [][]string{{"openid", "profile"}}, "openid profile"},
		"in order, each once":        {nil, [][]string{{"openid", "b"}, {"a", "b", "openid"}, {"a", "c"}}, "openid b a c"},
		"nothing":                    {nil, nil, ""},
		"provider that says nothing": {nil, [][]string{{"openid", "offline_access"}}, "openid offline_access"},
		"provider that has it": {
			[]string{"openid", "offline_access"}, [][]string{{"openid", "offline_access"}}, "openid offline_access",
		},
		"provider without it": {
			[]string{"openid"}, [][]string{{"openid", "offline_access"}, {"offline_access", "x"}}, "openid x",
		},
		"provider that has none at all": {[]string{}, [][]string{{"openid", "offline_access"}}, "openid"},
		"others are asked for anyway":   {[]string{"openid"}, [][]string{{"openid", "read:all"}}, "openid read:all"},
	} {
		m := idp.Metadata{ScopesSupported: tt.supported}
		if got := m.Scope(tt.lists...); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestScopeLeavesItsListsAlone(t *testing.T) {
	t.Parallel()
	configured := append(make([]string, 0, 8), "openid", "offline_access")
	m := idp.Metadata{ScopesSupported: []string{"openid"}}
	m.Scope(configured, []string{"x", "y"})
	if want := []string{"openid", "offline_access", "", ""}; !slices.Equal(configured[:4], want) {
		t.Errorf("got %q", configured[:4])
	}
}

// RIL-01
func TestEndSessionURL(t *testing.T) {
	t.Parallel()
	all := map[string]string{
		"client_id": "client", "post_logout_redirect_uri": "https://app.example.com/?a=b&c", "state": "x y",
		"id_token_hint": "e30.e30.c2ln",
		"logout_hint":   "", "ui_locales": "",
	}
	const query = "client_id=client&id_token_hint=e30.e30.c2ln" +
		"&post_logout_redirect_uri=https%3A%2F%2Fapp.example.com%2F%3Fa%3Db%26c&state=x+y"
	for name, tt := range map[string]struct {
		endpoint  string
		federated bool
		want      string
	}{
		"plain": {"https://op.example/logout", false, "https://op.example/logout?" + query},
		"its query stays": {
			"https://op.example/logout?p=B2C_1&a=1;b=2", false, "https://op.example/logout?p=B2C_1&a=1;b=2&" + query,
		},
		"sent once": {"https://op.example/logout?state=1&p=2", false, "https://op.example/logout?p=2&" + query},
		"federated": {
			"https://op.example/logout", true,
			"https://op.example/logout?" + strings.Replace(query, "&id_token", "&federated=&id_token", 1),
		},
	} {
		m := idp.Metadata{EndSessionEndpoint: tt.endpoint}
		given := maps.Clone(all)
		if got, err := m.EndSessionURL(given, tt.federated); err != nil || got != tt.want {
			t.Errorf("%s: got  %s, %v\nwant %s", name, got, err, tt.want)
		}
		if !maps.Equal(given, all) {
			t.Errorf("%s: the caller's parameters are now %v", name, given)
		}
	}
}

// RIL-06, S27: servers refuse long URLs, and then nobody is signed out.
func TestLongIDTokenHintIsLeftOut(t *testing.T) {
	t.Parallel()
	m := idp.Metadata{EndSessionEndpoint: "https://op.example/logout?p=1"}
	const limit = 6 << 10
	for _, federated := range []bool{false, true} {
		params := map[string]string{"client_id": "client", "state": "x", "logout_hint": "sid", "id_token_hint": "x"}
		shortest := len(must(m.EndSessionURL(params, federated)))
		for _, tt := range []struct {
			length int // of the URL with the hint
			kept   bool
		}{{limit, true}, {limit + 1, false}, {4 * limit, false}} {
			params["id_token_hint"] = strings.Repeat("x", tt.length-shortest+1)
			got := must(m.EndSessionURL(params, federated))
			query := must(url.Parse(got)).Query()
			if query.Has("id_token_hint") != tt.kept || len(got) > limit {
				t.Errorf("%d bytes, federated %v: got %d bytes, want the hint: %v", tt.length, federated, len(got), tt.kept)
			}
			for name, want := range map[string]string{"client_id": "client", "state": "x", "logout_hint": "sid", "p": "1"} {
				if query.Get(name) != want {
					t.Errorf("%d bytes: %s is %q, want %q", tt.length, name, query.Get(name), want)
				}
			}
			if query.Has("federated") != federated {
				t.Errorf("%d bytes: federated is %v", tt.length, !federated)
			}
		}
	}
}

// Auth0's own logout knows neither hints nor state.
func TestV2LogoutURL(t *testing.T) {
	t.Parallel()
	const query = "/v2/logout?client_id=c%26d"
	for _, tt := range []struct {
		issuer    string
		federated bool
		want      string
	}{
		{"https://tenant.auth0.com/", false, query + "&returnTo=https%3A%2F%2Fapp.example%2F%3Fstate%3Dx"},
		{"https://tenant.auth0.com", false, query + "&returnTo=https%3A%2F%2Fapp.example%2F%3Fstate%3Dx"},
		{"https://tenant.auth0.com/", true, query + "&federated=&returnTo=https%3A%2F%2Fapp.example%2F%3Fstate%3Dx"},
	} {
		got := idp.V2LogoutURL(tt.issuer, "c&d", "https://app.example/?state=x", tt.federated)
		if got != "https://tenant.auth0.com"+tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

// Whatever comes from a link or sits in the endpoint, each of our parameters is sent once and as it is.
func FuzzAuthorizationURL(f *testing.F) {
	f.Add("tenant=1", "login_hint", "alice", "s")
	f.Add("nonce=x&%6eonce=y;z", "nonce", "evil", "a&state=b")
	f.Add("a=%zz&&=", "", "x", "\xff")
	f.Fuzz(func(t *testing.T, query, name, value, state string) {
		r := authRequest(map[string]string{name: value})
		r.State = state
		endpoint := "https://op.example/authorize?" + query
		before, err := url.Parse(endpoint)
		if err != nil || before.Fragment != "" || strings.Contains(query, "#") {
			return
		}
		got, err := (&idp.Metadata{AuthorizationEndpoint: endpoint}).AuthorizationURL(r)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(got)
		if err != nil || u.Host != "op.example" || u.Path != "/authorize" {
			t.Fatalf("got %s", got)
		}
		sent, want := u.Query(), map[string]string{
			"client_id": r.ClientID, "redirect_uri": r.RedirectURI, "response_type": "code", "scope": r.Scope, "nonce": r.Nonce,
			"code_challenge_method": "S256",
		}
		if state != "" {
			want["state"] = state
		}
		for name, value := range want {
			if !slices.Equal(sent[name], []string{value}) {
				t.Fatalf("%s is %q, want %q, in %s", name, sent[name], value, got)
			}
		}
		for name, values := range before.Query() {
			if !idp.ReservedParam(name) && value == "" && !slices.Equal(sent[name], values) {
				t.Fatalf("%s was %q and is %q, in %s", name, values, sent[name], got)
			}
		}
		if err := idp.CheckParams(map[string]string{name: value}); err == nil && value != "" && sent.Get(name) != value {
			t.Fatalf("%q is %q", name, sent[name])
		}
	})
}
