# Every tool comes from the Go, npm, Maven and Python registries or from Debian; what a run writes is under .local/.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

ROOT := $(CURDIR)
LOCAL := $(ROOT)/.local
BIN := $(LOCAL)/bin
SCHEMATHESIS := $(LOCAL)/schemathesis/bin/schemathesis
export PATH := $(BIN):$(PATH)
export GOFLAGS ?= -buildvcs=false
export KUBEBUILDER_ASSETS := $(LOCAL)/envtest
# The cluster that install, uninstall and e2e work on.
KUBECONFIG ?= $(LOCAL)/kubeconfig
export KUBECONFIG
NAMESPACE ?= itechsmart-system
HELM_ARGS ?=
# TEST_ARGS narrows a run, such as: make test TEST_PKGS=./controllers/platform TEST_ARGS='-run TestManaged'
TEST_ARGS ?=
TEST_PKGS ?= $(shell go list ./... | grep -Ev '/test/(e2e|bench)(/|$$)')
# Programs of the build run with the flags of hack/gobuild, so that what they share is compiled once.
GO_RUN := run -trimpath -gcflags=all=-dwarf=false
GOBUILD := CGO_ENABLED=0 go $(GO_RUN) ./hack/gobuild
# What --version prints.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# IMAGES narrows images: names, or programs, or others.
IMAGES ?=
NESTED := hack/localcluster hack/images hack/images/clickhouse-server
GENERATED := PROJECT api controllers/internal/ctrltest config/argocd config/crd config/rbac config/webhook charts workloads go.mod go.sum

##@ Use it

.PHONY: help
help: ## Show this page.
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: up
up: prerequisites ## Start a Kubernetes node here, the operator on it, and the quickstart.
	@CGO_ENABLED=0 go $(GO_RUN) ./hack/up

.PHONY: down
down: localcluster ## Stop all that up started.
	@localcluster down

.PHONY: cluster
cluster:
	@[[ "$(KUBECONFIG)" == *:* || -e "$(KUBECONFIG)" ]] || { echo "$(KUBECONFIG) does not exist: run make up, or name a cluster by KUBECONFIG=…" >&2; exit 1; }

.PHONY: install
install: cluster $(BIN)/helm chart-files ## Install the operator into the cluster of KUBECONFIG=…
	helm upgrade --install itechsmart charts/itechsmart --namespace $(NAMESPACE) --create-namespace --wait --timeout 5m $(HELM_ARGS)

.PHONY: uninstall
uninstall: cluster $(BIN)/helm ## Remove the operator from the cluster of KUBECONFIG=…; kinds and data stay.
	helm uninstall itechsmart --namespace $(NAMESPACE) --ignore-not-found --wait

##@ Change it

.PHONY: generate
generate: $(BIN)/controller-gen ## Write deep copies, the connector catalogue and the tests' list of groups.
	controller-gen object:headerFile=hack/boilerplate.go.txt paths=./api/...
	go generate ./workloads/... ./controllers/...

.PHONY: manifests
manifests: $(BIN)/controller-gen ## Write CRDs, RBAC, webhooks and health checks from api/ and controllers/.
	@rm -f config/crd/*.yaml
	controller-gen crd paths=./api/... output:crd:artifacts:config=config/crd
	go run ./hack/manifests

.PHONY: chart-files
chart-files: ## Copy CRDs, RBAC, webhooks and health checks into the Helm chart.
	@rm -rf charts/itechsmart/files
	@mkdir -p charts/itechsmart/files/crds charts/itechsmart/files/rbac
	cp config/crd/*itechsmart.dev_*.yaml charts/itechsmart/files/crds/
	cp config/rbac/role.yaml config/rbac/*_role.yaml charts/itechsmart/files/rbac/
	cp config/webhook/manifests.yaml charts/itechsmart/files/webhooks.yaml
	cp config/argocd/argocd-cm.yaml charts/itechsmart/files/argocd-cm.yaml

.PHONY: chart
chart: chart-files $(BIN)/helm $(BIN)/kustomize ## Check the Helm chart and the kustomizations.
	helm lint --strict charts/itechsmart
	helm lint --strict charts/itechsmart --values charts/itechsmart/values-ha.yaml
	for k in default samples/quickstart; do kustomize build config/$$k >/dev/null; done

.PHONY: lint
lint: prerequisites $(BIN)/golangci-lint ## Run golangci-lint with the Kubernetes API linter.
	golangci-lint run --allow-parallel-runners ./...
	for m in $(NESTED); do (cd $$m && golangci-lint run --allow-parallel-runners --config $(ROOT)/.golangci.yml $$([ $$m = hack/localcluster ] && echo ./internal/... ./cmd/localcluster/... || echo ./...)); done

.PHONY: fmt
fmt: $(BIN)/golangci-lint ## Format Go code.
	golangci-lint fmt ./...

.PHONY: vulncheck
vulncheck: $(BIN)/govulncheck ## Look for known vulnerabilities; says so when their database cannot be reached.
	@hack/verify/vulncheck

.PHONY: verify
verify: prerequisites ## Fail when generated files, lint, chart or the tree are not in order.
	@hack/verify/clean $(GENERATED)
	$(MAKE) generate manifests chart
	@hack/verify/same $(GENERATED)
	$(MAKE) lint vulncheck

##@ Test it

.PHONY: test
test: prerequisites envtest servers $(BIN)/controller-gen $(BIN)/helm $(BIN)/kustomize $(BIN)/minio $(SCHEMATHESIS) ## Unit tests, API-server tests, real backends; with the race detector.
	@go run ./hack/apiserver go test -race -timeout 20m $(TEST_ARGS) $(TEST_PKGS)
	@for m in $(NESTED); do (cd $$m && go test $(TEST_ARGS) ./...); done

.PHONY: e2e
e2e: $(BIN)/minio ## Bring the local cluster up, run test/e2e on it, bring it down.
	@trap '$(MAKE) --no-print-directory down' EXIT; \
	$(MAKE) --no-print-directory up && go test -count=1 -timeout 40m -v $(TEST_ARGS) ./test/e2e/...

.PHONY: soak
soak: prerequisites servers ## Kill workers, schedulers, broker and database at random for ten minutes under load.
	SOAK=10m go test -race -count=1 -p 1 -timeout 30m -v -run TestEverythingDies ./workloads/...

.PHONY: bench
bench: prerequisites envtest servers ## Measure; Go's benchmark format in .local/bench.txt.
	@mkdir -p $(LOCAL)
	go test -p 1 -run '^$$' -bench . -count=1 -timeout 60m $(TEST_ARGS) ./test/bench/... $$(go list ./workloads/... | grep /benchmarks$$) | tee $(LOCAL)/bench.txt

##@ Build it

.PHONY: build
build: ## Build the programs into .local/bin.
	$(GOBUILD) -o $(BIN) -ldflags "-X main.version=$(VERSION)" $$(CGO_ENABLED=0 go $(GO_RUN) ./hack/programs/list | awk '{print $$1 "=" $$2}')

.PHONY: images
images: prerequisites ## Build the container images into .local/images.
	@CGO_ENABLED=0 go -C hack/images $(GO_RUN) ./cmd/images build $(IMAGES)

# The modules of the two big builds, fetched while something else is compiled.
.PHONY: download
download:
	@cd hack/localcluster && go list -deps ./cmd/... >/dev/null
	@go list -deps ./cmd/... ./workloads/... ./hack/... >/dev/null

.PHONY: tools
tools: $(addprefix $(BIN)/,controller-gen kustomize govulncheck helm golangci-lint) ## Build the pinned tools into .local/bin.

.PHONY: prerequisites
prerequisites:
	@hack/verify/prerequisites

.PHONY: localcluster
localcluster:
	@$(GOBUILD) -C hack/localcluster -o $(BIN) localcluster=./cmd/localcluster

.PHONY: envtest
envtest: prerequisites localcluster
	@mkdir -p $(LOCAL); echo "building the API server's programs (several minutes the first time; .local/build-node.log)"
	@localcluster build >$(LOCAL)/build-node.log 2>&1 || { tail -n 30 $(LOCAL)/build-node.log; exit 1; }

.PHONY: servers
servers: prerequisites
	@CGO_ENABLED=0 go -C hack/images $(GO_RUN) ./cmd/images servers >/dev/null

# A tool is built anew when its module changes.
$(BIN)/controller-gen: TOOL = sigs.k8s.io/controller-tools/cmd/controller-gen
$(BIN)/kustomize: TOOL = sigs.k8s.io/kustomize/kustomize/v5
$(BIN)/govulncheck: TOOL = golang.org/x/vuln/cmd/govulncheck
$(BIN)/controller-gen $(BIN)/kustomize $(BIN)/govulncheck: hack/tools/go.mod
	@mkdir -p $(BIN); echo "building $(@F)"; cd $(<D) && go build -o $@ $(TOOL) && touch $@
$(BIN)/helm: hack/tools/helm/go.mod
	@$(GOBUILD) -C $(<D) -o $(BIN) helm=helm.sh/helm/v4/cmd/helm && touch $@
$(BIN)/minio: hack/tools/minio.sh
	@echo "building $(@F)"; $< && touch $@
$(SCHEMATHESIS): hack/tools/schemathesis.sh hack/tools/schemathesis.txt
	@echo "installing $(@F)"; $< && touch $@
$(BIN)/golangci-lint: hack/tools/lint/go.mod hack/tools/lint/main.go
	@mkdir -p $(BIN); echo "building $(@F)"; cd $(<D) && go build -o $@ . && touch $@
