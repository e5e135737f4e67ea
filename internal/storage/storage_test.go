package storage_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth/internal/storage"
)

var errDown = errors.New("connection refused")

// A fake store fails with err, or hangs until its context ends, and counts its calls.
type fake struct {
	err    error
	hangs  bool
	panics bool
	calls  int
}

func (f *fake) call(ctx context.Context) error {
	f.calls++
	if f.panics {
		panic("a store's own mistake")
	}
	if f.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return f.err
}

func (f *fake) Get(ctx context.Context, _ string) ([]byte, int64, bool, error) {
	err := f.call(ctx)
	return []byte("x"), 7, true, err
}

func (f *fake) Set(ctx context.Context, _ string, _ []byte, _ time.Time, _ int64, _ []string) (int64, error) {
	return 8, f.call(ctx)
}

func (f *fake) Delete(ctx context.Context, _ string) error { return f.call(ctx) }

// calls are the methods of a store, by what they answer.
var calls = map[string]func(context.Context, *storage.Guarded) error{
	"Get": func(ctx context.Context, g *storage.Guarded) error {
		data, version, ok, err := g.Get(ctx, "k")
		if err == nil && (string(data) != "x" || version != 7 || !ok) || err != nil && (data != nil || version != 0 || ok) {
			return errors.New("not what the store said")
		}
		return err
	},
	"Set": func(ctx context.Context, g *storage.Guarded) error {
		_, err := g.Set(ctx, "k", nil, time.Now(), 0, nil)
		return err
	},
	"Delete": func(ctx context.Context, g *storage.Guarded) error { return g.Delete(ctx, "k") },
}

// S36: each call ends, and says whose fault it is.
func TestCallsEnd(t *testing.T) {
	t.Parallel()
	for name, call := range calls {
		synctest.Test(t, func(t *testing.T) {
			ctx, start := t.Context(), time.Now()
			if err := call(ctx, storage.Guard(&fake{}, time.Second, 1)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := call(ctx, storage.Guard(&fake{err: errDown}, time.Second, 1)); !errors.Is(err, storage.ErrUnavailable) || !errors.Is(err, errDown) {
				t.Errorf("%s of a store that fails: %v", name, err)
			}
			if time.Since(start) != 0 {
				t.Errorf("%s took %v", name, time.Since(start))
			}
			if err := call(ctx, storage.Guard(&fake{hangs: true}, 3*time.Second, 1)); !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("%s of a store that hangs: %v", name, err)
			}
			if took := time.Since(start); took != 3*time.Second {
				t.Errorf("%s hung for %v", name, took)
			}
			gone, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			err := call(gone, storage.Guard(&fake{hangs: true}, 3*time.Second, 1))
			if errors.Is(err, storage.ErrUnavailable) || !errors.Is(err, context.Canceled) {
				t.Errorf("%s of a request that was given up: %v", name, err)
			}
			hurried, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			if err := call(hurried, storage.Guard(&fake{hangs: true}, 3*time.Second, 1)); !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("%s of a request with a deadline: %v", name, err)
			}
			if err := call(ctx, storage.Guard(&fake{panics: true}, time.Second, 1)); !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("%s of a store that panics: %v", name, err)
			}
		})
	}
}

// S36: after three reads in a row that failed nobody waits, for a second.
func TestReadsFailFastForASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{err: errDown}
		g := storage.Guard(f, 2*time.Second, 1)
		read := func(want int) {
			t.Helper()
			err := calls["Get"](t.Context(), g)
			if !errors.Is(err, storage.ErrUnavailable) && f.err != nil || f.calls != want {
				t.Errorf("%v after %d calls, want %d", err, f.calls, want)
			}
		}
		read(1)
		read(2)
		f.err = nil // one that works in between
		read(3)
		f.err = errDown
		read(4)
		read(5)
		read(6)
		read(6)
		if err := calls["Delete"](t.Context(), g); err == nil || f.calls != 7 {
			t.Errorf("a Delete is not tried: %v", err)
		}
		time.Sleep(time.Second - 1)
		read(7)
		time.Sleep(time.Nanosecond)
		read(8) // still down: once is enough now
		read(8)
		time.Sleep(time.Second)
		f.err = nil
		read(9)
		read(10)
		f.hangs = true
		for range 5 { // requests that give up say nothing about the store
			gone, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Millisecond, cancel)
			_ = calls["Get"](gone, g)
		}
		f.hangs = false
		read(16)
	})
}
