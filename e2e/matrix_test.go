package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Which test shows what, with which provider and which browser. A plain client is one without Fetch metadata. "In
// Chromium" is with third-party cookies blocked and the provider on another site, once with SameSite=Lax and once with
// SameSite=Strict, each with the answer in the query and in a form post.
//
//	sign-in
//		certified, plain client  TestCertifiedSignIn
//		certified, in Chromium   TestCertifiedInChromium
//		zitadel, plain client    TestZitadelSignIn
//	refresh over rotation
//		certified, plain client  TestCertifiedRefreshOverRotation
//		certified, in Chromium   TestCertifiedInChromium
//		zitadel, plain client    TestZitadelRefreshOverRotation
//	step to another tab
//		certified, plain client  TestCertifiedStepToAnotherTab
//		certified, in Chromium   TestCertifiedInChromium
//		zitadel, plain client    TestZitadelStepToAnotherTab
//	two logins at once
//		certified, plain client  TestCertifiedTwoLoginsAtOnce
//		certified, in Chromium   TestCertifiedInChromium
//		zitadel, plain client    TestZitadelTwoLoginsAtOnce
//	logout ends the provider's session
//		certified, plain client  TestCertifiedLogout
//		certified, in Chromium   TestCertifiedInChromium
//		zitadel, plain client    TestZitadelLogout: it has no session, but a list of the user's tokens
//	logout at the provider ends sessions
//		certified, plain client  TestCertifiedBackchannelLogout, and what is no such logout TestCertifiedLogoutTokenMisused
//		certified, in Chromium   TestALogoutElsewhereInChromium
//		zitadel, plain client    none: it sends no logout tokens
//	form_post
//		certified, plain client  TestCertifiedSignIn and others, in the row "form post"
//		certified, in Chromium   TestCertifiedInChromium
//		zitadel, plain client    TestZitadelSignIn and others, in the row "form post"
//	max_age
//		certified, plain client  TestCertifiedLoginParameters
//		certified, in Chromium   TestCertifiedLoginParametersInChromium
//		zitadel, plain client    TestZitadelLoginParameters; it does not heed it, which is refused: TestZitadelRefusals
//	prompt=none
//		certified, plain client  TestCertifiedLoginParameters
//		certified, in Chromium   TestCertifiedLoginParametersInChromium
//		zitadel, plain client    TestZitadelRefusals: without a session of its own it always says login_required
//	prompt=login
//		certified, plain client  TestCertifiedLoginParameters
//		certified, in Chromium   TestCertifiedLoginParametersInChromium
//		zitadel, plain client    TestZitadelLoginParameters, and not heeded TestZitadelRefusals
//	access_denied
//		certified, plain client  TestCertifiedCancel
//		certified, in Chromium   TestCertifiedInChromium
//		zitadel, plain client    TestZitadelRefusals and with form_post TestZitadelRefusalOfAFormPost
//
// And in Chromium alone, with the certified provider:
//
//	S15  another account     TestAnotherAccountInChromium
//	S24  the callback again  TestASlowCallbackThatIsAskedForAgain
//	S24  preparing a click   TestPreparingForALogin
//	S26  logouts             TestSignOutsThatNobodyAskedFor, TestTheQuestionBeforeALogout, TestTheApplicationsOwnLogout
//	S28  where a logout ends TestWhereALogoutEndsInChromium, TestAnotherSitesLogoutLinkStrandsNobody

// The list above names tests that there are.
func TestTheMatrixNamesTests(t *testing.T) {
	var all []byte
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	matrix, err := os.ReadFile("matrix_test.go")
	if err != nil {
		t.Fatal(err)
	}
	list, _, _ := strings.Cut(string(matrix), "\nfunc ")
	for _, name := range regexp.MustCompile(`Test\w+`).FindAllString(list, -1) {
		if !strings.Contains(string(all), "\nfunc "+name+"(t *testing.T)") {
			t.Errorf("there is no %s", name)
		}
	}
}

// twoSites are the ways in which a session's cookie and the provider's answer come along.
var twoSites = slices.Concat(certifiedConfigs[:1], certifiedConfigs[len(certifiedConfigs)-1:], certifiedInBrowser)

// What a login asks for, each in the browser that the one before has left behind.
func TestCertifiedLoginParametersInChromium(t *testing.T) {
	t.Parallel()
	for _, config := range twoSites {
		t.Run(config.name, func(t *testing.T) {
			t.Parallel()
			a, p := newCertifiedApp(t, config.options), page{t, newChromium(t)}
			p.blockThirdParties()
			codes := 0
			for _, tt := range []struct {
				name, query string
				asks        bool
				refused     string
			}{
				{"prompt=none for nobody", "prompt=none", false, "login_required"},
				{"a user who is not signed in", "", true, ""},
				{"a user who is", "", false, ""},
				{"max_age that has not passed", "max_age=3600", false, ""},
				{"max_age that has passed", "max_age=0", true, ""},
				{"prompt=none for a user", "prompt=none", false, ""},
				{"prompt=none and max_age that has passed", "prompt=none&amp;max_age=0", false, "login_required"},
				{"prompt=login", "prompt=login+consent", true, ""},
			} {
				where := "/account/?" + strings.Fields(tt.name)[0]
				a.watch.shows(`<a id="go" href="/auth/login?returnTo=` + where + `&amp;` + tt.query + `">Sign in</a>`)
				p.open(a.address + "/page")
				p.follow("go")
				if tt.asks {
					p.signIn("password")
				}
				if tt.refused != "" {
					p.see("Code: " + tt.refused)
				} else {
					p.see("ada@example.com")
					codes++
					if got := p.where(); got != a.address+where {
						t.Errorf("%s: the login ended at %s", tt.name, got)
					}
					p.noCode()
				}
				a.provider.want(tt.name, map[string]int{"authorization_code": codes})
			}
			a.provider.want("at the end", map[string]int{"password": 3, "invalid_grant": 0})
		})
	}
}
