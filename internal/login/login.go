// Package login is the transaction between the start of a login and its callback, which the browser keeps, sealed.
package login

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"time"
)

// Lifetime is how long a user has to sign in at the provider.
const Lifetime = 15 * time.Minute

// A Transaction is what a login under way has to remember: what its callback must match, and what was asked for, which is
// checked against what comes back (lesson 25).
type Transaction struct {
	State        string   `json:"s"`
	Nonce        string   `json:"n"`
	Verifier     string   `json:"v"` // PKCE (RFC 7636 4.1)
	Started      int64    `json:"t"` // Unix seconds
	ReturnTo     string   `json:"r"`
	Scope        string   `json:"c"`
	Audience     string   `json:"u,omitempty"`
	Organization string   `json:"o,omitempty"`
	ACR          []string `json:"a,omitempty"` // one of these is required
	MaxAge       *int64   `json:"m,omitempty"` // seconds
	Fresh        bool     `json:"f,omitempty"` // prompt=login
	Silent       bool     `json:"q,omitempty"` // prompt=none
	Again        string   `json:"g,omitempty"` // the page whose guard asked for this login although there was a session
	Elsewhere    bool     `json:"e,omitempty"` // no page of ours is known to have started it
	Over         bool     `json:"w,omitempty"` // it was started over, which is done once
	Replaces     []byte   `json:"i,omitempty"` // the id of the session that there was when it began
}

// New returns a transaction with state, nonce and verifier of 256 random bits each.
func New(returnTo string) *Transaction {
	return &Transaction{State: Random(), Nonce: Random(), Verifier: Random(), Started: time.Now().Unix(), ReturnTo: returnTo}
}

// StartOver returns a transaction that asks once more for what t did, and for no other authentication.
func (t *Transaction) StartOver() *Transaction {
	next := New(t.ReturnTo)
	next.Again, next.Elsewhere, next.Replaces, next.Over = t.Again, t.Elsewhere, t.Replaces, true
	return next
}

// Random returns 256 random bits in 43 characters of base64url.
func Random() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Encode returns what Decode reads.
func (t *Transaction) Encode() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // it would make six octets of each & in a query
	_ = e.Encode(t)        // strings and numbers always encode
	return b.Bytes()
}

// Decode returns the transaction if it is the one that state belongs to. An empty state belongs to none (lesson 27).
func Decode(encoded []byte, state string) (*Transaction, bool) {
	var t Transaction
	err := json.Unmarshal(encoded, &t)
	ok := err == nil && state != "" && subtle.ConstantTimeCompare([]byte(t.State), []byte(state)) == 1
	return &t, ok
}

// StaleAuthentication reports whether prompt=login brought an authentication from before it was asked for (S47). A zero
// authTime says nothing.
func (t *Transaction) StaleAuthentication(authTime time.Time, leeway time.Duration) bool {
	return t.Fresh && !authTime.IsZero() && authTime.Before(time.Unix(t.Started, 0).Add(-leeway))
}
