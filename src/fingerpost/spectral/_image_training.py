"""How `fit_image` trains: a job that any training loop can carry out, and a small loop that does.

The lab's trainer takes the same list by the same names, and adds checkpoints and resuming; see
docs/decisions/0008.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class ImageJob:
    """One network to train, by any loop.

    Attributes:
      model: The network; its weights are trained in place.
      optimizer: Its optimiser.
      step: (model, batch) → numbers; fills ``.grad``.
      batches: k → the batch of update k, which depends on k and the seed alone.
      steps: Updates.
      evaluate: model → ``psnr_train`` and ``psnr_test``.
      evaluate_every: Updates between evaluations, besides the one after the last.
      seed: Seeds the order of the pixels.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: Callable[[Any, Any], Mapping[str, Any]]
    batches: Callable[[int], Any]
    steps: int
    evaluate: Callable[[Any], Mapping[str, float]]
    evaluate_every: int
    seed: int


def train(job: ImageJob, progress: bool = False) -> list[dict[str, float]]:
    """Carries out a job.

    Args:
      job: What to train.
      progress: Whether to show a bar on standard error.

    Returns:
      One row for each evaluation: ``step``, ``loss`` of the last batch, and what `evaluate` gave.
    """
    from tqdm import tqdm

    rows: list[dict[str, float]] = []
    with tqdm(total=job.steps, disable=not progress, leave=False, desc="fitting") as bar:
        for k in range(job.steps):
            job.optimizer.zero_grad()
            values = job.step(job.model, job.batches(k))
            job.optimizer.step()
            bar.update()
            if (k + 1) % job.evaluate_every == 0 or k + 1 == job.steps:
                rows.append({"step": k + 1.0, "loss": float(values["loss"]), **job.evaluate(job.model)})
                bar.set_postfix_str(f"{rows[-1]['psnr_test']:.2f} dB")
    return rows


def pixel_batches(count: int, size: int | None, seed: int, device: torch.device) -> Callable[[int], Any]:
    """From an update's number to the indices of its pixels, each epoch in an order that (seed, epoch) gives.

    Args:
      count: Pixels in all.
      size: Pixels of an update; None, or more than there are, takes all in their own order: a slice without a copy.
      seed: The seed.
      device: Where the indices go.
    """
    if size is None or size >= count:
        return lambda k: slice(None)
    per_epoch = (
        count // size
    )  # what is left over of an epoch's order is dropped, so that batches have one size
    standing: dict[int, Tensor] = {}

    def indices(k: int) -> Tensor:
        epoch, place = divmod(k, per_epoch)
        if epoch not in standing:
            standing.clear()
            generator = torch.Generator().manual_seed((seed + epoch) % 2**63)
            standing[epoch] = torch.randperm(count, generator=generator).to(device)
        return standing[epoch][place * size : (place + 1) * size]

    return indices
