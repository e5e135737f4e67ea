// Package storage calls a session store so that neither its silence nor its absence does more harm than it must.
package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A Store is what the root package calls SessionStore.
type Store interface {
	Get(ctx context.Context, key string) (data []byte, version int64, ok bool, err error)
	Set(ctx context.Context, key string, data []byte, expires time.Time, old int64, tags []string) (int64, error)
	Delete(ctx context.Context, key string) error
}

// ErrUnavailable says that the store has failed, or has not answered in time. The cause is wrapped beside it.
var ErrUnavailable = errors.New("the session store cannot be reached")

// After so many failures in a row nothing is read for a pause: who waits for each timeout piles up requests (S36).
const (
	maxFailures = 3
	pause       = time.Second
)

// Guarded is a [Store] whose calls end. It is safe for concurrent use.
type Guarded struct {
	store   Store
	timeout time.Duration // of each call

	mu       sync.Mutex
	failures int // of reads, in a row
	until    time.Time
	last     error
}

// Guard returns s with a timeout for each call.
func Guard(s Store, timeout time.Duration) *Guarded { return &Guarded{store: s, timeout: timeout} }

// Get is [Store].Get. After three failures in a row it fails at once for a second.
func (g *Guarded) Get(ctx context.Context, key string) (data []byte, version int64, ok bool, err error) {
	if err := g.paused(); err != nil {
		return nil, 0, false, err
	}
	timed, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	data, version, ok, err = g.store.Get(timed, key)
	if err = g.failure(ctx, err); err != nil {
		data, version, ok = nil, 0, false
	}
	g.note(ctx, err)
	return data, version, ok, err
}

// Set is [Store].Set.
func (g *Guarded) Set(
	ctx context.Context, key string, data []byte, expires time.Time, old int64, tags []string,
) (int64, error) {
	timed, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	version, err := g.store.Set(timed, key, data, expires, old, tags)
	return version, g.failure(ctx, err)
}

// Delete is [Store].Delete.
func (g *Guarded) Delete(ctx context.Context, key string) error {
	timed, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	return g.failure(ctx, g.store.Delete(timed, key))
}

// failure says whose fault err is: a request that has ended says nothing about the store.
func (g *Guarded) failure(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("session store: %w", context.Cause(ctx))
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func (g *Guarded) paused() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Now().Before(g.until) {
		return g.last
	}
	return nil
}

func (g *Guarded) note(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil {
		g.failures = 0
		return
	}
	if g.failures++; g.failures >= maxFailures {
		g.until, g.last = time.Now().Add(pause), err
	}
}
