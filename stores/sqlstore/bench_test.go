package sqlstore_test

import (
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth/stores/sqlstore"
)

// BenchmarkStore has sessions of the usual size with two tags each.
func BenchmarkStore(b *testing.B) {
	b.Run("PostgreSQL", func(b *testing.B) {
		store, _ := startPostgres(b).store(b)
		benchmark(b, store)
	})
	b.Run("SQLite", func(b *testing.B) { benchmark(b, newSQLite(b, openSQLite(b, sqliteFile(b)))) })
}

func benchmark(b *testing.B, store *sqlstore.Store) {
	data := make([]byte, 1500)
	rand.Read(data)
	key, tags := newKey(), []string{newKey(), newKey()}
	version, err := store.Set(b.Context(), key, data, later(), 0, tags)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Get", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, ok, err := store.Get(b.Context(), key); err != nil || !ok {
				b.Fatal(ok, err)
			}
		}
	})
	b.Run("Get in parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, _, ok, err := store.Get(b.Context(), key); err != nil || !ok {
					b.Error(ok, err)
				}
			}
		})
	})
	for _, n := range []int{0, 2} {
		b.Run(fmt.Sprintf("Set with %d tags", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				version, err = store.Set(b.Context(), key, data, later(), version, tags[:n])
				if err != nil || version == 0 {
					b.Fatal(version, err)
				}
			}
		})
	}
	b.Run("DeleteExpired of nothing", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := store.DeleteExpired(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Allocations are the driver's and database/sql's almost all. What a Get and a Set need may not grow unseen.
func TestAllocations(t *testing.T) {
	store := newSQLite(t, openSQLite(t, sqliteFile(t)))
	key := newKey()
	version := set(t, store, key, "value", later(), 0)
	for name, c := range map[string]struct {
		most float64
		call func()
	}{
		"Get": {50, func() { holds(t, store, key, "value") }},
		"Set": {50, func() { version = set(t, store, key, "value", time.Now().Add(time.Hour), version) }},
	} {
		if n := testing.AllocsPerRun(50, c.call); n > c.most {
			t.Errorf("%s: %v allocations, want at most %v", name, n, c.most)
		}
	}
}
