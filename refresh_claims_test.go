package oidcauth_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// newClaimsApp returns a [tokenApp] whose page /claims answers with all claims of the session.
func newClaimsApp(t testing.TB, op *oidcauthtest.Provider, edit ...func(*oidcauth.Options)) *tokenApp {
	t.Helper()
	a := newTokenAppAt(t, op, edit...)
	a.mux.HandleFunc("/claims", func(w http.ResponseWriter, r *http.Request) {
		var claims map[string]any
		s, err := a.GetSession(r)
		if err == nil {
			err = s.Claims(&claims)
		}
		if err != nil {
			a.Error(w, r, err)
			return
		}
		claims["session sid"] = s.SID
		_ = json.NewEncoder(w).Encode(claims)
	})
	return a
}

// claims are those that b's session has, nil without one.
func (a *tokenApp) claims(t testing.TB, b *oidcauthtest.Browser) (claims map[string]any) {
	t.Helper()
	resp := b.Fetch("/claims")
	if resp.StatusCode == http.StatusOK && json.Unmarshal([]byte(resp.Body), &claims) != nil {
		t.Fatalf("the claims are %s", resp.Body)
	}
	return claims
}

// onRefresh changes the ID tokens of refreshes, which have no nonce (Core 12.2).
func (a *tokenApp) onRefresh(f func(claims map[string]any)) {
	a.op.EditIDToken(func(c map[string]any) {
		if c["nonce"] == nil {
			f(c)
		}
	})
}

// atLogin changes the ID tokens of op's logins.
func atLogin(op *oidcauthtest.Provider, f func(claims map[string]any)) {
	op.EditIDToken(func(c map[string]any) {
		if c["nonce"] != nil {
			f(c)
		}
	})
}

// signedIn says how Alice has signed in.
func signedIn(c map[string]any) { c["acr"], c["amr"] = "silver", []string{"pwd"} }

// rename lets refreshes call Alice by another name from now on.
func (a *tokenApp) rename(name string) { a.onRefresh(func(c map[string]any) { c["name"] = name }) }

// set returns a change of a refreshed ID token.
func setClaim(name string, value any) func(*tokenApp) {
	return func(a *tokenApp) { a.onRefresh(func(c map[string]any) { c[name] = value }) }
}

func dropClaim(name string) func(*tokenApp) {
	return func(a *tokenApp) { a.onRefresh(func(c map[string]any) { delete(c, name) }) }
}

func turn(f func(*oidcauthtest.Knobs)) func(*tokenApp) { return func(a *tokenApp) { a.op.Change(f) } }

// payload changes the text of refreshed ID tokens' claims, which the client secret signs.
func payload(f func(string) string) func(*tokenApp) {
	return func(a *tokenApp) {
		secret := a.op.Options().ClientSecret
		a.op.Change(func(k *oidcauthtest.Knobs) {
			k.MangleIDToken = func(jwt string) string {
				parts := strings.Split(jwt, ".")
				text, _ := base64.RawURLEncoding.DecodeString(parts[1])
				signed := parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(f(string(text))))
				mac := hmac.New(sha256.New, []byte(secret))
				mac.Write([]byte(signed))
				return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
			}
		})
	}
}

// The fate of the session and of the claims after a refresh.
type fateOfRefresh string

const (
	ends  fateOfRefresh = "the session ends"                        // and the new refresh token is revoked
	takes fateOfRefresh = "the new claims are taken"                // and the tokens
	odd   fateOfRefresh = "the new claims are taken, with an event" // and the tokens
	keeps fateOfRefresh = "the old claims stay, with an event"      // but the tokens are taken (S05)
	quiet fateOfRefresh = "the old claims stay"                     // and the tokens are taken (RFT-04)
)

// RFT-03 with security.md's change: what says that the token is another's ends the session, what real providers get wrong
// does not.
func TestClaimsOfARefreshedIDToken(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	ago := func(name string, d time.Duration) func(*tokenApp) {
		return func(a *tokenApp) { a.onRefresh(func(c map[string]any) { c[name] = at(-d) }) }
	}
	tests := []struct {
		name   string
		change func(*tokenApp)
		want   fateOfRefresh
	}{
		{"nothing unusual", func(*tokenApp) {}, takes},
		// whose it is
		{"iss of another", setClaim("iss", "https://op.test"), ends},
		{"iss missing", dropClaim("iss"), ends},
		{"iss as a list", setClaim("iss", []string{"https://op.test/"}), ends},
		{"sub of another", setClaim("sub", "mallory"), ends},
		{"sub in other letters", setClaim("sub", "Alice"), ends},
		{"sub missing", dropClaim("sub"), ends},
		{"sub empty", setClaim("sub", ""), ends},
		{"sub as a number", setClaim("sub", 1), ends},
		{"aud of another", setClaim("aud", "another"), ends},
		{"aud missing", dropClaim("aud"), ends},
		{"aud with one that is not trusted", setClaim("aud", []string{"test-client", "another"}), ends},
		{"aud as a list of one", setClaim("aud", []string{"test-client"}), takes},
		{"azp of another", setClaim("azp", "another"), ends},
		{"azp of ours", setClaim("azp", "test-client"), takes},
		// who signed it
		{"a broken signature", func(a *tokenApp) { a.op.Misbehave("invalid-sig-rs256") }, ends},
		{"no signature", func(a *tokenApp) { a.op.Misbehave("idtoken-sig-none") }, ends},
		{"another algorithm, by a published key", func(a *tokenApp) { a.op.Misbehave("alternate-alg") }, ends},
		{"HS256 with the public key", func(a *tokenApp) { a.op.Misbehave("hs256-public-key") }, ends},
		{"HS256 with the client secret", func(a *tokenApp) { a.op.Misbehave("hs256-secret") }, ends},
		{"a key that is not published", func(a *tokenApp) { a.op.Misbehave("unpublished-key") }, ends},
		{"a key for encryption", func(a *tokenApp) { a.op.Misbehave("enc-key") }, ends},
		{"a key id nobody knows", func(a *tokenApp) { a.op.Misbehave("unknown-kid") }, ends},
		{"the type of another token", func(a *tokenApp) { a.op.Misbehave("typ-of-another") }, ends},
		{"an extension that is critical", func(a *tokenApp) { a.op.Misbehave("crit-unknown") }, ends},
		{"no JWT", turn(func(k *oidcauthtest.Knobs) { k.MangleIDToken = func(string) string { return "garbage" } }), ends},
		{"four parts", turn(func(k *oidcauthtest.Knobs) { k.MangleIDToken = func(s string) string { return s + ".x" } }), ends},
		{"too long", setClaim("x", strings.Repeat("x", 64<<10)), ends},
		{"new keys", func(a *tokenApp) { a.op.RotateKeys() }, takes},
		{"new keys that cannot be had", func(a *tokenApp) {
			a.op.RotateKeys()
			a.op.Fail("jwks", 503, "", -1)
		}, keeps},
		{"new keys at an endpoint that closes the connection", func(a *tokenApp) {
			a.op.RotateKeys()
			a.op.Fail("jwks", 0, "", -1)
		}, keeps},
		{"new keys at an endpoint that does not answer", func(a *tokenApp) {
			a.op.RotateKeys()
			a.op.Delay("jwks", time.Hour)
		}, keeps},
		{"old keys that cannot be had again", func(a *tokenApp) { a.op.Fail("jwks", 503, "", -1) }, takes},
		{"an at_hash of another token", setClaim("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), keeps},
		{"at_hash missing", dropClaim("at_hash"), takes},
		// when, and how the user signed in: the login's stay
		{"another nonce", setClaim("nonce", "another"), odd},
		{"the same nonce", func(a *tokenApp) {
			a.onRefresh(func(c map[string]any) { c["nonce"] = a.op.Requests("authorize")[0].Form.Get("nonce") })
		}, takes},
		{"another auth_time", ago("auth_time", time.Hour), odd},
		{"a newer auth_time", ago("auth_time", 0), odd},
		{"auth_time missing", dropClaim("auth_time"), takes},
		{"iat an hour ago", ago("iat", time.Hour), keeps},
		{"iat five minutes ago", ago("iat", 5*time.Minute), takes},
		{"iat ahead", ago("iat", -time.Hour), keeps},
		{"iat missing", dropClaim("iat"), keeps},
		{"iat as text", setClaim("iat", "now"), keeps},
		{"exp past", ago("exp", time.Hour), keeps},
		{"exp missing", dropClaim("exp"), keeps},
		{"nbf ahead", ago("nbf", -time.Hour), keeps},
		{"another sid", setClaim("sid", "another"), takes},
		{"sid missing", dropClaim("sid"), takes},
		{"a better acr", setClaim("acr", "gold"), takes},
		{"acr missing", dropClaim("acr"), takes},
		{"more amr", setClaim("amr", []string{"pwd", "otp"}), takes},
		{"a better ACR in capitals", setClaim("ACR", "gold"), takes},
		// there is none
		{"no ID token", func(a *tokenApp) {
			a.op.EditTokenResponse(func(r map[string]any) { delete(r, "id_token") })
		}, quiet},
		{"an empty ID token", func(a *tokenApp) { a.op.EditTokenResponse(func(r map[string]any) { r["id_token"] = "" }) }, quiet},
		{"an ID token that is null", func(a *tokenApp) { a.op.EditTokenResponse(func(r map[string]any) { r["id_token"] = nil }) }, quiet},
	}
	for _, tt := range tests {
		t.Run(tt.name+": "+string(tt.want), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				op := oidcauthtest.NewProvider(t)
				atLogin(op, signedIn)
				a := newClaimsApp(t, op)
				defer a.settle(t)
				checkRefreshed(t, a, tt.change, tt.want)
			})
		})
	}
}

// checkRefreshed changes the provider, refreshes, and asserts what becomes of session, tokens and claims.
func checkRefreshed(t *testing.T, a *tokenApp, change func(*tokenApp), want fateOfRefresh) {
	t.Helper()
	before, stolen := a.claims(t, a.browser), a.browser.Clone()
	first, _ := a.token(a.browser, "")
	time.Sleep(70 * time.Second)
	a.rename("Alice Renamed")
	change(a)
	seen := len(a.logs.names())
	resp, err := a.token(a.browser, "")
	a.settle(t) // the revocations
	events := slices.DeleteFunc(a.logs.names()[seen:], func(name string) bool { return name == "session.joined" })
	if a.op.Grants() != 1 {
		t.Fatalf("%d grants, want 1: %v", a.op.Grants(), err)
	}
	if want == ends {
		meansEnd.expect(t, "", resp, err)
		if !deletesSession(resp) || a.claims(t, a.browser) != nil || a.claims(t, stolen) != nil {
			t.Error("there is a session still")
		}
		if _, err := a.token(stolen, ""); !errors.Is(err, oidcauth.ErrNoSession) {
			t.Errorf("with the cookie of before: %v, want no session", err)
		}
		if n := a.op.ActiveRefreshTokens("alice"); n != 0 {
			t.Errorf("%d refresh tokens work, want the new one revoked", n) // S44
		}
		if !slices.Equal(events, []string{"refresh.failed", "session.ended"}) {
			t.Errorf("the events are %q", events)
		}
		return
	}
	if subject, _, _, live := a.op.AccessToken(resp.Body); err != nil || resp.Body == first.Body || subject != "alice" || !live {
		t.Fatalf("the refresh: %d %v", resp.StatusCode, err)
	}
	if n := a.op.ActiveRefreshTokens("alice"); n != 1 {
		t.Errorf("%d refresh tokens work, want 1", n)
	}
	wanted := []string{"session.refreshed"}
	if want == odd || want == keeps {
		wanted = []string{"refresh.mismatch", "session.refreshed"}
	}
	if !slices.Equal(events, wanted) {
		t.Errorf("the events are %q, want %q", events, wanted)
	}
	name := "Alice Renamed"
	if want == keeps || want == quiet {
		name = "Alice Example"
	}
	for place, b := range map[string]*oidcauthtest.Browser{"the browser": a.browser, "a straggler": stolen} {
		after := a.claims(t, b)
		if after["name"] != name {
			t.Errorf("for %s the name is %v, want %s", place, after["name"], name)
		}
		if got := profile(t, b.Fetch("/auth/profile"))["name"]; got != name {
			t.Errorf("for %s the profile has the name %v, want %s", place, got, name)
		}
		for _, claim := range []string{"sub", "iss", "auth_time", "acr", "amr", "sid", "session sid"} { // S31
			if fmt.Sprint(after[claim]) != fmt.Sprint(before[claim]) {
				t.Errorf("for %s %s was %v and is %v", place, claim, before[claim], after[claim])
			}
		}
		var typed struct{ ACR string }
		text, _ := json.Marshal(after)
		if _ = json.Unmarshal(text, &typed); typed.ACR != "silver" {
			t.Errorf("for %s a struct reads the acr %q", place, typed.ACR)
		}
	}
	time.Sleep(70 * time.Second)
	a.op.Fail("jwks", 0, "", 0)
	if _, err := a.token(a.browser, ""); err != nil || a.op.Reuses() > 0 {
		t.Errorf("the next refresh: %v, with %d reuses", err, a.op.Reuses())
	}
}

// OIDC-31, RFT-03: of two members with one name nobody knows which counts.
func TestDuplicateClaimsOfARefreshedIDToken(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(string) string
		want   fateOfRefresh
	}{
		{"none", func(s string) string { return s }, takes},
		{"sub twice, another's first", func(s string) string { return `{"sub":"mallory",` + s[1:] }, ends},
		{"sub twice, another's last", func(s string) string { return s[:len(s)-1] + `,"sub":"mallory"}` }, ends},
		{"another claim that is SUB", func(s string) string { return s[:len(s)-1] + `,"SUB":"mallory"}` }, takes}, // as at login
		{"name twice", func(s string) string { return s[:len(s)-1] + `,"name":"Mallory"}` }, ends},
		{"a list", func(string) string { return `["alice"]` }, ends},
		{"something after the object", func(s string) string { return s + "{}" }, ends},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				op := oidcauthtest.NewProvider(t, func(o *oidcauth.Options) { o.IDTokenSigningAlgs = []string{"HS256"} })
				atLogin(op, signedIn)
				a := newClaimsApp(t, op)
				defer a.settle(t)
				checkRefreshed(t, a, payload(tt.change), tt.want)
			})
		})
	}
}

// RFT-04: a provider whose refreshed ID token has the protocol's claims alone says nothing about the user.
func TestAMinimalIDTokenKeepsTheUsersClaims(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newClaimsApp(t, oidcauthtest.NewProvider(t))
		defer a.settle(t)
		time.Sleep(70 * time.Second)
		a.onRefresh(func(c map[string]any) { delete(c, "name"); delete(c, "email") })
		if _, err := a.token(a.browser, ""); err != nil {
			t.Fatal(err)
		}
		if c := a.claims(t, a.browser); c["name"] != "Alice Example" || c["email"] != "alice@example.com" {
			t.Errorf("the claims are %v, want the user's of before", c)
		}
		time.Sleep(70 * time.Second)
		a.onRefresh(func(c map[string]any) { c["name"] = "Alice Renamed" })
		if _, err := a.token(a.browser, ""); err != nil {
			t.Fatal(err)
		}
		if c := a.claims(t, a.browser); c["name"] != "Alice Renamed" || c["email"] != nil {
			t.Errorf("the claims are %v, want the new ones alone", c)
		}
	})
}

// What UserInfo said at the login is older than a refreshed ID token.
func TestARefreshedIDTokenIsNewerThanUserInfo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newClaimsApp(t, oidcauthtest.NewProvider(t), func(o *oidcauth.Options) { o.FetchUserInfo = true })
		defer a.settle(t)
		time.Sleep(70 * time.Second)
		a.rename("Alice Renamed")
		if _, err := a.token(a.browser, ""); err != nil {
			t.Fatal(err)
		}
		if c := a.claims(t, a.browser); c["name"] != "Alice Renamed" {
			t.Errorf("the name is %v, want the one of the refresh", c["name"])
		}
	})
}

// A hook counts the calls of BeforeSave, and does what the test says in those after the login.
type hook struct {
	calls int
	do    func(s *oidcauth.Session) error
}

func (h *hook) option(o *oidcauth.Options) {
	o.BeforeSave = func(_ context.Context, s *oidcauth.Session) error {
		if h.calls++; h.do == nil || h.calls == 1 {
			return s.SetValue("from", "login")
		}
		return h.do(s)
	}
}

// value is what the page /value says that b's session has under a key.
func (a *tokenApp) value(b *oidcauthtest.Browser, key string) string {
	return b.Fetch("/value?key=" + key).Body
}

// newValuesApp returns a [tokenApp] with a page /value that tells a value, and a page /set that sets one.
func newValuesApp(t testing.TB, edit ...func(*oidcauth.Options)) *tokenApp {
	t.Helper()
	a := newClaimsApp(t, oidcauthtest.NewProvider(t), edit...)
	a.mux.HandleFunc("/value", func(w http.ResponseWriter, r *http.Request) {
		value := "none"
		s, err := a.GetSession(r)
		if err == nil {
			_, err = s.Value(r.FormValue("key"), &value)
		}
		if err != nil {
			value = err.Error()
		}
		_, _ = w.Write([]byte(value))
	})
	a.mux.HandleFunc("/set", func(w http.ResponseWriter, r *http.Request) {
		err := a.UpdateSession(w, r, func(s *oidcauth.Session) error {
			return s.SetValue(r.FormValue("key"), r.FormValue("value"))
		})
		if err != nil {
			a.Error(w, r, err)
		}
	})
	return a
}

// refresh lets a token expire and gets the next one.
func (a *tokenApp) refresh(t testing.TB, b *oidcauthtest.Browser) {
	t.Helper()
	time.Sleep(70 * time.Second)
	before := a.op.Grants()
	if resp, err := a.token(b, ""); err != nil || a.op.Grants() != before+1 {
		t.Fatalf("the refresh: %d, %v, %d grants", resp.StatusCode, err, a.op.Grants()-before)
	}
}

func TestBeforeSaveSeesClaimsThatARefreshHasChanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &hook{do: func(s *oidcauth.Session) error {
			var claims struct{ Name string }
			if err := s.Claims(&claims); err != nil {
				return err
			}
			return errors.Join(s.SetValue("from", claims.Name), s.SetValue("gone", nil))
		}}
		a := newValuesApp(t, h.option)
		defer a.settle(t)
		a.browser.Fetch("/set?key=gone&value=still+here")
		a.browser.Fetch("/set?key=own&value=mine")
		straggler := a.browser.Clone()
		a.refresh(t, a.browser)
		if h.calls != 1 {
			t.Errorf("called %d times for claims that are the same", h.calls-1)
		}
		a.rename("Alice Renamed")
		a.refresh(t, a.browser)
		if h.calls != 2 {
			t.Fatalf("called %d times for one change", h.calls-1)
		}
		for name, b := range map[string]*oidcauthtest.Browser{"the browser": a.browser, "a straggler": straggler} {
			for key, want := range map[string]string{"from": "Alice Renamed", "gone": "none", "own": "mine"} {
				if got := a.value(b, key); got != want {
					t.Errorf("for %s %s is %q, want %q", name, key, got, want)
				}
			}
		}
		a.refresh(t, a.browser)
		if h.calls != 2 {
			t.Error("called again for claims that are the same")
		}
		other := newAppAt(t, a.op) // the cookie carries all of it
		r := a.browser.Request(http.MethodGet, "/")
		s, err := other.GetSession(r)
		if err != nil {
			t.Fatal(err)
		}
		var from string
		if _, err := s.Value("from", &from); err != nil || from != "Alice Renamed" {
			t.Errorf("in another process from is %q, %v", from, err)
		}
		if ok, _ := s.Value("gone", &from); ok {
			t.Error("in another process the value that was removed is back")
		}
	})
}

// What the application sets after a refresh is newer than what BeforeSave set during it.
func TestAValueThatWasSetAfterARefreshStays(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		hook func(s *oidcauth.Session) error
	}{
		{"over one that BeforeSave set", func(s *oidcauth.Session) error { return s.SetValue("role", "by hook") }},
		{"over one that BeforeSave removed", func(s *oidcauth.Session) error { return s.SetValue("role", nil) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := &hook{do: tt.hook}
				a := newValuesApp(t, h.option)
				defer a.settle(t)
				a.browser.Fetch("/set?key=role&value=first")
				a.rename("Alice Renamed")
				a.refresh(t, a.browser)
				if got := a.value(a.browser, "role"); got == "first" {
					t.Fatalf("after BeforeSave the role is %q", got)
				}
				a.browser.Fetch("/set?key=role&value=by+hand")
				if got := a.value(a.browser, "role"); got != "by hand" {
					t.Errorf("after UpdateSession the role is %q", got)
				}
				a.refresh(t, a.browser)
				if got := a.value(a.browser, "role"); got != "by hand" {
					t.Errorf("after one more refresh the role is %q, want what was set last", got)
				}
			})
		})
	}
}

// The old refresh token is spent and the application does not want the new claims: there is no way back.
func TestBeforeSaveEndsASessionThatItRefuses(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(*oidcauth.Session) error{
		"by an error":              func(*oidcauth.Session) error { return errors.New("suspended") },
		"by a panic":               func(*oidcauth.Session) error { panic("hook") },
		"by an edit of a field":    func(s *oidcauth.Session) error { s.Subject = "mallory"; return nil },
		"by what cannot be stored": func(s *oidcauth.Session) error { return s.SetValue("x", make(chan int)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newValuesApp(t, (&hook{do: do}).option)
				defer a.settle(t)
				checkRefreshed(t, a, func(*tokenApp) {}, ends)
			})
		})
	}
}

// behaviour.md 4: the provider's ceiling may come down, and never goes up.
func TestSessionExpiryOfARefreshedIDToken(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		login     time.Duration   // from the login, 0: the provider says nothing
		refreshes []time.Duration // the same, one for each refresh
		want      time.Duration   // when the session ends
	}{
		{"none", 0, []time.Duration{0}, 3 * day},
		{"earlier", 0, []time.Duration{time.Hour}, time.Hour + 30*time.Second},
		{"earlier than the login's", 2 * time.Hour, []time.Duration{time.Hour}, time.Hour + 30*time.Second},
		{"later than the login's", time.Hour, []time.Duration{2 * time.Hour}, time.Hour + 30*time.Second},
		{"later than AbsoluteTimeout", 0, []time.Duration{9 * day}, 3 * day},
		{"none any more", time.Hour, []time.Duration{0}, time.Hour + 30*time.Second},
		{"earlier, then later", 0, []time.Duration{time.Hour, 2 * time.Hour}, time.Hour + 30*time.Second},
		{"earlier, then none", 0, []time.Duration{time.Hour, 0}, time.Hour + 30*time.Second},
		{"earlier, then later, then none", 0, []time.Duration{time.Hour, 2 * time.Hour, 0}, time.Hour + 30*time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				begun, ceiling := time.Now(), tt.login
				op := oidcauthtest.NewProvider(t)
				op.EditIDToken(func(c map[string]any) {
					if ceiling != 0 {
						c["session_expiry"] = begun.Add(ceiling).Unix()
					}
				})
				a := newClaimsApp(t, op, func(o *oidcauth.Options) { o.IdleTimeout = -1 })
				defer a.settle(t)
				straggler := a.browser.Clone()
				for _, ceiling = range tt.refreshes {
					a.refresh(t, a.browser)
				}
				for name, b := range map[string]*oidcauthtest.Browser{"the browser": a.browser, "a straggler": straggler} {
					s, err := a.GetSession(b.Request(http.MethodGet, "/"))
					if err != nil || s.ExpiresAt.Sub(begun) != tt.want {
						t.Errorf("for %s the session ends %v after the login, want %v: %v", name, s.ExpiresAt.Sub(begun), tt.want, err)
					}
				}
				time.Sleep(time.Until(begun.Add(tt.want)) - 2*time.Second)
				for name, b := range map[string]*oidcauthtest.Browser{"the browser": a.browser, "a straggler": straggler} {
					if a.claims(t, b) == nil {
						t.Errorf("%s has no session just before its end", name)
					}
				}
				time.Sleep(3 * time.Second)
				for name, b := range map[string]*oidcauthtest.Browser{"the browser": a.browser, "a straggler": straggler} {
					if a.claims(t, b) != nil {
						t.Errorf("%s has a session after its end", name)
					}
				}
			})
		})
	}
}

// A ceiling that has passed already ends the session with the refresh that says so.
func TestSessionExpiryInThePast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newClaimsApp(t, oidcauthtest.NewProvider(t))
		defer a.settle(t)
		straggler := a.browser.Clone()
		time.Sleep(70 * time.Second)
		a.onRefresh(func(c map[string]any) { c["session_expiry"] = time.Now().Add(-time.Hour).Unix() })
		resp, err := a.token(a.browser, "")
		if !errors.Is(err, oidcauth.ErrNoSession) && !errors.Is(err, oidcauth.ErrLoginRequired) || resp.StatusCode != 401 {
			t.Errorf("the refresh: %d, %v, want 401", resp.StatusCode, err)
		}
		if a.claims(t, a.browser) != nil || a.claims(t, straggler) != nil {
			t.Error("there is a session still")
		}
		a.settle(t)
		if n := a.op.ActiveRefreshTokens("alice"); n != 0 {
			t.Errorf("%d refresh tokens of the session that is over still work", n)
		}
	})
}
