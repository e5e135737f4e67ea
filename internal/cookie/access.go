package cookie

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// maxAccess is how many access tokens a session keeps.
const maxAccess = 8

// A Want is what an access token has to be for. The zero value is what a login without audience and scope asks for.
type Want struct{ Audience, Scope string }

// WantOf says what is wanted of a session with the tokens of list, by an audience and scopes that may both be empty. The
// first token is the login's: an empty audience is its, and its own scope is what no scopes mean for it. For other
// audiences that is in defaults. Own reports whether exactly what the login asked for is wanted.
func WantOf(list []AccessToken, audience string, scopes []string, defaults map[string][]string) (w Want, own bool) {
	w = Want{audience, inOrder(scopes)}
	if len(list) > 0 && (audience == "" || audience == list[0].Audience) {
		login := list[0].Requested
		w.Audience = list[0].Audience
		if own = w.Scope == "" || w.Scope == inOrder(strings.Fields(login)); own {
			w.Scope = login
		}
		return w, own
	}
	w.Scope = cmp.Or(w.Scope, inOrder(defaults[audience]))
	return w, false
}

// inOrder writes a set of scopes in one way, so that nobody gets around what is remembered of it by another.
func inOrder(scopes []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(scopes))), " ")
}

// Pick returns the first token of list that is for w, lasts for longer than left and is not refused, or nil.
func (w Want) Pick(list []AccessToken, left time.Duration, refused string) *AccessToken {
	for i := range list {
		if a := &list[i]; a.Token != refused && w.covered(a) && a.Lasts(left) {
			return a
		}
	}
	return nil
}

// covered reports whether a is for w, or was asked for in these very words: asking once more would bring no wider scope.
func (w Want) covered(a *AccessToken) bool {
	granted := strings.Fields(cmp.Or(a.Scope, a.Requested)) // RFC 6749 5.1
	lacks := func(s string) bool { return !slices.Contains(granted, s) }
	return a.Audience == w.Audience && (a.Requested == w.Scope || !slices.ContainsFunc(strings.Fields(w.Scope), lacks))
}

// Lasts reports whether a is valid for longer than d, or than half its lifetime if that is less: a short-lived one would
// never last, and be refreshed for every request. One without an expiry lasts.
func (a *AccessToken) Lasts(d time.Duration) bool {
	if lifetime := time.Duration(a.Expiry-a.Issued) * time.Second; lifetime > 0 {
		d = min(d, lifetime/2)
	}
	return a.Expiry == 0 || time.Until(time.Unix(a.Expiry, 0)) > d
}

// Renew returns a copy of list with a in place of the token that it follows, or else second: the first is the login's
// own. Of more than eight the one that was renewed least recently goes.
func Renew(list []AccessToken, a AccessToken) []AccessToken {
	follows := func(b AccessToken) bool { return b.Audience == a.Audience && b.Requested == a.Requested }
	list = slices.Clone(list)
	if len(list) > 0 && follows(list[0]) {
		list[0] = a
		return list
	}
	list = slices.DeleteFunc(list, follows)
	list = slices.Insert(list, min(1, len(list)), a)
	return list[:min(len(list), maxAccess)]
}

// Issued is when the provider gave the newest of the access tokens.
func (t *Tokens) Issued() time.Time {
	var newest int64
	for i := range t.Access {
		newest = max(newest, t.Access[i].Issued)
	}
	return time.Unix(newest, 0)
}

// Changes returns the values that are others in after than in before, nil for those that are gone.
func Changes(before, after map[string][]byte) map[string][]byte {
	changes := map[string][]byte{}
	for key := range before {
		if _, kept := after[key]; !kept {
			changes[key] = nil
		}
	}
	for key, value := range after {
		if old, known := before[key]; !known || string(old) != string(value) {
			changes[key] = value
		}
	}
	return changes
}

// Change returns a copy of values with changes applied.
func Change(values, changes map[string][]byte) map[string][]byte {
	changed := make(map[string][]byte, len(values)+len(changes))
	maps.Copy(changed, values)
	maps.Copy(changed, changes)
	maps.DeleteFunc(changed, func(_ string, value []byte) bool { return value == nil })
	return changed
}
