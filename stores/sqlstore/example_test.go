package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite"

	"github.com/oidcauth/oidcauth/stores/sqlstore"
)

func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	name := "file:" + filepath.Join(dir, "sessions.db") + "?_pragma=journal_mode(WAL)&_pragma=busy_timeout(100)"
	db, err := sql.Open("sqlite", name) // import _ "modernc.org/sqlite"
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(8)

	store, err := sqlstore.NewSQLite(db, sqlstore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	if err := store.Migrate(ctx); err != nil {
		log.Fatal(err)
	}

	// The rest is what oidcauth does with it.
	version, err := store.Set(ctx, "key", []byte("sealed"), time.Now().Add(time.Hour), 0, []string{"tag"})
	if err != nil {
		log.Fatal(err)
	}
	data, current, ok, err := store.Get(ctx, "key")
	fmt.Printf("%s %v %v %v\n", data, current == version, ok, err)
	keys, err := store.Tagged(ctx, "tag")
	fmt.Println(keys, err)
	// Output:
	// sealed true true <nil>
	// [key] <nil>
}
