package oidcauthtest

import (
	"cmp"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// The limits of RFC 6265bis 5.5 and 5.6.
const (
	maxCookieSize  = 4096 // octets of name and value together
	maxCookieValue = 1024 // octets of an attribute's value
	maxCookieAge   = 400 * 24 * time.Hour
)

// A jar keeps cookies as browsers do, by RFC 6265bis. It differs from net/http/cookiejar where that is more lenient:
// the name prefixes, Secure, SameSite and the size are enforced. It is safe for concurrent use.
type jar struct {
	mu      sync.Mutex
	cookies []cookie // in the order in which they were created
}

// A cookie is one entry of a jar. Name, domain, hostOnly and path identify it.
type cookie struct {
	name, value  string
	domain, path string
	hostOnly     bool // sent to domain alone, not to its subdomains
	secure       bool
	httpOnly     bool
	sameSite     http.SameSite // never the default mode, which is Lax
	expires      time.Time     // zero: with the browser
}

// A trip says on whose behalf a request is made, for SameSite (RFC 6265bis 5.2).
type trip struct {
	sameSite bool // the initiator and every URL so far are of the target's site
	topLevel bool // the navigation of a tab, not of a frame, and not a script's request
	safe     bool // GET or HEAD
}

var ownTrip = trip{sameSite: true, topLevel: true, safe: true}

// allows reports whether a cookie with that attribute is sent. Chrome's grace of two minutes for cookies without the
// attribute is not modelled (FPM-03).
func (t trip) allows(mode http.SameSite) bool {
	switch mode {
	case http.SameSiteNoneMode:
		return true
	case http.SameSiteStrictMode:
		return t.sameSite
	default:
		return t.sameSite || t.topLevel && t.safe
	}
}

// set stores a cookie that came from u. The error says why a browser drops it.
func (j *jar) set(u *url.URL, c *http.Cookie, t trip) error {
	entry, err := newCookie(u, c, time.Now())
	if err != nil {
		return err
	}
	if entry.sameSite != http.SameSiteNoneMode && !t.sameSite && !t.topLevel {
		return errors.New("another site's frame or script sets only cookies with SameSite=None")
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if !secureOrigin(u) && slices.ContainsFunc(j.cookies, func(old cookie) bool { return entry.shadows(&old) }) {
		return errors.New("a page without https cannot shadow a Secure cookie")
	}
	i := slices.IndexFunc(j.cookies, func(old cookie) bool { return old.is(&entry) })
	switch {
	case entry.expired(time.Now()):
		if i >= 0 {
			j.cookies = slices.Delete(j.cookies, i, i+1)
		}
	case i >= 0:
		j.cookies[i] = entry // keeps its place
	default:
		j.cookies = append(j.cookies, entry)
	}
	return nil
}

// get returns the cookies for a request to u in the order in which browsers send them: longer paths first, then older
// ones.
func (j *jar) get(u *url.URL, t trip) []cookie {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	j.cookies = slices.DeleteFunc(j.cookies, func(c cookie) bool { return c.expired(now) })
	var found []cookie
	for _, c := range j.cookies {
		if c.matches(u) && t.allows(c.sameSite) {
			found = append(found, c)
		}
	}
	slices.SortStableFunc(found, func(a, b cookie) int { return cmp.Compare(len(b.path), len(a.path)) })
	return found
}

// clone returns a copy which goes its own way.
func (j *jar) clone() *jar {
	j.mu.Lock()
	defer j.mu.Unlock()
	return &jar{cookies: slices.Clone(j.cookies)}
}

// restart drops the cookies that end with the browser.
func (j *jar) restart() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.cookies = slices.DeleteFunc(j.cookies, func(c cookie) bool { return c.expires.IsZero() })
}

// newCookie checks c as RFC 6265bis 5.7 does and fills in its defaults.
func newCookie(u *url.URL, c *http.Cookie, now time.Time) (cookie, error) {
	entry := cookie{name: c.Name, value: c.Value, secure: c.Secure, httpOnly: c.HttpOnly, sameSite: c.SameSite}
	if c.Quoted {
		entry.value = `"` + c.Value + `"` // to a browser the quotes are part of the value
	}
	if entry.sameSite != http.SameSiteStrictMode && entry.sameSite != http.SameSiteNoneMode {
		entry.sameSite = http.SameSiteLaxMode
	}
	entry.path = c.Path
	if !strings.HasPrefix(c.Path, "/") || len(c.Path) > maxCookieValue {
		entry.path = defaultPath(u)
	}
	switch {
	case c.MaxAge < 0:
		entry.expires = now
	case c.MaxAge > 0:
		entry.expires = now.Add(time.Duration(min(c.MaxAge, int(maxCookieAge/time.Second))) * time.Second)
	case !c.Expires.IsZero():
		entry.expires = c.Expires
		if limit := now.Add(maxCookieAge); c.Expires.After(limit) {
			entry.expires = limit
		}
	}
	if err := entry.setDomain(u, c.Domain); err != nil {
		return cookie{}, err
	}
	return entry, entry.check(u, c)
}

// setDomain makes the cookie the host's own, or its domain's and all its subdomains'.
func (c *cookie) setDomain(u *url.URL, domain string) error {
	host := strings.ToLower(u.Hostname())
	domain = strings.ToLower(strings.TrimPrefix(domain, "."))
	switch {
	case domain == "" || len(domain) > maxCookieValue:
		c.domain, c.hostOnly = host, true
	case !domainMatch(host, domain):
		return errors.New("its Domain is not the host's")
	case !strings.Contains(domain, "."): // a public suffix, which may only have cookies for itself
		if domain != host {
			return errors.New("its Domain is a public suffix")
		}
		c.domain, c.hostOnly = host, true
	default:
		c.domain = domain
	}
	return nil
}

// check refuses what browsers drop without a word.
func (c *cookie) check(u *url.URL, from *http.Cookie) error {
	name := strings.ToLower(c.name)
	switch {
	case c.name == "":
		return errors.New("it has no name")
	case len(c.name)+len(c.value) > maxCookieSize:
		return errors.New("name and value exceed 4096 octets")
	case c.secure && !secureOrigin(u):
		return errors.New("it is Secure, which needs https")
	case c.sameSite == http.SameSiteNoneMode && !c.secure:
		return errors.New("SameSite=None needs Secure")
	case from.Partitioned && !c.secure:
		return errors.New("it is Partitioned, which needs Secure")
	case (strings.HasPrefix(name, "__secure-") || strings.HasPrefix(name, "__host-")) && !c.secure:
		return errors.New("its prefix needs Secure")
	case strings.HasPrefix(name, "__host-") && from.Domain != "":
		return errors.New("the prefix __Host- forbids a Domain")
	case strings.HasPrefix(name, "__host-") && from.Path != "/":
		return errors.New("the prefix __Host- needs Path=/")
	}
	return nil
}

func (c *cookie) is(other *cookie) bool {
	return c.name == other.name && c.domain == other.domain && c.hostOnly == other.hostOnly && c.path == other.path
}

// shadows reports whether c would be sent along with, or instead of, the Secure cookie old (RFC 6265bis 5.7 step 16).
func (c *cookie) shadows(old *cookie) bool {
	return old.secure && c.name == old.name && pathMatch(c.path, old.path) &&
		(domainMatch(c.domain, old.domain) || domainMatch(old.domain, c.domain))
}

func (c *cookie) expired(now time.Time) bool { return !c.expires.IsZero() && !c.expires.After(now) }

// matches reports whether the cookie belongs to u, whoever asks.
func (c *cookie) matches(u *url.URL) bool {
	host := strings.ToLower(u.Hostname())
	if c.hostOnly && host != c.domain || !domainMatch(host, c.domain) {
		return false
	}
	return pathMatch(cmp.Or(u.EscapedPath(), "/"), c.path) && (!c.secure || secureOrigin(u))
}

// export shows the cookie with its attributes. Domain is empty for a host's own.
func (c *cookie) export() *http.Cookie {
	out := &http.Cookie{
		Name: c.name, Value: c.value, Path: c.path, Expires: c.expires,
		Secure: c.secure, HttpOnly: c.httpOnly, SameSite: c.sameSite,
	}
	if !c.hostOnly {
		out.Domain = c.domain
	}
	return out
}

// domainMatch is RFC 6265bis 5.1.3.
func domainMatch(host, domain string) bool {
	return host == domain || strings.HasSuffix(host, "."+domain) && net.ParseIP(host) == nil
}

// pathMatch is RFC 6265bis 5.1.4.
func pathMatch(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || strings.HasSuffix(prefix, "/") || rest[0] == '/')
}

// defaultPath is the directory of u's path.
func defaultPath(u *url.URL) string {
	path := u.EscapedPath()
	if i := strings.LastIndexByte(path, '/'); i > 0 {
		return path[:i]
	}
	return "/"
}
