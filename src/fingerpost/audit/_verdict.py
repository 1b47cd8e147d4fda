"""From evidence to a verdict: what each layer shows, which fault explains it, and one sentence for a person."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fingerpost.audit._statistics import Figure, fixed_rotation_null, holm, mean_t, one_sided_p
from fingerpost.audit._templates import TEMPLATES, Evidence, Template

EXPLAINED = 0.5
MATERIAL = 0.05
ALIGNED_COSINE = 0.5
MINIMUM_SAMPLES = 8
SIGNIFICANCE = 0.01

VANISHED = "VANISHED"
SIGN = next(template for template in TEMPLATES if template.name == "sign")
ZEROED = next(template for template in TEMPLATES if template.name == "zeroed")
PASSING = ("EXACT", "ALIGNED", "UNBIASED_NOISY")
_SEVERITY = ("FAULT", "NULL", "BIASED", "INSUFFICIENT", "UNBIASED_NOISY", "ALIGNED", "EXACT")


@dataclass(frozen=True)
class Fault:
    """A named deviation.

    Args:
      name: The template's name.
      layers: The leaves that it explains.
      explained: Smallest share of those leaves' squared residual that it accounts for.
      sentence: What is wrong and what to do.
      descends: True for a positive definite weighting of the gradient, which is named but doesn't fail the audit.
    """

    name: str
    layers: tuple[str, ...]
    explained: float
    sentence: str
    descends: bool = False


@dataclass(frozen=True)
class Verdict:
    """The audit's answer: `name`, `reason` in a sentence, and the named faults."""

    name: str
    reason: str
    faults: tuple[Fault, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the signal may be trained with: EXACT, ALIGNED or UNBIASED_NOISY."""
        return self.name in PASSING

    def __str__(self) -> str:
        serious = [f for f in self.faults if not f.descends]
        inside = "; ".join(f"{f.name}, {layers_text(f.layers)}" for f in serious)
        return f"{self.name}({inside})" if serious else self.name


@dataclass
class Finding:
    """What one leaf shows."""

    label: str
    cosine: Figure
    null: float
    deviation: float
    fault: Template | None = None
    explained: float = 0.0


@dataclass
class Redraws:
    """Bias of a stochastic signal per leaf: squared bias relative to ‖g‖², with its interval."""

    bias: list[Figure] = field(default_factory=list)


def layers_text(names: Sequence[str]) -> str:
    """Leaf names for a sentence: ``layers 1–6``, ``layers 2, 5``, ``layer 3``, ``leaf weight``, ``the signal``."""
    if list(names) == ["point"]:
        return "the signal"
    if not all(name.isdigit() for name in names):
        return f"{'leaf' if len(names) == 1 else 'leaves'} {', '.join(names)}"
    numbers = sorted(int(name) for name in names)
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [
        str(r[0]) if len(r) == 1 else f"{r[0]}–{r[-1]}" if len(r) > 2 else f"{r[0]}, {r[-1]}" for r in runs
    ]
    return f"layer{'' if len(numbers) == 1 else 's'} {', '.join(parts)}"


def judge(
    evidence: Evidence, alive: Sequence[bool], tolerance: float, level: float, redraws: Redraws | None = None
) -> list[Finding]:
    """Labels every leaf: EXACT, FAULT, UNBIASED_NOISY, ALIGNED, BIASED, NULL, INSUFFICIENT, or VANISHED.

    Leaves that are not `alive` have no gradient to compare with; they are set aside.
    """
    findings = [_direction(a, g, tolerance, level) for a, g in zip(evidence.signal, evidence.reference)]
    for finding, lives in zip(findings, alive):
        if not lives:
            finding.label = VANISHED
    if redraws is not None:
        _judge_bias(findings, redraws)
    suspects = [i for i, f in enumerate(findings) if f.label not in ("EXACT", "UNBIASED_NOISY", VANISHED)]
    _name_faults(evidence, findings, suspects, tolerance, level)
    return findings


def _direction(a: Tensor, g: Tensor, tolerance: float, level: float) -> Finding:
    deviation = float((a - g).norm() / g.norm().clamp_min(1e-300))
    cosine = mean_t(_cosines(a, g), level)
    null = fixed_rotation_null(a, g)
    return Finding(_label(deviation, cosine, null, a, tolerance), cosine, null, deviation)


def _cosines(a: Tensor, g: Tensor) -> Tensor:
    return (a * g).sum(1) / (a.norm(dim=1) * g.norm(dim=1)).clamp_min(1e-300)


def _label(deviation: float, cosine: Figure, null: float, a: Tensor, tolerance: float) -> str:
    if a.shape[0] > 0 and deviation <= tolerance:
        return "EXACT"
    low = cosine.low if cosine.low is not None else cosine.value
    high = cosine.high if cosine.high is not None else cosine.value
    if a.shape[0] < MINIMUM_SAMPLES or (low < 0 and high >= ALIGNED_COSINE):
        return "INSUFFICIENT"
    plain = (
        low >= ALIGNED_COSINE or high <= -ALIGNED_COSINE
    )  # in few dimensions even a random rotation may point right
    if low <= 0 <= high or (abs(cosine.value) <= 1.96 * null and not plain):
        return "NULL"
    return "ALIGNED" if cosine.value >= ALIGNED_COSINE else "BIASED"


def _judge_bias(findings: list[Finding], redraws: Redraws) -> None:
    for finding, bias in zip(findings, redraws.bias):
        if finding.label in ("EXACT", VANISHED):
            continue
        low = bias.low if bias.low is not None else bias.value
        high = bias.high if bias.high is not None else bias.value
        if low <= MATERIAL**2:
            finding.label = "UNBIASED_NOISY" if high <= 0.25 else "INSUFFICIENT"
        elif finding.label in ("ALIGNED", "INSUFFICIENT"):
            finding.label = "BIASED"


def _name_faults(
    evidence: Evidence, findings: list[Finding], suspects: list[int], tolerance: float, level: float
) -> None:
    scores = _scores(evidence, suspects, [t for t in TEMPLATES if t is not SIGN])
    _settle(scores, findings, set(suspects))
    _name_flips(evidence, findings, suspects, tolerance, level)


def _settle(scores: Scores, findings: list[Finding], remaining: set[int]) -> None:
    """Gives every leaf the fault that explains it, the template with the largest total gain first."""
    while remaining:
        chosen = _best(scores, remaining)
        if chosen is None:
            return
        template, leaves = chosen
        for leaf, explained in leaves.items():
            findings[leaf].label = "ALIGNED" if template.weighting else "FAULT"
            findings[leaf].fault, findings[leaf].explained = template, explained
        remaining -= leaves.keys()


def _name_flips(
    evidence: Evidence, findings: list[Finding], suspects: list[int], tolerance: float, level: float
) -> None:
    """Names the sign where the cosine is negative and −a itself passes; where −a has a fault of its own, names both."""
    against = [i for i in suspects if findings[i].cosine.value < 0 and findings[i].label != "NULL"]
    against = [i for i in against if findings[i].fault is not ZEROED]  # rounding's sign means nothing
    if not against:
        return
    turned = evidence.negated()
    mirrored = [_direction(a, g, tolerance, level) for a, g in zip(turned.signal, turned.reference)]
    if all(mirrored[i].label == "EXACT" for i in against):
        scores: Scores = {}
    else:
        scores = _scores(turned, against, [t for t in TEMPLATES if t is not SIGN])
    _settle(scores, mirrored, set(against))
    for leaf in against:
        if mirrored[leaf].label in ("EXACT", "ALIGNED"):
            findings[leaf].label, findings[leaf].fault = "FAULT", SIGN
            findings[leaf].explained = 1 - _left(turned, leaf, findings[leaf])
        elif (fault := mirrored[leaf].fault) is not None and not fault.weighting:
            findings[leaf].label, findings[leaf].fault = "FAULT", _flipped_too(fault)
            findings[leaf].explained = mirrored[leaf].explained


def _left(turned: Evidence, leaf: int, finding: Finding) -> float:
    """Share of ‖a − g‖² that is left when the sign is flipped and the length fitted."""
    a, g = turned.signal[leaf], turned.reference[leaf]
    fitted = (a * g).sum() / g.square().sum().clamp_min(1e-300) * g
    return float((a - fitted).square().sum() / (a + g).square().sum().clamp_min(1e-300))


@functools.cache
def _flipped_too(template: Template) -> Template:
    advice = "{layers} [points|point] the opposite way; flip the sign, and then: " + template.advice
    value = template.value
    turned_value = None if value is None else lambda e, leaves: value(e.negated(), leaves)
    return replace(template, name=f"sign + {template.name}", advice=advice, value=turned_value)


Scores = dict[Template, dict[int, tuple[float, float]]]


def _scores(evidence: Evidence, leaves: Sequence[int], templates: Sequence[Template]) -> Scores:
    """Per template, the leaves that it explains, each with the share explained and a log-likelihood-like gain."""
    if not leaves:
        return {t: {} for t in templates}
    trials: list[tuple[Template, int, float, float]] = []
    p_values: list[float] = []
    for template in templates:
        for leaf, alternative in enumerate(template.alternatives(evidence)):
            if leaf not in leaves or alternative is None:
                continue
            share, left, p = _explains(evidence.signal[leaf], evidence.reference[leaf], alternative)
            trials.append((template, leaf, share, left))
            p_values.append(p)
    scores: Scores = {t: {} for t in templates}
    for (template, leaf, share, left), p in zip(trials, holm(p_values)):
        if share >= EXPLAINED and left <= EXPLAINED and p < SIGNIFICANCE:
            gain = -0.5 * float(torch.log(torch.tensor(max(left, 1e-6))))
            scores[template][leaf] = (share, gain)
    return scores


def _explains(a: Tensor, g: Tensor, alternative: Tensor) -> tuple[float, float, float]:
    """Share of ‖a − g‖² explained, residual left relative to the signal, and the p-value for "at least half".

    If the alternative is zero, the residual left is relative to the gradient.
    """
    before, after = _row_errors(a, g), _row_errors(a, alternative)
    total, own = float(before.sum()), float(a.square().sum())
    if total - float(after.sum()) < MATERIAL**2 * float(g.square().sum()):
        return 0.0, 1.0, 1.0
    scale = own if bool(alternative.any()) else float(g.square().sum())  # of zeros, nothing can be left
    left = float(after.sum()) / scale if scale > 0 else 1.0
    # In units of the row's own errors: where a few rows hold most of the gradient, their sum tells nothing by t.
    better = (before * EXPLAINED - after) / (before + after).clamp_min(1e-300)
    return 1 - float(after.sum()) / total, left, one_sided_p(better)


def _row_errors(a: Tensor, b: Tensor) -> Tensor:
    squared = (a - b).square()
    if squared.shape[0] > 1:
        return squared.sum(1)
    pieces = min(64, squared.shape[1])
    return torch.stack([part.sum() for part in squared[0].tensor_split(pieces)])


def _best(scores: Scores, remaining: set[int]) -> tuple[Template, dict[int, float]] | None:
    """The template with the largest total gain over the remaining leaves, less a price per fitted number."""
    best, chosen = 0.0, None
    for template, leaves in scores.items():
        here = {leaf: score for leaf, score in leaves.items() if leaf in remaining}
        total = sum(gain for _, gain in here.values()) - 0.1 * template.parameters * (1 + len(here) / 4)
        if here and (chosen is None or total > best):
            best, chosen = total, (template, {leaf: share for leaf, (share, _) in here.items()})
    return chosen


def conclude(evidence: Evidence, findings: list[Finding], level: float) -> Verdict:
    """One verdict for the whole signal: its worst layer's, with a sentence for each kind of finding."""
    faults = _faults(evidence, findings)
    labels = [finding.label for finding in findings]
    name = next((s for s in _SEVERITY if s in labels), "INSUFFICIENT")
    if name == "INSUFFICIENT" and name not in labels:
        return Verdict(name, "the true gradient vanishes in every layer; audit at a point where it does not")
    sentences = [fault.sentence for fault in faults if not fault.descends or name == "ALIGNED"]
    for label in _SEVERITY[1:]:
        here = [evidence.names[i] for i, found in enumerate(labels) if found == label]
        if here and (label == name or label in ("NULL", "BIASED", "INSUFFICIENT")):
            cosines = [f.cosine for f in findings if f.label == label]
            text = _sentence(label, here, cosines, level, len(here) == len(findings))
            sentences.insert(0 if label == "ALIGNED" else len(sentences), text)
    return Verdict(name, "; ".join(sentences), tuple(faults))


def _faults(evidence: Evidence, findings: list[Finding]) -> list[Fault]:
    groups: dict[Template, list[int]] = {}
    for i, finding in enumerate(findings):
        if finding.fault is not None:
            groups.setdefault(finding.fault, []).append(i)
    out = []
    for template, leaves in groups.items():
        names = tuple(evidence.names[i] for i in leaves)
        value = "" if template.value is None else template.value(evidence, leaves)
        sentence = _conjugated(template.advice, len(names)).format(layers=layers_text(names), value=value)
        explained = min(findings[i].explained for i in leaves)
        out.append(Fault(template.name, names, explained, sentence, template.weighting))
    return out


def _conjugated(advice: str, count: int) -> str:
    """Picks from ``[singular|plural]``."""
    return re.sub(r"\[([^|\]]*)\|([^\]]*)\]", r"\1" if count == 1 else r"\2", advice)


def _sentence(label: str, names: list[str], cosines: list[Figure], level: float, everywhere: bool) -> str:
    where = "every layer" if everywhere and len(names) > 1 else layers_text(names)
    worst = min(cosines, key=lambda figure: figure.value)
    reading = f"Γ ≥ {worst.value:.2f}" if len(cosines) > 1 else f"Γ = {worst.value:.2f}"
    return {
        "EXACT": f"equal to the gradient within rounding in {where}",
        "ALIGNED": f"points the right way in {where} ({reading})",
        "UNBIASED_NOISY": f"right on average in {where}, with noise: no bias found at {level:.0%} confidence",
        "BIASED": f"{where}: leans towards the gradient at most ({reading}), and no known fault explains the rest"
        if worst.value > 0
        else f"{where}: points against the gradient ({reading}), but −a does not pass either",
        "NULL": f"{where}: no different from a random direction ({reading})",
        "INSUFFICIENT": f"{where}: too few usable samples or redraws to tell ({reading}); raise n or redraws",
    }[label]
