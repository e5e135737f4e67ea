package cookie_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/oidcauth/oidcauth/internal/cookie"
)

const (
	testSecret = "test-secret-of-at-least-32-bytes-0001"
	oldSecret  = "test-secret-of-at-least-32-bytes-0000"
)

// A person is what the reference session and the one held out against it differ in.
type person struct {
	issuer, client, api           string
	subject, sid, org, keyID, jti string
	name, nickname, email         string
	picture, updated, refresh     string
	scopes, permissions           string
}

var reference = person{
	issuer:      "https://contoso.eu.auth0.com/",
	client:      "Yq3vKx7TnB2rLw8ZsD5mHc1PjFg6QaEe",
	api:         "https://api.contoso.example",
	subject:     "auth0|64f0c1e2a3b4c5d6e7f80912",
	sid:         "u4Zk1Vt9XoR7bNq2WcJ8yMh5LdPs3GfA",
	org:         "org_Tn4cXw9LbQ2vRz7K",
	jti:         "k8WzR3nVtQ5yLb0XcMf7Gd",
	keyID:       "rE5hVx2TgY9mBq7KcW3aD",
	name:        "Johanna Lindqvist",
	nickname:    "johanna.lindqvist",
	email:       "johanna.lindqvist@engineering.contoso.se",
	picture:     "https://media.contoso.example/people/7f3a9c2e51d84b06/johanna-lindqvist/face.jpg",
	updated:     "2026-03-14T09:26:53.589Z",
	refresh:     "v1.Mh7Qx2TzR9pLw4KcVn8YbJd3GfSe6AaUu1XoHq5WtZkEi0NrBmPyDvCjFlOsg",
	scopes:      "openid profile email offline_access read:orders write:orders read:invoices",
	permissions: `["read:orders","write:orders","delete:orders","read:invoices","approve:invoices","read:annual-reports"]`,
}

var heldOut = person{
	issuer:      "https://login.fabrikam.example/",
	client:      "Jw6RtZ0pXe4NyUa9GbKq3VmCs7LhDf2T",
	api:         "https://backend.fabrikam.example",
	subject:     "auth0|59a7d04bc81f3e62905a7d3c",
	sid:         "Qb8Xm2KfYz6TvJ0nRc4WsLp9HgDa5EuI",
	org:         "org_Hs8KbPz3YmVd6Wq1",
	jti:         "Pd2NsX9hKo4UaYv6TjE1Rw",
	keyID:       "Zt8KnB4wQx0LrPc6VyJ2f",
	name:        "Marc-Aurèle Oyelaran",
	nickname:    "m.oyelaran",
	email:       "marc-aurele.oyelaran@it.fabrikam-labs.fr",
	picture:     "https://s.gravatar.com/avatar/3c9f0b7e2d6a8154f7c1e09b5d42a683?s=480&r=pg&d=mp12",
	updated:     "2025-11-02T22:41:07.014Z",
	refresh:     "rt_Zc5Vn1KtXy8QwBe3LmRj7PaHs0DgUf4OiYx6TzNb9GkCq2WvMlEpJrSdAhFoI",
	scopes:      "openid profile email offline_access list:devices edit:devices list:alerts",
	permissions: `["list:devices","edit:devices","reset:devices","list:alerts","mute:alerts","list:compliance-audits"]`,
}

func (p person) idPayload() string {
	return fmt.Sprintf(`{"nickname":%q,"name":%q,"picture":%q,"updated_at":%q,"email":%q,"email_verified":true,`+
		`"iss":%q,"aud":%q,"sub":%q,"iat":1773480413,"exp":1773516413,"sid":%q,"org_id":%q}`,
		p.nickname, p.name, p.picture, p.updated, p.email, p.issuer, p.client, p.subject, p.sid, p.org)
}

func (p person) accessPayload() string {
	return fmt.Sprintf(`{"iss":%q,"sub":%q,"aud":[%q,%q],"iat":1773480413,"exp":1773566813,"scope":%q,"org_id":%q,`+
		`"sid":%q,"jti":%q,"azp":%q,"client_id":%q,"permissions":%s}`,
		p.issuer, p.subject, p.api, p.issuer+"userinfo", p.scopes, p.org, p.sid, p.jti, p.client, p.client,
		p.permissions)
}

func (p person) identity() cookie.Identity {
	return cookie.Identity{
		ID:          sha256.Sum256([]byte("session of " + p.subject)),
		Subject:     p.subject,
		SID:         p.sid,
		Created:     1773480414,
		Seen:        1773481999,
		End:         1773480414 + 72*3600,
		Began:       1773480413,
		TokenExpiry: 1773566813,
		Generation:  1,
	}
}

func (p person) tokens(t testing.TB) *cookie.Tokens {
	return &cookie.Tokens{
		IDToken: sign(t, fmt.Sprintf(`{"alg":"RS256","typ":"JWT","kid":%q}`, p.keyID), p.idPayload()),
		Claims:  []byte(p.idPayload()),
		Refresh: p.refresh,
		Access: []cookie.AccessToken{{
			Token:     sign(t, fmt.Sprintf(`{"alg":"RS256","typ":"at+jwt","kid":%q}`, p.keyID), p.accessPayload()),
			Type:      "Bearer",
			Audience:  p.api,
			Scope:     p.scopes,
			Requested: p.scopes,
			Expiry:    1773566813,
			Issued:    1773480414,
		}},
	}
}

func (p person) options() cookie.SessionOptions {
	return cookie.SessionOptions{
		Attributes: cookie.Attributes{Name: "__Host-session", Secure: true},
		Codecs:     cookie.Codecs([]string{testSecret}, "session"),
		Binding:    []string{p.issuer, p.client, "https://app.example.com"},
		Words:      []string{p.issuer, p.client},
	}
}

var signingKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// sign returns a compact JWS with a real signature: its bytes do not compress.
func sign(t testing.TB, header, payload string) string {
	t.Helper()
	key, err := signingKey()
	if err != nil {
		t.Fatal(err)
	}
	signed := segment(header) + "." + segment(payload)
	hash := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, hash[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + segment(string(sig))
}

func segment(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// newSession returns a session with the tokens sealed.
func newSession(t testing.TB, c *cookie.Sessions, id cookie.Identity, tokens *cookie.Tokens) *cookie.Session {
	t.Helper()
	s := &cookie.Session{Identity: id}
	if err := c.SetTokens(s, tokens); err != nil {
		t.Fatal(err)
	}
	return s
}

// A jar is a browser's: it takes Set-Cookie lines and gives the header of the next request.
type jar map[string]string

func (j jar) take(t testing.TB, resp http.Header) {
	t.Helper()
	for _, line := range resp["Set-Cookie"] {
		c, err := http.ParseSetCookie(line)
		if err != nil {
			t.Fatal(err)
		}
		if c.MaxAge < 0 {
			delete(j, c.Name)
		} else {
			j[c.Name] = c.Value
		}
	}
}

func (j jar) header() http.Header {
	pairs := make([]string, 0, len(j))
	for name, value := range j {
		pairs = append(pairs, name+"="+value)
	}
	return http.Header{"Cookie": {strings.Join(pairs, "; ")}}
}

// write returns what a browser holds after the session was written.
func write(t testing.TB, c *cookie.Sessions, s *cookie.Session) jar {
	t.Helper()
	resp, j := http.Header{}, jar{}
	if err := c.Write(resp, nil, s, 3600); err != nil {
		t.Fatal(err)
	}
	j.take(t, resp)
	return j
}

// performance.md, "The reference session": one cookie of at most 1,750 characters, of which a hundred are left to
// sessions with longer tokens, and a session that was not looked at while developing stays within 5 %.
func TestReferenceSessionFitsOneSmallCookie(t *testing.T) {
	t.Parallel()
	size := func(p person) int {
		c := cookie.NewSessions(p.options())
		j := write(t, c, newSession(t, c, p.identity(), p.tokens(t)))
		if len(j) != 1 {
			t.Fatalf("%s: %d cookies", p.name, len(j))
		}
		return len(j["__Host-session"])
	}
	for _, p := range []person{reference, heldOut} {
		if !json.Valid([]byte(p.idPayload())) || !json.Valid([]byte(p.accessPayload())) {
			t.Fatalf("%s: payload is no JSON", p.name)
		}
		tokens := p.tokens(t)
		t.Logf("%s: id token %d, access token %d, refresh %d, email %d, picture %d", p.name, len(tokens.IDToken),
			len(tokens.Access[0].Token), len(tokens.Refresh), len(p.email), len(p.picture))
		if n := len(tokens.Access[0].Token); n < 1200 {
			t.Errorf("%s: an access token of %d characters proves nothing, want 1200", p.name, n)
		}
	}
	ref, held := size(reference), size(heldOut)
	t.Logf("reference %d, held out %d", ref, held)
	if ref > 1650 {
		t.Errorf("reference session: %d characters, want at most 1650", ref)
	}
	if float64(held) > 1.05*float64(ref) {
		t.Errorf("held-out session: %d characters, want at most 5 %% more than %d", held, ref)
	}
}
