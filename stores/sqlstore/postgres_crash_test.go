package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth/stores/sqlstore"
)

// A writer counts at a key of its own, and now and then deletes another for good.
type writer struct {
	store        *sqlstore.Store
	key          string
	acknowledged int
	lost         []string // what was read after more had been acknowledged
	deleted      []string
	slowest      time.Duration
	failures     int
}

// write does one thing more. An error says nothing about whether it took place.
func (w *writer) write(ctx context.Context) bool {
	began := time.Now()
	err := w.step(ctx)
	w.slowest = max(w.slowest, time.Since(began))
	if err != nil {
		w.failures++
	}
	return err == nil
}

func (w *writer) step(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	data, version, _, err := w.store.Get(ctx, w.key)
	if err != nil {
		return err
	}
	number, _ := strconv.Atoi(string(data)) // 0 if there is none
	if number < w.acknowledged {
		w.lost = append(w.lost, fmt.Sprintf("%d of %d", number, w.acknowledged))
	}
	next, err := w.store.Set(ctx, w.key, []byte(strconv.Itoa(number+1)), later(), version, []string{"tag of " + w.key})
	if err != nil {
		return err
	}
	if next == 0 {
		return errors.New("nobody else writes there")
	}
	w.acknowledged = number + 1
	key := newKey()
	if _, err := w.store.Set(ctx, key, []byte("ended"), later(), 0, nil); err != nil {
		return err
	}
	if err := w.store.Delete(ctx, key); err != nil {
		return err
	}
	w.deleted = append(w.deleted, key)
	return nil
}

// TestPostgresAlone has what other tests would disturb.
func TestPostgresAlone(t *testing.T) {
	t.Parallel()
	pg := startPostgres(t)
	t.Run("an expiry moves without the indexes", func(t *testing.T) { postgresHeapOnly(t, pg) })
	store, _ := pg.store(t)
	for range 3 {
		restart := func() { pg.start(t) }
		t.Run("crash", func(t *testing.T) { crash(t, store, pg, restart) })
	}
}

// What a store has acknowledged is there when its server has crashed, and logouts are not undone. S06, S36
func crash(t *testing.T, store *sqlstore.Store, pg *server, restart func()) {
	var writers [6]writer
	var steps, recovered atomic.Int64
	var down, up atomic.Bool
	var wg sync.WaitGroup
	for i := range writers {
		w := &writers[i]
		*w = writer{store: store, key: newKey()}
		wg.Go(func() {
			for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
				if w.write(t.Context()) {
					steps.Add(1)
					if up.Load() {
						recovered.Add(1)
						return
					}
				} else if down.Load() { // a visitor comes back a little later
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	within(t, 10*time.Second, "all are writing", func() bool { return steps.Load() > 100 })
	down.Store(true)
	pg.kill(t)
	for name, call := range calls(store, newKey(), newKey()) {
		began := time.Now()
		if err := call(t.Context()); err == nil {
			t.Errorf("%s without a server: no error", name)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s without a server took %v", name, took)
		}
	}
	restart()
	up.Store(true)
	wg.Wait()
	if recovered.Load() != int64(len(writers)) {
		t.Errorf("%d of %d recovered", recovered.Load(), len(writers))
	}
	for i := range writers {
		w := &writers[i]
		if len(w.lost) > 0 {
			t.Errorf("lost what was acknowledged: %q", w.lost)
		}
		if w.slowest > 2*time.Second || w.failures == 0 {
			t.Errorf("%d failures, the slowest call took %v", w.failures, w.slowest)
		}
		lists(t, store, "tag of "+w.key, w.key)
		holds(t, store, w.key, strconv.Itoa(w.acknowledged))
		for _, key := range w.deleted {
			isAbsent(t, store, key)
		}
	}
}
