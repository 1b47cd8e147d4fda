"""Kernels of Fourier-featured networks on uniform grids, by FFT: eigenvalues, products, regression, training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError, ShapeError
from fingerpost.spectral._conjugate_gradients import conjugate_gradients
from fingerpost.spectral._decay import (
    TIMES,
    checked_times,
    finished,
    learned_over_value,
    step_size,
    warn_or_refuse,
)
from fingerpost.spectral._grid_lags import Architecture, LagMatrix, embedding_size, folded, kernel_at
from fingerpost.spectral._kernel import known
from fingerpost.spectral.analytic import check_recursion
from fingerpost.spectral.encodings import FourierFeatures

_LANCZOS_STEPS = 40


class GridSolution(NamedTuple):
    """What `StationaryNTK.solve` reached.

    Attributes:
      weights: (K + ρI)⁻¹ y, in y's shape and dtype.
      iterations: Products with K made.
      residual: The largest ‖y − (K + ρI) w‖/‖y‖ over channels.
      converged: Whether it is within the tolerance.
    """

    weights: Tensor
    iterations: int
    residual: float
    converged: bool


class StationaryNTK:
    r"""The kernel of a wide ReLU network behind Fourier features, on a uniform grid: K_ij = k(x_i − x_j).

    ‖γ(v)‖ is constant and γ(v)ᵀγ(w) depends on v − w alone (Tancik et al. 2020, section 4,
    https://arxiv.org/abs/2006.10739), and so does the kernel. If every frequency makes whole turns along the grid, K is
    circulant in each axis: the discrete Fourier transform diagonalizes it. Otherwise it is (block-)Toeplitz, and a
    larger circulant matrix holds it. Either way a product costs an FFT, and K is never formed. All is computed
    in float64 and returned in the dtype of the argument.

    >>> kernel = StationaryNTK.on_grid(FourierFeatures.power(1.0, 8), (8,), depth=2)
    >>> y = torch.arange(8.0)
    >>> torch.allclose(kernel.matvec(kernel.solve(y).weights), y, atol=1e-4)
    True
    """

    def __init__(
        self,
        encoding: FourierFeatures,
        shape: tuple[int, ...],
        spacing: tuple[float, ...],
        network: Architecture,
    ) -> None:
        self.encoding, self.shape, self.spacing, self.network = encoding, shape, spacing, network
        self.wraps = tuple(
            _whole_turns(encoding, axis, n * h) for axis, (n, h) in enumerate(zip(shape, spacing))
        )
        self._table = self._lag_table((0.0,) * len(shape), shape)
        self._matrix = LagMatrix(self._table, shape, shape)

    @classmethod
    def on_grid(
        cls,
        encoding: FourierFeatures,
        shape: Sequence[int],
        *,
        depth: int,
        weight_std: float = math.sqrt(2.0),
        bias_std: float = 0.1,
        output_scale: float = 1.0,
        spacing: Sequence[float] | None = None,
        kind: str = "ntk",
        width: int | None = None,
    ) -> StationaryNTK:
        """The kernel on points i·h, i = 0…n − 1 along each axis.

        Args:
          encoding: Fourier features of as many coordinates as the grid has axes: 1, 2 or 3.
          shape: Points along each axis, n.
          depth: Hidden layers.
          weight_std: σ_W, as in `relu_ntk`.
          bias_std: σ_b.
          output_scale: α.
          spacing: Steps h; None takes 1/n, the grid that fills [0, 1). Every second pixel of n has 2/n.
          kind: "ntk", or "nngp" for the covariance at the start.
          width: Units of a hidden layer in the standard parametrization, as in `relu_ntk`; None is the NTK parametrization.

        Raises:
          InvalidTypeError: If the encoding is no `FourierFeatures`: other networks have no stationary kernel.
          ShapeError: If the grid has other axes than the encoding has coordinates.
          InvalidValueError: If a setting is out of its range.

        >>> kernel = StationaryNTK.on_grid(FourierFeatures.basic(2), (16, 16), depth=3)
        >>> kernel.circulant, kernel.eigenvalues().shape
        (True, torch.Size([16, 16]))
        """
        if not isinstance(encoding, FourierFeatures):
            raise InvalidTypeError(
                f"encoding is {type(encoding).__name__}; only behind FourierFeatures is the kernel stationary"
            )
        check_recursion(depth, weight_std, bias_std, output_scale, width)
        known(kind, "kind", ("ntk", "nngp"))
        grid = _grid(shape, encoding.dimension, "shape")
        steps = tuple(1 / n for n in grid) if spacing is None else tuple(float(h) for h in spacing)
        if len(steps) != len(grid) or not all(0 < h < math.inf for h in steps):
            raise InvalidValueError(f"spacing is {steps} for a grid {grid}; expected a positive step an axis")
        network = Architecture(depth, weight_std, bias_std, output_scale, kind, width)
        return cls(encoding, grid, steps, network)

    @property
    def circulant(self) -> bool:
        """Whether the discrete Fourier transform diagonalizes K."""
        return all(self.wraps)

    def eigenvalues(self) -> Tensor:
        """All eigenvalues of K, one for each frequency, in the order of `torch.fft.fftfreq` along each axis, float64.

        Raises:
          InvalidValueError: If K is Toeplitz and not circulant.
        """
        self._need_circulant("eigenvalues")
        return torch.fft.fftn(self._table).real.clamp(min=0)

    def largest_eigenvalue(self) -> float:
        """The largest eigenvalue of K: of a Toeplitz matrix from below, by 40 steps of Lanczos."""
        if self.circulant:
            return float(self._matrix.spectrum.real.max())
        return _lanczos(lambda v: self._matrix @ v, self.shape, self._table.device)

    def matvec(self, v: Tensor) -> Tensor:
        """K v.

        Args:
          v: Shape (*shape,) or (*shape, channels).

        Returns:
          The same shape and dtype.
        """
        return self._give(self._matrix @ self._take(v, "v"), v)

    def cross_matvec(self, v: Tensor, shift: Sequence[float], shape: Sequence[int] | None = None) -> Tensor:
        """K_test v, from values on the grid to another grid of the same spacing.

        Args:
          v: On this grid, (*shape,) or (*shape, channels).
          shift: Where the other grid starts, in units of the coordinates: h/2 for points in between.
          shape: Its points along each axis; None takes this grid's.

        Returns:
          On the other grid, (*shape,) or (*shape, channels).
        """
        other = self.shape if shape is None else _grid(shape, len(self.shape), "shape")
        given = self._take(v, "v")
        return self._give(self._cross(shift, other) @ given, v)

    def solve(
        self,
        y: Tensor,
        ridge: float = 0.0,
        *,
        tolerance: float = 1e-6,
        max_iterations: int = 1000,
        throw: bool = True,
        report: Callable[[int, float], None] | None = None,
    ) -> GridSolution:
        """Weights w of kernel regression, (K + ρI) w = y.

        Circulant: by division in the frequency domain. Toeplitz: by conjugate gradients behind T. Chan's circulant.

        Args:
          y: Labels, (*shape,) or (*shape, channels).
          ridge: ρ ≥ 0.
          tolerance: Relative residual to reach.
          max_iterations: Products with K at most.
          throw: Raise if the tolerance is not reached; otherwise the result says so.
          report: Hears the iteration and the largest relative residual.

        Raises:
          NumericalError: If K + ρI is singular in float64, or the tolerance is not reached and `throw`.

        >>> encoding = FourierFeatures.gaussian(1, 32, 4.0, torch.Generator().manual_seed(0))
        >>> kernel = StationaryNTK.on_grid(encoding, (64,), depth=2)
        >>> kernel.solve(torch.ones(64), ridge=1e-3).converged
        True
        """
        if not 0 <= ridge < math.inf:
            raise InvalidValueError(f"ridge is {ridge}; expected a finite number, 0 or more")
        labels = self._take(y, "y")
        if self.circulant:
            return self._solve_circulant(labels, y, ridge)
        flat = labels.reshape(len(labels), -1).T
        preconditioner = self._preconditioner(ridge)

        def on_grid(operator: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
            return operator(v.T.reshape(-1, *self.shape)).reshape(v.shape[1], -1).T

        solved = conjugate_gradients(
            lambda v: on_grid(lambda u: self._matrix @ u, v) + ridge * v,
            flat,
            precondition=lambda v: on_grid(preconditioner, v),
            tolerance=tolerance,
            max_iterations=max_iterations,
            report=report,
        )
        converged = solved.residual <= 2 * tolerance  # CG carries its residual; this one is recomputed
        if throw and not converged:
            raise NumericalError(
                f"conjugate gradients reached a relative residual of {solved.residual:.2g} in {solved.iterations} "
                f"iterations, not {tolerance:g}; give a ridge (the largest eigenvalue is about "
                f"{self.largest_eigenvalue():.3g}), or more iterations"
            )
        weights = solved.x.T.reshape(-1, *self.shape)
        return GridSolution(self._give(weights, y), solved.iterations, solved.residual, converged)

    def regress(
        self,
        y: Tensor,
        shift: Sequence[float],
        ridge: float = 0.0,
        *,
        shape: Sequence[int] | None = None,
        tolerance: float = 1e-6,
        max_iterations: int = 1000,
    ) -> Tensor:
        """Kernel regression at a shifted grid, K_test (K + ρI)⁻¹ y: the network trained for ever, from output 0.

        Arguments and errors as for `solve` and `cross_matvec`.
        """
        solution = self.solve(y, ridge, tolerance=tolerance, max_iterations=max_iterations)
        return self.cross_matvec(solution.weights, shift, shape)

    def predict(
        self,
        y: Tensor,
        t: float | Tensor,
        learning_rate: float,
        f0: Tensor | None = None,
        *,
        shift: Sequence[float] | None = None,
        f0_test: Tensor | None = None,
        loss: str = "half_sum",
        time: str = "steps",
    ) -> Tensor:
        """Outputs of the linearised network after training for t, as `fingerpost.spectral.predict` has it, by FFT.

        Args:
          y: Labels, (*shape,) or (*shape, channels).
          t: Steps made, or a tensor of them.
          learning_rate: η of gradient descent.
          f0: Outputs at the start, like y; 0 if None.
          shift: Predict on the grid that starts there instead of on the training points.
          f0_test: Outputs at the start on that grid, like y.
          loss: "half_sum", "half_mean" or "mse".
          time: "steps" or "flow".

        Returns:
          Shape (*t.shape, *y.shape).

        Raises:
          InvalidValueError: If K is not circulant: `solve`, or `fingerpost.spectral.predict` on `dense()`, do without.
        """
        self._need_circulant("predict")
        known(time, "time", TIMES)
        if f0 is not None and shift is not None and f0_test is None:
            raise InvalidValueError("f0 is given without f0_test; test outputs start from the network's own")
        labels = self._take(y, "y")
        start = torch.zeros_like(labels) if f0 is None else self._take(f0, "f0", y)
        begin = start if shift is None else torch.zeros_like(labels)
        if shift is not None and f0_test is not None:
            begin = self._take(f0_test, "f0_test", y)
        step = step_size(learning_rate, loss, math.prod(self.shape), len(labels))
        times = checked_times(t, time).to(labels.device)
        values = self._matrix.spectrum.real.clamp(min=0)
        order = values.flatten().argsort(descending=True)
        ranked = values.flatten()[order]
        if time == "steps":
            warn_or_refuse(step * float(ranked[0]), learning_rate, times)
        factors = torch.empty(times.numel(), len(order), dtype=torch.float64, device=labels.device)
        factors[:, order] = learned_over_value(ranked, times.flatten(), step, time)
        gains = factors.reshape(-1, 1, *values.shape)
        gains = gains * (values if shift is None else self._cross(shift, self.shape).spectrum)
        axes = self._matrix.axes
        change = torch.fft.irfftn(gains * torch.fft.rfftn(labels - start, dim=axes), s=self.shape, dim=axes)
        result = (begin + change).movedim(1, -1).reshape(*times.shape, *self.shape, len(labels))
        return finished(result, times, y).reshape(*times.shape, *y.shape)

    def dense(self, shift: Sequence[float] | None = None, shape: Sequence[int] | None = None) -> Tensor:
        """K itself, or K_test for a shifted grid, float64, (points, points): for small grids and tests."""
        other = self.shape if shape is None else _grid(shape, len(self.shape), "shape")
        matrix = (
            self._matrix
            if shift is None and shape is None
            else self._cross(shift or (0.0,) * len(other), other)
        )
        points = math.prod(self.shape)
        unit = torch.eye(points, dtype=torch.float64, device=self._table.device)
        return (matrix @ unit.reshape(points, *self.shape)).reshape(points, -1).T

    def _lag_table(self, shift: Sequence[float], other: tuple[int, ...]) -> Tensor:
        """The kernel at the lags of an embedding, in which index j of L means lag j, or j − L from `other` on."""
        lags, device = [], self.encoding.B.device
        for n, m, h, s, wraps in zip(self.shape, other, self.spacing, shift, self.wraps):
            size = embedding_size(n, m, wraps and n == m)
            j = torch.arange(size, dtype=torch.float64, device=device)
            lag = j if wraps and n == m else torch.where(j < m, j, j - size)
            lags.append(s + h * lag)
        whole = self.circulant and other == self.shape and not any(shift)
        return kernel_at(self.encoding, self.network, lags, whole)

    def _cross(self, shift: Sequence[float], other: tuple[int, ...]) -> LagMatrix:
        offsets = tuple(float(s) for s in shift)
        if len(offsets) != len(self.shape) or not all(map(math.isfinite, offsets)):
            raise ShapeError(
                f"shift is {offsets} for a grid {self.shape}; expected one finite offset an axis"
            )
        return LagMatrix(self._lag_table(offsets, other), other, self.shape)

    def _solve_circulant(self, labels: Tensor, y: Tensor, ridge: float) -> GridSolution:
        axes, values = self._matrix.axes, self._matrix.spectrum.real + ridge
        least, most = float(values.min()), float(values.max())
        if not least > 1e-15 * most:
            raise NumericalError(
                f"K + ridge has eigenvalues from {least:.3g} to {most:.3g}: singular in float64; give a ridge of at least "
                f"{1e-14 * most:.1g}"
            )
        weights = torch.fft.irfftn(torch.fft.rfftn(labels, dim=axes) / values, s=self.shape, dim=axes)
        left = (labels - ridge * weights - self._matrix @ weights).flatten(1).norm(dim=1)
        size = labels.flatten(1).norm(dim=1)
        residual = float((left / torch.where(size > 0, size, 1.0)).max())
        return GridSolution(self._give(weights, y), 1, residual, True)

    def _preconditioner(self, ridge: float) -> Callable[[Tensor], Tensor]:
        axes = self._matrix.axes
        values = torch.fft.rfftn(folded(self._table, self.shape, self.wraps), dim=axes).real + ridge
        inverse = 1 / values.clamp(min=float(values.max()) * 1e-15)
        return lambda r: torch.fft.irfftn(inverse * torch.fft.rfftn(r, dim=axes), s=self.shape, dim=axes)

    def _need_circulant(self, what: str) -> None:
        if not self.circulant:
            raise InvalidValueError(
                f"{what} needs a circulant kernel; here frequencies do not make whole turns along axes "
                f"{[axis for axis, whole in enumerate(self.wraps) if not whole]} of the grid {self.shape}: use integer "
                "frequencies, solve(), or fingerpost.spectral.predict on dense()"
            )

    def _take(self, v: Tensor, name: str, like: Tensor | None = None) -> Tensor:
        """As float64 channels, (channels, *shape)."""
        axes = len(self.shape)
        if not isinstance(v, Tensor) or not v.is_floating_point():
            found = v.dtype if isinstance(v, Tensor) else type(v).__name__
            raise InvalidTypeError(
                f"{name} is {found}; expected a floating-point tensor on the grid {self.shape}"
            )
        fits = tuple(v.shape[:axes]) == self.shape and v.ndim in (axes, axes + 1)
        if not fits or (like is not None and v.shape != like.shape):
            wanted = f"{self.shape}, or with a last axis of channels" if like is None else tuple(like.shape)
            raise ShapeError(f"{name} has shape {tuple(v.shape)}; expected {wanted}")
        if not torch.isfinite(v).all():
            raise InvalidValueError(f"{name} has NaN or infinite values; drop or impute them first")
        v = v.detach().to(self._table.device, torch.float64)
        return v[None] if v.ndim == axes else v.movedim(-1, 0)

    @staticmethod
    def _give(result: Tensor, like: Tensor) -> Tensor:
        out = result[0] if like.ndim == result.ndim - 1 else result.movedim(0, -1)
        return out.to(like.device, like.dtype)

    def __repr__(self) -> str:
        form = "circulant" if self.circulant else "Toeplitz"
        return f"StationaryNTK({self.shape}, {form}, {self.network})"


def _whole_turns(encoding: FourierFeatures, axis: int, period: float) -> bool:
    turns = encoding.B[encoding.a != 0, axis].double() * period
    return bool(((turns - turns.round()).abs() <= 1e-9 * turns.abs().clamp(min=1.0)).all())


def _grid(shape: Sequence[int], axes: int, name: str) -> tuple[int, ...]:
    grid = tuple(int(n) for n in shape)
    if len(grid) != axes or min(grid) < 1:
        raise ShapeError(f"{name} is {grid}; expected {axes} positive counts, one for each coordinate")
    return grid


def _lanczos(product: Callable[[Tensor], Tensor], shape: tuple[int, ...], device: torch.device) -> float:
    """The largest Ritz value of a symmetric operator on grids, from a start that no symmetry is blind to."""
    generator = torch.Generator().manual_seed(0)
    v = (1 + torch.rand(shape, generator=generator, dtype=torch.float64)).to(device)
    basis, diagonal, off = [v / v.norm()], [], []
    for _ in range(min(_LANCZOS_STEPS, v.numel())):
        w = product(basis[-1][None])[0]
        diagonal.append(float((w * basis[-1]).sum()))
        for u in basis:
            w = w - (w * u).sum() * u
        size = float(w.norm())
        if size <= 1e-12 * abs(diagonal[0]):
            break
        off.append(size)
        basis.append(w / size)
    k = len(diagonal)
    T = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    side = torch.tensor(off[: k - 1], dtype=torch.float64)
    return float(torch.linalg.eigvalsh(T + torch.diag(side, 1) + torch.diag(side, -1))[-1])
