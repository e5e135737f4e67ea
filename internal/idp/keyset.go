package idp

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"
)

const (
	keysFresh    = time.Hour // without Cache-Control
	keysFreshMin = 5 * time.Minute
	keysFreshMax = 24 * time.Hour
	keysStale    = 24 * time.Hour // how long keys outlive the time they were due, while the provider is down
	keysRetry    = time.Minute    // between attempts to replace keys that are due

	maxKeys    = 64
	minRSABits = 2048
	maxRSABits = 8192 // verifying with a larger one is slow enough to be an attack
)

// source says where a token came from. Each has a budget of its own for fetching the key set again, so that tokens
// anybody can send never keep a sign-in from seeing new keys (S39).
type source int

const (
	fromTokenEndpoint source = iota
	fromElsewhere
)

func (s source) coolDown() time.Duration {
	if s == fromTokenEndpoint {
		return 5 * time.Second
	}
	return 30 * time.Second
}

// publicKey is a key that may verify signatures.
type publicKey struct {
	id, alg string // as published; alg may be empty
	issuer  string // as published by Entra: a template or one tenant's; may be empty
	key     any
}

// fits says whether k may verify a signature made with alg by the key named id. No id fits all (Core 10.1).
func (k publicKey) fits(id, alg string) bool {
	if id != "" && id != k.id || k.alg != "" && k.alg != alg {
		return false
	}
	switch key := k.key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey:
		return ecdsaAlg(key) == alg
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}

func ecdsaAlg(key *ecdsa.PublicKey) string {
	switch key.Curve.Params().BitSize {
	case 256:
		return "ES256"
	case 384:
		return "ES384"
	case 521:
		return "ES512"
	}
	return ""
}

// keySet is the provider's published keys, fetched on use and kept. The last good ones survive every failure.
type keySet struct {
	fetch  func(ctx context.Context, url string) ([]publicKey, time.Duration, error)
	flight singleflight.Group

	mu    sync.Mutex
	keys  []publicKey
	url   string       // where keys came from
	round int          // counts successful fetches
	due   time.Time    // keys are to be replaced
	dead  time.Time    // keys must not be used
	spent [2]time.Time // by source: when its budget was
	err   error        // of the last fetch
}

// signed is a parsed token whose signature is to be verified.
type signed struct {
	jws     *jose.JSONWebSignature
	id, alg string // of its header
	// ofIssuer says that its issuer must be that of the key, if the key has one.
	ofIssuer bool
}

func (s signed) verify(keys []publicKey) (payload []byte, ok bool) {
	for _, k := range keys {
		if !k.fits(s.id, s.alg) {
			continue
		}
		if payload, err := s.jws.Verify(k.key); err == nil && (!s.ofIssuer || ofKey(k, payload)) {
			return payload, true
		}
	}
	return nil, false
}

// named says whether the header names one of keys.
func (s signed) named(keys []publicKey) bool {
	return s.id != "" && slices.ContainsFunc(keys, func(k publicKey) bool { return k.fits(s.id, s.alg) })
}

// lagging is a *TokenError for a token whose key may be newer than the keys: the budget for fetching them was spent.
type lagging struct{ error }

func (l lagging) Unwrap() error { return l.error }

// verify returns the payload of token. If no key fits, the key set at url is fetched again once, within the budget of
// src. The error is a *TokenError only if the keys are known to be current or, for lagging, were so a few seconds ago;
// otherwise it says why they are not.
func (s *keySet) verify(ctx context.Context, url string, src source, token signed) ([]byte, error) {
	keys, round, due := s.current(url)
	if !due {
		if payload, ok := token.verify(keys); ok {
			return payload, nil
		}
	}
	err := s.refresh(ctx, url, src, round)
	// Keys that are due still serve while the provider cannot be asked for new ones.
	keys, latest := s.usable()
	if payload, ok := token.verify(keys); ok {
		return payload, nil
	}
	if err != nil {
		return nil, err
	}
	what := "no published key verifies it"
	if token.ofIssuer {
		what = "no key that is published for its issuer verifies it"
	}
	err = refuse("signature", "%s (key id %.64q, %s)", what, token.id, token.alg)
	if latest == round && !token.named(keys) {
		err = lagging{err}
	}
	return nil, err
}

// current returns the keys, which round they are of, and whether they are to be replaced before use.
func (s *keySet) current(url string) (keys []publicKey, round int, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys, s.round, s.keys == nil || s.url != url || !time.Now().Before(s.due)
}

// usable returns the keys that may be used although they are due, and which round they are of.
func (s *keySet) usable() (keys []publicKey, round int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.dead) {
		keys = s.keys
	}
	return keys, s.round
}

// refresh replaces the keys of the given round. It is done at once if newer ones are there already, or if the budget of
// src is spent; then the error is that of the last fetch. Concurrent calls share one fetch, which goes on if one of
// them gives up.
func (s *keySet) refresh(ctx context.Context, url string, src source, round int) error {
	// One flight per source and round: a token whose budget is spent must not answer for one whose budget is not.
	flight := s.flight.DoChan(fmt.Sprintf("%d %d", src, round), func() (any, error) {
		if done, err := s.settled(src, round); done {
			return nil, err
		}
		keys, fresh, err := s.fetch(context.WithoutCancel(ctx), url)
		s.store(url, src, keys, fresh, err)
		return nil, err
	})
	select {
	case <-ctx.Done():
		return fmt.Errorf("key set: %w", ctx.Err())
	case r := <-flight:
		return r.Err
	}
}

func (s *keySet) settled(src source, round int) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.round != round {
		return true, nil
	}
	return time.Since(s.spent[src]) < src.coolDown(), s.err
}

func (s *keySet) store(url string, src source, keys []publicKey, fresh time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	overdue := s.keys == nil || s.url != url || !now.Before(s.due)
	s.err = err
	if err != nil {
		s.spent[src] = now
		if overdue {
			s.due = now.Add(keysRetry)
		}
		return
	}
	// A fetch that was due anyway leaves the budget for a rotation that follows at once.
	if !overdue {
		s.spent[src] = now
	}
	s.keys, s.url, s.round = keys, url, s.round+1
	s.due = now.Add(fresh)
	s.dead = s.due.Add(keysStale)
}
