package lateheader_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth/internal/lateheader"
)

// bare is a writer that notes which header it sent, and can nothing else.
type bare struct {
	header http.Header
	sent   http.Header // nil: none yet
	status int
	body   strings.Builder
	calls  []string // of optional methods
}

func (b *bare) Header() http.Header { return b.header }

func (b *bare) WriteHeader(status int) {
	if b.sent == nil && (status >= 200 || status == http.StatusSwitchingProtocols) {
		b.status, b.sent = status, b.header.Clone()
	}
}

func (b *bare) Write(p []byte) (int, error) {
	b.WriteHeader(http.StatusOK)
	return b.body.Write(p)
}

// Each of the following adds one optional interface to a writer.
type (
	flusher  struct{ *bare }
	flushErr struct{ *bare }
	hijacker struct{ *bare }
	// full is what net/http has for HTTP/1.1.
	full struct{ *bare }
	// layer is a middleware's writer as there are many: it overrides a method or two and has Unwrap for the rest.
	layer struct{ http.ResponseWriter }
	// flushLayer and hijackLayer forward one thing more.
	flushLayer  struct{ layer }
	hijackLayer struct{ layer }
	// richLayer has all that it needs itself, by the older of the two ways to flush.
	richLayer struct{ hijackLayer }
)

var errFlush = errors.New("connection reset")

func (b *bare) flush() { b.WriteHeader(http.StatusOK); b.calls = append(b.calls, "flush") }

func (b *bare) hijack() (net.Conn, *bufio.ReadWriter, error) {
	b.calls = append(b.calls, "hijack")
	b.sent = b.header.Clone() // what a handler could still have read
	return nil, nil, nil
}

func (f flusher) Flush()                                        { f.flush() }
func (f flushErr) FlushError() error                            { f.flush(); return errFlush }
func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.hijack() }
func (f full) Flush()                                           { f.flush() }
func (f full) FlushError() error                                { f.flush(); return nil }
func (f full) Hijack() (net.Conn, *bufio.ReadWriter, error)     { return f.hijack() }
func (f full) WriteString(s string) (int, error) {
	f.calls = append(f.calls, "string")
	return f.Write([]byte(s))
}

func (f full) SetWriteDeadline(time.Time) error { f.calls = append(f.calls, "deadline"); return nil }

func (f full) SetReadDeadline(time.Time) error { f.calls = append(f.calls, "deadline"); return nil }
func (f full) EnableFullDuplex() error         { f.calls = append(f.calls, "duplex"); return nil }

func (f full) ReadFrom(src io.Reader) (int64, error) {
	f.calls = append(f.calls, "read")
	f.WriteHeader(http.StatusOK)
	return io.Copy(&f.body, src)
}

func (l layer) Unwrap() http.ResponseWriter { return l.ResponseWriter }
func (l flushLayer) Flush()                 { _ = http.NewResponseController(l.ResponseWriter).Flush() }

func (l richLayer) Flush()                                { _ = http.NewResponseController(l.ResponseWriter).Flush() }
func (l richLayer) ReadFrom(src io.Reader) (int64, error) { return io.Copy(l.ResponseWriter, src) }

func (l hijackLayer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(l.ResponseWriter).Hijack()
}

// HYG-02, lesson 22: however the header goes out, it is changed before, and the status is known.
func TestHeaderIsChangedBeforeItGoesOut(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		writer func(*bare) http.ResponseWriter
		handle func(*testing.T, http.ResponseWriter)
		want   []int // the statuses that were told
	}{
		"WriteHeader": {plain, func(_ *testing.T, w http.ResponseWriter) { w.WriteHeader(http.StatusTeapot) }, []int{418}},
		"WriteHeader, then Write": {
			plain, func(_ *testing.T, w http.ResponseWriter) {
				w.WriteHeader(http.StatusNotFound)
				_, _ = w.Write([]byte("x"))
			}, []int{404, 200},
		},
		"Write":            {plain, func(_ *testing.T, w http.ResponseWriter) { _, _ = w.Write([]byte("x")) }, []int{200}},
		"Write of nothing": {plain, func(_ *testing.T, w http.ResponseWriter) { _, _ = w.Write(nil) }, []int{200}},
		"http.Redirect": {plain, func(_ *testing.T, w http.ResponseWriter) {
			http.Redirect(w, httptest.NewRequest("POST", "/", nil), "/x", http.StatusSeeOther)
		}, []int{303}},
		"io.WriteString": {
			writerOf[full], func(_ *testing.T, w http.ResponseWriter) { _, _ = io.WriteString(w, "x") }, []int{200},
		},
		"io.WriteString, no such method": {
			plain, func(_ *testing.T, w http.ResponseWriter) { _, _ = io.WriteString(w, "x") }, []int{200},
		},
		"ReadFrom": {writerOf[full], func(_ *testing.T, w http.ResponseWriter) {
			_, _ = io.Copy(w, io.LimitReader(strings.NewReader("x"), 1))
		}, []int{200}},
		"Flush": {
			writerOf[full], func(_ *testing.T, w http.ResponseWriter) { w.(http.Flusher).Flush() }, []int{200},
		},
		"Flush, no FlushError": {
			writerOf[flusher], func(_ *testing.T, w http.ResponseWriter) { w.(http.Flusher).Flush() }, []int{200},
		},
		"controller's Flush":                   {writerOf[full], flush(nil), []int{200}},
		"controller's Flush, no FlushError":    {writerOf[flusher], flush(nil), []int{200}},
		"controller's Flush, FlushError alone": {writerOf[flushErr], flush(errFlush), []int{200}},
		"controller's Flush below a layer":     {layered, flush(nil), []int{200}},
		"controller's Flush below two layers":  {twiceLayered, flush(nil), []int{200}},
		"controller's Flush below a layer that hijacks": {
			func(b *bare) http.ResponseWriter { return hijackLayer{layer{full{b}}} }, flush(nil), []int{200},
		},
		"Hijack": {
			writerOf[full], func(_ *testing.T, w http.ResponseWriter) { _, _, _ = w.(http.Hijacker).Hijack() }, []int{101},
		},
		"controller's Hijack":                  {writerOf[full], hijack, []int{101}},
		"controller's Hijack, nothing else":    {writerOf[hijacker], hijack, []int{101}},
		"controller's Hijack below a layer":    {layered, hijack, []int{101}},
		"controller's Hijack below two layers": {twiceLayered, hijack, []int{101}},
		"controller's Hijack below a layer that flushes": {
			func(b *bare) http.ResponseWriter { return flushLayer{layer{full{b}}} }, hijack, []int{101},
		},
		"Flush of a layer above one that hijacks": {
			func(b *bare) http.ResponseWriter { return flushLayer{layer{full{b}}} },
			func(_ *testing.T, w http.ResponseWriter) { w.(http.Flusher).Flush() },
			[]int{200},
		},
		"switching protocols": {
			plain, func(_ *testing.T, w http.ResponseWriter) { w.WriteHeader(http.StatusSwitchingProtocols) }, []int{101},
		},
		"not modified": {
			plain, func(_ *testing.T, w http.ResponseWriter) { w.WriteHeader(http.StatusNotModified) }, []int{304},
		},
		"informational responses come before": {
			plain,
			func(_ *testing.T, w http.ResponseWriter) {
				w.WriteHeader(http.StatusProcessing)
				w.WriteHeader(http.StatusEarlyHints)
				w.WriteHeader(http.StatusOK)
			},
			[]int{102, 103, 200},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &bare{header: http.Header{}}
			var told []int
			w := lateheader.Wrap(tt.writer(b), func(status int) {
				told = append(told, status)
				if b.sent == nil && (status >= 200 || status == http.StatusSwitchingProtocols) {
					b.header.Set("Set-Cookie", "late=1")
				}
			})
			tt.handle(t, w)
			if !slices.Equal(told, tt.want) {
				t.Errorf("told of %v, want %v", told, tt.want)
			}
			if b.sent.Get("Set-Cookie") != "late=1" {
				t.Errorf("sent %v, without what came late", b.sent)
			}
		})
	}
}

func plain(b *bare) http.ResponseWriter        { return b }
func layered(b *bare) http.ResponseWriter      { return layer{full{b}} }
func twiceLayered(b *bare) http.ResponseWriter { return layer{layer{full{b}}} }

// writerOf makes a writer with one of the sets of optional interfaces.
func writerOf[T ~struct{ *bare }](b *bare) http.ResponseWriter {
	return any(T{b}).(http.ResponseWriter)
}

func flush(want error) func(*testing.T, http.ResponseWriter) {
	return func(t *testing.T, w http.ResponseWriter) {
		t.Helper()
		if err := http.NewResponseController(w).Flush(); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
}

func hijack(t *testing.T, w http.ResponseWriter) {
	t.Helper()
	if _, _, err := http.NewResponseController(w).Hijack(); err != nil {
		t.Error(err)
	}
}

// What writes no header causes no call: it would end the time in which a session can be saved.
func TestNothingIsToldWhereNothingGoesOut(t *testing.T) {
	t.Parallel()
	for name, handle := range map[string]func(http.ResponseWriter){
		"nothing done":  func(http.ResponseWriter) {},
		"header set":    func(w http.ResponseWriter) { w.Header().Set("X-A", "b") },
		"deadlines set": func(w http.ResponseWriter) { _ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) },
		"full duplex":   func(w http.ResponseWriter) { _ = http.NewResponseController(w).EnableFullDuplex() },
	} {
		whole := full{&bare{header: http.Header{}}}
		for _, inner := range []http.ResponseWriter{whole, layer{whole}} {
			handle(lateheader.Wrap(inner, func(status int) { t.Errorf("%s: told of %d", name, status) }))
		}
	}
}

// Lesson 22: wrappers that hide Flush break event streams, and ones that hide Hijack break WebSockets.
func TestOptionalInterfacesSurvive(t *testing.T) {
	t.Parallel()
	b := &bare{header: http.Header{}}
	for name, inner := range map[string]http.ResponseWriter{
		"nothing": b, "flusher": flusher{b}, "FlushError": flushErr{b}, "hijacker": hijacker{b}, "HTTP/1.1": full{b},
		"recorder":             httptest.NewRecorder(),
		"a layer over nothing": layer{b}, "a layer over a flusher's layer": layer{flushLayer{layer{b}}},
		"a layer that has it all": richLayer{hijackLayer{layer{full{b}}}},
	} {
		w := lateheader.Wrap(inner, func(int) {})
		for method, has := range map[string]func(any) bool{
			"Flush": is[http.Flusher], "FlushError": is[interface{ FlushError() error }], "Hijack": is[http.Hijacker],
			"ReadFrom": is[io.ReaderFrom], "WriteString": is[io.StringWriter],
			"SetWriteDeadline": is[interface{ SetWriteDeadline(time.Time) error }],
			"Push":             is[http.Pusher],
		} {
			if has(inner) && !has(w) {
				t.Errorf("%s: %s is gone", name, method)
			}
			if !has(inner) && has(w) && !strings.HasPrefix(name, "a layer over") {
				t.Errorf("%s: %s came from nowhere", name, method)
			}
		}
	}
}

func is[T any](v any) bool {
	_, ok := v.(T)
	return ok
}

// What a layer hides from type assertions stays within reach of http.ResponseController.
func TestControllerReachesThroughLayers(t *testing.T) {
	t.Parallel()
	for name, writer := range map[string]func(*bare) http.ResponseWriter{
		"none": writerOf[full], "one": layered, "two": twiceLayered,
		"one that flushes": func(b *bare) http.ResponseWriter { return flushLayer{layer{full{b}}} },
	} {
		b := &bare{header: http.Header{}}
		rc := http.NewResponseController(lateheader.Wrap(writer(b), func(int) {}))
		never := time.Time{}
		err := errors.Join(rc.SetReadDeadline(never), rc.SetWriteDeadline(never), rc.EnableFullDuplex(), rc.Flush())
		if _, _, hijackErr := rc.Hijack(); err != nil || hijackErr != nil {
			t.Errorf("%s: %v, %v", name, err, hijackErr)
		}
		if want := []string{"deadline", "deadline", "duplex", "flush", "hijack"}; !slices.Equal(b.calls, want) {
			t.Errorf("%s: %v, want %v", name, b.calls, want)
		}
	}
}

func TestWhatIsUnsupportedIsReportedAsBefore(t *testing.T) {
	t.Parallel()
	b := &bare{header: http.Header{}}
	for name, inner := range map[string]http.ResponseWriter{
		"nothing": b, "a layer over nothing": layer{b}, "a layer over no writer": layer{nil},
	} {
		told := 0
		rc := http.NewResponseController(lateheader.Wrap(inner, func(int) { told++ }))
		if err := rc.Flush(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("%s: Flush: %v", name, err)
		}
		if _, _, err := rc.Hijack(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("%s: Hijack: %v", name, err)
		}
		if told > 0 {
			t.Errorf("%s: told of a header that nothing sends", name)
		}
	}
}

// What was written arrives, by the method that was called.
func TestBodyIsPassedOn(t *testing.T) {
	t.Parallel()
	b := &bare{header: http.Header{}}
	w := lateheader.Wrap(full{b}, func(int) {})
	w.WriteHeader(http.StatusAccepted)
	_, _ = w.Write([]byte("a"))
	_, _ = io.WriteString(w, "b")
	n, err := w.(io.ReaderFrom).ReadFrom(strings.NewReader("cd"))
	if n != 2 || err != nil || b.status != http.StatusAccepted || b.body.String() != "abcd" {
		t.Errorf("got %d, %v, status %d and %q", n, err, b.status, b.body.String())
	}
	if want := []string{"string", "read"}; !slices.Equal(b.calls, want) {
		t.Errorf("by %v, want %v", b.calls, want)
	}
}
