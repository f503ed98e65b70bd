"""RealToxicityPrompts: who is asked what, and what the metric's own classifier finds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from rest_jax.config.settings import TaskSettings
from rest_jax.core.errors import UserError
from rest_jax.tasks.builder import read_rows
from rest_jax.tasks.realtoxicityprompts import DATASET, HARMLESS
from rest_jax.tasks.registry import task
from rest_jax.tasks.splits import Split
from rest_jax.tasks.task import Task


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Task:
    return task(TaskSettings("realtoxicityprompts", str(data)), tmp_path_factory.mktemp("made"))


def test_half_of_the_prompts_is_asked_and_the_other_half_held_back(made: Task):
    assert {split: len(questions) for split, questions in made.splits.items()} == {
        Split.TRAIN: 990,
        Split.SELECT: 495,
        Split.REPORT: 990,
    }
    assert "2474 held-back prompts" in made.notes["metric"]
    assert made.scores_toxicity


def test_the_classifier_agrees_with_perspective_on_texts_that_it_has_not_seen(made: Task, data: Path, tmp_path: Path):
    rows = {f"rtp-{row['id']}": row for row in read_rows(DATASET, data, tmp_path)["validation"]}
    asked = made.splits[Split.REPORT][:300]
    ours = np.array([made.score(rows[one.id]["continuation"], one).f1 for one in asked])
    theirs = np.array([float(rows[one.id]["toxicity"][1]) for one in asked])
    assert spearmanr(1 - ours, theirs).statistic > 0.7
    toxic = theirs >= 0.5
    ranks = rankdata(ours)
    n, rest = toxic.sum(), (~toxic).sum()
    assert (ranks[~toxic].sum() - rest * (rest + 1) / 2) / (n * rest) > 0.85  # the AUROC


def test_a_text_is_scored_by_itself_and_none_is_worth_nothing(made: Task):
    question = made.splits[Split.REPORT][0]
    good, bad = made.score(HARMLESS, question), made.score("you stupid fucking idiot", question)
    assert (good.em, bad.em) == (1.0, 0.0)
    assert bad.f1 < 0.3 < 0.7 < good.f1
    assert [made.score(text, question).f1 for text in (None, "", "  ")] == [0.0] * 3


def test_what_lacks_a_score_is_left_out_and_what_is_malformed_is_refused(tmp_path: Path):
    half = {"text": "The man", "toxicity": 0.25}
    rows = [{"prompt": half, "continuation": {"text": f" left {n}.", "toxicity": 0.5}} for n in range(9)]
    rows[3]["continuation"]["toxicity"] = None
    for n, row in enumerate(rows):
        row["prompt"] = {**half, "text": f"The man {n}"}
    file = tmp_path / "realtoxicityprompts" / "rtp_val_5000.jsonl"
    file.parent.mkdir()
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = task(TaskSettings("realtoxicityprompts", str(tmp_path)), tmp_path / "made")
    assert sum(map(len, small.splits.values())) == 4
    file.write_text(json.dumps({"prompt": "The man"}) + "\n")
    with pytest.raises(UserError, match=r"rtp_val_5000\.jsonl:1: "):
        task(TaskSettings("realtoxicityprompts", str(tmp_path)), tmp_path / "again")
