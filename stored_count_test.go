package oidcauth_test

import (
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

// busy adds pages that use the client in ways of their own.
func (p *process) busy() {
	get := func(r *http.Request) { _, _ = p.GetSession(r) }
	p.mux.Handle("/busy", p.RequireAuth(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		get(r)
		if _, err := p.AccessToken(w, r, nil); err != nil {
			p.t.Error(err)
		}
		if _, err := p.HTTPClient(w, r, nil, theAPI); err != nil {
			p.t.Error(err)
		}
		get(r)
	})))
	p.mux.HandleFunc("/unchanged", func(w http.ResponseWriter, r *http.Request) {
		get(r)
		w.WriteHeader(http.StatusNotModified)
	})
	p.mux.HandleFunc("/twice", func(w http.ResponseWriter, r *http.Request) {
		for _, key := range []string{"one", "two"} {
			if err := p.UpdateSession(w, r, set(key, 1)); err != nil {
				p.t.Error(err)
			}
		}
		get(r)
	})
}

// Issue 4, done when 2; S47: what a request costs, in round trips to the store.
func TestWhatARequestCosts(t *testing.T) {
	t.Parallel()
	type calls = oidcauthtest.StoreCalls
	document := metadata("same-origin", "navigate", "document")
	for _, tt := range []struct {
		name, path   string
		fresh, later calls // just after the login, and when the session is to be extended
		method       string
		header       []string
		cookie       func(string) string // nil: the session's
	}{
		{name: "a page that does not ask", path: "/public"},
		{name: "a page that asks, of nobody", path: "/", cookie: func(string) string { return "" }},
		{
			name: "a page that asks, with junk", path: "/",
			cookie: func(string) string { return "__Host-session=" + strings.Repeat("A", 54) },
		},
		{
			name: "a page that asks, with a ticket that somebody made", path: "/account",
			cookie: func(c string) string { return strings.Replace(c, c[20:30], "0123456789", 1) },
		},
		{name: "a page that asks", path: "/", fresh: calls{Gets: 1}, later: calls{Gets: 1, Sets: 1}},
		{name: "a guard and a page", path: "/account", fresh: calls{Gets: 1}, later: calls{Gets: 1, Sets: 1}},
		{name: "a guard, and everything twice", path: "/busy", fresh: calls{Gets: 1}, later: calls{Gets: 1, Sets: 1}},
		{name: "a HEAD request", path: "/account", method: "HEAD", fresh: calls{Gets: 1}, later: calls{Gets: 1}},
		{
			name: "a prefetch", path: "/account", header: []string{"Sec-Purpose", "prefetch"},
			fresh: calls{Gets: 1}, later: calls{Gets: 1},
		},
		{name: "a page that has not changed", path: "/unchanged", fresh: calls{Gets: 1}, later: calls{Gets: 1}},
		{name: "the profile", path: "/auth/profile", fresh: calls{Gets: 1}, later: calls{Gets: 1}},
		{
			name: "the access token for a script", path: "/auth/access-token", header: byScript(""),
			fresh: calls{Gets: 1}, later: calls{Gets: 1}, // a script that asks for ever keeps no session alive
		},
		// The claim is made and sent, the tokens are saved, and the claim is given back; in between it looks whether others
		// have been faster (S05).
		{name: "a refresh", path: "/token?force", fresh: calls{Gets: 2, Sets: 4}},
		{name: "a value", path: "/set?cart=1", fresh: calls{Gets: 1, Sets: 1}},
		{name: "two values, one after another", path: "/twice", fresh: calls{Gets: 1, Sets: 2}},
		{name: "the start of a login", path: "/auth/login", header: document},
		{name: "a prefetch of the login", path: "/auth/login", header: []string{"Sec-Purpose", "prefetch"}},
		{name: "a callback out of the blue", path: "/auth/callback?state=x&code=y"},
		{
			name: "a logout", path: "/auth/logout", header: document,
			// The second read is for the newest tokens, and what ends is replaced before it goes: nobody has changed it since.
			fresh: calls{Gets: 2, Sets: 1, Deletes: 1}, later: calls{Gets: 2, Sets: 1, Deletes: 1},
		},
		{name: "a logout of nobody", path: "/auth/logout", cookie: func(string) string { return "" }},
		{name: "a prefetch of the logout", path: "/auth/logout", header: []string{"Sec-Purpose", "prefetch"}},
	} {
		for when, want := range map[string]calls{"": tt.fresh, ", when it is to be extended": tt.later} {
			if when != "" && tt.later == (calls{}) && tt.fresh != (calls{}) {
				continue
			}
			t.Run(tt.name+when, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					p := newProcess(t)
					p.busy()
					cookie := p.login()
					if tt.cookie != nil {
						cookie = tt.cookie(cookie)
					}
					if when != "" {
						time.Sleep(20 * time.Minute)
					}
					header := append([]string{"Cookie", cookie}, tt.header...)
					got := p.calls(func() { ask(p.handler, max(tt.method, "GET"), tt.path, header...) })
					if got != want {
						t.Errorf("%+v, want %+v", got, want)
					}
				})
			})
		}
	}
}

// The code is claimed before it is redeemed, and what became of it is noted (S24). Where sessions can be ended from elsewhere,
// the user's mark is read before the session is saved, and afterwards that one and the session id's (S07). The callback of a
// browser with a session reads that one twice, for its values and to compare the users, and ends it as a logout does.
func TestWhatALoginCosts(t *testing.T) {
	t.Parallel()
	type calls = oidcauthtest.StoreCalls
	for _, mode := range cookieModes {
		for _, indexed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, with an index: %v", mode.name, indexed), func(t *testing.T) {
				t.Parallel()
				edits := mode.edit
				if !indexed {
					edits = append(slices.Clone(edits), func(o *oidcauth.Options) { o.Store = nilStore{o.Store} })
				}
				p := newProcess(t, edits...)
				login := func() { p.browser.From("https://app.test").Get("/auth/login?returnTo=/public") }
				p.op.SetUser(oidcauthtest.Alice)
				first := calls{Sets: 3}
				if indexed {
					first.Gets = 3
				}
				if got := p.calls(login); got != first {
					t.Errorf("the first login: %+v, want %+v", got, first)
				}
				want := calls{Gets: first.Gets + 1, Sets: first.Sets + 1, Deletes: 1}
				if mode.name == "Lax, query" { // otherwise the callback does not get the session's cookie (S25)
					want.Gets += 2
				}
				if got := p.calls(login); got != want {
					t.Errorf("the second login: %+v, want %+v", got, want)
				}
				p.shelf.only(t)
			})
		}
	}
}

// Outside Wrap and the guards each call loads the session, and none extends it.
func TestABareGetSessionReadsEachTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		cookie := p.login()
		time.Sleep(20 * time.Minute)
		bare := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for range 3 {
				if s, err := p.GetSession(r); err != nil || s.Subject != "alice" {
					t.Errorf("%v, %v", s, err)
				}
			}
		})
		got := p.calls(func() { ask(bare, "GET", "/", "Cookie", cookie) })
		if got != (oidcauthtest.StoreCalls{Gets: 3}) {
			t.Errorf("%+v", got)
		}
	})
}

// Issue 4, done when 2: a write at most once a minute, and only after 1 % of the idle time.
func TestHowOftenASessionIsExtended(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		idle, every, during time.Duration
		writes              int
	}{
		{24 * time.Hour, 10 * time.Second, 2 * time.Hour, 8}, // every 14.4 minutes
		{time.Hour, 10 * time.Second, 10 * time.Minute, 10},
		{time.Hour, 3 * time.Minute, 30 * time.Minute, 10}, // by each request
		{-1, time.Minute, 2 * time.Hour, 0},
	} {
		t.Run(tt.idle.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newProcess(t, func(o *oidcauth.Options) { o.IdleTimeout = tt.idle })
				p.op.Change(func(k *oidcauthtest.Knobs) { k.AccessTokenLifetime = 24 * time.Hour })
				cookie := p.login()
				got := p.calls(func() {
					for range tt.during / tt.every {
						time.Sleep(tt.every)
						if resp := p.get("/account", cookie); body(resp) != "alice" || len(resp.Cookies()) > 0 {
							t.Errorf("at %s: status %d, %d cookies", clock(), resp.StatusCode, len(resp.Cookies()))
						}
						synctest.Wait()
					}
				})
				if got.Sets != tt.writes || got.Gets != int(tt.during/tt.every) {
					t.Errorf("%+v, want %d writes", got, tt.writes)
				}
			})
		})
	}
}

// A crowd of requests that are all due extends the session once, in each process.
func TestRequestsAtTheSameTimeExtendASessionOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		cookie := p.login()
		time.Sleep(20 * time.Minute)
		held := make(chan struct{})
		p.faults.Before(func(method, _ string) {
			if method == "Set" {
				<-held
			}
		})
		got := p.faults.Calls()
		for range 50 {
			if who := p.who(cookie); who != "alice" { // without waiting for the store
				t.Fatalf("the page says %q", who)
			}
		}
		close(held)
		p.settle(t)
		if sets := p.faults.Calls().Sets - got.Sets; sets != 1 {
			t.Errorf("%d writes", sets)
		}
	})
}

func TestWhoDeclinesToRollWritesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t, func(o *oidcauth.Options) {
			o.ShouldRoll = func(r *http.Request) bool { return r.URL.Path != "/account" }
		})
		cookie := p.login()
		time.Sleep(20 * time.Minute)
		if got := p.calls(func() { p.get("/account", cookie) }); got.Sets != 0 {
			t.Errorf("%+v", got)
		}
		if got := p.calls(func() { p.get("/", cookie) }); got.Sets != 1 {
			t.Errorf("where it does not decline: %+v", got)
		}
	})
}

// nilStore is a store of the application's own.
type nilStore struct{ oidcauth.SessionStore }

// Issue 4, done when 6.
func TestWhatStoreOptionsNewRefuses(t *testing.T) {
	t.Parallel()
	var memory *oidcauth.MemoryStore
	var own *nilStore
	for _, tt := range []struct {
		name    string
		store   oidcauth.SessionStore
		timeout time.Duration
		fields  []string
	}{
		{"no store", nil, 0, nil},
		{"no store and a timeout", nil, time.Second, nil},
		{"a store", &oidcauth.MemoryStore{}, 0, nil},
		{"a store by value", nilStore{}, 0, nil},
		{"a nil MemoryStore", memory, 0, []string{"Store"}},
		{"a nil pointer of the application's", own, 0, []string{"Store"}},
		{"a negative timeout", oidcauth.NewMemoryStore(1), -time.Second, []string{"StoreTimeout"}},
		{"both", own, -1, []string{"Store", "StoreTimeout"}},
	} {
		o := rightOptions()
		o.Store, o.StoreTimeout = tt.store, tt.timeout
		_, err := oidcauth.New(o)
		if got := fieldsOf(err); !slices.Equal(got, tt.fields) {
			t.Errorf("%s: %q, want %q: %v", tt.name, got, tt.fields, err)
		}
		for _, mistake := range configErrors(err) {
			if !strings.Contains(mistake.Reason, "; ") {
				t.Errorf("%s: %q does not say what to do", tt.name, mistake.Reason)
			}
		}
	}
}
