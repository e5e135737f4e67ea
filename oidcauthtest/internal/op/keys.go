package op

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// Keys sign the tokens of a provider. Make them with [NewKeys].
type Keys struct {
	id     string
	signer *rsa.PrivateKey
	ec     *ecdsa.PrivateKey
	ed     ed25519.PrivateKey
}

// testKeys are four RSA keys that everybody knows: they make tests start fast and are good for nothing else.
//
//go:embed testkeys.pem
var testKeys []byte

// testKeySet returns the n-th fixed RSA key, and new keys of the other kinds, which are made in no time.
func testKeySet(n int) (Keys, error) {
	for rest := testKeys; ; n-- {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		switch {
		case block == nil:
			return NewKeys()
		case n > 0:
			continue
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return Keys{}, fmt.Errorf("test key: %w", err)
		}
		signer, ok := key.(*rsa.PrivateKey)
		if !ok {
			return Keys{}, errors.New("test key: not RSA")
		}
		return withOthers(signer)
	}
}

// NewKeys returns new keys.
func NewKeys() (Keys, error) {
	signer, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return Keys{}, fmt.Errorf("generate key: %w", err)
	}
	return withOthers(signer)
}

func withOthers(signer *rsa.PrivateKey) (Keys, error) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Keys{}, fmt.Errorf("generate key: %w", err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Keys{}, fmt.Errorf("generate key: %w", err)
	}
	return Keys{id: "key-" + random(), signer: signer, ec: ec, ed: ed}, nil
}

// RotateKeys replaces the provider's keys by new ones with new ids.
func (p *Provider) RotateKeys() error {
	keys, err := NewKeys()
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = keys
	return nil
}

// decoy returns the n-th set of keys beside those that sign.
func (p *Provider) decoy(n int) (Keys, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.decoys) <= n {
		keys, err := testKeySet(1 + len(p.decoys))
		if err != nil {
			return Keys{}, err
		}
		p.decoys = append(p.decoys, keys)
	}
	return p.decoys[n], nil
}

// What decoys are for.
const (
	published   = iota // in the key set for signatures
	encrypting         // in the key set, with use enc
	unpublished        // nowhere
)

func (k *Knobs) alg() string {
	if k.SigningAlg == "" {
		return "RS256"
	}
	return k.SigningAlg
}

// private returns the key that signs and its id.
func (p *Provider) private(k *Knobs) (key any, id string, err error) {
	_, keys := p.now()
	id = keys.id
	switch k.SigningKey {
	case "enc":
		keys, err = p.decoy(encrypting)
		id = keys.id
	case "unpublished":
		keys, err = p.decoy(unpublished) // under the id of the right one
	case "public":
		// The mistake of algorithm confusion: whoever has the public key can make the signature.
		der, err := x509.MarshalPKIXPublicKey(&keys.signer.PublicKey)
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), id, err
	}
	switch alg := k.alg(); {
	case alg == "ES256":
		return keys.ec, id + "-ec", err
	case alg == "EdDSA":
		return keys.ed, id + "-ed", err
	case strings.HasPrefix(alg, "HS"):
		return []byte(p.config.ClientSecret), id, err
	}
	return keys.signer, id, err
}

// sign returns claims as a compact JWS. edit may be nil; it sees the header before it is signed.
func (p *Provider) sign(claims map[string]any, k *Knobs, edit func(map[string]any)) (string, error) {
	key, id, err := p.private(k)
	if err != nil {
		return "", err
	}
	header := map[string]any{"alg": k.alg(), "typ": "JWT"}
	if k.NoKeyIDs == 0 {
		header["kid"] = id
	}
	if edit != nil {
		edit(header)
	}
	return compact(header, claims, k.alg(), key)
}

// compact signs claims by alg, unless the header's is none.
func compact(header, claims map[string]any, alg string, key any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode claims: %w", err)
	}
	if header["alg"] == "none" {
		encoded, err := json.Marshal(header)
		return base64.RawURLEncoding.EncodeToString(encoded) + "." + base64.RawURLEncoding.EncodeToString(payload) + ".", err
	}
	options := &jose.SignerOptions{}
	for name, value := range header {
		if name != "alg" {
			options.WithHeader(jose.HeaderKey(name), value)
		}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: key}, options)
	if err != nil {
		return "", fmt.Errorf("signer: %w", err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	return jws.CompactSerialize()
}

// jwks is the key set (RFC 7517 5).
func (p *Provider) jwks(w http.ResponseWriter) {
	k, keys := p.now()
	var (
		set []any
		err error
	)
	switch {
	case k.NoKeyIDs > 0:
		set, err = p.anonymousKeys(keys, k.NoKeyIDs)
	case k.DecoyKeys:
		set, err = p.manyKeys(keys)
	default:
		set = keys.public("sig")
	}
	if err == nil && k.SigningKey == "enc" {
		var enc Keys
		enc, err = p.decoy(encrypting)
		set = append(set, enc.public("enc")...)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, http.StatusOK, map[string]any{"keys": set})
}

// public returns the public keys with their ids.
func (k Keys) public(use string) []any {
	set := []any{
		jose.JSONWebKey{Key: &k.signer.PublicKey, KeyID: k.id, Use: use},
		jose.JSONWebKey{Key: &k.ec.PublicKey, KeyID: k.id + "-ec", Use: use},
	}
	if use == "sig" { // an Ed25519 key does nothing else
		set = append(set, jose.JSONWebKey{Key: k.ed.Public(), KeyID: k.id + "-ed", Use: use})
	}
	return set
}

// anonymousKeys are n RSA keys without ids; the last one signs.
func (p *Provider) anonymousKeys(keys Keys, n int) ([]any, error) {
	var set []any
	for i := range n - 1 {
		other, err := p.decoy(i)
		if err != nil {
			return nil, err
		}
		set = append(set, jose.JSONWebKey{Key: &other.signer.PublicKey, Use: "sig"})
	}
	return append(set, jose.JSONWebKey{Key: &keys.signer.PublicKey, Use: "sig"}), nil
}

// manyKeys is a key set as large as the conformance suite's (CS-14): keys of kinds that few know, keys for other uses,
// and other kinds under the id of the key that signs (OIDC-27).
func (p *Provider) manyKeys(keys Keys) ([]any, error) {
	other, err := p.decoy(published)
	if err != nil {
		return nil, err
	}
	enc, err := p.decoy(encrypting)
	if err != nil {
		return nil, err
	}
	set := []any{
		map[string]string{
			"kty": "EC", "crv": "secp256k1", "use": "sig", "kid": keys.id + "-k1", // a real point: the curve's generator
			"x": "eb5mfvncu6xVoGKVzocLBwKb_NstzijZWfKBWxb4F5g", "y": "SDradyajxGVdpPv8DhEIqP0XtEimhVQZnEfQj_sQ1Lg",
		},
		map[string]string{"kty": "XX", "kid": keys.id},
		jose.JSONWebKey{Key: &other.ec.PublicKey, KeyID: keys.id},
	}
	set = append(set, enc.public("enc")...)
	set = append(set, other.public("sig")...)
	return append(set, keys.public("sig")...), nil
}
