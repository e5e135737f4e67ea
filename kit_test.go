package oidcauth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// An app is an application at https://app.test whose pages say who is signed in, and what it and its provider saw.
// Its page /account is behind RequireAuth.
type app struct {
	*oidcauth.Client
	op      *oidcauthtest.Provider
	browser *oidcauthtest.Browser
	mux     *http.ServeMux
	handler http.Handler
	logs    *journal
}

// nobody is what a page of an [app] says without a session.
const nobody = "nobody"

// newApp returns an application with the options of a new provider, after edit. Its log goes to logs, and so do its events.
func newApp(t testing.TB, edit ...func(*oidcauth.Options)) *app {
	t.Helper()
	return newAppAt(t, oidcauthtest.NewProvider(t), edit...)
}

// newAppAt is [newApp] with a provider that there is already: a second process, or another application.
func newAppAt(t testing.TB, op *oidcauthtest.Provider, edit ...func(*oidcauth.Options)) *app {
	t.Helper()
	a := &app{op: op, mux: http.NewServeMux(), logs: &journal{test: t.Name()}}
	o := op.Options()
	o.Logger = slog.New(slog.NewTextHandler(a.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o.OnEvent = func(_ context.Context, e oidcauth.Event) { a.logs.add(e) }
	for _, f := range edit {
		f(&o)
	}
	watchOptions(t, op.Issuer(), &o)
	client, err := oidcauth.New(o)
	if err != nil {
		t.Fatalf("oidcauth.New: %v", err)
	}
	a.Client = client
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := nobody
		if s, err := client.GetSession(r); err == nil {
			name = s.Subject
		}
		_, _ = w.Write([]byte(name))
	})
	a.mux.Handle("/", page)
	a.mux.Handle("/account", client.RequireAuth(page))
	a.handler = tapped(t, op.Issuer(), client.Wrap(a.mux))
	a.browser = op.NewBrowser(a.handler)
	return a
}

// A journal keeps what was logged and the events, and lets the canaries see the log. It is safe for concurrent use.
type journal struct {
	test   string // whose it is
	mu     sync.Mutex
	text   bytes.Buffer
	events []oidcauth.Event
}

func (j *journal) Write(b []byte) (int, error) {
	canaries.print("log", j.test, string(b))
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (j *journal) add(e oidcauth.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
}

// names lists the names of the events so far.
func (j *journal) names() []string {
	var names []string
	for _, e := range j.all() {
		names = append(names, e.Name)
	}
	return names
}

func (j *journal) all() []oidcauth.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.events)
}

// signInBy makes /sign-in start the login that o describes.
func (a *app) signInBy(o *oidcauth.LoginOptions) {
	a.mux.HandleFunc("/sign-in", func(w http.ResponseWriter, r *http.Request) {
		if err := a.Login(w, r, o); err != nil {
			a.Error(w, r, err)
		}
	})
}

// settle waits for the revocations under way.
func (a *app) settle(t testing.TB) {
	t.Helper()
	if err := a.Close(t.Context()); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// isSession, isEnded and isLogin tell our cookies by name. isEnded is the one that says which session was ended in this
// browser, where no store remembers it (S21).
func isSession(c *http.Cookie) bool { return strings.Contains(c.Name, "session") && !isEnded(c) }

func isEnded(c *http.Cookie) bool { return strings.HasSuffix(c.Name, ".ended") }

func isLogin(c *http.Cookie) bool { return strings.Contains(c.Name, "login-") }

// setsSession reports whether a response sets a session cookie, and does not just delete it.
func setsSession(r *oidcauthtest.Response) bool {
	return slices.ContainsFunc(r.Cookies(), func(c *http.Cookie) bool { return isSession(c) && c.MaxAge >= 0 })
}

// errorCode returns the code of a JSON error or of an error page, or "" if it is neither.
func errorCode(r *oidcauthtest.Response) string {
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		var body struct{ Error string }
		_ = json.Unmarshal([]byte(r.Body), &body)
		return body.Error
	}
	_, rest, _ := strings.Cut(r.Body, "<small>Code: ")
	code, _, _ := strings.Cut(rest, "<")
	return code
}

// ask lets h answer a request for a path of the application with headers: names and values by turns, empty ones left out.
func ask(h http.Handler, method, target string, header ...string) *http.Response {
	r := httptest.NewRequest(method, target, http.NoBody)
	r.Host = "app.test"
	for pair := range slices.Chunk(header, 2) {
		if pair[1] != "" {
			r.Header.Add(pair[0], pair[1])
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

// body reads what a handler wrote.
func body(resp *http.Response) string {
	b, _ := io.ReadAll(resp.Body) // from memory
	return string(b)
}

// cookies signs a user in with a new browser and returns the Cookie field of that browser's requests.
func (a *app) cookies(t testing.TB, user oidcauthtest.User) string {
	t.Helper()
	b := a.op.NewBrowser(a.handler)
	b.SignIn(user)
	return b.Request(http.MethodGet, "/").Header.Get("Cookie")
}

// sessionLines returns the Set-Cookie fields that are about the session, deletions included.
func sessionLines(h http.Header) []string { return linesOf(h, isSession) }

// endedLines returns the Set-Cookie fields that say which session has ended: one where a session in cookies was logged out,
// and none anywhere else.
func endedLines(h http.Header) []string { return linesOf(h, isEnded) }

func linesOf(h http.Header, is func(*http.Cookie) bool) []string {
	return slices.DeleteFunc(slices.Clone(h["Set-Cookie"]), func(line string) bool {
		name, _, _ := strings.Cut(line, "=")
		return !is(&http.Cookie{Name: name})
	})
}

// afterLogout returns what a browser has in which a session in cookies was logged out, beside the one cookie that says so.
func (a *app) afterLogout(t testing.TB, b *oidcauthtest.Browser) []*http.Cookie {
	t.Helper()
	left := b.Cookies("/")
	others := slices.DeleteFunc(slices.Clone(left), isEnded)
	if n := len(left) - len(others); n != 1 {
		t.Errorf("%d cookies say which session has ended, want one", n)
	}
	return others
}

// kept returns the Cookie field that a browser sends after a response set all cookies of a session.
func kept(h http.Header) string {
	var pairs []string
	for _, line := range sessionLines(h) {
		if pair, _, _ := strings.Cut(line, ";"); !strings.HasSuffix(pair, "=") {
			pairs = append(pairs, pair)
		}
	}
	return strings.Join(pairs, "; ")
}

// answerTo lets h answer r.
func answerTo(h http.Handler, r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}
