# What people and CI run.  `make help` lists it; every target installs what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
IMAGE ?= incident-rollback:0.1.0
UV := uv>=0.9,<1

# The demo's names, free texts with spaces and quotes, reach it without a shell in between.
export SERVICE ENVIRONMENT

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test unit e2e check fmt fmt-check lint yaml containerfile types layers \
	crds fresh scenarios manifests image lock clean controlplane gitops alerts fuzz bench chaos \
	mutants

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## --- set up

setup: $(STAMP) ## Install everything for development into .venv

# Again whenever what is pinned has changed.  The stamp comes last: what was broken off starts again.
$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "setup: $(PYTHON) is missing or older than 3.11; name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "setup: installing the pinned packages into $(VENV), a minute or two the first time"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "setup: done"

# Says how far it is, for the first time takes minutes; then it is there in no time.
controlplane: $(STAMP)
	@$(BIN)/python -m tests.sandbox.build >/dev/null

## --- see it work

demo: controlplane ## Play an incident and its rollback on a real control plane
	@$(BIN)/python -m tests.sandbox.demo

test: controlplane ## Run all tests
	$(BIN)/python -m pytest

unit: $(STAMP) ## Run the quick tests: no control plane, no FireHydrant
	$(BIN)/python -m pytest --ignore=tests/e2e --ignore=tests/contract --ignore=tests/fuzz \
		--ignore=tests/chaos/test_chaos.py --ignore=tests/rules

e2e: controlplane ## Run the end-to-end tests alone
	$(BIN)/python -m pytest tests/e2e

# Part of `test` with a tenth of it and a seed that stays the same.
fuzz: $(STAMP) ## Send the bridge 100,000 hostile requests, by a new seed
	FUZZ_SEED=$$(date +%s) FUZZ_REQUESTS=100000 $(BIN)/python -m pytest tests/fuzz --capture=no

# Part of `test` for 40 s with a seed that stays the same.  CHAOS_SEED and CHAOS_SECONDS are heard.
chaos: controlplane ## Kill, freeze, cut off and deploy for half an hour, into docs/chaos.json
	@$(BIN)/python -m tests.chaos.run

# Not part of `test`: it takes most of an hour, in a copy of the tree below .cache.
mutants: $(STAMP) ## Count the small faults that the quick tests find, into docs/mutants.md
	@$(BIN)/python -m tests.mutants

# Not part of `test`: the first time it compiles for a quarter of an hour, and it needs a Redis.
gitops: controlplane ## Run the tests against the real Flux and the real Argo CD
	@$(BIN)/python -m tests.gitops.tools
	$(BIN)/python -m pytest tests/gitops

# Not part of `test` either: promtool comes with Prometheus, and no registry of Python's has it.
alerts: $(STAMP) ## Test the alert rules; needs promtool (Debian's package prometheus)
	$(BIN)/python -m pytest tests/alerts

# Not part of `test`: it takes a quarter of an hour, and its figures want a machine to themselves.
# BENCH_N=5 is a quick look, which goes to dist/benchmark and leaves docs/benchmark.md as it is.
bench: controlplane ## Measure, beside `webhook` + kubectl, into docs/benchmark.md
	@$(BIN)/python -m tests.bench

## --- before a commit

check: fmt-check lint types layers fresh yaml containerfile test ## Run all that CI runs

fmt: $(STAMP) ## Format, and mend what can be mended
	$(BIN)/ruff check --fix --exit-zero --quiet
	$(BIN)/ruff format

fmt-check: $(STAMP)
	$(BIN)/ruff format --check

lint: $(STAMP) ## Look for mistakes
	$(BIN)/ruff check

yaml: $(STAMP)
	$(BIN)/yamllint --strict crds manifests .yamllint.yaml .pre-commit-config.yaml

containerfile: $(STAMP)
	$(BIN)/hadolint Containerfile

types: $(STAMP) ## Check types, twice
	$(BIN)/mypy
	$(BIN)/pyright

layers: $(STAMP) ## Check that imports point downwards
	$(BIN)/lint-imports

crds: $(STAMP) ## Write crds/ from the models
	$(BIN)/python -m incident_rollback.crd.schema crds

fresh: $(STAMP) ## Check that crds/ is what the models say
	@made=$$(mktemp -d) && trap 'rm -rf "$$made"' EXIT && \
	$(BIN)/python -m incident_rollback.crd.schema "$$made" && \
	for file in "$$made"/*; do \
		diff -u "crds/$${file##*/}" "$$file" || { echo "crds/ is stale: make crds" >&2; exit 1; }; \
	done && echo "crds/ is fresh"

scenarios: $(STAMP) ## Write docs/scenarios.md from the tests
	@$(BIN)/python -m tests.scenarios

## --- to install

manifests: controlplane ## Render manifests/base into dist/install.yaml
	@mkdir -p dist
	@"$$($(BIN)/python -m tests.sandbox.build)/kubectl" kustomize manifests/base >dist/install.yaml
	@echo "dist/install.yaml"

image: ## Build the container image, by docker, podman or buildah
	@for tool in docker podman buildah; do \
		command -v "$$tool" >/dev/null && exec "$$tool" build --file Containerfile --tag "$(IMAGE)" . ; \
	done; echo "image: neither docker nor podman nor buildah is here: install one of them" >&2; exit 1

## --- house keeping

lock: ## Pin the dependencies anew, in both lock files
	@tool=$$(mktemp -d) && trap 'rm -rf "$$tool"' EXIT && \
	$(PYTHON) -m venv "$$tool" && \
	"$$tool/bin/pip" install --quiet --disable-pip-version-check "$(UV)" && \
	pin() { "$$tool/bin/uv" pip compile pyproject.toml --quiet --universal --python-version 3.11 \
		--generate-hashes --no-header $(UPGRADE) "$$@"; } && \
	pin --output-file requirements.lock && \
	pin --extra dev --constraint requirements.lock --output-file requirements-dev.lock

clean: ## Remove what these targets made here; the control plane in ~/.cache stays
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .cache
	find operator tests -name __pycache__ -type d -prune -exec rm -rf {} +
