package op

import (
	"context"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// logoutEvent is the member of events that makes a logout token (OpenID Connect Back-Channel Logout 1.0 2.4).
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// newSID is the sid of a login, "" if it has none.
func (k *Knobs) newSID() string {
	switch {
	case k.SID != "":
		return strings.TrimPrefix(k.SID, "-")
	case k.OddSIDs:
		return random() + ` !"#$%&'()*+,-./:;<=>?@[\]^_{|}~ ` + random()
	}
	return random()
}

// logouts are what the metadata says of logouts that reach the application.
func (k *Knobs) logouts() map[string]any {
	metadata := map[string]any{}
	if k.BackchannelLogoutURI != "" {
		metadata["backchannel_logout_supported"], metadata["backchannel_logout_session_supported"] = true, true
	}
	if k.FrontchannelLogoutURI != "" {
		metadata["frontchannel_logout_supported"], metadata["frontchannel_logout_session_supported"] = true, true
	}
	return metadata
}

// SIDs are those of a subject's logins, newest last.
func (p *Provider) SIDs(subject string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var sids []string
	for _, g := range p.logins {
		if g.login.Subject == subject && g.sid != "" {
			sids = append(sids, g.sid)
		}
	}
	return sids
}

// LogoutToken makes a logout token (OpenID Connect Back-Channel Logout 1.0 2.4). An empty subject or sid leaves the
// claim out. The edits follow that of the knobs.
func (p *Provider) LogoutToken(subject, sid string, edits ...func(header, claims map[string]any)) (string, error) {
	k, _ := p.now()
	key, id, err := p.private(&k)
	if err != nil {
		return "", err
	}
	header := map[string]any{"alg": k.alg(), "typ": "logout+jwt"}
	if k.NoKeyIDs == 0 {
		header["kid"] = id
	}
	now := time.Now()
	claims := map[string]any{
		"iss": p.config.Issuer, "aud": p.config.ClientID, "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(),
		"jti": random(), "events": map[string]any{logoutEvent: map[string]any{}},
	}
	if subject != "" {
		claims["sub"] = subject
	}
	if sid != "" {
		claims["sid"] = sid
	}
	for _, edit := range slices.Concat([]func(header, claims map[string]any){k.EditLogoutToken}, edits) {
		if edit != nil {
			edit(header, claims)
		}
	}
	if alg, ok := header["alg"].(string); ok && alg != k.alg() && alg != "none" {
		k.SigningAlg = alg
		before := id
		if key, id, err = p.private(&k); err != nil {
			return "", err
		}
		if header["kid"] == before { // as nobody has changed it
			header["kid"] = id
		}
	}
	return compact(header, claims, k.alg(), key)
}

// endSession ends the session that the request names, and sends the browser back to a registered URL (OpenID Connect
// RP-Initiated Logout 1.0 sections 2 and 3).
func (p *Provider) endSession(w http.ResponseWriter, r *http.Request) {
	if name := doubled(r.Form); name != "" {
		http.Error(w, "parameter "+name+" occurs twice", http.StatusBadRequest)
		return
	}
	hint, target := r.Form.Get("id_token_hint"), r.Form.Get("post_logout_redirect_uri")
	p.mu.Lock()
	issued := p.idTokens[hint] != nil
	p.mu.Unlock()
	if hint != "" && !issued && p.config.CheckHints {
		http.Error(w, "the id_token_hint was not issued here", http.StatusBadRequest)
		return
	}
	// A hint names the client as well.
	client := r.Form.Get("client_id") == p.config.ClientID || issued && !r.Form.Has("client_id")
	if target != "" && (!client || !p.registered(target, true)) {
		http.Error(w, "unknown client_id, or post-logout URL that is not registered", http.StatusBadRequest)
		return
	}
	ended := p.end(hint, r.Form.Get("logout_hint"))
	k, _ := p.now()
	if ended != nil && k.BackchannelLogoutURI != "" && p.config.SendLogoutToken != nil {
		token, err := p.LogoutToken(ended.login.Subject, ended.sid)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		p.config.SendLogoutToken(context.WithoutCancel(r.Context()), k.BackchannelLogoutURI, token)
	}
	if ended != nil && k.FrontchannelLogoutURI != "" {
		p.framed(w, p.FrontchannelLogoutURL(ended.sid), p.target(target, r.Form.Get("state")))
		return
	}
	p.loggedOut(w, r, target, r.Form.Get("state"))
}

// end ends the session of an ID token, or else of the sid that is the logout_hint, as Auth0 has it. It returns nil if
// there is none, or no more.
func (p *Provider) end(idToken, sid string) *grant {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.idTokens[idToken]
	if g == nil && sid != "" {
		if i := slices.IndexFunc(p.logins, func(g *grant) bool { return g.sid == sid && !g.ended }); i >= 0 {
			g = p.logins[i]
		}
	}
	if g == nil || g.ended {
		return nil
	}
	g.ended = true
	return g
}

// v2Logout is Auth0's older logout: it compares URLs without their query and knows no state.
func (p *Provider) v2Logout(w http.ResponseWriter, r *http.Request) {
	target := r.Form.Get("returnTo")
	compared, _, _ := strings.Cut(target, "?")
	if target != "" && (r.Form.Get("client_id") != p.config.ClientID || !p.registered(compared, true)) {
		http.Error(w, "unknown client_id, or returnTo that is not registered", http.StatusBadRequest)
		return
	}
	p.loggedOut(w, r, target, "")
}

// loggedOut sends the browser to target, which is registered, or says that it is signed out.
func (p *Provider) loggedOut(w http.ResponseWriter, r *http.Request, target, state string) {
	if target = p.target(target, state); target == "" {
		answer(w, http.StatusOK, map[string]any{"signed_out": true})
		return
	}
	redirect(w, r, target)
}

// target is a post-logout URL with what the application gets there, or "".
func (p *Provider) target(registered, state string) string {
	u, err := url.Parse(registered)
	if registered == "" || err != nil {
		return ""
	}
	query := u.Query()
	if state != "" {
		query.Set("state", state)
	}
	if k, _ := p.now(); k.EditLogout != nil {
		k.EditLogout(query)
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// FrontchannelLogoutURL is where a frame tells the application that a session has ended (OpenID Connect Front-Channel
// Logout 1.0 2). Nothing in it is escaped: the conformance suite does not do so either.
func (p *Provider) FrontchannelLogoutURL(sid string) string {
	k, _ := p.now()
	if sid == "" || k.FrontchannelLogoutURI == "" {
		return k.FrontchannelLogoutURI
	}
	sep := "?"
	if strings.Contains(k.FrontchannelLogoutURI, "?") {
		sep = "&"
	}
	return k.FrontchannelLogoutURI + sep + "iss=" + p.config.Issuer + "&sid=" + sid
}

// framePage has a frame of the application.
var framePage = template.Must(template.New("").Parse(`<!doctype html><title>Signed out</title>
<p>You are signed out.</p><iframe hidden {{.}}></iframe>
`))

// framed answers with a page that has a frame, and goes on to next, if there is one, when that has loaded.
func (p *Provider) framed(w http.ResponseWriter, frame, next string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if next != "" {
		w.Header().Set("Refresh", "0; url="+next)
	}
	source := template.HTMLAttr(`src="` + template.HTMLEscapeString(frame) + `"`) // as a URL it would be escaped more
	_ = framePage.Execute(w, source)                                              // an error means: the client is gone
}
