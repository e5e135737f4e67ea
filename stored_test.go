package oidcauth_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// A process is an application that keeps its sessions in a store, maybe with others, and whose calls of the store are
// counted and can be made to fail. Beside the pages of a [rig] it has /public, which asks nothing of the client, and
// /set?key=value, which saves a value of the session.
type process struct {
	*rig
	faults *oidcauthtest.FaultyStore
	shelf  *shelf
}

// newProcess returns a process with a provider and a store of its own.
func newProcess(t testing.TB, edit ...func(*oidcauth.Options)) *process {
	t.Helper()
	return newProcessAt(t, oidcauthtest.NewProvider(t), newShelf(), edit...)
}

// another returns one more process of the same application, after edit.
func (p *process) another(edit ...func(*oidcauth.Options)) *process {
	p.t.Helper()
	return newProcessAt(p.t, p.op, p.shelf, edit...)
}

func newProcessAt(t testing.TB, op *oidcauthtest.Provider, s *shelf, edit ...func(*oidcauth.Options)) *process {
	t.Helper()
	p := &process{faults: oidcauthtest.NewFaultyStore(t, s), shelf: s}
	in := func(o *oidcauth.Options) { o.Store = p.faults.Store() }
	p.rig = newRigAt(t, op, append([]func(*oidcauth.Options){in}, edit...)...)
	p.mux.HandleFunc("/public", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "for all") })
	p.mux.HandleFunc("/set", func(w http.ResponseWriter, r *http.Request) {
		if err := p.UpdateSession(w, r, setAll(r)); err != nil {
			p.Error(w, r, err)
		}
	})
	return p
}

// setAll edits a session as the query of r says.
func setAll(r *http.Request) func(*oidcauth.Session) error {
	return func(s *oidcauth.Session) error {
		for key, values := range r.URL.Query() {
			if err := s.SetValue(key, values[0]); err != nil {
				return err
			}
		}
		return nil
	}
}

// who is what the page / says of the user.
func (p *process) who(cookie string) string {
	p.t.Helper()
	return body(p.get("/", cookie))
}

// calls returns how the store was called while do ran, and in the background after it.
func (p *process) calls(do func()) oidcauthtest.StoreCalls {
	p.t.Helper()
	p.settle(p.t)
	before := p.faults.Calls()
	do()
	p.settle(p.t)
	now := p.faults.Calls()
	return oidcauthtest.StoreCalls{
		Gets: now.Gets - before.Gets, Sets: now.Sets - before.Sets,
		Deletes: now.Deletes - before.Deletes, Tagged: now.Tagged - before.Tagged,
	}
}

// A shelf is a store in memory that shows what was put there: who has stolen it, or can write to it, sees the same. It is
// safe for concurrent use.
type shelf struct {
	*oidcauth.MemoryStore

	mu    sync.Mutex
	items map[string]item
}

type item struct {
	data    []byte
	expires time.Time
	tags    []string
}

func newShelf() *shelf {
	return &shelf{MemoryStore: oidcauth.NewMemoryStore(0), items: map[string]item{}}
}

func (s *shelf) Set(
	ctx context.Context, key string, data []byte, expires time.Time, old int64, tags []string,
) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	version, err := s.MemoryStore.Set(ctx, key, data, expires, old, tags)
	if err == nil && version != 0 {
		s.items[key] = item{data, expires, tags}
	}
	return version, err
}

func (s *shelf) Delete(ctx context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.MemoryStore.Delete(ctx, key)
	if err == nil {
		delete(s.items, key)
	}
	return err
}

// everything returns what was put on the shelf and not taken away.
func (s *shelf) everything() map[string]item {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.items)
}

// all returns the sessions among it, which have tags. The rest is noted about them.
func (s *shelf) all() map[string]item {
	all := s.everything()
	maps.DeleteFunc(all, func(_ string, it item) bool { return len(it.tags) == 0 })
	return all
}

// only returns the one session there is.
func (s *shelf) only(t testing.TB) (key string, it item) {
	t.Helper()
	all := s.all()
	if len(all) != 1 {
		t.Fatalf("%d items are in the store, want one", len(all))
	}
	for key, it = range all {
		continue
	}
	return key, it
}

// lose makes the store forget what is noted beside the sessions, as it must not.
func (s *shelf) lose(t testing.TB) {
	t.Helper()
	for key, it := range s.everything() {
		if len(it.tags) > 0 {
			continue
		}
		if err := s.Delete(t.Context(), key); err != nil {
			t.Error(err)
		}
	}
}

// put replaces what is under key, as somebody who can write to the store.
func (s *shelf) put(t testing.TB, key string, it item) {
	t.Helper()
	_, version, _, err := s.Get(t.Context(), key)
	if err == nil {
		version, err = s.Set(t.Context(), key, it.data, it.expires, version, it.tags)
	}
	if err != nil || version == 0 {
		t.Fatalf("put: version %d, %v", version, err)
	}
}

// valueOf is what a cookie field has as the value of the session.
func valueOf(cookie string) string {
	_, v, _ := strings.Cut(cookie, "=")
	return v
}
