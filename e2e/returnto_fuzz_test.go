package e2e

import (
	"testing"

	"github.com/nlnwa/whatwg-url/url"
)

// THR-01: whatever the target, a parser that follows the WHATWG URL standard, as browsers do, stays with us.
func FuzzReturnTo(f *testing.F) {
	p := newReturnPolicy(f)
	for _, target := range readTargets(f) {
		f.Add(target)
		f.Add(returnOrigins[0] + target)
	}
	parser := url.NewParser()
	f.Fuzz(func(t *testing.T, target string) {
		for _, location := range locations(p, target) {
			u, err := parser.ParseRef(returnOrigins[0]+"/auth/callback", location)
			if err != nil {
				t.Errorf("target %q: %q is no URL to browsers: %v", target, location, err)
				continue
			}
			assertOurs(t, target, location, u.Protocol()+"//"+u.Host(), u.Pathname())
		}
	})
}
