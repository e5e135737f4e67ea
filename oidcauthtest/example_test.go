package oidcauthtest_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

func Example() {
	var t testing.TB = exampleTB{} // in a test, this is its *testing.T

	client, provider := oidcauthtest.NewClient(t)
	app := client.RequireAuth(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, _ := oidcauth.SessionFromContext(r.Context())
		fmt.Fprintf(w, "hello %s", session.Subject)
	}))

	b := provider.NewBrowser(client.Wrap(app))
	fmt.Println(b.Fetch("/account").StatusCode)
	b.SignIn(oidcauthtest.User{Subject: "alice"})
	fmt.Println(b.Fetch("/account").Body)
	// Output:
	// 401
	// hello alice
}

func ExampleProvider_Misbehave() {
	var t testing.TB = exampleTB{} // in a test, this is its *testing.T

	client, provider := oidcauthtest.NewClient(t, quiet)
	provider.Misbehave("invalid-iss")
	fmt.Println(provider.NewBrowser(client.Handler()).Get("/auth/login").StatusCode)
	// Output: 502
}
