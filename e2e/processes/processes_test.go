package processes

import "testing"

// A place is a store, and what it is used for.
type place struct {
	*testing.T
	start  func(testing.TB) server
	server server
	hybrid bool
}

// world starts the application in this place.
func (p *place) world(hold point, edit ...func(*config)) *world {
	p.Helper()
	return newWorld(p.T, p.server, p.hybrid, hold, edit...)
}

// Whatever happens to the processes, a session's refresh token is spent by one at a time, and nobody is logged out who
// need not be. S05, S06.
func TestProcessesRefreshOneSession(t *testing.T) {
	cases := map[string]func(*place){
		"at the same time":                            atTheSameTime,
		"while clients hang up":                       whileClientsHangUp,
		"the winner is killed with its claim":         func(p *place) { killedBeforeTheRequest(p, claimed) },
		"the winner is killed as its request leaves":  func(p *place) { killedBeforeTheRequest(p, leaving) },
		"the winner is killed after, with an overlap": killedAfterRotationWithOverlap,
		"the winner is killed after, without overlap": killedAfterRotation,
		"the winner is paused with its claim":         func(p *place) { paused(p, claimed) },
		"the winner is paused when it has looked":     func(p *place) { paused(p, looked) },
		"the winner is paused when it may send":       func(p *place) { paused(p, sent) },
		"the winner is paused as its request leaves":  func(p *place) { paused(p, leaving) },
		"the winner is paused while it is answered":   pausedBeforeTheAnswer,
		"the store was away":                          theStoreWasAway,
		"the store goes away in between":              theStoreGoesAwayInBetween,
	}
	kinds := map[string]func(testing.TB) server{"Redis": startRedis, "PostgreSQL": startPostgres}
	for kind, start := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			for mode, hybrid := range map[string]bool{"Store": false, "RevocationStore": true} {
				t.Run(mode, func(t *testing.T) {
					for name, run := range cases {
						t.Run(name, func(t *testing.T) {
							t.Parallel()
							run(&place{T: t, start: start, server: s, hybrid: hybrid})
						})
					}
				})
			}
		})
	}
}
