"""What runs inside a sandbox: it limits itself, says that it has begun, and runs the code that it is given.

It is handed to an interpreter as text, so it knows the standard library only.
"""

import ast
import json
import linecache
import os
import resource
import sys
import traceback
import types

NAME = "<code>"


def main():
    """Arguments: {name of a limit: its value} as JSON. Standard input: the code. Writes one byte when it begins.

    Limits are set here, inside: the kernel counts processes for each user and namespace.
    """
    limits = json.loads(sys.argv.pop())
    source = sys.stdin.buffer.read().decode()
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))
    os.write(1, b"\n")
    run(source)


def run(source):
    """Run the code as a module; the value of a last expression is printed, as in an interactive session."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # pyright: ignore
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    linecache.cache[NAME] = (len(source), None, source.splitlines(keepends=True), NAME)
    try:
        tree = ast.parse(source, NAME)
        last = [tree.body.pop()] if tree.body and isinstance(tree.body[-1], ast.Expr) else []
        exec(compile(tree, NAME, "exec", dont_inherit=True), module.__dict__)
        exec(compile(ast.Interactive(last), NAME, "single", dont_inherit=True), module.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename != NAME:
            frames = frames.tb_next
        traceback.print_exception(error.with_traceback(frames))
        sys.exit(1)
