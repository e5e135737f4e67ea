package oidcauth_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

var _ oidcauth.SessionIndex = (*oidcauth.MemoryStore)(nil)

func TestMemoryStoreIsASessionStore(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func() oidcauth.SessionStore{
		"of the default size": func() oidcauth.SessionStore { return oidcauth.NewMemoryStore(0) },
		"the zero value":      func() oidcauth.SessionStore { return new(oidcauth.MemoryStore) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			oidcauthtest.TestSessionStore(t, func(*testing.T) oidcauth.SessionStore { return open() }, synctest.Test)
		})
	}
}

// A memory is a MemoryStore whose sessions are numbers.
type memory struct {
	testing.TB
	*oidcauth.MemoryStore
}

// nameOf has the length of real keys and tags.
func nameOf(kind string, n int) string {
	digits := strconv.Itoa(n)
	return kind + strings.Repeat("-", 43-len(kind)-len(digits)) + digits
}

func keyOf(n int) string { return nameOf("key", n) }

// tagsOf are those of a session: one of its own and one of its user, who has two.
func tagsOf(n int) []string { return []string{nameOf("sid", n), nameOf("sub", n/2)} }

// add returns whether there was room.
func (m memory) add(n int, lifetime time.Duration) bool {
	m.Helper()
	version, err := m.Set(m.Context(), keyOf(n), nil, time.Now().Add(lifetime), 0, tagsOf(n))
	if err == nil && version == 0 {
		m.Errorf("key %d is there", n)
	}
	return err == nil
}

func (m memory) has(n int) bool {
	m.Helper()
	_, _, ok, err := m.Get(m.Context(), keyOf(n))
	if err != nil {
		m.Errorf("Get: %v", err)
	}
	return ok
}

// note returns whether there was room for a value without tags: what is noted about a session, which the store keeps beside
// as many sessions as it is told to.
func (m memory) note(n int, lifetime time.Duration) bool {
	m.Helper()
	version, err := m.Set(m.Context(), keyOf(n), nil, time.Now().Add(lifetime), 0, nil)
	if err == nil && version == 0 {
		m.Errorf("key %d is there", n)
	}
	return err == nil
}

// What is there may change when there is no room for more.
func (m memory) change(n int, tags []string) {
	m.Helper()
	data, version, ok, err := m.Get(m.Context(), keyOf(n))
	if err == nil && ok {
		version, err = m.Set(m.Context(), keyOf(n), append(data, "more"...), time.Now().Add(time.Hour), version, tags)
	}
	if err != nil || version == 0 || !ok {
		m.Errorf("Set of key %d, which is there: %d, %v, %v", n, version, ok, err)
	}
}

func TestAFullMemoryStoreKeepsWhatLives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := memory{t, oidcauth.NewMemoryStore(3)}
		m.add(1, time.Hour)
		m.add(2, time.Minute)
		m.add(3, time.Hour)
		if m.add(4, time.Hour) {
			t.Error("a fourth session has room")
		}
		for n, want := range []bool{1: true, 2: true, 3: true, 4: false} {
			if got := m.has(n); got != want {
				t.Errorf("key %d: %v, want %v", n, got, want)
			}
		}
		m.change(3, tagsOf(3))
		time.Sleep(time.Minute)
		if !m.add(4, time.Hour) {
			t.Error("there is no room although a session expired")
		}
		if m.add(5, time.Hour) {
			t.Error("there is room for two although one expired")
		}
		if err := m.Delete(t.Context(), keyOf(1)); err != nil {
			t.Error(err)
		}
		if !m.add(5, time.Hour) {
			t.Error("there is no room although a session was deleted")
		}
		m.change(3, nil) // the word that it has ended, which is a session no more
		if !m.add(6, time.Hour) {
			t.Error("there is no room although a session became a note")
		}
	})
}

// Who is signed in can be refreshed and logged out when the store has no room for another session.
func TestAFullMemoryStoreHasRoomForNotes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := memory{t, oidcauth.NewMemoryStore(3)}
		for n := range 3 {
			m.add(n, time.Hour)
		}
		for n := 10; n < 13; n++ {
			if !m.note(n, time.Duration(n)*time.Minute) {
				t.Errorf("there is no room for note %d", n)
			}
		}
		if m.note(13, time.Hour) {
			t.Error("a fourth note has room")
		}
		m.change(12, nil)
		m.change(1, tagsOf(1))
		time.Sleep(10 * time.Minute)
		if m.add(3, time.Hour) {
			t.Error("a session has the room of a note that expired")
		}
		if !m.note(13, time.Hour) {
			t.Error("there is no room although a note expired")
		}
		if m.note(14, time.Hour) {
			t.Error("there is room for two although one expired")
		}
		for n, want := range map[int]bool{0: true, 1: true, 2: true, 3: false, 10: false, 11: true, 12: true, 13: true, 14: false} {
			if got := m.has(n); got != want {
				t.Errorf("key %d: %v, want %v", n, got, want)
			}
		}
	})
}

func TestAFullMemoryStoreSaysWhatToDo(t *testing.T) {
	t.Parallel()
	m := memory{t, oidcauth.NewMemoryStore(1)}
	m.add(1, time.Hour)
	_, err := m.Set(t.Context(), keyOf(2), nil, time.Now().Add(time.Hour), 0, tagsOf(2))
	if err == nil || !strings.Contains(err.Error(), "larger max") || strings.Contains(err.Error(), keyOf(2)) {
		t.Errorf("%v, want an error that says what to do, without the key", err)
	}
	if keys, _ := m.Tagged(t.Context(), tagsOf(2)[0]); len(keys) > 0 {
		t.Errorf("what was refused has tags: %q", keys)
	}
	m.note(3, time.Hour)
	_, err = m.Set(t.Context(), keyOf(4), nil, time.Now().Add(time.Hour), 0, nil)
	if err == nil || !strings.Contains(err.Error(), "larger max") {
		t.Errorf("a note too many: %v", err)
	}
	// A stale version is no reason to complain of room.
	if version, err := m.Set(t.Context(), keyOf(2), nil, time.Now().Add(time.Hour), 1, nil); version != 0 || err != nil {
		t.Errorf("Set of an absent key with a version: %d, %v", version, err)
	}
}

func TestMemoryStoresHaveAMax(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ max, room int }{{1, 1}, {100, 100}, {0, 100_000}, {-1, 100_000}} {
		m := memory{t, oidcauth.NewMemoryStore(tt.max)}
		room := 0
		for room <= tt.room && m.add(room, time.Hour) {
			room++
		}
		notes := 0
		for notes <= tt.room && m.note(1_000_000+notes, time.Hour) {
			notes++
		}
		if room != tt.room || notes != tt.room {
			t.Errorf("NewMemoryStore(%d) has room for %d sessions and %d notes, want %d of each", tt.max, room, notes, tt.room)
		}
	}
}

func TestAMemoryStoreFullOfWhatExpiredHasRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := memory{t, oidcauth.NewMemoryStore(1000)}
		for n := range 1000 {
			if lifetime := time.Minute + time.Duration(n*7919%1000)*time.Second; n%10 != 0 {
				m.add(n, lifetime)
			} else {
				m.add(n, time.Hour)
			}
		}
		time.Sleep(30 * time.Minute)
		room := 0
		for m.add(1000+room, time.Hour) {
			room++
		}
		if room != 900 {
			t.Errorf("room for %d values, want 900", room)
		}
		for n := range 1900 {
			if want := n >= 1000 || n%10 == 0; m.has(n) != want {
				t.Errorf("key %d: %v, want %v", n, !want, want)
			}
		}
	})
}

func TestWhatExpiredIsAbsentBeforeItIsClearedAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := memory{t, oidcauth.NewMemoryStore(0)}
		for n := range 100 {
			m.add(n, time.Second)
		}
		last, err := m.Set(t.Context(), keyOf(100), nil, time.Now().Add(2*time.Second), 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		version, err := m.Set(t.Context(), keyOf(100), nil, time.Now().Add(time.Hour), last, nil)
		if version != 0 || err != nil {
			t.Errorf("Set with the version of what expired: %d, %v; want 0", version, err)
		}
		if m.has(100) || !m.add(100, time.Hour) {
			t.Error("the key is not absent")
		}
		for n := 101; n < 200; n++ {
			m.add(n, time.Hour) // and clear the rest away
		}
		if !m.has(100) {
			t.Error("the new value went with the old one")
		}
	})
}

func TestMemoryStoresPrintNothing(t *testing.T) {
	t.Parallel()
	m := oidcauth.NewMemoryStore(0)
	_, err := m.Set(t.Context(), "the-key", []byte("the-data"), time.Now().Add(time.Hour), 0, []string{"the-tag"})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&b, format+"\n", m)
		fmt.Fprintf(&b, format+"\n", struct{ Store oidcauth.SessionStore }{m})
	}
	slog.New(slog.NewTextHandler(&b, nil)).Info("text", "store", m)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("json", "store", m)
	for _, secret := range []string{"the-", "7468652d", "116 104 101 45", "0x74, 0x68, 0x65"} {
		if strings.Contains(b.String(), secret) {
			t.Errorf("%q is in\n%s", secret, b.String())
		}
	}
	if !strings.HasPrefix(b.String(), "oidcauth.MemoryStore\n") {
		t.Errorf("%.100q", b.String())
	}
}

// Not parallel: it looks at the memory of the process.
func TestAMemoryStoreDoesNotGrowWithTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memory{t, oidcauth.NewMemoryStore(1000)}
		var before, after int64
		for n := range 300_000 { // a thousand at a time
			tags := append(tagsOf(n), nameOf("all", 0))
			if _, err := m.Set(t.Context(), keyOf(n), nil, time.Now().Add(time.Second), 0, tags); err != nil {
				t.Fatalf("%d: %v", n, err)
			}
			switch {
			case n%10 == 0:
				_ = m.Delete(t.Context(), keyOf(n))
			case n%1000 == 999:
				time.Sleep(time.Second)
			}
			switch n {
			case 20_000:
				before = heap()
			case 299_000:
				after = heap()
			}
		}
		if after > before+100_000 {
			t.Errorf("%d bytes on the heap after 20,000 values and %d after 299,000", before, after)
		}
		runtime.KeepAlive(m)
	})
}

// Not parallel: it looks at the memory of the process.
func TestAMemoryStoreLetsGoOfWhatExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memory{t, oidcauth.NewMemoryStore(0)}
		before := heap()
		for n := range 1000 {
			if _, err := m.Set(t.Context(), keyOf(n), make([]byte, 10_000), time.Now().Add(time.Second), 0, nil); err != nil {
				t.Fatal(err)
			}
		}
		full := heap()
		time.Sleep(time.Second)
		for n := range 400 { // far fewer than what they clear away
			m.add(1000+n, time.Hour)
		}
		if after := heap(); full < after+9_000_000 || after > before+1_000_000 {
			t.Errorf("%d bytes on the heap, %d with 1,000 values of 10,000 bytes, %d when they are gone", before, full, after)
		}
		runtime.KeepAlive(m)
	})
}

// At most 400 bytes, performance.md. Not parallel: it looks at the memory of the process.
func TestMemoryPerSession(t *testing.T) {
	const n = 100_000
	before := heap()
	m := memory{t, oidcauth.NewMemoryStore(n)}
	for i := range n {
		m.add(i, time.Hour)
	}
	const names = 3 * 43 // a key and two tags
	if got := (heap()-before)/n - names; got > 400 {
		t.Errorf("%d bytes for each session besides its data, key and tags, want at most 400", got)
	}
	runtime.KeepAlive(m)
}
