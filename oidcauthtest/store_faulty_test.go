package oidcauthtest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

var errDown = errors.New("store is down")

func TestAFaultyStoreWithoutFaultsIsAStore(t *testing.T) {
	t.Parallel()
	oidcauthtest.TestSessionStore(t, func(t *testing.T) oidcauth.SessionStore {
		return oidcauthtest.NewFaultyStore(t, newMapStore("")).Store()
	}, synctest.Test)
}

func TestAFaultyStoreIsAnIndexIfTheInnerOneIs(t *testing.T) {
	t.Parallel()
	plain := struct{ oidcauth.SessionStore }{newMapStore("")}
	if _, ok := oidcauthtest.NewFaultyStore(t, plain).Store().(oidcauth.SessionIndex); ok {
		t.Error("an index before a store that is none")
	}
	if _, ok := oidcauthtest.NewFaultyStore(t, newMapStore("")).Store().(oidcauth.SessionIndex); !ok {
		t.Error("no index before a store that is one")
	}
}

// A faulty is a FaultyStore with a value "before" at "key" under "tag".
type faulty struct {
	*oidcauthtest.FaultyStore
	inner   *mapStore
	version int64
}

func newFaulty(t *testing.T) *faulty {
	t.Helper()
	inner := newMapStore("")
	version, err := inner.Set(t.Context(), "key", []byte("before"), time.Now().Add(time.Hour), 0, []string{"tag"})
	if err != nil {
		t.Fatal(err)
	}
	return &faulty{oidcauthtest.NewFaultyStore(t, inner), inner, version}
}

// call calls a method, Set to replace the value by "after", and returns its error.
func (f *faulty) call(t *testing.T, ctx context.Context, method string) (err error) {
	t.Helper()
	result := true // whether there is one besides the error
	switch store := f.Store(); method {
	case "Get":
		var data []byte
		var version int64
		data, version, result, err = store.Get(ctx, "key")
		result = result || version != 0 || data != nil
	case "Set":
		var version int64
		version, err = store.Set(ctx, "key", []byte("after"), time.Now().Add(time.Hour), f.version, []string{"tag"})
		result = version != 0
	case "Delete":
		err = store.Delete(ctx, "key")
		result = err == nil
	case "Tagged":
		var keys []string
		keys, err = store.(oidcauth.SessionIndex).Tagged(ctx, "tag")
		result = keys != nil
	}
	if result == (err != nil) {
		t.Errorf("%s: result %v with error %v", method, result, err)
	}
	return err
}

// holds returns the value behind the faults.
func (f *faulty) holds(t *testing.T) string {
	t.Helper()
	data, _, _, err := f.inner.Get(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var storeMethods = []string{"Get", "Tagged", "Set", "Delete"}

func TestStoreFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		fault  func(*faulty)
		failed []string // of the methods, once each in the order above
		value  string   // in the end
	}{
		{"none", func(f *faulty) {}, nil, ""},
		{"all", func(f *faulty) { f.Fail(errDown) }, storeMethods, "before"},
		{"some", func(f *faulty) { f.Fail(errDown, "Set", "Delete") }, []string{"Set", "Delete"}, "before"},
		{"the next two", func(f *faulty) { f.FailNext(2, errDown) }, []string{"Get", "Tagged"}, ""},
		{"the next Delete", func(f *faulty) { f.FailNext(1, errDown, "Delete") }, []string{"Delete"}, "after"},
		{"the last that was asked for", func(f *faulty) { f.Hang(); f.FailNext(1, errDown) }, []string{"Get"}, ""},
		{"a lost answer of Set", func(f *faulty) { f.LoseAnswers(1, errDown, "Set") }, []string{"Set"}, ""},
		{"lost answers of all", func(f *faulty) { f.LoseAnswers(-1, errDown) }, storeMethods, ""},
		{"healed", func(f *faulty) { f.Fail(errDown); f.Heal() }, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFaulty(t)
			tt.fault(f)
			var failed []string
			for _, method := range storeMethods {
				if err := f.call(t, t.Context(), method); errors.Is(err, errDown) {
					failed = append(failed, method)
				} else if err != nil {
					t.Errorf("%s: %v", method, err)
				}
			}
			if !slices.Equal(failed, tt.failed) {
				t.Errorf("failed: %q, want %q", failed, tt.failed)
			}
			if got := f.holds(t); got != tt.value {
				t.Errorf("value %q, want %q", got, tt.value)
			}
			if got, want := f.Calls(), (oidcauthtest.StoreCalls{Gets: 1, Sets: 1, Deletes: 1, Tagged: 1}); got != want {
				t.Errorf("calls %+v, want %+v", got, want)
			}
		})
	}
}

func TestALostAnswerHasItsEffect(t *testing.T) {
	t.Parallel()
	f := newFaulty(t)
	f.LoseAnswers(1, errDown, "Set")
	if err := f.call(t, t.Context(), "Set"); !errors.Is(err, errDown) {
		t.Errorf("Set: %v, want %v", err, errDown)
	}
	if got := f.holds(t); got != "after" {
		t.Errorf("value %q, want %q", got, "after")
	}
}

func TestAStoreHangsUntilTheContextEnds(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		hang func(*faulty)
		want string
	}{
		"without effect":   {func(f *faulty) { f.Hang("Set") }, "before"},
		"after its effect": {func(f *faulty) { f.LoseAnswers(1, nil, "Set") }, "after"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFaulty(t)
				tt.hang(f)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				began := time.Now()
				var wg sync.WaitGroup
				wg.Go(func() {
					if err := f.call(t, ctx, "Set"); !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("Set: %v, want %v", err, context.DeadlineExceeded)
					}
				})
				synctest.Wait()
				f.Heal() // which is for later calls
				if err := f.call(t, ctx, "Get"); err != nil {
					t.Errorf("Get beside a Set that hangs: %v", err)
				}
				wg.Wait()
				if took := time.Since(began); took != 2*time.Second {
					t.Errorf("Set took %v, want 2s", took)
				}
				if got := f.holds(t); got != tt.want {
					t.Errorf("value %q, want %q", got, tt.want)
				}
			})
		})
	}
}

func TestBeforeACallOfAStore(t *testing.T) {
	t.Parallel()
	f := newFaulty(t)
	var seen []string
	f.Before(func(method, key string) {
		seen = append(seen, method+" "+key)
		if method == "Set" { // somebody logs out between a Get and a Set
			if err := f.inner.Delete(t.Context(), key); err != nil {
				t.Error(err)
			}
		}
	})
	f.Fail(errDown, "Tagged")
	_ = f.call(t, t.Context(), "Get")
	_ = f.call(t, t.Context(), "Tagged")
	version, err := f.Store().Set(t.Context(), "key", nil, time.Now().Add(time.Hour), f.version, nil)
	if version != 0 || err != nil {
		t.Errorf("Set after the Delete: %d, %v; want 0", version, err)
	}
	f.Before(nil)
	_ = f.Store().Delete(t.Context(), "key")
	if want := []string{"Get key", "Tagged tag", "Set key"}; !slices.Equal(seen, want) {
		t.Errorf("before: %q, want %q", seen, want)
	}
}

func TestAFaultOfNoMethodFailsTheTest(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(*oidcauthtest.FaultyStore){
		"Fail":        func(f *oidcauthtest.FaultyStore) { f.Fail(errDown, "get") },
		"FailNext":    func(f *oidcauthtest.FaultyStore) { f.FailNext(1, errDown, "Get", "") },
		"Hang":        func(f *oidcauthtest.FaultyStore) { f.Hang("Touch") },
		"LoseAnswers": func(f *oidcauthtest.FaultyStore) { f.LoseAnswers(1, errDown, "Gets") },
	} {
		v := &verdict{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			do(oidcauthtest.NewFaultyStore(v, newMapStore("")))
		}()
		<-done
		if len(v.complaints) != 1 {
			t.Errorf("%s: %q, want a complaint", name, v.complaints)
		}
	}
}
