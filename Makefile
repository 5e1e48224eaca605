# Commands for working on the project. They need Python 3.11 or newer; everything else is installed into .venv.

# The first interpreter that is new enough. Each candidate is run, because a name on the PATH may be a shim without one.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
UV := uv==0.13.8

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEERS := sales_assets_tests/bench/peers
COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --upgrade --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet

SHARED := -n logical --maxprocesses 5 --dist loadfile --no-loadscope-reorder

DEMO_ARGS ?=
DEV_ARGS ?=
TEST_ARGS ?=
TORTURE_ARGS ?=
BENCH_ARGS ?=
MUTANTS_ARGS ?=

# dg warns when the environment that it finds is not the active one.
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export DAGSTER_DISABLE_TELEMETRY := 1
# Python images often set this variable. Without compiled files, each process started by a test compiles our modules
# again, and each test process rewrites the assertions of all tests: 9 s of processor time.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help install demo dev docs docs-serve screenshots unit test coverage torture check bench bench-large mutants lint format lock

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 13

install: $(INSTALLED)  ## Create or update .venv from requirements.lock

demo: $(INSTALLED)  ## Run the whole platform on generated data; DEMO_ARGS=--once exits when done
	$(BIN)/sales-assets demo $(DEMO_ARGS)

dev: $(INSTALLED)  ## Run the Dagster UI on the configured warehouse and report API; DEV_ARGS="--port 3001"
	$(BIN)/sales-assets dev $(DEV_ARGS)

docs: $(INSTALLED)  ## Build the documentation into build/site/html; fails on a broken link
	$(BIN)/python -m sales_assets_tests.site

docs-serve: $(INSTALLED)  ## Serve the documentation on http://127.0.0.1:8008, rebuilt after each change, until Ctrl-C
	$(BIN)/python -m zensical serve --dev-addr 127.0.0.1:8008

screenshots: $(INSTALLED)  ## Retake the screenshots of the guides
	$(BIN)/python -m sales_assets_tests.ui.screenshots
	UPDATE_SCREENSHOTS=1 $(BIN)/pytest sales_assets_tests/ui/test_steward_pages.py

check: test  ## Run everything that CI runs: lint, then the tests

# Tests without a server or subprocess. The tests of one file may run in different test processes, because they share no
# slow setup.
unit: $(INSTALLED)  ## Run the tests that need no server, in under 30 seconds
	$(BIN)/pytest -m unit --hypothesis-profile=quick -n logical --maxprocesses 4 --dist worksteal $(TEST_ARGS)

# pytest is the last command, so that its closing line is the last line. A file stays in one process, because its tests share
# servers that are slow to start. The order is random: pytest prints the seed, and
# TEST_ARGS="--randomly-seed=SEED" repeats it.
# dbt and datacontract-cli have a separate environment; without it their tests are skipped.
test: lint  ## Lint, then run the tests; TEST_ARGS="-k refund" selects tests
	@$(BIN)/python -m sales_assets_tests.bench.peers.environment >/dev/null || true
	$(BIN)/pytest $(SHARED) $(TEST_ARGS)

# Measures subprocesses too, so it takes longer than the tests alone.
coverage: $(INSTALLED)  ## Run the tests and measure line and branch coverage
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest $(SHARED) $(TEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# An interrupted sweep or soak test continues where it stopped; TORTURE_SECONDS limits the time of each test.
torture: $(INSTALLED)  ## Run the long fault tests, up to 25 minutes each; TORTURE_ARGS="-k kills", TORTURE_SECONDS=600
	$(BIN)/pytest -m torture -n logical --maxprocesses 2 --dist load -s $(TORTURE_ARGS) sales_assets_tests/torture

bench: $(INSTALLED)  ## Benchmark the pipeline and the services; BENCH_ARGS="--only days --rounds 3"
	$(BIN)/python -m sales_assets_tests.bench $(BENCH_ARGS)

bench-large: $(INSTALLED)  ## Benchmark loads of 10 million lines
	$(BIN)/python -m sales_assets_tests.bench --large $(BENCH_ARGS)

# Results are stored in mutants/: without arguments, only code that has changed since is mutated again.
mutants: $(INSTALLED)  ## Mutate the code and list undetected mutants; MUTANTS_ARGS=sales_assets/pipeline/sums.py
	$(BIN)/python -m sales_assets_tests.mutants $(MUTANTS_ARGS)

lint: $(INSTALLED)  ## Check formatting, run ruff and mypy, and load the definitions
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/dg check defs & definitions=$$!; $(BIN)/mypy --no-error-summary; types=$$?; wait $$definitions && exit $$types

format: $(INSTALLED)  ## Format the code and apply ruff's fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(INSTALLED)  ## Update the lock files from pyproject.toml, the benchmark's peers and the newest releases
	$(COMPILE) pyproject.toml --extra dev --output-file requirements.lock
	$(COMPILE) $(PEERS)/requirements.in --only-binary :all: --output-file $(PEERS)/requirements.lock
	$(COMPILE) $(PEERS)/openlineage.in --no-deps --only-binary :all: --output-file $(PEERS)/openlineage.lock

# uv installs in seconds what takes pip a minute. If uv can't be installed, or doesn't find the package index that pip
# is configured for, pip is used.
$(INSTALLED): requirements.lock pyproject.toml setup.py
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is required: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "installing requirements.lock into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(UV) \
		&& $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --requirement requirements.lock \
		&& $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable . \
		|| { echo "uv failed, trying pip" >&2 \
		&& $(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock \
		&& $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .; }
	@touch $@
