package main

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// signedIn returns a browser in which somebody has signed in to the application at base.
func signedIn(t *testing.T, base, user string) *browser {
	t.Helper()
	b := newBrowser(t)
	resp := b.wantPage(base+"/account", nil, 200, "DEVELOPMENT PROVIDER")
	b.wantPage(resp.Request.URL.String(), url.Values{"do": {"signin"}, "user": {user}, "password": {"password"}}, 200,
		"Only you can see this page.")
	return b
}

// wantUser asks as a script does, which is never sent to the login.
func (b *browser) wantUser(base, want string) {
	b.t.Helper()
	if want == "" {
		b.wantPage(base+"/api/me", nil, 401, "unauthenticated")
		return
	}
	b.wantPage(base+"/api/me", nil, 200, `"sub":"`+want+`"`)
}

var handleField = regexp.MustCompile(`name="handle" value="([^"]+)"`)

// others are the handles of the sessions that the page offers to end.
func (b *browser) others(base string) (handles []string) {
	b.t.Helper()
	_, body := b.page(base+"/sessions", nil)
	if n := strings.Count(body, "<strong>This session</strong>"); n != 1 {
		b.t.Errorf("%d sessions are marked as this one:\n%s", n, body)
	}
	for _, found := range handleField.FindAllStringSubmatch(body, -1) {
		handles = append(handles, found[1])
	}
	if n := strings.Count(body, "<strong>Another session</strong>"); n != len(handles) {
		b.t.Errorf("%d other sessions and %d that can be ended:\n%s", n, len(handles), body)
	}
	return handles
}

func TestOneBrowserEndsTheSessionOfAnother(t *testing.T) {
	setenv(t, nil)
	base := startWith(t, "memory").String()
	first, second, grace := signedIn(t, base, "ada"), signedIn(t, base, "ada"), signedIn(t, base, "grace")
	first.wantPage(base+"/sessions", nil, 200, "2 sessions", "Created", "Last seen", "Ends", "Sign out everywhere")
	handles := first.others(base)
	if len(handles) != 1 {
		t.Fatalf("%d sessions can be ended, want that of the second browser", len(handles))
	}
	if handles := grace.others(base); len(handles) != 0 {
		t.Errorf("Grace is shown %d other sessions", len(handles))
	}
	end := url.Values{"handle": handles}
	grace.wantPage(base+"/sessions/end", end, 200, "1 session<")
	second.wantUser(base, "ada") // another user's word does nothing

	first.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp := first.wantPage(base+"/sessions/end", end, 303)
	first.CheckRedirect = nil
	if got := resp.Header.Get("Location"); got != "/sessions" {
		t.Errorf("it leads to %s", got)
	}
	second.wantUser(base, "")
	first.wantUser(base, "ada")
	grace.wantUser(base, "grace")
	if handles := first.others(base); len(handles) != 0 {
		t.Errorf("%d sessions are still shown", len(handles))
	}
	first.wantPage(base+"/sessions/end", end, 200, "1 session<") // twice does no harm
	second.wantPage(base+"/sessions", nil, 200, "2 sessions")    // the provider signs it in again, as the page says
}

// The forms are the user's to send, and nobody else's.
func TestSessionsAreEndedByTheirUserAlone(t *testing.T) {
	setenv(t, nil)
	base := startWith(t, "memory").String()
	first, second := signedIn(t, base, "ada"), signedIn(t, base, "ada")
	handles := first.others(base)
	for _, path := range []string{"/sessions/end", "/sessions/end-all"} {
		newBrowser(t).wantPage(base+path, url.Values{"handle": handles}, 200, "DEVELOPMENT PROVIDER") // sign in first
		for _, site := range []string{"cross-site", "same-site"} {
			form := strings.NewReader(url.Values{"handle": handles}.Encode())
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+path, form)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Sec-Fetch-Site", site)
			resp, err := first.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusForbidden {
				t.Errorf("%s from %s: status %d, want 403", path, site, resp.StatusCode)
			}
		}
		if resp, _ := first.page(base+path, nil); resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("GET %s: status %d", path, resp.StatusCode)
		}
	}
	first.wantUser(base, "ada")
	second.wantUser(base, "ada")
	newBrowser(t).wantPage(base+"/sessions", nil, 200, "DEVELOPMENT PROVIDER") // it shows nothing to strangers
}

func TestSignOutEverywhere(t *testing.T) {
	for _, store := range []string{"memory", "revocations"} {
		t.Run(store, func(t *testing.T) {
			setenv(t, nil)
			base := startWith(t, store).String()
			first, second, grace := signedIn(t, base, "ada"), signedIn(t, base, "ada"), signedIn(t, base, "grace")
			first.wantPage(base+"/sessions", nil, 200, "Sign out everywhere")
			resp := first.wantPage(base+"/sessions/end-all", url.Values{}, 200, "Sign in", "Sign up")
			if got := resp.Request.URL; "http://"+got.Host != base { // a question of the provider's, perhaps
				t.Errorf("it ended at %s", got)
			}
			first.wantUser(base, "")
			second.wantUser(base, "")
			grace.wantUser(base, "grace")
			first.wantPage(base+"/account", nil, 200, "DEVELOPMENT PROVIDER") // and signed out there, too
			signedIn(t, base, "ada").wantUser(base, "ada")
		})
	}
}

func TestWithoutAStoreThePageSaysWhyAndWhatToDo(t *testing.T) {
	setenv(t, nil)
	for _, store := range []string{inCookies, "revocations"} {
		base := startWith(t, store).String()
		first, second := signedIn(t, base, "ada"), signedIn(t, base, "ada")
		first.wantPage(base+"/sessions", nil, 200,
			"it keeps each session in a\ncookie", "go run ./examples/quickstart", "-store memory",
			"unsupported operation: to list")
		_, body := first.page(base+"/sessions", nil)
		if strings.Contains(body, "/sessions/end\"") || strings.Contains(body, "end-all") != (store != inCookies) {
			t.Errorf("%s: the page offers what cannot be done:\n%s", store, body)
		}
		if store == inCookies { // whoever made a form of their own is told that it did nothing
			first.wantPage(base+"/sessions/end-all", url.Values{}, 500, "server_error")
		}
		first.wantUser(base, "ada")
		second.wantUser(base, "ada")
	}
}

func TestAnUnknownStoreIsAnError(t *testing.T) {
	setenv(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // if it starts after all, it ends
	err := run(ctx, "127.0.0.1:0", "redis", io.Discard)
	if err == nil || !strings.Contains(err.Error(), `"redis": choose cookie, memory or revocations`) {
		t.Errorf("the error is %v", err)
	}
}
