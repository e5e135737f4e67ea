package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"
)

// start runs the example until the test ends and returns its address.
func start(t *testing.T, lifetime time.Duration) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, "127.0.0.1:0", lifetime, in); in.Close() }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the end: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("no address printed: %v", err)
	}
	return strings.TrimSpace(strings.TrimPrefix(line, "Open "))
}

// A browser keeps cookies, follows redirects, and says that it wants pages.
type browser struct {
	*http.Client
	t *testing.T
}

func newBrowser(t *testing.T) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	return &browser{&http.Client{Jar: jar, Transport: transport, Timeout: 20 * time.Second}, t} // a stream has to end
}

// get gets a page, or posts a form to it, and returns where that ended.
func (b *browser) get(target string, form url.Values) (end, body string) {
	b.t.Helper()
	method := http.MethodGet
	if form != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(b.t.Context(), method, target, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "text/html")
	resp, err := b.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		b.t.Errorf("%s: %s\n%s", target, resp.Status, text)
	}
	return resp.Request.URL.String(), string(text)
}

func (b *browser) want(target string, form url.Values, words ...string) (end string) {
	b.t.Helper()
	end, body := b.get(target, form)
	for _, word := range words {
		if !strings.Contains(body, word) {
			b.t.Errorf("%s: no %q on the page:\n%s", target, word, body)
		}
	}
	return end
}

var ada = url.Values{"do": {"signin"}, "user": {"ada"}, "password": {"password"}}

func TestOrdersOfTheUser(t *testing.T) {
	base := start(t, time.Hour)
	b := newBrowser(t)
	b.want(base, nil, "Sign in to see your orders")
	b.want(base+"/style.css", nil, "prefers-color-scheme")
	signIn := b.want(base+"/orders", nil, "DEVELOPMENT PROVIDER")
	if end := b.want(signIn, ada, "Orders of ada", "Analytical engine", "access token 1<"); end != base+"/orders" {
		t.Errorf("the login ended at %s", end)
	}
	b.want(base+"/orders", nil, "access token 1<")
	b.want(base, nil, "signed in as <b>ada</b>")
	b.want(base+"/auth/logout", url.Values{}, "Sign in to see your orders")
	b.want(base+"/orders", nil, "DEVELOPMENT PROVIDER")
}

// A second is the shortest lifetime that a token can have (RFC 6749 5.1). There is no other clock than the real one, since
// sockets do not go with testing/synctest.
func TestTokensAreRefreshed(t *testing.T) {
	base := start(t, time.Second)
	b := newBrowser(t)
	b.want(b.want(base+"/orders", nil), ada, "Orders of ada")
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if _, body := b.get(base+"/orders", nil); strings.Contains(body, "access token 3<") {
			return
		}
	}
	t.Error("there was no second refresh")
}

func TestAStreamEndsWithItsToken(t *testing.T) {
	base := start(t, time.Second)
	b := newBrowser(t)
	b.want(b.want(base+"/orders", nil), ada, "Orders of ada")
	b.want(base+"/stream", nil, ": token ", "The token has expired: ask again to go on.")
	b.want(base+"/orders", nil, "Orders of ada")
}

func TestTheAPIWantsATokenOfItsOwn(t *testing.T) {
	tokens := map[string]string{"good": audience, "of another API": "https://billing.example.com"}
	server, err := startAPI(func(token string) (subject, aud string, ok bool) {
		aud, ok = tokens[token]
		return "ada", aud, ok
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for token, status := range map[string]int{"": 401, "unknown": 401, "of another API": 401, "good": 200} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+server.Addr+"/orders", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("token %q: %s, want %d", token, resp.Status, status)
		}
	}
}

func TestListensOnThisMachineOnly(t *testing.T) { // S17
	for _, addr := range []string{":0", "0.0.0.0:0", "192.0.2.1:0"} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := run(ctx, addr, time.Hour, io.Discard); err == nil {
			t.Errorf("it listens on %q", addr)
		}
	}
}
