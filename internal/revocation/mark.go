// Package revocation keeps marks in a store that say which sessions have been ended from elsewhere, so that one which is
// just beginning, or is in a cookie, is ended all the same.
package revocation

import (
	"crypto/rand"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"time"
)

// A Mark says which of the sessions that it is about have ended. It is about those of one user, or of one session at the
// provider. The zero value ends none. A Mark that was made is not changed.
type Mark struct {
	// Era is that of the sessions that live on: those that began in another have ended. Empty: of all.
	Era string
	// Until ends the sessions of a subject, "" for any, that began up to this: the provider's time, in Unix seconds. Of a
	// mark that was read it is nil only if there is none.
	Until map[string]int64
}

// Ends reports whether the mark ends a session of subject that began, by the provider's clock, at began in era. The clocks
// of a provider's hosts may be leeway apart.
func (m Mark) Ends(subject, era string, began int64, leeway time.Duration) bool {
	if m.Era != "" && m.Era != era {
		return true
	}
	return m.ends(subject, began, leeway) || m.ends("", began, leeway)
}

func (m Mark) ends(subject string, began int64, leeway time.Duration) bool {
	until, ok := m.Until[subject]
	return ok && began <= until+int64(leeway/time.Second)
}

const (
	eraSize     = 16 // bytes
	maxSubjects = 16
)

// Next is a mark of an era that begins now: after that of m, so that all who see several agree on the newest, and unlike
// any other that begins now.
func (m Mark) Next() Mark {
	began := uint64(time.Now().UnixMilli())
	if len(m.Era) == eraSize {
		began = max(began, binary.BigEndian.Uint64([]byte(m.Era))+1)
	}
	era := binary.BigEndian.AppendUint64(make([]byte, 0, eraSize), began)
	era = era[:eraSize]
	_, _ = rand.Read(era[8:])
	return Mark{Era: string(era)}
}

// Join returns what two marks say together.
func (m Mark) Join(n Mark) Mark {
	joined := Mark{Era: max(m.Era, n.Era), Until: maps.Clone(m.Until)}
	if joined.Until == nil {
		joined.Until = maps.Clone(n.Until)
	}
	for subject, until := range n.Until {
		if before, ok := joined.Until[subject]; !ok || until > before {
			joined.Until[subject] = until
		}
	}
	if len(joined.Until) > maxSubjects { // no provider gives so many users one session
		joined.Until = map[string]int64{"": slices.Max(slices.Collect(maps.Values(joined.Until)))}
	}
	return joined
}

// encode is the era after its length, and each subject with its time.
func (m Mark) encode() []byte {
	b := appendText(nil, m.Era)
	for _, subject := range slices.Sorted(maps.Keys(m.Until)) {
		b = binary.AppendVarint(appendText(b, subject), m.Until[subject])
	}
	return b
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// decode reads what encode wrote, and nothing else.
func decode(b []byte) (m Mark, ok bool) {
	if m.Era, b, ok = cutText(b); !ok || m.Era != "" && len(m.Era) != eraSize {
		return Mark{}, false
	}
	m.Until = map[string]int64{}
	for len(b) > 0 {
		subject, rest, ok := cutText(b)
		until, n := binary.Varint(rest)
		if _, twice := m.Until[subject]; !ok || n <= 0 || twice || len(m.Until) == maxSubjects {
			return Mark{}, false
		}
		m.Until[strings.Clone(subject)], b = until, rest[n:]
	}
	return m, true
}

func cutText(b []byte) (text string, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return "", nil, false
	}
	return string(b[n : n+int(size)]), b[n+int(size):], true
}
