package sqlstore_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
	"github.com/oidcauth/oidcauth/stores/sqlstore"
)

func TestPostgres(t *testing.T) {
	t.Parallel()
	pg := startPostgres(t, "fsync=off")
	t.Run("server", func(t *testing.T) { // returns when all of them have
		for name, test := range map[string]func(*testing.T, *server){
			"is a session store":                    postgresIsASessionStore,
			"a call is a round trip":                postgresRoundTrips,
			"an expiry is the server's time":        postgresExpiry,
			"clocks 50 years apart":                 postgresClocks,
			"a value that expires behind a lock":    postgresExpiresBehindALock,
			"a locked table":                        postgresLockedTable,
			"tags are written once":                 postgresTagsAreWrittenOnce,
			"20 migrate at once":                    postgresMigratesAtOnce,
			"migrate without rights":                postgresMigrateWithoutRights,
			"50,000 expired values":                 postgresDeletesExpired,
			"what is locked is deleted another day": postgresSkipsLocked,
			"a dump":                                postgresDump,
			"a value replaced while it is deleted":  postgresReplacedIsKept,
			"prefixes": func(t *testing.T, pg *server) {
				prefixesAreApart(t, pg.open(t, pg.database(t)), sqlstore.NewPostgres)
			},
			"errors": postgresFailsDiscreetly,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, pg)
			})
		}
	})
}

// postgresIsASessionStore has the ways in which pgx may run a statement, and the isolation that an application may have
// chosen.
func postgresIsASessionStore(t *testing.T, pg *server) {
	for _, setting := range []string{
		"",
		"default_query_exec_mode=exec", // behind PgBouncer
		"default_query_exec_mode=simple_protocol",
		"default_transaction_isolation=serializable",
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			store, _ := pg.store(t, setting)
			oidcauthtest.TestSessionStore(t, func(*testing.T) oidcauth.SessionStore { return store })
		})
	}
}

// A countingConn counts what is sent: pgx sends all of a round trip at once.
type countingConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countingConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

func postgresRoundTrips(t *testing.T, pg *server) { // performance.md
	var writes atomic.Int64
	var dialer net.Dialer
	db := pg.openDial(t, pg.database(t), func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		return countingConn{conn, &writes}, err
	})
	db.SetMaxOpenConns(1)
	store := newPostgres(t, db)
	key, tag := newKey(), newKey()
	version := set(t, store, key, "value", later(), 0, tag)
	calls := map[string]func(){
		"Get":                 func() { holds(t, store, key, "value") },
		"Set":                 func() { version = set(t, store, key, "value", later(), version, tag) },
		"Set of a new key":    func() { set(t, store, newKey(), "value", later(), 0, tag, newKey()) },
		"Set that comes late": func() { set(t, store, key, "value", later(), version-1, tag) },
		"Delete":              func() { _ = store.Delete(t.Context(), newKey()) },
		"Tagged":              func() { _, _ = store.Tagged(t.Context(), tag) },
	}
	for name, call := range calls {
		call() // prepares
		writes.Store(0)
		call()
		if n := writes.Load(); n != 1 {
			t.Errorf("%s: %d round trips, want 1", name, n)
		}
	}
}

// S06
func postgresExpiry(t *testing.T, pg *server) {
	store, db := pg.store(t)
	const now, stored = `SELECT clock_timestamp()`, `SELECT expires FROM oidcauth_sessions WHERE key = $1`
	key, version := newKey(), int64(0)
	for _, life := range []time.Duration{time.Hour, 10 * time.Millisecond, 72 * time.Hour, -time.Minute, time.Nanosecond} {
		expires, before := time.Now().Add(life), one[time.Time](t, db, now)
		left := time.Until(expires)
		version = set(t, store, key, "value", expires, version)
		after := one[time.Time](t, db, now)
		got := one[time.Time](t, db, stored, key)
		took := left - time.Until(expires)
		if got.Before(before.Add(left-took)) || got.After(after.Add(left+2*time.Microsecond)) {
			t.Errorf("%v from %v to %v is %v", life, before, after, got)
		}
		if life <= 10*time.Millisecond {
			within(t, time.Second, "it has expired", func() bool { return one[time.Time](t, db, now).After(got) })
			version = 0
		}
	}
}

// postgresClocks has callers in the years 2000 and 2050: a bubble has its own clock, and the server is outside. S06
func postgresClocks(t *testing.T, pg *server) {
	database := pg.database(t)
	newPostgres(t, pg.open(t, database))
	const years = 365 * 24 * time.Hour
	for name, ahead := range map[string]time.Duration{"2000": 0, "2050": 50 * years} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(ahead)
				db := pg.open(t, database)
				store := newPostgres(t, db)
				key := newKey()
				const now, lease = `SELECT clock_timestamp()`, 500 * time.Millisecond
				before := one[time.Time](t, db, now)
				if off := time.Until(before).Abs(); off < 10*years {
					t.Fatalf("the clocks differ by %v only", off)
				}
				first := set(t, store, key, "lease", time.Now().Add(lease), 0)
				set(t, store, newKey(), "session", later(), 0)
				for {
					asked := one[time.Time](t, db, now)
					_, _, ok, err := store.Get(t.Context(), key)
					if err != nil {
						t.Fatal(err)
					}
					answered := one[time.Time](t, db, now)
					if !ok && answered.Before(before.Add(lease)) {
						t.Fatalf("the lease is gone after %v", answered.Sub(before))
					}
					if !ok {
						break
					}
					if asked.After(before.Add(lease + 2*time.Second)) {
						t.Fatalf("the lease is there after %v", asked.Sub(before))
					}
				}
				if set(t, store, key, "lease", time.Now().Add(lease), first) != 0 {
					t.Error("an expired lease was renewed")
				}
				n, err := store.DeleteExpired(t.Context())
				if n != 1 || err != nil {
					t.Errorf("DeleteExpired: %d, %v, want the lease alone", n, err)
				}
			})
		})
	}
}
