package oidcauth_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// The code of docs/providers, word for word.

func auth0Options(options *oidcauth.Options) {
	options.Domain = "tenant.eu.auth0.com" // or a custom domain, which is then the issuer too
	options.Audience = "https://orders.example.com"
	options.AudienceScopes = map[string][]string{"https://billing.example.com": {"read:invoices"}}
}

func secondFactor(client *oidcauth.Client) func(http.Handler) http.Handler {
	guard := client.RequireAuthWith(oidcauth.RequireOptions{
		Check: func(_ *http.Request, s *oidcauth.Session) error {
			var claims struct{ AMR []string }
			if err := s.Claims(&claims); err != nil || !slices.Contains(claims.AMR, "mfa") {
				return oidcauth.ErrLoginRequired
			}
			return nil
		},
		Login: &oidcauth.LoginOptions{Params: map[string]string{
			"acr_values": "http://schemas.openid.net/pape/policies/2007/06/multi-factor",
		}},
	})
	return guard
}

func oktaOptions(options *oidcauth.Options) {
	options.Issuer = "https://tenant.okta.com/oauth2/default" // or "https://tenant.okta.com"
	options.LogoutURL = func(p oidcauth.LogoutURLParams) (string, error) {
		if p.IDTokenHint == "" {
			return p.PostLogoutURL, nil
		}
		query := url.Values{
			"id_token_hint":            {p.IDTokenHint},
			"post_logout_redirect_uri": {p.PostLogoutURL},
			"state":                    {p.State},
		}
		return "https://tenant.okta.com/oauth2/default/v1/logout?" + query.Encode(), nil
	}
}

func entraOptions(options *oidcauth.Options) {
	options.Issuer = "https://login.microsoftonline.com/8eaef023-2b34-4da1-9baa-8bc8c9d6a490/v2.0"
	options.Scopes = []string{"openid", "profile", "email", "offline_access", "api://orders/Orders.Read"}
	options.LogoutHint = func(s *oidcauth.Session) string {
		var claims struct {
			LoginHint string `json:"login_hint"`
		}
		_ = s.Claims(&claims) // without the claim there is no hint
		return claims.LoginHint
	}
}

func entraTenants(options *oidcauth.Options) {
	options.Issuer = "https://login.microsoftonline.com/{tenantid}/v2.0"
	options.AllowedTenants = []string{"8eaef023-2b34-4da1-9baa-8bc8c9d6a490"}
}

func graphClient(w http.ResponseWriter, r *http.Request, client *oidcauth.Client) (*http.Client, error) {
	graph := &oidcauth.TokenOptions{Scopes: []string{"https://graph.microsoft.com/User.Read"}}
	api, err := client.HTTPClient(w, r, graph, "https://graph.microsoft.com")
	return api, err
}

func googleOptions(options *oidcauth.Options) {
	options.Issuer = "https://accounts.google.com"
	options.AuthParams = map[string]string{"access_type": "offline", "prompt": "consent"}
}

func oneWorkspaceDomain(options *oidcauth.Options) {
	options.AuthParams = map[string]string{"hd": "example.com"}
	options.BeforeSave = func(_ context.Context, s *oidcauth.Session) error {
		var claims struct{ HD string }
		if err := s.Claims(&claims); err != nil || claims.HD != "example.com" {
			return errors.New("not an account of example.com")
		}
		return nil
	}
}

func keycloakOptions(options *oidcauth.Options) {
	options.Issuer = "https://id.example.com/realms/shop"
	options.Scopes = []string{"openid", "profile", "email"}
	options.TrustedAudiences = func(audience string) bool { return audience == "orders-api" }
}

func cognitoOptions(options *oidcauth.Options) {
	options.Issuer = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Ab12Cd34E"
	options.LogoutURL = func(p oidcauth.LogoutURLParams) (string, error) {
		query := url.Values{"client_id": {p.ClientID}, "logout_uri": {p.PostLogoutURL}}
		return "https://shop.auth.eu-west-1.amazoncognito.com/logout?" + query.Encode(), nil
	}
	options.Routes.LoggedOut = "-"
}

func zitadelOptions(options *oidcauth.Options) {
	options.Issuer = "https://shop-ab12cd.zitadel.cloud" // or a custom domain, or that of your own installation
	options.FetchUserInfo = true
	trusted := []string{"69234237810729019", "69234237810729234"} // the project, and its other applications
	options.TrustedAudiences = func(audience string) bool { return slices.Contains(trusted, audience) }
}

func dexOptions(options *oidcauth.Options) {
	options.Issuer = "https://dex.example.com"
	options.Scopes = []string{"openid", "profile", "email", "groups", "offline_access"}
}

func dexForAnotherClient(options *oidcauth.Options) {
	dexOptions(options)
	options.Scopes = append(options.Scopes, "audience:server:client_id:cli-app")
	options.TrustedAudiences = func(audience string) bool { return audience == "cli-app" }
}

func providerPages(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("docs/providers/*.md")
	if err != nil || len(pages) != 8 {
		t.Fatalf("pages %q: %v", pages, err)
	}
	return pages
}

func TestTheCodeOfTheProvidersIsRun(t *testing.T) {
	t.Parallel()
	source, blocks := readText(t, "docs_providers_test.go"), 0
	for _, page := range providerPages(t) {
		for _, block := range codeFence.FindAllStringSubmatch(readText(t, page), -1) {
			if blocks++; !hasLines(source, block[2]) {
				t.Errorf("%s: this file does not have\n%s", page, block[2])
			}
		}
	}
	if blocks < 15 {
		t.Errorf("only %d blocks of code were found", blocks)
	}
}

func TestThePagesOfTheProvidersAreShortAndFound(t *testing.T) {
	t.Parallel()
	index := readText(t, "docs/providers.md")
	known := index + readText(t, "README.md")
	for _, page := range append(providerPages(t), "docs/providers.md") {
		lines := strings.Split(strings.TrimSuffix(readText(t, page), "\n"), "\n")
		if len(lines) > 80 {
			t.Errorf("%s has %d lines, want at most 80", page, len(lines))
		}
		for i, line := range lines {
			if len([]rune(line)) > 120 && !strings.HasPrefix(line, "| ") { // Markdown cannot wrap a row
				t.Errorf("%s:%d is longer than 120 columns", page, i+1)
			}
			for j, words := range strings.Split(strings.Split(line, " | ")[0], "`") {
				if strings.HasPrefix(line, "| ") && j%2 == 1 && strings.Contains(words, " ") && !strings.Contains(known, words) {
					t.Errorf("%s:%d quotes %q, which neither the index nor the README does", page, i+1, words)
				}
			}
		}
		if !strings.Contains(lines[len(lines)-1], " | ") && page != "docs/providers.md" {
			t.Errorf("%s does not end in what goes wrong", page)
		}
		if path := strings.TrimPrefix(page, "docs/"); path != "providers.md" && !strings.Contains(index, "("+path+")") {
			t.Errorf("the index does not lead to %s", page)
		}
	}
}

// codeSpan is a name of ours in backquotes, perhaps with a value behind it.
var codeSpan = regexp.MustCompile("`([A-Z][A-Za-z]*(?:\\.[A-Z][A-Za-z]*)*)(?:: [^`]*)?`")

func TestThePagesOfTheProvidersNameOnlyWhatThereIs(t *testing.T) {
	t.Parallel()
	names := map[string]bool{
		"ErrLoginRequired": oidcauth.ErrLoginRequired != nil, "ErrMFARequired": oidcauth.ErrMFARequired != nil,
		"LoginOptions": true, "TokenOptions": true, "RequireACR": true, "Subject": true, // of the former, and of a Session
	}
	for prefix, value := range map[string]any{
		"": oidcauth.Options{}, "LoginOptions.": oidcauth.LoginOptions{}, "TokenOptions.": oidcauth.TokenOptions{},
		"Routes.": oidcauth.Routes{},
	} {
		for _, field := range reflect.VisibleFields(reflect.TypeOf(value)) {
			names[prefix+field.Name] = true
		}
	}
	for _, page := range append(providerPages(t), "docs/providers.md") {
		for _, found := range codeSpan.FindAllStringSubmatch(readText(t, page), -1) {
			if !names[found[1]] {
				t.Errorf("%s names %s, which does not exist", page, found[1])
			}
		}
	}
}

// documents answers discovery as a provider does, and nothing else.
type documents map[string]any

// RoundTrip implements [http.RoundTripper].
func (d documents) RoundTrip(r *http.Request) (*http.Response, error) {
	issuer, _ := d["issuer"].(string)
	if r.URL.String() != strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration" {
		return nil, errors.New("not here")
	}
	w := httptest.NewRecorder()
	err := json.NewEncoder(w).Encode(d)
	return w.Result(), err
}

// A providerCase is what a provider publishes, as far as it matters here, and what it is sent.
type providerCase struct {
	name, issuer     string
	options          func(*oidcauth.Options)
	metadata         documents
	scope            string
	sent             map[string]string // further parameters of the login; "": not sent
	logout, returnTo string            // where a logout without a session leads, and one with a returnTo
}

const (
	defaultScope = "openid profile email offline_access"
	entraTenant  = "8eaef023-2b34-4da1-9baa-8bc8c9d6a490"
	toTheApp     = "client_id=client&post_logout_redirect_uri=https%3A%2F%2Fapp.test"
	toCognito    = "?client_id=client&logout_uri=https%3A%2F%2Fapp.test"
	toLoggedOut  = toTheApp + "%2Fauth%2Flogged-out"
)

func providerCases() []providerCase {
	const zitadel, entra = "https://shop-ab12cd.zitadel.cloud", "https://login.microsoftonline.com/" + entraTenant
	const auth0 = "https://tenant.eu.auth0.com/v2/logout?client_id=client&returnTo="
	const cognito = "https://shop.auth.eu-west-1.amazoncognito.com/logout"
	withOffline := []string{"openid", "profile", "email", "groups", "offline_access"}
	return []providerCase{{
		name: "Auth0, an old tenant", options: auth0Options, issuer: "https://tenant.eu.auth0.com/",
		metadata: documents{"scopes_supported": withOffline}, scope: defaultScope,
		sent:   map[string]string{"audience": "https://orders.example.com", "resource": ""},
		logout: auth0 + "https%3A%2F%2Fapp.test", returnTo: auth0 + "https%3A%2F%2Fapp.test%2Fauth%2Flogged-out",
	}, {
		name: "Okta", options: oktaOptions, issuer: "https://tenant.okta.com/oauth2/default",
		metadata: documents{"end_session_endpoint": "https://tenant.okta.com/oauth2/default/v1/logout"}, scope: defaultScope,
		logout: "https://app.test", returnTo: "https://app.test/auth/logged-out",
	}, {
		name: "Entra", options: entraOptions, issuer: entra + "/v2.0",
		metadata: documents{"scopes_supported": withOffline, "end_session_endpoint": entra + "/oauth2/v2.0/logout"},
		scope:    defaultScope + " api://orders/Orders.Read", sent: map[string]string{"audience": "", "resource": ""},
		logout: entra + "/oauth2/v2.0/logout?" + toTheApp, returnTo: entra + "/oauth2/v2.0/logout?" + toLoggedOut,
	}, {
		name: "Google", options: googleOptions, issuer: "https://accounts.google.com",
		metadata: documents{"scopes_supported": []string{"openid", "email", "profile"}}, scope: "openid profile email",
		sent:   map[string]string{"access_type": "offline", "prompt": "consent"},
		logout: "https://app.test", returnTo: "/bye",
	}, {
		name: "Keycloak", options: keycloakOptions, issuer: "https://id.example.com/realms/shop",
		metadata: documents{"scopes_supported": withOffline, "end_session_endpoint": "https://id.example.com/end"},
		scope:    "openid profile email", sent: map[string]string{"audience": "", "resource": ""},
		logout: "https://id.example.com/end?" + toTheApp, returnTo: "https://id.example.com/end?" + toLoggedOut,
	}, {
		name: "Cognito", options: cognitoOptions, issuer: "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Ab12Cd34E",
		metadata: documents{"scopes_supported": []string{"openid", "email", "profile"}, "end_session_endpoint": cognito},
		scope:    "openid profile email", logout: cognito + toCognito, returnTo: cognito + toCognito,
	}, {
		name: "Zitadel", options: zitadelOptions, issuer: zitadel,
		metadata: documents{"end_session_endpoint": zitadel + "/end_session"}, scope: defaultScope,
		logout: zitadel + "/end_session?" + toTheApp, returnTo: zitadel + "/end_session?" + toLoggedOut,
	}, {
		name: "Dex", options: dexForAnotherClient, issuer: "https://dex.example.com",
		metadata: documents{"scopes_supported": withOffline},
		scope:    "openid profile email groups offline_access audience:server:client_id:cli-app",
		logout:   "https://app.test", returnTo: "/bye",
	}}
}

func TestTheProvidersAreSentWhatTheirPagesSay(t *testing.T) {
	t.Parallel()
	for _, tt := range providerCases() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.metadata["issuer"] = tt.issuer
			for _, name := range []string{"authorization_endpoint", "token_endpoint", "jwks_uri"} {
				tt.metadata[name] = "https://provider.example/" + name
			}
			o := rightOptions()
			o.Issuer, o.HTTPClient = "", &http.Client{Transport: tt.metadata}
			tt.options(&o)
			client, err := oidcauth.New(o)
			if err != nil {
				t.Fatal(err)
			}
			login, err := ask(client.Handler(), http.MethodGet, "/auth/login").Location()
			if err != nil || login.Query().Get("scope") != tt.scope {
				t.Fatalf("the login leads to %v, want scope %q: %v", login, tt.scope, err)
			}
			for name, want := range tt.sent {
				if got := login.Query().Get(name); got != want || login.Query().Has(name) != (want != "") {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			for path, want := range map[string]string{"/auth/logout": tt.logout, "/auth/logout?returnTo=/bye": tt.returnTo} {
				got := withoutState.ReplaceAllString(ask(client.Handler(), http.MethodGet, path).Header.Get("Location"), "")
				if got != want {
					t.Errorf("%s leads to %s, want %s", path, got, want)
				}
			}
		})
	}
}

// withoutState drops our random state, which is last in a query, and encoded in Auth0's returnTo.
var withoutState = regexp.MustCompile(`(&state=|%3Fstate%3D)[A-Za-z0-9_-]+`)

// atTheTestProvider is what a page sets, for the issuer of the test provider.
func atTheTestProvider(page func(*oidcauth.Options)) func(*oidcauth.Options) {
	return func(o *oidcauth.Options) {
		issuer := o.Issuer
		page(o)
		o.Issuer = issuer
	}
}

func TestTheSecondFactorOfAuth0IsAskedForAndChecked(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	var methods []string
	a.op.EditIDToken(func(c map[string]any) { c["amr"] = methods })
	a.mux.Handle("/payout", secondFactor(a.Client)(http.RedirectHandler("/paid", http.StatusFound)))
	a.browser.SignIn(oidcauthtest.Alice)
	if r := a.browser.Get("/payout"); r.StatusCode != http.StatusForbidden {
		t.Errorf("without a second factor: %d %s, want 403", r.StatusCode, r.Body)
	}
	got := a.op.Requests("authorize")
	if len(got) != 2 || !strings.HasSuffix(got[1].Form.Get("acr_values"), "/multi-factor") {
		t.Errorf("%d logins, want a second one with acr_values", len(got))
	}
	methods = []string{"mfa"}
	a.browser.SignOut()
	a.browser.SignIn(oidcauthtest.Alice)
	if r := a.browser.Get("/payout"); r.URL.Path != "/paid" {
		t.Errorf("with a second factor: %d %s", r.StatusCode, r.Body)
	}
}

func TestEntraGetsTheLoginHintAtTheLogoutAndAScopeForGraph(t *testing.T) {
	t.Parallel()
	a := newApp(t, atTheTestProvider(entraOptions))
	a.op.EditIDToken(func(c map[string]any) { c["login_hint"] = "O.CiQ" })
	a.mux.HandleFunc("/graph", func(w http.ResponseWriter, r *http.Request) {
		_, err := graphClient(w, r, a.Client)
		a.Error(w, r, err)
	})
	a.browser.SignIn(oidcauthtest.Alice)
	a.op.Fail("token", http.StatusBadRequest, "invalid_grant", 1) // S16: of Graph alone
	a.browser.Fetch("/graph")
	sent := a.op.Requests("token")[a.op.Count("token")-1].Form
	if sent.Get("scope") != "https://graph.microsoft.com/User.Read" || sent.Has("resource") || sent.Has("audience") {
		t.Errorf("asked for scope %q, resource %q, audience %q", sent["scope"], sent["resource"], sent["audience"])
	}
	if r := a.browser.Get("/"); r.Body != "alice" {
		t.Errorf("afterwards %s is signed in", r.Body)
	}
	a.browser.SignOut()
	if got := a.op.Requests("end_session"); len(got) != 1 || got[0].Form.Get("logout_hint") != "O.CiQ" {
		t.Errorf("the logout sent %v, want the login_hint", len(got))
	}
}

func TestOktaGetsTheIDTokenOfWhoIsSignedIn(t *testing.T) {
	t.Parallel()
	o := rightOptions()
	oktaOptions(&o)
	const signedIn = "https://tenant.okta.com/oauth2/default/v1/logout?id_token_hint=a.b.c&" +
		"post_logout_redirect_uri=https%3A%2F%2Fapp.test&state=xyz"
	for hint, want := range map[string]string{"a.b.c": signedIn, "": "https://app.test"} {
		got, err := o.LogoutURL(oidcauth.LogoutURLParams{IDTokenHint: hint, PostLogoutURL: "https://app.test", State: "xyz"})
		if got != want || err != nil {
			t.Errorf("with the hint %q the logout leads to %s, want %s: %v", hint, got, want, err)
		}
	}
}

func TestOnlyOneWorkspaceDomainSignsIn(t *testing.T) {
	t.Parallel()
	for domain, want := range map[any]string{"example.com": "alice", "evil.example": nobody, nil: nobody} {
		a := newApp(t, oneWorkspaceDomain)
		a.op.EditIDToken(func(c map[string]any) { c["hd"] = domain })
		a.browser.Get("/auth/login")
		if r := a.browser.Get("/"); r.Body != want {
			t.Errorf("of %v: %s is signed in, want %s", domain, r.Body, want)
		}
	}
}

func TestTheAudiencesOfTheProvidersAreTrustedAndNoOthers(t *testing.T) { // OIDC-13
	t.Parallel()
	for _, tt := range []struct {
		name     string
		page     func(*oidcauth.Options)
		audience []string
		want     string
	}{
		{"Keycloak's mapper", keycloakOptions, []string{"orders-api"}, "alice"},
		{"Keycloak, another API", keycloakOptions, []string{"billing-api"}, nobody},
		{"Zitadel's project", zitadelOptions, []string{"69234237810729019", "69234237810729234"}, "alice"},
		{"Zitadel, a later application", zitadelOptions, []string{"69234237810729019", "70000000000000000"}, nobody},
		{"Dex's peer", dexForAnotherClient, []string{"cli-app"}, "alice"},
		{"Dex without the option", dexOptions, []string{"cli-app"}, nobody},
	} {
		a := newApp(t, atTheTestProvider(tt.page))
		id := a.op.Options().ClientID
		a.op.EditIDToken(func(c map[string]any) { c["aud"], c["azp"] = append([]string{id}, tt.audience...), id })
		a.browser.Get("/auth/login")
		if r := a.browser.Get("/"); r.Body != tt.want {
			t.Errorf("%s: %s is signed in, want %s\n%s", tt.name, r.Body, tt.want, a.logs)
		}
	}
}

// providerTroubles provoke what the index of the providers lists, and return what is to be seen.
func providerTroubles() map[string]func(t *testing.T) string {
	at := func(path string, change func(*app), edit ...func(*oidcauth.Options)) func(*testing.T) string {
		return func(t *testing.T) string {
			a := newApp(t, edit...)
			a.signInBy(&oidcauth.LoginOptions{RequireACR: []string{"gold"}})
			change(a)
			r := a.browser.Get(path)
			return r.Body + "\n" + a.logs.String()
		}
	}
	claim := func(name string, value func() any) func(*app) {
		return func(a *app) {
			a.op.EditIDToken(func(c map[string]any) {
				if c[name] = value(); c[name] == nil {
					delete(c, name)
				}
			})
		}
	}
	ago := func(d time.Duration) func() any { return func() any { return time.Now().Add(-d).Unix() } }
	return map[string]func(*testing.T) string{
		"is configured": at("/auth/login", nothing, func(o *oidcauth.Options) { o.Issuer = "https://op.test" }),
		"not trusted": at("/auth/login", func(a *app) {
			a.op.EditIDToken(func(c map[string]any) { c["aud"] = []string{a.op.Options().ClientID, "69234237810729019"} })
		}),
		"auth_time is missing": at("/auth/login?max_age=60", claim("auth_time", func() any { return nil })),
		"and max_age was":      at("/auth/login?max_age=60", claim("auth_time", ago(time.Hour))),
		"acr is":               at("/sign-in", claim("acr", func() any { return nil })),
		"no refresh token": at("/token", func(a *app) {
			a.op.Change(func(k *oidcauthtest.Knobs) { k.OmitRefreshToken, k.AccessTokenLifetime = true, time.Second })
			a.mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
				_, err := a.AccessToken(w, r, &oidcauth.TokenOptions{ForceRefresh: true})
				_, _ = w.Write([]byte(err.Error()))
			})
			a.browser.SignIn(oidcauthtest.Alice)
		}),
		"ES256": at("/auth/login", func(a *app) {
			a.op.EditMetadata(func(m map[string]any) { m["id_token_signing_alg_values_supported"] = []string{"ES256"} })
		}),
		"status 401": at("/auth/login", func(a *app) { a.op.Fail("userinfo", http.StatusUnauthorized, "invalid_token", -1) },
			func(o *oidcauth.Options) { o.FetchUserInfo = true }),
		"255 characters":    at("/auth/login", claim("sub", func() any { return strings.Repeat("a", 256) })),
		"10m0s":             at("/auth/login", claim("iat", ago(11*time.Minute))),
		"provider answered": at("/auth/login", func(a *app) { a.op.Fail("token", 400, "invalid_scope", -1) }),
		"invalid_target": at("/auth/login", func(a *app) {
			a.op.Change(func(k *oidcauthtest.Knobs) { k.AuthorizeError = "invalid_target" })
		}),
	}
}

func TestTheTroublesOfTheProvidersAreReal(t *testing.T) {
	t.Parallel()
	rows := tableRows(t, "docs/providers.md", "What goes wrong")
	provoke := providerTroubles()
	if len(rows) != len(provoke) {
		t.Errorf("%d rows and %d ways to provoke them", len(rows), len(provoke))
	}
	for name, f := range provoke {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := slices.IndexFunc(rows, func(row []string) bool { return strings.Contains(row[0], name) })
			if i < 0 {
				t.Fatal("the page has no such row")
			}
			seen := strings.ReplaceAll(f(t), `\"`, `"`)
			for part := range strings.SplitSeq(quotes(rows[i][0])[0], "…") {
				if part = strings.TrimSpace(part); !strings.Contains(seen, part) {
					t.Errorf("the page says %q, to be seen is\n%s", part, seen)
				}
			}
		})
	}
}
