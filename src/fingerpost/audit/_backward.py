"""Backward rules with one mistake in them: the value of the loss stays, its gradient becomes a template.

Each is a torch function mode: it meets every call of the loss, whatever the network, and swaps the gradient of one
kind of operation for the mistake's. A value is kept and its gradient replaced by ``wrong + (right - wrong).detach()``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_ACTIVATIONS = {
    "tanh", "tanh_", "relu", "relu_", "sigmoid", "sigmoid_", "gelu", "silu", "elu", "celu", "selu", "leaky_relu",
    "softplus", "mish", "hardtanh", "hardswish", "hardsigmoid", "relu6", "softsign", "logsigmoid", "sin", "cos",
}  # fmt: skip
_PRODUCTS = {"linear", "matmul", "__matmul__", "mm", "addmm", "conv1d", "conv2d", "conv3d"}


class MissingDerivative(TorchFunctionMode):
    """φ′ is forgotten: activations pass the gradient through unchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.met = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        value = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") not in _ACTIVATIONS or not isinstance(value, Tensor):
            return value
        argument = args[0]
        if not argument.requires_grad or argument.shape != value.shape:
            return value
        self.met += 1
        # a mask of −∞ before a sigmoid is usual, and ∞ − ∞ is no number
        passed = torch.where(argument.isfinite(), argument, 0)
        return passed + (value - passed).detach()


class TransposedWeights(TorchFunctionMode):
    """W where Wᵀ belongs: linear maps and convolutions with as many inputs as outputs send back the wrong one."""

    def __init__(self) -> None:
        super().__init__()
        self.met = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        value = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name not in _PRODUCTS or not isinstance(value, Tensor) or not value.requires_grad:
            return value
        wrong = self._wrong(func, name, args, kwargs)
        if wrong is None or wrong.shape != value.shape:
            return value
        self.met += 1
        return wrong + (value - wrong).detach()

    @staticmethod
    def _wrong(func: Any, name: str, args: Any, kwargs: Any) -> Tensor | None:
        at = 2 if name == "addmm" else 1
        if len(args) <= at or not isinstance(args[at], Tensor):
            return None
        weight = args[at]
        square = weight.is_leaf and weight.dim() >= 2 and weight.shape[0] == weight.shape[1]
        return func(*args[:at], weight.transpose(0, 1), *args[at + 1 :], **kwargs) if square else None
