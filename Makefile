# `make` alone prints what there is. Everything runs from .venv, which is made from pyproject.toml.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
PROTOS := $(shell find protos -name '*.proto')

.DEFAULT_GOAL := help
.PHONY: help up test check lint types contracts protos docs format bench clean

help: ## Show these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-10s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(VENV)/.suite ## Start the suite with three real models; Ctrl-C ends it
	@$(BIN)/vedette up

test: $(VENV)/.dev ## Run every test; a backend that is not installed is skipped and named
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 -rs tests

check: lint types contracts ## Lint, types, import contracts, size budgets, protos, container files

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/buf lint protos
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml

types: $(VENV)/.dev
	$(BIN)/mypy

contracts: $(VENV)/.dev
	$(BIN)/python -m pytest tests/architecture

format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: $(VENV)/.dev ## Generate services/vedette/proto from protos/
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=services --pyi_out=services --grpc_python_out=services $(PROTOS)

docs: $(VENV)/.dev ## Generate the pages of docs/reference from the code
	$(BIN)/python docs/reference/generate.py

bench: $(VENV)/.dev ## Measure against every peer (45 minutes; needs wrk and nghttp2-client; BENCH= has options)
	@$(BIN)/python -m loadtests.run $(BENCH)

clean: ## Remove the environments and everything the suite has stored here
	rm -rf $(VENV) .vedette .bench

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "vedette needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "Python's venv module is missing. On Debian: apt-get install python3-venv"; exit 1; }
	@echo "Making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'

$(VENV)/.suite: pyproject.toml | $(VENV)/bin/python
	@echo "Installing vedette and what it needs (about a minute the first time)"
	@$(PIP) install --editable '.[all]' --group clients
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	@echo "Installing vedette with what its tests need"
	@$(PIP) install --editable '.[all,postgres,s3,otel,fast]' --group lint --group test --group bench
	@touch $@ $(VENV)/.suite
