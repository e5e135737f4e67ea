package oidcauth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// cartPage adds GET /cart, which says whose session it is and what the value "cart" is.
func (p *process) cartPage() {
	p.page("/cart", func(w http.ResponseWriter, r *http.Request) {
		if s, err := p.GetSession(r); err == nil {
			fmt.Fprint(w, s.Subject, " ", value(p.t, s, "cart"))
		}
	})
}

// S25, THR-11: a login ends the session that there was, whether or not the callback gets its cookie.
func TestALoginEndsTheStoredSessionBefore(t *testing.T) {
	t.Parallel()
	for _, mode := range cookieModes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			p := newProcess(t, mode.edit...)
			p.cartPage()
			p.browser.SignIn(oidcauthtest.Alice)
			p.browser.From("https://app.test").Get("/set?cart=full")
			before, _ := p.shelf.only(t)
			copied := p.browser.Clone()
			p.browser.SignIn(oidcauthtest.Alice)
			p.settle(t)
			if after, _ := p.shelf.only(t); after == before {
				t.Error("the id is the same")
			}
			if who := copied.Get("/").Body; who != nobody {
				t.Errorf("a copy of the cookie is still of %s", who)
			}
			want := "alice " // what the callback cannot read is not kept
			if mode.name == "Lax, query" {
				want = "alice full"
			}
			if got := p.browser.Get("/cart").Body; got != want {
				t.Errorf("after the login: %q, want %q", got, want)
			}
			p.browser.SignIn(bob) // S38
			p.settle(t)
			p.shelf.only(t)
			if got := p.browser.Get("/cart").Body; got != "bob " {
				t.Errorf("after another user's login: %q", got)
			}
		})
	}
}

// S15, S25: whoever answers the question, one session is left, and no copy of the other opens.
func TestAChangeOfAccountsInAStore(t *testing.T) {
	t.Parallel()
	for _, mode := range cookieModes {
		for _, answer := range []string{"stay", "change", "change at another process", "none for eleven minutes"} {
			t.Run(mode.name+"/"+answer, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					p := newProcess(t, mode.edit...)
					p.browser.SignIn(oidcauthtest.Alice)
					copied := p.browser.Clone()
					alices, _ := p.shelf.only(t)
					p.op.SetUser(bob)
					question := p.browser.From("https://evil.test").Get("/auth/login?returnTo=/there")
					if !asks(question) || len(p.shelf.all()) != 2 || p.browser.Get("/").Body != "alice" {
						t.Fatalf("no question at %s, or %d sessions", question.URL, len(p.shelf.all()))
					}
					stolen := p.browser.Clone()
					want, left := "alice", 1
					switch answer {
					case "stay":
						p.stay(t, question)
					case "none for eleven minutes":
						time.Sleep(11 * time.Minute)
						stolen.From("https://app.test").Post("/auth/landing", url.Values{"id": {question.URL.Query().Get("id")}})
						left = 2 // which nobody can open
					default:
						if answer == "change at another process" {
							p.browser.Host("https://app.test", p.another(mode.edit...).handler)
						}
						if page := p.browser.Submit(question, changeToBob); page.URL.Path != "/there" {
							t.Errorf("the answer ends at %s", page.URL)
						}
						want = "bob"
					}
					p.settle(t)
					if got := p.browser.Get("/").Body; got != want || len(p.shelf.all()) != left {
						t.Errorf("%q is signed in, and %d sessions are in the store", got, len(p.shelf.all()))
					}
					_, kept := p.shelf.all()[alices]
					if got := copied.Get("/").Body; (got == "alice") != (want == "alice") || kept != (want == "alice") {
						t.Errorf("a copy of Alice's cookie is of %q", got)
					}
					if want == "alice" {
						if who := stolen.Submit(question, changeToBob).Body; who == "bob" {
							t.Error("what was declined, or is too old, still signs in")
						}
					}
					p.settle(t)
				})
			})
		}
	}
}

// S15: that the store cannot say who is signed in is no reason not to ask.
func TestNobodyIsReplacedWithoutAQuestionWhileTheStoreFails(t *testing.T) {
	t.Parallel()
	for _, mode := range cookieModes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			p := newProcess(t, mode.edit...)
			p.browser.SignIn(oidcauthtest.Alice)
			alices, _ := p.shelf.only(t)
			p.op.SetUser(bob)
			p.browser.Host("https://app.test", p.deafTo(alices, mode.edit...).handler)
			page := p.browser.From("https://evil.test").Get("/auth/login?returnTo=/there")
			p.browser.Host("https://app.test", p.handler)
			if who := p.browser.Get("/").Body; who != "alice" {
				t.Errorf("without a question %q is signed in, at %s with %d", who, page.URL, page.StatusCode)
			}
		})
	}
}

// The same at the page that asks: it must know who is signed in there.
func TestTheQuestionIsNotSkippedWhileTheStoreFails(t *testing.T) {
	t.Parallel()
	for _, mode := range cookieModes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			p := newProcess(t, mode.edit...)
			p.browser.SignIn(oidcauthtest.Alice)
			alices, _ := p.shelf.only(t)
			p.op.SetUser(bob)
			question := p.browser.From("https://evil.test").Get("/auth/login?returnTo=/there")
			p.browser.Host("https://app.test", p.deafTo(alices, mode.edit...).handler)
			page := p.browser.From("https://app.test").Get(question.URL.RequestURI()) // a reload
			if setsSession(page) || page.Body == "bob" {
				t.Errorf("without a question it ends at %s with %q", page.URL, page.Body)
			}
			p.browser.Host("https://app.test", p.handler)
			if who := p.browser.Get("/").Body; who != "alice" {
				t.Errorf("%q is signed in", who)
			}
		})
	}
}

// deafTo returns another process that cannot read one of the sessions.
func (p *process) deafTo(key string, edit ...func(*oidcauth.Options)) *process {
	p.t.Helper()
	return p.another(append(edit, func(o *oidcauth.Options) { o.Store = deaf{p.shelf, key} })...)
}

// deaf is a store in which one key cannot be read, like a shard that is down.
type deaf struct {
	oidcauth.SessionStore
	key string
}

func (d deaf) Get(ctx context.Context, key string) (data []byte, version int64, ok bool, err error) {
	if key == d.key {
		return nil, 0, false, errDown
	}
	return d.SessionStore.Get(ctx, key)
}

// Whether the offer is still good is the store's to say as well.
func TestAnOfferThatCannotBeReadIsNotThrownAway(t *testing.T) {
	t.Parallel()
	for _, mode := range cookieModes {
		p := newProcess(t, mode.edit...)
		p.browser.SignIn(oidcauthtest.Alice)
		alices, _ := p.shelf.only(t)
		bobs := ""
		p.op.SetUser(bob)
		question := p.browser.From("https://evil.test").Get("/auth/login?returnTo=/there")
		for key := range p.shelf.all() {
			if key != alices {
				bobs = key
			}
		}
		p.browser.Host("https://app.test", p.deafTo(bobs, mode.edit...).handler)
		if page := p.browser.Submit(question, changeToBob); page.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: the answer is %d at %s", mode.name, page.StatusCode, page.URL)
		}
		p.browser.Host("https://app.test", p.handler)
		if page := p.browser.Submit(question, changeToBob); page.Body != "bob" || page.URL.Path != "/there" {
			t.Errorf("%s: once more it ends at %s with %q", mode.name, page.URL, page.Body)
		}
	}
}

// An answer to the question while the store is down is none: it can be given once more.
func TestAnAnswerToTheQuestionSurvivesAnOutage(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"stay", "change"} {
		synctest.Test(t, func(t *testing.T) {
			p := newProcess(t)
			p.browser.SignIn(oidcauthtest.Alice)
			p.op.SetUser(bob)
			question := p.browser.From("https://evil.test").Get("/auth/login?returnTo=/there")
			give := func() *oidcauthtest.Response {
				if answer == "stay" {
					return p.stay(t, question)
				}
				return p.browser.Submit(question, changeToBob)
			}
			p.faults.Fail(errDown)
			if page := give(); page.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("%s: meanwhile the answer is %d at %s", answer, page.StatusCode, page.URL)
			}
			p.faults.Heal()
			time.Sleep(time.Second)
			page := give()
			p.settle(t)
			want := map[string]string{"stay": "alice", "change": "bob"}[answer]
			if who := p.browser.Get("/").Body; who != want || len(p.shelf.all()) != 1 {
				t.Errorf("%s: then %q is signed in, at %s, and %d sessions are left", answer, who, page.URL, len(p.shelf.all()))
			}
			if want == "alice" && p.op.ActiveRefreshTokens("bob") != 0 {
				t.Error("a refresh token of bob is left")
			}
		})
	}
}

// S38: the values of a user are not lost because the store stumbled at a login.
func TestALoginDoesNotForgetValuesWhileTheStoreFails(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	p.cartPage()
	p.browser.SignIn(oidcauthtest.Alice)
	p.browser.From("https://app.test").Get("/set?cart=full")
	p.faults.FailNext(1, errDown, "Get")
	page := p.browser.From("https://app.test").Get("/auth/login?returnTo=/public")
	p.faults.Heal()
	if got := p.browser.Get("/cart").Body; got != "alice full" {
		t.Errorf("the login answers %d, and then there is %q", page.StatusCode, got)
	}
}

// The hooks of a login: what BeforeSave sets and OnLogin saves is in the store, and what OnLogin refuses is not.
func TestHooksOfALoginInAStore(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		onLogin func(p *process, w http.ResponseWriter, r *http.Request) error
		want    string // of the page afterwards
	}{
		{"it redirects", func(*process, http.ResponseWriter, *http.Request) error { return nil }, "alice seen"},
		{"it saves a value", func(p *process, w http.ResponseWriter, r *http.Request) error {
			return p.UpdateSession(w, r, set("cart", "from the hook"))
		}, "alice from the hook"},
		{"it saves a value late", func(p *process, w http.ResponseWriter, r *http.Request) error {
			w.WriteHeader(http.StatusOK)
			return p.UpdateSession(w, r, set("cart", "late"))
		}, "alice late"},
		{"it asks for another token", func(p *process, w http.ResponseWriter, r *http.Request) error {
			_, err := p.AccessToken(w, r, &oidcauth.TokenOptions{ForceRefresh: true})
			return err
		}, "alice seen"},
		{"it fails", func(*process, http.ResponseWriter, *http.Request) error { return errors.New("not today") }, ""},
		{"it logs out", func(p *process, w http.ResponseWriter, r *http.Request) error { return p.Logout(w, r, nil) }, ""},
		{"it saves a value and fails", func(p *process, w http.ResponseWriter, r *http.Request) error {
			return errors.Join(p.UpdateSession(w, r, set("cart", "x")), errors.New("not today"))
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var p *process
			p = newProcess(t, func(o *oidcauth.Options) {
				o.BeforeSave = func(_ context.Context, s *oidcauth.Session) error { return s.SetValue("cart", "seen") }
				o.OnLogin = func(w http.ResponseWriter, r *http.Request, _ *oidcauth.Session, _ string) error {
					return tt.onLogin(p, w, r)
				}
			})
			p.op.SetUser(oidcauthtest.Alice)
			p.browser.From("https://app.test").Get("/auth/login")
			p.settle(t)
			q := p.another()
			q.cartPage()
			p.browser.Host("https://app.test", q.handler)
			got := p.browser.Get("/cart").Body
			if left := len(p.shelf.all()); got != tt.want || (left == 0) != (tt.want == "") {
				t.Errorf("another process says %q, want %q; %d sessions are in the store", got, tt.want, left)
			}
			if n := p.op.ActiveRefreshTokens("alice"); (n == 0) != (tt.want == "") {
				t.Errorf("%d refresh tokens are left", n)
			}
		})
	}
}

// S01: two clients on one store see nothing of one another, and do one another no harm.
func TestTwoClientsOnOneStore(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]func(*oidcauth.Options){
		"two issuers":    func(o *oidcauth.Options) { o.Issuer = "https://staff.test/" },
		"two client ids": func(o *oidcauth.Options) { o.ClientID = "staff" },
		"two base URLs":  func(o *oidcauth.Options) { o.BaseURL = "https://app.test/staff" },
		"two names":      func(o *oidcauth.Options) { o.Cookie.Name = "__Host-session-staff" },
		"two secrets":    func(o *oidcauth.Options) { o.Secrets = []string{noise(40)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			same := func(o *oidcauth.Options) { o.Cookie.Name = "__Host-session" }
			p := newProcess(t, same)
			q := p.another(same, other)
			cookie := p.login()
			if name == "two names" { // the browser would not, a thief may
				cookie += "; __Host-session-staff=" + valueOf(cookie)
			}
			for _, outer := range layers {
				for _, middle := range layers {
					reached := false
					ask(outer.around(p.app, middle.around(q.app, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						reached = true
						if s, err := q.GetSession(r); !errors.Is(err, oidcauth.ErrNoSession) {
							t.Errorf("the other's GetSession: %v, %v", s, err)
						}
						if err := q.UpdateSession(w, r, set("role", "admin")); !errors.Is(err, oidcauth.ErrNoSession) {
							t.Errorf("the other's UpdateSession: %v", err)
						}
						if s, err := p.GetSession(r); err != nil || s.Subject != "alice" {
							t.Errorf("its own GetSession: %v, %v", s, err)
						}
					}))), "GET", "/page", "Cookie", cookie)
					if reached == strings.HasPrefix(middle.name, "RequireAuth") {
						t.Errorf("the one's %s around the other's %s: reached is %v", outer.name, middle.name, reached)
					}
				}
			}
			ask(p.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := q.Logout(w, r, &oidcauth.LogoutOptions{Local: true}); err != nil {
					t.Error(err)
				}
			})), "GET", "/", "Cookie", cookie)
			q.settle(t)
			if who := p.who(cookie); who != "alice" || q.faults.Calls() != (oidcauthtest.StoreCalls{}) {
				t.Errorf("afterwards the session is of %q, and the other has asked the store: %+v", who, q.faults.Calls())
			}
			if slices.Contains(q.logs.names(), "session.ended") {
				t.Error("the other has ended it")
			}
		})
	}
}
