package oidcauth_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/template"

	"github.com/felixge/httpsnoop"

	"github.com/oidcauth/oidcauth"
)

// canaries keeps the secrets of the whole run and what was printed in it. TestMain has no other way to get at them.
var canaries canaryWatch

// TestMain fails a run in which a secret was printed, however well its tests went (HYG-05, S46).
func TestMain(m *testing.M) {
	flag.Parse()
	// Fuzzing and benchmarks count what they do; keeping all of it would be most of that.
	canaries.off = flagged("test.fuzz", "test.fuzzworker", "test.bench")
	code := m.Run()
	whole := code == 0 && !flagged("test.run", "test.skip", "test.list")
	if complaint := canaries.judge(whole); complaint != "" {
		fmt.Fprintln(os.Stderr, complaint)
		code = max(code, 1)
	}
	os.Exit(code)
}

// flagged reports whether one of the flags has another value than by default.
func flagged(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		f := flag.Lookup(name)
		return f != nil && f.Value.String() != f.DefValue
	})
}

const (
	shortest = 12 // characters of a secret: shorter ones are found by chance, or are words
	telling  = 24 // so many first characters are as bad as the whole secret
)

// The least that a whole run has to see, to have a say: about half of what it does see.
var (
	leastSecrets = map[string]int{
		"access token": 3_000, "refresh token": 3_000, "ID token": 6_000, "code": 1_800, "code verifier": 1_800,
		"state": 2_400, "nonce": 2_300, "sid": 1_700, "sealing secret": 750, "session cookie": 12_000,
		"login cookie": 2_300, "other cookie": 40, "further member of a token response": 1, "application value": 1,
		"client secret": 1, "Authorization field": 1, // the telling beginning is the same in nearly all apps
	}
	leastPrinted = map[string]int{
		"log": 1_400_000, "event": 11_000_000, "error": 350_000, "value": 10_000, "page": 1_800_000, "location": 450_000,
	}
)

// A canaryWatch compares what is secret with what is printed. The zero value has seen nothing. It is safe for
// concurrent use.
type canaryWatch struct {
	off        bool // it sees nothing, and has nothing to say
	mu         sync.Mutex
	secrets    map[string]string // the beginning of what must not be printed, and what kind of secret it is
	printed    map[output]string // and by which test first
	characters map[string]int    // printed, by kind
}

// An output is of a kind: a log, an error, a page …
type output struct{ kind, text string }

// keep adds secrets. Of a JWT those are payload and signature, as the header is the same in all; of a cookie also its
// parts.
func (c *canaryWatch) keep(kind string, secrets ...string) {
	if c.off {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.secrets == nil {
		c.secrets = map[string]string{}
	}
	for _, secret := range secrets {
		parts := []string{secret}
		if pieces := strings.Split(secret, "."); strings.HasPrefix(secret, "eyJ") && len(pieces) == 3 {
			parts = pieces[1:]
		} else if strings.HasSuffix(kind, "cookie") {
			parts = append(parts, pieces[1:]...)
		}
		for _, part := range parts {
			part = part[:min(len(part), telling)]
			if _, known := c.secrets[part]; !known && len(part) >= shortest {
				c.secrets[strings.Clone(part)] = kind // a test counts what a failed login keeps
			}
		}
	}
}

// print adds what somebody may read.
func (c *canaryWatch) print(kind, test, text string) {
	if c.off || text == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.printed == nil {
		c.printed, c.characters = map[output]string{}, map[string]int{}
	}
	c.characters[kind] += len(text)
	if p := (output{kind, text}); c.printed[p] == "" {
		c.printed[p] = test
	}
}

// kindOf is the kind of a secret, "" if it is not known.
func (c *canaryWatch) kindOf(secret string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.secrets[secret[:min(len(secret), telling)]]
}

// show adds v as fmt and slog print it, and each error that it wraps.
func (c *canaryWatch) show(kind, test string, v any) {
	if c.off || v == nil {
		return
	}
	var b strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		fmt.Fprintf(&b, verb+"\n", v)
	}
	slog.New(slog.NewJSONHandler(&b, untimed)).Info("", "v", v)
	slog.New(slog.NewTextHandler(&b, untimed)).Info("", "v", v)
	c.print(kind, test, b.String())
	switch v := v.(type) {
	case interface{ Unwrap() error }:
		c.show(kind, test, v.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range v.Unwrap() {
			c.show(kind, test, err)
		}
	}
}

// seen says that a test got v from the library: whoever prints it prints no secret.
func seen(t testing.TB, v any) {
	canaries.show("value", t.Name(), v)
	text, _ := json.Marshal(v) // what has no JSON cannot be printed so
	canaries.print("value", t.Name(), string(text))
}

// forms are the ways in which a secret, or the beginning of a long one, may stand in a text.
func forms(secret string) map[string]bool {
	s := secret[:min(len(secret), telling)]
	inJSON, _ := json.Marshal(s) // a string always has JSON
	bytesOf := strings.Trim(fmt.Sprint([]byte(s)), "[]")
	syntaxOf := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", []byte(s)), "[]byte{"), "}")
	whole := s[:len(s)/3*3] // so that no form depends on what follows
	all := map[string]bool{}
	for _, form := range []string{
		s, url.QueryEscape(s), url.PathEscape(s), template.HTMLEscapeString(s), string(inJSON[1 : len(inJSON)-1]),
		strings.Trim(strconv.Quote(s), `"`), fmt.Sprintf("%x", s), bytesOf, syntaxOf,
		base64.StdEncoding.EncodeToString([]byte(whole)), base64.URLEncoding.EncodeToString([]byte(whole)),
	} {
		all[form] = true
	}
	return all
}

// untimed leaves the time out, so that what is printed twice is kept once.
var untimed = &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}}

// A needle is a form of a secret to be looked for.
type needle struct{ form, kind string }

// A find is a secret in what was printed.
type find struct{ kind, where, context string }

// finds looks for the secrets in what was printed.
func (c *canaryWatch) finds() (all []find) {
	c.mu.Lock()
	defer c.mu.Unlock()
	needles := map[[shortest]byte][]needle{}
	var maybe [1 << 19]uint64 // by a needle's first 4 characters: nearly all places in a text need no look at the map
	for secret, kind := range c.secrets {
		for form := range forms(secret) {
			start := [shortest]byte([]byte(form))
			needles[start] = append(needles[start], needle{form, kind})
			h := hash4(form)
			maybe[h/64] |= 1 << (h % 64)
		}
	}
	for p, test := range c.printed {
		for i := 0; i+shortest <= len(p.text); i++ {
			if h := hash4(p.text[i:]); maybe[h/64]&(1<<(h%64)) == 0 {
				continue
			}
			for _, n := range needles[[shortest]byte([]byte(p.text[i:i+shortest]))] {
				if strings.HasPrefix(p.text[i:], n.form) {
					all = append(all, find{n.kind, p.kind + " of " + test, around(p.text, i, n)})
				}
			}
		}
	}
	return all
}

// hash4 turns the first four characters of s into 25 bits.
func hash4(s string) uint32 {
	return (uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24) * 2654435761 >> 7
}

// alike are runs of characters as they occur in tokens, and rest is what a secret has beside its telling beginning.
var (
	alike = regexp.MustCompile(`[\w%+/=~-]{20,}`)
	rest  = regexp.MustCompile(`^[\w%+/=~.-]*`)
)

// around is the text about a find, without the secret and whatever looks like another.
func around(text string, at int, n needle) string {
	before, after := text[max(0, at-60):at], rest.ReplaceAllString(text[at+len(n.form):], "")
	after = after[:min(len(after), 60)]
	return fmt.Sprintf("%q", alike.ReplaceAllString(before, "…")+"<"+n.kind+">"+alike.ReplaceAllString(after, "…"))
}

// judge returns what is to be said about the run, "" if nothing is. Only a whole run has to have seen enough.
func (c *canaryWatch) judge(whole bool) string {
	if c.off {
		return ""
	}
	seen := map[string]string{}
	for _, f := range c.finds() {
		seen[f.kind+" in "+f.where] = f.context // one of a kind is enough to read
	}
	var lines []string
	for what, context := range seen {
		lines = append(lines, "a secret was printed: "+what+": "+context)
	}
	slices.Sort(lines)
	if more := len(lines) - 20; more > 0 {
		lines = append(lines[:20], fmt.Sprintf("and %d more like these", more))
	}
	if whole {
		lines = append(lines, c.lacks()...)
	}
	return strings.Join(lines, "\n")
}

// lacks says of what the run has seen too little to have a say.
func (c *canaryWatch) lacks() (lines []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	secrets := map[string]int{}
	for _, kind := range c.secrets {
		secrets[kind]++
	}
	tooFew := func(what string, got, least map[string]int) {
		for kind, want := range least {
			if got[kind] < want {
				lines = append(lines, fmt.Sprintf("too little to judge: %d %s %q, want %d", got[kind], what, kind, want))
			}
		}
	}
	tooFew("secrets of the kind", secrets, leastSecrets)
	tooFew("characters of the kind", c.characters, leastPrinted)
	slices.Sort(lines)
	return lines
}

// watchOptions lets the canaries see the secrets of o, and what it hears from the library and the provider.
func watchOptions(t testing.TB, issuer string, o *oidcauth.Options) {
	canaries.keep("client secret", o.ClientSecret)
	canaries.keep("sealing secret", o.Secrets...)
	if canaries.off {
		return
	}
	if own := o.OnEvent; own != nil {
		o.OnEvent = func(ctx context.Context, e oidcauth.Event) {
			canaries.show("event", t.Name(), e)
			if e.Err != nil {
				canaries.show("event", t.Name(), e.Err)
			}
			own(ctx, e)
		}
	}
	if own := o.OnError; own != nil {
		o.OnError = func(w http.ResponseWriter, r *http.Request, e *oidcauth.Error) {
			canaries.show("error", t.Name(), e)
			own(w, r, e)
		}
	}
	if o.HTTPClient != nil {
		client := *o.HTTPClient
		client.Transport = &tap{cmp.Or(client.Transport, http.DefaultTransport), hostOf(issuer)}
		o.HTTPClient = &client
	}
}

// A tap sees the secrets of requests to a provider, and of its answers. What goes to others it leaves alone.
type tap struct {
	http.RoundTripper
	host string // the provider's
}

func (p *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != p.host || r.GetBody == nil {
		return p.RoundTripper.RoundTrip(r)
	}
	_, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	canaries.keep("Authorization field", credentials)
	if sent, err := r.GetBody(); err == nil {
		text, _ := io.ReadAll(sent) // from memory
		form, _ := url.ParseQuery(string(text))
		keepForm(form)
	}
	resp, err := p.RoundTripper.RoundTrip(r)
	if err == nil && resp.Body != nil {
		resp.Body = &overheard{ReadCloser: resp.Body}
	}
	return resp, err
}

// keepForm keeps what is secret of a form or query of the protocol.
func keepForm(form url.Values) {
	for name, kind := range map[string]string{
		"code": "code", "code_verifier": "code verifier", "state": "state", "nonce": "nonce",
		"client_secret": "client secret", "refresh_token": "refresh token", "token": "refresh token",
		"id_token_hint": "ID token",
	} {
		canaries.keep(kind, form[name]...)
	}
}

// An overheard body is a token response while it is read.
type overheard struct {
	io.ReadCloser
	text []byte
}

func (o *overheard) Read(b []byte) (int, error) {
	n, err := o.ReadCloser.Read(b)
	if len(o.text) < 1<<20 {
		o.text = append(o.text, b[:n]...)
	}
	return n, err
}

func (o *overheard) Close() error {
	var members map[string]any
	_ = json.Unmarshal(o.text, &members) // what is no JSON has no tokens
	for name, v := range members {
		secret, _ := v.(string)
		switch name {
		case "access_token", "refresh_token":
			canaries.keep(strings.Replace(name, "_", " ", 1), secret)
		case "id_token":
			canaries.keep("ID token", secret)
			canaries.keep("sid", sidOf(secret))
		case "error", "error_description", "error_uri", "scope", "token_type":
		default:
			if isWord(secret) {
				continue
			}
			canaries.keep("further member of a token response", secret)
		}
	}
	return o.ReadCloser.Close()
}

// isWord tells what is no secret: an error's further code is often like the code itself.
func isWord(s string) bool { return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") == "" }

// tapped lets the canaries see the secrets that pass through an application, and what it tells those without a right
// to them: answers that refuse, and its redirects. The provider's redirects carry secrets by right.
func tapped(t testing.TB, issuer string, h http.Handler) http.Handler {
	if canaries.off {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query, status := r.URL.Query(), 0
		var page bytes.Buffer
		tell := func(text string) {
			if status >= 400 {
				page.WriteString(text)
			}
		}
		defer func() {
			keepForm(url.Values{"code": query["code"], "state": query["state"]})
			keepCookies(w.Header())
			canaries.print("page", t.Name(), page.String())
			printLocation(t, issuer, w.Header().Get("Location"))
		}()
		h.ServeHTTP(httpsnoop.Wrap(w, httpsnoop.Hooks{
			WriteHeader: func(next httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
				return func(code int) { status = max(status, code); next(code) }
			},
			Write: func(next httpsnoop.WriteFunc) httpsnoop.WriteFunc {
				return func(b []byte) (int, error) { tell(string(b)); return next(b) }
			},
			WriteString: func(next httpsnoop.WriteStringFunc) httpsnoop.WriteStringFunc {
				return func(s string) (int, error) { tell(s); return next(s) }
			},
		}), r)
	})
}

// keepCookies keeps the values of our cookies.
func keepCookies(h http.Header) {
	for _, c := range (&http.Response{Header: h}).Cookies() {
		switch {
		case isSession(c):
			canaries.keep("session cookie", c.Value)
		case isLogin(c):
			canaries.keep("login cookie", c.Value)
		default:
			canaries.keep("other cookie", c.Value)
		}
	}
}

// printLocation prints a redirect, except for what the provider has to get.
func printLocation(t testing.TB, issuer, location string) {
	u, err := url.Parse(location)
	if err == nil && u.Host == hostOf(issuer) {
		query := u.Query()
		keepForm(query)
		for _, name := range []string{"state", "nonce", "code_challenge", "id_token_hint", "logout_hint"} {
			query.Del(name)
		}
		if back, err := url.Parse(query.Get("returnTo")); err == nil && query.Has("returnTo") { // Auth0's has the state in it
			canaries.keep("state", back.Query().Get("state"))
			query.Set("returnTo", back.Path)
		}
		u.RawQuery = query.Encode()
		location = u.String()
	}
	canaries.print("location", t.Name(), location)
}

func hostOf(origin string) string {
	u, err := url.Parse(origin)
	if err != nil {
		return ""
	}
	return u.Host
}

// sidOf is the name of the provider's session in an ID token, "" if there is none.
func sidOf(token string) string {
	var claims struct{ SID string }
	if parts := strings.Split(token, "."); len(parts) == 3 {
		payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
		_ = json.Unmarshal(payload, &claims) // tests also have tokens that are none
	}
	return claims.SID
}
