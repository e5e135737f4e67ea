package oidcauth

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A MemoryStore is a [SessionStore] and [SessionIndex] in the memory of one process: for development, tests and single
// instances. What is in it is lost when the process ends. It starts no goroutine: values that have expired go when
// others are set. It is safe for concurrent use; the zero value is NewMemoryStore(0).
//
// A store that is full of values which have not expired refuses new keys with an error. It does not make room: who is
// signed in stays so, and a session that was ended does not come back because the note of its end had to go.
type MemoryStore struct {
	max int

	mu       sync.Mutex
	tagged   int   // values with tags, which sessions are
	last     int64 // version given out
	values   map[string]*memoryValue
	tags     map[string]*memoryTag // the first of each tag's list
	expiries memoryHeap
}

// A memoryValue is replaced and never changed, but for its place, so that its data may be read without the lock.
type memoryValue struct {
	key     string
	data    []byte
	version int64
	expires time.Time
	tags    []memoryTag
	place   int // in the heap
}

// A memoryTag is one tag of one value, in the list of all values with this tag. A list in the values themselves takes a
// third of the memory of a set of keys for each tag: most tags name one key.
type memoryTag struct {
	name           string
	value          *memoryValue
	previous, next *memoryTag
}

// defaultMemory is some 250 MB of sessions with the tokens of a large provider.
const defaultMemory = 100_000

// NewMemoryStore returns a store that keeps at most max sessions (values with tags), and twice as many values in all: what
// is noted for some time about a refresh, a session that was ended or a logout token has room when the sessions have none.
// 0 or less is 100,000.
func NewMemoryStore(max int) *MemoryStore { return &MemoryStore{max: max} }

// Get implements [SessionStore].
func (m *MemoryStore) Get(ctx context.Context, key string) (data []byte, version int64, ok bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, false, err
	}
	m.mu.Lock()
	v := m.values[key]
	ok = v != nil && !v.expired(time.Now()) // under the lock, or a Set in between could have extended it
	m.mu.Unlock()
	if !ok {
		return nil, 0, false, nil
	}
	return bytes.Clone(v.data), v.version, true, nil
}

// Set implements [SessionStore].
func (m *MemoryStore) Set(
	ctx context.Context, key string, data []byte, expires time.Time, old int64, tags []string,
) (version int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	v := &memoryValue{key: key, data: bytes.Clone(data), tags: make([]memoryTag, len(tags))}
	for i, name := range tags {
		v.tags[i] = memoryTag{name: name, value: v}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	v.expires = now.Add(expires.Sub(now)) // on the monotonic clock, wherever expires came from
	m.sweep(now)
	before, current := m.values[key], int64(0)
	if before != nil && !before.expired(now) {
		current = before.version
	}
	if current != old {
		return 0, nil
	}
	if !m.hasRoom(v, before) {
		return 0, errors.New("oidcauth: the memory store is full: give NewMemoryStore a larger max, or use another store")
	}
	if before != nil {
		m.remove(before)
	}
	m.add(v)
	return v.version, nil
}

// Delete implements [SessionStore].
func (m *MemoryStore) Delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if v := m.values[key]; v != nil {
		m.remove(v)
	}
	return nil
}

// Tagged implements [SessionIndex].
func (m *MemoryStore) Tagged(ctx context.Context, tag string) (keys []string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for t := m.tags[tag]; t != nil; t = t.next {
		keys = append(keys, t.value.key)
	}
	return keys, nil
}

// Format prints nothing of what is stored.
func (m *MemoryStore) Format(f fmt.State, _ rune) { fmt.Fprint(f, "oidcauth.MemoryStore") }

// sweep removes values that have expired, more than a Set adds but not all at once: a Set does not pay for a thousand.
func (m *MemoryStore) sweep(now time.Time) {
	for n := 0; n < 4 && len(m.expiries) > 0 && m.expiries[0].expired(now); n++ {
		m.remove(m.expiries[0])
	}
}

// hasRoom reports whether v may be kept in the place of before, which may be nil.
func (m *MemoryStore) hasRoom(v, before *memoryValue) bool {
	most, all, tagged := cmp.Or(max(m.max, 0), defaultMemory), len(m.values), m.tagged
	if before != nil {
		all, tagged = all-1, tagged-min(len(before.tags), 1)
	}
	return all < 2*most && (len(v.tags) == 0 || tagged < most)
}

func (m *MemoryStore) add(v *memoryValue) {
	if m.values == nil {
		m.values, m.tags = make(map[string]*memoryValue), make(map[string]*memoryTag)
	}
	m.last++
	v.version = m.last
	m.values[v.key] = v
	m.tagged += min(len(v.tags), 1)
	heap.Push(&m.expiries, v)
	for i := range v.tags {
		t := &v.tags[i]
		if t.next = m.tags[t.name]; t.next != nil {
			t.next.previous = t
		}
		m.tags[t.name] = t
	}
}

func (m *MemoryStore) remove(v *memoryValue) {
	delete(m.values, v.key)
	m.tagged -= min(len(v.tags), 1)
	heap.Remove(&m.expiries, v.place)
	for i := range v.tags {
		t := &v.tags[i]
		if t.next != nil {
			t.next.previous = t.previous
		}
		switch {
		case t.previous != nil:
			t.previous.next = t.next
		case t.next != nil:
			m.tags[t.name] = t.next
		default:
			delete(m.tags, t.name)
		}
	}
}

func (v *memoryValue) expired(now time.Time) bool { return !now.Before(v.expires) }

// A memoryHeap has the value that expires first at 0.
type memoryHeap []*memoryValue

func (h memoryHeap) Len() int           { return len(h) }
func (h memoryHeap) Less(i, j int) bool { return h[i].expires.Before(h[j].expires) }
func (h memoryHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].place, h[j].place = i, j }
func (h *memoryHeap) Push(v any)        { x := v.(*memoryValue); x.place = len(*h); *h = append(*h, x) }

func (h *memoryHeap) Pop() any {
	last := len(*h) - 1
	v := (*h)[last]
	(*h)[last] = nil // or the array keeps it
	*h = (*h)[:last]
	return v
}
