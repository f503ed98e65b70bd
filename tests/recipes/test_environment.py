"""What decides a run beside its config: code, prompts, a user's reward."""

from __future__ import annotations

from pathlib import Path

from rest_jax.core.trajectory import Question, Trajectory
from rest_jax.recipes.environment import code_digest, environment, reward_digest


def test_the_code_digest_follows_modules_and_prompts_alone(tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "a.py").write_text("x = 1")
    (tmp_path / "prompts" / "react.txt").write_text("Think.")
    digests = [code_digest(tmp_path)]
    (tmp_path / "a.pyc").write_bytes(b"1")
    assert code_digest(tmp_path) == digests[0]
    (tmp_path / "prompts" / "react.txt").write_text("Think twice.")
    digests.append(code_digest(tmp_path))
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    digests.append(code_digest(tmp_path))
    assert len(set(digests)) == 3
    assert len(environment("auto")["code"]) == 12


def generous(trajectory: Trajectory, question: Question) -> float:
    return 1.0


class Constant:
    def __call__(self, trajectory: Trajectory, question: Question) -> float:
        return 0.5


def test_a_reward_is_known_by_its_source_or_else_by_its_name() -> None:
    def stingy(trajectory: Trajectory, question: Question) -> float:
        return 0.1

    first = reward_digest(stingy)

    def stingy(trajectory: Trajectory, question: Question) -> float:
        return 0.2

    assert len({first, *(reward_digest(reward) for reward in (stingy, generous, Constant(), max))}) == 5
    assert reward_digest(generous) == reward_digest(generous)
