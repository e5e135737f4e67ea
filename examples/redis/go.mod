module github.com/oidcauth/oidcauth/examples/redis

go 1.26.0

replace (
	github.com/oidcauth/oidcauth => ../..
	github.com/oidcauth/oidcauth/stores/redisstore => ../../stores/redisstore
)

require (
	github.com/oidcauth/oidcauth v0.0.0-00010101000000-000000000000
	github.com/oidcauth/oidcauth/stores/redisstore v0.0.0-00010101000000-000000000000
	github.com/redis/go-redis/v9 v9.23.0
)
