"""What people's files mean by messages: texts, messages of OpenAI's or ShareGPT's form, JSON of these in cells.

One rule for all that ends with the assistant: the last message of ``messages`` is the response, unless a response is
given too. Then both must be equal. An answer that repeats the conversation before it (UltraFeedback) is cut to its last
message. Nothing that a message says is dropped: its text is ``redraft.messages.message_text``, and ``Message.more``
keeps the fields that this text stands for.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from redraft.errors import DataError
from redraft.messages import content_text, message_text
from redraft.types import Message

__all__ = ["Said", "Turn", "dialogue", "exchange", "message", "said", "turn"]

Turn = Mapping[str, Any]
"""One message in OpenAI's form, with one of our roles."""
Said = str | list[Turn] | None

ROLES = {
    **{role: role for role in ("system", "user", "assistant", "tool")},
    **{"developer": "system", "function": "tool", "observation": "tool", "function_call": "assistant"},
    **dict.fromkeys(("human", "prompter", "customer"), "user"),
    **dict.fromkeys(("gpt", "bot", "ai", "model", "chatgpt", "bing", "bard"), "assistant"),
}
PLAIN = {"role", "content"}
THOUGHT = ("thinking", "redacted_thinking", "reasoning")
OF_BLOCKS = {"tool_use", "tool_result", "input_text", "output_text", *THOUGHT}
OF_TURN = PLAIN | {"tool_calls", "function_call", "refusal", "name", "tool_call_id", "from", "value"}
BETWEEN = re.compile(r"\}\s*\n\s*\{")  # messages in an array of NumPy's, which writes no commas
SPEAKERS = re.compile(r"\n\n(Human|Assistant): ?")  # of HH-RLHF


def message(given: Turn) -> Message:
    """Its text, and the fields that this stands for where it is not all, as the gateway logs it."""
    content = given.get("content")
    if isinstance(content, str) and given.keys() <= PLAIN:
        return Message(given["role"], content)
    hidden = {"role", "content"} if isinstance(content, str) else {"role"}
    more = {name: value for name, value in given.items() if name not in hidden and value not in (None, [])}
    return Message(given["role"], message_text(given), more)


def turn(given: object, name: str) -> Turn:
    """Bring one message into OpenAI's form; raises ``DataError`` for what is none, or says nothing."""
    if not isinstance(given, Mapping):
        raise DataError(f"{name} = {given!r:.60}: must be a message with role and content")
    part = cast("Mapping[str, Any]", given)
    if "role" not in part:
        part = _sharegpt(part) if "from" in part else _item(part)
    said_role: Any = part.get("role")
    role = ROLES.get(said_role.lower()) if isinstance(said_role, str) else None
    if role is None:
        raise DataError(f"{name}.role = {said_role!r:.60}: use system, user, assistant or tool")
    if isinstance(part.get("content"), list):
        part = _blocks(part)
    content: Any = part.get("content")
    parts = isinstance(content, list) and all(
        isinstance(p, Mapping) and "type" in p for p in cast("list[Any]", content)
    )
    if not (content is None or isinstance(content, str) or parts):
        raise DataError(f"{name}.content = {content!r:.60}: must be text, parts with a type, or null")
    if "content" not in part and not message_text(part):
        raise DataError(f"{name} says nothing: give it content or tool calls")
    return part if role == part["role"] else {**part, "role": role}


def _item(part: Turn) -> Turn:
    """An item of OpenAI's Responses that is no message, as the message that it would be in a chat."""
    if part.get("type") == "function_call":
        return {"role": "assistant", "content": None, "tool_calls": [_call(part, part.get("arguments"))]}
    if part.get("type") == "function_call_output":
        return {"role": "tool", "tool_call_id": part.get("call_id"), "content": part.get("output")}
    return part


def _call(part: Turn, arguments: object) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    about = {"id": part.get("call_id") or part.get("id"), "type": "function"}
    return {**about, "function": {"name": part.get("name"), "arguments": text}}


def _blocks(part: Turn) -> Turn:
    """Say the blocks of Anthropic's, Google's and OpenAI's Responses in the form of OpenAI's chats.

    A use of a tool is a tool call, its result a text; what was thought is kept beside the content.
    """
    blocks = cast("list[Any]", part["content"])
    kinds = [block.get("type", "text" if "text" in block else None) for block in blocks if isinstance(block, Mapping)]
    if len(kinds) < len(blocks) or (not OF_BLOCKS.intersection(kinds) and all("type" in block for block in blocks)):
        return part
    given = list(zip(kinds, cast("list[Turn]", blocks), strict=True))
    texts = [_text_block(kind, block) for kind, block in given if kind not in (*THOUGHT, "tool_use")]
    calls = [_call(block, block.get("input")) for kind, block in given if kind == "tool_use"]
    more: dict[str, Any] = {"tool_calls": calls} if calls else {}
    if thought := [block for kind, block in given if kind in THOUGHT]:
        more["thinking"] = thought
    role = "tool" if {*kinds} == {"tool_result"} else part["role"]
    return {**part, "role": role, "content": texts or None, **more}


def _text_block(kind: str | None, block: Turn) -> Turn:
    if kind == "tool_result":
        content: Any = block.get("content")
        return {**block, "type": "text", "text": content if isinstance(content, str) else content_text(content)}
    return {**block, "type": "text"} if kind in ("text", "input_text", "output_text") else block


def _sharegpt(part: Mapping[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in part.items() if name not in ("from", "value")}
    value = part.get("value")
    if part["from"] == "function_call" and isinstance(call := _json(value), Mapping):
        return {**rest, "role": "assistant", "tool_calls": [{"type": "function", "function": call}]}
    return {**rest, "role": part["from"], "content": value}


def said(value: object, name: str, about: dict[str, Any]) -> Said:
    """Read a text or messages; what stands beside messages in one object, such as tools, is added to ``about``.

    Raises ``DataError`` naming ``name`` for anything else.
    """
    if isinstance(value, str):
        inner = _json(value) if value.startswith(("[", "{")) else None
        return said(inner, name, about) if _is_chat(inner) else value
    if value is None:
        return None
    if isinstance(value, Mapping):
        return _from_object(cast("Mapping[str, Any]", value), name, about)
    if isinstance(value, list | tuple):
        inside = cast("Sequence[object]", value)
        if len(inside) == 1 and isinstance(inside[0], str):
            return inside[0]
        if inside and all(isinstance(part, str) for part in inside):
            raise DataError(f"{name} holds {len(inside)} texts: name one, such as --map {name}=…[0]")
        if inside and all(isinstance(part, Mapping) and _is_block(cast("Turn", part)) for part in inside):
            return [turn({"role": "assistant" if name != "prompt" else "user", "content": [*inside]}, name)]
        return _turns(inside, name)
    raise DataError(f"{name} = {value!r:.60}: must be text or messages")


def _is_block(part: Turn) -> bool:
    return "role" not in part and part.get("type") in ("text", "image", "tool_use", *THOUGHT[:2])


def _turns(parts: Sequence[object], name: str) -> list[Turn]:
    """Messages; what was thought before one, an item of its own in OpenAI's Responses, is kept in it."""
    turns: list[Turn] = []
    thought: list[object] = []
    for i, part in enumerate(parts):
        if isinstance(part, Mapping) and "role" not in part and cast("Turn", part).get("type") == "reasoning":
            thought.append(cast("Turn", part))
        else:
            one = turn(part, f"{name}[{i}]")
            turns.append({**one, "thinking": thought} if thought else one)
            thought = []
    return turns


def _from_object(value: Mapping[str, Any], name: str, about: dict[str, Any]) -> Said:
    if OF_TURN & value.keys() and ("role" in value or "from" in value):
        return [turn(value, name)]
    if isinstance(choices := value.get("choices"), list) and choices:  # OpenAI's answer
        first, *others = cast("list[Any]", choices)
        if others:
            raise DataError(
                f"{name} holds {len(others) + 1} answers: name one, such as --map {name}=….choices[0].message"
            )
        answer = first.get("message") or {"role": "assistant", "content": first.get("text")}
        value = {**value, "messages": [answer]}
    if "messages" not in value and isinstance(value.get("message"), Mapping):  # Ollama's answer
        value = {**{key: part for key, part in value.items() if key != "message"}, "messages": [value["message"]]}
    if isinstance(messages := value.get("messages"), list):
        about |= {key: part for key, part in value.items() if key not in ("messages", "choices") and part is not None}
        return said(cast("list[object]", messages), f"{name}.messages", about)
    if len(value) == 1 and isinstance(only := next(iter(value.values())), str):
        return only
    keys = ", ".join(value) or "nothing"
    raise DataError(
        f"{name} is an object with {keys}: name the part, such as --map {name}=….{next(iter(value), 'text')}"
    )


def _is_chat(value: object) -> bool:
    """Whether JSON in a cell is messages, and not a text that happens to be JSON."""
    if isinstance(value, list):
        parts = cast("list[Any]", value)
        return bool(parts) and all(isinstance(part, Mapping) and _is_turn(cast("Turn", part)) for part in parts)
    if not isinstance(value, Mapping):
        return False
    whole = cast("Mapping[str, Any]", value)
    return _is_turn(whole) or _is_chat(whole.get("messages")) or isinstance(whole.get("choices"), list)


def _is_turn(part: Turn) -> bool:
    return ("role" in part and not OF_TURN.isdisjoint(part.keys() - {"role"})) or part.keys() >= {"from", "value"}


def _json(text: object) -> object:
    """What a cell holds as JSON, or as data frames write lists; ``None`` where it is neither."""
    try:
        return json.loads(cast("str", text))
    except (ValueError, TypeError, RecursionError):
        try:
            if not (isinstance(text, str) and text.startswith(("[{'", "{'"))):
                return None
            return ast.literal_eval(BETWEEN.sub("}, {", text))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None


def exchange(prompt: Said, response: Said, edited: Said) -> tuple[list[Turn], Turn, Turn | None]:
    """Take a conversation apart: the context, the response to it, and what it was edited to, if anything.

    Raises ``DataError`` where one of the first two is missing or they contradict each other.
    """
    context, plain = _context(prompt, response, edited)
    if plain is not None:
        context = _head(response, plain) or _head(edited, plain) or context
    answer = _answer("response", response, context)
    final = _answer("edited", edited, context)
    if context and context[-1]["role"] == "assistant":
        *context, last = context
        if answer is not None and message_text(answer) != message_text(last):
            raise DataError("messages end with another answer than the response: the context must end before it")
        answer = answer or last
    if answer is None:
        raise DataError("response is missing: give what was written, or let messages end with the assistant")
    if not context:
        raise DataError("prompt is missing: give what was asked before the answer")
    return context, answer, final


def _context(prompt: Said, response: Said, edited: Said) -> tuple[list[Turn], str | None]:
    """The context, and the text of one that is a text alone; it may stand at the head of both answers instead."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}], prompt
    if prompt is not None:
        return prompt, None
    if isinstance(response, list) and (edited is None or (isinstance(edited, list) and edited[:-1] == response[:-1])):
        return response[:-1], None
    raise DataError("prompt is missing: give it, or let both answers begin with the same messages")


def _head(answer: Said, prompt: str) -> list[Turn]:
    """What stands before an answer that repeats the conversation; the prompt must be among it."""
    head = answer[:-1] if isinstance(answer, list) else []
    asked = (message_text(part).strip() for part in head if part["role"] == "user")
    return head if prompt.strip() in asked else []


def _answer(name: str, answer: Said, context: list[Turn]) -> Turn | None:
    if answer is None:
        return None
    if isinstance(answer, str):
        return {"role": "assistant", "content": answer}
    *head, last = answer or [{"role": "nobody"}]
    same = [(part["role"], message_text(part)) for part in head] == [(p["role"], message_text(p)) for p in context]
    if last["role"] != "assistant" or (head and not same):
        roles = ", ".join(str(part["role"]) for part in answer) or "nothing"
        raise DataError(f"{name} must be one assistant message after the same context, but holds {roles}")
    return last


def dialogue(text: str) -> list[Turn] | None:
    """Read a conversation as HH-RLHF writes it, with a speaker before each turn; ``None`` for any other text."""
    start, *parts = SPEAKERS.split(text)
    if start or not parts:
        return None
    speakers = {"Human": "user", "Assistant": "assistant"}
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return [{"role": speakers[speaker], "content": part} for speaker, part in pairs]
