"""What runs inside a sandbox: it limits itself, says that it has begun, and runs the code that it is given.

It is handed to an interpreter as text, so it knows the standard library only, and of that what starts at once: most of
a call is the time that imports take.
"""
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false

import _ast
import os
import sys

NAME = "<code>"
ONLY_PARSE = 0x400  # ast.PyCF_ONLY_AST


def main():
    """Arguments: NAME=VALUE for each limit. Standard input: the code. Writes one byte when it begins.

    Limits are set here, inside: the kernel counts processes for each user and namespace.
    """
    import resource

    limits = [argument.split("=") for argument in sys.argv[1:]]
    del sys.argv[1:]
    source = sys.stdin.buffer.read().decode()
    for name, value in limits:
        limit = getattr(resource, name)
        allowed = resource.getrlimit(limit)[1]
        value = int(value) if allowed == resource.RLIM_INFINITY else min(int(value), allowed)
        resource.setrlimit(limit, (value, value))
    os.write(1, b"\n")
    run(source)


def run(source):
    """Run the code as a module; the value of a last expression is printed, as in an interactive session."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    module = sys.modules["__main__"] = type(sys)("__main__")
    try:
        tree = compile(source, NAME, "exec", ONLY_PARSE, dont_inherit=True)
        last = [tree.body.pop()] if tree.body and isinstance(tree.body[-1], _ast.Expr) else []
        exec(compile(tree, NAME, "exec", dont_inherit=True), module.__dict__)
        exec(compile(_ast.Interactive(last), NAME, "single", dont_inherit=True), module.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        if isinstance(error, (MemoryError, OSError)):
            module.__dict__.clear()  # what it holds: there has to be room for what follows
        import linecache
        import traceback

        linecache.cache[NAME] = (len(source), None, source.splitlines(keepends=True), NAME)
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename != NAME:
            frames = frames.tb_next
        traceback.print_exception(error.with_traceback(frames))
        sys.exit(1)
