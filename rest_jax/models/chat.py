"""Chat turns from a tokenizer's chat template, found by probing it with words that stand for themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rest_jax.core.chat import ChatFormat
from rest_jax.core.errors import UserError

_WORDS = ("SYSTEM-WORDS", "USER-WORDS-1", "ASSISTANT-WORDS-1", "USER-WORDS-2", "ASSISTANT-WORDS-2")
_ROLES = ("system", "user", "assistant", "user", "assistant")


def probe(template: str, special_texts: Mapping[str, str], *, opens_with_bos: bool, where: Path) -> ChatFormat:
    """The `ChatFormat` that a jinja template writes.

    The template runs in jinja's immutable sandbox. `special_texts` are what it may name (bos_token …). With
    `opens_with_bos` the codec itself opens transcripts with BOS, and `begin` leaves it out. `where` is for messages.
    UserError when a conversation's text is not the beginning of the longer one's, when a role's turns differ with
    their place, or when there is no system turn: token by token training would then see what sampling never saw.
    """

    def render(turns: int, *, prompt: bool = False) -> str:
        messages = [{"role": role, "content": words} for role, words in zip(_ROLES[:turns], _WORDS, strict=False)]
        return _render(template, special_texts, messages, prompt, where)

    opening, system_user, user_assistant, assistant_user, again, end = _between(render(5), _WORDS, where)
    asked = render(2)
    user_after = _cut(asked, before=_WORDS[1], where=where)
    assistant_after = end
    if not user_assistant.startswith(user_after) or not assistant_user.startswith(assistant_after):
        _refuse(where, "a turn ends differently when another follows")
    assistant_before = user_assistant[len(user_after) :]
    user_before = assistant_user[len(assistant_after) :]
    if again != user_assistant or not system_user.endswith(user_before):
        _refuse(where, "a role's turn depends on its place")
    if render(2, prompt=True) != asked + assistant_before:
        _refuse(where, "its generation prompt is not how assistant turns begin")
    bos = special_texts.get("bos_token", "")
    begin = bos if opening.startswith(bos) and not user_before.startswith(bos) else ""
    chat = ChatFormat(
        begin="" if opens_with_bos else begin,
        system=(opening[len(begin) :], system_user[: len(system_user) - len(user_before)]),
        user=(user_before, user_after),
        assistant=(assistant_before, assistant_after),
    )
    if not chat.assistant[0] or not chat.assistant[1]:
        _refuse(where, "nothing marks where an assistant turn begins or ends")
    return chat


def _between(text: str, words: Sequence[str], where: Path) -> list[str]:
    """The texts before, between and after the words."""
    pieces = []
    for word in words:
        if text.count(word) != 1:
            _refuse(where, "it leaves out or repeats a message's words")
        before, _, text = text.partition(word)
        pieces.append(before)
    return [*pieces, text]


def _cut(text: str, *, before: str, where: Path) -> str:
    return _between(text, (before,), where)[1]


def _render(
    template: str, special_texts: Mapping[str, str], messages: list[dict[str, str]], prompt: bool, where: Path
) -> str:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = raise_exception
    values: dict[str, Any] = dict(special_texts, messages=messages, add_generation_prompt=prompt)
    try:
        return environment.from_string(template).render(values)
    except Exception as why:  # a template may fail in any way
        _refuse(where, f"it fails with {type(why).__name__}: {why}")


def _refuse(where: Path, why: str) -> NoReturn:
    raise UserError(f"{where}: the chat template cannot be used append-only ({why}): set agent.style to base")
