package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestMain is an instance of the application if one was started.
func TestMain(m *testing.M) {
	if os.Getenv("INSTANCE") != "" {
		main()
	}
	os.Exit(m.Run())
}

// Lesson 23: whatever is killed, nobody is signed out, and nobody becomes somebody else.
func TestWhateverIsKilledNobodyIsSignedOut(t *testing.T) {
	w := newWorld(t)
	var browsers []*browser
	for user := range users {
		browsers = append(browsers, w.signedIn(user))
	}
	t.Run("instances", func(t *testing.T) { instancesAreKilled(t, w, browsers) })
	t.Run("Redis", func(t *testing.T) { redisIsKilled(t, w, browsers) })
	t.Run("all at once", func(t *testing.T) {
		for _, p := range append(w.instances, w.redis) {
			p.kill()
		}
		w.redis.start()
		for _, p := range w.instances {
			p.start()
		}
		wantEverybody(t, browsers)
	})
}

func instancesAreKilled(t *testing.T, w *world, browsers []*browser) {
	const rounds = 5
	n := w.load(t, browsers, func(n *tally) {
		for range rounds {
			for _, p := range w.instances {
				p.kill()
				killed := time.Now()
				until(t, "the other instance answers everybody", func() bool { return n.everybodyGot(http.StatusOK, killed) })
				p.start()
			}
		}
	})
	// 502 is for what was under way at an instance when it was killed: one request of each user at most.
	torn := n.those(func(a *answer) bool { return a.status == http.StatusBadGateway })
	others := n.those(func(a *answer) bool { return a.status != http.StatusOK && a.status != http.StatusBadGateway })
	if len(others) > 0 || len(torn) > rounds*len(w.instances)*users {
		t.Errorf("the answers are %v", n.statuses())
	}
	t.Logf("%d kills, answers: %v", rounds*len(w.instances), n.statuses())
	wantEverybody(t, browsers)
}

// everybodyGot reports whether each user asked for their account after a time, and got an answer with the status.
func (n *tally) everybodyGot(status int, after time.Time) bool {
	seen := map[int]bool{}
	for _, a := range n.those(func(a *answer) bool {
		return a.path == "/account" && a.status == status && a.began.After(after)
	}) {
		seen[a.user] = true
	}
	return len(seen) == users
}

func redisIsKilled(t *testing.T, w *world, browsers []*browser) {
	outage, err := time.ParseDuration(os.Getenv("OUTAGE")) // for figures: OUTAGE=10s go test -v
	if err != nil {
		outage = 2 * time.Second
	}
	left, leaving := w.signedIn(0), w.signedIn(1)
	thief := left.copied()
	if a := left.ask(0, "/auth/logout"); a.err != nil || left.hasSession() {
		t.Fatalf("the logout: %v", &a)
	}
	var killed, started time.Time
	var newcomers []*browser
	n := w.load(t, browsers, func(n *tally) {
		newcomers = w.comeUntil(t, func() {
			w.redis.kill()
			killed = time.Now()
		})
		until(t, "an outage for everybody", func() bool {
			return time.Since(killed) >= outage && n.everybodyGot(http.StatusServiceUnavailable, killed)
		})
		// A logout says that it is none, but takes the browser's cookie (S36).
		a := leaving.ask(1, "/auth/logout")
		if a.status != http.StatusServiceUnavailable || a.code() != "logout_incomplete" || leaving.hasSession() {
			t.Errorf("a logout meanwhile: %v", &a)
		}
		w.redis.start()
		started = time.Now()
		wantEverybody(t, browsers)
	})
	down := n.those(func(a *answer) bool { return a.status == http.StatusServiceUnavailable })
	others := n.those(func(a *answer) bool {
		return a.status != http.StatusOK && a.status != http.StatusServiceUnavailable
	})
	for _, a := range down {
		if a.path != "/account" || a.code() != "store_unavailable" || a.header.Get("Retry-After") == "" {
			t.Errorf("%v", &a)
		}
	}
	if len(others) > 0 {
		t.Errorf("the answers are %v", n.statuses())
	}
	// Now that nobody else asks, both instances have seen that Redis is back.
	wantEverybody(t, browsers)
	for i, b := range newcomers { // what was acknowledged is there, however late
		if user := i % users; !b.isSignedIn(user) {
			t.Errorf("of %d who signed in before Redis was killed, number %d is not signed in", len(newcomers), i)
		}
	}
	for range 2 {
		if a := thief.ask(0, "/account"); a.status != http.StatusUnauthorized {
			t.Errorf("who had signed out before is back: %v", &a)
		}
	}
	during := func(path string) []answer {
		return n.those(func(a *answer) bool { return a.path == path && a.began.After(killed) && a.began.Before(started) })
	}
	last := down[len(down)-1]
	t.Logf("Redis was down for %v, answers: %v; %d newcomers", started.Sub(killed), n.statuses(), len(newcomers))
	t.Logf("the last 503 was %v after Redis was back", last.began.Add(last.took).Sub(started))
	for _, path := range []string{"/", "/hello", "/account"} {
		t.Logf("%s meanwhile: %s", path, durations(during(path)))
	}
}

// comeUntil signs in users one after the other, in new browsers, and calls kill while it does. When one cannot sign in
// any more it returns those who could.
func (w *world) comeUntil(t *testing.T, kill func()) (in []*browser) {
	t.Helper()
	come := make(chan *browser, 1000) // more than there will be: nobody waits for kill
	var down atomic.Bool
	go func() {
		defer close(come)
		for user := 0; t.Context().Err() == nil; user = (user + 1) % users {
			b := newBrowser(w.base)
			ok, err := b.signIn(name(user))
			if !ok {
				if !down.Load() || err != nil {
					t.Errorf("%s could not sign in: %v", name(user), err)
				}
				return
			}
			come <- b
		}
	}()
	for b := range come {
		if in = append(in, b); len(in) == 2*users {
			down.Store(true)
			kill()
		}
		if len(in) == cap(come) {
			t.Fatal("sign-ins go on without Redis")
		}
	}
	return in
}

// A person starts the example, and kills all that it has started.
func TestWhatWasKilledIsStartedAgain(t *testing.T) {
	needRedis(t)
	t.Setenv("REDIS_ADDR", "")
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	lines, ended := make(chan string, 100), make(chan error, 1)
	go func() { ended <- run(ctx, "127.0.0.1:0", in); in.Close() }()
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)

	base, before := started(t, lines)
	b := newBrowser(base)
	until(t, "ada signs in", func() bool { ok, _ := b.signIn("ada"); return ok })
	for what, pid := range before {
		if err := send(pid, syscall.SIGKILL); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, after := started(t, lines)
	until(t, "ada is still signed in", func() bool {
		a := b.ask(0, "/account")
		if a.status == http.StatusUnauthorized {
			t.Fatal("ada has been signed out")
		}
		return strings.Contains(a.body, ">You are ada.<")
	})
	stop()
	for what, pid := range after {
		if err := send(pid, syscall.Signal(0)); err == nil || pid == before[what] || before[what] == 0 {
			t.Errorf("%s was process %d, then %d, and that is still there", what, before[what], pid)
		}
	}
}

// started reads the next lines that name three processes, and the address of the application if it is among them.
func started(t *testing.T, lines <-chan string) (base string, pids map[string]int) {
	t.Helper()
	pids = map[string]int{}
	timeout := time.After(time.Minute)
	for len(pids) < 3 {
		var line string
		select {
		case line = <-lines:
		case <-timeout:
			t.Fatalf("only %v have started", pids)
		}
		if address, ok := strings.CutPrefix(line, "Open "); ok {
			base = address
		} else if what, pid, ok := strings.Cut(line, " is process "); ok {
			pids[what], _ = strconv.Atoi(pid)
		}
	}
	return base, pids
}

func send(pid int, s os.Signal) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return p.Signal(s)
}
