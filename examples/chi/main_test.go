package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/oidcauthtest"
)

func TestTheRouterKeepsItsRoutesAndGetsSignIn(t *testing.T) {
	t.Parallel()
	client, provider := oidcauthtest.NewClient(t)
	b := provider.NewBrowser(routes(client))
	if page := b.Get("/"); page.StatusCode != http.StatusOK || !strings.Contains(page.Body, `href="/auth/login"`) {
		t.Errorf("the start page: %d %s", page.StatusCode, page.Body)
	}
	if resp := b.Fetch("/api/me"); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("the API without a session: %d", resp.StatusCode)
	}
	page := b.Get("/notes/7?tab=2") // by way of the provider
	if page.URL.RequestURI() != "/notes/7?tab=2" || !strings.Contains(page.Body, "Note 7 is yours alone.") ||
		!strings.Contains(page.Body, "Hello alice") {
		t.Errorf("the note: %s %s", page.URL, page.Body)
	}
	if resp := b.Fetch("/api/me"); resp.Body != "{\"user\":\"alice\"}\n" {
		t.Errorf("the API: %d %s", resp.StatusCode, resp.Body)
	}
	if page := b.Get("/auth/profile"); !strings.Contains(page.Body, "alice@example.com") {
		t.Errorf("the profile: %d %s", page.StatusCode, page.Body)
	}
	b.SignOut()
	if page := b.Get("/"); strings.Contains(page.Body, "alice") {
		t.Errorf("after the logout: %s", page.Body)
	}
	if page := b.Get("/nowhere"); page.StatusCode != http.StatusNotFound {
		t.Errorf("a path that is none: %d", page.StatusCode)
	}
}
