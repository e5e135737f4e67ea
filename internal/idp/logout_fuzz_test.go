package idp_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth/internal/idp"
)

// Whatever is posted, what verifies was signed by the provider's key and says what a logout token has to say. Token is
// verified as it is; if payload is not empty it is signed first, under the header of token.
func FuzzVerifyLogoutToken(f *testing.F) {
	// The clock of a bubble, which is that of all workers and runs: a corpus does not expire.
	epoch := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	good := func(edit object) []byte {
		return must(json.Marshal(logoutClaims(edited(object{"iat": epoch, "exp": epoch + 120}, edit))))
	}
	h := object{"alg": "EdDSA", "kid": "ed", "typ": "logout+jwt"}
	token := sign(h, string(good(nil)), edKey())
	parts := strings.Split(token, ".")
	for _, s := range []string{
		token, "", "..", parts[0] + "." + parts[1] + ".", token + "A",
		b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		b64([]byte(`{"alg":"HS256","kid":"ed"}`)) + "." + parts[1] + "." + parts[2],
		parts[0] + "." + b64([]byte(`{"iss":"https://op.example/","sub":"mallory"}`)) + "." + parts[2],
		sign(with(h, "jwk", jwk("", strangeKey.Public())), string(good(nil)), strangeKey),
		`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
	} {
		f.Add(s, []byte(nil), false, false)
	}
	for _, header := range []object{nil, {"typ": "JWT"}, {"typ": "at+jwt"}, {"crit": []string{}}} {
		for _, edit := range []object{
			nil,
			{"aud": []any{clientID}},
			{"iat": json.RawMessage("1e308")},
			{"jti": ""},
			{"sub": null},
			{"sid": ""},
			{"nonce": null},
			{"events": object{logoutEvent: object{}, "x": 1}},
			{"events": object{logoutEvent: nil}},
			{"events": null},
			{"nbf": epoch + 31},
			{"azp": "x"},
			{"ISS": 1},
			{"exp": epoch + 3601},
			{"exp": null},
			{"exp": null, "iat": epoch - 331},
		} {
			f.Add(sign(edited(maps.Clone(h), header), object{}, edKey()), good(edit), edit["exp"] != nil, len(edit) == 0)
		}
	}
	f.Add(token, []byte(`{"iss":"https://op.example/","iss":"x"}`), false, false)

	op := newFakeOP()
	op.set("/jwks", says(jwks(jwk("ed", edKey().Public()))))
	p := idp.New(op.config(edOnly))
	f.Fuzz(func(t *testing.T, token string, payload []byte, aged, typed bool) {
		if len(payload) > 0 {
			first, _, _ := strings.Cut(token, ".")
			input := first + "." + b64(payload)
			token = input + "." + b64(ed25519.Sign(edKey(), []byte(input)))
		}
		e := idp.ExpectLogout{RequireTyp: typed}
		if aged {
			e.MaxAge = 5 * time.Minute
		}
		synctest.Test(t, func(t *testing.T) {
			got, err := p.VerifyLogoutToken(t.Context(), token, e)
			switch {
			case (got == nil) == (err == nil):
				t.Errorf("both or neither: %+v, %v", got, err)
			case err != nil && !strings.HasPrefix(err.Error(), "logout token refused ("):
				t.Errorf("token %q: %v", token, err)
			case err == nil:
				if wrong := wrongAbout(token, got, e); wrong != "" {
					t.Errorf("accepted %q although %s", token, wrong)
				}
			}
		})
	})
}

// wrongAbout says which rule a token that was accepted breaks, read by other means than the package's.
func wrongAbout(token string, got *idp.LogoutToken, e idp.ExpectLogout) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(token) > 16<<10 {
		return "of its form"
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !ed25519.Verify(edKey().Public().(ed25519.PublicKey), []byte(parts[0]+"."+parts[1]), sig) {
		return "the key has not signed it"
	}
	header, headerOK := members(parts[0])
	c, ok := members(parts[1])
	if !headerOK || !ok {
		return "it is no JSON object"
	}
	types := []any{"logout+jwt", "application/logout+jwt"}
	if !e.RequireTyp {
		types = append(types, "jwt", "", nil)
	}
	typ := header["typ"]
	if s, ok := typ.(string); ok {
		typ = strings.ToLower(s)
	}
	if _, crit := header["crit"]; crit || header["alg"] != "EdDSA" || !slices.Contains(types, typ) {
		return "of its header"
	}
	if wrong := wrongAboutTimes(c, got, e); wrong != "" {
		return wrong
	}
	return wrongAboutClaims(c, got)
}

func wrongAboutClaims(c object, got *idp.LogoutToken) string {
	events, _ := c["events"].(object)
	_, event := events[logoutEvent].(object)
	_, nonced := c["nonce"]
	aud, many := c["aud"].([]any)
	stranger := slices.ContainsFunc(aud, func(a any) bool { return a != clientID })
	switch {
	case c["iss"] != issuer || got.Issuer != issuer || got.Tenant != "":
		return "of iss"
	case !many && c["aud"] != clientID, many && len(aud) == 0, stranger, c["azp"] != nil && c["azp"] != clientID:
		return "it is not for the client alone"
	case !event:
		return "of events"
	case nonced:
		return "it has a nonce"
	case got.ID == "" || !same(c["jti"], got.ID, 256):
		return "of jti"
	case got.Subject+got.SID == "" || !same(c["sub"], got.Subject, 255) || !same(c["sid"], got.SID, 1024):
		return "of sub or sid"
	}
	return ""
}

func wrongAboutTimes(c object, got *idp.LogoutToken, e idp.ExpectLogout) string {
	const skew = 30
	now := float64(time.Now().Unix())
	iat, hasIat := number(c, "iat")
	exp, hasExp := number(c, "exp")
	nbf, hasNbf := number(c, "nbf")
	if !hasExp {
		exp = iat + e.MaxAge.Seconds()
	}
	switch {
	case !hasIat || iat >= now+skew+1, hasNbf && nbf >= now+skew+1, !hasNbf && c["nbf"] != nil:
		return "of iat or nbf"
	case !hasExp && (e.MaxAge == 0 || c["exp"] != nil), exp <= now-skew, hasExp && exp >= now+3601:
		return "of exp"
	case got.IssuedAt.Unix() != int64(max(iat, 0)), got.Expires.Unix() != int64(exp)+skew:
		return "of the times it is said to have"
	}
	return ""
}

// same says whether a claim is what has become of it.
func same(claim any, got string, most int) bool {
	if claim == nil {
		return got == ""
	}
	return claim == got && got != "" && len(got) <= most
}

func members(part string) (o object, ok bool) {
	data, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return nil, false
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber() // one of no concern may be beyond float64
	err = dec.Decode(&o)
	return o, err == nil && o != nil && !dec.More()
}

func number(c object, name string) (float64, bool) {
	n, ok := c[name].(json.Number)
	f, _ := strconv.ParseFloat(n.String(), 64)
	return f, ok
}
