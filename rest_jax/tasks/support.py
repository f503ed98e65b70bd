"""What a corpus can support: answers that stand in it, and conclusions whose gold pages it has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from rest_jax.core.answers import normalise
from rest_jax.core.trajectory import Question
from rest_jax.tasks.metrics import is_conclusion
from rest_jax.tools.search.corpus import Passage

LEAST = 0.9
"""A corpus that supports a smaller share of the answers measures what a model remembers, not how it searches."""


@dataclass(frozen=True)
class Support:
    """How many answers a corpus can support."""

    supported: int
    known: int
    """Questions of which it can be told: not of a conclusion (yes, no, a label) whose gold pages are unknown, nor of
    NOT ENOUGH INFO, which needs none."""
    questions: int

    @property
    def share(self) -> float | None:
        """In [0, 1]; None where it can be told of no question."""
        return self.supported / self.known if self.known else None

    @property
    def suffices(self) -> bool:
        """False when it is known to be less than `LEAST`."""
        return self.share is None or self.share >= LEAST

    def __str__(self) -> str:
        if self.share is None:
            return f"whether the corpus supports the answers is not known (0 of {self.questions})"
        rest = "" if self.known == self.questions else f"; of {self.questions - self.known} it is not known"
        return f"the corpus supports {self.supported}/{self.known} answers ({100 * self.share:.1f} %){rest}"


def support(questions: Sequence[Question], passages: Sequence[Passage]) -> Support:
    """What these passages support.

    An answer is supported when one of the golds stands in a passage (normalised, whole words), a conclusion when all of
    its gold pages are there (`meta["titles"]`), or all of one of several sets (`meta["evidence"]`).
    """
    found = standing_in({normalise(gold) for question in questions for gold in question.golds}, passages)
    titles = {passage.title for passage in passages}

    def told(question: Question) -> bool | None:
        if not is_conclusion(question.answer):
            return any(normalise(gold) in found for gold in question.golds) if question.golds else None
        pages = question.meta.get("titles")
        sets = question.meta.get("evidence", [pages] if pages else [])
        return any(titles.issuperset(needed) for needed in sets) if sets else None

    verdicts = [verdict for verdict in map(told, questions) if verdict is not None]
    return Support(sum(verdicts), len(verdicts), len(questions))


def standing_in(answers: Collection[str], passages: Iterable[Passage]) -> set[str]:
    """Those of the normalised answers that stand in some passage, title included, as whole words."""
    by_first_word: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    for answer in answers:
        if words := tuple(answer.split()):
            by_first_word[words[0]].append(words)
    found: set[str] = set()
    for passage in passages:
        words = normalise(f"{passage.title} {passage.text}").split()
        for at, word in enumerate(words):
            for wanted in by_first_word.get(word, ()):
                if tuple(words[at : at + len(wanted)]) == wanted:
                    found.add(" ".join(wanted))
    return found
