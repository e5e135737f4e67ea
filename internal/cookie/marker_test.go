package cookie_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/cookie"
)

// marked is what a browser has after a set has said that the session with an id has ended.
func marked(t *testing.T, set cookie.Set, id [32]byte) (pair, line string) {
	t.Helper()
	resp := http.Header{}
	set.Ended.Set(resp, http.Header{}, id, 3600)
	if len(resp["Set-Cookie"]) != 1 {
		t.Fatalf("%d lines", len(resp["Set-Cookie"]))
	}
	line = resp.Get("Set-Cookie")
	pair, _, _ = strings.Cut(line, ";")
	return pair, line
}

// S21: the cookie says which session has ended in this browser, to all processes and for no other session.
func TestMarkers(t *testing.T) {
	t.Parallel()
	a, b := [32]byte{1}, [32]byte{2}
	set := vaultSet()
	mine, line := marked(t, set, a)
	other, _ := marked(t, set, b)
	name, value, _ := strings.Cut(mine, "=")
	for what, tt := range map[string]struct {
		header  http.Header
		present bool
		has     bool
	}{
		"it alone":                 {cookies(mine), true, true},
		"beside others":            {cookies("x=y", mine, "z=w"), true, true},
		"before another session":   {cookies(mine + strings.TrimPrefix(other, name+"=")), true, true},
		"after another session":    {cookies(other + value), true, true},
		"after three others":       {cookies(other + value[:8] + value + value[:8] + value), true, false},
		"across two pieces":        {cookies(name + "=" + strings.Repeat("A", 8) + value + strings.Repeat("A", 8)), true, false},
		"beside a session":         {cookies("__Host-session=junk", mine), true, true},
		"of another session":       {cookies(other), true, false},
		"twice, and one is its":    {cookies(other, mine), true, true},
		"in a second field":        {http.Header{"Cookie": {other, mine}}, true, true},
		"none":                     {http.Header{}, false, false},
		"empty":                    {cookies(name + "="), true, false},
		"junk":                     {cookies(name + "=junk"), true, false},
		"shorter":                  {cookies(mine[:len(mine)-1]), true, false},
		"longer":                   {cookies(mine + "A"), true, false},
		"in other letters":         {cookies(name + "=" + strings.ToUpper(value)), true, false},
		"under another name":       {cookies("session.ended=" + value), false, false},
		"under the session's name": {cookies("__Host-session=" + value), false, false},
	} {
		if got := set.Ended.Present(tt.header); got != tt.present {
			t.Errorf("%s: present: %v", what, got)
		}
		if got := set.Ended.Has(tt.header, a); got != tt.has {
			t.Errorf("%s: the session has ended: %v", what, got)
		}
	}
	for _, attribute := range []string{"; Path=/", "; Max-Age=3600", "; HttpOnly", "; Secure", "; SameSite=Lax"} {
		if !strings.Contains(line, attribute) {
			t.Errorf("%q is not in %s", attribute, strings.TrimPrefix(line, mine))
		}
	}
	if name != "__Host-session.ended" || strings.Contains(line, cookie.Handle(a)) || len(value) != 16 {
		t.Errorf("the cookie is %s", name) // a log has the handle, and nobody who reads it knows of a browser
	}
	if set.Sessions.Present(cookies(mine)) || set.Sessions.Owned(line) {
		t.Error("it is taken for the session's cookie")
	}
	if another, _ := marked(t, vaultSet(secretsAre(otherSecret)), a); another != mine {
		t.Error("it changes with the secret")
	}
}

// A browser in which several sessions have ended knows of the last three, also if they came in two cookies.
func TestAMarkerKnowsTheLastThree(t *testing.T) {
	t.Parallel()
	m := vaultSet().Ended
	id := func(i int) [32]byte { return [32]byte{byte(i)} }
	has := cookies("x=y")
	for i := range 9 {
		for range 2 { // once more the same changes nothing
			resp := http.Header{}
			m.Set(resp, has, id(i), 60)
			pair, _, _ := strings.Cut(resp.Get("Set-Cookie"), ";")
			has = cookies("x=y", pair)
			for j := range 9 {
				if want := i-3 < j && j <= i; m.Has(has, id(j)) != want {
					t.Errorf("after session %d it knows of session %d: %v", i, j, !want)
				}
			}
		}
	}
	resp := http.Header{}
	const name = "__Host-session.ended="
	planted := cookies(name+strings.Repeat("A", 48), name+strings.Repeat(`"`, 16), has.Get("Cookie"))
	m.Set(resp, planted, id(9), 60)
	line := resp.Get("Set-Cookie")
	if pair, _, _ := strings.Cut(line, ";"); !m.Has(cookies(pair), id(9)) || len(pair) > 80 || strings.Contains(pair, `"`) {
		t.Errorf("beside what somebody has planted it is %q", pair)
	}
}

// What is set later in the same answer replaces it, and it shares the session's attributes.
func TestMarkersHaveTheSessionsAttributes(t *testing.T) {
	t.Parallel()
	set := vaultSet(func(o *cookie.SetOptions) {
		o.Session = cookie.Attributes{
			Name: "app", Domain: "example.com", Secure: true, SameSite: http.SameSiteStrictMode, Partitioned: true,
		}
	})
	resp := http.Header{}
	set.Ended.Set(resp, http.Header{}, [32]byte{1}, 60)
	set.Ended.Set(resp, http.Header{}, [32]byte{2}, 60)
	lines := resp["Set-Cookie"]
	if len(lines) != 1 {
		t.Fatalf("%d lines", len(lines))
	}
	for _, part := range []string{
		"app.ended=", "; Domain=example.com", "; SameSite=Strict", "; Partitioned", "; Secure", "; HttpOnly",
	} {
		if !strings.Contains(lines[0], part) {
			t.Errorf("%q is not in it", part)
		}
	}
	pair, _, _ := strings.Cut(lines[0], ";")
	if h := cookies(pair); !set.Ended.Has(h, [32]byte{2}) {
		t.Error("it is not the last one")
	}
}
