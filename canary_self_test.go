package oidcauth_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"text/template"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// planted is a secret as long as a state.
const planted = "Kx7-pQ2_vT9zLw4bRm8sNd3f+Y"

func TestThePlantedCanaryIsFound(t *testing.T) { // HYG-05, S46
	t.Parallel()
	odd := `a "rotating token" & 100% <odd>`
	type holder struct{ code string }
	payload, signature := "eyJzdWIiOiJhbGljZSJ9", "c2lnbmF0dXJlLXNpZ25hdHVyZS1zaWduYXR1cmU"
	jwt := "eyJhbGciOiJSUzI1NiJ9." + payload + "." + signature
	logged := func(secret string, in func(io.Writer) slog.Handler) string {
		var b strings.Builder
		slog.New(in(&b)).Warn("refused", "cause", secret)
		return b.String()
	}
	text := func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) }
	inJSON := func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) }
	for name, tt := range map[string]struct {
		kind, secret string
		print        func(c *canaryWatch)
	}{
		"in a line of a log":      {"state", planted, printing(logged(planted, text))},
		"in a line of a JSON log": {"refresh token", odd, printing(logged(odd, inJSON))},
		"quoted":                  {"refresh token", odd, printing(logged(odd, text))},
		"as it is":                {"refresh token", odd, printing("got " + odd)},
		"at the very end":         {"state", planted, printing("state=" + planted)},
		"cut short":               {"state", planted, printing(planted[:telling] + "…")},
		"escaped in a query":      {"refresh token", odd, printing("/?t=" + url.QueryEscape(odd))},
		"escaped in a path":       {"refresh token", odd, printing("/" + url.PathEscape(odd))},
		"escaped in JSON":         {"refresh token", odd, printing(inBody(odd))},
		"escaped in a page":       {"refresh token", odd, printing("<p>" + template.HTMLEscapeString(odd))},
		"in hexadecimal digits":   {"state", planted, printing(fmt.Sprintf("%x", planted))},
		"in base 64":              {"state", planted, printing(base64.StdEncoding.EncodeToString([]byte(planted)))},
		"as bytes":                {"state", planted, printing(fmt.Sprint([]byte(planted)))},
		"as bytes in Go syntax":   {"state", planted, printing(fmt.Sprintf("%#v", []byte(planted)))},
		"a JWT":                   {"ID token", jwt, printing("got " + jwt)},
		"a JWT's payload":         {"ID token", jwt, printing("got " + payload)},
		"a JWT's signature":       {"ID token", jwt, printing("got " + signature)},
		"the tokens of a cookie":  {"session cookie", "identity." + planted, printing(planted)},
		"in a struct": {"code", planted, func(c *canaryWatch) {
			c.show("value", "a test", holder{code: planted})
		}},
		"behind a pointer": {"code", planted, func(c *canaryWatch) {
			c.show("value", "a test", &holder{code: planted})
		}},
		"in an event's error": {"code", planted, func(c *canaryWatch) {
			c.show("event", "a test", oidcauth.Event{Err: errors.New("code " + planted)})
		}},
		"in a field of an error that is wrapped twice": {"code", planted, func(c *canaryWatch) {
			c.show("error", "a test", fmt.Errorf("b: %w", errors.Join(io.EOF, fmt.Errorf("a: %w", &reticent{planted}))))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c canaryWatch
			tt.print(&c)
			if found := c.finds(); len(found) != 0 {
				t.Fatalf("without a secret it found %v", found)
			}
			c.keep(tt.kind, tt.secret)
			said := c.judge(false)
			if !strings.Contains(said, tt.kind+" in ") || !strings.Contains(said, "of a test: ") {
				t.Errorf("it says %q", said)
			}
			for _, part := range []string{"rotating", planted[:20], planted[telling:]} {
				if strings.Contains(said, part) {
					t.Errorf("it shows the secret: %s", said)
				}
			}
		})
	}
}

func inBody(secret string) string {
	text, _ := json.Marshal(map[string]string{"error": secret}) // a string always has JSON
	return string(text)
}

func printing(text string) func(*canaryWatch) {
	return func(c *canaryWatch) { c.print("log", "a test", text) }
}

// A reticent error keeps to itself what only %#v shows.
type reticent struct{ code string }

func (*reticent) Error() string { return "refused" }

func TestWhatIsNoSecretIsNotFound(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ secret, text string }{
		"a word":                     {"state", "the state is wrong"},
		"eleven characters":          {"elevenchars", "got elevenchars"},
		"another with the same name": {planted, "Kx7-pQ2_vT9zLw4bRm8sNd3g"},
		"nearly all of it":           {planted, planted[:telling-1]},
		"a JWT's header":             {"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl", "eyJhbGciOiJSUzI1NiJ9"},
		"an empty text":              {planted, ""},
		"a short text":               {planted, "Kx7"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c canaryWatch
			c.keep("state", tt.secret)
			c.print("log", "a test", tt.text)
			if said := c.judge(false); said != "" {
				t.Error(said)
			}
		})
	}
}

func TestARunThatSawTooLittleHasFailed(t *testing.T) {
	t.Parallel()
	var c canaryWatch
	if said := c.judge(true); strings.Count(said, "too little") != len(leastSecrets)+len(leastPrinted) {
		t.Errorf("of a run that saw nothing it says %q", said)
	}
	if said := c.judge(false); said != "" {
		t.Errorf("of a part of the tests it says %q", said)
	}
	first := map[string]string{} // secrets by kind
	for kind, least := range leastSecrets {
		first[kind] = "000000000000 " + kind
		for i := range least {
			c.keep(kind, fmt.Sprintf("%012d %s", i, kind))
		}
	}
	for kind, least := range leastPrinted {
		c.print(kind, "a test", strings.Repeat(" ", least))
	}
	if said := c.judge(true); said != "" {
		t.Errorf("of a run that saw enough it says %q", said)
	}
	for kind, least := range leastPrinted {
		c.characters[kind] = least - 1
		if lines := c.lacks(); len(lines) != 1 || !strings.Contains(lines[0], strconv.Quote(kind)) {
			t.Errorf("with too little of %s it says %q", kind, lines)
		}
		c.characters[kind] = least
	}
	for kind, secret := range first {
		delete(c.secrets, secret[:min(len(secret), telling)])
		if lines := c.lacks(); len(lines) != 1 || !strings.Contains(lines[0], strconv.Quote(kind)) {
			t.Errorf("with too few of %s it says %q", kind, lines)
		}
		c.keep(kind, secret)
	}
	off := canaryWatch{off: true}
	off.keep("state", planted)
	off.print("log", "a test", planted)
	if said := off.judge(true); said != "" || off.secrets != nil || off.printed != nil {
		t.Errorf("switched off it says %q", said)
	}
}

// HYG-05, S46: the taps know the secrets of a login, and whatever an application can have of the library is printed.
func TestTheCanariesSeeWhatAnApplicationHas(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	value, mfa := rand.Text(), rand.Text()
	canaries.keep("application value", value)
	a.mux.HandleFunc("/value", func(w http.ResponseWriter, r *http.Request) {
		if err := a.UpdateSession(w, r, set("value", value)); err != nil {
			a.Error(w, r, err)
		}
	})
	known := map[string]string{}
	a.op.EditTokenResponse(func(m map[string]any) {
		for _, name := range []string{"access_token", "refresh_token"} {
			known[fmt.Sprint(m[name])] = strings.Replace(name, "_", " ", 1)
		}
		known[signatureOf(fmt.Sprint(m["id_token"]))] = "ID token"
	})
	a.browser.SignIn(oidcauthtest.Alice)
	a.browser.Get("/value")
	s, err := a.GetSession(a.browser.Request(http.MethodGet, "/"))
	if err != nil {
		t.Fatal(err)
	}
	printClients(t, a)
	a.browser.SignOut()
	a.settle(t)
	a.op.EditTokenResponse(func(m map[string]any) { m["error"], m["mfa_token"] = "mfa_required", mfa })
	a.browser.Get("/auth/login")
	printWhatThereIs(t, a, s)
	if canaries.off {
		return
	}
	o := a.op.Options()
	maps.Copy(known, map[string]string{
		o.ClientSecret: "client secret", o.Secrets[0]: "sealing secret", s.SID: "sid", value: "application value",
		mfa: "further member of a token response",
	})
	for name, kind := range map[string]string{
		"state": "state", "nonce": "nonce", "code": "code", "code_verifier": "code verifier", "token": "refresh token",
		"id_token_hint": "ID token",
	} {
		secrets := 0
		for _, sent := range a.op.Requests() {
			if secret := sent.Form.Get(name); secret != "" {
				known[signatureOf(secret)] = kind
				secrets++
			}
		}
		if secrets == 0 {
			t.Errorf("the provider got no %s", name)
		}
	}
	for secret, kind := range known {
		if got := canaries.kindOf(secret); got != kind {
			t.Errorf("a %s is known as %q", kind, got)
		}
	}
}

// signatureOf is what is secret of a JWT, and all of another token.
func signatureOf(token string) string { return token[strings.LastIndex(token, ".")+1:] }

// printWhatThereIs prints what an application holds, and each error that it was told of.
func printWhatThereIs(t *testing.T, a *app, s *oidcauth.Session) {
	t.Helper()
	o := a.op.Options()
	wrong := o
	wrong.BaseURL, wrong.Secrets, wrong.Routes.Login = "http://app.test", []string{o.Secrets[0][:20]}, "login"
	_, err := oidcauth.New(wrong)
	for _, v := range []any{a.Client, o, &o, err} {
		seen(t, v)
	}
	canaries.show("value", t.Name(), s) // not as JSON: a session's fields are there to be read, the sid among them
	canaries.show("value", t.Name(), *s)
	refusals := 0
	for _, e := range a.logs.all() {
		seen(t, e)
		if refused, ok := errors.AsType[*oidcauth.ProviderError](e.Err); ok {
			seen(t, refused)
			seen(t, *refused)
			refusals++
		}
		if failure, ok := errors.AsType[*oidcauth.Error](e.Err); ok {
			seen(t, failure)
			seen(t, *failure)
		}
	}
	if refusals == 0 {
		t.Error("the provider refused nothing")
	}
}

// printClients prints what carries access tokens to APIs, and how their requests fail.
func printClients(t *testing.T, a *app) {
	t.Helper()
	w, r := httptest.NewRecorder(), a.browser.Request(http.MethodGet, "/")
	source, err := a.TokenSource(w, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	client, err := a.HTTPClient(w, r, nil, "https://api.test")
	if err != nil {
		t.Fatal(err)
	}
	_, elsewhere := client.Get("https://elsewhere.test/")
	_, unserved := client.Get("https://api.test/")
	if elsewhere == nil || unserved == nil {
		t.Fatal("a request to nobody is answered")
	}
	for _, v := range []any{source, client, *client, client.Transport, elsewhere, unserved} {
		seen(t, v)
	}
}
