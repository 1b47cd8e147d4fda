"""Networks whose outputs have no Jacobian of one sample alone: refused by the layer's name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fingerpost.errors import FingerpostError, InvalidTypeError, InvalidValueError
from fingerpost.spectral._rules.capture import Capture
from fingerpost.spectral._rules.inputs import Inputs, call, rows
from fingerpost.spectral._rules.plan import SAMPLES, Trial

_BATCH_NORMS = nn.modules.batchnorm._BatchNorm
_INSTANCE_NORMS = nn.modules.instancenorm._InstanceNorm


def check_model(model: nn.Module) -> None:
    """Refuses what is known to mix samples, to be random, or to have nothing to differentiate by."""
    if not isinstance(model, nn.Module):
        raise InvalidTypeError(f"model is {type(model).__name__}; expected a torch.nn.Module")
    if not any(p.requires_grad for p in model.parameters()):
        raise InvalidValueError(
            "the model has no parameter that requires gradients, and so no tangent kernel; "
            "set requires_grad_(True) on those that are trained"
        )
    for path, module in model.named_modules():
        reason = _reason(module)
        if reason:
            raise _refusal(path, module, reason)


def _reason(module: nn.Module) -> str | None:
    if isinstance(module, _BATCH_NORMS):  # InstanceNorm is none
        if module.training:
            return "normalises by the batch in training mode, which mixes samples; call model.eval() first"
        if module.running_mean is None:
            return "has no running statistics and normalises by the batch, which mixes samples"
    if isinstance(module, nn.Embedding) and module.max_norm is not None:
        return "writes to its weight when called (max_norm)"
    if module.training and _random(module):
        return "is random in training mode; call model.eval() first"
    return None


def _random(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, nn.RNNBase):
        return module.dropout > 0 and module.num_layers > 1
    if isinstance(module, nn.MultiheadAttention):
        return module.dropout > 0
    return isinstance(module, nn.RReLU)


def check_same_sample(model: nn.Module, inputs: Inputs, taken: Capture, trial: Trial, row: int) -> None:
    """Raises if the first (row 0) or last (row 1) sample comes out otherwise than in the trial's batch."""
    got, expected = taken.output[0 if row == 0 else -1].detach(), trial.output[row]
    last = taken.uses[-1].inputs if taken.uses else got
    scale = torch.stack([got.abs().max(), expected.abs().max(), last.abs().max().to(got.dtype)]).max()
    if not (got - expected).abs().max() <= torch.finfo(got.dtype).eps ** 0.5 * scale:
        raise explain(model, inputs)


def explain(model: nn.Module, inputs: Inputs) -> FingerpostError:
    """The refusal of a network whose output for a sample depends on other samples, or is not a number."""
    batch, again = _outputs(model, inputs), _outputs(model, inputs)
    alone = [_outputs(model, rows(inputs, slice(i, i + 1))) for i in (0, 1)]
    modules = dict(model.named_modules())
    for path, mine in batch.items():
        if not mine.isfinite().all():
            return _refusal(path, modules[path], "returned numbers that are not finite")
        if path in again and _differ(mine, again[path]):
            return _refusal(path, modules[path], "is random: two calls with the same samples differ")
        for i, single in enumerate(alone):
            other = single.get(path)
            if other is None or len(mine) % SAMPLES or other.shape[1:] != mine.shape[1:]:
                continue
            if _differ(mine[i * len(other) : (i + 1) * len(other)], other):
                return _refusal(
                    path, modules[path], "mixes samples: one alone comes out otherwise than in a batch"
                )
    return InvalidValueError(
        "the model mixes samples, or is random, outside its layers: a sample's output differs from that in another "
        "batch. Its tangent kernel is not one of single samples; use ntk_matvec for the Jacobian of a whole batch"
    )


def _outputs(model: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    """First output of each layer without children."""
    found: dict[str, Tensor] = {}
    handles = []
    for path, module in model.named_modules():
        if any(True for _ in module.children()):
            continue

        def hook(_: nn.Module, __: Any, output: Any, path: str = path) -> None:
            if isinstance(output, Tensor) and output.is_floating_point():
                found.setdefault(path, output.detach().clone())

        handles.append(module.register_forward_hook(hook))
    try:
        call(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _differ(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return True
    return bool((one - other).abs().max() > torch.finfo(one.dtype).eps ** 0.5 * one.abs().max())


def _refusal(path: str, module: nn.Module, reason: str) -> InvalidValueError:
    name = f"layer {path!r}" if path else "the model"
    return InvalidValueError(f"{name} ({type(module).__name__}) {reason}")
