"""Pairs of cues for which summing populations is not what Bayes' rule asks for, each with its true posterior and a repair."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fingerpost import population

REACH = 10.0  # stimuli lie in [-REACH, REACH]
WIDTH = 3.0
MARGIN = 36.0  # preferred stimuli go on this far beyond, so that curves of twice the width tile the range too
SUM, OWN, REPAIR = "sum", "sum, read by its own law", "repair"


@dataclass(frozen=True)
class Setting:
    """What the breaks share.

    Args:
      trials: Trials of each measurement.
      gains: Gains g₁ and g₂ of the two cues.
      points: Points of the stimulus grid.
      generator: Draws stimuli and spikes.
    """

    trials: int
    gains: tuple[float, float]
    points: int
    generator: torch.Generator

    @property
    def grid(self) -> Tensor:
        """Stimuli at which posteriors are held."""
        return torch.linspace(-REACH, REACH, self.points, dtype=torch.float64)

    @property
    def preferred(self) -> Tensor:
        """One neuron at every whole number."""
        end = REACH + MARGIN
        return torch.arange(-end, end + 0.5, 1.0, dtype=torch.float64)

    def stimuli(self) -> Tensor:
        """Stimuli from the flat prior."""
        unit = torch.rand(self.trials, generator=self.generator, dtype=torch.float64)
        return REACH * (2 * unit - 1)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal draws."""
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def tuning(self, width: float = WIDTH, shift: float = 0.0) -> population.GaussianTuning:
        """Gaussian tuning curves of peak 1 that tile the range."""
        return population.GaussianTuning(self.preferred + shift, width)

    def gamma(self, shape: Tensor) -> Tensor:
        """Gamma draws of these shapes and scale 1."""
        return torch._standard_gamma(shape, generator=self.generator)  # pyright: ignore[reportPrivateImportUsage]

    def poisson(self, rates: Tensor) -> Tensor:
        """Poisson counts."""
        return torch.poisson(rates, generator=self.generator)


class Scene(NamedTuple):
    """One set of trials.

    Args:
      stimuli: What was shown, (trials,).
      grid: Stimuli at which densities are held, (points,).
      true: log p(s | r₁, r₂) up to a constant of each trial, (trials, points).
      readings: The same of each way to read.
    """

    stimuli: Tensor
    grid: Tensor
    true: Tensor
    readings: dict[str, Tensor]


class Break(NamedTuple):
    """A way in which two cues differ from what summing asks for.

    Args:
      name: Short.
      title: For headings.
      axis: What the strength is.
      strengths: Weak to strong; the first is no break at all where there is such a one.
      shown: The strength in the table and the claims.
      make: (setting, strength) → scene.
      repair: What the repair does, in words.
    """

    name: str
    title: str
    axis: str
    strengths: tuple[float, ...]
    shown: float
    make: Callable[[Setting, float], Scene]
    repair: str


def transfer(kernel: Tensor, basis: Tensor) -> Tensor:
    """A with kernel = basis Aᵀ + const, by least squares over the grid: h_k = A_k h.

    Args:
      kernel: h_k on the grid, (points, N_k).
      basis: h on the grid, (points, N).

    Returns:
      A_k, shape (N_k, N): the counts of the cue add up as r A_k.
    """
    design = torch.cat([basis, torch.ones_like(basis[:, :1])], 1)
    found = torch.linalg.lstsq(design, kernel, driver="gelsd").solution
    return found[:-1].T.contiguous()


def _pair(setting: Setting, first: Any, second: Any, stimuli: Tensor) -> tuple[Tensor, Tensor]:
    g1, g2 = setting.gains
    return setting.poisson(g1 * first(stimuli)), setting.poisson(g2 * second(stimuli))


def _log_likelihood(tuning: Any, counts: Tensor, grid: Tensor, gain: float | None = None) -> Tensor:
    """Of the Poisson family, also for sums with weights, which are no counts."""
    return population.PoissonCode(tuning).family.log_likelihood(counts, grid, gain)


def _two_tunings(setting: Setting, second: Any) -> Scene:
    """Cues whose tuning differs, read by the first one's kernel; the repair maps the second's counts."""
    first, grid, stimuli = setting.tuning(), setting.grid, setting.stimuli()
    r1, r2 = _pair(setting, first, second, stimuli)
    g1, g2 = setting.gains
    mapping = transfer(second.log_rates(grid), first.log_rates(grid))
    both = population.Tuning(lambda s: g1 * first(s) + g2 * second(s))
    true = _log_likelihood(first, r1, grid, g1) + _log_likelihood(second, r2, grid, g2)
    readings = {
        SUM: _log_likelihood(first, population.combine(r1, r2), grid),
        OWN: _log_likelihood(both, population.combine(r1, r2), grid, 1.0),
        REPAIR: _log_likelihood(first, population.combine(r1, r2, A=[None, mapping]), grid),
    }
    return Scene(stimuli, grid, true, readings)


def widths(setting: Setting, ratio: float) -> Scene:
    """The second cue's curves are wider by `ratio`: h₂ = h₁ / ratio² + const."""
    return _two_tunings(setting, setting.tuning(WIDTH * ratio))


def shifted(setting: Setting, shift: float) -> Scene:
    """The second cue's map is moved by `shift`."""
    return _two_tunings(setting, setting.tuning(shift=shift))


def wrong_tuning(setting: Setting, ratio: float) -> Scene:
    """Both cues share their curves, and the read-out takes them for `ratio` times as wide."""
    tuning, grid, stimuli = setting.tuning(), setting.grid, setting.stimuli()
    total = population.combine(*_pair(setting, tuning, tuning, stimuli))
    true = _log_likelihood(tuning, total, grid, sum(setting.gains))
    readings = {
        SUM: _log_likelihood(setting.tuning(WIDTH * ratio), total, grid),
        REPAIR: _log_likelihood(tuning, total, grid),
    }
    return Scene(stimuli, grid, true, readings)


def fano(setting: Setting, factor: float) -> Scene:
    """Spikes come in bursts of `factor`: their variance is `factor` times their mean, h = log f / factor."""
    tuning, grid, stimuli = setting.tuning(), setting.grid, setting.stimuli()
    bursts = [setting.poisson(g * tuning(stimuli) / factor) for g in setting.gains]
    total = factor * population.combine(bursts[0], bursts[1])
    true = _log_likelihood(tuning, total, grid, sum(setting.gains)) / factor
    kernel = moments_kernel(tuning, grid, lambda mean: factor * mean)
    readings = {SUM: _log_likelihood(tuning, total, grid), REPAIR: total @ kernel.T}
    return Scene(stimuli, grid, true, readings)


def moments_kernel(tuning: Any, grid: Tensor, variance: Callable[[Tensor], Tensor]) -> Tensor:
    """The kernel on the grid, h′ = Σ⁻¹ f′, for independent neurons of mean f and this variance."""
    return population.kernel_from_moments(tuning, lambda s: variance(tuning(s)), grid)


def negative_binomial(setting: Setting, excess: float) -> Scene:
    """Counts of variance μ + excess μ²: the kernel log(g f / (g f + 1/excess)) depends on the gain, so it isn't shared."""
    tuning, grid, stimuli = setting.tuning(), setting.grid, setting.stimuli()
    size = 1 / excess
    counts, repaired = [], torch.zeros(len(stimuli), len(grid), dtype=torch.float64)
    true = torch.zeros_like(repaired)
    for gain in setting.gains:
        mean, expected = gain * tuning(stimuli), gain * tuning(grid)
        shape = torch.full_like(mean, size)
        counts.append(setting.poisson(setting.gamma(shape) * mean / size))
        kernel = (expected / (expected + size)).log()
        repaired = repaired + counts[-1] @ kernel.T
        true = true + counts[-1] @ kernel.T - size * (expected / size).log1p().sum(1)
    total = population.combine(counts[0], counts[1])
    return Scene(stimuli, grid, true, {SUM: _log_likelihood(tuning, total, grid), REPAIR: repaired})


def gaussian_noise(setting: Setting, ratio: float) -> Scene:
    """Activities with noise of variance 1 at any gain: h = g f, and the second gain is `ratio` times the first."""
    tuning, grid, stimuli = setting.tuning(), setting.grid, setting.stimuli()
    gains = (1.0, ratio)
    curves, active = tuning(grid), tuning(stimuli)
    r1, r2 = (g * active + setting.normal(*active.shape) for g in gains)
    power = curves.square().sum(1)
    true = (gains[0] * r1 + gains[1] * r2) @ curves.T - (gains[0] ** 2 + gains[1] ** 2) * power / 2
    mean = sum(gains) / 2
    own = mean * population.combine(r1, r2) @ curves.T - mean**2 * power
    weighted = population.combine(r1, r2, A=[gains[0], gains[1]]) @ curves.T
    return Scene(stimuli, grid, true, {SUM: own, REPAIR: weighted})


def prior_twice(setting: Setting, spread: float) -> Scene:
    """Stimuli come from N(0, spread²), and each cue's posterior has taken that into account."""
    tuning, grid = setting.tuning(), setting.grid
    stimuli = _within(setting, spread)
    r1, r2 = _pair(setting, tuning, tuning, stimuli)
    prior = -0.5 * (grid / spread) ** 2
    each = [_log_likelihood(tuning, r, grid, g) + prior for r, g in zip((r1, r2), setting.gains)]
    readings = {SUM: each[0] + each[1], REPAIR: each[0] + each[1] - prior}
    true = _log_likelihood(tuning, population.combine(r1, r2), grid, sum(setting.gains)) + prior
    return Scene(stimuli, grid, true, readings)


def _within(setting: Setting, spread: float) -> Tensor:
    """Normal stimuli that fall inside the range, by the quantiles of the truncated law."""
    reach = math.erf(REACH / spread / math.sqrt(2))
    unit = torch.rand(setting.trials, generator=setting.generator, dtype=torch.float64)
    return spread * math.sqrt(2) * torch.erfinv(reach * (2 * unit - 1))


def no_tiling(setting: Setting, slope: float) -> Scene:
    """Neurons fire more on the right, by exp(slope · s / 10), and −g Σ f is left out."""
    base, grid, stimuli = setting.tuning(), setting.grid, setting.stimuli()
    height = (slope * setting.preferred / REACH).exp()
    tuning = population.Tuning(lambda s: height * base(s))
    total = population.combine(*_pair(setting, tuning, tuning, stimuli))
    kept = _log_likelihood(tuning, total, grid, sum(setting.gains))
    readings = {SUM: _log_likelihood(tuning, total, grid), REPAIR: kept}
    return Scene(stimuli, grid, kept, readings)


def common_noise(setting: Setting, noise: float) -> Scene:
    """Both cues see s + η with one η ~ N(0, noise²): given s they are dependent. The repair widens the posterior by η's law."""
    tuning, grid, stimuli = setting.tuning(), setting.grid, setting.stimuli()
    seen = stimuli + noise * setting.normal(setting.trials)
    total = population.combine(*_pair(setting, tuning, tuning, seen))
    step = float(grid[1] - grid[0])
    beyond = math.ceil(6 * noise / step) * step
    wide = torch.arange(-REACH - beyond, REACH + beyond + step / 2, step, dtype=torch.float64)
    inside = _log_likelihood(tuning, total, wide, sum(setting.gains))
    law = (-0.5 * ((wide[:, None] - grid) / max(noise, 1e-12)) ** 2).exp()
    true = (torch.softmax(inside, 1) @ law).clamp_min(1e-300).log()
    widened = (torch.softmax(_log_likelihood(tuning, total, wide), 1) @ law).clamp_min(1e-300).log()
    return Scene(stimuli, grid, true, {SUM: _log_likelihood(tuning, total, grid), REPAIR: widened})


def shared_gain(setting: Setting, spread: float) -> Scene:
    """No break: each cue's gain varies from trial to trial (Gamma), so that counts are correlated and over-dispersed."""
    tuning, grid, stimuli = setting.tuning(), setting.grid, setting.stimuli()
    gain = setting.gamma(torch.full((2, len(stimuli), 1), spread**-2, dtype=torch.float64)) * spread**2
    rates = tuning(stimuli)
    r1, r2 = (setting.poisson(g * one * rates) for g, one in zip(setting.gains, gain))
    first, second = (
        population.PoissonCode(tuning).log_likelihood(r, grid, population.GammaGain(g, spread))
        for r, g in zip((r1, r2), setting.gains)
    )
    total = population.combine(r1, r2)
    return Scene(stimuli, grid, first + second, {SUM: _log_likelihood(tuning, total, grid)})


BREAKS: tuple[Break, ...] = (
    Break("widths", "Differing widths", "width of cue 2 / cue 1", (1.0, 1.25, 1.5, 1.75, 2.0), 2.0, widths,
          "r₁ + A₂ᵀ r₂ with h₂ = A₂ h₁ by least squares"),
    Break("shifted", "Shifted maps", "shift of cue 2", (0.0, 0.5, 1.0, 2.0, 3.0), 1.0, shifted,
          "r₁ + A₂ᵀ r₂ with h₂ = A₂ h₁ by least squares"),
    Break("wrong-tuning", "Wrong tuning read", "width read / true", (0.5, 0.67, 0.8, 1.0, 1.25, 1.5, 2.0), 0.67,
          wrong_tuning, "the curves that the neurons have"),
    Break("fano", "Fano read as Poisson", "Fano factor", (1.0, 1.5, 2.0, 3.0, 4.0), 2.0, fano,
          "h from h′ = Σ⁻¹ f′: log f over the Fano factor"),
    Break("negative-binomial", "Negative binomial", "excess variance / mean²", (0.05, 0.2, 0.5, 1.0, 2.0), 0.5,
          negative_binomial, "each cue by the kernel of its own gain, Σ h_k · r_k"),
    Break("gaussian", "Gaussian noise", "gain of cue 2 / cue 1", (1.0, 2.0, 4.0, 8.0), 4.0, gaussian_noise,
          "g₁ r₁ + g₂ r₂"),
    Break("prior", "Prior counted twice", "spread of the prior", (0.5, 1.0, 2.0, 4.0), 1.0, prior_twice,
          "divided by the prior once"),
    Break("tiling", "Curves that don't tile", "slope of peak rates", (0.0, 0.2, 0.5, 1.0, 2.0), 0.5, no_tiling,
          "−(g₁ + g₂) Σ f kept"),
    Break("common-noise", "Correlated cues", "spread of common noise", (0.1, 0.25, 0.5, 1.0), 0.5, common_noise,
          "no weights on counts can: the posterior widened by the noise's law"),
    Break("shared-gain", "Varying gains: none", "spread of gains / mean", (0.1, 0.3, 0.6, 1.0), 0.6, shared_gain,
          "none needed"),
)  # fmt: skip
