package oidcauth_test

import (
	"context"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// hiding is what a wrapper does that knows of no index: with metrics, say.
type hiding struct{ oidcauth.SessionStore }

// indexed passes the index on.
type indexed struct {
	oidcauth.SessionStore
	index oidcauth.SessionIndex
}

func (s *indexed) Tagged(ctx context.Context, tag string) ([]string, error) {
	return s.index.Tagged(ctx, tag)
}

// A choice is what an application may set about revocation, and what New says to it.
type choice struct {
	name   string
	edit   func(o *oidcauth.Options)
	fields []string
	says   []string // of each mistake
}

func choices() []choice {
	var nilMemory *oidcauth.MemoryStore
	var nilOwn *hiding
	memory := oidcauth.NewMemoryStore(0)
	backchannel := oidcauth.Routes{BackchannelLogout: "/auth/backchannel-logout"}
	frontchannel := oidcauth.Routes{FrontchannelLogout: "/auth/frontchannel-logout"}
	return []choice{
		{"nothing", func(*oidcauth.Options) {}, nil, nil},
		{"a RevocationStore", func(o *oidcauth.Options) { o.RevocationStore = memory }, nil, nil},
		{"a RevocationStore without an index", func(o *oidcauth.Options) {
			o.RevocationStore, o.Routes = hiding{memory}, backchannel
		}, nil, nil},
		{
			"both", func(o *oidcauth.Options) { o.Store, o.RevocationStore = memory, memory },
			[]string{"RevocationStore"},
			[]string{"*oidcauth.MemoryStore", "set one of the two"},
		},
		{
			"both, one without an index", func(o *oidcauth.Options) { o.Store, o.RevocationStore = hiding{memory}, memory },
			[]string{"RevocationStore"},
			[]string{"oidcauth_test.hiding", "set one of the two"},
		},
		{
			"a nil MemoryStore", func(o *oidcauth.Options) { o.RevocationStore = nilMemory },
			[]string{"RevocationStore"},
			[]string{"nil *oidcauth.MemoryStore", "make one, or leave the field out"},
		},
		{
			"a nil pointer of the application's", func(o *oidcauth.Options) { o.RevocationStore = nilOwn },
			[]string{"RevocationStore"},
			[]string{"nil *oidcauth_test.hiding", "make one, or leave the field out"},
		},
		{"a Store that hides its index", func(o *oidcauth.Options) { o.Store = hiding{memory} }, nil, nil},
		{"a Store that hides its index, and the route", func(o *oidcauth.Options) {
			o.Store, o.Routes = hiding{memory}, backchannel
		}, []string{"Routes.BackchannelLogout"}, []string{"oidcauth_test.hiding", "Tagged", "SessionIndex", "wraps"}},
		{
			"a pointer to one, and the route", func(o *oidcauth.Options) { o.Store, o.Routes = &hiding{memory}, backchannel },
			[]string{"Routes.BackchannelLogout"},
			[]string{"*oidcauth_test.hiding", "Tagged"},
		},
		{"a wrapper without a name, and the route", func(o *oidcauth.Options) {
			o.Store, o.Routes = struct{ oidcauth.SessionStore }{memory}, backchannel
		}, []string{"Routes.BackchannelLogout"}, []string{"struct { oidcauth.SessionStore }", "Tagged"}},
		{"a Store that hides its index, and the frames", func(o *oidcauth.Options) {
			o.Store, o.Routes = hiding{memory}, frontchannel
		}, []string{"Routes.FrontchannelLogout"}, []string{"oidcauth_test.hiding", "Tagged"}},
		{"a wrapper that passes the index on, and the route", func(o *oidcauth.Options) {
			o.Store, o.Routes = &indexed{memory, memory}, backchannel
		}, nil, nil},
		{
			"no store, and the route", func(o *oidcauth.Options) { o.Routes = backchannel },
			[]string{"Routes.BackchannelLogout"},
			[]string{"set RevocationStore, or Store"},
		},
		{
			"no store, and the frames", func(o *oidcauth.Options) { o.Routes = frontchannel },
			[]string{"Routes.FrontchannelLogout"},
			[]string{"set RevocationStore, or Store"},
		},
		{"no store, and the route switched off", func(o *oidcauth.Options) { o.Routes.BackchannelLogout = "-" }, nil, nil},
		{"the longest cache", func(o *oidcauth.Options) {
			o.RevocationStore, o.RevocationCache = memory, 30*time.Second
		}, nil, nil},
		{
			"a longer cache", func(o *oidcauth.Options) { o.RevocationStore, o.RevocationCache = memory, 30*time.Second+1 },
			[]string{"RevocationCache"},
			[]string{"0 and 30 s"},
		},
		{
			"a negative cache", func(o *oidcauth.Options) { o.RevocationStore, o.RevocationCache = memory, -1 },
			[]string{"RevocationCache"},
			[]string{"0 and 30 s"},
		},
		{
			"a negative interval", func(o *oidcauth.Options) { o.StreamCheckInterval = -time.Second },
			[]string{"StreamCheckInterval"},
			[]string{"-1s", "negative", "leave it out"},
		},
		{
			"a negative timeout", func(o *oidcauth.Options) { o.RevocationStore, o.StoreTimeout = memory, -time.Second },
			[]string{"StoreTimeout"},
			[]string{"-1s", "negative", "leave it out"},
		},
		{"the greatest age", func(o *oidcauth.Options) {
			o.RevocationStore, o.LogoutTokenMaxAge = memory, 5*time.Minute
		}, nil, nil},
		{
			"a greater age", func(o *oidcauth.Options) { o.RevocationStore, o.LogoutTokenMaxAge = memory, 5*time.Minute+1 },
			[]string{"LogoutTokenMaxAge"},
			[]string{"0 and 5 min"},
		},
		{
			"a negative age", func(o *oidcauth.Options) { o.RevocationStore, o.LogoutTokenMaxAge = memory, -1 },
			[]string{"LogoutTokenMaxAge"},
			[]string{"0 and 5 min"},
		},
		{"ten years", func(o *oidcauth.Options) { o.RevocationStore, o.AbsoluteTimeout = memory, 10*365*24*time.Hour }, nil, nil},
		{"more than ten years", func(o *oidcauth.Options) {
			o.RevocationStore, o.AbsoluteTimeout = memory, 10*365*24*time.Hour+1
		}, []string{"AbsoluteTimeout"}, []string{"too long", "10 years"}},
		{
			"for ever", func(o *oidcauth.Options) { o.Store, o.AbsoluteTimeout = memory, math.MaxInt64 },
			[]string{"AbsoluteTimeout"},
			[]string{"too long", "10 years"},
		},
		{"for ever, in cookies alone", func(o *oidcauth.Options) { o.AbsoluteTimeout = math.MaxInt64 }, nil, nil},
		{"all at once", func(o *oidcauth.Options) {
			o.Store, o.RevocationStore, o.RevocationCache, o.StreamCheckInterval, o.LogoutTokenMaxAge = nilMemory, nilOwn, -1, -1, -1
		}, []string{
			"LogoutTokenMaxAge", "RevocationCache", "RevocationStore", "RevocationStore", "Store", "StreamCheckInterval",
		}, nil},
	}
}

// Issue 5, done when 7: each mistake names the field, the type, and what to do.
func TestWhatRevocationOptionsNewRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range choices() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := rightOptions()
			tt.edit(&o)
			client, err := oidcauth.New(o)
			if got := fieldsOf(err); !slices.Equal(got, tt.fields) || (client == nil) != (len(tt.fields) > 0) {
				t.Fatalf("mistakes in %q, want %q: %v", got, tt.fields, err)
			}
			for _, mistake := range configErrors(err) {
				for _, text := range tt.says {
					if !strings.Contains(mistake.Reason, text) {
						t.Errorf("%q does not say %q", mistake.Error(), text)
					}
				}
				if strings.Contains(mistake.Reason, firstSecret) {
					t.Errorf("%s tells a secret", mistake.Field)
				}
			}
		})
	}
}

// Where no session can be ended from elsewhere there is no route that says it has been done; where one can, there is.
func TestWhereTheBackchannelRouteIs(t *testing.T) {
	t.Parallel()
	const moved, usual = "/oidc/logout-tokens", "/auth/backchannel-logout"
	for _, tt := range []struct {
		name string
		edit func(o *oidcauth.Options)
		at   map[string]int // status of a POST without a token
	}{
		{"in cookies alone", func(o *oidcauth.Options) { o.Store = nil }, map[string]int{usual: 404}},
		{"a Store that hides its index", func(o *oidcauth.Options) { o.Store = hiding{o.Store} }, map[string]int{usual: 404}},
		{"a Store", func(*oidcauth.Options) {}, map[string]int{usual: 400}},
		{"a Store, switched off", func(o *oidcauth.Options) { o.Routes.BackchannelLogout = "-" }, map[string]int{usual: 404}},
		{"a Store, moved", func(o *oidcauth.Options) { o.Routes.BackchannelLogout = moved }, map[string]int{
			usual: 404, moved: 400,
		}},
		{"a RevocationStore", inCookies, map[string]int{usual: 400, "/auth/frontchannel-logout": 404}},
		{"a RevocationStore without an index", func(o *oidcauth.Options) {
			inCookies(o)
			o.RevocationStore = hiding{o.RevocationStore}
		}, map[string]int{usual: 400}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newProcess(t, tt.edit)
			for path, want := range tt.at {
				r := p.op.NewBrowser(p.handler).Request("POST", path)
				r.Header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
				if got := answerTo(p.Handler(), r).StatusCode; got != want {
					t.Errorf("%s answers %d, want %d", path, got, want)
				}
			}
			p.browser.SignIn(oidcauthtest.Alice) // and everything else works
		})
	}
}
