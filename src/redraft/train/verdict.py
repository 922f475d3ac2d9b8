"""What a finished run's held-out scores say, in one sentence.

They are likelihoods, preferences and predictions. What a policy's answers cost is not among them: ``redraft evaluate``
compares what it writes, and only people's edits tell what they change.
"""

from __future__ import annotations

from redraft.train.runs import Manifest

__all__ = ["verdict"]

CAUTION = "do not serve before `redraft evaluate`"


def verdict(manifest: Manifest) -> str:
    """Say whether a policy finds held-out edits likelier than its reference does; for rl, what costs it predicts."""
    metrics, than = manifest.metrics, manifest.options.get("start") or "base"
    nll, before = metrics.get("nll", 0.0), metrics.get("reference_nll")
    moved = metrics.get("chosen_above_reference")
    begun = next((line["eval_own_cost"] for line in manifest.history if "eval_own_cost" in line), None)
    if begun is not None and "own_cost" in metrics:
        costs = f"{begun:.2f} → {metrics['own_cost']:.2f}"
        if metrics["own_cost"] >= begun:
            return f"its answers are predicted to cost no less than those of {than} ({costs}): {CAUTION}"
        return f"its answers are predicted to cost less than those of {than} ({costs}); only edits tell the real cost"
    if moved is not None and moved < 0:
        return f"held-out edits became less likely than under {than} ({moved:+.0f} nats each): {CAUTION}"
    if before is None:  # trained by a version that did not keep it
        return f"held-out edits have nll {nll:.2f} (nats per token)"
    if nll >= before:
        return f"no likelier than {than} on held-out edits (nll {before:.2f} → {nll:.2f}): {CAUTION}"
    return f"likelier than {than} on held-out edits (nll {before:.2f} → {nll:.2f})"
