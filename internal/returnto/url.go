package returnto

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// split divides target into its origin, empty for a local path, and what follows, with the slash that browsers insert
// where the path is empty. It judges neither. Both are empty for what has neither form, such as "https:evil.example".
func split(target string) (origin, local string) {
	if strings.HasPrefix(target, "/") {
		return "", target
	}
	scheme, rest, ok := strings.Cut(target, "://")
	if !ok {
		return "", ""
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		return target, "/"
	}
	local = rest[end:]
	if local[0] != '/' {
		local = "/" + local
	}
	return scheme + "://" + rest[:end], local
}

// parseLocal checks path, query and fragment of a target, given from the path's slash on, and returns the path decoded
// once and twice. Twice, because proxies that decode before they forward are common. An empty local is not ok.
func parseLocal(local string) (once, twice string, ok bool) {
	if !isPrintable(local) || strings.Contains(local, `\`) {
		return "", "", false
	}
	// http.Redirect takes all up to the first question mark for the path, a fragment too: it would turn
	// "/app#/../auth/logout" into "/auth/logout".
	if beforeQuery, _, _ := strings.Cut(local, "?"); !isClean(beforeQuery) {
		return "", "", false
	}
	// After the check above this finds neither scheme nor host. Equality means that nobody has reason to encode anew.
	u, err := url.Parse(local)
	if err != nil || u.String() != local {
		return "", "", false
	}
	raw := u.EscapedPath()
	once = decode(raw)
	twice = decode(once)
	// Further on, "/files/a%2Fb" is an ordinary name. In front, a slash is one short of "//evil.example".
	if strings.Contains(decode(decode(firstSegment(raw))), "/") {
		return "", "", false
	}
	// What is unsafe decoded once is still so decoded twice.
	return once, twice, isSafeDecoded(twice)
}

// isPrintable reports whether s has only visible ASCII characters. Others are stripped, encoded or taken for separators
// by one URL parser and not by the next.
func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// isSafeDecoded reports whether a decoded path means the same to all who read it. Spaces and letters beyond ASCII are
// harmless here: they were encoded in the target.
func isSafeDecoded(p string) bool {
	for i := range len(p) {
		if p[i] < ' ' || p[i] == 0x7f || p[i] == '\\' {
			return false
		}
	}
	return isClean(p)
}

// isClean reports whether p, which begins with a slash, has no ".", ".." or empty segment but the one after a trailing
// slash: whether http.Redirect and ServeMux leave it alone.
func isClean(p string) bool {
	return strings.TrimSuffix(p, "/") == strings.TrimSuffix(path.Clean(p), "/")
}

// firstSegment returns what stands between the first and the second slash of p.
func firstSegment(p string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(p, "/"), "/")
	return first
}

// decode decodes the percent escapes of s and leaves malformed ones as they are, as browsers do. A strict decoder would
// stop at the stray "%" of "/100%25/%252e%252e" and hide what follows it.
func decode(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// checkOrigin reports what is wrong with an origin from the configuration. It insists on the form in which browsers
// write it, because targets are compared byte for byte.
func checkOrigin(origin string, allowHTTP bool) error {
	if strings.Contains(origin, "@") {
		return errors.New("must not contain a user name or password") // nor may the log, so it is not quoted
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return fmt.Errorf("%q is no origin: write it like \"https://app.example.com\"", origin)
	}
	if u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("%q must begin with \"https://\"", origin)
	}
	if u.Scheme+"://"+u.Host != origin {
		return fmt.Errorf("%q must be scheme, host and port alone, in lower case, without a path or trailing slash", origin)
	}
	if !isCanonicalHost(u) {
		return fmt.Errorf("%q: write the host in lower case and punycode, and leave out the scheme's default port", origin)
	}
	if u.Scheme == "http" && !allowHTTP && !isLoopback(u.Hostname()) {
		return fmt.Errorf("%q must begin with \"https://\": plain http is for loopback hosts", origin)
	}
	return nil
}

func isCanonicalHost(u *url.URL) bool {
	host := u.Hostname()
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() {
		if ip.String() != host {
			return false
		}
		host = "[" + host + "]"
	} else if strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-._") != "" {
		return false
	}
	port := u.Port()
	if port == "" {
		return u.Host == host
	}
	n, err := strconv.ParseUint(port, 10, 16)
	isDefault := u.Scheme == "https" && n == 443 || u.Scheme == "http" && n == 80
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == port && !isDefault
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
