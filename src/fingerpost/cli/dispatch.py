"""The command line, in two stages: this one costs nothing; tyro and torch load when a command needs them.

Exit status: 0 done; 1 an error, or a judgement that went against the subject (``audit``, ``run --strict``,
``show --verify``, ``doctor``); 2 a command line or configuration that is wrong; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from fingerpost.cli.commands import COMMANDS, HelpShown, overview
from fingerpost.errors import ConfigError, FingerpostError, did_you_mean

_FLAGS = ("--help", "--version", "--traceback")


def main(arguments: Sequence[str] | None = None) -> int:
    """Carries out one command line.

    Args:
      arguments: The words after ``fingerpost``; those of this process by default.

    Returns:
      The exit status.

    >>> main(["--version"])
    fingerpost 0.1.0
    0
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    traceback = "--traceback" in words or os.environ.get("FINGERPOST_TRACEBACK", "") not in ("", "0")
    words = [word for word in words if word != "--traceback"]
    try:
        return _dispatch(words)
    except HelpShown:
        return 0
    except FingerpostError as error:
        if traceback:
            raise
        print(f"fingerpost: {_one_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt as stop:
        print(f"\nfingerpost: {stop.args[0] if stop.args else 'stopped'}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader (head, less) left; what it did not want needs no message
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("--help", "-h", "help"):
        print(overview())
        return 0
    if words[0] in ("--version", "-V"):
        from fingerpost import __version__

        print(f"fingerpost {__version__}")
        return 0
    name = words[0]
    if name not in COMMANDS:
        kind, known = ("flag", _FLAGS) if name.startswith("-") else ("command", tuple(COMMANDS))
        hint = did_you_mean(name, known) or "; fingerpost --help lists the commands"
        raise ConfigError(f"there is no {kind} {name!r}{hint}")
    return importlib.import_module(COMMANDS[name].module).main(words[1:])


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
