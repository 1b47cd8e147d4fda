"""Signals with power-law spectra, and the exact training of Fourier-featured networks on them, by kernels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fingerpost._lazy import lazy_import
from fingerpost.lab import derive_seed

if TYPE_CHECKING:
    from fingerpost.experiments.fourier_p import Config

torch = lazy_import("torch")
spectral = lazy_import("fingerpost.spectral")


@dataclass(frozen=True)
class Losses:
    """Mean square errors of one encoding on all signals.

    Attributes:
      test: In between the training points, shape (times, signals).
      train: On the training points, shape (times, signals).
    """

    test: Any
    train: Any


def signals(config: Config, alpha: float) -> Any:
    """The signals of one exponent, scaled to [−½, ½], shape (signals, fine grid).

    As in the code of Tancik et al. (2020) that made their figures of one-dimensional signals.
    """
    values = drawn(config, alpha)
    low, high = values.amin(1, True), values.amax(1, True)
    return (values - low) / (high - low) - 0.5


def drawn(config: Config, alpha: float) -> Any:
    """Stationary Gaussian signals on the fine grid, with amplitudes (1 + k)^−α below `band`."""
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "signals", f"{alpha:g}"))
    amplitude = _amplitude(config, alpha)
    noise = torch.randn(config.signals, len(amplitude), 2, dtype=torch.float64, generator=generator)
    return torch.fft.ifft(torch.view_as_complex(noise) * amplitude).real


def split(config: Config, values: Any) -> tuple[Any, Any]:
    """Training values, (points, signals), and the test values in between, (points, between − 1, signals)."""
    gaps = values.reshape(len(values), config.points, config.between).movedim(0, -1)
    return gaps[:, 0].contiguous(), gaps[:, 1:].contiguous()


def kernel(config: Config, p: float, width: int, *, normalize: bool = True) -> Any:
    """The kernel of the standard parametrization on the training grid."""
    encoding = spectral.FourierFeatures.power(p, config.points, normalize=normalize).double()
    return spectral.StationaryNTK.on_grid(
        encoding, (config.points,), depth=config.depth, weight_std=config.weight_std, bias_std=config.bias_std, width=width,
    )  # fmt: skip


def sweep(config: Config, alpha: float, p: float, times: Any, *, normalize: bool = True) -> Losses:
    """Training by gradient flow from output 0, at the times ηt."""
    y, between = split(config, signals(config, alpha))
    K = kernel(config, p, config.width, normalize=normalize)
    train = (K.predict(y, times, 1.0, time="flow") - y).square().mean(1)
    test = torch.zeros_like(train)
    for gap in range(1, config.between):
        shift = gap / (config.points * config.between)
        error = K.predict(y, times, 1.0, shift=(shift,), time="flow") - between[:, gap - 1]
        test += error.square().mean(1) / (config.between - 1)
    return Losses(test, train)


def floor(config: Config, alpha: float) -> float:
    """The mean test loss of the best linear interpolation, which knows the spectrum; the mean is left free.

    On the training points frequencies n apart look alike; each gets its share of their power.
    """
    values = signals(config, alpha)
    power = _amplitude(config, alpha).square()
    power[0] *= 100.0  # scaling to [−½, ½] moves the mean by an amount that is not known
    alike = power.reshape(config.between, config.points)
    shares = config.between * alike / alike.sum(0).clamp(min=torch.finfo(torch.float64).tiny)
    seen = torch.fft.fft(values[:, :: config.between])
    error = torch.fft.ifft((shares * seen[:, None]).flatten(1)).real - values
    return float(error.reshape(-1, config.points, config.between)[:, :, 1:].square().mean())


def _amplitude(config: Config, alpha: float) -> Any:
    fine = config.points * config.between
    k = torch.fft.fftfreq(fine, 1 / fine, dtype=torch.float64).abs()
    return torch.where(k < config.band, (1 + k) ** -alpha, 0.0)


def shown(p: float) -> str:
    """How a p is written."""
    return "∞" if math.isinf(p) else f"{p:g}"
