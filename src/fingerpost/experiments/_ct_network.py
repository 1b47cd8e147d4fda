"""A picture that is a network, fitted to line integrals: samples along rays make the projector differentiable."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.experiments._ct_phantom import Scan, field_of_view
from fingerpost.lab import Run, derive_seed

np = lazy_import("numpy")
torch = lazy_import("torch")
spectral = lazy_import("fingerpost.spectral")
trainer = lazy_import("fingerpost.lab.trainer")


WARM_UP = 20


class Rays:
    """Every ray that crosses the field of view: points on it, and its reading.

    Args:
      data: The readings.
      like: A tensor of the precision and device to compute in.
    """

    def __init__(self, data: Scan, like: Any) -> None:
        theta, s = np.meshgrid(data.angles, data.offsets, indexing="ij")
        columns = [np.cos(theta), np.sin(theta), s, np.sqrt((1 - s**2).clip(0)), data.readings]
        table = torch.from_numpy(np.stack([part.ravel() for part in columns], 1))
        self.table = table[table[:, 3] > 0].to(like)
        self.readings = self.table[:, 4]

    def __len__(self) -> int:
        return len(self.table)

    def points(self, index: Any, samples: int, jitter: Any) -> tuple[Any, Any]:
        """Evenly spaced samples on rays, shifted together by `jitter` of a spacing, and their weights.

        Args:
          index: Which rays, (B,).
          samples: Samples S on each.
          jitter: In [0, 1), (B, 1); ½ is the midpoint rule, a uniform draw makes the sum unbiased.

        Returns:
          Coordinates (row, column) in [0, 1)², (B, S, 2), and the length that a sample stands for, (B, 1).
        """
        cosine, sine, s, half, _ = self.table[index].unsqueeze(-1).unbind(1)
        steps = torch.arange(samples, dtype=half.dtype, device=half.device)
        t = half * (2 * (steps + jitter) / samples - 1)
        x, y = s * cosine - t * sine, s * sine + t * cosine
        return torch.stack([(1 - y) / 2, (1 + x) / 2], -1), 2 * half / samples


def new_network(
    encoding: Any,
    width: int,
    depth: int,
    seed: int,
    data: Scan,
    *,
    dtype: str = "float32",
    device: str = "cpu",
) -> Any:
    """A network from [0, 1)² to densities in [0, 1], with weights from the seed alone; it starts near the mean density.

    The mean over the field of view is known from any projection: its integral over the disc's area. From ½, where a sigmoid
    starts, Adam overshoots to 0 everywhere for some seeds, and there is next to no gradient there.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "weights"))
    options: dict[str, Any] = {"encoding": encoding, "sigmoid": True, "generator": generator}
    net = spectral.CoordinateMLP(2, 1, width, depth, **options)
    spacing = data.offsets[1] - data.offsets[0]
    mean = float((data.readings.sum(1) * spacing).mean() / np.pi)
    with torch.no_grad():
        net.layers[-1].weight.mul_(0.1)
        net.layers[-1].bias.fill_(math.log(mean / (1 - mean)))
    return net.to(dtype=getattr(torch, dtype), device=device)


def fit(
    net: Any,
    rays: Rays,
    *,
    steps: int,
    batch: int,
    samples: int,
    rate: float,
    seed: int,
    run: Run | None = None,
    stage: str = "ct",
    evaluate: Callable[[Any], dict[str, float]] | None = None,
) -> list[dict[str, Any]]:
    """Fits line integrals of the network to readings by Adam, with rays and offsets from (seed, step) alone.

    Returns:
      A row for each evaluation.
    """

    def batches(k: int) -> tuple[Any, Any]:
        generator = torch.Generator().manual_seed(derive_seed(seed, "rays", k))
        index = torch.randint(len(rays), (batch,), generator=generator)
        return index.to(rays.table.device), torch.rand(batch, 1, generator=generator).to(rays.table)

    def step(model: Any, drawn: tuple[Any, Any]) -> dict[str, Any]:
        index, jitter = drawn
        points, weight = rays.points(index, samples, jitter)
        error = model(points)[..., 0].sum(1) * weight[:, 0] - rays.readings[index]
        loss = error.square().mean()
        loss.backward()
        return {"loss": loss}

    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: _rate(k, steps))
    every = max(1, steps // 10)
    result = trainer.train(
        net, optimizer, step, batches, steps=steps, seed=seed, run=run, stage=stage, scheduler=schedule,
        evaluate=evaluate, evaluate_every=every, log_every=every, throw=True,
    )  # fmt: skip
    return result.history


def _rate(k: int, steps: int) -> float:
    """A cosine after a short rise."""
    return min(1.0, (k + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * k / steps))


def picture_of(net: Any, size: int) -> Any:
    """The network as pixel means (size, size), from 2×2 points a pixel; 0 outside the field of view."""
    fine = spectral.render(net, 2 * size, 2 * size)[..., 0].double()
    return fine.reshape(size, 2, size, 2).mean((1, 3)).cpu().numpy() * field_of_view(size)


def reading_error(net: Any, rays: Rays, samples: int) -> float:
    """The root of the mean squared error of all readings, by the midpoint rule."""
    total = 0.0
    with torch.no_grad():
        for index in torch.arange(len(rays), device=rays.table.device).split(256):
            points, weight = rays.points(index, samples, 0.5)
            error = net(points)[..., 0].sum(1) * weight[:, 0] - rays.readings[index]
            total += float(error.double().square().sum())
    return math.sqrt(total / len(rays))
