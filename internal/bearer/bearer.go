// Package bearer adds access tokens to the requests of an http.Client (RFC 6750 2.1), for the origins that they are
// meant for and no others.
package bearer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
)

const (
	maxDrained   = 4 << 10 // of a refused response whose length is known: more costs more than a new connection
	maxRedirects = 100     // that are traced back
)

// A Transport is an [http.RoundTripper] that adds a bearer token. It adds none where a redirect has left the origin of
// the first request, not even after its return (Go's CVE-2025-4673), and leaves a caller's own Authorization alone
// there. Everywhere else the token takes that header's place.
//
// A 401 response with the error invalid_token (RFC 6750 3.1) is answered with another token, once, if the request's
// body can be had again.
//
// Token is required. A Transport is safe for concurrent use if Base and Token are, and must not be changed in use.
type Transport struct {
	// Base sends the requests. Nil is http.DefaultTransport.
	Base http.RoundTripper
	// Token returns an access token, and with refused not empty another than that, which the server did not take. Its
	// errors are those of RoundTrip, wrapped, unless it was asked for another: then the 401 response is passed on.
	Token func(ctx context.Context, refused string) (string, error)
	// Origins are where the token goes, as [ParseOrigin] writes them. With none every request gets it: that is for a
	// caller that fixes the target itself.
	Origins []string
}

// RoundTrip sends a copy of req with a token, or req itself where the token does not belong.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if !t.meant(req) {
		return t.send(req, req)
	}
	token, err := t.token(req.Context(), "")
	if err != nil {
		closeBody(req.Body)
		return nil, fmt.Errorf("access token: %w", err)
	}
	resp, err := t.send(req, authorized(req, token))
	if err != nil || resp == nil || !isRefusal(resp) {
		return resp, err
	}
	again, ok := t.another(req, token)
	if !ok {
		return resp, nil
	}
	if 0 <= resp.ContentLength && resp.ContentLength <= maxDrained { // what may never end is not waited for
		_, _ = io.CopyN(io.Discard, resp.Body, resp.ContentLength+1) // so that the connection can serve again
	}
	_ = resp.Body.Close()
	return t.send(req, again)
}

// CloseIdleConnections closes those of Base, if it can.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// Format prints the origins alone, whatever the verb: Base and what Token has captured may hold secrets.
func (t Transport) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "bearer.Transport{Origins: %q}", t.Origins)
}

func (t *Transport) base() http.RoundTripper {
	if t.Base == nil {
		return http.DefaultTransport
	}
	return t.Base
}

// token is Token, which may be missing or return nothing.
func (t *Transport) token(ctx context.Context, refused string) (string, error) {
	if t.Token == nil {
		return "", errors.New("there is no source of tokens; set Transport.Token")
	}
	token, err := t.Token(ctx, refused)
	if err == nil && token == "" {
		err = errors.New("the source of tokens returned an empty one")
	}
	return token, err
}

// meant reports whether req is to carry the token: it goes to one of the origins, and no redirect on its way there came
// from another.
func (t *Transport) meant(req *http.Request) bool {
	origin := Origin(req.URL)
	if origin == "" || len(t.Origins) > 0 && !slices.Contains(t.Origins, origin) {
		return false
	}
	for range maxRedirects {
		if req.Response == nil {
			return true // nobody redirected to this one
		}
		req = req.Response.Request
		if req == nil || Origin(req.URL) != origin {
			return false
		}
	}
	return false
}

// send lets Base answer out. The response names req, which has no token of ours, and by which redirects are traced.
func (t *Transport) send(req, out *http.Request) (*http.Response, error) {
	resp, err := t.base().RoundTrip(out)
	if resp != nil {
		resp.Request = req
	}
	return resp, err
}

// another is req with a token other than the refused one, if there is such a token and the body can be had again.
func (t *Transport) another(req *http.Request, refused string) (*http.Request, bool) {
	body, ok := replay(req)
	if !ok {
		return nil, false // and no token is asked for: the source of this one may be slow, and limited
	}
	token, err := t.token(req.Context(), refused)
	if err != nil || token == refused {
		closeBody(body)
		return nil, false
	}
	out := authorized(req, token)
	out.Body = body
	return out, true
}

// authorized is a copy of req with a token.
func authorized(req *http.Request, token string) *http.Request {
	out := req.Clone(req.Context()) // a RoundTripper must not change what it is given
	if out.Header == nil {
		out.Header = http.Header{}
	}
	out.Header.Set("Authorization", "Bearer "+token)
	return out
}

// replay returns req's body once more.
func replay(req *http.Request) (body io.ReadCloser, ok bool) {
	if req.Body == nil || req.Body == http.NoBody {
		return req.Body, true
	}
	if req.GetBody == nil {
		return nil, false
	}
	body, err := req.GetBody()
	return body, err == nil
}

// closeBody closes a request's body, which may be nil: a RoundTripper has to, also when it fails.
func closeBody(body io.Closer) {
	if body != nil {
		_ = body.Close()
	}
}
