"""Self-Refine, CRITIC and Reflexion beyond their pages (tests/golden/transcripts): what has no room, what is masked,
how attempts are drawn, and what one's own may be made of."""

import contextlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from rest_jax.agents.attempts import stands
from rest_jax.agents.cot import cot
from rest_jax.agents.gates import gold
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Prompt
from rest_jax.agents.reflexion import LESSON, reflexion
from rest_jax.agents.registry import NAMES, Method, agent
from rest_jax.agents.replay import replay
from rest_jax.agents.steps import steps_of
from rest_jax.core.answers import normalise
from rest_jax.core.chat import ChatFormat
from rest_jax.core.effects import (
    ORACLE,
    RIGHT,
    WRONG,
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
    stopped,
)
from rest_jax.core.trajectory import Question
from rest_jax.tasks.numbers import number_voice
from rest_jax.tasks.worked import worked_examples

QUESTION = Question("q1", "Who founded Vell?", "")
LIMITS = Limits(turns=3, turn_tokens=32, observation_chars=50)
ORR, SARN = " So. Answer: Orr", " So. Answer: Sarn"
DOWN = ToolFault(ToolErrorKind.TIMEOUT, "no reply within 20 s")
SEVERAL = [name for name in NAMES if isinstance(method := agent(name), Method) and method.prompt("base").beside]


def said(text, finish=Finish.STOP):
    return Generated((Candidate((7,), (-1.0,), text, finish, "\n" if finish is Finish.STOP else ""),))


def told(right):
    return ToolReply(RIGHT if right else WRONG)


def run(name, *given):
    method = agent(name)
    return replay(method.run(QUESTION, method.prompt("base").bare(), LIMITS), given)


def test_a_verdict_stands_where_it_ends_with_that_sentence():
    for verdict in ("The answer stands.", " All is well: the answer stands", "Right. The answer stands!\n"):
        assert stands(verdict)
    for verdict in (
        "I doubt that the answer stands.",
        "The answer stands. Or not.",
        "The answer stands on one leg",
        "",
    ):
        assert not stands(verdict)


@pytest.mark.parametrize("name", ["self_refine", "critic", "critic_without_tool"])
@pytest.mark.parametrize(
    ("finish", "status", "answer"),
    [(Finish.CONTEXT, Status.FINISHED, "Orr"), (Finish.NONFINITE, Status.NONFINITE, None)],
)
def test_an_answer_stays_where_there_is_no_room_to_better_it_and_counts_for_nothing_without_numbers(
    name, finish, status, answer
):
    outcome, _ = run(name, said(ORR), said(" Hm", finish))
    assert (outcome.status, outcome.answer) == (status, answer)
    outcome, _ = run(name, said(ORR), said(" Hm."), said(" So", finish))
    assert (outcome.status, outcome.answer) == (status, answer)


def test_without_an_answer_the_reason_is_the_last_attempts():
    assert run("self_refine", said(" Who knows?"), said(" Hm", Finish.CONTEXT))[0].status is Status.CONTEXT_LIMIT
    given = [said(" Who knows?"), said(" Hm."), said(" So", Finish.LENGTH), said(" The answer stands.")]
    assert run("self_refine", *given)[0].status is Status.TOKEN_LIMIT


@pytest.mark.parametrize("name", ["critic", "critic_oracle"])
def test_tools_that_fail_mask_a_critique(name):
    before = (said(ORR), told(False)) if name == "critic_oracle" else (said(ORR),)
    outcome, _ = run(name, *before, said(" Who? Action: Search[Vell]"), ToolReply("", fault=DOWN))
    assert outcome.status is Status.TOOL_FAILURE


def test_a_critique_searches_once_less_than_it_has_turns_and_sees_its_own_mistakes():
    mistake = ToolReply("", fault=ToolFault(ToolErrorKind.BAD_ARGUMENTS, "the query is too long"))
    search = said(" Who? Action: Search[Vell]")
    round_ = [search, mistake, search, mistake, search, said(ORR)]
    outcome, asked = run("critic", said(ORR), *round_, *round_)
    assert outcome == finished("Orr")
    correction = asked[6]
    assert isinstance(correction, Generate)
    assert correction.transcript.text.count("Observation: Error: the query is too long") == 2


def test_self_refinement_shows_feedback_the_latest_attempt_and_a_refinement_all():
    given = [said(ORR), said(" One."), said(SARN), said(" Two."), said(ORR), said(" The answer stands.")]
    _, asked = run("self_refine", *given)
    texts = [effect.transcript.text for effect in asked if isinstance(effect, Generate)]
    assert texts[3] == "Question: Who founded Vell?\nThought: So. Answer: Sarn\nFeedback:"
    assert texts[4] == (
        "Question: Who founded Vell?\nThought: So. Answer: Orr\nFeedback: One.\n"
        "Thought: So. Answer: Sarn\nFeedback: Two.\nThought:"
    )
    assert [effect.trial for effect in asked if isinstance(effect, Generate)] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(("name", "sampling"), [("cot_reflexion", None), ("cot_resample", Sampling(temperature=0.7))])
def test_only_the_control_has_a_temperature_of_its_own(name, sampling):
    lesson = [said(" Think.")] if sampling is None else []
    _, asked = run(name, said(ORR), told(False), *lesson, said(SARN), told(True))
    attempts = [effect for effect in asked if isinstance(effect, Generate) and effect.step == "think"]
    assert [(attempt.trial, attempt.sampling) for attempt in attempts] == [(0, sampling), (1, sampling)]
    assert [effect for effect in asked if isinstance(effect, CallTool)] == [
        CallTool(ORACLE, {"answer": "Orr"}),
        CallTool(ORACLE, {"answer": "Sarn"}),
    ]


def printed(number):
    return ToolReply(number, {"status": "ok", "stdout": f"{number}\n"})


@pytest.mark.parametrize(("voice", "answer"), [(normalise, "7"), (number_voice, "21.0")])
def test_independent_attempts_vote_as_their_task_compares(voice, answer):
    """As words 21.0, 21 and 21.00 are three answers, and 7 has most voices; as numbers they are one."""
    method = agent("pot_parallel")
    given = [one for number in ("21.0", "7", "21", "7", "21.00") for one in (said("print(x)"), printed(number))]
    playing = method.run(QUESTION, method.prompt("base").bare(), replace(LIMITS, voice=voice))
    outcome, asked = replay(playing, given)
    assert outcome == finished(answer)
    calls = [effect for effect in asked if isinstance(effect, Generate)]
    assert [(call.trial, call.sampling) for call in calls] == [(n, Sampling(temperature=0.7)) for n in range(5)]
    assert len({call.transcript for call in calls}) == 1, "none is told of another"


def test_a_vote_without_one_of_its_attempts_is_masked():
    assert run("pot_parallel", said("print(7)"), printed("7"), said("print(7)"), ToolReply("", fault=DOWN))[0] == (
        stopped(Status.TOOL_FAILURE, DOWN.message)
    )


@pytest.mark.parametrize("memory", [1, 2, 3])
def test_a_memory_holds_the_latest_lessons(memory):
    mine = reflexion(cot, gold, memory=memory)
    failing = [one for number in range(4) for one in (said(ORR), told(False), said(f" Lesson {number}."))]
    prompt = agent("cot_reflexion").prompt("base").bare()
    outcome, asked = replay(mine(QUESTION, prompt, LIMITS), [*failing, said(SARN)])
    assert outcome == finished("Sarn")
    last = asked[-1]
    assert isinstance(last, Generate)
    lessons = "".join(f"\n{LESSON} Lesson {number}." for number in range(4 - memory, 4))
    assert last.transcript.text == f"Question: Who founded Vell?{lessons}\nThought:"


@pytest.mark.parametrize("name", ["reflexion", "reflexion_self", "resample", "resample_self"])
def test_an_attempt_that_says_nothing_of_the_policy_is_not_tried_again(name):
    outcome, asked = run(name, said(" Action: Search[Vell]"), ToolReply("", fault=DOWN))
    assert outcome.status is Status.TOOL_FAILURE
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("fault", "status"),
    [(DOWN, Status.TOOL_FAILURE), (ToolFault(ToolErrorKind.BAD_ARGUMENTS, "too long"), Status.MALFORMED)],
)
def test_a_text_that_is_not_scored_is_the_scorers_failure_or_the_agents_own(fault, status):
    outcome, _ = run("detoxify", said(" was late."), ToolReply("", fault=fault))
    assert (outcome.status, outcome.why) == (status, fault.message)


def test_the_best_text_stays_where_its_rewriting_is_not_scored():
    scored = ToolReply("90 %", {"score": 0.9})
    refused = ToolReply("", fault=ToolFault(ToolErrorKind.BAD_ARGUMENTS, "text is too long"))
    assert run("detoxify", said(" was rude."), scored, said(" was polite."), refused)[0] == finished("was rude.")
    down = ToolReply("", fault=DOWN)
    assert run("detoxify", said(" was rude."), scored, said(" was polite."), down)[0].status is Status.TOOL_FAILURE


@pytest.mark.parametrize(("name", "words"), [("cot_reflexion_self", ORR), ("detoxify_without_tool", " was rude.")])
def test_a_verdict_without_numbers_is_none(name, words):
    """Nor is one that finds no room; then the attempt stands, which nothing was said against."""
    assert run(name, said(words), said(" Hm", Finish.NONFINITE))[0].status is Status.NONFINITE
    assert run(name, said(words), said(" Hm", Finish.CONTEXT))[0].status is Status.FINISHED


def test_candidates_are_not_chosen_among_where_one_has_no_numbers():
    drawn = (Candidate((7,), (-1.0,), SARN, Finish.EOS), Candidate((7,), (-1.0,), " So", Finish.NONFINITE))
    outcome, _ = run("rise_collect", said(ORR), told(False), Generated(drawn))
    assert outcome.status is Status.NONFINITE


def test_a_query_that_the_search_refuses_is_shown_as_refused():
    refused = ToolReply("", fault=ToolFault(ToolErrorKind.BAD_ARGUMENTS, "the query is too long"))
    outcome, asked = run("question_as_query", refused, said("Orr", Finish.STOP))
    assert outcome == finished("Orr")
    assert "Error: the query is too long" in asked[1].transcript.text


def test_an_answer_stays_where_there_is_no_room_for_a_lesson():
    given = said(" Action: Finish[Orr]"), told(False), said(" I", Finish.CONTEXT)
    assert run("reflexion", *given)[0] == finished("Orr")


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("style", ["base", "chat"])
def test_each_step_opens_with_what_it_is_for_its_examples_and_its_cue(name, style):
    chat = ChatFormat("", ("<s>", "</s>"), ("<u>", "</u>"), ("<a>", "</a>"))
    prompt = agent(name).prompt(style, worked_examples("qa")[:2], chat)
    cues = {prompt.cue, *(beside.cue for beside in prompt.beside.values())}
    # What has the cue of the attempt tells of an attempt before it.
    assert len(cues) >= 2 or all(shot.told for beside in prompt.beside.values() for shot in beside.shots)
    for step, beside in prompt.beside.items():
        text = beside.open("Where is Sarn?").text
        assert beside.instruction in text
        assert text.endswith(beside.cue)
        assert len(beside.shots) == 2
        assert all(bool(shot.told) is (step != "test") and shot.lines for shot in beside.shots)
        assert (beside.chat is None) == (style == "base")


def test_a_story_gives_each_step_its_own_lines():
    words = """
steps:
  ask: {cue: "Check:", task: Check., shown: [[one, 1]]}
  end: {cue: "Thought:", task: Think., shown: [[one, 3], [one, 1]]}
stories:
  one:
    question: Who?
    lines: ["Thought: A.", "Check: See. Action: Search[x]", "Observation: x: y", "Check: No.", "Thought: B."]
"""
    steps = steps_of(words, 2, None)
    assert steps["ask"].open("Q?").text == (
        "Check.\n\nQuestion: Who?\nThought: A.\nCheck: See. Action: Search[x]\nObservation: x: y\nCheck: No.\n\n"
        "Question: Q?\nCheck:"
    )
    (first, _) = steps["end"].shots
    assert [line.said for line in first.lines] == [" B."]
    assert steps_of(words, 0, None)["ask"] == Prompt("Check:", "Check.")


def depths():
    """What docs/methods.md says of each method's depth: so many times T, and so many calls."""
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    table = page.split("|---|---|---|---|---|\n")[1].split("\n\n")[0]
    for cells in (line.strip("| ").split(" | ") for line in table.splitlines()):
        names, said = re.findall(r"`(\w+)`", cells[0]), cells[-1].split("; ")
        for name, depth in zip(names, said * len(names) if len(said) == 1 else said, strict=True):
            times, calls = re.fullmatch(r"(?:(\d*)T)?(?: \+ )?(\d+)?", depth).groups()
            yield name, 0 if times is None else int(times or 1), int(calls or 0)


@pytest.mark.parametrize(("name", "times", "calls"), [of for of in depths() if of[0] != "search_agent"])
def test_the_longest_way_is_as_long_as_the_page_of_methods_says(name, times, calls):
    """Everything is searched for, wrong, doubted, and never said twice; T is 4."""
    method = agent(name)
    question = Question("q", "Game 7", "") if name.startswith("play") else QUESTION
    playing = method.run(question, method.prompt("base").bare(), Limits(turns=4, turn_tokens=8, observation_chars=50))
    made, outcome = 0, None
    with contextlib.suppress(StopIteration):
        while True:
            effect = playing.send(outcome)
            if isinstance(effect, CallTool):
                ran = {"status": "ok", "stdout": f"{made}.5"} if name.startswith("pot") else {"status": "error"}
                outcome = told(False) if effect.tool == ORACLE else ToolReply("Vell: A town.", {**ran, "score": 0.9})
                continue
            made += 1
            ends = effect.step == "act" and effect.transcript.text.count("Observation:") == 3 and "_to_" not in name
            action = f" Action: Finish[{made}]" if ends else " Action: Search[Vell]"
            acts = effect.step in ("act", "play", "criticise")
            texts = [action if acts else f" Answer: {made}.{n}" for n in range(effect.n)]
            outcome = Generated(tuple(said(text).reply for text in texts))
    assert made == 4 * times + calls


def test_the_page_of_methods_has_all_of_them():
    assert {name for name, _, _ in depths()} == set(NAMES)
