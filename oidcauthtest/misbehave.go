package oidcauthtest

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Misbehave makes the provider wrong, or unusual, in one way, beside those of earlier calls. Most names are those of
// the modules of the OpenID Foundation's conformance suite for clients, without their prefix, such as "invalid-iss".
// See [Misbehaviours], [RightfulBehaviours] and [BackchannelMisbehaviours].
func (p *Provider) Misbehave(name string) {
	p.tb.Helper()
	change, ok := misbehaviours()[name]
	if !ok {
		change, ok = rightful()[name]
	}
	if !ok {
		change, ok = backchannel()[name]
	}
	if !ok {
		p.tb.Fatalf("no misbehaviour is called %q", name)
	}
	p.Change(change)
}

// Misbehaviours returns the names for [Provider.Misbehave] of what no client may accept at a login. The ones that begin
// with "userinfo-" concern clients that ask for UserInfo, the ones with "refresh-" a refresh, the ones with "logout-"
// the redirect after a logout.
func Misbehaviours() []string { return slices.Sorted(maps.Keys(misbehaviours())) }

// RightfulBehaviours returns the names for [Provider.Misbehave] of what is unusual and yet right: a client has to
// accept it. The exception is "kid-absent-multiple-jwks", which it may refuse.
func RightfulBehaviours() []string { return slices.Sorted(maps.Keys(rightful())) }

// BackchannelMisbehaviours returns the names for [Provider.Misbehave] of what is wrong with a logout token, for which a
// client has to answer with status 400 and end nothing. All begin with "backchannel-".
func BackchannelMisbehaviours() []string { return slices.Sorted(maps.Keys(backchannel())) }

func misbehaviours() map[string]func(*Knobs) {
	all := map[string]func(*Knobs){
		"discovery-issuer-mismatch": func(k *Knobs) { k.EditMetadata = after(k.EditMetadata, suffix("issuer", "INVALID")) },
		"missing-id-token":          tokens(func(r map[string]any) { delete(r, "id_token") }),
		"missing-access-token":      tokens(func(r map[string]any) { delete(r, "access_token") }),
		"token-type-mac":            tokens(func(r map[string]any) { r["token_type"] = "mac" }),
		"userinfo-invalid-sub":      userInfo(suffix("sub", "invalid")),
		"userinfo-missing-sub":      userInfo(func(c map[string]any) { delete(c, "sub") }),
		"refresh-token-invalid-issuer": claims(func(c map[string]any) {
			if isRefresh(c) {
				suffix("iss", "1")(c)
			}
		}),
		"refresh-token-invalid-sub": claims(func(c map[string]any) {
			if isRefresh(c) {
				suffix("sub", "1")(c)
			}
		}),
		"logout-other-state": logout(func(q url.Values) { q.Set("state", q.Get("state")+"_INVALID") }),
		"logout-no-state":    logout(func(q url.Values) { q.Del("state") }),
	}
	maps.Copy(all, wrongClaims())
	maps.Copy(all, wrongSignatures())
	maps.Copy(all, wrongCallbacks())
	return all
}

// wrongClaims are of the ID token.
func wrongClaims() map[string]func(*Knobs) {
	inAnHour := func() int64 { return time.Now().Add(time.Hour).Unix() }
	return map[string]func(*Knobs){
		"invalid-iss":     claims(suffix("iss", "1")),
		"missing-iss":     claims(without("iss")),
		"missing-sub":     claims(without("sub")),
		"sub-not-text":    claims(func(c map[string]any) { c["sub"] = 1 }),
		"invalid-aud":     claims(suffix("aud", "1")),
		"missing-aud":     claims(without("aud")),
		"secondary-aud":   claims(func(c map[string]any) { c["aud"] = []any{c["aud"], "another"} }),
		"invalid-azp":     claims(func(c map[string]any) { c["azp"] = "another" }),
		"missing-iat":     claims(without("iat")),
		"iat-in-future":   claims(func(c map[string]any) { c["iat"] = inAnHour() }),
		"missing-exp":     claims(without("exp")),
		"expired":         claims(func(c map[string]any) { c["exp"] = time.Now().Add(-6 * time.Minute).Unix() }),
		"nbf-in-future":   claims(func(c map[string]any) { c["nbf"] = inAnHour() }),
		"nonce-invalid":   claims(suffix("nonce", "1")),
		"missing-nonce":   claims(without("nonce")),
		"at-hash-invalid": claims(func(c map[string]any) { c["at_hash"] = "AAAAAAAAAAAAAAAAAAAAAA" }),
	}
}

// wrongSignatures are of the ID token.
func wrongSignatures() map[string]func(*Knobs) {
	return map[string]func(*Knobs){
		"idtoken-sig-none":  header(func(h map[string]any) { h["alg"] = "none"; delete(h, "kid") }),
		"invalid-sig-rs256": func(k *Knobs) { k.MangleIDToken = flipSignature },
		"alternate-alg":     func(k *Knobs) { k.SigningAlg = "ES256" }, // by a published key
		"hs256-secret":      func(k *Knobs) { k.SigningAlg = "HS256" },
		"hs256-public-key":  func(k *Knobs) { k.SigningAlg, k.SigningKey = "HS256", "public" },
		"enc-key":           func(k *Knobs) { k.SigningKey = "enc" },
		"unpublished-key":   func(k *Knobs) { k.SigningKey = "unpublished" },
		"unknown-kid":       header(func(h map[string]any) { h["kid"] = "unknown" }),
		"typ-of-another":    header(func(h map[string]any) { h["typ"] = "at+jwt" }),
		"crit-unknown":      header(func(h map[string]any) { h["crit"], h["x"] = []string{"x"}, true }),
	}
}

// wrongCallbacks are authorization responses.
func wrongCallbacks() map[string]func(*Knobs) {
	double := func(name string) func(*Knobs) {
		return callback(func(q url.Values) { q.Add(name, q.Get(name)) })
	}
	return map[string]func(*Knobs){
		"invalid-authorization-response-iss": callback(func(q url.Values) { q.Set("iss", "https://evil.test/") }),
		"remove-authorization-response-iss":  callback(func(q url.Values) { q.Del("iss") }),
		"invalid-state":                      callback(func(q url.Values) { q.Set("state", q.Get("state")+"1") }),
		"missing-state":                      callback(func(q url.Values) { q.Del("state") }),
		"missing-code":                       callback(func(q url.Values) { q.Del("code") }),
		"code-and-error":                     callback(func(q url.Values) { q.Set("error", "access_denied") }),
		"doubled-state":                      double("state"),
		"doubled-code":                       double("code"),
		"doubled-iss":                        double("iss"),
	}
}

func rightful() map[string]func(*Knobs) {
	return map[string]func(*Knobs){
		"backchannel-rpinitlogout": suiteLogout,
		"kid-absent-single-jwks":   func(k *Knobs) { k.NoKeyIDs = 1 },
		"kid-absent-multiple-jwks": func(k *Knobs) { k.NoKeyIDs = 3 },
		"decoy-keys":               func(k *Knobs) { k.DecoyKeys = true },
		"discovery-jwks-uri-keys":  func(k *Knobs) { k.JWKSPath = "/keys/of/today" },
		"idtoken-sig-rs256": func(k *Knobs) {
			k.EditMetadata = after(k.EditMetadata, func(m map[string]any) {
				m["id_token_signing_alg_values_supported"] = []string{"RS256"}
			})
		},
		"signing-key-rotation-just-before-signing": func(k *Knobs) { k.RotateKeysBeforeSigning = true },
		"scope-userinfo-claims":                    func(k *Knobs) { k.ClaimsByScope = true },
		"client-secret-basic":                      func(k *Knobs) { k.ClientAuth = "client_secret_basic" },
		"client-secret-post":                       func(k *Knobs) { k.ClientAuth = "client_secret_post" },
		"refresh-token":                            func(k *Knobs) { k.OddRefreshTokens, k.OmitExpiresIn = true, true },
		"valid-aud-as-array":                       claims(func(c map[string]any) { c["aud"] = []any{c["aud"]} }),
		"missing-at-hash":                          claims(without("at_hash")),
		"response-without-expires-in":              func(k *Knobs) { k.OmitExpiresIn = true },
		"token-type-case-insensitivity":            tokens(func(r map[string]any) { r["token_type"] = "bEARER" }),
	}
}

// backchannel are flaws of logout tokens that are otherwise the conformance suite's.
func backchannel() map[string]func(*Knobs) {
	flaw := func(f func(header, claims map[string]any)) func(*Knobs) {
		return func(k *Knobs) {
			suiteLogout(k)
			editLogoutToken(k, f)
		}
	}
	ofClaims := func(f func(map[string]any)) func(*Knobs) {
		return flaw(func(_, claims map[string]any) { f(claims) })
	}
	return map[string]func(*Knobs){
		"backchannel-alg-none":   flaw(func(header, _ map[string]any) { header["alg"] = "none"; delete(header, "kid") }),
		"backchannel-wrong-alg":  flaw(func(header, _ map[string]any) { header["alg"] = "ES256" }), // by a published key
		"backchannel-no-event":   ofClaims(without("events")),
		"backchannel-with-nonce": ofClaims(func(c map[string]any) { c["nonce"] = "nonce" }),
		"backchannel-wrong-aud":  ofClaims(suffix("aud", "1")),
		"backchannel-wrong-event": ofClaims(func(c map[string]any) {
			c["events"] = map[string]any{"http://schemas.openid.net/event/backchannel-logout1": map[string]any{}}
		}),
		"backchannel-wrong-iss": ofClaims(suffix("iss", "1")),
	}
}

// suiteLogout makes logins and logout tokens those of the conformance suite.
func suiteLogout(k *Knobs) {
	k.OddSIDs = true
	editLogoutToken(k, func(header, claims map[string]any) {
		delete(header, "typ")
		claims["unknown"] = "to be ignored"
	})
}

func editLogoutToken(k *Knobs, f func(header, claims map[string]any)) {
	first := k.EditLogoutToken
	k.EditLogoutToken = func(header, claims map[string]any) {
		if first != nil {
			first(header, claims)
		}
		f(header, claims)
	}
}

// isRefresh tells the claims of a refresh by the nonce, which only those of a login have (OpenID Connect Core 12.2).
func isRefresh(c map[string]any) bool { return c["nonce"] == nil }

func claims(f func(map[string]any)) func(*Knobs) {
	return func(k *Knobs) { k.EditIDToken = after(k.EditIDToken, f) }
}

func header(f func(map[string]any)) func(*Knobs) {
	return func(k *Knobs) { k.EditHeader = after(k.EditHeader, f) }
}

func tokens(f func(map[string]any)) func(*Knobs) {
	return func(k *Knobs) { k.EditTokens = after(k.EditTokens, f) }
}

func userInfo(f func(map[string]any)) func(*Knobs) {
	return func(k *Knobs) { k.EditUserInfo = after(k.EditUserInfo, f) }
}

func callback(f func(url.Values)) func(*Knobs) {
	return func(k *Knobs) { k.EditCallback = after(k.EditCallback, f) }
}

func logout(f func(url.Values)) func(*Knobs) {
	return func(k *Knobs) { k.EditLogout = after(k.EditLogout, f) }
}

func without(name string) func(map[string]any) {
	return func(m map[string]any) { delete(m, name) }
}

func suffix(name, end string) func(map[string]any) {
	return func(m map[string]any) { m[name] = fmt.Sprint(m[name], end) }
}

// flipSignature changes bits in the middle of a JWT's signature.
func flipSignature(jwt string) string {
	at := strings.LastIndexByte(jwt, '.') + 20
	swapped := byte('A')
	if jwt[at] == 'A' {
		swapped = 'B'
	}
	return jwt[:at] + string(swapped) + jwt[at+1:]
}
