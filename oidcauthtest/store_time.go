package oidcauthtest

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// contexts calls f with contexts that have ended, and expects their error, at once.
func (t storeTest) contexts(method string, f func(ctx context.Context) error) {
	t.Helper()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	expired, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for _, ctx := range []context.Context{cancelled, expired} {
		began := time.Now()
		err := f(ctx)
		if !errors.Is(err, ctx.Err()) {
			t.Errorf("%s: %v, want an error that is %q", method, err, ctx.Err())
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s took %v to see that its context had ended", method, took)
		}
	}
}

func endedContext(t storeTest) {
	key, other := newKey(), newKey()
	version := t.set(key, "value", later(), 0)
	t.contexts("Get", func(ctx context.Context) error {
		data, _, ok, err := t.store.Get(ctx, key)
		if ok || len(data) > 0 {
			t.Errorf("Get returned data")
		}
		return err
	})
	t.contexts("Set", func(ctx context.Context) error {
		_, err := t.store.Set(ctx, other, []byte("other"), later(), 0, nil)
		return err
	})
	t.contexts("Delete", func(ctx context.Context) error { return t.store.Delete(ctx, newKey()) })
	t.holds(key, "value", version)
	t.set(key, "next", later(), version)
}

func endedContextOfTagged(t storeTest) {
	key, tag := newKey(), newKey()
	t.set(key, "value", later(), 0, tag)
	t.contexts("Tagged", func(ctx context.Context) error {
		_, err := t.index.Tagged(ctx, tag)
		return err
	})
	t.lists(tag, key)
}

// S06: by whatever clock the store keeps time, 2 seconds from now are 2 seconds.
func twoSeconds(t storeTest) {
	key := newKey()
	expiry := time.Now().Add(2 * time.Second)
	t.set(key, "lease", expiry, 0)
	t.expiresAt(key, expiry)
}

// S06: the first holder of a lease that expired gets nothing more with it.
func expiredIsAbsent(t storeTest) {
	key := newKey()
	expiry := time.Now().Add(shortly)
	first := t.set(key, "first", expiry, 0)
	t.expiresAt(key, expiry)
	t.refuses(key, first)
	t.isAbsent(key)
	second := t.set(key, "second", later(), 0)
	if second == first {
		t.Fatalf("version %d was returned before", first)
	}
	t.refuses(key, first)
	t.holds(key, "second", second)
	t.delete(key)
	t.isAbsent(key)
}

func expiryCanBeMoved(t storeTest) {
	extended, shortened, untouched := newKey(), newKey(), newKey()
	expiry := time.Now().Add(2 * time.Second)
	version := t.set(extended, "first", expiry, 0)
	kept := t.set(extended, "second", later(), version)
	version = t.set(shortened, "first", later(), 0)
	t.set(shortened, "second", expiry, version)
	version = t.set(untouched, "first", expiry, 0)
	t.refuses(untouched, 0) // for an hour
	t.refuses(untouched, version+1)

	t.expiresAt(shortened, expiry)
	t.expiresAt(untouched, expiry)
	time.Sleep(time.Until(expiry))
	for range 5 {
		t.set(newKey(), "", later(), 0) // which may clear away what has expired
	}
	t.holds(extended, "second", kept)
}

func expiryInThePast(t storeTest) {
	for _, ago := range []time.Duration{time.Hour, time.Second, time.Nanosecond, 0, -time.Nanosecond, -time.Microsecond} {
		key, expiry := newKey(), time.Now().Add(-ago)
		t.set(key, "past", expiry, 0)
		t.expiresAt(key, expiry)
		version := t.set(key, "value", later(), 0)
		expiry = time.Now().Add(-ago)
		t.set(key, "past", expiry, version) // replaces what was there
		t.expiresAt(key, expiry)
		t.refuses(key, version)
		t.set(key, "value", later(), 0)
		t.refuses(key, version)
	}
	key := newKey()
	t.set(key, "past", time.Time{}, 0) // which is a time like others
	t.isAbsent(key)
}

// expiryInAnyForm has times that say the same and look different, and one that is far away.
func expiryInAnyForm(t storeTest) {
	now := time.Now()
	expiry := now.Add(time.Hour)
	for _, expires := range []time.Time{
		expiry, expiry.UTC(), expiry.Round(0), expiry.Truncate(time.Second),
		expiry.In(time.FixedZone("", 14*3600)), expiry.In(time.FixedZone("", -12*3600)), now.AddDate(10, 0, 0),
	} {
		key := newKey()
		t.holds(key, "value", t.set(key, "value", expires, 0))
		t.delete(key) // or it stays for ten years
	}
	short := now.Add(shortly).Round(0).In(time.FixedZone("", -12*3600))
	key := newKey()
	t.set(key, "value", short, 0)
	t.expiresAt(key, short)
}

func oneWins(t storeTest) {
	key, version := newKey(), int64(0)
	for range 6 {
		var won [64]int64
		t.together(func(i int) (err error) {
			won[i], err = t.store.Set(t.Context(), key, fmt.Append(nil, i), later(), version, nil)
			return err
		})
		winners, winner := 0, 0
		for i, v := range won {
			if v != 0 {
				winners, winner = winners+1, i
			}
		}
		if winners != 1 {
			t.Fatalf("%d of 64 Sets with version %d succeeded, want 1", winners, version)
		}
		version = won[winner]
		t.holds(key, fmt.Sprint(winner), version)
	}
}

// lesson 24
func countingLosesNothing(t storeTest) {
	key := newKey()
	first := t.set(key, "\x00", later(), 0)
	versions := make(chan int64, 64)
	t.together(func(int) error {
		// A Set is refused because another succeeded since the Get, which happens to nobody 64 times.
		for range 64 {
			data, old, ok, err := t.store.Get(t.Context(), key)
			if err != nil || !ok {
				return fmt.Errorf("Get: %v, %w", ok, err)
			}
			version, err := t.store.Set(t.Context(), key, []byte{data[0] + 1}, later(), old, nil)
			if err != nil {
				return fmt.Errorf("Set: %w", err)
			}
			if version != 0 {
				versions <- version
				return nil
			}
		}
		return errors.New("a Set was refused although no other succeeded")
	})
	close(versions)
	data, last, _ := t.get(key)
	if data[0] != 64 {
		t.Errorf("64 counted to %d", data[0])
	}
	seen := map[int64]bool{first: true}
	for version := range versions {
		seen[version] = true
	}
	if len(seen) != 65 || !seen[last] {
		t.Errorf("65 Sets returned %d versions, the last being %d", len(seen), last)
	}
}

func deleteIsFinal(t storeTest) {
	key := newKey()
	first := t.set(key, "value", later(), 0)
	t.together(func(i int) error {
		if i == 0 {
			for range 5 { // while the others set
				if _, _, _, err := t.store.Get(t.Context(), key); err != nil {
					return fmt.Errorf("Get: %w", err)
				}
			}
			return t.store.Delete(t.Context(), key)
		}
		version := first
		for range 20 {
			next, err := t.store.Set(t.Context(), key, fmt.Append(nil, i), later(), version, nil)
			if err != nil {
				return fmt.Errorf("Set: %w", err)
			}
			if version = next; version == 0 {
				var ok bool
				if _, version, ok, err = t.store.Get(t.Context(), key); err != nil || !ok {
					return err
				}
			}
		}
		return nil
	})
	t.isAbsent(key)
	t.refuses(key, first)
}
