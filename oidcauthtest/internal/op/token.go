package op

import (
	"cmp"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// token is the token endpoint (RFC 6749 3.2).
func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	if !p.clientRequest(w, r) {
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

// clientRequest answers what is no form of the client's, and reports whether there is more to do.
func (p *Provider) clientRequest(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		http.Error(w, "POST only", http.StatusMethodNotAllowed)
		return false
	}
	if name := doubled(r.PostForm); name != "" { // RFC 6749 3.2
		refuse(w, "invalid_request", name+" is there twice")
		return false
	}
	return p.authenticated(w, r)
}

// authenticated checks the client's credential in header or form (RFC 6749 2.3.1), and answers if it is wrong.
func (p *Provider) authenticated(w http.ResponseWriter, r *http.Request) bool {
	k, _ := p.now()
	id, secret, method := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret"), "none"
	if r.PostForm.Has("client_secret") {
		method = "client_secret_post"
	}
	if user, password, ok := r.BasicAuth(); ok {
		if method != "none" {
			refuse(w, "invalid_request", "two ways of client authentication")
			return false
		}
		named := id
		method = "client_secret_basic"
		id, _ = url.QueryUnescape(user) // CS-07; what is not encoded well is not the client's
		secret, _ = url.QueryUnescape(password)
		if named != "" && named != id {
			id = "" // two clients are none
		}
	}
	if id != p.config.ClientID || !equal(secret, p.config.ClientSecret) || !slices.Contains(p.authMethods(&k), method) {
		w.Header().Set("WWW-Authenticate", "Basic")
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return false
	}
	return true
}

// An issue is one answer with tokens that is being made.
type issue struct {
	*grant
	knobs                   Knobs
	granted, access, renews string // scope, access token, refresh token
	lifetime                time.Duration
	login                   bool // and not a refresh
}

// accessToken is good until it expires or its grant ends.
type accessToken struct {
	grant   *grant
	expires time.Time
}

func (p *Provider) exchange(w http.ResponseWriter, r *http.Request) {
	tokens, problem := p.redeem(r.PostForm)
	if problem != "" {
		refuse(w, "invalid_grant", problem)
		return
	}
	p.send(w, tokens)
}

// redeem uses up a code.
func (p *Provider) redeem(form url.Values) (tokens *issue, problem string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.codes[form.Get("code")]
	if g == nil {
		return nil, "unknown code"
	}
	if g.used {
		g.revoked = true // RFC 6749 4.1.2
		return nil, "code used twice"
	}
	g.used = true
	sum := sha256.Sum256([]byte(form.Get("code_verifier")))
	switch {
	case time.Since(g.begun) >= time.Minute:
		return nil, "code expired"
	case base64.RawURLEncoding.EncodeToString(sum[:]) != g.challenge || form.Get("redirect_uri") != g.redirectURI:
		return nil, "code_verifier or redirect_uri does not match"
	}
	return p.issue(g, g.scope, true), ""
}

func (p *Provider) refreshed(w http.ResponseWriter, r *http.Request) {
	tokens, code := p.renew(r.PostForm)
	if code != "" {
		refuse(w, code, "unknown, revoked or reused refresh token, or more scope than was granted")
		return
	}
	p.send(w, tokens)
}

// renew uses a refresh token.
func (p *Provider) renew(form url.Values) (tokens *issue, errorCode string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	token := form.Get("refresh_token")
	g := p.refresh[token]
	if g == nil || g.revoked {
		return nil, "invalid_grant"
	}
	scope := cmp.Or(form.Get("scope"), g.scope)
	if !covers(g.scope, scope) {
		return nil, "invalid_scope" // RFC 6749 6
	}
	overlap := p.knobs.ReuseOverlap
	if token != g.newest && (token != g.previous || overlap == 0 || time.Since(g.rotated) > overlap) {
		g.revoked = true // reuse: the whole family goes (RFC 9700 4.14.2)
		return nil, "invalid_grant"
	}
	return p.issue(g, scope, false), ""
}

// covers reports whether all of asked was granted.
func covers(granted, asked string) bool {
	have := strings.Fields(granted)
	return !slices.ContainsFunc(strings.Fields(asked), func(scope string) bool { return !slices.Contains(have, scope) })
}

// issue makes an access token, and a refresh token unless there is to be none. p.mu is held: nothing may come between
// the check of a refresh token and its rotation.
func (p *Provider) issue(g *grant, scope string, login bool) *issue {
	k := p.knobs
	i := &issue{grant: g, knobs: k, granted: scope, login: login, lifetime: cmp.Or(k.AccessTokenLifetime, time.Hour)}
	i.access = "at-" + random() + random()
	p.access[i.access] = accessToken{g, time.Now().Add(i.lifetime)}
	if !covers(g.scope, "offline_access") || k.OmitRefreshToken || !login && k.KeepRefreshTokens {
		return i
	}
	i.renews = "rt-" + random() + random()
	if k.OddRefreshTokens {
		i.renews = "rt " + random() + ` !"#$%&'()*+,-./:;<=>?@[\]^_{|}~ ` + random()
	}
	g.previous, g.rotated, g.newest = g.newest, time.Now(), i.renews
	p.refresh[i.renews] = g
	return i
}

// send answers with tokens (RFC 6749 5.1).
func (p *Provider) send(w http.ResponseWriter, i *issue) {
	response := map[string]any{"access_token": i.access, "token_type": "Bearer", "scope": i.granted}
	if !i.knobs.OmitExpiresIn {
		response["expires_in"] = int(i.lifetime / time.Second)
	}
	if i.renews != "" {
		response["refresh_token"] = i.renews
	}
	jwt, err := p.idToken(i)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	response["id_token"] = jwt
	if i.knobs.EditTokens != nil {
		i.knobs.EditTokens(response)
	}
	answer(w, http.StatusOK, response)
}

// idToken makes an ID token (OpenID Connect Core 2).
func (p *Provider) idToken(i *issue) (string, error) {
	k, now := &i.knobs, time.Now()
	claims := map[string]any{}
	if !k.ClaimsByScope {
		maps.Copy(claims, i.grant.login.Claims)
	}
	maps.Copy(claims, map[string]any{
		"iss": p.config.Issuer, "sub": i.grant.login.Subject, "aud": p.config.ClientID, "iat": now.Unix(),
		"exp": now.Add(cmp.Or(k.IDTokenLifetime, 5*time.Minute)).Unix(), "auth_time": i.grant.login.At.Unix(),
		"at_hash": halfHash(k.alg(), i.access),
	})
	if i.login && i.nonce != "" { // not in a refresh (OpenID Connect Core 12.2)
		claims["nonce"] = i.nonce
	}
	if i.sid != "" {
		claims["sid"] = i.sid
	}
	if k.EditIDToken != nil {
		k.EditIDToken(claims)
	}
	if k.RotateKeysBeforeSigning {
		if err := p.RotateKeys(); err != nil {
			return "", err
		}
	}
	jwt, err := p.sign(claims, k, k.EditHeader)
	if err != nil {
		return "", err
	}
	if k.MangleIDToken != nil {
		jwt = k.MangleIDToken(jwt)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idTokens[jwt] = true
	return jwt, nil
}

// halfHash is at_hash (OpenID Connect Core 3.1.3.6).
func halfHash(alg, token string) string {
	if alg == "EdDSA" || strings.HasSuffix(alg, "512") {
		sum := sha512.Sum512([]byte(token))
		return base64.RawURLEncoding.EncodeToString(sum[:32])
	}
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// bearer is the grant of r's access token, nil if it is no good.
func (p *Provider) bearer(r *http.Request) *grant {
	p.mu.Lock()
	defer p.mu.Unlock()
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	t := p.access[token]
	if !ok || t.grant == nil || t.grant.revoked || !time.Now().Before(t.expires) || r.Form.Has("access_token") {
		return nil
	}
	return t.grant
}

// userInfo is the UserInfo endpoint (OpenID Connect Core 5.3).
func (p *Provider) userInfo(w http.ResponseWriter, r *http.Request) {
	g := p.bearer(r)
	if g == nil {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	k, _ := p.now()
	claims := map[string]any{}
	for name, value := range g.login.Claims {
		if scope, ok := scopeOf[name]; !k.ClaimsByScope || !ok || covers(g.scope, scope) {
			claims[name] = value
		}
	}
	claims["sub"] = g.login.Subject
	if k.EditUserInfo != nil {
		k.EditUserInfo(claims)
	}
	if !k.SignUserInfo {
		answer(w, http.StatusOK, claims)
		return
	}
	claims["iss"], claims["aud"] = p.config.Issuer, p.config.ClientID
	jwt, err := p.sign(claims, &k, nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/jwt")
	_, _ = w.Write([]byte(jwt)) // an error means that the client is gone
}

// scopeOf are the scopes that claims belong to (OpenID Connect Core 5.4).
var scopeOf = map[string]string{
	"name": "profile", "family_name": "profile", "given_name": "profile", "middle_name": "profile", "nickname": "profile",
	"preferred_username": "profile", "profile": "profile", "picture": "profile", "website": "profile", "gender": "profile",
	"birthdate": "profile", "zoneinfo": "profile", "locale": "profile", "updated_at": "profile",
	"email": "email", "email_verified": "email", "address": "address", "phone_number": "phone",
	"phone_number_verified": "phone",
}

// revoke is the revocation endpoint (RFC 7009).
func (p *Provider) revoke(w http.ResponseWriter, r *http.Request) {
	if !p.clientRequest(w, r) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.refresh[r.PostForm.Get("token")]; g != nil {
		g.revoked = true
	}
	delete(p.access, r.PostForm.Get("token"))
	w.WriteHeader(http.StatusOK)
}

func refuse(w http.ResponseWriter, code, description string) {
	answer(w, http.StatusBadRequest, map[string]any{"error": code, "error_description": description})
}
