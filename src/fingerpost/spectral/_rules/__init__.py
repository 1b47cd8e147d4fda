"""Exact rules for the tangent kernel of single layers; a layer without one goes by torch.func."""

from __future__ import annotations

from torch import nn

from fingerpost.spectral._rules.base import AbstractRule
from fingerpost.spectral._rules.conv import ConvRule
from fingerpost.spectral._rules.embedding import EmbeddingRule
from fingerpost.spectral._rules.linear import LinearRule, NTKLinearRule
from fingerpost.spectral._rules.norm import ChannelNormRule, LayerNormRule
from fingerpost.spectral.nets import NTKLinear

RULES: dict[type[nn.Module], AbstractRule] = {
    nn.Linear: LinearRule(),
    NTKLinear: NTKLinearRule(),
    nn.Conv1d: ConvRule(),
    nn.Conv2d: ConvRule(),
    nn.Conv3d: ConvRule(),
    nn.Embedding: EmbeddingRule(),
    nn.LayerNorm: LayerNormRule(),
    nn.RMSNorm: LayerNormRule(),
    nn.GroupNorm: ChannelNormRule(),
    nn.BatchNorm1d: ChannelNormRule(),
    nn.BatchNorm2d: ChannelNormRule(),
    nn.BatchNorm3d: ChannelNormRule(),
    nn.InstanceNorm1d: ChannelNormRule(),
    nn.InstanceNorm2d: ChannelNormRule(),
    nn.InstanceNorm3d: ChannelNormRule(),
}


def find_rule(module: nn.Module) -> AbstractRule | None:
    """The rule of a layer's class, or of the class that it has its forward pass from."""
    for kind, rule in RULES.items():
        if isinstance(module, kind) and type(module).forward is kind.forward:
            return rule if rule.takes(module) else None
    return None


__all__ = ["RULES", "AbstractRule", "find_rule"]
