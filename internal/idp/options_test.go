package idp_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth/internal/idp"
)

func TestOptionsForRealProvidersAreValidated(t *testing.T) {
	t.Parallel()
	discovery := func(url string) func(*idp.Config) { return func(c *idp.Config) { c.DiscoveryURL = url } }
	skew := func(d time.Duration) func(*idp.Config) { return func(c *idp.Config) { c.ClockSkew = d } }
	tenants := func(issuer string, allowed ...string) func(*idp.Config) {
		return func(c *idp.Config) { c.Issuer, c.AllowedTenants = issuer, allowed }
	}
	for name, c := range map[string]struct {
		edit func(*idp.Config)
		want string // in the error; none: good
	}{
		"metadata elsewhere":             {discovery("https://other.example/metadata.json"), ""},
		"metadata on loopback":           {discovery("http://127.0.0.1:8080/m"), ""},
		"metadata over http":             {discovery("http://other.example/m"), "DiscoveryURL must use https"}, // DISC-01
		"metadata with a query":          {discovery("https://other.example/m?p=x"), ""},
		"metadata with a fragment":       {discovery("https://other.example/m#x"), "DiscoveryURL has a fragment"},
		"metadata with a user":           {discovery("https://u:p@other.example/m"), "DiscoveryURL has a user name"},
		"metadata at a relative address": {discovery("/m"), "DiscoveryURL is not an absolute URL"},

		// OIDC-18
		"the largest skew":  {skew(5 * time.Minute), ""},
		"a larger skew":     {skew(5*time.Minute + 1), "ClockSkew is 5m0.000000001s"},
		"a negative skew":   {skew(-1), "ClockSkew"},
		"any age":           {func(c *idp.Config) { c.MaxIDTokenAge = -1 }, ""},
		"one tenant":        {tenants(template, tenantA), ""},
		"two":               {tenants(template, tenantA, tenantB), ""},
		"every tenant":      {tenants(template, "*"), ""},
		"at the end":        {tenants("https://login.example/{tenantid}", tenantA), ""},
		"before a slash":    {tenants("https://login.example/{tenantid}/", tenantA), ""},
		"every and one":     {tenants(template, tenantA, "*"), `"*"`},
		"a domain":          {tenants(template, "contoso.example"), "its domain"},
		"a list in one":     {tenants(template, tenantA+","+tenantB), "not a GUID"},
		"an empty tenant":   {tenants(template, ""), "not a GUID"},
		"mixed letters":     {tenants(template, "8EAEF023"+tenantA[8:]), "not a GUID"},
		"a tenant's issuer": {tenants(issuerA, tenantA), "{tenantid}"},
		"common's address":  {tenants("https://login.example/common/v2.0", tenantA), "{tenantid}"},
		"part of a name":    {tenants("https://login.example/x{tenantid}/v2.0", tenantA), "{tenantid}"},
		"in the host":       {tenants("https://{tenantid}/v2.0", tenantA), "issuer"},
		"twice":             {tenants("https://login.example/{tenantid}/{tenantid}", tenantA), "{tenantid}"},
		"escaped":           {tenants("https://login.example/%7Btenantid%7D/v2.0", tenantA), "{tenantid}"},
		"no tenants":        {tenants(template), "AllowedTenants"},
		"an empty list":     {tenants(template, []string{}...), "AllowedTenants"},
	} {
		t.Run(name, func(t *testing.T) {
			err := newFakeOP().config(c.edit).Validate()
			if c.want != "" {
				wantError(t, err, c.want)
			} else if err != nil {
				t.Errorf("refused: %v", err)
			}
		})
	}
}

// DISC-02, DISC-03: metadata may be anywhere, but is that of the issuer.
func TestDiscoveryURL(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit object
		want []string // in the error; none: good
	}{
		"the same issuer": {},
		"another host's":  {object{"issuer": "https://other.example/"}, []string{"https://other.example/", issuer}},
		"no slash": {
			object{"issuer": "https://op.example"}, []string{`"https://op.example"`, issuer, "add or remove the slash"},
		},
		"no issuer":         {object{"issuer": nil}, []string{`""`, issuer}},
		"of many tenants":   {object{"issuer": template}, []string{template, issuer, "AllowedTenants"}},
		"endpoint by http":  {object{"token_endpoint": "http://op.example/token"}, []string{"token_endpoint", "https"}},
		"no authorization":  {object{"authorization_endpoint": nil}, []string{"authorization_endpoint"}},
		"S256 not listed":   {object{"code_challenge_methods_supported": []string{"plain"}}, []string{"S256"}}, // DISC-06
		"nothing about it":  {object{"code_challenge_methods_supported": nil}, nil},                            // DISC-06
		"another algorithm": {object{"id_token_signing_alg_values_supported": []string{"PS512"}}, []string{"PS512"}},
	} {
		t.Run(name, func(t *testing.T) {
			op := newFakeOP()
			op.set("/elsewhere/metadata", says(metadata(c.edit)))
			p := idp.New(op.config(func(c *idp.Config) { c.DiscoveryURL = "https://meta.example/elsewhere/metadata" }))
			m, err := p.Metadata(t.Context())
			switch {
			case c.want != nil:
				wantError(t, err, c.want...)
			case err != nil:
				t.Error(err)
			case m.Issuer != issuer || op.request("/elsewhere/metadata").URL.Host != "meta.example":
				t.Errorf("got %+v", m)
			}
			if op.count(wellKnown) != 0 {
				t.Error("the issuer's own address was asked")
			}
		})
	}
}

// DISC-04
func TestDiscoveryURLThatRedirects(t *testing.T) {
	t.Parallel()
	op := newFakeOP()
	op.set("/m", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, issuer, http.StatusFound) })
	_, err := idp.New(op.config(func(c *idp.Config) { c.DiscoveryURL = "https://meta.example/m" })).Metadata(t.Context())
	wantError(t, err, "redirect", "https://op.example")
}

// OIDC-18, OIDC-19, OIDC-20, OIDC-23
func TestClockSkewAndAge(t *testing.T) {
	wide := func(c *idp.Config) { c.ClockSkew = 2 * time.Minute }
	tight := func(c *idp.Config) { c.ClockSkew = time.Second }
	hour := func(c *idp.Config) { c.MaxIDTokenAge = time.Hour }
	short := func(c *idp.Config) { c.MaxIDTokenAge = time.Minute }
	unlimited := func(c *idp.Config) { c.MaxIDTokenAge = -1 }
	asked := func(e *idp.Expect) { e.MaxAge, e.HasMaxAge = time.Minute, true }
	const s = time.Second
	for _, c := range []claimCase{
		{name: "exp within", config: wide, edit: object{"exp": -119 * s}},
		{name: "exp past", config: wide, edit: object{"exp": -120 * s}, want: "expired"},
		{name: "exp past, tight", config: tight, edit: object{"exp": -1 * s}, want: "expired"},
		{name: "nbf within", config: wide, edit: object{"nbf": 120 * s}},
		{name: "nbf past", config: wide, edit: object{"nbf": 121 * s}, want: "not_before"},
		{name: "nbf past, tight", config: tight, edit: object{"nbf": 2 * s}, want: "not_before"},
		{name: "iat within", config: wide, edit: object{"iat": 120 * s}},
		{name: "iat past", config: wide, edit: object{"iat": 121 * s}, want: "issued_at"},
		{name: "iat past, tight", config: tight, edit: object{"iat": 2 * s}, want: "issued_at"},
		{name: "auth_time within", config: wide, edit: object{"auth_time": -180 * s}, expect: asked},
		{name: "auth_time past", config: wide, edit: object{"auth_time": -181 * s}, expect: asked, want: "auth_time"},
		{name: "auth_time past, tight", config: tight, edit: object{"auth_time": -62 * s}, expect: asked, want: "auth_time"},
		{name: "auth_time ahead within", config: wide, edit: object{"auth_time": 120 * s}, expect: asked},
		{name: "auth_time ahead", config: wide, edit: object{"auth_time": 121 * s}, expect: asked, want: "auth_time"},

		{name: "an hour old", config: hour, edit: object{"iat": -3600 * s}},
		{name: "older than an hour", config: hour, edit: object{"iat": -3601 * s}, want: "issued_at"},
		{name: "older than a minute", config: short, edit: object{"iat": -61 * s}, want: "issued_at"},
		{name: "of any age", config: unlimited, edit: object{"iat": 0}},
		{name: "of any age, ahead", config: unlimited, edit: object{"iat": 31 * s}, want: "issued_at"},
		{name: "of any age, missing", config: unlimited, edit: object{"iat": nil}, want: "issued_at"},
		{name: "of any age, expired", config: unlimited, edit: object{"exp": -31 * s}, want: "expired"},
	} {
		bubble(t, c.name, func(t *testing.T) { c.run(t) })
	}
}

func TestRefreshedTokenWithinTheSkew(t *testing.T) {
	for exp, want := range map[time.Duration]string{-119 * time.Second: "", -120 * time.Second: "unverified"} {
		bubble(t, exp.String(), func(t *testing.T) {
			p := idp.New(newFakeOP().config(func(c *idp.Config) { c.ClockSkew = 2 * time.Minute }))
			raw := rs256(claims(object{"exp": time.Now().Add(exp).Unix()}))
			if got := outcome(p.VerifyRefreshed(t.Context(), raw, expectRefreshed())); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestRefusalsNameTheRemedy(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(now int64) object
		want []string
	}{
		"another slash": {
			func(int64) object { return object{"iss": "https://op.example"} },
			[]string{`"https://op.example"`, `"https://op.example/"`, "add or remove the slash"},
		},
		"old": {
			func(now int64) object { return object{"iat": now - 660} },
			[]string{"11m0s old", "10m0s", "clock", "MaxIDTokenAge"},
		},
	} {
		bubble(t, name, func(t *testing.T) {
			raw := rs256(claims(c.edit(time.Now().Unix())))
			_, err := newFakeOP().client().VerifyIDToken(t.Context(), raw, expect())
			wantError(t, err, c.want...)
		})
	}
}
