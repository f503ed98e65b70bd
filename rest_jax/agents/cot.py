"""Chain of thought: reason, then answer, without tools (Wei et al. 2022; ReAct's baseline, Yao et al. 2023, section
3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rest_jax.agents import react
from rest_jax.agents.actions import Finish as Finished
from rest_jax.agents.actions import parse_action, thought_and_action
from rest_jax.agents.endings import broken_off
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Line, Prompt
from rest_jax.agents.prompt_files import prompt_file
from rest_jax.core.demonstration import Demonstration
from rest_jax.core.effects import Agent, Candidate, Finish, Generate, Generated, Outcome, Status, finished, stopped
from rest_jax.core.trajectory import Question

CUE = react.CUE
ANSWER = "Answer:"
INSTRUCTION = "cot.txt"


def cot(question: Question, prompt: Prompt, limits: Limits) -> Agent:
    """Think and answer in one line, in one call of step `think`."""
    return concluded((yield think(question, prompt, limits)))


def think(
    question: Question, prompt: Prompt, limits: Limits, step: str = "think", trial: int = 0, n: int = 1
) -> Generate:
    """The call for a chain of thought. It may take the tokens that an agent's turns take together."""
    return Generate(
        prompt.open(question.text),
        step=step,
        max_tokens=limits.turns * limits.turn_tokens,
        stop=prompt.stop,
        n=n,
        trial=trial,
    )


def answer_of(candidate: Candidate) -> str | None:
    """What stands after the last `Answer:` of a reply; None where there is none, or it was cut short."""
    if candidate.finish not in (Finish.STOP, Finish.EOS):
        return None
    _, cue, answer = candidate.text.rpartition(ANSWER)
    return (cue and answer.strip()) or None


def concluded(reply: Generated) -> Outcome:
    """What a chain of thought comes to: its answer, or why there is none."""
    if (outcome := broken_off(reply)) is not None:
        return outcome
    answer = answer_of(reply.reply)
    return finished(answer) if answer else unanswered(reply)


def unanswered(reply: Generated) -> Outcome:
    """Why a chain of thought holds no answer: the model was cut short, or it wrote none."""
    if reply.finish is Finish.LENGTH:
        return stopped(Status.TOKEN_LIMIT, "the chain's tokens were used up")
    return stopped(Status.MALFORMED, f"no answer after {ANSWER}")


def cot_lines(demonstration: Demonstration) -> tuple[Line, ...]:
    """A demonstration's thoughts on one line, then its answer: ` thoughts Answer: answer`."""
    return (_chained(react.react_lines(demonstration)),)


def chain_prompt(prompt: Prompt) -> Prompt:
    """ReAct's prompt made into that for a chain of thought, with the same worked examples; a bare one stays bare."""
    return replace(
        prompt,
        instruction=prompt_file(INSTRUCTION) if prompt.instruction else "",
        shots=tuple(replace(shot, lines=(_chained(shot.lines),)) for shot in prompt.shots),
    )


def _chained(lines: Sequence[Line]) -> Line:
    """ReAct's turns as one: their thoughts, and the answer of the last action."""
    last = parse_action(lines[-1].said)
    if not isinstance(last, Finished):
        raise ValueError(f"a worked example ends without an answer: {lines[-1].said!r}")
    thoughts = [thought_and_action(line.said)[0] for line in lines]
    return Line(" " + " ".join([*filter(None, thoughts), ANSWER, last.answer]))
