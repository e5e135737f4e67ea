package idp_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth/internal/idp"
)

const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

var null = json.RawMessage("null")

// logoutClaims returns those of a good logout token, changed by edit: nil removes a claim, and times given as
// time.Duration are relative to now.
func logoutClaims(edit object) object {
	c := edited(claims(object{
		"nonce": nil, "exp": 2 * time.Minute, "jti": "jti-canary", "sid": "sid-canary {1}; 2",
		"events": object{logoutEvent: object{}},
	}), edit)
	for name, v := range c {
		if d, ok := v.(time.Duration); ok {
			c[name] = time.Now().Add(d).Unix()
		}
	}
	return c
}

// logoutToken signs with the provider's first key. Header nil is that of a good logout token, and an edit like claims.
func logoutToken(header, claims object) string {
	h := edited(object{"alg": "RS256", "kid": "rsa", "typ": "logout+jwt"}, header)
	return sign(h, logoutClaims(claims), rsaKey())
}

// verifyLogout returns what check does of an error, and fails the test if the outcome is not one or the other, or if
// the error is about an ID token or repeats what somebody has sent us to be kept in a log.
func verifyLogout(t *testing.T, p *idp.Provider, raw string, e idp.ExpectLogout) (*idp.LogoutToken, string) {
	t.Helper()
	got, err := p.VerifyLogoutToken(t.Context(), raw, e)
	if (got == nil) == (err == nil) {
		t.Errorf("both or neither: %+v, %v", got, err)
	}
	if err != nil && (strings.Contains(err.Error(), "id token") || strings.Contains(err.Error(), "canary")) {
		t.Errorf("the error says %q", err)
	}
	return got, check(err)
}

func TestVerifiedLogoutTokenIsReturned(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		now := time.Now()
		p := newFakeOP().client()
		got, err := p.VerifyLogoutToken(t.Context(), logoutToken(nil, object{"iat": -time.Second}), idp.ExpectLogout{})
		if err != nil {
			t.Fatal(err)
		}
		want := idp.LogoutToken{
			Issuer: issuer, Subject: "alice", SID: "sid-canary {1}; 2", ID: "jti-canary",
			IssuedAt: now.Add(-time.Second), Expires: now.Add(2*time.Minute + 30*time.Second),
		}
		if *got != want {
			t.Errorf("got %+v, want %+v", *got, want)
		}
	})
}

// logoutCase is a token that differs from a good one in one thing, by requirement. Want is the check that refuses it;
// none means that it is accepted.
type logoutCase struct {
	name           string
	header, claims object
	want           string
	expect         idp.ExpectLogout
	config         func(*idp.Config)
	raw            func() string // instead of header and claims
}

var logoutCases = map[string][]logoutCase{
	"BCL-03": {
		{name: "none", raw: func() string { return "" }, want: "missing"},
		{name: "long", claims: object{"x": strings.Repeat("a", 8<<10)}},
		{name: "too long", claims: object{"x": strings.Repeat("a", 16<<10)}, want: "size"},
	},
	"BCL-04": { // encryption cannot be negotiated
		{
			name: "encrypted", want: "malformed",
			raw: func() string { return b64([]byte(`{"alg":"RSA-OAEP","enc":"A128GCM"}`)) + ".a.b.c.d" },
		},
	},
	"BCL-05": {
		{name: "good"},
		{name: "no kid", header: object{"kid": nil}},
		{name: "unsigned, as of the suite", header: object{"alg": "none"}, want: "alg"},
		{name: "None", header: object{"alg": "None"}, want: "alg"},
		{name: "no alg", header: object{"alg": nil}, want: "alg"},
		{
			name: "ES256 by a published key, as of the suite", want: "alg",
			raw: func() string { return sign(object{"alg": "ES256", "kid": "ec"}, logoutClaims(nil), ecKey()) },
		},
		{
			name: "ES256 where it is registered", config: func(c *idp.Config) { c.SigningAlgs = []string{"ES256"} },
			raw: func() string { return sign(object{"alg": "ES256", "kid": "ec"}, logoutClaims(nil), ecKey()) },
		},
		{name: "RS256 where ES256 is", config: func(c *idp.Config) { c.SigningAlgs = []string{"ES256"} }, want: "alg"},
		{
			name: "HS256", want: "alg",
			raw: func() string { return sign(object{"alg": "HS256"}, logoutClaims(nil), []byte(clientSecret)) },
		},
		{
			name: "HS256 where it is registered", config: hs256,
			raw: func() string { return sign(object{"alg": "HS256"}, logoutClaims(nil), []byte(clientSecret)) },
		},
		{ // THR-30
			name: "HS256 with the public key", config: hs256, want: "signature",
			raw: func() string {
				return sign(object{"alg": "HS256", "kid": "rsa"}, logoutClaims(nil), rsaKey().N.Bytes())
			},
		},
		{
			name: "a key of its own", want: "signature",
			raw: func() string {
				h := object{"alg": "RS256", "kid": "rsa", "jwk": jwk("rsa", &otherRSA().PublicKey)}
				return sign(h, logoutClaims(nil), otherRSA())
			},
		},
		{name: "no signature", raw: part(2, ""), want: "signature"},
		{name: "claims of another", raw: part(1, b64([]byte(`{"iss":"`+issuer+`"}`))), want: "signature"},
	},
	"THR-31, THR-32": {
		{name: "unknown crit", header: object{"crit": []string{"exp"}, "exp": 1}, want: "crit"},
		{name: "b64", header: object{"b64": false}, want: "crit"},
		{name: "two parts", raw: func() string { return "a.b" }, want: "malformed"},
		{name: "dots", raw: func() string { return strings.Repeat(".", 16_000) }, want: "malformed"},
		{name: "white space", raw: func() string { return logoutToken(nil, nil) + "\n" }, want: "malformed"},
		{name: "header not base64url", raw: part(0, "e30="), want: "malformed"},
		{name: "claims not base64url", raw: part(1, "*"), want: "malformed"},
		{name: "claims in base64", raw: part(1, "eyJ+"), want: "malformed"},
		{name: "signature not base64url", raw: part(2, "*"), want: "malformed"},
		{name: "claims null", raw: signed("null"), want: "malformed"},
		{name: "claims array", raw: signed("[]"), want: "malformed"},
		{name: "claims empty", raw: signed(""), want: "malformed"},
		{name: "claims deep", raw: signed(`{"a":` + strings.Repeat("[", 11_000)), want: "malformed"},
		{name: "alg twice", raw: part(0, b64([]byte(`{"alg":"none","alg":"RS256"}`))), want: "duplicate"},
		{name: "iss twice", raw: prefixed(`"iss":"https://evil.example/"`), want: "duplicate"},
		{name: "nonce twice", raw: prefixed(`"nonce":"1","nonce":"2"`), want: "duplicate"},
		{name: "sub twice, once escaped", raw: prefixed(`"\u0073ub":"bob"`), want: "duplicate"},
		{
			name: "event twice", want: "events",
			claims: object{"events": json.RawMessage(`{"` + logoutEvent + `":{},"` + logoutEvent + `":{}}`)},
		},
	},
	"BCL-06": {
		{name: "iss of the suite", claims: object{"iss": issuer + "1"}, want: "issuer"},
		{name: "iss without its slash", claims: object{"iss": strings.TrimSuffix(issuer, "/")}, want: "issuer"},
		{name: "iss missing", claims: object{"iss": nil}, want: "issuer"},
		{name: "iss array", claims: object{"iss": []string{issuer}}, want: "issuer"},
		{name: "aud array", claims: object{"aud": []string{clientID}}},
		{name: "aud of the suite", claims: object{"aud": clientID + "1"}, want: "audience"},
		{name: "aud missing", claims: object{"aud": nil}, want: "audience"},
		{name: "aud empty", claims: object{"aud": []string{}}, want: "audience"},
		{name: "aud with a number", claims: object{"aud": []any{clientID, 1}}, want: "audience"},
		{name: "aud with a stranger", claims: object{"aud": []string{clientID, "x"}}, want: "audience"},
		{name: "aud with a trusted one", claims: object{"aud": []string{clientID, "api"}}, config: trustAPI},
		{name: "aud trusted alone", claims: object{"aud": "api"}, config: trustAPI, want: "audience"},
		{name: "azp ours", claims: object{"azp": clientID}},
		{name: "azp another's", claims: object{"azp": "x"}, want: "azp"},
	},
	"BCL-07": {
		{name: "iat missing", claims: object{"iat": nil}, want: "issued_at"}, // lesson 34
		{name: "iat null", claims: object{"iat": null}, want: "issued_at"},
		{name: "iat string", claims: object{"iat": "946684800"}, want: "issued_at"},
		{name: "iat ahead within the skew", claims: object{"iat": 30 * time.Second}},
		{name: "iat ahead", claims: object{"iat": 31 * time.Second}, want: "issued_at"},
		{name: "iat beyond all", claims: object{"iat": json.RawMessage("1e308")}, want: "issued_at"},
		{name: "iat old, exp ahead", claims: object{"iat": -time.Hour}},
		{name: "iat missing, no exp needed", claims: object{"iat": nil, "exp": nil}, expect: aged, want: "issued_at"},
		{name: "iat at the age", claims: object{"iat": -5 * time.Minute, "exp": nil}, expect: aged},
		{name: "iat within the skew", claims: object{"iat": -329 * time.Second, "exp": nil}, expect: aged},
		{name: "iat too old", claims: object{"iat": -330 * time.Second, "exp": nil}, expect: aged, want: "expired"},
		{name: "iat zero", claims: object{"iat": 0, "exp": nil}, expect: aged, want: "expired"},
		{name: "iat ahead, no exp", claims: object{"iat": 31 * time.Second, "exp": nil}, expect: aged, want: "issued_at"},
		{name: "nbf ahead within the skew", claims: object{"nbf": 30 * time.Second}},
		{name: "nbf ahead", claims: object{"nbf": 31 * time.Second}, want: "not_before"},
		{name: "nbf string", claims: object{"nbf": "1"}, want: "not_before"},
	},
	"BCL-08": {
		{name: "exp missing", claims: object{"exp": nil}, want: "expired"},
		{name: "exp null", claims: object{"exp": null}, want: "expired"},
		{
			name: "exp missing, a negative age given", claims: object{"exp": nil}, expect: idp.ExpectLogout{MaxAge: -1},
			want: "expired",
		},
		{name: "exp missing, an age given", claims: object{"exp": nil}, expect: aged},
		{name: "exp null, an age given", claims: object{"exp": null}, expect: aged},
		{name: "exp within the skew", claims: object{"exp": -29 * time.Second}},
		{name: "exp past", claims: object{"exp": -30 * time.Second}, want: "expired"},
		{name: "exp past, an age given", claims: object{"exp": -30 * time.Second}, expect: aged, want: "expired"},
		{name: "exp string", claims: object{"exp": "4102444800"}, want: "expired"},
		{name: "exp string, an age given", claims: object{"exp": "4102444800"}, expect: aged, want: "expired"},
		{name: "exp in an hour", claims: object{"exp": time.Hour}},
		{name: "exp in more than an hour", claims: object{"exp": time.Hour + time.Second}, want: "expired"},
		{name: "exp in a year", claims: object{"exp": 365 * 24 * time.Hour}, want: "expired"},
		{name: "exp in a year, an age given", claims: object{"exp": 365 * 24 * time.Hour}, expect: aged, want: "expired"},
		{name: "exp beyond all", claims: object{"exp": json.RawMessage("1e308")}, want: "expired"},
		{name: "an age beyond all", claims: object{"exp": nil}, expect: idp.ExpectLogout{MaxAge: 1<<63 - 1}},
		{
			name: "an age beyond all, iat old", claims: object{"exp": nil, "iat": -2 * time.Hour},
			expect: idp.ExpectLogout{MaxAge: 1<<63 - 1}, want: "expired",
		},
	},
	"BCL-09": {
		{name: "jti missing", claims: object{"jti": nil}, want: "jti"}, // lesson 34
		{name: "jti null", claims: object{"jti": null}, want: "jti"},
		{name: "jti number", claims: object{"jti": 7}, want: "jti"},
		{name: "jti empty", claims: object{"jti": ""}, want: "jti"},
		{name: "jti of 256", claims: object{"jti": strings.Repeat("a", 256)}},
		{name: "jti of 257", claims: object{"jti": strings.Repeat("a", 257)}, want: "jti"},
	},
	"BCL-10": {
		{name: "sub and sid"},
		{name: "sub alone", claims: object{"sid": nil}},
		{name: "sid alone", claims: object{"sub": nil}},
		{name: "neither", claims: object{"sub": nil, "sid": nil}, want: "subject"},
		{name: "both null", claims: object{"sub": null, "sid": null}, want: "subject"},
		{name: "sub null, sid there", claims: object{"sub": null}},
		{name: "sub empty, sid there", claims: object{"sub": ""}, want: "subject"},
		{name: "sub number, sid there", claims: object{"sub": 7}, want: "subject"},
		{name: "sub too long", claims: object{"sub": strings.Repeat("a", 256)}, want: "subject"},
		{
			name: "sub as long as is configured", claims: object{"sub": strings.Repeat("a", 256)},
			config: func(c *idp.Config) { c.MaxSubjectLength = 256 },
		},
		{name: "sub not ASCII", claims: object{"sub": "al\u00efce"}, want: "subject"},
		{name: "sub with a line feed", claims: object{"sub": "alice\n"}, want: "subject"},
		{name: "sid empty, sub there", claims: object{"sid": ""}, want: "sid"},
		{name: "sid number, sub there", claims: object{"sid": 7}, want: "sid"},
		{name: "sid of 1024", claims: object{"sid": strings.Repeat("a", 1024)}},
		{name: "sid of 1025", claims: object{"sid": strings.Repeat("a", 1025)}, want: "sid"},
		{name: "in other letters", claims: object{"sub": nil, "sid": nil, "Sub": "alice", "SID": "s"}, want: "subject"},
	},
	"BCL-11": {
		{name: "events missing, as of the suite", claims: object{"events": nil}, want: "events"},
		{name: "event of the suite", claims: object{"events": object{logoutEvent + "1": object{}}}, want: "events"},
		{name: "events null", claims: object{"events": null}, want: "events"},
		{name: "events true", claims: object{"events": true}, want: "events"},
		{name: "events string", claims: object{"events": logoutEvent}, want: "events"},
		{name: "events array", claims: object{"events": []string{logoutEvent}}, want: "events"},
		{name: "events empty", claims: object{"events": object{}}, want: "events"},
		{name: "event null", claims: object{"events": object{logoutEvent: nil}}, want: "events"},
		{name: "event true", claims: object{"events": object{logoutEvent: true}}, want: "events"},
		{name: "event string", claims: object{"events": object{logoutEvent: "{}"}}, want: "events"},
		{name: "event array", claims: object{"events": object{logoutEvent: []any{}}}, want: "events"},
		{name: "event with members", claims: object{"events": object{logoutEvent: object{"x": 1}}}},
		{name: "another event beside it", claims: object{"events": object{logoutEvent: object{}, "x": nil}}},
		{name: "event in capitals", claims: object{"events": object{strings.ToUpper(logoutEvent): object{}}}, want: "events"},
		{
			name:   "event with its slashes escaped",
			claims: object{"events": json.RawMessage(`{"` + strings.ReplaceAll(logoutEvent, "/", `\/`) + `":{}}`)},
		},
	},
	"BCL-12": {
		{name: "nonce, as of the suite", claims: object{"nonce": nonce}, want: "nonce"},
		{name: "nonce null", claims: object{"nonce": null}, want: "nonce"},
		{name: "nonce empty", claims: object{"nonce": ""}, want: "nonce"},
		{name: "nonce false", claims: object{"nonce": false}, want: "nonce"},
		{name: "nonce object", claims: object{"nonce": object{}}, want: "nonce"},
	},
	"BCL-13": {
		{name: "logout+jwt"},
		{name: "in capitals", header: object{"typ": "LOGOUT+JWT"}},
		{name: "as a media type", header: object{"typ": "application/logout+jwt"}},
		{name: "as a media type in capitals", header: object{"typ": "Application/Logout+JWT"}},
		{name: "missing, as of the suite", header: object{"typ": nil}},
		{name: "JWT", header: object{"typ": "JWT"}},
		{name: "jwt", header: object{"typ": "jwt"}},
		{name: "at+jwt", header: object{"typ": "at+jwt"}, want: "type"},
		{name: "dpop+jwt", header: object{"typ": "dpop+jwt"}, want: "type"},
		{name: "secevent+jwt", header: object{"typ": "secevent+jwt"}, want: "type"},
		{name: "application/at+jwt", header: object{"typ": "application/at+jwt"}, want: "type"},
		{name: "with a space", header: object{"typ": "logout+jwt "}, want: "type"},
		{name: "number", header: object{"typ": 7}, want: "malformed"},
		{name: "required and there", expect: typed},
		{name: "required and in capitals", header: object{"typ": "LOGOUT+JWT"}, expect: typed},
		{name: "required and a media type", header: object{"typ": "application/logout+jwt"}, expect: typed},
		{name: "required and missing", header: object{"typ": nil}, expect: typed, want: "type"},
		{name: "required and null", header: object{"typ": null}, expect: typed, want: "type"},
		{name: "required and empty", header: object{"typ": ""}, expect: typed, want: "type"},
		{name: "required and JWT", header: object{"typ": "JWT"}, expect: typed, want: "type"},
	},
	"2.4": {
		{name: "claims of no concern", claims: object{"unknown": object{"a": 1}, "Nonce": "x", "auth_time": "x"}},
	},
}

var (
	aged  = idp.ExpectLogout{MaxAge: 5 * time.Minute}
	typed = idp.ExpectLogout{RequireTyp: true}
)

func hs256(c *idp.Config) { c.SigningAlgs = []string{"RS256", "HS256"} }

func trustAPI(c *idp.Config) { c.TrustedAudience = func(a string) bool { return a == "api" } }

// part returns a good token with its i-th part replaced.
func part(i int, s string) func() string {
	return func() string {
		parts := strings.Split(logoutToken(nil, nil), ".")
		parts[i] = s
		return strings.Join(parts, ".")
	}
}

func signed(payload string) func() string { return func() string { return rs256(payload) } }

// prefixed returns a token with members before those of a good one.
func prefixed(members string) func() string {
	return func() string {
		return rs256("{" + members + "," + string(must(json.Marshal(logoutClaims(nil))))[1:])
	}
}

// Back-Channel Logout 2.4 and 2.6, by requirement.
func TestLogoutTokens(t *testing.T) {
	for id, cases := range logoutCases {
		for _, c := range cases {
			bubble(t, id+" "+c.name, func(t *testing.T) {
				op := newFakeOP()
				op.set("/jwks", says(jwks(jwk("rsa", &rsaKey().PublicKey), jwk("ec", &ecKey().PublicKey))))
				raw := ""
				if c.raw != nil {
					raw = c.raw()
				} else {
					raw = logoutToken(c.header, c.claims)
				}
				if _, got := verifyLogout(t, idp.New(op.config(c.config)), raw, c.expect); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		}
	}
}

// THR-34: a token of one kind is no token of another, even without a typ.
func TestOtherTokensAreNoLogoutTokens(t *testing.T) {
	now := func() int64 { return time.Now().Unix() }
	for name, token := range map[string]func() string{
		"an ID token": func() string { return rs256(claims(object{"jti": "1", "sid": "s"})) },
		"an ID token without nonce": func() string {
			return rs256(claims(object{"nonce": nil, "jti": "1", "sid": "s"}))
		},
		"an access token": func() string {
			c := claims(object{"nonce": nil, "jti": "1", "client_id": clientID, "scope": "openid"})
			return sign(object{"alg": "RS256", "kid": "rsa", "typ": "at+jwt"}, c, rsaKey())
		},
		"an access token without typ": func() string {
			return rs256(claims(object{"nonce": nil, "jti": "1", "client_id": clientID, "scope": "openid"}))
		},
		"a JARM response": func() string {
			return rs256(object{"iss": issuer, "aud": clientID, "exp": now() + 60, "code": "c", "state": "s"})
		},
		"signed UserInfo": func() string { return rs256(object{"iss": issuer, "aud": clientID, "sub": "alice"}) },
		"a client assertion": func() string {
			return rs256(object{"iss": clientID, "sub": clientID, "aud": issuer, "jti": "1", "iat": now(), "exp": now() + 60})
		},
		"a security event of another kind": func() string {
			events := object{"https://schemas.openid.net/secevent/risc/event-type/account-disabled": object{}}
			return logoutToken(object{"typ": nil}, object{"events": events})
		},
	} {
		bubble(t, name, func(t *testing.T) {
			for _, e := range []idp.ExpectLogout{{}, aged, typed} {
				if _, got := verifyLogout(t, newFakeOP().client(), token(), e); got == "" {
					t.Errorf("accepted with %+v", e)
				}
			}
		})
	}
	for _, typ := range []any{"logout+jwt", "JWT", nil} {
		bubble(t, fmt.Sprint("a logout token as ID token, typed ", typ), func(t *testing.T) {
			p, raw := newFakeOP().client(), logoutToken(object{"typ": typ}, nil)
			if _, got := verifyLogout(t, p, raw, idp.ExpectLogout{}); got != "" {
				t.Fatal(got)
			}
			for _, e := range []idp.Expect{{}, expect()} {
				want := "nonce"
				if typ == "logout+jwt" {
					want = "type"
				}
				if _, err := p.VerifyIDToken(t.Context(), raw, e); check(err) != want {
					t.Errorf("got %v, want %q", err, want)
				}
			}
		})
	}
}

// With AllowedTenants the issuer of a logout token is that of its tenant.
func TestLogoutTokenOfATenant(t *testing.T) {
	for _, c := range []struct {
		name   string
		claims object
		key    any // the issuer of the published key
		want   string
		asked  int
	}{
		{"good", nil, template, "", 1},
		{"capitals", object{"iss": capitalsA, "tid": strings.ToUpper(tenantA)}, template, "", 1},
		{"another tenant's key", nil, issuerB, "signature", 1},
		{"another tenant's id", object{"tid": tenantB}, template, "issuer", 0},
		{"no tid", object{"tid": nil}, template, "issuer", 0},
		{"the template", object{"iss": template, "tid": "{tenantid}"}, template, "issuer", 0},
		{"tenant not allowed", object{"iss": issuerC, "tid": tenantC}, template, "tenant", 0},
	} {
		bubble(t, c.name, func(t *testing.T) {
			op, cfg := entra(tenantA, tenantB)
			op.set("/jwks", says(jwks(entraKey(c.key))))
			claims := logoutClaims(edited(object{"iss": issuerA, "tid": tenantA}, c.claims))
			if c.name == "no tid" {
				delete(claims, "tid")
			}
			raw := sign(object{"alg": "EdDSA", "kid": "ed", "typ": "logout+jwt"}, claims, edKey())
			got, check := verifyLogout(t, idp.New(cfg), raw, idp.ExpectLogout{})
			if check != c.want || op.count("/jwks") != c.asked || op.count(commonMetadata) != min(c.asked, 1) {
				t.Errorf("got %q after %d requests, want %q after %d", check, op.count("/jwks"), c.want, c.asked)
			}
			if got != nil && (got.Issuer != claims["iss"] || got.Tenant != claims["tid"]) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// BCL-26, BCL-27, BCL-29: nobody is asked about a token that cannot be of the provider. What may be is verified before
// its claims are looked at.
func TestWhoIsAskedAboutALogoutToken(t *testing.T) {
	forged := func(header, c object) string {
		return sign(edited(object{"alg": "RS256", "kid": "rsa"}, header), logoutClaims(c), otherRSA())
	}
	for name, c := range map[string]struct {
		token func() string
		want  string
		asked bool
	}{
		"another issuer": {func() string { return forged(nil, object{"iss": "https://evil.example/"}) }, "issuer", false},
		"two issuers":    {prefixed(`"iss":"https://evil.example/"`), "duplicate", false},
		"no issuer":      {func() string { return forged(nil, object{"iss": nil}) }, "issuer", false},
		"an algorithm":   {func() string { return sign(object{"alg": "ES256"}, logoutClaims(nil), ecKey()) }, "alg", false},
		"a type":         {func() string { return forged(object{"typ": "at+jwt"}, nil) }, "type", false},
		"an extension":   {func() string { return forged(object{"crit": []string{"x"}}, nil) }, "crit", false},
		"a signature":    {part(2, "*"), "malformed", false},
		"a length":       {func() string { return forged(nil, object{"x": strings.Repeat("x", 16<<10)}) }, "size", false},
		"a forgery":      {func() string { return forged(nil, object{"nonce": nonce}) }, "signature", true},
	} {
		bubble(t, name, func(t *testing.T) {
			op := newFakeOP()
			_, got := verifyLogout(t, op.client(), c.token(), idp.ExpectLogout{})
			if asked := op.count(wellKnown)+op.count("/jwks") > 0; got != c.want || asked != c.asked {
				t.Errorf("got %q, asked %v, want %q, %v", got, asked, c.want, c.asked)
			}
		})
	}
}

func TestLogoutTokenAfterAKeyRotation(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		op := newFakeOP()
		p := op.client()
		by := func(kid string, key any) string {
			t.Helper()
			_, got := verifyLogout(t, p, sign(object{"alg": "RS256", "kid": kid}, logoutClaims(nil), key), idp.ExpectLogout{})
			return got
		}
		if got := by("rsa", rsaKey()); got != "" {
			t.Fatal(got)
		}
		op.set("/jwks", says(jwks(jwk("new", &otherRSA().PublicKey)))) // the old key vanishes at once
		if got := by("new", otherRSA()); got != "" {
			t.Errorf("the new key: got %q", got)
		}
		if got := by("rsa", rsaKey()); got != "signature" {
			t.Errorf("the old key: got %q", got)
		}
		op.set("/jwks", says(jwks(jwk("rsa", &rsaKey().PublicKey))))
		if got := by("rsa", rsaKey()); got != "signature" {
			t.Errorf("a second rotation at once: got %q", got)
		}
		time.Sleep(30 * time.Second)
		if got := by("rsa", rsaKey()); got != "" {
			t.Errorf("a second rotation: got %q", got)
		}
	})
}

// BCL-26, THR-40, S39: tokens that anybody can send, 10,000 of the cheapest kind, in five minutes.
func TestFloodOfLogoutTokens(t *testing.T) {
	for name, c := range map[string]struct {
		atOnce int
		kid    func(int) string
	}{
		"random keys":    {100, func(i int) string { return fmt.Sprint("random", i) }},
		"bad signatures": {10, func(int) string { return "ed" }},
	} {
		bubble(t, name, func(t *testing.T) {
			op := newFakeOP()
			p := idp.New(op.config(edOnly))
			var mu sync.Mutex
			var fetched []time.Time
			publish := func(kid string, key crypto.PublicKey) {
				op.set("/jwks", func(w http.ResponseWriter, r *http.Request) {
					mu.Lock()
					fetched = append(fetched, time.Now())
					mu.Unlock()
					says(jwks(jwk(kid, key)))(w, r)
				})
			}
			by := func(kid string, c, key any) string { return sign(object{"alg": "EdDSA", "kid": kid}, c, key) }
			publish("ed", edKey().Public())
			for i := range 100 {
				flood := string(must(json.Marshal(logoutClaims(nil))))
				var wg sync.WaitGroup
				for j := range c.atOnce {
					wg.Go(func() {
						raw := by(c.kid(100*i+j), flood, strangeKey)
						if _, err := p.VerifyLogoutToken(t.Context(), raw, idp.ExpectLogout{}); check(err) != "signature" {
							t.Errorf("got %v", err)
						}
					})
				}
				wg.Wait()
				if _, got := verifyLogout(t, p, by("ed", flood, edKey()), idp.ExpectLogout{}); got != "" {
					t.Fatalf("a good one meanwhile: %q", got)
				}
				time.Sleep(2900 * time.Millisecond) // so that a cool-down a second shorter would show
			}
			// The first fetch is due anyway.
			if n := len(fetched); n < 2 || n > 11 {
				t.Errorf("%d fetches in five minutes", n)
			}
			for i := 2; i < len(fetched); i++ {
				if gap := fetched[i].Sub(fetched[i-1]); gap < 30*time.Second {
					t.Errorf("%v between two fetches", gap)
				}
			}

			verifyLogout(t, p, by("random", logoutClaims(nil), strangeKey), idp.ExpectLogout{}) // spends the budget
			second := ed25519.NewKeyFromSeed([]byte(strings.Repeat("2", ed25519.SeedSize)))
			publish("second", second.Public())
			if _, err := p.VerifyIDToken(t.Context(), by("second", claims(nil), second), expect()); err != nil {
				t.Errorf("the first login after a rotation: %v", err)
			}
			if _, got := verifyLogout(t, p, by("second", logoutClaims(nil), second), idp.ExpectLogout{}); got != "" {
				t.Errorf("a fetch serves both: %q", got)
			}
		})
	}
}

// BCL-26: that the provider is away is known before it stops waiting for our answer, and is no forgery.
func TestLogoutTokenWhileTheProviderIsAway(t *testing.T) {
	away := func(t *testing.T, p *idp.Provider, most time.Duration) {
		t.Helper()
		raw, start := logoutToken(nil, nil), time.Now()
		_, err := p.VerifyLogoutToken(t.Context(), raw, idp.ExpectLogout{})
		if _, wrong := errors.AsType[*idp.TokenError](err); wrong || !errors.Is(err, idp.ErrUnreachable) ||
			errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if got := time.Since(start); got > most {
			t.Errorf("took %v, want at most %v", got, most)
		}
	}
	for _, path := range []string{wellKnown, "/jwks"} {
		bubble(t, path+" fails", func(t *testing.T) {
			op := newFakeOP()
			op.set(path, status(http.StatusServiceUnavailable, "down"))
			p := op.client()
			for range 3 {
				away(t, p, 0)
			}
			if n := op.count(path); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		})
		bubble(t, path+" hangs", func(t *testing.T) {
			op := newFakeOP()
			op.set(path, hangs)
			p := op.client()
			away(t, p, 2*time.Second)
			away(t, p, 2*time.Second) // which waits for the same fetch
			time.Sleep(6 * time.Second)
			if n := op.count(path); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		})
		bubble(t, path+" is slow", func(t *testing.T) {
			op := newFakeOP()
			answer := op.answers[path]
			op.set(path, func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(3 * time.Second)
				answer(w, r)
			})
			p := op.client()
			away(t, p, 2*time.Second)
			time.Sleep(time.Second)
			if _, got := verifyLogout(t, p, logoutToken(nil, nil), idp.ExpectLogout{}); got != "" {
				t.Errorf("once it has answered: %q", got)
			}
		})
		bubble(t, path+" and the caller goes away", func(t *testing.T) {
			op := newFakeOP()
			op.set(path, hangs)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := op.client().VerifyLogoutToken(ctx, logoutToken(nil, nil), idp.ExpectLogout{})
			if errors.Is(err, idp.ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			time.Sleep(time.Minute) // the fetch itself goes on for others
		})
		bubble(t, path+" is no JSON", func(t *testing.T) {
			op := newFakeOP()
			op.set(path, says("<html>"))
			_, err := op.client().VerifyLogoutToken(t.Context(), logoutToken(nil, nil), idp.ExpectLogout{})
			if _, wrong := errors.AsType[*idp.TokenError](err); err == nil || wrong {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestOldKeysServeWhileNewOnesDoNotCome(t *testing.T) {
	for name, paths := range map[string][]string{
		"metadata hangs": {wellKnown}, "key set hangs": {"/jwks"}, "both hang": {wellKnown, "/jwks"},
	} {
		bubble(t, name, func(t *testing.T) {
			op := newFakeOP()
			p := op.client()
			for range 2 {
				start := time.Now()
				_, got := verifyLogout(t, p, logoutToken(nil, nil), idp.ExpectLogout{})
				if took := time.Since(start); got != "" || took > 2*time.Second {
					t.Errorf("got %q after %v", got, took)
				}
				time.Sleep(61 * time.Minute)
				for _, path := range paths {
					op.set(path, hangs)
				}
			}
		})
	}
}

func TestLogoutTokenForAMistakenConfig(t *testing.T) {
	t.Parallel()
	cfg := newFakeOP().config(func(c *idp.Config) { c.ClientID = "" })
	for _, raw := range []string{"", logoutToken(nil, nil)} {
		_, err := idp.New(cfg).VerifyLogoutToken(t.Context(), raw, idp.ExpectLogout{})
		if want := cfg.Validate(); err == nil || err.Error() != want.Error() {
			t.Errorf("%q: got %v, want %v", raw, err, want)
		}
	}
}

// BCL-14, S37: once its ID may be forgotten a token is good for nothing.
func TestLogoutTokenExpiresAsItSays(t *testing.T) {
	skewed := func(c *idp.Config) { c.ClockSkew = time.Second }
	for name, c := range map[string]struct {
		claims object
		expect idp.ExpectLogout
		config func(*idp.Config)
		want   time.Duration
	}{
		"exp":             {object{"exp": time.Minute}, idp.ExpectLogout{}, nil, 90 * time.Second},
		"exp, age given":  {object{"exp": 10 * time.Minute}, aged, nil, 10*time.Minute + 30*time.Second},
		"exp and a skew":  {object{"exp": time.Minute}, aged, skewed, 61 * time.Second},
		"exp with a half": {object{"exp": json.RawMessage("946684860.5")}, idp.ExpectLogout{}, nil, 90 * time.Second},
		"no exp":          {object{"exp": nil, "iat": -time.Minute}, aged, nil, 4*time.Minute + 30*time.Second},
		"iat ahead":       {object{"exp": nil, "iat": 30 * time.Second}, aged, nil, 6 * time.Minute},
	} {
		bubble(t, name, func(t *testing.T) {
			p, raw := idp.New(newFakeOP().config(c.config)), logoutToken(nil, c.claims)
			got, refused := verifyLogout(t, p, raw, c.expect)
			if refused != "" || !got.Expires.Equal(time.Now().Add(c.want)) {
				t.Fatalf("got %q and %+v, want it to expire in %v", refused, got, c.want)
			}
			time.Sleep(c.want - time.Nanosecond)
			if _, got := verifyLogout(t, p, raw, c.expect); got != "" {
				t.Errorf("just before: got %q", got)
			}
			time.Sleep(time.Nanosecond)
			if _, got := verifyLogout(t, p, raw, c.expect); got != "expired" {
				t.Errorf("then: got %q", got)
			}
		})
	}
}
