package main

import (
	"testing"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

func TestStore(t *testing.T) {
	oidcauthtest.TestSessionStore(t, func(t *testing.T) oidcauth.SessionStore {
		return &FileStore{Dir: t.TempDir()}
	})
}
