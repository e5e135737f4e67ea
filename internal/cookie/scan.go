package cookie

import (
	"net/http"
	"strings"
)

const (
	// maxCookies bounds how many cookies of a request are looked at, as net/http does (CVE-2025-58186).
	maxCookies = 3000
	// maxDuplicates bounds how many different values of one name are tried.
	maxDuplicates = 4
)

// A scanner walks the cookies of a request without allocating. Names are compared as they are: __host-x is another
// cookie than __Host-x (RFC 6265bis, section 5.4). Quotes are part of a value, which then opens nowhere.
type scanner struct {
	lines []string
	rest  string
	seen  int
}

func scan(h http.Header) scanner {
	return scanner{lines: h["Cookie"]}
}

func (s *scanner) next() (name, value string, ok bool) {
	for s.seen < maxCookies {
		for s.rest == "" {
			if len(s.lines) == 0 {
				return "", "", false
			}
			s.rest, s.lines = s.lines[0], s.lines[1:]
		}
		var pair string
		pair, s.rest, _ = strings.Cut(s.rest, ";")
		s.seen++
		if name, value, ok = strings.Cut(strings.Trim(pair, " \t"), "="); ok {
			return name, value, true
		}
	}
	return "", "", false
}

func present(h http.Header, name string) bool {
	s := scan(h)
	for {
		n, _, ok := s.next()
		if !ok || n == name {
			return ok
		}
	}
}

// values are the different values that a request has for one name.
type values struct {
	list [maxDuplicates]string
	n    int
}

// find collects the values of name. It is false if there is none, and if there are too many to try: taking the first
// few would let whoever planted them choose.
func find(h http.Header, name string) (v values, ok bool) {
	s := scan(h)
	for {
		n, value, more := s.next()
		if !more {
			return v, v.n > 0
		}
		if n != name || v.has(value) {
			continue
		}
		if v.n == maxDuplicates {
			return v, false
		}
		v.list[v.n] = value
		v.n++
	}
}

func (v *values) has(value string) bool {
	for _, known := range v.list[:v.n] {
		if known == value {
			return true
		}
	}
	return false
}
