package redisstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Check looks for what makes a server unfit for sessions, and returns nil or an error that names all of it with its
// remedy. It stores a value for a moment, reads it and deletes it, which a replica, a server without scripts and a user
// without the rights refuse. Then it asks each master with INFO, if that is allowed, for maxmemory-policy and
// appendonly.
//
// Call it when the application starts, and log or stop, as you like: a service that keeps writes by other means than an
// append-only file may still say that it has none.
func (s *Store) Check(ctx context.Context) error {
	if err := s.try(ctx); err != nil {
		return &storeError{"redisstore: check: " + strings.TrimPrefix(err.Error(), "redisstore: "), err}
	}
	var mu sync.Mutex // masters of a cluster are asked at once
	var found []string
	err := s.forEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		text, err := c.Info(ctx).Result()
		if refused := redis.Error(nil); errors.As(err, &refused) {
			return nil // it is not allowed
		}
		mu.Lock()
		defer mu.Unlock()
		found = append(found, faults(text)...)
		return err
	})
	if err != nil {
		return failure("check", err)
	}
	slices.Sort(found)
	var errs []error
	for _, fault := range slices.Compact(found) {
		errs = append(errs, errors.New("redisstore: check: "+fault))
	}
	return errors.Join(errs...)
}

func (s *Store) forEachMaster(ctx context.Context, do func(context.Context, *redis.Client) error) error {
	return s.await(ctx, func() error {
		switch c := s.client.(type) {
		case *redis.ClusterClient:
			return c.ForEachMaster(ctx, do)
		case *redis.Client:
			return do(ctx, c)
		}
		return nil // New takes no others
	})
}

// try does what sessions need.
func (s *Store) try(ctx context.Context) error {
	key, tag, data := rand.Text(), rand.Text(), []byte(rand.Text())
	version, err := s.Set(ctx, key, data, time.Now().Add(time.Minute), 0, []string{tag})
	if err != nil {
		return err
	}
	got, current, ok, err := s.Get(ctx, key)
	if err != nil {
		return err
	}
	keys, err := s.Tagged(ctx, tag)
	if err != nil {
		return err
	}
	if err := s.Delete(ctx, key); err != nil {
		return err
	}
	if !ok || version == 0 || current != version || !bytes.Equal(got, data) || !slices.Contains(keys, key) {
		return errors.New("what was stored is not found:" +
			" connect to the master itself, and to nothing that spreads keys over several")
	}
	return nil
}

// faults reads what INFO says.
func faults(info string) (found []string) {
	for line := range strings.Lines(info) {
		switch field, value, _ := strings.Cut(strings.TrimSpace(line), ":"); {
		case field == "maxmemory_policy" && value != "noeviction":
			found = append(found, "maxmemory-policy is "+value+", which lets ended sessions come back: set noeviction")
		case field == "aof_enabled" && value == "0":
			found = append(found, "appendonly is no, so that a restart forgets what ended: set yes")
		}
	}
	return found
}
