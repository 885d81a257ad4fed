# `make demo` and `make test` do everything on a new machine that has Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS ?= dev,ray
UV := $(BIN)/python -m uv
INSTALL := $(UV) pip install --quiet --python $(BIN)/python --constraint constraints.txt

# The Label Studio that the tests of labelling start; it needs an environment of its own.
LABEL_STUDIO ?= build/label-studio

.PHONY: demo test lint types bench label-studio clean

demo: $(VENV)/.installed
	$(BIN)/idsynth demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

bench: $(VENV)/.installed
	$(INSTALL) --editable ".[bench]"
	for benchmark in benchmarks/*.py; do $(BIN)/python $$benchmark || exit 1; done

label-studio: $(LABEL_STUDIO)/.installed

$(LABEL_STUDIO)/.installed: $(VENV)/.installed
	test -x $(LABEL_STUDIO)/bin/python || $(PYTHON) -m venv $(LABEL_STUDIO)
	$(UV) pip install --quiet --python $(LABEL_STUDIO)/bin/python label-studio==1.23.2
	touch $@

# FiftyOne downloads its mongod while it is installed; where that failed, and nobody runs a server, the package is used.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(INSTALL) --editable ".[$(EXTRAS)]"
	test -n "$$FIFTYONE_DATABASE_URI" || $(BIN)/python -c "import sys; from fiftyone_idsynth.doctor import mongod_path; sys.exit(mongod_path() is None)" \
	  || $(INSTALL) --editable ".[embedded-db]"
	touch $@

clean:
	rm -rf $(VENV) idsynth-demo build dist *.egg-info
