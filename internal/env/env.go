// Package env reads the settings of an application from the environment, where they may stand under several names.
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
	var r reader
	s := Settings{
		Issuer:       r.get("OIDC_ISSUER"),
		Domain:       r.get("AUTH0_DOMAIN"),
		ClientID:     r.get("OIDC_CLIENT_ID", "AUTH0_CLIENT_ID"),
		ClientSecret: r.get("OIDC_CLIENT_SECRET", "AUTH0_CLIENT_SECRET"),
		BaseURL:      r.get("APP_BASE_URL"),
		Audience:     r.get("AUTH0_AUDIENCE"),
		CookieDomain: r.get("AUTH0_COOKIE_DOMAIN"),
		Secrets:      r.list("SESSION_SECRET", "AUTH0_SECRET"),
		Scopes:       strings.Fields(r.get("AUTH0_SCOPE")),
	}
	switch v := r.get("AUTH0_COOKIE_TRANSIENT"); v {
	case "", "false":
	case "true":
		s.Transient = true
	default:
		r.errs = append(r.errs, fmt.Errorf("AUTH0_COOKIE_TRANSIENT is %q; set it to true or false", v))
	}
	if s.Issuer != "" && s.Domain != "" && s.Issuer != "https://"+s.Domain+"/" {
		r.errs = append(r.errs, errors.New("OIDC_ISSUER and AUTH0_DOMAIN name different providers; set one of them"))
	}
	switch v := strings.ToLower(r.get("AUTH0_COOKIE_SAME_SITE")); v {
	case "", "lax":
	case "strict":
		s.SameSite = http.SameSiteStrictMode
	default:
		r.errs = append(r.errs, fmt.Errorf("AUTH0_COOKIE_SAME_SITE: %q weakens the session; "+
			"set Cookie.SameSite and InsecureCrossSiteSession in code", v))
	}
	if r.get("AUTH0_COOKIE_SECURE") == "false" && strings.HasPrefix(s.BaseURL, "https:") {
		r.errs = append(r.errs, errors.New("AUTH0_COOKIE_SECURE cannot be false for an https APP_BASE_URL; remove it"))
	}
	s.Errs, s.Unread = r.errs, r.unread("OIDC_", "AUTH0_")
	return s
}

// A reader remembers which names it read, and what was wrong with them.
type reader struct {
	known map[string]bool
	errs  []error
}

// get returns the value of the first name that has one. That two have different values is an error.
func (r *reader) get(names ...string) (value string) {
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

// list is get for a value with several parts separated by commas.
func (r *reader) list(names ...string) (parts []string) {
	for part := range strings.SplitSeq(r.get(names...), ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}

// unread returns the names of variables that begin with one of the prefixes and that nobody asked for.
func (r *reader) unread(prefixes ...string) (names []string) {
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
