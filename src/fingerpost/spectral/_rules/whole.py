"""Parameters that no rule takes: their per-sample Jacobians through the whole network.

torch.func makes them for many samples at once. Where it can't (an LSTM), or gives something else than autograd does on the
trial (PReLU with a slope for each channel, in torch 2.13), autograd makes them one row at a time.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from fingerpost.spectral._rules.attention import decomposed_attention
from fingerpost.spectral._rules.capture import as_matrix, backward, capture
from fingerpost.spectral._rules.inputs import Inputs, arguments, count, rows, tensors, transform
from fingerpost.spectral._rules.plan import Trial
from fingerpost.spectral._rules.terms import AbstractBlocked


@dataclass(frozen=True)
class Whole(AbstractBlocked):
    """Jacobians by some parameters at some samples, made when asked for.

    Attributes:
      model: The network.
      parameters: Those that it is about, by name.
      inputs: The samples.
      count: How many.
      outputs: How many outputs the network has.
      row_by_row: Whether autograd makes them.
    """

    model: nn.Module
    parameters: Mapping[str, nn.Parameter]
    inputs: Inputs
    count: int
    outputs: int
    row_by_row: bool = False

    @property
    def samples(self) -> int:
        return self.count

    @property
    def numbers(self) -> int:
        return self.outputs * sum(p.numel() for p in self.parameters.values())

    def gradients(self, which: slice) -> Tensor:
        """All parameters' in one row, (o, n, numbers)."""
        taken = rows(self.inputs, which)
        if self.row_by_row:
            return torch.stack([self._row(rows(taken, slice(i, i + 1))) for i in range(count(taken, "x"))], 1)
        values = {name: p.detach() for name, p in self.parameters.items()}

        def one(values: dict[str, Tensor], leaves: list[Tensor]) -> Tensor:
            given = iter(leaves)
            args, kwargs = arguments(transform(taken, lambda _: next(given)[None]))
            return as_matrix(functional_call(self.model, values, args, kwargs), 1)[0]

        with decomposed_attention(self.model):
            jacobians = vmap(jacrev(one), (None, 0))(values, list(tensors(taken)))
        return torch.cat([j.flatten(2) for j in jacobians.values()], 2).transpose(0, 1)

    def _row(self, sample: Inputs) -> Tensor:
        """(o, numbers) at one sample."""
        taken = capture(self.model, sample, {}, 1)
        each = []
        for o in range(self.outputs):
            seed = torch.zeros_like(taken.output)
            seed[0, o] = 1
            found = backward(taken.output, list(self.parameters.values()), seed, keep=o < self.outputs - 1)
            filled = [
                torch.zeros_like(p) if g is None else g for g, p in zip(found, self.parameters.values())
            ]
            each.append(torch.cat([g.to_dense().flatten() for g in filled]))
        return torch.stack(each)


def whole_way(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], inputs: Inputs, trial: Trial
) -> Whole | None:
    """The faster way that agrees with autograd on the trial's batch; None if no single sample's gradients do."""
    given = Whole(model, parameters, inputs, len(trial.output), trial.output.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # batching rules that torch lacks; what is exact is tried here
        # a model's own code may do anything with vmap's tensors
        with contextlib.suppress(Exception):
            if _agrees(given, trial):
                return given
    given = replace(given, row_by_row=True)
    return given if _agrees(given, trial) else None


def _agrees(given: Whole, trial: Trial) -> bool:
    found = torch.einsum("onp,o->p", given.gradients(slice(0, 2)), trial.weights)
    known = torch.cat([trial.gradients[name].flatten() for name in given.parameters])
    scale = max(float(g.norm()) for g in trial.gradients.values())
    return float((found - known).norm()) <= torch.finfo(known.dtype).eps ** 0.5 * scale
