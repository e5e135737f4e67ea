package main

import (
	"embed"
	"encoding/json"
	"html/template"
	"log"
	"net/http"

	"github.com/oidcauth/oidcauth"
)

//go:embed *.html style.css api.js
var files embed.FS

// An app is the web application. All it knows of sign-in is the client.
type app struct {
	client *oidcauth.Client
	store  string // as the flag -store has it
	pages  *template.Template
}

func newApp(client *oidcauth.Client, store string) *app {
	return &app{client: client, store: store, pages: template.Must(template.ParseFS(files, "*.html"))}
}

func (a *app) routes() http.Handler {
	client, mux := a.client, http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.page("home.html", "Home"))
	mux.HandleFunc("GET /api", a.page("api.html", "API"))
	mux.Handle("GET /account", client.RequireAuth(a.page("account.html", "Account")))
	mux.Handle("GET /sessions", client.RequireAuth(http.HandlerFunc(a.sessions)))
	mux.Handle("POST /sessions/end", client.RequireAuth(http.HandlerFunc(a.endSession)))
	mux.Handle("POST /sessions/end-all", client.RequireAuth(http.HandlerFunc(a.signOutEverywhere)))
	mux.Handle("GET /api/me", client.RequireAuthAPI(http.HandlerFunc(a.me)))
	mux.Handle("GET /style.css", http.FileServerFS(files))
	mux.Handle("GET /api.js", http.FileServerFS(files))
	return client.Wrap(mux)
}

// A user is what the application wants to know about somebody.
type user struct {
	Subject string `json:"sub"`
	Name    string `json:"name,omitempty"`
	Email   string `json:"email,omitempty"`
	Picture string `json:"picture,omitempty"`
}

// A view is what the templates see. Without a session, Session and User are nil.
type view struct {
	Title   string
	Path    string
	Client  *oidcauth.Client
	Session *oidcauth.Session
	User    *user

	Sessions   []*oidcauth.Session // all of the user's, the one used last first
	Unlisted   error               // why there are none in Sessions
	Everywhere bool                // all can be ended
}

// Scripts and styles are the application's own; the user's picture may be anywhere.
const contentPolicy = "default-src 'self'; img-src 'self' https: http://127.0.0.1:*; frame-ancestors 'none'"

// page answers with the named template, whether somebody is signed in or not. A guard around it lets only users see it.
func (a *app) page(name, title string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := a.view(r, title)
		if err != nil {
			a.client.Error(w, r, err)
			return
		}
		a.show(w, name, v)
	}
}

func (a *app) view(r *http.Request, title string) (*view, error) {
	v := &view{Title: title, Path: r.URL.Path, Client: a.client}
	if session, err := a.client.GetSession(r); err == nil {
		v.Session, v.User = session, &user{}
		if err := session.Claims(v.User); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (a *app) show(w http.ResponseWriter, name string, v *view) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store") // who is signed in differs from one browser to the next
	h.Set("Content-Security-Policy", contentPolicy)
	if err := a.pages.ExecuteTemplate(w, name, v); err != nil {
		log.Print("quickstart: ", err)
	}
}

// me answers with the user as JSON. Behind the guard there always is a session.
func (a *app) me(w http.ResponseWriter, r *http.Request) {
	session, _ := oidcauth.SessionFromContext(r.Context())
	var u user
	if err := session.Claims(&u); err != nil {
		a.client.Error(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(u) // an error means that the browser is gone
}
