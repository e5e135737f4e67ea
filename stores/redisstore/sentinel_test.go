package redisstore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// A store goes on with the new master, where what was stored before still is.
func TestSentinelMayChooseAnotherMaster(t *testing.T) {
	t.Parallel()
	master := startServer(t)
	replica := startServer(t, "--replicaof", "127.0.0.1 "+itoa(master.port))
	config := filepath.Join(t.TempDir(), "sentinel.conf") // Sentinel writes to it
	must(t, os.WriteFile(config, fmt.Appendf(nil, "sentinel monitor main 127.0.0.1 %d 1\n", master.port), 0o600))
	waitFor(t, "the replica", func() bool {
		info, err := master.client().Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "state=online")
	})
	sentinel := startSentinel(t, config)
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: "main", SentinelAddrs: []string{sentinel.addr()},
	})
	t.Cleanup(func() { _ = client.Close() })
	store := newStore(t, client)

	version, err := store.Set(t.Context(), name(1), []byte("before"), inAnHour(), 0, []string{name(2)})
	must(t, err)
	waitFor(t, "the write to be replicated", func() bool {
		_, _, ok, err := newStore(t, replica.client()).Get(t.Context(), name(1))
		return ok && err == nil
	})
	waitFor(t, "Sentinel to know the replica", func() bool {
		return sentinel.client().Do(t.Context(), "sentinel", "failover", "main").Err() == nil
	})
	// Until the old master knows, it takes writes, and forgets them.
	waitFor(t, "another master", func() bool {
		return strings.Contains(replica.client().Info(t.Context(), "replication").Val(), "role:master") &&
			strings.Contains(master.client().Info(t.Context(), "replication").Val(), "role:slave")
	})
	waitFor(t, "a Set on the new master", func() bool {
		next, err := store.Set(t.Context(), name(1), []byte("after"), inAnHour(), version, []string{name(2)})
		if err == nil && next == 0 {
			t.Fatal("the version of before is not current")
		}
		return err == nil
	})
	data, _, ok, err := newStore(t, replica.client()).Get(t.Context(), name(1))
	if string(data) != "after" || !ok || err != nil {
		t.Errorf("the new master has %q, %v, %v", data, ok, err)
	}
	if keys, err := store.Tagged(t.Context(), name(2)); len(keys) != 1 || err != nil {
		t.Errorf("Tagged: %q, %v", keys, err)
	}
}
