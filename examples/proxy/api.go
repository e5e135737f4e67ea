package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// audience is what the API calls itself in access tokens.
const audience = "https://notes.example.com"

// An api answers whoever has an access token for it. Of sessions and cookies it knows nothing.
type api struct {
	// check stands for what the API of a real provider does: verify a JWT, or ask for introspection (RFC 7662).
	check func(token string) (subject, audience string, ok bool)
	pause time.Duration // between two events

	mu    sync.Mutex
	log   io.Writer
	notes int
}

// startAPI serves the API on a free port.
func startAPI(check func(token string) (subject, audience string, ok bool), log io.Writer) (*http.Server, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &api{check: check, pause: time.Second, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/hello", a.hello)
	mux.HandleFunc("POST /v1/notes", a.note)
	mux.HandleFunc("GET /v1/events", a.events)
	server := &http.Server{Addr: listener.Addr().String(), Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(listener) // until Close
	return server, nil
}

// user says whose the access token of r is, or answers that it is none.
func (a *api) user(w http.ResponseWriter, r *http.Request) (subject string, ok bool) {
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	subject, aud, ok := a.check(token)
	a.mu.Lock()
	fmt.Fprintf(a.log, "API: %s %s, bearer token: %t, user: %q, cookie: %t\n",
		r.Method, r.URL, bearer, subject, r.Header["Cookie"] != nil)
	a.mu.Unlock()
	if !ok || aud != audience {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`) // RFC 6750 3.1
		http.Error(w, "an access token for "+audience+" is needed", http.StatusUnauthorized)
		return "", false
	}
	return subject, true
}

// hello tells what there is to see of a request. The browser sent more: a cookie, and where it came from.
func (a *api) hello(w http.ResponseWriter, r *http.Request) {
	user, ok := a.user(w, r)
	if !ok {
		return
	}
	headers := map[string]string{}
	for name := range r.Header {
		headers[name] = r.Header.Get(name)
	}
	headers["Authorization"] = "Bearer …"
	answer(w, map[string]any{"user": user, "headers": headers})
}

// note takes a note.
func (a *api) note(w http.ResponseWriter, r *http.Request) {
	user, ok := a.user(w, r)
	if !ok {
		return
	}
	var note struct{ Text string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&note); err != nil {
		http.Error(w, "a note is JSON with a text", http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	a.notes++
	number := a.notes
	a.mu.Unlock()
	answer(w, map[string]any{"number": number, "text": note.Text, "by": user})
}

// events streams the time of day (Server-sent events, HTML Standard 9.2).
func (a *api) events(w http.ResponseWriter, r *http.Request) {
	if _, ok := a.user(w, r); !ok {
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for {
		if _, err := fmt.Fprintf(w, "data: %s\n\n", time.Now().Format(time.TimeOnly)); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush() // the next write finds out that nobody reads
		select {
		case <-r.Context().Done():
			return
		case <-time.After(a.pause):
		}
	}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // an error means that the client is gone
}
