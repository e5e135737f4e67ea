package cookie_test

import (
	"bytes"
	"net/http"
	"reflect"
	"testing"

	"github.com/oidcauth/oidcauth/internal/cookie"
)

// FuzzRoundTrip: whatever a session holds comes back the same.
func FuzzRoundTrip(f *testing.F) {
	const jwt = "eyJhIjoxfQ.eyJhIjoxfQ.c2ln"
	f.Add("auth0|1", "sid", int64(1), int64(2), uint64(3), jwt, []byte(`{"a":1}`), "r", "opaque", "scope")
	f.Add("", "", int64(-1)<<63, int64(1)<<62, ^uint64(0), "e30.e30.", []byte(`{}`), "", "e30.eyJzIjoiYSBiIn0.AA", "a b")
	f.Add("x", "y", int64(0), int64(0), uint64(0), "..", []byte("{"), " \x00", "a.b.c", "Bearer")
	c := cookie.NewSessions(reference.options())
	f.Fuzz(func(
		t *testing.T, sub, sid string, a, b int64, gen uint64, idToken string, doc []byte, refresh, access, scope string,
	) {
		id := cookie.Identity{
			ID: reference.identity().ID, Tenant: sid + sub, Subject: sub, SID: sid,
			Created: a, Seen: b, End: a ^ b, Began: -a, TokenExpiry: -b, Generation: gen,
		}
		got, cookies, ok := c.UnpackIdentity(c.PackIdentity(&id, 3))
		if !ok || cookies != 3 || got != id {
			t.Fatalf("identity: got %+v, want %+v", got, id)
		}
		want := &cookie.Tokens{
			IDToken: idToken, Claims: bytes.Clone(doc), UserInfo: []byte(`{"u":1}`), Refresh: refresh,
			Access: []cookie.AccessToken{
				{Token: access, Type: "Bearer", Audience: sub, Scope: scope, Requested: scope, Expiry: a, Issued: b},
				{Token: idToken, Type: scope},
			},
			Values: map[string][]byte{"k": []byte(refresh), sub: []byte(sid)},
		}
		packed, err := c.PackTokens(&id, want)
		if err != nil {
			t.Fatal(err)
		}
		tokens, err := c.UnpackTokens(&id, packed)
		if err != nil {
			t.Fatal(err)
		}
		// Without claims they are the ID token's payload.
		if len(doc) == 0 {
			tokens.Claims, want.Claims = nil, nil
		}
		if !reflect.DeepEqual(tokens, want) {
			t.Fatalf("tokens:\n got %+v\nwant %+v", tokens, want)
		}
	})
}

// FuzzUnpack: plaintexts of any kind are read or refused, in part as in whole, and what is read can be written again.
func FuzzUnpack(f *testing.F) {
	c := cookie.NewSessions(reference.options())
	id := reference.identity()
	var start []byte
	for _, tokens := range []*cookie.Tokens{longTokens(40), reference.tokens(f)} {
		packed, err := c.PackTokens(&id, tokens)
		if err != nil {
			f.Fatal(err)
		}
		start = packed[:9:9]
		f.Add(packed[9:])
	}
	f.Add(c.PackIdentity(&id, 1)[9:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, cookies, ok := c.UnpackIdentity(append(c.PackIdentity(&id, 1)[:9], b...)); ok {
			if again, n, ok := c.UnpackIdentity(c.PackIdentity(&id, cookies)); !ok || n != cookies || again != id {
				t.Fatalf("identity %+v, then %+v", id, again)
			}
		}
		tokens, err := c.UnpackTokens(&id, append(start, b...))
		if err != nil {
			return
		}
		if access, err := c.UnpackAccess(&id, append(start, b...)); err != nil || !reflect.DeepEqual(access, tokens.Access) {
			t.Fatalf("access tokens alone: %+v, %v, with the others: %+v", access, err, tokens.Access)
		}
		packed, err := c.PackTokens(&id, tokens)
		if err != nil {
			t.Fatal(err)
		}
		again, err := c.UnpackTokens(&id, packed)
		if err != nil || again.IDToken != tokens.IDToken || again.Refresh != tokens.Refresh ||
			!reflect.DeepEqual(again.Access, tokens.Access) || !reflect.DeepEqual(again.Values, tokens.Values) {
			t.Fatalf("tokens %+v, then %+v, %v", tokens, again, err)
		}
	})
}

// FuzzLoad: no header of a request makes a session but the one that was sealed.
func FuzzLoad(f *testing.F) {
	c := cookie.NewSessions(reference.options())
	value := write(f, c, newSession(f, c, reference.identity(), &cookie.Tokens{}))[sessionName]
	f.Add(sessionName+"="+value, "x=y")
	f.Add("; ;=;a=b;"+sessionName+"="+value, sessionName+"="+value)
	f.Add(sessionName+"=.; "+sessionName+".1=x", sessionName+"="+value[:40])
	for name, value := range write(f, c, newSession(f, c, reference.identity(), longTokens(5000))) {
		f.Add(name+"="+value, "")
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		req := http.Header{"Cookie": {first, second}}
		var s cookie.Session
		if c.Load(req, &s) && s.Identity != reference.identity() {
			t.Fatalf("forged %+v", s.Identity)
		}
		if s.Identity.Subject != "" && !c.Present(req) {
			t.Fatal("loaded and not present")
		}
		resp := http.Header{}
		c.Clear(resp, req)
		for _, line := range resp["Set-Cookie"] {
			if !c.Owned(line) {
				t.Fatalf("cleared %q", line)
			}
		}
	})
}

// FuzzPending: no header of a request makes a login, and none makes Set fail.
func FuzzPending(f *testing.F) {
	p, j := cookie.NewPending(pendingOptions()), jar{}
	set(f, p, j, "state", "payload")
	f.Add(j.header().Get("Cookie"), "state")
	f.Add(p.CookieName("a")+"=x; "+p.CookieName("a")+"=", "a")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, line, state string) {
		req := http.Header{"Cookie": {line}}
		if b, ok := p.Get(req, state); ok && (state != "state" || string(b) != "payload") {
			t.Fatalf("forged %q for %q", b, state)
		}
		resp := http.Header{}
		if err := p.Set(resp, req, state, []byte("new")); err != nil {
			t.Fatal(err)
		}
		p.Clear(resp, req)
	})
}
