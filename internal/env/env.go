// Package env reads settings that may stand in the environment under several names.
package env

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
)

// A Reader remembers which names it read. The zero value is ready to use; it is not safe for concurrent use.
type Reader struct {
	known map[string]bool
	errs  []error
}

// Get returns the value of the first name that has one. That two have different values is among [Reader.Errs].
func (r *Reader) Get(names ...string) (value string) {
	if r.known == nil {
		r.known = map[string]bool{}
	}
	for _, name := range names {
		r.known[name] = true
		v := os.Getenv(name)
		if v != "" && value != "" && v != value {
			r.errs = append(r.errs, fmt.Errorf("%s have different values; set one of them", strings.Join(names, " and ")))
		}
		value = cmp.Or(value, v)
	}
	return value
}

// List is Get for a value with several parts separated by commas.
func (r *Reader) List(names ...string) (list []string) {
	for part := range strings.SplitSeq(r.Get(names...), ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// Errs returns what Get found wrong.
func (r *Reader) Errs() []error { return r.errs }

// Unread returns the names of variables that begin with one of the prefixes and that nobody asked for.
func (r *Reader) Unread(prefixes ...string) (names []string) {
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		for _, prefix := range prefixes {
			if strings.HasPrefix(name, prefix) && !r.known[name] {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}
