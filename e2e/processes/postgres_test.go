package processes

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/oidcauth/oidcauth/stores/sqlstore"
)

// A postgresServer is reached by a socket in its directory.
type postgresServer struct {
	bin, dir string
	attr     *syscall.SysProcAttr // initdb and postgres refuse to run as root
}

func startPostgres(t testing.TB) server {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if path, err := exec.LookPath("initdb"); err == nil {
		found = append(found, filepath.Dir(path))
	}
	if len(found) == 0 {
		missing(t, "PostgreSQL is not installed: apt-get install postgresql")
	}
	slices.Sort(found)
	dir, err := os.MkdirTemp("", "processes") // not in t.TempDir, into which only we can look
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &postgresServer{bin: found[len(found)-1], dir: dir, attr: &syscall.SysProcAttr{Setpgid: true}}
	if os.Geteuid() == 0 {
		s.becomeAnother(t)
	}
	s.run(t, "initdb", "--pgdata="+s.data(), "--auth=trust", "--username=test", "--encoding=UTF8", "--no-sync")
	settings := fmt.Sprintf("listen_addresses = ''\nunix_socket_directories = '%s'\nmax_connections = 300\n", dir)
	must(t, os.WriteFile(filepath.Join(s.data(), "postgresql.auto.conf"), []byte(settings), 0o644))
	s.start(t)
	db := s.open(t)
	defer db.Close()
	store, err := sqlstore.NewPostgres(db, sqlstore.Options{})
	must(t, err)
	must(t, store.Migrate(t.Context()))
	return s
}

// becomeAnother makes the server run as the user that Debian's package brings.
func (s *postgresServer) becomeAnother(t testing.TB) {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	must(t, err)
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	must(t, os.Chown(s.dir, uid, gid))
	s.attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (s *postgresServer) data() string { return filepath.Join(s.dir, "data") }

func (s *postgresServer) backend() (kind, target string) {
	return "postgres", fmt.Sprintf("host=%s user=test dbname=postgres", s.dir)
}

func (s *postgresServer) open(t testing.TB) *sql.DB {
	t.Helper()
	_, target := s.backend()
	db, err := sql.Open("pgx", target)
	must(t, err)
	return db
}

func (s *postgresServer) run(t testing.TB, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.Dir, cmd.SysProcAttr = s.dir, s.attr
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// start has a shell end the server, and delete its files, when we are gone, however that happens: its input ends
// then.
func (s *postgresServer) start(t testing.TB) {
	t.Helper()
	const watch = `"$1/postgres" -D "$2/data" 2>>"$2/log" & read -r end; kill -QUIT $!; wait; [ "$end" ] || rm -rf "$2"`
	cmd := exec.Command("/bin/sh", "-c", watch, "sh", s.bin, s.dir)
	cmd.Dir, cmd.SysProcAttr = s.dir, s.attr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_, _ = stdin.Write([]byte("end\n"))
		_ = cmd.Wait()
	})
	db := s.open(t)
	defer db.Close()
	within(t, patience, "PostgreSQL answers", func() bool { return db.PingContext(t.Context()) == nil })
}

func (s *postgresServer) kill(t testing.TB) {
	t.Helper()
	s.run(t, "pg_ctl", "stop", "--pgdata="+s.data(), "--mode=immediate")
}
