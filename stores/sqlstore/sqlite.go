package sqlstore

import (
	"context"
	"errors"
)

// SQLiteSchema is what [Store.Migrate] creates in SQLite, with the default prefix. expires is in milliseconds since 1970.
//
// A trigger deletes the tags, since a foreign key does so only on connections that have asked for it.
const SQLiteSchema = `
CREATE TABLE IF NOT EXISTS oidcauth_sessions (
	key     TEXT    NOT NULL PRIMARY KEY,
	data    BLOB    NOT NULL,
	version INTEGER NOT NULL,
	expires INTEGER NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS oidcauth_sessions_expires ON oidcauth_sessions (expires);

CREATE TABLE IF NOT EXISTS oidcauth_session_tags (
	tag TEXT NOT NULL,
	key TEXT NOT NULL,
	PRIMARY KEY (tag, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS oidcauth_session_tags_key ON oidcauth_session_tags (key);

CREATE TRIGGER IF NOT EXISTS oidcauth_sessions_delete AFTER DELETE ON oidcauth_sessions BEGIN
	DELETE FROM oidcauth_session_tags WHERE key = old.key;
END;
`

// sqliteNow is evaluated when a statement that writes has the lock, for a value may expire while it waits.
const sqliteNow = `CAST(round(unixepoch('subsec') * 1000) AS INTEGER)`

func sqlite() statements {
	return statements{
		schema: SQLiteSchema,
		present: `
			SELECT count(*) = 5 FROM sqlite_schema WHERE name IN ('oidcauth_sessions', 'oidcauth_sessions_expires',
				'oidcauth_session_tags', 'oidcauth_session_tags_key', 'oidcauth_sessions_delete')`,
		get: `SELECT data, version FROM oidcauth_sessions WHERE key = ? AND expires > ?`,
		insert: `
			INSERT INTO oidcauth_sessions (key, data, version, expires) VALUES (?, ?, ?, ` + sqliteNow + ` + ?)
			ON CONFLICT (key) DO UPDATE
			SET data = excluded.data, version = excluded.version, expires = excluded.expires
			WHERE oidcauth_sessions.expires <= ` + sqliteNow,
		update: `
			UPDATE oidcauth_sessions SET data = ?2, version = ?3, expires = ` + sqliteNow + ` + ?4
			WHERE key = ?1 AND version = ?5 AND expires > ` + sqliteNow,
		tag:    `INSERT OR IGNORE INTO oidcauth_session_tags (tag, key) VALUES (?, ?)`,
		delete: `DELETE FROM oidcauth_sessions WHERE key = ?`,
		deleteExpired: `
			DELETE FROM oidcauth_sessions WHERE rowid IN (
				SELECT rowid FROM oidcauth_sessions WHERE expires <= ` + sqliteNow + ` LIMIT ?)`,
		tagged: `SELECT key FROM oidcauth_session_tags WHERE tag = ?`,
	}
}

func (s *Store) setSQLite(ctx context.Context, args []any, old int64, tags []string) (stored bool, err error) {
	query := s.statements.insert
	if old != 0 {
		query, args = s.statements.update, append(args, old)
	}
	if len(tags) == 0 {
		n, err := affected(s.db.ExecContext(ctx, query, args...))
		return n == 1, err
	}
	// The first statement is one that writes, and so waits for the lock: a transaction that has read before is refused.
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	n, err := affected(tx.ExecContext(ctx, query, args...))
	if err != nil || n == 0 {
		return false, err
	}
	for _, tag := range tags {
		if _, err := tx.ExecContext(ctx, s.statements.tag, tag, args[0]); err != nil {
			return false, err
		}
	}
	return true, tx.Commit()
}

func (s *Store) migrateSQLite(ctx context.Context) error {
	var timeout int
	if err := s.db.QueryRowContext(ctx, `PRAGMA busy_timeout`).Scan(&timeout); err != nil {
		return err
	}
	if timeout == 0 {
		return errors.New("SQLite does not wait for others: add busy_timeout to the data source name, as the package says")
	}
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
	if _, err := tx.ExecContext(ctx, s.statements.schema); err != nil {
		return err
	}
	return tx.Commit()
}
