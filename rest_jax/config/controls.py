"""What a finished loop may be compared with, and which of it goes with which settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rest_jax.config.settings import RestConfig

Control = Literal[
    "more_pilot",
    "random_samples",
    "majority",
    "gold",
    "more_gen_1",
    "low_perplexity",
    "best_of",
    "single_sample",
    "data_1x",
    "data_2x",
]

SAMPLES: dict[Control, int] = {"data_1x": 1, "data_2x": 2}
"""Control → of how many samples of each question it learns (ReST meets ReAct, table 3)."""


def control_conflicts(config: RestConfig) -> Iterator[tuple[str, str]]:
    """(field, message) for each control that would show nothing with the other settings."""
    wanted, generations = config.evaluate.controls, config.generations
    if not config.pilot.demonstrations and "more_pilot" in wanted:
        yield "evaluate", "control more_pilot learns from demonstrations, and the pilot has none; leave one of them out"
    if len(generations) == 1 and "more_gen_1" in wanted:
        yield "evaluate", "control more_gen_1 repeats the first of several generations; add one, or leave it out"
    if config.agent.candidates == 1 and "single_sample" in wanted:
        yield "evaluate", "control single_sample plays one candidate a step, as all rows do; raise agent.candidates"
    for control, samples in SAMPLES.items():
        if control in wanted and generations[-1].grow.samples <= samples:
            yield "evaluate", f"control {control} is all that the last generation samples; raise its grow.samples"
    grows = any(one.grow.policy == "teacher" for one in generations)
    for control in ("majority", "best_of"):
        if control in wanted and grows:
            why = "buys votes with the tokens that the loop sampled here, not a teacher's; leave it out"
            yield "evaluate", f"control {control} {why}"
    teacher = config.policies.teacher
    textual = teacher is not None and teacher.tokenizer is None
    if textual and grows and "low_perplexity" in wanted:
        yield "evaluate", "control low_perplexity needs log-probs, and the teacher answers in text; name its tokenizer"
