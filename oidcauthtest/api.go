package oidcauthtest

import (
	"net/http"
	"net/url"
	"strings"
)

// NewAPI returns an API that takes this provider's access tokens, for one audience: the one that the application asked
// for as "audience" or "resource", or else the issuer's path api, such as https://op.test/api. It answers every request
// with JSON, which has the token's sub, aud and scope, and as token_hash its SHA-256 in base64url. A token that is
// unknown, expired, revoked or for another audience gets a 401 with the error invalid_token (RFC 6750 3), and a request
// without a token a 401 that names no error.
//
// To let the application reach it: p.Serve("api.test", p.NewAPI(audience)).
func (p *Provider) NewAPI(audience string) http.Handler { return p.op.NewAPI(audience) }

// AccessToken tells whom an access token is of, which audience it is for, and its scope. ok is false unless this
// provider issued it, and it has neither expired nor been revoked.
func (p *Provider) AccessToken(token string) (subject, audience, scope string, ok bool) {
	return p.op.AccessToken(token)
}

// Serve lets [Provider.HTTPClient] reach h at a host, such as "api.test" or "api.test:8443", by https. With a whole
// origin, such as "http://api.internal:8080", h is there. It replaces what answered there before; the provider's own
// host stays the provider's. Answers arrive when h has returned: nothing is streamed.
func (p *Provider) Serve(host string, h http.Handler) {
	p.tb.Helper()
	origin := host
	if !strings.Contains(host, "://") {
		origin = "https://" + host
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || u.Path != "" {
		p.tb.Fatalf("serve %q: neither a host nor an origin", host)
	}
	p.apis.set(originOf(u), h)
}
