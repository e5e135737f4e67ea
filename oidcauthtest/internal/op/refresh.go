package op

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A target is what an access token is for.
type target struct{ audience, scope string }

// audience is the one that a request asks for, by RFC 8707 or in Auth0's way.
func audience(form url.Values) string { return cmp.Or(form.Get("resource"), form.Get("audience")) }

// ownAPI is the audience where none is asked for.
func (p *Provider) ownAPI() string { return strings.TrimSuffix(p.config.Issuer, "/") + "/api" }

func (p *Provider) refreshed(w http.ResponseWriter, r *http.Request) {
	tokens, code := p.renew(r.PostForm)
	if code != "" {
		refuse(w, code, "unknown, revoked or reused refresh token, or more audience or scope than was granted")
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
	if g == nil {
		return nil, "invalid_grant"
	}
	overlap := p.knobs.ReuseOverlap
	if token != g.newest && (token != g.previous || overlap == 0 || time.Since(g.rotated) > overlap) {
		p.reuses++
		g.revoked = true // the whole family goes (RFC 9700 4.14.2)
	}
	if g.revoked {
		return nil, "invalid_grant"
	}
	wanted, errorCode := p.knobs.permit(g, form)
	if errorCode != "" {
		if p.knobs.ConsumeOnRefusal && !p.knobs.KeepRefreshTokens {
			g.rotate("") // lesson 43: oidc-provider does so
		}
		return nil, errorCode
	}
	p.grants++
	return p.issue(g, wanted, false), ""
}

// permit says what the access token of a refresh is for, or which error it gets. The login's own audience has the
// login's scopes (RFC 6749 6). Another has its own, as with Auth0's multi-resource refresh tokens.
func (k *Knobs) permit(g *grant, form url.Values) (wanted target, errorCode string) {
	wanted = target{cmp.Or(audience(form), g.audience), cmp.Or(form.Get("scope"), g.scope)}
	denied := func(scope string) bool { return strings.HasPrefix(scope, "denied:") }
	switch {
	case wanted.audience == g.audience:
		if !covers(g.scope, wanted.scope) {
			return target{}, "invalid_scope"
		}
		return wanted, ""
	case k.Audiences != nil && !slices.Contains(k.Audiences, wanted.audience):
		return target{}, "invalid_target" // RFC 8707 2
	case slices.ContainsFunc(strings.Fields(wanted.scope), denied):
		return target{}, "invalid_scope"
	}
	wanted.scope = cmp.Or(k.AudienceScope, wanted.scope)
	return wanted, ""
}

// rotate replaces the newest refresh token. None is left to use if next is empty.
func (g *grant) rotate(next string) {
	g.previous, g.rotated, g.newest = g.newest, time.Now(), next
}

// issue begins an answer with tokens, and makes a refresh token unless there is to be none. p.mu is held: nothing may
// come between the check of a refresh token and its rotation.
func (p *Provider) issue(g *grant, wanted target, login bool) *issue {
	k := p.knobs
	i := &issue{grant: g, knobs: k, target: wanted, login: login}
	if !covers(g.scope, "offline_access") || k.OmitRefreshToken || !login && k.KeepRefreshTokens {
		return i
	}
	i.renews = "rt-" + random() + random()
	if k.OddRefreshTokens {
		i.renews = "rt " + random() + ` !"#$%&'()*+,-./:;<=>?@[\]^_{|}~ ` + random()
	}
	g.rotate(i.renews)
	p.refresh[i.renews] = g
	return i
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
