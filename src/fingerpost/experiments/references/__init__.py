"""Accuracy references of `fingerpost.distributions`: sample paths, densities and tails, to 20 digits.

Each CSV beside this file is one table, written by ``python -m fingerpost.experiments.references.make``.
A row holds parameters θ, a value z, and what is true AT exactly these numbers:

    d_<θᵢ>          dz/dθᵢ at fixed u = F(z; θ), that is −(∂F/∂θᵢ)/p
    dd_<θᵢ>_<θⱼ>    d²z/dθᵢdθⱼ at fixed u (total), for i ≤ j in the order of the parameters
    log_prob, cdf, sf

Parameters bear torch.distributions' names. In `von_mises` the cdf is measured from loc − π, and angles that differ by
2π are one. In `mixture_normal` the weights are softmax(logits), and the derivatives are with respect to the logits.
`noncentral_chi` has derivatives for loc and scale. `entropies_and_moments` has mean, variance and entropy by family, NaN
for a parameter that a family lacks; the variance of `von_mises` is the circular one, 1 − A(κ).

Parameters and values are doubles, printed in the shortest form that reads back as the same double; the other columns
have 21 digits. A number too small for a double is written as 0.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fingerpost.errors import InvalidValueError, did_you_mean

__all__ = ["Reference", "load", "names"]

FOLDER = Path(__file__).parent
TEXT = ("family",)  # columns of words


@dataclass(frozen=True)
class Reference:
    """One table of references.

    Args:
      name: The distribution.
      parameters: Names of the columns that hold parameters, in order.
      columns: float64 arrays (rows,) by column; `family`, where there is one, is an array of words.
    """

    name: str
    parameters: tuple[str, ...]
    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]

    @property
    def fits_float32(self) -> np.ndarray:
        """(rows,) bool: whether float32 holds the parameters and the value exactly, as normal numbers."""
        exact = np.ones(len(self), dtype=bool)
        for name in (*self.parameters, "value"):
            if name in self.columns:
                exact &= _is_single(self.columns[name])
        return exact

    def where(self, mask: np.ndarray) -> Reference:
        """The rows that `mask` (rows,) chooses, as a table."""
        return Reference(self.name, self.parameters, {key: c[mask] for key, c in self.columns.items()})


def _is_single(column: np.ndarray) -> np.ndarray:
    """Whether float32 holds each number exactly and as a normal number; absent ones (NaN) count as held."""
    with np.errstate(over="ignore"):
        same = column.astype(np.float32).astype(np.float64) == column
    normal = (column == 0) | (np.abs(column) >= np.finfo(np.float32).tiny)
    return (same & normal) | np.isnan(column)


def names() -> list[str]:
    """Names of the tables there are, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.csv"))


def load(name: str) -> Reference:
    """Loads the table `name`.

    Raises:
      InvalidValueError: If there is no such table.

    >>> table = load("gamma")
    >>> table.parameters
    ('concentration', 'rate')
    >>> bool((table["value"] > 0).all())
    True
    """
    path = FOLDER / f"{name}.csv"
    if name not in names():
        near = did_you_mean(name, names())
        raise InvalidValueError(
            f"no table of references is called {name!r}{near}: there are {', '.join(names())}"
        )
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    columns = {
        key: np.array(cells if key in TEXT else [float(cell) if cell else np.nan for cell in cells])
        for key, cells in zip(header, zip(*rows, strict=True), strict=True)
    }
    last = header.index("value") if "value" in header else header.index("mean")
    return Reference(name, tuple(key for key in header[:last] if key not in TEXT), columns)
