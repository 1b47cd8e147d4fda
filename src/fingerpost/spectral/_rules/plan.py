"""Which parameters go by rule and which by torch.func: decided by trial on three samples against autograd.

A rule sees a layer through its calls. It misses a weight that is also read elsewhere, a hook that changes an output, and
samples that are not where it looks for them. So each parameter's gradient by rule is held against autograd's; where they
differ, torch.func takes the parameter. A layer that mixes samples shows there too, as a cotangent of one sample's output
on another sample's rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fingerpost.errors import InvalidValueError
from fingerpost.spectral._rules import find_rule
from fingerpost.spectral._rules.base import AbstractRule
from fingerpost.spectral._rules.capture import Capture, Use, backward, capture
from fingerpost.spectral._rules.inputs import Inputs
from fingerpost.spectral._rules.terms import AbstractTerm, can_hold_bias, merge

SAMPLES = 3
"""Samples of the trial; the third repeats the first."""


@dataclass(frozen=True)
class Layer:
    """A layer with a rule; `names` has its parameters' names in the model by their names in the layer."""

    module: nn.Module
    rule: AbstractRule
    names: Mapping[str, str]


@dataclass(frozen=True)
class Place:
    """Where a call of a layer has its samples: along which dimension, and how many rows each."""

    dimension: int
    rows_each: int


@dataclass(frozen=True)
class Trial:
    """Three samples through the network, with gradients by autograd.

    Attributes:
      output: Shape (3, o).
      weights: Random, (o,): the gradients are those of f(x_i) · weights.
      gradients: Those of the first two samples in sum, by parameter.
      cotangents: Of the first two samples in sum, for each call's output; None where it has none.
      second: Of the second sample alone.
    """

    output: Tensor
    weights: Tensor
    gradients: Mapping[str, Tensor]
    cotangents: Sequence[Tensor | None]
    second: Sequence[Tensor | None]


@dataclass(frozen=True)
class Plan:
    """What was decided.

    Attributes:
      layers: The layers with rules, by name.
      places: The calls, in their order: the layer's name, and None for a place that no rule reads.
      ruled: Parameters that go by rule.
      rest: Parameters that go by torch.func.
      trial: What it was decided on.
    """

    layers: Mapping[str, Layer]
    places: Sequence[tuple[str, Place | None]]
    ruled: frozenset[str]
    rest: Mapping[str, nn.Parameter]
    trial: Trial

    def capture(self, model: nn.Module, inputs: Inputs, n: int) -> Capture:
        """A forward pass with the layers watched; it has to call them as the trial did."""
        taken = capture(model, inputs, {name: layer.module for name, layer in self.layers.items()}, n)
        if [use.layer for use in taken.uses] != [name for name, _ in self.places]:
            raise InvalidValueError(
                "the model calls its layers differently for different samples; the rules of the tangent kernel need the "
                "same calls for every batch"
            )
        return taken

    def terms(self, taken: Capture, n: int) -> dict[str, AbstractTerm]:
        """One term for each parameter that goes by rule, or for a weight with its bias."""
        parts: dict[str, list[AbstractTerm]] = {}
        calls: dict[str, list[int]] = {}
        for at, (use, cotangent) in enumerate(zip(taken.uses, taken.cotangents())):
            place = self.places[at][1]
            if place is None or cotangent is None:
                continue
            for name, term in _terms(self.layers[use.layer], place, use, cotangent, n).items():
                if name in self.ruled:
                    parts.setdefault(name, []).append(term)
                    calls.setdefault(name, []).append(at)
        with_bias: set[str] = set()
        for layer in self.layers.values():
            weight, bias = layer.names.get("weight"), layer.names.get("bias")
            if (
                weight in parts
                and bias in parts
                and calls[weight] == calls[bias]
                and can_hold_bias(parts[weight])
            ):
                with_bias.add(weight)
                del parts[bias]
        return {name: merge(terms, name in with_bias) for name, terms in parts.items()}


def make_plan(model: nn.Module, inputs: Inputs) -> Plan:
    """Tries the rules on three samples."""
    wanted = {name: p for name, p in model.named_parameters() if p.requires_grad}
    layers = _layers(model, wanted)
    taken = capture(model, inputs, {name: layer.module for name, layer in layers.items()}, SAMPLES)
    trial = _trial(taken, wanted)
    places = [
        (use.layer, _place(layers[use.layer].rule, use.inputs, both, second))
        for use, both, second in zip(taken.uses, trial.cotangents, trial.second)
    ]
    ruled = _agreeing(layers, places, taken.uses, trial)
    rest = {name: p for name, p in wanted.items() if name not in ruled}
    return Plan(layers, places, frozenset(ruled), rest, trial)


def _layers(model: nn.Module, wanted: Mapping[str, nn.Parameter]) -> dict[str, Layer]:
    known = {id(p): name for name, p in wanted.items()}
    layers = {}
    for path, module in model.named_modules():
        own = {key: known[id(p)] for key, p in module._parameters.items() if id(p) in known}
        rule = find_rule(module) if own else None
        if rule is not None:
            layers[path] = Layer(module, rule, own)
    return layers


def _trial(taken: Capture, wanted: Mapping[str, nn.Parameter]) -> Trial:
    output = taken.output
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(output.shape[1], generator=generator, dtype=torch.float64).to(output)
    edges = [use.edge for use in taken.uses]
    found: Sequence[Tensor | None] = [None] * (len(edges) + len(wanted))
    second: Sequence[Tensor | None] = [None] * len(edges)
    if output.requires_grad:
        seed = torch.zeros_like(output)
        seed[1] = weights
        if edges:
            second = backward(output, edges, seed, keep=True)
        seed = seed.clone()  # the last layer's cotangent is the seed itself
        seed[0] = weights
        found = backward(output, [*edges, *wanted.values()], seed, keep=True)
    gradients = {
        name: torch.zeros_like(p) if g is None else g.to_dense()
        for (name, p), g in zip(wanted.items(), found[len(edges) :])
    }
    return Trial(output.detach(), weights, gradients, found[: len(edges)], second)


def _place(rule: AbstractRule, inputs: Tensor, both: Tensor | None, second: Tensor | None) -> Place | None:
    """The first dimension along which the cotangents are zero on the rows of samples that they are not of."""
    for dimension in rule.batch_dimensions:
        if inputs.dim() <= dimension or inputs.shape[dimension] % SAMPLES:
            continue
        rows_each = inputs.shape[dimension] // SAMPLES
        zero = ((both, [2]), (second, [0, 2]))
        if all(seen is None or _vanishes(seen, dimension, rows_each, others) for seen, others in zero):
            return Place(dimension, rows_each)
    return None


def _vanishes(cotangent: Tensor, dimension: int, rows_each: int, others: list[int]) -> bool:
    if cotangent.dim() <= dimension or cotangent.shape[dimension] != SAMPLES * rows_each:
        return False
    by_sample = cotangent.movedim(dimension, 0).unflatten(0, (SAMPLES, rows_each))
    return not any(by_sample[other].any() for other in others)


def _terms(layer: Layer, place: Place, use: Use, cotangents: Tensor, n: int) -> dict[str, AbstractTerm]:
    """The share of each parameter, by its name in the model."""
    inputs = use.inputs.movedim(place.dimension, 0)
    cotangents = cotangents.movedim(place.dimension + 1, 1)
    if inputs.shape[0] != n * place.rows_each or cotangents.shape[1] != inputs.shape[0]:
        raise InvalidValueError(
            f"layer {use.layer!r} got an input of shape {tuple(use.inputs.shape)} for {n} samples, but {place.rows_each} "
            "rows a sample on a trial; the rules of the tangent kernel need the same rows for every sample"
        )
    found = layer.rule.terms(layer.module, inputs, cotangents, n)
    return {layer.names[key]: term for key, term in found.items() if key in layer.names}


def _agreeing(
    layers: Mapping[str, Layer], places: Sequence[tuple[str, Place | None]], uses: Sequence[Use], trial: Trial
) -> set[str]:
    """Parameters whose gradients by rule are autograd's, for both samples in sum."""
    named = {name for layer in layers.values() for name in layer.names.values()}
    for path, place in places:
        if place is None:
            named.difference_update(layers[path].names.values())
    found: dict[str, list[Tensor]] = {name: [] for name in named}
    scale = dict.fromkeys(named, 0.0)
    for (path, place), use, cotangent in zip(places, uses, trial.cotangents):
        if place is None or cotangent is None:
            continue
        size = float(torch.linalg.vector_norm(cotangent)) * _size(use.inputs)
        for name, term in _terms(layers[path], place, use, cotangent[None], SAMPLES).items():
            if name in named:
                found[name].append(term.total())
                scale[name] += size
    return {name for name in named if _close(trial.gradients[name], found[name], scale[name])}


def _close(true: Tensor, found: Sequence[Tensor], scale: float) -> bool:
    """Whether sums of gradients agree, to what rounding makes of terms of a size."""
    off = true
    for part in found:
        off = off - part.view_as(off)
    norm = torch.linalg.vector_norm
    return float(norm(off)) <= _tolerance(off) * (float(norm(true)) + scale)


def _size(inputs: Tensor) -> float:
    """The activations' norm, or that of as many ones, which stand for normalised or one-hot ones."""
    ones = inputs.numel() ** 0.5
    return max(ones, float(torch.linalg.vector_norm(inputs))) if inputs.is_floating_point() else ones


def _tolerance(like: Tensor) -> float:
    """Rounding of sums in another order; a GPU may multiply float32 with ten bits."""
    if like.is_cuda and like.dtype == torch.float32:
        return 5e-3
    return 100 * torch.finfo(like.dtype).eps
