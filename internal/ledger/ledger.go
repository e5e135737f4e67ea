package ledger

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// An ID names a session.
type ID = [32]byte

// A State is the tokens of a session at one generation. Each grant begins the next one.
type State[T any] struct {
	Generation uint64
	Tokens     T
}

// An Ask is what one request wants of its session's tokens.
type Ask[T any] struct {
	// Mine is what the request itself came with.
	Mine State[T]
	// Key tells asks apart that a grant answers differently, such as those for two audiences.
	Key string
	// Serves reports whether s has what is asked for. It must be quick.
	Serves func(s State[T]) bool
	// Grant spends the refresh token of s. It runs once for all who ask, and goes on when they give up; its context has
	// no deadline. Nil spends nothing.
	Grant func(ctx context.Context, s State[T]) Result[T]
}

// A Result is the outcome of a grant. The zero value changes nothing, and says that nothing went wrong.
type Result[T any] struct {
	Tokens  T
	Changed bool  // Tokens are new
	Err     error // what those who asked are told
	Dead    bool  // nothing that this generation has can ever be spent again: the session is over
	Outage  bool  // Err is of everybody's concern, and not only of those with the same key
	// Generation, if it is not 0, is that of Tokens which another process has got: who asked looks at them like at any others.
	Generation uint64
	// After is called, if it is not nil, when the outcome is saved and everybody told.
	After func()
}

var (
	// ErrEnded means that the session was ended.
	ErrEnded = errors.New("the session has ended")
	// ErrNotServed means that only a grant would bring what was asked for, and that none was wanted.
	ErrNotServed = errors.New("nothing at hand, and no grant wanted")

	errPanicked = errors.New("the grant panicked")
)

const (
	maxSessions = 10_000
	maxFailures = 16 // remembered for one session
	firstWait   = time.Second
	longestWait = 30 * time.Second
)

// A Ledger keeps the newest tokens of each session and sees to it that its refresh token is spent by one at a time: who
// comes with older tokens, however late, gets the newest. It remembers the 10,000 sessions used last, tokens and ends
// alike. The zero value is ready to use; the fields must not change after that. It is safe for concurrent use.
type Ledger[T any] struct {
	// Go runs a grant beside the request that wants it, or in its place. Nil is the request's own goroutine.
	Go func(grant func())
	// Late is given what a grant brought for a session that ended meanwhile. Nil drops it.
	Late func(ctx context.Context, tokens T)

	mu       sync.Mutex
	sessions map[ID]*list.Element // of *session[T]
	recent   list.List            // the one used last in front
}

// session is what is known of one session. It is guarded by Ledger.mu.
type session[T any] struct {
	id       ID
	newest   State[T]
	ended    bool // for good
	dead     bool // unless somebody comes with a newer generation
	flight   *flight[T]
	failures map[string]failure // by key; "" is an outage
	checked  time.Time
}

// flight is a grant under way. Its outcome may be read when done is closed.
type flight[T any] struct {
	key   string
	done  chan struct{}
	state State[T]
	err   error
	stale bool // somebody came with newer tokens meanwhile: the outcome is nobody's
}

// failure keeps a provider that has just refused from being asked again at once.
type failure struct {
	err   error
	wait  time.Duration
	until time.Time
}

// Newest returns the tokens of a session that are newer than generation, if there are any. The error is ErrEnded.
func (l *Ledger[T]) Newest(id ID, generation uint64) (s State[T], newer bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.find(id)
	switch {
	case e == nil:
		return s, false, nil
	case e.over(generation):
		return s, false, ErrEnded
	}
	return e.newest, e.newest.Generation > generation, nil
}

// Do returns the newest tokens that serve ask, by a grant if need be. It waits, until ctx ends, for one that is under
// way; several asks with the same key share one, and its outcome whatever that is. After a failure nothing is spent for
// 1, 2, 4 up to 30 seconds, and the same error is returned at once. With any error but ErrEnded the state is the newest
// all the same.
func (l *Ledger[T]) Do(ctx context.Context, id ID, ask Ask[T]) (State[T], error) {
	for {
		s, f, err := l.begin(ctx, id, &ask)
		if f == nil {
			return s, err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return s, context.Cause(ctx)
		}
		if f.key == ask.Key && !f.stale {
			return f.state, f.err
		}
		// The grant was for somebody else, or for tokens that are the newest no more. Now look again.
	}
}

// begin returns what can be said at once, or the grant to wait for.
func (l *Ledger[T]) begin(ctx context.Context, id ID, ask *Ask[T]) (State[T], *flight[T], error) {
	l.mu.Lock()
	s := ask.Mine
	e := l.find(id)
	if e != nil {
		if e.over(s.Generation) {
			l.mu.Unlock()
			return s, nil, ErrEnded
		}
		s = e.adopt(s)
	}
	var err error
	switch {
	case ask.Serves(s):
	case e != nil && e.flight != nil:
		f := e.flight
		l.mu.Unlock()
		return s, f, nil
	case ask.Grant == nil:
		err = ErrNotServed
	default:
		if err = e.failed(ask.Key); err == nil {
			return s, l.launch(ctx, id, s, ask), nil
		}
	}
	l.mu.Unlock()
	return s, nil, err
}

// launch starts a grant. It is called with l.mu held, and releases it.
func (l *Ledger[T]) launch(ctx context.Context, id ID, s State[T], ask *Ask[T]) *flight[T] {
	f := &flight[T]{key: ask.Key, done: make(chan struct{})}
	e := l.add(id)
	e.newest, e.flight = s, f
	grant := ask.Grant
	l.mu.Unlock()
	run := func() {
		ctx := context.WithoutCancel(ctx)
		r := Result[T]{Err: errPanicked} // stays if it does
		defer func() {
			_ = recover() // here, nobody else could
			l.land(ctx, e, s.Generation, r)
		}()
		r = grant(ctx, s)
	}
	if l.Go == nil {
		run()
	} else {
		l.Go(run)
	}
	return f
}

// land saves what a grant for tokens of a generation brought, before anybody is told.
func (l *Ledger[T]) land(ctx context.Context, e *session[T], generation uint64, r Result[T]) {
	l.mu.Lock()
	f := e.flight
	e.flight = nil
	f.err = r.Err
	f.stale = !e.ended && e.newest.Generation > generation
	switch {
	case e.ended:
		f.err = ErrEnded
	case f.stale:
	case r.Changed && r.Generation > 0:
		f.stale, e.newest, e.failures = true, State[T]{r.Generation, r.Tokens}, nil
	case r.Changed:
		e.newest = State[T]{generation + 1, r.Tokens}
	case r.Dead:
		e.dead = true
	}
	late := e.ended && r.Changed
	if !e.ended && !f.stale {
		e.note(f.key, r)
	}
	f.state = e.newest
	l.mu.Unlock()
	if late && l.Late != nil {
		l.Late(ctx, r.Tokens)
	}
	close(f.done)
	if r.After != nil {
		r.After()
	}
}

// End ends a session for good and returns its newest tokens, if any are known. A grant under way brings it nothing more.
func (l *Ledger[T]) End(id ID) (s State[T], ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.add(id)
	s, ok = e.newest, e.newest.Generation > 0 && !e.ended
	e.ended, e.newest, e.failures = true, State[T]{}, nil
	return s, ok
}

// over reports whether a request with tokens of a generation comes too late.
func (e *session[T]) over(generation uint64) bool {
	return e.ended || e.dead && generation <= e.newest.Generation
}

// Adopt tells what another process has got for a session.
func (l *Ledger[T]) Adopt(id ID, s State[T]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.add(id); !e.ended {
		e.adopt(s)
	}
}

// Check notes when other processes were asked about a session. Checked reports whether that is not longer ago than d.
func (l *Ledger[T]) Check(id ID, asked time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(id).checked = asked
}

// Checked is the counterpart of Check.
func (l *Ledger[T]) Checked(id ID, d time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.find(id)
	return e != nil && time.Since(e.checked) <= d
}

// adopt returns the newer of two states, and remembers it: the ledger may have forgotten, or another process been asked.
func (e *session[T]) adopt(mine State[T]) State[T] {
	if mine.Generation > e.newest.Generation {
		e.newest, e.dead, e.failures = mine, false, nil
	}
	return e.newest
}

// failed returns the error of a grant that failed too short a time ago to try again.
func (e *session[T]) failed(key string) error {
	if e == nil {
		return nil
	}
	for _, k := range []string{"", key} {
		if f, ok := e.failures[k]; ok && time.Now().Before(f.until) {
			return f.err
		}
	}
	return nil
}

// note remembers how a grant went.
func (e *session[T]) note(key string, r Result[T]) {
	if r.Changed || r.Err != nil && !r.Outage {
		delete(e.failures, "") // the provider has answered
	}
	if r.Err == nil {
		delete(e.failures, key)
		return
	}
	if r.Outage {
		key = ""
	}
	if e.failures == nil {
		e.failures = map[string]failure{}
	}
	for other := range e.failures {
		if _, known := e.failures[key]; !known && other != "" && len(e.failures) >= maxFailures {
			delete(e.failures, other)
		}
	}
	wait := min(max(firstWait, 2*e.failures[key].wait), longestWait)
	e.failures[key] = failure{r.Err, wait, time.Now().Add(wait)}
}

// find returns what is known of a session, or nil. l.mu is held.
func (l *Ledger[T]) find(id ID) *session[T] {
	element := l.sessions[id]
	if element == nil {
		return nil
	}
	l.recent.MoveToFront(element)
	return element.Value.(*session[T])
}

// add returns what is known of a session, which is nothing if it is new. l.mu is held.
func (l *Ledger[T]) add(id ID) *session[T] {
	if e := l.find(id); e != nil {
		return e
	}
	if l.sessions == nil {
		l.sessions = map[ID]*list.Element{}
	}
	l.forget()
	e := &session[T]{id: id}
	l.sessions[id] = l.recent.PushFront(e)
	return e
}

// forget makes room for one more. A session whose refresh token is being spent stays, or it could be spent twice.
func (l *Ledger[T]) forget() {
	for element := l.recent.Back(); element != nil && len(l.sessions) >= maxSessions; {
		e, before := element.Value.(*session[T]), element.Prev()
		if e.flight == nil {
			delete(l.sessions, e.id)
			l.recent.Remove(element)
		}
		element = before
	}
}
