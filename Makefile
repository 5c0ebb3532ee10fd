# What developers and CI start. `make` alone lists all targets. `make run` needs Go, make and git.

SERVICES        := $(patsubst %/main.go,%,$(wildcard services/*/main.go))
PROGRAMS        := ./deploy/local ./deploy/stripe ./deploy/proof
# The npm packages, which need Node 20.19 or later. Without Node the targets below do without them.
WEBHOOKS        := services/webhooks
TYPESCRIPT      := services/contracts/typescript $(WEBHOOKS) services/storefront
NPM             := deploy/local/npm.sh
# The last commit of the previous release, for test-upgrade.
RELEASE_BEFORE  := 7440bbfc7a488291511faff8a21ef178877089aa
# The packages whose tests start real sidecars. All others have unit tests alone.
STACK_TESTS      = $(sort $(shell grep -rl --include='*_test.go' --exclude-dir=node_modules 'boxoffice/deploy/\(local/stack\|proof/chaos\)' services deploy | xargs -n1 dirname | sed 's|^|./|'))
# Each sidecar watches files, and Linux gives a user 128 watchers, so the browser's stacks do not run beside the others.
BROWSER_TESTS   := ./services/storefront/test
# The race detector needs a C compiler. Without one the tests run without it.
RACE            := $(if $(shell command -v cc || command -v gcc || command -v clang),-race)
# Tests with stacks mostly wait, so more of them run at once than the two that Go would choose on two cores.
AT_ONCE         := 4
# About seventy processes then share the machine. With one thread of Go and a lazier collector each test process takes a fifth less
# of it. The launcher has such settings for the processes that it starts (deploy/local/stack/goruntime.go).
SPARING         := GOMAXPROCS=1 GOGC=400
# Temporary files in memory, if there is room. The tests end processes and never the machine, so they need no disk, and on some file
# systems many small files take a tenth of the time.
IN_MEMORY       := $(shell [ "$$(df -Pk /dev/shm 2> /dev/null | awk 'NR == 2 { print $$4 }')" -gt 4000000 ] 2> /dev/null && echo TMPDIR=/dev/shm)
# go test, with the failures and the number of tests at the end.
TEST            := .build/tools/gotestsum --format standard-quiet --hide-summary skipped --
# On real sidecars: no result of an earlier run is used.
TEST_STACKS     := $(IN_MEMORY) $(TEST) -count=1 -parallel $(AT_ONCE) -timeout 9m -exec 'env $(SPARING)'
# Flags for the launcher, as in: make run ARGS=-verbose
ARGS            :=

export CGO_ENABLED ?= 0
# Go's newer implementation of encoding/json, with the same API. It decodes events in half the time. A toolchain without this
# experiment builds without it, and so are Dapr and Kubernetes built.
export GOEXPERIMENT ?= $(shell GOEXPERIMENT=jsonv2 go env GOEXPERIMENT 2> /dev/null)
build-node: export GOEXPERIMENT :=

DOCKER_BUILDS   := $(patsubst services/%,docker-build-%,$(SERVICES)) docker-build-webhooks docker-build-daprd docker-build-migrate docker-build-stripe
DEV_SERVICES    := $(patsubst services/%,dev-%,$(SERVICES) $(WEBHOOKS))

.DEFAULT_GOAL := help
.PHONY: help run infra samples dead-letters rebuild-catalogue republish-tickets migrate-up migrate-status build build-webhooks build-storefront build-runtime build-cluster test test-unit test-typescript test-stack test-browser test-infra test-requests build-before test-upgrade test-coverage fuzz \
	bench chaos check test-mutants k8s-secrets k8s-apply k8s-diff k8s-delete test-k8s build-node test-node lint vulncheck release-contracts pin-images rotate-keys reset clean docker-secrets docker-build-all dev-infra dev-infra-down \
	$(DOCKER_BUILDS) $(DEV_SERVICES)

help: ## list all targets
	@echo "The box office. First: make run, then open another terminal. All targets:"
	@awk -F ':.*## ' '/^##@ / { print "\n" substr($$0, 5) } /^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo; echo 'Flags for the launcher go into ARGS: make run ARGS=-h'

##@ Run

run: build-runtime build ## start everything, until Ctrl-C
	@.build/local run $(ARGS)

infra: build-runtime build ## start what the services need, for: dapr run -f .
	@.build/local infra $(ARGS)

samples: URL ?= http://localhost:8080
samples: ## give a running system the sample programme: 20 shows, 400 tickets (URL=http://localhost:8080; elsewhere also SAMPLES_PASSWORD=…)
	@go run ./deploy/local samples -url '$(URL)' $(ARGS)

dead-letters: ## list the events that could not be handled, or ARGS='show ID', 'send ID', send-all
	@variables=$$(.build/local env dead-letters) && eval "$$variables" && .build/dead-letters $(or $(ARGS),list)

rebuild-catalogue: ## build what clients search from nothing, while everything runs (services/catalogue/feed/README.md)
	@variables=$$(.build/local env catalogue) && (eval "$$variables" && .build/catalogue rebuild)
	@$(MAKE) --no-print-directory republish-tickets

republish-tickets: ## publish the last event of every ticket again (ARGS='-rate 500')
	@variables=$$(.build/local env tickets) && eval "$$variables" && .build/tickets republish $(ARGS)

migrate-up: ## give a PostgreSQL server its roles, databases and reports (deploy/postgres/README.md)
	@cd deploy/postgres && go run . $(ARGS) up

migrate-status: ## show which migrations a PostgreSQL server has
	@cd deploy/postgres && go run . $(ARGS) status

##@ Build

build: build-webhooks build-storefront ## build the services, the launcher, the Stripe sandbox and the proof
	@go build -trimpath -o .build/ $(addprefix ./,$(SERVICES)) $(PROGRAMS)

build-webhooks: ## build the service webhooks, if Node 20.19 or later is there
	@$(NPM) build $(WEBHOOKS)

build-storefront: .build/tools/esbuild ## bundle the scripts and styles of the storefront, which the gateway serves
	@services/storefront/bundle.sh $<

build-runtime: ## build Dapr's runtime and NATS, if their sources changed
	@go run ./deploy/local/build runtime

# The tools of deploy/local/tools/go.mod, each at the version that stands there.
.build/tools/%: deploy/local/tools/go.mod
	@go -C deploy/local/tools build -o $(CURDIR)/$@ $$(awk '$$NF ~ "/$*$$" { print $$NF; exit }' $<)

##@ Test

test: build-runtime build test-unit test-typescript test-stack ## run all tests

# -short makes rapid do a fifth of the checks and half of the steps: 100 checks of 30 steps each.
test-unit: export RAPID_CHECKS ?= 500
test-unit: export RAPID_STEPS ?= 60
test-unit: .build/tools/gotestsum ## run the tests that need no sidecar, with the race detector
	$(if $(RACE),CGO_ENABLED=1,@echo "No C compiler: without the race detector.";) $(TEST) -p $(AT_ONCE) $(RACE) -short ./...
	cd deploy/postgres && $(CURDIR)/$(TEST) .
	cd deploy/local/tools/breaking && $(CURDIR)/$(TEST) .

test-typescript: ## run the tests of the npm packages that need no sidecar, if Node 20.19 or later is there
	@$(NPM) test $(TYPESCRIPT)

test-stack: build-runtime build .build/tools/gotestsum ## run the tests on real sidecars
	$(TEST_STACKS) -p 2 $(filter-out $(BROWSER_TESTS),$(STACK_TESTS))
	$(TEST_STACKS) $(BROWSER_TESTS)
	cd deploy/runtime && GOEXPERIMENT= $(CURDIR)/$(TEST) -trimpath -vet=off -parallel 8 .

test-browser: build-runtime build test-typescript ## run the tests of the storefront in Chromium (RUN=a pattern of titles; UPDATE=1 writes its pictures)
	$(IN_MEMORY) go test -count=1 -v -timeout 10m -run '^TestBrowser$$' ./services/storefront/test

test-infra: SETS ?= embedded nats redis
test-infra: RUN  ?= .
test-infra: build-runtime build .build/tools/gotestsum ## run the end-to-end tests on every set of components (SETS='nats redis', RUN=a pattern)
	@for set in $(SETS); do \
		echo "The end-to-end tests on the set $$set:"; \
		INFRA=$$set $(TEST_STACKS) -run '$(RUN)' ./deploy/proof/e2e || failed="$$failed $$set"; \
	done; [ -z "$$failed" ] || { echo "Failed on:$$failed"; exit 1; }

test-requests: REQUESTS ?= 20000
test-requests: build-runtime build .build/tools/gotestsum ## send requests that are generated from services/contracts/openapi.yaml (REQUESTS=20000, SEED=7)
	REQUESTS=$(REQUESTS) SEED=$(SEED) $(TEST_STACKS) -run '^TestGenerated_' ./deploy/proof/e2e

build-before: ## build the previous release from the history, for test-upgrade
	@go run ./deploy/local/build release $(RELEASE_BEFORE)

test-upgrade: SETS ?= embedded nats
test-upgrade: build-before ## start on the data of the previous release, and work with it (SETS='embedded nats')
	@$(MAKE) --no-print-directory test-infra RUN='^TestUpgrade_' SETS='$(SETS)'

# The services write their coverage when they end; tests that start one write theirs to the same folder.
test-coverage: export GOCOVERDIR = $(CURDIR)/.build/coverage
test-coverage: build-runtime ## run all tests and measure how much of the code they reach
	rm -rf $(GOCOVERDIR); mkdir -p $(GOCOVERDIR)
	go build -cover -coverpkg=./... -o .build/ $(addprefix ./,$(SERVICES)) $(PROGRAMS)
	go test -count=1 -p 1 -parallel $(AT_ONCE) -timeout 9m -cover -coverpkg=./... ./... -args -test.gocoverdir=$(GOCOVERDIR)
	go tool covdata textfmt -i=$(GOCOVERDIR) -o coverage.out
	@$(MAKE) --no-print-directory build
	@go tool cover -func=coverage.out | tail -1
	@echo "By line: go tool cover -html=coverage.out"

# One target after the other, because each uses all cores. Go writes a finding to testdata/fuzz of the package: from then on it is a
# test, which fails until the defect is repaired. FUZZTIME is a number of inputs and not a time, because before 1.27 Go sometimes
# fails at the end of a time ("context deadline exceeded", https://go.dev/issue/75804).
fuzz: FUZZTIME ?= 20000x
fuzz: FUZZ     ?= .
fuzz: ## give invalid input to all parsers of foreign input (FUZZTIME=20000x inputs for each, or 10m; FUZZ=a pattern of names)
	@for found in $$(grep -roE --include='*_test.go' --exclude-dir=node_modules '^func Fuzz[A-Za-z0-9_]+' services deploy | sed 's|/[^/]*:func |:|' | grep -E '$(FUZZ)' | sort); do \
		echo "$${found#*:}:"; \
		go test -short -run '^$$' -fuzz "^$${found#*:}\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s $(FUZZFLAGS) ./$${found%:*} || failed="$$failed $${found#*:}"; \
	done; [ -z "$$failed" ] || { echo "Failed:$$failed"; exit 1; }

##@ Measure and prove

bench: build-runtime build ## measure a stack of its own beside a sidecar without a service (ARGS=-h)
	@.build/proof bench $(ARGS)

chaos: build-runtime build ## kill and freeze processes under load, then check (SEED=7 TIME=10m; ARGS=-h)
	@.build/proof chaos $(if $(SEED),-seed $(SEED)) $(if $(TIME),-time $(TIME)) $(ARGS)

test-mutants: build-runtime build ## build services with defects, and require that chaos finds each (ARGS='-run etag*'; ARGS=-h)
	@.build/proof mutants $(ARGS)

check: build ## check that the running stack keeps its promises (ARGS=-h)
	@.build/proof check $(ARGS)

# The cluster is the one that kubectl is configured for. .build/cluster contains a kubectl, too.
OVERLAY         := dev
KUBECTL         := $(shell command -v kubectl || echo .build/cluster kubectl)

##@ Kubernetes

k8s-secrets: ## make the missing secrets of the overlay dev
	@go run ./deploy/k8s/secrets

k8s-apply: $(if $(filter dev,$(OVERLAY)),k8s-secrets) ## install the box office in a Kubernetes cluster, or update it (OVERLAY=dev)
	$(KUBECTL) apply --server-side --field-manager=boxoffice -k deploy/k8s/overlays/$(OVERLAY)

k8s-diff: $(if $(filter dev,$(OVERLAY)),k8s-secrets) ## show what k8s-apply would change (OVERLAY=dev)
	$(KUBECTL) diff --server-side --field-manager=boxoffice -k deploy/k8s/overlays/$(OVERLAY)

# For staging and production type the overlay's name, or set CONFIRM to it.
k8s-delete: $(if $(filter dev,$(OVERLAY)),k8s-secrets) ## remove all of it from the cluster, with its namespace and volumes (OVERLAY=dev)
	@[ '$(OVERLAY)' = dev ] || [ '$(CONFIRM)' = '$(OVERLAY)' ] || { \
		printf 'This deletes "%s" from the cluster of kubectl (%s), with its databases and backups.\nTo continue, type its name: ' \
			'$(OVERLAY)' "$$($(KUBECTL) config current-context 2>/dev/null)"; \
		read -r answer || answer=; [ "$$answer" = '$(OVERLAY)' ] || { echo 'Nothing was deleted.'; exit 1; }; }
	$(KUBECTL) delete --ignore-not-found -k deploy/k8s/overlays/$(OVERLAY)

build-cluster: ## build a Kubernetes API server and Dapr's control plane, for test-k8s
	@go run ./deploy/local/build cluster

test-k8s: build-cluster build-runtime build ## test deploy/k8s on a real API server and Dapr's control plane
	CI_REQUIRE_K8S=1 go test -count=1 -timeout 9m ./deploy/k8s/proof

build-node: build-cluster ## build the programs of a cluster's node on this machine, for test-node
	@cd deploy/k8s/cluster && go build -trimpath -ldflags='-s -w' -o ../../../.build/ ./node ./pause
	@cd deploy/postgres && go build -trimpath -ldflags='-s -w' -o ../../.build/migrate .

test-node: build-node build-runtime build ## run deploy/k8s on a node on this machine, and sell a ticket (needs root, containerd, helm, PostgreSQL)
	CI_REQUIRE_K8S=1 CI_REQUIRE_NODE=1 go test -count=1 -v -timeout 30m -run TestNode ./deploy/k8s/proof

# Images (deploy/docker/README.md). With a mirror: DOCKER_FLAGS='--build-arg BUILDER=… --build-arg BASE=…'
REGISTRY        := boxoffice
TAG             := dev
DOCKER_FLAGS    :=
DOCKER_BUILD     = docker build -f deploy/docker/Dockerfile --build-arg VERSION=$(TAG) \
	--build-arg REVISION=$$(git rev-parse HEAD) $(DOCKER_FLAGS)

##@ Containers

docker-secrets: ## make the passwords and keys of docker-compose.yaml that .env lacks
	@deploy/docker/secrets.sh

docker-build-all: $(DOCKER_BUILDS) ## build all images; one alone: docker-build-tickets, and so on

docker-build-webhooks docker-build-daprd docker-build-migrate docker-build-stripe: docker-build-%:
	$(DOCKER_BUILD) --target $* -t $(REGISTRY)/$*:$(TAG) .

$(patsubst services/%,docker-build-%,$(SERVICES)): docker-build-%:
	$(DOCKER_BUILD) --target service --build-arg SERVICE=$* -t $(REGISTRY)/$*:$(TAG) .

##@ Develop one service

dev-infra: build-runtime build ## start what the services need, in the background; then dev-tickets and so on
	@deploy/local/dev-infra.sh up

dev-infra-down: ## stop what dev-infra started
	@deploy/local/dev-infra.sh down

$(DEV_SERVICES): dev-%: .build/tools/air ## (dev-auth, dev-tickets, …) run one service with its sidecar, rebuilt when a file changes
	@SERVICE=$* deploy/local/dev-service.sh

##@ Maintain

lint: .build/tools/staticcheck .build/tools/actionlint ## check format, vet, staticcheck, actionlint, the npm packages, and openapi.yaml against the last release
	@unformatted=$$(find deploy services -name node_modules -prune -o -name '*.go' -exec gofmt -l {} +); [ -z "$$unformatted" ] || { echo "not formatted (gofmt -w): $$unformatted"; exit 1; }
	go vet ./...
	cd deploy/postgres && go vet . && $(CURDIR)/.build/tools/staticcheck .
	@# From nothing, vet reads Dapr's 1500 packages: two minutes on two cores. Then seconds: Go caches what it found.
	cd deploy/runtime && GOEXPERIMENT= go vet -trimpath .
	.build/tools/staticcheck ./...
	.build/tools/actionlint
	cd deploy/local/tools/breaking && go vet . && $(CURDIR)/.build/tools/staticcheck .
	go -C deploy/local/tools/breaking run . $(addprefix $(CURDIR)/services/contracts/,released/openapi.yaml openapi.yaml)
	@$(NPM) lint $(TYPESCRIPT)

# It fails if the code calls a vulnerable function. It needs a database on the network, so it is not in lint.
vulncheck: .build/tools/govulncheck ## find known vulnerabilities in what the code calls
	@for module in . deploy/postgres deploy/runtime deploy/k8s/cluster; do \
		echo "govulncheck in $$module:"; .build/tools/govulncheck -C $$module ./... || failed=1; \
	done; [ -z "$$failed" ]

# Before the commit of a release: later changes are compared with these copies.
release-contracts: ## copy the documents of services/contracts to its folder released
	cp services/contracts/openapi.yaml services/contracts/released/
	cp services/contracts/schemas/*.json services/contracts/released/schemas/

pin-images: ## pin all foreign images by digest (needs docker with buildx, and the registries)
	@deploy/docker/pin.sh

rotate-keys: ## replace the keys that sign tokens and passes; all stay valid; two minutes (ARGS=-h)
	@go run ./deploy/local rotate-keys $(ARGS)

reset: ## delete all users, tickets, orders, events and secrets
	@go run ./deploy/local reset

clean: ## delete what was built, but not the state
	rm -rf .build coverage*.out
