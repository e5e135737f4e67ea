package cookie

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"strings"
)

const (
	ticketMAC  = 8       // bytes
	maxEntry   = 1 << 20 // octets
	ticketSize = len(Identity{}.ID) + ticketMAC
)

// macKeys derives a key for each secret. A key that cannot be derived, which only a restricted crypto policy can cause, is
// nil and opens nothing.
func macKeys(secrets []string, purpose string) [][]byte {
	keys := make([][]byte, len(secrets))
	for i, secret := range secrets {
		keys[i], _ = deriveKey(secret, purpose, sha256.Size)
	}
	return keys
}

func mac(key []byte, parts ...string) []byte {
	d := digest(parts...)
	h := hmac.New(sha256.New, key)
	h.Write(d[:])
	return h.Sum(nil)
}

func (c *Sessions) ticketMAC(key, id []byte) []byte {
	return mac(key, append([]string{"ticket", string(id)}, c.binding...)...)[:ticketMAC]
}

// Ticket returns the id in the session's cookie of a request. Stale says that another secret than the first vouches for
// it. It reports false if there is none, if it was not made with one of the secrets, so that junk is nobody's concern but
// ours (S47), and if the cookie came twice with different ids.
func (c *Sessions) Ticket(h http.Header) (id [32]byte, stale, ok bool) {
	candidates, ok := find(h, c.attr.Name)
	if !ok {
		return id, false, false
	}
	found := false
	for _, value := range candidates.list[:candidates.n] {
		b, err := encoding.DecodeString(value)
		if err != nil || len(b) != ticketSize || strings.ContainsAny(value, "\r\n") {
			continue
		}
		for i, key := range c.tickets {
			if key == nil || subtle.ConstantTimeCompare(b[len(id):], c.ticketMAC(key, b[:len(id)])) == 0 {
				continue
			}
			if found && !bytes.Equal(id[:], b[:len(id)]) {
				return [32]byte{}, false, false
			}
			copy(id[:], b)
			found, stale = true, i > 0
			break
		}
	}
	return id, stale, found
}

// WriteTicket sets the session's cookie to a ticket for id, and deletes what else of a session req carries. maxAge is in
// seconds, 0 for a cookie that ends with the browser.
func (c *Sessions) WriteTicket(resp, req http.Header, id [32]byte, maxAge int) error {
	if len(c.tickets) == 0 || c.tickets[0] == nil {
		return fmt.Errorf("cookie: no key to make a ticket with")
	}
	c.deleteFrom(1, resp, req)
	c.attr.set(resp, c.names[0], maxAge, encoding.EncodeToString(append(id[:], c.ticketMAC(c.tickets[0], id[:])...)))
	return nil
}

// Handle names a session without being usable as one.
func Handle(id [32]byte) string {
	sum := sha256.Sum256(id[:])
	return encoding.EncodeToString(sum[:12])
}

// Key is the name in the store of the session with that handle. An id is random and nobody can guess it, so that the name
// does not depend on a secret, and stays when those change.
func (c *Sessions) Key(handle string) string {
	d := digest(append([]string{"entry key", handle}, c.binding...)...)
	return encoding.EncodeToString(d[:])
}

// entry is the label of the identity in the store. It belongs to one key (S11).
func (c *Sessions) entry(key string) label {
	return newLabel(append([]string{"entry", key}, c.binding...)...)
}

// SealEntry returns what the store keeps of s under the key of its handle, sealed with the first codec.
func (c *Sessions) SealEntry(s *Session) ([]byte, error) {
	next := *s
	if err := c.reseal(&next); err != nil {
		return nil, err
	}
	l := c.entry(c.Key(Handle(s.Identity.ID)))
	box, err := seal(c.codecs, l.name, next.Identity.pack(l.mark, 1))
	if err != nil {
		return nil, fmt.Errorf("cookie: seal the identity: %w", err)
	}
	return []byte(box + "." + next.sealed), nil
}

// OpenEntry opens what the store has under key. It reports false, and leaves dst alone, if that is not what SealEntry
// returned for this key.
func (c *Sessions) OpenEntry(key string, data []byte, dst *Session) bool {
	if len(data) > maxEntry {
		return false
	}
	box, rest, ok := strings.Cut(string(data), ".")
	if !ok || rest == "" {
		return false
	}
	l := c.entry(key)
	plain, codec, ok := open(c.codecs, l.name, box)
	if !ok {
		return false
	}
	s := Session{sealed: rest, Stale: codec > 0}
	if _, ok := s.Identity.unpack(l.mark, string(plain)); !ok || c.Key(Handle(s.Identity.ID)) != key {
		return false
	}
	*dst = s
	return true
}
