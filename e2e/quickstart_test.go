package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// startQuickstart builds and runs the example as its reader does, and returns the address that it prints.
func startQuickstart(t *testing.T, flags ...string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "quickstart")
	build := exec.Command("go", "build", "-o", binary, "./examples/quickstart")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the quickstart: %v\n%s", err, out)
	}
	cmd := exec.Command(binary, append(flags, "-addr", "127.0.0.1:0")...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")} // nothing that names a provider
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("run the quickstart: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the quickstart did not end well when interrupted: %v", err)
		}
	})
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if _, address, ok := strings.Cut(lines.Text(), "Open "); ok {
			return strings.TrimSpace(address)
		}
	}
	t.Fatal("the quickstart printed no address")
	return ""
}

// A page drives one tab of Chromium, and ends the test at the first thing that does not work.
type page struct {
	t   *testing.T
	ctx context.Context
}

func run[T any](p page, what string, action chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 15*time.Second)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		p.t.Fatalf("%s: %v (at %s)", what, err, p.where())
	}
	return value
}

func (p page) where() string {
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	where, err := chromedp.Run(ctx, chromedp.Location())
	if err != nil {
		return err.Error()
	}
	return where
}

func (p page) open(url string)   { p.t.Helper(); run(p, "open "+url, chromedp.Navigate(url)) }
func (p page) click(link string) { p.t.Helper(); run(p, "click "+link, chromedp.Click(link)) }
func (p page) text(sel string) string {
	p.t.Helper()
	return run(p, "read "+sel, chromedp.Text(sel))
}

// see waits for a text on the page.
func (p page) see(want string) {
	p.t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	var body string
	for time.Now().Before(deadline) {
		ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
		got, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body ? document.body.innerText : ""`))
		cancel()
		if err == nil && strings.Contains(got, want) {
			return
		}
		body = got
		time.Sleep(50 * time.Millisecond) // a real browser has no other clock
	}
	p.t.Fatalf("%q is not on the page at %s:\n%s", want, p.where(), body)
}

// shot keeps a screenshot where the variable SCREENSHOTS names a folder, for people to look at.
func (p page) shot(name string) {
	p.t.Helper()
	folder := os.Getenv("SCREENSHOTS")
	if folder == "" {
		return
	}
	png := run(p, "screenshot", chromedp.FullScreenshot(100))
	if err := os.WriteFile(filepath.Join(folder, name+".png"), png, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// fits fails the test if the page has to be scrolled sideways, which is how cut text shows.
func (p page) fits() {
	p.t.Helper()
	if wide := run(p, "measure", chromedp.Evaluate[bool](`document.documentElement.scrollWidth > window.innerWidth`)); wide {
		p.t.Errorf("the page at %s is wider than the window", p.where())
	}
}

func (p page) signIn(password string) {
	p.t.Helper()
	run(p, "password field", chromedp.WaitVisible("#password"))
	run(p, "password", chromedp.SendKeys("#password", password))
	p.click(`button[value="signin"]`)
}

// TestLogoutByALinkOfAnotherSite: localhost and 127.0.0.1 are two sites to a browser. A link there may not sign the user
// out without a question (S26), and the question's button has to work in spite of our own headers (S27).
func TestLogoutByALinkOfAnotherSite(t *testing.T) {
	address := startQuickstart(t)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<p>Another site <a href="%s/auth/logout">click</a><img src="%[1]s/auth/logout">`, address)
	}))
	defer other.Close()
	p := page{t, newChromium(t)}
	p.open(address + "/account")
	p.signIn("password")
	p.see("Only you can see this page.")

	p.open(strings.Replace(other.URL, "127.0.0.1", "localhost", 1))
	p.see("Another site")
	run(p, "click", chromedp.Evaluate[bool](`document.querySelector("a").click(), true`))
	p.see("Another site asks to sign you out here.")
	p.fits()
	p.shot("logout-question")
	p.open(address + "/account")
	p.see("Only you can see this page.") // neither the image nor the link alone has ended the session

	p.open(strings.Replace(other.URL, "127.0.0.1", "localhost", 1))
	p.see("Another site")
	run(p, "click", chromedp.Evaluate[bool](`document.querySelector("a").click(), true`))
	p.see("Another site asks to sign you out here.")
	p.click("form button")
	p.see("Sign in to see your account")
}

// windows are the sizes in which pages are looked at.
var windows = []struct {
	name          string
	width, height int64
}{{"desktop", 1280, 800}, {"phone", 360, 740}}

// TestQuickstartInChromium is the first hour of a new user.
func TestQuickstartInChromium(t *testing.T) {
	for _, size := range windows {
		t.Run(size.name, func(t *testing.T) {
			address := startQuickstart(t)
			p := page{t, newChromium(t)}
			run(p, "size", chromedp.EmulateViewport(size.width, size.height))
			look := func(name string) { t.Helper(); p.fits(); p.shot(size.name + "-" + name) }

			p.open(address)
			p.see("Sign up")
			look("1-home")

			p.open(address + "/account") // a protected page starts the login and is where it ends
			run(p, "sign-in page", chromedp.WaitVisible("#password"))
			look("2-signin")
			p.signIn("guessed")
			p.see("password is wrong")
			look("3-wrong-password")
			p.signIn("password")
			p.see("Only you can see this page.")
			if where := p.where(); where != address+"/account" {
				t.Errorf("the login ended at %s", where)
			}
			if !run(p, "picture", chromedp.Evaluate[bool](`document.querySelector("img.picture").complete && document.querySelector("img.picture").naturalWidth > 0`)) {
				t.Error("the picture of the user is not shown")
			}
			name := p.text("h1")
			if name == "" || name == "Account" {
				t.Errorf("no name on the protected page: %q", name)
			}
			look("4-account")
			for _, script := range []string{`document.cookie`, `JSON.stringify(Object.keys(localStorage))`} {
				if got := run(p, script, chromedp.Evaluate[string](script)); got != "" && got != "[]" {
					t.Errorf("a script can read %s: %s", script, got)
				}
			}

			p.open(address + "/api")
			p.see(name)
			look("5-api")

			p.open(address + "/sessions") // which are in cookies
			p.see("-store memory")
			look("11-no-sessions")

			p.open(address + "/account")
			p.click(`header form button`) // sign out
			p.see("Sign in to see your account")
			look("6-signed-out")
			run(p, "back", chromedp.NavigateBack())
			// Back must ask the server again (no-store) and so end at the sign-in page.
			run(p, "sign-in page after Back", chromedp.WaitVisible("#password"))
			if body := p.text("body"); strings.Contains(body, "Only you can see this page") {
				t.Errorf("Back shows the protected page:\n%s", body)
			}

			p.click(`button[value="cancel"]`)
			p.see("cancelled")
			p.see("Try again")
			look("7-cancelled")

			p.open(address + "/auth/callback?code=made-up&state=made-up")
			p.see("cookies are allowed")
			look("8-invalid-state")

			p.open(address)
			p.click(`main a[href*="screen_hint=signup"]`)
			run(p, "sign-up page", chromedp.WaitVisible("#email"))
			look("9-signup")
			run(p, "name", chromedp.SendKeys("#name", "Zoë Nguyễn-Ångström"))
			run(p, "e-mail", chromedp.SendKeys("#email", "zoe@example.com"))
			p.click(`button[value="signup"]`)
			p.see("Zoë Nguyễn-Ångström")
			look("10-signed-up")
		})
	}
}

// TestSessionsInChromium is a user with two browsers, one of which is lost.
func TestSessionsInChromium(t *testing.T) {
	for _, size := range windows {
		t.Run(size.name, func(t *testing.T) {
			address := startQuickstart(t, "-store", "memory")
			p, lost := page{t, newChromium(t)}, page{t, newChromium(t)}
			run(p, "size", chromedp.EmulateViewport(size.width, size.height))
			look := func(name string) { t.Helper(); p.fits(); p.shot(size.name + "-" + name) }
			for _, browser := range []page{lost, p} {
				browser.open(address + "/account")
				browser.signIn("password")
				browser.see("Only you can see this page.")
			}

			p.open(address + "/sessions")
			p.see("2 sessions")
			look("12-sessions")
			p.click(`form[action="/sessions/end"] button`)
			p.see("1 session")
			if got := run(p, "count", chromedp.Evaluate[int](`document.querySelectorAll(".sessions li").length`)); got != 1 {
				t.Errorf("%d sessions are left", got)
			}
			look("13-one-session")
			lost.open(address)
			lost.see("Sign in to see your account") // at once
			p.open(address + "/account")
			p.see("Only you can see this page.")

			lost.open(address + "/account") // it is signed in at the provider still
			lost.see("Only you can see this page.")
			p.open(address + "/sessions")
			p.see("2 sessions")
			p.click(`form[action="/sessions/end-all"] button`)
			p.see("Sign in to see your account")
			look("14-signed-out-everywhere")
			lost.open(address)
			lost.see("Sign in to see your account")
			p.open(address + "/account")
			run(p, "sign-in page", chromedp.WaitVisible("#password")) // signed out at the provider, too
		})
	}
}
