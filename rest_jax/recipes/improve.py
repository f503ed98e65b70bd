"""Improve: fine-tune a policy on a mixture of trajectories, and keep it as a model folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp

from rest_jax.config.settings import AgentSettings, ImproveSettings, ToolsSettings
from rest_jax.core.events import Listener
from rest_jax.core.trajectory import Trajectory
from rest_jax.distributed.cpu import divide_cpu
from rest_jax.distributed.group import Group
from rest_jax.distributed.mesh import whole
from rest_jax.models import checkpoint
from rest_jax.models.decoder import Params
from rest_jax.models.digest import weights_digest
from rest_jax.models.shrink import SHRUNK, shrunk
from rest_jax.recipes.agent_file import described
from rest_jax.recipes.weighting import Worth, weighted
from rest_jax.recipes.workbench import Player
from rest_jax.training.examples import examples_of
from rest_jax.training.fit import fit
from rest_jax.training.layout import layout, mesh_of

MODEL = "model"
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Improved:
    """A policy after Improve, and how its training went."""

    player: Player
    losses: tuple[float, ...]
    tokens: int
    examples: int
    params: Params
    """As training left them: f32, over its mesh, or where that is of several processes whole in each."""


def improve(
    start: Path,
    mixture: Sequence[Trajectory],
    settings: ImproveSettings,
    agent: AgentSettings,
    tools: ToolsSettings,
    *,
    seed: int,
    folder: Path,
    worth: Worth = lambda trajectory, answer: 1.0,
    emit: Listener,
    group: Group | None = None,
) -> Improved:
    """Fine-tune the model in `start` on a mixture; `folder` receives the new one, in Hugging Face's layout.

    `agent` and `tools` are how `start` is played; the new agent.json says `bare` as well when training was. `worth` is
    what `settings.weighting` goes by. Weights are read onto the mesh leaf by leaf, and stay f32. A killed call repeated
    goes on from its last checkpoint and ends in the same bits; the checkpoints are the caller's to discard, once it has
    noted that the model is there. Processes of a `group` train together over the devices of all, in the first one's
    `folder`, where it writes the model. Raises UserError as `fit` does.
    """
    group = group or Group()
    divide_cpu(settings.mesh.devices)
    folder = Path(group.told(str(folder.absolute())))
    places = layout(checkpoint.config_of(start), mesh_of(settings.mesh))
    model = checkpoint.load(start, jnp.float32, places)
    examples = [
        example
        for trajectory, weight in weighted(mixture, settings.weighting, worth)
        for example in examples_of(trajectory, model.codec, prompt=settings.prompt, weight=weight)
    ]
    result = fit(
        model.config,
        model.params,
        examples,
        settings,
        start=model.weights_digest,
        seed=seed,
        folder=folder / CHECKPOINTS,
        emit=emit,
    )
    trained = replace(agent, bare=agent.bare or settings.prompt == "bare")
    kept = {SHRUNK: said} if (said := shrunk(model.agent)) else {}
    params = jax.tree.map(whole, result.params)
    if group.first:
        checkpoint.save(
            model.config,
            params,
            folder / MODEL,
            tokenizer_from=start,
            agent={**described(trained, tools, model.codec.chat), **kept},
        )
    player = Player(folder / MODEL, weights_digest(params), trained.bare)
    return Improved(player, tuple(result.losses), result.tokens, len(examples), params)
