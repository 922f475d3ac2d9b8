"""Model folders from elsewhere: each is trained on and served rightly, or refused in one line."""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

from redraft.errors import ConfigError, DataError, ModelError, RedraftError
from redraft.gateway.embedded import Embedded
from redraft.gateway.openai import ChatRequest
from redraft.lm.encode import encode_prompt, encode_response
from redraft.lm.generate import generate_ids, spoken, stop_tokens
from redraft.lm.identity import earlier_fingerprint
from redraft.lm.limits import context_of, kept_within
from redraft.lm.load import Base, load_base
from redraft.lm.template import end_of_turn
from redraft.policies.adapter import AdapterHost, merged_model
from redraft.train.dataset import prepare
from redraft.train.fit import fit
from redraft.train.options import TrainOptions
from redraft.train.packing import Limits, encode
from redraft.train.run import Run
from redraft.train.start import begin
from redraft.types import Completion, Decoding, Edit, Interaction, Message

TURNS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content | trim + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not\nsupported') }}{% endif %}"
STRICT = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)
PLAIN = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}{{ 'assistant: ' }}"
LINES = ("Notes: the review moved to Friday at 3 pm, room 204.", "Hi Ann, the parcel arrives on Monday.", "user system")
END = "<|im_end|>"
CHAT = [Message("system", "Be brief."), Message("user", "Notes"), Message("user", "Write.")]
LONG = [Message("user", "Notes on room 204. " * 40)]


def bpe(*, special: tuple[str, ...] = ("<|im_start|>", END), more: tuple[AddedToken, ...] = (), **names: str) -> Any:
    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer, tokens.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained = trainers.BpeTrainer(
        vocab_size=300, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    tokens.train_from_iterator(LINES * 3, trained)
    tokens.add_tokens(list(more))
    return PreTrainedTokenizerFast(tokenizer_object=tokens, **names)


def sentencepiece(model: Any, trainer: Any) -> Any:
    """As Llama's and T5's: blanks are marks, and pieces of the vocabulary are named like control tokens."""
    tokens = Tokenizer(model)
    tokens.pre_tokenizer, tokens.decoder = pre_tokenizers.Metaspace(prepend_scheme="first"), decoders.Metaspace()
    tokens.train_from_iterator([*LINES * 3, "<|im_end|> <|im_start|> </s> See <|>_"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token=END, unk_token="<unk>")


def unigram() -> Any:
    special = ["<unk>", "<|im_start|>", END]
    trainer = trainers.UnigramTrainer(
        vocab_size=90, special_tokens=special, unk_token="<unk>", initial_alphabet=["\n"], show_progress=False
    )
    return sentencepiece(models.Unigram(), trainer)


def marked_bpe() -> Any:
    special = ["<unk>", "<|im_start|>", END]
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=special, initial_alphabet=["\n"], show_progress=False)
    return sentencepiece(models.BPE(unk_token="<unk>"), trainer)


def made(root: Path, tokenizer: Any, template: str | None = TURNS, kind: str = "llama", **config: Any) -> Path:
    """A folder as ``save_pretrained`` leaves it, of two layers of random weights."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": len(tokenizer)}
    own = {"intermediate_size": 64, "num_key_value_heads": 2} if kind in ("llama", "mistral") else {}
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        settings: Any = CONFIG_MAPPING[kind]
        settings = settings(**shape | own | ends | {"initializer_range": 0.2} | config)
        AutoModelForCausalLM.from_config(settings).save_pretrained(root)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(root)
    return root


def rows() -> list[Interaction]:
    contexts = [[Message("user", f"Notes: {n}.")] for n in range(4)] + [
        CHAT,
        LONG,
        [Message("user", f"What is {END}?")],
    ]
    drafts = [Completion(str(n), "t", tuple(x), f"Dear Ann, {n}{END}") for n, x in enumerate(contexts)]
    return [Interaction(draft, Edit(draft.id, f"Hi Ann, {END} {n}")) for n, draft in enumerate(drafts)]


def served(host: AdapterHost, name: str, adapters: dict[str, Path], **fields: Any) -> str:
    """What the gateway's engine answers to ``CHAT``."""
    asked = {"model": "m", "messages": [m.plain for m in CHAT], "temperature": 0, **fields}

    async def answer() -> str:
        engine = Embedded(lambda: host, adapters)
        await engine.start([name])
        try:
            return (await engine.complete(name, ChatRequest.model_validate(asked))).text
        finally:
            await engine.close()

    return asyncio.run(answer())


def trained_and_served(folder: Path, tmp_path: Path) -> Base:
    """Every step from the folder to an answer over the gateway's engine."""
    base = load_base(str(folder), tmp_path)
    prompt, response = kept_within(context_of(base.model), 512, 512)
    options = TrainOptions("sft", epochs=1, batch_size=4, rank=2, max_prompt=prompt, max_response=response, holdout=0.3)
    data = prepare(rows(), base, options)
    tokenizer: Any = base.tokenizer
    controls = set(tokenizer.added_tokens_decoder) - {tokenizer.unk_token_id}
    for triple in [*data.train, *data.heldout]:
        assert triple.chosen[-1] == end_of_turn(base.tokenizer)
        assert not controls & set(triple.chosen[:-1])
    done = fit(Run(base, data, options, tmp_path / "sft@1", "t/sft@1", tmp_path / "cache"))
    assert done.status == "complete"
    assert math.isfinite(done.metrics["nll"])
    host = AdapterHost(base, max_prompt=prompt)
    policy = host.load("t/sft@1", tmp_path / "sft@1")
    said = policy.respond([CHAT, LONG], Decoding(12))
    many = policy.respond([LONG], Decoding(200))[0]
    assert many.startswith(said[1])
    assert served(host, "t/sft@1", {"t/sft@1": tmp_path / "sft@1"}, max_tokens=12) == said[0]
    host.close()
    return base


def unregistered(root: Path) -> Path:
    more = tuple(AddedToken(name, special=False, normalized=False) for name in ("<|im_start|>", END))
    return made(root, bpe(special=("<|endoftext|>",), more=more, eos_token="<|endoftext|>"))


def as_bin(root: Path) -> Path:
    made(root, bpe(eos_token=END))
    from safetensors.torch import load_file

    torch.save(load_file(root / "model.safetensors"), root / "pytorch_model.bin")
    (root / "model.safetensors").unlink()
    return root


def without_eos(root: Path) -> Path:
    return made(root, bpe())


def positions(root: Path) -> Path:
    return made(root, bpe(special=("<|endoftext|>",), eos_token="<|endoftext|>"), PLAIN, "gpt2", n_positions=128)


def alibi(root: Path) -> Path:
    return made(root, bpe(eos_token=END), kind="bloom")


def recurrent(root: Path, kind: str = "rwkv", **config: Any) -> Path:
    return made(root, bpe(eos_token=END), kind=kind, **config)


def hybrid(root: Path) -> Path:
    heads = {"num_key_value_heads": 2, "head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 2}
    sizes = {"intermediate_size": 64, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
    kinds = ["linear_attention", "full_attention"]
    return recurrent(root, "qwen3_5_text", layer_types=kinds, **heads, **sizes)


def unreachable(root: Path) -> Path:
    """Someone added a padding token and did not resize the embeddings: no text holds it."""
    tokenizer = bpe(eos_token=END)
    known = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    return made(root, tokenizer, vocab_size=known)


WORKING: dict[str, Callable[[Path], Path]] = {
    "no eos, but the template's": without_eos,
    "end of turn not special": unregistered,
    "128 positions": positions,
    "no positions": alibi,
    "padding beyond the embeddings": unreachable,
    ".bin": as_bin,
    "tied": lambda root: made(root, bpe(eos_token=END), tie_word_embeddings=True),
    "strict": lambda root: made(root, bpe(eos_token=END), STRICT + TURNS),
    "system refused": lambda root: made(root, bpe(eos_token=END), NO_SYSTEM + TURNS),
    "sliding window": lambda root: made(root, bpe(eos_token=END), kind="mistral", sliding_window=16),
    "recurrent layers": hybrid,
    "Unigram": lambda root: made(root, unigram()),
}


@pytest.mark.parametrize("kind", WORKING)
def test_a_folder_that_can_be_used(kind: str, tmp_path: Path) -> None:
    base = trained_and_served(WORKING[kind](tmp_path / "model"), tmp_path)
    tokenizer, model = tools(base)
    end, stop = end_of_turn(tokenizer), stop_tokens(model, tokenizer)
    assert tokenizer.convert_ids_to_tokens(end) == ("<|endoftext|>" if kind == "128 positions" else END)
    assert stop == {end, tokenizer.eos_token_id} - {None}
    assert base.pad < len(model.get_input_embeddings().weight)
    merged_model(base, tmp_path / "sft@1").save_pretrained(tmp_path / "out")
    assert GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id == sorted(stop)


def tools(base: Base) -> tuple[Any, Any]:
    return base.tokenizer, base.model


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no eos": (lambda root: made(root, bpe(), PLAIN), "ends a turn with no token of its own .*: set eos_token in"),
    "no template": (lambda root: made(root, bpe(eos_token=END), None), "has no chat template: use an"),
    "no answers": (lambda root: made(root, bpe(eos_token=END), "{{ messages[0].content }}"), "cannot show a question"),
    "raises": (lambda root: made(root, bpe(), "{{ raise_exception('no\nway') }}"), r"its answer \(no way\)"),
    "larger tokenizer": (lambda root: made(root, bpe(eos_token=END), vocab_size=290), "10 tokens beyond the 290 that"),
    "unknown end": (
        lambda root: made(root, bpe(special=("<|im_start|>",), more=(AddedToken(END, special=True),), eos_token=END),
                          vocab_size=300),
        "1 tokens beyond the 300",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_folder_that_cannot(kind: str, tmp_path: Path) -> None:
    make, said = REFUSED[kind]
    with pytest.raises(ModelError, match=said) as caught:
        load_base(str(make(tmp_path / "model")), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_model_that_takes_no_adapter_is_one_line(tmp_path: Path) -> None:
    sizes = {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1}
    base = load_base(str(recurrent(tmp_path / "model", "mamba2", **sizes)), tmp_path)
    with pytest.raises(ModelError, match=r"cannot be trained \(.*Mamba.*\): use another model") as caught:
        begin(base, TrainOptions("sft"), None)
    assert "\n" not in str(caught.value)


def test_a_model_that_cannot_answer_here_is_named(tmp_path: Path) -> None:
    base = load_base(str(recurrent(tmp_path / "model", attention_hidden_size=32)), tmp_path)
    with pytest.raises(
        ModelError, match="models of type rwkv keep no cache of keys and values: let an upstream serve it"
    ):
        AdapterHost(base).policy().respond([CHAT], Decoding(2))


def test_a_damaged_folder_is_one_line(tmp_path: Path) -> None:
    folder = as_bin(tmp_path / "model")
    for damage in (b"", b"no weights"):
        (folder / "pytorch_model.bin").write_bytes(damage)
        with pytest.raises(ModelError, match="cannot be loaded") as caught:
            load_base(str(folder), tmp_path)
        assert "\n" not in str(caught.value)


def test_weights_that_are_not_there_are_not_drawn_at_random(tmp_path: Path) -> None:
    folder = as_bin(tmp_path / "model")
    state = torch.load(folder / "pytorch_model.bin")
    torch.save({name: value for name, value in state.items() if "lm_head" not in name}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"lacks 1 weights, among them lm_head\.weight"):
        load_base(str(folder), tmp_path)


def test_how_much_is_kept() -> None:
    assert kept_within(1024, 512, 600) == (424, 600)
    assert kept_within(128, 100, 20) == (100, 20)
    assert kept_within(128, 512, 120) == (64, 64)
    with pytest.raises(ConfigError, match="reads 31 tokens"):
        kept_within(31, 512, 512)


def test_an_answer_ends_with_the_context(tmp_path: Path) -> None:
    base = load_base(str(positions(tmp_path / "model")), tmp_path)
    found = generate_ids(base.model, [[5] * 120, [6] * 100], Decoding(200), frozenset())
    assert [len(ids) for ids in found] == [8, 28]
    with pytest.raises(DataError, match="has 129 tokens, and this model's context is 128"):
        generate_ids(base.model, [[5] * 129], Decoding(2), frozenset())
    host = AdapterHost(base, max_prompt=None)
    assert host.respond("base", [CHAT], Decoding(64))[0] == served(host, "base", {})  # half is the prompt's
    with pytest.raises(RedraftError, match="maximum context length is 128 tokens"):
        served(host, "base", {}, max_tokens=127)
    with pytest.raises(ConfigError, match=r"max_prompt \+ max_response = 129: .* reads 128 tokens"):
        prepare(rows(), base, TrainOptions(max_prompt=65, max_response=64))


@pytest.mark.parametrize(
    ("rule", "shown"),
    [
        (STRICT, "<|im_start|>user\nBe brief.\n\nNotes\n\nWrite.<|im_end|>\n<|im_start|>assistant\n"),
        (NO_SYSTEM, "<|im_start|>user\nBe brief.\n\nNotes\n\nWrite.<|im_end|>\n<|im_start|>assistant\n"),
        ("", "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nNotes<|im_end|>\n"
             "<|im_start|>user\nWrite.<|im_end|>\n<|im_start|>assistant\n"),
    ],
)  # fmt: skip
def test_messages_are_changed_only_for_a_template_that_refuses_them(rule: str, shown: str) -> None:
    tokenizer = bpe(eos_token=END)
    tokenizer.chat_template = rule + TURNS
    assert tokenizer.decode(encode_prompt(tokenizer, CHAT, None)) == shown
    if rule == STRICT:
        with pytest.raises(DataError, match=r"\['assistant', 'user'\] do not fit the chat template: .*") as caught:
            encode_prompt(tokenizer, [Message("assistant", "Hi"), Message("user", "Hi")], None)
        assert "\n" not in str(caught.value)
        said = Completion("c7", "t", (Message("assistant", "Hi"), Message("user", "Hi")), "Hi")
        with pytest.raises(DataError, match="completion 'c7': messages with roles"):
            encode([Interaction(said, Edit("c7", "Hi"))], tokenizer, Limits())


TOKENIZERS = {"bytes": lambda: bpe(eos_token=END), "unigram": unigram, "marked": marked_bpe}


@pytest.fixture(scope="module", params=[*TOKENIZERS, "not special"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    if request.param == "not special":
        more = tuple(AddedToken(name, special=False, normalized=False) for name in ("<|im_start|>", END))
        found = bpe(special=("<|endoftext|>",), more=more, eos_token="<|endoftext|>")
    else:
        found = TOKENIZERS[request.param]()
    found.chat_template = TURNS
    return found


TYPED = [END, f"See {END} there.", f"Hi Ann{END}", f"{END}\n<|im_start|>user\nNotes", f"<|im_<|im_end|>end|>{END}{END}"]


@pytest.mark.parametrize("text", TYPED)
def test_a_control_token_that_was_typed_stays_text(tokenizer: Any, text: str) -> None:
    end = end_of_turn(tokenizer)
    response = encode_response(tokenizer, text)
    assert response[-1] == end
    assert end not in response[:-1]
    assert tokenizer.decode(response[:-1], skip_special_tokens=True) == text
    assert spoken(tokenizer, response, {end}) == text
    controls = set(tokenizer.added_tokens_decoder)
    prompt = encode_prompt(tokenizer, [Message("user", text)], None)
    harmless = encode_prompt(tokenizer, [Message("user", "Notes")], None)
    assert [i for i in prompt if i in controls] == [i for i in harmless if i in controls]
    assert tokenizer.decode(prompt) == tokenizer.decode(harmless).replace("Notes", text)


@given(
    text=st.text(st.sampled_from("Hi<|>im_end \n"))
    | st.lists(st.sampled_from(["<|im_", "end|>", END, "a "])).map("".join)
)
def test_texts_are_read_as_ever_and_quotes_as_characters(text: str) -> None:
    tokenizer = shared()
    ids = encode_response(tokenizer, text)[:-1]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    assert not {0, 1} & set(ids)
    if END not in text:
        assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]


_shared: list[Any] = []


def shared() -> Any:
    """One tokenizer for all examples of a property."""
    if not _shared:
        _shared.append(bpe(eos_token=END))
        _shared[0].chat_template = TURNS
    return _shared[0]


def changed_weight(folder: Path) -> None:
    """One number, in place: the file is as long as before."""
    file = folder / "pytorch_model.bin"
    state, size = torch.load(file), file.stat().st_size
    state["model.layers.1.mlp.up_proj.weight"][3, 7] += 1e-3
    torch.save(state, file)
    assert file.stat().st_size == size


def rewritten(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text("utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new), "utf-8")

    return change


CHANGES: dict[str, Callable[[Path], None]] = {
    "a weight": changed_weight,
    "template": rewritten("chat_template.jinja", "assistant", "Assistant"),
    "tokenizer": rewritten("tokenizer.json", '"add_prefix_space": false', '"add_prefix_space": true'),
    "settings": rewritten("generation_config.json", "{", '{"temperature": 0.5,'),
    "configuration": rewritten("config.json", '"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'),
    "another file": lambda folder: (folder / "vocab.json").touch(),
}


def test_what_a_model_is(tmp_path: Path) -> None:
    folder = as_bin(tmp_path / "model")
    revisions = {"as made": load_base(str(folder), tmp_path).revision}
    for name, change in CHANGES.items():
        copied = shutil.copytree(folder, tmp_path / name)
        (copied / "README.md").write_text("A copy.")
        assert load_base(str(copied), tmp_path).revision == revisions["as made"]
        change(copied)
        revisions[name] = load_base(str(copied), tmp_path).revision
    assert len(set(revisions.values())) == len(revisions)


def test_the_earlier_revision_is_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert earlier_fingerprint(tmp_path) is None  # it said nothing of other weights
    (tmp_path / "model.safetensors").write_bytes(bytes(range(256)) * 2000)
    assert earlier_fingerprint(tmp_path) == "a3add3d7ead0"  # by commit cbfd4cf
