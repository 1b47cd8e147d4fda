"""Predictors of a sequence's outcome fitted on some sequences and read on others: TD(λ), Widrow–Hoff and regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.lab import derive_seed

np = lazy_import("numpy")
torch = lazy_import("torch")
td = lazy_import("fingerpost.td")

INNER = 4
"""Parts into which training sequences are cut to choose λ, α and the ridge."""
DOUBLINGS = 9
RIDGES = tuple(10.0**k for k in range(-6, 3))
METHODS = ("td", "td_once", "widrow_hoff", "regression", "mean")
NAMES = {
    "td": "TD(λ), limit, λ chosen",
    "td_once": "TD(λ), one presentation, λ chosen",
    "widrow_hoff": "Widrow–Hoff, one presentation",
    "regression": "ridge regression on (x_t, z)",
    "mean": "the mean outcome",
}


@dataclass(frozen=True)
class Scaled:
    """Sequences whose features have mean 0 and variance 1 over the training rows, with a constant at the end."""

    center: Any
    scale: Any

    @classmethod
    def of(cls, sequences: list[Any]) -> Scaled:
        """The scaling that training sequences ask for; a feature that is constant there becomes 0."""
        rows = torch.cat([x for x, *_ in sequences])
        scale = rows.std(0, unbiased=False)
        flat = scale <= 1e-12 * rows.abs().amax(0)
        return cls(rows.mean(0), torch.where(flat, torch.inf, scale))

    def __call__(self, sequences: list[Any]) -> list[Any]:
        """The same sequences, scaled."""
        return [
            row._replace(
                observations=torch.cat(
                    [(row.observations - self.center) / self.scale, torch.ones_like(row.observations[:, :1])],
                    1,
                )
            )
            for row in sequences
        ]


def errors(sequences: list[Any], weights: Any) -> Any:
    """Mean over each sequence's rows of (z − P_t)², for weights (..., d): shape (n, ...); what isn't finite is infinite."""
    found = [
        (row.outcome - row.observations @ weights.movedim(-1, 0).flatten(1)).square().mean(0)
        for row in sequences
    ]
    return torch.stack(found).nan_to_num(nan=torch.inf).unflatten(1, weights.shape[:-1] or (1,))


def parts(count: int, folds: int, seed: int) -> Any:
    """The fold of each of `count` sequences, in like numbers, shape (count,)."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.arange(count) % folds)[torch.randperm(count, generator=generator)]


def least_squares(sequences: list[Any], ridge: float) -> Any:
    """Weights of ridge regression on all (x_t, z), the constant left alone; the least norm if there is no ridge, (d,)."""
    x = torch.cat([row.observations for row in sequences])
    z = torch.cat([row.outcome.expand(len(row.observations)) for row in sequences])
    if ridge == 0:
        return torch.linalg.lstsq(x, z[:, None], driver="gelsd").solution[:, 0]
    penalty = ridge * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    penalty[-1, -1] = 0
    return torch.linalg.solve(x.T @ x + penalty, x.T @ z)


@dataclass(frozen=True)
class Fitted:
    """Weights by method, and by λ; what was chosen."""

    weights: dict[str, Any]
    limit: Any
    once: Any
    chosen: dict[str, float]


def fit(train: list[Any], lambdas: tuple[float, ...], seed: int) -> Fitted:
    """Fits every method; λ, α and the ridge are chosen on parts of the training sequences that are left out in turn.

    Args:
      train: Scaled sequences, at least two.
      lambdas: λ, 1 the last.
      seed: Of the parts.

    Returns:
      Weights (d,) by method, and (L, d) by λ in the limit and after one presentation.
    """
    fold = parts(len(train), min(INNER, len(train)), derive_seed(seed, "inner"))
    inner = [[row for row, f in zip(train, fold.tolist()) if f != k] for k in range(int(fold.max()) + 1)]
    outer = [[row for row, f in zip(train, fold.tolist()) if f == k] for k in range(len(inner))]
    alphas = [td.stable_alpha(train, 1.0) / 2 * 2.0**k for k in range(DOUBLINGS)]
    limit = td.batch_fixed_point(train, lambdas)
    limit_error = _left_out(outer, td.batch_fixed_point(inner, lambdas))
    once_error = _left_out(outer, td.sweep(inner, lambdas, alphas))
    ridge_error = _left_out(
        outer, torch.stack([torch.stack([least_squares(rows, r) for r in RIDGES]) for rows in inner])
    )
    best = once_error.min(1)
    once = td.sweep(train, lambdas, alphas)[torch.arange(len(lambdas)), best.indices]
    at, at_once, ridge = (
        int(limit_error.argmin()),
        int(best.values.argmin()),
        RIDGES[int(ridge_error.argmin())],
    )
    weights = {
        "td": limit[at],
        "td_once": once[at_once],
        "widrow_hoff": once[-1],
        "regression": least_squares(train, ridge),
        "mean": torch.zeros_like(limit[0]),
    }
    weights["mean"][-1] = torch.stack([row.outcome for row in train]).mean()
    chosen = {"td": lambdas[at], "td_once": lambdas[at_once], "regression": ridge}
    chosen |= {"alpha": alphas[int(best.indices[at_once])], "widrow_hoff": alphas[int(best.indices[-1])]}
    return Fitted(weights, limit, once, chosen)


def _left_out(outer: list[list[Any]], weights: Any) -> Any:
    """Mean squared error of the sequences left out, for weights (parts, ..., d): shape (...)."""
    return torch.cat([errors(rows, w) for rows, w in zip(outer, weights)]).mean(0)


def cross_validate(sequences: list[Any], fold: Any, lambdas: tuple[float, ...], seed: int) -> dict[str, Any]:
    """Every sequence predicted by what was learnt on the other folds.

    Returns:
      ``predictions``: by method, one list a sequence; ``error``: by method, (z − P)² of each sequence; ``limit`` and
      ``once``: the same for each sequence and λ; ``chosen``: by fold; ``gap``: the largest difference of a prediction by
      TD(1) in the limit and by least squares, over the spread of outcomes.
    """
    found: dict[str, Any] = {
        "predictions": {name: [None] * len(sequences) for name in METHODS},
        "error": {name: [0.0] * len(sequences) for name in METHODS},
        "limit": [[]] * len(sequences),
        "once": [[]] * len(sequences),
        "chosen": [],
        "gap": 0.0,
    }
    spread = torch.stack([row.outcome for row in sequences]).std()
    for number in range(int(fold.max()) + 1):
        places = (fold == number).nonzero()[:, 0].tolist()
        train = [sequences[i] for i in (fold != number).nonzero()[:, 0].tolist()]
        scaled = Scaled.of(train)
        train, test = scaled(train), scaled([sequences[i] for i in places])
        fitted = fit(train, lambdas, derive_seed(seed, "fold", number))
        _read(found, places, test, fitted)
        apart = torch.cat([row.observations for row in test]) @ (fitted.limit[-1] - least_squares(train, 0.0))
        found["gap"] = max(found["gap"], float(apart.abs().max() / spread))
        found["chosen"].append(fitted.chosen)
    return found


def _read(found: dict[str, Any], places: list[int], test: list[Any], fitted: Fitted) -> None:
    limit, once = errors(test, fitted.limit), errors(test, fitted.once)
    for k, (place, row) in enumerate(zip(places, test)):
        found["limit"][place], found["once"][place] = limit[k].tolist(), once[k].tolist()
        for name, w in fitted.weights.items():
            predicted = row.observations @ w
            found["predictions"][name][place] = predicted.tolist()
            found["error"][name][place] = float((row.outcome - predicted).square().mean())


def from_few(
    sequences: list[Any], sizes: list[int], repeats: int, lambdas: tuple[float, ...], seed: int
) -> dict[str, list[list[list[float]]]]:
    """Held-out errors of what is learnt from the first few sequences of random orders, read on the last 30 %.

    Returns:
      For each size and repeat, ``limit`` and ``once``: the error at each λ, in the limit and after one presentation;
      ``regression``: of ridge regression, and of the mean.
    """
    found: dict[str, list[list[list[float]]]] = {"limit": [], "once": [], "regression": []}
    tests = held_out(len(sequences))
    orders = [
        torch.randperm(
            len(sequences), generator=torch.Generator().manual_seed(derive_seed(seed, "few", r))
        ).tolist()
        for r in range(repeats)
    ]
    for size in sizes:
        read: dict[str, list[list[float]]] = {name: [] for name in found}
        for number, order in enumerate(orders):
            train = [sequences[i] for i in order[:size]]
            scaled = Scaled.of(train)
            train, test = scaled(train), scaled([sequences[i] for i in order[-tests:]])
            fitted = fit(train, lambdas, derive_seed(seed, "few", number, size))
            others = torch.stack([fitted.weights["regression"], fitted.weights["mean"]])
            for name, weights in (("limit", fitted.limit), ("once", fitted.once), ("regression", others)):
                read[name].append(errors(test, weights).mean(0).tolist())
        for name, rows in read.items():
            found[name].append(rows)
    return found


def held_out(count: int) -> int:
    """How many of `count` sequences the curves over training sequences are read on."""
    return max(2, round(0.3 * count))


def sizes_of(count: int) -> list[int]:
    """Numbers of training sequences: 5, 10, 20, … 1,280, as far as they go."""
    most = count - held_out(count)
    return [size for size in (5 * 2**k for k in range(9)) if size <= most] or [most]
