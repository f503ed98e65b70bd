"""Presets: the papers' rules as values of settings that exist anyway, laid under what a file says itself.

`preset: NAME` stands beside `extends`: a file's own settings win over its preset, and the preset over the file that is
extended. Of a list of generations each gets the preset's entry of its place, or its last one.
"""

from __future__ import annotations

from pathlib import Path

from yaml.nodes import MappingNode, Node, SequenceNode

FOLDER = Path(__file__).parent / "presets"
GENERATIONS = "generations"


def presets() -> list[str]:
    """The names of all presets."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def laid_over(own: MappingNode, base: MappingNode) -> MappingNode:
    """One file's settings over another's: mappings are merged deep, lists and scalars replaced whole."""
    mine = {key.value: (key, value) for key, value in own.value}
    pairs = []
    for key, value in base.value:
        if key.value not in mine:
            pairs.append((key, value))
            continue
        my_key, my_value = mine.pop(key.value)
        both = isinstance(value, MappingNode) and isinstance(my_value, MappingNode)
        pairs.append((my_key, laid_over(my_value, value) if both else my_value))
    return MappingNode(own.tag, [*pairs, *mine.values()], own.start_mark, own.end_mark)


def laid_over_preset(own: MappingNode, preset: MappingNode, base: MappingNode) -> MappingNode:
    """A file's own settings over its preset, over the file that it extends (empty: none)."""
    rules = _generations(preset)
    written = _generations(own) or _generations(base)
    merged = laid_over(own, laid_over(preset, base))
    if rules is None or written is None:
        return merged
    ruled = [rules.value[min(place, len(rules.value) - 1)] for place in range(len(written.value))]
    over = _generations(own) is not None
    pairs = zip(written.value, ruled, strict=True)
    entries = [_entry(entry, rule) if over else _entry(rule, entry) for entry, rule in pairs]
    listed = SequenceNode(written.tag, entries, written.start_mark, written.end_mark)
    settings = [(key, listed if key.value == GENERATIONS else value) for key, value in merged.value]
    return MappingNode(merged.tag, settings, merged.start_mark, merged.end_mark)


def _entry(own: Node, base: Node) -> Node:
    if isinstance(own, MappingNode) and isinstance(base, MappingNode):
        return laid_over(own, base)
    return own


def _generations(top: MappingNode) -> SequenceNode | None:
    found = next((value for key, value in top.value if key.value == GENERATIONS), None)
    return found if isinstance(found, SequenceNode) else None
