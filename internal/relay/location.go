package relay

import (
	"cmp"
	"net/url"
	"strings"
)

// Location translates an upstream's Location or Content-Location into a path of ours: below prefix, which ends with a
// slash and is as the browser sees it, with query and fragment. value may be relative to requestURL, the one sent
// upstream. It is not ok if it leads anywhere but below target by the rules of [Path], and must then be dropped: the
// upstream may not send a browser elsewhere in our name (S13).
func Location(value string, requestURL, target *url.URL, prefix string) (local string, ok bool) {
	ref, err := url.Parse(value)
	if err != nil || value == "" || strings.TrimSpace(value) != value || ref.User != nil {
		return "", false
	}
	if ref.Host == "" && (ref.Scheme != "" || strings.HasPrefix(value, "//")) {
		return "", false // parsers differ in where they look for the host
	}
	ref.RawPath = encode(rawPath(ref)) // or ResolveReference would decode it
	u := requestURL.ResolveReference(ref)
	if !isSameOrigin(u, target) {
		return "", false
	}
	rest, err := Path(u, base(target))
	if err != nil {
		return "", false
	}
	return prefix + rest + suffix(u), true
}

// suffix is u's query and fragment.
func suffix(u *url.URL) string {
	s := ""
	if u.RawQuery != "" || u.ForceQuery {
		s = "?" + u.RawQuery
	}
	if f := u.EscapedFragment(); f != "" {
		s += "#" + f
	}
	return s
}

func isSameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

// port is u's, the scheme's own if it names none.
func port(u *url.URL) string {
	standard := "443"
	if strings.EqualFold(u.Scheme, "http") {
		standard = "80"
	}
	return cmp.Or(u.Port(), standard)
}
