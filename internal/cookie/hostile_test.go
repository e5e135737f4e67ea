package cookie_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/cookie"
)

// THR-22: whatever is changed anywhere, one answer: no session, or tokens that do not open.
func TestEveryChangedCharacterIsRefused(t *testing.T) {
	t.Parallel()
	c := cookie.NewSessions(reference.options())
	value := write(t, c, newSession(t, c, reference.identity(), &cookie.Tokens{Refresh: "r"}))[sessionName]
	opens := func(value string) bool {
		var s cookie.Session
		if !c.Load(cookieOf(value), &s) {
			return false
		}
		_, err := c.Tokens(&s)
		return err == nil
	}
	if !opens(value) {
		t.Fatal("does not open unchanged")
	}
	for i := range value {
		for bit := range 8 {
			b := []byte(value)
			b[i] ^= 1 << bit
			if opens(string(b)) {
				t.Errorf("opens with bit %d of character %d changed", bit, i)
			}
		}
		if opens(value[:i]) {
			t.Errorf("opens when cut to %d characters", i)
		}
	}
	for _, more := range []string{value + "A", value + ".", value + "." + value, "." + value, value + "=", "", "."} {
		if opens(more) {
			t.Errorf("opens: %q", more)
		}
	}
}

// Lesson 18: a newer version is refused, and so is an older one than there ever was.
func TestOtherVersionsAreRefused(t *testing.T) {
	t.Parallel()
	c := cookie.NewSessions(reference.options())
	id := reference.identity()
	identity := c.PackIdentity(&id, 1)
	tokens, err := c.PackTokens(&id, reference.tokens(t))
	if err != nil {
		t.Fatal(err)
	}
	for version := range 256 {
		want := version == 1
		identity[0] = byte(version)
		if _, _, ok := c.UnpackIdentity(identity); ok != want {
			t.Errorf("identity of version %d: %v", version, ok)
		}
		tokens[0] = byte(version)
		if _, err := c.UnpackTokens(&id, tokens); (err == nil) != want {
			t.Errorf("tokens of version %d: %v", version, err)
		}
	}
}

func TestPlaintextsAreReadToTheLetter(t *testing.T) {
	t.Parallel()
	c := cookie.NewSessions(reference.options())
	id := reference.identity()
	tokens := reference.tokens(t)
	tokens.UserInfo, tokens.Values = []byte(`{"a":1}`), map[string][]byte{"k": []byte("v")}
	packed, err := c.PackTokens(&id, tokens)
	if err != nil {
		t.Fatal(err)
	}
	for name, unpack := range map[string]struct {
		plain []byte
		ok    func([]byte) bool
	}{
		"identity": {c.PackIdentity(&id, 1), func(b []byte) bool { _, _, ok := c.UnpackIdentity(b); return ok }},
		"tokens":   {packed, func(b []byte) bool { _, err := c.UnpackTokens(&id, b); return err == nil }},
	} {
		if !unpack.ok(unpack.plain) {
			t.Fatalf("%s: refused as it is", name)
		}
		if unpack.ok(append(bytes.Clone(unpack.plain), 0)) {
			t.Errorf("%s: a byte too many is accepted", name)
		}
		for n := range unpack.plain {
			if unpack.ok(unpack.plain[:n]) {
				t.Errorf("%s: accepted when cut to %d bytes", name, n)
			}
		}
		for i := 1; i < 9; i++ {
			b := bytes.Clone(unpack.plain)
			b[i] ^= 1
			if unpack.ok(b) {
				t.Errorf("%s: accepted with another mark", name)
			}
		}
	}
}

// crafted returns a token plaintext made by hand behind an honest start, version and mark. Numbers become varints,
// bytes follow their length and strings are as they are.
func crafted(t *testing.T, c *cookie.Sessions, id *cookie.Identity, parts ...any) []byte {
	t.Helper()
	start, err := c.PackTokens(id, &cookie.Tokens{})
	if err != nil {
		t.Fatal(err)
	}
	b := bytes.Clone(start[:9])
	for _, part := range parts {
		switch v := part.(type) {
		case int:
			b = binary.AppendUvarint(b, uint64(v))
		case uint64:
			b = binary.AppendUvarint(b, v)
		case string:
			b = append(b, v...)
		case []byte:
			b = append(binary.AppendUvarint(b, uint64(len(v))), v...)
		}
	}
	return b
}

// deflated returns a stream without its last four bytes, as they are stored.
func deflated(t *testing.T, doc []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, 9)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(doc); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff"))
}

// THR-23: bombs, and lengths that lie. Only someone with the key can make them, or a bug of ours.
func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	c := cookie.NewSessions(reference.options())
	id := reference.identity()
	const kib = 1 << 10
	zeros := func(n int) []byte { return bytes.Repeat([]byte{'0'}, n) }
	small := deflated(t, zeros(100))
	most := deflated(t, zeros(64*kib))
	bomb := deflated(t, zeros(16<<20))
	// What follows the ID token in otherwise empty tokens: claims, user info, refresh token, access tokens, values.
	rest := []any{0, 0, 0, 0, 0, 0, 0}
	jwt := func(header, payload any, stream []byte) []any {
		return append([]any{1, header, payload, stream, []byte("sig")}, rest...)
	}
	var four []any
	for range 4 {
		four = append(four, 1, 0, 64*kib, most, []byte("s"), 0, 0, 0, 0, 0, 0)
	}
	five := []any{0, 0, 0, 0, 0, 4} // Behind an ID token.
	tests := map[string]struct {
		parts []any
		want  bool
	}{
		"honest":                      {jwt(50, 50, small), true},
		"the most there may be":       {jwt(0, 64*kib, most), true},
		"one more":                    {jwt(1, 64*kib, deflated(t, zeros(64*kib+1))), false},
		"bomb that says so":           {jwt(0, 16<<20, bomb), false},
		"bomb that says it is small":  {jwt(50, 50, bomb), false},
		"bomb that says 64 KiB":       {jwt(0, 64*kib, bomb), false},
		"less than it says":           {jwt(50, 51, small), false},
		"more than it says":           {jwt(50, 49, small), false},
		"lengths that overflow":       {jwt(^uint64(0), 101, small), false},
		"no stream":                   {jwt(50, 50, zeros(40)), false},
		"empty stream":                {jwt(50, 50, nil), false},
		"unknown form":                {append([]any{3, zeros(9)}, rest...), false},
		"four streams of 64 KiB":      {slices.Concat([]any{0, 0, 0, 0, 0, 0, 0, 4}, four, []any{0}), true},
		"five streams of 64 KiB":      {slices.Concat(jwt(0, 64*kib, most)[:5], five, four, []any{0}), false},
		"a thousand million tokens":   {[]any{0, 0, 0, 0, 0, 0, 0, 1 << 30}, false},
		"2^64 - 1 values":             {[]any{0, 0, 0, 0, 0, 0, 0, 0, ^uint64(0)}, false},
		"a text of 2^64 - 1 bytes":    {[]any{0, ^uint64(0)}, false},
		"claims of no ID token":       {[]any{0, 0, 2, 0, 0, 0, 0, 0}, false},
		"user info of no ID token":    {[]any{0, 0, 0, 0, 2, 0, 0, 0}, false},
		"audience outside the token":  {[]any{0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 1, 0, 0, 0, 0, 0}, false},
		"audience far outside of it":  {[]any{0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, ^uint64(0), 0, 0, 0, 0, 0}, false},
		"type inside the usual one":   {[]any{0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0}, true},
		"type beyond the usual one":   {[]any{0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 7, 4, 0, 0, 0, 0, 0, 0}, false},
		"number that does not end":    {[]any{0, strings.Repeat("\xff", 11)}, false},
		"nothing behind the refresh":  {[]any{0, 0, 0, 0, 0, 0, 0}, false},
		"nothing at all in the token": {[]any{0, 0, 0, 0, 0, 0, 0, 0, 0}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := c.UnpackTokens(&id, crafted(t, c, &id, tt.parts...))
			if (err == nil) != tt.want {
				t.Errorf("got %v, want it opened: %v", err, tt.want)
			}
			if err != nil && got != nil {
				t.Error("tokens beside an error")
			}
		})
	}
}

// What a writer compresses its reader must accept, however much there is of it.
func TestWriterNeverExceedsTheReadersBounds(t *testing.T) {
	t.Parallel()
	c := cookie.NewSessions(reference.options())
	id := reference.identity()
	doc := func(n int) string { return `{"a":"` + strings.Repeat("a", n-8) + `"}` }
	for _, size := range []int{64<<10 - 1, 64 << 10, 64<<10 + 1, 60 << 10} {
		token := segment("{}") + "." + segment(doc(size)) + "."
		want := &cookie.Tokens{IDToken: token, Claims: []byte(doc(size - 1)), UserInfo: []byte(doc(size))}
		for range 4 {
			want.Access = append(want.Access, cookie.AccessToken{Token: token})
		}
		packed, err := c.PackTokens(&id, want)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.UnpackTokens(&id, packed); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}
