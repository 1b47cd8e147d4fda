"""Importing experiments, and users' own files, by path."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from fingerpost.errors import ConfigError, FingerpostError
from fingerpost.experiments import Entry


@contextmanager
def siblings_importable(file: Path) -> Iterator[None]:
    """Puts the folder of `file` first on the import path, as Python does for a script, for a while."""
    folder = str(file.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def load_file(path: str | Path) -> ModuleType:
    """Imports a Python file by its path; the modules beside it can be imported by it.

    Raises:
      ConfigError: If there is no such file, or importing it fails; the message names the file and the line.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"there is no file {str(path)!r}")
    name = f"_fingerpost_user_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{str(path)!r} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and typing look their module up there
    try:
        with siblings_importable(file):
            spec.loader.exec_module(module)
    except FingerpostError:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ConfigError(f"{path} cannot be imported: {describe_failure(error, file)}") from error
    return module


def describe_failure(error: BaseException, file: Path) -> str:
    """Says in one line what went wrong in a user's file, and at which of its lines."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    line = _line_in(error, file)
    return f"{what} (line {line})" if line else what


def _line_in(error: BaseException, file: Path) -> int | None:
    """Returns the last line of `file` itself that the error passed through."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(file) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def entry_of_file(path: str) -> Entry:
    """Makes the registry's row for a user's own experiment file."""
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"there is no experiment file {path!r}")
    return Entry(
        file.stem.replace("_", "-"), str(file), file.stem.replace("_", " "), f"Your own, in {path}.", ()
    )


def load_entry(entry: Entry) -> ModuleType:
    """Imports the module of a registry row and checks its parts."""
    if entry.is_file:
        module = load_file(entry.module)
    else:
        module = importlib.import_module(entry.module)
    _check_shape(module, entry.module)
    return module


def _check_shape(module: ModuleType, source: str) -> None:
    config = getattr(module, "Config", None)
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        raise ConfigError(f"{source} is not an experiment: it needs a dataclass named Config")
    if not config.__dataclass_params__.frozen:  # pyright: ignore[reportAttributeAccessIssue]
        raise ConfigError(
            f"Config in {source} must be @dataclass(frozen=True): settings do not change in a run"
        )
    if "seed" not in {field.name for field in dataclasses.fields(config)}:
        raise ConfigError(f"Config in {source} needs a field 'seed: int = 0'")
    presets = getattr(module, "PRESETS", None)
    if not isinstance(presets, dict) or not presets:
        raise ConfigError(f"{source} needs PRESETS, such as {{'quick': Config(steps=10), 'full': Config()}}")
    for name, preset in presets.items():
        if not isinstance(preset, config):
            raise ConfigError(
                f"preset {name!r} in {source} must be a Config, and is a {type(preset).__name__}"
            )
    if not callable(getattr(module, "run", None)):
        raise ConfigError(f"{source} needs a function run(config, run)")
