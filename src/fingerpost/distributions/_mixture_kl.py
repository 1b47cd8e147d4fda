"""The divergence between univariate mixtures of normals, by quadrature."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Normal, register_kl

from fingerpost.distributions._partial import legendre
from fingerpost.distributions.mixture import MixtureSameFamily

STEPS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.5, 8.0, 10.0)
"""Where panels end, in standard deviations from each component's mean; beyond 10 there is 1e-23 of it."""

NODES = 12


@register_kl(MixtureSameFamily, MixtureSameFamily)
def _kl_mixture(p: MixtureSameFamily, q: MixtureSameFamily) -> Tensor:
    """∫ p (log p − log q), over panels that resolve every component of both.

    Nodes are held, so that derivatives are those of the integrand, exact to the quadrature's own accuracy.
    """
    for mixture in (p, q):
        if mixture.event_shape or not isinstance(mixture.component_distribution, Normal):
            raise NotImplementedError(
                "KL of mixtures is implemented for univariate ones with Normal components; estimate it by the mean of "
                "p.log_prob(z) − q.log_prob(z) over z = p.rsample((n,))"
            )
    batch = torch.broadcast_shapes(p.batch_shape, q.batch_shape)
    z, weights = _nodes(p.expand(batch), q.expand(batch))
    (mixing_p, base_p), (mixing_q, base_q) = p._parts(), q._parts()
    log_p, log_q = _log_prob(mixing_p, base_p, z), _log_prob(mixing_q, base_q, z)
    found = (weights * log_p.exp() * (log_p - log_q)).sum(0)
    return found.to(torch.promote_types(p.mean.dtype, q.mean.dtype))


def _log_prob(mixing: Categorical, base: Distribution, z: Tensor) -> Tensor:
    return (mixing.logits + base.log_prob(z[..., None])).logsumexp(-1)


@torch.no_grad()
def _nodes(p: MixtureSameFamily, q: MixtureSameFamily) -> tuple[Tensor, Tensor]:
    """Nodes and weights (nodes, *batch) on panels between all the components' multiples of their deviations."""
    edges = torch.cat([_marks(p), _marks(q)], -1)
    own = _marks(p)
    low, high = own.amin(-1, keepdim=True), own.amax(-1, keepdim=True)
    edges = edges.clamp(low, high).sort(-1).values.movedim(-1, 0)
    x, weights = legendre(NODES, edges)
    shape = (1, -1, *(1,) * (edges.dim() - 1))
    width = (edges[1:] - edges[:-1])[:, None]
    z = edges[:-1, None] + width * x.reshape(shape)
    return z.flatten(0, 1), (width * weights.reshape(shape)).flatten(0, 1)


def _marks(mixture: MixtureSameFamily) -> Tensor:
    components = mixture.component_distribution
    loc, scale = (x.detach().double()[..., None] for x in (components.loc, components.scale))  # pyright: ignore
    steps = torch.tensor(STEPS, dtype=torch.float64, device=loc.device)
    return (loc + scale * torch.cat([steps, -steps[1:]])).flatten(-2)
