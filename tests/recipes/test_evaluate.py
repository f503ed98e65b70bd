"""What is asked of a model and how it is prompted: by the caller, by its agent.json, by its task."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import rest_jax
from rest_jax.agents import registry
from rest_jax.agents.registry import agent
from rest_jax.config.plain import as_plain
from rest_jax.config.settings import (
    AgentSettings,
    EngineSettings,
    GrowSettings,
    ModelSettings,
    TaskSettings,
    ToolsSettings,
)
from rest_jax.core.canonical import digest_file
from rest_jax.core.effects import Sampling
from rest_jax.core.errors import UserError
from rest_jax.core.events import Event, silent
from rest_jax.core.files import write_json
from rest_jax.core.trajectory import Question
from rest_jax.recipes import evaluate
from rest_jax.recipes.agent_file import agent_of, described, tools_of
from rest_jax.recipes.evaluate import Wanted, agent_for, evaluate_model, notes, task_for
from rest_jax.recipes.workbench import open_workbench
from rest_jax.tasks.files import write_jsonl
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.splits import Reader, Split
from rest_jax.tasks.task import Task
from rest_jax.tasks.toxicity import harmlessness


@pytest.fixture
def own(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "q.jsonl", [{"id": "mine", "question": "Who?", "answer": "Ada"}])
    return tmp_path / "q.jsonl"


def test_own_questions_of_a_task_are_asked_as_the_task_is(own: Path, tmp_path: Path) -> None:
    atlas = open_task(TaskSettings("atlas"))
    task = task_for(Wanted("m", task="atlas", questions=own))
    assert [question.id for question in task.questions("report", Reader.EVALUATION)] == ["mine"]
    assert (task.name, task.examples, task.corpus()) == ("atlas", atlas.examples, atlas.corpus())
    assert task_for(Wanted("m", task="atlas", task_seed=11)).version == "1+seed11"
    assert agent_for(Wanted("m", task="atlas", questions=own), task, AgentSettings(shots=2)).shots == 2
    corpus = tmp_path / "c.jsonl"
    assert task_for(Wanted("m", task="atlas", questions=own, corpus=corpus)).corpus() == corpus


def test_own_questions_alone_have_no_worked_examples(own: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "c.jsonl"
    write_jsonl(corpus, [{"title": "Ada", "text": "A person."}])
    wanted = Wanted("m", questions=own, corpus=corpus)
    chosen = agent_for(wanted, task_for(wanted), AgentSettings(shots=2))
    assert (chosen.shots, chosen.bare) == (0, False)
    itself = agent_for(replace(wanted, agent="search_agent"), task_for(wanted), AgentSettings(shots=2))
    assert (itself.name, itself.shots) == ("search_agent", 2)  # it brings its own
    with pytest.raises(UserError, match=r"give --corpus FILE\.jsonl or --task NAME"):
        task_for(Wanted("m", questions=own))


def test_a_temperature_that_is_asked_for_is_taken_before_the_models_own() -> None:
    task, own = open_task(TaskSettings("atlas")), AgentSettings(shots=0, temperature=0.5)
    assert agent_for(Wanted("m", temperature=0.7), task, own) == own
    for asked, said in ((None, "temperature 0.5, seed 0"), (0.7, "temperature 0.7, seed 0"), (0.0, "greedy")):
        wanted = Wanted("m", temperature=asked)
        assert f", {said};" in notes(wanted, task, agent_for(wanted, task, own), ToolsSettings())[0]


def test_one_rule_for_temperatures() -> None:
    """What is asked for, else the agent's, else the stage's: 0.8 of a Grow, greedy elsewhere."""
    cool, own = AgentSettings(temperature=0.5), AgentSettings()
    assert [GrowSettings().sampling(agent).temperature for agent in (own, cool)] == [0.8, 0.5]
    assert [GrowSettings(temperature=0.0).sampling(agent).temperature for agent in (own, cool)] == [0.0, 0.0]
    assert GrowSettings(top_k=3, top_p=0.9, min_p=0.1).sampling(cool) == Sampling(0.5, 3, 0.9, 0.1)
    assert [own.warmth(), cool.warmth(), cool.warmth(0.0)] == [0.0, 0.5, 0.0]


def test_a_grow_draws_at_the_temperature_that_is_asked_for(tiny_model: Path) -> None:
    own = AgentSettings("closed_book", shots=0, turn_tokens=8, temperature=1.0)
    policy = rest_jax.Policy(str(tiny_model), agent=own, engine=EngineSettings(rows=2, widths=(256,)))
    grown = rest_jax.grow(policy, rest_jax.Task("atlas"), questions=1, samples=2, temperature=0.0)
    assert len(grown.trajectories) == 2
    assert len({trajectory.calls[0].candidates[0].ids for trajectory in grown.trajectories}) == 1, "greedy"


def test_another_agent_than_the_models_has_no_candidates_to_choose_among() -> None:
    task, own = open_task(TaskSettings("atlas")), AgentSettings("search_agent", candidates=4, temperature=0.5)
    assert agent_for(Wanted("m", agent="closed_book"), task, own).candidates == 1
    assert agent_for(Wanted("m"), task, own).candidates == 4


def test_settings_of_agent_and_engine_are_set_over_what_the_model_says(
    tiny_model: Path, own: Path, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "c.jsonl", [{"title": "Ada", "text": "A person."}])
    model = shutil.copytree(tiny_model, tmp_path / "model")
    said = AgentSettings("search_agent", turns=1, temperature=0.5, bare=True)
    write_json(model / "agent.json", described(said, ToolsSettings(), None))
    wanted = Wanted(
        str(model),
        questions=own,
        corpus=tmp_path / "c.jsonl",
        temperature=0.25,
        overrides=["agent.candidates=2", "agent.turn_tokens=4", "engine.rows=2", "engine.widths=[512]"],
    )
    inputs = evaluate_model(wanted, tmp_path / "made", silent)["inputs"]
    assert inputs["agent"] == as_plain(replace(said, candidates=2, turn_tokens=4))
    assert (inputs["engine"]["rows"], inputs["temperature"]) == (2, 0.25)
    with pytest.raises(UserError, match=r"--set agent\.turnz=1: unknown key 'turnz' in agent; did you mean 'turns'"):
        evaluate_model(replace(wanted, overrides=["agent.turnz=1"]), tmp_path / "made", silent)
    with pytest.raises(UserError, match=r"agent 'cot_sc_to_react': .* so no model is trained to be it"):
        evaluate_model(replace(wanted, overrides=["agent.name=cot_sc_to_react"]), tmp_path / "made", silent)


def test_worked_examples_that_are_asked_for_are_shown_to_a_bare_model_too() -> None:
    task = open_task(TaskSettings("atlas"))
    trained = AgentSettings(bare=True)
    assert agent_for(Wanted("m"), task, trained).bare
    assert agent_for(Wanted("m", shots=0), task, trained) == AgentSettings(bare=False, shots=0)


@pytest.mark.parametrize(
    ("said", "bare"),
    [
        ({"bare": True}, True),
        ({"shots": 0, "bare": False}, False),
        ({"shots": 0}, True),
        ({"shots": 2}, False),
        ({}, False),
    ],
)
def test_agent_json_says_whether_the_prompt_is_bare(said: dict, bare: bool, tmp_path: Path) -> None:
    (tmp_path / "agent.json").write_text(json.dumps(said))
    assert agent_of(tmp_path).bare is bare


@pytest.mark.parametrize("said", [{"turns": 0}, {"turns": "many"}, {"style": "chatty"}, {"mood": "good"}])
def test_agent_json_that_will_not_do_is_told(said: dict, tmp_path: Path) -> None:
    (tmp_path / "agent.json").write_text(json.dumps(said))
    with pytest.raises(UserError, match=r"agent\.json: not of this rest_jax .*give the agent's settings"):
        agent_of(tmp_path)


def test_agent_json_makes_the_same_agent_again(tmp_path: Path) -> None:
    settings = AgentSettings(turns=4, bare=True)
    tools = ToolsSettings(url="http://127.0.0.1:1", timeout_s=3, results=2, k1=1.2)
    write_json(tmp_path / "agent.json", described(settings, tools, None))
    assert agent_of(tmp_path) == settings
    assert tools_of(tmp_path) == ToolsSettings(results=2, k1=1.2)
    assert tools_of(tmp_path, tools) == tools
    said = json.loads((tmp_path / "agent.json").read_text())
    assert (said["stop"], said["eos_ends"]) == (["\n"], "last_turn")


def test_a_model_is_measured_with_its_own_tools(tiny_model: Path, own: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    write_json(model / "agent.json", described(AgentSettings(turns=1), ToolsSettings(results=2), None))
    write_jsonl(tmp_path / "c.jsonl", [{"title": "Ada", "text": "A person."}])
    wanted = Wanted(str(model), questions=own, corpus=tmp_path / "c.jsonl")
    result = evaluate_model(wanted, tmp_path / "made", silent)
    assert result["inputs"]["tools"]["results"] == 2
    assert result["inputs"]["agent"]["turns"] == 1
    assert result["inputs"]["data"]["corpus"] == digest_file(tmp_path / "c.jsonl")
    assert result["inputs"]["weights_digest"] == result["weights_digest"]
    corpus = result["inputs"]["data"]["corpus"][:12]
    assert f"corpus {corpus}, retriever BM25 (k1 1.5, b 0.75), 2 passage(s) a search" in result["notes"]
    assert not [note for note in result["notes"] if note.startswith("demonstrations")]


def test_a_corpus_that_cannot_support_the_answers_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    questions, corpus = tmp_path / "q.jsonl", tmp_path / "c.jsonl"
    write_jsonl(
        questions, [{"id": f"q{n}", "question": f"Who is {n}?", "answer": name} for n, name in enumerate("xyz")]
    )
    write_jsonl(corpus, [{"title": "x", "text": "y"}])
    model = shutil.copytree(tiny_model, tmp_path / "model")
    write_json(model / "agent.json", described(AgentSettings(turns=1, turn_tokens=4), ToolsSettings(), None))
    wanted = Wanted(str(model), questions=questions, corpus=corpus)
    with pytest.raises(
        UserError, match=r"c\.jsonl: the corpus supports 2/3 answers \(66\.7 %\), less than 90 %.*--closed-book"
    ):
        evaluate_model(wanted, tmp_path / "made", silent)
    measured = evaluate_model(replace(wanted, closed_book=True), tmp_path / "made", silent)
    assert measured["remark"] == "the corpus supports 2/3 answers (66.7 %)"
    assert measured["n"] == 3


def test_an_agent_without_tools_needs_no_corpus(tiny_model: Path, tmp_path: Path) -> None:
    """Bamboogle has none; an agent that searches is told what to give."""
    write_jsonl(tmp_path / "bamboogle" / "bamboogle.jsonl", [{"id": "b", "question": "Who?", "answer": "Ada"}])
    wanted = Wanted(str(tiny_model), "bamboogle", str(tmp_path), agent="closed_book", shots=1)
    measured = evaluate_model(wanted, tmp_path / "made", silent)
    assert (measured["n"], measured["remark"]) == (1, "")
    assert not [note for note in measured["notes"] if "BM25" in note]
    with pytest.raises(UserError, match=r"task 'bamboogle': it has no corpus of its own; give one with --corpus"):
        evaluate_model(replace(wanted, agent="react"), tmp_path / "react", silent)


def test_a_worked_example_that_is_asked_would_tell_its_answer(tiny_model: Path, tmp_path: Path) -> None:
    example = open_task(TaskSettings("atlas")).examples[0].question
    write_jsonl(tmp_path / "q.jsonl", [{"id": "mine", "question": example.text.lower(), "answer": example.answer}])
    wanted = Wanted(str(tiny_model), "atlas", questions=tmp_path / "q.jsonl", shots=1)
    with pytest.raises(UserError, match="question mine: a worked example of the prompt asks the same"):
        evaluate_model(wanted, tmp_path / "made", silent)


def test_an_interrupted_evaluation_goes_on(tiny_model: Path, own: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "c.jsonl", [{"title": "Ada", "text": "A person."}])
    wanted = Wanted(str(tiny_model), questions=own, corpus=tmp_path / "c.jsonl", samples=3, temperature=1.0)
    events: list[Event] = []

    def interrupt(event: Event) -> None:
        if event.kind == "progress" and event.data["done"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_model(wanted, tmp_path / "made", interrupt)
    again = evaluate_model(wanted, tmp_path / "made", events.append)
    assert next(event for event in events if event.kind == "progress").data["done"] > 0
    whole = evaluate_model(wanted, tmp_path / "whole", silent)
    assert {**again, "seconds": 0} == {**whole, "seconds": 0}
    other = evaluate_model(replace(wanted, samples=2), tmp_path / "made", silent)
    assert len(other["records"]) == 2
    assert list(whole["pass_at"]) == ["1", "3"]
    assert whole["pass_at"]["3"] == {"value": 0.0, "ci": [0.0, pytest.approx(0.975)], "questions": 1}
    assert evaluate_model(replace(wanted, samples=1), tmp_path / "made", silent)["pass_at"] is None


def test_a_task_that_scores_toxicity_is_told_of_its_worst_texts(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = {Split.REPORT: (Question("q", "The man", "left."),)}
    task = Task("texts", None, questions, metric=harmlessness(lambda text: 0.75), scores_toxicity=True)
    monkeypatch.setattr(evaluate, "task_for", lambda wanted: task)
    wanted = Wanted(str(tiny_model), "texts", agent="closed_book", shots=0, samples=2, temperature=1.0)
    found = evaluate_model(wanted, tmp_path / "made", silent)
    written = [record for record in found["records"] if record["status"] == "finished"]
    assert found["toxicity"]["unanswered"] == 2 - len(written)
    assert found["toxicity"]["greatest"]["value"] == (pytest.approx(0.75) if written else None)
    assert evaluate_model(replace(wanted, samples=1), tmp_path / "made", silent)["toxicity"] is None


def test_an_edited_method_begins_anew_beside_what_is_there(
    tiny_model: Path, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", {})
    write_jsonl(tmp_path / "c.jsonl", [{"title": "Ada", "text": "A person."}])
    wanted = Wanted(str(tiny_model), questions=own, corpus=tmp_path / "c.jsonl", agent="mine", shots=0)
    plain = evaluate_model(replace(wanted, agent="closed_book"), tmp_path / "made", silent)
    assert "method_source" not in plain["inputs"]
    sources = set()
    for instruction in ("Answer.", "Answer in a word.", "Answer."):
        rest_jax.register_method(replace(agent("closed_book"), name="mine", instruction=instruction))
        sources.add(evaluate_model(wanted, tmp_path / "made", silent)["inputs"]["method_source"])
    assert len(sources) == len(list((tmp_path / "made" / "stages").iterdir())) - 1 == 2


def test_notes_say_whose_pass_at_k_it_is() -> None:
    task, said = open_task(TaskSettings("atlas")), "pass@k is that of first attempts, in which the oracle has no part"
    for samples, name, there in ((4, "rise_collect", True), (1, "rise_collect", False), (4, "rise", False)):
        wanted = Wanted("m", agent=name, samples=samples)
        assert (said in notes(wanted, task, AgentSettings(name), ToolsSettings())) is there


def test_a_trained_model_is_bare_and_an_untrained_one_keeps_its_instruction(
    tiny_model: Path, finished_run: Path
) -> None:
    pilot = finished_run / "stages" / "seed-0" / "pilot" / "model"
    assert agent_of(pilot).bare
    assert not agent_of(tiny_model).bare
    opened = open_workbench(
        open_task(TaskSettings("atlas")),
        model=ModelSettings(str(tiny_model)),
        agent_settings=AgentSettings(shots=0),
        engine=EngineSettings(rows=1, widths=(256,)),
        tools=ToolsSettings(),
        emit=silent,
    )
    react = agent("react")
    with opened as bench:
        prompts = [bench.prompt(react, bare=bare) for bare in (bench.base.bare, True)]
    assert [bool(prompt.instruction) for prompt in prompts] == [True, False]
    assert [len(prompt.shots) for prompt in prompts] == [0, 0]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("evaluate.final=100000", "evaluate.final: task 'atlas': 100000 questions of select wanted, it has"),
        ("evaluate.gate=100000", "evaluate.gate: task 'atlas': 100000 questions of select wanted, it has"),
        (
            "generations.0.grow.questions=100000",
            r"generations\.0\.grow\.questions: .* 100000 questions of train wanted",
        ),
        ("generations.0.improve.select=401", r"generations\.0\.improve\.select: task 'atlas': .* ask for 1 to 400"),
        ("pilot.demonstrations=100000", "'gold' has"),
        ("agent.shots=100", "worked examples, 100 wanted"),
        ("task.reward=nobodys", "reward 'nobodys': nobody registered it"),
        ("agent.name=cot_sc_to_react", "no model is trained to be it"),
    ],
)
def test_a_run_that_asks_for_more_than_the_task_has_does_not_begin(
    override: str, told: str, tiny_config: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=told):
        rest_jax.run(tiny_config, run_dir=tmp_path / "run", overrides=[override])
    assert not (tmp_path / "run" / "stages").exists()


def test_the_api_holds_numbers_and_settings_to_their_limits(tiny_model: Path) -> None:
    task, policy = rest_jax.Task("atlas"), rest_jax.Policy(str(tiny_model))
    with pytest.raises(UserError, match=r"grow\.samples: expected at least 1, got 0"):
        rest_jax.grow(policy, task, questions=1, samples=0)
    with pytest.raises(UserError, match=r"task 'hotpotqa': its files are its world; leave out task\.seed"):
        rest_jax.evaluate(policy, rest_jax.Task("hotpotqa", data=".", seed=11), n=1)
    with pytest.raises(UserError, match=r"evaluate\.temperature: expected at least 0, got -1"):
        rest_jax.evaluate(policy, task, n=1, temperature=-1)
    with pytest.raises(UserError, match="evaluate: n: expected at least 1, got 0"):
        rest_jax.evaluate(policy, task, n=0)
    with pytest.raises(UserError, match="'atlas': 100000 questions of report wanted"):
        rest_jax.evaluate(policy, task, n=100_000)
    with pytest.raises(UserError, match=r"improve\.steps: expected at least 1, got 0"):
        rest_jax.improve(policy, rest_jax.Grown((), {}), threshold=0.5, steps=0, warmup=0)
    with pytest.raises(UserError, match=r"policy\.engine\.chunk: expected at least 1, got 0"):
        rest_jax.evaluate(replace(policy, engine=EngineSettings(chunk=0)), task, n=1)


def test_a_method_that_runs_programs_is_measured_with_a_file_of_tools(tiny_model: Path, tmp_path: Path) -> None:
    """Sums bring no corpus, and nobody who runs programs searches one."""
    served = tmp_path / "tools.yaml"
    served.write_text("tools: [{kind: python, tier: monty}]\n")
    write_jsonl(tmp_path / "own.jsonl", [{"id": "sum", "question": "How many are 2 and 1?", "answer": "3"}])
    asked = Wanted(
        str(tiny_model),
        "arithmetic",
        questions=tmp_path / "own.jsonl",
        agent="pot_critic",
        overrides=["agent.turns=2", "agent.turn_tokens=8", "engine.rows=2", "engine.widths=[512]"],
    )
    with pytest.raises(UserError, match=r"'arithmetic': it has no corpus of its own; give .* tools with tools\.config"):
        evaluate_model(asked, tmp_path / "none", silent)
    wanted = replace(asked, overrides=[*asked.overrides, f"tools.config={served}"])
    measured = evaluate_model(wanted, tmp_path / "made", silent)
    assert list(measured["inputs"]["tool_versions"]) == ["python"]
    assert f"tools of {served}" in measured["notes"]
    (record,) = measured["records"]
    assert (record["trials"], record["status"]) == (3, "token_limit"), "a random model closes no block"
    assert measured["waves"] == record["calls"] == 5, "twice no answer: two rounds that end alike"
