//go:build race

package cookie_test

// pairs is how many pairs of sessions are compared for each kind of secret: few, since deflating is slow here.
const pairs = 10
