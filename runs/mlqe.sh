#!/usr/bin/env bash
# The loop on real post-edits: MLQE-PE's Romanian-English machine translations, three policies, held-out evaluation.
# Needs $REDRAFT_DATA (see results/mlqe/README.md); about ten minutes on two cores. Usage: runs/mlqe.sh [FOLDER]
set -euo pipefail
work="${1:-mlqe}"
mkdir -p "$work" results/mlqe
log="sqlite:///$work/redraft.db"
redraft import "$REDRAFT_DATA/edits/mlqe-pe-ro-en/train" --format mlqe --task translation --log "$log"
redraft diagnose translation --log "$log" --cost whitespace --json > results/mlqe/diagnosis.json
redraft train all translation --log "$log" --policies "$work/policies" --limit 64 --epochs 2 --learning-rate 2e-4 \
  --max-prompt 256 --max-response 96 --json > "$work/training.json"
redraft evaluate translation --holdout "$REDRAFT_DATA/edits/mlqe-pe-ro-en/dev" --format mlqe --limit 60 \
  --policies "$work/policies" --max-prompt 256 --max-new-tokens 64 --out results/mlqe/evaluation.json
