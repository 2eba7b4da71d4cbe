# Every target sets itself up: all that is needed is make and Python 3.11, 3.12 or 3.13.
# Another interpreter: make test PYTHON=/path/to/python3.12
# A python that has MindSpore, for the benchmarks: make bench MINDSPORE=/path/to/python

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$p && break; done)
BIN := .venv/bin
# Tests start hundreds of processes. Where this is set, as in many containers, each of them compiles
# all that it imports, paramesh and JAX, anew: 2 to 3 seconds every time.
unexport PYTHONDONTWRITEBYTECODE
# Python compiles what is imported when it is; all of it in advance takes longer than the rest.
PIP := PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -q --no-compile
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
PYTEST := $(BIN)/python -m pytest
WORKERS ?= 2
# What the programs share, and what feeds another program, are none to run by themselves.
BENCHMARKS := $(sort $(filter-out $(addprefix benchmarks/,harness.py processor_time.py record.py random_bits.py), \
	$(wildcard benchmarks/*.py)))
# For the inner loop: of each area the tests that compile little. They need nothing but the package,
# so that they also run against an installed one.
FAST := $(addprefix tests/, \
	$(addprefix test_,dtype.py context.py compat_jax.py import.py public_names.py) \
	$(addprefix tensor/test_,tensor.py) $(addprefix parameter/test_,parameter.py) \
	$(addprefix nn/test_,cell.py names.py) ops/test_table.py optim/test_groups.py \
	parallel/layouts/test_layout.py parallel/communication/test_management.py \
	checkpoint/test_checkpoint.py \
	$(addprefix programs/test_,jit.py trace_scope.py outputs.py stages.py functional.py pools.py) \
	$(addprefix ps/server/test_,server.py store.py) ps/specification/test_partition.py \
	ps/deployment/test_access.py \
	$(addprefix train/test_,metrics.py cells.py) cli/test_inspect.py)
BOUNDS ?= newest

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test suite test-fast check test-slow test-scripts test-targets test-wheel release test-versions bench docs stubs format clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

demo: .venv/.demo  ## Train LeNet-5 on handwritten digits
	$(BIN)/paramesh demo

test: .venv/.dev  ## Lint, format, types, floors, docs, and every test that is not slow
	$(MAKE) --no-print-directory -j 2 check suite

# Beside `check`, whose parts keep one core busy.
suite: .venv/.dev
	$(PYTEST) -n $(WORKERS) --durations=20

test-fast: .venv/.dev  ## Some of the tests of everything, in less than two minutes
	$(PYTEST) -n $(WORKERS) -q $(FAST)

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(MKDOCS)

test-slow: .venv/.dev  ## The slow tests
	PARAMESH_TEST_COMPILER=full $(PYTEST) -m slow --durations=20

test-scripts: .venv-scripts/.stamp  ## Train public scripts: PARAMESH_SCRIPTS has the repositories
	JAX_PLATFORMS=cpu PARAMESH_TEST_COMPILER=full .venv-scripts/bin/python -m pytest -m "" tests/scripts

test-targets: .venv-targets/.stamp  ## Compile everything for a GPU and a TPU that are not here
	JAX_PLATFORMS=cpu .venv-targets/bin/python -m pytest -m "" --durations=20 tests/targets

test-wheel: | .venv/pyvenv.cfg  ## Build wheel and sdist, and test both outside of the checkout
	.ci/test-wheel $(CURDIR)/$(BIN)/python -n $(WORKERS) $(FAST)

release: | .venv/pyvenv.cfg  ## VERSION=X.Y.Z: number, build, test and tag a release; UPLOAD=yes: publish it
	.ci/release $(CURDIR)/$(BIN)/python "$(VERSION)" "$(UPLOAD)"

test-versions: | .venv/pyvenv.cfg  ## Test with BOUNDS=lowest or newest JAX and Ray
	.ci/test-versions $(BOUNDS) $(CURDIR)/$(BIN)/python -n $(WORKERS) $(FAST)

bench: .venv/.bench  ## What is claimed about speed, against peers
	set -e; for program in $(BENCHMARKS); do echo "== $$program"; $(BIN)/python $$program \
		$(if $(MINDSPORE),$$(grep -q -e --mindspore-python $$program && echo --mindspore-python $(MINDSPORE))); done

docs: .venv/.dev  ## Build the documentation into site/
	$(MKDOCS)

stubs: .venv/.dev  ## Write src/paramesh-stubs anew: what type checkers know of names that the source makes
	$(BIN)/python tests/support/type_stubs.py

format: .venv/.dev  ## Format and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove the environment, caches and outputs
	rm -rf .venv .venv-scripts .venv-targets site demo runs dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp for each set of extras; it is older than its causes when there is something to install.
.venv/.demo: EXTRAS := demo
.venv/.dev: EXTRAS := demo,examples,images,orbax,ps,summary,test,docs
.venv/.bench: EXTRAS := dataset,demo,ps,bench

.venv/.demo .venv/.dev .venv/.bench: pyproject.toml constraints.txt | .venv/pyvenv.cfg
	@echo "Installing paramesh[$(EXTRAS)] into .venv"
	@$(PIP) -e '.[$(EXTRAS)]'
	@touch $@

# Of their own: with a compiler of GPUs beside it, JAX looks for GPUs whenever it starts.
.venv-targets/.stamp: pyproject.toml constraints.txt | .venv/pyvenv.cfg
	@echo "Installing paramesh[plan-cuda,plan-tpu] into .venv-targets"
	@$(BIN)/python -m venv .venv-targets
	@PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 .venv-targets/bin/python \
		-m pip install -q -e '.[examples,plan-cuda,plan-tpu,ps,test]'
	@touch $@

# What scripts import goes into an environment of its own: some of it is older than what paramesh needs.
.venv-scripts/.stamp: pyproject.toml constraints.txt tests/scripts/requirements.txt | .venv/pyvenv.cfg
	@echo "Installing paramesh[dataset,ps,test] and what scripts import into .venv-scripts"
	@$(BIN)/python -m venv .venv-scripts
	@PIP_DISABLE_PIP_VERSION_CHECK=1 .venv-scripts/bin/python -m pip install -q -e '.[dataset,ps,test]' \
		-r tests/scripts/requirements.txt
	@touch $@

.venv/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "paramesh needs Python 3.11, 3.12 or 3.13, and none of python3," \
		"python3.13, python3.12, python3.11 is one. Install one, or name it:" \
		"make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v[:2] <= (3, 13) \
		else f"paramesh needs Python 3.11, 3.12 or 3.13; {sys.executable} is {v[0]}.{v[1]}")'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "$(PYTHON) cannot make a virtual environment;" \
		"on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
