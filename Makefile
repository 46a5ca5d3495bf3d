# The one menu. Every target makes what it needs: `make demo` and `make test` are enough on a
# machine that has git, make and python3-venv. PYTHON=... chooses another interpreter.

SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help
.PHONY: help demo test check bench bench-full image fmt lint type compile lock proto docs clean
MAKEFLAGS += --no-print-directory

PYTHON ?=
# What demo and test run is interpreted: a newcomer sees them minutes earlier, whoever changes a
# file does not wait each time. `make demo PILLION_COMPILE=1` compiles it. No setting of a sidecar,
# which would refuse it.
PILLION_COMPILE ?= 0
unexport PILLION_COMPILE
export PYTHON
export PATH := $(PATH):/usr/sbin:/sbin
ARGS ?=
VENV := .venv/bin
# The installed wheel is under test, not the checkout: what a user runs, package data included.
# Compiled or not, `python -m pytest` without this tests the checkout.
INSTALLED := PYTHONSAFEPATH=1
# The compiled core, with the rest of the checkout behind it.
MEASURED := PYTHONSAFEPATH=1 PYTHONPATH=build/compiled:.
COMPILER := $(if $(filter 1,$(PILLION_COMPILE)),compile)

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

demo:  ## two workloads, their sidecars and real traffic on this machine
	@for each in demo $(COMPILER); do tools/debian-packages $$each; done
	@PILLION_COMPILE=$(PILLION_COMPILE) tools/venv runtime $(COMPILER) project
	@$(VENV)/pillion demo $(ARGS)

test:  ## every test this machine can run; ARGS="-k words" narrows it
	@tools/debian-packages test
	@tools/venv dev project
	@$(INSTALLED) $(VENV)/python -m pytest $(ARGS)

check:  ## what CI runs: lint, types, tests, and the tests once more on the compiled core
	@.ci/run

bench:  ## figures beside haproxy, nginx and stunnel, the core compiled; ARGS=clusters: other clusters
	@for each in bench compile; do tools/debian-packages $$each; done
	@tools/venv dev compiled
	@$(MEASURED) $(VENV)/python -m bench $(ARGS)

bench-full:  ## every row, growth, policy and balance; as root other clusters as well: half an hour
	@for each in bench compile; do tools/debian-packages $$each; done
	@tools/venv dev compiled
	@run() { $(MEASURED) $(VENV)/python -m "$$@" || missed="$$missed, $$*"; }; missed=; \
	    run bench --full; run bench.growth; run bench.policy --save; run bench.balance --save; \
	    if [ "$$(id -u)" = 0 ]; then run bench clusters; else echo "other clusters need root"; fi; \
	    [ -z "$$missed" ] || { echo "could not be run, or a target is missed: $${missed#, }"; exit 1; }

image:  ## the container images: the sidecar's, and the init container's
	@docker info >/dev/null 2>&1 || tools/debian-packages image
	@tools/image

fmt:  ## format, and repair what the linter can
	@tools/venv dev
	@$(VENV)/ruff check --fix-only --quiet .
	@$(VENV)/ruff format .

lint:  ## ruff, every rule minus a short list with reasons
	@tools/venv dev
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .

type:  ## mypy --strict, tests and bench included
	@tools/venv dev
	@$(VENV)/mypy .

compile:  ## the wheel with the compiled core, in build/wheel and build/compiled
	@tools/debian-packages compile
	@tools/venv dev compiled

lock:  ## resolve requirements/*.lock anew; ARGS=--keep changes only what must
	@tools/venv tools
	@$(VENV)/python tools/lock.py $(ARGS)

proto:  ## the control API's messages, generated anew from api/proto
	@tools/venv tools
	@$(VENV)/python -m grpc_tools.protoc -Iapi/gen=api/proto \
	    --python_out=. --pyi_out=. api/proto/*.proto

docs:  ## the pages of docs/ that are made from tables in the code
	@tools/venv dev
	@$(VENV)/python -m tools.pages

clean:  ## remove everything made here
	@rm -rf .venv build dist pillion.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
