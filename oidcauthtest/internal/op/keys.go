package op

import (
	"crypto"
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
	"sync"

	"github.com/go-jose/go-jose/v4"
)

// Keys sign the tokens of a provider. Make them with [NewKeys] or [TestKeys].
type Keys struct {
	id     string
	signer *rsa.PrivateKey
	ec     *ecdsa.PrivateKey
	ed     ed25519.PrivateKey
}

// testKey is known to everybody: it makes tests start fast and is good for nothing else.
//
//go:embed testkey.pem
var testKey []byte

var parseTestKey = sync.OnceValues(func() (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(testKey)
	if block == nil {
		return nil, errors.New("test key: no PEM block")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("test key: %w", err)
	}
	signer, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("test key: no RSA key")
	}
	return signer, nil
})

// TestKeys returns a fixed RSA key, and new keys of the other kinds.
func TestKeys() (Keys, error) {
	signer, err := parseTestKey()
	if err != nil {
		return Keys{}, err
	}
	return withOthers(signer)
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

// private returns the key for an algorithm and its id.
func (k Keys) private(alg string) (crypto.PrivateKey, string) {
	switch alg {
	case "ES256":
		return k.ec, k.id + "-ec"
	case "EdDSA":
		return k.ed, k.id + "-ed"
	}
	return k.signer, k.id
}

// sign returns claims as a compact JWS.
func (k Keys) sign(claims map[string]any, knobs *Knobs) (string, error) {
	alg := knobs.SigningAlg
	if alg == "" {
		alg = "RS256"
	}
	key, id := k.private(alg)
	header := map[string]any{"alg": alg, "typ": "JWT"}
	if knobs.NoKeyIDs == 0 {
		header["kid"] = id
	}
	if knobs.EditHeader != nil {
		knobs.EditHeader(header)
	}
	options := &jose.SignerOptions{}
	for name, value := range header {
		if name != "alg" {
			options.WithHeader(jose.HeaderKey(name), value)
		}
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode claims: %w", err)
	}
	if header["alg"] == "none" {
		h, _ := json.Marshal(header) // of strings
		return base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(payload) + ".", nil
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
	knobs, keys := p.now()
	set := []any{
		jose.JSONWebKey{Key: &keys.signer.PublicKey, KeyID: keys.id, Use: "sig"},
		jose.JSONWebKey{Key: &keys.ec.PublicKey, KeyID: keys.id + "-ec", Use: "sig"},
		jose.JSONWebKey{Key: keys.ed.Public(), KeyID: keys.id + "-ed", Use: "sig"},
	}
	if knobs.NoKeyIDs > 0 {
		set = []any{jose.JSONWebKey{Key: &keys.signer.PublicKey, Use: "sig"}}
		for range knobs.NoKeyIDs - 1 {
			if other, err := NewKeys(); err == nil {
				set = append(set, jose.JSONWebKey{Key: &other.signer.PublicKey, Use: "sig"})
			}
		}
	}
	if knobs.DecoyKeys {
		other, err := NewKeys()
		if err == nil {
			set = append(
				[]any{
					map[string]string{"kty": "EC", "crv": "secp256k1", "kid": keys.id + "-k1", "x": "AAAA", "y": "AAAA"},
					map[string]string{"kty": "XX", "kid": keys.id},
					jose.JSONWebKey{Key: &other.signer.PublicKey, KeyID: other.id, Use: "enc"},
					jose.JSONWebKey{Key: &other.ec.PublicKey, KeyID: keys.id}, // the signing key's id on another kind of key
				}, append(set, jose.JSONWebKey{Key: &other.signer.PublicKey, KeyID: other.id + "-2"})...)
		}
	}
	answer(w, http.StatusOK, map[string]any{"keys": set})
}
