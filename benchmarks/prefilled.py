"""What every agent method has prefilled, beside what no system could do without: a count, the same under any load.

Not counted are those that write programs: how long these are would decide it, and no demonstration here says one; and
those whose tools (a game, scorers) no search adapter has.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.ladder import Dubbed, unique_tokens
from benchmarks.models import GREEDY, random_model
from benchmarks.words import demonstrated
from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import opens_block
from rest_jax.agents.registry import NAMES, AnyMethod, Method, agent
from rest_jax.config.settings import AgentSettings, EngineSettings
from rest_jax.core.effects import Role, Status
from rest_jax.recipes.workbench import beginnings
from rest_jax.rollout.episode import Job
from rest_jax.rollout.oracle import WithOracle
from rest_jax.rollout.runner import rollout
from rest_jax.sampling.engine import Engine
from rest_jax.tasks.task import Task
from rest_jax.tools.client import ToolClient

OWN = 1024
"""Cached tokens of a row beside the worked examples: what the longest transcript of all methods takes."""
TURN_TOKENS = 8
"""Of a reply; what is said is the script's, so they decide nothing that is counted here."""
TOOLS = frozenset({"search", "lookup"})
"""What this adapter has."""
CANDIDATES = 4
"""Of each step, of methods that choose."""
COLUMNS = {
    "method": "method",
    "system": "system",
    "trajectories": "trajectories",
    "finished": "finished",
    "calls": "calls",
    "prefilled": "prefilled",
    "unique": "unique",
    "prefill ×": "prefill_amplification",
}


def by_method(
    trajectories: int, turns: int, base: EngineSettings, tools: ToolClient, atlas: Task
) -> list[dict[str, Any]]:
    """A row on S3 and on S4 for every method that is counted, each trajectory a question of its own."""
    return [
        _row(method, system, shares, trajectories, turns, base, tools, atlas)
        for method in counted()
        for system, shares in (("S3", False), ("S4", True))
    ]


def counted() -> list[AnyMethod]:
    """The methods that come with the package, but for those that write programs or need other tools."""
    methods = [method for method in map(agent, NAMES) if TOOLS.issuperset(method.tools)]
    return [method for method in methods if not (isinstance(method, Method) and opens_block(method.cue))]


def _row(
    method: AnyMethod,
    system: str,
    shares: bool,
    trajectories: int,
    turns: int,
    base: EngineSettings,
    tools: ToolClient,
    atlas: Task,
) -> dict[str, Any]:
    gold = atlas.sources["gold"][:trajectories]
    model = random_model("tiny")
    prompt = method.prompt_for(AgentSettings(name=method.name, shots=2), () if method.own_shots else atlas.shots(2))
    shown = beginnings(prompt, model.codec)
    longest, room = max(map(len, shown)), sum(map(len, shown))
    width = OWN if shares else OWN + -(-longest // base.chunk) * base.chunk
    engine = Engine(model, replace(base, widths=(width,), shared=room if shares else 0))
    engine.share(shown)
    candidates = CANDIDATES if method.candidates else 1
    limits = Limits(turns, TURN_TOKENS, AgentSettings().observation_chars, candidates)
    jobs = [Job(one.question, 0, 0, 0, atlas.name, "train", method.name) for one in gold]
    made = list(
        rollout(
            jobs,
            lambda job: method.run(job.question.blind, prompt, limits),
            dict.fromkeys(Role, Dubbed(engine, demonstrated(method, prompt, gold, turns))),
            WithOracle(tools, jobs, atlas.score) if method.oracle else tools,
            sampling=GREEDY,
        )
    )
    calls = [one.calls for one in made]
    unique = unique_tokens(calls)
    return {
        "method": method.name,
        "system": system,
        "trajectories": len(made),
        "finished": sum(one.status is Status.FINISHED for one in made),
        "calls": sum(map(len, calls)),
        "prefilled": engine.stats.prefilled,
        "unique": unique,
        "prefill_amplification": engine.stats.prefilled / unique,
    }
