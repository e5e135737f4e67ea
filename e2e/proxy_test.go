package e2e

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest/devprovider"
)

// A site is an application at 127.0.0.1 with its provider, its API behind a proxy at /api/, and a host elsewhere to
// which a script of the API calls home, if it runs.
type site struct {
	address  string
	provider *devprovider.Provider
	home     string // of the script

	mu    sync.Mutex
	asked []string // paths that arrived at the API
	ran   []string // in which ways the script has run
}

// newSite starts a site. Front stands between the browser and the application.
func newSite(t *testing.T, front func(http.Handler) http.Handler) *site {
	t.Helper()
	s := &site{}
	home := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ran = append(s.ran, r.URL.Query().Get("how"))
	}))
	t.Cleanup(home.Close)
	api := httptest.NewServer(s)
	t.Cleanup(api.Close)
	server := httptest.NewUnstartedServer(nil)
	t.Cleanup(server.Close)
	s.address, s.home = "http://"+server.Listener.Addr().String(), home.URL

	quiet := slog.New(slog.DiscardHandler)
	provider, err := devprovider.Listen(devprovider.Options{BaseURL: s.address, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = provider.Close() })
	s.provider = provider
	options := provider.Options()
	options.Logger = quiet
	client, err := oidcauth.New(options)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := client.Proxy(oidcauth.ProxyOptions{Prefix: "/api/", Target: api.URL, WebSocket: true})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/api/", proxy)
	mux.Handle("/", client.RequireAuth(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!doctype html><title>ours</title><p>Our page")
	})))
	server.Config.Handler = front(client.Wrap(mux))
	server.Start()
	return s
}

// asItIs is no front.
func asItIs(h http.Handler) http.Handler { return h }

// stripped is a front that takes away what browsers say of their requests to the API, and claims that all are scripts'.
func stripped(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/api/") {
			h.ServeHTTP(w, r)
			return
		}
		for name := range r.Header {
			if strings.HasPrefix(name, "Sec-Fetch-") {
				r.Header.Del(name)
			}
		}
		r.Header.Set("X-Requested-With", "XMLHttpRequest")
		h.ServeHTTP(w, r)
	})
}

// bare is stripped, and takes away what protects the answers, too.
func bare(h http.Handler) http.Handler {
	return stripped(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(&unprotected{w}, r) }))
}

// unprotected writes headers without those that keep an answer from running.
type unprotected struct{ http.ResponseWriter }

func (u *unprotected) WriteHeader(status int) {
	for _, name := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Cross-Origin-Resource-Policy"} {
		u.Header().Del(name)
	}
	u.ResponseWriter.WriteHeader(status)
}

func (u *unprotected) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// callHome is what a user has uploaded to the API.
const callHome = `
	document.title = "theirs"
	const how = new URLSearchParams(location.search).get("how")
	new Image().src = "HOME/?how=" + how
	fetch("HOME/?how=" + how, {mode: "no-cors"})`

// ServeHTTP is the API.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.URL.Path)
	s.mu.Unlock()
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	subject, _, ok := s.provider.AccessToken(token)
	if !ok || r.Header["Cookie"] != nil {
		http.Error(w, "no token, or a cookie", http.StatusUnauthorized)
		return
	}
	script := strings.ReplaceAll(callHome, "HOME", s.home)
	kind, body := "text/plain", subject
	switch r.URL.Path {
	case "/page":
		kind, body = "text/html", "<!doctype html><p>Uploaded<script>"+script+"</script>"
	case "/picture":
		kind = "image/svg+xml"
		body = `<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script><![CDATA[` + script + `]]></script></svg>`
	case "/script":
		kind, body = "text/javascript", script
	case "/cached":
		w.Header().Set("Cache-Control", "private, max-age=600")
		kind, body = "text/javascript", "window.ran = true"
	case "/echo":
		sent, _ := io.ReadAll(r.Body) // what is missing shows in the answer
		body = r.Method + " " + string(sent)
	case "/events":
		kind, body = "text/event-stream", "data: one\n\ndata: two\n\n"
	case "/socket":
		echoSocket(w, r)
		return
	}
	w.Header().Set("Content-Type", kind)
	_, _ = io.WriteString(w, body)
}

// echoSocket sends back one message of at most 125 bytes (RFC 6455 4.2.2 and 5.2).
func echoSocket(w http.ResponseWriter, r *http.Request) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	_ = rw.Flush()
	frame := make([]byte, 6) // of the client's, masked
	if _, err := io.ReadFull(rw, frame); err != nil {
		return
	}
	text := make([]byte, frame[1]&0x7f)
	if _, err := io.ReadFull(rw, text); err != nil {
		return
	}
	for i := range text {
		text[i] ^= frame[2+i%4]
	}
	_, _ = rw.Write(append([]byte{frame[0], byte(len(text))}, text...))
	_ = rw.Flush()
	_, _ = bufio.NewReader(rw).ReadByte() // until the browser closes
}

// count is how often the API was asked for a path.
func (s *site) count(path string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, asked := range s.asked {
		if asked == path {
			n++
		}
	}
	return n
}

// hasRun waits for the script to run in a way, but not for long.
func (s *site) hasRun(how string, patience time.Duration) bool {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		s.mu.Lock()
		ran := slices.Contains(s.ran, how)
		s.mu.Unlock()
		if ran || time.Now().After(deadline) {
			return ran
		}
	}
}

// signedIn opens the site in a new browser, with somebody signed in.
func (s *site) signedIn(t *testing.T) page {
	t.Helper()
	p := page{t, newChromium(t)}
	p.open(s.address)
	p.signIn("password")
	p.see("Our page")
	return p
}

// script runs the body of an async function on the page and returns its result as a string.
func (p page) script(body string) string {
	p.t.Helper()
	expression := "(async () => {" + body + "})().then(String)"
	return run(p, body, chromedp.Evaluate[string](expression, chromedp.EvalAwaitPromise))
}

// byUser lets a script do what needs a click, such as opening a window.
func byUser(p *runtime.EvaluateParams) {
	yes := true
	p.UserGesture = &yes
}

func TestAPageUsesTheProxy(t *testing.T) {
	s := newSite(t, asItIs)
	p := s.signedIn(t)
	for _, tt := range []struct{ script, want string }{
		{`return (await fetch("/api/hello")).text()`, "ada"},
		{`return (await fetch("/api/echo", {method: "POST", body: "a note"})).text()`, "POST a note"},
		{`return (await fetch("/api/echo", {method: "DELETE"})).text()`, "DELETE "},
		{`return new Promise((got, failed) => {
			const events = new EventSource("/api/events"), all = []
			events.onmessage = (e) => { all.push(e.data); if (all.length == 2) { events.close(); got(all) } }
			events.onerror = failed
		})`, "one,two"},
		{fmt.Sprintf(openSocket, "location.host"), "hello"},
	} {
		if got := p.script(tt.script); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.script, got, tt.want)
		}
	}
}

// openSocket sends a message and returns what comes back, or "refused".
const openSocket = `return new Promise((got) => {
	const socket = new WebSocket("ws://" + %s + "/api/socket")
	socket.onopen = () => socket.send("hello")
	socket.onmessage = (e) => { socket.close(); got(e.data) }
	socket.onerror = () => got("refused")
})`

// others are servers whose pages the site knows nothing of: one on the same site, whose requests have the site's
// cookies, and one on another.
func others(t *testing.T) map[string]string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!doctype html><p>Another page")
	}))
	t.Cleanup(server.Close)
	return map[string]string{
		"same site":    server.URL,
		"another site": strings.Replace(server.URL, "127.0.0.1", "localhost", 1),
	}
}

func TestPagesElsewhereGetNothingOfTheProxy(t *testing.T) { // S13, S30
	s := newSite(t, asItIs)
	p := s.signedIn(t)
	host := strings.TrimPrefix(s.address, "http://")
	for name, other := range others(t) {
		p.open(other)
		p.see("Another page")
		if got := p.script(fmt.Sprintf(openSocket, `"`+host+`"`)); got != "refused" {
			t.Errorf("%s: the WebSocket answers %q", name, got)
		}
		for _, script := range []string{
			`return (await fetch("SITE/api/hello", {credentials: "include"})).text()`,
			`return (await fetch("SITE/api/echo", {credentials: "include", mode: "no-cors", method: "POST", body: "a"})).type`,
			`return new Promise((got, failed) => Object.assign(new Image(), {onload: got, onerror: failed, src: "SITE/api/picture"}))`,
		} {
			p.script(`return (async () => {` + strings.ReplaceAll(script, "SITE", s.address) + `})().catch(String)`)
		}
	}
	for _, path := range []string{"/socket", "/hello", "/echo", "/picture"} {
		if n := s.count(path); n != 0 {
			t.Errorf("the API was asked for %s %d times", path, n)
		}
	}
}

// What the API holds is anybody's upload, and it comes from our origin.
func TestUploadsAreNotOpened(t *testing.T) { // S13
	s := newSite(t, asItIs)
	p := s.signedIn(t)
	p.open(s.address + "/api/page?how=navigation")
	p.see("cross_origin_request")
	p.open(s.address)
	for how, script := range openings() {
		p.script(script)
		if s.hasRun(how, 0) {
			t.Errorf("it runs: %s", how)
		}
	}
	p.script(`return new Promise((end) => Object.assign(document.body.appendChild(document.createElement("script")),
		{src: "/api/script", onload: end, onerror: end}))`)
	p.script(`return new Promise((end) => { new Worker("/api/script").onerror = end })`)
	p.script(`return navigator.serviceWorker.register("/api/script").catch(String)`)
	p.script(`return import("/api/script").then(() => "loaded", String)`)
	if s.hasRun("null", 500*time.Millisecond) {
		t.Error("it runs as a script")
	}
	for _, path := range []string{"/page", "/picture", "/script"} {
		if n := s.count(path); n != 0 {
			t.Errorf("the API was asked for %s %d times", path, n)
		}
	}
}

// openings are scripts that embed an upload, by what it is to call home with. They end when it is there.
func openings() map[string]string {
	const embed = `return new Promise((end) => {
		const e = document.createElement(%q)
		Object.assign(e, {onload: end, onerror: end, %s: "/api/%s?how=%s"})
		document.body.append(e)
		setTimeout(end, 3000, "no event")
	})`
	scripts := map[string]string{}
	for element, attribute := range map[string]string{"iframe": "src", "object": "data", "embed": "src", "img": "src"} {
		for _, upload := range []string{"page", "picture"} {
			how := element + "-" + upload
			scripts[how] = fmt.Sprintf(embed, element, attribute, upload, how)
		}
	}
	return scripts
}

// Where a browser, or a server before ours, does not say what a request is for, the answer's headers have to do.
func TestUploadsDoNotRun(t *testing.T) { // S13
	for _, tt := range []struct {
		name  string
		front func(http.Handler) http.Handler
		runs  bool
	}{
		{"with the headers of the proxy", stripped, false},
		{"without them, so that the test can fail", bare, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, tt.front)
			p := s.signedIn(t)
			want := func(how string) {
				t.Helper()
				runs := tt.runs && !strings.HasPrefix(how, "img-") // an image never does
				patience := 300 * time.Millisecond
				if runs {
					patience = 10 * time.Second
				}
				if s.hasRun(how, patience) != runs {
					t.Errorf("%s: it runs is %t", how, !runs)
				}
			}
			for how, script := range openings() {
				p.script(script)
				want(how)
			}
			uploads := []string{"page", "picture"}
			for _, upload := range uploads {
				p.open(s.address + "/api/" + upload + "?how=tab-" + upload)
				want("tab-" + upload)
				p.shot(fmt.Sprintf("upload-%s-runs-%t", upload, tt.runs))
			}
			for _, upload := range uploads {
				p.open(s.address)
				before := s.count("/" + upload)
				open := fmt.Sprintf(`window.open("/api/%s?how=window-%[1]s") != null`, upload)
				if !run(p, "window", chromedp.Evaluate[bool](open, byUser)) {
					t.Fatal("no window opens")
				}
				for deadline := time.Now().Add(10 * time.Second); s.count("/"+upload) == before; time.Sleep(20 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatal("the window is empty")
					}
				}
				want("window-" + upload)
			}
			if s.count("/page") == 0 || s.count("/picture") == 0 {
				t.Error("the uploads were not opened at all")
			}
		})
	}
}

// readToken is how a page gets a token.
const readToken = `
	const response = await fetch("/auth/access-token");
	const { token, expires_in } = await response.json();
	return token + " " + (expires_in > 3000)`

func TestOnlyOurPageReadsTheToken(t *testing.T) { // S29
	s := newSite(t, asItIs)
	p := s.signedIn(t)
	token, fresh, _ := strings.Cut(p.script(readToken), " ")
	if subject, _, ok := s.provider.AccessToken(token); !ok || subject != "ada" || fresh != "true" {
		t.Errorf("the token is of %q, good: %t, fresh: %s", subject, ok, fresh)
	}

	for name, navigate := range map[string]func(){
		"typed":       func() { p.open(s.address + "/auth/access-token") },
		"by our page": func() { p.script(`location.assign("/auth/access-token")`) },
	} {
		p.open(s.address)
		navigate()
		p.see("cross_origin_request")
		if body := p.text("body"); strings.Contains(body, token) {
			t.Errorf("a navigation shows the token: %s", name)
		}
	}
	p.shot("access-token-opened")
}

// An application that lets others read all of its answers has not thought of this one.
func TestPagesElsewhereReadNoToken(t *testing.T) { // S29
	for name, other := range others(t) {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Access-Control-Allow-Origin", other)
					w.Header().Set("Access-Control-Allow-Credentials", "true")
					h.ServeHTTP(w, r)
				})
			})
			p := s.signedIn(t)
			p.open(other)
			p.see("Another page")
			read := func(path string) string {
				return p.script(`const r = await fetch("` + s.address + path + `", {credentials: "include"})
					return r.status + " " + await r.text()`)
			}
			got := read("/auth/access-token")
			if !strings.HasPrefix(got, "403 ") || !strings.Contains(got, "cross_origin_request") {
				t.Errorf("another origin reads an answer with status %.3s, want 403", got)
			}
			if got := read("/"); name == "same site" && !strings.Contains(got, "Our page") {
				t.Errorf("it can read nothing at all, and so this test cannot fail: %.3s", got)
			}
		})
	}
}
