package cookie_test

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/cookie"
)

func chunk(i int) string { return sessionName + "." + strconv.Itoa(i) }

// Lesson 10, CKE-03: stale parts go in the same response, whichever way the session changes.
func TestGrowingAndShrinking(t *testing.T) {
	t.Parallel()
	c := cookie.NewSessions(reference.options())
	j := jar{}
	for _, size := range []int{10, 9_000, 14_500, 4_000, 12_000, 10} {
		want := longTokens(size)
		s := newSession(t, c, reference.identity(), want)
		resp := http.Header{}
		if err := c.Write(resp, j.header(), s, 60); err != nil {
			t.Fatal(err)
		}
		j.take(t, resp)
		names := []string{sessionName}
		for i := 1; i < len(write(t, c, s)); i++ {
			names = append(names, chunk(i))
		}
		if got := slices.Sorted(maps.Keys(j)); !slices.Equal(got, names) {
			t.Errorf("%d bytes: cookies %v, want %v", size, got, names)
		}
		var loaded cookie.Session
		if !c.Load(j.header(), &loaded) {
			t.Fatalf("%d bytes: no session", size)
		}
		if got, err := c.Tokens(&loaded); err != nil || len(got.Values["long"]) != size {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestASecondWriteInOneResponseReplacesTheFirst(t *testing.T) {
	t.Parallel()
	c := cookie.NewSessions(reference.options())
	resp, j := http.Header{}, jar{}
	for _, size := range []int{9_000, 10} {
		if err := c.Write(resp, nil, newSession(t, c, reference.identity(), longTokens(size)), 60); err != nil {
			t.Fatal(err)
		}
	}
	j.take(t, resp)
	if len(j) != 1 || !loads(c, j.header()) {
		t.Errorf("the browser holds %v", slices.Sorted(maps.Keys(j)))
	}
}

func TestClearDeletesEveryPart(t *testing.T) {
	t.Parallel()
	c := cookie.NewSessions(reference.options())
	j := write(t, c, newSession(t, c, reference.identity(), longTokens(14_500)))
	j["other"] = "kept"
	resp := http.Header{}
	c.Clear(resp, j.header())
	j.take(t, resp)
	if len(j) != 1 {
		t.Errorf("left: %v", slices.Sorted(maps.Keys(j)))
	}
	resp = http.Header{}
	c.Clear(resp, http.Header{})
	if got := resp["Set-Cookie"]; len(got) != 1 || !strings.HasPrefix(got[0], sessionName+"=; ") {
		t.Errorf("without a cookie: %q", got)
	}
	// What was set before in the same response goes too.
	resp = http.Header{}
	if err := c.Write(resp, nil, newSession(t, c, reference.identity(), longTokens(9_000)), 60); err != nil {
		t.Fatal(err)
	}
	c.Clear(resp, nil)
	j = jar{}
	if j.take(t, resp); len(j) != 0 {
		t.Errorf("left: %v", slices.Sorted(maps.Keys(j)))
	}
}

// THR-20, CVE-2024-24814
func TestIncompleteAndMixedPartsAreNoSession(t *testing.T) {
	t.Parallel()
	c := cookie.NewSessions(reference.options())
	other := reference.identity()
	other.ID[0] ^= 1
	newer := reference.identity()
	newer.Generation++
	three := func(id cookie.Identity) jar { return write(t, c, newSession(t, c, id, longTokens(8_000))) }
	whole, ofOther, ofNewer, again := three(reference.identity()), three(other), three(newer), three(reference.identity())
	if len(whole) != 3 {
		t.Fatalf("%d cookies, want 3", len(whole))
	}
	tests := map[string]struct {
		change func(jar)
		want   bool
	}{
		"whole":                   {func(jar) {}, true},
		"a stale part beyond":     {func(j jar) { j[chunk(3)] = "stale" }, true},
		"second missing":          {func(j jar) { delete(j, chunk(1)) }, false},
		"last missing":            {func(j jar) { delete(j, chunk(2)) }, false},
		"first missing":           {func(j jar) { delete(j, sessionName) }, false},
		"last empty":              {func(j jar) { j[chunk(2)] = "" }, false},
		"swapped":                 {func(j jar) { j[chunk(1)], j[chunk(2)] = j[chunk(2)], j[chunk(1)] }, false},
		"cut":                     {func(j jar) { j[chunk(2)] = j[chunk(2)][1:] }, false},
		"longer":                  {func(j jar) { j[chunk(2)] += "A" }, false},
		"of another session":      {func(j jar) { j[chunk(1)] = ofOther[chunk(1)] }, false},
		"of another generation":   {func(j jar) { j[chunk(2)] = ofNewer[chunk(2)] }, false},
		"of another writing":      {func(j jar) { j[chunk(1)] = again[chunk(1)] }, false},
		"first of another":        {func(j jar) { j[sessionName] = ofOther[sessionName] }, false},
		"first of a newer":        {func(j jar) { j[sessionName] = ofNewer[sessionName] }, false},
		"all of another":          {func(j jar) { maps.Copy(j, ofOther) }, true},
		"part of another, doubly": {func(j jar) { j[chunk(1)] += "; " + chunk(1) + "=" + ofOther[chunk(1)] }, false},
		"one part twice":          {func(j jar) { j[chunk(1)] += "; " + chunk(1) + "=" + j[chunk(1)] }, true},
		"two whole sessions": {func(j jar) {
			for name, value := range ofOther {
				j[name] += "; " + name + "=" + value
			}
		}, false}, // S43
	}
	for name, tt := range tests {
		j := maps.Clone(whole)
		tt.change(j)
		if got := loads(c, j.header()); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// Lesson 10: an exact multiple of what a cookie holds announces no empty part.
func TestExactMultiples(t *testing.T) {
	t.Parallel()
	c := cookie.NewSessions(reference.options())
	full := 0
	for size := 2_780; size < 2_880; size++ {
		// Base64 has no length of 4n+1: the subject's length moves the rest.
		for extra := range 3 {
			id := reference.identity()
			id.Subject += strings.Repeat("x", extra)
			j := write(t, c, newSession(t, c, id, longTokens(size)))
			for name, value := range j {
				if value == "" {
					t.Fatalf("%d bytes: %s is empty", size, name)
				}
			}
			if len(j) == 1 && len(sessionName)+len(j[sessionName]) == 4096 {
				full++
			}
			if !loads(c, j.header()) {
				t.Fatalf("%d bytes: no session", size)
			}
		}
	}
	if full == 0 {
		t.Error("no size filled one cookie exactly: the test tests nothing")
	}
}

// CKE-03: the count is read from the sealed identity, and a lie there costs nothing.
func TestCountsThatLie(t *testing.T) {
	t.Parallel()
	c := cookie.NewSessions(reference.options())
	id := reference.identity()
	tokens, err := c.PackTokens(&id, longTokens(100))
	if err != nil {
		t.Fatal(err)
	}
	for count, want := range map[int]bool{0: false, 1: true, 2: false, 5: false, 6: false, 255: false} {
		value, err := c.Forge(&id, c.PackIdentity(&id, count), tokens)
		if err != nil {
			t.Fatal(err)
		}
		if got := loads(c, cookieOf(value)); got != want {
			t.Errorf("one cookie that says it is %d: %v, want %v", count, got, want)
		}
	}
}

func TestRollKeepsTheTokensAsTheyAre(t *testing.T) {
	t.Parallel()
	c := cookie.NewSessions(reference.options())
	for _, size := range []int{100, 9_000} {
		before := write(t, c, newSession(t, c, reference.identity(), longTokens(size)))
		var s cookie.Session
		if !c.Load(before.header(), &s) {
			t.Fatal("no session")
		}
		s.Identity.Seen += 3600
		after := write(t, c, &s)
		_, oldTokens, _ := strings.Cut(before[sessionName], ".")
		_, newTokens, _ := strings.Cut(after[sessionName], ".")
		if oldTokens != newTokens || !loads(c, after.header()) {
			t.Errorf("%d bytes: the tokens were sealed again or do not open", size)
		}
	}
}
