package e2e

import (
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A visitor is a browser without pictures and Fetch metadata. It has one script, which sends the provider's form.
type visitor struct {
	t          *testing.T
	client     *http.Client
	keepsForms bool // does not send it
}

// An answer is the page at which a visitor arrives after the redirects.
type answer struct {
	url    *url.URL
	status int
	header http.Header
	body   string
}

func newVisitor(t *testing.T) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t: t, client: &http.Client{Jar: loopbackJar{jar}, Timeout: 15 * time.Second}}
}

// A loopbackJar has Secure cookies on this machine without TLS, as browsers do.
type loopbackJar struct{ jar http.CookieJar }

func (j loopbackJar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	j.jar.SetCookies(secured(u), cookies)
}

func (j loopbackJar) Cookies(u *url.URL) []*http.Cookie { return j.jar.Cookies(secured(u)) }

func secured(u *url.URL) *url.URL { return &url.URL{Scheme: "https", Host: u.Host, Path: u.Path} }

func (v *visitor) open(target string) answer {
	v.t.Helper()
	return v.send(http.MethodGet, target, "text/html", nil)
}

// fetch is open by a script: no login is started.
func (v *visitor) fetch(target string) answer {
	v.t.Helper()
	return v.send(http.MethodGet, target, "*/*", nil)
}

// patiently opens a page until the provider is known to be there again: that it was not is remembered for a moment.
func (v *visitor) patiently(target string) answer {
	v.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		page := v.open(target)
		if page.status != http.StatusServiceUnavailable || time.Now().After(deadline) {
			return page
		}
	}
}

func (v *visitor) send(method, target, accept string, body io.Reader) answer {
	v.t.Helper()
	req, err := http.NewRequest(method, target, body)
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := v.client.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	page := answer{resp.Request.URL, resp.StatusCode, resp.Header, string(text)}
	if !v.keepsForms && strings.Contains(page.body, "document.forms[0].submit()") {
		return v.submit(page)
	}
	return page
}

// formParts are the action of a form, and its hidden fields.
var formParts = regexp.MustCompile(`(?:action|type="hidden" name)="([^"]*)"(?: value="([^"]*)")?`)

// form returns where the form of a page goes, and its hidden fields.
func (v *visitor) form(page answer) (action string, fields url.Values) {
	v.t.Helper()
	fields, target := url.Values{}, page.url
	for _, part := range formParts.FindAllStringSubmatch(page.body, -1) {
		name := html.UnescapeString(part[1])
		if strings.HasPrefix(part[0], "action") {
			parsed, err := url.Parse(name)
			if err != nil {
				v.t.Fatal(err)
			}
			target = page.url.ResolveReference(parsed)
		} else {
			fields.Set(name, html.UnescapeString(part[2]))
		}
	}
	return target.String(), fields
}

// submit sends the form of a page, with fields as names and values.
func (v *visitor) submit(page answer, pairs ...string) answer {
	v.t.Helper()
	action, fields := v.form(page)
	for pair := range slices.Chunk(pairs, 2) {
		fields.Set(pair[0], pair[1])
	}
	return v.send(http.MethodPost, action, "text/html", strings.NewReader(fields.Encode()))
}

// asks says that a page is the provider's, where it asks for the password.
func (page answer) asks() bool { return strings.Contains(page.body, `name="password"`) }

func (v *visitor) enter(page answer, password string) answer {
	v.t.Helper()
	if !page.asks() {
		v.t.Fatalf("no question for the password, but %d at %s:\n%s", page.status, page.url, page.body)
	}
	return v.submit(page, "login", "ada", "password", password, "do", "signin")
}

// signIn opens a page of the application that needs a user, and gives the password that the provider asks for.
func (v *visitor) signIn(target string) answer {
	v.t.Helper()
	page := v.enter(v.open(target), "password")
	v.wantAccount(page)
	return page
}

func (v *visitor) wantAccount(page answer) {
	v.t.Helper()
	if page.status != http.StatusOK || !strings.Contains(page.body, "<h1>Account</h1>") {
		v.t.Errorf("%d at %s, want the account page:\n%s", page.status, page.url, page.body)
	}
}

// cookies are those that the visitor has for the application, as a Cookie header.
func (v *visitor) cookies(address string) string {
	v.t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		v.t.Fatal(err)
	}
	var pairs []string
	for _, c := range v.client.Jar.Cookies(u) {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	return strings.Join(pairs, "; ")
}
