# Everything is started from here; `make` alone says what there is. It needs Go, make and git.

SERVICES        := $(patsubst %/main.go,%,$(wildcard services/*/main.go))
PROGRAMS        := ./deploy/local ./deploy/stripe ./deploy/proof
RUNTIME_SOURCES := $(wildcard deploy/runtime/*.go) deploy/runtime/go.mod deploy/runtime/go.sum
# The last commit of the release before, from which an upgrade to this one is tested.
RELEASE_BEFORE  := 7440bbfc7a488291511faff8a21ef178877089aa
STATICCHECK     := honnef.co/go/tools/cmd/staticcheck@v0.8.2
ACTIONLINT      := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
GOVULNCHECK     := golang.org/x/vuln/cmd/govulncheck@v1.9.0
AIR             := github.com/air-verse/air@v1.67.4
# The packages whose tests start real sidecars; all others are unit tests.
STACK_TESTS      = $(sort $(shell grep -rl --include='*_test.go' 'boxoffice/deploy/\(local/stack\|proof/chaos\)' services deploy | xargs -n1 dirname | sed 's|^|./|'))
# The race detector needs a C compiler; without one the tests run all the same.
RACE            := $(if $(shell command -v cc || command -v gcc || command -v clang),-race)
# Tests with stacks wait most of the time, and those of a package while another is linked, so more of them run at once than
# the two that Go would choose on two cores.
AT_ONCE         := 4
# Some seventy processes share the machine then. With one thread of Go and a lazier collector in each, they take a fifth
# less of it. The launcher chooses such settings by itself for what it starts (deploy/local/stack/goruntime.go); this is
# for the tests' own processes, and for many stacks at once.
SPARING         := GOMAXPROCS=1 GOGC=400
# What they write goes into memory, where there is room for it: they end processes and never the machine, so whether it is
# on a disk matters to none of them, and on some file systems making and removing so many files takes a tenth of the time.
IN_MEMORY       := $(shell [ "$$(df -Pk /dev/shm 2> /dev/null | awk 'NR == 2 { print $$4 }')" -gt 4000000 ] 2> /dev/null && echo TMPDIR=/dev/shm)
# Of vet, what looks at one package alone: all of it would take minutes over Dapr's 1500 packages.
RUNTIME_VET     := -assign -atomic -bools -copylocks -errorsas -ifaceassert -nilfunc -shift -stdmethods -structtag -unmarshal -unusedresult
# Flags for the launcher, as in: make run ARGS=-verbose
ARGS            :=

export CGO_ENABLED ?= 0
# Go's newer implementation of encoding/json, with the same API: it decodes events in half the time. A toolchain that does
# not know this experiment (any more) builds without it. What is built of Dapr and Kubernetes has no use for it.
export GOEXPERIMENT ?= $(shell GOEXPERIMENT=jsonv2 go env GOEXPERIMENT 2> /dev/null)
build-runtime build-before build-cluster build-node: export GOEXPERIMENT :=

DOCKER_BUILDS   := $(patsubst services/%,docker-build-%,$(SERVICES)) docker-build-daprd docker-build-migrate docker-build-stripe
DEV_SERVICES    := $(patsubst services/%,dev-%,$(SERVICES))

.DEFAULT_GOAL := help
.PHONY: help run infra dead-letters migrate-up migrate-status build build-runtime build-cluster test test-unit test-stack test-infra build-before test-upgrade test-coverage fuzz \
	bench chaos check check-the-check k8s-secrets k8s-apply k8s-diff k8s-delete test-k8s build-node test-node lint vulncheck pin-images rotate-keys reset clean docker-secrets docker-build-all dev-infra dev-infra-down \
	$(DOCKER_BUILDS) $(DEV_SERVICES)

help: ## say what there is
	@echo "The box office. First: make run, then open another terminal. All there is:"; echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo; echo 'Flags for the launcher go into ARGS: make run ARGS=-h'

run: build-runtime build ## start everything, until Ctrl-C
	@.build/local run $(ARGS)

infra: build-runtime build ## start what the services need, for: dapr run -f .
	@.build/local infra $(ARGS)

dead-letters: ## list the events that could not be handled, or ARGS='show ID', 'send ID', send-all
	@DAPR_API_TOKEN=$$(cat .state/tokens/dead-letters) && export DAPR_API_TOKEN && \
	DAPR_GRPC_PORT=$$(awk '/appID:/ { app = $$3 } app == "dead-letters" && $$1 == "daprGRPCPort:" { print $$2 }' dapr.yaml) \
		.build/dead-letters $(or $(ARGS),list)

migrate-up: ## give a PostgreSQL server its roles, databases and reports (deploy/postgres/README.md)
	@cd deploy/postgres && go run . $(ARGS) up

migrate-status: ## say what has been applied to a PostgreSQL server
	@cd deploy/postgres && go run . $(ARGS) status

build: ## build the services and the launcher
	@go build -trimpath -o .build/ $(addprefix ./,$(SERVICES)) $(PROGRAMS)

# Compared by content, for a checkout gives every file a new time.
build-runtime: SOURCES = $(shell cat $(RUNTIME_SOURCES) | git hash-object --stdin)
build-runtime: ## build Dapr's runtime and NATS, if their sources changed
	@if [ -x .build/runtime ] && [ "$$(cat .build/runtime.sources 2>/dev/null)" = "$(SOURCES)" ]; then exit 0; fi; \
	echo "Building Dapr's runtime and NATS: about five minutes from nothing, once."; \
	mkdir -p .build; cd deploy/runtime && \
	total=$$(go list -deps . | wc -l) && \
	{ go build -v -trimpath -ldflags='-s -w' -o ../../.build/runtime . 2>&1; echo "exit $$?"; } | awk -v total=$$total ' \
		/^exit [0-9]+$$/ { code = $$2; next } \
		/^[a-z0-9][^ :]*$$/ { if (++n % 100 == 0) { printf "  %d packages of %d at most\n", n, total; fflush() } next } \
		{ print; fflush() } \
		END { exit code }' && \
	echo "$(SOURCES)" > ../../.build/runtime.sources && echo "Built .build/runtime."

test: build-runtime build test-unit test-stack ## run all tests

# -short makes rapid do a fifth of the checks and half of the steps; so these are 100 checks of 30 steps each.
test-unit: export RAPID_CHECKS ?= 500
test-unit: export RAPID_STEPS ?= 60
test-unit: ## run the tests that need no sidecar, with the race detector
	$(if $(RACE),CGO_ENABLED=1,@echo "No C compiler: without the race detector.";) go test -p $(AT_ONCE) $(RACE) -short ./...
	cd deploy/postgres && go test .

test-stack: build-runtime build ## run the tests on real sidecars
	$(IN_MEMORY) go test -count=1 -p 2 -parallel $(AT_ONCE) -timeout 9m -exec 'env $(SPARING)' $(STACK_TESTS)
	cd deploy/runtime && GOEXPERIMENT= go test -trimpath -vet=off .

# The suite is the same for all; INFRA alone differs. What fails is printed before the table, and then the last that the
# processes of those tests said.
test-infra: SETS ?= embedded nats redis
test-infra: RUN  ?= .
test-infra: build-runtime build ## run the end-to-end tests on every set of components (SETS='nats redis', RUN=a pattern)
	@failed=0; processes='stacktest\.go:[0-9]*:'; work=$$(mktemp -d); trap 'rm -rf $$work' EXIT; \
	go test -c -o $$work/suite ./deploy/proof/e2e || exit 1; \
	for set in $(SETS); do \
		echo "The end-to-end tests on the set $$set …"; result=ok; begun=$$(date +%s); \
		(cd deploy/proof/e2e && $(IN_MEMORY) $(SPARING) INFRA=$$set $$work/suite -test.v -test.timeout 9m -test.parallel $(AT_ONCE) -test.run '$(RUN)') > $$work/log 2>&1 || result=FAILED; \
		grep -q '^--- PASS' $$work/log || result=FAILED; \
		[ $$result = ok ] || { failed=1; grep -vE "^=== |--- (PASS|SKIP)|$$processes" $$work/log; grep "$$processes" $$work/log | tail -n 300; }; \
		awk -v set=$$set -v seconds=$$(($$(date +%s) - begun)) -v result=$$result ' \
			/^--- PASS/ { passed++ } /^--- FAIL/ { failed++; names = names " " $$3 } /^--- SKIP/ { skipped++ } \
			END { printf "%-10s %5d %7d %7d %8d %5d s  %s%s\n", set, passed + failed + skipped, passed, failed, skipped, seconds, result, names }' \
			$$work/log >> $$work/table; \
	done; \
	printf '\n%-10s %5s %7s %7s %8s %7s\n' set tests passed failed skipped time; cat $$work/table; exit $$failed

# All of it is built, Dapr's runtime as well, so that it is what people run. The stand-in for Stripe was a command of its
# launcher, and is a program of its own now.
build-before: ## build the release before from the history, for test-upgrade
	@folder=.build/release-before; if [ "$$(cat $$folder/commit 2>/dev/null)" = $(RELEASE_BEFORE) ] && [ -x $$folder/.build/stripe ]; then exit 0; fi; \
	git cat-file -e '$(RELEASE_BEFORE)^{commit}' 2>/dev/null || { \
		echo "The release before, $(RELEASE_BEFORE), is not in this clone's history (git fetch --unshallow): its test is skipped."; \
		test -z "$$CI_REQUIRE_UPGRADE"; exit; }; \
	echo "Building the release before: half a minute after build-runtime, which compiles the same packages."; \
	rm -rf $$folder && mkdir -p $$folder/.build && git archive $(RELEASE_BEFORE) | tar -x -C $$folder && cd $$folder && \
	go build -trimpath -o .build/ $$(ls -d services/*/main.go | sed 's|^\(.*\)/main.go|./\1|') ./deploy/local && \
	(cd deploy/runtime && go build -trimpath -ldflags='-s -w' -o ../../.build/runtime .) && \
	printf '#!/bin/sh\nexec "$${0%%/*}/local" sandbox "$$@"\n' > .build/stripe && chmod +x .build/stripe && \
	echo $(RELEASE_BEFORE) > commit && echo "Built $$folder."

test-upgrade: SETS ?= embedded nats
test-upgrade: build-runtime build build-before ## let programs of the release before write, and those of this one go on (SETS='embedded nats')
	@for set in $(SETS); do \
		echo "An upgrade from the release before, on the set $$set …"; \
		$(IN_MEMORY) INFRA=$$set go test -count=1 -timeout 9m -run '^TestUpgrade_' ./deploy/proof/e2e || exit 1; \
	done

# The services write what they reached when they end; tests that start one leave it in the same folder.
test-coverage: export GOCOVERDIR = $(CURDIR)/.build/coverage
test-coverage: build-runtime ## run all tests and say how much of the code they reach
	rm -rf $(GOCOVERDIR); mkdir -p $(GOCOVERDIR)
	go build -cover -coverpkg=./... -o .build/ $(addprefix ./,$(SERVICES)) $(PROGRAMS)
	go test -count=1 -p 1 -parallel $(AT_ONCE) -timeout 9m -cover -coverpkg=./... ./... -args -test.gocoverdir=$(GOCOVERDIR)
	go tool covdata textfmt -i=$(GOCOVERDIR) -o coverage.out
	@$(MAKE) --no-print-directory build
	@go tool cover -func=coverage.out | tail -1
	@echo "By line: go tool cover -html=coverage.out"

# One after the other, for each takes all there is of the machine. The first time takes minutes: Go builds everything
# anew, to see which lines an input reaches. A finding is left under testdata/fuzz of its package: with it, go test
# fails until the fault is mended, and from then on it is a test. A number of inputs rather than a time: at the end of a
# time, Go before 1.27 at times fails without a finding ("context deadline exceeded", https://go.dev/issue/75804).
fuzz: FUZZTIME ?= 20000x
fuzz: FUZZ     ?= .
fuzz: ## throw broken input at all that reads what comes from outside (FUZZTIME=20000x inputs for each, or 10m; FUZZ=a pattern of names)
	@failed=0; binary=$$(mktemp -d); trap 'rm -rf $$binary' EXIT; \
	for package in $$(grep -rlE --include='*_test.go' '^func Fuzz' services deploy | xargs -n1 dirname | sort -u); do \
		go test -c -fuzz . -o $$binary/tests ./$$package || exit 1; \
		cache=$$(go env GOCACHE)/fuzz/$$(go list ./$$package); \
		for target in $$($$binary/tests -test.short=true -test.list '^Fuzz' | grep '^Fuzz' | grep -E '$(FUZZ)'); do \
			result=ok; begun=$$(date +%s); \
			out=$$(cd $$package && $$binary/tests -test.short=true -test.run '^$$' -test.fuzz "^$$target\$$" -test.fuzztime $(FUZZTIME) -test.fuzzminimizetime 1s \
				-test.fuzzcachedir $$cache $(FUZZFLAGS) 2>&1) || { result=FAILED; failed=1; echo "$$out"; }; \
			echo "$$out" | awk -v name="$$package $$target" -v seconds=$$(($$(date +%s) - begun)) -v result=$$result ' \
				/execs:/ { sub(/.*execs: /, ""); execs = $$1; sub(/.*interesting: /, ""); found = $$1 } \
				END { printf "%-54s %9d executions %5d new interesting %5d s  %s\n", name, execs, found, seconds, result }'; \
		done; \
	done; exit $$failed

bench: build-runtime build ## measure this stack beside a bare sidecar (ARGS=-h shows the settings)
	@go build -trimpath -o .build/bench ./deploy/proof/bench
	@.build/bench $(ARGS)

chaos: build-runtime build ## kill and freeze everything under load, then check (SEED=7 TIME=10m; ARGS=-h)
	@.build/proof chaos $(if $(SEED),-seed $(SEED)) $(if $(TIME),-time $(TIME)) $(ARGS)

check-the-check: build-runtime build ## build services with faults, and see whether chaos finds each (ARGS='-run etag*'; ARGS=-h)
	@.build/proof mutants $(ARGS)

check: build ## look whether the running stack keeps its promises (ARGS=-h)
	@.build/proof check $(ARGS)

# The cluster is the one that kubectl speaks to. Without kubectl the one in .build/cluster does.
OVERLAY         := dev
KUBECTL         := $(shell command -v kubectl || echo .build/cluster kubectl)

k8s-secrets: ## make the secrets of the overlay dev that are missing
	@go run ./deploy/k8s/secrets

k8s-apply: $(if $(filter dev,$(OVERLAY)),k8s-secrets) ## bring the box office into a Kubernetes cluster (OVERLAY=dev)
	$(KUBECTL) apply --server-side --field-manager=boxoffice -k deploy/k8s/overlays/$(OVERLAY)

k8s-diff: $(if $(filter dev,$(OVERLAY)),k8s-secrets) ## say what k8s-apply would change (OVERLAY=dev)
	$(KUBECTL) diff --server-side --field-manager=boxoffice -k deploy/k8s/overlays/$(OVERLAY)

# Staging and production ask for the overlay's name first, or take it from CONFIRM.
k8s-delete: $(if $(filter dev,$(OVERLAY)),k8s-secrets) ## remove all of it from the cluster, with its namespace and volumes (OVERLAY=dev)
	@[ '$(OVERLAY)' = dev ] || [ '$(CONFIRM)' = '$(OVERLAY)' ] || { \
		printf 'This deletes "%s" from the cluster that kubectl speaks to (%s), with its databases and backups.\nType its name to go on: ' \
			'$(OVERLAY)' "$$($(KUBECTL) config current-context 2>/dev/null)"; \
		read -r answer || answer=; [ "$$answer" = '$(OVERLAY)' ] || { echo 'Nothing was deleted.'; exit 1; }; }
	$(KUBECTL) delete --ignore-not-found -k deploy/k8s/overlays/$(OVERLAY)

# What a cluster's control plane consists of, for test-k8s alone: as with the runtime, built again if sources changed.
build-cluster: SOURCES = $(shell cat deploy/k8s/cluster/*.* deploy/k8s/cluster/program/* deploy/runtime/controlplane/*.go deploy/runtime/go.mod deploy/runtime/go.sum | git hash-object --stdin)
build-cluster: ## build a Kubernetes API server and Dapr's control plane, for test-k8s
	@if [ -x .build/cluster ] && [ -x .build/controlplane ] && [ "$$(cat .build/cluster.sources 2>/dev/null)" = "$(SOURCES)" ]; then exit 0; fi; \
	echo "Building a Kubernetes API server and Dapr's control plane: about eight minutes from nothing, once."; \
	mkdir -p .build && \
	(cd deploy/k8s/cluster && go build -trimpath -ldflags='-s -w' -o ../../../.build/cluster .) && \
	(cd deploy/runtime && go build -trimpath -ldflags='-s -w' -o ../../.build/controlplane ./controlplane) && \
	echo "$(SOURCES)" > .build/cluster.sources && echo "Built .build/cluster and .build/controlplane."

test-k8s: build-cluster build-runtime build ## prove deploy/k8s against a real API server and Dapr's control plane
	CI_REQUIRE_K8S=1 go test -count=1 -timeout 9m ./deploy/k8s/proof

build-node: build-cluster ## build what makes of this machine a node of a cluster, for test-node
	@cd deploy/k8s/cluster && go build -trimpath -ldflags='-s -w' -o ../../../.build/ ./node ./pause
	@cd deploy/postgres && go build -trimpath -ldflags='-s -w' -o ../../.build/migrate .

test-node: build-node build-runtime build ## run deploy/k8s on a node on this machine, and sell a ticket (root; containerd, helm, PostgreSQL)
	CI_REQUIRE_K8S=1 CI_REQUIRE_NODE=1 go test -count=1 -v -timeout 30m -run TestNode ./deploy/k8s/proof

# Images (deploy/docker/README.md). For others' mirrors: DOCKER_FLAGS='--build-arg BUILDER=… --build-arg BASE=…'
REGISTRY        := boxoffice
TAG             := dev
DOCKER_FLAGS    :=
DOCKER_BUILD     = docker build -f deploy/docker/Dockerfile --build-arg VERSION=$(TAG) \
	--build-arg REVISION=$$(git rev-parse HEAD) $(DOCKER_FLAGS)

docker-secrets: ## make the passwords and keys of docker-compose.yaml that are missing in .env
	@deploy/docker/secrets.sh

docker-build-all: $(DOCKER_BUILDS) ## build all images; one alone: docker-build-tickets, and so on

docker-build-daprd docker-build-migrate docker-build-stripe: docker-build-%:
	$(DOCKER_BUILD) --target $* -t $(REGISTRY)/$*:$(TAG) .

$(patsubst services/%,docker-build-%,$(SERVICES)): docker-build-%:
	$(DOCKER_BUILD) --target service --build-arg SERVICE=$* -t $(REGISTRY)/$*:$(TAG) .

dev-infra: build-runtime build ## start what the services need, in the background; then dev-auth and so on
	@deploy/local/dev-infra.sh up

dev-infra-down: ## stop what dev-infra started
	@deploy/local/dev-infra.sh down

$(DEV_SERVICES): dev-%: ## (dev-auth, dev-tickets, …) run one service with its sidecar, rebuilt when a file changes
	@SERVICE=$* AIR=$(AIR) deploy/local/dev-service.sh

lint: ## check format, vet, staticcheck and actionlint
	@unformatted=$$(gofmt -l deploy services); if [ -n "$$unformatted" ]; then echo "not formatted (gofmt -w): $$unformatted"; exit 1; fi
	go vet ./...
	cd deploy/postgres && go vet . && go run $(STATICCHECK) .
	cd deploy/runtime && GOEXPERIMENT= go vet -trimpath $(RUNTIME_VET) .
	go run $(STATICCHECK) ./...
	go run $(ACTIONLINT)

# Fails on a finding in code that is reached. Asks a database on the network, so it is no part of lint.
vulncheck: ## look for known vulnerabilities in what the code calls
	@for module in . deploy/postgres deploy/runtime deploy/k8s/cluster; do \
		echo "govulncheck in $$module:"; (cd $$module && go run $(GOVULNCHECK) ./...) || failed=1; \
	done; test -z "$$failed"

pin-images: ## pin the images of others by digest (needs docker with buildx, and the registries)
	@deploy/docker/pin.sh

rotate-keys: ## change the key that signs beside the running stack, without signing anybody out: two minutes (ARGS=-h)
	@go run ./deploy/local rotate-keys $(ARGS)

reset: ## forget all users, tickets, orders, events and secrets
	@go run ./deploy/local reset

clean: ## delete what was built, but not the state
	rm -rf .build coverage*.out
