package oidcauthtest

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

var (
	formAction = regexp.MustCompile(`<form method="post" action="([^"]*)">`)
	formField  = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
)

// refresh returns the navigation that a page's Refresh header makes at once, or nil (HTML, shared declarative refresh
// steps). It is the page's own.
func (b *Browser) refresh(resp *Response) *outgoing {
	where, ok := strings.CutPrefix(resp.Header.Get("Refresh"), "0;url=")
	if b.stay || !ok {
		return nil
	}
	target, err := resolve(resp.URL, where)
	if err != nil {
		return nil
	}
	return &outgoing{
		method: http.MethodGet, url: target, initiator: resp.URL, header: http.Header{"Sec-Fetch-Mode": {"navigate"}},
	}
}

// selfPosting returns the request that the provider's page makes which carries its answer to the application (OAuth 2.0
// Form Post Response Mode), or nil.
func (b *Browser) selfPosting(resp *Response) *outgoing {
	action := formAction.FindStringSubmatch(resp.Body)
	if b.stay || action == nil || resp.URL.Host != b.provider.host || !strings.Contains(resp.Body, ".submit()") {
		return nil
	}
	target, err := url.Parse(html.UnescapeString(action[1]))
	if err != nil {
		return nil
	}
	form := url.Values{}
	for _, field := range formField.FindAllStringSubmatch(resp.Body, -1) {
		form.Add(html.UnescapeString(field[1]), html.UnescapeString(field[2]))
	}
	return &outgoing{
		method: http.MethodPost, url: target, body: []byte(form.Encode()), initiator: resp.URL,
		header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Sec-Fetch-Mode": {"navigate"}},
	}
}
