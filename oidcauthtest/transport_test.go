package oidcauthtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth/oidcauthtest"
)

func TestResponsesAreAServers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		handler http.HandlerFunc
		status  int
		body    string
		header  string // Content-Type
	}{
		{"nothing written", func(http.ResponseWriter, *http.Request) {}, 200, "", ""},
		{"the first status counts", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(201)
			w.WriteHeader(500)
		}, 201, "", ""},
		{"informational ones do not", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(103)
			w.WriteHeader(404)
		}, 404, "", ""},
		{"type is guessed", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "<html>")
		}, 200, "<html>", "text/html; charset=utf-8"},
		{"type is guessed after WriteHeader", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(400)
			_, _ = io.WriteString(w, "text")
		}, 400, "text", "text/plain; charset=utf-8"},
		{"header is final once written", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "text")
			w.Header().Set("Content-Type", "image/png")
		}, 200, "text", "text/plain; charset=utf-8"},
		{"204 has no body", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(204)
			if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrBodyNotAllowed) {
				w.Header().Set("Set-Cookie", "fail=the write of a 204's body was accepted")
			}
		}, 204, "", ""},
		{"line breaks in a header", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "a\r\nb")
		}, 200, "", "a  b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := newBrowser(t, tt.handler).Get("/")
			header := got.Header.Get("Content-Type")
			if got.StatusCode != tt.status || got.Body != tt.body || header != tt.header {
				t.Errorf("got %d %q %q, want %d %q %q", got.StatusCode, got.Body, header, tt.status, tt.body, tt.header)
			}
		})
	}
	t.Run("HEAD has no body", func(t *testing.T) {
		t.Parallel()
		b := newBrowser(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "body") }))
		if got := b.Do(httptest.NewRequest(http.MethodHead, "/", nil)); got.Body != "" || got.StatusCode != 200 {
			t.Errorf("got %d %q, want 200 without a body", got.StatusCode, got.Body)
		}
	})
}

func TestHandlersSeeAServersRequest(t *testing.T) {
	t.Parallel()
	type key struct{}
	b := newBrowser(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		switch {
		case r.Context().Value(key{}) != nil:
			t.Error("a value of the client's context crossed the network")
		case r.TLS == nil:
			t.Error("https without TLS")
		case r.Host != "app.test" || r.URL.Host != "" || r.URL.Path != "/a b" || r.RequestURI != "/a%20b?c":
			t.Errorf("Host %q, URL %q, RequestURI %q", r.Host, r.URL, r.RequestURI)
		case r.Body == nil || r.RemoteAddr == "" || r.Header == nil:
			t.Error("a server's request has a body, an address and a header")
		}
	}))
	b.Do(httptest.NewRequest(http.MethodGet, "/a%20b?c", nil).WithContext(context.WithValue(t.Context(), key{}, 1)))
}

func TestRoundTripper(t *testing.T) {
	t.Parallel()
	f := &failures{TB: t}
	client := &http.Client{Transport: oidcauthtest.RoundTripper(f, func(host string) http.Handler {
		if host != "op.test:8443" {
			return nil
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(w, r.Body); err != nil {
				t.Error(err)
			}
		})
	})}
	body := &closer{Reader: strings.NewReader("body")}
	resp, err := client.Post("https://op.test:8443/", "text/plain", body)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(resp.Body); string(got) != "body" || !body.closed {
		t.Errorf("answer %q, request body closed: %t; want body, true", got, body.closed)
	}
	if _, err := client.Get("https://op.test:8443/"); err != nil {
		t.Errorf("without a body: %v", err)
	}
	if _, err := client.Get("https://op.test/"); err == nil {
		t.Error("a host that nobody serves answered")
	}
	if len(f.list) > 0 { // an outage is a case to test, not a mistake
		t.Errorf("failures %q, want none", f.list)
	}
}

type closer struct {
	io.Reader
	closed bool
}

func (c *closer) Close() error {
	c.closed = true
	return nil
}

func TestTheCallersDeadlineEndsTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failures{TB: t}
		var seen context.Context
		b := newBrowser(f, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			seen = r.Context()
			<-seen.Done()
		}))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		b.Do(httptest.NewRequest(http.MethodGet, "/", nil).WithContext(ctx))
		f.expect(t, context.DeadlineExceeded.Error())
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("took %v, want 10s", took)
		}
	})
}

func TestARequestsContextEndsWithItsHandler(t *testing.T) {
	t.Parallel()
	// As in net/http, so that work in the background has to detach itself.
	var seen context.Context
	newBrowser(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if seen = r.Context(); seen.Err() != nil {
			t.Error("the context is cancelled while the handler runs")
		}
	})).Get("/")
	if seen.Err() == nil {
		t.Error("the context outlives the handler")
	}
}

func TestWhatFailsTheTest(t *testing.T) {
	t.Parallel()
	cookie := &http.Cookie{Name: "late", Value: "secret"}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    string
	}{
		{"Set-Cookie after Write", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "hello")
			http.SetCookie(w, cookie)
		}, "the client gets [], not [late]"},
		{"Set-Cookie after WriteHeader", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNoContent)
			http.SetCookie(w, cookie)
		}, "the client gets [], not [late]"},
		{"Set-Cookie after Flush", func(w http.ResponseWriter, _ *http.Request) { // W1 of security.md
			_ = http.NewResponseController(w).Flush()
			http.SetCookie(w, cookie)
		}, "the client gets [], not [late]"},
		{"Set-Cookie removed after Write", func(w http.ResponseWriter, _ *http.Request) {
			http.SetCookie(w, cookie)
			fmt.Fprint(w, "hello")
			w.Header().Del("Set-Cookie")
		}, "the client gets [late], not []"},
		{"panic", func(http.ResponseWriter, *http.Request) { panic("boom") }, "panicked: boom"},
		{"panic after Write", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "hello")
			panic("boom")
		}, "panicked: boom"},
		{"invalid status", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(0) }, "invalid status 0"},
		{"aborted connection", func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		}, "closed the connection"},
		{"redirect loop", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/?code=secret", http.StatusFound)
		}, "over 20 redirects"},
		{"redirect to nowhere", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://nowhere.test/?code=secret", http.StatusFound)
		}, "nothing answers at https://nowhere.test"},
		{"redirect to a script", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "javascript:alert(1)?secret")
			w.WriteHeader(302)
		}, "cannot go to javascript:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := &failures{TB: t}
			resp := newBrowser(f, tt.handler).Get("/")
			f.expect(t, tt.want)
			if strings.Contains(strings.Join(f.list, ""), "secret") {
				t.Errorf("the message has a secret: %s", f.list)
			}
			if strings.Contains(tt.want, "panicked") && (resp.StatusCode != 500 || resp.Body != "") {
				t.Errorf("after a panic: %d %q, want an empty 500", resp.StatusCode, resp.Body)
			}
		})
	}
}
