package oidcauth_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

const module = "github.com/oidcauth/oidcauth"

// A sourceFile is a Go file of the root module.
type sourceFile struct {
	path  string // with slashes, from the root
	lines int
	fset  *token.FileSet
	*ast.File
}

func (f *sourceFile) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// dir is "." for the root package.
func (f *sourceFile) dir() string { return path.Dir(f.path) }

func readText(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sources parses the Go files of the root module; other modules below it are none of its.
func sources(t testing.TB) (files []*sourceFile) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != "." {
			_, err := os.Stat(filepath.Join(name, "go.mod"))
			if err == nil || strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, fset := readText(t, name), token.NewFileSet()
		file, err := parser.ParseFile(fset, name, text, parser.ParseComments)
		if err != nil {
			return err
		}
		files = append(files, &sourceFile{filepath.ToSlash(name), strings.Count(text, "\n"), fset, file})
		return nil
	})
	if err != nil || len(files) < 50 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	return files
}

// imports are the packages that f imports, those of this module as paths from the root.
func (f *sourceFile) imports() (paths []string) {
	for _, spec := range f.Imports {
		name := strings.Trim(spec.Path.Value, `"`)
		if name == module {
			name = "."
		}
		paths = append(paths, strings.TrimPrefix(name, module+"/"))
	}
	return paths
}

// codeBlock is the first code block below a heading of the README.
func codeBlock(readme, heading string) string {
	_, rest, _ := strings.Cut(readme, "\n## "+heading+"\n")
	_, rest, _ = strings.Cut(rest, "```go\n")
	block, _, _ := strings.Cut(rest, "```\n")
	return block
}

// unindent removes a prefix from each line that is not empty.
func unindent(text, prefix string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimPrefix(line, prefix))
	}
	return b.String()
}

func TestTheQuickStartIsTheExample(t *testing.T) {
	t.Parallel()
	quick := codeBlock(readText(t, "README.md"), "Quick start")
	if n := strings.Count(quick, "\n"); n < 10 || n > 25 {
		t.Errorf("the quick start of the README has %d lines, want at most 25", n)
	}
	_, example, _ := strings.Cut(readText(t, "example_test.go"), "\nfunc Example() {\n")
	example, _, _ = strings.Cut(example, "\n}\n")
	if example = unindent(example+"\n", "\t"); example != quick {
		t.Errorf("the quick start is\n%s\nand the body of Example\n%s", quick, example)
	}
	_, doc, _ := strings.Cut(readText(t, "auth.go"), "//\tclient, err")
	doc, _, _ = strings.Cut("//\tclient, err"+doc, "\n//\n// ")
	doc, _, _ = strings.Cut(doc, "\npackage ")
	doc = unindent(unindent(doc+"\n", "//"), "\t")
	if doc != quick {
		t.Errorf("the quick start is\n%s\nand the package comment's\n%s", quick, doc)
	}
}

func TestTheREADMEIsShort(t *testing.T) {
	t.Parallel()
	if n := strings.Count(readText(t, "README.md"), "\n"); n >= 200 {
		t.Errorf("%d lines, want fewer than 200", n)
	}
}

func TestTheRootPackageIsSmall(t *testing.T) {
	t.Parallel()
	var names []string
	total := 0
	for _, f := range sources(t) {
		if f.dir() == "." && !f.isTest() {
			names, total = append(names, f.path), total+f.lines
		}
		if f.lines > 500 && !f.isTest() {
			t.Errorf("%s has %d lines, want at most 500", f.path, f.lines)
		}
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || f.isTest() {
				continue
			}
			if n := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1; n > 80 {
				t.Errorf("%s: %s has %d lines, want at most 80", f.path, fn.Name.Name, n)
			}
		}
	}
	slices.Sort(names)
	if want := []string{
		"auth.go", "backchannel.go", "callback.go", "guard.go", "landing.go", "logout.go", "memory.go", "options.go", "proxy.go",
		"refresh.go", "revocation.go", "routes.go", "session.go", "store.go", "tokens.go", "visit.go",
	}; !slices.Equal(names, want) {
		t.Errorf("the files are %q, want %q", names, want)
	}
	// design.md 2 says 3,000. Since internal packages do not import each other, what joins provider, cookie, ledger and store
	// can only be here, and a tenth of it are the comments of the exported surface.
	if total > 5400 {
		t.Errorf("%d lines in all, want at most 5,400", total)
	}
}

func TestTheSurfaceIsSmallAndDocumented(t *testing.T) {
	t.Parallel()
	types, functions, methods := 0, 0, 0
	undocumented := func(f *sourceFile, name string) { t.Errorf("%s: %s has no comment", f.path, name) }
	for _, f := range sources(t) {
		if f.isTest() || f.Name.Name == "main" {
			continue
		}
		root := f.dir() == "."
		for _, decl := range f.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				receiver := receiverOf(d)
				if !d.Name.IsExported() || receiver != "" && !ast.IsExported(receiver) {
					continue
				}
				// What fmt and errors call needs no words.
				if d.Doc == nil && !slices.Contains([]string{"Error", "Unwrap"}, d.Name.Name) {
					undocumented(f, d.Name.Name)
				}
				switch {
				case root && receiver != "":
					methods++
				case root:
					functions++
				}
			case *ast.GenDecl:
				for _, name := range undocumentedNames(d) {
					undocumented(f, name)
				}
				for _, spec := range d.Specs {
					if s, ok := spec.(*ast.TypeSpec); ok && root && s.Name.IsExported() {
						types++
					}
				}
			}
		}
	}
	if types > 26 || functions > 8 || methods > 54 || types == 0 {
		t.Errorf("%d types, %d functions and %d methods, want at most 26, 8 and 54", types, functions, methods)
	}
}

// receiverOf is the name of a method's type, or "".
func receiverOf(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	expr := d.Recv.List[0].Type
	for {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.Ident:
			return e.Name
		default:
			return ""
		}
	}
}

// undocumentedNames are the exported names of a declaration that neither it nor their own line explains. A constant or
// variable may be explained by its group.
func undocumentedNames(d *ast.GenDecl) (names []string) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && s.Doc == nil && d.Doc == nil && s.Comment == nil {
				names = append(names, s.Name.Name)
			}
		case *ast.ValueSpec:
			for _, name := range s.Names {
				if name.IsExported() && s.Doc == nil && d.Doc == nil && s.Comment == nil {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}

func TestImportsPointOneWay(t *testing.T) { // design.md 2
	t.Parallel()
	for _, f := range sources(t) {
		for _, imported := range f.imports() {
			own := strings.TrimSuffix(imported, "/") == f.dir()
			if strings.HasPrefix(f.path, "internal/") && !own &&
				(imported == "." || strings.HasPrefix(imported, "internal/")) && !f.isTest() {
				t.Errorf("%s imports %s: internal packages import neither the root nor each other", f.path, imported)
			}
			kit := imported == "oidcauthtest" || strings.HasPrefix(imported, "oidcauthtest/")
			allowed := f.isTest() || strings.HasPrefix(f.path, "oidcauthtest/") || strings.HasPrefix(f.path, "examples/") ||
				strings.HasPrefix(f.path, "e2e/")
			if kit && !allowed { // S17
				t.Errorf("%s imports %s, which is for tests and examples alone", f.path, imported)
			}
		}
	}
}

func TestTheDevelopmentProviderNeedsNoTestingPackage(t *testing.T) { // S17
	t.Parallel()
	byDir := map[string][]*sourceFile{}
	for _, f := range sources(t) {
		if !f.isTest() {
			byDir[f.dir()] = append(byDir[f.dir()], f)
		}
	}
	seen, queue := map[string]bool{}, []string{"oidcauthtest/devprovider"}
	for len(queue) > 0 {
		dir := queue[0]
		queue = queue[1:]
		if seen[dir] {
			continue
		}
		seen[dir] = true
		for _, f := range byDir[dir] {
			for _, imported := range f.imports() {
				if imported == "testing" || strings.HasPrefix(imported, "testing/") {
					t.Errorf("%s imports %s", f.path, imported)
				}
				if byDir[imported] != nil {
					queue = append(queue, imported)
				}
			}
		}
	}
	if !seen["oidcauthtest/internal/op"] || !seen["."] {
		t.Errorf("only %v was looked at", seen)
	}
}

func TestNoTestIsSkipped(t *testing.T) {
	t.Parallel()
	for _, f := range sources(t) {
		ast.Inspect(f.File, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			selector, ok := call.Fun.(*ast.SelectorExpr)
			if ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, selector.Sel.Name) {
				t.Errorf("%s skips a test", f.fset.Position(call.Pos()))
			}
			return true
		})
	}
}

// troubles provoke what each row of the README's table is about, and return all that a person would see of it: what the
// browser shows, the log, and what New says. The names are what the first cell of the row has in it.
func troubles() map[string]func(t *testing.T) string {
	configured := func(edit func(*oidcauth.Options)) func(*testing.T) string {
		return func(*testing.T) string {
			o := rightOptions()
			edit(&o)
			_, err := oidcauth.New(o)
			return err.Error()
		}
	}
	signingIn := func(change func(*oidcauthtest.Provider), edit ...func(*oidcauth.Options)) func(*testing.T) string {
		return func(t *testing.T) string {
			a := newApp(t, edit...)
			change(a.op)
			r := a.browser.Get("/auth/login")
			return r.Body + "\n" + a.logs.String()
		}
	}
	return map[string]func(*testing.T) string{
		"`invalid_state`": func(t *testing.T) string {
			a := newApp(t)
			_, target := a.started(t, "/auth/login")
			other := a.op.NewBrowser(a.handler) // the cookie stayed with another host name
			r := other.Get(target.String())
			return r.Body + "\n" + a.logs.String()
		},
		"redirect URI": func(t *testing.T) string {
			r := newApp(t, func(o *oidcauth.Options) { o.Routes.Callback = "/auth/elsewhere" }).browser.Get("/auth/login")
			return strings.ReplaceAll(r.Body, "redirect_uri that is not registered", "redirect URI") // in the provider's words
		},
		"add or remove the slash": signingIn(func(*oidcauthtest.Provider) {}, func(o *oidcauth.Options) { o.Issuer = "https://op.test" }),
		"`check the clock`": func(t *testing.T) (text string) {
			synctest.Test(t, func(t *testing.T) {
				text = signingIn(func(p *oidcauthtest.Provider) {
					p.EditIDToken(func(c map[string]any) { c["iat"] = time.Now().Add(20 * time.Minute).Unix() })
				})(t)
			})
			return text
		},
		"is plain http": configured(func(o *oidcauth.Options) { o.BaseURL = "http://app.example.com" }),
		"has 12 bytes":  configured(func(o *oidcauth.Options) { o.Secrets = []string{"twelve bytes"} }),
		"`invalid_client`": signingIn(func(*oidcauthtest.Provider) {}, func(o *oidcauth.Options) {
			o.ClientSecret = "another"
		}),
		"signed out on the next page": func(t *testing.T) string {
			a := newApp(t)
			a.browser.SignIn(oidcauthtest.Alice)
			plain := a.op.NewBrowser(a.handler) // and browsers keep no Secure cookie from plain http
			for _, c := range a.browser.Cookies("/") {
				if err := plain.SetCookie("http://app.test/", c); err == nil {
					t.Errorf("%s is kept from plain http", c.Name)
				}
			}
			if plain.Get("/").Body != nobody {
				return ""
			}
			return "signed in, and signed out on the next page"
		},
		"`session_too_large`": func(t *testing.T) string {
			a := newApp(t)
			a.op.SetUser(oidcauthtest.User{Subject: "alice", Claims: map[string]any{"groups": incompressible(40_000)}})
			r := a.browser.Get("/auth/login")
			return r.Body + "\n" + a.logs.String()
		},
		"`store_unavailable`": func(t *testing.T) string {
			a := newApp(t, func(o *oidcauth.Options) {
				faults := oidcauthtest.NewFaultyStore(t, oidcauth.NewMemoryStore(0))
				faults.Fail(errors.New("connection refused"))
				o.Store = faults.Store()
			})
			r := a.browser.Get("/auth/login")
			return r.Body + "\n" + a.logs.String()
		},
		"`refresh_failed`": func(t *testing.T) (text string) {
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t)
				a.browser.SignIn(oidcauthtest.Alice)
				time.Sleep(time.Hour)
				a.op.Fail("token", http.StatusBadRequest, "invalid_target", 1)
				r := a.browser.Fetch("/auth/access-token")
				text = r.Body + "\n" + a.logs.String()
			})
			return text
		},
		"`response header already written`": func(t *testing.T) (text string) {
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t)
				a.mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
					_ = http.NewResponseController(w).Flush()
					_, err := a.AccessToken(w, r, nil)
					text = err.Error()
				})
				a.browser.SignIn(oidcauthtest.Alice)
				time.Sleep(time.Hour)
				a.browser.Get("/stream")
			})
			return text
		},
		"`provider_unavailable`": signingIn(func(p *oidcauthtest.Provider) { p.Fail("discovery", 0, "", -1) }),
	}
}

func TestTheTroublesOfTheREADMEAreReal(t *testing.T) {
	t.Parallel()
	_, table, _ := strings.Cut(readText(t, "README.md"), "\n## Troubleshooting\n")
	table, _, _ = strings.Cut(table, "\n## ")
	var rows []string
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| you see") {
			rows = append(rows, line)
		}
	}
	provoke := troubles()
	if len(rows) != len(provoke) {
		t.Errorf("%d rows and %d ways to provoke them", len(rows), len(provoke))
	}
	for name, f := range provoke {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := slices.IndexFunc(rows, func(row string) bool { return strings.Contains(strings.Split(row, "|")[1], name) })
			if i < 0 {
				t.Fatal("the README has no such row")
			}
			cell := strings.Split(rows[i], "|")[1]
			seen := strings.ReplaceAll(f(t), `\"`, `"`)
			quoted := quotes(cell)
			if len(quoted) == 0 {
				quoted = []string{strings.Trim(name, "`")}
			}
			for _, words := range quoted {
				for part := range strings.SplitSeq(words, "…") {
					if part = strings.TrimSpace(part); !strings.Contains(seen, part) {
						t.Errorf("the README says %q, to be seen is\n%s", part, seen)
					}
				}
			}
		})
	}
}

// quotes are the words of a cell in backquotes or, outside of them, in quotes: what the code says literally.
func quotes(cell string) (all []string) {
	for i, part := range strings.Split(cell, "`") {
		if i%2 == 1 {
			all = append(all, part)
			continue
		}
		for j, words := range strings.Split(part, `"`) {
			if j%2 == 1 {
				all = append(all, words)
			}
		}
	}
	return all
}

func TestTheRoutesOfTheREADMEAreServed(t *testing.T) {
	t.Parallel()
	readme := readText(t, "README.md")
	client, _ := oidcauthtest.NewClient(t)
	for _, route := range routePaths {
		if !strings.Contains(readme, route+"`") {
			t.Errorf("the README does not name %s", route)
		}
		r := ask(client.Handler(), http.MethodPut, route)
		for method := range strings.SplitSeq(r.Header.Get("Allow"), ", ") {
			if method != "HEAD" && !strings.Contains(readme, "`"+method+"`, `POST "+route) && !strings.Contains(readme, method+" "+route+"`") {
				t.Errorf("the README does not say that %s answers %s", route, method)
			}
		}
	}
	for _, name := range []string{
		"screen_hint", "prompt", "login_hint", "connection", "organization", "invitation", "ui_locales", "max_age", "acr_values", "display",
	} {
		value := map[string]string{"prompt": "login", "max_age": "60"}[name]
		if value == "" {
			value = "x"
		}
		r := ask(client.Handler(), http.MethodGet, "/auth/login?"+name+"="+value)
		target, _ := url.Parse(r.Header.Get("Location"))
		if target.Query().Get(name) != value || !strings.Contains(readme, "`"+name+"`") {
			t.Errorf("%s is not passed on, or not in the README", name)
		}
	}
}
