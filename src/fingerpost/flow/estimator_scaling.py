"""Scaling of a table's columns, with the logarithm of its Jacobian determinant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar

from fingerpost.errors import InvalidValueError

TRANSFORMS = ("power", "linear")


class Scaling:
    r"""x → L⁻¹(g((x − m)/s) − μ): standardise, straighten each column, whiten.

    - m, s: mean and standard deviation of each column.
    - g: with "power" the transform of Yeo and Johnson (Biometrika 2000), whose λ maximises the likelihood of a normal
      column, within [0, 2]: there g maps ℝ onto ℝ, so that every sample has an inverse. With "linear" the identity.
    - L Lᵀ: the covariance of the columns, shrunk towards its diagonal as Schäfer and Strimmer (2005) say, so that
      it is invertible with few rows too.

    Args:
      transform: "power" or "linear".
    """

    def __init__(self, transform: str = "power") -> None:
        if transform not in TRANSFORMS:
            raise InvalidValueError(f"transform is {transform!r}; expected one of {TRANSFORMS}")
        self.transform = transform
        self.mean = self.std = self.power = self.center = self.factor = np.zeros(0)

    def fit(self, x: np.ndarray) -> Scaling:
        """Learns from x of shape (n, d), n ≥ 2, without constant columns."""
        self.mean, self.std = x.mean(0), x.std(0)
        u = (x - self.mean) / self.std
        self.power = np.ones(x.shape[1])
        if self.transform == "power":
            part = u[:: max(1, len(u) // 20_000)]
            self.power = np.array([_best_power(column) for column in part.T])
        y = yeo_johnson(u, self.power)
        self.center = y.mean(0)
        self.factor = np.linalg.cholesky(shrunk_covariance(y - self.center))
        return self

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whitened rows, shape (n, d), and log |det ∂z/∂x|, shape (n,)."""
        u = (x - self.mean) / self.std
        y = yeo_johnson(u, self.power)
        z = np.linalg.solve(self.factor, (y - self.center).T).T
        constant = np.log(self.std).sum() + np.log(np.diag(self.factor)).sum()
        return z, log_slope(u, self.power).sum(1) - constant

    def inverse(self, z: np.ndarray) -> np.ndarray:
        """Rows in the table's units, shape (n, d)."""
        return inverse_yeo_johnson(z @ self.factor.T + self.center, self.power) * self.std + self.mean

    def arrays(self) -> dict[str, np.ndarray]:
        """What `fit` learned, by name."""
        return {name: getattr(self, name) for name in ("mean", "std", "power", "center", "factor")}


def _best_power(column: np.ndarray) -> float:
    def loss(power: float) -> float:
        y = yeo_johnson(column, np.array(power))
        return 0.5 * len(y) * np.log(y.var()) - float(log_slope(column, np.array(power)).sum())

    return float(minimize_scalar(loss, bounds=(0.0, 2.0), method="bounded").x)  # pyright: ignore[reportAttributeAccessIssue]


def _halves(x: np.ndarray, power: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(|x|, the exponent that holds on x's side of zero, whether x ≥ 0)."""
    right = x >= 0
    return np.abs(x), np.where(right, power, 2 - power), right


def yeo_johnson(x: np.ndarray, power: np.ndarray) -> np.ndarray:
    """((1 + x)^λ − 1)/λ for x ≥ 0 and −((1 − x)^(2−λ) − 1)/(2 − λ) below, logarithms at the limits; λ in [0, 2].

    >>> yeo_johnson(np.array([-1.0, 1.0]), np.array([1.0, 0.0])).round(4)
    array([-1.    ,  0.6931])
    """
    size, exponent, right = _halves(x, power)
    flat = exponent < 1e-8
    safe = np.where(flat, 1.0, exponent)
    y = np.where(flat, np.log1p(size), np.expm1(safe * np.log1p(size)) / safe)
    return np.where(right, y, -y)


def inverse_yeo_johnson(y: np.ndarray, power: np.ndarray) -> np.ndarray:
    """The inverse of `yeo_johnson`."""
    size, exponent, right = _halves(y, power)
    flat = exponent < 1e-8
    safe = np.where(flat, 1.0, exponent)
    x = np.where(flat, np.expm1(size), np.expm1(np.log1p(safe * size) / safe))
    return np.where(right, x, -x)


def log_slope(x: np.ndarray, power: np.ndarray) -> np.ndarray:
    """The logarithm of `yeo_johnson`'s derivative: (λ − 1) log(1 + x) for x ≥ 0, (1 − λ) log(1 − x) below."""
    size, exponent, _ = _halves(x, power)
    return (exponent - 1) * np.log1p(size)


def shrunk_covariance(x: np.ndarray) -> np.ndarray:
    r"""(1 − ρ) S + ρ diag S for centred rows x, ρ the ratio of S's variance to its squared off-diagonal.

    Schäfer and Strimmer (2005), target D, for correlations: ρ = Σ_{i≠j} Var(r_ij) / Σ_{i≠j} r_ij², in [0, 1].
    """
    n, d = x.shape
    std = x.std(0)
    u = x / std
    correlation = u.T @ u / n
    off = ~np.eye(d, dtype=bool)
    variance = ((u**2).T @ (u**2) / n - correlation**2) / max(n - 1, 1)
    total = (correlation[off] ** 2).sum()
    rho = float(np.clip(variance[off].sum() / total, 0, 1)) if total > 0 else 1.0
    rho = max(rho, 1e-9)
    shrunk = (1 - rho) * correlation + rho * np.eye(d)
    return shrunk * np.outer(std, std)


def resolutions(x: np.ndarray) -> np.ndarray:
    """The least gap between distinct values of each column, where it is large: above a thousandth of its deviation.

    Such a column was rounded, or counts something; a density cannot tell a value that repeats from an infinite peak.

    >>> resolutions(np.array([[1.0, 0.1], [2.0, 0.1 + 1e-6], [2.0, 5.0]]))
    array([1., 0.])
    """
    gaps = np.zeros(x.shape[1])
    for k, column in enumerate(x.T):
        size = max(float(np.abs(column).max()), 1e-300)
        distinct = np.unique(np.round(column / size, 12)) * size
        least = float(np.diff(distinct).min(initial=np.inf))
        repeats = len(distinct) < len(column)
        gaps[k] = least if repeats and least > 1e-3 * column.std() else 0.0
    return gaps


def check_independent(x: np.ndarray, columns: Sequence[str]) -> None:
    """Raises if a column of x is constant or a linear combination of others; the message names the columns."""
    spread = x.std(0)
    size = np.abs(x).max(0)
    for name, std, most, value in zip(columns, spread, size, x[0]):
        if std <= 1e-12 * most or std == 0:
            raise InvalidValueError(
                f"column {name!r} is constant (every row has {value:g}): it has no density; drop it"
            )
    if len(x) <= x.shape[1]:
        return
    correlation = np.atleast_2d(np.corrcoef(x.T))
    values, vectors = np.linalg.eigh(correlation)
    if values[0] < 1e-10:
        involved = [name for name, weight in zip(columns, vectors[:, 0]) if abs(weight) > 1e-4]
        raise InvalidValueError(
            f"columns {', '.join(map(repr, involved))} are linearly dependent: together they have no density; drop one"
        )
