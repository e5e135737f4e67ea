package sqlstore_test

import (
	"database/sql"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth/stores/sqlstore"
)

// deletesExpired calls DeleteExpired of both stores at once, while others write. In db are that many expired values and
// 1000 that live, and each has a tag.
func deletesExpired(t *testing.T, db *sql.DB, expired int64, a, b *sqlstore.Store) {
	t.Helper()
	var sweeping, writing sync.WaitGroup
	var deleted atomic.Int64
	var swept atomic.Bool
	began, sets, slowest := time.Now(), 0, time.Duration(0)
	writing.Go(func() {
		for key, version := newKey(), int64(0); !swept.Load(); sets++ {
			began := time.Now()
			version = set(t, a, key, "value", later(), version, "other")
			slowest = max(slowest, time.Since(began))
			if version == 0 {
				t.Error("a Set beside DeleteExpired was refused")
			}
		}
	})
	for _, store := range []*sqlstore.Store{a, b} {
		sweeping.Go(func() {
			n, err := store.DeleteExpired(t.Context())
			if err != nil {
				t.Errorf("DeleteExpired: %v", err)
			}
			deleted.Add(n)
		})
	}
	sweeping.Wait()
	took := time.Since(began)
	swept.Store(true)
	writing.Wait()
	values := one[int](t, db, `SELECT count(*) FROM oidcauth_sessions`)
	tags := one[int](t, db, `SELECT count(*) FROM oidcauth_session_tags`)
	if deleted.Load() != expired || values != 1001 || tags != 1001 {
		t.Errorf("%d deleted, and %d values and %d tags are left; want %d, 1001 and 1001", deleted.Load(), values, tags, expired)
	}
	if sets < 10 || slowest > took/4+200*time.Millisecond { // no constant, on a machine that is busy
		t.Errorf("%d Sets while others were deleting, for %v; the slowest took %v", sets, took, slowest)
	}
}

// replacedIsKept has keys that are given a new value at the moment when the old one is deleted, having expired.
func replacedIsKept(t *testing.T, a, b *sqlstore.Store) {
	t.Helper()
	for range 10 {
		var keys [10]string
		for i := range keys {
			keys[i] = newKey()
			set(t, a, keys[i], "old", time.Now().Add(-time.Hour), 0)
		}
		var wg sync.WaitGroup
		for _, store := range []*sqlstore.Store{a, b} {
			wg.Go(func() {
				if _, err := store.DeleteExpired(t.Context()); err != nil {
					t.Errorf("DeleteExpired: %v", err)
				}
			})
		}
		for _, key := range keys {
			wg.Go(func() {
				if set(t, a, key, "new", later(), 0, "tag of "+key) == 0 {
					t.Error("an expired value was not replaced")
				}
			})
		}
		wg.Wait()
		for _, key := range keys {
			holds(t, a, key, "new")
			lists(t, b, "tag of "+key, key)
		}
	}
}
