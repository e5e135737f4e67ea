package oidcauth_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth"
)

// rawly answers each request with a text as it is, and closes the connection.
func rawly(text func(r *http.Request) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, text(r))
		_ = conn.Close()
	})
}

// http.ResponseWriter panics at a status of less than 100, which net/http's client takes.
func TestProxyRefusesAStatusThatIsNone(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"000", "042", "099"} {
		b := newWiredBFF(t, rawly(func(*http.Request) string {
			return "HTTP/1.1 " + status + " Odd\r\nContent-Length: 2\r\n\r\nhi"
		}), oidcauth.ProxyOptions{})
		if resp := b.call(http.MethodGet, "/api/x", ""); resp.StatusCode != http.StatusBadGateway {
			t.Errorf("%s: %d", status, resp.StatusCode)
		}
	}
}

// S13: of several Locations a browser takes one, and it need not be the one that was checked.
func TestProxyPassesOneLocationOrNone(t *testing.T) {
	t.Parallel()
	b := newBFF(t, oidcauth.ProxyOptions{})
	for _, name := range []string{"Location", "Content-Location"} {
		for _, values := range [][]string{{"", "https://evil.test/"}, {"x", "https://evil.test/"}, {"x", "x"}, {""}} {
			var header []string
			for _, value := range values {
				header = append(header, name, value)
			}
			b.api.answer = apiSays(http.StatusTemporaryRedirect, "", header...)
			if got := b.call(http.MethodPost, "/api/x", "secret").Header[name]; got != nil {
				t.Errorf("%s %q became %q", name, values, got)
			}
		}
	}
}

// HYG-05: net/http quotes what it cannot read, and an API that sends back the token would have it in the log.
func TestNothingOfAnAnswerIsLogged(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(token string) string{
		"a header":      func(token string) string { return "HTTP/1.1 200 OK\r\n" + token + "\r\n\r\n" },
		"a status line": func(token string) string { return token + "\r\n\r\n" },
		"a status":      func(token string) string { return "HTTP/1.1 " + token[7:] + " x\r\n\r\n" },
		"a length":      func(token string) string { return "HTTP/1.1 200 OK\r\nContent-Length: " + token + "\r\n\r\n" },
		"an encoding":   func(token string) string { return "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + token + "\r\n\r\n" },
		"a trailer": func(token string) string {
			return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + token + "\r\n\r\n"
		},
		"a chunk": func(token string) string {
			return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + token + "\r\n\r\n"
		},
	} {
		b := newWiredBFF(t, rawly(func(r *http.Request) string { return f(r.Header.Get("Authorization")) }), oidcauth.ProxyOptions{})
		_ = body(b.call(http.MethodGet, "/api/x?q=very-secret", ""))
		logs := b.logs.String()
		if strings.Contains(logs, "at-") || strings.Contains(logs, "very-secret") || !strings.Contains(logs, "oidcauth: ") {
			t.Errorf("%s: the log says\n%s", name, logs)
		}
	}
}

// Mounted there, the proxy would take the place of the auth routes.
func TestAProxyIsNotInFrontOfTheAuthRoutes(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	for prefix, refused := range map[string]bool{
		"/auth/": true, "/auth/login/": true, "/auth/callback/": true, "/auth/api/": false, "/aut/": false,
	} {
		_, err := a.Proxy(oidcauth.ProxyOptions{Prefix: prefix, Target: "https://api.test/"})
		var config *oidcauth.ConfigError
		if errors.As(err, &config) != refused || refused && config.Field != "ProxyOptions.Prefix" {
			t.Errorf("%s: %v", prefix, err)
		}
	}
}
