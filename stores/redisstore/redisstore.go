package redisstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Options are the options of a [Store]. The zero value will do.
type Options struct {
	_ [0]func() // forbids unkeyed literals, so that fields can be added

	// Prefix comes before the name of each key in Redis. The default is "oidcauth:". Applications may share one: the
	// keys of each are hashed under its own secrets.
	Prefix string
}

// A Store is an oidcauth.SessionStore and an oidcauth.SessionIndex in Redis. It is safe for concurrent use. It starts
// no goroutine that outlives its calls by more than the timeouts of the client, and has nothing to close but the
// client, which remains the caller's. The zero value is not usable: see [New].
type Store struct {
	client redis.UniversalClient
	prefix string
	traits

	set, remove, tagged script
}

// New returns a store that uses client, which is one of [redis.NewClient], [redis.NewFailoverClient],
// [redis.NewClusterClient] or [redis.NewUniversalClient]. It does no I/O: see [Store.Check]. It returns an error for a
// client whose answers could be out of date, or that waits for one without limit.
func New(client redis.UniversalClient, o Options) (*Store, error) {
	traits, err := inspect(client)
	if err != nil {
		return nil, fmt.Errorf("redisstore: %w", err)
	}
	if o.Prefix == "" {
		o.Prefix = "oidcauth:"
	}
	return &Store{
		client: client,
		prefix: o.Prefix,
		traits: traits,
		set:    newScript(setSource),
		remove: newScript(removeSource),
		tagged: newScript(taggedSource),
	}, nil
}

// traits are of a client.
type traits struct {
	cluster   bool // keys lie on several servers, so that a script has but one
	deadlines bool // those of contexts are heeded
}

// inspect returns the traits of client, or why it is none for sessions.
func inspect(client redis.UniversalClient) (t traits, err error) {
	errNil := errors.New("the client is nil: pass the one that redis.NewUniversalClient returned")
	var readTimeout, writeTimeout time.Duration
	switch c := client.(type) {
	case nil:
		return t, errNil
	case *redis.Client:
		if c == nil {
			return t, errNil
		}
		o := c.Options()
		if o.ClientSideCacheConfig != nil || o.ClientSideCache != nil {
			return t, errors.New("the client has a cache, in which sessions that have ended live on:" +
				" use one without ClientSideCacheConfig and ClientSideCache")
		}
		t.deadlines, readTimeout, writeTimeout = o.ContextTimeoutEnabled, o.ReadTimeout, o.WriteTimeout
	case *redis.ClusterClient:
		if c == nil {
			return t, errNil
		}
		o := c.Options()
		if o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
			return t, errors.New("the client reads from replicas, on which sessions that have ended live on:" +
				" use one without ReadOnly, RouteByLatency and RouteRandomly")
		}
		t.cluster, t.deadlines, readTimeout, writeTimeout = true, o.ContextTimeoutEnabled, o.ReadTimeout, o.WriteTimeout
	case *redis.Ring:
		return t, errors.New("a redis.Ring looks for keys on other servers when one is down, and finds what was there" +
			" before: use a cluster or Sentinel")
	default:
		return t, fmt.Errorf("a %T may answer from anywhere: pass the *redis.Client or *redis.ClusterClient itself", c)
	}
	if readTimeout <= 0 || writeTimeout <= 0 {
		return t, errors.New("the client waits without limit for a server that hangs:" +
			" set its ReadTimeout and WriteTimeout to a second or two")
	}
	return t, nil
}

// A value in Redis is its version, then its data.
const versionSize = 8

// newVersion returns 63 random bits. A key gets one for each Set, so that for one that gets a million of them the
// chance that any two are equal is one in 18 million; and nobody but its last holders could use one that comes again.
// Nothing has to be remembered for that: it holds after a Delete, an expiry, a FLUSHALL and a failover which lost
// writes, all of which a counter would have to survive. It is made here and not by the server, so that the script needs
// no randomness.
func newVersion() int64 {
	var b [versionSize]byte
	rand.Read(b[:]) // never fails
	return max(int64(binary.BigEndian.Uint64(b[:])>>1), 1)
}

func encode(version int64, data []byte) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, versionSize+len(data)), uint64(version)), data...)
}

func (s *Store) key(key string) string { return s.prefix + key }

// tag has a colon, which keys do not have.
func (s *Store) tag(tag string) string { return s.prefix + "tag:" + tag }

// Get returns the value at key and its version. ok is false if there is none.
func (s *Store) Get(ctx context.Context, key string) (data []byte, version int64, ok bool, err error) {
	cmd := redis.NewStringCmd(ctx, "get", s.key(key))
	switch err := s.process(ctx, cmd); {
	case errors.Is(err, redis.Nil):
		return nil, 0, false, nil
	case err != nil:
		return nil, 0, false, failure("get", err)
	}
	value, _ := cmd.Bytes() // of which go-redis keeps nothing
	if len(value) >= versionSize {
		version = int64(binary.BigEndian.Uint64(value))
	}
	if version <= 0 {
		return nil, 0, false, errors.New("redisstore: get: this is no value of a store: use another Prefix")
	}
	return value[versionSize:], version, true, nil
}

// Set stores data under key if the version there is still old, where 0 means that key must be absent, and returns the
// new version. 0 without an error means that old was not current. After an error it is unknown whether data was stored,
// or is about to be.
//
// In a cluster tags are written first and stay if old was not current.
func (s *Store) Set(
	ctx context.Context, key string, data []byte, expires time.Time, old int64, tags []string,
) (version int64, err error) {
	if s.cluster && len(tags) > 0 {
		if err := s.writeTags(ctx, key, expires, tags); err != nil {
			return 0, failure("set tags", err)
		}
		tags = nil
	}
	keys := make([]string, 1, 1+len(tags))
	keys[0] = s.key(key)
	for _, tag := range tags {
		keys = append(keys, s.tag(tag))
	}
	var current []byte
	if old != 0 {
		current = encode(old, nil)
	}
	version = newVersion()
	done, err := s.run(ctx, s.set, keys, current, encode(version, data), lifetime(expires), key)
	if err != nil {
		return 0, failure("set", err)
	}
	if done != int64(1) {
		return 0, nil
	}
	return version, nil
}

// lifetime is in milliseconds and never early: it is rounded up, and one more is for the time of the server, which it
// takes before it runs a script. What has expired has 0. It is relative, as the clocks may differ.
func lifetime(expires time.Time) int64 {
	left := time.Until(expires)
	if left <= 0 {
		return 0
	}
	return left.Milliseconds() + 2
}

// Delete removes key. An absent key is not an error. Its tags name it until it would have expired.
func (s *Store) Delete(ctx context.Context, key string) error {
	if _, err := s.run(ctx, s.remove, []string{s.key(key)}); err != nil {
		return failure("delete", err)
	}
	return nil
}

// Tagged returns the keys under tag, some of which may be gone.
func (s *Store) Tagged(ctx context.Context, tag string) (keys []string, err error) {
	found, err := s.run(ctx, s.tagged, []string{s.tag(tag)})
	if err != nil {
		return nil, failure("find a tag", err)
	}
	names, _ := found.([]any)
	for _, name := range names {
		if key, ok := name.(string); ok {
			keys = append(keys, key)
		}
	}
	return keys, nil
}
