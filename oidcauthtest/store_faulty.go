package oidcauthtest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
)

// A FaultyStore stands before a store and goes wrong when a test wants it to, half-way through what uses the store. It
// counts the calls. Faults are for all methods or for those named: "Get", "Set", "Delete" and "Tagged". There is one at
// a time, the last that a test asked for. It is safe for concurrent use.
//
//	faults := oidcauthtest.NewFaultyStore(t, oidcauth.NewMemoryStore(0))
//	client, provider := oidcauthtest.NewClient(t, func(o *oidcauth.Options) { o.Store = faults.Store() })
//	…
//	faults.Hang("Get")
type FaultyStore struct {
	tb    testing.TB
	inner oidcauth.SessionStore

	mu     sync.Mutex
	fault  storeFault
	before func(method, key string)
	calls  StoreCalls
}

// StoreCalls counts calls of a store's methods, whatever came of them.
type StoreCalls struct{ Gets, Sets, Deletes, Tagged int }

// A storeFault is in force while left is not 0.
type storeFault struct {
	methods []string // empty: all
	left    int      // negative: for good
	err     error    // nil: the answer never comes
	lost    bool     // the answer is, and the call has its effect
}

// NewFaultyStore returns a FaultyStore before inner, which works until told otherwise.
func NewFaultyStore(tb testing.TB, inner oidcauth.SessionStore) *FaultyStore {
	return &FaultyStore{tb: tb, inner: inner}
}

// Store returns the store for the code under test. It is an [oidcauth.SessionIndex] if the one behind it is.
func (f *FaultyStore) Store() oidcauth.SessionStore {
	if index, ok := f.inner.(oidcauth.SessionIndex); ok {
		return faultyIndex{faultyStore{f}, index}
	}
	return faultyStore{f}
}

// Fail lets calls fail with err from now on, without effect.
func (f *FaultyStore) Fail(err error, methods ...string) { f.FailNext(-1, err, methods...) }

// FailNext lets the next n calls fail with err, without effect.
func (f *FaultyStore) FailNext(n int, err error, methods ...string) {
	f.tb.Helper()
	f.set(storeFault{methods: methods, left: n, err: err})
}

// LoseAnswers lets the next n calls have their effect and fail with err all the same, as over a connection that breaks.
// With err nil the call hangs as in [FaultyStore.Hang], after it had its effect. A negative n is for good.
func (f *FaultyStore) LoseAnswers(n int, err error, methods ...string) {
	f.tb.Helper()
	f.set(storeFault{methods: methods, left: n, err: err, lost: true})
}

// Hang lets calls from now on wait until their context ends, without effect.
func (f *FaultyStore) Hang(methods ...string) { f.FailNext(-1, nil, methods...) }

// Heal ends all faults. A call that hangs goes on hanging.
func (f *FaultyStore) Heal() { f.set(storeFault{}) }

// Before lets every call begin with do, in the caller's goroutine and whether or not it is to fail: to look at what is
// called, to hold it up, or to change the inner store at that very moment. The key is a tag for "Tagged". nil ends it.
func (f *FaultyStore) Before(do func(method, key string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = do
}

// Calls returns how many calls there were.
func (f *FaultyStore) Calls() StoreCalls {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func (f *FaultyStore) set(fault storeFault) {
	f.tb.Helper()
	for _, m := range fault.methods {
		if !slices.Contains([]string{"Get", "Set", "Delete", "Tagged"}, m) {
			f.tb.Fatalf("a store has no method %q", m)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// call is one call of a method, whose count is n.
func (f *FaultyStore) call(ctx context.Context, method, key string, n *int, do func() error) error {
	f.mu.Lock()
	*n++
	fault, before := storeFault{}, f.before
	if f.fault.left != 0 && (len(f.fault.methods) == 0 || slices.Contains(f.fault.methods, method)) {
		fault = f.fault
		f.fault.left--
	}
	f.mu.Unlock()
	if before != nil {
		before(method, key)
	}
	if fault.left == 0 {
		return do()
	}
	if fault.lost {
		if err := do(); err != nil {
			return err
		}
	}
	if fault.err == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	return fault.err
}

type faultyStore struct{ f *FaultyStore }

func (s faultyStore) Get(ctx context.Context, key string) (data []byte, version int64, ok bool, err error) {
	err = s.f.call(ctx, "Get", key, &s.f.calls.Gets, func() error {
		data, version, ok, err = s.f.inner.Get(ctx, key)
		return err
	})
	if err != nil {
		return nil, 0, false, err
	}
	return data, version, ok, nil
}

func (s faultyStore) Set(
	ctx context.Context, key string, data []byte, expires time.Time, old int64, tags []string,
) (version int64, err error) {
	err = s.f.call(ctx, "Set", key, &s.f.calls.Sets, func() error {
		version, err = s.f.inner.Set(ctx, key, data, expires, old, tags)
		return err
	})
	if err != nil {
		return 0, err
	}
	return version, nil
}

func (s faultyStore) Delete(ctx context.Context, key string) error {
	return s.f.call(ctx, "Delete", key, &s.f.calls.Deletes, func() error { return s.f.inner.Delete(ctx, key) })
}

type faultyIndex struct {
	faultyStore
	index oidcauth.SessionIndex
}

func (s faultyIndex) Tagged(ctx context.Context, tag string) (keys []string, err error) {
	err = s.f.call(ctx, "Tagged", tag, &s.f.calls.Tagged, func() error {
		keys, err = s.index.Tagged(ctx, tag)
		return err
	})
	if err != nil {
		return nil, err
	}
	return keys, nil
}
