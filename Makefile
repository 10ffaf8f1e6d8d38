# Fixwright: what a newcomer needs, each one command. A bare `make` lists them.
#
# Needed on the machine: Python 3.11 or newer, pip and make. Everything else is put into .venv and node_modules
# below this folder, from the lock files, and nothing that is there already is done again.

PYTHON ?= $(shell for one in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$one -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$one; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
MADE := $(BIN)/python
RUN := $(VENV)/run.stamp
DEV := $(VENV)/dev.stamp
VENDOR := api/web/static/vendor/manifest.json
UV = $(firstword $(wildcard $(BIN)/uv) $(shell command -v uv))
ARGS ?=

# Wheels only: a source package would need a compiler. --no-compile leaves byte code to the first import of each
# module, which is most of what an installation waits for otherwise.
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
INSTALL := $(PIP) install --quiet --require-hashes --only-binary :all: --no-compile
# Tests start the product dozens of times: half of each start would be to compile again what the one before compiled.
KEEP_BYTE_CODE := PYTHONDONTWRITEBYTECODE=
INSTALL_SELF := $(PIP) install --quiet --no-build-isolation --no-deps --editable .

.DEFAULT_GOAL := help
.PHONY: help setup run test check bench torture docs lock
.DELETE_ON_ERROR:
.NOTPARALLEL:

help: ## list the commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

setup: $(RUN) $(VENDOR) ## install everything `make run` needs, and stop there

run: setup ## start everything on this machine with a demo company and simulated machines (ARGS="…" goes to fixwright up)
	@exec $(BIN)/fixwright up --demo $(ARGS)

test: $(DEV) $(VENDOR) ## run the tests (ARGS="tests/web -k scan"); what this machine lacks is skipped by name
	@$(KEEP_BYTE_CODE) $(BIN)/python -m pytest -q -m "not torture" -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(DEV) ## ruff, mypy strict, import-linter and the template lint; all of them, also after one has failed
	@failed=; \
	check() { echo "── $$*"; "$$@" || failed="$$failed $$(basename $$1)"; }; \
	check $(BIN)/ruff check . ; \
	check $(BIN)/ruff format --check . ; \
	check $(BIN)/mypy ; \
	check $(BIN)/lint-imports ; \
	check $(BIN)/djlint --lint --quiet api/web/templates ; \
	test -z "$$failed" || { echo "not clean:$$failed"; exit 1; }

bench: $(DEV) $(VENDOR) ## measure: one table of figures and ratios, and the same as JSON
	@$(BIN)/python -m bench $(ARGS)

torture: $(DEV) $(VENDOR) ## the slow destructive tests: kills, floods, full disks (seed printed)
	@seed=$${FIXWRIGHT_TEST_SEED:-$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}; \
	echo "the same again: make torture FIXWRIGHT_TEST_SEED=$$seed"; \
	$(KEEP_BYTE_CODE) FIXWRIGHT_TEST_SEED=$$seed $(BIN)/python -m pytest -q -m torture $(ARGS)

docs: $(DEV) ## write the reference pages (settings, commands, events, API) from the code
	@$(BIN)/python -m docs.reference $(ARGS)

lock: ## renew the lock files from pyproject.toml and package.json (needs uv and npm)
	@test -n "$(UV)" || { echo "make lock needs uv: $(BIN)/python -m pip install uv"; exit 1; }
	$(UV) pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --group build \
		--output-file requirements/run.lock pyproject.toml
	$(UV) pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --group build --group dev \
		--constraint requirements/run.lock --output-file requirements/dev.lock pyproject.toml
	$(UV) pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --group node \
		--output-file requirements/node.lock
	npm install --package-lock-only --ignore-scripts --loglevel=error

# ── What the commands stand on ──────────────────────────────────────────────────────────────────────────────

$(MADE):
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Fixwright needs Python 3.11 or newer (make PYTHON=/path/to/python3.11 …)"; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { \
		rm -rf $(VENV); \
		$(PYTHON) -m venv --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(VENV)/bin/python install --quiet --disable-pip-version-check pip; } || \
		{ rm -rf $(VENV); echo "could not make $(VENV): Python's venv module is missing"; exit 1; }

$(RUN): requirements/run.lock pyproject.toml | $(MADE)
	@echo "installing what Fixwright runs on (requirements/run.lock)"
	@$(INSTALL) --requirement requirements/run.lock
	@$(INSTALL_SELF)
	@touch $@

# The development set holds the running set with the same versions.
$(DEV): requirements/dev.lock pyproject.toml | $(MADE)
	@echo "installing what tests and checks need (requirements/dev.lock)"
	@$(INSTALL) --requirement requirements/dev.lock
	@$(INSTALL_SELF)
	@touch $(RUN) $@

$(VENDOR): package.json package-lock.json api/web/icons.txt api/web/mit.txt api/web/assets.py api/web/stylesheet.py | $(MADE)
	@test -f $(RUN) || test -f $(DEV) || $(MAKE) --no-print-directory $(RUN)
	@$(BIN)/python -m api.web.assets
	@touch $@
