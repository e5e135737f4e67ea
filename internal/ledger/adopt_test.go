package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth/internal/ledger"
)

// S05: a claim holds while what came after a long wait is verified and saved.
func TestAClaimHoldsUntilTheResultIsSaved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, g := &counter{}, &grant{}
		const takes, saves = 29 * time.Second, 20 * time.Second
		first := make(chan error, 1)
		go func() {
			first <- ledger.Alone(t.Context(), store, "key", 1, g.look, func(c *ledger.Claim) ledger.Outcome {
				_, cancel, err := c.Send(t.Context())
				if err != nil {
					return ledger.Failed
				}
				time.Sleep(takes)
				cancel()
				c.Extend(t.Context(), 25*time.Second)
				time.Sleep(saves)
				g.mu.Lock()
				defer g.mu.Unlock()
				g.saved = true
				return ledger.Done
			})
		}()
		synctest.Wait()
		began := time.Now()
		err := ledger.Alone(t.Context(), store, "key", 1, g.look, func(*ledger.Claim) ledger.Outcome {
			t.Errorf("another process takes over after %v", time.Since(began))
			return ledger.Done
		})
		if took := time.Since(began); err != nil || took < takes+saves || took > takes+saves+time.Second {
			t.Errorf("another process has the result after %v: %v", took, err)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}

// What another process has got is taken over if it is newer, and never by a session that has ended.
func TestWhatAnotherProcessHasGotIsAdopted(t *testing.T) {
	t.Parallel()
	l := &book{}
	theirs := func(generation uint64) state {
		access := map[string]string{"own": fmt.Sprint("own-", generation)}
		return state{Generation: generation, Tokens: tokens{int(generation), access}}
	}
	newest := func(want uint64) {
		t.Helper()
		s, _, err := l.Newest(id, 0)
		if err != nil || s.Generation != want || want > 0 && s.Tokens.refresh != int(want) {
			t.Errorf("the newest is %v, %v, want generation %d", s, err, want)
		}
	}
	newest(0)
	for _, step := range []struct{ adopt, want uint64 }{{3, 3}, {2, 3}, {3, 3}, {5, 5}} {
		l.Adopt(id, theirs(step.adopt))
		newest(step.want)
	}
	p := &op{fails: errors.New("invalid_grant"), dead: true}
	if _, err := l.Do(t.Context(), id, p.ask(theirs(5), "own", "own-5")); err == nil {
		t.Fatal("no error")
	}
	if _, _, err := l.Newest(id, 5); !errors.Is(err, ledger.ErrEnded) {
		t.Errorf("after a refusal: %v", err)
	}
	l.Adopt(id, theirs(6)) // another process has tokens that work
	newest(6)
	l.End(id)
	l.Adopt(id, theirs(9))
	if _, _, err := l.Newest(id, 9); !errors.Is(err, ledger.ErrEnded) {
		t.Errorf("after the end: %v", err)
	}
}

// Who asked for a grant and finds that another process has got tokens looks at these like at any others: if they will not
// do, there is one more grant, for the newest.
func TestTokensOfAnotherProcessServeOrNot(t *testing.T) {
	t.Parallel()
	for name, serves := range map[string]bool{"they will do": true, "they are for another audience": false} {
		l, p := &book{}, &op{newest: 4}
		ask := p.ask(first(), "own", "own-0")
		grants, own := 0, ask.Grant
		ask.Grant = func(ctx context.Context, s state) result {
			if grants++; grants > 1 {
				return own(ctx, s)
			}
			access := map[string]string{"own": "own-0", "api": "api-5"}
			if serves {
				access["own"] = "own-5"
			}
			return result{Tokens: tokens{4, access}, Changed: true, Generation: 5}
		}
		s, err := l.Do(t.Context(), id, ask)
		want := state{Generation: 6, Tokens: tokens{5, map[string]string{"own": "own-5", "api": "api-5"}}}
		if serves {
			want.Generation, want.Tokens.refresh = 5, 4
		}
		if err != nil || fmt.Sprint(s) != fmt.Sprint(want) || p.reuses != 0 {
			t.Errorf("%s: got %v, %v, %d reuses, want %v", name, s, err, p.reuses, want)
		}
	}
}

func TestWhenOthersWereAskedLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &book{}
		if l.Checked(id, time.Hour) {
			t.Error("nobody was ever asked")
		}
		asked := time.Now()
		time.Sleep(time.Second) // it took them a second to answer
		l.Check(id, asked)
		for _, tt := range []struct {
			age  time.Duration
			want bool
		}{{time.Second, true}, {10 * time.Second, true}, {10*time.Second + 1, false}} {
			time.Sleep(tt.age - time.Since(asked))
			if got := l.Checked(id, 10*time.Second); got != tt.want {
				t.Errorf("%v later: %v", tt.age, got)
			}
		}
		if s, ok := l.End(id); ok || s.Generation != 0 { // nothing is known but that
			t.Errorf("it ends with %v", s)
		}
	})
}
