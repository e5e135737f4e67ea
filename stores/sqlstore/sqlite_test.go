package sqlstore_test

import (
	"bufio"
	"bytes"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
	"github.com/oidcauth/oidcauth/stores/sqlstore"
)

func TestSQLiteIsASessionStore(t *testing.T) {
	t.Parallel()
	oidcauthtest.TestSessionStore(t, func(t *testing.T) oidcauth.SessionStore {
		// A file each: in one, checks that need two seconds would wait for those that write as much as they can.
		return newSQLite(t, openSQLite(t, sqliteFile(t)))
	})
}

func TestSQLiteInMemory(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", dsn(":memory:"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	store := newSQLite(t, db)
	key := newKey()
	set(t, store, key, "0", later(), 0, "tag")
	done := make(chan error)
	for range 8 {
		go func() { done <- count(t.Context(), store, key, 20) }()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	holds(t, store, key, "160")
	lists(t, store, "tag", key)
}

// process starts this test as another process, in a role.
func process(t *testing.T, role, file, key string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "SQLSTORE_TEST_ROLE="+role, "SQLSTORE_TEST_FILE="+file, "SQLSTORE_TEST_KEY="+key)
	return cmd
}

// lesson 24
func TestSQLiteProcessesAndPoolsLoseNothing(t *testing.T) {
	t.Parallel()
	file, key := sqliteFile(t), newKey()
	stores := []*sqlstore.Store{newSQLite(t, openSQLite(t, file)), newSQLite(t, openSQLite(t, file))}
	set(t, stores[0], key, "0", later(), 0)
	done := make(chan error)
	for range 2 {
		cmd := process(t, "count", file, key)
		go func() {
			out, err := cmd.CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
			done <- err
		}()
	}
	for i := range 4 {
		go func() { done <- count(t.Context(), stores[i%2], key, 100) }()
	}
	for range 6 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	holds(t, stores[0], key, "600")
	lists(t, stores[1], "tag", key)
}

func TestSQLiteKeepsWhatAKilledProcessHasWritten(t *testing.T) {
	t.Parallel()
	file := sqliteFile(t)
	for range 3 {
		cmd := process(t, "write", file, "")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		type written struct {
			key     string
			version int64
		}
		var acknowledged []written
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var w written
			if _, err := fmt.Sscan(lines.Text(), &w.key, &w.version); err == nil && len(w.key) == 43 {
				acknowledged = append(acknowledged, w)
			}
			if len(acknowledged) == 200 {
				cmd.Process.Kill() // what it has printed since then is read as well
			}
		}
		if err := cmd.Wait(); err == nil || len(acknowledged) < 200 {
			t.Fatalf("%d written, %v: %s", len(acknowledged), err, &stderr)
		}
		acknowledged = acknowledged[:len(acknowledged)-1] // the last line may be half of one
		db := openSQLite(t, file)
		store := newSQLite(t, db)
		tagged, err := store.Tagged(t.Context(), "tag")
		if err != nil {
			t.Fatal(err)
		}
		names := strings.Join(tagged, " ")
		for _, w := range acknowledged {
			data, version, ok, err := store.Get(t.Context(), w.key)
			if err != nil || !ok || string(data) != "value of "+w.key || version != w.version {
				t.Fatalf("Get of what was written: %q, %d, %v, %v", data, version, ok, err)
			}
			if !strings.Contains(names, w.key) {
				t.Fatal("the tag does not name what was written")
			}
		}
		if health := one[string](t, db, `PRAGMA integrity_check`); health != "ok" {
			t.Fatal(health)
		}
	}
}

// lockSQLite locks the file for all who write.
func lockSQLite(t *testing.T, file string) (release func()) {
	t.Helper()
	db := openSQLite(t, file)
	db.SetMaxOpenConns(1)
	exec1(t, db, `BEGIN IMMEDIATE`)
	return func() { exec1(t, db, `ROLLBACK`) }
}

// S36
func TestSQLiteLockedFile(t *testing.T) {
	t.Parallel()
	file := sqliteFile(t)
	db := openSQLite(t, file)
	store := newSQLite(t, db)
	key, tag := newKey(), newKey()
	set(t, store, key, "value", later(), 0, tag)
	release := lockSQLite(t, file)
	for name, call := range calls(store, key, tag) {
		if name == "get" || name == "tagged" { // readers need not wait
			if err := call(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		isPrompt(t, name, call)
	}
	began := time.Now()
	_, err := store.Set(t.Context(), newKey(), nil, later(), 0, nil)
	if took := time.Since(began); err == nil || took < 4*time.Second || took > 8*time.Second {
		t.Errorf("Set without a deadline: %v after %v, want an error after 5 s", err, took)
	}

	waits := make(chan error)
	for range 20 {
		go func() {
			_, err := store.Set(t.Context(), newKey(), nil, later(), 0, []string{tag})
			waits <- err
		}()
	}
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
		holds(t, store, key, "value")
		if n := db.Stats().InUse; n > 1 { // one waits for the file, 19 for their turn
			t.Fatalf("%d connections wait for the file, want the others free for readers", n)
		}
	}
	release()
	for range 20 {
		if err := <-waits; err != nil {
			t.Errorf("Set behind a lock: %v", err)
		}
	}
}

// A Set that waits for the file sees what time it is when it has it, also if it is SQLite that waits. S06
func TestSQLiteExpiresBehindALock(t *testing.T) {
	t.Parallel()
	for _, wait := range []string{"100", "5000"} {
		for _, renew := range []bool{true, false} {
			for _, tags := range [][]string{nil, {"tag"}} {
				t.Run(fmt.Sprintf("%s ms, renew %v, tags %q", wait, renew, tags), func(t *testing.T) {
					t.Parallel()
					file, key := sqliteFile(t), newKey()
					db, err := sql.Open("sqlite", strings.Replace(dsn(file), "busy_timeout(100)", "busy_timeout("+wait+")", 1))
					if err != nil {
						t.Fatal(err)
					}
					defer db.Close()
					store := newSQLite(t, db)
					expiry, old := time.Now().Add(time.Second), int64(0)
					version := set(t, store, key, "first", expiry, 0)
					if renew {
						old = version
					}
					release := lockSQLite(t, file)
					done := make(chan int64)
					go func() {
						version, err := store.Set(t.Context(), key, []byte("second"), later(), old, tags)
						if err != nil {
							t.Errorf("Set: %v", err)
						}
						done <- version
					}()
					within(t, 4*time.Second, "it has expired", func() bool {
						_, _, ok, err := store.Get(t.Context(), key) // for which nobody has to wait
						return err == nil && !ok
					})
					if time.Now().Before(expiry) {
						t.Error("it has expired early")
					}
					release()
					if stored := <-done != 0; stored == renew {
						t.Errorf("Set with old = %d of an expired value: stored is %v", old, stored)
					}
				})
			}
		}
	}
}

// S06
func TestSQLiteExpiresNotAMillisecondEarly(t *testing.T) {
	t.Parallel()
	store := newSQLite(t, openSQLite(t, sqliteFile(t)))
	for i := range 100 {
		key, expiry := newKey(), time.Now().Add(2*time.Millisecond+time.Duration(i)*10*time.Microsecond)
		set(t, store, key, "value", expiry, 0)
		for {
			_, _, ok, err := store.Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			if left := time.Until(expiry); !ok && left > 0 {
				t.Fatalf("a value is gone %v before it expires", left)
			}
			if !ok {
				break
			}
		}
	}
}

func TestSQLiteDeletesExpired(t *testing.T) {
	t.Parallel()
	file := sqliteFile(t)
	db := openSQLite(t, file)
	store := newSQLite(t, db)
	for n, sign := range map[int]int{10_000: -1, 1000: 1} {
		expires := time.Now().Add(time.Duration(sign) * time.Minute).UnixMilli()
		for table, columns := range map[string]string{
			"oidcauth_sessions (key, data, version, expires)": fmt.Sprintf("'key' || %d || i, x'00', 1, %d", n, expires),
			"oidcauth_session_tags (tag, key)":                fmt.Sprintf("'tag', 'key' || %d || i", n),
		} {
			exec1(t, db, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
				INSERT INTO `+table+` SELECT `+columns+` FROM n`, n)
		}
	}
	deletesExpired(t, db, 10_000, store, newSQLite(t, openSQLite(t, file)))
}

func TestSQLiteReplacedIsKept(t *testing.T) {
	t.Parallel()
	file := sqliteFile(t)
	replacedIsKept(t, newSQLite(t, openSQLite(t, file)), newSQLite(t, openSQLite(t, file)))
}

func TestSQLiteNeedsABusyTimeout(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", "file:"+sqliteFile(t))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store, err := sqlstore.NewSQLite(db, sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "busy_timeout") {
		t.Errorf("Migrate: %v, want one that names busy_timeout", err)
	}
}

func TestSQLiteMigratesAtOnce(t *testing.T) {
	t.Parallel()
	for range 5 {
		file, done := sqliteFile(t), make(chan bool)
		for range 20 {
			db := openSQLite(t, file)
			go func() {
				defer func() { done <- true }()
				store, err := sqlstore.NewSQLite(db, sqlstore.Options{})
				if err == nil {
					err = store.Migrate(t.Context())
				}
				if err != nil {
					t.Errorf("Migrate: %v", err)
					return
				}
				set(t, store, newKey(), "value", later(), 0, "tag")
			}()
		}
		for range 20 {
			<-done
		}
		db := openSQLite(t, file)
		store := newSQLite(t, db)
		exec1(t, db, `DROP TRIGGER oidcauth_sessions_delete`)
		if err := store.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		n := one[int](t, db, `SELECT count(*) FROM oidcauth_session_tags`)
		exec1(t, db, `DELETE FROM oidcauth_sessions`)
		if left := one[int](t, db, `SELECT count(*) FROM oidcauth_session_tags`); n != 20 || left != 0 {
			t.Errorf("%d values, want 20, of which %d tags outlived a trigger that Migrate had to restore", n, left)
		}
	}
}
