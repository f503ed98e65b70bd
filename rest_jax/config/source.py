"""A configuration file as a YAML node tree: every node remembers its file, line and column, also across `extends`."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from rest_jax.config.presets import FOLDER, laid_over, laid_over_preset, presets
from rest_jax.core.errors import UserError

EXTENDS = "extends"
PRESET = "preset"
STANDARD_TAG = "tag:yaml.org,2002:"
KNOWN_TAGS = {
    STANDARD_TAG + name for name in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge", "value")
}


class Misfit(Exception):
    """A node that the settings cannot take; whoever knows where the node stands turns it into a `UserError`."""

    def __init__(self, node: Node, message: str) -> None:
        super().__init__(message)
        self.node = node


def place(node: Node) -> str:
    """`file:line:column` of a node, counted from 1."""
    mark = node.start_mark
    return f"{mark.name}:{mark.line + 1}:{mark.column + 1}"


def nearest(node: Node, path: Iterable[str]) -> Node:
    """The node at a path of keys and list places, or the last one on the way to it that was written."""
    for part in path:
        match node:
            case MappingNode():
                inside = next((value for key, value in node.value if key.value == part), None)
            case SequenceNode():
                inside = node.value[int(part)] if int(part) < len(node.value) else None
            case _:
                inside = None
        if inside is None:
            return node
        node = inside
    return node


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?`, or the whole list when nothing is near."""
    names = list(known)
    near = get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names)}"


def compose(text: str, name: str) -> Node | None:
    """The node tree of one YAML document, or None when it is empty. Nothing is constructed, so no tag can run code.

    Raises yaml.YAMLError for text that is no YAML, `Misfit` for duplicate keys, foreign tags and circular anchors.
    """
    loader = yaml.SafeLoader(text)
    loader.name = name  # what the marks of its nodes say
    try:
        node = loader.get_single_node()
    finally:
        loader.dispose()
    if node is not None:
        _check(node, above=(), checked=set())
    return node


def read(path: Path) -> MappingNode:
    """The mapping at the top of a file, laid over its `preset` and the file that it `extends`, if any (a path relative
    to itself).

    Mappings are merged deep; lists and scalars are replaced whole, but for generations (`presets`). Raises `UserError`
    for a file that cannot be read, is no YAML, or extends itself.
    """
    return _read(path, extended_by=())


def _read(path: Path, extended_by: tuple[Path, ...]) -> MappingNode:
    top = _parse(path)
    own = MappingNode(
        top.tag, [pair for pair in top.value if pair[0].value not in (EXTENDS, PRESET)], top.start_mark, top.end_mark
    )
    base, preset = _value(top, EXTENDS), _value(top, PRESET)
    below = _empty(path) if base is None else _read(_base_path(path, base, extended_by), (*extended_by, path))
    return laid_over(own, below) if preset is None else laid_over_preset(own, _preset(preset), below)


def _value(top: MappingNode, key: str) -> Node | None:
    return next((value for written, value in top.value if written.value == key), None)


def _base_path(path: Path, base: Node, extended_by: tuple[Path, ...]) -> Path:
    if not isinstance(base, ScalarNode):
        raise UserError(f"{place(base)}: {EXTENDS}: expected the path of one file, such as {EXTENDS}: base.yaml")
    base_path = path.parent / base.value
    chain = (*extended_by, path)
    if base_path.resolve() in [link.resolve() for link in chain]:
        circle = " → ".join(str(link) for link in (*chain, base_path))
        raise UserError(f"{place(base)}: {EXTENDS} goes in a circle: {circle}; remove one of them")
    if not base_path.is_file():
        raise UserError(f"{place(base)}: {EXTENDS}: there is no file {base_path}{_neighbour(base_path)}")
    return base_path


def _preset(name: Node) -> MappingNode:
    known = presets()
    if not isinstance(name, ScalarNode) or name.value not in known:
        written = name.value if isinstance(name, ScalarNode) else ""
        raise UserError(f"{place(name)}: {PRESET}: there is no preset '{written}'; {did_you_mean(written, known)}")
    return _parse(FOLDER / f"{name.value}.yaml")


def _empty(path: Path) -> MappingNode:
    start = yaml.Mark(str(path), 0, 0, 0, "", 0)
    return MappingNode(STANDARD_TAG + "map", [], start, start)


def _parse(path: Path) -> MappingNode:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file{_neighbour(path)}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a readable YAML file") from None
    try:
        top = compose(text, str(path))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise UserError(f"{where}: not YAML: {error.problem}; check indentation, quotes and brackets there") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {str(error).splitlines()[0]}; remove that character") from None
    except Misfit as misfit:
        raise UserError(f"{place(misfit.node)}: {misfit}") from None
    if top is None:
        return _empty(path)
    if not isinstance(top, MappingNode):
        raise UserError(f"{place(top)}: expected settings, each as `key: value` on a line of its own")
    return top


def _neighbour(path: Path) -> str:
    names = [entry.name for entry in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    near = get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.parent / near[0]}?" if near else "; check the path"


def _check(node: Node, above: tuple[Node, ...], checked: set[int]) -> None:
    if any(node is ancestor for ancestor in above):
        raise Misfit(node, "an anchor (&) that contains itself; write the part out")
    if id(node) in checked:
        return
    checked.add(id(node))
    if node.tag not in KNOWN_TAGS:
        raise Misfit(node, f"the tag {node.tag} is not allowed; write a plain value")
    inside = (*above, node)
    if isinstance(node, SequenceNode):
        for item in node.value:
            _check(item, inside, checked)
    elif isinstance(node, MappingNode):
        seen: dict[str, Node] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise Misfit(key, "a key must be a plain word")
            if key.value in seen:
                first = seen[key.value].start_mark.line + 1
                raise Misfit(key, f"key '{key.value}' stands here and on line {first}; remove one of them")
            seen[key.value] = key
            _check(value, inside, checked)
