package redisstore_test

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/oidcauth/oidcauth/stores/redisstore"
)

// calls are all methods that take a context.
func calls(store *redisstore.Store) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"Get": func(ctx context.Context) error { _, _, _, err := store.Get(ctx, name(1)); return err },
		"Set": func(ctx context.Context) error {
			_, err := store.Set(ctx, name(1), []byte("data"), inAnHour(), 0, nil)
			return err
		},
		"Set with tags": func(ctx context.Context) error {
			_, err := store.Set(ctx, name(1), []byte("data"), inAnHour(), 0, []string{name(2), name(3)})
			return err
		},
		"Delete": func(ctx context.Context) error { return store.Delete(ctx, name(1)) },
		"Tagged": func(ctx context.Context) error { _, err := store.Tagged(ctx, name(1)); return err },
		"Check":  store.Check,
	}
}

// S36: whoever waits for a server that hangs is told to go when his time is up, whatever the options of the client are,
// and what he leaves behind ends as well. Not parallel: it counts goroutines.
func TestContextsEndCallsToAServerThatHangs(t *testing.T) {
	server, nodes := startServer(t), startCluster(t)
	const timeout = 3 * time.Second
	clients := map[string]redis.UniversalClient{}
	for name, enabled := range map[string]bool{"": false, " with ContextTimeoutEnabled": true} {
		clients["a server"+name] = redis.NewClient(&redis.Options{
			Addr: server.addr(), ReadTimeout: timeout, ContextTimeoutEnabled: enabled,
		})
		clients["a cluster"+name] = redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: []string{nodes[0].addr()}, ReadTimeout: timeout, ContextTimeoutEnabled: enabled,
		})
	}
	for _, c := range clients {
		must(t, newStore(t, c).Delete(t.Context(), name(1))) // so that there are connections
		t.Cleanup(func() { _ = c.Close() })
	}
	before := runtime.NumGoroutine()
	for _, s := range append(nodes, server) {
		s.signal(syscall.SIGSTOP)
	}
	t.Run("calls", func(t *testing.T) {
		for name, c := range clients {
			for method, call := range calls(newStore(t, c)) {
				t.Run(method+" on "+name, func(t *testing.T) {
					t.Parallel()
					returnsWhenItsContextEnds(t, call, timeout*2/3)
				})
			}
		}
	})
	waitFor(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
	for _, s := range append(nodes, server) {
		s.signal(syscall.SIGCONT)
	}
	for _, c := range clients {
		store := newStore(t, c)
		waitFor(t, "an answer", func() bool { return store.Delete(t.Context(), name(1)) == nil })
	}
}

func returnsWhenItsContextEnds(t *testing.T, call func(context.Context) error, limit time.Duration) {
	began := time.Now()
	err := call(within(t, 200*time.Millisecond))
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > limit {
		t.Errorf("deadline: %v after %v", err, time.Since(began))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer time.AfterFunc(200*time.Millisecond, cancel).Stop()
	began = time.Now()
	if err := call(ctx); !errors.Is(err, context.Canceled) || time.Since(began) > limit {
		t.Errorf("cancelled: %v after %v", err, time.Since(began))
	}
}

// What was acknowledged is there after a power cut, where appendfsync is always.
func TestNothingIsLostWhenTheServerIsKilled(t *testing.T) {
	t.Parallel()
	server := startServer(t, "--appendonly", "yes", "--appendfsync", "always")
	store := newStore(t, server.client())
	version, err := store.Set(t.Context(), name(1), []byte("ended"), inAnHour(), 0, []string{name(100)})
	must(t, err)
	must(t, store.Delete(t.Context(), name(1)))
	versions := map[string]int64{}
	for i := range 50 {
		key := name(i + 2)
		first, err := store.Set(t.Context(), key, []byte("first"), inAnHour(), 0, []string{name(100)})
		must(t, err)
		versions[key], err = store.Set(t.Context(), key, []byte("second"), inAnHour(), first, []string{name(100)})
		must(t, err)
	}
	server.kill()
	if _, _, _, err := store.Get(t.Context(), name(2)); err == nil {
		t.Error("Get without a server has no error")
	}
	if !server.start() {
		t.Fatal("redis-server does not start again")
	}
	waitFor(t, "an answer", func() bool { _, _, _, err := store.Get(t.Context(), name(1)); return err == nil })
	if _, _, ok, _ := store.Get(t.Context(), name(1)); ok {
		t.Error("what was deleted is back")
	}
	if v, err := store.Set(t.Context(), name(1), nil, inAnHour(), version, nil); v != 0 || err != nil {
		t.Errorf("Set of what was deleted: %d, %v", v, err)
	}
	for key, version := range versions {
		data, got, ok, err := store.Get(t.Context(), key)
		if err != nil || !ok || string(data) != "second" || got != version {
			t.Errorf("%s: %q with version %d, %v, %v; want version %d", key, data, got, ok, err, version)
		}
	}
	keys, err := store.Tagged(t.Context(), name(100))
	if err != nil || len(keys) < 50 {
		t.Errorf("%d keys under the tag, %v", len(keys), err)
	}
}

func TestScriptsMayBeFlushed(t *testing.T) {
	t.Parallel()
	client := startServer(t).client()
	store := newStore(t, client)
	flush := func() { must(t, client.ScriptFlush(t.Context()).Err()) }
	version := int64(0)
	for range 3 {
		flush()
		next, err := store.Set(t.Context(), name(1), []byte("data"), inAnHour(), version, []string{name(2)})
		if err != nil || next == 0 {
			t.Fatalf("Set: %d, %v", next, err)
		}
		version = next
		flush()
		if keys, err := store.Tagged(t.Context(), name(2)); err != nil || len(keys) != 1 {
			t.Errorf("Tagged: %q, %v", keys, err)
		}
	}
	flush()
	must(t, store.Delete(t.Context(), name(1)))
}

// What a server says comes through: here that it runs the endless script of another application.
func TestABusyServerSaysSo(t *testing.T) {
	t.Parallel()
	server := startServer(t, "--lua-time-limit", "50")
	store := newStore(t, server.client())
	must(t, store.Delete(t.Context(), name(1)))
	ended := make(chan struct{})
	go func() { _ = server.client().Eval(t.Context(), "while true do end", nil).Err(); close(ended) }()
	other := server.client()
	waitFor(t, "a server that is busy", func() bool {
		return redis.HasErrorPrefix(other.Ping(t.Context()).Err(), "BUSY")
	})
	for method, call := range calls(store) {
		if err := call(t.Context()); !redis.HasErrorPrefix(err, "BUSY") || !strings.Contains(err.Error(), "BUSY") {
			t.Errorf("%s: %v, want that the server is BUSY", method, err)
		}
	}
	must(t, server.client().ScriptKill(t.Context()).Err())
	<-ended
	must(t, store.Delete(t.Context(), name(1)))
}

func TestAReplicaRefuses(t *testing.T) {
	t.Parallel()
	master := startServer(t)
	replica := startServer(t, "--replicaof", "127.0.0.1 "+itoa(master.port))
	store := newStore(t, replica.client())
	waitFor(t, "the replica", func() bool {
		info, err := replica.client().Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "master_link_status:up")
	})
	for method, call := range calls(store) {
		if method == "Get" || method == "Tagged" {
			continue // which a server allows on replicas
		}
		err := call(t.Context())
		if !redis.HasErrorPrefix(err, "READONLY") || !strings.Contains(err.Error(), "READONLY") {
			t.Errorf("%s: %v, want that the server is READONLY", method, err)
		}
	}
	if n, err := newStore(t, master.client()).Tagged(t.Context(), name(2)); len(n) > 0 || err != nil {
		t.Errorf("a tag on the master: %q, %v", n, err)
	}
}

// A proxy stands between a client and a server, and can lose answers.
type proxy struct {
	net.Listener
	lose atomic.Bool // the next answer, and the connection with it
}

func startProxy(t *testing.T, addr string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	p := &proxy{Listener: l}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", addr)
			if err != nil {
				_ = client.Close()
				return
			}
			go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
			go func() { _, _ = io.Copy(answers{p, client}, server); _ = client.Close() }()
		}
	}()
	return p
}

type answers struct {
	p      *proxy
	client io.Writer
}

func (a answers) Write(b []byte) (int, error) {
	if a.p.lose.CompareAndSwap(true, false) {
		return 0, errors.New("lost")
	}
	return a.client.Write(b)
}

// S06: a Set or Delete is not done twice because its answer was lost: in between, others may have acted upon the first.
func TestNothingIsDoneTwice(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	p := startProxy(t, server.addr())
	client := newClient(t, p.Addr().String())
	store, direct := newStore(t, client), newStore(t, server.client())
	done := func() int {
		t.Helper()
		stats, err := server.client().Info(t.Context(), "commandstats").Result()
		must(t, err)
		_, stats, _ = strings.Cut(stats, "cmdstat_evalsha:calls=")
		stats, _, _ = strings.Cut(stats, ",")
		return atoi(t, stats)
	}
	must(t, store.Delete(t.Context(), name(1)))
	_, err := store.Set(t.Context(), name(2), nil, inAnHour(), 0, nil) // both scripts are known from here
	must(t, err)

	before := done()
	p.lose.Store(true)
	if version, err := store.Set(t.Context(), name(1), []byte("data"), inAnHour(), 0, nil); err == nil {
		t.Errorf("a Set whose answer was lost: %d without an error", version)
	}
	if n := done() - before; n != 1 {
		t.Errorf("the Set was done %d times, want once", n)
	}
	if _, _, ok, err := direct.Get(t.Context(), name(1)); !ok || err != nil {
		t.Errorf("the value is there: %v, %v", ok, err)
	}
	reconnect := func() { _, _, _, err := store.Get(t.Context(), name(1)); must(t, err) }
	reconnect() // or the answer to a handshake is lost
	before = done()
	p.lose.Store(true)
	if err := store.Delete(t.Context(), name(1)); err == nil {
		t.Error("a Delete whose answer was lost has no error")
	}
	if n := done() - before; n != 1 {
		t.Errorf("the Delete was done %d times, want once", n)
	}
	reconnect()
	p.lose.Store(true) // a Get changes nothing, and is tried again
	if _, _, ok, err := store.Get(t.Context(), name(2)); !ok || err != nil {
		t.Errorf("a Get whose answer was lost: %v, %v", ok, err)
	}
}

func TestErrorsQuoteNothing(t *testing.T) {
	t.Parallel()
	// A server that does not know a command, and says what it was asked.
	unknown := startServer(t, "--rename-command", "EVALSHA", "", "--rename-command", "GET", "")
	// Something that answers with the value of somebody.
	garbage, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = garbage.Close() })
	go func() {
		for {
			conn, err := garbage.Accept()
			if err != nil {
				return
			}
			go func() {
				b := make([]byte, 4096)
				for {
					if _, err := conn.Read(b); err != nil {
						return
					}
					_, _ = conn.Write([]byte("(secret-of-somebody\r\n"))
				}
			}()
		}
	}()
	for text, addr := range map[string]string{"ERR unknown command": unknown.addr(), "parse": garbage.Addr().String()} {
		client := redis.NewClient(&redis.Options{Addr: addr, Protocol: 2, DisableIdentity: true, MaxRetries: -1})
		t.Cleanup(func() { _ = client.Close() })
		store, err := redisstore.New(client, redisstore.Options{Prefix: "p:"})
		must(t, err)
		for method, call := range map[string]func() error{
			"Get": func() error { _, _, _, err := store.Get(t.Context(), name(1)); return err },
			"Set": func() error {
				_, err := store.Set(t.Context(), "short", []byte("secret-of-mine"), inAnHour(), 0, nil)
				return err
			},
			"Delete": func() error { return store.Delete(t.Context(), name(1)) },
			"Tagged": func() error { _, err := store.Tagged(t.Context(), name(1)); return err },
		} {
			err := call()
			if err == nil || !strings.HasPrefix(err.Error(), "redisstore: ") || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v, want %q", method, err, text)
				continue
			}
			for _, secret := range []string{"secret", "short", "name-", "p:"} {
				if _, said, _ := strings.Cut(err.Error(), ": "); strings.Contains(said, secret) {
					t.Errorf("%s: %q is in %v", method, secret, err)
				}
			}
		}
	}
}

func TestWhatOthersWroteIsLeftAlone(t *testing.T) {
	t.Parallel()
	client := startServer(t).client()
	must(t, client.Set(t.Context(), "oidcauth:"+name(1), "other", 0).Err())
	must(t, client.Set(t.Context(), "oidcauth:tag:"+name(2), "other", 0).Err())
	store := newStore(t, client)
	_, _, ok, err := store.Get(t.Context(), name(1))
	if ok || err == nil || !strings.Contains(err.Error(), "use another Prefix") {
		t.Errorf("Get: %v, %v", ok, err)
	}
	if version, err := store.Set(t.Context(), name(1), nil, inAnHour(), 0, nil); version != 0 || err != nil {
		t.Errorf("Set: %d, %v", version, err)
	}
	if _, err := store.Tagged(t.Context(), name(2)); !redis.HasErrorPrefix(err, "WRONGTYPE") {
		t.Errorf("Tagged: %v", err)
	}
	// A tag that cannot be written leaves no value without it.
	version, err := store.Set(t.Context(), name(3), nil, inAnHour(), 0, []string{name(2)})
	if version != 0 || !redis.HasErrorPrefix(err, "WRONGTYPE") {
		t.Errorf("Set with a tag: %d, %v", version, err)
	}
	if _, _, ok, err := store.Get(t.Context(), name(3)); ok || err != nil {
		t.Errorf("there is a value without its tag: %v, %v", ok, err)
	}
}
