"""``fingerpost audit FILE:FUNCTION``: a user's own learning signal against the true gradient."""

from __future__ import annotations

import json as json_text
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from fingerpost.cli.flags import Help, Switch, parse
from fingerpost.errors import ConfigError, FingerpostError, did_you_mean
from fingerpost.experiments.loading import describe_failure, load_file, siblings_importable

_HELP = Help(
    "audit",
    "Checks your own learning signal against the true gradient, layer by layer, and says in a sentence what "
    "is wrong with it. FUNCTION takes no arguments and returns (signal, loss, point): signal maps a point to "
    "covectors of the same shapes, loss maps a point to one number per sample, and point is a tensor, or a "
    "list or dict of tensors, with the samples along the first axis. "
    "Exit status: 0 when the signal passes, 1 when it does not, 2 when it cannot be audited.",
    "fingerpost audit my_signal.py:problem --quick\n"
    "fingerpost audit my_signal.py:problem --redraws 32 --seed 1",
)


if TYPE_CHECKING:
    from fingerpost.audit import AuditReport


@dataclass(frozen=True)
class Flags:
    """Flags of ``fingerpost audit``."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE:FUNCTION")]
    """Your file and the function in it, as FILE:FUNCTION."""
    quick: Switch = False
    """Fewer samples and the directional probe only: seconds, not minutes."""
    n: int | None = None
    """Samples to audit; None takes 256, or 64 with --quick."""
    perturbations: int = 16
    """Random directions per sample for the figure rho."""
    redraws: int = 0
    """Draws of a stochastic signal, for bias and variance; give 32 or more. 0 takes it as deterministic."""
    level: float = 0.95
    """Confidence level of the intervals, between 0 and 1."""
    seed: int = 0
    """Seed of the audit's perturbations and of torch while your function runs."""
    json: Switch = False
    """Print the report as one line of JSON, for machines."""
    strict: Switch = False
    """Do not pass a signal that is right only on average (UNBIASED_NOISY)."""


def main(arguments: list[str]) -> int:
    """Audits, prints the report, and returns 0 when the signal passes."""
    flags = parse(Flags, arguments, _HELP)
    file, name = _split(flags.target)
    try:
        report = _audit(file, name, flags)
    except ConfigError:
        raise
    except FingerpostError as error:  # could not be audited: not the same as audited and wrong
        raise ConfigError(str(error)) from error
    print(json_text.dumps(json_text.loads(report.to_json())) if flags.json else report)
    passed = report.passed and not (flags.strict and report.verdict.name == "UNBIASED_NOISY")
    return 0 if passed else 1


def _split(target: str) -> tuple[Path, str]:
    path, colon, name = target.rpartition(":")
    if not colon or not path or not name:
        raise ConfigError(
            f"fingerpost audit needs FILE:FUNCTION, such as my_signal.py:problem, and got {target!r}"
        )
    if not Path(path).is_file():
        near = [file.name for file in Path(path).parent.glob("*.py")] if Path(path).parent.is_dir() else []
        raise ConfigError(f"there is no file {path!r}{did_you_mean(Path(path).name, near)}")
    return Path(path), name


def _audit(file: Path, name: str, flags: Flags) -> AuditReport:
    import torch

    from fingerpost.audit import audit

    with torch.random.fork_rng(devices=[]), siblings_importable(file):
        torch.manual_seed(flags.seed)
        problem = _function(load_file(file), file, name)
        try:
            signal, loss, point = _problem(problem, f"{file}:{name}")
            return audit(
                signal,
                loss,
                point,
                n=flags.n,
                perturbations=flags.perturbations,
                redraws=flags.redraws,
                level=flags.level,
                quick=flags.quick,
                generator=torch.Generator().manual_seed(flags.seed),
            )
        except FingerpostError:
            raise
        except Exception as error:
            raise ConfigError(f"{file}:{name} failed: {describe_failure(error, file)}") from error


def _function(module: ModuleType, file: Path, name: str) -> Callable[[], Any]:
    function = getattr(module, name, None)
    if callable(function):
        return function
    own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    if function is not None:
        raise ConfigError(f"{name} in {file} is a {type(function).__name__}, not a function")
    functions = [key for key in own if getattr(vars(module)[key], "__module__", "") == module.__name__]
    listing = f"; it has {', '.join(functions)}" if functions else "; it defines no function"
    raise ConfigError(f"there is no function {name!r} in {file}{did_you_mean(name, own) or listing}")


def _problem(function: Callable[[], Any], place: str) -> tuple[Any, Any, Any]:
    made = function()
    if not isinstance(made, (tuple, list)) or len(made) != 3:
        size = f" of {len(made)}" if isinstance(made, (tuple, list)) else ""
        raise ConfigError(
            f"{place} must return (signal, loss, point), and returned a {type(made).__name__}{size}"
        )
    signal, loss, point = made
    for role, value in (("signal", signal), ("loss", loss)):
        if not callable(value):
            raise ConfigError(
                f"{place} must return (signal, loss, point) with a function as {role}, "
                f"and its {role} is a {type(value).__name__}"
            )
    return signal, loss, point
