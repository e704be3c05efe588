# Everything runs in .venv; PYTHON names the interpreter it is made from (3.11 to 3.13).
PYTHON ?= python3
# Of the MLflow UI; the store of runs is the one that runs are logged to.
PORT ?= 5000
STORE = $(or $(MLFLOW_TRACKING_URI),sqlite:///mlflow.db)
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Where a machine has fewer cores than threads are started, training crawls.
export OMP_NUM_THREADS ?= $(shell getconf _NPROCESSORS_ONLN)
export MLFLOW_DISABLE_TELEMETRY ?= true

.DEFAULT_GOAL := help
.PHONY: help install demo test test-fast fuzz lint format ui clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

install: $(VENV)/installed ## set up .venv with the pinned dependencies

$(VENV)/installed: pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { echo "There is no $(PYTHON) here. Name a Python 3.11 to 3.13: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and "$(PYTHON) is Python %d.%d; 3.11 to 3.13 is needed, as \
	the pinned libraries have it: make PYTHON=python3.12" % sys.version_info[:2])'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv, or no pip for it. Install it (Debian, Ubuntu: apt \
	install python3-venv), or name another Python: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

demo: install ## the whole chain on synthetic X-rays, 3 to 8 minutes: a registered classifier, a table, the UI's line
	mlflow run . -e main -P data_dir=synthetic -P model=vit-mae-nano -P image_size=128 -P batch_size=16 \
		-P mae_epochs=20 -P classifier_epochs=30 -P preprocess=letterbox

test: install ## lint and all tests that need neither the real X-rays nor a GPU, 12 to 30 minutes
	ruff check . && ruff format --check . && lint-imports
	OMP_NUM_THREADS=1 pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-fast: install ## all but the end-to-end tests, some ten minutes
	OMP_NUM_THREADS=1 pytest --numprocesses 2 -m "not slow and not data and not gpu"

fuzz: install ## damaged files of every kind through decoder, index and server, 5 minutes; what they break is kept in found/
	OMP_NUM_THREADS=1 python -m tests.fuzz --minutes 5

lint: install ## ruff and the layers of the architecture
	ruff check . && ruff format --check . && lint-imports

format: install ## let ruff mend what it can
	ruff check --fix . && ruff format .

ui: install ## the MLflow UI of the store in use, on http://127.0.0.1:5000 or another PORT=
	@case "$(STORE)" in http*) echo "Runs are kept by a server, which shows them itself: $(STORE)"; exit 1;; esac; \
	python -c 'import socket; socket.create_server(("127.0.0.1", $(PORT)))' 2>/dev/null \
		|| { echo "Port $(PORT) is taken by another program, perhaps another UI. Choose another one: make ui PORT=5001"; exit 1; }; \
	mlflow ui --backend-store-uri "$(STORE)" --host 127.0.0.1 --port $(PORT)

clean: ## remove .venv and caches; runs and models stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache
