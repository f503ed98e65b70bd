"""Distillation: what the last generation learned from, other models learn too, each from its own weights.

A trajectory is encoded anew, segment by segment, for a student whose tokenizer is not the trajectory's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from rest_jax.agents.registry import agent
from rest_jax.config.settings import ModelSettings, RestConfig
from rest_jax.core.errors import UserError
from rest_jax.core.events import notice
from rest_jax.models import catalog, checkpoint
from rest_jax.recipes import mixture
from rest_jax.recipes.agent_file import shrunk_of
from rest_jax.recipes.loop import Loop
from rest_jax.recipes.rest import Finished, kept
from rest_jax.recipes.sampler import open_sampler, room_for
from rest_jax.recipes.summary import Measured
from rest_jax.recipes.workbench import Bench, Player, Workbench, beginnings, prompt_of
from rest_jax.sampling.beginnings import laid_out

PROMPTED = " prompted"
"""How the name of a student's row ends that is measured once for all seeds, with the first."""
Students = Mapping[str, Callable[[], Bench]]
"""Student → what makes a workbench with its sampler in place of the run's own. The sampler lives as long as that
workbench does: no two students hold memory at one time."""


def seated(config: RestConfig, bench: Workbench, *, offline: bool) -> Students:
    """The run's students, none of them loaded yet: one that is missing, too large to sample and to train beside the
    run's own model, or that knows other chat turns is refused here, at the start."""
    return {student.label: _seated(config, bench, student, offline=offline) for student in config.students}


def distilled(loop: Loop, finished: Finished, label: str, seat: Callable[[], Bench]) -> list[Measured]:
    """A student's rows: prompted, which is the first seed's alone; and trained on the mixture of the threshold that
    made the last generation's policy, measured as that generation."""
    settings = loop.config.generations[-1].improve
    chosen = kept(finished.generations[-1].grown, settings, finished.generations[-1].reached)
    mix = mixture.seeded(chosen, finished.demonstrations, settings)
    loop.bench.free()  # neither a student's sampler nor its training needs room beside the run's rows
    student, stage, row = replace(loop, bench=seat()), f"student-{label}", f"student {label}"
    rows: list[Measured] = []
    if loop.seed == loop.config.seeds[0]:
        n = loop.config.evaluate.prompted
        rows.append(student.measured(f"{stage}/prompted", f"{row}{PROMPTED}", student.bench.base, n))
    player = student.improved(stage, student.bench.base, mix, settings) if mix else student.bench.base
    trained = student.measured(stage, row, player, loop.config.evaluate.final)
    rows.append(trained if mix else replace(trained, remark=f"seed {loop.seed} has nothing to learn from"))
    said = shrunk_of(player.folder)  # what a model is, it still is when it has learned
    return [replace(one, remark="; ".join(filter(None, [said, one.remark]))) for one in rows]


def _seated(config: RestConfig, bench: Workbench, student: ModelSettings, *, offline: bool) -> Callable[[], Workbench]:
    folder = catalog.resolve(student.name, offline=offline)
    model = checkpoint.on_disk(folder)
    if config.agent.style == "chat" and model.codec.chat != bench.engine.codec.chat:
        raise UserError(
            f"students: the chat turns of '{student.name}' are not those of the run's model, from which it learns; "
            f"write agent.style: base"
        )
    prompt = prompt_of(config.agent, agent(config.agent.name), bench.task, model.codec)
    try:
        if config.engine.shared:
            laid_out(beginnings(prompt, model.codec), config.engine.shared)
        held = room_for(folder, config.engine, dtype=student.dtype, improves=config.improves[-1:])
    except UserError as error:
        raise UserError(f"student {student.label}: {error}") from None
    notice(bench.emit, f"student {student.label}: {held.line(config.engine)}")
    base = Player(folder, model.weights_digest, config.agent.bare)

    def seat() -> Workbench:
        engine = open_sampler(folder, config.engine, dtype=student.dtype, emit=bench.emit)
        return replace(bench, engine=engine, base=base, memory=held)

    return seat
