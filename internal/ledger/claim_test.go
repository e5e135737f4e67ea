package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth/internal/ledger"
)

// A counter is a store as processes share it: conditional Sets, versions that never come again, and values that expire.
// It keeps one key.
type counter struct {
	mu       sync.Mutex
	data     []byte
	version  int64
	expires  time.Time
	versions int64
	log      []string // the states that were set, and what tests add
}

// note adds to the log.
func (s *counter) note(word string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, word)
}

func (s *counter) words() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.log, " ")
}

func (s *counter) Get(context.Context, string) ([]byte, int64, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.version == 0 || !time.Now().Before(s.expires) {
		return nil, 0, false, nil
	}
	return s.data, s.version, true, nil
}

func (s *counter) Set(_ context.Context, _ string, data []byte, expires time.Time, old int64, _ []string) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.version
	if !time.Now().Before(s.expires) {
		now = 0
	}
	if now != old {
		return 0, nil
	}
	s.versions++
	s.data, s.version, s.expires = data, s.versions, expires
	s.log = append(s.log, string(data[:1]))
	return s.version, nil
}

// A worker is a process: its way to the store may be slow, or broken, at each call.
type worker struct {
	*counter
	before func(method string) error
	after  func(method string) error // when the call had its effect
}

func (w *worker) Get(ctx context.Context, key string) (data []byte, version int64, ok bool, err error) {
	err = w.call("Get", func() { data, version, ok, err = w.counter.Get(ctx, key) })
	return data, version, ok, err
}

func (w *worker) Set(
	ctx context.Context, key string, data []byte, expires time.Time, old int64, tags []string,
) (v int64, err error) {
	err = w.call("Set", func() { v, err = w.counter.Set(ctx, key, data, expires, old, tags) })
	return v, err
}

func (w *worker) call(method string, do func()) error {
	if w.before != nil {
		if err := w.before(method); err != nil {
			return err
		}
	}
	do()
	if w.after != nil {
		return w.after(method)
	}
	return nil
}

// A grant is what a claim is for: request is under way from a successful Send until it ends, and then the result is saved.
type grant struct {
	mu    sync.Mutex
	busy  int
	most  int // requests at the same time
	sent  int
	saved bool
	at    []time.Duration // when requests left
	start time.Time
}

func (g *grant) look(context.Context) (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.saved, nil
}

// spend sends a request that takes a while, if the process does not fall asleep for longer than the request may take.
func (g *grant) spend(takes time.Duration, nap func()) func(*ledger.Claim) ledger.Outcome {
	return func(c *ledger.Claim) ledger.Outcome {
		nap()
		ctx, cancel, err := c.Send(context.Background())
		if errors.Is(err, ledger.ErrLost) {
			return ledger.Lost
		}
		if err != nil {
			return ledger.Failed
		}
		defer cancel()
		if nap(); ctx.Err() != nil {
			return ledger.Failed // as a transport does whose context is over
		}
		g.mu.Lock()
		g.busy++
		g.sent++
		g.most = max(g.most, g.busy)
		g.at = append(g.at, time.Since(g.start))
		g.mu.Unlock()
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			err = ctx.Err()
		}
		g.mu.Lock()
		g.busy--
		g.mu.Unlock()
		c.Extend(context.Background(), 25*time.Second)
		nap()
		if err != nil {
			return ledger.Failed
		}
		g.mu.Lock()
		g.saved = true
		g.mu.Unlock()
		return ledger.Done
	}
}

func noNap() {}

// S05, S06: whatever sleeps where and for how long, there are never two requests at the same time.
func TestTwoHoldersNeverSendAtOnce(t *testing.T) {
	t.Parallel()
	naps := []time.Duration{
		time.Second, 4 * time.Second, 6 * time.Second, 25 * time.Second, 35 * time.Second, 39 * time.Second,
		50 * time.Second, 2 * time.Minute,
	}
	twice := 0
	for seed := range uint64(400) {
		synctest.Test(t, func(t *testing.T) {
			store, g := &counter{}, &grant{start: time.Now()}
			var wg sync.WaitGroup
			for i := range uint64(4) {
				random := rand.New(rand.NewPCG(seed, i))
				nap := func() {
					if random.IntN(10) == 0 {
						time.Sleep(naps[random.IntN(len(naps))])
					}
				}
				call := func(string) error { nap(); return nil }
				w := &worker{store, call, call}
				takes := time.Duration(random.IntN(35)) * time.Second
				wg.Go(func() {
					for range 5 { // as requests do that come later
						nap()
						err := ledger.Alone(context.Background(), w, "key", 1, g.look, g.spend(takes, nap))
						if err != nil && !errors.Is(err, ledger.ErrFailed) && !strings.Contains(err.Error(), "all the time") {
							t.Errorf("seed %d: %v", seed, err)
						}
						time.Sleep(time.Second)
					}
				})
			}
			wg.Wait()
			if g.most > 1 {
				t.Errorf("seed %d: %d requests at the same time, they left at %v", seed, g.most, g.at)
			}
			if g.sent > 1 {
				twice++
			}
		})
	}
	if twice == 0 {
		t.Error("no takeover in all the runs: this test tests nothing")
	}
}

// S05: how long another process waits for one that has stopped without a word.
func TestHowLongADeadProcessIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		stops string // before what
		waits time.Duration
		log   string
	}{
		{"it has no claim", "Set 1", 0, "c s saved f"},
		{"it has a claim", "Set 2", ledger.Lease, "c c s saved f"},
		{"its request may have left", "request", ledger.GrantTimeout + 2*ledger.Lease, "c s c s saved f"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store, sets := &counter{}, 0
				dead := &worker{counter: store, before: func(method string) error {
					if method == "Set" {
						if sets++; tt.stops == fmt.Sprint("Set ", sets) {
							time.Sleep(time.Hour)
						}
					}
					return nil
				}}
				stopped := &grant{}
				done := make(chan error, 1)
				go func() {
					done <- ledger.Alone(context.Background(), dead, "key", 1, stopped.look, stopped.spend(time.Hour, func() {
						if sets == 2 {
							time.Sleep(time.Hour)
						}
					}))
				}()
				synctest.Wait()
				g := &grant{start: time.Now()}
				if err := ledger.Alone(t.Context(), store, "key", 1, g.look, func(c *ledger.Claim) ledger.Outcome {
					outcome := g.spend(0, noNap)(c)
					store.note("saved")
					return outcome
				}); err != nil {
					t.Fatal(err)
				}
				if len(g.at) != 1 || g.at[0] < tt.waits || g.at[0] > tt.waits+time.Second {
					t.Errorf("requests left at %v, want one at %v", g.at, tt.waits)
				}
				if got := store.words(); got != tt.log {
					t.Errorf("the store has seen %q, want %q", got, tt.log)
				}
				stopped.mu.Lock()
				stopped.saved = true // it finds what the other one has saved, when it wakes up
				stopped.mu.Unlock()
				if err := <-done; stopped.sent != 0 {
					t.Errorf("the dead process sends %d requests when it wakes up: %v", stopped.sent, err)
				}
			})
		})
	}
}

// S06: a process that slept for longer than its lease finds out before it sends, also if nobody has taken over.
func TestWhoSleptFindsOutBeforeItSends(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"before the store is asked", "after the store has answered"} {
		synctest.Test(t, func(t *testing.T) {
			store, sets := &counter{}, 0
			sleep := func(method string) error {
				if method == "Set" {
					if sets++; sets == 2 {
						time.Sleep(ledger.Lease + time.Second)
					}
				}
				return nil
			}
			w := &worker{counter: store, before: sleep}
			if where == "after the store has answered" {
				w = &worker{counter: store, after: sleep}
			}
			tries := 0
			err := ledger.Alone(t.Context(), w, "key", 1, (&grant{}).look, func(c *ledger.Claim) ledger.Outcome {
				tries++
				ctx, cancel, err := c.Send(t.Context())
				if tries == 1 {
					if !errors.Is(err, ledger.ErrLost) || ctx != nil {
						t.Errorf("%s: it may send: %v", where, err)
					}
					return ledger.Lost
				}
				if err != nil {
					t.Errorf("%s: the second try: %v", where, err)
					return ledger.Failed
				}
				defer cancel()
				if until, ok := ctx.Deadline(); !ok || time.Until(until) != ledger.GrantTimeout {
					t.Errorf("%s: the request may take %v", where, time.Until(until))
				}
				return ledger.Done
			})
			if err != nil || tries != 2 {
				t.Errorf("%s: %d tries, %v", where, tries, err)
			}
		})
	}
}

// S05: what a claim that was settled says to the next process, and for how long.
func TestWhatAClaimSaysAfterwards(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		outcome ledger.Outcome
		err     error         // what others get
		lasts   time.Duration // until they may try themselves
	}{
		{"done", ledger.Done, nil, 0},
		{"nobody can spend it", ledger.Dead, ledger.ErrSpent, time.Minute},
		{"no answer", ledger.Failed, ledger.ErrFailed, time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			store, g := &counter{}, &grant{}
			try := func(generation uint64, outcome ledger.Outcome) (spent bool, err error) {
				err = ledger.Alone(t.Context(), store, "key", generation, g.look, func(*ledger.Claim) ledger.Outcome {
					spent = true
					return outcome
				})
				return spent, err
			}
			if spent, err := try(7, tt.outcome); !spent || err != nil {
				t.Fatalf("%s: the first: %v, %v", tt.name, spent, err)
			}
			if tt.err != nil {
				for _, generation := range []uint64{7, 6, 1} {
					if spent, err := try(generation, ledger.Done); spent || !errors.Is(err, tt.err) {
						t.Errorf("%s: generation %d: %v, %v", tt.name, generation, spent, err)
					}
				}
				time.Sleep(tt.lasts - time.Millisecond)
				if spent, err := try(7, ledger.Done); spent || !errors.Is(err, tt.err) {
					t.Errorf("%s: almost %v later: %v, %v", tt.name, tt.lasts, spent, err)
				}
				time.Sleep(time.Millisecond)
			}
			began := time.Now()
			if spent, err := try(7, tt.outcome); !spent || err != nil || time.Since(began) != 0 {
				t.Errorf("%s: %v later: %v, %v, after %v", tt.name, tt.lasts, spent, err, time.Since(began))
			}
			if spent, err := try(8, ledger.Done); !spent || err != nil { // somebody with newer tokens
				t.Errorf("%s: a newer generation: %v, %v", tt.name, spent, err)
			}
		})
	}
}

// S05: what was saved is looked for when the claim is made, and before each wait, so that nobody waits for a claim to be
// given back whose result is there, nor spends once more.
func TestWhoFindsTheResultSpendsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, g := &counter{}, &grant{}
		hold := make(chan struct{})
		first := make(chan error, 1)
		go func() {
			first <- ledger.Alone(t.Context(), store, "key", 1, g.look, func(c *ledger.Claim) ledger.Outcome {
				outcome := g.spend(time.Second, noNap)(c)
				<-hold // asleep before it gives the claim back
				return outcome
			})
		}()
		synctest.Wait()
		began := time.Now()
		never := func(*ledger.Claim) ledger.Outcome { t.Error("it is spent once more"); return ledger.Done }
		err := ledger.Alone(t.Context(), store, "key", 1, g.look, never)
		if took := time.Since(began); err != nil || took > 1500*time.Millisecond {
			t.Errorf("after %v: %v", took, err)
		}
		close(hold)
		if err := <-first; err != nil {
			t.Error(err)
		}
		if err := ledger.Alone(t.Context(), store, "key", 1, g.look, never); err != nil {
			t.Error(err)
		}
		if g.sent != 1 || !strings.HasSuffix(store.words(), "c f") { // it is free again at once
			t.Errorf("%d requests; the store has seen %q", g.sent, store.words())
		}
		broken := errors.New("cannot look")
		look := func(context.Context) (bool, error) { return false, broken }
		time.Sleep(time.Minute)
		err = ledger.Alone(t.Context(), store, "key", 1, look, never)
		if !errors.Is(err, broken) || !strings.HasSuffix(store.words(), "c f") {
			t.Errorf("%v; the store has seen %q", err, store.words())
		}
	})
}

// Fault points: the nth call of the store fails, with effect or without. Nothing is sent without a claim, what was sent is
// saved, and the next process goes on when the lease is over at the latest.
func TestAStoreThatFailsAtEachCall(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	for _, effect := range []bool{false, true} {
		for n := 1; n <= 4; n++ {
			synctest.Test(t, func(t *testing.T) {
				store, g, calls := &counter{}, &grant{start: time.Now()}, 0
				fail := func(string) error {
					if calls++; calls == n {
						return down
					}
					return nil
				}
				w := &worker{counter: store, before: fail}
				if effect {
					w = &worker{counter: store, after: fail}
				}
				err := ledger.Alone(t.Context(), w, "key", 1, g.look, g.spend(time.Second, noNap))
				claims, sends := n != 1, n > 2
				if errors.Is(err, down) == claims || (g.sent == 1) != sends || g.saved != sends {
					t.Errorf("call %d, effect %v: %v, %d requests, saved: %v", n, effect, err, g.sent, g.saved)
				}
				began := time.Now()
				for {
					err := ledger.Alone(t.Context(), store, "key", 1, g.look, g.spend(time.Second, noNap))
					if err == nil {
						break
					}
					if !errors.Is(err, ledger.ErrFailed) {
						t.Fatalf("call %d, effect %v: the next process: %v", n, effect, err)
					}
					time.Sleep(100 * time.Millisecond)
				}
				if g.sent != 1 || !g.saved || time.Since(began) > ledger.Lease+2*time.Second && n != 2 ||
					time.Since(began) > ledger.GrantTimeout+2*ledger.Lease+2*time.Second {
					t.Errorf("call %d, effect %v: %d requests, saved: %v, after %v", n, effect, g.sent, g.saved, time.Since(began))
				}
			})
		}
	}
}

// Who gives up waiting is told why; and so is who waits in vain for much longer than any claim holds.
func TestWhoWaitsInVainGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, g := &counter{}, &grant{}
		never := func(*ledger.Claim) ledger.Outcome { t.Error("it is spent"); return ledger.Done }
		for name, data := range map[string][]byte{
			"a claim": append([]byte("s"), make([]byte, 8)...), "a state of a later version": append([]byte("x"), make([]byte, 8)...),
			"junk": []byte("junk"), "nothing": {},
		} {
			*store = counter{data: data, version: 1, versions: 1, expires: time.Now().Add(time.Hour)}
			gone := errors.New("gone")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(10*time.Second, func() { cancel(gone) })
			if err := ledger.Alone(ctx, store, "key", 1, g.look, never); !errors.Is(err, gone) {
				t.Errorf("%s: %v", name, err)
			}
			began := time.Now()
			if err := ledger.Alone(t.Context(), store, "key", 1, g.look, never); err == nil || time.Since(began) > 3*time.Minute {
				t.Errorf("%s: %v after %v", name, err, time.Since(began))
			}
			time.Sleep(time.Hour)
			done := func(*ledger.Claim) ledger.Outcome { return ledger.Done }
			if err := ledger.Alone(t.Context(), store, "key", 1, g.look, done); err != nil {
				t.Errorf("%s: when it has expired: %v", name, err)
			}
		}
	})
}

// A process that shares nothing needs no claim.
func TestTheOnlyProcessNeedsNoClaim(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var none *ledger.Claim
		ctx, cancel, err := none.Send(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer cancel()
		none.Extend(ctx, time.Hour)
		if until, ok := ctx.Deadline(); !ok || time.Until(until) != ledger.GrantTimeout {
			t.Errorf("the request may take %v", time.Until(until))
		}
	})
}
