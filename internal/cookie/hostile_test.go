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
func TestStreamIsBounded(t *testing.T) {
	t.Parallel()
	c := cookie.NewSessions(reference.options())
	id := reference.identity()
	const kib = 1 << 10
	stream := func(n int) []byte { return deflated(t, bytes.Repeat([]byte{'0'}, n)) }
	empty, small, bomb := stream(0), stream(100), stream(1<<20)
	// What follows the ID token in otherwise empty tokens: claims, user info, refresh token, values.
	rest := []any{0, 0, 0, 0, 0, 0}
	idToken := func(stream []byte, size, header any) []any {
		return append([]any{stream, 0, 1, size, header, []byte("sig")}, rest...)
	}
	access := func(n int) (parts []any) {
		for range n {
			parts = append(parts, 1, 64*kib, 0, []byte("sig"), 0, 0, 0, 0, 0, 0)
		}
		return parts
	}
	opaque := []any{empty, 1, 0, 0} // An empty access token, its type next.
	tests := map[string]struct {
		parts []any
		want  bool
	}{
		"honest":                       {idToken(small, 100, 50), true},
		"the most there may be of one": {idToken(stream(64*kib), 64*kib, 0), true},
		"one more":                     {idToken(stream(64*kib+1), 64*kib+1, 1), false},
		"bomb that says so":            {idToken(bomb, 1<<20, 0), false},
		"bomb that says it is small":   {idToken(bomb, 100, 50), false},
		"bomb that says 64 KiB":        {idToken(bomb, 64*kib, 0), false},
		"less than it says":            {idToken(small, 101, 50), false},
		"more than it says":            {idToken(small, 99, 50), false},
		"a size of 2^64 - 1":           {idToken(small, ^uint64(0), 50), false},
		"all of it header":             {idToken(small, 100, 100), true},
		"header behind the end":        {idToken(small, 100, 101), false},
		"header far behind it":         {idToken(small, 100, ^uint64(0)), false},
		"no stream":                    {idToken(bytes.Repeat([]byte{'0'}, 40), 100, 50), false},
		"empty stream":                 {idToken(nil, 100, 50), false},
		"a stream nobody reads":        {slices.Concat([]any{small, 0, 0, 0}, rest), false},
		"unknown form":                 {slices.Concat([]any{small, 0, 4, 100}, rest), false},
		"form of JSON for a token":     {slices.Concat([]any{small, 0, 2, 100}, rest), false},
		"claims in the stream":         {[]any{small, 0, 0, 0, 2, 100, 0, 0, 0, 0}, true},
		"form of a token for claims":   {[]any{small, 0, 0, 0, 1, 100, 50, 0, 0, 0, 0, 0}, false},
		"four tokens of 64 KiB":        {slices.Concat([]any{stream(256 * kib), 4}, access(4), []any{0, 0}, rest), true},
		"and one byte": {
			slices.Concat([]any{stream(256*kib + 1), 4}, access(4), []any{1, 1, 0, 0}, rest), false,
		},
		"a thousand million tokens":    {[]any{empty, 1 << 30}, false},
		"2^64 - 1 values":              {[]any{empty, 0, 0, 0, 0, 0, 0, 0, 0, ^uint64(0)}, false},
		"a text of 2^64 - 1 bytes":     {[]any{empty, 0, 0, ^uint64(0)}, false},
		"claims of no ID token":        {[]any{empty, 0, 0, 0, 3, 0, 0, 0, 0}, false},
		"user info of an ID token":     {[]any{small, 0, 1, 100, 50, 0, 3, 3, 0, 0}, false},
		"audience outside the token":   {slices.Concat(opaque, []any{0, 3, 1, 0, 0, 0, 0, 0, 0}, rest), false},
		"audience far outside of it":   {slices.Concat(opaque, []any{0, 3, ^uint64(0), 0, 0, 0, 0, 0, 0}, rest), false},
		"type inside the usual one":    {slices.Concat(opaque, []any{7, 0, 0, 0, 0, 0, 0, 0, 0}, rest), true},
		"type beyond the usual one":    {slices.Concat(opaque, []any{7, 4, 0, 0, 0, 0, 0, 0, 0}, rest), false},
		"number that does not end":     {[]any{empty, 0, 0, strings.Repeat("\xff", 11)}, false},
		"nothing behind the refresh":   {[]any{empty, 0, 0, 0, 0, 0, 0, 0, 0}, false},
		"nothing at all in the tokens": {[]any{empty, 0, 0, 0, 0, 0, 0, 0, 0, 0}, true},
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

// Access tokens come first in the stream, then claims: who asks for them does not wait for what is behind.
func TestTokensAreReadAsFarAsTheyAreWanted(t *testing.T) {
	t.Parallel()
	c := cookie.NewSessions(reference.options())
	id := reference.identity()
	doc := []byte(`{"a":1}`)
	// The claims' block is followed by one that no reader can inflate.
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, 9)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := w.Write(bytes.Repeat(doc, 2)); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	stream := append(b.Bytes(), "\xff\xff\xff"...)
	access := []any{stream, 1, 1, 14, 7, []byte("sig"), 0, 0, 0, 0, 0, 0}
	claims := slices.Concat(access, []any{1, 14, 7, []byte("sig"), 3})
	others := slices.Concat(claims, []any{2, 7, 0, 0})
	for name, tt := range map[string]struct {
		parts          []any
		access, claims bool
	}{
		"cut in an access token":      {access[:8], false, false},
		"cut behind access tokens":    {access, true, false},
		"cut behind claims":           {claims, true, true},
		"user info not in the stream": {others, true, true},
	} {
		value, err := c.Forge(&id, c.PackIdentity(&id, 1), crafted(t, c, &id, tt.parts...))
		if err != nil {
			t.Fatal(err)
		}
		var s cookie.Session
		if !c.Load(cookieOf(value), &s) {
			t.Fatalf("%s: no session", name)
		}
		list, err := c.AccessTokens(&s)
		if (err == nil) != tt.access || tt.access && list[0].Token != segment(`{"a":1}`)+"."+segment(`{"a":1}`)+".c2ln" {
			t.Errorf("%s: access tokens %v, %v", name, list, err)
		}
		got, err := c.Claims(&s)
		if (err == nil) != tt.claims || tt.claims && !bytes.Equal(got, doc) {
			t.Errorf("%s: claims %s, %v", name, got, err)
		}
		if tokens, err := c.Tokens(&s); err == nil {
			t.Errorf("%s: tokens %+v", name, tokens)
		}
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
