"""Stops complete exactly once, wherever token borders and character borders fall."""

import numpy as np
import pytest
from sampling_toys import CODEC, EOS, WORDS

from rest_jax.core.effects import Finish
from rest_jax.sampling.stops import ENDED, STOPPED, StopTable, automaton, candidate

STOP_SETS = (("\n",), ("\nObservation",), ("\n", "\nObs"), ("aab", "ab", "b\n\n"), ("é",), ("]\n]", "\n]\n"), ())


def first_completion(content: bytes, stops: tuple[str, ...]) -> tuple[int, int] | None:
    """(end, begin) of the stop that completes first, the longest of those; by trying every prefix."""
    for end in range(len(content) + 1):
        begins = [end - len(stop.encode()) for stop in stops if content[:end].endswith(stop.encode())]
        if begins:
            return end, min(begins)
    return None


def random_ids(rng: np.random.Generator) -> list[int]:
    """Tokens that make and nearly make the stops above."""
    return rng.choice([*b"ab\n]O", *"é".encode(), *range(256, len(WORDS) - 1)], size=rng.integers(1, 12)).tolist()


@pytest.mark.parametrize("stops", STOP_SETS)
def test_automaton_finds_the_first_completion(stops):
    rng = np.random.default_rng(0)
    searcher = automaton(stops)
    for _ in range(200):
        content = b"".join(WORDS[i] for i in random_ids(rng))
        state, found = 0, None
        for position, byte in enumerate(content):
            state = searcher.moves[state, byte]
            if searcher.matched[state]:
                found = position + 1, position + 1 - searcher.matched[state]
                break
        assert found == first_completion(content, stops)


def test_table_stops_in_the_token_in_which_the_stop_completes():
    table = StopTable(CODEC, len(WORDS))
    roots = [table.root(stops) for stops in STOP_SETS]
    assert roots == [table.root(stops) for stops in STOP_SETS]
    rng = np.random.default_rng(1)
    for stops, root in zip(STOP_SETS, roots, strict=True):
        for _ in range(200):
            ids = random_ids(rng)
            state, frozen_after = root, None
            for index, token in enumerate(ids):
                state = int(table.rows[state, token])
                if state == STOPPED:
                    frozen_after = index
                    break
            prefixes = [b"".join(WORDS[i] for i in ids[: n + 1]) for n in range(len(ids))]
            expected = next((n for n, prefix in enumerate(prefixes) if first_completion(prefix, stops)), None)
            assert frozen_after == expected


def test_end_of_sequence_ends_from_every_state():
    table = StopTable(CODEC, len(WORDS))
    root = table.root(("\nObservation",))
    midway = table.rows[root, CODEC.encode_untrusted("\nObs")[0]]
    assert midway not in (root, STOPPED)
    assert table.rows[root, EOS] == table.rows[midway, EOS] == table.rows[table.root(()), EOS] == ENDED


def test_a_longer_set_grows_the_table_and_keeps_the_states_of_others():
    table = StopTable(CODEC, len(WORDS))
    root = table.root(("\nObservation",))
    before = table.rows
    table.root(("x" * 100,))
    assert len(table.rows) > len(before)
    assert np.array_equal(table.rows[: len(before)][root], before[root])


@pytest.mark.parametrize("stops", STOP_SETS)
def test_candidate_splits_text_stop_and_overhang(stops):
    rng = np.random.default_rng(2)
    for _ in range(300):
        ids = random_ids(rng)
        content = b"".join(WORDS[i] for i in ids)
        reply = candidate(CODEC, stops, ids, [-1.0] * len(ids), Finish.LENGTH)
        found = first_completion(content, stops)
        assert reply.ids == tuple(ids[: len(reply.ids)])
        assert len(reply.logprobs) == len(reply.ids)
        assert reply.finish is (Finish.STOP if found else Finish.LENGTH)
        kept = b"".join(WORDS[i] for i in reply.ids)
        if found:
            begin = found[1]
            assert reply.text == content[:begin].decode("utf-8", "replace")
            assert reply.overhang == kept[begin:].decode("utf-8", "replace")
            assert len(kept) > begin
            before_last = b"".join(WORDS[i] for i in reply.ids[:-1])
            assert len(before_last) <= begin or not decodes(before_last[begin:])
        else:
            assert reply.overhang == ""
            assert kept == content


def decodes(content: bytes) -> bool:
    return content.decode("utf-8", "ignore").encode() == content


@pytest.mark.parametrize("stop", ["\n", "\nObservation"])
def test_stop_inside_a_token_round_trips(stop):
    said = "Thought: x\nAction: search[Foo]" if stop == "\nObservation" else "Action: search[Foo]"
    ids = CODEC.encode_untrusted(said + "\nObservation: ")
    assert WORDS.index(b"]\n") in ids
    reply = candidate(CODEC, (stop,), ids, None, Finish.LENGTH)
    assert reply.text == said
    assert reply.overhang == "\n"
    assert reply.ids[-1] == WORDS.index(b"]\n")
    rest = CODEC.encode_untrusted("\nObservation: "[len(reply.overhang) :])
    assert CODEC.decode(reply.ids + rest) == said + "\nObservation: "


def test_stop_over_several_tokens_keeps_the_one_in_which_it_begins():
    ids = (*b"yes", *b"\nObs", *b"ervation")
    reply = candidate(CODEC, ("\nObservation",), ids, None, Finish.LENGTH)
    assert (reply.text, reply.overhang, reply.ids) == ("yes", "\n", (*b"yes", ord("\n")))


def test_a_split_character_of_the_stop_is_kept_whole():
    reply = candidate(CODEC, ("é!",), (*"né!".encode(),), None, Finish.LENGTH)
    assert (reply.text, reply.overhang, reply.ids) == ("n", "é", tuple("né".encode()))


def test_end_of_sequence_is_kept_as_an_id_and_not_as_text():
    reply = candidate(CODEC, ("\n",), (*b"ok", EOS), (-1.0, -2.0, -3.0), Finish.EOS)
    assert (reply.ids, reply.text, reply.finish) == ((*b"ok", EOS), "ok", Finish.EOS)


def test_an_empty_stop_is_refused():
    with pytest.raises(ValueError, match="empty"):
        automaton(("\n", ""))
