package idp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth/internal/idp"
)

// oddToken has every printable ASCII character, as the conformance suite's refresh tokens may, and more.
var oddToken = func() string {
	var b strings.Builder
	for c := ' '; c <= '~'; c++ {
		b.WriteRune(c)
	}
	return "canary" + b.String() + " +%2B%\u00e9"
}()

func refresh(t *testing.T, p *idp.Provider) (*idp.Tokens, error) {
	t.Helper()
	return p.Refresh(t.Context(), idp.RefreshRequest{RefreshToken: "refresh-canary"})
}

// RFT-01, RES-01, lesson 8
func TestRefreshRequest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		ask  idp.RefreshRequest
		want url.Values // beside grant_type; nil: refused, and nothing is asked
	}{
		{"token alone", idp.RefreshRequest{RefreshToken: "r"}, url.Values{"refresh_token": {"r"}}},
		{"odd characters", idp.RefreshRequest{RefreshToken: oddToken}, url.Values{"refresh_token": {oddToken}}},
		{
			"scope",
			idp.RefreshRequest{RefreshToken: "r", Scope: "openid a:b"},
			url.Values{"refresh_token": {"r"}, "scope": {"openid a:b"}},
		},
		{
			"resource",
			idp.RefreshRequest{RefreshToken: "r", AudienceParam: "resource", Audience: "https://api/?a&b"},
			url.Values{"refresh_token": {"r"}, "resource": {"https://api/?a&b"}},
		},
		{
			"audience",
			idp.RefreshRequest{RefreshToken: "r", AudienceParam: "audience", Audience: "api"},
			url.Values{"refresh_token": {"r"}, "audience": {"api"}},
		},
		{
			"parameter without an audience",
			idp.RefreshRequest{RefreshToken: "r", AudienceParam: "audience"},
			url.Values{"refresh_token": {"r"}},
		},
		{"nothing", idp.RefreshRequest{}, nil},
		{"no token", idp.RefreshRequest{Scope: "openid"}, nil},
		{"audience without a parameter", idp.RefreshRequest{RefreshToken: "r", Audience: "api"}, nil},
		{
			"audience in the place of the token",
			idp.RefreshRequest{RefreshToken: "r", AudienceParam: "refresh_token", Audience: "api"},
			nil,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			op := newFakeOP()
			_, err := op.client().Refresh(t.Context(), c.ask)
			if c.want == nil {
				if err == nil || op.count("/token") != 0 || strings.Contains(err.Error(), "canary") {
					t.Errorf("got %v and %d requests", err, op.count("/token"))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c.want.Set("grant_type", "refresh_token")
			r := op.request("/token")
			got, want := r.PostForm.Encode(), c.want.Encode()
			if r.Method != http.MethodPost || got != want || r.URL.RawQuery != "" {
				t.Errorf("got %s %s %s, want %s", r.Method, r.URL, got, want)
			}
			if id, secret, _ := r.BasicAuth(); id == "" || secret == "" {
				t.Error("the client is not authenticated")
			}
			if n := op.count("/token"); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// RFT-02, RFT-04, S05, lessons 4 and 9: what is in an answer that can be used, and what is kept of one that cannot.
func TestRefreshAnswer(t *testing.T) {
	good := func(edit object) http.HandlerFunc {
		return says(edited(object{
			"access_token": "a", "token_type": "Bearer", "id_token": "i", "refresh_token": "new", "expires_in": 60,
		}, edit))
	}
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   string // the refresh token
		none   bool   // no tokens are returned
		err    string // in the error; empty: accepted
	}{
		{name: "all", answer: good(nil), want: "new"},
		{name: "odd characters", answer: good(object{"refresh_token": oddToken}), want: oddToken},
		{name: "no refresh token", answer: good(object{"refresh_token": nil})},
		{name: "no id token", answer: good(object{"id_token": nil}), want: "new"},
		{name: "no expires_in", answer: good(object{"expires_in": nil}), want: "new"},
		{name: "bearer in small letters", answer: good(object{"token_type": "bearer"}), want: "new"},

		{name: "token type DPoP", answer: good(object{"token_type": "DPoP"}), want: "new", err: "token_type"},
		{name: "token type missing", answer: good(object{"token_type": nil}), want: "new", err: "token_type"},
		{name: "no access token", answer: good(object{"access_token": nil}), want: "new", err: "access_token"},
		{name: "id token number", answer: good(object{"id_token": 7}), want: "new", err: "id_token"},
		{name: "expires_in words", answer: good(object{"expires_in": "soon"}), want: "new", err: "expires_in"},
		{name: "refresh token number", answer: good(object{"refresh_token": 7}), err: "refresh_token"},

		{name: "oversized", answer: good(object{"x": strings.Repeat("x", 256<<10)}), none: true, err: "larger"},
		{name: "html", answer: says("<html>canary</html>"), none: true, err: "JSON"},
		{name: "form-encoded", answer: says("access_token=canary&token_type=Bearer"), none: true, err: "JSON"},
		{name: "nothing", answer: says(""), none: true, err: "JSON"},
		{
			name: "refresh token twice", none: true, err: "twice",
			answer: says(`{"access_token":"a","token_type":"Bearer","refresh_token":"a","refresh_token":"b"}`),
		},
		{
			name: "redirect", none: true, err: "redirect",
			answer: func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://evil.example/token?canary", http.StatusTemporaryRedirect)
			},
		},
		{name: "no OAuth error", answer: status(400, "<html>canary</html>"), none: true, err: "400"},
	} {
		bubble(t, c.name, func(t *testing.T) {
			op := newFakeOP()
			op.set("/token", c.answer)
			got, err := refresh(t, op.client())
			if n := op.count("/token"); n != 1 {
				t.Errorf("%d requests", n)
			}
			if c.err != "" {
				wantError(t, err, c.err)
				if errors.Is(err, idp.ErrUnreachable) || strings.Contains(err.Error(), "canary") {
					t.Errorf("got %v", err)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if (got == nil) != c.none || got != nil && got.RefreshToken != c.want {
				t.Errorf("got %#v, want refresh token %q", got, c.want)
			}
		})
	}
	bubble(t, "times", func(t *testing.T) {
		op := newFakeOP()
		op.set("/token", good(nil))
		got, err := refresh(t, op.client())
		if err != nil || !got.Expiry.Equal(time.Now().Add(time.Minute)) {
			t.Errorf("got %v, %v", got, err)
		}
		op.set("/token", good(object{"expires_in": nil}))
		if got, err := refresh(t, op.client()); err != nil || !got.Expiry.IsZero() {
			t.Errorf("got %v, %v", got, err)
		}
	})
}

// RFT-05, lesson 7: whatever is in an outage's answer, it ends nothing, and is not tried again.
func TestRefreshWhileTheProviderIsAway(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"429":                    status(429, object{"error": "invalid_grant"}),
		"500":                    status(500, "<html>"),
		"503 with an OAuth code": status(503, object{"error": "invalid_grant"}),
		"hangs":                  hangs,
	} {
		bubble(t, name, func(t *testing.T) {
			op := newFakeOP()
			op.set("/token", answer)
			got, err := refresh(t, op.client())
			if got != nil || !errors.Is(err, idp.ErrUnreachable) || op.count("/token") != 1 {
				t.Errorf("got %v, %v after %d requests", got, err, op.count("/token"))
			}
			if e, ok := errors.AsType[*idp.Error](err); ok && e.Kind() != idp.Refused {
				t.Errorf("kind %v", e.Kind())
			}
		})
	}
	bubble(t, "and the caller goes", func(t *testing.T) {
		op := newFakeOP()
		op.set("/token", hangs)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := op.client().Refresh(ctx, idp.RefreshRequest{RefreshToken: "r"})
		if errors.Is(err, idp.ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// HYG-05
func TestRefreshRequestDoesNotPrintItsToken(t *testing.T) {
	t.Parallel()
	r := idp.RefreshRequest{RefreshToken: "canary", Scope: "openid"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		for _, v := range []any{r, &r, struct{ R idp.RefreshRequest }{r}} {
			if got := fmt.Sprintf(verb, v); strings.Contains(got, "canary") || !strings.Contains(got, "openid") {
				t.Errorf("%s of %T prints %s", verb, v, got)
			}
		}
	}
}

func expectRefreshed() idp.ExpectRefreshed {
	return idp.ExpectRefreshed{Subject: "alice", AccessToken: accessToken}
}

// outcome is that of check, or "unverified" for what ends no session.
func outcome(got *idp.IDToken, err error) string {
	_, wrong := errors.AsType[*idp.TokenError](err)
	switch {
	case (got == nil) == (err == nil):
		return fmt.Sprintf("both or neither: %v, %v", got, err)
	case errors.Is(err, idp.ErrUnverified) && !wrong:
		return "unverified"
	case errors.Is(err, idp.ErrUnverified):
		return "unverified and wrong: " + err.Error()
	}
	return check(err)
}

// RFT-03 as corrected by security.md, claim by claim: what ends the session and what does not.
func TestRefreshedClaims(t *testing.T) {
	const unverified = "unverified"
	trust := func(c *idp.Config) { c.TrustedAudience = func(a string) bool { return a == "api" } }
	null := json.RawMessage("null")
	hash, _ := idp.HalfHash("RS256", accessToken)
	oldHash, _ := idp.HalfHash("RS256", "old")
	for _, c := range []struct {
		name   string
		edit   object // times given as time.Duration are relative to now
		want   string
		config func(*idp.Config)
		expect func(*idp.ExpectRefreshed)
	}{
		{name: "good"},
		{name: "iss of the suite", edit: object{"iss": issuer + "1"}, want: "issuer"},
		{name: "iss without its slash", edit: object{"iss": strings.TrimSuffix(issuer, "/")}, want: "issuer"},
		{name: "iss missing", edit: object{"iss": nil}, want: "issuer"},

		{name: "sub of the suite", edit: object{"sub": "alice1"}, want: "subject"}, // lesson 6
		{name: "sub in capitals", edit: object{"sub": "Alice"}, want: "subject"},
		{name: "sub missing", edit: object{"sub": nil}, want: "subject"},
		{name: "sub null", edit: object{"sub": null}, want: "subject"},
		{name: "sub number", edit: object{"sub": 7}, want: "subject"},
		{
			name: "no sub expected", want: "subject",
			expect: func(e *idp.ExpectRefreshed) { e.Subject = "" },
		},
		{
			name: "no sub expected, none there", edit: object{"sub": ""}, want: "subject",
			expect: func(e *idp.ExpectRefreshed) { e.Subject = "" },
		},

		{name: "aud array", edit: object{"aud": []string{clientID}}},
		{name: "aud another's", edit: object{"aud": "other"}, want: "audience"},
		{name: "aud missing", edit: object{"aud": nil}, want: "audience"},
		{name: "aud with a stranger", edit: object{"aud": []string{clientID, "x"}}, want: "audience"},
		{name: "aud with a trusted one", edit: object{"aud": []string{"api", clientID}}, config: trust},
		{name: "azp ours", edit: object{"azp": clientID}},
		{name: "azp another's", edit: object{"azp": "x"}, want: "azp"},

		{name: "at_hash", edit: object{"at_hash": hash}},
		{name: "at_hash of the old token", edit: object{"at_hash": oldHash}, want: unverified},
		{name: "at_hash number", edit: object{"at_hash": 7}, want: unverified},

		{name: "nonce missing", edit: object{"nonce": nil}},
		{name: "nonce another", edit: object{"nonce": "x"}},
		{name: "auth_time moved", edit: object{"auth_time": 0 * time.Second}},
		{name: "auth_time ahead", edit: object{"auth_time": time.Hour}},
		{name: "acr, amr and sid moved", edit: object{"acr": "x", "amr": []string{"x"}, "sid": "x"}},
		{name: "organization moved", edit: object{"org_id": "org_x"}},

		{name: "exp within the leeway", edit: object{"exp": -29 * time.Second}},
		{name: "exp passed", edit: object{"exp": -30 * time.Second}, want: unverified},
		{name: "exp missing", edit: object{"exp": nil}, want: unverified},
		{name: "exp string", edit: object{"exp": "4102444800"}, want: unverified},
		{name: "iat backdated", edit: object{"iat": -5 * time.Minute}},
		{name: "iat of the login", edit: object{"iat": -time.Hour}, want: unverified},
		{name: "iat ahead", edit: object{"iat": 31 * time.Second}, want: unverified},
		{name: "iat missing", edit: object{"iat": nil}, want: unverified},
		{name: "nbf ahead", edit: object{"nbf": 31 * time.Second}, want: unverified},
		{name: "auth_time string", edit: object{"auth_time": "946684800"}, want: unverified},
		{name: "session_expiry string", edit: object{"session_expiry": "1"}, want: unverified},
		{name: "sid number", edit: object{"sid": 7}, want: unverified},

		// A wrong token is wrong at any time.
		{name: "exp passed and another's sub", edit: object{"exp": -time.Hour, "sub": "bob"}, want: "subject"},
		{name: "iat missing and at_hash wrong", edit: object{"iat": nil, "at_hash": "x"}, want: unverified},
		{name: "claims that go-oidc cannot read", edit: object{"exp": json.RawMessage("1e999")}, want: "malformed"},
	} {
		bubble(t, c.name, func(t *testing.T) {
			edit := maps.Clone(c.edit)
			for name, v := range edit {
				if d, ok := v.(time.Duration); ok {
					edit[name] = time.Now().Add(d).Unix()
				}
			}
			e := expectRefreshed()
			if c.expect != nil {
				c.expect(&e)
			}
			p := idp.New(newFakeOP().config(c.config))
			got, err := p.VerifyRefreshed(t.Context(), rs256(claims(edit)), e)
			if out := outcome(got, err); out != c.want {
				t.Errorf("got %q, want %q (%v)", out, c.want, err)
			}
		})
	}
}

func TestRefreshedTokenIsReturned(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		now := time.Now()
		raw := rs256(claims(object{"nonce": nil, "sid": "s", "session_expiry": now.Unix() + 3600, "email": "new"}))
		got, err := newFakeOP().client().VerifyRefreshed(t.Context(), raw, expectRefreshed())
		if err != nil {
			t.Fatal(err)
		}
		if got.Issuer != issuer || got.Subject != "alice" || got.SID != "s" || !got.IssuedAt.Equal(now) ||
			!got.SessionExpiry.Equal(now.Add(time.Hour)) || !strings.Contains(string(got.Payload), `"email":"new"`) {
			t.Errorf("got %+v", got)
		}
	})
}

// RFT-03, OIDC-16: the header's rules and the signature are those of a login.
func TestRefreshedTokenForm(t *testing.T) {
	rs := object{"alg": "RS256", "kid": "rsa"}
	twice := `{"sub":"bob",` + strings.TrimPrefix(rawClaims(), "{")
	for name, c := range map[string]struct{ raw, want string }{
		"none":             {"", "missing"},
		"oversized":        {strings.Repeat("a", 64<<10+1), "size"},
		"no JWS":           {"canary", "malformed"},
		"alg none":         {sign(object{"alg": "none"}, rawClaims(), nil), "alg"},
		"another alg":      {sign(object{"alg": "HS256"}, rawClaims(), []byte(clientSecret)), "alg"},
		"crit":             {sign(with(rs, "crit", []string{"exp"}), rawClaims(), rsaKey()), "crit"},
		"an access token":  {sign(with(rs, "typ", "at+jwt"), rawClaims(), rsaKey()), "type"},
		"another key":      {sign(rs, rawClaims(), otherRSA()), "signature"},
		"unknown key":      {sign(with(rs, "kid", "x"), rawClaims(), otherRSA()), "signature"},
		"duplicate member": {sign(rs, twice, rsaKey()), "duplicate"},
		"no claims":        {sign(rs, "[]", rsaKey()), "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := newFakeOP().client().VerifyRefreshed(t.Context(), c.raw, expectRefreshed())
			if out := outcome(got, err); out != c.want {
				t.Errorf("got %q, want %q (%v)", out, c.want, err)
			}
		})
	}
	t.Run("MAC by another secret", func(t *testing.T) {
		t.Parallel()
		p := idp.New(newFakeOP().config(func(c *idp.Config) { c.SigningAlgs = []string{"HS256"} }))
		raw := sign(object{"alg": "HS256"}, rawClaims(), []byte("another"))
		if got, err := p.VerifyRefreshed(t.Context(), raw, expectRefreshed()); outcome(got, err) != "signature" {
			t.Errorf("got %v", err)
		}
	})
}

// S05: keys that cannot be had just now make nobody's token wrong.
func TestRefreshWhileTheKeysAreAway(t *testing.T) {
	for path, answers := range map[string]map[string]http.HandlerFunc{
		"/jwks": {"503": status(503, ""), "hangs": hangs, "html": says("<html>"), "empty": says(jwks())},
		"/.well-known/openid-configuration": {
			"503": status(503, ""), "hangs": hangs,
			"another issuer": says(metadata(object{"issuer": "https://x.example"})),
		},
	} {
		for name, answer := range answers {
			bubble(t, path+" "+name, func(t *testing.T) {
				op := newFakeOP()
				op.set(path, answer)
				got, err := op.client().VerifyRefreshed(t.Context(), rs256(claims(nil)), expectRefreshed())
				if outcome(got, err) != "unverified" {
					t.Errorf("got %v", err)
				}
				if away := name == "503" || name == "hangs"; errors.Is(err, idp.ErrUnreachable) != away {
					t.Errorf("the cause is lost: %v", err)
				}
			})
		}
	}
	bubble(t, "the caller goes", func(t *testing.T) {
		op := newFakeOP()
		op.set("/jwks", hangs)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		got, err := op.client().VerifyRefreshed(ctx, rs256(claims(nil)), expectRefreshed())
		if outcome(got, err) != "unverified" || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Minute) // the fetch itself goes on for others
	})
	bubble(t, "key replaced, and the key set away", func(t *testing.T) {
		op := newFakeOP()
		p := op.client()
		if err := verify(t, p, "rsa", rsaKey()); err != nil {
			t.Fatal(err)
		}
		op.set("/jwks", status(503, ""))
		raw := sign(object{"alg": "RS256", "kid": "rsa"}, claims(nil), otherRSA())
		if got, err := p.VerifyRefreshed(t.Context(), raw, expectRefreshed()); outcome(got, err) != "unverified" {
			t.Errorf("got %v", err)
		}
	})
}

// S05: a provider that signs with a key before it publishes it ends sessions only if the key set was just looked at.
func TestRefreshWhileTheKeySetLags(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		op := newFakeOP()
		p := op.client()
		try := func(kid any, key any) string {
			t.Helper()
			raw := sign(edited(object{"alg": "RS256", "kid": kid}, nil), claims(nil), key)
			return outcome(p.VerifyRefreshed(t.Context(), raw, expectRefreshed()))
		}
		if got := try("rsa", rsaKey()); got != "" {
			t.Fatal(got)
		}
		for _, step := range []struct {
			name string
			kid  any
			key  any
			want string
		}{
			{"unknown key, fetched for it", "new", otherRSA(), "signature"},
			{"unknown key, budget spent", "new", otherRSA(), "unverified"},
			{"no name, budget spent", nil, otherRSA(), "unverified"},
			{"known key, bad signature, budget spent", "rsa", otherRSA(), "signature"},
			{"known key", "rsa", rsaKey(), ""},
			{"no name, known key", nil, rsaKey(), ""},
		} {
			if got := try(step.kid, step.key); got != step.want {
				t.Errorf("%s: got %q, want %q", step.name, got, step.want)
			}
		}
		if n := op.count("/jwks"); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}
		// A login has no session to lose, and says what it always said.
		if got := check(verify(t, p, "new", otherRSA())); got != "signature" {
			t.Errorf("login: got %q", got)
		}

		time.Sleep(5 * time.Second)
		if got := try("new", otherRSA()); got != "signature" {
			t.Errorf("after the cool-down: got %q", got)
		}
		op.set("/jwks", says(jwks(jwk("rsa", &rsaKey().PublicKey), jwk("new", &otherRSA().PublicKey))))
		if got := try("new", otherRSA()); got != "unverified" {
			t.Errorf("published, not seen yet: got %q", got)
		}
		time.Sleep(5 * time.Second)
		if got := try("new", otherRSA()); got != "" {
			t.Errorf("published: got %q", got)
		}
	})
}
