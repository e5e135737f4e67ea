package cookie

import (
	"fmt"
	"strings"
)

// Name is the default name of a cookie: with the prefix __Host- over https, or __Secure- if it has a Domain, and with
// the application's base path at its end, different paths differently, since the prefix wants Path=/ (S43).
func Name(kind, basePath string, secure, hasDomain bool) string {
	var b strings.Builder
	switch {
	case secure && hasDomain:
		b.WriteString("__Secure-")
	case secure:
		b.WriteString("__Host-")
	}
	b.WriteString(kind)
	if path := strings.Trim(basePath, "/"); path != "" {
		b.WriteByte('-')
		for _, char := range []byte(path) {
			switch {
			case 'a' <= char && char <= 'z', 'A' <= char && char <= 'Z', '0' <= char && char <= '9', char == '-':
				b.WriteByte(char)
			case char == '/':
				b.WriteByte('_')
			default:
				fmt.Fprintf(&b, "%%%02X", char)
			}
		}
	}
	return b.String()
}
