package cookie_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/cookie"
)

// S43, CKE-04: a prefix that keeps siblings and the network out, and applications under other paths apart.
func TestDefaultNames(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		basePath          string
		secure, hasDomain bool
		want              string
	}{
		{"", true, false, "__Host-session"},
		{"/", true, false, "__Host-session"},
		{"", true, true, "__Secure-session"},
		{"", false, false, "session"},
		{"", false, true, "session"},
		{"/app", true, false, "__Host-session-app"}, // Path stays /: it is no boundary
		{"/app/", true, false, "__Host-session-app"},
		{"/app", true, true, "__Secure-session-app"},
		{"/app", false, false, "session-app"},
		{"/App", true, false, "__Host-session-App"},
		{"/a/b", true, false, "__Host-session-a_b"},
		{"/a_b", true, false, "__Host-session-a%5Fb"},
		{"/a-b", true, false, "__Host-session-a-b"},
		{"/a.1", true, false, "__Host-session-a%2E1"}, // ".1" marks the parts of a long value
		{"/a%5Fb", true, false, "__Host-session-a%255Fb"},
		{"/a b;c=d", true, false, "__Host-session-a%20b%3Bc%3Dd"},
		{"/\u00e9\x00\n", true, false, "__Host-session-%C3%A9%00%0A"},
	} {
		if got := cookie.Name("session", tt.basePath, tt.secure, tt.hasDomain); got != tt.want {
			t.Errorf("%q, secure %v, domain %v: %q, want %q", tt.basePath, tt.secure, tt.hasDomain, got, tt.want)
		}
	}
}

var cookieName = regexp.MustCompile("^(__Host-)?session(-[A-Za-z0-9_%-]+)?$") // RFC 6265 4.1.1, without the full stop

// Two paths have one name only if they are one path.
func FuzzName(f *testing.F) {
	for _, pair := range [][2]string{
		{"/a/b", "/a_b"}, {"/a", "/a/"}, {"/%5F", "/_"}, {"/a.1", "/a"}, {"", "/"}, {"/a-b", "/a/b"}, {"/\xff", "/%FF"},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, one, other string) {
		a, b := cookie.Name("session", one, true, false), cookie.Name("session", other, true, false)
		if !cookieName.MatchString(a) {
			t.Fatalf("%q has the name %q", one, a)
		}
		if same := strings.Trim(one, "/") == strings.Trim(other, "/"); (a == b) != same {
			t.Fatalf("%q is %q and %q is %q", one, a, other, b)
		}
	})
}
