"""Densities of tables that a flow is held against: Gaussian, Gaussian mixture, kernel density.

Each is fitted on standardised columns and gives log densities in the table's units.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

from fingerpost._lazy import lazy_import, require_extra

np = lazy_import("numpy")
special = lazy_import("scipy.special")
scaling = lazy_import("fingerpost.flow.estimator_scaling")

LogDensity = Callable[[Any], Any]
RIDGE = 1e-4
MOST_COMPONENTS = 8
MOST_CENTERS = 10_000
SELECTION_ROWS = 2_000
NAMES = ("Gaussian", "Gaussian mixture", "mixture, straightened", "kernel density")


def fit_baselines(train: Any, seed: int) -> dict[str, tuple[LogDensity, str]]:
    """Fits all baselines.

    Args:
      train: Rows, shape (n, d).
      seed: Of the mixtures' starts and of the rows that a bandwidth is chosen on.

    Returns:
      By name: the log density of rows, and what was chosen, in words.
    """
    linear, power = _columns(train, "linear"), _columns(train, "power")
    return {
        "Gaussian": _mixture(train, linear, [1], ["full"], seed),
        "Gaussian mixture": _mixture(train, linear, _components(train), ["full", "diag", "tied"], seed),
        "mixture, straightened": _mixture(train, power, _components(train), ["full", "diag", "tied"], seed),
        "kernel density": _kernel(train, seed),
    }


def _columns(train: Any, transform: str) -> Any:
    """The flow's own scaling of columns, without its whitening."""
    fitted = scaling.Scaling(transform).fit(train)
    fitted.center, fitted.factor = np.zeros(train.shape[1]), np.eye(train.shape[1])
    return fitted


def _components(train: Any) -> list[int]:
    return list(range(1, max(2, min(MOST_COMPONENTS, len(train) // 20) + 1)))


def _mixture(
    train: Any, columns: Any, counts: list[int], kinds: list[str], seed: int
) -> tuple[LogDensity, str]:
    """The mixture of least Bayesian information criterion, chosen on at most `MOST_CENTERS` rows, fitted to all."""
    mixtures = require_extra("sklearn.mixture", "data", "the Gaussian mixtures that a flow is held against")
    z, _ = columns.forward(train)
    part = z[np.random.default_rng(seed).permutation(len(z))[:MOST_CENTERS]]
    chosen, least = (counts[0], kinds[0]), math.inf
    for count in counts:
        for kind in kinds:
            criterion = _fitted(mixtures, part, count, kind, seed).bic(part)
            if criterion < least:
                chosen, least = (count, kind), criterion
    best = _fitted(mixtures, z, *chosen, seed)

    def log_density(rows: Any) -> Any:
        scaled, change = columns.forward(rows)
        return best.score_samples(scaled) + change

    return log_density, f"{best.n_components} × {best.covariance_type}"


def _fitted(mixtures: Any, z: Any, count: int, kind: str, seed: int) -> Any:
    model = mixtures.GaussianMixture(
        count, covariance_type=kind, reg_covar=RIDGE, n_init=2, max_iter=200, random_state=seed
    )
    with warnings.catch_warnings():  # a fit that has not converged is judged by its criterion like the others
        warnings.simplefilter("ignore")
        return model.fit(z)


def _kernel(train: Any, seed: int) -> tuple[LogDensity, str]:
    """Gaussian kernels; bandwidth and shape (columns apart, or the data's covariance) by leave-one-out likelihood."""
    generator = np.random.default_rng(seed)
    centers = train[generator.permutation(len(train))[:MOST_CENTERS]]
    round_, oval = _columns(train, "linear"), scaling.Scaling("linear").fit(train)
    choices = []
    for shape, columns in (("round", round_), ("the data's covariance", oval)):
        z, change = columns.forward(centers[:SELECTION_ROWS])
        squares = _squares(z, z)
        np.fill_diagonal(squares, np.inf)
        for width in np.geomspace(0.03, 2.0, 40):
            value = float((_log_mean(squares, width, z.shape[1], len(z) - 1) + change).mean())
            choices.append((value, width, shape, columns))
    _, width, shape, columns = max(choices, key=lambda choice: choice[0])
    # the best width shrinks with the number of centres like n^(−1/(d + 4)) (Scott 1992)
    used = min(len(centers), SELECTION_ROWS)
    width *= (used / len(centers)) ** (1 / (train.shape[1] + 4))
    places, _ = columns.forward(centers)

    def log_density(rows: Any) -> Any:
        z, change = columns.forward(rows)
        parts = [
            _log_mean(_squares(part, places), width, z.shape[1], len(places))
            for part in np.array_split(z, max(1, len(z) * len(places) // 5_000_000))
        ]
        return np.concatenate(parts) + change

    return log_density, f"width {width:.2g}, {shape}"


def _squares(x: Any, y: Any) -> Any:
    return np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T, 0)


def _log_mean(squares: Any, width: float, dimension: int, count: int) -> Any:
    constant = math.log(count) + 0.5 * dimension * math.log(2 * math.pi * width**2)
    return special.logsumexp(-squares / (2 * width**2), axis=1) - constant
