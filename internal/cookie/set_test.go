package cookie_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/securecookie"

	"github.com/oidcauth/oidcauth/internal/cookie"
)

func setOptions() cookie.SetOptions {
	return cookie.SetOptions{
		Session:   cookie.Attributes{Secure: true, SameSite: http.SameSiteLaxMode},
		Issuer:    "https://issuer.example/",
		ClientID:  "client",
		BaseURL:   "https://app.example.com",
		Secrets:   []string{testSecret},
		LoginTTL:  10 * time.Minute,
		LogoutTTL: 5 * time.Minute,
	}
}

// lines returns what a set writes for a session, a login and a logout.
func lines(t *testing.T, s cookie.Set) (session, login, logout string) {
	t.Helper()
	resp := http.Header{}
	if err := s.Sessions.Write(resp, nil, newSession(t, s.Sessions, reference.identity(), &cookie.Tokens{}), 60); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*cookie.Pending{s.Logins, s.Logouts} {
		if err := p.Set(resp, nil, "state", []byte("payload")); err != nil {
			t.Fatal(err)
		}
	}
	l := resp["Set-Cookie"]
	if len(l) != 3 {
		t.Fatalf("got %q", l)
	}
	return l[0], l[1], l[2]
}

// S19, S43, CKE-01: only the session's cookie may have a Domain, and then it cannot have the prefix __Host-.
func TestCookiesOfASet(t *testing.T) {
	t.Parallel()
	const tail, secure = `; HttpOnly; SameSite=Lax`, `; HttpOnly; Secure; SameSite=Lax`
	for name, tt := range map[string]struct {
		change                 func(*cookie.SetOptions)
		session, login, logout string // names, attributes behind the age
		domain, attributes     string
	}{
		"https": {
			func(*cookie.SetOptions) {},
			"__Host-session", "__Host-login", "__Host-logout", "", secure,
		},
		"http": {
			func(o *cookie.SetOptions) { o.Session.Secure = false },
			"session", "login", "logout", "", tail,
		},
		"with a domain": {
			func(o *cookie.SetOptions) { o.Session.Domain = "example.com" },
			"__Secure-session", "__Host-login", "__Host-logout", "; Domain=example.com", secure,
		},
		"http with a domain": {
			func(o *cookie.SetOptions) { o.Session.Secure, o.Session.Domain = false, "example.com" },
			"session", "login", "logout", "; Domain=example.com", tail,
		},
		"below a path": {
			func(o *cookie.SetOptions) { o.BasePath = "/app" },
			"__Host-session-app", "__Host-login-app", "__Host-logout-app", "", secure,
		},
		"a name of the user's": {
			func(o *cookie.SetOptions) { o.Session.Name = "sid" },
			"sid", "__Host-login", "__Host-logout", "", secure,
		},
	} {
		o := setOptions()
		tt.change(&o)
		session, login, logout := lines(t, cookie.NewSet(o))
		for line, want := range map[string]string{
			session: `^` + tt.session + `=[\w.-]+; Path=/` + tt.domain + `; Max-Age=60` + tt.attributes + `$`,
			login:   `^` + tt.login + `-[\w-]{28}=[\w=-]+; Path=/; Max-Age=600` + tt.attributes + `$`,
			logout:  `^` + tt.logout + `-[\w-]{28}=[\w=-]+; Path=/; Max-Age=300` + tt.attributes + `$`,
		} {
			if !regexp.MustCompile(want).MatchString(line) {
				t.Errorf("%s:\n got %s\nwant %s", name, line, want)
			}
		}
	}
}

// S11: applications that share a secret and a host do not take each other's cookies, whatever they are called.
func TestASiblingsCookiesDoNotOpen(t *testing.T) {
	t.Parallel()
	here := cookie.NewSet(setOptions())
	session, login, logout := lines(t, here)
	for name, tt := range map[string]struct {
		change func(*cookie.SetOptions)
		want   bool
	}{
		"the same":         {func(*cookie.SetOptions) {}, true},
		"another base URL": {func(o *cookie.SetOptions) { o.BaseURL = "https://app.example.com/b" }, false},
		"another issuer":   {func(o *cookie.SetOptions) { o.Issuer = "https://other.example/" }, false},
		"another client":   {func(o *cookie.SetOptions) { o.ClientID = "clients" }, false},
		"another secret":   {func(o *cookie.SetOptions) { o.Secrets = []string{oldSecret} }, false},
		"codecs given": {func(o *cookie.SetOptions) {
			o.SessionCodecs = []securecookie.Codec{securecookie.New([]byte(oldSecret), []byte(oldSecret)[:32])}
			o.LoginCodecs = o.SessionCodecs
		}, false},
	} {
		o := setOptions()
		tt.change(&o)
		there := cookie.NewSet(o)
		if got := loads(there.Sessions, cookieOf(value(session))); got != tt.want {
			t.Errorf("%s: session opens: %v", name, got)
		}
		if got := opensAs(there.Logins, value(login)); got != tt.want {
			t.Errorf("%s: login opens: %v", name, got)
		}
		// Logouts have no codec of the user's.
		if got := opensAs(there.Logouts, value(logout)); got != (tt.want || name == "codecs given") {
			t.Errorf("%s: logout opens: %v", name, got)
		}
	}
	if opensAs(here.Logouts, value(login)) || opensAs(here.Logins, value(logout)) {
		t.Error("a login opens as a logout or a logout as a login")
	}
}

// value returns the value in a Set-Cookie line.
func value(line string) string {
	pair, _, _ := strings.Cut(line, ";")
	_, value, _ := strings.Cut(pair, "=")
	return value
}

// opensAs reports whether a value opens under the name that p expects.
func opensAs(p *cookie.Pending, value string) bool {
	return holds(p, jar{p.CookieName("state"): value}, "state", "payload")
}
