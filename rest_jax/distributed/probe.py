"""All processes of a launch together for a moment: what its wiring is worth, before hours are spent on it.

In a child process: JAX ends whoever does not find the others by SIGABRT, and who has started once cannot again.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

from rest_jax.core.errors import UserError
from rest_jax.distributed.processes import MEND, Launched, launched, start

TOLD = "devices: "

COMPILE_S = 120
"""How long the first exchange may take beyond finding each other."""


def probe(processes: Launched, within_s: int) -> list[int]:
    """How many devices each of the processes has, as they told each other; all of them have to call this.

    within_s: how long they may take to find each other. Raises UserError where they do not.
    """
    command = [sys.executable, "-m", "rest_jax.distributed.probe", str(within_s)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=within_s + COMPILE_S)
    except subprocess.TimeoutExpired:
        raise UserError(f"{processes}: they found each other, and then were silent for {COMPILE_S} s; {MEND}") from None
    if done.returncode == 0:
        told = next(line for line in done.stdout.splitlines() if line.startswith(TOLD))  # Gloo prints there too
        return json.loads(told.removeprefix(TOLD))
    raise UserError(f"{processes}: they do not come together within {within_s} s ({_why(done.stderr)}); {MEND}")


def _why(said: str) -> str:
    """The one line that matters of what JAX says at its end."""
    status = re.findall(r"absl::Status: (.+)", said)
    lines = [line for line in said.splitlines() if line.strip()]
    return (status or lines or ["no message"])[-1].strip()


def _together(within_s: int) -> list[int]:
    start(launched(), within_s)
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    told = multihost_utils.process_allgather(np.array([jax.local_device_count()]))
    return np.ravel(told).tolist()


if __name__ == "__main__":
    print(f"{TOLD}{json.dumps(_together(int(sys.argv[1])))}")
