"""The licences of the data that tasks are made of: what is exported of their trajectories carries them along.

Questions and passages stand in a trajectory word for word. Sources: each data set's own page ([tasks.md] names them).
"""

from __future__ import annotations

from collections.abc import Iterable

LICENCES = {
    "atlas": "Apache-2.0 (fictional, made by rest_jax)",
    "hotpotqa": "CC-BY-SA-4.0 (HotpotQA, Yang et al. 2018; passages of Wikipedia)",
    "hotpotqa_500": "CC-BY-SA-4.0 (HotpotQA, Yang et al. 2018; passages of Wikipedia)",
    "hotpotqa_given": "CC-BY-SA-4.0 (HotpotQA, Yang et al. 2018; passages of Wikipedia)",
    "fever": "CC-BY-SA-3.0 (FEVER, Thorne et al. 2018)",
    "bamboogle": "MIT (Bamboogle, Press et al. 2023)",
    "bamtwoogle": "CC-BY-4.0 (BamTwoogle, Aksitov et al. 2023)",
    "strategyqa": "MIT (StrategyQA, Geva et al. 2021)",
    "musique": "CC-BY-4.0 (MuSiQue, Trivedi et al. 2022)",
    "nq_open": "CC-BY-SA-3.0 (NQ-open, Lee et al. 2019)",
    "gsm8k": "MIT (GSM8K, Cobbe et al. 2021)",
    "svamp": "MIT (SVAMP, Patel et al. 2021)",
    "math": "MIT (MATH, Hendrycks et al. 2021)",
    "humaneval": "MIT (HumanEval, Chen et al. 2021)",
    "mbpp": "CC-BY-4.0 (MBPP, Austin et al. 2021)",
    "commongen_hard": "Apache-2.0 (CommonGen-Hard, Madaan et al. 2023)",
    "realtoxicityprompts": "Apache-2.0 (RealToxicityPrompts, Gehman et al. 2020)",
    "textworld": "MIT (games made by TextWorld, Côté et al. 2018)",
    "alfworld": "MIT (ALFWorld, Shridhar et al. 2021)",
}
"""By task; those that name none are not here."""


def licence(task: str) -> str:
    """The licence of a task's data; a word to the reader where none is known."""
    return LICENCES.get(task, f"unknown (task '{task}'): ask whoever made its files")


def licence_line(licences: Iterable[str]) -> str:
    """What a person is told of several: `LICENSES: …; …`."""
    return f"LICENSES: {'; '.join(sorted(set(licences)))}"
