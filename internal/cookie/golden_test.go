package cookie_test

import (
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/oidcauth/oidcauth/internal/cookie"
)

var update = flag.Bool("update", false, "write the golden files anew: each format version has its directory")

// A golden is a session as a browser holds it, and what must come out of it for as long as version 1 is read.
type golden struct {
	Cookies  jar
	Identity cookie.Identity
	Tokens   cookie.Tokens
}

func goldenSessions(t *testing.T) map[string]golden {
	id := reference.identity()
	full := *reference.tokens(t)
	dropped, opaque, large := full, full, full
	dropped.IDToken = ""
	opaque.Access = []cookie.AccessToken{
		{Token: "Zx81-opaque.token", Type: "Bearer", Scope: "openid", Requested: "openid email", Issued: id.Created},
		{Token: "second", Type: "DPoP", Audience: reference.api, Expiry: id.End, Issued: id.Created},
	}
	large.UserInfo = []byte(reference.idPayload())
	large.Values = map[string][]byte{"cart": []byte(`["` + newRandom(1).text(6_000) + `"]`), "theme": []byte(`"dark"`)}
	return map[string]golden{
		"minimal":   {Identity: cookie.Identity{Subject: "s"}},
		"reference": {Identity: id, Tokens: full},
		"dropped":   {Identity: id, Tokens: dropped},
		"opaque":    {Identity: id, Tokens: opaque},
		"chunked":   {Identity: id, Tokens: large},
	}
}

// A word changed in it, which no golden session may have used, would spoil the cookies of those that did.
func TestDictionaryIsPartOfTheVersion(t *testing.T) {
	t.Parallel()
	const want = "adae1f94c6695bc5b2088c9ce378c2a374a4ffd9c969682d9cbcb0ab1bbc4768"
	if got := fmt.Sprintf("%x", sha256.Sum256([]byte(cookie.Dictionary))); got != want {
		t.Errorf("the dictionary's hash is %s, want %s: give the format another version", got, want)
	}
}

func TestGoldenSessionsOpenForEver(t *testing.T) {
	c := cookie.NewSessions(reference.options())
	for name, g := range goldenSessions(t) {
		file := filepath.Join("testdata", "v1", name+".golden")
		if *update {
			g.Cookies = write(t, c, newSession(t, c, g.Identity, &g.Tokens))
			b, err := json.MarshalIndent(g, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var want golden
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		var s cookie.Session
		if !c.Load(want.Cookies.header(), &s) || s.Identity != want.Identity {
			t.Errorf("%s: got %+v, want %+v", name, s.Identity, want.Identity)
			continue
		}
		got, err := c.Tokens(&s)
		if err != nil || !reflect.DeepEqual(*got, want.Tokens) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", name, err, got, want.Tokens)
		}
	}
}
