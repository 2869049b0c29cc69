# Each target does its own set-up: .venv is built when it is missing, and again when a requirement changes.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2

export MPLBACKEND ?= Agg
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup run test coverage torture notebooks docs shots lab lab-test bench lint export clean distclean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

setup: $(STAMP) ## build .venv

$(STAMP): settings.ini setup.py constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"emgfm needs Python 3.11 or newer; {sys.executable} is {v[0]}.{v[1]}: try make PYTHON=python3.11")'
	@echo "Building $(VENV): a few minutes the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

run: $(STAMP) ## the whole pipeline on generated data; a report at the end
	@$(BIN)/emgfm run $(ARGS)

test: $(STAMP) ## every notebook and every test
	@$(BIN)/python -m pytest -n $(JOBS) -q $(ARGS)

coverage: $(STAMP) ## lines that notebooks and tests run together, child processes as well
	@$(BIN)/python -m testing.cover -n $(JOBS) $(ARGS)

torture: $(STAMP) ## builds killed thirty times, and every way of spoiling files
	@EMGFM_KILLS=30 EMGFM_KILLS_TABLE=$(CURDIR)/nbs/99_findings/kills.csv $(BIN)/python -m pytest -q tests/test_faults.py
	@$(BIN)/python -m testing.torture --jobs $(JOBS) $(ARGS)

notebooks: $(STAMP) ## run every notebook in place and save its outputs
	@$(BIN)/python tools/nb.py run --jobs $(JOBS) $(ARGS)

docs: $(STAMP) ## README.md and the site, in _docs/
	@$(BIN)/python tools/readme.py
	@$(BIN)/python tools/cards.py
	@$(BIN)/python tools/docs.py $(ARGS)

shots: docs ## pictures of the site in _docs/.shots/, wide and narrow (needs chromium)
	@$(BIN)/python tools/shots.py $(ARGS)

lab: $(STAMP) ## JupyterLab, at the start notebook
	@cd nbs && $(abspath $(BIN))/jupyter lab --LabApp.default_url=/lab/tree/index.ipynb $(ARGS)

lab-test: $(STAMP) ## three notebooks run in a real JupyterLab (needs chromium)
	@$(BIN)/python -m pytest -q tests/test_lab.py $(ARGS)

bench: $(STAMP) ## the speed benchmarks; on an idle machine
	@$(BIN)/python -m benchmarks $(ARGS)

lint: $(STAMP) ## ruff over modules, notebooks, tests and tools
	@$(BIN)/ruff check . $(ARGS)

export: $(STAMP) ## notebooks -> emgfm/, README.md, notebooks cleaned
	@$(BIN)/nbdev_clean
	@$(BIN)/python tools/export.py
	@$(BIN)/python tools/readme.py
	@$(BIN)/python tools/cards.py

clean: ## remove what was built, keep .venv
	@rm -rf _proc _docs build dist *.egg-info .pytest_cache .ruff_cache .coverage .coverage.*
	@find emgfm nbs testing tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	@rm -rf $(VENV)
