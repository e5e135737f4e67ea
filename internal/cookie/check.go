package cookie

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/gorilla/securecookie"
)

// CheckCodec tries a codec given by the user on a random value and returns an error that says what to change if the
// codec shows the value, seals the same value twice to the same text, opens what was changed or sealed under another
// name, or cannot carry bytes in a cookie. A nil error does not mean that the cipher is any good.
func CheckCodec(c securecookie.Codec) error {
	if s, ok := c.(*securecookie.SecureCookie); c == nil || ok && s == nil {
		return errors.New("codec is nil: remove it")
	}
	c = unlimited(c)
	const name, other = "canary-name", "canary-other"
	canary := []byte(rand.Text() + rand.Text())
	first, err := c.Encode(name, bytes.Clone(canary))
	if err != nil {
		return fmt.Errorf("codec cannot seal a []byte, give it a serializer that can and a valid key: %w", err)
	}
	second, err := c.Encode(name, bytes.Clone(canary))
	if err != nil {
		return fmt.Errorf("codec cannot seal a second value: %w", err)
	}
	switch {
	case shows(first, canary, 4):
		return errors.New("codec signs but does not encrypt: give securecookie.New a block key of 32 bytes as well")
	case first == second:
		return errors.New("codec seals equal values to equal texts: it must use a random nonce")
	case strings.ContainsFunc(first, notBoxOctet):
		return errors.New("codec writes full stops or characters that cookies cannot carry: encode with base64url")
	case !opens(c, name, first, canary):
		return errors.New("codec does not open what it sealed: it must decode a []byte into a *[]byte")
	case opens(c, other, first, canary):
		return errors.New("codec opens a value under another name: it must authenticate the name argument")
	case acceptsChange(c, name, first):
		return errors.New("codec opens a changed value: it must authenticate what it encrypts")
	}
	return nil
}

func opens(c securecookie.Codec, name, text string, want []byte) bool {
	var got []byte
	return c.Decode(name, text, &got) == nil && bytes.Equal(got, want)
}

// acceptsChange changes a character in the middle, where each bit counts.
func acceptsChange(c securecookie.Codec, name, text string) bool {
	b := []byte(text)
	i := len(b) / 2
	if b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	var got []byte
	return c.Decode(name, string(b), &got) == nil
}

// shows reports whether text holds the canary, as it is or in base64 or hexadecimal, up to depth times over:
// securecookie encodes twice.
func shows(text string, canary []byte, depth int) bool {
	if strings.Contains(text, string(canary)) {
		return true
	}
	if depth == 0 {
		return false
	}
	for _, run := range strings.FieldsFunc(text, notHex) {
		if b, err := hex.DecodeString(run); err == nil && shows(string(b), canary, depth-1) {
			return true
		}
	}
	for _, run := range strings.FieldsFunc(text, notBase64) {
		run = strings.NewReplacer("+", "-", "/", "_").Replace(run)
		// A prefix of the codec's own may shift the groups of four.
		for shift := range min(4, len(run)) {
			part := run[shift:]
			if len(part) >= len(canary) && shows(decodePrefix(part), canary, depth-1) {
				return true
			}
		}
	}
	return false
}

// decodePrefix decodes as many whole groups of four as s has, and the rest if it can.
func decodePrefix(s string) string {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		b, _ = base64.RawURLEncoding.DecodeString(s[:len(s)&^3])
	}
	return string(b)
}

func notHex(r rune) bool {
	return !strings.ContainsRune("0123456789abcdefABCDEF", r)
}

func notBase64(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("+/-_", r)
}

// notBoxOctet is true for what is no cookie-octet (RFC 6265bis, section 4.1.1) and for the full stop between two boxes.
func notBoxOctet(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`",;\.`, r)
}

// unlimited returns a codec without securecookie's limit of 4096 bytes, which is one of a single cookie: ours are cut
// afterwards. The user's own value is left as it is.
func unlimited(c securecookie.Codec) securecookie.Codec {
	s, ok := c.(*securecookie.SecureCookie)
	if !ok || s == nil {
		return c
	}
	own := *s
	return own.MaxLength(0)
}

func allUnlimited(codecs []securecookie.Codec) []securecookie.Codec {
	own := make([]securecookie.Codec, 0, len(codecs))
	for _, c := range codecs {
		own = append(own, unlimited(c))
	}
	return own
}
