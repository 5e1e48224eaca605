# Everything that is typed to work on the project. It needs Python 3.11 or newer; all else is installed into .venv.

# The first that is new enough. Each is run: a name on the PATH may be a shim without a Python behind it.
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

.DEFAULT_GOAL := help
.PHONY: help install demo dev unit test coverage torture check bench bench-large mutants lint format lock

help:  ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 13

install: $(INSTALLED)  ## Make or refresh .venv from requirements.lock

demo: $(INSTALLED)  ## Show the whole platform on generated data; DEMO_ARGS=--once ends once all was shown
	$(BIN)/sales-assets demo $(DEMO_ARGS)

dev: $(INSTALLED)  ## Run the Dagster UI on the configured warehouse and report API; DEV_ARGS="--port 3001"
	$(BIN)/sales-assets dev $(DEV_ARGS)

check: test  ## All that CI does: lint, then the tests

# Those that need no server and no process. A file's tests are spread over the processes: they share nothing slow.
unit: $(INSTALLED)  ## Run the tests that need no server, in under 30 seconds
	$(BIN)/pytest -m unit --hypothesis-profile=quick -n logical --maxprocesses 4 --dist worksteal $(TEST_ARGS)

# pytest is the last command, so that its closing line is the last line. A file stays in one process, because its tests share
# servers that are slow to start. The order is random: pytest prints the seed, and
# TEST_ARGS="--randomly-seed=SEED" repeats it.
test: lint  ## Lint, then run the tests; TEST_ARGS="-k refund" for some of them
	$(BIN)/pytest $(SHARED) $(TEST_ARGS)

# All tests, processes included: it takes longer than they do alone.
coverage: $(INSTALLED)  ## Run the tests and measure which lines and branches they reach
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest $(SHARED) $(TEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# An interrupted sweep or soak goes on where it was; TORTURE_SECONDS bounds each of its tests.
torture: $(INSTALLED)  ## Break it for real, for up to 25 minutes a test; TORTURE_ARGS="-k kills", TORTURE_SECONDS=600
	$(BIN)/pytest -m torture -n logical --maxprocesses 2 --dist load -s $(TORTURE_ARGS) sales_assets_tests/torture

bench: $(INSTALLED)  ## Measure the pipeline and the services against their floors; BENCH_ARGS="--only days --rounds 3"
	$(BIN)/python -m sales_assets_tests.bench $(BENCH_ARGS)

bench-large: $(INSTALLED)  ## The figures of 10 million lines
	$(BIN)/python -m sales_assets_tests.bench --large $(BENCH_ARGS)

# What was run stays in mutants/: without arguments, only what has changed since is run again.
mutants: $(INSTALLED)  ## Mutate the code and list what no test notices; MUTANTS_ARGS=sales_assets/pipeline/sums.py
	$(BIN)/python -m sales_assets_tests.mutants $(MUTANTS_ARGS)

lint: $(INSTALLED)  ## Formatting, ruff, mypy, and whether the definitions load
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy --no-error-summary
	$(BIN)/dg check defs

format: $(INSTALLED)  ## Let ruff format the code and mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(INSTALLED)  ## Bring the lock files up to date with pyproject.toml, the bench's peers and the newest releases
	$(COMPILE) pyproject.toml --extra dev --output-file requirements.lock
	$(COMPILE) $(PEERS)/requirements.in --only-binary :all: --output-file $(PEERS)/requirements.lock

# uv installs in seconds what takes pip a minute. Where it is not to be had, or knows less of the machine's package
# index than pip's configuration does, pip does the same.
$(INSTALLED): requirements.lock pyproject.toml setup.py
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; make PYTHON=/path/to/python says where" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "installing requirements.lock into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(UV) \
		&& $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --requirement requirements.lock \
		&& $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable . \
		|| { echo "uv did not do it, trying pip" >&2 \
		&& $(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock \
		&& $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .; }
	@touch $@
