package sqlstore_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
	"github.com/oidcauth/oidcauth/stores/sqlstore"
)

// signedIn has a user sign in to an application that keeps its sessions in store, and returns words that nobody may find
// there. S11, THR-26
func signedIn(t *testing.T, store *sqlstore.Store) (secrets []string) {
	t.Helper()
	client, provider := oidcauthtest.NewClient(t, func(o *oidcauth.Options) { o.Store = store })
	user := oidcauthtest.User{Subject: "subject-of-alice", Claims: map[string]any{"email": "alice@example.org"}}
	mux := http.NewServeMux()
	mux.Handle("GET /", client.RequireAuth(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, err := client.AccessToken(w, r, nil)
		if err != nil {
			client.Error(w, r, err)
			return
		}
		secrets = append(secrets, token.AccessToken)
	})))
	browser := provider.NewBrowser(client.Wrap(mux))
	browser.SignIn(user)
	if r := browser.Get("/"); r.StatusCode != http.StatusOK {
		t.Fatalf("GET /: %d %s", r.StatusCode, r.Body)
	}
	for _, cookie := range browser.Cookies("/") {
		secrets = append(secrets, cookie.Value)
	}
	if len(secrets) < 2 {
		t.Fatalf("%d secrets, want a token and a cookie", len(secrets))
	}
	return append(secrets, user.Subject, "alice@example.org", provider.Issuer())
}

// isOpaque expects none of secrets in dump, as they are or in the usual disguises.
func isOpaque(t *testing.T, dump string, secrets []string) {
	t.Helper()
	if len(dump) < 1000 {
		t.Errorf("a dump of %d bytes", len(dump))
	}
	for _, secret := range secrets {
		for _, form := range []string{
			secret, hex.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret)),
		} {
			if strings.Contains(dump, form) {
				t.Errorf("the dump has %.60q in it, for %.20q", form, secret)
			}
		}
	}
}

func postgresDump(t *testing.T, pg *server) {
	store, db := pg.store(t)
	secrets := signedIn(t, store)
	lines := pg.run(t, "pg_dump", "--host="+pg.dir, "--username=test", "--inserts", "--data-only",
		one[string](t, db, `SELECT current_database()`))
	isOpaque(t, lines, secrets)
	if !strings.Contains(lines, "INSERT INTO public.oidcauth_sessions ") {
		t.Errorf("no session in the dump:\n%.2000s", lines)
	}
	set(t, store, newKey(), "subject-of-alice, unsealed", later(), 0)
	if dump := pg.run(t, "pg_dump", "--host="+pg.dir, "--username=test", "--data-only",
		one[string](t, db, `SELECT current_database()`)); !strings.Contains(dump, hex.EncodeToString([]byte("subject-of-alice"))) {
		t.Error("an unsealed value does not show in the dump")
	}
}

func TestSQLiteFileIsOpaque(t *testing.T) {
	t.Parallel()
	file := sqliteFile(t)
	store := newSQLite(t, openSQLite(t, file))
	secrets := signedIn(t, store)
	isOpaque(t, files(t, file), secrets)
	set(t, store, newKey(), "subject-of-alice, unsealed", later(), 0)
	if !strings.Contains(files(t, file), "subject-of-alice") {
		t.Error("an unsealed value does not show in the file")
	}
}

// files returns a database with its log.
func files(t *testing.T, file string) string {
	t.Helper()
	names, err := filepath.Glob(file + "*")
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(data)
	}
	return all.String()
}
