package idp_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth/internal/idp"
)

func TestVerifiedTokenIsReturned(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		now := time.Now()
		raw := rs256(claims(object{
			"sid": "s 1", "auth_time": now.Unix() - 60, "session_expiry": now.Unix() + 3600, "email": "a@example.com",
		}))
		got, err := newFakeOP().client().VerifyIDToken(t.Context(), raw, expect())
		if err != nil {
			t.Fatal(err)
		}
		if got.Issuer != issuer || got.Subject != "alice" || got.SID != "s 1" {
			t.Errorf("got %+v", got)
		}
		if !got.IssuedAt.Equal(now) || !got.AuthTime.Equal(now.Add(-time.Minute)) ||
			!got.SessionExpiry.Equal(now.Add(time.Hour)) {
			t.Errorf("times: got %+v", got)
		}
		var c struct{ Email string }
		if err := json.Unmarshal(got.Payload, &c); err != nil || c.Email != "a@example.com" {
			t.Errorf("payload %s: %v", got.Payload, err)
		}
	})
}

// claimCase is a token signed by the right key. Want is the check that refuses it; none means that it is accepted.
type claimCase struct {
	name   string
	edit   object // times given as time.Duration are relative to now
	want   string
	expect func(*idp.Expect)
	config func(*idp.Config)
}

func TestClaims(t *testing.T) {
	trust := func(c *idp.Config) { c.TrustedAudience = func(a string) bool { return a == "api" } }
	asked := func(age time.Duration) func(*idp.Expect) {
		return func(e *idp.Expect) { e.MaxAge, e.HasMaxAge = age, true }
	}
	acr := func(e *idp.Expect) { e.ACR = []string{"mfa", "phr"} }
	org := func(name string) func(*idp.Expect) { return func(e *idp.Expect) { e.Organization = name } }
	google := func(c *idp.Config) { c.Issuer = "https://accounts.google.com" }

	for _, c := range []claimCase{
		{name: "good"},
		{name: "claims of no concern", edit: object{"amr": []string{"pwd"}, "Email": 7, "c_hash": "x", "jti": "1"}},
		{name: "nulls are absent", edit: object{"azp": json.RawMessage("null"), "nbf": json.RawMessage("null")}},

		// OIDC-12
		{name: "iss of the suite", edit: object{"iss": issuer + "1"}, want: "issuer"},
		{name: "iss without its slash", edit: object{"iss": strings.TrimSuffix(issuer, "/")}, want: "issuer"},
		{name: "iss in capitals", edit: object{"iss": "https://OP.example/"}, want: "issuer"},
		{name: "iss with the default port", edit: object{"iss": "https://op.example:443/"}, want: "issuer"},
		{name: "iss missing", edit: object{"iss": nil}, want: "issuer"},
		{name: "iss not a string", edit: object{"iss": []string{issuer}}, want: "issuer"},
		{name: "iss in other letters", edit: object{"iss": nil, "ISS": issuer}, want: "issuer"},
		{name: "another iss in other letters", edit: object{"ISS": "https://evil.example/"}},
		{
			name: "Google's iss without scheme", edit: object{"iss": "accounts.google.com"}, config: google, // GAP-04
			want: "issuer",
		},

		// OIDC-13
		{name: "aud array", edit: object{"aud": []string{clientID}}},
		{name: "aud of the suite", edit: object{"aud": clientID + "1"}, want: "audience"},
		{name: "aud missing", edit: object{"aud": nil}, want: "audience"},
		{name: "aud empty string", edit: object{"aud": ""}, want: "audience"},
		{name: "aud empty array", edit: object{"aud": []string{}}, want: "audience"},
		{name: "aud number", edit: object{"aud": 1}, want: "audience"},
		{name: "aud with a number", edit: object{"aud": []any{clientID, 1}}, want: "audience"},
		{name: "aud with a null", edit: object{"aud": []any{clientID, nil}}, want: "audience"},
		{name: "aud object", edit: object{"aud": object{clientID: clientID}}, want: "audience"},
		{name: "aud with a stranger", edit: object{"aud": []string{clientID, "x"}}, want: "audience"},
		{
			name: "aud with a stranger, azp ours", edit: object{"aud": []string{clientID, "x"}, "azp": clientID},
			want: "audience",
		},
		{name: "aud with a trusted one", edit: object{"aud": []string{"api", clientID}}, config: trust},
		{name: "aud trusted alone", edit: object{"aud": "api"}, config: trust, want: "audience"},
		{
			name: "aud with a trusted one and a stranger", edit: object{"aud": []string{"api", clientID, "x"}},
			config: trust, want: "audience",
		},
		{name: "aud in other letters", edit: object{"aud": "CLIENT"}, want: "audience"},

		// OIDC-14
		{name: "azp ours", edit: object{"azp": clientID}},
		{name: "azp another's", edit: object{"azp": "x"}, want: "azp"},
		{name: "azp empty", edit: object{"azp": ""}, want: "azp"},
		{name: "azp array", edit: object{"azp": []string{clientID}}, want: "azp"},
		{
			name: "azp trusted but not ours", edit: object{"aud": []string{"api", clientID}, "azp": "api"},
			config: trust, want: "azp",
		},

		// OIDC-18, lesson 31
		{name: "exp a second past", edit: object{"exp": -time.Second}},
		{name: "exp at the end of the leeway", edit: object{"exp": -29 * time.Second}},
		{name: "exp past the leeway", edit: object{"exp": -30 * time.Second}, want: "expired"},
		{name: "exp missing", edit: object{"exp": nil}, want: "expired"},
		{name: "exp null", edit: object{"exp": json.RawMessage("null")}, want: "expired"},
		{name: "exp string", edit: object{"exp": "4102444800"}, want: "expired"},
		{name: "exp true", edit: object{"exp": true}, want: "expired"},
		{name: "exp zero", edit: object{"exp": 0}, want: "expired"},
		{name: "exp negative", edit: object{"exp": -1}, want: "expired"},
		{name: "exp very negative", edit: object{"exp": json.RawMessage("-1e308")}, want: "expired"},
		{name: "exp fraction", edit: object{"exp": json.RawMessage("4102444800.75")}},
		{name: "exp in e-notation", edit: object{"exp": json.RawMessage("4.1024448e9")}},
		{name: "exp of the next age", edit: object{"exp": json.RawMessage("9223372036854775807")}},
		{name: "exp beyond int64", edit: object{"exp": json.RawMessage("92233720368547758070")}},
		{name: "exp beyond all", edit: object{"exp": json.RawMessage("1e308")}},
		{name: "exp beyond float64", edit: object{"exp": json.RawMessage("1e999")}, want: "malformed"},

		// OIDC-19
		{name: "iat backdated", edit: object{"iat": -5 * time.Minute}},
		{name: "iat at the bound", edit: object{"iat": -10 * time.Minute}},
		{name: "iat old", edit: object{"iat": -10*time.Minute - time.Second}, want: "issued_at"},
		{name: "iat ahead within the leeway", edit: object{"iat": 30 * time.Second}},
		{name: "iat ahead", edit: object{"iat": 31 * time.Second}, want: "issued_at"},
		{name: "iat missing", edit: object{"iat": nil}, want: "issued_at"}, // GAP-01
		{name: "iat string", edit: object{"iat": "946684800"}, want: "issued_at"},
		{name: "iat beyond all", edit: object{"iat": json.RawMessage("1e308")}, want: "issued_at"},
		{name: "iat in other letters", edit: object{"iat": nil, "IAT": 0 * time.Second}, want: "issued_at"},

		// OIDC-20, GAP-03
		{name: "nbf ahead within the leeway", edit: object{"nbf": 30 * time.Second}},
		{name: "nbf ahead", edit: object{"nbf": 31 * time.Second}, want: "not_before"},
		{name: "nbf beyond all", edit: object{"nbf": json.RawMessage("1e308")}, want: "not_before"},
		{name: "nbf string", edit: object{"nbf": "1"}, want: "not_before"},

		// OIDC-21
		{name: "nonce of the suite", edit: object{"nonce": nonce + "1"}, want: "nonce"},
		{name: "nonce missing", edit: object{"nonce": nil}, want: "nonce"},
		{name: "nonce empty", edit: object{"nonce": ""}, want: "nonce"},
		{name: "nonce array", edit: object{"nonce": []string{nonce}}, want: "nonce"},
		{name: "nonce in other letters", edit: object{"nonce": nil, "Nonce": nonce}, want: "nonce"},
		{
			name: "no nonce expected, none there", edit: object{"nonce": nil},
			expect: func(e *idp.Expect) { e.Nonce = "" }, want: "nonce",
		},
		{name: "a claim to switch it off", edit: object{"nonce": nil, "nonce_supported": false}, want: "nonce"},

		// OIDC-22
		{name: "sub of 255", edit: object{"sub": strings.Repeat("a", 255)}},
		{name: "sub with a space and signs", edit: object{"sub": "auth0|a b"}},
		{name: "sub of 256", edit: object{"sub": strings.Repeat("a", 256)}, want: "subject"},
		{name: "sub missing", edit: object{"sub": nil}, want: "subject"}, // GAP-01
		{name: "sub empty", edit: object{"sub": ""}, want: "subject"},
		{name: "sub number", edit: object{"sub": 7}, want: "subject"},
		{name: "sub not ASCII", edit: object{"sub": "al\u00efce"}, want: "subject"},
		{name: "sub with a control character", edit: object{"sub": "alice\x00"}, want: "subject"},
		{name: "sub with DEL", edit: object{"sub": "alice\x7f"}, want: "subject"},
		{name: "sub in other letters", edit: object{"sub": nil, "Sub": "alice"}, want: "subject"},

		// OIDC-23
		{name: "auth_time within max_age", edit: object{"auth_time": -60 * time.Second}, expect: asked(time.Minute)},
		{name: "auth_time within the leeway", edit: object{"auth_time": -90 * time.Second}, expect: asked(time.Minute)},
		{
			name: "auth_time too old", edit: object{"auth_time": -91 * time.Second}, expect: asked(time.Minute),
			want: "auth_time",
		},
		{name: "auth_time missing", expect: asked(time.Hour), want: "auth_time"},
		{name: "auth_time missing, largest max_age", expect: asked(1<<63 - 1), want: "auth_time"},
		{
			name: "auth_time ahead", edit: object{"auth_time": 31 * time.Second}, expect: asked(time.Hour),
			want: "auth_time",
		},
		{name: "auth_time just now, max_age 0", edit: object{"auth_time": 0 * time.Second}, expect: asked(0)},
		{
			name: "auth_time old, max_age 0", edit: object{"auth_time": -31 * time.Second}, expect: asked(0),
			want: "auth_time",
		},
		{name: "auth_time zero, largest max_age", edit: object{"auth_time": 0}, expect: asked(1<<63 - 1)},
		{name: "auth_time string", edit: object{"auth_time": "946684800"}, want: "malformed"},
		{
			name: "auth_time in other letters", edit: object{"Auth_Time": 0 * time.Second},
			expect: asked(time.Hour), want: "auth_time",
		},

		// OIDC-24
		{name: "acr the second asked for", edit: object{"acr": "phr"}, expect: acr},
		{name: "acr another", edit: object{"acr": "0"}, expect: acr, want: "acr"},
		{name: "acr missing", expect: acr, want: "acr"},
		{name: "acr array", edit: object{"acr": []string{"mfa"}}, expect: acr, want: "acr"},
		{name: "acr not asked for", edit: object{"acr": "0"}},
		{
			name: "acr empty, and empty asked for", edit: object{"acr": ""},
			expect: func(e *idp.Expect) { e.ACR = []string{""} }, want: "acr",
		},

		// auth0.md: organizations
		{name: "org_id", edit: object{"org_id": "org_a"}, expect: org("org_a")},
		{name: "org_id another", edit: object{"org_id": "org_b"}, expect: org("org_a"), want: "organization"},
		{name: "org_id in other letters", edit: object{"org_id": "org_A"}, expect: org("org_a"), want: "organization"},
		{name: "org_id missing", edit: object{"org_name": "org_a"}, expect: org("org_a"), want: "organization"},
		{name: "org_name", edit: object{"org_id": "org_x", "org_name": "acme"}, expect: org("ACME")},
		{name: "org_name another", edit: object{"org_name": "evil"}, expect: org("acme"), want: "organization"},
		{name: "org_name missing", edit: object{"org_id": "acme"}, expect: org("acme"), want: "organization"},

		// OIDC-31: what go-oidc could be made to fetch
		{name: "distributed claims", edit: object{
			"_claim_names":   object{"groups": "src"},
			"_claim_sources": object{"src": object{"endpoint": "https://evil.example/claims", "access_token": "t"}},
		}},

		{name: "sid number", edit: object{"sid": 7}, want: "malformed"},
		{name: "session_expiry string", edit: object{"session_expiry": "1"}, want: "malformed"},
	} {
		bubble(t, c.name, func(t *testing.T) { c.run(t) })
	}
}

func (c claimCase) run(t *testing.T) {
	op := newFakeOP()
	cfg := op.config(c.config)
	if cfg.Issuer != issuer {
		op.set("/.well-known/openid-configuration", says(metadata(object{"issuer": cfg.Issuer})))
	}
	edit := object{}
	for name, v := range c.edit {
		if d, ok := v.(time.Duration); ok {
			v = time.Now().Add(d).Unix()
		}
		edit[name] = v
	}
	e := expect()
	if c.expect != nil {
		c.expect(&e)
	}
	_, err := idp.New(cfg).VerifyIDToken(t.Context(), rs256(claims(edit)), e)
	if got := check(err); got != c.want {
		t.Errorf("got %q, want %q (%v)", got, c.want, err)
	}
	if op.count("/claims") != 0 {
		t.Error("a claim source was asked")
	}
	refused, _ := errors.AsType[*idp.TokenError](err)
	if denied := c.want == "auth_time" || c.want == "acr" || c.want == "organization"; refused != nil &&
		refused.Denied() != denied {
		t.Errorf("Denied is %v", refused.Denied())
	}
}

func TestClockRefusalsNameTheSkew(t *testing.T) {
	for name, edit := range map[string]func(now int64) object{
		"1m0s ago":   func(now int64) object { return object{"exp": now - 60} },
		"2m0s ahead": func(now int64) object { return object{"iat": now + 120} },
		"5m0s ahead": func(now int64) object { return object{"nbf": now + 300} },
		"11m0s old":  func(now int64) object { return object{"iat": now - 660} },
	} {
		bubble(t, name, func(t *testing.T) {
			raw := rs256(claims(edit(time.Now().Unix())))
			_, err := newFakeOP().client().VerifyIDToken(t.Context(), raw, expect())
			wantError(t, err, name, "clock")
		})
	}
}

func TestMissingTimesAreCalledMissing(t *testing.T) {
	for _, claim := range []string{"exp", "iat"} {
		bubble(t, claim, func(t *testing.T) {
			_, err := newFakeOP().client().VerifyIDToken(t.Context(), rs256(claims(object{claim: nil})), expect())
			wantError(t, err, claim+" is missing")
		})
	}
}

// OIDC-25, THR-35
func TestAccessTokenHash(t *testing.T) {
	const (
		// Left halves of the hashes of the access token, made with openssl.
		sha256Half = "4kQubdrIi4AqW80-3pLO5g"
		sha512Half = "t5nVQjz2wVKpDHK23pcvPEKGtcF3jiaDkt7JMt7iKag"
	)
	secret := []byte(clientSecret)
	for _, c := range []struct {
		name, alg, hash string
		key             any
		want            string
	}{
		{"RS256", "RS256", sha256Half, rsaKey(), ""},
		{"ES256", "ES256", sha256Half, ecKey(), ""},
		{"PS256", "PS256", sha256Half, rsaKey(), ""},
		{"HS256", "HS256", sha256Half, secret, ""},
		{"EdDSA", "EdDSA", sha512Half, edKey(), ""},
		{"EdDSA by another hash", "EdDSA", sha256Half, edKey(), "at_hash"},
		{"RS256 by another hash", "RS256", sha512Half, rsaKey(), "at_hash"},
		{"wrong", "RS256", strings.ToLower(sha256Half), rsaKey(), "at_hash"},
		{"empty", "RS256", "", rsaKey(), "at_hash"},
		{"HS256, wrong", "HS256", "x", secret, "at_hash"},
		{"EdDSA, wrong", "EdDSA", "x", edKey(), "at_hash"},
	} {
		bubble(t, c.name, func(t *testing.T) {
			op := newFakeOP()
			op.set("/jwks", says(jwks(
				jwk("k", &rsaKey().PublicKey), jwk("k", &ecKey().PublicKey), jwk("k", edKey().Public()),
			)))
			p := idp.New(op.config(func(cfg *idp.Config) { cfg.SigningAlgs = []string{c.alg} }))
			raw := sign(object{"alg": c.alg, "kid": "k"}, claims(object{"at_hash": c.hash}), c.key)
			_, err := p.VerifyIDToken(t.Context(), raw, expect())
			if got := check(err); got != c.want {
				t.Errorf("got %q, want %q (%v)", got, c.want, err)
			}
		})
	}
}

func TestAccessTokenHashOfUnknownAlgorithmFailsClosed(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"", "none", "RS1", "ML-DSA-65", "ES256K"} {
		if h, ok := idp.HalfHash(alg, accessToken); ok || h != "" {
			t.Errorf("%q: got %q", alg, h)
		}
	}
}

// style.md 1.3: an outage must not look like a forgery, nor a caller that went away like either.
func TestKeySetFailuresAreNotForgeries(t *testing.T) {
	bubble(t, "html", func(t *testing.T) {
		op := newFakeOP()
		op.set("/jwks", says("<html>"))
		_, err := op.client().VerifyIDToken(t.Context(), rs256(claims(nil)), expect())
		wantError(t, err, "key set", "JSON")
		if _, ok := errors.AsType[*idp.TokenError](err); ok {
			t.Errorf("called a wrong token: %v", err)
		}
	})
	bubble(t, "cancelled", func(t *testing.T) {
		op := newFakeOP()
		p := op.client()
		if _, err := p.Metadata(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		op.set("/jwks", func(w http.ResponseWriter, r *http.Request) {
			cancel()
			hangs(w, r)
		})
		_, err := p.VerifyIDToken(ctx, rs256(claims(nil)), expect())
		if !errors.Is(err, context.Canceled) || errors.Is(err, idp.ErrUnreachable) {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Minute) // the fetch itself goes on for others
	})
}
