"""What the guard found, for a person and for a machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from fingerpost.errors import FingerpostError


class LeakWarning(UserWarning):
    """A line keeps memory for ever; the message names it, the ring of references, the bytes and the cure."""


class LeakError(FingerpostError, RuntimeError):
    """A line keeps memory for ever; raised by a guard in mode ``"raise"``, right after the line's in-place call.

    Attributes:
      leak: The `Leak`.
    """

    def __init__(self, leak: Leak) -> None:
        super().__init__(str(leak))
        self.leak = leak

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.leak,)


@dataclass
class Leak:
    """One line that keeps memory.

    Args:
      file: The file of the line: the innermost one that is not torch's.
      line: Its number.
      function: The function that it is in.
      source: The line itself, or nothing where there is no file.
      operation: The in-place call, or the attribute of a ctx.
      tensor: Shape, type and device of the tensor that changed.
      ring: The references that keep it, from the tensor back to the tensor.
      nbytes: Bytes that one pass of the line keeps; the first pass is measured.
      cure: What to write instead.
      kind: ``"in-place"``, or ``"ctx"`` for a custom Function that keeps its own output.
      count: Passes that were seen.
    """

    file: str
    line: int
    function: str
    source: str
    operation: str
    tensor: str
    ring: tuple[str, ...]
    nbytes: int
    cure: str
    kind: str = "in-place"
    count: int = 1

    def __str__(self) -> str:
        passes = (
            "" if self.count == 1 else f"; {self.count:,} passes, {amount(self.count * self.nbytes)} in all"
        )
        until = ", at least until Python's collector has run for each layer" if self.kind == "ctx" else ""
        lines = [
            f"{self.file}:{self.line}: {self.function} keeps {amount(self.nbytes)} at each pass{passes}{until}",
            f"  line   {self.source}" if self.source else "",
            f"  ring   {' → '.join(self.ring)}",
            f"  tensor {self.tensor}, by {self.operation}",
            f"  cure   {self.cure}",
        ]
        return "\n".join(line for line in lines if line)


@dataclass
class LeakReport:
    """All that a guard saw.

    Args:
      leaks: One for each line.
      calls: In-place calls that were examined.
      notes: Where the guard stepped aside, a line each.
    """

    leaks: list[Leak] = field(default_factory=list)
    calls: int = 0
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if self.leaks:
            count = len(self.leaks)
            head = f"leakwatch: {count} line{'s' * (count > 1)} that keep{'s' * (count == 1)} memory"
        else:
            head = f"leakwatch: no leak; {self.calls:,} in-place calls on graphs examined"
        return "\n".join([head, *map(str, self.leaks), *(f"  note   {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, for JSON."""
        return asdict(self)


def amount(size: float) -> str:
    """A number of bytes for a person.

    >>> amount(512), amount(11_000_000)
    ('512 B', '11 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.3g} {unit}"
