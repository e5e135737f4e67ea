package redisstore_test

import (
	"context"
	"flag"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
	"github.com/oidcauth/oidcauth/stores/redisstore"
)

var _ interface {
	oidcauth.SessionStore
	oidcauth.SessionIndex
} = (*redisstore.Store)(nil)

// silence is a logger for go-redis, which would print each server that is down.
type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

func TestMain(m *testing.M) {
	redis.SetLogger(silence{})
	flag.Parse()
	_ = flag.Set("test.parallel", "16") // they wait for time to pass, and not for a processor
	os.Exit(m.Run())
}

func newStore(t testing.TB, client redis.UniversalClient) *redisstore.Store {
	t.Helper()
	store, err := redisstore.New(client, redisstore.Options{})
	must(t, err)
	return store
}

func TestAStoreIsASessionStore(t *testing.T) {
	t.Parallel()
	t.Run("on one server", func(t *testing.T) {
		t.Parallel()
		contract(t, startServer(t).client())
	})
	t.Run("in a cluster", func(t *testing.T) {
		t.Parallel()
		contract(t, startCluster(t).client(t))
	})
	t.Run("with deadlines from contexts", func(t *testing.T) {
		t.Parallel()
		client := redis.NewClient(&redis.Options{Addr: startServer(t).addr(), ContextTimeoutEnabled: true, Protocol: 2})
		t.Cleanup(func() { _ = client.Close() })
		contract(t, client)
	})
}

func contract(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	store := newStore(t, client)
	oidcauthtest.TestSessionStore(t, func(*testing.T) oidcauth.SessionStore { return store })
}
