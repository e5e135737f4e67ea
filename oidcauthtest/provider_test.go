package oidcauthtest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// The provider knows the client as its options were edited: each of these signs in, and out.
func TestTheProviderFollowsTheOptions(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*oidcauth.Options){
		"defaults":                func(*oidcauth.Options) {},
		"issuer without slash":    func(o *oidcauth.Options) { o.Issuer = "https://id.example" },
		"issuer with a path":      func(o *oidcauth.Options) { o.Issuer = "https://op.test/test/a/alias/" }, // A0
		"domain":                  func(o *oidcauth.Options) { o.Issuer, o.Domain = "", "tenant.auth.test" },
		"other client":            func(o *oidcauth.Options) { o.ClientID, o.ClientSecret = "a b", "s:e+c r%" },
		"public client":           func(o *oidcauth.Options) { o.ClientSecret, o.PublicClient = "", true },
		"secret in the form":      func(o *oidcauth.Options) { o.AuthStyle = oauth2.AuthStyleInParams },
		"other base URL":          func(o *oidcauth.Options) { o.BaseURL = "https://shop.test" },
		"base URL with a path":    func(o *oidcauth.Options) { o.BaseURL = "https://app.test/shop" },
		"other callback":          func(o *oidcauth.Options) { o.Routes.Callback = "/done" },
		"other post-logout URL":   func(o *oidcauth.Options) { o.PostLogoutURL = "https://app.test/auth/profile" },
		"ES256":                   func(o *oidcauth.Options) { o.IDTokenSigningAlgs = []string{"ES256"} },
		"EdDSA":                   func(o *oidcauth.Options) { o.IDTokenSigningAlgs = []string{"EdDSA"} },
		"HS256":                   func(o *oidcauth.Options) { o.IDTokenSigningAlgs = []string{"HS256"} },
		"PS256":                   func(o *oidcauth.Options) { o.IDTokenSigningAlgs = []string{"PS256"} },
		"RS512 (another at_hash)": func(o *oidcauth.Options) { o.IDTokenSigningAlgs = []string{"RS512"} },
	}
	for name, edit := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, provider := oidcauthtest.NewClient(t, quiet, withUserInfo, edit)
			b := provider.NewBrowser(client.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
			b.SignIn(oidcauthtest.Alice)
			got := b.SignOut()
			want := provider.Options().PostLogoutURL
			if want == "" {
				want = provider.Options().BaseURL
			}
			if !strings.HasPrefix(got.URL.String(), want) || provider.Count("end_session") != 1 {
				t.Errorf("signed out at %s after %d requests to end the session, want %s after 1", got.URL,
					provider.Count("end_session"), want)
			}
		})
	}
}

func TestTheOptionsStayTheSame(t *testing.T) {
	t.Parallel()
	p := oidcauthtest.NewProvider(t)
	first := p.Options()
	secret := first.Secrets[0]
	first.Secrets[0] = "changed"
	if second := p.Options(); second.Secrets[0] != secret || second.ClientSecret != first.ClientSecret {
		t.Error("the options of the second call differ from those of the first")
	}
	if other := oidcauthtest.NewProvider(t).Options(); other.Secrets[0] == secret ||
		other.ClientSecret == first.ClientSecret {
		t.Error("two providers have the same secrets")
	}
}

// A1, RP-Initiated Logout: the hint was issued in this run, and the URL is registered.
func TestTheLogoutIsChecked(t *testing.T) {
	t.Parallel()
	const page, pattern = "https://www.app.test/bye", "https://www.app.test/*"
	edit := func(o *oidcauth.Options) { o.AllowedLogoutURLs = []string{page, pattern} }
	client, provider := oidcauthtest.NewClient(t, quiet, edit)
	b := provider.NewBrowser(client.Handler()).NoRedirects()
	for query, want := range map[string]int{
		"":                                  http.StatusOK,
		"&id_token_hint=a.b.c":              http.StatusBadRequest,
		"&post_logout_redirect_uri=" + page: http.StatusFound,
		"&post_logout_redirect_uri=" + page + "/2":   http.StatusBadRequest,
		"&post_logout_redirect_uri=" + pattern:       http.StatusBadRequest,
		"&post_logout_redirect_uri=https://app.test": http.StatusFound,
	} {
		if got := b.Get("https://op.test/end_session?client_id=test-client" + query); got.StatusCode != want {
			t.Errorf("%s: status %d, want %d", query, got.StatusCode, want)
		}
	}
	provider.Register([]string{"https://app.test/other"}, []string{page + "/2"})
	got := b.Get("https://op.test/end_session?client_id=test-client&post_logout_redirect_uri=" + page + "/2")
	if got.StatusCode != http.StatusFound {
		t.Errorf("after it was registered: status %d", got.StatusCode)
	}
}

func TestTheHTTPClientReachesNobodyElse(t *testing.T) {
	t.Parallel()
	client := oidcauthtest.NewProvider(t).HTTPClient()
	for url, want := range map[string]bool{
		"https://op.test/jwks": true, "https://op.test:8443/jwks": false, "https://app.test/": false,
		"https://x.op.test/jwks": false,
	} {
		resp, err := client.Get(url)
		if err == nil {
			resp.Body.Close()
		}
		if (err == nil) != want {
			t.Errorf("%s: error %v, want an answer: %v", url, err, want)
		}
	}
}

// What is misspelled would count nothing, change nothing, and let a test pass.
func TestMisspelledNamesStopTheTest(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(*oidcauthtest.Provider){
		"Misbehave": func(p *oidcauthtest.Provider) { p.Misbehave("invalid_iss") },
		"Fail":      func(p *oidcauthtest.Provider) { p.Fail("/token", 500, "", 1) },
		"FailWith":  func(p *oidcauthtest.Provider) { p.FailWith("tokens", 500, nil, 1) },
		"FailAfter": func(p *oidcauthtest.Provider) { p.FailAfter("tokens", 500, 1) },
		"Hold":      func(p *oidcauthtest.Provider) { p.Hold("tokens") },
		"Delay":     func(p *oidcauthtest.Provider) { p.Delay("tokens", time.Second) },
		"Count":     func(p *oidcauthtest.Provider) { p.Count("logout") },
		"Requests":  func(p *oidcauthtest.Provider) { p.Requests("token", "user_info") },
	} {
		f := &failures{TB: t}
		p := oidcauthtest.NewProvider(f)
		if !stopped(func() { do(p) }) {
			t.Errorf("%s goes on with a name that does not exist", name)
		}
	}
}

func TestEditsAddUp(t *testing.T) {
	t.Parallel()
	var seen []string
	client, provider := oidcauthtest.NewClient(t, quiet)
	provider.Misbehave("invalid-iss")
	provider.EditIDToken(func(c map[string]any) {
		seen = append(seen, fmt.Sprint(c["iss"]))
		c["iss"] = "https://op.test/"
	})
	provider.EditIDToken(func(c map[string]any) { seen = append(seen, fmt.Sprint(c["iss"])) })
	provider.EditTokenResponse(func(r map[string]any) { r["a"] = 1 })
	provider.EditTokenResponse(func(r map[string]any) { seen = append(seen, fmt.Sprint("a is ", r["a"])) })
	provider.EditMetadata(func(m map[string]any) { m["a"] = 1 })
	provider.EditMetadata(func(m map[string]any) { seen = append(seen, fmt.Sprint("a is ", m["a"])) })
	provider.NewBrowser(client.Handler()).SignIn(oidcauthtest.Alice) // the second edit mends what the first broke
	if want := []string{"a is 1", "https://op.test/1", "https://op.test/", "a is 1"}; !slices.Equal(seen, want) {
		t.Errorf("seen %q, want %q", seen, want)
	}
}

func TestEveryNameChangesSomething(t *testing.T) {
	t.Parallel()
	for _, name := range slices.Concat(oidcauthtest.Misbehaviours(), oidcauthtest.RightfulBehaviours()) {
		p := oidcauthtest.NewProvider(t)
		p.Misbehave(name)
		p.Change(func(k *oidcauthtest.Knobs) {
			if reflect.ValueOf(*k).IsZero() {
				t.Errorf("%s changes nothing", name)
			}
		})
	}
}

// A1, refresh token plan. The login is right, only what the refresh brings is not.
func TestMisbehaviourOfARefresh(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][2]string{
		"refresh-token-invalid-issuer": {"https://op.test/1", "alice"},
		"refresh-token-invalid-sub":    {"https://op.test/", "alice1"},
	} {
		var tokens map[string]any
		client, provider := oidcauthtest.NewClient(t, quiet)
		provider.Misbehave(name)
		provider.EditTokenResponse(func(r map[string]any) { tokens = r })
		provider.NewBrowser(client.Handler()).SignIn(oidcauthtest.Alice)
		o := provider.Options()
		config := oauth2.Config{
			ClientID: o.ClientID, ClientSecret: o.ClientSecret,
			Endpoint: oauth2.Endpoint{TokenURL: "https://op.test/token", AuthStyle: oauth2.AuthStyleInHeader},
		}
		ctx := context.WithValue(t.Context(), oauth2.HTTPClient, provider.HTTPClient())
		if _, err := config.TokenSource(ctx,
			&oauth2.Token{RefreshToken: tokens["refresh_token"].(string)}).Token(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var claims struct{ Iss, Sub string }
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(tokens["id_token"].(string), ".")[1])
		if err == nil {
			err = json.Unmarshal(payload, &claims)
		}
		if got := [2]string{claims.Iss, claims.Sub}; err != nil || got != want {
			t.Errorf("%s: iss and sub are %q, want %q; %v", name, got, want, err)
		}
	}
}

func TestChangeUndoesEverything(t *testing.T) {
	t.Parallel()
	client, provider := oidcauthtest.NewClient(t, quiet)
	provider.Misbehave("missing-sub")
	provider.Misbehave("invalid-state")
	provider.Change(func(k *oidcauthtest.Knobs) { *k = oidcauthtest.Knobs{} })
	provider.NewBrowser(client.Handler()).SignIn(oidcauthtest.Alice)
}

func TestNobodySignsIn(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]int{"/auth/login": 400, "/auth/login?prompt=none": 400} {
		client, provider := oidcauthtest.NewClient(t, quiet)
		provider.SetUser(oidcauthtest.User{})
		b := provider.NewBrowser(client.Handler())
		if got := b.Get(target); slices.ContainsFunc(b.Cookies("/"), isSession) || got.StatusCode != want {
			t.Errorf("%s: status %d, want %d", target, got.StatusCode, want)
		}
	}
}

func TestUserClaimsDoNotReplaceTheProtocols(t *testing.T) {
	t.Parallel()
	client, provider := oidcauthtest.NewClient(t, quiet)
	claims := map[string]any{"iss": "https://evil.test/", "aud": "x", "exp": 1, "email": "b@example.com"}
	r := provider.SignedIn(client, http.MethodGet, "/", oidcauthtest.User{Subject: "bob", Claims: claims})
	s, err := client.GetSession(r)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Sub, Email string }
	if err := s.Claims(&got); err != nil || got.Sub != "bob" || got.Email != "b@example.com" {
		t.Errorf("claims %+v, %v", got, err)
	}
	if len(claims) != 4 || claims["exp"] != 1 {
		t.Errorf("the test's own map became %v", claims)
	}
}

func TestTheLogTellsWhatWasAsked(t *testing.T) {
	t.Parallel()
	client, provider := oidcauthtest.NewClient(t, quiet)
	provider.NewBrowser(client.Handler()).SignIn(oidcauthtest.Alice)
	var names []string
	for _, r := range provider.Requests() {
		names = append(names, r.Method+" "+r.Endpoint)
	}
	if want := []string{"GET discovery", "GET authorize", "POST token", "GET jwks"}; !slices.Equal(names, want) {
		t.Errorf("requests %q, want %q", names, want)
	}
	if got := provider.Requests("token", "jwks"); len(got) != 2 || got[0].Form.Get("grant_type") != "authorization_code" {
		t.Errorf("requests to token and jwks: %v", got)
	}
}

func TestFailuresComeInTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := oidcauthtest.NewProvider(t)
		status := func() int {
			resp, err := p.HTTPClient().Get("https://op.test/jwks")
			if err != nil {
				return 0
			}
			resp.Body.Close()
			return resp.StatusCode
		}
		p.Fail("jwks", 503, "", 2)
		p.Fail("jwks", 0, "", 1) // no answer
		p.Fail("jwks", 500, "", -1)
		var got []int
		for range 6 {
			got = append(got, status())
		}
		p.Fail("jwks", 0, "", 0)
		got = append(got, status())
		if want := []int{503, 503, 0, 500, 500, 500, 200}; !slices.Equal(got, want) {
			t.Errorf("statuses %v, want %v", got, want)
		}
		p.Delay("jwks", time.Hour)
		start := time.Now()
		if got, took := status(), time.Since(start); got != 200 || took != time.Hour {
			t.Errorf("a slow endpoint: status %d after %v, want 200 after 1h", got, took)
		}
	})
}

// exampleTB stands for the test that an example is not.
type exampleTB struct{ testing.TB }

func (exampleTB) Helper()                      {}
func (exampleTB) Context() context.Context     { return context.Background() }
func (exampleTB) Logf(string, ...any)          {}
func (exampleTB) Errorf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }
func (exampleTB) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }
