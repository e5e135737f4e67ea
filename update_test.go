package oidcauth_test

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// set returns an edit that stores one value.
func set(key string, value any) func(*oidcauth.Session) error {
	return func(s *oidcauth.Session) error { return s.SetValue(key, value) }
}

// value is what is stored under a key, as text; "" if there is nothing.
func value(t testing.TB, s *oidcauth.Session, key string) string {
	t.Helper()
	var v any
	ok, err := s.Value(key, &v)
	if err != nil {
		t.Errorf("Value(%q): %v", key, err)
	}
	if !ok {
		return ""
	}
	return fmt.Sprint(v)
}

// places are where a handler may stand.
func places(a *app) map[string]func(http.Handler) http.Handler {
	return map[string]func(http.Handler) http.Handler{
		"below Wrap":              a.Wrap,
		"behind a guard":          a.RequireAuth,
		"behind a guard in Wrap":  func(h http.Handler) http.Handler { return a.Wrap(a.RequireAuth(h)) },
		"behind two guards":       func(h http.Handler) http.Handler { return a.RequireAuth(a.RequireAuthAPI(h)) },
		"with nothing around it":  func(h http.Handler) http.Handler { return h },
		"below Wrap, writing not": func(h http.Handler) http.Handler { return a.Wrap(h) },
	}
}

func TestUpdateSessionSavesValuesInOneCookie(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	cookie := a.cookies(t, oidcauthtest.Alice)
	for name, around := range places(a) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := ""
			h := around(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := a.UpdateSession(w, r, set("cart", 1)); err != nil {
					t.Errorf("first UpdateSession: %v", err)
				}
				if s, err := a.GetSession(r); err == nil {
					seen = value(t, s, "cart")
				}
				if err := a.UpdateSession(w, r, set("theme", "dark")); err != nil {
					t.Errorf("second UpdateSession: %v", err)
				}
				if !strings.HasSuffix(name, "not") {
					_, _ = io.WriteString(w, "done")
				}
			}))
			resp := ask(h, "GET", "/", "Cookie", cookie)
			if n := len(sessionLines(resp.Header)); n != 1 {
				t.Fatalf("two updates set %d session cookies", n)
			}
			after := sessionOf(t, a, kept(resp.Header))
			if value(t, after, "theme") != "dark" || after.Handle != sessionOf(t, a, cookie).Handle {
				t.Errorf("the next request sees theme %q", value(t, after, "theme"))
			}
			if around := name != "with nothing around it"; around && (seen != "1" || value(t, after, "cart") != "1") {
				t.Errorf("cart is %q later in the request and %q in the next", seen, value(t, after, "cart"))
			}
		})
	}
}

func TestUpdateSessionChangesNothingIf(t *testing.T) {
	t.Parallel()
	refused := errors.New("not now")
	noise := rand.Text()
	for len(noise) < 30_000 {
		noise += rand.Text()
	}
	changed := func(change func(*oidcauth.Session)) func(*oidcauth.Session) error {
		return func(s *oidcauth.Session) error { change(s); return s.SetValue("cart", 2) }
	}
	for name, edit := range map[string]func(*oidcauth.Session) error{
		"the edit fails":             func(s *oidcauth.Session) error { _ = s.SetValue("cart", 2); return refused },
		"another subject is set":     changed(func(s *oidcauth.Session) { s.Subject = "bob" }),
		"another issuer is set":      changed(func(s *oidcauth.Session) { s.Issuer = "https://evil.test/" }),
		"another handle is set":      changed(func(s *oidcauth.Session) { s.Handle = "h" }),
		"another sid is set":         changed(func(s *oidcauth.Session) { s.SID = "s" }),
		"the begin is moved":         changed(func(s *oidcauth.Session) { s.CreatedAt = s.CreatedAt.Add(time.Second) }),
		"the last use is moved":      changed(func(s *oidcauth.Session) { s.LastSeenAt = s.LastSeenAt.Add(time.Second) }),
		"the end is moved":           changed(func(s *oidcauth.Session) { s.ExpiresAt = s.ExpiresAt.Add(time.Second) }),
		"another session is put in":  changed(func(s *oidcauth.Session) { *s = *oidcauth.NewSession(nil) }),
		"the value is no JSON":       set("cart", func() {}),
		"the session gets too large": set("cart", noise), // CKE-02
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newApp(t)
			cookie := a.cookies(t, oidcauthtest.Alice)
			resp := ask(a.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := a.UpdateSession(w, r, set("cart", 1)); err != nil {
					t.Errorf("UpdateSession: %v", err)
				}
				err := a.UpdateSession(w, r, edit)
				if err == nil || name == "the edit fails" && !errors.Is(err, refused) || len(err.Error()) > 300 {
					t.Errorf("the error is %.400v", err)
				}
				if s, err := a.GetSession(r); err != nil || value(t, s, "cart") != "1" || s.Subject != "alice" {
					t.Errorf("later in the request: %v, %v", s, err)
				}
			})), "GET", "/", "Cookie", cookie)
			if s := sessionOf(t, a, kept(resp.Header)); value(t, s, "cart") != "1" || s.Subject != "alice" {
				t.Errorf("in the next request: %v with cart %q", s, value(t, s, "cart"))
			}
		})
	}
}

func TestASessionIsReadOnlyOutsideAnEdit(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	cookie := a.cookies(t, oidcauthtest.Alice)
	var leaked *oidcauth.Session
	ask(a.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := a.GetSession(r)
		if s.SetValue("cart", 1) == nil {
			t.Error("a session from GetSession can be changed")
		}
		_ = a.UpdateSession(w, r, func(s *oidcauth.Session) error { leaked = s; return s.SetValue("cart", 1) })
		if value(t, s, "cart") != "" {
			t.Error("the update changed a session that was handed out before")
		}
		_ = a.UpdateSession(w, r, set("cart", nil))
		if s, _ := a.GetSession(r); value(t, s, "cart") != "" {
			t.Error("nil does not remove a value")
		}
	})), "GET", "/", "Cookie", cookie)
	for name, s := range map[string]*oidcauth.Session{
		"from an edit that is over": leaked, "of NewSession": oidcauth.NewSession(nil), "of nothing": {},
	} {
		if s.SetValue("cart", 2) == nil {
			t.Errorf("a session %s can be changed", name)
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	if err := a.UpdateSession(httptest.NewRecorder(), r, set("cart", 1)); !errors.Is(err, oidcauth.ErrNoSession) {
		t.Errorf("without a session: %v", err)
	}
}

// HYG-02, lesson 22: what can no longer be set is an error, not a silence.
func TestAfterTheHeaderNothingIsSaved(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	for name, begin := range map[string]func(http.ResponseWriter){
		"WriteHeader": func(w http.ResponseWriter) { w.WriteHeader(http.StatusAccepted) },
		"Write":       func(w http.ResponseWriter) { _, _ = w.Write([]byte("x")) },
		"WriteString": func(w http.ResponseWriter) { _, _ = io.WriteString(w, "x") },
		"Flush":       func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() },
		"io.Copy":     func(w http.ResponseWriter) { _, _ = io.Copy(w, strings.NewReader("x")) },
	} {
		for place, around := range map[string]func(http.Handler) http.Handler{"Wrap": a.Wrap, "a guard": a.RequireAuth} {
			cookie := a.cookies(t, oidcauthtest.Alice)
			resp := ask(around(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				begin(w)
				if err := a.UpdateSession(w, r, set("cart", 1)); !errors.Is(err, oidcauth.ErrHeaderWritten) {
					t.Errorf("UpdateSession after %s below %s: %v", name, place, err)
				}
				if err := a.Logout(w, r, nil); !errors.Is(err, oidcauth.ErrHeaderWritten) {
					t.Errorf("Logout after %s below %s: %v", name, place, err)
				}
				// The cookie stays, but this process takes it no more.
				if s, err := a.GetSession(r); !errors.Is(err, oidcauth.ErrNoSession) {
					t.Errorf("after %s below %s: GetSession has %v, %v", name, place, s, err)
				}
			})), "GET", "/", "Cookie", cookie)
			if len(resp.Header["Set-Cookie"]) > 0 {
				t.Errorf("after %s below %s a cookie was set", name, place)
			}
		}
	}
}

func TestLogoutInAHandlerBeatsTheRollAndUpdates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		for name, around := range places(a) {
			if name == "with nothing around it" {
				continue
			}
			cookie := a.cookies(t, oidcauthtest.Alice)
			time.Sleep(30 * time.Minute) // a roll is due
			resp := ask(around(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := a.UpdateSession(w, r, set("cart", 1)); err != nil {
					t.Errorf("%s: UpdateSession: %v", name, err)
				}
				if err := a.Logout(w, r, &oidcauth.LogoutOptions{Local: true}); err != nil {
					t.Errorf("%s: Logout: %v", name, err)
				}
				if err := a.UpdateSession(w, r, set("cart", 2)); !errors.Is(err, oidcauth.ErrNoSession) {
					t.Errorf("%s: UpdateSession after Logout: %v", name, err)
				}
				if _, err := a.GetSession(r); !errors.Is(err, oidcauth.ErrNoSession) {
					t.Errorf("%s: GetSession after Logout: %v", name, err)
				}
			})), "GET", "/", "Cookie", cookie)
			lines := sessionLines(resp.Header)
			if len(lines) != 1 || !strings.HasPrefix(lines[0], "__Host-session=;") || !strings.Contains(lines[0], "Max-Age=0") {
				t.Errorf("%s: the session cookies are %q", name, lines)
			}
			if n := len(endedLines(resp.Header)); n != 1 {
				t.Errorf("%s: %d cookies say that it has ended", name, n)
			}
			if got := resp.Header.Get("Cache-Control"); got != "private, no-store" {
				t.Errorf("%s: Cache-Control is %q", name, got)
			}
		}
		a.settle(t)
	})
}

// RIL-02: an update under way does not bring back what a logout ends, nor does a logout that cannot go on at the provider.
func TestWhatIsLoggedOutStaysOut(t *testing.T) {
	t.Parallel()
	a := newApp(t, func(o *oidcauth.Options) {
		o.LogoutURL = func(oidcauth.LogoutURLParams) (string, error) { return "", errors.New("not now") }
	})
	resp := ask(a.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := a.UpdateSession(w, r, func(s *oidcauth.Session) error {
			if err := a.Logout(w, r, nil); err == nil {
				t.Error("Logout succeeds without the provider's URL")
			}
			return s.SetValue("cart", 1)
		})
		if !errors.Is(err, oidcauth.ErrNoSession) {
			t.Errorf("the update under way: %v", err)
		}
		w.Header().Set("Cache-Control", "public")
	})), "GET", "/", "Cookie", a.cookies(t, oidcauthtest.Alice))
	if lines := sessionLines(resp.Header); len(lines) != 1 || !strings.HasPrefix(lines[0], "__Host-session=;") {
		t.Errorf("%d session cookies, and none that deletes", len(lines))
	}
	if n := len(endedLines(resp.Header)); n != 1 {
		t.Errorf("%d cookies say that it has ended", n)
	}
	if got := resp.Header.Get("Cache-Control"); got != "private, no-store" {
		t.Errorf("Cache-Control is %q", got)
	}
	a.settle(t)
}

// A server with a socket: what httptest cannot show. The session's secret is an old one, so that each response is due to
// carry a cookie.
func serveStale(t *testing.T, handlers map[string]http.HandlerFunc) (url, cookie string) {
	t.Helper()
	op, old := oidcauthtest.NewProvider(t), rand.Text()+rand.Text()
	cookie = newAppAt(t, op, func(o *oidcauth.Options) { o.Secrets = []string{old} }).cookies(t, oidcauthtest.Alice)
	a := newAppAt(t, op, func(o *oidcauth.Options) { o.Secrets = append(o.Secrets, old) })
	for path, h := range handlers {
		a.mux.HandleFunc(path, h)
	}
	server := httptest.NewServer(a.Wrap(a.RequireAuth(a.mux)))
	t.Cleanup(server.Close)
	return server.URL, cookie
}

func call(t *testing.T, url, cookie string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Cookie", cookie)
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// HYG-02, lesson 22 (scs#141, #188, #196; express-openid-connect#838).
func TestStreamingSurvivesTheWrapperAndStillGetsTheCookie(t *testing.T) {
	t.Parallel()
	received := make(chan struct{})
	url, cookie := serveStale(t, map[string]http.HandlerFunc{
		"/stream": func(w http.ResponseWriter, r *http.Request) {
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Errorf("Flush: %v", err)
			}
			select {
			case <-received: // the client has the header before there is a body
			case <-r.Context().Done():
			}
			_, _ = io.WriteString(w, "streamed")
		},
		"/copy": func(w http.ResponseWriter, _ *http.Request) {
			if _, ok := w.(io.ReaderFrom); !ok {
				t.Error("ReadFrom is lost, and sendfile with it")
			}
			_, _ = io.Copy(w, strings.NewReader("copied"))
		},
		"/control": func(w http.ResponseWriter, _ *http.Request) {
			c := http.NewResponseController(w)
			err := errors.Join(c.SetReadDeadline(time.Now().Add(time.Minute)), c.SetWriteDeadline(time.Time{}), c.EnableFullDuplex())
			if err != nil {
				t.Errorf("ResponseController: %v", err)
			}
		},
		"/hijack": func(w http.ResponseWriter, _ *http.Request) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Errorf("Hijack: %v", err)
				return
			}
			defer func(c net.Conn, rw *bufio.ReadWriter) { _ = rw.Flush(); _ = c.Close() }(conn, rw)
			_, _ = rw.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nhijacked")
		},
	})
	for path, want := range map[string]string{"/stream": "streamed", "/copy": "copied", "/control": "", "/hijack": "hijacked"} {
		resp := call(t, url+path, cookie)
		if path == "/stream" {
			close(received)
		}
		if got := body(resp); got != want || path != "/hijack" && len(sessionLines(resp.Header)) != 1 {
			t.Errorf("%s answered %q with %d session cookies", path, got, len(sessionLines(resp.Header)))
		}
	}
}

// S12: a cache would add a 304's cookie to the response that it has stored; early hints may be answered from a cache too.
func TestNotModifiedAndInformationalResponsesCarryNoCookie(t *testing.T) {
	t.Parallel()
	url, cookie := serveStale(t, map[string]http.HandlerFunc{
		"/304": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) },
		"/103": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			_, _ = io.WriteString(w, "ok")
		},
	})
	if resp := call(t, url+"/304", cookie); resp.StatusCode != 304 || len(resp.Header["Set-Cookie"]) > 0 {
		t.Errorf("304: status %d with %d cookies", resp.StatusCode, len(resp.Header["Set-Cookie"]))
	}
	var mu sync.Mutex
	early := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
			mu.Lock()
			defer mu.Unlock()
			early++
			if len(h["Set-Cookie"]) > 0 {
				t.Error("the early hints carry a cookie")
			}
			return nil
		},
	})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/103", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Cookie", cookie)
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	mu.Lock()
	defer mu.Unlock()
	if early != 1 || len(sessionLines(resp.Header)) != 1 {
		t.Errorf("early hints %d times, then %d session cookies", early, len(sessionLines(resp.Header)))
	}
}

// HYG-01, S12, THR-18: CVE-2025-48947, CVE-2025-64762. Lesson 14.
func TestAResponseWithOurCookieIsKeptOutOfEveryCache(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		hostile := func(w http.ResponseWriter) {
			for name, value := range map[string]string{
				"Cache-Control": "public, s-maxage=600, max-age=600", "Expires": "Thu, 01 Jan 2099 00:00:00 GMT",
				"Pragma":            "cache",
				"Surrogate-Control": "max-age=600", "CDN-Cache-Control": "max-age=600",
				"Cloudflare-CDN-Cache-Control": "max-age=600",
			} {
				w.Header().Set(name, value)
			}
			w.Header().Add("Cache-Control", "immutable")
		}
		for name, h := range map[string]http.HandlerFunc{
			"rolled":      func(w http.ResponseWriter, _ *http.Request) { hostile(w); _, _ = io.WriteString(w, "x") },
			"rolled, 204": func(w http.ResponseWriter, _ *http.Request) { hostile(w); w.WriteHeader(http.StatusNoContent) },
			"updated":     func(w http.ResponseWriter, r *http.Request) { _ = a.UpdateSession(w, r, set("a", 1)); hostile(w) },
			"logged out": func(w http.ResponseWriter, r *http.Request) {
				hostile(w)
				_ = a.Logout(w, r, nil)
			},
		} {
			for place, around := range map[string]func(http.Handler) http.Handler{"Wrap": a.Wrap, "a guard": a.RequireAuth} {
				cookie := a.cookies(t, oidcauthtest.Alice)
				time.Sleep(30 * time.Minute)
				resp := ask(around(h), "GET", "/", "Cookie", cookie)
				if len(sessionLines(resp.Header)) != 1 || (len(endedLines(resp.Header)) == 1) != (name == "logged out") {
					t.Fatalf("%s below %s: no session cookie, or one that it has ended", name, place)
				}
				if got := resp.Header["Cache-Control"]; len(got) != 1 || got[0] != "private, no-store" {
					t.Errorf("%s below %s: Cache-Control is %q", name, place, got)
				}
				for header := range resp.Header {
					if header == "Expires" || header == "Pragma" || header == "Surrogate-Control" || strings.Contains(header, "Cdn") {
						t.Errorf("%s below %s: %s is still there", name, place, header)
					}
				}
			}
		}
		a.settle(t)
	})
}
