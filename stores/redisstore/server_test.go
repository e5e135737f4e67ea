package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A server is a redis-server of the test's own, on a port of the loopback interface.
type server struct {
	testing.TB
	dir  string
	port int
	args []string
	env  []string // besides that of the test

	run   *exec.Cmd
	ended chan struct{}
}

// startServer starts a server that keeps nothing on disk, but for what args say.
func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	return startServerWith(t, nil, args...)
}

func startServerWith(t testing.TB, env []string, args ...string) *server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("redis-server is not installed")
		}
		t.Skip("redis-server is not installed")
	}
	s := &server{TB: t, dir: t.TempDir(), args: args, env: env}
	t.Cleanup(s.kill)
	for range 5 { // or another process took the port meanwhile
		s.port = freePort(t)
		if s.start() {
			return s
		}
	}
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	t.Fatalf("redis-server does not start: %s", log)
	return nil
}

// startSentinel starts a Sentinel, which is a redis-server with a file of its own.
func startSentinel(t testing.TB, config string) *server {
	t.Helper()
	return startServer(t, sentinel, config)
}

const sentinel = "--sentinel"

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (s *server) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// start returns whether the server answers; it may be started again after it was killed.
func (s *server) start() bool {
	s.Helper()
	out, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.Fatal(err)
	}
	defer out.Close()
	args := slices.Concat([]string{
		"--bind", "127.0.0.1", "--port", strconv.Itoa(s.port), "--dir", s.dir, "--save", "",
		"--repl-diskless-sync-delay", "0",
	}, s.args)
	if len(s.args) > 0 && s.args[0] == sentinel {
		args = []string{s.args[1], sentinel, "--bind", "127.0.0.1", "--port", strconv.Itoa(s.port)}
	}
	s.run = exec.Command("redis-server", args...)
	s.run.Env = append(os.Environ(), s.env...)
	s.run.Stdout, s.run.Stderr, s.run.SysProcAttr = out, out, dieWithParent()
	if err := s.run.Start(); err != nil {
		s.Fatal(err)
	}
	run, ended := s.run, make(chan struct{})
	s.ended = ended
	go func() { _ = run.Wait(); close(ended) }()
	answers := false
	waitFor(s, "an answer of redis-server", func() bool {
		select {
		case <-ended:
			return true
		default:
		}
		conn, err := net.Dial("tcp", s.addr())
		if err != nil {
			return false
		}
		_ = conn.Close()
		c := redis.NewClient(&redis.Options{Addr: s.addr()})
		defer c.Close()
		err = c.Ping(s.Context()).Err()
		answers = err == nil || redis.HasErrorPrefix(err, "NOAUTH")
		return answers
	})
	return answers
}

func (s *server) signal(sig syscall.Signal) {
	s.Helper()
	if err := s.run.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.Errorf("%v: %v", sig, err)
	}
}

// kill returns when the server has ended, however it is.
func (s *server) kill() {
	if s.ended != nil {
		s.signal(syscall.SIGKILL)
		<-s.ended
	}
}

func (s *server) client() *redis.Client { return newClient(s.TB, s.addr()) }

func newClient(t testing.TB, addr string) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A cluster is three masters with a third of the keys each.
type cluster []*server

func startCluster(t testing.TB) cluster {
	t.Helper()
	return startClusterWith(t, [3][]string{})
}

func startClusterWith(t testing.TB, env [3][]string) cluster {
	t.Helper()
	const slots = 16384
	var nodes cluster
	for i := range 3 {
		bus := freePort(t)
		n := startServerWith(t, env[i], "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus),
			"--cluster-require-full-coverage", "no", "--cluster-node-timeout", "1000")
		nodes = append(nodes, n)
		must(t, n.client().Do(t.Context(), "cluster", "set-config-epoch", i+1).Err())
		must(t, n.client().ClusterAddSlotsRange(t.Context(), slots*i/3, slots*(i+1)/3-1).Err())
		must(t, nodes[0].client().Do(t.Context(), "cluster", "meet", "127.0.0.1", n.port, bus).Err())
	}
	for _, n := range nodes {
		waitFor(t, "a cluster of three", func() bool {
			info, err := n.client().ClusterInfo(t.Context()).Result()
			must(t, err)
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_slots_ok:16384") &&
				strings.Contains(info, "cluster_known_nodes:3")
		})
	}
	return nodes
}

func (c cluster) client(t testing.TB) *redis.ClusterClient {
	t.Helper()
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{c[0].addr(), c[1].addr(), c[2].addr()}})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// nodeOf returns the number of the node that has a key.
func (c cluster) nodeOf(t testing.TB, key string) int {
	t.Helper()
	slot, err := c[0].client().ClusterKeySlot(t.Context(), key).Result()
	must(t, err)
	for i := range c {
		if int(slot) < 16384*(i+1)/3 {
			return i
		}
	}
	panic("no such slot")
}

func waitFor(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 20 seconds for %s", what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// within is a context that ends after d.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// name returns a key or a tag for a number, as long as real ones.
func name(n int) string { return fmt.Sprintf("name-%038d", n) }

func inAnHour() time.Time { return time.Now().Add(time.Hour) }
