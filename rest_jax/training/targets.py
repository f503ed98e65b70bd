"""Off-policy targets: a stored trajectory learned with other candidates than those by which it went on.

ReST meets ReAct replaces a step's output in the training example by the one that its ranker put first; the rollout
stays as it was (Aksitov et al. 2023, section 3.5).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rest_jax.core.effects import Finish, Role
from rest_jax.core.trajectory import Call, Trajectory, context_of, rechosen


@dataclass(frozen=True)
class Contest:
    """A step whose target may become another of its candidates."""

    call: int
    seen: str
    """What the policy saw, worked examples left out."""
    places: tuple[int, ...]
    """Of the candidates that differ, ascending; that is the order in which they were sampled."""
    outputs: tuple[str, ...]
    """Their texts."""


def contests(trajectory: Trajectory, most: int) -> Iterator[Contest]:
    """The actor's steps with two or more different candidates, `most` of each: the chosen one and the likeliest others.

    A reply that was broken off is not learned in another's place. A call that another one continues is no contest: what
    follows was said after its own reply (`rechosen`).
    """
    continued = {call.parent for call in trajectory.calls}
    for call in trajectory.calls:
        places = _different(call, most)
        if call.role is Role.ACTOR and call.index not in continued and len(places) > 1:
            context = context_of(trajectory.calls, call.index)
            seen = "".join(segment.text for segment in context if not segment.shots)
            yield Contest(call.index, seen, places, tuple(call.candidates[place].text for place in places))


def retargeted(trajectory: Trajectory, best: Mapping[int, int]) -> Trajectory:
    """The trajectory with these candidates as its targets: call → place. Other calls keep their own."""
    return rechosen(trajectory, lambda call: best.get(call.index, call.chosen))


def _different(call: Call, most: int) -> tuple[int, ...]:
    ended = [place for place, one in enumerate(call.candidates) if one.finish in (Finish.STOP, Finish.EOS)]
    likeliest = sorted(ended, key=lambda place: (place != call.chosen, -call.candidates[place].mean_logprob))
    first_of = {call.candidates[place].text: place for place in reversed(likeliest)}
    return tuple(sorted(sorted(first_of.values(), key=likeliest.index)[:most]))
