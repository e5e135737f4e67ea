package sqlstore_test

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth/stores/sqlstore"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if role := os.Getenv("SQLSTORE_TEST_ROLE"); role != "" {
		if err := act(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// Most tests wait: for seconds to pass, or for a server.
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := f.Value.Set("8"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// act is what a process does that a test has started.
func act(role string) error {
	db, err := sql.Open("sqlite", dsn(os.Getenv("SQLSTORE_TEST_FILE")))
	if err != nil {
		return err
	}
	defer db.Close()
	store, err := sqlstore.NewSQLite(db, sqlstore.Options{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	if role == "count" {
		return count(ctx, store, os.Getenv("SQLSTORE_TEST_KEY"), 100)
	}
	for { // until it is killed
		key := newKey()
		version, err := store.Set(ctx, key, []byte("value of "+key), later(), 0, []string{"tag"})
		if err != nil {
			return err
		}
		fmt.Println(key, version)
	}
}

// count adds 1 to the number at key, which has to be there, n times.
func count(ctx context.Context, store *sqlstore.Store, key string, n int) error {
	for n > 0 {
		data, old, ok, err := store.Get(ctx, key)
		if err != nil || !ok {
			return fmt.Errorf("get: %v, %w", ok, err)
		}
		number, err := strconv.Atoi(string(data))
		if err != nil {
			return err
		}
		version, err := store.Set(ctx, key, []byte(strconv.Itoa(number+1)), later(), old, []string{"tag"})
		if err != nil {
			return err
		}
		if version != 0 {
			n--
		}
	}
	return nil
}
