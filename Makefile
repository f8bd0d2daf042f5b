# `make run` and `make test` need no other step: each first creates the environment in .venv if it is missing.
PYTHON ?= python3
BIN := .venv/bin
ARGS = $(if $(SOURCE),--source "$(SOURCE)") $(if $(DATA),--data "$(DATA)") $(if $(STORE),--store "$(STORE)") $(if $(CONFIG),--config "$(CONFIG)")
IN_PARALLEL = --dist loadfile --no-loadscope-reorder # each process has its own Prefect server

.PHONY: run up test test-slow test-unattended bench faults nights busy docs screenshots tutorial check clean
.DELETE_ON_ERROR:

# nothing new (3), and a version that is not the champion (5), are no failures; `heartbeat --help` lists the statuses
run: .venv/ready
	@$(BIN)/heartbeat run $(ARGS) || case $$? in 3|5) ;; *) exit $$?;; esac

up: .venv/ready
	@$(BIN)/heartbeat up $(ARGS)

test: .venv/ready
	@$(BIN)/python -m pytest -n 2 $(IN_PARALLEL)

test-slow: .venv/ready # they wait for servers
	@$(BIN)/python -m pytest -n 3 $(IN_PARALLEL) -m slow

test-unattended: .venv/ready # servers and services, minutes each; not in .ci/run
	@$(BIN)/python -m pytest -m unattended

bench: .venv/ready # under 40 minutes on two idle cores; writes docs/benchmarks.md
	@$(BIN)/python -c 'import lhotse' 2> /dev/null || $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]" || true # to measure against
	@$(BIN)/python -W ignore -m benchmarks $(ONLY) $(if $(SMALL),--small)

faults: .venv/ready # about an hour on two cores
	@$(BIN)/python -W ignore -m benchmarks.faults --trials $(or $(N),60) --seed $(or $(SEED),0) $(if $(ONLY),--only "$(ONLY)") $(if $(WRITE),--write)

nights: .venv/ready
	@$(BIN)/python -W ignore -m benchmarks.nights --nights $(or $(N),72) --seed $(or $(SEED),0) $(if $(WRITE),--write)

busy: .venv/ready
	@$(BIN)/python -W ignore -m benchmarks.busy $(if $(WRITE),--write)

docs: .venv/ready # site/index.html, from what is installed; searching it needs a server, such as `.venv/bin/mkdocs serve`
	@$(BIN)/python tests/api_page.py
	@$(BIN)/python -m flows.cli.settings_reference > docs/settings-reference.md
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo site/index.html

screenshots: .venv/ready # needs Chromium
	@$(BIN)/python -W ignore -m benchmarks.screenshots

tutorial: .venv/ready # minutes a page
	@$(BIN)/python docs/tutorial/make.py $(ONLY)

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "Creating the environment in .venv: 7 GB, takes 5 to 30 minutes; watch: tail -f .venv/install.log"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e ".[dev]" > .venv/install.log 2>&1 || { tail -n 20 .venv/install.log; exit 1; }
	@touch $@
	@echo "Installed in .venv"

clean: # keeps out/, which holds the registry
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
	find . -path ./out -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
