# Freehold's commands. `make help` lists them.

# One setting of cgo for everything but the race detector: no C compiler is
# needed, and build, lint and tests share one set of compiled packages.
export CGO_ENABLED = 0

VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
FUZZTIME  ?= 10s
GO_TESTS   = --include='*_test.go' --exclude-dir=.git
GO_BENCH   = go test -run '^$$' -bench . -benchmem $$(grep -rl $(GO_TESTS) '^func Benchmark' . | xargs -n1 dirname | sort -u)
# The lint vets; nobody debugs a test's binary, and half of linking it is for debuggers.
GO_TEST    = go test -vet=off -ldflags=-w
LINTER     = go tool -modfile=tools/go.mod golangci-lint

.PHONY: help run test race e2e e2e-image bench fuzz lint migration check build postgres
.NOTPARALLEL:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: postgres build ## build and start the whole platform on this machine: ARGS='--tenants 5'
	@exec bin/freehold dev $(ARGS)

# One package more than there are processors: while some wait, others work.
test: postgres ## run all tests that need no Docker
	$(GO_TEST) -p $$(($$(getconf _NPROCESSORS_ONLN) + 1)) -timeout 4m ./...

# These measure what waits for what, or kill by the clock: nothing else runs beside them.
ALONE = ./router ./tenantdb/fleet ./e2e/limits ./e2e/privacy
# Whole contests, which make bench runs; their long form takes minutes under the race detector.
SHORT = ./e2e/bench
race: postgres ## the same under the race detector; needs a C compiler
	CGO_ENABLED=1 $(GO_TEST) -race -timeout 10m $$(go list ./... | grep -vxF "$$(go list $(ALONE) $(SHORT))")
	FREEHOLD_LONG= CGO_ENABLED=1 $(GO_TEST) -race -timeout 10m $(SHORT)
	CGO_ENABLED=1 $(GO_TEST) -race -timeout 10m -p 1 $(ALONE)

# Those with container tests; `make test` runs the others.
CONTAINERS = $$(grep -rl $(GO_TESTS) '^//go:build e2e' e2e | xargs -n1 dirname | sort -u | sed 's|^|./|')
e2e: postgres ## run the container and SDK tests; fails without Docker, or Node 20
	@image=$$(sh e2e/image/build.sh) && newer=$$(sh e2e/image/newer.sh "$$image") && set -x && \
	FREEHOLD_LONG= FREEHOLD_E2E_IMAGE=$$image FREEHOLD_E2E_NEWER="$$newer" $(GO_TEST) -count=1 -tags e2e -timeout 15m $(CONTAINERS)

e2e-image: ## pull the tests' Postgres image, or build it from this machine's files
	@sh e2e/image/build.sh

# Standard output is the comparisons' alone, one JSON object a case.
bench: postgres ## compare with the peers: NAME=router, isolation, onboarding, fleet, inference, pii, finetune or move for one, NAME=go for Go's own benchmarks
	@status=0; \
	case '$(NAME)' in go) ;; *) go run ./e2e/bench $(ARGS) $(NAME) || status=1;; esac; \
	case '$(NAME)' in ''|go) $(GO_BENCH) >&2 || status=1;; esac; \
	exit $$status

fuzz: postgres ## run each fuzz target for FUZZTIME (10s)
	@grep -ro $(GO_TESTS) '^func Fuzz[A-Za-z0-9_]*' . | sed 's|/[^/]*:func | |' | sort -u | while read -r dir name; do \
		go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$dir" </dev/null || exit 1; done

lint: ## static checks, go vet's among them, and formatting
	$(LINTER) run

migration: ## write the next numbered SQL file: NAME=add_notes SET=tenant|catalog
	@case '$(SET)/$(NAME)' in tenant/?*|catalog/?*) ;; *) echo 'usage: make migration NAME=add_notes SET=tenant|catalog' >&2; exit 2;; esac; \
	last=$$(ls migrations/$(SET) | sed -n 's/^0*\([0-9]*\)_.*\.sql$$/\1/p' | sort -n | tail -n 1); \
	file=migrations/$(SET)/$$(printf %05d $$(($${last:-0} + 1)))_$(NAME).sql; \
	printf '%s\n' '-- +goose Up' '' '-- +goose Down' >"$$file"; echo "$$file"

check: export FREEHOLD_LONG = 1
check: lint race e2e ## all that CI runs: lint, the long tests with -race, the container tests

build:
	@go build -ldflags '-X main.version=$(VERSION)' -o bin/freehold ./cmd/freehold

postgres:
	@go run ./migrations/localpg/ensure
