"""Two cues by population codes: what their sum's posterior is, and what an observer who reads it does over trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fingerpost import population
from fingerpost.lab import mean_interval

WIDTH = 3.0
SPIKES = WIDTH * math.sqrt(2 * math.pi)  # Σ f for one neuron at each whole number: spikes of a cue of gain 1
BATCHES = 40


class Code(NamedTuple):
    """A tuning that both cues share, and where posteriors are held.

    Args:
      name: Short.
      tuning: Stimuli → rates.
      grid: The stimulus grid.
      period: A circle's length, or None.
      tiles: Whether Σ f is the same for every stimulus, so that −g Σ f may be left out.
      middle: About where stimuli are put.
    """

    name: str
    tuning: Any
    grid: Tensor
    period: float | None = None
    tiles: bool = True
    middle: float = 0.0


def _line(low: float, high: float, points: int) -> Tensor:
    return torch.linspace(low, high, points, dtype=torch.float64)


def gaussian_code(reach: float = 45.0, points: int = 1801) -> Code:
    """Gaussian curves on a line so long that no posterior meets its ends."""
    return Code(
        "Gaussian, long line",
        population.GaussianTuning(_line(-60, 60, 121), WIDTH),
        _line(-reach, reach, points),
    )


def codes(generator: torch.Generator) -> list[Code]:
    """Codes for which the sum must be exact: shared tuning of any shape."""
    return [gaussian_code(), clipped_code(), baseline_code(), circular_code(), *_odd_codes(generator)]


def clipped_code() -> Code:
    """The same curves, with stimuli known to lie in [−10, 10] and cues near its end."""
    tuning = population.GaussianTuning(_line(-40, 40, 81), WIDTH)
    return Code("Gaussian, clipped at 10", tuning, _line(-10, 10, 801), middle=7.0)


def baseline_code() -> Code:
    """Curves with spikes that say nothing: a baseline of a tenth of the peak."""
    tuning = population.GaussianTuning(_line(-60, 60, 121), WIDTH, baseline=0.1)
    return Code("Gaussian with a baseline", tuning, _line(-45, 45, 1801))


def circular_code() -> Code:
    """Von Mises curves round a circle of length 36, as wide at their peak as the Gaussian ones."""
    period = 36.0
    preferred = torch.arange(36, dtype=torch.float64)
    concentration = (period / (2 * math.pi * WIDTH)) ** 2
    tuning = population.VonMisesTuning(preferred, concentration, period=period)
    return Code("von Mises, circle", tuning, period / 1440 * torch.arange(1440, dtype=torch.float64), period)


def _odd_codes(generator: torch.Generator) -> list[Code]:
    """Sigmoids, and curves of random shape: they don't tile, so that gains are known and −g Σ f is kept."""
    sigmoid = population.SigmoidTuning(_line(-20, 20, 41), 1.0)
    weights = torch.rand(30, 6, generator=generator, dtype=torch.float64)
    waves = torch.arange(1, 7, dtype=torch.float64)

    def random_shape(s: Tensor) -> Tensor:
        return 0.05 + (torch.sin(s[..., None] * waves / 6 + waves) @ weights.T).square() / 6

    return [
        Code("sigmoids", sigmoid, _line(-10, 10, 401), tiles=False),
        Code("curves of random shape", population.Tuning(random_shape), _line(-10, 10, 401), tiles=False),
    ]


@dataclass(frozen=True)
class Cells:
    """Trials of all pairs of gains and all conflicts, a row each.

    Args:
      first, second: Stimuli that the cues come from.
      g1, g2: Gains.
    """

    first: Tensor
    second: Tensor
    g1: Tensor
    g2: Tensor


def cells(code: Code, gains: Sequence[tuple[float, float]], conflicts: Sequence[float], trials: int) -> Cells:
    """`trials` of each pair of gains at each conflict (second − first, in widths), about the code's middle."""
    rows = [(g1, g2, c * WIDTH) for g1, g2 in gains for c in conflicts for _ in range(trials)]
    g1, g2, conflict = torch.tensor(rows, dtype=torch.float64).T
    return Cells(code.middle - conflict / 2, code.middle + conflict / 2, g1, g2)


def encode(code: Code, rows: Cells, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Poisson counts of both cues, (rows, N) each."""
    poisson = population.PoissonCode(code.tuning)
    return (
        poisson.encode(rows.first, rows.g1, generator),
        poisson.encode(rows.second, rows.g2, generator),
    )


def distances(code: Code, rows: Cells, counts: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """The sum's posterior against the product, and against what the two formulas make of the single posteriors.

    Returns:
      ``total_variation`` (rows,) of the sum's posterior to the product of the two; ``mean_error`` |μ₃ − formula| in σ₃ and
      ``precision`` (1/σ₃²)/(1/σ₁² + 1/σ₂²) (rows,); and the four moments.
    """
    poisson = population.PoissonCode(code.tuning)
    known = [None, None, None] if code.tiles else [rows.g1, rows.g2, rows.g1 + rows.g2]
    all_counts = (*counts, population.combine(*counts))
    first, second, summed = (
        population.Posterior(code.grid, poisson.log_likelihood(r, code.grid, gain=g), period=code.period)
        for r, g in zip(all_counts, known)
    )
    product = first * second
    gap = 0.5 * (summed.mass - product.mass).abs().sum(1)
    (m1, v1), (m2, v2), (m3, v3) = ((one.mean, one.variance) for one in (first, second, summed))
    mean = m1 + v1 / (v1 + v2) * _short(m2 - m1, code.period)
    return {
        "total_variation": gap,
        "mean_error": _short(m3 - mean, code.period).abs() / v3.sqrt(),
        "precision": 1 / v3 / (1 / v1 + 1 / v2),
        "moments": (_short(m3, code.period), _short(mean, code.period), v3, 1 / (1 / v1 + 1 / v2)),
    }


def _short(gap: Tensor, period: float | None) -> Tensor:
    return gap if period is None else gap - period * torch.round(gap / period)


def von_mises_error(code: Code, counts: Tensor) -> float:
    """How far a posterior is from the von Mises law whose resultant is κ Σ r_i e^{iθ_i}, in total variation.

    log f_i = κ (cos(θ − θ_i) − 1), so that Σ r_i log f_i is one cosine: resultants of cues add up as vectors.
    """
    assert code.period is not None
    unit = 2 * math.pi / code.period
    kappa, angles = (code.period / (2 * math.pi * WIDTH)) ** 2, unit * torch.arange(36, dtype=torch.float64)
    x, y = kappa * counts @ angles.cos(), kappa * counts @ angles.sin()
    theta = unit * code.grid
    law = torch.softmax(x[:, None] * theta.cos() + y[:, None] * theta.sin(), 1)
    level = population.PoissonCode(code.tuning).log_likelihood(counts, code.grid, gain=None)
    return float(0.5 * (torch.softmax(level, 1) - law).abs().sum(1).max())


def trials(
    g1: float, g2: float, conflict: float, count: int, generator: torch.Generator
) -> dict[str, list[float] | float]:
    """An observer of Gaussian cues over trials: s₁ = 0, s₂ = conflict; its estimate is the sum's posterior mean.

    On a line without ends and with Gaussian curves the posterior is normal, of mean Σ r_i s_i / R and variance W²/R: the
    posterior of each trial is taken in this closed form, which the exactness part holds to a quadrature.

    Returns:
      Figures as [value, low, high] with 95 % intervals over batches of trials, and their predictions:
      ``bias``: mean estimate, and g₂ s₂/(g₁ + g₂); ``formula_bias``: what the first formula makes of the real variances of
      the single cues; ``variance``: real variance over what the second formula makes of them; ``claimed``: mean claimed over
      real variance; ``spikes``.
    """
    code = gaussian_code()
    still = torch.zeros(count, dtype=torch.float64)
    rows = Cells(still, still + conflict, still + g1, still + g2)
    r1, r2 = encode(code, rows, generator)
    seen = (r1.sum(1) > 0) & (r2.sum(1) > 0)
    r1, r2 = r1[seen], r2[seen]
    usable = len(r1) // BATCHES * BATCHES
    preferred = torch.linspace(-60, 60, 121, dtype=torch.float64)
    each = [(r @ preferred / r.sum(1), r.sum(1)) for r in (r1[:usable], r2[:usable], (r1 + r2)[:usable])]
    (x1, _), (x2, _), (x3, spikes) = ((x.reshape(BATCHES, -1), n.reshape(BATCHES, -1)) for x, n in each)
    v1, v2, v3 = (x.var(1) for x in (x1, x2, x3))
    formula = 1 / (1 / v1 + 1 / v2)
    weight = v1 / (v1 + v2)
    share = g2 / (g1 + g2)
    total = SPIKES * (g1 + g2)
    claimed = (WIDTH**2 / spikes).mean(1)
    figures = {
        "bias": x3.mean(1),
        "formula_gap": x3.mean(1) - (x1.mean(1) + weight * (x2.mean(1) - x1.mean(1))),
        "variance": v3 / formula,
        "claimed": claimed / v3,
    }
    found: dict[str, Any] = {key: list(mean_interval(value.tolist())) for key, value in figures.items()}
    single = [WIDTH**2 * mean_inverse(SPIKES * g) for g in (g1, g2)]
    combined = WIDTH**2 * mean_inverse(total) + share * (1 - share) * conflict**2 * mean_inverse(total)
    found["bias_predicted"] = share * conflict
    found["variance_predicted"] = combined * (1 / single[0] + 1 / single[1])
    found |= {"conflict": conflict, "spikes": total, "kept": float(seen.double().mean())}
    return found


def mean_inverse(rate: float) -> float:
    """E[1/R | R > 0] of a Poisson R."""
    most = int(rate + 20 * math.sqrt(rate) + 40)
    r = torch.arange(1, most, dtype=torch.float64)
    log_mass = r * math.log(rate) - rate - torch.lgamma(r + 1)
    return float((log_mass.exp() / r).sum() / -math.expm1(-rate))


def covered(count: int, generator: torch.Generator, level: float = 0.95) -> tuple[int, int]:
    """How many stimuli lie in the smallest region of `level` of the sum's posterior, and how many trials there were.

    Gains are log-uniform from 0.2 to 8 for each cue and trial. The rank of a stimulus is the mass of all denser cells and a
    random part of those as dense as its own, which is uniform if the posterior is right.
    """
    code = circular_code()
    assert code.period is not None
    cell = torch.randint(len(code.grid), (count,), generator=generator)
    unit = torch.rand(3, count, generator=generator, dtype=torch.float64)
    g1, g2 = 0.2 * 40 ** unit[0], 0.2 * 40 ** unit[1]
    inside = 0
    for part in torch.arange(count).split(5_000):
        s = code.grid[cell[part]]
        r1, r2 = encode(code, Cells(s, s, g1[part], g2[part]), generator)
        level_of = population.PoissonCode(code.tuning).log_likelihood(
            population.combine(r1, r2), code.grid, gain=None
        )
        mass = torch.softmax(level_of, 1)
        own = mass.gather(1, cell[part, None])
        tied = (mass / own - 1).abs() < 1e-9
        rank = (mass * ((mass > own) & ~tied)).sum(1) + unit[2][part] * (mass * tied).sum(1)
        inside += int((rank <= level).sum())
    return inside, count
