"""The identity of functions, instances and data: what differs has two, and what is made again has one."""

from __future__ import annotations

import copy
import functools
import os
import re
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rest_jax.agents.cot import cot
from rest_jax.agents.gates import gold, own_word
from rest_jax.agents.react import react, react_lines
from rest_jax.agents.reflexion import reflexion
from rest_jax.agents.registry import agent
from rest_jax.config.settings import AgentSettings
from rest_jax.core.identity import identity, places

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.binary(max_size=4)
DATA = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.frozensets(st.text(max_size=3), max_size=3)
    ),
    max_leaves=8,
)


def closed_over(given: Any) -> Callable[[], Any]:
    return lambda: given


def defaulting(given: Any) -> Callable[[], Any]:
    def asked(given: Any = given, *, also: Any = given) -> Any:
        return given, also

    return asked


def answering(given: Any, more: int) -> Any:
    return given


@dataclass(frozen=True)
class Priced:
    price: Any
    more: list[int] = field(default_factory=list)

    def __call__(self, n: int) -> Any:
        return self.price


class Plain:
    def __init__(self, price: Any) -> None:
        self.price = price

    def of(self, n: int) -> Any:
        return self.price


class Slotted:
    __slots__ = ("price",)

    def __init__(self, price: Any) -> None:
        self.price = price


def with_methods(given: Any) -> type:
    class Made:
        def __call__(self) -> Any:
            return given

    return Made


WAYS: tuple[Callable[[Any], Any], ...] = (
    closed_over,
    defaulting,
    functools.partial(functools.partial, answering),
    lambda given: functools.partial(answering, more=given),
    lambda given: functools.cache(closed_over(given)),
    Priced,
    Plain,
    Slotted,
    with_methods,
    lambda given: with_methods(given)(),
    lambda given: Plain(given).of,
    lambda given: closed_over(closed_over(Plain(given))),
    lambda given: [given],
)


@settings(max_examples=40, deadline=None)
@given(DATA, DATA)
def test_what_was_given_other_data_is_another(one: Any, other: Any) -> None:
    same = repr(one) == repr(other) or identity(one) == identity(other)
    for way in WAYS:
        assert (identity(way(one)) == identity(way(other))) == same
        assert identity(way(one)) == identity(way(copy.deepcopy(one)))


@given(DATA, DATA)
def test_data_have_one_identity_where_they_are_equal_and_of_one_kind(one: Any, other: Any) -> None:
    def kinds(value: Any) -> Any:
        match value:
            case dict():
                return [(key, kinds(each)) for key, each in value.items()]
            case list() | tuple():
                return [type(value), *map(kinds, value)]
            case frozenset():
                return sorted(value)
        return repr(value)

    assert (identity(one) == identity(other)) == (kinds(one) == kinds(other) and type(one) is type(other))


def test_each_way_is_another() -> None:
    assert len({identity(way(1)) for way in WAYS}) == len(WAYS)
    assert len({identity(one) for one in (answering, closed_over, max, min, len, [].append, [1].append)}) == 7


def test_lambdas_of_one_name_and_line_are_two() -> None:
    assert len({identity(one) for one in (lambda: 1, lambda: 2, lambda: min(1, 2), lambda: max(1, 2))}) == 4


def test_a_method_made_of_the_packages_parts_is_known_by_these() -> None:
    made = [reflexion(react, gold), reflexion(react, gold, 1), reflexion(cot, gold), reflexion(react, own_word)]
    assert len(set(map(identity, made))) == 4
    assert identity(reflexion(react, gold)) == identity(made[0])
    assert places(made[0]) == places(made[1]) != places(made[2])
    assert places(made[0])[1:] == ("rest_jax.agents.react.react", "rest_jax.agents.gates.gold")


def test_the_packages_own_classes_are_known_by_their_fields() -> None:
    made = agent("cot_reflexion")
    edited = [{"instruction": "Answer."}, {"lines": react_lines}, {"run": reflexion(cot, gold, 1)}, {"oracle": False}]
    given = [made, *(replace(made, **fields) for fields in edited), AgentSettings(), AgentSettings(shots=1)]
    assert len(set(map(identity, given))) == len(given)


def test_what_wraps_another_under_its_name_is_not_that() -> None:
    def wrapping(price: float) -> Callable[..., Any]:
        @functools.wraps(cot)
        def wrapped(*arguments: Any) -> Any:
            return price

        return wrapped

    assert len({identity(cot), identity(wrapping(0.1)), identity(wrapping(0.2))}) == 3
    assert places(wrapping(0.1))[0].endswith("wrapping.<locals>.wrapped")


def test_arrays_are_their_numbers_and_patterns_whole() -> None:
    long = np.zeros(5000)
    other = long.copy()
    other[2500] = 1
    arrays = [long, other, long.astype(np.float32), long.reshape(50, 100), jnp.ones(2, jnp.bfloat16), jnp.zeros(2)]
    assert len({identity(closed_over(array)) for array in arrays}) == len(arrays)
    assert identity(long) == identity(np.zeros(5000))
    patterns = [re.compile("x" * 300 + tail, flags) for tail in "ab" for flags in (0, re.I)]
    assert len(set(map(identity, patterns))) == 4
    assert identity(jax.jit(closed_over(1))) == identity(jax.jit(closed_over(1))) != identity(jax.jit(closed_over(2)))


def test_what_holds_itself_comes_to_an_end() -> None:
    def around(price: int) -> Any:
        held = Plain(price)
        held.next = {"self": held, "neighbours": [held]}
        return held

    def recursive() -> Any:
        def again(n: int) -> int:
            return again(n - 1)

        return again

    assert identity(around(1)) == identity(around(1)) != identity(around(2))
    assert identity(recursive()) == identity(recursive())


def test_a_class_says_itself_what_counts() -> None:
    class Asking(Plain):
        def __getstate__(self) -> Any:
            return self.price

    first, second = Asking(0.1), Asking(0.1)
    second.connection = object()
    assert identity(first) == identity(second) != identity(Asking(0.2))


def test_a_path_does_not_change_by_being_used() -> None:
    path = Path("a") / "b"
    before = identity(closed_over(path))
    assert {path: str(path)}
    assert identity(closed_over(path)) == before != identity(closed_over(Path("a") / "c"))


def module(file: Path, source: str, name: str) -> types.ModuleType:
    """A module of this source, imported anew."""
    file.write_text(source)
    made = types.ModuleType(name)
    exec(compile(source, str(file), "exec"), vars(made))
    return made


def test_a_functions_file_is_its_source_whatever_its_module_is_called(tmp_path: Path) -> None:
    source = "def helper():\n    return {}\n\n\ndef reward():\n    return helper()\n"
    made = [
        module(tmp_path / f"{name}.py", source.format(price), name).reward
        for name, price in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert identity(made[0]) == identity(made[1]) != identity(made[2])


def test_code_without_a_file_is_what_python_made_of_it() -> None:
    def typed(source: str) -> Any:
        names: dict[str, Any] = {"__name__": "typed_in"}
        exec(source, names)
        return names["reward"]

    rewards = [f"def reward(t, q):\n    return {price}" for price in ("0.1", "0.2", "min(t, q)", "max(t, q)")]
    classes = [f"class reward:\n    rate = {price}\n    def __call__(self): return self.rate" for price in (0.1, 0.2)]
    assert len({identity(typed(source)) for source in (*rewards, *classes)}) == 6
    assert identity(typed(rewards[0])) == identity(typed(rewards[0]))
    assert identity(typed(classes[0])()) == identity(typed(classes[0])()) != identity(typed(classes[1])())


IN_A_PROCESS = """
from tests.core.test_identity import WAYS, Plain, closed_over
from rest_jax.core.identity import identity
held = Plain({"a", "b", "c", ("d", 1)})
held.other = object()
print([identity(way({"x": held, "y": frozenset("pqrst")})) for way in WAYS])
"""


def test_every_process_says_the_same() -> None:
    def told(seed: str) -> str:
        given = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])}
        return subprocess.run(
            [sys.executable, "-c", IN_A_PROCESS], env=given, check=True, capture_output=True, text=True
        ).stdout

    assert told("1") == told("2") != ""
