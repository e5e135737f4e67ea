package devprovider

import (
	"net/http"
	"net/mail"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Password signs in every user, and the sign-in page says so.
const Password = "password"

// A form is what the sign-in and sign-up pages show.
type form struct {
	Title, Problem string
	Action, Other  string // where the form goes, and where the other of the two pages is
	Users          []User
	Selected       string // subject
	Password       string
	Name, Email    string
}

// authenticate decides who the user of the authorization request r is, whose parameters are in the URL even when one of
// our forms is posted. It returns a sign-in, or an error code for the application; if it answered itself, ok is false.
func (p *Provider) authenticate(w http.ResponseWriter, r *http.Request) (s signIn, errorCode string, ok bool) {
	if r.Method == http.MethodPost {
		return p.submitted(w, r)
	}
	query := r.URL.Query()
	prompts := strings.Fields(query.Get("prompt"))
	s, signedIn := p.current(r)
	if signedIn && query.Get("screen_hint") != "signup" && !tooOld(s, query) &&
		!slices.Contains(prompts, "login") && !slices.Contains(prompts, "select_account") {
		return s, "", true
	}
	if slices.Contains(prompts, "none") {
		return signIn{}, "login_required", true // OpenID Connect Core 3.1.2.6
	}
	p.showForm(w, r, http.StatusOK, form{})
	return signIn{}, "", false
}

// tooOld reports whether the application wants a newer authentication than s (OpenID Connect Core 3.1.2.1, max_age).
func tooOld(s signIn, query url.Values) bool {
	seconds, err := strconv.Atoi(query.Get("max_age"))
	return err == nil && time.Since(s.at) >= time.Duration(seconds)*time.Second
}

// submitted answers one of our forms.
func (p *Provider) submitted(w http.ResponseWriter, r *http.Request) (s signIn, errorCode string, ok bool) {
	var u User
	switch r.PostFormValue("do") {
	case "cancel":
		return signIn{}, "access_denied", true
	case "signup":
		var problem string
		if u, problem = p.signUp(r); problem != "" {
			p.showForm(w, r, http.StatusUnprocessableEntity, form{Problem: problem})
			return signIn{}, "", false
		}
	default:
		known, exists := p.users.bySubject(r.PostFormValue("user"))
		if !exists || r.PostFormValue("password") != Password {
			problem := `That password is wrong. The right one is "` + Password + `".`
			p.showForm(w, r, http.StatusUnprocessableEntity, form{Problem: problem})
			return signIn{}, "", false
		}
		u = known
	}
	p.forget(r)
	id, s := p.users.begin(u)
	p.setCookie(w, id, 0)
	return s, "", true
}

func (p *Provider) signUp(r *http.Request) (u User, problem string) {
	name, email := strings.TrimSpace(r.PostFormValue("name")), r.PostFormValue("email")
	address, err := mail.ParseAddress(email)
	if name == "" || err != nil || len(name) > 100 || len(email) > 100 {
		return User{}, "Enter a name and an e-mail address."
	}
	u, err = p.users.add(User{Name: name, Email: address.Address})
	if err != nil {
		return User{}, "Somebody with this e-mail address is there already. Sign in instead."
	}
	return u, ""
}

// showForm answers with the sign-in page, or the sign-up page if the application hints at that.
func (p *Provider) showForm(w http.ResponseWriter, r *http.Request, status int, f form) {
	query := r.URL.Query()
	other := r.URL.Query()
	f.Action = r.URL.RequestURI()
	f.Password = Password
	if query.Get("screen_hint") == "signup" {
		f.Title, f.Name, f.Email = "Sign up", r.PostFormValue("name"), r.PostFormValue("email")
		other.Del("screen_hint")
		f.Other = r.URL.Path + "?" + other.Encode()
		p.page(w, status, "signup", f)
		return
	}
	f.Title, f.Users = "Sign in", p.users.all()
	f.Selected = p.suggestion(r)
	other.Set("screen_hint", "signup")
	f.Other = r.URL.Path + "?" + other.Encode()
	p.page(w, status, "signin", f)
}

// suggestion is the subject of the user that the form starts with.
func (p *Provider) suggestion(r *http.Request) string {
	if chosen := r.PostFormValue("user"); chosen != "" {
		return chosen
	}
	users := p.users.all()
	hint := r.URL.Query().Get("login_hint")
	if i := slices.IndexFunc(users, func(u User) bool { return strings.EqualFold(u.Email, hint) }); i >= 0 {
		return users[i].Subject
	}
	if s, ok := p.current(r); ok {
		return s.user.Subject
	}
	return users[0].Subject
}

// cookieName carries the port, since browsers share the cookies of a host between its ports.
func (p *Provider) cookieName() string { return "devprovider-" + p.port }

// current is who is signed in in the browser that sent r.
func (p *Provider) current(r *http.Request) (signIn, bool) {
	cookie, err := r.Cookie(p.cookieName())
	if err != nil {
		return signIn{}, false
	}
	return p.users.find(cookie.Value)
}

// forget ends the sign-in of the browser that sent r.
func (p *Provider) forget(r *http.Request) {
	if cookie, err := r.Cookie(p.cookieName()); err == nil {
		p.users.end(cookie.Value)
	}
}

// setCookie sets the cookie for as long as the browser is open, or removes it with a negative maxAge.
func (p *Provider) setCookie(w http.ResponseWriter, id string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: p.cookieName(), Value: id, MaxAge: maxAge, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}
