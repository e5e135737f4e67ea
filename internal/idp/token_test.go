package idp_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/oidcauth/oidcauth/internal/idp"
)

const redirectURI = "https://app.example/auth/callback?x=1&y=2"

func exchange(t *testing.T, p *idp.Provider) (*idp.Tokens, error) {
	t.Helper()
	return p.Exchange(t.Context(), "code canary&=", "verifier-canary", redirectURI)
}

// OIDC-10, HYG-04
func TestTokenRequest(t *testing.T) {
	t.Parallel()
	op := newFakeOP()
	if _, err := exchange(t, op.client()); err != nil {
		t.Fatal(err)
	}
	r := op.request("/token")
	want := url.Values{
		"grant_type": {"authorization_code"}, "code": {"code canary&="}, "code_verifier": {"verifier-canary"},
		"redirect_uri": {redirectURI},
	}.Encode()
	if got := r.PostForm.Encode(); r.Method != http.MethodPost || got != want {
		t.Errorf("got %s %s, want %s", r.Method, got, want)
	}
	if r.URL.RawQuery != "" {
		t.Errorf("something is in the query: %s", r.URL.RawQuery)
	}
	if n := op.count("/token"); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// OIDC-10, GAP-08, CS-06, CS-07
func TestClientAuthentication(t *testing.T) {
	t.Parallel()
	methods := func(names ...string) object { return object{"token_endpoint_auth_methods_supported": names} }
	style := func(s oauth2.AuthStyle) func(*idp.Config) { return func(c *idp.Config) { c.AuthStyle = s } }
	public := func(c *idp.Config) { c.Public, c.ClientSecret = true, "" }
	for _, c := range []struct {
		name     string
		metadata object
		config   func(*idp.Config)
		header   bool // id and secret in the header; else in the form
	}{
		{"metadata says nothing", nil, nil, true},
		{"metadata offers both", methods("client_secret_post", "client_secret_basic"), nil, true},
		{"metadata offers basic", methods("client_secret_basic"), nil, true},
		{"metadata offers post", methods("client_secret_post"), nil, false},
		{"metadata offers neither", methods("private_key_jwt"), nil, true},
		{"metadata offers none", methods(), nil, true},
		{"form configured", methods("client_secret_basic"), style(oauth2.AuthStyleInParams), false},
		{"header configured", methods("client_secret_post"), style(oauth2.AuthStyleInHeader), true},
		{"public", methods("client_secret_basic"), public, false},
	} {
		for path, call := range map[string]func(*idp.Provider) error{
			"/token":  func(p *idp.Provider) error { _, err := exchange(t, p); return err },
			"/revoke": func(p *idp.Provider) error { return p.Revoke(t.Context(), "token", "") },
		} {
			t.Run(c.name+path, func(t *testing.T) {
				op := newFakeOP()
				op.set(wellKnown, says(metadata(c.metadata)))
				cfg := op.config(func(c *idp.Config) { c.ClientID, c.ClientSecret = "cli:ent", "se:cr%t+ é" })
				if c.config != nil {
					c.config(&cfg)
				}
				if err := call(idp.New(cfg)); err != nil {
					t.Fatal(err)
				}
				r := op.request(path)
				_, _, basic := r.BasicAuth()
				_, inForm := r.PostForm["client_id"]
				_, secretInForm := r.PostForm["client_secret"]
				if basic != c.header || inForm == c.header || secretInForm != (!c.header && !cfg.Public) {
					t.Fatalf("header %v, form %v", r.Header["Authorization"], r.PostForm)
				}
				if c.header {
					_, credential, _ := strings.Cut(r.Header.Get("Authorization"), " ")
					raw, _ := base64.StdEncoding.DecodeString(credential)
					if string(raw) != "cli%3Aent:se%3Acr%25t%2B+%C3%A9" {
						t.Errorf("got %s", raw)
					}
				} else if f := r.PostForm; f.Get("client_id")+f.Get("client_secret") != cfg.ClientID+cfg.ClientSecret {
					t.Errorf("form %v", r.PostForm)
				}
			})
		}
	}
}

// OIDC-10
func TestTokenAnswer(t *testing.T) {
	good := func(edit object) http.HandlerFunc {
		return says(edited(object{"access_token": "a", "token_type": "Bearer", "id_token": "i"}, edit))
	}
	literal := func(s string) json.RawMessage { return json.RawMessage(s) }
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   idp.Tokens
		expiry time.Duration // from now; 0: not said
		err    string        // in the error; empty: accepted
	}{
		{name: "least", answer: good(nil), want: idp.Tokens{TokenType: "Bearer"}},
		{
			name:   "all",
			answer: good(object{"refresh_token": "r ~!", "scope": "openid email", "expires_in": 3600, "x": 1}),
			want:   idp.Tokens{TokenType: "Bearer", RefreshToken: "r ~!", Scope: "openid email"}, expiry: time.Hour,
		},
		{name: "bEaReR", answer: good(object{"token_type": "bEaReR"}), want: idp.Tokens{TokenType: "bEaReR"}},
		{name: "without content type", answer: func(w http.ResponseWriter, r *http.Request) {
			good(nil)(w, r)
			w.Header().Del("Content-Type")
		}, want: idp.Tokens{TokenType: "Bearer"}},

		// OIDC-10 as corrected by security.md, lesson 9
		{
			name: "expires_in digits", answer: good(object{"expires_in": "3600"}),
			want: idp.Tokens{TokenType: "Bearer"}, expiry: time.Hour,
		},
		{
			name: "expires_in fraction", answer: good(object{"expires_in": 59.9}),
			want: idp.Tokens{TokenType: "Bearer"}, expiry: 59 * time.Second,
		},
		{
			name: "expires_in null", answer: good(object{"expires_in": literal("null")}),
			want: idp.Tokens{TokenType: "Bearer"},
		},
		{
			name: "expires_in huge", answer: good(object{"expires_in": literal("1e300")}),
			want: idp.Tokens{TokenType: "Bearer"}, expiry: 36500 * 24 * time.Hour,
		},
		{
			name: "expires_in digits, huge", answer: good(object{"expires_in": strings.Repeat("9", 400)}),
			want: idp.Tokens{TokenType: "Bearer"}, expiry: 36500 * 24 * time.Hour,
		},
		{name: "expires_in words", answer: good(object{"expires_in": "never"}), err: "expires_in"},
		{name: "expires_in signed digits", answer: good(object{"expires_in": "-1"}), err: "expires_in"},
		{name: "expires_in empty", answer: good(object{"expires_in": ""}), err: "expires_in"},
		{name: "expires_in array", answer: good(object{"expires_in": []int{1}}), err: "expires_in"},

		{name: "no access token", answer: good(object{"access_token": nil}), err: "access_token"},
		{name: "access token empty", answer: good(object{"access_token": ""}), err: "access_token"},
		{name: "access token number", answer: good(object{"access_token": 7}), err: "access_token"},
		{
			name: "access token in other letters", answer: good(object{"access_token": nil, "Access_Token": "a"}),
			err: "access_token",
		},
		{
			name:   "access token twice",
			answer: says(`{"access_token":"a","access_token":"b","token_type":"Bearer"}`), err: "twice",
		},
		{name: "token type mac", answer: good(object{"token_type": "mac"}), err: "token_type"},
		{name: "token type DPoP unasked", answer: good(object{"token_type": "DPoP"}), err: "token_type"},
		{name: "token type missing", answer: good(object{"token_type": nil}), err: "token_type"},
		{name: "id token number", answer: good(object{"id_token": 7}), err: "id_token"},
		{name: "refresh token number", answer: good(object{"refresh_token": 7}), err: "refresh_token"},
		{name: "created", answer: status(201, object{"access_token": "a", "token_type": "Bearer"}), err: "201"},
		{name: "form-encoded", answer: says("access_token=canary&token_type=Bearer"), err: "JSON"},
		{name: "array", answer: says(`["canary"]`), err: "JSON"},
		{name: "nothing", answer: says(""), err: "JSON"},
		{name: "tail", answer: says(`{"access_token":"canary","token_type":"Bearer"} x`), err: "JSON"},
		{
			name: "error with status 200", answer: says(object{"error": "bad_verification_code"}),
			err: "bad_verification_code",
		},
	} {
		bubble(t, c.name, func(t *testing.T) {
			op := newFakeOP()
			op.set("/token", c.answer)
			got, err := exchange(t, op.client())
			if c.err != "" {
				wantError(t, err, c.err)
				if strings.Contains(err.Error(), "canary") || errors.Is(err, idp.ErrUnreachable) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c.want.AccessToken, c.want.IDToken = "a", "i"
			if c.expiry != 0 {
				c.want.Expiry = time.Now().Add(c.expiry)
			}
			if *got != c.want {
				t.Errorf("got %#v, %v", *got, got.Expiry)
			}
		})
	}
}

// OIDC-11: S44 wants the tokens of a failed login revoked, so a missing ID token is noticed where it is verified.
func TestMissingIDTokenIsLeftToVerification(t *testing.T) {
	t.Parallel()
	op := newFakeOP()
	op.set("/token", says(object{"access_token": "a", "token_type": "Bearer", "refresh_token": "r"}))
	p := op.client()
	got, err := exchange(t, p)
	if err != nil || got.RefreshToken != "r" {
		t.Fatalf("got %v", err)
	}
	_, err = p.VerifyIDToken(t.Context(), got.IDToken, expect())
	if check(err) != "missing" {
		t.Errorf("got %v", err)
	}
}

// RFC 6749 5.2; GAP-09, HYG-05
func TestOAuthErrors(t *testing.T) {
	t.Parallel()
	for path, call := range map[string]func(*idp.Provider) error{
		"/token":  func(p *idp.Provider) error { _, err := exchange(t, p); return err },
		"/revoke": func(p *idp.Provider) error { return p.Revoke(t.Context(), "canary", "refresh_token") },
	} {
		op := newFakeOP()
		op.set(path, status(403, object{
			"error": "mfa_required", "error_description": "canary", "error_uri": "https://op.example/canary",
			"mfa_token": "canary", "n": 1,
		}))
		err := call(op.client())
		e, ok := errors.AsType[*idp.Error](err)
		if !ok || e.Code != "mfa_required" || e.Status != 403 || e.Description != "canary" {
			t.Fatalf("%s: got %v", path, err)
		}
		if strings.Join(sorted(e.Raw), " ") != "mfa_token n" || e.Raw["mfa_token"] != "canary" {
			t.Errorf("%s: raw members %v", path, sorted(e.Raw))
		}
		wantError(t, err, "mfa_required", "403")
		if text := fmt.Sprintf("%v %+v %#v", err, err, e); strings.Contains(text, "canary") {
			t.Errorf("%s: printed %s", path, text)
		}

		op.set(path, status(401, object{"error": "invalid_client"}))
		wantError(t, call(op.client()), "invalid_client", "secret", "AuthStyle")

		for _, body := range []any{
			"<html>canary</html>", "", "[]", `{"error":7}`, `{"error":{"code":"canary"}}`, `{"error":""}`,
			`{"message":"canary"}`,
		} {
			op.set(path, status(400, body))
			err := call(op.client())
			wantError(t, err, "400")
			if _, ok := errors.AsType[*idp.Error](err); ok || strings.Contains(err.Error(), "canary") {
				t.Errorf("%s: %q: got %v", path, body, err)
			}
		}

		// Lesson 7: an outage stays one, whatever the code in it.
		op.set(path, status(503, object{"error": "invalid_grant"}))
		if err := call(op.client()); !errors.Is(err, idp.ErrUnreachable) {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

func TestALongErrorCodeIsCut(t *testing.T) {
	t.Parallel()
	op := newFakeOP()
	op.set("/token", status(400, object{"error": strings.Repeat("x", 1000) + "\n"}))
	if _, err := exchange(t, op.client()); err == nil || len(err.Error()) > 200 || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}

// S16: what an error response means for the session.
func TestErrorKind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code, suberror string
		want           idp.ErrorKind
	}{
		{"invalid_grant", "", idp.Ended},
		{"invalid_grant", "bad_token", idp.Ended},
		{"invalid_grant", "token_expired", idp.Ended},
		{"invalid_grant", "client_mismatch", idp.Ended},
		{"invalid_grant", "some other", idp.Ended},
		{"invalid_grant", "BASIC_ACTION", idp.Ended},

		{"interaction_required", "", idp.Interaction},
		{"interaction_required", "bad_token", idp.Interaction},
		{"consent_required", "", idp.Interaction},
		{"login_required", "", idp.Interaction},
		{"account_selection_required", "", idp.Interaction},
		{"access_denied", "", idp.Interaction},
		{"invalid_grant", "interaction_required", idp.Interaction},
		{"invalid_grant", "consent_required", idp.Interaction},
		{"invalid_grant", "login_required", idp.Interaction},
		{"invalid_grant", "account_selection_required", idp.Interaction},
		{"invalid_grant", "access_denied", idp.Interaction},
		{"invalid_grant", "basic_action", idp.Interaction},
		{"invalid_grant", "additional_action", idp.Interaction},
		{"invalid_grant", "message_only", idp.Interaction},
		{"invalid_grant", "user_password_expired", idp.Interaction},
		{"invalid_grant", "protection_policy_required", idp.Interaction},
		{"invalid_grant", "device_authentication_failed", idp.Interaction},
		{"unauthorized_client", "protection_policy_required", idp.Interaction}, // as Entra sends it

		{"mfa_required", "", idp.MFA},
		{"invalid_grant", "mfa_required", idp.MFA},
		{"interaction_required", "mfa_required", idp.MFA},

		{"invalid_client", "", idp.Refused},
		{"unauthorized_client", "", idp.Refused},
		{"invalid_request", "", idp.Refused},
		{"invalid_scope", "", idp.Refused},
		{"invalid_target", "", idp.Refused},
		{"unsupported_grant_type", "", idp.Refused},
		{"temporarily_unavailable", "", idp.Refused},
		{"server_error", "bad_token", idp.Refused},
		{"INVALID_GRANT", "", idp.Refused},
		{"unknown", "", idp.Refused},
	} {
		op := newFakeOP()
		op.set("/token", status(400, edited(object{
			"error": c.code, "error_description": "invalid_grant mfa_required", "suberror": nonEmpty(c.suberror),
		}, nil)))
		got, err := refresh(t, op.client())
		e, ok := errors.AsType[*idp.Error](err)
		if !ok || got != nil || e.Kind() != c.want {
			t.Errorf("%s, suberror %q: got %v, want kind %d", c.code, c.suberror, err, c.want)
		}
	}
	for _, raw := range []object{
		nil, {"suberror": 7}, {"suberror": []any{"basic_action"}}, {"Suberror": "basic_action"},
	} {
		if got := (&idp.Error{Code: "invalid_grant", Status: 400, Raw: raw}).Kind(); got != idp.Ended {
			t.Errorf("%v: got %d", raw, got)
		}
	}
	for status, want := range map[int]idp.ErrorKind{
		400: idp.Ended, 401: idp.Ended, 403: idp.Ended, 429: idp.Refused, 500: idp.Refused, 503: idp.Refused,
	} {
		if got := (&idp.Error{Code: "invalid_grant", Status: status}).Kind(); got != want {
			t.Errorf("status %d: got %d, want %d", status, got, want)
		}
	}
}

// RFC 7009
func TestRevoke(t *testing.T) {
	t.Parallel()
	op := newFakeOP()
	if err := op.client().Revoke(t.Context(), "tok en", "refresh_token"); err != nil {
		t.Fatal(err)
	}
	r := op.request("/revoke")
	if got := r.PostForm.Encode(); got != "token=tok+en&token_type_hint=refresh_token" {
		t.Errorf("got %s", got)
	}
	err := op.client().Revoke(t.Context(), "t", "")
	if err != nil || op.request("/revoke").PostForm.Has("token_type_hint") {
		t.Errorf("without hint: %v", err)
	}

	op.set(wellKnown, says(metadata(object{"revocation_endpoint": nil})))
	before := op.count("/revoke")
	if err := op.client().Revoke(t.Context(), "t", ""); err != nil || op.count("/revoke") != before { // CS-04
		t.Errorf("without an endpoint: %v", err)
	}
}

func FuzzTokenAnswer(f *testing.F) {
	f.Add(200, []byte(`{"access_token":"a","token_type":"Bearer","id_token":"i","expires_in":"3600"}`))
	f.Add(200, []byte(`{"access_token":"a","ACCESS_TOKEN":7,"token_type":"bearer","expires_in":1e999}`))
	f.Add(400, []byte(`{"error":"invalid_grant","error_description":7,"x":[]}`))
	op := newFakeOP()
	f.Fuzz(func(t *testing.T, code int, body []byte) {
		if code < 200 || code > 599 {
			return
		}
		op.set("/token", status(code, string(body)))
		got, err := exchange(t, op.client())
		if err == nil && (code != 200 || got.AccessToken == "" || !strings.EqualFold(got.TokenType, "bearer")) {
			t.Errorf("accepted %d %q", code, body)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("the error repeats the request: %v", err)
		}
	})
}
