package redisstore

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// A tag is a sorted set of keys by the time at which they expire, on the clock of its server. Keys that have expired
// are cleared away in passing, and the tag goes with the last of them. Neither time is ever shortened: in a cluster, a
// Set that is going to be refused may have the earlier one. ZADD comes first because a server that is full refuses it,
// but nothing after the first write of a script.
const tagSource = `
local function now()
	local time = redis.call('TIME')
	return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function tag(name, key, life)
	local t = now()
	redis.call('ZADD', name, 'GT', t + life, key)
	redis.call('ZREMRANGEBYSCORE', name, '-inf', t - 1)
	if redis.call('PTTL', name) < life then
		redis.call('PEXPIRE', name, life)
	end
end
`

const (
	// setSource has the key and its tags for keys, and for arguments the version that must be there (none if the key
	// must be absent), the value, its lifetime in milliseconds and what tags call the key.
	setSource = tagSource + `
if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then
	return 0
end
local life = tonumber(ARGV[3])
if life == 0 then
	redis.call('DEL', KEYS[1])
	return 1
end
for i = 2, #KEYS do
	tag(KEYS[i], ARGV[4], life)
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', life)
return 1`

	// tagsSource has a tag, what it calls the key, and the lifetime of that.
	tagsSource = tagSource + `
tag(KEYS[1], ARGV[1], tonumber(ARGV[2]))
return 1`

	taggedSource = tagSource + `
return redis.call('ZRANGEBYSCORE', KEYS[1], now(), '+inf')`

	// removeSource is a script because go-redis splits a DEL in a cluster into new commands, which are tried again.
	removeSource = `return redis.call('DEL', KEYS[1])`
)

type script struct{ source, hash string }

func newScript(source string) script { return script{source, redis.NewScript(source).Hash()} }

// once is a command that go-redis does not try again when its answer was lost. It follows MOVED and ASK, which say that
// nothing was done.
type once struct{ *redis.Cmd }

func (once) NoRetry() bool { return true }

// run runs a script, which the server knows but for the first time, or after SCRIPT FLUSH or a restart.
func (s *Store) run(ctx context.Context, script script, keys []string, args ...any) (any, error) {
	all := make([]any, 3, 3+len(keys)+len(args))
	all[0], all[1], all[2] = "evalsha", script.hash, len(keys)
	for _, key := range keys {
		all = append(all, key)
	}
	all = append(all, args...)
	cmd := redis.NewCmd(ctx, all...)
	cmd.SetFirstKeyPos(3)
	err := s.process(ctx, once{cmd})
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		all[0], all[1] = "eval", script.source
		cmd = redis.NewCmd(ctx, all...)
		cmd.SetFirstKeyPos(3)
		err = s.process(ctx, once{cmd})
	}
	if err != nil {
		return nil, err
	}
	return cmd.Val(), nil
}

// writeTags makes tags name key. In a cluster they are on several servers, all of which are asked at once, and before
// the one that has the key. They live a minute longer, as their time begins before the key's.
func (s *Store) writeTags(ctx context.Context, key string, expires time.Time, tags []string) error {
	life := lifetime(expires.Add(time.Minute))
	if life == 0 {
		return nil
	}
	pipe := s.client.Pipeline()
	for _, tag := range tags {
		pipe.Eval(ctx, tagsSource, []string{s.tag(tag)}, key, life)
	}
	return s.await(ctx, func() error {
		_, err := pipe.Exec(ctx)
		return err
	})
}
