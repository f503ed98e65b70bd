"""Off-policy targets (ReST meets ReAct, section 3.5): another candidate is learned, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from training_world import ByteCodec, trajectory

from rest_jax.core.effects import Candidate, Finish, Role
from rest_jax.core.trajectory import Call
from rest_jax.core.transcript import Segment, Source
from rest_jax.training.examples import examples_of
from rest_jax.training.targets import contests, retargeted

CODEC = ByteCodec()


def said(text: str, logprob: float = -1.0) -> Candidate:
    ids = tuple(text.encode())
    return Candidate(ids, (logprob,) * len(ids), text, Finish.STOP)


def call(index: int, text: str, *candidates: Candidate, chosen: int = 0, role: Role = Role.ACTOR) -> Call:
    shots = Segment(Source.PROMPT, "shots ", tuple(b"shots "), None, True)
    return Call(index, "act", 0, role, (shots, Segment(Source.PROMPT, text, tuple(text.encode()))), candidates, chosen)


def steps():
    """Two steps that open transcripts of their own, as the search agent's do, and what a judge said."""
    return trajectory(
        [
            call(0, "decide? ", said("a"), said("b"), said("a"), said("c")),
            call(1, "draft? ", said("same"), said("same")),
            call(2, "check? ", said("x"), said("y"), role=Role.JUDGE),
        ]
    )


def learned(made) -> list[str]:
    return [CODEC.decode(example.ids[example.learn]) for example in examples_of(made, CODEC, prompt="bare")]


def test_what_is_ranked_are_different_candidates_of_the_actor() -> None:
    (contest,) = contests(steps(), 4)
    assert (contest.call, contest.seen, contest.places, contest.outputs) == (0, "decide? ", (0, 1, 3), ("a", "b", "c"))


def test_of_many_candidates_the_chosen_and_the_likeliest_are_ranked() -> None:
    many = call(0, "? ", *(said(text, -at) for at, text in enumerate("abcdef")), chosen=5)
    (contest,) = contests(trajectory([many]), 4)
    assert contest.outputs == ("a", "b", "c", "f")


def test_a_reply_that_was_broken_off_is_never_ranked() -> None:
    short = replace(said("b"), finish=Finish.LENGTH)
    (contest,) = contests(trajectory([call(0, "? ", said("a"), short, said("c"))]), 4)
    assert contest.places == (0, 2)


def test_the_rankers_choice_is_learned_in_the_same_context() -> None:
    before, after = steps(), retargeted(steps(), {0: 3})
    assert (learned(before), learned(after)) == (["a", "same"], ["c", "same"])
    assert replace(after, calls=before.calls) == before
    first, second = (examples_of(made, CODEC, prompt="bare")[0] for made in (before, after))
    assert first.ids[~first.learn].tolist() == second.ids[~second.learn].tolist()


def test_a_step_that_another_continues_keeps_its_own() -> None:
    made = trajectory([call(0, "? ", said("a"), said("b")), replace(call(1, "! ", said("x")), parent=0)])
    assert list(contests(made, 4)) == []
    assert retargeted(made, {0: 1}) == made


def test_a_candidate_that_is_not_there_is_refused() -> None:
    with pytest.raises(IndexError):
        retargeted(steps(), {0: 4})
