"""Fourier feature encodings of coordinates: basic, power law, positional, Gaussian."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError, counted

Spacing = Literal["paper", "released", "octave"]
_HALF = (torch.float16, torch.bfloat16)


class NyquistWarning(UserWarning):
    """A frequency of an encoding can't be told from a lower one on the training grid."""


class FourierFeatures(nn.Module):
    r"""Cosines and sines of coordinates at fixed frequencies.

    $\gamma(v) = [a_1\cos 2\pi b_1^T v, …, a_m\cos 2\pi b_m^T v, a_1\sin 2\pi b_1^T v, …, a_m\sin 2\pi b_m^T v]$ (Tancik et
    al. 2020, Fourier features let networks learn high frequency functions in low dimensional domains, eq. 5,
    https://arxiv.org/abs/2006.10739; here all cosines come first), so that $\gamma(v)^T\gamma(w) = \sum_j a_j^2 \cos 2\pi
    b_j^T(v-w)$ depends on v − w alone. B and a are buffers: saved with the network, not trained. Phases are made in
    float32 or better, under autocast too, and `half()` or `bfloat16()` leaves B and a as they are.

    Args:
      B: Frequencies, shape (m, d), in cycles per unit of the coordinates.
      a: Amplitudes, shape (m,); None takes 1 for each.
      normalize: Divide a by ‖a‖, so that ‖γ(v)‖ = 1: amplitudes then set the spectrum and not the learning rate too.
      grid: Training points along each axis of [0, 1)^d; warns of frequencies past its Nyquist limit.

    Raises:
      ShapeError: If B is not (m, d) or a not (m,).
      InvalidValueError: If either is not finite, or all amplitudes are 0.

    >>> encode = FourierFeatures(torch.tensor([[1.0], [2.0]]), normalize=False)
    >>> encode(torch.tensor([[0.25]])).round(decimals=4) + 0
    tensor([[ 0., -1.,  1.,  0.]])
    """

    B: Tensor
    a: Tensor

    def __init__(
        self,
        B: Tensor | Sequence[Sequence[float]],
        a: Tensor | Sequence[float] | None = None,
        normalize: bool = True,
        *,
        grid: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        B = _floating(B, "B")
        if B.ndim != 2 or not B.numel():
            raise ShapeError(
                f"B has shape {tuple(B.shape)}; expected (m, d): a row for each frequency, a column for each coordinate"
            )
        weights = torch.ones(len(B)) if a is None else _floating(a, "a")
        if weights.shape != (len(B),):
            raise ShapeError(
                f"a has shape {tuple(weights.shape)} and B {tuple(B.shape)}; expected ({len(B)},): one amplitude a row"
            )
        if normalize:
            norm = torch.linalg.vector_norm(weights.double())
            if norm == 0:
                raise InvalidValueError("all amplitudes a are 0; normalize=True divides by their norm")
            weights = weights.double() / norm
        self.register_buffer("B", B.clone())
        self.register_buffer("a", weights.to(B, copy=True))
        self._warned: set[tuple[int, ...]] = set()
        if grid is not None:
            self.check_nyquist(grid)

    @classmethod
    def basic(cls, d: int, *, normalize: bool = False) -> FourierFeatures:
        """[cos 2πv, sin 2πv]: each coordinate once around the circle.

        Args:
          d: Coordinates.
          normalize: As in `FourierFeatures`.

        >>> FourierFeatures.basic(2).B
        tensor([[1., 0.],
                [0., 1.]])
        """
        _check_count("d", d)
        return cls(torch.eye(d), normalize=normalize)

    @classmethod
    def power(cls, p: float, n: int, *, normalize: bool = True) -> FourierFeatures:
        r"""The one-dimensional family $b_j = j$, $a_j = 1/j^p$ for j = 1…n/2 (Tancik et al. 2020, section 5).

        At even n the last frequency is the Nyquist frequency of n points: its sine vanishes on the training grid i/n, and
        only its cosine is learnt. p = ∞ keeps all n/2 rows with a = (1, 0, …, 0), so that the first layer has as many inputs.

        Args:
          p: Decay; 0 gives all frequencies the same weight, ∞ only the first.
          n: Training points in [0, 1), at least 2.
          normalize: Divide by ‖a‖; otherwise p changes the learning rate too.

        >>> FourierFeatures.power(1.0, 6, normalize=False).a
        tensor([1.0000, 0.5000, 0.3333])
        """
        if not isinstance(n, int) or n < 2:
            raise InvalidValueError(f"n is {n!r}; expected at least 2 training points")
        if math.isnan(p):
            raise InvalidValueError("p is nan; expected a number or inf")
        j = torch.arange(1, n // 2 + 1, dtype=torch.float64)
        a = j.pow(-p)  # 1^-inf is 1 and j^-inf is 0
        if not torch.isfinite(a).all():
            raise InvalidValueError(f"p is {p}; {n // 2}^{-p:g} overflows")
        dtype = torch.get_default_dtype()
        return cls(j[:, None].to(dtype), a.to(dtype), normalize)

    @classmethod
    def positional(
        cls,
        d: int,
        m: int,
        sigma: float | None = None,
        spacing: Spacing = "paper",
        *,
        normalize: bool = False,
    ) -> FourierFeatures:
        r"""Frequencies on the axes, log-spaced, the same for each coordinate: k = m/d of them.

        "paper": $\sigma^{j/k}$ for j = 0…k−1 (Tancik et al. 2020, section 6). "released": $2^{s} - 1$ for k values of s evenly
        from 0 to S = log₂ σ, as in that paper's published code; the first is 0, so one cosine of each coordinate
        is constant. "octave": $2^j$ for j = 0…k−1 (Mildenhall et al. 2020, NeRF, eq. 4, https://arxiv.org/abs/2003.08934, on
        coordinates in [−1, 1)), and no σ.

        Args:
          d: Coordinates.
          m: Frequencies in all, a multiple of d.
          sigma: σ > 0, the highest frequency or nearly so, in cycles per unit.
          spacing: "paper", "released" or "octave".
          normalize: As in `FourierFeatures`.

        >>> FourierFeatures.positional(1, 4, 16.0).B.flatten()
        tensor([1., 2., 4., 8.])
        >>> FourierFeatures.positional(1, 4, 8.0, "released").B.flatten()
        tensor([0., 1., 3., 7.])
        """
        _check_count("d", d)
        if not isinstance(m, int) or m < d or m % d:
            raise InvalidValueError(
                f"m is {m!r} and d {d}; expected a multiple of d: as many frequencies on each axis"
            )
        each = _log_spaced(m // d, sigma, spacing).to(torch.get_default_dtype())
        return cls(torch.kron(each[:, None], torch.eye(d)), normalize=normalize)

    @classmethod
    def gaussian(
        cls,
        d: int,
        m: int,
        sigma: float,
        generator: torch.Generator | None = None,
        *,
        normalize: bool = False,
    ) -> FourierFeatures:
        r"""Frequencies drawn once from $N(0, \sigma^2 I)$ (Tancik et al. 2020, section 6).

        Args:
          d: Coordinates.
          m: Frequencies.
          sigma: σ, in cycles per unit.
          generator: Where the draws come from; None takes torch's own.
          normalize: As in `FourierFeatures`.

        >>> FourierFeatures.gaussian(2, 256, 10.0, torch.Generator().manual_seed(0)).features
        512
        """
        _check_count("d", d)
        _check_count("m", m)
        if not 0 < sigma < math.inf:
            raise InvalidValueError(f"sigma is {sigma}; expected a positive number of cycles per unit")
        device = None if generator is None else generator.device
        return cls(sigma * torch.randn(m, d, generator=generator, device=device), normalize=normalize)

    @property
    def dimension(self) -> int:
        """Coordinates d of a point."""
        return self.B.shape[1]

    @property
    def features(self) -> int:
        """Numbers that come out, 2m."""
        return 2 * len(self.B)

    def forward(self, v: Tensor) -> Tensor:
        """The features of points.

        Args:
          v: Points, shape (…, d), floating.

        Returns:
          γ(v), shape (…, 2m), in v's dtype; computed in the higher of v's, B's and float32.

        Raises:
          ShapeError: If the last axis of v is not d.
          InvalidTypeError: If v is not floating.
          InvalidValueError: If a coordinate is NaN or infinite.
        """
        _check_points(v, self.dimension)
        with torch.autocast(v.device.type, enabled=False):
            work = torch.promote_types(v.dtype, self.B.dtype)  # B is never below float32
            cycles = self._cycles(v.to(work), self.B.to(work))
            phase = 2 * math.pi * (cycles - cycles.detach().round())  # whole turns go while they are exact
            a = self.a.to(work)
            out = torch.cat([a * torch.cos(phase), a * torch.sin(phase)], -1)
        return out.to(v.dtype)

    def check_nyquist(self, shape: Sequence[int]) -> bool:
        """Warns, once for a grid, of frequencies past the Nyquist limit n/2 of any axis of a training grid.

        Args:
          shape: Training points along each axis of [0, 1)^d.

        Returns:
          Whether every frequency of non-zero amplitude is within the limits.

        >>> FourierFeatures.power(1.0, 16).check_nyquist((16,))
        True
        """
        shape = tuple(int(n) for n in shape)
        if len(shape) != self.dimension or min(shape) < 1:
            raise ShapeError(
                f"grid {shape} of an encoding of {self.dimension} coordinates; one count an axis"
            )
        limit = torch.tensor(shape, dtype=torch.float64, device=self.B.device) / 2
        past = ((self.B.double().abs() > limit).any(1)) & (self.a != 0)
        count = int(past.sum())
        if count and shape not in self._warned:
            self._warned.add(shape)
            highest = [round(value, 2) for value in self.B[past].abs().amax(0).tolist()]
            warnings.warn(
                f"{count} of {len(self.B)} frequencies pass the Nyquist limit {limit.tolist()} of the training grid {shape}, "
                f"up to {highest} cycles per unit: on its points they look like lower ones, and between them they are not "
                "learnt; lower sigma, or train on more points",
                NyquistWarning,
                stacklevel=2,
            )
        return count == 0

    def _cycles(self, v: Tensor, B: Tensor) -> Tensor:
        """B v, axis by axis: a matrix product may be rounded to TF32 or bfloat16."""
        total = v[..., 0, None] * B[:, 0]
        for axis in range(1, self.dimension):
            total = total + v[..., axis, None] * B[:, axis]
        return total

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Moves and casts, but not to half precision: a frequency of 100 would be off by a quarter."""

        def keep(t: Tensor) -> Tensor:
            moved = fn(t)
            return t.to(moved.device) if moved.dtype in _HALF else moved

        return super()._apply(keep, recurse)

    def extra_repr(self) -> str:
        """What `print` shows of it."""
        return f"d={self.dimension}, m={len(self.B)}, highest={float(self.B.abs().max()):.6g}"


def _log_spaced(count: int, sigma: float | None, spacing: str) -> Tensor:
    j = torch.arange(count, dtype=torch.float64)
    if spacing == "octave":
        if sigma is not None:
            raise InvalidValueError(
                f"sigma is {sigma}; octaves are 1, 2, 4, … and have none: m sets the highest"
            )
        return 2.0**j
    if spacing not in ("paper", "released"):
        raise InvalidValueError(f"spacing is {spacing!r}; expected 'paper', 'released' or 'octave'")
    if sigma is None or not 0 < sigma < math.inf:
        raise InvalidValueError(f"sigma is {sigma}; spacing {spacing!r} needs a positive number of cycles")
    if spacing == "paper":
        return sigma ** (j / count)
    return 2.0 ** torch.linspace(0.0, math.log2(sigma), count, dtype=torch.float64) - 1.0


def _floating(value: Any, name: str) -> Tensor:
    tensor = torch.as_tensor(value)
    if tensor.is_complex():
        raise InvalidTypeError(f"{name} is {tensor.dtype}; expected real numbers")
    if not tensor.is_floating_point() or tensor.dtype in _HALF:
        tensor = tensor.to(torch.get_default_dtype())
    if not torch.isfinite(tensor).all():
        raise InvalidValueError(f"{name} has NaN or infinite entries; expected finite numbers")
    return tensor.detach()


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidValueError(f"{name} is {value!r}; expected a whole number of at least 1")


def _check_points(v: Tensor, d: int) -> None:
    if not isinstance(v, Tensor) or not v.is_floating_point():
        found = v.dtype if isinstance(v, Tensor) else type(v).__name__
        raise InvalidTypeError(f"coordinates are {found}; expected a floating-point tensor of shape (…, {d})")
    if v.shape[-1:] != (d,):
        raise ShapeError(f"coordinates have shape {tuple(v.shape)}; this encoding expects (…, {d})")
    if torch.compiler.is_compiling():
        return
    try:
        finite = bool(torch.isfinite(v.detach()).all())
    except RuntimeError:  # under vmap there is no one answer
        return
    if not finite:
        rows = (~torch.isfinite(v).reshape(-1, d).all(1)).nonzero().flatten().tolist()
        raise InvalidValueError(
            f"coordinates of shape {tuple(v.shape)} have NaN or infinite values in {counted(len(rows), 'point')}, the first at "
            f"row {rows[0]}; drop or impute them first"
        )
