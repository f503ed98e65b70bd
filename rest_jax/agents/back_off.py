"""ReAct and CoT-SC, each where the other is at a loss (Yao et al. 2023, section 3.2)."""

from __future__ import annotations

from rest_jax.agents.cot import chain_prompt
from rest_jax.agents.cot_sc import SAMPLES, poll
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Prompt
from rest_jax.agents.react import react
from rest_jax.core.effects import Agent
from rest_jax.core.trajectory import Question


def react_to_cot_sc(question: Question, prompt: Prompt, limits: Limits) -> Agent:
    """ReAct; CoT-SC where that ends without an answer, at the step limit or by a turn without an action."""
    outcome = yield from react(question, prompt, limits)
    if outcome.answer is not None or outcome.status.is_masked:
        return outcome
    return (yield from poll(question, chain_prompt(prompt), limits)).outcome


def cot_sc_to_react(question: Question, prompt: Prompt, limits: Limits) -> Agent:
    """CoT-SC; ReAct where fewer than half of the chains agree."""
    polled = yield from poll(question, chain_prompt(prompt), limits)
    if 2 * polled.agreed >= SAMPLES or polled.outcome.status.is_masked:
        return polled.outcome
    return (yield from react(question, prompt, limits))
