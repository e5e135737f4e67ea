package idp_test

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/oidcauth/oidcauth/internal/idp"
)

// verify verifies a good token signed by key under kid.
func verify(t *testing.T, p *idp.Provider, kid string, key any) error {
	t.Helper()
	return verifyCtx(t.Context(), p, kid, key)
}

func verifyCtx(ctx context.Context, p *idp.Provider, kid string, key any) error {
	raw := sign(edited(object{"alg": "RS256"}, object{"kid": nonEmpty(kid)}), claims(nil), key)
	_, err := p.VerifyIDToken(ctx, raw, expect())
	return err
}

func nonEmpty(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func elsewhere(t *testing.T, p *idp.Provider, kid string, key any) error {
	t.Helper()
	return p.VerifyFromElsewhere(t.Context(), sign(object{"alg": "RS256", "kid": kid}, claims(nil), key))
}

// OIDC-26, OIDC-27, OIDC-29, GAP-05, GAP-11, CS-14: which published keys may verify an RS256 token signed by rsaKey.
func TestKeyChoice(t *testing.T) {
	rsaPub, other := &rsaKey().PublicKey, &otherRSA().PublicKey
	good := jwk("k", rsaPub)
	zero := b64(make([]byte, 32))
	secp256k1 := object{"kty": "EC", "crv": "secp256k1", "kid": "k", "x": zero, "y": zero}
	ed448 := object{"kty": "OKP", "crv": "Ed448", "kid": "k", "x": b64(make([]byte, 57))}
	oct := object{"kty": "oct", "k": b64([]byte(clientSecret)), "kid": "k"}
	future := object{"kty": "AKP", "alg": "ML-DSA-65", "pub": "AAAA", "kid": "k"}
	offCurve := with(jwk("k", &ecKey().PublicKey), "x", zero)
	var private object
	must(private, json.Unmarshal(must(jose.JSONWebKey{Key: rsaKey(), KeyID: "k"}.MarshalJSON()), &private))
	many := make([]object, 0, 100)
	for i := range 100 {
		many = append(many, jwk(fmt.Sprint(i), other))
	}

	for _, c := range []struct {
		name string
		kid  string
		keys []object
		want string
	}{
		{"the one named", "k", []object{jwk("x", other), good}, ""},
		{"another name", "x", []object{good}, "signature"},
		{"name in capitals", "K", []object{good}, "signature"},
		{"named, published without name", "k", []object{jwk("", rsaPub)}, "signature"},
		{"no name anywhere, one key", "", []object{jwk("", rsaPub)}, ""},
		{
			"no name anywhere, several keys", "",
			[]object{jwk("", other), jwk("", &ecKey().PublicKey), jwk("", rsaPub)},
			"",
		},
		{"no name in the token, several keys", "", []object{jwk("x", other), good}, ""},
		{"no name and no key", "", []object{jwk("x", other)}, "signature"},
		{"use sig", "k", []object{with(good, "use", "sig")}, ""},
		{"use enc", "k", []object{with(good, "use", "enc"), jwk("x", other)}, "signature"},
		{"use enc, no name", "", []object{with(good, "use", "enc"), jwk("x", other)}, "signature"},
		{"use not a string", "k", []object{with(good, "use", 1), jwk("x", other)}, "signature"},
		{"key_ops verify", "k", []object{with(good, "key_ops", []string{"encrypt", "verify"})}, ""},
		{
			"key_ops without verify", "k",
			[]object{with(good, "key_ops", []string{"encrypt"}), jwk("x", other)},
			"signature",
		},
		{"key_ops empty", "k", []object{with(good, "key_ops", []string{}), jwk("x", other)}, "signature"},
		{"alg equal", "k", []object{with(good, "alg", "RS256")}, ""},
		{"alg another", "k", []object{with(good, "alg", "PS256"), jwk("x", other)}, "signature"},
		{"alg not a string", "k", []object{with(good, "alg", []string{"RS256"}), jwk("x", other)}, "signature"},
		{"kid not a string", "", []object{with(good, "kid", 1), jwk("x", other)}, "signature"},
		{"decoys of the same name", "k", []object{jwk("k", other), jwk("k", &ecKey().PublicKey), oct, good}, ""},
		{"keys we do not know", "k", []object{secp256k1, ed448, future, oct, offCurve, {"kty": 1}, {}, good}, ""},
		{"RSA-1024 beside it", "k", []object{jwk("k", &weakRSA().PublicKey), good}, ""},
		{"private members", "k", []object{private, jwk("x", other)}, "signature"},
		{"one private member", "k", []object{with(good, "p", "AQAB"), jwk("x", other)}, "signature"},
		{"damaged certificate", "k", []object{with(good, "x5c", []string{"!"})}, ""},
		{"too many keys", "k", append(many[:64:64], good), "signature"},
		{"as many as we keep", "k", append(many[:63:63], good), ""},
	} {
		bubble(t, c.name, func(t *testing.T) {
			op := newFakeOP()
			op.set("/jwks", says(jwks(c.keys...)))
			if got := check(verify(t, op.client(), c.kid, rsaKey())); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}

	bubble(t, "RSA-1024 itself", func(t *testing.T) {
		op := newFakeOP()
		op.set("/jwks", says(jwks(jwk("k", &weakRSA().PublicKey), jwk("x", other))))
		if got := check(verify(t, op.client(), "k", weakRSA())); got != "signature" {
			t.Errorf("got %q", got)
		}
	})
	bubble(t, "ES256 with a key of another curve", func(t *testing.T) {
		op := newFakeOP()
		op.set("/jwks", says(jwks(jwk("k", &ec384Key().PublicKey))))
		p := idp.New(op.config(func(c *idp.Config) { c.SigningAlgs = []string{"ES256"} }))
		_, err := p.VerifyIDToken(t.Context(), sign(object{"alg": "ES256", "kid": "k"}, claims(nil), ecKey()), expect())
		if got := check(err); got != "signature" {
			t.Errorf("got %q", got)
		}
	})
}

// THR-41: documents that are no key set, at first use and later.
func TestBadKeySetNeverReplacesAGoodOne(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"empty":              says(jwks()),
		"no keys":            says(`{}`),
		"keys null":          says(`{"keys":null}`),
		"keys object":        says(`{"keys":{}}`),
		"keys in capitals":   says(object{"KEYS": []object{jwk("new", &otherRSA().PublicKey)}}),
		"keys twice":         says(`{"keys":[],"keys":[]}`),
		"only unusable":      says(jwks(object{"kty": "oct", "k": "AAAA"})),
		"array":              says(`[]`),
		"html":               says("<html>"),
		"nothing":            says(""),
		"not found":          status(404, jwks(jwk("new", &otherRSA().PublicKey))),
		"no content":         status(204, ""),
		"accepted":           status(202, jwks(jwk("new", &otherRSA().PublicKey))),
		"server error":       status(500, jwks(jwk("new", &otherRSA().PublicKey))),
		"hangs":              hangs,
		"too large":          says(with(jwks(jwk("new", &otherRSA().PublicKey)), "x", strings.Repeat("a", 1<<20))),
		"damaged in the end": says(`{"keys":[` + string(must(json.Marshal(jwk("new", &otherRSA().PublicKey)))) + `]`),
	} {
		bubble(t, name, func(t *testing.T) {
			op := newFakeOP()
			op.set("/jwks", answer)
			if err := verify(t, op.client(), "rsa", rsaKey()); err == nil || check(err) == "signature" {
				t.Errorf("at first: got %v", err)
			}

			op = newFakeOP()
			p := op.client()
			if err := verify(t, p, "rsa", rsaKey()); err != nil {
				t.Fatal(err)
			}
			op.set("/jwks", answer)
			if err := verify(t, p, "new", otherRSA()); err == nil || check(err) == "signature" {
				t.Errorf("unknown key: got %v, want what is wrong with the key set", err)
			}
			if err := verify(t, p, "rsa", rsaKey()); err != nil {
				t.Errorf("the good key is gone: %v", err)
			}
			time.Sleep(20 * time.Hour) // past the time at which the keys were due
			if err := verify(t, p, "rsa", rsaKey()); err != nil {
				t.Errorf("the good key is gone a day later: %v", err)
			}
			time.Sleep(10 * time.Hour) // stale-if-error has an end
			if err := verify(t, p, "rsa", rsaKey()); err == nil || check(err) == "signature" {
				t.Errorf("keys of two days ago: got %v", err)
			}
			op.set("/jwks", says(jwks(jwk("rsa", &rsaKey().PublicKey))))
			time.Sleep(time.Minute)
			if err := verify(t, p, "rsa", rsaKey()); err != nil {
				t.Errorf("after the outage: %v", err)
			}
		})
	}
}

// OIDC-28, S39, THR-40
func TestRotationIsPickedUpWithinOneLogin(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		op := newFakeOP()
		p := op.client()
		if err := verify(t, p, "rsa", rsaKey()); err != nil {
			t.Fatal(err)
		}
		op.set("/jwks", says(jwks(jwk("new", &otherRSA().PublicKey)))) // the old key vanishes at once
		if err := verify(t, p, "new", otherRSA()); err != nil {
			t.Errorf("right after the first fetch: %v", err)
		}
		if got := check(verify(t, p, "rsa", rsaKey())); got != "signature" {
			t.Errorf("the old key still works: %q", got)
		}
		if n := op.count("/jwks"); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}
	})
}

func TestKeyReplacedUnderItsName(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		op := newFakeOP()
		p := op.client()
		if err := verify(t, p, "rsa", rsaKey()); err != nil {
			t.Fatal(err)
		}
		op.set("/jwks", says(jwks(jwk("rsa", &otherRSA().PublicKey))))
		if err := verify(t, p, "rsa", otherRSA()); err != nil {
			t.Error(err)
		}
	})
}

// THR-40: a minute of bad tokens, of each kind and from each source. Lesson 36.
func TestBadTokensCauseFewFetches(t *testing.T) {
	for _, c := range []struct {
		name   string
		verify func(*testing.T, *idp.Provider, string, any) error
		most   int // after the first fetch, in 60 s
	}{
		{"from the token endpoint", verify, 12},
		{"from elsewhere", elsewhere, 2},
	} {
		for kind, kid := range map[string]func(int) string{
			"unknown key":   func(i int) string { return fmt.Sprint("random", i) },
			"bad signature": func(int) string { return "rsa" },
		} {
			bubble(t, kind+" "+c.name, func(t *testing.T) {
				op := newFakeOP()
				p := op.client()
				for i := range 120 {
					if got := check(c.verify(t, p, kid(i), otherRSA())); got != "signature" {
						t.Fatalf("got %q", got)
					}
					if err := verify(t, p, "rsa", rsaKey()); err != nil {
						t.Fatalf("a good token meanwhile: %v", err)
					}
					time.Sleep(500 * time.Millisecond)
				}
				if n := op.count("/jwks"); n > c.most+1 {
					t.Errorf("%d fetches in a minute, want at most %d", n, c.most+1)
				}
			})
		}
	}
}

// S39: what anybody can send never keeps a sign-in from seeing new keys.
func TestFloodFromElsewhereDoesNotDelayASignIn(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		op := newFakeOP()
		p := op.client()
		if err := verify(t, p, "rsa", rsaKey()); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			if got := check(elsewhere(t, p, fmt.Sprint(i), rsaKey())); got != "signature" {
				t.Fatalf("got %q", got)
			}
		}
		op.set("/jwks", says(jwks(jwk("new", &otherRSA().PublicKey))))
		if err := verify(t, p, "new", otherRSA()); err != nil {
			t.Errorf("the first sign-in after the rotation: %v", err)
		}
		if err := elsewhere(t, p, "new", otherRSA()); err != nil {
			t.Errorf("a fetch serves both: %v", err)
		}
	})
}

// S39: a sign-in does not join a fetch that somebody else caused, which may have begun before the rotation.
func TestFetchFromElsewhereIsNotJoined(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		op := newFakeOP()
		p := op.client()
		if err := verify(t, p, "rsa", rsaKey()); err != nil {
			t.Fatal(err)
		}
		op.set("/jwks", hangs)
		go elsewhere(t, p, "random", rsaKey())
		synctest.Wait()
		op.set("/jwks", says(jwks(jwk("new", &otherRSA().PublicKey))))
		start := time.Now()
		if err := verify(t, p, "new", otherRSA()); err != nil || time.Since(start) != 0 {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		time.Sleep(time.Minute)
		if err := verify(t, p, "new", otherRSA()); err != nil {
			t.Errorf("the other fetch has taken the key away: %v", err)
		}
	})
}

func TestConcurrentVerificationsShareOneFetch(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		op := newFakeOP()
		p := op.client()
		good := says(jwks(jwk("rsa", &rsaKey().PublicKey)))
		op.set("/jwks", func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(3 * time.Second)
			good(w, r)
		})
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				ctx := t.Context()
				if i%2 == 0 { // one caller's giving up does not fail the others
					var cancel func()
					ctx, cancel = context.WithTimeout(ctx, time.Second)
					defer cancel()
				}
				err := verifyCtx(ctx, p, "rsa", rsaKey())
				if gaveUp := errors.Is(err, context.DeadlineExceeded); gaveUp != (i%2 == 0) || err != nil && !gaveUp {
					t.Errorf("caller %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if n := op.count("/jwks"); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
	})
}

// OIDC-28: Cache-Control within bounds.
func TestKeysAreRefreshedWhenDue(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"":                             time.Hour,
		"max-age=600":                  10 * time.Minute,
		"public, Max-Age=7200, x":      2 * time.Hour,
		`max-age="900"`:                15 * time.Minute,
		"max-age=1":                    5 * time.Minute,
		"max-age=0":                    5 * time.Minute,
		"max-age=31536000":             24 * time.Hour,
		"max-age=-5":                   5 * time.Minute,
		"max-age=99999999999999999999": time.Hour,
		"max-age=x":                    time.Hour,
		"max-age=600, no-store":        5 * time.Minute,
		"no-cache":                     5 * time.Minute,
		"s-maxage=600":                 time.Hour,
	} {
		bubble(t, header, func(t *testing.T) {
			op := newFakeOP()
			good := says(jwks(jwk("rsa", &rsaKey().PublicKey)))
			op.set("/jwks", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", header)
				good(w, r)
			})
			p := op.client()
			for _, c := range []struct {
				wait time.Duration
				want int
			}{{0, 1}, {want - time.Second, 1}, {2 * time.Second, 2}} {
				time.Sleep(c.wait)
				if err := verify(t, p, "rsa", rsaKey()); err != nil {
					t.Fatal(err)
				}
				if n := op.count("/jwks"); n != c.want {
					t.Errorf("%d fetches after another %v, want %d", n, c.wait, c.want)
				}
			}
		})
	}
}

// A withdrawn key must not outlive the time the set was due.
func TestWithdrawnKeyIsForgottenWhenDue(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		op := newFakeOP()
		p := op.client()
		if err := verify(t, p, "rsa", rsaKey()); err != nil {
			t.Fatal(err)
		}
		op.set("/jwks", says(jwks(jwk("new", &otherRSA().PublicKey))))
		time.Sleep(time.Hour)
		if got := check(verify(t, p, "rsa", rsaKey())); got != "signature" {
			t.Errorf("got %q", got)
		}
	})
}

// While the keys are due and the provider is away, sign-ins are not slowed down one by one.
func TestFailedRefreshOfKeysIsNotRetriedAtOnce(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		op := newFakeOP()
		p := op.client()
		if err := verify(t, p, "rsa", rsaKey()); err != nil {
			t.Fatal(err)
		}
		op.set("/jwks", status(503, ""))
		time.Sleep(61 * time.Minute)
		before := op.count("/jwks")
		for range 50 {
			if err := verify(t, p, "rsa", rsaKey()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(6 * time.Second)
		}
		if n := op.count("/jwks") - before; n != 5 {
			t.Errorf("%d attempts in five minutes, want 5", n)
		}
	})
}

func TestFailedFirstFetchOfKeysIsNotRetriedAtOnce(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		op := newFakeOP()
		p := op.client()
		op.set("/jwks", status(503, ""))
		for range 60 {
			if err := verify(t, p, "rsa", rsaKey()); !errors.Is(err, idp.ErrUnreachable) {
				t.Fatal(err)
			}
			time.Sleep(500 * time.Millisecond)
		}
		if n := op.count("/jwks"); n != 6 {
			t.Errorf("%d attempts in half a minute, want 6", n)
		}
	})
}

func TestChangedJWKSURIIsUsed(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		op := newFakeOP()
		good := says(jwks(jwk("rsa", &rsaKey().PublicKey)))
		op.set("/jwks", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=86400")
			good(w, r)
		})
		p := op.client()
		if err := verify(t, p, "rsa", rsaKey()); err != nil {
			t.Fatal(err)
		}
		op.set("/.well-known/openid-configuration", says(metadata(object{"jwks_uri": issuer + "keys2"})))
		op.set("/keys2", says(jwks(jwk("new", &otherRSA().PublicKey))))
		time.Sleep(time.Hour)
		if got := check(verify(t, p, "rsa", rsaKey())); got != "signature" {
			t.Errorf("a key of the old set: got %q", got)
		}
		if err := verify(t, p, "new", otherRSA()); err != nil {
			t.Error(err)
		}
	})
}

// Whatever the document, a key that is not in it verifies nothing.
func FuzzKeySet(f *testing.F) {
	seed := func(keys ...object) { f.Add(must(json.Marshal(jwks(keys...)))) }
	for _, key := range []crypto.PublicKey{strangeKey.Public(), &ecKey().PublicKey} {
		seed(jwk("ed", key))
		seed(with(jwk("ed", key), "use", "enc"), with(jwk("", key), "key_ops", []string{"verify"}))
	}
	seed(object{"kty": "EC", "crv": "secp256k1"}, object{"kty": "oct", "k": "AAAA"})
	seed(object{"kty": "RSA", "n": b64(make([]byte, 256)), "e": "AQAB"}, object{"kty": "RSA", "n": "", "e": ""})
	f.Add([]byte(`{"keys":null}`))
	op := newFakeOP()
	cfg := op.config(edOnly)
	raw := sign(object{"alg": "EdDSA", "kid": "ed"}, with(claims(nil), "exp", 4102444800), edKey())
	f.Fuzz(func(t *testing.T, doc []byte) {
		op.set("/jwks", says(string(doc)))
		if _, err := idp.New(cfg).VerifyIDToken(t.Context(), raw, expect()); err == nil {
			t.Errorf("accepted with %q", doc)
		}
	})
}
