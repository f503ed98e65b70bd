"""A workbench and its adapter: what happens when there is none any more, or another one's."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from rest_jax.agents import registry
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Prompt
from rest_jax.agents.registry import agent
from rest_jax.config.policies import EndpointSettings, PoliciesSettings
from rest_jax.config.settings import AgentSettings, EngineSettings, ModelSettings, TaskSettings, ToolsSettings
from rest_jax.core.demonstration import Demonstration, Turn
from rest_jax.core.effects import Agent, Status, ToolErrorKind, finished
from rest_jax.core.errors import UserError
from rest_jax.core.events import silent
from rest_jax.core.trajectory import Question
from rest_jax.models import checkpoint
from rest_jax.models.digest import weights_digest
from rest_jax.policies.replies import Replies
from rest_jax.recipes.stages import JOURNAL
from rest_jax.recipes.workbench import Actor, Player, RolloutSpec, Workbench, open_workbench
from rest_jax.rollout.no_tools import NoTools
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.splits import Reader, Split
from rest_jax.tasks.task import Task
from rest_jax.tools.process import Address, adapter
from rest_jax.tools.redact import TOKEN_VARIABLE

ENGINE = EngineSettings(rows=2, block=4, chunk=32, widths=(768,))


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return open_task(TaskSettings("atlas"), tmp_path_factory.mktemp("atlas"))


@contextmanager
def bench_at(at: Address, model: Path, task: Task, **tools: int) -> Iterator[Workbench]:
    opened = open_workbench(
        task,
        model=ModelSettings(str(model)),
        agent_settings=AgentSettings(),
        engine=ENGINE,
        tools=ToolsSettings(url=at.url, timeout_s=0.2, retries=0, **tools),
        emit=silent,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TOKEN_VARIABLE, at.token or "")
        with opened as bench:
            yield bench


def test_without_an_adapter_the_work_stops_and_goes_on_with_one(tiny_model: Path, atlas: Task, tmp_path: Path) -> None:
    some, folder = atlas.demonstrations("gold", 4, seed=0), tmp_path / "stage"
    with ExitStack() as running:
        at = running.enter_context(adapter(ToolsSettings(), atlas.corpus(), log=tmp_path / "log"))
        with bench_at(at, tiny_model, atlas) as bench:
            running.close()
            with pytest.raises(UserError, match=r"the tool adapter at http.* is gone .*; see that one can run there"):
                bench.demonstrate(folder, some, "train")
    assert [path.name for path in folder.iterdir()] == [JOURNAL]
    again = adapter(ToolsSettings(), atlas.corpus(), log=tmp_path / "log")
    with again as at, bench_at(at, tiny_model, atlas) as bench:
        made = bench.demonstrate(folder, some, "train")
    assert {trajectory.status for trajectory in made} == {Status.FINISHED}


def test_a_file_of_tools_serves_the_run(tiny_model: Path, atlas: Task, tmp_path: Path) -> None:
    config = tmp_path / "tools.yaml"
    config.write_text("tools: [{kind: corpus}]\n")
    made = []
    for name, settings in (("plain", ToolsSettings()), ("file", ToolsSettings(config=str(config)))):
        opened = open_workbench(
            atlas,
            model=ModelSettings(str(tiny_model)),
            agent_settings=AgentSettings(),
            engine=ENGINE,
            tools=settings,
            emit=silent,
        )
        with opened as bench:
            made.append((bench.demonstrate(tmp_path / name, atlas.demonstrations("gold", 4, seed=0), "train"), bench))
    (plain, _), (by_file, bench) = made
    assert set(bench.versions) == {"search", "lookup"}
    assert [(t.answer, t.tool_calls) for t in by_file] == [(t.answer, t.tool_calls) for t in plain]
    assert {call.tool_version for t in by_file for call in t.tool_calls} == {bench.versions["search"]}


def test_agents_vote_as_their_task_compares(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_voice(question: Question, prompt: Prompt, limits: Limits) -> Agent:
        yield from ()
        return finished(str(limits.voice("$2.50") == limits.voice("2.5")))

    monkeypatch.setattr(registry, "_REGISTERED", {})
    registry.register_method(replace(agent("cot"), name="one_voice", run=one_voice))
    task = open_task(TaskSettings("arithmetic"))
    opened = open_workbench(
        task,
        model=ModelSettings(str(tiny_model)),
        agent_settings=AgentSettings("one_voice"),
        engine=ENGINE,
        tools=ToolsSettings(),
        emit=silent,
    )
    with opened as bench:
        (made,) = bench.demonstrate(tmp_path / "stage", task.demonstrations("gold", 1, seed=0), "train")
    assert made.answer == "True", "arithmetic compares numbers"


def test_an_adapter_without_the_agents_tools_is_refused(
    tiny_model: Path, atlas: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every call would be the agent's own mistake, and every trajectory a wrong answer."""
    (tmp_path / "own.py").write_text('def wiki_search(query: str) -> str:\n    """Search."""\n    return query\n')
    monkeypatch.syspath_prepend(tmp_path)  # the adapter inherits our path
    config = tmp_path / "tools.yaml"
    config.write_text("tools: [{kind: functions, functions: ['own:wiki_search']}]\n")
    running = adapter(ToolsSettings(config=str(config)), atlas.corpus(), log=tmp_path / "log")
    with running as at, pytest.raises(UserError) as error, bench_at(at, tiny_model, atlas):
        pass
    assert str(error.value).startswith(
        "the agent 'react' calls search and lookup, and the adapter serves only wiki_search; add what is missing to "
    )


def test_an_adapter_of_another_corpus_or_index_is_refused(tiny_model: Path, atlas: Task, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text('{"title": "Vell", "text": "A town."}\n')
    running = adapter(ToolsSettings(k1=1.2), other, log=tmp_path / "log")
    with running as at, pytest.raises(UserError) as error, bench_at(at, tiny_model, atlas, results=2):
        pass
    said = str(error.value)
    assert said.startswith(f"the adapter at {at.url} serves corpus ")
    assert "k1 1.2 instead of 1.5, results 1 instead of 2; start it with `rest-jax tools serve --corpus=" in said
    assert "\n" not in said


def test_the_adapter_does_not_get_the_keys_of_endpoints(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.py").write_text(
        'import os\ndef keys() -> str:\n    """Which."""\n    return " ".join({"MY_KEY", "A_KEY"} & {*os.environ})\n'
    )
    monkeypatch.syspath_prepend(tmp_path)  # the adapter inherits our path
    monkeypatch.setenv("A_KEY", "teacher-0123456789")
    monkeypatch.setenv("MY_KEY", "tool-0123456789")
    config, recorded = tmp_path / "tools.yaml", tmp_path / "teacher.jsonl"
    config.write_text("tools: [{kind: functions, functions: ['own:keys']}]\n")
    Replies(recorded).close()
    teacher = EndpointSettings("http://127.0.0.1:9/v1", "teacher", key_variable="A_KEY", replay=str(recorded))
    opened = open_workbench(
        Task("toy", None, {}),
        model=ModelSettings(str(tiny_model)),
        agent_settings=AgentSettings(name="closed_book", shots=0),
        engine=ENGINE,
        tools=ToolsSettings(config=str(config)),
        emit=silent,
        policies=PoliciesSettings(teacher),
    )
    with opened as bench:
        bench.tools.submit(1, "keys", {}, "e")
        ((_, reply),) = bench.tools.poll(None)
    assert reply.content == "MY_KEY"


def test_nothing_compiles_once_its_prompts_programs_are(
    tiny_model: Path, atlas: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More stops than the smallest stop table holds: a later, larger one would be another shape.
    monkeypatch.setattr(Prompt, "stop", property(lambda self: ("\n", 100 * "x")))
    compiled: list[str] = []

    def listen(event: str, duration: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    opened = open_workbench(
        atlas,
        model=ModelSettings(str(tiny_model)),
        agent_settings=AgentSettings(turns=2, turn_tokens=8),
        engine=ENGINE,
        tools=ToolsSettings(),
        emit=silent,
    )
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        with opened as bench:
            bench.compile(bench.cast(bare=False), sharing=False)
            assert compiled
            compiled.clear()
            asked = atlas.questions("train", Reader.TRAINING, 3)
            made = bench.play(tmp_path / "stage", bench.base, RolloutSpec(asked, "train"))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(made) == 3
    assert compiled == []


@pytest.mark.parametrize("policy", ["actor", "teacher"])
@pytest.mark.parametrize("method", ["closed_book", "search_agent"])
def test_nobody_is_asked_what_a_worked_example_answers(
    tiny_model: Path, atlas: Task, tmp_path: Path, method: str, policy: Actor
) -> None:
    """Be the examples the task's or the method's own, and whoever acts: a teacher is always shown them."""
    toy = Task("toy", None, {}, examples=atlas.examples[:2])
    opened = open_workbench(
        toy,
        model=ModelSettings(str(tiny_model)),
        agent_settings=AgentSettings(name="closed_book", bare=policy == "teacher"),
        engine=ENGINE,
        tools=ToolsSettings(),
        emit=silent,
    )
    with opened as bench:
        playing = replace(bench, agent=replace(bench.agent, name=method))
        shown = playing.prompt(agent(method), bare=False).asks
        assert (method == "closed_book") is (shown == tuple(example.question.text for example in toy.examples))
        spec = RolloutSpec([Question("q", f"  {shown[-1].upper()}", "")], "report", policy=policy)
        with pytest.raises(UserError, match="question q: a worked example of the prompt asks the same and answers it"):
            playing.play(tmp_path, playing.base, spec)
        assert playing.prompt(agent(method), bare=True).asks == ()


def test_an_agent_that_calls_no_tool_is_given_a_question_without_gold_and_no_adapter(
    tiny_model: Path, tmp_path: Path
) -> None:
    question = Question("q", "Who?", "Ada", {"titles": ["Ada"]}, ("Orr",))
    seen: list[Question] = []

    def watch(agent: Agent) -> Agent:
        seen.append(inspect.getgeneratorlocals(agent)["question"])
        return agent

    opened = open_workbench(
        Task("toy", None, {Split.REPORT: (question,)}),
        model=ModelSettings(str(tiny_model)),
        agent_settings=AgentSettings(name="closed_book", shots=0, turn_tokens=4),
        engine=ENGINE,
        tools=ToolsSettings(),
        emit=silent,
    )
    with opened as bench:
        made = bench.play(tmp_path / "stage", bench.base, RolloutSpec([question], "report", watch=watch))
        bench.tools.submit(1, "search", {}, "q#0")
        ((id, reply),) = bench.tools.poll(0.0)
    assert reply.fault is not None
    assert (id, reply.fault.kind) == (1, ToolErrorKind.BAD_ARGUMENTS)
    assert reply.fault.message.endswith("write it into `Method.tools`")
    assert seen == [question.blind]
    assert [trajectory.question_id for trajectory in made] == ["q"]


def test_a_player_that_was_handed_over_plays_without_a_file(tiny_model: Path, tmp_path: Path) -> None:
    params = jax.tree.map(lambda leaf: -leaf, checkpoint.load(tiny_model).params)
    player = Player(tmp_path / "nowhere", weights_digest(params))
    opened = open_workbench(
        Task("toy", None, {}),
        model=ModelSettings(str(tiny_model)),
        agent_settings=AgentSettings(name="closed_book", shots=0, turn_tokens=4),
        engine=ENGINE,
        tools=ToolsSettings(),
        emit=silent,
    )
    with opened as bench:
        bench.hand_over(player, params)
        (made,) = bench.play(tmp_path / "stage", player, RolloutSpec([Question("q", "Who?", "Ada")], "train"))
    assert made.weights_digest == player.weights_digest


def test_an_agent_that_has_to_be_told_whether_it_is_right_is_told_by_the_run(tiny_model: Path, tmp_path: Path) -> None:
    right, wrong = Question("r", "Who?", "Ada", {}, ("Orr",)), Question("w", "Who?", "Vell")
    says_orr = [Demonstration(question, (Turn("It is Orr.", "finish", "Orr"),)) for question in (right, wrong)]
    opened = open_workbench(
        Task("toy", None, {Split.REPORT: (right, wrong)}),
        model=ModelSettings(str(tiny_model)),
        agent_settings=AgentSettings(name="cot_reflexion", shots=0, turn_tokens=16),
        engine=ENGINE,
        tools=ToolsSettings(),
        emit=silent,
    )
    with opened as bench:
        assert isinstance(bench.tools, NoTools)
        told = {one.question_id: one for one in bench.demonstrate(tmp_path / "stage", says_orr, "report")}
        with pytest.raises(UserError, match="question q has no gold answer"):
            bench.play(tmp_path / "asked", bench.base, RolloutSpec([Question("q", "Who?", "")], "report"))
    assert [(call.tool, call.content) for call in told["r"].tool_calls] == [("oracle", "right")]
    assert told["r"].answer == "Orr"
    assert [call.content for call in told["w"].tool_calls] == ["wrong"]
    assert told["w"].calls[1].step == "reflect"
