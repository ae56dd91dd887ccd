# `make` lists the targets. Everything runs in .venv. It is made on first use, and again when
# pyproject.toml, constraints.txt or the path of this folder has changed.

SHELL  := /bin/bash
PY     := .venv/bin/python
READY  := .venv/.ready
ENTRY  ?= universal-prefix-parity
OLDEST ?= python3.11
NEWEST ?= python3.13
PYTEST := $(PY) -m pytest
# One thread per worker: with more they wait for each other (measured on two cores: 71 s instead of
# 117 s). A worker that has finished takes half of the other's remaining tests, in one piece, so that
# few fixtures are made twice.
TESTS  := OMP_NUM_THREADS=1 $(PYTEST) -n 2 --dist worksteal
PEERS  := nnsight==0.8.1 torchlens==2.36.1 greenlet==3.5.6 zstandard==0.25.0 graphviz==0.21
CHROME := chromium chromium-browser google-chrome google-chrome-stable

# The environment is what .venv holds, whatever the caller's shell has set.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE

# .ready holds the path that the environment was made for: its scripts don't work after a move.
ifneq ($(shell cat $(READY) 2>/dev/null),$(CURDIR))
$(READY): FORCE
endif

.PHONY: help report test test-slow check matrix matrix-oldest matrix-newest bench sizes browser zoo verdicts findings looping clean FORCE
.DEFAULT_GOAL := help

help: ## list these targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' Makefile | expand -t 20

report: $(READY) ## write report.html about a trained looped transformer (another one: ENTRY=name)
	@.venv/bin/loopscope report $(ENTRY) -o report.html
	@echo "The report is at $(CURDIR)/report.html: open it in a browser."

test: $(READY) ## run the tests, all but the slow ones
	@$(TESTS) -m "not slow"

test-slow: $(READY) browser ## run the slow tests: notebooks, the zoo's numbers, a browser, processes that are killed
	@$(TESTS) -m slow

check: $(READY) ## formatting, linting, types and tests: what must pass before a commit
	@.venv/bin/ruff format --check
	@.venv/bin/ruff check
	@$(PY) -m pyright --pythonpath $(PY)
	@$(TESTS) -m "not slow"

# torch of PyPI brings several GB of CUDA into each of the two environments. Each first gets the wheel
# alone, as a user's would, and then what the tests need.
matrix: matrix-oldest matrix-newest ## the tests with the oldest versions and with the newest, each in an environment of its own

matrix-oldest: ## with the oldest versions that pyproject.toml allows (another Python 3.11: OLDEST=/path/to/python3.11)
	@$(call tested_in,.venv-oldest,$(OLDEST),-c constraints-oldest.txt)

matrix-newest: ## with the newest versions (another Python 3.13: NEWEST=/path/to/python3.13)
	@$(call tested_in,.venv-newest,$(NEWEST))

define tested_in
set -e; $(2) -m venv --clear $(1) || { echo "$@ needs $(2) with its venv module: install it, or name one: make $@ OLDEST=/path/to/python3.11 NEWEST=/path/to/python3.13" >&2; exit 2; }; \
$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile $(3) .; \
$(1)/bin/python -I tests/wheel_alone.py; \
$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile $(3) -e '.[dev]'; \
OMP_NUM_THREADS=1 $(1)/bin/python -m pytest -n 2 --dist worksteal -m "not slow"
endef

# Without pytest's own options: checks of shapes and types would be timed, too.
bench: $(READY) .venv-peers/.ready ## times beside hooks by hand, nnsight, torchlens and others: write docs/benchmarks.md
	@PYTHONPATH=.venv-peers OMP_NUM_THREADS=1 $(PYTEST) -o addopts= -W ignore tests/benchmarks/bench_*.py --benchmark-only \
	    --benchmark-columns=rounds --page docs/benchmarks.md

# What the benchmarks compare with, and of what it needs only what isn't in .venv.
.venv-peers/.ready: Makefile
	@rm -rf .venv-peers
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --target .venv-peers $(PEERS)
	@touch $@

# After an interruption, run it again: it resumes from runs/sizes.
sizes: $(READY) ## time and memory of a model of real size, some twenty minutes: writes docs/sizes.md
	@OMP_NUM_THREADS=1 $(PY) -m tests.benchmarks.sizes
	@rm -rf runs/sizes

# Two at a time, one thread each. After an interruption, run it again: it resumes from runs/zoo.
zoo: $(READY) ## train every entry of the zoo again, and write its weights and the numbers in its card
	@.venv/bin/loopscope models --names | OMP_NUM_THREADS=1 xargs -n 1 -P 2 $(PY) -m loopscope.reports.reproduce
	@rm -rf runs/zoo

cards: $(READY) ## write the verdicts in the card of every entry as today's analyses have them
	@.venv/bin/loopscope models --names | OMP_NUM_THREADS=1 xargs -n 1 -P 2 $(PY) -m loopscope.reports.model_card

verdicts: $(READY) ## run every analysis of every entry on ten batches, and write docs/verdicts.md
	@.venv/bin/loopscope models --names | OMP_NUM_THREADS=1 xargs -n 1 -P 2 $(PY) -m loopscope.reports.repeated_verdicts
	@$(PY) -m loopscope.reports.repeated_verdicts

findings: $(READY) ## run all published findings again, over hours, and write docs/findings.md; resumes from runs/findings
	@OMP_NUM_THREADS=1 .venv/bin/loopscope findings run all --workers 2
	@.venv/bin/loopscope findings docs

looping: $(READY) ## training-free looping of stack-hops in three trainings: write the tables in its card
	@OMP_NUM_THREADS=1 $(PY) -m loopscope.reports.window_looping stack-hops

clean: ## remove the environment and the files that tools made
	@rm -rf .venv .venv-oldest .venv-newest .venv-peers .pytest_cache .ruff_cache .hypothesis .benchmarks build dist report.html report.json

# The tests of the report drive a real browser. Without one they are skipped, and a message says so.
browser: ## find Chromium for the tests of the report, or install Debian's where that is possible
	@found() { for name in $(CHROME); do command -v $$name >/dev/null && command -v chromedriver >/dev/null && return; done; false; }; \
	if ! found && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing Debian's chromium and chromium-driver for the tests of the report ..."; \
	    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium chromium-driver; } \
	        >/dev/null 2>&1; \
	fi; \
	found || echo "There is no Chromium with its chromedriver on the PATH, so the tests that open the report in a browser are skipped."

# A missing .ready means an interrupted installation: start from an empty environment. An old one:
# update it. Without the constraints pip would take another torch, and gigabytes of CUDA with it.
# --no-compile: compiling everything would double the time, and Python compiles what it imports.
$(READY): pyproject.toml constraints.txt
	@set -e; if [ "$$(cat $@ 2>/dev/null)" = "$(CURDIR)" ] && $(PY) -c '' 2>/dev/null; then rm $@; else \
	    for python in $(or $(PYTHON),python3.11 python3 python3.12 python3.13); do \
	        $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; python=; \
	    done; \
	    if [ -z "$$python" ]; then \
	        echo "loopscope needs Python 3.11 or newer with its venv module, but none was found (python3 is $$(python3 --version 2>&1)): install one, or name it: make report PYTHON=/path/to/python3.11" >&2; exit 2; \
	    fi; \
	    echo "Making the environment in .venv with $$($$python --version); this takes some minutes ..."; \
	    rm -f $@; $$python -m venv --clear .venv; \
	fi; \
	$(PY) -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'; \
	printf '%s' '$(CURDIR)' > $@
