"""A ranking of outputs of one step, without worked examples (Aksitov et al. 2023, section 3.5 and listing 8).

The reply has three lines:

    Explanation: The second query names the person, the first one asks for everybody.
    Answer: #2
    Ranking: #2 > #1 > #4 > #3
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rest_jax.agents.endings import Malformed, broken_off, malformed
from rest_jax.agents.prompt_files import prompt_file
from rest_jax.core.effects import Agent, Generate, Role, Sampling, finished
from rest_jax.core.transcript import Transcript

STEP = "rank"
LONGEST = 10_000
"""Characters; longer replies are not read."""
STOP = ("\n\n",)
"""Three lines hold no empty one; a model that was not tuned to end its turns would go on for ever."""

_PLACE = re.compile(r"#([1-9][0-9]?)", re.ASCII)


@dataclass(frozen=True)
class Ranking:
    """What a ranker said of n outputs."""

    explanation: str
    order: tuple[int, ...]
    """Places of outputs from 0, the best first; those that it did not name are worse than all that it did."""

    @property
    def best(self) -> int:
        return self.order[0]

    def __str__(self) -> str:
        return " > ".join(f"#{place + 1}" for place in self.order)


def ranker(seen: str, outputs: Sequence[str], *, max_tokens: int, sampling: Sampling) -> Agent:
    """Ask the judge to rank outputs by what their author had seen. The answer is the ranking: `#2 > #1`."""
    reply = yield Generate(
        transcript(seen, outputs), step=STEP, max_tokens=max_tokens, stop=STOP, role=Role.JUDGE, sampling=sampling
    )
    if (outcome := broken_off(reply)) is not None:
        return outcome
    ranking = read_ranking(reply.text, len(outputs))
    return malformed(reply, ranking.why) if isinstance(ranking, Malformed) else finished(str(ranking))


def transcript(seen: str, outputs: Sequence[str]) -> Transcript:
    """What the ranker sees. Each line that others wrote is marked, so that it passes for no heading and no reply."""
    asked = (
        Transcript()
        .prompted(f"{prompt_file('judges', 'ranking.txt')}\n\nWhat the assistant could see:\n")
        .quoted(_marked(seen))
    )
    for number, output in enumerate(outputs, 1):
        asked = asked.prompted(f"\n\nOutput #{number}:\n").quoted(_marked(output))
    return asked.prompted(f"\n\n{prompt_file('judges', 'ranking_reply.txt')}\n\n")


def read_ranking(text: str, n: int) -> Ranking | Malformed:
    """The ranking of n outputs that a reply holds; else a `Malformed` that says why.

    It has the three lines in their order, something in each, no output twice, none that is not there, and the answer
    first. A ranking may name fewer outputs than there are.
    """
    if len(text) > LONGEST:
        return Malformed(f"more than {LONGEST} characters")
    lines = [line.strip() for line in text.strip().split("\n")]
    labels = ("Explanation:", "Answer:", "Ranking:")
    if len(lines) != len(labels) or not all(map(str.startswith, lines, labels)):
        return Malformed(f"expected the three lines {' '.join(labels)}")
    explanation, answer, ranking = (line.removeprefix(label).strip() for line, label in zip(lines, labels, strict=True))
    if not explanation:
        return Malformed("the explanation is empty")
    order = order_of(ranking, n)
    if isinstance(order, Malformed):
        return order
    if answer != f"#{order[0] + 1}":
        return Malformed(f"the answer is {answer[:20]!r}, and the ranking begins with #{order[0] + 1}")
    return Ranking(explanation, order)


def order_of(ranking: str, n: int) -> tuple[int, ...] | Malformed:
    """The places, from 0, that `#2 > #1` names among n outputs."""
    found = [_PLACE.fullmatch(part.strip()) for part in ranking.split(">")]
    order = tuple(int(one[1]) - 1 for one in found if one is not None)
    if len(order) < len(found):
        return Malformed(f"{ranking[:40]!r} is no ranking such as #2 > #1")
    if len(set(order)) < len(order):
        return Malformed("the ranking names an output twice")
    if max(order) >= n:
        return Malformed(f"the ranking names #{max(order) + 1} of {n} outputs")
    return order


def prompt_words() -> str:
    """All that the prompt says by itself: what a stage that ranks depends on."""
    return transcript("", ()).text


def _marked(text: str) -> str:
    return "\n".join(f"| {line}" for line in text.splitlines() or [""])
