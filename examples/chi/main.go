// Chi is an application with the router chi to which sign-in was added. It starts a provider to sign in at, on this
// machine:
//
//	go run ./examples/chi
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"html/template"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest/devprovider"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:3000", "`address` to listen on, of this machine")
	flag.Parse()
	listener, err := net.Listen("tcp4", *addr)
	if err != nil {
		log.Fatalf("chi: %v; choose another port with -addr 127.0.0.1:0", err)
	}
	if err := serve(listener, os.Stdout); err != nil {
		log.Fatal("chi: ", err)
	}
}

// serve answers requests until the listener is closed.
func serve(listener net.Listener, out io.Writer) error {
	baseURL := "http://" + listener.Addr().String()
	// A provider where anybody signs in as anybody: only for trying things out, and only on this machine.
	provider, err := devprovider.Listen(devprovider.Options{BaseURL: baseURL})
	if err != nil {
		return err
	}
	defer provider.Close()
	client, err := oidcauth.New(provider.Options())
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Open %s\n", baseURL)
	server := &http.Server{Handler: routes(client), ReadHeaderTimeout: 10 * time.Second}
	return server.Serve(listener)
}

// routes is the application: a router as there are many, whose middleware is left as it was.
func routes(client *oidcauth.Client) http.Handler {
	r := chi.NewRouter()
	r.Use(middleware.RequestID, middleware.Recoverer, middleware.Compress(5))
	r.Use(client.Wrap) // the auth routes, and the session of every other request

	r.Get("/", home(client))
	r.With(client.RequireAuth).Get("/notes/{id}", note)
	r.Route("/api", func(r chi.Router) {
		r.Use(client.RequireAuthAPI)
		r.Get("/me", me)
	})
	return r
}

var page = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Notes</title>
<body style="font: 1rem/1.5 system-ui; max-width: 30rem; margin: 2rem auto; padding: 0 1rem">
{{with .User}}<h1>Hello {{.}}</h1>{{else}}<h1>Hello</h1>{{end}}
<p>{{.Text}}</p>
<p><a href="/notes/7">Note 7</a> · <a href="/api/me">API</a> ·
{{if .User}}<a href="{{.Logout}}">Sign out</a>{{else}}<a href="{{.Login}}">Sign in</a>{{end}}
`))

// home is for everybody, and knows who is signed in.
func home(client *oidcauth.Client) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		data := map[string]string{
			"Text": "This page is for everybody.", "Login": client.LoginURL(""), "Logout": client.LogoutURL(""),
		}
		if s, err := client.GetSession(r); err == nil {
			data["User"] = s.Subject
		}
		_ = page.Execute(w, data) // an error means that the browser is gone
	}
}

// note is for those who are signed in.
func note(w http.ResponseWriter, r *http.Request) {
	s, _ := oidcauth.SessionFromContext(r.Context())
	_ = page.Execute(w, map[string]string{
		"User": s.Subject, "Text": "Note " + chi.URLParam(r, "id") + " is yours alone.", "Logout": "/auth/logout",
	})
}

// me is for scripts that are signed in.
func me(w http.ResponseWriter, r *http.Request) {
	s, _ := oidcauth.SessionFromContext(r.Context())
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"user": s.Subject})
}
