PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# In the order of the folders no long file comes last, to be waited for by one worker alone.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: bench check clean demo docs docs-serve test test-slow

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: $(INSTALLED)
	$(BIN)/python -m demo

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks --install-peers
	$(BIN)/python -m benchmarks

test: $(INSTALLED)
	$(PYTEST) -m "not gpu and not slow" --cov --cov-report=term

test-slow: $(INSTALLED)
	$(PYTEST) -m "slow and not gpu"

check: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Material says at every build that it will not follow a second MkDocs.
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(INSTALLED)
	$(BIN)/python -m mkdocs build

docs-serve: export NO_MKDOCS_2_WARNING = 1
docs-serve: $(INSTALLED)
	$(BIN)/python -m mkdocs serve --no-strict

clean:
	rm -rf $(VENV) .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache build outputs
