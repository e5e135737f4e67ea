package login

import (
	"crypto/sha256"
	"encoding/base64"
	"time"
)

// Again remembers, in the session, that the guard of a page asked for this login although there was a session: what it
// refuses now it would refuse again. After five minutes it may ask once more (S31).
type Again struct {
	Page string `json:"page"` // a PageID
	At   int64  `json:"at"`   // Unix seconds
}

// Covers reports whether a is about the page and still counts.
func (a Again) Covers(page string) bool {
	return a.Page == page && time.Since(time.Unix(a.At, 0)) < 5*time.Minute
}

// PageID stands for a path, however long it is.
func PageID(path string) string {
	sum := sha256.Sum256([]byte(path))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}
