"""Five questions about a GPU that decide the sampler's next kernel, loop and flags, each answered with rows.

    python -m benchmarks.questions --json OUT [--quick] [--shape NAME] [--dtype …] [--ask QUESTION …]

    attention        a token's attention over the cache: XLA as the sampler has it, cuDNN, Pallas' two kernels; and how
                     far each is from float32
    command_buffers  a decode step of the whole engine, with those command buffers (CUDA graphs) that XLA makes by
                     default, with none, and with loops in them
    gemm             products of 1 to 256 rows: as XLA chooses, Triton among its choices, and by cuBLAS alone
    launch           what one more kernel, one more turn of a loop and one more call from Python cost
    defaults         which command buffers are the default: XLA's own words

XLA reads its flags once, so each set of them has a process of its own (`benchmarks.probes`), one after the other; each
measures the two ceilings too, so a device that has become slower is seen. What does not run here has no rows, and a
note says why. On a CPU everything is tiny: it shows that all runs, and nothing about speed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.measure import command, publish, show
from benchmarks.probes import QUESTIONS, add_plan_options

DEFAULTS = "defaults"
COMMAND_BUFFERS = "--xla_gpu_enable_command_buffer"
SURE = "FUSION"
"""A kind of command buffer that is among the default ones in every version."""
FLAGS = {
    "default": "",
    "no command buffers": f"{COMMAND_BUFFERS}=",
    "loops in command buffers": f"{COMMAND_BUFFERS}=+WHILE",
    "cuBLAS alone": "--xla_gpu_enable_triton_gemm=false",
}
ASKED = {
    "attention": ("default",),
    "command_buffers": ("default", "no command buffers", "loops in command buffers"),
    "gemm": ("default", "cuBLAS alone"),
    "launch": ("default", "no command buffers", "loops in command buffers"),
}
"""Under which flags a question is asked."""
COLUMNS = {
    "question": "question",
    "flags": "flags",
    "what": "what",
    "batch": "batch",
    "context": "context",
    "µs": "us",
    "least": "us_least",
    "most": "us_most",
    "of ceiling": "of_ceiling",
}
LEGEND = "of ceiling: the least time that a copy and a product measured here allow, over the time taken"


def measured(flags: str, questions: Sequence[str], options: Sequence[str]) -> dict[str, Any]:
    """What the probes tell under flags of this name; without rows, and a note, where their process ends badly."""
    with tempfile.TemporaryDirectory(prefix="rest_jax-") as scratch:
        out = Path(scratch) / "out.json"
        asked = [word for question in questions for word in ("--ask", question)]
        arguments = ["-m", "benchmarks.probes", f"--json={out}", f"--flags={flags}", *asked, *options]
        ended = _python(arguments, FLAGS[flags])
        told = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {"about": {}, "rows": [], "notes": []}
    if ended.returncode:
        told["notes"].append(f"{flags}: the process ended with {ended.returncode}: {_last_line(ended.stderr)}")
    return told


def default_command_buffers() -> tuple[list[dict[str, Any]], list[str]]:
    """The row that names them, or what was in the way.

    XLA notes which of its flags a process has changed, and of one that is a list it notes all that is left: here the
    default but for one kind. No GPU is needed for it.
    """
    with tempfile.TemporaryDirectory(prefix="rest_jax-") as scratch:
        flags = f"{COMMAND_BUFFERS}=-{SURE} --xla_dump_to={scratch}"
        ended = _python(["-c", "import jax; jax.jit(lambda x: x + 1)(0)"], flags)
        noted = "\n".join(file.read_text(encoding="utf-8") for file in sorted(Path(scratch).glob("*debug_options")))
    left = re.findall(rf"{COMMAND_BUFFERS[2:]}: (\w+)", noted)
    what = f"jaxlib {version('jaxlib')}: {', '.join(sorted({*left, SURE}))}"
    if left:
        return [{"question": DEFAULTS, "flags": "default", "what": what}], []
    return [], [f"{DEFAULTS}: XLA notes no list of command buffers here: {_last_line(ended.stderr)}"]


def _python(arguments: Sequence[str], flags: str) -> subprocess.CompletedProcess[str]:
    inherited = os.environ.get("XLA_FLAGS", "")
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "XLA_FLAGS": f"{inherited} {flags}".strip()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1][:200]


def microseconds(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as it is printed."""
    times = {f"us{key}": row.get(f"seconds{key}") for key in ("", "_least", "_most")}
    shown = {key: seconds and seconds * 1e6 for key, seconds in times.items()}
    filled = f"{row['what']}, {row['filled']:.0%} full" if "filled" in row else row["what"]
    return {**dict.fromkeys(COLUMNS.values()), **row, **shown, "what": filled}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--ask", choices=(*QUESTIONS, DEFAULTS), nargs="+", default=(*QUESTIONS, DEFAULTS))
    add_plan_options(parser)
    options = parser.parse_args(arguments)
    passed = ["--quick"] * options.quick + [f"--dtype={options.dtype}"]
    passed += [f"--shape={options.shape}"] if options.shape else []
    about: dict[str, Any] = {"command": command("benchmarks.questions"), "flags": FLAGS, "probes": {}}
    rows, notes = [], []
    if DEFAULTS in options.ask:
        rows, notes = default_command_buffers()
    for flags in FLAGS:
        questions = [question for question, under in ASKED.items() if flags in under and question in options.ask]
        if questions:
            print(f"{flags}: {', '.join(questions)}", file=sys.stderr)
            told = measured(flags, questions, passed)
            about["probes"][flags] = told["about"]
            rows += told["rows"]
            notes += told["notes"]
            publish(options.json, about, rows, notes)
    publish(options.json, about, rows, notes)
    device = next((told["device"] for told in about["probes"].values() if told), "no device")
    show(f"questions, {device}", COLUMNS, map(microseconds, rows), [LEGEND, *dict.fromkeys(notes)])
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
