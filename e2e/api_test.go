package e2e

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// startExample builds and runs an example that is a module of its own, and returns the address that it prints.
func startExample(t *testing.T, name string, args ...string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), name)
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Dir = filepath.Join("..", "examples", name)
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	cmd := exec.Command(binary, append([]string{"-addr", "127.0.0.1:0"}, args...)...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("run %s: %v", name, err)
	}
	read := make(chan struct{})
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-read
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s did not end well when interrupted: %v", name, err)
		}
	})
	opened := make(chan string, 1)
	go func() {
		defer close(read)
		defer close(opened)
		for lines := bufio.NewScanner(stdout); lines.Scan(); { // to the end, or the example would wait for a reader
			if address, ok := strings.CutPrefix(lines.Text(), "Open "); ok {
				opened <- address
			}
		}
	}()
	address, ok := <-opened
	if !ok {
		t.Fatalf("%s printed no address", name)
	}
	return address
}

var sizes = []struct {
	name          string
	width, height int64
}{{"desktop", 1280, 800}, {"phone", 360, 740}}

func TestTheAPIExampleInChromium(t *testing.T) {
	for _, size := range sizes {
		t.Run(size.name, func(t *testing.T) {
			address := startExample(t, "api", "-token-lifetime", "2s")
			p := page{t, newChromium(t)}
			run(p, "size", chromedp.EmulateViewport(size.width, size.height))
			look := func(name string) { t.Helper(); p.fits(); p.shot("api-" + size.name + "-" + name) }
			p.open(address)
			p.see("Sign in to see your orders")
			look("1-home")
			p.click("a.button")
			p.signIn("password")
			p.see("Orders of ada")
			look("2-orders")
			for deadline := time.Now().Add(15 * time.Second); !strings.Contains(p.text("body"), "access token 2."); {
				if time.Now().After(deadline) {
					t.Fatal("there is no second token")
				}
				p.click("a.button")
			}
			look("3-refreshed")
			p.open(address + "/stream")
			p.see("The token has expired")
			look("4-stream")
			p.open(address)
			p.see("You are signed in as ada.")
			look("5-signed-in")
			p.click("form button")
			p.see("Sign in to see your orders")
		})
	}
}

func TestTheProxyExampleInChromium(t *testing.T) {
	for _, size := range sizes {
		t.Run(size.name, func(t *testing.T) {
			address := startExample(t, "proxy")
			p := page{t, newChromium(t)}
			run(p, "size", chromedp.EmulateViewport(size.width, size.height))
			look := func(name string) { t.Helper(); p.fits(); p.shot("proxy-" + size.name + "-" + name) }
			p.open(address)
			p.see("never sees your access token")
			look("1-home")
			p.click("a.button")
			p.signIn("password")
			p.see("You are signed in as ada.")
			p.click("#hello button")
			p.see(`"user": "ada"`)
			if seen := p.text("#hello pre"); strings.Contains(seen, "Cookie") || !strings.Contains(seen, "Bearer") {
				t.Errorf("the API sees a cookie, or no token:\n%s", seen)
			}
			p.click("#note button")
			p.see(`"text": "Call Charles"`)
			p.click("#events button")
			p.see("at the API.")
			look("2-used")

			p.script(`await fetch("/auth/logout", {method: "POST", redirect: "manual"})`) // but not at the provider
			p.click("#hello button")
			run(p, "the page, after a login", chromedp.WaitVisible("#hello pre:empty"))
			p.click("#hello button")
			p.see(`"user": "ada"`)
		})
	}
}
