"""Tasks by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from rest_jax.config.settings import TaskSettings
from rest_jax.core.cache import cache_folder
from rest_jax.core.errors import UserError
from rest_jax.tasks.arithmetic import arithmetic
from rest_jax.tasks.atlas import atlas
from rest_jax.tasks.bamboogle import bamboogle, bamtwoogle
from rest_jax.tasks.commongen_hard import commongen_hard
from rest_jax.tasks.eli5 import eli5
from rest_jax.tasks.fever import fever
from rest_jax.tasks.games import SIZES as GAMES
from rest_jax.tasks.games import games
from rest_jax.tasks.gsm8k import gsm8k
from rest_jax.tasks.hotpotqa import hotpotqa
from rest_jax.tasks.hotpotqa_500 import hotpotqa_500
from rest_jax.tasks.hotpotqa_given import hotpotqa_given
from rest_jax.tasks.humaneval import humaneval
from rest_jax.tasks.imported import with_imported
from rest_jax.tasks.leaks import refuse_learnt
from rest_jax.tasks.mathematics import mathematics
from rest_jax.tasks.mbpp import mbpp
from rest_jax.tasks.musique import musique
from rest_jax.tasks.nq_open import nq_open
from rest_jax.tasks.realtoxicityprompts import realtoxicityprompts
from rest_jax.tasks.rewards import register_reward
from rest_jax.tasks.strategyqa import strategyqa
from rest_jax.tasks.svamp import svamp
from rest_jax.tasks.task import Task

__all__ = ["NAMES", "register_reward", "task"]

NAMES = {
    "atlas": "a fictional world to search, made from a seed: needs no data",
    "arithmetic": "word problems of one and two sums, made from a seed: needs no data",
    "hotpotqa": "HotpotQA from local files over 13k pooled paragraphs: needs --data",
    "hotpotqa_500": "ReAct's 500 development questions of HotpotQA, over that set's pooled paragraphs",
    "hotpotqa_given": "HotpotQA, its gold passages in the question: needs --data",
    "fever": "FEVER's claims: SUPPORTS, REFUTES or NOT ENOUGH INFO",
    "bamboogle": "Bamboogle, 125 two-hop questions: needs --data",
    "bamtwoogle": "BamTwoogle, 100 questions of two and more hops: needs --data",
    "strategyqa": "StrategyQA: yes or no, by a strategy that is not spelled out",
    "musique": "MuSiQue, 100 questions of 2 to 4 hops over their own paragraphs",
    "nq_open": "NQ-open's development questions, each with all of its gold answers",
    "eli5": "ELI5's questions, which have no gold answers: needs --data",
    "gsm8k": "GSM8K's word problems, whose answers are numbers",
    "svamp": "SVAMP, 1,000 varied word problems: needs --data",
    "math": "MATH's competition problems: MATH-500, and the rest of the test set to learn from",
    "humaneval": "HumanEval, 164 functions to write, run against tests in a sandbox: needs --data",
    "mbpp": "MBPP, 974 small programs, run against tests in a sandbox: needs --data",
    "commongen_hard": "CommonGen-Hard, texts with 20 to 30 given words, by coverage: needs --data",
    "realtoxicityprompts": "RealToxicityPrompts, to be continued without insult: needs --data and the extra `toxicity`",
    "textworld": "text games made from seeds, to be won: needs tools.config and the extra `textworld`",
    "alfworld": "ALFWorld's 134 unseen games, to be won: needs tools.config and the extra `alfworld`",
}
"""Every task's name, with a line about it."""

OF_FILES: Mapping[str, Callable[[Path | None, Path], Task]] = {
    "hotpotqa": hotpotqa,
    "hotpotqa_500": hotpotqa_500,
    "hotpotqa_given": hotpotqa_given,
    "fever": fever,
    "bamboogle": bamboogle,
    "bamtwoogle": bamtwoogle,
    "strategyqa": strategyqa,
    "musique": musique,
    "nq_open": nq_open,
    "eli5": eli5,
    "gsm8k": gsm8k,
    "svamp": svamp,
    "math": mathematics,
    "humaneval": humaneval,
    "mbpp": mbpp,
    "commongen_hard": commongen_hard,
    "realtoxicityprompts": realtoxicityprompts,
}
"""Those that are read from files: from a folder of data, and where to prepare them."""


def task(settings: TaskSettings, folder: Path | None = None) -> Task:
    """The task of these settings. What it generates or prepares goes to `folder`, else to the cache; without `data`,
    tasks of published files download them by checksum.

    Which reward they name is for `Task.reward` to find: who only asks or reports needs none. Raises UserError for an
    unknown name, a seed where nothing is generated, data that is missing or malformed, or train questions that give
    away held-out ones.
    """
    name, folder = settings.name, folder or cache_folder() / "tasks"
    if name == "atlas":
        made = atlas(folder) if settings.seed is None else atlas(folder, settings.seed)
    elif name == "arithmetic":
        made = arithmetic() if settings.seed is None else arithmetic(settings.seed)
    elif name in GAMES:
        made = games(name)
    elif name not in OF_FILES:
        raise UserError(f"task '{name}': there is none of this name; use one of {', '.join(NAMES)}")
    elif settings.seed is not None:
        raise UserError(f"task '{name}': its files are its world; leave out task.seed (--task-seed)")
    else:
        made = OF_FILES[name](None if settings.data is None else Path(settings.data), folder)
    refuse_learnt(made)
    return made if settings.demonstrations is None else with_imported(made, Path(settings.demonstrations))
