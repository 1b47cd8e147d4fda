"""The conditional ranks of a point under a factorised mixture, and how the point moves when they are held."""

from __future__ import annotations

import contextlib
import math

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution

from fingerpost.distributions._components import Placed, placed
from fingerpost.distributions._partial import value_and_slope
from fingerpost.distributions._triangular import solve


class ConditionalRanks:
    """F_d(z_d | z_<d) for every dimension d, in units of the conditional densities p_d; see `MixtureSameFamily`.

    All tensors within are (D, K, N) or (D, N): a column for each point, a row for each dimension.

    Args:
      mixing: Categorical over K components, float64.
      base: The components' univariate distribution, float64, of batch (…, K, *event).
      z: Points (…, *event).
      events: How many dimensions an event has.
      attached: Whether log p_d keeps its derivatives; else it is numbers.
    """

    def __init__(
        self, mixing: Categorical, base: Distribution, z: Tensor, events: int, attached: bool
    ) -> None:
        self.mixing, self.base = mixing, base
        self.z = z.double()
        self.batch = z.shape[: z.dim() - events]
        self.event = z.shape[z.dim() - events :]
        self.sizes = math.prod(self.event), mixing.logits.shape[-1], math.prod(self.batch)
        self.univariate = self.sizes[0] == 1
        here = placed(base, self._wide(self.z), mixed=True)
        self._densities(here, attached)
        with torch.no_grad():
            rank = (self.weights * self._table(here.rank())).sum(1)
            self.side = torch.where(rank < 0.5, 1.0, -1.0).to(rank)
        # no_grad does not stop forward gradients; detach does.
        self.tails = self._tails(here, self.log_p.detach())
        if not self.univariate:
            with torch.no_grad():
                mean = (self.weights * self.tails).sum(1, keepdim=True)
                self.q = (self.weights * (self.tails - mean) * self.side[:, None]).contiguous()

    def _densities(self, here: Placed, attached: bool) -> None:
        """The densities p_kd and p_d at the point, as logarithms; the weights; the slopes s where they are needed."""
        quiet = contextlib.nullcontext() if attached else torch.no_grad()
        if self.univariate:
            with quiet:
                self.log_prob = self._table(here.log_prob())
        else:
            log_prob, slope = here.log_prob_and_slope()
            self.log_prob, self.s = self._table(log_prob), self._table(slope).contiguous()
        log_weights = self._log_weights(self.mixing, self.log_prob)
        self.weights = log_weights.exp()
        with quiet:
            self.log_p = (log_weights + self.log_prob).logsumexp(1)

    def _wide(self, z: Tensor) -> Tensor:
        """Points repeated for each component."""
        return z.unsqueeze(len(self.batch)).expand((*self.batch, self.sizes[1], *self.event))

    def _table(self, x: Tensor) -> Tensor:
        """(…, K, *event) → (D, K, N)."""
        dimensions, components, points = self.sizes
        full = x.expand(*self.batch, components, *self.event)
        return full.reshape(points, components, dimensions).permute(2, 1, 0)

    def _point(self, x: Tensor) -> Tensor:
        """(D, N) → the points' shape."""
        return x.T.reshape((*self.batch, *self.event))

    def _log_weights(self, mixing: Categorical, log_prob: Tensor) -> Tensor:
        """The weights w_kd as logarithms: w_k Π_{j<d} p_kj, normalised."""
        _, components, points = self.sizes
        prior = mixing.logits.expand(*self.batch, components).reshape(points, components).T
        if self.univariate:
            return prior[None].log_softmax(1)
        return (prior + torch.cat([torch.zeros_like(log_prob[:1]), log_prob[:-1].cumsum(0)])).log_softmax(1)

    def _tails(self, here: Placed, log_p: Tensor) -> Tensor:
        """The nearer tail of each component over p_d."""
        side, scale = (self._wide(self._point(x)) for x in (self.side, log_p))
        return self._table(here.tail(side, scale))

    def _rank_of(self, mixing: Categorical, base: Distribution, z: Tensor, log_p: Tensor) -> Tensor:
        """F_d/p_d (D, N), but for constants, at other points or under a mixture of other parameters."""
        here = placed(base, self._wide(z), mixed=True)
        log_prob = self.log_prob if self.univariate else self._table(here.log_prob())
        weights = self._log_weights(mixing, log_prob).exp()
        return self.side * (weights * self._tails(here, log_p)).sum(1)

    def shift(self, order: int) -> Tensor:
        """0, of the point's shape, with the derivatives of −z up to `order`: a step of Newton's method for each."""
        rank = self.side * (self.weights * self.tails).sum(1)
        step = rank - rank.detach()
        if self.univariate:
            return self._point(step if order == 1 else self._expanded(step))
        step = solve(step, self.q, self.s)
        if order == 2:
            moved = self.z.detach() - self._point(step)
            rank = self._rank_of(self.mixing, self.base, moved, self.log_p.detach())
            step = step + solve(rank - rank.detach(), self.q, self.s)
        return self._point(step)

    def _expanded(self, step: Tensor) -> Tensor:
        """The second step in one dimension, by the density's own expansion about z."""
        with torch.no_grad():
            slope = value_and_slope(self._log_density, self.z)[1].detach().reshape(1, -1)
        return step * (2 - (self.log_p - self.log_p.detach()).exp()) + slope / 2 * step.square()

    def _log_density(self, z: Tensor) -> Tensor:
        log_prob = self._table(placed(self.base, self._wide(z), mixed=True).log_prob())
        return self._point((self._log_weights(self.mixing, log_prob) + log_prob).logsumexp(1))

    def displacement(self, mixing: Categorical, base: Distribution) -> Tensor:
        """Where the point goes, but for a constant, as a function of the parameters: its derivative is the velocity."""
        rank = self._rank_of(mixing, base, self.z, self.log_p)
        return self._point(-rank if self.univariate else -solve(rank, self.q, self.s))
