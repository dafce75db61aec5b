# Everything a newcomer, a developer and CI do with Kith. `make help` lists it.
# Each target first sees to the environment, so that any of them works in a fresh clone.

.DEFAULT_GOAL := help
.PHONY: help setup run chat demo test bench check lint layout types source fuzz docs lock clean

VENV_PYTHON := .venv/bin/python

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## make .venv and install the locked dependencies (only when something changed)
	@PYTHON="$(PYTHON)" ./scripts/setup.sh requirements-dev.lock

run: setup ## start a node on ./data; the first start writes its configuration
	@$(VENV_PYTHON) server.py run $(ARGS)

chat: setup ## open the terminal chat
	@$(VENV_PYTHON) -m client.chat $(ARGS)

demo: setup ## play a scene between several people on a node of its own, and compare what each one saw
	@$(VENV_PYTHON) -m bench.demo $(ARGS)

test: setup ## run every test
	@$(VENV_PYTHON) -m pytest $(ARGS)

bench: setup ## measure everything and print the table of the README
	@$(VENV_PYTHON) -m bench all $(ARGS)

check: lint layout types source ## lint, format, types, import table, stale documents (-k: all of them, whatever fails)

lint: setup
	$(VENV_PYTHON) -m ruff check .

layout: setup
	$(VENV_PYTHON) -m ruff format --check .

types: setup
	$(VENV_PYTHON) -m mypy --strict

source: setup
	$(VENV_PYTHON) -m pytest -m source -q

fuzz: setup ## search for inputs that break the decoder, guided by coverage (ARGS="-max_total_time=60")
	@./scripts/setup.sh requirements-fuzz.lock
	@mkdir -p fuzz-corpus
	@$(VENV_PYTHON) -m tests.fuzz.decoder fuzz-corpus $(ARGS)

docs: setup ## write the protocol reference, docs/asyncapi.json and the golden vectors anew
	@$(VENV_PYTHON) -m scripts.generate_docs

lock: ## resolve the requirements*.in files anew into the lock files
	@./scripts/lock.sh $(ARGS)

clean: ## remove the environment and what the tools left; ./data is yours and stays
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis fuzz-corpus bench/results
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
