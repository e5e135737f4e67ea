package oidcauth_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
)

// A script's fetch fills the browser's cache, and a script element, a frame or a tab is answered from it without asking
// us, unless Vary says what the answer depends on (Fetch Metadata, on Vary).
func TestProxiedAnswersAreNotCachedForOtherUses(t *testing.T) { // S13 (1), BFF-06
	t.Parallel()
	b := newBFF(t, oidcauth.ProxyOptions{AllowedScopes: []string{"admin"}})
	b.api.answer = apiSays(200, "alert(1)", "Cache-Control", "private, max-age=600", "Content-Type", "text/javascript")
	vary := strings.ToLower(strings.Join(b.call("GET", "/api/x.js", "").Header["Vary"], ","))
	for _, name := range []string{"sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "scope"} {
		if !strings.Contains(vary, name) {
			t.Errorf("the answer depends on %s; Vary: %s", name, vary)
		}
	}
}

// Injected markup, <a ping>, makes a POST request without a script.
func TestProxyRefusesPings(t *testing.T) { // S13, BFF-06
	t.Parallel()
	b := newBFF(t, oidcauth.ProxyOptions{})
	b.mustPass(t, false, "POST", "Sec-Fetch-Mode", "no-cors", "Content-Type", "text/ping",
		"Ping-To", "https://app.test/", "Origin", "https://app.test")
}

// Not parallel: a garbage collection would close the connection, too.
func TestProxyHangsUpWhereItCannotSwitch(t *testing.T) { // THR-58
	closed := make(chan error, 1)
	b := newWiredBFF(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		_, err = buffered.ReadByte() // until the other side has hung up
		closed <- err
		_ = conn.Close()
	}), oidcauth.ProxyOptions{WebSocket: true})
	b.front = listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.handler.ServeHTTP(struct{ http.ResponseWriter }{w}, r) // middleware that hides Hijack
	}))
	if resp, _, _ := b.dial(t, b.handshake("Origin: https://app.test")...); resp.StatusCode/100 != 5 {
		t.Errorf("status %d", resp.StatusCode)
	}
	if err := <-closed; !errors.Is(err, io.EOF) {
		t.Errorf("the connection to the API stays open: %v", err)
	}
}

// What a switch says about the connection is ours: "Connection: Set-Cookie" tells a server in front to drop our cookie.
func TestProxySwitchSaysNoMoreThanThat(t *testing.T) { // S13 (3)
	t.Parallel()
	b := newWiredBFF(t, rawly(func(*http.Request) string {
		return "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade, Set-Cookie\r\nUpgrade: websocket\r\n" +
			"Upgrade: h2c\r\n\r\n"
	}), oidcauth.ProxyOptions{WebSocket: true})
	resp, _, _ := b.dial(t, b.handshake("Origin: https://app.test")...)
	for name, want := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Cache-Control": "private, no-store",
	} {
		if got := resp.Header[name]; len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A body that the client breaks off or malforms is its own fault, and not for the log of errors.
func TestProxyDoesNotBlameTheAPIForTheClientsBody(t *testing.T) {
	t.Parallel()
	b := newWiredBFF(t, &upstream{}, oidcauth.ProxyOptions{})
	answer := b.raw(t, "POST /api/x HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\nno number\r\nhello\r\n0\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 400 ") || strings.Contains(b.logs.String(), "level=ERROR") {
		t.Errorf("%q\n%s", answer, b.logs)
	}
}

// raw sends a request as it is, but for the headers of a script of the application's in place of "@".
func (b *wiredBFF) raw(t *testing.T, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", b.front.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	script := "Host: app.test\r\nCookie: " + b.cookie +
		"\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n"
	if _, err := io.WriteString(conn, strings.Replace(text, "@", script, 1)); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	answers := bufio.NewReader(conn)
	first, _ := answers.ReadString('\n')
	return first
}

// THR-63, withstood: whatever the front takes for one request is one request to the API, and framed in one way.
func TestProxySmugglesNothing(t *testing.T) {
	t.Parallel()
	api := &byteAPI{}
	b := newWiredBFF(t, http.NotFoundHandler(), oidcauth.ProxyOptions{})
	proxy, err := b.Proxy(oidcauth.ProxyOptions{Prefix: "/raw/", Target: api.listen(t).String() + "/v1/"})
	if err != nil {
		t.Fatal(err)
	}
	b.mux.Handle("/raw/", proxy)
	const post, chunked = "POST /raw/x HTTP/1.1\r\n@", "Transfer-Encoding: chunked\r\n"
	const hello = "5\r\nhello\r\n0\r\n\r\n"
	for name, tt := range map[string]struct{ request, want string }{
		"TE and CL":       {post + "Content-Length: 4\r\n" + chunked + "\r\n5\r\nhello\r\n0\r\n\r\n", hello},
		"two CL":          {post + "Content-Length: 4\r\nContent-Length: 5\r\n\r\nhello", ""},
		"a list of CL":    {post + "Content-Length: 5, 5\r\n\r\nhello", ""},
		"CL with a sign":  {post + "Content-Length: +5\r\n\r\nhello", ""},
		"TE twice":        {post + chunked + "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", ""},
		"TE, space":       {post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", ""},
		"TE, control":     {post + "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n", ""},
		"bare CR":         {post + "Accept: a\rX-Evil: b\r\nContent-Length: 0\r\n\r\n", ""},
		"folded":          {post + "Accept: a\r\n X-Fold: b\r\nContent-Length: 0\r\n\r\n", "Accept: a X-Fold: b\r\n"},
		"chunk extension": {post + chunked + "\r\n5;a=b\r\nhello\r\n0\r\n\r\n", hello},
		"trailers": {
			post + chunked + "Trailer: X-Evil\r\n\r\n5\r\nhello\r\n0\r\nX-Evil: 1\r\nAuthorization: Bearer evil\r\n\r\n",
			hello,
		},
		"spellings": {
			post + "Accept_Language: evil\r\nX_Request_Id: evil\r\nContent-Length: 0\r\n\r\n", "POST /v1/x HTTP/1.1",
		},
		"Connection": {
			"GET /raw/x HTTP/1.1\r\n@Connection: Authorization, Host, Accept-Encoding\r\n\r\n", "Authorization: Bearer ",
		},
		"another host":      {"GET http://evil.test/raw/x HTTP/1.1\r\n@\r\n", "GET /v1/x HTTP/1.1"},
		"user info":         {"GET http://u:p@evil.test/raw/x HTTP/1.1\r\n\r\n", ""},
		"OPTIONS *":         {"OPTIONS * HTTP/1.1\r\n@\r\n", ""},
		"CONNECT":           {"CONNECT api.test:443 HTTP/1.1\r\n@\r\n", ""},
		"CONNECT to a path": {"CONNECT /raw/x HTTP/1.1\r\n@\r\n", ""},
		"in lower case":     {"get /raw/x HTTP/1.1\r\n@\r\n", ""},
		"fragment":          {"GET /raw/x#/../../admin HTTP/1.1\r\n@\r\n", ""},
	} {
		api.reset()
		status := b.raw(t, tt.request)
		got := api.String()
		if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) ||
			strings.Count(got, "Authorization: Bearer ") != strings.Count(got, " /v1/x HTTP/1.1\r\n") ||
			strings.Contains(got, "evil") || strings.Contains(got, "X-Evil") {
			t.Errorf("%s: %q; the API got %q", name, status, got)
		}
	}
}

// A byteAPI is an API that keeps the bytes it gets.
type byteAPI struct {
	mu   sync.Mutex
	text strings.Builder
}

func (a *byteAPI) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.text.Write(p)
}

func (a *byteAPI) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.text.String()
}

func (a *byteAPI) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.text.Reset()
}

func (a *byteAPI) listen(t *testing.T) *url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go a.serve(conn)
		}
	}()
	return &url.URL{Scheme: "http", Host: l.Addr().String()}
}

// serve answers one request.
func (a *byteAPI) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	r, err := http.ReadRequest(bufio.NewReader(io.TeeReader(conn, a)))
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
}
