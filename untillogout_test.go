package oidcauth_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
)

// An ending is how a stream came to its end.
type ending struct {
	cause error
	at    time.Time
}

// follow begins a stream with cookies that goes on until UntilLogout says that it is over, or the test.
func (p *process) follow(cookie string) <-chan ending {
	ended := make(chan ending, 1)
	h := p.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		until := p.UntilLogout(r)
		<-until.Done()
		ended <- ending{context.Cause(until), time.Now()}
	}))
	r := httptest.NewRequestWithContext(p.t.Context(), "GET", "/", http.NoBody)
	r.Header.Set("Cookie", cookie)
	go answerTo(h, r)
	return ended
}

// inAllModes is [inModes], and once more for sessions in cookies without a store.
func inAllModes(t *testing.T, test func(t *testing.T, m mode)) {
	inModes(t, test)
	t.Run("in cookies alone", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			test(t, mode{func(o *oidcauth.Options) { o.Store = nil }})
		})
	})
}

// A way in which a session ends while a stream of it is open at p.
type way struct {
	name string
	end  func(t *testing.T, p, q *process, cookie, handle string) error
	lone bool // it works without a store, too
}

var ways = []way{
	{"a logout at this process", func(_ *testing.T, p, _ *process, cookie, _ string) error {
		p.logout(cookie)
		return nil
	}, true},
	{"a logout at another", func(_ *testing.T, _, q *process, cookie, _ string) error {
		q.logout(cookie)
		return nil
	}, false},
	{"a logout token with a sid", func(t *testing.T, _, q *process, _, _ string) error {
		sends(t, q, q.op.LogoutToken("", q.op.SIDs("alice")[0]))
		return nil
	}, false},
	{"a logout token with a subject", func(t *testing.T, _, q *process, _, _ string) error {
		sends(t, q, q.op.LogoutToken("alice", ""))
		return nil
	}, false},
	{"RevokeSessions", func(t *testing.T, _, q *process, _, _ string) error {
		return q.RevokeSessions(t.Context(), q.op.Issuer(), "alice")
	}, false},
	{"RevokeSession", func(t *testing.T, _, q *process, _, handle string) error {
		return q.RevokeSession(t.Context(), q.op.Issuer(), "alice", handle)
	}, false},
	{"its absolute end", func(*testing.T, *process, *process, string, string) error {
		time.Sleep(time.Hour - 10*time.Minute)
		return nil
	}, true},
	{"a refresh token that is none any more", func(_ *testing.T, p, q *process, cookie, _ string) error {
		p.op.Fail("token", http.StatusBadRequest, "invalid_grant", 1)
		q.get("/token?force", cookie)
		return nil
	}, false},
}

// BCL-21: a stream ends within the check interval after its session, wherever and however that was ended.
func TestAStreamEndsWithItsSession(t *testing.T) {
	for _, interval := range []time.Duration{0, time.Second, 20 * time.Second} {
		for _, w := range ways {
			t.Run(fmt.Sprintf("%s, looked at every %v", w.name, interval), func(t *testing.T) {
				run := inModes
				if w.lone {
					run = inAllModes
				}
				run(t, func(t *testing.T, m mode) { checkStreamEnds(t, m, interval, w) })
			})
		}
	}
}

func checkStreamEnds(t *testing.T, m mode, interval time.Duration, w way) {
	t.Helper()
	edit := func(o *oidcauth.Options) { o.StreamCheckInterval, o.AbsoluteTimeout = interval, time.Hour }
	p := newProcess(t, m.and(edit)...)
	q := p.another(m.and(edit)...)
	cookie := p.login()
	handle := sessionOf(t, p.app, cookie).Handle
	mine, other := p.follow(cookie), p.follow(p.cookies(t, bob))
	time.Sleep(10*time.Minute + 300*time.Millisecond)
	if len(mine)+len(other) != 0 {
		t.Fatal("a stream has ended by itself")
	}
	if err := w.end(t, p, q, cookie, handle); err != nil {
		t.Fatal(err)
	}
	over := time.Now()
	got := <-mine
	if late := got.at.Sub(over); late > cmp.Or(interval, 5*time.Second) {
		t.Errorf("it ends %v later", late)
	}
	if !errors.Is(got.cause, oidcauth.ErrNoSession) {
		t.Errorf("its cause is %v", got.cause)
	}
	if w.name != "its absolute end" && len(other) != 0 {
		t.Error("the stream of another user has ended with it")
	}
	p.settle(t)
	q.settle(t)
}

// BCL-21: an outage of the store of less than a minute ends nothing, whatever the interval. After a minute nobody can vouch
// for the session.
func TestAStreamOutlivesAShortOutage(t *testing.T) {
	for _, interval := range []time.Duration{time.Second, 5 * time.Second, 2 * time.Minute} {
		for outage, down := range outages {
			t.Run(fmt.Sprintf("it %s, looked at every %v", outage, interval), func(t *testing.T) {
				inModes(t, func(t *testing.T, m mode) {
					p := newProcess(t, m.and(func(o *oidcauth.Options) { o.StreamCheckInterval = interval })...)
					stream := p.follow(p.login())
					synctest.Wait()
					time.Sleep(interval - 10*time.Second)
					for range 3 {
						down.begin(p.faults)
						time.Sleep(50 * time.Second)
						p.faults.Heal()
						time.Sleep(2*interval + 10*time.Second)
					}
					if len(stream) != 0 {
						got := <-stream
						t.Fatalf("an outage of 50 s has ended it: %v", got.cause)
					}
					down.begin(p.faults)
					began := time.Now()
					got := <-stream
					if late := got.at.Sub(began); late < time.Minute-interval || late > time.Minute+2*interval+10*time.Second ||
						!errors.Is(got.cause, oidcauth.ErrUnavailable) || errors.Is(got.cause, oidcauth.ErrNoSession) {
						t.Errorf("a long outage ends it after %v: %v", late, got.cause)
					}
					p.faults.Heal()
					p.settle(t)
				})
			})
		}
	}
}

// Without a session, or if nobody can tell, a stream does not begin.
func TestUntilLogoutWithoutASession(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		cookie, ended := p.login(), p.login()
		q.logout(ended)
		for name, of := range map[string]string{
			"no cookie": "", "junk": "__Host-session=junk", "a session that has ended": ended,
		} {
			if got := <-p.follow(of); !errors.Is(got.cause, oidcauth.ErrNoSession) {
				t.Errorf("%s: %v", name, got.cause)
			}
		}
		p.faults.Fail(errDown)
		cause := (<-p.follow(cookie)).cause
		if !errors.Is(cause, oidcauth.ErrUnavailable) || errors.Is(cause, oidcauth.ErrNoSession) {
			t.Errorf("while the store is down: %v", cause)
		}
	})
}

// A request that ends takes its watch along: nothing looks at the store for it any more.
func TestNobodyLooksForAStreamThatIsOver(t *testing.T) {
	everyMode(t, func(t *testing.T, p, _ *process) {
		cookie := p.login()
		for name, begin := range map[string]func(ctx context.Context){
			"UntilLogout": func(ctx context.Context) {
				r := httptest.NewRequestWithContext(ctx, "GET", "/", http.NoBody)
				r.Header.Set("Cookie", cookie)
				<-p.UntilLogout(r).Done()
			},
		} {
			ctx, hangUp := context.WithCancel(t.Context())
			before := p.faults.Calls()
			done := make(chan struct{})
			go func() { begin(ctx); close(done) }()
			time.Sleep(time.Minute)
			if p.faults.Calls() == before {
				t.Errorf("%s: nobody looks", name)
			}
			hangUp()
			<-done
			synctest.Wait()
			before = p.faults.Calls()
			time.Sleep(time.Hour)
			if now := p.faults.Calls(); now != before {
				t.Errorf("%s: the store is asked %d times after the request", name, now.Gets-before.Gets)
			}
		}
	})
}

// With a RevocationCache streams are not late (S20).
func TestStreamsDoNotWaitForTheCache(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		edit := func(o *oidcauth.Options) { o.RevocationCache, o.StreamCheckInterval = 30*time.Second, time.Second }
		p := newHybrid(t, edit)
		q := p.alike(edit)
		cookie := p.login()
		stream := p.follow(cookie)
		time.Sleep(10 * time.Second)
		q.logout(cookie)
		over := time.Now()
		if got := <-stream; got.at.Sub(over) > time.Second {
			t.Errorf("it ends %v later", got.at.Sub(over))
		}
		standing(t, cookie, nobody, p) // and everybody at this process knows
		q.settle(t)
		p.settle(t)
	})
}

// An API that has not answered yet is not waited for when the session ends: its request is cancelled, and the page gets
// 401.
func TestAProxiedRequestThatWaitsEndsWithItsSession(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		cancelled := make(chan struct{})
		p.op.Serve("api.test", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			close(cancelled)
		}))
		proxy, err := p.Proxy(oidcauth.ProxyOptions{Prefix: "/api/", Target: "https://api.test/"})
		if err != nil {
			t.Fatal(err)
		}
		p.mux.Handle("/api/", proxy)
		cookie := p.login()
		answer := make(chan *http.Response, 1)
		go func() { answer <- ask(p.handler, "GET", "/api/events", byScript(cookie)...) }()
		time.Sleep(20*time.Second + time.Millisecond)
		q.logout(cookie)
		began := time.Now()
		resp := <-answer
		<-cancelled
		took, lines := time.Since(began), sessionLines(resp.Header)
		if took > 5*time.Second || resp.StatusCode != http.StatusUnauthorized || len(lines) > 0 {
			t.Errorf("status %d after %v, with %d session cookies", resp.StatusCode, took, len(lines))
		}
	})
}

// wired returns a front of p over sockets whose proxy goes to an API over sockets.
func (p *process) wired(t *testing.T, api http.Handler, target *string) *wiredBFF {
	t.Helper()
	*target = listen(t, api).String() + "/v1/"
	proxy, err := p.Proxy(oidcauth.ProxyOptions{Prefix: "/api/", Target: *target, WebSocket: true})
	if err != nil {
		t.Fatal(err)
	}
	p.mux.Handle("/api/", proxy)
	plain := &http.Transport{DisableCompression: true}
	t.Cleanup(plain.CloseIdleConnections)
	return &wiredBFF{
		bff:   &bff{app: p.app, proxy: proxy, cookie: p.login()},
		front: listen(t, p.handler), client: &http.Client{Transport: plain},
	}
}

// overSockets lets a process reach APIs at this machine.
func overSockets(t *testing.T) func(*oidcauth.Options) {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return func(o *oidcauth.Options) {
		provider := o.HTTPClient.Transport
		o.StreamCheckInterval = 50 * time.Millisecond
		o.HTTPClient = &http.Client{Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
			if r.URL.Hostname() == "127.0.0.1" {
				return transport.RoundTrip(r)
			}
			return provider.RoundTrip(r)
		})}
	}
}

// BCL-21, THR-55: an event stream and a WebSocket that are open through the proxy are closed when the session is ended at
// another process, and so are the connections to the API.
func TestProxiedStreamsEndWithTheirSession(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]mode{
		"in the store": nil, "in cookies": {inCookies}, "in cookies alone": {func(o *oidcauth.Options) { o.Store = nil }},
	} {
		for _, kind := range []string{"events", "WebSocket"} {
			for how, end := range map[string]func(p, q *process, cookie string) error{
				"a logout": func(p, q *process, cookie string) error {
					if name == "in cookies alone" {
						q = p // there only this process knows
					}
					q.logout(cookie)
					return nil
				},
				"a logout token": func(_, q *process, _ string) error {
					sends(t, q, q.op.LogoutToken("alice", ""))
					return nil
				},
				"RevokeSessions": func(_, q *process, _ string) error {
					return q.RevokeSessions(context.Background(), q.op.Issuer(), "alice")
				},
			} {
				if name == "in cookies alone" && how != "a logout" {
					continue
				}
				t.Run(fmt.Sprintf("%s, %s, %s", name, kind, how), func(t *testing.T) {
					t.Parallel()
					p := newProcess(t, m.and(overSockets(t))...)
					q := p.another(m...)
					checkProxiedStream(t, p, kind, func(cookie string) error { return end(p, q, cookie) })
				})
			}
		}
	}
}

// checkProxiedStream opens a stream, lets it flow for a while, ends its session, and waits for its end.
func checkProxiedStream(t *testing.T, p *process, kind string, end func(cookie string) error) {
	t.Helper()
	gone := make(chan struct{})
	var target string
	sockets := &echoSockets{}
	b := p.wired(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(gone)
		if kind == "WebSocket" {
			sockets.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for ticks := time.NewTicker(20 * time.Millisecond); ; {
			_, _ = io.WriteString(w, "data: tick\n\n")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-ticks.C:
			case <-r.Context().Done():
				ticks.Stop()
				return
			}
		}
	}), &target)
	next := b.stream(t, kind)
	for range 10 { // several looks take place meanwhile
		if err := next(); err != nil {
			t.Fatalf("the stream breaks before the logout: %v", err)
		}
	}
	if err := end(b.cookie); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for next() == nil {
		if time.Now().After(deadline) {
			t.Fatal("the stream goes on")
		}
	}
	select {
	case <-gone:
	case <-time.After(30 * time.Second):
		t.Error("the connection to the API goes on")
	}
}

// stream opens a stream and returns how to wait for what comes next.
func (b *wiredBFF) stream(t *testing.T, kind string) (next func() error) {
	t.Helper()
	if kind == "events" {
		resp := b.mustSend(t, "GET", "/api/events", http.NoBody, "Accept", "text/event-stream")
		lines := bufio.NewReader(resp.Body)
		return func() error {
			_, err := lines.ReadString('\n')
			return err
		}
	}
	resp, conn, lines := b.dial(t, b.handshake("Origin: https://app.test")...)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the handshake is answered with %d", resp.StatusCode)
	}
	return func() error {
		time.Sleep(20 * time.Millisecond)
		if _, err := io.WriteString(conn, "tick\n"); err != nil {
			return err
		}
		line, err := lines.ReadString('\n')
		if err == nil && !strings.Contains(line, "tick") {
			err = fmt.Errorf("%q came back", line)
		}
		return err
	}
}

// A refresh that brings an earlier end (session_expiry) moves the end of the streams, too.
func TestAStreamEndsWhenTheProviderSaysSoAtARefresh(t *testing.T) {
	for _, at := range []string{"this process", "another"} {
		t.Run(at, func(t *testing.T) {
			run := inAllModes
			if at == "another" { // of which nobody knows without a store
				run = inModes
			}
			run(t, func(t *testing.T, m mode) {
				p := newProcess(t, m...)
				q := p
				if at == "another" {
					q = p.another(m...)
				}
				cookie := p.login()
				stream := p.follow(cookie)
				synctest.Wait()
				end := time.Now().Add(10 * time.Minute)
				p.op.EditIDToken(func(c map[string]any) { c["session_expiry"] = end.Unix() })
				q.token("?force", cookie)
				time.Sleep(9 * time.Minute)
				if len(stream) != 0 {
					t.Fatal("it has ended before")
				}
				time.Sleep(2 * time.Minute)
				if standing(t, cookie, nobody, p, q); len(stream) == 0 {
					t.Error("the session is over, and the stream goes on")
				} else if got := <-stream; !errors.Is(got.cause, oidcauth.ErrNoSession) {
					t.Errorf("its cause is %v", got.cause)
				}
				p.settle(t)
				q.settle(t)
			})
		})
	}
}
