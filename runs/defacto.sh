#!/usr/bin/env bash
# The loop on real human edits: DeFacto's corrected summaries, three policies, held-out evaluation.
# Needs $REDRAFT_DATA (see results/defacto/README.md); about ten minutes on two cores. Usage: runs/defacto.sh [FOLDER]
set -euo pipefail
work="${1:-defacto}"
mkdir -p "$work" results/defacto
log="sqlite:///$work/redraft.db"
redraft import "$REDRAFT_DATA/edits/defacto/train.jsonl" --format defacto --task summary --log "$log"
redraft diagnose summary --log "$log" --cost whitespace --json > results/defacto/diagnosis.json
redraft train all summary --log "$log" --policies "$work/policies" --limit 64 --epochs 2 --learning-rate 2e-4 \
  --max-prompt 256 --max-response 96 --json > "$work/training.json"
redraft evaluate summary --holdout "$REDRAFT_DATA/edits/defacto/val.jsonl" --format defacto --limit 60 \
  --policies "$work/policies" --max-prompt 256 --max-new-tokens 48 --out results/defacto/evaluation.json
