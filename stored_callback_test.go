package oidcauth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// A comeback is the request of a browser that the provider has sent back, which any process may get, and more than once.
type comeback struct {
	t       *testing.T
	target  string
	cookies string // of the login, which nothing deletes
}

// comesBack starts a login of Alice at p, and signs her in at the provider.
func (p *process) comesBack(t *testing.T) *comeback {
	t.Helper()
	p.op.SetUser(oidcauthtest.Alice)
	target := p.returned(t, "/auth/login?returnTo=/there")
	return &comeback{t, target, p.browser.Request(http.MethodGet, target).Header.Get("Cookie")}
}

// to sends the request to a process.
func (c *comeback) to(ctx context.Context, p *process) *http.Response {
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, c.target, http.NoBody)
	r.Host = "app.test"
	r.Header.Set("Cookie", c.cookies)
	return answerTo(p.handler, r)
}

// begin sends it beside the test, up to where it waits for something.
func (c *comeback) begin(ctx context.Context, p *process) (answer chan *http.Response) {
	answer = make(chan *http.Response, 1)
	go func() { answer <- c.to(ctx, p) }()
	synctest.Wait()
	return answer
}

// crowd sends it n times at once, to the processes by turns.
func (c *comeback) crowd(n int, processes ...*process) []*http.Response {
	answers := make([]*http.Response, n)
	var tabs sync.WaitGroup
	for i := range answers {
		tabs.Go(func() { answers[i] = c.to(c.t.Context(), processes[i%len(processes)]) })
	}
	tabs.Wait()
	return answers
}

// codeOf is the error code of an answer's page.
func codeOf(resp *http.Response) string {
	return errorCode(&oidcauthtest.Response{StatusCode: resp.StatusCode, Header: resp.Header, Body: body(resp)})
}

// checkNoSession fails unless an answer is the page of invalid_state, without a session.
func checkNoSession(t *testing.T, name string, resp *http.Response) {
	t.Helper()
	if code := codeOf(resp); code != "invalid_state" || resp.StatusCode != http.StatusBadRequest || kept(resp.Header) != "" {
		t.Errorf("at %s %s is answered with %d %q, with a session: %t", clock(), name, resp.StatusCode, code, kept(resp.Header) != "")
	}
}

// checkSignedIn fails unless an answer goes on to where the login was to end, with a session of Alice.
func checkSignedIn(t *testing.T, name string, resp *http.Response, processes ...*process) {
	t.Helper()
	if to := resp.Header.Get("Location"); resp.StatusCode != http.StatusFound || to != "/there" || kept(resp.Header) == "" {
		t.Errorf("at %s %s is answered with %d to %q, with a session: %t", clock(), name, resp.StatusCode, to, kept(resp.Header) != "")
		return
	}
	standing(t, kept(resp.Header), "alice", processes...)
}

func created(processes ...*process) (n int) {
	for _, p := range processes {
		for _, name := range p.logs.names() {
			if name == "session.created" {
				n++
			}
		}
	}
	return n
}

// S24: twenty callbacks at once at two processes are one token request and one session, with tokens that work.
func TestTwentyCallbacksAtTwoProcesses(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		back := p.comesBack(t)
		p.op.Delay("token", 3*time.Second)
		answers := back.crowd(20, p, q)
		p.op.Delay("token", 0)
		p.asked(t, "token", 1)
		handles := map[string]bool{}
		for _, resp := range answers {
			checkSignedIn(t, "one of twenty", resp, p, q)
			handles[sessionOf(t, q.app, kept(resp.Header)).Handle] = true
		}
		if n := created(p, q); n != 1 || len(handles) != 1 || p.op.ActiveRefreshTokens("alice") != 1 {
			t.Errorf("%d sessions were created, %d given out, and %d refresh tokens work", n, len(handles), p.op.ActiveRefreshTokens("alice"))
		}
		time.Sleep(2 * time.Hour)
		for i, resp := range answers { // each cookie is good for a token, and together they cost one grant
			if _, _, _, ok := p.op.AccessToken(body([]*process{p, q}[i%2].get("/token", kept(resp.Header)))); !ok {
				t.Errorf("cookie %d gets no token that works", i)
			}
		}
		p.want(1)
	})
}

// S24: twenty callbacks of a login that fails spend its code once as long as they are at it together, and leave nothing: no
// token, and no note that would fill the store.
func TestTwentyCallbacksAtTwoProcessesThatFail(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		for name, misbehave := range map[string]func(){
			"the code is refused":   func() { p.op.Fail("token", http.StatusBadRequest, "invalid_grant", 1) },
			"the ID token is wrong": func() { p.op.EditIDToken(func(c map[string]any) { c["nonce"] = "another" }) },
		} {
			before, asked := len(p.shelf.everything()), p.op.Count("token")
			back := p.comesBack(t)
			misbehave()
			p.op.Delay("token", 3*time.Second)
			codes := map[string]int{}
			for _, resp := range back.crowd(20, p, q) {
				codes[codeOf(resp)]++
				if kept(resp.Header) != "" {
					t.Errorf("%s: a session is set", name)
				}
			}
			p.op.Delay("token", 0)
			p.op.EditIDToken(nil)
			p.settle(t)
			q.settle(t)
			if codes["invalid_state"] != 19 || p.op.Count("token") != asked+1 {
				t.Errorf("%s: the answers are %v, with %d token requests", name, codes, p.op.Count("token")-asked)
			}
			if n := p.op.ActiveRefreshTokens(""); n != 0 || len(p.shelf.everything()) != before {
				t.Errorf("%s: %d refresh tokens are left, and %d notes", name, n, len(p.shelf.everything())-before)
			}
		}
	})
}

// S24: whoever repeats the request within ten seconds gets the session at another process as well, whole: with tokens, values
// and claims. Later, and with anything else than the same request, there is none.
func TestARepeatedCallbackAtAnotherProcess(t *testing.T) {
	for _, tt := range []struct {
		name    string
		after   time.Duration
		edit    func(url.Values)
		session bool
		status  int
	}{
		{"at once", 0, nil, true, http.StatusFound},
		{"after nine seconds", 9 * time.Second, nil, true, http.StatusFound},
		{"after twelve seconds", 12 * time.Second, nil, false, http.StatusFound},
		{"after fourteen minutes", 14 * time.Minute, nil, false, http.StatusFound},
		{"with another code", 0, setting("code", "another"), false, http.StatusBadRequest},
		{"with a further parameter", 0, setting("x", "1"), false, http.StatusBadRequest},
		{"with another issuer", 0, setting("iss", "https://evil.test/"), false, http.StatusBadRequest},
		{"with an error", 0, func(v url.Values) { v.Del("code"); v.Set("error", "access_denied") }, false, http.StatusBadRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				q.cartPage()
				back := p.comesBack(t)
				first := back.to(t.Context(), p)
				checkSignedIn(t, "the first", first, p, q)
				time.Sleep(tt.after)
				again := *back
				if tt.edit != nil {
					again.target = edited(back.target, tt.edit)
				}
				resp := again.to(t.Context(), q)
				if got := kept(resp.Header); (got != "") != tt.session || resp.StatusCode != tt.status {
					t.Fatalf("the repetition is answered with %d %q, with a session: %t", resp.StatusCode, codeOf(resp), got != "")
				}
				p.asked(t, "token", 1)
				if !tt.session {
					return
				}
				joined, own := sessionOf(t, q.app, kept(resp.Header)), sessionOf(t, p.app, kept(first.Header))
				if joined.Handle != own.Handle || joined.SID != own.SID || !joined.CreatedAt.Equal(own.CreatedAt) {
					t.Errorf("the sessions are %v and %v", joined, own)
				}
				if got := body(q.get("/cart", kept(resp.Header))); got != "alice full" {
					t.Errorf("the session says %q", got)
				}
				if token, _ := q.token("", kept(resp.Header)); token != body(p.get("/token", kept(first.Header))) {
					t.Error("the tokens differ")
				}
				q.token("?force", kept(resp.Header))
				p.want(1)
				location := q.logout(kept(resp.Header)).Header.Get("Location")
				if u, err := url.Parse(location); err != nil || u.Query().Get("id_token_hint") == "" {
					t.Errorf("the logout has no ID token: %v", err)
				}
				standing(t, kept(first.Header), nobody, p, q)
			}, func(o *oidcauth.Options) {
				o.BeforeSave = func(_ context.Context, s *oidcauth.Session) error { return s.SetValue("cart", "full") }
			})
		})
	}
}

// S24: while the code is being redeemed another answer with the same state is nobody's at another process either.
func TestAnotherAnswerMeanwhileAtAnotherProcess(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		back := p.comesBack(t)
		release := p.op.Hold("token")
		first := back.begin(t.Context(), p)
		other := *back
		other.target = edited(back.target, setting("code", "another"))
		checkNoSession(t, "another code", other.to(t.Context(), q))
		noCookie := *back
		noCookie.cookies = ""
		checkNoSession(t, "another browser", noCookie.to(t.Context(), q))
		release()
		checkSignedIn(t, "the first", <-first, p, q)
		p.asked(t, "token", 1)
	})
}

// S24: the process that redeems the code is gone, before or after the provider's answer, or its store is. The others say so
// within ten seconds, and spend nothing. Who starts anew is signed in.
func TestTheProcessThatRedeemsTheCodeIsGone(t *testing.T) {
	for _, tt := range []struct {
		name string
		gone func(p *process) (back func())
	}{
		{"before the code is redeemed", func(p *process) func() { return p.op.Hold("token") }},
		{"before the answer has come", func(p *process) func() { return p.op.HoldAnswer("token") }},
		{"before the session is saved", func(p *process) func() {
			release := p.op.HoldAnswer("token")
			return func() { p.faults.Fail(errDown); release() }
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				back := p.comesBack(t)
				awake := tt.gone(p)
				lost := back.begin(t.Context(), p)
				began := time.Now()
				checkNoSession(t, "the repetition", back.to(t.Context(), q))
				if took := time.Since(began); took < 9*time.Second || took > 11*time.Second {
					t.Errorf("the repetition has waited for %s", took)
				}
				if n := p.op.Count("token"); n > 1 {
					t.Errorf("there are %d token requests", n)
				}
				awake()
				<-lost
				p.faults.Heal()
				b := p.op.NewBrowser(q.handler)
				b.SignIn(oidcauthtest.Alice)
				standing(t, cookieOf(b), "alice", q)
			})
		})
	}
}

// S24, S36: whatever goes wrong with a call of the store during a login, at either process, there is one token request at
// most, and either a session or an error page. Nothing hangs, and a new login works.
func TestAStoreThatStumblesDuringACallback(t *testing.T) {
	for kind, wrong := range faults {
		for n := range 8 {
			t.Run(fmt.Sprintf("call %d %s", n, kind), func(t *testing.T) {
				everyMode(t, func(t *testing.T, p, q *process) {
					for _, at := range []*process{p, q} {
						asked := p.op.Count("token")
						back := p.comesBack(t)
						p.op.Delay("token", time.Second) // or the second would come after the first has failed, and may try
						at.atCall(n, wrong)
						first := back.begin(t.Context(), p)
						second := back.begin(t.Context(), q)
						for i, answer := range []chan *http.Response{first, second} {
							began := time.Now()
							resp := <-answer
							if session := kept(resp.Header) != ""; session != (resp.StatusCode == http.StatusFound) || resp.StatusCode == 500 {
								t.Errorf("process %d answers %d %q, with a session: %t", i, resp.StatusCode, codeOf(resp), session)
							}
							if took := time.Since(began); took > 25*time.Second {
								t.Errorf("process %d has answered after %s", i, took)
							}
						}
						at.faults.Before(nil)
						at.faults.Heal()
						p.op.Delay("token", 0)
						time.Sleep(2 * time.Second)
						if n := p.op.Count("token") - asked; n > 1 {
							t.Errorf("there are %d token requests", n)
						}
						b := p.op.NewBrowser(q.handler)
						b.SignIn(oidcauthtest.Alice)
						standing(t, cookieOf(b), "alice", p, q)
					}
				})
			})
		}
	}
}

// OnLogin is asked once, and only the answer that it wrote has the session: it may have refused, or have asked for more.
func TestOnLoginIsAskedOnceInAllProcesses(t *testing.T) {
	for name, refusal := range map[string]error{"and agrees": nil, "and refuses": errors.New("not today")} {
		t.Run(name, func(t *testing.T) {
			inModes(t, func(t *testing.T, m mode) {
				var hooks atomic.Int32
				edit := func(o *oidcauth.Options) {
					o.OnLogin = func(w http.ResponseWriter, r *http.Request, _ *oidcauth.Session, returnTo string) error {
						hooks.Add(1)
						if refusal == nil {
							http.Redirect(w, r, returnTo, http.StatusFound)
						}
						return refusal
					}
				}
				p := newProcess(t, m.and(edit)...)
				q := p.another(m.and(edit)...)
				back := p.comesBack(t)
				p.op.Delay("token", 3*time.Second)
				sessions, redirects := 0, 0
				for _, resp := range back.crowd(20, p, q) {
					if kept(resp.Header) != "" {
						sessions++
						standing(t, kept(resp.Header), "alice", p, q)
					}
					if resp.StatusCode == http.StatusFound && resp.Header.Get("Location") == "/there" {
						redirects++
					}
				}
				p.settle(t)
				q.settle(t)
				left := p.op.ActiveRefreshTokens("alice")
				if agreed := refusal == nil; agreed && (sessions != 1 || redirects != 20 || left != 1) || !agreed && (sessions != 0 || left != 0) {
					t.Errorf("%d sessions, %d redirects, and %d refresh tokens work", sessions, redirects, left)
				}
				if n := hooks.Load(); n != 1 {
					t.Errorf("OnLogin was asked %d times", n)
				}
				p.asked(t, "token", 1)
			})
		})
	}
}

// S24, S44: a hook that refuses, or panics, leaves neither a note nor a token.
func TestABeforeSaveThatFailsLeavesNothing(t *testing.T) {
	for name, hook := range map[string]func() error{
		"it refuses": func() error { return errors.New("not today") }, "it panics": func() error { panic("today") },
	} {
		t.Run(name, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				back := p.comesBack(t)
				for _, at := range []*process{p, q} {
					func() {
						defer func() { _ = recover() }() // as net/http does
						if resp := back.to(t.Context(), at); kept(resp.Header) != "" {
							t.Errorf("a login is answered with %d and a session", resp.StatusCode)
						}
					}()
					at.settle(t)
					if n := len(p.shelf.everything()); n != 0 || p.op.ActiveRefreshTokens("") != 0 {
						t.Errorf("%d notes are left, and %d refresh tokens", n, p.op.ActiveRefreshTokens(""))
					}
				}
			}, func(o *oidcauth.Options) {
				o.BeforeSave = func(context.Context, *oidcauth.Session) error { return hook() }
			})
		})
	}
}

// S23, S24: who has logged out within those ten seconds is not signed in again by a repetition, wherever that arrives.
func TestARepeatedCallbackAfterTheLogout(t *testing.T) {
	for _, end := range slices.Concat(waysOut, []wayOut{
		{"a logout", nil},
		{"RevokeSession", nil},
	}) {
		t.Run(end.name, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				back := p.comesBack(t)
				cookie := kept(back.to(t.Context(), p).Header)
				time.Sleep(2 * time.Second)
				switch end.name {
				case "a logout":
					p.logout(cookie)
				case "RevokeSession":
					s := sessionOf(t, p.app, cookie)
					if err := p.RevokeSession(t.Context(), s.Issuer, s.Subject, s.Handle); err != nil {
						t.Error(err)
					}
				default:
					end.do(t, p)
				}
				standing(t, cookie, nobody, p, q)
				for _, at := range []*process{q, p} {
					standing(t, kept(back.to(t.Context(), at).Header), nobody, p, q)
				}
				standing(t, cookie, nobody, p, q)
				p.asked(t, "token", 1)
			})
		})
	}
}

// S11: what is noted about a login is good for that login at that application alone.
func TestANoteAboutALoginIsOfOneApplication(t *testing.T) {
	inModes(t, func(t *testing.T, m mode) {
		p := newProcess(t, m.and()...)
		back := p.comesBack(t)
		back.to(t.Context(), p)
		for name, edit := range map[string]func(*oidcauth.Options){
			"another client":   func(o *oidcauth.Options) { o.ClientID = "staff" },
			"another secret":   func(o *oidcauth.Options) { o.Secrets = []string{noise(40)} },
			"another base URL": func(o *oidcauth.Options) { o.BaseURL = "https://app.test/staff" },
		} {
			q := p.another(m.and(edit)...)
			if resp := back.to(t.Context(), q); kept(resp.Header) != "" {
				t.Errorf("%s: the repetition signs in", name)
			}
		}
		p.asked(t, "token", 1)
	})
}

// A session of the size that cookies hold is joined like any other.
func TestALargeSessionIsJoined(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		back := p.comesBack(t)
		first := back.to(t.Context(), p)
		checkSignedIn(t, "the first", first, p, q)
		checkSignedIn(t, "the repetition", back.to(t.Context(), q), p, q)
		p.asked(t, "token", 1)
	}, func(o *oidcauth.Options) {
		o.BeforeSave = func(_ context.Context, s *oidcauth.Session) error { return s.SetValue("cart", noise(9_000)) }
	})
}

// S24, lesson 3: a browser that hangs up and asks again is signed in, whichever processes it reaches, and however often.
func TestReloadsAtOtherProcesses(t *testing.T) {
	for name, visits := range map[string][]int{ // 0 is the process that redeems the code
		"elsewhere":               {0, 1},
		"elsewhere, and back":     {0, 1, 0},
		"at a third":              {0, 1, 2},
		"elsewhere, and again":    {0, 1, 1},
		"elsewhere, and twice":    {0, 1, 1, 1},
		"by turns, and elsewhere": {0, 1, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			everyModeOf(t, 3, func(t *testing.T, all []*process) {
				p := all[0]
				back := p.comesBack(t)
				release := p.op.HoldAnswer("token")
				var answers []chan *http.Response
				hangUp := func() {}
				for _, at := range visits {
					hangUp()
					synctest.Wait()
					var ctx context.Context
					ctx, hangUp = context.WithCancel(t.Context())
					answers = append(answers, back.begin(ctx, all[at]))
				}
				time.Sleep(time.Second)
				release()
				checkSignedIn(t, "the last reload", <-answers[len(answers)-1], all...)
				hangUp()
				for _, answer := range answers[:len(answers)-1] {
					<-answer
				}
				p.asked(t, "token", 1)
				if n := p.op.ActiveRefreshTokens("alice"); n != 1 {
					t.Errorf("%d refresh tokens work", n)
				}
			})
		})
	}
}
