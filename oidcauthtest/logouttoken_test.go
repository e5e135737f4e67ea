package oidcauthtest_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

type object = map[string]any

// decoded returns header and claims of a token, without a look at its signature.
func decoded(t *testing.T, token string) (header, claims object) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts, want 3: %s", len(parts), token)
	}
	for i, v := range []*object{&header, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err == nil {
			err = json.Unmarshal(text, v)
		}
		if err != nil {
			t.Fatalf("part %d of %s: %v", i, token, err)
		}
	}
	return header, claims
}

// published reports whether a key of the provider's key set made the token's signature, under the id that it names.
func published(t *testing.T, p *oidcauthtest.Provider, token string) bool {
	t.Helper()
	resp, err := p.HTTPClient().Get("https://op.test/jwks")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var set jose.JSONWebKeySet
	if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
		t.Fatal(err)
	}
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{"RS256", "RS384", "ES256", "EdDSA"})
	if err != nil {
		return false
	}
	return slices.ContainsFunc(set.Key(jws.Signatures[0].Header.KeyID), func(key jose.JSONWebKey) bool {
		_, err := jws.Verify(key)
		return err == nil
	})
}

func TestALogoutToken(t *testing.T) { // Back-Channel Logout 1.0, 2.4
	t.Parallel()
	for name, want := range map[string]object{
		"of a session and its user": {"sub": "alice", "sid": "s 1"},
		"of a session":              {"sid": "s 1"},
		"of a user":                 {"sub": "alice"},
		"of nobody":                 {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := oidcauthtest.NewProvider(t)
				subject, _ := want["sub"].(string)
				sid, _ := want["sid"].(string)
				token := p.LogoutToken(subject, sid)
				header, claims := decoded(t, token)
				if header["alg"] != "RS256" || header["typ"] != "logout+jwt" || len(header) != 3 || !published(t, p, token) {
					t.Errorf("header %v, or it is not signed with a published key", header)
				}
				jti, _ := claims["jti"].(string)
				if _, again := decoded(t, p.LogoutToken(subject, sid)); len(jti) < 16 || again["jti"] == jti {
					t.Errorf("jti %q and then %q", jti, again["jti"])
				}
				delete(claims, "jti")
				now := float64(time.Now().Unix())
				want["iss"], want["aud"], want["iat"], want["exp"] = "https://op.test/", "test-client", now, now+120
				want["events"] = object{logoutEvent: object{}}
				if !reflect.DeepEqual(claims, want) {
					t.Errorf("claims %v, want %v", claims, want)
				}
			})
		})
	}
}

func TestALogoutTokenIsEdited(t *testing.T) {
	t.Parallel()
	set := func(name string, value any) func(h, c object) { return func(_, c object) { c[name] = value } }
	alg := func(name any) func(h, c object) { return func(h, _ object) { h["alg"] = name } }
	for _, tt := range []struct {
		name   string
		edits  []func(header, claims object)
		want   func(header, claims object) bool
		signed bool // with a published key
	}{
		{"null", []func(h, c object){set("nonce", nil)}, func(_, c object) bool {
			nonce, has := c["nonce"]
			return has && nonce == nil
		}, true},
		{"deleted", []func(h, c object){func(h, c object) { delete(h, "typ"); delete(c, "jti") }}, func(h, c object) bool {
			return h["typ"] == nil && c["jti"] == nil
		}, true},
		{
			"in turn",
			[]func(h, c object){set("aud", "a"), func(_, c object) { c["aud"] = []any{c["aud"], "b"} }},
			func(_, c object) bool { return fmt.Sprint(c["aud"]) == "[a b]" }, true,
		},
		{"unsigned", []func(h, c object){alg("none")}, func(h, _ object) bool { return h["alg"] == "none" }, false},
		{"ES256", []func(h, c object){alg("ES256")}, func(h, _ object) bool { return h["alg"] == "ES256" }, true},
		{"EdDSA", []func(h, c object){alg("EdDSA")}, func(h, _ object) bool { return h["alg"] == "EdDSA" }, true},
		{"RS384", []func(h, c object){alg("RS384")}, func(h, _ object) bool { return h["alg"] == "RS384" }, true},
		{"HS256", []func(h, c object){alg("HS256")}, func(h, _ object) bool { return h["alg"] == "HS256" }, false},
		{
			"ES256 with another key id",
			[]func(h, c object){alg("ES256"), func(h, _ object) { h["kid"] = "x" }},
			func(h, _ object) bool { return h["alg"] == "ES256" && h["kid"] == "x" }, false,
		},
		{
			"no key id",
			[]func(h, c object){alg("ES256"), func(h, _ object) { delete(h, "kid") }},
			func(h, _ object) bool { return h["kid"] == nil }, false,
		},
	} {
		p := oidcauthtest.NewProvider(t)
		token := p.LogoutToken("alice", "s", tt.edits...)
		header, claims := decoded(t, token)
		if !tt.want(header, claims) || published(t, p, token) != tt.signed {
			t.Errorf("%s: header %v, claims %v, want a signature of a published key: %v", tt.name, header, claims, tt.signed)
		}
		if unsigned := strings.HasSuffix(token, "."); unsigned != (header["alg"] == "none") {
			t.Errorf("%s: with alg %v its signature is empty: %v", tt.name, header["alg"], unsigned)
		}
	}
}

func TestTheKnobsSignLogoutTokens(t *testing.T) {
	t.Parallel()
	p := oidcauthtest.NewProvider(t, func(o *oidcauth.Options) { o.IDTokenSigningAlgs = []string{"ES256"} })
	before := p.LogoutToken("alice", "")
	if header, _ := decoded(t, before); header["alg"] != "ES256" || !published(t, p, before) {
		t.Errorf("header %v with SigningAlg ES256, or signed with another key", header)
	}
	p.RotateKeys()
	if published(t, p, before) || !published(t, p, p.LogoutToken("alice", "")) {
		t.Error("after a rotation the old token verifies, or a new one does not")
	}
	p.Change(func(k *oidcauthtest.Knobs) { k.SigningKey, k.SigningAlg = "unpublished", "" })
	if published(t, p, p.LogoutToken("alice", "")) {
		t.Error("signed with a published key")
	}
	p.Change(func(k *oidcauthtest.Knobs) {
		*k = oidcauthtest.Knobs{NoKeyIDs: 1, EditLogoutToken: func(h, c object) { h["typ"], c["aud"] = "first", "first" }}
	})
	token := p.LogoutToken("alice", "", func(h, _ object) { h["typ"] = h["typ"].(string) + " and second" })
	if h, c := decoded(t, token); h["typ"] != "first and second" || c["aud"] != "first" || h["kid"] != nil {
		t.Errorf("header %v, aud %v", h, c["aud"])
	}
}

func TestALogoutTokenThatCannotBeMadeStopsTheTest(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(h, c object){
		"an unknown alg":       func(h, _ object) { h["alg"] = "XS256" },
		"a claim without JSON": func(_, c object) { c["x"] = func() {} },
	} {
		f := &failures{TB: t}
		p := oidcauthtest.NewProvider(f)
		if !stopped(func() { p.LogoutToken("alice", "", edit) }) {
			t.Errorf("%s: the test goes on", name)
		}
	}
}

// An rp is an application at https://app.test whose page /backchannel answers logout tokens with a status. It is asked
// by one goroutine.
type rp struct {
	op      *oidcauthtest.Provider
	client  *oidcauth.Client
	handler http.Handler

	status int // or closed, hangs
	posts  []*http.Request
	pages  []string // paths asked for, in turn
}

// Instead of a status.
const (
	closed = -iota // the connection
	hangs
)

func newRP(t testing.TB) *rp {
	a := &rp{status: http.StatusOK}
	a.client, a.op = oidcauthtest.NewClient(t, quiet)
	mux := newMux(a.client).(*http.ServeMux)
	mux.HandleFunc("/backchannel", a.backchannel)
	wrapped := a.client.Wrap(mux)
	a.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.pages = append(a.pages, r.URL.Path)
		wrapped.ServeHTTP(w, r)
	})
	a.op.Serve("app.test", a.handler)
	a.op.Change(func(k *oidcauthtest.Knobs) { k.BackchannelLogoutURI = "https://app.test/backchannel" })
	return a
}

func (a *rp) backchannel(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	a.posts = append(a.posts, r)
	switch a.status {
	case closed:
		panic(http.ErrAbortHandler)
	case hangs:
		<-r.Context().Done()
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", "/account")
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, "told")
}

// tokens are the claims of the logout tokens so far.
func (a *rp) tokens(t *testing.T) []object {
	t.Helper()
	var all []object
	for _, r := range a.posts {
		_, claims := decoded(t, r.PostForm.Get("logout_token"))
		all = append(all, claims)
	}
	return all
}

func TestTheEndOfASessionIsSent(t *testing.T) { // OIDF back-channel plan: while end_session is open
	t.Parallel()
	a := newRP(t)
	var browsers []*oidcauthtest.Browser
	for _, name := range []string{"alice", "alice", "bob"} {
		b := a.op.NewBrowser(a.handler)
		b.SignIn(oidcauthtest.User{Subject: name})
		browsers = append(browsers, b)
	}
	sids := a.op.SIDs("alice")
	a.pages = nil
	browsers[0].SignOut()
	if want := []string{"/auth/logout", "/backchannel", "/"}; !slices.Equal(a.pages, want) {
		t.Errorf("the application was asked for %q, want %q", a.pages, want)
	}
	tokens := a.tokens(t)
	if len(tokens) != 1 || len(sids) != 2 || tokens[0]["sid"] != sids[0] || tokens[0]["sub"] != "alice" {
		t.Fatalf("sent %v, want the session %s of alice, who has %q", tokens, sids[0], sids)
	}
	r := a.posts[0]
	if r.Method != http.MethodPost || r.PostForm.Get("ignored") != "1" || len(r.PostForm) != 2 || r.URL.RawQuery != "" {
		t.Errorf("sent by %s to %s with the form %v", r.Method, r.URL, r.PostForm)
	}
	if len(r.Header) != 1 || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		t.Errorf("header %v, want a server's, without cookies", r.Header)
	}
	if !published(t, a.op, r.PostForm.Get("logout_token")) {
		t.Error("not signed with a published key")
	}
	browsers[2].SignOut()
	if tokens := a.tokens(t); len(tokens) != 2 || tokens[1]["sub"] != "bob" {
		t.Errorf("then sent %v", tokens)
	}
}

func TestAnswersToLogoutTokens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newRP(t)
		start := time.Now()
		for _, status := range []int{200, 400, 302, closed, hangs, 503} {
			a.status = status
			b := a.op.NewBrowser(a.handler)
			b.SignIn(oidcauthtest.Alice)
			if got := b.SignOut(); got.StatusCode != 200 || got.URL.Path != "/" {
				t.Errorf("answered %d: the browser is at %s with %d, want the start page", status, got.URL, got.StatusCode)
			}
		}
		var got []int
		for i, r := range a.op.LogoutAnswers() {
			got = append(got, r.StatusCode)
			if r.StatusCode != 0 && (r.Body != "told" || r.Header.Get("Cache-Control") != "no-store") {
				t.Errorf("answer %d: %v %q", i, r.Header, r.Body)
			}
		}
		if want := []int{200, 400, 302, 0, 0, 503}; !slices.Equal(got, want) { // no redirect is followed
			t.Errorf("statuses %v, want %v", got, want)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("waited %v for an application that hangs, want 10s", took)
		}
	})
}

func TestALogoutTokenForNobodyFailsTheTest(t *testing.T) {
	t.Parallel()
	f := &failures{TB: t}
	client, provider := oidcauthtest.NewClient(f, quiet)
	provider.Change(func(k *oidcauthtest.Knobs) { k.BackchannelLogoutURI = "https://other.test/backchannel" })
	b := provider.NewBrowser(client.Wrap(newMux(client)))
	b.SignIn(oidcauthtest.Alice)
	b.SignOut()
	f.expect(t, "nothing answers at https://other.test: add it with Provider.Serve")
}

func TestSIDs(t *testing.T) {
	t.Parallel()
	a := newRP(t)
	b := a.op.NewBrowser(a.handler)
	signIn := func(k oidcauthtest.Knobs, subject string) {
		a.op.Change(func(knobs *oidcauthtest.Knobs) { *knobs = k })
		b.SignIn(oidcauthtest.User{Subject: subject})
	}
	signIn(oidcauthtest.Knobs{}, "alice")
	signIn(oidcauthtest.Knobs{}, "bob")
	signIn(oidcauthtest.Knobs{SID: "fixed"}, "alice")
	signIn(oidcauthtest.Knobs{SID: "-"}, "alice")
	signIn(oidcauthtest.Knobs{OddSIDs: true}, "alice")
	s, err := a.client.GetSession(b.Request(http.MethodGet, "/"))
	if err != nil {
		t.Fatal(err)
	}
	sids := a.op.SIDs("alice")
	if len(sids) != 3 || sids[1] != "fixed" || sids[2] != s.SID || sids[0] == a.op.SIDs("bob")[0] {
		t.Errorf("sids %q of alice and %q of bob, the session's is %q", sids, a.op.SIDs("bob"), s.SID)
	}
	for _, c := range ` &#%+"` {
		if !strings.ContainsRune(sids[2], c) {
			t.Errorf("%q has no %c", sids[2], c)
		}
	}
	b.NoRedirects().Get(b.NoRedirects().Get("/auth/login").Location()) // the application has not redeemed the code
	if got := len(a.op.SIDs("alice")); got != 4 {
		t.Errorf("%d sids after a login that goes on, want 4", got)
	}
}

// flaws are what is wrong with a logout token of the session sid, of alice.
func flaws(t *testing.T, p *oidcauthtest.Provider, token, sid string) []string {
	t.Helper()
	h, c := decoded(t, token)
	events, _ := c["events"].(object)
	nonce, hasNonce := c["nonce"]
	now := time.Now().Unix()
	var found []string
	for name, wrong := range map[string]bool{
		"alg":              h["alg"] != "RS256",
		"signature":        !published(t, p, token),
		"typ":              h["typ"] != nil, // the suite has none
		"iss":              c["iss"] != "https://op.test/",
		"aud":              c["aud"] != "test-client",
		"times":            c["iat"] != float64(now) || c["exp"] != float64(now+120),
		"sub":              c["sub"] != "alice",
		"sid":              c["sid"] != sid || !strings.Contains(sid, " "),
		"jti":              c["jti"] == nil,
		"unknown claim":    c["unknown"] == nil,
		"no events":        c["events"] == nil,
		"another event":    len(events) == 1 && events[logoutEvent] == nil,
		"nonce":            hasNonce && nonce != nil,
		"number of claims": len(c) < 8 || len(c) > 10,
	} {
		if wrong {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

func TestBackchannelMisbehaviours(t *testing.T) { // oidcc-client-back-channel-logout-rp-basic
	t.Parallel()
	tests := map[string][]string{
		"backchannel-rpinitlogout": nil, // as it should be
		"backchannel-alg-none":     {"alg", "signature"},
		"backchannel-no-event":     {"no events"},
		"backchannel-with-nonce":   {"nonce"},
		"backchannel-wrong-alg":    {"alg"},
		"backchannel-wrong-aud":    {"aud"},
		"backchannel-wrong-event":  {"another event"},
		"backchannel-wrong-iss":    {"iss"},
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newRP(t)
				a.op.Misbehave(name)
				b := a.op.NewBrowser(a.handler)
				b.SignIn(oidcauthtest.Alice)
				b.SignOut()
				if len(a.posts) != 1 {
					t.Fatalf("%d logout tokens, want 1", len(a.posts))
				}
				sid := a.op.SIDs("alice")[0]
				for _, token := range []string{a.posts[0].PostForm.Get("logout_token"), a.op.LogoutToken("alice", sid)} {
					if got := flaws(t, a.op, token, sid); !slices.Equal(got, want) {
						t.Errorf("wrong are %q, want %q", got, want)
					}
				}
			})
		})
	}
	for _, name := range oidcauthtest.BackchannelMisbehaviours() {
		if len(tests[name]) == 0 {
			t.Errorf("nothing says what is wrong with %s", name)
		}
	}
	if n := len(oidcauthtest.BackchannelMisbehaviours()); n != len(tests)-1 {
		t.Errorf("%d names, want %d", n, len(tests)-1)
	}
}

func TestMisbehavioursOfLogoutTokensAddUp(t *testing.T) {
	t.Parallel()
	p := oidcauthtest.NewProvider(t)
	p.Change(func(k *oidcauthtest.Knobs) { k.EditLogoutToken = func(_, c object) { c["aud"] = "other" } })
	p.Misbehave("backchannel-wrong-aud")
	p.Misbehave("backchannel-no-event")
	if _, c := decoded(t, p.LogoutToken("alice", "")); c["aud"] != "other1" || c["events"] != nil {
		t.Errorf("claims %v", c)
	}
}

func TestFrontchannelLogout(t *testing.T) { // Front-Channel Logout 1.0, 2
	t.Parallel()
	a := newRP(t)
	a.op.Change(func(k *oidcauthtest.Knobs) { k.FrontchannelLogoutURI = "https://app.test/front" })
	b := a.op.NewBrowser(a.handler)
	b.SignIn(oidcauthtest.Alice)
	sid := a.op.SIDs("alice")[0]
	end := b.SignOut()
	if end.URL.Path != "/" || end.URL.Host != "app.test" || len(end.History) != 2 || len(a.posts) != 1 {
		t.Fatalf("the browser is at %s, by %d others, after %d logout tokens", end.URL, len(end.History), len(a.posts))
	}
	target := a.op.FrontchannelLogoutURL(sid)
	if page := end.History[1]; !strings.Contains(page.Body, ` src="`+strings.ReplaceAll(target, "&", "&amp;")+`"`) {
		t.Errorf("%s answers %s, want a frame with %s", page.URL, page.Body, target)
	}

	r := httptest.NewRequest(http.MethodGet, target, nil) // as the documentation has it
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Dest", "iframe")
	got := b.From(a.op.Issuer()).Do(r).Request
	if q := got.URL.Query(); q.Get("iss") != "https://op.test/" || q.Get("sid") != sid ||
		got.Header.Get("Sec-Fetch-Site") != "cross-site" {
		t.Errorf("the frame asks for %s with %v", got.URL, got.Header)
	}
	f := &failures{TB: t}
	if p := oidcauthtest.NewProvider(f); !stopped(func() { p.FrontchannelLogoutURL(sid) }) {
		t.Error("a test without a front-channel logout goes on")
	}
}

func TestAnswersAreHeld(t *testing.T) { // S05
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, p := oidcauthtest.NewClient(t, quiet)
		b := p.NewBrowser(client.Wrap(newMux(client)))
		release := p.HoldAnswer("token")
		done := make(chan int, 1)
		go func() { done <- b.Get("/auth/login").StatusCode }()
		synctest.Wait()
		if p.ActiveRefreshTokens("alice") != 1 || len(done) != 0 {
			t.Errorf("%d refresh tokens and %d answers, want one and none", p.ActiveRefreshTokens("alice"), len(done))
		}
		release()
		if got := <-done; got != 200 {
			t.Errorf("after the release: status %d", got)
		}
	})
	f := &failures{TB: t}
	if p := oidcauthtest.NewProvider(f); !stopped(func() { p.HoldAnswer("tokens") }) {
		t.Error("HoldAnswer goes on with a name that does not exist")
	}
}
