// Package relay holds the rules of the token-attaching reverse proxy: which paths, headers and upgrades go upstream,
// and which headers, redirects and statuses come back. The browser in front and the upstream behind are both taken for
// hostile: the one must reach nothing but the target with the user's token, the other must do nothing to the
// origin that its answers come from (S13).
//
// Its functions keep no state, change nothing but what their names say, and may be called from several goroutines.
package relay

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"
)

// Final passes on the final response of a round trip alone: no informational ones and no trailers. Both would reach
// the browser through [net/http/httputil.ReverseProxy] past its ModifyResponse, a Set-Cookie included.
type Final struct {
	// Next makes the round trip and is required.
	Next http.RoundTripper
	// Wait is how long Next may take to begin the response, from when it last read from the request's body. 0 is for
	// ever.
	Wait time.Duration
}

// ErrTimeout says that the upstream did not begin its response in time.
var ErrTimeout = errors.New("the response did not begin in time")

// RoundTrip implements [http.RoundTripper] and is as safe for concurrent use as Next.
func (f Final) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := f.inTime(r.WithContext(withoutInformational(r.Context())))
	if err != nil {
		return nil, err
	}
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols && !isSwitch(r.Header, res.Header):
		_ = res.Body.Close() // ReverseProxy would leave it open
		return nil, errors.New("the upstream switches to a protocol that it was not asked for")
	case res.StatusCode < 100 || res.StatusCode > 999: // http.ResponseWriter panics at it
		_ = res.Body.Close()
		return nil, errors.New("the upstream answers with a status that is none")
	}
	// The transport fills in the trailers at the end of the body, in the response that it made, not in the copy.
	final := *res
	final.Trailer = nil
	return &final, nil
}

// isSwitch reports whether a response switches to the protocol that its request asked for.
func isSwitch(asked, got http.Header) bool {
	return asked.Get("Upgrade") != "" && strings.EqualFold(asked.Get("Upgrade"), got.Get("Upgrade"))
}

// inTime makes the round trip, or gives it up after Wait.
func (f Final) inTime(r *http.Request) (*http.Response, error) {
	if f.Wait <= 0 {
		return f.Next.RoundTrip(r)
	}
	ctx, giveUp := context.WithCancelCause(r.Context()) // which ends with the request: the response's body needs it
	var answered atomic.Bool
	timer := time.AfterFunc(f.Wait, func() {
		if !answered.Load() { // the body may still be read from, and set the timer again
			giveUp(ErrTimeout)
		}
	})
	defer timer.Stop()
	r = r.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = progress{r.Body, func() { timer.Reset(f.Wait) }}
	}
	res, err := f.Next.RoundTrip(r)
	answered.Store(true)
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, ErrTimeout) {
		err = cause
	}
	return res, err
}

// progress is a body that tells when it was read from.
type progress struct {
	io.ReadCloser
	made func()
}

func (p progress) Read(b []byte) (int, error) {
	defer p.made()
	return p.ReadCloser.Read(b)
}

// withoutInformational returns ctx without the hook for informational responses (1xx) in its httptrace.ClientTrace.
// ReverseProxy has one there, added after Rewrite, so that only a RoundTripper can take it away again.
func withoutInformational(ctx context.Context) context.Context {
	trace := httptrace.ContextClientTrace(ctx)
	if trace == nil || trace.Got1xxResponse == nil {
		return ctx
	}
	rest := *trace
	rest.Got1xxResponse = nil
	return httptrace.WithClientTrace(untraced{ctx}, &rest) // which would otherwise compose both
}

// untraced hides the trace of its context, by type, because the key is unexported.
type untraced struct{ context.Context }

func (u untraced) Value(key any) any {
	v := u.Context.Value(key)
	if _, isTrace := v.(*httptrace.ClientTrace); isTrace {
		return nil
	}
	return v
}

// normal returns the form in which header names are compared. CGI and its heirs make the same variable of
// X_Forwarded_User and X-Forwarded-User (THR-55).
func normal(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), "_", "-")
}

// isToken reports whether name may be a header's (RFC 9110 5.6.2).
func isToken(name string) bool {
	for i := range len(name) {
		c := name[i]
		isAlnum := '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
		if !isAlnum && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return name != ""
}

// hasPrefix reports whether s begins with one of prefixes.
func hasPrefix(s string, prefixes ...string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}
