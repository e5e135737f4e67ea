package sqlstore_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth/stores/sqlstore"
)

func postgresTagsAreWrittenOnce(t *testing.T, pg *server) {
	store, db := pg.store(t)
	const rows = `SELECT string_agg(ctid || ' ' || xmin || ' ' || xmax, ',' ORDER BY tag) FROM oidcauth_session_tags`
	key, first, second := newKey(), newKey(), newKey()
	version := set(t, store, key, "value", later(), 0, first, second)
	before := one[string](t, db, rows)
	for range 3 {
		version = set(t, store, key, "value", later(), version, second, first)
	}
	if after := one[string](t, db, rows); after != before {
		t.Errorf("the rows of the tags were %s and are %s", before, after)
	}
	set(t, store, key, "value", later(), version, newKey())
	if after := one[string](t, db, rows); after == before {
		t.Error("a new tag was not seen")
	}
	if err := store.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if n := one[int](t, db, `SELECT count(*) FROM oidcauth_session_tags`); n != 0 {
		t.Errorf("%d tags of a deleted key are left", n)
	}
}

// postgresHeapOnly has values of 1.8 KB, of which four fit in a page: the schema leaves room for the new one.
func postgresHeapOnly(t *testing.T, pg *server) {
	store, db := pg.store(t)
	versions := map[string]int64{}
	value := strings.Repeat("v", 1800)
	for range 100 {
		key := newKey()
		versions[key] = set(t, store, key, value, later(), 0)
	}
	for key, version := range versions {
		set(t, store, key, value, later(), version)
	}
	const updates = `SELECT %s FROM pg_stat_user_tables WHERE relname = 'oidcauth_sessions'`
	within(t, 20*time.Second, "the server has counted the updates", func() bool {
		return one[int](t, db, fmt.Sprintf(updates, "n_tup_upd")) == 100
	})
	if n := one[int](t, db, fmt.Sprintf(updates, "n_tup_hot_upd")); n < 80 {
		t.Errorf("%d of 100 updates were heap-only", n)
	}
}

func postgresMigratesAtOnce(t *testing.T, pg *server) {
	for range 3 {
		database := pg.database(t)
		var wg sync.WaitGroup
		for range 20 {
			db := pg.open(t, database)
			db.SetMaxOpenConns(1)
			wg.Go(func() {
				defer db.Close()
				store, err := sqlstore.NewPostgres(db, sqlstore.Options{})
				if err == nil {
					err = store.Migrate(t.Context())
				}
				if err != nil {
					t.Errorf("Migrate: %v", err)
					return
				}
				key, tag := newKey(), newKey()
				set(t, store, key, "value", later(), 0, tag)
				lists(t, store, tag, key)
			})
		}
		wg.Wait()
		db := pg.open(t, database)
		store := newPostgres(t, db) // once more
		if n := one[int](t, db, `SELECT count(*) FROM oidcauth_sessions`); n != 20 {
			t.Errorf("%d of 20 values are there", n)
		}
		exec1(t, db, `DROP INDEX oidcauth_session_tags_key`)
		if err := store.Migrate(t.Context()); err != nil {
			t.Error(err)
		}
		n := one[int](t, db, `SELECT count(*) FROM pg_indexes WHERE tablename LIKE 'oidcauth%'`)
		if kept := one[int](t, db, `SELECT count(*) FROM oidcauth_sessions`); n != 4 || kept != 20 {
			t.Errorf("%d indexes and %d values after an index was dropped, want 4 and 20", n, kept)
		}
	}
}

func postgresMigrateWithoutRights(t *testing.T, pg *server) {
	_, db := pg.store(t)
	exec1(t, db, `CREATE ROLE app LOGIN`)
	exec1(t, db, `GRANT SELECT, INSERT, UPDATE, DELETE ON oidcauth_sessions, oidcauth_session_tags TO app`)
	store := newPostgres(t, pg.open(t, one[string](t, db, `SELECT current_database()`), "user=app"))
	key, tag := newKey(), newKey()
	version := set(t, store, key, "value", later(), 0, tag)
	set(t, store, key, "value", time.Now().Add(-time.Second), version, tag)
	set(t, store, newKey(), "value", time.Now().Add(-time.Second), 0, tag)
	lists := one[int](t, db, `SELECT count(*) FROM oidcauth_session_tags`)
	n, err := store.DeleteExpired(t.Context())
	if left := one[int](t, db, `SELECT count(*) FROM oidcauth_session_tags`); err != nil || n != 2 || lists != 2 || left != 0 {
		t.Errorf("DeleteExpired: %d, %v; of %d tags %d are left", n, err, lists, left)
	}
	if err := store.Delete(t.Context(), key); err != nil {
		t.Error(err)
	}
}

func postgresDeletesExpired(t *testing.T, pg *server) {
	store, db := pg.store(t)
	for n, expires := range map[int]string{50_000: "- interval '1 minute'", 1000: "+ interval '1 minute'"} {
		exec1(t, db, fmt.Sprintf(`WITH s AS (
				INSERT INTO oidcauth_sessions (key, data, version, expires)
				SELECT $1 || i, 'data', 1, now() %s FROM generate_series(1, $2) AS i RETURNING key
			) INSERT INTO oidcauth_session_tags (tag, key) SELECT 'tag', key FROM s`, expires), fmt.Sprint("key", n, "-"), n)
	}
	deletesExpired(t, db, 50_000, store, newPostgres(t, db))
}

func postgresReplacedIsKept(t *testing.T, pg *server) {
	store, db := pg.store(t)
	replacedIsKept(t, store, newPostgres(t, pg.open(t, one[string](t, db, `SELECT current_database()`))))
}
