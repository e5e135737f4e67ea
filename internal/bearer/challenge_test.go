package bearer_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/oidcauth/oidcauth/internal/bearer"
)

// refused reports whether a response makes a Transport ask for another token.
func refused(t *testing.T, status int, challenges ...string) bool {
	t.Helper()
	n := 0
	base := roundTrip(func(r *http.Request) (*http.Response, error) {
		n++
		return answer(r, status, http.Header{"Www-Authenticate": challenges}), nil
	})
	send(t, &bearer.Transport{Base: base, Token: constant}, request(t, "https://api.test", nil))
	return n == 2
}

// corpus are WWW-Authenticate fields, line by line.
var corpus = []struct {
	lines string
	want  bool
}{
	{`Bearer error="invalid_token"`, true},
	{`bearer error="invalid_token"`, true},
	{`BEARER ERROR="invalid_token"`, true},
	{`Bearer error=invalid_token`, true},
	{`Bearer error = "invalid_token"`, true},
	{"Bearer\terror\t=\t\"invalid_token\"", true},
	{`Bearer realm="example", error="invalid_token", error_description="The access token expired"`, true}, // RFC 6750 3
	{`Bearer realm="", authorization_uri="https://op.test/authorize", error="invalid_token"`, true},
	{`Bearer realm="a, \"b\" \\", error="invalid_token"`, true},
	{`Bearer realm="a" error="invalid_token"`, true}, // a comma is missing
	{`, ,Bearer ,realm=a,, error="invalid_token",`, true},
	{`Basic realm="x", Bearer error="invalid_token"`, true},
	{`Basic, Bearer error="invalid_token"`, true},
	{`Negotiate, Bearer error="invalid_token"`, true},
	{`Negotiate YWJj/+==, Bearer error="invalid_token"`, true},
	{"Negotiate YWJj\t,\tBearer\trealm=x,\terror=invalid_token", true},
	{`Negotiate YWJj , Bearer error="invalid_token"`, true},
	{`Bearer error="invalid_token", Basic realm="x"`, true},
	{`Digest qop="auth, auth-int", nonce=a, Bearer scope="a b", error="invalid_token"`, true},
	{`DPoP algs="ES256", Bearer realm=x, error=invalid_token`, true},
	{"Basic realm=\"x\"\nBearer error=\"invalid_token\"", true},
	{"Bearer error=\"invalid_token\"\nBasic realm=\"x\"", true},
	{"\"broken\nBearer error=\"invalid_token\"", true},

	{``, false},
	{`Bearer`, false},
	{`Bearer error=`, false},
	{`Bearer error="`, false},
	{`Bearer error="invalid_token`, false}, // the string does not end
	{`Bearer realm="example"`, false},
	{`Bearer error="insufficient_scope"`, false},
	{`Bearer error="INVALID_TOKEN"`, false}, // RFC 6749: codes are exact
	{`Bearer error="invalid_token "`, false},
	{`Bearer error="invalid_tokens"`, false},
	{`Bearer error=invalid_token2`, false},
	{`Bearer error="invalid\_token"`, false}, // RFC 6750 3: no backslash in a code
	{`Bearer error="invalid_token\"`, false},
	{`Bearer error='invalid_token'`, false},
	{`Bearer error_description="invalid_token"`, false},
	{`Bearer xerror="invalid_token"`, false},
	{`Bearer realm="error=\"invalid_token\""`, false},
	{`Bearer realm="\", error=invalid_token"`, false},
	{`Bearer realm="x, Bearer error=invalid_token`, false}, // the string does not end
	{`Bearer realm="Bearer error=invalid_token"`, false},
	{`Basic error="invalid_token"`, false},
	{`Bearer, Basic error="invalid_token"`, false},
	{`Bearer realm=x, Basic error="invalid_token"`, false},
	{`Bearer abc==, Basic error="invalid_token"`, false},
	{`DPoP error="invalid_token"`, false},
	{`BearerX error="invalid_token"`, false},
	{`error="invalid_token"`, false},
	{`invalid_token`, false},
	{`Bearer invalid_token`, false},
	{`Bearer invalid_token=error`, false},
	{`Bearer; error="invalid_token"`, false},
	{`Bearer @ error="invalid_token"`, false},
	{"Basic realm=x\nerror=\"invalid_token\"", false}, // a line begins anew
	{"Bearer\nerror=\"invalid_token\"", false},
}

func TestOnlyAnInvalidTokenIsReplaced(t *testing.T) { // THR-59; RFC 6750 3.1, RFC 9110 11.6.1
	t.Parallel()
	for _, tt := range corpus {
		if got := refused(t, 401, strings.Split(tt.lines, "\n")...); got != tt.want {
			t.Errorf("%s: another token %v, want %v", tt.lines, got, tt.want)
		}
	}
}

func TestOnlyA401IsARefusal(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 302, 400, 403, 407, 429, 500, 503} {
		if refused(t, status, refusal) {
			t.Errorf("status %d brought another token", status)
		}
	}
}

func FuzzChallenge(f *testing.F) {
	for _, tt := range corpus {
		f.Add(tt.lines)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if refused(t, 401, line) && !strings.Contains(line, "invalid_token") {
			t.Errorf("%q is a refusal", line)
		}
		if !refused(t, 401, line, refusal) {
			t.Errorf("%q hides the line after it", line)
		}
	})
}
