"""SIGTERM: this host is about to be taken away. A command then keeps what it has, and ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM came; the text says what was kept, if there is more to say than that the work can go on.

    It ends all that Ctrl-C ends, in the same way.
    """


@contextmanager
def terminable() -> Iterator[None]:
    """Within a `with` block SIGTERM raises Terminated, once: what then ends in good order is not interrupted again."""

    def end(*_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    with _handled(end):
        yield


@contextmanager
def postponed() -> Iterator[Callable[[], bool]]:
    """Within a `with` block SIGTERM is only noted; what is yielded tells whether it came. It is for the block to end
    then, with Terminated: else SIGTERM comes anew when it ends."""
    came = threading.Event()
    with _handled(lambda *_: came.set()):
        yield came.is_set
    if came.is_set():
        signal.raise_signal(signal.SIGTERM)


@contextmanager
def _handled(handler: Callable[..., None]) -> Iterator[None]:
    """SIGTERM is the main thread's alone, and who had it ignored goes on ignoring it."""
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or before in (None, signal.SIG_IGN):
        yield
        return
    signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
