# `make` prints what there is. Go is all that has to be installed: the tools are built from pinned versions into bin/.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

ROOT := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
SERVICES := $(notdir $(patsubst %/go.mod,%,$(wildcard services/*/go.mod)))
# The modules of the workspace, and those that pin tools, which are kept out of it: their versions are nobody else's.
MODULES := api pkg $(SERVICES:%=services/%) tools tests
PINNED := tools/build tools/lint
# go build writes a binary only when it changed; touch tells make.
BUILD_TOOL = GOWORK=off go build -C tools/build -trimpath -o $(ROOT)/bin/

# STACK=native runs it all on Apache Kafka, Redis and PostgreSQL, BROKERS=3 on three Kafka brokers; STACK=compose in Docker.
export STACK ?= embedded
export BROKERS ?= 1
export NATIVE_DIR ?= $(ROOT)/.data/native

##@ Run it, on the embedded stack or with STACK=native [BROKERS=3]; demo and test also with STACK=compose

.PHONY: demo
demo: build ## take orders through every branch of the saga, and check the books; ARGS=--json for programs
	@bin/orderctl demo $(ARGS)

.PHONY: bench
bench: build ## measure throughput, latency and what an order costs, with a plot; ARGS="--in-flight=64 --rate=20 --duration=10s"
	@mkdir -p .build
	@bin/orderctl bench --json .build/bench-$(STACK).json --svg .build/bench-$(STACK).svg $(ARGS)

.PHONY: up
up: build ## the servers and every service until Ctrl-C; ARGS="--base-port 9080" and the like
	@bin/orderctl up $(ARGS)

.PHONY: down
down: build ## stop what `make up` runs in another terminal
	@bin/orderctl down

.PHONY: native-deps
native-deps: ## what STACK=native needs: java, Kafka's jars, redis-server and PostgreSQL, of which packages the missing ones
	@deploy/native/install $(NATIVE_DIR)/libs

.PHONY: native-reset
native-reset: build ## stop the native stack and remove its data
	@STACK=native bin/orderctl reset

##@ Deploy it, a service at a time

# What an image is labelled with. TAG is also what the binary calls its version.
export REGISTRY ?= orderflow
export TAG ?= dev
IMAGES = REVISION="$$(git rev-parse HEAD)" SOURCE_DATE_EPOCH="$$(git log -1 --format=%ct)" docker buildx bake --file deploy/docker-bake.hcl --load
ENV ?= staging
OVERLAY = deploy/kubernetes/overlays/$(ENV)/$(SERVICE)
OVERLAY_EXISTS = [ -f "$(OVERLAY)/kustomization.yaml" ] || { echo "there is no $(OVERLAY): SERVICE is one of $(SERVICES), ENV one of $(notdir $(wildcard deploy/kubernetes/overlays/*))" >&2; exit 2; }
NAMESPACE = $$(bin/manifests render $(OVERLAY) | sed -n 's/^  namespace: //p' | head -n 1)

.PHONY: image
image: ## one service's image, or orderctl's; SERVICE=payment, REGISTRY=registry.example/orderflow TAG=1.4.0
	@[ -n "$(filter $(SERVICE),$(SERVICES) orderctl)" ] || { echo "SERVICE is \"$(SERVICE)\", must be one of $(SERVICES) orderctl" >&2; exit 2; }
	@$(IMAGES) $(SERVICE)

.PHONY: images
images: ## every service's image, and orderctl's
	@$(IMAGES)

.PHONY: cluster
cluster: override SERVICE = cluster
cluster: bin/manifests ## the namespace in Kubernetes, and Kafka's topics, before the services; ENV=staging|production, DRY_RUN=1 only prints it
	@$(OVERLAY_EXISTS)
	@if [ -n "$(DRY_RUN)" ]; then bin/manifests render $(OVERLAY); \
	else bin/manifests check deploy/kubernetes && namespace="$(NAMESPACE)" && \
		kubectl delete job/orderflow-topics --ignore-not-found --namespace "$$namespace" && kubectl apply -k $(OVERLAY) && \
		{ kubectl wait job/orderflow-topics --for=condition=complete --timeout=6m --namespace "$$namespace" || \
		{ kubectl logs --selector=job-name=orderflow-topics --namespace "$$namespace"; exit 1; }; }; fi

.PHONY: deploy
deploy: bin/manifests ## one service to Kubernetes; SERVICE=payment ENV=staging|production, DRY_RUN=1 only prints it
	@$(OVERLAY_EXISTS)
	@if [ -n "$(DRY_RUN)" ]; then bin/manifests render $(OVERLAY); \
	else bin/manifests check deploy/kubernetes && kubectl apply -k $(OVERLAY) && \
		kubectl rollout status deployment/orderflow-$(SERVICE) --timeout=5m --namespace "$(NAMESPACE)"; fi

.PHONY: affected
affected: ## the services that a change concerns, by what they import and their manifests; BASE=main
	@go run ./tools/cmd/affected $(or $(BASE),main)

##@ Work on it

.PHONY: build
build: ## the services, orderctl and what it measures them against, into bin/
	@go build -o bin/ $(foreach s,$(SERVICES),./services/$(s)/cmd/$(s)) ./tools/cmd/orderctl ./tools/rivals/orchestrator/cmd/orchestrator

# The services as the fault suite breaks them: pkg/failpoint says what is in them.
.PHONY: build-faults
build-faults:
	@go build -tags failpoints -o bin/faults/ $(foreach s,$(SERVICES),./services/$(s)/cmd/$(s))

# On native servers the modules' tests are those of pkg, which find the servers by TEST_KAFKA_BROKERS and the like. The race
# detector has had them on the embedded stack.
SUITES_embedded := unit e2e faults
SUITES_native := pkg-native bench-native e2e-native rolling-native faults-native
SUITES_compose := e2e-compose
SUITES := $(or $(SUITES_$(STACK)),$(error STACK is "$(STACK)", must be embedded, native or compose))

.PHONY: test
test: $(SUITES:%=test-%) ## every test: of the modules, with the race detector, then end to end; STACK=native: what meets servers
	@echo; echo "Tests:"; for suite in $(SUITES); do echo "  $$suite: $$(grep '^DONE ' .build/test-$$suite.txt)"; done

.PHONY: test-unit
# Go takes a result for still true when only files of other modules have changed, and many tests read such: contracts, docs, deploy.
test-unit: bin/gotestsum bin/contracts ## the modules' own tests
	@mkdir -p .build
	@bin/gotestsum --format pkgname-and-test-fails --format-hide-empty-pkg -- -race -count=1 -timeout 15m \
		$(foreach m,api pkg $(SERVICES:%=services/%) tools,./$(m)/...) 2>&1 | tee .build/test-unit.txt
	@go test -count=1 -timeout 2m -tags failpoints ./pkg/failpoint
	@cd tools/build && GOWORK=off go test -count=1 ./...

.PHONY: test-e2e test-e2e-native test-e2e-compose
test-e2e test-e2e-native test-e2e-compose: bin/gotestsum build ## the end-to-end suite against a stack of its own
	@mkdir -p .build
	@STACK=$(if $(filter test-e2e,$@),embedded,$(@:test-e2e-%=%)) bin/orderctl run -- \
		bin/gotestsum --format testname -- -count=1 -timeout 10m ./tests/... 2>&1 | tee .build/$@.txt

# By hand, after a change of package kafka: half a minute, and on native servers one. The unit tests have its short form.
CONFORMANCE = TEST_CONFORMANCE=long bin/gotestsum --format testname -- -count=1 -parallel 2 -timeout 10m -run '^TestConformance$$' ./pkg/kafka

.PHONY: test-conformance test-conformance-native
test-conformance: bin/gotestsum ## Watermill's own suite for every Pub/Sub, in its long form; test-conformance-native: on Apache Kafka
	@mkdir -p .build
	@$(CONFORMANCE) 2>&1 | tee .build/$@.txt
test-conformance-native: bin/gotestsum build
	@mkdir -p .build
	@STACK=native BROKERS=1 bin/orderctl run --servers-only -- bash -c "TEST_KAFKA_BROKERS=\$$KAFKA_BROKERS $(CONFORMANCE)" 2>&1 | tee .build/$@.txt

# Three brokers, of which some are killed. By hand, after a change of package kafka: it takes two and a half minutes.
.PHONY: test-cluster-native
test-cluster-native: bin/gotestsum build ## what three Kafka brokers promise while one of them is down
	@mkdir -p .build
	@STACK=native BROKERS=3 bin/orderctl run --servers-only -- bin/gotestsum --format testname -- -count=1 -timeout 10m -tags cluster \
		./tests/cluster 2>&1 | tee .build/test-cluster-native.txt

# Of the conformance suite's three forms the strictest; test-conformance-native has them all.
.PHONY: test-pkg-native
test-pkg-native: bin/gotestsum build
	@mkdir -p .build
	@STACK=native BROKERS=1 bin/orderctl run --servers-only -- bash -c ' \
		export TEST_KAFKA_BROKERS=$$KAFKA_BROKERS TEST_REDIS_URL=$$REDIS_URL TEST_POSTGRES_URL=$$POSTGRES_URL; \
		bin/gotestsum --format pkgname-and-test-fails --format-hide-empty-pkg -- -count=1 -parallel 1 -timeout 15m -tags native \
			-skip "^TestConformance$$/^(without|each)" ./pkg/... ./tools/internal/native' \
		2>&1 | tee .build/test-pkg-native.txt

# On servers of its own: package kafka's tests take every topic and group off theirs.
.PHONY: test-bench-native
test-bench-native: bin/gotestsum build
	@mkdir -p .build
	@STACK=native BROKERS=1 bin/orderctl run --servers-only -- bash -c ' \
		export TEST_KAFKA_BROKERS=$$KAFKA_BROKERS TEST_POSTGRES_URL=$$POSTGRES_URL; \
		bin/gotestsum --format pkgname-and-test-fails -- -count=1 -timeout 5m -tags native ./tools/internal/bench' \
		2>&1 | tee .build/test-bench-native.txt

# It starts its own servers, and two replicas of each service.
.PHONY: test-rolling-native
test-rolling-native: bin/gotestsum bin/contracts build
	@mkdir -p .build
	@bin/gotestsum --format standard-verbose -- -count=1 -timeout 5m -tags native ./tools/internal/rolling 2>&1 | tee .build/test-rolling-native.txt

# What docker-compose.yml's profiles obs and cdc add, without Docker. By hand, after a change of theirs: it takes two minutes.
.PHONY: test-profiles-native
test-profiles-native: bin/gotestsum build ## run what Compose's profiles obs and cdc add, natively: Prometheus, Alertmanager, Debezium
	@mkdir -p .build
	@deploy/native/install $(NATIVE_DIR)/libs $(NATIVE_DIR)/connect/debezium
	@bin/gotestsum --format standard-verbose -- -count=1 -timeout 15m -tags native ./tools/internal/profiles 2>&1 | tee .build/test-profiles-native.txt

# Each seed starts a stack of its own, breaks it while customers order, and has the books checked.
.PHONY: test-faults test-faults-native
test-faults test-faults-native: bin/gotestsum build-faults
	@mkdir -p .build
	@STACK=$(if $(filter test-faults,$@),embedded,native) SEEDS=$(if $(filter test-faults,$@),2,1) FROM=3 ORDERS=150 \
		bin/gotestsum --format standard-verbose -- -count=1 -timeout 10m -tags faults -run '^(TestSeeds|TestToolsBreakRealServices)$$' ./tests/faults ./tests/faults/inject 2>&1 | tee .build/$@.txt

.PHONY: chaos
chaos: build-faults ## break a whole system by seeds, and check its books: SEEDS=100 FROM=1 ORDERS=300; VERBOSE=1 tells each fault
	@SEEDS=$(or $(SEEDS),100) FROM=$(or $(FROM),1) ORDERS=$(or $(ORDERS),300) \
		go test -v -count=1 -timeout 0 -tags faults -run '^TestSeeds$$' ./tests/faults

.PHONY: prove-checker
prove-checker: build-faults ## put real bugs back into the services, one at a time, and see the fault suite name each; BUG="no_inbox" for some
	@go test -v -count=1 -timeout 0 -tags faults -run '^TestCheckerSees$$/$(BUG)' ./tests/faults/bugs

.PHONY: mutants
mutants: ## take the mechanism out of each guarantee, one at a time, and see its test go red; ARGS="inbox" for some
	@go run ./tools/cmd/mutants $(ARGS)

.PHONY: lint
lint: bin/golangci-lint ## golangci-lint over every module, import directions included
	@bin/golangci-lint run --allow-parallel-runners $(MODULES:%=./%/...)
	@cd tools/build && GOWORK=off $(ROOT)/bin/golangci-lint run --allow-parallel-runners --config $(ROOT)/.golangci.yml ./...

.PHONY: fmt
fmt: ## gofmt everything
	@gofmt -l -w $(MODULES) $(PINNED)

.PHONY: generate
generate: ## the code that is made of the contracts
	@for m in $(MODULES); do echo "generate $$m"; (cd $$m && go generate ./...); done

.PHONY: verify
verify: verify-format verify-modules verify-generated verify-contracts verify-manifests verify-compose ## what must hold beside the tests: modules build alone, generated code is fresh, nothing released is broken, manifests and docker-compose.yml are valid
	@echo "Everything holds."

.PHONY: verify-format
verify-format:
	@echo "format"; unformatted="$$(gofmt -l $(MODULES) $(PINNED))"; \
	[ -z "$$unformatted" ] || { echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; }

.PHONY: verify-modules
verify-modules:
	@.ci/modules $(MODULES) $(PINNED)

.PHONY: verify-generated
verify-generated:
	@.ci/generated $(MODULES)

.PHONY: verify-contracts
verify-contracts: bin/contracts
	@echo "contracts"; bin/contracts check api

.PHONY: verify-manifests
verify-manifests: bin/manifests
	@echo "manifests"; bin/manifests check deploy/kubernetes

# With every combination of profiles; where there is a docker compose it reads them too.
.PHONY: verify-compose
verify-compose:
	@echo "compose"; go test -run 'File|Mistakes' ./tools/internal/compose

.PHONY: clean
clean: ## remove what was built, and the data of the embedded stack
	@rm -rf bin .build .data/embedded

.PHONY: help
help: ## this
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

bin/gotestsum: tools/build/go.mod tools/build/go.sum
	@echo "building gotestsum"; $(BUILD_TOOL) gotest.tools/gotestsum && touch $@

bin/contracts: tools/build/go.mod tools/build/go.sum $(wildcard tools/build/contracts/*.go)
	@echo "building contracts"; $(BUILD_TOOL) ./contracts && touch $@

bin/manifests: tools/build/go.mod tools/build/go.sum $(wildcard tools/build/manifests/*.go tools/build/manifests/schemas/*)
	@echo "building manifests" >&2; $(BUILD_TOOL) ./manifests && touch $@

bin/golangci-lint: tools/lint/go.mod tools/lint/go.sum
	@echo "building golangci-lint, which takes minutes the first time"
	@GOWORK=off go build -C tools/lint -o $(ROOT)/bin/ github.com/golangci/golangci-lint/v2/cmd/golangci-lint && touch $@
