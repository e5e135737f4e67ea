package oidcauth_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// An upstream is an API in memory that notes what it was asked, in the order of the answers. Its answer is 200 unless
// there is another.
type upstream struct {
	answer http.HandlerFunc

	mu    sync.Mutex
	asked []upstreamRequest
}

// An upstreamRequest is one that arrived at the API, with its body.
type upstreamRequest struct {
	*http.Request
	body string
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, _ := io.ReadAll(r.Body) // an error is a client that went away
	u.mu.Lock()
	u.asked = append(u.asked, upstreamRequest{r, string(text)})
	u.mu.Unlock()
	if u.answer != nil {
		u.answer(w, r)
	}
}

// requests returns what was asked so far.
func (u *upstream) requests() []upstreamRequest {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.asked)
}

// last returns the newest request, and fails the test if there is none.
func (u *upstream) last(t testing.TB) upstreamRequest {
	t.Helper()
	all := u.requests()
	if len(all) == 0 {
		t.Fatal("nothing reached the API")
	}
	return all[len(all)-1]
}

// A bff is an application whose /api/ is a proxy to https://api.test/v1/, where Alice is signed in.
type bff struct {
	*app
	api    *upstream
	proxy  http.Handler
	cookie string
}

// newBFF returns an application with a proxy of the options o, which may leave out Prefix and Target.
func newBFF(t testing.TB, o oidcauth.ProxyOptions, edit ...func(*oidcauth.Options)) *bff {
	t.Helper()
	return newBFFAt(t, oidcauthtest.NewProvider(t), o, edit...)
}

// newBFFAt is [newBFF] with a provider that there is already.
func newBFFAt(t testing.TB, op *oidcauthtest.Provider, o oidcauth.ProxyOptions, edit ...func(*oidcauth.Options)) *bff {
	t.Helper()
	b := &bff{app: newAppAt(t, op, edit...), api: &upstream{}}
	b.op.Serve("api.test", b.api)
	if o.Prefix == "" {
		o.Prefix = "/api/"
	}
	if o.Target == "" {
		o.Target = "https://api.test/v1/"
	}
	proxy, err := b.Proxy(o)
	if err != nil {
		t.Fatalf("proxy: %v", err)
	}
	b.proxy = proxy
	b.mux.Handle("/api/", proxy)
	b.cookie = newAppAt(t, op).cookies(t, oidcauthtest.Alice) // by another process, which edit does not concern
	return b
}

// request is one that a script of the application makes, with headers as for [ask]: an empty value leaves out what is
// sent otherwise.
func (b *bff) request(method, target, content string, header ...string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(content))
	r.Host, r.Proto, r.ProtoMinor = "app.test", "HTTP/1.1", 1
	r.Header.Set("Cookie", b.cookie)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Sec-Fetch-Mode", "cors")
	r.Header.Set("Sec-Fetch-Dest", "empty")
	for pair := range slices.Chunk(header, 2) {
		if r.Header.Del(pair[0]); pair[1] != "" {
			r.Header.Set(pair[0], pair[1])
		}
	}
	return r
}

// call lets the application answer such a request.
func (b *bff) call(method, target, content string, header ...string) *http.Response {
	return answerTo(b.handler, b.request(method, target, content, header...))
}

// apiSays returns an answer with a status, headers by turns, and a text.
func apiSays(status int, text string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for pair := range slices.Chunk(header, 2) {
			w.Header().Add(pair[0], pair[1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text) // fails where the status allows none
	}
}

// jsonError returns the code of a JSON error.
func jsonError(t testing.TB, resp *http.Response) (code, loginURL string) {
	t.Helper()
	var answer struct {
		Error    string
		LoginURL string `json:"login_url"`
	}
	text := body(resp)
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Errorf("%d with no JSON: %q", resp.StatusCode, text)
	}
	return answer.Error, answer.LoginURL
}

func TestProxyAddsTheTokenAndChangesNothingElse(t *testing.T) {
	t.Parallel()
	b := newBFF(t, oidcauth.ProxyOptions{})
	b.api.answer = apiSays(http.StatusCreated, `{"id":7}`, "Content-Type", "application/json", "Etag", `"1"`)
	resp := b.call("POST", "/api/users?a=1", `{"name":"Bob"}`, "Content-Type", "application/json", "Accept", "*/*")
	got := b.api.last(t)
	if got.Method != "POST" || got.Host != "api.test" || got.RequestURI != "/v1/users?a=1" ||
		got.body != `{"name":"Bob"}` {
		t.Errorf("the API got %s %s%s %q", got.Method, got.Host, got.RequestURI, got.body)
	}
	if got.ContentLength != 14 || got.Header.Get("Content-Type") != "application/json" ||
		got.Header.Get("Accept") != "*/*" {
		t.Errorf("the API got %d bytes, %v", got.ContentLength, got.Header)
	}
	token, ok := strings.CutPrefix(got.Header.Get("Authorization"), "Bearer ")
	if subject, _, _, live := b.op.AccessToken(token); !ok || !live || subject != "alice" {
		t.Errorf("the API got the token of %q, live %t", subject, live)
	}
	if text := body(resp); resp.StatusCode != 201 || text != `{"id":7}` || resp.Header.Get("Etag") != `"1"` {
		t.Errorf("the browser got %d %q %v", resp.StatusCode, text, resp.Header)
	}
	if setsCookie := resp.Header["Set-Cookie"]; setsCookie != nil {
		t.Errorf("the answer sets cookies although nothing is due")
	}
}

// THR-56: no parser of ours, nor ReverseProxy's, comes between.
func TestProxyPassesTheQueryByteForByte(t *testing.T) {
	t.Parallel()
	b := newBFF(t, oidcauth.ProxyOptions{})
	for _, query := range []string{
		"", "?", "?a", "?a=", "?=", "?&", "?&&a=1&&", "?a=1&a=2&a=1", "?b=1&a=2", "?a=1;b=2", "?;", "?a=%3B", "?a+b=c+d",
		"?a=%20+%2B", "?a=%", "?a=%zz", "?a=%2", "?a=%00", "?a=%0d%0aX:1", "?a=%2e%2e%2f", "?a=../..", "?a=//evil.test",
		"?a=%C3%A4%ff", "?a=\u00e4", "?a[]=1&a[b]=2", `?a="<>^|{}`, "?a=?b=?", "?a=1&A=1", "?access_token=x",
		"?" + strings.Repeat("a=1&", 2000),
	} {
		resp := b.call("GET", "/api/x"+query, "")
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%.40q: %d", query, resp.StatusCode)
		} else if got := b.api.last(t).RequestURI; got != "/v1/x"+query {
			t.Errorf("%.40q became %.60q", query, got)
		}
	}
}

func TestProxyPassesPathsAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ target, path, want string }{
		{"https://api.test/v1/", "/api/", "/v1/"},
		{"https://api.test/v1", "/api/", "/v1/"},
		{"https://api.test", "/api/", "/"},
		{"https://api.test/v1/", "/api/users", "/v1/users"},
		{"https://api.test/v1/", "/api/users/", "/v1/users/"},
		{"https://api.test", "/api/users/", "/users/"},
		{"https://api.test/a%20b/", "/api/x", "/a%20b/x"},
		{"https://api.test/v1/", "/api/a%20b", "/v1/a%20b"},
		{"https://api.test/v1/", "/api/a+b", "/v1/a+b"},
		{"https://api.test/v1/", "/api/%C3%A4", "/v1/%C3%A4"},
		{"https://api.test/v1/", "/api/%c3%a4", "/v1/%c3%a4"},
		{"https://api.test/v1/", "/api/auth0%7C123", "/v1/auth0%7C123"},
		{"https://api.test/v1/", "/api/auth0|123", "/v1/auth0%7C123"},
		{"https://api.test/v1/", "/api/a;b=c;d", "/v1/a;b=c;d"},
		{"https://api.test/v1/", "/api/a:b@c!$&'()*,=~", "/v1/a:b@c!$&'()*,=~"},
		{"https://api.test/v1/", "/api/100%25", "/v1/100%25"},
		{"https://api.test/v1/", "/api/a.b/.well-known/x..y", "/v1/a.b/.well-known/x..y"},
		{"https://api.test/v1/", "/api/%3Fa", "/v1/%3Fa"},
		{"https://api.test/v1/", "/api/api/x", "/v1/api/x"},
	} {
		b := newBFF(t, oidcauth.ProxyOptions{Target: tt.target})
		if resp := b.call("GET", tt.path, ""); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", tt.path, resp.StatusCode)
		} else if got := b.api.last(t).RequestURI; got != tt.want {
			t.Errorf("%s at %s became %s, want %s", tt.path, tt.target, got, tt.want)
		}
	}
}

func TestProxyBelowABasePath(t *testing.T) {
	t.Parallel()
	for _, stripped := range []bool{false, true} {
		op := oidcauthtest.NewProvider(t, func(o *oidcauth.Options) { o.BaseURL += "/shop" })
		b := newBFFAt(t, op, oidcauth.ProxyOptions{}, func(o *oidcauth.Options) { o.PrefixStripped = stripped })
		b.api.answer = apiSays(http.StatusFound, "", "Location", "https://api.test/v1/there?x=1")
		inside, other := "/shop/api/here", "/api/here"
		if stripped {
			inside, other = other, inside
		}
		resp := answerTo(b.proxy, b.request("GET", inside, ""))
		if resp.StatusCode != http.StatusFound || resp.Header.Get("Location") != "/shop/api/there?x=1" {
			t.Errorf("stripped %t: %d %s", stripped, resp.StatusCode, resp.Header.Get("Location"))
		}
		if got := b.api.last(t).RequestURI; got != "/v1/here" {
			t.Errorf("stripped %t: the API got %s", stripped, got)
		}
		if resp := answerTo(b.proxy, b.request("GET", other, "")); resp.StatusCode != http.StatusNotFound {
			t.Errorf("stripped %t: %s: %d", stripped, other, resp.StatusCode)
		}
	}
}

// What the API says about a request is the page's to read, except how to authenticate (THR-59).
func TestProxyPassesAnswersUnchanged(t *testing.T) {
	t.Parallel()
	b := newBFF(t, oidcauth.ProxyOptions{})
	for _, status := range []int{
		200, 201, 202, 204, 206, 207, 226, 300, 304, 400, 401, 402, 403, 404, 405, 406, 409, 410, 412, 415, 416, 418,
		422, 423, 425, 428, 429, 431, 451, 500, 501, 502, 503, 504, 507, 599, 999,
	} {
		text := fmt.Sprintf(`{"status":%d}`, status)
		if status == 204 || status == 304 {
			text = ""
		}
		b.api.answer = apiSays(status, text, "Content-Type", "application/problem+json", "Retry-After", "120",
			"WWW-Authenticate", `Basic realm="x"`, "X-Ratelimit-Remaining", "0")
		resp := b.call("GET", "/api/x", "")
		if got := body(resp); resp.StatusCode != status || got != text {
			t.Errorf("%d became %d %q", status, resp.StatusCode, got)
		}
		h := resp.Header
		if h.Get("Retry-After") != "120" || h.Get("X-Ratelimit-Remaining") != "0" || h.Get("WWW-Authenticate") != "" ||
			h.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%d: %v", status, h)
		}
	}
	if len(b.op.Requests("token")) != 1 {
		t.Error("tokens were asked for, though no answer said that one is invalid")
	}
}

// THR-63, and OPTIONS, which only the application's own pages can send anyway.
func TestProxyMethods(t *testing.T) {
	t.Parallel()
	standard := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
	chosen := []string{"GET", "OPTIONS", "QUERY"}
	all := slices.Concat(standard, chosen, []string{"CONNECT", "TRACE", "get", "PURGE", "PROPFIND"})
	for _, tt := range []struct{ methods, want []string }{{nil, standard}, {chosen, chosen}} {
		b := newBFF(t, oidcauth.ProxyOptions{Methods: tt.methods})
		for _, method := range all {
			before := len(b.api.requests())
			r := b.request("GET", "/api/x", "content")
			r.Method = method // also what httptest.NewRequest does not take
			resp := answerTo(b.proxy, r)
			passed := len(b.api.requests()) > before
			if want := slices.Contains(tt.want, method); passed != want {
				t.Errorf("%s: passed %t, status %d", method, passed, resp.StatusCode)
			}
			switch {
			case passed && (b.api.last(t).Method != method || resp.StatusCode != http.StatusOK):
				t.Errorf("%s became %s, %d", method, b.api.last(t).Method, resp.StatusCode)
			case !passed && (resp.StatusCode != 405 || resp.Header.Get("Allow") != strings.Join(tt.want, ", ")):
				t.Errorf("%s: %d, Allow %q", method, resp.StatusCode, resp.Header.Get("Allow"))
			}
		}
	}
}

func TestProxyScopes(t *testing.T) {
	t.Parallel()
	const audience = "https://api.test/"
	b := newBFF(t, oidcauth.ProxyOptions{
		Audience: audience, Scopes: []string{"read"}, AllowedScopes: []string{"read", "write"},
	})
	for _, tt := range []struct{ asked, want string }{
		{"", "read"},
		{"read", "read"},
		{"write", "write"},
		{"  write  ", "write"},
		{"read write", "read write"},
		{"admin", ""},
		{"write admin", ""},
		{"Write", ""},
		{"write,read", ""},
		{"openid", ""},
		{"offline_access", ""},
	} {
		before := len(b.api.requests())
		resp := b.call("GET", "/api/x", "", "Scope", tt.asked)
		if tt.want == "" {
			code, _ := jsonError(t, resp)
			if resp.StatusCode != 400 || code != "invalid_scope" || len(b.api.requests()) > before {
				t.Errorf("%q: %d %s", tt.asked, resp.StatusCode, code)
			}
			continue
		}
		got := b.api.last(t)
		token, _ := strings.CutPrefix(got.Header.Get("Authorization"), "Bearer ")
		_, aud, scope, ok := b.op.AccessToken(token)
		if !ok || aud != audience || scope != tt.want || got.Header["Scope"] != nil {
			t.Errorf("%q: a token for %q with %q, header %q", tt.asked, aud, scope, got.Header["Scope"])
		}
	}
}

// Optional is for APIs that are partly public (S13).
func TestOptionalProxyPassesWithoutASession(t *testing.T) {
	t.Parallel()
	for _, cookie := range []string{"", "__Host-session=forged", "other=1"} {
		b := newBFF(t, oidcauth.ProxyOptions{Optional: true})
		resp := b.call("GET", "/api/x", "", "Cookie", cookie, "Authorization", "Bearer mine", "Dpop", "x", "Cookie2", "x")
		got := b.api.last(t).Header
		if resp.StatusCode != http.StatusOK || got["Authorization"] != nil || got["Cookie"] != nil || got["Dpop"] != nil ||
			got["Cookie2"] != nil {
			t.Errorf("cookie %q: %d, the API got %v", cookie, resp.StatusCode, got)
		}
		if b.call("GET", "/api/x", ""); !strings.HasPrefix(b.api.last(t).Header.Get("Authorization"), "Bearer at-") {
			t.Error("with a session there is no token")
		}
		if resp := b.call("GET", "/api/x", "", "Cookie", "", "Sec-Fetch-Site", "cross-site"); resp.StatusCode != 403 {
			t.Errorf("cross-site without a session: %d", resp.StatusCode)
		}
	}
}

// THR-62: no redirect, whatever Accept says (lessons 28 and 38).
func TestProxyWithoutASession(t *testing.T) {
	t.Parallel()
	b := newBFF(t, oidcauth.ProxyOptions{})
	for _, cookie := range []string{"", "__Host-session=forged", b.cookie[:len(b.cookie)-10]} {
		for _, accept := range []string{"", "text/html", "text/event-stream", "application/json"} {
			resp := b.call("GET", "/api/x", "", "Cookie", cookie, "Accept", accept)
			code, login := jsonError(t, resp)
			if resp.StatusCode != 401 || code != "unauthenticated" || login != "/auth/login" {
				t.Errorf("%s: %d %s, login at %s", accept, resp.StatusCode, code, login)
			}
			if got := resp.Header.Get("Cache-Control"); got != "private, no-store" || resp.Header.Get("Location") != "" {
				t.Errorf("%s: %v", accept, resp.Header)
			}
		}
	}
	if n := len(b.api.requests()); n > 0 {
		t.Errorf("%d requests reached the API", n)
	}
}

// THR-60, S12: only the browser's own cache may keep an answer, and none that sets our cookie.
func TestProxyCaching(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBFF(t, oidcauth.ProxyOptions{})
		for said, want := range map[string]string{
			"": "private, no-store", "public, max-age=60": "private, max-age=60", "public": "private, no-store",
			"private": "private", "private, max-age=60": "private, max-age=60", "no-cache": "private, no-cache",
			"s-maxage=600": "private, no-store", `private="x"`: "private, no-store", "no-store": "private, no-store",
			"max-age=60, must-revalidate": "private, max-age=60, must-revalidate",
		} {
			b.api.answer = apiSays(200, "x", "Cache-Control", said, "Vary", "Accept-Encoding", "Etag", `"1"`,
				"Cdn-Cache-Control", "public", "Surrogate-Control", "max-age=60", "Expires", "Fri, 01 Jan 2100 00:00:00 GMT")
			resp := b.call("GET", "/api/x", "")
			vary := strings.Join(resp.Header["Vary"], ", ")
			if got := resp.Header["Cache-Control"]; len(got) != 1 || got[0] != want || !strings.Contains(vary, "Cookie") ||
				!strings.Contains(vary, "Accept-Encoding") || resp.Header["Cdn-Cache-Control"] != nil ||
				resp.Header["Surrogate-Control"] != nil || resp.Header.Get("Etag") != `"1"` {
				t.Errorf("%q became %q; %v", said, got, resp.Header)
			}
		}
		time.Sleep(2 * time.Hour)
		b.api.answer = apiSays(200, "x", "Cache-Control", "private, max-age=60", "Expires", "Fri, 01 Jan 2100 00:00:00 GMT")
		resp := b.call("GET", "/api/x", "")
		if got := resp.Header.Get("Cache-Control"); got != "private, no-store" || len(sessionLines(resp.Header)) == 0 {
			t.Errorf("with a refreshed session: %q, %d cookies", got, len(sessionLines(resp.Header)))
		}
		b.settle(t)
	})
}

func TestProxyConditionalAndPartialRequests(t *testing.T) {
	t.Parallel()
	b := newBFF(t, oidcauth.ProxyOptions{})
	modified := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b.api.answer = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"v1"`)
		w.Header().Set("Cache-Control", "private, max-age=0")
		http.ServeContent(w, r, "x.txt", modified, strings.NewReader("0123456789"))
	}
	for _, tt := range []struct {
		header []string
		status int
		body   string
	}{
		{nil, 200, "0123456789"},
		{[]string{"If-None-Match", `"v1"`}, 304, ""},
		{[]string{"If-None-Match", `"v0"`}, 200, "0123456789"},
		{[]string{"If-Match", `"v0"`}, 412, ""},
		{[]string{"If-Modified-Since", "Fri, 02 Jan 2026 03:04:05 GMT"}, 304, ""},
		{[]string{"If-Unmodified-Since", "Thu, 01 Jan 2026 03:04:05 GMT"}, 412, ""},
		{[]string{"Range", "bytes=2-4"}, 206, "234"},
		{[]string{"Range", "bytes=-2"}, 206, "89"},
		{[]string{"Range", "bytes=2-4", "If-Range", `"v0"`}, 200, "0123456789"},
		{[]string{"Range", "bytes=20-"}, 416, "invalid range: failed to overlap\n"},
	} {
		resp := b.call("GET", "/api/x", "", tt.header...)
		if got := body(resp); resp.StatusCode != tt.status || got != tt.body {
			t.Errorf("%q: %d %q", tt.header, resp.StatusCode, got)
		}
		if got := resp.Header.Get("Content-Range"); tt.status == 206 && !strings.HasSuffix(got, "/10") {
			t.Errorf("%q: Content-Range %q", tt.header, got)
		}
	}
	if resp := b.call("HEAD", "/api/x", ""); resp.StatusCode != 200 || resp.Header.Get("Content-Length") != "10" {
		t.Errorf("HEAD: %d %v", resp.StatusCode, resp.Header)
	}
}

// Compressed bodies are nobody's to unpack on the way.
func TestProxyPassesContentEncodings(t *testing.T) {
	t.Parallel()
	b := newBFF(t, oidcauth.ProxyOptions{})
	const packed = "\x1f\x8b\x08 not really gzip"
	b.api.answer = apiSays(200, packed, "Content-Encoding", "gzip", "Content-Type", "text/plain")
	for asked, want := range map[string]string{
		"gzip, br;q=0.5": "gzip, br;q=0.5", "": "identity",
		"identity": "identity",
	} {
		resp := b.call("POST", "/api/x", packed, "Content-Encoding", "gzip", "Accept-Encoding", asked)
		got := b.api.last(t)
		if got.body != packed || got.Header.Get("Content-Encoding") != "gzip" || got.Header.Get("Accept-Encoding") != want {
			t.Errorf("%q: the API got %q, %v", asked, got.body, got.Header)
		}
		if text := body(resp); text != packed || resp.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%q: the browser got %q, %v", asked, text, resp.Header)
		}
	}
}

func TestProxyForwardHeaders(t *testing.T) {
	t.Parallel()
	b := newBFF(t, oidcauth.ProxyOptions{ForwardHeaders: []string{"x-tenant", "X-Api-Version"}})
	b.call("GET", "/api/x", "", "X-Tenant", "a", "X-Api-Version", "2", "X-Other", "3")
	h := b.api.last(t).Header
	if h.Get("X-Tenant") != "a" || h.Get("X-Api-Version") != "2" || h["X-Other"] != nil {
		t.Errorf("the API got %v", h)
	}
	r := b.request("GET", "/api/x", "")
	r.Header["X-Tenant"], r.Header["X_tenant"], r.Header["x-api-version"] = []string{
		"a",
		"b",
	}, []string{"c"}, []string{"d"}
	answerTo(b.handler, r)
	if h := b.api.last(t).Header; !slices.Equal(h["X-Tenant"], []string{"a", "b"}) || h["X_tenant"] != nil {
		t.Errorf("the API got %v", h)
	}
}
