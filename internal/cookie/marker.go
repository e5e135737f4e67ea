package cookie

import (
	"net/http"
	"slices"
	"strings"
)

// A Marker is a cookie that says which sessions were ended in this browser: an answer that was under way then may bring the
// session's own cookie back, but not take this one away (S21). Its value is made from the ids of the last three.
type Marker struct{ session Attributes }

const (
	endedSize = 16 // characters
	maxEnded  = 3
)

// name is none that an application at another path has for its session: the full stop is no part of a path there.
func (m Marker) name() string { return m.session.Name + ".ended" }

// Set marks the session with that id as ended, beside those that the request with the header req knows. maxAge is in seconds.
func (m Marker) Set(resp, req http.Header, id [32]byte, maxAge int) {
	value := ended(id)
	for _, earlier := range m.all(req) {
		if !strings.Contains(value, earlier) && len(value) < maxEnded*endedSize {
			value += earlier
		}
	}
	m.session.set(resp, m.name(), maxAge, value)
}

func ended(id [32]byte) string {
	d := digest("ended", string(id[:]))
	return encoding.EncodeToString(d[:12])
}

// Present reports whether a request with the header h says of any session that it has ended.
func (m Marker) Present(h http.Header) bool { return present(h, m.name()) }

// Has reports whether a request with the header h says of the session with that id that it has ended.
func (m Marker) Has(h http.Header, id [32]byte) bool {
	return m.Present(h) && slices.Contains(m.all(h), ended(id))
}

// all returns what a request says of sessions that have ended, newest first.
func (m Marker) all(h http.Header) (all []string) {
	for cookies := scan(h); ; {
		name, value, ok := cookies.next()
		if !ok {
			return all
		}
		if name != m.name() || len(value)%endedSize != 0 || len(value) > maxEnded*endedSize ||
			strings.ContainsFunc(value, notBoxOctet) {
			continue
		}
		for piece := range slices.Chunk([]byte(value), endedSize) {
			all = append(all, string(piece))
		}
	}
}
