"""What the benchmarks' figures are made of: turns taken, spreads, the roofline, forced replies, unique tokens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.branches import SCRIPTED, branches
from benchmarks.decode import Cell, Plan, Timed, rates
from benchmarks.device_time import device_seconds
from benchmarks.ladder import script, unique_tokens
from benchmarks.measure import Spread, cell, interleaved
from benchmarks.models import SHAPES, WordCodec, prompts, random_model, replies
from benchmarks.rollout import Run, table
from benchmarks.roofline import Ceilings
from benchmarks.train import OURS, Turn, Work, check
from benchmarks.train import row as training_row
from rest_jax.agents.registry import agent
from rest_jax.config.settings import EngineSettings, ImproveSettings, TaskSettings
from rest_jax.core.effects import Role
from rest_jax.core.trajectory import Call
from rest_jax.core.transcript import Segment, Source
from rest_jax.sampling.engine import Engine
from rest_jax.tasks.registry import task
from rest_jax.training.examples import Example

H200 = Ceilings(bytes_per_s=4.3e12, flops_per_s=788e12)


def test_contenders_take_turns_and_who_begins_moves_on() -> None:
    order = []

    def contender(name):
        return lambda repeat: order.append((name, repeat)) or (name, repeat)

    results = interleaved({name: contender(name) for name in "abc"}, 3, "letters")
    assert [name for name, _ in order] == [*"abc", *"bca", *"cab"]
    assert results == {name: [(name, repeat) for repeat in range(3)] for name in "abc"}


def test_a_spread_is_the_median_and_the_ends() -> None:
    assert Spread.of([5.0, 1.0, 2.0]) == Spread(2.0, 1.0, 5.0)


def test_cells() -> None:
    assert [cell(value) for value in (None, "S0", 64, 0.12345, 12_345.6)] == ["–", "S0", "64", "0.123", "12,346"]


@pytest.mark.parametrize(
    ("shape", "batch", "context", "tokens_per_second"),
    [
        ("smollm2-135m", 64, 1024, 154_702),
        ("llama-3.2-1b", 64, 1024, 59_580),
        ("llama-3.2-1b", 256, 2048, 53_353),
        ("qwen2.5-1.5b", 64, 1024, 55_415),
    ],
)
def test_the_roofline_of_published_shapes(shape: str, batch: int, context: int, tokens_per_second: int) -> None:
    measured = H200.decode_tok_s(SHAPES[shape], "bfloat16", batch, context)
    assert measured == pytest.approx(tokens_per_second, rel=1e-3)


def test_rates_come_from_two_lengths() -> None:
    """A prefill of 2 s and steps of 0.1 s: the first token is there after 2.1 s."""
    here = Cell(batch=4, context=84, plan=Plan("tiny", (4,), (84,), short=16, long=64))
    timed = Timed(short_s=2 + 1.6, long_s=2 + 6.4)
    assert here.prompt == 20
    assert here.step_s(timed) == pytest.approx(0.1)
    assert here.first_token_s(timed) == pytest.approx(2.1)


def test_rates_that_noise_ate_are_not_told() -> None:
    assert rates(8, [2.0, -1.0, 4.0]) == Spread(3.0, 2.0, 4.0)
    assert rates(8, [2.0, -1.0]) is None


def test_replies_have_the_length_that_was_asked_for_and_leave_nothing_behind() -> None:
    model = random_model("tiny")
    engine = Engine(model, EngineSettings(rows=3, widths=(64,), chunk=32, block=4))
    asked = prompts((0,), 3, 20, model.config.vocab)
    first, again = replies(engine, asked, 10), replies(engine, asked, 10)
    assert first == again
    assert [len(ids) for ids in first] == [10] * 3
    assert len(set(asked)) == 3
    with pytest.raises(ValueError, match="ended after 44"):
        replies(engine, asked, 50)


def test_words_have_their_ids_wherever_they_stand() -> None:
    codec = WordCodec(8192)
    ids = codec.encode_trusted("Question: Who founded Vell?\nThought:")
    assert len(ids) == 8
    assert ids[:2] == codec.encode_untrusted("Question:")
    assert not codec.eos_ids


def test_the_device_s_own_time_is_part_of_the_engine_s_and_changes_no_reply() -> None:
    model = random_model("tiny")
    engine = Engine(model, EngineSettings(rows=3, widths=(64,), chunk=32, block=4))
    asked = prompts((0,), 3, 20, model.config.vocab)
    said = replies(engine, asked, 10)
    engine.free()  # else prompts that rows still hold are not computed again
    before = engine.stats.seconds
    with device_seconds() as worked:
        assert replies(engine, asked, 10) == said
    within = engine.stats.seconds - before
    assert {"extend", "place", "decode_block"} <= worked.keys()
    assert 0 < worked.total() < within
    known = worked.total()
    replies(engine, asked, 10)
    assert worked.total() == known


def test_the_script_asks_each_question_as_often_as_it_is_told() -> None:
    jobs = script(task(TaskSettings()), turns=3, turn_tokens=8, trajectories=5, method=agent("react"), samples=2).jobs
    assert [job.sample for job in jobs] == [0, 1, 0, 1, 0]
    assert [jobs.index(next(one for one in jobs if one.question == job.question)) for job in jobs] == [0, 0, 2, 2, 4]


def test_common_beginnings_count_once() -> None:
    def call(index: int, ids: tuple[int, ...]) -> Call:
        segments = (Segment(Source.PROMPT, "", ids),)
        return Call(index, "act", 0, Role.ACTOR, segments, (), parent=index - 1 if index else None)

    one = (call(0, (1, 2, 3, 4)), call(1, (9, 9)))
    other = (call(0, (1, 2, 5)), call(1, (9,)))
    assert unique_tokens([one]) == 6
    assert unique_tokens([one, other]) == 4 + 1 + 3
    assert unique_tokens([one, other, one]) == 4 + 1 + 3 + 2
    anew = Call(2, "reflect", 1, Role.ACTOR, (Segment(Source.PROMPT, "", (1, 2, 3, 4, 5)),), ())
    assert unique_tokens([(*one, anew)]) == 6 + 1


def test_rates_and_ratios_of_the_ladder() -> None:
    def run(trajectories: int, seconds: float) -> Run:
        return Run(trajectories, seconds, engine_seconds=2.0, prefilled=300, unique=200, decoded=800)

    runs = {
        ("S0", 0.0): [run(1, 4.0)],
        ("S3", 0.0): [run(8, 3.0), run(8, 4.0), run(8, 9.0)],
        ("S0", 1.0): [run(1, 8.0)],
        ("S3", 1.0): [run(8, 5.0), run(8, 5.0), run(8, 5.0)],
    }
    worked = {("S0", 0.0): 4.5, ("S3", 0.0): 3.0, ("S0", 1.0): 2.0, ("S3", 1.0): 1.5}
    rows = {(row["system"], row["latency_turns"]): row for row in table(runs, worked, turn_s=0.5, rate=400)}
    late = rows["S3", 1.0]
    assert late["latency_s"] == 0.5
    assert late["trajectories_per_minute"] == 96
    assert late["hiding_efficiency"] == pytest.approx(0.8)
    assert late["device_idle"] == pytest.approx(0.7)
    assert rows["S0", 0.0]["device_idle"] == 0
    assert late["outside_engine"] == pytest.approx(0.6)
    assert late["of_decode_rate"] == pytest.approx(0.4)
    assert late["prefill_amplification"] == 1.5
    assert late["times_s0"] == pytest.approx(96 / 7.5)
    assert [rows["S3", 0.0][key] for key in ("seconds", "seconds_least", "seconds_most")] == [4.0, 3.0, 9.0]


def work(*lengths: int) -> Work:
    """Examples whose last quarter is learned, in one row."""
    examples = [
        Example(
            np.arange(n, dtype=np.int32), np.float32(np.arange(n) >= n - n // 4), np.zeros(n, np.float32), "", False
        )
        for n in lengths
    ]
    settings = ImproveSettings(rows=1, length=64)
    return Work(SHAPES["tiny"], Path(), settings, examples, packed=(tuple(range(len(lengths))),))


def test_the_operations_of_a_training_step_are_those_that_its_loss_needs() -> None:
    """A layer of `tiny` has 36,992 parameters: 12,288 of attention, 24,576 of the feed-forward, 128 of two norms."""
    once = work(8, 24)
    blocks, head, pairs = 2 * 36_992 * (8 + 24), 512 * 64 * (2 + 6), 2 * 4 * 16 * (8**2 + 24**2)
    assert once.operations == 6 * (blocks + head + pairs)
    assert once.batch(once.packed).ids_bt.shape == (1, 64)
    assert once.batch(once.padded).ids_bt.shape == (2, 24)


def test_training_rates_and_ratios() -> None:
    once = work(8, 24)
    turns = [Turn(seconds, 2.0, 1.0, peak) for seconds, peak in ((1.0, 3), (2.0, 5), (4.0, 4))]
    known = [Turn(seconds, 2.0, 1.0, None) for seconds in (1.0, 0.5, 4.0)]
    figures = training_row(once, once.operations, turns, known)
    assert (figures["tok_s"], figures["useful_tok_s"], figures["mfu"]) == (16, 4, 0.5)
    assert [figures[f"ours_times{end}"] for end in ("", "_least", "_most")] == [1.0, 1.0, 4.0]
    assert figures["peak_gb"] == 5e-9
    assert (
        training_row(once, 1.0, known, known)["peak_gb"] is training_row(once, 1.0, known, known)["ours_times"] is None
    )


@pytest.mark.parametrize(("turn", "what"), [(Turn(1, 2.01, 1, None), "loss"), (Turn(1, 2, 1.1, None), "grad_norm")])
def test_a_step_that_is_another_is_not_timed(turn: Turn, what: str) -> None:
    known = Turn(1, 2, 1, None)
    adapters = Turn(1, 2, None, None)
    assert "of all 3 agrees within 0e+00" in check({OURS: known, "other": known, "adapters": adapters})
    with pytest.raises(RuntimeError, match=f"other's {what} is"):
        check({OURS: known, "other": turn})


def test_branches_that_a_model_takes_are_counted_beside_those_of_the_pages() -> None:
    told = {"task": "arithmetic", "em_any": None, "weights_digest": "w"}
    few = {
        **told,
        "n": 40,
        "em": 0.05,
        "moves": {"question → think": 39, "think → finished": 39, "question → nothing": 1},
    }
    more = {**told, "n": 9, "em": 0.0, "moves": {"question → think without an answer": 9}}
    scripted = json.loads(SCRIPTED.read_text(encoding="utf-8"))
    row = branches("cot", [more, few], scripted)
    assert (row["n"], row["evaluations"]) == (40, 2)
    assert (row["taken"], row["scripted"], row["others"]) == (3, 5, 1)
    assert row["missing"] == ["think without an answer → malformed", "think without an answer → token_limit"]
    assert (row["em_percent"], row["em_any_percent"]) == (5.0, None)
