package oidcauth_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

const (
	backchannelPath = "/auth/backchannel-logout"
	formType        = "application/x-www-form-urlencoded"
)

// tell posts a body to the back-channel route of a process, as whoever it is would: nothing of it is checked or cleaned.
func (p *process) tell(query, body string, header ...string) *http.Response {
	p.t.Helper()
	return answerTo(p.handler, rawRequest("POST", backchannelPath, query, body, header...))
}

// tellToken posts a logout token as a provider does.
func (p *process) tellToken(token string) *http.Response {
	p.t.Helper()
	return p.tell("", url.Values{"logout_token": {token}}.Encode(), "Content-Type", formType)
}

// checkRefusal fails unless an answer of the back-channel route is the one 400 that there is.
func checkRefusal(t testing.TB, resp *http.Response) {
	t.Helper()
	const want = `{"error":"invalid_request","error_description":"The request is malformed."}` + "\n"
	if got := body(resp); resp.StatusCode != http.StatusBadRequest || got != want { // BCL-18, BCL-29
		t.Errorf("the answer is %d %s, want 400 %s", resp.StatusCode, got, want)
	}
	if got := resp.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type is %q", got)
	}
	checkQuiet(t, resp)
}

// checkQuiet fails unless an answer is kept by no cache and touches no cookie.
func checkQuiet(t testing.TB, resp *http.Response) {
	t.Helper()
	if got := resp.Header.Get("Cache-Control"); got != "private, no-store" { // BCL-19
		t.Errorf("with %d Cache-Control is %q", resp.StatusCode, got)
	}
	if lines := resp.Header["Set-Cookie"]; len(lines) > 0 { // BCL-01
		t.Errorf("with %d cookies are set: %q", resp.StatusCode, lines)
	}
}

// BCL-01, BCL-19
func TestABackchannelLogoutIsAPost(t *testing.T) {
	everyMode(t, func(t *testing.T, p, _ *process) {
		cookie := p.login()
		form := url.Values{"logout_token": {p.op.LogoutToken("alice", "")}}.Encode()
		for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "post", "BREW"} {
			for _, accept := range []string{"*/*", "text/html"} {
				resp := answerTo(p.handler, rawRequest(method, backchannelPath, form, form,
					"Content-Type", formType, "Cookie", cookie, "Accept", accept))
				if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "POST" {
					t.Errorf("%s is answered with %d, Allow %q", method, resp.StatusCode, resp.Header.Get("Allow"))
				}
				checkQuiet(t, resp)
			}
		}
		standing(t, cookie, "alice", p)
	})
}

// BCL-01: a provider has no cookies, sends no Origin of ours and is signed in to nothing. Cookies that come all the same are
// neither looked at nor touched: not for a store's sake either.
func TestABackchannelLogoutNeedsNoBrowser(t *testing.T) {
	everyMode(t, func(t *testing.T, p, _ *process) {
		guarded := p.RequireAuthAPI(p.mux) // a guard around everything does not stand before the route
		tell := func(token string, header []string) *http.Response {
			form := url.Values{"logout_token": {token}}.Encode()
			return answerTo(guarded, rawRequest("POST", backchannelPath, "", form, append(header, "Content-Type", formType)...))
		}
		calls := map[string]oidcauthtest.StoreCalls{}
		bob := p.cookies(t, oidcauthtest.User{Subject: "bob"})
		for name, header := range map[string][]string{
			"a provider": nil,
			"a browser": {
				"Cookie", bob, "Origin", "https://evil.test", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate",
				"Sec-Fetch-Dest", "document", "Accept", "text/html",
			},
			"somebody odd": {"Cookie", "__Host-session=junk; =; ;", "Origin", "null", "Sec-Purpose", "prefetch"},
		} {
			cookie := p.login()
			checkRefusal(t, tell("x.y.z", header))
			standing(t, cookie, "alice", p)
			calls[name] = p.calls(func() {
				resp := tell(p.op.LogoutToken("alice", ""), header)
				if resp.StatusCode != http.StatusOK || body(resp) != "" {
					t.Errorf("%s gets the answer %d", name, resp.StatusCode)
				}
				checkQuiet(t, resp)
			})
			standing(t, cookie, nobody, p)
			time.Sleep(2 * time.Second)
		}
		standing(t, bob, "bob", p)
		if calls["a provider"] != calls["a browser"] || calls["a provider"] != calls["somebody odd"] {
			t.Errorf("the store is asked for the cookies: %v", calls)
		}
	})
}

// padded returns a logout token of about size bytes, and not more.
func padded(op *oidcauthtest.Provider, size int) string {
	token, n := "", size/2
	for {
		next := op.LogoutToken("alice", "", func(_, claims map[string]any) { claims["pad"] = strings.Repeat("a", n) })
		if len(next) > size {
			return token
		}
		token, n = next, n+max((size-len(next))*3/4, 1)
	}
}

// endless is a body that has no end. It counts what is read of it.
type endless struct{ read int }

func (e *endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'a'
	}
	e.read += len(b)
	return len(b), nil
}

// BCL-02, BCL-03, lesson 26
func TestWhatABackchannelLogoutMayLookLike(t *testing.T) {
	const ok, bad = http.StatusOK, http.StatusBadRequest
	for _, tt := range []struct {
		name, query, mediaType, body string // TOKEN is a good logout token
		want                         int
	}{
		{"a form", "", formType, "logout_token=TOKEN", ok},
		{"with a charset", "", formType + "; charset=utf-8", "logout_token=TOKEN", ok},
		{"in capitals", "", "Application/X-WWW-Form-Urlencoded", "logout_token=TOKEN", ok},
		{"with unknown members", "", formType, "a=1&logout_token=TOKEN&a=2&b", ok},
		{"with a name in other letters beside it", "", formType, "LOGOUT_TOKEN=x&logout_token=TOKEN", ok},
		{"with a token in the query too", "logout_token=x", formType, "logout_token=TOKEN", ok},
		{"with a query that is none", "%zz;&a=1&a=2", formType, "logout_token=TOKEN", ok},
		{"of 64 KiB", "", formType, "logout_token=TOKEN&pad=64KIB", ok},
		{"of 64 KiB and a byte", "", formType, "logout_token=TOKEN&pad=64KIB+1", bad},
		{"a token of 16 KiB", "", formType, "logout_token=16KIB", ok},
		{"a token of more", "", formType, "logout_token=17KIB", bad},
		{"the token in the query alone", "logout_token=TOKEN", formType, "", bad},
		{"the token in a query without a type", "logout_token=TOKEN", "", "", bad},
		{"the token twice", "", formType, "logout_token=TOKEN&logout_token=TOKEN", bad},
		{"two tokens", "", formType, "logout_token=TOKEN&logout_token=x", bad},
		{"two tokens, one empty", "", formType, "logout_token=&logout_token=TOKEN", bad},
		{"no token", "", formType, "token=TOKEN", bad},
		{"an empty token", "", formType, "logout_token=", bad},
		{"nothing", "", formType, "", bad},
		{"a name in other letters", "", formType, "Logout_Token=TOKEN", bad},
		{"a bad escape", "", formType, "logout_token=TOKEN&a=%zz", bad},
		{"a semicolon", "", formType, "a=1;logout_token=TOKEN", bad},
		{"binary", "", formType, "\x00\xff\xfe", bad},
		{"a token with a space around it", "", formType, "logout_token=TOKEN+", bad},
		{"no type", "", "", "logout_token=TOKEN", bad},
		{"a type that is none", "", ";;", "logout_token=TOKEN", bad},
		{"two types", "", formType + ", text/plain", "logout_token=TOKEN", bad},
		{"plain text", "", "text/plain", "logout_token=TOKEN", bad},
		{"JSON", "", "application/json", `{"logout_token":"TOKEN"}`, bad},
		{"the token itself", "", "application/logout+jwt", "TOKEN", bad},
		{
			"a multipart form", "", "multipart/form-data; boundary=x",
			"--x\r\nContent-Disposition: form-data; name=\"logout_token\"\r\n\r\nTOKEN\r\n--x--\r\n", bad,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				cookie := p.login()
				fill := strings.NewReplacer("TOKEN", p.op.LogoutToken("alice", ""))
				text, query := fill.Replace(tt.body), fill.Replace(tt.query)
				if rest, found := strings.CutSuffix(text, "16KIB"); found {
					text = rest + padded(p.op, 16<<10)
				} else if rest, found := strings.CutSuffix(text, "17KIB"); found {
					text = rest + padded(p.op, 16<<10+8)
				}
				for suffix, size := range map[string]int{"64KIB": 64 << 10, "64KIB+1": 64<<10 + 1} {
					if rest, found := strings.CutSuffix(text, suffix); found {
						text = rest + strings.Repeat("a", size-len(rest))
					}
				}
				resp := p.tell(query, text, "Content-Type", tt.mediaType)
				if tt.want == bad {
					checkRefusal(t, resp)
					standing(t, cookie, "alice", p, q)
					return
				}
				if resp.StatusCode != ok || body(resp) != "" { // BCL-17
					t.Errorf("the answer is %d: %s", resp.StatusCode, p.logs)
				}
				checkQuiet(t, resp)
				standing(t, cookie, nobody, p, q)
			})
		})
	}
}

// BCL-03: neither what has no end nor who takes for ever holds anything up.
func TestABackchannelLogoutThatNeverEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t)
		defer p.settle(t)
		flood := &endless{}
		r := rawRequest("POST", backchannelPath, "", "", "Content-Type", formType)
		r.Body, r.ContentLength = io.NopCloser(flood), -1 // chunked
		checkRefusal(t, answerTo(p.handler, r))
		if flood.read > 128<<10 {
			t.Errorf("%d bytes were read", flood.read)
		}

		theirs, ours := net.Pipe()
		server := &http.Server{Handler: p.handler, ReadHeaderTimeout: time.Minute}
		go func() { _ = server.Serve(&oneConn{conn: ours}) }()
		defer server.Close()
		began, answer := time.Now(), make(chan string)
		go func() {
			text, _ := io.ReadAll(theirs) // until the server closes the connection
			answer <- string(text)
		}()
		fmt.Fprintf(theirs, "POST %s HTTP/1.1\r\nHost: app.test\r\nContent-Type: %s\r\nContent-Length: 9999\r\n\r\n",
			backchannelPath, formType)
		var dribble sync.WaitGroup
		dribble.Go(func() {
			for {
				if _, err := theirs.Write([]byte("a")); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		text := <-answer
		if took := time.Since(began); !strings.HasPrefix(text, "HTTP/1.1 400 ") || took > 15*time.Second {
			t.Errorf("after %v the answer is %q", took, text)
		}
		_ = theirs.Close()
		dribble.Wait()
	})
}

// oneConn is a listener that has one connection.
type oneConn struct{ conn net.Conn }

func (l *oneConn) Accept() (net.Conn, error) {
	if l.conn == nil {
		return nil, net.ErrClosed
	}
	conn := l.conn
	l.conn = nil
	return conn, nil
}

func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{} }

// encrypted has the five parts of a JWE.
func encrypted(token string) string { return token + ".AAAA.AAAA" }

// unsigned replaces a token's signature.
func unsigned(token string) string {
	return token[:strings.LastIndexByte(token, '.')+1] + base64.RawURLEncoding.EncodeToString(make([]byte, 256))
}

// What is wrong with a token is found out by tests of the verification itself. Here it is seen that the route asks it, and
// that a token which is refused does nothing, then or later.
func TestALogoutTokenThatIsRefusedDoesNothing(t *testing.T) {
	claim := func(name string, value any) func(header, claims map[string]any) {
		return func(_, claims map[string]any) { claims[name] = value }
	}
	without := func(names ...string) func(header, claims map[string]any) {
		return func(_, claims map[string]any) {
			for _, name := range names {
				delete(claims, name)
			}
		}
	}
	head := func(name string, value any) func(header, claims map[string]any) {
		return func(header, _ map[string]any) { header[name] = value }
	}
	after := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for _, tt := range []struct {
		name   string
		edit   func(header, claims map[string]any)
		mangle func(string) string
	}{
		{"encrypted", nil, encrypted},          // BCL-04: none is negotiated
		{"alg none", head("alg", "none"), nil}, // BCL-05
		{"another alg, by a published key", head("alg", "ES256"), nil},
		{"the signature of nobody", nil, unsigned},
		{"a MAC by the client secret", head("alg", "HS256"), nil},
		{"another issuer", claim("iss", "https://op.test"), nil}, // BCL-06
		{"no issuer", without("iss"), nil},
		{"another audience", claim("aud", "another"), nil},
		{"a second audience", claim("aud", []string{"test-client", "another"}), nil},
		{"no iat", without("iat"), nil}, // BCL-07
		{"iat ahead", func(_, c map[string]any) { c["iat"] = after(time.Minute) }, nil},
		{"no exp", without("exp"), nil}, // BCL-08
		{"expired", func(_, c map[string]any) { c["exp"] = after(-time.Minute) }, nil},
		{"exp in a year", func(_, c map[string]any) { c["exp"] = after(365 * 24 * time.Hour) }, nil},
		{"no jti", without("jti"), nil}, // BCL-09, lesson 34
		{"an empty jti", claim("jti", ""), nil},
		{"a jti that is a number", claim("jti", 1), nil},
		{"neither sub nor sid", without("sub", "sid"), nil}, // BCL-10
		{"a sub that is a number", claim("sub", 1), nil},
		{"an empty sid", claim("sid", ""), nil},
		{"no events", without("events"), nil}, // BCL-11
		{"events as text", claim("events", "http://schemas.openid.net/event/backchannel-logout"), nil},
		{"another event", claim("events", map[string]any{"http://schemas.openid.net/event/backchannel-login": map[string]any{}}), nil},
		{"an event that is true", claim("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": true}), nil},
		{"a nonce", claim("nonce", "n"), nil}, // BCL-12
		{"a nonce that is null", claim("nonce", nil), nil},
		{"an empty nonce", claim("nonce", ""), nil},
		{"an access token", head("typ", "at+jwt"), nil}, // BCL-13
	} {
		t.Run(tt.name, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				cookie := p.login()
				before := p.shelf.everything()
				token := p.op.LogoutToken("alice", p.op.SIDs("alice")[0], func(header, claims map[string]any) {
					if tt.edit != nil {
						tt.edit(header, claims)
					}
				})
				if tt.mangle != nil {
					token = tt.mangle(token)
				}
				checkRefusal(t, q.tellToken(token))
				standing(t, cookie, "alice", p, q)
				if left := p.shelf.everything(); len(left) != len(before) { // BCL-14: nothing is remembered of it
					t.Errorf("%d items are in the store, and %d were before", len(left), len(before))
				}
			})
		})
	}
}

// BCL-05: an ID token, which every client gets, is no logout token.
func TestAnIDTokenLogsNobodyOut(t *testing.T) {
	everyMode(t, func(t *testing.T, p, _ *process) {
		var idToken string
		p.op.Change(func(k *oidcauthtest.Knobs) {
			k.EditTokens = func(r map[string]any) { idToken, _ = r["id_token"].(string) }
		})
		cookie := p.login()
		checkRefusal(t, p.tellToken(idToken))
		standing(t, cookie, "alice", p)
	})
}

// BCL-13, BCL-08, BCL-07: what older providers send is accepted, or refused, by an option.
func TestOptionsOfLogoutTokens(t *testing.T) {
	typ := func(value string) func(header, claims map[string]any) {
		return func(header, _ map[string]any) {
			if header["typ"] = value; value == "" {
				delete(header, "typ")
			}
		}
	}
	issued := func(ago time.Duration) func(header, claims map[string]any) {
		return func(_, claims map[string]any) {
			delete(claims, "exp")
			claims["iat"] = time.Now().Add(-ago).Unix()
		}
	}
	strict := func(o *oidcauth.Options) { o.RequireLogoutTyp = true }
	within := func(d time.Duration) func(*oidcauth.Options) {
		return func(o *oidcauth.Options) { o.LogoutTokenMaxAge = d }
	}
	none := func(*oidcauth.Options) {}
	for _, tt := range []struct {
		name   string
		option func(*oidcauth.Options)
		edit   func(header, claims map[string]any)
		want   int
	}{
		{"typ of the standard", none, typ("logout+jwt"), 200},
		{"typ as a whole media type, in capitals", none, typ("Application/Logout+JWT"), 200},
		{"typ JWT", none, typ("JWT"), 200},
		{"no typ", none, typ(""), 200},
		{"strict: typ of the standard", strict, typ("logout+jwt"), 200},
		{"strict: typ JWT", strict, typ("JWT"), 400},
		{"strict: no typ", strict, typ(""), 400},
		{"no exp, and it is demanded", none, issued(0), 400},
		{"no exp, just issued", within(2 * time.Minute), issued(0), 200},
		{"no exp, issued 149 s ago: 30 s are for the clocks", within(2 * time.Minute), issued(149 * time.Second), 200},
		{"no exp, issued 151 s ago", within(2 * time.Minute), issued(151 * time.Second), 400},
		{"no exp, issued a minute ahead", within(5 * time.Minute), issued(-time.Minute), 400},
		{"an exp counts where there is one", within(time.Minute), func(_, c map[string]any) {
			c["iat"] = time.Now().Add(-4 * time.Minute).Unix()
		}, 200},
		{"an exp that has passed", within(5 * time.Minute), func(_, c map[string]any) {
			c["exp"] = time.Now().Add(-31 * time.Second).Unix()
		}, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				cookie, want := p.login(), nobody
				time.Sleep(5 * time.Minute) // the login is older than every token
				resp := q.tellToken(p.op.LogoutToken("alice", p.op.SIDs("alice")[0], tt.edit))
				if resp.StatusCode != tt.want {
					t.Errorf("the answer is %d, want %d: %s", resp.StatusCode, tt.want, q.logs)
				}
				checkQuiet(t, resp)
				if tt.want != http.StatusOK {
					want = "alice"
				}
				standing(t, cookie, want, p, q)
			}, tt.option)
		})
	}
}

// BCL-16, BCL-29: who asks learns nothing about the sessions that there are.
func TestAnAnswerDoesNotTellKnownFromUnknownSessions(t *testing.T) {
	everyMode(t, func(t *testing.T, p, _ *process) {
		p.login()
		var answers []string
		for _, token := range []string{
			p.op.LogoutToken("alice", p.op.SIDs("alice")[0]), p.op.LogoutToken("alice", ""), p.op.LogoutToken("", "unknown"),
			p.op.LogoutToken("mallory", ""), p.op.LogoutToken("mallory", p.op.SIDs("alice")[0]),
		} {
			began := time.Now()
			resp := p.tellToken(token)
			answers = append(answers, fmt.Sprint(resp.StatusCode, resp.Header, body(resp), time.Since(began)))
		}
		for _, answer := range answers {
			if answer != answers[0] || !strings.HasPrefix(answer, "200 ") {
				t.Errorf("the answers are %q and %q", answers[0], answer)
			}
		}
	})
}

// BCL-25: where no session can be ended the route is none, and to switch it on is a mistake.
func TestNoRouteAnswersWhatItCannotDo(t *testing.T) {
	t.Parallel()
	bare := func(o *oidcauth.Options) { o.Store = struct{ oidcauth.SessionStore }{o.Store} }
	alone := func(o *oidcauth.Options) { o.Store = nil }
	for name, mode := range map[string]func(*oidcauth.Options){"a store without an index": bare, "no store": alone} {
		p := newProcess(t, mode)
		cookie := p.login()
		if got := body(p.tellToken(p.op.LogoutToken("alice", ""))); got != nobody {
			t.Errorf("%s: the route answers with %q", name, got)
		}
		standing(t, cookie, "alice", p)
		o := p.op.Options()
		o.Store = p.faults.Store()
		mode(&o)
		for _, set := range []func(*oidcauth.Options){
			func(o *oidcauth.Options) { o.Routes.BackchannelLogout = backchannelPath },
			func(o *oidcauth.Options) { o.Routes.FrontchannelLogout = "/auth/frontchannel-logout" },
		} {
			wrong := o
			set(&wrong)
			if _, err := oidcauth.New(wrong); len(configErrors(err)) != 1 {
				t.Errorf("%s: New says %v", name, err)
			}
		}
	}
}
