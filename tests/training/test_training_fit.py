"""Fit: it learns, it goes on in the same bits, and it survives whatever happens to its folder."""

import contextlib
import gc
import random
import shutil
import signal
from collections import Counter
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_world import CONFIG, example, random_examples

from rest_jax.config.improve import ImproveSettings, MeshSettings
from rest_jax.core.errors import UserError
from rest_jax.core.events import silent, to_both
from rest_jax.core.termination import Terminated, terminable
from rest_jax.models import decoder
from rest_jax.training.fit import fit

SETTINGS = ImproveSettings(
    steps=9, rows=2, length=24, learning_rate=3e-2, warmup=1, weight_decay=0.1, checkpoint_every=2
)
EXAMPLES = random_examples(5)


@pytest.fixture(scope="module")
def params():
    return decoder.init(CONFIG, jax.random.key(0))


@pytest.fixture(scope="module")
def whole(params, tmp_path_factory):
    """An uninterrupted fit: its result, its events and its folder (never changed: tests copy it)."""
    events, folder = [], tmp_path_factory.mktemp("fit")
    return run(params, folder, emit=events.append), events, folder


def run(params, folder, *, settings=SETTINGS, examples=EXAMPLES, emit=silent, start="w"):
    return fit(CONFIG, params, examples, settings, start=start, seed=3, folder=folder, emit=emit)


def assert_same_bits(result, expected):
    assert result.losses == expected.losses
    assert result.tokens == expected.tokens
    pairs = zip(jax.tree.leaves(result.params), jax.tree.leaves(expected.params), strict=True)
    assert all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


def assert_untouched(params):
    fresh = decoder.init(CONFIG, jax.random.key(0))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), params, fresh)


def warnings_in(events):
    return [event.data["text"] for event in events if event.kind == "warning"]


class Stop(Exception):
    pass


def stop_after(step):
    def emit(event):
        if event.kind == "metrics" and event.data["step"] == step:
            raise Stop

    return emit


def terminated_in(step):
    def emit(event):
        if event.kind == "metrics" and event.data["step"] == step:
            signal.raise_signal(signal.SIGTERM)

    return emit


def test_it_learns_and_leaves_the_callers_parameters_alone(whole, params):
    result, _, _ = whole
    assert result.steps == len(result.losses) == SETTINGS.steps
    assert np.mean(result.losses[-3:]) < np.mean(result.losses[:3]) - 0.3
    assert_untouched(params)


def test_it_reports_every_step(whole):
    result, events, _ = whole
    assert Counter(event.kind for event in events) == {"metrics": 9, "progress": 9}
    metrics = [event.data for event in events if event.kind == "metrics"]
    assert [numbers["step"] for numbers in metrics] == list(range(1, 10))
    assert tuple(numbers["loss"] for numbers in metrics) == result.losses
    assert sum(numbers["tokens"] for numbers in metrics) == result.tokens
    np.testing.assert_allclose([n["learning_rate"] for n in metrics[:2]], [1.5e-2, 3e-2], rtol=1e-6)
    assert all(numbers["grad_norm"] > 0 and numbers["tokens_per_second"] > 0 for numbers in metrics)
    assert events[-1].data == {"stage": "improve", "done": 9, "total": 9, "unit": "steps"}


def test_the_scale_of_weights_is_no_learning_rate(whole, params, tmp_path):
    heavy = [replace(example, weights=4 * example.weights) for example in EXAMPLES]
    assert_same_bits(run(params, tmp_path, examples=heavy), whole[0])


def test_what_counts_little_moves_little(params, tmp_path):
    """In batches of one example each: divided by its own weights, the light one would make as large a step."""
    light, heavy = (
        replace(example, weights=w * example.weights) for example, w in zip(EXAMPLES, (0.01, 1), strict=False)
    )
    events, one_row = [], replace(SETTINGS, rows=1, length=max(len(e.ids) for e in (light, heavy)), steps=2, warmup=0)
    run(params, tmp_path, settings=one_row, examples=[light, heavy], emit=events.append)
    norms = sorted(event.data["grad_norm"] for event in events if event.kind == "metrics")
    assert norms[0] < 0.05 * norms[1]


@pytest.mark.parametrize("step", [1, 3, 8])
def test_a_stopped_fit_goes_on_in_the_same_bits(whole, params, tmp_path, step):
    with pytest.raises(Stop):
        run(params, tmp_path, emit=stop_after(step))
    events = []
    assert_same_bits(run(params, tmp_path, emit=events.append), whole[0])
    repeated = [event.data["step"] for event in events if event.kind == "metrics"]
    assert repeated[0] == (step - 1) // SETTINGS.checkpoint_every * SETTINGS.checkpoint_every + 1


@pytest.mark.parametrize("step", [1, 4, 9])
def test_sigterm_keeps_the_step_in_which_it_came(whole, params, tmp_path, step):
    with pytest.raises(Terminated, match=f"the state after step {step} of 9 of improve is kept"), terminable():
        run(params, tmp_path, emit=terminated_in(step))
    events = []
    assert_same_bits(run(params, tmp_path, emit=events.append), whole[0])
    assert [event.data["step"] for event in events if event.kind == "metrics"] == list(range(step + 1, 10))


def test_a_finished_fit_repeated_computes_its_last_interval_only(whole, params, tmp_path):
    result, _, folder = whole
    shutil.copytree(folder, tmp_path / "copy")
    events = []
    assert_same_bits(run(params, tmp_path / "copy", emit=events.append), result)
    assert [event.kind for event in events] == ["notice", "metrics", "progress"]


def flip_a_byte(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip_a_byte, truncate])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(whole, params, tmp_path, damage):
    result, _, folder = whole
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    damage(newest_content(copy))
    events = []
    assert_same_bits(run(params, copy, emit=events.append), result)
    (text,) = warnings_in(events)
    assert "damaged checkpoint" in text
    assert [event.data["step"] for event in events if event.kind == "metrics"] == [7, 8, 9]
    gc.collect()  # what orbax leaves behind of a failed read would be told here


def newest_content(folder):
    """The largest file of arrays (orbax keeps them in folders `d`) of the newest checkpoint; None without one."""
    steps = [int(path.name) for path in folder.iterdir() if path.name.isdigit()]
    files = (folder / str(max(steps, default=0)) / "state").rglob("d/*")
    return max(files, key=lambda path: path.stat().st_size, default=None)


@pytest.mark.parametrize("seed", [0, 1])
def test_stopped_terminated_and_damaged_at_random_steps_it_learns_the_same_at_every_step(whole, params, tmp_path, seed):
    """Epochs end on the way: one has at most as many rows as there are examples."""
    assert SETTINGS.steps * SETTINGS.rows > 3 * len(EXAMPLES)
    draw, events = random.Random(seed), []
    for _ in range(4):
        fault = draw.choice([stop_after, terminated_in])(draw.randint(1, SETTINGS.steps))
        with contextlib.suppress(Stop, Terminated), terminable():
            run(params, tmp_path, emit=to_both(events.append, fault))
        if (file := newest_content(tmp_path)) and draw.random() < 0.5:
            flip_a_byte(file)
    assert_same_bits(run(params, tmp_path, emit=events.append), whole[0])
    learned = [(event.data["step"], event.data["loss"]) for event in events if event.kind == "metrics"]
    assert len(learned) > SETTINGS.steps
    assert set(learned) == set(enumerate(whole[0].losses, start=1))
    assert any("damaged checkpoint" in text for text in warnings_in(events))
    gc.collect()


def test_a_folder_of_another_fit_is_refused(whole, params, tmp_path):
    shutil.copytree(whole[2], tmp_path / "copy")
    slower = replace(SETTINGS, learning_rate=1e-3)
    for changed in ({"settings": slower}, {"examples": EXAMPLES[1:]}, {"start": "other weights"}):
        with pytest.raises(UserError, match="other settings, seed, model or mixture"):
            run(params, tmp_path / "copy", **changed)


def test_a_mesh_divides_the_work_and_learns_the_same(whole, params, tmp_path):
    result = run(params, tmp_path, settings=replace(SETTINGS, mesh=MeshSettings(fsdp=2, tensor=2)))
    np.testing.assert_allclose(result.losses, whole[0].losses, rtol=1e-4)
    kernel = result.params["blocks"]["feedforward"]["up"]["kernel"]
    assert kernel.addressable_shards[0].data.size * 4 == kernel.size
    assert_untouched(params)


def test_a_mixture_without_a_reply_says_where_to_look(params, tmp_path):
    for nothing in ([], [example([1, 2, 3], [0, 0, 0])], [example([1, 2, 3], [0, 1, 1], weight=0.0)]):
        with pytest.raises(UserError, match=r"holds no reply to learn from; .*engine\.widths"):
            run(params, tmp_path, examples=nothing)


def test_too_long_examples_are_counted(params, tmp_path):
    long = example(np.arange(30), np.ones(30))
    with pytest.raises(UserError, match=r"all 1 examples are longer than a row; set improve\.length"):
        run(params, tmp_path, examples=[long])
    events = []

    def emit(event):
        events.append(event)
        stop_after(1)(event)

    with pytest.raises(Stop):
        run(params, tmp_path, examples=[long, *EXAMPLES], emit=emit)
    (text,) = warnings_in(events)
    assert text.startswith("improve: 1 of 6 examples are longer than improve.length=24 tokens and were left out")


def test_rows_must_divide_over_the_mesh(params, tmp_path):
    divided = replace(SETTINGS, mesh=MeshSettings(data=2, fsdp=2))
    with pytest.raises(UserError, match=r"^improve\.rows: 2 do not divide over .* = 4; set it to a multiple of 4$"):
        run(params, tmp_path, settings=divided)


def test_a_mesh_must_divide_the_model(params, tmp_path):
    divided = replace(SETTINGS, mesh=MeshSettings(tensor=4))
    with pytest.raises(UserError, match=r"tensor = 4 does not divide 2 kv_heads of this model; .* one of 1, 2$"):
        run(params, tmp_path, settings=divided)


def test_a_loss_that_is_no_number_stops_the_fit(params, tmp_path):
    broken = {**params, "norm": jnp.full_like(params["norm"], np.nan)}
    with pytest.raises(UserError, match=r"the loss is nan at step 1; lower improve\.learning_rate"):
        run(broken, tmp_path)
