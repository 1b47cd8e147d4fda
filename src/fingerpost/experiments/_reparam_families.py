"""The distributions of the experiment reparam-accuracy: the table of references of each, how it is made, and its target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fingerpost._lazy import lazy_import
from fingerpost.experiments import references

torch = lazy_import("torch")
distributions = lazy_import("fingerpost.distributions")

Parameters = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """A distribution and its references.

    Args:
      name: The class in fingerpost.distributions.
      table: The table of references.
      axis: What the errors are drawn against: a label, and the figure from a table's columns.
      target: The largest relative error of a float64 velocity that is aimed at.
      rows: Which rows of the table are this distribution's.
      aimed: Which of those the target is stated for.
      fixed: Parameters that samples do not move with, given to the constructor.
      vector: How many components a mixture has; its parameters are stacked along the last axis.
    """

    name: str
    table: str
    axis: tuple[str, Callable[[Any], Any]]
    target: float = 1e-11
    rows: Callable[[Any], Any] | None = None
    aimed: Callable[[Any], Any] | None = None
    fixed: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    vector: int = 0

    def load(self) -> Any:
        """This distribution's rows of its table."""
        table = references.load(self.table)
        return table if self.rows is None else table.where(self.rows(table))

    def moved(self, table: Any) -> tuple[str, ...]:
        """The parameters that samples move with, as the table names them."""
        return tuple(name for name in table.parameters if name not in (*self.fixed, *self.dropped))

    def parameters(self, table: Any, dtype: Any) -> Parameters:
        """The constructor's arguments as tensors, (rows,) each; those of a mixture by the table's columns."""
        kept = [name for name in table.parameters if name not in self.dropped]
        return {name: torch.tensor(table[name], dtype=torch.float64).to(dtype) for name in kept}

    def make(self, parameters: Parameters) -> Any:
        """The distribution, one member a row."""
        if not self.vector:
            return getattr(distributions, self.name)(**parameters)
        stacked = {
            key: torch.stack([parameters[f"{key}_{k}"] for k in range(self.vector)], -1)
            for key in ("logits", "loc", "scale")
        }
        return distributions.MixtureSameFamily(
            torch.distributions.Categorical(logits=stacked["logits"]),
            torch.distributions.Normal(stacked["loc"], stacked["scale"]),
        )

    def velocity(self, distribution: Any, value: Any) -> dict[str, Any]:
        """dz/dθ by the table's names."""
        found = distribution.velocity(value)
        if not self.vector:
            return found
        return {f"{key}_{k}": v[..., k] for key, v in found.items() for k in range(self.vector)}


def _signal(table: Any) -> Any:
    return table["loc"] / table["scale"]


def _truncation(table: Any) -> Any:
    """How far the nearer end of the window lies from the centre, in scales; 0 if the window holds the centre."""
    low, high = ((table[end] - table["loc"]) / table["scale"] for end in ("low", "high"))
    return np.maximum(np.maximum(low, -high), 0)


FAMILIES = (
    Family(
        "Rice", "noncentral_chi", ("loc / scale", _signal), rows=lambda t: t["df"] == 2, dropped=("df",)
    ),
    Family(
        "FoldedNormal", "noncentral_chi", ("loc / scale", _signal), rows=lambda t: t["df"] == 1, dropped=("df",)
    ),
    Family(
        "NoncentralChi", "noncentral_chi", ("loc / scale", _signal), rows=lambda t: t["df"] > 2, fixed=("df",)
    ),
    Family("VonMises", "von_mises", ("concentration", lambda t: t["concentration"])),
    Family("TruncatedNormal", "truncated_normal", ("truncation, in scales", _truncation)),
    Family("StudentT", "student_t", ("df", lambda t: t["df"])),
    Family("Gamma", "gamma", ("concentration", lambda t: t["concentration"])),
    Family(
        "Beta",
        "beta",
        ("smaller concentration", lambda t: np.minimum(t["concentration0"], t["concentration1"])),
        target=1e-10,
        aimed=lambda t: np.minimum(t["concentration0"], t["concentration1"]) >= 0.0999,
    ),
    Family(
        "MixtureSameFamily", "mixture_normal", ("value", lambda t: np.abs(t["value"])), vector=3
    ),
)  # fmt: skip
