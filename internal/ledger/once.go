// Package ledger sees to it that what may be spent only once is spent once, and that stragglers get the result.
package ledger

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"time"
)

// A Once runs one function for each key, however many ask, and remembers that it ran. The zero value is ready to use.
// It is safe for concurrent use. It remembers 10,000 keys for 16 minutes each; beyond that the oldest is forgotten
// early.
type Once[T any] struct {
	mu      sync.Mutex
	entries map[string]*entry[T]
	order   []*entry[T] // by start, oldest first
}

type entry[T any] struct {
	key     string
	request [sha256.Size]byte // hashed: a request may be long, and a key is kept for long
	started time.Time
	done    chan struct{}
	value   T // guarded by Once.mu
	err     error
}

const (
	limit = 10_000
	// keep outlives every login cookie, so that a state cannot be used again (S24).
	keep = 16 * time.Minute
	// share is how long a value is at hand for those who ask late. It holds secrets, so not for longer than a browser
	// takes to repeat a request.
	share = 10 * time.Second
)

// ErrUsed means that key was used by another request than this.
var ErrUsed = errors.New("used already")

var errUnfinished = errors.New("the first attempt broke off")

// Do runs f if nobody did for key, and otherwise waits, until ctx ends, for the outcome of who did with the same request;
// with another one it is ErrUsed. first says which. f runs in the caller's goroutine; if it panics, the others get an
// error. Ten seconds after f returned its value is forgotten, and who asks then gets the zero value in its place. Its
// error stays.
func (o *Once[T]) Do(ctx context.Context, key, request string, f func() (T, error)) (value T, first bool, err error) {
	e, first := o.claim(key, request)
	if first {
		value, err = o.run(e, f)
		return value, true, err
	}
	if e.request != sha256.Sum256([]byte(request)) {
		return value, false, ErrUsed
	}
	select {
	case <-e.done:
		o.mu.Lock()
		defer o.mu.Unlock()
		return e.value, false, e.err
	case <-ctx.Done():
		return value, false, context.Cause(ctx)
	}
}

// run settles e whatever f does: who waits must not wait for ever.
func (o *Once[T]) run(e *entry[T], f func() (T, error)) (value T, err error) {
	err = errUnfinished
	defer func() {
		o.set(e, value, err)
		close(e.done)
		time.AfterFunc(share, func() { var zero T; o.set(e, zero, err) })
	}()
	return f()
}

func (o *Once[T]) set(e *entry[T], value T, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e.value, e.err = value, err
}

func (o *Once[T]) claim(key, request string) (e *entry[T], first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	for len(o.order) > 0 && now.Sub(o.order[0].started) > keep {
		o.forgetOldest()
	}
	if e, ok := o.entries[key]; ok {
		return e, false
	}
	if len(o.order) == limit {
		o.forgetOldest()
	}
	if o.entries == nil {
		o.entries = map[string]*entry[T]{}
	}
	e = &entry[T]{key: strings.Clone(key), request: sha256.Sum256([]byte(request)), started: now, done: make(chan struct{})}
	o.entries[e.key] = e
	o.order = append(o.order, e)
	return e, true
}

func (o *Once[T]) forgetOldest() {
	delete(o.entries, o.order[0].key)
	o.order[0] = nil
	o.order = o.order[1:]
}
