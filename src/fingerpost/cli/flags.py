"""The second stage: a command's flags from a frozen dataclass, by tyro, with one-line errors and help with examples."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import textwrap
import typing
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

import tyro

from fingerpost.cli.commands import HelpShown
from fingerpost.errors import ConfigError, did_you_mean

FlagsT = TypeVar("FlagsT")


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


def parse(flags: type[FlagsT], arguments: Sequence[str], about: Help, default: FlagsT | None = None) -> FlagsT:
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
    out, err = io.StringIO(), io.StringIO()
    extra = {} if default is None else {"default": default}
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
            print(f"{out.getvalue().rstrip()}\n\nexamples:\n{textwrap.indent(about.examples, '  ')}")
            raise HelpShown from None
        raise ConfigError(_explain(err.getvalue(), flags, about.command)) from None
    except (TypeError, ValueError) as error:  # a dataclass that refuses its own values
        raise ConfigError(str(error)) from error


def _explain(box: str, flags: type, command: str) -> str:
    """Turns tyro's boxed message into one line; unknown flags get the nearest known one."""
    message = _first_paragraph(box)
    unknown = message.partition("nrecognized options: ")[2].replace(",", " ").split()
    if not unknown:
        return f"{message} (fingerpost {command} --help)"
    word = unknown[0]
    if not word.startswith("-"):
        return f"fingerpost {command} does not expect {word!r} (fingerpost {command} --help)"
    known = flag_names(flags)
    hint = did_you_mean(word, known) or f"; fingerpost {command} --help lists the flags"
    return f"fingerpost {command} has no flag {word}{hint}"


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
    """Lists the flags that a dataclass gives: ``--run-dir``, and ``--no-strict`` for a boolean; positionals not."""
    names: list[str] = []
    hints = typing.get_type_hints(flags, include_extras=True)
    for field in dataclasses.fields(flags):
        kind = hints[field.name]
        inner = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
        name = f"{prefix}{field.name.replace('_', '-')}"
        if tyro.conf.Positional in getattr(kind, "__metadata__", ()):
            continue
        if dataclasses.is_dataclass(inner):
            flat = tyro.conf.arg(name="") in getattr(kind, "__metadata__", ())
            names += flag_names(inner, prefix if flat else f"{name}.")
            continue
        names.append(f"--{name}")
        if inner is bool:
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
