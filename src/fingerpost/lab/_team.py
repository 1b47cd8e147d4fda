"""One step of training by several processes: each takes rows of the batch, and the gradient is that of all rows."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError
from fingerpost.lab import rng
from fingerpost.lab._ranks import Ranks


def row_count(batch: Any) -> int | None:
    """Returns the length of the first dimension of the first tensor in a batch, or None when it has none."""
    if _has_rows(batch):
        return len(batch)
    items = (
        batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (list, tuple)) else ()
    )
    return next((count for item in items if (count := row_count(item)) is not None), None)


def rows_of(batch: Any, count: int, chosen: slice) -> Any:
    """Returns a batch with the chosen rows of every tensor whose first dimension is `count`; all else as it is."""
    if _has_rows(batch):
        return batch[chosen] if len(batch) == count else batch
    if isinstance(batch, Mapping):
        return {key: rows_of(item, count, chosen) for key, item in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(rows_of(item, count, chosen) for item in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(rows_of(item, count, chosen) for item in batch)
    return batch


def _has_rows(item: Any) -> bool:
    numpy = sys.modules.get("numpy")
    arrays = (Tensor,) if numpy is None else (Tensor, numpy.ndarray)
    return isinstance(item, arrays) and item.ndim > 0


class Report(NamedTuple):
    """What a rank tells of its step: its numbers, which parameters have a gradient, and how much it counts."""

    weight: float
    rows: bool
    values: dict[str, Any]
    filled: bytes
    moved: bool
    due: bool


class Team:
    """Carries out a step on every rank's part of the batch, and leaves the gradient of the whole batch.

    Args:
      ranks: The processes.
      model: What has the state that is not trained (running statistics); after each step it is rank 0's.
      parameters: What is trained.
      split: Whether the rows of a batch are divided; else every rank computes all of it.
    """

    def __init__(self, ranks: Ranks, model: Any, parameters: Sequence[Tensor], split: bool) -> None:
        self.ranks = ranks
        self._model = model
        self._parameters = list({id(parameter): parameter for parameter in parameters}.values())
        self._split = split
        self._versions = self._buffer_versions()

    def step(
        self,
        step: Callable[[Any, Any], Mapping[str, Any]],
        batch: Any,
        due: bool,
        numbers: Callable[..., Any],
    ) -> tuple[dict[str, Any], bool]:
        """Takes a step; returns the numbers of the whole batch, and whether rank 0 said that a save is due."""
        place = "a step of training"
        own, reports = self.ranks.gather(
            place, lambda: self._own_step(step, batch, due, numbers), lambda own: own
        )
        total = sum(report.weight for report in reports)
        self._reduce(own.weight / total if total else 0.0, reports)
        if any(report.moved for report in reports):
            self.ranks.copy_(self._buffers(), "the model's other state")
            self._versions = self._buffer_versions()
        return merged_numbers(reports), reports[0].due

    def _own_step(self, step: Any, batch: Any, due: bool, numbers: Callable[..., Any]) -> Report:
        count = row_count(batch) if self._split else None
        weight: float = 1.0
        if count is not None:
            batch = rows_of(batch, count, slice(self.ranks.rank, None, self.ranks.size))
            weight = len(range(self.ranks.rank, count, self.ranks.size))
        values: dict[str, Any] = {}
        if weight > 0:
            values = numbers(step(self._model, batch))
            weight = float(values.get("count", weight)) if count is not None else weight
        for parameter in self._parameters:
            if parameter.grad is not None and parameter.grad.is_sparse:
                raise InvalidTypeError(
                    "a gradient is sparse, and processes add up dense ones; build the embedding with sparse=False"
                )
        filled = bytes(weight > 0 and parameter.grad is not None for parameter in self._parameters)
        return Report(
            weight, count is not None, values, filled, self._buffer_versions() != self._versions, due
        )

    def _reduce(self, share: float, reports: Sequence[Report]) -> None:
        """Sums the gradients with their shares; one that no rank has filled in stays empty."""
        some = [any(flags) for flags in zip(*(report.filled for report in reports))]
        gradients = []
        for parameter, filled in zip(self._parameters, some):
            if not filled:
                parameter.grad = None
                continue
            if (
                share == 0 or parameter.grad is None
            ):  # what no row stands behind may be NaN (0/0), and counts nothing
                parameter.grad = torch.zeros_like(parameter)
            else:
                parameter.grad = parameter.grad.detach() * share
            gradients.append(parameter.grad)
        self.ranks.sum_(gradients, "the gradient")

    def _buffers(self) -> list[Tensor]:
        trained = {parameter.data_ptr() for parameter in self._parameters}
        state = self._model.state_dict().values()
        return [item for item in state if isinstance(item, Tensor) and item.data_ptr() not in trained]

    def _buffer_versions(self) -> list[tuple[int, int]]:
        return [(item.data_ptr(), item._version) for item in self._buffers()]


def merged_numbers(reports: Sequence[Report]) -> dict[str, Any]:
    """Returns means by weight; ``count`` of rows is summed, and what all ranks agree upon is left as it is."""
    present = [report for report in reports if report.weight > 0] or list(reports[:1])
    merged: dict[str, Any] = {}
    for key in dict.fromkeys(key for report in present for key in report.values):
        told = [(report.weight, report.values[key]) for report in present if key in report.values]
        if key == "count" and reports[0].rows:
            merged[key] = sum(value for _, value in told)
        elif all(value == told[0][1] for _, value in told):
            merged[key] = told[0][1]
        else:
            merged[key] = sum(weight * value for weight, value in told) / sum(weight for weight, _ in told)
    return merged


def begin_equal(
    stage: str, model: Any, optimizer: torch.optim.Optimizer, extra: Mapping[str, Any], ranks: Ranks
) -> None:
    """Gives all ranks the model of rank 0, and each rank's generators a stream of its own."""
    if ranks.alone:
        return
    ranks.together(f"the start of {stage!r}", lambda: None)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = model.state_dict()
    ranks.copy_(
        [item for item in [*state.values(), *trained] if isinstance(item, Tensor)], "the first weights"
    )
    model.load_state_dict(state)
    if ranks.rank == 0:
        return
    for item in extra.values():
        if isinstance(item, torch.Generator):
            seen = hashlib.sha256(item.get_state().numpy().tobytes()).hexdigest()
            item.manual_seed(rng.derive_seed(seen, "rank", ranks.rank))
