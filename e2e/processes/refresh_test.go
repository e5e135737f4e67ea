package processes

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"
)

// unhurried is for tests in which no claim has to run out, on a busy machine.
func unhurried(c *config) { c.GrantTimeout = 20 * time.Second }

func atTheSameTime(p *place) {
	w := p.world(nowhere, unhurried)
	first := w.signedIn("alice")
	const life = 8 * time.Second
	w.provider.lifetime(life)
	a := w.wantToken("alice", send(w.Context(), requestCount, first, w.apps...).all())
	w.wantGrants(1, 1)
	if a.cookie == "" && p.hybrid {
		w.Fatal("the browser that refreshed got no new cookie")
	}

	// Half of the requests come with what the last ones have set, half with what those came with: the answer was lost.
	w.provider.lifetime(time.Hour)
	within(w.T, patience, "the second token has expired", func() bool { return time.Now().After(a.Expiry) })
	newest := a.cookie
	if newest == "" {
		newest = first
	}
	one := send(w.Context(), requestCount, newest, w.apps[:2]...)
	two := send(w.Context(), requestCount, first, w.apps[2:]...)
	b := w.wantToken("alice", append(one.all(), two.all()...))
	w.wantGrants(2, 2)
	if b.Token == a.Token {
		w.Error("an expired token was handed out")
	}
	w.lives("alice", first, w.apps...)
}

// A token endpoint that takes twelve seconds is slow and not broken: with the leases of real life nobody loses patience.
func TestATokenEndpointThatTakesTwelveSeconds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, startRedis(t), true, nowhere, func(c *config) { c.Lease, c.GrantTimeout = 0, 0 })
	cookie := w.signedIn("alice")
	const delay = 12 * time.Second
	w.provider.Delay("token", delay)
	began := time.Now()
	w.wantToken("alice", send(w.Context(), requestCount, cookie, w.apps...).all())
	if took := time.Since(began); took < delay {
		w.Errorf("the answer came after %v", took)
	}
	w.wantGrants(1, 1)
	w.lives("alice", cookie, w.apps...)
}

func whileClientsHangUp(p *place) {
	w := p.world(nowhere, unhurried)
	cookie := w.signedIn("alice")
	release := w.provider.Hold("token")
	ctx, hangUp := context.WithCancel(w.Context())
	impatient := send(ctx, requestCount, cookie, w.apps...)
	within(w.T, patience, "a refresh is under way", func() bool { return len(w.provider.refreshes()) > 0 })
	time.AfterFunc(50*time.Millisecond, hangUp)
	others := unexpected{}
	for _, a := range impatient.all() {
		if !errors.Is(a.err, context.Canceled) {
			others.add(a)
		}
	}
	others.report(w.T)
	again := send(w.Context(), requestCount, cookie, w.apps...)
	release()
	w.wantToken("alice", again.all())
	w.wantGrants(1, 1)
	w.lives("alice", cookie, w.apps...)
}

func theStoreWasAway(p *place) {
	p.server = p.start(p.T) // this one is nobody else's
	w := p.world(nowhere, unhurried)
	cookie := w.signedIn("alice")
	p.server.kill(w.T)
	others := unexpected{}
	for _, a := range send(w.Context(), requestCount, cookie, w.apps...).all() {
		if !a.isOutage() {
			others.add(a)
		}
	}
	others.report(w.T)
	if n := len(w.provider.refreshes()); n != 0 {
		w.Errorf("%d refreshes that no other process could see", n)
	}
	p.server.start(w.T)
	w.untilServed(cookie, w.apps...)
	w.wantToken("alice", send(w.Context(), requestCount, cookie, w.apps...).all())
	w.wantGrants(1, 1)
}

// What the winner gets while the store is away it alone knows. It saves that before its claim runs out, and nobody has to
// ask it to.
func theStoreGoesAwayInBetween(p *place) {
	p.server = p.start(p.T)
	w := p.world(nowhere, unhurried)
	cookie := w.signedIn("alice")
	release := w.provider.Hold("token")
	first := send(w.Context(), 1, cookie, w.apps[0])
	within(w.T, patience, "a refresh is under way", func() bool { return len(w.provider.refreshes()) > 0 })
	early := sendAndWait(w.Context(), w.T, requestCount, cookie, w.apps...)
	p.server.kill(w.T)
	release()
	others := unexpected{}
	for _, a := range append(first.all(), early.all()...) {
		if a.status != http.StatusOK && !a.isOutage() {
			others.add(a)
		}
	}
	others.report(w.T)
	p.server.start(w.T)
	w.untilServed(cookie, w.others()...)
	w.untilServed(cookie, w.apps[0])
	w.wantToken("alice", send(w.Context(), requestCount, cookie, w.apps...).all())
	w.wantGrants(1, 1)
}

// untilServed asks each process again and again, as browsers do after a 503.
func (w *world) untilServed(cookie string, apps ...*process) {
	w.Helper()
	last := make([]answer, len(apps))
	var group sync.WaitGroup
	for i, p := range apps {
		group.Go(func() {
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
				if last[i] = p.ask(w.Context(), cookie); !last[i].isOutage() {
					return
				}
			}
		})
	}
	group.Wait()
	w.wantToken("alice", last)
}

// isOutage says whether the answer is that the store is away, and leaves the browser what it has.
func (a *answer) isOutage() bool {
	return a.err == nil && a.status == http.StatusServiceUnavailable && a.Error == "store_unavailable" && !a.cleared
}
