"""An experiment's settings: presets, a JSON file, a run that stands already, typed flags."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from fingerpost.cli.flags import Help, parse, together
from fingerpost.errors import ConfigError, did_you_mean
from fingerpost.experiments import Entry

OptionsT = TypeVar("OptionsT")


class Settings(NamedTuple):
    """What a command line says about one experiment.

    Args:
      options: The command's own flags.
      config: The experiment's resolved configuration.
      preset: The name of the preset that it came from.
    """

    options: Any
    config: Any
    preset: str


def peek(arguments: Sequence[str], flag: str) -> str | None:
    """Returns the value of a flag before the flags are parsed: it decides what the others' defaults are."""
    value = None
    for word, following in zip(arguments, [*arguments[1:], None]):
        if word == flag and following is not None:
            value = following
        elif word.startswith(f"{flag}="):
            value = word.partition("=")[2]
    return value


def read_settings(
    options: Any,
    arguments: Sequence[str],
    entry: Entry,
    module: ModuleType,
    about: Help,
    standing: Path | None,
) -> Settings:
    """Reads a command's flags and an experiment's configuration from one command line.

    The later wins: the full preset; a run that stands already; ``--preset``; ``--config-json``; typed flags.

    Args:
      options: The command's own flags, a dataclass instance with ``preset`` and ``config_json``.
      arguments: The words after the experiment's name.
      entry: The experiment's row.
      module: The experiment.
      about: The texts of ``--help``.
      standing: A run folder, whose settings are the defaults when there is a run in it.

    Raises:
      ConfigError: If a flag, a preset or a setting is unknown or wrong, or the experiment refuses it.
    """
    preset, base = _starting_point(module, peek(arguments, "--preset"), standing)
    file = peek(arguments, "--config-json")
    if file is not None:
        base = config_from_mapping(_read_mapping(Path(file)), base, f"{file} ({entry.name})")
    options = dataclasses.replace(options, preset=preset)
    both = together(options=options, config=base)
    parsed = parse(type(both), arguments, about, default=both)
    if hasattr(module, "check"):
        module.check(parsed.config)
    return Settings(parsed.options, parsed.config, preset)


def _starting_point(module: ModuleType, preset: str | None, standing: Path | None) -> tuple[str, Any]:
    presets: dict[str, Any] = module.PRESETS
    if preset is not None:
        if preset not in presets:
            hint = did_you_mean(preset, presets) or f"; there are {', '.join(presets)}"
            raise ConfigError(f"there is no preset {preset!r}{hint}")
        return preset, presets[preset]
    preset = "full" if "full" in presets else next(iter(presets))
    if standing is None or not (standing / "manifest.json").exists():
        return preset, presets[preset]
    from fingerpost.lab import RunFolder

    manifest = RunFolder(standing).manifest
    config = config_from_mapping(manifest["config"], presets[preset], f"{standing}/manifest.json")
    return str(manifest.get("preset", preset)), config


def _read_mapping(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} must hold one JSON object, and holds a {type(value).__name__}")
    return value


def config_from_mapping(values: Mapping[str, Any], base: OptionsT, source: str) -> OptionsT:
    """Makes a configuration from JSON values, each checked like the flag of its name.

    Args:
      values: Settings by name; those absent keep the value of `base`.
      base: The configuration to start from.
      source: Where the values come from, for messages.

    Raises:
      ConfigError: If a setting is unknown or has a wrong value; the message names `source`.
    """
    known = [field.name for field in dataclasses.fields(base)]  # pyright: ignore[reportArgumentType]
    for name in values:
        if name not in known:
            raise ConfigError(f"{source} has a setting {name!r}, which is not one{did_you_mean(name, known)}")
    words = [word for name, value in values.items() for word in as_words(name, value)]
    try:
        return parse(type(base), words, Help("run", "", ""), default=base)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def as_words(name: str, value: Any) -> list[str]:
    """Writes one setting as the words of its flag: ``("sigma", 0.5)`` gives ``["--sigma=0.5"]``."""
    name = name.replace("_", "-")
    if isinstance(value, bool):
        group, dot, leaf = name.rpartition(".")
        return [f"--{name}" if value else f"--{group}{dot}no-{leaf}"]
    if isinstance(value, Mapping):
        return [word for key, inner in value.items() for word in as_words(f"{name}.{key}", inner)]
    if isinstance(value, (list, tuple)):
        return [f"--{name}", *(str(item) for item in value)]
    return [f"--{name}={value}"]
