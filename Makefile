# Everything a developer runs. `make` alone lists the targets. Continuous integration runs the same ones (.ci/run).

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
UV := $(VENV)/bin/uv
PYTEST := $(PY) -m pytest
TAXIWAY := $(VENV)/bin/taxiway
INSTALLED := $(VENV)/.taxiway-installed

# Without bytecode every start of Airflow would compile a thousand modules again.
unexport PYTHONDONTWRITEBYTECODE
# The environment is ours alone: another active one must not leak in.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install demo up down status validate check format test unit live bench reference lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  Options: PYTHON=python3.12 for the first install; make demo INTERACTIVE=1 (you are tester and approver), FRESH=1 (start over)."

install: $(INSTALLED) ## Install everything into .venv from the lock (the other targets do it when needed)

# The stamp goes first and comes back last: an environment without it is half-made, and is made again from nothing.
# pip installs uv, then uv installs everything, both only what the hashes of the lock allow.
$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	  "Taxiway needs Python 3.11, 3.12 or 3.13, but $(PYTHON) is %d.%d. Name another: make install PYTHON=python3.12" % v)'
	@command -v git >/dev/null || { echo "Taxiway needs git on the PATH." >&2; exit 1; }
	@if [ -e $@ ]; then rm $@; else rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); fi
	@awk '/^[^ #]/ { wanted = /^uv==/ } wanted' requirements.txt > $(VENV)/uv.txt
	@[ -x $(UV) ] || $(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(VENV)/uv.txt
	$(UV) pip sync --quiet --python $(PY) --require-hashes --compile-bytecode requirements.txt
	$(UV) pip install --quiet --python $(PY) --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(INSTALLED) ## Deliver the example model from commit to production, on this machine
	$(TAXIWAY) demo $(if $(INTERACTIVE),--interactive) $(if $(FRESH),--fresh)

up: $(INSTALLED) ## Start Airflow, MLflow and the two gateways
	$(TAXIWAY) up --detach

down: $(INSTALLED) ## Stop what `up` or `demo` started; the state stays
	$(TAXIWAY) down

status: $(INSTALLED) ## Show what runs and what serves
	$(TAXIWAY) status

validate: $(INSTALLED) ## Check every model spec
	$(TAXIWAY) validate

check: $(INSTALLED) ## Linters, types, layers, architecture, specs (no service is started)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PYTEST) tests/architecture
	$(TAXIWAY) validate

format: $(INSTALLED) ## Format the code and correct what the linter can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

test: check unit live ## Everything: check, unit, live

# Most of these tests wait for processes of their own; a file's tests share what it started.
unit: $(INSTALLED) ## Unit, contract and DAG tests
	$(PYTEST) --numprocesses 2 --dist loadfile tests/unit tests/contracts tests/dags

live: $(INSTALLED) ## Tests on a running installation, which they start and stop themselves
	$(PYTEST) tests/live

bench: $(INSTALLED) ## Measure again what the documentation claims
	@set -e; for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(PY) "$$file"; done

reference: $(INSTALLED) ## Write docs/model-spec.md and its JSON Schema from the code
	$(PY) -m taxiway.spec_reference docs

lock: $(INSTALLED) ## Compile requirements.txt again from pyproject.toml
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --group demo --group dev \
	  pyproject.toml -o requirements.txt

clean: ## Stop everything and remove what make made; the state (.taxiway) stays
	-@[ ! -x $(TAXIWAY) ] || $(TAXIWAY) down
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
