package cookie_test

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/cookie"
)

// stored is a Set whose sessions are in a store.
func stored(change ...func(*cookie.SetOptions)) cookie.Set {
	o := setOptions()
	o.Stored = true
	for _, f := range change {
		f(&o)
	}
	return cookie.NewSet(o)
}

// ticket returns the cookie that a set writes for id, as name=value.
func ticket(t *testing.T, c *cookie.Sessions, id [32]byte) string {
	t.Helper()
	resp := http.Header{}
	if err := c.WriteTicket(resp, nil, id, 60); err != nil {
		t.Fatal(err)
	}
	pair, _, _ := strings.Cut(resp.Get("Set-Cookie"), ";")
	return pair
}

func cookies(pairs ...string) http.Header { return http.Header{"Cookie": {strings.Join(pairs, "; ")}} }

const otherSecret = "another-secret-of-thirty-two-bytes-or-more"

// S43, S47: what is no ticket of ours is refused before a store is asked.
func TestTickets(t *testing.T) {
	t.Parallel()
	a, b := [32]byte{1}, [32]byte{2}
	c := stored().Sessions
	mine, other := ticket(t, c, a), ticket(t, c, b)
	name, value, _ := strings.Cut(mine, "=")
	flip := func(i int) string {
		changed := []byte(value)
		changed[i] ^= 1
		return name + "=" + string(changed)
	}
	for what, tt := range map[string]struct {
		header http.Header
		ok     bool
	}{
		"a ticket":               {cookies(mine), true},
		"beside others":          {cookies("x=y", mine, "z=w"), true},
		"twice the same":         {cookies(mine, mine), true},
		"beside junk":            {cookies(name+"=junk", mine), true},
		"none":                   {http.Header{}, false},
		"two that differ":        {cookies(mine, other), false},
		"another name":           {cookies("session=" + value), false},
		"another id":             {cookies(flip(0)), false},
		"another MAC":            {cookies(flip(len(value) - 3)), false},
		"shorter":                {cookies(mine[:len(mine)-1]), false},
		"longer":                 {cookies(mine + "A"), false},
		"with padding":           {cookies(mine + "=="), false},
		"an id alone":            {cookies(name + "=" + value[:43]), false},
		"empty":                  {cookies(name + "="), false},
		"a session of the other": {cookies(name + "=" + strings.Repeat("A", 54)), false},
	} {
		id, stale, ok := c.Ticket(tt.header)
		if ok != tt.ok || stale || ok && id != a || !ok && id != [32]byte{} {
			t.Errorf("%s: %x %t %t", what, id[:2], stale, ok)
		}
	}
	for what, change := range map[string]func(*cookie.SetOptions){
		"issuer":      func(o *cookie.SetOptions) { o.Issuer = "https://b.example/" },
		"client":      func(o *cookie.SetOptions) { o.ClientID = "another" },
		"base URL":    func(o *cookie.SetOptions) { o.BaseURL = "https://app.example.com/b" },
		"secret":      func(o *cookie.SetOptions) { o.Secrets = []string{otherSecret} },
		"cookie name": func(o *cookie.SetOptions) { o.Session.Name = "__Host-app" },
	} {
		foreign := ticket(t, stored(change).Sessions, a)
		_, v, _ := strings.Cut(foreign, "=")
		if _, _, ok := c.Ticket(cookies(name + "=" + v)); ok {
			t.Errorf("a ticket of another %s is taken", what)
		}
		if what != "secret" && stored(change).Sessions.Key(cookie.Handle(a)) == c.Key(cookie.Handle(a)) { // S10: a secret does not name entries
			t.Errorf("of another %s the entry has the same key", what)
		}
	}
	set := stored()
	_, v, _ := strings.Cut(ticket(t, set.Offered, a), "=")
	if _, _, ok := set.Sessions.Ticket(cookies(name + "=" + v)); ok {
		t.Error("what is offered opens as a session") // S11
	}
}

// Lesson 17, S10: secrets change step by step, and a ticket goes on being one.
func TestTicketsOfSeveralSecrets(t *testing.T) {
	t.Parallel()
	secrets := func(list ...string) *cookie.Sessions {
		return stored(func(o *cookie.SetOptions) { o.Secrets = list }).Sessions
	}
	id := [32]byte{7}
	old := cookies(ticket(t, secrets(testSecret), id))
	for _, tt := range []struct {
		secrets   []string
		stale, ok bool
	}{
		{[]string{testSecret}, false, true},
		{[]string{testSecret, otherSecret}, false, true},
		{[]string{otherSecret, testSecret}, true, true},
		{[]string{otherSecret}, false, false},
	} {
		c := secrets(tt.secrets...)
		got, stale, ok := c.Ticket(old)
		if stale != tt.stale || ok != tt.ok || ok && got != id || c.Key(cookie.Handle(id)) != secrets(testSecret).Key(cookie.Handle(id)) {
			t.Errorf("%q: %t %t", tt.secrets, stale, ok)
		}
	}
}

// S11: an entry belongs to its key, and is no cookie.
func TestEntries(t *testing.T) {
	t.Parallel()
	set := stored()
	c := set.Sessions
	s := newSession(t, c, reference.identity(), reference.tokens(t))
	data, err := c.SealEntry(s)
	if err != nil {
		t.Fatal(err)
	}
	id := s.Identity.ID
	var back cookie.Session
	if !c.OpenEntry(c.Key(cookie.Handle(id)), data, &back) || back.Identity != s.Identity || back.Stale {
		t.Fatalf("it comes back as %+v", back.Identity)
	}
	tokens, err := c.Tokens(&back)
	if err != nil || tokens.Refresh != reference.refresh || tokens.IDToken != reference.tokens(t).IDToken && len(tokens.IDToken) == 0 {
		t.Fatalf("its tokens: %v", err)
	}
	if strings.Contains(string(data), reference.subject) || len(c.Key(cookie.Handle(id))) != 43 {
		t.Errorf("the entry is %d octets under %s", len(data), c.Key(cookie.Handle(id)))
	}
	untouched := cookie.Session{Identity: cookie.Identity{Subject: "before"}}
	refused := func(what string, c *cookie.Sessions, id [32]byte, data []byte) {
		t.Helper()
		dst := untouched
		if c.OpenEntry(c.Key(cookie.Handle(id)), data, &dst) || dst != untouched {
			t.Errorf("%s opens", what)
		}
	}
	refused("under another id", c, [32]byte{9}, data)
	refused("cut", c, id, data[:60])
	refused("without its tokens", c, id, []byte(strings.SplitN(string(data), ".", 2)[0]))
	refused("empty", c, id, nil)
	refused("a megabyte", c, id, append(bytes.Repeat([]byte("A"), 1<<20), data...))
	for what, change := range map[string]func(*cookie.SetOptions){
		"issuer":      func(o *cookie.SetOptions) { o.Issuer = "https://b.example/" },
		"client":      func(o *cookie.SetOptions) { o.ClientID = "another" },
		"base URL":    func(o *cookie.SetOptions) { o.BaseURL = "https://app.example.com/b" },
		"secret":      func(o *cookie.SetOptions) { o.Secrets = []string{otherSecret} },
		"cookie name": func(o *cookie.SetOptions) { o.Session.Name = "__Host-app" },
	} {
		refused("of another "+what, stored(change).Sessions, id, data)
	}
	// As a cookie of sessions that are in it, and the other way round.
	inCookie := cookie.NewSet(setOptions()).Sessions
	var dst cookie.Session
	if inCookie.Load(cookies("__Host-session="+string(data)), &dst) || c.Load(cookies("__Host-session="+string(data)), &dst) {
		t.Error("an entry is a cookie")
	}
	value := write(t, inCookie, newSession(t, inCookie, reference.identity(), reference.tokens(t)))["__Host-session"]
	refused("a cookie", c, id, []byte(value))
	// The tokens of one session under the identity of another, and what is left of some.
	other := reference.identity()
	other.ID = [32]byte{5}
	foreign, err := c.SealEntry(newSession(t, c, other, &cookie.Tokens{Refresh: "mallory's"}))
	if err != nil {
		t.Fatal(err)
	}
	identity, box, _ := strings.Cut(string(data), ".")
	_, foreignBox, _ := strings.Cut(string(foreign), ".")
	for _, rest := range []string{foreignBox, box[:len(box)/2], "A"} {
		if !c.OpenEntry(c.Key(cookie.Handle(id)), []byte(identity+"."+rest), &dst) {
			continue
		}
		if tokens, err := c.Tokens(&dst); err == nil {
			t.Errorf("tokens open that are not the session's: %v", tokens)
		}
	}
}

func TestAnEntryHoldsMoreThanCookies(t *testing.T) {
	t.Parallel()
	c := stored().Sessions
	s := newSession(t, c, reference.identity(), &cookie.Tokens{Values: map[string][]byte{"a": []byte(strings.Repeat("x", 100_000))}})
	data, err := c.SealEntry(s)
	var back cookie.Session
	if err != nil || !c.OpenEntry(c.Key(cookie.Handle(s.Identity.ID)), data, &back) {
		t.Fatalf("100 KB: %v", err)
	}
	if tokens, err := c.Tokens(&back); err != nil || len(tokens.Values["a"]) != 100_000 {
		t.Errorf("they come back with %v", err)
	}
	if err := c.SetTokens(s, &cookie.Tokens{Values: map[string][]byte{"a": make([]byte, 1<<20)}}); err == nil {
		t.Error("a megabyte is no error")
	}
}

// S10: tags name nobody without a secret, and are looked for under each.
func TestTags(t *testing.T) {
	t.Parallel()
	tags := func(secrets ...string) cookie.Tags {
		return stored(func(o *cookie.SetOptions) { o.Secrets = secrets }).Tags
	}
	one, both := tags(testSecret).Of("subject", "alice"), tags(otherSecret, testSecret).Of("subject", "alice")
	if len(one) != 1 || len(one[0]) != 43 || len(both) != 2 || both[1] != one[0] || both[0] != tags(otherSecret).Of("subject", "alice")[0] {
		t.Errorf("%q and %q", one, both)
	}
	all := []string{
		one[0], tags(testSecret).Of("subject", "bob")[0], tags(testSecret).Of("sid", "alice")[0],
		stored(func(o *cookie.SetOptions) { o.ClientID = "another" }).Tags.Of("subject", "alice")[0],
		stored(func(o *cookie.SetOptions) { o.Session.Name = "__Host-app" }).Tags.Of("subject", "alice")[0],
		both[0],
	}
	slices.Sort(all)
	if len(slices.Compact(all)) != 6 {
		t.Errorf("tags repeat: %q", all)
	}
}

func FuzzTicket(f *testing.F) {
	c := stored().Sessions
	id := [32]byte{1}
	resp := http.Header{}
	if err := c.WriteTicket(resp, nil, id, 60); err != nil {
		f.Fatal(err)
	}
	good, _, _ := strings.Cut(resp.Get("Set-Cookie"), ";")
	for _, seed := range []string{good, good + "; " + good, "__Host-session=", "__Host-session=" + strings.Repeat("A", 54), "__Host-session=a.b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if got, stale, ok := c.Ticket(http.Header{"Cookie": {header}}); ok && (got != id || stale || !strings.Contains(header, good)) {
			t.Errorf("%q is a ticket for %x", header, got)
		}
	})
}

func FuzzEntry(f *testing.F) {
	c := stored().Sessions
	s := cookie.Session{Identity: reference.identity()}
	if err := c.SetTokens(&s, &cookie.Tokens{Refresh: "r"}); err != nil {
		f.Fatal(err)
	}
	good, err := c.SealEntry(&s)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{good, nil, []byte("."), []byte("a.b"), good[:len(good)-1]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var dst cookie.Session
		if !c.OpenEntry(c.Key(cookie.Handle(s.Identity.ID)), data, &dst) {
			return
		}
		if dst.Identity != s.Identity {
			t.Errorf("%q is a session of %q", data, dst.Identity.Subject)
		}
		_, _ = c.Tokens(&dst)
	})
}
