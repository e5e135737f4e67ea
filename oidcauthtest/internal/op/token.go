package op

import (
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// token is the token endpoint (RFC 6749 3.2).
func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || !p.authenticated(w, r) {
		return
	}
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		p.exchange(w, r)
	case "refresh_token":
		p.refreshed(w, r)
	default:
		refuse(w, "unsupported_grant_type", "")
	}
}

// authenticated checks the client's credential in header or form, and answers if it is wrong.
func (p *Provider) authenticated(w http.ResponseWriter, r *http.Request) bool {
	id, secret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	if user, password, ok := r.BasicAuth(); ok {
		if r.PostForm.Has("client_secret") {
			refuse(w, "invalid_request", "two ways of client authentication")
			return false
		}
		id, _ = url.QueryUnescape(user) // RFC 6749 2.3.1
		secret, _ = url.QueryUnescape(password)
	}
	if id != p.config.ClientID || !equal(secret, p.config.ClientSecret) {
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return false
	}
	return true
}

func (p *Provider) exchange(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.codes[r.PostForm.Get("code")]
	if g == nil {
		refuse(w, "invalid_grant", "unknown code")
		return
	}
	if g.used {
		g.revoked = true // RFC 6749 4.1.2
		refuse(w, "invalid_grant", "code used twice")
		return
	}
	g.used = true
	sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
	if base64.RawURLEncoding.EncodeToString(sum[:]) != g.challenge || r.PostForm.Get("redirect_uri") != g.redirectURI {
		refuse(w, "invalid_grant", "code_verifier or redirect_uri does not match")
		return
	}
	p.issue(w, g, g.scope, true)
}

func (p *Provider) refreshed(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	token := r.PostForm.Get("refresh_token")
	g := p.refresh[token]
	switch {
	case g == nil || g.revoked:
		refuse(w, "invalid_grant", "unknown or revoked refresh token")
	case token == g.newest, token == g.previous && time.Since(g.rotated) <= p.knobs.ReuseOverlap:
		p.issue(w, g, g.scope, false)
	default:
		g.revoked = true // reuse: the whole family goes (RFC 9700 4.14.2)
		refuse(w, "invalid_grant", "refresh token reused")
	}
}

// issue answers with tokens. p.mu is held.
func (p *Provider) issue(w http.ResponseWriter, g *grant, scope string, login bool) {
	k := &p.knobs
	access := "at-" + random() + random()
	p.access[access] = g
	lifetime := k.AccessTokenLifetime
	if lifetime == 0 {
		lifetime = time.Hour
	}
	response := map[string]any{"access_token": access, "token_type": "Bearer", "scope": scope}
	if !k.OmitExpiresIn {
		response["expires_in"] = int(lifetime / time.Second)
	}
	if strings.Contains(scope, "offline_access") && !k.OmitRefreshToken && (login || !k.KeepRefreshTokens) {
		g.previous, g.rotated = g.newest, time.Now()
		g.newest = "rt-" + random() + random()
		if k.OddRefreshTokens {
			g.newest = "rt " + random() + ` !"#$%&'()*+,-./:;<=>?@[\]^_{|}~ ` + random()
		}
		p.refresh[g.newest] = g
		response["refresh_token"] = g.newest
	}
	jwt, err := p.idToken(g, access, login)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	response["id_token"] = jwt
	if k.EditTokens != nil {
		k.EditTokens(response)
	}
	answer(w, http.StatusOK, response)
}

// idToken makes an ID token (OpenID Connect Core 2). p.mu is held.
func (p *Provider) idToken(g *grant, access string, login bool) (string, error) {
	k := &p.knobs
	lifetime := k.IDTokenLifetime
	if lifetime == 0 {
		lifetime = 5 * time.Minute
	}
	now := time.Now()
	claims := map[string]any{
		"iss": p.config.Issuer, "sub": g.login.Subject, "aud": p.config.ClientID,
		"iat": now.Unix(), "exp": now.Add(lifetime).Unix(), "auth_time": g.login.At.Unix(),
	}
	if login {
		claims["nonce"] = g.nonce
	}
	if g.sid != "" {
		claims["sid"] = g.sid
	}
	if k.AtHash {
		sum := sha256.Sum256([]byte(access))
		claims["at_hash"] = base64.RawURLEncoding.EncodeToString(sum[:16])
	}
	maps.Copy(claims, g.login.Claims)
	if k.EditIDToken != nil {
		k.EditIDToken(claims)
	}
	jwt, err := p.keys.sign(claims, k)
	if err == nil && k.MangleIDToken != nil {
		jwt = k.MangleIDToken(jwt)
	}
	return jwt, err
}

// userInfo is the UserInfo endpoint (OpenID Connect Core 5.3).
func (p *Provider) userInfo(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	g := p.access[token]
	if !ok || g == nil || g.revoked || r.URL.Query().Has("access_token") {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	claims := map[string]any{"sub": g.login.Subject}
	maps.Copy(claims, g.login.Claims)
	if p.knobs.EditUserInfo != nil {
		p.knobs.EditUserInfo(claims)
	}
	if !p.knobs.SignUserInfo {
		answer(w, http.StatusOK, claims)
		return
	}
	claims["iss"], claims["aud"] = p.config.Issuer, p.config.ClientID
	jwt, err := p.keys.sign(claims, &p.knobs)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/jwt")
	_, _ = w.Write([]byte(jwt))
}

// revoke is the revocation endpoint (RFC 7009).
func (p *Provider) revoke(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || !p.authenticated(w, r) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.refresh[r.PostForm.Get("token")]; g != nil {
		g.revoked = true
	}
	w.WriteHeader(http.StatusOK)
}

func refuse(w http.ResponseWriter, code, description string) {
	answer(w, http.StatusBadRequest, map[string]any{"error": code, "error_description": description})
}
