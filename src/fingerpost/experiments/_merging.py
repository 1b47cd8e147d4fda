"""Merging intensities to amplitudes: Wilson's prior, the exact posterior by quadrature, and surrogates that are learnt.

All is in units of the expected amplitude: e = |F|/√(εΣ), with Σ(s) a smooth curve through the merged intensities. Given the
frames' scales K, the observations I_i = K_i F² + σ_i η_i of a reflection tell about F only through their weighted mean J and
its error τ, so that its posterior is p(e | J) ∝ p(e) exp(−(e² − J)²/2τ²): French and Wilson's
(1978, https://doi.org/10.1107/S0567739478001114).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from fingerpost import distributions
from fingerpost.experiments._crystal import Observations, Reflections

NODES = 256
KINDS = ("Rice–Woolfson", "truncated normal")


@dataclass(frozen=True)
class Merged:
    """Sufficient statistics of each reflection, in units of its expected intensity εΣ.

    Args:
      mean: J, the merged intensity, (m,).
      error: τ, its standard deviation, (m,).
      unit: √(εΣ), electrons, (m,).
      centric: (m,).
    """

    mean: Tensor
    error: Tensor
    unit: Tensor
    centric: Tensor

    @property
    def prior(self) -> distributions.RiceWoolfson:
        """Wilson's: e² is exponential if acentric, chi-squared if centric, with mean 1."""
        return wilson(self.centric)

    def log_likelihood(self, e: Tensor) -> Tensor:
        """Log density of J given e, of shape (…, m)."""
        gap = (e * e - self.mean) / self.error
        return -0.5 * gap * gap - self.error.log() - 0.5 * math.log(2 * math.pi)

    def widened(self, share: Tensor) -> Merged:
        """With errors that grow by a share of the intensity, as where scales are not known yet."""
        return replace(self, error=torch.hypot(self.error, share * self.mean))

    def of(self, rows: Tensor) -> Merged:
        """Some of the reflections."""
        return Merged(self.mean[rows], self.error[rows], self.unit[rows], self.centric[rows])


def wilson(centric: Tensor) -> distributions.RiceWoolfson:
    """Wilson's distribution of e (1949, https://doi.org/10.1107/S0365110X49000813)."""
    scale = torch.where(centric, 1.0, math.sqrt(0.5)).double()
    return distributions.RiceWoolfson(torch.zeros_like(scale), scale, centric)


def merge(reflections: Reflections, seen: Observations, scale: Tensor) -> Merged:
    """Weighted means at the given scales of frames, in units of a smooth expected intensity.

    Args:
      reflections: Their indices and symmetry are used, not F.
      seen: The observations.
      scale: K of each frame.
    """
    count, k = len(reflections), scale[seen.frame]
    weight = torch.zeros(count, dtype=torch.float64).index_add(0, seen.reflection, (k / seen.sigma).square())
    total = torch.zeros(count, dtype=torch.float64).index_add(
        0, seen.reflection, k * seen.intensity / seen.sigma.square()
    )
    mean, error = total / weight, weight.rsqrt()
    expected = reflections.multiplicity * wilson_curve(reflections, mean / reflections.multiplicity)
    return Merged(mean / expected, error / expected, expected.sqrt(), reflections.centric)


def wilson_curve(reflections: Reflections, intensity: Tensor, shells: int = 20) -> Tensor:
    """Σ(s), (m,): exp of a parabola in s² through the logarithms of mean I/ε in shells, for each crystal by itself."""
    curve = torch.empty_like(intensity)
    for crystal in range(int(reflections.crystal.max()) + 1):
        rows = (reflections.crystal == crystal).nonzero()[:, 0]
        squared = reflections.squared[rows]
        parts = squared.argsort().tensor_split(shells)
        middle = torch.stack([squared[part].mean() for part in parts])
        height = torch.stack([intensity[rows][part].mean() for part in parts]).clamp(min=1e-12)
        curve[rows] = _parabola(middle, height.log(), squared).exp()
    return curve


def _parabola(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """The least-squares parabola through (x, y), at other points, by polynomials that are orthogonal on x."""

    def basis(value: Tensor) -> tuple[Tensor, Tensor]:
        return value - centre, (value - centre).square() - skew * (value - centre) - spread

    centre = x.mean()
    spread = (x - centre).square().mean()
    skew = (x - centre).pow(3).mean() / spread
    terms = zip(basis(x), basis(at))
    return y.mean() + sum((y * own).sum() / own.square().sum() * there for own, there in terms)


# The exact posterior.


@cache
def _rule() -> tuple[Tensor, Tensor]:
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return torch.from_numpy((nodes + 1) / 2)[:, None], torch.from_numpy(weights / 2)[:, None]


class Posterior:
    """p(e | J) of each reflection on nodes where it is not negligible.

    Attributes:
      evidence: log p(J), nats, (m,).
      mean, deviation: Of e, (m,).
    """

    def __init__(self, merged: Merged) -> None:
        self.merged = merged
        self.low = (merged.mean - 9 * merged.error).clamp(min=0).sqrt()
        self.high = torch.minimum((merged.mean.clamp(min=0) + 9 * merged.error).sqrt(), self.low + 8)
        nodes, weights = _rule()
        e = self.low + (self.high - self.low) * nodes
        log_joint = self.log_joint(e)
        top = log_joint.max(0).values
        mass = weights * (self.high - self.low) * (log_joint - top).exp()
        self.evidence = top + mass.sum(0).log()
        mass = mass / mass.sum(0)
        self.mean = (mass * e).sum(0)
        self.deviation = (mass * (e - self.mean).square()).sum(0).sqrt()

    def log_joint(self, e: Tensor) -> Tensor:
        """Log density of e and J together, of shape (…, m)."""
        return self.merged.prior.log_prob(e) + self.merged.log_likelihood(e)

    def density(self, e: Tensor) -> Tensor:
        """p(e | J), of shape (…, m)."""
        return (self.log_joint(e) - self.evidence).exp()

    def cdf(self, e: Tensor) -> Tensor:
        """The posterior's distribution function at e, (m,)."""
        nodes, weights = _rule()
        end = torch.minimum(torch.maximum(e, self.low), self.high)
        inner = self.low + (end - self.low) * nodes
        return (weights * (end - self.low) * self.density(inner.clamp(min=1e-12))).sum(0)


# What is learnt.


class Surrogate(torch.nn.Module):
    """q(e) of each reflection with two numbers each, of a kind in `KINDS`; scales of frames too, if asked for.

    The numbers are in units of the error that a first guess gives: e ≈ √J with an error of τ/2√J, so that strong and weak
    reflections are learnt at the same rate.

    Args:
      kind: Name of the family.
      merged: For the first guess, kept within what the prior allows.
      frames: Number of frames whose log K is learnt; None if K is known.
    """

    def __init__(self, kind: str, merged: Merged, frames: int | None = None) -> None:
        super().__init__()
        self.kind = kind
        self.centric = merged.centric
        middle = merged.mean.clamp(0.1, 16.0).sqrt()
        self.width = (merged.error / (2 * middle)).clamp(max=0.5)
        place = middle / self.width
        self.loc = torch.nn.Parameter(place if kind == "truncated normal" else _inverse_softplus(place))
        self.scale = torch.nn.Parameter(_inverse_softplus(torch.ones_like(place)))
        if frames:
            self.log_k = torch.nn.Parameter(torch.zeros(frames, dtype=torch.float64))

    def forward(self) -> Any:
        """The distribution q, of batch shape (m,)."""
        return self.at(self.loc, self.scale)

    def at(self, loc: Tensor, scale: Tensor) -> Any:
        """The distribution at other numbers."""
        return distribution(self.kind, loc, scale, self.width, self.centric)


def distribution(kind: str, loc: Tensor, scale: Tensor, width: Tensor, centric: Tensor) -> Any:
    """The surrogate from what is learnt: softplus of it, but for a truncated normal's loc, which may be negative."""
    if kind == "truncated normal":
        return distributions.TruncatedNormal(
            width * loc, width * softplus(scale), 0.0, math.inf, validate_args=False
        )
    return distributions.RiceWoolfson(
        width * softplus(loc), width * softplus(scale), centric, validate_args=False
    )


def _inverse_softplus(x: Tensor) -> Tensor:
    return x + (-(-x).expm1()).log()


def sampled_elbo(
    q: Any, merged: Merged, samples: int, draw: Callable[[Any, int], Tensor] | None = None
) -> Tensor:
    """E_q[log p(J | e) + log p(e) − log q(e)] of each reflection from `samples` draws that carry the gradient, (m,).

    Args:
      q: The surrogate.
      merged: What is known of the reflections.
      samples: Draws of each reflection.
      draw: (q, samples) → the draws; `rsample` unless given.
    """
    e = q.rsample((samples,)) if draw is None else draw(q, samples)
    return (merged.log_likelihood(e) + merged.prior.log_prob(e) - q.log_prob(e)).mean(0)


def exact_elbo(q: Any, merged: Merged) -> Tensor:
    """The same expectation by quadrature over q, (m,); its derivative is that at fixed nodes, exact too."""
    nodes, weights = _rule()
    with torch.no_grad():
        reach = 12 * q.variance.sqrt()
        low, high = (q.mean - reach).clamp(min=0), q.mean + reach
        e = (low + (high - low) * nodes).clamp(min=1e-12)
    log_q = q.log_prob(e)
    integrand = merged.log_likelihood(e) + merged.prior.log_prob(e) - log_q
    return (weights * (high - low) * log_q.exp() * integrand).sum(0)


def scaled_elbo(
    model: Surrogate, merged: Merged, seen: Observations, samples: int, per_crystal: int
) -> Tensor:
    """The sum of all reflections' ELBO with the scales of frames unknown, from single observations."""
    q = model()
    e = q.rsample((samples,))
    log_k = centred(model.log_k, per_crystal)
    intensity = (e * merged.unit).square()[:, seen.reflection] * log_k.exp()[seen.frame]
    gap = (intensity - seen.intensity) / seen.sigma
    fit = -0.5 * gap.square().sum(1).mean()
    return fit + (merged.prior.log_prob(e) - q.log_prob(e)).mean(0).sum()


def centred(log_k: Tensor, per_crystal: int) -> Tensor:
    """Scales log K with a mean of 0 in each crystal: its overall scale is Σ's."""
    grouped = log_k.reshape(-1, per_crystal)
    return (grouped - grouped.mean(1, keepdim=True)).flatten()
