"""A random Llama that fits in a test: two layers, byte tokens, a ChatML template that ends turns with <|im_end|>."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from redraft.lm.load import Base, load_base
from redraft.train.runs import Manifest, write_manifest

os.environ["HF_HUB_OFFLINE"] = "1"  # no test may ask a hub, whoever starts it
os.environ["REDRAFT_PRECISION"] = "float32"  # equalities are tested to its last digits, on whatever machine
settings.register_profile("redraft", deadline=None)  # a busy machine is no failure
settings.load_profile("redraft")

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


@pytest.fixture(autouse=True)
def one_torch_thread(request: pytest.FixtureRequest) -> Generator[None]:
    """Keep torch to one thread, except in slow tests: over tiny tensors a second one costs four times what it saves."""
    torch = sys.modules.get("torch")
    if torch is None or request.node.get_closest_marker("slow"):
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny model with its tokenizer, as ``save_pretrained`` leaves it."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    symbols = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    byte_level = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(symbols)}, []))
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_level.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHATML
    config = LlamaConfig(
        vocab_size=len(symbols),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.2,  # wide enough that the greedy token is never nearly a tie
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    folder = tmp_path_factory.mktemp("tiny")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_base(tiny_model_folder: Path) -> Base:
    """The tiny model, loaded as every base model is. Shared by the session: leave its weights as they are."""
    return load_base(str(tiny_model_folder), tiny_model_folder.parent)


@pytest.fixture(scope="session")
def tiny_policies(tiny_model_folder: Path) -> Path:
    """Root of a policy store over the tiny model: email/sft@1, email/sft@2 and email/dpo@1, each of random weights."""
    import torch
    from peft import LoraConfig, get_peft_model

    root = tiny_model_folder.parent / "policies"
    for seed, name in enumerate(("sft@1", "sft@2", "dpo@1")):
        base = load_base(str(tiny_model_folder), root)
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            torch.manual_seed(seed)
            shape = LoraConfig(
                r=4, lora_alpha=16, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
            )
            model: Any = get_peft_model(base.model, shape)
        folder = root / "email" / name
        model.save_pretrained(folder)
        known = {"name": base.name, "source": base.source, "revision": base.revision}
        limits = {"prompt": 64, "response": 64}
        write_manifest(folder, Manifest(f"email/{name}", "complete", known, {"train": 8}, limits, {"method": name[:3]}))
    return root
