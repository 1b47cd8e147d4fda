"""Full-batch gradient descent on a coordinate network beside what its tangent kernel predicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.lab import Run, derive_seed, mean_interval

torch = lazy_import("torch")
trainer = lazy_import("fingerpost.lab.trainer")
spectral = lazy_import("fingerpost.spectral")

TANCIK = "Tancik et al. 2020, Fourier features (arXiv:2006.10739)"
LEE = "Lee et al. 2019, wide networks as linear models (arXiv:1902.06720)"
SPECIFICATION = "specification of the spectral experiments"


@dataclass(frozen=True)
class Start:
    """A network at initialization in float64, with its outputs and kernels on training and test points.

    Attributes:
      net: The network.
      x: Training points, (n, 1).
      x_test: Test points, (m, 1).
      f0: Outputs on the training points, (n,).
      f0_test: Outputs on the test points, (m,).
      K: Kernel of the training points, (n, n).
      K_test: Kernel between test and training points, (m, n).
      limit: The stable learning rate for torch's mse_loss.
    """

    net: Any
    x: Any
    x_test: Any
    f0: Any
    f0_test: Any
    K: Any
    K_test: Any
    limit: float

    def rate(self, share: float) -> float:
        """The learning rate at which η λ_max, as gradient descent has it, is `share`."""
        return 0.5 * share * self.limit

    def predicted(
        self, y: Any, times: Sequence[int], rate: float, *, f0: bool = True, time: str = "steps"
    ) -> Any:
        """Predicted outputs at the test points, (times, m)."""
        given = {"f0": self.f0, "f0_test": self.f0_test} if f0 else {}
        at = torch.tensor(times, dtype=torch.float64)
        return spectral.predict(self.K, y, at, rate, K_test=self.K_test, loss="mse", time=time, **given)


def start(
    width: int, depth: int, scale: float, points: int, encoding: Any, seed: int, activation: str = "relu"
) -> Start:
    """A network in the NTK parametrization on `points` of the circle [0, 1), tested half-way between them."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "weights"))
    net = spectral.CoordinateMLP(
        1, 1, width, depth, encoding=encoding, parametrization="ntk", activation=activation, output_scale=scale,
        generator=generator,
    ).double()  # fmt: skip
    x = (torch.arange(points, dtype=torch.float64) / points)[:, None]
    x_test = x + 0.5 / points
    with torch.no_grad():
        f0, f0_test = net(x)[:, 0], net(x_test)[:, 0]
    K = spectral.empirical_ntk(net, x)
    K_test = spectral.empirical_ntk(net, x_test, x)
    return Start(net, x, x_test, f0, f0_test, K, K_test, spectral.max_learning_rate(K, "mse"))


class Record:
    """Outputs of the network at chosen numbers of steps; kept in the checkpoint, so that a resumed run has them."""

    def __init__(self, times: Sequence[int], points: int) -> None:
        self.times = list(times)
        self.outputs = torch.full((len(self.times), points), math.nan, dtype=torch.float64)

    def state_dict(self) -> dict[str, Any]:
        """What is kept."""
        return {"outputs": self.outputs.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes it back."""
        self.outputs.copy_(state["outputs"])

    def hear(self, k: int, net: Any, x: Any) -> None:
        """Notes the outputs after k steps, where k was chosen."""
        if k in self.times:
            with torch.no_grad():
                self.outputs[self.times.index(k)] = net(x)[:, 0]


def descend(
    begin: Start, y: Any, rate: float, times: Sequence[int], at: Any, run: Run | None, stage: str
) -> tuple[Any, list[float]]:
    """Trains on all points in each step by torch's mse_loss and SGD.

    Returns:
      Outputs at the points `at` after each of `times`, (times, points), and the losses that were logged, 64 or fewer.
    """
    net, x = begin.net, begin.x
    steps, record = max(times), Record(times, len(at))
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)

    def step(net: Any, k: int) -> dict[str, Any]:
        record.hear(k, net, at)
        loss = torch.nn.functional.mse_loss(net(x)[:, 0], y)
        loss.backward()
        return {"loss": loss.detach()}

    result = trainer.train(
        net, optimizer, step, lambda k: k, steps=steps, seed=0, run=run, stage=stage, extra={"record": record},
        log_every=max(1, steps // 64),
    )  # fmt: skip
    if result.stopped == "steps":
        record.hear(steps, net, at)
    return record.outputs, [row["loss"] for row in result.history]


def log_spaced(steps: int, count: int = 40) -> list[int]:
    """0, 1 and whole numbers evenly spaced in the logarithm up to `steps`."""
    return sorted({0, *(round(steps ** (k / (count - 1))) for k in range(count))})


def rms(values: Any) -> Any:
    """Root of the mean square over the last axis."""
    return values.square().mean(-1).sqrt()


def summary(values: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """The mean over seeds with its t interval, if there is more than one seed."""
    if len(values) < 2:
        return float(values[0]), None
    found = mean_interval(values)
    return found.mean, found.interval
