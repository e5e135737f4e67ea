package main

import (
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
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth/oidcauthtest/devprovider"
)

// TestMain is an instance of the application if the test has started it as one.
func TestMain(m *testing.M) {
	if addr := os.Getenv("INSTANCE"); addr != "" {
		log.SetOutput(io.Discard) // what goes wrong here goes wrong on purpose
		_ = instance(addr)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const users = 6

func name(user int) string { return fmt.Sprintf("user%d", user) }

// A process is one that the test kills and starts again.
type process struct {
	t    *testing.T
	make func() *exec.Cmd
	up   func() bool
	cmd  *exec.Cmd
}

func (p *process) start() {
	p.t.Helper()
	p.cmd = p.make()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(p.kill)
	for deadline := time.Now().Add(30 * time.Second); !p.up(); {
		if time.Now().After(deadline) {
			p.t.Fatalf("%s does not answer", p.cmd)
		}
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // kill -9
	_ = p.cmd.Wait()
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
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, base: "http://" + listener.Addr().String()}
	o := devprovider.Options{BaseURL: w.base}
	for user := range users {
		o.Users = append(o.Users, devprovider.User{Subject: name(user), Name: name(user), Email: name(user) + "@example.com"})
	}
	provider, err := devprovider.Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = provider.Close() })
	redis, dir := freeAddr(), t.TempDir()
	w.redis = &process{t: t, make: func() *exec.Cmd { return redisServer(redis, dir) }, up: func() bool {
		conn, err := net.Dial("tcp4", redis)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}}
	w.redis.start()
	env := environment(provider, w.base, redis)
	addrs := []string{freeAddr(), freeAddr()}
	for _, addr := range addrs {
		p := &process{t: t, make: func() *exec.Cmd { return startInstance(env, addr) }, up: func() bool {
			resp, err := http.Get("http://" + addr)
			if err == nil {
				resp.Body.Close()
			}
			return err == nil
		}}
		p.start()
		w.instances = append(w.instances, p)
	}
	server := &http.Server{Handler: roundRobin(addrs), ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return w
}

// browser returns one in which the user is signed in.
func (w *world) browser(user int) *http.Client {
	w.t.Helper()
	jar, _ := cookiejar.New(nil) // never fails
	b := &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}
	page, _ := w.get(b, "/account", "text/html")
	form := url.Values{"do": {"signin"}, "user": {name(user)}, "password": {"password"}}
	resp, err := b.PostForm(page.Request.URL.String(), form)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if !strings.Contains(string(body), "you are "+name(user)+".") {
		w.t.Fatalf("%s does not get in: %d %s", name(user), resp.StatusCode, body)
	}
	return b
}

func (w *world) get(b *http.Client, path, accept string) (*http.Response, string) {
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.base+path, http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Accept", accept)
	resp, err := b.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp, string(body)
}

// A tally counts answers by status, and keeps what must not be.
type tally struct {
	mu      sync.Mutex
	answers map[int]int
	public  []time.Duration // how long the public page took
	wrong   []string
}

// load lets all users reload until during returns, and counts what they see.
func (w *world) load(browsers []*http.Client, during func()) *tally {
	n := &tally{answers: map[int]int{}}
	var done atomic.Bool
	var wg sync.WaitGroup
	for user, b := range browsers {
		wg.Go(func() {
			for !done.Load() {
				resp, body := w.get(b, "/account", "application/json") // a 401 rather than a new login
				began := time.Now()
				public, _ := w.get(b, "/", "text/html")
				took := time.Since(began)
				n.mu.Lock()
				n.answers[resp.StatusCode]++
				if public.StatusCode == http.StatusOK {
					n.public = append(n.public, took)
				}
				switch ok := strings.Contains(body, "you are "+name(user)+"."); {
				case resp.StatusCode == http.StatusOK && !ok, resp.StatusCode == http.StatusUnauthorized:
					n.wrong = append(n.wrong, fmt.Sprintf("%s: %d %.200s", name(user), resp.StatusCode, body))
				case public.StatusCode != http.StatusOK && public.StatusCode != http.StatusBadGateway:
					n.wrong = append(n.wrong, fmt.Sprintf("public page: %d", public.StatusCode))
				}
				n.mu.Unlock()
			}
		})
	}
	during()
	done.Store(true)
	wg.Wait()
	for _, text := range n.wrong {
		w.t.Error(text)
	}
	return n
}

// until waits for a condition that the load brings about.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// Issue 4, done when 3; lesson 23: whatever is killed, nobody is logged out and nobody becomes somebody else.
func TestKilledUnderLoad(t *testing.T) {
	w := newWorld(t)
	var browsers []*http.Client
	for user := range users {
		browsers = append(browsers, w.browser(user))
	}
	everybody := func() bool {
		for user, b := range browsers {
			if _, body := w.get(b, "/account", "application/json"); !strings.Contains(body, "you are "+name(user)+".") {
				return false
			}
		}
		return true
	}
	t.Run("instances", func(t *testing.T) {
		n := w.load(browsers, func() {
			for range 10 {
				for _, p := range w.instances {
					p.kill()
					p.start()
				}
			}
		})
		// 502 is the answer to what was under way at an instance when it was killed.
		if n.answers[http.StatusOK] == 0 || n.answers[http.StatusServiceUnavailable] > 0 || !everybody() {
			t.Errorf("the answers are %v", n.answers)
		}
		t.Logf("answers: %v", n.answers)
	})
	t.Run("Redis", func(t *testing.T) {
		outage := 4 * time.Second
		if d, err := time.ParseDuration(os.Getenv("OUTAGE")); err == nil {
			outage = d // for figures: OUTAGE=10s go test -v
		}
		n := w.load(browsers, func() {
			w.redis.kill()
			<-time.After(outage)
			w.redis.start()
			until(t, "everybody is back", everybody)
		})
		if n.answers[http.StatusServiceUnavailable] == 0 || n.answers[http.StatusBadGateway] > 0 {
			t.Errorf("the answers are %v", n.answers)
		}
		slices.Sort(n.public)
		t.Logf("answers: %v; the public page took %v in the median, and 99 of 100 less than %v", n.answers,
			n.public[len(n.public)/2], n.public[len(n.public)*99/100])
	})
}
