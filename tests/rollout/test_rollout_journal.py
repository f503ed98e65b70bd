"""The journal: killed at any byte, a rollout ends as if nothing had happened, and no tool is called twice."""

import gc
import json

import pytest
from rollout_world import SAMPLING, HashPolicy, LateTools, article, broken, jobs, make_react, roll

from rest_jax.core.effects import Role, Status, ToolErrorKind, ToolFault, ToolReply
from rest_jax.core.errors import UserError
from rest_jax.core.schema import canonical_row
from rest_jax.core.trajectory import Trajectory
from rest_jax.rollout.journal import Journal, ToolKey
from rest_jax.rollout.runner import rollout


def rows(trajectories):
    return [canonical_row(trajectory) for trajectory in trajectories]


def torn_ends(lines):
    """Byte offsets: all within the last reply, and some within every other record, borders included."""
    last_reply = max(place for place, line in enumerate(lines) if b'"kind": "reply"' in line)
    start = 0
    for place, line in enumerate(lines):
        yield from range(start, start + len(line), 1 if place == last_reply else max(1, len(line) // 7))
        yield start + len(line) - 1
        start += len(line)
    yield start


def test_every_torn_end_is_mended_and_the_rollout_ends_the_same(tmp_path):
    some = jobs(2, 1)
    whole = LateTools(article)
    with Journal(tmp_path / "whole.jsonl") as journal:
        expected = rows(roll(some, HashPolicy(), whole, journal=journal))
    text = (tmp_path / "whole.jsonl").read_bytes()
    lines = text.splitlines(keepends=True)
    assert len(lines) == 1 + 2 + 4 + 2
    for cut in torn_ends(lines):
        path = tmp_path / "torn.jsonl"
        path.write_bytes(text[:cut])
        tools = LateTools(article)
        with Journal(path) as journal:
            kept = len(journal.finished), sum(map(len, journal.replies.values()))
            assert rows(roll(some, HashPolicy(), tools, journal=journal)) == expected
        survived = text[:cut].count(b"\n")
        records = [json.loads(line)["kind"] for line in lines[1:survived]]
        assert kept[0] == records.count("trajectory")
        assert len(tools.calls) == len(whole.calls) - records.count("reply")
        begun = [json.loads(line)["kind"] for line in path.read_bytes().splitlines()].count("begun")
        assert begun == records.count("begun") + len(some) - kept[0], "each unfinished job is begun once more"
        assert len(path.read_bytes().splitlines()) == len(lines) - len(some) + begun


def test_a_second_run_with_a_whole_journal_samples_nothing(tmp_path):
    with Journal(tmp_path / "j") as journal:
        first = roll(jobs(), HashPolicy(), LateTools(article), journal=journal)
    policy, tools = HashPolicy(), LateTools(article)
    with Journal(tmp_path / "j") as journal:
        assert roll(jobs(), policy, tools, journal=journal) == first
    assert policy.seen == []
    assert tools.calls == []


def test_a_trajectory_is_in_the_file_before_it_is_yielded(tmp_path):
    path = tmp_path / "j"
    seen = []
    with Journal(path) as journal:
        roll(
            jobs(3, 1),
            HashPolicy(),
            LateTools(article),
            journal=journal,
            emit=lambda event: seen.append((event.data["done"], path.read_text().count('"kind": "trajectory"'))),
        )
    assert [done for done, _ in seen] == [0, 1, 2, 3]
    assert all(in_file >= done for done, in_file in seen)


@pytest.fixture
def new_objects_alone():
    """What was there before is not looked through: after other tests that is millions of objects, many times over."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("new_objects_alone")
def test_what_was_yielded_is_held_by_nobody_but_its_taker(tmp_path):
    """A rollout of days would fill the memory: what is done is in the file."""

    def alive(kind):
        return sum(isinstance(one, kind) for one in gc.get_objects())

    sessions, others = 4, (alive(Trajectory), alive(ToolReply))
    flaky = LateTools(lambda tool, arguments, nth: broken() if nth % 5 == 0 else article(tool, arguments, nth))
    with Journal(tmp_path / "j") as journal:
        made = rollout(
            jobs(40, 1),
            make_react,
            {Role.ACTOR: HashPolicy(sessions)},
            flaky,
            sampling=SAMPLING,
            journal=journal,
            attempts=2,
        )
        statuses = []
        for trajectory in made:
            statuses.append(trajectory.status)
            del trajectory
            assert alive(Trajectory) - others[0] <= sessions
            assert alive(ToolReply) - others[1] <= 4 * sessions
    assert len(statuses) == 40
    assert set(statuses) == {Status.FINISHED, Status.TOOL_FAILURE}


def test_replies_of_every_kind_return(tmp_path):
    fault = ToolFault(ToolErrorKind.TOOL_ERROR, 'no \ud800 such "page"')
    reply = ToolReply("line\none\x00", {"results": [{"title": "Ô"}]}, fault, "v1")
    key = ToolKey.of(3, "search", {"query": "a"})
    with Journal(tmp_path / "j") as journal:
        journal.add_reply("job", key, reply)
    with Journal(tmp_path / "j") as journal:
        assert journal.replies == {"job": {key: reply}}
    assert ToolKey.of(3, "search", {"query": "b"}) != key
    assert ToolKey.of(4, "search", {"query": "a"}) != key


def test_failures_of_the_infrastructure_are_not_kept(tmp_path):
    with Journal(tmp_path / "j") as journal:
        roll(jobs(1, 1), HashPolicy(), LateTools(lambda *_: broken()), journal=journal)
    assert '"kind": "reply"' not in (tmp_path / "j").read_text()


def test_what_the_infrastructure_failed_is_tried_again_by_the_next_process(tmp_path):
    down = LateTools(lambda tool, arguments, nth: broken() if nth > 6 else article(tool, arguments, nth))
    with Journal(tmp_path / "j") as journal:
        first = roll(jobs(), HashPolicy(), down, journal=journal)
    assert {trajectory.status for trajectory in first} == {Status.FINISHED, Status.TOOL_FAILURE}
    with Journal(tmp_path / "j") as journal:
        second = roll(jobs(), HashPolicy(), LateTools(article), journal=journal)
    assert rows(second) == rows(roll(jobs(), HashPolicy(), LateTools(article)))


def test_progress_of_a_resumed_rollout_counts_in_its_rates_only_what_is_new(tmp_path):
    with Journal(tmp_path / "j") as journal:
        roll(jobs(2, 1), HashPolicy(), LateTools(article), journal=journal)
    events = []
    with Journal(tmp_path / "j") as journal:
        roll(jobs(3, 1), HashPolicy(), LateTools(article), journal=journal, emit=events.append)
    assert [event.data["done"] for event in events] == [2, 3]
    assert events[0].data["tokens_per_second"] == 0


@pytest.mark.parametrize(
    "damage",
    [
        b"not json\n",
        b"{}\n",
        b'{"kind": "song"}\n',
        b'{"kind": "trajectory", "job": 1, "row": {}}\n',
        b"\x00\n",
        b"[]\n",
    ],
)
def test_a_damaged_line_in_the_middle_is_named(tmp_path, damage):
    path = tmp_path / "j"
    with Journal(path) as journal:
        roll(jobs(1, 1), HashPolicy(), LateTools(article), journal=journal)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], damage, *lines[2:]]))
    with pytest.raises(UserError) as error:
        Journal(path)
    assert str(error.value) == f"{path}:2: damaged; delete the file to sample its stage again"


def test_a_journal_of_another_schema_is_refused(tmp_path):
    (tmp_path / "j").write_text('{"kind": "journal", "schema_version": 99}\n')
    with pytest.raises(UserError, match="schema version 99, this program reads 2; use the version"):
        Journal(tmp_path / "j")


def test_a_journal_of_other_weights_is_refused(tmp_path):
    with Journal(tmp_path / "j") as journal:
        roll(jobs(1, 1), HashPolicy(), LateTools(article), journal=journal)
    other = HashPolicy()
    other.weights_digest = "others"
    with Journal(tmp_path / "j") as journal, pytest.raises(UserError, match=r"of other weights \(hash, not others\)"):
        roll(jobs(1, 1), other, LateTools(article), journal=journal)
