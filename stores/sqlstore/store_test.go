package sqlstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth/stores/sqlstore"
)

var constructors = map[string]func(*sql.DB, sqlstore.Options) (*sqlstore.Store, error){
	"NewPostgres": sqlstore.NewPostgres,
	"NewSQLite":   sqlstore.NewSQLite,
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	db := openSQLite(t, sqliteFile(t))
	for name, construct := range constructors {
		if _, err := construct(nil, sqlstore.Options{}); err == nil || !strings.Contains(err.Error(), "sql.Open") {
			t.Errorf("%s(nil): %v, want an error that names sql.Open", name, err)
		}
		for _, prefix := range []string{"", "a", "_", "app2_", strings.Repeat("x", 32)} {
			if _, err := construct(db, sqlstore.Options{Prefix: prefix}); err != nil {
				t.Errorf("%s with the prefix %q: %v", name, prefix, err)
			}
		}
		for _, prefix := range []string{
			"A", "2a", "a-b", "a.b", " ", "a ", `a"`, "a;", "x'", "a\x00", "a\n", "é", "a--", "%", strings.Repeat("x", 33),
		} {
			if _, err := construct(db, sqlstore.Options{Prefix: prefix}); err == nil || !strings.Contains(err.Error(), "Prefix") {
				t.Errorf("%s with the prefix %q: %v, want an error that names Prefix", name, prefix, err)
			}
		}
	}
}

func TestPrefixesAreApart(t *testing.T) {
	t.Parallel()
	db := openSQLite(t, sqliteFile(t))
	prefixesAreApart(t, db, sqlstore.NewSQLite)
	if n := one[int](t, db, `SELECT count(*) FROM sqlite_schema WHERE name LIKE '%oidcauth%'`); n != 0 {
		t.Errorf("%d names have the default prefix", n)
	}
}

func prefixesAreApart(
	t *testing.T, db *sql.DB, construct func(*sql.DB, sqlstore.Options) (*sqlstore.Store, error),
) {
	t.Helper()
	long := strings.Repeat("x", 32)
	var stores []*sqlstore.Store
	for _, prefix := range []string{"one_", "two_", long, long[:31]} {
		store, err := construct(db, sqlstore.Options{Prefix: prefix})
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Migrate(t.Context()); err != nil {
			t.Fatalf("Migrate with the prefix %q: %v", prefix, err)
		}
		stores = append(stores, store)
	}
	key, tag := newKey(), newKey()
	for i, store := range stores {
		isAbsent(t, store, key)
		lists(t, store, tag)
		version := set(t, store, key, "value", later(), 0, tag)
		set(t, store, key, "value", later(), version, tag)
		lists(t, store, tag, key)
		if i%2 == 1 {
			if err := store.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			lists(t, store, tag)
		}
		if n, err := store.DeleteExpired(t.Context()); n != 0 || err != nil {
			t.Errorf("DeleteExpired: %d, %v", n, err)
		}
	}
	holds(t, stores[0], key, "value")
}

// failsDiscreetly has all calls, some of which fail, with errors that say what was being done and not with what.
func failsDiscreetly(t *testing.T, why string, store *sqlstore.Store, failures int) {
	t.Helper()
	key, tag := newKey(), newKey()
	failed := 0
	for name, call := range calls(store, key, tag) {
		err := call(t.Context())
		if err == nil {
			continue
		}
		failed++
		if !strings.HasPrefix(err.Error(), "sqlstore: "+strings.TrimSpace(name)+": ") {
			t.Errorf("%s: %s: %v", why, name, err)
		}
		for _, secret := range []string{key, tag, "s3cr3t"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %s: the error contains %q: %v", why, name, secret, err)
			}
		}
	}
	if failed != failures {
		t.Errorf("%s: %d calls failed, want %d", why, failed, failures)
	}
}

func TestSQLiteFailsDiscreetly(t *testing.T) {
	t.Parallel()
	file := sqliteFile(t)
	db := openSQLite(t, file)
	store := newSQLite(t, db)
	readOnly, err := sql.Open("sqlite", dsn(file)+"&_pragma=query_only(1)")
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	failsDiscreetly(t, "read-only", newSQLite(t, readOnly), 4)
	exec1(t, db, `DROP TABLE oidcauth_session_tags`)
	exec1(t, db, `DROP TABLE oidcauth_sessions`)
	failsDiscreetly(t, "no table", store, 6)
	db.Close()
	failsDiscreetly(t, "closed", store, 6)
}

// An interrupted driver says so in its own words.
type interrupted struct{ driver.Connector }

func (interrupted) Connect(ctx context.Context) (driver.Conn, error) {
	<-ctx.Done()
	return nil, errors.New("interrupted")
}

func TestErrorsNameWhatEndedTheContext(t *testing.T) {
	t.Parallel()
	for name, construct := range constructors {
		db := sql.OpenDB(interrupted{})
		defer db.Close()
		store, err := construct(db, sqlstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for doing, call := range calls(store, newKey(), newKey()) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			err := call(ctx)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "interrupted") {
				t.Errorf("%s: %s: %v, want one that is a deadline exceeded, and the driver's", name, doing, err)
			}
		}
	}
}

func postgresFailsDiscreetly(t *testing.T, pg *server) {
	store, db := pg.store(t)
	database := one[string](t, db, `SELECT current_database()`)
	failsDiscreetly(t, "read-only", newPostgres(t, pg.open(t, database, "default_transaction_read_only=on")), 4)
	exec1(t, db, `ALTER TABLE oidcauth_sessions ADD CHECK (version = 0) NOT VALID`) // whose error has the row in its detail
	failsDiscreetly(t, "refused", store, 1)
	exec1(t, db, `DROP TABLE oidcauth_session_tags, oidcauth_sessions`)
	failsDiscreetly(t, "no table", store, 6)
	db.Close()
	failsDiscreetly(t, "closed", store, 6)
	failsDiscreetly(t, "no database", mustPostgres(t, pg.open(t, "elsewhere")), 6)
}

func mustPostgres(t *testing.T, db *sql.DB) *sqlstore.Store {
	t.Helper()
	store, err := sqlstore.NewPostgres(db, sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func TestImportsAreTheStandardLibrarys(t *testing.T) { // design.md 2
	t.Parallel()
	files, _ := filepath.Glob("*.go")
	seen := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			seen++
			if strings.Contains(spec.Path.Value, ".") {
				t.Errorf("%s imports %s", name, spec.Path.Value)
			}
		}
	}
	if seen < 5 {
		t.Errorf("%d imports were seen", seen)
	}
}

func TestTheREADMEHasTheSchemas(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, schema := range []string{sqlstore.PostgresSchema, sqlstore.SQLiteSchema} {
		if !strings.Contains(string(readme), strings.TrimSpace(schema)) {
			t.Errorf("the README has another schema than\n%s", schema)
		}
	}
}
