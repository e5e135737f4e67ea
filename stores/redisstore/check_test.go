package redisstore_test

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestCheckSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	const policy = "--maxmemory-policy"
	fit := []string{"--appendonly", "yes", policy, "noeviction"}
	with := func(args ...string) []string { return append(fit[:4:4], args...) }
	for name, tt := range map[string]struct {
		args []string
		want []string // none is no error
	}{
		"a fit server":         {fit, nil},
		"as Redis comes":       {nil, []string{"appendonly is no"}},
		"evicts the old":       {with(policy, "allkeys-lru"), []string{"allkeys-lru", "set noeviction"}}, // S20
		"evicts what expires":  {with(policy, "volatile-ttl"), []string{"volatile-ttl"}},
		"evicts, keeps no log": {[]string{policy, "volatile-lru"}, []string{"volatile-lru", "appendonly"}},
		"is full":              {with("--maxmemory", "1"), []string{"OOM"}},
		"without scripts":      {with("--rename-command", "EVALSHA", ""), []string{"unknown command"}},
		"without INFO":         {with("--rename-command", "INFO", "", policy, "allkeys-lru"), nil},
		"with a password":      {with("--requirepass", "word"), []string{"NOAUTH"}},
		"refuses scripts":      {with(strings.Fields("--user default on nopass ~* -@all +ping")...), []string{"NOPERM"}},
		"has rights we listed": {with(strings.Fields(listedRights)...), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := startServer(t, tt.args...).client()
			err := newStore(t, client).Check(t.Context())
			if (err != nil) != (tt.want != nil) {
				t.Fatalf("%v, want %q", err, tt.want)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "redisstore: check: ") {
					t.Errorf("%v, want %q", err, want)
				}
			}
		})
	}
}

// listedRights are those that the package comment lists; PING and CLIENT are the test's and go-redis's.
const listedRights = "--user default on nopass ~oidcauth:* +evalsha +eval +get +getrange +set +del +time +pttl" +
	" +pexpire +zadd +zrangebyscore +zremrangebyscore +info +ping +hello +client"

func TestCheckAsksEachMaster(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t)
	must(t, nodes[2].client().ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lfu").Err())
	err := newStore(t, nodes.client(t)).Check(t.Context())
	if err == nil || strings.Count(err.Error(), "allkeys-lfu") != 1 || strings.Count(err.Error(), "appendonly") != 1 {
		t.Errorf("%v, want each fault once", err)
	}
	for i, n := range nodes {
		keys, err := n.client().Keys(t.Context(), "*").Result()
		must(t, err)
		for _, key := range keys {
			if !strings.HasPrefix(key, "oidcauth:tag:") { // which expires within two minutes
				t.Errorf("Check left %q on node %d", key, i)
			}
		}
	}
}

func TestCheckAsksForTheClientOfACluster(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t)
	err := newStore(t, nodes[0].client()).Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), "use redis.NewClusterClient") {
		t.Errorf("%v, want the client to use", err)
	}
}

func TestCheckOfNoServer(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = client.Close() })
	if err := newStore(t, client).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("%v, want the address of nobody", err)
	}
}
