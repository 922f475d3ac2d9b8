"""Which text architectures of the installed transformers read pairs packed, and which in two passes.

    python benchmarks/architectures.py results/architectures/table.csv [NAME …]

Builds each from a small configuration, moves its weights so that every layer matters, and compares the log-probability
of y' and y in a batch with that of each text alone, the greedy continuation of a batch with those one by one, and says
which way ``reading_of`` chose. Left out: weights that anyone trained, half precision, accelerators.
"""

from __future__ import annotations

import csv
import inspect
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

VOCABULARY = 200
WINDOW = 8
# What configurations call their sizes; only names that a configuration knows are set.
SIZES: dict[str, Any] = {
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "lru_width", "word_embed_proj_dim"), 64
    ),
    **dict.fromkeys(("attention_hidden_size", "embedding_dim", "input_embedding_size", "dim_model", "emb_dim"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "linear_num_value_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "linear_num_key_heads", "n_kv_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("head_dim", "v_head_dim", "qk_nope_head_dim", "dim_head", "attention_head_dim", "d_kv"), 16),
    **dict.fromkeys(("global_head_dim", "kv_lora_rank", "q_lora_rank", "linear_key_head_dim"), 16),
    **dict.fromkeys(("linear_value_head_dim", "index_head_dim", "kv_channels", "swa_head_dim", "swa_v_head_dim"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "rotary_dim"), 8),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "d_ff", "ffn_hidden_size", "dim_ff"), 96),
    **dict.fromkeys(("decoder_ffn_dim", "encoder_ffn_dim", "dff", "moe_intermediate_size", "ff_dim"), 96),
    **dict.fromkeys(("shared_expert_intermediate_size", "shared_intermediate_size", "expert_ffn_hidden_size"), 96),
    **dict.fromkeys(("intermediate_size_mlp", "moe_shared_expert_intermediate_size"), 96),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "moe_topk", "num_experts_per_token"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "n_groups", "mamba_n_groups"), 1),
    **dict.fromkeys(("mamba_ngroups", "first_k_dense_replace", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("state_size", "mamba_d_state", "mamba_state_dim", "ssm_state_size"), 8),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_headdim"), 16),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size", "block_multiple_of"), 16),
    **dict.fromkeys(("mamba_expand", "expand"), 2),
    **dict.fromkeys(("sliding_window", "window_size", "attention_window_size", "attention_chunk_size"), WINDOW),
    **dict.fromkeys(("local_attention", "sliding_window_size"), WINDOW),
    **dict.fromkeys(("vocab_size", "text_vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "context_length", "n_ctx"), 512),
    "hidden_size_per_layer_input": 16,
    "query_pre_attn_scalar": 16,
    "mamba_d_ssm": 128,
    "mamba_dt_rank": 8,
    "time_step_rank": 8,
    "laurel_rank": 8,
    "num_kv_shared_layers": 0,
    "num_mem_blocks": 1,
    "is_decoder": True,
    "use_sliding_window": True,
    "max_window_layers": 1,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "attention_dropout": 0.0,
}
SPECIAL: dict[str, dict[str, Any]] = {  # where two sizes hang together, or the kinds of layers follow from other names
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "gpt_neo": {"num_layers": 2, "attention_types": [[["global", "local"], 1]]},
    "minicpm3": {"head_dim": None},
    "bamba": {"attn_layer_indices": [1]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "dots3_note_text": {"num_key_value_heads": 4},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "zamba2": {
        "attention_hidden_size": 128,
        "attention_head_dim": 32,
        "mamba_headdim": 16,
        "n_mamba_heads": 8,
        "mamba_expand": 2,
        "mamba_ngroups": 1,
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "reformer": {"axial_pos_embds_dim": [32, 32], "axial_pos_shape": [16, 32]},
    "zaya": {"num_experts_per_tok": 1},
}
LISTS = ("layer_types", "layers_block_type", "mlp_layer_types", "block_types", "hybrid_override_pattern")


def names() -> list[str]:
    """Every architecture with a causal head, by its model type."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    return sorted({config.model_type for config in MODEL_FOR_CAUSAL_LM_MAPPING})


def tiny(name: str) -> Any:
    """Build ``name`` small, with a window of ``WINDOW`` where it has one and two layers of each kind's default.

    Raises whatever its configuration or its model raises.
    """
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    kind = CONFIG_MAPPING[name]
    if set(getattr(kind, "sub_configs", {})) & {"text_config", "vision_config", "audio_config", "audio_encoder"}:
        raise ValueError("reads more than text; its text part is an architecture of its own")
    if name == "blt":
        raise ValueError("four models in one, each with a configuration of its own")
    given = kind()
    known = set(given.to_dict()) | set(inspect.signature(kind.__init__).parameters) | set(kind.attribute_map)
    sizes = {k: v for k, v in SIZES.items() if k in known}
    for field in LISTS:
        kinds = getattr(given, field, None)
        derived = isinstance(getattr(kind, kind.attribute_map.get(field, field), None), property)
        if not derived and isinstance(kinds, list) and kinds and isinstance(kinds[0], str):
            some = list(dict.fromkeys(kinds))
            sizes[field] = some if len(some) > 1 else some * 2
    layers = max([len(sizes[field]) for field in LISTS if field in sizes], default=2)
    for field in LISTS:
        if field in sizes:
            sizes[field] = (sizes[field] * layers)[:layers]
    sizes |= {k: layers for k in ("num_hidden_layers", "n_layer", "num_layers") if k in sizes} | SPECIAL.get(name, {})
    if "qk_rope_head_dim" in sizes:  # multi-head latent attention: no groups of heads, and head_dim is the turned part
        sizes |= {k: v for k, v in (("head_dim", 8), ("num_key_value_heads", 4)) if k in sizes}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(kind(**sizes)).float().eval()
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
        parameter.data.add_(0.05 * noise)
    return model


def triples() -> list[Any]:
    """Three pairs, longer than the window, of different lengths."""
    from redraft.train.packing import Triple

    generator = torch.Generator().manual_seed(0)
    sizes = [(14, 10, 12), (9, 7, 16), (20, 15, 5)]
    drawn = [[torch.randint(3, VOCABULARY, (n,), generator=generator).tolist() for n in row] for row in sizes]
    return [Triple(str(i), x, chosen, rejected) for i, (x, chosen, rejected) in enumerate(drawn)]


@torch.no_grad()
def alone(model: Any, prompt: list[int], text: list[int]) -> float:
    """Log π(text | prompt) in nats, of one sequence without padding or mask."""
    logp = model(input_ids=torch.tensor([prompt + text]), use_cache=False).logits[0, len(prompt) - 1 : -1]
    return float(logp.float().log_softmax(-1).gather(1, torch.tensor(text)[:, None]).sum())


@torch.no_grad()
def furthest(model: Any) -> tuple[str, float]:
    """The way chosen and the most that a batch differs from the texts alone, in nats."""
    from redraft.lm.logprobs import frozen_head, packed_logprobs
    from redraft.lm.probe import reading_of
    from redraft.train.packing import collate

    rows, reading = triples(), reading_of(model)
    found = packed_logprobs(model, collate(rows, 0, pairs=True), frozen_head(model), reading)
    texts = [(t.chosen, t.rejected) for t in rows]
    own = [
        [alone(model, t.prompt, text) for t, text in zip(rows, part, strict=True)] for part in zip(*texts, strict=True)
    ]
    return reading.way, float((torch.stack([found.chosen, found.rejected]).double() - torch.tensor(own)).abs().max())


@torch.no_grad()
def generates_alike(model: Any, tokens: int = 6) -> bool:
    """Whether a left-padded batch continues as each prompt does when it is read whole, without a cache.

    Once with all rows to the end, and once with a prompt that comes twice and rows that leave the batch early.
    """
    from redraft.lm.generate import generate_ids
    from redraft.types import Decoding

    prompts = [t.prompt for t in triples()]
    model.generation_config.eos_token_id = None
    own: list[list[int]] = []
    for prompt in prompts:
        ids = list(prompt)
        for _ in range(tokens):
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        own.append(ids[len(prompt) :])
    stop = frozenset({own[0][0], own[-1][tokens // 2]})
    ended = [answer[: next((n for n, token in enumerate(answer, 1) if token in stop), tokens)] for answer in own]
    twice = generate_ids(model, [*prompts, prompts[-1]], Decoding(tokens), stop)
    return [*own, *ended, ended[-1]] == generate_ids(model, prompts, Decoding(tokens), frozenset()) + twice


def rows(wanted: list[str]) -> Iterator[dict[str, str]]:
    """One row for each architecture: its way, how far off it is, whether it generates alike, or why it is left out."""
    for name in wanted:
        row = dict.fromkeys(("architecture", "way", "nats", "generates", "why"), "") | {"architecture": name}
        try:
            model = tiny(name)
        except ValueError as error:
            if "more than text" in str(error):
                continue
            yield row | {"way": "not built", "why": _line(error)}
            continue
        except Exception as error:
            yield row | {"way": "not built", "why": _line(error)}
            continue
        try:
            way, nats = furthest(model)
            row |= {"way": way, "nats": f"{nats:.1e}"}
        except Exception as error:
            row |= {"way": "refused", "why": _line(error)}
        try:
            row["generates"] = "alike" if generates_alike(model) else "differs"
        except Exception as error:
            row["generates"] = _line(error)
        yield row


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def main() -> None:
    """Write the table as it grows, and print it."""
    warnings.simplefilter("ignore")
    path, wanted = Path(sys.argv[1]), sys.argv[2:] or names()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = None
        for row in rows(wanted):
            writer = writer or csv.DictWriter(file, list(row), lineterminator="\n")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)
            file.flush()
            print(*row.values(), sep=" | ", flush=True)


if __name__ == "__main__":
    main()
