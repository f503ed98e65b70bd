"""The most memory that this process held at one time, as Linux counts it; needs nothing but Python."""

from __future__ import annotations

from pathlib import Path

_FORGET = "5"
"""What makes Linux begin anew with the peak (proc_pid_clear_refs(5))."""


def forget_peak() -> None:
    """Begin anew; nothing where there is no /proc."""
    try:
        Path("/proc/self/clear_refs").write_text(_FORGET, encoding="ascii")
    except OSError:
        return


def peak_bytes() -> int | None:
    """Resident memory at its greatest since `forget_peak`, libraries and all; None where there is no /proc."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
