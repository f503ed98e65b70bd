"""ReAct's baselines beyond their pages (tests/golden/transcripts): budgets, votes, what is masked, and prompts."""

from dataclasses import replace

import pytest

from rest_jax.agents.cot import chain_prompt
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Prompt
from rest_jax.agents.registry import agent
from rest_jax.agents.replay import replay
from rest_jax.core.answers import Vote, majority, normalise
from rest_jax.core.chat import ChatFormat
from rest_jax.core.effects import (
    Candidate,
    Finish,
    Generate,
    Generated,
    Sampling,
    Status,
    ToolErrorKind,
    ToolFault,
    ToolReply,
    choose,
    finished,
)
from rest_jax.core.trajectory import Question
from rest_jax.tasks.numbers import number_voice
from rest_jax.tasks.worked import worked_examples

QUESTION = Question("q1", "Who founded Vell?", "Orr")
PROMPT = Prompt("Thought:")
LIMITS = Limits(turns=3, turn_tokens=32, observation_chars=50)
CHAT = ChatFormat("", ("<s>", "</s>"), ("<u>", "</u>"), ("<a>", "</a>"))


def said(*texts, finish=Finish.EOS):
    return Generated(tuple(Candidate((7,), (-1.0,), text, finish) for text in texts))


def run(name, *given):
    return replay(agent(name).run(QUESTION, PROMPT, LIMITS), given)


def test_a_chain_may_take_the_tokens_of_all_turns_together():
    outcome, (asked,) = run("cot", said(" So. Answer: Orr"))
    assert outcome == finished("Orr")
    assert isinstance(asked, Generate)
    assert (asked.step, asked.max_tokens, asked.n, asked.sampling) == ("think", 3 * 32, 1, None)


def test_cot_sc_draws_21_samples_at_temperature_0_7():
    """Yao et al. 2023, section 3.2."""
    _, (asked,) = run("cot_sc", said(" Answer: Orr"))
    assert isinstance(asked, Generate)
    assert (asked.n, asked.sampling) == (21, Sampling(temperature=0.7))


def test_the_chain_that_stands_for_all_gives_the_majoritys_answer():
    """What is stored as the reply is what is learned: not the first chain, whatever it says."""
    _, (asked,) = run("cot_sc", said(" Answer: Orr"))
    assert isinstance(asked, Generate)
    chains = said(" Who knows?", " Answer: Sarn", " Answer: Orr", " So. Answer: orr.").candidates
    assert choose(chains, asked.choose) == 2
    assert choose(chains[:1], asked.choose) == 0


def test_a_vote_of_chains_counts_as_the_task_compares():
    """Of numbers 18, 18.0 and $18 are one voice, and 2.5 is not 25."""
    chains = said(" Answer: 25", " Answer: 2.5", " Answer: 18.0", " Answer: $18", " Answer: 25", " Answer: 18")
    for voice, answer in ((number_voice, "18.0"), (normalise, "25")):
        made = agent("cot_sc").run(QUESTION, PROMPT, replace(LIMITS, voice=voice))
        assert replay(made, [chains])[0] == finished(answer)


@pytest.mark.parametrize(("agreed", "backs_off"), [(10, True), (11, False)])
def test_cot_sc_backs_off_where_fewer_than_half_agree(agreed, backs_off):
    """Yao et al. 2023, section 3.2: "when the majority answer among n CoT-SC samples occurs less than n/2 times"."""
    poll = said(*[" Answer: Orr"] * agreed, *[" Who knows?"] * (21 - agreed))
    outcome, asked = run("cot_sc_to_react", poll, *([said(" Action: Finish[Sarn]")] if backs_off else []))
    assert outcome == finished("Sarn" if backs_off else "Orr")
    assert len(asked) == 1 + backs_off


@pytest.mark.parametrize("name", ["cot", "cot_sc", "react_to_cot_sc", "cot_sc_to_react"])
def test_what_says_nothing_of_the_policy_is_masked_and_no_reason_to_back_off(name):
    outcome, asked = run(name, said(" Answer: Orr", finish=Finish.NONFINITE))
    assert outcome.status is Status.NONFINITE
    assert len(asked) == 1


def test_tools_that_fail_are_no_reason_to_back_off():
    fault = ToolFault(ToolErrorKind.TIMEOUT, "no reply within 20 s")
    outcome, asked = run("react_to_cot_sc", said(" Action: Search[Vell]"), ToolReply("", fault=fault))
    assert outcome.status is Status.TOOL_FAILURE
    assert len(asked) == 2


def test_one_chain_without_numbers_masks_the_vote():
    good, bad = said(" Answer: Orr"), said(" Answer", finish=Finish.NONFINITE)
    outcome, _ = run("cot_sc", Generated((*good.candidates, *bad.candidates)))
    assert outcome.status is Status.NONFINITE


def test_a_chain_that_fills_the_context_has_no_voice():
    full, good = said(" Answer: Sarn", finish=Finish.CONTEXT), said(" Answer: Orr")
    assert run("cot_sc", Generated((*full.candidates, *good.candidates)))[0] == finished("Orr")
    assert run("cot_sc", full)[0].status is Status.CONTEXT_LIMIT


def test_an_answer_is_what_stands_after_the_last_cue():
    assert run("cot", said(" The question says Answer: x. Answer: Orr "))[0] == finished("Orr")
    assert run("cot", said(" Answer: "))[0].status is Status.MALFORMED
    assert run("cot", said(" So. Answer: Or", finish=Finish.LENGTH))[0].status is Status.TOKEN_LIMIT


@pytest.mark.parametrize("style", ["base", "chat"])
def test_backing_off_prompts_as_the_method_itself_does(style):
    examples = worked_examples("qa")
    react, cot = (agent(name).prompt(style, examples, CHAT) for name in ("react", "cot"))
    assert chain_prompt(react) == cot
    assert chain_prompt(react.bare()) == cot.bare()
    assert chain_prompt(react.saying("react_to_cot_sc")) == cot.saying("react_to_cot_sc")


def test_worked_examples_of_act_have_no_thoughts_and_those_of_a_chain_no_actions():
    (example,) = worked_examples("qa")[:1]
    act, cot = (agent(name).prompt("base", [example]).open("Who?").text for name in ("act", "cot"))
    assert "Action: Search[Hungary]\nObservation: Hungary: " in act
    assert "I need" not in act
    assert "is Budapest. I need the river that flows through it. Budapest lies on the Danube. Answer: Danube\n" in cot
    assert "Search[" not in cot
    assert "Observation" not in cot


def test_a_chain_needs_a_worked_example_that_ends_with_an_answer():
    prompt = agent("react").prompt("base", worked_examples("qa"))
    broken = replace(prompt, shots=(replace(prompt.shots[0], lines=prompt.shots[0].lines[:1]),))
    with pytest.raises(ValueError, match="ends without an answer"):
        chain_prompt(broken)


def test_a_vote_is_normalised_and_ties_go_to_the_first():
    assert majority(["The Orr", None, "Sarn", "orr."]) == Vote(0, 2)
    assert majority([None, "Sarn", "Orr", "orr", "Sarn"]) == Vote(1, 2)
    assert majority([None, None]) is None
    assert majority([]) is None
