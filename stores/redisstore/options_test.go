package redisstore_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/oidcauth/oidcauth/stores/redisstore"
)

func TestNewTakesClientsThatReadFromTheMaster(t *testing.T) {
	t.Parallel()
	const addr = "127.0.0.1:1" // nobody answers, and nobody is asked
	sentinel := &redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{addr}}
	for name, client := range map[string]redis.UniversalClient{
		"a server":                redis.NewClient(&redis.Options{Addr: addr}),
		"Sentinel":                redis.NewFailoverClient(sentinel),
		"a cluster":               redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{addr}}),
		"a cluster by Sentinel":   redis.NewFailoverClusterClient(sentinel),
		"whatever options say":    redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{addr}}),
		"several, options say":    redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{addr, addr}}),
		"timeouts of its own":     redis.NewClient(&redis.Options{ReadTimeout: time.Second, WriteTimeout: time.Second}),
		"RESP2":                   redis.NewClient(&redis.Options{Addr: addr, Protocol: 2}),
		"no retries whatever":     redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1}),
		"deadlines from contexts": redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true}),
	} {
		if store, err := redisstore.New(client, redisstore.Options{}); err != nil || store == nil {
			t.Errorf("%s: %v", name, err)
		}
		_ = client.Close()
	}
}

func TestNewRefusesOtherClients(t *testing.T) {
	t.Parallel()
	type cluster = redis.ClusterOptions
	for name, tt := range map[string]struct {
		client redis.UniversalClient
		remedy string
	}{
		"nil":                     {nil, "NewUniversalClient"},
		"a nil client":            {(*redis.Client)(nil), "NewUniversalClient"},
		"a nil client, a cluster": {(*redis.ClusterClient)(nil), "NewUniversalClient"},
		"a nil ring":              {(*redis.Ring)(nil), "use a cluster or Sentinel"},
		"a ring":                  {redis.NewRing(&redis.RingOptions{}), "use a cluster or Sentinel"},
		"something around a client": {
			struct{ redis.UniversalClient }{redis.NewClient(&redis.Options{})},
			"pass the *redis.Client or *redis.ClusterClient itself",
		},
		// S06
		"replicas":         {redis.NewClusterClient(&cluster{ReadOnly: true}), "without ReadOnly"},
		"the nearest node": {redis.NewClusterClient(&cluster{RouteByLatency: true}), "RouteByLatency"},
		"any node":         {redis.NewClusterClient(&cluster{RouteRandomly: true}), "RouteRandomly"},
		"any node by Sentinel": {
			redis.NewFailoverClusterClient(&redis.FailoverOptions{RouteRandomly: true}),
			"RouteRandomly",
		},
		"a cache": {
			redis.NewClient(&redis.Options{ClientSideCacheConfig: &redis.ClientSideCacheConfig{}}),
			"without ClientSideCacheConfig",
		},
		// S36
		"no ReadTimeout":             {redis.NewClient(&redis.Options{ReadTimeout: -1}), "set its ReadTimeout"},
		"no ReadTimeout at all":      {redis.NewClient(&redis.Options{ReadTimeout: -2}), "set its ReadTimeout"},
		"no WriteTimeout":            {redis.NewClient(&redis.Options{WriteTimeout: -1}), "WriteTimeout"},
		"no WriteTimeout at all":     {redis.NewClient(&redis.Options{WriteTimeout: -2}), "WriteTimeout"},
		"no ReadTimeout, a cluster":  {redis.NewClusterClient(&cluster{ReadTimeout: -1}), "set its ReadTimeout"},
		"no WriteTimeout, a cluster": {redis.NewClusterClient(&cluster{WriteTimeout: -2}), "WriteTimeout"},
	} {
		store, err := redisstore.New(tt.client, redisstore.Options{})
		if store != nil || err == nil {
			t.Errorf("%s: %v, %v; want an error", name, store, err)
		} else if !strings.HasPrefix(err.Error(), "redisstore: ") || !strings.Contains(err.Error(), tt.remedy) {
			t.Errorf("%s: %v; want an error with %q", name, err, tt.remedy)
		}
	}
}
