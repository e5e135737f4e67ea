// Package lateheader tells when a response header is about to be written, which is as late as it can still be changed.
package lateheader

import (
	"bufio"
	"io"
	"net"
	"net/http"

	"github.com/felixge/httpsnoop"
)

// Wrap returns w with the same optional interfaces (Flush, Hijack, ReadFrom and the rest survive), which calls before
// each time that a header may be about to go out, with the status it will have: also for informational responses, and
// again for later writes, so that before has to know whether it is done. A handler that writes nothing causes no call.
//
// Where w has Flush or Hijack only by its Unwrap method the result has them itself, and of the others only what
// [http.ResponseController] finds.
func Wrap(w http.ResponseWriter, before func(status int)) http.ResponseWriter {
	return httpsnoop.Wrap(raise(w), httpsnoop.Hooks{
		WriteHeader: func(next httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
			return func(status int) { before(status); next(status) }
		},
		Write: func(next httpsnoop.WriteFunc) httpsnoop.WriteFunc {
			return func(b []byte) (int, error) { before(http.StatusOK); return next(b) }
		},
		WriteString: func(next httpsnoop.WriteStringFunc) httpsnoop.WriteStringFunc {
			return func(s string) (int, error) { before(http.StatusOK); return next(s) }
		},
		ReadFrom: func(next httpsnoop.ReadFromFunc) httpsnoop.ReadFromFunc {
			return func(src io.Reader) (int64, error) { before(http.StatusOK); return next(src) }
		},
		Flush: func(next httpsnoop.FlushFunc) httpsnoop.FlushFunc {
			return func() { before(http.StatusOK); next() }
		},
		FlushError: func(next httpsnoop.FlushErrorFunc) httpsnoop.FlushErrorFunc {
			return func() error { before(http.StatusOK); return next() }
		},
		Hijack: func(next httpsnoop.HijackFunc) httpsnoop.HijackFunc {
			return func() (net.Conn, *bufio.ReadWriter, error) { before(http.StatusSwitchingProtocols); return next() }
		},
	})
}

// raise returns w, or one that has itself what http.ResponseController would look for below w, past our hooks (lesson
// 22).
func raise(w http.ResponseWriter) http.ResponseWriter {
	for below := unwrap(w); below != nil; below = unwrap(below) {
		if flushes(below) && !flushes(w) || hijacks(below) && !hijacks(w) {
			return raised{w}
		}
	}
	return w
}

// unwrap returns the writer that w wraps, or nil.
func unwrap(w http.ResponseWriter) http.ResponseWriter {
	if layer, ok := w.(interface{ Unwrap() http.ResponseWriter }); ok {
		return layer.Unwrap()
	}
	return nil
}

func flushes(w http.ResponseWriter) bool {
	if _, ok := w.(http.Flusher); ok {
		return true
	}
	_, ok := w.(interface{ FlushError() error })
	return ok
}

func hijacks(w http.ResponseWriter) bool {
	_, ok := w.(http.Hijacker)
	return ok
}

// raised has what can be reached from its writer by Unwrap methods.
type raised struct{ http.ResponseWriter }

func (r raised) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r raised) Flush() { _ = r.FlushError() }

func (r raised) FlushError() error { return http.NewResponseController(r.ResponseWriter).Flush() }

func (r raised) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(r.ResponseWriter).Hijack()
}
