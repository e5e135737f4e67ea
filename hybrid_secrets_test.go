package oidcauth_test

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/securecookie"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/internal/cookie"
)

// steps are how secrets are rotated.
func steps() [][]string {
	a, b := noise(40), noise(40)
	return [][]string{{a}, {a, b}, {b, a}, {b}}
}

// Issue 5, done when 5, S10: while secrets are rotated step by step, with half of the processes one step behind, nobody is
// logged out, and a crowd at both halves causes one grant.
func TestRotatingSecretsWithTwoProcesses(t *testing.T) {
	inModes(t, func(t *testing.T, m mode) {
		all := steps()
		p := newProcess(t, m.and(secretsAre(all[0]...))...)
		behind, grants, users := p, 0, map[string]string{"the first": p.login()}
		for i, secrets := range all[1:] {
			ahead := p.another(m.and(secretsAre(secrets...))...)
			users[fmt.Sprintf("begun behind at step %d", i)] = behind.login()
			users[fmt.Sprintf("begun ahead at step %d", i)] = ahead.login()
			for name, cookie := range users {
				standing(t, cookie, "alice", behind, ahead)
				p.op.Delay("token", 2*time.Second)
				tokens, next := map[string]bool{}, cookie
				for _, resp := range fleetCrowd([]*process{behind, ahead}, 5, "?force", cookie) {
					tokens[fmt.Sprint(resp.StatusCode, " ", body(resp))] = true
				}
				if grants++; len(tokens) != 1 {
					t.Errorf("step %d, %s: the answers are %d different ones", i, name, len(tokens))
				}
				p.want(grants)
				for _, one := range []*process{behind, ahead} {
					time.Sleep(20 * time.Minute)
					next = after(next, one.get("/account", next).Header)
					one.settle(t)
				}
				_, users[name] = ahead.token("?force", next) // since soon there are no others
				grants++
				ahead.settle(t)
			}
			behind = ahead
		}
		for _, cookie := range users {
			p.logout(cookie) // which has the old secret alone, and cannot
			standing(t, cookie, "alice", behind)
			behind.logout(cookie)
			standing(t, cookie, nobody, behind)
		}
		p.settle(t)
		behind.settle(t)
	})
}

// Issue 5, done when 5, S10: what was ended stays ended, and what is ended by one half is ended for the other, whichever of
// them sealed the session and whichever step it is.
func TestWhatWasRevokedStaysSoWhileSecretsAreRotated(t *testing.T) {
	for how, end := range map[string]func(t *testing.T, p *process, cookie string, sid string){
		"by its logout":     func(_ *testing.T, p *process, cookie, _ string) { p.logout(cookie) },
		"by a logout token": func(t *testing.T, p *process, _, sid string) { sends(t, p, p.op.LogoutToken("", sid)) },
		"by its subject": func(t *testing.T, p *process, _, _ string) {
			sends(t, p, p.op.LogoutToken("alice", ""))
			time.Sleep(2 * time.Second)
		},
		"by RevokeSessions": func(t *testing.T, p *process, _, _ string) {
			if err := p.RevokeSessions(t.Context(), p.op.Issuer(), "alice"); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(how, func(t *testing.T) {
			inModes(t, func(t *testing.T, m mode) {
				all := steps()
				p := newProcess(t, m.and(secretsAre(all[0]...))...)
				behind := p
				dead := map[string]string{}
				for i, secrets := range all[1:] {
					ahead := p.another(m.and(secretsAre(secrets...))...)
					halves := map[string]*process{"behind": behind, "ahead": ahead}
					for by, begins := range halves {
						for at, ends := range halves {
							cookie := begins.login()
							sids := p.op.SIDs("alice")
							end(t, ends, cookie, sids[len(sids)-1])
							dead[fmt.Sprintf("begun %s and ended %s at step %d", by, at, i)] = cookie
							standing(t, cookie, nobody, behind, ahead)
						}
					}
					for name, cookie := range dead {
						for _, one := range halves {
							if got := one.who(cookie); got != nobody {
								t.Errorf("at step %d the session %s is of %q", i, name, got)
							}
						}
					}
					standing(t, ahead.login(), "alice", ahead)
					behind = ahead
				}
				p.settle(t)
				behind.settle(t)
			})
		})
	}
}

func sends(t *testing.T, p *process, token string) {
	t.Helper()
	if status := p.backchannel(token); status != http.StatusOK {
		t.Errorf("the logout token is answered with %d", status)
	}
}

// S10, S11: a dump of a RevocationStore says nothing: not whose sessions are noted there, nor what was noted, to whoever
// knows all subjects and sids, the source of this module and the application's settings, but no secret.
func TestADumpOfARevocationStoreSaysNothing(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		cookie := p.login()
		access, cookie := p.token("?force", cookie)
		s := sessionOf(t, p.app, cookie)
		refresh := ""
		for _, r := range p.op.Requests("token") {
			refresh = r.Form.Get("refresh_token")
		}
		p.settle(t)
		var jti string
		token := p.op.LogoutToken("alice", s.SID, func(_, claims map[string]any) { jti = fmt.Sprint(claims["jti"]) })
		copied := newShelf() // all that there ever was
		keep := func() { maps.Copy(copied.items, p.shelf.everything()) }
		keep()
		sends(t, q, token)
		keep()
		if err := q.RevokeSessions(t.Context(), s.Issuer, "alice"); err != nil {
			t.Error(err)
		}
		keep()
		p.logout(p.cookies(t, bob))
		keep()
		if n := len(copied.everything()); n < 5 {
			t.Fatalf("%d entries", n)
		}
		for name, secret := range map[string]string{
			"subject": s.Subject, "e-mail address": "alice@example.com", "name": "Alice Example", "sid": s.SID, "handle": s.Handle,
			"jti": jti, "issuer": s.Issuer, "access token": access, "refresh token": refresh, "logout token": token,
			"client id": p.op.Options().ClientID,
		} {
			for _, text := range copied.texts() {
				if len(secret) < 3 || strings.Contains(text, secret[:min(len(secret), 24)]) {
					t.Errorf("the dump has the %s", name)
				}
			}
		}
		checkNames(t, p, copied, s, make([]byte, 32))
		checkComputedNames(t, p, copied, s)
	})
}

// checkComputedNames makes the names of what is known as the module itself does, without the secrets.
func checkComputedNames(t *testing.T, p *process, dump *shelf, s *oidcauth.Session) {
	t.Helper()
	o := p.op.Options()
	for _, secrets := range [][]string{{noise(40)}, {strings.Repeat("0", 40)}} {
		thief := cookie.NewSet(cookie.SetOptions{
			Session: cookie.Attributes{Secure: true}, Issuer: o.Issuer, ClientID: o.ClientID, BaseURL: o.BaseURL, Secrets: secrets,
		})
		for _, value := range []string{s.Subject, s.SID, s.Issuer + " " + s.Subject, s.Issuer + " " + s.SID} {
			for _, kind := range []string{"subject", "sid", "ended subject", "ended sid", "claim", "jti", ""} {
				names := append(thief.Tags.Of(kind, value),
					thief.Vault.Name(kind, value), thief.Records.Key(value), thief.Sessions.Key(value))
				for key, it := range dump.everything() {
					for _, name := range names {
						if name == key || strings.Contains(strings.Join(it.tags, " "), name) {
							t.Errorf("a name made of %q and %q is in the dump", kind, value)
						}
					}
				}
			}
		}
	}
}

// S02, S11: who can write to the store cannot give one user what is noted about another: such an entry is refused, nobody
// becomes somebody else, and no refresh token of another session is spent.
func TestEntriesThatWereSwappedAreRefused(t *testing.T) {
	inModes(t, func(t *testing.T, m mode) {
		p := newProcess(t, m...)
		q := p.another(m...)
		users := map[string]string{"alice": p.login(), "bob": p.cookies(t, bob)}
		keys := map[string]map[string]bool{"alice": {}, "bob": {}} // what a process asks the store about each
		for name, cookie := range users {
			_, users[name] = p.token("?force", cookie)
			p.settle(t)
			q.faults.Before(func(_, key string) {
				if _, stored := p.shelf.everything()[key]; stored {
					keys[name][key] = true
				}
			})
			standing(t, users[name], name, q)
			q.faults.Before(nil)
		}
		before := p.shelf.everything()
		for name, other := range map[string]string{"alice": "bob", "bob": "alice"} {
			if len(keys[name]) == 0 {
				t.Fatalf("nothing is noted about %s", name)
			}
			for key := range keys[name] {
				for from := range keys[other] {
					p.shelf.put(t, key, before[from])
					for _, one := range []*process{q, p.another(m...)} {
						for _, path := range []string{"/account", "/token?force"} {
							resp := ask(one.handler, "GET", path, byScript(users[name])...)
							text := body(resp)
							if _, _, _, token := p.op.AccessToken(text); resp.StatusCode == http.StatusOK && (text == other || token) {
								t.Errorf("with an entry of %s the answer to %s is %q", other, name, text)
							}
						}
						one.settle(t)
					}
					p.shelf.put(t, key, before[key])
				}
			}
		}
		time.Sleep(time.Minute)
		for name, cookie := range users {
			standing(t, cookie, name, p, q)
			resp := q.get("/token?force", cookie)
			if of, _, _, ok := p.op.AccessToken(body(resp)); !ok || of != name {
				t.Errorf("afterwards %s gets %d", name, resp.StatusCode)
			}
		}
		p.unpunished()
		p.settle(t)
		q.settle(t)
	})
}

// An application that seals with a codec of its own, and has several secrets to name things with.
func TestAnOwnCodecAndSeveralSecretsInEveryMode(t *testing.T) {
	inModes(t, func(t *testing.T, m mode) {
		key := securecookie.GenerateRandomKey(32)
		own := func(o *oidcauth.Options) {
			o.Secrets = []string{firstSecret, secondSecret}
			o.SessionCodecs = []securecookie.Codec{securecookie.New(key, key).SetSerializer(rawBytes{}).MaxLength(0)}
		}
		p := newProcess(t, m.and(own)...)
		q := p.another(m.and(own)...)
		first, second, third := p.login(), p.login(), p.login()
		sids := p.op.SIDs("alice")
		token, _ := p.token("?force", first)
		if got, _ := q.token("", first); got != token {
			t.Error("the processes do not have the same token")
		}
		q.logout(first)
		standing(t, first, nobody, p, q)
		sends(t, q, p.op.LogoutToken("alice", sids[1]))
		standing(t, second, nobody, p, q)
		standing(t, third, "alice", p, q)
		if err := q.RevokeSessions(t.Context(), p.op.Issuer(), "alice"); err != nil {
			t.Error(err)
		}
		standing(t, third, nobody, p, q)
		standing(t, p.login(), "alice", p, q)
		p.settle(t)
		q.settle(t)
	})
}
