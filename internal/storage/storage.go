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

// An Index is what the root package calls SessionIndex.
type Index interface {
	Tagged(ctx context.Context, tag string) (keys []string, err error)
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
	most    int           // failures in a row, until there is a pause

	mu       sync.Mutex
	failures int // of reads, in a row
	until    time.Time
	last     error
}

// Guard returns s with a timeout for each call. So many reads are made for one request at the same time, and fail together when
// a connection breaks, which is no outage.
func Guard(s Store, timeout time.Duration, together int) *Guarded {
	return &Guarded{store: s, timeout: timeout, most: maxFailures * together}
}

// Get is [Store].Get. After three requests in a row that failed it fails at once for a second.
func (g *Guarded) Get(ctx context.Context, key string) (data []byte, version int64, ok bool, err error) {
	if err := g.paused(); err != nil {
		return nil, 0, false, err
	}
	began := time.Now()
	err = g.call(ctx, func(ctx context.Context) (err error) {
		data, version, ok, err = g.store.Get(ctx, key)
		return err
	})
	// A request whose time is up says little about a store that has hardly been waited for.
	if err == nil || ctx.Err() == nil || !gaveUp(ctx) && time.Since(began) >= g.timeout/2 {
		g.note(err)
	}
	if err != nil {
		return nil, 0, false, err
	}
	return data, version, ok, nil
}

// Set is [Store].Set.
func (g *Guarded) Set(
	ctx context.Context, key string, data []byte, expires time.Time, old int64, tags []string,
) (version int64, err error) {
	err = g.call(ctx, func(ctx context.Context) (err error) {
		version, err = g.store.Set(ctx, key, data, expires, old, tags)
		return err
	})
	return version, err
}

// Indexed reports whether the store finds keys by their tags.
func (g *Guarded) Indexed() bool {
	_, ok := g.store.(Index)
	return ok
}

// Tagged is [Index].Tagged of a store that is one.
func (g *Guarded) Tagged(ctx context.Context, tag string) (keys []string, err error) {
	err = g.call(ctx, func(ctx context.Context) (err error) {
		index, ok := g.store.(Index)
		if !ok {
			return errors.New("it has no index")
		}
		keys, err = index.Tagged(ctx, tag)
		return err
	})
	return keys, err
}

// Delete is [Store].Delete.
func (g *Guarded) Delete(ctx context.Context, key string) error {
	return g.call(ctx, func(ctx context.Context) error { return g.store.Delete(ctx, key) })
}

// call makes one call, and says whose fault an error is: only a request that was given up says nothing about the store. A
// store that panics must not take refreshed tokens, or the program, along.
func (g *Guarded) call(ctx context.Context, do func(context.Context) error) (err error) {
	timed, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: it panicked with a %T", ErrUnavailable, p)
		}
	}()
	if err = ctx.Err(); err == nil {
		err = do(timed)
	}
	switch {
	case err == nil:
		return nil
	case gaveUp(ctx):
		return fmt.Errorf("session store: %w", context.Cause(ctx))
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func gaveUp(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }

func (g *Guarded) paused() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Now().Before(g.until) {
		return g.last
	}
	return nil
}

func (g *Guarded) note(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil {
		g.failures = 0
		return
	}
	if g.failures++; g.failures >= g.most {
		g.until, g.last = time.Now().Add(pause), err
	}
}
