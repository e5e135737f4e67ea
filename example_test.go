package oidcauth_test

import (
	"log"
	"net/http"
	"os"

	"github.com/oidcauth/oidcauth"
)

func home(http.ResponseWriter, *http.Request)    {}
func account(http.ResponseWriter, *http.Request) {}

var api = http.NotFoundHandler()

func Example() {
	client, err := oidcauth.New(oidcauth.Options{
		Issuer:       "https://tenant.example.com/",
		ClientID:     os.Getenv("OIDC_CLIENT_ID"),
		ClientSecret: os.Getenv("OIDC_CLIENT_SECRET"),
		BaseURL:      "https://app.example.com",
		Secrets:      []string{os.Getenv("SESSION_SECRET")},
	})
	if err != nil {
		log.Fatal(err)
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", home)
	mux.Handle("GET /account", client.RequireAuth(http.HandlerFunc(account)))
	mux.Handle("/api/", client.RequireAuthAPI(api))
	log.Fatal(http.ListenAndServe(":8080", client.Wrap(mux)))
}
