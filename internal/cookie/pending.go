package cookie

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/securecookie"
)

const (
	// maxListed bounds how many pending cookies of a request are looked at, more than browsers keep for a site, and
	// maxOpened how many of them are opened to see their age: a heap of junk deserves no more.
	maxListed, maxOpened = 200, 32
	// A pending cookie's name ends in a part for the client and one for the state.
	clientChars, stateChars = 6, 22
)

// PendingOptions configures [NewPending]. All fields but those of Attributes are required; Name is the prefix of the
// cookies' names.
type PendingOptions struct {
	Attributes
	// Codecs seal with the first and open with all.
	Codecs []securecookie.Codec
	// Binding is whose cookies they are: issuer, client id, base URL. Purpose tells cookies of one kind from another's.
	Binding []string
	Purpose string
	// TTL is how long a cookie opens. It is sealed inside; the browser is told too, in whole seconds.
	TTL time.Duration
	// Max is how many cookies there may be at a time and MaxBytes how many octets their names and values may have
	// together.
	Max, MaxBytes int
}

// Pending keeps what a login, or a logout, under way must remember: a sealed cookie for each, named after the client
// and the state. It is safe for concurrent use.
type Pending struct {
	o      PendingOptions
	prefix string // of our cookies' names, the client's part included
}

// NewPending returns the Pending for o, which it copies.
func NewPending(o PendingOptions) *Pending {
	o.Codecs = allUnlimited(o.Codecs)
	o.Binding = slices.Clone(o.Binding)
	p := &Pending{o: o}
	client := newLabel(append([]string{o.Purpose, "client"}, o.Binding...)...)
	p.prefix = o.Name + "-" + client.name[:clientChars]
	return p
}

// name returns the name of the cookie for state. It has 132 bits of a hash: the state itself is compared by no one.
func (p *Pending) name(state string) string {
	l := newLabel(append([]string{p.o.Purpose, "state", state}, p.o.Binding...)...)
	return p.prefix + l.name[:stateChars]
}

func (p *Pending) label(name string) label {
	return newLabel(append([]string{p.o.Purpose, "pending", name}, p.o.Binding...)...)
}

// owned reports whether a cookie's name has the form of ours. Another client's on the same host has another one.
func (p *Pending) owned(name string) bool {
	return len(name) == len(p.prefix)+stateChars && strings.HasPrefix(name, p.prefix)
}

// Set seals payload into a cookie for state. It deletes as many of the pending cookies in req as are too many beside
// it: those that do not open or are over first, then the oldest. If the cookie is too big alone the error wraps
// [ErrTooLarge] and resp is as before.
func (p *Pending) Set(resp, req http.Header, state string, payload []byte) error {
	name := p.name(state)
	l := p.label(name)
	b := append([]byte{version}, l.mark...)
	b = binary.AppendVarint(b, time.Now().Unix())
	value, err := seal(p.o.Codecs, l.name, append(b, payload...))
	if err != nil {
		return fmt.Errorf("cookie: seal what is pending: %w", err)
	}
	size := len(name) + len(value)
	if size > min(maxSize, p.o.MaxBytes) {
		return fmt.Errorf("%w: it needs %d octets, at most %d are allowed", ErrTooLarge, size,
			min(maxSize, p.o.MaxBytes))
	}
	p.evict(resp, req, name, size)
	p.o.Set(resp, name, value, int(p.o.TTL/time.Second))
	return nil
}

// Get opens the cookie for state. It reports false if there is none, if it is older than the TTL, if two that differ
// open, and for an empty state.
func (p *Pending) Get(req http.Header, state string) ([]byte, bool) {
	if state == "" {
		return nil, false
	}
	name := p.name(state)
	candidates, ok := find(req, name)
	if !ok {
		return nil, false
	}
	var payload []byte
	found := false
	for _, value := range candidates.list[:candidates.n] {
		b, _, ok := p.open(name, value)
		if !ok {
			continue
		}
		if found {
			return nil, false
		}
		payload, found = b, true
	}
	return payload, found
}

// Delete deletes the cookie for state.
func (p *Pending) Delete(resp http.Header, state string) {
	p.o.Delete(resp, p.name(state))
}

// Clear deletes all pending cookies of this client that req carries.
func (p *Pending) Clear(resp, req http.Header) {
	for _, c := range p.list(req) {
		p.o.Delete(resp, c.name)
	}
}

// open returns the payload and the time it was sealed at.
func (p *Pending) open(name, value string) (payload []byte, sealed int64, ok bool) {
	if len(value) > maxSize {
		return nil, 0, false
	}
	l := p.label(name)
	plain, _, ok := open(p.o.Codecs, l.name, value)
	if !ok {
		return nil, 0, false
	}
	r := reader{rest: string(plain)}
	if r.octet() != version || r.take(8) != l.mark {
		return nil, 0, false
	}
	sealed = r.varint()
	age := time.Since(time.Unix(sealed, 0))
	if r.bad || age > p.o.TTL {
		return nil, 0, false
	}
	return []byte(r.rest), sealed, true
}

// A pendingCookie is one that a request carries. sealed is 0 for one that does not open or is over.
type pendingCookie struct {
	name   string
	size   int
	sealed int64
}

// list returns the pending cookies of a request, one for each name.
func (p *Pending) list(req http.Header) []pendingCookie {
	var all []pendingCookie
	s := scan(req)
	for {
		name, value, ok := s.next()
		if !ok || len(all) == maxListed {
			return all
		}
		if !p.owned(name) {
			continue
		}
		c := pendingCookie{name: name, size: len(name) + len(value)}
		if len(all) < maxOpened {
			_, c.sealed, _ = p.open(name, value)
		}
		i := slices.IndexFunc(all, func(o pendingCookie) bool { return o.name == name })
		if i < 0 {
			all = append(all, c)
			continue
		}
		// Of two with one name the browser sends both: they go together.
		all[i].size += c.size
		all[i].sealed = max(all[i].sealed, c.sealed)
	}
}

// evict deletes pending cookies in req until those left have room for a new one of size octets. One of the new one's
// name is replaced anyway.
func (p *Pending) evict(resp, req http.Header, name string, size int) {
	all := slices.DeleteFunc(p.list(req), func(c pendingCookie) bool { return c.name == name })
	slices.SortStableFunc(all, func(a, b pendingCookie) int { return cmp.Compare(a.sealed, b.sealed) })
	for _, c := range all {
		size += c.size
	}
	for len(all) > 0 && (len(all)+1 > p.o.Max || size > p.o.MaxBytes) {
		p.o.Delete(resp, all[0].name)
		size -= all[0].size
		all = all[1:]
	}
}
