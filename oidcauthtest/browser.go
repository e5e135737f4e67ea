package oidcauthtest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

const maxRedirects = 20 // as in the Fetch standard, which counts no pages that go on by themselves

const formType = "application/x-www-form-urlencoded"

// A Browser is a user's browser without sockets: it keeps cookies by the rules of RFC 6265bis (prefixes, Secure,
// Domain, Path, SameSite, expiry by time.Now, size), sends Fetch metadata and Origin, and follows redirects. It has no
// scripts, no frames and no cache, and enforces neither CORS nor a Content-Security-Policy: a test sees answers that a
// page could not read.
//
// In a tab or a frame it also goes on where a page does so without the user: by a Refresh of less than a second, in the
// header or in a meta element, and by the script of pages that post a provider's answer (OAuth 2.0 Form Post Response
// Mode): document.forms[0].submit(), as onload of the body or as all there is in a script element.
//
// What the browser is told to do that no browser would, such as a visit to a host that nobody serves, fails the test,
// and so does a handler that panics or changes its cookies after its header was written.
//
// Targets are URLs, or paths at the application's host, which include the base path if there is one.
//
// A Browser is safe for concurrent use, as if by several tabs. Make one with [Provider.NewBrowser].
type Browser struct {
	tb       testing.TB
	provider *Provider
	base     *url.URL // the application
	sites    *sites
	jar      *jar

	from *url.URL // the page whose links, forms and scripts make the requests; nil: see outgoing
	stay bool     // do not follow redirects
}

// A Response is what the browser received. Its body is read.
type Response struct {
	StatusCode int // 0 if there was no answer, which has failed the test
	Header     http.Header
	Body       string
	URL        *url.URL      // where the browser is now
	Request    *http.Request // as it was sent, cookies included
	History    []*Response   // the redirects, and the pages which went on by themselves, that led here, oldest first

	asked *outgoing // what it answers; nil: nothing was sent
}

// Location returns the target of a redirect as a browser understands it, or "" if there is none.
func (r *Response) Location() string {
	if u, err := resolve(r.URL, r.Header.Get("Location")); err == nil && r.Header.Get("Location") != "" {
		return u.String()
	}
	return ""
}

// Cookies returns what the response's Set-Cookie fields say, also where the browser did not keep it.
func (r *Response) Cookies() []*http.Cookie { return (&http.Response{Header: r.Header}).Cookies() }

// NewBrowser returns a browser with an empty jar for which app is the application at the BaseURL of
// [Provider.Options], and p the provider at its issuer's host. [Browser.Host] adds further sites.
func (p *Provider) NewBrowser(app http.Handler) *Browser {
	p.tb.Helper()
	base, err := url.Parse(p.Options().BaseURL)
	if err != nil {
		p.tb.Fatalf("base URL: %v", err)
	}
	b := &Browser{tb: p.tb, provider: p, base: base, sites: &sites{}, jar: &jar{}}
	b.Host(p.Issuer(), p.Handler())
	b.Host(p.Options().BaseURL, app)
	return b
}

// Host lets h answer at the origin of a URL such as "https://evil.test". It replaces what answered there before.
func (b *Browser) Host(origin string, h http.Handler) {
	b.tb.Helper()
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		b.tb.Fatalf("host %q: not an absolute URL", origin)
	}
	b.sites.set(originOf(u), h)
}

// Clone returns a browser with a copy of the cookies: a second device with stolen ones, or the state to come back to.
func (b *Browser) Clone() *Browser {
	c := *b
	c.jar = b.jar.clone()
	return &c
}

// From returns the same browser, its cookies included, on a page of another site: requests come from a link, form or
// script there, as Fetch metadata, Origin and SameSite show. A script sends cookies along, as with credentials:
// "include". A click on a link to the application's login is b.From("https://evil.test").Get("/auth/login").
func (b *Browser) From(origin string) *Browser {
	b.tb.Helper()
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		b.tb.Fatalf("from %q: not an absolute URL", origin)
	}
	c := *b
	c.from = u
	return &c
}

// NoRedirects returns the same browser, its cookies included, except that it stops at a redirect, or a page that would
// go on by itself, and returns that.
func (b *Browser) NoRedirects() *Browser {
	c := *b
	c.stay = true
	return &c
}

// Get goes to a URL, or to a path of the application, as if it was typed in; after [Browser.From] by a link there.
func (b *Browser) Get(target string) *Response {
	b.tb.Helper()
	r := b.request(http.MethodGet, target, nil)
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	return b.Do(r)
}

// Post submits a form of the target's own site, or after [Browser.From] of a page there.
func (b *Browser) Post(target string, form url.Values) *Response {
	b.tb.Helper()
	r := b.request(http.MethodPost, target, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", formType)
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	return b.Do(r)
}

// Fetch makes a script of the target's own site, or after [Browser.From] of a page there, get a URL.
func (b *Browser) Fetch(target string) *Response {
	b.tb.Helper()
	return b.Do(b.request(http.MethodGet, target, nil))
}

// Do makes a script send r, which has a URL or a path of the application, as [Browser.Fetch] does. With the header
// "Sec-Fetch-Mode: navigate" it is a navigation: of a tab, or with "Sec-Fetch-Dest: iframe" of a frame. Headers that r
// has are sent as they are; the others that browsers send are added, cookies too.
func (b *Browser) Do(r *http.Request) *Response {
	b.tb.Helper()
	next, err := b.outgoing(r)
	if err != nil {
		b.tb.Errorf("%s: %v", r.Method, err)
		return &Response{URL: r.URL, Header: http.Header{}, Request: r}
	}
	return b.browse(r.Context(), next)
}

// browse sends o and what that leads to.
func (b *Browser) browse(ctx context.Context, o *outgoing) *Response {
	b.tb.Helper()
	first := o
	var history []*Response
	for {
		resp := b.send(ctx, o)
		resp.History = slices.Clone(history)
		history = append(history, resp)
		if b.stay {
			return resp
		}
		next, leads, err := o.follow(resp)
		switch {
		case err != nil:
			b.tb.Errorf("%s leads nowhere: %v", place(resp.URL.String()), err)
			return resp
		case !leads:
			return resp
		case len(history) > maxRedirects:
			b.tb.Errorf("%s %s: over %d redirects, now to %s",
				first.method, first.url.Path, maxRedirects, place(next.url.String()))
			return resp
		}
		o = next
	}
}

// Request returns the request that [Browser.Get] would send, as it arrives at the server: for tests that call a handler
// themselves. Its context is the test's.
func (b *Browser) Request(method, target string) *http.Request {
	b.tb.Helper()
	r := b.request(method, target, nil)
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	next, err := b.outgoing(r)
	if err != nil {
		b.tb.Fatalf("%s %s: %v", method, target, err)
	}
	out, err := received(r.Context(), b.prepare(r.Context(), next))
	if err != nil {
		b.tb.Fatalf("%s %s: %v", method, target, err)
	}
	return out
}

// SignIn signs the user in by a link of the application to its login route, or after [Browser.From] by one there, and
// returns the page on which that ends. It stops the test if the browser does not come back signed in.
func (b *Browser) SignIn(user User) *Response {
	b.tb.Helper()
	b.provider.SetUser(user)
	link := b
	if b.from == nil {
		link = b.From(b.base.String())
	}
	resp := link.Get(b.route(b.provider.Options().Routes.Login, "/auth/login"))
	steps := append(slices.Clone(resp.History), resp)
	for i, step := range steps[1:] {
		if !sameOrigin(step.URL, b.base) || sameOrigin(steps[i].URL, b.base) {
			continue // not back from the provider
		}
		if step != resp && slices.ContainsFunc(step.Cookies(), b.has) {
			return resp
		}
		b.tb.Fatalf("sign in: the callback answered %d and left no session: %s", step.StatusCode, excerpt(step.Body))
	}
	b.tb.Fatalf("sign in: the browser did not come back from the provider, it is at %s with status %d: %s",
		place(resp.URL.String()), resp.StatusCode, excerpt(resp.Body))
	return resp
}

// SignOut signs the user out by the form of a page of the application, which posts to the logout route, and returns the
// page on which that ends. It stops the test if no cookie goes.
func (b *Browser) SignOut() *Response {
	b.tb.Helper()
	before := b.Clone()
	resp := b.Post(b.route(b.provider.Options().Routes.Logout, "/auth/logout"), nil)
	first := append(slices.Clone(resp.History), resp)[0]
	removes := func(c *http.Cookie) bool { return c.MaxAge < 0 && before.has(c) }
	if !slices.ContainsFunc(first.Cookies(), removes) {
		b.tb.Fatalf("sign out: no cookie was removed, the logout answered %d: %s", first.StatusCode, excerpt(first.Body))
	}
	return resp
}

// route is the path of a route of the application.
func (b *Browser) route(path, byDefault string) string {
	return strings.TrimSuffix(b.base.Path, "/") + cmp.Or(path, byDefault)
}

// has reports whether the application has a cookie of c's name.
func (b *Browser) has(c *http.Cookie) bool {
	return slices.ContainsFunc(b.jar.get(b.base, ownTrip), func(kept cookie) bool { return kept.name == c.Name })
}

// Cookies returns the cookies for a URL, or for a path of the application, with their attributes, in the order in
// which they would be sent by a page of the same site.
func (b *Browser) Cookies(target string) []*http.Cookie {
	b.tb.Helper()
	var found []*http.Cookie
	for _, c := range b.jar.get(b.resolve(target), ownTrip) {
		found = append(found, c.export())
	}
	return found
}

// SetCookie stores a cookie as if the page at a URL, or at a path of the application, had set it; one that is expired
// removes its like. The error says why a browser drops it.
func (b *Browser) SetCookie(target string, c *http.Cookie) error {
	b.tb.Helper()
	if err := b.jar.set(b.resolve(target), c, ownTrip); err != nil {
		return fmt.Errorf("cookie %s: %w", c.Name, err)
	}
	return nil
}

// Restart closes the browser and opens it again: cookies without an expiry are gone.
func (b *Browser) Restart() { b.jar.restart() }

// request makes a request for a URL or a path of the application.
func (b *Browser) request(method, target string, body io.Reader) *http.Request {
	b.tb.Helper()
	r, err := http.NewRequestWithContext(b.tb.Context(), method, b.resolve(target).String(), body)
	if err != nil {
		b.tb.Fatalf("%s: %v", method, err)
	}
	return r
}

func (b *Browser) resolve(target string) *url.URL {
	b.tb.Helper()
	u, err := resolve(b.base, target)
	if err != nil {
		b.tb.Fatalf("%v", err)
	}
	return u
}

// outgoing reads r, which may lack the application's host.
func (b *Browser) outgoing(r *http.Request) (*outgoing, error) {
	target, err := resolve(b.base, r.URL.String())
	if err != nil {
		return nil, err
	}
	o := &outgoing{method: cmp.Or(r.Method, http.MethodGet), url: target, header: r.Header.Clone()}
	if o.header == nil {
		o.header = http.Header{}
	}
	if r.Body != nil {
		defer r.Body.Close()
		if o.body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	o.initiator = b.from
	if o.initiator == nil && !(o.navigates() && isSafe(o.method)) {
		o.initiator = target // forms and scripts are on some page: without From on the target's own
	}
	if o.framed() {
		o.around = o.initiator
	}
	return o, nil
}

// prepare makes the request with everything that a browser adds.
func (b *Browser) prepare(ctx context.Context, o *outgoing) *http.Request {
	r := (&http.Request{
		Method: o.method, URL: o.url, Host: o.url.Host, Header: o.header.Clone(), Body: http.NoBody,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if len(o.body) > 0 {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(o.body)), int64(len(o.body))
	}
	add := func(name, value string) {
		if _, set := r.Header[name]; !set && value != "" {
			r.Header.Set(name, value)
		}
	}
	add("User-Agent", "oidcauthtest")
	add("Origin", o.origin())
	if o.navigates() {
		add("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	}
	add("Accept", "*/*")
	if secureOrigin(o.url) {
		add("Sec-Fetch-Site", o.fetchSite())
		add("Sec-Fetch-Mode", o.mode())
		if o.navigates() {
			add("Sec-Fetch-Dest", "document")
			if !o.alone {
				add("Sec-Fetch-User", "?1")
			}
		}
		add("Sec-Fetch-Dest", "empty")
	} else { // others get no Fetch metadata
		r.Header.Del("Sec-Fetch-Mode")
		r.Header.Del("Sec-Fetch-Dest")
	}
	var pairs []string
	if own := r.Header.Get("Cookie"); own != "" {
		pairs = append(pairs, own)
	}
	for _, c := range b.jar.get(o.url, o.trip()) {
		pairs = append(pairs, c.name+"="+c.value)
	}
	if len(pairs) > 0 {
		r.Header.Set("Cookie", strings.Join(pairs, "; "))
	}
	return r
}

// send makes one request and keeps the cookies of its answer.
func (b *Browser) send(ctx context.Context, o *outgoing) *Response {
	b.tb.Helper()
	r := b.prepare(ctx, o)
	out := &Response{Header: http.Header{}, URL: o.url, Request: r, asked: o}
	h := b.sites.get(originOf(o.url))
	if h == nil {
		b.tb.Errorf("nothing answers at %s: add it with Browser.Host", originOf(o.url))
		return out
	}
	resp, err := exchange(b.tb, h, r)
	if err != nil {
		b.tb.Errorf("%s %s: %v", r.Method, place(o.url.String()), err)
		return out
	}
	body, _ := io.ReadAll(resp.Body) // from memory
	out.StatusCode, out.Header, out.Body = resp.StatusCode, resp.Header, string(body)
	for _, c := range resp.Cookies() {
		if err := b.jar.set(o.url, c, o.trip()); err != nil {
			b.tb.Logf("%s: the browser drops the cookie %s: %v", place(o.url.String()), c.Name, err)
		}
	}
	return out
}

// sites are the handlers by origin.
type sites struct {
	mu       sync.Mutex
	handlers map[string]http.Handler
}

func (s *sites) set(origin string, h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handlers == nil {
		s.handlers = map[string]http.Handler{}
	}
	s.handlers[origin] = h
}

func (s *sites) get(origin string) http.Handler {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handlers[origin]
}

func isSafe(method string) bool { return method == http.MethodGet || method == http.MethodHead }

func isRedirect(r *Response) bool {
	switch r.StatusCode {
	case 301, 302, 303, 307, 308:
		return r.Header.Get("Location") != ""
	}
	return false
}

// excerpt is the beginning of a page, for messages.
func excerpt(body string) string {
	text := strings.Join(strings.Fields(body), " ")
	return text[:min(len(text), 300)]
}
