"""A household game of our own in the form of ALFWorld's: a kitchen of four places, three things, and a cup to wash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DOMAIN = """
(define (domain kitchen)
  (:requirements :adl :typing)
  (:types person spot holder thing)
  (:predicates
    (isat ?p - person ?s - spot) (stands ?h - holder ?s - spot) (noticed ?p - person)
    (lidded ?h - holder) (ajar ?h - holder) (wet ?h - holder) (drawer ?h - holder)
    (lies ?t - thing ?h - holder) (cup ?t - thing) (washed ?t - thing)
    (carries ?p - person ?t - thing) (laden ?p - person))
  (:action look :parameters (?p - person) :precondition () :effect (noticed ?p))
  (:action walk :parameters (?p - person ?from - spot ?to - spot ?h - holder)
    :precondition (and (isat ?p ?from) (stands ?h ?to))
    :effect (and (not (isat ?p ?from)) (isat ?p ?to)))
  (:action pull :parameters (?p - person ?s - spot ?h - holder)
    :precondition (and (isat ?p ?s) (stands ?h ?s) (lidded ?h) (not (ajar ?h)))
    :effect (ajar ?h))
  (:action take :parameters (?p - person ?s - spot ?h - holder ?t - thing)
    :precondition (and (isat ?p ?s) (stands ?h ?s) (lies ?t ?h) (not (laden ?p)) (or (not (lidded ?h)) (ajar ?h)))
    :effect (and (not (lies ?t ?h)) (carries ?p ?t) (laden ?p)))
  (:action put :parameters (?p - person ?s - spot ?h - holder ?t - thing)
    :precondition (and (isat ?p ?s) (stands ?h ?s) (carries ?p ?t) (or (not (lidded ?h)) (ajar ?h)))
    :effect (and (lies ?t ?h) (not (carries ?p ?t)) (not (laden ?p))))
  (:action wash :parameters (?p - person ?s - spot ?h - holder ?t - thing)
    :precondition (and (isat ?p ?s) (stands ?h ?s) (wet ?h) (carries ?p ?t))
    :effect (washed ?t)))
"""

CUPS = ("Cup_bar__minus_01_dot_00_bar__plus_00_dot_90", "Cup_bar__plus_01_dot_20_bar__plus_00_dot_90")
SPOON = "Spoon_bar__plus_00_dot_40_bar__plus_00_dot_90"
DRAWERS = ("Drawer_bar__minus_02_dot_00_bar__plus_00_dot_50", "Drawer_bar__plus_02_dot_00_bar__plus_00_dot_50")
SINK = "Sink_bar__plus_00_dot_10_bar__plus_01_dot_00_bar_SinkBasin"
TABLE = "Table_bar__plus_01_dot_00_bar__plus_00_dot_80"

PROBLEM = f"""
(define (problem wash) (:domain kitchen)
  (:objects me - person  middle left right front back - spot
    {CUPS[0]} {CUPS[1]} {SPOON} - thing  {DRAWERS[0]} {DRAWERS[1]} {SINK} {TABLE} - holder)
  (:init (isat me middle) (stands {DRAWERS[0]} left) (stands {DRAWERS[1]} right) (stands {SINK} front)
    (stands {TABLE} back) (lidded {DRAWERS[0]}) (lidded {DRAWERS[1]}) (drawer {DRAWERS[0]}) (drawer {DRAWERS[1]})
    (wet {SINK}) (cup {CUPS[0]}) (cup {CUPS[1]}) (lies {CUPS[0]} {TABLE}) (lies {CUPS[1]} {TABLE})
    (lies {SPOON} {DRAWERS[0]}))
  (:goal (exists (?t - thing ?h - holder) (and (cup ?t) (washed ?t) (drawer ?h) (lies ?t ?h)))))
"""

TASK = "Your task is to: put a washed cup in a drawer."
SAID = {
    "intro": ["-= A kitchen =-\n\nAround you there are [{#one(h)# | stands(h:holder, s:spot)}].\n\n#task#"],
    "task": [TASK],
    "one(h)": ["{h.indefinite} {h.name}"],
    "one(t)": ["{t.indefinite} {t.name}"],
    "within": [
        ("ajar(h:holder)", "#content#"),
        ("lidded(h:holder)", "It is shut."),
        "#content#",
    ],
    "content": ["There you find [{#one(t)# | lies(t:thing, h:holder)}]."],
    "list_empty": ["nothing"],
    "list_separator": [", "],
    "list_last_separator": [", and "],
}
ACTIONS = {
    "look": ("look", "You look around."),
    "walk": ("go to {h}", "You stand before the {h.name}. #within#"),
    "pull": ("open {h}", "You open the {h.name}. #within#"),
    "take": ("take {t} from {h}", "Now you have the {t.name}."),
    "put": ("put {t} in {h}", "The {t.name} lies in the {h.name}."),
    "wash": ("wash {t} in {h}", "You wash the {t.name}."),
}

WALKTHROUGH = (
    "go to table 1",
    "take cup 2 from table 1",
    "go to sinkbasin 1",
    "wash cup 2 in sinkbasin 1",
    "go to drawer 1",
    "open drawer 1",
    "put cup 2 in drawer 1",
)


def grammar() -> str:
    said = {name: [_rule(rule) for rule in rules] for name, rules in SAID.items()}
    said |= {f"{name}.told": [{"rhs": told}] for name, (_, told) in ACTIONS.items()}
    actions = "".join(
        f'action {name} {{\n  template :: "{template}";\n  feedback :: "#{name}.told#";\n}}\n'
        for name, (template, _) in ACTIONS.items()
    )
    return f'grammar :: """\n{json.dumps(said, indent=1)}\n""";\n{actions}'


def _rule(rule: str | tuple[str, str]) -> Mapping[str, str]:
    return {"rhs": rule} if isinstance(rule, str) else {"condition": rule[0], "rhs": rule[1]}


def write_game(split: Path, task: str, **changes: Any) -> Path:
    """The game's file, in the split's folder TASK/trial_0."""
    path = split / task / "trial_0" / "game.tw-pddl"
    path.parent.mkdir(parents=True)
    game = {"pddl_domain": DOMAIN, "pddl_problem": PROBLEM, "grammar": grammar(), "solvable": True}
    path.write_text(json.dumps(game | changes))
    return path
