package op

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"time"
)

// accessToken is good until it expires or its grant ends.
type accessToken struct {
	grant   *grant
	target  target
	expires time.Time
}

// newAccessToken makes the access token of an answer, and knows it from then on.
func (p *Provider) newAccessToken(i *issue, lifetime time.Duration) (string, error) {
	now := time.Now()
	token := "at-" + random() + random()
	if i.knobs.JWTAccessTokens {
		var err error
		claims := map[string]any{ // RFC 9068 2.2
			"iss": p.config.Issuer, "sub": i.grant.login.Subject, "aud": i.target.audience, "client_id": p.config.ClientID,
			"scope": i.target.scope, "jti": random(), "iat": now.Unix(), "exp": now.Add(lifetime).Unix(),
		}
		// What the other knobs do to signatures is for ID tokens.
		token, err = p.sign(claims, &Knobs{NoKeyIDs: i.knobs.NoKeyIDs}, func(h map[string]any) { h["typ"] = "at+jwt" })
		if err != nil {
			return "", err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.access[token] = accessToken{i.grant, i.target, now.Add(lifetime)}
	return token, nil
}

// live is an access token that was issued here and is still good.
func (p *Provider) live(token string) (t accessToken, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, ok = p.access[token]
	return t, ok && !t.grant.revoked && time.Now().Before(t.expires)
}

// AccessToken tells what a live access token is for.
func (p *Provider) AccessToken(token string) (subject, audience, scope string, ok bool) {
	t, ok := p.live(token)
	if !ok {
		return "", "", "", false
	}
	return t.grant.login.Subject, t.target.audience, t.target.scope, true
}

// credential is the access token that r presents in its header (RFC 6750 2.1), or "".
func credential(r *http.Request) string {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}

// bearer is the grant of r's access token, nil if it is no good.
func (p *Provider) bearer(r *http.Request) *grant {
	t, ok := p.live(credential(r))
	if !ok || r.Form.Has("access_token") {
		return nil
	}
	return t.grant
}

// NewAPI returns a protected resource that tells what it learned from the access token.
func (p *Provider) NewAPI(audience string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		token := credential(r)
		if token == "" {
			w.Header().Set("WWW-Authenticate", "Bearer") // no error without a token (RFC 6750 3.1)
			answer(w, http.StatusUnauthorized, map[string]any{"error": "no access token"})
			return
		}
		t, ok := p.live(token)
		if !ok || t.target.audience != audience {
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_token"})
			return
		}
		sum := sha256.Sum256([]byte(token))
		answer(w, http.StatusOK, map[string]any{
			"sub": t.grant.login.Subject, "aud": audience, "scope": t.target.scope,
			"token_hash": base64.RawURLEncoding.EncodeToString(sum[:]),
		})
	})
}
