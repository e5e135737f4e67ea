package idp_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/idp"
)

// OIDC-11, OIDC-15, OIDC-16, OIDC-30, THR-30 to THR-34: everything about a token but its claims.
func TestTokenForm(t *testing.T) {
	rs := func(header object) func() string {
		return func() string {
			return sign(edited(object{"alg": "RS256", "kid": "rsa"}, header), claims(nil), rsaKey())
		}
	}
	text := func(payload string) func() string { return func() string { return rs256(payload) } }
	part := func(i int, s string) func() string {
		return func() string {
			parts := strings.Split(rs256(claims(nil)), ".")
			parts[i] = s
			return strings.Join(parts, ".")
		}
	}
	for _, c := range []struct {
		name string
		raw  func() string
		want string
	}{
		{"good", rs(nil), ""},
		{"typ JWT", rs(object{"typ": "JWT"}), ""},
		{"typ of a mistaken case", rs(object{"typ": "jwt"}), ""},
		{"cty of no concern", rs(object{"cty": "json"}), ""},

		// OIDC-11
		{"none", func() string { return "" }, "missing"},
		{"too long", func() string { return rs256(claims(object{"x": strings.Repeat("a", 64<<10)})) }, "size"},
		{"many dots", func() string { return strings.Repeat(".", 60_000) }, "malformed"},
		{"JWE", func() string { return b64([]byte(`{"alg":"RSA-OAEP","enc":"A128GCM"}`)) + ".a.b.c.d" }, "malformed"},
		{"two parts", func() string { return "a.b" }, "malformed"},
		{"JSON serialization", func() string {
			p := strings.Split(rs256(claims(nil)), ".")
			return `{"payload":"` + p[1] + `","signatures":[{"protected":"` + p[0] + `","signature":"` + p[2] + `"}]}`
		}, "malformed"},
		{"JSON serialization with two dots", func() string {
			p := strings.Split(rs256(claims(nil)), ".")
			return `{"payload":"` + p[1] + `","protected":"` + p[0] + `","signature":"` + p[2] + `","x":".."}`
		}, "malformed"},
		{"white space", func() string { return rs256(claims(nil)) + "\n" }, "malformed"},
		{"header not base64url", part(0, "e30="), "malformed"},
		{"header not JSON", part(0, b64([]byte("null"))), "malformed"},
		{"header empty", part(0, ""), "malformed"},
		{"payload not base64url", part(1, "*"), "malformed"},
		{"payload array", text("[]"), "malformed"},
		{"payload null", text("null"), "malformed"},
		{"payload empty", text(""), "malformed"},
		{"payload with a tail", text(`{} {}`), "malformed"},
		{"payload deep", text(`{"a":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`), "malformed"},

		// THR-32
		{"iss twice", func() string {
			return rs256(strings.Replace(rawClaims(), `{`, `{"iss":"https://evil.example/",`, 1))
		}, "duplicate"},
		{"iss twice, once escaped", func() string {
			return rs256(strings.Replace(rawClaims(), `{`, `{"\u0069ss":"https://evil.example/",`, 1))
		}, "duplicate"},
		{"alg twice", part(0, b64([]byte(`{"alg":"none","alg":"RS256","kid":"rsa"}`))), "duplicate"},

		// OIDC-16
		{"alg none", func() string { return sign(object{"alg": "none"}, claims(nil), nil) }, "alg"},
		{"alg None", func() string { return sign(object{"alg": "None"}, claims(nil), nil) }, "alg"},
		{"alg NONE", func() string { return sign(object{"alg": "NONE"}, claims(nil), nil) }, "alg"},
		{"alg missing", rs(object{"alg": nil}), "alg"},
		{"alg empty", func() string { return sign(object{"alg": ""}, claims(nil), nil) }, "alg"},
		{"no signature", part(2, ""), "signature"},
		{"signature of another token", part(2, strings.Split(rs256(object{}), ".")[2]), "signature"},
		{"claims of another token", part(1, b64([]byte(`{"sub":"mallory"}`))), "signature"},

		// OIDC-15
		{ // GAP-02
			"ES256, RS256 pinned",
			func() string { return sign(object{"alg": "ES256", "kid": "ec"}, claims(nil), ecKey()) }, "alg",
		},
		{
			"PS256, RS256 pinned",
			func() string { return sign(object{"alg": "PS256", "kid": "rsa"}, claims(nil), rsaKey()) }, "alg",
		},
		{"RSA key as HMAC secret", func() string {
			return sign(object{"alg": "HS256", "kid": "rsa"}, claims(nil), rsaKey().N.Bytes())
		}, "alg"},
		{"a key of its own", func() string {
			return sign(object{"alg": "RS256", "jwk": jwk("", &otherRSA().PublicKey)}, claims(nil), otherRSA())
		}, "signature"},
		{"a key of its own under a known kid", func() string {
			h := object{"alg": "RS256", "kid": "rsa", "jwk": jwk("rsa", &otherRSA().PublicKey)}
			return sign(h, claims(nil), otherRSA())
		}, "signature"},
		{"jku", func() string {
			h := object{"alg": "RS256", "kid": "x", "jku": "https://evil.example/claims"}
			return sign(h, claims(nil), otherRSA())
		}, "signature"},
		{"x5u, signed by the right key", rs(object{"x5u": "https://evil.example/claims"}), ""},
		{"crit", rs(object{"crit": []string{"exp"}, "exp": 1}), "crit"},        // THR-31
		{"crit empty", rs(object{"crit": []string{}}), "crit"},                 // THR-31
		{"crit b64", rs(object{"crit": []string{"b64"}, "b64": true}), "crit"}, // THR-31
		{"b64", rs(object{"b64": false}), "crit"},                              // THR-31
		{"kid not a string", rs(object{"kid": 7}), "malformed"},

		// OIDC-30
		{"typ at+jwt", rs(object{"typ": "at+jwt"}), "type"},
		{"typ in capitals", rs(object{"typ": "AT+JWT"}), "type"},
		{"typ application/at+jwt", rs(object{"typ": "application/at+jwt"}), "type"},
		{"typ logout+jwt", rs(object{"typ": "logout+jwt"}), "type"},
		{"typ dpop+jwt", rs(object{"typ": "dpop+jwt"}), "type"},
		{"typ secevent+jwt", rs(object{"typ": "secevent+jwt"}), "type"},
		{"typ not a string", rs(object{"typ": 7}), "malformed"},
		{"a logout token without typ", func() string { // THR-34
			event := object{"http://schemas.openid.net/event/backchannel-logout": object{}}
			return rs256(claims(object{"nonce": nil, "events": event, "jti": "1", "sid": "s"}))
		}, "nonce"},
		{"an access token without typ", func() string { // THR-34
			return rs256(claims(object{"nonce": nil, "aud": "api", "client_id": clientID}))
		}, "audience"},
	} {
		bubble(t, c.name, func(t *testing.T) {
			op := newFakeOP()
			op.set("/jwks", says(jwks(jwk("rsa", &rsaKey().PublicKey), jwk("ec", &ecKey().PublicKey))))
			_, err := op.client().VerifyIDToken(t.Context(), c.raw(), expect())
			if got := check(err); got != c.want {
				t.Errorf("got %q, want %q (%v)", got, c.want, err)
			}
			if op.count("/claims") != 0 {
				t.Error("an address in the header was asked")
			}
		})
	}
}

func rawClaims() string {
	b, _ := json.Marshal(claims(nil))
	return string(b)
}

// OIDC-15, OIDC-17
func TestSigningAlgorithms(t *testing.T) {
	secret := []byte(clientSecret)
	algs := func(names ...string) func(*idp.Config) { return func(c *idp.Config) { c.SigningAlgs = names } }
	for _, c := range []struct {
		name   string
		config func(*idp.Config)
		alg    string
		key    any
		edit   object
		want   string
	}{
		{"ES256", algs("ES256"), "ES256", ecKey(), nil, ""},
		{"PS256", algs("PS256"), "PS256", rsaKey(), nil, ""},
		{"EdDSA", algs("EdDSA"), "EdDSA", edKey(), nil, ""},
		{"one of two", algs("ES256", "RS256"), "RS256", rsaKey(), nil, ""},
		{"not one of two", algs("ES256", "RS256"), "PS256", rsaKey(), nil, "alg"},
		{"RS256 when ES256 is pinned", algs("ES256"), "RS256", rsaKey(), nil, "alg"},
		{"HS256", algs("HS256"), "HS256", secret, nil, ""},
		{"HS256, another secret", algs("HS256"), "HS256", []byte(strings.ToUpper(clientSecret)), nil, "signature"},
		{
			"HS256 with RS256 beside it, public key as secret", algs("RS256", "HS256"), "HS256", rsaKey().N.Bytes(),
			nil, "signature",
		},
		{"HS256 for several", algs("HS256"), "HS256", secret, object{"aud": []string{clientID, "api"}}, "audience"},
		{"RS256 for several", algs("RS256"), "RS256", rsaKey(), object{"aud": []string{clientID, "api"}}, ""},
		{"HS256 unasked", nil, "HS256", secret, nil, "alg"},
	} {
		bubble(t, c.name, func(t *testing.T) {
			op := newFakeOP()
			op.set("/jwks", says(jwks(
				jwk("k", &rsaKey().PublicKey), jwk("k", &ecKey().PublicKey), jwk("k", edKey().Public()),
			)))
			cfg := op.config(c.config)
			cfg.TrustedAudience = func(a string) bool { return a == "api" }
			raw := sign(object{"alg": c.alg, "kid": "k"}, claims(c.edit), c.key)
			_, err := idp.New(cfg).VerifyIDToken(t.Context(), raw, expect())
			if got := check(err); got != c.want {
				t.Errorf("got %q, want %q (%v)", got, c.want, err)
			}
			if c.alg == "HS256" && op.count("/jwks") != 0 {
				t.Error("the key set was fetched for a MAC")
			}
		})
	}
}

// Whatever is sent, only the payload that the key has signed comes back, and only for the client it was signed for.
func FuzzVerifyIDToken(f *testing.F) {
	good := object{
		"iss": issuer, "sub": "alice", "aud": clientID, "nonce": nonce, "iat": 1700000000, "exp": 4102444800,
	}
	h := object{"alg": "EdDSA", "kid": "ed"}
	raw := sign(h, good, edKey())
	parts := strings.Split(raw, ".")
	f.Add(raw)
	f.Add(parts[0] + "." + parts[1] + ".")
	f.Add(b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".")
	f.Add(b64([]byte(`{"alg":"HS256","kid":"ed"}`)) + "." + parts[1] + "." + parts[2])
	f.Add(parts[0] + "." + b64([]byte(`{"sub":"mallory"}`)) + "." + parts[2])
	f.Add(sign(with(h, "jwk", jwk("", strangeKey.Public())), good, strangeKey))
	f.Add(`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`)
	op := newFakeOP()
	op.set("/jwks", says(jwks(jwk("ed", edKey().Public()))))
	// The workers of a fuzz run are other processes, whose clocks say another second.
	p := idp.New(op.config(func(c *idp.Config) {
		edOnly(c)
		c.MaxIDTokenAge = -1
	}))
	f.Fuzz(func(t *testing.T, token string) {
		got, err := p.VerifyIDToken(t.Context(), token, expect())
		if err == nil && string(got.Payload) != string(must(json.Marshal(good))) {
			t.Errorf("accepted %q", token)
		}
	})
}

// The same with claims that are signed: what comes back is what was asked for.
func FuzzClaims(f *testing.F) {
	huge := json.RawMessage("1e308")
	for _, edit := range []object{nil, {"aud": []any{clientID}}, {"ISS": 1}, {"exp": huge}, {"nonce": nil}} {
		f.Add(must(json.Marshal(claims(edit))))
	}
	f.Add([]byte(`{"iss":"https://op.example/","iss":"x"}`))
	op := newFakeOP()
	op.set("/jwks", says(jwks(jwk("ed", edKey().Public()))))
	p := idp.New(op.config(edOnly))
	f.Fuzz(func(t *testing.T, payload []byte) {
		raw := sign(object{"alg": "EdDSA", "kid": "ed"}, string(payload), edKey())
		got, err := p.VerifyIDToken(t.Context(), raw, expect())
		if err != nil {
			return
		}
		var c map[string]any
		if err := json.Unmarshal(got.Payload, &c); err != nil {
			t.Fatalf("payload %q: %v", got.Payload, err)
		}
		if c["iss"] != issuer || c["nonce"] != nonce || c["sub"] != got.Subject || got.Subject == "" {
			t.Errorf("accepted %q", payload)
		}
	})
}
