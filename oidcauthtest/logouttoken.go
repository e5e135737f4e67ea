package oidcauthtest

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// LogoutToken returns a logout token for the application (OpenID Connect Back-Channel Logout 1.0 section 2.4), signed
// as ID tokens are: iss, aud, iat, exp in two minutes, a jti of its own, events, and typ logout+jwt. An empty subject
// or sid leaves that claim out; neither needs to be one of a login.
//
// Each edit may change header and claims, after [Knobs.EditLogoutToken]. What is set to nil is null in the token, what
// is deleted is not there. With the header's alg "none" it is unsigned, and with another than it had, such as ES256,
// signed with a published key of that kind.
func (p *Provider) LogoutToken(subject, sid string, edit ...func(header, claims map[string]any)) string {
	p.tb.Helper()
	token, err := p.op.LogoutToken(subject, sid, edit...)
	if err != nil {
		p.tb.Fatalf("logout token: %v", err)
	}
	return token
}

// SIDs returns the sid of each login of a subject that the provider has approved, ended ones included, newest last. It
// has them before the application has redeemed the code.
func (p *Provider) SIDs(subject string) []string { return p.op.SIDs(subject) }

// LogoutAnswers returns what the application answered to the logout tokens that the provider sent it to
// [Knobs.BackchannelLogoutURI], oldest first. Status 0 is no answer.
func (p *Provider) LogoutAnswers() []*Response {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.answers)
}

// FrontchannelLogoutURL returns the URL of the frame that tells the application at [Knobs.FrontchannelLogoutURI] of the
// end of a session, with iss and sid, or with neither if sid is empty. As in the conformance suite nothing in it is
// escaped. To load the frame:
//
//	r := httptest.NewRequest("GET", provider.FrontchannelLogoutURL(sid), nil)
//	r.Header.Set("Sec-Fetch-Mode", "navigate")
//	r.Header.Set("Sec-Fetch-Dest", "iframe")
//	b.From(provider.Issuer()).Do(r)
//
// It stops the test where the knob is not set.
func (p *Provider) FrontchannelLogoutURL(sid string) string {
	p.tb.Helper()
	link := p.op.FrontchannelLogoutURL(sid)
	if link == "" {
		p.tb.Fatalf("there is no front-channel logout: set Knobs.FrontchannelLogoutURI")
	}
	return link
}

// sendLogoutToken posts a logout token as a server does: it has no cookies, follows no redirect, and waits 10 seconds.
func (p *Provider) sendLogoutToken(ctx context.Context, uri, token string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	form := url.Values{"logout_token": {token}, "ignored": {"1"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, uri, strings.NewReader(form.Encode()))
	if err != nil {
		p.tb.Errorf("back-channel logout: %v", err)
		return
	}
	req.Header.Set("Content-Type", formType)
	h := p.apis.get(originOf(req.URL))
	if h == nil {
		p.tb.Errorf("back-channel logout: nothing answers at %s: add it with Provider.Serve", originOf(req.URL))
		return
	}
	got := &Response{URL: req.URL, Header: http.Header{}, Request: req}
	if resp, err := exchange(p.tb, h, req); err == nil {
		body, _ := io.ReadAll(resp.Body) // from memory
		got.StatusCode, got.Header, got.Body = resp.StatusCode, resp.Header, string(body)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers = append(p.answers, got)
}
