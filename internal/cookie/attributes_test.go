package cookie_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/oidcauth/oidcauth/internal/cookie"
)

func TestAttributesOfACookie(t *testing.T) {
	t.Parallel()
	const deleted = "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:01 GMT"
	tests := map[string]struct {
		attr            cookie.Attributes
		maxAge          int
		wantSet         string
		wantAfterDelete string
	}{
		"host cookie, lax unless said otherwise": { // CKE-09
			attr: cookie.Attributes{Secure: true}, maxAge: 60,
			wantSet:         "n=v; Path=/; Max-Age=60; HttpOnly; Secure; SameSite=Lax",
			wantAfterDelete: "n=; Path=/" + deleted + "; HttpOnly; Secure; SameSite=Lax",
		},
		"ends with the browser": {
			attr:            cookie.Attributes{Secure: true, SameSite: http.SameSiteStrictMode},
			wantSet:         "n=v; Path=/; HttpOnly; Secure; SameSite=Strict",
			wantAfterDelete: "n=; Path=/" + deleted + "; HttpOnly; Secure; SameSite=Strict",
		},
		"everything": { // CKE-07
			attr: cookie.Attributes{
				Domain: "example.com", Path: "/app", Secure: true, Partitioned: true, SameSite: http.SameSiteNoneMode,
			},
			maxAge:          1,
			wantSet:         "n=v; Path=/app; Domain=example.com; Max-Age=1; HttpOnly; Secure; SameSite=None; Partitioned",
			wantAfterDelete: "n=; Path=/app; Domain=example.com" + deleted + "; HttpOnly; Secure; SameSite=None; Partitioned",
		},
		"plain http": {
			attr: cookie.Attributes{SameSite: http.SameSiteDefaultMode}, maxAge: 60,
			wantSet:         "n=v; Path=/; Max-Age=60; HttpOnly; SameSite=Lax",
			wantAfterDelete: "n=; Path=/" + deleted + "; HttpOnly; SameSite=Lax",
		},
		"four hundred days at most": { // CKE-05
			attr: cookie.Attributes{}, maxAge: 1 << 40,
			wantSet:         "n=v; Path=/; Max-Age=34560000; HttpOnly; SameSite=Lax",
			wantAfterDelete: "n=; Path=/" + deleted + "; HttpOnly; SameSite=Lax",
		},
		"a session that is over": {
			attr: cookie.Attributes{}, maxAge: -5,
			wantSet:         "n=v; Path=/; Max-Age=0; HttpOnly; SameSite=Lax",
			wantAfterDelete: "n=; Path=/" + deleted + "; HttpOnly; SameSite=Lax",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{}
			tt.attr.Set(h, "n", "v", tt.maxAge)
			if got := h["Set-Cookie"]; !slices.Equal(got, []string{tt.wantSet}) {
				t.Errorf("set:\n got %q\nwant %q", got, tt.wantSet)
			}
			tt.attr.Delete(h, "n")
			if got := h["Set-Cookie"]; !slices.Equal(got, []string{tt.wantAfterDelete}) {
				t.Errorf("delete:\n got %q\nwant %q", got, tt.wantAfterDelete)
			}
		})
	}
}

func TestSetReplacesOnlyTheLineOfItsOwnName(t *testing.T) {
	t.Parallel()
	before := []string{"a=1; Path=/", "n=old; Path=/", "N=other", "n.1=chunk", "nn=x"}
	h := http.Header{"Set-Cookie": before}
	shared := slices.Clone(before)
	cookie.Attributes{}.Set(h, "n", "new", 0)
	want := []string{"a=1; Path=/", "N=other", "n.1=chunk", "nn=x", "n=new; Path=/; HttpOnly; SameSite=Lax"}
	if got := h["Set-Cookie"]; !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	// Another response may share the slice that was there.
	if !slices.Equal(before, shared) {
		t.Errorf("the slice in the header was changed: %q", before)
	}
}
