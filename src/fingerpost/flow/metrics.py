"""How far samples are from data: exact 2-Wasserstein distance, maximum mean discrepancy, negative log-likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fingerpost._lazy import require_extra
from fingerpost.errors import InvalidValueError, ShapeError, counted
from fingerpost.flow._checks import check_points
from fingerpost.flow.couplings._assignment import assign
from fingerpost.flow.couplings.base import squared_distances


def wasserstein2(x: Tensor, y: Tensor) -> float:
    r"""The exact 2-Wasserstein distance of two samples, (min_π mean ‖x_π(i) − y_i‖²)^½.

    Samples of one distribution are not at distance 0: with n points each, the distance falls like n^(−1/d) for d > 2.
    Compare with the distance of two samples of the data itself.

    Args:
      x: Points, shape (n, ...).
      y: Points, shape (m, ...). In one dimension, or if m = n, this needs nothing; else POT (`fingerpost[ot]`).

    Returns:
      The distance, in the units of the points.

    Raises:
      ShapeError, InvalidValueError: If the points are not finite or of different dimensions.
      MissingExtraError: If the sizes differ and POT is not installed.

    >>> wasserstein2(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([[1.0, 2.0], [0.0, 2.0]]))
    2.0
    """
    _check_two(x, y)
    x, y = x.detach().flatten(1).double(), y.detach().flatten(1).double()
    if x.shape[1] == 1:
        return math.sqrt(_line(x[:, 0], y[:, 0]))
    if len(x) == len(y):
        return math.sqrt(float((x[assign(x, y)] - y).square().sum(1).mean()))
    ot = require_extra("ot", "ot", "the Wasserstein distance of samples of unequal sizes")
    cost = squared_distances(x, y).cpu().numpy()
    return math.sqrt(max(0.0, float(ot.emd2([], [], cost, numItermax=10_000_000))))


def _line(x: Tensor, y: Tensor) -> float:
    """The squared distance on the line: quantile functions are compared where either jumps."""
    jumps = torch.cat([torch.arange(1, len(v) + 1, dtype=torch.float64) / len(v) for v in (x, y)]).unique()
    width = jumps.diff(prepend=torch.zeros(1, dtype=torch.float64))
    middle = jumps - width / 2
    parts = [v.cpu().sort().values[(middle * len(v)).long().clamp(max=len(v) - 1)] for v in (x, y)]
    return float((width * (parts[0] - parts[1]).square()).sum())


def mmd(x: Tensor, y: Tensor, *, bandwidth: float | None = None, biased: bool = False) -> float:
    r"""The squared maximum mean discrepancy with the kernel exp(−‖x − y‖²/(2h²)).

    (Gretton et al. 2012, https://jmlr.org/papers/v13/gretton12a.html, eq. 3 unbiased, eq. 5 biased.)

    Args:
      x: Points, shape (n, ...), at least two.
      y: Points, shape (m, ...), at least two.
      bandwidth: h; the median distance of the pooled points unless given.
      biased: Whether the diagonal counts. The unbiased estimate may be negative, and has mean 0 for equal laws.

    Returns:
      The estimate of MMD².

    >>> generator = torch.Generator().manual_seed(0)
    >>> x, y = torch.randn(2, 200, 2, generator=generator)
    >>> mmd(x, y + 1) > 0.05 > abs(mmd(x, y))
    True
    """
    _check_two(x, y)
    if min(len(x), len(y)) < 2:
        raise ShapeError(f"mmd has {len(x)} and {len(y)} points; expected at least two of each")
    pooled = torch.cat([x.detach().flatten(1), y.detach().flatten(1)]).double()
    squares = squared_distances(pooled, pooled)
    if bandwidth is None:
        above = torch.triu_indices(len(pooled), len(pooled), 1, device=pooled.device)
        bandwidth = math.sqrt(float(squares[above[0], above[1]].median()))
    if not bandwidth > 0:
        raise InvalidValueError(
            f"the bandwidth is {bandwidth}; half of all distances are 0: give bandwidth= above 0"
        )
    kernel = torch.exp(squares / (-2 * bandwidth**2))
    n = len(x)
    within = sum(_mean_within(part, biased) for part in (kernel[:n, :n], kernel[n:, n:]))
    return float(within - 2 * kernel[:n, n:].mean())


def _mean_within(kernel: Tensor, biased: bool) -> Tensor:
    n = len(kernel)
    return kernel.mean() if biased else (kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1))


def nll(log_prob: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """The mean negative log-likelihood of points in nats, −mean log p(x).

    Args:
      log_prob: x → log density of each row, shape (B,).
      x: Points, shape (B, ...).

    Raises:
      ShapeError: If `log_prob` returns another shape.
      InvalidValueError: If a log density is NaN, or points are not finite.

    >>> nll(lambda x: -x.square().sum(1), torch.ones(3, 2))
    2.0
    """
    check_points(x, "x")
    values = log_prob(x)
    if values.shape != (len(x),):
        raise ShapeError(
            f"log_prob returned shape {tuple(values.shape)}; expected ({len(x)},), one for each row"
        )
    if bool(values.isnan().any()):
        raise InvalidValueError(f"log_prob is NaN in {int(values.isnan().sum())} of {counted(len(x), 'row')}")
    return -float(values.detach().double().mean())


def _check_two(x: Tensor, y: Tensor) -> None:
    check_points(x, "x")
    check_points(y, "y")
    if x.shape[1:] != y.shape[1:]:
        raise ShapeError(
            f"x has rows of shape {tuple(x.shape[1:])} and y {tuple(y.shape[1:])}; expected the same"
        )
