package idp

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

const (
	maxIDToken = 64 << 10
	maxSubject = 255 // Core 2

	checkClock = "check the clock of this host"
)

// Expect is what was asked for in the authorization request. The zero value matches no token: a nonce is required.
type Expect struct {
	Nonce       string
	AccessToken string // that came with the ID token, for at_hash
	MaxAge      time.Duration
	HasMaxAge   bool     // MaxAge was sent, and may be 0
	ACR         []string // one of these; none: any
	// Organization is the id (org_…) or name of the organization to sign in to; empty: any.
	Organization string
}

// An IDToken is a verified ID token. Times that it does not say are zero.
type IDToken struct {
	Issuer, Subject, SID              string // with AllowedTenants Issuer is that of the tenant
	Tenant                            string // with AllowedTenants: see [Provider.IssuerOf]
	IssuedAt, AuthTime, SessionExpiry time.Time
	Payload                           []byte // the claims as a JSON object without duplicate members
}

// VerifyIDToken verifies the ID token of a login in full (Core 3.1.3.7): signature, issuer, audience, times, nonce, and
// what e asks for. Aggregated and distributed claims are not fetched.
//
// The errors are *TokenError; ErrUnreachable or the context's if the keys could not be fetched; or one that says what
// is wrong with the key set.
func (p *Provider) VerifyIDToken(ctx context.Context, raw string, e Expect) (*IDToken, error) {
	o, err := p.open(ctx, raw)
	if err != nil {
		return nil, err
	}
	t, err := p.checkClaims(o.claims, o.header, e)
	if err == nil {
		err = o.strict
	}
	if err != nil {
		return nil, err
	}
	t.Payload = o.payload
	return t, nil
}

// opened is an ID token whose signature has been verified, and none of its claims.
type opened struct {
	header  header
	payload []byte
	claims  object
	strict  error // go-oidc refuses it, perhaps for what is found wrong with the claims too
}

func (p *Provider) open(ctx context.Context, raw string) (*opened, error) {
	switch {
	case raw == "":
		return nil, refuse("missing", "the provider sent none: openid must be among the scopes")
	case len(raw) > maxIDToken:
		return nil, refuse("size", "it is longer than %d bytes", maxIDToken)
	}
	h, err := parseHeader(raw, p.cfg.SigningAlgs)
	if err != nil {
		return nil, err
	}
	m, err := p.Metadata(ctx)
	if err != nil {
		return nil, err
	}

	keys := &onceKeys{provider: p, url: m.JWKSURI, src: fromTokenEndpoint, header: h}
	_, verifyErr := oidc.NewVerifier(p.cfg.Issuer, keys, &oidc.Config{
		ClientID:             p.cfg.ClientID,
		SupportedSigningAlgs: []string{h.alg},
		SkipExpiryCheck:      true, // without leeway for exp, and with five minutes for nbf
		SkipIssuerCheck:      p.cfg.manyTenants(),
	}).Verify(ctx, raw)
	if keys.err != nil {
		return nil, keys.err
	}
	if keys.payload == nil {
		return nil, refuse("malformed", "it is not a compact JWS with one signature")
	}
	c, err := parseClaims(keys.payload)
	if err != nil {
		return nil, err
	}
	o := &opened{header: h, payload: keys.payload, claims: c}
	if verifyErr != nil {
		// It reads some claims more strictly, such as a name in other letters.
		o.strict = refuse("malformed", "its claims cannot be read")
	}
	return o, nil
}

// onceKeys is an oidc.KeySet for one verification. go-oidc reports every failure as text, so it remembers the error and
// the payload: an outage must not look like a forgery.
type onceKeys struct {
	provider *Provider
	url      string
	src      source
	header   header

	payload []byte
	err     error
}

// VerifySignature implements [oidc.KeySet].
func (k *onceKeys) VerifySignature(ctx context.Context, raw string) ([]byte, error) {
	k.payload, k.err = k.provider.verifySignature(ctx, k.url, k.src, raw, k.header)
	return k.payload, k.err
}

func (p *Provider) verifySignature(ctx context.Context, url string, src source, raw string, h header) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(h.alg)})
	if err != nil {
		return nil, refuse("malformed", "it is not a JWS that can be read")
	}
	if macSize(h.alg) == 0 {
		return p.keys.verify(ctx, url, src, signed{jws, h.id, h.alg, p.cfg.manyTenants()})
	}
	// Core 10.1: the key is the client secret, whatever the header names.
	payload, err := jws.Verify([]byte(p.cfg.ClientSecret))
	if err != nil {
		return nil, refuse("signature", "the client secret does not verify it (%s)", h.alg)
	}
	return payload, nil
}

// header is what matters of a JOSE header. Keys and addresses in it (jwk, jku, x5u, x5c) are never looked at.
type header struct{ alg, id, typ string }

// parseHeader is readHeader for tokens that have no type of their own.
func parseHeader(raw string, algs []string) (header, error) {
	h, err := readHeader(raw, algs)
	// RFC 8725 3.11: typed tokens of other kinds, such as at+jwt and logout+jwt, are media types ending in +jwt.
	if err == nil && strings.HasSuffix(strings.ToLower(h.typ), "+jwt") {
		err = refuse("type", "it is typed as %.64q", h.typ)
	}
	if err != nil {
		return header{}, err
	}
	return h, nil
}

// readHeader reads the header of a compact JWS without trusting it. What is not one, or has another algorithm, is refused
// before anything is fetched or computed.
func readHeader(raw string, algs []string) (header, error) {
	if strings.Count(raw, ".") != 2 {
		return header{}, refuse("malformed", "it is not a compact JWS: encrypted tokens are not supported")
	}
	first, _, _ := strings.Cut(raw, ".")
	data, err := base64.RawURLEncoding.DecodeString(first)
	if err != nil || strings.ContainsAny(raw, " \t\r\n") {
		return header{}, refuse("malformed", "it is not base64url")
	}
	o, err := parseObject(data)
	if err != nil {
		return header{}, refuseObject("header", err)
	}
	// crit names extensions that must be understood (RFC 7515 4.1.11), and none is; b64 is the one go-jose knows.
	for _, name := range []string{"crit", "b64"} {
		if _, found := o[name]; found {
			return header{}, refuse("crit", "its header has %s", name)
		}
	}
	alg, err1 := o.text("alg")
	id, err2 := o.text("kid")
	typ, err3 := o.text("typ")
	if err := errors.Join(err1, err2, err3); err != nil {
		return header{}, refuse("malformed", "in its header %v", err)
	}
	if !slices.Contains(algs, alg) {
		return header{}, refuse("alg", "it is signed with %.32q and not with one of %q", alg, algs)
	}
	return header{alg: alg, id: id, typ: typ}, nil
}

func parseClaims(payload []byte) (object, error) {
	o, err := parseObject(payload)
	if err != nil {
		return nil, refuseObject("payload", err)
	}
	return o, nil
}

func refuseObject(part string, err error) error {
	if errors.Is(err, errDuplicate) {
		return refuse("duplicate", "in its %s %v", part, err)
	}
	return refuse("malformed", "its %s is %v", part, err)
}

// knownAlg says whether alg can be verified at all.
func knownAlg(alg string) bool {
	switch alg {
	case "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA":
		return true
	}
	return macSize(alg) > 0
}

// macSize returns the length of the hash of a MAC algorithm, 0 for a signature algorithm.
func macSize(alg string) int {
	switch alg {
	case "HS256":
		return 32
	case "HS384":
		return 48
	case "HS512":
		return 64
	}
	return 0
}

// halfHash returns the left half of s's hash by the hash function of alg, in base64url (Core 3.1.3.6). It does what
// oidc.IDToken.VerifyAccessToken does, which does not know HS256.
func halfHash(alg, s string) (string, bool) {
	var sum []byte
	switch {
	case alg == "EdDSA" || strings.HasSuffix(alg, "512"):
		h := sha512.Sum512([]byte(s))
		sum = h[:]
	case strings.HasSuffix(alg, "384"):
		h := sha512.Sum384([]byte(s))
		sum = h[:]
	case strings.HasSuffix(alg, "256"):
		h := sha256.Sum256([]byte(s))
		sum = h[:]
	default:
		return "", false
	}
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2]), true
}

func equal(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}
