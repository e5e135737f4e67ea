package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidcauth/oidcauth/internal/ledger"
)

// tokens are what a provider of these tests gives: one refresh token, and access tokens by what they are for.
type tokens struct {
	refresh int
	access  map[string]string
}

type (
	state  = ledger.State[tokens]
	result = ledger.Result[tokens]
	book   = ledger.Ledger[tokens]
)

// op is a provider that rotates refresh tokens and takes none twice.
type op struct {
	mu     sync.Mutex
	newest int
	grants int
	reuses int
	takes  time.Duration
	fails  error
	outage bool
	dead   bool
}

// grant is what a client would do to get a token for key.
func (p *op) grant(key string) func(context.Context, state) result {
	return func(ctx context.Context, s state) result {
		time.Sleep(p.takes)
		if err := ctx.Err(); err != nil {
			return result{Err: err} // the client has hung up in the middle of it
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.grants++
		if s.Tokens.refresh != p.newest {
			p.reuses++
		}
		if p.fails != nil {
			return result{Err: p.fails, Outage: p.outage, Dead: p.dead}
		}
		p.newest++
		next := tokens{p.newest, map[string]string{}}
		for k, v := range s.Tokens.access {
			next.access[k] = v
		}
		next.access[key] = fmt.Sprintf("%s-%d", key, p.newest)
		return result{Tokens: next, Changed: true}
	}
}

// ask wants the token for key in another version than old.
func (p *op) ask(mine state, key, old string) ledger.Ask[tokens] {
	return ledger.Ask[tokens]{
		Mine: mine, Key: key, Grant: p.grant(key),
		Serves: func(s state) bool { got := s.Tokens.access[key]; return got != "" && got != old },
	}
}

var id = ledger.ID{1}

// first is a session right after its login, whose token "own-0" has expired.
func first() state {
	return state{Generation: 1, Tokens: tokens{0, map[string]string{"own": "own-0"}}}
}

func background(grant func()) { go grant() }

func TestOneGrantServesAllWhoAsk(t *testing.T) { // RFT-06, lesson 1
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, p := &book{Go: background}, &op{takes: 3 * time.Second}
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 20 * time.Millisecond) // some come when it is over
				s, err := l.Do(t.Context(), id, p.ask(first(), "own", "own-0"))
				if err != nil || s.Tokens.access["own"] != "own-1" || s.Generation != 2 {
					t.Errorf("request %d got %v, %v", i, s, err)
				}
			})
		}
		wg.Wait()
		if p.grants != 1 {
			t.Errorf("%d grants, want 1", p.grants)
		}
	})
}

func TestAudiencesTakeTurns(t *testing.T) { // S02
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, p := &book{Go: background}, &op{takes: time.Second}
		var wg sync.WaitGroup
		for i := range 100 {
			key := fmt.Sprint("api", i%5)
			wg.Go(func() {
				s, err := l.Do(t.Context(), id, p.ask(first(), key, ""))
				if err != nil || !strings.HasPrefix(s.Tokens.access[key], key+"-") {
					t.Errorf("%s: %v, %v", key, s, err)
				}
			})
		}
		wg.Wait()
		if p.grants != 5 || p.reuses != 0 {
			t.Errorf("%d grants and %d reuses, want 5 and none", p.grants, p.reuses)
		}
	})
}

func TestAStragglerGetsTheNewestHoweverLate(t *testing.T) { // S02, S03
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, p := &book{}, &op{}
		old := "own-0"
		for range 3 {
			s, err := l.Do(t.Context(), id, p.ask(first(), "own", old))
			if err != nil {
				t.Fatal(err)
			}
			old = s.Tokens.access["own"]
			time.Sleep(time.Hour)
		}
		s, newer, err := l.Newest(id, 1)
		if err != nil || !newer || s.Generation != 4 {
			t.Errorf("generation 1 is followed by %v, %v, %v", s, newer, err)
		}
		if _, newer, _ := l.Newest(id, 4); newer {
			t.Error("the newest is followed by something newer")
		}
		if s, err := l.Do(t.Context(), id, p.ask(first(), "own", "own-0")); err != nil || s.Tokens.access["own"] != "own-3" {
			t.Errorf("a straggler got %v, %v", s, err)
		}
		if p.grants != 3 || p.reuses != 0 {
			t.Errorf("%d grants and %d reuses, want 3 and none", p.grants, p.reuses)
		}
	})
}

func TestWhoComesWithNewerTokensIsBelieved(t *testing.T) {
	t.Parallel()
	l, p := &book{}, &op{}
	if _, err := l.Do(t.Context(), id, p.ask(first(), "own", "own-0")); err != nil {
		t.Fatal(err)
	}
	p.newest = 7 // another process went on
	mine := state{Generation: 8, Tokens: tokens{7, map[string]string{"own": "own-7"}}}
	if s, err := l.Do(t.Context(), id, p.ask(mine, "own", "")); err != nil || s.Tokens.access["own"] != "own-7" {
		t.Errorf("with newer ones: %v, %v", s, err)
	}
	if s, err := l.Do(t.Context(), id, p.ask(first(), "own", "own-7")); err != nil || s.Generation != 9 || p.reuses != 0 {
		t.Errorf("then: %v, %v, %d reuses", s, err, p.reuses)
	}
}

func TestWhoGivesUpLeavesTheGrantToTheOthers(t *testing.T) { // lesson 3
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, p := &book{Go: background}, &op{takes: 12 * time.Second}
		ctx, hangUp := context.WithTimeout(t.Context(), time.Second)
		defer hangUp()
		if _, err := l.Do(ctx, id, p.ask(first(), "own", "own-0")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the first got %v", err)
		}
		s, err := l.Do(t.Context(), id, p.ask(first(), "own", "own-0"))
		if err != nil || s.Tokens.access["own"] != "own-1" || p.grants != 1 {
			t.Errorf("the next got %v, %v after %d grants", s, err, p.grants)
		}
	})
}

func TestWhatEndedStaysEnded(t *testing.T) { // S23, BCL-23
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var late []int
		p := &op{takes: 3 * time.Second}
		l := &book{Go: background, Late: func(_ context.Context, g tokens) { late = append(late, g.refresh) }}
		outcome := make(chan error)
		go func() {
			_, err := l.Do(t.Context(), id, p.ask(first(), "own", "own-0"))
			outcome <- err
		}()
		time.Sleep(time.Second)
		if s, ok := l.End(id); !ok || s.Tokens.refresh != 0 {
			t.Errorf("ended with %v, %v", s, ok)
		}
		if err := <-outcome; !errors.Is(err, ledger.ErrEnded) {
			t.Errorf("the grant under way brought %v", err)
		}
		if len(late) != 1 || late[0] != 1 {
			t.Errorf("what came late: %v", late)
		}
		for generation := range uint64(5) {
			if _, _, err := l.Newest(id, generation); !errors.Is(err, ledger.ErrEnded) {
				t.Errorf("generation %d: %v", generation, err)
			}
			mine := state{Generation: generation}
			if _, err := l.Do(t.Context(), id, p.ask(mine, "own", "")); !errors.Is(err, ledger.ErrEnded) {
				t.Errorf("generation %d: %v", generation, err)
			}
		}
		if _, ok := l.End(id); ok {
			t.Error("it ended twice")
		}
		if _, ok := l.End(ledger.ID{2}); ok {
			t.Error("tokens of a session that nobody has asked for")
		}
		if _, _, err := l.Newest(ledger.ID{2}, 9); !errors.Is(err, ledger.ErrEnded) {
			t.Errorf("a session that ended before anything was granted: %v", err)
		}
	})
}

func TestADeadGenerationGivesWayToANewerOne(t *testing.T) { // S16
	t.Parallel()
	l, p := &book{}, &op{fails: errors.New("invalid_grant"), dead: true}
	if _, err := l.Do(t.Context(), id, p.ask(first(), "own", "own-0")); !errors.Is(err, p.fails) {
		t.Errorf("got %v", err)
	}
	if _, err := l.Do(t.Context(), id, p.ask(first(), "own", "own-0")); !errors.Is(err, ledger.ErrEnded) || p.grants != 1 {
		t.Errorf("then %v after %d grants", err, p.grants)
	}
	if _, _, err := l.Newest(id, 1); !errors.Is(err, ledger.ErrEnded) {
		t.Errorf("then %v", err)
	}
	mine := state{Generation: 2, Tokens: tokens{0, nil}}
	if _, err := l.Do(t.Context(), id, p.ask(mine, "own", "")); !errors.Is(err, p.fails) || p.grants != 2 {
		t.Errorf("a newer one was not tried: %v", err)
	}
	p.fails, mine.Generation = nil, 3
	if _, _, err := l.Newest(id, 3); err != nil {
		t.Errorf("a newer one: %v", err)
	}
	if s, err := l.Do(t.Context(), id, p.ask(mine, "own", "")); err != nil || s.Generation != 4 {
		t.Errorf("a newer one: %v, %v", s, err)
	}
}

func TestAfterAFailureTheProviderIsLeftAlone(t *testing.T) { // S05
	t.Parallel()
	for name, outage := range map[string]bool{"an outage": true, "a refusal": false} {
		synctest.Test(t, func(t *testing.T) {
			l, p := &book{}, &op{fails: errors.New("503"), outage: outage}
			start := time.Now()
			var at []time.Duration
			for time.Since(start) < 3*time.Minute {
				before := p.grants
				if _, err := l.Do(t.Context(), id, p.ask(first(), "own", "own-0")); !errors.Is(err, p.fails) {
					t.Fatalf("%s: %v", name, err)
				}
				if p.grants > before {
					at = append(at, time.Since(start))
				}
				time.Sleep(100 * time.Millisecond)
			}
			s := time.Second
			if got, want := fmt.Sprint(at), fmt.Sprint([]time.Duration{0, s, 3 * s, 7 * s, 15 * s, 31 * s, 61 * s, 91 * s, 121 * s, 151 * s}); got != want {
				t.Errorf("%s: asked at %s, want %s", name, got, want)
			}
			before := p.grants
			if _, err := l.Do(t.Context(), id, p.ask(first(), "other", "")); err == nil || (p.grants == before) != outage {
				t.Errorf("after %s the other audience is asked for %d times", name, p.grants-before)
			}
			time.Sleep(31 * time.Second)
			p.fails = nil
			got, err := l.Do(t.Context(), id, p.ask(first(), "own", "own-0"))
			if err != nil || got.Generation != 2 {
				t.Errorf("after %s: %v, %v", name, got, err)
			}
			p.fails = errors.New("again")
			_, _ = l.Do(t.Context(), id, p.ask(first(), "own", "own-1"))
			before = p.grants
			time.Sleep(time.Second) // the count has begun anew
			if _, _ = l.Do(t.Context(), id, p.ask(first(), "own", "own-1")); p.grants != before+1 {
				t.Errorf("after %s and a success the next failure waits for more than a second", name)
			}
		})
	}
}

// Keys come from the browser, by way of scopes.
func TestFewFailuresAreRemembered(t *testing.T) {
	t.Parallel()
	l, p := &book{}, &op{fails: errors.New("invalid_scope")}
	refused := func(key string) (asked bool) {
		before := p.grants
		_, _ = l.Do(t.Context(), id, p.ask(first(), key, ""))
		return p.grants > before
	}
	for n := range 17 {
		if !refused(fmt.Sprint(n)) || refused(fmt.Sprint(n)) {
			t.Fatalf("failure %d was not remembered", n)
		}
	}
	again := 0
	for n := range 17 {
		if refused(fmt.Sprint(n)) {
			again++ // and thereby it is remembered, and another is not
		}
	}
	if again == 0 {
		t.Error("all 17 are remembered")
	}
}

func TestWhoOnlyLooksSpendsNothing(t *testing.T) { // S04
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, p := &book{Go: background}, &op{takes: time.Second}
		look := p.ask(first(), "own", "own-0")
		look.Grant = nil
		if s, err := l.Do(t.Context(), id, look); !errors.Is(err, ledger.ErrNotServed) || s.Generation != 1 {
			t.Errorf("got %v, %v", s, err)
		}
		go func() { _, _ = l.Do(t.Context(), id, p.ask(first(), "own", "own-0")) }()
		synctest.Wait()
		if s, err := l.Do(t.Context(), id, look); err != nil || s.Generation != 2 {
			t.Errorf("with a grant of another under way: %v, %v", s, err)
		}
	})
}

func TestAGrantThatPanicsIsAFailure(t *testing.T) {
	t.Parallel()
	l := &book{}
	ask := new(op).ask(first(), "own", "own-0")
	ask.Grant = func(context.Context, state) result { panic("a hook") }
	for range 2 {
		if s, err := l.Do(t.Context(), id, ask); err == nil || s.Generation != 1 {
			t.Errorf("got %v, %v", s, err)
		}
	}
}

// What was spent stays spent, whatever else went wrong.
func TestTokensThatCameWithAnErrorAreKept(t *testing.T) {
	t.Parallel()
	l := &book{}
	wrong := errors.New("no access token")
	ask := new(op).ask(first(), "own", "own-0")
	ask.Grant = func(context.Context, state) result {
		return result{Tokens: tokens{refresh: 9}, Changed: true, Err: wrong}
	}
	if s, err := l.Do(t.Context(), id, ask); !errors.Is(err, wrong) || s.Generation != 2 || s.Tokens.refresh != 9 {
		t.Errorf("got %v, %v", s, err)
	}
}

// A grant that took very long must not take newer tokens back.
func TestALateResultReplacesNothingNewer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, p := &book{Go: background}, &op{takes: time.Minute}
		go func() { _, _ = l.Do(t.Context(), id, p.ask(first(), "own", "own-0")) }()
		synctest.Wait()
		mine := state{Generation: 5, Tokens: tokens{4, map[string]string{"own": "own-4"}}}
		if s, err := l.Do(t.Context(), id, p.ask(mine, "own", "")); err != nil || s.Generation != 5 {
			t.Errorf("got %v, %v", s, err)
		}
		time.Sleep(2 * time.Minute)
		if s, newer, err := l.Newest(id, 1); err != nil || !newer || s.Generation != 5 {
			t.Errorf("got %v, %v, %v", s, newer, err)
		}
	})
}

func TestThe10000LastUsedSessionsAreRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, slow := &book{Go: background}, &op{takes: time.Hour}
		number := func(n int) ledger.ID { return ledger.ID{byte(n), byte(n >> 8), byte(n >> 16)} }
		go func() { _, _ = l.Do(t.Context(), number(0), slow.ask(first(), "own", "own-0")) }()
		synctest.Wait()
		grant := func(n int) {
			if _, err := l.Do(t.Context(), number(n), new(op).ask(first(), "own", "own-0")); err != nil {
				t.Fatal(err)
			}
		}
		for n := 1; n < 10_000; n++ {
			grant(n)
		}
		if _, newer, _ := l.Newest(number(1), 1); !newer { // and thereby it is used
			t.Error("the first was forgotten early")
		}
		for n := 10_000; n < 12_000; n++ {
			grant(n)
		}
		for n, want := range map[int]bool{1: true, 2: false, 2000: false, 2001: false, 2002: true, 9_999: true, 11_999: true} {
			if _, newer, _ := l.Newest(number(n), 1); newer != want {
				t.Errorf("session %d is remembered: %v", n, newer)
			}
		}
		// One whose refresh token is being spent is not forgotten, or it would be spent twice.
		if s, err := l.Do(t.Context(), number(0), slow.ask(first(), "own", "own-0")); err != nil || s.Generation != 2 || slow.grants != 1 {
			t.Errorf("got %v, %v after %d grants", s, err, slow.grants)
		}
	})
}

func TestManySessionsAtOnce(t *testing.T) { // for the race detector
	t.Parallel()
	l := &book{Go: background}
	var wg sync.WaitGroup
	for n := range 50 {
		p, who := &op{}, ledger.ID{9, byte(n)}
		for i := range 20 {
			wg.Go(func() {
				s, err := l.Do(t.Context(), who, p.ask(first(), fmt.Sprint("api", i%3), ""))
				if err == nil && i == 19 {
					_, _ = l.End(who)
				} else if err == nil && s.Tokens.refresh == 0 {
					t.Error("nothing was granted")
				}
				_, _, _ = l.Newest(who, 1)
			})
		}
	}
	wg.Wait()
}
