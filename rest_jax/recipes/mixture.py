"""From rewarded trajectories to what is trained on: the thresholded mixture, or a control's."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rest_jax.config.settings import ImproveSettings
from rest_jax.core.answers import normalise
from rest_jax.core.effects import ORACLE, Status, passages
from rest_jax.core.errors import UserError
from rest_jax.core.events import Listener, notice, silent
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.evaluation.records import is_grounded
from rest_jax.tasks.leaks import held_out
from rest_jax.tasks.metrics import is_conclusion
from rest_jax.tasks.task import Task
from rest_jax.training.mixture import keep


@dataclass(frozen=True)
class Grown:
    """One Grow: its trajectories and their rewards by trajectory id (None: masked, and part of no mixture)."""

    trajectories: tuple[Trajectory, ...]
    rewards: Mapping[str, float | None]
    remark: str = ""
    """What is to be said of them beside the numbers."""

    @property
    def mean_reward(self) -> float:
        counted = [reward for reward in self.rewards.values() if reward is not None]
        return sum(counted) / len(counted) if counted else float("nan")

    @property
    def model_tokens(self) -> int:
        """Tokens that were sampled for it."""
        return sum(t.model_tokens for t in self.trajectories)

    @property
    def rewarding(self) -> tuple[Trajectory, ...]:
        """Those with more than no reward."""
        return tuple(t for t in self.trajectories if self.rewards[t.id])


def rewarded(
    trajectories: Sequence[Trajectory], questions: Sequence[Question], task: Task, reward: str, emit: Listener
) -> Grown:
    """Trajectories with the rewards of this name. Those that were shown a page held out for select or report are
    masked and counted in a notice: whatever learned from them would have seen what it is measured on."""
    asked = {question.id: question for question in questions}
    held_out, worth = task.held_out_pages, task.reward(reward)
    leaked = {t.id for t in trajectories if not _titles_shown(t).isdisjoint(held_out)}
    if leaked:
        notice(emit, f"{len(leaked)} of {len(trajectories)} trajectories saw a held-out page: nothing learns from them")
    return Grown(
        tuple(trajectories), {t.id: None if t.id in leaked else worth(t, asked[t.question_id]) for t in trajectories}
    )


def thresholded(grown: Grown, settings: ImproveSettings, threshold: float, emit: Listener) -> tuple[Trajectory, ...]:
    """What passes one threshold, in the store's order; with `only_finished` the rest is as if it were masked. Where
    several methods played a question, each has the question's cut-off and quantiles to itself: they are drawn apart,
    and one would push the other out."""
    question_of = {t.id: f"{t.agent} {t.question_id}" for t in grown.trajectories}
    unfinished = {t.id for t in grown.trajectories if settings.only_finished and t.status is not Status.FINISHED}
    rewards = {id: None if id in unfinished else reward for id, reward in grown.rewards.items()}
    kept = set(keep(rewards, question_of, settings, threshold, emit))
    notice(emit, f"kept {len(kept)} of {len(grown.trajectories)} trajectories with reward > {threshold:g}")
    return tuple(t for t in grown.trajectories if t.id in kept)


def first_samples(grown: Grown, n: int) -> Grown:
    """A Grow as if it had sampled every question n times, as each of its methods (Aksitov et al. 2023, table 3: one,
    two, four times)."""
    methods = len({t.agent for t in grown.trajectories})
    some = tuple(t for t in grown.trajectories if t.sample < n * methods)
    return replace(grown, trajectories=some, rewards={t.id: grown.rewards[t.id] for t in some})


def nothing_kept(grown: Grown, threshold: float, *, demonstrated: bool) -> str:
    """What to say where no trajectory of a generation, or of a method's share of it, passed a threshold, and what is
    then learned."""
    best = max((reward for reward in grown.rewards.values() if reward is not None), default=float("nan"))
    learned = "learns from its demonstrations alone, as control A does" if demonstrated else "learns nothing there"
    return (
        f"keeps nothing over threshold {threshold:g} (best reward {best:.3g}) and {learned}; lower "
        f"improve.thresholds, or raise grow.samples or grow.questions"
    )


def by_method(grown: Grown) -> Mapping[str, Grown]:
    """What each method has of a Grow, in the order of their samples."""
    parts: dict[str, list[Trajectory]] = {}
    for t in grown.trajectories:
        parts.setdefault(t.agent, []).append(t)
    return {name: Grown(tuple(part), {t.id: grown.rewards[t.id] for t in part}) for name, part in parts.items()}


def nothing_shown(demonstrations: Grown, method: str) -> str:
    """What to say where no demonstration of a method found its answer: how they ended, and what mends that."""
    endings = Counter(trajectory.status for trajectory in demonstrations.trajectories).most_common()
    told = ", ".join(f"{status.value} {count}" for status, count in endings)
    mend = {
        Status.TOKEN_LIMIT: "their turns are longer than agent.turn_tokens allows, raise it",
        Status.STEP_LIMIT: "they take more turns than agent.turns allows, raise it",
        Status.TOOL_FAILURE: "the adapter failed them, tools.log says how",
    }.get(endings[0][0], "see that the adapter serves the task's corpus (tools.url, tools.k1 …)")
    shown = len(demonstrations.trajectories)
    return f"none of the {shown} demonstrations, as {method}, found its answer ({told}); {mend}"


def seeded(
    chosen: Sequence[Trajectory], demonstrations: Sequence[Trajectory], settings: ImproveSettings
) -> Sequence[Trajectory]:
    """What an Improve step trains on: what was chosen, after the demonstrations unless the settings leave them out."""
    return [*demonstrations, *chosen] if settings.include_seed else chosen


def kept_fraction(grown: Grown, settings: ImproveSettings, threshold: float) -> float:
    """The share of a Grow's trajectories, masked ones included, that passes a threshold; 0 without trajectories."""
    return len(thresholded(grown, settings, threshold, silent)) / max(1, len(grown.trajectories))


def refuse_leaks(mix: Sequence[Trajectory], task: Task) -> None:
    """Raise UserError when something that is to be learnt asks a held-out question or shows its gold page.

    Grows and demonstrations of the task's own were rid of both; whatever else comes into a mixture was not.
    """
    kept_back = held_out(task)
    for trajectory in mix:
        asks = normalise(trajectory.question) in kept_back.texts
        if asks or not _titles_shown(trajectory).isdisjoint(kept_back.pages):
            raise UserError(
                f"trajectory {trajectory.id} of {trajectory.task}: it {'asks' if asks else 'shows the gold page of'} a "
                f"question that {task.name} holds out for select or report; take it out of what is learnt"
            )


def is_sound(trajectory: Trajectory) -> bool:
    """Whether a demonstration holds up when its searches are really made: no call failed, and the answer was seen.

    Yes, no and labels cannot be seen; for them a search that found something is enough. So is the oracle's word for an
    answer from memory, which ends a method that looks up wrong ones alone.
    """
    if any(call.fault is not None for call in trajectory.tool_calls):
        return False
    if {call.tool for call in trajectory.tool_calls} == {ORACLE}:
        return True
    if is_conclusion(trajectory.answer):
        return any(call.found for call in trajectory.tool_calls if call.tool != ORACLE)
    return is_grounded(trajectory)


def random_finished(grown: Grown, kept: Sequence[Trajectory], seed: int) -> tuple[Trajectory, ...]:
    """Control B: of each method as many samples of a Grow as the filter `kept`, chosen without looking at their reward.

    Of the well-formed ones only those that answered: learning from turns that lead nowhere would make B easy to beat.
    """
    drawn, chosen = random.Random(seed), set[str]()
    for eligible, count in _as_many(grown, kept):
        chosen.update(drawn.sample([t.id for t in eligible], min(count, len(eligible))))
    return tuple(t for t in grown.trajectories if t.id in chosen)


def likeliest(grown: Grown, sampled: Grown, kept: Sequence[Trajectory]) -> tuple[Trajectory, ...]:
    """Of each method as many of a Grow's trajectories as the filter `kept`, chosen by their perplexity per token alone:
    the lowest of those that answered, the first of equals.

    The perplexity is that of what was `sampled`: a judge may have given the Grow other targets, which nobody played.
    """
    worth, chosen = {t.id: t.mean_logprob for t in sampled.trajectories}, set[str]()
    for eligible, count in _as_many(grown, kept):
        chosen.update(t.id for t in sorted(eligible, key=lambda t: -worth[t.id])[:count])
    return tuple(t for t in grown.trajectories if t.id in chosen)


def _as_many(grown: Grown, kept: Sequence[Trajectory]) -> Iterator[tuple[list[Trajectory], int]]:
    """For each method of what was kept: what of it may be learned and answered, and how many were kept."""
    parts = by_method(grown)
    for name, count in Counter(t.agent for t in kept).items():
        played = parts[name]
        answered = [t for t in played.trajectories if t.status is Status.FINISHED]
        yield [t for t in answered if played.rewards[t.id] is not None], count


def _titles_shown(trajectory: Trajectory) -> set[str]:
    """Titles of the pages that searches opened; a lookup reads in one of them."""
    return {title for call in trajectory.tool_calls for title, _ in passages(call.data) or ()}
