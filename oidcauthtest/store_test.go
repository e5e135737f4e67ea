package oidcauthtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

func TestACorrectStorePasses(t *testing.T) {
	t.Parallel()
	shared := newMapStore("")
	for name, open := range map[string]func() oidcauth.SessionStore{
		"new each time":       func() oidcauth.SessionStore { return newMapStore("") },
		"no index":            func() oidcauth.SessionStore { return struct{ oidcauth.SessionStore }{newMapStore("")} },
		"clock an hour ahead": func() oidcauth.SessionStore { return newMapStore("").ahead(time.Hour) },
		"clock an hour late":  func() oidcauth.SessionStore { return newMapStore("").ahead(-time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			oidcauthtest.TestSessionStore(t, func(*testing.T) oidcauth.SessionStore { return open() }, synctest.Test)
		})
	}
	t.Run("one for all, in real time", func(t *testing.T) {
		oidcauthtest.TestSessionStore(t, func(*testing.T) oidcauth.SessionStore { return shared })
	})
}

// So that the caller can close what it opened.
func TestTheSuiteIsDoneWhenItReturns(t *testing.T) {
	t.Parallel()
	var opened, done atomic.Int32
	oidcauthtest.TestSessionStore(t, func(t *testing.T) oidcauth.SessionStore {
		opened.Add(1)
		t.Cleanup(func() { done.Add(1) })
		return newMapStore("")
	}, synctest.Test)
	if want := int32(len(oidcauthtest.StoreChecks())); opened.Load() != want || done.Load() != want {
		t.Errorf("%d subtests began and %d ended, want %d", opened.Load(), done.Load(), want)
	}
}

func TestABrokenStoreFails(t *testing.T) {
	t.Parallel()
	checks := oidcauthtest.StoreChecks()
	caughtBy := map[string]string{}
	for _, tt := range []struct{ bug, check string }{
		{"every Get fails", "an absent key"},
		{"Get of an absent key is an error", "an absent key"},
		{"Delete of an absent key is an error", "an absent key"},
		{"a refusal is an error", "an absent key"},
		{"a stale Set creates the key", "an absent key"},
		{"a version may be 0", "an absent key"},
		{"Get returns another version than Set", "an absent key"},
		{"an empty value is none", "values come back"},
		{"values end at a NUL", "values come back"},
		{"values are UTF-8", "values come back"},
		{"values have at most 64 KB", "values come back"},
		{"a shorter value leaves the end of a longer one", "values come back"},
		{"keeps the slice it was given", "values are copied"},
		{"returns the slice it keeps", "values are copied"},
		{"ignores case in keys", "keys are independent"},
		{"an underscore is a wildcard", "keys are independent"},
		{"ignores the old version", "a Set needs the current version"},
		{"0 replaces whatever is there", "a Set needs the current version"},
		{"equal data keeps the version", "a Set needs the current version"},
		{"a refused Set changes the data", "a Set needs the current version"},
		{"counts versions per key", "versions never repeat"},         // S06
		{"counts versions per key", "a deleted key stays deleted"},   // S06
		{"counts again after an expiry", "an expired key is absent"}, // S06
		{"a stale Set revives a deleted key", "a deleted key stays deleted"},
		{"a second Delete revives the key", "a deleted key stays deleted"},
		{"ignores the context", "an ended context"},
		{"ignores the context", "an ended context of Tagged"},
		{"sees late that the context ended", "an ended context"},
		{"hides the context's error", "an ended context"},
		{"calls everything a timeout", "an ended context"},
		{"never expires", "two seconds are two seconds"},
		{"expires a little early", "two seconds are two seconds"},
		{"expires on the second", "an expired key is absent"},
		{"reads times by a clock that is ahead", "two seconds are two seconds"}, // S06
		{"reads times by a clock that is late", "two seconds are two seconds"},  // S06
		{"an expired key counts as present", "an expired key is absent"},
		{"an expired version is current", "an expired key is absent"},
		{"keeps the first expiry", "an expiry can be moved"},
		{"moves an expiry only forward", "an expiry can be moved"},
		{"a refused Set moves the expiry", "an expiry can be moved"},
		{"an expiry in the past is an error", "an expiry in the past"},
		{"an expiry in the past is refused", "an expiry in the past"},
		{"an expiry in the past keeps what was there", "an expiry in the past"},
		{"less than a millisecond is for good", "an expiry in the past"},
		{"the zero time is for good", "an expiry in the past"},
		{"ignores the time zone", "an expiry in any form"},
		{"times end in 2010", "an expiry in any form"}, // a bubble begins in 2000
		{"looks and sets in two steps", "one of 64 gets a version"},
		{"looks and sets in two steps", "64 count and lose nothing"},
		{"looks and sets in two steps", "a Delete among Sets is final"},
		{"refuses at times for nothing", "64 count and lose nothing"},
		{"a tag names its last key only", "tags name their keys"},
		{"keeps the first tag only", "tags name their keys"},
		{"an unknown tag is an error", "tags name their keys"},
		{"lists every key", "tags name their keys"},
		{"a refused Set removes tags", "tags name their keys"},
		{"only the first Set of a key tags", "tags of a later Set"},
		{"a later Set loses tags", "tags of a later Set"},
		{"a tag less is a tag less for all", "tags of a later Set"},
		{"Delete removes whole tags", "tags of deleted keys"},
		{"a key once deleted gets no tags", "tags of deleted keys"},
		{"ignores case in tags", "tags are independent"},
		{"an underscore in a tag is a wildcard", "tags are independent"},
		{"keys and tags share names", "tags are independent"},
		{"returns the keys it keeps", "tags are copied"},
		{"keeps the tags it was given", "tags are copied"},
		{"a tag ends with its first key", "a tag lives as long as its keys"},
		{"a tag ends with its last key", "a tag lives as long as its keys"},
		{"a tag is not extended", "a tag lives as long as its keys"},
		{"tags after data", "tags come before data"},
		{"looks and tags in two steps", "64 keys under one tag"},
	} {
		t.Run(tt.bug+"/"+tt.check, func(t *testing.T) {
			check := checks[tt.check]
			if check == nil {
				t.Fatalf("there is no check %q", tt.check)
			}
			caughtBy[tt.check] = tt.bug
			synctest.Test(t, func(t *testing.T) {
				v := &verdict{TB: t}
				done := make(chan struct{})
				go func() {
					defer close(done)
					check(v, newMapStore(tt.bug))
				}()
				<-done
				if len(v.complaints) == 0 {
					t.Error("passes")
				}
				t.Log(strings.Join(v.complaints, "\n"))
			})
		})
	}
	for name := range checks {
		if caughtBy[name] == "" {
			t.Errorf("no broken store fails %q: can it fail?", name)
		}
	}
}

// A verdict is a testing.TB that may fail.
type verdict struct {
	testing.TB
	complaints []string
}

func (v *verdict) Errorf(format string, args ...any) {
	v.complaints = append(v.complaints, fmt.Sprintf(format, args...))
}

func (v *verdict) Fatalf(format string, args ...any) {
	v.Errorf(format, args...)
	runtime.Goexit()
}

func (v *verdict) Fatal(args ...any) { v.Fatalf("%s", fmt.Sprint(args...)) }

// A mapStore is a correct store without a bug, and a broken one with the bug of that name. It has a clock of its own.
type mapStore struct {
	bug  string
	fast time.Duration

	mu      sync.Mutex
	rows    map[string]mapRow
	deleted map[string]mapRow
	tags    map[string]*mapTag
	last    int64
}

type mapRow struct {
	data    []byte
	version int64
	expires time.Time // by the clock of the store
	tags    []string
}

// A mapTag keeps the keys that were ever under a tag, until the last of them expires.
type mapTag struct {
	keys    []string
	expires time.Time
}

func newMapStore(bug string) *mapStore {
	s := &mapStore{bug: bug, rows: map[string]mapRow{}, deleted: map[string]mapRow{}, tags: map[string]*mapTag{}}
	if s.has("reads times by a clock that is ahead") {
		return s.ahead(time.Hour)
	}
	if s.has("reads times by a clock that is late") {
		return s.ahead(-time.Hour)
	}
	return s
}

func (s *mapStore) ahead(by time.Duration) *mapStore {
	s.fast = by
	return s
}

func (s *mapStore) has(bug string) bool { return s.bug == bug }

func (s *mapStore) now() time.Time { return time.Now().Add(s.fast) }

func (s *mapStore) ended(ctx context.Context) error {
	err := ctx.Err()
	switch {
	case err == nil || s.has("ignores the context"):
		return nil
	case s.has("sees late that the context ended"):
		time.Sleep(10 * time.Second)
	case s.has("hides the context's error"):
		return errors.New("unavailable")
	case s.has("calls everything a timeout"):
		return context.DeadlineExceeded
	}
	return fmt.Errorf("map: %w", err)
}

func (s *mapStore) keyOf(key string) string {
	switch {
	case s.has("ignores case in keys"):
		return strings.ToLower(key)
	case s.has("an underscore is a wildcard"):
		return wildcard(key, maps.Keys(s.rows))
	}
	return key
}

func (s *mapStore) tagOf(tag string) string {
	switch {
	case s.has("ignores case in tags"):
		return strings.ToLower(tag)
	case s.has("an underscore in a tag is a wildcard"):
		return wildcard(tag, maps.Keys(s.tags))
	}
	return tag
}

// wildcard returns what SQL's LIKE would find among names.
func wildcard(pattern string, names func(func(string) bool)) string {
	for name := range names {
		same := len(name) == len(pattern)
		for i := range pattern {
			same = same && (pattern[i] == '_' || pattern[i] == name[i])
		}
		if same {
			return name
		}
	}
	return pattern
}

func (s *mapStore) Get(ctx context.Context, key string) (data []byte, version int64, ok bool, err error) {
	if err := s.ended(ctx); err != nil {
		return nil, 0, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	row, ok := s.live(s.keyOf(key))
	switch {
	case s.has("every Get fails") || !ok && s.has("Get of an absent key is an error"):
		return nil, 0, false, errors.New("not found")
	case !ok || len(row.data) == 0 && s.has("an empty value is none"):
		return nil, 0, false, nil
	case s.has("returns the slice it keeps"):
		return row.data, row.version, true, nil
	case s.has("Get returns another version than Set"):
		row.version++
	}
	return bytes.Clone(row.data), row.version, true, nil
}

func (s *mapStore) live(key string) (mapRow, bool) {
	row, ok := s.rows[key]
	if s.has("never expires") {
		return row, ok
	}
	return row, ok && row.expires.After(s.now())
}
