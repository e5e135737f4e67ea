package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

func TestStore(t *testing.T) {
	oidcauthtest.TestSessionStore(t, func(t *testing.T) oidcauth.SessionStore {
		return &FileStore{Dir: t.TempDir()}
	})
}

func TestSessionsOutliveTheProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	version, err := (&FileStore{Dir: dir}).Set(t.Context(), "key", []byte("data"), time.Now().Add(time.Hour), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	data, current, ok, err := (&FileStore{Dir: dir}).Get(t.Context(), "key")
	if string(data) != "data" || current != version || !ok || err != nil {
		t.Errorf("%q with version %d, %v, %v", data, current, ok, err)
	}
}

// lesson 23: it is an outage, and logs nobody out.
func TestAFileThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	s := &FileStore{Dir: t.TempDir()}
	if err := os.WriteFile(s.path("key"), []byte("half of"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, ok, err := s.Get(t.Context(), "key"); ok || err == nil {
		t.Errorf("half a file: %v, %v", ok, err)
	}
	s.Dir = s.path("nowhere")
	if _, err := s.Set(t.Context(), "key", nil, time.Now().Add(time.Hour), 0, nil); err == nil {
		t.Error("without its directory it stores something")
	}
}

func TestTheApplicationUsesIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	client, provider := oidcauthtest.NewClient(t, func(o *oidcauth.Options) { o.Store = &FileStore{Dir: dir} })
	b := provider.NewBrowser(routes(client))
	b.SignIn(oidcauthtest.Alice)
	if page := b.Get("/"); page.StatusCode != 200 {
		t.Errorf("signed in: %d %s", page.StatusCode, page.Body)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 { // the session, and for some minutes the word that the login's code is redeemed
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, f := range files {
		if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
			t.Fatal(err)
		}
	}
	if answer := b.Fetch("/"); answer.StatusCode != 401 {
		t.Errorf("without the files: %d %s", answer.StatusCode, answer.Body)
	}
}
