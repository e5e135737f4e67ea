package bearer

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Origin returns the origin of an http or https URL (RFC 6454 6.2): scheme, host in lower case, and the port unless the
// scheme implies it. It is "" for all other URLs, nil and opaque ones included.
func Origin(u *url.URL) string {
	if u == nil || u.Host == "" || u.Opaque != "" {
		return ""
	}
	scheme, host, port := lower(u.Scheme), lower(u.Hostname()), u.Port()
	switch {
	case scheme != "https" && scheme != "http":
		return ""
	case port != "" && port != defaultPort(scheme):
		host = net.JoinHostPort(host, port)
	case strings.Contains(host, ":"): // IPv6
		host = "[" + host + "]"
	}
	return scheme + "://" + host
}

func defaultPort(scheme string) string {
	if scheme == "https" {
		return "443"
	}
	return "80"
}

// ParseOrigin returns the [Origin] that a person wrote. The errors say what to write instead, and repeat neither a user
// name nor a query.
func ParseOrigin(s string) (string, error) {
	u, err := url.Parse(s) // whose errors repeat all of s
	if err != nil || u.Host == "" {
		return "", errors.New(`not an absolute URL; write an origin such as "https://api.example.com"`)
	}
	origin := Origin(u)
	switch {
	case origin == "":
		return "", errors.New("neither https nor http; write an origin that begins with https://")
	case !isHost(u.Hostname()):
		return "", errors.New("no host that can be connected to; write each host out, in ASCII (xn--...), without wildcards")
	case u.Port() != "" && !isPort(u.Port()):
		return "", errors.New("the port is no number from 1 to 65535; write it without leading zeros, or leave it out")
	case u.User != nil || u.Path != "" || strings.ContainsAny(s, "?#"):
		return "", fmt.Errorf("more than an origin, which has no user, path or query; write %q", origin)
	}
	return origin, nil
}

// isHost reports whether s is a name that DNS may know, or an address.
func isHost(s string) bool {
	if ip, err := netip.ParseAddr(s); err == nil {
		return ip.Zone() == ""
	}
	other := func(r rune) bool { return !isAlphanumeric(r) && !strings.ContainsRune("-._", r) }
	return s != "" && !strings.ContainsFunc(s, other)
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && s[0] != '0'
}

// lower leaves alone what is not ASCII, so that no two hosts become one by it.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
