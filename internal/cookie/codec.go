package cookie

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/gorilla/securecookie"
	"golang.org/x/crypto/chacha20poly1305"
)

// loginAge is how long a value sealed by [LoginCodecs] opens, in seconds.
const loginAge = 900

// encoding is strict, so that a box has one spelling only.
var encoding = base64.RawURLEncoding.Strict()

var (
	errType = errors.New("cookie: a codec takes a []byte and gives a *[]byte")
	errSeal = errors.New("cookie: the value does not open")
)

// Codecs returns a codec for each secret: XChaCha20-Poly1305 with the name as additional data, written as base64url
// without padding. They seal a []byte and open into a *[]byte, have no clock, and are safe for concurrent use. The keys
// are derived with HKDF-SHA256 (RFC 5869) from secret and purpose.
func Codecs(secrets []string, purpose string) []securecookie.Codec {
	codecs := make([]securecookie.Codec, 0, len(secrets))
	for _, secret := range secrets {
		codecs = append(codecs, newSealer(secret, purpose))
	}
	return codecs
}

func newSealer(secret, purpose string) securecookie.Codec {
	key, err := deriveKey(secret, purpose, chacha20poly1305.KeySize)
	if err != nil {
		return broken{err}
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return broken{err}
	}
	return sealer{aead}
}

// LoginCodecs returns a codec for each secret, made by securecookie: AES-CTR under HMAC-SHA256, each with a key of its
// own derived as in [Codecs]. What they seal opens for 15 minutes. They are safe for concurrent use.
func LoginCodecs(secrets []string, purpose string) []securecookie.Codec {
	codecs := make([]securecookie.Codec, 0, len(secrets))
	for _, secret := range secrets {
		keys, err := deriveKey(secret, purpose, 64)
		if err != nil {
			codecs = append(codecs, broken{err})
			continue
		}
		c := securecookie.New(keys[:32], keys[32:]).SetSerializer(rawBytes{}).MaxAge(loginAge).MaxLength(0)
		codecs = append(codecs, c)
	}
	return codecs
}

func deriveKey(secret, purpose string, size int) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "oidcauth/1/"+purpose, size)
	if err != nil {
		return nil, fmt.Errorf("cookie: derive the key for %s: %w", purpose, err)
	}
	return key, nil
}

// rawBytes passes bytes through. Its copy is needed: securecookie encrypts what Serialize returns in place.
type rawBytes struct{ securecookie.NopEncoder }

func (rawBytes) Serialize(src any) ([]byte, error) {
	b, ok := src.([]byte)
	if !ok {
		return nil, errType
	}
	return bytes.Clone(b), nil
}

// broken stands for a codec whose key could not be derived, which only a restricted crypto policy can cause.
type broken struct{ err error }

func (b broken) Encode(string, any) (string, error) { return "", b.err }
func (b broken) Decode(string, string, any) error   { return b.err }

type sealer struct{ aead cipher.AEAD }

// Encode seals value, a []byte, under name. The nonce has 24 bytes, so that random ones do not repeat.
func (s sealer) Encode(name string, value any) (string, error) {
	plain, ok := value.([]byte)
	if !ok {
		return "", errType
	}
	const nonceSize = chacha20poly1305.NonceSizeX
	nonce := make([]byte, nonceSize, nonceSize+len(plain)+chacha20poly1305.Overhead)
	_, _ = rand.Read(nonce) // It never fails: crypto/rand ends the program instead.
	return encoding.EncodeToString(s.aead.Seal(nonce, nonce, plain, []byte(name))), nil
}

// Decode opens value under name into dst, a *[]byte.
func (s sealer) Decode(name, value string, dst any) error {
	out, ok := dst.(*[]byte)
	if !ok {
		return errType
	}
	// One buffer for the additional data and the box, which is decrypted in place.
	buf := make([]byte, 0, len(name)+encoding.DecodedLen(len(value)))
	buf, err := encoding.AppendDecode(append(buf, name...), []byte(value))
	if err != nil {
		return errSeal
	}
	aad, box := buf[:len(name)], buf[len(name):]
	// base64 skips line ends without a word.
	if len(box) < chacha20poly1305.NonceSizeX || encoding.EncodedLen(len(box)) != len(value) {
		return errSeal
	}
	nonce, sealed := box[:chacha20poly1305.NonceSizeX], box[chacha20poly1305.NonceSizeX:]
	plain, err := s.aead.Open(sealed[:0], nonce, sealed, aad)
	if err != nil {
		return errSeal
	}
	*out = plain
	return nil
}

// digest hashes parts so that no two lists have one encoding (CVE-2023-35941).
func digest(parts ...string) [sha256.Size]byte {
	var buf [512]byte // Most lists fit, and none of it is heap then.
	b := buf[:0]
	for _, p := range parts {
		b = binary.BigEndian.AppendUint64(b, uint64(len(p)))
		b = append(b, p...)
	}
	return sha256.Sum256(b)
}

// A label is what a box is sealed under and what it repeats inside.
type label struct {
	name string // 43 characters of base64url: securecookie joins name and value with "|"
	mark string // 8 bytes
}

func newLabel(parts ...string) label {
	d := digest(parts...)
	return label{name: encoding.EncodeToString(d[:]), mark: string(d[:8])}
}

// seal seals plain with the first codec.
func seal(codecs []securecookie.Codec, name string, plain []byte) (string, error) {
	if len(codecs) == 0 {
		return "", errors.New("cookie: no codec to seal with")
	}
	if own, ok := codecs[0].(sealer); ok {
		return own.Encode(name, plain)
	}
	// A codec given by the user may encrypt its argument in place, as securecookie does, and may write anything.
	text, err := codecs[0].Encode(name, bytes.Clone(plain))
	if err != nil {
		return "", err
	}
	if strings.ContainsFunc(text, notBoxOctet) {
		return "", errors.New("cookie: the codec writes what a cookie cannot carry")
	}
	return text, nil
}

// open tries each codec in turn and returns the index of the one that opened text.
func open(codecs []securecookie.Codec, name, text string) (plain []byte, codec int, ok bool) {
	for i, c := range codecs {
		if err := c.Decode(name, text, &plain); err == nil {
			return plain, i, true
		}
	}
	return nil, 0, false
}
