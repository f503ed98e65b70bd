"""What agents take of a model's tokens: counts, not speed.

    python -m benchmarks.agent_tokens [--model NAME] [--demonstrations N]

Atlas's first gold demonstrations, one passage a search, bare, are replayed through the agents themselves, without model
and tools; and what the search agent's prompts begin with is counted: class definitions and worked examples.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from statistics import mean

from rest_jax.agents.registry import agent
from rest_jax.config.settings import AgentSettings, TaskSettings
from rest_jax.core.policy import TextCodec
from rest_jax.models import catalog, tokenizer
from rest_jax.recipes.rehearsal import rehearsed
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.task import Task

AGENTS = ("react", "search_agent")
SHOTS = (0, 1, 2, 9)


def trajectories(task: Task, codec: TextCodec, name: str, demonstrations: int) -> dict[str, float]:
    """Tokens of an agent's trajectories and calls."""
    played = rehearsed(task, codec, AgentSettings(name), demonstrations)
    prompts = [[sum(len(segment.ids or ()) for segment in call.segments) for call in one.calls] for one in played]
    replies = [[len(call.candidates[call.chosen].ids) for call in one.calls] for one in played]
    return {
        "sampled, mean": mean(map(sum, replies)),
        "prompted, mean": mean(map(sum, prompts)),
        "longest prompt": max(map(max, prompts)),
        "longest reply": max(map(max, replies)),
    }


def beginnings(codec: TextCodec, shots: int) -> list[int]:
    """Tokens with which the prompts of the search agent's steps begin, ascending, whatever is asked."""
    prompt = agent("search_agent").prompt_for(AgentSettings("search_agent", shots=shots))
    return sorted(sum(len(codec.encode_trusted(part.text)) for part in begun) for begun in prompt.beginnings)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agent_tokens", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct-q4_1", help="whose tokenizer counts")
    parser.add_argument("--demonstrations", type=int, default=100)
    options = parser.parse_args(arguments)
    codec, atlas = tokenizer.load(catalog.resolve(options.model)), open_task(TaskSettings("atlas"))
    for name in AGENTS:
        counted = trajectories(atlas, codec, name, options.demonstrations)
        print(f"{name:14}", ", ".join(f"{what} {tokens:.0f}" for what, tokens in counted.items()))
    for shots in SHOTS:
        least, *_, most = beginnings(codec, shots)
        print(f"at most {shots} worked examples: prompts begin with {least} to {most} tokens")
    return 0


if __name__ == "__main__":
    sys.exit(main())
