"""Prompts: how a transcript opens with a question, and how it goes on after a turn.

Two styles. `base` is plain text in which a turn is ONE line:

    Question: Who founded Vell?
    Thought: I need Vell. Action: Search[Vell]
    Observation: Vell: Vell is a town founded by Ada Orr.
    Thought: Ada Orr founded it. Action: Finish[Ada Orr]

The model says what stands after the cue `Thought:`, up to and including the token that ends the line. In the classic
two-line form with the stop string "\\nObservation" no model token ends a turn: the token that does would never be a
target of the loss, and a model trained on such transcripts would go on to invent its own observations. Here a turn
ends with the line's own newline and the last turn with the end-of-sequence token; both are sampled, stored and learned.

`chat` writes the same words into the model's own chat turns: the instruction is the system turn, questions and
observations are user turns, and a turn ends with the token that ends a reply (or at the newline, if the model writes
one first).

The space after `Question:` and `Observation:` belongs to the untrusted text that follows, because a tokenizer's words
begin with their space.

What has several lines, such as a program, stands in a *block*. A label that opens one ends with a fence and a newline;
what follows, be it asked, told or said by the model, goes on to the fence that closes it:

    Program:
    ```python
    print(4 * 12 - 30)
    ```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from rest_jax.core.chat import ChatFormat
from rest_jax.core.errors import UserError
from rest_jax.core.transcript import Segment, Transcript

QUESTION = "Question:"
METHOD = "Method:"
OBSERVATION = "Observation:"
NEW_LINE = "\n"
FENCE = "```"


Told = tuple[str, str]
"""A line of others' words, or a block of them: its label, such as `Feedback:`, and the words."""


@dataclass(frozen=True)
class Line:
    """One turn of a worked example: what the model says after the cue, and what it is shown then."""

    said: str
    observation: str | None = None


@dataclass(frozen=True)
class Shot:
    """A worked example."""

    question: str
    lines: Sequence[Line]
    told: Sequence[Told] = ()
    """What stands between the question and the first turn."""


@dataclass(frozen=True)
class Prompt:
    """How a method's transcripts open and go on.

    All of the instruction and the shots is marked `shots`, so that a *bare* training example leaves it out: exactly
    the transcript of `bare()` remains, segment by segment.
    """

    cue: str
    """What the model's words follow, such as `Thought:`."""
    instruction: str = ""
    shots: tuple[Shot, ...] = ()
    chat: ChatFormat | None = None
    """The model's chat turns; None is the style `base`."""
    told: tuple[Told, ...] = ()
    """What stands between the question and the first turn: an attempt, what was said of it."""
    beside: Mapping[str, Prompt] = field(default_factory=dict)
    """The prompts of the method's other steps, each of which opens transcripts of its own."""
    asking: str = QUESTION
    """The question's label."""

    @property
    def stop(self) -> tuple[str, ...]:
        """What ends a turn, beside an end-of-sequence token."""
        return (FENCE if opens_block(self.cue) else NEW_LINE,)

    @property
    def ends_every_turn(self) -> bool:
        """Whether a demonstrated turn ends with an end-of-sequence token; if not, only the last one does."""
        return self.chat is not None

    @property
    def asks(self) -> tuple[str, ...]:
        """The questions of the worked examples, those of the other steps too."""
        own = tuple(shot.question for shot in self.shots)
        return own + tuple(question for prompt in self.beside.values() for question in prompt.asks)

    def bare(self) -> Prompt:
        """The prompt of a model that was trained to do without instruction and worked examples."""
        beside = {step: prompt.bare() for step, prompt in self.beside.items()}
        return replace(self, instruction="", shots=(), beside=beside)

    def telling(self, *told: Told) -> Prompt:
        """The prompt of transcripts that say this, too, before the first turn."""
        return replace(self, told=self.told + told)

    def saying(self, method: str) -> Prompt:
        """The same prompts, examples and other steps too, each saying after its question of which method it is."""
        line = (METHOD, method)
        return replace(
            self,
            told=(line, *self.told),
            shots=tuple(replace(shot, told=(line, *shot.told)) for shot in self.shots),
            beside={step: prompt.saying(method) for step, prompt in self.beside.items()},
        )

    def open(self, question: str) -> Transcript:
        """A transcript that ends where the model's first turn begins."""
        transcript = Transcript()
        if self.chat is None:
            if self.instruction:
                transcript = transcript.prompted(f"{self.instruction}\n\n", shots=True)
        else:
            transcript = transcript.prompted(self.chat.begin)
            if self.instruction:
                before, after = self.chat.system
                transcript = transcript.prompted(f"{before}{self.instruction}{after}", shots=True)
        for shot in self.shots:
            transcript = self._show(transcript, shot)
        return self._ask(transcript, "", self.asking, question, self.told)

    @property
    def beginnings(self) -> tuple[tuple[Segment, ...], ...]:
        """What every transcript of a step opens with, where it has an instruction or worked examples; else nothing."""
        opened = replace(self, told=()).open("").segments[:-2]  # but for the question and the cue after it
        own = (opened,) if any(segment.shots for segment in opened) else ()
        return own + tuple(beginning for prompt in self.beside.values() for beginning in prompt.beginnings)

    def observe(self, transcript: Transcript, observation: str, *, closed: bool = False) -> Transcript:
        """The transcript of a turn continued by the untrusted text that answers it; ends where the next turn begins.

        `closed` when the turn's last token is an end-of-sequence token, which a chat turn then needs no second time.
        Raises ValueError where turns are blocks: each opens a transcript of its own.
        """
        if opens_block(self.cue):
            raise ValueError(f"a transcript ends with its block, {self.cue!r}; open another that tells of it")
        # A token may hold more of the lines that follow than the newline; those characters stand where they stand.
        between = transcript.overhang
        if self.chat is None:
            between = between or NEW_LINE
        else:
            between += self._close(closed=closed)
        return self._ask(transcript, between, OBSERVATION, observation)

    def _ask(
        self,
        transcript: Transcript,
        between: str,
        label: str,
        untrusted: str,
        told: Sequence[Told] = (),
        *,
        shots: bool = False,
    ) -> Transcript:
        """Append `between`, the label with its untrusted text, what is told beside it, and the cue."""
        before, after = ("", NEW_LINE) if self.chat is None else self.chat.user
        speak = "" if self.chat is None else self.chat.assistant[0]
        transcript = transcript.prompted(f"{between}{before}{label}", shots=shots)
        append = transcript.observed if label == OBSERVATION else transcript.quoted
        transcript = append(_words(label, untrusted), shots=shots)
        for told_as, words in told:
            transcript = transcript.prompted(f"{_closing(label)}{NEW_LINE}{told_as}", shots=shots)
            transcript = transcript.quoted(_words(told_as, words), shots=shots)
            label = told_as
        return transcript.prompted(f"{_closing(label)}{after}{speak}{self.cue}", shots=shots)

    def _show(self, transcript: Transcript, shot: Shot) -> Transcript:
        """Append a worked example; what it says is untrusted, because tasks quote data in it."""
        transcript = self._ask(transcript, "", self.asking, shot.question, shot.told, shots=True)
        for line in shot.lines:
            transcript = transcript.quoted(line.said, shots=True)
            between = _closing(self.cue) + (NEW_LINE if self.chat is None else self._close(closed=False))
            if line.observation is not None:
                transcript = self._ask(transcript, between, OBSERVATION, line.observation, shots=True)
            else:
                transcript = transcript.prompted(between + (NEW_LINE if self.chat is None else ""), shots=True)
        return transcript

    def _close(self, *, closed: bool) -> str:
        """What ends a chat turn of the model; `closed` when it has sampled the ending token itself.

        What follows that token in a chat format is white space.
        """
        assert self.chat is not None
        after = self.chat.assistant[1]
        return after[len(after.rstrip()) :] if closed else after


def opens_block(label: str) -> bool:
    """Whether a label, or a cue, opens a block."""
    return label.endswith(NEW_LINE)


def _closing(label: str) -> str:
    """What closes the block that a label opens; nothing where it opens none."""
    return FENCE if opens_block(label) else ""


def _words(label: str, untrusted: str) -> str:
    """A tool's, a question's or a model's text after a label: on one line, for none of its lines must pass for a line
    of the agent's; or in a block, which nothing in it must close."""
    if opens_block(label):
        return untrusted.replace(FENCE, "'''").rstrip() + NEW_LINE
    return f" {' '.join(untrusted.split())}"


def chat_of(style: Literal["base", "chat"], chat: ChatFormat | None) -> ChatFormat | None:
    """The chat turns of a style: the model's own, or none. UserError when a model without any is to chat."""
    if style == "chat" and chat is None:
        raise UserError("agent.style: the model has no chat template; write style: base")
    return chat if style == "chat" else None
