package cookie_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/securecookie"

	"github.com/oidcauth/oidcauth/internal/cookie"
)

func opensTo(c securecookie.Codec, name, text string, want []byte) bool {
	var got []byte
	return c.Decode(name, text, &got) == nil && bytes.Equal(got, want)
}

func seals(t testing.TB, c securecookie.Codec, name string, value []byte) string {
	t.Helper()
	text, err := c.Encode(name, value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// CKE-06, THR-16, S45: keys differ by secret, purpose and kind.
func TestOnlyTheCodecOfTheSameSecretAndPurposeOpens(t *testing.T) {
	t.Parallel()
	var all []securecookie.Codec
	for _, secret := range []string{testSecret, oldSecret} {
		for _, purpose := range []string{"session", "login"} {
			all = append(all, cookie.Codecs([]string{secret}, purpose)...)
			all = append(all, cookie.LoginCodecs([]string{secret}, purpose)...)
		}
	}
	value := []byte("value")
	for i, from := range all {
		text := seals(t, from, "name", value)
		for j, to := range all {
			if got, want := opensTo(to, "name", text, value), i == j; got != want {
				t.Errorf("sealed by %d, opened by %d: %v, want %v", i, j, got, want)
			}
		}
		if opensTo(from, "nam", text, value) || opensTo(from, "", text, value) {
			t.Errorf("codec %d opens under another name", i)
		}
	}
}

// Lesson 19: securecookie encrypts what a serializer hands it in place.
func TestSealingLeavesItsArgumentAlone(t *testing.T) {
	t.Parallel()
	for _, c := range append(cookie.Codecs([]string{testSecret}, "p"), cookie.LoginCodecs([]string{testSecret}, "p")...) {
		value := bytes.Repeat([]byte("secret "), 1000) // Over securecookie's limit as well.
		want := bytes.Clone(value)
		text := seals(t, c, "name", value)
		if !bytes.Equal(value, want) {
			t.Error("the argument was changed")
		}
		if !opensTo(c, "name", text, want) {
			t.Error("does not open")
		}
	}
}

func TestLoginCodecsForgetAfterFifteenMinutes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := cookie.LoginCodecs([]string{testSecret}, "login")[0]
		text := seals(t, c, "name", []byte("x"))
		time.Sleep(15 * time.Minute)
		if !opensTo(c, "name", text, []byte("x")) {
			t.Error("does not open after 15 minutes")
		}
		time.Sleep(time.Second)
		if opensTo(c, "name", text, []byte("x")) {
			t.Error("opens after more than 15 minutes")
		}
	})
}

func TestCodecsRefuseOtherTypesAndOtherSpellings(t *testing.T) {
	t.Parallel()
	c := cookie.Codecs([]string{testSecret}, "p")[0]
	if _, err := c.Encode("n", "a string"); err == nil {
		t.Error("sealed a string")
	}
	text := seals(t, c, "n", []byte("four")) // 44 bytes: the last character has bits that mean nothing.
	var s string
	if err := c.Decode("n", text, &s); err == nil {
		t.Error("opened into a string")
	}
	last := strings.IndexByte(base64url, text[len(text)-1])
	for name, other := range map[string]string{
		"padding":       text + "=",
		"line end":      text[:8] + "\n" + text[8:],
		"trailing bits": text[:len(text)-1] + string(base64url[last+1]),
		"empty":         "",
		"short":         text[:20],
	} {
		if opensTo(c, "n", other, []byte("four")) {
			t.Errorf("%s: opens", name)
		}
	}
}

const base64url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// A testCodec does with an inner codec what a user's own might do.
type testCodec struct {
	encode func(name string, value []byte) (string, error)
	decode func(name, text string) ([]byte, error)
}

func (c testCodec) Encode(name string, value any) (string, error) {
	b, ok := value.([]byte)
	if !ok {
		return "", errors.New("no bytes")
	}
	return c.encode(name, b)
}

func (c testCodec) Decode(name, text string, dst any) error {
	b, err := c.decode(name, text)
	if err != nil {
		return err
	}
	*dst.(*[]byte) = b
	return nil
}

// ignoringName returns a codec that seals everything under one name.
func ignoringName(inner securecookie.Codec) securecookie.Codec {
	return testCodec{
		encode: func(_ string, b []byte) (string, error) { return inner.Encode("", b) },
		decode: func(_, text string) (b []byte, err error) { err = inner.Decode("", text, &b); return b, err },
	}
}

// wrapping returns a codec that writes what inner does in another way.
func wrapping(inner securecookie.Codec, to func(string) string, from func(string) string) securecookie.Codec {
	return testCodec{
		encode: func(name string, b []byte) (string, error) {
			text, err := inner.Encode(name, b)
			return to(text), err
		},
		decode: func(name, text string) (b []byte, err error) {
			err = inner.Decode(name, from(text), &b)
			return b, err
		},
	}
}

// plainIn returns a codec that shows the value in the encoding given.
func plainIn(encode func([]byte) string) securecookie.Codec {
	return testCodec{
		encode: func(name string, b []byte) (string, error) { return "x" + encode(b), nil },
		decode: func(name, text string) ([]byte, error) { return nil, errors.New("not needed") },
	}
}

// S18
func TestCheckCodec(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789abcdef0123456789abcdef")
	own := cookie.Codecs([]string{testSecret}, "session")[0]
	same := func(s string) string { return s }
	tests := map[string]struct {
		codec securecookie.Codec
		want  string // part of the error, empty for none
	}{
		"ours":                      {own, ""},
		"ours for logins":           {cookie.LoginCodecs([]string{testSecret}, "login")[0], ""},
		"securecookie":              {securecookie.New(key, key), ""},
		"securecookie, raw bytes":   {securecookie.New(key, key).SetSerializer(securecookie.NopEncoder{}), ""},
		"securecookie, JSON":        {securecookie.New(key, key).SetSerializer(securecookie.JSONEncoder{}), ""},
		"nil":                       {nil, "nil"},
		"nil securecookie":          {(*securecookie.SecureCookie)(nil), "nil"},
		"signed only":               {securecookie.New(key, nil), "block key"},
		"signed only, raw bytes":    {securecookie.New(key, nil).SetSerializer(securecookie.NopEncoder{}), "block key"},
		"signed only, JSON":         {securecookie.New(key, nil).SetSerializer(securecookie.JSONEncoder{}), "block key"},
		"plain":                     {plainIn(func(b []byte) string { return string(b) }), "block key"},
		"base64 after one letter":   {plainIn(base64.RawURLEncoding.EncodeToString), "block key"},
		"standard base64, in a URL": {plainIn(inURL), "block key"},
		"hexadecimal":               {plainIn(func(b []byte) string { return "/" + hex.EncodeToString(b) }), "block key"},
		"keys missing":              {securecookie.New(nil, nil), "valid key"},
		"block key of a wrong size": {securecookie.New(key, []byte("short")), "valid key"},
		"ignores the name":          {ignoringName(own), "name"},
		"writes full stops":         {wrapping(own, adding("v1.", ""), removing("v1.", "")), "cookies cannot carry"},
		"writes line ends":          {wrapping(own, adding("", "\n"), removing("", "\n")), "cookies cannot carry"},
		"opens nothing":             {wrapping(own, same, func(string) string { return "" }), "does not open"},
		"always seals the same":     {deterministic(own), "nonce"},
		"does not authenticate":     {malleable(), "changed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := cookie.CheckCodec(tt.codec)
			if tt.want == "" {
				if err != nil {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func inURL(b []byte) string { return "?v=" + base64.StdEncoding.EncodeToString(b) }

func adding(before, after string) func(string) string {
	return func(s string) string { return before + s + after }
}

func removing(before, after string) func(string) string {
	return func(s string) string { return strings.TrimSuffix(strings.TrimPrefix(s, before), after) }
}

// deterministic returns a codec that seals equal values to equal texts.
func deterministic(inner securecookie.Codec) securecookie.Codec {
	known := map[string]string{}
	return testCodec{
		encode: func(name string, b []byte) (string, error) {
			if text, ok := known[name+string(b)]; ok {
				return text, nil
			}
			text, err := inner.Encode(name, b)
			known[name+string(b)] = text
			return text, err
		},
		decode: func(name, text string) (b []byte, err error) { err = inner.Decode(name, text, &b); return b, err },
	}
}

// malleable returns a codec that hides values, but opens what was changed: a mask stands for a cipher without a MAC.
func malleable() securecookie.Codec {
	mask := func(name string, n byte, b []byte) []byte {
		out := bytes.Clone(b)
		for i := range out {
			out[i] ^= 0x80 ^ n ^ byte(len(name)<<5)
		}
		return out
	}
	n := byte(0)
	return testCodec{
		encode: func(name string, b []byte) (string, error) {
			n++
			return base64.RawURLEncoding.EncodeToString(append([]byte{n}, mask(name, n, b)...)), nil
		},
		decode: func(name, text string) ([]byte, error) {
			b, err := base64.RawURLEncoding.DecodeString(text)
			if err != nil || len(b) == 0 {
				return nil, errors.New("no base64")
			}
			return mask(name, b[0], b[1:]), nil
		},
	}
}
