"""The figures of one leaf, and of all leaves together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fingerpost.audit._instrument import Readings
from fingerpost.audit._statistics import (
    Figure,
    Resampler,
    bootstrap_cosine,
    bootstrap_scale,
    cosine_of,
    jackknife_cosine,
    jackknife_scale,
    mean_t,
    moments,
    scale_of,
    slope_t,
)


@dataclass(frozen=True)
class Measured:
    """Raw material of one leaf.

    Args:
      signal: Covectors a (mean over redraws), (U, D), usable samples only.
      reference: True gradients g, (U, D).
      kept: Which samples are usable, out of those that entered, (N,).
      readings: The instrument's slopes along random directions; None in quick mode.
      probe: Rows probed, and measured over predicted slope along the signal.
      draws: Each redraw of a stochastic signal, (U, D); empty for a deterministic one.
    """

    signal: Tensor
    reference: Tensor
    kept: Tensor
    readings: Readings | None
    probe: tuple[Tensor, Tensor]
    draws: list[Tensor]

    @property
    def set_aside(self) -> int:
        """Samples left out because their true gradient vanishes."""
        return int((~self.kept).sum())


def layer_figures(m: Measured, level: float, resampler: Resampler, quick: bool) -> dict[str, Figure]:
    """All figures of one leaf, by key."""
    stacked = moments(m.signal, m.reference)
    cosines = stacked[:, 0] / (stacked[:, 1] * stacked[:, 2]).sqrt().clamp_min(1e-300)
    figures = {"gamma": mean_t(cosines, level)}
    figures.update(_stacked(stacked, level, resampler, quick))
    if m.readings is not None:
        figures.update(_readings(m, m.readings, level, resampler))
    figures["probe"] = _probe(m, level)
    if m.signal.shape[0] >= 3 and bool((stacked[:, 1] > 0).all()):
        figures["norm_slope"] = slope_t(stacked[:, 2].log() / 2, stacked[:, 1].log() / 2, level)
    if m.draws:
        figures.update(_noise(m, level))
    return figures


def _stacked(stacked: Tensor, level: float, resampler: Resampler, quick: bool) -> dict[str, Figure]:
    if stacked.shape[0] < 2 or float(stacked[:, 1].sum()) == 0:
        mean = stacked.mean(0)
        return {"batch_gamma": Figure(float(cosine_of(mean))), "scale": Figure(float(scale_of(mean)))}
    if quick:
        return {"batch_gamma": jackknife_cosine(stacked, level), "scale": jackknife_scale(stacked, level)}
    return {
        "batch_gamma": bootstrap_cosine(stacked, resampler, level),
        "scale": bootstrap_scale(stacked, resampler, level),
    }


def _readings(m: Measured, readings: Readings, level: float, resampler: Resampler) -> dict[str, Figure]:
    samples = m.kept.shape[0]
    inside = readings.sample < samples
    usable = inside & m.kept[readings.sample.clamp_max(samples - 1)]
    chosen = Readings(*(part[usable] for part in vars(readings).values()))
    if chosen.slope.numel() < 2:
        return {"rho_exact": Figure(1.0)}
    found = {}
    for key, which in (("rho", "signal"), ("rho_exact", "reference")):
        rows = chosen.clustered(which, samples)
        rows = rows[rows[:, 2] > 0]
        if key == "rho_exact" or float(rows[:, 1].sum()) == 0:
            found[key] = Figure(float(cosine_of(rows.sum(0))))
            continue
        found[key] = bootstrap_cosine(rows, resampler, level)
    return found


def _probe(m: Measured, level: float) -> Figure:
    rows, ratios = m.probe
    inside = rows < m.kept.shape[0]
    usable = inside & m.kept[rows.clamp_max(m.kept.shape[0] - 1)] & ~ratios.isnan()
    return mean_t(ratios[usable], level)


def _noise(m: Measured, level: float) -> dict[str, Figure]:
    """Bias from split halves (⟨ā₁ − g, ā₂ − g⟩ is unbiased for ‖E a − g‖²), variance, SNR; relative to ‖g‖²."""
    half = len(m.draws) // 2
    first, second = torch.stack(m.draws[:half]).mean(0), torch.stack(m.draws[half:]).mean(0)
    size = m.reference.square().sum(1).mean().clamp_min(1e-300)
    bias = ((first - m.reference) * (second - m.reference)).sum(1) / size
    variance = torch.stack(m.draws).var(0).sum(1) / size
    strength = (first * second).sum(1).mean() / size
    return {
        "bias": mean_t(bias, level),
        "variance": mean_t(variance, level),
        "snr": Figure(float(strength / variance.mean().clamp_min(1e-300))),
    }


def overall_figures(
    measured: Sequence[Measured], level: float, resampler: Resampler, quick: bool
) -> dict[str, Figure]:
    """Batch Γ of all leaves stacked, and the trend of the scale with depth (slope of log scale per layer)."""
    both = torch.stack([m.kept for m in measured]).all(0)
    total = sum(_on(moments(m.signal, m.reference), m.kept, both) for m in measured)
    assert isinstance(total, Tensor)
    figures = {}
    if total.shape[0] >= 1 and float(total[:, 1].sum()) > 0:
        figures["batch_gamma"] = _stacked(total, level, resampler, quick)["batch_gamma"]
    scales = torch.stack([scale_of(moments(m.signal, m.reference).sum(0)) for m in measured])
    if len(measured) >= 3 and bool((scales > 0).all()):
        depth = torch.arange(len(measured), dtype=torch.float64)
        figures["scale_trend"] = slope_t(depth, scales.log(), level)
    return figures


def _on(rows: Tensor, kept: Tensor, both: Tensor) -> Tensor:
    return rows[both[kept]]
