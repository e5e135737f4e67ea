package idp_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth/internal/idp"
)

const wellKnown = "/.well-known/openid-configuration"

func TestMetadata(t *testing.T) {
	t.Parallel()
	op := newFakeOP()
	op.set(wellKnown, says(metadata(object{
		"scopes_supported":                               []string{"openid"},
		"token_endpoint_auth_methods_supported":          []string{"client_secret_post"},
		"code_challenge_methods_supported":               []string{"plain", "S256"},
		"authorization_response_iss_parameter_supported": true,
		"some_extension":                                 object{"a": 1},
	})))
	m, err := op.client().Metadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := []string{
		m.Issuer, m.AuthorizationEndpoint, m.TokenEndpoint, m.JWKSURI, m.UserInfoEndpoint, m.EndSessionEndpoint,
		m.RevocationEndpoint, m.ScopesSupported[0], m.TokenEndpointAuthMethods[0], m.IDTokenSigningAlgs[0],
		m.CodeChallengeMethods[1],
	}
	want := "https://op.example/ https://op.example/authorize https://op.example/token https://op.example/jwks " +
		"https://op.example/userinfo https://op.example/logout https://op.example/revoke " +
		"openid client_secret_post RS256 S256"
	if strings.Join(got, " ") != want || !m.IssParameterSupported || m.RequirePAR {
		t.Errorf("got %+v", m)
	}
}

func TestAbsentListsAreNil(t *testing.T) {
	t.Parallel()
	op := newFakeOP()
	op.set(wellKnown, says(metadata(object{
		"id_token_signing_alg_values_supported": nil,
		"scopes_supported":                      []string{},
	})))
	m, err := op.client().Metadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m.IDTokenSigningAlgs != nil || m.CodeChallengeMethods != nil || m.ScopesSupported == nil {
		t.Errorf("got %+v: absent must be nil, present and empty must not", m)
	}
}

// DISC-02
func TestMetadataAddress(t *testing.T) {
	t.Parallel()
	for iss, want := range map[string]string{
		"https://op.example":            wellKnown,
		"https://op.example/":           wellKnown,
		"https://op.example/realms/a":   "/realms/a" + wellKnown,
		"https://op.example/realms/a/":  "/realms/a" + wellKnown,
		"https://op.example/realms/a//": "/realms/a/" + wellKnown,
	} {
		op := newFakeOP()
		op.set(want, says(metadata(object{"issuer": iss})))
		p := idp.New(op.config(func(c *idp.Config) { c.Issuer = iss }))
		if _, err := p.Metadata(t.Context()); err != nil {
			t.Errorf("%s: %v", iss, err)
		}
	}
}

// DISC-03, DISC-04, DISC-05, DISC-06
func TestMetadataThatIsRefused(t *testing.T) {
	t.Parallel()
	document := func(edit object) http.HandlerFunc { return says(metadata(edit)) }
	type row struct {
		answer http.HandlerFunc
		config func(*idp.Config)
		want   []string // in the error; none: accepted
	}
	rows := map[string]row{
		"good": {answer: document(nil)},
		"optional absent": {
			answer: document(object{"userinfo_endpoint": nil, "end_session_endpoint": nil, "revocation_endpoint": nil}),
		},
		"query allowed": {answer: document(object{"authorization_endpoint": issuer + "authorize?tenant=1"})},

		// DISC-03: both strings, and what to do.
		"issuer of the suite": {
			answer: document(object{"issuer": issuer + "INVALID"}),
			want:   []string{issuer + "INVALID", `"` + issuer + `"`},
		},
		"issuer without slash": {
			answer: document(object{"issuer": "https://op.example"}),
			want:   []string{`"https://op.example"`, `"https://op.example/"`, "slash"},
		},
		"issuer in capitals": {
			answer: document(object{"issuer": "https://OP.example/"}), want: []string{"issuer"},
		},
		"issuer missing":      {answer: document(object{"issuer": nil}), want: []string{"issuer"}},
		"issuer not a string": {answer: document(object{"issuer": []string{issuer}}), want: []string{"issuer"}},
		"issuer in other letters": {
			answer: document(object{"issuer": nil, "Issuer": issuer}), want: []string{"issuer"},
		},
		"issuer twice": {
			answer: says(`{"issuer":"https://op.example/","issuer":"https://op.example/"}`),
			want:   []string{"twice"},
		},

		// DISC-04
		"not found": {answer: status(404, metadata(nil)), want: []string{"404"}},
		"accepted":  {answer: status(202, metadata(nil)), want: []string{"202"}},
		"html":      {answer: says("<html>"), want: []string{"JSON"}},
		"array":     {answer: says("[]"), want: []string{"JSON"}},
		"nothing":   {answer: says(""), want: []string{"JSON"}},
		"with tail": {answer: says(string(must(json.Marshal(metadata(nil)))) + "{}"), want: []string{"JSON"}},
		"cut off": {
			answer: says(strings.TrimSuffix(string(must(json.Marshal(metadata(nil)))), "}")),
			want:   []string{"JSON"},
		},
		"list wrong": {
			answer: document(object{"scopes_supported": []any{"openid", nil}}), want: []string{"scopes_supported"},
		},
		"bool wrong": {
			answer: document(object{"require_pushed_authorization_requests": "true"}),
			want:   []string{"require_pushed"},
		},

		// DISC-06, as corrected by security.md
		"no challenge methods": {answer: document(object{"code_challenge_methods_supported": nil})},
		"methods with S256":    {answer: document(object{"code_challenge_methods_supported": []string{"S256"}})},
		"methods without S256": {
			answer: document(object{"code_challenge_methods_supported": []string{"plain"}}), want: []string{"S256"},
		},
		"methods empty": {
			answer: document(object{"code_challenge_methods_supported": []string{}}), want: []string{"S256"},
		},
		"algorithms without ours": {
			answer: document(object{"id_token_signing_alg_values_supported": []string{"ES256", "PS256"}}),
			want:   []string{"ES256", "PS256", "RS256"},
		},
		"one of ours": {
			answer: document(object{"id_token_signing_alg_values_supported": []string{"ES256"}}),
			config: func(c *idp.Config) { c.SigningAlgs = []string{"RS256", "ES256"} },
		},
		"PAR required": {
			answer: document(object{"require_pushed_authorization_requests": true}),
			want:   []string{"pushed authorization requests", "not supported"},
		},
		"PAR offered": {
			answer: document(object{"pushed_authorization_request_endpoint": issuer + "par"}),
		},
	}
	// DISC-05
	for _, name := range []string{"authorization_endpoint", "token_endpoint", "jwks_uri"} {
		rows[name+" missing"] = row{answer: document(object{name: nil}), want: []string{name, "missing"}}
	}
	for _, name := range []string{
		"authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint", "end_session_endpoint",
		"revocation_endpoint",
	} {
		for kind, url := range map[string]any{
			"http": "http://op.example/x", "relative": "/x", "without host": "https:///x", "fragment": issuer + "#x",
			"user": "https://u:p@op.example/x", "script": "javascript:alert(1)", "number": 1,
		} {
			rows[name+" "+kind] = row{answer: document(object{name: url}), want: []string{name}}
		}
		rows[name+" on loopback"] = row{answer: document(object{name: "http://localhost:8080/x"})}
		rows[name+" over http, allowed"] = row{
			answer: document(object{name: "http://op.example/x"}), config: func(c *idp.Config) { c.AllowHTTP = true },
		}
	}
	for name, c := range rows {
		t.Run(name, func(t *testing.T) {
			op := newFakeOP()
			op.set(wellKnown, c.answer)
			m, err := idp.New(op.config(c.config)).Metadata(t.Context())
			if c.want == nil {
				if err != nil || m == nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			wantError(t, err, c.want...)
			if errors.Is(err, idp.ErrUnreachable) {
				t.Errorf("called unreachable: %v", err)
			}
		})
	}
}

// DISC-07
func TestMetadataIsCachedAndRefreshed(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		op := newFakeOP()
		p := op.client()
		for _, c := range []struct {
			wait time.Duration
			want int
		}{{0, 1}, {0, 1}, {time.Hour - time.Second, 1}, {time.Second, 2}, {time.Minute, 2}} {
			time.Sleep(c.wait)
			if _, err := p.Metadata(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := op.count(wellKnown); n != c.want {
				t.Errorf("after another %v: %d fetches, want %d", c.wait, n, c.want)
			}
		}
	})
}

// DISC-07: down at boot, up later; asked once a second at most.
func TestFailureIsNotPermanent(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		op := newFakeOP()
		op.set(wellKnown, status(503, ""))
		p := op.client()
		for range 100 {
			if _, err := p.Metadata(t.Context()); !errors.Is(err, idp.ErrUnreachable) {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := op.count(wellKnown); n != 10 {
			t.Errorf("%d attempts in ten seconds, want 10", n)
		}
		op.set(wellKnown, says(metadata(nil)))
		time.Sleep(time.Second)
		if _, err := p.Metadata(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// DISC-07, THR-41
func TestStaleMetadataOutlivesAnOutage(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"down": status(500, ""),
		"html": says("<html>"),
		"another issuer": says(metadata(object{
			"issuer": "https://evil.example/", "token_endpoint": "https://evil.example/",
		})),
		"hangs": hangs,
	} {
		bubble(t, name, func(t *testing.T) {
			op := newFakeOP()
			p := op.client()
			if _, err := p.Metadata(t.Context()); err != nil {
				t.Fatal(err)
			}
			op.set(wellKnown, answer)
			time.Sleep(time.Hour)
			before, start := op.count(wellKnown), time.Now()
			for range 100 {
				m, err := p.Metadata(t.Context())
				if err != nil || m.TokenEndpoint != issuer+"token" {
					t.Fatalf("got %+v, %v", m, err)
				}
			}
			if n := op.count(wellKnown) - before; n != 1 || time.Since(start) > 10*time.Second {
				t.Errorf("%d attempts in %v", n, time.Since(start))
			}
			time.Sleep(22 * time.Hour)
			if _, err := p.Metadata(t.Context()); err != nil {
				t.Errorf("within a day: %v", err)
			}
			time.Sleep(2 * time.Hour)
			if _, err := p.Metadata(t.Context()); err == nil {
				t.Error("a document of yesterday is still served")
			}
			op.set(wellKnown, says(metadata(nil)))
			time.Sleep(time.Second)
			if _, err := p.Metadata(t.Context()); err != nil {
				t.Errorf("after the outage: %v", err)
			}
		})
	}
}

// While one request waits for a provider that hangs, others get the stale document at once.
func TestStaleMetadataIsServedDuringARefresh(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		op := newFakeOP()
		p := op.client()
		if _, err := p.Metadata(t.Context()); err != nil {
			t.Fatal(err)
		}
		op.set(wellKnown, hangs)
		time.Sleep(time.Hour)
		go p.Metadata(t.Context())
		synctest.Wait()
		start := time.Now()
		if _, err := p.Metadata(t.Context()); err != nil || time.Since(start) != 0 {
			t.Errorf("waited %v: %v", time.Since(start), err)
		}
		time.Sleep(time.Minute)
	})
}

func TestConcurrentDiscoveryIsOneRequest(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		op := newFakeOP()
		good := says(metadata(nil))
		op.set(wellKnown, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(5 * time.Second)
			good(w, r)
		})
		p := op.client()
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				ctx := t.Context()
				if i%2 == 0 { // the first among them: its giving up does not fail the others
					var cancel func()
					ctx, cancel = context.WithTimeout(ctx, time.Second)
					defer cancel()
				}
				_, err := p.Metadata(ctx)
				if gaveUp := errors.Is(err, context.DeadlineExceeded); gaveUp != (i%2 == 0) || err != nil && !gaveUp {
					t.Errorf("caller %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if n := op.count(wellKnown); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	})
}

// A document is accepted only with the configured issuer and safe endpoints.
func FuzzMetadata(f *testing.F) {
	f.Add(must(json.Marshal(metadata(nil))))
	f.Add(must(json.Marshal(metadata(object{"issuer": "https://op.example", "token_endpoint": "http://op.example/"}))))
	f.Add([]byte(`{"issuer":"https://op.example/","ISSUER":1,"jwks_uri":null}`))
	op := newFakeOP()
	f.Fuzz(func(t *testing.T, doc []byte) {
		op.set(wellKnown, says(string(doc)))
		m, err := op.client().Metadata(t.Context())
		if err != nil {
			return
		}
		for _, url := range []string{m.AuthorizationEndpoint, m.TokenEndpoint, m.JWKSURI} {
			scheme, _, _ := strings.Cut(url, "://")
			if scheme = strings.ToLower(scheme); scheme != "https" && scheme != "http" {
				t.Errorf("accepted %q", doc)
			}
		}
		if m.Issuer != issuer {
			t.Errorf("accepted %q", doc)
		}
	})
}
