package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
)

// endingModes are the two ways in which an application lets a session be ended from elsewhere.
var endingModes = []struct {
	name string
	set  func(*oidcauth.Options, *oidcauth.MemoryStore)
}{
	{"sessions in a store", func(o *oidcauth.Options, store *oidcauth.MemoryStore) { o.Store = store }},
	{"sessions in cookies", func(o *oidcauth.Options, store *oidcauth.MemoryStore) { o.RevocationStore = store }},
}

const (
	otherClientID = "another app"
	tellsLogout   = "/auth/backchannel-logout"
)

// streamCheck is how often the streams of a pair look whether their session goes on.
const streamCheck = time.Second

// A pair is two instances of one application, which share an address and a store but nothing in their memory, as two
// processes. A request goes to the second if its query has instance=2. The certified provider sends its logout tokens
// to the first. Beside it there is another application at the same provider, which says 200 to every logout token.
type pair struct {
	*certifiedApp
	second, other *certifiedApp
	api           string // behind the proxies at /api/

	mu     sync.Mutex
	events []oidcauth.Event
}

// newPair starts a provider and both applications. With bySID logout tokens name one session, and otherwise the user.
func newPair(
	t *testing.T, mode func(*oidcauth.Options, *oidcauth.MemoryStore), bySID bool, options func(*oidcauth.Options),
) *pair {
	t.Helper()
	server, elsewhere := httptest.NewUnstartedServer(nil), httptest.NewUnstartedServer(nil)
	t.Cleanup(server.Close)
	t.Cleanup(elsewhere.Close)
	api := httptest.NewServer(http.HandlerFunc(stream))
	t.Cleanup(api.Close)
	p := &pair{api: api.URL}
	first, second, other := &certifiedApp{t: t}, &certifiedApp{t: t}, &certifiedApp{t: t}
	p.certifiedApp, p.second, p.other = first, second, other
	first.address = "http://" + server.Listener.Addr().String()
	second.address, other.address = first.address, "http://"+elsewhere.Listener.Addr().String()

	registered := registration(otherClientID, other.address, other.address)
	registered["backchannel_logout_uri"] = other.address + tellsLogout
	first.provider = startCertified(t, first.address, first.address, func(client map[string]any) {
		client["backchannel_logout_uri"] = first.address + tellsLogout
		client["backchannel_logout_session_required"] = bySID
	}, registered)
	second.provider, other.provider = first.provider, first.provider

	store := oidcauth.NewMemoryStore(0)
	for _, a := range []*certifiedApp{first, second} {
		a.client = a.newClient(options, func(o *oidcauth.Options) {
			mode(o, store)
			o.StreamCheckInterval = streamCheck
			o.OnEvent = func(_ context.Context, e oidcauth.Event) { p.record(e); a.note(e.Err) }
		})
	}
	other.client = other.newClient(func(o *oidcauth.Options) {
		o.ClientID, o.Cookie.Name = otherClientID, "other" // cookies know no ports
	})
	one, two := p.handler(first), p.handler(second)
	server.Config.Handler = first.watch.front(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("instance") == "2" {
			two.ServeHTTP(w, r)
		} else {
			one.ServeHTTP(w, r)
		}
	}))
	pages := other.pages()
	pages.HandleFunc("POST "+tellsLogout, func(http.ResponseWriter, *http.Request) {})
	elsewhere.Config.Handler = other.client.Wrap(pages)
	server.Start()
	elsewhere.Start()
	return p
}

// handler is one instance: what every certifiedApp has, a stream of its own, one of the API, and a page that listens.
func (p *pair) handler(a *certifiedApp) http.Handler {
	proxy, err := a.client.Proxy(oidcauth.ProxyOptions{Prefix: "/api/", Target: p.api})
	if err != nil {
		a.t.Fatal(err)
	}
	mux := a.pages()
	mux.Handle("/api/", proxy)
	mux.Handle("GET /stream", a.client.RequireAuthAPI(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		until := a.client.UntilLogout(r)
		stream(w, r.WithContext(until))
		if errors.Is(context.Cause(until), oidcauth.ErrNoSession) {
			_, _ = fmt.Fprintf(w, "data: %s\n\n", sessionOver)
		}
	})))
	mux.Handle("GET /live", a.client.RequireAuth(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writePage(w, livePage)
	})))
	return a.client.Wrap(mux)
}

const sessionOver = "the session is over"

// livePage listens to both streams of the second instance, and says what becomes of them.
const livePage = `two streams<p id="own"></p><p id="api"></p><p><a id="go" href="/account/?next">Account</a>
	<meta name="viewport" content="width=device-width"><style>body { font: 18px/1.5 sans-serif; margin: 2em }</style>
	<script>for (const [id, path] of [["own", "/stream"], ["api", "/api/stream"]]) {
		const say = (text) => { document.getElementById(id).textContent += " " + id + ": " + text + "." }
		const source = new EventSource(path + "?instance=2")
		source.onmessage = (e) => say(e.data)
		source.onerror = () => say(source.readyState === EventSource.CLOSED ? "closed" : "broken off")
	}</script>`

// stream is a stream of server-sent events that says that it has begun, and ends when the context of the request does.
func stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, "retry: 10\ndata: begun\n\n")
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func (p *pair) record(e oidcauth.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, e)
}

// revoked is how often it was said that sessions were ended from elsewhere.
func (p *pair) revoked() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if e.Name == "session.revoked" {
			n++
		}
	}
	return n
}

// A device is a browser with a user who has signed in to the application, and the cookies of that moment.
type device struct {
	*visitor
	name, cookies string
	streams       []*listener
}

// sign has a user sign in with a browser that the provider does not know.
func (p *pair) sign(t *testing.T, name, user string) *device {
	t.Helper()
	d := &device{visitor: newVisitor(t), name: name}
	d.signInAs(p, user)
	return d
}

func (d *device) signInAs(p *pair, user string) {
	d.t.Helper()
	page := d.open(p.address + "/account/")
	if !page.asks() {
		d.t.Fatalf("%s: no question for the password, but %d at %s:\n%s", d.name, page.status, page.url, page.body)
	}
	page = d.submit(page, "login", user, "password", "password", "do", "signin")
	if page.url.Path == "/auth/landing" { // which goes on by a script, for Strict cookies
		page = d.open(p.address + "/account/")
	}
	d.wantAccount(page)
	if !strings.Contains(page.body, user+"@example.com") {
		d.t.Errorf("%s: the account is not that of %s:\n%s", d.name, user, page.body)
	}
	d.cookies = d.visitor.cookies(p.address)
	p.want(d, http.StatusOK)
}

// want asks both instances for an access token, with the cookies that a device got when its user signed in: they may
// have been copied.
func (p *pair) want(d *device, status int) {
	d.t.Helper()
	for _, path := range []string{"/token", "/token?instance=2"} {
		req, err := http.NewRequest(http.MethodGet, p.address+path, nil)
		if err != nil {
			d.t.Fatal(err)
		}
		req.Header.Set("Cookie", d.cookies)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			d.t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != status {
			d.t.Errorf("%s: %s answers %d, want %d", d.name, path, resp.StatusCode, status)
		}
	}
}

// A listener reads a stream of events to its end.
type listener struct {
	path  string
	ended chan string // what the stream said, and how it ended
}

// listen opens the streams of both instances.
func (d *device) listen(p *pair) {
	d.t.Helper()
	d.streams = nil
	for _, path := range []string{"/stream", "/stream?instance=2", "/api/stream", "/api/stream?instance=2"} {
		d.streams = append(d.streams, d.listenTo(p.address, path))
	}
}

func (d *device) listenTo(address, path string) *listener {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, address+path, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Cookie", d.cookies)
	req.Header.Set("X-Requested-With", "EventSource") // for the proxy, instead of Fetch metadata
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	begun := make([]byte, len("retry: 10\ndata: begun\n\n"))
	if _, err := io.ReadFull(resp.Body, begun); err != nil || resp.StatusCode != http.StatusOK {
		d.t.Fatalf("%s: %s answers %d with %q, %v", d.name, path, resp.StatusCode, begun, err)
	}
	l := &listener{path: path, ended: make(chan string, 1)}
	go func() {
		defer resp.Body.Close()
		rest, err := io.ReadAll(resp.Body)
		l.ended <- fmt.Sprintf("%s%v", rest, err)
	}()
	return l
}

// wantSilence waits until all streams of a device have ended, and for the reason that its session has.
func (d *device) wantSilence() {
	d.t.Helper()
	patience, cancel := context.WithTimeout(d.t.Context(), 15*time.Second) // for a machine with much else to do
	defer cancel()
	for _, l := range d.streams {
		select {
		case end := <-l.ended:
			// A stream of the API breaks off, and cannot say why. It does that for no other reason.
			if !strings.HasPrefix(l.path, "/api/") && !strings.Contains(end, sessionOver) {
				d.t.Errorf("%s: %s ended with %q, want %q", d.name, l.path, end, sessionOver)
			}
		case <-patience.Done():
			d.t.Fatalf("%s: %s goes on after the logout", d.name, l.path)
		}
	}
	d.streams = nil
}

// wantStreams finds all streams of a device open.
func (d *device) wantStreams() {
	d.t.Helper()
	for _, l := range d.streams {
		select {
		case end := <-l.ended:
			d.t.Errorf("%s: %s has ended, with %q", d.name, l.path, end)
		default:
		}
	}
}

// A delivery is a logout token that the provider has sent, and what the application has answered.
type delivery struct {
	To, Token string
	Status    int
}

func (p *certifiedProvider) deliveries() (list []delivery) {
	p.t.Helper()
	p.ask("/deliveries", "", &list)
	return list
}

// post sends a logout token as the provider does, and returns the status.
func (p *pair) post(token string) int {
	p.t.Helper()
	resp, err := http.PostForm(p.address+tellsLogout, url.Values{"logout_token": {token}})
	if err != nil {
		p.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
