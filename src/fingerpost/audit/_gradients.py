"""`audit_gradients` and `assert_aligned`: the two common cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from fingerpost.audit._audit import Audit, Settings, audit, check_callable
from fingerpost.audit._point import Leaves, covectors, flatten
from fingerpost.audit._problem import Problem
from fingerpost.audit._report import AuditReport
from fingerpost.audit._state import modules_kept, random_states_kept, reachable_modules
from fingerpost.audit._verdict import PASSING
from fingerpost.errors import AlignmentError, InvalidTypeError, InvalidValueError

UNITS = 32
QUICK_UNITS = 8

Batch = tuple[Tensor, ...]
Loss = Callable[[nn.Module, Batch], Tensor]


def audit_gradients(
    model: nn.Module,
    signal: Callable[[nn.Module, Batch], Mapping[str, Tensor] | None],
    batch: Sequence[Tensor],
    *,
    loss: Loss | None = None,
    units: int | None = None,
    perturbations: int = 16,
    redraws: int = 0,
    level: float = 0.95,
    generator: torch.Generator | None = None,
    quick: bool = False,
    cost: bool = True,
    double: bool = True,
) -> AuditReport:
    """Audits a signal for a module's parameters, such as a hand-written backward pass or a gradient estimator.

    A batch gives one covector per parameter, and intervals need repetition: the batch is cut into `units` equal parts, and
    signal and exact gradient are taken on each; the parts are the samples of the report.

    Args:
      model: Any module; its parameters that require gradients are the point.
      signal: Called as ``signal(model, part)``; returns covectors by parameter name, or None if it left them in ``.grad``
        (as ``loss.backward()`` does). The convention is that of the *mean* loss over the part.
      batch: Tensors that share their first axis: ``(x, y)`` for the default loss.
      loss: Called as ``loss(model, part)``; returns one value per sample (their mean is taken) or one number. Unless given:
        cross-entropy of ``model(x)`` for integer y, mean squared error for real y.
      units: Parts of the batch: 32 unless given (8 in quick mode), at most one per sample.
      perturbations, redraws, level, generator, quick, cost, double: As in `audit`.

    Returns:
      The report, one row per parameter. The model is left exactly as it was, also after an error.

    Raises:
      InvalidValueError: If no parameter requires a gradient, or the batch's tensors differ in length.
      InvalidTypeError, ShapeError, NumericalError: As in `audit`.
    """
    check_callable(signal, "signal")
    parts = _parts(batch, units or (QUICK_UNITS if quick else UNITS))
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise InvalidValueError("no parameter of the model requires a gradient; there is nothing to audit")
    settings = Settings(len(parts), perturbations, redraws, level, quick, cost, double)
    chosen = loss or _default_loss
    with random_states_kept(), modules_kept([model, *reachable_modules(signal, loss)]):
        leaves = flatten(parameters)
        problem = _UnitProblem(model, chosen, leaves, parts, double)
        run = Audit(leaves, problem, settings, generator, problem.gradient)
        costs = (lambda: _call(model, signal, parts[0], leaves)), (lambda: _exact(model, chosen, parts[0]))
        return run.report(lambda: _draw(model, signal, parts, leaves), costs if cost else None)


def assert_aligned(
    signal: Callable[[Any], Any],
    loss: Callable[[Any], Tensor],
    point: Any,
    *,
    accept: Sequence[str] = PASSING,
    **options: Any,
) -> AuditReport:
    """Fails a test unless the signal passes its audit: what torch.autograd.gradcheck is to exact gradients.

    Args:
      signal, loss, point: As in `audit`.
      accept: Verdicts that pass: EXACT, ALIGNED and UNBIASED_NOISY unless given.
      **options: Passed on to `audit`; the cost is not measured unless asked for.

    Returns:
      The report.

    Raises:
      AlignmentError: An AssertionError whose message is the report.

    Example:
      >>> import torch
      >>> x = torch.linspace(-1, 1, 40).reshape(20, 2)
      >>> assert_aligned(lambda x: 2 * x, lambda x: x.square().sum(1), x).verdict.name
      'EXACT'
    """
    report = audit(signal, loss, point, **{"cost": False, **options})
    if report.verdict.name not in accept:
        raise AlignmentError(f"the signal does not pass (accepted: {', '.join(accept)})\n{report}")
    return report


def _parts(batch: Sequence[Tensor], units: int) -> list[Batch]:
    if not isinstance(batch, (tuple, list)) or not all(isinstance(t, Tensor) and t.dim() > 0 for t in batch):
        raise InvalidTypeError(
            "the batch must be a tuple of tensors that share their first axis, such as (x, y)"
        )
    lengths = {len(t) for t in batch}
    if len(lengths) != 1 or lengths == {0}:
        shapes = [tuple(t.shape) for t in batch]
        raise InvalidValueError(
            f"the batch's tensors have shapes {shapes}; they must share a non-empty first axis"
        )
    if units < 1:
        raise InvalidValueError(f"units={units}: at least 1 part is needed")
    (length,) = lengths
    count = min(units, length)
    size = length // count
    return [tuple(t[i * size : (i + 1) * size] for t in batch) for i in range(count)]


def _default_loss(model: nn.Module, batch: Batch) -> Tensor:
    x, y = batch
    output = model(x)
    return F.mse_loss(output, y) if y.is_floating_point() else F.cross_entropy(output, y)


class _WithLoss(nn.Module):
    """Model and loss as one module, so that its parameters can be swapped for others in one call."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self._loss = loss

    def forward(self, *batch: Tensor) -> Tensor:
        return self._loss(self.model, batch).mean()


class _UnitProblem(Problem):
    """The mean loss on each part of a batch as a function of a model's parameters."""

    def __init__(
        self, model: nn.Module, loss: Loss, leaves: Leaves, parts: list[Batch], double: bool
    ) -> None:
        joined = _WithLoss(model, loss)
        self._parts = [tuple(_wide(t) for t in part) for part in parts] if double else parts

        def loss_on(point: Mapping[str, Tensor], part: Batch) -> Tensor:
            return functional_call(joined, {f"model.{name}": p for name, p in point.items()}, part)

        self._loss_on = loss_on
        super().__init__(
            lambda point: torch.stack([loss_on(point, part) for part in self._parts]), leaves, False, double
        )

    def _first_gradient(self) -> list[Tensor]:
        self.samples = len(self._parts)
        self.losses = torch.zeros(len(self._parts[0][0]))
        gradient = self.differentiate()
        self._drop_idle_mode()
        return gradient

    def differentiate(
        self, modes: Sequence[TorchFunctionMode] = (), at: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """Gradients of each part's mean loss, (units, …) per leaf."""
        every = self.loss
        rows = []
        try:
            for part in self._parts:
                self.loss = lambda point, part=part: self._loss_on(point, part)
                rows.append(super().differentiate(modes, at))
        finally:
            self.loss = every
        return [torch.stack(leaf) for leaf in zip(*rows)]


def _wide(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _draw(model: nn.Module, signal: Callable[..., Any], parts: list[Batch], leaves: Leaves) -> list[Tensor]:
    rows = [_call(model, signal, part, leaves) for part in parts]
    return [torch.stack(leaf) for leaf in zip(*rows)]


def _call(model: nn.Module, signal: Callable[..., Any], part: Batch, leaves: Leaves) -> list[Tensor]:
    model.zero_grad(set_to_none=True)
    with torch.enable_grad():
        value = signal(model, part)
    if value is None:
        found = dict(model.named_parameters())
        value = {name: found[name].grad for name in leaves.names}
    return [t.clone() for t in covectors(value, leaves, "signal")]


def _exact(model: nn.Module, loss: Loss, part: Batch) -> Any:
    parameters = [p for p in model.parameters() if p.requires_grad]
    with torch.enable_grad():
        return torch.autograd.grad(loss(model, part).mean(), parameters, allow_unused=True)
