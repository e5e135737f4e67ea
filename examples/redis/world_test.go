package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth/oidcauthtest/devprovider"
)

const users = 6

func name(user int) string { return fmt.Sprintf("user%d", user) }

// A process is one that the test kills and starts again.
type process struct {
	t    *testing.T
	addr string
	make func() *exec.Cmd
	cmd  *exec.Cmd
}

// start returns when the process takes connections.
func (p *process) start() {
	p.t.Helper()
	p.cmd = p.make()
	p.cmd.Stderr = nil // what goes wrong here goes wrong on purpose
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(p.kill)
	until(p.t, p.cmd.Path+" answers", func() bool {
		conn, err := net.Dial("tcp4", p.addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // kill -9
	_ = p.cmd.Wait()
}

// until waits for a condition that processes bring about.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30 seconds", what)
		}
	}
}

func needRedis(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// A world is the example, with its processes in the hands of the test.
type world struct {
	t         *testing.T
	base      string
	redis     *process
	instances []*process
}

func newWorld(t *testing.T) *world {
	t.Helper()
	needRedis(t)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, base: "http://" + listener.Addr().String()}
	o := devprovider.Options{BaseURL: w.base}
	for user := range users {
		o.Users = append(o.Users, devprovider.User{Subject: name(user), Email: name(user) + "@example.com"})
	}
	provider, err := devprovider.Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = provider.Close() })
	ctx, redis, dir := context.Background(), freeAddr(), t.TempDir()
	w.redis = &process{t: t, addr: redis, make: func() *exec.Cmd { return redisServer(ctx, redis, dir) }}
	w.redis.start()
	env := environment(provider, w.base, redis)
	addrs := []string{freeAddr(), freeAddr()}
	for _, addr := range addrs {
		p := &process{t: t, addr: addr, make: func() *exec.Cmd { return startInstance(ctx, env, addr) }}
		p.start()
		w.instances = append(w.instances, p)
	}
	handler := roundRobin(addrs)
	handler.ErrorLog = log.New(io.Discard, "", 0)
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return w
}

// A browser keeps cookies and follows redirects.
type browser struct {
	*http.Client
	base *url.URL
}

func newBrowser(base string) *browser {
	jar, _ := cookiejar.New(nil) // never fails
	u, _ := url.Parse(base)      // it was made of an address
	return &browser{&http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}, u}
}

// copied is the browser of a thief who has its cookies.
func (b *browser) copied() *browser {
	thief := newBrowser(b.base.String())
	thief.Jar.SetCookies(b.base, b.Jar.Cookies(b.base))
	return thief
}

// hasSession reports whether the browser was given a session that it still has.
func (b *browser) hasSession() bool {
	return slices.ContainsFunc(b.Jar.Cookies(b.base), func(c *http.Cookie) bool { return c.Name == "session" })
}

// An answer is one that a browser got.
type answer struct {
	user   int // whose browser it was
	path   string
	status int
	header http.Header
	body   string
	began  time.Time
	took   time.Duration
	err    error // there was no answer
}

func (a *answer) String() string {
	return fmt.Sprintf("%s of %s: %d %v %.300s", a.path, name(a.user), a.status, a.err, a.body)
}

// code is what a program reads in an answer of ours.
func (a *answer) code() string {
	var body struct{ Error string }
	_ = json.Unmarshal([]byte(a.body), &body)
	return body.Error
}

// ask asks as a script does, which gets a 401 rather than a new login.
func (b *browser) ask(user int, path string) (a answer) {
	a = answer{user: user, path: path, began: time.Now()}
	r, err := http.NewRequest(http.MethodGet, b.base.String()+path, http.NoBody)
	if err != nil {
		return answer{err: err}
	}
	r.Header.Set("Accept", "application/json")
	return b.do(r, a)
}

func (b *browser) do(r *http.Request, a answer) answer {
	resp, err := b.Do(r)
	if a.err = err; err == nil {
		defer resp.Body.Close()
		var body []byte
		body, a.err = io.ReadAll(resp.Body)
		a.body, a.status, a.header = string(body), resp.StatusCode, resp.Header
	}
	a.took = time.Since(a.began)
	return a
}

// signIn reports whether the browser has a session afterwards.
func (b *browser) signIn(user string) (bool, error) {
	resp, err := b.Get(b.base.String() + "/auth/login")
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	form := url.Values{"do": {"signin"}, "user": {user}, "password": {"password"}}
	if resp, err = b.PostForm(resp.Request.URL.String(), form); err == nil {
		resp.Body.Close()
	}
	return b.hasSession(), err
}

// isSignedIn reports whether the user is seen as themselves.
func (b *browser) isSignedIn(user int) bool {
	a := b.ask(user, "/account")
	return a.status == http.StatusOK && a.isOf(user)
}

func (a *answer) isOf(user int) bool {
	return strings.Contains(a.body, ">You are "+name(user)+".<") || strings.Contains(a.body, ">Hello "+name(user)+"!<")
}

func (w *world) signedIn(user int) *browser {
	w.t.Helper()
	b := newBrowser(w.base)
	if ok, err := b.signIn(name(user)); !ok || err != nil || !b.isSignedIn(user) {
		w.t.Fatalf("%s does not get in: %v", name(user), err)
	}
	return b
}

// wantEverybody waits until all users are seen as themselves. If nobody else asks, each instance is asked. Who is
// signed out is so for good.
func wantEverybody(t *testing.T, browsers []*browser) {
	t.Helper()
	until(t, "everybody is signed in", func() bool {
		for user, b := range browsers {
			for range 2 {
				a := b.ask(user, "/account")
				if a.status == http.StatusUnauthorized {
					t.Fatalf("signed out: %v", &a)
				}
				if !a.isOf(user) {
					return false
				}
			}
		}
		return true
	})
}

// A tally has the answers to a load.
type tally struct {
	mu      sync.Mutex
	answers []answer
}

// those returns the answers for which is holds.
func (n *tally) those(is func(*answer) bool) (some []answer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.answers {
		if is(&a) {
			some = append(some, a)
		}
	}
	return some
}

// load lets all users reload the three pages until during returns. Each of them is seen as themselves or not at all:
// that nobody is signed out or becomes somebody else is what all of this is about. The caller judges the other answers.
func (w *world) load(t *testing.T, browsers []*browser, during func(*tally)) *tally {
	t.Helper()
	n := &tally{}
	var done atomic.Bool
	var wg sync.WaitGroup
	defer wg.Wait()
	defer done.Store(true)
	for user, b := range browsers {
		wg.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for ; !done.Load(); <-tick.C {
				for _, path := range []string{"/account", "/hello", "/"} {
					a := b.ask(user, path)
					n.mu.Lock()
					n.answers = append(n.answers, a)
					n.mu.Unlock()
				}
			}
		})
	}
	during(n)
	done.Store(true)
	wg.Wait()
	for _, a := range n.answers {
		unknown := a.path == "/" || a.path == "/hello" && strings.Contains(a.body, "Who are you?")
		if a.err != nil || a.status == http.StatusOK && !unknown && !a.isOf(a.user) {
			t.Errorf("%v", &a)
		}
	}
	return n
}

// statuses counts answers by path and status.
func (n *tally) statuses() map[string]int {
	count := map[string]int{}
	for _, a := range n.answers {
		count[a.path+" "+strconv.Itoa(a.status)]++
	}
	return count
}

// durations are the median and the longest.
func durations(answers []answer) string {
	slices.SortFunc(answers, func(a, b answer) int { return int(a.took - b.took) })
	if len(answers) == 0 {
		return "none"
	}
	median, longest := answers[len(answers)/2].took, answers[len(answers)-1].took
	return fmt.Sprintf("%d, median %v, longest %v", len(answers), median, longest)
}
