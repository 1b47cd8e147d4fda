"""The loss as the instrument sees it: in float64, with the same randomness at every call, one value per sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fingerpost.audit._point import Leaves, covectors
from fingerpost.audit._precision import DoublePrecision
from fingerpost.errors import FingerpostError, InvalidTypeError, InvalidValueError, NumericalError

_SEED = 20260402


class Problem:
    """A loss at a point: evaluations, the exact gradient, and gradients with a backward rule changed.

    Args:
      loss: Maps the point to one value per sample, shape (N,), or to one number.
      leaves: The point.
      per_sample: Whether the leaves' first axis counts samples; None decides by measurement: it does if changing
        the weight of one sample's loss changes that row of the gradient and no other.
      double: Whether to compute in float64 (see `DoublePrecision`), whatever the dtype of the point.
    """

    def __init__(
        self, loss: Callable[[Any], Tensor], leaves: Leaves, per_sample: bool | None, double: bool = True
    ) -> None:
        self.loss = loss
        self.leaves = leaves
        self._double = DoublePrecision() if double else None
        wide = [t.detach().double() if double else t.detach().clone() for t in leaves.tensors]
        self.point: list[Tensor] = wide
        self.per_sample = per_sample
        self.samples = 1
        self.gradient = self._first_gradient()

    def evaluate(self, point: Sequence[Tensor], modes: Sequence[TorchFunctionMode] = ()) -> Tensor:
        """The loss at `point` (one tensor per leaf), in float64, shape (N,) or (1,)."""
        _reseed()
        with self.precision(), _Entered(modes):
            value = self.loss(self.leaves.rebuild(list(point)))
        if not isinstance(value, Tensor):
            raise InvalidTypeError(
                f"the loss returned a {type(value).__name__}; expected a tensor of shape (N,) or ()"
            )
        if value.dim() > 1:
            raise InvalidValueError(
                f"the loss has shape {tuple(value.shape)}; expected one value per sample, (N,), or one number, ()"
            )
        if not torch.isfinite(value).all():
            raise NumericalError("the loss is NaN or infinite at the point; audit where the loss is finite")
        return value.reshape(-1)

    def precision(self) -> _Entered:
        """A context in which the user's code runs in the instrument's precision."""
        return _Entered([self._double] if self._double else [])

    def differentiate(
        self, modes: Sequence[TorchFunctionMode] = (), at: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """∂ (sum of the loss) / ∂ point, one float64 tensor per leaf.

        Args:
          modes: Modes that change backward rules (see `_backward`).
          at: Another point than the audited one, one tensor per leaf.
        """
        point = self._leaf_copies() if at is None else [t.detach().double().requires_grad_() for t in at]
        return self._gradients(point, modes)[1]

    def difference(self, steps: Sequence[Tensor | None]) -> Tensor:
        """½[L(x + δ) − L(x − δ)] per row, shape (samples,); None where a leaf does not move."""
        with torch.no_grad():
            ahead = self.evaluate([p if s is None else p + s for p, s in zip(self.point, steps)])
            behind = self.evaluate([p if s is None else p - s for p, s in zip(self.point, steps)])
        change = (ahead.double() - behind.double()) / 2
        return change if len(change) == self.samples else change.sum().reshape(1)

    def exact(self, reference: Callable[[Any], Any] | None) -> list[Tensor]:
        """The gradient by autograd, or the user's own reference, checked and widened."""
        if reference is None:
            return self.gradient
        value = reference(self.leaves.rebuild([t.detach().clone().requires_grad_() for t in self.point]))
        return [t.double() for t in covectors(value, self.leaves, "reference")]

    def _leaf_copies(self) -> list[Tensor]:
        return [t.detach().clone().requires_grad_() for t in self.point]

    def _gradients(
        self, point: list[Tensor], modes: Sequence[TorchFunctionMode] = (), weigh: bool = False
    ) -> tuple[Tensor, list[Tensor], list[Tensor] | None, Tensor | None]:
        with torch.enable_grad():
            losses = self.evaluate(point, modes)
            gradient = self._grad(losses.sum(), point, retain=weigh)
            if not weigh:
                return losses, gradient, None, None
            generator = torch.Generator().manual_seed(_SEED)
            weights = torch.rand(losses.shape, generator=generator, dtype=torch.float64).to(losses) + 0.5
            return losses, gradient, self._grad((losses * weights).sum(), point, retain=False), weights

    def _grad(self, total: Tensor, point: list[Tensor], retain: bool) -> list[Tensor]:
        if not total.requires_grad:
            raise InvalidValueError(
                f"the loss ignores the point (leaf {self.leaves.names[0]!r} and all others): "
                "it must be computed, differentiably, from the point it is given"
            )
        found = torch.autograd.grad(total, point, allow_unused=True, retain_graph=retain)
        for name, part in zip(self.leaves.names, found):
            if part is None:
                raise InvalidValueError(
                    f"the loss ignores leaf {name!r} of the point: compute the loss from it, or leave it out"
                )
        return [part.double() for part in found]

    def _first_gradient(self) -> list[Tensor]:
        point = self._leaf_copies()
        decide = self.per_sample is None and self._could_be_rows()
        losses, gradient, weighted, weights = self._gradients(point, weigh=decide)
        self._drop_idle_mode()
        self.losses = losses.detach().double()
        fits = all(p.dim() > 0 and p.shape[0] == losses.numel() for p in self.point) and losses.numel() > 1
        if self.per_sample is None:
            self.per_sample = bool(decide and fits and _rows_apart(gradient, weighted, weights))
        elif self.per_sample:
            self._check_rows()
        self.samples = self.point[0].shape[0] if self.per_sample else 1
        return gradient

    def _drop_idle_mode(self) -> None:
        """A loss that is in float64 already is evaluated without the mode, which costs time at every operation."""
        if self._double is not None and not self._double.met:
            self._double = None

    def _could_be_rows(self) -> bool:
        first = {p.shape[0] if p.dim() else 0 for p in self.point}
        return len(first) == 1 and first != {0} and first != {1}

    def _check_rows(self) -> None:
        if self.losses.numel() == 1:
            raise InvalidValueError(
                "per_sample=True, but the loss gave one number; return one value per sample, (N,)"
            )
        count = self.losses.numel()
        rows = {name: p.shape[:1] for name, p in zip(self.leaves.names, self.point)}
        if len(set(rows.values())) != 1 or () in rows.values():
            raise InvalidValueError(
                f"per_sample=True, but the leaves' first axes differ: "
                f"{ {name: tuple(r) for name, r in rows.items()} }; give every leaf one row per sample"
            )
        if self.point[0].shape[0] != count:
            raise InvalidValueError(
                f"per_sample=True, but the loss gave {count} values for {self.point[0].shape[0]} rows of the point; "
                "return one value per row, (N,)"
            )


def _rows_apart(gradient: list[Tensor], weighted: list[Tensor] | None, weights: Tensor | None) -> bool:
    if weighted is None or weights is None:
        return False
    for plain, scaled in zip(gradient, weighted):
        expected = plain * weights.double().reshape(-1, *[1] * (plain.dim() - 1))
        if not torch.allclose(scaled, expected, rtol=1e-4, atol=1e-6 * float(plain.abs().max())):
            return False
    return True


def _reseed() -> None:
    """As torch.manual_seed, without its detour over devices that nobody has touched."""
    torch.default_generator.manual_seed(_SEED)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(_SEED)


class _Entered:
    """Enters several torch function modes; the last is innermost, and sees calls first."""

    def __init__(self, modes: Sequence[TorchFunctionMode]) -> None:
        self._modes = modes

    def __enter__(self) -> None:
        for mode in self._modes:
            mode.__enter__()

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)


def call_signal(signal: Callable[[Any], Any], leaves: Leaves) -> list[Tensor]:
    """Calls the user's signal once at a fresh copy of the point, in the point's own dtype, and checks the answer.

    Raises:
      InvalidTypeError: If the signal is detached from a leaf, or returns something else than tensors.
      ShapeError: If a shape differs from the point's.
      NumericalError: If the signal holds NaN or infinity.
    """
    point = leaves.rebuild([t.detach().clone().requires_grad_() for t in leaves.tensors])
    try:
        with torch.enable_grad():
            value = signal(point)
    except FingerpostError:
        raise
    except RuntimeError as error:
        if "does not require grad" in str(error) or "not have been used in the graph" in str(error):
            raise InvalidTypeError(
                f"the signal is detached from the point (leaves {', '.join(leaves.names)}): autograd found no way "
                f"back to it ({error}); compute with the point that the signal is given, without .detach(), .data "
                "or torch.no_grad()"
            ) from error
        raise
    return covectors(value, leaves, "signal")
