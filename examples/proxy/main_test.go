package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// start runs the example until stop is called or the test ends. It returns its address and the lines that the API prints.
func start(t *testing.T) (base string, printed <-chan string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, "127.0.0.1:0", in); in.Close() }()
	lines := make(chan string, 100) // more than any test here makes
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the end: %v", err)
		}
	})
	t.Cleanup(stop)
	base, ok := strings.CutPrefix(<-lines, "Open ")
	if !ok {
		t.Fatal("no address printed")
	}
	return base, lines, stop
}

// A browser keeps cookies, follows redirects, and sends some of the Fetch metadata of a real one.
type browser struct {
	*http.Client
	t    *testing.T
	base string
}

func newBrowser(t *testing.T, base string) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{&http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}, t, base}
}

func (b *browser) send(method, target, body string, header ...string) *http.Response {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := b.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// page navigates, or posts a form.
func (b *browser) page(target string, form url.Values) (*http.Response, string) {
	b.t.Helper()
	method := http.MethodGet
	if form != nil {
		method = http.MethodPost
	}
	const kind = "application/x-www-form-urlencoded"
	resp := b.send(method, target, form.Encode(), "Content-Type", kind, "Accept", "text/html")
	return resp, b.read(resp)
}

// fetch asks the proxy as a script of the page does.
func (b *browser) fetch(method, path, body string) *http.Response {
	b.t.Helper()
	return b.send(method, b.base+path, body, "Content-Type", "application/json",
		"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty")
}

func (b *browser) read(resp *http.Response) string {
	b.t.Helper()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

func (b *browser) signIn() {
	b.t.Helper()
	resp, _ := b.page(b.base+"/auth/login", nil)
	_, home := b.page(resp.Request.URL.String(), url.Values{"do": {"signin"}, "user": {"ada"}, "password": {"password"}})
	if !strings.Contains(home, "signed in as <b>ada</b>") {
		b.t.Fatalf("not signed in:\n%s", home)
	}
}

func TestThePageCallsTheAPI(t *testing.T) {
	base, printed, stop := start(t)
	b := newBrowser(t, base)
	for path, word := range map[string]string{"/": "Sign in", "/app.js": "fetch(", "/style.css": "prefers-color-scheme"} {
		if _, body := b.page(base+path, nil); !strings.Contains(body, word) {
			t.Errorf("%s: no %q in\n%s", path, word, body)
		}
	}
	b.signIn()

	var hello struct {
		User    string
		Headers map[string]string
	}
	err := json.NewDecoder(b.fetch("GET", "/api/hello?a=b", "").Body).Decode(&hello)
	if err != nil || hello.User != "ada" {
		t.Errorf("%+v, %v", hello, err)
	}
	for _, name := range []string{"Cookie", "Sec-Fetch-Site", "X-Forwarded-For"} {
		if _, sent := hello.Headers[name]; sent {
			t.Errorf("the API saw the header %s", name)
		}
	}
	if got, want := <-printed, `API: GET /v1/hello?a=b, bearer token: true, user: "ada", cookie: false`; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}

	for body, status := range map[string]int{`{"text":"Call Charles"}`: 200, "no JSON": 400} {
		if resp := b.fetch("POST", "/api/notes", body); resp.StatusCode != status {
			t.Errorf("note %s: %s", body, resp.Status)
		}
		<-printed
	}

	events := bufio.NewReader(b.fetch("GET", "/api/events", "").Body)
	if line, err := events.ReadString('\n'); err != nil || !strings.HasPrefix(line, "data: ") {
		t.Errorf("the stream begins with %q, %v", line, err)
	}
	stop() // which must not wait until nobody reads the stream any more
}

func TestOthersGetNothing(t *testing.T) {
	base, printed, _ := start(t)
	b := newBrowser(t, base)
	if resp := b.fetch("GET", "/api/hello", ""); resp.StatusCode != 401 {
		t.Errorf("without a session: %s", resp.Status)
	}
	b.signIn()
	if resp := b.fetch("GET", "/auth/access-token", ""); resp.StatusCode != 404 {
		t.Errorf("the access-token route is on: %s", resp.Status)
	}
	for name, header := range map[string][]string{
		"navigation":        {"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"},
		"another site":      {"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"},
		"no Fetch metadata": {},
	} {
		if resp := b.send("GET", base+"/api/hello", "", header...); resp.StatusCode != 403 {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
	select {
	case line := <-printed:
		t.Errorf("the API was asked: %s", line)
	default:
	}
}

func TestTheAPIWantsATokenOfItsOwn(t *testing.T) {
	tokens := map[string]string{"good": audience, "of another API": "https://orders.example.com"}
	server, err := startAPI(func(token string) (subject, aud string, ok bool) {
		aud, ok = tokens[token]
		return "ada", aud, ok
	}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	b := newBrowser(t, "")
	for token, status := range map[string]int{"": 401, "unknown": 401, "of another API": 401, "good": 200} {
		for method, path := range map[string]string{"GET": "/v1/hello", "POST": "/v1/notes"} {
			resp := b.send(method, "http://"+server.Addr+path, `{"text":"a"}`, "Authorization", "Bearer "+token)
			if resp.StatusCode != status {
				t.Errorf("%s %s with the token %q: %s, want %d", method, path, token, resp.Status, status)
			}
		}
	}
}

func TestListensOnThisMachineOnly(t *testing.T) { // S17
	for _, addr := range []string{":0", "0.0.0.0:0", "192.0.2.1:0"} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := run(ctx, addr, io.Discard); err == nil {
			t.Errorf("it listens on %q", addr)
		}
	}
}
