package main

import (
	"errors"
	"net/http"

	"github.com/oidcauth/oidcauth"
)

// sessions shows the user's sessions, or why it cannot.
func (a *app) sessions(w http.ResponseWriter, r *http.Request) {
	v, err := a.view(r, "Your sessions")
	if err != nil {
		a.client.Error(w, r, err)
		return
	}
	v.Everywhere = a.store != inCookies
	v.Sessions, err = a.client.Sessions(r.Context(), v.Session.Issuer, v.Session.Subject)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		v.Unlisted = err
	case err != nil:
		a.client.Error(w, r, err)
		return
	}
	a.show(w, "sessions.html", v)
}

// endSession ends one session of the user's, and never another user's, whatever the form says: a handle is no secret.
func (a *app) endSession(w http.ResponseWriter, r *http.Request) {
	s, _ := oidcauth.SessionFromContext(r.Context())
	if err := a.client.RevokeSession(r.Context(), s.Issuer, s.Subject, r.PostFormValue("handle")); err != nil {
		a.client.Error(w, r, err)
		return
	}
	http.Redirect(w, r, "/sessions", http.StatusSeeOther)
}

// signOutEverywhere ends all sessions of the user, and then what this browser has at the provider.
func (a *app) signOutEverywhere(w http.ResponseWriter, r *http.Request) {
	s, _ := oidcauth.SessionFromContext(r.Context())
	err := a.client.RevokeSessions(r.Context(), s.Issuer, s.Subject)
	if err == nil {
		err = a.client.Logout(w, r, nil)
	}
	if err != nil {
		a.client.Error(w, r, err)
	}
}
