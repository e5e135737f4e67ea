package oidcauth_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// A middleware gives requests less time than the provider takes: that is nobody's bug, and no bad answer (503, not 500 or 502).
func TestAMiddlewaresDeadlineIsAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		a.mux.HandleFunc("/orders", func(w http.ResponseWriter, r *http.Request) {
			if _, err := a.HTTPClient(w, r, nil, "https://api.test"); err != nil {
				a.Error(w, r, err)
			}
		})
		a.browser.Host("https://app.test", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), time.Second)
			defer cancel()
			a.handler.ServeHTTP(w, r.WithContext(ctx))
		}))
		a.op.Delay("discovery", 5*time.Second)
		if resp := a.browser.Get("/auth/login"); resp.StatusCode != http.StatusServiceUnavailable || errorCode(resp) != "provider_unavailable" {
			t.Errorf("a login: %d %q", resp.StatusCode, errorCode(resp))
		}
		a.op.Delay("discovery", 0)
		time.Sleep(time.Minute)
		a.browser.SignIn(oidcauthtest.Alice)
		time.Sleep(time.Hour)
		a.op.Delay("token", 5*time.Second)
		if resp := a.browser.Fetch("/orders"); resp.StatusCode != http.StatusServiceUnavailable || errorCode(resp) != "provider_unavailable" {
			t.Errorf("a token: %d %q", resp.StatusCode, errorCode(resp))
		}
		a.settle(t)
	})
}
