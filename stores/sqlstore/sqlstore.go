// Package sqlstore keeps sessions in PostgreSQL or SQLite, through database/sql and whichever driver the application
// uses. A [Store] is what oidcauth.Options.Store takes.
//
//	db, err := sql.Open("pgx", os.Getenv("DATABASE_URL")) // import _ "github.com/jackc/pgx/v5/stdlib"
//	…
//	store, err := sqlstore.NewPostgres(db, sqlstore.Options{})
//	…
//	if err := store.Migrate(ctx); err != nil { … }
//	client, err := oidcauth.New(oidcauth.Options{Store: store, …})
//
// # Tables
//
// There are two, [PostgresSchema] or [SQLiteSchema]: sessions, and the tags by which they are found. [Store.Migrate]
// creates them; those who have a tool for that give it the constant. What is in them is sealed, and the keys and tags are
// hashes: a dump shows how many sessions there are and when they end, and nothing else.
//
// What has expired is never returned, but stays until [Store.DeleteExpired] is called, which the application does about
// once an hour:
//
//	go func() {
//		for range time.Tick(time.Hour) {
//			if _, err := store.DeleteExpired(ctx); err != nil {
//				slog.Warn("delete expired sessions", "error", err)
//			}
//		}
//	}()
//
// Every process may do so, at the same time too. A Store starts no goroutine and needs no Close; the *sql.DB remains the
// application's.
//
// # PostgreSQL
//
// PostgreSQL 14 or later, and the primary: a replica lags, and a session that was logged out would live on there
// (with several hosts in the connection string, target_session_attrs=read-write). Get and Set are a round trip each.
// Time is the server's.
//
// What Set returned for survives a crash as long as synchronous_commit is on, its default. With off the last half second
// may be lost: a logout is undone, a new refresh token is forgotten and the user has to sign in again. The same goes for a
// failover to a replica that is not synchronous. An UNLOGGED table is emptied by a crash.
//
// Statements are not prepared here; pgx does it by itself. Behind PgBouncer in transaction mode, before its version 1.21
// or without max_prepared_statements, that must be turned off with default_query_exec_mode=exec in the connection
// string.
//
// Most writes only move an expiry. They touch no index, and the room that fillfactor leaves in each page is where the new
// row goes, so that the table stays small with autovacuum's defaults; a table with millions of sessions is better off
// with autovacuum_vacuum_scale_factor = 0.02.
//
// # SQLite
//
// SQLite 3.42 or later, for processes on one machine, and the file on a local disk. The data source name needs two
// settings, here as modernc.org/sqlite spells them:
//
//	sql.Open("sqlite", "file:sessions.db?_pragma=journal_mode(WAL)&_pragma=busy_timeout(100)")
//
// With write-ahead logging readers do not wait for writers. SQLite has one writer at a time: a Store lets its own take
// turns and waits up to five seconds for those of others. While SQLite waits it cannot be interrupted, so a
// busy_timeout of 100 ms lets a context end a call within that time. A database in memory exists once per connection
// and needs SetMaxOpenConns(1). Leave synchronous at FULL: with NORMAL a power failure may undo what was acknowledged.
package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Options are all optional.
type Options struct {
	// Prefix begins the names of the tables and their indexes, "oidcauth_" if empty. It has small letters, digits and
	// underscores, at most 32, and begins with no digit. Clients may share tables: their keys differ.
	Prefix string
}

// A Store keeps values in a database. It is an oidcauth.SessionStore and an oidcauth.SessionIndex.
// It is safe for concurrent use, also by several processes.
//
// Errors wrap those of the driver, and that of the context if it has ended. They contain no keys, tags or data.
// After an error other than a refused connection it is not known whether a Set or Delete took place.
type Store struct {
	db         *sql.DB
	statements statements
	sqlite     bool
	turn       chan struct{} // for SQLite's one writer; holds an element while someone writes
}

// NewPostgres returns a Store in PostgreSQL. It does not connect.
func NewPostgres(db *sql.DB, o Options) (*Store, error) {
	return newStore(db, o, &Store{statements: postgres()})
}

// NewSQLite returns a Store in SQLite. It does not open the file.
func NewSQLite(db *sql.DB, o Options) (*Store, error) {
	return newStore(db, o, &Store{statements: sqlite(), sqlite: true, turn: make(chan struct{}, 1)})
}

const defaultPrefix = "oidcauth_"

func newStore(db *sql.DB, o Options, s *Store) (*Store, error) {
	if db == nil {
		return nil, errors.New("sqlstore: db is nil: pass what sql.Open returned")
	}
	if o.Prefix != "" {
		if !isPrefix(o.Prefix) {
			return nil, errors.New("sqlstore: Options.Prefix: use at most 32 of a-z, 0-9 and _, and no digit at the beginning")
		}
		s.statements.rename(o.Prefix)
	}
	s.db = db
	return s, nil
}

// isPrefix keeps everything out of the statements that an identifier without quotes cannot have.
func isPrefix(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyz_"
	return len(s) <= 32 && strings.ContainsAny(s[:1], letters) && strings.Trim(s, letters+"0123456789") == ""
}

// Statements are those of one database. Their parameters come in the order of Set: key, data, version, how long the
// value lives, and what only some of them have.
type statements struct {
	present, schema       string
	get, insert, update   string
	tag                   string // if the tags need a statement of their own
	delete, deleteExpired string
	tagged                string
}

func (s *statements) rename(prefix string) {
	for _, text := range []*string{
		&s.present, &s.schema, &s.get, &s.insert, &s.update, &s.tag, &s.delete, &s.deleteExpired, &s.tagged,
	} {
		*text = strings.ReplaceAll(*text, defaultPrefix, prefix)
	}
}

// Get returns the value at key and its version. ok is false if there is none, or if it has expired.
func (s *Store) Get(ctx context.Context, key string) (data []byte, version int64, ok bool, err error) {
	err = s.retry(ctx, "get", func() error {
		args := []any{key}
		if s.sqlite {
			// A time from before the statement's snapshot: by SQLite's own, from after it, a value would be absent
			// whose expiry someone has just moved.
			args = append(args, time.Now().UnixMilli())
		}
		return s.db.QueryRowContext(ctx, s.statements.get, args...).Scan(&data, &version)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, 0, false, nil
	}
	if err != nil {
		return nil, 0, false, err
	}
	return data, version, true, nil
}

// Set stores data under key until expires, with tags, if the version there is old; 0 means that key has to be absent. It
// returns the new version, or 0 if old was not current. Tags of earlier Sets remain until the key goes.
func (s *Store) Set(
	ctx context.Context, key string, data []byte, expires time.Time, old int64, tags []string,
) (version int64, err error) {
	if data == nil {
		data = []byte{} // nil would be NULL
	}
	version = newVersion()
	var stored bool
	err = s.write(ctx, "set", func() (err error) {
		args := []any{key, data, version, s.life(expires)}
		if s.sqlite {
			stored, err = s.setSQLite(ctx, args, old, tags)
		} else {
			stored, err = s.setPostgres(ctx, args, old, tags)
		}
		return err
	})
	if err != nil || !stored {
		return 0, err
	}
	return version, nil
}

// newVersion is one of 2⁶³, not a counter's: a counter that is restored from a backup, or lags on a replica that becomes
// the primary, gives out again what somebody may still hold.
func newVersion() int64 {
	for {
		var b [8]byte
		rand.Read(b[:]) // never fails
		if version := int64(binary.NativeEndian.Uint64(b[:]) >> 1); version != 0 {
			return version
		}
	}
}

// life is how long a value lives from now, in the unit of the database, which adds it to its own now. Both that and the
// division round down: with two units more no value expires early.
func (s *Store) life(expires time.Time) int64 {
	if s.sqlite {
		return time.Until(expires).Milliseconds() + 2
	}
	return time.Until(expires).Microseconds() + 2
}

// Delete removes key and its tags. An absent key is not an error.
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.write(ctx, "delete", func() error {
		_, err := s.db.ExecContext(ctx, s.statements.delete, key)
		return err
	})
}

// Tagged returns the keys under tag, in no order. Some may have expired.
func (s *Store) Tagged(ctx context.Context, tag string) (keys []string, err error) {
	err = s.retry(ctx, "tagged", func() error {
		keys = nil
		rows, err := s.db.QueryContext(ctx, s.statements.tagged, tag)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var key string
			if err := rows.Scan(&key); err != nil {
				return err
			}
			keys = append(keys, key)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, err
	}
	return keys, nil
}

// batch is small enough to take a few milliseconds, which is how long others wait.
const batch = 500

// DeleteExpired deletes what has expired, and returns how many values that were, also with an error. It does so in
// small steps, between which others write.
func (s *Store) DeleteExpired(ctx context.Context) (deleted int64, err error) {
	for {
		var n int64
		var took time.Duration
		err := s.write(ctx, "delete expired", func() (err error) {
			began := time.Now()
			n, err = affected(s.db.ExecContext(ctx, s.statements.deleteExpired, batch))
			took = time.Since(began)
			return err
		})
		deleted += n
		if err != nil || n < batch {
			return deleted, err
		}
		if s.sqlite {
			// SQLite has no queue: other processes look now and then whether the file is free, so let them find it so.
			wait(ctx, took)
		}
	}
}

// Migrate creates the tables that are not there. It changes nothing that is there, needs no rights if there is nothing to
// do, and may be called by many processes at once.
func (s *Store) Migrate(ctx context.Context) error {
	return s.write(ctx, "migrate", func() error {
		if s.sqlite {
			return s.migrateSQLite(ctx)
		}
		return s.migratePostgres(ctx)
	})
}

func affected(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// write calls f as retry does; in SQLite, when it is its turn.
func (s *Store) write(ctx context.Context, doing string, f func() error) error {
	if s.turn != nil {
		select {
		case s.turn <- struct{}{}:
			defer func() { <-s.turn }()
		case <-ctx.Done():
			return fmt.Errorf("sqlstore: %s: %w", doing, ctx.Err())
		}
	}
	return s.retry(ctx, doing, f)
}

const (
	patience = 5 * time.Second // with a database that is locked
	pause    = 2 * time.Millisecond
)

// retry calls f, again if the database asked for that, and says what it was doing if that fails.
func (s *Store) retry(ctx context.Context, doing string, f func() error) error {
	for began := time.Now(); ; {
		err := f()
		if err == nil {
			return nil
		}
		if cause := ctx.Err(); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err) // some drivers only say that they were interrupted
		}
		if !tryAgain(err) || ctx.Err() != nil || time.Since(began) > patience {
			return fmt.Errorf("sqlstore: %s: %w", doing, err)
		}
		wait(ctx, pause)
	}
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// tryAgain tells if a transaction lost against another, as in PostgreSQL with default_transaction_isolation above read
// committed, if SQLite's file is locked, or if the pool's connection was closed before anything was sent, as pgx does when
// a query before was cancelled. Nothing has been done then.
func tryAgain(err error) bool {
	if errors.Is(err, driver.ErrBadConn) {
		return true
	}
	var state interface{ SQLState() string } // both pgx and lib/pq have it
	if errors.As(err, &state) {
		return state.SQLState() == "40001" || state.SQLState() == "40P01"
	}
	return strings.Contains(err.Error(), "database is locked") // SQLite's words, which every driver passes on
}
