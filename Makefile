# Everything a developer or a new user types.  `make help` lists it.
.DEFAULT_GOAL := help
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# What the benchmark measures beside ours, kept out of the product's environment.
COMPARE := .venv-compare
COMPARE_STAMP := $(COMPARE)/.installed
# The interpreter to build the virtual environment with: the first one that is 3.11 or newer.
BASE_PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$p; break; }; done)

.PHONY: help install run demo test lint bench jepsen mutants soak clean

# Where the runs of `jepsen` and `mutants` go.
REPORT ?= $(shell mktemp -d /tmp/jepsen-like-XXXXXX)
HOURS ?= 2

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml
	@test -n "$(BASE_PYTHON)" || { echo "raftsched needs Python 3.11 or newer (apt-get install python3 python3-venv)"; exit 1; }
	@test -x $(PY) || $(BASE_PYTHON) -m venv $(VENV) || { echo "cannot make a virtual environment: apt-get install python3-venv"; exit 1; }
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[test,fast]'
	@touch $@

install: $(STAMP)  ## Make .venv and install raftsched with what the tests need

run: $(STAMP)  ## Start three peers on loopback with a small demo workload; Ctrl-C stops them
	@$(VENV)/bin/raftsched dev --demo

demo: $(STAMP)  ## Real work on three peers, the leader killed in the middle, every result checked
	@$(PY) -m raftsched.cli.demo

test: $(STAMP)  ## The gate: lint, types and all tests (under ten minutes on two cores)
	$(PY) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder tests

lint: $(STAMP)  ## Format and lint
	$(VENV)/bin/ruff format raftsched tests jepsen-like
	$(VENV)/bin/ruff check raftsched tests jepsen-like
	$(VENV)/bin/mypy

$(COMPARE_STAMP): pyproject.toml $(STAMP)
	@test -x $(COMPARE)/bin/python || $(PY) -m venv $(COMPARE)
	@$(COMPARE)/bin/python -m pip install --quiet --disable-pip-version-check '.[compare]' && touch $@ \
	|| echo "cannot install Celery, Dramatiq and Huey; they are left out" >&2

bench: $(STAMP) $(COMPARE_STAMP)  ## Measure three peers, then in turns with etcd and Redis queues if installed; JSON
	@$(VENV)/bin/raftsched bench
	@$(VENV)/bin/raftsched bench beside

jepsen: $(STAMP)  ## Real peers, every kind of fault, judged from outside: forty minutes on two cores
	$(PY) jepsen-like suite full --report $(REPORT)

mutants: $(STAMP)  ## Real peers with planted bugs, each of which must be caught
	$(PY) jepsen-like mutants --report $(REPORT)

soak: $(STAMP)  ## For hours: the long forms of the tests, then `jepsen` with ever other seeds (HOURS=2)
	RAFTSCHED_SOAK=1 $(PY) -m pytest -q -n 2 --dist loadfile --timeout 3600 tests
	$(PY) jepsen-like suite soak --hours $(HOURS) --report $(REPORT)

clean:  ## Remove the virtual environment and caches
	rm -rf $(VENV) $(COMPARE) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
