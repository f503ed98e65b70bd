"""Does an answer say what the gold answer says? Five worked examples, as code (Aksitov et al. 2023, listing 7).

The model goes on with comments and a verdict:

    # REF_ANSWER names the Danube, and so does ANSWER.
    Check_Answer(ORIGINAL_QUESTION, ANSWER, REF_ANSWER) = True # [END]
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import yaml

from rest_jax.agents.endings import Malformed, broken_off, malformed
from rest_jax.agents.prompt_files import prompt_file
from rest_jax.agents.search_agent.grammar import literal
from rest_jax.agents.search_agent.prompt import END, RULE
from rest_jax.core.effects import Agent, Generate, Role, Sampling, finished
from rest_jax.core.transcript import Transcript

STEP = "check_answer"
LONGEST = 10_000
"""Characters; longer replies are not read."""

_CALL = "Check_Answer(ORIGINAL_QUESTION, ANSWER, REF_ANSWER) = "
_VERDICTS = {f"{_CALL}{same}": same for same in (True, False)}


def equivalence_judge(
    question: str, answer: str, references: Sequence[str], *, max_tokens: int, sampling: Sampling
) -> Agent:
    """Ask the judge whether an answer says what one of the gold answers says. The answer is `True` or `False`."""
    reply = yield Generate(
        transcript(question, answer, references),
        step=STEP,
        max_tokens=max_tokens,
        stop=(END,),
        role=Role.JUDGE,
        sampling=sampling,
    )
    if (outcome := broken_off(reply)) is not None:
        return outcome
    verdict = read_verdict(reply.text)
    return malformed(reply, verdict.why) if isinstance(verdict, Malformed) else finished(str(verdict))


def transcript(question: str, answer: str, references: Sequence[str]) -> Transcript:
    """What the judge sees. What others wrote are string literals: it ends neither them nor the example."""
    asked = Transcript().prompted(prompt_words())
    for name, text in _fields(question, answer, references):
        asked = asked.prompted(f"{name}: str = ").quoted(literal(text)).prompted("\n")
    return asked


def read_verdict(text: str) -> bool | Malformed:
    """The verdict of a reply: one or more lines of comment, then the call with its value; else a `Malformed`."""
    if len(text) > LONGEST:
        return Malformed(f"more than {LONGEST} characters")
    *comments, last = [line.strip() for line in text.strip().split("\n")]
    if not comments or not all(line.startswith("#") and line.strip("# ") for line in comments):
        return Malformed("the verdict does not follow lines of comment")
    return _VERDICTS.get(last, Malformed(f"{last[:80]!r} is no verdict"))


@lru_cache(1)
def prompt_words() -> str:
    """All that the prompt says by itself, up to the head of the example that is asked about."""
    prompt = yaml.safe_load(prompt_file("judges", "equivalence.yaml"))
    told = [_head(number) + _example(example) for number, example in enumerate(prompt["examples"], 1)]
    return f'"""{prompt["task"]}"""\n\n{"".join(told)}{_head(len(told) + 1)}'


def _example(example: dict[str, Any]) -> str:
    fields = _fields(example["question"], example["answer"], [example["reference"]])
    lines = [f"{name}: str = {literal(text)}" for name, text in fields]
    lines += [f"# {line}" for line in example["reasoning"]]
    return "\n".join([*lines, f"{_CALL}{example['same']} {END}"]) + "\n\n"


def _head(number: int) -> str:
    return f"{RULE}\n# Example {number}:\n{RULE}\n"


def _fields(question: str, answer: str, references: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return ("ORIGINAL_QUESTION", question), ("ANSWER", answer), ("REF_ANSWER", " or ".join(references))
