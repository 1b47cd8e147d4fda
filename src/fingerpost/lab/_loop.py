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

from fingerpost.errors import InvalidValueError, RunError
from fingerpost.lab import rng
from fingerpost.lab._ranks import here
from fingerpost.lab._team import Team
from fingerpost.lab.checkpoint import Checkpoint
from fingerpost.lab.metrics import MetricsFile
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
    split: bool


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
    save_due: bool = False
    _signalled: bool = field(default=False, repr=False)
    _team: Team | None = field(default=None, repr=False)

    def update(self, plan: Plan, batch: Any, save_due: bool) -> Mapping[str, Any]:
        """Makes one update along the signal that the step fills in; returns what it returned.

        `save_due` says whether this process finds it time to save; the attribute becomes what rank 0 finds.
        """
        self.optimizer.zero_grad()
        values, self.save_due = self._signal(plan, batch, save_due)
        self._check_signal()
        clip_norm = plan.clip_norm
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters(), clip_norm)
        self.optimizer.step()
        if self.scheduler is not None and not self._on_plateau:
            self.scheduler.step()
        if self.average is not None:
            self.average.update()
        self.step += 1
        return values

    def _signal(self, plan: Plan, batch: Any, save_due: bool) -> tuple[Mapping[str, Any], bool]:
        """Takes the step, here or on all ranks."""
        if here().alone:
            return plan.step(self.model, batch), save_due
        if self._team is None:
            self._team = Team(here(), self.model, self._parameters(), plan.split)
        return self._team.step(plan.step, batch, save_due, numbers)

    def evaluate(self, evaluate: Callable[[Any], Mapping[str, Any]], seed: int) -> dict[str, Any]:
        """Evaluates the model, or its average where there is one, and leaves the random generators alone."""
        with rng.isolated_rng(seed, "evaluate", self.step):
            values = here().together("an evaluation", lambda: self._evaluated(evaluate))
        return here().first("the evaluation's numbers", lambda: values)

    def _evaluated(self, evaluate: Callable[[Any], Mapping[str, Any]]) -> dict[str, Any]:
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
            "judge": {"best": self.judge.best, "worse": self.judge.worse},
            **self._own_state(),
        }

    def _own_state(self) -> dict[str, Any]:
        """Returns what each process has for itself."""
        extra = {name: _get_state(item) for name, item in self.extra.items()}
        return {"extra": extra, "rng": rng.get_states()}

    def others_states(self) -> dict[str, Any]:
        """Returns what the other processes have for themselves, as more of the state; nothing when alone."""
        if here().alone:
            return {}
        _, states = here().gather("a checkpoint", self._own_state, lambda state: state)
        return {"others": states[1:]}

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
        self.judge.best, self.judge.worse = state["judge"]["best"], state["judge"]["worse"]
        own = self._own_part(state)
        self._set_extra(own["extra"])
        rng.set_states(own["rng"])

    def _own_part(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """Finds what this process saved for itself."""
        others, rank, size = state.get("others", []), here().rank, here().size
        if len(others) + 1 == size:
            return others[rank - 1] if rank else state
        if self.stopped is None:
            raise RunError(
                f"a checkpoint at step {self.step} was saved by {len(others) + 1} processes, and now there are {size}: "
                "random numbers would go on otherwise. Resume with as many, or begin a new run"
            )
        return state  # nothing more is drawn

    def _set_extra(self, states: Mapping[str, Any]) -> None:
        for name, item in self.extra.items():
            _set_state(item, states[name])

    def end_equal(self) -> None:
        """Gives all ranks what rank 0 keeps beside the model, so that they go on alike."""
        states = here().first("the end of training", lambda: self._own_state()["extra"])
        if here().rank:
            self._set_extra(states)

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
        run = self._run
        if run is None:
            return
        state, self.history = here().first(
            f"the checkpoint of {self.stage!r}", lambda: self._standing(run.metrics)
        )
        if "step" in state:
            self._loop.load(state)
            self._saved = (self._loop.step, self._loop.stopped)

    def _standing(self, metrics: MetricsFile) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Reads the saved state and its rows, or begins a checkpoint."""
        state = self._checkpoint.begin({"metrics": [metrics.cursor, metrics.cursor]})
        if "step" not in state:
            self._start = metrics.cursor
            return state, []
        self._start, end = state["metrics"]
        metrics.jump(end)
        rows = [row for row in metrics.rows(self._start, end) if row["stage"] == self.stage]
        return state, [{k: v for k, v in row.items() if k != "stage"} for row in rows]

    def log(self, row: dict[str, Any]) -> None:
        """Keeps one row of numbers."""
        self.history.append(row)
        if self._run is not None:
            values = dict(row)
            self._run.log(self.stage, values.pop("step"), **values)

    @property
    def due(self) -> bool:
        """Whether the last checkpoint is old enough for another."""
        return self._run is not None and time.monotonic() - self._saved_at >= self._seconds

    def save_when_due(self) -> None:
        """Saves a checkpoint when it is time; among several processes rank 0's clock decides, once a step."""
        if self.due if here().alone else self._loop.save_due:
            self.save()

    def save(self) -> None:
        """Saves a checkpoint, unless this very state was saved."""
        now, run = (self._loop.step, self._loop.stopped), self._run
        if run is None or self._saved == now:
            return
        others = self._loop.others_states()
        here().first(f"saving {self.stage!r}", lambda: self._write(run.metrics, others))
        self._saved = now
        self._saved_at = time.monotonic()

    def _write(self, metrics: MetricsFile, others: Mapping[str, Any]) -> None:
        self._checkpoint.save({**self._loop.state(), **others, "metrics": [self._start, metrics.sync()]})


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
