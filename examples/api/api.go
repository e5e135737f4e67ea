package main

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// audience is what the API calls itself in access tokens.
const audience = "https://orders.example.com"

// orders is what the API answers.
type orders struct {
	User  string   `json:"user"`
	Items []string `json:"items"`
	Token int      `json:"token"` // 1 for the first that the API has seen, and so on: a refresh shows
}

// An api answers whoever has an access token for it. Of sessions and cookies it knows nothing.
type api struct {
	// check stands for what the API of a real provider does: verify a JWT, or ask for introspection (RFC 7662).
	check func(token string) (subject, audience string, ok bool)

	mu   sync.Mutex
	seen map[string]int
}

// startAPI serves the API on a free port.
func startAPI(check func(token string) (subject, audience string, ok bool)) (*http.Server, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /orders", &api{check: check, seen: map[string]int{}})
	server := &http.Server{Addr: listener.Addr().String(), Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(listener) // until Close
	return server, nil
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	subject, aud, ok := a.check(token)
	if !ok || aud != audience {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`) // RFC 6750 3.1: the client gets another
		http.Error(w, "an access token for "+audience+" is needed", http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(orders{ // an error means that the client is gone
		User: subject, Items: []string{"Analytical engine", "Punched cards, 1,000"}, Token: a.number(token),
	})
}

// number counts the tokens that were seen up to the first use of this one.
func (a *api) number(token string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen[token] == 0 {
		a.seen[token] = len(a.seen) + 1
	}
	return a.seen[token]
}
