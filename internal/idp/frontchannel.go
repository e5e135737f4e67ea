package idp

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// reserved are the parameters of an authorization request that nobody but this package sets (OIDC-04).
var reserved = map[string]bool{
	"client_id": true, "redirect_uri": true, "response_type": true, "response_mode": true, "state": true, "nonce": true,
	"code_challenge": true, "code_challenge_method": true, "request": true, "request_uri": true, "dpop_jkt": true,
	"scope": true,
}

// ReservedParam reports whether name is a parameter of the authorization request that cannot be set from outside.
func ReservedParam(name string) bool { return reserved[name] }

// CheckParams refuses parameters that would break an authentication request, be they from code or from a link.
func CheckParams(params map[string]string) error {
	for name, value := range params {
		switch {
		case name == "" || reserved[name]:
			return fmt.Errorf("the parameter %q is set by the library", name)
		case len(value) > maxParam:
			return fmt.Errorf("the parameter %q is too long", name)
		}
	}
	if age := params["max_age"]; age != "" && !digits.MatchString(age) {
		return errors.New("max_age is not a number of seconds")
	}
	if prompts := strings.Fields(params["prompt"]); len(prompts) > 1 && slices.Contains(prompts, "none") {
		return errors.New("prompt none excludes other values") // OpenID Connect Core 3.1.2.1
	}
	return nil
}

// maxParam is the longest value in bytes: a login_hint may be an ID token.
const maxParam = 2048

var digits = regexp.MustCompile(`^[0-9]{1,9}$`)

// An AuthRequest is an authentication request of the code flow with PKCE (OpenID Connect Core 3.1.2.1, RFC 7636 4.3).
type AuthRequest struct {
	ClientID, RedirectURI, Scope, State, Nonce string
	Verifier                                   string            // of which the S256 challenge is sent
	Extra                                      map[string]string // others; empty and reserved ones are left out
	FormPost                                   bool              // the response comes as a form (Form Post Response Mode)
	ACR                                        []string          // one of these is required, unless Extra has claims
}

// AuthorizationURL is where the browser goes to sign in. The endpoint keeps the query it has (RFC 6749 3.1).
func (m *Metadata) AuthorizationURL(r AuthRequest) (string, error) {
	challenge := sha256.Sum256([]byte(r.Verifier))
	params := map[string]string{}
	for name, value := range r.Extra {
		if !reserved[name] {
			params[name] = value
		}
	}
	params["client_id"] = r.ClientID
	params["response_type"] = "code"
	params["redirect_uri"] = r.RedirectURI
	params["scope"] = r.Scope
	params["state"] = r.State
	params["nonce"] = r.Nonce
	params["code_challenge"] = base64.RawURLEncoding.EncodeToString(challenge[:])
	params["code_challenge_method"] = "S256"
	if m.ClaimsParameterSupported && len(r.ACR) > 0 && params["claims"] == "" {
		// acr_values are only a wish (Core 5.5.1.1).
		acr := map[string]any{"essential": true, "values": r.ACR}
		claims, _ := json.Marshal(map[string]any{"id_token": map[string]any{"acr": acr}}) // always encodes
		params["claims"] = string(claims)
	}
	if r.FormPost {
		params["response_mode"] = "form_post"
	}
	target, err := withQuery(m.AuthorizationEndpoint, given(params))
	if err != nil {
		return "", fmt.Errorf("authorization endpoint: %w", err)
	}
	return target, nil
}

// Scope joins lists of scopes, each once, without offline_access where the provider says that it has no such scope.
func (m *Metadata) Scope(lists ...[]string) string {
	offline := m.ScopesSupported == nil || slices.Contains(m.ScopesSupported, "offline_access")
	var scopes []string
	for _, scope := range slices.Concat(lists...) {
		if !slices.Contains(scopes, scope) && (offline || scope != "offline_access") {
			scopes = append(scopes, scope)
		}
	}
	return strings.Join(scopes, " ")
}

// maxLogoutURL is what servers surely accept as a URL: the ID token in it is only a hint (RIL-06, S27).
const maxLogoutURL = 6 << 10

// EndSessionURL is where the browser goes to end the provider's session (RP-Initiated Logout 1.0, section 2). Empty
// parameters are left out, and so is an id_token_hint that would make the URL longer than 6 KiB. Federated is Auth0's.
func (m *Metadata) EndSessionURL(params map[string]string, federated bool) (string, error) {
	query := given(params)
	if federated {
		query.Set("federated", "")
	}
	target, err := withQuery(m.EndSessionEndpoint, query)
	if len(target) > maxLogoutURL {
		query.Del("id_token_hint")
		target, err = withQuery(m.EndSessionEndpoint, query)
	}
	if err != nil {
		return "", fmt.Errorf("end session endpoint: %w", err)
	}
	return target, nil
}

// V2LogoutURL is Auth0's own logout, which takes neither hints nor state.
func V2LogoutURL(issuer, clientID, returnTo string, federated bool) string {
	query := url.Values{"client_id": {clientID}, "returnTo": {returnTo}}
	if federated {
		query.Set("federated", "")
	}
	return strings.TrimSuffix(issuer, "/") + "/v2/logout?" + query.Encode()
}

// given returns the parameters that are not empty.
func given(params map[string]string) url.Values {
	query := url.Values{}
	for name, value := range params {
		if value != "" {
			query.Set(name, value)
		}
	}
	return query
}

// withQuery adds parameters to an endpoint's query, in which they replace those of the same name. The rest of the query
// stays as it is, to the byte: how it is read is the provider's business.
func withQuery(endpoint string, query url.Values) (string, error) {
	target, err := url.Parse(endpoint)
	if err != nil {
		return "", err
	}
	var parts []string
	for part := range strings.SplitSeq(target.RawQuery, "&") {
		name, _, _ := strings.Cut(part, "=")
		if name, err := url.QueryUnescape(name); part != "" && (err != nil || !query.Has(name)) {
			parts = append(parts, part)
		}
	}
	target.RawQuery = strings.Join(append(parts, query.Encode()), "&")
	return target.String(), nil
}

// Origin is that of the issuer: where the provider's own pages are.
func (p *Provider) Origin() string {
	u, err := url.Parse(p.cfg.Issuer)
	if err != nil {
		return "'none'" // New has refused such an issuer
	}
	return u.Scheme + "://" + u.Host
}
