package redisstore_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A session has the size of the reference session of performance.md, and some tags. "go-redis" is what that takes for
// the same bytes.
func BenchmarkStore(b *testing.B) {
	addr := startServer(b).addr()
	data, tags := bytes.Repeat([]byte{'x'}, 1300), []string{name(2), name(3)}
	plain := newClient(b, addr)
	must(b, plain.Set(b.Context(), "plain", append(data, "version."...), time.Hour).Err())
	withDeadlines := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	b.Cleanup(func() { _ = withDeadlines.Close() })
	store, detaching := newStore(b, withDeadlines), newStore(b, plain)
	_, err := store.Set(b.Context(), name(1), data, inAnHour(), 0, tags)
	must(b, err)

	ctx := within(b, time.Hour)
	set := func(tags []string) func() error {
		key, version := name(4+len(tags)), int64(0)
		return func() (err error) {
			version, err = store.Set(ctx, key, data, inAnHour(), version, tags)
			return err
		}
	}
	for _, bb := range []struct {
		name string
		do   func() error
	}{
		{"Get", func() error { return get(ctx, store) }},
		{"Get without ContextTimeoutEnabled", func() error { return get(ctx, detaching) }},
		{"Get of go-redis", func() error { return plain.Get(ctx, "plain").Err() }},
		{"Set", set(nil)},
		{"Set with two tags", set(tags)},
		{"Set of go-redis", func() error { return plain.Set(ctx, "plain", data, time.Hour).Err() }},
		{"Delete", func() error { return store.Delete(ctx, name(9)) }},
		{"Tagged", func() error { _, err := store.Tagged(ctx, tags[0]); return err }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := bb.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	for _, bb := range []struct {
		name string
		do   func() error
	}{
		{"Get by 32", func() error { return get(ctx, store) }},
		{"Get by 32 without ContextTimeoutEnabled", func() error { return get(ctx, detaching) }},
		{"Get by 32 of go-redis", func() error { return plain.Get(ctx, "plain").Err() }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(16) // on two processors
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := bb.do(); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

func get(ctx context.Context, store interface {
	Get(context.Context, string) ([]byte, int64, bool, error)
},
) error {
	_, _, _, err := store.Get(ctx, name(1))
	return err
}
