package processes

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
)

// A server is a Redis or PostgreSQL of the test's own.
type server interface {
	backend() (kind, target string)
	kill(t testing.TB)  // as a crash would
	start(t testing.TB) // returns when it answers; what it had acknowledged is there again
}

// A redisServer keeps all that it has acknowledged.
type redisServer struct {
	dir, addr string
	cmd       *exec.Cmd
}

func startRedis(t testing.TB) server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		missing(t, "redis-server is not installed: apt-get install redis-server")
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	s := &redisServer{dir: t.TempDir(), addr: listener.Addr().String()}
	must(t, listener.Close())
	t.Cleanup(func() { s.kill(t) })
	s.start(t)
	return s
}

func (s *redisServer) backend() (kind, target string) { return "redis", s.addr }

func (s *redisServer) start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	defer log.Close()
	_, port, _ := net.SplitHostPort(s.addr)
	s.cmd = exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", s.dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction")
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.SysProcAttr = log, log, dieWithParent()
	must(t, s.cmd.Start())
	client := redis.NewClient(&redis.Options{Addr: s.addr})
	defer client.Close()
	within(t, patience, "Redis answers", func() bool { return client.Ping(t.Context()).Err() == nil })
}

func (s *redisServer) kill(t testing.TB) {
	t.Helper()
	if s.cmd != nil && s.cmd.Process.Signal(syscall.SIGKILL) == nil {
		_ = s.cmd.Wait() // which says that it was killed
	}
}

// missing fails a test where all has to be there, and skips it elsewhere.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}
