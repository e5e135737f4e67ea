package oidcauth_test

import (
	"errors"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// A handler that logs out a copy of the request without its cookie has decided: the roll that is due must not undo it.
func TestALogoutOfACopyIsNotRolledBack(t *testing.T) { // S21
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		b := a.op.NewBrowser(a.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/leave" {
				return
			}
			bare := r.Clone(r.Context())
			bare.Header.Del("Cookie")
			if err := a.Logout(w, bare, &oidcauth.LogoutOptions{Local: true}); err != nil {
				t.Errorf("Logout: %v", err)
			}
		})))
		b.SignIn(oidcauthtest.Alice)
		time.Sleep(20 * time.Minute) // the session is due to be extended
		b.NoRedirects().Get("/leave")
		if slices.ContainsFunc(b.Cookies("/"), isSession) {
			t.Error("the logout left the session")
		}
	})
}

// A hook that has answered and fails then is too late to take anything back; the kit reports a cookie that is changed after
// the header, and the library must not do that either.
func TestAHookThatFailsAfterItsAnswerChangesNoCookie(t *testing.T) { // HYG-02
	t.Parallel()
	a := newApp(t, func(o *oidcauth.Options) {
		o.OnLogin = func(w http.ResponseWriter, _ *http.Request, _ *oidcauth.Session, _ string) error {
			w.WriteHeader(http.StatusNoContent)
			return errors.New("too late")
		}
	})
	a.op.SetUser(oidcauthtest.Alice)
	if r := a.browser.Get("/auth/login"); r.StatusCode != http.StatusNoContent {
		t.Errorf("answered %d", r.StatusCode)
	}
	if err := a.Close(t.Context()); err != nil { // waits for the revocation
		t.Errorf("Close: %v", err)
	}
	if n := a.op.ActiveRefreshTokens(""); n != 0 {
		t.Errorf("%d refresh tokens are alive", n)
	}
}
