"""Parallel text: lines of one language beside their translations, from files."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError

_GZIP = b"\x1f\x8b"
_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
EmptyLines = Literal["refuse", "drop"]


def count_words(line: str) -> int:
    """Number of words between spaces."""
    return len(line.split())


@dataclass(frozen=True)
class ParallelText:
    """Sentences and their translations, pair by pair.

    Args:
      source: n lines.
      target: n lines.

    Raises:
      InvalidTypeError: If a line is no text, or a side is one text.
      ShapeError: If the two differ in number.
      InvalidValueError: If there are no pairs, or a line is empty; the message counts from 1.

    >>> text = ParallelText(["a red hat", "a cat"], ["un chapeau rouge", "un chat"])
    >>> len(text), text[1], text.filtered(2).source
    (2, ('a cat', 'un chat'), ('a cat',))
    >>> text.swapped().source
    ('un chapeau rouge', 'un chat')
    """

    source: Sequence[str]
    target: Sequence[str]

    def __post_init__(self) -> None:
        for name in ("source", "target"):
            object.__setattr__(self, name, _checked(name, getattr(self, name)))
        if len(self.source) != len(self.target):
            raise ShapeError(
                f"source has {len(self.source)} lines and target {len(self.target)}; line i of one must "
                "translate line i of the other"
            )
        if not self.source:
            raise InvalidValueError("a parallel text needs at least one pair")

    @classmethod
    def read(
        cls,
        source: str | Path,
        target: str | Path | None = None,
        *,
        columns: tuple[int, int] = (1, 2),
        empty: EmptyLines = "refuse",
        limit: int | None = None,
    ) -> ParallelText:
        r"""Reads two files, line by line translations of each other, or one file with tabs between the two.

        Files are UTF-8, plain or compressed by gzip, whatever their name. Lines end in a line feed, or a carriage return and a
        line feed, and in nothing else: other separators of Unicode stay inside a line, or one file would have more lines than
        the other. Spaces at both ends of a line are taken off.

        Args:
          source: The file of source lines; or of both, if there is no other.
          target: The file of target lines.
          columns: For one file, which of its cells hold source and target, counted from 1. There may be others.
          empty: "refuse" an empty line, or "drop" its pair.
          limit: Most words, between spaces, of a line; None for any number. `filtered` leaves longer ones out instead.

        Raises:
          InvalidValueError: If there is no such file, it can't be decompressed or decoded, the two differ in their number of
            lines, a line is empty, is longer than the limit or lacks a cell; the message names the file and the line.

        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "pairs.tsv"
        >>> _ = file.write_text("a cat\tun chat\na hat\tun chapeau\n")
        >>> ParallelText.read(file).target
        ('un chat', 'un chapeau')
        """
        if empty not in ("refuse", "drop"):
            raise InvalidValueError(f"empty is {empty!r}; expected 'refuse' or 'drop'")
        if limit is not None and limit < 1:
            raise InvalidValueError(f"limit is {limit}; it must be at least 1, or None")
        first = read_lines(source)
        if target is None:
            sides, files = _cells(Path(source), first, columns), (source, source)
        else:
            sides, files = (first, read_lines(target)), (source, target)
            if len(sides[0]) != len(sides[1]):
                raise InvalidValueError(
                    f"{source} has {len(sides[0])} lines and {target} {len(sides[1])}; line i of one must translate line i of "
                    "the other: look for the first pair that does not fit"
                )
        sides = tuple([line.strip() for line in side] for side in sides)
        kept = _kept(files, sides, empty, limit)
        return cls([sides[0][i] for i in kept], [sides[1][i] for i in kept])

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(zip(self.source, self.target))

    def __getitem__(self, place: int) -> tuple[str, str]:
        return self.source[place], self.target[place]

    def select(self, places: Sequence[int]) -> ParallelText:
        """The pairs at these places, counted from 0, in this order."""
        return ParallelText([self.source[i] for i in places], [self.target[i] for i in places])

    def swapped(self) -> ParallelText:
        """The other direction."""
        return ParallelText(self.target, self.source)

    def filtered(
        self,
        max_length: int,
        *,
        min_length: int = 1,
        max_ratio: float | None = None,
        length: Callable[[str], int] = count_words,
    ) -> ParallelText:
        """The pairs whose both lines are short enough; the paper trains on at most 30 and at most 50 words.

        Args:
          max_length: Greatest length of a line.
          min_length: Least length of a line.
          max_ratio: Greatest length of one line over the other's; None for any.
          length: How a line is measured: words between spaces unless given.

        Raises:
          InvalidValueError: If no pair is left.
        """
        measured = [(length(a), length(b)) for a, b in self]
        kept = [
            i
            for i, (a, b) in enumerate(measured)
            if min_length <= min(a, b)
            and max(a, b) <= max_length
            and (max_ratio is None or max(a, b) <= max_ratio * min(a, b))
        ]
        if not kept:
            shortest = min(max(pair) for pair in measured)
            raise InvalidValueError(
                f"no pair of {len(self)} is within lengths {min_length} to {max_length}; the shortest pair's longer line has "
                f"{shortest}"
            )
        return self.select(kept)

    def split(self, held: int | float, *, seed: int = 0) -> tuple[ParallelText, ParallelText]:
        """The text in two parts drawn at random: the rest, and about `held` pairs to test on.

        Pairs with the same source stay together, so that no tested sentence was trained on; the held part may be a few pairs
        smaller for it.

        Args:
          held: Number of pairs of the second part, or their share if below 1.
          seed: Seeds the draw.

        Raises:
          InvalidValueError: If one part would be empty.
        """
        wanted = round(held * len(self)) if 0 < held < 1 else int(held)
        groups: dict[str, list[int]] = {}
        for i, line in enumerate(self.source):
            groups.setdefault(line, []).append(i)
        parts: tuple[list[int], list[int]] = ([], [])
        members = list(groups.values())
        for g in np.random.default_rng((seed, 0)).permutation(len(members)):
            fits = len(parts[1]) + len(members[g]) <= wanted
            parts[1 if fits else 0].extend(members[g])
        if not all(parts):
            raise InvalidValueError(
                f"held is {held} of {len(self)} pairs with {len(groups)} different sources; both parts need at least one pair"
            )
        rest, tested = (self.select(sorted(part)) for part in parts)
        return rest, tested

    def joined(self, count: int, *, seed: int = 0) -> ParallelText:
        """Longer sentences: `count` pairs at a time, drawn without replacement, joined by spaces on both sides.

        Args:
          count: Pairs of a joined pair; the n modulo `count` that are left over go.
          seed: Seeds the draw.

        Raises:
          InvalidValueError: If `count` is below 1 or there are fewer pairs.
        """
        if not 1 <= count <= len(self):
            raise InvalidValueError(f"count is {count}; it must be between 1 and the {len(self)} pairs")
        order = np.random.default_rng((seed, count)).permutation(len(self))
        rows = order[: len(self) // count * count].reshape(-1, count)
        source, target = ([" ".join(side[i] for i in row) for row in rows] for side in zip(*self))
        return ParallelText(source, target)


def read_lines(path: str | Path) -> list[str]:
    """The lines of a file in UTF-8, plain or compressed by gzip.

    Raises:
      InvalidValueError: If there is no such file, it is empty, or it can't be decompressed or decoded; the message names the
        line.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise InvalidValueError(f"there is no file {str(path)!r}")
    data = file.read_bytes()
    if data.startswith(_GZIP):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InvalidValueError(f"{file} can't be decompressed: {error}; was it cut short?") from None
    if data[:2] in _BOMS:
        raise InvalidValueError(f"{file} is {_BOMS[data[:2]]}; save it as UTF-8")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data:
        raise InvalidValueError(f"{file} is empty")
    rows = data.removesuffix(b"\n").split(b"\n")
    lines = []
    for number, row in enumerate(rows, 1):
        try:
            lines.append(row.removesuffix(b"\r").decode("utf-8"))
        except UnicodeDecodeError as error:
            raise InvalidValueError(
                f"{file}: line {number} is not UTF-8: byte {row[error.start]:#04x} at place {error.start + 1}; save the file "
                "as UTF-8, or take the line out of both sides"
            ) from None
    return lines


def _cells(file: Path, lines: list[str], columns: tuple[int, int]) -> tuple[list[str], list[str]]:
    if min(columns) < 1:
        raise InvalidValueError(f"columns is {columns}; cells are counted from 1")
    sides: tuple[list[str], list[str]] = ([], [])
    for number, line in enumerate(lines, 1):
        cells = line.split("\t")
        if line.strip() and len(cells) < max(columns):
            raise InvalidValueError(
                f"{file}: line {number} has {len(cells)} cells between tabs, and source and target are cells {columns[0]} and "
                f"{columns[1]}; name a second file if this one holds one language"
            )
        for side, column in zip(sides, columns):
            side.append(cells[column - 1] if len(cells) >= column else "")
    return sides


def _kept(
    files: tuple[str | Path, str | Path], sides: Sequence[list[str]], empty: EmptyLines, limit: int | None
) -> list[int]:
    """Places of the pairs to keep; raises at lines that are empty or too long."""
    gaps = [(i, k) for i in range(len(sides[0])) for k in (0, 1) if not sides[k][i]]
    if gaps and empty == "refuse":
        place, side = gaps[0]
        raise InvalidValueError(
            f"{files[side]}: line {place + 1} is empty{_on(files, side)}, the first of {len(gaps)} empty lines; take these "
            "pairs out, or read with empty='drop'"
        )
    dropped = {place for place, _ in gaps}
    kept = [i for i in range(len(sides[0])) if i not in dropped]
    if not kept:
        raise InvalidValueError(f"{files[0]} and {files[1]} hold no pair without an empty line")
    if limit is not None:
        long = [(i, k) for i in kept for k in (0, 1) if count_words(sides[k][i]) > limit]
        if long:
            place, side = long[0]
            raise InvalidValueError(
                f"{files[side]}: line {place + 1}{_on(files, side)} has {count_words(sides[side][place])} words and the limit "
                f"is {limit}; {len(long)} lines are longer: raise the limit, or leave them out by filtered({limit})"
            )
    return kept


def _on(files: tuple[str | Path, str | Path], side: int) -> str:
    """Which side of a file that holds both."""
    return "" if files[0] != files[1] else (" in the source", " in the target")[side]


def _checked(name: str, lines: Sequence[str]) -> tuple[str, ...]:
    if isinstance(lines, (str, bytes)):
        raise InvalidTypeError(f"{name} is one text; expected a list of lines: split it first")
    lines = tuple(lines)
    for number, line in enumerate(lines, 1):
        if not isinstance(line, str):
            raise InvalidTypeError(f"{name} line {number} is {type(line).__name__}; expected text")
        if not line.strip():
            raise InvalidValueError(f"{name} line {number} is empty; take the pair out")
    return lines
