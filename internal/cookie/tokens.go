package cookie

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
)

// AccessToken is one access token and what it is for. Times are Unix seconds, 0 if unknown.
type AccessToken struct {
	// Token is a JWT or opaque. Type is its token_type (RFC 6749, section 5.1).
	Token, Type string
	// Audience is what it was asked for. Scope was granted and Requested was asked for, separated by spaces.
	Audience, Scope, Requested string
	// Expiry is when it expires and Issued when it was received.
	Expiry, Issued int64
}

// Tokens are the part of a session that is opened when it is asked for. The zero value is a session without tokens. Not
// safe for concurrent changes.
type Tokens struct {
	// IDToken is a compact JWS (RFC 7515, section 3.1), empty if it was dropped.
	IDToken string
	// Claims are the JSON object of its claims. If they are empty and IDToken is not, they are its payload.
	Claims []byte
	// UserInfo is the JSON object of the user-info response, or empty.
	UserInfo []byte
	// Refresh is the refresh token, any bytes.
	Refresh string
	// Access are the access tokens.
	Access []AccessToken
	// Values are the application's, by key.
	Values map[string][]byte
}

var errTokens = errors.New("cookie: the session's tokens do not open")

// usualType is the token type of nearly all access tokens (RFC 6750).
const usualType = "Bearer"

// How a token, claims or user info are written.
const (
	formPlain   = 0 // as it is
	formJWT     = 1 // of a token: header and payload deflated, the signature as raw bytes
	formDeflate = 1 // of JSON: deflated
	formPayload = 2 // of claims: the ID token's payload
)

// A packer writes tokens. Its budget is that of the reader, so that it never writes what would be refused.
type packer struct {
	b      []byte
	z      *deflater
	budget int
	err    error
}

func (z *deflater) packTokens(mark string, t *Tokens) ([]byte, error) {
	p := packer{b: make([]byte, 0, 2048), z: z, budget: maxInflated}
	p.b = append(p.b, version)
	p.b = append(p.b, mark...)
	payload := p.token(t.IDToken)
	if payload != nil && (len(t.Claims) == 0 || bytes.Equal(payload, t.Claims)) {
		p.b = append(p.b, formPayload)
	} else {
		p.json(t.Claims)
	}
	p.json(t.UserInfo)
	p.b = appendText(p.b, t.Refresh)
	p.b = binary.AppendUvarint(p.b, uint64(len(t.Access)))
	for i := range t.Access {
		p.access(&t.Access[i])
	}
	p.b = binary.AppendUvarint(p.b, uint64(len(t.Values)))
	for _, key := range slices.Sorted(maps.Keys(t.Values)) {
		p.b = appendText(p.b, key)
		p.b = appendText(p.b, t.Values[key])
	}
	return p.b, p.err
}

// token writes a token and returns its payload if it was a JWT that could be taken apart.
func (p *packer) token(token string) (payload []byte) {
	header, payload, signature, ok := splitJWT(token)
	if !ok || !p.spend(len(header)+len(payload)) {
		p.b = append(p.b, formPlain)
		p.b = appendText(p.b, token)
		return nil
	}
	p.b = append(p.b, formJWT)
	p.b = binary.AppendUvarint(p.b, uint64(len(header)))
	p.b = binary.AppendUvarint(p.b, uint64(len(payload)))
	p.stream(header, payload)
	p.b = appendText(p.b, signature)
	return payload
}

func (p *packer) json(doc []byte) {
	if !isObject(doc) || !p.spend(len(doc)) {
		p.b = append(p.b, formPlain)
		p.b = appendText(p.b, doc)
		return
	}
	p.b = append(p.b, formDeflate)
	p.b = binary.AppendUvarint(p.b, uint64(len(doc)))
	p.stream(doc)
}

func (p *packer) access(a *AccessToken) {
	payload := p.token(a.Token)
	p.known([]byte(usualType), a.Type)
	p.known(payload, a.Audience)
	p.known(payload, a.Scope)
	p.known(payload, a.Requested)
	p.b = binary.AppendVarint(p.b, a.Issued)
	p.b = binary.AppendVarint(p.b, a.Expiry-a.Issued)
}

// known writes a text, or where it is in one that the reader knows as well: a JWT repeats what it was asked for. It
// writes twice the length, or that and one and the place.
func (p *packer) known(known []byte, s string) {
	at := bytes.Index(known, []byte(s))
	if s == "" || at < 0 {
		p.b = binary.AppendUvarint(p.b, uint64(len(s))<<1)
		p.b = append(p.b, s...)
		return
	}
	p.b = binary.AppendUvarint(p.b, uint64(len(s))<<1|1)
	p.b = binary.AppendUvarint(p.b, uint64(at))
}

func (p *packer) stream(parts ...[]byte) {
	stream, err := p.z.deflate(parts...)
	if err != nil {
		p.err = err
	}
	p.b = appendText(p.b, stream)
}

// spend reports whether n more bytes may be compressed.
func (p *packer) spend(n int) bool {
	if n > maxStream || n > p.budget {
		return false
	}
	p.budget -= n
	return true
}

// splitJWT decodes the segments of a compact JWS, if encoding them again gives the same token. Header and payload must
// be JSON objects: an opaque token that happens to have two full stops must not be compressed.
func splitJWT(token string) (header, payload, signature []byte, ok bool) {
	segments := strings.Split(token, ".")
	if len(segments) != 3 {
		return nil, nil, nil, false
	}
	decoded := make([][]byte, len(segments))
	for i, s := range segments {
		b, err := encoding.DecodeString(s)
		if err != nil || encoding.EncodedLen(len(b)) != len(s) {
			return nil, nil, nil, false
		}
		decoded[i] = b
	}
	ok = isObject(decoded[0]) && isObject(decoded[1])
	return decoded[0], decoded[1], decoded[2], ok
}

func isObject(doc []byte) bool {
	return len(doc) > 1 && doc[0] == '{' && json.Valid(doc)
}

// marked reports whether plain is of this version and of the box that mark is for.
func marked(plain []byte, mark string) bool {
	return len(plain) > len(mark) && plain[0] == version && string(plain[1:1+len(mark)]) == mark
}

// A part is what of the tokens is wanted. The rest is skipped: inflating takes the most time.
type part uint8

const (
	claimsPart part = 1 << iota
	accessPart
	otherParts
	allParts = claimsPart | accessPart | otherParts
)

// An unpacker reads what a packer wrote.
type unpacker struct {
	reader
	z      *deflater
	budget int
}

func (z *deflater) unpackTokens(mark, plain string, want part) (*Tokens, error) {
	u := unpacker{reader: reader{rest: plain}, z: z, budget: maxInflated}
	if u.octet() != version || u.take(8) != mark {
		return nil, errTokens
	}
	t := new(Tokens)
	var payload []byte
	t.IDToken, payload = u.token(want&(claimsPart|otherParts) != 0)
	t.Claims = u.json(payload, want&claimsPart != 0)
	t.UserInfo = u.json(nil, want&otherParts != 0)
	t.Refresh = u.text()
	for range u.count() {
		t.Access = append(t.Access, u.access(want&accessPart != 0))
		if u.bad {
			return nil, errTokens
		}
	}
	if n := u.count(); n > 0 {
		t.Values = make(map[string][]byte)
		for range n {
			key := u.text()
			t.Values[key] = []byte(u.text())
			if u.bad {
				return nil, errTokens
			}
		}
	}
	if !u.done() {
		return nil, errTokens
	}
	return t, nil
}

// token returns a token and its payload, which is nil for one that was not taken apart.
func (u *unpacker) token(want bool) (token string, payload []byte) {
	switch u.octet() {
	case formPlain:
		return u.text(), nil
	case formJWT:
		header, size := u.uvarint(), u.uvarint()
		// Each is checked alone first: their sum may overflow.
		if header > maxStream || size > maxStream {
			u.fail()
			return "", nil
		}
		parts := u.stream(header+size, want)
		signature := u.text()
		if u.bad || !want {
			return "", nil
		}
		payload = parts[header:]
		return joinJWT(parts[:header], payload, signature), payload
	}
	u.fail()
	return "", nil
}

func joinJWT(header, payload []byte, signature string) string {
	size := encoding.EncodedLen(len(header)) + encoding.EncodedLen(len(payload)) + encoding.EncodedLen(len(signature)) + 2
	b := make([]byte, 0, size)
	b = append(base64.RawURLEncoding.AppendEncode(b, header), '.')
	b = append(base64.RawURLEncoding.AppendEncode(b, payload), '.')
	b = base64.RawURLEncoding.AppendEncode(b, []byte(signature))
	return string(b)
}

// json returns a JSON object, nil if it is empty. The payload is the ID token's, for claims that are it.
func (u *unpacker) json(payload []byte, want bool) []byte {
	switch u.octet() {
	case formPlain:
		if s := u.text(); s != "" {
			return []byte(s)
		}
		return nil
	case formDeflate:
		return u.stream(u.uvarint(), want)
	case formPayload:
		if payload != nil || !want {
			return payload
		}
	}
	u.fail()
	return nil
}

func (u *unpacker) access(want bool) AccessToken {
	var a AccessToken
	token, payload := u.token(want)
	a.Token = token
	a.Type = u.known([]byte(usualType), want)
	a.Audience = u.known(payload, want)
	a.Scope = u.known(payload, want)
	a.Requested = u.known(payload, want)
	a.Issued = u.varint()
	a.Expiry = a.Issued + u.varint()
	return a
}

// known returns a text that may be part of the known one.
func (u *unpacker) known(known []byte, want bool) string {
	n := u.uvarint()
	if n&1 == 0 {
		return u.take(n >> 1)
	}
	at, size := u.uvarint(), n>>1
	if !want {
		return ""
	}
	if at > uint64(len(known)) || size > uint64(len(known))-at {
		u.fail()
		return ""
	}
	return string(known[at : at+size])
}

// stream inflates the next stream, which must give size bytes, or skips it.
func (u *unpacker) stream(size uint64, want bool) []byte {
	stream := u.text()
	if !want {
		return nil
	}
	if u.bad || size > maxStream || int(size) > u.budget {
		u.fail()
		return nil
	}
	u.budget -= int(size)
	b, err := u.z.inflate(stream, int(size))
	if err != nil {
		u.fail()
		return nil
	}
	return b
}
