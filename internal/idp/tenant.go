package idp

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

const (
	// tenantPart stands for the tenant in the issuer that Entra publishes for all tenants.
	tenantPart  = "{tenantid}"
	everyTenant = "*"
	// commonPart is what stands there in the address of that metadata.
	commonPart = "common"
)

// guid is a tenant's id. Entra writes it in small letters; one in mixed letters was written by somebody else.
var guid = regexp.MustCompile(
	`^(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12})$`)

// CheckTenants reports what is wrong with the tenants that are allowed, and with an issuer that needs or lacks them.
func CheckTenants(issuer string, allowed []string) error {
	if len(allowed) == 0 {
		if strings.Contains(issuer, tenantPart) {
			return errors.New("issuer is that of many tenants: list theirs in AllowedTenants, or write the id of one for " +
				tenantPart)
		}
		return nil
	}
	var errs []error
	if !isTemplate(issuer) {
		errs = append(errs, fmt.Errorf("issuer must have %s as one part of its path if AllowedTenants is set, "+
			"as in https://login.microsoftonline.com/%[1]s/v2.0", tenantPart))
	}
	for _, t := range allowed {
		switch {
		case t == everyTenant && len(allowed) > 1:
			errs = append(errs, fmt.Errorf("AllowedTenants has %q, which allows every tenant, among others", t))
		case t != everyTenant && !guid.MatchString(t):
			errs = append(errs, fmt.Errorf("AllowedTenants has %q, which is not a GUID: "+
				"give the tenant's id and not its domain", t))
		}
	}
	return errors.Join(errs...)
}

// isTemplate says whether a tenant's id can be put into issuer, at one place and never into the host.
func isTemplate(issuer string) bool {
	u, err := url.Parse(issuer)
	return err == nil && strings.Count(issuer, tenantPart) == 1 &&
		slices.Contains(strings.Split(u.Path, "/"), tenantPart)
}

// manyTenants says whether Issuer is a template.
func (c Config) manyTenants() bool { return len(c.AllowedTenants) > 0 }

// allowsTenant compares without regard to case: both are hexadecimal numbers.
func (c Config) allowsTenant(tid string) bool {
	return guid.MatchString(tid) && slices.ContainsFunc(c.AllowedTenants, func(allowed string) bool {
		return allowed == everyTenant || strings.EqualFold(allowed, tid)
	})
}

// IsIssuer says whether iss, as a parameter of the authorization response (RFC 9207 2.4), names the provider that was
// asked: it is the configured issuer, byte for byte. With AllowedTenants it is that of an allowed tenant, and never the
// template itself, which no answer comes from. The tenant may still be another than the ID token's, which is the one
// that counts: all share the token endpoint that redeems the code. A mistaken Config has no issuer.
func (p *Provider) IsIssuer(iss string) bool {
	if p.cfgErr != nil {
		return false
	}
	if !p.cfg.manyTenants() {
		return iss == p.cfg.Issuer
	}
	before, after, _ := strings.Cut(p.cfg.Issuer, tenantPart)
	rest, starts := strings.CutPrefix(iss, before)
	tid, ends := strings.CutSuffix(rest, after)
	return starts && ends && p.cfg.allowsTenant(tid)
}

// issuerOf returns the issuer that a token with claims c must name: with many tenants it depends on the token's.
func (p *Provider) issuerOf(c object) (string, error) {
	if !p.cfg.manyTenants() {
		return p.cfg.Issuer, nil
	}
	tid, err := c.text("tid")
	// Anything else could make one issuer look like another once it is put into the template.
	if err != nil || !guid.MatchString(tid) {
		return "", refuse("issuer", "tid is %.64q and not the GUID of a tenant", tid)
	}
	return strings.Replace(p.cfg.Issuer, tenantPart, tid, 1), nil
}

// IssuerOf returns the issuer of a tenant, as [IDToken].Tenant names it, if its users may sign in. Without AllowedTenants
// there is one issuer, whose tenant is empty.
func (p *Provider) IssuerOf(tenant string) (issuer string, ok bool) {
	switch {
	case p.cfgErr != nil:
		return "", false
	case !p.cfg.manyTenants():
		return p.cfg.Issuer, tenant == ""
	}
	return strings.Replace(p.cfg.Issuer, tenantPart, tenant, 1), p.cfg.allowsTenant(tenant)
}

// checkTenant refuses a token of a tenant that is not allowed. Its issuer has been checked.
func (p *Provider) checkTenant(c object, t *IDToken) error {
	if !p.cfg.manyTenants() {
		return nil
	}
	tid, err := c.text("tid")
	if err != nil || !p.cfg.allowsTenant(tid) {
		return refuse("tenant", "tid is %.64q: add it to AllowedTenants if its users may sign in", tid)
	}
	t.Tenant = tid
	return nil
}

// ofKey says whether a payload's issuer is the one its key is published for, which some keys say: those of the template
// are every tenant's, and others belong to one. Without it a tenant with a key of its own could speak for another.
func ofKey(k publicKey, payload []byte) bool {
	if k.issuer == "" {
		return true
	}
	c, err := parseObject(payload)
	if err != nil {
		return false
	}
	iss, issErr := c.text("iss")
	tid, tidErr := c.text("tid")
	return issErr == nil && tidErr == nil && strings.Replace(k.issuer, tenantPart, tid, 1) == iss
}
