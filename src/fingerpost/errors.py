"""The one family of errors: every error that fingerpost raises on purpose is a FingerpostError.

Children also inherit from the built-in that a torch user would expect (ValueError, TypeError,
ImportError, …), so that existing ``except`` clauses keep working. A message says what was asked, what was
received (shape or value), and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable


class FingerpostError(Exception):
    """Base of every error that fingerpost raises on purpose."""


class InvalidValueError(FingerpostError, ValueError):
    """An argument has a value outside its range; the message names the argument, the value and the range."""


class ShapeError(FingerpostError, ValueError):
    """Shapes do not fit; the message names the tensor, its shape and the shape that was expected."""


class InvalidTypeError(FingerpostError, TypeError):
    """An argument has the wrong type; the message names the argument, its type and the one expected."""


class NumericalError(FingerpostError, ArithmeticError):
    """A computation became non-finite or diverged; the message names where, when and the figure reached."""


class MissingExtraError(FingerpostError, ImportError):
    """An optional dependency is not installed; the message gives the command that installs it."""


class RunError(FingerpostError):
    """A run folder cannot be read, written or resumed; the message names the path."""


class ConfigError(FingerpostError, ValueError):
    """A command line or configuration is wrong; shown in one line, exit status 2."""


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Suggests the candidate nearest to `word`, as the end of an error message.

    Args:
      word: What was asked for and not found.
      candidates: What could have been meant.

    Returns:
      ``"; did you mean 'x'?"``, or nothing when no candidate is near.

    >>> did_you_mean("rnu", ["run", "report"])
    "; did you mean 'run'?"
    >>> did_you_mean("zebra", ["run", "report"])
    ''
    """
    from difflib import get_close_matches  # costs milliseconds, and only a mistake needs it

    near = get_close_matches(word, list(candidates), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def counted(number: int, noun: str) -> str:
    """A number with its noun, so that messages don't say "1 rows".

    >>> counted(1, "row"), counted(2, "row"), counted(0, "entry")
    ('1 row', '2 rows', '0 entries')
    """
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun[:-1]}ies" if noun.endswith("y") else f"{number} {noun}s"


class AlignmentError(FingerpostError, AssertionError):
    """A learning signal did not pass its audit; the message is the audit's report."""
