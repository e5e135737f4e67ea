package oidcauth_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/securecookie"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// texts are all that a thief of the store has, as it is and decoded: keys, tags and values, whole and in parts.
func (s *shelf) texts() (all []string) {
	add := func(text string) {
		all = append(all, text)
		for _, encoding := range []*base64.Encoding{base64.RawURLEncoding, base64.StdEncoding} {
			if once, err := encoding.DecodeString(text); err == nil {
				all = append(all, string(once))
				if twice, err := encoding.DecodeString(string(once)); err == nil {
					all = append(all, string(twice))
				}
			}
		}
	}
	for key, it := range s.everything() {
		for _, text := range append(it.tags, key, string(it.data)) {
			add(text)
			for part := range strings.SplitSeq(text, ".") {
				add(part)
			}
		}
	}
	return all
}

// Issue 4, done when 4: a stolen dump is useless. It has all that is ever put into a store: a session and its claim, what is
// noted of a login, of a session id and of a user that were ended, and of the logout token that did.
func TestADumpOfTheStoreSaysNothing(t *testing.T) {
	t.Parallel()
	p := newProcess(t, func(o *oidcauth.Options) { o.Scopes = []string{"openid", "email", "offline_access"} })
	cookie := p.login()
	p.get("/set?cart=what+Alice+bought", cookie)
	access, _ := p.token("?force", cookie)
	s := sessionOf(t, p.app, cookie)
	refresh := ""
	for _, r := range p.op.Requests("token") {
		refresh = r.Form.Get("refresh_token") // which the second grant has spent
	}
	copied := newShelf() // with the state before the logout, which tells the ID token
	maps.Copy(copied.items, p.shelf.everything())
	hint, err := url.Parse(p.logout(cookie).Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	jti := ""
	token := p.op.LogoutToken(s.Subject, s.SID, func(_, claims map[string]any) { jti = claims["jti"].(string) })
	form := url.Values{"logout_token": {token}}.Encode()
	to := rawRequest("POST", "/auth/backchannel-logout", "", form, "Content-Type", "application/x-www-form-urlencoded")
	if resp := answerTo(p.handler, to); resp.StatusCode != http.StatusOK {
		t.Fatalf("the logout token is answered with %d: %s", resp.StatusCode, body(resp))
	}
	if err := p.RevokeSessions(t.Context(), s.Issuer, s.Subject); err != nil {
		t.Fatal(err)
	}
	maps.Copy(copied.items, p.shelf.everything())
	ticket, err := base64.RawURLEncoding.DecodeString(valueOf(cookie))
	sessions, values := len(copied.all()), len(copied.everything())
	if err != nil || len(ticket) != 40 || sessions != 1 || values != 6 {
		t.Fatalf("a ticket of %d octets, %d sessions among %d values, %v", len(ticket), sessions, values, err)
	}
	secrets := map[string]string{
		"subject": s.Subject, "e-mail address": "alice@example.com", "name": "Alice Example", "sid": s.SID, "handle": s.Handle,
		"issuer": s.Issuer, "access token": access, "refresh token": refresh, "value": "what Alice bought",
		"id": string(ticket[:32]), "MAC": string(ticket[32:]), "cookie": valueOf(cookie), "client id": p.op.Options().ClientID,
		"sealing secret": p.op.Options().Secrets[0], "id of the logout token": jti, "logout token": token,
	}
	for i, part := range strings.Split(hint.Query().Get("id_token_hint"), ".") {
		secrets[fmt.Sprintf("part %d of the ID token", i)] = part
	}
	for name, secret := range secrets {
		if len(secret) < 5 {
			t.Errorf("the %s is %q", name, secret)
		}
		for _, text := range copied.texts() {
			inBase64 := base64.RawURLEncoding.EncodeToString([]byte(secret))
			for form, hidden := range map[string]string{
				"": secret, " in base64": inBase64, " in hex": hex.EncodeToString([]byte(secret)),
			} {
				if strings.Contains(text, hidden[:min(len(hidden), 24)]) {
					t.Errorf("the dump has the %s%s", name, form)
				}
			}
		}
	}
	checkNames(t, p, copied, s, ticket[:32])
}

// checkNames looks for a way from what is known of a user to the names in a dump (S10).
func checkNames(t *testing.T, p *process, dump *shelf, s *oidcauth.Session, id []byte) {
	t.Helper()
	var guesses [][]byte
	inCookie := base64.RawURLEncoding.EncodeToString(id)
	for _, user := range []string{s.Subject, s.SID, s.Handle, "alice@example.com", string(id), inCookie} {
		for _, glue := range []string{"", " ", "|", "\x00", "/", ":", "\n", "#"} {
			for _, context := range []string{
				"", "sub", "subject", "sid", "tag", "session", "claim", "ended", "ended subject", "ended sid", "jti", "state",
				s.Issuer, s.Issuer + " ", p.op.Options().ClientID,
			} {
				guesses = append(guesses, []byte(context+glue+user), []byte(user+glue+context))
			}
		}
	}
	names := map[string]bool{}
	for key, it := range dump.everything() {
		for _, name := range append(it.tags, key) {
			if names[name] = true; len(name) != 43 {
				t.Errorf("a name has %d characters", len(name))
			}
		}
	}
	for _, guess := range guesses {
		plain := sha256.Sum256(guess)
		issuer := []byte(s.Issuer)
		for _, sum := range [][]byte{plain[:], sum256(nil, guess), sum256(issuer, guess), sum256(guess, issuer), guess} {
			if names[base64.RawURLEncoding.EncodeToString(sum)] {
				t.Errorf("a hash of %q is a name in the store", guess)
			}
		}
	}
}

func sum256(key, text []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(text)
	return h.Sum(nil)
}

// The same user has other names in each application that shares the store, and two users share none.
func TestNamesInTheStoreBelongToOneApplication(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	p.op.Register([]string{"https://app.test/b/auth/callback"}, nil)
	p.login()
	p.cookies(t, bob)
	applications := []*process{p}
	for _, edit := range []func(*oidcauth.Options){
		func(o *oidcauth.Options) { o.Cookie.Name = "__Host-other-session" },
		func(o *oidcauth.Options) { o.BaseURL += "/b" },
		func(o *oidcauth.Options) { o.Secrets = []string{noise(40)} },
	} {
		q := p.another(edit)
		applications = append(applications, q)
		path := strings.TrimSuffix(q.LoginURL(""), "/auth/login")
		q.op.SetUser(oidcauthtest.Alice)
		q.browser.From("https://app.test").Get(path + "/auth/login?returnTo=" + path + "/public")
	}
	names := map[string]int{}
	for key, it := range p.shelf.all() {
		for _, name := range append(it.tags, key) {
			names[name]++
		}
	}
	if len(p.shelf.all()) != 5 || len(names) != 15 {
		t.Errorf("%d sessions have %d names, want 3 for each of 5", len(p.shelf.all()), len(names))
	}
	p.login() // a second session of Alice: the subject's tag is the same
	for _, it := range p.shelf.all() {
		for _, tag := range it.tags {
			names[tag]++
		}
	}
	if len(names) != 16 {
		t.Errorf("with a second session of the same user there are %d different names and tags, want one more", len(names))
	}
	noted := len(p.shelf.everything())
	for _, one := range applications { // what is noted of a user is none of another application's business
		for range 2 {
			if err := one.RevokeSessions(t.Context(), p.op.Issuer(), "carol"); err != nil {
				t.Error(err)
			}
		}
	}
	if got := len(p.shelf.everything()) - noted; got != len(applications) {
		t.Errorf("%d applications note the end of a user's sessions under %d names", len(applications), got)
	}
}

// A tenant has a session in a store that others share.
type tenant struct {
	*process
	name, cookie, key string
}

// tenants are sessions of which any two differ in one thing, in one store and with one secret.
func tenants(t *testing.T, edit func(*oidcauth.Options)) []tenant {
	t.Helper()
	p := newProcess(t, edit)
	p.op.Register([]string{"https://app.test/b/auth/callback"}, nil)
	all := []tenant{{process: p, name: "Alice"}, {process: p, name: "Bob"}, {process: p, name: "Alice again"}}
	secrets := p.op.Options().Secrets
	for name, other := range map[string]func(*oidcauth.Options){
		"another cookie": func(o *oidcauth.Options) { o.Cookie.Name = "__Host-other-session" },
		"another base":   func(o *oidcauth.Options) { o.BaseURL += "/b" },
	} {
		all = append(all, tenant{process: p.another(edit, other), name: name})
	}
	other := oidcauthtest.NewProvider(t, func(o *oidcauth.Options) { o.Issuer = "https://other.test/" })
	same := func(o *oidcauth.Options) { o.Secrets = secrets }
	all = append(all, tenant{process: newProcessAt(t, other, p.shelf, edit, same), name: "another issuer"})
	client := oidcauthtest.NewProvider(t, func(o *oidcauth.Options) { o.ClientID = "another" })
	all = append(all, tenant{process: newProcessAt(t, client, p.shelf, edit, same), name: "another client"})
	for i := range all {
		h := &all[i]
		before := p.shelf.all()
		path := strings.TrimSuffix(h.LoginURL(""), "/auth/login")
		b := h.op.NewBrowser(h.handler)
		h.op.SetUser(oidcauthtest.User{Subject: map[bool]string{true: "bob", false: "alice"}[h.name == "Bob"]})
		b.From("https://app.test").Get(path + "/auth/login?returnTo=" + path + "/public")
		h.cookie = b.Request("GET", path+"/").Header.Get("Cookie")
		for key := range p.shelf.all() {
			if _, known := before[key]; !known {
				h.key = key
			}
		}
		if s := sessionOf(t, h.app, h.cookie); h.key == "" || s.Subject == "" {
			t.Fatalf("%s is not signed in", h.name)
		}
	}
	return all
}

// S11: an entry opens under its own key only, and a ticket at its own application.
func TestAnEntryOpensOnlyWhereItWasPut(t *testing.T) {
	t.Parallel()
	key := securecookie.GenerateRandomKey(32)
	for codecs, edit := range map[string]func(*oidcauth.Options){
		"secrets": func(*oidcauth.Options) {},
		"an own codec": func(o *oidcauth.Options) {
			o.SessionCodecs = []securecookie.Codec{securecookie.New(key, key).SetSerializer(rawBytes{})}
		},
	} {
		t.Run(codecs, func(t *testing.T) {
			t.Parallel()
			all := tenants(t, edit)
			opens := func(at tenant, value string) bool {
				name, _, _ := strings.Cut(at.cookie, "=")
				_, err := at.GetSession(&http.Request{Header: http.Header{"Cookie": {name + "=" + value}}})
				return err == nil
			}
			for _, at := range all {
				own := at.shelf.all()[at.key]
				for _, from := range all {
					same := at.name == from.name
					if got := opens(at, valueOf(from.cookie)); got != (same || at.process == from.process) {
						t.Errorf("the ticket of %s at %s opens: %v", from.name, at.name, got)
					}
					at.shelf.put(t, at.key, at.shelf.all()[from.key])
					if got := opens(at, valueOf(at.cookie)); got != same {
						t.Errorf("the entry of %s under the key of %s opens: %v", from.name, at.name, got)
					}
					at.shelf.put(t, at.key, own)
				}
				checkMixed(t, at, all)
			}
		})
	}
}

func (h *tenant) hasToken() (ok bool) {
	ask(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := h.AccessToken(w, r, nil)
		ok = err == nil
	}), "GET", "/", "Cookie", h.cookie)
	return ok
}

// checkMixed puts together what belongs to two sessions.
func checkMixed(t *testing.T, at tenant, all []tenant) {
	t.Helper()
	own := at.shelf.all()[at.key]
	identity, tokens, _ := bytes.Cut(own.data, []byte("."))
	for _, from := range all {
		if from.key == at.key {
			continue
		}
		other := at.shelf.all()[from.key]
		otherIdentity, otherTokens, _ := bytes.Cut(other.data, []byte("."))
		for name, data := range map[string][]byte{
			"the identity of another": slices.Concat(otherIdentity, []byte("."), tokens),
			"the tokens of another":   slices.Concat(identity, []byte("."), otherTokens),
			"no tokens":               append(slices.Clone(identity), '.'),
			"no identity":             append([]byte("."), tokens...),
			"the tokens as identity":  slices.Concat(tokens, []byte("."), tokens),
			"nothing":                 {},
		} {
			at.shelf.put(t, at.key, item{data, own.expires, own.tags})
			if at.hasToken() {
				t.Errorf("%s with %s (%s) has a token", at.name, name, from.name)
			}
		}
	}
	at.shelf.put(t, at.key, own)
	if !at.hasToken() {
		t.Errorf("%s has no token", at.name)
	}
}

// S11: nothing of a dump is a cookie, in either mode, and neither mode's cookies open in the other.
func TestNothingOfADumpIsACookie(t *testing.T) {
	t.Parallel()
	key := securecookie.GenerateRandomKey(32)
	for codecs, edit := range map[string]func(*oidcauth.Options){
		"secrets": func(*oidcauth.Options) {},
		"an own codec": func(o *oidcauth.Options) {
			one := []securecookie.Codec{securecookie.New(key, key).SetSerializer(rawBytes{})}
			o.SessionCodecs, o.LoginCodecs = one, one
		},
	} {
		for _, mode := range cookieModes {
			t.Run(codecs+"/"+mode.name, func(t *testing.T) {
				t.Parallel()
				edits := append([]func(*oidcauth.Options){edit}, mode.edit...)
				p := newProcess(t, edits...)
				inCookie := newAppAt(t, p.op, edits...)
				for _, a := range []*app{p.app, inCookie} {
					a.browser.SignIn(oidcauthtest.Alice)
				}
				values := p.shelf.texts()
				add := func(b *oidcauthtest.Browser) {
					for _, c := range b.Cookies("/") {
						values = append(values, c.Value)
					}
				}
				session := map[*app]string{p.app: p.browser.Cookies("/")[0].Value, inCookie: inCookie.browser.Cookies("/")[0].Value}
				for _, a := range []*app{p.app, inCookie} { // and the cookies of what is under way
					a.op.SetUser(bob)
					a.browser.From("https://app.test").NoRedirects().Get("/auth/login?returnTo=/x")
					add(a.browser)
					if page := a.browser.From("https://evil.test").Get("/auth/login?returnTo=/there"); !asks(page) {
						t.Fatal("no question")
					}
					add(a.browser)
					a.browser.From("https://app.test").NoRedirects().Get("/auth/login?prompt=login")
					add(a.browser)
					visitor := a.op.NewBrowser(a.handler)
					visitor.NoRedirects().Post("/auth/logout", url.Values{"returnTo": {"/x"}})
					add(visitor)
				}
				values = append(values, p.shelf.texts()...)
				if len(values) < 30 {
					t.Fatalf("%d values", len(values))
				}
				for _, a := range []*app{p.app, inCookie} {
					for _, v := range values {
						for _, name := range []string{"__Host-session", "__Host-session.1"} {
							r := &http.Request{Header: http.Header{"Cookie": {name + "=" + v}}}
							s, err := a.GetSession(r)
							if own := v == session[a] && name == "__Host-session"; (err == nil) != own {
								t.Errorf("in store mode %v: of %d characters as %s: %v, %v", a == p.app, len(v), name, s, err)
							}
						}
					}
				}
			})
		}
	}
}
