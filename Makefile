# Everything that is done to this checkout. Needs make, Python 3.11 or newer, and a package registry.
#   STATE=DIR       state directory of `up` and `down` (the user's XDG state folder)
#   LISTEN=H:P      where `up` listens (127.0.0.1:8774)
#   FLEET=FILE      simulated hosts of `up` (demo)
#   SEEDS=N         how many schedules `faults` and `soak` go through (10000, 1000000), from seed FROM=N on (0)
#   EVERY=N         which of the real kills of `faults` are carried out: each N-th (1)
#   PYTHON=python3  what the virtual environment is made with

PYTHON ?= python3
LISTEN ?= 127.0.0.1:8774
FLEET ?= demo
VENV := .venv
BIN := $(VENV)/bin
export STATE SEEDS

SHELL := /bin/sh
.ONESHELL:
.SHELLFLAGS := -euc
.PHONY: help up down test faults fuzz mutants soak kills compat lab lint review bench

help:
	@echo "make up     install Lamina into $(VENV), serve the demo fleet in the background, show what it does"
	echo "make down   stop what 'make up' has started"
	echo "make test   run the tests"
	echo "make kills  kill one of two control planes every five seconds, for SECONDS_OF_KILLS (120), under load; then restart it so"
	echo "make faults run seeded schedules of crashes and faults, Lamina with one protection less, again and again, and real SIGKILLs"
	echo "make fuzz   feed every parser with nonsense, RUNS=N times each (100000)"
	echo "make mutants change one thing at a time in the modules that decide, and count which changes the tests notice (hours)"
	echo "make soak   run a million schedules; FROM=SEED goes on where it was stopped"
	echo "make compat put OpenStack Placement's own tests, and random questions, to Lamina's Placement API"
	echo "make lab    run the tests that need a real kernel, in an emulated machine (needs Debian 12 and root)"
	echo "make lint   check style, types and the floors of the house"
	echo "make review look for the weaknesses of CWE-1000 in the sources; CHECK=1 only tells whether its report is up to date"
	echo "make bench  measure"

# one stamp for each set of packages; a changed pyproject.toml installs again
install = \
	if command -v uv >/dev/null; then \
		uv pip install --quiet --python $(BIN)/python --editable '$(1)'; \
	else \
		$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '$(1)'; \
	fi

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
		echo "Lamina needs Python 3.11 or newer: say 'make $(MAKECMDGOALS) PYTHON=python3.12', or where yours is." >&2
		exit 1
	}
	echo "Making $(VENV)."
	if command -v uv >/dev/null; then
		uv venv --quiet --python "$$(command -v $(PYTHON))" $(VENV)
	elif ! $(PYTHON) -m venv $(VENV); then
		rm -rf $(VENV)
		echo "Python's venv module is incomplete here: on Debian and Ubuntu, 'sudo apt install python3-venv' mends that." >&2
		exit 1
	fi

$(VENV)/.clients: pyproject.toml | $(BIN)/python
	@echo "Installing Lamina and the OpenStack clients into $(VENV)."
	$(call install,.[clients])
	touch $@

$(VENV)/.dev: pyproject.toml review/pyproject.toml | $(BIN)/python
	@echo "Installing Lamina with everything its tests need into $(VENV)."
	$(call install,.[dev])
	$(call install,./review)
	touch $@ $(VENV)/.clients

default_state = $$($(BIN)/python -c 'from lamina.cli.state import default_state; print(default_state())')

up: $(VENV)/.clients
	@state="$${STATE:-$(default_state)}"
	if $(BIN)/lamina fleet show --state "$$state" >/dev/null 2>&1; then
		echo "Lamina is serving already."
	else
		mkdir -p -m 700 "$$state"
		# in a session of its own where that can be had, so that Ctrl-C here does not stop it
		$$(command -v setsid || true) nohup $(BIN)/lamina up --fleet $(FLEET) --state "$$state" --listen $(LISTEN) >"$$state/up.log" 2>&1 </dev/null &
		pid=$$!
		echo $$pid >"$$state/up.pid"
		until grep -q '^ready ' "$$state/up.log"; do
			kill -0 $$pid 2>/dev/null || { tail -n 5 "$$state/up.log" >&2; rm -f "$$state/up.pid"; exit 1; }
			sleep 0.1
		done
		grep '^ready ' "$$state/up.log"
	fi
	$(BIN)/lamina demo --state "$$state"
	echo
	echo "Lamina goes on serving. Now try:"
	echo "  export OS_CLIENT_CONFIG_FILE=$$state/clouds.yaml OS_CLOUD=lamina"
	echo "  $(BIN)/openstack server list"
	echo "  $(BIN)/lamina fleet show --state $$state"
	echo "'make down' stops it; its log is $$state/up.log."

down:
	@test -x $(BIN)/python || { echo "Nothing is running: there is no $(VENV)."; exit 0; }
	state="$${STATE:-$(default_state)}"
	test -f "$$state/up.pid" || { echo "Nothing is running that 'make up' has started."; exit 0; }
	pid=$$(cat "$$state/up.pid")
	# a process id may have gone to another program since
	if tr '\0' ' ' 2>/dev/null <"/proc/$$pid/cmdline" | grep -qF "lamina up --fleet $(FLEET) --state $$state "; then
		kill "$$pid"
		while kill -0 "$$pid" 2>/dev/null; do sleep 0.1; done
		echo "Lamina has stopped."
	else
		echo "Lamina had stopped already."
	fi
	rm -f "$$state/up.pid"

# a real Keystone stands apart too
KEYSTONE := .keystone

$(KEYSTONE)/.installed: tests/scenario/keystone-requirements.txt
	@echo "Installing OpenStack Keystone into $(KEYSTONE)."
	rm -rf $(KEYSTONE)
	$(PYTHON) -m venv $(KEYSTONE)
	$(KEYSTONE)/bin/python -m pip install -qq --disable-pip-version-check -r tests/scenario/keystone-requirements.txt
	touch $@

test: $(VENV)/.dev $(KEYSTONE)/.installed
	@$(BIN)/pytest -n 2

kills: $(VENV)/.dev
	@LAMINA_KILL_SECONDS=$${SECONDS_OF_KILLS:-120} $(BIN)/pytest -s -q tests/scenario/test_replicas_killed.py

FROM ?= 0

faults: $(VENV)/.dev
	@$(BIN)/python -m tests.faults.simulator --from $(FROM) --seeds $${SEEDS:-10000}
	$(BIN)/python -m tests.faults.variants
	$(BIN)/python -m tests.faults.kills --every $${EVERY:-1}

fuzz: $(VENV)/.dev
	@$(BIN)/python -m tests.pillars.fuzz --runs $${RUNS:-100000}

mutants: $(VENV)/.dev
	@$(BIN)/python -m tests.mutation $(MODULES)

soak: $(VENV)/.dev
	@$(BIN)/python -m tests.faults.simulator --from $(FROM) --seeds $${SEEDS:-1000000}

# OpenStack Placement stands apart: it needs older libraries than Lamina does
COMPAT := .compat

$(COMPAT)/.installed: compat/requirements.txt
	@echo "Installing OpenStack Placement into $(COMPAT)."
	rm -rf $(COMPAT)
	$(PYTHON) -m venv $(COMPAT)
	$(COMPAT)/bin/python -m pip install -qq --disable-pip-version-check -r compat/requirements.txt
	touch $@

compat: $(VENV)/.clients $(COMPAT)/.installed
	@$(COMPAT)/bin/python -m compat --lamina $(BIN)/lamina

lab: $(VENV)/.dev
	@$(BIN)/python -m lab
	$(BIN)/pytest -s tests/lab

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

review: $(VENV)/.dev
	@$(BIN)/lamina-review src/lamina --tests tests --waivers docs/security/waivers.toml --title "Security review of Lamina" \
		--markdown docs/security/review.md $(if $(CHECK),--check,--json build/review.json --sarif build/review.sarif)
	echo "docs/security/review.md says what was examined$(if $(CHECK),, and build/ has it as JSON and SARIF)."

bench: $(VENV)/.clients
	@$(BIN)/lamina bench operations
