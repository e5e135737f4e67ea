package idp

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// fetchKeys returns the usable keys of the key set at url, and how long they are fresh.
func (p *Provider) fetchKeys(ctx context.Context, url string) ([]publicKey, time.Duration, error) {
	a, err := p.get(ctx, "key set", url)
	if err != nil {
		return nil, 0, err
	}
	keys, err := parseKeys(a.body)
	if err != nil {
		return nil, 0, fmt.Errorf("key set at %s: %w", url, err)
	}
	return keys, freshness(a.header), nil
}

// freshness is the max-age of a response (RFC 9111 5.2.2.1) within bounds: a provider can neither make us fetch for
// every token nor have us keep a withdrawn key for ever.
func freshness(h http.Header) time.Duration {
	age := keysFresh
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		switch name {
		case "no-store", "no-cache":
			return keysFreshMin
		case "max-age":
			s, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32)
			if err == nil {
				age = time.Duration(s) * time.Second
			}
		}
	}
	return min(max(age, keysFreshMin), keysFreshMax)
}

// parseKeys returns the keys of a JWK Set (RFC 7517 5) that may verify signatures. Each is read by itself: an unknown
// or damaged one is skipped and does not spoil the rest. A set without a usable key is an error.
func parseKeys(body []byte) ([]publicKey, error) {
	o, err := parseObject(body)
	if err != nil {
		return nil, err
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(o["keys"], &raw); err != nil {
		return nil, errors.New("keys is not an array")
	}
	var keys []publicKey
	for _, r := range raw {
		if k, ok := parseKey(r); ok && len(keys) < maxKeys {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no usable signing key in it")
	}
	return keys, nil
}

func parseKey(raw []byte) (publicKey, bool) {
	o, err := parseObject(raw)
	if err != nil {
		return publicKey{}, false
	}
	// A key published with its private half belongs to everybody.
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, found := o[private]; found {
			return publicKey{}, false
		}
	}
	id, err1 := o.text("kid")
	alg, err2 := o.text("alg")
	use, err3 := o.text("use")
	ops, err4 := o.texts("key_ops")
	if errors.Join(err1, err2, err3, err4) != nil ||
		o.has("use") && use != "sig" || o.has("key_ops") && !slices.Contains(ops, "verify") {
		return publicKey{}, false
	}

	// Only what makes the key is decoded: go-jose would refuse one for its certificate or another member.
	bare := object{}
	for _, member := range []string{"kty", "crv", "n", "e", "x", "y"} {
		if o.has(member) {
			bare[member] = o[member]
		}
	}
	data, err := json.Marshal(bare)
	if err != nil {
		return publicKey{}, false
	}
	var key jose.JSONWebKey
	if err := key.UnmarshalJSON(data); err != nil || !strong(key.Key) {
		return publicKey{}, false
	}
	issuer, err := o.text("issuer")
	if err != nil || issuer == "" && o.has("issuer") {
		issuer = string(o["issuer"]) // which no token's is
	}
	return publicKey{id: id, alg: alg, issuer: issuer, key: key.Key}, true
}

// strong says whether key is of a kind, and of a size, that may verify signatures.
func strong(key any) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= minRSABits && k.N.BitLen() <= maxRSABits
	case *ecdsa.PublicKey:
		return ecdsaAlg(k) != ""
	case ed25519.PublicKey:
		return len(k) == ed25519.PublicKeySize
	}
	return false
}
