"""What `dynamics` asks of a tangent kernel: its shapes, and the symmetric matrices that it stands for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError, counted, did_you_mean


@dataclass(frozen=True)
class Block:
    """One symmetric float64 matrix; `epsilon` is the precision that its entries were given in."""

    matrix: Tensor
    epsilon: float

    def eigen(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues, largest first and at least 0, and eigenvectors as columns."""
        values, vectors = torch.linalg.eigh(self.matrix)
        lowest, largest = float(values[0]), float(values.abs().max())
        if lowest < -10 * self.epsilon * len(values) * largest:
            raise InvalidValueError(
                f"K has the eigenvalue {lowest:.3g} (largest {largest:.3g}); a tangent kernel has none below 0: "
                "compute it more accurately, in float64"
            )
        return values.clamp(min=0).flip(0), vectors.flip(1)


class TangentKernel:
    """A kernel of training points in one of its three shapes, as symmetric matrices.

    Args:
      K: (n, n), shared by all outputs; (n, n, o), one for each output; (n, n, o, o), full.
    """

    def __init__(self, K: Tensor) -> None:
        floating(K, "K")
        square = K.ndim in (2, 3, 4) and K.shape[0] == K.shape[1] and (K.ndim < 4 or K.shape[2] == K.shape[3])
        if not square or K.numel() == 0:
            raise ShapeError(
                f"K has shape {tuple(K.shape)}; expected a square kernel of the training points: (n, n), (n, n, o) or "
                "(n, n, o, o)"
            )
        finite(K, "K")
        self.shape, self.points = tuple(K.shape), K.shape[0]
        self.outputs = K.shape[2] if K.ndim > 2 else 0
        epsilon = torch.finfo(K.dtype).eps
        self.blocks = [Block(symmetric(matrix, epsilon), epsilon) for matrix in _matrices(K)]

    def labels(self, value: Tensor, name: str, like: Tensor | None = None) -> Tensor:
        """Labels as float64, (n, o)."""
        floating(value, name)
        table = value[:, None] if value.ndim == 1 and not self.outputs else value
        wrong = table.ndim != 2 or table.shape[0] != self.points or table.shape[1] == 0
        if wrong or (self.outputs and table.shape[1] != self.outputs):
            n, o = self.points, self.outputs
            expected = f"({n}, {o})" if o else f"({n},) or ({n}, o)"
            raise ShapeError(
                f"{name} has shape {tuple(value.shape)}; expected {expected}, to fit K of shape {self.shape}"
            )
        if like is not None and table.shape != like.shape:
            raise ShapeError(
                f"{name} has shape {tuple(value.shape)}; expected that of y, {tuple(like.shape)}"
            )
        finite(value, name)
        return table.detach().to(self.blocks[0].matrix)

    def columns(self, labels: Tensor, block: int) -> Tensor:
        """The right-hand sides of a block: (n, o) of a shared kernel, (n, 1) of its own, (n·o, 1) of a full one."""
        if len(self.shape) == 4:
            return labels.reshape(-1, 1)
        return labels[:, block, None] if self.outputs else labels

    def test_blocks(self, K_test: Tensor) -> list[Tensor]:
        """The matrices between test and training points, one for each block."""
        floating(K_test, "K_test")
        if tuple(K_test.shape[1:]) != self.shape[1:]:
            expected = ", ".join(str(size) for size in self.shape[1:])
            raise ShapeError(
                f"K_test has shape {tuple(K_test.shape)}; expected (m, {expected}): rows are test points, columns "
                "training points"
            )
        finite(K_test, "K_test")
        return [matrix.to(self.blocks[0].matrix) for matrix in _matrices(K_test)]

    def test_start(self, f0_test: Tensor | None, points: int, labels: Tensor) -> Tensor:
        """Outputs at initialization on test points, (m, o); 0 if None."""
        outputs = labels.shape[1]
        if f0_test is None:
            return labels.new_zeros(points, outputs)
        floating(f0_test, "f0_test")
        table = f0_test[:, None] if f0_test.ndim == 1 else f0_test
        if tuple(table.shape) != (points, outputs):
            raise ShapeError(
                f"f0_test has shape {tuple(f0_test.shape)}; expected {points} rows, as K_test has, and {outputs} "
                "output(s), as y has"
            )
        finite(f0_test, "f0_test")
        return table.detach().to(labels)


def _matrices(K: Tensor) -> list[Tensor]:
    """A kernel as float64 matrices; of a full one, point and output share an axis in that order."""
    wide = K.detach().to(torch.float64)
    if K.ndim == 2:
        return [wide]
    if K.ndim == 3:
        return list(wide.unbind(-1))
    return [wide.permute(0, 2, 1, 3).reshape(K.shape[0] * K.shape[2], K.shape[1] * K.shape[3])]


def symmetric(matrix: Tensor, epsilon: float) -> Tensor:
    """The mean of a matrix and its transpose; raises InvalidValueError where they differ by more than rounding."""
    gap, size = float((matrix - matrix.T).abs().max()), float(matrix.abs().max())
    if gap > 1000 * epsilon * size:
        raise InvalidValueError(
            f"K is not symmetric: entries differ from the transpose's by up to {gap:.3g} (largest entry {size:.3g}); "
            "give the kernel of the training points with themselves"
        )
    return (matrix + matrix.T) / 2


def floating(value: Tensor, name: str) -> None:
    """Raises InvalidTypeError for what is no floating tensor."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise InvalidTypeError(f"{name} is {kind}; expected a floating tensor")


def finite(value: Tensor, name: str) -> None:
    """Raises InvalidValueError for NaN or infinity, with the first place."""
    bad = ~torch.isfinite(value)
    if bool(bad.any()):
        place = tuple(torch.nonzero(bad)[0].tolist())
        raise InvalidValueError(
            f"{name} is NaN or infinite in {counted(int(bad.sum()), 'entry')}, first at {place}; drop or mend them first"
        )


def known(value: str, name: str, choices: tuple[str, ...]) -> None:
    """Raises InvalidValueError for a word that is none of the choices."""
    if value not in choices:
        raise InvalidValueError(
            f"{name} is {value!r}; expected one of {', '.join(choices)}{did_you_mean(str(value), choices)}"
        )
