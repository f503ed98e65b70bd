"""Several processes at one rollout: each job is made once, whoever is slow or dies, and all comes to what one makes."""

import json
import threading
from itertools import count

import pytest
from rollout_world import HashPolicy, LateTools, article, broken, jobs, make_react, roll

from rest_jax.core.effects import Role, Sampling, Status
from rest_jax.core.events import silent
from rest_jax.core.files import parts_of
from rest_jax.core.schema import canonical_row
from rest_jax.rollout import store
from rest_jax.rollout.journal import open_journal
from rest_jax.rollout.runner import leased, rollout
from tests.threads import in_threads

SOME = jobs(9, 2)


def rows(trajectories):
    return [canonical_row(trajectory) for trajectory in trajectories]


def play(folder, group, tools, *, emit=silent, until=None):
    """One process's part, and all that came of it; it dies after `until` trajectories."""
    made = []
    with open_journal(folder / "journal.jsonl", group) as journal:
        actor = {Role.ACTOR: HashPolicy(sessions=2, seed=group.index)}
        for one in rollout(
            SOME, make_react, actor, tools, sampling=Sampling(), journal=journal, emit=emit, attempts=1, group=group
        ):
            made.append(one)
            if len(made) == until:
                raise KeyboardInterrupt
    return made, store.gather(folder / "trajectories.parquet", made, group)


def records(folder, kind):
    lines = [json.loads(line) for path in parts_of(folder / "journal.jsonl") for line in path.read_text().splitlines()]
    return [line["job"] for line in lines if line["kind"] == kind]


@pytest.fixture(scope="module")
def expected():
    return rows(roll(SOME, HashPolicy(), LateTools(article)))


def test_a_block_is_a_question_and_is_taken_once():
    taken = count()
    one, other = leased(SOME, taken.__next__), leased(SOME, taken.__next__)
    first = [next(one), next(other), next(one)]
    assert [(job.question.id, job.sample) for job in first] == [("q0", 0), ("q1", 0), ("q0", 1)]
    rest = [*other, *one]
    assert sorted(job.key for job in [*first, *rest]) == sorted(job.key for job in SOME)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_all_come_to_what_one_makes(tmp_path, expected, processes):
    ended = in_threads(processes, lambda group: play(tmp_path, group, LateTools(article, group.index)))
    assert all(rows(gathered) == expected for _, gathered in ended)
    assert rows(store.read(tmp_path / "trajectories.parquet")) == expected
    assert sum(len(made) for made, _ in ended) == len(SOME)
    assert sorted(records(tmp_path, "begun")) == sorted(job.key for job in SOME)


def test_who_waits_for_its_tools_holds_nobody_up(tmp_path, expected):
    """The second one's tools answer once the first has made all that the second has not begun."""
    others_done = threading.Event()

    class Waiting(LateTools):
        def poll(self, timeout_s):
            assert others_done.wait(60)
            return super().poll(timeout_s)

    def told(event):
        if event.data["done"] == len(SOME) - 2:
            others_done.set()

    def one(group):
        if group.first:
            return play(tmp_path, group, LateTools(article), emit=told)
        return play(tmp_path, group, Waiting(article))

    (made, gathered), (late, _) = in_threads(2, one)
    assert (len(made), len(late)) == (len(SOME) - 2, 2)
    assert rows(gathered) == expected


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_when_one_dies_nothing_that_ended_is_made_again(tmp_path, expected, processes):
    """All die with it; begun again, by as many processes or not, they find what each of them had made."""

    def dies(group):
        return play(tmp_path, group, LateTools(article, group.index), until=5 if group.first else 3)

    with pytest.raises(KeyboardInterrupt):
        in_threads(2, dies)
    kept, begun = records(tmp_path, "trajectory"), len(records(tmp_path, "begun"))
    known = [job for job in records(tmp_path, "reply") if job not in kept]
    assert 8 <= len(kept) == len(set(kept)) < len(SOME)
    assert {len(path.read_text().splitlines()) > 3 for path in parts_of(tmp_path / "journal.jsonl")} == {True}
    tools = [LateTools(article, index) for index in range(processes)]
    ended = in_threads(processes, lambda group: play(tmp_path, group, tools[group.index]))
    assert all(rows(gathered) == expected for _, gathered in ended)
    assert len(records(tmp_path, "begun")) - begun == len(SOME) - len(kept)
    assert sum(len(each.calls) for each in tools) == 2 * (len(SOME) - len(kept)) - len(known)


def test_what_tools_failed_is_there_whoever_they_failed(tmp_path):
    def one(group):
        answer = article if group.first else lambda *_: broken()
        return play(tmp_path, group, LateTools(answer))

    (made, gathered), (failed, _) = in_threads(2, one)
    assert {trajectory.status for trajectory in made} == {Status.FINISHED}
    assert {trajectory.status for trajectory in failed} == {Status.TOOL_FAILURE}
    assert len(gathered) == len(SOME) == len(made) + len(failed)
    assert len(records(tmp_path, "trajectory")) == len(made)
