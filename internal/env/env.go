// Package env reads settings that may stand in the environment under several names.
package env

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
)

// A Reader remembers which names it read. The zero value is ready to use; it is not safe for concurrent use.
type Reader struct {
	known map[string]bool
	errs  []error
}

// Get returns the value of the first name that has one. That two have different values is among [Reader.Errs].
func (r *Reader) Get(names ...string) (value string) {
	if r.known == nil {
		r.known = map[string]bool{}
	}
	for _, name := range names {
		r.known[name] = true
		v := os.Getenv(name)
		if v != "" && value != "" && v != value {
			r.errs = append(r.errs, fmt.Errorf("%s have different values; set one of them", strings.Join(names, " and ")))
		}
		value = cmp.Or(value, v)
	}
	return value
}

// List is Get for a value with several parts separated by commas.
func (r *Reader) List(names ...string) (list []string) {
	for part := range strings.SplitSeq(r.Get(names...), ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// Errs returns what Get found wrong.
func (r *Reader) Errs() []error { return r.errs }

// Unread returns the names of variables that begin with one of the prefixes and that nobody asked for.
func (r *Reader) Unread(prefixes ...string) (names []string) {
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		for _, prefix := range prefixes {
			if strings.HasPrefix(name, prefix) && !r.known[name] {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// Settings is what the environment says about an application.
type Settings struct {
	Issuer, Domain, ClientID, ClientSecret, BaseURL, Audience, CookieDomain string
	Secrets, Scopes                                                         []string
	Transient                                                               bool // of the session cookie
	SameSite                                                                http.SameSite
	Errs                                                                    []error
	Unread                                                                  []string // variables of our prefixes that nobody reads
}

// Load reads the variables that are documented at OptionsFromEnv. What would weaken the session is an error.
func Load() Settings {
	var r Reader
	s := Settings{
		Issuer:       r.Get("OIDC_ISSUER"),
		Domain:       r.Get("AUTH0_DOMAIN"),
		ClientID:     r.Get("OIDC_CLIENT_ID", "AUTH0_CLIENT_ID"),
		ClientSecret: r.Get("OIDC_CLIENT_SECRET", "AUTH0_CLIENT_SECRET"),
		BaseURL:      r.Get("APP_BASE_URL"),
		Audience:     r.Get("AUTH0_AUDIENCE"),
		CookieDomain: r.Get("AUTH0_COOKIE_DOMAIN"),
		Secrets:      r.List("SESSION_SECRET", "AUTH0_SECRET"),
		Scopes:       strings.Fields(r.Get("AUTH0_SCOPE")),
	}
	switch v := r.Get("AUTH0_COOKIE_TRANSIENT"); v {
	case "", "false":
	case "true":
		s.Transient = true
	default:
		r.errs = append(r.errs, fmt.Errorf("AUTH0_COOKIE_TRANSIENT is %q; set it to true or false", v))
	}
	if s.Issuer != "" && s.Domain != "" && s.Issuer != "https://"+s.Domain+"/" {
		r.errs = append(r.errs, errors.New("OIDC_ISSUER and AUTH0_DOMAIN name different providers; set one of them"))
	}
	switch v := strings.ToLower(r.Get("AUTH0_COOKIE_SAME_SITE")); v {
	case "", "lax":
	case "strict":
		s.SameSite = http.SameSiteStrictMode
	default:
		r.errs = append(r.errs, fmt.Errorf("AUTH0_COOKIE_SAME_SITE: %q weakens the session; "+
			"set Cookie.SameSite and InsecureCrossSiteSession in code", v))
	}
	if r.Get("AUTH0_COOKIE_SECURE") == "false" && strings.HasPrefix(s.BaseURL, "https:") {
		r.errs = append(r.errs, errors.New("AUTH0_COOKIE_SECURE cannot be false for an https APP_BASE_URL; remove it"))
	}
	s.Errs, s.Unread = r.errs, r.Unread("OIDC_", "AUTH0_")
	return s
}
