package oidcauth_test

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
)

// dial sends lines to the front and returns the answer, and the connection.
func (b *wiredBFF) dial(t *testing.T, lines ...string) (*http.Response, net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", b.front.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	request := "GET /api/live?a=1 HTTP/1.1\r\nHost: app.test\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	buffered := bufio.NewReader(conn)
	resp, err := http.ReadResponse(buffered, nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp, conn, buffered
}

// echoSockets answers WebSocket handshakes, and then each line with the same line. Other requests get 204.
type echoSockets struct{ upstream }

func (e *echoSockets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.upstream.ServeHTTP(w, r)
	if r.Header.Get("Upgrade") == "" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	key := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 4.2.2
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+
		r.Header.Get("Upgrade")+"\r\nSec-WebSocket-Accept: "+base64.StdEncoding.EncodeToString(key[:])+
		"\r\nSec-WebSocket-Protocol: chat\r\nSet-Cookie: evil=1\r\nX-Total: 1\r\n\r\n")
	for {
		line, err := buffered.ReadString('\n')
		if _, failed := io.WriteString(conn, line); err != nil || failed != nil {
			return
		}
	}
}

// handshake are the lines of one, beside its Origin.
func (b *wiredBFF) handshake(more ...string) []string {
	return append([]string{
		"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: chat", "Cookie: " + b.cookie,
	}, more...)
}

// THR-58, S30, S13: only pages of ours, told by their Origin, with Fetch metadata too.
func TestProxyWebSocketOrigins(t *testing.T) {
	t.Parallel()
	api := &echoSockets{}
	b := newWiredBFF(t, api, oidcauth.ProxyOptions{WebSocket: true})
	const ours, same, socket = "Origin: https://app.test", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: websocket"
	for name, tt := range map[string]struct {
		lines []string
		want  int
	}{
		"ours":                {[]string{ours}, 101},
		"ours, in a browser":  {[]string{ours, same, socket, "Sec-Fetch-Dest: websocket"}, 101},
		"ours, in Chromium":   {[]string{ours, same, socket, "Sec-Fetch-Dest: empty"}, 101},
		"absent":              {nil, 403},
		"absent, by script":   {[]string{"X-Requested-With: x"}, 403},
		"absent, same-origin": {[]string{same, socket}, 403},
		"null":                {[]string{"Origin: null"}, 403},
		"sibling":             {[]string{"Origin: https://blog.app.test"}, 403},
		"sibling, same-site":  {[]string{ours, "Sec-Fetch-Site: same-site", socket}, 403},
		"http":                {[]string{"Origin: http://app.test"}, 403},
		"another port":        {[]string{"Origin: https://app.test:8443"}, 403},
		"the port itself":     {[]string{"Origin: https://app.test:443"}, 403},
		"wss":                 {[]string{"Origin: wss://app.test"}, 403},
		"longer":              {[]string{"Origin: https://app.test.evil.test"}, 403},
		"two":                 {[]string{ours, "Origin: https://evil.test"}, 403},
		"a list":              {[]string{"Origin: https://app.test https://evil.test"}, 403},
		"a navigation":        {[]string{ours, same, "Sec-Fetch-Mode: navigate"}, 403},
	} {
		before := len(api.requests())
		resp, _, _ := b.dial(t, b.handshake(tt.lines...)...)
		if passed := len(api.requests()) > before; resp.StatusCode != tt.want || passed != (tt.want == 101) {
			t.Errorf("%s: %d, reached the API: %t", name, resp.StatusCode, passed)
		}
	}
}

func TestProxyWebSocket(t *testing.T) {
	t.Parallel()
	api := &echoSockets{}
	b := newWiredBFF(t, api, oidcauth.ProxyOptions{WebSocket: true})
	below := b.front
	for name, front := range map[string]*url.URL{
		"below Wrap": below, "alone": listen(t, b.proxy), "guarded": listen(t, b.RequireAuthAPI(b.proxy)),
	} {
		b.front = front
		more := []string{"Origin: https://app.test", "Authorization: Bearer mine", "X_Forwarded_User: x"}
		resp, conn, buffered := b.dial(t, b.handshake(more...)...)
		h := resp.Header
		if resp.StatusCode != 101 || h.Get("Sec-Websocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" ||
			h.Get("Set-Cookie") != "" || h.Get("Sec-Websocket-Protocol") != "chat" ||
			!strings.EqualFold(h.Get("Upgrade"), "websocket") {
			t.Fatalf("%s: %d %v", name, resp.StatusCode, h)
		}
		got := api.last(t)
		if !strings.HasPrefix(got.Header.Get("Authorization"), "Bearer at-") || got.Header["Cookie"] != nil ||
			got.Header["X_forwarded_user"] != nil || got.Header["Origin"] != nil || got.RequestURI != "/v1/live?a=1" {
			t.Errorf("%s: the API got %s %v", name, got.RequestURI, got.Header)
		}
		for _, line := range []string{"hello\n", strings.Repeat("x", 100_000) + "\n"} {
			if _, err := io.WriteString(conn, line); err != nil {
				t.Fatal(err)
			}
			if echo, err := buffered.ReadString('\n'); err != nil || echo != line {
				t.Errorf("%s: %d bytes came back, %v", name, len(echo), err)
			}
		}
	}
	b.front = below
	resp, _, _ := b.dial(t, append(b.handshake()[:5], "Origin: https://app.test")...)
	if resp.StatusCode != 401 {
		t.Errorf("without a session: %d", resp.StatusCode)
	}
}

// S13 (3): no other protocol is ever switched to, and the API sees nobody ask. [P2], golang/go#80416.
func TestProxySwitchesToNothingElse(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{false, true} {
		api := &echoSockets{}
		b := newWiredBFF(t, api, oidcauth.ProxyOptions{WebSocket: on})
		script := []string{"Cookie: " + b.cookie, "Origin: https://app.test"}
		key, version := "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"
		for _, lines := range [][]string{
			{"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"},
			{"Connection: Upgrade", "Upgrade: h2c"},
			{"Connection: upgrade", "Upgrade: H2C"},
			{"Connection: Upgrade", "Upgrade: TLS/1.0"},
			{"Connection: Upgrade", "Upgrade: h2c, websocket", key, version},
			{"Connection: Upgrade", "Upgrade: websocket, h2c", key, version},
			{"Connection: Upgrade", "Upgrade: websocket", "Upgrade: h2c", key, version},
			{"Connection: Upgrade", "Upgrade: h2c", "Upgrade: websocket", key, version},
			{"Connection: Upgrade", "Upgrade: websocket/13", key, version},
			{"Connection: Upgrade", "Upgrade: webtransport"},
			{"Connection: Upgrade", "Upgrade: connect-udp"},
			{"Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk"},
			{"Connection: Upgrade, HTTP2-Settings", "Upgrade: websocket", "HTTP2-Settings: AAMAAABk", key, version},
			{"Connection: Upgrade", "Upgrade: websocket", version},
			{"Connection: Upgrade", "Upgrade: websocket", key},
			{"Connection: Upgrade", "Upgrade: websocket", key, "Sec-WebSocket-Version: 8"},
			{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: short", version},
			{"Connection: close", "Upgrade: websocket", key, version},
			{"Upgrade: websocket", key, version},
			{"Connection: Upgrade"},
		} {
			before := len(api.requests())
			resp, _, _ := b.dial(t, append(lines, script...)...)
			if resp.StatusCode == 101 {
				t.Errorf("WebSocket %t, %q: 101", on, lines)
			}
			if len(api.requests()) > before {
				for _, name := range []string{"Upgrade", "Http2-Settings", "Connection", "Sec-Websocket-Key"} {
					if got := api.last(t).Header[name]; got != nil {
						t.Errorf("WebSocket %t, %q: the API got %s: %q", on, lines, name, got)
					}
				}
			}
		}
	}
	api := &echoSockets{}
	b := newWiredBFF(t, api, oidcauth.ProxyOptions{}) // off by default
	resp, _, _ := b.dial(t, b.handshake("Origin: https://app.test")...)
	if resp.StatusCode != 400 || len(api.requests()) > 0 {
		t.Errorf("a WebSocket by default: %d", resp.StatusCode)
	}
}

// Nor does the API switch by itself, or to something else than it was asked for. Not parallel: a garbage collection
// would close the connection, too.
func TestProxyRefusesUnaskedSwitches(t *testing.T) {
	closed := make(chan error, 8)
	b := newWiredBFF(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nraw")
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		_, err = buffered.ReadByte() // until the other side has hung up
		closed <- err
		_ = conn.Close()
	}), oidcauth.ProxyOptions{WebSocket: true})
	script := []string{"Cookie: " + b.cookie, "Origin: https://app.test"}
	for name, lines := range map[string][]string{"nothing": script, "WebSocket": b.handshake("Origin: https://app.test")} {
		resp, _, _ := b.dial(t, lines...)
		text, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 502 || bytes.Contains(text, []byte("raw")) {
			t.Errorf("asked for %s: %d %q", name, resp.StatusCode, text)
		}
		if err := <-closed; !errors.Is(err, io.EOF) {
			t.Errorf("asked for %s: the connection to the API stays open: %v", name, err)
		}
	}
}
