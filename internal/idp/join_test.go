package idp_test

import (
	"encoding/json"
	"maps"
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
