package oidcauthtest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// roundTripper answers requests in memory, with the handler that hosts returns for a URL's host (port included, if it
// has one). A nil handler is a host that cannot be reached. The handler runs in the caller's goroutine, so that
// nothing is left behind; its context is cancelled when the caller gives up, and when it returns, as in a server. A
// slow handler therefore has to watch its context for the caller's deadline to be kept.
func roundTripper(tb testing.TB, hosts func(host string) http.Handler) http.RoundTripper {
	return roundTripFunc(func(req *http.Request) (*http.Response, error) {
		return exchange(tb, hosts(req.URL.Host), req)
	})
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// exchange lets h answer req as a server would, and fails the test for what a server would only log: a panic, and
// cookies that were changed too late to be sent.
func exchange(tb testing.TB, h http.Handler, req *http.Request) (*http.Response, error) {
	tb.Helper()
	if req.Body != nil {
		defer req.Body.Close()
	}
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	if h == nil {
		return nil, fmt.Errorf("oidcauthtest: nothing answers at %s", req.URL.Host)
	}
	// The values of the caller's context do not cross a network, its cancellation does.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := context.AfterFunc(req.Context(), cancel)
	defer stop()
	r, err := received(ctx, req)
	if err != nil {
		return nil, err
	}

	rec := &recorder{header: http.Header{}, head: req.Method == http.MethodHead}
	aborted := rec.serve(tb, h, r)
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	if aborted {
		return nil, fmt.Errorf("oidcauthtest: %s closed the connection: %w", req.URL.Host, io.ErrUnexpectedEOF)
	}
	return rec.response(req, r.TLS), nil
}

// received is req as it arrives at the server.
func received(ctx context.Context, req *http.Request) (*http.Request, error) {
	r := req.Clone(ctx)
	r.RequestURI = req.URL.RequestURI()
	target, err := url.ParseRequestURI(r.RequestURI)
	if err != nil {
		return nil, fmt.Errorf("oidcauthtest: request target: %w", err)
	}
	r.URL, r.Host = target, cmp.Or(req.Host, req.URL.Host)
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	r.RemoteAddr = "192.0.2.1:1234" // RFC 5737
	r.GetBody = nil
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	if req.URL.Scheme == "https" {
		r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: req.URL.Hostname()}
	}
	return r, nil
}

// A recorder is the http.ResponseWriter of one exchange.
type recorder struct {
	header http.Header // the handler's
	sent   http.Header // a copy from when the header was written; nil before
	status int
	body   bytes.Buffer
	head   bool // the answer to a HEAD request has no body
}

var (
	_ http.Flusher    = (*recorder)(nil)
	_ io.StringWriter = (*recorder)(nil)
)

func (rec *recorder) Header() http.Header { return rec.header }

func (rec *recorder) WriteHeader(status int) {
	switch {
	case status < 100 || status > 999:
		panic("invalid status " + strconv.Itoa(status)) // net/http does so too
	case rec.sent != nil:
	case status < 200 && status != http.StatusSwitchingProtocols: // informational, the real one follows
	default:
		rec.status, rec.sent = status, rec.header.Clone()
	}
}

func (rec *recorder) Write(b []byte) (int, error) {
	rec.WriteHeader(http.StatusOK)
	if rec.status == http.StatusNoContent || rec.status == http.StatusNotModified {
		return 0, http.ErrBodyNotAllowed
	}
	if _, ok := rec.sent["Content-Type"]; !ok && len(b) > 0 {
		rec.sent.Set("Content-Type", http.DetectContentType(b))
	}
	switch {
	case rec.head:
		return len(b), nil
	default:
		return rec.body.Write(b)
	}
}

func (rec *recorder) WriteString(s string) (int, error) { return rec.Write([]byte(s)) }

func (rec *recorder) Flush() { rec.WriteHeader(http.StatusOK) }

// serve runs the handler. aborted says that it closed the connection on purpose, with http.ErrAbortHandler.
func (rec *recorder) serve(tb testing.TB, h http.Handler, r *http.Request) (aborted bool) {
	tb.Helper()
	defer func() {
		tb.Helper()
		cause := recover()
		if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			aborted = true
			return
		}
		if cause != nil {
			tb.Errorf("%s %s%s: the handler panicked: %v\n%s", r.Method, r.Host, r.URL.Path, cause, debug.Stack())
			rec.status, rec.sent = http.StatusInternalServerError, http.Header{}
			rec.body.Reset()
		}
	}()
	h.ServeHTTP(rec, r)
	rec.WriteHeader(http.StatusOK)
	if late := rec.header["Set-Cookie"]; !slices.Equal(late, rec.sent["Set-Cookie"]) {
		tb.Errorf("%s %s%s: the handler changed its cookies after the header was sent: the client gets %s, not %s",
			r.Method, r.Host, r.URL.Path, cookieNames(rec.sent["Set-Cookie"]), cookieNames(late))
	}
	return false
}

// cookieNames lists the names alone: the values may be secret.
func cookieNames(lines []string) string {
	names := make([]string, len(lines))
	for i, line := range lines {
		names[i], _, _ = strings.Cut(line, "=")
	}
	return "[" + strings.Join(names, " ") + "]"
}

// response is what the client gets.
func (rec *recorder) response(req *http.Request, state *tls.ConnectionState) *http.Response {
	oneLine := strings.NewReplacer("\r", " ", "\n", " ") // as net/http does
	for _, values := range rec.sent {
		for i, v := range values {
			values[i] = strings.TrimSpace(oneLine.Replace(v))
		}
	}
	return &http.Response{
		Status:     fmt.Sprintf("%03d %s", rec.status, http.StatusText(rec.status)),
		StatusCode: rec.status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        rec.sent,
		Body:          io.NopCloser(&rec.body),
		ContentLength: int64(rec.body.Len()),
		Request:       req,
		TLS:           state,
	}
}
