package oidcauthtest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// The sites of the tests. The application is at appSite.
const (
	appSite  = "https://app.test"
	subSite  = "https://sub.app.test"
	httpSite = "http://app.test"
	opSite   = "https://op.test"
	evilSite = "https://evil.test"
)

// A visit is something that the user of a browser does.
type visit = func(*oidcauthtest.Browser) *oidcauthtest.Response

func get(target string) visit {
	return func(b *oidcauthtest.Browser) *oidcauthtest.Response { return b.Get(target) }
}

func post(target string) visit {
	return func(b *oidcauthtest.Browser) *oidcauthtest.Response { return b.Post(target, nil) }
}

func fetch(target string) visit {
	return func(b *oidcauthtest.Browser) *oidcauthtest.Response { return b.Fetch(target) }
}

func frame(target string) visit {
	return func(b *oidcauthtest.Browser) *oidcauthtest.Response {
		r := httptest.NewRequest(http.MethodGet, target, nil)
		r.Header.Set("Sec-Fetch-Mode", "navigate")
		r.Header.Set("Sec-Fetch-Dest", "iframe")
		return b.Do(r)
	}
}

func from(origin string, do visit) visit {
	return func(b *oidcauthtest.Browser) *oidcauthtest.Response { return do(b.From(origin)) }
}

// redirector redirects to the parameter "to" with the parameter "status", and otherwise answers with next.
func redirector(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := r.URL.Query().Get("to")
		if to == "" {
			next(w, r)
			return
		}
		status, err := strconv.Atoi(r.URL.Query().Get("status"))
		if err != nil {
			status = http.StatusFound
		}
		w.Header().Set("Location", to)
		w.WriteHeader(status)
	})
}

// failures is a testing.TB that keeps the errors to itself.
type failures struct {
	testing.TB
	mu   sync.Mutex
	list []string
}

func (f *failures) Errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, fmt.Sprintf(format, args...))
}

// failed is what Fatalf panics with, for tests in which it has to stop something.
type failed string

func (f *failures) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	panic(failed("stopped"))
}

// stopped runs do and reports whether it called Fatalf.
func stopped(do func()) (yes bool) {
	defer func() { _, yes = recover().(failed) }()
	do()
	return false
}

func (f *failures) expect(t *testing.T, want string) {
	t.Helper()
	if got := strings.Join(f.list, "\n"); len(f.list) != 1 || !strings.Contains(got, want) {
		t.Errorf("failures %q, want one with %q", got, want)
	}
}

func TestRequestsLookLikeABrowsers(t *testing.T) {
	t.Parallel()
	const back = opSite + "/?to=" + appSite + "/"
	const tab, framed, script, plain = "navigate document ?1", "navigate iframe ?1", "cors empty ", "  "
	tests := []struct {
		name               string
		do                 visit
		site, kind, origin string // kind is Sec-Fetch-Mode, -Dest and -User
	}{
		{"address bar", get("/"), "none", tab, ""},
		{"own link", from(appSite, get("/")), "same-origin", tab, ""},
		{"subdomain's link", from(subSite, get("/")), "same-site", tab, ""},
		{"the same host's link without https", from(httpSite, get("/")), "cross-site", tab, ""},
		{"another site's link", from(evilSite, get("/")), "cross-site", tab, ""},
		{"own form", post("/"), "same-origin", tab, appSite},
		{"another site's form", from(evilSite, post("/")), "cross-site", tab, evilSite},
		{"own script", fetch("/"), "same-origin", script, ""},
		{"another site's script", from(evilSite, fetch("/")), "cross-site", script, evilSite},
		{"another site's frame", from(evilSite, frame("/")), "cross-site", framed, ""},
		// Fetch standard, append a request Origin header: a form does not tell http where on https it is, a script does.
		{"another site's form, to http", from(evilSite, post("http://localhost:8080")), "cross-site", tab, "null"},
		{"another site's script, to http", from(evilSite, fetch("http://localhost:8080")), "cross-site", script, evilSite},
		{"typed, by another site's redirect", get(back), "none", tab, ""},
		{"own link, by another site's redirect", from(appSite, get(back)), "cross-site", tab, ""},
		{"own form, by another site's 307", from(appSite, post(back+"&status=307")), "cross-site", tab, "null"},
		{"another site's form, by its 307", from(opSite, post(back+"&status=307")), "cross-site", tab, opSite},
		{"another form, by its own 307", from(evilSite, post(opSite+"/?status=307&to=/")), "cross-site", tab, evilSite},
		{"no metadata without https", get(httpSite + ":80"), "", plain, ""},
		{"no metadata without https, in a frame", frame(httpSite), "", plain, ""},
		{"metadata on this machine", get("http://localhost:8080/"), "none", tab, ""},
		{"an address is a site of its own", from("https://10.2.0.1", get("https://10.1.0.1/")), "cross-site", tab, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ok := redirector(func(http.ResponseWriter, *http.Request) {})
			b := newBrowser(t, ok)
			for _, origin := range []string{opSite, httpSite, "http://localhost:8080", "https://10.1.0.1"} {
				b.Host(origin, ok)
			}
			h := tt.do(b).Request.Header
			kind := h.Get("Sec-Fetch-Mode") + " " + h.Get("Sec-Fetch-Dest") + " " + h.Get("Sec-Fetch-User")
			got := []string{h.Get("Sec-Fetch-Site"), kind, h.Get("Origin")}
			if want := []string{tt.site, tt.kind, tt.origin}; !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
			page := strings.HasPrefix(h.Get("Accept"), "text/html,")
			if page == (tt.kind == script) || !strings.Contains(h.Get("Accept"), "*/*") {
				t.Errorf("Accept %q", h.Get("Accept"))
			}
		})
	}
}

func TestCrossOriginProtectionUnderstandsTheBrowser(t *testing.T) {
	t.Parallel()
	// CSRF-01: what net/http itself makes of the requests.
	protected := http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for origin, want := range map[string]int{appSite: 200, subSite: 403, evilSite: 403} {
		if got := newBrowser(t, protected).From(origin).Post("/", nil).StatusCode; got != want {
			t.Errorf("form on %s: status %d, want %d", origin, got, want)
		}
	}
}

func TestDoSendsTheCallersHeaders(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h := r.Header
		fmt.Fprint(w, r.Method+" "+h.Get("Origin")+" "+h.Get("Sec-Fetch-Site")+" "+h.Get("Cookie")+" "+string(body))
	}))
	if err := b.SetCookie("/", &http.Cookie{Name: "a", Value: "1"}); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPatch, "https://app.test/x", strings.NewReader("body"))
	r.Header.Set("Origin", "null")
	r.Header.Set("Sec-Fetch-Site", "same-site")
	r.Header.Set("Cookie", "forged=1")
	if got, want := b.Do(r).Body, "PATCH null same-site forged=1; a=1 body"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	form := func(target string) visit {
		return func(b *oidcauthtest.Browser) *oidcauthtest.Response { return b.Post(target, url.Values{"k": {"v"}}) }
	}
	tests := []struct {
		name string
		do   visit
		want string
	}{
		{"301 of GET", get("/?status=301&to=/x"), "GET /x"},
		{"307 of GET", get("/?status=307&to=/x"), "GET /x"},
		{"301 of POST", form("/?status=301&to=/x"), "GET /x"},
		{"302 of POST", form("/?status=302&to=/x"), "GET /x"},
		{"303 of POST", form("/?status=303&to=/x"), "GET /x"},
		{"307 of POST", form("/?status=307&to=/x"), "POST /x k=v application/x-www-form-urlencoded"},
		{"308 of POST", form("/?status=308&to=/x"), "POST /x k=v application/x-www-form-urlencoded"},
		{"relative", get("/a/b?to=c"), "GET /a/c"},
		{"with another origin", get("/?to=https://op.test:443/x"), "GET /x"},
		{"304 is none", get("/?status=304&to=/x"), ""},
		{"without Location is none", get("/?status=302&to=%20"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			echo := redirector(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got := r.Method + " " + r.URL.Path + " " + string(body) + " " + r.Header.Get("Content-Type")
				fmt.Fprint(w, strings.TrimSpace(got))
			})
			b := newBrowser(t, echo)
			b.Host(opSite, echo)
			if got := tt.do(b).Body; got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestLinksAreReadAsBrowsersReadThem(t *testing.T) {
	t.Parallel()
	// BCP-01: an open redirect hides behind what url.Parse takes for a path.
	tests := []struct{ link, want string }{
		{"/x?y#z", "https://app.test/x?y#z"},
		{"x", "https://app.test/dir/x"},
		{"//evil.test", "https://evil.test/"},
		{"///evil.test", "https://evil.test/"},
		{`/\evil.test`, "https://evil.test/"},
		{`\\evil.test\x`, "https://evil.test/x"},
		{"/\t/evil.test", "https://evil.test/"},
		{" \x01//evil.test\n", "https://evil.test/"},
		{"https:evil.test", "https://app.test/dir/evil.test"},
		{"https:/evil.test", "https://app.test/evil.test"},
		{"https:///evil.test", "https://evil.test/"},
		{"HTTPS://EVIL.test", "https://evil.test/"},
		{"HTTPS:evil.test", "https://app.test/dir/evil.test"},
		{"ftp://evil.test", ""},
		{"http:evil.test", "http://evil.test/"},
		{"http:/evil.test", "http://evil.test/"},
		{"https://app.test@evil.test/", "https://app.test@evil.test/"},
		{`/x?a=\`, `https://app.test/x?a=\`},
		{"javascript:alert(1)", ""},
		{"data:text/html,x", ""},
		{"//", ""},
		{"", ""},
	}
	for _, tt := range tests {
		b := newBrowser(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", tt.link)
			w.WriteHeader(http.StatusFound)
		}))
		if got := b.NoRedirects().Get("/dir/page").Location(); got != tt.want {
			t.Errorf("link %q: %q, want %q", tt.link, got, tt.want)
		}
	}
}

func TestHistoryNamesTheRedirects(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, redirector(func(http.ResponseWriter, *http.Request) {}))
	b.Host("https://op.test", redirector(nil))
	resp := b.Get("/a?to=" + url.QueryEscape("https://op.test/b?to=https://app.test/c"))
	var got []string
	for _, r := range append(resp.History, resp) {
		got = append(got, r.URL.Host+r.URL.Path+" "+strconv.Itoa(r.StatusCode))
	}
	if want := []string{"app.test/a 302", "op.test/b 302", "app.test/c 200"}; !slices.Equal(got, want) {
		t.Errorf("visited %q, want %q", got, want)
	}
	if got := b.NoRedirects().Get("/?to=/x"); got.StatusCode != 302 || got.Location() != "https://app.test/x" {
		t.Errorf("without redirects: %d to %q, want the redirect itself", got.StatusCode, got.Location())
	}
}

func TestTwentyRedirectsAreTheLimit(t *testing.T) {
	t.Parallel()
	f := &failures{TB: t}
	b := newBrowser(f, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n, _ := strconv.Atoi(r.URL.Path[1:]); n > 0 {
			http.Redirect(w, r, "/"+strconv.Itoa(n-1), http.StatusFound)
		}
	}))
	if got := b.Get("/20"); got.StatusCode != 200 || len(got.History) != 20 || len(f.list) > 0 {
		t.Errorf("20 redirects: status %d after %d, failures %q", got.StatusCode, len(got.History), f.list)
	}
	if got := b.Get("/21"); got.StatusCode != 302 || len(got.History) != 20 {
		t.Errorf("21 redirects: status %d after %d, want the redirect", got.StatusCode, len(got.History))
	}
	f.expect(t, "over 20 redirects")
}

func TestSignInAndOut(t *testing.T) {
	t.Parallel()
	session := &http.Cookie{Name: "__Host-session", Value: "s", Path: "/", Secure: true}
	gone := &http.Cookie{Name: "__Host-session", Path: "/", Secure: true, MaxAge: -1}
	other := &http.Cookie{Name: "theme", MaxAge: -1}
	dropped := &http.Cookie{Name: "__Host-session", Value: "s"}
	no := answer(nil, "")
	tests := []struct {
		name                string
		login, back, logout http.HandlerFunc
		wantIn, wantOut     string // the failure
	}{
		{"works", toProvider, answer(session, "/"), answer(gone, "/"), "", ""},
		{"callback refuses", toProvider, answer(gone, ""), no, "callback answered 400", ""},
		{"callback refuses with a cookie", toProvider, answer(session, ""), no, "callback answered 400", ""},
		{"callback leaves no cookie", toProvider, answer(gone, "/"), no, "left no session", ""},
		{"login does not redirect", no, no, no, "did not come back from the provider", ""},
		{"the browser drops the cookie", toProvider, answer(dropped, "/"), no, "left no session", ""},
		{"logout renews the cookie", toProvider, answer(session, "/"), answer(session, "/"), "", "no cookie was removed"},
		{"logout removes another", toProvider, answer(session, "/"), answer(other, "/"), "", "no cookie was removed"},
		{"logout leaves the cookie", toProvider, answer(session, "/"), answer(nil, "/"), "", "no cookie was removed"},
		{"logout refuses", toProvider, answer(session, "/"), no, "", "the logout answered 400"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			mux := http.NewServeMux()
			mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
			mux.HandleFunc("GET /auth/login", tt.login)
			mux.HandleFunc("GET /auth/callback", tt.back)
			mux.HandleFunc("POST /auth/logout", tt.logout)
			f := &failures{TB: t}
			b := newBrowser(f, mux)
			b.Host(opSite, http.RedirectHandler(appSite+"/auth/callback", http.StatusFound))
			if tt.wantIn != "" {
				stopped(func() { b.SignIn(oidcauthtest.User{Subject: "alice"}) })
				f.expect(t, tt.wantIn)
				return
			}
			if got := b.SignIn(oidcauthtest.User{Subject: "alice"}); got.URL.Path != "/" {
				t.Errorf("signed in at %s, want /", got.URL)
			}
			if tt.wantOut != "" {
				stopped(func() { b.SignOut() })
				f.expect(t, tt.wantOut)
				return
			}
			b.SignOut()
			if len(f.list) > 0 || len(b.Cookies("/")) > 0 {
				t.Errorf("failures %q and cookies %v, want none", f.list, b.Cookies("/"))
			}
		})
	}
}

func TestSignInAndOutThroughTheLibrary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // no socket, no goroutine left behind
		client, p := oidcauthtest.NewClient(t)
		b := p.NewBrowser(client.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if s, err := client.GetSession(r); err == nil {
				fmt.Fprint(w, "hello ", s.Subject)
			}
		})))
		for _, user := range []string{"alice", "bob"} { // the second while the first is signed in
			b.SignIn(oidcauthtest.User{Subject: user})
			if got, want := b.Get("/").Body, "hello "+user; got != want {
				t.Errorf("signed in: %q, want %q", got, want)
			}
		}
		b.SignOut()
		if got := b.Get("/").Body; got != "" {
			t.Errorf("signed out: %q, want nobody", got)
		}
	})
}

func TestSignInFindsTheRoutes(t *testing.T) {
	t.Parallel()
	client, p := oidcauthtest.NewClient(t, func(o *oidcauth.Options) {
		o.BaseURL = "https://apps.test:8443/shop/"
		o.Routes = oidcauth.Routes{Login: "/in", Logout: "/out"}
	})
	b := p.NewBrowser(client.Handler())
	if got := b.SignIn(oidcauthtest.User{Subject: "alice"}); got.URL.Host != "apps.test:8443" {
		t.Errorf("signed in at %s, want the application", got.URL)
	}
	if got := b.SignOut(); got.URL.Host != "apps.test:8443" || hasSession(b.Cookies("/shop/")) {
		t.Errorf("signed out at %s with cookies %v, want the application and none", got.URL, b.Cookies("/shop/"))
	}
}

// hasSession reports whether there is more among cookies than the note that a session has ended (S21).
func hasSession(cookies []*http.Cookie) bool {
	return slices.ContainsFunc(cookies, func(c *http.Cookie) bool { return !strings.HasSuffix(c.Name, ".ended") })
}

func toProvider(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, opSite+"/authorize", http.StatusFound)
}

// answer sets a cookie and redirects, or refuses if there is nowhere to go.
func answer(c *http.Cookie, location string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if c != nil {
			http.SetCookie(w, c)
		}
		if location == "" {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		http.Redirect(w, r, location, http.StatusSeeOther)
	}
}

func TestRequestCarriesTheCookies(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, nil)
	if err := b.SetCookie("/", &http.Cookie{Name: "a", Value: "1"}); err != nil {
		t.Fatal(err)
	}
	r := b.Request(http.MethodGet, "/x?y")
	if r.Host != "app.test" || r.RequestURI != "/x?y" {
		t.Errorf("got %s%s, want app.test/x?y", r.Host, r.RequestURI)
	}
	if r.Header.Get("Cookie") != "a=1" || r.Header.Get("Sec-Fetch-Site") != "none" {
		t.Errorf("got %v, want what a browser sends", r.Header)
	}
}

func TestTabsMayShareABrowser(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: r.URL.Path[1:], Value: "1", Path: "/"})
	}))
	var tabs sync.WaitGroup
	for i := range 8 {
		tabs.Go(func() {
			b.Host(fmt.Sprintf("https://h%d.test", i), http.NotFoundHandler())
			b.Get(fmt.Sprintf("/tab%d", i))
			b.Clone().Cookies("/")
		})
	}
	tabs.Wait()
	if got := len(b.Cookies("/")); got != 8 {
		t.Errorf("%d cookies, want 8", got)
	}
}

func FuzzSetCookie(f *testing.F) {
	f.Add("a=1; Expires=x")
	f.Add(`a="1"; Path`)
	f.Add("=; ;")
	f.Add("a=1; Domain=.test; Max-Age=99999999999")
	f.Add("__Host-a=1; Secure; Path=/")
	f.Fuzz(func(t *testing.T, line string) {
		b := newBrowser(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/set" {
				w.Header().Set("Set-Cookie", line)
			}
		}))
		b.Get("/set")
		for _, c := range b.Cookies("/set") {
			if size := len(c.Name) + len(c.Value); size > 4096 {
				t.Errorf("kept %d octets", size)
			}
			prefixed := strings.HasPrefix(strings.ToLower(c.Name), "__host-")
			if prefixed && (!c.Secure || c.Path != "/" || c.Domain != "") {
				t.Errorf("kept %v", c)
			}
		}
		if h := b.Get("/other").Request.Header; strings.ContainsAny(h.Get("Cookie"), "\r\n\x00") {
			t.Errorf("sent %q", h.Get("Cookie"))
		}
	})
}
