package oidcauth_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

var codeFence = regexp.MustCompile("(?ms)^```(go|js)\n(.*?)^```$")

// docSources are where the code of the pages is compiled and run.
var docSources = map[string][]string{
	"go": {
		"docs_test.go", "examples/api/main.go", "examples/proxy/main.go", "examples/redis/app.go", "examples/ownstore/store.go",
		"examples/ownstore/main_test.go", "examples/quickstart/sessions.go",
	},
	"js": {"e2e/proxy_test.go", "examples/proxy/app.js"},
}

func docPages(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("docs/*.md")
	if err != nil || len(pages) < 3 {
		t.Fatalf("pages %q: %v", pages, err)
	}
	return pages
}

func TestTheCodeOfTheDocsIsRun(t *testing.T) {
	t.Parallel()
	blocks := 0
	for _, page := range docPages(t) {
		for _, block := range codeFence.FindAllStringSubmatch(readText(t, page), -1) {
			blocks++
			has := func(source string) bool { return hasLines(readText(t, source), block[2]) }
			if !slices.ContainsFunc(docSources[block[1]], has) {
				t.Errorf("%s: none of %q has\n%s", page, docSources[block[1]], block[2])
			}
		}
	}
	if blocks < 8 {
		t.Errorf("only %d blocks of code were found", blocks)
	}
}

// hasLines reports whether source has the lines of block, with up to three tabs before each of them.
func hasLines(source, block string) bool {
	for indent := ""; len(indent) <= 3; indent += "\t" {
		var b strings.Builder
		for line := range strings.Lines(block) {
			if line != "\n" {
				b.WriteString(indent)
			}
			b.WriteString(line)
		}
		if strings.Contains("\n"+source, "\n"+b.String()) {
			return true
		}
	}
	return false
}

func TestThePagesOfTheDocsAreShort(t *testing.T) {
	t.Parallel()
	index := readText(t, "docs/README.md")
	for _, page := range docPages(t) {
		text, name := readText(t, page), filepath.Base(page)
		if n := strings.Count(text, "\n"); n > 80 {
			t.Errorf("%s has %d lines, want at most 80", page, n)
		}
		if name != "README.md" && !strings.Contains(index, "("+name+")") {
			t.Errorf("the index does not lead to %s", page)
		}
	}
	for _, command := range regexp.MustCompile(`go run \./([a-z/]+)`).FindAllStringSubmatch(index, -1) {
		if _, err := os.Stat(filepath.Join(command[1], "main.go")); err != nil {
			t.Errorf("the index names %s: %v", command[1], err)
		}
	}
}

// tableRows returns the cells of the first table below a heading.
func tableRows(t *testing.T, page, heading string) (rows [][]string) {
	t.Helper()
	_, text, found := strings.Cut(readText(t, page), "\n## "+heading+"\n")
	_, text, table := strings.Cut(text, "\n|---")
	if !found || !table {
		t.Fatalf("%s: no table below %s", page, heading)
	}
	_, text, _ = strings.Cut(text, "\n")
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "| ") {
			break
		}
		rows = append(rows, strings.Split(strings.Trim(line, "| \n"), " | "))
	}
	return rows
}

// promised is what a table says of an answer, such as "401 `unauthenticated`".
var promised = regexp.MustCompile("[0-9]{3} `[a-z_]+`")

// wantRows wants the first cell of each row to be one of the attempts, and what that gets to be the answer that the row
// promises. A row with several promises has an attempt for each.
func wantRows(t *testing.T, rows [][]string, attempts map[string]func(*testing.T) *oidcauthtest.Response) {
	t.Helper()
	tried := 0
	for _, row := range rows {
		names := []string{strings.Trim(row[0], "`*")}
		promises := promised.FindAllString(strings.Join(row, " "), -1)
		if promised.MatchString(row[0]) {
			names = promises
		}
		for i, name := range names {
			try := attempts[name]
			if try == nil || len(promises) != len(names) {
				t.Errorf("nothing tries %q, or it promises %d answers", name, len(promises))
				continue
			}
			tried++
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := try(t)
					if got := fmt.Sprintf("%d `%s`", r.StatusCode, errorCode(r)); got != promises[i] {
						t.Errorf("the answer is %s, the page says %s", got, promises[i])
					}
				})
			})
		}
	}
	if tried != len(attempts) {
		t.Errorf("the table has %d of %d answers", tried, len(attempts))
	}
}

const (
	ordersAPI  = "https://orders.example.com"
	billingAPI = "https://billing.example.com"
)

// newShop returns an application with two APIs.
func newShop(t *testing.T, edit ...func(*oidcauth.Options)) *app {
	t.Helper()
	a := newApp(t, append(edit, func(options *oidcauth.Options) {
		options.Audience = "https://orders.example.com" // of the login's own token
		options.AudienceScopes = map[string][]string{"https://billing.example.com": {"read:invoices"}}
	})...)
	a.op.Serve("orders.example.com", a.op.NewAPI(ordersAPI))
	a.op.Serve("billing.example.com", a.op.NewAPI(billingAPI))
	return a
}

// invoices shows what the second API answers.
func invoices(w http.ResponseWriter, r *http.Request, client *oidcauth.Client) error {
	billing := &oidcauth.TokenOptions{Audience: "https://billing.example.com"}
	api, err := client.HTTPClient(w, r, billing, "https://billing.example.com")
	if err != nil {
		return err
	}
	resp, err := api.Get(billingAPI + "/invoices")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	w.WriteHeader(resp.StatusCode)
	_, err = io.Copy(w, resp.Body)
	return err
}

func TestTheAudiencesOfTheDocs(t *testing.T) {
	t.Parallel()
	a := newShop(t)
	a.mux.HandleFunc("/invoices", func(w http.ResponseWriter, r *http.Request) {
		if err := invoices(w, r, a.Client); err != nil {
			a.Error(w, r, err)
		}
	})
	a.browser.SignIn(oidcauthtest.Alice)
	r := a.browser.Fetch("/invoices")
	for _, want := range []string{`"aud":"https://billing.example.com"`, `"scope":"read:invoices"`, `"sub":"alice"`} {
		if r.StatusCode != 200 || !strings.Contains(r.Body, want) {
			t.Errorf("%d, no %s in %s", r.StatusCode, want, r.Body)
		}
	}
}

func TestTheErrorsOfTheDocsAreReal(t *testing.T) {
	t.Parallel()
	// asking returns what Client.Error answers to the error of AccessToken after change, two hours after the login.
	asking := func(want error, o *oidcauth.TokenOptions, change func(*app)) func(*testing.T) *oidcauthtest.Response {
		return func(t *testing.T) *oidcauthtest.Response {
			a := newShop(t)
			a.mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
				_, err := a.AccessToken(w, r, o)
				if _, refused := errors.AsType[*oidcauth.ProviderError](err); !errors.Is(err, want) && !(want == nil && refused) {
					t.Errorf("the error is %v, want %v", err, want)
				}
				a.Error(w, r, err)
			})
			change(a)
			time.Sleep(2 * time.Hour)
			return a.browser.Fetch("/token")
		}
	}
	signedIn := func(change func(*oidcauthtest.Provider)) func(*app) {
		return func(a *app) {
			a.browser.SignIn(oidcauthtest.Alice)
			change(a.op)
		}
	}
	billing := &oidcauth.TokenOptions{Audience: billingAPI}
	wantRows(t, tableRows(t, "docs/call-an-api.md", "Errors"), map[string]func(*testing.T) *oidcauthtest.Response{
		"ErrNoSession": asking(oidcauth.ErrNoSession, nil, func(*app) {}),
		"ErrLoginRequired": asking(oidcauth.ErrLoginRequired, nil, signedIn(func(p *oidcauthtest.Provider) {
			p.Fail("token", 400, "invalid_grant", 1)
		})),
		"ErrMFARequired": asking(oidcauth.ErrMFARequired, billing, signedIn(func(p *oidcauthtest.Provider) {
			p.Fail("token", 400, "mfa_required", 1)
		})),
		"ErrUnavailable": asking(oidcauth.ErrUnavailable, nil, signedIn(func(p *oidcauthtest.Provider) {
			p.Fail("token", 0, "", -1)
		})),
		"ProviderError": asking(nil, billing, signedIn(func(p *oidcauthtest.Provider) {
			p.Change(func(k *oidcauthtest.Knobs) { k.Audiences = []string{ordersAPI} })
		})),
	})
}

// fetching returns what a script of the page gets for a path, of an application whose API is at /api/.
func fetching(path string, change func(*app), header ...string) func(*testing.T) *oidcauthtest.Response {
	return func(t *testing.T) *oidcauthtest.Response {
		a := newShop(t)
		proxy, err := a.Proxy(oidcauth.ProxyOptions{Prefix: "/api/", Target: ordersAPI + "/v1/"})
		if err != nil {
			t.Fatal(err)
		}
		a.mux.Handle("/api/", proxy)
		a.browser.SignIn(oidcauthtest.Alice)
		change(a)
		r := a.browser.Request(http.MethodGet, path)
		r.Header = http.Header{}
		for pair := range slices.Chunk(header, 2) {
			r.Header.Set(pair[0], pair[1])
		}
		return a.browser.Do(r)
	}
}

func nothing(*app) {}

func signOut(a *app) { a.browser.SignOut() }

// later lets the access token expire, when the provider answers with an error, or with status 0 not at all.
func later(status int, code string) func(*app) {
	return func(a *app) {
		time.Sleep(2 * time.Hour)
		a.op.Fail("token", status, code, -1)
	}
}

func TestTheAnswersOfTheProxyInTheDocsAreReal(t *testing.T) {
	t.Parallel()
	serving := func(answer http.HandlerFunc) func(*app) {
		return func(a *app) { a.op.Serve("orders.example.com", answer) }
	}
	wantRows(t, tableRows(t, "docs/tokens-in-the-page.md", "A proxy"), map[string]func(*testing.T) *oidcauthtest.Response{
		"400 `invalid_request`":      fetching("/api/a%2F..%2Fb", nothing),
		"400 `invalid_scope`":        fetching("/api/a", nothing, "Scope", "admin"),
		"401 `unauthenticated`":      fetching("/api/a", signOut),
		"401 `login_required`":       fetching("/api/a", later(400, "invalid_grant")),
		"403 `cross_origin_request`": fetching("/api/a", nothing, "Sec-Fetch-Mode", "navigate"),
		"405 `method_not_allowed`": func(t *testing.T) *oidcauthtest.Response {
			a := newShop(t)
			proxy, err := a.Proxy(oidcauth.ProxyOptions{Prefix: "/api/", Target: ordersAPI, Methods: []string{"POST"}})
			if err != nil {
				t.Fatal(err)
			}
			a.mux.Handle("/api/", proxy)
			return a.browser.Fetch("/api/a")
		},
		"502 `upstream_unavailable`": fetching("/api/a", serving(func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		})),
		"503 `provider_unavailable`": fetching("/api/a", later(0, "")),
		"504 `upstream_timeout`": fetching("/api/a", serving(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(61 * time.Second):
			}
		})),
	})
}

func TestTheAnswersOfTheAccessTokenRouteInTheDocsAreReal(t *testing.T) {
	t.Parallel()
	const route = "/auth/access-token"
	rows := tableRows(t, "docs/tokens-in-the-page.md", "The access-token route")
	wantRows(t, rows, map[string]func(*testing.T) *oidcauthtest.Response{
		"400 `invalid_target`":       fetching(route+"?audience=https://evil.example", nothing),
		"400 `invalid_scope`":        fetching(route+"?scope=admin", nothing),
		"401 `unauthenticated`":      fetching(route, signOut),
		"401 `login_required`":       fetching(route, later(400, "invalid_grant")),
		"403 `cross_origin_request`": fetching(route, nothing, "Sec-Fetch-Mode", "navigate"),
		"403 `mfa_required`":         fetching(route, later(400, "mfa_required")),
		"503 `provider_unavailable`": fetching(route, later(0, "")),
	})
}
