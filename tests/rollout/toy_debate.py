"""A method of one's own that attempts a question twice, whole: think, object, think again."""

from __future__ import annotations

from rest_jax.agents.attempts import latest
from rest_jax.agents.cot import CUE, INSTRUCTION, concluded, cot_lines, think
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Line, Prompt
from rest_jax.agents.registry import Method
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import Agent
from rest_jax.core.trajectory import Question

STEPS = """
steps:
  object: {cue: "Objection:", task: Object to the thought on one line., shown: [[river, 1]]}
  settle: {cue: "Thought:", task: Think again, end with an answer., shown: [[river, 2]]}
stories:
  river:
    question: Which river flows through Paris?
    lines: ["Thought: Paris lies on the Rhône. Answer: Rhône", "Objection: That is Lyon.", "Thought: Answer: Seine"]
"""


def debate(question: Question, prompt: Prompt, limits: Limits) -> Agent:
    """The answer of the second thought; of the first where the second has none."""
    objecting, settling = prompt.beside["object"], prompt.beside["settle"]
    first = yield think(question, prompt, limits)
    said = (prompt.cue, first.text)
    objection = yield think(question, objecting.telling(said), limits, "object")
    second = yield think(question, settling.telling(said, (objecting.cue, objection.text)), limits, "think", trial=1)
    return latest(concluded(first), concluded(second))


def script(demonstration: Demonstration) -> tuple[Line, ...]:
    """A demonstration's chain of thought, to which nobody objects, twice."""
    return (*cot_lines(demonstration), Line(" None."), *cot_lines(demonstration))


METHOD = Method("debate", debate, INSTRUCTION, CUE, cot_lines, script=script, steps=STEPS)
