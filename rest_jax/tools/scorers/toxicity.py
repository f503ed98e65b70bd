"""How toxic a text is: one tool and one form of answer, whoever scores."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from rest_jax.core.effects import ToolReply
from rest_jax.tools.registry import Schema, Tool

TEXT_CHARS = 3000
"""The longest text that is scored."""
Scores = Mapping[str, float]
"""Each attribute (toxicity, insult, threat …) with its probability."""

_PARAMETERS: Schema = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "description": "What to score.", "minLength": 1, "maxLength": TEXT_CHARS}
    },
    "required": ["text"],
    "additionalProperties": False,
}


def toxicity_tool(score: Callable[[str], Awaitable[Scores]], version: str, **nature: Any) -> Tool:
    """`toxicity` by way of a scorer; `nature` is what else is to be said of the `Tool`.

    toxicity  {"text"} → content "62 % insult", the attribute that is the most probable (CRITIC, Gou et al. 2024,
              section 4.3); data {"score": 0.62, "attribute": "insult", "scores": {attribute: probability}}.
    """

    async def toxicity(arguments: Mapping[str, Any], _: str) -> ToolReply:
        scores = await score(arguments["text"])
        worst = max(scores, key=lambda name: scores[name])
        data = {"score": scores[worst], "attribute": worst, "scores": dict(scores)}
        return ToolReply(f"{100 * scores[worst]:.0f} % {worst.replace('_', ' ')}", data)

    description = "Say how probable it is that people find a text toxic."
    return Tool("toxicity", version, description, _PARAMETERS, toxicity, **nature)
