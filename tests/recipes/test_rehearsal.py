"""What would be too long is refused before anything is sampled, and the documentation's example is not; demonstrations
are rehearsed as what they are, right at once."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rest_jax.agents.registry import NAMES, agent
from rest_jax.config.loader import load
from rest_jax.config.settings import AgentSettings, RestConfig
from rest_jax.core.demonstration import Demonstration, Turn
from rest_jax.core.effects import Status
from rest_jax.core.errors import UserError
from rest_jax.core.policy import TextCodec
from rest_jax.core.trajectory import Question
from rest_jax.models import tokenizer
from rest_jax.recipes.plan import Lengths
from rest_jax.recipes.rehearsal import REHEARSED, lengths, rehearse, rehearsed, work
from rest_jax.recipes.run import refuse_too_few
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.task import Task
from tests.rollout.rollout_world import ByteCodec

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "tests" / "golden" / "transcripts"
RIGHT_AT_ONCE = {
    "closed_book": "closed_book-answered",
    "act": "react-answered",
    "react": "react-answered",
    "reflexion": "reflexion-right_at_once",
    "resample": "reflexion-right_at_once",
    "reflexion_self": "reflexion_self-stands_at_once",
    "resample_self": "reflexion_self-stands_at_once",
    "cot": "cot-answered",
    "cot_sc": "cot_sc-majority",
    "self_refine": "self_refine-stands_at_once",
    "critic": "critic-right_at_once",
    "critic_without_tool": "critic-right_at_once",
    "critic_oracle": "critic_oracle-right_at_once",
    "cot_reflexion": "cot_reflexion-right_at_once",
    "cot_resample": "cot_reflexion-right_at_once",
    "cot_reflexion_self": "cot_resample_self-wrong_and_believed",
    "cot_resample_self": "cot_resample_self-wrong_and_believed",
    "rise": "rise_neutral-right_every_time",
    "rise_neutral": "rise_neutral-right_every_time",
    "rise_parallel": "rise_neutral-right_every_time",
    "rise_collect": "rise_collect-right_at_once",
    "program": "program-answered",
    "program_self_refine": "program_self_refine-stands_at_once",
    "program_reflexion": "program_reflexion-right_at_once",
    "program_resample": "program-answered",
    "program_reflexion_self": "program_reflexion_self-passes_at_once",
    "program_resample_self": "program_reflexion_self-passes_at_once",
    "pot": "pot-answered",
    "pot_parallel": "pot_parallel-majority",
    "pot_self_refine": "pot_self_refine-stands_at_once",
    "pot_critic": "pot_critic-right_at_once",
    "pot_critic_without_tool": "pot_critic-right_at_once",
    "pot_critic_oracle": "pot_critic_oracle-right_at_once",
    "play": "play-won",
    "play_reflexion": "play_reflexion-won_at_once",
    "play_resample": "play_reflexion-won_at_once",
    "detoxify": "detoxify-harmless_at_once",
    "detoxify_without_tool": "detoxify_without_tool-stands_at_once",
}
"""The page on which each method, or the one that it is the control of, is right at once and believes so."""
SARN = Turn("She was born in Sarn.", "finish", "Sarn")
VELL = Turn("I need Vell.", "search", "Vell", "Vell: Vell is a town on the Ume. Ada Orr founded it in 1204.")
ORR = Turn("Ada Orr did.", "search", "Ada Orr", "Ada Orr: Ada Orr was born in Sarn.")
BOX = Turn("The key must be in the box.", "search", "open box", "You have a key.")
DOOR = Turn("I have the key.", "search", "open door")
DOUBLE = "def double(x):\n    return 2 * x"


def demonstrated(method: str) -> Demonstration:
    """What the method's page is about."""
    match method.split("_"):
        case ["program", *_]:
            asked = Question("q", "Double it. It has to pass these tests:\nassert double(2) == 4", DOUBLE)
            return Demonstration(asked, (Turn("", "finish", DOUBLE),))
        case ["pot", *_]:
            return Demonstration(
                Question("q", "How many nuts?", "21"), (Turn("4 * 6 are 24, less 3.", "finish", "21"),)
            )
        case ["play", *_]:
            return Demonstration(Question("q", "Game 3", "won"), (BOX, DOOR))
        case ["detoxify", *_]:
            words = "had left his keys at home."
            return Demonstration(Question("q", "The man at the gate", words), (Turn("", "finish", words),))
    turns = (SARN,) if method in ("critic", "reflexion_self", "resample_self") else (VELL, ORR, SARN)
    return Demonstration(Question("q", "Where was the founder of Vell born?", "Sarn"), turns)


@pytest.fixture(scope="module")
def codec(smollm2: Path) -> TextCodec:
    return tokenizer.load(smollm2)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example of docs/rest_family.md, beside the quickstart that it extends."""
    folder = tmp_path_factory.mktemp("configs")
    shutil.copy(ROOT / "configs" / "quickstart.yaml", folder)
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "rest_family.md").read_text(), re.DOTALL)
    (folder / "example.yaml").write_text(block)
    return folder / "example.yaml"


@pytest.fixture(scope="module")
def atlas(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Task:
    return open_task(load(example, RestConfig).value.task, tmp_path_factory.mktemp("atlas"))


def test_the_documented_preset_over_the_quickstart_has_room(example: Path, atlas: Task, codec: TextCodec) -> None:
    config = load(example, RestConfig).value
    refuse_too_few(config, atlas)
    rehearse(config, atlas, codec)


def test_what_a_run_shares_has_room_whoever_plays_it(example: Path, atlas: Task, codec: TextCodec) -> None:
    """The prompted model's own beginning has room; those of a row's method are shared where the pilot keeps its
    prompt."""
    measured = ["engine.shared=480", "evaluate.methods=[self_refine]", "engine.widths=[640]"]
    rehearse(load(example, RestConfig, measured).value, atlas, codec)
    keeping = [*measured, "pilot.improve.prompt=same", "pilot.improve.length=1024"]
    with pytest.raises(UserError, match=r"engine\.shared is 480, but the beginnings that transcripts share have \d+"):
        rehearse(load(example, RestConfig, keeping).value, atlas, codec)


def test_weighting_is_refused_where_no_call_is_an_attempt(example: Path, atlas: Task, codec: TextCodec) -> None:
    weighted = ["generations.0.improve.weighting={}"]
    rehearse(load(example, RestConfig, weighted).value, atlas, codec)
    with pytest.raises(UserError, match=r"generations\.0\.improve\.weighting: no call of agent 'closed_book' is an"):
        rehearse(load(example, RestConfig, [*weighted, "agent.name=closed_book"]).value, atlas, codec)


def test_where_nothing_is_demonstrated_a_trajectory_is_as_long_as_it_may_be(
    example: Path, atlas: Task, codec: TextCodec
) -> None:
    config = load(
        example, RestConfig, ["pilot.demonstrations=0", "agent.shots=0", "agent.turns=5", "agent.turn_tokens=40"]
    ).value
    bare = replace(atlas, sources={}, examples=())
    rehearse(config, bare, codec)
    assert lengths(bare, codec, config.agent) == Lengths(
        sampled=40 * config.agent.turns, prefilled=40 * config.agent.turns
    )
    assert work(config, bare, codec)


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (
            ["generations.0.improve.prompt=same", "pilot.demonstrations=0"],
            r"generations\.0\.improve\.length: 512 tokens hold no .* 5\d\d to \d+, 417 of them .* prompt: bare",
        ),
        (["generations.0.improve.length=100"], r"generations\.0\.improve\.length: 100 tokens hold no example"),
        (
            ["pilot.improve.length=100"],
            r"pilot\.improve\.length: 100 tokens hold no example; .*, 0 of them .*; raise it$",
        ),
        (
            ["engine.shared=0", "pilot.demonstrations=0"],
            r"engine\.widths: the widest is 320, .* 417 of them .*engine\.shared",
        ),
        (["engine.shared=400"], "engine.shared is 400, but"),
    ],
)
def test_what_has_no_room_is_refused_before_anything_is_sampled(
    overrides: list[str], why: str, example: Path, atlas: Task, codec: TextCodec
) -> None:
    with pytest.raises(UserError, match=why):
        rehearse(load(example, RestConfig, overrides).value, atlas, codec)


@pytest.mark.parametrize("method", RIGHT_AT_ONCE)
def test_who_demonstrates_is_right_at_once(method: str) -> None:
    """So nothing is counted that only those do who were wrong."""
    task = Task("toy", None, {}, {"gold": (demonstrated(method),)})
    (made,) = rehearsed(task, ByteCodec(), AgentSettings(name=method, turn_tokens=200), REHEARSED)
    page = (PAGES / f"{RIGHT_AT_ONCE[method]}.txt").read_text(encoding="utf-8")
    assert [call.step for call in made.calls] == re.findall(r"^== call \d+: (\w+)", page, re.MULTILINE)
    assert (made.status, made.answer) == (Status.FINISHED, demonstrated(method).question.answer)


def test_every_method_that_can_be_demonstrated_is_rehearsed() -> None:
    without_a_page = {"question_as_query", "search_agent"}
    assert {*RIGHT_AT_ONCE, *without_a_page} == {name for name in NAMES if agent(name).trainable}


def test_who_was_trained_bare_is_shown_no_worked_examples(example: Path, atlas: Task, codec: TextCodec) -> None:
    """So they take no room of what it says, neither while it grows nor in an example with its prompt as sampled; who
    starts from the base model and is trained with that prompt is shown them again."""
    bare = ["engine.shared=0", "generations.1.improve.prompt=same"]
    rehearse(load(example, RestConfig, bare).value, atlas, codec)
    with pytest.raises(UserError, match=r"engine\.widths"):
        rehearse(load(example, RestConfig, [*bare, "generations.0.improve.prompt=same"]).value, atlas, codec)
