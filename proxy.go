package oidcauth

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/oidcauth/oidcauth/internal/bearer"
	"github.com/oidcauth/oidcauth/internal/caching"
	"github.com/oidcauth/oidcauth/internal/check"
	"github.com/oidcauth/oidcauth/internal/fetch"
	"github.com/oidcauth/oidcauth/internal/relay"
)

// ProxyOptions say which API a [Client.Proxy] brings to the application's own pages. Prefix and Target are required.
type ProxyOptions struct {
	// Prefix is the path below BaseURL's that the proxy answers, such as "/api/". Target is the URL that stands for it,
	// such as "https://api.example.com/v1/": a request for /api/users goes to /v1/users.
	Prefix, Target string
	// Audience and Scopes are of the access token, as in [TokenOptions]. A request may ask by its header "scope" for
	// scopes among AllowedScopes instead of Scopes.
	Audience              string
	Scopes, AllowedScopes []string
	// Methods are passed on. Default: GET, HEAD, POST, PUT, PATCH and DELETE. CONNECT and TRACE never are.
	Methods []string
	// ForwardHeaders are passed on beside those that describe the request itself. Credentials, cookies, and what says
	// who or where the client is, cannot be named.
	ForwardHeaders []string
	// Optional passes requests without a session on without a token, and without any that they carry themselves.
	Optional bool
	// WebSocket passes on WebSocket handshakes of the application's own pages.
	WebSocket bool
	// Destinations are values of Sec-Fetch-Dest that may ask, beside scripts: "image", "audio", "video", "track" or
	// "font". Pages, frames and code are never among them.
	Destinations []string
}

// Proxy returns a handler that passes requests of the application's own pages to an API and adds the session's access
// token, so that no script ever sees one. It is mounted at its prefix, below [Client.Wrap]:
//
//	mux.Handle("/api/", proxy)
//
// Whatever the method, only requests from BaseURL's origin are answered: by Fetch metadata, or for clients without it by an
// Origin of ours or the header X-Requested-With (403). Bodies are streamed both ways and the query is passed byte for byte.
// Paths that servers read differently, such as those with encoded slashes, are refused (400). The API sees no cookie and no
// address of the client; its cookies, CORS headers, and what else would act on the application's origin, do not reach
// the browser, where its answers cannot run as pages. Redirects are passed on if they stay below Prefix.
//
// Without a session the answer is 401, and it is 502 or 504 where the API cannot be reached or takes longer than a minute
// to begin its answer. A 401 of the API with invalid_token is tried once more as by [Client.HTTPClient], if the body was
// no more than 1 MiB. The error is a joined [*ConfigError].
func (c *Client) Proxy(o ProxyOptions) (http.Handler, error) {
	p := &proxy{client: c, options: o, prefix: o.Prefix, outside: c.basePath + o.Prefix}
	if !c.opts.PrefixStripped {
		p.prefix = p.outside
	}
	p.log = log.New(brokenOff{c}, "", 0)
	p.options.Scopes, p.options.AllowedScopes = slices.Clone(o.Scopes), slices.Clone(o.AllowedScopes)
	p.options.ForwardHeaders, p.options.Destinations = slices.Clone(o.ForwardHeaders), slices.Clone(o.Destinations)
	p.options.Methods = slices.Clone(o.Methods)
	if len(o.Methods) == 0 {
		p.options.Methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
	}
	if err := p.validate(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *proxy) validate() error {
	var m mistakes
	o := &p.options
	m.check("ProxyOptions.Prefix", check.ProxyPrefix(o.Prefix))
	target, err := url.Parse(o.Target)
	if m.check("ProxyOptions.Target", check.URL(o.Target, p.client.opts.InsecureAllowHTTP)); err == nil {
		p.target = target
		if target.RawQuery != "" || target.ForceQuery {
			m.add("ProxyOptions.Target", "has a query, which is the request's to say")
		}
	}
	m.check("ProxyOptions.Scopes", check.Scopes(o.Scopes))
	m.check("ProxyOptions.AllowedScopes", check.Scopes(o.AllowedScopes))
	for _, method := range o.Methods {
		m.check("ProxyOptions.Methods", check.ProxyMethod(method))
	}
	for _, name := range o.ForwardHeaders {
		m.check("ProxyOptions.ForwardHeaders", relay.CheckForward(name))
	}
	for _, route := range p.client.opts.Routes.named() {
		if strings.HasPrefix(route.path+"/", o.Prefix) {
			m.add("ProxyOptions.Prefix", "%q is in front of Routes.%s; use another", o.Prefix, route.name)
		}
	}
	for _, dest := range o.Destinations {
		m.check("ProxyOptions.Destinations", fetch.CheckDestination(dest))
	}
	return errors.Join(m...)
}

// A proxy is the handler of one API.
type proxy struct {
	client  *Client
	options ProxyOptions
	prefix  string // of requests
	outside string // the same as browsers see it
	target  *url.URL
	log     *log.Logger
}

// ServeHTTP implements [http.Handler].
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v, w, r, first := p.client.enter(w, r)
	v.guard(w.Header())
	if err := p.pass(w, r, v); err != nil {
		p.client.fail(w, r, "proxy", err)
	}
	if first {
		v.writeHeader(http.StatusOK)
	}
}

// pass lets the API answer r, or returns why not.
func (p *proxy) pass(w http.ResponseWriter, r *http.Request, v *visit) error {
	target, socket, err := p.admit(w, r)
	if err != nil {
		return err
	}
	transport, err := p.authorize(r, v)
	if err != nil {
		return err
	}
	until, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	if s, err := v.load(); err == nil {
		p.client.watch(until, s, cancel) // a stream ends with its session (BCL-21)
	}
	var (
		failed error
		body             = &relay.Body{}
		answer io.Closer = http.NoBody
	)
	(&httputil.ReverseProxy{
		Transport: relay.Final{Next: transport, Wait: time.Minute},
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL, pr.Out.Host, pr.Out.Trailer = target, "", nil
			pr.Out.Header = relay.Forward(pr.Out.Header, p.options.ForwardHeaders)
			if socket {
				relay.Handshake(pr.Out.Header, pr.In.Header)
			}
			if pr.Out.Body != nil {
				body = relay.NewBody(pr.Out.Body, maxReplay)
				pr.Out.Body, pr.Out.GetBody = body, body.Again
			}
		},
		ModifyResponse: func(resp *http.Response) error {
			answer = resp.Body
			p.clean(w.Header(), resp, target)
			return nil
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { failed = upstreamError(err) },
		ErrorLog:     p.log,
	}).ServeHTTP(w, r.WithContext(until))
	if failed == nil {
		return nil
	}
	if ended := context.Cause(until); ended != nil && r.Context().Err() == nil {
		failed = ended
	}
	_ = answer.Close() // which ReverseProxy leaves open where it cannot switch protocols
	if body.Err() != nil && r.Context().Err() == nil {
		return refuse("invalid_request", errors.New("the request body broke off"))
	}
	return failed
}

// maxReplay is how much of a body is kept for a second try.
const maxReplay = 1 << 20

// admit returns where r goes, and whether it is a WebSocket handshake. Nothing goes upstream for another site (S13).
func (p *proxy) admit(w http.ResponseWriter, r *http.Request) (target *url.URL, socket bool, err error) {
	rest, err := relay.Path(r.URL, p.prefix)
	switch {
	case errors.Is(err, relay.ErrOutside):
		return nil, false, refuse("not_found", nil)
	case err != nil:
		return nil, false, refuse("invalid_request", err)
	case !slices.Contains(p.options.Methods, r.Method):
		w.Header().Set("Allow", strings.Join(p.options.Methods, ", "))
		return nil, false, refuse("method_not_allowed", nil)
	}
	if _, socket = relay.WebSocket(r); fetch.IsWebSocket(r) && !(socket && p.options.WebSocket) {
		return nil, false, refuse("invalid_request", errors.New("no WebSocket here, or a handshake that is none"))
	}
	if !fetch.IsSameOrigin(r, p.client.origin, fetch.Allowed{
		Origin: true, WebSocket: socket, Destinations: p.options.Destinations,
	}) {
		return nil, false, refuse("cross_origin_request", nil)
	}
	if target, err = relay.Target(p.target, rest); err != nil {
		return nil, false, refuse("invalid_request", err)
	}
	target.RawQuery, target.ForceQuery = r.URL.RawQuery, r.URL.ForceQuery
	return target, socket, nil
}

// authorize returns the transport to the API, which adds the token.
func (p *proxy) authorize(r *http.Request, v *visit) (http.RoundTripper, error) {
	o := TokenOptions{Audience: p.options.Audience, Scopes: p.options.Scopes}
	if asked := strings.Fields(strings.Join(r.Header["Scope"], " ")); len(asked) > 0 {
		for _, scope := range asked {
			if !slices.Contains(p.options.AllowedScopes, scope) {
				return nil, refuse("invalid_scope", nil)
			}
		}
		o.Scopes = asked
	}
	h := &holder{request: r, visit: v}
	_, err := h.first(&o, p.client.opts.TokenRefreshBuffer)
	if p.options.Optional && errors.Is(err, ErrNoSession) {
		return p.client.transport, nil
	}
	return &bearer.Transport{Base: p.client.transport, Token: h.bearer}, err
}

// clean makes the API's answer one of ours, whose other headers are h.
func (p *proxy) clean(h http.Header, resp *http.Response, target *url.URL) {
	relay.Clean(resp.Header, resp.StatusCode)
	for _, name := range []string{"Location", "Content-Location"} {
		values := resp.Header.Values(name)
		resp.Header.Del(name)
		if len(values) == 1 { // of several, browsers take one and caches another
			if local, ok := relay.Location(values[0], target, p.target, p.outside); ok {
				resp.Header.Set(name, local)
			}
		}
	}
	caching.Restrict(resp.Header) // the API may allow the browser's own cache, but for requests of the same kind only
	resp.Header.Add("Vary", "Sec-Fetch-Site, Sec-Fetch-Mode, Sec-Fetch-Dest, Scope")
	if resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Header.Del("Cache-Control") // the guard sets it when the connection is taken over
	}
	for name := range resp.Header {
		if name != "Vary" {
			h.Del(name) // what stands there from us or a middleware would be added to
		}
	}
}

// upstreamError is the answer when the API gave none.
func upstreamError(err error) error {
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	for _, ours := range []error{ErrNoSession, ErrLoginRequired, ErrUnavailable, context.Canceled} {
		if errors.Is(err, ours) {
			return err
		}
	}
	network, ok := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, relay.ErrTimeout) || ok && network.Timeout():
		return refuse("upstream_timeout", relay.ErrTimeout)
	case ok:
		return refuse("upstream_unavailable", err) // the network's own words
	}
	// net/http quotes what it could not read, and an API may send back the token there.
	return refuse("upstream_unavailable", errors.New("the connection broke, or the answer cannot be read"))
}

// A brokenOff is where ReverseProxy writes what net/http quotes of an answer: that it broke off is all that is logged.
type brokenOff struct{ *Client }

func (b brokenOff) Write(text []byte) (int, error) {
	b.opts.Logger.Warn("oidcauth: a proxied answer broke off")
	return len(text), nil
}
