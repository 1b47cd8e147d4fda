"""Attention in operations that torch can differentiate in any mode, and for many samples at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def decomposed_attention(model: nn.Module) -> Iterator[None]:
    """Attention by operations that can be differentiated in any mode; what was set before is set again."""
    fused = any(isinstance(m, (nn.MultiheadAttention, nn.TransformerEncoderLayer)) for m in model.modules())
    before = torch.backends.mha.get_fastpath_enabled()
    try:
        if fused:
            torch.backends.mha.set_fastpath_enabled(False)
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        if fused:
            torch.backends.mha.set_fastpath_enabled(before)
