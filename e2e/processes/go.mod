module github.com/oidcauth/oidcauth/e2e/processes

go 1.26.0

replace (
	github.com/oidcauth/oidcauth => ../..
	github.com/oidcauth/oidcauth/stores/redisstore => ../../stores/redisstore
	github.com/oidcauth/oidcauth/stores/sqlstore => ../../stores/sqlstore
)

require (
	github.com/jackc/pgx/v5 v5.12.0
	github.com/oidcauth/oidcauth v0.0.0-00010101000000-000000000000
	github.com/oidcauth/oidcauth/stores/redisstore v0.0.0-00010101000000-000000000000
	github.com/oidcauth/oidcauth/stores/sqlstore v0.0.0-00010101000000-000000000000
	github.com/redis/go-redis/v9 v9.23.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/coreos/go-oidc/v3 v3.21.0 // indirect
	github.com/felixge/httpsnoop v1.1.0 // indirect
	github.com/go-jose/go-jose/v4 v4.1.9 // indirect
	github.com/gorilla/securecookie v1.1.2 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/puddle/v2 v2.2.3 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	golang.org/x/crypto v0.59.0 // indirect
	golang.org/x/oauth2 v0.38.0 // indirect
	golang.org/x/sync v0.25.0 // indirect
	golang.org/x/sys v0.50.0 // indirect
	golang.org/x/text v0.44.0 // indirect
)
