"""The thresholded mixture: strictly greater, masked never, the best of each question first."""

from hypothesis import given
from hypothesis import strategies as st

from rest_jax.config.settings import ImproveSettings
from rest_jax.training.mixture import keep

REWARDS = {"a#0": 0.2, "a#1": 1.0, "a#2": 0.5, "b#0": 0.5, "b#1": None, "b#2": 0.9, "c#0": 0.0}
QUESTION_OF = {id: id[0] for id in REWARDS}


def settings_of(**changes):
    return ImproveSettings(**{"per_question": None, **changes})


def kept(threshold, **changes):
    return keep(REWARDS, QUESTION_OF, settings_of(**changes), threshold)


def warnings_of(threshold, rewards=REWARDS, **changes):
    seen = []
    keep(rewards, QUESTION_OF, settings_of(**changes), threshold, seen.append)
    return [event.data["text"] for event in seen]


def test_fixed_keeps_what_is_strictly_greater():
    assert kept(0.5) == ["a#1", "b#2"]
    assert kept(0.0) == ["a#0", "a#1", "a#2", "b#0", "b#2"]
    assert kept(1.0) == []


def test_percentile_is_over_all_known_rewards():
    assert kept(0.5, filter="percentile") == ["a#1", "b#2"]
    assert kept(0.0, filter="percentile") == ["a#0", "a#1", "a#2", "b#0", "b#2"]


def test_interpolated_compares_with_the_question_itself():
    assert kept(0.0, filter="interpolated") == ["a#1", "b#2"]
    assert keep({"a#0": 0.2, "a#1": 0.3}, QUESTION_OF, settings_of(filter="interpolated"), 0.5) == ["a#1"]
    assert kept(1.0, filter="interpolated") == []


@given(st.floats(0, 1), st.integers(1, 9), st.floats(0, 1))
def test_interpolated_keeps_nothing_of_a_question_whose_samples_are_equal(reward, n, gamma):
    ids = [f"a#{i}" for i in range(n)]
    settings = settings_of(filter="interpolated")
    assert keep(dict.fromkeys(ids, reward), dict.fromkeys(ids, "a"), settings, gamma) == []


def test_the_cutoff_takes_the_highest_first_then_the_lowest_sample():
    rewards = {"a#0": 0.6, "a#1": 0.7, "a#2": 0.9, "a#3": 0.7, "b#0": 0.6}
    question_of = {id: id[0] for id in rewards}
    assert keep(rewards, question_of, settings_of(per_question=2), 0.5) == ["a#1", "a#2", "b#0"]


def test_a_degenerate_threshold_is_named():
    (text,) = warnings_of(0.6, thresholds=(0.5, 0.6))
    assert text.startswith("degenerate threshold: 0.6 keeps the same 2 trajectories as 0.5")
    assert warnings_of(0.95, thresholds=(0.5, 0.95)) == []


def test_a_first_threshold_below_the_mean_is_named():
    (text,) = warnings_of(0.1, thresholds=(0.1, 0.95))
    assert text.startswith("threshold below the mean: the first cut is 0.1, the mean reward 0.517")
    assert warnings_of(0.55, thresholds=(0.55,)) == []


def test_nothing_known_keeps_nothing():
    assert keep({"a#0": None}, QUESTION_OF, settings_of(), 0.0) == []
