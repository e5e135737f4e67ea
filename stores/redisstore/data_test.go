package redisstore_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/oidcauth/oidcauth/stores/redisstore"
)

func itoa(n int) string { return strconv.Itoa(n) }

func atoi(t testing.TB, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	must(t, err)
	return n
}

// S10: who reads the server learns nothing but names that are hashes and values that are sealed, neither of which is
// ours to make.
func TestADumpShowsWhatTheStoreWasGiven(t *testing.T) {
	t.Parallel()
	for prefix, want := range map[string]string{"": "oidcauth:", "shop:": "shop:", "{shop}": "{shop}"} {
		client := startServer(t).client()
		store, err := redisstore.New(client, redisstore.Options{Prefix: prefix})
		must(t, err)
		version := int64(0)
		for range 3 {
			tags := []string{name(2), name(3)}
			version, err = store.Set(t.Context(), name(1), []byte("data"), inAnHour(), version, tags)
			must(t, err)
		}
		_, err = store.Set(t.Context(), name(4), nil, inAnHour(), 0, nil)
		must(t, err)
		_, err = store.Set(t.Context(), name(5), nil, inAnHour(), 0, nil)
		must(t, err)
		must(t, store.Delete(t.Context(), name(5)))

		keys, err := client.Keys(t.Context(), "*").Result()
		must(t, err)
		slices.Sort(keys)
		all := []string{want + name(1), want + name(4), want + "tag:" + name(2), want + "tag:" + name(3)}
		if !slices.Equal(keys, all) {
			t.Errorf("keys are %q, want %q", keys, all)
		}
		value, err := client.Get(t.Context(), want+name(1)).Result()
		must(t, err)
		if len(value) != 8+4 || value[8:] != "data" {
			t.Errorf("a value is %q, want 8 bytes and the data", value)
		}
		for _, tag := range all[2:] {
			members, err := client.ZRange(t.Context(), tag, 0, -1).Result()
			must(t, err)
			if !slices.Equal(members, []string{name(1)}) {
				t.Errorf("a tag has %q, want %q", members, name(1))
			}
		}
		for _, key := range keys {
			if left := client.PTTL(t.Context(), key).Val(); left < 59*time.Minute || left > 61*time.Minute {
				t.Errorf("%s expires in %v, want an hour", key, left)
			}
		}
	}
}

// S06: the clocks of servers differ. All that a server is told of time is how long something lasts.
func TestNothingAbsoluteIsSent(t *testing.T) {
	t.Parallel()
	client := startServer(t).client()
	var sent []string
	client.AddHook(recorder(func(cmd redis.Cmder) { sent = append(sent, fmt.Sprint(cmd.Args()...)) }))
	store := newStore(t, client)
	_, err := store.Set(t.Context(), name(1), nil, inAnHour(), 0, []string{name(2)})
	must(t, err)
	now := time.Now()
	epoch := []string{strconv.FormatInt(now.Unix(), 10)[:6], strconv.FormatInt(inAnHour().Unix(), 10)[:6]}
	found := false
	for _, line := range sent {
		found = found || strings.Contains(line, "360000") // milliseconds of an hour, rounded up
		for _, e := range epoch {
			if strings.Contains(line, e) {
				t.Errorf("%q has a time, %s…", line, e)
			}
		}
	}
	if !found {
		t.Errorf("no duration in %q", sent)
	}
}

type recorder func(redis.Cmder)

func (r recorder) DialHook(next redis.DialHook) redis.DialHook { return next }
func (r recorder) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { r(cmd); return next(ctx, cmd) }
}

func (r recorder) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// One round trip each, performance.md.
func TestEachCallIsOneCommand(t *testing.T) {
	t.Parallel()
	client := startServer(t).client()
	var sent []string
	client.AddHook(recorder(func(cmd redis.Cmder) { sent = append(sent, cmd.Name()) }))
	store := newStore(t, client)
	for method, call := range calls(store) {
		if method == "Check" {
			continue
		}
		must(t, call(t.Context())) // which may have to bring its script
		sent = nil
		must(t, call(t.Context()))
		if len(sent) != 1 {
			t.Errorf("%s sent %q, want one command", method, sent)
		}
	}
}

func TestTagsStaySmall(t *testing.T) {
	t.Parallel()
	client := startServer(t).client()
	store := newStore(t, client)
	tag, soon := name(0), time.Now().Add(2*time.Second)
	for i := range 10_000 {
		_, err := store.Set(t.Context(), name(i+2), nil, soon, 0, []string{tag})
		must(t, err)
	}
	_, err := store.Set(t.Context(), name(1), nil, inAnHour(), 0, []string{tag})
	must(t, err)
	waitFor(t, "10,000 keys to expire", func() bool {
		keys, err := store.Tagged(t.Context(), tag)
		must(t, err)
		return slices.Equal(keys, []string{name(1)})
	})
	if time.Now().Before(soon) {
		t.Error("tags expired early")
	}
	version, err := store.Set(t.Context(), name(2), nil, inAnHour(), 0, []string{tag})
	must(t, err)
	if n := client.ZCard(t.Context(), "oidcauth:tag:"+tag).Val(); n != 2 {
		t.Errorf("the tag has %d keys, want 2", n)
	}
	// A Set for less time does not shorten what others need.
	_, err = store.Set(t.Context(), name(2), nil, time.Now().Add(time.Millisecond), version, []string{tag})
	must(t, err)
	if left := client.PTTL(t.Context(), "oidcauth:tag:"+tag).Val(); left < 59*time.Minute {
		t.Errorf("the tag expires in %v", left)
	}
	// A tag whose keys have all expired is gone.
	_, err = store.Set(t.Context(), name(1), nil, time.Now().Add(50*time.Millisecond), 0, []string{name(3)})
	must(t, err)
	waitFor(t, "the tag to go", func() bool { return client.Exists(t.Context(), "oidcauth:tag:"+name(3)).Val() == 0 })
}

func TestMemoryPerSession(t *testing.T) {
	t.Parallel()
	client := startServer(t).client()
	store := newStore(t, client)
	_, err := store.Set(t.Context(), name(1), make([]byte, 1300), inAnHour(), 0, nil)
	must(t, err)
	if used := client.MemoryUsage(t.Context(), "oidcauth:"+name(1)).Val(); used < 1300 || used > 1300+43+300 {
		t.Errorf("1,300 bytes of data take %d, want a name and 300 bytes more at most", used)
	}
}
