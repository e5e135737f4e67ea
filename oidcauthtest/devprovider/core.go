package devprovider

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/oidcauth/oidcauth/oidcauthtest/internal/op"
)

// newCore makes the part that speaks OpenID Connect. Keys are new, and so nothing that it signs outlives the process.
func (p *Provider) newCore(o Options) error {
	keys, err := op.NewKeys()
	if err != nil {
		return err
	}
	base := strings.TrimSuffix(p.baseURL, "/")
	redirectURIs := append([]string{base + "/auth/callback"}, o.RedirectURIs...)
	postLogoutURLs := append([]string{base, base + "/", base + "/auth/logged-out"}, o.PostLogoutURLs...)
	for _, uri := range slices.Concat(redirectURIs, o.PostLogoutURLs) {
		if u, err := url.Parse(uri); err == nil {
			p.formTargets += " " + u.Scheme + "://" + u.Host
		}
	}
	p.op, err = op.New(op.Config{
		Issuer: p.issuer, ClientID: p.clientID, ClientSecret: p.secret, Keys: keys,
		RedirectURIs: redirectURIs, PostLogoutURIs: postLogoutURLs,
		Authenticate: func(w http.ResponseWriter, r *http.Request) (op.Login, string, bool) {
			s, code, ok := p.authenticate(w, r)
			return op.Login{Subject: s.user.Subject, Claims: s.user.claims(p.issuer), At: s.at}, code, ok
		},
	})
	if err == nil {
		p.op.Change(func(k *op.Knobs) { k.AccessTokenLifetime = o.AccessTokenLifetime })
	}
	return err
}

// handler puts the pages for people in front of the core.
func (p *Provider) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", p.op)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		p.page(w, http.StatusOK, "message", message{Title: "It works", Text: "Sign in from your application: " + p.baseURL})
	})
	mux.HandleFunc("/end_session", p.endSession)
	mux.HandleFunc("GET /avatar/{subject}", p.avatar)
	mux.Handle("GET /style.css", http.FileServerFS(files))
	return p.guard(mux)
}

// endSession ends the browser's sign-in here. Without an ID token the user is asked first (RP-Initiated Logout 1.0,
// section 2). Whether the token is a good one is not looked at: all that a forged one brings is the sign-in page.
func (p *Provider) endSession(w http.ResponseWriter, r *http.Request) {
	asked := r.Method == http.MethodPost || r.URL.Query().Get("id_token_hint") != ""
	if _, signedIn := p.current(r); signedIn && !asked {
		p.page(w, http.StatusOK, "signout", message{Title: "Sign out?", Action: r.URL.RequestURI()})
		return
	}
	p.forget(r)
	p.setCookie(w, "", -1)
	if r.FormValue("post_logout_redirect_uri") == "" {
		p.page(w, http.StatusOK, "message", message{Title: "Signed out", Text: "Your session here has ended."})
		return
	}
	p.op.ServeHTTP(w, r)
}
