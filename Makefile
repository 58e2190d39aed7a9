# make run         installs once, then trains and packages the bundled GPT (minutes, no network)
# make example TASK=regions   copies a sample (countries, gaps, questions or regions) to examples/ and trains it
# make test        installs once, then runs lint, types and all tests
# make test-fast   the tests that take seconds each
# make test-colab PYTHON=python3.13   runs the tests with Colab's package versions, in a separate environment (6 GB)
# make architecture   prints the structure of the package in figures, which a test keeps
# make test-security   the tests behind docs/security.md, which names them
# make fuzz MINUTES=60   fuzzes every boundary for an hour
# make audit       checks the tested versions for known vulnerabilities (needs the network)
# make docs        builds the documentation and the diagram of the pipelines into site/
# make address REPO=OWNER/NAME   writes the public address of the project into notebooks, README and citation
# make bench       installs the libraries that Foundry is compared with, then prints every benchmark (an hour or two)
# make sbom        writes the locked versions to sbom.json, a software bill of materials (needs the network)
# make lock        writes the tested versions with hashes to requirements.lock, which make install compares; run it after changing constraints.txt
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help install run example test test-fast test-security fuzz architecture test-colab bench lint docs address audit sbom lock clean

help:
	@sed -n 's/^# //p' Makefile

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt requirements.lock requirements-cpu.lock requirements-cuda.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python $$($(PYTHON) --version 2>&1 | cut -d" " -f2) is too old; version 3.11 or newer is required."; \
		echo "Choose another one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@# PyPI has builds of torch for GPUs alone: the smaller one for CPUs is taken where pip is told where to find it.
	@if $(BIN)/python .ci/lock.py fits; then set -ex; \
		$(PIP) --require-hashes --no-deps -r requirements.lock; \
		$(PIP) --require-hashes --no-deps -r requirements-cpu.lock 2>$(VENV)/cpu.log || { \
			grep -q "No matching distribution" $(VENV)/cpu.log || { cat $(VENV)/cpu.log >&2; exit 1; }; \
			$(PIP) --require-hashes --no-deps -r requirements-cuda.lock; }; \
		$(PIP) --no-deps --no-build-isolation -e .; \
	else \
		echo "requirements.lock is for another Python or machine: its hashes are not compared."; set -ex; \
		$(PIP) -c constraints.txt -e ".[dev,docs]"; \
	fi
	@touch $@

run: $(STAMP)
	@$(BIN)/kedro run

TASK ?= countries
example: $(STAMP)
	@test -e examples/$(TASK)/run.yml || $(BIN)/kedro example $(TASK)
	@$(BIN)/kedro run --config examples/$(TASK)/run.yml

lint: $(STAMP)
	$(BIN)/ruff format --check src tests docs/tooling
	$(BIN)/ruff check src tests docs/tooling
	$(BIN)/mypy
	$(BIN)/bandit --quiet --recursive --severity-level high src

test-fast: $(STAMP)
	$(BIN)/python -m pytest -m "not slow"

test-security: $(STAMP)
	$(BIN)/python -m pytest $$(sed -n 's/.*`\(tests\/[^` ]*\)`.*/\1/p' docs/security.md | sort -u)

MINUTES ?= 60
fuzz: $(STAMP)
	$(BIN)/python -m tests.faults.fuzz all $(MINUTES)

architecture: $(STAMP)
	@$(BIN)/python -m tests.architecture

test: lint
	@# Hundreds of tests start the real commands: compile once what each of them imports.
	@$(BIN)/python -m compileall -q src tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

COLAB := .venv-colab
test-colab:
	$(PYTHON) -m venv $(COLAB)
	$(COLAB)/bin/python -m tests.colab > $(COLAB)/constraints.txt
	$(COLAB)/bin/python -m pip install --quiet --disable-pip-version-check -c $(COLAB)/constraints.txt -e ".[dev]"
	$(COLAB)/bin/python -m pytest -n 2 --dist loadfile

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@$(BIN)/python docs/tooling/drawing.py site/pipelines

address: $(STAMP)
	@$(BIN)/python docs/tooling/address.py $(REPO)

audit: $(STAMP)
	$(PIP) pip-audit
	@# --strict fails on a package that cannot be audited.
	$(BIN)/pip-audit --strict --requirement requirements.lock --requirement requirements-cuda.lock --require-hashes --disable-pip

sbom: $(STAMP)
	$(PIP) cyclonedx-bom
	@cat requirements.lock requirements-cuda.lock | \
		$(BIN)/cyclonedx-py requirements --output-reproducible --output-file sbom.json -

lock: $(STAMP)
	$(PIP) --dry-run --ignore-installed -c constraints.txt --report - ".[dev,docs]" | $(BIN)/python .ci/lock.py write

bench: $(STAMP)
	$(PIP) -c constraints.txt -e ".[dev,bench]"
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
