package redisstore

import (
	"context"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

func (s *Store) process(ctx context.Context, cmd redis.Cmder) error {
	return s.await(ctx, func() error { return s.client.Process(ctx, cmd) })
}

// await returns when do does, or when ctx ends: then do is left to itself, and nothing that it uses may be touched.
//
// go-redis gives the deadline of ctx to the connection if ContextTimeoutEnabled says so, and that will do. But a
// context that is cancelled does not wake it while it reads, and without that option neither does a deadline. That
// takes a goroutine, which costs the same as a third of a Get.
func (s *Store) await(ctx context.Context, do func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, ok := ctx.Deadline(); ok && s.deadlines || ctx.Done() == nil {
		return ended(ctx, do())
	}
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ended says that ctx has ended rather than that a connection timed out at that moment, which is a little earlier.
func ended(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return err
}

// A storeError has the text of an error without what it quotes.
type storeError struct {
	text string
	err  error
}

func (e *storeError) Error() string { return e.text }
func (e *storeError) Unwrap() error { return e.err }

// failure says what was being done. Servers quote the arguments of a command that they do not know, and go-redis quotes
// an answer that it does not understand: either may be the value of somebody's session.
func failure(doing string, err error) error {
	text, _, _ := strings.Cut(err.Error(), ", with args")
	text, _, _ = strings.Cut(text, `"`)
	if redis.HasErrorPrefix(err, "CROSSSLOT") || redis.HasErrorPrefix(err, "MOVED") {
		text += ": for a cluster use redis.NewClusterClient"
	}
	return &storeError{"redisstore: " + doing + ": " + strings.TrimSpace(text), err}
}
