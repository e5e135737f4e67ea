package idp_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/oidcauth/oidcauth/internal/idp"
)

const (
	issuer       = "https://op.example/"
	clientID     = "client"
	clientSecret = "a client secret of thirty-two octets, and more"
	nonce        = "n-0S6_WzA2Mj"
	accessToken  = "access-token-canary"
)

var (
	rsaKey   = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	otherRSA = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	weakRSA  = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 1024)) })
	ecKey    = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	ec384Key = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	// strangeKey is nobody's: no provider publishes it.
	strangeKey = ed25519.NewKeyFromSeed([]byte(strings.Repeat("x", ed25519.SeedSize)))

	edKey = sync.OnceValue(func() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, 32)) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// edOnly makes a client that accepts EdDSA alone, which fuzz targets verify ten times as fast.
func edOnly(c *idp.Config) { c.SigningAlgs = []string{"EdDSA"} }

// A fakeOP is a provider in memory: a RoundTripper that answers by path.
type fakeOP struct {
	mu      sync.Mutex
	answers map[string]http.HandlerFunc
	asked   map[string]int
	last    map[string]*http.Request // with its form parsed
}

func newFakeOP() *fakeOP {
	op := &fakeOP{answers: map[string]http.HandlerFunc{}, asked: map[string]int{}, last: map[string]*http.Request{}}
	op.set("/.well-known/openid-configuration", says(metadata(nil)))
	op.set("/jwks", func(w http.ResponseWriter, r *http.Request) {
		says(jwks(jwk("rsa", &rsaKey().PublicKey)))(w, r) // made on demand: fuzz workers make no RSA key
	})
	op.set("/token", says(object{"access_token": accessToken, "token_type": "Bearer", "id_token": "raw"}))
	op.set("/userinfo", says(object{"sub": "alice", "email": "a@example.com"}))
	op.set("/revoke", func(http.ResponseWriter, *http.Request) {})
	return op
}

func (op *fakeOP) set(path string, h http.HandlerFunc) {
	op.mu.Lock()
	defer op.mu.Unlock()
	op.answers[path] = h
}

// count returns how often path was asked for.
func (op *fakeOP) count(path string) int {
	op.mu.Lock()
	defer op.mu.Unlock()
	return op.asked[path]
}

func (op *fakeOP) request(path string) *http.Request {
	op.mu.Lock()
	defer op.mu.Unlock()
	return op.last[path]
}

func (op *fakeOP) RoundTrip(r *http.Request) (*http.Response, error) {
	seen := r.Clone(r.Context())
	if err := seen.ParseForm(); err != nil {
		return nil, err
	}
	op.mu.Lock()
	op.asked[r.URL.Path]++
	op.last[r.URL.Path] = seen
	h := op.answers[r.URL.Path]
	op.mu.Unlock()
	if h == nil {
		h = http.NotFound
	}
	w := httptest.NewRecorder()
	h(w, r)
	if r.Context().Err() != nil {
		return nil, r.Context().Err()
	}
	res := w.Result()
	res.Request = r
	return res, nil
}

// config returns the configuration of a client of op, changed by edit.
func (op *fakeOP) config(edit func(*idp.Config)) idp.Config {
	cfg := idp.Config{
		Issuer: issuer, ClientID: clientID, ClientSecret: clientSecret,
		HTTPClient: &http.Client{Transport: op},
	}
	if edit != nil {
		edit(&cfg)
	}
	return cfg
}

func (op *fakeOP) client() *idp.Provider { return idp.New(op.config(nil)) }

type object = map[string]any

// says answers with v as JSON, or as it is if it is a string.
func says(v any) http.HandlerFunc { return status(http.StatusOK, v) }

func status(code int, v any) http.HandlerFunc {
	body, ok := v.(string)
	if !ok {
		body = string(must(json.Marshal(v)))
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		io.WriteString(w, body)
	}
}

// hangs answers nothing until the client gives up.
func hangs(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// metadata returns a good document, changed by edit; a nil value removes the member.
func metadata(edit object) object {
	m := object{
		"issuer":                                issuer,
		"authorization_endpoint":                issuer + "authorize",
		"token_endpoint":                        issuer + "token",
		"jwks_uri":                              issuer + "jwks",
		"userinfo_endpoint":                     issuer + "userinfo",
		"end_session_endpoint":                  issuer + "logout",
		"revocation_endpoint":                   issuer + "revoke",
		"id_token_signing_alg_values_supported": []string{"RS256", "ES256", "ES384", "EdDSA", "HS256", "PS256"},
	}
	return edited(m, edit)
}

func edited(m, edit object) object {
	maps.Copy(m, edit)
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	return m
}

func jwks(keys ...object) object { return object{"keys": keys} }

// jwk returns key as a JWK with the given kid, none if it is empty.
func jwk(kid string, key crypto.PublicKey) object {
	var o object
	must(o, json.Unmarshal(must(jose.JSONWebKey{Key: key, KeyID: kid}.MarshalJSON()), &o))
	return o
}

func with(o object, name string, value any) object {
	o = maps.Clone(o)
	o[name] = value
	return o
}

// claims returns those of a good ID token, changed by edit; a nil value removes the claim.
func claims(edit object) object {
	now := time.Now().Unix()
	return edited(object{
		"iss": issuer, "sub": "alice", "aud": clientID, "nonce": nonce,
		"iat": now, "exp": now + 300,
	}, edit)
}

// sign returns a compact JWS made with the algorithm that header names, or with none for one it does not know.
func sign(header object, payload any, key any) string {
	body, ok := payload.(string)
	if !ok {
		body = string(must(json.Marshal(payload)))
	}
	input := b64(must(json.Marshal(header))) + "." + b64([]byte(body))
	return input + "." + b64(signature(header["alg"], input, key))
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func signature(alg any, input string, key any) []byte {
	digest := sha256.Sum256([]byte(input))
	switch alg {
	case "RS256":
		return must(rsa.SignPKCS1v15(nil, key.(*rsa.PrivateKey), crypto.SHA256, digest[:]))
	case "PS256":
		return must(rsa.SignPSS(rand.Reader, key.(*rsa.PrivateKey), crypto.SHA256, digest[:], nil))
	case "ES256":
		r, s, err := ecdsa.Sign(rand.Reader, key.(*ecdsa.PrivateKey), digest[:])
		return append(must(r, err).FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case "EdDSA":
		return ed25519.Sign(key.(ed25519.PrivateKey), []byte(input))
	case "HS256":
		mac := hmac.New(sha256.New, key.([]byte))
		mac.Write([]byte(input))
		return mac.Sum(nil)
	}
	return nil
}

// rs256 signs c with the provider's first key.
func rs256(c any) string { return sign(object{"alg": "RS256", "kid": "rsa"}, c, rsaKey()) }

func expect() idp.Expect { return idp.Expect{Nonce: nonce, AccessToken: accessToken} }

// check returns the name of the check that refused, "" for no error, and the whole error for another kind of one.
func check(err error) string {
	if refused, ok := errors.AsType[*idp.TokenError](err); ok {
		return refused.Check
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func bubble(t *testing.T, name string, f func(*testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, f)
	})
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}

func TestConfigIsValidated(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(*idp.Config)
		want string
	}{
		"good":                {func(*idp.Config) {}, ""},
		"good, loopback":      {func(c *idp.Config) { c.Issuer = "http://127.0.0.1:8080" }, ""},
		"good, loopback six":  {func(c *idp.Config) { c.Issuer = "http://[::1]" }, ""},
		"good, localhost":     {func(c *idp.Config) { c.Issuer = "http://localhost:1" }, ""},
		"good, http allowed":  {func(c *idp.Config) { c.Issuer, c.AllowHTTP = "http://op.example", true }, ""},
		"good, public":        {func(c *idp.Config) { c.ClientSecret, c.Public = "", true }, ""},
		"good, MAC":           {func(c *idp.Config) { c.SigningAlgs = []string{"HS256"} }, ""},
		"http":                {func(c *idp.Config) { c.Issuer = "http://op.example" }, "https"},        // DISC-01
		"localhost in a name": {func(c *idp.Config) { c.Issuer = "http://localhost.example" }, "https"}, // DISC-01
		"ftp":                 {func(c *idp.Config) { c.Issuer = "ftp://op.example" }, "https"},         // DISC-01
		"query": { // DISC-01
			func(c *idp.Config) { c.Issuer = issuer + "?a=b" }, "query",
		},
		"fragment": { // DISC-01
			func(c *idp.Config) { c.Issuer = issuer + "#" }, "fragment",
		},
		"user":                   {func(c *idp.Config) { c.Issuer = "https://u:p@op.example" }, "user name"}, // DISC-01
		"no host":                {func(c *idp.Config) { c.Issuer = "https:///path" }, "absolute"},
		"no issuer":              {func(c *idp.Config) { c.Issuer = "" }, "absolute"},
		"no client":              {func(c *idp.Config) { c.ClientID = "" }, "client id"},
		"no credential":          {func(c *idp.Config) { c.ClientSecret = "" }, "secret"},
		"secret of a public one": {func(c *idp.Config) { c.Public = true }, "secret"},
		"alg none":               {func(c *idp.Config) { c.SigningAlgs = []string{"none"} }, "none"}, // OIDC-16
		"alg unknown":            {func(c *idp.Config) { c.UserInfoSigningAlg = "RS1" }, "RS1"},
		"MAC, public": { // OIDC-17
			func(c *idp.Config) { c.ClientSecret, c.Public, c.SigningAlgs = "", true, []string{"HS256"} }, "HS256",
		},
		"MAC, short secret": { // OIDC-17
			func(c *idp.Config) { c.SigningAlgs, c.ClientSecret = []string{"HS256"}, clientSecret[:31] }, "32",
		},
		"MAC, short for its hash": { // OIDC-17
			func(c *idp.Config) { c.SigningAlgs, c.ClientSecret = []string{"HS512"}, clientSecret[:40] }, "64",
		},
		"MAC of userinfo, too": {
			func(c *idp.Config) { c.UserInfoSigningAlg, c.ClientSecret = "HS256", "short" }, "32",
		},
	} {
		t.Run(name, func(t *testing.T) {
			op := newFakeOP()
			cfg := op.config(c.edit)
			err := cfg.Validate()
			if c.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			wantError(t, err, c.want)
			if _, got := idp.New(cfg).Metadata(t.Context()); got == nil || got.Error() != err.Error() {
				t.Errorf("Metadata: got %v, want %v", got, err)
			}
			if n := op.count("/.well-known/openid-configuration"); n != 0 {
				t.Errorf("%d requests with a mistaken configuration", n)
			}
		})
	}
}

// HYG-04, DISC-04
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	for path, call := range map[string]func(context.Context, *idp.Provider) error{
		"/.well-known/openid-configuration": func(ctx context.Context, p *idp.Provider) error {
			_, err := p.Metadata(ctx)
			return err
		},
		"/jwks": func(ctx context.Context, p *idp.Provider) error {
			_, err := p.VerifyIDToken(ctx, rs256(claims(nil)), expect())
			return err
		},
		"/token": func(ctx context.Context, p *idp.Provider) error {
			_, err := p.Exchange(ctx, "code", "verifier", "https://app.example/cb")
			return err
		},
		"/userinfo": func(ctx context.Context, p *idp.Provider) error {
			_, err := p.UserInfo(ctx, accessToken, "alice")
			return err
		},
		"/revoke": func(ctx context.Context, p *idp.Provider) error { return p.Revoke(ctx, "token", "") },
	} {
		t.Run(path, func(t *testing.T) {
			for _, code := range []int{301, 302, 303, 307, 308} {
				op := newFakeOP()
				op.set(path, func(w http.ResponseWriter, r *http.Request) {
					http.Redirect(w, r, "https://evil.example/target?secret=canary", code)
				})
				err := call(t.Context(), op.client())
				wantError(t, err, "redirect", "https://evil.example")
				if strings.Contains(err.Error(), "canary") {
					t.Errorf("the error repeats the query: %v", err)
				}
				if op.count("/target") != 0 {
					t.Errorf("status %d was followed", code)
				}
			}
		})
	}
}

func TestCallersHTTPClientIsNotChanged(t *testing.T) { // lesson 40
	t.Parallel()
	op := newFakeOP()
	follow := func(*http.Request, []*http.Request) error { return nil }
	jar := &spyJar{}
	given := &http.Client{Transport: op, CheckRedirect: follow, Jar: jar, Timeout: time.Hour}
	p := idp.New(op.config(func(c *idp.Config) { c.HTTPClient = given }))
	if _, err := p.Metadata(t.Context()); err != nil {
		t.Fatal(err)
	}
	if given.CheckRedirect == nil || given.Jar != jar || given.Transport != op || given.Timeout != time.Hour {
		t.Error("the client was changed")
	}
	if jar.asked { // HYG-04
		t.Error("the cookie jar was used")
	}
}

type spyJar struct{ asked bool }

func (j *spyJar) SetCookies(*url.URL, []*http.Cookie) { j.asked = true }
func (j *spyJar) Cookies(*url.URL) (c []*http.Cookie) { j.asked = true; return nil }

// HYG-04
func TestDefaultHTTPClient(t *testing.T) {
	t.Parallel()
	c := idp.DefaultHTTPClient()
	tr := c.Transport.(*http.Transport)
	if tr.TLSClientConfig.MinVersion < 0x0303 || c.Timeout != 0 || c.Jar != nil {
		t.Error("not TLS 1.2, no timeout, no jar")
	}
	if err := c.CheckRedirect(nil, nil); !errors.Is(err, http.ErrUseLastResponse) {
		t.Error("follows redirects")
	}
}

// THR-41, THR-43: which failures mean that the provider is away, and how long they take to be noticed.
func TestAProviderThatIsAwayIsUnreachable(t *testing.T) {
	t.Parallel()
	type call = func(context.Context, *idp.Provider) error
	exchange := call(func(ctx context.Context, p *idp.Provider) error {
		_, err := p.Exchange(ctx, "code", "verifier", "https://app.example/cb")
		return err
	})
	verify := call(func(ctx context.Context, p *idp.Provider) error {
		_, err := p.VerifyIDToken(ctx, rs256(claims(nil)), expect())
		return err
	})
	userInfo := call(func(ctx context.Context, p *idp.Provider) error {
		_, err := p.UserInfo(ctx, accessToken, "alice")
		return err
	})
	revoke := call(func(ctx context.Context, p *idp.Provider) error { return p.Revoke(ctx, "token", "refresh_token") })
	for _, c := range []struct {
		path    string
		call    call
		timeout time.Duration
	}{
		{"/.well-known/openid-configuration", exchange, 10 * time.Second},
		{"/jwks", verify, 10 * time.Second},
		{"/token", exchange, 30 * time.Second},
		{"/userinfo", userInfo, 10 * time.Second},
		{"/revoke", revoke, 10 * time.Second},
	} {
		for _, code := range []int{429, 500, 502, 503} {
			bubble(t, fmt.Sprint(c.path, code), func(t *testing.T) {
				op := newFakeOP()
				op.set(c.path, status(code, "<html>down</html>"))
				if err := c.call(t.Context(), op.client()); !errors.Is(err, idp.ErrUnreachable) {
					t.Errorf("got %v", err)
				}
			})
		}
		bubble(t, c.path+" hangs", func(t *testing.T) {
			op := newFakeOP()
			op.set(c.path, hangs)
			start := time.Now()
			err := c.call(t.Context(), op.client())
			if !errors.Is(err, idp.ErrUnreachable) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if got := time.Since(start); got != c.timeout {
				t.Errorf("took %v, want %v", got, c.timeout)
			}
		})
		bubble(t, c.path+" and the caller goes away", func(t *testing.T) {
			op := newFakeOP()
			op.set(c.path, hangs)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			err := c.call(ctx, op.client())
			if errors.Is(err, idp.ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			// A shared fetch goes on for the others, up to its own deadline.
			time.Sleep(time.Minute)
		})
		bubble(t, c.path+" never stops", func(t *testing.T) {
			op := newFakeOP()
			op.set(c.path, says(`{"a":"`+strings.Repeat("x", 2<<20)+`"}`))
			wantError(t, c.call(t.Context(), op.client()), "larger than")
		})
	}
}

// HYG-05, S46
func TestNothingSecretIsPrinted(t *testing.T) {
	t.Parallel()
	for _, v := range []any{
		idp.Config{ClientSecret: "canary"},
		&idp.Config{ClientSecret: "canary"},
		idp.Tokens{AccessToken: "canary", RefreshToken: "canary", IDToken: "canary"},
		&idp.Tokens{AccessToken: "canary", RefreshToken: "canary", IDToken: "canary"},
		&idp.Error{Code: "mfa_required", Description: "canary", Raw: object{"mfa_token": "canary"}},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			if got := fmt.Sprintf(verb, v); strings.Contains(got, "canary") {
				t.Errorf("%s of %T prints %s", verb, v, got)
			}
		}
	}
}

func sorted(m object) []string { return slices.Sorted(maps.Keys(m)) }
