"""What a model folder is: a hash of every byte that decides what it computes and how texts become its tokens.

Configurations, tokenizer and chat template count as the weights do. All is read whole, so nothing that changed is
missed: files go side by side, and loading reads the same bytes again. Names are relative and
times do not count: a copy is the same model.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from redraft.errors import ModelError

__all__ = ["earlier_fingerprint", "fingerprint"]

_READ = (
    *("*.safetensors", "pytorch_model*.bin", "*.index.json", "config.json", "generation_config.json"),
    *("adapter_config.json", "adapter_model.bin", "tokenizer*", "tekken.json", "vocab.*", "merges.txt", "*.model"),
    *("*.tiktoken", "special_tokens_map.json", "added_tokens.json", "chat_template*", "additional_chat_templates/*"),
)
_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16


def fingerprint(folder: Path) -> str:
    """Twelve hexadecimal digits. Raises ``ModelError`` where the folder holds no model or a file cannot be read."""
    if not (folder / "config.json").exists():
        raise ModelError(f"base model {folder}: no config.json there; give a folder saved by save_pretrained")
    files = sorted({file for pattern in _READ for file in folder.glob(pattern) if file.is_file()})
    try:
        with ThreadPoolExecutor() as pool:
            digests = list(pool.map(_digest, files))
    except OSError as error:
        raise ModelError(f"base model {folder}: {error.filename} cannot be read ({error.strerror})") from error
    named = (f"{file.relative_to(folder).as_posix()} {digest}\n" for file, digest in zip(files, digests, strict=True))
    return hashlib.sha256("".join(named).encode()).hexdigest()[:12]


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def earlier_fingerprint(folder: Path) -> str | None:
    """What 0.1.0 before December 2026 recorded: the configuration and samples of safetensors; ``None`` without any.

    Policies made then name it, and go on working unless these changed.
    """
    digest, weights = hashlib.sha256((folder / "config.json").read_bytes()), sorted(folder.glob("*.safetensors"))
    for file in weights:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        with file.open("rb") as opened:
            for part in range(_SAMPLES):
                opened.seek(size * part // _SAMPLES)
                digest.update(opened.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:12] if weights else None
