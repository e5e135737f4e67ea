package sqlstore_test

import (
	"database/sql"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth/stores/sqlstore"
)

// deletesExpired calls DeleteExpired of both stores at once. In db are 50,000 expired values and 1000 that live, and each
// has a tag. Others write meanwhile.
func deletesExpired(t *testing.T, db *sql.DB, a, b *sqlstore.Store) {
	t.Helper()
	var sweeping, writing sync.WaitGroup
	var deleted, sets atomic.Int64
	var swept atomic.Bool
	writing.Go(func() {
		key, version := newKey(), int64(0)
		for !swept.Load() {
			began := time.Now()
			version = set(t, a, key, "value", later(), version, "other")
			if took := time.Since(began); version == 0 || took > time.Second {
				t.Errorf("Set beside DeleteExpired: version %d after %v", version, took)
			}
			sets.Add(1)
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
	swept.Store(true)
	writing.Wait()
	values := one[int](t, db, `SELECT count(*) FROM oidcauth_sessions`)
	tags := one[int](t, db, `SELECT count(*) FROM oidcauth_session_tags`)
	if deleted.Load() != 50_000 || values != 1001 || tags != 1001 {
		t.Errorf("%d deleted, and %d values and %d tags are left; want 50,000, 1001 and 1001", deleted.Load(), values, tags)
	}
	if sets.Load() < 10 {
		t.Errorf("%d Sets while 50,000 values were deleted", sets.Load())
	}
}

// replacedIsKept has keys that are given a new value at the moment when the old one is deleted, having expired.
func replacedIsKept(t *testing.T, a, b *sqlstore.Store) {
	t.Helper()
	for range 20 {
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
