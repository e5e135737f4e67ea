package main

import (
	"context"
	"errors"
	"html/template"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/stores/redisstore"
)

// instance serves the application on addr. What all instances have to agree on is in the environment: provider,
// BaseURL, secrets and the address of Redis.
func instance(addr string) error {
	store, err := redisstore.New(redis.NewClient(&redis.Options{
		Addr:                  os.Getenv("REDIS_ADDR"),
		DialerRetries:         1,    // or who asks for a session in an outage waits two seconds for the answer
		ContextTimeoutEnabled: true, // or each call takes a goroutine
	}), redisstore.Options{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := store.Check(ctx); err != nil {
		log.Print(err) // such as a Redis that may forget sessions, or that is still starting
	}
	options, err := oidcauth.OptionsFromEnv()
	if err != nil {
		return err
	}
	options.Store = store
	client, err := oidcauth.New(options)
	if err != nil {
		return err
	}
	server := &http.Server{Addr: addr, Handler: routes(client, addr), ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServe()
}

// routes are three pages, which differ in what they need to know.
func routes(client *oidcauth.Client, name string) http.Handler {
	show := func(w http.ResponseWriter, user, text string) {
		data := map[string]string{"Instance": name, "User": user, "Text": text, "Logout": client.LogoutURL("")}
		_ = page.Execute(w, data) // an error means that the browser is gone
	}
	mux := http.NewServeMux()
	// For everybody: nobody asks who it is, so that Redis is not read.
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		show(w, "", "This page is for everybody.")
	})
	// For everybody too, but the page would like to know who it is.
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, r *http.Request) {
		switch s, err := client.GetSession(r); {
		case err == nil:
			show(w, s.Subject, "Hello "+s.Subject+"!")
		case errors.Is(err, oidcauth.ErrNoSession):
			show(w, "", "Hello stranger!")
		default: // Redis is down, which makes nobody a stranger
			show(w, "", "Hello! Who are you? Nobody can tell at the moment.")
		}
	})
	// For those who are signed in.
	mux.Handle("GET /account", client.RequireAuth(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := oidcauth.SessionFromContext(r.Context())
		show(w, s.Subject, "You are "+s.Subject+".")
	})))
	return client.Wrap(mux)
}

var page = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Two instances</title>
<body style="font: 1rem/1.5 system-ui; max-width: 30rem; margin: 2rem auto; padding: 0 1rem">
<h1>{{.Text}}</h1>
<p>This is instance {{.Instance}}. Reload, and it is the other one.</p>
<p><a href="/">For everybody</a> · <a href="/hello">Hello</a> · <a href="/account">Your account</a>
{{with .User}} · <a href="{{$.Logout}}">Sign out</a>{{end}}</p>
`))
