package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"time"
)

// How long a claim holds and how long a grant may take. They are variables for tests with processes of their own.
var (
	// Lease is how long a session is claimed before the request leaves, and by how much a claim outlives the request.
	Lease = 5 * time.Second
	// GrantTimeout is how long a grant may take at the provider. One that is cut short may have been carried out.
	GrantTimeout = 30 * time.Second
)

const (
	freeFor  = 2 * time.Second
	deadFor  = time.Minute
	firstGap = 10 * time.Millisecond
	lastGap  = 250 * time.Millisecond
)

var (
	// ErrSpent means that another process has found the session's refresh token to be of no use any more.
	ErrSpent = errors.New("another process could not refresh the session any more")
	// ErrFailed means that another process has just failed to refresh, for want of an answer.
	ErrFailed = errors.New("another process has just failed to refresh")
	// ErrLost means that a claim has run out before its request left: another process may have taken over.
	ErrLost = errors.New("the claim has run out")

	errBusy = errors.New("other processes hold the session's claim all the time")
)

// A ClaimStore is what the root package calls SessionStore, as far as claims need it.
type ClaimStore interface {
	Get(ctx context.Context, key string) (data []byte, version int64, ok bool, err error)
	Set(ctx context.Context, key string, data []byte, expires time.Time, old int64, tags []string) (int64, error)
}

// An Outcome is what became of what a claim was for.
type Outcome byte

const (
	// Done, the zero value, lets the next process go on: what there is to know is saved.
	Done Outcome = iota
	// Dead means that nobody will ever spend the refresh token of this generation.
	Dead
	// Failed keeps the others from trying at once what has just failed for all.
	Failed
	// Lost means that nothing was sent, since the claim had run out.
	Lost
	// Unsaved leaves the claim to who calls [Claim.Release]: the others would not find yet what there is to know.
	Unsaved
)

// The states of a claim. A claim that was sent holds for as long as its request may be under way.
const (
	claimed = 'c'
	sent    = 's'
	free    = 'f'
	failed  = 'o'
	dead    = 'd'
)

// Alone runs spend in one process at a time for a key. look tells whether another has done meanwhile what it is for; it is
// asked first whenever there was somebody else, and after the claim is made, since a result is saved before a claim is
// given back. generation is of the tokens that are to be spent.
//
// A process that stops without a word is replaced when its lease ends: before its request has left that is safe, and
// afterwards it is as late as an answer could come (S05). The claim changes hands by conditional Sets alone, so that a
// process which slept finds out before it sends anything (S06).
//
// The error is look's, ErrSpent, ErrFailed, the store's or ctx's.
func Alone(
	ctx context.Context, store ClaimStore, key string, generation uint64,
	look func(context.Context) (done bool, err error), spend func(*Claim) Outcome,
) error {
	c := &Claim{store: store, key: key, generation: generation}
	patience := time.Now().Add(4 * (GrantTimeout + 2*Lease))
	for gap := firstGap; ; gap = min(2*gap, lastGap) {
		mine, err := c.take(ctx)
		if err != nil {
			return err
		}
		if done, err := look(ctx); done || err != nil {
			if mine {
				c.leave(ctx, free, freeFor)
			}
			return err
		}
		if mine {
			outcome := spend(c)
			c.settle(ctx, outcome)
			if outcome != Lost {
				return nil
			}
		}
		if time.Now().After(patience) {
			return errBusy
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(gap):
		}
	}
}

// A Claim is a process's right to spend the refresh token of a session. A nil Claim is that of the only process.
type Claim struct {
	store      ClaimStore
	key        string
	generation uint64
	version    int64
	until      time.Time // on the monotonic clock
}

// take reports whether the claim is made. If it is not, somebody else has it.
func (c *Claim) take(ctx context.Context) (mine bool, err error) {
	if mine, err = c.set(ctx, claimed, Lease, 0); mine || err != nil {
		return mine, err
	}
	data, version, ok, err := c.store.Get(ctx, c.key)
	if err != nil || !ok || len(data) != 9 {
		return false, err // it has run out just now; the next attempt will tell
	}
	theirs := binary.BigEndian.Uint64(data[1:])
	switch state := data[0]; {
	case state == dead && theirs >= c.generation:
		return false, ErrSpent
	case state == failed && theirs >= c.generation:
		return false, ErrFailed
	case state == free, state == dead, state == failed:
		return c.set(ctx, claimed, Lease, version)
	}
	return false, nil
}

// Send says that the request leaves now. It returns a context in which that has to end. The error is ErrLost, or the
// store's: nothing may be sent then.
func (c *Claim) Send(ctx context.Context) (context.Context, context.CancelFunc, error) {
	began := time.Now()
	if c != nil {
		lease := GrantTimeout + 2*Lease
		mine, err := c.set(ctx, sent, lease, c.version)
		switch {
		case err != nil:
			return nil, nil, err
		case !mine, time.Since(began) > Lease: // the process or the store has slept
			return nil, nil, ErrLost
		}
	}
	ctx, cancel := context.WithDeadline(ctx, began.Add(GrantTimeout)) // before the claim's end, however long this took
	return ctx, cancel, nil
}

// Extend makes the claim hold for at least d more. What is in hand is saved all the same if it does not.
func (c *Claim) Extend(ctx context.Context, d time.Duration) {
	if c != nil && time.Until(c.until) < d {
		_, _ = c.set(ctx, sent, d, c.version)
	}
}

// Release gives back a claim after [Unsaved].
func (c *Claim) Release(ctx context.Context) {
	if c != nil {
		c.leave(ctx, free, freeFor)
	}
}

// settle gives the claim back, or leaves word why nobody needs it.
func (c *Claim) settle(ctx context.Context, o Outcome) {
	switch o {
	case Unsaved:
	case Dead:
		c.leave(ctx, dead, deadFor)
	case Failed:
		c.leave(ctx, failed, firstWait)
	default:
		c.leave(ctx, free, freeFor)
	}
}

// leave ends the claim with a last word. If that does not arrive, or the claim is another's, it runs out by itself.
func (c *Claim) leave(ctx context.Context, state byte, d time.Duration) {
	_, _ = c.set(ctx, state, d, c.version)
}

func (c *Claim) set(ctx context.Context, state byte, lease time.Duration, old int64) (mine bool, err error) {
	began := time.Now()
	data := binary.BigEndian.AppendUint64([]byte{state}, c.generation)
	version, err := c.store.Set(ctx, c.key, data, began.Add(lease), old, nil)
	if err != nil || version == 0 {
		return false, err
	}
	c.version, c.until = version, began.Add(lease)
	return true, nil
}
