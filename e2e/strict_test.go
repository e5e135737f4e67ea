package e2e

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest/devprovider"
)

// startOn starts an application at localhost, whose provider is at 127.0.0.1: another site to a browser.
func startOn(t *testing.T, edit func(*oidcauth.Options)) (address string) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	t.Cleanup(server.Close)
	address = "http://" + strings.Replace(server.Listener.Addr().String(), "127.0.0.1", "localhost", 1)
	quiet := slog.New(slog.DiscardHandler)
	provider, err := devprovider.Listen(devprovider.Options{BaseURL: address, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = provider.Close() })
	options := provider.Options()
	options.Logger = quiet
	edit(&options)
	client, err := oidcauth.New(options)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/account", client.RequireAuth(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := oidcauth.SessionFromContext(r.Context())
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!doctype html><title>Account</title><p>signed in as "+s.Subject)
	})))
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "start page") })
	server.Config.Handler = client.Wrap(mux)
	server.Start()
	return address
}

// S42, S25, FPM-02, FPM-06: on two sites, with cookies for both as strict as can be, and the answer in the query or in a
// form. Third-party cookies are blocked, as in newer browsers.
func TestSignInOnTwoSites(t *testing.T) {
	for name, edit := range map[string]func(*oidcauth.Options){
		"Lax, query":     func(*oidcauth.Options) {},
		"Lax, form post": func(o *oidcauth.Options) { o.ResponseMode = oidcauth.ResponseFormPost },
		"Strict, query":  func(o *oidcauth.Options) { o.Cookie.SameSite = http.SameSiteStrictMode },
		"Strict, form post": func(o *oidcauth.Options) {
			o.Cookie.SameSite, o.ResponseMode = http.SameSiteStrictMode, oidcauth.ResponseFormPost
		},
	} {
		t.Run(name, func(t *testing.T) {
			address := startOn(t, edit)
			other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				fmt.Fprintf(w, `<p>Another site <a href="%s/account?tab=2">click</a>`, address)
			}))
			defer other.Close()
			p := page{t, newChromium(t)}
			p.open(address + "/account?tab=1")
			p.signIn("password")
			p.see("signed in as") // on the first page after the login
			if where := p.where(); where != address+"/account?tab=1" {
				t.Errorf("the login ends at %s", where)
			}
			p.shot("two-sites-" + strings.ReplaceAll(name, ", ", "-"))
			for i, url := range run(p, "history", chromedp.NavigationEntries()).Entries {
				if strings.Contains(url.URL, "code=") || strings.Contains(url.URL, "state=") && strings.HasPrefix(url.URL, address) {
					t.Errorf("entry %d of the history is %s", i, url.URL)
				}
			}
			// A link of another site, that of the provider, finds the session, without a visit to the provider.
			p.open(other.URL)
			p.see("Another site")
			run(p, "click", chromedp.Evaluate[bool](`document.querySelector("a").click(), true`))
			p.see("signed in as")
			if where := p.where(); where != address+"/account?tab=2" {
				t.Errorf("the link ends at %s", where)
			}
		})
	}
}
