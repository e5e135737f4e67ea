package oidcauth_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/securecookie"
	"golang.org/x/oauth2"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

const (
	firstSecret  = "6f1c0b9d57e84a3296dbe07fa5c41832cafe9d02"
	secondSecret = "d2a98f47c3b15e6078fa40cb9e12d735ba71ce60"
)

// rightOptions are right.
func rightOptions() oidcauth.Options {
	return oidcauth.Options{
		Issuer: "https://op.test/", ClientID: "client", ClientSecret: "secret", BaseURL: "https://app.test", Secrets: []string{firstSecret},
	}
}

// configErrors are the mistakes that err joins.
func configErrors(err error) (all []*oidcauth.ConfigError) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			all = append(all, configErrors(e)...)
		}
		return all
	}
	if e, ok := errors.AsType[*oidcauth.ConfigError](err); ok {
		all = append(all, e)
	}
	return all
}

func fieldsOf(err error) (names []string) {
	for _, e := range configErrors(err) {
		names = append(names, e.Field)
	}
	slices.Sort(names)
	return names
}

func TestNewNamesEveryMistake(t *testing.T) {
	t.Parallel()
	o := rightOptions()
	o.Issuer = "op.test"
	o.ClientID = ""
	o.BaseURL = "http://app.test"
	o.Secrets = []string{"short"}
	o.Cookie.SameSite = http.SameSiteNoneMode
	client, err := oidcauth.New(o)
	want := []string{"BaseURL", "ClientID", "Cookie.SameSite", "Issuer", "Secrets[0]"}
	if got := fieldsOf(err); !slices.Equal(got, want) || client != nil {
		t.Errorf("New returned %v with mistakes in %q, want %q:\n%v", client, got, want, err)
	}
	if lines := strings.Split(err.Error(), "\n"); len(lines) != len(want) {
		t.Errorf("%d lines for %d mistakes:\n%v", len(lines), len(want), err)
	}
}

func TestNothingButTheRequiredFieldsIsMissing(t *testing.T) { // lesson 41
	t.Parallel()
	if _, err := oidcauth.New(rightOptions()); err != nil {
		t.Error(err)
	}
	_, err := oidcauth.New(oidcauth.Options{})
	want := []string{"BaseURL", "ClientID", "ClientSecret", "Issuer", "Secrets"}
	if got := fieldsOf(err); !slices.Equal(got, want) {
		t.Errorf("the mistakes of no options are in %q, want %q", got, want)
	}
}

// looseCodec seals in a way that New has to notice.
type looseCodec struct {
	securecookie.Codec
	name string // whatever name it is told
}

func (c looseCodec) Encode(_ string, v any) (string, error) { return c.Codec.Encode(c.name, v) }

func (c looseCodec) Decode(_, value string, dst any) error { return c.Codec.Decode(c.name, value, dst) }

func TestEachMistakeIsNamedWithItsRemedy(t *testing.T) { // DISC-07, S17, S18, S43, S45, CKE-*
	t.Parallel()
	signing := securecookie.New([]byte(firstSecret), nil)
	sealing := securecookie.New([]byte(firstSecret), []byte(secondSecret)[:32])
	sealing.SetSerializer(securecookie.NopEncoder{})
	for _, tt := range []struct {
		mistake, field, remedy string
		make                   func(*oidcauth.Options)
	}{
		{"no issuer", "Issuer", "set it to the provider's issuer URL", func(o *oidcauth.Options) { o.Issuer = "" }},
		{"an issuer without scheme", "Issuer", "such as https://", func(o *oidcauth.Options) { o.Issuer = "op.test" }},
		{"an issuer over http", "Issuer", "use https", func(o *oidcauth.Options) { o.Issuer = "http://op.test/" }},
		{"an issuer with a query", "Issuer", "remove it", func(o *oidcauth.Options) { o.Issuer = "https://op.test/?a" }},
		{"an issuer with a password", "Issuer", "remove it", func(o *oidcauth.Options) { o.Issuer = "https://u:canary@op.test/" }},
		{"an issuer that is no URL", "Issuer", "such as https://", func(o *oidcauth.Options) { o.Issuer = "https://op.test/%zz" }},
		{"the issuer in a file", "Issuer", "such as https://", func(o *oidcauth.Options) { o.Issuer = "file:///etc/passwd" }},
		{"a development provider behind a public application", "Issuer", "set the real provider", func(o *oidcauth.Options) {
			o.Issuer = "http://127.0.0.1:4444/"
		}},
		{"a development provider by name", "Issuer", "set the real provider", func(o *oidcauth.Options) { o.Issuer = "https://LOCALHOST/" }},
		{"a domain beside another issuer", "Domain", "set one of the two", func(o *oidcauth.Options) { o.Domain = "other.test" }},
		{"a domain with a scheme", "Domain", "without scheme", func(o *oidcauth.Options) { o.Issuer, o.Domain = "", "https://op.test" }},
		{"a domain with a path", "Domain", "without scheme", func(o *oidcauth.Options) { o.Issuer, o.Domain = "", "op.test/x" }},
		{"no client id", "ClientID", "copy it from", func(o *oidcauth.Options) { o.ClientID = "" }},
		{"no credential", "ClientSecret", "set PublicClient", func(o *oidcauth.Options) { o.ClientSecret = "" }},
		{"two kinds of client", "PublicClient", "set one of the two", func(o *oidcauth.Options) { o.PublicClient = true }},
		{"an unknown audience parameter", "AudienceParam", "use one of", func(o *oidcauth.Options) { o.AudienceParam = "aud" }},
		{"tokens without signature", "IDTokenSigningAlgs", "use one of", func(o *oidcauth.Options) { o.IDTokenSigningAlgs = []string{"none"} }},
		{"a secret too short for HS256", "IDTokenSigningAlgs", "at least 32 bytes", func(o *oidcauth.Options) {
			o.IDTokenSigningAlgs = []string{"HS256"}
		}},
		{"an unknown algorithm for UserInfo", "UserInfoSigningAlg", "use one of", func(o *oidcauth.Options) { o.UserInfoSigningAlg = "rs256" }},
		{"a parameter of ours", "AuthParams", "set by the library", func(o *oidcauth.Options) {
			o.AuthParams = map[string]string{"state": "x"}
		}},
		{"a max_age that is none", "AuthParams", "number of seconds", func(o *oidcauth.Options) {
			o.AuthParams = map[string]string{"max_age": "1h"}
		}},
		{"a link that may set the nonce", "AllowedLoginParams", "cannot come from a link", func(o *oidcauth.Options) {
			o.AllowedLoginParams = []string{"nonce"}
		}},
		{"a link that may ask for any audience", "AllowedLoginParams", "AllowedAudiences", func(o *oidcauth.Options) {
			o.AllowedLoginParams = []string{"audience"}
		}},
		{"a parameter without name", "AllowedLoginParams", "cannot come from a link", func(o *oidcauth.Options) { o.AllowedLoginParams = []string{""} }},
		{"two scopes in one", "Scopes", "its own element", func(o *oidcauth.Options) { o.Scopes = []string{"openid email"} }},
		{"two allowed scopes in one", "AllowedScopes", "its own element", func(o *oidcauth.Options) { o.AllowedScopes = []string{"a b"} }},
		{"no base URL", "BaseURL", "such as https://", func(o *oidcauth.Options) { o.BaseURL = "" }},
		{"a base URL over http", "BaseURL", "InsecureAllowHTTP", func(o *oidcauth.Options) { o.BaseURL = "http://app.test" }},
		{"a base URL with a fragment", "BaseURL", "remove it", func(o *oidcauth.Options) { o.BaseURL = "https://app.test/#a" }},
		{"a base URL with dots", "BaseURL", "remove them", func(o *oidcauth.Options) { o.BaseURL = "https://app.test/a/../b" }},
		{"a base URL in Cyrillic", "BaseURL", "xn--", func(o *oidcauth.Options) { o.BaseURL = "https://аpp.test" }},
		{"a base URL with a line break", "BaseURL", "such as https://", func(o *oidcauth.Options) { o.BaseURL = "https://app.test/\n" }},
		{"a trusted origin with a path", "TrustedOrigins", "scheme, host and port", func(o *oidcauth.Options) {
			o.TrustedOrigins = []string{"https://a.test/"}
		}},
		{"a trusted origin with a wildcard", "TrustedOrigins", "use ASCII", func(o *oidcauth.Options) {
			o.TrustedOrigins = []string{"https://*.test"}
		}},
		{"a default that is another site", "DefaultReturnTo", "clean local path", func(o *oidcauth.Options) {
			o.DefaultReturnTo = "https://evil.test/"
		}},
		{"a default that is a route", "DefaultReturnTo", "clean local path", func(o *oidcauth.Options) {
			o.DefaultReturnTo = "/auth/login"
		}},
		{"a return origin with a path", "AllowedReturnOrigins", "has a path", func(o *oidcauth.Options) {
			o.AllowedReturnOrigins = []string{"https://www.test/a"}
		}},
		{"a return origin over http", "AllowedReturnOrigins", "use https", func(o *oidcauth.Options) {
			o.AllowedReturnOrigins = []string{"http://www.test"}
		}},
		{"a post-logout path", "PostLogoutURL", "such as https://", func(o *oidcauth.Options) { o.PostLogoutURL = "/bye" }},
		{"a logout pattern over hosts", "AllowedLogoutURLs", "https://", func(o *oidcauth.Options) {
			o.AllowedLogoutURLs = []string{"https://*"}
		}},
		{"an unknown strategy", "LogoutStrategy", "use one of", func(o *oidcauth.Options) { o.LogoutStrategy = "saml" }},
		{"no callback", "Routes.Callback", "no login would end", func(o *oidcauth.Options) { o.Routes.Callback = "-" }},
		{"two routes at one path", "Routes.Logout", "Routes.Login", func(o *oidcauth.Options) { o.Routes.Logout = "/auth/login" }},
		{"a route with a slash at its end", "Routes.Profile", "without a trailing slash", func(o *oidcauth.Options) { o.Routes.Profile = "/me/" }},
		{"a route without a slash", "Routes.Login", "absolute path", func(o *oidcauth.Options) { o.Routes.Login = "login" }},
		{"a route with a pattern", "Routes.LoggedOut", "plain absolute path", func(o *oidcauth.Options) { o.Routes.LoggedOut = "/{x}" }},
		{"no secret", "Secrets", "openssl rand -hex 32", func(o *oidcauth.Options) { o.Secrets = nil }},
		{"a short secret", "Secrets[0]", "openssl rand -hex 32", func(o *oidcauth.Options) { o.Secrets = []string{"short"} }},
		{"an empty second secret", "Secrets[1]", "openssl rand -hex 32", func(o *oidcauth.Options) { o.Secrets = []string{firstSecret, ""} }},
		{"a placeholder", "Secrets[0]", "random", func(o *oidcauth.Options) {
			o.Secrets = []string{"use [openssl rand -hex 32] to generate a 32 bytes value"}
		}},
		{"another placeholder", "Secrets[0]", "random", func(o *oidcauth.Options) {
			o.Secrets = []string{"a long, randomly-generated string stored in env"}
		}},
		{"a secret of one letter", "Secrets[0]", "random", func(o *oidcauth.Options) { o.Secrets = []string{strings.Repeat("a", 64)} }},
		{"a secret that repeats itself", "Secrets[0]", "random", func(o *oidcauth.Options) {
			o.Secrets = []string{strings.Repeat("x7Kp2mQ9", 5)}
		}},
		{"a secret listed twice", "Secrets[1]", "twice", func(o *oidcauth.Options) { o.Secrets = []string{firstSecret, firstSecret} }},
		{"a cookie name with a space", "Cookie.Name", "cannot have", func(o *oidcauth.Options) { o.Cookie.Name = "a b" }},
		{"a host cookie with a domain", "Cookie.Name", "__Secure-", func(o *oidcauth.Options) {
			o.Cookie.Name, o.Cookie.Domain = "__Host-s", "app.test"
		}},
		{"a secure cookie over http", "Cookie.Name", "plain http", func(o *oidcauth.Options) {
			o.InsecureAllowHTTP, o.BaseURL, o.Cookie.Name = true, "http://app.test", "__secure-s"
		}},
		{"a cookie for another domain", "Cookie.Domain", "parent of it", func(o *oidcauth.Options) { o.Cookie.Domain = "evil.test" }},
		{"a cookie for a top-level domain", "Cookie.Domain", "parent of it", func(o *oidcauth.Options) { o.Cookie.Domain = "test" }},
		{"a cookie domain with a dot", "Cookie.Domain", "leading dot", func(o *oidcauth.Options) { o.Cookie.Domain = ".app.test" }},
		{"a Strict cookie without a landing", "Cookie.SameSite", "Routes.Landing", func(o *oidcauth.Options) {
			o.Cookie.SameSite, o.Routes.Landing = http.SameSiteStrictMode, "-"
		}},
		{"plain http for the metadata", "DiscoveryURL", "use https", func(o *oidcauth.Options) {
			o.DiscoveryURL = "http://op.example.com/.well-known/openid-configuration"
		}},
		{"clocks too far apart", "ClockSkew", "NTP", func(o *oidcauth.Options) { o.ClockSkew = 6 * time.Minute }},
		{"clocks nearer than together", "ClockSkew", "NTP", func(o *oidcauth.Options) { o.ClockSkew = -time.Second }},
		{"a cookie for other sites", "Cookie.SameSite", "InsecureCrossSiteSession", func(o *oidcauth.Options) {
			o.Cookie.SameSite = http.SameSiteNoneMode
		}},
		{"a cookie for other sites over http", "Cookie.SameSite", "https", func(o *oidcauth.Options) {
			o.BaseURL, o.InsecureAllowHTTP, o.InsecureCrossSiteSession = "http://app.test", true, true
			o.Cookie.SameSite = http.SameSiteNoneMode
		}},
		{"a partitioned cookie over http", "Cookie.Partitioned", "https", func(o *oidcauth.Options) {
			o.BaseURL, o.InsecureAllowHTTP, o.Cookie.Partitioned = "http://app.test", true, true
		}},
		{"a session of a second", "AbsoluteTimeout", "at least a minute", func(o *oidcauth.Options) { o.AbsoluteTimeout = time.Second }},
		{"a session without an end", "AbsoluteTimeout", "at least a minute", func(o *oidcauth.Options) { o.AbsoluteTimeout = -1 }},
		{"an idle time in nanoseconds", "IdleTimeout", "negative means", func(o *oidcauth.Options) { o.IdleTimeout = 3600 }},
		{"a session codec that only signs", "SessionCodecs", "block key", func(o *oidcauth.Options) {
			o.SessionCodecs = []securecookie.Codec{signing}
		}},
		{"a login codec that only signs", "LoginCodecs", "block key", func(o *oidcauth.Options) { o.LoginCodecs = []securecookie.Codec{signing} }},
		{"a codec that ignores names", "SessionCodecs", "authenticate the name", func(o *oidcauth.Options) {
			o.SessionCodecs = []securecookie.Codec{looseCodec{sealing, "always"}}
		}},
		{"no codec in the list", "LoginCodecs", "remove it", func(o *oidcauth.Options) { o.LoginCodecs = []securecookie.Codec{nil} }},
	} {
		t.Run(tt.mistake, func(t *testing.T) {
			t.Parallel()
			o := rightOptions()
			tt.make(&o)
			client, err := oidcauth.New(o)
			mistakes := configErrors(err)
			if client != nil || len(mistakes) != 1 || mistakes[0].Field != tt.field {
				t.Fatalf("New returned %v with %q, want one mistake in %s", client, fieldsOf(err), tt.field)
			}
			if !strings.Contains(mistakes[0].Reason, tt.remedy) {
				t.Errorf("%q does not say %q", mistakes[0].Reason, tt.remedy)
			}
			if text := err.Error(); text != "oidcauth: "+tt.field+": "+mistakes[0].Reason {
				t.Errorf("the text is %q", text)
			}
			for _, secret := range append(o.Secrets, o.ClientSecret, "canary") {
				if len(secret) > 6 && strings.Contains(err.Error(), secret) {
					t.Errorf("the text repeats a secret: %v", err)
				}
			}
		})
	}
}

func TestOptionsThatAreRight(t *testing.T) {
	t.Parallel()
	sealing := securecookie.New([]byte(firstSecret), []byte(secondSecret)[:32])
	sealing.SetSerializer(securecookie.NopEncoder{})
	for name, edit := range map[string]func(*oidcauth.Options){
		"Auth0":                   func(o *oidcauth.Options) { o.Issuer, o.Domain = "", "tenant.eu.auth0.com" },
		"Auth0 named twice":       func(o *oidcauth.Options) { o.Issuer, o.Domain = "https://tenant.eu.auth0.com/", "tenant.eu.auth0.com" },
		"an issuer with a path":   func(o *oidcauth.Options) { o.Issuer = "https://op.test/realms/a" },
		"development":             func(o *oidcauth.Options) { o.Issuer, o.BaseURL = "http://127.0.0.1:4444/", "http://localhost:3000" },
		"development by IPv6":     func(o *oidcauth.Options) { o.BaseURL = "http://[::1]:3000" },
		"a real provider locally": func(o *oidcauth.Options) { o.BaseURL = "http://localhost:3000" },
		"a test network": func(o *oidcauth.Options) {
			o.InsecureAllowHTTP, o.Issuer, o.BaseURL = true, "http://op.lan:8080", "http://app.lan"
		},
		"a public client": func(o *oidcauth.Options) { o.ClientSecret, o.PublicClient = "", true },
		"a base path":     func(o *oidcauth.Options) { o.BaseURL = "https://app.test/app/" },
		"routes switched off": func(o *oidcauth.Options) {
			o.Routes = oidcauth.Routes{Login: "-", Logout: "-", LoggedOut: "-", Profile: "-"}
		},
		"no idle timeout": func(o *oidcauth.Options) { o.IdleTimeout = -1 },
		"a shared cookie": func(o *oidcauth.Options) { o.BaseURL, o.Cookie.Domain = "https://www.app.test", "app.test" },
		"a cookie for other sites": func(o *oidcauth.Options) {
			o.Cookie.SameSite, o.InsecureCrossSiteSession, o.Cookie.Partitioned = http.SameSiteNoneMode, true, true
		},
		"codecs of one's own": func(o *oidcauth.Options) { o.SessionCodecs = []securecookie.Codec{sealing} },
		"two secrets":         func(o *oidcauth.Options) { o.Secrets = []string{firstSecret, secondSecret} },
		"a style":             func(o *oidcauth.Options) { o.AuthStyle = oauth2.AuthStyleInParams },
	} {
		o := rightOptions()
		edit(&o)
		if _, err := oidcauth.New(o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type neverAsked struct{ t *testing.T }

func (n neverAsked) RoundTrip(r *http.Request) (*http.Response, error) {
	n.t.Errorf("New asked for %s", r.URL.Path)
	return nil, errors.New("not here")
}

func TestNewDoesNoIO(t *testing.T) {
	t.Parallel()
	o := rightOptions()
	o.HTTPClient = &http.Client{Transport: neverAsked{t}}
	client, err := oidcauth.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ask(client.Wrap(http.NotFoundHandler()), "GET", "/") // nor does a page
	ask(client.Handler(), "GET", "/auth/profile")
}

func TestNewCopiesWhatItIsGiven(t *testing.T) {
	t.Parallel()
	op := oidcauthtest.NewProvider(t)
	o := op.Options()
	o.Scopes = []string{"openid", "email"}
	o.AuthParams = map[string]string{"display": "page"}
	o.AllowedLoginParams = []string{"theme"}
	o.AllowedReturnOrigins = []string{"https://www.test"}
	o.TrustedOrigins = []string{"https://portal.test"}
	o.AllowedLogoutURLs = []string{"https://www.test/bye"}
	o.AllowedAudiences, o.AllowedScopes = []string{"urn:api"}, []string{"read"}
	o.IDTokenSigningAlgs = []string{"RS256"}
	client, err := oidcauth.New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]string{
		o.Secrets, o.Scopes, o.AllowedLoginParams, o.AllowedReturnOrigins, o.TrustedOrigins, o.AllowedLogoutURLs, o.AllowedAudiences,
		o.AllowedScopes, o.IDTokenSigningAlgs,
	} {
		list[0] = "https://evil.test/changed"
	}
	o.AuthParams["display"], o.AuthParams["added"] = "popup", "x"

	b := op.NewBrowser(client.Wrap(http.NotFoundHandler()))
	r := b.NoRedirects().Get("/auth/login?theme=dark&audience=urn:api&scope=read")
	target, _ := url.Parse(r.Location())
	q := target.Query()
	if q.Get("scope") != "openid email read" || q.Get("display") != "page" || q.Has("added") || q.Get("theme") != "dark" ||
		q.Get("resource") != "urn:api" {
		t.Errorf("the login asks for %q", q)
	}
	b.Host("https://www.test", http.NotFoundHandler())
	if end := b.Get("/auth/login?returnTo=https://www.test/a"); end.URL.String() != "https://www.test/a" {
		t.Errorf("the login ends at %s", end.URL)
	}
	out := b.From("https://portal.test").NoRedirects().Post("/auth/logout", url.Values{"returnTo": {"https://www.test/bye"}})
	if !strings.Contains(out.Location(), url.QueryEscape("https://www.test/bye")) {
		t.Errorf("the logout leads to %s", out.Location())
	}
}

func TestOptionsPrintNoSecret(t *testing.T) { // S46
	t.Parallel()
	o := rightOptions()
	o.ClientSecret = "canary-" + rand.Text()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		if text := fmt.Sprintf(verb, o); strings.Contains(text, o.ClientSecret) || strings.Contains(text, firstSecret) {
			t.Errorf("%s prints a secret: %s", verb, text)
		}
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("options", "options", o)
	if strings.Contains(log.String(), o.ClientSecret) || !strings.Contains(log.String(), "https://op.test/") {
		t.Errorf("the log has %s", &log)
	}
}

// cleanEnv removes every variable that OptionsFromEnv could see, for this test.
func cleanEnv(t *testing.T) {
	t.Helper()
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "OIDC_") || strings.HasPrefix(name, "AUTH0_") || name == "SESSION_SECRET" || name == "APP_BASE_URL" {
			t.Setenv(name, "") // so that it comes back
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestOptionsFromEnv(t *testing.T) { // behaviour.md 14, S45
	for _, tt := range []struct {
		name string
		env  map[string]string
		want func(*oidcauth.Options)
	}{
		{"nothing set", nil, func(*oidcauth.Options) {}},
		{"OIDC_ISSUER", map[string]string{"OIDC_ISSUER": "https://op.test/"}, func(o *oidcauth.Options) { o.Issuer = "https://op.test/" }},
		{"AUTH0_DOMAIN", map[string]string{"AUTH0_DOMAIN": "op.test"}, func(o *oidcauth.Options) { o.Domain = "op.test" }},
		{"OIDC_CLIENT_ID", map[string]string{"OIDC_CLIENT_ID": "a"}, func(o *oidcauth.Options) { o.ClientID = "a" }},
		{"AUTH0_CLIENT_ID", map[string]string{"AUTH0_CLIENT_ID": "a"}, func(o *oidcauth.Options) { o.ClientID = "a" }},
		{"both client ids alike", map[string]string{"OIDC_CLIENT_ID": "a", "AUTH0_CLIENT_ID": "a"}, func(o *oidcauth.Options) { o.ClientID = "a" }},
		{"OIDC_CLIENT_SECRET", map[string]string{"OIDC_CLIENT_SECRET": "a,b"}, func(o *oidcauth.Options) { o.ClientSecret = "a,b" }},
		{"AUTH0_CLIENT_SECRET", map[string]string{"AUTH0_CLIENT_SECRET": "s"}, func(o *oidcauth.Options) { o.ClientSecret = "s" }},
		{"SESSION_SECRET", map[string]string{"SESSION_SECRET": "a"}, func(o *oidcauth.Options) { o.Secrets = []string{"a"} }},
		{"AUTH0_SECRET", map[string]string{"AUTH0_SECRET": "a"}, func(o *oidcauth.Options) { o.Secrets = []string{"a"} }},
		{"several secrets", map[string]string{"SESSION_SECRET": "a, b,,c ,"}, func(o *oidcauth.Options) { o.Secrets = []string{"a", "b", "c"} }},
		{"APP_BASE_URL", map[string]string{"APP_BASE_URL": "https://app.test"}, func(o *oidcauth.Options) { o.BaseURL = "https://app.test" }},
		{"AUTH0_SCOPE", map[string]string{"AUTH0_SCOPE": " openid  email "}, func(o *oidcauth.Options) { o.Scopes = []string{"openid", "email"} }},
		{"AUTH0_AUDIENCE", map[string]string{"AUTH0_AUDIENCE": "urn:api"}, func(o *oidcauth.Options) { o.Audience = "urn:api" }},
		{"AUTH0_COOKIE_DOMAIN", map[string]string{"AUTH0_COOKIE_DOMAIN": "test"}, func(o *oidcauth.Options) { o.Cookie.Domain = "test" }},
		{"AUTH0_COOKIE_TRANSIENT", map[string]string{"AUTH0_COOKIE_TRANSIENT": "true"}, func(o *oidcauth.Options) { o.Cookie.Transient = true }},
		{"AUTH0_COOKIE_TRANSIENT=false", map[string]string{"AUTH0_COOKIE_TRANSIENT": "false"}, func(*oidcauth.Options) {}},
		{"AUTH0_COOKIE_SAME_SITE=lax", map[string]string{"AUTH0_COOKIE_SAME_SITE": "Lax"}, func(*oidcauth.Options) {}},
		{"AUTH0_COOKIE_SAME_SITE=strict", map[string]string{"AUTH0_COOKIE_SAME_SITE": "strict"}, func(o *oidcauth.Options) {
			o.Cookie.SameSite = http.SameSiteStrictMode
		}},
		{"AUTH0_COOKIE_SECURE=true", map[string]string{"AUTH0_COOKIE_SECURE": "true", "APP_BASE_URL": "https://app.test"}, func(o *oidcauth.Options) {
			o.BaseURL = "https://app.test"
		}},
		{"AUTH0_COOKIE_SECURE=false in development", map[string]string{"AUTH0_COOKIE_SECURE": "false", "APP_BASE_URL": "http://localhost"}, func(o *oidcauth.Options) {
			o.BaseURL = "http://localhost"
		}},
		{"one provider named twice", map[string]string{"OIDC_ISSUER": "https://op.test/", "AUTH0_DOMAIN": "op.test"}, func(o *oidcauth.Options) {
			o.Issuer, o.Domain = "https://op.test/", "op.test"
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cleanEnv(t)
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			got, err := oidcauth.OptionsFromEnv()
			if err != nil {
				t.Fatal(err)
			}
			want := oidcauth.Options{}
			tt.want(&want)
			if allOf(got) != allOf(want) {
				t.Errorf("got  %s\nwant %s", allOf(got), allOf(want))
			}
		})
	}
}

// allOf is what the environment can set, as text.
func allOf(o oidcauth.Options) string {
	return fmt.Sprintf("%q", []any{
		o.Issuer, o.Domain, o.ClientID, o.ClientSecret, o.BaseURL, o.Secrets, o.Scopes, o.Audience, o.Cookie.Domain, o.Cookie.Name,
		fmt.Sprint(
			o.Cookie.Transient, o.Cookie.SameSite, o.PublicClient, o.InsecureAllowHTTP, o.InsecureCrossSiteSession,
			o.InsecureDisableCSRFProtection,
		),
	})
}

func TestEnvironmentsThatAreRefused(t *testing.T) { // S45
	for _, tt := range []struct {
		name string
		env  map[string]string
		says string
	}{
		{"two providers", map[string]string{"OIDC_ISSUER": "https://op.test/", "AUTH0_DOMAIN": "other.test"}, "OIDC_ISSUER and AUTH0_DOMAIN"},
		{"two client ids", map[string]string{"OIDC_CLIENT_ID": "a", "AUTH0_CLIENT_ID": "b"}, "OIDC_CLIENT_ID and AUTH0_CLIENT_ID"},
		{"two client secrets", map[string]string{"OIDC_CLIENT_SECRET": "canary1", "AUTH0_CLIENT_SECRET": "canary2"}, "OIDC_CLIENT_SECRET and AUTH0_CLIENT_SECRET"},
		{"two session secrets", map[string]string{"SESSION_SECRET": "canary1", "AUTH0_SECRET": "canary2"}, "SESSION_SECRET and AUTH0_SECRET"},
		{"a cookie for other sites", map[string]string{"AUTH0_COOKIE_SAME_SITE": "none"}, "AUTH0_COOKIE_SAME_SITE"},
		{"a SameSite that is none", map[string]string{"AUTH0_COOKIE_SAME_SITE": "laxx"}, "AUTH0_COOKIE_SAME_SITE"},
		{"an insecure cookie", map[string]string{"AUTH0_COOKIE_SECURE": "false", "APP_BASE_URL": "https://app.test"}, "AUTH0_COOKIE_SECURE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cleanEnv(t)
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			_, err := oidcauth.OptionsFromEnv()
			if len(configErrors(err)) != 1 || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "canary") {
				t.Errorf("the error is %v, want one about %s, without values", err, tt.says)
			}
		})
	}
}

func TestAnEnvironmentCannotAllowHTTP(t *testing.T) { // S45
	cleanEnv(t)
	for name, value := range map[string]string{
		"OIDC_ISSUER": "http://op.test/", "OIDC_CLIENT_ID": "a", "OIDC_CLIENT_SECRET": "s", "SESSION_SECRET": firstSecret,
		"APP_BASE_URL": "http://app.test", "OIDC_INSECURE_ALLOW_HTTP": "true",
	} {
		t.Setenv(name, value)
	}
	o, err := oidcauth.OptionsFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := oidcauth.New(o); !slices.Equal(fieldsOf(err), []string{"BaseURL", "Issuer"}) {
		t.Errorf("the mistakes are in %q", fieldsOf(err))
	}
}

func TestVariablesThatNobodyReadsAreLoggedByName(t *testing.T) { // S45
	cleanEnv(t)
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	for name, value := range map[string]string{
		"OIDC_CLIENTID": "canary", "AUTH0_ISSUER_BASE_URL": "canary", "OIDC_CLIENT_ID": "canary", "OTHER_VARIABLE": "canary",
	} {
		t.Setenv(name, value)
	}
	if _, err := oidcauth.OptionsFromEnv(); err != nil {
		t.Fatal(err)
	}
	text := log.String()
	for name, want := range map[string]int{"OIDC_CLIENTID": 1, "AUTH0_ISSUER_BASE_URL": 1, "OIDC_CLIENT_ID": 0, "OTHER_VARIABLE": 0, "canary": 0} {
		if got := strings.Count(text, name); got != want {
			t.Errorf("%s is in the log %d times, want %d:\n%s", name, got, want, text)
		}
	}
}
