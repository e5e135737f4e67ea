package cookie

import (
	"encoding/binary"
	"time"
)

// version is the first byte of every box. What is newer than this program is refused, not guessed at.
const version = 1

// Identity is who is signed in and until when: the part of a session that every request opens. Times are Unix seconds.
// The zero value names nobody.
type Identity struct {
	// ID is random and names the session.
	ID [32]byte
	// Tenant says whose issuer it is where the provider has many, and is empty where it has one.
	Tenant string
	// Subject and SID are the sub and sid claims (OpenID Connect Core, section 2; Back-Channel Logout, section 2.1).
	Subject, SID string
	// Created is when the session began, Seen when it was last used, End when it ends however much it is used, and
	// Began the iat claim of the login's ID token.
	Created, Seen, End, Began int64
	// TokenExpiry is when the login's access token expires, 0 if that is unknown.
	TokenExpiry int64
	// Generation counts the grants behind the tokens.
	Generation uint64
	// Era is what the login found of the user's sessions having been ended: eraSize bytes, or none.
	Era string
}

const eraSize = 16

func (id *Identity) pack(mark string, cookies int) []byte {
	b := make([]byte, 0, 96+len(id.Subject)+len(id.SID))
	b = append(b, version)
	b = append(b, mark...)
	b = append(b, byte(cookies))
	b = append(b, id.ID[:]...)
	b = appendText(b, id.Tenant)
	b = appendText(b, id.Subject)
	b = appendText(b, id.SID)
	b = binary.AppendVarint(b, id.Created)
	// Differences wrap around, and wrap back when they are added again.
	for _, t := range []int64{id.Seen, id.End, id.Began, id.TokenExpiry} {
		b = binary.AppendVarint(b, t-id.Created)
	}
	b = binary.AppendUvarint(b, id.Generation)
	return append(b, id.Era...)
}

// unpack fills id from a plaintext and returns the number of cookies that the session came in. Texts share the
// plaintext's memory.
func (id *Identity) unpack(mark, plain string) (cookies int, ok bool) {
	r := reader{rest: plain}
	if r.octet() != version || r.take(8) != mark {
		return 0, false
	}
	cookies = int(r.octet())
	copy(id.ID[:], r.take(uint64(len(id.ID))))
	id.Tenant = r.text()
	id.Subject = r.text()
	id.SID = r.text()
	id.Created = r.varint()
	id.Seen = id.Created + r.varint()
	id.End = id.Created + r.varint()
	id.Began = id.Created + r.varint()
	id.TokenExpiry = id.Created + r.varint()
	id.Generation = r.uvarint()
	if !r.done() {
		id.Era = r.take(eraSize)
	}
	return cookies, r.done() && 1 <= cookies && cookies <= maxChunks
}

// Unix is t in Unix seconds, 0 if t is unknown, as the fields of [Identity] and [AccessToken] want it.
func Unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// Ends is when the session ends if it is not used again: the one place that decides it, for reading a session and for its
// cookie's Max-Age alike. An idle time that is not positive is none.
func (id *Identity) Ends(idle time.Duration) time.Time {
	end := time.Unix(id.End, 0) // absolute lifetime and the provider's ceiling, fixed at login
	if idle > 0 {
		if unused := time.Unix(id.Seen, 0).Add(idle); unused.Before(end) {
			return unused
		}
	}
	return end
}

// Due reports whether the idle time is to be extended: at most once a minute and after 1 % of it, but in time where it is
// only minutes.
func (id *Identity) Due(idle time.Duration) bool {
	return idle > 0 && time.Since(time.Unix(id.Seen, 0)) >= max(min(time.Minute, idle/4), idle/100)
}
