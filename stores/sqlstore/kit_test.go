package sqlstore_test

import (
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"slices"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/stores/sqlstore"
)

var (
	_ oidcauth.SessionStore = (*sqlstore.Store)(nil)
	_ oidcauth.SessionIndex = (*sqlstore.Store)(nil)
)

func newKey() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func later() time.Time { return time.Now().Add(time.Hour) }

// within polls until done, for at most d.
func within(t testing.TB, d time.Duration, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v it is not so that %s", d, what)
		}
	}
}

func exec1(t testing.TB, db interface {
	Exec(string, ...any) (sql.Result, error)
}, query string, args ...any,
) {
	t.Helper()
	if _, err := db.Exec(query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// one reads the only column of the only row.
func one[T any](t testing.TB, db *sql.DB, query string, args ...any) (value T) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

func set(t testing.TB, s *sqlstore.Store, key, data string, expires time.Time, old int64, tags ...string) int64 {
	t.Helper()
	version, err := s.Set(t.Context(), key, []byte(data), expires, old, tags)
	if err != nil {
		t.Fatalf("Set: %v", err)
	}
	return version
}

func holds(t testing.TB, s *sqlstore.Store, key, data string) {
	t.Helper()
	got, _, ok, err := s.Get(t.Context(), key)
	if err != nil || !ok || string(got) != data {
		t.Fatalf("Get: %.40q, %v, %v; want %.40q", got, ok, err, data)
	}
}

func isAbsent(t testing.TB, s *sqlstore.Store, key string) {
	t.Helper()
	if data, _, ok, err := s.Get(t.Context(), key); ok || err != nil {
		t.Fatalf("Get: %.40q, %v, %v; want none", data, ok, err)
	}
}

func lists(t testing.TB, s *sqlstore.Store, tag string, keys ...string) {
	t.Helper()
	got, err := s.Tagged(t.Context(), tag)
	if err != nil {
		t.Fatalf("Tagged: %v", err)
	}
	slices.Sort(got)
	slices.Sort(keys)
	if !slices.Equal(got, keys) {
		t.Fatalf("Tagged: %d keys, want %d: %.2q", len(got), len(keys), got)
	}
}
