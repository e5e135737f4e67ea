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
