// Package returnto decides whether a redirect target is ours: where a browser may be sent after a login or a logout
// (RFC 9700 section 2.1, no open redirector).
//
// A target is judged as the exact bytes that will stand in a Location header. Nothing is repaired on the way: whoever
// cleans, decodes or re-serialises a target after the check sends something that was never checked. So a target is
// accepted only if cleaning it, as [net/http.Redirect] does, changes nothing, and if its path means the same to parties
// that decode it never, once or twice. The rule is stricter than the URL standards; a refused target costs the user the
// start page instead of the page they came from, and an accepted one too many costs them their account.
package returnto

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxLen is the longest accepted target in bytes. A sealed login cookie carries the target, and five such cookies must
// fit into a request header of common size.
const maxLen = 1 << 10

// Options configures a [Policy]. Only BaseURL is required.
type Options struct {
	// BaseURL is where browsers find the application, such as "https://app.example.com/base". Its whole origin is ours,
	// whatever its path; the path is put in front of Default and nothing else.
	BaseURL string

	// Origins are further origins that targets may lead to, such as "https://spa.example.com". A target's origin must be
	// one of them byte for byte.
	Origins []string

	// AllowHTTP admits plain http on hosts other than loopback, in BaseURL and Origins.
	AllowHTTP bool

	// IsAuthRoute reports whether path, as the browser sees it (base path included), is a route that must never be a
	// target: a login, a callback or a logout would follow directly upon the one that ends. The path is decoded and has
	// no trailing slash, except that the root is "/". It is asked for every origin, since others may serve the same
	// routes. It must be safe for concurrent use. Nil: there are none.
	IsAuthRoute func(path string) bool

	// Default is the local path, below BaseURL's, that takes the place of a refused target. Empty is "/".
	Default string
}

// A Policy tells our redirect targets from others. It is immutable and safe for concurrent use. The zero value refuses
// every absolute URL, knows no auth route and resolves to the empty string; use [New].
type Policy struct {
	origins     []string
	isAuthRoute func(string) bool
	fallback    string
}

// New compiles o. Its error joins all mistakes, each naming the value and the remedy.
func New(o Options) (*Policy, error) {
	base, basePath := split(strings.TrimSuffix(o.BaseURL, "/"))
	var errs []error
	if base == "" || strings.ContainsAny(basePath, "?#") {
		errs = append(errs, errors.New("base URL: must be like \"https://app.example.com\" or "+
			"\"https://app.example.com/base\", without query and fragment"))
	} else if err := checkOrigin(base, o.AllowHTTP); err != nil {
		errs = append(errs, fmt.Errorf("base URL: %w", err))
	}
	for _, origin := range o.Origins {
		if err := checkOrigin(origin, o.AllowHTTP); err != nil {
			errs = append(errs, fmt.Errorf("allowed return origin: %w", err))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}

	p := &Policy{origins: append([]string{base}, o.Origins...), isAuthRoute: o.IsAuthRoute}
	def := cmp.Or(o.Default, "/")
	// The default is redirected to like any target, so it has to pass like one. Its own first byte is looked at because
	// "evil.example" behind a base path would otherwise become "/baseevil.example".
	fallback, ok := p.Check(strings.TrimSuffix(basePath, "/") + def)
	if !ok || def[0] != '/' {
		return nil, fmt.Errorf("default %q below base URL %q: must be a clean local path such as \"/\" or "+
			"\"/home\" of at most %d bytes that is no auth route", def, o.BaseURL, maxLen)
	}
	p.fallback = fallback
	return p, nil
}

// Check returns target unchanged, to be put into Location as it is, and true if it is a local path or an absolute URL
// on one of our origins and leads to no auth route. Otherwise it returns "" and false. A local path counts from the
// origin's root, not from BaseURL's path.
func (p *Policy) Check(target string) (string, bool) {
	if len(target) > maxLen {
		return "", false
	}
	origin, local := split(target)
	if origin != "" && !slices.Contains(p.origins, origin) {
		return "", false
	}
	once, twice, ok := parseLocal(local)
	if !ok || p.leadsToAuthRoute(once) || p.leadsToAuthRoute(twice) {
		return "", false
	}
	return target, true
}

// Resolve returns where to redirect when target was asked for: target itself if [Policy.Check] accepts it. A target
// that is only too long (over 1 KiB) loses its query and fragment first. All else becomes the default below BaseURL's
// path. It never fails.
func (p *Policy) Resolve(target string) string {
	if len(target) > maxLen {
		if i := strings.IndexAny(target, "?#"); i >= 0 {
			target = target[:i]
		}
	}
	if t, ok := p.Check(target); ok {
		return t
	}
	return p.fallback
}

func (p *Policy) leadsToAuthRoute(path string) bool {
	if p.isAuthRoute == nil {
		return false
	}
	// A ServeMux redirects between the forms with and without the slash.
	if path != "/" {
		path = strings.TrimSuffix(path, "/")
	}
	return p.isAuthRoute(path)
}
