"""Networks made linear in their parameters: what training does when the tangent kernel stays as it is."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp

from fingerpost.spectral._rules.attention import decomposed_attention
from fingerpost.spectral._rules.refusals import check_model

Parameters = dict[str, Tensor]


def linearize(model: nn.Module) -> LinearizedModule:
    r"""The network's first-order expansion in its parameters, at those that it has now.

    f_lin(x; θ) = f(x; θ₀) + J(x) (θ − θ₀) (Lee et al. 2019, https://arxiv.org/abs/1902.06720, eq. 5). Its tangent kernel is
    that of the model at θ₀, whatever θ; gradient descent on it is what `predict` describes.

    Args:
      model: A network in the mode in which it is to be linearised; parameters that do not require gradients stay
        constants. It is copied, and not changed.

    Returns:
      A module that starts at θ = θ₀, where it equals the model, and whose parameters are trained like any other's.

    Raises:
      InvalidTypeError: If the model is no module.
      InvalidValueError: If a layer mixes samples or is random by its settings; if nothing requires gradients.

    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    >>> x, linear = torch.randn(5, 2, dtype=torch.float64), linearize(model)
    >>> bool(torch.equal(linear(x), model(x)))
    True
    >>> with torch.no_grad():
    ...     for p in linear.parameters():
    ...         _ = p.add_(1e-5)
    ...     for p in model.parameters():
    ...         _ = p.add_(1e-5)
    >>> error = (linear(x) - model(x)).abs().max()
    >>> 0 < float(error) < 1e-8
    True
    """
    check_model(model)
    return LinearizedModule(model)


class LinearizedModule(nn.Module):
    """f(x; θ₀) + J(x) (θ − θ₀), as `linearize` makes it.

    Usable under torch.func: `functional_call(linear, {"model." + name: …}, x)` puts other θ in. `train()` and `eval()` do
    not change the mode in which the network was linearised.

    Attributes:
      model: Holds θ, under the names that the parameters have in the network; the only parameters.
      origin: Holds θ₀, the buffers and the constants, all as buffers; it is the network that is called.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.origin = copy.deepcopy(model)
        self.names = [name for name, p in model.named_parameters() if p.requires_grad]
        _freeze(self.origin)
        super().train(model.training)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The linear network's output, for what the network itself would be called with."""
        theta, start = dict(self.model.named_parameters()), dict(self.origin.named_buffers())
        origin: Parameters = {name: start[name] for name in self.names}
        steps = {name: theta[name] - start[name] for name in self.names}
        output, change = directional(self.origin, origin, steps, args, kwargs)
        return output + change

    def train(self, mode: bool = True) -> LinearizedModule:
        """Sets this module's own flag and leaves the network's mode alone."""
        self.training = mode
        return self


def directional(
    model: nn.Module, at: Parameters, along: Parameters, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """The output f and J · along, differentiable by both parameter dicts.

    By forward mode. Where an operation has none, by reverse mode twice: u ↦ Jᵀu is linear, and its transpose is J. An
    embedding with padding goes that way too, as forward mode does not know that the padding's row is held fixed.
    """

    def function(values: Parameters) -> Tensor:
        return functional_call(model, values, args, kwargs)

    with decomposed_attention(model):
        if not _pads(model):
            try:
                output, change = jvp(function, (at,), (along,))[:2]
            except NotImplementedError:
                pass
            else:
                return output, change
        output, pull = vjp(function, at)[:2]
        push = vjp(lambda u: pull(u)[0], torch.zeros_like(output))[1]
        return output, push(along)[0]


def _freeze(model: nn.Module) -> None:
    """Makes buffers of all parameters, one for one, so that shared ones stay shared."""
    buffers = {id(p): p.detach() for p in model.parameters()}
    for module in model.modules():
        for name, p in list(module._parameters.items()):
            if p is not None:
                del module._parameters[name]
                module.register_buffer(name, buffers[id(p)])


def _pads(model: nn.Module) -> bool:
    return any(isinstance(m, nn.Embedding) and m.padding_idx is not None for m in model.modules())
