"""The agents themselves, run on recorded outcomes."""

import re
from dataclasses import replace

import pytest

from rest_jax.agents.demonstration import author
from rest_jax.agents.limits import Limits, cut
from rest_jax.agents.prompt import Prompt
from rest_jax.agents.registry import NAMES, Method, agent, method_of
from rest_jax.agents.replay import replay
from rest_jax.config.schema import field_docs
from rest_jax.config.settings import AgentSettings
from rest_jax.core.chat import ChatFormat
from rest_jax.core.demonstration import Demonstration, Turn
from rest_jax.core.effects import (
    CallTool,
    Candidate,
    Finish,
    Generate,
    Generated,
    Sampling,
    Status,
    ToolErrorKind,
    ToolFault,
    ToolReply,
    finished,
)
from rest_jax.core.errors import UserError
from rest_jax.core.keys import KeyPath
from rest_jax.core.policy import Request
from rest_jax.core.trajectory import Question

QUESTION = Question("q1", "Who founded Vell?", "Orr")
PROMPT = Prompt("Thought:")
LIMITS = Limits(turns=3, turn_tokens=32, observation_chars=50)
REACT = agent("react")
OF_LINES = [name for name in NAMES if isinstance(agent(name), Method)]


def said(text, finish=Finish.STOP):
    overhang = "\n" if finish is Finish.STOP else ""
    return Generated((Candidate((7,), (-1.0,), text, finish, overhang),))


def found(title, text):
    return ToolReply(f"{title}: {text}", {"results": [{"title": title, "text": text, "score": 1.0}]})


def run(*outcomes, limits=LIMITS):
    return replay(REACT.run(QUESTION, PROMPT, limits), outcomes)


def test_react_searches_looks_up_and_finishes():
    outcome, asked = run(
        said(" Action: Search[Vell]"),
        found("Vell", "A town."),
        said(" Action: Lookup[founded]"),
        ToolReply("(Result 1 / 1) Orr founded it."),
        said(" Action: Finish[Orr]", Finish.EOS),
    )
    assert outcome == finished("Orr")
    assert asked[1] == CallTool("search", {"query": "Vell"})
    assert asked[3] == CallTool("lookup", {"title": "Vell", "keyword": "founded", "index": 0})
    last = asked[4]
    assert isinstance(last, Generate)
    assert (last.step, last.max_tokens, last.stop, last.n) == ("act", 32, ("\n",), 1)
    assert last.transcript.text == (
        "Question: Who founded Vell?\n"
        "Thought: Action: Search[Vell]\n"
        "Observation: Vell: A town.\n"
        "Thought: Action: Lookup[founded]\n"
        "Observation: (Result 1 / 1) Orr founded it.\n"
        "Thought:"
    )


def test_the_same_lookup_again_goes_on_and_a_new_page_begins_anew():
    _, asked = run(
        said(" Action: Search[Vell]"),
        found("Vell", "A town."),
        said(" Action: Lookup[town]"),
        ToolReply("(Result 1 / 2) A town."),
        said(" Action: Lookup[Town]"),
        ToolReply("No more results."),
        said(" Action: Search[Sarn]"),
        found("Sarn", "A town."),
        said(" Action: Lookup[town]"),
        ToolReply("(Result 1 / 1) A town."),
        limits=Limits(turns=5, turn_tokens=32, observation_chars=40),
    )
    looked = [effect.arguments for effect in asked if isinstance(effect, CallTool) and effect.tool == "lookup"]
    assert [(look["title"], look["index"]) for look in looked] == [("Vell", 0), ("Vell", 1), ("Sarn", 0)]


@pytest.mark.parametrize("search", [None, ToolReply("Could not find Vell. Similar: [].", {"results": []})])
def test_lookup_without_a_page_calls_no_tool(search):
    before = () if search is None else (said(" Action: Search[Vell]"), search)
    outcome, asked = run(*before, said(" Action: Lookup[town]"), said(" Action: Finish[Orr]"))
    assert outcome == finished("Orr")
    assert isinstance(asked[-1], Generate)
    assert asked[-1].transcript.text.endswith("Observation: Nothing to look in yet: use Search first.\nThought:")


@pytest.mark.parametrize(
    ("text", "finish", "status"),
    [
        (" I do not know.", Finish.STOP, Status.MALFORMED),
        (" I do not know.", Finish.EOS, Status.MALFORMED),
        (" I do not", Finish.LENGTH, Status.TOKEN_LIMIT),
        ("", Finish.CONTEXT, Status.CONTEXT_LIMIT),
        (" I", Finish.NONFINITE, Status.NONFINITE),
    ],
)
def test_endings_without_an_action(text, finish, status):
    outcome, _ = run(said(text, finish))
    assert (outcome.status, outcome.answer) == (status, None)


@pytest.mark.parametrize("name", OF_LINES)
@pytest.mark.parametrize(
    ("finish", "status"), [(Finish.CONTEXT, Status.CONTEXT_LIMIT), (Finish.NONFINITE, Status.NONFINITE)]
)
def test_a_reply_that_was_broken_off_is_not_read(name, finish, status):
    """Its text may look whole: `Finish[Orr]` of `Finish[Orr [b. 1900]]`."""
    method = agent(name)
    before = (found("Vell", "By Orr."),) if name == "question_as_query" or name.startswith("play") else ()
    broken = said(" Action: Finish[Orr] Answer: Orr", finish)
    # Where one part of a method has no room another is tried: the other method, the lesson, the next attempt.
    more = 4 * ("resample" in name or name == "pot_parallel") + ("_to_" in name) + ("reflexion" in name)
    if finish is Finish.NONFINITE or "test" in method.prompt("base").beside:  # no room for tests is none for a program
        more = 0
    play = method.run(Question("q7", "Who founded Vell in 7?", "Orr"), method.prompt("base").bare(), LIMITS)
    again = [broken] if "reflexion" in name else [*before, broken]
    outcome, _ = replay(play, [*before, broken, *again * more])
    assert (outcome.status, outcome.answer) == (status, None)


def test_what_the_policy_says_of_a_missing_number_is_the_outcomes_reason():
    reply = said(" I", Finish.NONFINITE)
    assert run(reply)[0].why == "the model produced a NaN"
    (candidate,) = reply.candidates
    assert run(replace(reply, candidates=(replace(candidate, why="weights"),)))[0].why == "weights"


def test_turns_are_limited():
    outcome, asked = run(*[said(" Action: Search[Vell]"), found("Vell", "A town.")] * 3)
    assert outcome.status is Status.STEP_LIMIT
    assert len(asked) == 6


def test_the_models_own_tool_errors_are_shown_to_it():
    fault = ToolFault(ToolErrorKind.BAD_ARGUMENTS, "the query is too long")
    _, asked = run(said(" Action: Search[Vell]"), ToolReply("", fault=fault), said(" Action: Finish[Orr]"))
    assert isinstance(asked[-1], Generate)
    assert asked[-1].transcript.text.endswith("Observation: Error: the query is too long\nThought:")


def test_a_failing_infrastructure_ends_it_masked():
    fault = ToolFault(ToolErrorKind.TIMEOUT, "no reply within 20 s")
    outcome, _ = run(said(" Action: Search[Vell]"), ToolReply("", fault=fault))
    assert outcome.status is Status.TOOL_FAILURE
    assert outcome.status.is_masked


def test_observations_are_cut_at_a_words_end():
    assert cut("one two three", 13) == "one two three"
    assert cut("one two three", 12) == "one two …"
    assert cut("one two three", 7) == "one two …"
    assert cut("one two three", 8) == "one two …"
    assert cut("onetwothree", 4) == "onet …"
    _, asked = run(said(" Action: Search[Vell]"), found("Vell", "word " * 20), said(" Action: Finish[Orr]"))
    assert asked[-1].transcript.text.endswith(f"Observation: Vell: {' '.join(['word'] * 9)} …\nThought:")


def test_replay_tells_when_the_record_is_of_another_run():
    with pytest.raises(ValueError, match="wants more than the 1"):
        run(said(" Action: Search[Vell]"))
    with pytest.raises(ValueError, match="ended and left 1 of 2"):
        run(said(" Action: Finish[Orr]"), found("Vell", "A town."))


def test_closed_book_answers_in_one_call():
    method = agent("closed_book")
    play = method.run(QUESTION, method.prompt("base").bare(), LIMITS)
    outcome, asked = replay(play, [said(" Orr ")])
    assert outcome == finished("Orr")
    assert asked[0].transcript.text == "Question: Who founded Vell?\nAnswer:"
    assert replay(method.run(QUESTION, PROMPT, LIMITS), [said(" ")])[0].status is Status.MALFORMED


def test_question_as_query_writes_all_but_the_answer():
    method = agent("question_as_query")
    outcome, asked = replay(method.run(QUESTION, PROMPT, LIMITS), [found("Vell", "By Orr."), said("Orr")])
    assert outcome == finished("Orr")
    assert asked[0] == CallTool("search", {"query": "Who founded Vell?"})
    assert asked[1].transcript.text == (
        "Question: Who founded Vell?\n"
        "Thought: I look it up. Action: Search[Who founded Vell?]\n"
        "Observation: Vell: By Orr.\n"
        "Thought: I answer from this. Action: Finish["
    )


DEMONSTRATION = Demonstration(
    QUESTION,
    (Turn("I need\n Vell.", "search", "Vell", "Vell: By Orr."), Turn("It is Orr.", "finish", "Orr")),
)


@pytest.mark.parametrize("name", OF_LINES)
def test_every_method_prompts_in_both_styles(name):
    method = agent(name)
    chat = ChatFormat("", ("<s>", "</s>"), ("<u>", "</u>"), ("<a>", "</a>"))
    for style in ("base", "chat"):
        prompt = method.prompt(style, [DEMONSTRATION], chat)
        text = prompt.open("Where is Sarn?").text
        assert prompt.instruction in text
        assert prompt.asks[0] in text
        assert prompt.asks[0] == "Who founded Vell?" or method.own_shots
        assert text.endswith(method.cue)
        assert (prompt.chat is None) == (style == "base")


def test_chat_without_a_chat_format_is_refused():
    with pytest.raises(UserError, match="no chat template; write style: base"):
        REACT.prompt("chat")


def test_an_unknown_agent_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match=r"no agent called 'reakt'; did you mean 'react'\? known are react, .*cot_sc"):
        agent("reakt")
    with pytest.raises(UserError, match="known are react, "):
        agent("x")


def request(call):
    return Request(1, 1, (), KeyPath(0, 0, "q1", 0, 0, call, 0), 32, ("\n",), Sampling())


@pytest.mark.parametrize("chat", [None, ChatFormat("", ("", ""), ("", ""), ("", ""))])
def test_an_author_says_the_demonstration_turn_by_turn(chat):
    write = author([DEMONSTRATION], REACT.lines, Prompt("Thought:", chat=chat))
    assert write("", request(0)) == (" I need Vell. Action: Search[Vell]", chat is not None)
    assert write("", request(1)) == (" It is Orr. Action: Finish[Orr]", True)
    assert write("", request(2)) == ("", True)


def test_limits_come_from_the_settings():
    settings = AgentSettings(turns=4, turn_tokens=50, observation_chars=99)
    assert Limits.of(settings, 64) == Limits(turns=4, turn_tokens=50, observation_chars=99)


def test_a_turn_is_as_long_as_its_method_needs_unless_the_settings_say():
    assert {name: Limits.of(AgentSettings(name), agent(name).turn_tokens).turn_tokens for name in NAMES} == {
        **dict.fromkeys(NAMES, 64),
        "search_agent": 256,
    }


@pytest.mark.parametrize("name", ["react_to_cot_sc", "cot_sc_to_react"])
def test_a_back_off_is_for_prompted_models(name):
    """Bare, its two prompts are one text; and its calls are not those of a demonstration, turn by turn."""
    assert method_of(AgentSettings(name)).name == name
    for settings, learns in ((AgentSettings(name), True), (AgentSettings(name, bare=True), False)):
        with pytest.raises(UserError, match=rf"agent '{name}': .* so no model is trained to be it; .* --agent {name}"):
            method_of(settings, learns=learns)


def test_every_agent_is_named_where_one_is_chosen():
    assert set(NAMES) <= set(re.findall(r"\w+", field_docs(AgentSettings)["name"]))
