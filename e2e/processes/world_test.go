package processes

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// The application has so many processes, and so many requests at each of them come at the same time.
const (
	processCount = 4
	requestCount = 50
)

// How long claims hold in most tests. One that was sent holds for the time that a grant may take and two leases.
const (
	lease        = time.Second
	grantTimeout = 4 * time.Second
	sentLease    = grantTimeout + 2*lease
)

// patience is for what only a broken test has to wait for.
const patience = 30 * time.Second

// A world is an application in several processes, their store and the provider.
type world struct {
	*testing.T
	provider *provider
	config   config
	apps     []*process // the first is the one to which things happen
}

// newWorld starts processes whose first is held at a point.
func newWorld(t *testing.T, s server, hybrid bool, hold point, edit ...func(*config)) *world {
	t.Helper()
	w := &world{T: t, provider: startProvider(t)}
	o := w.provider.Options()
	w.config = config{
		Issuer: o.Issuer, ClientID: o.ClientID, ClientSecret: o.ClientSecret, BaseURL: o.BaseURL, Secrets: o.Secrets,
		Hybrid: hybrid, Lease: lease, GrantTimeout: grantTimeout,
	}
	w.config.Backend, w.config.Target = s.backend()
	for _, f := range edit {
		f(&w.config)
	}
	held := w.config
	held.Hold = hold
	w.apps = append(w.apps, startProcess(t, held))
	for range processCount - 1 {
		w.apps = append(w.apps, startProcess(t, w.config))
	}
	return w
}

// others are the processes but for the first.
func (w *world) others() []*process { return w.apps[1:] }

// signIn returns the cookie of a new session whose access token expires in a second. Later ones last for an hour.
func (w *world) signIn(user string) (cookie string) {
	w.Helper()
	w.provider.SetUser(oidcauthtest.User{Subject: user})
	w.provider.lifetime(time.Second)
	jar, err := cookiejar.New(nil)
	must(w.T, err)
	last := w.apps[processCount-1]
	browser := &http.Client{Jar: jar, Transport: last.client.Transport, Timeout: patience}
	resp, err := browser.Get(last.base + "/auth/login")
	must(w.T, err)
	must(w.T, resp.Body.Close())
	base, err := url.Parse(last.base)
	must(w.T, err)
	if resp.StatusCode != http.StatusOK || resp.Request.URL.String() != last.base+"/" {
		w.Fatalf("the login of %s ends at %v with %d", user, resp.Request.URL, resp.StatusCode)
	}
	var pairs []string
	for _, c := range jar.Cookies(base) {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	w.provider.lifetime(time.Hour)
	return strings.Join(pairs, "; ")
}

// signedIn is signIn, and then the token has expired.
func (w *world) signedIn(user string) (cookie string) {
	w.Helper()
	cookie = w.signIn(user)
	expired := time.Now().Add(time.Second)
	within(w.T, patience, "the token has expired", func() bool { return time.Now().After(expired) })
	return cookie
}

// wantToken checks that all answers are the user's one new token, and returns the first of them.
func (w *world) wantToken(user string, answers []answer) answer {
	w.Helper()
	others := unexpected{}
	for _, a := range answers {
		if a.err != nil || a.status != http.StatusOK || a.Subject != user || a.page != answers[0].page {
			others.add(a)
		}
	}
	others.report(w.T)
	if whose := w.provider.whose(w.T, answers[0].Token); whose != user {
		w.Errorf("the token that %s got is one of %q", user, whose)
	}
	if w.Failed() {
		w.FailNow()
	}
	return answers[0]
}

// wantGrants checks what the provider has seen.
func (w *world) wantGrants(asked, grants int) {
	w.Helper()
	a, g, r := len(w.provider.refreshes()), w.provider.Grants(), w.provider.Reuses()
	if a != asked || g != grants || r != 0 {
		w.Errorf("the provider was asked for %d refreshes, has granted %d and seen %d reuses; want %d, %d and none",
			a, g, r, asked, grants)
	}
	if n := w.provider.atOnce(); n != 1 {
		w.Errorf("%d refreshes at the same time", n)
	}
}

// lives checks that the session goes on in all processes, without a further grant.
func (w *world) lives(user string, cookie string, apps ...*process) {
	w.Helper()
	grants := w.provider.Grants()
	w.wantToken(user, send(w.Context(), 1, cookie, apps...).all())
	if w.provider.Grants() != grants {
		w.Errorf("a new token was refreshed once more")
	}
}

// within polls until done, for at most d.
func within(t testing.TB, d time.Duration, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v it is not so that %s", d, what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
