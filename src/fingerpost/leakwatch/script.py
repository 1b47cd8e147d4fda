"""A user's own script under the guard, as Python would run it."""

from __future__ import annotations

import os
import sys
import traceback
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from fingerpost.leakwatch._aside import scripted_note
from fingerpost.leakwatch._guard import LeakGuard
from fingerpost.leakwatch._report import LeakReport


class Watched(NamedTuple):
    """What came of a script.

    Args:
      status: The status that it ended with by itself.
      report: What the guard saw; None in a child process that the script has forked.
    """

    status: int
    report: LeakReport | None


def watch_script(script: str | Path, arguments: Sequence[str] = ()) -> Watched:
    """Runs a script as ``python script`` does, under a `LeakGuard` that only records.

    The script is ``__main__``, its folder comes first on the import path, and ``sys.argv`` is the script's; all three are
    put back. A traceback goes to stderr, without the frames of the guard.

    Args:
      script: A Python file.
      arguments: What follows the script on its command line.

    Returns:
      Its status and the report.

    Raises:
      OSError: If the file can't be read.
      SyntaxError: If it is not Python.
    """
    file, process = os.path.abspath(script), os.getpid()
    with open(file, "rb") as stream:
        code = compile(stream.read(), file, "exec", dont_inherit=True)
    guard = LeakGuard("record")
    with _as_main(file, [str(script), *arguments]) as module:
        try:
            with guard:
                exec(code, module.__dict__)
            status = 0
        except SystemExit as stop:
            status = _status(stop.code)
        except KeyboardInterrupt:
            status = 130
        except BaseException as error:
            status = 1
            _show(error)
    if os.getpid() != process:
        return Watched(status, None)
    guard.report.notes += scripted_note()
    return Watched(status, guard.report)


@contextmanager
def _as_main(file: str, argv: list[str]) -> Iterator[types.ModuleType]:
    module = types.ModuleType("__main__")
    vars(module).update(__file__=file, __builtins__=__builtins__, __cached__=None)
    before, old_argv, old_path = sys.modules.get("__main__"), sys.argv, list(sys.path)
    sys.modules["__main__"], sys.argv = module, argv
    sys.path.insert(0, os.path.dirname(file))
    try:
        yield module
    finally:
        sys.argv, sys.path[:] = old_argv, old_path
        if before is not None:
            sys.modules["__main__"] = before


def _status(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def _show(error: BaseException) -> None:
    """As Python shows an error that ends a script; its first frame here is ours."""
    trace = error.__traceback__
    shown = error.with_traceback(trace.tb_next if trace is not None else None)
    hook = sys.excepthook
    if hook is sys.__excepthook__:
        traceback.print_exception(type(shown), shown, shown.__traceback__)
    else:
        hook(type(shown), shown, shown.__traceback__)
