"""A claim: one statement of a source, what it expects, what was measured, and whether it holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from fingerpost.errors import InvalidValueError
from fingerpost.lab.files import jsonable


@dataclass(frozen=True)
class Claim:
    """A statement that a measurement can refute.

    It holds when low ≤ measured ≤ high (decided by value), or when the whole interval lies in [low, high]
    (decided by interval). A NaN never holds.

    Args:
      name: A short identifier, unique in its run.
      statement: What is claimed, as a sentence.
      source: Where the claim comes from: paper and equation, or the file that states it.
      expected: What the source expects, as it should be shown (``"1"``, ``"≥ 0.99"``).
      measured: The measured value, in `unit`.
      low: The smallest value that agrees with the claim, or None for no bound below.
      high: The largest value that agrees with the claim, or None for no bound above.
      interval: The measured value's confidence interval (low, high), in `unit`.
      unit: The unit of all numbers, empty for a pure number.
      note: What a reader must know to judge the figure: samples, level, how it was measured.
      decided_by: ``"value"`` or ``"interval"``.

    Raises:
      InvalidValueError: If no bound is given (nothing could refute it), or an interval is needed and absent.

    Example:
      >>> Claim("gamma", "The fix points along the gradient.", "issue 2", "≥ 0.99", 0.998, low=0.99).holds
      True
    """

    name: str
    statement: str
    source: str
    expected: str | float
    measured: float
    low: float | None = None
    high: float | None = None
    interval: Sequence[float] | None = None
    unit: str = ""
    note: str = ""
    decided_by: Literal["value", "interval"] = "value"

    def __post_init__(self) -> None:
        if self.decided_by not in ("value", "interval"):
            raise InvalidValueError(
                f"claim {self.name!r}: decided_by is {self.decided_by!r}; use 'value' or 'interval'"
            )
        if self.low is None and self.high is None:
            raise InvalidValueError(
                f"claim {self.name!r} has no bound, so nothing could refute it; give low or high"
            )
        if self.decided_by == "interval" and self.interval is None:
            raise InvalidValueError(
                f"claim {self.name!r} is decided by its interval; give interval=(low, high)"
            )
        if self.interval is not None and len(self.interval) != 2:
            raise InvalidValueError(f"claim {self.name!r}: interval is {self.interval!r}; give (low, high)")

    @property
    def holds(self) -> bool:
        """Whether the measurement agrees with the claim."""
        if math.isnan(self.measured):
            return False
        if self.decided_by == "value":
            return self._inside(self.measured)
        return all(self._inside(end) for end in self.interval or (math.nan,))

    def _inside(self, value: float) -> bool:
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return bool(low <= value <= high)

    def to_json(self) -> dict[str, Any]:
        """Returns the row of ``claims.json``; a non-finite number becomes null."""
        row = {field.name: getattr(self, field.name) for field in fields(self)[:-1]}
        return jsonable({**row, "holds": self.holds, "decided_by": self.decided_by})

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Claim:
        """Makes a claim from a row of ``claims.json``; a null measurement is read as NaN."""
        known = {field.name for field in fields(cls)}
        values = {key: value for key, value in row.items() if key in known}
        if values.get("measured") is None:
            values["measured"] = math.nan
        if values.get("interval") is not None:
            values["interval"] = tuple(math.nan if end is None else end for end in values["interval"])
        return cls(**values)
