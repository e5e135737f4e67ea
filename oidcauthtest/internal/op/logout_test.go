package op_test

import (
	"context"
	"html"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/oidcauthtest/internal/op"
)

func TestFramesOfALogout(t *testing.T) { // Front-Channel Logout 1.0, 2
	t.Parallel()
	const issuer, sid, front = "https://op.test/", `a b&c"d`, "https://app.test/front"
	for _, tt := range []struct{ name, uri, post, src, refresh string }{
		{"and on", front, "https://app.test", front + "?iss=" + issuer + "&sid=" + sid, "0; url=https://app.test?state=s"},
		{"no way back", front, "", front + "?iss=" + issuer + "&sid=" + sid, ""},
		{"a query", front + "?a=b", "", front + "?a=b&iss=" + issuer + "&sid=" + sid, ""},
	} {
		p := newProvider(t)
		p.Change(func(k *op.Knobs) { k.FrontchannelLogoutURI, k.SID = tt.uri, sid })
		query := url.Values{"id_token_hint": {login(t, p)["id_token"].(string)}, "state": {"s"}}
		if tt.post != "" {
			query.Set("post_logout_redirect_uri", tt.post)
		}
		resp := do(p, "GET", "/end_session?"+query.Encode(), nil)
		body, _ := io.ReadAll(resp.Body)
		_, src, _ := strings.Cut(string(body), `<iframe hidden src="`)
		src, _, _ = strings.Cut(src, `"`)
		if got := html.UnescapeString(src); resp.StatusCode != 200 || got != tt.src {
			t.Errorf("%s: status %d, the frame is at %q, want %q, in %s", tt.name, resp.StatusCode, got, tt.src, body)
		}
		if got := resp.Header.Get("Refresh"); got != tt.refresh {
			t.Errorf("%s: goes on to %q, want %q", tt.name, got, tt.refresh)
		}
		resp = do(p, "GET", "/end_session?"+query.Encode(), nil)
		if body, _ := io.ReadAll(resp.Body); strings.Contains(string(body), "<iframe") {
			t.Errorf("%s: a frame although the session had ended: %s", tt.name, body)
		}
		if got := p.FrontchannelLogoutURL(""); got != tt.uri {
			t.Errorf("%s: without a sid %q, want %q", tt.name, got, tt.uri) // iss and sid together or not at all
		}
	}
}

// Only what was issued in this run names a session, also where hints are not checked.
func TestOneSessionEnds(t *testing.T) {
	t.Parallel()
	var sent []string
	p, err := op.New(op.Config{
		Issuer: "https://op.test/", ClientID: "client", ClientSecret: secret, RedirectURIs: []string{callback},
		SendLogoutToken: func(_ context.Context, _, token string) { sent = append(sent, token) },
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Change(func(k *op.Knobs) { k.BackchannelLogoutURI = "https://app.test/out" })
	var tokens []any
	for range 3 {
		p.SetUser(op.Login{Subject: "alice"})
		tokens = append(tokens, login(t, p)["id_token"])
	}
	sids := p.SIDs("alice")
	if len(sids) != 3 || len(p.SIDs("bob")) != 0 {
		t.Fatalf("sids %q of alice, %q of bob", sids, p.SIDs("bob"))
	}
	end := func(name, value string) {
		t.Helper()
		if resp := do(p, "GET", "/end_session?"+url.Values{name: {value}}.Encode(), nil); resp.StatusCode != 200 {
			t.Errorf("%s: status %d", name, resp.StatusCode)
		}
	}
	refused := url.Values{
		"id_token_hint": {tokens[0].(string)}, "post_logout_redirect_uri": {"https://evil.test/"},
	}
	if resp := do(p, "GET", "/end_session?"+refused.Encode(), nil); resp.StatusCode != 400 || len(sent) != 0 {
		t.Errorf("with a URL that is not registered: status %d, %d logout tokens", resp.StatusCode, len(sent))
	}
	end("id_token_hint", tokens[1].(string))
	end("logout_hint", sids[2])
	end("logout_hint", sids[1]) // no more
	end("id_token_hint", "a.b.c")
	end("logout_hint", "")
	var got []any
	for _, token := range sent {
		got = append(got, claimsOf(t, token)["sid"])
	}
	if !slices.Equal(got, []any{sids[1], sids[2]}) {
		t.Errorf("logout tokens for %q, want the second and third of %q", got, sids)
	}
	p.Change(func(k *op.Knobs) { k.SID = "shared" })
	for range 2 {
		login(t, p)
		sent = nil
		if end("logout_hint", "shared"); len(sent) != 1 {
			t.Errorf("%d logout tokens at the end of a login whose sid there was before, want 1", len(sent))
		}
	}
}

func TestALogoutOutlivesTheBrowsersRequest(t *testing.T) {
	t.Parallel()
	var sending error
	p, err := op.New(op.Config{
		Issuer: "https://op.test/", ClientID: "client", ClientSecret: secret, RedirectURIs: []string{callback},
		SendLogoutToken: func(ctx context.Context, _, _ string) { sending = ctx.Err() },
	})
	if err != nil {
		t.Fatal(err)
	}
	p.SetUser(op.Login{Subject: "alice"})
	p.Change(func(k *op.Knobs) { k.BackchannelLogoutURI = "https://app.test/out" })
	hint := url.Values{"id_token_hint": {login(t, p)["id_token"].(string)}}.Encode()
	sending = context.Canceled
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	do(p, "GET", "/end_session?"+hint, nil, func(r *http.Request) { *r = *r.WithContext(ctx) })
	if sending != nil {
		t.Errorf("the logout token is sent with a context that ended, or not at all: %v", sending)
	}
}

func TestTheMetadataSaysWhatReachesTheApplication(t *testing.T) {
	t.Parallel()
	tests := map[string]op.Knobs{
		"":             {},
		"backchannel":  {BackchannelLogoutURI: "https://app.test/out"},
		"frontchannel": {FrontchannelLogoutURI: "https://app.test/out"},
	}
	for name, knobs := range tests {
		p := newProvider(t)
		p.Change(func(k *op.Knobs) { *k = knobs })
		metadata := object(t, do(p, "GET", "/.well-known/openid-configuration", nil))
		for _, channel := range []string{"backchannel", "frontchannel"} {
			for _, suffix := range []string{"_logout_supported", "_logout_session_supported"} {
				if got := metadata[channel+suffix] == true; got != (channel == name) {
					t.Errorf("with %q: %s%s is %v", name, channel, suffix, got)
				}
			}
		}
	}
}
