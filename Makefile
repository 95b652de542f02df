# The whole manual: make setup, make demo [SERVE=0], make test, make test-federated, make check, make docs.
PYTHON ?= python3
SERVE ?= 1
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: setup demo test test-federated check docs format clean

setup: $(VENV)/.installed

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bowerbird needs Python 3.11 or newer: make PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing bowerbird and what it needs (a few hundred MB the first time) ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/.tools: pyproject.toml constraints.txt | $(VENV)/.installed
	@echo "installing what tests and checks need ..."
	@$(PIP) --editable '.[test,check]'
	@touch $@

$(VENV)/.documents: pyproject.toml constraints.txt | $(VENV)/.installed
	@echo "installing what the documents need ..."
	@$(PIP) --editable '.[docs]'
	@touch $@

demo: setup
	@$(BIN)/bowerbird demo $(if $(filter 0,$(SERVE)),--no-serve)

test: $(VENV)/.tools
	@$(BIN)/bowerbird data get ml-100k
	@$(BIN)/python -m pytest -n 2

.venv-federated/.installed: pyproject.toml constraints.txt # Flower caps protobuf and packaging: an environment of its own
	@$(PYTHON) -m venv .venv-federated
	@.venv-federated/bin/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[federated]' pytest hypothesis
	@touch $@

test-federated: .venv-federated/.installed
	@.venv-federated/bin/python -m pytest tests/privacy/test_flower.py

check: $(VENV)/.tools
	@$(BIN)/ruff format --check --quiet . || ($(BIN)/ruff format --diff --quiet . ; exit 1)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports > $(VENV)/layers.txt || (cat $(VENV)/layers.txt; exit 1)
	@echo "format, lint, types and layers are fine"

docs: $(VENV)/.documents
	@$(BIN)/python tests/docs/generated.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@! grep -rE '<(script|img|link)[^>]*(src|href)="(https?:)?//' build/docs --include='*.html' # all works offline
	@echo "open build/docs/index.html; its search needs a server: python3 -m http.server --directory build/docs"

format: $(VENV)/.tools
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

clean:
	rm -rf $(VENV) .venv-federated build runs .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
