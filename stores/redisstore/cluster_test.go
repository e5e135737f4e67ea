package redisstore_test

import (
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// nameOn returns a key, or a tag with the prefix of tags, that lies on a node of a cluster.
func (c cluster) nameOn(t testing.TB, node int, prefix string) string {
	t.Helper()
	for i := range 1000 {
		if c.nodeOf(t, prefix+name(i)) == node {
			return name(i)
		}
	}
	t.Fatalf("no key on node %d", node)
	return ""
}

// A tag names its key before data can be read, or a logout by subject misses a session: where it cannot be written,
// there is none.
func TestInAClusterNoValueIsWithoutItsTag(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t)
	client := nodes.client(t)
	store := newStore(t, client)
	key := nodes.nameOn(t, 0, "oidcauth:")
	tag, other := nodes.nameOn(t, 1, "oidcauth:tag:"), nodes.nameOn(t, 2, "oidcauth:tag:")
	must(t, client.Set(t.Context(), "oidcauth:tag:"+tag, "something else", 0).Err())
	version, err := store.Set(t.Context(), key, nil, inAnHour(), 0, []string{other, tag})
	if version != 0 || !redis.HasErrorPrefix(err, "WRONGTYPE") {
		t.Errorf("Set with a tag that cannot be written: %d, %v", version, err)
	}
	if _, _, ok, err := store.Get(t.Context(), key); ok || err != nil {
		t.Errorf("the value is there: %v, %v", ok, err)
	}
	nodes[1].kill()
	version, err = store.Set(t.Context(), key, nil, inAnHour(), 0, []string{other, tag})
	if version != 0 || err == nil {
		t.Errorf("Set with a tag on a server that is down: %d, %v", version, err)
	}
	if _, _, ok, err := store.Get(t.Context(), key); ok || err != nil {
		t.Errorf("the value is there: %v, %v", ok, err)
	}
	version, err = store.Set(t.Context(), key, nil, inAnHour(), 0, []string{other})
	if version == 0 || err != nil {
		t.Errorf("Set with a tag on a server that is up: %d, %v", version, err)
	}
}

// In a cluster tags are written whether or not the Set is then refused: that may add, and must not take away.
func TestInAClusterTagsOutliveTheirKeys(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t)
	client := nodes.client(t)
	store := newStore(t, client)
	key, tag := nodes.nameOn(t, 0, "oidcauth:"), nodes.nameOn(t, 1, "oidcauth:tag:")
	version, err := store.Set(t.Context(), key, nil, inAnHour(), 0, []string{tag})
	must(t, err)
	outlives := func(when string) {
		t.Helper()
		life := client.PTTL(t.Context(), "oidcauth:"+key).Val()
		score := time.UnixMilli(int64(client.ZScore(t.Context(), "oidcauth:tag:"+tag, key).Val()))
		tagged := client.PTTL(t.Context(), "oidcauth:tag:"+tag).Val()
		if life < 59*time.Minute || time.Until(score) < life || tagged < life {
			t.Errorf("%s: the key lives for %v, and its tag until %v", when, life, score)
		}
	}
	outlives("after a Set")
	v, err := store.Set(t.Context(), key, nil, time.Now().Add(time.Minute), version+1, []string{tag})
	if v != 0 || err != nil {
		t.Errorf("a stale Set: %d, %v", v, err)
	}
	outlives("after a stale Set for a minute")
	_, err = store.Set(t.Context(), key, nil, inAnHour().Add(time.Hour), version, []string{tag})
	must(t, err)
	outlives("after a Set for two hours")
}

// Keys that move from one node to another, as they do when a cluster grows, are asked for where they are.
func TestInAClusterKeysMayMove(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t)
	client := nodes.client(t)
	store := newStore(t, client)
	key, tag := nodes.nameOn(t, 0, "oidcauth:"), nodes.nameOn(t, 1, "oidcauth:tag:")
	from, to := nodes[0].client(), nodes[1].client()
	slot := int(from.ClusterKeySlot(t.Context(), "oidcauth:"+key).Val())
	do := func(c *redis.Client, args ...any) {
		t.Helper()
		must(t, c.Do(t.Context(), args...).Err())
	}
	id := func(c *redis.Client) string { return c.Do(t.Context(), "cluster", "myid").Val().(string) }
	version := int64(0)
	set := func(when string) {
		t.Helper()
		next, err := store.Set(t.Context(), key, []byte(when), inAnHour(), version, []string{tag})
		if err != nil || next == 0 {
			t.Fatalf("Set %s: %d, %v", when, next, err)
		}
		if data, v, ok, err := store.Get(t.Context(), key); err != nil || !ok || v != next || string(data) != when {
			t.Errorf("Get %s: %q, %d, %v, %v", when, data, v, ok, err)
		}
		if v, err := store.Set(t.Context(), key, nil, inAnHour(), version, nil); v != 0 || err != nil {
			t.Errorf("a stale Set %s: %d, %v", when, v, err)
		}
		version = next
	}
	set("before it moves")
	do(to, "cluster", "setslot", slot, "importing", id(from))
	do(from, "cluster", "setslot", slot, "migrating", id(to))
	set("while it waits to move")
	do(from, "migrate", "127.0.0.1", nodes[1].port, "oidcauth:"+key, 0, 5000)
	set("once it has moved and its slot has not")
	must(t, store.Delete(t.Context(), key))
	if _, _, ok, err := store.Get(t.Context(), key); ok || err != nil {
		t.Errorf("Get of what was deleted: %v, %v", ok, err)
	}
	version = 0
	set("new in a slot that moves")
	for _, c := range []*redis.Client{to, from, nodes[2].client()} {
		do(c, "cluster", "setslot", slot, "node", id(to))
	}
	set("after its slot has moved")
	if keys, err := store.Tagged(t.Context(), tag); err != nil || !slices.Equal(keys, []string{key}) {
		t.Errorf("Tagged: %q, %v", keys, err)
	}
	must(t, store.Delete(t.Context(), key))
	if n := from.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys on the node which had the slot", n)
	}
}
