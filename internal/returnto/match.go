package returnto

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Match reports whether target is one of the URLs that pattern stands for. A pattern is an absolute http or https URL,
// which stands for itself byte for byte, or one that ends in "/*" and has no query: that stands for every URL of the
// same origin whose path has the pattern's segments first, compared decoded, and at least one more, which may be empty.
// Query and fragment of a target are then free. "https://x.example/app/*" matches "https://x.example/app/" and
// "https://x.example/app/bye?a=b", not "https://x.example/app". Any other "*" stands for itself.
//
// A target with a user name, a backslash, a control character or an empty, "." or ".." segment in its path, encoded or
// not, matches nothing. A pattern that [CheckPattern] refuses matches nothing.
func Match(pattern, target string) bool {
	if CheckPattern(pattern, true) != nil {
		return false
	}
	origin, local := split(target)
	if _, _, ok := parseLocal(local); !ok {
		return false
	}
	if !strings.HasSuffix(pattern, "/*") {
		return target == pattern
	}
	wantOrigin, wantLocal := split(strings.TrimSuffix(pattern, "*"))
	if origin != wantOrigin {
		return false
	}
	got, want := segments(local), segments(strings.TrimSuffix(wantLocal, "/"))
	return len(got) > len(want) && slices.Equal(got[:len(want)], want)
}

// CheckPattern reports why pattern cannot be one for [Match], naming the remedy. Plain http is for loopback hosts
// unless allowHTTP is set.
func CheckPattern(pattern string, allowHTTP bool) error {
	origin, local := split(pattern)
	if origin == "" {
		return errors.New("must be an absolute URL such as \"https://app.example.com/bye\"")
	}
	if err := checkOrigin(origin, allowHTTP); err != nil {
		return err
	}
	if strings.HasSuffix(pattern, "/*") && strings.ContainsAny(pattern, "?#") {
		return fmt.Errorf("%q: \"/*\" must end a path, not a query or fragment", pattern)
	}
	if _, _, ok := parseLocal(local); !ok {
		return fmt.Errorf("%q: must be visible ASCII without backslashes, and its path without empty, \".\" and \"..\" "+
			"segments, encoded or not", pattern)
	}
	return nil
}

// segments splits the path of local at its slashes and decodes each part: an encoded slash separates nothing.
func segments(local string) []string {
	if end := strings.IndexAny(local, "?#"); end >= 0 {
		local = local[:end]
	}
	parts := strings.Split(local, "/")
	for i := range parts {
		parts[i] = decode(parts[i])
	}
	return parts
}
