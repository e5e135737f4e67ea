package oidcauth_test

import (
	"context"
	"hash/crc32"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
)

// A wiredBFF is a [bff] whose front and whose API are behind sockets, for what memory does not show.
type wiredBFF struct {
	*bff
	front  *url.URL
	client *http.Client
}

// newWiredBFF returns one whose API is answered by api. Its client adds nothing to a request, and follows no redirect.
func newWiredBFF(t testing.TB, api http.Handler, o oidcauth.ProxyOptions) *wiredBFF {
	t.Helper()
	transport := &http.Transport{ResponseHeaderTimeout: 300 * time.Millisecond}
	t.Cleanup(transport.CloseIdleConnections)
	o.Target = listen(t, api).String() + "/v1/"
	b := &wiredBFF{bff: newBFF(t, o, func(o *oidcauth.Options) {
		provider := o.HTTPClient.Transport
		o.HTTPClient = &http.Client{Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
			if r.URL.Hostname() == "127.0.0.1" {
				return transport.RoundTrip(r)
			}
			return provider.RoundTrip(r)
		})}
	})}
	b.front = listen(t, b.handler)
	plain := &http.Transport{DisableCompression: true}
	t.Cleanup(plain.CloseIdleConnections)
	b.client = &http.Client{Transport: plain}
	return b
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// listen starts a server that lives as long as the test.
func listen(t testing.TB, h http.Handler) *url.URL {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// send sends the request of a script of the application's over the wire. The caller closes the body.
func (b *wiredBFF) send(
	ctx context.Context, method, path string, content io.Reader, header ...string,
) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, b.front.String()+path, content)
	if err != nil {
		return nil, err
	}
	r.Header = b.request(method, path, "", header...).Header
	r.Host = "app.test"
	return b.client.Do(r)
}

// mustSend is [wiredBFF.send] for requests that get an answer. Its body is closed at the end of the test.
func (b *wiredBFF) mustSend(t testing.TB, method, path string, content io.Reader, header ...string) *http.Response {
	t.Helper()
	resp, err := b.send(t.Context(), method, path, content, header...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// A flow is a stream of so many bytes, none like its neighbours, which reports after every 8 MiB.
type flow struct {
	left   int64
	at     uint32
	report func()
}

func (f *flow) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), f.left))
	for i := range n {
		p[i] = byte((f.at + uint32(i)) * 2654435761 >> 24)
	}
	before := f.left >> 23
	f.left -= int64(n)
	f.at += uint32(n)
	if f.left>>23 != before && f.report != nil {
		f.report()
	}
	return n, nil
}

// sum is what arrives of a flow: the number of bytes and their checksum.
func sum(r io.Reader) (string, error) {
	h := crc32.NewIEEE()
	n, err := io.Copy(h, r)
	return strconv.FormatInt(n, 10) + " " + strconv.FormatUint(uint64(h.Sum32()), 16), err
}

// heap is the memory in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// 64 MiB, or 1 GiB with OIDCAUTH_BIG, in constant memory. Not parallel: it looks at the memory of the process.
func TestProxyStreamsBothWays(t *testing.T) {
	size := int64(64 << 20)
	if os.Getenv("OIDCAUTH_BIG") != "" {
		size = 1 << 30
	}
	want, _ := sum(&flow{left: size})
	var base, most int64
	sample := func() { most = max(most, heap()-base) }
	var arrived string
	b := newWiredBFF(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			arrived, _ = sum(r.Body)
			return
		}
		_, _ = io.Copy(w, &flow{left: size, report: sample})
	}), oidcauth.ProxyOptions{})
	b.mustSend(t, "GET", "/api/small", http.NoBody, "Range", "bytes=0-0").Body.Close()

	for _, way := range []string{"up with its length", "up in chunks", "down"} {
		base, most = heap(), 0
		start := time.Now()
		var got string
		if way == "down" {
			resp := b.mustSend(t, "GET", "/api/down", http.NoBody)
			got, _ = sum(resp.Body)
		} else {
			content := &flow{left: size, report: sample}
			r, err := http.NewRequestWithContext(t.Context(), "PUT", b.front.String()+"/api/up", content)
			if err != nil {
				t.Fatal(err)
			}
			r.Header = b.request("PUT", "/api/up", "").Header
			if r.ContentLength = size; way == "up in chunks" {
				r.ContentLength = -1
			}
			resp, err := b.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			got = arrived
		}
		t.Logf("%d MiB %s: %d KiB more in use, %v", size>>20, way, most>>10, time.Since(start).Round(time.Millisecond))
		if got != want || most > 8<<20 {
			t.Errorf("%s: got %s, want %s, with %d KiB", way, got, want, most>>10)
		}
	}
}

// An event is at the browser when the API has flushed it: it arrives by itself, while the API waits for us.
func TestProxyPassesEventsAtOnce(t *testing.T) {
	t.Parallel()
	for _, contentType := range []string{"text/event-stream", "application/x-ndjson", "text/plain"} {
		next, sent := make(chan string), make(chan time.Time, 1)
		b := newWiredBFF(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(http.StatusOK)
			for event := range next {
				_, _ = io.WriteString(w, event)
				sent <- time.Now()
				_ = http.NewResponseController(w).Flush()
			}
		}), oidcauth.ProxyOptions{})
		go func() { next <- ": hello\n\n" }()
		resp := b.mustSend(t, "GET", "/api/events", http.NoBody, "Accept", "text/event-stream", "Last-Event-Id", "1")
		buf, slowest := make([]byte, 4096), time.Duration(0)
		for i := range 50 {
			event := "data: " + strconv.Itoa(i) + "\n\n"
			if i == 0 {
				event = ": hello\n\n"
			} else {
				next <- event
			}
			n, err := resp.Body.Read(buf) // hangs if anybody waits for more
			slowest = max(slowest, time.Since(<-sent))
			if err != nil || string(buf[:n]) != event {
				t.Fatalf("%s: got %q, %v, want %q", contentType, buf[:n], err, event)
			}
		}
		close(next)
		if n, err := resp.Body.Read(buf); n != 0 || err != io.EOF {
			t.Errorf("%s: at the end: %d, %v", contentType, n, err)
		}
		t.Logf("%s: slowest of 50 events %v", contentType, slowest)
	}
}

// An upload is at the API as it comes: the page goes on when it knows that the API has what it sent.
func TestProxyPassesUploadsAtOnce(t *testing.T) {
	t.Parallel()
	arrived := make(chan string)
	b := newWiredBFF(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 4096)
		for {
			n, err := r.Body.Read(buf)
			if n > 0 {
				arrived <- string(buf[:n])
			}
			if err != nil {
				return
			}
		}
	}), oidcauth.ProxyOptions{})
	up, page := io.Pipe()
	go func() {
		for _, part := range []string{"first", "second", "third"} {
			_, _ = io.WriteString(page, part)
			if got := <-arrived; got != part {
				t.Errorf("the API got %q, want %q", got, part)
			}
		}
		_ = page.Close()
	}()
	if resp := b.mustSend(t, "POST", "/api/x", up); resp.StatusCode != 200 {
		t.Errorf("%d", resp.StatusCode)
	}
}

// S13: 103 Early Hints, trailers and what Trailer announces come past every rule about headers.
func TestProxyHidesEarlyHintsAndTrailers(t *testing.T) {
	t.Parallel()
	var askedTrailer http.Header
	b := newWiredBFF(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		askedTrailer = r.Trailer
		w.Header().Set("Set-Cookie", "early=1")
		w.Header().Set("Link", "</x>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		clear(w.Header())
		w.Header().Set("Trailer", "Clear-Site-Data")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("Clear-Site-Data", `"*"`)
		w.Header().Set(http.TrailerPrefix+"Set-Cookie", "late=1")
	}), oidcauth.ProxyOptions{})
	early := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(int, textproto.MIMEHeader) error { early++; return nil },
	})
	content := io.MultiReader(strings.NewReader("chunked"))
	r, err := http.NewRequestWithContext(ctx, "POST", b.front.String()+"/api/x", content)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = b.request("POST", "/api/x", "").Header
	r.Trailer = http.Header{"X-Forwarded-User": {"admin"}, "Authorization": {"Bearer mine"}}
	resp, err := b.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if early > 0 || len(resp.Trailer) > 0 || resp.Header.Get("Trailer") != "" || string(text) != "body" || err != nil {
		t.Errorf("%d early answers, trailer %v, %q, %v", early, resp.Trailer, text, err)
	}
	if len(askedTrailer) > 0 {
		t.Errorf("the API got the trailers %v", askedTrailer)
	}
}

func TestProxyWhenTheAPIBreaksOff(t *testing.T) {
	t.Parallel()
	abort := make(chan struct{})
	b := newWiredBFF(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the server would not notice that the proxy has given up
		switch r.URL.Path {
		case "/v1/mid-body":
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			<-abort
		case "/v1/slow":
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler)
	}), oidcauth.ProxyOptions{})
	for path, want := range map[string]int{"/api/at-once": 502, "/api/slow": 504} {
		resp := b.mustSend(t, "POST", path, strings.NewReader("content"))
		if resp.StatusCode != want || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %v", path, resp.StatusCode, resp.Header)
		}
	}
	resp := b.mustSend(t, "GET", "/api/mid-body", http.NoBody)
	buf := make([]byte, 100)
	n, err := resp.Body.Read(buf)
	if err != nil || string(buf[:n]) != "half" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	close(abort)
	if n, err := resp.Body.Read(buf); n != 0 || err != io.ErrUnexpectedEOF {
		t.Errorf("half an answer ended with %d, %v: it must not look whole", n, err)
	}
}

// The API learns that nobody listens any more, also in the middle of an answer.
func TestProxyStopsTheAPIWhenTheClientLeaves(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	b := newWiredBFF(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "x")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	}), oidcauth.ProxyOptions{})
	ctx, leave := context.WithCancel(t.Context())
	resp, err := b.send(ctx, "GET", "/api/x", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	leave()
	_ = resp.Body.Close()
	select {
	case <-gone:
	case <-t.Context().Done():
	}
	if logs := b.logs.String(); strings.Contains(logs, "level=ERROR") {
		t.Error(logs)
	}
}
