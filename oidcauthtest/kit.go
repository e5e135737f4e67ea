package oidcauthtest

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/oidcauth/oidcauth"
)

// NewClient returns a client with the options of a new [Provider], after edit if that is not nil.
func NewClient(tb testing.TB, edit ...func(*oidcauth.Options)) (*oidcauth.Client, *Provider) {
	tb.Helper()
	p := NewProvider(tb)
	o := p.Options()
	for _, f := range edit {
		f(&o)
	}
	client, err := oidcauth.New(o)
	if err != nil {
		tb.Fatalf("oidcauth.New: %v", err)
	}
	return client, p
}

// SignedIn returns a request that carries the session of user, who has signed in through the whole flow. The client has to
// be one that [NewClient] returned together with p.
func (p *Provider) SignedIn(client *oidcauth.Client, method, target string, user User) *http.Request {
	p.tb.Helper()
	b := p.NewBrowser(client.Handler())
	b.SignIn(user)
	r := httptest.NewRequest(method, target, http.NoBody)
	for _, cookie := range b.Cookies(baseURL + "/") {
		r.AddCookie(&http.Cookie{Name: cookie.Name, Value: cookie.Value})
	}
	return r
}
