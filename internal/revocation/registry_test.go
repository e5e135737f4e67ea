package revocation_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth/internal/revocation"
)

// A shelf is a store in memory.
type shelf struct {
	mu       sync.Mutex
	items    map[string]item
	versions int64
	gets     int
	sets     int
	fail     func(method, key string) error
}

type item struct {
	data    []byte
	version int64
	expires time.Time
}

var errDown = errors.New("down")

func (s *shelf) Get(ctx context.Context, key string) ([]byte, int64, bool, error) {
	if err := s.call(ctx, "Get", key, &s.gets); err != nil {
		return nil, 0, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	it, ok := s.items[key]
	if !ok || !time.Now().Before(it.expires) {
		return nil, 0, false, nil
	}
	return it.data, it.version, true, nil
}

func (s *shelf) Set(
	ctx context.Context, key string, data []byte, expires time.Time, old int64, tags []string,
) (int64, error) {
	if err := s.call(ctx, "Set", key, &s.sets); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	it := s.items[key]
	if !time.Now().Before(it.expires) {
		it.version = 0
	}
	if it.version != old || len(tags) > 0 {
		return 0, nil
	}
	s.versions++
	if s.items == nil {
		s.items = map[string]item{}
	}
	s.items[key] = item{data, s.versions, expires}
	return s.versions, nil
}

func (s *shelf) call(ctx context.Context, method, key string, n *int) error {
	s.mu.Lock()
	*n++
	fail := s.fail
	s.mu.Unlock()
	if fail != nil {
		if err := fail(method, key); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// registry has marks in s that are named by, and sealed with, each of some secrets.
func registry(s *shelf, secrets ...string) *revocation.Registry {
	return &revocation.Registry{
		Store: s, Life: time.Hour,
		Names: func(kind, value string) (names []string) {
			for _, secret := range secrets {
				names = append(names, secret+"/"+kind+"/"+value)
			}
			return names
		},
		Seal: func(i int, name string, plain []byte) ([]byte, error) {
			return []byte(secrets[i] + "|" + name + "|" + string(plain)), nil
		},
		Open: func(name string, data []byte) ([]byte, bool) {
			for _, secret := range secrets {
				if plain, ok := strings.CutPrefix(string(data), secret+"|"+name+"|"); ok {
					return []byte(plain), true
				}
			}
			return nil, false
		},
	}
}

func add(t *testing.T, r *revocation.Registry, m mark) {
	t.Helper()
	if err := r.Add(t.Context(), "subject", "alice", m); err != nil {
		t.Error(err)
	}
}

// reads checks what is noted about Alice.
func reads(t *testing.T, r *revocation.Registry, want mark) {
	t.Helper()
	if got, err := r.Read(t.Context(), "subject", "alice"); err != nil || !same(got, want) {
		t.Errorf("noted is %v, %v, want %v", got, err, want)
	}
}

func TestMarksAreAddedToOneAnother(t *testing.T) {
	t.Parallel()
	s := &shelf{}
	r := registry(s, "a")
	reads(t, r, mark{})
	add(t, r, mark{})
	reads(t, r, mark{Until: until{}}) // something is noted: that there is something
	add(t, r, mark{Until: until{"": 100}})
	add(t, r, mark{Until: until{"": 90}})
	add(t, r, mark{Era: era('b')})
	add(t, r, mark{Era: era('a'), Until: until{"alice": 7}})
	reads(t, r, mark{Era: era('b'), Until: until{"": 100, "alice": 7}})
	for kind, value := range map[string]string{"subject": "bob", "sid": "alice"} {
		if got, err := r.Read(t.Context(), kind, value); err != nil || !same(got, mark{}) {
			t.Errorf("about %s %s is noted: %v, %v", kind, value, got, err)
		}
	}
}

// S08: a mark lives as long as a session can that it ends, counted from when it was last added to.
func TestHowLongAMarkLives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := registry(&shelf{}, "a")
		add(t, r, mark{Until: until{"": 100}})
		time.Sleep(time.Hour - time.Second)
		reads(t, r, mark{Until: until{"": 100}})
		add(t, r, mark{Until: until{"": 200}})
		time.Sleep(time.Hour - time.Second)
		reads(t, r, mark{Until: until{"": 200}})
		time.Sleep(time.Second)
		reads(t, r, mark{})
		add(t, r, mark{}) // a sid that is known is known for as long as the last session that has it can live
		time.Sleep(time.Hour - time.Second)
		add(t, r, mark{})
		time.Sleep(time.Hour - time.Second)
		reads(t, r, mark{Until: until{}})
	})
}

// S10: marks are written under every secret and read under every one, so that each step of a rotation finds those of the
// steps around it.
func TestMarksOfSeveralSecrets(t *testing.T) {
	t.Parallel()
	steps := [][]string{{"a"}, {"a", "b"}, {"b", "a"}, {"b"}}
	for i := range steps[1:] {
		for name, pair := range map[string][2][]string{"behind": {steps[i], steps[i+1]}, "ahead": {steps[i+1], steps[i]}} {
			s := &shelf{}
			writes, looks := registry(s, pair[0]...), registry(s, pair[1]...)
			add(t, writes, mark{Until: until{"": 100}})
			if len(s.items) != len(pair[0]) || s.sets != len(pair[0]) {
				t.Errorf("%s at step %d: %d entries after %d Sets", name, i, len(s.items), s.sets)
			}
			s.gets = 0
			reads(t, looks, mark{Until: until{"": 100}})
			if s.gets != len(pair[1]) {
				t.Errorf("%s at step %d: %d Gets", name, i, s.gets)
			}
			add(t, looks, mark{Era: era('a')})
			reads(t, writes, mark{Era: era('a'), Until: until{"": 100}})
			reads(t, looks, mark{Era: era('a'), Until: until{"": 100}})
		}
	}
}

// Two names may have different marks, when a process at another step has written one of them: joined they count.
func TestMarksUnderTwoNamesAreJoined(t *testing.T) {
	t.Parallel()
	s := &shelf{}
	add(t, registry(s, "a"), mark{Era: era('a'), Until: until{"": 300}})
	add(t, registry(s, "b"), mark{Era: era('b'), Until: until{"": 200, "alice": 5}})
	for _, secrets := range [][]string{{"a", "b"}, {"b", "a"}} {
		reads(t, registry(s, secrets...), mark{Era: era('b'), Until: until{"": 300, "alice": 5}})
	}
}

// All names are read in one round trip.
func TestReadTakesOneRoundTrip(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{fail: func(string, string) error { time.Sleep(time.Second); return nil }}
		began := time.Now()
		reads(t, registry(s, "a", "b", "c", "d"), mark{})
		if took := time.Since(began); took != time.Second || s.gets != 4 {
			t.Errorf("%d Gets take %v", s.gets, took)
		}
	})
}

// What cannot be read is an error and no mark: nobody may take it for a session that goes on. What is noted about it anew
// replaces it.
func TestAMarkThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"damaged": "junk", "empty": "", "of another secret": "z|a/subject/alice|\x00", "of another name": "a|a/subject/bob|\x00",
		"no mark in it": "a|a/subject/alice|\x05x",
	} {
		s := &shelf{versions: 1, items: map[string]item{"a/subject/alice": {[]byte(data), 1, time.Now().Add(time.Hour)}}}
		for _, secrets := range [][]string{{"a"}, {"a", "b"}, {"b", "a"}} {
			if got, err := registry(s, secrets...).Read(t.Context(), "subject", "alice"); err == nil {
				t.Errorf("%s: it is read as %v", name, got)
			}
		}
		r := registry(s, "a")
		add(t, r, mark{Until: until{"": 100}})
		reads(t, r, mark{Until: until{"": 100}})
	}
}

// A failure of the store at whichever call is an error, and a second try does the rest.
func TestMarksAndAStoreThatFails(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"Get", "Set"} {
		for n := 1; n <= 2; n++ {
			s, calls := &shelf{}, 0
			r := registry(s, "a", "b")
			s.fail = func(m, _ string) error {
				if m == method {
					if calls++; calls == n {
						return errDown
					}
				}
				return nil
			}
			if err := r.Add(t.Context(), "subject", "alice", mark{Until: until{"": 100}}); !errors.Is(err, errDown) {
				t.Errorf("%s %d: %v", method, n, err)
			}
			add(t, r, mark{Until: until{"": 100}})
			for _, secret := range []string{"a", "b"} {
				reads(t, registry(s, secret), mark{Until: until{"": 100}})
			}
		}
	}
	for _, broken := range []string{"a", "b"} {
		s := &shelf{}
		r := registry(s, "a", "b")
		add(t, r, mark{Until: until{"": 100}})
		s.fail = func(_, key string) error {
			if strings.HasPrefix(key, broken) {
				return errDown
			}
			return nil
		}
		if got, err := r.Read(t.Context(), "subject", "alice"); !errors.Is(err, errDown) {
			t.Errorf("half of it is read as %v, %v", got, err)
		}
	}
	none := registry(&shelf{})
	if _, err := none.Read(t.Context(), "subject", "alice"); err == nil {
		t.Error("without a name nothing is read, and that is no error")
	}
	if err := none.Add(t.Context(), "subject", "alice", mark{}); err == nil {
		t.Error("without a name nothing is noted, and that is no error")
	}
}

// Of all who note something at the same time everything counts.
func TestMarksOfManyAtOnce(t *testing.T) {
	t.Parallel()
	s := &shelf{}
	var wg sync.WaitGroup
	want := mark{Until: until{}}
	for i := range 40 {
		m := mark{Until: until{fmt.Sprint("user", i%10): int64(i)}}
		want = want.Join(m)
		secrets := [][]string{{"a"}, {"b"}, {"a", "b"}}[i%3]
		wg.Go(func() { add(t, registry(s, secrets...), m) })
	}
	wg.Wait()
	got, err := registry(s, "a", "b").Read(t.Context(), "subject", "alice")
	if err != nil || !same(got, want) {
		t.Errorf("noted is %v, %v, want %v", got, err, want)
	}
	r := registry(s, "a")
	r.Store = stubborn{s}
	if err := r.Add(t.Context(), "subject", "alice", mark{Until: until{"": 1}}); err == nil {
		t.Error("others are always faster, and it is noted all the same")
	}
}

// A stubborn store says each time that others were faster.
type stubborn struct{ *shelf }

func (stubborn) Set(context.Context, string, []byte, time.Time, int64, []string) (int64, error) {
	return 0, nil
}
