"""Your own sequences, predicted: TD(λ) beside Widrow–Hoff and regression, held out, calibrated, over time."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.errors import ConfigError, FingerpostError, counted
from fingerpost.experiments import _td_own_fits as fits
from fingerpost.experiments import _td_own_results as results
from fingerpost.lab import Run, derive_seed

torch = lazy_import("torch")
td = lazy_import("fingerpost.td")
weather = lazy_import("fingerpost.experiments._td_weather")

SUFFIXES = (".csv", ".tsv", ".txt")
FEWEST = 10


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      data: Your table, one observation a row in the order of time: .csv, .tsv or .txt, with a column that names the
        sequence, columns of features, and the outcome in all rows of a sequence or in its last. Without, made-up weather.
      sequence: The column that says which sequence a row belongs to.
      outcome: The column of outcomes.
      features: Names of the columns to predict from, separated by commas; all others unless given.
      seed: Gives folds, orders and the made-up weather.
      folds: Parts of the sequences; each is predicted by what was learnt on the others.
      lambdas: λ that are compared, 1 the last.
      repeats: Random orders in which few sequences are learnt from.
      spells: Sequences of the made-up weather.
      noise: Noise of its instruments; the more there is, the less a single observation says, and the worse for small λ.
    """

    data: str = ""
    sequence: str = "sequence"
    outcome: str = "outcome"
    features: str = ""
    seed: int = 0
    folds: int = 10
    lambdas: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    repeats: int = 40
    spells: int = 600
    noise: float = 1.0


PRESETS = {
    "quick": Config(folds=5, lambdas=(0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0), repeats=16, spells=240),
    "full": Config(),
}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work, among them a missing file; imports no torch."""
    if config.data:
        path = Path(config.data).expanduser()
        if path.suffix.lower() not in SUFFIXES:
            raise ConfigError(
                f"{config.data} ends in {path.suffix!r}; --data takes a table: {', '.join(SUFFIXES)}"
            )
        if not path.is_file():
            raise ConfigError(
                f"there is no file {config.data!r}; --data takes a table: {', '.join(SUFFIXES)}"
            )
    if config.folds < 2:
        raise ConfigError(f"folds is {config.folds}; held-out sequences need at least 2")
    lambdas = config.lambdas
    if not lambdas or lambdas[-1] != 1 or lambdas[0] != 0 or list(lambdas) != sorted(set(lambdas)):
        raise ConfigError(
            f"lambdas are {lambdas}; give them in order, from 0 (the next prediction) to 1 (Widrow–Hoff)"
        )
    if config.repeats < 2:
        raise ConfigError(f"repeats is {config.repeats}; intervals need at least 2 orders")
    if config.spells < max(FEWEST, 2 * config.folds) or not config.noise >= 0:
        raise ConfigError(
            f"spells={config.spells}, noise={config.noise}; for {config.folds} folds made-up weather has at least "
            f"{max(FEWEST, 2 * config.folds)} spells, and its noise is 0 or more"
        )


def load(config: Config) -> Any:
    """The sequences as a `SequenceTable`; what is wrong with a file is a ConfigError."""
    if not config.data:
        return weather.spells(config.spells, config.seed, config.noise)
    names = [name.strip() for name in config.features.split(",") if name.strip()]
    path = Path(config.data).expanduser()
    try:
        table = td.read_sequences(
            path, sequence=config.sequence, outcome=config.outcome, features=names or None
        )
    except FingerpostError as error:
        raise ConfigError(_with_flags(str(error))) from error
    check_table(config, table)
    return table


def _with_flags(message: str) -> str:
    """What the reader says of its arguments, in the words of the command line."""
    message = message.replace("by naming the features", "with --features")
    if "has no column" in message:
        message += "; --sequence, --outcome and --features say which is which"
    return message


def check_table(config: Config, table: Any) -> None:
    """Raises ConfigError where nothing can be learnt, or nothing held out."""
    needed = max(FEWEST, 2 * config.folds)
    if len(table) < needed:
        raise ConfigError(
            f"{config.data} has {counted(len(table), 'sequence')}: at least {needed} are needed for {config.folds} "
            f"folds, and never fewer than {FEWEST}; lower --folds, or give more"
        )
    outcomes = {float(row.outcome) for row in table}
    if len(outcomes) == 1:
        raise ConfigError(
            f"{config.data}: every sequence has the outcome {outcomes.pop():g}; there is nothing to predict"
        )
    if not varying(table):
        raise ConfigError(f"{config.data}: every feature is constant; there is nothing to predict from")


def varying(table: Any) -> list[str]:
    """Names of the features that are not constant."""
    first = table.sequences[0].observations[0]
    moved = torch.stack([(row.observations != first).any(0) for row in table]).any(0)
    return [name for name, moves in zip(table.features, moved.tolist()) if moves]


def run(config: Config, run: Run) -> None:
    """Fits, predicts sequences that were held out, writes predictions.csv, measures, and states what held."""
    table = load(config)
    fold = fits.parts(len(table), config.folds, derive_seed(config.seed, "folds"))
    found = run.once(
        "held-out", lambda: fits.cross_validate(table.sequences, fold, config.lambdas, config.seed)
    )
    sizes = fits.sizes_of(len(table))
    few = run.once(
        "few", lambda: fits.from_few(table.sequences, sizes, config.repeats, config.lambdas, config.seed)
    )
    _describe(config, table, run)
    write(run.directory / "predictions.csv", config, table, fold.tolist(), found["predictions"])
    results.show(config, run, table, found, sizes, few)


def _describe(config: Config, table: Any, run: Run) -> None:
    name = (
        Path(config.data).name
        if config.data
        else "Made-up spells of changeable weather; the outcome is 1 for rain"
    )
    lengths = [len(row.observations) for row in table]
    flat = [feature for feature in table.features if feature not in varying(table)]
    run.text(
        "The sequences",
        f"{name}: {len(table)} sequences of {min(lengths)} to {max(lengths)} observations ({sum(lengths)} in all), features "
        f"{', '.join(table.features)}.{' Constant, and of no use: ' + ', '.join(flat) + '.' if flat else ''} Features are "
        "scaled by the training rows, and a constant is added. predictions.csv in the run's folder has every prediction of a "
        f"held-out sequence, in {config.folds} folds.",
    )


def write(path: Path, config: Config, table: Any, fold: list[int], predictions: dict[str, Any]) -> None:
    """One row for each observation: its sequence, step, fold, outcome, and what each method predicted."""
    names = [name for name in fits.METHODS if name != "mean"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([config.sequence, "step", "fold", config.outcome, *names])
        for place, (name, row) in enumerate(zip(table.ids, table)):
            for step in range(len(row.observations)):
                values = [f"{predictions[method][place][step]:.6g}" for method in names]
                writer.writerow([name, step + 1, fold[place] + 1, f"{float(row.outcome):.12g}", *values])
