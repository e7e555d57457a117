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

##@ Run it

.PHONY: demo
demo: build ## take orders through every branch of the saga on the embedded stack, and check the books; ARGS=--json for programs
	@bin/orderctl demo $(ARGS)

.PHONY: up
up: build ## the embedded stack and every service until Ctrl-C; ARGS="--base-port 9080" and the like
	@bin/orderctl up $(ARGS)

##@ Work on it

.PHONY: build
build: ## the services and orderctl, into bin/
	@go build -o bin/ $(foreach s,$(SERVICES),./services/$(s)/cmd/$(s)) ./tools/cmd/orderctl

.PHONY: test
test: test-unit test-e2e ## every test: of the modules, with the race detector, then end to end on the embedded stack
	@echo; echo "Tests:"; for suite in unit e2e; do echo "  $$suite: $$(grep '^DONE ' .build/test-$$suite.txt)"; done

.PHONY: test-unit
test-unit: bin/gotestsum bin/contracts ## the modules' own tests
	@mkdir -p .build
	@bin/gotestsum --format pkgname-and-test-fails --format-hide-empty-pkg -- -race -timeout 15m \
		$(foreach m,api pkg $(SERVICES:%=services/%) tools,./$(m)/...) 2>&1 | tee .build/test-unit.txt
	@cd tools/build && GOWORK=off go test ./contracts

.PHONY: test-e2e
test-e2e: bin/gotestsum build ## the end-to-end suite against a stack of its own
	@mkdir -p .build
	@bin/orderctl run -- bin/gotestsum --format testname -- -count=1 -timeout 10m ./tests/... 2>&1 | tee .build/test-e2e.txt

.PHONY: mutants
mutants: ## take the mechanism out of each guarantee, one at a time, and see its test go red; ARGS="inbox" for some
	@go run ./tools/cmd/mutants $(ARGS)

.PHONY: lint
lint: bin/golangci-lint ## golangci-lint over every module, import directions included
	@bin/golangci-lint run $(MODULES:%=./%/...)
	@cd tools/build && GOWORK=off $(ROOT)/bin/golangci-lint run --config $(ROOT)/.golangci.yml ./...

.PHONY: fmt
fmt: ## gofmt everything
	@gofmt -l -w $(MODULES) $(PINNED)

.PHONY: generate
generate: ## the code that is made of the contracts
	@for m in $(MODULES); do echo "generate $$m"; (cd $$m && go generate ./...); done

.PHONY: verify
verify: verify-format verify-modules verify-generated verify-contracts ## what must hold beside the tests: modules build alone, generated code is fresh, nothing released is broken
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

.PHONY: clean
clean: ## remove what was built, and the embedded stack's data
	@rm -rf bin .build .data

.PHONY: help
help: ## this
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

bin/gotestsum: tools/build/go.mod tools/build/go.sum
	@echo "building gotestsum"; $(BUILD_TOOL) gotest.tools/gotestsum && touch $@

bin/contracts: tools/build/go.mod tools/build/go.sum $(wildcard tools/build/contracts/*.go)
	@echo "building contracts"; $(BUILD_TOOL) ./contracts && touch $@

bin/golangci-lint: tools/lint/go.mod tools/lint/go.sum
	@echo "building golangci-lint, which takes minutes the first time"
	@GOWORK=off go build -C tools/lint -o $(ROOT)/bin/ github.com/golangci/golangci-lint/v2/cmd/golangci-lint && touch $@
