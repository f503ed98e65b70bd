"""What decides a run beside its config: code and prompts."""

from __future__ import annotations

from pathlib import Path

from rest_jax.recipes.environment import code_digest, environment


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
