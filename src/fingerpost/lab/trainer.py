"""The one training loop: any learning signal, any torch optimiser, resumable to the bit.

The signal is not this file's business: `step` fills ``.grad`` with whatever should be descended along
(backpropagation, equilibrium propagation, feedback alignment, …). Then the loop clips, updates, schedules,
averages, evaluates, logs. Under torchrun each process takes rows of every batch, and the gradients are averaged.

Example:
  >>> model = torch.nn.Linear(1, 1)
  >>> def step(model, x):
  ...     loss = (model(x) - 2 * x).square().mean()
  ...     loss.backward()
  ...     return {"loss": loss}
  >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
  >>> result = train(model, optimizer, step, lambda k: torch.ones(1, 1), steps=20, seed=0)
  >>> result.steps, result.stopped, result.history[-1]["loss"] < 1e-6
  (20, 'steps', True)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError
from fingerpost.lab import rng
from fingerpost.lab._loop import Average, Judge, Keeper, Loop, Plan, numbers
from fingerpost.lab._ranks import here
from fingerpost.lab._team import begin_equal
from fingerpost.lab.run import Run

Step = Callable[[Any, Any], Mapping[str, Any]]


def minibatches(n: int, batch_size: int, seed: int) -> Callable[[int], Tensor]:
    """Returns a function from a step to the indices of its batch; it depends on (seed, step) alone.

    Epoch e visits the n samples in a permutation that (seed, e) determines; the last batch of an epoch is
    short when `batch_size` does not divide n.

    Args:
      n: The number of samples.
      batch_size: Samples per batch, at most n.
      seed: The seed.

    Returns:
      A function ``step -> LongTensor`` of shape (≤ batch_size,), for steps 0, 1, 2, …

    Raises:
      InvalidValueError: If `batch_size` is not in 1…n.

    Example:
      >>> batch = minibatches(4, 2, seed=0)
      >>> sorted(torch.cat([batch(0), batch(1)]).tolist())
      [0, 1, 2, 3]
    """
    if not 1 <= batch_size <= n:
        raise InvalidValueError(f"batch_size is {batch_size}; it must be between 1 and the {n} samples")
    per_epoch = math.ceil(n / batch_size)

    @lru_cache(maxsize=2)
    def permutation(epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(rng.derive_seed(seed, "epoch", epoch))
        return torch.randperm(n, generator=generator)

    def indices(step: int) -> Tensor:
        epoch, place = divmod(step, per_epoch)
        return permutation(epoch)[place * batch_size : (place + 1) * batch_size]

    return indices


@dataclass(frozen=True)
class TrainResult:
    """What `train` leaves behind; the trained weights are in the model itself.

    Attributes:
      history: One dictionary per logged step: ``step`` (updates made so far), what `step` returned, what
        `evaluate` returned.
      steps: Updates made.
      stopped: Why it ended: ``"steps"`` (all made), ``"patience"`` (no better for that many evaluations) or
        ``"diverged"`` (the loss became non-finite).
      best: The row of `history` with the best monitored evaluation, or None when nothing was evaluated.
      averaged: The exponential moving average of the model's state, or None without `ema`.
    """

    history: list[dict[str, Any]]
    steps: int
    stopped: str
    best: dict[str, Any] | None
    averaged: dict[str, Tensor] | None


def train(
    model: Any,
    optimizer: torch.optim.Optimizer,
    step: Step,
    batches: Callable[[int], Any],
    *,
    steps: int,
    seed: int,
    run: Run | None = None,
    stage: str = "train",
    scheduler: Any = None,
    ema: float | None = None,
    clip_norm: float | None = None,
    evaluate: Callable[[Any], Mapping[str, Any]] | None = None,
    evaluate_every: int | None = None,
    monitor: str = "loss",
    maximize: bool = False,
    patience: int | None = None,
    log_every: int = 1,
    extra: Mapping[str, Any] | None = None,
    throw: bool = False,
    split: bool = True,
    checkpoint_seconds: float = 30.0,
) -> TrainResult:
    """Trains `model` along the signal that `step` puts into ``.grad``; the module's docstring has an example.

    With a `run`, it keeps rows and checkpoints: killed at any moment and called again, it ends the same, to
    the bit. With `ema`, `evaluate` sees the average.

    Under torchrun, rank r of n takes the rows r, r + n, … of every tensor (or NumPy array) whose first dimension is
    that of the batch's first tensor; the gradients are averaged, weighted by rows, or by ``count`` where `step`
    returns it. Then the gradient, and so the weights, are those of one process, up to rounding and the random
    numbers of `step`.

    Args:
      model: Has ``state_dict`` and ``load_state_dict``, as every torch Module.
      optimizer: Any torch optimiser whose ``step()`` needs no closure (so not LBFGS).
      step: ``step(model, batch)`` fills ``.grad`` of the parameters and returns numbers to log. Under torchrun
        the signal must be that of a mean: over rows, or over the number returned as ``count`` (words, pixels).
      batches: ``batches(k)`` gives the batch of step k = 0, 1, … from k and a seed alone (`minibatches`).
      steps: Updates to make in all.
      seed: Seeds the global random generators inside the loop (dropout and the like).
      run: Keeps metrics and checkpoints; None keeps nothing.
      stage: Names the rows of metrics and the checkpoint; unique in the run.
      scheduler: A torch learning-rate schedule, stepped per update (ReduceLROnPlateau per evaluation).
      ema: The decay of an exponential moving average of the model's state, in (0, 1).
      clip_norm: Scales the gradient down to this Euclidean norm where it is longer.
      evaluate: ``evaluate(model)`` returns numbers to log; the random generators are isolated.
      evaluate_every: Updates between evaluations, besides the one after the last; None for that one alone.
      monitor: The evaluated number that decides what is best; less is better unless `maximize`.
      maximize: Whether more of the monitored number is better.
      patience: Stops after this many evaluations in a row without a better one.
      log_every: Updates between logged rows; evaluations and the last step are always logged.
      extra: More state to keep, by name: torch Generators, or what has ``state_dict`` and its inverse.
      throw: Raises NumericalError when ``loss`` is not finite, instead of stopping as ``"diverged"``.
      split: Whether processes divide the rows of a batch among them. Give False where a first dimension is not
        samples, or the signal is not that of a mean; then each computes the whole batch.
      checkpoint_seconds: Wall-clock seconds between checkpoints; 0 saves after every step.

    Raises:
      InvalidTypeError, InvalidValueError: An argument is wrong, or no parameter has a ``.grad`` after `step`.
      RunError: The checkpoint cannot be read or written; the message names the path.
    """
    _check_ranges(optimizer, ema, steps=steps, clip_norm=clip_norm, patience=patience, log_every=log_every)
    begin_equal(stage, model, optimizer, extra or {}, here())
    average = None if ema is None else Average(model, ema)
    loop = Loop(model, optimizer, scheduler, Judge(monitor, maximize, patience), average, dict(extra or {}))
    keeper = Keeper(run, stage, loop, checkpoint_seconds)
    plan = Plan(step, batches, steps, clip_norm, evaluate, evaluate_every or steps, log_every, throw, split)
    return _run(loop, keeper, plan, seed)


def _run(loop: Loop, keeper: Keeper, plan: Plan, seed: int) -> TrainResult:
    apart = ("rank", here().rank) if here().rank else ()  # each process drops out other units
    with rng.isolated_rng(seed, keeper.stage, *apart):
        keeper.resume()
        while loop.stopped is None and loop.step < plan.steps:
            _advance(loop, keeper, plan, seed)
        loop.stopped = loop.stopped or "steps"
        keeper.save()
        loop.end_equal()
    averaged = loop.average and loop.average.state
    return TrainResult(keeper.history, loop.step, loop.stopped, loop.judge.best, averaged)


def _advance(loop: Loop, keeper: Keeper, plan: Plan, seed: int) -> None:
    """Makes one update, and evaluates, logs and saves when it is time."""
    row = {
        "step": loop.step + 1,
        **numbers(loop.update(plan, plan.batches(loop.step), keeper.due)),
    }
    if not math.isfinite(row.get("loss", 0.0)):
        if plan.throw:
            raise NumericalError(f"stage {keeper.stage!r}: the loss is {row['loss']} at step {loop.step}")
        loop.stopped = "diverged"
    last = loop.step == plan.steps or loop.stopped is not None
    evaluated: dict[str, Any] = {}
    if plan.evaluate is not None and (last or loop.step % plan.evaluate_every == 0):
        evaluated = loop.evaluate(plan.evaluate, seed)
        row |= evaluated
        loop.judge_evaluation(row, evaluated)
    if evaluated or last or loop.stopped or loop.step % plan.log_every == 0:
        keeper.log(row)
    keeper.save_when_due()


def _check_ranges(optimizer: torch.optim.Optimizer, ema: float | None, **counts: float | None) -> None:
    if isinstance(optimizer, torch.optim.LBFGS):
        raise InvalidTypeError(
            "LBFGS needs a closure that measures the loss again; use an optimiser without one"
        )
    if ema is not None and not 0 < ema < 1:
        raise InvalidValueError(f"ema is {ema}; it must be between 0 and 1")
    for name, value in counts.items():
        if value is not None and not value > 0:
            raise InvalidValueError(f"{name} is {value}; it must be above 0")
