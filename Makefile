# Slipway's commands. Each one sets up what it misses and then calls a tool that works by hand as well:
# `eval "$(make -s env)"` prepares a shell for the bare `pulumi` commands.
#
# Set-up steps leave a stamp in .venv/ and run again when what they depend on has changed. What they say goes to stderr.

STACK ?= dev
BENCH ?=
TESTS ?=
# How many processes run `make test`: as many as there are processors, and one where only some tests are run.
JOBS ?= $(if $(TESTS),0,auto)
# A Python >= 3.11 to make the virtual environment with; found on PATH where it is not given.
PYTHON ?=

SHELL := /bin/sh
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help

VENV := .venv/bin
MODEL := examples/sklearn_mnist/model/sklearn_mnist_model.pkl
# Small programs of the set-up, standard library only: -S -E spares them the search for packages.
SETUP := $(VENV)/python -S -E -m infra.setup
TOOLS := environment=$$($(SETUP).shell_environment --tools-only "$$(cat .venv/.engine)") && eval "$$environment"
SHELL_ENVIRONMENT := environment=$$($(SETUP).shell_environment --stack "$(STACK)" "$$(cat .venv/.engine)") && eval "$$environment"

# What a stack's containers need of this machine, where nobody has set it up.
HOST = { [ ! -d airgap/host ] || $(VENV)/python -m airgap.host $(1) "$(STACK)"; }

.PHONY: help up preview refresh down history test test-registry test-docker test-kubernetes bench check lock env setup FORCE

help: ## this list
	@echo 'make COMMAND [STACK=dev]'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' Makefile

up: setup $(MODEL) ## deploy the stack, and show its services
	@$(SHELL_ENVIRONMENT) && $(call HOST,up) && $(SETUP).stack ready "$(STACK)" && \
	pulumi up --yes --refresh --suppress-outputs --stack "$(STACK)" && \
	$(VENV)/python -S -E -m infra.summary "$(STACK)"

preview: setup $(MODEL) ## show what `make up` would change, and why
	@$(SHELL_ENVIRONMENT) && $(SETUP).stack look "$(STACK)" && \
	pulumi preview --diff --stack "$(STACK)"

refresh: setup $(MODEL) ## compare the stack with what is really there, and take that over into its state
	@$(SHELL_ENVIRONMENT) && $(SETUP).stack ready "$(STACK)" && \
	pulumi refresh --yes --stack "$(STACK)"

down: setup ## delete everything that the stack deployed; its history stays
	@$(SHELL_ENVIRONMENT) && { $(SETUP).stack missing "$(STACK)" || { $(call HOST,again) && \
	$(SETUP).stack ready "$(STACK)" && \
	pulumi destroy --yes --stack "$(STACK)" && \
	$(SETUP).stack tidy "$(STACK)"; }; } && $(call HOST,down)

history: setup ## which revision of each service, with which models, was deployed when [ALL=1] [JSON=1]
	@$(SHELL_ENVIRONMENT) && \
	$(VENV)/python -S -E -m infra.history $(if $(ALL),--all) $(if $(JSON),--json) "$(STACK)"

env: setup ## print what a shell needs for the bare pulumi commands: eval "$$(make -s env)"
	@$(SHELL_ENVIRONMENT) && $(SETUP).stack select "$(STACK)" && printf '%s\n' "$$environment"

test: setup .venv/.installed-dev $(MODEL) ## run the tests [TESTS=tests/unit] [JOBS=0]
	@$(TOOLS) && $(VENV)/python -m pytest --numprocesses $(JOBS) --dist loadfile $(TESTS)

test-registry: setup .venv/.installed-dev $(MODEL) ## run the tests with a registry of their own (Debian's docker-registry)
	@command -v docker-registry > /dev/null || { \
		echo 'error: docker-registry is missing, which these tests start.' >&2; \
		echo '  mend:  apt-get install --no-install-recommends docker-registry' >&2; exit 1; }
	@$(TOOLS) && $(VENV)/python -m pytest $(or $(TESTS),tests/registry)

test-docker: setup .venv/.installed-dev $(MODEL) ## run the tests that need root, a Docker engine and a registry of their own
	@for program in docker docker-registry debootstrap sshd; do \
		PATH="$$PATH:/usr/sbin" command -v $$program > /dev/null || { \
			echo "error: $$program is missing, which these tests start." >&2; \
			echo '  mend:  apt-get install --no-install-recommends docker.io docker-registry debootstrap openssh-server' >&2; exit 1; }; \
	done
	@$(TOOLS) && $(VENV)/python -m pytest $(or $(TESTS),tests/docker)

test-kubernetes: setup .venv/.installed-dev $(MODEL) ## run the tests that need a cluster: KUBECONFIG's, or one made here (root)
	@for program in docker-registry debootstrap; do \
		PATH="$$PATH:/usr/sbin" command -v $$program > /dev/null || { \
			echo "error: $$program is missing, which these tests start." >&2; \
			echo '  mend:  apt-get install --no-install-recommends docker-registry debootstrap' >&2; exit 1; }; \
	done
	@$(TOOLS) && $(VENV)/python -m airgap.cluster.programs $(if $(TESTS),,--ingress) && \
	$(VENV)/python -m pytest $(or $(TESTS),tests/kubernetes)

bench: setup .venv/.installed-dev $(MODEL) ## measure against peers [BENCH=serving]
	@$(TOOLS) && $(VENV)/python -m benchmarks $(BENCH)

check: .venv/.installed-dev ## format, lint, types
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .
	$(VENV)/mypy

lock: .venv/.installed ## renew requirements*.lock from requirements*.in [UPGRADE=1]
	$(LOCK) requirements.in -o requirements.lock
	$(LOCK) requirements-dev.in -c requirements.lock -o requirements-dev.lock

LOCK = $(VENV)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header $(if $(UPGRADE),--upgrade)

# --- set-up ---

setup: .venv/.engine

# Made again where it was cut short, and where its Python is gone (an upgrade of the system's).
PYTHON_GONE := $(shell [ -x .venv/bin/python ] || echo FORCE)
.venv/.created: $(PYTHON_GONE)
	@python=$$(PYTHON='$(PYTHON)' infra/setup/find_python.sh) && \
	"$$python" -m infra.setup.virtual_environment create .venv && touch $@

.venv/.installed: requirements.lock infra/setup/virtual_environment.py .venv/.created
	@$(SETUP).virtual_environment install .venv requirements.lock && touch $@

.venv/.installed-dev: requirements-dev.lock .venv/.installed
	@$(SETUP).virtual_environment install .venv requirements-dev.lock && touch $@

# The stamp holds the directory of the pulumi to use. It is looked for again when the set-up changed, or it is gone.
ENGINE_GONE := $(shell [ -x "$$(cat .venv/.engine 2>/dev/null)/pulumi" ] || echo FORCE)
.venv/.engine: $(wildcard airgap/go_modules.py airgap/engine/*.py airgap/engine/*/go.mod) $(ENGINE_GONE) | .venv/.installed
	@if [ -d airgap/engine ]; then \
		$(VENV)/python -m airgap.engine > $@.new; \
	else \
		pulumi=$$(command -v pulumi) && dirname "$$pulumi" > $@.new || { \
			echo 'error: No pulumi on PATH.' >&2; \
			echo '  mend:  install Pulumi 3.259.0 or newer: https://www.pulumi.com/docs/install/' >&2; exit 1; }; \
	fi && mv $@.new $@

# The model is made at set-up by its training script; no binary is committed. One that was edited since then stays.
$(MODEL): $(wildcard examples/sklearn_mnist/setup.py examples/sklearn_mnist/train.py) | .venv/.installed
	@$(VENV)/python examples/sklearn_mnist/setup.py >&2
