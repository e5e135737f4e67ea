package devprovider_test

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/oidcauthtest/devprovider"
)

func TestSignIn(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, listen(t, devprovider.Options{}))
	wantForm(t, b.authorize(), "Ada Lovelace", "grace@example.com", "/avatar/alan", "Cancel", "<code>password</code>")

	for user, password := range map[string]string{"ada": "wrong", "grace": "", "nobody": "password", "": "password"} {
		got := b.signIn(user, password)
		wantForm(t, got, `role="alert"`, "password&#34;")
		if got.status != http.StatusUnprocessableEntity || got.header.Get("Set-Cookie") != "" {
			t.Errorf("user %q with %q: status %d, cookie %q", user, password, got.status, got.header.Get("Set-Cookie"))
		}
	}
	wantCallback(t, b.authorize("prompt", "none"), "login_required")
	got := b.signIn("grace", "password")
	wantCallback(t, got, "")
	if got.status != http.StatusSeeOther { // RFC 9700 4.12: the password is not sent on to the application
		t.Errorf("status %d", got.status)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, listen(t, devprovider.Options{}))
	wantCallback(t, b.post(authorize(), form{"do": "cancel", "user": "ada", "password": "password"}), "access_denied")
	wantCallback(t, b.authorize("prompt", "none"), "login_required")
}

// OpenID Connect Core 3.1.2.1
func TestSingleSignOn(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, listen(t, devprovider.Options{}))
	wantCallback(t, b.authorize("prompt", "none"), "login_required")
	wantCallback(t, b.signIn("ada", "password"), "")

	wantCallback(t, b.authorize(), "")
	wantCallback(t, b.authorize("prompt", "none"), "")
	wantCallback(t, b.authorize("max_age", "3600"), "")
	wantCallback(t, b.authorize("prompt", "none", "max_age", "0"), "login_required")
	wantForm(t, b.authorize("prompt", "login"), "Who are you?")
	wantForm(t, b.authorize("prompt", "select_account"), "Who are you?")
	wantForm(t, b.authorize("max_age", "0"), "Who are you?")
	wantForm(t, b.authorize("screen_hint", "signup"), "Sign up")
	again := form{"do": "signin", "user": "grace", "password": "password"}
	wantCallback(t, b.post(authorize("prompt", "login"), again), "")

	other := newBrowser(t, listen(t, devprovider.Options{}))
	wantCallback(t, other.authorize("prompt", "none"), "login_required")
}

func TestFormStartsWithTheUserThatIsMeant(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, listen(t, devprovider.Options{}))
	selected := func(p page) string {
		m := regexp.MustCompile(`value="([a-z]+)" required checked`).FindAllStringSubmatch(p.body, -1)
		if len(m) != 1 {
			t.Fatalf("%d users are selected:\n%s", len(m), p.body)
		}
		return m[0][1]
	}
	if got := selected(b.authorize()); got != "ada" {
		t.Errorf("selected %q at first", got)
	}
	if got := selected(b.authorize("login_hint", "Grace@example.com")); got != "grace" {
		t.Errorf("selected %q by login_hint", got)
	}
	if got := selected(b.signIn("alan", "wrong")); got != "alan" {
		t.Errorf("selected %q after a wrong password", got)
	}
	wantCallback(t, b.signIn("alan", "password"), "")
	if got := selected(b.authorize("prompt", "login")); got != "alan" {
		t.Errorf("selected %q when alan is signed in", got)
	}
}

func TestSignUp(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, listen(t, devprovider.Options{}))
	target := authorize("screen_hint", "signup")
	wantForm(t, b.get(target), "Name", "E-mail", "Cancel")
	wantCallback(t, b.post(target, form{"do": "cancel"}), "access_denied")

	for name, f := range map[string]form{
		"without a name":        {"do": "signup", "email": "mary@example.com"},
		"without an address":    {"do": "signup", "name": "Mary"},
		"with a wrong address":  {"do": "signup", "name": "Mary", "email": "example.com"},
		"with a long name":      {"do": "signup", "name": strings.Repeat("x", 101), "email": "mary@example.com"},
		"with a user's address": {"do": "signup", "name": "Mary", "email": "ADA@example.com"},
	} {
		if got := b.post(target, f); got.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: status %d", name, got.status)
		}
	}
	mary := form{"do": "signup", "name": `Mary <b onclick="x">Shelley`, "email": "mary@example.com"}
	wantCallback(t, b.post(target, mary), "")
	wantCallback(t, b.authorize("prompt", "none"), "")
	list := b.authorize("prompt", "login")
	wantForm(t, list, "mary@example.com", "Mary &lt;b onclick=")
	if strings.Contains(list.body, "<b onclick") {
		t.Error("a name is markup")
	}
}

func TestOwnUsers(t *testing.T) {
	t.Parallel()
	users := []devprovider.User{{Subject: "1", Name: "One", Email: "one@example.com"}, {Email: "two@example.com"}}
	b := newBrowser(t, listen(t, devprovider.Options{Users: users}))
	got := b.authorize()
	wantForm(t, got, "One", "two@example.com")
	if strings.Contains(got.body, "Ada") {
		t.Error("the demo users are there too")
	}
	for name, users := range map[string][]devprovider.User{
		"one address twice": {{Email: "one@example.com"}, {Email: "One@example.com"}},
		"one subject twice": {{Subject: "1", Email: "one@example.com"}, {Subject: "1", Email: "two@example.com"}},
		"no address":        {{Subject: "1", Name: "One"}},
	} {
		if p, err := devprovider.Listen(devprovider.Options{BaseURL: app, Users: users}); err == nil {
			p.Close()
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestRefusesOtherRedirectURIs(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, listen(t, devprovider.Options{RedirectURIs: []string{app + "/other"}}))
	right := form{"do": "signin", "user": "ada", "password": "password"}.values()
	for _, uri := range []string{
		"https://evil.example/", app + "/", app + "/auth/callback/x", "http://localhost:3000/auth/callback", "",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			req := b.request(method, authorize("redirect_uri", uri), right)
			if got := b.do(req); got.status != http.StatusBadRequest || got.location != nil {
				t.Errorf("%s %q: status %d, redirect to %v", method, uri, got.status, got.location)
			}
		}
	}
	wantForm(t, b.authorize("redirect_uri", app+"/other"), "Who are you?")
}

func TestEndSession(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, listen(t, devprovider.Options{PostLogoutURLs: []string{app + "/bye"}}))
	end := func(more ...string) string {
		q := form{"client_id": "development", "post_logout_redirect_uri": app, "state": "s"}
		for pair := range slices.Chunk(more, 2) {
			q[pair[0]] = pair[1]
		}
		return "/end_session?" + q.values().Encode()
	}
	wantCallback(t, b.signIn("ada", "password"), "")

	// Anybody can make a link without an ID token, so that the user is asked.
	wantForm(t, b.get(end()), "Sign out?", `method="post"`)
	wantCallback(t, b.authorize("prompt", "none"), "")
	if got := b.post(end(), form{}); got.location == nil || got.location.String() != app+"?state=s" {
		t.Errorf("after the question: status %d, redirect to %v", got.status, got.location)
	}
	wantCallback(t, b.authorize("prompt", "none"), "login_required")

	wantCallback(t, b.signIn("ada", "password"), "")
	got := b.get(end("id_token_hint", "a.b.c", "post_logout_redirect_uri", app+"/bye"))
	if got.location == nil || got.location.String() != app+"/bye?state=s" {
		t.Errorf("with a hint: status %d, redirect to %v", got.status, got.location)
	}
	wantCallback(t, b.authorize("prompt", "none"), "login_required")

	got = b.get(end("id_token_hint", "a.b.c", "post_logout_redirect_uri", "https://evil.example/"))
	if got.location != nil || got.status != http.StatusBadRequest {
		t.Errorf("a redirect to %v", got.location)
	}
	wantForm(t, b.get("/end_session"), "Signed out")
}

// Cross-site request forgery: another site's form signs nobody in or out.
func TestRefusesFormsOfOtherSites(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, listen(t, devprovider.Options{}))
	for _, header := range []http.Header{
		{"Sec-Fetch-Site": {"cross-site"}}, {"Sec-Fetch-Site": {"same-site"}}, {"Origin": {app}}, {"Origin": {"null"}},
	} {
		for _, path := range []string{authorize(), "/end_session"} {
			req := b.request(http.MethodPost, path, form{"do": "signin", "user": "ada", "password": "password"}.values())
			maps.Copy(req.Header, header)
			if got := b.do(req); got.status != http.StatusForbidden {
				t.Errorf("%v %s: status %d", header, path, got.status)
			}
		}
	}
	wantCallback(t, b.authorize("prompt", "none"), "login_required")
}

func TestPagesLoadNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, listen(t, devprovider.Options{}))
	elsewhere := regexp.MustCompile(`<script|(src|href)="(https?:|//)`)
	for _, p := range []page{
		b.get("/"), b.authorize(), b.authorize("screen_hint", "signup"), b.signIn("ada", "wrong"), b.get("/end_session"),
	} {
		policy := p.header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'self' " + app + ";"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%q is not in the policy %q", want, policy)
			}
		}
		if got := p.header.Get("Cache-Control"); got != "no-store" || elsewhere.MatchString(p.body) {
			t.Errorf("Cache-Control %q, or a script or something from elsewhere on the page:\n%s", got, p.body)
		}
	}
	style := b.get("/style.css")
	if kind := style.header.Get("Content-Type"); style.status != http.StatusOK || kind != "text/css; charset=utf-8" {
		t.Errorf("style sheet: status %d, %s", style.status, kind)
	}
	if got := b.get("/pages.html"); got.status != http.StatusNotFound {
		t.Errorf("the templates are served: status %d", got.status)
	}
}

func TestAvatars(t *testing.T) {
	t.Parallel()
	users := []devprovider.User{
		{Subject: "two", Name: "Ada King Lovelace", Email: "a"},
		{Subject: "one", Name: "émile", Email: "b"},
		{Subject: "a/b c", Name: "<b> &", Email: "c"},
		{Subject: "none", Name: " ", Email: "日本"},
	}
	b := newBrowser(t, listen(t, devprovider.Options{Users: users}))
	for subject, want := range map[string]string{"two": ">AL<", "one": ">É<", "a%2Fb%20c": ">&lt;&amp;<", "none": ">日<"} {
		got := b.get("/avatar/" + subject)
		if kind := got.header.Get("Content-Type"); kind != "image/svg+xml" || !strings.Contains(got.body, want) {
			t.Errorf("%s: status %d, %s, %s", subject, got.status, kind, got.body)
		}
	}
	if got := b.get("/avatar/nobody"); got.status != http.StatusNotFound {
		t.Errorf("nobody: status %d", got.status)
	}
}
