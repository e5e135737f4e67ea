package cookie

import (
	"cmp"
	"net/http"
	"strconv"
	"strings"
)

// longestAge is the longest life a browser grants, 400 days in seconds (RFC 6265bis, section 5.5).
const longestAge = 400 * 24 * 60 * 60

// Attributes are what all cookies of one kind share. Such cookies are always HttpOnly and always say their SameSite.
// Attributes is a value and safe for concurrent use.
type Attributes struct {
	// Name of the cookie, prefix included: it must be a token (RFC 9110, section 5.6.2).
	Name string
	// Domain is empty for a cookie of the host alone.
	Domain string
	// Path is "/" if empty.
	Path string
	// Secure keeps the cookie off plain http. Partitioned gives it to the top-level site it was set under and requires
	// Secure.
	Secure, Partitioned bool
	// SameSite is Lax if zero.
	SameSite http.SameSite
}

// Set adds a Set-Cookie line to h in place of an earlier one of the same name. The value must consist of cookie-octets
// (RFC 6265bis, section 4.1.1): it is not checked. maxAge is in seconds, of which 400 days count; with 0 the cookie
// ends with the browser and below 0 at once.
func (a Attributes) Set(h http.Header, name, value string, maxAge int) {
	a.set(h, name, maxAge, value)
}

// set is Set for a value in parts.
func (a Attributes) set(h http.Header, name string, maxAge int, value ...string) {
	age := ""
	if maxAge != 0 {
		age = "; Max-Age=" + strconv.Itoa(max(0, min(maxAge, longestAge)))
	}
	replace(h, name, a.line(name, age, value...))
}

// Delete adds a Set-Cookie line to h that makes the browser forget the cookie, in place of an earlier line of the same
// name. It repeats all attributes: a browser deletes only what it finds under the same name, domain and path, and
// lets only a secure line touch a secure cookie (RFC 6265bis, section 5.7).
func (a Attributes) Delete(h http.Header, name string) {
	replace(h, name, a.line(name, "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:01 GMT"))
}

// line is written by hand: [http.Cookie.String] looks at each octet several times, which would cost more than sealing.
func (a Attributes) line(name, age string, value ...string) string {
	size := len(name) + len(age) + len(a.Domain) + len(a.Path) + 80
	for _, part := range value {
		size += len(part)
	}
	var b strings.Builder
	b.Grow(size)
	b.WriteString(name)
	b.WriteString("=")
	for _, part := range value {
		b.WriteString(part)
	}
	b.WriteString("; Path=")
	b.WriteString(cmp.Or(a.Path, "/"))
	if a.Domain != "" {
		b.WriteString("; Domain=")
		b.WriteString(a.Domain)
	}
	b.WriteString(age)
	b.WriteString("; HttpOnly")
	if a.Secure {
		b.WriteString("; Secure")
	}
	// Without the attribute browsers differ.
	switch a.SameSite {
	case http.SameSiteStrictMode:
		b.WriteString("; SameSite=Strict")
	case http.SameSiteNoneMode:
		b.WriteString("; SameSite=None")
	default:
		b.WriteString("; SameSite=Lax")
	}
	if a.Partitioned {
		b.WriteString("; Partitioned")
	}
	return b.String()
}

// replace writes a slice of its own: the one in h may be shared with other responses.
func replace(h http.Header, name, line string) {
	old := h["Set-Cookie"]
	lines := make([]string, 0, len(old)+1)
	for _, l := range old {
		if lineName(l) != name {
			lines = append(lines, l)
		}
	}
	h["Set-Cookie"] = append(lines, line)
}

// lineName returns the name of the cookie that a Set-Cookie line sets.
func lineName(line string) string {
	pair, _, _ := strings.Cut(line, ";")
	name, _, _ := strings.Cut(pair, "=")
	return strings.Trim(name, " \t")
}
