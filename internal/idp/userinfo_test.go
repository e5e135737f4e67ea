package idp_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/idp"
)

// OIDC-32, CS-11
func TestUserInfoRequest(t *testing.T) {
	t.Parallel()
	op := newFakeOP()
	got, err := op.client().UserInfo(t.Context(), accessToken, "alice")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != `{"email":"a@example.com","sub":"alice"}` {
		t.Errorf("got %s", got)
	}
	r := op.request("/userinfo")
	if r.Method != http.MethodGet || r.Header.Get("Authorization") != "Bearer "+accessToken || len(r.Form) != 0 {
		t.Errorf("got %s %s %v", r.Method, r.URL, r.Header)
	}
}

func saysAs(contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		io.WriteString(w, body)
	}
}

// OIDC-32, OIDC-33, OIDC-35
func TestUserInfoAnswer(t *testing.T) {
	good := object{"iss": issuer, "aud": clientID, "sub": "alice"}
	signed := func(edit object) string {
		c := edited(maps.Clone(good), edit)
		return rs256(c)
	}
	jwt := func(raw string) http.HandlerFunc { return saysAs("application/jwt; charset=utf-8", raw) }
	registered := func(c *idp.Config) { c.UserInfoSigningAlg = "RS256" }
	other := func(c *idp.Config) { c.UserInfoSigningAlg = "ES256" }
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		config func(*idp.Config)
		want   string // in the error; empty: accepted
	}{
		// OIDC-32
		{"good", says(object{"sub": "alice"}), nil, ""},
		{"content type of another kind", saysAs("text/plain", `{"sub":"alice"}`), nil, ""},
		{"no content type", saysAs("", `{"sub":"alice"}`), nil, ""},
		{"sub of the suite", says(object{"sub": "aliceinvalid"}), nil, "sub"},
		{"sub in capitals", says(object{"sub": "Alice"}), nil, "sub"},
		{"sub missing", says(object{"email": "a@example.com"}), nil, "sub"},
		{"sub empty", says(object{"sub": ""}), nil, "sub"},
		{"sub array", says(object{"sub": []string{"alice"}}), nil, "sub"},
		{"sub in other letters", says(object{"Sub": "alice"}), nil, "sub"},
		{"sub twice", says(`{"sub":"alice","sub":"alice"}`), nil, "twice"},
		{"array", says(`[{"sub":"alice"}]`), nil, "JSON"}, // lesson 31
		{"string", says(`"alice"`), nil, "JSON"},
		{"null", says(`null`), nil, "JSON"},
		{"html", says("<html>"), nil, "JSON"},
		{"nothing", says(""), nil, "JSON"},
		{"no content", status(204, ""), nil, "204"},
		{"not found", status(404, object{"sub": "alice"}), nil, "404"},

		// OIDC-33
		{"signed", jwt(signed(nil)), nil, ""},
		{"signed as registered", jwt(signed(nil)), registered, ""},
		{"plain although signing is registered", says(object{"sub": "alice"}), registered, "not signed"},
		{"signed with another algorithm", jwt(signed(nil)), other, "RS256"},
		{
			"alg none",
			jwt(sign(object{"alg": "none"}, good, nil)), nil,
			"none",
		},
		{
			"signed by another key",
			jwt(sign(object{"alg": "RS256", "kid": "rsa"}, good, otherRSA())),
			nil, "verifies",
		},
		{"encrypted", jwt("a.b.c.d.e"), nil, "encrypted"},
		{"JSON called a JWT", jwt(`{"sub":"alice"}`), nil, "compact"},
		{"JWT called JSON", saysAs("application/json", signed(nil)), nil, "JSON"},
		{"signed, another issuer", jwt(signed(object{"iss": "https://evil.example/"})), nil, "iss"},
		{"signed, no issuer", jwt(signed(object{"iss": nil})), nil, "iss"},
		{"signed, for another", jwt(signed(object{"aud": "x"})), nil, "aud"},
		{"signed, for several", jwt(signed(object{"aud": []string{"x", clientID}})), nil, ""},
		{"signed, for nobody", jwt(signed(object{"aud": nil})), nil, "aud"},
		{"signed, another sub", jwt(signed(object{"sub": "mallory"})), nil, "sub"},
		{
			"signed, typed as another kind",
			jwt(sign(object{"alg": "RS256", "kid": "rsa", "typ": "at+jwt"}, good, rsaKey())),
			nil, "at+jwt",
		},
		{"signed, an array", jwt(sign(object{"alg": "RS256", "kid": "rsa"}, "[]", rsaKey())), nil, "JSON"},
	} {
		bubble(t, c.name, func(t *testing.T) {
			op := newFakeOP()
			op.set("/userinfo", c.answer)
			got, err := idp.New(op.config(c.config)).UserInfo(t.Context(), accessToken, "alice")
			if c.want == "" {
				if err != nil || !json.Valid(got) {
					t.Errorf("refused: %v", err)
				}
				return
			}
			wantError(t, err, c.want)
			if _, ok := errors.AsType[*idp.UserInfoError](err); !ok {
				t.Errorf("got a %T", err)
			}
			if _, ok := errors.AsType[*idp.TokenError](err); ok {
				t.Errorf("called a wrong id token: %v", err)
			}
		})
	}
}

// OIDC-35
func TestUserInfoRefusesTheAccessToken(t *testing.T) {
	t.Parallel()
	for _, code := range []int{401, 403} {
		op := newFakeOP()
		op.set("/userinfo", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token", error_description="`+accessToken+`"`)
			w.WriteHeader(code)
			io.WriteString(w, accessToken)
		})
		_, err := op.client().UserInfo(t.Context(), accessToken, "alice")
		e, ok := errors.AsType[*idp.UserInfoError](err)
		if !ok || e.Status != code || strings.Contains(err.Error(), accessToken) {
			t.Errorf("got %v", err)
		}
	}
}

func TestUserInfoWithoutEndpoint(t *testing.T) {
	t.Parallel()
	op := newFakeOP()
	op.set(wellKnown, says(metadata(object{"userinfo_endpoint": nil})))
	_, err := op.client().UserInfo(t.Context(), accessToken, "alice")
	if _, ok := errors.AsType[*idp.UserInfoError](err); !ok || op.count("/userinfo") != 0 {
		t.Errorf("got %v", err)
	}
	wantError(t, err, "userinfo_endpoint")
}

// An empty subject is a mistake of ours, and must not match an answer without one.
func TestUserInfoNeedsASubject(t *testing.T) {
	t.Parallel()
	op := newFakeOP()
	op.set("/userinfo", says(`{}`))
	if _, err := op.client().UserInfo(t.Context(), accessToken, ""); err == nil {
		t.Error("accepted")
	}
}

func TestKeySetOutageDuringUserInfoIsUnreachable(t *testing.T) {
	t.Parallel()
	op := newFakeOP()
	op.set("/userinfo", saysAs("application/jwt", rs256(object{"sub": "alice"})))
	op.set("/jwks", status(503, ""))
	if _, err := op.client().UserInfo(t.Context(), accessToken, "alice"); !errors.Is(err, idp.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	p := op.client()
	if _, err := p.Metadata(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := p.UserInfo(ctx, accessToken, "alice"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func FuzzUserInfo(f *testing.F) {
	good := object{"iss": issuer, "aud": clientID, "sub": "alice"}
	f.Add("application/json", []byte(`{"sub":"alice"}`))
	f.Add("application/json", []byte(`{"sub":"alice","Sub":"bob","sub":"bob"}`))
	f.Add("application/jwt", []byte(sign(object{"alg": "RS256", "kid": "rsa"}, good, otherRSA())))
	f.Add("application/jwt", []byte(sign(object{"alg": "none"}, good, nil)))
	op := newFakeOP()
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		op.set("/userinfo", saysAs(contentType, string(body)))
		got, err := op.client().UserInfo(t.Context(), accessToken, "alice")
		if err != nil {
			return
		}
		var c map[string]any
		if json.Unmarshal(got, &c) != nil || c["sub"] != "alice" || strings.HasPrefix(contentType, "application/jwt") {
			t.Errorf("accepted %q as %q", body, contentType)
		}
	})
}
