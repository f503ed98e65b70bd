"""An adapter process of one family of tools: `python family_server.py MODULE OPENER SETTINGS_CLASS JSON [PORT]`.

It announces itself as `rest-jax tools serve` does, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import sys
import threading

from rest_jax.tools.server import create_app, serve


def end_with_stdin() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


async def main(module: str, opener: str, settings_class: str, fields: str, port: str = "0") -> None:
    family = importlib.import_module(module)
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(fields).items()}
    async with getattr(family, opener)(getattr(family, settings_class)(**given)) as tools:
        app = create_app(tools, timeout_s=60, about={})
        await serve(app, "127.0.0.1", int(port), lambda url: print(json.dumps({"url": url}), flush=True))


if __name__ == "__main__":
    threading.Thread(target=end_with_stdin, daemon=True).start()
    asyncio.run(main(*sys.argv[1:]))
