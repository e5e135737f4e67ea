package processes

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A process is one of the application.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.Writer
	lines  chan string
	ended  chan struct{}
	addr   string
	base   string
	client *http.Client
}

// startProcess returns when the process listens.
func startProcess(t *testing.T, c config) *process {
	t.Helper()
	told, err := json.Marshal(c)
	must(t, err)
	p := &process{t: t, base: c.BaseURL, lines: make(chan string, 10), ended: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env, p.cmd.SysProcAttr = append(os.Environ(), configVariable+"="+string(told)), dieWithParent()
	var log bytes.Buffer // which Wait guards
	p.cmd.Stderr = &log
	p.stdin, err = p.cmd.StdinPipe()
	must(t, err)
	stdout, err := p.cmd.StdoutPipe()
	must(t, err)
	must(t, p.cmd.Start())
	go func() {
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			p.lines <- lines.Text()
		}
		_ = p.cmd.Wait() // it was killed
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.kill()
		if text := log.String(); strings.Contains(text, "DATA RACE") || strings.Contains(text, "panic:") {
			t.Errorf("a process has found a race, or panicked")
		}
		if t.Failed() && log.Len() > 0 {
			t.Logf("the log of %s:\n%s", p.addr, shortened(log.String()))
		}
	})
	p.addr = p.line("where it listens")
	p.client = &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 100,
			// Whatever host a URL names, the provider's apart, is this process: it is behind a load balancer, so to say.
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if "http://"+addr == c.BaseURL {
					addr = p.addr
				}
				return new(net.Dialer).DialContext(ctx, network, addr)
			},
		},
	}
	t.Cleanup(p.client.CloseIdleConnections)
	return p
}

// shortened is a log in which nothing is there twice.
func shortened(log string) string {
	var short strings.Builder
	seen := map[string]bool{}
	for line := range strings.Lines(log) {
		what := line[min(len("2006/01/02 15:04:05"), len(line)):]
		if !seen[what] {
			short.WriteString(line)
		}
		seen[what] = true
	}
	return short.String()
}

// line waits for the next that the process writes.
func (p *process) line(what string) string {
	p.t.Helper()
	select {
	case line := <-p.lines:
		return line
	case <-p.ended:
		p.t.Fatalf("a process has ended and does not say %s", what)
	case <-time.After(patience):
		p.t.Fatalf("a process does not say %s", what)
	}
	return ""
}

// isHeld waits until the process has come to the point at which it is held.
func (p *process) isHeld() {
	p.t.Helper()
	if line := p.line("that it is held"); line != "held" {
		p.t.Fatalf("a process says %q", line)
	}
}

// release lets it go on.
func (p *process) release() {
	p.t.Helper()
	_, err := io.WriteString(p.stdin, "go\n")
	must(p.t, err)
}

// came is how many requests had their session, and have its token or wait for it. Of those that wait only one has to do
// with the store.
func (p *process) came() int {
	p.t.Helper()
	resp, err := p.client.Get(p.base + "/came")
	must(p.t, err)
	defer resp.Body.Close()
	var n int
	_, err = fmt.Fscan(resp.Body, &n)
	must(p.t, err)
	return n
}

// kill is kill -9, also of what is paused.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	must(p.t, p.cmd.Process.Signal(s))
}

// pause stops it as a laptop's lid or a virtual machine's host would do. It returns when no thread of it runs any more.
func (p *process) pause() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	within(p.t, patience, "the process is stopped", func() bool { return isStopped(p.cmd.Process.Pid) })
}

func (p *process) wake() { p.signal(syscall.SIGCONT) }

// An answer is what a browser got at /token, or why it got none.
type answer struct {
	page
	status  int
	cookie  string // the browser's, if the answer has set it anew
	cleared bool   // the answer takes the browser's cookie
	err     error
	took    time.Duration
}

// ask asks for /token once, as a script does: that gets a 401 rather than a new login.
func (p *process) ask(ctx context.Context, cookie string) (a answer) {
	began := time.Now()
	defer func() { a.took = time.Since(began) }()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/token", http.NoBody)
	if err != nil {
		return answer{err: err}
	}
	r.Header.Set("Cookie", cookie)
	r.Header.Set("Accept", "application/json")
	resp, err := p.client.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(body, &a.page)
	}
	a.status, a.err = resp.StatusCode, err
	var pairs []string
	for _, c := range resp.Cookies() {
		if c.MaxAge < 0 || c.Value == "" {
			a.cleared = true
		} else {
			pairs = append(pairs, c.Name+"="+c.Value)
		}
	}
	a.cookie = strings.Join(pairs, "; ")
	return a
}

// A wave is requests of one browser that are under way at the same time.
type wave struct {
	answers []answer
	group   sync.WaitGroup
}

// send lets n requests with a cookie go to each process.
func send(ctx context.Context, n int, cookie string, to ...*process) *wave {
	w := &wave{answers: make([]answer, n*len(to))}
	for i := range w.answers {
		w.group.Go(func() { w.answers[i] = to[i%len(to)].ask(ctx, cookie) })
	}
	return w
}

// sendAndWait is send, and returns when all requests have come to where they wait for the token.
func sendAndWait(ctx context.Context, t testing.TB, n int, cookie string, to ...*process) *wave {
	t.Helper()
	var before []int
	for _, p := range to {
		before = append(before, p.came())
	}
	w := send(ctx, n, cookie, to...)
	for i, p := range to {
		within(t, patience, "all requests have come", func() bool { return p.came() >= before[i]+n })
	}
	return w
}

// all waits for the answers.
func (w *wave) all() []answer {
	w.group.Wait()
	return slices.Clone(w.answers)
}

// An unexpected collects answers that are not as wanted, and says of each kind how many there are.
type unexpected map[string]int

func (u unexpected) add(a answer) {
	a.Expiry = time.Time{}
	u[fmt.Sprintf("%d %+v after %v, cookie cleared: %v, %v", a.status, a.page, a.took.Round(time.Second), a.cleared, a.err)]++
}

func (u unexpected) report(t testing.TB) {
	t.Helper()
	for what, n := range u {
		t.Errorf("%d answers are %s", n, what)
	}
}
