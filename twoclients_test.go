package oidcauth_test

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/securecookie"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// neighbours are pairs of applications that differ in one thing only, and share host and secret. The customers' is first.
func neighbours(t *testing.T) map[string][2]*app {
	t.Helper()
	secret := rand.Text() + rand.Text()
	pair := func(staff func(*oidcauth.Options)) [2]*app {
		op := oidcauthtest.NewProvider(t)
		same := func(o *oidcauth.Options) { o.Secrets, o.Cookie.Name = []string{secret}, "__Host-session" }
		return [2]*app{newAppAt(t, op, same), newAppAt(t, op, same, staff)}
	}
	pairs := map[string][2]*app{
		"two issuers":    pair(func(o *oidcauth.Options) { o.Issuer = "https://staff.test/" }),
		"two client ids": pair(func(o *oidcauth.Options) { o.ClientID = "staff" }),
		"two base URLs":  pair(func(o *oidcauth.Options) { o.BaseURL = "https://app.test/staff" }),
		"two names":      pair(func(o *oidcauth.Options) { o.ClientID, o.Cookie.Name = "staff", "__Host-session-staff" }),
	}
	return pairs
}

// A layer is something that one of the two clients may have around a handler.
type layer struct {
	name   string
	around func(*app, http.Handler) http.Handler
}

var layers = []layer{
	{"nothing", func(_ *app, h http.Handler) http.Handler { return h }},
	{"Wrap", func(a *app, h http.Handler) http.Handler { return a.Wrap(h) }},
	{"RequireAuth", func(a *app, h http.Handler) http.Handler { return a.RequireAuth(h) }},
	{"RequireAuthAPI in Wrap", func(a *app, h http.Handler) http.Handler { return a.Wrap(a.RequireAuthAPI(h)) }},
}

// S01: the customers' session passes no guard of the staff, and no method of the staff's client, however the two are nested.
func TestOneClientsSessionIsNoneOfAnothers(t *testing.T) {
	t.Parallel()
	for name, pair := range neighbours(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			customers, staff := pair[0], pair[1]
			cookie := customers.cookies(t, oidcauthtest.User{Subject: "mallory"})
			reached := false
			inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				reached = true
				if s, err := staff.GetSession(r); !errors.Is(err, oidcauth.ErrNoSession) {
					t.Errorf("staff's GetSession: %v, %v", s, err)
				}
				if err := staff.UpdateSession(w, r, set("role", "admin")); !errors.Is(err, oidcauth.ErrNoSession) {
					t.Errorf("staff's UpdateSession: %v", err)
				}
				if s, err := customers.GetSession(r); err != nil || s.Subject != "mallory" {
					t.Errorf("customers' GetSession: %v, %v", s, err)
				}
			})
			for _, outer := range layers {
				for _, middle := range layers {
					for _, order := range []string{"customers outside", "staff outside"} {
						h := outer.around(customers, middle.around(staff, inner))
						if order == "staff outside" {
							h = middle.around(staff, outer.around(customers, inner))
						}
						reached = false
						resp := ask(h, "GET", "/page", "Cookie", cookie)
						want := !strings.HasPrefix(middle.name, "RequireAuth")
						if reached != want || !want && resp.StatusCode != http.StatusUnauthorized {
							t.Errorf("%s: customers' %s, staff's %s: %d", order, outer.name, middle.name, resp.StatusCode)
						}
						if slices.ContainsFunc(resp.Cookies(), isSession) {
							t.Errorf("%s: customers' %s, staff's %s: a session cookie is set", order, outer.name, middle.name)
						}
					}
				}
			}
			if resp := ask(staff.Wrap(inner), "GET", staffPath(name)+"/auth/profile", "Cookie", cookie); resp.StatusCode != 401 {
				t.Errorf("staff's profile answers %d", resp.StatusCode)
			}
			alive := customers.op.ActiveRefreshTokens("mallory")
			resp := ask(customers.RequireAuth(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := staff.Logout(w, r, &oidcauth.LogoutOptions{Local: true}); err != nil {
					t.Errorf("staff's Logout: %v", err)
				}
			})), "GET", "/", "Cookie", cookie)
			customers.settle(t)
			staff.settle(t)
			if slices.Contains(staff.logs.names(), "session.ended") || customers.op.ActiveRefreshTokens("mallory") != alive {
				t.Error("staff's Logout ended the customers' session")
			}
			if name == "two names" && strings.Contains(strings.Join(resp.Header["Set-Cookie"], "; "), "__Host-session=") {
				t.Error("staff's Logout deletes the customers' cookie")
			}
		})
	}
}

func staffPath(pair string) string { return map[string]string{"two base URLs": "/staff"}[pair] }

// S01: a session put into the context by the application, or by another client's guard, passes no guard either.
func TestNoGuardBelievesTheContext(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	forged := oidcauth.NewSession(map[string]any{"iss": a.op.Issuer(), "sub": "alice"})
	inContext := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r.WithContext(oidcauth.ContextWithSession(r.Context(), forged)))
		})
	}
	for name, h := range map[string]http.Handler{
		"RequireAuth": inContext(a.RequireAuth(a.mux)), "RequireAuthAPI": inContext(a.RequireAuthAPI(a.mux)),
		"RequireAuth in Wrap": a.Wrap(inContext(a.RequireAuth(a.mux))),
	} {
		if resp := ask(h, "GET", "/"); resp.StatusCode != 401 {
			t.Errorf("%s answers %d", name, resp.StatusCode)
		}
	}
	if resp := ask(inContext(a.handler), "GET", "/auth/profile"); resp.StatusCode != 401 {
		t.Errorf("the profile answers %d", resp.StatusCode)
	}
	if got := body(ask(inContext(a.handler), "GET", "/")); got != nobody {
		t.Errorf("GetSession returns %s", got)
	}
	bob := a.cookies(t, oidcauthtest.User{Subject: "bob"})
	ask(inContext(a.RequireAuth(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if s, ok := oidcauth.SessionFromContext(r.Context()); !ok || s.Subject != "bob" {
			t.Errorf("behind the guard SessionFromContext has %v", s)
		}
	}))), "GET", "/", "Cookie", bob)
}

// S01: with two names on one host both sessions live side by side, and the innermost guard's is the context's.
func TestTwoClientsOnOneHostSignInSideBySide(t *testing.T) {
	t.Parallel()
	op := oidcauthtest.NewProvider(t)
	customers := newAppAt(t, op)
	staff := newAppAt(t, op, func(o *oidcauth.Options) {
		o.Cookie.Name, o.Routes.Login, o.Routes.Callback = "__Host-staff-session", "/staff/login", "/staff/callback"
		o.Routes.Logout, o.Routes.Profile, o.Routes.LoggedOut = "/staff/logout", "-", "-"
	})
	op.Register([]string{"https://app.test/staff/callback"}, nil)
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := oidcauth.SessionFromContext(r.Context())
		c, _ := customers.GetSession(r)
		fmt.Fprint(w, s.Subject, " sees ", c.Subject)
	})
	b := op.NewBrowser(customers.Wrap(staff.Wrap(customers.RequireAuth(staff.RequireAuth(page)))))
	b.SignIn(oidcauthtest.User{Subject: "carla"})
	op.SetUser(oidcauthtest.User{Subject: "steve"})
	if got := b.From("https://app.test").Get("/staff/login").Body; got != "steve sees carla" {
		t.Fatalf("with both sessions the page says %q", got)
	}
	b.NoRedirects().Post("/staff/logout", nil)
	left := b.Cookies("/")
	slices.SortFunc(left, func(a, b *http.Cookie) int { return strings.Compare(a.Name, b.Name) })
	if len(left) != 2 || left[0].Name != "__Host-session" || left[1].Name != "__Host-staff-session.ended" {
		t.Errorf("after the staff's logout there are %d cookies", len(left))
	}
}

// S43, CKE-04, THR-10: which of the two is the user's own, nobody can tell.
func TestTwoSessionsInOneRequestAreNone(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	alice, again := a.cookies(t, oidcauthtest.Alice), a.cookies(t, oidcauthtest.Alice)
	mallory := a.cookies(t, oidcauthtest.User{Subject: "mallory"})
	for name, cookies := range map[string][2]string{
		"another user's first": {mallory, alice}, "another user's last": {alice, mallory},
		"two of one user": {alice, again},
	} {
		for way, header := range map[string][]string{
			"in one line":  {"Cookie", cookies[0] + "; " + cookies[1]},
			"in two lines": {"Cookie", cookies[0], "Cookie", cookies[1]},
		} {
			if got := ask(a.RequireAuthAPI(a.mux), "GET", "/", header...).StatusCode; got != 401 {
				t.Errorf("%s, %s: the guard answers %d", name, way, got)
			}
		}
	}
}

// A sealed is a cookie with what it is good for: one client's session, login or logout.
type sealed struct {
	owner             *app
	kind, name, value string
	state             string // of a login or logout
}

// sealedBy returns one of each kind of cookie of a.
func sealedBy(t *testing.T, a *app, path string) []sealed {
	t.Helper()
	if page := a.browser.Get(path + "/auth/login"); page.Body != "alice" {
		t.Fatalf("after the login the page says %q", page.Body)
	}
	name, v, _ := strings.Cut(a.browser.Request("GET", path+"/").Header.Get("Cookie"), "=")
	all := []sealed{{a, "session", name, v, ""}}
	for kind, target := range map[string]string{"login": "/auth/login?returnTo=%2Fx", "logout": "/auth/logout?returnTo=%2Fx"} {
		resp := ask(a.handler, "GET", path+target)
		sent, err := url.Parse(resp.Header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range resp.Cookies() {
			if strings.Contains(c.Name, kind+"-") {
				all = append(all, sealed{a, kind, c.Name, c.Value, sent.Query().Get("state")})
			}
		}
	}
	if len(all) != 3 {
		t.Fatalf("%d kinds of cookies", len(all))
	}
	return all
}

// S11, S18, S43, CKE-06, THR-16, lesson 15: each value under each name of each client, of which only the diagonal opens.
func TestACookieOpensOnlyAsWhatItWasSealedAs(t *testing.T) {
	t.Parallel()
	secret, key := rand.Text()+rand.Text(), securecookie.GenerateRandomKey(32)
	one := []securecookie.Codec{securecookie.New(key, key).SetSerializer(rawBytes{})}
	for codecs, edit := range map[string]func(*oidcauth.Options){
		"secrets":       func(o *oidcauth.Options) { o.Secrets = []string{secret} },
		"one own codec": func(o *oidcauth.Options) { o.Secrets, o.SessionCodecs, o.LoginCodecs = []string{secret}, one, one },
	} {
		t.Run(codecs, func(t *testing.T) {
			t.Parallel()
			op := oidcauthtest.NewProvider(t)
			op.Register([]string{"https://app.test/b/auth/callback"}, nil)
			var all []sealed
			for path, other := range map[string]func(*oidcauth.Options){
				"": func(*oidcauth.Options) {}, "/b": func(o *oidcauth.Options) { o.BaseURL += "/b" },
			} {
				all = append(all, sealedBy(t, newAppAt(t, op, edit, other), path)...)
			}
			third := newAppAt(t, op, func(o *oidcauth.Options) { o.Cookie.Name = "__Host-third-session" }, edit)
			all = append(all, sealedBy(t, third, "")[0])
			for _, at := range all {
				for _, from := range all {
					checkSwap(t, at, from)
				}
			}
		})
	}
}

// checkSwap presents from's value where at's belongs.
func checkSwap(t *testing.T, at, from sealed) {
	t.Helper()
	header, path := at.name+"="+from.value, strings.TrimSuffix(at.owner.LoginURL(""), "/auth/login")
	// Two logins of one client have the same name only for the same state, so that a match is the diagonal.
	same := at.owner == from.owner && at.kind == from.kind
	where := fmt.Sprintf("%s of %s as %s of %s", from.kind, from.name, at.kind, at.name)
	r := &http.Request{Header: http.Header{"Cookie": {header}}}
	if s, err := at.owner.GetSession(r); err == nil != (same && at.kind == "session") {
		t.Errorf("%s: GetSession has %v", where, s)
	}
	switch at.kind {
	case "login":
		before := at.owner.op.Count("token")
		query := url.Values{"code": {"c"}, "iss": {at.owner.op.Issuer()}, "state": {at.state}}.Encode()
		resp := ask(at.owner.handler, "GET", path+"/auth/callback?"+query, "Cookie", header)
		exchanged := at.owner.op.Count("token") > before
		if exchanged != same || len(sessionLines(resp.Header)) > 0 || !same && !strings.Contains(body(resp), "invalid_state") {
			t.Errorf("%s: the callback answers %d, exchanged: %v", where, resp.StatusCode, exchanged)
		}
	case "logout":
		resp := ask(at.owner.handler, "GET", path+"/auth/logged-out?state="+at.state, "Cookie", header)
		if target := resp.Header.Get("Location"); strings.HasSuffix(target, "/x") != same {
			t.Errorf("%s: the browser is sent to %s", where, target)
		}
	}
}

// rawBytes seals bytes as they are. It copies: securecookie encrypts in place (lesson 19).
type rawBytes struct{ securecookie.NopEncoder }

func (rawBytes) Serialize(v any) ([]byte, error) { return slices.Clone(v.([]byte)), nil }

// A codec that is wrong in one way.
type codec struct{ nameless, fixed, plain bool }

func (c codec) Encode(name string, v any) (string, error) {
	b := slices.Clone(v.([]byte))
	if !c.plain {
		for i := range b {
			b[i] ^= 0x5a
		}
	}
	salt := "salt"
	if !c.fixed {
		salt = rand.Text()
	}
	if c.nameless {
		name = ""
	}
	return salt + "_" + name + "_" + base64.RawURLEncoding.EncodeToString(b), nil
}

func (c codec) Decode(name, text string, dst any) error {
	parts := strings.SplitN(text, "_", 3)
	if len(parts) != 3 || !c.nameless && parts[1] != name {
		return errors.New("not mine")
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[2])
	for i := range b {
		if !c.plain {
			b[i] ^= 0x5a
		}
	}
	*dst.(*[]byte) = b
	return err
}

// S18.
func TestNewRefusesCodecsThatDoNotProtect(t *testing.T) {
	t.Parallel()
	key := securecookie.GenerateRandomKey(32)
	for name, c := range map[string]securecookie.Codec{
		"only signs":                  securecookie.New(key, nil),
		"only signs bytes":            securecookie.New(key, nil).SetSerializer(rawBytes{}),
		"ignores the name":            codec{nameless: true},
		"seals alike":                 codec{fixed: true},
		"shows what it seals":         codec{plain: true},
		"does not notice a change":    codec{},
		"has a key of no usable size": securecookie.New(key, key[:7]),
		"has no key":                  securecookie.New(nil, nil),
		"is nil":                      nil,
	} {
		for field, edit := range map[string]func(*oidcauth.Options){
			"SessionCodecs": func(o *oidcauth.Options) { o.SessionCodecs = []securecookie.Codec{c} },
			"LoginCodecs":   func(o *oidcauth.Options) { o.LoginCodecs = []securecookie.Codec{securecookie.New(key, key), c} },
		} {
			o := oidcauthtest.NewProvider(t).Options()
			edit(&o)
			_, err := oidcauth.New(o)
			if e, ok := errors.AsType[*oidcauth.ConfigError](err); !ok || e.Field != field {
				t.Errorf("a codec that %s in %s: %v", name, field, err)
			}
		}
	}
}

// S18, lesson 19: what users of securecookie have works, also for sessions of several cookies.
func TestCodecsOfTheApplicationSealLargeSessions(t *testing.T) {
	t.Parallel()
	hash, block, old := securecookie.GenerateRandomKey(64), securecookie.GenerateRandomKey(32), securecookie.GenerateRandomKey(32)
	op := oidcauthtest.NewProvider(t)
	before := newAppAt(t, op, func(o *oidcauth.Options) { o.SessionCodecs = securecookie.CodecsFromPairs(old, old) })
	a := newAppAt(t, op, func(o *oidcauth.Options) {
		o.SessionCodecs = securecookie.CodecsFromPairs(hash, block, old, old)
		o.LoginCodecs = securecookie.CodecsFromPairs(hash, block)
	})
	user := withNote("alice", 5000)
	cookie := a.cookies(t, user)
	var claims struct{ Note string }
	err := sessionOf(t, a, cookie).Claims(&claims)
	if err != nil || claims.Note != user.Claims["note"] || strings.Count(cookie, ";") == 0 {
		t.Errorf("%d characters of claims in %d cookies, %v", len(claims.Note), strings.Count(cookie, ";")+1, err)
	}
	resp := ask(a.handler, "GET", "/", "Cookie", before.cookies(t, user))
	if body(resp) != "alice" || len(sessionLines(resp.Header)) < 2 {
		t.Errorf("what the codec before sealed is not sealed again: %d cookies", len(sessionLines(resp.Header)))
	}
	a.browser.SignIn(user)
	a.browser.SignOut()
	if left := a.afterLogout(t, a.browser); len(left) > 0 {
		t.Errorf("after the logout there are %d cookies", len(left))
	}
}
