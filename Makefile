# What one does with a clone. Needs Python 3.11 or later with venv; everything else is installed
# into .venv and .cache, and what only the system can have (bubblewrap), as root, by apt-get.

PYTHON ?= python3
ARGS =
BIN = .venv/bin

.PHONY: help demo test slow conformance bench bench-quick bench-sandbox fuzz lint fmt lock clean python venv programs rivals suite clients
.NOTPARALLEL:

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile

demo: python  ## the whole loop on this machine, told in the terminal
	@"$(PYTHON)" requirements/system.py bwrap
	@"$(PYTHON)" requirements/install.py demo
	@$(BIN)/arrowslit demo $(ARGS)

test: venv clients suite programs  ## every test; ARGS="tests/relay -k tenant" for some
	@$(BIN)/python -m pytest $(ARGS)

slow: venv clients  ## the tests that take minutes of real time
	@$(BIN)/python -m pytest -m slow -o faulthandler_timeout=1800 $(ARGS)

conformance: venv suite  ## the official MCP conformance suite, directly and through the tunnel, check by check
	@$(BIN)/python -m tests.conformance $(ARGS)

bench: venv rivals  ## what arrowslit costs beside ssh -R, nginx and others; 15 minutes
	@$(BIN)/python -m benchmarks $(ARGS)

bench-quick: venv rivals  ## the same in a tenth of the time, for a first look
	@$(BIN)/python -m benchmarks --quick $(ARGS)

bench-sandbox: venv  ## what a sandbox costs beside a plain subprocess and a bare bubblewrap; half a minute
	@"$(PYTHON)" requirements/system.py bwrap
	@$(BIN)/python -m benchmarks.sandbox $(ARGS)

fuzz: venv  ## look for input that breaks a promise, ten minutes a target; SECONDS=60 ARGS=json for less
	@$(BIN)/python -m tests.fuzz $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

lint: venv  ## format, rules, types, and who may import whom
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: venv  ## put everything into the one format, and repair what can be repaired
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

lock: python  ## resolve all versions anew; nothing else does
	@"$(PYTHON)" -m requirements.lock

clean:  ## remove what make has made
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

python:
	@command -v "$(PYTHON)" >/dev/null && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "arrowslit needs Python 3.11 or later as $(PYTHON); name another: make PYTHON=/path/to/python3" >&2; exit 1; }

venv: python
	@"$(PYTHON)" requirements/install.py dev

programs: python
	@"$(PYTHON)" requirements/system.py bwrap curl git wrk

rivals: python
	@"$(PYTHON)" requirements/system.py wrk nginx sshd ssh
	@"$(PYTHON)" -m benchmarks.environments

suite: python
	@"$(PYTHON)" -m requirements.node tests/conformance/npm

clients: python
	@"$(PYTHON)" tests/clients/environments.py
	@"$(PYTHON)" -m requirements.node tests/clients/npm
