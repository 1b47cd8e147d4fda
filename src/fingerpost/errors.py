"""The one family of errors: every error that fingerpost raises on purpose is a FingerpostError.

Children also inherit from the built-in that a torch user would expect (ValueError, TypeError,
ImportError, …), so that existing ``except`` clauses keep working. A message says what was asked, what was
received (shape or value), and what to do.
"""

from __future__ import annotations


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
