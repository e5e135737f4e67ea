package oidcauth_test

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

const frontchannelPath = "/auth/frontchannel-logout"

func framed(o *oidcauth.Options) { o.Routes.FrontchannelLogout = frontchannelPath }

// frame is what a process answers to the frame of the provider's page with that query. There are no cookies in it: browsers
// send none there.
func (p *process) frame(query string, header ...string) *http.Response {
	p.t.Helper()
	header = append(metadata("cross-site", "navigate", "iframe"), header...)
	return answerTo(p.handler, rawRequest("GET", frontchannelPath, query, "", header...))
}

// frameOf is the query of the frame for a session of the provider.
func frameOf(issuer, sid string) string { return url.Values{"iss": {issuer}, "sid": {sid}}.Encode() }

// checkFrame fails unless an answer is the empty page that only the provider may show in a frame (FCL-03, FCL-05).
func checkFrame(t testing.TB, resp *http.Response) {
	t.Helper()
	h := resp.Header
	if text := body(resp); resp.StatusCode != http.StatusOK || text != "" {
		t.Errorf("the frame is answered with %d %q", resp.StatusCode, text)
	}
	for name, want := range map[string]string{
		"Content-Type":                 "text/html; charset=utf-8",
		"Cache-Control":                "private, no-store",
		"Content-Security-Policy":      "default-src 'none'; frame-ancestors https://op.test",
		"Cross-Origin-Resource-Policy": "cross-origin",
		"X-Content-Type-Options":       "nosniff",
		"Referrer-Policy":              "no-referrer",
		"X-Frame-Options":              "",
	} {
		if got := strings.Join(h.Values(name), "|"); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") || name == "Location" || name == "Refresh" {
			t.Errorf("%s is %q", name, h.Get(name))
		}
	}
}

// FCL-02, FCL-04, FCL-05: the session with that iss and sid ends everywhere, and no other. No cookie is needed.
func TestAFrameEndsTheSessionThatItNames(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		first, second := p.login(), q.login()
		bob := p.cookies(t, oidcauthtest.User{Subject: "bob"})
		sid := p.op.SIDs("alice")[0]
		for range 3 { // once more changes nothing
			resp := q.frame(frameOf(p.op.Issuer(), sid))
			checkFrame(t, resp)
			if lines := resp.Header["Set-Cookie"]; len(lines) > 0 {
				t.Errorf("%d cookies are set for nobody's browser", len(lines))
			}
			standing(t, first, nobody, p, q)
			standing(t, second, "alice", p, q)
			standing(t, bob, "bob", p, q)
		}
		p.settle(t)
		q.settle(t)
		if n := p.op.ActiveRefreshTokens("alice"); n != 1 { // BCL-20
			t.Errorf("%d refresh tokens are left, want the other session's", n)
		}
	}, framed)
}

// FCL-01, FCL-02, THR-28: what names no session of ours, or not as it should, ends none and leaves nothing in the store,
// whoever asks and how often.
func TestAFrameThatNamesNoSessionDoesNothing(t *testing.T) {
	const ok, bad = http.StatusOK, http.StatusBadRequest
	for _, tt := range []struct {
		name, query string // ISS and SID are right
		want        int
	}{
		{"an unknown sid", "iss=ISS&sid=unknown", ok},
		{"a sid in other letters", "iss=ISS&sid=sid", ok},
		{"another issuer", "iss=https%3A%2F%2Fevil.test%2F&sid=SID", ok},
		{"the issuer without its slash", "iss=https%3A%2F%2Fop.test&sid=SID", ok},
		{"the issuer in capitals", "iss=HTTPS%3A%2F%2Fop.test%2F&sid=SID", ok},
		{"iss alone", "iss=ISS", bad},
		{"sid alone", "sid=SID", bad},
		{"neither", "", bad},
		{"an empty sid", "iss=ISS&sid=", bad},
		{"an empty issuer", "iss=&sid=SID", bad},
		{"two sids", "iss=ISS&sid=SID&sid=x", bad},
		{"the same sid twice", "iss=ISS&sid=SID&sid=SID", bad},
		{"two issuers", "iss=x&iss=ISS&sid=SID", bad},
		{"a bad escape", "iss=ISS&sid=SID&a=%zz", bad},
		{"a semicolon", "iss=ISS;sid=SID", bad},
		{"a huge query", "iss=ISS&sid=SID&a=" + strings.Repeat("a", 1<<17), bad},
		{"a huge sid", "iss=ISS&sid=" + strings.Repeat("a", 60<<10), ok},
	} {
		t.Run(tt.name, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				cookie := p.login()
				before := p.shelf.everything()
				fill := strings.NewReplacer("ISS", url.QueryEscape(p.op.Issuer()), "SID", url.QueryEscape(p.op.SIDs("alice")[0]))
				for range 3 {
					resp := p.frame(fill.Replace(tt.query), "Cookie", cookie)
					if resp.StatusCode != tt.want {
						t.Errorf("the frame is answered with %d, want %d", resp.StatusCode, tt.want)
					}
					if tt.want == ok {
						checkFrame(t, resp)
					} else if text := body(resp); !strings.HasPrefix(text, `{"error":"invalid_request",`) {
						t.Errorf("the answer is %s", text) // nobody sees it, and a frame is no place for a page
					}
					checkQuiet(t, resp)
				}
				standing(t, cookie, "alice", p, q)
				if now := p.shelf.everything(); !slices.Equal(slices.Sorted(maps.Keys(now)), slices.Sorted(maps.Keys(before))) {
					t.Errorf("%d items are in the store, and %d were before", len(now), len(before))
				}
			}, framed)
		})
	}
}

// FCL-03: a cookie that comes along is deleted, and only that of the session that has ended.
func TestAFrameDeletesTheCookieOfItsSession(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		cookie := p.login()
		sid := newestSID(p.op)
		other := q.login()
		resp := q.frame(frameOf(p.op.Issuer(), sid), "Cookie", other)
		checkFrame(t, resp)
		if lines := resp.Header["Set-Cookie"]; len(lines) > 0 {
			t.Errorf("another session's cookie is changed: %d", len(lines))
		}
		standing(t, other, "alice", p, q)
		standing(t, cookie, nobody, p, q)

		resp = q.frame(frameOf(p.op.Issuer(), newestSID(p.op)), "Cookie", other)
		checkFrame(t, resp)
		if !clears(resp.Header) {
			t.Errorf("the cookie of the session is not deleted: %q", resp.Header["Set-Cookie"])
		}
		standing(t, other, nobody, p, q)
	}, framed)
}

// S08: the session is known where its cookie comes along, also if it began before the route was switched on.
func TestAFrameEndsTheSessionWhoseCookieItHas(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		cookie, framed := p.login(), p.another(p.mode(), framed)
		defer framed.settle(t)
		checkFrame(t, framed.frame(frameOf(p.op.Issuer(), p.op.SIDs("alice")[0]), "Cookie", cookie))
		standing(t, cookie, nobody, p, q, framed) // a copy of it, too
	})
}

// HYG-02: it is a GET, and nothing that a browser sends for nobody's sake.
func TestWhatAFrameIsAskedBy(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		cookie := p.login()
		query := frameOf(p.op.Issuer(), newestSID(p.op))
		for _, method := range []string{"HEAD", "POST", "PUT", "DELETE", "OPTIONS", "get"} {
			resp := answerTo(p.handler, rawRequest(method, frontchannelPath, query, query, "Content-Type", formType))
			if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "GET" {
				t.Errorf("%s is answered with %d, Allow %q", method, resp.StatusCode, resp.Header.Get("Allow"))
			}
			checkQuiet(t, resp)
		}
		for _, header := range [][]string{
			{"Sec-Purpose", "prefetch"}, {"Sec-Purpose", "prefetch;prerender"}, {"Purpose", "prefetch"}, {"X-Moz", "prefetch"},
		} {
			resp := p.frame(query, header...)
			if resp.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("%v is answered with %d", header, resp.StatusCode)
			}
			checkQuiet(t, resp)
		}
		standing(t, cookie, "alice", p, q)
		resp := answerTo(p.RequireAuthAPI(p.mux), rawRequest("GET", frontchannelPath, query, "")) // no guard is before it
		checkFrame(t, resp)
		standing(t, cookie, nobody, p, q)
	}, framed)
}

// FCL-04: what the provider's own page does, in a browser. Its frame has the cookie only with SameSite=None.
func TestAFrameInABrowser(t *testing.T) {
	everywhere := func(o *oidcauth.Options) {
		o.Cookie.SameSite, o.InsecureCrossSiteSession = http.SameSiteNoneMode, true
	}
	for name, site := range map[string]func(*oidcauth.Options){"Lax": framed, "None": everywhere} {
		t.Run(name, func(t *testing.T) {
			everyMode(t, func(t *testing.T, p, q *process) {
				p.op.Change(func(k *oidcauthtest.Knobs) { k.FrontchannelLogoutURI = "https://app.test" + frontchannelPath })
				p.browser.SignIn(oidcauthtest.Alice)
				cookie := cookieOf(p.browser)
				r := httptest.NewRequest(http.MethodGet, p.op.FrontchannelLogoutURL(newestSID(p.op)), http.NoBody)
				r.Header.Set("Sec-Fetch-Mode", "navigate")
				r.Header.Set("Sec-Fetch-Dest", "iframe")
				page := p.browser.From(p.op.Issuer()).Do(r)
				if page.StatusCode != http.StatusOK || page.Body != "" {
					t.Errorf("the frame is answered with %d %q", page.StatusCode, page.Body)
				}
				standing(t, cookie, nobody, p, q)
				if left := slices.ContainsFunc(p.browser.Cookies("/"), isSession); left == (name == "None") {
					t.Errorf("the browser has a session cookie: %t", left)
				}
			}, framed, site)
		})
	}
}

// A sid may have any characters.
func TestAFrameForAnOddSID(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		p.op.Change(func(k *oidcauthtest.Knobs) { k.OddSIDs = true })
		cookie := p.login()
		checkFrame(t, q.frame(frameOf(p.op.Issuer(), newestSID(p.op))))
		standing(t, cookie, nobody, p, q)
	}, framed)
}

// FCL-04: it works for as long as the session lives, also where a second login had the same sid.
func TestAFrameEndsASessionHoweverOldItIs(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		p.op.Change(func(k *oidcauthtest.Knobs) { k.SID = "the only one" })
		first := p.login()
		time.Sleep(70 * time.Hour)
		second := q.login() // by the session that the provider still has
		time.Sleep(20 * time.Hour)
		standing(t, first, nobody, p, q) // after 72 hours
		standing(t, second, "alice", p, q)
		checkFrame(t, q.frame(frameOf(p.op.Issuer(), "the only one")))
		standing(t, second, nobody, p, q)
	}, framed, func(o *oidcauth.Options) { o.IdleTimeout = -1 })
}

// S08: a frame ends what there is. Who signs in later, with another sid, is not meant, and who does so with the same one only
// for the minute that clocks may differ by.
func TestALoginAfterAFrame(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		p.login()
		checkFrame(t, q.frame(frameOf(p.op.Issuer(), newestSID(p.op))))
		standing(t, p.login(), "alice", p, q)
		p.op.Change(func(k *oidcauthtest.Knobs) { k.SID = "the only one" })
		p.login()
		checkFrame(t, q.frame(frameOf(p.op.Issuer(), "the only one")))
		time.Sleep(62 * time.Second)
		standing(t, p.login(), "alice", p, q)
	}, framed)
}

// What goes wrong with the store is an error, and not a logout that was none.
func TestAFrameWhileTheStoreIsDown(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		cookie := p.login()
		query := frameOf(p.op.Issuer(), newestSID(p.op))
		q.faults.Fail(errDown)
		resp := q.frame(query)
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			t.Errorf("the frame is answered with %d", resp.StatusCode)
		}
		checkQuiet(t, resp)
		q.faults.Heal()
		standing(t, cookie, "alice", p, q)
		time.Sleep(2 * time.Second)
		checkFrame(t, q.frame(query))
		standing(t, cookie, nobody, p, q)
	}, framed)
}

// The provider's page goes on and takes the frame along, which happens: what has begun is finished all the same.
func TestAFrameThatIsGoneInTheMidst(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		atEach(2, t, func(_ int, hook func(func()) func(method, key string)) {
			cookie := p.login()
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			q.faults.Before(hook(leave))
			r := rawRequest("GET", frontchannelPath, frameOf(p.op.Issuer(), newestSID(p.op)), "")
			answerTo(q.handler, r.WithContext(ctx))
			q.faults.Before(nil)
			standing(t, cookie, nobody, p, q)
		})
	}, framed)
}

// The application is told of a session that a frame has ended, once, and of none that there was not.
func TestEventsOfAFrame(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		p.login()
		checkFrame(t, q.frame(frameOf(p.op.Issuer(), "unknown")))
		if all := q.logs.all(); len(all) > 0 {
			t.Errorf("told of %+v", all)
		}
		checkFrame(t, q.frame(frameOf(p.op.Issuer(), newestSID(p.op))))
		all := q.logs.all()
		if len(all) != 1 || all[0].Name != "session.revoked" || all[0].Route != "frontchannel-logout" ||
			all[0].Issuer != p.op.Issuer() {
			t.Errorf("told of %+v", all)
		}
	}, framed)
}

// Many frames at once, here and there.
func TestFramesThatComeToAllAtOnce(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		first, second := p.login(), q.login()
		query := frameOf(p.op.Issuer(), p.op.SIDs("alice")[0])
		var group sync.WaitGroup
		for i := range 20 {
			group.Go(func() { checkFrame(t, []*process{p, q}[i%2].frame(query)) })
		}
		group.Wait()
		standing(t, first, nobody, p, q)
		standing(t, second, "alice", p, q)
	}, framed)
}

// The route is off until it is set.
func TestWithoutARouteThereIsNoFrame(t *testing.T) {
	everyMode(t, func(t *testing.T, p, q *process) {
		cookie := p.login()
		if got := body(p.frame(frameOf(p.op.Issuer(), newestSID(p.op)))); got != nobody { // the application's own page
			t.Errorf("the answer is %q", got)
		}
		standing(t, cookie, "alice", p, q)
		mode := p.mode()
		before := len(p.shelf.everything())
		p.login()
		without := len(p.shelf.everything()) - before
		on := p.another(mode, framed)
		on.login()
		with := len(p.shelf.everything()) - before - without
		on.settle(t)
		if inStore := p.stored() > 0; inStore && with != without || !inStore && with != without+1 {
			t.Errorf("of a login %d items are in the store with the route, and %d without", with, without)
		}
	})
}
