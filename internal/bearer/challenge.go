package bearer

import (
	"net/http"
	"strings"
)

// isRefusal reports whether a response says that the token was not good (RFC 6750 3.1).
func isRefusal(resp *http.Response) bool {
	if resp.StatusCode != http.StatusUnauthorized {
		return false
	}
	for _, line := range resp.Header.Values("WWW-Authenticate") {
		if refuses(line) {
			return true
		}
	}
	return false
}

// refuses reports whether one of the challenges of a WWW-Authenticate line is Bearer with the error invalid_token
// (RFC 9110 11.6.1). It forgives missing and surplus commas; what follows anything else that is malformed is not read.
func refuses(line string) bool {
	scheme := ""
	for {
		line = strings.TrimLeft(line, " \t,")
		name, rest := cutToken(line)
		if name == "" {
			return false
		}
		rest = strings.TrimLeft(rest, " \t")
		value, isParam := strings.CutPrefix(rest, "=")
		if !isParam {
			scheme, line = name, cutToken68(rest)
			continue
		}
		value, line = cutValue(strings.TrimLeft(value, " \t"))
		if strings.EqualFold(scheme, "Bearer") && strings.EqualFold(name, "error") && value == "invalid_token" {
			return true
		}
	}
}

// cutToken cuts a token (RFC 9110 5.6.2) off the beginning of s.
func cutToken(s string) (token, rest string) {
	end := strings.IndexFunc(s, func(r rune) bool {
		return !isAlphanumeric(r) && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
	if end < 0 {
		end = len(s)
	}
	return s[:end], s[end:]
}

// cutToken68 takes a credential like that of Negotiate (RFC 9110 11.2) off the beginning of s. It stands alone, and so
// what goes on with a value is a parameter, and what goes on with a word the next scheme.
func cutToken68(s string) string {
	end := strings.IndexFunc(s, func(r rune) bool { return !isAlphanumeric(r) && !strings.ContainsRune("-._~+/", r) })
	if end <= 0 {
		return s // or one that is the last: nothing follows that it could hide
	}
	rest := strings.TrimLeft(strings.TrimLeft(s[end:], "="), " \t")
	if rest == "" || rest[0] == ',' {
		return rest
	}
	return s
}

// cutValue cuts the value of a parameter off the beginning of s, a token or a quoted string. A string with a backslash
// is given as it is written: RFC 6750 3 allows none in an error code. One that does not end takes all there is.
func cutValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		return cutToken(s)
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++ // whatever it is, it does not end the string
		case '"':
			return s[1:i], s[i+1:]
		}
	}
	return "", ""
}

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}
