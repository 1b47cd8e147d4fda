"""Forward gradient: directional derivatives along random tangents, no backward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fingerpost.credit._layered import LayeredLoss
from fingerpost.credit.signals.base import AbstractCredit, Credits
from fingerpost.errors import InvalidValueError

if TYPE_CHECKING:
    from fingerpost.credit._chain import ResidualChain


@dataclass(frozen=True)
class ForwardGradient(AbstractCredit):
    r"""a_l = (1/K) Σ_k (Σ_m ⟨g_m, v_m^k⟩) v_l^k per sample, v ~ N(0, I) on all blocks' outputs at once.

    The directional derivative comes from one forward-mode pass per tangent. Unbiased, with a variance that
    grows with the number of units over K (Baydin et al. 2022, https://arxiv.org/abs/2202.08587; on
    activities, Ren et al. 2023, https://arxiv.org/abs/2210.03310).

    Args:
      tangents: K.
      generator: Draws the tangents, and advances; torch's default generator if None, as for ``torch.randn``.
        Keep its state with a checkpoint for a resumed run to be the same.
    """

    tangents: int = 1
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if self.tangents < 1:
            raise InvalidValueError(f"tangents is {self.tangents}; expected at least 1")

    @torch.no_grad()
    def __call__(self, chain: ResidualChain, x: Tensor, y: Tensor) -> Credits:
        """One forward-mode pass per tangent."""
        loss = chain.layered_loss(x, y)
        layers = [torch.zeros_like(h) for h in loss.point]
        for _ in range(self.tangents):
            tangents = [self._draw(h) for h in loss.point]
            slope = _directional(loss, tangents) / self.tangents
            for a, v in zip(layers, tangents):
                a += slope.view(-1, *[1] * (v.ndim - 1)) * v
        return Credits.exact(layers)

    def _draw(self, like: Tensor) -> Tensor:
        device = like.device if self.generator is None else self.generator.device
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype, device=device).to(
            like.device
        )


def _directional(loss: LayeredLoss, tangents: list[Tensor]) -> Tensor:
    """Σ_m ⟨g_m, v_m⟩ for each sample, (B,)."""
    with forward_ad.dual_level():
        point = [forward_ad.make_dual(h, v) for h, v in zip(loss.point, tangents)]
        value, tangent = forward_ad.unpack_dual(loss(point))
    return torch.zeros_like(value) if tangent is None else tangent
