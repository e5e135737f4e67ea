package main

import (
	"embed"
	"html/template"
	"log"
	"net/http"

	"github.com/oidcauth/oidcauth"
)

//go:embed pages.html style.css
var files embed.FS

var pages = template.Must(template.ParseFS(files, "pages.html"))

// home says who is signed in.
func (a *app) home(w http.ResponseWriter, r *http.Request) {
	var v struct {
		Client  *oidcauth.Client
		Session *oidcauth.Session // nil: nobody
	}
	v.Client = a.client
	v.Session, _ = a.client.GetSession(r)
	w.Header().Set("Cache-Control", "no-store") // who is signed in differs from one browser to the next
	show(w, "home", v)
}

// show answers with a page.
func show(w http.ResponseWriter, name string, data any) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; frame-ancestors 'none'")
	if err := pages.ExecuteTemplate(w, name, data); err != nil {
		log.Print("api: ", err)
	}
}
