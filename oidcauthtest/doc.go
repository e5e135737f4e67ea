// Package oidcauthtest lets tests sign in: it has an OpenID provider and a browser, both in memory.
//
//	func TestAccount(t *testing.T) {
//		client, provider := oidcauthtest.NewClient(t)
//		b := provider.NewBrowser(client.Wrap(newMux(client)))
//		b.SignIn(oidcauthtest.User{Subject: "alice"})
//		if got := b.Get("/account"); got.StatusCode != 200 {
//			t.Errorf("status %d", got.StatusCode)
//		}
//	}
//
// A sign-in is the whole flow, with every check that a real provider and a real browser make, and takes about a
// millisecond. There is no way around it: a session that was not earned would be a back door.
//
// No socket is opened and no goroutine started, so that tests may run in a [testing/synctest] bubble, where 25 hours
// pass at once and sessions end.
//
// A [Provider] is correct until a test wants it otherwise: [Provider.Misbehave] makes it wrong in ways that have names,
// [Provider.Change] turns single knobs, and [Provider.Fail], [Provider.Delay], [Provider.Hold] and their like disturb
// its endpoints.
//
// What an application does with its access tokens shows at an API in memory, which the HTTPClient of the provider's
// options reaches:
//
//	provider.Serve("api.test", provider.NewAPI("https://api.test/"))
//
// The API says whose token it got, for which audience and with which scope. [Provider.Grants] and [Provider.Reuses] say
// how the application treats its refresh tokens.
//
// For a logout that begins elsewhere, tests post a token of [Provider.LogoutToken] to the application, or let the
// provider do so when it ends a session:
//
//	provider.Serve("app.test", app)
//	provider.Change(func(k *oidcauthtest.Knobs) {
//		k.BackchannelLogoutURI = "https://app.test/auth/backchannel-logout"
//	})
//
// [Provider.LogoutAnswers] has what the application answered.
//
// A handler behind a guard can be tested without any of this, with [oidcauth.ContextWithSession] and
// [oidcauth.NewSession]. A provider for development, outside of tests, is package devprovider.
package oidcauthtest
