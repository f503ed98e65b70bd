"""What would be too long is refused before anything is sampled, and the documentation's example is not."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rest_jax.config.loader import load
from rest_jax.config.settings import RestConfig
from rest_jax.core.errors import UserError
from rest_jax.core.policy import TextCodec
from rest_jax.models import tokenizer
from rest_jax.recipes.plan import Lengths
from rest_jax.recipes.rehearsal import lengths, rehearse, work
from rest_jax.recipes.run import refuse_too_few
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.task import Task

ROOT = Path(__file__).parents[2]


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


def test_who_was_trained_bare_is_shown_no_worked_examples(example: Path, atlas: Task, codec: TextCodec) -> None:
    """So they take no room of what it says, neither while it grows nor in an example with its prompt as sampled; who
    starts from the base model and is trained with that prompt is shown them again."""
    bare = ["engine.shared=0", "generations.1.improve.prompt=same"]
    rehearse(load(example, RestConfig, bare).value, atlas, codec)
    with pytest.raises(UserError, match=r"engine\.widths"):
        rehearse(load(example, RestConfig, [*bare, "generations.0.improve.prompt=same"]).value, atlas, codec)
