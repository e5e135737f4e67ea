package relay_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth/internal/relay"
)

// serve starts a server that lives as long as the test.
func serve(t *testing.T, h http.Handler) *url.URL {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	return parse(t, server.URL)
}

// proxyTo is the plainest ReverseProxy there is.
func proxyTo(target *url.URL, transport http.RoundTripper) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0),
	}
}

func transport(t *testing.T) *http.Transport {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// received is what a client sees of an answer.
type received struct {
	early, final, trailer http.Header
	body                  string
}

func get(t *testing.T, from *url.URL) (got received) {
	t.Helper()
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
			got.early = http.Header(h).Clone()
			return nil
		},
	})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := transport(t).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	got.final, got.trailer, got.body = res.Header, res.Trailer, string(body)
	return got
}

// THR-51, S13: neither 103 Early Hints nor trailers pass ModifyResponse. The second half shows that ReverseProxy does
// let them through by itself, the first that Final does not.
func TestFinalHidesEarlyHintsAndTrailers(t *testing.T) {
	t.Parallel()
	upstream := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Set-Cookie", "early=1")
		w.Header().Set("Link", "</x>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		clear(w.Header())
		w.Header().Set("Trailer", "Clear-Site-Data")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("Clear-Site-Data", `"*"`)
		w.Header().Set(http.TrailerPrefix+"Set-Cookie", "late=1")
	}))

	got := get(t, serve(t, proxyTo(upstream, relay.Final{Next: transport(t)})))
	if got.early != nil || len(got.trailer) > 0 || got.final.Get("Trailer") != "" || got.body != "body" {
		t.Errorf("%+v", got)
	}

	got = get(t, serve(t, proxyTo(upstream, transport(t))))
	if got.early.Get("Set-Cookie") == "" || got.trailer.Get("Set-Cookie") == "" ||
		got.trailer.Get("Clear-Site-Data") == "" {
		t.Errorf("without Final: %+v: is it still needed?", got)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type ctxKey struct{}

// Everything else of the context stays, and so do other hooks of a trace.
func TestFinalLeavesTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), ctxKey{}, "value"))
	wrote := 0
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(int, textproto.MIMEHeader) error { t.Error("an informational response"); return nil },
		WroteRequest:   func(httptrace.WroteRequestInfo) { wrote++ },
	})
	final := relay.Final{Next: roundTripper(func(r *http.Request) (*http.Response, error) {
		trace := httptrace.ContextClientTrace(r.Context())
		if trace.Got1xxResponse != nil {
			_ = trace.Got1xxResponse(http.StatusEarlyHints, nil)
		}
		trace.WroteRequest(httptrace.WroteRequestInfo{})
		if r.Context().Value(ctxKey{}) != "value" || r.Context().Err() != nil {
			t.Error("the context is another one")
		}
		cancel()
		return nil, r.Context().Err()
	})}
	r, err := http.NewRequestWithContext(traced, http.MethodGet, "https://api.example.com/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := final.RoundTrip(r); res != nil || !errors.Is(err, context.Canceled) || wrote != 1 {
		t.Errorf("%v, %v, %d", res, err, wrote)
	}
	if r.Context() != traced {
		t.Error("the caller's request was changed")
	}
}

func TestFinalWithoutATrace(t *testing.T) {
	t.Parallel()
	made := &http.Response{StatusCode: http.StatusOK, Trailer: http.Header{"X": nil}}
	final := relay.Final{Next: roundTripper(func(*http.Request) (*http.Response, error) { return made, nil })}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.example.com/", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := final.RoundTrip(r)
	if err != nil || res == made || res.Trailer != nil || res.StatusCode != http.StatusOK {
		t.Errorf("%v, %v", res, err)
	}
}

// dial connects for long enough for a test, not for ever.
func dial(t *testing.T, to *url.URL) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", to.Host, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// switchTo asks from for h2c and returns the answer, and whatever comes after a 101.
func switchTo(t *testing.T, from *url.URL) (status int, raw string) {
	t.Helper()
	conn := dial(t, from)
	request := "GET /api/ HTTP/1.1\r\nHost: app.example.com\r\nConnection: Upgrade, HTTP2-Settings\r\n" +
		"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	buffered := bufio.NewReader(conn)
	res, err := http.ReadResponse(buffered, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode == http.StatusSwitchingProtocols {
		if _, err := io.WriteString(conn, "GET /admin\r\n"); err != nil {
			t.Fatal(err)
		}
		raw, _ = buffered.ReadString('\n')
	}
	return res.StatusCode, raw
}

// S13 [P2], golang/go#80416: after "Upgrade: h2c" a client's raw bytes reach the upstream through ReverseProxy, unless
// WebSocket is asked first.
func TestUpgradeToAnotherProtocol(t *testing.T) {
	t.Parallel()
	upstream := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
		line, _ := buffered.ReadString('\n')
		_, _ = io.WriteString(conn, "upstream got "+line)
	}))

	proxy := proxyTo(upstream, transport(t))
	if status, raw := switchTo(t, serve(t, proxy)); status != 101 || !strings.Contains(raw, "upstream got GET /admin") {
		t.Errorf("without the rule: %d, %q: is it still needed?", status, raw)
	}

	guarded := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked, valid := relay.WebSocket(r); asked && !valid {
			http.Error(w, "no such protocol", http.StatusBadRequest)
			return
		}
		proxy.ServeHTTP(w, r)
	})
	if status, _ := switchTo(t, serve(t, guarded)); status != http.StatusBadRequest {
		t.Errorf("refused: %d", status)
	}

	rewritten := proxyTo(upstream, relay.Final{Next: transport(t)})
	rewritten.Rewrite = func(r *httputil.ProxyRequest) {
		r.SetURL(upstream)
		r.Out.Header = relay.Forward(r.Out.Header, nil)
	}
	if status, _ := switchTo(t, serve(t, rewritten)); status != http.StatusNoContent {
		t.Errorf("left out: %d", status)
	}
}

// The pieces together: a WebSocket passes, and nothing else of what both sides try.
func TestWebSocketThroughReverseProxy(t *testing.T) {
	t.Parallel()
	upstream := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Cookie", "Authorization", "X_forwarded_user"} {
			if r.Header[name] != nil {
				t.Errorf("%s came through", name)
			}
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n"+
			"Sec-WebSocket-Accept: x\r\nSet-Cookie: a=b\r\n\r\n")
		line, _ := buffered.ReadString('\n')
		_, _ = io.WriteString(conn, "echo "+line)
	}))
	front := serve(t, &httputil.ReverseProxy{
		Transport: relay.Final{Next: transport(t)},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(upstream)
			r.Out.Header = relay.Forward(r.Out.Header, nil)
			if _, valid := relay.WebSocket(r.In); valid {
				relay.Handshake(r.Out.Header, r.In.Header)
			}
		},
		ModifyResponse: func(res *http.Response) error { relay.Clean(res.Header, res.StatusCode); return nil },
	})
	conn := dial(t, front)
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: app.example.com\r\n"+
		"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+
		"Cookie: a=b\r\nAuthorization: Basic YQ==\r\nX_Forwarded_User: admin\r\n\r\n")
	buffered := bufio.NewReader(conn)
	res, err := http.ReadResponse(buffered, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Accept") != "x" || res.Header.Get("Set-Cookie") != "" {
		t.Errorf("%d, %v", res.StatusCode, res.Header)
	}
	_, _ = io.WriteString(conn, "hello\n")
	if line, err := buffered.ReadString('\n'); err != nil || line != "echo hello\n" {
		t.Errorf("%q, %v", line, err)
	}
}

// tripper is a round trip as a function.
type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestTheUpstreamHasToBeginInTime(t *testing.T) {
	t.Parallel()
	after := func(d time.Duration) tripper {
		return func(r *http.Request) (*http.Response, error) {
			if r.Body != nil {
				_, _ = io.Copy(io.Discard, r.Body)
			}
			select {
			case <-time.After(d):
				return &http.Response{StatusCode: http.StatusOK}, nil
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		}
	}
	for name, tt := range map[string]struct {
		wait, takes, upload time.Duration
		want                error
	}{
		"in time":                      {time.Minute, 59 * time.Second, 0, nil},
		"too late":                     {time.Minute, 61 * time.Second, 0, relay.ErrTimeout},
		"no limit":                     {0, time.Hour, 0, nil},
		"after a long upload":          {time.Minute, 59 * time.Second, 10 * time.Minute, nil},
		"too late after a long upload": {time.Minute, 61 * time.Second, 10 * time.Minute, relay.ErrTimeout},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil).WithContext(t.Context())
			if tt.upload > 0 {
				r.Body = io.NopCloser(&trickle{left: tt.upload})
			}
			if _, err := (relay.Final{Next: after(tt.takes), Wait: tt.wait}).RoundTrip(r); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", name, err, tt.want)
			}
		})
	}
}

// What has begun may take as long as it likes, while the body is still on its way too.
func TestAResponseThatHasBegunGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sent *http.Request
		next := tripper(func(r *http.Request) (*http.Response, error) {
			sent = r
			return &http.Response{StatusCode: http.StatusOK}, nil
		})
		r := httptest.NewRequest(http.MethodPost, "/", nil).WithContext(t.Context())
		r.Body = io.NopCloser(&trickle{left: time.Hour})
		if _, err := (relay.Final{Next: next, Wait: time.Minute}).RoundTrip(r); err != nil {
			t.Fatal(err)
		}
		_, _ = sent.Body.Read(make([]byte, 1))
		time.Sleep(time.Hour)
		if err := sent.Context().Err(); err != nil {
			t.Errorf("it was cut off: %v", err)
		}
	})
}

// trickle is a body that sends a byte every half minute.
type trickle struct{ left time.Duration }

func (b *trickle) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.EOF
	}
	time.Sleep(30 * time.Second)
	b.left -= 30 * time.Second
	return copy(p[:1], "x"), nil
}
