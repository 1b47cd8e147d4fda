"""Embeddings: dense layers on one-hot vectors that are never made."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from fingerpost.spectral._rules.base import AbstractRule
from fingerpost.spectral._rules.terms import AbstractTerm, Tokens


class EmbeddingRule(AbstractRule):
    """Rows of a table; the row `padding_idx` has no gradient."""

    def takes(self, module: nn.Module) -> bool:
        assert isinstance(module, nn.Embedding)
        return module.max_norm is None and not module.scale_grad_by_freq

    def terms(
        self, module: nn.Module, inputs: Tensor, cotangents: Tensor, n: int
    ) -> Mapping[str, AbstractTerm]:
        assert isinstance(module, nn.Embedding)
        index = inputs.reshape(n, -1).long()
        cotangents = cotangents.reshape(cotangents.shape[0], n, index.shape[1], -1)
        if module.padding_idx is not None:
            cotangents = cotangents * (index != module.padding_idx)[None, :, :, None]
        return {"weight": Tokens(cotangents, index, module.num_embeddings)}
