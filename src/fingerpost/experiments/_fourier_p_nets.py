"""Real networks of the p sweep, trained by full-batch gradient descent beside their kernel's prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fingerpost._lazy import lazy_import
from fingerpost.experiments import _fourier_p_sweep as exact
from fingerpost.experiments import _tangent_training as tangent
from fingerpost.lab import Run, derive_seed

if TYPE_CHECKING:
    from fingerpost.experiments.fourier_p import Config

torch = lazy_import("torch")
spectral = lazy_import("fingerpost.spectral")


@dataclass(frozen=True)
class Trained:
    """One network beside its prediction, at some numbers of steps.

    Attributes:
      alpha: Exponent of the signal.
      p: Exponent of the encoding.
      times: ηt over the paper's.
      real: Test losses of the network.
      predicted: Those of the linearised network from the same start.
      apart: Root mean square of the difference of both outputs at the test points, over that of the signal there.
    """

    alpha: float
    p: float
    times: list[float]
    real: list[float]
    predicted: list[float]
    apart: list[float]

    def at(self, values: list[float], time: float) -> float:
        """The value at the step nearest to a time."""
        near = min(range(len(self.times)), key=lambda i: abs(self.times[i] - time))
        return values[near]


def train(config: Config, run: Run, alpha: float, p: float) -> Trained:
    """Trains one network on the first signal of an exponent to `late` times the paper's time."""
    stage = f"net-alpha{alpha:g}-p{p:g}"
    found = run.once(stage, lambda: _train(config, run, alpha, p, stage))
    return Trained(alpha, p, found["times"], found["real"], found["predicted"], found["apart"])


def _train(config: Config, run: Run, alpha: float, p: float, stage: str) -> dict[str, Any]:
    y, between = exact.split(config, exact.signals(config, alpha)[:1])
    K = exact.kernel(config, p, config.net_width)
    end = config.late * config.time * config.width / config.net_width  # the kernel grows with the width
    steps = round(end * K.largest_eigenvalue() / config.share)
    rate = end / steps
    paper = round(steps / config.late)
    times = sorted({paper, *tangent.log_spaced(steps)})
    begin = start(config, p)
    labels = y[:, 0].to(begin.x)
    real, _ = tangent.descend(begin, labels, rate * config.points / 2, times, begin.x_test, run, stage)
    real = real.double().reshape(len(times), config.points, -1)
    predicted = torch.stack([
        K.predict(
            y[:, 0], torch.tensor(times), rate, begin.f0.double(), shift=(gap / (config.points * config.between),),
            f0_test=begin.f0_test.double().reshape(config.points, -1)[:, gap - 1],
        )
        for gap in range(1, config.between)
    ], -1)  # fmt: skip
    target = between[:, :, 0]
    size = target.square().mean().sqrt()
    return {
        "times": [config.late * k / steps for k in times],
        "real": (real - target).square().mean((1, 2)).tolist(),
        "predicted": (predicted - target).square().mean((1, 2)).tolist(),
        "apart": ((real - predicted).square().mean((1, 2)).sqrt() / size).tolist(),
    }


def start(config: Config, p: float) -> tangent.Start:
    """A network at initialization on the training grid; its kernels are not needed."""
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "network"))
    net = spectral.CoordinateMLP(
        1, 1, config.net_width, config.depth, encoding=spectral.FourierFeatures.power(p, config.points),
        weight_std=config.weight_std, bias_std=config.bias_std, generator=generator,
    ).to(getattr(torch, config.dtype))  # fmt: skip
    fine = torch.arange(config.points * config.between, dtype=torch.float64) / (
        config.points * config.between
    )
    gaps = fine.reshape(config.points, config.between).to(getattr(torch, config.dtype))
    x, x_test = gaps[:, :1], gaps[:, 1:].reshape(-1, 1)
    with torch.no_grad():
        f0, f0_test = net(x)[:, 0], net(x_test)[:, 0]
    return tangent.Start(net, x, x_test, f0, f0_test, None, None, 0.0)
