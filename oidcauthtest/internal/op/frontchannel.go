package op

import (
	"cmp"
	"html/template"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A grant is what one login gave the client. What it was made with does not change.
type grant struct {
	login                                     Login
	nonce, challenge, scope, sid, redirectURI string
	audience                                  string // of its access tokens, unless a refresh asks for another
	begun                                     time.Time

	// Under Provider.mu.
	newest, previous     string // refresh tokens
	rotated              time.Time
	used, revoked, ended bool
}

// authorize answers an authentication request (OpenID Connect Core 3.1.2).
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	k, _ := p.now()
	q := r.URL.Query()
	if name := doubled(q); name != "" {
		http.Error(w, "parameter "+name+" occurs twice", http.StatusBadRequest)
		return
	}
	redirectURI := q.Get("redirect_uri")
	if q.Get("client_id") != p.config.ClientID || !p.registered(redirectURI, false) {
		http.Error(w, "unknown client_id, or redirect_uri that is not registered", http.StatusBadRequest)
		return
	}
	response := url.Values{"iss": {p.config.Issuer}} // RFC 9207
	if q.Has("state") {
		response.Set("state", q.Get("state"))
	}
	problem := cmp.Or(k.AuthorizeError, invalid(q))
	if problem == "" {
		login, code, ok := p.authenticate(w, r)
		if !ok {
			return
		}
		problem = code
		if problem == "" {
			response.Set("code", p.newCode(login, q))
		}
	}
	if problem != "" {
		response.Set("error", problem)
	}
	if k.EditCallback != nil {
		k.EditCallback(response)
	}
	if q.Get("response_mode") == "form_post" {
		formPost(w, redirectURI, response, k.NullOrigin)
		return
	}
	sep := "?"
	if strings.Contains(redirectURI, "?") {
		sep = "&"
	}
	redirect(w, r, redirectURI+sep+response.Encode())
}

// formPage is the page that posts itself (OAuth 2.0 Form Post Response Mode).
var formPage = template.Must(template.New("").Parse(`<!doctype html><title>Submit This Form</title>
<body onload="document.forms[0].submit()"><form method="post" action="{{.Action}}">
{{range $name, $values := .Fields}}{{range $values}}<input type="hidden" name="{{$name}}" value="{{.}}">
{{end}}{{end}}<button>Continue</button></form>
`))

// formPost answers with a form for the redirect URI. With nullOrigin the page does not tell where it is from.
func formPost(w http.ResponseWriter, redirectURI string, response url.Values, nullOrigin bool) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if nullOrigin {
		w.Header().Set("Referrer-Policy", "no-referrer") // of which the Fetch standard makes "Origin: null"
	}
	_ = formPage.Execute(w, struct { // an error means that the client is gone
		Action string
		Fields url.Values
	}{redirectURI, response})
}

// doubled is the name of a parameter that occurs more than once, or "".
func doubled(q url.Values) string {
	for name, values := range q {
		if len(values) > 1 {
			return name
		}
	}
	return ""
}

var (
	challenge = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)
	digits    = regexp.MustCompile(`^[0-9]{1,9}$`)
)

func responseModes() []string { return []string{"query", "form_post"} }

// invalid is the error code for an authorization request, or "" if there is nothing wrong with it.
func invalid(q url.Values) string {
	prompts := strings.Fields(q.Get("prompt"))
	switch {
	case q.Has("request"):
		return "request_not_supported"
	case q.Has("request_uri"):
		return "request_uri_not_supported"
	case q.Get("response_type") != "code":
		return "unsupported_response_type"
	case !slices.Contains(strings.Fields(q.Get("scope")), "openid"):
		return "invalid_scope" // CS-08
	case q.Get("code_challenge_method") != "S256", !challenge.MatchString(q.Get("code_challenge")),
		q.Has("response_mode") && !slices.Contains(responseModes(), q.Get("response_mode")),
		q.Has("max_age") && !digits.MatchString(q.Get("max_age")),
		slices.Contains(prompts, "none") && len(prompts) > 1: // OIDC-05
		return "invalid_request"
	}
	return ""
}

func (p *Provider) authenticate(w http.ResponseWriter, r *http.Request) (Login, string, bool) {
	if p.config.Authenticate != nil {
		return p.config.Authenticate(w, r)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.user.Subject != "":
		return p.user, "", true
	case r.URL.Query().Get("prompt") == "none":
		return Login{}, "login_required", true
	}
	return Login{}, "access_denied", true
}

func (p *Provider) newCode(l Login, q url.Values) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.At.IsZero() {
		l.At = time.Now()
	}
	code := "code-" + random()
	g := &grant{
		login: l, sid: p.knobs.newSID(), begun: time.Now(), nonce: q.Get("nonce"), challenge: q.Get("code_challenge"),
		scope: q.Get("scope"), redirectURI: q.Get("redirect_uri"), audience: cmp.Or(audience(q), p.ownAPI()),
	}
	p.codes[code], p.logins = g, append(p.logins, g)
	return code
}

func (p *Provider) registered(uri string, logout bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if logout {
		return slices.Contains(p.config.PostLogoutURIs, uri)
	}
	return slices.Contains(p.config.RedirectURIs, uri)
}

// redirect never repeats a body: a form of ours may have held a password (RFC 9700 4.12).
func redirect(w http.ResponseWriter, r *http.Request, target string) {
	w.Header().Set("Location", target)
	if r.Method == http.MethodPost {
		w.WriteHeader(http.StatusSeeOther)
		return
	}
	w.WriteHeader(http.StatusFound)
}
