// Package page renders the few pages that the library itself shows: errors and the question before a logout. They are
// small, neutral and need no script.
package page

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"net/http"
	"strings"
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

// A Form is a single button that posts Fields to Action. A quiet one comes after the links, the first of which is then the
// main one.
type Form struct {
	Action, Button string
	Fields         map[string]string
	Quiet          bool
}

//go:embed page.html
var source string

var (
	layout = template.Must(template.New("page").Parse(source))
	policy = contentPolicy()
)

// contentPolicy admits the layout's own style sheet by its hash; there is no script and nothing is loaded (HYG-03,
// BCP-11).
func contentPolicy() string {
	_, rest, _ := strings.Cut(source, "<style>")
	sheet, _, _ := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(sheet))
	hash := base64.StdEncoding.EncodeToString(sum[:])
	return "default-src 'none'; style-src 'sha256-" + hash + "'; frame-ancestors 'none'; base-uri 'none'"
}

// Write answers with p. Headers that keep the response out of caches are the caller's to set, before.
func Write(w http.ResponseWriter, status int, p Page) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("X-Frame-Options", "DENY")
	if p.Form == nil {
		h.Set("Content-Security-Policy", policy+"; form-action 'none'")
	} else {
		// No form-action: Chromium applies it to the redirect that answers the form, which leads to the provider.
		h.Set("Content-Security-Policy", policy)
		// With no-referrer a form's Origin is null, and the cross-origin check refuses our own button (S27).
		h.Set("Referrer-Policy", "same-origin")
	}
	w.WriteHeader(status)
	_ = layout.Execute(w, p) // an error means that the client is gone
}

// JSON answers with v, or with a 500 if v comes from a hook and cannot be encoded.
func JSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // an error means that the client is gone
}
