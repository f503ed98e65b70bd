"""The counts of docs/search_agent.md come from the agents themselves."""

from __future__ import annotations

from pathlib import Path

from benchmarks.agent_tokens import main


def test_tokens_are_counted_for_each_agent_and_each_number_of_examples(smollm2: Path, capsys) -> None:
    assert main(["--model", str(smollm2), "--demonstrations", "2"]) == 0
    react, search, *shots = capsys.readouterr().out.splitlines()
    sampled = [float(line.split("sampled, mean ")[1].split(",")[0]) for line in (react, search)]
    assert 0 < sampled[0] < sampled[1]
    assert [line.split(":")[0] for line in shots] == [f"at most {n} worked examples" for n in (0, 1, 2, 9)]
