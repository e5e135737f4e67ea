package oidcauth_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// noise is text that no compression makes shorter than three quarters.
func noise(size int) string {
	var b strings.Builder
	for b.Len() < size {
		b.WriteString(rand.Text())
	}
	return b.String()[:size]
}

// withNote is a user of whom the provider says a lot.
func withNote(subject string, size int) oidcauthtest.User {
	return oidcauthtest.User{Subject: subject, Claims: map[string]any{"note": noise(size)}}
}

// CKE-01, CKE-03, THR-20, lesson 10.
func TestALargeSessionIsCutIntoCookiesThatOnlyOpenTogether(t *testing.T) {
	t.Parallel()
	a := newApp(t, func(o *oidcauth.Options) { o.DropIDToken = true })
	user := withNote("alice", 7000)
	b := a.op.NewBrowser(a.handler)
	b.SignIn(user)
	var pairs []string
	for i, c := range b.Cookies("/") {
		if want := "__Host-session" + []string{"", ".1", ".2", ".3", ".4"}[i]; c.Name != want || len(c.Name)+len(c.Value) > 4096 {
			t.Errorf("cookie %d is %s with %d characters", i, c.Name, len(c.Name)+len(c.Value))
		}
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	if len(pairs) < 2 {
		t.Fatalf("the session takes %d cookies", len(pairs))
	}
	who := func(pairs ...string) string {
		return body(ask(a.handler, "GET", "/", "Cookie", strings.Join(pairs, "; ")))
	}
	var claims struct{ Note string }
	if err := sessionOf(t, a, strings.Join(pairs, "; ")).Claims(&claims); err != nil || claims.Note != user.Claims["note"] {
		t.Errorf("the claims come back with %d characters, %v", len(claims.Note), err)
	}
	other := strings.Split(a.cookies(t, withNote("bob", 7000)), "; ")
	again := strings.Split(a.cookies(t, withNote("alice", 7000)), "; ")
	for i := range pairs {
		if got := who(slices.Delete(slices.Clone(pairs), i, i+1)...); got != nobody {
			t.Errorf("without cookie %d the page says %q", i, got)
		}
		for name, session := range map[string][]string{"another user's": other, "another login's": again} {
			mixed := slices.Clone(pairs)
			mixed[i] = session[i]
			if got := who(mixed...); got != nobody {
				t.Errorf("with %s cookie %d the page says %q", name, i, got)
			}
		}
	}
	if got := who(append(slices.Clone(pairs), "__Host-session.4=stale")...); got != "alice" {
		t.Errorf("with a stale tail of an older session the page says %q", got)
	}
	b.SignIn(oidcauthtest.Alice) // a smaller session of the same user
	if left := b.Cookies("/"); len(left) != 1 {
		t.Errorf("a session of one cookie left %d cookies", len(left))
	}
}

// CKE-02, THR-24, S44: big claims fail at login with a clear error, and whoever has a session keeps it and can log out.
func TestASessionThatFitsNoCookiesIsRefusedAtLogin(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	a.browser.SignIn(withNote("alice", 6000))
	a.op.SetUser(withNote("alice", 40_000))
	resp := a.browser.Get("/auth/login")
	if resp.StatusCode != http.StatusInternalServerError || errorCode(resp) != "session_too_large" || setsSession(resp) {
		t.Errorf("the callback answers %d %s", resp.StatusCode, errorCode(resp))
	}
	if !strings.Contains(a.logs.String(), "DropIDToken") {
		t.Error("the log does not say what to do")
	}
	a.settle(t)
	if n := a.op.ActiveRefreshTokens(""); n != 1 {
		t.Errorf("%d refresh tokens are alive, want the first session's alone", n)
	}
	if got := a.browser.Get("/").Body; got != "alice" {
		t.Errorf("afterwards the page says %q", got)
	}
	a.browser.SignOut()
	if left := a.afterLogout(t, a.browser); len(left) != 0 {
		t.Errorf("after the logout the browser has %d cookies", len(left))
	}
}

// CKE-04, THR-06, THR-24, THR-25: nothing in a Cookie field is a session but what was sealed, and nothing panics.
func TestABrokenCookieIsNoSession(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	good := a.cookies(t, oidcauthtest.Alice)
	_, v, _ := strings.Cut(good, "=")
	identity, tokens, _ := strings.Cut(v, ".")
	broken := map[string]string{
		"empty": "", "a full stop": ".", "only the identity": identity, "the identity and a stop": identity + ".",
		"only the tokens":    "." + tokens,
		"in the wrong order": tokens + "." + identity, "in quotes": `"` + v + `"`,
		"not base64": strings.Repeat("!", 300) + "." + tokens, "padded": identity + "=." + tokens,
		"with NUL":  "\x00" + v,
		"not ASCII": "é" + v, "JSON": `{"sub":"alice"}`, "a JWT": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.",
		"zeros":      strings.Repeat("A", 300) + "." + tokens,
		"a megabyte": strings.Repeat("A", 1<<20), "a megabyte of stops": strings.Repeat(".", 1<<20),
		"cut":               v[:len(identity)-1],
		"with a space":      identity[:20] + " " + identity[20:] + "." + tokens,
		"with a line break": identity[:20] + "\n" + identity[20:] + "." + tokens,
	}
	for i := 0; i < len(identity); i += 7 {
		other := "A"
		if identity[i] == 'A' {
			other = "B"
		}
		broken[fmt.Sprint("changed at ", i)] = identity[:i] + other + identity[i+1:] + "." + tokens
	}
	headers := map[string]string{
		"lower case": strings.ToLower(good[:14]) + good[14:], "another name": "session=" + v,
		"a longer name":     "__Host-session2=" + v,
		"only a later part": "__Host-session.1=" + v, "no value": "__Host-session", "no name": "=" + v,
		"only semicolons":    strings.Repeat(";", 5000),
		"too many values":    "__Host-session=a; __Host-session=b; __Host-session=c; __Host-session=d; " + good,
		"after 3,000 others": strings.Repeat("a=b;", 3000) + good,
	}
	for name, v := range broken {
		headers[name] = "__Host-session=" + v
	}
	for name, header := range headers {
		if got := body(ask(a.handler, "GET", "/", "Cookie", header)); got != nobody {
			t.Errorf("%s: the page says %q", name, got)
		}
		if got := ask(a.RequireAuthAPI(a.mux), "GET", "/", "Cookie", header).StatusCode; got != http.StatusUnauthorized {
			t.Errorf("%s: the guard answers %d", name, got)
		}
	}
	for name, header := range map[string]string{
		"among others": "a=b; " + good + "; c=d", "beside a broken one": "__Host-session=x; " + good,
		"twice the same": good + "; " + good,
	} {
		if got := body(ask(a.handler, "GET", "/", "Cookie", header)); got != "alice" {
			t.Errorf("%s: the page says %q", name, got)
		}
	}
	// The tokens open when somebody asks for them; until then the identity stands alone.
	for name, tokens := range map[string]string{"cut": tokens[:len(tokens)-2], "doubled": tokens + tokens, "the identity": identity} {
		changed := sessionOf(t, a, "__Host-session="+identity+"."+tokens)
		if err := changed.Claims(&struct{}{}); err == nil {
			t.Errorf("tokens that are %s give claims", name)
		}
	}
}

// S46, HYG-05: canaries in everything that may be printed.
func TestNothingPrintsASecret(t *testing.T) {
	t.Parallel()
	var canaries []string
	a := newApp(t, func(o *oidcauth.Options) { canaries = append(canaries, o.ClientSecret, o.Secrets[0]) })
	a.op.Change(func(k *oidcauthtest.Knobs) {
		k.SID = "Sid-of-the-provider"
		k.EditTokens = func(response map[string]any) {
			for _, name := range []string{"access_token", "refresh_token", "id_token"} {
				canaries = append(canaries, fmt.Sprint(response[name]))
			}
		}
	})
	cookie := a.cookies(t, oidcauthtest.Alice)
	_, sealed, _ := strings.Cut(cookie, "=")
	s := sessionOf(t, a, cookie)
	canaries = append(canaries, sealed, "alice@example.com", "Description-of-anybody", "Hint-of-the-user")
	if err := s.Claims(&struct{}{}); err != nil { // opened, so that there is something to leak
		t.Fatal(err)
	}
	refused := &oidcauth.ProviderError{Code: "invalid_grant", Description: "Description-of-anybody", Raw: map[string]any{"a": canaries[0]}}
	o := a.op.Options()
	canaries = append(canaries, o.Secrets[0])
	things := map[string]any{
		"a session": s, "a session's copy": *s, "a session in a struct": struct{ S *oidcauth.Session }{s},
		"options": o, "options by address": &o, "a client": a.Client,
		"an error":              &oidcauth.Error{Code: "exchange_failed", Err: fmt.Errorf("wrapped: %w", refused)},
		"an error's copy":       oidcauth.Error{Code: "exchange_failed", Err: refused},
		"the provider's error":  refused,
		"joined errors":         errors.Join(refused, oidcauth.ErrUnavailable),
		"a logout's parameters": oidcauth.LogoutURLParams{IDTokenHint: canaries[0], LogoutHint: "Hint-of-the-user"},
	}
	shows := func(name, printed string, canaries ...string) {
		for _, canary := range canaries {
			if strings.Contains(printed, canary) || strings.Contains(printed, fmt.Sprintf("%x", canary)) {
				t.Errorf("%s shows the secret %.12s…", name, canary)
			}
		}
	}
	for name, thing := range things {
		var printed, encoded strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
			fmt.Fprintf(&printed, verb+"\n", thing)
		}
		slog.New(slog.NewTextHandler(&printed, nil)).Info("log", "thing", thing)
		shows(name, printed.String(), append(canaries, s.SID)...)
		slog.New(slog.NewJSONHandler(&encoded, nil)).Info("log", "thing", thing)
		_ = json.NewEncoder(&encoded).Encode(thing)                                // functions have no JSON
		if !strings.Contains(name, "logout") && !strings.Contains(name, "error") { // of these the fields are there to be read
			shows(name, encoded.String(), canaries...)
		}
	}
	// What is in an unexported field fmt prints without asking: a session's secrets are behind a pointer.
	shows("a session in an unexported field", fmt.Sprintf("%+v", struct{ s oidcauth.Session }{*s}), canaries...)
	if got := fmt.Sprint(s); !strings.Contains(got, "alice") || !strings.Contains(got, s.Handle) {
		t.Errorf("a session prints %q", got)
	}
	shows("the log", a.logs.String(), canaries...)
}

func TestSessionsForTestsOfHandlers(t *testing.T) {
	t.Parallel()
	s := oidcauth.NewSession(map[string]any{"iss": "https://op.test/", "sub": "carol", "sid": "s1", "email": "carol@example.com"})
	var claims struct{ Sub, Email string }
	if err := s.Claims(&claims); err != nil || claims.Email != "carol@example.com" || claims.Sub != "carol" {
		t.Errorf("claims: %+v, %v", claims, err)
	}
	if s.Issuer != "https://op.test/" || s.Subject != "carol" || s.SID != "s1" || s.Handle == "" || !s.ExpiresAt.After(s.CreatedAt) {
		t.Errorf("the session is %+v", s)
	}
	if got, ok := oidcauth.SessionFromContext(oidcauth.ContextWithSession(t.Context(), s)); !ok || got != s {
		t.Error("SessionFromContext does not find the session of ContextWithSession")
	}
	if _, ok := oidcauth.SessionFromContext(t.Context()); ok {
		t.Error("SessionFromContext finds a session in an empty context")
	}
	if err := new(oidcauth.Session).Claims(&claims); err != nil {
		t.Logf("the zero session's claims: %v", err)
	}
	if err := oidcauth.NewSession(map[string]any{"f": func() {}}).Claims(&claims); err == nil {
		t.Error("claims that are no JSON are no error")
	}
}

// A person is what differs between two sessions of the same shape.
type person struct{ api, subject, sid, org, name, nickname, email, picture, updated, scope, permissions string }

// performance.md, "The reference session", through a whole login; and one with other people's values within 5 % of it.
func TestTheReferenceSessionFitsOneSmallCookie(t *testing.T) {
	t.Parallel()
	size := func(p person) int {
		a := newApp(t, func(o *oidcauth.Options) { o.Scopes, o.Audience = strings.Fields(p.scope), p.api })
		permissions := strings.Fields(p.permissions)
		access := map[string]any{
			"iss": a.op.Issuer(), "sub": p.subject, "aud": []string{p.api, a.op.Issuer() + "userinfo"},
			"iat": 1773480413, "exp": 1773566813,
			"scope": p.scope, "org_id": p.org, "jti": rand.Text()[:22], "client_id": a.op.Options().ClientID,
			"permissions": permissions,
		}
		a.op.Change(func(k *oidcauthtest.Knobs) {
			k.SID = p.sid
			k.EditIDToken = func(claims map[string]any) { delete(claims, "at_hash") } // it is of another access token
			k.EditTokens = func(response map[string]any) {
				response["access_token"] = jwt(t, map[string]any{"alg": "RS256", "typ": "at+jwt", "kid": rand.Text()[:21]}, access)
				response["refresh_token"] = noise(64)
			}
		})
		cookie := a.cookies(t, oidcauthtest.User{Subject: p.subject, Claims: map[string]any{
			"name": p.name, "nickname": p.nickname, "email": p.email, "email_verified": true, "picture": p.picture,
			"updated_at": p.updated, "org_id": p.org,
		}})
		_, v, _ := strings.Cut(cookie, "=")
		if strings.Contains(v, ";") {
			t.Fatalf("%s has several cookies", p.name)
		}
		return len(v)
	}
	reference := size(person{
		"https://api.contoso.example", "auth0|64f0c1e2a3b4c5d6e7f80912", "u4Zk1Vt9XoR7bNq2WcJ8yMh5LdPs3GfA", "org_Tn4cXw9LbQ2vRz7K",
		"Johanna Lindqvist", "johanna.lindqvist", "johanna.lindqvist@engineering.contoso.se",
		"https://media.contoso.example/people/7f3a9c2e51d84b06/johanna-lindqvist/face.jpg", "2026-03-14T09:26:53.589Z",
		"openid profile email offline_access read:orders write:orders read:invoices",
		"read:orders write:orders delete:orders read:invoices approve:invoices read:annual-reports",
	})
	other := size(person{
		"https://gateway.northwind.example", "auth0|5b90de77f1c2a4839e06b15d", "Lr7Wq0NzYc3VbKt5XhPd9JmGs2FaEu8T", "org_Pz6mVk3RtYb9Wd1H",
		"Giuseppe Castellano", "g.castellano", "giuseppe.castellano@depot.northwind.net",
		"https://img.northwind.example/u/e0b73c11a9f2/castellano-giuseppe-2025/square_256.png", "2025-07-30T18:02:11.402Z",
		"openid profile email offline_access view:parcels move:parcels view:routes",
		"view:parcels move:parcels scrap:parcels view:routes change:routes view:monthly-totals",
	})
	t.Logf("reference session %d characters, other people's %d", reference, other)
	if reference > 1750 {
		t.Errorf("the reference session has %d characters, want at most 1,750", reference)
	}
	if float64(other) > 1.05*float64(reference) {
		t.Errorf("with other people's values it has %d characters, over 5 %% more than %d", other, reference)
	}
}

// jwt returns a token of the usual size: its signature is noise, which nobody verifies.
func jwt(t testing.TB, header, payload map[string]any) string {
	t.Helper()
	var parts []string
	for _, part := range []map[string]any{header, payload} {
		encoded, err := json.Marshal(part)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString(encoded))
	}
	signature := make([]byte, 256)
	_, _ = rand.Read(signature)
	return strings.Join(append(parts, base64.RawURLEncoding.EncodeToString(signature)), ".")
}

// Not parallel: allocations are counted for the whole process. A target will hold the number later.
func TestAllocationsOfAGuardedRequest(t *testing.T) {
	a := newApp(t)
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Cookie", a.cookies(t, oidcauthtest.Alice))
	count := func(h http.Handler) float64 {
		w := httptest.NewRecorder()
		return testing.AllocsPerRun(200, func() { clear(w.Header()); h.ServeHTTP(w, r) })
	}
	subject := ""
	read := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if s, err := a.GetSession(r); err == nil {
			subject = s.Subject
		}
	})
	t.Logf("RequireAuth and GetSession: %.0f allocations; in Wrap too: %.0f", count(a.RequireAuth(read)), count(a.Wrap(a.RequireAuth(read))))
	if subject != "alice" {
		t.Errorf("the subject is %q", subject)
	}
}

// A session may be read from several goroutines, also while the request's handler updates it.
func TestManyGoroutinesReadOneSession(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	resp := ask(a.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shared, _ := a.GetSession(r)
		var group sync.WaitGroup
		for i := range 64 {
			group.Go(func() {
				s, err := a.GetSession(r)
				if err != nil {
					t.Errorf("GetSession: %v", err)
					return
				}
				for _, s := range []*oidcauth.Session{s, shared} {
					var claims struct{ Email string }
					if err := s.Claims(&claims); err != nil || claims.Email != "alice@example.com" {
						t.Errorf("Claims: %q, %v", claims.Email, err)
					}
					_, _ = s.Value("cart", new(int))
				}
				if i%16 == 0 {
					if err := a.UpdateSession(w, r, set("cart", i)); err != nil {
						t.Errorf("UpdateSession: %v", err)
					}
				}
			})
		}
		group.Wait()
	})), "GET", "/", "Cookie", a.cookies(t, oidcauthtest.Alice))
	if n := len(sessionLines(resp.Header)); n != 1 {
		t.Errorf("%d session cookies", n)
	}
}
