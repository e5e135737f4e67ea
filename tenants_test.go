package oidcauth_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

const (
	manyTenants = "https://login.test/{tenantid}/v2.0"
	contoso     = "8eaef023-2b34-4da1-9baa-8bc8c9d6a490"
	fabrikam    = "82229342-1101-4ab6-817b-70c0747630f3"
	personal    = "9188040d-6c67-4c5b-b112-36a304b66dad"
)

func issuerOf(tenant string) string { return strings.Replace(manyTenants, "{tenantid}", tenant, 1) }

// ofManyTenants returns an application at a provider like Entra ID, where users of the allowed tenants may sign in. Its
// provider signs everybody in as one of tenant.
func ofManyTenants(t *testing.T, tenant *string, allowed ...string) *app {
	t.Helper()
	op := oidcauthtest.NewProvider(t)
	op.EditMetadata(func(m map[string]any) { m["issuer"] = manyTenants })
	op.EditIDToken(func(c map[string]any) { c["iss"], c["tid"] = issuerOf(*tenant), *tenant })
	op.Change(func(k *oidcauthtest.Knobs) {
		k.EditCallback = func(q url.Values) { q.Set("iss", issuerOf(*tenant)) }
	})
	return newAppAt(t, op, withTenants(op, allowed...))
}

func withTenants(op *oidcauthtest.Provider, allowed ...string) func(*oidcauth.Options) {
	return func(o *oidcauth.Options) {
		o.Issuer, o.AllowedTenants = manyTenants, allowed
		o.DiscoveryURL = strings.TrimSuffix(op.Issuer(), "/") + "/.well-known/openid-configuration?p=flow"
		o.Routes.InitiateLogin = "/auth/start"
	}
}

// DISC-03, OIDC-12: the identity of a user is the tenant's issuer with the subject.
func TestUsersOfAllowedTenantsSignIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tenant := contoso
		a := ofManyTenants(t, &tenant, contoso, fabrikam)
		a.mux.HandleFunc("/who", func(w http.ResponseWriter, r *http.Request) {
			_, tokenErr := a.AccessToken(w, r, nil)
			s, err := a.GetSession(r)
			if err != nil {
				a.Error(w, r, err)
				return
			}
			var claims struct{ Iss string }
			_ = s.Claims(&claims)
			_ = json.NewEncoder(w).Encode([]any{s.Issuer, claims.Iss, tokenErr == nil})
		})
		for _, tenant = range []string{contoso, fabrikam} {
			a.browser.SignIn(oidcauthtest.Alice)
			want := `["` + issuerOf(tenant) + `","` + issuerOf(tenant) + `",true]`
			if got := strings.TrimSpace(a.browser.Get("/who").Body); got != want {
				t.Errorf("signed in is %s, want %s", got, want)
			}
			before := a.op.Grants()
			time.Sleep(time.Hour) // its tokens expire
			if got := strings.TrimSpace(a.browser.Get("/who").Body); got != want || a.op.Grants() == before {
				t.Errorf("after a refresh: %s", got)
			}
		}
		a.settle(t)
		synctest.Wait()
		for _, e := range a.logs.all() {
			if e.Subject != "" && e.Issuer != issuerOf(contoso) && e.Issuer != issuerOf(fabrikam) {
				t.Errorf("%s is of %q", e.Name, e.Issuer)
			}
		}
		// Alice of one tenant is not Alice of the other.
		tenant = contoso
		if page := a.browser.From("https://evil.test").Get("/auth/login"); !strings.Contains(page.Body, "Change accounts?") {
			t.Errorf("another tenant's user replaces the session: %s", page.Body)
		}
	})
}

func TestTenantsAreValidated(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		edit  func(*oidcauth.Options)
		field string
	}{
		"as documented": {entraTenants, ""},
		"no tenants":    {func(o *oidcauth.Options) { o.Issuer = manyTenants }, "AllowedTenants"},
		"a domain":      {func(o *oidcauth.Options) { o.Issuer, o.AllowedTenants = manyTenants, []string{"a.test"} }, "AllowedTenants"},
		"one issuer":    {func(o *oidcauth.Options) { o.AllowedTenants = []string{contoso} }, "AllowedTenants"},
		"too long":      {func(o *oidcauth.Options) { o.MaxSubjectLength = 1025 }, "MaxSubjectLength"},
		"negative":      {func(o *oidcauth.Options) { o.MaxSubjectLength = -1 }, "MaxSubjectLength"},
	} {
		o := rightOptions()
		tt.edit(&o)
		_, err := oidcauth.New(o)
		if got := err != nil && strings.Contains(err.Error(), "oidcauth: "+tt.field+": "); got != (tt.field != "") || tt.field == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUsersOfOtherTenantsDoNot(t *testing.T) {
	t.Parallel()
	tenant := personal
	a := ofManyTenants(t, &tenant, contoso)
	a.op.Change(func(k *oidcauthtest.Knobs) { k.EditCallback = func(q url.Values) { q.Set("iss", issuerOf(contoso)) } })
	page := a.browser.Get("/auth/login")
	if page.StatusCode != http.StatusForbidden || errorCode(page) != "login_denied" || a.browser.Get("/").Body != nobody {
		t.Errorf("the login ends with %d %q", page.StatusCode, errorCode(page))
	}
	a.settle(t)
	if n := a.op.ActiveRefreshTokens("alice"); n != 0 { // S44
		t.Errorf("%d refresh tokens are left", n)
	}
}

// A tenant that is allowed no more takes its sessions along.
func TestATenantThatIsAllowedNoMore(t *testing.T) {
	t.Parallel()
	tenant := contoso
	a := ofManyTenants(t, &tenant, contoso, fabrikam)
	a.browser.SignIn(oidcauthtest.Alice)
	for _, allowed := range []struct {
		tenants []string
		who     string
	}{{[]string{contoso}, "alice"}, {[]string{"*"}, "alice"}, {[]string{fabrikam}, nobody}} {
		b := newAppAt(t, a.op, withTenants(a.op, allowed.tenants...))
		again := a.browser.Clone()
		again.Host("https://app.test", b.handler)
		if who := again.Get("/").Body; who != allowed.who {
			t.Errorf("with %q allowed the session is of %s", allowed.tenants, who)
		}
	}
}

// A refreshed ID token of another tenant ends the session (RFT-03).
func TestARefreshDoesNotChangeTheTenant(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tenant := contoso
		a := ofManyTenants(t, &tenant, contoso, fabrikam)
		a.mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
			if _, err := a.AccessToken(w, r, nil); err != nil {
				a.Error(w, r, err)
			}
		})
		a.browser.SignIn(oidcauthtest.Alice)
		tenant = fabrikam
		time.Sleep(time.Hour)
		if resp := a.browser.Fetch("/token"); errorCode(resp) != "login_required" || a.browser.Get("/").Body != nobody {
			t.Errorf("%d %q, and the session is of %s", resp.StatusCode, errorCode(resp), a.browser.Get("/").Body)
		}
		a.settle(t)
	})
}

func TestAnInitiatedLoginNamesATenant(t *testing.T) { // OIDC-36
	t.Parallel()
	tenant := contoso
	a := ofManyTenants(t, &tenant, contoso)
	for iss, status := range map[string]int{
		issuerOf(contoso): http.StatusFound, issuerOf(fabrikam): http.StatusBadRequest, manyTenants: http.StatusBadRequest,
	} {
		resp := a.browser.NoRedirects().Get("/auth/start?iss=" + url.QueryEscape(iss))
		if resp.StatusCode != status {
			t.Errorf("%s: %d", iss, resp.StatusCode)
		}
	}
}

// The smaller tolerances that some providers need, each off by default.
func TestTolerancesForSomeProviders(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("s", 300)
	for name, tt := range map[string]struct {
		provider func(*oidcauthtest.Provider)
		allow    func(*oidcauth.Options)
		code     string // without
	}{
		"a long subject": {
			func(p *oidcauthtest.Provider) { p.SetUser(oidcauthtest.User{Subject: long}) },
			func(o *oidcauth.Options) { o.MaxSubjectLength = 300 }, "invalid_id_token",
		}, // OIDC-22
		"another authorized party": {
			func(p *oidcauthtest.Provider) { p.EditIDToken(func(c map[string]any) { c["azp"] = "app-on-a-phone" }) },
			func(o *oidcauth.Options) { o.AuthorizedParties = []string{"app-on-a-phone"} }, "invalid_id_token",
		}, // OIDC-14
		"no token_type": {
			func(p *oidcauthtest.Provider) {
				p.EditTokenResponse(func(r map[string]any) { delete(r, "token_type") })
			},
			func(o *oidcauth.Options) { o.AllowMissingTokenType = true }, "exchange_failed",
		}, // OIDC-10
	} {
		strictly, leniently := newApp(t), newApp(t, tt.allow)
		tt.provider(strictly.op)
		tt.provider(leniently.op)
		if page := strictly.browser.Get("/auth/login"); errorCode(page) != tt.code {
			t.Errorf("%s is not refused: %d %q", name, page.StatusCode, errorCode(page))
		}
		if page := leniently.browser.Get("/auth/login"); page.StatusCode != http.StatusOK || errorCode(page) != "" {
			t.Errorf("%s is refused: %d %q", name, page.StatusCode, errorCode(page))
		}
		strictly.settle(t)
	}
	// Each allows no more than it says.
	for name, tt := range map[string]struct {
		provider func(*oidcauthtest.Provider)
		allow    func(*oidcauth.Options)
	}{
		"a longer subject": {
			func(p *oidcauthtest.Provider) { p.SetUser(oidcauthtest.User{Subject: long + "s"}) },
			func(o *oidcauth.Options) { o.MaxSubjectLength = 300 },
		},
		"a third party": {
			func(p *oidcauthtest.Provider) { p.EditIDToken(func(c map[string]any) { c["azp"] = "another" }) },
			func(o *oidcauth.Options) { o.AuthorizedParties = []string{"app-on-a-phone", ""} },
		},
		"an empty azp": {
			func(p *oidcauthtest.Provider) { p.EditIDToken(func(c map[string]any) { c["azp"] = "" }) },
			func(o *oidcauth.Options) { o.AuthorizedParties = []string{""} },
		},
		"another token_type": {
			func(p *oidcauthtest.Provider) {
				p.EditTokenResponse(func(r map[string]any) { r["token_type"] = "mac" })
			},
			func(o *oidcauth.Options) { o.AllowMissingTokenType = true },
		},
	} {
		a := newApp(t, tt.allow)
		tt.provider(a.op)
		if page := a.browser.Get("/auth/login"); page.StatusCode != http.StatusBadGateway {
			t.Errorf("%s: %d %q", name, page.StatusCode, errorCode(page))
		}
		a.settle(t)
	}
}

// OIDC-24: what is required is asked for as an essential claim where the provider knows how (Core 5.5.1.1).
func TestARequiredACRIsEssential(t *testing.T) {
	t.Parallel()
	for _, supported := range []bool{true, false} {
		for _, own := range []string{"", `{"id_token":{"email":null}}`} {
			a := newApp(t)
			a.op.EditMetadata(func(m map[string]any) { m["claims_parameter_supported"] = supported })
			o := &oidcauth.LoginOptions{RequireACR: []string{"gold", `"`}}
			if own != "" {
				o.Params = map[string]string{"claims": own}
			}
			a.signInBy(o)
			start, err := url.Parse(a.browser.NoRedirects().Get("/sign-in").Header.Get("Location"))
			if err != nil {
				t.Fatal(err)
			}
			want := own
			if supported && own == "" {
				want = `{"id_token":{"acr":{"essential":true,"values":["gold","\""]}}}`
			}
			if q := start.Query(); q.Get("claims") != want || q.Get("acr_values") != `gold "` {
				t.Errorf("claims are %s, acr_values %s", q.Get("claims"), q.Get("acr_values"))
			}
		}
	}
}
