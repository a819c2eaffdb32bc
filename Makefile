# make demo: the main job on embedded data.  make test: everything CI checks.
PYTHON ?= python3
STORE ?= csl-store
BIN := .venv/bin

.PHONY: demo test test-faults test-cluster test-benchmarks audit setup

demo: setup
	@$(BIN)/csl run table5 --store $(STORE)

test: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy benchmarks
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# Kills, stops and full disks on real Rays: what make test is too short for.
test-faults: setup
	$(BIN)/pytest -m slow tests/faults

# Real clusters of several nodes on this machine: what make test is too short for.
test-cluster: setup
	$(BIN)/pytest tests/multinode

# Every benchmark, at a size whose numbers say nothing: that none is left behind.
test-benchmarks: setup
	$(BIN)/pytest -m slow tests/test_benchmarks.py

# Known vulnerabilities of what is installed; asks a database on the internet.
audit: setup
	$(BIN)/pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/pip-audit --local --skip-editable

# The stamp names what was installed: a second call installs nothing.
setup: .venv/installed

.venv/installed: pyproject.toml
	@echo "Setting up .venv (torch and Ray: about 5 GB, a few minutes) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
