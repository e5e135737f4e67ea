package revocation_test

import (
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth/internal/revocation"
)

type (
	mark  = revocation.Mark
	until = map[string]int64
)

// era is one of 16 bytes.
func era(name byte) string { return strings.Repeat(string(name), 16) }

// S08, S09: which sessions a mark ends.
func TestWhatAMarkEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		mark    mark
		subject string
		era     string
		began   int64
		leeway  time.Duration
		ends    bool
	}{
		{"nothing is noted", mark{}, "alice", "", 100, time.Minute, false},
		{"a session is known, and none has ended", mark{Until: until{}}, "alice", "", 0, time.Minute, false},
		{"it began before", mark{Until: until{"": 100}}, "alice", "", 99, 0, true},
		{"it began in the same second", mark{Until: until{"": 100}}, "alice", "", 100, 0, true},
		{"it began a second later", mark{Until: until{"": 100}}, "alice", "", 101, 0, false},
		{"within the leeway", mark{Until: until{"": 100}}, "alice", "", 160, time.Minute, true},
		{"after the leeway", mark{Until: until{"": 100}}, "alice", "", 161, time.Minute, false},
		{"of that subject", mark{Until: until{"alice": 100}}, "alice", "", 100, 0, true},
		{"of another subject", mark{Until: until{"bob": 100}}, "alice", "", 0, time.Minute, false},
		{"of both, the earlier", mark{Until: until{"alice": 50, "": 100}}, "alice", "", 70, 0, true},
		{"of both, the later", mark{Until: until{"alice": 100, "": 50}}, "alice", "", 70, 0, true},
		{"in no era, and there is one", mark{Era: era('a')}, "alice", "", 999, 0, true},
		{"in that era", mark{Era: era('a')}, "alice", era('a'), 0, 0, false},
		{"in a later era", mark{Era: era('a')}, "alice", era('b'), 999, 0, true},
		{"in an era that nothing is noted about", mark{}, "alice", era('b'), 0, 0, false},
		{"in that era, and it began before", mark{Era: era('a'), Until: until{"": 100}}, "alice", era('a'), 100, 0, true},
		{"in that era, and it began after", mark{Era: era('a'), Until: until{"": 100}}, "alice", era('a'), 101, 0, false},
		{"before 1970", mark{Until: until{"": -5}}, "alice", "", -5, 0, true},
		{"at the end of all time", mark{Until: until{"": math.MaxInt64}}, "alice", "", math.MaxInt64, 0, true},
		{"at the beginning of all time", mark{Until: until{"": 100}}, "alice", "", math.MinInt64, 0, true},
	} {
		if got := tt.mark.Ends(tt.subject, tt.era, tt.began, tt.leeway); got != tt.ends {
			t.Errorf("%s: it ends: %v", tt.name, got)
		}
	}
}

// S09: an era comes after the one before, whatever the clock says, and no two are the same.
func TestErasFollowOneAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, seen := mark{}, map[string]bool{}
		for range 1000 { // in the same millisecond
			next := m.Next()
			if next.Era <= m.Era || len(next.Era) != 16 || next.Until != nil || seen[next.Era] {
				t.Fatalf("%x is followed by %x", m.Era, next.Era)
			}
			if seen[next.Era] = true; !next.Ends("alice", m.Era, math.MaxInt64, 0) || next.Ends("alice", next.Era, 0, 0) {
				t.Fatal("it does not end those of the era before, or its own")
			}
			m = next
		}
		a, b := (mark{}).Next(), (mark{}).Next() // by two processes at once
		if a.Era == b.Era {
			t.Error("two processes begin the same era")
		}
		time.Sleep(time.Millisecond)
		if later := (mark{}).Next(); later.Era <= a.Era || later.Era <= b.Era {
			t.Error("a later era of a process that knows of none comes before")
		}
	})
	ahead := mark{}
	synctest.Test(t, func(*testing.T) {
		time.Sleep(time.Hour) // the clock of a bubble begins where the last one's did
		ahead = ahead.Next()
	})
	synctest.Test(t, func(t *testing.T) {
		if next := ahead.Next(); next.Era <= ahead.Era {
			t.Error("after that of a process an hour ahead comes one before it")
		}
	})
	if far := (mark{Era: strings.Repeat("\xff", 16)}).Next(); len(far.Era) != 16 {
		t.Errorf("after the last one: %x", far.Era)
	}
}

// some are marks of all kinds.
func some() []mark {
	many := until{}
	for i := range 16 {
		many[fmt.Sprint("user", i)] = int64(i)
	}
	return []mark{
		{},
		{Until: until{}},
		{Until: until{"": 100}},
		{Until: until{"": 200}},
		{Until: until{"alice": 100}},
		{Until: until{"alice": 150, "bob": 50}},
		{Until: until{"": -1, "bob": 70}},
		{Era: era('a')},
		{Era: era('b'), Until: until{"alice": 120}},
		{Era: era('c'), Until: until{"": 90}},
		{Until: many},
	}
}

func same(a, b mark) bool {
	return a.Era == b.Era && maps.Equal(a.Until, b.Until) && (a.Until == nil) == (b.Until == nil)
}

// Whoever notes what first, the outcome is the same, ends all that any of them ends, and says nothing twice. Neither of two
// marks that are joined changes.
func TestMarksJoin(t *testing.T) {
	t.Parallel()
	for i, a := range some() {
		if got := a.Join(a); !same(got, a) {
			t.Errorf("%d with itself is %v", i, got)
		}
		for j, b := range some() {
			ab, ba := a.Join(b), b.Join(a)
			if !same(ab, ba) {
				t.Errorf("%d with %d is %v, and the other way round %v", i, j, ab, ba)
			}
			if !same(a, some()[i]) || !same(b, some()[j]) {
				t.Errorf("%d and %d are changed", i, j)
			}
			endsAll(t, ab, a, b)
			for k, c := range some()[:j+1] { // in one order of many, which do not matter
				left, right := ab.Join(c), a.Join(b.Join(c))
				endsAll(t, left, a, b, c)
				endsAll(t, right, a, b, c)
				if few := max(len(a.Until), len(b.Until), len(c.Until)) < 16; few && !same(left, right) {
					t.Errorf("%d, %d and %d are %v, or %v", i, j, k, left, right)
				}
			}
		}
	}
}

// endsAll checks that a joined mark ends what one of its parts ends, except that of several eras the last one goes on.
func endsAll(t *testing.T, joined mark, parts ...mark) {
	t.Helper()
	for _, subject := range []string{"", "alice", "bob", "user7", "carol"} {
		for _, began := range []int64{-1, 0, 50, 70, 90, 100, 120, 150, 200, 201} {
			for _, of := range []string{"", era('a'), era('b'), era('c')} {
				for _, part := range parts {
					if part.Ends(subject, of, began, 0) && of != joined.Era && !joined.Ends(subject, of, began, 0) {
						t.Errorf("%v ends a session of %q that began at %d, and joined they do not: %v", part, subject, began, joined)
					}
				}
			}
		}
	}
	for _, part := range parts {
		for subject, at := range part.Until {
			if !joined.Ends(subject, joined.Era, at, 0) {
				t.Errorf("%v does not end what %v ends of %q", joined, part, subject)
			}
		}
	}
}

// A session at the provider has one user, or a few: a mark does not grow for ever, and rather ends too much.
func TestAMarkOfManySubjectsIsOneOfAll(t *testing.T) {
	t.Parallel()
	m := mark{}
	for i := range 1000 {
		m = m.Join(mark{Until: until{fmt.Sprint("user", i): int64(i)}})
		if len(m.Until) > 16 || len(revocation.Encode(m)) > 400 {
			t.Fatalf("%d subjects", len(m.Until))
		}
		for before := range i {
			if !m.Ends(fmt.Sprint("user", before), "", int64(before), 0) {
				t.Fatalf("after %d, user %d has not ended any more", i, before)
			}
		}
	}
}

func TestWhatIsSealedOfAMark(t *testing.T) {
	t.Parallel()
	for i, m := range some() {
		got, ok := revocation.Decode(revocation.Encode(m))
		if m.Until == nil {
			m.Until = until{} // what was read says that there is something to read
		}
		if !ok || !same(got, m) {
			t.Errorf("mark %d comes back as %v, %v", i, got, ok)
		}
	}
	long := mark{Until: until{strings.Repeat("x", 5000): math.MaxInt64, "\x00\xff": math.MinInt64}}
	if got, ok := revocation.Decode(revocation.Encode(long)); !ok || !same(got, long) {
		t.Errorf("a long subject: %v", ok)
	}
	full := revocation.Encode(mark{Era: era('a'), Until: until{"alice": 100, "bob": 7}})
	for size := range full {
		if got, ok := revocation.Decode(full[:size]); ok && size != 17 && size != 25 { // there the era ends, and Alice's part
			t.Errorf("%d octets of %d are %v", size, len(full), got)
		}
	}
	for name, b := range map[string]string{
		"nothing":             "",
		"a short era":         "\x0f" + era('a')[:15],
		"a long era":          "\x11" + era('a') + "a",
		"a subject twice":     "\x00\x01a\x02\x01a\x04",
		"a subject cut short": "\x00\x05ab",
		"no time":             "\x00\x01a",
		"an endless number":   "\x00\x01a" + strings.Repeat("\xff", 11),
		"an endless length":   "\x00" + strings.Repeat("\xff", 11),
		"a huge length":       "\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"17 subjects":         "\x00" + seventeen(),
	} {
		if got, ok := revocation.Decode([]byte(b)); ok {
			t.Errorf("%s is %v", name, got)
		}
	}
}

func seventeen() (text string) {
	for i := range 17 {
		text += "\x01" + string(rune('a'+i)) + "\x02"
	}
	return text
}

// FuzzDecode: whatever is decoded is refused, or is a mark that says the same when it is written again. It keeps nothing of
// what it was read from.
func FuzzDecode(f *testing.F) {
	for _, m := range some() {
		f.Add(revocation.Encode(m))
	}
	f.Add([]byte("\x00\x01a\x02\x01a\x04"))
	f.Add([]byte("\x80\x00\x81\x00a\x82\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := revocation.Decode(b)
		if !ok {
			if m.Era != "" || m.Until != nil {
				t.Errorf("it is refused, and is %v", m)
			}
			return
		}
		if m.Until == nil || len(m.Until) > 16 || m.Era != "" && len(m.Era) != 16 {
			t.Errorf("it is %v", m)
		}
		written := revocation.Encode(m)
		again, ok := revocation.Decode(written)
		if !ok || !same(again, m) || len(written) > len(b) {
			t.Errorf("%d octets are %v, and written again %v in %d", len(b), m, again, len(written))
		}
		before := fmt.Sprint(m)
		for i := range b {
			b[i] ^= 0xff
		}
		if fmt.Sprint(m) != before {
			t.Error("it changes with what it was read from")
		}
	})
}

// FuzzJoin: of any two marks the order does not matter, and nothing that one of them ends goes on.
func FuzzJoin(f *testing.F) {
	for _, m := range some() {
		for _, n := range some() {
			f.Add(revocation.Encode(m), revocation.Encode(n))
		}
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		m, ok := revocation.Decode(a)
		n, fine := revocation.Decode(b)
		if !ok || !fine {
			return
		}
		joined := m.Join(n)
		if other := n.Join(m); !same(joined, other) || len(joined.Until) > 16 {
			t.Errorf("%v, and the other way round %v", joined, other)
		}
		for _, part := range []mark{m, n} {
			if part.Era > joined.Era {
				t.Error("the era is not the last one")
			}
			for subject, at := range part.Until {
				if !joined.Ends(subject, joined.Era, at, 0) {
					t.Errorf("joined they do not end what %v ends of %q", part, subject)
				}
			}
		}
	})
}
