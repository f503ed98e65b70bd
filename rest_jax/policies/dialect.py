"""How an endpoint is spoken to on behalf of one player: requests to bodies, responses to candidates, all of it pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rest_jax.config.policies import EndpointSettings
from rest_jax.core.canonical import digest
from rest_jax.core.chat import ChatFormat
from rest_jax.core.effects import Candidate, Finish
from rest_jax.core.policy import Request, ScoreRequest, TextCodec
from rest_jax.policies import wire
from rest_jax.policies.spoken import spoken_ids
from rest_jax.policies.turns import continued, messages
from rest_jax.policies.wire import Answer
from rest_jax.sampling.stops import candidate

Asked = Request | ScoreRequest

PROBE = (
    "Question: Which tokens are these, of 1815?\n\n  Größe,\t\t東京 and    👍:\nThought:"
    "<|endoftext|><|im_end|><|eot_id|><end_of_turn><eos></s>"
)
"""A text by whose ids an endpoint's tokenizer is told from another: words, numbers, white space, other scripts, and the
names by which families end a reply, each a token only where it names one. `</s>` stands last because it is the end of
sentencepiece models, some of which put a space before what follows it."""

_REFUSED = Candidate((), (), "", Finish.CONTEXT)


@dataclass(frozen=True)
class Dialect:
    """Ids and log-probs where they are the endpoint's own, else text.

    A reply of text is encoded, as untrusted, by the player's codec, has no log-probs, and ends as the player's own
    turns do, whatever ended it there: with the first stop string, or the end-of-turn token where there is none. It is
    not cut to the budget in the player's tokens: players with other tokens, over one recording, would then ask for what
    was never asked. A reply of ids ends where the player's own would.
    """

    settings: EndpointSettings
    codec: TextCodec
    """The player's: its ids are those of the trajectory."""
    exact: bool = False
    """The endpoint's model has this very tokenizer, and tells ids."""
    chat: ChatFormat | None = None
    """The turns that the player's transcripts are written in; None is plain text."""

    def key(self, asked: Asked) -> str:
        """sha256 (hex) of all that a reply depends on."""
        tokenizer = self.codec.digest if self.exact else None
        who = [self.settings.model, self.settings.style, self.settings.context, tokenizer]
        if isinstance(asked, ScoreRequest):
            return digest([who, "score", asked.ids, asked.continuation])
        context = asked.ids if self.exact else [[segment.source, segment.text] for segment in asked.segments]
        wanted = [asked.max_tokens, asked.stop, asdict(asked.sampling)]
        return digest([who, asdict(asked.key), context, wanted])

    def room(self, asked: Asked) -> int:
        """Tokens that the context has left; of an endpoint that counts by itself, more than anybody asks for."""
        return (self.settings.context or 1 << 30) - len(asked.ids)

    def body(self, asked: Asked, n: int) -> tuple[str, dict[str, Any]]:
        """The path and the body that ask for n replies, or for log-probs."""
        settings = self.settings
        if isinstance(asked, ScoreRequest):
            return "/completions", wire.echo(settings, (*asked.ids, *asked.continuation))
        if settings.style == "chat":
            return "/chat/completions", wire.chat_completion(settings, asked, messages(asked.segments, self.chat), n)
        if not self.exact:
            return "/completions", wire.completion(settings, asked, "".join(one.text for one in asked.segments), n)
        asked = replace(asked, max_tokens=min(asked.max_tokens, self.room(asked)))
        return "/completions", wire.completion(settings, asked, asked.ids, n)

    def answers(self, asked: Asked, response: Any) -> list[Answer]:
        """The answers in a response, at least one; each makes a candidate. Raises ValueError, TypeError, LookupError or
        AttributeError for whatever else it holds."""
        if isinstance(asked, ScoreRequest):
            logprobs = wire.echoed(response, len(asked.ids) + len(asked.continuation))
            return [Answer("", "length", asked.continuation, logprobs[len(asked.ids) - 1 :])]
        answers = wire.answers_of(response, asked, ids=self.exact)
        for answer in answers:
            self.candidate(asked, answer)
        return answers

    def candidate(self, asked: Asked, answer: Answer) -> Candidate:
        """What an answer is to the player. Raises ValueError for one that contradicts itself."""
        if answer.finish == "context":
            return _REFUSED
        if isinstance(asked, ScoreRequest):
            return Candidate(asked.continuation, answer.logprobs, self.codec.decode(asked.continuation), Finish.LENGTH)
        if answer.ids is not None:
            return self._sampled(asked, answer, answer.ids)
        text = answer.text
        if self.settings.style == "chat":
            text = continued(asked.segments, self.chat, text)
        if answer.finish == "length":
            ids, finish = self.codec.encode_untrusted(text), Finish.LENGTH
        else:
            ids, finish = spoken_ids(self.codec, asked, text, ends=not asked.stop)
        return candidate(self.codec, asked.stop, ids, None, finish)

    def _sampled(self, request: Request, answer: Answer, ids: Sequence[int]) -> Candidate:
        if any(token >= self.codec.vocab_size for token in ids):
            raise ValueError("a token that the tokenizer has not")
        # Where the player's own reply would end: a server may go on after an end that it does not know.
        end = next((at for at, token in enumerate(ids, start=1) if token in self.codec.eos_ids), None)
        logprobs = answer.logprobs and answer.logprobs[:end]
        cut = Finish.CONTEXT if self.room(request) < request.max_tokens else Finish.LENGTH
        said = candidate(self.codec, request.stop, ids[:end], logprobs, Finish.EOS if end else cut)
        if answer.finish == "stop" and said.finish is cut:
            raise ValueError("a reply that stopped, with neither a stop string nor an end among its tokens")
        return said


def made_by(codec: TextCodec, shown: Sequence[int]) -> bool:
    """Whether the ids that an endpoint makes of `PROBE` are this tokenizer's. Sentencepiece models put a space before a
    text, which the codec, who encodes segment by segment, does not."""
    return any(tuple(shown) == codec.bos_ids + codec.encode_trusted(text) for text in (PROBE, f" {PROBE}"))
