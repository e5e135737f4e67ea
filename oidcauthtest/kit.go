package oidcauthtest

import (
	"net/http"
	"testing"

	"github.com/oidcauth/oidcauth"
)

// NewClient returns a client with the options of a new [Provider], which are edited as [NewProvider] says.
func NewClient(tb testing.TB, edit ...func(*oidcauth.Options)) (*oidcauth.Client, *Provider) {
	tb.Helper()
	p := NewProvider(tb, edit...)
	client, err := oidcauth.New(p.Options())
	if err != nil {
		tb.Fatalf("oidcauth.New: %v", err)
	}
	return client, p
}

// SignedIn returns a request, as a server receives it, that carries the session of user, who has signed in through the
// whole flow. The target is a path of the application, or a URL. The client has to be one with the options of p.
func (p *Provider) SignedIn(client *oidcauth.Client, method, target string, user User) *http.Request {
	p.tb.Helper()
	b := p.NewBrowser(client.Handler())
	b.SignIn(user)
	return b.Request(method, target)
}
