package cookie

import (
	"bytes"
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
	formJWT     = 1 // of a token: header and payload in the stream, the signature as raw bytes
	formStream  = 2 // of JSON: in the stream
	formPayload = 3 // of claims: the ID token's payload
)

// A packer writes tokens: what is public by nature into a stream, everything else beside it.
type packer struct {
	public, rest []byte
}

func (z *deflater) packTokens(mark string, t *Tokens) ([]byte, error) {
	p := packer{public: make([]byte, 0, 2048), rest: make([]byte, 0, 1024)}
	p.rest = binary.AppendUvarint(p.rest, uint64(len(t.Access)))
	for i := range t.Access {
		p.access(&t.Access[i])
	}
	payload := p.token(t.IDToken)
	if payload != nil && (len(t.Claims) == 0 || bytes.Equal(payload, t.Claims)) {
		p.rest = append(p.rest, formPayload)
	} else {
		p.json(t.Claims)
	}
	p.json(t.UserInfo)
	p.rest = appendText(p.rest, t.Refresh)
	p.rest = binary.AppendUvarint(p.rest, uint64(len(t.Values)))
	for _, key := range slices.Sorted(maps.Keys(t.Values)) {
		p.rest = appendText(p.rest, key)
		p.rest = appendText(p.rest, t.Values[key])
	}
	stream, err := z.deflate(p.public)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(mark)+len(stream)+len(p.rest)+8)
	b = append(b, version)
	b = append(b, mark...)
	b = appendText(b, stream)
	return append(b, p.rest...), nil
}

// token writes a token and returns its payload if it was a JWT that could be taken apart.
func (p *packer) token(token string) (payload []byte) {
	text, header, signature, ok := splitJWT(token)
	if !ok || !p.publish(text) {
		p.rest = append(p.rest, formPlain)
		p.rest = appendText(p.rest, token)
		return nil
	}
	p.rest = append(p.rest, formJWT)
	p.rest = binary.AppendUvarint(p.rest, uint64(len(text)))
	p.rest = binary.AppendUvarint(p.rest, uint64(header))
	p.rest = appendText(p.rest, signature)
	return text[header:]
}

func (p *packer) json(doc []byte) {
	if !isObject(doc) || !p.publish(doc) {
		p.rest = append(p.rest, formPlain)
		p.rest = appendText(p.rest, doc)
		return
	}
	p.rest = append(p.rest, formStream)
	p.rest = binary.AppendUvarint(p.rest, uint64(len(doc)))
}

// publish adds text to the stream unless the reader would refuse that much.
func (p *packer) publish(text []byte) bool {
	if len(text) > maxPart || len(text) > maxInflated-len(p.public) {
		return false
	}
	p.public = append(p.public, text...)
	return true
}

func (p *packer) access(a *AccessToken) {
	payload := p.token(a.Token)
	p.known([]byte(usualType), a.Type)
	p.known(payload, a.Audience)
	p.known(payload, a.Scope)
	p.known(payload, a.Requested)
	p.rest = binary.AppendVarint(p.rest, a.Issued)
	p.rest = binary.AppendVarint(p.rest, a.Expiry-a.Issued)
}

// known writes a text, or where it is in one that the reader knows as well: a JWT repeats what it was asked for. It
// writes twice the length, or that and one and the place.
func (p *packer) known(known []byte, s string) {
	at := bytes.Index(known, []byte(s))
	if s == "" || at < 0 {
		p.rest = binary.AppendUvarint(p.rest, uint64(len(s))<<1)
		p.rest = append(p.rest, s...)
		return
	}
	p.rest = binary.AppendUvarint(p.rest, uint64(len(s))<<1|1)
	p.rest = binary.AppendUvarint(p.rest, uint64(at))
}

// splitJWT decodes the segments of a compact JWS, if encoding them again gives the same token: header and payload into
// one text, of which header bytes are the header. Both must be JSON objects: an opaque token that happens to have two
// full stops must not be compressed.
func splitJWT(token string) (text []byte, header int, signature []byte, ok bool) {
	segments := strings.Split(token, ".")
	if len(segments) != 3 {
		return nil, 0, nil, false
	}
	var ends [3]int
	for i, s := range segments {
		start := len(text)
		var err error
		text, err = encoding.AppendDecode(text, []byte(s))
		if err != nil || encoding.EncodedLen(len(text)-start) != len(s) {
			return nil, 0, nil, false
		}
		ends[i] = len(text)
	}
	text, signature = text[:ends[1]], text[ends[1]:]
	ok = isObject(text[:ends[0]]) && isObject(text[ends[0]:])
	return text, ends[0], signature, ok
}

func isObject(doc []byte) bool {
	return len(doc) > 1 && doc[0] == '{' && json.Valid(doc)
}

// marked reports whether plain is of this version and of the box that mark is for.
func marked(plain []byte, mark string) bool {
	return len(plain) > len(mark) && plain[0] == version && string(plain[1:1+len(mark)]) == mark
}

// A part is how far tokens are read: what is wanted most comes first.
type part uint8

const (
	accessPart part = iota
	claimsPart
	allParts
)

// An unpacker reads what a packer wrote.
type unpacker struct {
	reader
	public *inflater
}

func (z *deflater) unpackTokens(mark, plain string, last part) (*Tokens, error) {
	u := unpacker{reader: reader{rest: plain}}
	if u.octet() != version || u.take(8) != mark {
		return nil, errTokens
	}
	u.public = z.open(u.text())
	defer z.close(u.public)
	t := new(Tokens)
	for n := u.count(); n > 0 && !u.bad; n-- {
		t.Access = append(t.Access, u.access())
	}
	if last >= claimsPart {
		var payload []byte
		t.IDToken, payload = u.token()
		t.Claims = u.json(payload)
	}
	if last == allParts {
		u.others(t)
	}
	if u.bad {
		return nil, errTokens
	}
	return t, nil
}

// others reads what is behind the claims, to the end.
func (u *unpacker) others(t *Tokens) {
	t.UserInfo = u.json(nil)
	t.Refresh = u.text()
	for n := u.count(); n > 0 && !u.bad; n-- {
		if t.Values == nil {
			t.Values = make(map[string][]byte)
		}
		key := u.text()
		t.Values[key] = []byte(u.text())
	}
	if !u.done() || !u.public.done() {
		u.fail()
	}
}

// token returns a token and its payload, which is nil for one that was not taken apart.
func (u *unpacker) token() (token string, payload []byte) {
	switch u.octet() {
	case formPlain:
		return u.text(), nil
	case formJWT:
		size, header, signature := u.uvarint(), u.uvarint(), u.text()
		text := u.published(size)
		if u.bad || header > size {
			break
		}
		return joinJWT(text[:header], text[header:], signature), text[header:]
	}
	u.fail()
	return "", nil
}

func joinJWT(header, payload []byte, signature string) string {
	size := encoding.EncodedLen(len(header)) + encoding.EncodedLen(len(payload)) + encoding.EncodedLen(len(signature)) + 2
	b := make([]byte, 0, size)
	b = append(encoding.AppendEncode(b, header), '.')
	b = append(encoding.AppendEncode(b, payload), '.')
	b = encoding.AppendEncode(b, []byte(signature))
	return string(b)
}

// json returns a JSON object, nil if it is empty. The payload is the ID token's, for claims that are it.
func (u *unpacker) json(payload []byte) []byte {
	switch u.octet() {
	case formPlain:
		if s := u.text(); s != "" {
			return []byte(s)
		}
		return nil
	case formStream:
		return u.published(u.uvarint())
	case formPayload:
		if payload != nil {
			return payload
		}
	}
	u.fail()
	return nil
}

// published returns the next size bytes of the stream.
func (u *unpacker) published(size uint64) []byte {
	text, err := u.public.next(size)
	if err != nil {
		u.fail()
	}
	return text
}

func (u *unpacker) access() AccessToken {
	var a AccessToken
	token, payload := u.token()
	a.Token = token
	a.Type = u.known([]byte(usualType))
	a.Audience = u.known(payload)
	a.Scope = u.known(payload)
	a.Requested = u.known(payload)
	a.Issued = u.varint()
	a.Expiry = a.Issued + u.varint()
	return a
}

// known returns a text that may be part of the known one.
func (u *unpacker) known(known []byte) string {
	n := u.uvarint()
	if n&1 == 0 {
		return u.take(n >> 1)
	}
	at, size := u.uvarint(), n>>1
	if at > uint64(len(known)) || size > uint64(len(known))-at {
		u.fail()
		return ""
	}
	return string(known[at : at+size])
}
