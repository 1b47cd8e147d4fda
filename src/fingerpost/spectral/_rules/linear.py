"""Dense layers."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from fingerpost.spectral._rules.base import AbstractRule
from fingerpost.spectral._rules.terms import AbstractTerm, Dense, Direct
from fingerpost.spectral.nets import NTKLinear


class LinearRule(AbstractRule):
    """y = x Wᵀ + b at every position."""

    def terms(
        self, module: nn.Module, inputs: Tensor, cotangents: Tensor, n: int
    ) -> Mapping[str, AbstractTerm]:
        activations = inputs.reshape(n, -1, inputs.shape[-1])
        cotangents = cotangents.reshape(cotangents.shape[0], n, -1, cotangents.shape[-1])
        return {"weight": Dense(cotangents, activations), "bias": Direct(cotangents.sum(2))}


class NTKLinearRule(AbstractRule):
    """The same with the scales of the NTK parametrization before W and b."""

    def terms(
        self, module: nn.Module, inputs: Tensor, cotangents: Tensor, n: int
    ) -> Mapping[str, AbstractTerm]:
        assert isinstance(module, NTKLinear)
        activations = module.weight_scale * inputs.reshape(n, -1, inputs.shape[-1])
        cotangents = cotangents.reshape(cotangents.shape[0], n, -1, cotangents.shape[-1])
        weight = Dense(cotangents, activations, constant=module.bias_scale)
        return {"weight": weight, "bias": Direct(module.bias_scale * cotangents.sum(2))}
