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
	knobs          Knobs
	target         target
	access, renews string // access token, refresh token
	login          bool   // and not a refresh
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
	return p.issue(g, target{g.audience, g.scope}, true), ""
}

// covers reports whether all of asked was granted.
func covers(granted, asked string) bool {
	have := strings.Fields(granted)
	return !slices.ContainsFunc(strings.Fields(asked), func(scope string) bool { return !slices.Contains(have, scope) })
}

// send answers with tokens (RFC 6749 5.1).
func (p *Provider) send(w http.ResponseWriter, i *issue) {
	lifetime := cmp.Or(i.knobs.AccessTokenLifetime, time.Hour)
	var err error
	if i.access, err = p.newAccessToken(i, lifetime); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	response := map[string]any{"access_token": i.access, "token_type": "Bearer", "scope": i.target.scope}
	if !i.knobs.OmitExpiresIn {
		response["expires_in"] = int(lifetime / time.Second)
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
	p.idTokens[jwt] = i.grant
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

func refuse(w http.ResponseWriter, code, description string) {
	answer(w, http.StatusBadRequest, map[string]any{"error": code, "error_description": description})
}
