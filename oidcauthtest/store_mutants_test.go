package oidcauthtest_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"
)

func (s *mapStore) Set(
	ctx context.Context, key string, data []byte, expires time.Time, old int64, tags []string,
) (version int64, err error) {
	if err := s.ended(ctx); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key = s.keyOf(key)
	row, ok := s.live(key)
	if !s.current(key, row, ok, old) {
		return 0, s.refuse(key, row, ok, data, expires)
	}
	if s.has("looks and sets in two steps") {
		s.pause()
	}
	next := mapRow{data: s.stored(row, data), expires: s.expiry(row, ok, expires), tags: slices.Clone(tags)}
	if s.has("keeps the tags it was given") {
		next.tags = tags
	}
	next.version = s.nextVersion(key, row, next)
	if past := !expires.After(time.Now()); past {
		switch s.bug {
		case "an expiry in the past is an error":
			return 0, errors.New("invalid expire time")
		case "an expiry in the past is refused":
			return 0, nil
		case "an expiry in the past keeps what was there":
			return next.version, nil
		}
	}
	if s.has("tags after data") {
		s.rows[key] = next
		s.pause()
	}
	s.tag(key, row, ok, next)
	s.rows[key] = next
	return next.version, nil
}

// pause lets others in.
func (s *mapStore) pause() {
	s.mu.Unlock()
	time.Sleep(time.Microsecond)
	s.mu.Lock()
}

func (s *mapStore) current(key string, row mapRow, ok bool, old int64) bool {
	gone, wasDeleted := s.deleted[key]
	switch s.bug {
	case "ignores the old version":
		return true
	case "0 replaces whatever is there":
		if old == 0 {
			return true
		}
	case "a stale Set creates the key":
		if !ok {
			return true
		}
	case "a stale Set revives a deleted key":
		if !ok && wasDeleted && gone.version == old {
			return true
		}
	case "an expired key counts as present":
		return s.rows[key].version == old
	case "an expired version is current":
		if !ok && old != 0 {
			return s.rows[key].version == old
		}
	case "refuses at times for nothing":
		if s.last > 8 {
			return false
		}
	}
	if !ok {
		return old == 0
	}
	return row.version == old
}

func (s *mapStore) refuse(key string, row mapRow, ok bool, data []byte, expires time.Time) error {
	switch {
	case s.has("a refusal is an error"):
		return errors.New("conflict")
	case ok && s.has("a refused Set changes the data"):
		row.data = bytes.Clone(data)
		s.rows[key] = row
	case ok && s.has("a refused Set moves the expiry"):
		row.expires = s.expiry(row, ok, expires)
		s.rows[key] = row
	case ok && s.has("a refused Set removes tags"):
		for _, tag := range row.tags {
			delete(s.tags, tag)
		}
	}
	return nil
}

func (s *mapStore) stored(row mapRow, data []byte) []byte {
	switch s.bug {
	case "keeps the slice it was given":
		return data
	case "values end at a NUL":
		data, _, _ = bytes.Cut(data, []byte{0})
	case "values are UTF-8":
		data = bytes.ToValidUTF8(data, []byte("?"))
	case "values have at most 64 KB":
		data = data[:min(len(data), 1<<16)]
	case "a shorter value leaves the end of a longer one":
		if len(data) < len(row.data) {
			data = append(bytes.Clone(data), row.data[len(data):]...)
		}
	}
	return bytes.Clone(data)
}

// expiry turns a time of the caller's into one of the store's.
func (s *mapStore) expiry(row mapRow, ok bool, expires time.Time) time.Time {
	at := s.now().Add(time.Until(expires))
	forGood := s.now().AddDate(100, 0, 0)
	switch s.bug {
	case "expires a little early":
		return at.Add(-20 * time.Millisecond)
	case "expires on the second":
		return at.Truncate(time.Second)
	case "reads times by a clock that is ahead", "reads times by a clock that is late":
		return expires
	case "keeps the first expiry":
		if ok {
			return row.expires
		}
	case "moves an expiry only forward":
		if ok && at.Before(row.expires) {
			return row.expires
		}
	case "less than a millisecond is for good":
		if left := time.Until(expires); left > 0 && left < time.Millisecond {
			return forGood
		}
	case "the zero time is for good":
		if expires.IsZero() {
			return forGood
		}
	case "ignores the time zone":
		at, _ = time.Parse(time.DateTime, expires.Format(time.DateTime))
	case "times end in 2010":
		if at.Year() >= 2010 {
			return time.Time{}
		}
	}
	return at
}

func (s *mapStore) nextVersion(key string, row, next mapRow) int64 {
	s.last++
	switch s.bug {
	case "a version may be 0":
		return s.last - 1
	case "counts versions per key":
		return row.version + 1
	case "counts again after an expiry":
		if gone, ok := s.rows[key]; ok && !gone.expires.After(s.now()) {
			return 1
		}
	case "equal data keeps the version":
		if row.version != 0 && bytes.Equal(row.data, next.data) {
			return row.version
		}
	}
	return s.last
}

// tag notes the tags of next, a Set of key after row.
func (s *mapStore) tag(key string, row mapRow, ok bool, next mapRow) {
	_, wasDeleted := s.deleted[key]
	names := next.tags
	switch {
	case ok && s.has("only the first Set of a key tags"), wasDeleted && s.has("a key once deleted gets no tags"):
		return
	case ok && s.has("a later Set loses tags"):
		s.untag(key, row.tags)
		return
	case ok && s.has("a tag less is a tag less for all"):
		for _, tag := range row.tags {
			if !slices.Contains(names, tag) {
				delete(s.tags, tag)
			}
		}
	case len(names) > 1 && s.has("keeps the first tag only"):
		names = names[:1]
	}
	for _, name := range names {
		name = s.tagOf(name)
		t := s.tags[name]
		if t == nil || !t.expires.After(s.now()) {
			t = &mapTag{}
		}
		keys := slices.Clone(t.keys)
		if s.has("looks and tags in two steps") {
			s.pause()
		}
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
		if s.has("a tag names its last key only") {
			keys = []string{key}
		}
		s.tags[name] = &mapTag{keys: keys, expires: s.tagExpiry(t, next.expires)}
	}
}

func (s *mapStore) tagExpiry(t *mapTag, expires time.Time) time.Time {
	earlier := !t.expires.IsZero() && t.expires.Before(expires)
	switch {
	case s.has("a tag ends with its first key") && earlier, s.has("a tag is not extended") && !t.expires.IsZero():
		return t.expires
	case s.has("a tag ends with its last key"):
		return expires
	case earlier || t.expires.IsZero():
		return expires
	}
	return t.expires
}

func (s *mapStore) untag(key string, tags []string) {
	for _, tag := range tags {
		if t := s.tags[tag]; t != nil {
			t.keys = slices.DeleteFunc(t.keys, func(k string) bool { return k == key })
		}
	}
}

func (s *mapStore) Delete(ctx context.Context, key string) error {
	if err := s.ended(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key = s.keyOf(key)
	row, ok := s.rows[key]
	switch {
	case ok && s.has("Delete removes whole tags"):
		for _, tag := range row.tags {
			delete(s.tags, tag)
		}
	case ok && s.has("a key once deleted gets no tags"):
		s.untag(key, row.tags)
	case !ok && s.has("a second Delete revives the key"):
		if gone, was := s.deleted[key]; was {
			s.rows[key] = gone
			return nil
		}
	case !ok && s.has("Delete of an absent key is an error"):
		return errors.New("not found")
	}
	if ok {
		s.deleted[key] = row
	}
	delete(s.rows, key)
	return nil
}

// Tagged lists deleted keys, too.
func (s *mapStore) Tagged(ctx context.Context, tag string) (keys []string, err error) {
	if err := s.ended(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tags[s.tagOf(tag)]
	switch {
	case s.has("lists every key"):
		for key := range s.rows {
			keys = append(keys, key)
		}
		return keys, nil
	case s.has("keeps the tags it was given"):
		for key, row := range s.rows {
			if slices.Contains(row.tags, tag) {
				keys = append(keys, key)
			}
		}
		return keys, nil
	case t == nil && s.has("keys and tags share names"):
		if _, ok := s.rows[tag]; ok {
			return nil, errors.New("wrong type")
		}
		return nil, nil
	case t == nil && s.has("an unknown tag is an error"):
		return nil, errors.New("not found")
	case t == nil || !t.expires.After(s.now()):
		return nil, nil
	case s.has("returns the keys it keeps"):
		return t.keys, nil
	}
	return slices.Clone(t.keys), nil
}
