package cookie_test

import (
	"bytes"
	"errors"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/cookie"
)

const sessionName = "__Host-session"

// cookieOf returns the header of a request with one session cookie.
func cookieOf(value string) http.Header {
	return http.Header{"Cookie": {sessionName + "=" + value}}
}

func loads(c *cookie.Sessions, req http.Header) bool {
	var s cookie.Session
	return c.Load(req, &s)
}

// longTokens returns tokens whose session takes several cookies: values do not compress.
func longTokens(size int) *cookie.Tokens {
	value := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
	return &cookie.Tokens{Refresh: "refresh", Values: map[string][]byte{"long": value}}
}

func TestSessionComesBackAsItWasWritten(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*cookie.Tokens){
		"reference":         func(*cookie.Tokens) {},
		"no tokens at all":  func(tk *cookie.Tokens) { *tk = cookie.Tokens{} },
		"ID token dropped":  func(tk *cookie.Tokens) { tk.IDToken = "" },
		"other claims":      func(tk *cookie.Tokens) { tk.Claims = []byte(`{"sub":"other"}`) },
		"user info":         func(tk *cookie.Tokens) { tk.UserInfo = []byte(`{"sub":"auth0|64f0c1e2a3b4c5d6e7f80912"}`) },
		"opaque tokens":     func(tk *cookie.Tokens) { tk.IDToken, tk.Access[0].Token = "opaque", "a.b.c" },
		"five-part token":   func(tk *cookie.Tokens) { tk.Access[0].Token = "eyJhIjoxfQ.eyJhIjoxfQ.c.d.e" },
		"padded segment":    func(tk *cookie.Tokens) { tk.Access[0].Token += "=" },
		"line end in token": func(tk *cookie.Tokens) { tk.Access[0].Token = "eyJhIjoxfQ.eyJhIj\noxfQ.c2ln" },
		"trailing bits":     func(tk *cookie.Tokens) { tk.Access[0].Token = "eyJhIjoxfQ.eyJhIjoxfQ.c2lnbg9" },
		"no signature":      func(tk *cookie.Tokens) { tk.IDToken = "eyJhIjoxfQ.eyJhIjoxfQ." },
		"claims that are not JSON": func(tk *cookie.Tokens) {
			tk.Claims, tk.UserInfo = []byte("text"), []byte("{")
		},
		"spaces in the refresh token": func(tk *cookie.Tokens) { tk.Refresh = " a b\x00\xff " }, // Lesson 8
		"several access tokens": func(tk *cookie.Tokens) {
			tk.Access = append(tk.Access, cookie.AccessToken{Token: "second", Type: "DPoP", Expiry: -1}, tk.Access[0])
		},
		"scope beside the payload": func(tk *cookie.Tokens) { tk.Access[0].Scope = "openid elsewhere" },
		"values": func(tk *cookie.Tokens) {
			tk.Values = map[string][]byte{"a": []byte(`1`), "": []byte(`{}`)}
		},
		"huge claims": func(tk *cookie.Tokens) {
			tk.UserInfo = []byte(`{"a":"` + strings.Repeat("a", 60_000) + `"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cookie.NewSessions(reference.options())
			want := reference.tokens(t)
			change(want)
			j := write(t, c, newSession(t, c, reference.identity(), want))
			var s cookie.Session
			if !c.Load(j.header(), &s) {
				t.Fatal("no session")
			}
			if s.Identity != reference.identity() || s.Stale {
				t.Errorf("identity %+v, stale %v", s.Identity, s.Stale)
			}
			got, err := c.Tokens(&s)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("tokens: %v\n got %+v\nwant %+v", err, got, want)
			}
			access, err := c.AccessTokens(&s)
			if err != nil || !reflect.DeepEqual(access, want.Access) {
				t.Errorf("access tokens: %v\n got %+v\nwant %+v", err, access, want.Access)
			}
			claims, err := c.Claims(&s)
			if err != nil || !bytes.Equal(claims, want.Claims) {
				t.Errorf("claims: %v\n got %s\nwant %s", err, claims, want.Claims)
			}
		})
	}
}

func TestClaimsOfAKeptIDTokenAreItsPayload(t *testing.T) {
	t.Parallel()
	c := cookie.NewSessions(reference.options())
	tokens := reference.tokens(t)
	size := func() int { return len(write(t, c, newSession(t, c, reference.identity(), tokens))[sessionName]) }
	with := size()
	tokens.Claims = nil
	if without := size(); without != with {
		t.Errorf("%d characters with claims, %d without: they are stored twice", with, without)
	}
	got, err := c.Tokens(newSession(t, c, reference.identity(), tokens))
	if err != nil || string(got.Claims) != reference.idPayload() {
		t.Errorf("got %s, %v", got.Claims, err)
	}
}

// CKE-08, CKE-09, CKE-01
func TestLinesAreWellFormed(t *testing.T) {
	t.Parallel()
	line := regexp.MustCompile(`^__Host-session(\.[1-4])?=[\w.-]+; Path=/; Max-Age=60; HttpOnly; Secure; SameSite=Lax$`)
	c := cookie.NewSessions(reference.options())
	for _, tokens := range []*cookie.Tokens{reference.tokens(t), longTokens(14_000)} {
		resp := http.Header{}
		if err := c.Write(resp, nil, newSession(t, c, reference.identity(), tokens), 60); err != nil {
			t.Fatal(err)
		}
		for _, l := range resp["Set-Cookie"] {
			if !line.MatchString(l) || !c.Owned(l) {
				t.Errorf("owned %v: %q", c.Owned(l), l)
			}
			if pair, _, _ := strings.Cut(l, ";"); len(pair)-1 > 4096 {
				t.Errorf("name and value take %d octets", len(pair)-1)
			}
		}
	}
}

func TestOwnedLines(t *testing.T) {
	t.Parallel()
	c := cookie.NewSessions(reference.options())
	for line, want := range map[string]bool{
		"__Host-session=x; Path=/":   true,
		" __Host-session = x":        true,
		"__Host-session.4=":          true,
		"__Host-session.5=x":         false,
		"__Host-session.0=x":         false,
		"__host-session=x":           false,
		"__Host-session.ended=x":     false,
		"other=__Host-session=x":     false,
		"":                           false,
		"x; __Host-session=planted;": false,
	} {
		if got := c.Owned(line); got != want {
			t.Errorf("Owned(%q) = %v", line, got)
		}
	}
}

// S43, CKE-04, THR-10
func TestDuplicatesOfTheCookie(t *testing.T) {
	t.Parallel()
	c := cookie.NewSessions(reference.options())
	value := func(subject string) string {
		id := reference.identity()
		id.Subject = subject
		return write(t, c, newSession(t, c, id, &cookie.Tokens{}))[sessionName]
	}
	alice, mallory := value("alice"), value("mallory")
	n := sessionName + "="
	for name, tt := range map[string]struct {
		lines []string
		want  bool
	}{
		"one":                         {[]string{n + alice}, true},
		"the same twice":              {[]string{n + alice + "; " + n + alice}, true},
		"two sessions":                {[]string{n + alice + "; " + n + mallory}, false},
		"two sessions, two lines":     {[]string{n + mallory, "x=y", n + alice}, false},
		"junk first":                  {[]string{n + "junk; " + n + alice}, true},
		"junk last":                   {[]string{n + alice + ";" + n + "junk.junk"}, true},
		"empty first":                 {[]string{n + "; " + n + alice}, true},
		"three times junk":            {[]string{n + "a; " + n + "b; " + n + "c; " + n + alice}, true},
		"more junk than is tried":     {[]string{n + "a; " + n + "b; " + n + "c; " + n + "d; " + n + alice}, false},
		"more junk behind it":         {[]string{n + alice + "; " + n + "a; " + n + "b; " + n + "c; " + n + "d"}, false},
		"another case":                {[]string{"__host-session=" + alice}, false},
		"other case beside it":        {[]string{"__host-session=" + mallory + "; " + n + alice}, true},
		"name with something behind":  {[]string{n[:len(n)-1] + "x=" + alice}, false},
		"in quotes":                   {[]string{n + `"` + alice + `"`}, false},
		"spaces and tabs around":      {[]string{" \t" + n + alice + " \t;"}, true},
		"among 200 others":            {[]string{strings.Repeat("junk=1; ", 200) + n + alice}, true},
		"behind more than are looked": {[]string{strings.Repeat("j=1;", 3000) + n + alice}, false},
		"no value":                    {[]string{sessionName}, false},
		"no header":                   {nil, false},
	} {
		req := http.Header{"Cookie": tt.lines}
		if got := loads(c, req); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
		if tt.want && !c.Present(req) {
			t.Errorf("%s: not present", name)
		}
	}
	for _, absent := range []string{"", "__host-session=x", "x=y; __Host-session", "__Host-session.1=x"} {
		if c.Present(http.Header{"Cookie": {absent}}) {
			t.Errorf("%q: present", absent)
		}
	}
}

func TestLoadLeavesItsTargetAloneWithoutASession(t *testing.T) {
	t.Parallel()
	c := cookie.NewSessions(reference.options())
	s := cookie.Session{Identity: reference.identity()}
	if c.Load(cookieOf("junk.junk"), &s) || s.Identity != reference.identity() {
		t.Errorf("got %+v", s.Identity)
	}
}

func TestTooLargeSessionChangesNothing(t *testing.T) {
	t.Parallel()
	c := cookie.NewSessions(reference.options())
	s := newSession(t, c, reference.identity(), &cookie.Tokens{Refresh: "kept"})
	// CKE-02
	if err := c.SetTokens(s, longTokens(40<<10)); !errors.Is(err, cookie.ErrTooLarge) {
		t.Fatalf("got %v, want ErrTooLarge", err)
	}
	if got, err := c.Tokens(s); err != nil || got.Refresh != "kept" {
		t.Errorf("got %+v, %v", got, err)
	}
	s.Identity.Subject = strings.Repeat("s", 2000)
	resp := http.Header{}
	if err := c.Write(resp, nil, s, 0); !errors.Is(err, cookie.ErrTooLarge) || len(resp) != 0 {
		t.Errorf("got %v and %v, want ErrTooLarge and nothing set", err, resp)
	}
}

// performance.md: held here, since allocations are exact.
func TestAllocations(t *testing.T) {
	c := cookie.NewSessions(reference.options())
	req := write(t, c, newSession(t, c, reference.identity(), reference.tokens(t))).header()
	var s cookie.Session
	for name, tt := range map[string]struct {
		limit float64
		run   func()
	}{
		"Present": {0, func() { c.Present(req) }},
		"Load":    {4, func() { c.Load(req, &s) }},
		"Write":   {10, func() { _ = c.Write(http.Header{}, req, &s, 60) }},
	} {
		if got := testing.AllocsPerRun(100, tt.run); got > tt.limit {
			t.Errorf("%s: %v allocations, want at most %v", name, got, tt.limit)
		}
	}
}
