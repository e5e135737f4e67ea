package processes

import (
	"net/http"
	"time"

	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// Before its request has left, the winner has done nothing: nobody notices that it is gone.
func killedBeforeTheRequest(p *place, at point) {
	w := p.world(at)
	cookie := w.signedIn("alice")
	victim := w.apps[0]
	lost := send(w.Context(), 1, cookie, victim)
	victim.isHeld()
	rest := send(w.Context(), requestCount, cookie, w.others()...)
	victim.kill()
	killed := time.Now()
	w.wantToken("alice", rest.all())
	if took := time.Since(killed); at == claimed && took > sentLease-lease {
		w.Errorf("a claim of %v was waited for for %v", lease, took)
	}
	w.wantGrants(1, 1)
	if a := lost.all()[0]; a.err == nil {
		w.Errorf("a process that was killed has answered %d %+v", a.status, a.page)
	}
	w.lives("alice", cookie, append(w.others(), startProcess(w.T, w.config))...)
}

// killWinner kills the first process when the provider has rotated its token, and before it is answered. It returns
// requests that wait at the others.
func (w *world) killWinner(cookie string) *wave {
	w.Helper()
	grants := w.provider.Grants()
	release := w.provider.HoldAnswer("token")
	victim := w.apps[0]
	send(w.Context(), 1, cookie, victim)
	within(w.T, patience, "the provider has rotated", func() bool { return w.provider.Grants() == grants+1 })
	waiting := sendAndWait(w.Context(), w.T, requestCount, cookie, w.others()...)
	victim.kill()
	release()
	return waiting
}

// wantSentLease checks that nobody has come second before the first could have been answered.
func wantSentLease(w *world) {
	w.Helper()
	asked := w.provider.refreshes()
	if len(asked) != 2 || asked[1].Sub(asked[0]) < grantTimeout+lease {
		w.Errorf("the provider was asked at %v", asked)
	}
}

func killedAfterRotationWithOverlap(p *place) {
	w := p.world(nowhere)
	w.provider.Change(func(k *oidcauthtest.Knobs) { k.ReuseOverlap = time.Minute })
	cookie := w.signedIn("alice")
	waiting := w.killWinner(cookie)
	w.wantToken("alice", waiting.all())
	w.wantGrants(2, 2)
	wantSentLease(w)
	w.lives("alice", cookie, append(w.others(), startProcess(w.T, w.config))...)
}

// Where the provider punishes it nobody can save the session: the successor of its token died with the winner.
func killedAfterRotation(p *place) {
	w := p.world(nowhere)
	bob := w.signedIn("bob")
	w.wantToken("bob", send(w.Context(), 1, bob, w.apps...).all())
	before := len(w.provider.refreshes())
	cookie := w.signedIn("alice")
	waiting := w.killWinner(cookie)
	others := unexpected{}
	for _, a := range waiting.all() {
		if a.err != nil || a.status != http.StatusUnauthorized || a.Error != "login_required" || a.took > 2*sentLease {
			others.add(a)
		}
	}
	for _, a := range send(w.Context(), 1, cookie, w.others()...).all() {
		if a.status != http.StatusUnauthorized {
			others.add(a)
		}
	}
	others.report(w.T)
	if n := len(w.provider.refreshes()) - before; n != 2 || w.provider.Reuses() != 1 {
		w.Errorf("the provider was asked %d times and has seen %d reuses; want 2 and 1", n, w.provider.Reuses())
	}
	w.lives("bob", bob, w.others()...)
}

// A process that slept for longer than its claim held must not go on as if nothing had happened.
func paused(p *place, at point) {
	w := p.world(at)
	cookie := w.signedIn("alice")
	sleeper := w.apps[0]
	own := sendAndWait(w.Context(), w.T, requestCount, cookie, sleeper)
	sleeper.isHeld()
	sleeper.pause()
	slept := time.Now()
	rest := w.wantToken("alice", send(w.Context(), requestCount, cookie, w.others()...).all())
	within(w.T, patience, "two leases have passed", func() bool { return time.Since(slept) > 2*lease })
	sleeper.wake()
	sleeper.release()
	if a := w.wantToken("alice", own.all()); a.Token != rest.Token {
		w.Errorf("the process that slept has another token than the others")
	}
	w.wantGrants(1, 1)
	w.lives("alice", cookie, w.apps...)
}

// With its answer in the mail it is as with one that was killed, but for what it does when it wakes.
func pausedBeforeTheAnswer(p *place) {
	w := p.world(nowhere)
	w.provider.Change(func(k *oidcauthtest.Knobs) { k.ReuseOverlap = time.Minute })
	cookie := w.signedIn("alice")
	release := w.provider.HoldAnswer("token")
	sleeper := w.apps[0]
	own := sendAndWait(w.Context(), w.T, requestCount, cookie, sleeper)
	within(w.T, patience, "the provider has rotated", func() bool { return w.provider.Grants() == 1 })
	sleeper.pause()
	release()
	rest := w.wantToken("alice", send(w.Context(), requestCount, cookie, w.others()...).all())
	sleeper.wake()
	if a := w.wantToken("alice", own.all()); a.Token != rest.Token {
		w.Errorf("the process that slept has another token than the others")
	}
	w.wantGrants(2, 2)
	wantSentLease(w)
	w.lives("alice", cookie, w.apps...)
}
