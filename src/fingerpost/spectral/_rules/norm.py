"""Normalisations: y = x̂ ∘ w + b, with x̂ made again from the input."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from fingerpost.spectral._rules.base import AbstractRule
from fingerpost.spectral._rules.terms import AbstractTerm, Direct


class LayerNormRule(AbstractRule):
    """LayerNorm and RMSNorm: w has the shape of the last dimensions."""

    def terms(
        self, module: nn.Module, inputs: Tensor, cotangents: Tensor, n: int
    ) -> Mapping[str, AbstractTerm]:
        assert isinstance(module, (nn.LayerNorm, nn.RMSNorm))
        shape = tuple(module.normalized_shape)
        if isinstance(module, nn.LayerNorm):
            normal = F.layer_norm(inputs, shape, eps=module.eps)
        else:
            normal = F.rms_norm(inputs, shape, eps=module.eps)
        o = cotangents.shape[0]
        shares = (cotangents * normal).reshape(o, n, -1, *shape)
        return {"weight": Direct(shares.sum(2)), "bias": Direct(cotangents.reshape(shares.shape).sum(2))}


class ChannelNormRule(AbstractRule):
    """GroupNorm, and BatchNorm and InstanceNorm by the statistics that they use: w has one number a channel."""

    batch_dimensions = (0,)

    def terms(
        self, module: nn.Module, inputs: Tensor, cotangents: Tensor, n: int
    ) -> Mapping[str, AbstractTerm]:
        normal = _normalised(module, inputs)
        o, channels = cotangents.shape[0], inputs.shape[1]
        cotangents = cotangents.reshape(o, n, -1, channels, inputs[0, 0].numel())
        shares = cotangents * normal.reshape(cotangents.shape[1:])
        return {"weight": Direct(shares.sum((2, 4))), "bias": Direct(cotangents.sum((2, 4)))}


def _normalised(module: nn.Module, inputs: Tensor) -> Tensor:
    if isinstance(module, nn.GroupNorm):
        return F.group_norm(inputs, module.num_groups, eps=module.eps)
    assert isinstance(module, nn.modules.batchnorm._NormBase)
    mean, variance = module.running_mean, module.running_var
    if isinstance(module, nn.modules.instancenorm._InstanceNorm):
        own = module.training or not module.track_running_stats
        return F.instance_norm(
            inputs, None if own else mean, None if own else variance, use_input_stats=own, eps=module.eps
        )
    return F.batch_norm(inputs, mean, variance, training=False, eps=module.eps)
