"""How `FlowEstimator` trains: a job that any training loop can carry out, and a small loop that does.

The job is a list of what training needs; the lab's trainer takes the same list by the same names, and adds checkpoints
and resuming. So the recipe is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


class Best:
    """The weights of the best evaluation so far, the initial ones counted; kept in checkpoints by its state."""

    def __init__(self, model: nn.Module) -> None:
        self.value, self.weights = float("inf"), _copy(model)

    def hear(self, value: float, model: nn.Module) -> None:
        """Takes an evaluation of the model; its weights are kept if it is the best."""
        if value < self.value:
            self.value, self.weights = value, _copy(model)

    def state_dict(self) -> dict[str, Any]:
        """Everything, as tensors and numbers."""
        return {"value": self.value, "weights": dict(self.weights)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state_dict` returned."""
        self.value, self.weights = state["value"], dict(state["weights"])


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


@dataclass
class TrainingJob:
    """One network to train, by any loop.

    Attributes:
      name: Tells it from the other jobs of a fit.
      model: The network.
      optimizer: Its optimiser.
      scheduler: A schedule of the learning rate, stepped after each update.
      step: (model, batch) → numbers; fills ``.grad``.
      batches: k → the batch of update k, which depends on k and the seed alone.
      steps: Updates, at most.
      ema: Decay of the moving average of the weights, which is what is evaluated.
      evaluate: model → numbers, among them "held_out", less of which is better; it remembers the best weights.
      evaluate_every: Updates between evaluations.
      patience: Stops after so many evaluations without a better one.
      seed: Seeds dropout.
      extra: State to keep in a checkpoint beside the model's: the best weights, the random generator.
    """

    name: str
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Any
    step: Callable[[Any, Any], Mapping[str, Any]]
    batches: Callable[[int], Any]
    steps: int
    ema: float
    evaluate: Callable[[Any], Mapping[str, float]]
    evaluate_every: int
    patience: int
    seed: int
    extra: dict[str, Any] = field(default_factory=dict)


def train(job: TrainingJob) -> list[dict[str, float]]:
    """Carries out a job: updates, an average of the weights, evaluations until patience ends.

    Returns:
      One row for each evaluation: ``step``, ``loss`` of the last batch, and what `evaluate` gave.
    """
    history: list[dict[str, float]] = []
    average = _copy(job.model)
    least, worse = float("inf"), 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        for k in range(job.steps):
            job.optimizer.zero_grad()
            values = job.step(job.model, job.batches(k))
            job.optimizer.step()
            job.scheduler.step()
            for key, value in job.model.state_dict().items():
                average[key].lerp_(value, 1 - job.ema)
            if (k + 1) % job.evaluate_every and k + 1 < job.steps:
                continue
            row = {"step": k + 1.0, "loss": float(values["loss"]), **_evaluated(job, average)}
            history.append(row)
            worse = 0 if row["held_out"] < least else worse + 1
            least = min(least, row["held_out"])
            if worse >= job.patience:
                break
    return history


def _evaluated(job: TrainingJob, average: dict[str, Tensor]) -> Mapping[str, float]:
    live = _copy(job.model)
    job.model.load_state_dict(average)
    values = job.evaluate(job.model)
    job.model.load_state_dict(live)
    return values
