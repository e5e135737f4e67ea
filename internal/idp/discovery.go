package idp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	metadataFresh      = time.Hour
	metadataStale      = 24 * time.Hour // how old the last good document may be while the provider is down
	metadataRetry      = time.Second    // between attempts while there is none
	metadataStaleRetry = 30 * time.Second
)

// Metadata is what the provider says about itself (OpenID Connect Discovery 1.0 section 3, RFC 8414 section 2). It is
// shared: callers must not change it. Optional endpoints are empty and optional lists nil where they are absent.
type Metadata struct {
	Issuer                string
	AuthorizationEndpoint string
	TokenEndpoint         string
	JWKSURI               string
	UserInfoEndpoint      string
	EndSessionEndpoint    string
	RevocationEndpoint    string

	ScopesSupported          []string
	TokenEndpointAuthMethods []string
	IDTokenSigningAlgs       []string
	CodeChallengeMethods     []string

	IssParameterSupported    bool // RFC 9207
	ClaimsParameterSupported bool // Core 5.5
	RequirePAR               bool // RFC 9126; never true in what Provider.Metadata returns
}

// metadataCache is the last good document and how the last attempt went. The zero value is empty.
type metadataCache struct {
	flight singleflight.Group

	mu      sync.Mutex
	doc     *Metadata
	fetched time.Time // when doc was
	tried   time.Time
	err     error // of the last attempt; nil while one is under way
}

// lookup returns what can be answered without asking the provider. ok is false if it must be asked.
func (c *metadataCache) lookup() (doc *Metadata, ok bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	age, since := time.Since(c.fetched), time.Since(c.tried)
	switch {
	case c.doc != nil && age < metadataFresh:
		return c.doc, true, nil
	case c.doc != nil && age < metadataStale && since < metadataStaleRetry:
		return c.doc, true, nil
	case c.err != nil && since < metadataRetry:
		return nil, true, c.err
	}
	return nil, false, nil
}

func (c *metadataCache) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tried, c.err = time.Now(), nil
}

// end records the outcome of an attempt and returns what to answer: the old document outlives a failure (THR-41).
func (c *metadataCache) end(doc *Metadata, err error) (*Metadata, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tried, c.err = time.Now(), err
	if err == nil {
		c.doc, c.fetched = doc, c.tried
		return doc, nil
	}
	if c.doc != nil && time.Since(c.fetched) < metadataStale {
		return c.doc, nil
	}
	return nil, err
}

// Metadata returns the provider's metadata. It is fetched on first use, kept for an hour and then fetched again on use.
// While that fails the old document is served, for at most a day. Concurrent calls share one request, which goes on if
// one of them gives up. With no document at all the provider is asked once a second at most.
//
// The errors are ErrUnreachable, the context's, that of [Config.Validate], or one that says what is wrong with the
// document.
func (p *Provider) Metadata(ctx context.Context) (*Metadata, error) {
	if p.cfgErr != nil {
		return nil, p.cfgErr
	}
	if doc, ok, err := p.metadata.lookup(); ok {
		return doc, err
	}
	flight := p.metadata.flight.DoChan("", func() (any, error) {
		// Another flight may have landed since the look-up above.
		if doc, ok, err := p.metadata.lookup(); ok {
			return doc, err
		}
		p.metadata.begin()
		return p.metadata.end(p.fetchMetadata(context.WithoutCancel(ctx)))
	})
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("metadata: %w", ctx.Err())
	case r := <-flight:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*Metadata), nil
	}
}

func (p *Provider) fetchMetadata(ctx context.Context) (*Metadata, error) {
	target := p.cfg.metadataURL()
	a, err := p.get(ctx, "metadata", target)
	if err != nil {
		return nil, err
	}
	m, err := parseMetadata(a.body)
	if err == nil {
		err = p.checkMetadata(m)
	}
	if err != nil {
		return nil, fmt.Errorf("metadata at %s: %w", target, err)
	}
	return m, nil
}

func (c Config) metadataURL() string {
	if c.DiscoveryURL != "" {
		return c.DiscoveryURL
	}
	issuer := c.Issuer
	if c.manyTenants() {
		issuer = strings.Replace(issuer, tenantPart, commonPart, 1)
	}
	// Discovery 4.1: a slash at the issuer's end is dropped first.
	return strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
}

func parseMetadata(body []byte) (*Metadata, error) {
	o, err := parseObject(body)
	if err != nil {
		return nil, err
	}
	var m Metadata
	var errs []error
	for name, to := range map[string]*string{
		"issuer":                 &m.Issuer,
		"authorization_endpoint": &m.AuthorizationEndpoint,
		"token_endpoint":         &m.TokenEndpoint,
		"jwks_uri":               &m.JWKSURI,
		"userinfo_endpoint":      &m.UserInfoEndpoint,
		"end_session_endpoint":   &m.EndSessionEndpoint,
		"revocation_endpoint":    &m.RevocationEndpoint,
	} {
		*to, err = o.text(name)
		errs = append(errs, err)
	}
	for name, to := range map[string]*[]string{
		"scopes_supported":                      &m.ScopesSupported,
		"token_endpoint_auth_methods_supported": &m.TokenEndpointAuthMethods,
		"id_token_signing_alg_values_supported": &m.IDTokenSigningAlgs,
		"code_challenge_methods_supported":      &m.CodeChallengeMethods,
	} {
		*to, err = o.texts(name)
		errs = append(errs, err)
	}
	for name, to := range map[string]*bool{
		"authorization_response_iss_parameter_supported": &m.IssParameterSupported,
		"require_pushed_authorization_requests":          &m.RequirePAR,
		"claims_parameter_supported":                     &m.ClaimsParameterSupported,
	} {
		*to, err = o.truth(name)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &m, nil
}

// issuerRemedy says what to do if got is not the issuer that is configured.
func issuerRemedy(got string) string {
	if strings.Contains(got, tenantPart) {
		return "it is that of many tenants, so configure it as it is and AllowedTenants, or the issuer of one tenant"
	}
	return "they must be equal byte for byte, so correct the configuration or add or remove the slash at its end"
}

// checkMetadata refuses what no sign-in can work with, or not safely (DISC-03, DISC-05, DISC-06).
func (p *Provider) checkMetadata(m *Metadata) error {
	if m.Issuer != p.cfg.Issuer {
		return fmt.Errorf("issuer is %q but %q is configured: %s", m.Issuer, p.cfg.Issuer, issuerRemedy(m.Issuer))
	}
	endpoints := []struct {
		name, url string
		required  bool
	}{
		{"authorization_endpoint", m.AuthorizationEndpoint, true},
		{"token_endpoint", m.TokenEndpoint, true},
		{"jwks_uri", m.JWKSURI, true},
		{"userinfo_endpoint", m.UserInfoEndpoint, false},
		{"end_session_endpoint", m.EndSessionEndpoint, false},
		{"revocation_endpoint", m.RevocationEndpoint, false},
	}
	for _, e := range endpoints {
		if e.url == "" && !e.required {
			continue
		}
		if e.url == "" {
			return fmt.Errorf("%s is missing", e.name)
		}
		if err := checkURL(e.url, p.cfg.AllowHTTP); err != nil {
			return fmt.Errorf("%s %q %w", e.name, e.url, err)
		}
	}
	// Several large providers support S256 and list nothing, so only a list without it is a refusal.
	if m.CodeChallengeMethods != nil && !slices.Contains(m.CodeChallengeMethods, "S256") {
		return fmt.Errorf("code_challenge_methods_supported is %q without S256, which is always used",
			m.CodeChallengeMethods)
	}
	listed := func(alg string) bool { return slices.Contains(m.IDTokenSigningAlgs, alg) }
	// One in common is enough: during a change of algorithm two are configured and one of them is listed.
	if m.IDTokenSigningAlgs != nil && !slices.ContainsFunc(p.cfg.SigningAlgs, listed) {
		return fmt.Errorf("id tokens are signed with %q but only %q is accepted: "+
			"set the signing algorithm that is registered for this client", m.IDTokenSigningAlgs, p.cfg.SigningAlgs)
	}
	if m.RequirePAR {
		return errors.New("the provider requires pushed authorization requests, which are not supported yet")
	}
	return nil
}
