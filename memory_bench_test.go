package oidcauth_test

import (
	"bytes"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
)

const benchSessions = 100_000

// fullMemory has benchSessions sessions of 2 KB.
func fullMemory(b *testing.B) (m memory, keys []string, data []byte) {
	b.Helper()
	m, data = memory{b, oidcauth.NewMemoryStore(2 * benchSessions)}, bytes.Repeat([]byte("x"), 2000)
	keys = make([]string, benchSessions)
	for n := range keys {
		keys[n] = keyOf(n)
		if _, err := m.Set(b.Context(), keys[n], data, time.Now().Add(time.Hour), 0, tagsOf(n)); err != nil {
			b.Fatal(err)
		}
	}
	return m, keys, data
}

// BenchmarkMemoryStore has goroutines that read, roll, begin and end sessions among 100,000.
func BenchmarkMemoryStore(b *testing.B) {
	m, keys, data := fullMemory(b)
	ctx := b.Context()
	var starts atomic.Int64
	parallel := func(name string, f func(n int) error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for n := int(starts.Add(7919)); pb.Next(); n++ {
					if err := f(n); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
	parallel("Get", func(n int) error {
		_, _, _, err := m.Get(ctx, keys[n%len(keys)])
		return err
	})
	parallel("roll", func(n int) error {
		key := keys[n%len(keys)]
		_, version, _, err := m.Get(ctx, key)
		if err != nil {
			return err
		}
		_, err = m.Set(ctx, key, data, time.Now().Add(time.Hour), version, []string{key, keys[n%100]})
		return err
	})
	var session atomic.Int64
	parallel("begin and end", func(int) error {
		key := nameOf("new", int(session.Add(1)))
		if _, err := m.Set(ctx, key, data, time.Now().Add(time.Hour), 0, []string{key, keys[0]}); err != nil {
			return err
		}
		return m.Delete(ctx, key)
	})
	parallel("Tagged", func(n int) error {
		_, err := m.Tagged(ctx, tagsOf(n % len(keys))[0])
		return err
	})
}

// BenchmarkMemoryPerSession reports what a session of 2 KB takes in all.
func BenchmarkMemoryPerSession(b *testing.B) {
	for b.Loop() {
		before := heap()
		m, keys, _ := fullMemory(b)
		b.ReportMetric(float64(heap()-before)/benchSessions, "bytes/session")
		runtime.KeepAlive(m)
		runtime.KeepAlive(keys)
	}
}
