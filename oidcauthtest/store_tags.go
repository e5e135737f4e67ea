package oidcauthtest

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

func tagsNameTheirKeys(t storeTest) {
	user, device, nobody := newKey(), newKey(), newKey()
	a, b, c := newKey(), newKey(), newKey()
	t.lists(user)
	t.set(a, "a", later(), 0, user, device)
	t.lists(user, a)
	t.lists(device, a)
	t.set(b, "b", later(), 0, user)
	t.set(c, "c", later(), 0)
	t.lists(user, a, b) // lesson 32
	t.lists(device, a)
	t.lists(nobody)
	t.refuses(a, 0) // and leaves the tags alone
	t.lists(user, a, b)
	t.lists(device, a)
}

func tagsOfALaterSet(t storeTest) {
	key, other, first, second := newKey(), newKey(), newKey(), newKey()
	t.set(other, "other", later(), 0, first)
	version := t.set(key, "value", later(), 0, first)
	for range 3 {
		version = t.set(key, "value", later(), version, first)
		t.lists(first, key, other)
	}
	version = t.set(key, "value", later(), version, first, second) // one more
	t.lists(first, key, other)
	t.lists(second, key)
	version = t.set(key, "value", later(), version, second) // one fewer, which may stay
	t.includes(first, other)
	t.lists(second, key)
	version = t.set(key, "value", later(), version) // none
	t.set(key, "value", later(), version, first, second)
	t.lists(first, key, other)
	t.lists(second, key)
}

func tagsOfDeletedKeys(t storeTest) {
	a, b, tag, own := newKey(), newKey(), newKey(), newKey()
	version := t.set(a, "a", later(), 0, tag, own)
	t.set(b, "b", later(), 0, tag)
	for range 2 {
		t.delete(a)
		t.includes(tag, b) // lesson 32
		for _, key := range t.tagged(own) {
			t.isAbsent(key)
		}
	}
	t.refuses(a, version)
	t.set(a, "again", later(), 0, tag)
	t.lists(tag, a, b)
	t.delete(a)
	t.delete(b)
	for _, key := range t.tagged(tag) {
		t.isAbsent(key)
	}
}

// tagsAreIndependent has names that look alike, and one name that is both a key and a tag.
func tagsAreIndependent(t storeTest) {
	tag, key := newKey(), newKey()
	t.set(key, "value", later(), 0, tag)
	for _, other := range []string{swapCase(tag), tag[:42] + "_", "_" + tag[1:], key, newKey()} {
		if other != tag {
			t.lists(other)
		}
	}
	t.isAbsent(tag)
	version := t.set(tag, "a key now", later(), 0, key)
	t.lists(tag, key)
	t.lists(key, tag)
	t.holds(tag, "a key now", version)
	t.delete(tag)
	t.lists(tag, key)
	t.delete(key)
	t.isAbsent(key)
}

func tagsAreCopied(t storeTest) {
	key, tags := newKey(), []string{newKey(), newKey()}
	first, second := tags[0], tags[1]
	if _, err := t.store.Set(t.Context(), key, nil, later(), 0, tags); err != nil {
		t.Fatalf("Set: %v", err)
	}
	tags[0], tags[1] = newKey(), newKey()
	for _, tag := range []string{first, second} {
		t.lists(tag, key)
		keys, err := t.index.Tagged(t.Context(), tag)
		if err != nil {
			t.Fatalf("Tagged: %v", err)
		}
		keys[0] = "changed"
		t.lists(tag, key)
	}
	t.lists(tags[0])
}

// tagsLiveLongEnough has tags with keys that expire at different times: the last counts.
func tagsLiveLongEnough(t storeTest) {
	long, short, longFirst, shortFirst := newKey(), newKey(), newKey(), newKey()
	extended, own := newKey(), newKey()
	expiry := time.Now().Add(2 * time.Second)
	version := t.set(extended, "extended", expiry, 0, own)
	t.set(extended, "extended", later(), version, own)
	t.set(long, "long", later(), 0, longFirst)
	t.set(short, "short", expiry, 0, longFirst, shortFirst)
	other := newKey()
	t.set(other, "long", later(), 0, shortFirst)

	t.expiresAt(short, expiry)
	time.Sleep(time.Until(expiry.Add(100 * time.Millisecond))) // for what the store clears away
	t.includes(longFirst, long)
	t.includes(shortFirst, other)
	t.includes(own, extended)
	t.set(short, "again", later(), 0, longFirst)
	t.includes(longFirst, short)
}

func tagsComeBeforeData(t storeTest) { // or a logout by subject misses a session that is already in use
	key, version := newKey(), int64(0)
	for range 10 {
		tag, set := newKey(), make(chan struct{})
		t.together(func(i int) error {
			if i == 0 {
				defer close(set)
				_, err := t.store.Set(t.Context(), key, nil, later(), version, []string{tag})
				return err
			}
			for {
				_, current, ok, err := t.store.Get(t.Context(), key)
				if err != nil {
					return fmt.Errorf("Get: %w", err)
				}
				if ok && current != version {
					keys, err := t.index.Tagged(t.Context(), tag)
					if err == nil && !slices.Contains(keys, key) {
						return errors.New("data can be read before its tag names it")
					}
					return err
				}
				select {
				case <-set:
					return nil
				default:
				}
			}
		})
		_, version, _ = t.get(key)
		t.lists(tag, key)
	}
}

func manyUnderOneTag(t storeTest) {
	tag := newKey()
	var keys [64]string
	t.together(func(i int) error {
		keys[i] = newKey()
		version, err := t.store.Set(t.Context(), keys[i], nil, later(), 0, []string{tag, newKey()})
		if err != nil || version == 0 {
			return fmt.Errorf("Set: %d, %w", version, err)
		}
		listed, err := t.index.Tagged(t.Context(), tag)
		if err == nil && !slices.Contains(listed, keys[i]) {
			return errors.New("a Set that has returned is not seen")
		}
		return err
	})
	t.lists(tag, keys[:]...)
	t.together(func(i int) error {
		if i%2 == 0 {
			return nil
		}
		return t.store.Delete(t.Context(), keys[i])
	})
	for i, key := range keys {
		if i%2 == 0 {
			t.includes(tag, key)
		} else {
			t.isAbsent(key)
		}
	}
}
