package ledger_test

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth/internal/ledger"
)

// outcome is what Do returned.
type outcome struct {
	value string
	first bool
	err   error
}

func ask(ctx context.Context, o *ledger.Once[string], key string, f func() (string, error)) outcome {
	value, first, err := o.Do(ctx, key, "query", f)
	return outcome{value, first, err}
}

func returns(value string, err error) func() (string, error) {
	return func() (string, error) { return value, err }
}

// unwanted must not be called: its key is spent.
func unwanted(t *testing.T) func() (string, error) {
	return func() (string, error) {
		t.Helper()
		t.Error("run a second time")
		return "second", nil
	}
}

func want(t *testing.T, got, want outcome) {
	t.Helper()
	sameError := errors.Is(got.err, want.err) && (got.err == nil) == (want.err == nil)
	if got.value != want.value || got.first != want.first || !sameError {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// S24: twenty parallel callbacks are one exchange.
func TestManyAskAndOneRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var o ledger.Once[string]
		var runs, firsts atomic.Int32
		var all sync.WaitGroup
		started := time.Now()
		for range 20 {
			all.Go(func() {
				got := ask(t.Context(), &o, "state", func() (string, error) {
					runs.Add(1)
					time.Sleep(3 * time.Second)
					return "session", nil
				})
				if got.first {
					firsts.Add(1)
				}
				want(t, got, outcome{"session", got.first, nil})
				if waited := time.Since(started); waited != 3*time.Second {
					t.Errorf("answered after %v, want the time of one run", waited)
				}
			})
		}
		all.Wait()
		if runs.Load() != 1 || firsts.Load() != 1 {
			t.Errorf("%d runs and %d firsts, want one of each", runs.Load(), firsts.Load())
		}
	})
}

func TestKeysDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var o ledger.Once[string]
		release := make(chan struct{})
		var slow sync.WaitGroup
		slow.Go(func() {
			got := ask(t.Context(), &o, "slow", func() (string, error) { <-release; return "slow", nil })
			want(t, got, outcome{"slow", true, nil})
		})
		synctest.Wait()
		want(t, ask(t.Context(), &o, "other", returns("other", nil)), outcome{"other", true, nil})
		want(t, ask(t.Context(), &o, "", returns("no key", nil)), outcome{"no key", true, nil})
		close(release)
		slow.Wait()
	})
}

// A state that failed is spent as well: the code behind it may be.
func TestErrorsAreShared(t *testing.T) {
	t.Parallel()
	var o ledger.Once[string]
	refused := errors.New("invalid_grant")
	want(t, ask(t.Context(), &o, "state", returns("half", refused)), outcome{"half", true, refused})
	want(t, ask(t.Context(), &o, "state", unwanted(t)), outcome{"half", false, refused})
}

// S24: a waiter gives up with its request, and the one that runs does not.
func TestWaiterWhoseContextEnds(t *testing.T) {
	t.Parallel()
	gone := errors.New("browser gone")
	for name, tt := range map[string]struct {
		context func(context.Context) (context.Context, context.CancelFunc)
		want    error
	}{
		"deadline": {
			func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, 10*time.Second)
			},
			context.DeadlineExceeded,
		},
		"cause": {
			func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancelCause(ctx)
				timer := time.AfterFunc(10*time.Second, func() { cancel(gone) })
				return ctx, func() { timer.Stop(); cancel(nil) }
			},
			gone,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var o ledger.Once[string]
				var runner sync.WaitGroup
				runner.Go(func() {
					got := ask(t.Context(), &o, "state", func() (string, error) {
						time.Sleep(20 * time.Second)
						return "session", nil
					})
					want(t, got, outcome{"session", true, nil})
				})
				synctest.Wait()
				ctx, cancel := tt.context(t.Context())
				defer cancel()
				started := time.Now()
				want(t, ask(ctx, &o, "state", unwanted(t)), outcome{"", false, tt.want})
				if waited := time.Since(started); waited != 10*time.Second {
					t.Errorf("gave up after %v", waited)
				}
				want(t, ask(t.Context(), &o, "state", unwanted(t)), outcome{"session", false, nil})
				runner.Wait()
			})
		})
	}
}

// The first request goes on whatever becomes of its own context: f alone decides whether it looks at it.
func TestContextOfTheFirstIsItsOwnAffair(t *testing.T) {
	t.Parallel()
	var o ledger.Once[string]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	want(t, ask(ctx, &o, "state", returns("session", nil)), outcome{"session", true, nil})
}

// A panic reaches the server, which knows what to do with it; who waits gets an error, and the key stays spent.
func TestPanic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var o ledger.Once[string]
		var all sync.WaitGroup
		all.Go(func() {
			defer func() {
				if got := recover(); got != "oops" {
					t.Errorf("recovered %v", got)
				}
			}()
			ask(t.Context(), &o, "state", func() (string, error) { time.Sleep(time.Second); panic("oops") })
		})
		synctest.Wait()
		for range 3 {
			all.Go(func() {
				got := ask(t.Context(), &o, "state", unwanted(t))
				// It must not look like a browser that went away: those are answered with nothing.
				if got.value != "" || got.first || got.err == nil || errors.Is(got.err, context.Canceled) {
					t.Errorf("a waiter got %+v", got)
				}
			})
		}
		all.Wait()
		if got := ask(t.Context(), &o, "state", unwanted(t)); got.err == nil {
			t.Errorf("got %+v", got)
		}
	})
}

// Values hold tokens, so that they go long before the key does, counted from when they came.
func TestValueIsForgottenAfterTenSeconds(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	for name, tt := range map[string]struct {
		run, after time.Duration
		want       outcome
	}{
		"at once":                    {0, 0, outcome{"session", false, refused}},
		"just before":                {0, 10*time.Second - 1, outcome{"session", false, refused}},
		"ten seconds later":          {0, 10 * time.Second, outcome{"", false, refused}},
		"much later":                 {0, 15 * time.Minute, outcome{"", false, refused}},
		"after a slow run, at once":  {2 * time.Minute, 0, outcome{"session", false, refused}},
		"after a slow run, before":   {2 * time.Minute, 10*time.Second - 1, outcome{"session", false, refused}},
		"after a slow run, too late": {2 * time.Minute, 10 * time.Second, outcome{"", false, refused}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var o ledger.Once[string]
				ask(t.Context(), &o, "state", func() (string, error) { time.Sleep(tt.run); return "session", refused })
				time.Sleep(tt.after)
				synctest.Wait()
				want(t, ask(t.Context(), &o, "state", unwanted(t)), tt.want)
			})
		})
	}
}

// A value goes without anybody asking: a quiet application keeps no tokens in memory.
func TestValueIsForgottenWithoutTraffic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var o ledger.Once[*[64]byte]
		var freed atomic.Bool
		if _, _, err := o.Do(t.Context(), "state", "query", func() (*[64]byte, error) {
			value := new([64]byte)
			runtime.AddCleanup(value, func(freed *atomic.Bool) { freed.Store(true) }, &freed)
			return value, nil
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for range 1000 { // cleanups run some time after a collection
			if runtime.GC(); freed.Load() {
				break
			}
			runtime.Gosched()
		}
		if !freed.Load() {
			t.Error("the value is still held")
		}
		if _, first, _ := o.Do(t.Context(), "state", "query", nil); first {
			t.Error("the key is forgotten too")
		}
	})
}

// S24: a key outlives the login cookie, which lasts 15 minutes.
func TestKeyIsForgottenAfterSixteenMinutes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var o ledger.Once[string]
		ask(t.Context(), &o, "state", returns("one", nil))
		time.Sleep(16 * time.Minute)
		want(t, ask(t.Context(), &o, "state", unwanted(t)), outcome{"", false, nil})
		time.Sleep(time.Nanosecond)
		want(t, ask(t.Context(), &o, "state", returns("two", nil)), outcome{"two", true, nil})
		time.Sleep(time.Minute)
		synctest.Wait()
		want(t, ask(t.Context(), &o, "state", unwanted(t)), outcome{"", false, nil})
	})
}

// Memory is bounded: the oldest key makes room.
func TestLimitOfKeys(t *testing.T) {
	t.Parallel()
	const limit = 10_000
	synctest.Test(t, func(t *testing.T) {
		var o ledger.Once[string]
		for i := range limit {
			ask(t.Context(), &o, strconv.Itoa(i), returns("x", nil))
		}
		// Nothing is forgotten as long as nothing is new, the oldest itself included.
		for _, i := range []int{0, limit - 1, 1, 0} {
			want(t, ask(t.Context(), &o, strconv.Itoa(i), unwanted(t)), outcome{"x", false, nil})
		}
		want(t, ask(t.Context(), &o, "one more", returns("x", nil)), outcome{"x", true, nil})
		want(t, ask(t.Context(), &o, "1", unwanted(t)), outcome{"x", false, nil})
		want(t, ask(t.Context(), &o, "0", returns("again", nil)), outcome{"again", true, nil})
		want(t, ask(t.Context(), &o, "1", returns("again", nil)), outcome{"again", true, nil})
	})
}

// A state is used up by the request that used it: the outcome is not for another code or issuer beside it (S24).
func TestAnotherRequestGetsNothing(t *testing.T) {
	t.Parallel()
	var o ledger.Once[string]
	if _, first, err := o.Do(t.Context(), "state", "code=1", func() (string, error) { return "session", nil }); !first || err != nil {
		t.Fatalf("the first request: first %t, error %v", first, err)
	}
	if value, first, err := o.Do(t.Context(), "state", "code=1", nil); value != "session" || first || err != nil {
		t.Errorf("the same request got %q, first %t, error %v", value, first, err)
	}
	if value, first, err := o.Do(t.Context(), "state", "code=2", nil); value != "" || first || !errors.Is(err, ledger.ErrUsed) {
		t.Errorf("another request got %q, first %t, error %v", value, first, err)
	}
}
