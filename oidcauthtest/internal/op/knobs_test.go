package op_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/oidcauth/oidcauth/oidcauthtest/internal/op"
)

// A jwk is one published key.
type jwk struct {
	jose.JSONWebKey // zero for a kind that go-jose does not know
	Kty, Crv, Kid   string
	Usage           string
}

func keySet(t *testing.T, p http.Handler, path string) []jwk {
	t.Helper()
	body, err := io.ReadAll(do(p, "GET", path, nil).Body)
	var set struct{ Keys []json.RawMessage }
	if err == nil {
		err = json.Unmarshal(body, &set)
	}
	if err != nil {
		t.Fatalf("key set: %v: %s", err, body)
	}
	var keys []jwk
	for _, raw := range set.Keys {
		var key struct {
			Kty, Crv, Kid, Use string
			D, P, Q, K         string
		}
		if err := json.Unmarshal(raw, &key); err != nil {
			t.Fatal(err)
		}
		if key.D+key.P+key.Q+key.K != "" {
			t.Errorf("a private key is published: %s", key.Kid)
		}
		k := jwk{Kty: key.Kty, Crv: key.Crv, Kid: key.Kid, Usage: key.Use}
		_ = k.UnmarshalJSON(raw) // of a kind that is not known
		keys = append(keys, k)
	}
	return keys
}

var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS512, jose.PS256, jose.ES256, jose.EdDSA, jose.HS256}

func parse(t *testing.T, token any) *jose.JSONWebSignature {
	t.Helper()
	jws, err := jose.ParseSignedCompact(token.(string), algorithms)
	if err != nil {
		t.Fatal(err)
	}
	return jws
}

// verifies lists the indexes of the published keys that verify a token.
func verifies(jws *jose.JSONWebSignature, keys []jwk) []int {
	var found []int
	for i, key := range keys {
		if key.Key == nil {
			continue
		}
		if _, err := jws.Verify(key.Key); err == nil {
			found = append(found, i)
		}
	}
	return found
}

func TestIDTokensAreSignedByAPublishedKey(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"", "RS256", "RS512", "PS256", "ES256", "EdDSA"} {
		for _, decoys := range []bool{false, true} {
			p := newProvider(t)
			p.Change(func(k *op.Knobs) { k.SigningAlg, k.DecoyKeys = alg, decoys })
			tokens := login(t, p)
			jws, keys := parse(t, tokens["id_token"]), keySet(t, p, "/jwks")
			good := verifies(jws, keys)
			if len(good) != 1 || keys[good[0]].Kid != jws.Signatures[0].Header.KeyID || keys[good[0]].Usage != "sig" {
				t.Errorf("%s, decoys %v: verified by the keys %v, want by one with its id, for signatures", alg, decoys, good)
			}
			sum := sha256.Sum256([]byte(tokens["access_token"].(string)))
			want := sum[:16]
			if alg == "EdDSA" || alg == "RS512" { // OpenID Connect Core 3.1.3.6; EdDSA has SHA-512 within
				long := sha512.Sum512([]byte(tokens["access_token"].(string)))
				want = long[:32]
			}
			if got := claimsOf(t, tokens["id_token"])["at_hash"]; got != base64.RawURLEncoding.EncodeToString(want) {
				t.Errorf("%s: at_hash %v", alg, got)
			}
		}
	}
}

func TestDecoysAreThoseOfTheConformanceSuite(t *testing.T) { // CS-14, OIDC-27
	t.Parallel()
	p := newProvider(t)
	p.Change(func(k *op.Knobs) { k.DecoyKeys = true })
	jws := parse(t, login(t, p)["id_token"])
	kinds := map[string]int{}
	for _, key := range keySet(t, p, "/jwks") {
		kinds[strings.Join(strings.Fields(key.Kty+" "+key.Crv+" "+key.Usage), " ")]++
		if key.Kid == jws.Signatures[0].Header.KeyID {
			kinds["same id"]++
		}
	}
	want := map[string]int{
		"RSA sig": 2, "EC P-256 sig": 2, "EC P-256": 1, "EC secp256k1 sig": 1, "OKP Ed25519 sig": 2, "RSA enc": 1,
		"EC P-256 enc": 1, "XX": 1,
		"same id": 3,
	}
	if !maps.Equal(kinds, want) {
		t.Errorf("keys %v, want %v", kinds, want)
	}
}

func TestTheWrongKeySigns(t *testing.T) {
	t.Parallel()
	with := func(alg, key string) (*op.Provider, map[string]any) {
		p := newProvider(t)
		p.Change(func(k *op.Knobs) { k.SigningAlg, k.SigningKey = alg, key })
		return p, login(t, p)
	}
	for _, alg := range []string{"RS256", "ES256"} {
		p, tokens := with(alg, "enc")
		jws, keys := parse(t, tokens["id_token"]), keySet(t, p, "/jwks")
		if good := verifies(jws, keys); len(good) != 1 || keys[good[0]].Usage != "enc" ||
			keys[good[0]].Kid != jws.Signatures[0].Header.KeyID {
			t.Errorf("%s: verified by the keys %v, want by one for encryption", alg, good)
		}
	}
	p, tokens := with("", "unpublished")
	jws, keys := parse(t, tokens["id_token"]), keySet(t, p, "/jwks")
	if good := verifies(jws, keys); len(good) != 0 {
		t.Errorf("an unpublished key: verified by %v", good)
	}
	if !slices.ContainsFunc(keys, func(k jwk) bool { return k.Kid == jws.Signatures[0].Header.KeyID }) {
		t.Error("an unpublished key: its id tells already that it is one")
	}
	_, tokens = with("HS256", "")
	if _, err := parse(t, tokens["id_token"]).Verify([]byte(secret)); err != nil {
		t.Errorf("HS256 with the client secret: %v", err)
	}
	_, tokens = with("HS256", "public")
	if _, err := parse(t, tokens["id_token"]).Verify([]byte(secret)); err == nil {
		t.Error("HS256 with the public key is verified by the client secret")
	}
}

func TestKeysWithoutIDs(t *testing.T) { // A1, kid-absent-single-jwks and kid-absent-multiple-jwks
	t.Parallel()
	for _, n := range []int{1, 3, 5} { // more than there are fixed keys
		p := newProvider(t)
		p.Change(func(k *op.Knobs) { k.NoKeyIDs = n })
		jws, keys := parse(t, login(t, p)["id_token"]), keySet(t, p, "/jwks")
		if good := verifies(jws, keys); len(keys) != n || !slices.Equal(good, []int{n - 1}) {
			t.Errorf("%d keys, of which %v verify; want %d, of which the last does", len(keys), good, n)
		}
		other := func(k jwk) bool { return k.Kid != "" || k.Kty != "RSA" }
		if jws.Signatures[0].Header.KeyID != "" || slices.ContainsFunc(keys, other) {
			t.Errorf("%d: key ids, or other keys than RSA", n)
		}
	}
}

func TestKeysRotate(t *testing.T) { // A1, signing-key-rotation and signing-key-rotation-just-before-signing
	t.Parallel()
	p := newProvider(t)
	old, before := parse(t, login(t, p)["id_token"]), keySet(t, p, "/jwks")
	if err := p.RotateKeys(); err != nil {
		t.Fatal(err)
	}
	after := keySet(t, p, "/jwks")
	if len(verifies(old, after)) != 0 || slices.ContainsFunc(after, func(k jwk) bool { return k.Kid == before[0].Kid }) {
		t.Error("the old keys are there after a rotation")
	}
	if len(verifies(parse(t, login(t, p)["id_token"]), after)) != 1 {
		t.Error("the new keys do not sign after a rotation")
	}
	p.Change(func(k *op.Knobs) { k.RotateKeysBeforeSigning = true })
	last := parse(t, login(t, p)["id_token"])
	if len(verifies(last, after)) != 0 || len(verifies(last, keySet(t, p, "/jwks"))) != 1 {
		t.Error("the keys of before the signing verify it, or those after do not")
	}
}

func TestTwoProvidersShareNoKeyID(t *testing.T) {
	t.Parallel()
	if a, b := keySet(t, newProvider(t), "/jwks"), keySet(t, newProvider(t), "/jwks"); a[0].Kid == b[0].Kid {
		t.Error("two providers have one key id")
	}
	a, err := op.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	p, err := op.New(op.Config{Issuer: "https://op.test/", ClientID: "c", Keys: a})
	if err != nil {
		t.Fatal(err)
	}
	own, fixed := keySet(t, p, "/jwks"), keySet(t, newProvider(t), "/jwks")
	if bytes.Equal(thumbprint(t, own[0]), thumbprint(t, fixed[0])) {
		t.Error("a provider with its own keys has the one that everybody knows")
	}
}

func thumbprint(t *testing.T, k jwk) []byte {
	t.Helper()
	sum, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestTheKeySetMoves(t *testing.T) { // A1, discovery-jwks-uri-keys
	t.Parallel()
	p := newProvider(t)
	p.Change(func(k *op.Knobs) { k.JWKSPath = "/keys/x" })
	metadata := object(t, do(p, "GET", "/.well-known/openid-configuration", nil))
	if metadata["jwks_uri"] != "https://op.test/keys/x" || len(keySet(t, p, "/keys/x")) == 0 {
		t.Errorf("jwks_uri is %v", metadata["jwks_uri"])
	}
	if resp := do(p, "GET", "/jwks", nil); resp.StatusCode != 404 {
		t.Errorf("the old place: status %d, want 404", resp.StatusCode)
	}
}

func TestHeadersAndSignaturesAreEdited(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.Change(func(k *op.Knobs) {
		k.EditHeader = func(h map[string]any) { h["kid"], h["typ"] = "x", "y" }
		k.SignUserInfo = true
	})
	tokens := login(t, p)
	header := parse(t, tokens["id_token"]).Signatures[0].Header
	good := verifies(parse(t, tokens["id_token"]), keySet(t, p, "/jwks"))
	if header.KeyID != "x" || header.ExtraHeaders["typ"] != "y" || len(good) != 1 {
		t.Errorf("header %v, or the signature does not cover it", header)
	}
	resp := do(p, "GET", "/userinfo", nil, bearer(tokens["access_token"].(string)))
	body, _ := io.ReadAll(resp.Body)
	good = verifies(parse(t, string(body)), keySet(t, p, "/jwks"))
	if resp.Header.Get("Content-Type") != "application/jwt" || len(good) != 1 {
		t.Errorf("signed UserInfo: %s", resp.Header.Get("Content-Type"))
	}
	claims := claimsOf(t, string(body))
	if claims["iss"] != "https://op.test/" || claims["aud"] != "client" || claims["sub"] != "alice" {
		t.Errorf("signed UserInfo: %v", claims) // OpenID Connect Core 5.3.2
	}
	if parse(t, string(body)).Signatures[0].Header.KeyID == "x" {
		t.Error("EditHeader changes UserInfo too")
	}
	p.Change(func(k *op.Knobs) { k.EditHeader = func(h map[string]any) { h["alg"] = "none" } })
	if token := login(t, p)["id_token"].(string); !strings.HasSuffix(token, ".") || claimsOf(t, token)["sub"] != "alice" {
		t.Errorf("unsigned: %s", token)
	}
	p.Change(func(k *op.Knobs) { *k = op.Knobs{MangleIDToken: func(jwt string) string { return jwt + "x" }} })
	if token := login(t, p)["id_token"].(string); !strings.HasSuffix(token, "x") {
		t.Errorf("not mangled: %s", token)
	}
}

func TestClientAuthenticationIsHeldTo(t *testing.T) {
	t.Parallel()
	inForm := func(r *http.Request) {
		_ = r.ParseForm()
		r.PostForm.Set("client_id", "client")
		r.PostForm.Set("client_secret", secret)
	}
	tests := []struct {
		method string // of the provider
		auth   func(*http.Request)
		status int
	}{
		{"client_secret_basic", client, 200},
		{"client_secret_basic", inForm, 401},
		{"client_secret_post", inForm, 200},
		{"client_secret_post", client, 401},
		{"", client, 200},
		{"", inForm, 200},
	}
	for _, tt := range tests {
		p := newProvider(t)
		p.Change(func(k *op.Knobs) { k.ClientAuth = tt.method })
		resp := do(p, "POST", "/token", exchange(authorize(t, p, nil).Get("code"), nil), tt.auth)
		if resp.StatusCode != tt.status {
			t.Errorf("%q: status %d, want %d", tt.method, resp.StatusCode, tt.status)
		}
		metadata := object(t, do(p, "GET", "/.well-known/openid-configuration", nil))
		offered := metadata["token_endpoint_auth_methods_supported"].([]any)
		if tt.method != "" && (len(offered) != 1 || offered[0] != tt.method) {
			t.Errorf("%q: metadata offers %v", tt.method, offered)
		}
	}
}

func TestAPublicClientHasNoSecret(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		edit   func(url.Values)
		auth   func(*http.Request)
		status int
	}{
		{"client_id alone", set("client_id", "client"), func(*http.Request) {}, 200},
		{
			"a secret", func(v url.Values) { v.Set("client_id", "client"); v.Set("client_secret", "x") },
			func(*http.Request) {}, 401,
		},
		{
			"an empty secret", func(v url.Values) { v.Set("client_id", "client"); v.Set("client_secret", "") },
			func(*http.Request) {}, 401,
		},
		{"an empty secret in the header", nil, basic("client", ""), 401},
		{"nothing", nil, func(*http.Request) {}, 401},
	}
	for _, tt := range tests {
		p, err := op.New(op.Config{Issuer: "https://op.test/", ClientID: "client", RedirectURIs: []string{callback}})
		if err != nil {
			t.Fatal(err)
		}
		p.SetUser(op.Login{Subject: "alice"})
		resp := do(p, "POST", "/token", exchange(authorize(t, p, nil).Get("code"), tt.edit), tt.auth)
		if resp.StatusCode != tt.status {
			t.Errorf("%s: status %d, want %d", tt.name, resp.StatusCode, tt.status)
		}
	}
}

func TestClaimsFollowTheScopes(t *testing.T) { // A1, scope-userinfo-claims; OpenID Connect Core 5.4
	t.Parallel()
	p, err := op.New(op.Config{
		Issuer: "https://op.test/", ClientID: "client", ClientSecret: secret,
		RedirectURIs: []string{callback},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.SetUser(op.Login{Subject: "a", Claims: map[string]any{
		"name": "A", "email": "a@example.com", "phone_number": "1", "role": "x", "sub": "b",
	}})
	p.Change(func(k *op.Knobs) { k.ClaimsByScope = true })
	for scope, want := range map[string][]string{
		"openid":               {"role", "sub"},
		"openid email":         {"email", "role", "sub"},
		"openid profile phone": {"name", "phone_number", "role", "sub"},
	} {
		tokens := object(t, do(p, "POST", "/token", exchange(authorize(t, p, set("scope", scope)).Get("code"), nil), client))
		claims := object(t, do(p, "GET", "/userinfo", nil, bearer(tokens["access_token"].(string))))
		if got := slices.Sorted(maps.Keys(claims)); !slices.Equal(got, want) || claims["sub"] != "a" {
			t.Errorf("%s: UserInfo has %v, want %v", scope, claims, want)
		}
		if claims := claimsOf(t, tokens["id_token"]); claims["name"] != nil || claims["role"] != nil || claims["sub"] != "a" {
			t.Errorf("%s: the ID token has %v", scope, claims)
		}
	}
}

func TestResponsesLackWhatIsOmitted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		full := login(t, p)
		if full["expires_in"] != 3600.0 || full["refresh_token"] == nil || full["token_type"] != "Bearer" ||
			full["scope"] != "openid offline_access" {
			t.Errorf("by default: %v", full)
		}
		claims := claimsOf(t, full["id_token"])
		if claims["exp"].(float64)-claims["iat"].(float64) != 300 || claims["sid"] == nil {
			t.Errorf("by default: %v", claims)
		}
		p.Change(func(k *op.Knobs) {
			k.OmitExpiresIn, k.OmitRefreshToken, k.SID = true, true, "-"
			k.AccessTokenLifetime, k.IDTokenLifetime = time.Second, 7*time.Second
		})
		short := login(t, p)
		if short["expires_in"] != nil || short["refresh_token"] != nil {
			t.Errorf("omitted: %v", short)
		}
		claims = claimsOf(t, short["id_token"])
		if claims["exp"].(float64)-claims["iat"].(float64) != 7 || claims["sid"] != nil {
			t.Errorf("changed: %v", claims)
		}
		time.Sleep(time.Second)
		if resp := do(p, "GET", "/userinfo", nil, bearer(short["access_token"].(string))); resp.StatusCode != 401 {
			t.Errorf("after its lifetime an access token gets status %d, want 401", resp.StatusCode)
		}
		p.Change(func(k *op.Knobs) { k.SID = "one" })
		if claims := claimsOf(t, login(t, p)["id_token"]); claims["sid"] != "one" {
			t.Errorf("sid %v", claims["sid"])
		}
	})
}

func TestAnyHintWillDoIfNobodyChecks(t *testing.T) {
	t.Parallel()
	p, err := op.New(op.Config{
		Issuer: "http://127.0.0.1:1", ClientID: "client",
		PostLogoutURIs: []string{"http://127.0.0.1:2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	q := url.Values{"id_token_hint": {"a.b.c"}, "post_logout_redirect_uri": {"http://127.0.0.1:2"}}
	if resp := do(p, "GET", "/end_session?"+q.Encode(), nil); resp.StatusCode != 400 {
		t.Errorf("a foreign hint names the client: status %d, want 400", resp.StatusCode)
	}
	q.Set("client_id", "client")
	if resp := do(p, "GET", "/end_session?"+q.Encode(), nil); resp.StatusCode != 302 {
		t.Errorf("with the client's id: status %d, want 302", resp.StatusCode)
	}
}

func TestFormsAreAnsweredWithSeeOther(t *testing.T) { // RFC 9700 4.12
	t.Parallel()
	p := newProvider(t)
	form := url.Values{"password": {"x"}}
	if resp := do(p, "POST", "/authorize?"+authorization(nil).Encode(), form); resp.StatusCode != 303 {
		t.Errorf("authorize: status %d, want 303", resp.StatusCode)
	}
	form = url.Values{"client_id": {"client"}, "post_logout_redirect_uri": {"https://app.test"}}
	if resp := do(p, "POST", "/end_session", form); resp.StatusCode != 303 {
		t.Errorf("end_session: status %d, want 303", resp.StatusCode)
	}
}

func TestAFailureWithoutStatusIsNoAnswer(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.Fail("jwks", 0, "", 1)
	defer func() {
		if recover() != http.ErrAbortHandler {
			t.Error("the connection is not closed")
		}
	}()
	p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "https://op.test/jwks", nil))
}

func TestCallbacksAreEdited(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.Change(func(k *op.Knobs) {
		k.AuthorizeError = "temporarily_unavailable"
		k.EditCallback = func(q url.Values) { q.Set("error_description", "x"); q.Add("state", "t") }
	})
	q := authorize(t, p, nil)
	if q.Get("error") != "temporarily_unavailable" || q.Get("error_description") != "x" || len(q["state"]) != 2 ||
		q.Has("code") {
		t.Errorf("got %v", q)
	}
	if q := authorize(t, newProvider(t), del("state")); q.Has("state") {
		t.Errorf("a state that nobody sent: %v", q)
	}
}

func TestAnIssuerIsAURL(t *testing.T) {
	t.Parallel()
	for _, issuer := range []string{"", "op.test", "https://", "::"} {
		if _, err := op.New(op.Config{Issuer: issuer, ClientID: "c"}); err == nil {
			t.Errorf("%q is accepted", issuer)
		}
	}
}
