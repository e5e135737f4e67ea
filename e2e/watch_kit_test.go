package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// A watch stands between browsers and an application. It notes what they ask for, and has a page on the application's
// own origin, /page, for what a test wants to be written there. The zero value is ready.
type watch struct {
	mu       sync.Mutex
	seen     []*visited
	markup   string
	diverts  bool   // the next callback
	callback string // the URL of a callback that was diverted
}

// A visited is one request, as its browser describes it.
type visited struct {
	method, uri, site, mode, dest, purpose string
	status                                 int // of the answer, 0 until there is one
	sets                                   string
}

func (v visited) path() string { path, _, _ := strings.Cut(v.uri, "?"); return path }

// String is without the query, which may have a code in it.
func (v visited) String() string {
	return fmt.Sprintf("%s %s from %s, mode %s, destination %s, purpose %q: %d",
		v.method, v.path(), v.site, v.mode, v.dest, v.purpose, v.status)
}

// front is h, watched.
func (o *watch) front(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := &visited{
			method: r.Method, uri: r.URL.RequestURI(), purpose: r.Header.Get("Sec-Purpose"),
			site: r.Header.Get("Sec-Fetch-Site"), mode: r.Header.Get("Sec-Fetch-Mode"), dest: r.Header.Get("Sec-Fetch-Dest"),
		}
		o.mu.Lock()
		diverts, markup := o.diverts && v.path() == "/auth/callback", o.markup
		if diverts {
			o.diverts, o.callback = false, v.uri
		} else {
			o.seen = append(o.seen, v)
		}
		o.mu.Unlock()
		switch {
		case diverts:
			http.Redirect(w, r, "/page", http.StatusSeeOther)
		case v.path() == "/page":
			writePage(w, strings.ReplaceAll(markup, divertedCallback, o.diverted()))
		default:
			noting := &noting{ResponseWriter: w}
			h.ServeHTTP(noting, r)
			o.mu.Lock()
			v.status, v.sets = max(noting.status, http.StatusOK), strings.Join(w.Header()["Set-Cookie"], "\n")
			o.mu.Unlock()
		}
	})
}

// noting notes the status of an answer.
type noting struct {
	http.ResponseWriter
	status int
}

func (n *noting) WriteHeader(status int) { n.status = status; n.ResponseWriter.WriteHeader(status) }

func (n *noting) Unwrap() http.ResponseWriter { return n.ResponseWriter }

func writePage(w http.ResponseWriter, markup string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, `<!doctype html><html lang="en"><title>A page</title><p>A page with `+markup)
}

// divertedCallback becomes the URL of the callback that was diverted, where it is written on /page.
const divertedCallback = "THE-CALLBACK"

// shows chooses what is on /page.
func (o *watch) shows(markup string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.markup = markup
}

// divert sends the next callback to /page, where it may be used later.
func (o *watch) divert() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.diverts = true
}

func (o *watch) diverted() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.callback
}

// forget forgets what was asked for so far.
func (o *watch) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen = nil
}

// all returns the requests that were seen for a path.
func (o *watch) all(path string) (list []visited) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, v := range o.seen {
		if v.path() == path {
			list = append(list, *v)
		}
	}
	return list
}

// await waits until n requests for a path have come, and if they are to be answered, until that.
func (o *watch) await(t *testing.T, path string, n int, answered bool) []visited {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		list, open := o.all(path), 0
		for _, v := range list {
			if v.status == 0 {
				open++
			}
		}
		if len(list) >= n && (!answered || open == 0) {
			return list
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s was asked for %d times, %d of them unanswered, want %d: %v", path, len(list), open, n, list)
		}
	}
}

// preparations are how a page has the browser prepare for a click on a link to url.
func preparations(url string) map[string]string {
	return map[string]string{
		"link to prefetch":  `<link rel="prefetch" href="` + url + `">`,
		"rule to prefetch":  rule("prefetch", url),
		"rule to prerender": rule("prerender", url),
	}
}

// rule is a speculation rule.
func rule(does, url string) string {
	list := `[{"eagerness": "immediate", "urls": ["` + url + `"]}]`
	return `<script type="speculationrules">{"` + does + `": ` + list + `}</script>`
}

// elsewhere is the address of a server that shows markup, and which the application knows nothing of. To a browser it
// is of the application's site, or of another one.
func elsewhere(t *testing.T, sameSite bool, markup string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writePage(w, markup) }))
	t.Cleanup(server.Close)
	if sameSite {
		return server.URL // ports make no site
	}
	return strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
}

// A gate is the application's way to its provider, on which the token endpoint can be held back.
type gate struct {
	mu   sync.Mutex
	held chan struct{} // nil: open
}

func (g *gate) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = make(chan struct{})
}

func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.held)
	g.held = nil
}

// RoundTrip waits for a gate that is held.
func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	g.mu.Lock()
	held := g.held
	g.mu.Unlock()
	if held != nil && strings.HasSuffix(r.URL.Path, "/token") {
		select {
		case <-held:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	return http.DefaultTransport.RoundTrip(r)
}

// begin does what a test will see the outcome of later, or never: a navigation may be taken over by another one.
func begin[T any](p page, action chromedp.Action[T]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = chromedp.Run(ctx, action)
	}()
	p.t.Cleanup(func() { cancel(); <-done })
}

// follow clicks on the link or button with an id, as a user does who does not look where it is.
func (p page) follow(id string) {
	p.t.Helper()
	run(p, "follow "+id, chromedp.Evaluate[bool](`document.getElementById("`+id+`").click(), true`, byUser))
}

// noCode fails the test if going back would show the URL of a callback.
func (p page) noCode() {
	p.t.Helper()
	for i, entry := range run(p, "history", chromedp.NavigationEntries()).Entries {
		if strings.Contains(entry.URL, "code=") {
			p.t.Errorf("entry %d of the history has a code", i)
		}
	}
}

// dropCookies deletes the cookies that the browser has for a URL.
func (p page) dropCookies(url string) {
	p.t.Helper()
	cookies := run(p, "cookies", func(ctx context.Context, t *chromedp.Target) ([]*network.Cookie, error) {
		got, err := cdp.Call(ctx, t, network.GetCookies, network.GetCookiesParams{URLs: []string{url}})
		return got.Cookies, err
	})
	for _, c := range cookies {
		run(p, "delete a cookie", func(ctx context.Context, t *chromedp.Target) (cdp.Empty, error) {
			which := network.DeleteCookiesParams{Name: c.Name, Domain: c.Domain, Path: c.Path}
			return cdp.Call(ctx, t, network.DeleteCookies, which)
		})
	}
}

// dropAllCookies deletes all cookies of the browser.
func (p page) dropAllCookies() {
	p.t.Helper()
	run(p, "forget all cookies", func(ctx context.Context, t *chromedp.Target) (cdp.Empty, error) {
		return cdp.Call(ctx, t, network.ClearBrowserCookies, cdp.Empty{})
	})
}

// bypassCache sends all requests of this tab, as with the developer tools open.
func (p page) bypassCache() {
	p.t.Helper()
	run(p, "bypass the cache", func(ctx context.Context, t *chromedp.Target) (cdp.Empty, error) {
		return cdp.Call(ctx, t, network.SetCacheDisabled, network.SetCacheDisabledParams{CacheDisabled: true})
	})
}
