//go:build !race

package cookie_test

// pairs is how many pairs of sessions are compared for each kind of secret, 2,100 in all.
const pairs = 300
