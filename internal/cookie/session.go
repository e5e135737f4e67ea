package cookie

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/gorilla/securecookie"
)

const (
	// maxSize is what name and value of a cookie may have together, in octets (RFC 6265bis, section 5.6). Browsers drop
	// a bigger one silently.
	maxSize = 4096
	// maxChunks is how many cookies a session may take: servers and proxies limit all headers together.
	maxChunks = 5
	// maxIdentity keeps the identity box, and the nonce of the box behind it, in the first cookie.
	maxIdentity = 2048
)

// ErrTooLarge is returned, wrapped in what to do about it, for a value that does not fit its cookies.
var ErrTooLarge = errors.New("cookie: value does not fit its cookies")

// SessionOptions configures [NewSessions]. Name and Codecs are required.
type SessionOptions struct {
	Attributes
	// Codecs seal with the first and open with all. One that was not made by [Codecs] should have passed [CheckCodec].
	// A codec's own age limit, if it has one, counts from the login for the tokens and must not be the shorter one.
	Codecs []securecookie.Codec
	// Binding is whose sessions they are: issuer, client id, base URL. Others' do not open.
	Binding []string
	// Words are likely to be in the tokens: issuer and client id. They save room, and tokens open only with the same.
	Words []string
	// Tickets, one secret or more, keep the sessions in a store: in the cookie is a ticket for one.
	Tickets []string
}

// Sessions reads and writes the session's cookies. It is safe for concurrent use.
type Sessions struct {
	attr     Attributes
	codecs   []securecookie.Codec
	binding  []string
	identity label
	names    [maxChunks]string
	tickets  [][]byte // a MAC key for each secret; none: sessions are in the cookie
	z        *deflater
}

// NewSessions returns the Sessions for o, which it copies.
func NewSessions(o SessionOptions) *Sessions {
	c := &Sessions{
		attr:    o.Attributes,
		codecs:  allUnlimited(o.Codecs),
		binding: append([]string{o.Name}, o.Binding...),
		tickets: macKeys(o.Tickets, "ticket"),
		z:       newDeflater(o.Words),
	}
	c.identity = newLabel(append([]string{"session"}, c.binding...)...)
	c.names[0] = o.Name
	for i := 1; i < maxChunks; i++ {
		c.names[i] = o.Name + "." + strconv.Itoa(i)
	}
	return c
}

// tokens returns the label of the token box, which belongs to one session and one generation of its tokens.
func (c *Sessions) tokens(id *Identity) label {
	owner, kind := []string{string(id.ID[:]), strconv.FormatUint(id.Generation, 10)}, "session tokens"
	if len(c.tickets) > 0 {
		kind = "entry tokens"
	}
	return newLabel(slices.Concat([]string{kind}, c.binding, owner)...)
}

// Session is a session with its tokens still sealed. The zero value is a session without tokens. It may be read by
// several goroutines; [Sessions.SetTokens] and [Sessions.Write] change it.
type Session struct {
	Identity Identity
	// Stale is set if another codec than the first opened the session: it should be written again.
	Stale bool

	sealed string // the token box; empty: none yet
	fresh  bool   // sealed by the first codec although the session is stale
	chunks int    // cookies it came in
}

// Present reports whether a request with the header h has a session cookie, whatever it holds.
func (c *Sessions) Present(h http.Header) bool {
	return present(h, c.attr.Name)
}

// Sent returns the header of a request that sends back the session cookies that a response with the header h sets.
func (c *Sessions) Sent(h http.Header) http.Header {
	var pairs []string
	for _, line := range h["Set-Cookie"] {
		pair, _, _ := strings.Cut(line, ";")
		if c.Owned(line) && !strings.HasSuffix(pair, "=") { // an empty value deletes
			pairs = append(pairs, pair)
		}
	}
	if pairs == nil {
		return http.Header{}
	}
	return http.Header{"Cookie": {strings.Join(pairs, "; ")}}
}

// Same reports whether two requests carry the same session cookie, or both none, whatever other cookies they have.
func (c *Sessions) Same(a, b http.Header) bool {
	if slices.Equal(a["Cookie"], b["Cookie"]) {
		return true
	}
	x, hasX := find(a, c.attr.Name)
	y, hasY := find(b, c.attr.Name)
	return hasX == hasY && x == y
}

// Load opens the session in the cookies of a request's header. It reports false, and leaves dst alone, if there is
// none, if it is incomplete or mixed from several, and if the cookie came twice with different values that both open:
// one of them was planted. Whether the session is over is the caller's to decide.
func (c *Sessions) Load(h http.Header, dst *Session) bool {
	candidates, ok := find(h, c.attr.Name)
	if !ok {
		return false
	}
	var s Session
	found := false
	for _, value := range candidates.list[:candidates.n] {
		next, ok := c.open(value)
		if !ok {
			continue
		}
		if found {
			return false
		}
		s, found = next, true
	}
	if !found || s.chunks > 1 && !c.join(h, &s) {
		return false
	}
	*dst = s
	return true
}

// open opens the identity in the value of the first cookie.
func (c *Sessions) open(value string) (s Session, ok bool) {
	box, rest, ok := strings.Cut(value, ".")
	if !ok || rest == "" || len(value) > maxSize {
		return s, false
	}
	plain, codec, ok := open(c.codecs, c.identity.name, box)
	if !ok {
		return s, false
	}
	s.chunks, ok = s.Identity.unpack(c.identity.mark, string(plain))
	s.sealed, s.Stale = rest, codec > 0
	return s, ok
}

// join adds what the further cookies of s hold, and opens it: nothing else tells that they belong together.
func (c *Sessions) join(h http.Header, s *Session) bool {
	var b strings.Builder
	b.WriteString(s.sealed)
	for _, name := range c.names[1:s.chunks] {
		v, ok := find(h, name)
		if !ok || v.n > 1 || len(v.list[0]) > maxSize {
			return false
		}
		b.WriteString(v.list[0])
	}
	s.sealed = b.String()
	_, _, ok := c.openTokens(s)
	return ok
}

// openTokens returns the plaintext of the token box and its label.
func (c *Sessions) openTokens(s *Session) (plain []byte, l label, ok bool) {
	l = c.tokens(&s.Identity)
	plain, _, ok = open(c.codecs, l.name, s.sealed)
	return plain, l, ok && marked(plain, l.mark)
}

// Tokens opens the tokens of s. They are a copy. There is an error if they were changed, belong to another session or
// generation, or were written by a newer version of this package.
func (c *Sessions) Tokens(s *Session) (*Tokens, error) {
	return c.unpack(s, allParts)
}

// AccessTokens opens the access tokens of s and reads no further. Errors are those of [Sessions.Tokens], as far as it
// reads.
func (c *Sessions) AccessTokens(s *Session) ([]AccessToken, error) {
	t, err := c.unpack(s, accessPart)
	if err != nil {
		return nil, err
	}
	return t.Access, nil
}

// Claims opens the claims of s and reads no further. Errors are those of [Sessions.Tokens], as far as it reads.
func (c *Sessions) Claims(s *Session) ([]byte, error) {
	t, err := c.unpack(s, claimsPart)
	if err != nil {
		return nil, err
	}
	return t.Claims, nil
}

func (c *Sessions) unpack(s *Session, last part) (*Tokens, error) {
	if s.sealed == "" {
		return new(Tokens), nil
	}
	plain, l, ok := c.openTokens(s)
	if !ok {
		return nil, errTokens
	}
	return c.z.unpackTokens(l.mark, string(plain), last)
}

// SetTokens seals t as the tokens of s, under its identity's id and generation: set those first. If the session would
// need more than five cookies the error wraps [ErrTooLarge] and s is as before.
func (c *Sessions) SetTokens(s *Session, t *Tokens) error {
	l := c.tokens(&s.Identity)
	plain, err := c.z.packTokens(l.mark, t)
	if err != nil {
		return err
	}
	sealed, err := seal(c.codecs, l.name, plain)
	if err != nil {
		return fmt.Errorf("cookie: seal the tokens: %w", err)
	}
	next := *s
	next.sealed, next.fresh = sealed, true
	if len(c.tickets) > 0 {
		if len(sealed) > maxEntry-maxIdentity {
			return fmt.Errorf("%w: session has more than a megabyte", ErrTooLarge)
		}
	} else if _, _, err := c.sealIdentity(&next); err != nil {
		return err
	}
	*s = next
	return nil
}

// Write seals s with the first codec and sets its cookies in resp, replacing what was set there before. Parts of a
// longer session that req still carries are deleted. maxAge is in seconds, 0 for cookies that end with the browser.
// On error resp is as before.
func (c *Sessions) Write(resp, req http.Header, s *Session, maxAge int) error {
	if err := c.reseal(s); err != nil {
		return err
	}
	box, n, err := c.sealIdentity(s)
	if err != nil {
		return err
	}
	c.deleteFrom(n, resp, req)
	if n == 1 {
		c.attr.set(resp, c.names[0], maxAge, box, ".", s.sealed)
	} else {
		rest := box + "." + s.sealed
		for _, name := range c.names[:n] {
			size := min(len(rest), maxSize-len(name))
			c.attr.set(resp, name, maxAge, rest[:size])
			rest = rest[size:]
		}
	}
	s.chunks, s.Stale, s.fresh = n, false, false
	return nil
}

// deleteFrom deletes the cookies from the nth on that req carries or resp sets.
func (c *Sessions) deleteFrom(n int, resp, req http.Header) {
	var found [maxChunks]bool
	for cookies := scan(req); ; {
		name, _, ok := cookies.next()
		if !ok {
			break
		}
		if i := c.index(name); i >= 0 {
			found[i] = true
		}
	}
	for _, line := range resp["Set-Cookie"] {
		if i := c.index(lineName(line)); i >= 0 {
			found[i] = true
		}
	}
	for i := n; i < maxChunks; i++ {
		if found[i] {
			c.attr.Delete(resp, c.names[i])
		}
	}
}

// index returns which of the session's cookies is called name, below 0 if none is.
func (c *Sessions) index(name string) int {
	return slices.Index(c.names[:], name)
}

// reseal makes sure that s has tokens and that the first codec sealed them.
func (c *Sessions) reseal(s *Session) error {
	if s.sealed == "" {
		return c.SetTokens(s, new(Tokens))
	}
	if !s.Stale || s.fresh {
		return nil
	}
	plain, l, ok := c.openTokens(s)
	if !ok {
		return errTokens
	}
	sealed, err := seal(c.codecs, l.name, plain)
	if err != nil {
		return fmt.Errorf("cookie: seal the tokens again: %w", err)
	}
	s.sealed, s.fresh = sealed, true
	return nil
}

// sealIdentity seals the identity of s and returns the number of cookies that the session takes. The number is inside
// the box, so it is sealed once more if it was guessed wrong.
func (c *Sessions) sealIdentity(s *Session) (box string, n int, err error) {
	n = max(1, s.chunks)
	for range maxChunks {
		box, err := seal(c.codecs, c.identity.name, s.Identity.pack(c.identity.mark, n))
		if err != nil {
			return "", 0, fmt.Errorf("cookie: seal the identity: %w", err)
		}
		needed := c.cookies(len(box) + 1 + len(s.sealed))
		if needed > maxChunks || len(box) > maxIdentity {
			break
		}
		if needed == n {
			return box, n, nil
		}
		n = needed
	}
	return "", 0, fmt.Errorf("%w: session needs more than %d, so let it have fewer claims, scopes or values, "+
		"or drop the ID token", ErrTooLarge, maxChunks)
}

// cookies returns how many cookies a text of size octets takes.
func (c *Sessions) cookies(size int) int {
	n := 1
	for size -= maxSize - len(c.names[0]); size > 0; n++ {
		size -= maxSize - len(c.names[1])
	}
	return n
}

// Clear deletes the session's cookies: the first, and each further one that req carries or resp sets.
func (c *Sessions) Clear(resp, req http.Header) {
	c.attr.Delete(resp, c.names[0])
	c.deleteFrom(1, resp, req)
}

// Owned reports whether a Set-Cookie line is for one of the session's cookies.
func (c *Sessions) Owned(line string) bool {
	return c.index(lineName(line)) >= 0
}
