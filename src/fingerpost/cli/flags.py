"""The second stage: a command's flags from a frozen dataclass, by tyro, with one-line errors and examples."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import shutil
import textwrap
import typing
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

import tyro

from fingerpost.cli.commands import HelpShown
from fingerpost.errors import ConfigError, did_you_mean

FlagsT = TypeVar("FlagsT")

Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]
"""A boolean flag that is off unless given: ``--json``, and no ``--no-json``."""


class Help(NamedTuple):
    """What a command's ``--help`` says around its flags.

    Args:
      command: The words before the flags, ``"run ep-digits"``.
      description: What the command does, in a few sentences.
      examples: Command lines to copy, one a line.
    """

    command: str
    description: str
    examples: str


def parse(
    flags: type[FlagsT], arguments: Sequence[str], about: Help, default: FlagsT | None = None
) -> FlagsT:
    """Reads a command line into a dataclass.

    Args:
      flags: A dataclass; its fields become flags, their docstrings the help.
      arguments: The words after the command.
      about: The texts of ``--help``.
      default: The values of the flags that are not given; the dataclass's own by default.

    Returns:
      The dataclass, filled.

    Raises:
      ConfigError: If a flag is unknown (the nearest is suggested), or a value is missing or wrong.
      HelpShown: If help was asked for; it has been printed.
    """
    out, err = _utf8(), _utf8()
    extra: dict[str, Any] = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            return tyro.cli(
                flags,
                args=list(arguments),
                prog=f"fingerpost {about.command}",
                description=about.description,
                **extra,
            )
    except SystemExit as stop:
        if not stop.code:
            print(f"{wrapped(_text(out))}\n\nexamples:\n{textwrap.indent(about.examples, '  ')}")
            raise HelpShown from None
        raise ConfigError(_explain(_text(err), flags, arguments, about.command)) from None
    except (TypeError, ValueError) as error:  # a dataclass that refuses its own values
        raise ConfigError(str(error)) from error


def _utf8() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # tyro draws its boxes by the stream's encoding


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read().rstrip()


def wrapped(text: str) -> str:
    """Breaks lines longer than the terminal; boxes fit it already."""
    width = min(100, shutil.get_terminal_size().columns)
    return "\n".join(textwrap.fill(line, width) if len(line) > width else line for line in text.splitlines())


def _explain(box: str, flags: type, arguments: Sequence[str], command: str) -> str:
    """Turns tyro's boxed message into one line; an unknown flag gets the nearest known one."""
    known = [*flag_names(flags), "--help"]
    for word in arguments:
        name = word.partition("=")[0].replace("_", "-")
        if name.startswith("--") and name not in known:
            hint = did_you_mean(name, known) or f"; fingerpost {command} --help lists the flags"
            return f"fingerpost {command} has no flag {name}{hint}"
    message = _first_paragraph(box)
    stray = re.match(r"Unrecognized options: (\S+?)(,|$)", message)
    if stray:
        message = f"fingerpost {command} does not expect {stray[1]!r}"
    elif message.startswith("Missing from"):
        missing = re.findall(r"^│ {5}(\S+)", box.partition("For full")[0], re.MULTILINE)
        message = f"fingerpost {command} needs {' '.join(missing)}"
    return f"{message} (fingerpost {command} --help)"


def _first_paragraph(box: str) -> str:
    """Returns the text of a box drawn by tyro, up to its first rule."""
    lines: list[str] = []
    for line in box.splitlines():
        text = line.strip("│┃|╭╮╰╯ ")
        if not text or set(text) <= set("─━-"):
            if lines:
                break
        elif not line.startswith(("╭", "╰", "+")):
            lines.append(text)
    return " ".join(" ".join(lines).split()) or "the command line is wrong"


def flag_names(flags: type, prefix: str = "") -> list[str]:
    """Lists the flags that a dataclass gives: ``--data``, for a boolean ``--no-big`` too; no positionals."""
    names: list[str] = []
    hints = typing.get_type_hints(flags, include_extras=True)
    for field in dataclasses.fields(flags):
        kind = hints[field.name]
        inner = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
        marks = getattr(kind, "__metadata__", ())
        name = f"{prefix}{field.name.replace('_', '-')}"
        if tyro.conf.Positional in marks:
            continue
        if dataclasses.is_dataclass(inner):
            flat = tyro.conf.arg(name="") in marks
            names += flag_names(typing.cast(type, inner), prefix if flat else f"{name}.")
            continue
        names.append(f"--{name}")
        if inner is bool and tyro.conf.FlagCreatePairsOff not in marks:
            names.append(f"--{prefix}no-{field.name.replace('_', '-')}")
    return names


def together(**parts: Any) -> Any:
    """Makes one dataclass of several, their flags side by side without prefixes.

    Args:
      parts: Dataclass instances; their values are the defaults. Two with a field of one name are refused.

    Returns:
      An instance whose attributes are the parts.
    """
    owner: dict[str, str] = {}
    for part in parts.values():
        for field in dataclasses.fields(part):
            if field.name in owner:
                raise ConfigError(
                    f"{type(part).__module__}.{type(part).__name__} has a field {field.name!r}, "
                    f"which is a flag of {owner[field.name]} already: give it another name"
                )
            owner[field.name] = type(part).__name__
    flat = [(name, Annotated[type(part), tyro.conf.arg(name="")]) for name, part in parts.items()]
    return dataclasses.make_dataclass("Flags", flat, frozen=True)(**parts)
