package oidcauthtest

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// resolve reads a link as browsers do (WHATWG URL standard) where that differs from net/url: white space and control
// characters around it and line breaks within are dropped, a backslash is a slash, and any number of slashes begins a
// host.
func resolve(base *url.URL, link string) (*url.URL, error) {
	link = strings.TrimFunc(link, func(r rune) bool { return r <= ' ' })
	link = strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(link)
	end := len(link)
	if i := strings.IndexAny(link, "?#"); i >= 0 {
		end = i
	}
	link = strings.ReplaceAll(link[:end], `\`, "/") + link[end:]
	scheme, rest, _ := strings.Cut(link, ":")
	scheme = strings.ToLower(scheme)
	switch {
	case scheme != "http" && scheme != "https":
		if strings.HasPrefix(link, "//") {
			link = base.Scheme + "://" + strings.TrimLeft(link, "/")
		}
	case scheme == base.Scheme && !strings.HasPrefix(rest, "//"):
		link = rest // relative in spite of its scheme
	default:
		link = scheme + "://" + strings.TrimLeft(rest, "/")
	}
	u, err := base.Parse(link)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("a browser cannot go to %s", place(link))
	}
	u.Host, u.Path = strings.ToLower(u.Host), cmp.Or(u.Path, "/")
	return u, nil
}

// originOf is the origin of u (RFC 6454), without the port that the scheme implies.
func originOf(u *url.URL) string {
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	return u.Scheme + "://" + host
}

func sameOrigin(a, b *url.URL) bool { return originOf(a) == originOf(b) }

// place is a URL without its query, which may carry secrets.
func place(link string) string {
	link, _, _ = strings.Cut(link, "?")
	return link
}

// secureOrigin reports whether Secure cookies and Fetch metadata are for u: https, or a host that is this machine.
func secureOrigin(u *url.URL) bool {
	host := strings.ToLower(u.Hostname())
	ip := net.ParseIP(host)
	local := host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
	return u.Scheme == "https" || local
}

// siteOf is the scheme and registrable domain of u. The last two labels of the host stand for the public suffix list,
// so that app.test and op.test are two sites, and a.app.test and b.app.test one.
func siteOf(u *url.URL) string {
	host := strings.ToLower(u.Hostname())
	if labels := strings.Split(host, "."); len(labels) > 2 && net.ParseIP(host) == nil {
		host = strings.Join(labels[len(labels)-2:], ".")
	}
	return u.Scheme + "://" + host
}
