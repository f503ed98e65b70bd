"""What a judge is asked, repetition by repetition, and what came back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rest_jax.agents.judges.equivalence import equivalence_judge
from rest_jax.agents.judges.labels import Labelled
from rest_jax.config.judges import AnswersSettings, RankingSettings
from rest_jax.core.effects import Agent, Sampling, Status
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.rollout.episode import Job

Answers = Mapping[str, Sequence[str | None]]
"""What was asked about → the judge's answers, by repetition; None is one that could not be read."""
Ask = Callable[[Sequence[Job], Callable[[Job], Agent]], Sequence[Trajectory]]
"""Has the judge play jobs, and gives what it made of them."""


@dataclass(frozen=True)
class Matter:
    """What the judge is asked about."""

    id: str
    question: str
    ask: Callable[[], Agent]
    repetitions: int = 1


def hear(ask: Ask, matters: Sequence[Matter], *, seed: int, generation: int, task: str) -> Answers:
    """What the judge says of these matters; seed, generation and task are noted with it."""
    asking = {matter.id: matter.ask for matter in matters}
    jobs = [
        Job(Question(matter.id, matter.question, ""), repetition, seed, generation, task, "train", "judge")
        for matter in matters
        for repetition in range(matter.repetitions)
    ]
    return answers_of(ask(jobs, lambda job: asking[job.question.id]()))


def answers_of(heard: Sequence[Trajectory]) -> Answers:
    """The judge's answers in its trajectories."""
    answers: defaultdict[str, list[str | None]] = defaultdict(list)
    for said in sorted(heard, key=lambda said: said.sample):
        answers[said.question_id].append(said.answer if said.status is Status.FINISHED else None)
    return answers


def on_answer(heard: Answers, id: str, times: int, *, answered: bool) -> list[bool | None]:
    """What was said of an answer, each time: nothing where it was not asked about, no where there is no answer."""
    said = heard.get(id, ()) if answered else ("False",) * times
    return [None if verdict is None else verdict == "True" for verdict in said]


def equivalence_of(id: str, question: str, answer: str, golds: Sequence[str], settings: AnswersSettings) -> Matter:
    """Whether an answer says what one of the gold answers says, as often as the settings repeat it."""
    sampling = Sampling(settings.temperature)

    def ask() -> Agent:
        return equivalence_judge(question, answer, golds, max_tokens=settings.tokens, sampling=sampling)

    return Matter(id, question, ask, settings.repetitions)


def of_labels(labels: Sequence[Labelled], settings: AnswersSettings | RankingSettings) -> list[Matter]:
    """Each labelled pair, once."""
    sampling = Sampling(settings.temperature)
    return [
        Matter(f"label:{place}", "", lambda pair=pair: pair.ask(settings.tokens, sampling))
        for place, pair in enumerate(labels)
    ]


def verdicts_on(labels: Sequence[Labelled], heard: Answers) -> list[bool | int | None]:
    """What the judge said of each labelled pair; None where it could not be read."""
    return [
        None if answer is None else pair.verdict(answer)
        for place, pair in enumerate(labels)
        for answer in heard[f"label:{place}"]
    ]
