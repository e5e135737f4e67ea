package sqlstore

import (
	"context"
	"strings"
)

// PostgresSchema is what [Store.Migrate] creates in PostgreSQL, with the default prefix.
//
// The collation is that of bytes: the others are slower, and an upgrade of the operating system may change them, which
// breaks an index. Moving an expiry within its hour changes no indexed column, so that PostgreSQL leaves the indexes alone
// (a heap-only tuple); three of the largest rows fill three quarters of a page, and the rest is for the next one.
const PostgresSchema = `
CREATE TABLE IF NOT EXISTS oidcauth_sessions (
	key          text        COLLATE "C" PRIMARY KEY,
	data         bytea       NOT NULL,
	version      bigint      NOT NULL,
	expires      timestamptz NOT NULL,
	expires_hour timestamptz NOT NULL
		GENERATED ALWAYS AS (date_bin('1 hour', expires, timestamptz '2000-01-01 00:00:00Z')) STORED
) WITH (fillfactor = 75);

CREATE INDEX IF NOT EXISTS oidcauth_sessions_expires ON oidcauth_sessions (expires_hour);

CREATE TABLE IF NOT EXISTS oidcauth_session_tags (
	tag text COLLATE "C" NOT NULL,
	key text COLLATE "C" NOT NULL REFERENCES oidcauth_sessions ON DELETE CASCADE,
	PRIMARY KEY (tag, key)
);

CREATE INDEX IF NOT EXISTS oidcauth_session_tags_key ON oidcauth_session_tags (key);
`

// postgres returns statements of one round trip each. Two of them that meet lock the row of the session first, and no
// second one, so there are no deadlocks.
//
// Times: a read uses now(), which is taken before its snapshot: by a later one a value would be absent whose expiry
// someone has just moved. A write looks at the clock when it has the row's lock, for the value may have expired while it
// waited.
func postgres() statements {
	return statements{
		schema: PostgresSchema,
		present: `
			SELECT to_regclass('oidcauth_sessions') IS NOT NULL AND to_regclass('oidcauth_sessions_expires') IS NOT NULL
				AND to_regclass('oidcauth_session_tags') IS NOT NULL AND to_regclass('oidcauth_session_tags_key') IS NOT NULL`,
		get: `SELECT data, version FROM oidcauth_sessions WHERE key = $1 AND expires > now()`,
		insert: `
			WITH saved AS (
				INSERT INTO oidcauth_sessions AS s (key, data, version, expires)
				VALUES ($1, $2, $3, clock_timestamp() + $4::bigint * interval '1 microsecond')
				ON CONFLICT (key) DO UPDATE
				SET data = excluded.data, version = excluded.version, expires = excluded.expires
				WHERE s.expires <= clock_timestamp()
				RETURNING key
			), ` + tagSaved,
		update: `
			WITH held AS (
				SELECT key, expires FROM oidcauth_sessions WHERE key = $1 AND version = $6::bigint FOR NO KEY UPDATE
			), saved AS (
				UPDATE oidcauth_sessions AS s
				SET data = $2, version = $3, expires = clock_timestamp() + $4::bigint * interval '1 microsecond'
				FROM held WHERE s.key = held.key AND held.expires > clock_timestamp()
				RETURNING s.key
			), ` + tagSaved,
		delete: `DELETE FROM oidcauth_sessions WHERE key = $1`,
		deleteExpired: `
			DELETE FROM oidcauth_sessions WHERE key = ANY (ARRAY(
				SELECT key FROM oidcauth_sessions WHERE expires_hour <= now() AND expires <= now()
				LIMIT $1 FOR UPDATE SKIP LOCKED))`,
		tagged: `SELECT key FROM oidcauth_session_tags WHERE tag = $1`,
	}
}

// tagSaved leaves tags alone that are there already. One string holds them all, since drivers differ in how they pass
// arrays.
const tagSaved = `tagged AS (
				INSERT INTO oidcauth_session_tags (tag, key)
				SELECT tag, key FROM saved, unnest(string_to_array($5, ',')) AS tag
				ON CONFLICT DO NOTHING
			)
			SELECT 1 FROM saved`

func (s *Store) setPostgres(ctx context.Context, args []any, old int64, tags []string) (stored bool, err error) {
	query, args := s.statements.insert, append(args, strings.Join(tags, ","))
	if old != 0 {
		query, args = s.statements.update, append(args, old)
	}
	n, err := affected(s.db.ExecContext(ctx, query, args...))
	return n == 1, err
}

func (s *Store) migratePostgres(ctx context.Context) error {
	var present bool
	err := s.db.QueryRowContext(ctx, s.statements.present).Scan(&present)
	if err != nil || present {
		return err
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	// IF NOT EXISTS is not enough: of two that create a table at once, one gets an error. The number is of no meaning.
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(7093165523784519221)`); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, s.statements.schema); err != nil {
		return err
	}
	return tx.Commit()
}
