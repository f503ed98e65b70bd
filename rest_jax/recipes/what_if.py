"""What another threshold, filter or reward would have made of a run's Grows: from its logs alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

from rest_jax.agents.search_agent.readings import drafted
from rest_jax.config.limits import checked
from rest_jax.config.loader import load
from rest_jax.config.settings import ImproveSettings, RestConfig
from rest_jax.core.errors import UserError
from rest_jax.core.events import silent
from rest_jax.core.policy import TextCodec
from rest_jax.core.trajectory import Trajectory
from rest_jax.models import tokenizer
from rest_jax.recipes import mixture
from rest_jax.recipes.drafts import drafting
from rest_jax.recipes.feedback import as_learned
from rest_jax.recipes.improve import MODEL
from rest_jax.recipes.loop import read_grown
from rest_jax.recipes.stages import Done, finished_stages
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.splits import Split
from rest_jax.training.examples import examples_of
from rest_jax.training.packing import fitting


@dataclass(frozen=True)
class Wish:
    """What is to be tried; what is None stays as the run has it."""

    thresholds: tuple[float, ...] = ()
    """Each on its own; none: those of each generation."""
    reward: str | None = None
    """A reward's name, by which the logged trajectories are scored anew; what the judge said remains its part."""
    filter: str | None = None
    per_question: int | None = None
    samples: tuple[int, ...] = ()
    """Each on its own: as if so many samples of each question had been taken, the first of them (Aksitov et al. 2023,
    table 3); none: all."""
    draft: bool = False
    """Rewards are those of the drafts, before the search agent checks itself (the same, table 4)."""


@dataclass(frozen=True)
class Kept:
    """What one threshold keeps of one Grow, and the mixture that it makes."""

    stage: str
    threshold: float
    grown: int
    """Trajectories of the Grow, the masked included; of the samples that are wished for."""
    kept: int
    questions: int
    """Of which something is kept."""
    grown_reward: float | None
    """The mean reward of what was grown; None where all is masked."""
    mean_reward: float | None
    """That of what is kept; None where nothing is."""
    rows: int
    """Trajectories of the mixture: what is kept, and the demonstrations where the settings include them."""
    examples: int
    tokens: int
    """Of all examples that fit."""
    learned: int
    """Those of them that the loss counts."""
    too_long: int
    """Examples longer than a packed row, which are left out."""


def what_if(run: Path, wish: Wish) -> list[Kept]:
    """A line for each finished Grow and threshold. Raises UserError for a folder without a finished Grow, for values
    that the settings do not allow, and for a reward that is not there."""
    stages = finished_stages(run)
    config = load(run / "config.yaml", RestConfig).value
    grows = [done for done in stages if "grow" in done.inputs]
    if not grows:
        raise UserError(f"{run}: no Grow has finished yet; see `rest-jax status {run}`")
    if wish.draft:
        drafting(config, run)
        if any("answers" in done.inputs.get("trusted", ()) for done in stages):
            raise UserError(f"{run}: a part of its rewards is its judge's, who heard no drafts; leave --draft out")
    codec = _codec(run, stages)
    demonstrations = {done.inputs["seed"]: _good(done) for done in stages if done.name.endswith("/demonstrations")}
    lines = []
    for done in grows:
        grown = read_grown(done)
        if wish.reward is not None or wish.draft:
            grown = _rewarded_anew(grown, config, wish.reward or config.task.reward, draft=wish.draft)
        grown = as_learned(grown, done, config, stages)
        own = config.generations[done.inputs["generation"] - 1].improve
        shown = demonstrations.get(done.inputs["seed"], ())
        for some in [mixture.first_samples(grown, n) for n in wish.samples] or [grown]:
            lines += [kept(done.name, some, settings, shown, codec) for settings in wished(own, wish)]
    return lines


def wished(own: ImproveSettings, wish: Wish) -> Iterator[ImproveSettings]:
    """A generation's settings as they are wished for, one for each threshold. Raises UserError for what they refuse."""
    changes: Mapping[str, object] = {
        name: value for name in ("filter", "per_question") if (value := getattr(wish, name)) is not None
    }
    for threshold in wish.thresholds or own.thresholds:
        yield checked(replace(own, thresholds=(threshold,), **changes))


def kept(
    stage: str,
    grown: mixture.Grown,
    settings: ImproveSettings,
    demonstrations: Sequence[Trajectory],
    codec: TextCodec,
) -> Kept:
    """What the settings' one threshold keeps of a Grow, and the sizes of its mixture in the tokens of `codec`."""
    (threshold,) = settings.thresholds
    chosen = mixture.thresholded(grown, settings, threshold, silent)
    mix = mixture.seeded(chosen, demonstrations, settings)
    examples = [example for t in mix for example in examples_of(t, codec, prompt=settings.prompt)]
    fit = fitting(examples, settings.length)
    return Kept(
        stage=stage,
        threshold=threshold,
        grown=len(grown.trajectories),
        kept=len(chosen),
        questions=len({t.question_id for t in chosen}),
        grown_reward=_mean(grown, grown.trajectories),
        mean_reward=_mean(grown, chosen),
        rows=len(mix),
        examples=len(fit),
        tokens=sum(len(example.ids) for example in fit),
        learned=sum(int(example.learn[1:].sum()) for example in fit),
        too_long=len(examples) - len(fit),
    )


def _mean(grown: mixture.Grown, some: Sequence[Trajectory]) -> float | None:
    rewards = [reward for t in some if (reward := grown.rewards[t.id]) is not None]
    return mean(rewards) if rewards else None


def _rewarded_anew(grown: mixture.Grown, config: RestConfig, reward: str, *, draft: bool) -> mixture.Grown:
    """The same trajectories, with the rewards of this name: of their answers, or of their drafts."""
    scored = [drafted(t) for t in grown.trajectories] if draft else grown.trajectories
    with TemporaryDirectory(prefix="rest_jax-") as scratch:
        task = open_task(config.task, Path(scratch))
        anew = mixture.rewarded(scored, task.splits[Split.TRAIN], task, reward, silent)
    return replace(grown, rewards=anew.rewards)


def _good(done: Done) -> tuple[Trajectory, ...]:
    grown = read_grown(done)
    return tuple(t for t in grown.trajectories if grown.rewards[t.id])


def _codec(run: Path, stages: Sequence[Done]) -> TextCodec:
    """The tokenizer that stands beside any of the run's weights."""
    folders = (done.folder / MODEL for done in stages)
    found = next((folder for folder in folders if folder.is_dir()), None)
    if found is None:
        raise UserError(f"{run}: holds no model, by whose tokenizer tokens are counted; repeat `rest-jax run` first")
    return tokenizer.load(found)
