# make help lists the targets. Everything happens in .venv, made when it is missing.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2

# The first interpreter that runs, is 3.11 to 3.13 and can make virtual environments.
# (A name on PATH is not enough: pyenv puts shims there for versions that are not active.)
SUITS := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
FIND_PYTHON = for p in $(PYTHON) python3.13 python3.12 python3.11 python3 python; do \
	if $$p -c '$(SUITS)' >/dev/null 2>&1; then echo $$p; break; fi; done

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
# pyright: the copy in its wheel, and no question to npm whether there is a newer one.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.PHONY: help venv demo test quick stress lint types format docs bench clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | \
		while IFS="$$(printf '\t')" read -r name text; do printf '  make %-8s %s\n' "$$name" "$$text"; done

venv: $(STAMP) ## make .venv with headrace and the development tools in it

$(STAMP): pyproject.toml
	@python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then \
		echo "Headrace needs Python 3.11, 3.12 or 3.13 with the venv module (Debian: apt install python3-venv)." >&2; \
		echo "None was found on PATH; name one with: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; fi; \
	$(BIN)/python -c '$(SUITS)' >/dev/null 2>&1 || { \
		echo "making $(VENV) with $$($$python --version)"; $$python -m venv --clear $(VENV); }
	@echo "installing headrace and its tools into $(VENV)"
	@$(BIN)/python -m pip install --quiet --retries 5 -e '.[dev]'
	@$(BIN)/python -m pip install --quiet -e '.[onednn]' && $(BIN)/python -m headrace.native.build || \
		echo "the kernels in C++ are left out; XLA's own are used"
	@touch $(STAMP)

demo: $(STAMP) ## train a classifier of handwritten digits, save it, load it, show what it sees
	@JAX_PLATFORMS=$${JAX_PLATFORMS:-cpu} $(BIN)/python examples/digits.py

# All checks run even when an early one fails; the tests come last so that their count ends the output.
test: $(STAMP) ## lint, types and every test
	@status=0; \
	$(MAKE) --no-print-directory lint || status=1; \
	$(MAKE) --no-print-directory types || status=1; \
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n $(WORKERS) -q || status=1; \
	exit $$status

quick: $(STAMP) ## the tests without the slow ones
	@JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n $(WORKERS) -q -m "not slow"

stress: $(STAMP) ## 10,000 steps of random graphs on four devices in each of three tests, a hundred random programs of replicas (half an hour)
	@HEADRACE_STRESS_STEPS=10000 JAX_PLATFORMS=cpu $(BIN)/python -m pytest -q --durations=0 tests/runtime/test_layered_dags.py \
		tests/distribute/test_one_program.py

lint: $(STAMP) ## ruff: rules and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet . || { \
		echo "ruff is not content; make format repairs most of it" >&2; exit 1; }

types: $(STAMP) ## pyright on the typed rooms
	@$(BIN)/pyright

format: $(STAMP) ## let ruff repair and format
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

docs: $(STAMP) ## write the generated pages of docs/ anew
	@set -e; for script in docs/generate/*.py; do \
		[ -e "$$script" ] || continue; echo "$$script"; JAX_PLATFORMS=cpu $(BIN)/python "$$script"; done

bench: $(STAMP) ## measure beside TensorFlow, PyTorch and JAX (half an hour; makes environments for them)
	@$(BIN)/python -m benchmarks $(BENCH)

clean: ## remove .venv and what the tools and the demo left
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis digits_run
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
