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
    """Three samples through the network, with the gradients of the first two by autograd.

    Attributes:
      output: Shape (3, o).
      weights: Random, (o,): the gradients are those of f(x_i) · weights.
      gradients: For each sample, by parameter.
      cotangents: For each sample, of each call's output; None where it has none.
    """

    output: Tensor
    weights: Tensor
    gradients: Sequence[Mapping[str, Tensor]]
    cotangents: Sequence[Sequence[Tensor | None]]


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
        (use.layer, _place(layers[use.layer].rule, use.inputs, [seen[at] for seen in trial.cotangents]))
        for at, use in enumerate(taken.uses)
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
    gradients, cotangents = [], []
    edges = [use.edge for use in taken.uses]
    for sample in range(SAMPLES - 1):
        if not output.requires_grad:
            found: Sequence[Tensor | None] = [None] * (len(edges) + len(wanted))
        else:
            seed = torch.zeros_like(output)
            seed[sample] = weights
            found = backward(output, [*edges, *wanted.values()], seed, keep=True)
        cotangents.append(found[: len(edges)])
        gradients.append(
            {
                name: torch.zeros_like(p) if g is None else g.to_dense()
                for (name, p), g in zip(wanted.items(), found[len(edges) :])
            }
        )
    return Trial(output.detach(), weights, gradients, cotangents)


def _place(rule: AbstractRule, inputs: Tensor, cotangents: Sequence[Tensor | None]) -> Place | None:
    """The first dimension along which each sample's cotangent is zero on the others' rows."""
    for dimension in rule.batch_dimensions:
        if inputs.dim() <= dimension or inputs.shape[dimension] % SAMPLES:
            continue
        rows_each = inputs.shape[dimension] // SAMPLES
        if all(
            seen is None or _only(seen, dimension, rows_each, sample)
            for sample, seen in enumerate(cotangents)
        ):
            return Place(dimension, rows_each)
    return None


def _only(cotangent: Tensor, dimension: int, rows_each: int, sample: int) -> bool:
    if cotangent.dim() <= dimension or cotangent.shape[dimension] != SAMPLES * rows_each:
        return False
    by_sample = cotangent.movedim(dimension, 0).unflatten(0, (SAMPLES, rows_each))
    others = [other for other in range(SAMPLES) if other != sample]
    return not by_sample[others].any()


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
    """Parameters whose gradients by rule are autograd's at both samples."""
    named = {name for layer in layers.values() for name in layer.names.values()}
    for path, place in places:
        if place is None:
            named.difference_update(layers[path].names.values())
    for sample, (true, seen) in enumerate(zip(trial.gradients, trial.cotangents)):
        off = {name: -true[name].flatten() for name in named}
        scale = {name: true[name].norm() for name in named}
        for (path, place), use, cotangent in zip(places, uses, seen):
            if place is None or cotangent is None:
                continue
            for name, term in _terms(layers[path], place, use, cotangent[None], SAMPLES).items():
                if name in named:
                    off[name] = off[name] + term.gradients(slice(sample, sample + 1)).flatten()
                    scale[name] = scale[name] + cotangent.norm() * _size(use.inputs)
        named = {name for name in named if off[name].norm() <= _tolerance(off[name]) * scale[name]}
    return named


def _size(inputs: Tensor) -> Tensor:
    """The activations' norm, or that of as many ones, which stand for normalised or one-hot ones."""
    ones = torch.tensor(float(inputs.numel()), device=inputs.device).sqrt()
    return torch.maximum(inputs.norm().float(), ones) if inputs.is_floating_point() else ones


def _tolerance(like: Tensor) -> float:
    """Rounding of sums in another order; a GPU may multiply float32 with ten bits."""
    if like.is_cuda and like.dtype == torch.float32:
        return 5e-3
    return 100 * torch.finfo(like.dtype).eps
