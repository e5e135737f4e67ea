package oidcauthtest

import (
	"testing"

	"github.com/oidcauth/oidcauth"
)

// StoreChecks are the subtests of TestSessionStore, for stores that have to fail them.
func StoreChecks() map[string]func(testing.TB, oidcauth.SessionStore) {
	checks := map[string]func(testing.TB, oidcauth.SessionStore){}
	for _, c := range storeChecks() {
		checks[c.name] = c.on
	}
	return checks
}
