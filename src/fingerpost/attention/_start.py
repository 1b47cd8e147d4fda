"""How the parameters of both models start."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fingerpost.attention.presets import Preset
from fingerpost.attention.scores import AdditiveAttention
from fingerpost.attention.units import GatedUnit

Draw = Callable[[Tensor], object]


@torch.no_grad()
def start_parameters(model: nn.Module, preset: Preset, generator: torch.Generator | None) -> None:
    """Draws every parameter of `model` by a preset, in the order of its modules; biases start at 0."""
    fill = _Fill(preset, generator)
    for module in model.modules():
        if isinstance(module, GatedUnit):
            fill.unit(module)
        elif isinstance(module, AdditiveAttention):
            fill.attention(module)
        elif isinstance(module, nn.Embedding):
            fill.embedding(module)
    done = fill.done
    for module in model.modules():
        if isinstance(module, nn.Linear) and module not in done:
            fill.linear(module)


class _Fill:
    def __init__(self, preset: Preset, generator: torch.Generator | None) -> None:
        self.preset, self.generator = preset, generator
        self.done: set[nn.Module] = set()

    def unit(self, unit: GatedUnit) -> None:
        """Gate by gate: orthogonal recurrent matrices, and the others as if each were a layer of its own."""
        for block in unit.recurrent.split(unit.hidden_size):
            nn.init.orthogonal_(block, generator=self.generator)
        if unit.inner_bias is not None:
            unit.inner_bias.zero_()
        for layer in (unit.input, unit.context):
            if layer is not None:
                self.linear(layer, blocks=3)

    def attention(self, attention: AdditiveAttention) -> None:
        std = self.preset.alignment_std
        if std is None:
            attention.score_vector.normal_(std=1 / math.sqrt(attention.size), generator=self.generator)
            return
        attention.score_vector.zero_()
        for layer in (attention.query, attention.key):
            layer.weight.normal_(std=std, generator=self.generator)
            self.done.add(layer)

    def embedding(self, embedding: nn.Embedding) -> None:
        std = self.preset.weight_std or 1 / math.sqrt(embedding.embedding_dim)
        embedding.weight.normal_(std=std, generator=self.generator)

    def linear(self, layer: nn.Linear, blocks: int = 1) -> None:
        self.done.add(layer)
        for block in layer.weight.chunk(blocks):
            if self.preset.weight_std is None:
                nn.init.xavier_uniform_(block, generator=self.generator)
            else:
                block.normal_(std=self.preset.weight_std, generator=self.generator)
        if layer.bias is not None:
            layer.bias.zero_()
