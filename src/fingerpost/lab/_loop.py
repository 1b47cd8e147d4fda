"""The parts of the training loop: one update, the average, the judge, the keeper of checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError
from fingerpost.lab import rng
from fingerpost.lab.checkpoint import Checkpoint
from fingerpost.lab.run import Run


@dataclass(frozen=True)
class Plan:
    """What a loop does, and how often."""

    step: Callable[[Any, Any], Mapping[str, Any]]
    batches: Callable[[int], Any]
    steps: int
    clip_norm: float | None
    evaluate: Callable[[Any], Mapping[str, Any]] | None
    evaluate_every: int
    log_every: int
    throw: bool


@dataclass
class Judge:
    """Remembers the best evaluation, and says when patience is at its end."""

    monitor: str
    maximize: bool
    patience: int | None
    best: dict[str, Any] | None = None
    worse: int = 0

    def hear(self, row: Mapping[str, Any], evaluated: Mapping[str, Any]) -> bool:
        """Takes one evaluation; returns whether to stop."""
        if self.monitor not in evaluated:
            if self.patience is not None:
                raise InvalidValueError(
                    f"evaluate returned {sorted(evaluated)}; patience needs {self.monitor!r}"
                )
            return False
        if self.best is None or self._better(row[self.monitor], self.best[self.monitor]):
            self.best, self.worse = dict(row), 0
        else:
            self.worse += 1
        return self.patience is not None and self.worse >= self.patience

    def _better(self, value: float, best: float) -> bool:
        if math.isnan(best):
            return not math.isnan(value)
        return value > best if self.maximize else value < best


class Average:
    """An exponential moving average of a model's state: average ← decay·average + (1 − decay)·state."""

    def __init__(self, model: Any, decay: float) -> None:
        self._model = model
        self._decay = decay
        self.state: dict[str, Tensor] = {
            key: value.detach().clone() for key, value in model.state_dict().items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """Takes the model's present state in; integer state is copied."""
        for key, value in self._model.state_dict().items():
            if value.is_floating_point() or value.is_complex():
                self.state[key].lerp_(value, 1 - self._decay)
            else:
                self.state[key].copy_(value)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Puts the average into the model inside the block."""
        live = {key: value.detach().clone() for key, value in self._model.state_dict().items()}
        self._model.load_state_dict(self.state)
        try:
            yield
        finally:
            self._model.load_state_dict(live)


@dataclass
class Loop:
    """The state of training, and one update of it; `step` counts the updates made."""

    model: Any
    optimizer: torch.optim.Optimizer
    scheduler: Any
    judge: Judge
    average: Average | None
    extra: dict[str, Any]
    step: int = 0
    stopped: str | None = None
    _signalled: bool = field(default=False, repr=False)

    def update(
        self, step: Callable[[Any, Any], Mapping[str, Any]], batch: Any, clip_norm: float | None
    ) -> Mapping[str, Any]:
        """Makes one update along the signal that `step` fills in; returns what it returned."""
        self.optimizer.zero_grad()
        values = step(self.model, batch)
        self._check_signal()
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters(), clip_norm)
        self.optimizer.step()
        if self.scheduler is not None and not self._on_plateau:
            self.scheduler.step()
        if self.average is not None:
            self.average.update()
        self.step += 1
        return values

    def evaluate(self, evaluate: Callable[[Any], Mapping[str, Any]], seed: int) -> dict[str, Any]:
        """Evaluates the model, or its average where there is one, and leaves the random generators alone."""
        with rng.isolated_rng(seed, "evaluate", self.step):
            if self.average is None:
                return numbers(evaluate(self.model))
            with self.average.in_place():
                return numbers(evaluate(self.model))

    def judge_evaluation(self, row: Mapping[str, Any], evaluated: Mapping[str, Any]) -> None:
        """Lets the judge and a plateau schedule hear an evaluation."""
        if self.judge.hear(row, evaluated):
            self.stopped = "patience"
        if self._on_plateau:
            self.scheduler.step(row[self.judge.monitor])

    def state(self) -> dict[str, Any]:
        """Returns everything that the next update depends on."""
        return {
            "step": self.step,
            "stopped": self.stopped,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "average": None if self.average is None else self.average.state,
            "extra": {name: _get_state(item) for name, item in self.extra.items()},
            "judge": {"best": self.judge.best, "worse": self.judge.worse},
            "rng": rng.get_states(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state` returned."""
        self.step, self.stopped = state["step"], state["stopped"]
        self.model.load_state_dict(state["model"])
        load_optimizer(self.optimizer, state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        if self.average is not None:
            for key, value in state["average"].items():
                self.average.state[key].copy_(value)
        for name, item in self.extra.items():
            _set_state(item, state["extra"][name])
        self.judge.best, self.judge.worse = state["judge"]["best"], state["judge"]["worse"]
        rng.set_states(state["rng"])

    @property
    def _on_plateau(self) -> bool:
        return isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _check_signal(self) -> None:
        if self._signalled:
            return
        if all(parameter.grad is None for parameter in self._parameters()):
            raise InvalidValueError(
                "step left .grad of every parameter empty; fill it with the signal to descend along"
            )
        self._signalled = True


class Keeper:
    """Keeps a stage's rows and checkpoints in a run; without a run it keeps the rows in memory alone."""

    def __init__(self, run: Run | None, stage: str, loop: Loop, seconds: float) -> None:
        self._run = run
        self.stage = stage
        self._loop = loop
        self._seconds = seconds
        self._saved_at = time.monotonic()
        self._saved: tuple[int, str | None] = (-1, None)
        self._start = 0
        self.history: list[dict[str, Any]] = []
        if run is not None:
            self._checkpoint = Checkpoint(run.checkpoint_folder(stage), run.digest)

    def resume(self) -> None:
        """Continues from the checkpoint where there is one, or begins one."""
        if self._run is None:
            return
        metrics = self._run.metrics
        state = self._checkpoint.begin({"metrics": [metrics.cursor, metrics.cursor]})
        if "step" not in state:
            self._start = metrics.cursor
            return
        self._start, end = state["metrics"]
        metrics.jump(end)
        rows = metrics.rows(self._start, end)
        self.history = [
            {k: v for k, v in row.items() if k != "stage"} for row in rows if row["stage"] == self.stage
        ]
        self._loop.load(state)
        self._saved = (self._loop.step, self._loop.stopped)

    def log(self, row: dict[str, Any]) -> None:
        """Keeps one row of numbers."""
        self.history.append(row)
        if self._run is not None:
            values = dict(row)
            self._run.log(self.stage, values.pop("step"), **values)

    def save_when_due(self) -> None:
        """Saves a checkpoint when the last one is old enough."""
        if self._run is not None and time.monotonic() - self._saved_at >= self._seconds:
            self.save()

    def save(self) -> None:
        """Saves a checkpoint, unless this very state was saved."""
        now = (self._loop.step, self._loop.stopped)
        if self._run is None or self._saved == now:
            return
        self._checkpoint.save({**self._loop.state(), "metrics": [self._start, self._run.metrics.sync()]})
        self._saved = now
        self._saved_at = time.monotonic()


def load_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Puts an optimiser's state back in the dtypes that it had.

    ``load_state_dict`` casts floating-point state to its parameter's dtype, which changes scalars such as
    NAdam's ``mu_product`` (float32 beside float64 parameters), and with them the next update's last bits.
    """
    optimizer.load_state_dict(dict(saved))
    for group, saved_group in zip(optimizer.param_groups, saved["param_groups"]):
        for parameter, key in zip(group["params"], saved_group["params"]):
            for name, value in saved["state"].get(key, {}).items():
                present = optimizer.state[parameter][name]
                if isinstance(value, Tensor) and present.dtype != value.dtype:
                    optimizer.state[parameter][name] = value.to(present.device)


def numbers(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns numbers as Python holds them: whole ones as int, all others as float."""
    plain = {}
    for key, value in (values or {}).items():
        item = value.item() if hasattr(value, "item") else value
        plain[key] = int(item) if isinstance(item, int) else float(item)
    return plain


def _get_state(item: Any) -> Any:
    return item.get_state() if isinstance(item, torch.Generator) else item.state_dict()


def _set_state(item: Any, state: Any) -> None:
    if isinstance(item, torch.Generator):
        item.set_state(state)
    else:
        item.load_state_dict(state)
