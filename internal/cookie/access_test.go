package cookie_test

import (
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth/internal/cookie"
)

func TestWhichAccessTokenServes(t *testing.T) { // S02, behaviour.md 8
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().Unix()
		list := []cookie.AccessToken{
			{Token: "login", Audience: "a", Requested: "openid read", Scope: "openid read extra", Issued: now, Expiry: now + 3600},
			{Token: "write", Audience: "a", Requested: "write", Issued: now, Expiry: now + 3600},
			{Token: "b", Audience: "b", Requested: "read write", Scope: "read", Issued: now, Expiry: now + 3600},
			{Token: "old", Audience: "c", Issued: now - 3600, Expiry: now},
			{Token: "older", Audience: "c", Requested: "x", Issued: now - 7200, Expiry: now - 3600},
			{Token: "eternal", Audience: "d", Issued: now - 1e9},
		}
		for _, tt := range []struct {
			audience, scope string
			left            time.Duration
			refused, want   string
		}{
			{"a", "openid read", 0, "", "login"},
			{"a", "", 0, "", "login"},
			{"a", "extra", 0, "", "login"},  // granted beyond what was asked for
			{"a", "write", 0, "", "write"},  // the login's does not cover it
			{"a", "read write", 0, "", ""},  // nor do two together
			{"a", "READ", 0, "", ""},        // scopes are compared exactly
			{"b", "read write", 0, "", "b"}, // asked for in these words, and granted less
			{"b", "write read", 0, "", ""},  // in others: perhaps it is granted now
			{"b", "read", 0, "", "b"},
			{"", "", 0, "", ""},                       // never another audience's
			{"c", "", 0, "", ""},                      // expired this very second
			{"c", "", -2 * time.Hour, "", "old"},      // but known
			{"d", "", 1e6 * time.Hour, "", "eternal"}, // nothing is known of its end
			{"a", "read", 30 * time.Minute, "", ""},   // exactly half its lifetime is left
			{"a", "read", 29 * time.Minute, "", "login"},
			{"a", "read", 1000 * time.Hour, "", ""},
			{"a", "", 0, "login", "write"},
			{"b", "read", 0, "b", ""},
		} {
			got := ""
			if tt.left == 30*time.Minute || tt.left == 29*time.Minute {
				list[0].Issued = now - 1800 // half of the hour and a half
				list[0].Expiry = now + 1800
			} else {
				list[0].Issued, list[0].Expiry = now, now+3600
			}
			if tt.left == 1000*time.Hour {
				list[0].Issued, list[0].Expiry = now-1801, now+1799 // less than half is left
			}
			if a := (cookie.Want{Audience: tt.audience, Scope: tt.scope}).Pick(list, tt.left, tt.refused); a != nil {
				got = a.Token
			}
			if got != tt.want {
				t.Errorf("%q of %q lasting %v without %q: %q, want %q", tt.scope, tt.audience, tt.left, tt.refused, got, tt.want)
			}
		}
	})
}

func TestWhatIsWanted(t *testing.T) {
	t.Parallel()
	login := []cookie.AccessToken{{Audience: "a", Requested: "openid read"}, {Audience: "b", Requested: "x"}}
	defaults := map[string][]string{"a": {"unused"}, "b": {"write", "read"}}
	for _, tt := range []struct {
		list     []cookie.AccessToken
		audience string
		scopes   []string
		want     cookie.Want
		own      bool
	}{
		{login, "", nil, cookie.Want{Audience: "a", Scope: "openid read"}, true},
		{login, "a", nil, cookie.Want{Audience: "a", Scope: "openid read"}, true},
		{login, "a", []string{"openid", "read"}, cookie.Want{Audience: "a", Scope: "openid read"}, true},
		{login, "", []string{"read"}, cookie.Want{Audience: "a", Scope: "read"}, false},
		{login, "a", []string{"read", "openid", "read"}, cookie.Want{Audience: "a", Scope: "openid read"}, true},
		{login, "b", nil, cookie.Want{Audience: "b", Scope: "read write"}, false},
		{login, "b", []string{"y", "x", "y"}, cookie.Want{Audience: "b", Scope: "x y"}, false},
		{login, "c", nil, cookie.Want{Audience: "c"}, false},
		{nil, "", nil, cookie.Want{}, false},
		{[]cookie.AccessToken{{}}, "", nil, cookie.Want{}, true}, // a login without audience and scope
	} {
		if got, own := cookie.WantOf(tt.list, tt.audience, tt.scopes, defaults); got != tt.want || own != tt.own {
			t.Errorf("%q %q: %v %t, want %v %t", tt.audience, tt.scopes, got, own, tt.want, tt.own)
		}
	}
}

func TestRenewingKeepsTheLoginsFirstAndEightInAll(t *testing.T) {
	t.Parallel()
	list := []cookie.AccessToken{{Token: "login"}}
	names := func() (s []string) {
		for _, a := range list {
			s = append(s, a.Token)
		}
		return s
	}
	for i := range 9 {
		before := names()
		next := cookie.Renew(list, cookie.AccessToken{Token: fmt.Sprint(i), Audience: fmt.Sprint("api", i)})
		if !reflect.DeepEqual(names(), before) {
			t.Fatal("the list was changed in place, and others share it")
		}
		list = next
	}
	if want := []string{"login", "8", "7", "6", "5", "4", "3", "2"}; !reflect.DeepEqual(names(), want) {
		t.Errorf("%q, want %q", names(), want)
	}
	list = cookie.Renew(list, cookie.AccessToken{Token: "3 again", Audience: "api3"})
	list = cookie.Renew(list, cookie.AccessToken{Token: "login again"})
	list = cookie.Renew(list, cookie.AccessToken{Token: "other scope", Requested: "x"})
	if want := []string{"login again", "other scope", "3 again", "8", "7", "6", "5", "4"}; !reflect.DeepEqual(names(), want) {
		t.Errorf("%q, want %q", names(), want)
	}
	if got := cookie.Renew(nil, cookie.AccessToken{Token: "x"}); len(got) != 1 {
		t.Errorf("into nothing: %v", got)
	}
}

func TestChangesAreWhatChangeApplies(t *testing.T) {
	t.Parallel()
	before := map[string][]byte{"same": []byte("1"), "other": []byte("1"), "gone": []byte("1")}
	after := map[string][]byte{"same": []byte("1"), "other": []byte("2"), "new": []byte("3")}
	changes := cookie.Changes(before, after)
	if want := map[string][]byte{"other": []byte("2"), "new": []byte("3"), "gone": nil}; !reflect.DeepEqual(changes, want) {
		t.Errorf("changes %q, want %q", changes, want)
	}
	if got := cookie.Change(before, changes); !reflect.DeepEqual(got, after) {
		t.Errorf("applied %q, want %q", got, after)
	}
	if got := cookie.Change(nil, map[string][]byte{"gone": nil}); len(got) != 0 || got == nil {
		t.Errorf("nothing, changed: %#v", got)
	}
	if len(before) != 3 || len(changes) != 3 {
		t.Error("what was before has changed")
	}
}

func TestTheNewestTokenTellsWhenTokensWereIssued(t *testing.T) {
	t.Parallel()
	tokens := cookie.Tokens{Access: []cookie.AccessToken{{Issued: 3}, {Issued: 7}, {Issued: 5}}}
	if got := tokens.Issued().Unix(); got != 7 {
		t.Errorf("%d, want 7", got)
	}
}
