package oidcauth_test

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// BFF-06, S13: whatever the method, only the application's own pages can make us attach a token.
func TestProxyAnswersOnlyItsOwnPages(t *testing.T) {
	t.Parallel()
	b := newBFF(t, oidcauth.ProxyOptions{Methods: []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}})
	const ours, sibling = "https://app.test", "https://blog.app.test"
	allowed := map[[3]string]bool{ // site, origin, requested with
		{"", ours, ""}: true, {"", ours, "x"}: true, // browsers without Fetch metadata, or plain http
		{"", "", "x"}: true, // of GET requests they tell no Origin
	}
	origins := []string{
		"", ours, "null", sibling, "https://evil.test", "http://app.test", "https://app.test:8443", "https://APP.test",
	}
	for _, origin := range origins {
		for _, with := range []string{"", "x"} {
			allowed[[3]string{"same-origin", origin, with}] = true // only the browser itself says so
		}
	}
	for _, site := range []string{
		"same-origin", "same-site", "cross-site", "none", "", "Same-Origin", "same-origin, none",
	} {
		for _, origin := range origins {
			for _, with := range []string{"", "x"} {
				want := allowed[[3]string{site, origin, with}]
				for _, method := range []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"} {
					header := []string{"Sec-Fetch-Site", site, "Origin", origin, "X-Requested-With", with}
					if site == "" {
						header = append(header, "Sec-Fetch-Mode", "", "Sec-Fetch-Dest", "")
					}
					b.mustPass(t, want, method, header...)
				}
			}
		}
	}
}

// mustPass checks that a request reaches the API, or is refused with 403.
func (b *bff) mustPass(t *testing.T, want bool, method string, header ...string) {
	t.Helper()
	before := len(b.api.requests())
	resp := b.call(method, "/api/x", "", header...)
	passed := len(b.api.requests()) > before
	if passed != want || passed && resp.StatusCode != 200 || !passed && resp.StatusCode != 403 {
		t.Errorf("%s %q: passed %t, status %d", method, header, passed, resp.StatusCode)
	}
}

// S13: navigations, frames, plug-ins, workers and code never pass, not even from our own pages.
func TestProxyAnswersOnlyScripts(t *testing.T) {
	t.Parallel()
	plain := newBFF(t, oidcauth.ProxyOptions{})
	media := newBFF(t, oidcauth.ProxyOptions{Destinations: []string{"image", "audio", "video", "track", "font"}})
	modes := []string{"", "cors", "no-cors", "same-origin", "navigate", "nested-navigate", "websocket", "CORS"}
	for _, dest := range []string{
		"", "empty", "image", "audio", "video", "track", "font", "document", "iframe", "frame", "fencedframe", "object",
		"embed",
		"script", "style", "worker", "sharedworker", "serviceworker", "audioworklet", "paintworklet", "manifest",
		"report", "xslt",
		"json", "webidentity", "speculationrules", "dictionary", "IMAGE",
	} {
		for i, mode := range modes {
			scripted := i < 4
			header := []string{"Sec-Fetch-Mode", mode, "Sec-Fetch-Dest", dest}
			isMedia := strings.Contains(" image audio video track font ", " "+dest+" ")
			if mode == "websocket" { // has an answer of its own
				if resp := plain.call("GET", "/api/x", "", header...); resp.StatusCode != 400 {
					t.Errorf("%q: %d", header, resp.StatusCode)
				}
				continue
			}
			plain.mustPass(t, scripted && (dest == "" || dest == "empty"), "GET", header...)
			media.mustPass(t, scripted && (dest == "" || dest == "empty" || isMedia), "GET", header...)
		}
	}
	media.mustPass(t, false, "GET", "Sec-Fetch-Dest", "image", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Site", "same-site")
}

// The same with a whole browser: links, forms, frames and scripts of ours and of another site.
func TestProxyInABrowser(t *testing.T) {
	t.Parallel()
	b := newBFF(t, oidcauth.ProxyOptions{})
	b.browser.SignIn(oidcauthtest.Alice)
	evil, sibling := b.browser.From("https://evil.test"), b.browser.From("https://blog.app.test")
	for name, tt := range map[string]struct {
		resp *oidcauthtest.Response
		want int
	}{
		"a script of ours":                {b.browser.Fetch("/api/x"), 200},
		"the address bar, or a link":      {b.browser.Get("/api/x"), 403},
		"a form of ours":                  {b.browser.Post("/api/x", url.Values{"a": {"1"}}), 403},
		"a script of another site":        {evil.Fetch("https://app.test/api/x"), 403},
		"a link of another site":          {evil.Get("https://app.test/api/x"), 403},
		"a form of another site":          {evil.Post("https://app.test/api/x", url.Values{"a": {"1"}}), 403},
		"a script of a sibling subdomain": {sibling.Fetch("https://app.test/api/x"), 403},
	} {
		if tt.resp.StatusCode != tt.want {
			t.Errorf("%s: %d", name, tt.resp.StatusCode)
		}
		if h := tt.resp.Header; h.Get("Access-Control-Allow-Origin") != "" || h.Get("Location") != "" {
			t.Errorf("%s: %v", name, h)
		}
	}
	if n := len(b.api.requests()); n != 1 {
		t.Errorf("%d requests reached the API, want that of our script alone", n)
	}
}

// THR-50, lesson 37, BFF-07: nothing but what is below the target.
func TestProxyPathTraversal(t *testing.T) {
	t.Parallel()
	b := newBFF(t, oidcauth.ProxyOptions{})
	for _, path := range []string{
		"%2e%2e/admin", "%2E%2E/admin", ".%2e/admin", "%2e./admin", "%2e/x", "..%2fadmin", "..%2Fadmin", "%2e%2e%2fadmin",
		"a/%2e%2e/%2e%2e/admin", "a/..%2f..%2fadmin", "a%2fb", "%2fadmin", "a/%2f/b", `..\admin`, "..%5cadmin", "%5c%5cadmin",
		"a%5cb", "..;/admin", "a;b=../c", "..;a=b/admin", ";/admin", "..%3b/admin", ".;/x", "a/..;/b", "%252e%252e/admin",
		"..%252fadmin", "%252fadmin", "%255c", "%25252e%25252e/x", "a%00b", "a%00", "a%0a", "a%0d%0aX-Evil:1",
		"%c0%ae%c0%ae/admin",
		"%c0%af", "%e0%80%af", "%ff", "\u2025/admin", "%ef%bc%8e%ef%bc%8e/x", "%e2%80%a5/admin", "a//b", "/admin",
		"//evil.test/x",
		"a/./b", "./x", "../admin", "a/../../admin", "...", ".../x", "..%20/x", "a/b/..", "a/.", "..", ".", "%2e", "%2e%2e",
		"..%09/x", "%u002e%u002e/x", "a%7f", "..%c2%a0%2f",
	} {
		for name, h := range map[string]http.Handler{"bare": b.proxy, "below a mux": b.handler} {
			before := len(b.api.requests())
			r := b.request("GET", "/api/x", "")
			parsed, err := url.ParseRequestURI("/api/" + path)
			if err != nil {
				continue // the server refuses it itself
			}
			r.URL, r.RequestURI = parsed, "/api/"+path
			resp := answerTo(h, r)
			if name == "below a mux" && resp.StatusCode == http.StatusTemporaryRedirect {
				continue // to the cleaned path, by the mux
			}
			if resp.StatusCode != 400 || len(b.api.requests()) > before {
				t.Errorf("%s, %s: %d", name, path, resp.StatusCode)
			}
		}
	}
	for _, path := range []string{
		"/api", "/", "/ap", "/apis/x", "/API/x", "/v1/x", "/%61pi/x", "/api%2fx", "/a/api/x", "/x/../api/y",
	} {
		if resp := answerTo(b.proxy, b.request("GET", path, "")); resp.StatusCode != 404 && resp.StatusCode != 400 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	if n := len(b.api.requests()); n > 0 {
		t.Errorf("%d requests reached the API, the last for %s", n, b.api.last(t).RequestURI)
	}
}

// BFF-07, THR-57: no part of the upstream's address comes from the request.
func TestProxyHostIsFixed(t *testing.T) {
	t.Parallel()
	b := newBFF(t, oidcauth.ProxyOptions{})
	evil := &upstream{}
	b.op.Serve("evil.test", evil)
	for _, target := range []string{"https://evil.test/api/x", "http://evil.test:80/api/x", "//evil.test/api/x"} {
		r := b.request("GET", "/api/x", "", "X-Forwarded-Host", "evil.test", "X-Forwarded-Server", "evil.test")
		parsed, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		r.URL, r.Host = parsed, "evil.test"
		answerTo(b.proxy, r)
		if got := b.api.last(t); got.Host != "api.test" {
			t.Errorf("%s: the API got Host %s", target, got.Host)
		}
	}
	b.api.answer = apiSays(302, "", "Location", "https://evil.test/v1/x")
	if resp := b.call("GET", "/api/x", ""); resp.StatusCode != 302 || resp.Header.Get("Location") != "" {
		t.Errorf("a redirect to elsewhere: %d %v", resp.StatusCode, resp.Header)
	}
	if n := len(evil.requests()); n > 0 {
		t.Errorf("%d requests went to another host", n)
	}
}

// THR-51, THR-52, THR-54, THR-55, lesson 37: what no request may tell the API, in any spelling.
func TestProxyDropsRequestHeaders(t *testing.T) {
	t.Parallel()
	b := newBFF(t, oidcauth.ProxyOptions{})
	for _, name := range []string{
		"Cookie2", "Proxy-Authorization", "Dpop", "X-Authorization", "X-Access-Token", "X-Id-Token",
		"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix",
		"X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Access-Token", "X-Forwarded-Client-Cert", "X-Forwarded-Uri",
		"X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "X-Envoy-External-Address",
		"X-Original-Url", "X-Original-Uri", "X-Rewrite-Url", "X-Http-Method-Override", "X-Http-Method", "X-Method-Override",
		"Remote-User", "X-Remote-User", "X-User", "X-Auth-Request-User", "X-Auth-Request-Email", "X-Ms-Client-Principal",
		"X-Amzn-Oidc-Data", "X-Goog-Iap-Jwt-Assertion", "Ssl-Client-Cert", "X-Ssl-Client-Cert", "Client-Cert", "From", "Via",
		"Te", "Trailer", "Transfer-Encoding", "Keep-Alive", "Proxy-Connection", "Upgrade", "Http2-Settings", "Expect",
		"Max-Forwards",
		"Proxy", "Referer", "Origin", "X-Requested-With", "Sec-Fetch-User", "Sec-Ch-Ua", "Scope", "X-Middleware-Subrequest",
		"Access-Control-Request-Method", "Early-Data", "Alt-Used", "Content-Range", "X-Anything-Else",
	} {
		for _, spelled := range []string{name, strings.ReplaceAll(name, "-", "_"), strings.ToLower(name)} {
			r := b.request("GET", "/api/x", "")
			if name == "Origin" || name == "Scope" || name == "Upgrade" { // that are asked about, too
				r.Header[spelled] = []string{map[string]string{"Origin": "https://app.test", "Upgrade": "h2c"}[name]}
			} else {
				r.Header[spelled] = []string{"canary"}
			}
			answerTo(b.handler, r)
			for got := range b.api.last(t).Header {
				if strings.EqualFold(strings.ReplaceAll(got, "_", "-"), name) {
					t.Errorf("%s reached the API", spelled)
				}
			}
		}
	}
}

// THR-52, THR-53: the token is ours, whatever else says Authorization, and no Connection header takes it away.
func TestProxyTokenCannotBeReplacedOrRemoved(t *testing.T) {
	t.Parallel()
	b := newBFF(t, oidcauth.ProxyOptions{})
	for name, edit := range map[string]func(http.Header){
		"another":     func(h http.Header) { h["Authorization"] = []string{"Bearer mine"} },
		"several":     func(h http.Header) { h["Authorization"] = []string{"", "Basic YQ==", "Bearer mine"} },
		"lower case":  func(h http.Header) { h["authorization"] = []string{"Bearer mine"} },
		"Connection":  func(h http.Header) { h["Connection"] = []string{"Authorization, close"} },
		"empty first": func(h http.Header) { h["Connection"] = []string{"", "Authorization"} },
		"both": func(h http.Header) {
			h["Connection"], h["Authorization"] = []string{"authorization"}, []string{"Bearer mine"}
		},
		"of the cookies": func(h http.Header) { h["Connection"] = []string{"Cookie"} },
	} {
		r := b.request("GET", "/api/x", "")
		edit(r.Header)
		resp := answerTo(b.handler, r)
		h := b.api.last(t).Header
		lower := h[strings.ToLower("Authorization")]
		if got := h["Authorization"]; len(got) != 1 || !strings.HasPrefix(got[0], "Bearer at-") || lower != nil {
			t.Errorf("%s: %d, %d credentials reached the API", name, resp.StatusCode, len(got))
		}
	}
}

// THR-51, lesson 37: neither cookies of ours nor any others.
func TestProxyKeepsCookiesAtHome(t *testing.T) {
	t.Parallel()
	b := newBFF(t, oidcauth.ProxyOptions{})
	login := ask(b.handler, "GET", "/auth/login")
	if len(login.Cookies()) != 1 || !isLogin(login.Cookies()[0]) {
		t.Fatalf("no login cookie: %d", login.StatusCode)
	}
	r := b.request("GET", "/api/x", "")
	r.Header["Cookie"] = []string{
		"a=1; " + b.cookie, login.Cookies()[0].Name + "=" + login.Cookies()[0].Value,
		"__Host-session.0=x; __Host-session.1=y",
	}
	b.api.answer = apiSays(200, "x",
		"Set-Cookie", "__Host-session=evil; Path=/; Secure", "Set-Cookie", "a=b", "Set-Cookie2", "c=d")
	resp := answerTo(b.handler, r)
	if h := b.api.last(t).Header; h["Cookie"] != nil || h[strings.ToLower("Cookie")] != nil {
		t.Error("cookies reached the API")
	}
	if got := resp.Header["Set-Cookie"]; resp.StatusCode != 200 || got != nil || resp.Header["Set-Cookie2"] != nil {
		t.Errorf("%d, the API set %q", resp.StatusCode, got)
	}
}

// S13 (4), THR-60, THR-61: what no answer may do on our origin.
func TestProxyDropsResponseHeaders(t *testing.T) {
	t.Parallel()
	b := newBFF(t, oidcauth.ProxyOptions{})
	for _, name := range []string{
		"Clear-Site-Data", "Service-Worker-Allowed", "Refresh", "Strict-Transport-Security", "Alt-Svc", "WWW-Authenticate",
		"Proxy-Authenticate", "Proxy-Authentication-Info", "Authentication-Info", "Authorization", "Cdn-Cache-Control",
		"Surrogate-Control", "Report-To", "Nel", "Reporting-Endpoints", "Link", "Set-Cookie", "Set-Cookie2", "Set-Login",
		"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Allow-Headers",
		"Access-Control-Expose-Headers", "Access-Control-Max-Age", "Access-Control-Allow-Private-Network",
		"Timing-Allow-Origin",
		"Public-Key-Pins", "Expect-Ct", "Accept-Ch", "Critical-Ch", "Origin-Trial", "Speculation-Rules",
		"Supports-Loading-Mode",
		"Sourcemap", "X-Sourcemap", "X-Accel-Redirect", "X-Accel-Buffering", "X-Sendfile", "Permissions-Policy",
		"X-Xss-Protection",
		"Cross-Origin-Opener-Policy", "Cross-Origin-Embedder-Policy", "Content-Security-Policy-Report-Only",
		"Service-Worker-Navigation-Preload",
		"Connection", "Keep-Alive", "Upgrade", "Trailer", "X-Frame-Options", "Origin-Agent-Cluster",
		"X-Permitted-Cross-Domain-Policies",
		"No-Vary-Search-Bad\r\nX", "Document-Policy", "Sec-Websocket-Accept",
	} {
		for _, spelled := range []string{name, strings.ReplaceAll(name, "-", "_"), strings.ToLower(name)} {
			b.api.answer = func(w http.ResponseWriter, _ *http.Request) { w.Header()[spelled] = []string{"canary"} }
			resp := b.call("GET", "/api/x", "")
			for got, values := range resp.Header {
				if strings.Contains(strings.Join(values, ","), "canary") {
					t.Errorf("%q reached the browser as %q", spelled, got)
				}
			}
		}
	}
	b.api.answer = apiSays(200, "x", "X-Total-Count", "7", "Content-Language", "de", "Content-Disposition", "attachment",
		"Last-Modified", "Fri, 02 Jan 2026 03:04:05 GMT", "Accept-Ranges", "bytes", "X-Request-Id", "1", "Allow", "GET",
		"Date", "x")
	resp := b.call("GET", "/api/x", "")
	for _, name := range []string{
		"X-Total-Count", "Content-Language", "Content-Disposition", "Last-Modified", "Accept-Ranges", "X-Request-Id",
		"Allow", "Date",
	} {
		if resp.Header.Get(name) == "" {
			t.Errorf("%s did not reach the browser", name)
		}
	}
}

// S13 (1): uploads of users are no pages of ours.
func TestProxyAnswersCannotRun(t *testing.T) {
	t.Parallel()
	b := newBFF(t, oidcauth.ProxyOptions{})
	// Middleware in front sets the like for pages, and neither weakens the other: a policy that is there twice is none.
	around := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
		w.Header().Set("Referrer-Policy", "unsafe-url")
		w.Header().Set("Content-Security-Policy", "script-src 'self'")
		b.handler.ServeHTTP(w, r)
	})
	for _, contentType := range []string{
		"text/html", "image/svg+xml", "application/xhtml+xml", "text/xml", "text/javascript", "", "x",
	} {
		b.api.answer = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Content-Security-Policy", "default-src *")
			w.Header().Set("X-Content-Type-Options", "none")
			w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
			w.Header().Set("Referrer-Policy", "unsafe-url")
			_, _ = io.WriteString(w, "<script>fetch('/auth/access-token')</script>")
		}
		for name, h := range map[string]http.Handler{"alone": b.proxy, "below Wrap": b.handler, "below middleware": around} {
			resp := answerTo(h, b.request("GET", "/api/x", ""))
			for header, want := range map[string]string{
				"Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
				"X-Content-Type-Options":  "nosniff", "Cross-Origin-Resource-Policy": "same-origin",
				"Referrer-Policy": "no-referrer",
			} {
				got := resp.Header[header]
				if header == "Content-Security-Policy" && len(got) > 0 { // all of several are enforced
					got = got[len(got)-1:]
				}
				if len(got) != 1 || got[0] != want {
					t.Errorf("%s, %s: %s is %q", name, contentType, header, resp.Header[header])
				}
			}
			if resp.Header.Get("Content-Type") != contentType {
				t.Errorf("%s: %s became %s", name, contentType, resp.Header.Get("Content-Type"))
			}
		}
	}
	b.api.answer = apiSays(200, "x", "Content-Type", "multipart/x-mixed-replace; boundary=x")
	// What middleware in front says about caches still holds: a gzip handler packs this answer, too.
	varied := answerTo(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept-Encoding")
		b.handler.ServeHTTP(w, r)
	}), b.request("GET", "/api/x", ""))
	if vary := strings.Join(varied.Header["Vary"], ","); !strings.Contains(vary, "Accept-Encoding") ||
		!strings.Contains(vary, "Cookie") {
		t.Errorf("Vary of a middleware became %q", vary)
	}
	if got := b.call("GET", "/api/x", "").Header.Get("Content-Type"); got != "application/octet-stream" {
		t.Errorf("parts with headers of their own: %s", got)
	}
}

// S13: the API's links stay below the prefix, and no browser is sent elsewhere in our name.
func TestProxyRedirects(t *testing.T) {
	t.Parallel()
	b := newBFF(t, oidcauth.ProxyOptions{})
	for value, want := range map[string]string{
		"https://api.test/v1/users/7": "/api/users/7", "https://api.test:443/v1/x": "/api/x",
		"/v1/users?a=1#b": "/api/users?a=1#b",
		"7":               "/api/users/7", "?page=2": "/api/users/?page=2", "//api.test/v1/x": "/api/x",
		"../other":             "/api/other",
		"https://api.test/v1/": "/api/", "https://api.test/": "", "/": "", "/v2/x": "", "/v1": "", "/v1x/": "",
		"../../admin":            "",
		"https://evil.test/v1/x": "", "//evil.test/v1/x": "", `/\evil.test`: "", `\\evil.test`: "",
		"http://api.test/v1/x":       "",
		"https://api.test:8443/v1/x": "", "https://api.test@evil.test/v1/": "", "https://user@api.test/v1/x": "",
		"javascript:alert(1)": "",
		"/v1/%2e%2e/admin":    "", "/v1/..%2fadmin": "", "/v1//evil.test": "", "data:text/html,x": "", "https:/v1/x": "",
		"%zz":                          "",
		"https://api.test/v1/a%0d%0ab": "", "https://api.test.evil.test/v1/": "",
	} {
		for _, name := range []string{"Location", "Content-Location"} {
			for _, status := range []int{201, 301, 302, 303, 307, 308} {
				b.api.answer = apiSays(status, "", name, value)
				resp := b.call("POST", "/api/users/", "x")
				got, kept := resp.Header.Get(name), resp.Header[name] != nil
				if resp.StatusCode != status || got != want || kept != (want != "") {
					t.Errorf("%s: %s became %q with %d, want %q", name, value, got, resp.StatusCode, want)
				}
			}
		}
	}
}

// THR-61: a preflight of another site is refused like its request, and nothing says otherwise.
func TestProxyHasNoCORS(t *testing.T) {
	t.Parallel()
	for want, methods := range map[int][]string{405: nil, 403: {"GET", "OPTIONS"}} {
		b := newBFF(t, oidcauth.ProxyOptions{Methods: methods})
		resp := b.call("OPTIONS", "/api/x", "", "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.test", "Cookie", "",
			"Access-Control-Request-Method", "PUT", "Access-Control-Request-Headers", "x-requested-with")
		for name := range resp.Header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: %q", name, resp.Header[name])
			}
		}
		if resp.StatusCode != want || len(b.api.requests()) > 0 {
			t.Errorf("%d, want %d", resp.StatusCode, want)
		}
	}
}

// The proxy's Client is the only one whose session counts.
func TestProxyOfAnotherClient(t *testing.T) {
	t.Parallel()
	op := oidcauthtest.NewProvider(t)
	b := newBFFAt(t, op, oidcauth.ProxyOptions{})
	other := newAppAt(t, op, func(o *oidcauth.Options) { o.Secrets = []string{rand.Text() + rand.Text()} })
	resp := answerTo(b.proxy, b.request("GET", "/api/x", "", "Cookie", other.cookies(t, oidcauthtest.Alice)))
	if resp.StatusCode != 401 || len(b.api.requests()) > 0 {
		t.Errorf("%d", resp.StatusCode)
	}
}

// Nobody's token ever goes out for somebody else, and each session's refresh token is spent once.
func TestThousandUsersThroughTheProxy(t *testing.T) {
	t.Parallel()
	const users, each, audience = 1000, 2, "https://api.test/"
	op := oidcauthtest.NewProvider(t, func(o *oidcauth.Options) { o.IDTokenSigningAlgs = []string{"RS256", "ES256"} })
	op.Change(func(k *oidcauthtest.Knobs) { k.SigningAlg = "ES256" }) // is quicker
	b := newBFFAt(t, op, oidcauth.ProxyOptions{Audience: audience})
	b.op.Serve("api.test", b.op.NewAPI(audience))
	cookies := make([]string, users)
	for i := range users {
		cookies[i] = b.cookies(t, oidcauthtest.User{Subject: fmt.Sprintf("user-%d", i)})
	}
	before := b.op.Grants()
	var wg sync.WaitGroup
	work := make(chan int)
	for range 64 {
		wg.Go(func() {
			for i := range work {
				resp := b.call("GET", "/api/me", "", "Cookie", cookies[i])
				if got := body(resp); resp.StatusCode != 200 || !strings.Contains(got, fmt.Sprintf(`"sub":"user-%d"`, i)) {
					t.Errorf("user-%d: %d %s", i, resp.StatusCode, got)
				}
			}
		})
	}
	for i := range users * each {
		work <- i / each // a user's requests side by side
	}
	close(work)
	wg.Wait()
	if n := b.op.Grants() - before; n != users || b.op.Reuses() > 0 {
		t.Errorf("%d grants for %d sessions, %d reuses", n, users, b.op.Reuses())
	}
	b.settle(t)
}
