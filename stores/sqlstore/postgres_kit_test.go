package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/oidcauth/oidcauth/stores/sqlstore"
)

// A server is a PostgreSQL of a test's own, with new data, reached by a socket in a directory that nobody else can enter.
type server struct {
	bin, dir  string
	account   *syscall.SysProcAttr // initdb and postgres refuse to run as root
	databases atomic.Int64
}

// startPostgres starts a server with settings such as "fsync=off".
func startPostgres(t testing.TB, settings ...string) *server {
	t.Helper()
	bin := postgresBin()
	if bin == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("PostgreSQL is not installed")
		}
		t.Skip("PostgreSQL is not installed: apt-get install postgresql")
	}
	dir, err := os.MkdirTemp("", "sqlstore") // not in t.TempDir, into which only we can look
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &server{bin: bin, dir: dir, account: account(t, dir)}
	s.run(t, "initdb", "--pgdata="+s.data(), "--auth=trust", "--username=test", "--encoding=UTF8", "--no-sync")
	config := append(settings, "listen_addresses=", "unix_socket_directories="+dir, "max_connections=200", "shared_buffers=32MB")
	var text strings.Builder
	for _, setting := range config {
		name, value, _ := strings.Cut(setting, "=")
		fmt.Fprintf(&text, "%s = '%s'\n", name, value)
	}
	if err := os.WriteFile(filepath.Join(s.data(), "postgresql.auto.conf"), []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	return s
}

// postgresBin is where the newest version has its programs, on Debian or elsewhere.
func postgresBin() string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	newest, version := "", -1
	for _, path := range found {
		dir := filepath.Dir(path)
		if n, err := strconv.Atoi(filepath.Base(filepath.Dir(dir))); err == nil && n > version {
			newest, version = dir, n
		}
	}
	if path, err := exec.LookPath("initdb"); newest == "" && err == nil {
		newest = filepath.Dir(path)
	}
	return newest
}

// account is whom to run as, and gives dir to that user: ourselves, or for root the user that Debian's package brings.
func account(t testing.TB, dir string) *syscall.SysProcAttr {
	t.Helper()
	attr := &syscall.SysProcAttr{Setpgid: true} // an interrupt from the keyboard is not for the server
	if os.Geteuid() != 0 {
		return attr
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attr
}

func (s *server) data() string { return filepath.Join(s.dir, "data") }

func (s *server) run(t testing.TB, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.Dir, cmd.SysProcAttr = s.dir, s.account
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return string(out)
}

// start returns when the server answers. A shell ends it and deletes its files when we are gone, however that happens: its
// input ends then.
func (s *server) start(t testing.TB) {
	t.Helper()
	const watch = `"$1/postgres" -D "$2/data" 2>>"$2/log" & read -r end; kill -QUIT $!; wait; [ "$end" ] || rm -rf "$2"`
	cmd := exec.Command("/bin/sh", "-c", watch, "sh", s.bin, s.dir)
	cmd.Dir, cmd.SysProcAttr = s.dir, s.account
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Write([]byte("end\n"))
		cmd.Wait()
	})
	db := s.open(t, "postgres")
	within(t, 20*time.Second, "the server answers", func() bool { return db.PingContext(t.Context()) == nil })
}

// kill is what a crash of the server is for its clients and its data.
func (s *server) kill(t testing.TB) {
	t.Helper()
	s.run(t, "pg_ctl", "stop", "--pgdata="+s.data(), "--mode=immediate")
}

func (s *server) dsn(database string, settings ...string) string {
	return fmt.Sprintf("host=%s user=test dbname=%s %s", s.dir, database, strings.Join(settings, " "))
}

// open has as many connections as an application would allow.
func (s *server) open(t testing.TB, database string, settings ...string) *sql.DB {
	t.Helper()
	return s.openDial(t, database, nil, settings...)
}

// openDial connects with dial, if that is not nil.
func (s *server) openDial(
	t testing.TB, database string, dial func(context.Context, string, string) (net.Conn, error), settings ...string,
) *sql.DB {
	t.Helper()
	config, err := pgx.ParseConfig(s.dsn(database, settings...))
	if err != nil {
		t.Fatal(err)
	}
	if dial != nil {
		config.DialFunc = dial
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	t.Cleanup(func() { db.Close() })
	return db
}

// database makes a new one and returns its name.
func (s *server) database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", s.databases.Add(1))
	exec1(t, s.open(t, "postgres"), "CREATE DATABASE "+name)
	return name
}

// store is one in a new database.
func (s *server) store(t testing.TB, settings ...string) (*sqlstore.Store, *sql.DB) {
	t.Helper()
	db := s.open(t, s.database(t), settings...)
	return newPostgres(t, db), db
}

func newPostgres(t testing.TB, db *sql.DB) *sqlstore.Store {
	t.Helper()
	store, err := sqlstore.NewPostgres(db, sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return store
}
