package oidcauthtest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
)

// TestSessionStore tests what [oidcauth.SessionStore] says of a store, and what [oidcauth.SessionIndex] says of one
// that is an index too. It is for those who write stores:
//
//	var _ oidcauth.SessionIndex = (*Store)(nil) // if it is meant to be one
//
//	func TestStore(t *testing.T) {
//		oidcauthtest.TestSessionStore(t, func(t *testing.T) oidcauth.SessionStore { return open(t) })
//	}
//
// It calls open once for each of its subtests, from several at a time. What open returns may be the same store each
// time, and may hold anything: keys and tags are random. Nothing is cleaned up, but all that stays expires within the
// hour.
//
// The subtests wait for seconds to pass, by the clock of the caller. A server's clock may differ from it; a store whose
// server can be made to differ by an hour should be tested both ways as well.
//
// run, if given, runs the body of each subtest in place of a plain call. With [testing/synctest.Test] that is in a
// bubble, where no time is lost: for stores in the memory of the process.
func TestSessionStore(
	t *testing.T, open func(t *testing.T) oidcauth.SessionStore, run ...func(*testing.T, func(*testing.T)),
) {
	// Within a group, whose Run returns when all of it has: the caller may close the store then.
	t.Run("SessionStore", func(t *testing.T) {
		for _, check := range storeChecks() {
			t.Run(check.name, func(t *testing.T) {
				t.Parallel()
				body := func(t *testing.T) { check.on(t, open(t)) }
				for _, r := range run {
					inner := body
					body = func(t *testing.T) { r(t, inner) }
				}
				body(t)
			})
		}
	})
}

// A storeCheck is one subtest. Its testing.TB is a broken store's in our own tests.
type storeCheck struct {
	name string
	body func(storeTest)
	tags bool // only for an index
}

func (c storeCheck) on(tb testing.TB, store oidcauth.SessionStore) {
	index, ok := store.(oidcauth.SessionIndex)
	if c.tags && !ok {
		tb.Logf("%T is not a SessionIndex: what it does with tags is not tested", store)
		return
	}
	c.body(storeTest{tb, store, index})
}

func storeChecks() []storeCheck {
	return []storeCheck{
		{name: "an absent key", body: absentKey},
		{name: "values come back", body: valuesComeBack},
		{name: "values are copied", body: valuesAreCopied},
		{name: "keys are independent", body: keysAreIndependent},
		{name: "a Set needs the current version", body: setNeedsTheVersion},
		{name: "versions never repeat", body: versionsNeverRepeat},
		{name: "a deleted key stays deleted", body: deletedStaysDeleted},
		{name: "an ended context", body: endedContext},
		{name: "two seconds are two seconds", body: twoSeconds},
		{name: "an expired key is absent", body: expiredIsAbsent},
		{name: "an expiry can be moved", body: expiryCanBeMoved},
		{name: "an expiry in the past", body: expiryInThePast},
		{name: "an expiry in any form", body: expiryInAnyForm},
		{name: "one of 64 gets a version", body: oneWins},
		{name: "64 count and lose nothing", body: countingLosesNothing},
		{name: "a Delete among Sets is final", body: deleteIsFinal},
		{name: "tags name their keys", body: tagsNameTheirKeys, tags: true},
		{name: "tags of a later Set", body: tagsOfALaterSet, tags: true},
		{name: "tags of deleted keys", body: tagsOfDeletedKeys, tags: true},
		{name: "tags are independent", body: tagsAreIndependent, tags: true},
		{name: "tags are copied", body: tagsAreCopied, tags: true},
		{name: "a tag lives as long as its keys", body: tagsLiveLongEnough, tags: true},
		{name: "tags come before data", body: tagsComeBeforeData, tags: true},
		{name: "64 keys under one tag", body: manyUnderOneTag, tags: true},
		{name: "an ended context of Tagged", body: endedContextOfTagged, tags: true},
	}
}

// A storeTest is a subtest and its store. What its methods do has to work.
type storeTest struct {
	testing.TB
	store oidcauth.SessionStore
	index oidcauth.SessionIndex
}

const (
	shortly = 1100 * time.Millisecond // no whole number of seconds, which some stores count in
	// tooLate is long after an expiry. The contract sets no limit.
	tooLate = 3 * time.Second
)

func later() time.Time { return time.Now().Add(time.Hour) }

// newKey returns a new key or tag.
func newKey() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func (t storeTest) get(key string) (data []byte, version int64, ok bool) {
	t.Helper()
	data, version, ok, err := t.store.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	return data, version, ok
}

// trySet returns 0 if old is not the version.
func (t storeTest) trySet(key, data string, expires time.Time, old int64, tags ...string) (version int64) {
	t.Helper()
	version, err := t.store.Set(t.Context(), key, []byte(data), expires, old, tags)
	if err != nil {
		t.Fatalf("Set with version %d: %v", old, err)
	}
	return version
}

func (t storeTest) set(key, data string, expires time.Time, old int64, tags ...string) (version int64) {
	t.Helper()
	version = t.trySet(key, data, expires, old, tags...)
	if version == 0 || version == old {
		t.Fatalf("Set with the current version, %d, returned %d: want a new one", old, version)
	}
	return version
}

// refuses expects that old is not the version, and that a Set says so.
func (t storeTest) refuses(key string, old int64) {
	t.Helper()
	if version := t.trySet(key, "refused", later(), old); version != 0 {
		t.Fatalf("Set with version %d, which is not current, returned %d: want 0", old, version)
	}
}

func (t storeTest) delete(key string) {
	t.Helper()
	if err := t.store.Delete(t.Context(), key); err != nil {
		t.Fatalf("Delete: %v", err)
	}
}

func (t storeTest) holds(key, data string, version int64) {
	t.Helper()
	got, v, ok := t.get(key)
	if !ok || string(got) != data || v != version {
		t.Fatalf("Get: %.40q with version %d, %v; want %.40q with %d", got, v, ok, data, version)
	}
}

func (t storeTest) isAbsent(key string) {
	t.Helper()
	if data, version, ok := t.get(key); ok {
		t.Fatalf("Get: %.40q with version %d, want none", data, version)
	}
}

// expiresAt waits until key is absent, which has to be at expiry and never before.
func (t storeTest) expiresAt(key string, expiry time.Time) {
	t.Helper()
	for {
		asked := time.Now()
		_, _, ok := t.get(key)
		switch {
		case !ok && time.Now().Before(expiry):
			t.Fatalf("the value is gone %v before it expires", time.Until(expiry))
		case !ok:
			return
		case asked.After(expiry.Add(tooLate)):
			t.Fatalf("the value is there %v after it expired", time.Since(expiry))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// tagged returns what is under tag, each key once.
func (t storeTest) tagged(tag string) []string {
	t.Helper()
	keys, err := t.index.Tagged(t.Context(), tag)
	if err != nil {
		t.Fatalf("Tagged: %v", err)
	}
	keys = slices.Clone(keys)
	slices.Sort(keys)
	return slices.Compact(keys)
}

// lists expects keys under tag, and no others.
func (t storeTest) lists(tag string, keys ...string) {
	t.Helper()
	slices.Sort(keys)
	if got := t.tagged(tag); !slices.Equal(got, keys) {
		t.Fatalf("Tagged: %q, want %q", got, keys)
	}
}

// includes expects key under tag.
func (t storeTest) includes(tag, key string) {
	t.Helper()
	if got := t.tagged(tag); !slices.Contains(got, key) {
		t.Fatalf("Tagged: %q, want %q among them", got, key)
	}
}

// together calls f 64 times at once.
func (t storeTest) together(f func(i int) error) {
	t.Helper()
	var errs [64]error
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range errs {
		wg.Go(func() {
			<-start
			errs[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func absentKey(t storeTest) {
	key := newKey()
	t.isAbsent(key)
	t.delete(key)
	for _, old := range []int64{1, -1, 1 << 62} {
		t.refuses(key, old)
	}
	t.isAbsent(key)
	t.holds(key, "", t.set(key, "", later(), 0))
}

func valuesComeBack(t storeTest) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	large := make([]byte, 100_000)
	rand.Read(large)
	for _, data := range [][]byte{nil, {}, {0}, []byte(" \x00\n"), []byte("\xff\xfe"), []byte("123"), every, large} {
		key, other := newKey(), newKey()
		t.holds(key, string(data), t.set(key, string(data), later(), 0))
		version := t.set(other, "shorter or longer", later(), 0)
		t.holds(other, string(data), t.set(other, string(data), later(), version))
		as := newKey()
		version, err := t.store.Set(t.Context(), as, data, later(), 0, nil) // nil is nil here, and empty in set
		if err != nil {
			t.Fatalf("Set of %d bytes: %v", len(data), err)
		}
		t.holds(as, string(data), version)
	}
}

func valuesAreCopied(t storeTest) {
	key, data := newKey(), []byte("value")
	version, err := t.store.Set(t.Context(), key, data, later(), 0, nil)
	if err != nil {
		t.Fatalf("Set: %v", err)
	}
	copy(data, "XXXXX")
	t.holds(key, "value", version)
	got, _, _ := t.get(key)
	copy(got, "YYYYY")
	t.holds(key, "value", version)
	if _, again, _ := t.get(key); again != version {
		t.Fatalf("Get: version %d, want %d", again, version)
	}
}

func keysAreIndependent(t storeTest) {
	key := newKey()
	keys := []string{key, swapCase(key), key[:42] + "_", key[:42] + "-", key[:41] + "__", "_" + key[1:], newKey()}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	versions := map[string]int64{}
	for _, k := range keys {
		t.isAbsent(k)
		versions[k] = t.set(k, "value of "+k, later(), 0)
	}
	for i, k := range keys {
		for _, other := range keys[i:] {
			t.holds(other, "value of "+other, versions[other])
		}
		t.delete(k)
		t.isAbsent(k)
	}
}

func swapCase(s string) string {
	return string(bytes.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return r
	}, []byte(s)))
}

func setNeedsTheVersion(t storeTest) {
	key := newKey()
	first := t.set(key, "first", later(), 0)
	t.refuses(key, 0)
	t.refuses(key, first+1)
	t.refuses(key, -first)
	t.holds(key, "first", first)
	second := t.set(key, "second", later(), first)
	t.refuses(key, 0)
	t.refuses(key, first)
	t.holds(key, "second", second)
	t.holds(key, "second", t.set(key, "second", later(), second)) // equal data is a new version, too
	t.refuses(key, second)
}

// S06: a claim that was lost is not renewed by its first holder.
func versionsNeverRepeat(t storeTest) {
	key, version := newKey(), int64(0)
	var seen []int64
	for i := range 12 {
		if i%3 == 2 {
			t.delete(key)
			version = 0
		}
		version = t.set(key, fmt.Sprint(i), later(), version)
		if slices.Contains(seen, version) {
			t.Fatalf("version %d was returned before: %d", version, seen)
		}
		for _, stale := range seen {
			t.refuses(key, stale)
		}
		seen = append(seen, version)
		t.holds(key, fmt.Sprint(i), version)
	}
}

func deletedStaysDeleted(t storeTest) { // a roll does not bring back what a logout ended
	key := newKey()
	first := t.set(key, "first", later(), 0)
	second := t.set(key, "second", later(), first)
	for range 2 {
		t.delete(key)
		t.isAbsent(key)
		t.refuses(key, second)
		t.refuses(key, first)
		t.isAbsent(key)
	}
	third := t.set(key, "third", later(), 0)
	t.refuses(key, first)
	t.refuses(key, second)
	t.holds(key, "third", third)
}
