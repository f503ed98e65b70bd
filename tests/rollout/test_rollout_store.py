"""The store: what was sampled comes back bit for bit, and what is not ours is refused with the mend."""

import json
import struct
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rollout_world import HashPolicy, LateTools, article, jobs, roll

from rest_jax.core.canonical import digest
from rest_jax.core.effects import Candidate, Finish, Role, Status, ToolErrorKind, ToolFault
from rest_jax.core.errors import UserError
from rest_jax.core.schema import canonical_row, from_row, to_row
from rest_jax.core.trajectory import Call, ScoreCall, ToolCall, Trajectory
from rest_jax.core.transcript import Segment, Source
from rest_jax.rollout import store

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)
floats = st.floats(width=32, max_value=0.0, allow_nan=False)


@st.composite
def spoken(draw):
    ids = tuple(draw(st.lists(st.integers(0, 2**31 - 1), max_size=6)))
    logprobs = tuple(draw(st.lists(floats, min_size=len(ids), max_size=len(ids)))) if draw(st.booleans()) else None
    return ids, logprobs


@st.composite
def segments(draw):
    ids, logprobs = draw(spoken())
    return Segment(draw(st.sampled_from(Source)), draw(texts), ids, logprobs, draw(st.booleans()))


@st.composite
def candidates(draw):
    ids, logprobs = draw(spoken())
    return Candidate(ids, logprobs, draw(texts), draw(st.sampled_from(Finish)), draw(texts))


@st.composite
def calls(draw, index):
    said = tuple(draw(st.lists(candidates(), min_size=2, max_size=2)))
    parent = draw(st.sampled_from([None, *range(index)]))
    context = tuple(draw(st.lists(segments(), max_size=3)))
    role, chosen, continued = draw(st.sampled_from(Role)), draw(st.integers(0, 1)), draw(st.integers(0, 1))
    return Call(index, draw(texts), draw(st.integers(0, 3)), role, context, said, chosen, parent, continued)


@st.composite
def tool_calls(draw):
    fault = draw(st.none() | st.builds(ToolFault, st.sampled_from(ToolErrorKind), texts))
    arguments = draw(st.dictionaries(texts, texts | st.integers() | st.none() | st.lists(texts), max_size=3))
    data = draw(st.dictionaries(texts, st.lists(texts | floats), max_size=2))
    return ToolCall(draw(st.integers(-1, 1)), draw(texts), arguments, draw(texts), fault, draw(texts), data)


@st.composite
def score_calls(draw):
    context, continuations = (tuple(draw(st.lists(segments(), max_size=2))) for _ in range(2))
    after, parent, role = draw(st.integers(-1, 1)), draw(st.none() | st.integers(0, 1)), draw(st.sampled_from(Role))
    return ScoreCall(after, draw(texts), role, context, continuations, parent, draw(st.integers(0, 1)))


@st.composite
def trajectories(draw):
    return Trajectory(
        question_id=draw(texts),
        question=draw(texts),
        sample=draw(st.integers(0, 1000)),
        seed=draw(st.integers(0, 2**40)),
        generation=draw(st.integers(0, 9)),
        agent=draw(texts),
        task=draw(texts),
        split=draw(texts),
        status=draw(st.sampled_from(Status)),
        answer=draw(st.none() | texts),
        why=draw(texts),
        calls=(draw(calls(0)), draw(calls(1))),
        tool_calls=tuple(draw(st.lists(tool_calls(), max_size=2))),
        tokenizer_digest=draw(texts),
        weights_digest=draw(texts),
        scores=tuple(draw(st.lists(score_calls(), max_size=2))),
        seconds=draw(st.floats(0, 1e6)),
        attempts=draw(st.integers(1, 9)),
    )


def bits(trajectory):
    spoken = [said for call in trajectory.calls for said in (*call.segments, *call.candidates)]
    spoken += [said for score in trajectory.scores for said in (*score.segments, *score.continuations)]
    return [
        None if said.logprobs is None else struct.pack(f"<{len(said.logprobs)}f", *said.logprobs) for said in spoken
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(trajectories(), max_size=2))
def test_two_calls_of_two_candidates_come_back_bit_for_bit(tmp_path, made):
    store.write(tmp_path / "t.parquet", made)
    back = store.read(tmp_path / "t.parquet")
    assert back == made
    assert [bits(trajectory) for trajectory in back] == [bits(trajectory) for trajectory in made]
    assert [digest(canonical_row(trajectory)) for trajectory in back] == [digest(canonical_row(t)) for t in made]
    for trajectory in made:
        assert from_row(json.loads(json.dumps(to_row(trajectory)))) == trajectory, "the journal's way"


@pytest.fixture
def made():
    return roll(jobs(3, 2), HashPolicy(), LateTools(article))


def test_sampled_trajectories_come_back(tmp_path, made):
    store.write(tmp_path / "t.parquet", made)
    assert store.read(tmp_path / "t.parquet") == made


def test_the_canonical_row_leaves_out_time_and_attempts_only(made):
    one = made[0]
    assert canonical_row(replace(one, seconds=9.0, attempts=7)) == canonical_row(one)
    assert canonical_row(replace(one, answer="other")) != canonical_row(one)
    told = tuple(replace(call, data={"results": []}) for call in one.tool_calls)
    assert told != one.tool_calls
    assert canonical_row(replace(one, tool_calls=told)) == canonical_row(one)
    call = one.calls[0]
    said = call.candidates[0]
    nudged = struct.unpack(
        "<f", (struct.unpack("<I", struct.pack("<f", said.logprobs[0]))[0] + 1).to_bytes(4, "little")
    )
    other = replace(call, candidates=(replace(said, logprobs=(nudged[0], *said.logprobs[1:])),))
    assert canonical_row(replace(one, calls=(other, *one.calls[1:]))) != canonical_row(one)


def test_a_file_of_before_scores_were_stored_is_read_and_has_the_same_digest(tmp_path, made):
    path = tmp_path / "t.parquet"
    store.write(path, made)
    pq.write_table(pq.read_table(path).drop_columns(["scores"]), path)
    assert store.read(path) == made
    assert all("scores" not in canonical_row(trajectory) for trajectory in made)
    scored = replace(
        made[0], scores=(ScoreCall(0, "score", Role.ACTOR, (), (Segment(Source.QUOTE, "a", (1,), (-1.0,)),)),)
    )
    assert canonical_row(scored) != canonical_row(made[0])


def test_a_write_that_fails_leaves_the_old_file(tmp_path, made):
    path = tmp_path / "t.parquet"
    store.write(path, made)
    with pytest.raises(UnicodeEncodeError):
        store.write(path, [replace(made[0], answer="\ud800")])
    assert store.read(path) == made


def test_a_truncated_file_is_refused_at_every_length(tmp_path, made):
    path = tmp_path / "t.parquet"
    store.write(path, made)
    whole = path.read_bytes()
    for length in (0, 1, 3, 8, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError) as error:
            store.read(path)
        assert str(error.value) == (
            f"{path}: truncated or damaged; delete it and repeat the command, which samples it again"
        )


def test_files_that_are_not_ours_are_refused(tmp_path):
    foreign = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"a": [1]}), foreign)
    with pytest.raises(UserError, match=r"foreign\.parquet: this Parquet file holds no trajectories of rest_jax"):
        store.read(foreign)
    with pytest.raises(UserError, match="there is no such file; repeat the command"):
        store.read(tmp_path / "absent.parquet")
    text = tmp_path / "text.parquet"
    text.write_text("hello")
    with pytest.raises(UserError, match="truncated or damaged"):
        store.read(text)


def test_another_schema_version_is_refused(tmp_path, made):
    path = tmp_path / "t.parquet"
    store.write(path, made)
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"rest_jax.schema_version": "99"}), path)
    with pytest.raises(UserError, match="schema version 99, this program reads 2; use the version of rest_jax"):
        store.read(path)
