// Package ledger sees to it that what may be spent only once is spent once, and that stragglers get the result.
package ledger

import (
	"context"
	"sync"
	"time"
)

// A Once runs one function for each key, however many ask, and remembers that it ran. The zero value is ready to use. It is
// safe for concurrent use, holds at most limit keys, and keeps each for keep.
type Once[T any] struct {
	mu      sync.Mutex
	entries map[string]*entry[T]
	order   []*entry[T] // by start, oldest first
}

type entry[T any] struct {
	key     string
	started time.Time
	done    chan struct{}
	value   T
	err     error
}

const (
	limit = 10_000
	// keep outlives every login cookie, so that a state cannot be used again (S24).
	keep = 16 * time.Minute
	// share is how long a value is at hand for those who ask late. It holds secrets, so not for longer than a browser takes
	// to repeat a request.
	share = time.Minute
)

// Do runs f if nobody did for key, and otherwise waits, until ctx ends, for the outcome of who did. first says which. f runs
// in the caller's goroutine. After a minute the value is forgotten and the zero value returned in its place.
func (o *Once[T]) Do(ctx context.Context, key string, f func() (T, error)) (value T, first bool, err error) {
	e, first := o.claim(key)
	if first {
		finished := false
		defer func() {
			if !finished { // f panicked: who waits must not wait for ever
				e.err = context.Canceled
			}
			close(e.done)
		}()
		e.value, e.err = f()
		finished = true
		return e.value, true, e.err
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

func (o *Once[T]) claim(key string) (e *entry[T], first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	o.forget(now)
	if e, ok := o.entries[key]; ok {
		return e, false
	}
	if o.entries == nil {
		o.entries = map[string]*entry[T]{}
	}
	e = &entry[T]{key: key, started: now, done: make(chan struct{})}
	o.entries[key] = e
	o.order = append(o.order, e)
	return e, true
}

// forget drops keys that are too old or too many, and the values of those that were settled a while ago.
func (o *Once[T]) forget(now time.Time) {
	for len(o.order) > 0 && (now.Sub(o.order[0].started) > keep || len(o.order) >= limit) {
		delete(o.entries, o.order[0].key)
		o.order[0] = nil
		o.order = o.order[1:]
	}
	for _, e := range o.order {
		if now.Sub(e.started) < share {
			break
		}
		select {
		case <-e.done:
			var zero T
			e.value = zero
		default:
		}
	}
}
