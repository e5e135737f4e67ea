package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth/stores/sqlstore"
)

const waiting = `SELECT count(*) FROM pg_locks WHERE NOT granted
	AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())`

// lock runs query in a transaction, and returns what ends that.
func lock(t *testing.T, db *sql.DB, query string, args ...any) (release func()) {
	t.Helper()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tx.Rollback() })
	exec1(t, tx, query, args...)
	return func() {
		t.Helper()
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
	}
}

// postgresExpiresBehindALock has a value that expires while a Set waits for its row: to renew it is no longer possible, to
// replace it is. S06
func postgresExpiresBehindALock(t *testing.T, pg *server) {
	store, db := pg.store(t)
	for _, renew := range []bool{true, false} {
		key := newKey()
		version := set(t, store, key, "first", time.Now().Add(time.Second), 0)
		release := lock(t, db, `SELECT FROM oidcauth_sessions WHERE key = $1 FOR UPDATE`, key)
		old := int64(0)
		if renew {
			old = version
		}
		done := make(chan int64)
		go func() { done <- set(t, store, key, "second", later(), old) }()
		within(t, 5*time.Second, "Set waits", func() bool { return one[int](t, db, waiting) > 0 })
		within(t, 5*time.Second, "it has expired", func() bool {
			return one[bool](t, db, `SELECT expires < clock_timestamp() FROM oidcauth_sessions WHERE key = $1`, key)
		})
		isAbsent(t, store, key)
		release()
		if stored := <-done != 0; stored == renew {
			t.Errorf("Set with old = %d of an expired value: stored is %v", old, stored)
		}
	}
}

// calls has all that a request or an application does with a store. They come without effect on key, which is there.
func calls(store *sqlstore.Store, key, tag string) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"get": func(ctx context.Context) error {
			_, _, _, err := store.Get(ctx, key)
			return err
		},
		"set": func(ctx context.Context) error {
			_, err := store.Set(ctx, key, []byte("s3cr3t"), later(), 1, []string{tag})
			return err
		},
		"set ": func(ctx context.Context) error {
			_, err := store.Set(ctx, key, []byte("s3cr3t"), later(), 0, []string{tag})
			return err
		},
		"delete": func(ctx context.Context) error { return store.Delete(ctx, key+"x") },
		"tagged": func(ctx context.Context) error {
			_, err := store.Tagged(ctx, tag)
			return err
		},
		"delete expired": func(ctx context.Context) error {
			_, err := store.DeleteExpired(ctx)
			return err
		},
	}
}

// isPrompt expects that call ends with its context.
func isPrompt(t *testing.T, name string, call func(context.Context) error) {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := call(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s: %v, want a deadline exceeded", name, err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("%s took %v", name, took)
	}
}

// S36
func postgresLockedTable(t *testing.T, pg *server) {
	store, db := pg.store(t)
	key, tag := newKey(), newKey()
	set(t, store, key, "value", later(), 0, tag)
	release := lock(t, db, `LOCK TABLE oidcauth_sessions, oidcauth_session_tags`)
	for name, call := range calls(store, key, tag) {
		isPrompt(t, name, call)
	}
	release()
	for name, call := range calls(store, key, tag) {
		if err := call(t.Context()); err != nil {
			t.Errorf("%s after that: %v", name, err)
		}
	}
	holds(t, store, key, "value")
	lists(t, store, tag, key)
}

func postgresSkipsLocked(t *testing.T, pg *server) {
	store, db := pg.store(t)
	held := newKey()
	set(t, store, held, "held", time.Now().Add(-time.Hour), 0)
	set(t, store, newKey(), "free", time.Now().Add(-time.Hour), 0)
	release := lock(t, db, `SELECT FROM oidcauth_sessions WHERE key = $1 FOR UPDATE`, held)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, want := range []int64{1, 0} {
		if n, err := store.DeleteExpired(ctx); n != want || err != nil {
			t.Fatalf("DeleteExpired beside a lock: %d, %v, want %d", n, err, want)
		}
	}
	release()
	if n, err := store.DeleteExpired(ctx); n != 1 || err != nil {
		t.Fatalf("DeleteExpired: %d, %v, want 1", n, err)
	}
}
