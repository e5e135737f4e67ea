package cookie_test

import (
	"net/http"
	"testing"

	"github.com/oidcauth/oidcauth/internal/cookie"
)

func benchSession(b *testing.B) (*cookie.Sessions, *cookie.Session, http.Header) {
	c := cookie.NewSessions(reference.options())
	s := newSession(b, c, reference.identity(), reference.tokens(b))
	return c, s, write(b, c, s).header()
}

func BenchmarkPresent(b *testing.B) {
	c, _, req := benchSession(b)
	b.ReportAllocs()
	for b.Loop() {
		c.Present(req)
	}
}

func BenchmarkLoad(b *testing.B) {
	c, _, req := benchSession(b)
	b.ReportAllocs()
	for b.Loop() {
		var s cookie.Session
		if !c.Load(req, &s) {
			b.Fatal("no session")
		}
	}
}

func BenchmarkTokens(b *testing.B) {
	c, s, _ := benchSession(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Tokens(s); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRoll(b *testing.B) {
	c, s, req := benchSession(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Write(http.Header{}, req, s, 3600); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLogin(b *testing.B) {
	c, s, _ := benchSession(b)
	tokens := reference.tokens(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.SetTokens(s, tokens); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAccessTokens(b *testing.B) {
	c, s, _ := benchSession(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.AccessTokens(s); err != nil {
			b.Fatal(err)
		}
	}
}
