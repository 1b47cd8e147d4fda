"""Tangent and covariance kernels of infinitely wide ReLU networks, in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError, ShapeError
from fingerpost.spectral._relu_recursion import dense, gains, relu_kernels

_BLOCK = 2**21
"""Pairs of points, or their coordinates, at a time."""
_FEW = 64
"""Up to so many coordinates, differences of all pairs cost less than their products."""
_NEAR = 1e-5
"""Squared distances below this share lose digits in a difference of squares: 1e-11 of themselves at the threshold."""


def relu_ntk(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    depth: int,
    weight_std: float = math.sqrt(2.0),
    bias_std: float = 0.1,
    output_scale: float = 1.0,
    encoding: nn.Module | None = None,
    width: int | None = None,
) -> Tensor:
    r"""The neural tangent kernel of an wide ReLU network, in the NTK or the standard parametrization.

    $\Theta_1 = S_1$, $\Theta_{l+1} = S_{l+1} + \sigma_W^2\,\Theta_l\,\frac{\pi-\theta_l}{2\pi}$ with the covariances S and
    angles θ of the pre-activations (Jacot et al. 2018, theorem 1, https://arxiv.org/abs/1806.07572; Lee et al. 2019,
    https://arxiv.org/abs/1902.06720, appendix E). It is the limit of `empirical_ntk` of
    `CoordinateMLP(…, parametrization="ntk")` with the same settings, for one output. Float32 is right to 1e-6 of the larger
    diagonal entry, near coincident points too: what vanishes there is carried by itself (`_relu_recursion`).

    Args:
      x1: Points, shape (n₁, d), floating; half precision is computed in float32.
      x2: Points, shape (n₂, d); None takes x1.
      depth: Hidden layers.
      weight_std: σ_W of every layer.
      bias_std: σ_b of every layer; 0 for a network without biases.
      output_scale: α; the kernel carries α².
      encoding: Applied to both, such as `FourierFeatures`; its width is the first layer's fan-in.
      width: Units of a hidden layer in the standard parametrization, where the kernel has no limit and grows with it; trained
        biases are counted, also at `bias_std` = 0. None is the NTK parametrization.

    Returns:
      Shape (n₁, n₂).

    Raises:
      ShapeError: If points are not (n, d), or d differs.
      InvalidTypeError: If points are not floating tensors of one dtype.
      InvalidValueError: If a coordinate is not finite, depth below 1, or a scale negative.
      NumericalError: If the kernel overflows.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    >>> relu_ntk(x, depth=1, bias_std=0.0)
    tensor([[2.0000, 0.3183],
            [0.3183, 2.0000]], dtype=torch.float64)
    """
    _, ntk = _blocks(x1, x2, depth, weight_std, bias_std, output_scale, encoding, width, 1)
    return ntk


def relu_nngp(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    depth: int,
    weight_std: float = math.sqrt(2.0),
    bias_std: float = 0.1,
    output_scale: float = 1.0,
    encoding: nn.Module | None = None,
) -> Tensor:
    r"""The covariance of an infinitely wide ReLU network's outputs at the start of training.

    $S_{l+1} = \frac{\sigma_W^2}{2\pi}\left(\sqrt{q_1q_2}\sin\theta_l + (\pi-\theta_l) S_l\right) + \sigma_b^2$ (Cho and Saul
    2009, https://papers.nips.cc/paper/3628; Lee et al. 2018, https://arxiv.org/abs/1711.00165). Arguments, errors and
    accuracy as for `relu_ntk`; it holds in both parametrizations.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    >>> relu_nngp(x, depth=1, bias_std=0.0)
    tensor([[1.0000, 0.3183],
            [0.3183, 1.0000]], dtype=torch.float64)
    """
    nngp, _ = _blocks(x1, x2, depth, weight_std, bias_std, output_scale, encoding, None, 0)
    return nngp


def _blocks(
    x1: Tensor,
    x2: Tensor | None,
    depth: int,
    weight_std: float,
    bias_std: float,
    output_scale: float,
    encoding: nn.Module | None,
    width: int | None,
    wanted: int,
) -> tuple[Tensor, Tensor]:
    """Both kernels, rows of x1 a block at a time; the one that is not wanted stays empty."""
    check_recursion(depth, weight_std, bias_std, output_scale, width)
    first = _points(x1, "x1", encoding)
    second = first if x2 is None else _points(x2, "x2", encoding)
    if first.shape[1] != second.shape[1]:
        raise ShapeError(
            f"x1 has shape {tuple(x1.shape)} and x2 {tuple(second.shape)}; expected as many columns"
        )
    if first.dtype != second.dtype:
        raise InvalidTypeError(f"x1 is {first.dtype} and x2 {second.dtype}; expected one dtype")
    out: list[list[Tensor]] = [[], []]
    for rows in first.split(max(1, _BLOCK // len(second))):
        both = _pairs(rows, second, depth, weight_std, bias_std, width)
        out[wanted].append(output_scale**2 * both[wanted])
    whole = [torch.cat(parts) if parts else first.new_empty(0) for parts in out]
    if not torch.isfinite(whole[wanted].sum()):
        raise NumericalError(
            f"the kernel overflows {first.dtype} at depth {depth}; scale the inputs down, or use float64"
        )
    return whole[0], whole[1]


def _pairs(
    x: Tensor, y: Tensor, depth: int, weight_std: float, bias_std: float, width: int | None
) -> tuple[Tensor, Tensor]:
    squares = x.square().sum(1)[:, None], y.square().sum(1)[None]
    determinant, gap = (_direct if x.shape[1] <= _FEW else _by_gram)(x, y)
    first = dense(*squares, determinant.to(x.dtype), gap.to(x.dtype), x.shape[1], weight_std, bias_std)
    gain = gains(x.shape[1], width, weight_std, bias_std)
    return relu_kernels(first, depth, weight_std, bias_std, gain)


def _direct(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """|x|²|y|² − (x·y)² and |x − y|² of all pairs, without a difference of squares."""
    lengths = x.norm(dim=1)[:, None] * y.norm(dim=1)[None]
    u, v = _units(x), _units(y)
    sine = _distances(u, v) * _distances(u, -v) / 2  # of chords: no 1 − cos², which loses small angles
    return (lengths * sine).square(), _distances(x, y).square()


def _by_gram(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The same by a product of matrices in float64; pairs that nearly coincide, or are opposite, are made again."""
    x, y = x.double(), y.double()
    x_square, y_square, cross = x.square().sum(1)[:, None], y.square().sum(1)[None], x @ y.T
    determinant, gap = x_square * y_square - cross.square(), x_square + y_square - 2 * cross
    near = (determinant < _NEAR * x_square * y_square) | (gap < _NEAR * (x_square + y_square))
    for rows, columns in (part.T for part in near.nonzero().split(max(1, _BLOCK // x.shape[1]))):
        a, b = x[rows], y[columns]
        u, v = _units(a), _units(b)
        sine = (u - v).norm(dim=1) * (u + v).norm(dim=1) / 2
        determinant[rows, columns] = (a.norm(dim=1) * b.norm(dim=1) * sine).square()
        gap[rows, columns] = (a - b).square().sum(1)
    return determinant, gap


def _units(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _points(x: Tensor, name: str, encoding: Callable[[Tensor], Tensor] | None) -> Tensor:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        found = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise InvalidTypeError(f"{name} is {found}; expected a floating-point tensor of shape (n, d)")
    if x.ndim != 2 or not x.numel():
        raise ShapeError(f"{name} has shape {tuple(x.shape)}; expected (n, d) with n ≥ 1: one point a row")
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    with torch.no_grad():
        features = x.detach() if encoding is None else encoding(x.detach())
    if not torch.isfinite(features).all():
        raise InvalidValueError(f"{name} has NaN or infinite values; drop or impute them first")
    return features


def check_recursion(
    depth: int, weight_std: float, bias_std: float, output_scale: float, width: int | None = None
) -> None:
    """Raises InvalidValueError unless sizes are whole numbers from 1 on and scales are finite and not negative."""
    for name, value in (("depth", depth), ("width", 1 if width is None else width)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidValueError(f"{name} is {value!r}; expected a whole number of at least 1")
    scales = {"weight_std": weight_std, "bias_std": bias_std, "output_scale": output_scale}
    for name, value in scales.items():
        if not 0 <= value < math.inf:
            raise InvalidValueError(f"{name} is {value}; expected a finite number, 0 or more")
    if width is not None and weight_std == 0:
        raise InvalidValueError("weight_std is 0; the standard parametrization divides by it")
