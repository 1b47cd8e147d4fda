"""Double precision without touching the user's model: float32 arguments are promoted on their way into torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

_WIDER = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.complex64: torch.complex128,
}
_NARROWING_METHODS = {"float", "half", "bfloat16"}
_KEPT = {"__get__", "__set__", "__delete__", "requires_grad_", "backward", "register_hook"}


class DoublePrecision(TorchFunctionMode):
    """Runs the code under it in float64, whatever the dtype of the weights, buffers and constants it uses.

    Differences of a loss need float64: in float32 the rounding of a saturated loss is as large as the change
    that is measured. The mode works above autograd, so gradients can be taken under it too. Parameters and
    buffers are widened on use (once each; they count as constants), and in-place updates of them, as batch
    normalisation's running statistics have, fall on the widened copy: the model stays as it was.
    `met` says whether there was anything to widen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.met = False
        self._widened: dict[int, tuple[Tensor, int, Tensor]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _KEPT:
            value = func(*args, **kwargs)
            self.met |= value in _WIDER if isinstance(value, torch.dtype) else False
            return _WIDER.get(value, value) if isinstance(value, torch.dtype) else value  # seen as it is used
        if name in _NARROWING_METHODS:
            self.met = True
            return self._widen(args[0])
        in_place = name.endswith("_") and not name.endswith("__")
        head = args[:1] if in_place else ()
        rest = [self._widen(value) for value in (args[1:] if in_place else args)]
        return func(*head, *rest, **{key: self._widen(value) for key, value in kwargs.items()})

    def _widen(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._widen_tensor(value)
        if isinstance(value, torch.dtype):
            self.met |= value in _WIDER
            return _WIDER.get(value, value)
        if type(value) in (list, tuple):
            return type(value)([self._widen(part) for part in value])
        if isinstance(value, (list, tuple, dict)):
            return tree_map(self._widen, value)
        return value

    def _widen_tensor(self, tensor: Tensor) -> Tensor:
        wider = _WIDER.get(tensor.dtype)
        if wider is None:
            return tensor
        self.met = True
        if not tensor.is_leaf:
            return tensor.to(wider)
        known = self._widened.get(id(tensor))
        if known is not None and known[0] is tensor and known[1] == tensor._version:
            return known[2]
        copy = tensor.detach().to(wider)
        self._widened[id(tensor)] = (tensor, tensor._version, copy)
        return copy
