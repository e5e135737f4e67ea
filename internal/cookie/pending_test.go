package cookie_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth/internal/cookie"
)

func pendingOptions() cookie.PendingOptions {
	return cookie.PendingOptions{
		Attributes: cookie.Attributes{Name: "__Host-login", Secure: true},
		Codecs:     cookie.LoginCodecs([]string{testSecret}, "login"),
		Binding:    []string{"https://issuer.example", "client", "https://app.example"},
		Purpose:    "login",
		TTL:        15 * time.Minute,
		Max:        5,
		MaxBytes:   4096,
	}
}

// set lets a browser that holds j start a login and returns the Set-Cookie lines.
func set(t testing.TB, p *cookie.Pending, j jar, state, payload string) []string {
	t.Helper()
	resp := http.Header{}
	if err := p.Set(resp, j.header(), state, []byte(payload)); err != nil {
		t.Fatal(err)
	}
	j.take(t, resp)
	return resp["Set-Cookie"]
}

func holds(p *cookie.Pending, j jar, state, payload string) bool {
	got, ok := p.Get(j.header(), state)
	return ok && string(got) == payload
}

// weight is what the names and values in j take.
func weight(j jar) int {
	n := 0
	for name, value := range j {
		n += len(name) + len(value)
	}
	return n
}

// Lesson 12: two tabs, one login each.
func TestLoginsInParallel(t *testing.T) {
	t.Parallel()
	p, j := cookie.NewPending(pendingOptions()), jar{}
	lines := append(set(t, p, j, "one", "first"), set(t, p, j, "two", "second")...)
	shape := regexp.MustCompile(`^__Host-login-[\w-]{28}=[\w-]+=*; Path=/; Max-Age=900; HttpOnly; Secure; SameSite=Lax$`)
	for _, line := range lines {
		if !shape.MatchString(line) { // CKE-08, CKE-09
			t.Errorf("line %q", line)
		}
	}
	if !holds(p, j, "one", "first") || !holds(p, j, "two", "second") {
		t.Error("a login was lost")
	}
	set(t, p, j, "one", "again")
	if !holds(p, j, "one", "again") || len(j) != 2 {
		t.Error("a login started again does not replace itself")
	}
	resp := http.Header{}
	p.Delete(resp, "one")
	j.take(t, resp)
	if holds(p, j, "one", "again") || !holds(p, j, "two", "second") {
		t.Error("deleting one login did not delete that one alone")
	}
}

func TestPendingCookieOfAnotherStateOrSecret(t *testing.T) {
	t.Parallel()
	p, j := cookie.NewPending(pendingOptions()), jar{}
	set(t, p, j, "state", "x")
	if _, ok := p.Get(j.header(), "other"); ok {
		t.Error("opens for another state")
	}
	renamed := jar{p.CookieName("other"): j[p.CookieName("state")]}
	if _, ok := p.Get(renamed.header(), "other"); ok {
		t.Error("opens under another name")
	}
	// Lesson 27
	empty := jar{}
	set(t, p, empty, "", "x")
	if _, ok := p.Get(empty.header(), ""); ok {
		t.Error("an empty state matches")
	}
	o := pendingOptions()
	o.Codecs = cookie.LoginCodecs([]string{oldSecret}, "login")
	if _, ok := cookie.NewPending(o).Get(j.header(), "state"); ok {
		t.Error("opens with another secret")
	}
	o.Codecs = cookie.LoginCodecs([]string{oldSecret, testSecret}, "login")
	if !holds(cookie.NewPending(o), j, "state", "x") { // CKE-06
		t.Error("does not open with an older secret")
	}
}

func TestEveryChangedCharacterOfAPendingCookieIsRefused(t *testing.T) {
	t.Parallel()
	o := pendingOptions()
	o.Codecs = cookie.Codecs([]string{testSecret}, "login")
	p, j := cookie.NewPending(o), jar{}
	set(t, p, j, "state", "payload")
	name := p.CookieName("state")
	value := j[name]
	for i := range value {
		b := []byte(value)
		b[i] ^= 1
		j[name] = string(b)
		if _, ok := p.Get(j.header(), "state"); ok {
			t.Errorf("opens with character %d changed", i)
		}
		j[name] = value[:i]
		if _, ok := p.Get(j.header(), "state"); ok {
			t.Errorf("opens when cut to %d characters", i)
		}
	}
}

// S43
func TestPendingCookieTwice(t *testing.T) {
	t.Parallel()
	p, mine, planted := cookie.NewPending(pendingOptions()), jar{}, jar{}
	set(t, p, mine, "state", "mine")
	set(t, p, planted, "state", "planted")
	name := p.CookieName("state")
	for label, tt := range map[string]struct {
		values []string
		want   bool
	}{
		"junk beside it":   {[]string{"junk", mine[name], ""}, true},
		"the same twice":   {[]string{mine[name], mine[name]}, true},
		"two that open":    {[]string{planted[name], mine[name]}, false},
		"too many to try":  {[]string{"a", "b", "c", "d", mine[name]}, false},
		"larger than most": {[]string{strings.Repeat("a", 1<<20), mine[name]}, true},
	} {
		var req http.Header = map[string][]string{}
		for _, v := range tt.values {
			req.Add("Cookie", name+"="+v)
		}
		if _, got := p.Get(req, "state"); got != tt.want {
			t.Errorf("%s: %v, want %v", label, got, tt.want)
		}
	}
}

// S19: the age is sealed inside, whatever the codec thinks of it.
func TestPendingCookieIsForgottenAfterItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := pendingOptions()
		o.Codecs, o.TTL = cookie.Codecs([]string{testSecret}, "login"), time.Minute
		p, j := cookie.NewPending(o), jar{}
		set(t, p, j, "state", "x")
		time.Sleep(time.Minute)
		if !holds(p, j, "state", "x") {
			t.Error("does not open within its time")
		}
		time.Sleep(time.Second)
		if _, ok := p.Get(j.header(), "state"); ok {
			t.Error("opens after its time")
		}
	})
}

// CKE-10, S19, lesson 11: a hundred logins do not pile up, and the last one works.
func TestLoginsDoNotPileUp(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"small": 10, "with the longest returnTo": 1300, "of all sizes": 0} {
		p, j := cookie.NewPending(pendingOptions()), jar{}
		for i := range 100 {
			n := size
			if n == 0 {
				n = i * 17
			}
			state, payload := fmt.Sprint("state", i), strings.Repeat("p", n)
			set(t, p, j, state, payload)
			if len(j) > 5 || weight(j) > 4096 {
				t.Fatalf("%s: %d cookies of %d octets after login %d", name, len(j), weight(j), i)
			}
			if !holds(p, j, state, payload) {
				t.Fatalf("%s: login %d does not open", name, i)
			}
		}
		if size == 10 && len(j) != 5 {
			t.Errorf("%s: %d left, want 5", name, len(j))
		}
	}
}

func TestWhichPendingCookieGoesFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, j := cookie.NewPending(pendingOptions()), jar{}
		junk := p.CookieName("junk")
		states := []string{"over", "first", "second", "third", "fourth", "fifth"}
		set(t, p, j, states[0], "x")
		time.Sleep(15*time.Minute + time.Second)
		for _, s := range states[1:4] {
			set(t, p, j, s, "x")
			time.Sleep(time.Second)
		}
		j[junk] = "junk"
		left := func() (names []string) {
			for _, s := range states {
				if _, ok := j[p.CookieName(s)]; ok {
					names = append(names, s)
				}
			}
			if _, ok := j[junk]; ok {
				names = append(names, "junk")
			}
			return names
		}
		// Five are there: what does not open and what is over make room, then the oldest.
		set(t, p, j, "fourth", "x")
		set(t, p, j, "fifth", "x")
		if got, want := left(), []string{"first", "second", "third", "fourth", "fifth"}; !slices.Equal(got, want) {
			t.Errorf("left %v, want %v", got, want)
		}
		// One that replaces itself needs no room.
		set(t, p, j, "third", "x")
		if got := left(); len(got) != 5 {
			t.Errorf("left %v, want all five", got)
		}
		time.Sleep(time.Second)
		set(t, p, j, "sixth", "x")
		if got, want := left(), []string{"second", "third", "fourth", "fifth"}; !slices.Equal(got, want) {
			t.Errorf("left %v, want %v", got, want)
		}
	})
}

func TestOtherCookiesAreNoneOfOurs(t *testing.T) {
	t.Parallel()
	p := cookie.NewPending(pendingOptions())
	o := pendingOptions()
	o.Binding = []string{"https://issuer.example", "another client", "https://app.example"}
	other := cookie.NewPending(o)
	j := jar{"__Host-login": "x", "__Host-login-x": "x", "__Host-session": "x", "theirs": strings.Repeat("x", 5000)}
	for i := range 5 {
		set(t, other, j, fmt.Sprint(i), "x")
	}
	before := maps.Clone(j)
	resp := http.Header{}
	p.Clear(resp, j.header())
	if len(resp) != 0 {
		t.Errorf("cleared %q", resp["Set-Cookie"])
	}
	for i := range 9 {
		set(t, p, j, fmt.Sprint(i), "x")
	}
	for name := range before {
		if _, ok := j[name]; !ok {
			t.Errorf("%s was deleted", name)
		}
	}
	resp = http.Header{}
	p.Clear(resp, j.header())
	if j.take(t, resp); !maps.Equal(j, before) {
		t.Errorf("left %v, want %v", slices.Sorted(maps.Keys(j)), slices.Sorted(maps.Keys(before)))
	}
}

func TestPendingPayloadThatIsTooLarge(t *testing.T) {
	t.Parallel()
	p := cookie.NewPending(pendingOptions())
	resp := http.Header{}
	err := p.Set(resp, nil, "state", make([]byte, 4000))
	if !errors.Is(err, cookie.ErrTooLarge) || len(resp) != 0 {
		t.Errorf("got %v and %v, want ErrTooLarge and nothing set", err, resp)
	}
}

// THR-24: a heap of junk costs little and is cleared away.
func TestHeapOfPendingJunk(t *testing.T) {
	t.Parallel()
	o := pendingOptions()
	inner, opened := o.Codecs[0], 0
	o.Codecs[0] = testCodec{
		encode: func(name string, b []byte) (string, error) { return inner.Encode(name, b) },
		decode: func(name, text string) (b []byte, err error) {
			opened++
			err = inner.Decode(name, text, &b)
			return b, err
		},
	}
	p, j := cookie.NewPending(o), jar{}
	for i := range 150 {
		j[p.CookieName(fmt.Sprint("junk", i))] = "x"
	}
	set(t, p, j, "state", "x")
	if len(j) > 5 || opened > 32 {
		t.Errorf("%d cookies left, %d opened", len(j), opened)
	}
	if !holds(p, j, "state", "x") {
		t.Error("the login does not open")
	}
	heap := make([]string, 3000)
	for i := range heap {
		heap[i] = p.CookieName(fmt.Sprint(i)) + "=x"
	}
	resp := http.Header{}
	if err := p.Set(resp, http.Header{"Cookie": {strings.Join(heap, "; ")}}, "state", nil); err != nil {
		t.Fatal(err)
	}
	if n := len(resp["Set-Cookie"]); n > 201 {
		t.Errorf("%d lines in the response", n)
	}
}
