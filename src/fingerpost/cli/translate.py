"""``fingerpost translate RUN < in.txt``: lines in, lines out, by the model that a run has trained."""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from fingerpost.cli.flags import Help, Switch, parse
from fingerpost.errors import ConfigError, InvalidValueError

if TYPE_CHECKING:
    from fingerpost.attention import Translation

_HELP = Help(
    "translate",
    "Translates the lines of standard input, one line out for each line in; an empty line stays empty. RUN is a run that "
    "trained a translator: an identifier from fingerpost ls, the beginning of one, a path, or a folder that "
    "Translator.save wrote.",
    "fingerpost translate my-run < in.txt > out.txt\n"
    "fingerpost translate my-run --width 12 --alignments pictures < in.txt",
)
_AT_ONCE = 1024
"""Lines that are read before the first of them is translated: enough for batches of like lengths."""


@dataclass(frozen=True)
class Flags:
    """Flags of ``fingerpost translate``."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run's identifier, the beginning of it, its folder, or a translator's folder."""
    width: int = 5
    """Hypotheses of a sentence that the beam holds; 1 is greedy."""
    usual: Switch = False
    """The usual beam, from which outputs take no place, in place of the paper's, which narrows."""
    by_length: Switch = False
    """Order outputs by their log-probability a word, not by its sum."""
    unknown: Switch = False
    """Allow unknown words in outputs."""
    alignments: Path | None = None
    """A folder for a picture of each line's alignment, named by the line's number."""
    json: Switch = False
    """Print one JSON object per line, with score, words and alignment, for machines."""


def main(arguments: list[str]) -> int:
    """Translates standard input."""
    flags = parse(Flags, arguments, _HELP)
    if flags.width < 1:
        raise ConfigError(f"--width is {flags.width}; expected at least 1")
    if flags.alignments is not None and flags.alignments.exists() and not flags.alignments.is_dir():
        raise ConfigError(f"--alignments names {flags.alignments}, which is a file; give a folder")
    from fingerpost.attention import SearchOptions, Translator

    translator = Translator.load(_folder(flags.run))
    if flags.alignments is not None and translator.model.decoder.attention is None:
        raise ConfigError("this run's model has no attention, so that --alignments has nothing to draw")
    options = SearchOptions(
        width=flags.width,
        shrink=not flags.usual,
        unknown=flags.unknown,
        normalize="length" if flags.by_length else False,
    )
    number = 0
    for lines in _chunks():
        for translation in translator.translate(lines, options):
            number += 1
            print(json_text.dumps(_row(number, translation)) if flags.json else translation.text)
            if flags.alignments is not None:
                _draw(flags.alignments, number, translation)
        sys.stdout.flush()
    return 0


def _folder(run: str) -> Path:
    """A folder that holds a translator as it is, or else a run's."""
    from fingerpost.lab import Store

    given = Path(run).expanduser()
    return given if given.is_dir() else Store().find(run)


def _chunks() -> Iterator[list[str]]:
    """Lines of standard input, many at a time; each by itself where somebody types them."""
    most = 1 if sys.stdin.isatty() else _AT_ONCE
    lines: list[str] = []
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            lines.append(line.rstrip(b"\r\n").decode("utf-8"))
        except UnicodeDecodeError as error:
            raise InvalidValueError(
                f"line {number} of the input is not UTF-8: byte {error.start + 1} is {line[error.start]:#04x}; "
                "convert the text first"
            ) from None
        if len(lines) == most:
            yield lines
            lines = []
    if lines:
        yield lines


def _row(number: int, translation: Translation) -> dict[str, Any]:
    alignment = translation.alignment
    found = {**translation._asdict(), "alignment": None if alignment is None else alignment.tolist()}
    score = translation.score if translation.score > float("-inf") else None  # JSON has no −∞
    return {"line": number, **found, "score": score}


def _draw(folder: Path, number: int, translation: Translation) -> None:
    from fingerpost.attention import alignment_svg

    if translation.alignment is None:  # an empty line
        return
    picture = alignment_svg(translation.alignment, translation.source_words, translation.target_words)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.svg").write_text(picture, encoding="utf-8")
    except OSError as error:
        raise InvalidValueError(f"{folder / f'{number}.svg'} could not be written: {error}") from error
