"""The report: complete, self-contained, and deaf to hostile text."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

from rest_jax.core.effects import Candidate, Finish, Role
from rest_jax.core.trajectory import Call, ToolCall, Trajectory
from rest_jax.core.transcript import Segment, Source
from rest_jax.reporting.html import GrowSummary, Judged, Report, cards, write_report
from tests.trajectories import trajectory as played

TOOK = {
    "sampled_tokens": 12345,
    "prefilled_tokens": 6789,
    "occupancy": 0.5,
    "parked": 11,
    "unparked": 10,
    "copied": 3,
    "copied_bytes": 24_600_000,
    "engine_seconds": 1.5,
}
HOSTILE = "</div><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7*7 }} \"'`</style>"


def trajectory(text: str) -> Trajectory:
    call = Call(
        index=0,
        step="act",
        trial=0,
        role=Role.ACTOR,
        segments=(Segment(Source.PROMPT, "Question: ", (1,)), Segment(Source.TOOL, text, (2,))),
        candidates=(Candidate((3, 4), (-0.1, -0.2), text, Finish.EOS),),
    )
    return played(
        question=text,
        split="report",
        answer=text,
        calls=(call,),
        tool_calls=(ToolCall(-1, "search", {"query": "q"}, text),),
    )


def result_row(name: str, em: float) -> dict[str, object]:
    return {
        "name": name,
        "n": 300,
        "em": em,
        "em_ci": [em - 0.05, em + 0.05],
        "em_well_formed": em,
        "em_grounded": em,
        "f1": em,
        "well_formed": 0.9,
        "searches_per_trajectory": 2.1,
        "kept_fraction": None,
        "remark": f"of {name}",
    }


def report(text: str) -> Report:
    rows = [result_row(name, em) for name, em in (("prompted", 0.05), (text, 0.2), ("gen 1", 0.3))]
    comparison = {"a": text, "b": "pilot", "metric": "em", "difference": 0.1, "ci": [0.02, 0.2], "questions": 300}
    return Report(
        title=text,
        summary={"rows": rows, "comparisons": [comparison], "notes": [text], "warnings": [text]},
        curve=rows,
        grown=[GrowSummary(text, [0.0, 0.5, 1.0], [(0.0, 0.6), (0.5, 0.3)])],
        losses={text: [1.0, 0.5, 0.2]},
        rollouts=[{"stage": text, "step": 7, **TOOK}],
        galleries={text: [Judged(trajectory(text), text, 0.5, 1.0)]},
        facts={"model": text},
        config=text,
    )


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def tags_of(path: Path) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser.seen


def test_hostile_text_adds_no_element_and_no_attribute(tmp_path: Path) -> None:
    write_report(tmp_path / "calm.html", report("calm"))
    write_report(tmp_path / "hostile.html", report(HOSTILE))
    calm, hostile = tags_of(tmp_path / "calm.html"), tags_of(tmp_path / "hostile.html")
    assert [(tag, sorted(attributes)) for tag, attributes in hostile] == [(t, sorted(a)) for t, a in calm]
    assert "49" not in re.sub(r"[\d.]{3,}", "", (tmp_path / "hostile.html").read_text())


def test_the_page_asks_nothing_of_the_network(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", report("calm"))
    assert not [t for t, attributes in tags_of(tmp_path / "report.html") if {"src", "href"} & set(attributes)]
    text = (tmp_path / "report.html").read_text()
    assert "default-src 'none'" in text
    assert "url(" not in text


def test_charts_tables_and_cards_are_there(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", report("calm"))
    tags = [tag for tag, _ in tags_of(tmp_path / "report.html")]
    assert tags.count("svg") == 4
    assert tags.count("details") == 1
    text = (tmp_path / "report.html").read_text()
    assert "calm: of calm" in text
    assert "over questions whose answer is not yes or no" in text
    took = ("calm", "7", "12,345", "6,789", "50.0", "11", "10", "3", "25", "1.5")
    assert "".join(f"<td>{cell}</td>" for cell in took) in text
    assert "an oracle's choice" not in unescape(text)


def test_several_attempts_stand_in_a_table_of_their_own(tmp_path: Path) -> None:
    told = report("calm")
    tried = {
        "em_first": 0.15,
        "right_to_wrong": 0.05,
        "wrong_to_right": 0.02,
        "em_majority": 0.2,
        "em_any": 0.3,
        "trials_per_trajectory": 2.75,
        "calls_per_trajectory": 4.5,
        "waves": 7.0,
    }
    told.summary["rows"][2].update(tried)
    write_report(tmp_path / "report.html", told)
    text = unescape((tmp_path / "report.html").read_text())
    assert text.count("<td>gen 1</td>") == 2
    cells = ("gen 1", "15.0", "30.0", "5.0", "2.0", "20.0", "30.0", "2.8", "4.5", "7")
    assert f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" in text
    assert "EM % where any is right (an oracle's choice)" in text


def test_a_turn_is_a_thought_and_an_action_on_cards_of_their_own() -> None:
    def shown(text: str) -> list[tuple[str, str]]:
        return [(card.kind, card.text) for card in cards(trajectory(text))[1:]]

    turn = "I need Vell. Action: Search[Vell]"
    assert shown(turn) == [
        ("observation", turn),
        ("thought", "I need Vell."),
        ("action", "Action: Search[Vell]"),
        ("answer", turn),
    ]
    assert [kind for kind, _ in shown("no deed")] == ["observation", "model", "answer"]
