package oidcauth_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// A proxy whose sessions are in a store: the token is refreshed once, for all processes, and the store is asked once for the
// session, and once more whether another process has refreshed it.
func TestTheProxyRefreshesStoredSessions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shelf := newShelf()
		faults := oidcauthtest.NewFaultyStore(t, shelf)
		b := newBFF(t, oidcauth.ProxyOptions{}, func(o *oidcauth.Options) { o.Store = faults.Store() })
		b.cookie = b.cookies(t, oidcauthtest.Alice)
		b.call("GET", "/api/one", "")
		first := b.api.last(t).Header.Get("Authorization")
		time.Sleep(time.Hour)
		before := faults.Calls()
		if resp := b.call("GET", "/api/two", ""); resp.StatusCode != http.StatusOK || len(resp.Cookies()) > 0 {
			t.Errorf("status %d, %d cookies", resp.StatusCode, len(resp.Cookies()))
		}
		if got := faults.Calls().Gets - before.Gets; got != 2 {
			t.Errorf("%d reads", got)
		}
		b.settle(t)
		second := b.api.last(t)
		other := newProcessAt(t, b.op, shelf)
		newest, _ := other.token("", b.cookie)
		if got := second.Header.Get("Authorization"); got == first || got != "Bearer "+newest || second.Header.Get("Cookie") != "" {
			t.Error("the API does not get the newest token, or it gets the cookie")
		}
		if b.op.Grants() != 1 || b.op.Reuses() != 0 {
			t.Errorf("%d grants", b.op.Grants())
		}
	})
}

// S36: a request of somebody who may be signed in is not passed on as one of nobody.
func TestTheProxyPassesNothingOnWhileTheStoreIsDown(t *testing.T) {
	t.Parallel()
	for _, optional := range []bool{false, true} {
		faults := oidcauthtest.NewFaultyStore(t, newShelf())
		b := newBFF(t, oidcauth.ProxyOptions{Optional: optional}, func(o *oidcauth.Options) { o.Store = faults.Store() })
		b.cookie = b.cookies(t, oidcauthtest.Alice)
		faults.Fail(errDown)
		resp := b.call("GET", "/api/one", "")
		if code, _ := jsonError(t, resp); resp.StatusCode != 503 || code != "store_unavailable" || len(resp.Cookies()) > 0 {
			t.Errorf("optional %v: status %d, %q", optional, resp.StatusCode, code)
		}
		if n := len(b.api.requests()); n != 0 {
			t.Errorf("optional %v: %d requests were passed on", optional, n)
		}
		b.cookie = "other=1"
		before := faults.Calls()
		if resp := b.call("GET", "/api/one", ""); (resp.StatusCode == 200) != optional || faults.Calls() != before {
			t.Errorf("optional %v: of nobody: status %d", optional, resp.StatusCode)
		}
	}
}
