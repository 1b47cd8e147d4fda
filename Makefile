# make help lists the targets. Each builds what it needs in $(VENV), with every version pinned by constraints.txt.

VENV ?= .venv
BIN = $(VENV)/bin
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$python && break; done)
WORKERS ?= 2

# pip gives -c to the packages it installs; these two give the same pins to the isolated build of fingerpost itself.
export PIP_CONSTRAINT = constraints.txt
export PIP_BUILD_CONSTRAINT = constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help demo test check docs bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.test ## Run the main job on handwritten digits and make its page
	$(BIN)/fingerpost run ep-digits --preset quick
	$(BIN)/fingerpost report --output report.html
	@echo "Open it in a browser: $(CURDIR)/report.html"

test: $(VENV)/.test ## Run all tests, with the examples in docstrings, README and docs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: $(VENV)/.dev ## Check style, format, types and links
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python docs/check_links.py

docs: $(VENV)/.test ## Check the links of all pages and run their examples
	$(BIN)/python docs/check_links.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/docs

bench: $(VENV)/.test ## Run every benchmark (minutes; leave the machine alone meanwhile)
	$(BIN)/fingerpost bench

clean: ## Remove the environment and what was built; runs stay
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis report.html
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "fingerpost needs Python 3.10 or newer, and none was found: install one, or name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi
	$(PYTHON) -m venv $(VENV)

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@
