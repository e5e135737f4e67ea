// Package page renders the few pages that the library itself shows: errors and the question before a logout. They are
// small, neutral and need no script.
package page

import (
	_ "embed"
	"encoding/json"
	"html/template"
	"net/http"
	"slices"
)

// A Page is one message to the user. All text is escaped.
type Page struct {
	Title, Text string
	Code        string // shown small, for a report to the application's people; empty: none
	Links       []Link // the way on; the first is shown as the main one
	Form        *Form  // nil: none
}

// A Link leads to a URL that the caller has checked.
type Link struct{ Text, URL string }

// A Form is a single button that posts Fields to Action.
type Form struct {
	Action, Button string
	Fields         map[string]string
}

//go:embed page.html
var source string

var layout = template.Must(template.New("page").Parse(source))

// Write answers with p. Headers that keep the response out of caches are the caller's.
func Write(w http.ResponseWriter, status int, p Page) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	// The style sheet is inline; there is no script and nothing is loaded (HYG-03, BCP-11).
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Frame-Options", "DENY")
	if p.Form != nil {
		// With no-referrer a form's Origin is null, and the cross-origin check refuses our own button (S27).
		h.Set("Referrer-Policy", "same-origin")
	}
	w.WriteHeader(status)
	_ = layout.Execute(w, p) // an error means that the client is gone
}

// Protect keeps a response of ours out of every cache, and its text from being taken for something else (HYG-01, HYG-03, S12).
func Protect(h http.Header) {
	h.Set("Cache-Control", "private, no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if !slices.Contains(h["Vary"], "Cookie") {
		h.Add("Vary", "Cookie")
	}
}

// JSON answers with v.
func JSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // an error means that the client is gone
}
