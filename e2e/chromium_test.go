// Package e2e tests the library with what it meets in the world: a real browser, other people's URL parsers and
// providers. It is a module of its own, so that none of them reaches the users of the library.
package e2e

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// newChromium starts a headless Chromium with a profile of its own and returns a context for chromedp.Run. Both end
// with the test, or after three minutes. Without a Chromium the test is skipped; with CI set it fails.
func newChromium(t *testing.T) context.Context {
	t.Helper()
	path := findChromium()
	if path == "" && os.Getenv("CI") != "" {
		t.Fatal("no chromium in PATH: install it, since these tests must not be skipped where CI is set")
	}
	if path == "" {
		t.Skip("no chromium in PATH")
	}

	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx,
		chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.Headless,
		chromedp.NoSandbox, // CI runs as root
		chromedp.DisableGPU,
		chromedp.NoFirstRun,
		chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-dev-shm-usage", true), // 64 MB in most containers
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("test-third-party-cookie-phaseout", true), // as the strictest browsers are
	)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	// The profile is removed after this, so the browser has to be gone: Cancel waits for it.
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Logf("close chromium: %v", err)
		}
	})
	if _, err := chromedp.Run(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	return ctx
}

func findChromium() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}
