"""The encoding's bandwidth by the tangent kernel, before any training: σ of Gaussian features, p of the family 1/j^p."""

from __future__ import annotations

import math
import numbers
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError, NumericalError, ShapeError, counted
from fingerpost.spectral._decay import learned_over_value
from fingerpost.spectral._kernel import Block, finite, floating
from fingerpost.spectral._krylov import apply_function
from fingerpost.spectral.analytic import relu_ntk
from fingerpost.spectral.encodings import FourierFeatures
from fingerpost.spectral.grid import StationaryNTK

SIGMAS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
POWERS = (0.0, 0.5, 1.0, 1.5, 2.0, math.inf)
_TOLERANCE = 1e-4
_ITERATIONS = 500

Data = Tensor | tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Selection:
    """What was tried, and what did best on points held out.

    Attributes:
      parameter: ``"sigma"`` or ``"p"``.
      candidates: Values tried, in the order given.
      errors: Mean squared error of each on the points held out, over all channels.
      best: The candidate with the least error; the first such.
    """

    parameter: str
    candidates: tuple[float, ...]
    errors: tuple[float, ...]
    best: float

    def psnr(self, peak: float = 1.0) -> tuple[float, ...]:
        """The errors as peak signal-to-noise ratios in dB, for signals that reach from 0 to `peak`."""
        return tuple(10 * math.log10(peak**2 / error) if error > 0 else math.inf for error in self.errors)

    @property
    def at_edge(self) -> bool:
        """Whether the best is the smallest or largest candidate, so that others beyond may be better."""
        return self.best in (min(self.candidates), max(self.candidates))

    def __str__(self) -> str:
        lines = [f"{self.parameter:>8}  mean squared error"]
        for value, error in zip(self.candidates, self.errors):
            lines.append(f"{value:8g}  {error:.4g}{'  best' if value == self.best else ''}")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Network:
    depth: int
    weight_std: float
    bias_std: float
    ridge: float
    stop_at: float | None


def select_sigma(
    data: Data,
    candidates: Sequence[float] = SIGMAS,
    *,
    test: tuple[Tensor, Tensor] | None = None,
    features: int = 256,
    depth: int = 3,
    weight_std: float = math.sqrt(2.0),
    bias_std: float = 0.1,
    ridge: float = 1e-3,
    stop_at: float | None = None,
    held_out: float = 0.25,
    seed: int = 0,
    progress: bool = False,
) -> Selection:
    r"""The σ of Gaussian features by regression with the kernel of the infinitely wide network: no network is trained.

    For each σ the frequencies B ~ N(0, σ²) are drawn from the same seed, so that B differs in scale alone, and
    m + k(x, X) (K + ρI)⁻¹ (y − m) is compared with the labels held out (Tancik et al. 2020, section 6 and appendix,
    https://arxiv.org/abs/2006.10739, where σ is swept by training). A picture is a grid: its kernel is Toeplitz, and products
    with it are FFTs.

    Args:
      data: A picture, (height, width) or (height, width, channels): trained on [::2, ::2] and judged on [1::2, 1::2], the
        pixels of the protocol in that paper, so that a σ picked so has seen them. Or points and labels, ((n, d), (n,) or
        (n, o)), with coordinates in [0, 1).
      candidates: Values of σ, in cycles per unit: the side of the picture is one unit.
      test: Points and labels to judge on, for data that are points; None holds out a share of them.
      features: Frequencies m; the encoding has 2m features.
      depth: Hidden layers.
      weight_std: σ_W.
      bias_std: σ_b.
      ridge: ρ, in units of the kernel's mean diagonal.
      stop_at: Training time t, steps times the learning rate of ``"half_sum"``, after which gradient flow on
        ½ Σ (f − y)² + ½ ρ |θ − θ₀|² is stopped; None trains to the end.
      held_out: The share of points to hold out.
      seed: Of the frequencies and of the points held out.
      progress: Whether a bar is shown, on a terminal only.

    Returns:
      The best σ with the whole curve; ``FourierFeatures.gaussian(d, features, best, generator)`` with a generator of
      that seed is the encoding that was judged.

    Raises:
      ShapeError, InvalidTypeError, InvalidValueError: If data or settings do not fit; the message names what.

    >>> v = torch.arange(32) / 32
    >>> picture = torch.sin(2 * torch.pi * 3 * v)[:, None] * torch.cos(2 * torch.pi * 2 * v)
    >>> select_sigma(picture, (0.1, 2.0, 30.0)).best
    2.0
    """
    values = _checked(candidates, "sigma", lambda value: 0 < value < math.inf)
    network = _network(depth, weight_std, bias_std, ridge, stop_at)

    def encoding(d: int) -> Callable[[float], FourierFeatures]:
        return lambda sigma: FourierFeatures.gaussian(d, features, sigma, torch.Generator().manual_seed(seed))

    if isinstance(data, Tensor):
        judge = _judge_grid(data, 2, encoding(2), network, test)
    else:
        x, y, x_test, y_test = _points(data, test, held_out, seed)
        judge = _judge_points(x, y, x_test, y_test, encoding(x.shape[1]), network)
    return _selection("sigma", values, judge, progress)


def select_p(
    data: Data,
    candidates: Sequence[float] = POWERS,
    *,
    test: tuple[Tensor, Tensor] | None = None,
    depth: int = 3,
    weight_std: float = math.sqrt(2.0),
    bias_std: float = 0.1,
    ridge: float = 1e-3,
    stop_at: float | None = None,
    held_out: float = 0.25,
    seed: int = 0,
    progress: bool = False,
) -> Selection:
    r"""The p of the one-dimensional family a_j = 1/j^p, j = 1…n/2, by regression with the kernel: no network is trained.

    Args:
      data: A signal at i/n on [0, 1), (n,) or (n, channels): trained on [::2] and judged on [1::2]. Or points and
        labels, ((n, 1), (n,) or (n, o)).
      candidates: Values of p; ∞ keeps one frequency alone.
      test: As for `select_sigma`, like all others here.
      depth: Hidden layers.
      weight_std: σ_W.
      bias_std: σ_b.
      ridge: ρ, in units of the kernel's mean diagonal.
      stop_at: Training time.
      held_out: The share of points to hold out.
      seed: Of the points held out.
      progress: Whether a bar is shown, on a terminal only.

    Returns:
      The best p with the whole curve; n of ``FourierFeatures.power(best, n)`` is the number of training points.

    Raises:
      ShapeError, InvalidTypeError, InvalidValueError: If data or settings do not fit; the message names what.

    >>> v = torch.arange(64) / 64
    >>> select_p(torch.sin(2 * torch.pi * v), (0.0, 2.0)).best
    2.0
    """
    values = _checked(candidates, "p", lambda value: not math.isnan(value) and value > -math.inf)
    network = _network(depth, weight_std, bias_std, ridge, stop_at)
    if isinstance(data, Tensor):
        points = (len(data) + 1) // 2 if data.ndim else 0
        judge = _judge_grid(data, 1, lambda p: FourierFeatures.power(p, points), network, test)
    else:
        x, y, x_test, y_test = _points(data, test, held_out, seed)
        if x.shape[1] != 1:
            raise ShapeError(
                f"points have {counted(x.shape[1], 'coordinate')}; the family 1/j^p is one-dimensional: (n, 1)"
            )
        judge = _judge_points(x, y, x_test, y_test, lambda p: FourierFeatures.power(p, len(x)), network)
    return _selection("p", values, judge, progress)


def _selection(
    parameter: str, values: tuple[float, ...], judge: Callable[[float], float], progress: bool
) -> Selection:
    errors = tuple(judge(value) for value in _shown(values, parameter, progress))
    return Selection(parameter, values, errors, values[errors.index(min(errors))])


def _judge_grid(
    signal: Tensor,
    axes: int,
    encoding: Callable[[float], FourierFeatures],
    network: _Network,
    test: tuple[Tensor, Tensor] | None,
) -> Callable[[float], float]:
    """Held-out error on a grid whose even points are trained on and whose odd ones are judged."""
    if test is not None:
        raise InvalidValueError("test is for data that are points; a grid is judged on its odd points")
    floating(signal, "data")
    if signal.ndim not in (axes, axes + 1) or min(signal.shape[:axes]) < 4 or 0 in signal.shape:
        wanted = "(height, width) or (height, width, channels)" if axes == 2 else "(n,) or (n, channels)"
        raise ShapeError(
            f"data has shape {tuple(signal.shape)}; expected {wanted}, at least 4 along each axis"
        )
    finite(signal, "data")
    table = (signal if signal.ndim > axes else signal[..., None]).detach().to("cpu", torch.float64)
    y, y_test = (table[(slice(first, None, 2),) * axes] for first in (0, 1))
    shape, test_shape, size = y.shape[:axes], y_test.shape[:axes], signal.shape[:axes]
    mean = y.flatten(0, axes - 1).mean(0)

    def judge(value: float) -> float:
        kernel = StationaryNTK.on_grid(
            encoding(value),
            shape,
            depth=network.depth,
            weight_std=network.weight_std,
            bias_std=network.bias_std,
            spacing=[2 / n for n in size],
        )
        weights = _grid_weights(kernel, y - mean, network)
        found = mean + kernel.cross_matvec(weights, [1 / n for n in size], test_shape)
        return _error(found, y_test, value)

    return judge


def _grid_weights(kernel: StationaryNTK, b: Tensor, network: _Network) -> Tensor:
    """φ(K + ρI) b on the grid."""
    unit = torch.zeros(kernel.shape, dtype=torch.float64)
    unit[(0,) * unit.ndim] = 1.0
    ridge = network.ridge * float(kernel.matvec(unit)[(0,) * unit.ndim])
    if network.stop_at is None:
        solved = kernel.solve(b, ridge, tolerance=_TOLERANCE, max_iterations=_ITERATIONS, throw=False)
        reached, weights = solved.converged, solved.weights
    else:
        flat, reached = apply_function(
            lambda v: kernel.matvec(v.reshape(b.shape)).reshape(v.shape),
            b.reshape(-1, b.shape[-1]),
            lambda values: _phi(values + ridge, network),
            tolerance=_TOLERANCE,
            max_iterations=_ITERATIONS,
        )
        weights = flat.reshape(b.shape)
    if not reached:
        warnings.warn(
            f"the regression is not at its tolerance after {_ITERATIONS} products with the kernel; raise ridge, or lower "
            "stop_at",
            UserWarning,
            stacklevel=2,
        )
    return weights


def _phi(values: Tensor, network: _Network) -> Tensor:
    """(1 − exp(−λt))/λ, or 1/λ at the end of training."""
    time = math.inf if network.stop_at is None else network.stop_at
    flat = values.flatten().sort(descending=True)
    found = torch.empty_like(flat.values)
    found[flat.indices] = learned_over_value(
        flat.values, torch.tensor(time, dtype=torch.float64), 1.0, "flow"
    )
    return found.reshape(values.shape)


def _judge_points(
    x: Tensor,
    y: Tensor,
    x_test: Tensor,
    y_test: Tensor,
    encoding: Callable[[float], FourierFeatures],
    network: _Network,
) -> Callable[[float], float]:
    """Held-out error on points, by the dense kernel."""
    mean = y.mean(0)
    given = {"depth": network.depth, "weight_std": network.weight_std, "bias_std": network.bias_std}

    def judge(value: float) -> float:
        features = encoding(value)
        K = relu_ntk(x, encoding=features, **given)
        ridge = network.ridge * float(K.diagonal().mean())
        K_test = relu_ntk(x_test, x, encoding=features, **given)
        if network.stop_at is None and ridge > 0:
            weights = torch.linalg.solve(K + ridge * torch.eye(len(x), dtype=K.dtype), y - mean)
        else:
            values, vectors = Block((K + K.T) / 2, torch.finfo(K.dtype).eps).eigen()
            weights = vectors @ (_phi(values + ridge, network)[:, None] * (vectors.T @ (y - mean)))
        return _error(mean + K_test @ weights, y_test, value)

    return judge


def _error(found: Tensor, wanted: Tensor, value: float) -> float:
    error = float((found - wanted).square().mean())
    if not math.isfinite(error):
        raise NumericalError(f"the regression at {value:g} is not finite; give a ridge above 0")
    return error


def _points(
    data: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor] | None, held_out: float, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, y = _pair(data, "data")
    if test is not None:
        x_test, y_test = _pair(test, "test")
        if x_test.shape[1] != x.shape[1] or y_test.shape[1] != y.shape[1]:
            raise ShapeError(
                f"test has {counted(x_test.shape[1], 'coordinate')} and {counted(y_test.shape[1], 'output')}; data "
                f"{x.shape[1]} and {y.shape[1]}"
            )
        return x, y, x_test, y_test
    if not 0 < held_out < 1:
        raise InvalidValueError(f"held_out is {held_out}; expected a share in (0, 1)")
    count = round(held_out * len(x))
    if not 1 <= count <= len(x) - 2:
        raise ShapeError(
            f"data has {counted(len(x), 'point')}; {count} of them held out leaves too few: give more, or test"
        )
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    out, kept = order[:count], order[count:]
    return x[kept], y[kept], x[out], y[out]


def _pair(data: tuple[Tensor, Tensor], name: str) -> tuple[Tensor, Tensor]:
    if not isinstance(data, Sequence) or len(data) != 2:
        raise ShapeError(
            f"{name} is {type(data).__name__}; expected a tensor on a grid, or a pair: points, labels"
        )
    x, y = data
    for value, what in ((x, "points"), (y, "labels")):
        floating(value, f"{name}: {what}")
        finite(value, f"{name}: {what}")
    if x.ndim != 2 or 0 in x.shape or y.ndim not in (1, 2) or len(y) != len(x) or 0 in y.shape:
        raise ShapeError(
            f"{name} has points {tuple(x.shape)} and labels {tuple(y.shape)}; expected (n, d) and (n,) or (n, o)"
        )
    wide = y if y.ndim == 2 else y[:, None]
    return x.detach().to("cpu", torch.float64), wide.detach().to("cpu", torch.float64)


def _checked(candidates: Sequence[float], name: str, valid: Callable[[float], bool]) -> tuple[float, ...]:
    values = tuple(candidates)
    bad = [v for v in values if not isinstance(v, numbers.Real) or not valid(float(v))]
    if not values or bad:
        raise InvalidValueError(
            f"candidates for {name}: {bad or 'none given'}; expected numbers that {name} can be"
        )
    return tuple(float(value) for value in values)


def _network(depth: int, weight_std: float, bias_std: float, ridge: float, stop_at: float | None) -> _Network:
    for name, value in (("ridge", ridge), ("stop_at", 0.0 if stop_at is None else stop_at)):
        if not isinstance(value, numbers.Real) or not 0 <= value < math.inf:
            raise InvalidValueError(f"{name} is {value!r}; expected a finite number, 0 or more")
    return _Network(depth, weight_std, bias_std, float(ridge), None if stop_at is None else float(stop_at))


def _shown(values: tuple[float, ...], parameter: str, progress: bool) -> Iterable[float]:
    if not progress or not sys.stderr.isatty():
        return values
    from tqdm import tqdm

    return tqdm(values, desc=f"{parameter} by the tangent kernel", leave=False)
