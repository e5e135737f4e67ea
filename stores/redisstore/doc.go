// Package redisstore keeps the sessions of oidcauth in Redis or Valkey: one server, one behind Sentinel, or a cluster.
// It is an oidcauth.SessionStore and an oidcauth.SessionIndex, and imports nothing of that module.
//
//	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{"localhost:6379"}})
//	store, err := redisstore.New(client, redisstore.Options{})
//
// Get, Set, Delete and Tagged take one round trip each. In a cluster a Set with tags takes two: tags lie on other nodes
// than the key, and have to be there first. Redis 6.2 or newer, or any Valkey, will do.
//
// # What the server has to keep
//
// Half of what lies in the store makes sessions end: a note that one was ended, a token that was used. A server that
// forgets it lets ended sessions come back, and says nothing. Therefore:
//
//   - maxmemory-policy noeviction. Any other policy throws values away before they expire. A server that is full
//     refuses new sessions instead, which is an error here.
//   - appendonly yes. Without it a restart goes back to the last snapshot, minutes ago. With appendfsync everysec, the
//     default, a server that is killed may forget about the last second, logins, logouts and refreshes: who signed in
//     has to do it again, who signed out in that second may be back, and a session whose new refresh token was lost
//     ends when it is refreshed next. appendfsync always forgets nothing, for the price of a disk write for every Set
//     and Delete.
//   - A failover to a replica may forget the last writes as well, since Redis replicates after it has answered.
//     min-replicas-to-write 1 with a small min-replicas-max-lag limits how many. The store does not use WAIT, which
//     would cost a round trip to a replica, and does not make Redis consistent either.
//   - Replicas are not for reading: they lag, and a session that was ended would live on there. New refuses a client
//     that it can see to read from replicas, or from a cache of its own.
//   - Clocks of servers may differ from those of applications. They must not jump: Redis ends what expires by its
//     clock. Those of a server and its replicas have to agree.
//
// [Store.Check] looks for the first three. A server that is secured needs the commands EVALSHA, EVAL, GET, GETRANGE,
// SET, DEL, TIME, PTTL, PEXPIRE, ZADD, ZRANGEBYSCORE and ZREMRANGEBYSCORE on keys with the prefix, and for Check INFO.
//
// # Timeouts and retries
//
// Calls return when their context ends. That takes a goroutine each, about a third of the time of a Get, which a client
// with ContextTimeoutEnabled saves for contexts with a deadline; one of those that is cancelled before is heeded at its
// deadline. What a call began goes on, on its connection, until the ReadTimeout of the client at the latest: a second
// or two suits most.
//
// The client's own retries serve Get and Tagged alone: a Set or Delete whose answer was lost may have been done, and
// doing it again could undo what others did in between. It is an error, and the next one gets a new connection. Set
// ConnMaxIdleTime below the time after which your server or load balancer closes idle connections, or the first Set
// after a quiet hour may find one of those.
package redisstore
