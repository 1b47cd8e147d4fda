"""A small experiment with every part that a kill could hurt, run as a user's own file is."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from fingerpost._table import Table
from fingerpost.lab import Claim, Run, minibatches, new_figure, run_experiment, train


@dataclass(frozen=True)
class Config:
    """Settings of the toy."""

    seed: int = 0
    device: str = "cpu"
    dtype: str = "float64"
    steps: int = 4
    lr: float = 0.05
    wait: float = 0.0
    """Seconds that every step takes."""
    checkpoint_seconds: float = 0.0


PRESETS = {"quick": Config(), "full": Config(steps=6)}


def fit(config: Config, run: Run, stage: str, width: int) -> tuple[torch.nn.Module, float]:
    """Trains with everything that has state: dropout, Adam, a schedule, an average, a generator."""
    model = torch.nn.Sequential(
        torch.nn.Linear(3, width), torch.nn.Dropout(0.3), torch.nn.Linear(width, 1)
    ).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    generator = torch.Generator().manual_seed(config.seed)
    inputs = torch.randn(10, 3, dtype=torch.float64)

    def step(model: torch.nn.Module, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        time.sleep(config.wait)
        noise = torch.randn((), generator=generator, dtype=torch.float64)
        loss = (model(inputs[batch]) - inputs[batch].sum(1, keepdim=True) + noise).square().mean()
        loss.backward()
        return {"loss": loss}

    result = train(
        model,
        optimizer,
        step,
        minibatches(10, 4, config.seed),
        steps=config.steps,
        seed=config.seed,
        run=run,
        stage=stage,
        scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps),
        ema=0.5,
        clip_norm=1.0,
        evaluate=lambda model: {"held_out": model(inputs).square().mean()},
        evaluate_every=2,
        monitor="held_out",
        extra={"noise": generator},
        checkpoint_seconds=config.checkpoint_seconds,
    )
    return model, result.history[-1]["loss"]


def run(config: Config, run: Run) -> None:
    """Two stages kept by `once`, one that is not, and something of everything that a run can show."""
    run.text("Toy", "What follows is a toy.")

    def stage(name: str, width: int) -> dict[str, object]:
        model, loss = fit(config, run, name, width)
        run.log(name, config.steps + 1, after=loss)
        return {"loss": loss, "weights": [p.tolist() for p in model.parameters()]}

    losses = []
    for name, width in (("narrow", 2), ("wide", 3)):
        result = run.once(name, lambda name=name, width=width: stage(name, width))
        losses.append(result["loss"])
        run.claim(Claim(f"{name}-loss", "The loss is small.", "toy", "≤ 100", result["loss"], high=100.0))
    run.log("between", 0, difference=losses[0] - losses[1])
    fit(config, run, "loose", 2)
    figure, axes = new_figure()
    axes.plot(losses)
    run.figure("losses", figure, title="Losses", caption="Of both stages.")
    run.table("losses", Table(("width", "loss"), list(zip((2, 3), losses)), title="Losses"))


if __name__ == "__main__":
    options = dict(word.split("=") for word in sys.argv[2:])
    run_experiment(
        sys.modules[__name__],
        Config(steps=int(options["steps"]), wait=float(options["wait"])),
        Path(sys.argv[1]),
        name="toy",
    )
