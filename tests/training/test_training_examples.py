"""Examples: what was sampled is what is learned, token for token, and nothing else is."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from training_world import BOS, EOS, ByteCodec, trajectories, trajectory

from rest_jax.core.effects import Candidate, Finish, Role, Status
from rest_jax.core.trajectory import Call, context_of
from rest_jax.core.transcript import Segment, Source
from rest_jax.rollout import store
from rest_jax.training.examples import examples_of
from rest_jax.training.packing import batch_of, schedule

CODEC = ByteCodec()


def said(text, *, finish=Finish.STOP, overhang="", logprobs=True):
    ids = tuple((text + overhang).encode()) + ((EOS,) if finish is Finish.EOS else ())
    return Candidate(ids, (-0.5,) * len(ids) if logprobs else None, text, finish, overhang)


def prompt(text, *, shots=False, source=Source.PROMPT):
    return Segment(source, text, tuple(text.encode()), None, shots)


def call(index, segments, *candidates, chosen=0, parent=None, parent_candidate=0, role=Role.ACTOR):
    return Call(index, "act", 0, role, tuple(segments), candidates, chosen, parent, parent_candidate)


def learned_text(example):
    return CODEC.decode(example.ids[example.learn])


def react(status=Status.FINISHED, finish=Finish.STOP):
    """Two turns of one transcript, with worked examples before the question."""
    return trajectory(
        [
            call(0, [prompt("shots ", shots=True), prompt("Q ")], said("search", overhang="\n"), said("lookup")),
            call(1, [prompt("page ", source=Source.TOOL)], said("finish", finish=finish), parent=0),
        ],
        status,
    )


@given(trajectories())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_store_load_batch_reproduces_sampled_ids_and_masks(tmp_path, made):
    store.write(tmp_path / "t.parquet", [made])
    (loaded,) = store.read(tmp_path / "t.parquet")
    examples = examples_of(loaded, CODEC, prompt="same")
    plans = schedule(examples, steps=1, rows=4, length=128, seed=0) if examples else []
    in_batch = [packed for plan in plans for packed in unpacked(batch_of(examples, plan, 128))]

    learned_calls = [c for c in made.calls if c.role is not Role.JUDGE]
    sampled = {c.index: c.candidates[c.chosen] for c in learned_calls}
    ends = made.calls[-1]
    continued = {link for c in learned_calls for link in chosen_on_the_way_to(made.calls, c)}

    def adds_eos(c):
        """Whether a call ends a sequence, and by no end-of-sequence token."""
        over = made.status is Status.FINISHED if c is ends else c.index not in continued
        return over and sampled[c.index].finish is Finish.STOP

    added = sum(map(adds_eos, learned_calls))
    expected_learned = sorted(token for reply in sampled.values() for token in reply.ids) + [EOS] * added
    assert sorted(int(t) for e in examples for t in e.ids[e.learn]) == sorted(expected_learned)

    transcripts = {}
    for c in learned_calls:
        context = [token for segment in context_of(made.calls, c.index) for token in segment.ids]
        ids = (BOS, *context, *sampled[c.index].ids)
        transcripts[(*ids, EOS) if adds_eos(c) else ids] = c
    logprob_of = {
        token: logprob
        for c in made.calls
        for candidate in c.candidates
        for token, logprob in zip(candidate.ids, candidate.logprobs or [np.nan] * len(candidate.ids), strict=True)
    }
    for e in examples:
        assert tuple(e.ids.tolist()) in transcripts
        expected = np.array([logprob_of.get(token, np.nan) for token in e.ids.tolist()], np.float32)
        assert e.logprobs.tobytes() == expected.tobytes()
        assert not e.off_context

    keys = {(tuple(e.ids.tolist()), tuple(e.learn.tolist())) for e in examples}
    assert {(ids, learn) for ids, learn in in_batch} == keys


def chosen_on_the_way_to(calls, call):
    """The calls that this one continues by their chosen candidate."""
    while call.parent is not None:
        if call.parent_candidate == calls[call.parent].chosen:
            yield call.parent
        call = calls[call.parent]


def unpacked(batch):
    """The (ids, learn) of each example of a batch: a row's inputs, and each target that continues them."""
    for b in range(batch.ids_bt.shape[0]):
        segments = np.asarray(batch.segments_bt[b])
        for segment in range(1, segments.max() + 1):
            inside = segments == segment
            ids, targets = np.asarray(batch.ids_bt[b])[inside], np.asarray(batch.targets_bt[b])[inside]
            assert (ids[1:] == targets[:-1]).all()
            weights = np.asarray(batch.weights_bt[b])[inside]
            yield tuple(ids.tolist()), (False, *(weights[:-1] != 0).tolist())


def test_calls_of_one_transcript_become_one_sequence():
    (example,) = examples_of(react(), CODEC, prompt="same")
    assert CODEC.decode(example.ids) == "shots Q search\npage finish"
    assert learned_text(example) == "search\nfinish"
    assert example.ids[0] == BOS
    assert example.ids[-1] == EOS
    assert example.learn[-1]
    assert np.isnan(example.logprobs[-1])
    assert not example.off_context


def test_a_bare_example_leaves_the_worked_examples_out():
    (example,) = examples_of(react(), CODEC, prompt="bare")
    assert CODEC.decode(example.ids) == "Q search\npage finish"
    assert learned_text(example) == "search\nfinish"
    assert example.off_context
    assert np.nanmax(example.logprobs) == np.float32(-0.5)


def test_a_bare_example_without_worked_examples_is_on_context():
    (example,) = examples_of(trajectory([call(0, [prompt("Q ")], said("x"))]), CODEC, prompt="bare")
    assert not example.off_context


@pytest.mark.parametrize(
    ("status", "finish", "ends"),
    [
        (Status.FINISHED, Finish.STOP, [ord("h"), EOS]),
        (Status.FINISHED, Finish.EOS, [ord("h"), EOS]),
        (Status.STEP_LIMIT, Finish.STOP, [ord("s"), ord("h")]),
        (Status.FINISHED, Finish.LENGTH, [ord("s"), ord("h")]),
    ],
)
def test_a_finished_trajectory_ends_in_one_eos(status, finish, ends):
    (example,) = examples_of(react(status, finish), CODEC, prompt="same")
    assert example.ids[-2:].tolist() == ends
    assert example.learn[-2:].all()


def test_a_call_that_opens_a_transcript_is_an_example_of_its_own():
    made = trajectory([call(0, [prompt("a ")], said("x")), call(1, [prompt("b ")], said("y"))])
    first, second = examples_of(made, CODEC, prompt="same")
    assert [CODEC.decode(e.ids) for e in (first, second)] == ["a x", "b y"]


@pytest.mark.parametrize("status", [Status.FINISHED, Status.MALFORMED])
@pytest.mark.parametrize(
    ("finish", "ends"),
    [(Finish.STOP, [ord("#"), EOS]), (Finish.EOS, [ord("x"), EOS]), (Finish.LENGTH, [ord(" "), ord("x")])],
)
def test_a_transcript_whose_step_was_over_ends_in_one_eos(status, finish, ends):
    """The token in which a stop string begins is kept, the rest of it is not: nothing else would teach the end."""
    overhang = "#" if finish is Finish.STOP else ""
    made = trajectory([call(0, [prompt("a ")], said("x", finish=finish, overhang=overhang)), call(1, [], said("y"))])
    first, last = examples_of(replace(made, status=status), CODEC, prompt="same")
    assert first.ids[-2:].tolist() == ends
    assert first.learn[-1]
    assert (last.ids[-1] == EOS) == (status is Status.FINISHED)


def test_a_reply_that_was_not_chosen_is_context_only():
    made = trajectory(
        [
            call(0, [prompt("a ")], said("bad"), said("good"), chosen=1),
            call(1, [prompt(" why? ")], said("so"), parent=0, parent_candidate=0),
        ]
    )
    chosen, other = examples_of(made, CODEC, prompt="same")
    assert (CODEC.decode(chosen.ids), learned_text(chosen)) == ("a good", "good")
    assert (CODEC.decode(other.ids), learned_text(other)) == ("a bad why? so", "so")


def test_a_shared_beginning_is_learned_once():
    made = trajectory(
        [
            call(0, [prompt("a ")], said("x")),
            call(1, [prompt(" b ")], said("y"), parent=0),
            call(2, [prompt(" c ")], said("z"), parent=0),
        ]
    )
    examples = examples_of(made, CODEC, prompt="same")
    assert [CODEC.decode(e.ids) for e in examples] == ["a x b y", "a x c z"]
    assert "".join(sorted("".join(map(learned_text, examples)))) == "xyz"


def test_a_judge_is_not_learned():
    made = trajectory([call(0, [prompt("a ")], said("x")), call(1, [prompt("good? ")], said("yes"), role=Role.JUDGE)])
    (example,) = examples_of(made, CODEC, prompt="same")
    assert learned_text(example) == "x"


def test_another_tokenizer_encodes_text_once_and_trusts_only_the_prompt():
    foreign = trajectory(
        [
            call(
                0,
                [Segment(Source.PROMPT, "<eos>Q", (9,)), Segment(Source.TOOL, "<eos>T", (9, 9))],
                Candidate((7, 7), (-1.0, -2.0), "<eos>M", Finish.EOS),
            )
        ],
        tokenizer_digest="another",
    )
    (example,) = examples_of(foreign, CODEC, prompt="same")
    assert example.ids.tolist() == [BOS, EOS, ord("Q"), *b"<eos>T", *b"<eos>M", EOS]
    assert example.ids[example.learn].tolist() == [*b"<eos>M", EOS]
    assert np.isnan(example.logprobs).all()
    assert example.off_context


def test_imported_words_are_learned_without_logprobs():
    made = trajectory([call(0, [prompt("Q ")], said("gold", logprobs=False))])
    (example,) = examples_of(made, CODEC, prompt="same")
    assert learned_text(example) == "gold"
    assert np.isnan(example.logprobs).all()
