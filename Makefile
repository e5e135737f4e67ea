# The checks are in .ci/run; each step can be run by itself.

.PHONY: all test race lint format tidy deps links e2e fuzz vuln bench

all:    ; .ci/run
test:   ; go test ./...
race:   ; .ci/run race
lint:   ; .ci/run format vet staticcheck tidy deps links
format: ; GOWORK=off go tool -modfile=internal/tools/go.mod gofumpt -w .
tidy:   ; for dir in . internal/tools e2e e2e/processes examples/api examples/chi examples/ownstore examples/proxy examples/redis stores/redisstore stores/sqlstore; do (cd $$dir && GOWORK=off go mod tidy) || exit 1; done
deps:   ; .ci/run update_deps
links:  ; .ci/run links
e2e:    ; cd e2e && GOWORK=off go test -v -timeout 30m ./...
fuzz:   ; FUZZTIME=$(or $(FUZZTIME),5m) .ci/run fuzz
bench:  ; go test -run '^$$' -bench . -benchmem ./...
vuln:   ; GOWORK=off go tool -modfile=internal/tools/go.mod govulncheck ./...
