"""The same with SmolLM2: real training, and a folder that plain PEFT can load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from redraft.config import load_settings
from redraft.lab.bench.office import office_contexts
from redraft.lab.users import user_rng
from redraft.lab.users.catalogue import get_user
from redraft.lm.load import EMBEDDED, Base, load_base
from redraft.lm.logprobs import frozen_head, packed_logprobs
from redraft.policies.adapter import AdapterHost
from redraft.train.dataset import prepare
from redraft.train.fit import fit
from redraft.train.options import TrainOptions
from redraft.train.packing import Limits, collate, encode
from redraft.train.run import Run
from redraft.types import Completion, Decoding, Edit, Interaction

from .test_packing import plain

pytestmark = pytest.mark.slow

PLAIN_PEFT = """
import json, sys
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer
folder, messages = sys.argv[1], json.loads(sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoPeftModelForCausalLM.from_pretrained(folder)
ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
out = model.generate(**ids, do_sample=False, max_new_tokens=24)
assert "redraft" not in sys.modules
print(json.dumps(tokenizer.decode(out[0, ids["input_ids"].shape[1]:], skip_special_tokens=True)))
"""


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base(EMBEDDED, load_settings().cache)


def interactions(count: int) -> list[Interaction]:
    user, rows = get_user("office", "strong"), list[Interaction]()
    for context in office_contexts(count, seed=5):
        draft = "Subject: News\n\nDear [Recipient],\n\nI hope this email finds you well. I am writing about a meeting."
        edited = user.edit(context, draft, t=0, rng=user_rng(0, context.id))
        rows.append(Interaction(Completion(context.id, "email", context.messages, draft), Edit(context.id, edited)))
    return rows


def test_packed_equals_plain(base: Base) -> None:
    rows = encode(interactions(4), base.tokenizer, Limits())
    with torch.no_grad():
        found = packed_logprobs(base.model, collate(rows, base.pad, pairs=True), frozen_head(base.model))
        for i, t in enumerate(rows):
            assert t.rejected is not None
            for total, response in ((found.chosen[i], t.chosen), (found.rejected[i], t.rejected)):
                expected = plain(base.model, t.prompt, response)
                assert float(total) / len(response) == pytest.approx(expected / len(response), abs=1e-4)


@pytest.mark.timeout(900)
def test_training_learns_and_plain_peft_gives_the_same_text(base: Base, tmp_path: Path) -> None:
    options = TrainOptions(method="early", epochs=2, batch_size=6, holdout=0.2, max_response=80)
    data = prepare(interactions(30), base, options)
    manifest = fit(Run(base, data, options, tmp_path / "early@1", "email/early@1", tmp_path / "cache"))
    held = [line["eval_nll"] for line in manifest.history if "eval_nll" in line]
    assert held[-1] < held[0]
    assert manifest.metrics["chosen_above_reference"] > 10
    (context,) = office_contexts(41, seed=5)[40:]
    host = AdapterHost(base)
    policy = host.load("email/early@1", tmp_path / "early@1")
    (ours,) = policy.respond([context.messages], Decoding(max_new_tokens=24))
    (untrained,) = host.policy().respond([context.messages], Decoding(max_new_tokens=24))
    messages = json.dumps([{"role": m.role, "content": m.content} for m in context.messages])
    command = [sys.executable, "-W", "ignore", "-c", PLAIN_PEFT, str(tmp_path / "early@1"), messages]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert json.loads(printed.strip().splitlines()[-1]) == ours
    assert ours != untrained
