"""What can be wrong with a signal: each template is an alternative reference, compared sample by sample.

A template takes the evidence and returns, per leaf, what the signal would be under that fault, shape (U, D), or None
where it does not apply. Adding a fault = one function here with its row in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fingerpost.audit._backward import MissingDerivative, TransposedWeights
from fingerpost.audit._layered import Chain

Alternatives = Sequence["Tensor | None"]

#: Length relative to the gradient's below which a layer counts as zero: what rounding alone leaves.
UNREACHED = 1e-14


@dataclass(frozen=True)
class Evidence:
    """What the templates may look at.

    Args:
      names: Leaf names.
      signal: Covectors a, one (U, D) float64 matrix per leaf: one row per sample (or unit).
      reference: True gradients g, likewise.
      batch: Samples behind the loss, B.
      separate: Whether rows are samples of one batch.
      rows: Brings covectors of the point's shapes to (U, D), the same rows as `reference`.
      mutated: Gradient under changed backward rules, or None if the rules met nothing to change.
      chain: The blocks' Jacobian products, where the loss shows its blocks.
      previous: The signal that the previous step's point would give, where the user gave one.
      cache: Alternatives that don't depend on the signal, by template name.
    """

    names: tuple[str, ...]
    signal: tuple[Tensor, ...]
    reference: tuple[Tensor, ...]
    batch: int
    separate: bool
    rows: Callable[[Sequence[Tensor | None]], list[Tensor | None]] = list
    mutated: Callable[[TorchFunctionMode], list[Tensor | None] | None] | None = None
    chain: Chain | None = None
    previous: Callable[[], Sequence[Tensor | None]] | None = None
    cache: dict[str, Any] = field(default_factory=dict)

    def negated(self) -> Evidence:
        """The same evidence for −a."""
        return replace(self, signal=tuple(-a for a in self.signal))

    def scales(self) -> list[float]:
        """⟨A, G⟩ / ⟨G, G⟩ per leaf."""
        return [_ratio(a, g) for a, g in zip(self.signal, self.reference)]


@dataclass(frozen=True)
class Template:
    """A named way of being wrong.

    Args:
      name: As printed in verdicts.
      propose: The alternatives.
      advice: What is wrong and what to do; ``{layers}`` and ``{value}`` are filled in.
      parameters: How many numbers are fitted to the signal.
      fixed: Whether the alternatives are independent of the signal (and so computed once).
      weighting: Whether it is a positive definite weighting of the gradient: a deviation that still descends, named
        beside the verdict ALIGNED instead of failing it.
      value: The fitted number to print, from the evidence and the indices of the leaves that it explains.
    """

    name: str
    propose: Callable[[Evidence], Alternatives]
    advice: str
    parameters: int = 0
    fixed: bool = False
    weighting: bool = False
    value: Callable[[Evidence, list[int]], str] | None = None

    def alternatives(self, evidence: Evidence) -> Alternatives:
        """The alternatives, from the cache where they are fixed."""
        if not self.fixed:
            return self.propose(evidence)
        if self.name not in evidence.cache:
            evidence.cache[self.name] = self.propose(evidence)
        return evidence.cache[self.name]


def _ratio(a: Tensor, g: Tensor) -> float:
    return float((a * g).sum() / g.square().sum().clamp_min(1e-300))


def _nothing(evidence: Evidence) -> list[Tensor | None]:
    return [None] * len(evidence.names)


def _flipped(evidence: Evidence) -> Alternatives:
    return [s * g if s < 0 else None for s, g in zip(evidence.scales(), evidence.reference)]


def _common_scale(evidence: Evidence) -> float | None:
    """The scale that most leaves share within a fifth, or None."""
    scales = np.array(evidence.scales())
    common = float(np.median(scales))
    near = np.abs(scales - common) <= 0.2 * abs(common)
    return common if common > 0 and near.mean() > 0.5 else None


def _constant_scale(evidence: Evidence) -> Alternatives:
    common = _common_scale(evidence)
    return _nothing(evidence) if common is None else [common * g for g in evidence.reference]


def _own_scale(evidence: Evidence) -> Alternatives:
    return [s * g if s > 0 else None for s, g in zip(evidence.scales(), evidence.reference)]


def _one_over_batch(evidence: Evidence) -> Alternatives:
    return _nothing(evidence) if evidence.batch < 2 else [g / evidence.batch for g in evidence.reference]


def _decay(evidence: Evidence) -> tuple[float, float] | None:
    """Slope and intercept of log scale over depth, where a straight line fits within a twentieth."""
    scales = np.array(evidence.scales())
    if len(scales) < 3 or (scales <= 0).any():
        return None
    depth = np.arange(len(scales))
    slope, intercept = np.polyfit(depth, np.log(scales), 1)
    misfit = np.sqrt(np.square(intercept + slope * depth - np.log(scales)).mean())
    return (float(slope), float(intercept)) if slope > 0.03 and misfit < 0.05 else None


def _scale_decaying(evidence: Evidence) -> Alternatives:
    fit = _decay(evidence)
    if fit is None:
        return _nothing(evidence)
    slope, intercept = fit
    return [float(np.exp(intercept + slope * i)) * g for i, g in enumerate(evidence.reference)]


def _unconverged(evidence: Evidence) -> Alternatives:
    """Scales that fall ever faster on the way down, as a relaxation stopped early leaves them.

    A relaxation is a diffusion along the chain: after T steps the layer k below the top has about the scale of the k-th
    term of a binomial, whose logarithm is concave in k; a backward sweep with a wrong factor makes a straight line.
    """
    bases: list[Alternatives] = [evidence.reference]
    if evidence.chain is not None:
        bases.append(_gramian(evidence))
    fading = [f for f in (_faded(evidence, base) for base in bases) if f is not None]
    return min(fading, key=lambda f: _misfit(evidence, f)) if fading else _nothing(evidence)


def _faded(evidence: Evidence, base: Alternatives) -> Alternatives | None:
    """`base` at the signal's own scale per layer, if that scale is near 1 at the top and falls concavely below it."""
    known = [b for b in base if b is not None]
    if len(base) < 3 or len(known) < len(base):
        return None
    scales = [max(_ratio(a, b), 0.0) for a, b in zip(evidence.signal, known)]
    arrived = next((i for i, scale in enumerate(scales) if scale > UNREACHED), len(scales))
    logs = np.log(np.maximum(scales[arrived:], UNREACHED))
    if len(logs) < 3:
        return None
    falling = logs[0] < np.log(0.9) + logs[-1] and (np.diff(logs) > -0.1).all()
    curvature = np.polyfit(np.arange(len(logs)), logs, 2)[0]
    if not (0.3 <= scales[-1] <= 1.5 and falling and curvature < -0.01):
        return None
    return [s * b if s > UNREACHED else None for s, b in zip(scales, known)]


def _misfit(evidence: Evidence, alternative: Alternatives) -> float:
    pairs = zip(evidence.signal, alternative)
    return sum(
        float((a - t).square().sum() / a.square().sum().clamp_min(1e-300)) for a, t in pairs if t is not None
    )


def _neighbour(shift: int) -> Callable[[Evidence], Alternatives]:
    def propose(evidence: Evidence) -> Alternatives:
        g = evidence.reference
        found: list[Tensor | None] = []
        for i in range(len(g)):
            other = i + shift
            fits = 0 <= other < len(g) and g[other].shape == g[i].shape
            found.append(g[other] if fits else None)
        return found

    return propose


def _reversed_layers(evidence: Evidence) -> Alternatives:
    g = evidence.reference
    pairs = list(zip(g, reversed(g)))
    return [b if a.shape == b.shape and a is not b and len(g) > 2 else None for a, b in pairs]


def _permuted_batch(evidence: Evidence) -> Alternatives:
    """The permutation that best matches half of the coordinates, to be judged on the other half as well."""
    if not evidence.separate or evidence.reference[0].shape[0] < 4:
        return _nothing(evidence)
    unit_a = torch.cat([_unit(a)[:, ::2] for a in evidence.signal], 1)
    unit_g = torch.cat([_unit(g)[:, ::2] for g in evidence.reference], 1)
    _, order = linear_sum_assignment(-(unit_a @ unit_g.T).numpy())
    moved = float(np.mean(order != np.arange(len(order))))
    if moved < 0.5:
        return _nothing(evidence)
    index = torch.as_tensor(order)
    held_out = [
        (_unit(a)[:, 1::2] * _unit(g[index])[:, 1::2]).sum()
        for a, g in zip(evidence.signal, evidence.reference)
    ]
    here = [
        (_unit(a)[:, 1::2] * _unit(g)[:, 1::2]).sum() for a, g in zip(evidence.signal, evidence.reference)
    ]
    rows = evidence.reference[0].shape[0]
    if float(sum(held_out)) < 0.25 * rows * len(here) or float(sum(held_out)) < 1.5 * float(sum(here)):
        return _nothing(evidence)
    return [g[index] for g in evidence.reference]


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows, dim=1)


def _batch_mean(evidence: Evidence) -> Alternatives:
    if not evidence.separate or evidence.reference[0].shape[0] < 2:
        return _nothing(evidence)
    return [g.mean(0, keepdim=True).expand_as(g) for g in evidence.reference]


def _mutated(make: Callable[[], TorchFunctionMode]) -> Callable[[Evidence], Alternatives]:
    def propose(evidence: Evidence) -> Alternatives:
        found = evidence.mutated(make()) if evidence.mutated is not None else None
        return _nothing(evidence) if found is None else found

    return propose


def _of_chain(sweep: Callable[[Chain], Sequence[Tensor | None]]) -> Callable[[Evidence], Alternatives]:
    def propose(evidence: Evidence) -> Alternatives:
        if evidence.chain is None or not evidence.chain.residual or evidence.chain.depth < 2:
            return _nothing(evidence)
        return evidence.rows(list(sweep(evidence.chain)))

    return propose


def _gramian(evidence: Evidence) -> Alternatives:
    if evidence.chain is None:
        return _nothing(evidence)
    if "gramian" not in evidence.cache:
        evidence.cache["gramian"] = evidence.rows(list(evidence.chain.gramian()))
    return evidence.cache["gramian"]


def _gramian_weighted(evidence: Evidence) -> Alternatives:
    """The Gramian's weighting up to a factor common to all layers: a nudge of finite strength shrinks it."""
    base = _gramian(evidence)
    factors = [_ratio(a, t) for a, t in zip(evidence.signal, base) if t is not None]
    common = float(np.median(factors)) if factors else 0.0
    return [common * t if common > 0 and t is not None else None for t in base]


def _stale(evidence: Evidence) -> Alternatives:
    if evidence.previous is not None:
        return evidence.rows(list(evidence.previous()))
    return _of_chain(Chain.stale)(evidence)


def _sign_only(evidence: Evidence) -> Alternatives:
    return [_fit(a, g.sign()) for a, g in zip(evidence.signal, evidence.reference)]


def _unit_norm(evidence: Evidence) -> Alternatives:
    if evidence.reference[0].shape[0] < 2:
        return _nothing(evidence)
    return [_fit(a, _unit(g)) for a, g in zip(evidence.signal, evidence.reference)]


def _fit(a: Tensor, basis: Tensor) -> Tensor | None:
    factor = _ratio(a, basis)
    return factor * basis if factor > 0 else None


def _clipped(evidence: Evidence) -> Alternatives:
    return [_best_clip(a, g) for a, g in zip(evidence.signal, evidence.reference)]


def _best_clip(a: Tensor, g: Tensor) -> Tensor | None:
    """Row norms or entries of g clipped at the level that fits a best; None unless some but not all are clipped."""
    norms = g.norm(dim=1, keepdim=True).clamp_min(1e-300)
    by_norm = _fit_level(norms, (a * g).sum(1, keepdim=True) / norms)
    by_entry = _fit_level(g.abs(), a * g.sign())
    candidates = []
    if by_norm is not None:
        candidates.append(g * (by_norm / norms).clamp_max(1.0))
    if by_entry is not None:
        candidates.append(g.clamp(-by_entry, by_entry))
    return min(candidates, key=lambda c: float((a - c).square().sum()), default=None)


def _fit_level(sizes: Tensor, found: Tensor) -> float | None:
    """The level c that makes min(size, c) fit `found` best; None if it would clip nearly nothing or everything."""
    if sizes.numel() < 8:
        return None
    ordered, order = sizes.reshape(-1).sort()
    target = found.reshape(-1)[order]
    count = torch.arange(len(target), 0, -1, dtype=target.dtype)
    above = target.flip(0).cumsum(0).flip(0)
    squares = target.square().flip(0).cumsum(0).flip(0)
    levels = torch.maximum(above / count, ordered)  # the best level for clipping all from here on
    below = (target - ordered).square().cumsum(0) - (target - ordered).square()
    misfit = below + squares - 2 * levels * above + count * levels.square()
    best = int(misfit.argmin())
    return float(levels[best]) if 0.02 <= best / len(target) <= 0.98 else None


def _zeroed(evidence: Evidence) -> Alternatives:
    pairs = zip(evidence.signal, evidence.reference)
    return [torch.zeros_like(g) if float(a.norm()) <= UNREACHED * float(g.norm()) else None for a, g in pairs]


def _range_of_scales(evidence: Evidence, leaves: list[int]) -> str:
    scales = sorted(evidence.scales()[i] for i in leaves)
    return f"{scales[0]:.3g}" if len(scales) == 1 else f"{scales[0]:.3g} to {scales[-1]:.3g}"


def _decay_factor(evidence: Evidence) -> str:
    fit = _decay(evidence)
    return "–" if fit is None else f"{np.exp(fit[0]):.3g}"


TEMPLATES: tuple[Template, ...] = (
    Template("sign", _flipped, "{layers} [points|point] the opposite way; −a passes: flip the sign", 1),
    Template("constant scale", _constant_scale, "{layers} [has|have] the right direction and {value} times the right "
             "length", 1, value=lambda e, leaves: f"{_common_scale(e) or 0.0:.3g}"),
    Template("scale per layer", _own_scale, "{layers} [has|have] the right direction and {value} times the right length",
             5, value=lambda e, leaves: _range_of_scales(e, leaves)),
    Template("1/B", _one_over_batch, "{layers} [is|are] divided by the batch size: the signal is of the mean loss where the "
             "audit's loss is a sum over samples; multiply by B", fixed=True),
    Template("scale decaying with depth", _scale_decaying, "{layers} [loses|lose] a factor of {value} in length per layer "
             "on the way down: each step of the backward sweep is scaled", 2, value=lambda e, leaves: _decay_factor(e)),
    Template("unconverged", _unconverged, "{layers} [fades|fade] with depth as a relaxation does that was stopped early "
             "(scale {value}): take more steps, or a solver that converges", 2,
             value=lambda e, leaves: _range_of_scales(e, leaves)),
    Template("off by one layer (above)", _neighbour(+1), "{layers} [holds|hold] the signal of the layer above: shift the list by one",
             fixed=True),
    Template("off by one layer (below)", _neighbour(-1), "{layers} [holds|hold] the signal of the layer below: shift the list by one",
             fixed=True),
    Template("reversed layers", _reversed_layers, "{layers} [is|are] in reversed order: reverse the list", fixed=True),
    Template("permuted batch", _permuted_batch, "{layers} [belongs|belong] to other samples: the batch is permuted between signal and "
             "loss", 1),
    Template("batch mean", _batch_mean, "{layers} [holds|hold] the mean over the batch in place of each sample's own signal",
             fixed=True),
    Template("transposed weights", _mutated(TransposedWeights), "{layers} [goes|go] backward through W where Wᵀ belongs",
             fixed=True),
    Template("missing φ′", _mutated(MissingDerivative), "{layers} [lacks|lack] the activations' derivative φ′", fixed=True),
    Template("missing skip", _of_chain(lambda c: c.skip_times(0)), "{layers} [leaves|leave] out the skip connection", fixed=True),
    Template("double skip", _of_chain(lambda c: c.skip_times(2)), "{layers} [counts|count] the skip connection twice", fixed=True),
    Template("wrong block (above)", _of_chain(lambda c: c.wrong_block(+1)), "{layers} [goes|go] backward through the Jacobian of "
             "the block above the right one", fixed=True),
    Template("wrong block (below)", _of_chain(lambda c: c.wrong_block(-1)), "{layers} [goes|go] backward through the Jacobian of "
             "the block below the right one", fixed=True),
    Template("Gramian-weighted", _gramian_weighted, "{layers} [holds|hold] the gradient weighted by the Gramian of the Jacobians below: it "
             "descends, but its lengths and directions are not the gradient's", 1, weighting=True),
    Template("sign only", _sign_only, "{layers} [keeps|keep] only the sign of each entry", 1),
    Template("unit norm", _unit_norm, "{layers} [is|are] normalised sample by sample: the lengths are lost", 1),
    Template("clipped", _clipped, "{layers} [is|are] the gradient clipped", 1),
    Template("stale activations", _stale, "{layers} [uses|use] activations of an earlier step", fixed=True),
    Template("zeroed", _zeroed, "{layers} [is|are] zero", fixed=False),
)  # fmt: skip
