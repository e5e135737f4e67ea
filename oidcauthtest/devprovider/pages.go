package devprovider

import (
	"embed"
	"html/template"
	"net/http"
)

//go:embed pages.html style.css
var files embed.FS

func newPages() *template.Template {
	functions := template.FuncMap{"avatar": avatarPath}
	return template.Must(template.New("").Funcs(functions).ParseFS(files, "pages.html"))
}

// A message is a page without a form, or with a single button.
type message struct{ Title, Problem, Text, Action string }

// page answers with the named template.
func (p *Provider) page(w http.ResponseWriter, status int, name string, data any) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	// Browsers apply form-action to the redirect that follows a form too, and that one leads to the application.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; "+
		"form-action 'self'"+p.formTargets+"; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin") // the URL holds an authorization request
	w.WriteHeader(status)
	_ = p.pages.ExecuteTemplate(w, name, data) // an error means that the browser is gone
}

// guard answers only requests for the address that the provider listens on: a name that somebody else made point here
// is another site's way in (DNS rebinding). It also refuses forms of other sites.
func (p *Provider) guard(next http.Handler) http.Handler {
	next = http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != p.host {
			http.Error(w, "DEVELOPMENT PROVIDER: this is not "+p.issuer, http.StatusMisdirectedRequest)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		next.ServeHTTP(w, r)
	})
}
