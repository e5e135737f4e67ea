package idp_test

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/idp"
)

// protocolClaims are about the token (behaviour 6), so that UserInfo, whose answer nobody signed, has no say in them.
var protocolClaims = []string{
	"iss", "aud", "exp", "iat", "nbf", "nonce", "at_hash", "c_hash", "azp", "auth_time", "acr", "amr", "sid", "jti",
	"session_expiry",
}

func TestUserClaims(t *testing.T) {
	t.Parallel()
	shown := func(name string) bool {
		return len(idp.UserClaims(map[string]json.RawMessage{name: []byte("1")})) == 1
	}
	for _, name := range protocolClaims {
		if shown(name) {
			t.Errorf("%s is shown as the user's", name)
		}
	}
	for _, name := range []string{"sub", "name", "email", "org_id", "https://app.example/roles", ""} {
		if !shown(name) {
			t.Errorf("%q is hidden", name)
		}
	}
}

// OIDC-34
func TestJoinClaims(t *testing.T) {
	t.Parallel()
	const id = `{"iss":"https://op.example/","sub":"alice","email":"old"}`
	for name, tt := range map[string]struct {
		idToken, userInfo, want string // "": an error
	}{
		"no UserInfo":              {id, "", id},
		"no UserInfo, to the byte": {` { "a" : 1 } `, "", ` { "a" : 1 } `},
		"neither":                  {"", "", "{}"},
		"UserInfo alone":           {"", `{"sub":"alice","email":"new"}`, `{"email":"new"}`},
		"empty UserInfo":           {id, `{}`, `{"email":"old","iss":"https://op.example/","sub":"alice"}`},
		"added": {
			id, `{"sub":"alice","name":"Alice"}`, `{"email":"old","iss":"https://op.example/","name":"Alice","sub":"alice"}`,
		},
		"replaced": {
			id, `{"email":"new"}`, `{"email":"new","iss":"https://op.example/","sub":"alice"}`,
		},
		"a null is no claim": {
			id, `{"email":null,"name":null}`, `{"email":"old","iss":"https://op.example/","sub":"alice"}`,
		},
		"UserInfo is null": {id, `null`, `{"email":"old","iss":"https://op.example/","sub":"alice"}`},
		"numbers keep their digits": {
			`{"n":12345678901234567890}`, `{"m":1e400}`, `{"m":1e400,"n":12345678901234567890}`,
		},
		"deep values are passed as such": {
			`{}`, `{"address":{"iss":"x","sub":"y"},"list":[null]}`, `{"address":{"iss":"x","sub":"y"},"list":[null]}`,
		},
		"another subject": {
			id, `{"sub":"mallory"}`, `{"email":"old","iss":"https://op.example/","sub":"alice"}`,
		},
		"claims null":               {`null`, `{"a":1}`, ""},
		"claims no object":          {`[]`, `{"a":1}`, ""},
		"claims no JSON":            {`{`, `{"a":1}`, ""},
		"UserInfo no object":        {id, `"a"`, ""},
		"UserInfo a list":           {id, `[{"a":1}]`, ""},
		"UserInfo no JSON":          {id, `{"a":1`, ""},
		"something behind UserInfo": {id, `{"a":1}{"b":2}`, ""},
	} {
		got, err := idp.JoinClaims([]byte(tt.idToken), []byte(tt.userInfo))
		if (err == nil) != (tt.want != "") || string(got) != tt.want {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, tt.want)
		}
	}
}

// OIDC-34, THR-32: in whatever case they are written, since encoding/json fills struct fields in any.
func TestUserInfoHasNoSayInProtocolClaims(t *testing.T) {
	t.Parallel()
	for _, name := range append(slices.Clone(protocolClaims), "sub") {
		for _, spelling := range []string{
			name, strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:], strings.ReplaceAll(name, "s", "\u017f"),
		} {
			userInfo := must(json.Marshal(object{spelling: "evil", "email": "new"}))
			for _, idToken := range []string{`{}`, string(must(json.Marshal(object{name: "good"})))} {
				got := string(must(idp.JoinClaims([]byte(idToken), userInfo)))
				kept := strings.Contains(idToken, "good") == strings.Contains(got, "good")
				if strings.Contains(got, "evil") || !strings.Contains(got, "new") || !kept {
					t.Errorf("%s and %s become %s", idToken, userInfo, got)
				}
			}
		}
	}
}

func TestJoiningChangesNeitherSide(t *testing.T) {
	t.Parallel()
	const one, other = `{ "sub":"alice", "a":1 }`, `{ "a":2, "b":3 }`
	idToken, userInfo := []byte(one), []byte(other)
	if _, err := idp.JoinClaims(idToken, userInfo); err != nil || string(idToken) != one || string(userInfo) != other {
		t.Errorf("got %s and %s, %v", idToken, userInfo, err)
	}
}

// registered is how an application may read what was joined.
type registered struct {
	Iss, Sub, Aud, Exp, Iat, Nbf, Nonce, Azp, Acr, Amr, Sid, Jti any
	AtHash                                                       any `json:"at_hash"`
	CHash                                                        any `json:"c_hash"`
	AuthTime                                                     any `json:"auth_time"`
	SessionExpiry                                                any `json:"session_expiry"`
}

// Whatever UserInfo says, what the token says about itself and its subject stays, however it is read; nothing else is
// lost.
func FuzzJoinClaims(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"iss":"a","sub":"b","acr":null}`, `{"sub":"evil","Iss":"evil","aCR":"evil","a":1}`},
		{`null`, `{"a":1}`},
		{``, `{"\u017fub":"x"}`},
		{`{}`, `null`},
		{`{"a":1,"a":2}`, `{"b":1,"b":null}`},
		{`[`, `{}`},
		{`{"SUB":"x"}`, `{"sub":"y"}`},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, idToken, userInfo []byte) {
		got, err := idp.JoinClaims(idToken, userInfo)
		if err != nil || len(userInfo) == 0 {
			return
		}
		if len(idToken) == 0 {
			idToken = []byte("{}")
		}
		var before, after registered
		if err := json.Unmarshal(got, &after); err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		// Members are sorted on the way, so that of several spellings in the token itself another may be the last.
		sorted := map[string]json.RawMessage{}
		if err := json.Unmarshal(idToken, &sorted); err != nil {
			t.Fatalf("%s was accepted", idToken)
		}
		if err := json.Unmarshal(must(json.Marshal(sorted)), &before); err != nil {
			t.Fatal(err)
		}
		if a, b := must(json.Marshal(before)), must(json.Marshal(after)); string(a) != string(b) {
			t.Fatalf("%s and %s: the token said %s and now %s", idToken, userInfo, a, b)
		}
		all := map[string]json.RawMessage{}
		if err := json.Unmarshal(got, &all); err != nil {
			t.Fatal(err)
		}
		for name := range sorted {
			if _, ok := all[name]; !ok {
				t.Fatalf("%q is lost: %q", name, slices.Collect(maps.Keys(all)))
			}
		}
	})
}

// RFT-03 as corrected by security.md, S31: which claims a session has after a refresh.
func TestOlderUserInfoHidesNothingNew(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ userInfo, newer, want string }{
		{`{"sub":"a","name":"old","email":"e"}`, `{"sub":"a","name":"new"}`, `{"email":"e"}`},
		{`{"sub":"a","name":"old"}`, `{"sub":"a","name":null}`, `{"name":"old"}`},
		{``, `{"sub":"a"}`, ``},
		{`[]`, `{"sub":"a"}`, `[]`},
		{`{"a":1}`, `7`, `{"a":1}`},
	} {
		if got := idp.OlderUserInfo([]byte(tt.userInfo), []byte(tt.newer)); string(got) != tt.want {
			t.Errorf("%s after %s: %s, want %s", tt.userInfo, tt.newer, got, tt.want)
		}
	}
}

func TestRefreshClaims(t *testing.T) {
	t.Parallel()
	const same = "the refreshed ones to the byte"
	for _, c := range []struct {
		name             string
		login, refreshed string // beside sub
		want             string // beside sub, sorted
		changed          bool
		odd              string
	}{
		{name: "equal", login: `"acr":"1","email":"a"`, refreshed: `"acr":"1" , "email":"a"`, want: same},
		{
			name: "new times", login: `"iat":1,"exp":2,"jti":"a"`, refreshed: ` "iat":3, "exp":4, "jti":"b"`,
			want: same,
		},
		{
			name: "equal by value", want: same,
			login:     `"amr":["a","b"],"email":"é","o":{"a":1,"b":2}`,
			refreshed: `"amr":[ "a", "b"],"email":"\u00e9","o":{"b":2,"a":1}`,
		},

		// The login's authentication stays.
		{
			name: "auth_time moved", login: `"a":1,"auth_time":1`, refreshed: `"a":1,"auth_time":2`,
			want: `"a":1,"auth_time":1`, odd: "auth_time",
		},
		{name: "auth_time missing", login: `"a":1,"auth_time":1`, refreshed: `"a":1`, want: `"a":1,"auth_time":1`},
		{name: "auth_time new", login: `"a":1`, refreshed: `"a":1,"auth_time":2`, want: `"a":1`},
		{name: "acr moved", login: `"a":1,"acr":"1"`, refreshed: `"a":1,"acr":"2"`, want: `"a":1,"acr":"1"`},
		{name: "acr missing", login: `"a":1,"acr":"1"`, refreshed: `"a":1`, want: `"a":1,"acr":"1"`},
		{name: "acr new", login: `"a":1`, refreshed: `"a":1,"acr":"2"`, want: `"a":1`},
		{
			name: "amr moved", login: `"a":1,"amr":["pwd"]`, refreshed: `"a":1,"amr":["pwd","mfa"]`,
			want: `"a":1,"amr":["pwd"]`,
		},
		{name: "amr missing", login: `"a":1,"amr":["pwd"]`, refreshed: `"a":1`, want: `"a":1,"amr":["pwd"]`},
		{name: "amr new", login: `"a":1`, refreshed: `"a":1,"amr":["mfa"]`, want: `"a":1`},
		{name: "sid moved", login: `"a":1,"sid":"x"`, refreshed: `"a":1,"sid":"y"`, want: `"a":1,"sid":"x"`},
		{name: "sid missing", login: `"a":1,"sid":"x"`, refreshed: `"a":1`, want: `"a":1,"sid":"x"`},
		{name: "sid new", login: `"a":1`, refreshed: `"a":1,"sid":"y"`, want: `"a":1`},
		{
			name: "acr new, in other letters", login: `"a":1,"acr":"1"`, refreshed: `"a":1,"acr":"1","ACR":"2"`,
			want: `"a":1,"acr":"1"`,
		},
		{name: "sid new, with a long s", login: `"a":1`, refreshed: `"a":1,"\u017fid":"y"`, want: `"a":1`},
		{name: "acr as another type", login: `"a":1,"acr":"1"`, refreshed: `"a":1,"acr":1`, want: `"a":1,"acr":"1"`},
		{name: "acr null", login: `"a":1,"acr":"1"`, refreshed: `"a":1,"acr":null`, want: `"a":1,"acr":"1"`},
		{name: "acr null at login", login: `"a":1,"acr":null`, refreshed: `"a":1`, want: same},

		{name: "nonce repeated", login: `"a":1,"nonce":"n"`, refreshed: `"a":1,"nonce":"n"`, want: same},
		{name: "nonce missing", login: `"a":1,"nonce":"n"`, refreshed: `"a":1`, want: same},
		{
			name: "nonce another", login: `"a":1,"nonce":"n"`, refreshed: `"a":1,"nonce":"m"`,
			want: `"a":1,"nonce":"n"`, odd: "nonce",
		},
		{name: "nonce null at login", login: `"a":1,"nonce":null`, refreshed: `"a":1,"nonce":"n"`, want: same},
		{name: "nonce after a refresh without", login: `"a":1`, refreshed: `"a":1,"nonce":"n"`, want: same},
		{
			name: "both", login: `"a":1,"nonce":"n","auth_time":1`, refreshed: `"a":1,"nonce":"m","auth_time":2`,
			want: `"a":1,"auth_time":1,"nonce":"n"`, odd: "auth_time nonce",
		},

		// About the user the provider's newest word counts.
		{name: "claim changed", login: `"email":"a"`, refreshed: `"email":"b"`, want: same, changed: true},
		{name: "claim new", login: `"email":"a"`, refreshed: `"email":"a","name":"b"`, want: same, changed: true},
		{name: "claim gone", login: `"email":"a","name":"b"`, refreshed: `"email":"a"`, want: same, changed: true},
		{
			name: "claim null", login: `"email":"a","name":"b"`, refreshed: `"email":"a","name":null`,
			want: same, changed: true,
		},
		{name: "claim null before", login: `"email":"a","name":null`, refreshed: `"email":"a"`, want: same},
		{
			name: "long number", login: `"id":12345678901234567890`, refreshed: `"id":12345678901234567891`,
			want: same, changed: true,
		},
		{
			name: "order in a list", login: `"groups":["a","b"]`, refreshed: `"groups":["b","a"]`,
			want: same, changed: true,
		},
		{
			name: "changed, and acr kept", login: `"email":"a","acr":"1"`, refreshed: `"email":"<b>","acr":"2"`,
			want: `"acr":"1","email":"\u003cb\u003e"`, changed: true,
		},

		// A short token takes nothing away.
		{
			name: "short", login: `"email":"a","name":"b"`, refreshed: `"iat":7`,
			want: `"email":"a","iat":7,"name":"b"`,
		},
		{name: "short with a null", login: `"email":"a"`, refreshed: `"email":null`, want: `"email":"a"`},
		{
			name:  "short with protocol claims",
			login: `"email":"a","iat":1,"nonce":"n","azp":"c"`, refreshed: `"iat":7`,
			want: `"email":"a","iat":7`,
		},
		{
			name: "short and acr moved", login: `"email":"a","acr":"1"`, refreshed: `"acr":"2"`,
			want: `"acr":"1","email":"a"`,
		},
		{name: "short before as well", login: `"iat":1`, refreshed: `"iat":7`, want: same},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			login, refreshed := `{"sub":"alice",`+c.login+`}`, `{"sub":"alice",`+c.refreshed+`}`
			got, changed, odd, err := idp.RefreshClaims([]byte(login), []byte(refreshed))
			if err != nil {
				t.Fatal(err)
			}
			want := refreshed
			if c.want != same {
				want = sortedClaims(`{"sub":"alice",` + c.want + `}`)
			}
			if string(got) != want || changed != c.changed || strings.Join(odd, " ") != c.odd {
				t.Errorf("got %s, changed %v, odd %q\nwant %s", got, changed, odd, want)
			}
		})
	}
}

// sortedClaims writes claims as RefreshClaims does when it had to change something.
func sortedClaims(claims string) string {
	all := map[string]json.RawMessage{}
	return string(must(json.Marshal(must(all, json.Unmarshal([]byte(claims), &all)))))
}

func TestClaimsThatCannotBeRefreshed(t *testing.T) {
	t.Parallel()
	const good = `{"sub":"alice","acr":"1"}`
	for name, c := range map[string]struct{ login, refreshed string }{
		"another subject":     {good, `{"sub":"bob"}`},
		"subject as a number": {`{"sub":"1"}`, `{"sub":1}`},
		"no subject":          {good, `{"email":"a"}`},
		"no subject anywhere": {`{}`, `{}`},
		"subject null":        {`{"sub":null}`, `{"sub":null}`},
		"login empty":         {"", good},
		"login a list":        {"[]", good},
		"login twice":         {`{"sub":"alice","acr":"1","acr":"2"}`, good},
		"refreshed empty":     {good, ""},
		"refreshed null":      {good, "null"},
		"refreshed twice":     {good, `{"sub":"alice","acr":"1","acr":"2"}`},
		"refreshed cut":       {good, `{"sub":"alice"`},
		"refreshed and more":  {good, good + good},
	} {
		got, changed, odd, err := idp.RefreshClaims([]byte(c.login), []byte(c.refreshed))
		if err == nil || got != nil || changed || odd != nil || strings.Contains(err.Error(), "bob") {
			t.Errorf("%s: got %s, %v, %q, %v", name, got, changed, odd, err)
		}
	}
}

// authentication is how an application may read what a refresh must not change.
type authentication struct {
	AuthTime      any `json:"auth_time"`
	Acr, Amr, Sid any
}

// read reads claims as encoding/json does, in any case, but sorted, and without those that are null.
func read(t *testing.T, claims []byte) (a authentication) {
	t.Helper()
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(claims, &all); err != nil {
		t.Fatalf("%s: %v", claims, err)
	}
	maps.DeleteFunc(all, func(_ string, v json.RawMessage) bool { return string(v) == "null" })
	if err := json.Unmarshal(must(json.Marshal(all)), &a); err != nil {
		t.Fatalf("%s: %v", claims, err)
	}
	return a
}

// Whatever the refreshed token says, the result is an object of the same subject, the login's authentication stays
// however it is read, and doing it again changes nothing.
func FuzzRefreshClaims(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"sub":"a","acr":"1","auth_time":1,"nonce":"n","name":"x"}`, `{"sub":"a","ACR":"2","auth_time":2,"nonce":"m"}`},
		{`{"sub":"a","Acr":"1","acr":null}`, `{"sub":"a","acr":"2","email":null}`},
		{`{"sub":"a","amr":["pwd"]}`, `{"sub":"a","amr":[],"\u017fid":"x","email":"<"}`},
		{`{"sub":"a","n":1e999,"sid":"\ud800"}`, `{"sub":"a","n":1E999,"\ud800":1}`},
		{`{}`, `null`},
		{`[`, ``},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, login, refreshed []byte) {
		got, changed, _, err := idp.RefreshClaims(login, refreshed)
		if err != nil {
			return
		}
		if before, after := read(t, login), read(t, got); !reflect.DeepEqual(before, after) {
			t.Fatalf("%s and %s: %+v became %+v", login, refreshed, before, after)
		}
		again, changedAgain, odd, err := idp.RefreshClaims(login, got)
		if err != nil || string(again) != string(got) || changedAgain != changed || odd != nil {
			t.Fatalf("%s and %s: %s, then %s, %v, %q, %v", login, refreshed, got, again, changedAgain, odd, err)
		}
	})
}
