package cookie_test

import (
	"math/rand/v2"
	"time"
)

const minute = time.Minute

// A random makes texts that are the same in each run.
type random struct{ *rand.Rand }

func newRandom(seed uint64) random { return random{rand.New(rand.NewPCG(seed, seed))} }

func (r random) text(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = base64url[r.IntN(len(base64url))]
	}
	return string(b)
}

// guessed returns the secret itself or another text of its length.
func (r random) guessed(secret string, hit bool) string {
	if hit {
		return secret
	}
	return r.text(len(secret))
}
