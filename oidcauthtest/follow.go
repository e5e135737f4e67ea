package oidcauthtest

import (
	"cmp"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Submit presses the button with that text on a page that the browser has shown, and sends the form around it: hidden
// fields and what else the page has filled in, as a form of that page does, with its Origin, Fetch metadata and
// Referrer-Policy. It stops the test unless exactly one button has the text, or if the form is of a kind that the
// browser cannot send: one with files or a select element.
func (b *Browser) Submit(page *Response, button string) *Response {
	b.tb.Helper()
	if page.asked == nil || !isHTML(page.Header) {
		b.tb.Fatalf("submit %q: the browser shows no page", button)
	}
	var found []form
	for _, f := range readPage(page.Body).forms {
		for _, pressed := range f.buttons {
			if pressed.text == button {
				found = append(found, f.with(pressed))
			}
		}
	}
	if len(found) != 1 {
		b.tb.Fatalf("submit %q: %d buttons have that text: %s", button, len(found), excerpt(page.Body))
	}
	s, err := found[0].submission(page.URL)
	if err != nil {
		b.tb.Fatalf("submit %q: %v", button, err)
	}
	return b.browse(b.tb.Context(), page.asked.begin(page, s))
}

// follow is the request to which its answer leads without the user: by a redirect, or if it is a page by a refresh or
// by a form that submits itself.
func (o *outgoing) follow(r *Response) (next *outgoing, leads bool, err error) {
	if isRedirect(r) {
		target, err := resolve(r.URL, r.Header.Get("Location"))
		if err != nil {
			return nil, false, err
		}
		return o.redirect(r.StatusCode, target), true, nil
	}
	noPage := []int{0, http.StatusNoContent, http.StatusResetContent, http.StatusNotModified}
	if !o.navigates() || slices.Contains(noPage, r.StatusCode) {
		return nil, false, nil
	}
	s, leads, err := onward(r)
	if err != nil || !leads {
		return nil, false, err
	}
	next = o.begin(r, s)
	next.alone = true
	return next, true, nil
}

// onward is what a page does by itself.
func onward(r *Response) (s submission, leads bool, err error) {
	var p page
	if isHTML(r.Header) {
		p = readPage(r.Body)
	}
	link, refreshes := parseRefresh(r.Header.Get("Refresh"))
	if !refreshes {
		link, refreshes = p.refresh, p.refreshes
	}
	switch {
	case p.submits && len(p.forms) > 0: // at once, which a refresh is not
		s, err = p.forms[0].submission(r.URL)
		return s, true, err
	case refreshes:
		target, err := resolve(r.URL, cmp.Or(link, r.URL.String()))
		return submission{method: http.MethodGet, url: target}, true, err
	}
	return submission{}, false, nil
}

func isHTML(h http.Header) bool {
	kind, _, _ := mime.ParseMediaType(h.Get("Content-Type")) // what cannot be read is no page
	return kind == "text/html" || kind == "application/xhtml+xml"
}

// A submission is what a form sends.
type submission struct {
	method string
	url    *url.URL
	body   []byte
}

// with is the form as that button sends it.
func (f form) with(b button) form {
	f.action, f.method = cmp.Or(b.action, f.action), cmp.Or(b.method, f.method)
	if b.name != "" {
		f.fields = slices.Concat(f.fields, []field{b.field})
	}
	return f
}

// submission is what f sends (HTML standard, form submission algorithm). base is where its page is.
func (f form) submission(base *url.URL) (submission, error) {
	if f.unable != "" {
		return submission{}, fmt.Errorf("the browser cannot send a form with %s", f.unable)
	}
	target, err := resolve(base, cmp.Or(f.action, base.String()))
	if err != nil {
		return submission{}, err
	}
	pairs := make([]string, len(f.fields))
	for i, field := range f.fields {
		pairs[i] = url.QueryEscape(field.name) + "=" + url.QueryEscape(field.value)
	}
	data := strings.Join(pairs, "&")
	switch strings.ToLower(f.method) {
	case "post":
		return submission{method: http.MethodPost, url: target, body: []byte(data)}, nil
	case "dialog":
		return submission{}, errors.New("the browser cannot send a form with method=dialog")
	}
	target.RawQuery = data
	return submission{method: http.MethodGet, url: target}, nil
}
