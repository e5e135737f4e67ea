package op_test

import (
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth/oidcauthtest/internal/op"
)

func TestRefreshTokensRotate(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	first := login(t, p)
	second := object(t, refresh(p, first["refresh_token"]))
	if second["refresh_token"] == first["refresh_token"] || second["access_token"] == first["access_token"] {
		t.Error("a refresh brought the same tokens again")
	}
	claims := claimsOf(t, second["id_token"])
	if claims["sub"] != "alice" || claims["nonce"] != nil { // OpenID Connect Core 12.2
		t.Errorf("claims after a refresh: %v", claims)
	}
	if resp := refresh(p, first["refresh_token"]); resp.StatusCode != 400 {
		t.Errorf("reuse: status %d, want 400", resp.StatusCode)
	}
	// RFC 9700 4.14.2: the family ends.
	if resp := refresh(p, second["refresh_token"]); resp.StatusCode != 400 {
		t.Errorf("the newest after a reuse: status %d, want 400", resp.StatusCode)
	}
	if resp := do(p, "GET", "/userinfo", nil, bearer(second["access_token"].(string))); resp.StatusCode != 401 {
		t.Errorf("userinfo after a reuse: status %d, want 401", resp.StatusCode)
	}
}

func TestScopeIsNotWidenedByARefresh(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	token := login(t, p)["refresh_token"].(string)
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "scope": {"openid admin"}}
	if body := object(t, do(p, "POST", "/token", form, client)); body["error"] != "invalid_scope" { // RFT-01
		t.Errorf("a wider scope: %v, want invalid_scope", body)
	}
	form.Set("scope", "openid")
	if body := object(t, do(p, "POST", "/token", form, client)); body["scope"] != "openid" {
		t.Errorf("a narrower scope: %v", body)
	}
}

func TestOfflineAccessIsAWord(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	code := authorize(t, p, set("scope", "openid not_offline_access")).Get("code")
	if body := object(t, do(p, "POST", "/token", exchange(code, nil), client)); body["refresh_token"] != nil {
		t.Error("a refresh token nobody asked for")
	}
}

func TestRevocation(t *testing.T) { // RFC 7009
	t.Parallel()
	p := newProvider(t)
	tokens := login(t, p)
	form := url.Values{"token": {tokens["refresh_token"].(string)}}
	if resp := do(p, "POST", "/revoke", form, basic("client", "x")); resp.StatusCode != 401 ||
		p.ActiveRefreshTokens("alice") != 1 {
		t.Errorf("with a wrong secret: status %d, %d active", resp.StatusCode, p.ActiveRefreshTokens("alice"))
	}
	if resp := do(p, "POST", "/revoke", form, client); resp.StatusCode != 200 || p.ActiveRefreshTokens("alice") != 0 {
		t.Errorf("status %d, %d active", resp.StatusCode, p.ActiveRefreshTokens("alice"))
	}
	if resp := do(p, "GET", "/userinfo", nil, bearer(tokens["access_token"].(string))); resp.StatusCode != 401 {
		t.Errorf("userinfo after the revocation: status %d, want 401", resp.StatusCode)
	}
	if resp := do(p, "POST", "/revoke", url.Values{"token": {"x"}}, client); resp.StatusCode != 200 {
		t.Errorf("unknown token: status %d, want 200", resp.StatusCode)
	}
	other := login(t, p)
	do(p, "POST", "/revoke", url.Values{"token": {other["access_token"].(string)}}, client)
	if resp := do(p, "GET", "/userinfo", nil, bearer(other["access_token"].(string))); resp.StatusCode != 401 {
		t.Errorf("a revoked access token: status %d, want 401", resp.StatusCode)
	}
}

func TestOverlapAndReuse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		p.Change(func(k *op.Knobs) { k.ReuseOverlap = 30 * time.Second })
		first := login(t, p)
		second := object(t, refresh(p, first["refresh_token"]))
		time.Sleep(30 * time.Second)
		if resp := refresh(p, first["refresh_token"]); resp.StatusCode != 200 {
			t.Errorf("within the overlap: status %d, want 200", resp.StatusCode)
		}
		time.Sleep(31 * time.Second)
		if resp := refresh(p, first["refresh_token"]); resp.StatusCode != 400 || p.ActiveRefreshTokens("alice") != 0 {
			t.Errorf("after the overlap: status %d with %d active, want 400 and none", resp.StatusCode,
				p.ActiveRefreshTokens("alice"))
		}
		if resp := refresh(p, second["refresh_token"]); resp.StatusCode != 400 {
			t.Errorf("the newest after a reuse: status %d, want 400", resp.StatusCode)
		}
	})
}

func TestTheOverlapEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		p.Change(func(k *op.Knobs) { k.ReuseOverlap = 30 * time.Second })
		first := login(t, p)["refresh_token"]
		refresh(p, first)
		time.Sleep(30*time.Second + 1)
		if resp := refresh(p, first); resp.StatusCode != 400 || p.ActiveRefreshTokens("alice") != 0 {
			t.Errorf("status %d with %d active, want 400 and none", resp.StatusCode, p.ActiveRefreshTokens("alice"))
		}
	})
}

func TestWithoutRotationATokenStays(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.Change(func(k *op.Knobs) { k.KeepRefreshTokens = true })
	first := login(t, p)
	for range 3 {
		if body := object(t, refresh(p, first["refresh_token"])); body["access_token"] == nil ||
			body["refresh_token"] != nil {
			t.Errorf("got %v, want an access token alone", body)
		}
	}
}

func TestOddRefreshTokensSurviveAForm(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.Change(func(k *op.Knobs) { k.OddRefreshTokens = true })
	token := login(t, p)["refresh_token"].(string)
	if !strings.Contains(token, " ") || strings.ContainsFunc(token, func(r rune) bool { return r < ' ' || r > '~' }) {
		t.Errorf("%q is not printable ASCII with a space", token)
	}
	if resp := refresh(p, token); resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestReuseIsNoticedAtTheSameInstant(t *testing.T) { // time stands still in a bubble
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		first := login(t, p)["refresh_token"]
		refresh(p, first)
		if resp := refresh(p, first); resp.StatusCode != 400 || p.ActiveRefreshTokens("") != 0 {
			t.Errorf("status %d with %d active, want 400 and none", resp.StatusCode, p.ActiveRefreshTokens(""))
		}
	})
}

func TestOfManyRefreshesAtOnceOneSucceeds(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	token := login(t, p)["refresh_token"]
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		good int
	)
	for range 20 {
		wg.Go(func() {
			if refresh(p, token).StatusCode == 200 {
				mu.Lock()
				good++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if good != 1 {
		t.Errorf("%d refreshes with one token succeed, want 1", good)
	}
}
