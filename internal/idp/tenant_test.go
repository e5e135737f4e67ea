package idp_test

import (
	"encoding/hex"
	"net/http"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/idp"
)

const (
	template = "https://login.example/{tenantid}/v2.0"
	tenantA  = "8eaef023-2b34-4da1-9baa-8bc8c9d6a490"
	tenantB  = "82229342-1101-4ab6-817b-70c0747630f3"
	tenantC  = "9188040d-6c67-4c5b-b112-36a304b66dad" // nobody allows it
	issuerA  = "https://login.example/" + tenantA + "/v2.0"
	issuerB  = "https://login.example/" + tenantB + "/v2.0"
	issuerC  = "https://login.example/" + tenantC + "/v2.0"

	commonMetadata = "/common/v2.0/.well-known/openid-configuration"
)

// capitalsA is issuerA with its tenant in capitals.
var capitalsA = strings.Replace(issuerA, tenantA, strings.ToUpper(tenantA), 1)

// entra is a client of many tenants, and its provider, which signs with EdDSA: fuzz targets verify that fast.
func entra(allowed ...string) (*fakeOP, idp.Config) {
	op := newFakeOP()
	op.set(commonMetadata, says(metadata(object{"issuer": template})))
	op.set("/jwks", says(jwks(entraKey(nil))))
	return op, op.config(func(c *idp.Config) {
		edOnly(c)
		c.Issuer, c.AllowedTenants = template, allowed
	})
}

// entraKey is the provider's key with an issuer member; nil is none.
func entraKey(issuer any) object {
	return edited(jwk("ed", edKey().Public()), object{"issuer": issuer})
}

func entraToken(edit object) string {
	tenant := object{"iss": issuerA, "tid": tenantA}
	return sign(object{"alg": "EdDSA", "kid": "ed"}, claims(edited(tenant, edit)), edKey())
}

// DISC-03, OIDC-12: which issuers there are with AllowedTenants.
func TestTenants(t *testing.T) {
	both := []string{tenantA, tenantB}
	every := []string{"*"}
	upperA := strings.ToUpper(tenantA)
	at := func(tid string) object {
		return object{"tid": tid, "iss": strings.Replace(template, "{tenantid}", tid, 1)}
	}
	for _, c := range []struct {
		name    string
		allowed []string
		edit    object
		want    string
		issuer  string // of the verified token
	}{
		{name: "the first", allowed: both, issuer: issuerA},
		{name: "the second", allowed: both, edit: at(tenantB), issuer: issuerB},
		{name: "every", allowed: every, edit: at(tenantC), issuer: issuerC},
		{name: "in capitals", allowed: both, edit: at(upperA), issuer: capitalsA},
		{name: "listed in capitals", allowed: []string{upperA}, issuer: issuerA},

		{name: "not allowed", allowed: both, edit: at(tenantC), want: "tenant"},
		{name: "not allowed, and another nonce", allowed: both, edit: with(at(tenantC), "nonce", "x"), want: "nonce"},
		{name: "iss of another tenant", allowed: both, edit: object{"iss": issuerB}, want: "issuer"},
		{name: "iss of one that is not allowed", allowed: both, edit: object{"iss": issuerC}, want: "issuer"},
		{name: "tid of another tenant", allowed: both, edit: object{"tid": tenantB}, want: "issuer"},
		{name: "tid of another tenant, every", allowed: every, edit: object{"tid": tenantB}, want: "issuer"},
		{name: "tid in capitals, iss not", allowed: both, edit: object{"tid": upperA}, want: "issuer"},
		{name: "iss in capitals, tid not", allowed: both, edit: with(at(upperA), "tid", tenantA), want: "issuer"},
		{name: "the template", allowed: every, edit: object{"iss": template}, want: "issuer"},
		{name: "the template with tid", allowed: every, edit: at("{tenantid}"), want: "issuer"},
		{name: "slash", allowed: both, edit: object{"iss": issuerA + "/"}, want: "issuer"},
		{name: "no slash before it", allowed: both, edit: object{"iss": "https://login.example" + tenantA}, want: "issuer"},
		{name: "http", allowed: both, edit: object{"iss": "http" + issuerA[5:]}, want: "issuer"},
		{name: "another version", allowed: both, edit: object{"iss": issuerA[:len(issuerA)-5]}, want: "issuer"},
		{name: "iss missing", allowed: every, edit: object{"iss": nil}, want: "issuer"},
		{name: "iss number", allowed: every, edit: object{"iss": 7}, want: "issuer"},

		{name: "tid missing", allowed: every, edit: object{"tid": nil}, want: "issuer"},
		{name: "tid in other letters", allowed: every, edit: object{"tid": nil, "TID": tenantA}, want: "issuer"},
		{name: "tid number", allowed: every, edit: object{"tid": 7}, want: "issuer"},
		{name: "tid array", allowed: every, edit: object{"tid": []string{tenantA}}, want: "issuer"},
		{name: "tid empty", allowed: every, edit: at(""), want: "issuer"},
		{name: "tid star", allowed: every, edit: at("*"), want: "issuer"},
		{name: "tid common", allowed: every, edit: at("common"), want: "issuer"},
		{name: "tid domain", allowed: every, edit: at("contoso.example"), want: "issuer"},
		{name: "tid in mixed letters", allowed: every, edit: at(upperA[:8] + tenantA[8:]), want: "issuer"},
		{name: "tid in letters mixed otherwise", allowed: every, edit: at(tenantA[:8] + upperA[8:]), want: "issuer"},
		{name: "tid in braces", allowed: every, edit: at("{" + tenantA + "}"), want: "issuer"},
		{name: "tid without dashes", allowed: every, edit: at(strings.ReplaceAll(tenantA, "-", "")), want: "issuer"},
		{name: "tid short", allowed: every, edit: at(tenantA[:35]), want: "issuer"},
		{name: "tid long", allowed: every, edit: at(tenantA + "0"), want: "issuer"},
		{name: "tid with a newline", allowed: every, edit: at(tenantA + "\n"), want: "issuer"},
		{name: "tid of two", allowed: every, edit: at(tenantA + "/" + tenantB), want: "issuer"},
		{name: "tid not hexadecimal", allowed: every, edit: at("g" + tenantA[1:]), want: "issuer"},
		{name: "tid with a path", allowed: every, edit: at("../" + tenantA), want: "issuer"},
	} {
		bubble(t, c.name, func(t *testing.T) {
			op, cfg := entra(c.allowed...)
			p := idp.New(cfg)
			raw := entraToken(c.edit)
			got, err := p.VerifyIDToken(t.Context(), raw, expect())
			if check(err) != c.want || err == nil && got.Issuer != c.issuer {
				t.Errorf("got %+v, %v, want %q, %q", got, err, c.want, c.issuer)
			}
			// A tenant that is taken off the list loses its sessions.
			iss, _ := claims(edited(object{"iss": issuerA}, c.edit))["iss"].(string)
			e := expectRefreshed()
			e.Issuer = iss
			want := c.want
			if want == "nonce" {
				want = "tenant"
			}
			if _, err := p.VerifyRefreshed(t.Context(), raw, e); check(err) != want {
				t.Errorf("refreshed: got %v, want %q", err, want)
			}
			if n := op.count(commonMetadata); n != 1 {
				t.Errorf("the metadata of common was asked for %d times", n)
			}
		})
	}
}

func TestDeniedTenantNamesTheRemedy(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		_, cfg := entra(tenantB)
		_, err := idp.New(cfg).VerifyIDToken(t.Context(), entraToken(nil), expect())
		wantError(t, err, tenantA, "AllowedTenants")
		if refused, ok := err.(*idp.TokenError); !ok || !refused.Denied() {
			t.Errorf("not called denied: %v", err)
		}
	})
}

// Entra publishes for each key which issuer signs with it. Without that, a tenant that can bring a key of its own could
// sign tokens of another.
func TestIssuerOfAKey(t *testing.T) {
	for _, c := range []struct {
		name string
		keys []object
		want string
	}{
		{"none", []object{entraKey(nil)}, ""},
		{"null", []object{with(entraKey(nil), "issuer", nil)}, ""},
		{"the template", []object{entraKey(template)}, ""},
		{"this tenant", []object{entraKey(issuerA)}, ""},
		{"two of one name", []object{entraKey(issuerC), entraKey(issuerA)}, ""},
		{"another tenant", []object{entraKey(issuerB)}, "signature"},
		{"another template", []object{entraKey("https://login.example/{tenantid}/")}, "signature"},
		{"another host's template", []object{entraKey("https://login.other/{tenantid}/v2.0")}, "signature"},
		{"this tenant in capitals", []object{entraKey(capitalsA)}, "signature"},
		{"slash", []object{entraKey(issuerA + "/")}, "signature"},
		{"empty", []object{entraKey("")}, "signature"},
		{"number", []object{entraKey(7)}, "signature"},
		{"array", []object{entraKey([]string{issuerA})}, "signature"},
		{"two of one name, none its own", []object{entraKey(issuerC), entraKey(issuerB)}, "signature"},
	} {
		bubble(t, c.name, func(t *testing.T) {
			op, cfg := entra(tenantA, tenantB)
			op.set("/jwks", says(jwks(c.keys...)))
			_, err := idp.New(cfg).VerifyIDToken(t.Context(), entraToken(nil), expect())
			if check(err) != c.want {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	// With one issuer there is nothing to tell apart, and other providers may mean something else by it.
	bubble(t, "one issuer", func(t *testing.T) {
		op := newFakeOP()
		op.set("/jwks", says(jwks(entraKey(issuerB))))
		raw := sign(object{"alg": "EdDSA", "kid": "ed"}, claims(nil), edKey())
		if _, err := idp.New(op.config(edOnly)).VerifyIDToken(t.Context(), raw, expect()); err != nil {
			t.Error(err)
		}
	})
}

// S05: the user of another tenant is another user, even under the same subject.
func TestRefreshedTokenIsOfTheSameIssuer(t *testing.T) {
	for _, c := range []struct {
		name, login string
		edit        object
		want        string
	}{
		{"same", issuerA, nil, ""},
		{"another tenant", issuerA, object{"iss": issuerB, "tid": tenantB}, "issuer"},
		{"login of another tenant", issuerB, nil, "issuer"},
		{"login of a slash more", issuerA + "/", nil, "issuer"},
		{"login of the template", template, nil, "issuer"},
		{"login not given", "", nil, "issuer"},
	} {
		bubble(t, c.name, func(t *testing.T) {
			_, cfg := entra("*")
			e := expectRefreshed()
			e.Issuer = c.login
			_, err := idp.New(cfg).VerifyRefreshed(t.Context(), entraToken(c.edit), e)
			if check(err) != c.want {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	for login, want := range map[string]string{"": "", issuer: "", "https://op.example": "issuer"} {
		bubble(t, "one issuer, login of "+login, func(t *testing.T) {
			e := expectRefreshed()
			e.Issuer = login
			_, err := newFakeOP().client().VerifyRefreshed(t.Context(), rs256(claims(nil)), e)
			if check(err) != want {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}

// RFC 9207: the parameter of the authorization response.
func TestIsIssuer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		issuer  string
		allowed []string
		iss     string
		want    bool
	}{
		{"equal", issuer, nil, issuer, true},
		{"no slash", issuer, nil, strings.TrimSuffix(issuer, "/"), false},
		{"capitals", issuer, nil, "https://OP.example/", false},
		{"port", issuer, nil, "https://op.example:443/", false},
		{"empty", issuer, nil, "", false},
		{"longer", issuer, nil, issuer + "x", false},
		{"no issuer configured", "", nil, "", false},
		{"mistaken configuration", template, nil, template, false},

		{"a tenant", template, []string{tenantA}, issuerA, true},
		{"every tenant", template, []string{"*"}, issuerC, true},
		{"a tenant in capitals", template, []string{tenantA}, capitalsA, true},
		{"another tenant", template, []string{tenantA}, issuerB, false},
		{"the template", template, []string{"*"}, template, false},
		{"common", template, []string{"*"}, "https://login.example/common/v2.0", false},
		{"no tenant", template, []string{"*"}, "https://login.example//v2.0", false},
		{"nothing between", template, []string{"*"}, "https://login.example/v2.0", false},
		{"empty, tenants", template, []string{"*"}, "", false},
		{"another host", template, []string{"*"}, strings.Replace(issuerA, "login", "evil", 1), false},
		{"more behind", template, []string{"*"}, issuerA + "/", false},
		{"less behind", template, []string{"*"}, strings.TrimSuffix(issuerA, "2.0"), false},
		{"nothing behind", template, []string{"*"}, strings.TrimSuffix(issuerA, "/v2.0"), false},
		{"nothing before", template, []string{"*"}, tenantA + "/v2.0", false},
		{"the id alone", template, []string{"*"}, tenantA, false},
		{"more before", template, []string{"*"}, " " + issuerA, false},
		{"two tenants", template, []string{"*"}, "https://login.example/" + tenantA + "/" + tenantB + "/v2.0", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := idp.New(newFakeOP().config(func(cfg *idp.Config) { cfg.Issuer, cfg.AllowedTenants = c.issuer, c.allowed }))
			if got := p.IsIssuer(c.iss); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestSignedUserInfoIsOfATenant(t *testing.T) {
	for _, c := range []struct {
		name string
		edit object
		want string // in the error
	}{
		{"allowed", nil, ""},
		{"not allowed", object{"iss": issuerC, "tid": tenantC}, "AllowedTenants"},
		{"iss of another", object{"iss": issuerB}, "iss"},
		{"the template", object{"iss": template}, "iss"},
		{"tid missing", object{"tid": nil}, "tid"},
	} {
		bubble(t, c.name, func(t *testing.T) {
			op, cfg := entra(tenantA, tenantB)
			op.set("/userinfo", saysAs("application/jwt", entraToken(c.edit)))
			_, err := idp.New(cfg).UserInfo(t.Context(), accessToken, "alice")
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, c.want)
		})
	}
}

func TestAllowedTenantsAreCopied(t *testing.T) {
	t.Parallel()
	_, cfg := entra(tenantA)
	p := idp.New(cfg)
	cfg.AllowedTenants[0] = tenantB
	if !p.IsIssuer(issuerA) || p.IsIssuer(issuerB) {
		t.Error("the caller's slice is used")
	}
}

// DISC-03: the document of common names the template, and no other will do.
func TestMetadataOfManyTenants(t *testing.T) {
	t.Parallel()
	const organizations = "/organizations/v2.0/.well-known/openid-configuration"
	for _, c := range []struct {
		name, url, path, issuer, want string
	}{
		{"common by default", "", commonMetadata, template, ""},
		{"organizations", "https://login.example" + organizations, organizations, template, ""},
		{"one tenant's issuer", "", commonMetadata, issuerA, "byte for byte"},
		{"another version's template", "", commonMetadata, "https://login.example/{tenantid}/", "AllowedTenants"},
	} {
		t.Run(c.name, func(t *testing.T) {
			op, cfg := entra(tenantA)
			op.set(commonMetadata, http.NotFound)
			op.set(c.path, says(metadata(object{"issuer": c.issuer})))
			cfg.DiscoveryURL = c.url
			m, err := idp.New(cfg).Metadata(t.Context())
			if c.want != "" {
				wantError(t, err, c.want, c.issuer, template)
			} else if err != nil || m.Issuer != template {
				t.Errorf("got %+v, %v", m, err)
			}
		})
	}
}

// An issuer is accepted only if it is the template with a GUID in it that is allowed, and is the token's tid.
func FuzzTenant(f *testing.F) {
	for _, tid := range []string{
		tenantA, tenantB, strings.ToUpper(tenantA), "", "*", "common", "{tenantid}", tenantA[:35], tenantA + "/", "../x",
	} {
		f.Add(strings.Replace(template, "{tenantid}", tid, 1), tid, false)
		f.Add(issuerA, tid, true)
	}
	f.Fuzz(func(t *testing.T, iss, tid string, every bool) {
		allowed := []string{tenantA, strings.ToUpper(tenantB)}
		if every {
			allowed = []string{"*"}
		}
		_, cfg := entra(allowed...)
		p := idp.New(cfg)
		before, after, _ := strings.Cut(template, "{tenantid}")
		good := func(tid string) bool {
			listed := every || strings.EqualFold(tid, tenantA) || strings.EqualFold(tid, tenantB)
			return isGUID(tid) && iss == before+tid+after && listed
		}

		got, err := p.VerifyIDToken(t.Context(), entraToken(object{"iss": iss, "tid": tid}), expect())
		// What is not UTF-8 is changed on the way into the token.
		if ok := err == nil; ok != good(tid) && (ok || strings.ToValidUTF8(iss+tid, "") == iss+tid) {
			t.Errorf("iss %q, tid %q: got %v", iss, tid, err)
		}
		if err == nil && (got.Issuer != iss || !p.IsIssuer(iss)) {
			t.Errorf("iss %q: got %q", iss, got.Issuer)
		}
		if len(iss) > 36 && p.IsIssuer(iss) != good(strings.TrimSuffix(strings.TrimPrefix(iss, before), after)) {
			t.Errorf("IsIssuer(%q) is %v", iss, p.IsIssuer(iss))
		}
		if len(iss) <= 36 && p.IsIssuer(iss) {
			t.Errorf("IsIssuer(%q)", iss)
		}
	})
}

// isGUID says the same as the package by other means.
func isGUID(s string) bool {
	parts := strings.Split(s, "-")
	if len(s) != 36 || len(parts) != 5 || s != strings.ToLower(s) && s != strings.ToUpper(s) {
		return false
	}
	for i, n := range []int{4, 2, 2, 2, 6} {
		if b, err := hex.DecodeString(parts[i]); err != nil || len(b) != n {
			return false
		}
	}
	return true
}
