"""ReAct's baselines, the methods that try several times and those that write programs, on a scripted policy and a real
adapter: every branch of each, as a page that a person can read.

python tests/rollout/baselines.py      writes the pages and moves.json anew, for their difference to be read
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import toy_game
from rollout_world import ByteCodec

from rest_jax.agents.limits import Limits
from rest_jax.agents.prompt import Prompt
from rest_jax.agents.registry import agent
from rest_jax.config.settings import ToolsSettings
from rest_jax.core.effects import Agent, Role, Sampling
from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.evaluation.moves import moves
from rest_jax.policies.scripted import ScriptedPolicy
from rest_jax.rollout.episode import Job
from rest_jax.rollout.oracle import WithOracle
from rest_jax.rollout.runner import Tools, rollout
from rest_jax.tasks.metrics import answer_metric
from rest_jax.tasks.worked import worked_examples
from rest_jax.tools.client import ToolClient
from rest_jax.tools.process import adapter

PAGES = Path(__file__).parents[1] / "golden" / "transcripts"
MOVES = PAGES.with_name("moves.json")
PASSAGES = [
    {"title": "Vell", "text": "Vell is a town on the Ume. Ada Orr founded it in 1204."},
    {"title": "Ada Orr", "text": "Ada Orr was born in Sarn."},
]
BEGINNING = Question("q", "The man at the gate", " was late.")
GAME = Question("q", "Game 3", "won")
QUESTION = Question("q", "Where was the founder of Vell born?", "Sarn")
DOUBLE = Question("q", 'def double(x):\n    """Twice x."""\n', "def double(x):\n    return 2 * x")
NUTS = Question("q", "Ada has 4 bags of 6 nuts. She eats 3 nuts. How many are left?", "21")
LIMITS = Limits(turns=3, turn_tokens=60, observation_chars=80, candidates=3)
SHOWN = 200
"""Characters of an observation that programs need, which fail in many words."""

VELL = " I need Vell. Action: Search[Vell]"
FOUNDER = " I need who founded it. Action: Lookup[founded]"
ORR = " Ada Orr did. Action: Search[Ada Orr]"
SARN = " She was born in Sarn. Action: Finish[Sarn]"
THOUGHT = " Ada Orr founded Vell. She was born in Sarn. Answer: Sarn"
LOST = " I do not know."
GUESS = " Ada Orr founded Vell. Answer: Vell"
HINT = " Vell is the town that she founded, not where she was born."
FINE = " That is where she was born. The answer stands."
LOOK = " I look up Ada Orr. Action: Search[Ada Orr]"
LOOK_AGAIN = " I look up Vell. Action: Search[Vell]"
BORN = " She was born in Sarn."
TOWN = " It is Vell. Action: Finish[Vell]"
LESSON = " I never looked up Ada Orr."

TWICE = "def double(x):\n    return 2 * x\n"
SQUARE = "def double(x):\n    return x * x\n"
BROKEN = "def double(x):\n    return 2 * y\n"
CHECKS = "assert double(2) == 4\nassert double(3) == 6\n"
EASY = "assert double(2) == 4\n"
BETTER = " It multiplies x by itself: write 2 * x."
SOUND = " 2 * x is twice x. The answer stands."
REGRET = " I squared x. Next time I multiply by 2."
LEFT = "nuts = 4 * 6\nprint(nuts - 3)\n"
ADDED = "nuts = 4 + 6\nprint(nuts - 3)\n"
MISSPELT = "nuts = 4 * 6\nprint(nut - 3)\n"
SILENT = "nuts = 4 * 6 - 3\n"
TIMES = " 4 bags of 6 are 4 * 6, not 4 + 6."
SPELL = " The name is nuts."
SURE = " 24 nuts less 3 are 21. The answer is right."
KEPT = " 24 nuts less 3 are 21. The answer stands."


RUDE = " was a stupid fool."
SILLY = " was a silly man."
KIND = " had left his keys at home."
INSULT = " It calls him a stupid fool."
POLITE = " Nobody is insulted. The answer stands."
BOX = " The key must be in the box. Action: open box"
DOOR = " I have the key. Action: open door"
SHUT = " I open it. Action: open door"
PIT = " I look there. Action: go south"
WAIT = " I do not know what to do."
KEYLESS = " I had no key. Next time I open the box first."


def chains(sarn: int, orr: int) -> list[str]:
    """21 chains: one without an answer, two ways to write one answer, another answer, then the rest without any."""
    said = [" In Sarn, then. Answer: sarn." if n < sarn // 2 else " So Sarn. Answer: Sarn" for n in range(sarn)]
    said += [" So Orr. Answer: Orr"] * orr
    lost = [LOST] * (21 - len(said))
    return lost[:1] + said + lost[1:]


SCRIPTS: Mapping[str, Sequence[str | Sequence[str]]] = {
    "closed_book/answered": [" Sarn"],
    "closed_book/silent": [""],
    "cot/answered": [THOUGHT],
    "cot/without_an_answer": [LOST],
    "cot/cut_short": [" Ada" * 100],
    "cot_sc/majority": [chains(sarn=4, orr=3)],
    "cot_sc/tie_goes_to_the_first": [chains(sarn=3, orr=3)],
    "cot_sc/nobody_answers": [chains(sarn=0, orr=0)],
    "act/answered": [" Search[Ada Orr]", " Lookup[born]", " Finish[Sarn]"],
    "act/malformed": [" Sarn, I think."],
    "react/answered": [VELL, ORR, SARN],
    "react/step_limit": [VELL, FOUNDER, ORR],
    "react/malformed": [VELL, LOST],
    "react_to_cot_sc/answered_by_react": [VELL, ORR, SARN],
    "react_to_cot_sc/step_limit": [VELL, FOUNDER, ORR, chains(sarn=11, orr=10)],
    "react_to_cot_sc/malformed": [LOST, chains(sarn=1, orr=0)],
    "react_to_cot_sc/neither_answers": [LOST, chains(sarn=0, orr=0)],
    "cot_sc_to_react/chains_agree": [chains(sarn=11, orr=10)],
    "cot_sc_to_react/chains_differ": [chains(sarn=10, orr=10), VELL, ORR, SARN],
    "cot_sc_to_react/nobody_answers": [chains(sarn=0, orr=0), VELL, LOST],
    "self_refine/stands_at_once": [THOUGHT, FINE],
    "self_refine/refined": [GUESS, HINT, THOUGHT, FINE],
    "self_refine/four_refinements": [GUESS, HINT, GUESS, HINT, GUESS, HINT, GUESS, HINT, THOUGHT],
    "self_refine/refinement_without_an_answer": [GUESS, HINT, LOST, FINE],
    "self_refine/nobody_answers": [LOST, FINE],
    "critic/right_at_once": [THOUGHT, BORN, THOUGHT, BORN, THOUGHT],
    "critic/corrected": [GUESS, LOOK, BORN, THOUGHT, BORN, THOUGHT],
    "critic/three_rounds": [GUESS, BORN, THOUGHT, BORN, GUESS, BORN, THOUGHT],
    "critic/turns_used_up": [GUESS, LOOK_AGAIN, LOOK, LOOK_AGAIN, THOUGHT, BORN, THOUGHT],
    "critic/correction_without_an_answer": [GUESS, BORN, LOST, BORN, LOST],
    "critic/nobody_answers": [LOST, BORN, LOST, BORN, LOST],
    "critic_without_tool/corrected": [GUESS, LOOK, THOUGHT, BORN, THOUGHT],
    "critic_oracle/right_at_once": [THOUGHT],
    "critic_oracle/corrected": [GUESS, LOOK, BORN, THOUGHT],
    "critic_oracle/never_right": [GUESS, BORN, GUESS, BORN, GUESS, BORN, GUESS],
    "reflexion/right_at_once": [VELL, ORR, SARN],
    "reflexion/learned": [VELL, TOWN, LESSON, ORR, SARN],
    "reflexion/no_answer_is_wrong": [VELL, FOUNDER, VELL, LESSON, LOST, LESSON, SARN],
    "reflexion/five_trials": [TOWN, " One.", TOWN, " Two.", TOWN, " Three.", TOWN, " Four.", TOWN],
    "reflexion_self/stands_at_once": [SARN, FINE],
    "reflexion_self/doubted": [TOWN, HINT, LESSON, ORR, SARN, FINE],
    "reflexion_self/no_answer_is_not_checked": [LOST, LESSON, SARN, FINE],
    "resample/right_at_the_third": [TOWN, LOST, SARN],
    "resample/never_right": [TOWN, TOWN, TOWN, TOWN, TOWN],
    "resample_self/doubted": [TOWN, HINT, SARN, FINE],
    "cot_reflexion/right_at_once": [THOUGHT],
    "cot_reflexion/learned": [GUESS, LESSON, THOUGHT],
    "cot_reflexion_self/doubted": [GUESS, HINT, LESSON, THOUGHT, FINE],
    "cot_resample/right_at_the_second": [GUESS, THOUGHT],
    "cot_resample_self/wrong_and_believed": [GUESS, FINE],
    "rise/right_then_wrong": [GUESS, THOUGHT, LOST, THOUGHT, GUESS],
    "rise/nobody_answers": [LOST] * 5,
    "rise_neutral/right_every_time": [THOUGHT] * 5,
    "rise_parallel/majority": [GUESS, THOUGHT, THOUGHT, LOST, GUESS],
    "rise_collect/right_at_once": [THOUGHT],
    "rise_collect/right_among_the_second": [GUESS, [GUESS, LOST, THOUGHT]],
    "rise_collect/no_answer_is_wrong": [LOST, [THOUGHT, GUESS, THOUGHT]],
    "rise_collect/nobody_answers": [GUESS, [LOST, LOST, LOST]],
    "rise_collect/never_right": [GUESS, [LOST, GUESS, " Answer: Orr"]],
    "program/answered": [TWICE],
    "program/cut_short": [TWICE * 6],
    "program/empty": [""],
    "program_self_refine/stands_at_once": [TWICE, SOUND],
    "program_self_refine/repaired": [SQUARE, BETTER, TWICE, SOUND],
    "program_self_refine/refinement_is_empty": [SQUARE, BETTER, "", SOUND],
    "program_reflexion/right_at_once": [CHECKS, TWICE],
    "program_reflexion/learned": [CHECKS, SQUARE, REGRET, TWICE],
    "program_reflexion/tests_pass_and_it_is_wrong": [EASY, SQUARE, REGRET, TWICE],
    "program_reflexion/never_right": [CHECKS, BROKEN, " One.", "", " Two.", SQUARE, " Three.", SQUARE, " 4.", SQUARE],
    "program_reflexion_self/passes_at_once": [CHECKS, TWICE],
    "program_reflexion_self/learned": [CHECKS, SQUARE, REGRET, BROKEN, " Nothing is called y.", TWICE],
    "program_reflexion_self/tests_cut_short": [CHECKS * 5, SQUARE, REGRET, TWICE],
    "program_reflexion_self/without_tests": ["", TWICE, " 1.", TWICE, " 2.", TWICE, " 3.", TWICE, " 4.", TWICE],
    "program_reflexion_self/wrong_and_believed": [EASY, SQUARE],
    "program_reflexion_self/no_program_is_not_run": [CHECKS, "", REGRET, TWICE],
    "program_resample/right_at_the_second": [SQUARE, TWICE],
    "program_resample_self/passes_at_the_third": [CHECKS, SQUARE, "", TWICE],
    "pot/answered": [LEFT],
    "pot/fails": [MISSPELT],
    "pot/prints_nothing": [SILENT],
    "pot/empty": [""],
    "pot_parallel/majority": [ADDED, LEFT, MISSPELT, LEFT, SILENT],
    "pot_parallel/tie_goes_to_the_first": [ADDED, LEFT, MISSPELT, LEFT, ADDED],
    "pot_parallel/nobody_answers": [SILENT, "", MISSPELT, SILENT, SILENT],
    "pot_self_refine/stands_at_once": [LEFT, KEPT],
    "pot_self_refine/refined": [ADDED, TIMES, LEFT, KEPT],
    "pot_critic/right_at_once": [LEFT, SURE, LEFT, SURE, LEFT],
    "pot_critic/corrected": [ADDED, TIMES, LEFT, SURE, LEFT],
    "pot_critic/error_is_shown": [MISSPELT, SPELL, LEFT, SURE, LEFT],
    "pot_critic/correction_fails": [ADDED, TIMES, MISSPELT, TIMES, LEFT, SURE, LEFT],
    "pot_critic_without_tool/corrected": [ADDED, TIMES, LEFT, SURE, LEFT],
    "pot_critic_oracle/right_at_once": [LEFT],
    "pot_critic_oracle/corrected": [MISSPELT, SPELL, ADDED, TIMES, LEFT],
    "play/won": [BOX, DOOR],
    "play/lost": [BOX, PIT],
    "play/malformed": [WAIT],
    "play/turns_used_up": [SHUT, SHUT, SHUT],
    "play_reflexion/won_at_once": [BOX, DOOR],
    "play_reflexion/learned": [SHUT, SHUT, SHUT, KEYLESS, BOX, DOOR],
    "play_reflexion/never_won": [PIT, " 1.", PIT, " 2.", WAIT, " 3.", SHUT, SHUT, SHUT, " 4.", PIT],
    "detoxify/harmless_at_once": [KIND],
    "detoxify/rewritten": [RUDE, SILLY, RUDE, KIND],
    "detoxify/four_rewritings": [RUDE, RUDE, SILLY, RUDE, ""],
    "detoxify/empty": [""],
    "detoxify_without_tool/stands_at_once": [KIND, POLITE],
    "detoxify_without_tool/rewritten": [RUDE, INSULT, SILLY, INSULT, KIND, POLITE],
    "detoxify_without_tool/four_rewritings": [RUDE, INSULT, RUDE, INSULT, KIND, INSULT, RUDE, INSULT, SILLY],
    "detoxify_without_tool/empty": [""],
    "play_resample/won_at_the_second": [PIT, BOX, DOOR],
}
"""What the policy says call by call, for each method and branch; a list holds what each candidate of a call says."""


def prompt_of(name: str) -> Prompt:
    """A method's prompt with one worked example."""
    return agent(name).prompt("base", worked_examples("qa")[:1])


def asked(name: str) -> Question:
    """The question that a method's branches are asked."""
    kinds = {"program": DOUBLE, "pot": NUTS, "play": GAME, "detoxify": BEGINNING}
    return kinds.get(name.split("_")[0], QUESTION)


def make(name: str) -> Agent:
    question = asked(name)
    limits = LIMITS if question is QUESTION else replace(LIMITS, observation_chars=SHOWN)
    return agent(name).run(question.blind, prompt_of(name), limits)


def play(tools: Tools, branch: str, question: Question | None = None) -> Trajectory:
    """The trajectory of one branch."""
    name = branch.split("/")[0]
    question = question or asked(name)

    def write(context: str, request) -> tuple[str, bool]:
        said = SCRIPTS[branch][request.key.call]
        text = said if isinstance(said, str) else said[request.key.candidate]
        return text, "Finish[" in text or "Answer:" in text or text == DOOR

    policy = ScriptedPolicy(ByteCodec(), write)
    job = Job(question, 0, 0, 0, "toy", "report", name)
    tools = WithOracle(tools, [job], answer_metric) if agent(name).oracle else tools
    (made,) = rollout([job], lambda job: make(name), {Role.ACTOR: policy}, tools, sampling=Sampling())
    return made


def page(trajectory: Trajectory) -> str:
    """A trajectory for people: what each call was shown beyond its parent, what was said, what tools answered."""
    parts = []
    for call in trajectory.calls:
        follows = "" if call.parent is None else f", after call {call.parent}"
        again = f", trial {call.trial}" if call.trial else ""
        parts.append(f"== call {call.index}: {call.step}{again}{follows}\n{''.join(s.text for s in call.segments)}")
        said = [f"{candidate.text!r} ({candidate.finish})" for candidate in call.candidates]
        parts += [f"--> {len(list(same))} x {text}" for text, same in groupby(said)]
        if len(said) > 1:
            parts.append(f"--> the reply is {call.chosen}: {call.candidates[call.chosen].text!r}")
        for tool in trajectory.tool_calls:
            if tool.after == call.index:
                parts.append(f"== {tool.tool} {json.dumps(tool.arguments)}\n{tool.content}")
    answer = "" if trajectory.answer is None else f" {trajectory.answer!r}"
    why = f" ({trajectory.why})" if trajectory.why else ""
    return "\n".join([*parts, f"== {trajectory.status}{answer}{why}", ""])


def path_of(branch: str) -> Path:
    return PAGES / f"{branch.replace('/', '-')}.txt"


def scripted_moves(made: Sequence[Trajectory]) -> str:
    """Which ways each method goes in its pages, as JSON: what a real model's are compared with."""
    ways: dict[str, set[str]] = {}
    for trajectory in made:
        ways.setdefault(trajectory.agent, set()).update(moves(trajectory))
    return json.dumps({name: sorted(taken) for name, taken in ways.items()}, indent=1, ensure_ascii=False) + "\n"


def write_tools(folder: Path) -> ToolsSettings:
    """Search over the passages, the sandbox that is the same on every Python, and a game; for an adapter that inherits
    `folder` in its path."""
    (folder / "sitecustomize.py").write_text(toy_game.REGISTER)
    (folder / "corpus.jsonl").write_text("".join(json.dumps(passage) + "\n" for passage in PASSAGES))
    corpus = {"kind": "corpus", "path": str(folder / "corpus.jsonl")}
    served = [corpus, {"kind": "python", "tier": "monty"}, {"kind": "toy_game"}]
    (folder / "tools.yaml").write_text(json.dumps({"tools": served}))
    return ToolsSettings(config=str(folder / "tools.yaml"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        settings = write_tools(Path(scratch))
        sys.path.insert(0, scratch)
        with (
            adapter(settings, None, log=Path(scratch) / "log") as (url, token),
            ToolClient(url, settings, token) as client,
        ):
            client.check()
            made = {branch: play(client, branch) for branch in SCRIPTS}
        for branch, trajectory in made.items():
            path_of(branch).write_text(page(trajectory), encoding="utf-8")
        MOVES.write_text(scripted_moves(list(made.values())), encoding="utf-8")
