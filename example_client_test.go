package oidcauth_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	"github.com/oidcauth/oidcauth"
)

// newExampleClient is a client of a provider that these examples never ask.
func newExampleClient() *oidcauth.Client {
	client, err := oidcauth.New(oidcauth.Options{
		Issuer:       "https://tenant.example.com/",
		ClientID:     "example",
		ClientSecret: "the secret that the provider shows",
		BaseURL:      "https://app.example.com",
		Secrets:      []string{"5d8a3c1f90e27b64a1c0d9e8f7b6a594"}, // yours: openssl rand -hex 32
	})
	if err != nil {
		log.Fatal(err)
	}
	return client
}

func askExample(h http.Handler, method, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, http.NoBody))
	return w
}

func ExampleClient_RequireAuthAPI() {
	client := newExampleClient()
	orders := client.RequireAuthAPI(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := oidcauth.SessionFromContext(r.Context())
		fmt.Fprintf(w, "orders of %s", s.Subject)
	}))

	w := askExample(orders, "GET", "/api/orders")
	fmt.Println(w.Code, strings.TrimSpace(w.Body.String()))
	// Output: 401 {"error":"unauthenticated","error_description":"You are not signed in.","login_url":"/auth/login"}
}

func ExampleClient_Handler() {
	client := newExampleClient()
	mux := http.NewServeMux()
	mux.Handle("/auth/", client.Handler()) // without a method
	mux.HandleFunc("GET /{$}", home)

	fmt.Println(askExample(mux, "GET", "/auth/profile").Code, askExample(mux, "GET", "/auth/unknown").Code)
	// Output: 401 404
}

// A pattern with a method keeps the other methods away from the routes: here the form that signs out.
func ExampleClient_Handler_incorrect() {
	client := newExampleClient()
	mux := http.NewServeMux()
	mux.Handle("GET /auth/", client.Handler())

	fmt.Println(askExample(mux, "POST", "/auth/logout").Code)
	// Output: 405
}

// The library limits no rates, since only the application knows its proxies. This lets a hundred requests a second through
// to the auth routes, in each process.
func ExampleClient_Handler_limited() {
	const perSecond = 100
	client := newExampleClient()
	var second, count atomic.Int64
	limited := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if now := time.Now().Unix(); second.Swap(now) != now {
			count.Store(0)
		}
		if count.Add(1) > perSecond {
			http.Error(w, "too many requests", http.StatusTooManyRequests)
			return
		}
		client.Handler().ServeHTTP(w, r)
	})

	refused := false
	for range 3 * perSecond { // two seconds may share them, not three
		refused = refused || askExample(limited, "GET", "/auth/profile").Code == http.StatusTooManyRequests
	}
	fmt.Println(refused)
	// Output: true
}
