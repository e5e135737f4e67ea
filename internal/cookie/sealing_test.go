package cookie_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/securecookie"

	"github.com/oidcauth/oidcauth/internal/cookie"
)

// S11, THR-16, lesson 16: whatever differs in purpose, name, issuer, client or base URL does not open.
func TestSwapMatrix(t *testing.T) {
	t.Parallel()
	type site struct {
		label    string
		sessions *cookie.Sessions
		pending  *cookie.Pending
		value    string
	}
	for kind, wrap := range map[string]func(securecookie.Codec) securecookie.Codec{
		"our codec":             func(c securecookie.Codec) securecookie.Codec { return c },
		"a codec without names": ignoringName,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			// One key for everything, as a codec of the user's has.
			codecs := []securecookie.Codec{wrap(cookie.Codecs([]string{testSecret}, "session")[0])}
			var sites []site
			for _, name := range []string{sessionName, "__Host-app"} {
				for _, issuer := range []string{"https://a.example", "https://b.example"} {
					for _, client := range []string{"one", "two", "onehttps://x"} {
						for _, base := range []string{"https://x", "https://x/app", ""} {
							binding := []string{issuer, client, base}
							attr := cookie.Attributes{Name: name}
							c := cookie.NewSessions(cookie.SessionOptions{Attributes: attr, Codecs: codecs, Binding: binding})
							s := newSession(t, c, reference.identity(), &cookie.Tokens{Refresh: "r"})
							sites = append(sites, site{
								label: fmt.Sprint(name, binding), sessions: c, value: write(t, c, s)[name],
							})
							for _, purpose := range []string{"login", "session"} {
								p := cookie.NewPending(cookie.PendingOptions{
									Attributes: attr, Codecs: codecs, Binding: binding, Purpose: purpose,
									TTL: minute, Max: 5, MaxBytes: 4096,
								})
								resp, j := http.Header{}, jar{}
								if err := p.Set(resp, nil, "state", []byte("x")); err != nil {
									t.Fatal(err)
								}
								j.take(t, resp)
								sites = append(sites, site{
									label: fmt.Sprint(purpose, name, binding), pending: p, value: j[p.CookieName("state")],
								})
							}
						}
					}
				}
			}
			for i, from := range sites {
				for k, to := range sites {
					opened := false
					switch {
					case to.pending != nil:
						h := http.Header{"Cookie": {to.pending.CookieName("state") + "=" + from.value}}
						_, opened = to.pending.Get(h, "state")
					case from.pending != nil:
						// A session's value is two boxes.
						opened = loads(to.sessions, header(from.value+"."+from.value))
					default:
						opened = loads(to.sessions, header(from.value))
					}
					if opened != (i == k) {
						t.Fatalf("sealed for %s, opened by %s: %v", from.label, to.label, opened)
					}
				}
			}
		})
	}
}

// header returns a request with value under both names.
func header(value string) http.Header {
	return http.Header{"Cookie": {sessionName + "=" + value + "; __Host-app=" + value}}
}

// S11: the tokens of one session, generation or site do not open in another.
func TestTokensBelongToOneSessionAndGeneration(t *testing.T) {
	t.Parallel()
	for kind, wrap := range map[string]func(securecookie.Codec) securecookie.Codec{
		"our codec":             func(c securecookie.Codec) securecookie.Codec { return c },
		"a codec without names": ignoringName,
	} {
		o := reference.options()
		o.Codecs[0] = wrap(o.Codecs[0])
		here := cookie.NewSessions(o)
		o.Binding = []string{"https://other.example", "client", "https://app.example.com"}
		there := cookie.NewSessions(o)
		id, newer, other := reference.identity(), reference.identity(), reference.identity()
		newer.Generation++
		other.ID[31] ^= 1
		from := []struct {
			site *cookie.Sessions
			id   cookie.Identity
		}{{here, id}, {here, newer}, {here, other}, {there, id}}
		for _, size := range []int{10, 6_000} {
			boxes := func(i int) (identity, tokens string) {
				j := write(t, from[i].site, newSession(t, from[i].site, from[i].id, longTokens(size)))
				identity, tokens, _ = strings.Cut(j[sessionName]+j[chunk(1)]+j[chunk(2)], ".")
				return identity, tokens
			}
			for i := range from {
				for k, to := range from {
					_, tokens := boxes(i)
					identity, _ := boxes(k)
					if got, want := opensBoth(to.site, identity+"."+tokens), i == k; got != want {
						t.Errorf("%s, %d bytes: tokens of %d in session %d: %v, want %v", kind, size, i, k, got, want)
					}
				}
			}
		}
	}
}

// opensBoth cuts value into cookies and reports whether its two boxes open. Tokens in several cookies are opened when
// the session is loaded.
func opensBoth(c *cookie.Sessions, value string) bool {
	j := jar{}
	for name := sessionName; value != ""; name = chunk(len(j)) {
		n := min(len(value), 4096-len(name))
		j[name], value = value[:n], value[n:]
	}
	var s cookie.Session
	if !c.Load(j.header(), &s) {
		return false
	}
	_, err := c.Tokens(&s)
	return len(j) > 1 || err == nil
}

// S18: a securecookie with its defaults, in one cookie and in several.
func TestSecurecookieAsSessionCodec(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789abcdef0123456789abcdef")
	given := securecookie.New(key, key)
	o := reference.options()
	o.Codecs = []securecookie.Codec{given}
	c := cookie.NewSessions(o)
	for _, tokens := range []*cookie.Tokens{{Refresh: "r"}, longTokens(6_000)} {
		j := write(t, c, newSession(t, c, reference.identity(), tokens))
		var s cookie.Session
		if !c.Load(j.header(), &s) {
			t.Fatalf("no session in %d cookies", len(j))
		}
		if got, err := c.Tokens(&s); err != nil || got.Refresh != tokens.Refresh {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	if _, err := given.Encode("n", bytes.Repeat([]byte("x"), 5000)); err == nil {
		t.Error("the limit of the user's own value was changed")
	}
}

func TestCodecThatWritesFullStopsIsRefused(t *testing.T) {
	t.Parallel()
	o := reference.options()
	o.Codecs[0] = wrapping(o.Codecs[0], func(s string) string { return s + "; Domain=x" }, strings.TrimSpace)
	c := cookie.NewSessions(o)
	if err := c.SetTokens(&cookie.Session{}, &cookie.Tokens{}); err == nil {
		t.Error("no error")
	}
	if err := cookie.NewSessions(cookie.SessionOptions{}).SetTokens(&cookie.Session{}, &cookie.Tokens{}); err == nil {
		t.Error("no error without a codec")
	}
}

// S22, THR-23: lengths say nothing of what is secret, whatever the claims hold.
func TestLengthsDoNotDependOnSecrets(t *testing.T) {
	t.Parallel()
	c := cookie.NewSessions(reference.options())
	r := newRandom(22)
	secret := reference.tokens(t)
	// A right guess is what the dictionary and a claim hold, so that it would compress.
	const likely = "openid profile email phone address offline_access read: write: openid profile email"
	guess := []string{likely[:64], likely, likely[:40], likely[:30]}
	signed := func(name, signature string) string {
		payload := strings.Replace(reference.idPayload(), reference.name, name, 1)
		return segment(`{"alg":"RS256"}`) + "." + segment(payload) + "." + segment(signature)
	}
	tests := map[string]func(name string, hit bool) *cookie.Tokens{
		"refresh token": func(name string, hit bool) *cookie.Tokens {
			return &cookie.Tokens{IDToken: signed(name, "sig"), Refresh: r.guessed(guess[0], hit)}
		},
		"signature": func(name string, hit bool) *cookie.Tokens {
			return &cookie.Tokens{IDToken: signed(name, r.guessed(guess[1], hit)), Access: secret.Access}
		},
		"signature of an access token": func(name string, hit bool) *cookie.Tokens {
			token := signed(name, r.guessed(guess[1], hit))
			return &cookie.Tokens{IDToken: signed(name, "sig"), Access: []cookie.AccessToken{{Token: token}}}
		},
		"opaque access token": func(name string, hit bool) *cookie.Tokens {
			return &cookie.Tokens{
				IDToken: signed(name, "sig"), Access: []cookie.AccessToken{{Token: r.guessed(guess[2], hit)}},
			}
		},
		"opaque token in three parts": func(name string, hit bool) *cookie.Tokens {
			part := segment(r.guessed(guess[3], hit))
			return &cookie.Tokens{
				IDToken: signed(name, "sig"), Access: []cookie.AccessToken{{Token: part + "." + part + "." + part}},
			}
		},
		"tokens with an opaque header or payload": func(name string, hit bool) *cookie.Tokens {
			part := segment(r.guessed(guess[1], hit))
			return &cookie.Tokens{
				IDToken: signed(name, "sig"),
				Access:  []cookie.AccessToken{{Token: "e30." + part + ".c2ln"}, {Token: part + ".e30.c2ln"}},
			}
		},
		"value": func(name string, hit bool) *cookie.Tokens {
			v := r.guessed(guess[0], hit)
			return &cookie.Tokens{IDToken: signed(name, "sig"), Values: map[string][]byte{"k": []byte(`"` + v + `"`)}}
		},
	}
	for name, make := range tests {
		for i := range pairs {
			claim := guess[i%len(guess)][:20]
			a := newSession(t, c, reference.identity(), make(claim, true))
			b := newSession(t, c, reference.identity(), make(claim, false))
			if got, want := size(t, c, a), size(t, c, b); got != want {
				t.Fatalf("%s: %d octets for a right guess, %d for a wrong one", name, got, want)
			}
		}
	}
}

// S22: what a thief wants is in the plaintext letter for letter, so it has passed no compressor.
func TestSecretsAreStoredAsTheyAre(t *testing.T) {
	t.Parallel()
	c := cookie.NewSessions(reference.options())
	id := reference.identity()
	// All of it would compress well.
	secret := func(kind string) string { return strings.Repeat(kind+" openid profile email ", 9) }
	jwt := func(signature string) string {
		return segment(`{"alg":"RS256"}`) + "." + segment(reference.idPayload()) + "." + segment(signature)
	}
	packed, err := c.PackTokens(&id, &cookie.Tokens{
		IDToken: jwt(secret("ID token")),
		Refresh: secret("refresh"),
		Access:  []cookie.AccessToken{{Token: jwt(secret("JWT"))}, {Token: secret("opaque")}, {Token: secret("a.b.c")}},
		Values:  map[string][]byte{"k": []byte(`{"v":"` + secret("value") + `"}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"ID token", "refresh", "JWT", "opaque", "a.b.c", "value"} {
		if !bytes.Contains(packed, []byte(secret(kind))) {
			t.Errorf("%s: not as it is", kind)
		}
	}
	if bytes.Contains(packed, []byte(reference.email)) {
		t.Error("claims are not compressed")
	}
}

func size(t testing.TB, c *cookie.Sessions, s *cookie.Session) int {
	t.Helper()
	n := 0
	for name, value := range write(t, c, s) {
		n += len(name) + len(value)
	}
	return n
}

// CKE-06, lesson 17
func TestRotationOfSecrets(t *testing.T) {
	t.Parallel()
	with := func(secrets ...string) *cookie.Sessions {
		o := reference.options()
		o.Codecs = cookie.Codecs(secrets, "session")
		return cookie.NewSessions(o)
	}
	before, during, after := with(oldSecret), with(testSecret, oldSecret), with(testSecret)
	for _, tokens := range []*cookie.Tokens{reference.tokens(t), longTokens(9_000)} {
		j := write(t, before, newSession(t, before, reference.identity(), tokens))
		if loads(after, j.header()) {
			t.Fatal("opens without the old secret")
		}
		var s cookie.Session
		if !during.Load(j.header(), &s) || !s.Stale {
			t.Fatalf("stale %v, want a stale session", s.Stale)
		}
		j = write(t, during, &s)
		if s.Stale {
			t.Error("still stale after it was written")
		}
		var fresh cookie.Session
		if !after.Load(j.header(), &fresh) || fresh.Stale || fresh.Identity != reference.identity() {
			t.Fatal("the identity was not sealed again")
		}
		if got, err := after.Tokens(&fresh); err != nil || got.Refresh != tokens.Refresh {
			t.Errorf("tokens: %v", err)
		}
	}
}

func TestNewTokensOfAStaleSessionAreSealedOnce(t *testing.T) {
	t.Parallel()
	o := reference.options()
	o.Codecs = cookie.Codecs([]string{oldSecret}, "session")
	before := cookie.NewSessions(o)
	o.Codecs = cookie.Codecs([]string{testSecret, oldSecret}, "session")
	during := cookie.NewSessions(o)
	var s cookie.Session
	if !during.Load(write(t, before, newSession(t, before, reference.identity(), &cookie.Tokens{})).header(), &s) {
		t.Fatal("no session")
	}
	s.Identity.Generation++
	if err := during.SetTokens(&s, &cookie.Tokens{Refresh: "new"}); err != nil {
		t.Fatal(err)
	}
	var again cookie.Session
	if !cookie.NewSessions(reference.options()).Load(write(t, during, &s).header(), &again) {
		t.Fatal("no session with the first secret alone")
	}
	if got, err := during.Tokens(&again); err != nil || got.Refresh != "new" {
		t.Errorf("got %+v, %v", got, err)
	}
}
